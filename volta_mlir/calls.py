"""A Python call as a flat list of tensors: how pytrees of arguments and results meet functions of MLIR values.

:func:`flatten_tree` separates a tree into its distinct tensors and a hashable :class:`Structure`; a tensor that
occurs twice (tied weights) is stored once. :func:`trace_call` runs a Python function on traced tensors and returns
what came out as a :class:`TracedCall`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from volta_mlir import static
from volta_mlir import trace as tracing
from volta_mlir import tree as trees
from volta_mlir.dtypes import TensorSpec, as_dtype
from volta_mlir.errors import TraceError
from volta_mlir.mlir import spec_of
from volta_mlir.runtime.buffer import DeviceBuffer
from volta_mlir.runtime.prints import Record, outputs_of
from volta_mlir.runtime.signature import Tree
from volta_mlir.tensor import Tensor


class Static:
    """A leaf that is a part of the program, compared by type and value.

    Raises:
        TypeError: the value is neither hashable nor made of lists, dicts, sets and hashable values.
    """

    __slots__ = ("_key", "value")

    def __init__(self, value: Any) -> None:
        self.value = value
        self._key = static.key(value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Static) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __repr__(self) -> str:
        return repr(self.value)


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


def flatten_tree(tree: Any, identities: Sequence[Hashable] | None = None) -> tuple[list[Any], Structure]:
    """The distinct tensor-like leaves of a tree, as they are, and its structure.

    Args:
        tree: a leaf may also be marked as :class:`Static`.
        identities: for each leaf, what it has in common with those that are the same tensor. By default a Tensor that
            occurs twice is one, and everything else is distinct.

    Raises:
        TraceError: a leaf is neither a tensor nor can it be compared by value; names it.
    """
    leaves, treedef = trees.flatten(tree)
    tensors: list[Any] = []
    numbers: dict[Hashable, int] = {}
    slots: list[int | Static] = []
    for i, leaf in enumerate(leaves):
        if isinstance(leaf, Tensor):
            identity = id(leaf) if identities is None else identities[i]
            number = numbers.setdefault(identity, len(tensors))
            if number == len(tensors):
                tensors.append(leaf)
            slots.append(number)
        elif isinstance(leaf, Static):
            slots.append(leaf)
        elif is_tensor_like(leaf):
            slots.append(len(tensors))
            tensors.append(leaf)
        else:
            try:
                if isinstance(leaf, Iterator):
                    raise TypeError("it gives its elements once; make a list or a tuple of them")
                slots.append(Static(leaf))
            except TypeError as error:
                path = trees.path_name(trees.accessors(tree)[i])
                kind = type(leaf).__name__
                raise TraceError(
                    f"{path or 'the value'} is a {kind}, neither a tensor nor a value that can be compared: {error}"
                ) from None
    return tensors, Structure(treedef, tuple(slots))


def is_number(leaf: Any) -> bool:
    """True for Python numbers; NumPy's are arrays."""
    return type(leaf) in (bool, int, float)


def numbers_as_static(tree: Any) -> Any:
    """The tree with its Python numbers marked as static."""
    return trees.map(lambda leaf: Static(leaf) if is_number(leaf) else leaf, tree)


def leaf_names(tree: Any, structure: Structure) -> list[str]:
    """The dotted path of each distinct tensor of a tree (the first one for a tied tensor)."""
    names: dict[int, str] = {}
    for accessor, slot in zip(trees.accessors(tree), structure.slots, strict=True):
        if isinstance(slot, int):
            names.setdefault(slot, trees.path_name(accessor))
    return [names[i] for i in range(len(names))]


def as_argument(leaf: Any) -> Tensor:
    """A tensor-like leaf as a Tensor; other libraries' arrays are copied, since those may change."""
    if isinstance(leaf, Tensor):
        return leaf
    if isinstance(leaf, np.ndarray):
        return tracing.tensor_of(leaf, None)
    if isinstance(leaf, _TENSOR_TYPES):
        return Tensor(leaf)
    return _concrete(_from_dlpack(leaf).copy())


def borrowed(leaf: Any) -> Tensor:
    """A tensor-like leaf as a Tensor for a call that has read it when it returns: without a copy where possible."""
    if isinstance(leaf, Tensor):
        return leaf
    if isinstance(leaf, np.ndarray):
        return _concrete(leaf)
    if isinstance(leaf, _TENSOR_TYPES):
        tensor = Tensor(leaf)
        tensor._weak = is_number(leaf)
        return tensor
    return _concrete(_from_dlpack(leaf))


def _from_dlpack(leaf: Any) -> DeviceBuffer:
    if isinstance(leaf, TensorSpec):
        raise TraceError(f"{leaf} is a spec, which has no data: it can stand for a tensor in jit(f).lower(...) only")
    return DeviceBuffer.from_dlpack(leaf)


