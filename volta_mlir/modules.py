"""What transforms need to know of Modules, without importing the layers."""

from __future__ import annotations

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
