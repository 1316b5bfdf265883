"""Pytrees: nested containers of tensors, through optree.

Lists, tuples, dicts, named tuples, dataclasses registered with optree in the namespace ``"volta"``, and
:class:`volta_mlir.nn.Module` are containers; everything else, None included, is a leaf.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import optree

from volta_mlir.dtypes import TensorSpec

NAMESPACE = "volta"


def flatten(tree: Any) -> tuple[list[Any], Any]:
    """The leaves in order, and the treedef that :func:`unflatten` takes.

    >>> flatten({"b": 2, "a": [1, None]})[0]
    [1, None, 2]
    """
    leaves, treedef = optree.tree_flatten(tree, none_is_leaf=True, namespace=NAMESPACE)
    return leaves, treedef


def unflatten(treedef: Any, leaves: Any) -> Any:
    """The tree of this structure with these leaves.

    >>> leaves, treedef = flatten({"a": 1})
    >>> unflatten(treedef, [7])
    {'a': 7}
    """
    return optree.tree_unflatten(treedef, leaves)


def leaves(tree: Any) -> list[Any]:
    """The leaves in order.

    >>> leaves((1, [2, 3]))
    [1, 2, 3]
    """
    return flatten(tree)[0]


def map(function: Callable[..., Any], tree: Any, *rest: Any) -> Any:
    """A tree of ``function(leaf, *corresponding leaves of the others)``; the structures must agree.

    >>> map(lambda x, y: x + y, {"a": 1}, {"a": 2})
    {'a': 3}
    """
    return optree.tree_map(function, tree, *rest, none_is_leaf=True, namespace=NAMESPACE)


def accessors(tree: Any) -> list[Any]:
    """For each leaf, an optree accessor: called with a tree it gives the leaf there; its entries name the way."""
    return optree.tree_accessors(tree, none_is_leaf=True, namespace=NAMESPACE)


def path_name(accessor: Any) -> str:
    """The way to a leaf in dotted form, ``layers.0.weight``.

    >>> [path_name(a) for a in accessors({"layers": [1, {"weight": 2}]})]
    ['layers.0', 'layers.1.weight']
    """
    return ".".join(str(entry.entry) for entry in accessor)


def assign(tree: Any, accessor: Any, value: Any) -> None:
    """Sets the attribute of the object in ``tree`` whose leaf the accessor names."""
    parent = accessor[:-1](tree)
    setattr(parent, str(accessor[-1].entry), value)


def differences(first: Any, second: Any) -> list[tuple[tuple[Any, ...], str, str]]:
    """Where two trees differ: the way to each place, and what the trees have there.

    Leaves that are a :class:`TensorSpec` have to be equal, others only to be leaves in both.

    >>> differences({"a": [1, None], "b": (1, 2)}, {"a": [1], "b": (1, [2])})
    [(('a',), 'a list of 2', 'a list of 1'), (('b', 1), '2', 'a list of 1')]
    """
    return list(_differences(first, second, ()))


def _differences(first: Any, second: Any, way: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], str, str]]:
    if _is_leaf(first) or _is_leaf(second):
        is_same = _is_leaf(first) and _is_leaf(second)
        if isinstance(first, TensorSpec) or isinstance(second, TensorSpec):
            is_same = isinstance(first, TensorSpec) and first == second
        if not is_same:
            yield way, _text(first), _text(second)
        return
    (children, metadata, entries), (others, other_metadata, other_entries) = _one_level(first), _one_level(second)
    if type(first) is not type(second) or entries != other_entries:
        yield way, _text(first), _text(second)
        return
    below = zip(entries, children, others, strict=True)
    found = [difference for entry, a, b in below for difference in _differences(a, b, (*way, entry))]
    if not found and metadata != other_metadata:
        found = [(way, _text(first), f"{_text(second)} with other settings")]
    yield from found


def _is_leaf(tree: Any) -> bool:
    return optree.tree_is_leaf(tree, none_is_leaf=True, namespace=NAMESPACE)


def _one_level(tree: Any) -> tuple[list[Any], Any, tuple[Any, ...]]:
    children, metadata, entries, _ = optree.tree_flatten_one_level(tree, none_is_leaf=True, namespace=NAMESPACE)
    return children, metadata, tuple(entries)


def _text(tree: Any) -> str:
    if _is_leaf(tree):
        return str(tree)
    entries, kind = _one_level(tree)[2], type(tree).__name__
    if isinstance(tree, list | tuple) and not hasattr(tree, "_fields"):
        return f"a {kind} of {len(tree)}"
    return f"a {kind} of {', '.join(map(str, entries)) or 'nothing'}"


def mismatch(first: Any, second: Any, form: str, root: str, name: Callable[..., str] | None = None) -> str:
    """The first places where two trees differ, in words.

    Args:
        first, second: the trees; see :func:`differences`.
        form: what is said of a place, with the fields ``path``, ``first`` and ``second``.
        root: what the whole trees are called, and begin paths with.
        name: makes a path of the entries that lead to a place, instead of ``root``.

    >>> mismatch({"a": 1}, {"b": 1}, "{path} was {first} and is {second}", "the carry")
    'the carry was a dict of a and is a dict of b'
    """
    found = differences(first, second)
    said = []
    for way, a, b in found[:3]:
        path = name(*way) if name is not None and way else f"{root}{''.join(f'.{entry}' for entry in way)}"
        said.append(form.format(path=path, first=a, second=b))
    return "; ".join(said) + (f"; and {len(found) - 3} more" if len(found) > 3 else "")
