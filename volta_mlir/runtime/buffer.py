"""Arrays in a device's memory."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np

from volta_mlir.errors import DeviceError, DonatedError, DTypeError
from volta_mlir.runtime.device import Device, device, iree

# NumPy's names to IREE's. Integers have no sign in IREE, so unsigned ones are stored under the signless type.
_ELEMENT_TYPES = {
    "bool": "BOOL_8",
    "int8": "SINT_8",
    "int16": "SINT_16",
    "int32": "SINT_32",
    "int64": "SINT_64",
    "uint8": "INT_8",
    "uint16": "INT_16",
    "uint32": "INT_32",
    "uint64": "INT_64",
    "float16": "FLOAT_16",
    "bfloat16": "BFLOAT_16",
    "float32": "FLOAT_32",
    "float64": "FLOAT_64",
}
_ALIGNMENT = 64  # what IREE asks of host memory that it uses without a copy
_CPU_DLPACK = 1


@functools.cache
def numpy_dtype(name: str) -> np.dtype[Any]:
    """The NumPy dtype called ``name``; ``bfloat16`` comes from ``ml_dtypes``.

    Raises:
        DTypeError: no array can have this dtype here.
    """
    if name not in _ELEMENT_TYPES:
        raise DTypeError(f"dtype {name!r} is not supported: expected one of {', '.join(_ELEMENT_TYPES)}")
    if name == "bfloat16":
        try:
            import ml_dtypes
        except ImportError:
            raise DTypeError("bfloat16 arrays need the package ml_dtypes: pip install ml_dtypes") from None
        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(name)


@functools.cache
def _element_type(name: str) -> Any:
    numpy_dtype(name)  # refuses what is not supported
    return getattr(iree().HalElementType, _ELEMENT_TYPES[name])


class DeviceBuffer:
    """An immutable array in a device's memory.

    The only way its contents change is donation to a call, which takes them away: every later use raises
    ``DonatedError``. NumPy and DLPack views that were handed out before stay as they were, because a buffer with
    views is copied before a call may overwrite it.

    Attributes:
        shape: tuple of int.
        dtype: NumPy dtype.
        device: where it is.
    """

    __slots__ = ("__weakref__", "_address", "_donated_to", "_exports", "_shared", "_view", "device", "dtype", "shape")

    def __init__(self, view: Any, shape: tuple[int, ...], dtype: np.dtype[Any], where: Device) -> None:
        """Wraps an ``iree.runtime.HalBufferView``; use ``from_numpy`` to make an array."""
        self.shape = shape
        self.dtype = dtype
        self.device = where
        self._view = view
        self._exports: list[weakref.ref[np.ndarray[Any, Any]]] = []
        # Whether others may look at this memory in ways that are not tracked.
        self._shared = False
        self._address: int | None = None
        self._donated_to: str | None = None

    @classmethod
    def from_numpy(cls, array: np.ndarray[Any, Any], where: Device | str | None = None) -> DeviceBuffer:
        """Copies an array to a device.

        Always a copy: NumPy arrays can be written to, and these buffers never change.

        Raises:
            DTypeError: the array's dtype is not supported.
        """
        target = device(where)
        native = array.dtype.newbyteorder("=")
        array = np.ascontiguousarray(array, native).reshape(array.shape)  # ascontiguousarray turns scalars into vectors
        runtime = iree()
        usage = runtime.BufferUsage.DEFAULT
        if target.is_host:  # elsewhere this means managed memory, whose pages move whenever the other side looks
            usage |= runtime.BufferUsage.MAPPING
        view = target.hal.allocator.allocate_buffer_copy(
            memory_type=runtime.MemoryType.DEVICE_LOCAL,
            allowed_usage=usage,
            device=target.hal,
            buffer=_as_storage(array),
            element_type=_element_type(array.dtype.name),
        )
        return cls(view, array.shape, array.dtype, target)

    @classmethod
    def from_dlpack(cls, array: Any) -> DeviceBuffer:
        """Takes an array of another library; without a copy where it is contiguous and aligned, on the CPU.

        The other library must not write to the memory while this buffer, or a result that is the same array, is used.

        Raises:
            DTypeError: the dtype is not supported.
            DeviceError: the array is not in the host's memory.
        """
        if array.__dlpack_device__()[0] != _CPU_DLPACK:
            # Nothing here could wait for the work that the other library still has queued.
            raise DeviceError("this array is in a device's memory: move it to the CPU first")
        try:
            host = np.from_dlpack(array)
        except (BufferError, TypeError, RuntimeError):  # NumPy has no bfloat16
            return cls._from_capsule(array.__dlpack__(), device("cpu"))
        _element_type(host.dtype.name)
        if host.flags.c_contiguous and host.ctypes.data % _ALIGNMENT == 0 and host.size:
            return cls._from_capsule(array.__dlpack__(), device("cpu"))
        return cls.from_numpy(host)

    @classmethod
    def _from_capsule(cls, capsule: Any, where: Device) -> DeviceBuffer:
        runtime = iree()
        try:
            view = where.hal.from_dlpack_capsule(capsule)
        except Exception as error:  # nanobind maps IREE's status codes to various types
            raise DTypeError(f"DLPack does not hand this array over ({error}); convert it to NumPy first") from None
        names = {int(getattr(runtime.HalElementType, value)): name for name, value in _ELEMENT_TYPES.items()}
        names |= {int(getattr(runtime.HalElementType, f"UINT_{n}")): f"uint{n}" for n in (8, 16, 32, 64)}
        name = names.get(int(view.element_type))
        if name is None:
            raise DTypeError(f"this array's element type is not supported: expected one of {', '.join(_ELEMENT_TYPES)}")
        buffer = cls(view, tuple(view.shape), numpy_dtype(name), where)
        buffer._shared = True
        return buffer

    # Looking at it.

    @property
    def view(self) -> Any:
        """IREE's buffer view. Raises DonatedError after donation."""
        if self._view is None:
            raise DonatedError(
                f"this array was donated as {self._donated_to} and its memory now holds a result: "
                "use the call's result instead, or pass a clone() where the old value is still needed"
            )
        return self._view

    @property
    def donated(self) -> bool:
        """Whether a call took the contents away."""
        return self._view is None

    @property
    def nbytes(self) -> int:
        """Bytes of the contents."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    def numpy(self) -> np.ndarray[Any, Any]:
        """The contents as a read-only array: without a copy on the CPU, else a copy. Keeps the memory alive.

        Raises:
            DonatedError: the buffer was donated.
        """
        array = self._export()
        array.flags.writeable = False
        return array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        array = self.numpy()
        if dtype is not None and np.dtype(dtype) != array.dtype:
            if copy is False:
                raise ValueError(f"a {array.dtype} array cannot become {np.dtype(dtype)} without a copy")
            return array.astype(dtype)
        return array.copy() if copy else array

    def __dlpack__(self, **options: Any) -> Any:
        """A DLPack capsule, without a copy on the CPU. The consumer must not write to it."""
        if self.device.is_host and self.dtype.name != "bfloat16":
            return self._export().__dlpack__(**options)
        if self.device.is_host:
            self._shared = True  # IREE's capsules do not tell when they are released
            return self.device.hal.create_dlpack_capsule(self.view, _CPU_DLPACK, 0)
        return self._export().__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return (_CPU_DLPACK, 0)

    def copy(self) -> DeviceBuffer:
        """A buffer of its own with the same contents, on the same device."""
        return self.to(self.device)

    def to(self, where: Device | str) -> DeviceBuffer:
        """A copy on another device, by way of the host."""
        return DeviceBuffer.from_numpy(self._host_array(), where)

    def __repr__(self) -> str:
        state = ", donated" if self.donated else ""
        return f"DeviceBuffer({self.dtype.name}{list(self.shape)}, {self.device}{state})"

    def _host_array(self) -> np.ndarray[Any, Any]:
        """The contents for NumPy; on the CPU the very memory."""
        if not self.nbytes:
            _ = self.view  # raises after donation
            return np.empty(self.shape, self.dtype)
        if self.device.is_host:
            raw = self.view.map().asarray([self.nbytes], np.dtype(np.uint8))
        else:
            # May be a mapping of memory that a later call overwrites, so make sure that it is a copy.
            host = np.require(iree().DeviceArray(self.device.hal, self.view).to_host(), requirements=["C", "OWNDATA"])
            raw = host.reshape(-1).view(np.uint8)
        return raw.view(self.dtype).reshape(self.shape)

    def _export(self) -> np.ndarray[Any, Any]:
        """An array that is remembered for as long as somebody uses it, or a view of it."""
        array = self._host_array()
        if self.device.is_host and self.nbytes:
            self._exports = [export for export in self._exports if export() is not None]
            assert array.base is not None  # the mapping itself: NumPy makes every view refer to the innermost array
            self._exports.append(weakref.ref(array.base))
        return array

    # Donation, for the module that calls.

    def is_private(self) -> bool:
        """Whether nobody else can see this memory, so that a call may overwrite it."""
        return not self._shared and not any(export() is not None for export in self._exports)

    def address(self) -> int | None:
        """Where the contents are, on the CPU; None elsewhere."""
        if self._address is None and self.device.is_host and self.nbytes:
            self._address = self.view.map().asarray([1], np.dtype(np.uint8)).ctypes.data
        return self._address

    def mark_shared(self) -> None:
        """Says that another buffer may be the same memory."""
        self._shared = True

    def mark_donated(self, name: str) -> None:
        """Takes the contents away. ``name`` says what the buffer was donated as."""
        self._view = None
        self._donated_to = name


def _as_storage(array: np.ndarray[Any, Any]) -> Any:
    """The array as something with Python's buffer protocol, which knows neither bool's IREE form nor bfloat16."""
    if array.dtype.name == "bfloat16":
        return array.view(np.uint16)
    return array.view(np.uint8) if array.dtype == np.bool_ else array


def same_storage(first: DeviceBuffer, second: DeviceBuffer) -> bool:
    """Whether two buffers may share memory. Off the CPU this cannot be seen, so the answer is yes."""
    if not (first.device.is_host and second.device.is_host):
        return True
    one, other = first.address(), second.address()
    if one is None or other is None:
        return False
    return one < other + second.nbytes and other < one + first.nbytes


def describe(shape: Sequence[int], dtype: str) -> str:
    """How messages write an array's type, such as ``float32[2, 3]``."""
    return f"{dtype}{list(shape)}"
