"""Normalisation by mean and variance.

Half precision is computed in float32. The input may be of a lower precision than weights and statistics; the result
has the input's dtype.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

import volta_mlir as volta
from volta_mlir.errors import ShapeError
from volta_mlir.functions.common import as_tensor, axes_tuple, shape_tuple
from volta_mlir.nn.functional.arguments import check_shape, compute_dtype, float_tensor, optional
from volta_mlir.tensor import Tensor

__all__ = [
    "batch_norm",
    "batch_norm_with_stats",
    "group_norm",
    "instance_norm",
    "instance_norm_with_stats",
    "layer_norm",
    "local_response_norm",
    "rms_norm",
]


# -- by the statistics of the input --------------------------------------------------------------------------------


class _Moments:
    """Mean and variance of ``x`` along ``axes`` (kept, of extent 1), and ``x`` less its mean.

    The variance is of the differences from the mean, which does not cancel as ``mean(x²) - mean(x)²`` does. The mean
    that is subtracted counts as a constant in derivatives. ``residue``, the mean less that constant, is zero, but has
    the mean's derivative; formulas in which it appears have right derivatives of every order. Where it does, the
    gradient needs the sums of what comes in and of what comes in times ``centered``, and no sum that depends on these.
    """

    def __init__(self, x: Tensor, axes: Sequence[int]) -> None:
        self.count = math.prod(x.shape[a] for a in axes)
        self.mean = x.mean(axes, keepdims=True)
        fixed = volta.stop_gradient(self.mean)
        self.centered = x - fixed
        self.residue = self.mean - fixed
        self.variance = volta.square(self.centered).mean(axes, keepdims=True) - volta.square(self.residue)

    def factors(self, eps: float) -> tuple[Tensor, Tensor]:
        """``scale`` and ``shift``, of the shape of the mean; ``centered * scale + shift`` is normalised."""
        scale = volta.rsqrt(self.variance + eps)
        return scale, -self.residue * scale


def _with_affine(
    scale: Tensor, shift: Tensor, weight: Tensor | None, bias: Tensor | None, shape: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """The factors of ``(x * scale + shift) * weight + bias``, with weight and bias reshaped to ``shape``."""
    if weight is not None:
        weight = weight.reshape(shape)
        scale, shift = scale * weight, shift * weight
    return scale, shift if bias is None else shift + bias.reshape(shape)


def _check_channels(what: str, x: Tensor, **per_channel: Any) -> None:
    if x.ndim < 2:
        raise ShapeError(f"{what}: expected an input of shape (N, C, …), got {x.spec}")
    for name, value in per_channel.items():
        check_shape(what, name, value, x.shape[1:2])


def _normalized_by_channel(
    what: str, x: Tensor, axes: Sequence[int], weight: Any, bias: Any, eps: float
) -> tuple[Tensor, _Moments]:
    """``x`` normalised along ``axes``, which are not its channels, with weight and bias per channel; its moments."""
    _check_channels(what, x, weight=weight, bias=bias)
    if math.prod(x.shape[a] for a in axes) == 1:
        raise ShapeError(f"{what}: expected more than 1 value per channel when training, got {x.spec}")
    dtype = compute_dtype(x, weight, bias)
    moments = _Moments(as_tensor(x, dtype), axes)
    shape = (1, x.shape[1]) + (1,) * (x.ndim - 2)
    scale, shift = _with_affine(*moments.factors(eps), optional(weight, dtype), optional(bias, dtype), shape)
    return as_tensor(moments.centered * scale + shift, x.dtype), moments


def _normalized_by_running(
    what: str, x: Tensor, running_mean: Any, running_var: Any, weight: Any, bias: Any, eps: float
) -> Tensor:
    """``x`` normalised with the given mean and variance per channel."""
    if running_mean is None or running_var is None:
        raise ShapeError(f"{what}: expected running_mean and running_var, without which only training is possible")
    _check_channels(what, x, running_mean=running_mean, running_var=running_var, weight=weight, bias=bias)
    dtype = compute_dtype(x, running_mean, running_var, weight, bias)
    shape = (1, x.shape[1]) + (1,) * (x.ndim - 2)
    mean, variance = (as_tensor(s, dtype).reshape(shape) for s in (running_mean, running_var))
    scale = volta.rsqrt(variance + eps)
    if weight is not None:
        scale = scale * as_tensor(weight, dtype).reshape(shape)
    out = (as_tensor(x, dtype) - mean) * scale
    return as_tensor(out if bias is None else out + as_tensor(bias, dtype).reshape(shape), x.dtype)


def _running(
    what: str, x: Tensor, moments: _Moments, running_mean: Any, running_var: Any, momentum: Any
) -> tuple[Tensor, Tensor]:
    """The running statistics moved towards those of the input, averaged over all axes but the channels."""
    _check_channels(what, x, running_mean=running_mean, running_var=running_var)
    others = [a for a in range(x.ndim) if a != 1]
    unbiased = moments.variance * (moments.count / (moments.count - 1))
    new = []
    for old, of_batch in ((running_mean, moments.mean), (running_var, unbiased)):
        old = as_tensor(old)
        of_batch = volta.stop_gradient(as_tensor(of_batch.mean(others), compute_dtype(old)))
        new.append(as_tensor(old * (1 - momentum) + of_batch * momentum, old.dtype))
    return new[0], new[1]


def batch_norm(
    input: Any,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """``(input - mean) / sqrt(variance + eps) * weight + bias`` for each channel, over the batch and all positions.

    In training mean and variance are those of the input, else the running ones. These are not updated: see
    :func:`batch_norm_with_stats`.

    Args:
        input: ``(N, C, …)``, floating-point.
        running_mean, running_var: ``(C,)``; may be None in training.
        weight, bias: ``(C,)``, or None for 1 and 0.
        training: whether to use the statistics of the input.
        momentum: has no effect here; it is there because PyTorch has it.
        eps: added to the variance.

    Raises:
        ShapeError: the shapes do not fit, running statistics are missing, or there is one value per channel in
            training.
        DTypeError: the input is not of a floating-point dtype.

    Source: Ioffe and Szegedy, "Batch Normalization" (2015).

    >>> batch_norm(Tensor([[1.0], [3.0]]), None, None, training=True, eps=0.0).tolist()
    [[-1.0], [1.0]]
    """
    x = float_tensor("batch_norm", input)
    if not training:
        return _normalized_by_running("batch_norm", x, running_mean, running_var, weight, bias, eps)
    return _normalized_by_channel("batch_norm", x, [a for a in range(x.ndim) if a != 1], weight, bias, eps)[0]


def batch_norm_with_stats(
    input: Any,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    momentum: Any = 0.1,
    eps: float = 1e-5,
) -> tuple[Tensor, Tensor, Tensor]:
    """:func:`batch_norm` in training, with the running statistics that PyTorch would have written.

    Args:
        momentum: the share of the input's statistics in the new ones, a number or a tensor of rank 0.
        input, running_mean, running_var, weight, bias, eps: as for :func:`batch_norm`.

    Returns:
        The output, the new running mean, and the new running variance. The latter is moved towards the unbiased
        variance of the input. The new statistics have no derivative.

    >>> _, mean, variance = batch_norm_with_stats(Tensor([[1.0], [3.0]]), Tensor([0.0]), Tensor([1.0]), momentum=0.5)
    >>> mean.tolist(), variance.tolist()
    ([1.0], [1.5])
    """
    x = float_tensor("batch_norm", input)
    axes = [a for a in range(x.ndim) if a != 1]
    out, moments = _normalized_by_channel("batch_norm", x, axes, weight, bias, eps)
    if not moments.count:  # an empty batch leaves the statistics as they are
        return out, as_tensor(running_mean), as_tensor(running_var)
    return out, *_running("batch_norm", x, moments, running_mean, running_var, momentum)


def instance_norm(
    input: Any,
    running_mean: Any = None,
    running_var: Any = None,
    weight: Any = None,
    bias: Any = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """:func:`batch_norm` with the statistics of each image by itself.

    Args:
        input: ``(N, C, …)``, floating-point.
        running_mean, running_var: ``(C,)``; may be None with ``use_input_stats``. They are not updated: see
            :func:`instance_norm_with_stats`.
        weight, bias: ``(C,)``, or None for 1 and 0.
        use_input_stats: whether to normalise with the statistics of the input and not with the running ones.
        momentum: has no effect here; it is there because PyTorch has it.
        eps: added to the variance.

    Raises:
        ShapeError: the shapes do not fit, running statistics are missing, or each image has one value per channel.
        DTypeError: the input is not of a floating-point dtype.

    Source: Ulyanov et al., "Instance Normalization" (2016).

    >>> instance_norm(Tensor([[[1.0, 3.0]], [[5.0, 7.0]]]), eps=0.0).tolist()
    [[[-1.0, 1.0]], [[-1.0, 1.0]]]
    """
    x = float_tensor("instance_norm", input)
    if not use_input_stats:
        return _normalized_by_running("instance_norm", x, running_mean, running_var, weight, bias, eps)
    return _normalized_by_channel("instance_norm", x, range(2, x.ndim), weight, bias, eps)[0]


def instance_norm_with_stats(
    input: Any,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    momentum: Any = 0.1,
    eps: float = 1e-5,
) -> tuple[Tensor, Tensor, Tensor]:
    """:func:`instance_norm` by the input's statistics, with the running ones that PyTorch would have written.

    Args:
        momentum: the share of the input's statistics in the new ones, a number or a tensor of rank 0.
        input, running_mean, running_var, weight, bias, eps: as for :func:`instance_norm`.

    Returns:
        The output, the new running mean and the new running variance, which are moved towards the averages over the
        batch of the images' means and unbiased variances. The new statistics have no derivative.

    >>> x = Tensor([[[1.0, 3.0]], [[5.0, 7.0]]])
    >>> _, mean, variance = instance_norm_with_stats(x, Tensor([0.0]), Tensor([1.0]), momentum=0.5)
    >>> mean.tolist(), variance.tolist()
    ([2.0], [1.5])
    """
    x = float_tensor("instance_norm", input)
    out, moments = _normalized_by_channel("instance_norm", x, range(2, x.ndim), weight, bias, eps)
    return out, *_running("instance_norm", x, moments, running_mean, running_var, momentum)


def group_norm(input: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Tensor:
    """Normalises each image over groups of channels and all positions, then scales and shifts each channel.

    Args:
        input: ``(N, C, …)``, floating-point.
        num_groups: how many groups of neighbours the channels are divided into.
        weight, bias: ``(C,)``, or None for 1 and 0.
        eps: added to the variance.

    Raises:
        ShapeError: the shapes do not fit, or the groups do not divide the channels.
        DTypeError: the input is not of a floating-point dtype.

    Source: Wu and He, "Group Normalization" (2018).

    >>> group_norm(Tensor([[1.0, 3.0, 5.0, 9.0]]), 2, eps=0.0).tolist()
    [[-1.0, 1.0, -1.0, 1.0]]
    """
    x = float_tensor("group_norm", input)
    _check_channels("group_norm", x, weight=weight, bias=bias)
    batch, channels, *positions = x.shape
    if num_groups < 1 or channels % num_groups:
        raise ShapeError(
            f"group_norm: expected a number of channels that num_groups divides, got {x.spec} and {num_groups} groups"
        )
    dtype = compute_dtype(x, weight, bias)
    grouped = as_tensor(x, dtype).reshape(batch, num_groups, channels // num_groups, *positions)
    moments = _Moments(grouped, range(2, grouped.ndim))
    shape = (1, num_groups, channels // num_groups) + (1,) * len(positions)
    scale, shift = _with_affine(*moments.factors(eps), optional(weight, dtype), optional(bias, dtype), shape)
    return as_tensor((moments.centered * scale + shift).reshape(x.shape), x.dtype)


# -- by the last axes ----------------------------------------------------------------------------------------------


def _last_axes(what: str, x: Tensor, normalized_shape: int | Sequence[int], **parameters: Any) -> tuple[int, ...]:
    """The axes that ``normalized_shape`` is the shape of; checks it and the parameters, which have that shape."""
    shape = shape_tuple(normalized_shape)
    if not shape:
        raise ShapeError(f"{what}: expected a normalized_shape of at least one axis, got {shape}")
    for name, value in parameters.items():
        check_shape(what, name, value, shape)
    if x.shape[max(0, x.ndim - len(shape)) :] != shape:
        raise ShapeError(
            f"{what}: given normalized_shape={shape}, expected an input of shape (*, {', '.join(map(str, shape))}),"
            f" got {x.spec}"
        )
    return axes_tuple(range(-len(shape), 0), x.ndim)


def layer_norm(
    input: Any, normalized_shape: int | Sequence[int], weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Tensor:
    """``(input - mean) / sqrt(variance + eps) * weight + bias``, with mean and variance over the last axes.

    Args:
        input: ``(…, *normalized_shape)``, floating-point.
        normalized_shape: the extents of the axes to normalise over; an int stands for one axis.
        weight, bias: of ``normalized_shape``, or None for 1 and 0.
        eps: added to the variance.

    Raises:
        ShapeError: the shapes do not fit.
        DTypeError: the input is not of a floating-point dtype.

    Source: Ba et al., "Layer Normalization" (2016).

    >>> layer_norm(Tensor([[1.0, 3.0], [5.0, 9.0]]), 2, eps=0.0).tolist()
    [[-1.0, 1.0], [-1.0, 1.0]]
    """
    x = float_tensor("layer_norm", input)
    axes = _last_axes("layer_norm", x, normalized_shape, weight=weight, bias=bias)
    dtype = compute_dtype(x, weight, bias)
    moments = _Moments(as_tensor(x, dtype), axes)
    scale, shift = moments.factors(eps)
    out = moments.centered * scale + shift
    out = out if weight is None else out * as_tensor(weight, dtype)
    return as_tensor(out if bias is None else out + as_tensor(bias, dtype), x.dtype)


def rms_norm(input: Any, normalized_shape: int | Sequence[int], weight: Any = None, eps: float | None = None) -> Tensor:
    """``input / sqrt(mean(input²) + eps) * weight``, with the mean over the last axes.

    Args:
        input: ``(…, *normalized_shape)``, floating-point.
        normalized_shape: the extents of the axes to normalise over; an int stands for one axis.
        weight: of ``normalized_shape``, or None for 1.
        eps: added to the mean; default the distance from 1 to the next number in the dtype that is computed in.

    Raises:
        ShapeError: the shapes do not fit.
        DTypeError: the input is not of a floating-point dtype.

    Source: Zhang and Sennrich, "Root Mean Square Layer Normalization" (2019).

    >>> rms_norm(Tensor([3.0, -3.0]), 2, eps=0.0).tolist()
    [1.0, -1.0]
    """
    x = float_tensor("rms_norm", input)
    axes = _last_axes("rms_norm", x, normalized_shape, weight=weight)
    dtype = compute_dtype(x, weight)
    wide = as_tensor(x, dtype)
    eps = float(np.finfo(compute_dtype(x)).eps) if eps is None else eps
    out = wide * volta.rsqrt(volta.square(wide).mean(axes, keepdims=True) + eps)
    return as_tensor(out if weight is None else out * as_tensor(weight, dtype), x.dtype)


# -- by neighbouring channels --------------------------------------------------------------------------------------


def local_response_norm(input: Any, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Tensor:
    """``input / (k + alpha * mean of input²)^beta``, with the mean over ``size`` neighbouring channels.

    Neighbours that do not exist count as zeros.

    Args:
        input: ``(N, C, …)`` of rank 3 or more, floating-point.
        size: how many channels, of which the channel itself is the middle one, or the one after the middle.
        alpha, beta, k: numbers.

    Raises:
        ShapeError: the input has too few axes.
        DTypeError: the input is not of a floating-point dtype.

    Source: Krizhevsky et al., "ImageNet Classification with Deep Convolutional Neural Networks" (2012).

    >>> local_response_norm(Tensor([[[1.0], [1.0]]]), 2, alpha=2.0, beta=1.0, k=0.0).tolist()
    [[[1.0], [0.5]]]
    """
    x = float_tensor("local_response_norm", input)
    if x.ndim < 3:
        raise ShapeError(f"local_response_norm: expected an input of rank 3 or more, got {x.spec}")
    if not x.size:
        return x
    wide = as_tensor(x, compute_dtype(x))
    batch, channels, *_ = x.shape
    squares = volta.square(wide).reshape(batch, 1, channels, -1)
    means = volta.avg_pool(squares, (size, 1), 1, [(size // 2, (size - 1) // 2), (0, 0)]).reshape(x.shape)
    return as_tensor(wide / volta.power(means * alpha + k, beta), x.dtype)
