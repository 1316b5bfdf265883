"""Devices: found and started when first asked for, then shared by the whole process."""

from __future__ import annotations

import functools
import os
import threading
from dataclasses import dataclass
from typing import Any

from volta_mlir.errors import DeviceError

# How IREE's runtime calls the drivers.
_DRIVERS = {"cpu": "local-task", "cuda": "cuda", "vulkan": "vulkan"}
_lock = threading.RLock()


@functools.cache
def iree() -> Any:
    """``iree.runtime``, imported at first use and configured before the first driver is made.

    Raises:
        DeviceError: ``VOLTA_NUM_THREADS`` is not a positive number.
    """
    import iree.runtime
    from iree.runtime import _binding, flags

    # Results that are alive in globals when the interpreter exits are no leak, so nothing is printed about them.
    _binding.disable_leak_checker()
    # The caching allocator is several times faster than CUDA's stream-ordered one; they do not combine.
    flags.parse_flags("--cuda_async_allocations=false")
    threads = os.environ.get("VOLTA_NUM_THREADS")
    if threads is not None:
        if not threads.isdigit() or int(threads) < 1:
            raise DeviceError(f"VOLTA_NUM_THREADS is {threads!r}: expected a positive number of threads")
        flags.parse_flags(f"--task_topology_group_count={threads}")
    return iree.runtime


@functools.cache
def vm_instance() -> Any:
    """The virtual machine that all modules share."""
    return iree().VmInstance()


@dataclass(frozen=True)
class Device:
    """One device, such as ``cpu:0``. Make it with ``device`` or ``devices``.

    Attributes:
        kind: ``"cpu"``, ``"cuda"`` or ``"vulkan"``.
        index: position among the devices of this kind.
    """

    kind: str
    index: int

    def __str__(self) -> str:
        return f"{self.kind}:{self.index}"

    @property
    def is_host(self) -> bool:
        """Whether NumPy can look into the device's memory without a copy."""
        return self.kind == "cpu"

    @property
    def hal(self) -> Any:
        """IREE's device, started at first use. Raises DeviceError where that fails."""
        return _start(self)


def devices() -> list[Device]:
    """All devices that can be used here; the CPU comes first. Starts none."""
    found = []
    for kind in _DRIVERS:
        try:
            found += [Device(kind, index) for index in range(len(_infos(kind)))]
        except DeviceError:  # no driver, or nothing behind it
            pass
    return found


def device(name: str | Device | None = None) -> Device:
    """The device called ``name``: ``"cpu"``, ``"cuda:1"``, … By default the CPU.

    Raises:
        DeviceError: there is no such device here. The message lists what there is.
    """
    if isinstance(name, Device):
        return name
    kind, colon, index = (name or "cpu").partition(":")
    if kind not in _DRIVERS or (colon and not index.isdigit()):
        raise DeviceError(f"unknown device {name!r}: expected {', '.join(_DRIVERS)} or such as 'cuda:0'; {_available()}")
    number = int(index or 0)
    try:
        count = len(_infos(kind))
    except DeviceError as error:
        raise DeviceError(f"no device {name!r}: {error.message}; {_available()}") from None
    if number >= count:
        raise DeviceError(f"no device {name!r}; {_available()}")
    return Device(kind, number)


def _available() -> str:
    return "available here: " + ", ".join(map(str, devices()))


@functools.cache
def _infos(kind: str) -> list[dict[str, Any]]:
    """What the driver says about its devices. Raises DeviceError where it cannot be loaded."""
    if kind == "cpu":
        return [{}]
    try:
        with _lock:
            infos = iree().get_driver(_DRIVERS[kind]).query_available_devices()
    except Exception as error:  # IREE raises various types, from ImportError to RuntimeError
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DeviceError(f"the {kind} driver does not start ({reason})") from None
    return list(infos)


@functools.cache
def _start_once(kind: str, index: int) -> Any:
    runtime = iree()
    try:
        driver = runtime.get_driver(_DRIVERS[kind])
        if kind == "cpu":
            return driver.create_default_device()
        allocators = ["caching"] if kind == "cuda" else []
        return driver.create_device(_infos(kind)[index], allocators=allocators)
    except DeviceError:
        raise
    except Exception as error:
        raise DeviceError(f"device {kind}:{index} does not start: {error}") from error


def _start(wanted: Device) -> Any:
    with _lock:
        return _start_once(wanted.kind, wanted.index)
