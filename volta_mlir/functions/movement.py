"""Functions that move elements."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

from volta_mlir.dialects import movement as ops
from volta_mlir.errors import ShapeError
from volta_mlir.functions.common import as_tensor, axes_tuple, broadcast_shapes, broadcast_to, promote
from volta_mlir.tensor import Tensor

__all__ = [
    "array_split", "broadcast_in_dim", "broadcast_shapes", "broadcast_to", "concatenate", "expand_dims", "flatten",
    "flip", "moveaxis", "pad_interior", "ravel", "repeat", "reshape", "roll", "slice", "slice_in_dim", "split",
    "squeeze", "stack", "swapaxes", "tile", "transpose",
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


def ravel(x: Any) -> Tensor:
    """The elements in row-major order under one axis.

    >>> ravel(Tensor([[1, 2], [3, 4]])).tolist()
    [1, 2, 3, 4]
    """
    return reshape(x, -1)


def flatten(x: Any, start_axis: int = 0, end_axis: int = -1) -> Tensor:
    """The axes from ``start_axis`` to ``end_axis`` inclusive merged into one.

    >>> flatten(Tensor([[[1, 2], [3, 4]]]), 1).shape
    (1, 4)
    """
    x = as_tensor(x)
    if not x.ndim:
        return reshape(x, 1)
    (first,), (last,) = axes_tuple(start_axis, x.ndim), axes_tuple(end_axis, x.ndim)
    if first > last:
        raise ShapeError(f"flatten: axis {start_axis} of {x.spec} comes after axis {end_axis}")
    return reshape(x, (*x.shape[:first], math.prod(x.shape[first : last + 1]), *x.shape[last + 1 :]))


def flip(x: Any, axis: int | Sequence[int] | None = None) -> Tensor:
    """The order of the elements along ``axis`` (default: all axes) reversed.

    >>> flip(Tensor([1, 2, 3])).tolist()
    [3, 2, 1]
    """
    x = as_tensor(x)
    axes = axes_tuple(axis, x.ndim)
    return ops.ReverseOp.apply(x, axes=axes) if axes else x


# -- parts of a tensor -------------------------------------------------------------------------------------------


def slice(x: Any, start: Sequence[int], limit: Sequence[int], strides: Sequence[int] | None = None) -> Tensor:
    """Along axis ``i`` every ``strides[i]``-th element from ``start[i]`` to below ``limit[i]``.

    >>> slice(Tensor([0, 1, 2, 3, 4]), [1], [4], [2]).tolist()
    [1, 3]
    """
    x = as_tensor(x)
    strides = (1,) * x.ndim if strides is None else tuple(strides)
    if (tuple(start), tuple(limit), strides) == ((0,) * x.ndim, x.shape, (1,) * x.ndim):
        return x
    return ops.SliceOp.apply(x, start=tuple(start), limit=tuple(limit), strides=strides)


def slice_in_dim(x: Any, start: int = 0, limit: int | None = None, stride: int = 1, axis: int = 0) -> Tensor:
    """:func:`slice` along one axis; ``limit`` None is its end.

    >>> slice_in_dim(Tensor([[0, 1, 2], [3, 4, 5]]), 1, axis=1).tolist()
    [[1, 2], [4, 5]]
    """
    x = as_tensor(x)
    (axis,) = axes_tuple(axis, x.ndim)
    starts, limits, strides = [0] * x.ndim, list(x.shape), [1] * x.ndim
    starts[axis], limits[axis], strides[axis] = start, x.shape[axis] if limit is None else limit, stride
    return slice(x, starts, limits, strides)


def split(x: Any, indices_or_sections: int | Sequence[int], axis: int = 0) -> list[Tensor]:
    """The parts of ``x`` along an axis: so many equal ones, or those that begin at the given indices.

    >>> [part.tolist() for part in split(Tensor([1, 2, 3, 4]), 2)]
    [[1, 2], [3, 4]]
    >>> [part.tolist() for part in split(Tensor([1, 2, 3, 4]), [1, 3])]
    [[1], [2, 3], [4]]
    """
    x = as_tensor(x)
    extent = x.shape[axes_tuple(axis, x.ndim)[0]]
    if isinstance(indices_or_sections, int) and (indices_or_sections < 1 or extent % indices_or_sections):
        raise ShapeError(
            f"split: {extent} elements along axis {axis} of {x.spec} do not make {indices_or_sections} equal parts;"
            " array_split makes unequal ones"
        )
    return array_split(x, indices_or_sections, axis)


def array_split(x: Any, indices_or_sections: int | Sequence[int], axis: int = 0) -> list[Tensor]:
    """:func:`split` whose first parts may have one element more.

    >>> [part.tolist() for part in array_split(Tensor([1, 2, 3]), 2)]
    [[1, 2], [3]]
    """
    x = as_tensor(x)
    extent = x.shape[axes_tuple(axis, x.ndim)[0]]
    if isinstance(indices_or_sections, int):
        if indices_or_sections < 1:
            raise ShapeError(f"array_split makes 1 part or more, not {indices_or_sections}")
        size, longer = divmod(extent, indices_or_sections)
        bounds = [i * size + min(i, longer) for i in range(indices_or_sections + 1)]
    else:
        inner = [max(0, min(extent, i + extent if i < 0 else i)) for i in indices_or_sections]
        bounds = [0, *inner, extent]
    return [slice_in_dim(x, a, max(a, z), axis=axis) for a, z in itertools.pairwise(bounds)]


# -- one tensor of several -----------------------------------------------------------------------------------------


def concatenate(tensors: Sequence[Any], axis: int = 0) -> Tensor:
    """The tensors one after the other along an axis, promoted to one dtype.

    >>> concatenate([Tensor([1, 2]), Tensor([3])]).tolist()
    [1, 2, 3]
    """
    parts = promote(*tensors) if tensors else []
    if not parts:
        raise ShapeError("concatenate takes at least one tensor")
    if not parts[0].ndim:
        raise ShapeError("concatenate takes tensors of rank 1 or more; stack joins scalars")
    (axis,) = axes_tuple(axis, parts[0].ndim)

    def join(parts: list[Tensor]) -> Tensor:
        half = len(parts) // 2  # a balanced tree: its gradient slices each part out of log n ever smaller ones
        return ops.ConcatenateOp.apply(join(parts[:half]), join(parts[half:]), axis=axis) if half else parts[0]

    return join(parts)


def stack(tensors: Sequence[Any], axis: int = 0) -> Tensor:
    """The tensors, all of one shape, along a new axis.

    >>> stack([Tensor([1, 2]), Tensor([3, 4])], axis=1).tolist()
    [[1, 3], [2, 4]]
    """
    parts = [as_tensor(x) for x in tensors]
    if len({part.shape for part in parts}) > 1:
        raise ShapeError(f"stack takes tensors of one shape, got {', '.join(str(part.spec) for part in parts)}")
    return concatenate([expand_dims(part, axis) for part in parts], axis)


def tile(x: Any, repetitions: int | Sequence[int]) -> Tensor:
    """``x`` repeated as a whole, ``repetitions[i]`` times along axis ``i``; the shorter of shape and repetitions
    gets leading ones.

    >>> tile(Tensor([1, 2]), 2).tolist()
    [1, 2, 1, 2]
    """
    x = as_tensor(x)
    times = (repetitions,) if isinstance(repetitions, int) else tuple(repetitions)
    rank = max(x.ndim, len(times))
    times, shape = (1,) * (rank - len(times)) + times, (1,) * (rank - x.ndim) + x.shape
    pairs = tuple(extent for pair in zip(times, shape, strict=True) for extent in pair)
    spread = broadcast_in_dim(reshape(x, shape), pairs, range(1, 2 * rank, 2))
    return reshape(spread, tuple(n * extent for n, extent in zip(times, shape, strict=True)))


def repeat(x: Any, repeats: int, axis: int | None = None) -> Tensor:
    """Every element ``repeats`` times in a row, along an axis (default: of the flattened tensor).

    >>> repeat(Tensor([1, 2]), 2).tolist()
    [1, 1, 2, 2]
    """
    x = ravel(x) if axis is None else as_tensor(x)
    (axis,) = axes_tuple(0 if axis is None else axis, x.ndim)
    before, after = x.shape[: axis + 1], x.shape[axis + 1 :]
    kept = [a for a in range(x.ndim + 1) if a != axis + 1]
    spread = broadcast_in_dim(x, (*before, repeats, *after), kept)
    return reshape(spread, (*before[:-1], before[-1] * repeats, *after))


def roll(x: Any, shift: int | Sequence[int], axis: int | Sequence[int] | None = None) -> Tensor:
    """The elements moved ``shift`` places along an axis; what leaves at one end enters at the other.

    Without an axis the flattened tensor is rolled. With several axes ``shift`` has an entry for each.

    >>> roll(Tensor([1, 2, 3]), 1).tolist()
    [3, 1, 2]
    """
    x = as_tensor(x)
    if axis is None:
        return reshape(roll(ravel(x), shift, 0), x.shape)
    axes = [axis] if isinstance(axis, int) else list(axis)
    shifts = [shift] * len(axes) if isinstance(shift, int) else list(shift)
    if len(shifts) != len(axes):
        raise ShapeError(f"roll: {len(shifts)} shifts for {len(axes)} axes")
    for one, by in zip(axes, shifts, strict=True):
        extent = x.shape[axes_tuple(one, x.ndim)[0]]
        cut = -by % extent if extent else 0
        if cut:
            x = concatenate([slice_in_dim(x, cut, axis=one), slice_in_dim(x, 0, cut, axis=one)], one)
    return x


def pad_interior(
    x: Any, value: Any, low: Sequence[int], high: Sequence[int], interior: Sequence[int] | None = None
) -> Tensor:
    """``value`` around and between the elements of ``x``.

    Args:
        value: a scalar, converted to the dtype of ``x``.
        low, high: for each axis, how many before the first and after the last element; a negative number removes
            as many instead.
        interior: for each axis, how many between each two elements; default none.

    >>> pad_interior(Tensor([1, 2, 3]), 0, [0], [-1], [1]).tolist()
    [1, 0, 2, 0]
    """
    x = as_tensor(x)
    low, high = tuple(low), tuple(high)
    interior = (0,) * x.ndim if interior is None else tuple(interior)
    if not any((*low, *high, *interior)):
        return x
    return ops.PadOp.apply(x, as_tensor(value, x.dtype), low=low, high=high, interior=interior)
