"""Convolution and pooling over the spatial axes of a batch of images, sequences or volumes.

``layout`` names the axes: N is the batch, C the channels, the others are spatial. A kernel's axes are in the same order
with O for output channels and I for the input channels of a group: OIHW for NCHW, HWIO for NHWC. The default layout is
PyTorch's: NCW, NCHW or NCDHW.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from volta_mlir.dialects import convolution as ops
from volta_mlir.dialects import window as window_ops
from volta_mlir.errors import ShapeError
from volta_mlir.functions.common import as_tensor, promote, promote_float
from volta_mlir.functions.movement import pad_interior
from volta_mlir.tensor import Tensor

__all__ = ["argmax_pool", "avg_pool", "conv", "conv_transpose", "max_pool", "sum_pool"]

Extents = int | Sequence[int]
#: One number for all spatial axes; for each axis a number or a pair (before, after); "same" or "valid".
Padding = int | Sequence[int | tuple[int, int]] | str


def _layout(x: Tensor, layout: str | None, what: str) -> str:
    if layout is None:
        layout = {3: "NCW", 4: "NCHW", 5: "NCDHW"}.get(x.ndim, "")
    if layout not in ops.LAYOUTS or len(layout) != x.ndim:
        raise ShapeError(f"{what}: {x.spec} has none of the layouts {', '.join(ops.LAYOUTS)} (given: {layout!r})")
    return layout


def _per_axis(value: Extents, rank: int, what: str) -> tuple[int, ...]:
    values = (value,) * rank if isinstance(value, int) else tuple(value)
    if len(values) != rank:
        raise ShapeError(f"{what} must be an int or have an entry for each of the {rank} spatial axes, got {values}")
    return values


def _padding(
    padding: Padding, extents: Sequence[int], window: Sequence[int], strides: Sequence[int], dilation: Sequence[int]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Padding before and after each spatial axis."""
    rank = len(extents)
    if isinstance(padding, str):
        if padding not in ("same", "valid"):
            raise ShapeError(f"padding is a number, numbers, pairs of numbers, 'same' or 'valid', got {padding!r}")
        if padding == "valid":
            return (0,) * rank, (0,) * rank
        spans = ((w - 1) * d + 1 for w, d in zip(window, dilation, strict=True))
        of_axes = zip(extents, spans, strides, strict=True)
        total = [max((-(-extent // stride) - 1) * stride + span - extent, 0) for extent, span, stride in of_axes]
        return tuple(t // 2 for t in total), tuple(t - t // 2 for t in total)
    pairs = (padding,) * rank if isinstance(padding, int) else tuple(padding)
    if len(pairs) != rank:
        raise ShapeError(f"padding must have an entry for each of the {rank} spatial axes, got {padding}")
    both = [(p, p) if isinstance(p, int) else tuple(p) for p in pairs]
    return tuple(low for low, _ in both), tuple(high for _, high in both)


def _spatial(shape: Sequence[int], layout: str, kernel: bool = False) -> tuple[int, ...]:
    """The spatial extents of data or of a kernel."""
    if layout[-1] != "C":
        return tuple(shape[2:])
    return tuple(shape[:-2] if kernel else shape[1:-1])


def conv(
    x: Any,
    kernel: Any,
    strides: Extents = 1,
    padding: Padding = 0,
    dilation: Extents = 1,
    groups: int = 1,
    layout: str | None = None,
) -> Tensor:
    """The products of the kernel and what is under it, summed, at each place of the kernel; it is not flipped.

    Args:
        x: ``(N, C, spatial…)`` or as ``layout`` says, of rank 3 to 5.
        kernel: ``(O, I, spatial…)``, with ``I = C / groups``; HWIO and the like if the channels of ``x`` are last.
        strides: how far the kernel moves, for all spatial axes or for each.
        padding: zeros around ``x``: a number, for each spatial axis a number or a pair (before, after), ``"valid"`` for
            none, or ``"same"`` for a result of ``ceil(extent / stride)`` elements.
        dilation: how far apart the kernel's elements lie.
        groups: groups of channels that do not mix; each makes ``O / groups`` of the output channels.
        layout: see the module.

    Raises:
        ShapeError: the shapes do not fit, or the kernel does not fit into the padded input.

    >>> conv(Tensor([[[1.0, 2.0, 3.0]]]), Tensor([[[1.0, 1.0]]])).tolist()
    [[[3.0, 5.0]]]
    """
    x, kernel = promote(x, kernel)
    layout = _layout(x, layout, "conv")
    rank = x.ndim - 2
    strides, dilation = _per_axis(strides, rank, "strides"), _per_axis(dilation, rank, "dilation")
    low, high = _padding(padding, _spatial(x.shape, layout), _spatial(kernel.shape, layout, True), strides, dilation)
    return ops.ConvolutionOp.apply(
        x, kernel, strides=strides, low=low, high=high, dilation=dilation, groups=groups, layout=layout
    )


def conv_transpose(
    x: Any,
    kernel: Any,
    strides: Extents = 1,
    padding: Extents = 0,
    output_padding: Extents = 0,
    dilation: Extents = 1,
    groups: int = 1,
    layout: str | None = None,
) -> Tensor:
    """The transposed convolution: adds up the kernel times each element of ``x``, at ``strides`` apart.

    It is the gradient of :func:`conv` with respect to its input, and takes the same kernel: the *input* channels
    here are the ``O`` of the kernel, the output channels are ``groups · I``.

    Args:
        x: as in :func:`conv`.
        kernel: ``(C, output channels / groups, spatial…)``, HWIO and the like if the channels of ``x`` are last.
        strides: how far apart in the result neighbours in ``x`` lie.
        padding: how many elements to leave away at both ends of each axis of the result.
        output_padding: how many elements to add after it, fewer than the stride or the dilation.
        dilation, groups, layout: as in :func:`conv`.

    >>> conv_transpose(Tensor([[[1.0, 2.0]]]), Tensor([[[1.0, 10.0]]]), strides=2).tolist()
    [[[1.0, 10.0, 2.0, 20.0]]]
    """
    x, kernel = promote(x, kernel)
    layout = _layout(x, layout, "conv_transpose")
    rank = x.ndim - 2
    strides, dilation = _per_axis(strides, rank, "strides"), _per_axis(dilation, rank, "dilation")
    cut, more = _per_axis(padding, rank, "padding"), _per_axis(output_padding, rank, "output_padding")
    if any(m >= max(s, d) for m, s, d in zip(more, strides, dilation, strict=True)):
        raise ShapeError(
            f"conv_transpose: output_padding {more} must be smaller than the strides {strides} or the dilation"
            f" {dilation}"
        )
    window = _spatial(kernel.shape, layout, True)
    of_axes = zip(_spatial(x.shape, layout), strides, window, dilation, strict=True)
    full = [(n - 1) * s + (w - 1) * d + 1 for n, s, w, d in of_axes]
    if any(f - 2 * c + m < 0 for f, c, m in zip(full, cut, more, strict=True)):
        raise ShapeError(f"conv_transpose: padding {cut} leaves nothing of the result")
    # What is added is first less to cut away, then zeros beyond the last element. The op takes so many zeros as do not
    # make room for a further place of the kernel.
    high = tuple(max(c - m, 0) for c, m in zip(cut, more, strict=True))
    zeros = [max(m - c, 0) for c, m in zip(cut, more, strict=True)]
    inside = [min(z, s - 1) for z, s in zip(zeros, strides, strict=True)]
    extents = tuple(f - c - h + i for f, c, h, i in zip(full, cut, high, inside, strict=True))
    out = ops.ConvolutionInputGradOp.apply(
        x, kernel, strides=strides, low=cut, high=high, dilation=dilation, groups=groups, layout=layout, extents=extents
    )
    outside = _everywhere([z - i for z, i in zip(zeros, inside, strict=True)], 0, layout)
    return pad_interior(out, 0, (0,) * out.ndim, outside)


def _everywhere(values: Sequence[int], otherwise: int, layout: str) -> tuple[int, ...]:
    """Values of the spatial axes, among others for the batch and the channels."""
    return (otherwise, *values, otherwise) if layout[-1] == "C" else (otherwise, otherwise, *values)


def _windows(
    x: Tensor, window: Extents, strides: Extents | None, padding: Padding, dilation: Extents, layout: str
) -> dict[str, tuple[int, ...]]:
    """The attributes of windows over the spatial axes of ``x``."""
    rank = x.ndim - 2
    window, dilation = _per_axis(window, rank, "window"), _per_axis(dilation, rank, "dilation")
    strides = window if strides is None else _per_axis(strides, rank, "strides")
    low, high = _padding(padding, _spatial(x.shape, layout), window, strides, dilation)
    return {
        "window": _everywhere(window, 1, layout),
        "strides": _everywhere(strides, 1, layout),
        "low": _everywhere(low, 0, layout),
        "high": _everywhere(high, 0, layout),
        "dilation": _everywhere(dilation, 1, layout),
    }


def max_pool(
    x: Any,
    window: Extents,
    strides: Extents | None = None,
    padding: Padding = 0,
    dilation: Extents = 1,
    layout: str | None = None,
) -> Tensor:
    """The maximum of each window over the spatial axes; padding is never the maximum, NaN always is.

    The derivative is that of the first maximum in the window.

    Args:
        x: ``(N, C, spatial…)`` or as ``layout`` says, of rank 3 to 5.
        window: the window's extent, for all spatial axes or for each.
        strides: how far it moves; default its extent.
        padding, dilation, layout: as in :func:`conv`.

    >>> max_pool(Tensor([[[1.0, 3.0, 2.0, 4.0]]]), 2).tolist()
    [[[3.0, 4.0]]]
    """
    x = as_tensor(x)
    layout = _layout(x, layout, "max_pool")
    return window_ops.WindowMaxOp.apply(x, **_windows(x, window, strides, padding, dilation, layout))


def argmax_pool(
    x: Any,
    window: Extents,
    strides: Extents | None = None,
    padding: Padding = 0,
    dilation: Extents = 1,
    layout: str | None = None,
) -> Tensor:
    """The index (int32) in each window of what :func:`max_pool` gives; it counts in row-major order of the window.

    It is that of the first maximum, or of the last NaN where there are any, and -1 in a window of padding alone.

    Args:
        x, window, strides, padding, dilation, layout: as in :func:`max_pool`.

    >>> argmax_pool(Tensor([[[1.0, 3.0, 2.0, 4.0]]]), 2).tolist()
    [[[1, 1]]]
    """
    x = as_tensor(x)
    layout = _layout(x, layout, "argmax_pool")
    return window_ops.WindowArgmaxOp.apply(x, **_windows(x, window, strides, padding, dilation, layout))


def sum_pool(
    x: Any,
    window: Extents,
    strides: Extents | None = None,
    padding: Padding = 0,
    dilation: Extents = 1,
    layout: str | None = None,
) -> Tensor:
    """The sum of each window over the spatial axes; half precision accumulates in float32.

    Args:
        x, window, strides, padding, dilation, layout: as in :func:`max_pool`.

    >>> sum_pool(Tensor([[[1.0, 3.0, 2.0, 4.0]]]), 2).tolist()
    [[[4.0, 6.0]]]
    """
    x = as_tensor(x)
    layout = _layout(x, layout, "sum_pool")
    return window_ops.WindowSumOp.apply(x, **_windows(x, window, strides, padding, dilation, layout))


def avg_pool(
    x: Any,
    window: Extents,
    strides: Extents | None = None,
    padding: Padding = 0,
    count_padding: bool = True,
    layout: str | None = None,
) -> Tensor:
    """The mean of each window over the spatial axes; integers become float32.

    Args:
        x, window, strides, padding, layout: as in :func:`max_pool`.
        count_padding: whether zeros of the padding count as elements. Without, a window of padding alone is NaN.

    >>> avg_pool(Tensor([[[1.0, 3.0, 2.0, 4.0]]]), 2).tolist()
    [[[2.0, 3.0]]]
    """
    (x,) = promote_float(x)
    layout = _layout(x, layout, "avg_pool")
    windows = _windows(x, window, strides, padding, 1, layout)
    total = window_ops.WindowSumOp.apply(x, **windows)
    if count_padding or not any(windows["low"] + windows["high"]):
        return total * (1.0 / math.prod(windows["window"]))
    ones = np.ones([1 if w == 1 else n for n, w in zip(x.shape, windows["window"], strict=True)], x.dtype)
    (count,) = window_ops.WindowSumOp.evaluate([ones], windows)
    return total / Tensor(count)
