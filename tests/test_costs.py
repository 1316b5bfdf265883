"""What functions cost: counted by op and line, through loops and branches, and against a machine's limits."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

import volta_mlir as volta
from volta_mlir import models, nn
from volta_mlir.costs import CostReport, Row
from volta_mlir.dialects.base import Cost
from volta_mlir.machines import MACHINES, Machine


def test_the_module_can_be_imported_before_all_others() -> None:
    subprocess.run([sys.executable, "-c", "import volta_mlir.costs"], check=True)


def report_of(function, *specs) -> CostReport:
    return volta.jit(function).lower(*specs).cost_report()


def test_a_product_is_counted() -> None:
    report = report_of(lambda x, y: x @ y, volta.spec((8, 4)), volta.spec((4, 2)))
    assert (report.flops, report.bytes) == (2 * 8 * 4 * 2, 4 * (32 + 8 + 16))
    (row,) = report.rows
    assert (row.op, row.dtype, row.count) == ("dot_general", "float32", 1)
    assert row.location.startswith(f"{__file__}:")


def test_the_backward_pass_of_a_product_costs_twice_as_much() -> None:
    def loss(w, x):
        return (x @ w).sum()

    shapes = volta.spec((64, 32)), volta.spec((128, 64))

    def products(function):
        return sum(row.cost.flops for row in report_of(function, *shapes).rows if row.op == "dot_general")

    assert products(volta.grad(loss, argnums=(0, 1))) == 2 * products(loss)


def test_equal_ops_on_one_line_are_one_row() -> None:
    def repeat(x):
        for _ in range(5):
            x = volta.sin(x)
        return x

    (row,) = report_of(repeat, volta.spec((10,))).rows
    assert (row.op, row.count, row.cost.bytes) == ("sin", 5, 5 * 80)
    assert row.location == f"{__file__}:{inspect.getsourcelines(repeat)[1] + 2}"


def test_what_layers_do_counts_for_the_lines_that_call_them() -> None:
    layer, gelu = nn.Linear(4, 3), nn.GELU()

    def network(layer, x):
        x = layer(x)
        return gelu(x)

    rows = report_of(network, layer, volta.spec((2, 4))).rows
    first = inspect.getsourcelines(network)[1] + 1
    lines = {row.op: row.location for row in rows}
    assert (lines["dot_general"], lines["erf"]) == (f"{__file__}:{first}", f"{__file__}:{first + 1}")


def test_models_of_the_package_tell_their_own_lines() -> None:
    model = models.GPT2(models.gpt2.Config(vocabulary=8, context=4, width=4, layers=1, heads=2))
    rows = report_of(lambda model, x: model(x), model, volta.spec((1, 4), "int32")).rows
    products = [row.location.rpartition(":")[0] for row in rows if row.op == "dot_general"]
    assert products and {*products} == {inspect.getsourcefile(models.GPT2)}


def test_a_scan_costs_its_steps() -> None:
    def loop(x):
        return volta.scan(lambda carry, row: (volta.sin(carry) + row, None), x[0], x)[0]

    count = {row.op: row.count for row in report_of(loop, volta.spec((5000, 3))).rows}
    assert (count["sin"], count["add"]) == (5000, 5000)


def test_a_branch_costs_its_dearest_case_and_a_while_loop_one_step() -> None:
    def choose(i, x):
        return volta.switch(i, [lambda x: x, lambda x: volta.sin(volta.sin(x)), lambda x: -x], x)

    assert {r.op: r.count for r in report_of(choose, volta.spec((), "int32"), volta.spec((9,))).rows} == {"sin": 2}

    def repeat(x):
        return volta.while_loop(lambda x: x.sum() < 5, lambda x: volta.cos(x), x)

    assert {r.op: r.count for r in report_of(repeat, volta.spec((9,))).rows}["cos"] == 1


def test_the_roofline_takes_the_slower_of_computing_and_moving() -> None:
    machine = Machine("m", bandwidth=10.0, flops={"float32": 100.0, "bfloat16": 200.0})
    rows = (
        Row("a", "", "float32", 1, Cost(1000, 1)),
        Row("b", "", "bfloat16", 1, Cost(1000, 1)),
        Row("c", "", "int8", 1, Cost(1, 50)),
    )
    report = CostReport("f", rows)
    assert report.seconds(machine) == 10 + 5 + 5
    assert report.intensity == 2001 / 52
    with pytest.raises(KeyError, match="there is no machine 'nope'; there are cpu-core, a100, h100"):
        report.seconds("nope")


def test_the_text_begins_with_what_takes_longest() -> None:
    report = CostReport("f", tuple(Row(f"op{i}", f"m.py:{i}", "float32", 1, Cost(i * 10**9, i)) for i in range(1, 30)))
    first, second, *rest = report.to_text(MACHINES["h100"], most=3).splitlines()
    assert first == "f: 435 G operations, 435 B moved, 1e+09 operations per byte; at least 6.49 ms on h100"
    assert second.split() == ["6.7%", "29", "G", "29", "B", "1", "x", "op29", "float32", "m.py:29"]
    assert rest[-1] == "  and 26 more"
    assert "cpu-core" in str(report)


def test_an_empty_function_costs_nothing() -> None:
    report = report_of(lambda x: x, volta.spec((3,)))
    assert (report.flops, report.bytes, report.intensity, report.seconds("h100")) == (0, 0, 0.0, 0.0)
