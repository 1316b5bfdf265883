"""Files that are mapped into memory, and arrays that lie in them."""

from __future__ import annotations

import math
import mmap
from pathlib import Path

import numpy as np

from volta_mlir.errors import WeightsError


def mapped(path: Path) -> mmap.mmap:
    """The contents of a file that is not empty; pages are read when they are used."""
    with open(path, "rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def array_at(data: mmap.mmap, offset: int, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """The array of this shape and dtype that starts at a byte, read-only and without a copy."""
    size = math.prod(shape)
    if not 0 <= offset <= offset + size * dtype.itemsize <= len(data):
        raise WeightsError(
            f"{size} elements of {dtype.name} at byte {offset} do not lie within the {len(data)} bytes of the file"
        )
    try:
        return np.frombuffer(data, dtype, size, offset).reshape(shape) if size else np.zeros(shape, dtype)
    except ValueError as error:  # more axes or elements than numpy has
        raise WeightsError(f"a tensor of shape {shape}: {error}") from None
