"""Layers are lowered and compiled once, however many there are, and compute the same."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

import volta_mlir as volta
from tests.tolerances import mismatch
from volta_mlir import Tensor, passes, tree
from volta_mlir.mlir import context, ir
from volta_mlir.passes.derived import functions
from volta_mlir.passes.outline import Outline

MARK = ".repeated"
FEW, MANY = 4, 6


def loss(layers: Any, x: Tensor) -> Tensor:
    for p in layers:
        centred = x - x.mean(-1, keepdims=True)
        y = centred * volta.rsqrt((centred * centred).mean(-1, keepdims=True) + 1e-5)
        x = x + volta.tanh(y @ p["up"] + p["bias"]) @ p["down"]
    return (x * x).mean()


def train_step(layers: Any, momenta: Any, x: Tensor) -> Any:
    value, gradients = volta.value_and_grad(loss)(layers, x)
    momenta = tree.map(lambda m, g: 0.9 * m + g, momenta, gradients)
    return tree.map(lambda p, m: p - 0.1 * m, layers, momenta), momenta, value


def arguments(count: int) -> tuple[Any, ...]:
    rng = np.random.default_rng(3)
    shapes = {"up": (16, 24), "bias": (24,), "down": (24, 16)}
    layers, momenta = (
        [{k: Tensor(rng.normal(size=s) * 0.3, "float32") for k, s in shapes.items()} for _ in range(count)]
        for _ in range(2)
    )
    return layers, momenta, Tensor(rng.normal(size=(32, 16)), "float32")


@cache
def lowered(count: int) -> Any:
    return volta.jit(train_step, donate=("layers", "momenta")).lower(*arguments(count))


def ops_in(module: Any) -> int:
    return sum(len(f.entry_block.operations) for f in functions(module))


def test_what_is_lowered_does_not_grow_with_depth() -> None:
    modules = [lowered(count)._at("volta-alias") for count in (FEW, MANY)]
    with context(), ir.Location.unknown():
        for module in modules:
            Outline(min_ops=4).run(module)
        parts = [[f for f in functions(module) if MARK in f.sym_name.value] for module in modules]
        assert len(parts[0]) == len(parts[1]) == 2  # a layer forwards, and backwards with its update
        # A layer more is two calls more.
        assert ops_in(modules[1]) - ops_in(modules[0]) == 2 * (MANY - FEW)


def test_equal_layers_are_fused_into_the_same_functions() -> None:
    modules = [lowered(count)._at("volta-fuse") for count in (FEW, MANY)]
    with context():
        assert len(functions(modules[0])) == len(functions(modules[1]))


def test_no_kernel_more_is_compiled_for_more_layers() -> None:
    few, many = (lowered(count).compile().plan for count in (FEW, MANY))
    assert few.kernels == many.kernels
    assert few.dispatches < many.dispatches


def test_the_same_results_memory_and_lines_as_without(monkeypatch: pytest.MonkeyPatch) -> None:
    outlined = lowered(FEW).compile()
    lines = [buffer.location for buffer in outlined.memory_report().buffers if buffer.kind == "transient"]
    pipeline = tuple(p for p in passes.pipeline.PIPELINE if p != "volta-outline")
    monkeypatch.setattr(passes.pipeline, "PIPELINE", pipeline)
    monkeypatch.setenv("VOLTA_CACHE", "0")  # its key does not know of the pipeline
    assert MARK not in lowered(FEW).as_text("linalg")
    plain = lowered(FEW).compile()
    assert outlined.plan.transients <= 1.02 * plain.plan.transients
    assert outlined.plan.dispatches <= 1.05 * plain.plan.dispatches
    assert outlined.report.dropped == plain.report.dropped == ()
    expected_lines = {b.location for b in plain.memory_report().buffers if b.kind == "transient"}
    assert lines
    assert expected_lines >= set(lines)
    results, expected = (tree.leaves(compiled(*arguments(FEW))) for compiled in (outlined, plain))
    for actual, other in zip(results, expected, strict=True):
        assert not mismatch(actual.numpy(), other.numpy())
