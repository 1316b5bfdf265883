"""Pooling: maxima and means of windows.

Channels come before the spatial axes, as in PyTorch. An input without a batch axis gives a result without one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import volta_mlir as volta
from volta_mlir import random
from volta_mlir.dtypes import INDEX
from volta_mlir.errors import DTypeError, OptionError, ShapeError, TraceError
from volta_mlir.functions.common import as_tensor
from volta_mlir.functions.convolution import Extents
from volta_mlir.nn.functional.activation import relu
from volta_mlir.nn.functional.arguments import (
    check_shape,
    compute_dtype,
    float_tensor,
    index_tensor,
    per_axis,
    with_batch,
)
from volta_mlir.tensor import Tensor

__all__ = [
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool3d",
    "adaptive_max_pool1d",
    "adaptive_max_pool2d",
    "adaptive_max_pool3d",
    "avg_pool1d",
    "avg_pool2d",
    "avg_pool3d",
    "fractional_max_pool2d",
    "fractional_max_pool3d",
    "lp_pool1d",
    "lp_pool2d",
    "lp_pool3d",
    "max_pool1d",
    "max_pool2d",
    "max_pool3d",
    "max_unpool1d",
    "max_unpool2d",
    "max_unpool3d",
]

#: None keeps the input's extent.
OutputSize = int | Sequence[int | None] | None


# -- windows -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Axis:
    """The windows along one axis of ``extent`` elements; those ``padding`` places before and after count as padding."""

    extent: int
    kernel: int
    stride: int
    padding: int
    dilation: int
    count: int

    @property
    def span(self) -> int:
        """How many elements lie between the ends of a window, both included."""
        return (self.kernel - 1) * self.dilation + 1

    @property
    def pads(self) -> tuple[int, int]:
        """How many places to add before and after the elements, so that there are ``count`` windows."""
        return self.padding, max((self.count - 1) * self.stride + self.span - self.extent - self.padding, 0)

    def sizes(self, count_include_pad: bool) -> list[int]:
        """How many elements each window has, or places with padding; those beyond the padding never count."""
        first, last = (-self.padding, self.extent + self.padding) if count_include_pad else (0, self.extent)
        starts = (n * self.stride - self.padding for n in range(self.count))
        return [min(start + self.kernel, last) - max(start, first) for start in starts]


def _strides(what: str, stride: Extents | None, kernel: tuple[int, ...]) -> tuple[int, ...]:
    """The strides; by default, which is None or an empty sequence, those of windows side by side."""
    if stride is None or (not isinstance(stride, int) and not stride):
        return kernel
    return per_axis(what, "stride", stride, len(kernel))


def _axes(
    what: str,
    x: Tensor,
    kernel_size: Extents,
    stride: Extents | None,
    padding: Extents,
    dilation: Extents,
    ceil_mode: bool,
) -> list[_Axis]:
    """The windows along each spatial axis of ``x``, as PyTorch counts them."""
    rank = x.ndim - 2
    kernel = per_axis(what, "kernel_size", kernel_size, rank)
    strides = _strides(what, stride, kernel)
    paddings, dilations = per_axis(what, "padding", padding, rank), per_axis(what, "dilation", dilation, rank)
    if min(kernel) < 1 or min(strides) < 1 or min(dilations) < 1 or min(paddings) < 0:
        raise ShapeError(
            f"{what}: expected a positive kernel_size, stride and dilation and no negative padding, got {kernel},"
            f" {strides}, {dilations} and {paddings}"
        )
    axes = []
    for n, k, s, p, d in zip(x.shape[2:], kernel, strides, paddings, dilations, strict=True):
        span = (k - 1) * d + 1
        if p > span // 2:
            raise ShapeError(
                f"{what}: padding should be at most half of the effective kernel size, got padding={p}, kernel_size={k}"
                f" and dilation={d}"
            )
        count = (n + 2 * p - span + (s - 1 if ceil_mode else 0)) // s + 1
        if ceil_mode and (count - 1) * s >= n + p:  # a window that begins in the padding at the end is none
            count -= 1
        if count < 1:
            raise ShapeError(f"{what}: the output would be empty: no window over {span} elements fits into {x.spec}")
        axes.append(_Axis(n, k, s, p, d, count))
    return axes


def _arguments(axes: Sequence[_Axis]) -> dict[str, Any]:
    """The windows as arguments of Volta's pooling functions."""
    return {
        "window": [a.kernel for a in axes],
        "strides": [a.stride for a in axes],
        "padding": [a.pads for a in axes],
        "dilation": [a.dilation for a in axes],
    }


