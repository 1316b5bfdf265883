"""volta-opt as a program. What it does with the modules it reads is tested in lit_tests/."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import volta_mlir
from volta_mlir.dialects import OPS
from volta_mlir.errors import ShapeError
from volta_mlir.mlir import context, ir
from volta_mlir.passes import PASSES, Pass
from volta_mlir.passes.manager import option, source_location
from volta_mlir.tools.volta_opt import main

VOLTA_OPT = Path(sys.executable).parent / "volta-opt"

MODULE = """\
func.func @main(%x: tensor<4xf32>) -> tensor<4xf32> {
  %0 = "volta.neg"(%x) : (tensor<4xf32>) -> tensor<4xf32>
  %1 = "volta.neg"(%x) : (tensor<4xf32>) -> tensor<4xf32>
  %2 = "volta.add"(%0, %1) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  return %2 : tensor<4xf32>
}
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "main.mlir"
    path.write_text(MODULE)
    return str(path)


@pytest.fixture
def test_pass() -> Iterator[type[Pass]]:
    """A pass that fails in the way its option says."""

    @dataclass
    class Fail(Pass, name="volta-test-fail"):
        """Fail on purpose."""

        how: str = option("error", "error, unlocated, internal, invalid or reported")
        sizes: tuple[int, ...] = option((1, 2), "have no meaning")

        def run(self, module: ir.Module) -> None:
            first = module.body.operations[0].entry_block.operations[0]
            if self.how == "error":
                raise ShapeError("does not fit", location=source_location(first.location))
            if self.how == "unlocated":
                raise ShapeError("does not fit")
            if self.how == "internal":
                raise KeyError("oops")
            if self.how == "invalid":
                first.results[0].set_type(ir.Type.parse("tensor<5xf32>", context()))
            if self.how == "reported":
                first.location.emit_error("looks wrong")

    yield Fail
    del PASSES["volta-test-fail"]


