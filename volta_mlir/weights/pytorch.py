"""What ``torch.save`` writes, read without PyTorch.

Since version 1.6 that is a zip archive: ``data.pkl``, a pickle in which storages are persistent ids, and one file for
each storage. Before, it was five things one after another: the pickles of a magic number, the protocol's version, the
system, the object, and the keys of the storages, and then for each storage the number of its elements and the elements
(``torch/serialization.py``).
"""

from __future__ import annotations

import functools
import io
import mmap
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from volta_mlir.dtypes import bfloat16
from volta_mlir.errors import WeightsError
from volta_mlir.weights.mapped import array_at, mapped
from volta_mlir.weights.unpickle import as_dict, unpickle

_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_VERSION = 1001
_MAX_DEPTH = 100

# PyTorch's names of dtypes, and of the classes of storages.
_DTYPES = {
    **{
        name: np.dtype(name)
        for name in "float64 float32 float16 int64 int32 int16 int8 uint8 uint16 uint32 uint64 bool complex64"
        " complex128".split()
    },
    "bfloat16": bfloat16,
    "float8_e4m3fn": np.dtype(ml_dtypes.float8_e4m3fn),
    "float8_e5m2": np.dtype(ml_dtypes.float8_e5m2),
}
_STORAGES = {
    "DoubleStorage": "float64", "FloatStorage": "float32", "HalfStorage": "float16", "BFloat16Storage": "bfloat16",
    "LongStorage": "int64", "IntStorage": "int32", "ShortStorage": "int16", "CharStorage": "int8",
    "ByteStorage": "uint8", "BoolStorage": "bool", "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
}  # fmt: skip


@dataclass(frozen=True)
class _Storage:
    """A row of elements that tensors are views of."""

    key: str
    dtype: np.dtype
    size: int


@dataclass(frozen=True)
class _View:
    """A tensor: where its elements lie in a storage; offset and strides count elements."""

    storage: _Storage
    dtype: np.dtype
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _rebuild_tensor(storage: Any, offset: Any, shape: Any, strides: Any, *rest: Any) -> _View:
    if not isinstance(storage, _Storage):
        raise WeightsError("a tensor without a storage")
    return _view(storage, storage.dtype, offset, shape, strides)


def _rebuild_tensor_v3(storage: Any, offset: Any, shape: Any, strides: Any, *rest: Any) -> _View:
    """The same of a storage of bytes; ``rest`` holds requires_grad, hooks, and the dtype."""
    if not isinstance(storage, _Storage) or len(rest) < 3 or not isinstance(rest[2], np.dtype):
        raise WeightsError("a tensor without a storage or a dtype")
    return _view(storage, rest[2], offset, shape, strides)


def _view(storage: _Storage, dtype: np.dtype, offset: Any, shape: Any, strides: Any) -> _View:
    # What a file holds is not printed before it is known: it may nest without end.
    if not isinstance(shape, tuple) or not isinstance(strides, tuple) or len(shape) != len(strides):
        raise WeightsError("a tensor whose shape and strides are no tuples of one length")
    if not all(map(_is_size, (offset, *shape, *strides))):
        raise WeightsError("a tensor whose offset, shape or strides are not integers from 0 to 2**63 - 1")
    last = offset + sum((extent - 1) * stride for extent, stride in zip(shape, strides, strict=True))
    if 0 not in shape and (last + 1) * dtype.itemsize > storage.size * storage.dtype.itemsize:
        raise WeightsError(
            f"a {dtype.name} tensor of shape {shape}, strides {strides} and offset {offset} leaves its storage"
            f" {storage.key!r} of {storage.size} elements of {storage.dtype.name}"
        )
    return _View(storage, dtype, offset, shape, strides)


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 63


def _rebuild_parameter(data: Any, *rest: Any) -> Any:
    return data


def _bytes(text: Any = "", encoding: Any = "latin1") -> bytes:
    """How the older protocols write bytes."""
    if not isinstance(text, str) or encoding != "latin1":
        raise WeightsError("bytes in another encoding than Latin-1")
    return text.encode(encoding)


