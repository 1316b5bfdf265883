"""Passes: their options, pipelines of them, and running those."""

from __future__ import annotations

import inspect
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import pytest

from volta_mlir import nn
from volta_mlir.errors import CompileError, ShapeError, VoltaError
from volta_mlir.mlir import context, ir
from volta_mlir.passes import PASSES, Pass, PassError, PipelineError, UpstreamPass, parse_pipeline, run_pipeline
from volta_mlir.passes.manager import UPSTREAM_PASSES, innermost_location, option, options_of, source_location

LAYER = inspect.getsourcefile(nn.functional.linear)

MODULE = """
func.func private @unused() { return }
func.func @main(%x: tensor<4xf32>) -> tensor<4xf32> {
  %0 = "volta.neg"(%x) : (tensor<4xf32>) -> tensor<4xf32>
  %1 = "volta.neg"(%x) : (tensor<4xf32>) -> tensor<4xf32> loc("model.py":7:3)
  %2 = "volta.add"(%0, %1) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  return %2 : tensor<4xf32>
}
"""


@pytest.fixture(autouse=True)
def _own_passes() -> Iterator[None]:
    """Passes that a test defines are forgotten after it."""
    before = dict(PASSES)
    yield
    PASSES.clear()
    PASSES.update(before)


@pytest.fixture
def module() -> ir.Module:
    return ir.Module.parse(MODULE, context())


def define_options_pass() -> type[Pass]:
    @dataclass
    class Options(Pass, name="volta-test-options"):
        """Has options of every type.

        This is not part of the description.
        """

        max_rounds: int = option(8, "how often")
        scale: float = option(1.0, "how much")
        fast: bool = option(False, "whether to hurry")
        target: str = option("cpu", "what for")
        mode: Literal["all", "none"] = option("all", "which")
        sizes: tuple[int, ...] = option((), "how large")
        budget: int | None = option(None, "how many bytes")
        undescribed: int = 0

        def run(self, module: ir.Module) -> None: ...

    return Options


def define_pass(run: Any) -> type[Pass]:
    @dataclass
    class Custom(Pass, name="volta-test"):
        """Does what a test wants."""

        def run(self, module: ir.Module) -> None:
            run(module)

    return Custom


class TestRegistry:
    def test_a_subclass_registers_itself(self) -> None:
        cls = define_options_pass()
        assert cls.name == "volta-test-options"
        assert PASSES["volta-test-options"] is cls

    def test_every_pass_and_option_is_described(self) -> None:
        assert PASSES
        for name, pass_type in PASSES.items():
            assert pass_type.__doc__, name
            assert not pass_type.__doc__.startswith(f"{pass_type.__name__}("), f"{name} has no docstring"
            for opt in options_of(pass_type):
                assert opt.help, f"{name}: {opt.name}"

    def test_the_upstream_passes_that_are_listed_exist(self) -> None:
        for name in UPSTREAM_PASSES:
            UpstreamPass(name)

    def test_options_are_shown_as_one_writes_them(self) -> None:
        assert [str(opt) for opt in options_of(define_options_pass())] == [
            "max-rounds=int",
            "scale=float",
            "fast=bool",
            "target=str",
            "mode=all|none",
            "sizes=int,…",
            "budget=int|none",
            "undescribed=int",
        ]


