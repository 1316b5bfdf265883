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
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

from volta_mlir import __version__
from volta_mlir import trace as tracing
from volta_mlir import tree as trees
from volta_mlir.cache import Cache
from volta_mlir.calls import Static, Structure, TracedCall, as_argument, flatten_tree, leaf_names, trace_call
from volta_mlir.dtypes import TensorSpec
from volta_mlir.errors import AliasError, ArtifactError, TraceError
from volta_mlir.mlir import PACKAGE, context, func, function_named, ir
from volta_mlir.progress import working
from volta_mlir.runtime.buffer import DeviceBuffer
from volta_mlir.runtime.device import Device, device as find_device
from volta_mlir.runtime.module import LoadedModule
from volta_mlir.runtime.signature import ATTRIBUTE, FunctionSignature, Signature, Tree, leaf, to_json
from volta_mlir.tensor import Tensor

log = logging.getLogger("volta.trace")

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
            the compiled program is called.
        static: names of arguments that are ordinary Python values (hashable); a new value traces again.
        donate: names of arguments whose buffers the results may take over, such as the model and the optimizer's
            state of a training step. A donated tensor can't be used after the call.
        device: where it runs, ``"cpu"``, ``"cuda:0"``, ``"vulkan"``; default the CPU.
        options: ``{"flags": [...]}`` adds iree-compile flags; ``{"explain_retrace": True}`` logs, at each further
            trace, which leaf of the arguments changed.

    Returns:
        A :class:`Jitted` with the function's signature; usable as a decorator too.

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
    return Jitted(function, static=static, donate=donate, device=device, options=options)


def _names(names: str | Iterable[str]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)


