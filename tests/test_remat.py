"""volta-remat and the option memory_budget: budgets are kept in what IREE allocates, and no number changes."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import volta_mlir as volta
from tests.models import gpt
from tests.tolerances import norm
from volta_mlir import BudgetError, OptionError, Tensor, iree_worker, models, nn, optim, tree
from volta_mlir.compilation import Compiled, Lowered
from volta_mlir.iree_compiler import Target
from volta_mlir.mlir import context, ir
from volta_mlir.passes import parse_pipeline, run_pipeline
from volta_mlir.passes.derived import functions, is_private
from volta_mlir.passes.remat import _Program
from volta_mlir.recompute import simulate

#: The same instructions everywhere, on which packed sizes depend.
TARGET = "cpu:x86-64-v3"


def chain(weights: list[Tensor], x: Tensor) -> Tensor:
    for w in weights:
        x = volta.tanh(x @ w)
    return x.sum()


def lowered_chain(length: int, budget: Any, rows: int = 1024, width: int = 64) -> Lowered:
    step = volta.jit(volta.grad(chain), options={"memory_budget": budget})
    return step.lower([volta.spec((width, width))] * length, volta.spec((rows, width)))


CONFIG = gpt.Config(layers=2, width=64, heads=4, context=64, vocabulary=11, batch=4)


def gpt_step(budget: Any, config: gpt.Config = CONFIG) -> Lowered:
    step = volta.jit(gpt.train_step, static="heads", donate=gpt.DONATED, options={"memory_budget": budget})
    return step.lower(*gpt.arguments(config))


def peak(compiled: Compiled) -> int:
    return compiled.memory_report().peak_bytes


@pytest.mark.no_cover
@pytest.mark.parametrize("length", [36, pytest.param(144, marks=pytest.mark.full)])
def test_a_deep_network_trains_in_memory_like_the_root_of_its_depth(length: int) -> None:
    activation = 1024 * 64 * 4
    kept = lowered_chain(length, None).compile(TARGET).plan.transients / activation
    least = lowered_chain(length, "min").compile(TARGET).plan.transients / activation
    assert kept >= length
    assert least <= 3 * length**0.5


def require_equal(expected: list[np.ndarray], actual: list[np.ndarray]) -> None:
    for e, a in zip(expected, actual, strict=True):
        np.testing.assert_array_equal(a, e)


def require_near(expected: list[np.ndarray], actual: list[np.ndarray], relative: float) -> None:
    for e, a in zip(expected, actual, strict=True):
        assert norm(a - e) <= relative * norm(e)


def results_of(compiled: Compiled, arguments: Any) -> list[np.ndarray]:
    return [leaf.numpy() for leaf in tree.leaves(compiled(*arguments))]


@pytest.mark.no_cover
def test_the_least_memory_changes_no_number() -> None:
    free, least = (gpt_step(budget).compile(TARGET) for budget in (None, "min"))
    assert peak(least) < peak(free)
    assert str(least.target) != str(free.target) == TARGET
    cached = gpt_step("min").compile(TARGET)
    assert cached.report.cached
    assert cached.target == least.target
    assert peak(cached) == peak(least)
    expected, actual = (results_of(compiled, gpt.arguments(CONFIG)) for compiled in (free, least))
    require_near(expected, actual, 1e-6)  # columns of the first norm's gradients are summed in other groups


def chain_step(budget: Any, rows: int = 1024) -> tuple[Lowered, Any]:
    rng = np.random.default_rng(0)
    weights = [Tensor(rng.standard_normal((64, 64)).astype(np.float32) / 8) for _ in range(9)]
    x = Tensor(rng.standard_normal((rows, 64)).astype(np.float32))
    return lowered_chain(9, budget, rows), (weights, x)


@pytest.mark.parametrize(
    ("step", "relative"),
    [
        (chain_step, 0.0),
        pytest.param(lambda budget: (gpt_step(budget), gpt.arguments(CONFIG)), 1e-6, id="gpt", marks=pytest.mark.full),
    ],
)
def test_a_budget_is_kept_and_changes_no_number(step: Any, relative: float) -> None:
    def compiled_for(budget: Any) -> tuple[Compiled, list[np.ndarray]]:
        lowered, arguments = step(budget)
        compiled = lowered.compile(TARGET)
        return compiled, results_of(compiled, arguments)

    (free, expected), (least, of_least) = compiled_for(None), compiled_for("min")
    half = (peak(free) + peak(least)) // 2
    middle, of_middle = compiled_for(half)
    assert peak(middle) <= half
    assert middle.plan.dispatches > free.plan.dispatches  # IREE did not undo it
    assert not free.remat_report().rows
    assert 0 < middle.remat_report().flops < least.remat_report().flops
    require_near(expected, of_middle, relative)
    require_near(expected, of_least, relative)


def test_the_same_groups_give_the_same_bits() -> None:
    free, least = (chain_step(budget, rows=256) for budget in (None, "min"))
    require_equal(*(results_of(lowered.compile(TARGET), arguments) for lowered, arguments in (free, least)))


def test_what_is_drawn_at_random_is_drawn_again_alike() -> None:
    def loss(w: Tensor, x: Tensor, key: Tensor) -> Tensor:
        for number in range(6):
            x = nn.functional.dropout(volta.tanh(x @ w), 0.5, key=volta.random.fold_in(key, number))
        return (x * x).sum()

    w, x, key = volta.ones((64, 64)) * 0.05, volta.ones((512, 64)), volta.random.key(7)
    free, least = (
        volta.jit(volta.grad(loss), options={"memory_budget": budget}).lower(w, x, key).compile(TARGET)
        for budget in (None, "min")
    )
    assert least.plan.transients < free.plan.transients
    np.testing.assert_array_equal(least(w, x, key).numpy(), free(w, x, key).numpy())


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_convolutions_and_running_statistics(dtype: str) -> None:
    """Gradients through batch norms magnify any difference in how sums are rounded."""
    rng = np.random.default_rng(0)
    x = Tensor(rng.standard_normal((4, 8, 16, 16)).astype(dtype))
    y = Tensor(np.arange(4, dtype=np.int32))
    optimizer = optim.SGD(lr=0.1)

    def new_model() -> nn.Module:
        nn.manual_seed(0)
        blocks = [(nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU()) for _ in range(6)]
        layers = *(layer for block in blocks for layer in block), nn.Flatten(), nn.Linear(8 * 16 * 16, 5)
        return tree.map(lambda x: x.astype(dtype) if x.dtype == np.float32 else x, nn.Sequential(*layers))

    def step(model: nn.Module, state: Any, x: Tensor, y: Tensor) -> Any:
        loss, gradients = volta.value_and_grad(lambda model: nn.functional.cross_entropy(model(x), y))(model)
        return *optimizer.update(model, gradients, state), loss

    plans, results = [], []
    for budget in (None, "min"):
        model = new_model()
        arguments = model, optimizer.init(model), x, y
        compiled = volta.jit(step, options={"memory_budget": budget}).lower(*arguments).compile(TARGET)
        plans.append(compiled.plan)
        results.append([leaf.numpy() for leaf in tree.leaves(compiled(*arguments)) if isinstance(leaf, Tensor)])
    assert plans[1].transients < 0.8 * plans[0].transients
    require_equal(*results)


@pytest.mark.full  # lit_tests/passes/fuse.mlir has the smallest such program
@pytest.mark.parametrize("budget", [282_360_545, 250_987_151])
def test_copies_of_what_reductions_compute_by_themselves_are_fused(budget: int) -> None:
    # In these plans of six layers a reduction would be grouped with one that waits for it.
    step = volta.jit(gpt.train_step, static="heads", donate=gpt.DONATED, options={"memory_budget": budget})
    lowered = step.lower(*gpt.arguments(gpt.Config()))
    assert lowered.remat_report().rows
    assert lowered.fusion_report().groups


def test_no_round_makes_the_peak_worse() -> None:
    # What two layers of LSTM cells compute again is fused otherwise than it was planned.
    def loss(model: nn.Module, tokens: Tensor) -> Tensor:
        scores, _ = model(tokens)
        return nn.functional.cross_entropy(scores.reshape(-1, 11), tokens.reshape(-1))

    arguments = models.LSTMLM(11, 16, layers=2), volta.spec((4, 3), "int32")
    lowered = volta.jit(volta.grad(loss), options={"memory_budget": "min"}).lower(*arguments)
    assert planned_peak(lowered, "volta-remat") <= planned_peak(lowered, "volta-align")


def test_another_plan_is_made_where_the_first_comes_to_nothing() -> None:
    # Of one layer, what is copied for the least peak is fused so that it takes as much as before.
    lowered = gpt_step("min", replace(CONFIG, layers=1))
    assert planned_peak(lowered, "volta-remat") < 0.7 * planned_peak(lowered, "volta-align")


def planned_peak(lowered: Lowered, name: str) -> int:
    """The peak in volta-remat's model after a pass."""
    with context(), ir.Location.unknown():
        module = lowered._at(name, goal=0)
        (function,) = (f for f in functions(module) if not is_private(f))
        return simulate(_Program(function).graph()).peak


