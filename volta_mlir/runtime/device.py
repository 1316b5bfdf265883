"""Devices: found and started when first asked for, then shared by the whole process."""

from __future__ import annotations

import contextlib
import functools
import os
import threading
from dataclasses import dataclass
from typing import Any

from volta_mlir.errors import DeviceError

# Whether this process was forked from one with a device, whose threads are not here: calls would wait for them forever.
_lost_threads = False
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


def _driver(kind: str) -> str:
    """IREE's name of the driver. With one thread, the CPU driver that calls directly saves some 50 µs per call."""
    if kind == "cpu" and os.environ.get("VOLTA_NUM_THREADS") == "1":
        return "local-sync"
    return _DRIVERS[kind]


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
        """IREE's device, started at first use. Raises DeviceError where that fails, and after a fork."""
        return _start(self)


def devices() -> list[Device]:
    """All devices that can be used here; the CPU comes first. Starts none.

    >>> str(devices()[0])
    'cpu:0'
    """
    found = []
    for kind in _DRIVERS:
        with contextlib.suppress(DeviceError):  # no driver, or nothing behind it
            found += [Device(kind, index) for index in range(len(_infos(kind)))]
    return found


def device(name: str | Device | None = None) -> Device:
    """The device called ``name``: ``"cpu"``, ``"cuda:1"``, … By default the CPU.

    Raises:
        DeviceError: there is no such device here. The message lists what there is.

    >>> device("cpu").kind
    'cpu'
    """
    if isinstance(name, Device):
        return name
    kind, colon, index = (name or "cpu").partition(":")
    if kind not in _DRIVERS or (colon and not index.isdigit()):
        kinds = ", ".join(_DRIVERS)
        raise DeviceError(f"unknown device {name!r}: expected one of {kinds}, such as 'cuda:0'; {_available()}")
    number = int(index or 0)
    try:
        count = len(_infos(kind))
    except DeviceError as error:
        raise DeviceError(f"no device {name!r}: {error.message}; {_available()}") from None
    if number >= count:
        raise DeviceError(f"no device {name!r}; {_available()}")
    return Device(kind, number)


def reason(error: Exception) -> str:
    """The first line of an error of IREE's, without the position in IREE's sources."""
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    _, position, after = text.partition(".c:")
    text = after.partition(";")[2].strip() or after if position else text
    return text.partition(": #")[0]  # what follows are attributes, pages of them


def _available() -> str:
    return "available here: " + ", ".join(map(str, devices()))


@functools.cache
def _infos(kind: str) -> list[dict[str, Any]]:
    """What the driver says about its devices. Raises DeviceError where it cannot be loaded."""
    if kind == "cpu":
        return [{}]
    try:
        with _lock:
            infos = iree().get_driver(_driver(kind)).query_available_devices()
    except Exception as error:  # IREE raises various types, from ImportError to RuntimeError
        raise DeviceError(f"the {kind} driver does not start ({reason(error)})") from None
    return list(infos)


@functools.cache
def _start_once(kind: str, index: int) -> Any:
    runtime = iree()
    try:
        driver = runtime.get_driver(_driver(kind))
        if kind == "cpu":
            return driver.create_default_device()
        allocators = ["caching"] if kind == "cuda" else []
        return driver.create_device(_infos(kind)[index], allocators=allocators)
    except DeviceError:
        raise
    except Exception as error:
        raise DeviceError(f"device {kind}:{index} does not start: {reason(error)}") from error


def require_threads() -> None:
    """Raises DeviceError in a process that was forked after a device had started."""
    if _lost_threads:
        raise DeviceError(
            "devices do not survive a fork, and one had started before this process was forked: start processes with"
            " multiprocessing's 'spawn', or use no device before the fork"
        )


def _after_fork() -> None:
    global _lost_threads
    # The driver without threads has none to lose.
    _lost_threads = bool(_start_once.cache_info().currsize) and os.environ.get("VOLTA_NUM_THREADS") != "1"


os.register_at_fork(after_in_child=_after_fork)


def _start(wanted: Device) -> Any:
    require_threads()
    with _lock:
        return _start_once(wanted.kind, wanted.index)