class Jitted:
    """A function that is compiled when it is called; made by :func:`jit`."""

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        static: str | Iterable[str],
        donate: str | Iterable[str],
        device: str | Device | None,
        options: Mapping[str, Any] | None,
    ) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.signature = inspect.signature(function)
        self.static, self.donate = _names(static), _names(donate)
        self.options = dict(options or {})
        unknown_options = self.options.keys() - {"flags", "explain_retrace"}
        if unknown_options:
            raise TraceError(f"jit: unknown options {sorted(unknown_options)}; there are flags and explain_retrace")
        parameters = self.signature.parameters
        variadic = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
        for name in (*self.static, *self.donate):
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
        return self if instance is None else functools.partial(self, instance)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if tracing.current() is not None:
            return self.function(*args, **kwargs)  # inside another trace it is a part of that program
        args, kwargs = self._normalize(args, kwargs)
        tensors, structure = flatten_tree((args, kwargs))
        arguments = [t if isinstance(t, Tensor) else as_argument(t) for t in tensors]
        key = (structure, tuple([t.spec for t in arguments]))
        try:
            entry = self._entries.get(key)
        except TypeError as error:
            raise TraceError(
                f"a static argument, or a static attribute of a module, is not hashable: {error}",
            ) from None
        if entry is None:
            entry = self._entries[key] = self._specialize(args, kwargs, structure, key)
        return entry(arguments, (args, kwargs))

    def lower(self, *args: Any, **kwargs: Any) -> Lowered:
        """Traces for these arguments without running anything; :func:`volta_mlir.spec` can stand for tensors.

        Raises:
            TraceError, ShapeError, DTypeError: the function can't be traced; the error names the user's line.
        """
        args, kwargs = self._normalize(args, kwargs)
        return Lowered(self, args, kwargs)

    def _normalize(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Keyword arguments at their positions, and static ones marked."""
        if not kwargs and not self.static:
            return args, kwargs
        bound = self.signature.bind(*args, **kwargs)
        if self.static:
            for name in self.static:
                if name in bound.arguments:
                    bound.arguments[name] = Static(bound.arguments[name])
        return bound.args, bound.kwargs

    def _unmarked(self, *args: Any, **kwargs: Any) -> Any:
        def value(x: Any) -> Any:
            return x.value if isinstance(x, Static) else x

        return self.function(*map(value, args), **{k: value(v) for k, v in kwargs.items()})

    def _specialize(self, args: tuple[Any, ...], kwargs: dict[str, Any], structure: Structure, key: Any) -> Executable:
        self._explain(key)
        return Lowered(self, args, kwargs).compile().executable

    def _explain(self, key: Any) -> None:
        count = len(self._entries)
        if not count:
            return
        name = getattr(self.function, "__name__", "function")
        reason = _difference(next(reversed(self._entries)), key)
        if self.options.get("explain_retrace"):
            log.warning("%s is traced again (%d times so far): %s", name, count, reason)
        if count == RETRACE_WARNING:
            warnings.warn(
                f"{name} was traced {count} times, each costs a compilation; last time {reason}. Keep shapes fixed (pad"
                " the last batch), or pass Python numbers that change as tensors",
                stacklevel=3,
            )


def _difference(old: tuple[Structure, tuple[TensorSpec, ...]], new: tuple[Structure, tuple[TensorSpec, ...]]) -> str:
    """Which leaf of the arguments changed between two signatures."""
    (old_structure, old_specs), (new_structure, new_specs) = old, new
    if old_structure.treedef != new_structure.treedef:
        return f"the structure of the arguments changed from {old_structure.treedef} to {new_structure.treedef}"
    names = [trees.path_name(a) for a in new_structure.treedef.accessors()]
    for name, before, after in zip(names, old_structure.slots, new_structure.slots, strict=True):
        if isinstance(before, int) and isinstance(after, int):
            if old_specs[before] != new_specs[after]:
                return f"argument {name[2:]} changed from {old_specs[before]} to {new_specs[after]}"
        elif before != after:
            return f"argument {name[2:]} changed from {before} to {after}"
    return "tensors are shared between arguments in another way"


# -- ahead of time -------------------------------------------------------------------------------------------------


class Lowered:
    """A traced function, and its text at every stage; made by :meth:`Jitted.lower`."""

    def __init__(self, jitted: Jitted, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.jitted = jitted
        self.name = _symbol(jitted.function)
        with context(), ir.Location.unknown():
            self.module = ir.Module.create()
            self.traced = trace_call(self.module, self.name, jitted._unmarked, args, kwargs, private=False)
            self.argument_names = _argument_names(jitted, (args, kwargs), self.traced)
            self.result_names = _result_names(self.traced)
            self._annotate()

    def _annotate(self) -> None:
        """Names and donations as argument and result attributes."""
        donated = set(self.jitted.donate)
        arguments = []
        for name in self.argument_names:
            attributes = {"volta.name": ir.StringAttr.get(name)}
            if name.partition(".")[0] in donated:
                attributes["volta.donated"] = ir.UnitAttr.get()
            arguments.append(ir.DictAttr.get(attributes))
        arguments += [
            ir.DictAttr.get({"volta.name": ir.StringAttr.get(f"captured.{i}")}) for i in range(len(self.traced.captures))
        ]
        function = self.traced.trace.function
        function.attributes["arg_attrs"] = ir.ArrayAttr.get(arguments)
        function.attributes["res_attrs"] = ir.ArrayAttr.get(
            [ir.DictAttr.get({"volta.name": ir.StringAttr.get(n)}) for n in self.result_names]
        )

    def as_text(self, stage: str = "volta", *, debug_info: bool = False) -> str:
        """The module as MLIR text.

        Args:
            stage: ``"volta"`` as traced, ``"linalg"`` as handed to IREE, or the name of a pass of the pipeline: after it.
            debug_info: with the locations of the user's lines.
        """
        module = self._at(stage)
        with context():
            return module.operation.get_asm(enable_debug_info=debug_info)

    def _at(self, stage: str) -> Any:
        from volta_mlir.passes import parse_pipeline, run_pipeline
        from volta_mlir.passes.pipeline import PIPELINE

        with context(), ir.Location.unknown():
            module = self.module.operation.clone().opview
            if stage == "volta":
                return module
            stop = len(PIPELINE) if stage == "linalg" else _last_index(PIPELINE, stage)
            passes = parse_pipeline(f"builtin.module({','.join(PIPELINE[:stop])})")
            run_pipeline(module, passes, verify_each=False)
            return module

    def compile(self, target: str | None = None) -> Compiled:
        """Compiles with IREE, or takes the result from the disk cache, in which case no pass runs.

        Args:
            target: ``"cpu"``, ``"cuda:sm_86"``, ``"vulkan"``; default: that of the function's device.

        Raises:
            CompileError: IREE refused the program; the error names a reproducer.
        """
        return Compiled(self, target)


def _last_index(pipeline: Sequence[str], stage: str) -> int:
    if stage not in pipeline:
        stages = ", ".join(dict.fromkeys(("volta", *pipeline, "linalg")))
        raise ValueError(f"there is no stage {stage!r}; there are {stages}")
    return len(pipeline) - list(reversed(pipeline)).index(stage)


def _symbol(function: Callable[..., Any]) -> str:
    name = getattr(function, "__name__", type(function).__name__)
    return name if name.isidentifier() else "main"


def _argument_names(jitted: Jitted, tree: Any, traced: TracedCall) -> list[str]:
    """Dotted names beginning with the parameter's: ``model.layers.0.weight``."""
    positional = _parameter_names(jitted, len(tree[0]))
    names = []
    for name in leaf_names(tree, traced.arguments):
        group, _, rest = name.partition(".")
        if group == "0":
            number, dot, rest = rest.partition(".")
            rest = positional[int(number)] + dot + rest
        names.append(rest)
    return names


def _parameter_names(jitted: Jitted, count: int) -> list[str]:
    names = []
    for parameter in jitted.signature.parameters.values():
        if parameter.kind is parameter.VAR_POSITIONAL:
            names += [f"{parameter.name}{i}" for i in range(count - len(names))]
        elif parameter.kind is not parameter.KEYWORD_ONLY:
            names.append(parameter.name)
    return names


def _result_names(traced: TracedCall) -> list[str]:
    tree = traced.results.unflatten([i for i in range(len(traced.result_specs))])
    names = [f"result.{n}" if n.isdigit() or not n else n for n in leaf_names(tree, traced.results)]
    for write in traced.writes:
        names.append(f"buffer.{trees.path_name(write.accessor[2:]) if write.accessor is not None else write.name}")
    return names


class Compiled:
    """A compiled function: callable, and writable to a file; made by :meth:`Lowered.compile`.

    Attributes:
        vmfb: the artifact's bytes.
        report: what the compiler decided: level, donations that became copies and why.
    """

    def __init__(self, lowered: Lowered, target: str | None) -> None:
        from volta_mlir import iree_compiler

        self.lowered = lowered
        jitted = lowered.jitted
        self.device = jitted.device if target is None else find_device(target.partition(":")[0])
        flags = " ".join(jitted.options.get("flags", ()))
        self.target = iree_compiler.Target.parse(f"{target or self.device.kind} {flags}")
        cache = Cache()
        # The volta text decides everything below it, given the versions: a hit skips every pass.
        key = Cache.key("jit", lowered.as_text(), self.target.fingerprint(), _code_fingerprint())
        artifact = _read_cached(cache, key)
        if artifact is None:
            with working(f"compiling {lowered.name} for {self.target.kind}"):
                artifact = iree_compiler.compile_module(self._emit, self._donations(), self.target, cache=cache)
            cache.put(key, artifact.to_bytes())
        self.vmfb = artifact.vmfb
        self.report = artifact.report
        self.executable = Executable(lowered.traced, self.vmfb, lowered.name, self.device)

    @functools.cached_property
    def _linalg(self) -> Any:
        return self.lowered._at("linalg")

    def _donations(self) -> dict[str, dict[int, int]]:
        from volta_mlir.passes.alias import donations

        pairs = donations(function_named(self._linalg, self.lowered.name))
        lost = [n for i, n in enumerate(self.lowered.argument_names) if i not in pairs and self._is_donated(n)]
        if lost:
            warnings.warn(f"no result can take the buffers of the donated {', '.join(lost)}: none has their shape", stacklevel=2)
        return {self.lowered.name: pairs}

    def _is_donated(self, name: str) -> bool:
        return name.partition(".")[0] in self.lowered.jitted.donate

    def _emit(self, donations: Mapping[str, Mapping[int, int]]) -> str:
        """The linalg text with these donations and the signature that describes them."""
        from volta_mlir.passes.alias import set_donations

        with context(), ir.Location.unknown():
            function = function_named(self._linalg, self.lowered.name)
            pairs = dict(donations.get(self.lowered.name, {}))
            set_donations(function, pairs)
            signature = self._signature(pairs)
            reflection = {ATTRIBUTE: ir.StringAttr.get(to_json(signature, self.lowered.name))}
            function.attributes["iree.reflection"] = ir.DictAttr.get(reflection)
            return self._linalg.operation.get_asm(print_generic_op_form=True, enable_debug_info=True)

    def _signature(self, pairs: Mapping[int, int]) -> Signature:
        lowered, traced = self.lowered, self.lowered.traced
        specs = [tracing.spec_of(t) for t in traced.trace.function.type.inputs]
        wanted = self._wanted_pairs()
        leaves = [
            leaf(name, specs[i].shape, specs[i].dtype.name, wanted.get(i), in_place=i in pairs)
            for i, name in enumerate(lowered.argument_names)
        ]
        args, kwargs = _with_leaves(traced.arguments, leaves)
        names = (*_parameter_names(lowered.jitted, len(args))[: len(args)], *sorted(kwargs))
        tree = _describe((*args, *(kwargs[name] for name in sorted(kwargs))))
        captured = tuple(leaf(f"captured.{i}", t.shape, t.dtype.name) for i, t in enumerate(traced.captures))
        if captured:
            tree, names = Tree("tuple", children=(*tree.children, Tree("tuple", children=captured))), (*names, "captured")
        results = [leaf(n, s.shape, s.dtype.name) for n, s in zip(lowered.result_names, traced.result_specs, strict=True)]
        count = len(results) - len(traced.writes)
        result_tree = _describe(_with_leaves(traced.results, results[:count]))
        if traced.writes:
            result_tree = Tree("tuple", children=(result_tree, Tree("tuple", children=tuple(results[count:]))))
        return Signature({lowered.name: FunctionSignature(tree, result_tree, names)}, __version__)

    @functools.lru_cache(maxsize=1)  # noqa: B019 - a Compiled lives as long as its executable
    def _wanted_pairs(self) -> dict[int, int]:
        return self._donations()[self.lowered.name]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the compiled function with arguments of the signature that it was lowered for."""
        args, kwargs = self.lowered.jitted._normalize(args, kwargs)
        tensors, structure = flatten_tree((args, kwargs))
        arguments = [as_argument(t) for t in tensors]
        self.executable.check(arguments, structure, self.lowered.argument_names)
        return self.executable(arguments, (args, kwargs))

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


def _with_leaves(structure: Structure, leaves: Sequence[Tree]) -> Any:
    """The tree with these leaves of a signature; a leaf that occurs again becomes a reference to the first."""
    values: list[Any] = []
    seen: set[int] = set()
    for slot in structure.slots:
        if isinstance(slot, Static):
            values.append(slot.value)
        elif slot in seen:
            first = leaves[slot].leaf
            values.append(Tree("tied", name=first.path if first else "", index=slot))
        else:
            seen.add(slot)
            values.append(leaves[slot])
    return trees.unflatten(structure.treedef, values)


def _describe(tree: Any) -> Tree:
    """A pytree whose leaves are signature leaves, as the signature's own kind of tree. Modules become dicts."""
    if isinstance(tree, Tree):
        return tree
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return Tree("namedtuple", children=tuple(map(_describe, tree)), keys=tuple(tree._fields), name=type(tree).__name__)
    if isinstance(tree, list | tuple):
        return Tree("list" if isinstance(tree, list) else "tuple", children=tuple(map(_describe, tree)))
    if isinstance(tree, dict):
        keys = sorted(tree)
        return Tree("dict", children=tuple(_describe(tree[k]) for k in keys), keys=tuple(map(str, keys)))
    accessors = trees.accessors(tree)
    if len(accessors) == 1 and not accessors[0]:
        return Tree("none")  # a static leaf has no value in the compiled function
    children: dict[str, Any] = {}
    for accessor in accessors:
        entry = str(accessor[0].entry)
        children.setdefault(entry, accessor[:1](tree))
    return Tree("dict", children=tuple(map(_describe, children.values())), keys=tuple(children))


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


class Executable:
    """A compiled function on its device, with the tensors and the buffers that belong to the Python call."""

    def __init__(self, traced: TracedCall, vmfb: bytes, name: str, device: Device) -> None:
        self.device = device
        self._results = traced.results
        self._specs = traced.result_specs
        self._writes = traced.writes
        self._captures = list(traced.captures)
        self._arguments = traced.arguments
        self._argument_specs = [tracing.spec_of(t) for t in traced.trace.function.type.inputs]
        self._loaded = LoadedModule(vmfb, device)
        self._function = self._loaded.functions[name]

    def __call__(self, arguments: Sequence[Tensor], tree: Any) -> Any:
        """Runs it; ``arguments`` are the distinct tensors of ``tree``, the Python arguments."""
        for write in self._writes:
            if write.capture is not None:
                self._captures[write.capture] = getattr(write.module, write.name)
        buffers = [self._buffer(t) for t in arguments]
        if self._captures:
            buffers += [self._buffer(t) for t in self._captures]
        outs = self._function.invoke_flat(buffers)
        tensors = [Tensor._concrete(b, s) for b, s in zip(outs, self._specs, strict=True)]
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

    def check(self, arguments: Sequence[Tensor], structure: Structure, names: Sequence[str]) -> None:
        """Raises where the arguments are not those that the function was compiled for."""
        if structure != self._arguments:
            raise TraceError(
                f"compiled for arguments of the structure {self._arguments.treedef}, called with {structure.treedef}",
            )
        for argument, spec, name in zip(arguments, self._argument_specs, names, strict=False):
            if argument.spec != spec:
                raise TraceError(
                    f"compiled for {name}: {spec}, called with {argument.spec}"
                )
