"""A GPT and its training step, written with plain functions of tensors; parameters are nested dicts.

Pre-LN blocks, learned positions, GELU (tanh form), causal attention; the output projection is the token embedding,
transposed. :mod:`tests.models.torch_gpt` is the same model in PyTorch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

import volta_mlir as volta
from volta_mlir import Tensor, tree
from volta_mlir.nn import functional as F

Parameters = dict[str, Any]

#: The arguments of :func:`train_step` that its results may overwrite.
DONATED = ("params", "m", "v", "step")

LEARNING_RATE, BETA1, BETA2, EPSILON, WEIGHT_DECAY = 3e-4, 0.9, 0.95, 1e-8, 0.1


@dataclass(frozen=True)
class Config:
    """Sizes of the model and of a batch."""

    layers: int = 6
    width: int = 384
    heads: int = 6
    context: int = 256
    vocabulary: int = 65
    batch: int = 8


SMALL = Config(layers=2, width=32, heads=4, context=16, vocabulary=11, batch=3)


def init(config: Config, seed: int = 0) -> Parameters:
    """GPT-2's initialisation, as numpy arrays. Norms and biases are off their usual 1 and 0, so that they count."""
    rng = np.random.default_rng(seed)
    width = config.width

    def normal(*shape: int, scale: float = 0.02) -> np.ndarray:
        return (scale * rng.standard_normal(shape)).astype(np.float32)

    def norm() -> Parameters:
        return {"weight": 1 + normal(width), "bias": normal(width)}

    def linear(inputs: int, outputs: int, scale: float = 0.02) -> Parameters:
        return {"weight": normal(inputs, outputs, scale=scale), "bias": normal(outputs)}

    residual = 0.02 / math.sqrt(2 * config.layers)
    return {
        "tokens": normal(config.vocabulary, width),
        "positions": normal(config.context, width),
        "blocks": [
            {
                "norm1": norm(),
                "qkv": linear(width, 3 * width),
                "attention": linear(width, width, residual),
                "norm2": norm(),
                "up": linear(width, 4 * width),
                "down": linear(4 * width, width, residual),
            }
            for _ in range(config.layers)
        ],
        "norm": norm(),
    }


def batches(config: Config, seed: int = 1) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Random tokens, and as targets the tokens that follow."""
    rng = np.random.default_rng(seed)
    while True:
        text = rng.integers(0, config.vocabulary, (config.batch, config.context + 1), dtype=np.int32)
        yield np.ascontiguousarray(text[:, :-1]), np.ascontiguousarray(text[:, 1:])


def state(config: Config) -> tuple[Parameters, Parameters, Parameters, Tensor]:
    """What :func:`train_step` begins with: ``(params, m, v, step)``."""
    params = tree.map(Tensor, init(config))
    m, v = (tree.map(volta.zeros_like, params) for _ in range(2))
    return params, m, v, Tensor(0)


def arguments(config: Config) -> tuple[Any, ...]:
    """Those of the first :func:`train_step`."""
    tokens, targets = next(batches(config))
    return *state(config), Tensor(tokens), Tensor(targets), config.heads


# -- the model -----------------------------------------------------------------------------------------------------


def layer_norm(p: Parameters, x: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdims=True)
    variance = (centred * centred).mean(-1, keepdims=True)
    return centred * volta.rsqrt(variance + 1e-5) * p["weight"] + p["bias"]


def linear(p: Parameters, x: Tensor) -> Tensor:
    return x @ p["weight"] + p["bias"]


def gelu(x: Tensor) -> Tensor:
    return 0.5 * x * (1.0 + volta.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Causal attention over tensors [batch, heads, context, width of a head]."""
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


def block(p: Parameters, x: Tensor, heads: int) -> Tensor:
    batch, length, width = x.shape
    qkv = linear(p["qkv"], layer_norm(p["norm1"], x))
    q, k, v = (
        qkv[..., i * width : (i + 1) * width].reshape(batch, length, heads, width // heads).swapaxes(1, 2)
        for i in range(3)
    )
    x = x + linear(p["attention"], attention(q, k, v).swapaxes(1, 2).reshape(x.shape))
    return x + linear(p["down"], gelu(linear(p["up"], layer_norm(p["norm2"], x))))


def logits(params: Parameters, tokens: Tensor, heads: int) -> Tensor:
    """Scores of the next token [batch, context, vocabulary] for tokens [batch, context]."""
    x = volta.take(params["tokens"], tokens, axis=0) + params["positions"]
    for p in params["blocks"]:
        x = block(p, x, heads)
    return layer_norm(params["norm"], x) @ params["tokens"].T


def cross_entropy(scores: Tensor, targets: Tensor) -> Tensor:
    """The mean of ``-log(softmax(scores))`` at the targets."""
    shifted = scores - volta.stop_gradient(scores.max(-1, keepdims=True))
    log_sum = volta.log(volta.exp(shifted).sum(-1))
    chosen = volta.iota(scores.shape, axis=scores.ndim - 1) == volta.expand_dims(targets, -1)
    return (log_sum - volta.where(chosen, shifted, 0.0).sum(-1)).mean()


def loss(params: Parameters, tokens: Tensor, targets: Tensor, heads: int) -> Tensor:
    """The mean cross-entropy of a batch."""
    return cross_entropy(logits(params, tokens, heads), targets)


# -- training ------------------------------------------------------------------------------------------------------


def adamw(params: Parameters, m: Parameters, v: Parameters, step: Tensor, gradients: Parameters) -> tuple[Any, ...]:
    """One update; matrices decay, vectors do not."""
    step = step + 1
    t = step.astype("float32")
    correction1, correction2 = 1 - volta.power(BETA1, t), 1 - volta.power(BETA2, t)
    m = tree.map(lambda m, g: BETA1 * m + (1 - BETA1) * g, m, gradients)
    v = tree.map(lambda v, g: BETA2 * v + (1 - BETA2) * (g * g), v, gradients)

    def update(p: Tensor, m: Tensor, v: Tensor) -> Tensor:
        direction = (m / correction1) / (volta.sqrt(v / correction2) + EPSILON)
        if p.ndim > 1:
            direction = direction + WEIGHT_DECAY * p
        return p - LEARNING_RATE * direction

    return tree.map(update, params, m, v), m, v, step


def train_step(
    params: Parameters, m: Parameters, v: Parameters, step: Tensor, tokens: Tensor, targets: Tensor, heads: int
) -> tuple[Any, ...]:
    """``(params, m, v, step, loss)`` after one step of AdamW."""
    value, gradients = volta.value_and_grad(lambda p: loss(p, tokens, targets, heads))(params)
    return (*adamw(params, m, v, step, gradients), value)
