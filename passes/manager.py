"""What a pass is, how pipelines of them are written, and how they run.

Volta's passes are Python classes that rewrite a module in place; upstream MLIR's run through its own pass manager.
One pipeline, in MLIR's notation, mixes both::

    builtin.module(volta-autodiff,func.func(cse),volta-simplify{max-iterations=2})

A pass is declared once, and its fields are its options::

    @dataclass
    class Simplify(Pass, name="volta-simplify"):
        \"\"\"Rewrite by algebraic rules until nothing changes.\"\"\"

        max_iterations: int = option(8, "give up after this many rounds")

        def run(self, module: ir.Module) -> None: ...
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import functools
import gc
import re
import shlex
import sys
import types
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TextIO, Union, get_args, get_origin, get_type_hints

from volta_mlir.errors import CompileError, VoltaError
from volta_mlir.frames import most_telling
from volta_mlir.mlir import context, ir, passmanager

#: Every pass of Volta's by its name.
PASSES: dict[str, type[Pass]] = {}

#: Upstream passes worth knowing, for listings and suggestions. Every other one that the bindings have works too.
UPSTREAM_PASSES = {
    "canonicalize": "Fold constants and apply every op's canonical rewrites",
    "cse": "Merge identical operations without side effects",
    "linalg-fuse-elementwise-ops": "Fuse elementwise linalg operations on tensors",
    "loop-invariant-code-motion": "Move loop-invariant operations out of loops",
    "remove-dead-values": "Remove operands, results and functions that nothing uses",
    "sccp": "Propagate constants through branches and calls",
    "strip-debuginfo": "Replace every location by an unknown one",
    "symbol-dce": "Remove private symbols that nothing references",
}


class PipelineError(VoltaError, ValueError):
    """A pipeline, or an option of a pass, is written wrongly or names something that does not exist."""


class PassError(CompileError):
    """A pass failed, or left a module behind that does not verify. The message names the pass."""


class Pass(ABC):
    """One rewrite of a module. A subclass is a dataclass whose fields, all with defaults, are its options.

    The first sentence of its docstring describes it in listings. A field's type is bool, int, float, ``str``,
    a ``Literal`` of strings, a ``tuple[T, ...]`` of these (written ``a,b``), or one of these ``| None``.
    """

    name: ClassVar[str]

    def __init_subclass__(cls, *, name: str, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.name = name
        PASSES[name] = cls

    @abstractmethod
    def run(self, module: ir.Module) -> None:
        """Rewrites ``module`` in place; raises a VoltaError where that is impossible."""


def option(default: Any, help: str) -> Any:
    """A dataclass field for an option, with the description that ``volta-opt --help`` shows."""
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True)
class UpstreamPass:
    """A pass of upstream MLIR's.

    Attributes:
        name: what it is called, ``cse``.
        options: its options as they are written, ``max-iterations=2``.
        anchors: the operations inside the module that it is nested in, outermost first: ``("func.func",)``.
    """

    name: str
    options: str = ""
    anchors: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self._manager()  # so that a pass that cannot run is refused before anything runs

    def run(self, module: ir.Module) -> None:
        """Rewrites ``module`` in place."""
        manager = self._manager()
        manager.enable_verifier(False)  # run_pipeline verifies, where it is asked to
        manager.run(module.operation)

    def _manager(self) -> Any:
        text = f"{self.name}{{{self.options}}}" if self.options else self.name
        for anchor in reversed(self.anchors):
            text = f"{anchor}({text})"
        try:
            with context():
                return passmanager.PassManager.parse(f"builtin.module({text})")
        except ValueError as error:
            if "does not refer to a registered pass" in str(error):
                raise _unknown_pass(self.name) from None
            raise PipelineError(f"{self.name}: {' '.join(str(error).split())}") from None


def _unknown_pass(name: str) -> PipelineError:
    close = difflib.get_close_matches(name, [*PASSES, *UPSTREAM_PASSES], cutoff=0.5)
    hint = f"did you mean {' or '.join(close)}?" if close else "volta-opt --list-passes lists them"
    return PipelineError(f"there is no pass '{name}'; {hint}")


# -- options -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Option:
    """One option of a pass, as listings show it and pipelines write it."""

    name: str
    type: Any
    default: Any
    help: str

    def __str__(self) -> str:
        return f"{self.name}={_type_name(self.type)}"

    def parse(self, text: str) -> Any:
        """The value that ``text`` stands for; raises ValueError where it stands for none."""
        return _parse_value(text, self.type)


def options_of(pass_type: type[Pass]) -> list[Option]:
    """The options of a pass."""
    hints = get_type_hints(pass_type)
    return [
        Option(f.name.replace("_", "-"), hints[f.name], f.default, f.metadata.get("help", ""))
        for f in dataclasses.fields(pass_type)  # type: ignore[arg-type]  # every subclass is a dataclass
    ]


def _type_name(type_: Any) -> str:
    origin, args = get_origin(type_), get_args(type_)
    if origin is Literal:
        return "|".join(args)
    if origin is tuple:
        return f"{_type_name(args[0])},…"
    if origin in (Union, types.UnionType):
        return "|".join("none" if arg is type(None) else _type_name(arg) for arg in args)
    return str(type_.__name__)


def _parse_value(text: str, type_: Any) -> Any:
    origin, args = get_origin(type_), get_args(type_)
    if origin is Literal:
        if text not in args:
            raise ValueError(text)
        return text
    if origin is tuple:
        return tuple(_parse_value(item, args[0]) for item in text.split(",") if item)
    if origin in (Union, types.UnionType):
        if text == "none":
            return None
        return _parse_value(text, next(arg for arg in args if arg is not type(None)))
    if type_ is bool:
        if text not in ("true", "false"):
            raise ValueError(text)
        return text == "true"
    return type_(text)


def _make_pass(pass_type: type[Pass], text: str) -> Pass:
    """The pass with the options written in ``text``: ``max-iterations=4 fast=true``."""
    name = pass_type.name
    options = {option.name: option for option in options_of(pass_type)}
    known = f"its options are {' '.join(map(str, options.values()))}" if options else "it has none"
    try:
        items = shlex.split(text)
    except ValueError as error:
        raise PipelineError(f"{name}: cannot read the options '{text}': {error}") from None
    values = {}
    for item in items:
        key, equals, value = item.partition("=")
        if key not in options or not equals:
            raise PipelineError(f"{name}: there is no option '{item}'; {known}")
        try:
            values[key.replace("-", "_")] = options[key].parse(value)
        except ValueError:
            raise PipelineError(f"{name}: option '{key}' cannot be '{value}'; {known}") from None
    return pass_type(**values)


# -- pipelines ---------------------------------------------------------------------------------------------------

_ELEMENT = re.compile(r"(?P<name>[\w.-]+)\s*(\{(?P<options>.*)\}|\((?P<nested>.*)\))?", re.DOTALL)


def parse_pipeline(text: str) -> list[Pass | UpstreamPass]:
    """The passes of a pipeline in MLIR's notation; ``builtin.module(…)`` around it may be left out.

    Raises:
        PipelineError: the text is malformed, or a pass or an option in it does not exist.
    """
    whole = _ELEMENT.fullmatch(text.strip())
    if whole and whole["name"] == "builtin.module" and whole["nested"] is not None:
        text = whole["nested"]
    return list(_parse_elements(text, ()))


def _parse_elements(text: str, anchors: tuple[str, ...]) -> Iterator[Pass | UpstreamPass]:
    for element in _split(text):
        match = _ELEMENT.fullmatch(element)
        if match is None:
            raise PipelineError(f"expected pass, pass{{options}} or operation(passes) in a pipeline, got '{element}'")
        name, options = match["name"], match["options"] or ""
        if name == "builtin.module":
            raise PipelineError("builtin.module(…) goes around a whole pipeline, not around a part of one")
        if match["nested"] is not None:
            yield from _parse_elements(match["nested"], (*anchors, name))
        elif name not in PASSES:
            yield UpstreamPass(name, options, anchors)
        elif anchors:
            raise PipelineError(f"{name} runs on the whole module and cannot be nested in {anchors[-1]}(…)")
        else:
            yield _make_pass(PASSES[name], options)


def _split(text: str) -> Iterator[str]:
    """The elements between the commas of ``text`` that lie outside all brackets."""
    if not text.strip():
        return
    closers: list[str] = []
    start = 0
    for position, character in enumerate(text):
        if character in "({":
            closers.append(")" if character == "(" else "}")
        elif character in ")}":
            if not closers or closers.pop() != character:
                raise PipelineError(f"unbalanced '{character}' in the pipeline '{text}'")
        elif character == "," and not closers:
            yield text[start:position].strip()
            start = position + 1
    if closers:
        raise PipelineError(f"'{closers[-1]}' is missing in the pipeline '{text}'")
    yield text[start:].strip()


def run_pipeline(
    module: ir.Module,
    passes: Sequence[Pass | UpstreamPass],
    *,
    verify_each: bool = True,
    print_before: Collection[str] = (),
    print_after: Collection[str] = (),
    dump: TextIO | None = None,
) -> None:
    """Runs passes over a module, in order and in place, with the module's context as the current one.

    Args:
        module: the module; after an error it is in the state that the failing pass left behind.
        passes: what to run.
        verify_each: verify the module after every pass.
        print_before: names of passes before which the module is printed.
        print_after: names of passes after which the module is printed.
        dump: where it is printed; standard error by default.

    Raises:
        PassError: an upstream pass failed, or the module does not verify after a pass.
        VoltaError: what one of Volta's passes raised.
    """
    dump = dump or sys.stderr
    with context(), _uncollected():
        for step in passes:
            if step.name in print_before:
                _print(module, f"Before {step.name}", dump)
            try:
                step.run(module)
            except ir.MLIRError as error:
                raise _pass_error(f"pass {step.name} failed", error) from error
            except Exception as error:
                error.add_note(f"while running pass {step.name}")
                raise
            if step.name in print_after:
                _print(module, f"After {step.name}", dump)
            if verify_each:
                try:
                    module.operation.verify()
                except ir.MLIRError as error:
                    raise _pass_error(f"the module does not verify after pass {step.name}", error) from error


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Puts off looking for reference cycles, of which passes leave few: it would take a third of their time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _print(module: ir.Module, when: str, dump: TextIO) -> None:
    print(f"// -----// IR Dump {when} //----- //\n{module}", file=dump)


def _pass_error(what: str, error: Any) -> PassError:
    diagnostics = error.error_diagnostics
    if not diagnostics:  # they went to a handler of the context's
        return PassError(what)
    first = diagnostics[0]
    location = ir.Location.from_attr(first.location.attr)  # exceptions hold locations of the base class only
    return PassError(f"{what}: {first.message}", location=source_location(location))


def source_location(location: ir.Location) -> str | None:
    """``file:line:column`` of an MLIR location, without a column where it has none; None where it names no file.

    Where lines of layers are the innermost ones, it is the line that called them.
    """
    places = list(_places(location))
    return _text(places[most_telling([place.filename for place in places])]) if places else None


@functools.lru_cache(maxsize=4096)
def innermost_location(location: ir.Location) -> str | None:
    """Like :func:`source_location`, but of the innermost line, a layer's too."""
    return next(map(_text, _places(location)), None)


def _text(place: ir.FileLineColLoc) -> str:
    column = f":{place.start_col}" if place.start_col else ""
    return f"{place.filename}:{place.start_line}{column}"


def _places(location: ir.Location) -> Iterator[ir.FileLineColLoc]:
    """The lines that a location consists of, innermost first; of several that were fused, those of the first."""
    if isinstance(location, ir.FileLineColLoc):
        yield location
    elif isinstance(location, ir.CallSiteLoc):
        yield from _places(location.callee)
        yield from _places(location.caller)
    elif isinstance(location, ir.NameLoc):
        yield from _places(location.child_loc)
    elif isinstance(location, ir.FusedLoc):
        yield from next(filter(None, (list(_places(part)) for part in location.locations)), [])
