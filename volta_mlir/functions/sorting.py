"""Functions that order elements. NaN counts as the greatest; every order is stable."""

from __future__ import annotations

from typing import Any

from volta_mlir.dialects import sorting as ops
from volta_mlir.errors import ShapeError
from volta_mlir.functions.common import as_tensor, axes_tuple
from volta_mlir.tensor import Tensor

__all__ = ["argsort", "sort", "top_k"]


def _order(op: Any, x: Any, axis: int, descending: bool) -> Tensor:
    x = as_tensor(x)
    (only,) = axes_tuple(axis, x.ndim)
    return op.apply(x, axis=only, descending=descending)


def sort(x: Any, axis: int = -1, descending: bool = False) -> Tensor:
    """The elements along ``axis`` in ascending order, NaN last, or in descending order, NaN first.

    >>> sort(Tensor([3.0, 1.0, float("nan"), 2.0])).tolist()
    [1.0, 2.0, 3.0, nan]
    """
    return _order(ops.SortOp, x, axis, descending)


def argsort(x: Any, axis: int = -1, descending: bool = False) -> Tensor:
    """The indices (int32) that sort ``x`` along ``axis``; equal elements keep their order, in either direction.

    >>> argsort(Tensor([3, 1, 3, 2]), descending=True).tolist()
    [0, 2, 3, 1]
    """
    return _order(ops.ArgsortOp, x, axis, descending)


def top_k(x: Any, k: int) -> tuple[Tensor, Tensor]:
    """The ``k`` greatest elements along the last axis, greatest first, and their indices (int32).

    NaN counts as the greatest; of equal elements the first ones are taken. Raises ShapeError unless the axis has at
    least ``k`` elements, and ``k`` is positive.

    >>> [t.tolist() for t in top_k(Tensor([1.0, 4.0, 2.0, 4.0]), 3)]
    [[4.0, 4.0, 2.0], [1, 3, 2]]
    """
    x = as_tensor(x)
    if not x.ndim or not 1 <= k <= x.shape[-1]:
        raise ShapeError(f"top_k: k = {k} is not within the last axis of {x.spec}")
    values, indices = ops.TopKOp.apply(x, k=k)
    return values, indices
