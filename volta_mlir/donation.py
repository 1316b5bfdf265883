"""Which arguments of a function come back among its results: what ``donate="auto"`` donates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

from volta_mlir.calls import Static, Structure
from volta_mlir.dtypes import TensorSpec


class _Part(NamedTuple):
    """An argument, or an element of the result."""

    kind: Hashable  # structure, shapes, dtypes, and which leaves are one tensor
    tensors: frozenset[int]
    is_tree: bool


def returned_arguments(
    arguments: Structure,
    argument_specs: Sequence[TensorSpec],
    results: Structure,
    result_specs: Sequence[TensorSpec],
) -> set[int]:
    """The tensors of the arguments that a call may take, since it gives back new ones in their place.

    They are those of an argument of which the result, or an element of the result where that is a tuple, a list or a
    dict, has the structure, the shapes and the dtypes. Where more arguments than elements, or fewer, are alike, it is
    unclear which one is meant, and none is taken. An argument that is one tensor, as a batch may be, is taken only if
    the element at the same position is like it. A tensor that belongs to another argument too is not taken.

    Args:
        arguments: of ``(args, kwargs)``.
        argument_specs: of the distinct tensors of the arguments.
        results: of the result.
        result_specs: of the distinct tensors of the result.
    """
    args, kwargs = arguments.treedef.children()
    given = _parts([*args.children(), *kwargs.children()], arguments.slots, argument_specs)
    (whole,) = _parts([results.treedef], results.slots, result_specs)
    if whole.is_tree and whole.kind in [part.kind for part in given]:
        returned = [whole]
    elif results.treedef.type in (tuple, list, dict):
        returned = _parts(results.treedef.children(), results.slots, result_specs)
    else:
        returned = []
    at_positions = returned[: args.num_children] if results.treedef.type in (tuple, list) else []
    counts, returned_counts = (Counter(part.kind for part in parts) for parts in (given, returned))
    taken: set[int] = set()
    kept: set[int] = set()
    for position, part in enumerate(given):
        if part.is_tree:
            is_returned = counts[part.kind] == returned_counts[part.kind]
        else:
            is_returned = position < len(at_positions) and at_positions[position].kind == part.kind
        (taken if is_returned else kept).update(part.tensors)
    return taken - kept


def _parts(treedefs: Sequence[Any], slots: Sequence[int | Static], specs: Sequence[TensorSpec]) -> list[_Part]:
    """What each of the trees is, whose leaves follow one another."""
    parts = []
    begin = 0
    for treedef in treedefs:
        own = slots[begin : begin + treedef.num_leaves]
        begin += treedef.num_leaves
        numbers: dict[int, int] = {}  # counted anew, since the same trees have other numbers elsewhere
        leaves = [
            (numbers.setdefault(slot, len(numbers)), specs[slot]) if isinstance(slot, int) else slot for slot in own
        ]
        parts.append(_Part((treedef, *leaves), frozenset(numbers), not treedef.is_leaf()))
    return parts