def test_what_is_computed_again_survives_iree() -> None:
    """IREE merges equal operations: in its flow phase each product that is computed again has a dispatch of its own."""

    def products(budget: Any) -> int:
        text = lowered_chain(9, budget)._at("linalg").operation.get_asm(print_generic_op_form=True)
        with iree_worker._Invocation(text.encode(), Target.parse(TARGET).flags(), []) as invocation:
            invocation.run("flow")
            invocation.inline()
            return len(re.findall(r"flow\.dispatch @\S*matmul", str(invocation.module())))

    again = sum(row.count for row in lowered_chain(9, "min").remat_report().rows if row.op == "dot_general")
    assert again > 0
    assert products("min") == products(None) + again


# -- what is said about it -----------------------------------------------------------------------------------------


def test_the_report_names_what_is_computed_again() -> None:
    report = lowered_chain(9, "min").remat_report()
    line = chain.__code__.co_firstlineno + 2
    assert {row.op for row in report.rows} >= {"tanh", "dot_general"}
    assert {row.location for row in report.rows} == {f"{__file__}:{line}"}
    product = next(row for row in report.rows if row.op == "dot_general")
    assert product.flops == product.count * 2 * 1024 * 64 * 64
    assert report.flops == sum(row.flops for row in report.rows)
    assert str(report).splitlines()[0].endswith(f"x dot_general float32[1024,64]  {__file__}:{line}")
    assert str(lowered_chain(9, None).remat_report()) == "volta-remat has nothing computed again"


