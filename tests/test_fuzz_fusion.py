"""Random programs shaped like networks, through volta-remat and volta-fuse.

Programs of test_fuzz are too small, and too mixed, for groups that depend on one another.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import volta_mlir as volta
from tests.harness import function_module, run_passes
from tests.tolerances import norm
from volta_mlir import Tensor
from volta_mlir.dtypes import TensorSpec, float32
from volta_mlir.errors import BudgetError
from volta_mlir.interpreter import interpret
from volta_mlir.passes.fused import FUSED
from volta_mlir.passes.remat import RECOMPUTED

pytestmark = pytest.mark.no_cover

ROWS, WIDTH, BATCH = 48, 8, 4
MATRIX, BATCHES = (ROWS, WIDTH), (BATCH, ROWS // BATCH, WIDTH)
ARGUMENTS = [MATRIX, (ROWS,), (WIDTH,), BATCHES, (WIDTH, ROWS), (WIDTH, WIDTH)]
UNARY: list[Callable[[Tensor], Tensor]] = [volta.tanh, volta.sin, volta.abs, lambda x: volta.exp(-x * x)]
BINARY: list[Callable[[Tensor, Tensor], Tensor]] = [
    lambda x, y: x + y,
    lambda x, y: x - y,
    lambda x, y: volta.tanh(x) * volta.tanh(y),
    volta.maximum,
    lambda x, y: volta.where(x > y, x * 0.5, y),
]


def step(rng: random.Random, values: list[Tensor]) -> Tensor | None:
    """A new value from those that there are, more often from the last ones; None if that one can't be."""

    def pick(shape: tuple[int, ...] | None = None) -> Tensor | None:
        found = [v for v in values if shape is None or v.shape == shape]
        return rng.choice(found[-6:] if rng.random() < 0.6 else found) if found else None

    x = pick()
    assert x is not None
    kind = rng.choice(["unary", "binary", "binary", "reduce", "reduce", "broadcast", "move", "product", "halves"])
    if kind == "unary":
        return rng.choice(UNARY)(x)
    if kind == "binary":
        y = pick(x.shape)
        assert y is not None
        return rng.choice(BINARY)(x, y)
    if kind == "reduce" and x.ndim:
        axes = rng.choice([-1, -1, -1, 0, tuple(range(x.ndim))])
        reduced = x.mean(axes, keepdims=True) if rng.random() < 0.5 else x.max(axes, keepdims=True)
        values.append(reduced)
        return x - reduced if rng.random() < 0.7 else reduced.reshape([s for s in reduced.shape if s != 1])
    if kind == "broadcast":
        shape = rng.choice([MATRIX, BATCHES])
        column = x.reshape(ROWS, 1) if x.shape == (ROWS,) and shape == MATRIX else x
        aligned = zip(column.shape[::-1], shape[::-1], strict=False)
        if column.ndim > len(shape) or any(s not in (1, t) for s, t in aligned):
            return None
        y = pick(shape)
        z = volta.broadcast_to(column, shape)
        return z if y is None else z + y
    if kind == "move" and x.ndim == 2 and rng.random() < 0.5:
        return x.T
    if kind == "move":
        return x.reshape(BATCHES if x.shape == MATRIX else MATRIX) if x.size == ROWS * WIDTH and x.ndim > 1 else None
    if kind == "product" and x.ndim > 1 and x.shape[-1] == WIDTH:
        weight, bias = pick((WIDTH, WIDTH)), pick((WIDTH,))
        if weight is None:
            return None
        return x @ weight * 0.2 if bias is None else volta.tanh(x @ weight * 0.2 + bias)
    if kind == "halves" and x.shape == MATRIX:
        first, second = x[: ROWS // 2], x[ROWS // 2 :]
        return volta.concatenate([first + second, volta.sin(first)], 0)
    return None


def program(seed: int) -> tuple[list[TensorSpec], Callable[..., list[Tensor]]]:
    """The specs of a program's arguments, and the program, which for every other seed computes gradients too."""
    shapes = random.Random(seed)
    specs = [TensorSpec(s, float32) for s in (MATRIX, *shapes.choices(ARGUMENTS, k=shapes.randint(1, 4)))]

    def forward(*arguments: Tensor) -> list[Tensor]:
        rng = random.Random(seed)
        values = list(arguments)
        for _ in range(rng.randint(6, 30)):
            value = step(rng, values)
            values += [] if value is None else [value]
        return rng.sample(values, rng.randint(1, 4))

    def loss(*arguments: Tensor) -> Tensor:
        return sum(((out * volta.cos(out)).sum() for out in forward(*arguments)), start=volta.zeros(()))

    def with_gradients(*arguments: Tensor) -> list[Tensor]:
        value, gradients = volta.value_and_grad(loss, argnums=tuple(range(len(arguments))))(*arguments)
        return [value, *gradients]

    return specs, with_gradients if seed % 2 else forward


def after(module: Any, passes: str) -> Any:
    return run_passes(module.operation.clone().opview, passes)


@pytest.mark.parametrize("count", [120, pytest.param(5000, marks=pytest.mark.full)])
def test_networks(count: int) -> None:
    grouped = recomputed = 0
    for seed in range(count):
        specs, function = program(seed)
        module = run_passes(function_module("program", specs, function), "volta-autodiff,volta-inline")
        numbers = np.random.default_rng(seed)
        arguments = [numbers.standard_normal(spec.shape).astype(np.float32) for spec in specs]
        expected = interpret(module, "program", arguments)
        rng = random.Random(seed)
        before = rng.choice(["", "cse,volta-simplify,cse,volta-align,cse,"])
        budget = rng.choice([None, 0, rng.randint(8_000, 60_000)])
        flags = {"recompute": rng.random() < 0.7, "rows": rng.random() < 0.8}
        options = [f"min-rows={rng.choice([1, 8, 32])}", *(f"{name}={value}".lower() for name, value in flags.items())]
        fuse = f"volta-fuse{{{' '.join(options)}}}"
        try:
            fused = after(module, before + ("" if budget is None else f"volta-remat{{budget={budget}}},") + fuse)
        except BudgetError:
            fused = after(module, f"{before}volta-remat{{budget=0}},{fuse}")
        text = str(fused)
        grouped += FUSED in text
        recomputed += RECOMPUTED in text
        for a, e in zip(interpret(fused, "program", arguments), expected, strict=True):
            assert norm(a - e) <= 1e-4 * max(norm(e), 1e-3), f"seed {seed}, {before}budget {budget}, {fuse}"
    assert grouped > count // 2
    assert recomputed > count // 20
