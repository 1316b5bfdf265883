"""Rearranging, padding and resizing as layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import volta_mlir as volta
from volta_mlir.errors import ShapeError
from volta_mlir.functions.common import as_tensor
from volta_mlir.nn import functional
from volta_mlir.nn.layers.common import repeated, shown
from volta_mlir.nn.module import Module
from volta_mlir.tensor import Tensor

__all__ = [
    "ChannelShuffle",
    "CircularPad1d",
    "CircularPad2d",
    "CircularPad3d",
    "ConstantPad1d",
    "ConstantPad2d",
    "ConstantPad3d",
    "Flatten",
    "Fold",
    "Identity",
    "PixelShuffle",
    "PixelUnshuffle",
    "ReflectionPad1d",
    "ReflectionPad2d",
    "ReflectionPad3d",
    "ReplicationPad1d",
    "ReplicationPad2d",
    "ReplicationPad3d",
    "Unflatten",
    "Unfold",
    "Upsample",
    "UpsamplingBilinear2d",
    "UpsamplingNearest2d",
    "ZeroPad1d",
    "ZeroPad2d",
    "ZeroPad3d",
]


class Identity(Module):
    """Returns its input; takes any arguments, so that it can stand in for another layer.

    Example:
        >>> Identity(54, unused=True)(Tensor([1.0])).tolist()
        [1.0]
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def forward(self, input: Any) -> Tensor:
        return as_tensor(input)