def _concrete(data: np.ndarray | DeviceBuffer) -> Tensor:
    return Tensor._concrete(data, TensorSpec(data.shape, as_dtype(data.dtype)))


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
    distinct tensors of the results, then one per buffer write, then what is printed.
    """

    trace: tracing.FunctionTrace
    arguments: Structure
    results: Structure
    result_specs: list[TensorSpec]
    writes: list[BufferWrite] = field(default_factory=list)
    prints: tuple[Record, ...] = ()

    @property
    def printed(self) -> int:
        """How many of the results are there to be printed."""
        return len(outputs_of(self.prints))

    @property
    def returned(self) -> int:
        """How many of the results the Python call returns."""
        return len(self.result_specs) - len(self.writes) - self.printed

    def split(self, outs: Sequence[Any]) -> tuple[list[Any], list[Any], list[Any]]:
        """Results, or something for each: what is returned, new values of buffers, and what is printed."""
        end = self.returned + len(self.writes)
        return list(outs[: self.returned]), list(outs[self.returned : end]), list(outs[end:])

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
    identities: Sequence[Hashable] | None = None,
) -> TracedCall:
    """Traces ``function(*args, **kwargs)`` into a new function of ``module``; see :func:`flatten_tree`."""
    tensors, structure = flatten_tree((args, kwargs), identities)

    def body(trace: tracing.FunctionTrace, *traced: Tensor) -> Any:
        for given, argument in zip(tensors, traced, strict=True):
            argument._weak = given._weak if isinstance(given, Tensor) else is_number(given)
        inner = structure.unflatten(traced)
        before = [(leaf, _value_of(leaf)) for leaf in trees.leaves(inner)]
        inner_args, inner_kwargs = inner
        results, result_structure = flatten_tree(function(*inner_args, **inner_kwargs))
        writes, written = _buffer_writes(trace, inner, before)
        printed = [tensor for _, tensors in trace.prints for tensor in tensors]
        return [*map(as_argument, results), *written, *printed], (result_structure, writes)

    specs = [argument_spec(t) for t in tensors]
    trace, (result_structure, writes) = tracing.trace_function(module, name, body, specs, private=private)
    for write in writes:
        if write.module is not None:
            buffer = getattr(write.module, write.name)
            write.capture = next(i for i, t in enumerate(trace.captures) if t is buffer)
    prints = tuple(record for record, _ in trace.prints)
    result_specs = [spec_of(t) for t in trace.function.type.results]
    return TracedCall(trace, structure, result_structure, result_specs, writes, prints)


def argument_spec(leaf: Any) -> TensorSpec:
    """The spec that a tensor-like leaf is traced with."""
    if isinstance(leaf, TensorSpec):
        return leaf
    return borrowed(leaf).spec


def _value_of(leaf: Any) -> Any:
    return leaf._value if isinstance(leaf, Tensor) else leaf


def _buffer_writes(
    trace: tracing.FunctionTrace, inner: Any, before: list[tuple[Any, Any]]
) -> tuple[list[BufferWrite], list[Any]]:
    """The buffers assigned during a trace: leaves of the arguments that changed, and those of closed-over modules.

    Puts the latter's old values back. ``before`` has the leaves and their values from before the trace, since a leaf
    may have got another value in place.
    """
    writes, values = [], []
    after = trees.leaves(inner)
    if len(after) != len(before):
        raise TraceError(
            "the traced function added or removed leaves of one of its arguments; build modules and state before"
            " tracing, and return new trees instead of changing arguments",
        )
    changed = [
        i
        for i, ((old, value), new) in enumerate(zip(before, after, strict=True))
        if old is not new or value is not _value_of(new)
    ]
    if changed:
        accessors = trees.accessors(inner)
        for i in changed:
            if _is_module_buffer(inner, accessors[i]):
                # In the trace a module that occurs twice is two, and one would not see what the other writes.
                if sum(leaf is before[i][0] for leaf, _ in before) > 1:
                    raise TraceError(
                        f"the buffer {trees.path_name(accessors[i][2:])} is assigned while it is traced, but belongs to"
                        " two places of the arguments; put a module of its own in each place"
                    )
                writes.append(BufferWrite(accessor=accessors[i]))
                values.append(after[i])
    for module, name, _ in trace.outer_writes:
        writes.append(BufferWrite(module=module, name=name))
        values.append(getattr(module, name))
    trace.restore_buffers()
    return writes, values


def _is_module_buffer(tree: Any, accessor: Any) -> bool:
    parent = accessor[:-1](tree) if len(accessor) else None
    is_buffer = getattr(parent, "is_buffer", None)
    return bool(is_buffer and is_buffer(str(accessor[-1].entry)))


def signature_leaves(structure: Structure, leaves: Sequence[Tree]) -> Any:
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


def describe_tree(tree: Any) -> Tree:
    """A pytree whose leaves are signature leaves, as the signature's own kind of tree. Modules become dicts."""
    if isinstance(tree, Tree):
        return tree
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        children = tuple(map(describe_tree, tree))
        return Tree("namedtuple", children=children, keys=tuple(tree._fields), name=type(tree).__name__)
    if isinstance(tree, list | tuple):
        return Tree("list" if isinstance(tree, list) else "tuple", children=tuple(map(describe_tree, tree)))
    if isinstance(tree, dict):
        keys = sorted(tree)
        return Tree("dict", children=tuple(describe_tree(tree[k]) for k in keys), keys=tuple(map(str, keys)))
    accessors = trees.accessors(tree)
    if len(accessors) == 1 and not accessors[0]:
        return Tree("none") if tree is None else Tree("static", name=repr(tree))
    attributes: dict[str, Any] = {}
    for accessor in accessors:
        attributes.setdefault(str(accessor[0].entry), accessor[:1](tree))
    return Tree("dict", children=tuple(map(describe_tree, attributes.values())), keys=tuple(attributes))
