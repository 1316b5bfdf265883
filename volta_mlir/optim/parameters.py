"""Parameters by their names: what optimizers, averages and clipping do with trees."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from typing import Any, NamedTuple

import numpy as np

from volta_mlir import tree as trees
from volta_mlir.calls import as_argument, is_tensor_like
from volta_mlir.dtypes import float32, is_float, result_type
from volta_mlir.errors import ShapeError
from volta_mlir.functions import astype, where
from volta_mlir.modules import leaf_identities, trainable_mask
from volta_mlir.tensor import Tensor


class Named(NamedTuple):
    """A parameter and its dotted name; for a tied one that is its first name."""

    name: str
    tensor: Tensor


def wide(dtype: np.dtype) -> np.dtype:
    """The dtype of state and arithmetic for parameters of ``dtype``: float32 for half precision."""
    return result_type(dtype, float32)


def trainable(params: Any) -> dict[Hashable, Named]:
    """The trainable parameters of modules and the floating-point tensors outside of modules, by identity."""
    leaves = trees.leaves(params)
    return _named(params, [use and _is_float(p) for p, use in zip(leaves, trainable_mask(params), strict=True)])


def with_gradients(params: Any, grads: Any) -> Iterator[tuple[Hashable, str, Tensor, Tensor]]:
    """(identity, name, parameter, gradient) of each distinct parameter whose gradient is not None.

    Raises:
        ShapeError: the trees or the shapes differ; names the parameter.
    """
    gradients, identities = trees.leaves(grads), leaf_identities(params)
    if len(gradients) != len(identities):
        raise ShapeError(f"there are {len(gradients)} gradients for {len(identities)} leaves of the parameters")
    given = {i: as_argument(g) for i, g in zip(identities, gradients, strict=True) if g is not None}
    for identity, (name, p) in _named(params, [i in given for i in identities]).items():
        g = given[identity]
        if g.shape != p.shape:
            raise ShapeError(f"the gradient of {name or 'the parameter'} has shape {g.shape}, expected {p.shape}")
        yield identity, name, p, g


def replaced(params: Any, new: dict[Hashable, Tensor]) -> Any:
    """The tree with new tensors for some identities."""
    leaves, treedef = trees.flatten(params)
    identities = leaf_identities(params)
    return trees.unflatten(treedef, [new.get(i, p) for i, p in zip(identities, leaves, strict=True)])


def distinct(tree: Any) -> dict[Hashable, Tensor]:
    """The tensors of a tree by identity, tied ones once; None is left out."""
    leaves = zip(leaf_identities(tree), trees.leaves(tree), strict=True)
    return {identity: as_argument(leaf) for identity, leaf in leaves if leaf is not None}


def selected(condition: Tensor, new: Any, old: Any) -> Any:
    """The tree ``new`` where the scalar ``condition`` is true, else ``old``; tied leaves stay tied."""
    chosen: dict[tuple[int, int], Tensor] = {}

    def choose(n: Any, o: Any) -> Any:
        if n is o:
            return o
        key = id(n), id(o)
        if key not in chosen:
            chosen[key] = where(condition, n, o)
        return chosen[key]

    return trees.map(choose, new, old)


def for_parameter(state: dict[str, Any], name: str) -> Any:
    """The entry of a part of the state; raises ShapeError where the state was made for other parameters."""
    if name not in state:
        raise ShapeError(f"there is no state for parameter {name!r}; make it anew with init(params)")
    return state[name]


def map_distinct(function: Callable[[Tensor], Tensor], tree: Any) -> Any:
    """The tree with ``function`` applied to its tensors, to tied ones once; None stays."""
    return replaced(tree, {identity: function(t) for identity, t in distinct(tree).items()})


def as_wide(x: Tensor) -> Tensor:
    """``x`` in the dtype of :func:`wide`."""
    return astype(x, wide(x.dtype))


def _named(params: Any, chosen: list[bool]) -> dict[Hashable, Named]:
    """The distinct leaves that are chosen in at least one place, under the name of their first place."""
    identities = leaf_identities(params)
    used = {identity for identity, use in zip(identities, chosen, strict=True) if use}
    names: dict[Hashable, Named] = {}
    for accessor, leaf, identity in zip(trees.accessors(params), trees.leaves(params), identities, strict=True):
        if identity in used and identity not in names:
            names[identity] = Named(trees.path_name(accessor), as_argument(leaf))
    if len({name for name, _ in names.values()}) != len(names):
        raise ShapeError("two parameters have the same dotted name; rename a key that has a dot")
    return names


def _is_float(leaf: Any) -> bool:
    return is_tensor_like(leaf) and is_float(as_argument(leaf).dtype)
