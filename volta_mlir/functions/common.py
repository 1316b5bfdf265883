"""What the functions share: operands as tensors of one dtype and one shape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from volta_mlir.dialects import creation, elementwise, movement
from volta_mlir.dtypes import as_dtype, is_float, result_type
from volta_mlir.errors import ShapeError
from volta_mlir.tensor import Tensor
from volta_mlir.trace import tensor_of


def as_tensor(x: Any, dtype: np.dtype | None = None) -> Tensor:
    """``x`` as a Tensor of ``dtype`` (default: its own)."""
    if isinstance(x, np.ndarray):
        return tensor_of(x, dtype)
    if not isinstance(x, Tensor):
        return Tensor(x, dtype)
    return x if dtype is None or x.dtype == dtype else astype(x, dtype)


def astype(x: Any, dtype: Any) -> Tensor:
    """``x`` converted to ``dtype``: float to integer truncates and saturates, to bool is ``x != 0``.

    >>> astype(Tensor([1.5, -300.0]), "int8").tolist()
    [1, -128]
    """
    x, dtype = as_tensor(x), as_dtype(dtype)
    return x if x.dtype == dtype else elementwise.ConvertOp.apply(x, dtype=dtype)


def promote(*operands: Any) -> list[Tensor]:
    """The operands as tensors of their common dtype (Python scalars are weak)."""
    dtype = result_type(*operands)
    return [as_tensor(x, dtype) for x in operands]


def promote_float(*operands: Any) -> list[Tensor]:
    """:func:`promote`, with integers and bool becoming the default float."""
    dtype = result_type(*operands)
    return [as_tensor(x, dtype if is_float(dtype) else result_type(dtype, 1.0)) for x in operands]


def broadcast_shapes(*shapes: Sequence[int]) -> tuple[int, ...]:
    """The shape that numpy's broadcasting gives; raises ShapeError where the shapes do not fit.

    >>> broadcast_shapes((3, 1), (4,))
    (3, 4)
    """
    try:
        return np.broadcast_shapes(*(tuple(s) for s in shapes))
    except ValueError:
        raise ShapeError(f"shapes {', '.join(map(str, shapes))} can't be broadcast together") from None


def broadcast_to(x: Any, shape: Sequence[int]) -> Tensor:
    """``x`` repeated along new leading axes and axes of extent 1 to ``shape``.

    >>> broadcast_to(Tensor([1, 2]), (2, 2)).tolist()
    [[1, 2], [1, 2]]
    """
    x, shape = as_tensor(x), tuple(shape)
    if x.shape == shape:
        return x
    if x.size == 1 and not x.is_traced:  # a scalar from Python: one fill instead of a constant and its broadcast
        return creation.FullOp.apply(value=x.numpy().reshape(()), shape=shape)
    if broadcast_shapes(x.shape, shape) != shape:
        raise ShapeError(f"{x.spec} can't be broadcast to shape {shape}")
    return movement.BroadcastInDimOp.apply(x, shape=shape, dims=tuple(range(len(shape) - x.ndim, len(shape))))


def broadcast(*operands: Tensor) -> list[Tensor]:
    """The operands broadcast against each other."""
    shape = broadcast_shapes(*(x.shape for x in operands))
    return [broadcast_to(x, shape) for x in operands]


def shape_tuple(shape: int | Sequence[int]) -> tuple[int, ...]:
    """A shape as a tuple; an int, Python's or NumPy's, stands for one axis."""
    return (int(shape),) if isinstance(shape, int | np.integer) else tuple(shape)


def axes_tuple(axis: int | Sequence[int] | None, rank: int) -> tuple[int, ...]:
    """``axis`` as ascending axes counted from the front; None is all of them."""
    if axis is None:
        return tuple(range(rank))
    axes = (axis,) if isinstance(axis, int) else tuple(axis)
    for a in axes:
        if not -rank <= a < rank:
            raise ShapeError(f"axis {a} is out of range for rank {rank}")
    normal = sorted(a % rank for a in axes)
    if len(set(normal)) != len(normal):
        raise ShapeError(f"axes {axes} repeat")
    return tuple(normal)
