"""What transforms need to know of Modules, without importing the layers."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from volta_mlir import tree as trees


def trainable_mask(tree: Any) -> list[bool]:
    """For each leaf, whether gradients are taken by it: trainable Parameters, and leaves outside of Modules.

    An object with ``is_trainable(name)`` (a Module) decides for the leaves that are its attributes, also for those
    in lists and dicts in between.
    """
    mask = []
    for accessor in trees.accessors(tree):
        node, trainable = tree, True
        for entry in accessor:
            if hasattr(node, "is_trainable"):
                trainable = node.is_trainable(str(entry.entry))
            node = entry(node)
        mask.append(trainable)
    return mask


def leaf_identities(tree: Any) -> list[Hashable]:
    """For each leaf something that it shares with the leaves that are the same variable.

    Tied parameters of modules, those which are one object, are one variable. Outside of modules tensors are values:
    one that is in two places is two variables.
    """
    identities: list[Hashable] = []
    for i, (accessor, leaf) in enumerate(zip(trees.accessors(tree), trees.leaves(tree), strict=True)):
        node, in_module = tree, False
        for entry in accessor:
            in_module = in_module or hasattr(node, "is_trainable")
            node = entry(node)
        identities.append(("tied", id(leaf)) if in_module else i)
    return identities
