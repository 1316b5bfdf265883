"""Normalisation as layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

import volta_mlir as volta
from volta_mlir.dtypes import DEFAULT_FLOAT
from volta_mlir.errors import OptionError, ShapeError
from volta_mlir.functions.common import as_tensor, shape_tuple
from volta_mlir.nn import functional, init
from volta_mlir.nn.functional.arguments import compute_dtype
from volta_mlir.nn.layers.common import shown
from volta_mlir.nn.module import Buffer, Module, Parameter
from volta_mlir.tensor import Tensor

__all__ = [
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "GroupNorm",
    "InstanceNorm1d",
    "InstanceNorm2d",
    "InstanceNorm3d",
    "LayerNorm",
    "LocalResponseNorm",
    "RMSNorm",
]


class _Running(Module):
    """Normalisation by channel, with running statistics."""

    ranks: ClassVar[tuple[int, ...]]
    weight: Tensor | None
    bias: Tensor | None
    running_mean: Any
    running_var: Any
    num_batches_tracked: Any

    def __init__(
        self,
        num_features: int,
        eps: float,
        momentum: float | None,
        affine: bool,
        track_running_stats: bool,
        dtype: Any,
        bias: bool,
    ) -> None:
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.affine, self.track_running_stats = affine, track_running_stats
        self.weight = Parameter(init.ones(num_features, dtype)) if affine else None
        self.bias = Parameter(init.zeros(num_features, dtype)) if affine and bias else None
        if track_running_stats:
            self.running_mean = Buffer(init.zeros(num_features, dtype))
            self.running_var = Buffer(init.ones(num_features, dtype))
            self.num_batches_tracked = Buffer(np.zeros((), np.int32))
        else:
            self.running_mean = self.running_var = self.num_batches_tracked = None

    def reset_running_stats(self) -> None:
        """Sets the running statistics to those from before the first batch."""
        if self.track_running_stats:
            self.running_mean = volta.zeros_like(self.running_mean)
            self.running_var = volta.ones_like(self.running_var)
            self.num_batches_tracked = 0

    def _checked(self, input: Any) -> Tensor:
        x = as_tensor(input)
        if x.ndim not in self.ranks:
            expected = " or ".join(f"{rank}D" for rank in self.ranks)
            raise ShapeError(f"{type(self).__name__}: expected {expected} input, got {x.ndim}D: {x.spec}")
        return x

    def extra_repr(self) -> str:
        bias = f"bias={self.bias is not None}"
        tracks = shown(self, "track_running_stats")
        return f"{self.num_features}, {shown(self, 'eps', 'momentum', 'affine')}, {bias}, {tracks}"


class _BatchNorm(_Running):
    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        dtype: Any = DEFAULT_FLOAT,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, dtype, bias)

    def forward(self, input: Any) -> Tensor:
        x = self._checked(input)
        mean, variance, weight, bias = self.running_mean, self.running_var, self.weight, self.bias
        if not (self.training and self.track_running_stats):
            use_batch = self.training or not self.track_running_stats
            return functional.batch_norm(x, mean, variance, weight, bias, use_batch, eps=self.eps)
        self.num_batches_tracked = self.num_batches_tracked + 1
        momentum: Any = self.momentum
        if momentum is None:  # every batch counts the same
            momentum = 1 / self.num_batches_tracked.astype(compute_dtype(mean))
        y, self.running_mean, self.running_var = functional.batch_norm_with_stats(
            x, mean, variance, weight, bias, momentum, self.eps
        )
        return y


class BatchNorm1d(_BatchNorm):
    """:func:`functional.batch_norm <volta_mlir.nn.functional.batch_norm>` of ``[N, C]`` or ``[N, C, L]``.

    In training it normalises with the mean and the variance of its input, and moves the running ones towards them; in
    evaluation it normalises with the running ones.

    Args:
        num_features: the number ``C`` of channels.
        eps: is added to the variance.
        momentum: share of a batch's statistics in the new running ones; None gives every batch so far the same share.
        affine: whether there are weight and bias.
        track_running_stats: whether there are running statistics; without, evaluation is like training.
        dtype: of parameters and statistics.
        bias: whether there is a bias, with ``affine``.

    Attributes:
        weight: ``[C]``, at first ones, or None.
        bias: ``[C]``, at first zeros, or None.
        running_mean: ``[C]``, at first zeros; a buffer, or None.
        running_var: ``[C]``, at first ones; a buffer, or None.
        num_batches_tracked: how many batches the statistics come from; a buffer, or None.

    Raises:
        ShapeError: the input has another rank or number of channels, or one value for each channel in training.

    Source: Ioffe and Szegedy, "Batch Normalization" (2015).

    Example:
        >>> layer = BatchNorm1d(1)
        >>> layer(Tensor([[1.0], [3.0]])).numpy().round(3).tolist()
        [[-1.0], [1.0]]
        >>> layer.running_mean.numpy().round(3), layer.num_batches_tracked.item()
        (array([0.2], dtype=float32), 1)
    """

    ranks = (2, 3)


class BatchNorm2d(_BatchNorm):
    """:class:`BatchNorm1d` for ``[N, C, H, W]``.

    Example:
        >>> BatchNorm2d(3)(volta.ones((2, 3, 4, 4))).shape
        (2, 3, 4, 4)
    """

    ranks = (4,)


class BatchNorm3d(_BatchNorm):
    """:class:`BatchNorm1d` for ``[N, C, D, H, W]``.

    Example:
        >>> BatchNorm3d(3)(volta.ones((2, 3, 4, 4, 4))).shape
        (2, 3, 4, 4, 4)
    """

    ranks = (5,)


class _InstanceNorm(_Running):
    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        dtype: Any = DEFAULT_FLOAT,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, dtype, bias)

    def forward(self, input: Any) -> Tensor:
        x = self._checked(input)
        unbatched = x.ndim == self.ranks[0]
        if unbatched:
            x = volta.expand_dims(x, 0)
        mean, variance, weight, bias = self.running_mean, self.running_var, self.weight, self.bias
        if self.training and self.track_running_stats:
            y, self.running_mean, self.running_var = functional.instance_norm_with_stats(
                x, mean, variance, weight, bias, self.momentum, self.eps
            )
        else:
            use_input = self.training or not self.track_running_stats
            y = functional.instance_norm(x, mean, variance, weight, bias, use_input, eps=self.eps)
        return y[0] if unbatched else y


class InstanceNorm1d(_InstanceNorm):
    """:func:`functional.instance_norm <volta_mlir.nn.functional.instance_norm>` of ``[N, C, L]`` or ``[C, L]``.

    Args:
        num_features: the number ``C`` of channels.
        eps: is added to the variance.
        momentum: share of a batch's statistics in the new running ones.
        affine: whether there are weight and bias.
        track_running_stats: whether there are running statistics, which are used in evaluation.
        dtype: of parameters and statistics.
        bias: whether there is a bias, with ``affine``.

    Attributes:
        weight: ``[C]``, at first ones, or None.
        bias: ``[C]``, at first zeros, or None.
        running_mean: ``[C]``, at first zeros; a buffer, or None.
        running_var: ``[C]``, at first ones; a buffer, or None.
        num_batches_tracked: is there because PyTorch has it, and stays 0; a buffer, or None.

    Raises:
        ShapeError: the input has another rank or number of channels, or images with one value for each channel.

    Source: Ulyanov et al., "Instance Normalization" (2016).

    Example:
        >>> InstanceNorm1d(1)(Tensor([[1.0, 3.0]])).numpy().round(3).tolist()
        [[-1.0, 1.0]]
    """

    ranks = (2, 3)


class InstanceNorm2d(_InstanceNorm):
    """:class:`InstanceNorm1d` for ``[N, C, H, W]`` or ``[C, H, W]``.

    Example:
        >>> InstanceNorm2d(3)(volta.ones((2, 3, 4, 4))).shape
        (2, 3, 4, 4)
    """

    ranks = (3, 4)


class InstanceNorm3d(_InstanceNorm):
    """:class:`InstanceNorm1d` for ``[N, C, D, H, W]`` or ``[C, D, H, W]``.

    Example:
        >>> InstanceNorm3d(3)(volta.ones((2, 3, 4, 4, 4))).shape
        (2, 3, 4, 4, 4)
    """

    ranks = (4, 5)


class LayerNorm(Module):
    """:func:`functional.layer_norm <volta_mlir.nn.functional.layer_norm>` as a layer.

    Args:
        normalized_shape: the extents of the last axes, over which to normalise; an int stands for one axis.
        eps: is added to the variance.
        elementwise_affine: whether there are weight and bias.
        bias: whether there is a bias, with ``elementwise_affine``.
        dtype: of the parameters.

    Attributes:
        weight: of ``normalized_shape``, at first ones, or None.
        bias: of ``normalized_shape``, at first zeros, or None.

    Example:
        >>> LayerNorm(2)(Tensor([1.0, 3.0])).numpy().round(3).tolist()
        [-1.0, 1.0]
    """

    weight: Tensor | None
    bias: Tensor | None

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        dtype: Any = DEFAULT_FLOAT,
    ) -> None:
        self.normalized_shape = shape_tuple(normalized_shape)
        self.eps, self.elementwise_affine = eps, elementwise_affine
        self.weight = Parameter(init.ones(self.normalized_shape, dtype)) if elementwise_affine else None
        self.bias = Parameter(init.zeros(self.normalized_shape, dtype)) if elementwise_affine and bias else None

    def forward(self, input: Any) -> Tensor:
        return functional.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        bias = f"bias={self.bias is not None}"
        return f"{self.normalized_shape}, {shown(self, 'eps', 'elementwise_affine')}, {bias}"


class RMSNorm(Module):
    """:func:`functional.rms_norm <volta_mlir.nn.functional.rms_norm>` as a layer.

    Args:
        normalized_shape: the extents of the last axes, over which to normalise; an int stands for one axis.
        eps: is added to the mean of squares; None for the dtype's resolution.
        elementwise_affine: whether there is a weight.
        dtype: of the weight.

    Attributes:
        weight: of ``normalized_shape``, at first ones, or None.

    Example:
        >>> RMSNorm(2)(Tensor([3.0, 3.0])).numpy().round(3).tolist()
        [1.0, 1.0]
    """

    weight: Tensor | None

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
        dtype: Any = DEFAULT_FLOAT,
    ) -> None:
        self.normalized_shape = shape_tuple(normalized_shape)
        self.eps, self.elementwise_affine = eps, elementwise_affine
        self.weight = Parameter(init.ones(self.normalized_shape, dtype)) if elementwise_affine else None

    def forward(self, input: Any) -> Tensor:
        return functional.rms_norm(input, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, {shown(self, 'eps', 'elementwise_affine')}"


class GroupNorm(Module):
    """:func:`functional.group_norm <volta_mlir.nn.functional.group_norm>` as a layer.

    Args:
        num_groups: how many groups of neighbours the channels are divided into.
        num_channels: how many channels there are.
        eps: is added to the variance.
        affine: whether there are weight and bias.
        dtype: of the parameters.
        bias: whether there is a bias, with ``affine``.

    Attributes:
        weight: ``[num_channels]``, at first ones, or None.
        bias: ``[num_channels]``, at first zeros, or None.

    Raises:
        ValueError: ``num_groups`` does not divide ``num_channels``.

    Example:
        >>> GroupNorm(1, 2)(Tensor([[1.0, 3.0]])).numpy().round(3).tolist()
        [[-1.0, 1.0]]
    """

    weight: Tensor | None
    bias: Tensor | None

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        dtype: Any = DEFAULT_FLOAT,
        *,
        bias: bool = True,
    ) -> None:
        if num_channels % num_groups:
            raise OptionError(f"num_channels ({num_channels}) must be divisible by num_groups ({num_groups})")
        self.num_groups, self.num_channels, self.eps, self.affine = num_groups, num_channels, eps, affine
        self.weight = Parameter(init.ones(num_channels, dtype)) if affine else None
        self.bias = Parameter(init.zeros(num_channels, dtype)) if affine and bias else None

    def forward(self, input: Any) -> Tensor:
        return functional.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.num_groups}, {self.num_channels}, {shown(self, 'eps', 'affine')}, bias={self.bias is not None}"


class LocalResponseNorm(Module):
    """:func:`functional.local_response_norm <volta_mlir.nn.functional.local_response_norm>` as a layer.

    Example:
        >>> LocalResponseNorm(2)(volta.ones((1, 3, 4))).shape
        (1, 3, 4)
    """

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> None:
        self.size, self.alpha, self.beta, self.k = size, alpha, beta, k

    def forward(self, input: Any) -> Tensor:
        return functional.local_response_norm(input, self.size, self.alpha, self.beta, self.k)

    def extra_repr(self) -> str:
        return f"{self.size}, {shown(self, 'alpha', 'beta', 'k')}"
