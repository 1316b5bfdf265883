"""Indexing: ``x[...]``, ``x.at[...]``, take, and slices at positions that a tensor gives.

Indices that a tensor gives count from the end when negative, as Python's do; after that, reading clamps those that
are out of range, and writing drops them.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from volta_mlir.dialects import indexing as ops
from volta_mlir.dialects.movement import dilated
from volta_mlir.dtypes import DEFAULT_FLOAT, bool_, int32, int64, is_float, is_integer
from volta_mlir.errors import DTypeError, ShapeError, TraceError
from volta_mlir.functions import elementwise
from volta_mlir.functions.common import as_tensor, astype, axes_tuple, broadcast_shapes, broadcast_to
from volta_mlir.functions.creation import arange, iota, ones, ones_like, zeros_like
from volta_mlir.functions.movement import (
    expand_dims,
    flip,
    moveaxis,
    pad_interior,
    ravel,
    reshape,
    slice_in_dim,
    stack,
    transpose,
)
from volta_mlir.functions.movement import slice as static_slice
from volta_mlir.tensor import Tensor

__all__ = [
    "diagonal", "dynamic_slice", "dynamic_update_slice", "eye", "getitem", "one_hot", "pad", "take",
    "take_along_axis", "tril", "triu",
]  # fmt: skip


# -- index tensors -------------------------------------------------------------------------------------------------


def _as_indices(indices: Any, what: str) -> Tensor:
    """An integer tensor as int32 or int64."""
    indices = as_tensor(indices)
    if not indices.size and not indices.is_traced:  # an empty list has no dtype of its own
        indices = astype(indices, int32)
    if not is_integer(indices.dtype):
        raise DTypeError(f"{what}: indices are integers, got {indices.spec}")
    wide = indices.dtype.itemsize == 8 or indices.dtype.name == "uint32"
    return astype(indices, int64 if wide else int32)


def _merged_indices(arrays: Sequence[Tensor], extents: Sequence[int], *, clamp: bool) -> Tensor:
    """Indices of several axes as indices of the one axis that they make when merged; negative ones count from the end.

    What is out of range is clamped, each index by itself, or else becomes -1. A single axis leaves that to the op.
    """
    concrete = not any(i.is_traced for i in arrays)
    xp: Any = np if concrete else elementwise
    dtype = int64 if math.prod(extents) > np.iinfo(np.int32).max else int32
    merged: Any = 0
    valid: Any = True
    for i, extent in zip(arrays, extents, strict=True):
        index: Any = i.numpy() if concrete else i
        index = xp.where(index < 0, index + extent, index)
        if len(arrays) == 1:
            return as_tensor(index)
        valid = valid & (index >= 0) & (index < extent)
        merged = merged * extent + xp.clip(index, 0, extent - 1).astype(dtype)
    return as_tensor(merged if clamp else xp.where(valid, merged, -1))


# -- slices at a position given by a tensor ------------------------------------------------------------------------


def _as_starts(starts: Any, rank: int, what: str) -> Tensor:
    if not isinstance(starts, Tensor | np.ndarray):
        parts = [_as_indices(s, what) for s in starts]
        starts = stack(parts) if any(s.is_traced for s in parts) else np.array(parts, np.int64).reshape(-1)
    starts = _as_indices(starts, what)
    if starts.shape != (rank,):
        raise ShapeError(f"{what}: {rank} axes need as many starts, got {starts.spec}")
    return starts


def dynamic_slice(x: Any, starts: Any, sizes: Sequence[int]) -> Tensor:
    """The ``sizes`` elements along each axis from ``starts`` on.

    Args:
        starts: an entry for each axis, as a sequence of integers and scalar tensors, or as one tensor. They are
            clamped so that the slice lies inside ``x``, and do not count from the end.
        sizes: Python integers.

    >>> dynamic_slice(Tensor([0, 1, 2, 3]), [Tensor(3)], [2]).tolist()
    [2, 3]
    """
    x = as_tensor(x)
    return ops.DynamicSliceOp.apply(x, _as_starts(starts, x.ndim, "dynamic_slice"), sizes=tuple(sizes))


def dynamic_update_slice(x: Any, update: Any, starts: Any) -> Tensor:
    """``x`` with ``update``, a tensor of the same rank, written from ``starts`` on (see :func:`dynamic_slice`).

    >>> dynamic_update_slice(Tensor([0, 1, 2, 3]), Tensor([8, 9]), [Tensor(1)]).tolist()
    [0, 8, 9, 3]
    """
    x = as_tensor(x)
    starts = _as_starts(starts, x.ndim, "dynamic_update_slice")
    return ops.DynamicUpdateSliceOp.apply(x, as_tensor(update, x.dtype), starts)


# -- take --------------------------------------------------------------------------------------------------------


def take(x: Any, indices: Any, axis: int | None = None) -> Tensor:
    """The elements of ``x`` at ``indices`` along an axis (default: of the flattened tensor).

    The axes of ``indices`` take the place of ``axis``. Negative indices count from the end; those out of range are
    clamped.

    >>> take(Tensor([[1, 2], [3, 4]]), [1, 0, 1], axis=0).tolist()
    [[3, 4], [1, 2], [3, 4]]
    """
    x = ravel(x) if axis is None else as_tensor(x)
    (axis,) = axes_tuple(0 if axis is None else axis, x.ndim)
    indices = _merged_indices([_as_indices(indices, "take")], [x.shape[axis]], clamp=True)
    return _insert_axes(ops.GatherOp.apply(x, indices, axis=axis, batch_axes=()), indices.ndim, axis)


def _insert_axes(x: Tensor, count: int, position: int) -> Tensor:
    """The first ``count`` axes moved behind the ``position`` following ones."""
    last = count + position
    return transpose(x, [*range(count, last), *range(count), *range(last, x.ndim)])


def take_along_axis(x: Any, indices: Any, axis: int) -> Tensor:
    """For each position the element of ``x`` whose place along ``axis`` is in ``indices``.

    ``indices`` has the rank of ``x``; the axes other than ``axis`` broadcast. Negative indices count from the end;
    those out of range are clamped.

    >>> take_along_axis(Tensor([[1, 2], [3, 4]]), Tensor([[1], [0]]), axis=1).tolist()
    [[2], [3]]
    """
    x, indices = as_tensor(x), _as_indices(indices, "take_along_axis")
    if x.ndim != indices.ndim:
        raise ShapeError(f"take_along_axis: {x.spec} and the indices {indices.spec} differ in rank")
    (axis,) = axes_tuple(axis, x.ndim)
    indices = _merged_indices([indices], [x.shape[axis]], clamp=True)
    common = broadcast_shapes(*((*t.shape[:axis], 1, *t.shape[axis + 1 :]) for t in (x, indices)))
    x, indices = (broadcast_to(t, (*common[:axis], t.shape[axis], *common[axis + 1 :])) for t in (x, indices))
    others = tuple(a for a in range(x.ndim) if a != axis)
    out = ops.GatherOp.apply(x, moveaxis(indices, axis, -1), axis=axis, batch_axes=others)
    return moveaxis(out, -1, axis)


# -- x[...] ------------------------------------------------------------------------------------------------------


@dataclass
class _Index:
    """What an index says about a tensor.

    It first keeps a range of each axis, the *block*. Integers keep one element, and the axis is dropped from the
    block. Arrays then index axes of the block.

    Attributes:
        ranges: for each axis of the tensor the elements kept.
        dropped: the axes that an integer indexes.
        arrays: the arrays by the axis of the tensor that they index, broadcast together.
        kept: for each axis of the result that is not of the arrays, whether it is one of the tensor's or a new one.
        position: before which of these the axes of the arrays come.
    """

    ranges: list[range]
    dropped: set[int]
    arrays: dict[int, Tensor]
    kept: list[bool]
    position: int

    @property
    def array_shape(self) -> tuple[int, ...]:
        return next(iter(self.arrays.values())).shape if self.arrays else ()

    def array_axes(self) -> list[int]:
        """The axes of the block that arrays index."""
        block = [a for a in range(len(self.ranges)) if a not in self.dropped]
        return [block.index(a) for a in self.arrays]

    def result_shape(self) -> tuple[int, ...]:
        sizes = iter([len(r) for a, r in enumerate(self.ranges) if a not in self.dropped and a not in self.arrays])
        shape = [next(sizes) if of_tensor else 1 for of_tensor in self.kept]
        return (*shape[: self.position], *self.array_shape, *shape[self.position :])

    def kept_before_arrays(self) -> int:
        """How many of the tensor's own axes come before those of the arrays in the result."""
        return self.kept[: self.position].count(True)