_KNOWN: dict[str, Any] = {
    "_codecs encode": _bytes,
    "__builtin__ bytes": _bytes,
    "collections OrderedDict": lambda items=(): as_dict(items),
    "torch Size": lambda extents=(): tuple(extents),
    "torch._utils _rebuild_tensor": _rebuild_tensor,
    "torch._utils _rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils _rebuild_tensor_v3": _rebuild_tensor_v3,
    "torch._utils _rebuild_parameter": _rebuild_parameter,
    "torch.storage UntypedStorage": _DTYPES["uint8"],
    **{f"torch {name}": dtype for name, dtype in _DTYPES.items()},
    **{f"torch {name}": _DTYPES[dtype] for name, dtype in _STORAGES.items()},
}


def is_archive(path: Path) -> bool:
    """Whether a zip archive is PyTorch's."""
    try:
        with zipfile.ZipFile(path) as archive:
            return _prefix(archive) is not None
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise WeightsError(f"a damaged zip archive: {error}") from error


def entries(path: Path) -> dict[str, Callable[[], np.ndarray]]:
    """For each tensor a function that reads it."""
    with open(path, "rb") as file:
        is_zip = file.read(2) == b"PK"
    views, read = _from_zip(path) if is_zip else _from_legacy(path)
    return {name: functools.partial(_array, view, read) for name, view in views.items()}


def metadata(path: Path) -> dict[str, Any]:
    """What is beside tensors is not kept."""
    entries(path)
    return {}


def _array(view: _View, read: Callable[[_Storage], np.ndarray]) -> np.ndarray:
    storage = read(view.storage)
    whole = storage[: storage.size // view.dtype.itemsize * view.dtype.itemsize].view(view.dtype)
    try:
        if 0 in view.shape:
            return np.zeros(view.shape, view.dtype)
        return np.lib.stride_tricks.as_strided(
            whole[view.offset :], view.shape, [stride * view.dtype.itemsize for stride in view.strides], writeable=False
        )
    except (ValueError, OverflowError) as error:  # more axes or elements than numpy has
        raise WeightsError(f"a tensor of shape {view.shape}: {error}") from None


class _Storages:
    """The persistent ids of a pickle."""

    def __init__(self) -> None:
        self.by_key: dict[str, _Storage] = {}

    def __call__(self, identity: Any) -> _Storage:
        match identity:
            case ("storage", np.dtype() as dtype, str(key), str(), size, *view) if _is_size(size):
                if any(part is not None for part in view):
                    raise WeightsError("a storage that is a part of another one, as PyTorch 0.3 wrote them")
                storage = _Storage(key, dtype, size)
                if self.by_key.setdefault(key, storage) != storage:
                    raise WeightsError(f"the storage {key!r} has two dtypes or sizes")
                return storage
        raise WeightsError("a persistent id that is no storage")


def _named(tree: Any, limit: int) -> dict[str, _View]:
    """The tensors in nested containers by their dotted paths."""
    views: dict[str, _View] = {}
    todo: list[tuple[str, int, Any]] = [("", 0, tree)]
    visited = 0
    while todo:
        path, depth, node = todo.pop()
        visited += 1
        # A file can hold a container in itself, or ten times in each of ten others.
        if visited > limit or depth > _MAX_DEPTH:
            raise WeightsError("its containers hold each other without end")
        if isinstance(node, _View):
            if path in views:
                raise WeightsError(f"two tensors have the name {path!r}")
            views[path] = node
        elif isinstance(node, (dict, list, tuple)):
            items = node.items() if isinstance(node, dict) else enumerate(node)
            todo += reversed([(f"{path}.{key}" if path else str(key), depth + 1, value) for key, value in items])
    return views


_Read = Callable[[_Storage], np.ndarray]


# -- zip -------------------------------------------------------------------------------------------------------------


def _prefix(archive: zipfile.ZipFile) -> str | None:
    """The name of the archive's only directory, where it is PyTorch's."""
    for name in archive.namelist():
        directory, _, file = name.rpartition("/")
        if file == "data.pkl" and "/" not in directory:
            return f"{directory}/" if directory else ""
    return None


def _from_zip(path: Path) -> tuple[dict[str, _View], _Read]:
    with zipfile.ZipFile(path) as archive:
        prefix = _prefix(archive) or ""
        members = {info.filename: info for info in archive.infolist()}
        if f"{prefix}constants.pkl" in members:
            raise WeightsError("a TorchScript program, not weights; save its state_dict() instead")
        packed = [info.filename for info in members.values() if info.compress_type != zipfile.ZIP_STORED]
        if packed:
            raise WeightsError(f"{packed[0]!r} is compressed, which PyTorch never does")
        if sum(info.file_size for info in members.values()) > path.stat().st_size:
            raise WeightsError("its members are larger than the archive: they overlap")
        if f"{prefix}byteorder" in members and _member(archive, members[f"{prefix}byteorder"]) != b"little":
            raise WeightsError("it was written by a big-endian machine")
        pickle = _member(archive, members[f"{prefix}data.pkl"])
    views = _named(unpickle(io.BytesIO(pickle), _KNOWN, _Storages()), _limit(len(pickle)))

    @functools.cache  # views of one storage share it
    def read(storage: _Storage) -> np.ndarray:
        name = f"{prefix}data/{storage.key}"
        if name not in members:
            raise WeightsError(f"the archive has no {name!r}")
        expected = storage.size * storage.dtype.itemsize
        if members[name].file_size < expected:
            raise WeightsError(f"{name!r} has {members[name].file_size} bytes, not {expected}")
        with zipfile.ZipFile(path) as archive:
            return np.frombuffer(_member(archive, members[name]), np.uint8)[:expected]

    return views, read


def _limit(size: int) -> int:
    """How many containers and leaves a pickle of a size has at most, unless some are there many times over."""
    return 10_000 + 4 * size


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    try:
        return archive.read(info)
    except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError, RuntimeError) as error:
        raise WeightsError(f"{info.filename!r} at byte {info.header_offset} is damaged: {error}") from error


