"""Pytrees: nested containers of tensors, through optree.

Lists, tuples, dicts, named tuples, dataclasses registered with optree in the namespace ``"volta"``, and
:class:`volta_mlir.nn.Module` are containers; everything else, None included, is a leaf.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import optree

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