def _parse(x: Tensor, index: Any) -> _Index:
    items = _expanded(x, index if isinstance(index, tuple) else (index,))
    parsed = _Index([range(n) for n in x.shape], set(), {}, [], 0)
    positions = []  # of the integers and arrays: how many axes of the result precede them
    axis = 0
    for item in items:
        if item is None or isinstance(item, slice):
            parsed.kept.append(item is not None)
        else:
            positions.append(len(parsed.kept))
        if item is None:
            continue
        if isinstance(item, slice):
            parsed.ranges[axis] = range(*item.indices(x.shape[axis]))
        elif isinstance(item, Tensor):
            parsed.arrays[axis] = item
        else:
            parsed.ranges[axis] = _one(x, axis, item)
            parsed.dropped.add(axis)
        axis += 1
    shape = broadcast_shapes(*(i.shape for i in parsed.arrays.values()))
    parsed.arrays = {a: broadcast_to(i, shape) for a, i in parsed.arrays.items()}
    # As NumPy has it: the axes of the arrays stay in place only if nothing separates what indexes by number.
    together = positions and positions == [positions[0]] * len(positions)
    parsed.position = positions[0] if parsed.arrays and together else 0
    return parsed


def _expanded(x: Tensor, items: tuple[Any, ...]) -> list[Any]:
    """The items of an index for every axis of ``x``: None, slices, integers, and integer tensors."""
    plain: list[Any] = []
    for item in items:
        if item is None or item is Ellipsis or isinstance(item, slice):
            plain.append(item)
        elif isinstance(item, int | np.integer) and not isinstance(item, bool):
            plain.append(int(item))
        else:
            plain.append(as_tensor(item))
    used = sum(
        (i.ndim if i.dtype == bool_ else 1) if isinstance(i, Tensor) else isinstance(i, int | slice) for i in plain
    )
    if used > x.ndim:
        raise ShapeError(f"{x.spec} has {x.ndim} axes, the index has entries for {used}")
    ellipses = [n for n, item in enumerate(plain) if item is Ellipsis]
    if len(ellipses) > 1:
        raise ShapeError("an index has at most one ellipsis (...)")
    at = ellipses[0] if ellipses else len(plain)
    plain[at : at + 1] = [slice(None)] * (x.ndim - used)
    out: list[Any] = []
    axis = 0
    for item in plain:
        if isinstance(item, Tensor):
            item = _mask_indices(x, axis, item) if item.dtype == bool_ else [_as_indices(item, "x[...]")]
            out += item
            axis += len(item)
        else:
            out.append(item)
            axis += item is not None
    return out


