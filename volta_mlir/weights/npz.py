"""numpy's ``.npz``: a zip archive of ``.npy`` files (https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html)."""

from __future__ import annotations

import functools
import math
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from volta_mlir.errors import WeightsError

# No deflated byte stands for more than this many (https://zlib.net/zlib_tech.html).
_MAX_RATIO = 1032


def entries(path: Path) -> dict[str, Callable[[], np.ndarray]]:
    """For each array a function that reads it."""
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    if not members or not all(member.filename.endswith(".npy") for member in members):
        raise WeightsError("a zip archive that is neither PyTorch's, with a data.pkl, nor .npz, with .npy files alone")
    return {member.filename.removesuffix(".npy"): functools.partial(_read, path, member) for member in members}


def metadata(path: Path) -> dict[str, Any]:
    """The format has none."""
    entries(path)
    return {}


def _read(path: Path, member: zipfile.ZipInfo) -> np.ndarray:
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise WeightsError(f"it is compressed by method {member.compress_type}; numpy deflates")
    if member.file_size > _MAX_RATIO * member.compress_size or member.compress_size > path.stat().st_size:
        raise WeightsError(f"{member.compress_size} bytes of the archive can't hold {member.file_size} bytes")
    try:
        with zipfile.ZipFile(path) as archive, archive.open(member) as file:
            version = np.lib.format.read_magic(file)
            read_header = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }.get(version)
            if read_header is None:
                raise WeightsError(f".npy version {version}")
            shape, fortran, dtype = read_header(file)
            size = math.prod(shape) * dtype.itemsize
            if dtype.hasobject:
                raise WeightsError("it holds Python objects, as a pickle, which is not loaded")
            if size != member.file_size - file.tell():
                raise WeightsError(f"shape {shape} of {dtype} takes {size} bytes, not {member.file_size - file.tell()}")
            data = file.read()
            return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError, RuntimeError) as error:
        if isinstance(error, WeightsError):
            raise
        raise WeightsError(f"damaged: {error}") from error


def check_writable(arrays: Mapping[str, np.ndarray]) -> None:
    """Raises WeightsError for what would not come back as it is."""
    for name, array in arrays.items():
        if array.dtype.name == "bfloat16":
            raise WeightsError(f"{name!r}: .npz has no bfloat16; write .safetensors, or convert it to float32")


def write(file: BinaryIO, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes an archive; numpy's own ``savez`` takes no array of the name ``file``."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
