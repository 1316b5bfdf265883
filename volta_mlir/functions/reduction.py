"""Reductions, with numpy's ``axis`` and ``keepdims``, cumulative functions, and what is made of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from volta_mlir.dialects import elementwise
from volta_mlir.dialects import reduction as ops
from volta_mlir.dtypes import INDEX, bool_, float32, int8
from volta_mlir.errors import ShapeError
from volta_mlir.functions.common import as_tensor, astype, axes_tuple, promote_float
from volta_mlir.functions.elementwise import exp, isfinite, log, sqrt, square, where
from volta_mlir.functions.movement import reshape
from volta_mlir.tensor import Tensor

__all__ = [
    "all", "any", "argmax", "argmin", "count_nonzero", "cummax", "cumprod", "cumsum", "log_softmax", "logsumexp", "max",
    "mean", "min", "prod", "softmax", "std", "sum", "var",
]  # fmt: skip

Axis = int | Sequence[int] | None


# -- reductions ----------------------------------------------------------------------------------------------------


def _reduce(op: Any, x: Tensor, axis: Axis, keepdims: bool) -> Tensor:
    axes = axes_tuple(axis, x.ndim)
    out = op.apply(x, axes=axes) if axes else x
    kept = tuple(1 if a in axes else s for a, s in enumerate(x.shape))
    return reshape(out, kept) if keepdims else out


def _numbers(x: Any) -> Tensor:
    """``x`` as a tensor, bool as int32."""
    x = as_tensor(x)
    return astype(x, INDEX) if x.dtype == bool_ else x


def sum(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The sum along ``axis`` (default: all axes); bool counts as int32, half precision accumulates in float32.

    >>> sum(Tensor([[1, 2], [3, 4]]), axis=0).tolist()
    [4, 6]
    """
    return _reduce(ops.ReduceSumOp, _numbers(x), axis, keepdims)