def _mask_indices(x: Tensor, axis: int, mask: Tensor) -> list[Tensor]:
    """The places where a boolean mask of the axes from ``axis`` on is True, as an array for each of them."""
    if mask.is_traced:
        raise TraceError(
            f"x[mask] with the traced mask {mask.spec}: the shape of the result would depend on its values; use"
            " volta.where(mask, x, other), or x * mask, which keep the shape"
        )
    if not mask.ndim or mask.shape != x.shape[axis : axis + mask.ndim]:
        raise ShapeError(f"the mask {mask.spec} does not fit the axes of {x.spec} from axis {axis} on")
    return [Tensor(i, int32 if max(mask.shape) <= np.iinfo(np.int32).max else int64) for i in np.nonzero(mask.numpy())]


def _one(x: Tensor, axis: int, index: int) -> range:
    extent = x.shape[axis]
    if not -extent <= index < extent:
        raise ShapeError(f"index {index} is out of range for axis {axis} of {x.spec}")
    return range(index % extent, index % extent + 1)


def _ascending(ranges: Sequence[range]) -> tuple[list[range], tuple[int, ...]]:
    """The same elements in ascending order, and the axes on which that reverses them."""
    reversed_axes = tuple(a for a, r in enumerate(ranges) if r.step < 0 and len(r) > 1)
    ordered = [r[::-1] if a in reversed_axes else r for a, r in enumerate(ranges)]
    return [range(r[0], r[-1] + 1, r.step if len(r) > 1 else 1) if r else range(0) for r in ordered], reversed_axes


