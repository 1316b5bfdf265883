"""jit: trace, lower, compile, cache and call.

::

    step = volta.jit(train_step, donate=("model", "opt_state"))
    model, opt_state, loss = step(model, opt_state, x, y)     # traces and compiles at the first call
    step.lower(model, opt_state, x, y).compile("cpu").save("step.vmfb")
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import logging
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np

from volta_mlir import __version__, debug
from volta_mlir import trace as tracing
from volta_mlir import tree as trees
from volta_mlir.cache import Cache
from volta_mlir.calls import (
    Static,
    Structure,
    TracedCall,
    borrowed,
    describe_tree,
    flatten_tree,
    leaf_names,
    signature_leaves,
    trace_call,
)
from volta_mlir.donation import returned_arguments
from volta_mlir.dtypes import TensorSpec
from volta_mlir.errors import ArtifactError, BudgetError, CompileError, NaNError, OptionError, TraceError, warn
from volta_mlir.mlir import PACKAGE, context, function_named, ir, spec_of
from volta_mlir.progress import working
from volta_mlir.reports import MemoryReport, format_bytes, parse_bytes
from volta_mlir.runtime.buffer import DeviceBuffer
from volta_mlir.runtime.device import Device
from volta_mlir.runtime.device import device as find_device
from volta_mlir.runtime.ending import under_way
from volta_mlir.runtime.module import LoadedModule
from volta_mlir.runtime.signature import ATTRIBUTE, FunctionSignature, Signature, Tree, leaf, to_json
from volta_mlir.tensor import Tensor

if TYPE_CHECKING:
    from volta_mlir.costs import CostReport
    from volta_mlir.passes.fuse import FusionReport
    from volta_mlir.passes.remat import RematReport
    from volta_mlir.plan import Plan

log = logging.getLogger("volta.trace")

#: The passes that ``{"fuse": False}`` leaves out. IREE, which fuses then, does not fuse across outlined pieces.
_FUSION = {"volta-align", "volta-fuse", "volta-outline"}
#: How often the goal of rematerialisation is corrected by what IREE would allocate.
_FITTING_ROUNDS = 6
#: The share of a budget that is used well enough for no further round; and by how much a guess is lowered, as a share,
#: since the next plan rarely takes exactly as many times more than the model says as the last one did.
_WELL_USED, _CAUTION = 0.95, 0.03
#: A goal of rematerialisation that needs none.
_UNBOUNDED = 2**62
#: iree-compile flags that take less memory, and up to four times as long: products read and write operands as they are.
_SMALLER = ("--iree-opt-data-tiling=false",)
#: The share of the peak that they have to save where nothing asks for so much.
_WORTHWHILE = 0.05

#: A warning is given when a function has been traced this many times.
RETRACE_WARNING = 8


@overload
def jit(
    function: Callable[..., Any],
    *,
    static: str | Iterable[str] = (),
    donate: str | Iterable[str] = (),
    device: str | Device | None = None,
    options: Mapping[str, Any] | None = None,
) -> Jitted: ...


@overload
def jit(
    *,
    static: str | Iterable[str] = (),
    donate: str | Iterable[str] = (),
    device: str | Device | None = None,
    options: Mapping[str, Any] | None = None,
) -> Callable[[Callable[..., Any]], Jitted]: ...


def jit(
    function: Callable[..., Any] | None = None,
    *,
    static: str | Iterable[str] = (),
    donate: str | Iterable[str] = (),
    device: str | Device | None = None,
    options: Mapping[str, Any] | None = None,
) -> Any:
    """Compiles a function of tensors: traced once for each signature, compiled by IREE, cached on disk.

    Args:
        function: takes and returns pytrees of tensors (and Modules). Its Python code runs when it is traced, not when
            the compiled program is called. The object of a bound method, or a Module itself, is an argument like any
            other.
        static: names of arguments that are ordinary Python values, compared by type and value; a new one traces again.
        donate: names of arguments whose buffers the results may take over, such as the model and the optimizer's
            state of a training step. A donated tensor can't be used after the call. ``"auto"`` donates each argument
            of which the result, or an element of it, has the structure, shapes and dtypes, as in
            ``step(model, state, x, y) -> (model, state, loss)``: see :attr:`Lowered.donated_arguments`. It leaves out
            an argument that is a single tensor, unless the result at the same position is like it, and arguments that
            are alike of which not all come back.
        device: where it runs, ``"cpu"``, ``"cuda:0"``, ``"vulkan"``; default the CPU.
        options:
            - ``{"memory_budget": "2GiB"}``: the most memory that a call may take, arguments, results and intermediate
              values together; bytes as a number or a text with a unit, or ``"min"``, the least that is found (but for a
              twentieth, where that would take much longer). What does not fit is computed again in the backward pass.
              The default, ``"auto"``, computes again what takes next to no time; None keeps everything.
            - ``{"fuse": False}`` leaves out the passes volta-align, volta-fuse and volta-outline.
            - ``{"flags": [...]}`` adds iree-compile flags. A program from the cache is not compiled, so that files
              which a flag asks for are written once; see ``VOLTA_CACHE=0``.
            - ``{"explain_retrace": True}`` logs, at each further trace, which leaf of the arguments changed; False
              also leaves out the warning after several.

    Returns:
        A :class:`Jitted` with the function's signature; usable as a decorator too, also of methods.

    Example:
        >>> import volta_mlir as volta
        >>> @volta.jit
        ... def f(x, y):
        ...     return x @ y + 1.0
        >>> f(volta.ones((1, 2)), volta.ones((2, 1))).tolist()
        [[3.0]]
    """
    if function is None:
        return functools.partial(jit, static=static, donate=donate, device=device, options=options)
    # What an object holds may change between calls, which a captured object would hide.
    instance = getattr(function, "__self__", None) if inspect.ismethod(function) else None
    if hasattr(function, "is_trainable"):  # a Module
        instance, function = function, type(function).forward  # type: ignore[attr-defined]  # a Module has it
    jitted = Jitted(
        getattr(function, "__func__", function), static=static, donate=donate, device=device, options=options
    )
    return jitted.__get__(instance)


def _parse_budget(budget: Any) -> int | Literal["auto"] | None:
    """The bytes that an option ``memory_budget`` says, 0 for as few as possible."""
    if budget is None or budget == "auto":
        return budget
    if isinstance(budget, int | np.integer) and not isinstance(budget, bool) and budget > 0:
        return int(budget)
    if budget == "min":
        return 0
    try:
        if isinstance(budget, str) and (number := parse_bytes(budget)) > 0:
            return number
    except ValueError:
        pass
    raise OptionError(
        f'jit: memory_budget is a number of bytes, a text such as "2GiB", "min" or "auto"; got {budget!r}'
    )


def _names(names: str | Iterable[str]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)


class Jitted:
    """A function that is compiled when it is called; made by :func:`jit`.

    Example:
        >>> import volta_mlir as volta
        >>> double = volta.jit(lambda x: x * 2)
        >>> type(double).__name__, double(volta.ones(2)).tolist()
        ('Jitted', [2.0, 2.0])
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        static: str | Iterable[str],
        donate: str | Iterable[str],
        device: str | Device | None,
        options: Mapping[str, Any] | None,
    ) -> None:
        functools.update_wrapper(self, function, updated=())
        self.function = function
        self.signature = inspect.signature(function)
        self.static = _names(static)
        #: Names of arguments, or "auto".
        self.donate = "auto" if donate == "auto" else _names(donate)
        self.options = dict(options or {})
        unknown_options = self.options.keys() - {"flags", "fuse", "explain_retrace", "memory_budget"}
        if unknown_options:
            raise OptionError(
                f"jit: unknown options {sorted(unknown_options)}; there are flags, fuse, memory_budget and"
                " explain_retrace"
            )
        if isinstance(self.options.get("flags"), str):
            raise OptionError('jit: flags is a list of texts, such as ["--iree-opt-level=O2"]')
        self.memory_budget = _parse_budget(self.options.get("memory_budget", "auto"))
        parameters = self.signature.parameters
        variadic = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
        for name in (*self.static, *(() if self.donate == "auto" else self.donate)):
            if name not in parameters and not variadic:
                raise TraceError(
                    f"jit: {getattr(function, '__name__', function)} has no argument {name!r};"
                    f" it has {', '.join(parameters) or 'none'}"
                )
        self._device_name = device
        self._entries: dict[Any, Executable] = {}

    @property
    def device(self) -> Device:
        """Where the compiled function runs."""
        return find_device(self._device_name)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else BoundJitted(self, instance)

    def __reduce__(self) -> Any:
        """Like a function by its name where that leads here; otherwise a copy that has compiled nothing yet."""
        found: Any = sys.modules.get(self.__module__)
        path: str = vars(self)["__qualname__"]
        for name in path.split("."):
            found = getattr(found, name, None)
        if found is self:
            return path
        settings: dict[str, Any] = {
            "static": self.static,
            "donate": self.donate,
            "device": self._device_name,
            "options": self.options,
        }
        return functools.partial(Jitted, self.function, **settings), ()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if tracing.current() is not None:
            return self.function(*args, **kwargs)  # inside another trace it is a part of that program
        with under_way:
            args, kwargs = self._normalize(args, kwargs)
            tensors, structure = flatten_tree((args, kwargs))
            arguments = [t if isinstance(t, Tensor) else borrowed(t) for t in tensors]
            key = (structure, tuple([t.spec for t in arguments]), tuple([t._weak for t in arguments]))
            entry = self._entries.get(key)
            if entry is None:
                self._explain(key)
                entry = self._entries[key] = Lowered(self, args, kwargs).compile().executable
            return entry(arguments, (args, kwargs), self)

    def lower(self, *args: Any, **kwargs: Any) -> Lowered:
        """Traces for these arguments without running anything; :func:`volta_mlir.spec` can stand for tensors.

        Raises:
            TraceError, ShapeError, DTypeError: the function can't be traced; the error names the user's line.
        """
        return Lowered(self, *self._normalize(args, kwargs))

    def _normalize(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Keyword arguments at their positions, and static ones marked."""
        if not kwargs and not self.static:
            return args, kwargs
        bound = self.signature.bind(*args, **kwargs)
        if self.static:
            for name, value in bound.arguments.items():
                kind = self.signature.parameters[name].kind
                if kind is inspect.Parameter.VAR_KEYWORD:
                    value = {k: _static(k, v) if {k, name} & set(self.static) else v for k, v in value.items()}
                elif name in self.static:
                    is_tuple = kind is inspect.Parameter.VAR_POSITIONAL
                    value = tuple(_static(name, v) for v in value) if is_tuple else _static(name, value)
                bound.arguments[name] = value
        return bound.args, bound.kwargs

    def argument_name(self, group: int, first: Any, *rest: Any) -> tuple[str, str]:
        """The dotted name of what is at this place in ``(args, kwargs)``, and the name of its parameter."""
        parameters = list(self.signature.parameters.values())
        if group == 0:
            rest_of = next((i for i, p in enumerate(parameters) if p.kind is p.VAR_POSITIONAL), len(parameters))
            parameter = parameters[min(first, rest_of)].name
            name = parameter if first < rest_of else f"{parameter}{first - rest_of}"
        else:
            name = parameter = first
            if first not in self.signature.parameters:
                parameter = next(p.name for p in parameters if p.kind is p.VAR_KEYWORD)
        return ".".join(map(str, (name, *rest))), parameter

    def _entry_name(self, group: int, *rest: Any) -> str:
        """What messages call a place in ``(args, kwargs)``."""
        if not rest:
            return "the keyword arguments" if group else "the positional arguments"
        return f"argument {self.argument_name(group, *rest)[0]}"

    def _explain(self, key: Any) -> None:
        """Says why a function is traced again, where that is asked for or happens often."""
        count = len(self._entries)
        if not count:
            return
        name = getattr(self.function, "__name__", "function")
        reason = self._difference(next(reversed(self._entries)), key)
        if self.options.get("explain_retrace"):
            log.warning("%s is traced again (%d times so far): %s", name, count, reason)
        if count == RETRACE_WARNING and self.options.get("explain_retrace", True):
            warn(
                f"{name} was traced {count} times, and each costs a compilation; last time {reason}. Keep shapes fixed"
                " (pad the last batch), and pass numbers that change as tensors, not as static arguments"
            )

    def _difference(self, old: Any, new: Any) -> str:
        """Which leaf of the arguments changed between two keys."""
        (old_structure, old_specs, old_weak), (new_structure, new_specs, new_weak) = old, new
        if old_structure.treedef != new_structure.treedef:
            trees_of_specs = old_structure.unflatten(old_specs), new_structure.unflatten(new_specs)
            return trees.mismatch(
                *trees_of_specs, "{path} changed from {first} to {second}", "(args, kwargs)", self._entry_name
            )
        accessors = new_structure.treedef.accessors()
        for accessor, before, after in zip(accessors, old_structure.slots, new_structure.slots, strict=True):
            if isinstance(before, int) and isinstance(after, int):
                i, j = before, after
                before, after = (
                    f"a Python number ({spec})" if weak else spec
                    for spec, weak in ((old_specs[i], old_weak[i]), (new_specs[j], new_weak[j]))
                )
            if before != after:
                return f"argument {self.argument_name(*accessor.path)[0]} changed from {before} to {after}"
        return "tensors are shared between arguments in another way"


def _static(name: str, value: Any) -> Static:
    """A static argument, marked."""
    if any(isinstance(leaf, Tensor | np.ndarray | TensorSpec) for leaf in trees.leaves(value)):
        raise TraceError(f"static argument {name!r} is or holds a tensor; static arguments are Python values")
    try:
        return Static(value)
    except TypeError as error:
        raise TraceError(
            f"static argument {name!r} is a {type(value).__name__}, which can't be compared by value: {error}"
        ) from None


class BoundJitted:
    """A jitted function as a method: the object is its first argument."""

    def __init__(self, jitted: Jitted, instance: Any) -> None:
        functools.update_wrapper(self, jitted.function, updated=())
        self._jitted, self._instance = jitted, instance

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._jitted(self._instance, *args, **kwargs)

    def lower(self, *args: Any, **kwargs: Any) -> Lowered:
        """See :meth:`Jitted.lower`."""
        return self._jitted.lower(self._instance, *args, **kwargs)


# -- ahead of time -------------------------------------------------------------------------------------------------


class Lowered:
    """A traced function, and its text at every stage; made by :meth:`Jitted.lower`.

    Example:
        >>> import volta_mlir as volta
        >>> lowered = volta.jit(lambda x: x * x).lower(volta.spec((4,)))
        >>> "volta.mul" in lowered.as_text(), "linalg.generic" in lowered.as_text("linalg")
        (True, True)
    """

    def __init__(self, jitted: Jitted, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.jitted = jitted
        self.name = _symbol(jitted.function)
        with context(), ir.Location.unknown():
            self.module = ir.Module.create()
            self.traced = trace_call(self.module, self.name, jitted.function, args, kwargs, private=False)
            for tensor in self.traced.trace.baked.values():
                tensor._program = self.name
            self.argument_names, self.donated = self._name_arguments((args, kwargs))
            self.result_names = _result_names(self.traced)
            self._annotate()

    def _name_arguments(self, tree: Any) -> tuple[list[str], list[bool]]:
        """For each distinct tensor of the arguments its first dotted name, and whether it is donated."""
        names: dict[int, str] = {}
        traced, donate = self.traced, self.jitted.donate
        donated: set[int] = set()
        if donate == "auto":
            specs = [spec_of(t) for t in traced.trace.function.type.inputs]
            donated = returned_arguments(traced.arguments, specs, traced.results, traced.result_specs)
        for accessor, slot in zip(trees.accessors(tree), self.traced.arguments.slots, strict=True):
            if isinstance(slot, int):
                name, parameter = self.jitted.argument_name(*accessor.path)
                names.setdefault(slot, name)
                if donate != "auto" and {parameter, name.partition(".")[0]} & set(donate):
                    donated.add(slot)
        return [names[i] for i in range(len(names))], [i in donated for i in range(len(names))]

    def _annotate(self) -> None:
        """Names and donations as argument and result attributes."""
        arguments = []
        for name, is_donated in zip(self.argument_names, self.donated, strict=True):
            attributes = {"volta.name": ir.StringAttr.get(name)}
            if is_donated:
                attributes["volta.donated"] = ir.UnitAttr.get()
            arguments.append(ir.DictAttr.get(attributes))
        captured = range(len(self.traced.captures))
        arguments += [ir.DictAttr.get({"volta.name": ir.StringAttr.get(f"captured.{i}")}) for i in captured]
        results = [ir.DictAttr.get({"volta.name": ir.StringAttr.get(name)}) for name in self.result_names]
        results += [ir.DictAttr.get({"volta.printed": ir.UnitAttr.get()})] * self.traced.printed
        function = self.traced.trace.function
        function.attributes["arg_attrs"] = ir.ArrayAttr.get(arguments)
        function.attributes["res_attrs"] = ir.ArrayAttr.get(results)

    @property
    def donated_arguments(self) -> tuple[str, ...]:
        """The names of the arguments that are donated, in whole or in part.

        Example:
            >>> import volta_mlir as volta
            >>> step = volta.jit(lambda params, x: ({"w": params["w"] - x}, x.sum()), donate="auto")
            >>> step.lower({"w": volta.spec(3)}, volta.spec(3)).donated_arguments
            ('params',)
        """
        named = zip(self.argument_names, self.donated, strict=True)
        return tuple(dict.fromkeys(name.partition(".")[0] for name, is_donated in named if is_donated))

    def as_text(self, stage: str = "volta", *, debug_info: bool = False) -> str:
        """The module as MLIR text.

        Args:
            stage: ``"volta"`` as traced, ``"linalg"`` as handed to IREE, or the name of a pass: what it leaves behind.
            debug_info: with the locations of the user's lines.
        """
        module = self._at(stage)
        with context():
            return module.operation.get_asm(enable_debug_info=debug_info, assume_verified=True)

    @property
    def fuse(self) -> bool:
        """Whether volta-align, volta-fuse and volta-outline are among the passes."""
        return bool(self.jitted.options.get("fuse", True))

    def _at(self, stage: str, *, fuse: bool = True, goal: int | None = None, target: Any = None) -> Any:
        """The module after a stage.

        Args:
            stage: that of :meth:`as_text`.
            fuse: whether passes that fuse are run, where the option does not say no.
            goal: volta-remat's budget, instead of the option's.
            target: what it is lowered for, by default the device.
        """
        from volta_mlir import iree_compiler
        from volta_mlir.passes import parse_pipeline, run_pipeline
        from volta_mlir.passes.convert_volta_to_linalg import ConvertVoltaToLinalg
        from volta_mlir.passes.pipeline import PIPELINE
        from volta_mlir.passes.remat import Remat

        with context(), ir.Location.unknown():
            module = self.module.operation.clone().opview
            if stage == "volta":
                return module
            names = PIPELINE[: len(PIPELINE) if stage == "linalg" else _last_index(PIPELINE, stage)]
            passes = [p for p in parse_pipeline(",".join(names)) if (fuse and self.fuse) or p.name not in _FUSION]
            for p in passes:
                if isinstance(p, Remat):
                    budget = self.jitted.memory_budget if goal is None else goal
                    if isinstance(budget, int):
                        p.budget = budget
                    elif budget is None or not (fuse and self.fuse):
                        p.share = 0.0
                elif isinstance(p, ConvertVoltaToLinalg):
                    p.vector_bytes = iree_compiler.Target.parse(target or self.jitted.device.kind).vector_bytes
            run_pipeline(module, passes, verify_each=False)
            return module

    def cost_report(self) -> CostReport:
        """Operations and bytes that a call takes, by op and line, and the least time for them on a machine.

        Example:
            >>> import volta_mlir as volta
            >>> volta.jit(volta.tanh).lower(volta.spec((1000,))).cost_report().bytes
            8000
        """
        from volta_mlir.costs import cost_report

        with context():
            return cost_report(self._at("volta-simplify"), self.name)

    def memory_report(self, target: str | None = None) -> MemoryReport:
        """What a call needs in memory, and what of it is live when.

        The numbers are those of the program that IREE makes, for which it generates no code: this takes a fraction of
        the time that :meth:`compile` does.

        Raises:
            CompileError: as :meth:`compile`.

        Example:
            >>> import volta_mlir as volta
            >>> report = volta.jit(lambda x: volta.tanh(x)).lower(volta.spec((256,))).memory_report()
            >>> report.peak_bytes, report.arguments, report.results, report.transients
            (2048, 1024, 1024, 0)
        """
        return Compiled(self, target, plan_only=True).memory_report()

    def fusion_report(self) -> FusionReport:
        """Which ops are computed together, the bytes that this saves, and the lines that they come from.

        This is what the passes decide at first; :meth:`Compiled.fusion_report` says what was compiled in the end.

        Example:
            >>> import volta_mlir as volta
            >>> step = volta.jit(lambda x: volta.tanh(x * 2.0) + 1.0)
            >>> report = step.lower(volta.spec((1024,), "float32")).fusion_report()
            >>> [group.ops for group in report.groups]
            [('full', 'mul', 'tanh', 'full', 'add')]
            >>> report.bytes_saved  # the constants, and the results of mul and tanh, written and read
            32768
        """
        from volta_mlir.passes.fuse import fusion_report

        return fusion_report(self._at("volta-fuse"))

    def remat_report(self) -> RematReport:
        """What is computed again so that the option ``memory_budget`` is met, by op and line.

        This is what the passes decide at first, by a model; :meth:`Compiled.remat_report` says what was compiled in the
        end, when what IREE allocates was known.

        Raises:
            BudgetError: it can't be met.

        Example:
            >>> import volta_mlir as volta
            >>> def loss(w, x):
            ...     for _ in range(8):
            ...         x = volta.tanh(x @ w)
            ...     return x.sum()
            >>> step = volta.jit(volta.grad(loss), options={"memory_budget": "min"})
            >>> report = step.lower(volta.spec((64, 64)), volta.spec((1024, 64))).remat_report()
            >>> sorted({row.op for row in report.rows})
            ['dot_general', 'mul', 'sub', 'tanh']
        """
        from volta_mlir.passes.remat import remat_report

        with context():
            return remat_report(self._at("volta-remat"))

    def compile(self, target: str | None = None) -> Compiled:
        """Compiles with IREE, or takes the result from the disk cache, in which case no pass runs.

        Args:
            target: ``"cpu"``, ``"cuda:sm_86"``, ``"vulkan"``; default: that of the function's device.

        Raises:
            CompileError: IREE refused the program; the error names a reproducer.
            BudgetError: the option ``memory_budget`` can't be met; the error names the least that was found.
        """
        return Compiled(self, target)


def _last_index(pipeline: Sequence[str], stage: str) -> int:
    if stage not in pipeline:
        stages = ", ".join(dict.fromkeys(("volta", *pipeline, "linalg")))
        raise OptionError(f"there is no stage {stage!r}; there are {stages}")
    return len(pipeline) - list(reversed(pipeline)).index(stage)


def _symbol(function: Callable[..., Any]) -> str:
    name = getattr(function, "__name__", type(function).__name__)
    return name if name.isidentifier() else "main"


def _result_names(traced: TracedCall) -> list[str]:
    tree = traced.results.unflatten(range(traced.returned))
    names = [f"result.{n}".rstrip(".") if n.isdigit() or not n else n for n in leaf_names(tree, traced.results)]
    for write in traced.writes:
        names.append(f"buffer.{trees.path_name(write.accessor[2:]) if write.accessor is not None else write.name}")
    return names


class Compiled:
    """A compiled function: callable, and writable to a file; made by :meth:`Lowered.compile`.

    Attributes:
        vmfb: the artifact's bytes.
        report: what the compiler decided: level, donations that became copies and why.
        plan: what a call takes: the bytes of results and intermediate results, and how many kernels run.

    Example:
        >>> import volta_mlir as volta
        >>> compiled = volta.jit(lambda x: x + 1).lower(volta.spec((2,))).compile()
        >>> compiled(volta.ones(2)).tolist(), compiled.report.fallback
        ([2.0, 2.0], False)
    """

    def __init__(self, lowered: Lowered, target: str | None, *, plan_only: bool = False) -> None:
        from volta_mlir import iree_compiler

        self.lowered = lowered
        self._plan_only = plan_only
        jitted = lowered.jitted
        self._device_kind = None if target is None else target.partition(":")[0]
        flags = shlex.join(jitted.options.get("flags", ()))
        self.target = iree_compiler.Target.parse(f"{target or jitted.device.kind} {flags}")
        cache = Cache()
        # The volta text and the trees around it decide everything below, given the versions: a hit skips every pass.
        signature = to_json(self._signature({}, {}), lowered.name)
        options = self.target.fingerprint(), f"fuse={lowered.fuse}", f"budget={jitted.memory_budget}"
        key = Cache.key("jit", lowered.as_text(), signature, *options, _code_fingerprint())
        artifact = _read_cached(cache, key)
        self._fuse = artifact is None or not artifact.report.unfused
        self._goal = artifact.report.goal if artifact else None
        if artifact is None:
            iree_compiler.warm_up()  # the compiler's process starts while the passes run
            with working(f"compiling {lowered.name} for {self.target.kind}"):
                artifact = self._compile(cache.directory)
            if not plan_only:
                cache.put(key, artifact.to_bytes())
        self.target = iree_compiler.Target.parse(artifact.report.target)
        self.vmfb = artifact.vmfb
        self.report = artifact.report
        self.plan = artifact.report.plans[lowered.name]
        self._donations = artifact.donations.get(lowered.name, {})
        self._warn_of_lost_donations(artifact)

    def memory_report(self) -> MemoryReport:
        """What a call needs in memory; see :meth:`Lowered.memory_report`."""
        from volta_mlir import iree_compiler

        name = self.lowered.name
        buffers = iree_compiler.buffers_of(self._emit({name: self._donations}), self.report.flags)[name]
        specs = [spec_of(t) for t in self.lowered.traced.trace.function.type.inputs]
        donated = self.lowered.donated_arguments
        return MemoryReport(name, sum(spec.nbytes for spec in specs), self.plan, tuple(buffers), donated)

    def fusion_report(self) -> FusionReport:
        """Which ops are computed together; none, where the program does not compile so.

        Example:
            >>> import volta_mlir as volta
            >>> compiled = volta.jit(lambda x: volta.tanh(x) + 1.0).lower(volta.spec((4,))).compile()
            >>> [group.ops for group in compiled.fusion_report().groups]
            [('tanh', 'full', 'add')]
        """
        from volta_mlir.passes.fuse import fusion_report

        return fusion_report(self.lowered._at("volta-fuse", fuse=self._fuse, goal=self._goal))

    def remat_report(self) -> RematReport:
        """What is computed again, by op and line.

        Example:
            >>> import volta_mlir as volta
            >>> volta.jit(volta.tanh).lower(volta.spec((4,))).compile().remat_report().rows
            ()
        """
        from volta_mlir.passes.remat import remat_report

        with context():
            return remat_report(self.lowered._at("volta-remat", fuse=self._fuse, goal=self._goal))

    @functools.cached_property
    def _linalg(self) -> Any:
        return self.lowered._at("linalg", fuse=self._fuse, goal=self._goal, target=self.target)

    def _compile(self, reproducers: Path | None) -> Any:
        budget = self.lowered.jitted.memory_budget
        planned = None
        if isinstance(budget, int):
            planned = self._fit(budget) if budget else self._least()
        artifact = planned if planned is not None and self._plan_only else self._compiled(self._plan_only, reproducers)
        peak = self._peak(artifact.report.plans[self.lowered.name])
        if isinstance(budget, int) and 0 < budget < peak:
            raise self._over_budget(budget, peak)
        return replace(artifact, report=replace(artifact.report, goal=self._goal))

    @property
    def _targets(self) -> tuple[Any, ...]:
        """The ways to compile, the fastest program first, then one that takes less memory."""
        if self.target.kind != "cpu":
            return (self.target,)
        return self.target, replace(self.target, options=(*self.target.options, *_SMALLER))

    def _least(self) -> Any:
        """Sets the target, and the goal for volta-remat, to what IREE takes the least memory with.

        But what takes much more time has to take notably less memory.

        Returns:
            The artifact, without code.
        """
        fastest, *smaller = self._targets
        best: Any = None
        # To compute nothing again may take less than as much as possible: the copies may be fused less well.
        for target, goal in ((fastest, _UNBOUNDED), (fastest, 0), *((target, 0) for target in smaller)):
            self.target = target
            artifact = self._planned(goal)
            peak = self._peak(artifact.report.plans[self.lowered.name])
            if best is None or peak < best[0] * (1 - _WORTHWHILE if target is not fastest else 1):
                best = peak, target, goal, artifact
        _, self.target, goal, artifact = best
        self._plan_for(goal)
        return artifact

    def _fit(self, budget: int) -> Any:
        """Sets the goal for volta-remat, which works with a model, such that what IREE allocates is in the budget.

        Returns:
            The artifact, without code.

        Raises:
            BudgetError: it can't be.
        """
        least = None
        for target in self._targets:
            self.target = target
            best = last = None
            low, high, goal = 0, budget, budget
            for number in range(_FITTING_ROUNDS):
                artifact = self._planned(goal)
                plan = artifact.report.plans[self.lowered.name]
                peak = self._peak(plan)
                least = peak if least is None else min(peak, least)
                if peak <= budget:
                    best, low = (self._goal, artifact), max(goal, peak - plan.transients)
                    if goal == budget or peak > _WELL_USED * budget:
                        break
                elif not self._goal:  # as little as possible
                    break
                else:
                    high = goal
                # IREE takes more than the model says, about as many times more for one goal as for another.
                fixed = peak - plan.transients
                guess = fixed + int((1 - _CAUTION) * (goal - fixed) * (budget - fixed) / max(plan.transients, 1))
                if best is None and (not low < guess < high or peak == last or number == _FITTING_ROUNDS - 2):
                    goal = 0
                else:
                    goal = guess if low < guess < high else (low + high) // 2
                last = peak
            if best is not None:
                self._plan_for(best[0])
                return best[1]
        assert least is not None
        raise self._over_budget(budget, least)

    def _planned(self, goal: int) -> Any:
        """The artifact without code if that is the goal of volta-remat, or as little as possible if it can't be met."""
        self._plan_for(goal)
        try:
            _ = self._linalg
        except BudgetError:
            self._plan_for(0)
        return self._compiled(plan_only=True)

    def _plan_for(self, goal: int | None) -> None:
        """Sets the goal of volta-remat."""
        if goal != self._goal:
            for name in ("_linalg", "_wanted_pairs"):
                self.__dict__.pop(name, None)
        self._goal = goal

    def _peak(self, plan: Plan) -> int:
        arguments = sum(spec_of(t).nbytes for t in self.lowered.traced.trace.function.type.inputs)
        return arguments + plan.results + plan.transients

    def _over_budget(self, budget: int, least: int) -> BudgetError:
        return BudgetError(
            f"{self.lowered.name} can't run in {format_bytes(budget)}: the least that was found is {least} bytes"
            f" ({format_bytes(least)}). A smaller batch needs less; donated arguments are not kept twice"
        )

    def _compiled(self, plan_only: bool, reproducers: Path | None = None) -> Any:
        """The artifact for the goal, of unfused ops if it does not compile otherwise."""
        from volta_mlir.iree_compiler import compile_module

        def compiled() -> Any:
            pairs = {self.lowered.name: self._wanted_pairs}
            return compile_module(self._emit, pairs, self.target, reproducers=reproducers, plan_only=plan_only)

        if self._fuse:
            try:
                return compiled()
            except CompileError as error:
                if not self.lowered.fuse:
                    raise
                log.info("does not compile with its ops fused: %s", error)
                self._fuse = False
                del self._linalg
        artifact = compiled()
        return replace(artifact, report=replace(artifact.report, fallback=True, unfused=True))

    @functools.cached_property
    def _wanted_pairs(self) -> dict[int, int]:
        """Which result may take the buffer of which donated argument, before it is known what is safe."""
        from volta_mlir.passes.alias import donations

        return donations(function_named(self._linalg, self.lowered.name))

    def _warn_of_lost_donations(self, artifact: Any) -> None:
        used = {*artifact.donations.get(self.lowered.name, {}), *(d.argument for d in artifact.report.dropped)}
        lowered = self.lowered
        lost = [n for i, n in enumerate(lowered.argument_names) if lowered.donated[i] and i not in used]
        if lost:
            names = ", ".join(lost)
            warn(f"{lowered.name}: no result can take the buffers of the donated {names}: none has their shape")
        if lowered.jitted.donate == "auto" and not any(lowered.donated):
            warn(
                f'{lowered.name}: donate="auto" finds no argument that clearly comes back as a result; name those that'
                " the results may overwrite"
            )

    def _emit(self, donations: Mapping[str, Mapping[int, int]]) -> str:
        """The linalg text with these donations and the signature that describes them."""
        from volta_mlir import kernels
        from volta_mlir.passes.alias import set_donations

        with context(), ir.Location.unknown():
            wanted, kept = self._wanted_pairs, dict(donations.get(self.lowered.name, {}))
            function = function_named(self._linalg, self.lowered.name)
            set_donations(function, kept)
            reflection = {ATTRIBUTE: ir.StringAttr.get(to_json(self._signature(wanted, kept), self.lowered.name))}
            function.attributes["iree.reflection"] = ir.DictAttr.get(reflection)
            if self.target.kind == "cpu":
                return kernels.linked_text(self._linalg)
            return self._linalg.operation.get_asm(print_generic_op_form=True, enable_debug_info=True)

    def _signature(self, wanted: Mapping[int, int], kept: Mapping[int, int]) -> Signature:
        """What the artifact says of itself; ``kept`` are those of the ``wanted`` donations that are in place."""
        lowered, traced = self.lowered, self.lowered.traced
        specs = [spec_of(t) for t in traced.trace.function.type.inputs]
        leaves = [
            leaf(name, specs[i].shape, specs[i].dtype.name, wanted.get(i), in_place=i in kept)
            for i, name in enumerate(lowered.argument_names)
        ]
        args, kwargs = signature_leaves(traced.arguments, leaves)
        names = (*(lowered.jitted.argument_name(0, i)[0] for i in range(len(args))), *sorted(kwargs))
        tree = describe_tree((*args, *(kwargs[name] for name in sorted(kwargs))))
        captured = tuple(leaf(f"captured.{i}", t.shape, t.dtype.name) for i, t in enumerate(traced.captures))
        if captured:
            tree = Tree("tuple", children=(*tree.children, Tree("tuple", children=captured)))
            names = (*names, "captured")
        returned, written, _ = traced.split(traced.result_specs)
        named_specs = zip(lowered.result_names, [*returned, *written], strict=True)
        results = [leaf(name, spec.shape, spec.dtype.name) for name, spec in named_specs]
        result_tree = describe_tree(signature_leaves(traced.results, results[: len(returned)]))
        if written:
            result_tree = Tree("tuple", children=(result_tree, Tree("tuple", children=tuple(results[len(returned) :]))))
        return Signature({lowered.name: FunctionSignature(tree, result_tree, names, traced.prints)}, __version__)

    @functools.cached_property
    def executable(self) -> Executable:
        """The function on its device.

        Raises:
            DeviceError: there is no device of the kind that it was compiled for.
        """
        device = find_device(self._device_kind) if self._device_kind else self.lowered.jitted.device
        donated_by = ', as donate="auto" chose,' if self.lowered.jitted.donate == "auto" else ""
        return Executable(self.lowered.traced, self.vmfb, self.lowered.name, device, donated_by)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the compiled function with arguments of the signature that it was lowered for."""
        with under_way:
            args, kwargs = self.lowered.jitted._normalize(args, kwargs)
            tensors, structure = flatten_tree((args, kwargs))
            arguments = list(map(borrowed, tensors))
            self.executable.check(arguments, structure, self.lowered.jitted)
            return self.executable(arguments, (args, kwargs), self.lowered.jitted)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the ``.vmfb``; :func:`volta_mlir.load` and ``iree-run-module`` run it without Volta's compiler.

        Raises:
            TraceError: the function closed over arrays, which the file does not contain.
        """
        captures = self.lowered.traced.captures
        if captures:
            specs = ", ".join(str(t.spec) for t in captures[:5])
            raise TraceError(
                f"{self.lowered.name} closes over {len(captures)} arrays ({specs}) that the file would lack;"
                " pass them as arguments to save it"
            )
        Path(path).write_bytes(self.vmfb)


def _read_cached(cache: Cache, key: str) -> Any:
    from volta_mlir.iree_compiler import Compiled as Artifact

    data = cache.get(key)
    if data is None:
        return None
    try:
        return Artifact.from_bytes(data)
    except ArtifactError:
        return None


@functools.lru_cache(maxsize=1)
def _code_fingerprint() -> str:
    """Volta's own code: its version, and the state of its files, which change in a development install."""
    import volta_mlir.dialects
    import volta_mlir.passes

    digest = hashlib.sha256(f"{__version__} {PACKAGE}".encode())
    for package in (volta_mlir, volta_mlir.dialects, volta_mlir.passes):
        for root, _, files in sorted(os.walk(os.path.dirname(str(package.__file__)))):
            for name in sorted(files):
                if name.endswith(".py"):
                    status = os.stat(os.path.join(root, name))
                    digest.update(f"{name} {status.st_size} {status.st_mtime_ns}".encode())
    return digest.hexdigest()


# -- calls ---------------------------------------------------------------------------------------------------------


def _explain_nans(lowered: Lowered, inputs: Sequence[np.ndarray]) -> None:
    """Evaluates a function whose results have NaN operation by operation, which raises where it makes one."""
    from volta_mlir.interpreter import interpret
    from volta_mlir.passes.inline import Inline

    with context(), ir.Location.unknown():
        Inline().run(lowered.module)
        interpret(lowered.module, lowered.name, inputs)
    raise NaNError(
        f"a result of the compiled {lowered.name} has NaN, and evaluated operation by operation it has none: the"
        " operations of the compiled program round differently"
    )


class Executable:
    """A compiled function on its device, with the tensors and the buffers that belong to the Python call."""

    def __init__(self, traced: TracedCall, vmfb: bytes, name: str, device: Device, donated_by: str = "") -> None:
        self.device = device
        self._results = traced.results
        returned, written, _ = traced.split(traced.result_specs)
        self._specs = [*returned, *written]
        self._writes = traced.writes
        self._captures = list(traced.captures)
        self._arguments = traced.arguments
        self._argument_specs = [spec_of(t) for t in traced.trace.function.type.inputs]
        self._loaded = LoadedModule(vmfb, device)
        self._function = self._loaded.functions[name]
        self._function.donated_by = donated_by

    def __call__(self, arguments: Sequence[Tensor], tree: Any, jitted: Jitted) -> Any:
        """Runs it; ``arguments`` are the distinct tensors of ``tree``, the Python arguments of ``jitted``."""
        for write in self._writes:
            if write.capture is not None:
                self._captures[write.capture] = getattr(write.module, write.name)
        buffers = [self._buffer(t) for t in arguments]
        if self._captures:
            buffers += [self._buffer(t) for t in self._captures]
        # Donated ones are gone after the call.
        inputs = [b.numpy().copy() for b in buffers] if debug.checks_nans() else None
        outs = self._function.invoke_flat(buffers)
        tensors = [Tensor._concrete(b, s) for b, s in zip(outs, self._specs, strict=True)]
        if inputs is not None and any(debug.count_nans(t.numpy()) for t in tensors):
            _explain_nans(Lowered(jitted, *tree), inputs)
        if self._writes:
            count = len(tensors) - len(self._writes)
            for write, value in zip(self._writes, tensors[count:], strict=True):
                write.store(tree, value)
            tensors = tensors[:count]
        return self._results.unflatten(tensors)

    def _buffer(self, tensor: Tensor) -> DeviceBuffer:
        """The tensor's buffer on the device; a tensor in host memory is moved there once and stays."""
        data = tensor._data
        if not isinstance(data, DeviceBuffer):
            data = tensor._data = DeviceBuffer.from_numpy(data, self.device)
        elif data.device != self.device:
            data = data.to(self.device)
        return data

    def check(self, arguments: Sequence[Tensor], structure: Structure, jitted: Jitted) -> None:
        """Raises where the arguments are not those that the function was compiled for."""
        specs = [argument.spec for argument in arguments]
        expected = self._argument_specs[: len(self._argument_specs) - len(self._captures)]
        if structure != self._arguments or specs != expected:
            keys = ((s, given, [False] * len(given)) for s, given in ((self._arguments, expected), (structure, specs)))
            raise TraceError(f"compiled for other arguments: {jitted._difference(*keys)}")
