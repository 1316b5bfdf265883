"""debug.print: what is printed, when, and where it is refused."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import volta_mlir as volta
from volta_mlir import nn
from volta_mlir.debug import print as show
from volta_mlir.errors import OptionError, TraceError
from volta_mlir.tools.volta import main

PAIR = np.array([1.0, 2.0], np.float32)


def printed(capsys, function, *arguments) -> list[str]:
    """The lines that a call prints."""
    capsys.readouterr()
    function(*arguments)
    return capsys.readouterr().out.splitlines()


def both(capsys, function, *arguments) -> list[str]:
    """The lines that a call prints, compiled and not, which are the same."""
    compiled = volta.jit(function)
    lines = printed(capsys, compiled, *arguments)
    assert printed(capsys, compiled, *arguments) == lines  # not only when it is traced
    assert printed(capsys, function, *arguments) == lines
    return lines


def shown(x, name="x"):
    """``x``, which is printed."""
    show(name + " {}", x)
    return x


# -- when ------------------------------------------------------------------------------------------------------------


def test_values_are_printed_in_the_programs_order(capsys) -> None:
    def function(x):
        show("start")
        y = x * 3
        show("{} of {name:>5}: {total:.2f}", y, total=y.sum(), name="y")
        show("{}", x)
        return y + 1

    assert both(capsys, function, PAIR) == ["start", "[3. 6.] of     y: 9.00", "[1. 2.]"]


def test_outside_of_a_trace_it_prints_at_once(capsys) -> None:
    show("{} {a[0]}", volta.Tensor(PAIR, "bfloat16"), a=PAIR)
    assert capsys.readouterr().out == "[1 2] 1.0\n"


def test_neither_equal_nor_unused_prints_are_removed(capsys) -> None:
    def function(x):
        for _ in range(2):
            show("{}", volta.sin(x * 0))
        return x

    assert both(capsys, function, PAIR) == ["[0. 0.]"] * 2


def test_trees(capsys) -> None:
    def function(x):
        layer = nn.Linear(1, 1, bias=False)
        layer.weight = x[:1, None]
        show("{} {}", {"a": x, "b": (x[0], None, "text")}, layer)
        return x

    array = "array([1., 2.], dtype=float32)"
    weight = "{'weight': array([[1.]], dtype=float32)}"
    assert both(capsys, function, PAIR) == [f"{{'a': {array}, 'b': (array(1., dtype=float32), None, 'text')}} {weight}"]


def test_an_update_in_place_after_it_is_not_seen(capsys) -> None:
    def function(x):
        y = x * 1
        show("{}", y)
        y.add_(1)
        show("{}", y)
        return y

    assert both(capsys, function, volta.Tensor(PAIR)) == ["[1. 2.]", "[2. 3.]"]


def test_a_donated_argument_is_printed_as_it_was(capsys) -> None:
    def step(x):
        show("{}", x)
        return x + 1

    compiled = volta.jit(step, donate="x")
    assert printed(capsys, compiled, volta.Tensor(PAIR)) == ["[1. 2.]"]
    text = compiled.lower(volta.Tensor(PAIR)).as_text("volta-alias")
    assert "iree.abi.output = 0" in text  # the result takes its memory, not what is printed
    np.testing.assert_array_equal(compiled(volta.Tensor(PAIR)), PAIR + 1)


def test_results_and_buffers_stay_what_they_are(capsys) -> None:
    model = nn.BatchNorm1d(2)

    @volta.jit
    def step(model, x):
        y = model(x)
        show("mean {:.1f}", y.mean())
        return y, x

    x = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)
    y, same = step(model, x)
    assert capsys.readouterr().out in ("mean 0.0\n", "mean -0.0\n")
    np.testing.assert_allclose(y, [[-1, -1], [1, 1]], rtol=1e-4)
    np.testing.assert_array_equal(same, x)
    np.testing.assert_allclose(model.running_mean, [0.2, 0.3], rtol=1e-6)


# -- transforms ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("checkpoint", [False, True])
def test_differentiated_functions_print_their_values_once(capsys, checkpoint: bool) -> None:
    def loss(x):
        return (shown(volta.square(x)) * x).sum()

    function = volta.checkpoint(loss) if checkpoint else loss
    assert both(capsys, volta.grad(function), PAIR) == ["x [1. 4.]"]
    np.testing.assert_allclose(volta.jit(volta.grad(function))(PAIR), 3 * PAIR**2, rtol=1e-6)
    assert both(capsys, lambda x: volta.jvp(function, (x,), (x,)), PAIR) == ["x [1. 4.]"]
    assert both(capsys, lambda x: volta.vjp(function, x)[1](volta.Tensor(1.0)), PAIR) == ["x [1. 4.]"]


def test_a_print_costs_no_operation() -> None:
    def network(text):
        def loss(w, x):
            for i in range(3):
                x = volta.tanh(x @ w)
                if text:
                    show(text, x[0, 0], i)
            return x.sum()

        spec = volta.spec((8, 8))
        return volta.jit(volta.grad(loss)).lower(spec, spec)

    assert network("{} after layer {}").cost_report().flops == network("").cost_report().flops
    assert "volta.printed" not in network("").as_text()


def test_vmap_prints_each_example(capsys) -> None:
    def example(x, y):
        show("{} {}", x, y)
        show("next")
        return x + y

    lines = both(capsys, lambda x: volta.vmap(example, in_axes=(0, None))(x, x[0]), PAIR)
    assert lines == ["1.0 1.0", "next", "2.0 1.0", "next"]


# -- control flow ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [3, 3000])  # the first is unrolled
@pytest.mark.parametrize("reverse", [False, True])
def test_scan_prints_each_step(capsys, length: int, reverse: bool) -> None:
    def total(xs):
        def step(carry, x):
            show("{} + {x}", carry, x=x)
            show("next")
            return carry + x, volta.tanh(carry)

        return volta.scan(step, volta.Tensor(0), xs, reverse=reverse)

    xs = np.arange(length, dtype=np.int32)
    expected, carry = [], 0
    for x in xs[::-1] if reverse else xs:
        expected += [f"{carry} + {x}", "next"]
        carry += x
    assert both(capsys, total, xs) == expected


def test_only_the_branch_that_runs_prints(capsys) -> None:
    branches = [lambda x: shown(x, "first"), lambda x: (show("second"), x)[1], lambda x: shown(x * 10, "last")]

    def function(i, x):
        return volta.switch(i, branches, x)

    assert both(capsys, function, np.int32(1), PAIR) == ["second"]
    # The index is clamped.
    assert both(capsys, function, np.int32(-3), PAIR) == ["first [1. 2.]"]
    assert both(capsys, function, np.int32(7), PAIR) == ["last [10. 20.]"]


def test_a_branch_may_do_nothing_but_print(capsys) -> None:
    def function(x):
        volta.cond(x.sum() > 0, lambda: show("positive"), lambda: None)
        return x

    assert both(capsys, function, PAIR) == ["positive"]
    assert both(capsys, function, -PAIR) == []


def loops(xs):
    """Branches in a loop over a fixed number of steps in a vmap."""

    def example(x):
        def step(i, carry):
            return volta.cond(i % 2 == 0, lambda c: shown(c + i, "even"), lambda c: c * 2, carry)

        return shown(volta.fori_loop(0, 3, step, x), "end")

    return volta.vmap(example)(xs)


LOOPS = ["even 1.0", "even 4.0", "end 4.0", "even 2.0", "even 6.0", "end 6.0"]


def test_loops_branches_and_examples_nest(capsys) -> None:
    assert both(capsys, loops, PAIR) == LOOPS
    gradient = volta.grad(lambda xs: loops(xs).sum())
    assert both(capsys, gradient, PAIR) == LOOPS
    np.testing.assert_array_equal(volta.jit(gradient)(PAIR), [2, 2])


# -- files -----------------------------------------------------------------------------------------------------------


def test_files_print_where_volta_loads_them(capsys, tmp_path) -> None:
    path = str(tmp_path / "loops.vmfb")
    volta.jit(loops).lower(volta.spec(2)).compile().save(path)
    np.testing.assert_array_equal(volta.load(path).loops(PAIR), [4, 6])
    assert capsys.readouterr().out.splitlines() == LOOPS
    assert main(["run", path, "--input", "2xf32=1,2"]) == 0
    assert capsys.readouterr().out.splitlines() == [*LOOPS, "result: float32[2]", "[4., 6.]"]
    assert main(["inspect", path]) == 0
    # Other runtimes return the values after the result.
    command = [Path(sys.executable).parent / "iree-run-module", f"--module={path}", "--function=loops"]
    result = subprocess.run([*command, "--input=2xf32=1 2"], capture_output=True, text=True, check=True)
    assert result.stdout.count("result[") > 1 and "2xf32=4 6" in result.stdout


# -- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("{x}", 1), r"'\{x\}' does not fit its arguments: there is no argument 'x'"),
        (("{} {}", 1), "more fields than there are positional arguments"),
        (("text", 1), r"no place for the argument 0.*an f-string would be made when"),
        (("{:.2f}", PAIR), "unsupported format string"),
        (("{", 1), "does not fit"),
        (("{0.value}", PAIR), "has no attribute 'value'"),
        ((1,), "the first argument is a format string, .*; got 1"),
    ],
)
def test_a_text_that_does_not_fit_is_refused_before_it_runs(arguments, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        volta.jit(lambda x: (show(*arguments), x)[1]).lower(PAIR)
    with pytest.raises(OptionError, match=message):
        show(*arguments)


def test_loops_without_a_known_end_refuse_it() -> None:
    for function in (
        lambda x: volta.while_loop(lambda x: x < 3, lambda x: shown(x) + 1, x),
        lambda x: volta.while_loop(lambda x: shown(x) < 3, lambda x: x + 1, x),
        lambda x: volta.fori_loop(0, x, lambda i, x: shown(x), x),
    ):
        with pytest.raises(TraceError, match=r"inside a while_loop, .* fori_loop with numbers for bounds") as caught:
            function(volta.Tensor(0))
        assert caught.value.location == f"{__file__}:{inspect.getsourcelines(shown)[1] + 2}"


def test_custom_derivatives_refuse_it() -> None:
    def make(primal, fwd, bwd):
        function = volta.custom_vjp(primal)
        function.defvjp(fwd, bwd)
        return function

    plain = (lambda x: x * 2, lambda x: (x * 2, None), lambda residuals, ct: (ct,))
    printing = (lambda x: shown(x), lambda x: (shown(x), None), lambda residuals, ct: (shown(ct),))
    for i in range(3):
        function = make(*plain[:i], printing[i], *plain[i + 1 :])
        with pytest.raises(TraceError, match=r"debug\.print is called inside a custom_vjp function; print"):
            volta.grad(lambda x, f=function: f(x))(volta.Tensor(1.0))
