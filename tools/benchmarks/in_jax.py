"""The workloads in JAX."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tests.models import gpt, jax_gpt
from volta_mlir import tree
from volta_mlir.tools.benchmarks.workloads import MLP, Arrays, Training, Workload

LEARNING_RATE, BETA1, BETA2, EPSILON = 1e-3, 0.9, 0.999, 1e-8


def conv2d(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """A convolution that keeps the size: x is NHWC, the kernel HWIO."""
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


KERNELS: dict[str, Callable[..., jax.Array]] = {
    "matmul": lambda x, y: x @ y,
    "conv2d": conv2d,
    "attention": jax_gpt.attention,
    "sum_rows": lambda x: x.sum(1),
    "sum_columns": lambda x: x.sum(0),
    "softmax": jax.nn.softmax,
    "layer_norm": lambda x, weight, bias: jax_gpt.layer_norm({"weight": weight, "bias": bias}, x),
}


def with_gradients(function: Callable[..., jax.Array]) -> Callable[..., Any]:
    """``function`` that also takes the result's cotangent and returns its operands'."""

    def both(*operands: jax.Array) -> Any:
        *primals, cotangent = operands
        out, pullback = jax.vjp(function, *primals)
        return out, *pullback(cotangent)

    return both


def mlp_loss(params: dict[str, jax.Array], x: jax.Array, classes: jax.Array) -> jax.Array:
    """The mean cross-entropy of a perceptron whose parameters have PyTorch's names and layouts."""
    depth = len(params) // 2
    for i in range(depth):
        x = x @ params[f"{2 * i}.weight"].T + params[f"{2 * i}.bias"]
        x = jax.nn.relu(x) if i < depth - 1 else x
    return -jnp.take_along_axis(jax.nn.log_softmax(x), classes[:, None], 1).mean()


def mlp_step(params: Any, m: Any, v: Any, step: jax.Array, x: jax.Array, classes: jax.Array) -> Any:
    """One step of Adam."""
    value, gradients = jax.value_and_grad(mlp_loss)(params, x, classes)
    step = step + 1
    m = jax.tree.map(lambda m, g: BETA1 * m + (1 - BETA1) * g, m, gradients)
    v = jax.tree.map(lambda v, g: BETA2 * v + (1 - BETA2) * g * g, v, gradients)
    mean, square = 1 - BETA1**step, 1 - BETA2**step
    params = jax.tree.map(
        lambda p, m, v: p - LEARNING_RATE * (m / mean) / (jnp.sqrt(v / square) + EPSILON), params, m, v
    )
    return params, m, v, step, value


class Program:
    """A workload, ready to be called; see :mod:`volta_mlir.tools.benchmarks.worker`."""

    def __init__(self, workload: Workload, quick: bool) -> None:
        self.state: Sequence[Any] = ()
        self.outs: Any = None
        if isinstance(workload, Training):
            config = workload.quick if quick else workload.config
            if isinstance(config, MLP):
                function, params, batch = mlp_step, config.parameters(), config.examples()
            else:
                function = jax_gpt.train_step(config.heads)
                params, batch = gpt.init(config), next(gpt.batches(config))
            params = jax.tree.map(jnp.asarray, params)
            self.state = (params, *(jax.tree.map(jnp.zeros_like, params) for _ in range(2)), jnp.asarray(0))
            self.inputs = [jnp.asarray(x) for x in batch]
            self.jitted = jax.jit(function, donate_argnums=(0, 1, 2, 3))
        else:
            self.inputs = [jnp.asarray(x, workload.dtype) for x in workload.operands(quick)]
            function = KERNELS[workload.function]
            self.jitted = jax.jit(with_gradients(function) if workload.backward else function)

    def call(self) -> None:
        outs = jax.block_until_ready(self.jitted(*self.state, *self.inputs))
        if self.state:
            *self.state, self.outs = outs
        else:
            self.outs = outs

    def results(self) -> Arrays:
        kept = [self.outs] if not self.state else [self.state[0], self.outs]
        accessors = tree.accessors(kept)
        return {
            tree.path_name(a): np.array(leaf, np.float32) for a, leaf in zip(accessors, tree.leaves(kept), strict=True)
        }

    def details(self) -> dict[str, float]:
        """Seconds that tracing and lowering take."""
        jax.clear_caches()
        start = time.perf_counter()
        traced = self.jitted.trace(*self.state, *self.inputs)
        after = time.perf_counter()
        traced.lower()
        return {"trace": after - start, "passes": time.perf_counter() - after}


def versions() -> dict[str, str]:
    """Of the packages that do the work."""
    return {"jax": jax.__version__}


def warm_up() -> None:
    """Starts what every program needs."""
    jax.block_until_ready(jax.jit(lambda x: x + 1)(1.0))
