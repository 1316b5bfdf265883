"""Reductions, with numpy's ``axis`` and ``keepdims``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from volta_mlir.dialects import reduction as ops
from volta_mlir.dtypes import INDEX, bool_
from volta_mlir.functions.common import as_tensor, astype, axes_tuple, promote_float
from volta_mlir.functions.movement import reshape
from volta_mlir.tensor import Tensor

__all__ = ["mean", "sum"]

Axis = int | Sequence[int] | None


def _reduce(op: Any, x: Tensor, axis: Axis, keepdims: bool) -> Tensor:
    axes = axes_tuple(axis, x.ndim)
    out = op.apply(x, axes=axes) if axes else x
    kept = tuple(1 if a in axes else s for a, s in enumerate(x.shape))
    return reshape(out, kept) if keepdims else out


def sum(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The sum along ``axis`` (default: all axes); bool counts as int32, half precision accumulates in float32.

    >>> sum(Tensor([[1, 2], [3, 4]]), axis=0).tolist()
    [4, 6]
    """
    x = as_tensor(x)
    return _reduce(ops.ReduceSumOp, astype(x, INDEX) if x.dtype == bool_ else x, axis, keepdims)


def mean(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The mean along ``axis`` (default: all axes); integers become float32.

    >>> mean(Tensor([[1, 2], [3, 4]]), axis=1).tolist()
    [1.5, 3.5]
    """
    (x,) = promote_float(x)
    count = math.prod(x.shape[a] for a in axes_tuple(axis, x.ndim))
    return sum(x, axis, keepdims) * (1.0 / count if count else float("nan"))
