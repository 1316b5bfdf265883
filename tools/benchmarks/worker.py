"""The process in which one framework runs workloads: reads requests from standard input, answers on standard output.

A framework is a module of this package with ``versions()``, ``warm_up()`` and a class ``Program(workload, quick)`` that
has ``call()`` (once, to the end), ``results()`` (of the last call) and ``details()``; for memory also ``release()``
and ``fill()``, which give up the inputs and the state and make them anew.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import os
import pickle
import re
import sys
import time
from pathlib import Path
from typing import Any

from volta_mlir.tools.benchmarks.workloads import MEMORY_WORKLOADS, WORKLOADS, Arrays

#: What every framework gets. Volta and PyTorch are told by variables, JAX by the processors that it may use.
THREADS = 2


class Worker:
    """What can be asked of the process: every public method."""

    def __init__(self) -> None:
        self._module: Any = None
        self._program: Any = None
        self._baseline = 0

    def start(self, framework: str) -> dict[str, str]:
        """Loads a framework; returns its versions."""
        self._module = importlib.import_module(f"volta_mlir.tools.benchmarks.in_{framework}")
        self._module.warm_up()
        self._baseline = memory("VmRSS")
        return self._module.versions()

    def load(self, workload: str, quick: bool, *budget: int | str | None) -> None:
        """Makes a workload's inputs. A memory budget is for Volta only."""
        self._program = self._module.Program((WORKLOADS | MEMORY_WORKLOADS)[workload], quick, *budget)

    def settle(self) -> None:
        """Leaves behind what the first calls take and later ones do not: the peak is over the memory from then on."""
        for _ in range(2):
            self._program.call()
        self._program.release()
        _give_back()
        self._baseline = memory("VmRSS")
        self._program.fill()
        self._program.call()  # an optimizer may make its state in the first one

    def time(self, calls: int) -> list[float]:
        """The seconds that each of some calls takes."""
        seconds = []
        for _ in range(calls):
            start = time.perf_counter()
            self._program.call()
            seconds.append(time.perf_counter() - start)
        return seconds

    def results(self) -> Arrays:
        """The last call's results."""
        return self._program.results()

    def details(self) -> dict[str, float]:
        """What only this framework can say about the program."""
        return self._program.details()

    def fusion(self) -> list[tuple[int, int]]:
        """Dispatches and bytes moved without fusion and with it; for Volta only."""
        return self._program.fusion()

    def forget_peak(self) -> None:
        """Begins to measure the peak memory, without what making the inputs has left."""
        _give_back()
        Path("/proc/self/clear_refs").write_text("5")

    def peak(self) -> int:
        """The most bytes in memory since then, over what there was before the inputs were made."""
        return memory("VmHWM") - self._baseline


def _give_back() -> None:
    """Returns what is not in use to the system."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)


def memory(field: str) -> int:
    """Bytes of this process's memory: ``VmRSS`` now, ``VmHWM`` at most."""
    found = re.search(rf"^{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return 1024 * int(found[1])


def _answer(worker: Worker, method: str, arguments: tuple[Any, ...]) -> tuple[Any, str | None]:
    try:
        return getattr(worker, method)(*arguments), None
    except Exception as error:  # whatever a framework can't do becomes a line of the report
        return None, f"{type(error).__name__}: {error}".strip().splitlines()[0]


def main() -> None:
    """Answers requests ``(method, arguments)`` with ``(result, None)`` or ``(None, error message)``."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not get between the answers
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:THREADS])
    worker = Worker()
    while True:
        try:
            method, arguments = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        # What was answered is not kept: results would be in memory, and in the baseline, until the next answer.
        pickle.dump(_answer(worker, method, arguments), answers)
        answers.flush()