def prod(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The product along ``axis`` (default: all axes); bool counts as int32, half precision accumulates in float32.

    >>> prod(Tensor([[1, 2], [3, 4]]), axis=0).tolist()
    [3, 8]
    """
    return _reduce(ops.ReduceProdOp, _numbers(x), axis, keepdims)


def max(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The largest element along ``axis`` (default: all axes); NaN if there is one.

    Of no elements it is -inf, or the smallest value of an integer dtype. Equal maxima share the derivative equally.

    >>> max(Tensor([[1, 4], [3, 2]]), axis=1, keepdims=True).tolist()
    [[4], [3]]
    """
    x = as_tensor(x)
    return _reduce(ops.ReduceAnyOp if x.dtype == bool_ else ops.ReduceMaxOp, x, axis, keepdims)


def min(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The smallest element along ``axis`` (default: all axes); NaN if there is one.

    Of no elements it is inf, or the largest value of an integer dtype. Equal minima share the derivative equally.

    >>> min(Tensor([[1, 4], [3, 2]]), axis=1).tolist()
    [1, 2]
    """
    x = as_tensor(x)
    return _reduce(ops.ReduceAllOp if x.dtype == bool_ else ops.ReduceMinOp, x, axis, keepdims)


def any(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Whether an element along ``axis`` (default: all axes) is not zero.

    >>> any(Tensor([[0, 1], [0, 0]]), axis=1).tolist()
    [True, False]
    """
    return _reduce(ops.ReduceAnyOp, astype(x, bool_), axis, keepdims)


def all(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Whether no element along ``axis`` (default: all axes) is zero.

    >>> all(Tensor([[0, 1], [1, 1]]), axis=1).tolist()
    [False, True]
    """
    return _reduce(ops.ReduceAllOp, astype(x, bool_), axis, keepdims)


def count_nonzero(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """How many elements along ``axis`` (default: all axes) are not zero, as int32.

    >>> count_nonzero(Tensor([[0, 1], [1, 1]]), axis=1).tolist()
    [1, 2]
    """
    return sum(astype(x, bool_), axis, keepdims)


def _count(x: Tensor, axis: Axis) -> int:
    """How many elements each result of a reduction is made of."""
    return math.prod(x.shape[a] for a in axes_tuple(axis, x.ndim))


def mean(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The mean along ``axis`` (default: all axes); integers become float32.

    >>> mean(Tensor([[1, 2], [3, 4]]), axis=1).tolist()
    [1.5, 3.5]
    """
    (x,) = promote_float(x)
    count = _count(x, axis)
    return astype(sum(_widened(x), axis, keepdims) * (1.0 / count if count else math.nan), x.dtype)


def _widened(x: Tensor) -> Tensor:
    """Half precision as float32, since sums may be out of its range where means are not."""
    return astype(x, float32) if x.dtype.itemsize == 2 else x


def var(x: Any, axis: Axis = None, keepdims: bool = False, ddof: int = 0) -> Tensor:
    """The variance along ``axis`` (default: all axes): the squared distances from the mean, summed and divided by the
    count less ``ddof``. NaN where that is not positive.

    >>> var(Tensor([[1.0, 3.0], [2.0, 2.0]]), axis=1, ddof=1).tolist()
    [2.0, 0.0]
    """
    (x,) = promote_float(x)
    wide, divisor = _widened(x), _count(x, axis) - ddof
    squares = sum(square(wide - mean(wide, axis, keepdims=True)), axis, keepdims)
    return astype(squares * (1.0 / divisor if divisor > 0 else math.nan), x.dtype)


def std(x: Any, axis: Axis = None, keepdims: bool = False, ddof: int = 0) -> Tensor:
    """The standard deviation along ``axis``, the square root of :func:`var`.

    >>> std(Tensor([[1.0, 5.0], [2.0, 2.0]]), axis=1).tolist()
    [2.0, 0.0]
    """
    return sqrt(var(x, axis, keepdims, ddof))


def _arg(op: Any, x: Any, axis: int | None, keepdims: bool) -> Tensor:
    x = as_tensor(x)
    x = astype(x, int8) if x.dtype == bool_ else x
    if axis is None:
        out = op.apply(reshape(x, -1), axis=0)
        return reshape(out, (1,) * x.ndim) if keepdims else out
    (only,) = axes_tuple(axis, x.ndim)
    out = op.apply(x, axis=only)
    return reshape(out, (*x.shape[:only], 1, *x.shape[only + 1 :])) if keepdims else out


def argmax(x: Any, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """The index (int32) of the first largest element along ``axis`` (default: of all in row-major order).

    A NaN counts as the largest. Raises ShapeError where there are no elements.

    >>> argmax(Tensor([[1, 4], [3, 3]]), axis=1).tolist()
    [1, 0]
    """
    return _arg(ops.ArgmaxOp, x, axis, keepdims)


def argmin(x: Any, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """The index (int32) of the first smallest element along ``axis`` (default: of all in row-major order).

    A NaN counts as the smallest. Raises ShapeError where there are no elements.

    >>> argmin(Tensor([[1, 4], [3, 3]]), axis=1).tolist()
    [0, 0]
    """
    return _arg(ops.ArgminOp, x, axis, keepdims)


# -- exponentials, normalised --------------------------------------------------------------------------------------


def _shift(x: Tensor, axis: Axis) -> Tensor:
    """The maximum along ``axis``, 0 where it is not finite, for subtracting it before an exponential.

    The results do not depend on the shift, so it has no derivative.
    """
    largest = elementwise.StopGradientOp.apply(max(x, axis, keepdims=True))
    return where(isfinite(largest), largest, 0.0)


def logsumexp(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """``log(sum(exp(x)))`` along ``axis`` (default: all axes), without overflow.

    Where all elements are -inf the result is -inf, with derivative 0.

    >>> logsumexp(Tensor([1000.0, 1000.0])).tolist()
    1000.6931762695312
    """
    (x,) = promote_float(x)
    shift = _shift(x, axis)
    total = sum(exp(x - shift), axis, keepdims=True)
    empty = total == 0.0
    out = where(empty, -math.inf, log(where(empty, 1.0, total)) + shift)
    return out if keepdims else reshape(out, _reduced_shape(x, axis))


def _reduced_shape(x: Tensor, axis: Axis) -> tuple[int, ...]:
    axes = axes_tuple(axis, x.ndim)
    return tuple(s for a, s in enumerate(x.shape) if a not in axes)


def softmax(x: Any, axis: Axis = -1) -> Tensor:
    """``exp(x) / sum(exp(x))`` along ``axis``, without overflow; NaN where all elements are -inf.

    >>> softmax(Tensor([1000.0, 1000.0])).tolist()
    [0.5, 0.5]
    """
    (x,) = promote_float(x)
    exponentials = exp(x - _shift(x, axis))
    return exponentials / sum(exponentials, axis, keepdims=True)


def log_softmax(x: Any, axis: Axis = -1) -> Tensor:
    """``log(softmax(x))`` along ``axis``, precise also where the softmax is tiny; NaN where all elements are -inf.

    >>> log_softmax(Tensor([0.0, 200.0])).tolist()
    [-200.0, 0.0]
    """
    (x,) = promote_float(x)
    shifted = x - _shift(x, axis)
    return shifted - log(sum(exp(shifted), axis, keepdims=True))


# -- cumulative ----------------------------------------------------------------------------------------------------


def _cumulative(op: Any, x: Tensor, axis: int | None, reverse: bool) -> Tensor:
    if axis is None:
        return op.apply(reshape(x, -1), axis=0, reverse=reverse)
    if not x.ndim:
        raise ShapeError(f"a cumulative function along axis {axis} takes a tensor of rank 1 or more, got {x.spec}")
    (only,) = axes_tuple(axis, x.ndim)
    return op.apply(x, axis=only, reverse=reverse)


def cumsum(x: Any, axis: int | None = None, reverse: bool = False) -> Tensor:
    """Element ``i`` is the sum of the elements up to ``i`` along ``axis``, with ``reverse`` of those from ``i`` on.

    Without an axis the elements count in row-major order. Bool counts as int32.

    >>> cumsum(Tensor([1, 2, 3])).tolist(), cumsum(Tensor([1, 2, 3]), reverse=True).tolist()
    ([1, 3, 6], [6, 5, 3])
    """
    return _cumulative(ops.CumsumOp, _numbers(x), axis, reverse)


def cumprod(x: Any, axis: int | None = None, reverse: bool = False) -> Tensor:
    """Element ``i`` is the product of the elements up to ``i``; see :func:`cumsum`.

    >>> cumprod(Tensor([1, 2, 3])).tolist()
    [1, 2, 6]
    """
    return _cumulative(ops.CumprodOp, _numbers(x), axis, reverse)


def cummax(x: Any, axis: int | None = None, reverse: bool = False) -> Tensor:
    """Element ``i`` is the largest of the elements up to ``i``, NaN from the first NaN on; see :func:`cumsum`.

    Of equal maxima the latest has the derivative.

    >>> cummax(Tensor([2, 1, 3])).tolist()
    [2, 2, 3]
    """
    return _cumulative(ops.CummaxOp, _numbers(x), axis, reverse)