def _block(x: Tensor, index: _Index) -> Tensor:
    """The elements that slices and integers keep, without the axes of the integers."""
    ranges, reversed_axes = _ascending(index.ranges)
    part = static_slice(x, [r.start for r in ranges], [r.stop for r in ranges], [r.step for r in ranges])
    part = flip(part, reversed_axes)
    return reshape(part, [n for a, n in enumerate(part.shape) if a not in index.dropped])


def _merge_order(rank: int, axes: Sequence[int]) -> tuple[list[int], int]:
    """An order of a block's axes in which those in ``axes`` are neighbours, and where the first of them is then."""
    others = [a for a in range(rank) if a not in axes]
    first = sum(a < axes[0] for a in others)
    return [*others[:first], *axes, *others[first:]], first


def _merge(x: Tensor, first: int, count: int) -> Tensor:
    """``count`` axes of ``x`` from ``first`` on as one."""
    merged = math.prod(x.shape[first : first + count])
    return reshape(x, (*x.shape[:first], merged, *x.shape[first + count :]))


def getitem(x: Any, index: Any) -> Tensor:
    """``x[index]``, as NumPy's: integers, slices, None, an ellipsis, integer arrays and boolean masks.

    Integers that Python knows are checked. Indices in a tensor count from the end when negative, and are clamped when
    out of range. A mask must not be traced, since the shape of the result depends on its values.

    >>> x = Tensor([[1, 2, 3], [4, 5, 6]])
    >>> x[:, ::-1].tolist(), x[1, Tensor([0, 2])].tolist(), x[x.numpy() > 4].tolist()
    ([[3, 2, 1], [6, 5, 4]], [4, 6], [5, 6])
    """
    x = as_tensor(x)
    parsed = _parse(x, index)
    out = _block(x, parsed)
    if parsed.arrays:
        axes = parsed.array_axes()
        order, first = _merge_order(out.ndim, axes)
        at = _merged_indices(list(parsed.arrays.values()), [out.shape[a] for a in axes], clamp=True)
        out = _merge(transpose(out, order), first, len(axes))
        out = ops.GatherOp.apply(out, at, axis=first, batch_axes=())
        out = _insert_axes(out, at.ndim, parsed.kept_before_arrays())
    return reshape(out, parsed.result_shape())


# -- x.at[...] -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class At:
    """``x.at``; see :class:`AtIndex` for what ``x.at[index]`` can do."""

    tensor: Tensor

    def __getitem__(self, index: Any) -> AtIndex:
        return AtIndex(self.tensor, index)


