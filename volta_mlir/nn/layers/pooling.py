"""Pooling as layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from volta_mlir.errors import OptionError
from volta_mlir.functions.convolution import Extents
from volta_mlir.nn import functional
from volta_mlir.nn.functional.pooling import OutputSize
from volta_mlir.nn.layers.common import Drawing, repeated, shown
from volta_mlir.nn.module import Buffer, Module
from volta_mlir.tensor import Tensor

__all__ = [
    "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d",
    "AdaptiveAvgPool3d",
    "AdaptiveMaxPool1d",
    "AdaptiveMaxPool2d",
    "AdaptiveMaxPool3d",
    "AvgPool1d",
    "AvgPool2d",
    "AvgPool3d",
    "FractionalMaxPool2d",
    "FractionalMaxPool3d",
    "LPPool1d",
    "LPPool2d",
    "LPPool3d",
    "MaxPool1d",
    "MaxPool2d",
    "MaxPool3d",
    "MaxUnpool1d",
    "MaxUnpool2d",
    "MaxUnpool3d",
]


class _Pool(Module):
    _function: ClassVar[Callable[..., Any]]


# -- maxima ----------------------------------------------------------------------------------------------------------


class _MaxPool(_Pool):
    def __init__(
        self,
        kernel_size: Extents,
        stride: Extents | None = None,
        padding: Extents = 0,
        dilation: Extents = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        self.kernel_size, self.stride = kernel_size, kernel_size if stride is None else stride
        self.padding, self.dilation = padding, dilation
        self.return_indices, self.ceil_mode = return_indices, ceil_mode

    def forward(self, input: Any) -> Any:
        return type(self)._function(
            input, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode, self.return_indices
        )

    def extra_repr(self) -> str:
        return shown(self, "kernel_size", "stride", "padding", "dilation", "ceil_mode")


class MaxPool1d(_MaxPool):
    """:func:`functional.max_pool1d <volta_mlir.nn.functional.max_pool1d>` as a layer.

    Args:
        kernel_size: extents of the window, one number for each axis or one for all, as for those that follow.
        stride: step between windows; that of the window's extent by default.
        padding: places on both sides that count as -inf.
        dilation: step between the elements of a window.
        return_indices: whether the maxima's places are returned too, as :class:`MaxUnpool1d` takes them.
        ceil_mode: whether a window that only begins in the input counts.

    Example:
        >>> MaxPool1d(2)(Tensor([[1.0, 3.0, 2.0, 0.0]])).tolist()
        [[3.0, 2.0]]
    """

    _function = staticmethod(functional.max_pool1d)


class MaxPool2d(_MaxPool):
    """:class:`MaxPool1d` for images, ``[N, C, H, W]`` or ``[C, H, W]``.

    Example:
        >>> MaxPool2d(2)(Tensor([[[1.0, 3.0], [2.0, 0.0]]])).tolist()
        [[[3.0]]]
    """

    _function = staticmethod(functional.max_pool2d)


class MaxPool3d(_MaxPool):
    """:class:`MaxPool1d` for volumes, ``[N, C, D, H, W]`` or ``[C, D, H, W]``.

    Example:
        >>> MaxPool3d((1, 2, 2))(Tensor([[[[1.0, 3.0], [2.0, 0.0]]]])).tolist()
        [[[[3.0]]]]
    """

    _function = staticmethod(functional.max_pool3d)


class _MaxUnpool(_Pool):
    axes: ClassVar[int]

    def __init__(self, kernel_size: Extents, stride: Extents | None = None, padding: Extents = 0) -> None:
        self.kernel_size = repeated(kernel_size, self.axes)
        self.stride = repeated(kernel_size if stride is None else stride, self.axes)
        self.padding = repeated(padding, self.axes)

    def forward(self, input: Any, indices: Any, output_size: Sequence[int] | None = None) -> Tensor:
        return type(self)._function(input, indices, self.kernel_size, self.stride, self.padding, output_size)

    def extra_repr(self) -> str:
        return shown(self, "kernel_size", "stride", "padding")


class MaxUnpool1d(_MaxUnpool):
    """:func:`functional.max_unpool1d <volta_mlir.nn.functional.max_unpool1d>` as a layer: maxima back in their places.

    Args:
        kernel_size: of the :class:`MaxPool1d` that returned the indices.
        stride: of it.
        padding: of it.

    Calling it takes maxima, their indices, and optionally ``output_size``, the extents of the input of old.

    Example:
        >>> maxima, indices = MaxPool1d(2, return_indices=True)(Tensor([[1.0, 3.0, 2.0, 0.0]]))
        >>> MaxUnpool1d(2)(maxima, indices).tolist()
        [[0.0, 3.0, 2.0, 0.0]]
    """

    axes = 1
    _function = staticmethod(functional.max_unpool1d)


class MaxUnpool2d(_MaxUnpool):
    """:class:`MaxUnpool1d` for images.

    Example:
        >>> MaxUnpool2d(2)(Tensor([[[3.0]]]), Tensor([[[1]]])).tolist()
        [[[0.0, 3.0], [0.0, 0.0]]]
    """

    axes = 2
    _function = staticmethod(functional.max_unpool2d)


class MaxUnpool3d(_MaxUnpool):
    """:class:`MaxUnpool1d` for volumes.

    Example:
        >>> MaxUnpool3d((1, 2, 2))(Tensor([[[[3.0]]]]), Tensor([[[[1]]]])).tolist()
        [[[[0.0, 3.0], [0.0, 0.0]]]]
    """

    axes = 3
    _function = staticmethod(functional.max_unpool3d)


# -- means -----------------------------------------------------------------------------------------------------------


class AvgPool1d(Module):
    """:func:`functional.avg_pool1d <volta_mlir.nn.functional.avg_pool1d>` as a layer.

    Args:
        kernel_size: extents of the window, one number for each axis or one for all, as for those that follow.
        stride: step between windows; that of the window's extent by default.
        padding: zeros on both sides.
        ceil_mode: whether a window that only begins in the input counts.
        count_include_pad: whether padding counts in the number to divide by.

    Example:
        >>> AvgPool1d(2)(Tensor([[1.0, 3.0, 2.0, 0.0]])).tolist()
        [[2.0, 1.0]]
    """

    def __init__(
        self,
        kernel_size: Extents,
        stride: Extents | None = None,
        padding: Extents = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        self.kernel_size = repeated(kernel_size, 1)
        self.stride = repeated(kernel_size if stride is None else stride, 1)
        self.padding = repeated(padding, 1)
        self.ceil_mode, self.count_include_pad = ceil_mode, count_include_pad

    def forward(self, input: Any) -> Tensor:
        return functional.avg_pool1d(
            input, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad
        )

    def extra_repr(self) -> str:
        return shown(self, "kernel_size", "stride", "padding")


class _AvgPool(_Pool):
    def __init__(
        self,
        kernel_size: Extents,
        stride: Extents | None = None,
        padding: Extents = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        self.kernel_size, self.stride = kernel_size, kernel_size if stride is None else stride
        self.padding, self.ceil_mode = padding, ceil_mode
        self.count_include_pad, self.divisor_override = count_include_pad, divisor_override

    def forward(self, input: Any) -> Tensor:
        return type(self)._function(
            input,
            self.kernel_size,
            self.stride,
            self.padding,
            self.ceil_mode,
            self.count_include_pad,
            self.divisor_override,
        )

    def extra_repr(self) -> str:
        return shown(self, "kernel_size", "stride", "padding")


class AvgPool2d(_AvgPool):
    """:class:`AvgPool1d` for images, ``[N, C, H, W]`` or ``[C, H, W]``; ``divisor_override`` is what to divide by.

    Example:
        >>> AvgPool2d(2)(Tensor([[[1.0, 3.0], [2.0, 0.0]]])).tolist()
        [[[1.5]]]
    """

    _function = staticmethod(functional.avg_pool2d)


class AvgPool3d(_AvgPool):
    """:class:`AvgPool1d` for volumes; ``divisor_override`` is what to divide by.

    Example:
        >>> AvgPool3d((1, 2, 2))(Tensor([[[[1.0, 3.0], [2.0, 0.0]]]])).tolist()
        [[[[1.5]]]]
    """

    _function = staticmethod(functional.avg_pool3d)


class _LPPool(_Pool):
    def __init__(
        self, norm_type: float, kernel_size: Extents, stride: Extents | None = None, ceil_mode: bool = False
    ) -> None:
        self.norm_type, self.kernel_size, self.stride, self.ceil_mode = norm_type, kernel_size, stride, ceil_mode

    def forward(self, input: Any) -> Tensor:
        return type(self)._function(input, float(self.norm_type), self.kernel_size, self.stride, self.ceil_mode)

    def extra_repr(self) -> str:
        return shown(self, "norm_type", "kernel_size", "stride", "ceil_mode")


class LPPool1d(_LPPool):
    """:func:`functional.lp_pool1d <volta_mlir.nn.functional.lp_pool1d>` as a layer: ``(Σ x^p)^(1/p)`` of each window.

    Args:
        norm_type: ``p``.
        kernel_size: extents of the window, one number for each axis or one for all, as for the stride.
        stride: step between windows; that of the window's extent by default.
        ceil_mode: whether a window that only begins in the input counts.

    Example:
        >>> LPPool1d(2, 2)(Tensor([[3.0, 4.0]])).tolist()
        [[5.0]]
    """

    _function = staticmethod(functional.lp_pool1d)


class LPPool2d(_LPPool):
    """:class:`LPPool1d` for images.

    Example:
        >>> LPPool2d(2, (1, 2))(Tensor([[[3.0, 4.0]]])).tolist()
        [[[5.0]]]
    """

    _function = staticmethod(functional.lp_pool2d)


class LPPool3d(_LPPool):
    """:class:`LPPool1d` for volumes.

    Example:
        >>> LPPool3d(2, (1, 1, 2))(Tensor([[[[3.0, 4.0]]]])).tolist()
        [[[[5.0]]]]
    """

    _function = staticmethod(functional.lp_pool3d)


# -- windows that fit the result -------------------------------------------------------------------------------------


class _AdaptiveAvgPool(_Pool):
    def __init__(self, output_size: OutputSize) -> None:
        self.output_size = output_size

    def forward(self, input: Any) -> Tensor:
        return type(self)._function(input, self.output_size)

    def extra_repr(self) -> str:
        return shown(self, "output_size")


class AdaptiveAvgPool1d(_AdaptiveAvgPool):
    """:func:`functional.adaptive_avg_pool1d <volta_mlir.nn.functional.adaptive_avg_pool1d>` as a layer.

    Args:
        output_size: extents of the result, one number for each axis or one for all; None keeps the input's.

    Example:
        >>> AdaptiveAvgPool1d(2)(Tensor([[1.0, 3.0, 2.0, 0.0]])).tolist()
        [[2.0, 1.0]]
    """

    _function = staticmethod(functional.adaptive_avg_pool1d)


class AdaptiveAvgPool2d(_AdaptiveAvgPool):
    """:class:`AdaptiveAvgPool1d` for images.

    Example:
        >>> AdaptiveAvgPool2d(1)(Tensor([[[1.0, 3.0], [2.0, 0.0]]])).tolist()
        [[[1.5]]]
    """

    _function = staticmethod(functional.adaptive_avg_pool2d)


class AdaptiveAvgPool3d(_AdaptiveAvgPool):
    """:class:`AdaptiveAvgPool1d` for volumes.

    Example:
        >>> AdaptiveAvgPool3d(1)(Tensor([[[[1.0, 3.0], [2.0, 0.0]]]])).tolist()
        [[[[1.5]]]]
    """

    _function = staticmethod(functional.adaptive_avg_pool3d)


class _AdaptiveMaxPool(_Pool):
    def __init__(self, output_size: OutputSize, return_indices: bool = False) -> None:
        self.output_size, self.return_indices = output_size, return_indices

    def forward(self, input: Any) -> Any:
        return type(self)._function(input, self.output_size, self.return_indices)

    def extra_repr(self) -> str:
        return shown(self, "output_size")


class AdaptiveMaxPool1d(_AdaptiveMaxPool):
    """:func:`functional.adaptive_max_pool1d <volta_mlir.nn.functional.adaptive_max_pool1d>` as a layer.

    Args:
        output_size: extents of the result, one number for each axis or one for all; None keeps the input's.
        return_indices: whether the maxima's places are returned too.

    Example:
        >>> AdaptiveMaxPool1d(2)(Tensor([[1.0, 3.0, 2.0, 0.0]])).tolist()
        [[3.0, 2.0]]
    """

    _function = staticmethod(functional.adaptive_max_pool1d)


class AdaptiveMaxPool2d(_AdaptiveMaxPool):
    """:class:`AdaptiveMaxPool1d` for images.

    Example:
        >>> AdaptiveMaxPool2d(1)(Tensor([[[1.0, 3.0], [2.0, 0.0]]])).tolist()
        [[[3.0]]]
    """

    _function = staticmethod(functional.adaptive_max_pool2d)


class AdaptiveMaxPool3d(_AdaptiveMaxPool):
    """:class:`AdaptiveMaxPool1d` for volumes.

    Example:
        >>> AdaptiveMaxPool3d(1)(Tensor([[[[1.0, 3.0], [2.0, 0.0]]]])).tolist()
        [[[[3.0]]]]
    """

    _function = staticmethod(functional.adaptive_max_pool3d)


# -- windows at random places ----------------------------------------------------------------------------------------


class _FractionalMaxPool(Drawing):
    _function: ClassVar[Callable[..., Any]]

    def __init__(
        self,
        kernel_size: Extents,
        output_size: Extents | None = None,
        output_ratio: float | Sequence[float] | None = None,
        return_indices: bool = False,
        _random_samples: Any = None,
    ) -> None:
        if (output_size is None) == (output_ratio is None):
            raise OptionError(f"{type(self).__name__}: expected either output_size or output_ratio, and not both")
        super().__init__()
        self.kernel_size, self.output_size, self.output_ratio = kernel_size, output_size, output_ratio
        self.return_indices = return_indices
        self._random_samples: Any = None if _random_samples is None else Buffer(_random_samples)

    def forward(self, input: Any) -> Any:
        key = self.draw() if self._random_samples is None else None
        return type(self)._function(
            input,
            self.kernel_size,
            self.output_size,
            self.output_ratio,
            self.return_indices,
            self._random_samples,
            key=key,
        )


class FractionalMaxPool2d(_FractionalMaxPool):
    """:func:`functional.fractional_max_pool2d <volta_mlir.nn.functional.fractional_max_pool2d>` as a layer.

    Its windows are at other places at every call, in evaluation too, as PyTorch's.

    Args:
        kernel_size: extents of the window, one number for each axis or one for all, as for those that follow.
        output_size: extents of the result.
        output_ratio: instead of them, their ratio to the input's, between 0 and 1.
        return_indices: whether the maxima's places are returned too.
        _random_samples: where the windows are, if not at random: ``[N, C, 2]``, from 0 to 1; a buffer then.

    Attributes:
        key: see :class:`~volta_mlir.nn.layers.common.Drawing`.

    Raises:
        ValueError: not exactly one of ``output_size`` and ``output_ratio`` is given.

    Example:
        >>> FractionalMaxPool2d(2, output_size=1)(Tensor([[[1.0, 3.0], [2.0, 0.0]]])).tolist()
        [[[3.0]]]
    """

    _function = staticmethod(functional.fractional_max_pool2d)


class FractionalMaxPool3d(_FractionalMaxPool):
    """:class:`FractionalMaxPool2d` for volumes; ``_random_samples`` are ``[N, C, 3]``.

    Example:
        >>> FractionalMaxPool3d((1, 2, 2), output_ratio=(1, 0.5, 0.5))(Tensor([[[[1.0, 3.0], [2.0, 0.0]]]])).tolist()
        [[[[3.0]]]]
    """

    _function = staticmethod(functional.fractional_max_pool3d)
