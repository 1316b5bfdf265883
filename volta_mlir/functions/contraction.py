"""Products of tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from volta_mlir.dialects import contraction as ops
from volta_mlir.errors import ShapeError
from volta_mlir.functions.common import broadcast_shapes, broadcast_to, promote
from volta_mlir.functions.movement import reshape
from volta_mlir.tensor import Tensor

__all__ = ["dot_general", "matmul"]


def dot_general(
    lhs: Any,
    rhs: Any,
    contract: tuple[Sequence[int], Sequence[int]],
    batch: tuple[Sequence[int], Sequence[int]] = ((), ()),
    dtype: np.dtype | None = None,
) -> Tensor:
    """Batched product over any axes; the result has the batch axes, lhs's free axes, rhs's free axes.

    Args:
        contract: the axes of lhs and of rhs to sum over.
        batch: the axes of lhs and of rhs to pair up.
        dtype: of the result; default the operands'. Half precision accumulates in float32 either way.

    >>> dot_general(Tensor([[1.0, 2.0]]), Tensor([[3.0, 4.0]]), contract=([1], [1])).tolist()
    [[11.0]]
    """
    x, y = promote(lhs, rhs)
    return ops.DotGeneralOp.apply(
        x, y, lhs_batch=tuple(batch[0]), rhs_batch=tuple(batch[1]), lhs_contract=tuple(contract[0]),
        rhs_contract=tuple(contract[1]), dtype=x.dtype if dtype is None else dtype,
    )  # fmt: skip


def matmul(x: Any, y: Any) -> Tensor:
    """numpy's ``@``: vectors and matrices, leading axes broadcast.

    >>> matmul(Tensor([[1.0, 2.0]]), Tensor([3.0, 4.0])).tolist()
    [11.0]
    """
    x, y = promote(x, y)
    if not x.ndim or not y.ndim:
        raise ShapeError(f"matmul takes tensors of rank 1 or more, got {x.spec} and {y.spec}")
    inner = -2 if y.ndim > 1 else -1
    if x.shape[-1] != y.shape[inner]:
        raise ShapeError(f"matmul: the last axis of {x.spec} and axis {inner} of {y.spec} differ in extent")
    if y.ndim <= 2 or (x.ndim == 1 and y.ndim == 1):  # no batch axes on the right: x's are all free
        return dot_general(x, y, ([x.ndim - 1], [y.ndim + inner]))
    if x.ndim == 1:
        return reshape(matmul(reshape(x, (1, -1)), y), (*y.shape[:-2], y.shape[-1]))
    lead = broadcast_shapes(x.shape[:-2], y.shape[:-2])
    x, y = broadcast_to(x, (*lead, *x.shape[-2:])), broadcast_to(y, (*lead, *y.shape[-2:]))
    axes = range(len(lead))
    return dot_general(x, y, ([len(lead) + 1], [len(lead)]), (axes, axes))
