"""Linear maps and lookups."""

from __future__ import annotations

from typing import Any

import volta_mlir as volta
from volta_mlir.errors import ShapeError
from volta_mlir.functions.common import as_tensor
from volta_mlir.tensor import Tensor

__all__ = ["linear"]


def linear(x: Any, weight: Any, bias: Any = None) -> Tensor:
    """``x @ weight.T + bias``.

    Args:
        x: ``[..., in]``.
        weight: ``[out, in]``.
        bias: ``[out]``, or None.

    Raises:
        ShapeError: the last axis of ``x`` does not have the extent ``in``.

    >>> linear(Tensor([[1.0, 2.0]]), Tensor([[3.0, 4.0]]), Tensor([0.5])).tolist()
    [[11.5]]
    """
    x, weight = as_tensor(x), as_tensor(weight)
    if not x.ndim or x.shape[-1] != weight.shape[-1]:
        raise ShapeError(f"linear: expected an input of shape (..., {weight.shape[-1]}), got {x.spec}")
    y = volta.dot_general(x, weight, contract=([x.ndim - 1], [1]))
    return y if bias is None else y + bias