def _along(values: Tensor, axis: int, rank: int) -> Tensor:
    """A vector as a tensor of the given rank."""
    return values.reshape((1,) * axis + values.shape + (1,) * (rank - axis - 1))


# -- maxima --------------------------------------------------------------------------------------------------------


def _max_pool(
    rank: int,
    input: Any,
    kernel_size: Extents,
    stride: Extents | None,
    padding: Extents,
    dilation: Extents,
    ceil_mode: bool,
    return_indices: bool,
) -> Any:
    what = f"max_pool{rank}d"
    x, is_batched = with_batch(what, as_tensor(input), rank)
    axes = _axes(what, x, kernel_size, stride, padding, dilation, ceil_mode)
    out = volta.max_pool(x, **_arguments(axes))
    if not return_indices:
        return out if is_batched else out.squeeze(0)
    indices = _flat_indices(volta.argmax_pool(x, **_arguments(axes)), axes)
    return (out, indices) if is_batched else (out.squeeze(0), indices.squeeze(0))


def _flat_indices(in_window: Tensor, axes: Sequence[_Axis]) -> Tensor:
    """Indices in windows as indices of the input's elements, row-major over the spatial axes."""
    rest, indices, weight = in_window, volta.zeros_like(in_window), 1
    for number, axis in reversed(list(enumerate(axes))):
        starts = volta.iota((axis.count,), dtype=INDEX) * axis.stride - axis.padding
        place = _along(starts, 2 + number, in_window.ndim) + rest % axis.kernel * axis.dilation
        indices = indices + place * weight
        rest, weight = rest // axis.kernel, weight * axis.extent
    return indices


