"""Functions that move elements."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from volta_mlir.dialects import movement as ops
from volta_mlir.errors import ShapeError
from volta_mlir.functions.common import as_tensor, axes_tuple, broadcast_shapes, broadcast_to
from volta_mlir.tensor import Tensor

__all__ = [
    "broadcast_in_dim", "broadcast_shapes", "broadcast_to", "expand_dims", "moveaxis", "reshape", "squeeze",
    "swapaxes", "transpose",
]  # fmt: skip


def broadcast_in_dim(x: Any, shape: Sequence[int], dims: Sequence[int]) -> Tensor:
    """Places axis ``i`` of ``x`` at axis ``dims[i]`` of ``shape`` and repeats along the others; ``dims`` ascends.

    >>> broadcast_in_dim(Tensor([1, 2]), (2, 3), [0]).tolist()
    [[1, 1, 1], [2, 2, 2]]
    """
    x = as_tensor(x)
    if x.shape == tuple(shape):
        return x
    return ops.BroadcastInDimOp.apply(x, shape=tuple(shape), dims=tuple(dims))


def reshape(x: Any, *shape: Any) -> Tensor:
    """The same elements, row-major, under another shape; one extent may be -1.

    >>> reshape(Tensor([[1, 2], [3, 4]]), -1).tolist()
    [1, 2, 3, 4]
    """
    x = as_tensor(x)
    target = tuple(shape[0]) if len(shape) == 1 and not isinstance(shape[0], int) else tuple(shape)
    if target.count(-1) == 1:
        known = math.prod(s for s in target if s != -1)
        if known == 0 or x.size % known:
            raise ShapeError(f"{x.spec} has {x.size} elements, which shape {target} does not divide")
        target = tuple(x.size // known if s == -1 else s for s in target)
    return x if target == x.shape else ops.ReshapeOp.apply(x, shape=target)


def transpose(x: Any, axes: Sequence[int] | None = None) -> Tensor:
    """The axes in the order ``axes`` (default: reversed).

    >>> transpose(Tensor([[1, 2], [3, 4]])).tolist()
    [[1, 3], [2, 4]]
    """
    x = as_tensor(x)
    order = tuple(reversed(range(x.ndim))) if axes is None else tuple(a % x.ndim for a in axes)
    return x if order == tuple(range(x.ndim)) else ops.TransposeOp.apply(x, permutation=order)


def swapaxes(x: Any, axis1: int, axis2: int) -> Tensor:
    """Two axes exchanged.

    >>> swapaxes(Tensor([[1, 2], [3, 4]]), 0, 1).tolist()
    [[1, 3], [2, 4]]
    """
    x = as_tensor(x)
    order = list(range(x.ndim))
    order[axis1], order[axis2] = order[axis2], order[axis1]
    return transpose(x, order)


def moveaxis(x: Any, source: int, destination: int) -> Tensor:
    """One axis moved to another position, the others in order.

    >>> moveaxis(Tensor([[1, 2], [3, 4]]), 0, 1).tolist()
    [[1, 3], [2, 4]]
    """
    x = as_tensor(x)
    order = [a for a in range(x.ndim) if a != source % x.ndim]
    order.insert(destination % x.ndim, source % x.ndim)
    return transpose(x, order)


def expand_dims(x: Any, axis: int | Sequence[int]) -> Tensor:
    """New axes of extent 1 at the positions ``axis`` of the result.

    >>> expand_dims(Tensor([1, 2]), 0).shape
    (1, 2)
    """
    x = as_tensor(x)
    count = 1 if isinstance(axis, int) else len(axis)
    new = axes_tuple(axis, x.ndim + count)
    old = iter(x.shape)
    return reshape(x, tuple(1 if a in new else next(old) for a in range(x.ndim + count)))


def squeeze(x: Any, axis: int | Sequence[int] | None = None) -> Tensor:
    """Without the axes of extent 1 (default: all of them).

    >>> squeeze(Tensor([[1, 2]]), 0).shape
    (2,)
    """
    x = as_tensor(x)
    axes = tuple(a for a in range(x.ndim) if x.shape[a] == 1) if axis is None else axes_tuple(axis, x.ndim)
    if any(x.shape[a] != 1 for a in axes):
        raise ShapeError(f"squeeze: axes {axes} of {x.spec} are not all of extent 1")
    return reshape(x, tuple(s for a, s in enumerate(x.shape) if a not in axes))