@dataclass(frozen=True)
class AtIndex:
    """The places of a tensor that an index names, to be updated: each method returns a new tensor.

    ``value`` broadcasts to the shape of ``x[index]`` and is converted to the dtype of ``x``. Updates whose index is
    out of range are dropped. If arrays name a place more than once, all updates count, in row-major order, so that of
    several ``set`` the last one wins.

    Example:
        >>> x = Tensor([1.0, 2.0, 3.0])
        >>> x.at[1].set(0).tolist(), x.at[Tensor([0, 0, 7])].add(1).tolist()
        ([1.0, 0.0, 3.0], [3.0, 2.0, 3.0])
    """

    tensor: Tensor
    index: Any

    def get(self) -> Tensor:
        """``x[index]``."""
        return getitem(self.tensor, self.index)

    def set(self, value: Any) -> Tensor:
        """``x`` with ``value`` at the index.

        >>> Tensor([[1, 2], [3, 4]]).at[:, 0].set([7, 8]).tolist()
        [[7, 2], [8, 4]]
        """
        return self._update(value, ops.ScatterSetOp, lambda old, new: new)

    def add(self, value: Any) -> Tensor:
        """``x`` with ``value`` added at the index.

        >>> Tensor([1, 2, 3]).at[1:].add(10).tolist()
        [1, 12, 13]
        """
        return self._update(value, ops.ScatterAddOp, operator.add)

    def mul(self, value: Any) -> Tensor:
        """``x`` with ``value`` multiplied into it at the index.

        >>> Tensor([1, 2, 3]).at[Tensor([0, 2, 2])].mul(10).tolist()
        [10, 2, 300]
        """
        return self._update(value, ops.ScatterMulOp, operator.mul)

    def div(self, value: Any) -> Tensor:
        """``x``, which must be floating-point, divided by ``value`` at the index: by the product of several.

        >>> Tensor([1.0, 2.0, 3.0]).at[1:].div(2).tolist()
        [1.0, 1.0, 1.5]
        """
        if not is_float(self.tensor.dtype):
            raise DTypeError(f"at[...].div gives floating-point numbers, the tensor is {self.tensor.spec}")
        return self.tensor / AtIndex(ones_like(self.tensor), self.index).mul(value)

    def max(self, value: Any) -> Tensor:
        """``x`` with the maximum of it and ``value`` at the index.

        >>> Tensor([1, 2, 3]).at[Tensor([0, 0])].max([5, 4]).tolist()
        [5, 2, 3]
        """
        return self._update(value, ops.ScatterMaxOp, elementwise.maximum)

    def min(self, value: Any) -> Tensor:
        """``x`` with the minimum of it and ``value`` at the index.

        >>> Tensor([1, 2, 3]).at[::2].min(0).tolist()
        [0, 2, 0]
        """
        return self._update(value, ops.ScatterMinOp, elementwise.minimum)

    #: JAX's names.
    multiply, divide = mul, div

    def _update(self, value: Any, scatter: Any, combine: Any) -> Tensor:
        x, parsed = self.tensor, _parse(self.tensor, self.index)
        value = broadcast_to(as_tensor(value, x.dtype), parsed.result_shape())
        if not value.size:
            return x
        block = _block(x, parsed)
        others = [n for a, n in enumerate(block.shape) if a not in parsed.array_axes()]
        lead, rank = parsed.kept_before_arrays(), len(parsed.array_shape)
        value = reshape(value, (*others[:lead], *parsed.array_shape, *others[lead:]))  # without new axes
        if parsed.arrays:
            value = _insert_axes(value, lead, rank)  # the axes of the arrays come first again
            block = _scattered(block, parsed, value, scatter)
        else:
            block = combine(block, value)
        return _with_block(x, parsed, block)


def _scattered(block: Tensor, index: _Index, value: Tensor, scatter: Any) -> Tensor:
    axes = index.array_axes()
    order, first = _merge_order(block.ndim, axes)
    at = _merged_indices(list(index.arrays.values()), [block.shape[a] for a in axes], clamp=False)
    moved = transpose(block, order)
    out = scatter.apply(_merge(moved, first, len(axes)), at, value, axis=first, batch_axes=())
    return transpose(reshape(out, moved.shape), [order.index(a) for a in range(block.ndim)])


def _with_block(x: Tensor, index: _Index, block: Tensor) -> Tensor:
    """``x`` with its block replaced."""
    ranges, reversed_axes = _ascending(index.ranges)
    if not reversed_axes and all(r == range(n) for r, n in zip(ranges, x.shape, strict=True)):
        return reshape(block, x.shape)
    block = flip(reshape(block, [len(r) for r in ranges]), reversed_axes)
    if all(r.step == 1 for r in ranges):
        return dynamic_update_slice(x, block, [r.start for r in ranges])
    low, interior = [r.start for r in ranges], [r.step - 1 for r in ranges]
    high = [n - r.start - dilated(len(r), r.step - 1) for r, n in zip(ranges, x.shape, strict=True)]
    inside = pad_interior(ones(block.shape, bool), False, low, high, interior)
    return elementwise.where(inside, pad_interior(block, 0, low, high, interior), x)


# -- made of these -------------------------------------------------------------------------------------------------


