"""Rearranging and resizing of images and sequences."""

from __future__ import annotations

from typing import Any

from volta_mlir.errors import ShapeError
from volta_mlir.functions.common import as_tensor
from volta_mlir.tensor import Tensor

__all__ = ["flatten"]


def flatten(x: Any, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Makes one axis of the axes ``start_dim`` to ``end_dim``, both included.

    >>> flatten(volta.zeros((5, 2, 3)), 1).shape
    (5, 6)
    """
    x = as_tensor(x)
    start, end = (d + x.ndim if d < 0 else d for d in (start_dim, end_dim))
    if not 0 <= start <= end < x.ndim:
        raise ShapeError(f"flatten: axes {start_dim} to {end_dim} of {x.spec} do not exist")
    extent = 1
    for size in x.shape[start : end + 1]:
        extent *= size
    return x.reshape((*x.shape[:start], extent, *x.shape[end + 1 :]))
