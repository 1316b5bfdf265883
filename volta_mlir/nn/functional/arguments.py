"""What the functions' arguments have in common: checks of them, and the dtype to compute in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from volta_mlir.dtypes import float32, is_float, result_type
from volta_mlir.errors import DTypeError, ShapeError
from volta_mlir.functions.common import as_tensor
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


def optional(x: Any, dtype: np.dtype) -> Tensor | None:
    """``x`` as a tensor of ``dtype``, None if it is None."""
    return None if x is None else as_tensor(x, dtype)


def check_shape(what: str, name: str, x: Any, expected: Sequence[int]) -> None:
    """Raises ShapeError unless the tensor ``x``, if there is one, has the expected shape."""
    if x is not None and as_tensor(x).shape != tuple(expected):
        raise ShapeError(f"{what}: expected {name} of shape {tuple(expected)}, got {as_tensor(x).spec}")