class TestOptions:
    def test_defaults(self) -> None:
        cls = define_options_pass()
        assert parse_pipeline("volta-test-options") == [cls()]
        assert parse_pipeline("volta-test-options{}") == [cls()]

    def test_every_type(self) -> None:
        cls: Any = define_options_pass()
        text = "max-rounds=3 scale=0.5 fast=true target='a b' mode=none sizes=1,2 budget=1024"
        assert parse_pipeline(f"volta-test-options{{{text}}}") == [
            cls(max_rounds=3, scale=0.5, fast=True, target="a b", mode="none", sizes=(1, 2), budget=1024)
        ]

    def test_none_and_empty(self) -> None:
        cls: Any = define_options_pass()
        assert parse_pipeline("volta-test-options{budget=none sizes= fast=false}") == [cls()]

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            (
                "rounds=3",
                "volta-test-options: there is no option 'rounds=3'; its options are max-rounds=int scale=float",
            ),
            ("max_rounds=3", "there is no option 'max_rounds=3'"),
            ("fast", "there is no option 'fast'"),
            ("max-rounds=x", "option 'max-rounds' cannot be 'x'; its options are max-rounds=int"),
            ("fast=yes", "option 'fast' cannot be 'yes'"),
            ("mode=some", "option 'mode' cannot be 'some'"),
            ("sizes=1,x", "option 'sizes' cannot be '1,x'"),
            ("target='a", "cannot read the options 'target='a'"),
        ],
    )
    def test_wrong_ones_are_refused(self, text: str, message: str) -> None:
        define_options_pass()
        with pytest.raises(PipelineError, match=re.escape(message)):
            parse_pipeline(f"volta-test-options{{{text}}}")

    def test_a_pass_without_options_says_so(self) -> None:
        define_pass(lambda module: None)
        with pytest.raises(PipelineError, match="no option 'x=1'; it has none"):
            parse_pipeline("volta-test{x=1}")


class TestPipelines:
    def test_both_kinds_mix(self) -> None:
        cls: Any = define_options_pass()
        text = """builtin.module(
            volta-test-options{sizes=1,2 max-rounds=3},
            func.func(cse, canonicalize{max-iterations=2 top-down=false}),
            symbol-dce
        )"""
        assert parse_pipeline(text) == [
            cls(max_rounds=3, sizes=(1, 2)),
            UpstreamPass("cse", anchors=("func.func",)),
            UpstreamPass("canonicalize", "max-iterations=2 top-down=false", ("func.func",)),
            UpstreamPass("symbol-dce"),
        ]

    def test_the_module_around_it_may_be_left_out(self) -> None:
        assert parse_pipeline("cse,symbol-dce") == parse_pipeline("builtin.module(cse,symbol-dce)")

    @pytest.mark.parametrize("text", ["", "  ", "builtin.module()"])
    def test_empty(self, text: str) -> None:
        assert parse_pipeline(text) == []

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("csee", "there is no pass 'csee'; did you mean cse?"),
            ("volta-autodif", "there is no pass 'volta-autodif'; did you mean volta-autodiff"),
            ("qqqqq", "there is no pass 'qqqqq'; volta-opt --list-passes lists them"),
            ("cse,", "expected pass, pass{options} or operation(passes) in a pipeline, got ''"),
            ("cse canonicalize", "got 'cse canonicalize'"),
            ("builtin.module(cse", "')' is missing in the pipeline"),
            ("cse)", "unbalanced ')'"),
            ("cse{)", "unbalanced ')'"),
            ("canonicalize{rounds=1}", "canonicalize: <Pass-Options-Parser>: no such option rounds"),
            ("func.func(volta-autodiff)", "volta-autodiff runs on the whole module and cannot be nested in func.func"),
            ("builtin.module(builtin.module(volta-autodiff))", "goes around a whole pipeline"),
            ("builtin.module(cse),cse", "goes around a whole pipeline"),
        ],
    )
    def test_wrong_ones_are_refused(self, text: str, message: str) -> None:
        with pytest.raises(PipelineError, match=re.escape(message)) as caught:
            parse_pipeline(text)
        assert isinstance(caught.value, VoltaError)
        assert isinstance(caught.value, ValueError)

    def test_a_pass_that_needs_a_function_says_so(self) -> None:
        with pytest.raises(PipelineError, match=r"restricted to 'func\.func'.*did you intend to nest"):
            parse_pipeline("acc-legalize-serial")


