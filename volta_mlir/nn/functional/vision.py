"""Rearranging, padding and resizing of images, sequences and volumes, and sampling from them.

Channels come before the spatial axes, as in PyTorch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

import volta_mlir as volta
from volta_mlir.errors import OptionError, ShapeError
from volta_mlir.functions.common import as_tensor
from volta_mlir.nn.functional.activation import hardtanh
from volta_mlir.nn.functional.arguments import check_shape, compute_dtype, float_tensor, per_axis
from volta_mlir.nn.functional.pooling import adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d
from volta_mlir.tensor import Tensor

__all__ = [
    "affine_grid",
    "channel_shuffle",
    "grid_sample",
    "interpolate",
    "pad",
    "pixel_shuffle",
    "pixel_unshuffle",
]


# -- rearranging ---------------------------------------------------------------------------------------------------


def pixel_shuffle(input: Any, upscale_factor: int) -> Tensor:
    """Makes blocks of ``r × r`` pixels of ``r²`` channels, for ``r = upscale_factor``.

    Args:
        input: ``(…, C * r * r, H, W)``.
        upscale_factor: a positive number.

    Returns:
        ``(…, C, H * r, W * r)``.

    Raises:
        ShapeError: the input has fewer than three axes, or the number of channels is not divisible by ``r²``.

    Source: Shi et al., "Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel CNN" (2016).

    >>> pixel_shuffle(Tensor([[[1]], [[2]], [[3]], [[4]]]), 2).tolist()
    [[[1, 2], [3, 4]]]
    """
    x, r = as_tensor(input), upscale_factor
    if x.ndim < 3 or r < 1 or x.shape[-3] % (r * r):
        raise ShapeError(
            f"pixel_shuffle: expected an input of rank 3 or more whose channels are divisible by the square of"
            f" upscale_factor {r}, got {x.spec}"
        )
    *batch, channels, height, width = x.shape
    x = x.reshape(*batch, channels // (r * r), r, r, height, width)
    n = len(batch)
    x = x.transpose((*range(n + 1), n + 3, n + 1, n + 4, n + 2))
    return x.reshape(*batch, channels // (r * r), height * r, width * r)


def pixel_unshuffle(input: Any, downscale_factor: int) -> Tensor:
    """Makes ``r²`` channels of blocks of ``r × r`` pixels, for ``r = downscale_factor``; undoes :func:`pixel_shuffle`.

    Args:
        input: ``(…, C, H * r, W * r)``.
        downscale_factor: a positive number.

    Returns:
        ``(…, C * r * r, H, W)``.

    Raises:
        ShapeError: the input has fewer than three axes, or its height or width is not divisible by ``r``.

    >>> pixel_unshuffle(Tensor([[[1, 2], [3, 4]]]), 2).tolist()
    [[[1]], [[2]], [[3]], [[4]]]
    """
    x, r = as_tensor(input), downscale_factor
    if x.ndim < 3 or r < 1 or x.shape[-2] % r or x.shape[-1] % r:
        raise ShapeError(
            f"pixel_unshuffle: expected an input of rank 3 or more with height and width divisible by"
            f" downscale_factor {r}, got {x.spec}"
        )
    *batch, channels, height, width = x.shape
    x = x.reshape(*batch, channels, height // r, r, width // r, r)
    n = len(batch)
    x = x.transpose((*range(n + 1), n + 2, n + 4, n + 1, n + 3))
    return x.reshape(*batch, channels * r * r, height // r, width // r)


def channel_shuffle(input: Any, groups: int) -> Tensor:
    """Divides the channels into groups and takes a channel from each group in turn.

    Args:
        input: ``(N, C, …)`` of rank 3 or more.
        groups: a number that divides C.

    Raises:
        ShapeError: the input has fewer than three axes, or the groups do not divide the channels.

    Source: Zhang et al., "ShuffleNet" (2018).

    >>> channel_shuffle(Tensor([[[1], [2], [3], [4]]]), 2).tolist()
    [[[1], [3], [2], [4]]]
    """
    x = as_tensor(input)
    if x.ndim < 3 or groups < 1 or x.shape[1] % groups:
        raise ShapeError(
            f"channel_shuffle: expected an input of rank 3 or more whose channels {groups} groups divide, got {x.spec}"
        )
    batch, channels, *rest = x.shape
    return x.reshape(batch, groups, channels // groups, *rest).swapaxes(1, 2).reshape(x.shape)


# -- padding -------------------------------------------------------------------------------------------------------


def pad(input: Any, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Tensor:
    """More elements at the ends of the last axes.

    Args:
        input: any shape; without a constant, the last one to three axes, as many as ``pad`` is for, come after one
            (channels) or two (batch and channels) others.
        pad: how many before and after the elements of the last axis, then of the last but one, and so on. Negative
            numbers remove as many.
        mode: ``"constant"``; ``"reflect"``, mirrored at the first and last element; ``"replicate"``, the first and
            last element repeated; ``"circular"``, what comes at the other end.
        value: the constant; default 0.

    Raises:
        ShapeError: ``pad`` does not fit the input, or asks for more than the mode has to offer.
        ValueError: there is no such mode, or a value is given with another mode than ``"constant"``.

    >>> pad(Tensor([[1, 2, 3]]), (2, 1), "reflect").tolist(), pad(Tensor([1, 2, 3]), (1, -1)).tolist()
    ([[3, 2, 1, 2, 3, 2]], [0, 1, 2])
    """
    x, widths = as_tensor(input), tuple(pad)
    if len(widths) % 2 or len(widths) > 2 * x.ndim:
        raise ShapeError(f"pad: expected two numbers for each of at most {x.ndim} axes of {x.spec}, got {widths}")
    pairs = [(0, 0)] * (x.ndim - len(widths) // 2) + [
        (widths[i], widths[i + 1]) for i in range(len(widths) - 2, -1, -2)
    ]
    if any(low + n + high < 0 for n, (low, high) in zip(x.shape, pairs, strict=True)):
        raise ShapeError(f"pad: {widths} removes more elements than {x.spec} has")
    if mode == "constant":
        return volta.pad_interior(x, 0 if value is None else value, *zip(*pairs, strict=True)) if pairs else x
    if mode not in _ENDS:
        raise OptionError(f"pad: expected the mode constant, reflect, replicate or circular, got {mode!r}")
    if value is not None:
        raise OptionError(f"pad: padding mode {mode!r} doesn't take in a value argument")
    padded = len(widths) // 2
    if not 1 <= padded <= 3 or x.ndim - padded not in (1, 2):
        raise ShapeError(
            f"pad: mode {mode!r} pads the last 1, 2 or 3 axes, after one or two others, got {widths} for {x.spec}"
        )
    for axis, (low, high) in enumerate(pairs):
        if low or high:
            x = _extended(x, axis, low, high, mode)
    return x


def _extended(x: Tensor, axis: int, low: int, high: int, mode: str) -> Tensor:
    """``x`` with more elements, or fewer, at the ends of an axis."""
    if mode == "circular":  # only here, what is removed does not come in at the other end
        x = _cropped(x, axis, low, high)
    extent, most = x.shape[axis], max(low, high)
    offered = {"reflect": extent - 1, "circular": extent}.get(mode, most)
    if most > offered or not extent:
        raise ShapeError(
            f"pad: mode {mode!r} has fewer elements to offer than padding ({low}, {high}) takes from {extent}"
        )
    parts = [x]
    if low > 0:
        parts.insert(0, _ENDS[mode](x, axis, low, False))
    if high > 0:
        parts.append(_ENDS[mode](x, axis, high, True))
    x = volta.concatenate(parts, axis)
    return x if mode == "circular" else _cropped(x, axis, low, high)


def _cropped(x: Tensor, axis: int, low: int, high: int) -> Tensor:
    """``x`` without as many elements at the ends of an axis as negative numbers say."""
    return volta.slice_in_dim(x, max(-low, 0), x.shape[axis] - max(-high, 0), axis=axis)


def _reflected(x: Tensor, axis: int, count: int, at_end: bool) -> Tensor:
    start = x.shape[axis] - 1 - count if at_end else 1
    return volta.flip(volta.slice_in_dim(x, start, start + count, axis=axis), axis)


def _replicated(x: Tensor, axis: int, count: int, at_end: bool) -> Tensor:
    start = x.shape[axis] - 1 if at_end else 0
    edge = volta.slice_in_dim(x, start, start + 1, axis=axis)
    return volta.broadcast_to(edge, (*x.shape[:axis], count, *x.shape[axis + 1 :]))


def _from_other_end(x: Tensor, axis: int, count: int, at_end: bool) -> Tensor:
    start = 0 if at_end else x.shape[axis] - count
    return volta.slice_in_dim(x, start, start + count, axis=axis)


#: What to put at an end of an axis, by the mode.
_ENDS = {"reflect": _reflected, "replicate": _replicated, "circular": _from_other_end}


# -- resizing ------------------------------------------------------------------------------------------------------

#: The numbers of spatial axes that a mode takes.
_MODE_RANKS = {
    "nearest": (1, 2, 3),
    "nearest-exact": (1, 2, 3),
    "area": (1, 2, 3),
    "linear": (1,),
    "bilinear": (2,),
    "bicubic": (2,),
    "trilinear": (3,),
}
_CORNERED = ("linear", "bilinear", "bicubic", "trilinear")


def interpolate(
    input: Any,
    size: int | Sequence[int] | None = None,
    scale_factor: float | Sequence[float] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Tensor:
    """Resizes sequences, images or volumes.

    In the linear and cubic modes, which are products with matrices of weights, an infinite or NaN element makes NaN of
    everything in its row and column.

    Args:
        input: ``(N, C, L)``, ``(N, C, H, W)`` or ``(N, C, D, H, W)``; floating-point unless the mode is one of the
            nearest.
        size: the extents of the result, a number for all axes or one for each.
        scale_factor: instead of ``size``: the result has ``floor(extent * scale_factor)`` elements.
        mode: ``"nearest"``, which rounds down as PyTorch does, ``"nearest-exact"``, ``"linear"``, ``"bilinear"``,
            ``"trilinear"`` (by the number of spatial axes), ``"bicubic"`` for images, or ``"area"``, which is adaptive
            average pooling.
        align_corners: whether the centres of the first and last elements stay where they are, and not the borders;
            for the linear and cubic modes only. None is false.
        recompute_scale_factor: whether to use the ratio of the extents instead of the given ``scale_factor``.
        antialias: whether the weights spread out where images get smaller; for ``"bilinear"`` and ``"bicubic"``.

    Raises:
        ShapeError: the input has another rank, or the size is not positive.
        ValueError: arguments contradict each other, or there is no such mode.
        DTypeError: the mode takes floating-point numbers.

    >>> interpolate(Tensor([[[1.0, 3.0]]]), scale_factor=2, mode="linear").tolist()
    [[[1.0, 1.5, 2.5, 3.0]]]
    """
    if mode not in _MODE_RANKS:
        raise OptionError(f"interpolate: expected one of the modes {', '.join(_MODE_RANKS)}, got {mode!r}")
    x = as_tensor(input) if mode.startswith("nearest") else float_tensor("interpolate", input)
    rank = x.ndim - 2
    if rank not in _MODE_RANKS[mode]:
        ranks = " or ".join(str(r + 2) for r in _MODE_RANKS[mode])
        raise ShapeError(f"interpolate: mode {mode!r} takes an input of rank {ranks}, got {x.spec}")
    if align_corners is not None and mode not in _CORNERED:
        raise OptionError(f"interpolate: align_corners can only be set with the modes {', '.join(_CORNERED)}")
    if antialias and mode not in ("bilinear", "bicubic"):
        raise OptionError(f"interpolate: antialias is for the modes bilinear and bicubic, got {mode!r}")
    sizes, factors = _resized(x, rank, size, scale_factor, bool(recompute_scale_factor))
    if mode == "area":
        return (adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d)[rank - 1](x, sizes)
    out = x if mode.startswith("nearest") else as_tensor(x, compute_dtype(x))
    for axis, (extent, factor) in enumerate(zip(sizes, factors, strict=True), 2):
        if mode.startswith("nearest"):
            out = _nearest(out, axis, extent, factor, mode == "nearest-exact")
        else:
            out = _weighted(out, axis, extent, factor, mode == "bicubic", bool(align_corners), antialias)
    return as_tensor(out, x.dtype)


def _resized(
    x: Tensor, rank: int, size: Any, scale_factor: Any, recompute: bool
) -> tuple[tuple[int, ...], tuple[float | None, ...]]:
    """The extents of the result, and the scale factors to compute with where there are any."""
    if (size is None) == (scale_factor is None):
        raise OptionError("interpolate: expected either size or scale_factor, and not both")
    factors: tuple[float | None, ...]
    if size is not None:
        if recompute:
            raise OptionError("interpolate: recompute_scale_factor is not meaningful with an explicit size")
        sizes, factors = per_axis("interpolate", "size", size, rank), (None,) * rank
    else:
        given = (scale_factor,) * rank if isinstance(scale_factor, int | float) else tuple(scale_factor)
        if len(given) != rank:
            raise ShapeError(f"interpolate: expected a scale_factor or {rank} of them, got {scale_factor}")
        sizes = tuple(math.floor(float(n) * f) for n, f in zip(x.shape[2:], given, strict=True))
        factors = (None,) * rank if recompute else given
    if min(sizes) < 1 or min(x.shape[2:]) < 1:
        raise ShapeError(f"interpolate: input and output should have elements, got {x.spec} and the size {sizes}")
    return sizes, factors


def _nearest(x: Tensor, axis: int, size: int, factor: float | None, is_exact: bool) -> Tensor:
    extent = x.shape[axis]
    if size == extent and not is_exact:
        return x
    # In float32 for every dtype, as PyTorch does: where an element is half-way rounding decides.
    scale = np.float32(1 / factor if factor else extent / size)
    offset = np.float32(0.5 if is_exact else 0)
    found = np.minimum(np.floor((np.arange(size, dtype=np.float32) + offset) * scale).astype(np.int64), extent - 1)
    step = int(found[1] - found[0]) if size > 1 else 1
    if size % extent == 0 and (found == np.arange(size) // (size // extent)).all():
        return volta.repeat(x, size // extent, axis)
    if step > 0 and (found == found[0] + np.arange(size) * step).all():
        return volta.slice_in_dim(x, int(found[0]), int(found[-1]) + 1, step, axis)
    positions = volta.floor((volta.iota((size,)).astype(np.float32) + float(offset)) * float(scale))
    return volta.take(x, positions.astype(np.int32), axis)  # which clamps


def _weighted(
    x: Tensor, axis: int, size: int, factor: float | None, is_cubic: bool, align_corners: bool, antialias: bool
) -> Tensor:
    """Each result a sum of neighbours along an axis, as a product with the matrix of all weights.

    That has a product for its gradient, where gathering the neighbours would have a scatter.
    """
    extent = x.shape[axis]
    if align_corners:
        scale = (extent - 1) / (size - 1) if size > 1 else 0.0
    else:
        scale = 1 / factor if factor else extent / size
    if size == extent and scale == 1:
        return x
    numbers = volta.iota((size, 1)).astype(x.dtype)
    if antialias:
        width = max(scale, 1.0)
        distance = (volta.iota((extent,)).astype(x.dtype) + 0.5 - (numbers + 0.5) * scale) * (1 / width)
        weights = _cubic(distance, -0.5) if is_cubic else _hat(distance)
        weights = weights / weights.sum(1, keepdims=True)
    else:
        at = numbers * scale if align_corners else (numbers + 0.5) * scale - 0.5
        if is_cubic:  # reaches up to two elements beyond the ends
            x = _extended(x, axis, 2, 2, "replicate")
            weights = _cubic(at - (volta.iota((extent + 4,)) - 2).astype(x.dtype), -0.75)
        else:
            weights = _hat(volta.clip(at, 0, extent - 1) - volta.iota((extent,)).astype(x.dtype))
    return volta.moveaxis(volta.dot_general(x, weights, contract=([axis], [1])), -1, axis)


def _hat(distance: Tensor) -> Tensor:
    return volta.maximum(1 - volta.abs(distance), 0.0)


def _cubic(distance: Tensor, a: float) -> Tensor:
    """Keys, "Cubic convolution interpolation for digital image processing" (1981)."""
    d = volta.abs(distance)
    inner = ((a + 2) * d - (a + 3)) * d * d + 1
    outer = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return volta.where(d <= 1, inner, volta.where(d < 2, outer, 0.0))


# -- sampling ------------------------------------------------------------------------------------------------------


def affine_grid(theta: Any, size: Sequence[int], align_corners: bool | None = None) -> Tensor:
    """The places in an image from which :func:`grid_sample` samples it under an affine map.

    Args:
        theta: ``(N, 2, 3)`` for images, ``(N, 3, 4)`` for volumes; floating-point. It maps the coordinates
            ``(x, y, 1)`` or ``(x, y, z, 1)`` of the result to those of the input; they are from -1 to 1.
        size: ``(N, C, H, W)`` or ``(N, C, D, H, W)`` of the result.
        align_corners: whether -1 and 1 are the centres of the first and last elements, and not their outer borders.
            None is false.

    Returns:
        ``(N, H, W, 2)`` or ``(N, D, H, W, 3)``.

    Raises:
        ShapeError: theta does not have the shape that belongs to the size, or the size has no elements.
        DTypeError: theta is not of a floating-point dtype.

    >>> affine_grid(Tensor([[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]]), (1, 1, 1, 2), align_corners=True).tolist()
    [[[[-1.0, 0.0], [1.0, 0.0]]]]
    """
    theta, extents, rank = float_tensor("affine_grid", theta), tuple(size)[2:], len(size) - 2
    if rank not in (2, 3) or min(size) < 1:
        raise ShapeError(f"affine_grid: expected a positive size (N, C, H, W) or (N, C, D, H, W), got {tuple(size)}")
    check_shape("affine_grid", "theta", theta, (size[0], rank, rank + 1))
    wide = as_tensor(theta, compute_dtype(theta))
    # The map is linear in each coordinate: rows of theta times the coordinate along its axis are summed. x is last.
    grid = wide[:, :, rank].reshape(size[0], *(1,) * rank, rank)
    for axis, extent in enumerate(extents):
        numbers = volta.iota((extent,)).astype(wide.dtype)
        along = numbers * (2 / max(extent - 1, 1)) - 1 if align_corners else (numbers * 2 + 1) * (1 / extent) - 1
        if align_corners and extent == 1:
            along = volta.zeros_like(along)
        shape = (1,) * (1 + axis) + (extent,) + (1,) * (rank - axis)
        grid = grid + along.reshape(shape) * wide[:, :, rank - 1 - axis].reshape(size[0], *(1,) * rank, rank)
    return as_tensor(grid, theta.dtype)


def grid_sample(
    input: Any,
    grid: Any,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool | None = None,
) -> Tensor:
    """Samples images or volumes at given places.

    Args:
        input: ``(N, C, H, W)`` or ``(N, C, D, H, W)``, floating-point.
        grid: ``(N, OH, OW, 2)`` or ``(N, OD, OH, OW, 3)``: the places ``(x, y)`` or ``(x, y, z)``, from -1 to 1 in the
            image along W, H (and D).
        mode: ``"bilinear"`` (trilinear for volumes), ``"nearest"``, or ``"bicubic"`` for images.
        padding_mode: what is outside: ``"zeros"``, ``"border"``, the nearest element, or ``"reflection"``, the image
            mirrored at its borders.
        align_corners: whether -1 and 1 are the centres of the first and last elements, and not their outer borders.
            None is false.

    Returns:
        ``(N, C, OH, OW)`` or ``(N, C, OD, OH, OW)``. A place that is NaN counts as -1.

    Raises:
        ShapeError: the shapes do not fit.
        ValueError: there is no such mode.
        DTypeError: the input is not of a floating-point dtype.

    >>> grid_sample(Tensor([[[[1.0, 3.0]]]]), Tensor([[[[0.0, 0.0], [0.5, 0.0]]]])).tolist()
    [[[[2.0, 3.0]]]]
    """
    x, places = float_tensor("grid_sample", input), float_tensor("grid_sample", grid)
    rank = x.ndim - 2
    if mode not in ("bilinear", "nearest", "bicubic") or padding_mode not in ("zeros", "border", "reflection"):
        raise OptionError(
            f"grid_sample: expected the mode bilinear, nearest or bicubic and the padding_mode zeros, border or"
            f" reflection, got {mode!r} and {padding_mode!r}"
        )
    if rank not in (2, 3) or (rank == 3 and mode == "bicubic"):
        raise ShapeError(
            f"grid_sample: mode {mode!r} takes an input of rank 4{' or 5' * (mode != 'bicubic')}, got {x.spec}"
        )
    if places.ndim != x.ndim or places.shape[0] != x.shape[0] or places.shape[-1] != rank:
        raise ShapeError(
            f"grid_sample: expected a grid (N, …, {rank}) of rank {x.ndim} for {x.spec}, got {places.spec}"
        )
    if not math.prod(x.shape[1:]):
        raise ShapeError(f"grid_sample: expected an input with elements in all axes but the batch, got {x.spec}")
    dtype = compute_dtype(x, places)
    at = []
    for axis, extent in enumerate(x.shape[2:]):  # the last coordinate is that of the first axis
        coordinate = as_tensor(places[..., rank - 1 - axis], dtype)
        coordinate = volta.where(volta.isnan(coordinate), -1.0, coordinate)
        scaled = (coordinate + 1) * ((extent - 1) / 2) if align_corners else ((coordinate + 1) * extent - 1) * 0.5
        at.append(scaled if mode == "bicubic" else _inside(scaled, extent, padding_mode, bool(align_corners)))
    # All neighbours are gathered at once, along new last axes, one for each spatial axis.
    flat: Any = 0
    weight: Any = 1
    for axis, (coordinate, extent) in enumerate(zip(at, x.shape[2:], strict=True)):
        place, share = _neighbours(coordinate, mode)
        if mode == "bicubic":
            place = _inside(place, extent, padding_mode, bool(align_corners))
        share = volta.where((place >= 0) & (place <= extent - 1), share, 0.0)
        shape = (*coordinate.shape, *(1,) * axis, place.shape[-1], *(1,) * (rank - axis - 1))
        flat = flat * extent + volta.clip(place, 0, extent - 1).astype(np.int32).reshape(shape)
        weight = weight * share.reshape(shape)
    elements = as_tensor(x, dtype).reshape(*x.shape[:2], math.prod(x.shape[2:]))
    elements = volta.take_along_axis(elements, flat.reshape(x.shape[0], 1, math.prod(flat.shape[1:])), 2)
    elements = elements.reshape(*x.shape[:2], *flat.shape[1:])
    return as_tensor((elements * weight.expand_dims(1)).sum(range(x.ndim, x.ndim + rank)), x.dtype)


def _inside(at: Tensor, extent: int, padding_mode: str, align_corners: bool) -> Tensor:
    """Places in the image for those outside, unless these are to be zeros."""
    if padding_mode == "zeros":
        return at
    if padding_mode == "reflection":
        low, span = (0.0, extent - 1.0) if align_corners else (-0.5, float(extent))
        if span == 0:
            at = volta.zeros_like(at)
        else:
            folded = volta.fmod(volta.abs(at - low), 2 * span)
            at = volta.where(folded > span, 2 * span - folded, folded) + low
    return hardtanh(at, 0, extent - 1)  # which has derivative 0 at the ends, as in PyTorch


def _neighbours(at: Tensor, mode: str) -> tuple[Tensor, Tensor]:
    """The places of the elements around a place along one axis, and their shares, along a new last axis."""
    if mode == "nearest":
        place = volta.stop_gradient(volta.round(at)).expand_dims(-1)
        return place, volta.ones_like(place)
    first = volta.stop_gradient(volta.floor(at))
    if mode == "bilinear":
        return volta.stack([first, first + 1], -1), volta.stack([first + 1 - at, at - first], -1)
    place = first.expand_dims(-1) + volta.arange(-1, 3).astype(at.dtype)
    return place, _cubic(at.expand_dims(-1) - place, -0.75)