def pad(x: Any, pad_width: Any, mode: str = "constant", constant_values: Any = 0) -> Tensor:
    """More elements around ``x``.

    Args:
        pad_width: for each axis how many before and after; one pair, or one number, is for all axes.
        mode: "constant", or how NumPy's ``pad`` repeats the elements of ``x``: "edge", "reflect", "symmetric", "wrap".
        constant_values: the scalar to pad with, converted to the dtype of ``x``.

    >>> pad(Tensor([1, 2]), (1, 2)).tolist(), pad(Tensor([1, 2, 3]), 2, "reflect").tolist()
    ([0, 1, 2, 0, 0], [3, 2, 1, 2, 3, 2, 1])
    """
    x = as_tensor(x)
    try:
        widths = np.broadcast_to(np.asarray(pad_width), (x.ndim, 2)).tolist()
    except ValueError:
        raise ShapeError(f"pad: {pad_width} is not a (before, after) pair for each axis of {x.spec}") from None
    if any(n < 0 for pair in widths for n in pair):
        raise ShapeError(f"pad: widths must not be negative, got {pad_width}; pad_interior takes negative ones")
    if mode == "constant":
        return pad_interior(x, constant_values, [before for before, _ in widths], [after for _, after in widths])
    if mode not in ("edge", "reflect", "symmetric", "wrap"):
        raise ValueError(f"pad: the mode is constant, edge, reflect, symmetric or wrap, got {mode!r}")
    for axis, pair in enumerate(widths):
        if any(pair):
            if not x.shape[axis]:
                raise ShapeError(f"pad: axis {axis} of {x.spec} has no elements to repeat")
            x = take(x, np.pad(np.arange(x.shape[axis]), pair, mode), axis)  # type: ignore[call-overload]
    return x


def one_hot(indices: Any, classes: int, dtype: Any = DEFAULT_FLOAT, axis: int = -1) -> Tensor:
    """For each index a 1 among ``classes - 1`` zeros along a new axis; all zeros where the index is out of range.

    >>> one_hot(Tensor([1, 3]), 3).tolist()
    [[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]
    """
    indices = _as_indices(indices, "one_hot")
    (axis,) = axes_tuple(axis, indices.ndim + 1)
    numbers = reshape(arange(classes, dtype=indices.dtype), (classes,) + (1,) * (indices.ndim - axis))
    return astype(elementwise.equal(expand_dims(indices, axis), numbers), dtype)


def eye(rows: int, columns: int | None = None, k: int = 0, dtype: Any = DEFAULT_FLOAT) -> Tensor:
    """Ones on the ``k``-th diagonal (above the main one for positive ``k``), zeros elsewhere.

    >>> eye(2, 3, 1).tolist()
    [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    shape = (rows, rows if columns is None else columns)
    return astype(elementwise.equal(iota(shape, 0) + k, iota(shape, 1)), dtype)


def tril(x: Any, k: int = 0) -> Tensor:
    """The last two axes with zeros above the ``k``-th diagonal.

    >>> tril(Tensor([[1, 2], [3, 4]])).tolist()
    [[1, 0], [3, 4]]
    """
    return _triangle(x, k, elementwise.less_equal, "tril")


def triu(x: Any, k: int = 0) -> Tensor:
    """The last two axes with zeros below the ``k``-th diagonal.

    >>> triu(Tensor([[1, 2], [3, 4]])).tolist()
    [[1, 2], [0, 4]]
    """
    return _triangle(x, k, elementwise.greater_equal, "triu")


def _triangle(x: Any, k: int, compare: Any, what: str) -> Tensor:
    x = as_tensor(x)
    if x.ndim < 2:
        raise ShapeError(f"{what} takes a tensor of rank 2 or more, got {x.spec}")
    shape = x.shape[-2:]
    kept = compare(iota(shape, 1), iota(shape, 0) + k)
    return elementwise.where(kept, x, zeros_like(x))


def diagonal(x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
    """The elements of two axes whose indices differ by ``offset``, along a new last axis.

    >>> diagonal(Tensor([[1, 2, 3], [4, 5, 6]]), 1).tolist()
    [2, 6]
    """
    x = as_tensor(x)
    (axis1,), (axis2,) = axes_tuple(axis1, x.ndim), axes_tuple(axis2, x.ndim)
    if axis1 == axis2:
        raise ShapeError(f"diagonal: axis {axis1} of {x.spec} is given twice")
    x = transpose(x, [*(a for a in range(x.ndim) if a not in (axis1, axis2)), axis1, axis2])
    rows, columns = x.shape[-2:]
    count = max(0, min(rows + min(offset, 0), columns - max(offset, 0)))
    start = max(offset, 0) + max(-offset, 0) * columns
    flat = reshape(x, (*x.shape[:-2], rows * columns))
    if not count:
        return slice_in_dim(flat, 0, 0, axis=-1)
    step = columns + 1
    return slice_in_dim(flat, start, start + (count - 1) * step + 1, step, axis=-1)
