"""Runs compiled modules. Needs ``iree-base-runtime`` and NumPy, neither the compiler nor MLIR; starts no device."""

from volta_mlir.runtime.buffer import DeviceBuffer, numpy_dtype
from volta_mlir.runtime.device import Device, device, devices
from volta_mlir.runtime.module import Function, LoadedModule, load, read_signature
from volta_mlir.runtime.signature import FunctionSignature, LeafSpec, Signature, Tree, leaf

__all__ = [
    "Device",
    "DeviceBuffer",
    "Function",
    "FunctionSignature",
    "LeafSpec",
    "LoadedModule",
    "Signature",
    "Tree",
    "device",
    "devices",
    "leaf",
    "load",
    "numpy_dtype",
    "read_signature",
]