# -- legacy ----------------------------------------------------------------------------------------------------------


def _from_legacy(path: Path) -> tuple[dict[str, _View], _Read]:
    data = mapped(path)
    storages = _Storages()
    magic = unpickle(data, {}, storages)
    if type(magic) is not int or magic != _MAGIC:
        raise WeightsError("a pickle that torch.save did not write")
    version = unpickle(data, {}, storages)
    if type(version) is not int or version != _LEGACY_VERSION:
        raise WeightsError(f"another version of PyTorch's legacy format than {_LEGACY_VERSION}")
    system = unpickle(data, {}, storages)
    if not isinstance(system, Mapping) or system.get("little_endian") is not True:
        raise WeightsError("it was written by a big-endian machine")
    start = data.tell()
    tree = unpickle(data, _KNOWN, storages)
    views = _named(tree, _limit(data.tell() - start))
    keys = unpickle(data, {}, storages)
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise WeightsError(f"the keys of the storages, before byte {data.tell()}, are no list of strings")
    offsets = _legacy_offsets(data, keys, storages.by_key)

    def read(storage: _Storage) -> np.ndarray:
        if storage.key not in offsets:
            raise WeightsError(f"the file has no storage {storage.key!r}")
        size = storage.size * storage.dtype.itemsize
        return array_at(data, offsets[storage.key], (size,), np.dtype("uint8"))

    return views, read


def _legacy_offsets(data: mmap.mmap, keys: list[str], storages: dict[str, _Storage]) -> dict[str, int]:
    """Where each storage's elements start."""
    offsets: dict[str, int] = {}
    position = data.tell()
    for key in keys:
        storage = storages.get(key)
        size = int.from_bytes(data[position : position + 8], "little")
        if storage is None or size != storage.size:
            raise WeightsError(
                f"the storage {key!r} at byte {position} has {size} elements, not {storage.size if storage else 'any'}"
            )
        offsets[key] = position + 8
        position += 8 + size * storage.dtype.itemsize
        if position > len(data):
            raise WeightsError(f"the storage {key!r} ends at byte {position}, but the file has {len(data)} bytes")
    return offsets
