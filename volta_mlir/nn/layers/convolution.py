"""Convolutions and their transposes as layers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from volta_mlir.dtypes import DEFAULT_FLOAT
from volta_mlir.errors import OptionError, ShapeError
from volta_mlir.functions.common import as_tensor
from volta_mlir.functions.convolution import Extents
from volta_mlir.nn import functional, init
from volta_mlir.nn.layers.common import repeated, shown
from volta_mlir.nn.module import Module, Parameter
from volta_mlir.tensor import Tensor

__all__ = ["Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d"]

# Names of padding modes as functional.pad has them.
_PADDING_MODES = {"zeros": "constant", "reflect": "reflect", "replicate": "replicate", "circular": "circular"}


class _AnyConv(Module):
    axes: ClassVar[int]
    padding: Any  # a tuple, or "same" or "valid"
    output_padding: tuple[int, ...]
    weight: Tensor
    bias: Tensor | None

    def _set_up(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Extents,
        stride: Extents,
        dilation: Extents,
        groups: int,
        padding_mode: str,
    ) -> None:
        name = type(self).__name__
        if groups <= 0:
            raise OptionError(f"{name}: groups must be a positive integer, got {groups}")
        for what, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
            if channels % groups:
                raise OptionError(f"{name}: {what} must be divisible by groups, got {channels} and {groups}")
        if padding_mode not in _PADDING_MODES:
            raise OptionError(f"{name}: padding_mode must be one of {list(_PADDING_MODES)}, got {padding_mode!r}")
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.padding_mode = padding_mode
        self.kernel_size, self.stride, self.dilation = (
            self._extents(what, value)
            for what, value in (("kernel_size", kernel_size), ("stride", stride), ("dilation", dilation))
        )
        self.output_padding = (0,) * self.axes

    def _extents(self, what: str, value: Extents) -> tuple[int, ...]:
        extents = repeated(value, self.axes)
        if len(extents) != self.axes:
            raise OptionError(f"{type(self).__name__}: {what} is a number or {self.axes} numbers, got {value}")
        return extents

    def _initialise(self, shape: tuple[int, ...], bias: bool, dtype: Any) -> None:
        self.weight = Parameter(init.kaiming_uniform(shape, math.sqrt(5), dtype=dtype))
        fan_in = init.fan_in_and_fan_out(shape)[0]
        bound = 1 / math.sqrt(fan_in) if fan_in else 0.0
        self.bias = Parameter(init.uniform(self.out_channels, -bound, bound, dtype)) if bias else None

    def extra_repr(self) -> str:
        text = f"{self.in_channels}, {self.out_channels}, {shown(self, 'kernel_size', 'stride')}"
        zeros, ones = (0,) * self.axes, (1,) * self.axes
        defaults = {"padding": zeros, "dilation": ones, "output_padding": zeros, "groups": 1}
        for name, default in defaults.items():
            if getattr(self, name) != default:
                text += f", {shown(self, name)}"
        if self.bias is None:
            text += ", bias=False"
        return text if self.padding_mode == "zeros" else f"{text}, {shown(self, 'padding_mode')}"


class _Conv(_AnyConv):
    _function: ClassVar[Callable[..., Tensor]]

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Extents,
        stride: Extents = 1,
        padding: Extents | str = 0,
        dilation: Extents = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        dtype: Any = DEFAULT_FLOAT,
    ) -> None:
        self._set_up(in_channels, out_channels, kernel_size, stride, dilation, groups, padding_mode)
        if isinstance(padding, str):
            if padding not in ("same", "valid"):
                raise OptionError(f"{type(self).__name__}: padding is 'same', 'valid' or numbers, got {padding!r}")
            if padding == "same" and any(s != 1 for s in self.stride):
                raise OptionError("padding='same' is not supported for strided convolutions")
            self.padding = padding
        else:
            self.padding = self._extents("padding", padding)
        self._initialise((out_channels, in_channels // groups, *self.kernel_size), bias, dtype)

    def forward(self, input: Any) -> Tensor:
        padding = self.padding
        if self.padding_mode != "zeros":
            input, padding = functional.pad(input, self._sides(), _PADDING_MODES[self.padding_mode]), 0
        function = type(self)._function
        return function(input, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)

    def _sides(self) -> list[int]:
        """What to pad on both sides of every axis, last axis first."""
        if self.padding == "valid":
            pairs = [(0, 0)] * self.axes
        elif self.padding == "same":
            totals = [d * (k - 1) for d, k in zip(self.dilation, self.kernel_size, strict=True)]
            pairs = [(total // 2, total - total // 2) for total in totals]
        else:
            pairs = [(p, p) for p in self.padding]
        return [side for pair in reversed(pairs) for side in pair]


class Conv1d(_Conv):
    """:func:`functional.conv1d <volta_mlir.nn.functional.conv1d>` of ``[N, C, L]`` or ``[C, L]``.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the result.
        kernel_size: extents of the kernel, one number for each axis or one for all, as for those that follow.
        stride: step between places of the kernel.
        padding: elements added on both sides; ``"same"`` for a result of the input's extent, ``"valid"`` for none.
        dilation: step between the elements that the kernel is applied to.
        groups: how many groups of channels are kept apart.
        bias: whether there is a bias.
        padding_mode: ``"zeros"``, ``"reflect"``, ``"replicate"`` or ``"circular"``.
        dtype: of the parameters.

    Attributes:
        weight: ``[out_channels, in_channels / groups, *kernel_size]``, at first uniform within ±1/√fan_in, where
            fan_in is the product of all extents but the first.
        bias: ``[out_channels]``, at first from the same distribution, or None.

    Raises:
        ValueError: arguments that do not go together.

    Example:
        >>> Conv1d(1, 2, 3, padding="same")(Tensor([[[1.0, 2.0, 3.0, 4.0]]])).shape
        (1, 2, 4)
    """

    axes = 1
    _function = staticmethod(functional.conv1d)


class Conv2d(_Conv):
    """:class:`Conv1d` for ``[N, C, H, W]`` or ``[C, H, W]``.

    Example:
        >>> import volta_mlir as volta
        >>> Conv2d(3, 8, 3, stride=2, padding=1)(volta.ones((1, 3, 8, 8))).shape
        (1, 8, 4, 4)
    """

    axes = 2
    _function = staticmethod(functional.conv2d)


class Conv3d(_Conv):
    """:class:`Conv1d` for ``[N, C, D, H, W]`` or ``[C, D, H, W]``.

    Example:
        >>> import volta_mlir as volta
        >>> Conv3d(1, 2, (1, 2, 3))(volta.ones((1, 1, 4, 4, 4))).shape
        (1, 2, 4, 3, 2)
    """

    axes = 3
    _function = staticmethod(functional.conv3d)


class _ConvTranspose(_AnyConv):
    _function: ClassVar[Callable[..., Tensor]]

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Extents,
        stride: Extents = 1,
        padding: Extents = 0,
        output_padding: Extents = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Extents = 1,
        padding_mode: str = "zeros",
        dtype: Any = DEFAULT_FLOAT,
    ) -> None:
        self._set_up(in_channels, out_channels, kernel_size, stride, dilation, groups, padding_mode)
        if padding_mode != "zeros":
            raise OptionError(f"Only 'zeros' padding mode is supported for {type(self).__name__}, got {padding_mode!r}")
        self.padding = self._extents("padding", padding)
        self.output_padding = self._extents("output_padding", output_padding)
        self._initialise((in_channels, out_channels // groups, *self.kernel_size), bias, dtype)

    def forward(self, input: Any, output_size: Sequence[int] | None = None) -> Tensor:
        padding = self.output_padding if output_size is None else self._padding_for(as_tensor(input), output_size)
        function = type(self)._function
        return function(input, self.weight, self.bias, self.stride, self.padding, padding, self.groups, self.dilation)

    def _padding_for(self, input: Tensor, output_size: Sequence[int]) -> tuple[int, ...]:
        """The output padding that makes a result of these extents, of the spatial axes or of all."""
        wanted = tuple(output_size)
        if len(wanted) == input.ndim:
            wanted = wanted[-self.axes :]
        spatial = input.shape[-self.axes :]
        if len(wanted) != self.axes or input.ndim < self.axes:
            raise ShapeError(
                f"{type(self).__name__}: output_size must have {self.axes} or {input.ndim} elements, got {len(wanted)}"
            )
        smallest = [
            (extent - 1) * stride - 2 * padding + dilation * (kernel - 1) + 1
            for extent, stride, padding, dilation, kernel in zip(
                spatial, self.stride, self.padding, self.dilation, self.kernel_size, strict=True
            )
        ]
        largest = [low + stride - 1 for low, stride in zip(smallest, self.stride, strict=True)]
        if not all(low <= size <= high for low, size, high in zip(smallest, wanted, largest, strict=True)):
            raise ShapeError(
                f"requested an output size of {wanted}, but valid sizes range from {smallest} to {largest} for an input"
                f" {input.spec}"
            )
        return tuple(size - low for size, low in zip(wanted, smallest, strict=True))


class ConvTranspose1d(_ConvTranspose):
    """:func:`functional.conv_transpose1d` of ``[N, C, L]`` or ``[C, L]``: what takes :class:`Conv1d`'s shapes back.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the result.
        kernel_size: extents of the kernel, one number for each axis or one for all, as for those that follow.
        stride: step between the places in the result where the kernel is added.
        padding: elements of the result that are left out on both sides.
        output_padding: elements that are added to one side of the result.
        groups: how many groups of channels are kept apart.
        bias: whether there is a bias.
        dilation: step between the elements that the kernel is added to.
        padding_mode: ``"zeros"``.
        dtype: of the parameters.

    Attributes:
        weight: ``[in_channels, out_channels / groups, *kernel_size]``, at first uniform within ±1/√fan_in, where
            fan_in is the product of all extents but the first.
        bias: ``[out_channels]``, at first from the same distribution, or None.

    Calling it takes the input, and optionally ``output_size``, which chooses ``output_padding``.

    Raises:
        ValueError: arguments that do not go together.
        ShapeError: no output padding gives this ``output_size``.

    Example:
        >>> up = ConvTranspose1d(1, 1, 3, stride=2)
        >>> up(Tensor([[[1.0, 2.0]]])).shape, up(Tensor([[[1.0, 2.0]]]), output_size=[6]).shape
        ((1, 1, 5), (1, 1, 6))
    """

    axes = 1
    _function = staticmethod(functional.conv_transpose1d)


class ConvTranspose2d(_ConvTranspose):
    """:class:`ConvTranspose1d` for ``[N, C, H, W]`` or ``[C, H, W]``.

    Example:
        >>> import volta_mlir as volta
        >>> ConvTranspose2d(8, 3, 2, stride=2)(volta.ones((1, 8, 4, 4))).shape
        (1, 3, 8, 8)
    """

    axes = 2
    _function = staticmethod(functional.conv_transpose2d)


class ConvTranspose3d(_ConvTranspose):
    """:class:`ConvTranspose1d` for ``[N, C, D, H, W]`` or ``[C, D, H, W]``.

    Example:
        >>> import volta_mlir as volta
        >>> ConvTranspose3d(2, 1, 2)(volta.ones((1, 2, 3, 3, 3))).shape
        (1, 1, 4, 4, 4)
    """

    axes = 3
    _function = staticmethod(functional.conv_transpose3d)
