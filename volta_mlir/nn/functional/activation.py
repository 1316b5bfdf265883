"""Activation functions."""

from __future__ import annotations

from typing import Any

import volta_mlir as volta
from volta_mlir.functions import tanh
from volta_mlir.functions.common import as_tensor
from volta_mlir.tensor import Tensor

__all__ = ["log_softmax", "relu", "softmax", "tanh"]


def relu(x: Any) -> Tensor:
    """``max(x, 0)``; the derivative at 0 is 0, and NaN stays NaN.

    >>> relu(Tensor([-1.0, 2.0])).tolist()
    [0.0, 2.0]
    """
    x = as_tensor(x)
    # A select and not a maximum: its derivative is a mask, and maximum shares a tie's gradient between its operands.
    return volta.where(x <= 0, volta.zeros_like(x), x)


def log_softmax(x: Any, dim: int = -1) -> Tensor:
    """``log(softmax(x))``, computed without overflow.

    >>> log_softmax(Tensor([1000.0, 1000.0])).tolist() == [-0.6931471824645996] * 2
    True
    """
    x = _shifted(x, dim)
    return x - volta.log(volta.exp(x).sum(dim, keepdims=True))


def softmax(x: Any, dim: int = -1) -> Tensor:
    """``exp(x)``, normalised to a sum of 1 along ``dim``, computed without overflow.

    >>> softmax(Tensor([1000.0, 1000.0])).tolist()
    [0.5, 0.5]
    """
    e = volta.exp(_shifted(x, dim))
    return e / e.sum(dim, keepdims=True)


def _shifted(x: Any, dim: int) -> Tensor:
    # Softmax does not change when its input shifts, so the shift has no derivative either.
    x = as_tensor(x)
    return x - volta.stop_gradient(x.max(dim, keepdims=True))