def test_cheap_ops_come_before_products() -> None:
    def loss(w: Tensor, x: Tensor) -> Tensor:
        for _ in range(6):
            x = nn.functional.gelu(x @ w, approximate="tanh")
        return x.sum()

    arguments = volta.spec((64, 64)), volta.spec((1024, 64))
    free = volta.jit(volta.grad(loss)).lower(*arguments).memory_report()
    budget = int(0.85 * free.peak_bytes)
    lowered = volta.jit(volta.grad(loss), options={"memory_budget": budget}).lower(*arguments)
    rows = lowered.remat_report().rows
    assert rows
    assert not {"dot_general"} & {row.op for row in rows}
    assert lowered.memory_report().peak_bytes <= budget


def test_what_takes_no_time_is_computed_again_without_a_budget() -> None:
    # The output of GELU is not kept, as its input is; products are.
    def loss(w: Tensor, x: Tensor) -> Tensor:
        for _ in range(6):
            x = nn.functional.gelu(x @ w, approximate="tanh")
        return x.sum()

    arguments = volta.spec((1024, 1024)), volta.spec((2048, 1024))
    auto = volta.jit(volta.grad(loss)).lower(*arguments)
    rows = auto.remat_report().rows
    assert "tanh" in {row.op for row in rows}
    assert not {"dot_general"} & {row.op for row in rows}
    kept = volta.jit(volta.grad(loss), options={"memory_budget": None}).lower(*arguments)
    assert not kept.remat_report().rows
    assert auto.memory_report().transients <= 0.8 * kept.memory_report().transients


def test_an_infeasible_budget_names_the_least() -> None:
    lowered = lowered_chain(9, "100 KiB")
    with pytest.raises(BudgetError, match=r"can't run in 100\.0 KiB: the least that was found is \d+ bytes") as caught:
        lowered.compile(TARGET)
    least = int(str(caught.value).partition("found is ")[2].split()[0])
    assert peak(lowered_chain(9, least).compile(TARGET)) <= least


def test_a_budget_that_is_large_enough_changes_nothing() -> None:
    free, wide = (lowered_chain(9, budget).compile(TARGET).plan for budget in (None, "1GiB"))
    assert wide == free


def test_a_cached_result_keeps_its_goal() -> None:
    budget = (peak(lowered_chain(9, None).compile(TARGET)) + peak(lowered_chain(9, "min").compile(TARGET))) // 2
    compiled, cached = (lowered_chain(9, budget).compile(TARGET) for _ in range(2))
    assert cached.report.cached
    assert cached.report.goal == compiled.report.goal
    assert cached.memory_report() == compiled.memory_report()


@pytest.mark.parametrize("budget", [0, -1, True, 1.5, "", "2", "2 XB", "many", "0 MB"])
def test_bad_budgets_are_refused(budget: Any) -> None:
    with pytest.raises(OptionError, match="memory_budget is a number of bytes, a text such as"):
        volta.jit(chain, options={"memory_budget": budget})


@pytest.mark.parametrize("budget", [500_000, np.int64(500_000), "500 kB", "500KB", "0.0005GB"])
def test_budgets_are_numbers_or_texts(budget: Any) -> None:
    assert volta.jit(chain, options={"memory_budget": budget}).memory_budget == 500_000


def test_the_pass_alone_refuses_what_it_cannot_meet() -> None:
    lowered = lowered_chain(4, None)
    with pytest.raises(BudgetError, match=r"@chain needs \d+ bytes .* more than the budget of 9\.8 KiB"):
        run_pipeline(
            lowered.module, parse_pipeline("volta-autodiff,volta-inline,volta-simplify,volta-remat{budget=10000}")
        )
