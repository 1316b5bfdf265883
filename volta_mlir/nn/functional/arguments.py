"""What the functions' arguments have in common: checks of them, and the dtype to compute in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from volta_mlir.dtypes import float32, int32, int64, is_float, is_integer, result_type, uint32
from volta_mlir.errors import DTypeError, ShapeError
from volta_mlir.functions.common import as_tensor, broadcast, promote
from volta_mlir.tensor import Tensor


def float_tensor(what: str, input: Any) -> Tensor:
    """``input`` as a tensor of floating-point numbers; raises DTypeError for other dtypes."""
    input = as_tensor(input)
    if not is_float(input.dtype):
        raise DTypeError(f"{what}: expected an input of floating-point numbers, got {input.spec}")
    return input


def compute_dtype(*operands: Any) -> np.dtype:
    """The common dtype of the operands that are not None, float32 instead of half precision."""
    dtype = result_type(*(x for x in operands if x is not None))
    return float32 if dtype.itemsize < 4 else dtype


def float_pair(what: str, x1: Any, x2: Any) -> tuple[Tensor, Tensor, np.dtype]:
    """Two tensors broadcast to one shape, of the dtype to compute in, and the dtype of the result."""
    x1, x2 = promote(as_tensor(x1), as_tensor(x2))
    if not is_float(x1.dtype):
        raise DTypeError(f"{what}: expected floating-point numbers, got {x1.spec} and {x2.spec}")
    dtype = compute_dtype(x1)
    wide1, wide2 = broadcast(as_tensor(x1, dtype), as_tensor(x2, dtype))
    return wide1, wide2, x1.dtype


def optional(x: Any, dtype: np.dtype) -> Tensor | None:
    """``x`` as a tensor of ``dtype``, None if it is None."""
    return None if x is None else as_tensor(x, dtype)


def check_shape(what: str, name: str, x: Any, expected: Sequence[int]) -> None:
    """Raises ShapeError unless the tensor ``x``, if there is one, has the expected shape."""
    if x is not None and as_tensor(x).shape != tuple(expected):
        raise ShapeError(f"{what}: expected {name} of shape {tuple(expected)}, got {as_tensor(x).spec}")


def one_axis(what: str, input: Tensor, dim: int) -> int:
    """``dim`` counted from the front; like PyTorch, a tensor of rank 0 takes 0 and -1."""
    rank = max(input.ndim, 1)
    if not isinstance(dim, int | np.integer):
        raise DTypeError(f"{what}: expected dim to be an int, got {dim!r}")
    if not -rank <= dim < rank:
        raise ShapeError(
            f"{what}: dimension out of range (expected to be in range of [{-rank}, {rank - 1}], but got {dim}) for"
            f" {input.spec}"
        )
    return dim % rank


def index_tensor(what: str, name: str, x: Any, bound: int, ignored: int | None = None) -> Tensor:
    """Integers of any dtype as int32 or int64. Values that are known must lie in [0, bound), or be ``ignored``."""
    x = as_tensor(x)
    if not x.size and not x.is_traced:
        x = as_tensor(x, int32)  # an empty list has no dtype of its own
    if not is_integer(x.dtype):
        raise DTypeError(f"{what}: expected integers as {name}, got {x.spec}")
    if not x.is_traced:
        values = x.numpy()
        wrong = (values < 0) | (values >= bound)
        if ignored is not None:
            wrong &= values != ignored
        if wrong.any():
            raise ShapeError(f"{what}: {name} {values[wrong][0]} is out of bounds; expected 0 to {bound - 1}")
    return as_tensor(x, int64 if x.dtype.itemsize == 8 or x.dtype == uint32 else int32)


def per_axis(what: str, name: str, value: int | Sequence[int], rank: int) -> tuple[int, ...]:
    """An int for each of the spatial axes; one int, or a sequence of one, is for all of them."""
    values = tuple(value) if isinstance(value, Iterable) else (value,)
    if not all(isinstance(v, int | np.integer) for v in values):
        raise DTypeError(f"{what}: expected {name} to be an int or {rank} of them, got {value!r}")
    if len(values) not in (1, rank):
        raise ShapeError(f"{what}: expected {name} to be an int or {rank} of them, got {value}")
    return values * (rank // len(values))


def with_batch(what: str, x: Tensor, rank: int) -> tuple[Tensor, bool]:
    """An input with ``rank`` spatial axes as one that has a batch axis, and whether it has one of its own."""
    if x.ndim not in (rank + 1, rank + 2):
        raise ShapeError(f"{what}: expected an input of rank {rank + 1} (unbatched) or {rank + 2}, got {x.spec}")
    return (x, True) if x.ndim == rank + 2 else (x.expand_dims(0), False)
