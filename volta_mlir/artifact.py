"""Running artifacts: needs IREE's runtime, numpy and optree, neither the compiler nor the MLIR bindings."""

from __future__ import annotations

import os

from volta_mlir.dtypes import TensorSpec
from volta_mlir.runtime.buffer import DeviceBuffer
from volta_mlir.runtime.device import Device
from volta_mlir.runtime.module import LoadedModule
from volta_mlir.tensor import Tensor


def load(source: str | os.PathLike[str] | bytes, device: str | Device | None = None) -> LoadedModule:
    """Loads a ``.vmfb`` that Volta compiled; its functions are attributes that take and return pytrees of tensors.

    Args:
        source: path of the file, or its contents.
        device: where to run, ``"cpu"`` or ``"cuda:0"``; default the CPU.

    Raises:
        ArtifactError: the file is missing or damaged, was not made by Volta, or needs a newer version.
        DeviceError: there is no such device, or the module was compiled for another kind.

    Example:
        >>> import volta_mlir as volta
        >>> volta.jit(lambda x: x + 1).lower(volta.ones(2)).compile().save("/tmp/add_one.vmfb")
        >>> volta.load("/tmp/add_one.vmfb").main(volta.ones(2)).tolist()
        [2.0, 2.0]
    """
    return LoadedModule(source, device, _as_tensor)


def _as_tensor(buffer: DeviceBuffer) -> Tensor:
    return Tensor._concrete(buffer, TensorSpec(buffer.shape, buffer.dtype))
