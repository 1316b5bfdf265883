"""Convolutions and their transposes, and the sliding blocks that they work on.

Channels come before the spatial axes, as in PyTorch. An input without a batch axis gives a result without one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import volta_mlir as volta
from volta_mlir.errors import OptionError, ShapeError
from volta_mlir.functions.common import as_tensor
from volta_mlir.functions.convolution import Extents
from volta_mlir.nn.functional.arguments import check_shape, per_axis, with_batch
from volta_mlir.tensor import Tensor

__all__ = [
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "fold",
    "unfold",
]


def _with_bias(out: Tensor, bias: Any) -> Tensor:
    if bias is None:
        return out
    return out + as_tensor(bias, out.dtype).reshape(-1, *(1,) * (out.ndim - 2))


def _check_kernel(what: str, x: Tensor, weight: Tensor, channels: int, groups: int) -> None:
    """Raises ShapeError unless the kernel has the right rank and the input has so many channels."""
    if weight.ndim != x.ndim:
        raise ShapeError(f"{what}: expected a weight of rank {x.ndim}, got {weight.spec}")
    if groups < 1:
        raise ShapeError(f"{what}: expected groups to be positive, got {groups}")
    if x.shape[1] != channels:
        raise ShapeError(
            f"{what}: given groups={groups}, weight of shape {weight.shape}, expected an input with {channels}"
            f" channels, got {x.spec} with {x.shape[1]}"
        )


def _conv(
    rank: int,
    input: Any,
    weight: Any,
    bias: Any,
    stride: Extents,
    padding: Extents | str,
    dilation: Extents,
    groups: int,
) -> Tensor:
    what = f"conv{rank}d"
    x, is_batched = with_batch(what, as_tensor(input), rank)
    weight = as_tensor(weight)
    _check_kernel(what, x, weight, weight.shape[1] * groups if weight.ndim > 1 else 0, groups)
    if weight.shape[0] % groups:
        raise ShapeError(f"{what}: expected a weight whose first axis {groups} groups divide, got {weight.spec}")
    check_shape(what, "bias", bias, weight.shape[:1])
    strides = per_axis(what, "stride", stride, rank)
    if isinstance(padding, str):
        if padding not in ("same", "valid"):
            raise OptionError(f"{what}: padding is 'same', 'valid' or numbers, got {padding!r}")
        if padding == "same" and any(s != 1 for s in strides):
            raise ShapeError(f"{what}: padding='same' is not supported for strided convolutions, got stride {strides}")
    else:
        padding = per_axis(what, "padding", padding, rank)
    out = volta.conv(x, weight, strides, padding, per_axis(what, "dilation", dilation, rank), groups)
    out = _with_bias(out, bias)
    return out if is_batched else out.squeeze(0)


def conv1d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Extents = 1,
    padding: Extents | str = 0,
    dilation: Extents = 1,
    groups: int = 1,
) -> Tensor:
    """The sum of the products of the kernel and what is under it, at each of its places in a sequence.

    Args:
        input: ``(N, C, L)`` or ``(C, L)``.
        weight: ``(O, C / groups, K)``.
        bias: ``(O,)``, or None.
        stride: how far apart the places are, in elements.
        padding: how many zeros are at both ends; ``"valid"`` for none; ``"same"``, which takes a stride of 1, for a
            result of ``L`` elements, with one more zero at the right end where the number is odd.
        dilation: how far apart the kernel's elements are.
        groups: how many groups the channels are divided into, which do not mix.

    Raises:
        ShapeError: the shapes do not fit, the kernel does not fit into the padded input, or ``"same"`` comes with a
            stride.
        ValueError: ``padding`` is another string.

    >>> conv1d(Tensor([[1.0, 2.0, 4.0]]), Tensor([[[1.0, 1.0]]]), Tensor([0.5])).tolist()
    [[3.5, 6.5]]
    """
    return _conv(1, input, weight, bias, stride, padding, dilation, groups)


def conv2d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Extents = 1,
    padding: Extents | str = 0,
    dilation: Extents = 1,
    groups: int = 1,
) -> Tensor:
    """:func:`conv1d` for images.

    Args:
        input: ``(N, C, H, W)`` or ``(C, H, W)``.
        weight: ``(O, C / groups, KH, KW)``.
        bias: ``(O,)``, or None.
        stride, padding, dilation, groups: as for :func:`conv1d`; a number, or one for each of H and W.

    Raises:
        ShapeError, ValueError: as for :func:`conv1d`.

    >>> conv2d(volta.ones((1, 1, 3, 3)), volta.ones((1, 1, 2, 2)), stride=2, padding=1).tolist()
    [[[[1.0, 2.0], [2.0, 4.0]]]]
    """
    return _conv(2, input, weight, bias, stride, padding, dilation, groups)


def conv3d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Extents = 1,
    padding: Extents | str = 0,
    dilation: Extents = 1,
    groups: int = 1,
) -> Tensor:
    """:func:`conv1d` for volumes.

    Args:
        input: ``(N, C, D, H, W)`` or ``(C, D, H, W)``.
        weight: ``(O, C / groups, KD, KH, KW)``.
        bias: ``(O,)``, or None.
        stride, padding, dilation, groups: as for :func:`conv1d`; a number, or one for each of D, H and W.

    Raises:
        ShapeError, ValueError: as for :func:`conv1d`.

    >>> conv3d(volta.ones((1, 2, 2, 2)), volta.ones((1, 1, 2, 2, 2))).tolist()
    [[[[8.0]]]]
    """
    return _conv(3, input, weight, bias, stride, padding, dilation, groups)


def _conv_transpose(
    rank: int,
    input: Any,
    weight: Any,
    bias: Any,
    stride: Extents,
    padding: Extents,
    output_padding: Extents,
    groups: int,
    dilation: Extents,
) -> Tensor:
    what = f"conv_transpose{rank}d"
    x, is_batched = with_batch(what, as_tensor(input), rank)
    weight = as_tensor(weight)
    _check_kernel(what, x, weight, weight.shape[0] if weight.ndim else 0, groups)
    if x.shape[1] % groups:
        raise ShapeError(f"{what}: expected an input with channels that {groups} groups divide, got {x.spec}")
    check_shape(what, "bias", bias, (weight.shape[1] * groups,))
    given = {"stride": stride, "padding": padding, "output_padding": output_padding, "dilation": dilation}
    out = volta.conv_transpose(x, weight, *(per_axis(what, k, v, rank) for k, v in given.items()), groups)
    out = _with_bias(out, bias)
    return out if is_batched else out.squeeze(0)


def conv_transpose1d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Extents = 1,
    padding: Extents = 0,
    output_padding: Extents = 0,
    groups: int = 1,
    dilation: Extents = 1,
) -> Tensor:
    """The transpose of :func:`conv1d`: adds up the kernel times each element of a sequence.

    Args:
        input: ``(N, C, L)`` or ``(C, L)``.
        weight: ``(C, O / groups, K)``.
        bias: ``(O,)``, or None.
        stride: how far apart neighbours of the input are in the result.
        padding: how many elements of the result are left away at both ends.
        output_padding: how many elements more there are at the right end; fewer than the stride or the dilation.
        groups: how many groups the channels are divided into, which do not mix.
        dilation: how far apart the kernel's elements are in the result.

    Raises:
        ShapeError: the shapes do not fit, nothing is left of the result, or ``output_padding`` is too large.

    >>> conv_transpose1d(Tensor([[1.0, 2.0]]), Tensor([[[1.0, 10.0]]]), stride=2).tolist()
    [[1.0, 10.0, 2.0, 20.0]]
    """
    return _conv_transpose(1, input, weight, bias, stride, padding, output_padding, groups, dilation)


def conv_transpose2d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Extents = 1,
    padding: Extents = 0,
    output_padding: Extents = 0,
    groups: int = 1,
    dilation: Extents = 1,
) -> Tensor:
    """:func:`conv_transpose1d` for images.

    Args:
        input: ``(N, C, H, W)`` or ``(C, H, W)``.
        weight: ``(C, O / groups, KH, KW)``.
        bias: ``(O,)``, or None.
        stride, padding, output_padding, groups, dilation: as for :func:`conv_transpose1d`; a number, or one for each
            of H and W.

    Raises:
        ShapeError: as for :func:`conv_transpose1d`.

    >>> conv_transpose2d(volta.ones((1, 1, 2)), volta.ones((1, 1, 1, 2)), padding=(0, 1)).tolist()
    [[[2.0]]]
    """
    return _conv_transpose(2, input, weight, bias, stride, padding, output_padding, groups, dilation)


def conv_transpose3d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Extents = 1,
    padding: Extents = 0,
    output_padding: Extents = 0,
    groups: int = 1,
    dilation: Extents = 1,
) -> Tensor:
    """:func:`conv_transpose1d` for volumes.

    Args:
        input: ``(N, C, D, H, W)`` or ``(C, D, H, W)``.
        weight: ``(C, O / groups, KD, KH, KW)``.
        bias: ``(O,)``, or None.
        stride, padding, output_padding, groups, dilation: as for :func:`conv_transpose1d`; a number, or one for each
            of D, H and W.

    Raises:
        ShapeError: as for :func:`conv_transpose1d`.

    >>> conv_transpose3d(volta.ones((1, 1, 1, 2)), volta.ones((1, 1, 1, 1, 1)), stride=(1, 1, 2)).tolist()
    [[[[1.0, 0.0, 1.0]]]]
    """
    return _conv_transpose(3, input, weight, bias, stride, padding, output_padding, groups, dilation)


# -- sliding blocks ------------------------------------------------------------------------------------------------


def _block_counts(
    what: str,
    extents: Sequence[int],
    kernel: Sequence[int],
    dilation: Sequence[int],
    padding: Sequence[int],
    stride: Sequence[int],
) -> list[int]:
    """How many blocks there are along each axis."""
    if min(kernel) < 1 or min(dilation) < 1 or min(stride) < 1 or min(padding) < 0:
        raise ShapeError(
            f"{what}: expected a positive kernel_size, dilation and stride and no negative padding, got {kernel},"
            f" {dilation}, {stride} and {padding}"
        )
    of_axes = zip(extents, kernel, dilation, padding, stride, strict=True)
    counts = [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, d, p, s in of_axes]
    if min(counts) < 1:
        raise ShapeError(
            f"{what}: no block of kernel_size {kernel} with dilation {dilation} fits into {tuple(extents)} with padding"
            f" {padding}"
        )
    return counts


def unfold(
    input: Any, kernel_size: Extents, dilation: Extents = 1, padding: Extents = 0, stride: Extents = 1
) -> Tensor:
    """The blocks that a kernel slides over, one after the other along the last axis.

    Args:
        input: ``(N, C, H, W)`` or ``(C, H, W)``.
        kernel_size, dilation, padding, stride: as of a convolution; a number, or one for each of H and W.

    Returns:
        ``(N, C * KH * KW, blocks)`` or without N.

    Raises:
        ShapeError: the input has another rank, or no block fits into it.

    >>> unfold(Tensor([[[1.0, 2.0, 3.0]]]), (1, 2)).tolist()
    [[1.0, 2.0], [2.0, 3.0]]
    """
    x, is_batched = with_batch("unfold", as_tensor(input), 2)
    given = {"kernel_size": kernel_size, "dilation": dilation, "padding": padding, "stride": stride}
    kernel, dilations, paddings, strides = (per_axis("unfold", k, v, 2) for k, v in given.items())
    counts = _block_counts("unfold", x.shape[2:], kernel, dilations, paddings, strides)
    x = volta.pad_interior(x, 0, (0, 0, *paddings), (0, 0, *paddings))
    for axis, (k, d, s, count) in enumerate(zip(kernel, dilations, strides, counts, strict=True)):
        at = 2 + 2 * axis  # (N, C, KH, blocks along H, W) after the first axis
        taps = [volta.slice_in_dim(x, t * d, t * d + (count - 1) * s + 1, s, at) for t in range(k)]
        x = volta.stack(taps, at)
    x = x.transpose((0, 1, 2, 4, 3, 5)).reshape(x.shape[0], x.shape[1] * math.prod(kernel), math.prod(counts))
    return x if is_batched else x.squeeze(0)


def fold(
    input: Any,
    output_size: Extents,
    kernel_size: Extents,
    dilation: Extents = 1,
    padding: Extents = 0,
    stride: Extents = 1,
) -> Tensor:
    """Adds the blocks that :func:`unfold` makes up to an image; where they overlap, elements are summed.

    Args:
        input: ``(N, C * KH * KW, blocks)`` or without N.
        output_size: the extents H and W of the result.
        kernel_size, dilation, padding, stride: as for :func:`unfold`.

    Returns:
        ``(N, C, H, W)`` or without N.

    Raises:
        ShapeError: the input does not have the shape that :func:`unfold` makes of such an image.

    >>> fold(Tensor([[1.0, 2.0], [2.0, 3.0]]), (1, 3), (1, 2)).tolist()
    [[[1.0, 4.0, 3.0]]]
    """
    x, is_batched = with_batch("fold", as_tensor(input), 1)
    given = {
        "output_size": output_size,
        "kernel_size": kernel_size,
        "dilation": dilation,
        "padding": padding,
        "stride": stride,
    }
    size, kernel, dilations, paddings, strides = (per_axis("fold", k, v, 2) for k, v in given.items())
    counts = _block_counts("fold", size, kernel, dilations, paddings, strides)
    batch, rows, blocks = x.shape
    if rows % math.prod(kernel) or blocks != math.prod(counts):
        raise ShapeError(
            f"fold: expected an input of shape (N, C * {math.prod(kernel)}, {math.prod(counts)}) for blocks of {kernel}"
            f" in {size} with dilation {dilations}, padding {paddings} and stride {strides}, got {x.spec}"
        )
    x = x.reshape(batch, rows // math.prod(kernel), *kernel, *counts).transpose((0, 1, 2, 4, 3, 5))
    for axis in (1, 0):
        at = 2 + 2 * axis
        x = _summed_taps(x, at, size[axis], kernel[axis], dilations[axis], paddings[axis], strides[axis], counts[axis])
    return x if is_batched else x.squeeze(0)


def _summed_taps(
    x: Tensor, axis: int, extent: int, kernel: int, dilation: int, padding: int, stride: int, count: int
) -> Tensor:
    """An axis of ``extent`` elements instead of one over the kernel, at ``axis``, and one over its places, after it."""
    total = None
    for tap, part in enumerate(volta.split(x, kernel, axis)):
        low, high, interior = ([0] * x.ndim for _ in range(3))
        low[axis + 1] = tap * dilation - padding
        high[axis + 1] = extent - low[axis + 1] - ((count - 1) * stride + 1)
        interior[axis + 1] = stride - 1
        part = volta.pad_interior(part, 0, low, high, interior)
        total = part if total is None else total + part
    assert total is not None
    return total.squeeze(axis)
