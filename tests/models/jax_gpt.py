"""The model of :mod:`tests.models.gpt` in JAX, over the same dict of parameters."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from tests.models.gpt import BETA1, BETA2, EPSILON, LEARNING_RATE, WEIGHT_DECAY

Parameters = dict[str, Any]


def layer_norm(p: Parameters, x: jax.Array) -> jax.Array:
    centred = x - x.mean(-1, keepdims=True)
    return centred * jax.lax.rsqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * p["weight"] + p["bias"]


def linear(p: Parameters, x: jax.Array) -> jax.Array:
    return x @ p["weight"] + p["bias"]


def attention(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    """Causal attention over tensors [batch, heads, context, width of a head]."""
    length = q.shape[-2]
    scores = (q @ k.mT) / math.sqrt(q.shape[-1])
    causal = jnp.tril(jnp.ones((length, length), bool))
    return jax.nn.softmax(jnp.where(causal, scores, -1e30)) @ v


def block(p: Parameters, x: jax.Array, heads: int) -> jax.Array:
    batch, length, width = x.shape
    qkv = linear(p["qkv"], layer_norm(p["norm1"], x))
    q, k, v = (t.reshape(batch, length, heads, width // heads).swapaxes(1, 2) for t in jnp.split(qkv, 3, -1))
    x = x + linear(p["attention"], attention(q, k, v).swapaxes(1, 2).reshape(x.shape))
    return x + linear(p["down"], jax.nn.gelu(linear(p["up"], layer_norm(p["norm2"], x)), approximate=True))


def loss(params: Parameters, tokens: jax.Array, targets: jax.Array, heads: int) -> jax.Array:
    """The mean cross-entropy of a batch."""
    x = params["tokens"][tokens] + params["positions"]
    for p in params["blocks"]:
        x = block(p, x, heads)
    scores = jax.nn.log_softmax(layer_norm(params["norm"], x) @ params["tokens"].T)
    return -jnp.take_along_axis(scores, targets[..., None], -1).mean()


def train_step(heads: int) -> Callable[..., Any]:
    """The step of :func:`tests.models.gpt.train_step` for this number of heads."""

    def step(params: Any, m: Any, v: Any, step: jax.Array, tokens: jax.Array, targets: jax.Array) -> Any:
        value, gradients = jax.value_and_grad(loss)(params, tokens, targets, heads)
        step = step + 1
        m = jax.tree.map(lambda m, g: BETA1 * m + (1 - BETA1) * g, m, gradients)
        v = jax.tree.map(lambda v, g: BETA2 * v + (1 - BETA2) * g * g, v, gradients)
        mean, square = 1 - BETA1**step, 1 - BETA2**step

        def update(p: jax.Array, m: jax.Array, v: jax.Array) -> jax.Array:
            decay = WEIGHT_DECAY if p.ndim > 1 else 0.0
            return p - LEARNING_RATE * ((m / mean) / (jnp.sqrt(v / square) + EPSILON) + decay * p)

        return jax.tree.map(update, params, m, v), m, v, step, value

    return step