def run(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    try:
        status = main(argv)
    except SystemExit as stopped:
        status = int(stopped.code or 0)
    captured = capsys.readouterr()
    return status, captured.out, captured.err


class TestPasses:
    def test_flags_and_pipeline_agree(self, file: str, capsys: pytest.CaptureFixture[str]) -> None:
        by_flags = run(capsys, "--cse", file, "--canonicalize=max-iterations=2")
        by_pipeline = run(capsys, file, "--pass-pipeline", "builtin.module(cse,canonicalize{max-iterations=2})")
        assert by_flags == by_pipeline
        status, out, err = by_flags
        assert (status, err) == (0, "")
        assert out.count("volta.neg") == 1

    def test_flags_and_pipeline_exclude_each_other(self, file: str, capsys: pytest.CaptureFixture[str]) -> None:
        status, out, err = run(capsys, file, "--cse", "--pass-pipeline=cse")
        assert (status, out) == (1, "")
        assert err.startswith("volta-opt: error: --cse and --pass-pipeline exclude each other")

    def test_options_of_a_pass(self, file: str, test_pass: type[Pass], capsys: pytest.CaptureFixture[str]) -> None:
        status, _, err = run(capsys, file, "--volta-test-fail=why=1")
        assert status == 1
        assert (
            err
            == "volta-opt: error: volta-test-fail: there is no option 'why=1'; its options are how=str sizes=int,…\n"
        )

    def test_unknown_pass(self, file: str, capsys: pytest.CaptureFixture[str]) -> None:
        status, _, err = run(capsys, file, "--volta-autodif")
        assert status == 1
        assert err.startswith("volta-opt: error: there is no pass 'volta-autodif'; did you mean volta-autodiff")

    def test_unknown_short_option(self, file: str, capsys: pytest.CaptureFixture[str]) -> None:
        status, _, err = run(capsys, file, "-x")
        assert status == 1
        assert err == "volta-opt: error: unrecognized arguments: -x\n"

    def test_printing(self, file: str, capsys: pytest.CaptureFixture[str]) -> None:
        _, _, err = run(capsys, file, "--cse", "--symbol-dce", "--print-ir-before-all", "--print-ir-after=cse")
        assert [line for line in err.splitlines() if "IR Dump" in line] == [
            "// -----// IR Dump Before cse //----- //",
            "// -----// IR Dump After cse //----- //",
            "// -----// IR Dump Before symbol-dce //----- //",
        ]

    def test_printing_around_a_pass_that_does_not_run(self, file: str, capsys: pytest.CaptureFixture[str]) -> None:
        status, _, err = run(capsys, file, "--print-ir-before=cse")
        assert status == 1
        assert "cannot print around pass 'cse'" in err


class TestFiles:
    def test_standard_input(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"nonsense")))
        assert run(capsys) == (
            1,
            "",
            "<stdin>:1:1: error: custom op 'nonsense' is unknown (tried 'builtin.nonsense' as well)\n",
        )

    def test_bytecode(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path = tmp_path / "main.mlirbc"
        path.write_bytes(ir.Module.parse(MODULE, context()).operation.get_asm(binary=True))
        status, out, err = run(capsys, str(path))
        assert (status, err) == (0, "")
        assert "func.func @main" in out

    def test_output_is_written_only_on_success(
        self, file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        output = tmp_path / "out.mlir"
        Path(file).write_text(MODULE + "// -----\nnonsense")
        assert run(capsys, file, "--split-input-file", "-o", str(output))[0] == 1
        assert not output.exists()
        Path(file).write_text(MODULE + "// -----\n" + MODULE)
        assert run(capsys, file, "--split-input-file", "-o", str(output)) == (0, "", "")
        assert output.read_text().count("func.func @main") == 2
        assert run(capsys, str(output), "--split-input-file")[1] == output.read_text()

    def test_missing_input(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        missing = tmp_path / "missing.mlir"
        assert run(capsys, str(missing)) == (1, "", f"volta-opt: error: {missing}: No such file or directory\n")

    def test_output_forms(self, file: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert '"func.return"' in run(capsys, file, "--mlir-print-op-generic")[1]
        assert "loc(" in run(capsys, file, "--mlir-print-debuginfo")[1]
        assert "loc(" not in run(capsys, file)[1]

    def test_unregistered_dialects(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path = tmp_path / "foreign.mlir"
        path.write_text('"foreign.op"() : () -> ()')
        assert run(capsys, str(path))[0] == 1
        assert run(capsys, str(path), "--allow-unregistered-dialect")[0] == 0
        assert run(capsys, str(path))[0] == 1, "the option is not left behind"


class TestErrors:
    def test_bytes_that_are_no_text(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path = tmp_path / "latin.mlir"
        path.write_bytes(MODULE.replace("volta.add", "volta.\u00fc").encode("latin-1"))
        assert run(capsys, str(path)) == (1, "", f"volta-opt: error: {path}:4: byte 0xfc is not UTF-8\n")

    def test_bytecode_is_read(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path = tmp_path / "main.mlirbc"
        with context(), path.open("wb") as file:
            ir.Module.parse(MODULE).operation.write_bytecode(file)
        status, out, err = run(capsys, str(path), "--cse")
        assert (status, out.count("volta.neg"), err) == (0, 1, "")

    def test_of_a_pass_have_a_place(self, file: str, test_pass: type[Pass], capsys: pytest.CaptureFixture[str]) -> None:
        assert run(capsys, file, "--volta-test-fail") == (1, "", f"{file}:2:8: error: does not fit\n")

    def test_of_a_pass_without_a_place(
        self, file: str, test_pass: type[Pass], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run(capsys, file, "--volta-test-fail=how=unlocated") == (1, "", "volta-opt: error: does not fit\n")

    def test_of_the_verifier_name_the_pass(
        self, file: str, test_pass: type[Pass], capsys: pytest.CaptureFixture[str]
    ) -> None:
        status, out, err = run(capsys, file, "--volta-test-fail=how=invalid")
        assert (status, out) == (1, "")
        assert err.startswith(f"{file}:2:8: error: 'volta.neg'")
        assert err.endswith("volta-opt: note: the module does not verify after pass volta-test-fail\n")

    def test_of_the_verifier_can_be_put_off(
        self, file: str, test_pass: type[Pass], capsys: pytest.CaptureFixture[str]
    ) -> None:
        status, out, err = run(capsys, file, "--volta-test-fail=how=invalid", "--no-verify-each")
        assert (status, err) == (0, "")
        assert "tensor<5xf32>" in out

    def test_that_a_pass_only_reports(
        self, file: str, test_pass: type[Pass], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run(capsys, file, "--volta-test-fail=how=reported") == (1, "", f"{file}:2:8: error: looks wrong\n")

    def test_internal_ones_of_a_verifier_are_one_line(
        self, file: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(OPS["neg"], "check_signature", lambda op: 1 / 0)
        status, out, err = run(capsys, file, "--cse")
        assert (status, out, err.count("\n")) == (1, "", 1)
        assert err.startswith("volta-opt: error: internal error while reading the file: ZeroDivisionError(")

    def test_internal_ones_are_one_line(
        self, file: str, test_pass: type[Pass], capsys: pytest.CaptureFixture[str]
    ) -> None:
        status, out, err = run(capsys, file, "--volta-test-fail=how=internal")
        assert (status, out) == (1, "")
        assert err == (
            "volta-opt: error: internal error while running pass volta-test-fail: KeyError('oops');"
            " --debug shows the traceback\n"
        )

    def test_internal_ones_show_a_traceback_on_request(self, file: str, test_pass: type[Pass]) -> None:
        with pytest.raises(KeyError, match="oops"):
            main([file, "--volta-test-fail=how=internal", "--debug"])


class TestVerifyDiagnostics:
    def check(
        self, source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], *argv: str
    ) -> tuple[int, list[str]]:
        path = tmp_path / "test.mlir"
        path.write_text(source)
        status, _, err = run(capsys, str(path), "--verify-diagnostics", *argv)
        return status, [line.removeprefix(str(path)) for line in err.splitlines()]

    @pytest.mark.parametrize(
        "source",
        [
            "nonsense // expected-error {{custom op 'nonsense'}}",
            "// expected-error @below {{custom op}}\nnonsense",
            "// expected-error@below{{custom op}}\nnonsense",
            "// expected-error @+2 {{custom op}}\n\nnonsense",
            "nonsense\n// expected-error @above {{custom op}}",
            "nonsense\n\n// expected-error @-2 {{custom op}}",
        ],
    )
    def test_met(self, source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert self.check(source, tmp_path, capsys) == (0, [])

    def test_not_met(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        source = "// expected-error @below {{other}}\nnonsense // expected-note {{custom}}"
        assert self.check(source, tmp_path, capsys) == (
            1,
            [
                ':1: error: expected error "other" was not reported',
                ':2: error: expected note "custom" was not reported',
                ":2:1: error: unexpected error: custom op 'nonsense' is unknown (tried 'builtin.nonsense' as well)",
            ],
        )

    def test_of_passes(self, test_pass: type[Pass], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        lines = MODULE.splitlines()
        lines[1] += " // expected-error {{does not fit}}"
        assert self.check("\n".join(lines), tmp_path, capsys, "--volta-test-fail") == (0, [])
        lines[1] = lines[1].replace("does not fit", "result type")
        assert self.check("\n".join(lines), tmp_path, capsys, "--volta-test-fail")[0] == 1

    def test_without_a_place(self, test_pass: type[Pass], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        source = "// expected-error @unknown {{does not fit}}\n" + MODULE
        assert self.check(source, tmp_path, capsys, "--volta-test-fail=how=unlocated") == (0, [])


class TestListings:
    def test_version(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(capsys, "--version")[:2] == (0, f"Volta {volta_mlir.__version__}\n")

    def test_help_describes_every_pass_and_option(
        self, test_pass: type[Pass], capsys: pytest.CaptureFixture[str]
    ) -> None:
        status, out, _ = run(capsys, "--help")
        assert status == 0
        assert "  --volta-test-fail\n      Fail on purpose\n" in out
        assert "how=str\n            error, unlocated, internal, invalid or reported (default: error)\n" in out
        assert "sizes=int,…\n            have no meaning (default: 1,2)\n" in out
        assert "  --cse\n      Merge identical operations" in out
        for name in PASSES:
            assert f"  --{name}\n" in out

    def test_passes(self, capsys: pytest.CaptureFixture[str]) -> None:
        status, out, _ = run(capsys, "--list-passes")
        assert status == 0
        assert {line.split()[0] for line in out.splitlines()} >= {*PASSES, "cse"}

    def test_ops(self, capsys: pytest.CaptureFixture[str]) -> None:
        status, out, _ = run(capsys, "--list-ops")
        assert status == 0
        assert any(line.startswith("volta.add ") for line in out.splitlines())
        assert all(len(line.split()) > 1 for line in out.splitlines()), "every op is described"


class TestProcess:
    """The installed program."""

    @pytest.fixture
    def environment(self) -> dict[str, str]:
        """Without the measuring of coverage, which takes time."""
        return {key: value for key, value in os.environ.items() if not key.startswith("COVERAGE_")}

    def test_prints_nothing_but_the_result(self, file: str, environment: dict[str, str]) -> None:
        done = subprocess.run([VOLTA_OPT, file, "--cse"], capture_output=True, text=True, check=True, env=environment)
        assert done.stdout.startswith("module {")
        assert done.stderr == ""

    def test_errors_are_lines_with_a_place(self, file: str, environment: dict[str, str]) -> None:
        Path(file).write_text(MODULE.replace("-> tensor<4xf32>\n  %1", "-> tensor<5xf32>\n  %1"))
        done = subprocess.run([VOLTA_OPT, file], capture_output=True, text=True, check=False, env=environment)
        assert done.returncode == 1
        assert all(line.startswith(f"{file}:") for line in done.stderr.splitlines())

    def test_a_closed_pipe_is_no_error_message(self, file: str, environment: dict[str, str]) -> None:
        done = subprocess.run(
            f"{VOLTA_OPT} {file} | true", shell=True, capture_output=True, text=True, check=False, env=environment
        )
        assert done.stderr == ""

    def test_it_starts_with_few_modules(self, file: str, environment: dict[str, str]) -> None:
        # What a start takes: `make bench-compile` has the seconds.
        command = [sys.executable, "-X", "importtime", VOLTA_OPT, file, "--cse"]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
        assert "volta_mlir.tools.volta_opt" in imported
        assert not {"iree.compiler", "iree.runtime", "networkx", "rich", "scipy"} & imported
        assert len(imported) < 450
