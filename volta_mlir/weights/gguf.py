"""GGUF, the format of llama.cpp (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md).

The file's structure is read here, with every length checked before it is used; the `gguf` library knows how its many
quantizations are undone.
"""

from __future__ import annotations

import functools
import importlib
import math
import mmap
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from volta_mlir.dtypes import bfloat16
from volta_mlir.errors import WeightsError
from volta_mlir.weights.mapped import array_at, mapped

_VERSIONS = (2, 3)
_MAX_AXES = 8
# The types of values, by number: struct's codes of the scalars.
_SCALARS = ("B", "b", "H", "h", "I", "i", "f", "?", None, None, "Q", "q", "d")
_STRING, _ARRAY = 8, 9
# The types of tensors that are stored as they are, by the library's names.
_PLAIN = {
    "F32": np.dtype("float32"), "F16": np.dtype("float16"), "BF16": bfloat16, "F64": np.dtype("float64"),
    "I8": np.dtype("int8"), "I16": np.dtype("int16"), "I32": np.dtype("int32"), "I64": np.dtype("int64"),
}  # fmt: skip


@dataclass(frozen=True)
class _Tensor:
    """What the header says of a tensor; ``kind`` is the number of its type, ``offset`` counts from the data's start."""

    shape: tuple[int, ...]
    kind: int
    offset: int


@dataclass(frozen=True)
class _File:
    data: mmap.mmap
    values: dict[str, Any]
    tensors: dict[str, _Tensor]
    start: int


class _Cursor:
    """A place in a file, which never leaves it."""

    def __init__(self, data: mmap.mmap, position: int) -> None:
        self.data, self.position = data, position

    def need(self, count: int, what: str) -> None:
        if count > len(self.data) - self.position:
            left = len(self.data) - self.position
            raise WeightsError(f"{what} at byte {self.position} takes {count} bytes, of which {left} are left")

    def take(self, count: int, what: str) -> bytes:
        self.need(count, what)
        self.position += count
        return self.data[self.position - count : self.position]

    def scalar(self, code: str, what: str) -> Any:
        return struct.unpack(f"<{code}", self.take(struct.calcsize(f"<{code}"), what))[0]

    def string(self, what: str) -> str:
        start = self.position
        try:
            return self.take(self.scalar("Q", what), what).decode()
        except UnicodeDecodeError as error:
            raise WeightsError(f"{what} at byte {start} is not UTF-8: {error.reason}") from None

    def value(self, what: str) -> Any:
        kind = self.scalar("I", what)
        if kind != _ARRAY:
            return self._one(kind, what)
        kind, count = self.scalar("I", what), self.scalar("Q", what)
        if kind == _STRING:
            self.need(8 * count, what)  # the lengths alone
            return [self.string(f"{what}[{i}]") for i in range(count)]
        code = self._code(kind, what)
        return list(struct.unpack(f"<{count}{code}", self.take(count * struct.calcsize(f"<{code}"), what)))

    def _one(self, kind: int, what: str) -> Any:
        return self.string(what) if kind == _STRING else self.scalar(self._code(kind, what), what)

    def _code(self, kind: int, what: str) -> str:
        code = _SCALARS[kind] if kind < len(_SCALARS) else None
        if code is None:
            raise WeightsError(f"{what} at byte {self.position} is of the unknown type {kind}")
        return code


def entries(path: Path) -> dict[str, Callable[[], np.ndarray]]:
    """For each tensor a function that reads it, and undoes its quantization."""
    library = _library()
    file = _read(path)
    spans = {name: (tensor.offset, _nbytes(library, name, tensor)) for name, tensor in file.tensors.items()}
    end, before = 0, ""
    for name, (offset, nbytes) in sorted(spans.items(), key=lambda item: item[1]):
        if offset < end:
            raise WeightsError(f"{name!r} at byte {file.start + offset} overlaps {before!r}")
        if file.start + offset + nbytes > len(file.data):
            raise WeightsError(
                f"{name!r} takes {nbytes} bytes at byte {file.start + offset}, but the file has {len(file.data)}"
            )
        end, before = offset + nbytes, name
    return {name: functools.partial(_decoded, library, file, tensor) for name, tensor in file.tensors.items()}


def metadata(path: Path) -> dict[str, Any]:
    """The file's keys and values; arrays are lists."""
    return _read(path).values


def _library() -> ModuleType:
    try:
        return importlib.import_module("gguf")
    except ImportError as error:
        raise WeightsError("reading GGUF needs the library gguf: pip install 'volta-mlir[gguf]'") from error


def _read(path: Path) -> _File:
    data = mapped(path)
    cursor = _Cursor(data, 4)
    version = cursor.scalar("I", "the version")
    if version not in _VERSIONS:
        raise WeightsError(f"version {version} of GGUF; little-endian files of the versions 2 and 3 are read")
    tensor_count, value_count = cursor.scalar("Q", "the number of tensors"), cursor.scalar("Q", "the number of values")
    values: dict[str, Any] = {}
    for _ in range(value_count):
        key = cursor.string("a key")
        if key in values:
            raise WeightsError(f"the key {key!r} occurs twice")
        values[key] = cursor.value(repr(key))
    tensors: dict[str, _Tensor] = {}
    for _ in range(tensor_count):
        name = cursor.string("the name of a tensor")
        if name in tensors:
            raise WeightsError(f"the tensor {name!r} occurs twice")
        axes = cursor.scalar("I", repr(name))
        if axes > _MAX_AXES:
            raise WeightsError(f"{name!r} at byte {cursor.position} has {axes} axes")
        extents = [cursor.scalar("Q", repr(name)) for _ in range(axes)]
        kind, offset = cursor.scalar("I", repr(name)), cursor.scalar("Q", repr(name))
        tensors[name] = _Tensor(tuple(reversed(extents)), kind, offset)  # the fastest axis comes first in the file
    alignment = values.get("general.alignment", 32)
    if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
        raise WeightsError(f"general.alignment is {alignment!r}, which is no power of two")
    return _File(data, values, tensors, -(-cursor.position // alignment) * alignment)


def _nbytes(library: ModuleType, name: str, tensor: _Tensor) -> int:
    try:
        block, size = library.GGML_QUANT_SIZES[library.GGMLQuantizationType(tensor.kind)]
    except (ValueError, KeyError):
        raise WeightsError(f"{name!r} is of the unknown type {tensor.kind}") from None
    row = (1, *tensor.shape)[-1]
    if row % block:
        raise WeightsError(f"{name!r} has rows of {row} elements, which are no blocks of {block}")
    return math.prod(tensor.shape) // block * size


def _decoded(library: ModuleType, file: _File, tensor: _Tensor) -> np.ndarray:
    kind = library.GGMLQuantizationType(tensor.kind)
    start = file.start + tensor.offset
    if kind.name in _PLAIN:
        return array_at(file.data, start, tensor.shape, _PLAIN[kind.name])
    if not math.prod(tensor.shape):
        return array_at(file.data, start, tensor.shape, _PLAIN["F32"])
    block, size = library.GGML_QUANT_SIZES[kind]
    rows = array_at(file.data, start, (*tensor.shape[:-1], tensor.shape[-1] // block * size), np.dtype("uint8"))
    try:
        with np.errstate(all="ignore"):  # a scale may be infinite
            return library.dequantize(rows, kind)
    except NotImplementedError:
        raise WeightsError(f"the quantization {kind.name} is not supported") from None
