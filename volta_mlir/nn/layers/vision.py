"""Rearranging and resizing as layers."""

from __future__ import annotations

from typing import Any

from volta_mlir.nn import functional
from volta_mlir.nn.module import Module
from volta_mlir.tensor import Tensor

__all__ = ["Flatten"]


class Flatten(Module):
    """Makes one axis of the axes ``start_dim`` to ``end_dim``, both included.

    Example:
        >>> import numpy as np
        >>> Flatten()(np.zeros((5, 2, 3), np.float32)).shape
        (5, 6)
    """

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, x: Any) -> Tensor:
        return functional.flatten(x, self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"