class Flatten(Module):
    """Makes one axis of the axes ``start_dim`` to ``end_dim``, both included.

    Example:
        >>> import numpy as np
        >>> Flatten()(np.zeros((5, 2, 3), np.float32)).shape
        (5, 6)
    """

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, input: Any) -> Tensor:
        return volta.flatten(input, self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        return shown(self, "start_dim", "end_dim")


class Unflatten(Module):
    """Makes several axes of one.

    Args:
        dim: the axis; PyTorch's named axes are not supported.
        unflattened_size: the new extents; -1 stands for what is left.

    Raises:
        ShapeError: the axis does not exist, or the extents do not multiply to its extent.

    Example:
        >>> import numpy as np
        >>> Unflatten(1, (2, -1))(np.zeros((5, 6), np.float32)).shape
        (5, 2, 3)
    """

    def __init__(self, dim: int, unflattened_size: Sequence[int]) -> None:
        if not isinstance(dim, int):
            raise TypeError(f"Unflatten: dim is an int, got {dim!r}; axes have no names")
        if not isinstance(unflattened_size, (tuple, list)) or not all(isinstance(n, int) for n in unflattened_size):
            raise TypeError(f"Unflatten: unflattened_size is a tuple of ints, got {unflattened_size!r}")
        self.dim, self.unflattened_size = dim, tuple(unflattened_size)

    def forward(self, input: Any) -> Tensor:
        input = as_tensor(input)
        if not -input.ndim <= self.dim < input.ndim:
            raise ShapeError(f"Unflatten: axis {self.dim} of {input.spec} does not exist")
        dim = self.dim % input.ndim
        extent, rest = input.shape[dim], 1
        for size in self.unflattened_size:
            rest *= size if size != -1 else 1
        sizes = tuple(extent // max(1, rest) if size == -1 else size for size in self.unflattened_size)
        if rest * (extent // max(1, rest) if -1 in self.unflattened_size else 1) != extent:
            raise ShapeError(
                f"Unflatten: {self.unflattened_size} does not multiply to {extent}, axis {dim} of {input.spec}"
            )
        return input.reshape((*input.shape[:dim], *sizes, *input.shape[dim + 1 :]))

    def extra_repr(self) -> str:
        return shown(self, "dim", "unflattened_size")


class PixelShuffle(Module):
    """:func:`functional.pixel_shuffle <volta_mlir.nn.functional.pixel_shuffle>` as a layer.

    Example:
        >>> import numpy as np
        >>> PixelShuffle(3)(np.zeros((1, 9, 4, 4), np.float32)).shape
        (1, 1, 12, 12)
    """

    def __init__(self, upscale_factor: int) -> None:
        self.upscale_factor = upscale_factor

    def forward(self, input: Any) -> Tensor:
        return functional.pixel_shuffle(input, self.upscale_factor)

    def extra_repr(self) -> str:
        return shown(self, "upscale_factor")


class PixelUnshuffle(Module):
    """:func:`functional.pixel_unshuffle <volta_mlir.nn.functional.pixel_unshuffle>` as a layer.

    Example:
        >>> import numpy as np
        >>> PixelUnshuffle(3)(np.zeros((1, 1, 12, 12), np.float32)).shape
        (1, 9, 4, 4)
    """

    def __init__(self, downscale_factor: int) -> None:
        self.downscale_factor = downscale_factor

    def forward(self, input: Any) -> Tensor:
        return functional.pixel_unshuffle(input, self.downscale_factor)

    def extra_repr(self) -> str:
        return shown(self, "downscale_factor")


class ChannelShuffle(Module):
    """:func:`functional.channel_shuffle <volta_mlir.nn.functional.channel_shuffle>` as a layer.

    Example:
        >>> ChannelShuffle(2)(Tensor([[[0.0], [1.0], [2.0], [3.0]]])).flatten().tolist()
        [0.0, 2.0, 1.0, 3.0]
    """

    def __init__(self, groups: int) -> None:
        self.groups = groups

    def forward(self, input: Any) -> Tensor:
        return functional.channel_shuffle(input, self.groups)

    def extra_repr(self) -> str:
        return shown(self, "groups")


class Fold(Module):
    """:func:`functional.fold <volta_mlir.nn.functional.fold>` as a layer.

    Example:
        >>> import numpy as np
        >>> Fold(output_size=(4, 5), kernel_size=(2, 2))(np.zeros((1, 12, 12), np.float32)).shape
        (1, 3, 4, 5)
    """

    def __init__(
        self,
        output_size: int | tuple[int, int],
        kernel_size: int | tuple[int, int],
        dilation: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        stride: int | tuple[int, int] = 1,
    ) -> None:
        self.output_size, self.kernel_size = output_size, kernel_size
        self.dilation, self.padding, self.stride = dilation, padding, stride

    def forward(self, input: Any) -> Tensor:
        return functional.fold(input, self.output_size, self.kernel_size, self.dilation, self.padding, self.stride)

    def extra_repr(self) -> str:
        return shown(self, "output_size", "kernel_size", "dilation", "padding", "stride")


class Unfold(Module):
    """:func:`functional.unfold <volta_mlir.nn.functional.unfold>` as a layer.

    Example:
        >>> import numpy as np
        >>> Unfold(kernel_size=(2, 3))(np.zeros((2, 5, 3, 4), np.float32)).shape
        (2, 30, 4)
    """

    def __init__(
        self,
        kernel_size: int | tuple[int, int],
        dilation: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        stride: int | tuple[int, int] = 1,
    ) -> None:
        self.kernel_size, self.dilation, self.padding, self.stride = kernel_size, dilation, padding, stride

    def forward(self, input: Any) -> Tensor:
        return functional.unfold(input, self.kernel_size, self.dilation, self.padding, self.stride)

    def extra_repr(self) -> str:
        return shown(self, "kernel_size", "dilation", "padding", "stride")


class Upsample(Module):
    """:func:`functional.interpolate <volta_mlir.nn.functional.interpolate>` as a layer.

    Args:
        size: extents of the result's spatial axes; or
        scale_factor: how many times they are larger.
        mode: ``"nearest"``, ``"linear"``, ``"bilinear"``, …
        align_corners: whether the corners' elements keep their values.
        recompute_scale_factor: see the function.

    Example:
        >>> Upsample(scale_factor=2)(Tensor([[[1.0, 2.0]]])).tolist()
        [[[1.0, 1.0, 2.0, 2.0]]]
    """

    def __init__(
        self,
        size: int | Sequence[int] | None = None,
        scale_factor: float | Sequence[float] | None = None,
        mode: str = "nearest",
        align_corners: bool | None = None,
        recompute_scale_factor: bool | None = None,
    ) -> None:
        self.size, self.mode, self.align_corners = size, mode, align_corners
        if isinstance(scale_factor, (tuple, list)):
            self.scale_factor: Any = tuple(map(float, scale_factor))
        else:
            self.scale_factor = float(scale_factor) if scale_factor else None  # type: ignore[arg-type]
        self.recompute_scale_factor = recompute_scale_factor

    def forward(self, input: Any) -> Tensor:
        return functional.interpolate(
            input,
            self.size,
            self.scale_factor,
            self.mode,
            self.align_corners,
            recompute_scale_factor=self.recompute_scale_factor,
        )

    def extra_repr(self) -> str:
        size = shown(self, "size") if self.scale_factor is None else shown(self, "scale_factor")
        return f"{size}, mode={self.mode!r}"


class UpsamplingNearest2d(Upsample):
    """:class:`Upsample` of images with ``mode="nearest"``.

    Example:
        >>> UpsamplingNearest2d(size=(1, 2))(Tensor([[[[7.0]]]])).tolist()
        [[[[7.0, 7.0]]]]
    """

    def __init__(
        self, size: int | tuple[int, int] | None = None, scale_factor: float | tuple[float, float] | None = None
    ) -> None:
        super().__init__(size, scale_factor, mode="nearest")


class UpsamplingBilinear2d(Upsample):
    """:class:`Upsample` of images with ``mode="bilinear"`` and ``align_corners=True``.

    Example:
        >>> UpsamplingBilinear2d(size=(1, 3))(Tensor([[[[1.0, 3.0]]]])).tolist()
        [[[[1.0, 2.0, 3.0]]]]
    """

    def __init__(
        self, size: int | tuple[int, int] | None = None, scale_factor: float | tuple[float, float] | None = None
    ) -> None:
        super().__init__(size, scale_factor, mode="bilinear", align_corners=True)


# -- padding ---------------------------------------------------------------------------------------------------------


class _Pad(Module):
    """Pads the last axes by a number of elements on all sides, or by numbers for each side, last axis first."""

    axes: ClassVar[int]
    mode: ClassVar[str]
    value: float | None = None

    def __init__(self, padding: int | Sequence[int]) -> None:
        self.padding = repeated(padding, 2 * self.axes)

    def forward(self, input: Any) -> Tensor:
        input = as_tensor(input)
        name, spatial = type(self).__name__, self.axes
        if self.mode != "constant" and input.ndim not in (spatial + 1, spatial + 2):
            raise ShapeError(f"{name}: expected {spatial + 1}D or {spatial + 2}D input, got {input.spec}")
        return functional.pad(input, self.padding, self.mode, self.value)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class _ConstantPad(_Pad):
    mode = "constant"

    def __init__(self, padding: int | Sequence[int], value: float) -> None:
        super().__init__(padding)
        self.value = value

    def extra_repr(self) -> str:
        return shown(self, "padding", "value")


class _ZeroPad(_Pad):
    mode, value = "constant", 0.0


class _ReflectionPad(_Pad):
    mode = "reflect"


class _ReplicationPad(_Pad):
    mode = "replicate"


class _CircularPad(_Pad):
    mode = "circular"


class ConstantPad1d(_ConstantPad):
    """Pads ``[N, C, W]`` or ``[C, W]`` with the same value.

    Args:
        padding: a number for every side, or ``(left, right)``.
        value: the value.

    Example:
        >>> ConstantPad1d((1, 0), 3.5)(Tensor([[1.0, 2.0]])).tolist()
        [[3.5, 1.0, 2.0]]
    """

    axes = 1


class ConstantPad2d(_ConstantPad):
    """Pads ``[N, C, H, W]`` or ``[C, H, W]`` with the same value.

    Args:
        padding: a number for every side, or ``(left, right, top, bottom)``.
        value: the value.

    Example:
        >>> ConstantPad2d((1, 0, 0, 0), 3.5)(Tensor([[[1.0, 2.0]]])).tolist()
        [[[3.5, 1.0, 2.0]]]
    """

    axes = 2


class ConstantPad3d(_ConstantPad):
    """Pads ``[N, C, D, H, W]`` or ``[C, D, H, W]`` with the same value.

    Args:
        padding: a number for every side, or ``(left, right, top, bottom, front, back)``.
        value: the value.

    Example:
        >>> ConstantPad3d((1, 0, 0, 0, 0, 0), 3.5)(Tensor([[[[1.0, 2.0]]]])).tolist()
        [[[[3.5, 1.0, 2.0]]]]
    """

    axes = 3


class ZeroPad1d(_ZeroPad):
    """Pads ``[N, C, W]`` or ``[C, W]`` with zeros.

    Args:
        padding: a number for every side, or ``(left, right)``.

    Example:
        >>> ZeroPad1d((1, 0))(Tensor([[1.0, 2.0]])).tolist()
        [[0.0, 1.0, 2.0]]
    """

    axes = 1


class ZeroPad2d(_ZeroPad):
    """Pads ``[N, C, H, W]`` or ``[C, H, W]`` with zeros.

    Args:
        padding: a number for every side, or ``(left, right, top, bottom)``.

    Example:
        >>> ZeroPad2d((1, 0, 0, 0))(Tensor([[[1.0, 2.0]]])).tolist()
        [[[0.0, 1.0, 2.0]]]
    """

    axes = 2


class ZeroPad3d(_ZeroPad):
    """Pads ``[N, C, D, H, W]`` or ``[C, D, H, W]`` with zeros.

    Args:
        padding: a number for every side, or ``(left, right, top, bottom, front, back)``.

    Example:
        >>> ZeroPad3d((1, 0, 0, 0, 0, 0))(Tensor([[[[1.0, 2.0]]]])).tolist()
        [[[[0.0, 1.0, 2.0]]]]
    """

    axes = 3


class ReflectionPad1d(_ReflectionPad):
    """Pads ``[N, C, W]`` or ``[C, W]`` with what is mirrored in the border.

    Args:
        padding: a number for every side, or ``(left, right)``.

    Example:
        >>> ReflectionPad1d((1, 0))(Tensor([[1.0, 2.0]])).tolist()
        [[2.0, 1.0, 2.0]]
    """

    axes = 1


class ReflectionPad2d(_ReflectionPad):
    """Pads ``[N, C, H, W]`` or ``[C, H, W]`` with what is mirrored in the border.

    Args:
        padding: a number for every side, or ``(left, right, top, bottom)``.

    Example:
        >>> ReflectionPad2d((1, 0, 0, 0))(Tensor([[[1.0, 2.0]]])).tolist()
        [[[2.0, 1.0, 2.0]]]
    """

    axes = 2


class ReflectionPad3d(_ReflectionPad):
    """Pads ``[N, C, D, H, W]`` or ``[C, D, H, W]`` with what is mirrored in the border.

    Args:
        padding: a number for every side, or ``(left, right, top, bottom, front, back)``.

    Example:
        >>> ReflectionPad3d((1, 0, 0, 0, 0, 0))(Tensor([[[[1.0, 2.0]]]])).tolist()
        [[[[2.0, 1.0, 2.0]]]]
    """

    axes = 3


class ReplicationPad1d(_ReplicationPad):
    """Pads ``[N, C, W]`` or ``[C, W]`` with the border's elements.

    Args:
        padding: a number for every side, or ``(left, right)``.

    Example:
        >>> ReplicationPad1d((1, 0))(Tensor([[1.0, 2.0]])).tolist()
        [[1.0, 1.0, 2.0]]
    """

    axes = 1


class ReplicationPad2d(_ReplicationPad):
    """Pads ``[N, C, H, W]`` or ``[C, H, W]`` with the border's elements.

    Args:
        padding: a number for every side, or ``(left, right, top, bottom)``.

    Example:
        >>> ReplicationPad2d((1, 0, 0, 0))(Tensor([[[1.0, 2.0]]])).tolist()
        [[[1.0, 1.0, 2.0]]]
    """

    axes = 2


class ReplicationPad3d(_ReplicationPad):
    """Pads ``[N, C, D, H, W]`` or ``[C, D, H, W]`` with the border's elements.

    Args:
        padding: a number for every side, or ``(left, right, top, bottom, front, back)``.

    Example:
        >>> ReplicationPad3d((1, 0, 0, 0, 0, 0))(Tensor([[[[1.0, 2.0]]]])).tolist()
        [[[[1.0, 1.0, 2.0]]]]
    """

    axes = 3


class CircularPad1d(_CircularPad):
    """Pads ``[N, C, W]`` or ``[C, W]`` with the elements of the other end.

    Args:
        padding: a number for every side, or ``(left, right)``.

    Example:
        >>> CircularPad1d((1, 0))(Tensor([[1.0, 2.0]])).tolist()
        [[2.0, 1.0, 2.0]]
    """

    axes = 1


class CircularPad2d(_CircularPad):
    """Pads ``[N, C, H, W]`` or ``[C, H, W]`` with the elements of the other end.

    Args:
        padding: a number for every side, or ``(left, right, top, bottom)``.

    Example:
        >>> CircularPad2d((1, 0, 0, 0))(Tensor([[[1.0, 2.0]]])).tolist()
        [[[2.0, 1.0, 2.0]]]
    """

    axes = 2


class CircularPad3d(_CircularPad):
    """Pads ``[N, C, D, H, W]`` or ``[C, D, H, W]`` with the elements of the other end.

    Args:
        padding: a number for every side, or ``(left, right, top, bottom, front, back)``.

    Example:
        >>> CircularPad3d((1, 0, 0, 0, 0, 0))(Tensor([[[[1.0, 2.0]]]])).tolist()
        [[[[2.0, 1.0, 2.0]]]]
    """

    axes = 3
