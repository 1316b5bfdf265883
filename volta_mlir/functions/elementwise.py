"""Elementwise functions, with numpy's broadcasting and Volta's promotion."""

from __future__ import annotations

from typing import Any

from volta_mlir.dialects import elementwise as ops
from volta_mlir.functions.common import as_tensor, astype, broadcast, promote, promote_float
from volta_mlir.tensor import Tensor

__all__ = [
    "add", "astype", "equal", "greater", "greater_equal", "less", "less_equal", "multiply", "negative",
    "not_equal", "subtract", "tanh", "where",
]  # fmt: skip


def _unary(op: Any, x: Any) -> Tensor:
    return op.apply(as_tensor(x))


def _binary(op: Any, x: Any, y: Any, **attributes: Any) -> Tensor:
    return op.apply(*broadcast(*promote(x, y)), **attributes)


def _float_unary(op: Any, x: Any) -> Tensor:
    return op.apply(*promote_float(x))


def negative(x: Any) -> Tensor:
    """``-x``.

    >>> negative(Tensor([1.0, -2.0])).tolist()
    [-1.0, 2.0]
    """
    return _unary(ops.NegOp, x)


def add(x: Any, y: Any) -> Tensor:
    """``x + y``.

    >>> add(Tensor([1, 2]), 3).tolist()
    [4, 5]
    """
    return _binary(ops.AddOp, x, y)


def subtract(x: Any, y: Any) -> Tensor:
    """``x - y``.

    >>> subtract(Tensor([1, 2]), 3).tolist()
    [-2, -1]
    """
    return _binary(ops.SubOp, x, y)


def multiply(x: Any, y: Any) -> Tensor:
    """``x * y``.

    >>> multiply(Tensor([1, 2]), 3).tolist()
    [3, 6]
    """
    return _binary(ops.MulOp, x, y)


def tanh(x: Any) -> Tensor:
    """The hyperbolic tangent; integers become float32.

    >>> tanh(0).tolist()
    0.0
    """
    return _float_unary(ops.TanhOp, x)


def equal(x: Any, y: Any) -> Tensor:
    """``x == y`` as bool.

    >>> equal(Tensor([1, 2]), 2).tolist()
    [False, True]
    """
    return _binary(ops.CompareOp, x, y, direction="eq")


def not_equal(x: Any, y: Any) -> Tensor:
    """``x != y`` as bool.

    >>> not_equal(Tensor([1, 2]), 2).tolist()
    [True, False]
    """
    return _binary(ops.CompareOp, x, y, direction="ne")


def less(x: Any, y: Any) -> Tensor:
    """``x < y`` as bool.

    >>> less(Tensor([1, 2]), 2).tolist()
    [True, False]
    """
    return _binary(ops.CompareOp, x, y, direction="lt")


def less_equal(x: Any, y: Any) -> Tensor:
    """``x <= y`` as bool.

    >>> less_equal(Tensor([1, 3]), 2).tolist()
    [True, False]
    """
    return _binary(ops.CompareOp, x, y, direction="le")


def greater(x: Any, y: Any) -> Tensor:
    """``x > y`` as bool.

    >>> greater(Tensor([1, 3]), 2).tolist()
    [False, True]
    """
    return _binary(ops.CompareOp, x, y, direction="gt")


def greater_equal(x: Any, y: Any) -> Tensor:
    """``x >= y`` as bool.

    >>> greater_equal(Tensor([1, 2]), 2).tolist()
    [False, True]
    """
    return _binary(ops.CompareOp, x, y, direction="ge")


def where(condition: Any, x: Any, y: Any) -> Tensor:
    """``x`` where the condition (bool) holds, else ``y``; all three broadcast.

    >>> where(Tensor([True, False]), 1.0, 2.0).tolist()
    [1.0, 2.0]
    """
    x, y = promote(x, y)
    return ops.SelectOp.apply(*broadcast(astype(condition, bool), x, y))
