"""Functions of neural networks, under PyTorch's names. Where PyTorch says ``dim``, so do these."""

from __future__ import annotations

from typing import Any

import volta_mlir as volta
from volta_mlir.dtypes import is_float
from volta_mlir.errors import DTypeError, ShapeError
from volta_mlir.functions import tanh
from volta_mlir.functions.common import as_tensor
from volta_mlir.tensor import Tensor

__all__ = ["cross_entropy", "flatten", "linear", "log_softmax", "mse_loss", "relu", "softmax", "tanh"]


def relu(x: Any) -> Tensor:
    """``max(x, 0)``; the derivative at 0 is 0, and NaN stays NaN.

    >>> relu(Tensor([-1.0, 2.0])).tolist()
    [0.0, 2.0]
    """
    x = as_tensor(x)
    # A select and not a maximum: its derivative is a mask, and maximum shares a tie's gradient between its operands.
    return volta.where(x <= 0, volta.zeros_like(x), x)


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


def cross_entropy(input: Any, target: Any, reduction: str = "mean") -> Tensor:
    """``-log(softmax(input))`` at the target classes. Its gradient is ``softmax(input) - one_hot(target)``.

    Args:
        input: logits ``[..., C]``. The classes are the last axis, where PyTorch has them second: for a matrix that is
            the same.
        target: integer classes ``[...]``, or probabilities ``[..., C]`` of a floating-point dtype. A class outside
            0 to C-1 counts for nothing: its loss is 0, and ``"mean"`` leaves it out.
        reduction: ``"mean"``, ``"sum"``, or ``"none"`` for one loss per target.

    Raises:
        ShapeError: the shapes of ``input`` and ``target`` do not fit.
        DTypeError: the logits are not floating-point numbers.

    >>> round(cross_entropy(Tensor([[0.0, 0.0]]), Tensor([1])).item(), 4)
    0.6931
    """
    logits, target = as_tensor(input), as_tensor(target)
    if not is_float(logits.dtype):
        raise DTypeError(f"cross_entropy: expected floating-point logits, got {logits.spec}")
    expected = logits.shape if is_float(target.dtype) else logits.shape[:-1]
    if not logits.ndim or target.shape != expected:
        raise ShapeError(
            f"cross_entropy: logits {logits.spec} need classes of shape {logits.shape[:-1]} or probabilities of shape"
            f" {logits.shape}, got {target.spec}"
        )
    if is_float(target.dtype):
        losses = -(target * log_softmax(logits)).sum(-1)
        return losses.mean() if reduction == "mean" else _reduce(losses, reduction)
    # A mask instead of a gather: the gradient needs no scatter then.
    classes = volta.iota(logits.shape, axis=logits.ndim - 1, dtype=target.dtype)
    chosen = classes == volta.expand_dims(target, -1)
    losses = -volta.where(chosen, log_softmax(logits), 0.0).sum(-1)
    if reduction == "mean":
        counted = chosen.any(-1).astype(logits.dtype).sum()
        return losses.sum() / counted
    return _reduce(losses, reduction)


def mse_loss(input: Any, target: Any, reduction: str = "mean") -> Tensor:
    """``(input - target) ** 2``.

    Args:
        input: any shape.
        target: the same shape.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.

    Raises:
        ShapeError: the shapes differ.

    >>> mse_loss(Tensor([1.0, 2.0]), Tensor([1.0, 4.0])).item()
    2.0
    """
    input, target = as_tensor(input), as_tensor(target)
    if input.shape != target.shape:
        raise ShapeError(f"mse_loss: {input.spec} and {target.spec} differ in shape")
    difference = input - target
    return _reduce(difference * difference, reduction)


def _reduce(losses: Tensor, reduction: str) -> Tensor:
    if reduction == "none":
        return losses
    if reduction == "sum":
        return losses.sum()
    if reduction == "mean":
        return losses.mean()
    raise ValueError(f"reduction is {reduction!r}; expected 'mean', 'sum' or 'none'")
