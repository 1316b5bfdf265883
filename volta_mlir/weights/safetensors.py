"""safetensors: a header in JSON, and the tensors behind it (https://huggingface.co/docs/safetensors)."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import safetensors

from volta_mlir.dtypes import DTYPES
from volta_mlir.errors import WeightsError
from volta_mlir.weights.mapped import array_at, mapped

_ALIGNMENT = 8


def _code(dtype: np.dtype) -> str:
    """The format's name of a dtype: F32, BF16, U8, BOOL."""
    if dtype.name == "bool":
        return "BOOL"
    kind = {"bfloat16": "BF"}.get(dtype.name, dtype.kind.upper())
    return f"{kind}{8 * dtype.itemsize}"


_CODES = {dtype: _code(dtype) for dtype in DTYPES}
_DTYPES = {code: dtype for dtype, code in _CODES.items()}
# Volta has no such tensors; the message of the error names the dtype.
_DTYPES |= {"F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn), "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2)}


def entries(path: Path) -> dict[str, Callable[[], np.ndarray]]:
    """For each tensor, in the order of the file, a function that reads it."""
    header, start = _header(path)
    data = mapped(path)

    def read(entry: Any) -> np.ndarray:
        if entry["dtype"] not in _DTYPES:
            raise WeightsError(f"unsupported dtype {entry['dtype']}")
        return array_at(data, start + entry["data_offsets"][0], tuple(entry["shape"]), _DTYPES[entry["dtype"]])

    header.pop("__metadata__", None)
    names = sorted(header, key=lambda name: header[name]["data_offsets"])
    return {name: functools.partial(read, header[name]) for name in names}


def metadata(path: Path) -> dict[str, str]:
    """The strings beside the tensors."""
    return _header(path)[0].get("__metadata__") or {}


def _header(path: Path) -> tuple[dict[str, Any], int]:
    """The header, which the library has checked, and the byte where the tensors start."""
    try:
        # It sees to it that offsets are in range, fit the shapes, and leave neither gaps nor overlaps.
        with safetensors.safe_open(path, framework="np"):
            pass
    except safetensors.SafetensorError as error:
        raise WeightsError(f"{error} ({path.stat().st_size} bytes)") from error
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        return json.loads(file.read(length)), 8 + length


def serialized(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> Iterator[Any]:
    """The parts of a file with these tensors and strings.

    Not the library's: that replaces the file itself, before it is on the disk, and leaves files behind when it is
    killed.
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    # Wide elements first, so that all are aligned; the order of the names stays otherwise.
    ordered = sorted(arrays.items(), key=lambda item: -item[1].dtype.itemsize)
    offset = 0
    for name, array in ordered:
        end = offset + array.nbytes
        header[name] = {"dtype": _CODES[array.dtype], "shape": array.shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    yield len(text).to_bytes(8, "little")
    yield text
    for _, array in ordered:
        yield contents(array)


def contents(array: np.ndarray) -> Any:
    """The bytes of an array in row-major order, without a copy where they lie so."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
