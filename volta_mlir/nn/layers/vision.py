"""Rearranging, padding and resizing as layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import volta_mlir as volta
from volta_mlir.errors import ShapeError
from volta_mlir.functions.common import as_tensor
from volta_mlir.nn.layers.common import shown
from volta_mlir.nn.module import Module
from volta_mlir.tensor import Tensor

__all__ = ["Flatten", "Identity", "Unflatten"]


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
