"""A Python call as a flat list of tensors: how pytrees of arguments and results meet functions of MLIR values.

:func:`flatten_tree` separates a tree into its distinct tensors and a hashable :class:`Structure`; a tensor that
occurs twice (tied weights) is stored once. :func:`trace_call` runs a Python function on traced tensors and returns
what came out as a :class:`TracedCall`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from volta_mlir import trace as tracing
from volta_mlir import tree as trees
from volta_mlir.dtypes import TensorSpec, as_dtype
from volta_mlir.errors import TraceError
from volta_mlir.runtime.buffer import DeviceBuffer
from volta_mlir.tensor import Tensor


@dataclass(frozen=True)
class Static:
    """A leaf that is not a tensor: a part of the structure, compared by value."""

    value: Hashable


@dataclass(frozen=True)
class Structure:
    """A tree without its tensors.

    Attributes:
        treedef: optree's structure.
        slots: for each leaf the number of its tensor, or the Static that it is.
    """

    treedef: Any
    slots: tuple[int | Static, ...]

    def unflatten(self, tensors: Sequence[Any]) -> Any:
        """The tree with these tensors; equal slots share one object."""
        leaves = [tensors[slot] if isinstance(slot, int) else slot.value for slot in self.slots]
        return trees.unflatten(self.treedef, leaves)


_TENSOR_TYPES = (Tensor, np.ndarray, np.generic, float, int)


def is_tensor_like(leaf: Any) -> bool:
    """True for what becomes a tensor when it is an argument: Tensors, arrays (DLPack's too), specs, Python numbers."""
    return isinstance(leaf, (*_TENSOR_TYPES, TensorSpec)) or hasattr(leaf, "__dlpack__")


def flatten_tree(tree: Any) -> tuple[list[Any], Structure]:
    """The distinct tensor-like leaves of a tree, as they are, and its structure."""
    leaves, treedef = trees.flatten(tree)
    tensors: list[Any] = []
    numbers: dict[int, int] = {}
    slots: list[int | Static] = []
    for leaf in leaves:
        if isinstance(leaf, Tensor):
            number = numbers.get(id(leaf))
            if number is None:
                number = numbers[id(leaf)] = len(tensors)
                tensors.append(leaf)
            slots.append(number)
        elif is_tensor_like(leaf):
            slots.append(len(tensors))
            tensors.append(leaf)
        else:
            slots.append(Static(leaf))
    return tensors, Structure(treedef, tuple(slots))


def leaf_names(tree: Any, structure: Structure) -> list[str]:
    """The dotted path of each distinct tensor of a tree (the first one for a tied tensor)."""
    names: dict[int, str] = {}
    for accessor, slot in zip(trees.accessors(tree), structure.slots, strict=True):
        if isinstance(slot, int):
            names.setdefault(slot, trees.path_name(accessor))
    return [names[i] for i in range(len(names))]


def as_argument(leaf: Any) -> Tensor:
    """A tensor-like argument as a Tensor; arrays are taken as they are, without a copy."""
    if isinstance(leaf, Tensor):
        return leaf
    if isinstance(leaf, np.ndarray):  # read before the call returns: no copy of our own is needed
        return Tensor._concrete(leaf, TensorSpec(leaf.shape, as_dtype(leaf.dtype)))
    if isinstance(leaf, np.generic | float | int):
        return Tensor(leaf)
    buffer = DeviceBuffer.from_dlpack(leaf)
    return Tensor._concrete(buffer, TensorSpec(buffer.shape, buffer.dtype))


@dataclass
class BufferWrite:
    """A buffer of a module that was assigned during a trace; one extra result holds its new value.

    ``accessor`` leads from the call's arguments to the buffer; ``module`` and ``name`` are given instead for a module
    that the function closed over.
    """

    accessor: Any = None
    module: Any = None
    name: str = ""
    capture: int | None = None  # the capture that holds the buffer's value from before the call

    def store(self, arguments: Any, value: Tensor) -> None:
        """Writes the new value back where the caller sees it."""
        if self.accessor is not None:
            trees.assign(arguments, self.accessor, value)
        else:
            setattr(self.module, self.name, value)


@dataclass
class TracedCall:
    """A traced function and how its values correspond to the Python call.

    The function's arguments are the distinct tensors of the arguments, then the captures; its results are the
    distinct tensors of the results, then one per buffer write.
    """

    trace: tracing.FunctionTrace
    arguments: Structure
    results: Structure
    result_specs: list[TensorSpec]
    writes: list[BufferWrite] = field(default_factory=list)

    @property
    def captures(self) -> list[Tensor]:
        return self.trace.captures


def trace_call(
    module: Any,
    name: str,
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    private: bool,
    specs: Sequence[TensorSpec] | None = None,
) -> TracedCall:
    """Traces ``function(*args, **kwargs)`` into a new function of ``module``.

    ``specs`` are those of the distinct tensors of ``(args, kwargs)``, where they are known already.
    """
    tensors, structure = flatten_tree((args, kwargs))
    if specs is None:
        specs = [spec_of_argument(t) for t in tensors]

    def body(trace: tracing.FunctionTrace, *traced: Tensor) -> Any:
        inner = structure.unflatten(traced)
        before = trees.leaves(inner)
        inner_args, inner_kwargs = inner
        out = function(*inner_args, **inner_kwargs)
        results, result_structure = flatten_tree(out)
        results = [as_argument(r) for r in results]
        writes, written = _buffer_writes(trace, inner, before)
        return results + written, (result_structure, writes, len(results))

    trace, (result_structure, writes, _) = tracing.trace_function(module, name, body, specs, private=private)
    result_specs = [tracing.spec_of(t) for t in trace.function.type.results]
    for write in writes:
        if write.module is not None:
            write.capture = next((i for i, t in enumerate(trace.captures) if t is getattr(write.module, write.name)), None)
    return TracedCall(trace, structure, result_structure, result_specs, writes)


def spec_of_argument(leaf: Any) -> TensorSpec:
    """The spec that an argument leaf will be traced with."""
    return leaf if isinstance(leaf, TensorSpec) else as_argument(leaf).spec


def _buffer_writes(trace: tracing.FunctionTrace, inner: Any, before: list[Any]) -> tuple[list[BufferWrite], list[Tensor]]:
    """The buffers assigned during a trace: leaves of the arguments that changed, and those of closed-over modules."""
    writes, values = [], []
    after, _ = trees.flatten(inner)
    if len(after) != len(before):
        raise TraceError(
            "the traced function added or removed leaves of one of its arguments; build modules and state before"
            " tracing, and return new trees instead of changing arguments",
        )
    changed = [i for i, (old, new) in enumerate(zip(before, after, strict=True)) if old is not new]
    if changed:
        accessors = trees.accessors(inner)
        for i in changed:
            if _is_module_buffer(inner, accessors[i]):
                writes.append(BufferWrite(accessor=accessors[i]))
                values.append(after[i])
    for (_, name), (module, old) in trace.buffer_writes.items():
        writes.append(BufferWrite(module=module, name=name))
        values.append(getattr(module, name))
        module.restore_buffer(name, old)
    return writes, values


def _is_module_buffer(tree: Any, accessor: Any) -> bool:
    parent = accessor[:-1](tree) if len(accessor) else None
    is_buffer = getattr(parent, "is_buffer", None)
    return bool(is_buffer and is_buffer(str(accessor[-1].entry)))
