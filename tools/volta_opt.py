"""``volta-opt``: reads MLIR, runs passes over it in the order of the command line, and prints the result."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

from volta_mlir import __version__
from volta_mlir.dialects import OPS
from volta_mlir.errors import VoltaError
from volta_mlir.mlir import context, ir
from volta_mlir.passes import PASSES, Pass, PassError, PipelineError, UpstreamPass, parse_pipeline, run_pipeline
from volta_mlir.passes.manager import UPSTREAM_PASSES, options_of, source_location

SPLIT_MARKER = "// -----"
_BYTECODE = b"ML\xefR"  # what MLIR's binary form begins with


class InputError(VoltaError):
    """The input is neither text nor MLIR's bytecode."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs ``volta-opt`` and returns its exit status."""
    parser = _parser()
    own, flags = _separate_passes(parser, sys.argv[1:] if argv is None else argv)
    arguments = parser.parse_args(own)
    try:
        if arguments.list_ops:
            _write(_list_ops(), "-")
        elif arguments.list_passes:
            _write(_list_passes(), "-")
        else:
            return _run(arguments, _passes(arguments, flags))
    except VoltaError as error:
        print(f"volta-opt: error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # whoever reads our output has seen enough: leave the interpreter nothing to flush
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        print(f"volta-opt: error: {error.filename}: {error.strerror}", file=sys.stderr)
        return 1
    return 0


# -- command line ------------------------------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(1, f"volta-opt: error: {message}\n")


def _parser() -> _Parser:
    parser = _Parser(
        prog="volta-opt",
        usage="volta-opt [options] [--PASS[=OPTIONS] …] [FILE]",
        description="Run passes over MLIR, in the order of the command line, and print the result.",
        epilog=_describe_passes(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("file", nargs="?", default="-", metavar="FILE", help="what to read; - (the default) is standard input")
    add("-o", "--output", default="-", metavar="FILE", help="where to write; - (the default) is standard output")
    add("--pass-pipeline", metavar="TEXT", help="run 'builtin.module(pass,pass{option=value},func.func(pass))'")
    add(
        "--verify-each",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="verify the module after every pass (the default)",
    )
    add("--split-input-file", action="store_true", help=f"process the parts between '{SPLIT_MARKER}' lines one by one")
    add(
        "--verify-diagnostics",
        action="store_true",
        help="compare what is reported with '// expected-error @below {{text}}' comments",
    )
    add("--allow-unregistered-dialect", action="store_true", help="accept operations of unknown dialects")
    add("--print-ir-before-all", action="store_true", help="print the module before every pass, to standard error")
    add("--print-ir-after-all", action="store_true", help="print the module after every pass, to standard error")
    add("--print-ir-before", action="append", default=[], metavar="PASS", help="print the module before this pass")
    add("--print-ir-after", action="append", default=[], metavar="PASS", help="print the module after this pass")
    add("--mlir-print-debuginfo", action="store_true", help="print locations")
    add("--mlir-print-op-generic", action="store_true", help="print operations in generic form")
    add("--list-ops", action="store_true", help="list the operations of the volta dialect and exit")
    add("--list-passes", action="store_true", help="list the passes and exit")
    add("--version", action="version", version=f"Volta {__version__}", help="print Volta's version and exit")
    add("--debug", action="store_true", help="show the traceback of an internal error")
    return parser


def _separate_passes(parser: _Parser, argv: Sequence[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """``argv`` without its passes, and those as (name, options) in their order.

    Every ``--name`` that is not an option of ``parser`` is a pass: there is no list of upstream's.
    """
    own, flags = [], []
    for argument in argv:
        flag, _, value = argument.partition("=")
        if flag.startswith("--") and flag not in parser._option_string_actions:
            flags.append((flag[2:], value))
        else:
            own.append(argument)
    return own, flags


def _passes(arguments: argparse.Namespace, flags: list[tuple[str, str]]) -> list[Pass | UpstreamPass]:
    passes: list[Pass | UpstreamPass] = []
    for name, options in flags:
        passes += parse_pipeline(f"{name}{{{options}}}" if options else name)
    if arguments.pass_pipeline is not None:
        if flags:
            raise PipelineError(f"--{flags[0][0]} and --pass-pipeline exclude each other: put the pass in the pipeline")
        passes = parse_pipeline(arguments.pass_pipeline)
    names = {step.name for step in passes}
    for name in arguments.print_ir_before + arguments.print_ir_after:
        if name not in names:
            raise PipelineError(f"cannot print around pass '{name}': it is not among those to run")
    return passes


def _describe_passes() -> str:
    lines = ["passes:"]
    for name, pass_type in sorted(PASSES.items()):
        lines += [f"  --{name}", f"      {_summary(pass_type)}"]
        for option in options_of(pass_type):
            lines += [f"        {option}", f"            {option.help} (default: {_written(option.default)})"]
    lines += ["", "upstream passes (every other one that MLIR has works too):"]
    for name, description in UPSTREAM_PASSES.items():
        lines += [f"  --{name}", f"      {description}"]
    return "\n".join(lines)


def _written(value: Any) -> str:
    """An option's value as one writes it."""
    if isinstance(value, tuple):
        return ",".join(map(_written, value)) or "empty"
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def _list_ops() -> str:
    return _table({f"volta.{name}": _summary(op) for name, op in sorted(OPS.items())})


def _list_passes() -> str:
    return _table({name: _summary(pass_type) for name, pass_type in sorted(PASSES.items())} | UPSTREAM_PASSES)


def _summary(documented: type) -> str:
    """The first sentence of a docstring."""
    paragraph = " ".join((documented.__doc__ or "").strip().partition("\n\n")[0].split())
    return paragraph.partition(". ")[0].rstrip(".")


def _table(rows: dict[str, str]) -> str:
    width = max(map(len, rows), default=0)
    return "".join(f"{name:{width}}  {text}".rstrip() + "\n" for name, text in rows.items())


# -- running -----------------------------------------------------------------------------------------------------


def _run(arguments: argparse.Namespace, passes: Sequence[Pass | UpstreamPass]) -> int:
    if arguments.file == "-":
        name, source = "<stdin>", sys.stdin.buffer.read()
    else:
        name, source = arguments.file, Path(arguments.file).read_bytes()
    _check_encoding(name, source)
    outputs: list[str] = []
    failed = False
    for part in _split(source) if arguments.split_input_file else [source]:
        output, reported = _process(part, arguments, passes)
        # MLIR's name for text without a file is "-".
        reported = [replace(d, location=re.sub("^-(?=:)", name, d.location or "") or None) for d in reported]
        if output is not None:
            outputs.append(output)
        if arguments.verify_diagnostics:
            reported = _check_expected(part.decode(errors="replace"), name, reported)
        for diagnostic in reported:
            print(diagnostic, file=sys.stderr)
        failed |= any(diagnostic.kind == "error" for diagnostic in reported)
    if not failed:
        _write(f"\n{SPLIT_MARKER}\n".join(outputs), arguments.output)
    return int(failed)


def _check_encoding(name: str, source: bytes) -> None:
    """Raises InputError for text that is not UTF-8, which the bindings could not report errors about."""
    if source.startswith(_BYTECODE):
        return
    try:
        source.decode()
    except UnicodeDecodeError as error:
        line = source.count(b"\n", 0, error.start) + 1
        raise InputError(f"{name}:{line}: byte {error.object[error.start]:#04x} is not UTF-8") from None


def _split(source: bytes) -> list[bytes]:
    """The parts between split markers, each below as many empty lines as it takes to keep its line numbers."""
    parts = re.split(rb"^" + SPLIT_MARKER.encode() + rb"[ \t]*\n", source, flags=re.MULTILINE)
    line = 0
    padded = []
    for part in parts:
        padded.append(b"\n" * line + part)
        line += part.count(b"\n") + 1
    return padded


def _process(
    source: bytes, arguments: argparse.Namespace, passes: Sequence[Pass | UpstreamPass]
) -> tuple[str | None, list[Diagnostic]]:
    """The module in ``source`` after the passes, as text (None where something failed), and what was reported."""
    with _collect_diagnostics() as diagnostics, context() as ctx:
        ctx.allow_unregistered_dialects = arguments.allow_unregistered_dialect
        try:
            return _transform(source, arguments, passes), diagnostics
        except ir.MLIRError:  # the parser has reported what is wrong
            if not any(d.kind == "error" for d in diagnostics):
                diagnostics.append(Diagnostic("error", None, "cannot read the input"))
        except VoltaError as error:
            explained = isinstance(error, PassError) and any(d.kind == "error" for d in diagnostics)
            diagnostics.append(
                Diagnostic("note" if explained else "error", error.location if error.is_placed else None, error.message)
            )
        except Exception as error:
            if arguments.debug:
                raise
            # The pass manager notes which pass was running.
            when = " ".join(["internal error", *getattr(error, "__notes__", ["while reading the file"])])
            diagnostics.append(Diagnostic("error", None, f"{when}: {error!r}; --debug shows the traceback"))
        finally:
            ctx.allow_unregistered_dialects = False
    return None, diagnostics


def _transform(source: bytes, arguments: argparse.Namespace, passes: Sequence[Pass | UpstreamPass]) -> str:
    names = [step.name for step in passes]
    module = ir.Module.parse(source)
    run_pipeline(
        module,
        passes,
        verify_each=arguments.verify_each,
        print_before=names if arguments.print_ir_before_all else arguments.print_ir_before,
        print_after=names if arguments.print_ir_after_all else arguments.print_ir_after,
    )
    text = module.operation.get_asm(
        enable_debug_info=arguments.mlir_print_debuginfo,
        print_generic_op_form=arguments.mlir_print_op_generic,
    )
    return text.rstrip("\n") + "\n"


def _write(text: str, file: str) -> None:
    if file == "-":
        print(text, end="", flush=True)
    else:
        Path(file).write_text(text)


# -- diagnostics -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Diagnostic:
    """An error, warning, remark or note; ``location`` is ``file:line:column``, or None where that is not known."""

    kind: str
    location: str | None
    message: str

    @property
    def line(self) -> int | None:
        """The line that it is about."""
        match = re.search(r":(\d+)(:\d+)?$", self.location or "")
        return int(match[1]) if match else None

    def __str__(self) -> str:
        return f"{self.location or 'volta-opt'}: {self.kind}: {self.message}"


@contextmanager
def _collect_diagnostics() -> Iterator[list[Diagnostic]]:
    """Collects what MLIR reports, errors included, in its order."""
    diagnostics: list[Diagnostic] = []

    def collect(reported: Any) -> bool:
        kind = reported.severity.name.lower()
        diagnostics.append(Diagnostic(kind, source_location(reported.location), reported.message))
        for note in reported.notes:
            diagnostics.append(Diagnostic("note", source_location(note.location), note.message))
        return True

    handler = context().attach_diagnostic_handler(collect)
    context().emit_error_diagnostics = True  # to us, rather than into exceptions
    try:
        yield diagnostics
    finally:
        context().emit_error_diagnostics = False
        handler.detach()


_EXPECTED = re.compile(
    r"expected-(?P<kind>error|warning|remark|note) *(@(?P<where>[+-]\d+|above|below|unknown))? *\{\{(?P<text>.*?)\}\}"
)


def _check_expected(source: str, name: str, reported: Sequence[Diagnostic]) -> list[Diagnostic]:
    """The differences between what was reported and the ``expected-…`` comments in ``source``, as errors."""
    lines = source.splitlines()
    # "See current operation" is MLIR's own addition to most errors; tests need not spell it out.
    remaining = [d for d in reported if not d.message.startswith("see current operation")]
    differences = []
    for number, line in enumerate(lines, start=1):
        for comment in _EXPECTED.finditer(line):
            kind, text, about = comment["kind"], comment["text"], _line_meant(comment["where"], number, lines)
            found = [d for d in remaining if d.kind == kind and d.line == about and text in d.message]
            if found:
                remaining.remove(found[0])
            else:
                message = f'expected {kind} "{text}" was not reported'
                differences.append(Diagnostic("error", f"{name}:{number}", message))
    return differences + [Diagnostic("error", d.location, f"unexpected {d.kind}: {d.message}") for d in remaining]


def _line_meant(where: str | None, number: int, lines: Sequence[str]) -> int | None:
    """The line that an ``expected-…`` comment on line ``number`` is about; None where it says unknown."""
    if where is None:
        return number
    if where == "unknown":
        return None
    if where not in ("above", "below"):
        return number + int(where)
    step = -1 if where == "above" else 1
    number += step
    while 0 < number <= len(lines) and _EXPECTED.search(lines[number - 1]):  # comments can be stacked
        number += step
    return number