class TestRunning:
    def test_upstream_passes(self, module: ir.Module) -> None:
        run_pipeline(module, parse_pipeline("func.func(cse),symbol-dce"))
        assert str(module).count("volta.neg") == 1
        assert "@unused" not in str(module)

    def test_passes_run_in_order(self, module: ir.Module) -> None:
        seen: list[int] = []
        define_pass(lambda module: seen.append(str(module).count("volta.neg")))
        run_pipeline(module, parse_pipeline("volta-test,cse,volta-test"))
        assert seen == [2, 1]

    def test_what_is_printed_and_where(self, module: ir.Module) -> None:
        dump = io.StringIO()
        passes = parse_pipeline("cse,symbol-dce")
        run_pipeline(module, passes, print_before={"cse"}, print_after={"cse", "symbol-dce"}, dump=dump)
        assert re.findall(r"// -----// IR Dump (.*) //----- //\nmodule", dump.getvalue()) == [
            "Before cse",
            "After cse",
            "After symbol-dce",
        ]

    def test_printing_goes_to_standard_error(self, module: ir.Module, capsys: pytest.CaptureFixture[str]) -> None:
        run_pipeline(module, parse_pipeline("cse"), print_after=["cse"])
        captured = capsys.readouterr()
        assert "IR Dump After cse" in captured.err
        assert captured.out == ""

    def test_a_module_that_does_not_verify_names_the_pass(self, module: ir.Module) -> None:
        define_pass(lambda module: break_result_type(module))
        with pytest.raises(PassError, match=r"does not verify after pass volta-test: 'volta\.neg'") as caught:
            run_pipeline(module, parse_pipeline("cse,volta-test,symbol-dce"))
        assert isinstance(caught.value, CompileError)
        assert caught.value.location == "-:4:8"
        assert '"unused"' in str(module), "later passes do not run"

    def test_verification_can_be_left_out(self, module: ir.Module) -> None:
        define_pass(lambda module: break_result_type(module))
        run_pipeline(module, parse_pipeline("volta-test"), verify_each=False)
        assert not verifies(module)

    def test_errors_of_mlirs_in_a_pass_name_it(self, module: ir.Module) -> None:
        define_pass(lambda module: ir.Module.parse("nonsense", context()))
        with pytest.raises(PassError, match="pass volta-test failed: custom op 'nonsense' is unknown"):
            run_pipeline(module, parse_pipeline("volta-test"))

    def test_errors_of_voltas_pass_through(self, module: ir.Module) -> None:
        def fail(module: ir.Module) -> None:
            raise ShapeError("does not fit", location="model.py:7")

        define_pass(fail)
        with pytest.raises(ShapeError, match=r"does not fit \(at model\.py:7\)") as caught:
            run_pipeline(module, parse_pipeline("volta-test"))
        assert caught.value.__notes__ == ["while running pass volta-test"]


class TestSourceLocation:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ('loc("model.py":7:3)', "model.py:7:3"),
            ('loc("model.py":7:0)', "model.py:7"),
            ('loc(callsite("model.py":7:3 at "main.py":1:2))', "model.py:7:3"),
            ('loc(callsite(unknown at "main.py":1:2))', "main.py:1:2"),
            ('loc("name"("model.py":7:3))', "model.py:7:3"),
            ('loc(fused["name", "model.py":7:3, "main.py":1:2])', "model.py:7:3"),
            (f'loc(callsite("{LAYER}":7:3 at "main.py":1:2))', "main.py:1:2"),
            (f'loc(fused[callsite("{LAYER}":7:3 at "main.py":1:2), "other.py":3:4])', "main.py:1:2"),
            (f'loc("{LAYER}":7:3)', f"{LAYER}:7:3"),
            ("loc(unknown)", None),
            ('loc("name")', None),
        ],
    )
    def test_every_kind(self, text: str, expected: str | None) -> None:
        module = ir.Module.parse(f"module {{}} {text}", context())
        assert source_location(module.operation.location) == expected

    def test_the_innermost_line_may_be_a_layers(self) -> None:
        module = ir.Module.parse(f'module {{}} loc(callsite("{LAYER}":7:3 at "main.py":1:2))', context())
        assert innermost_location(module.operation.location) == f"{LAYER}:7:3"


def break_result_type(module: ir.Module) -> None:
    neg = function_named(module, "main").entry_block.operations[0]
    neg.results[0].set_type(ir.Type.parse("tensor<5xf32>", context()))


def function_named(module: ir.Module, name: str) -> Any:
    return next(op for op in module.body.operations if ir.StringAttr(op.attributes["sym_name"]).value == name)


def verifies(module: ir.Module) -> bool:
    try:
        return bool(module.operation.verify())
    except ir.MLIRError:
        return False
