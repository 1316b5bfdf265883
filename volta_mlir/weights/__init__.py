"""Weights in files: safetensors, PyTorch's ``.pt`` and ``.pth``, numpy's ``.npz``, and GGUF.

Reading executes nothing from a file, and needs neither PyTorch nor a device. Each format is a module that gives, for
each name, a function that reads the tensor: what is not asked for is not read.
"""

from __future__ import annotations

import contextlib
import difflib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from volta_mlir.atomic import replacing
from volta_mlir.dtypes import TensorSpec, as_dtype, is_float
from volta_mlir.errors import DTypeError, WeightsError
from volta_mlir.tensor import Tensor
from volta_mlir.weights import gguf, npz, pytorch, safetensors

__all__ = ["load", "metadata", "save"]


def load(path: str | os.PathLike[str], names: Iterable[str] | None = None, dtype: Any = None) -> dict[str, Tensor]:
    """The tensors of a file by name. Its contents tell the format, not its suffix.

    Formats:
        safetensors: the tensors are mapped into memory and read when they are used; until then the file must not be
            overwritten in place.
        PyTorch's, zip or legacy: names in nested containers are joined with dots: ``optimizer.state.0.step``. A file
            may hold tensors, containers and numbers; one that asks for any other class or function is refused.
        npz: as ``numpy.savez`` and ``savez_compressed`` write it.
        GGUF (needs the extra ``gguf``): quantized tensors become float32, the others keep their dtype.

    Args:
        path: the file.
        names: which tensors to read; default all.
        dtype: what floating-point tensors are converted to; default none.

    Raises:
        WeightsError: the file is missing, damaged or of no known format, or it has no tensor of a name, or one of a
            dtype that Volta does not have; the message names the file and the tensor.

    Example:
        >>> from volta_mlir import nn
        >>> save("/tmp/volta-linear.safetensors", nn.Linear(3, 2).state_dict())
        >>> weights = load("/tmp/volta-linear.safetensors")
        >>> {name: str(tensor.spec) for name, tensor in weights.items()}
        {'weight': 'float32[2,3]', 'bias': 'float32[2]'}
        >>> nn.Linear(3, 2).load_state_dict(weights)
        IncompatibleKeys(missing_keys=[], unexpected_keys=[])
    """
    target = None if dtype is None else as_dtype(dtype)
    if target is not None and not is_float(target):
        raise DTypeError(f"dtype is what floating-point tensors are converted to, got {target.name}")
    with _errors_name(path):
        entries = _format(Path(path)).entries(Path(path))
        chosen = list(entries) if names is None else list(names)
        for name in chosen:
            if name not in entries:
                close = difflib.get_close_matches(name, entries, 3)
                hint = f"; the closest names are {', '.join(close)}" if close else ""
                raise WeightsError(f"there is no tensor {name!r} among {len(entries)}{hint}")
        return {name: _tensor(name, entries[name], target) for name in chosen}


def metadata(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What a file says beside its tensors.

    A GGUF file's keys and values, such as ``llama.block_count``, and its vocabulary under ``tokenizer.ggml.tokens``,
    ``scores``, ``merges`` and their like; a safetensors file's strings; of other formats nothing.

    Raises:
        WeightsError: the file is missing, damaged or of no known format.

    >>> save("/tmp/volta-one.safetensors", {"x": Tensor([1.0])}, {"made by": "volta"})
    >>> metadata("/tmp/volta-one.safetensors")["made by"]
    'volta'
    """
    with _errors_name(path):
        return _format(Path(path)).metadata(Path(path))


def save(path: str | os.PathLike[str], state: Mapping[str, Any], metadata: Mapping[str, str] | None = None) -> None:
    """Writes tensors by name, as ``model.state_dict()`` gives them, atomically; the suffix tells the format.

    PyTorch reads what is written with ``safetensors.torch.load_file``. Tensors that are tied are written once for each
    name, as PyTorch's ``load_state_dict`` wants them.

    Args:
        path: ends in ``.safetensors`` or ``.npz``.
        state: Tensors or arrays by name.
        metadata: strings that are kept beside the tensors; ``.safetensors`` only.

    Raises:
        WeightsError: the suffix is another, a dtype is not Volta's or not the format's, or the file cannot be written.
        TraceError: a tensor is traced and has no data yet.

    >>> save("/tmp/volta-one.npz", {"x": Tensor([1.0])})
    >>> np.load("/tmp/volta-one.npz")["x"]
    array([1.], dtype=float32)
    """
    with _errors_name(path):
        arrays = {name: array_of(name, value) for name, value in state.items()}
        suffix = Path(path).suffix
        if suffix == ".safetensors":
            # What other libraries write: it says that names and layouts are PyTorch's.
            parts = safetensors.serialized(arrays, {"format": "pt", **(metadata or {})})
            with replacing(path) as file:
                file.writelines(parts)
        elif suffix == ".npz" and not metadata:
            npz.check_writable(arrays)
            with replacing(path) as file:
                npz.write(file, arrays)
        else:
            raise WeightsError(
                "an .npz file has no metadata; .safetensors has"
                if suffix == ".npz"
                else f"the suffix is {suffix!r}: weights are written as .safetensors or .npz"
            )


def array_of(name: str, value: Any) -> np.ndarray:
    """A tensor's or an array's values in native byte order; WeightsError for a dtype that Volta does not have."""
    array = np.asarray(value.numpy() if isinstance(value, Tensor) else value)
    _dtype_of(name, array)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _dtype_of(name: str, array: np.ndarray) -> np.dtype:
    try:
        return as_dtype(array.dtype)
    except DTypeError as error:
        raise WeightsError(f"{name!r} has an {error.message}") from None


def _tensor(name: str, read: Callable[[], np.ndarray], target: np.dtype | None) -> Tensor:
    try:
        array = read()
    except WeightsError as error:
        raise WeightsError(f"{name!r}: {error.message}") from error
    array = array_of(name, array)
    if target is not None and is_float(_dtype_of(name, array)):
        array = array.astype(target, copy=False)
    array = array if array.flags.aligned else array.copy()
    return Tensor._concrete(array, TensorSpec(array.shape, _dtype_of(name, array)))


def _format(path: Path) -> Any:
    """The module that reads a file."""
    with open(path, "rb") as file:
        start = file.read(16)
    # In this order: safetensors starts with a length, which may be any bytes but those of GGUF, being below 100 MB; in
    # the other formats the ninth byte is no brace.
    if start.startswith(b"GGUF"):
        return gguf
    if start[8:9] == b"{":
        return safetensors
    if start.startswith(b"PK"):
        return pytorch if pytorch.is_archive(path) else npz
    if start.startswith(b"\x80"):
        return pytorch
    raise WeightsError(
        f"it is neither safetensors, nor PyTorch's, nor .npz, nor GGUF: it starts with {start[:8]!r}"
        if start
        else "the file is empty"
    )


@contextlib.contextmanager
def _errors_name(path: str | os.PathLike[str]) -> Iterator[None]:
    try:
        yield
    except WeightsError as error:
        raise WeightsError(f"{os.fspath(path)}: {error.message}") from error
    except OSError as error:
        raise WeightsError(f"{os.fspath(path)}: {error.strerror or error}") from error
