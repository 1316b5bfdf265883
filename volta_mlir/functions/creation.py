"""Functions that make tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from volta_mlir.dialects import creation as ops
from volta_mlir.dtypes import DEFAULT_FLOAT, DEFAULT_INT, as_dtype, result_type
from volta_mlir.functions.common import as_tensor, shape_tuple
from volta_mlir.tensor import Tensor

__all__ = ["arange", "array", "full", "full_like", "iota", "ones", "ones_like", "zeros", "zeros_like"]


def array(data: Any, dtype: Any = None) -> Tensor:
    """A Tensor of ``data``; Python floats become float32 and ints int32 unless ``dtype`` says otherwise.

    >>> array([1, 2]).dtype.name
    'int32'
    """
    return as_tensor(data) if dtype is None else as_tensor(data, as_dtype(dtype))


def full(shape: int | Sequence[int], value: Any, dtype: Any = None) -> Tensor:
    """A tensor of ``shape`` filled with a number.

    >>> full((2,), 3).tolist()
    [3, 3]
    """
    shape = shape_tuple(shape)
    dtype = result_type(value) if dtype is None else as_dtype(dtype)
    return ops.FullOp.apply(value=np.asarray(value).astype(dtype).reshape(()), shape=shape)


def zeros(shape: int | Sequence[int], dtype: Any = DEFAULT_FLOAT) -> Tensor:
    """Zeros.

    >>> zeros((1, 2)).tolist()
    [[0.0, 0.0]]
    """
    return full(shape, 0, dtype)


def ones(shape: int | Sequence[int], dtype: Any = DEFAULT_FLOAT) -> Tensor:
    """Ones.

    >>> ones(2).tolist()
    [1.0, 1.0]
    """
    return full(shape, 1, dtype)


def full_like(x: Any, value: Any, dtype: Any = None) -> Tensor:
    """:func:`full` with the shape and dtype of ``x``.

    >>> full_like(zeros(2), 7).tolist()
    [7.0, 7.0]
    """
    x = as_tensor(x)
    return full(x.shape, value, x.dtype if dtype is None else dtype)


def zeros_like(x: Any, dtype: Any = None) -> Tensor:
    """Zeros with the shape and dtype of ``x``.

    >>> zeros_like(ones(2)).tolist()
    [0.0, 0.0]
    """
    return full_like(x, 0, dtype)


def ones_like(x: Any, dtype: Any = None) -> Tensor:
    """Ones with the shape and dtype of ``x``.

    >>> ones_like(zeros(2)).tolist()
    [1.0, 1.0]
    """
    return full_like(x, 1, dtype)


def iota(shape: Sequence[int], axis: int = 0, dtype: Any = DEFAULT_INT) -> Tensor:
    """Indices along one axis of ``shape``.

    >>> iota((2, 2), axis=1).tolist()
    [[0, 1], [0, 1]]
    """
    return ops.IotaOp.apply(shape=tuple(shape), axis=axis, dtype=as_dtype(dtype))


def arange(start: int, stop: int | None = None, step: int = 1, dtype: Any = None) -> Tensor:
    """Evenly spaced numbers, as Python's ``range``; the arguments are Python numbers.

    >>> arange(1, 7, 2).tolist()
    [1, 3, 5]
    """
    start, stop = (0, start) if stop is None else (start, stop)
    dtype = result_type(start, stop, step) if dtype is None else as_dtype(dtype)
    count = max(0, int(np.ceil((stop - start) / step)))
    indices = iota((count,), dtype=dtype)
    return indices * step + start if (start, step) != (0, 1) else indices
