"""What a compiled function takes, as IREE's allocations say."""

from __future__ import annotations

import numpy as np
import pytest

import volta_mlir as volta
from volta_mlir import plan
from volta_mlir.iree_compiler import compile_module
from volta_mlir.mlir import context, ir

SQUARE = 64 * 64 * 4


def chain(a, b):
    first = volta.tanh(a @ b)
    second = volta.tanh(first @ b)
    return second, second @ first


def plan_of(function, *specs, **options):
    return volta.jit(function, **options).lower(*specs).compile().plan


def test_results_and_transients_are_counted() -> None:
    spec = volta.spec((64, 64))
    found = plan_of(chain, spec, spec)
    assert found.results == 2 * SQUARE
    assert SQUARE <= found.transients <= 8 * SQUARE
    assert found.kernels <= found.dispatches


def test_a_donated_argument_takes_a_result() -> None:
    spec = volta.spec((64, 64))
    plain, donated = plan_of(chain, spec, spec), plan_of(chain, spec, spec, donate="a")
    assert donated.results == plain.results - SQUARE


def test_an_elementwise_function_is_one_kernel_without_transients() -> None:
    found = plan_of(lambda x: volta.tanh(x * 2 + 1), volta.spec((1000,)))
    assert found == plan.Plan(4000, 0, dispatches=1, kernels=1, transfers=0, bytes_moved=8000)


def test_equal_kernels_are_counted_once() -> None:
    def twice(x, y):
        return x.sum(1), y.sum(1)

    found = plan_of(twice, volta.spec((64, 64)), volta.spec((64, 64)))
    assert (found.dispatches, found.kernels) == (2, 1)


def test_buffers_that_are_not_needed_together_share_memory() -> None:
    def deep(x, w):
        for _ in range(12):
            x = volta.tanh(x @ w)
        return x

    found = plan_of(deep, volta.spec((64, 64)), volta.spec((64, 64)))
    assert found.transients < 6 * SQUARE


def test_the_plan_survives_the_cache(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("VOLTA_CACHE_DIR", str(tmp_path))
    function = volta.jit(lambda x: x - 1)
    first, second = (function.lower(np.zeros(3, np.float32)).compile() for _ in range(2))
    assert second.report.cached
    assert second.plan == first.plan


def test_every_public_function_has_a_plan() -> None:
    text = """
      func.func @a(%x: tensor<4xf32>) -> tensor<4xf32> { return %x : tensor<4xf32> }
      func.func @b(%x: tensor<8xf32>) -> tensor<8xf32> {
        %y = math.exp %x : tensor<8xf32>
        return %y : tensor<8xf32> }"""
    plans = compile_module(lambda donations: text).report.plans
    assert {name: (p.results, p.dispatches) for name, p in plans.items()} == {"a": (0, 0), "b": (32, 1)}


def test_the_largest_size_that_branches_pass_to_a_block_counts() -> None:
    text = """
    func.func @f(%again: i1) -> index {
      %small = arith.constant 12 : index
      %large = arith.constant 64 : index
      cf.cond_br %again, ^loop(%again, %small : i1, index), ^end(%small : index)
    ^loop(%more: i1, %size: index):
      cf.cond_br %more, ^loop(%more, %size : i1, index), ^between(%size, %large : index, index)
    ^between(%one: index, %other: index):
      %chosen = arith.select %again, %other, %one : index
      cf.br ^end(%chosen : index)
    ^end(%last: index):
      return %last : index
    }"""
    with context():
        module = ir.Module.parse(text)
    _, loop, between, end = module.body.operations[0].regions[0].blocks
    assert [plan._constant(a) for a in (loop.arguments[1], *between.arguments, *end.arguments)] == [12, 12, 64, 64]
    with pytest.raises(ValueError, match="not a constant"):
        plan._constant(loop.arguments[0])


def test_loops_are_planned_too() -> None:
    def repeat(x, w):
        return volta.while_loop(lambda state: state[0] < 5, lambda s: (s[0] + 1, volta.tanh(s[1] @ w)), (0, x))[1]

    found = plan_of(repeat, volta.spec((64, 64)), volta.spec((64, 64)))
    assert found.dispatches >= 1
    assert found.transients < 10 * SQUARE


def test_the_branch_that_takes_most_counts() -> None:
    def small(x):
        return volta.tanh(x @ x) @ x

    def large(x):
        return volta.tanh(volta.concatenate([x, x, x]) @ x)[:64] @ x

    def either(first, second):
        return lambda which, x: volta.cond(which, first, second, x @ x) @ x

    which, x = volta.spec((), "bool"), volta.spec((64, 64))
    assert plan_of(lambda which, x: volta.cond(which, small, large, x), which, x).results == SQUARE
    transients = {plan_of(either(*pair), which, x).transients for pair in ((small, large), (large, small))}
    assert len(transients) == 1
