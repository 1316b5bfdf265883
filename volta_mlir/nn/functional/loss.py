"""Loss functions."""

from __future__ import annotations

from typing import Any

import volta_mlir as volta
from volta_mlir.dtypes import is_float
from volta_mlir.errors import DTypeError, ShapeError
from volta_mlir.functions.common import as_tensor
from volta_mlir.nn.functional.activation import log_softmax
from volta_mlir.tensor import Tensor

__all__ = ["cross_entropy", "mse_loss"]


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
        losses = -(target * log_softmax(logits, -1)).sum(-1)
        return losses.mean() if reduction == "mean" else _reduce(losses, reduction)
    # A mask instead of a gather: the gradient needs no scatter then.
    classes = volta.iota(logits.shape, axis=logits.ndim - 1, dtype=target.dtype)
    chosen = classes == volta.expand_dims(target, -1)
    losses = -volta.where(chosen, log_softmax(logits, -1), 0.0).sum(-1)
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