def max_pool1d(
    input: Any,
    kernel_size: Extents,
    stride: Extents | None = None,
    padding: Extents = 0,
    dilation: Extents = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The maximum of each window of a sequence; NaN where there is one.

    Args:
        input: ``(N, C, L)`` or ``(C, L)``.
        kernel_size: how many elements a window has.
        stride: how far apart windows are; default ``kernel_size``.
        padding: how many places at both ends windows may cover; they are never the maximum. At most half of a window.
        dilation: how far apart the elements of a window are.
        ceil_mode: whether a last window may stick out at the end.
        return_indices: whether to return indices, too.

    Returns:
        The maxima, or a pair with their indices in the sequence (int32). Of several maxima the first one counts, which
        has the derivative, too; of several NaN the last one.

    Raises:
        ShapeError: the input has another rank, there is no window, or the padding is too large.

    >>> max_pool1d(Tensor([[1.0, 3.0, 2.0]]), 2, ceil_mode=True).tolist()
    [[3.0, 2.0]]
    """
    return _max_pool(1, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool2d(
    input: Any,
    kernel_size: Extents,
    stride: Extents | None = None,
    padding: Extents = 0,
    dilation: Extents = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """:func:`max_pool1d` for images.

    Args:
        input: ``(N, C, H, W)`` or ``(C, H, W)``.
        kernel_size, stride, padding, dilation, ceil_mode, return_indices: as for :func:`max_pool1d`; a number, or one
            for each of H and W. Indices count in row-major order.

    Raises:
        ShapeError: as for :func:`max_pool1d`.

    >>> max_pool2d(Tensor([[[1.0, 3.0], [2.0, 0.0]]]), 2, return_indices=True)[1].tolist()
    [[[1]]]
    """
    return _max_pool(2, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool3d(
    input: Any,
    kernel_size: Extents,
    stride: Extents | None = None,
    padding: Extents = 0,
    dilation: Extents = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """:func:`max_pool1d` for volumes.

    Args:
        input: ``(N, C, D, H, W)`` or ``(C, D, H, W)``.
        kernel_size, stride, padding, dilation, ceil_mode, return_indices: as for :func:`max_pool1d`; a number, or one
            for each of D, H and W. Indices count in row-major order.

    Raises:
        ShapeError: as for :func:`max_pool1d`.

    >>> max_pool3d(Tensor([[[[1.0, 3.0]], [[2.0, 0.0]]]]), (2, 1, 1)).tolist()
    [[[[2.0, 3.0]]]]
    """
    return _max_pool(3, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


# -- back to where the maxima were ---------------------------------------------------------------------------------


def _max_unpool(
    rank: int,
    input: Any,
    indices: Any,
    kernel_size: Extents,
    stride: Extents | None,
    padding: Extents,
    output_size: Sequence[int] | None,
) -> Tensor:
    what = f"max_unpool{rank}d"
    x, is_batched = with_batch(what, as_tensor(input), rank)
    check_shape(what, "indices", indices, as_tensor(input).shape)
    kernel = per_axis(what, "kernel_size", kernel_size, rank)
    strides = _strides(what, stride, kernel)
    paddings = per_axis(what, "padding", padding, rank)
    of_axes = zip(x.shape[2:], kernel, strides, paddings, strict=True)
    size = tuple((n - 1) * s + k - 2 * p for n, k, s, p in of_axes)
    if output_size is not None:
        given = tuple(output_size)[-rank:]
        if len(given) != rank or any(abs(g - n) >= s for g, n, s in zip(given, size, strides, strict=True)):
            raise ShapeError(
                f"{what}: expected output_size to be less than the stride {strides} away from {size}, got"
                f" {tuple(output_size)}"
            )
        size = given
    batch, channels, *_ = x.shape
    rows = volta.iota((batch * channels, 1))
    places = index_tensor(what, "an index", indices, math.prod(size)).reshape(batch * channels, math.prod(x.shape[2:]))
    zeros = volta.zeros((batch * channels, math.prod(size)), x.dtype)
    out = zeros.at[rows, places].set(x.reshape(places.shape)).reshape(batch, channels, *size)
    return out if is_batched else out.squeeze(0)


def max_unpool1d(
    input: Any,
    indices: Any,
    kernel_size: Extents,
    stride: Extents | None = None,
    padding: Extents = 0,
    output_size: Sequence[int] | None = None,
) -> Tensor:
    """Puts maxima back to where :func:`max_pool1d` found them, among zeros.

    Args:
        input: ``(N, C, L)`` or ``(C, L)``.
        indices: of the input's shape; those that :func:`max_pool1d` returns. If one occurs twice the last element
            counts; in a compiled program, what is out of range is dropped.
        kernel_size, stride, padding: as given to :func:`max_pool1d`.
        output_size: the extent of the result, alone or at the end of its shape; default the least that it may have
            been.

    Raises:
        ShapeError: the shapes do not fit, or an index is out of bounds.
        DTypeError: the indices are not integers.

    >>> max_unpool1d(Tensor([[3.0, 4.0]]), Tensor([[1, 2]]), 2).tolist()
    [[0.0, 3.0, 4.0, 0.0]]
    """
    return _max_unpool(1, input, indices, kernel_size, stride, padding, output_size)


def max_unpool2d(
    input: Any,
    indices: Any,
    kernel_size: Extents,
    stride: Extents | None = None,
    padding: Extents = 0,
    output_size: Sequence[int] | None = None,
) -> Tensor:
    """:func:`max_unpool1d` for images.

    Args:
        input: ``(N, C, H, W)`` or ``(C, H, W)``.
        indices, kernel_size, stride, padding, output_size: as for :func:`max_unpool1d` and :func:`max_pool2d`.

    Raises:
        ShapeError, DTypeError: as for :func:`max_unpool1d`.

    >>> max_unpool2d(Tensor([[[3.0]]]), Tensor([[[1]]]), 2).tolist()
    [[[0.0, 3.0], [0.0, 0.0]]]
    """
    return _max_unpool(2, input, indices, kernel_size, stride, padding, output_size)


def max_unpool3d(
    input: Any,
    indices: Any,
    kernel_size: Extents,
    stride: Extents | None = None,
    padding: Extents = 0,
    output_size: Sequence[int] | None = None,
) -> Tensor:
    """:func:`max_unpool1d` for volumes.

    Args:
        input: ``(N, C, D, H, W)`` or ``(C, D, H, W)``.
        indices, kernel_size, stride, padding, output_size: as for :func:`max_unpool1d` and :func:`max_pool3d`.

    Raises:
        ShapeError, DTypeError: as for :func:`max_unpool1d`.

    >>> max_unpool3d(Tensor([[[[3.0]]]]), Tensor([[[[1]]]]), (1, 1, 2)).tolist()
    [[[[0.0, 3.0]]]]
    """
    return _max_unpool(3, input, indices, kernel_size, stride, padding, output_size)


# -- means ---------------------------------------------------------------------------------------------------------


def _avg_pool(
    rank: int,
    input: Any,
    kernel_size: Extents,
    stride: Extents | None,
    padding: Extents,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
) -> Tensor:
    what = f"avg_pool{rank}d"
    x, is_batched = with_batch(what, float_tensor(what, input), rank)
    axes = _axes(what, x, kernel_size, stride, padding, 1, ceil_mode)
    out = volta.sum_pool(as_tensor(x, compute_dtype(x)), **_arguments(axes))
    if divisor_override is None:
        out = _divided_by_sizes(out, [a.sizes(count_include_pad) for a in axes])
    elif divisor_override == 0:
        raise OptionError(f"{what}: divisor must be not zero")
    else:
        out = out * (1 / divisor_override)
    out = as_tensor(out, x.dtype)
    return out if is_batched else out.squeeze(0)


def _divided_by_sizes(sums: Tensor, sizes: Sequence[Sequence[int]]) -> Tensor:
    """Sums over windows divided by their sizes, which are products of those along the axes."""
    divisor: Any = 1
    for number, along in enumerate(sizes):
        is_constant = len(set(along)) == 1
        divisor = divisor * (along[0] if is_constant else _along(Tensor(list(along)), 2 + number, sums.ndim))
    return sums / divisor if isinstance(divisor, Tensor) else sums * (1 / divisor)


def avg_pool1d(
    input: Any,
    kernel_size: Extents,
    stride: Extents | None = None,
    padding: Extents = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """The mean of each window of a sequence.

    Args:
        input: ``(N, C, L)`` or ``(C, L)``, floating-point.
        kernel_size: how many elements a window has.
        stride: how far apart windows are; default ``kernel_size``.
        padding: how many zeros are at both ends; at most half of a window.
        ceil_mode: whether a last window may stick out at the end; what is beyond the padding does not count.
        count_include_pad: whether zeros of the padding count as elements.

    Raises:
        ShapeError: the input has another rank, there is no window, or the padding is too large.
        DTypeError: the input is not of a floating-point dtype.

    >>> avg_pool1d(Tensor([[1.0, 3.0, 2.0]]), 2, ceil_mode=True).tolist()
    [[2.0, 2.0]]
    """
    return _avg_pool(1, input, kernel_size, stride, padding, ceil_mode, count_include_pad, None)


def avg_pool2d(
    input: Any,
    kernel_size: Extents,
    stride: Extents | None = None,
    padding: Extents = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """:func:`avg_pool1d` for images.

    Args:
        input: ``(N, C, H, W)`` or ``(C, H, W)``, floating-point.
        kernel_size, stride, padding, ceil_mode, count_include_pad: as for :func:`avg_pool1d`; a number, or one for
            each of H and W.
        divisor_override: what to divide each sum by, instead of the number of elements.

    Raises:
        ShapeError, DTypeError: as for :func:`avg_pool1d`.
        ValueError: ``divisor_override`` is 0.

    >>> avg_pool2d(volta.ones((1, 2, 2)), 2, padding=1).tolist()
    [[[0.25, 0.25], [0.25, 0.25]]]
    """
    return _avg_pool(2, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


def avg_pool3d(
    input: Any,
    kernel_size: Extents,
    stride: Extents | None = None,
    padding: Extents = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """:func:`avg_pool1d` for volumes.

    Args:
        input: ``(N, C, D, H, W)`` or ``(C, D, H, W)``, floating-point.
        kernel_size, stride, padding, ceil_mode, count_include_pad: as for :func:`avg_pool1d`; a number, or one for
            each of D, H and W.
        divisor_override: what to divide each sum by, instead of the number of elements.

    Raises:
        ShapeError, DTypeError, ValueError: as for :func:`avg_pool2d`.

    >>> avg_pool3d(volta.ones((1, 2, 2, 2)), 2, divisor_override=2).tolist()
    [[[[4.0]]]]
    """
    return _avg_pool(3, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


def _lp_pool(
    rank: int, input: Any, norm_type: float, kernel_size: Extents, stride: Extents | None, ceil_mode: bool
) -> Tensor:
    x = float_tensor(f"lp_pool{rank}d", input)
    count = math.prod(per_axis(f"lp_pool{rank}d", "kernel_size", kernel_size, rank))
    mean = _avg_pool(rank, volta.power(x, norm_type), kernel_size, stride, 0, ceil_mode, True, None)
    # The derivative of a window of zeros is 0, which relu sees to.
    return volta.power(volta.sign(mean) * relu(volta.abs(mean)) * count, 1 / norm_type)


def lp_pool1d(
    input: Any, norm_type: float, kernel_size: Extents, stride: Extents | None = None, ceil_mode: bool = False
) -> Tensor:
    """``sum(x ** norm_type) ** (1 / norm_type)`` of each window of a sequence.

    Args:
        input: ``(N, C, L)`` or ``(C, L)``, floating-point.
        norm_type: a number other than 0.
        kernel_size, stride, ceil_mode: as for :func:`avg_pool1d`. The sum of a window that sticks out is scaled up.

    Raises:
        ShapeError, DTypeError: as for :func:`avg_pool1d`.

    >>> lp_pool1d(Tensor([[3.0, 4.0]]), 2, 2).tolist()
    [[5.0]]
    """
    return _lp_pool(1, input, norm_type, kernel_size, stride, ceil_mode)


def lp_pool2d(
    input: Any, norm_type: float, kernel_size: Extents, stride: Extents | None = None, ceil_mode: bool = False
) -> Tensor:
    """:func:`lp_pool1d` for images.

    Args:
        input: ``(N, C, H, W)`` or ``(C, H, W)``, floating-point.
        norm_type: a number other than 0.
        kernel_size, stride, ceil_mode: as for :func:`lp_pool1d`; a number, or one for each of H and W.

    Raises:
        ShapeError, DTypeError: as for :func:`avg_pool1d`.

    >>> lp_pool2d(Tensor([[[3.0], [4.0]]]), 2, (2, 1)).tolist()
    [[[5.0]]]
    """
    return _lp_pool(2, input, norm_type, kernel_size, stride, ceil_mode)


def lp_pool3d(
    input: Any, norm_type: float, kernel_size: Extents, stride: Extents | None = None, ceil_mode: bool = False
) -> Tensor:
    """:func:`lp_pool1d` for volumes.

    Args:
        input: ``(N, C, D, H, W)`` or ``(C, D, H, W)``, floating-point.
        norm_type: a number other than 0.
        kernel_size, stride, ceil_mode: as for :func:`lp_pool1d`; a number, or one for each of D, H and W.

    Raises:
        ShapeError, DTypeError: as for :func:`avg_pool1d`.

    >>> lp_pool3d(Tensor([[[[3.0], [4.0]]]]), 2, (1, 2, 1)).tolist()
    [[[[5.0]]]]
    """
    return _lp_pool(3, input, norm_type, kernel_size, stride, ceil_mode)


# -- windows for a number of results -------------------------------------------------------------------------------


def _output_size(what: str, x: Tensor, output_size: OutputSize) -> tuple[int, ...]:
    rank = x.ndim - 2
    sizes = tuple(output_size) if isinstance(output_size, Sequence) else (output_size,) * rank
    if not all(s is None or isinstance(s, int | np.integer) for s in sizes):
        raise DTypeError(f"{what}: expected output_size to be an int or {rank} of them, got {output_size!r}")
    if len(sizes) != rank or any(s is not None and s < 0 for s in sizes):
        raise ShapeError(f"{what}: expected output_size to be a number or {rank} of them, got {output_size}")
    if 0 in x.shape[1:]:
        raise ShapeError(f"{what}: expected an input with elements in all axes but the batch, got {x.spec}")
    return tuple(n if s is None else s for s, n in zip(sizes, x.shape[2:], strict=True))


def _adaptive(x: Tensor, axis: int, size: int, pool: Callable[[Tensor, int, dict[str, Any]], Tensor]) -> Tensor:
    """Pools ``size`` windows along one axis; window ``i`` is from ``i * extent // size`` to the next one's, rounded up.

    Windows whose numbers differ by ``size / gcd(extent, size)`` are equally long and equally far apart: ``pool`` takes
    the part of ``x`` that has these windows, where it begins, and the windows as arguments of Volta's functions.
    """
    extent = x.shape[axis]
    count = math.gcd(extent, size)
    if not count or not size:
        return volta.zeros((*x.shape[:axis], 0, *x.shape[axis + 1 :]), x.dtype)
    stride = extent // count
    results = []
    for number in range(size // count):
        start, end = number * extent // size, -(-(number + 1) * extent // size)
        part = volta.slice_in_dim(x, start, start + (count - 1) * stride + end - start, axis=axis)
        window, strides = [1] * (x.ndim - 2), [1] * (x.ndim - 2)
        window[axis - 2], strides[axis - 2] = end - start, stride
        results.append(pool(part, start, {"window": window, "strides": strides}))
    return volta.stack(results, axis + 1).reshape(*x.shape[:axis], size, *x.shape[axis + 1 :])


def _adaptive_avg_pool(rank: int, input: Any, output_size: OutputSize) -> Tensor:
    what = f"adaptive_avg_pool{rank}d"
    x, is_batched = with_batch(what, float_tensor(what, input), rank)
    sizes = _output_size(what, x, output_size)
    out = _disjoint_means(as_tensor(x, compute_dtype(x)), sizes)
    for axis, size in enumerate(sizes, 2):
        if size != out.shape[axis]:
            out = _adaptive(out, axis, size, lambda part, start, windows: volta.avg_pool(part, **windows))
    out = as_tensor(out, x.dtype)
    return out if is_batched else out.squeeze(0)


def _disjoint_means(x: Tensor, sizes: Sequence[int]) -> Tensor:
    """The means along those axes on which the windows do not overlap: a reduction, which has a cheap gradient."""
    split, means = list(x.shape[:2]), []
    for extent, size in zip(x.shape[2:], sizes, strict=True):
        if size and extent != size and extent % size == 0:
            split += [size, extent // size]
            means.append(len(split) - 1)
        else:
            split.append(extent)
    return x.reshape(split).mean(means) if means else x


def adaptive_avg_pool1d(input: Any, output_size: OutputSize) -> Tensor:
    """The means of so many windows of a sequence, which are as equal as they can be and cover all of it.

    Args:
        input: ``(N, C, L)`` or ``(C, L)``, floating-point.
        output_size: how many windows. Window ``i`` is from ``⌊i · L / output_size⌋`` to
            ``⌈(i + 1) · L / output_size⌉``, excluded.

    Raises:
        ShapeError: the input has another rank or no elements, or the size is not a number.
        DTypeError: the input is not of a floating-point dtype.

    >>> adaptive_avg_pool1d(Tensor([[1.0, 2.0, 3.0]]), 2).tolist()
    [[1.5, 2.5]]
    """
    return _adaptive_avg_pool(1, input, output_size)


def adaptive_avg_pool2d(input: Any, output_size: OutputSize) -> Tensor:
    """:func:`adaptive_avg_pool1d` for images.

    Args:
        input: ``(N, C, H, W)`` or ``(C, H, W)``, floating-point.
        output_size: a number, or one for each of H and W; None keeps the extent.

    Raises:
        ShapeError, DTypeError: as for :func:`adaptive_avg_pool1d`.

    >>> adaptive_avg_pool2d(Tensor([[[1.0, 2.0], [3.0, 4.0]]]), (1, None)).tolist()
    [[[2.0, 3.0]]]
    """
    return _adaptive_avg_pool(2, input, output_size)


def adaptive_avg_pool3d(input: Any, output_size: OutputSize) -> Tensor:
    """:func:`adaptive_avg_pool1d` for volumes.

    Args:
        input: ``(N, C, D, H, W)`` or ``(C, D, H, W)``, floating-point.
        output_size: a number, or one for each of D, H and W; None keeps the extent.

    Raises:
        ShapeError, DTypeError: as for :func:`adaptive_avg_pool1d`.

    >>> adaptive_avg_pool3d(volta.ones((1, 2, 3, 4)), 1).tolist()
    [[[[1.0]]]]
    """
    return _adaptive_avg_pool(3, input, output_size)


def _adaptive_max_pool(rank: int, input: Any, output_size: OutputSize, return_indices: bool) -> Any:
    what = f"adaptive_max_pool{rank}d"
    x, is_batched = with_batch(what, as_tensor(input), rank)

    def place(part: Tensor, start: int, windows: dict[str, Any]) -> Tensor:
        """Where along the axis the maxima are."""
        found = volta.argmax_pool(part, **windows)
        stride = max(windows["strides"])
        return found + _along(volta.iota((found.shape[axis],), dtype=INDEX) * stride + start, axis, found.ndim)

    # The last axis first: of the maxima of rows, the first one is the first in the window.
    out, indices, weight = x, volta.zeros((1,) * x.ndim, INDEX), 1
    for axis, size in reversed(list(enumerate(_output_size(what, x, output_size), 2))):
        if return_indices:
            places = _adaptive(out, axis, size, place)
            indices = volta.take_along_axis(indices, places, axis) if weight > 1 else indices
            indices, weight = indices + places * weight, weight * x.shape[axis]
        out = _adaptive(out, axis, size, lambda part, start, windows: volta.max_pool(part, **windows))
    if not return_indices:
        return out if is_batched else out.squeeze(0)
    return (out, indices) if is_batched else (out.squeeze(0), indices.squeeze(0))


def adaptive_max_pool1d(input: Any, output_size: OutputSize, return_indices: bool = False) -> Any:
    """The maxima of so many windows of a sequence; see :func:`adaptive_avg_pool1d` and :func:`max_pool1d`.

    Args:
        input: ``(N, C, L)`` or ``(C, L)``.
        output_size: how many windows.
        return_indices: whether to return a pair with the indices of the maxima (int32).

    Raises:
        ShapeError: the input has another rank or no elements, or the size is not a number.

    >>> adaptive_max_pool1d(Tensor([[1.0, 2.0, 3.0]]), 2).tolist()
    [[2.0, 3.0]]
    """
    return _adaptive_max_pool(1, input, output_size, return_indices)


def adaptive_max_pool2d(input: Any, output_size: OutputSize, return_indices: bool = False) -> Any:
    """:func:`adaptive_max_pool1d` for images.

    Args:
        input: ``(N, C, H, W)`` or ``(C, H, W)``.
        output_size: a number, or one for each of H and W; None keeps the extent.
        return_indices: whether to return a pair with the indices of the maxima (int32), row-major.

    Raises:
        ShapeError: as for :func:`adaptive_max_pool1d`.

    >>> adaptive_max_pool2d(Tensor([[[1.0, 2.0], [3.0, 4.0]]]), (None, 1), return_indices=True)[1].tolist()
    [[[1], [3]]]
    """
    return _adaptive_max_pool(2, input, output_size, return_indices)


def adaptive_max_pool3d(input: Any, output_size: OutputSize, return_indices: bool = False) -> Any:
    """:func:`adaptive_max_pool1d` for volumes.

    Args:
        input: ``(N, C, D, H, W)`` or ``(C, D, H, W)``.
        output_size: a number, or one for each of D, H and W; None keeps the extent.
        return_indices: whether to return a pair with the indices of the maxima (int32), row-major.

    Raises:
        ShapeError: as for :func:`adaptive_max_pool1d`.

    >>> adaptive_max_pool3d(volta.ones((1, 2, 3, 4)), 1).tolist()
    [[[[1.0]]]]
    """
    return _adaptive_max_pool(3, input, output_size, return_indices)


# -- windows at random places --------------------------------------------------------------------------------------


def _fractional_max_pool(
    rank: int,
    input: Any,
    kernel_size: Extents,
    output_size: Extents | None,
    output_ratio: float | Sequence[float] | None,
    return_indices: bool,
    samples: Any,
    key: Any,
) -> Any:
    what = f"fractional_max_pool{rank}d"
    x, is_batched = with_batch(what, float_tensor(what, input), rank)
    extents, kernel = x.shape[2:], per_axis(what, "kernel_size", kernel_size, rank)
    if output_size is not None and output_ratio is None:
        sizes = per_axis(what, "output_size", output_size, rank)
    elif output_ratio is not None and output_size is None:
        ratios = tuple(output_ratio) if isinstance(output_ratio, Sequence) else (output_ratio,) * rank
        sizes = tuple(int(n * r) for n, r in zip(extents, ratios, strict=True))
    else:
        raise OptionError(f"{what}: expected either output_size or output_ratio, and not both")
    if any(s < 1 or s + k - 1 > n for s, k, n in zip(sizes, kernel, extents, strict=True)):
        raise ShapeError(f"{what}: {sizes} windows of {kernel} elements at different places do not fit into {x.spec}")
    batch, channels, *_ = x.shape
    if samples is None:
        if key is None:
            raise TraceError(f"{what}: pass key=volta.random.key(seed), which says where the windows are")
        samples = random.uniform(key, (batch, channels, rank), compute_dtype(x))
    check_shape(what, "_random_samples", samples, (batch, channels, rank))
    # Indices of the elements of all windows, row-major over the spatial axes: (N, C, windows…, window…).
    flat: Any = 0
    for axis, (extent, size, width) in enumerate(zip(extents, sizes, kernel, strict=True)):
        # PyTorch's samples for images are in the order W, H, those for volumes D, H, W.
        sample = as_tensor(samples, compute_dtype(x))[:, :, rank - 1 - axis if rank == 2 else axis]
        places = _fractional_starts(sample, extent, size, width).expand_dims(-1) + volta.arange(width)
        shape = [batch, channels, *(1,) * (2 * rank)]
        shape[2 + axis], shape[2 + rank + axis] = size, width
        flat = flat * extent + places.reshape(shape)
    flat = flat.reshape(batch, channels, math.prod(sizes), math.prod(kernel))
    elements = x.reshape(batch, channels, math.prod(extents))
    windows = volta.take_along_axis(elements, flat.reshape(batch, channels, math.prod(flat.shape[2:])), 2)
    best = volta.argmax(windows.reshape(flat.shape), -1, keepdims=True)
    indices = volta.take_along_axis(flat, best, 3).squeeze(3)
    out = volta.take_along_axis(elements, indices, 2).reshape(batch, channels, *sizes)
    out = out if is_batched else out.squeeze(0)
    return (out, indices.reshape(out.shape)) if return_indices else out


def _fractional_starts(sample: Tensor, extent: int, size: int, width: int) -> Tensor:
    """Where the windows along one axis begin: one more axis, of ``size``. The last one ends where the axis does."""
    last = extent - width
    if size == 1:
        return volta.full((*sample.shape, 1), last, INDEX)
    ratio, sample = last / (size - 1), sample.expand_dims(-1)
    numbers = volta.iota((size,))
    starts = volta.floor((numbers.astype(sample.dtype) + sample) * ratio) - volta.floor(sample * ratio)
    return volta.where(numbers == size - 1, last, starts.astype(INDEX))


def fractional_max_pool2d(
    input: Any,
    kernel_size: Extents,
    output_size: Extents | None = None,
    output_ratio: float | Sequence[float] | None = None,
    return_indices: bool = False,
    _random_samples: Any = None,
    *,
    key: Any = None,
) -> Any:
    """The maxima of windows whose distances vary randomly, for results that need not divide the input.

    Args:
        input: ``(N, C, H, W)`` or ``(C, H, W)``, floating-point.
        kernel_size: how many elements a window has, a number or one for each of H and W.
        output_size: how many windows there are, a number or one for each of H and W.
        output_ratio: instead of ``output_size``, its ratio to the input's extents, between 0 and 1.
        return_indices: whether to return a pair with the indices of the maxima (int32), row-major.
        key: a key of :mod:`volta_mlir.random`, which says where the windows are.
        _random_samples: instead of a key, ``(N, C, 2)`` numbers from 0 to 1, for W and H.

    Raises:
        ShapeError: the windows do not fit into the input.
        ValueError: not exactly one of ``output_size`` and ``output_ratio`` is given.
        TraceError: there is no key.
        DTypeError: the input is not of a floating-point dtype.

    Source: Graham, "Fractional Max-Pooling" (2014).

    >>> x = Tensor([[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]]])
    >>> fractional_max_pool2d(x, 2, output_size=1, key=random.key(0)).tolist()
    [[[9.0]]]
    """
    return _fractional_max_pool(2, input, kernel_size, output_size, output_ratio, return_indices, _random_samples, key)


def fractional_max_pool3d(
    input: Any,
    kernel_size: Extents,
    output_size: Extents | None = None,
    output_ratio: float | Sequence[float] | None = None,
    return_indices: bool = False,
    _random_samples: Any = None,
    *,
    key: Any = None,
) -> Any:
    """:func:`fractional_max_pool2d` for volumes.

    Args:
        input: ``(N, C, D, H, W)`` or ``(C, D, H, W)``, floating-point.
        kernel_size, output_size, output_ratio, return_indices, key: as for :func:`fractional_max_pool2d`; a number, or
            one for each of D, H and W.
        _random_samples: instead of a key, ``(N, C, 3)`` numbers from 0 to 1, for D, H and W.

    Raises:
        ShapeError, ValueError, TraceError, DTypeError: as for :func:`fractional_max_pool2d`.

    >>> fractional_max_pool3d(volta.ones((1, 3, 3, 3)), 2, output_ratio=0.7, key=random.key(0)).shape
    (1, 2, 2, 2)
    """
    return _fractional_max_pool(3, input, kernel_size, output_size, output_ratio, return_indices, _random_samples, key)
