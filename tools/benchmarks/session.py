"""Runs workloads in the frameworks' processes: in turn, so that the machine's other work falls on all of them alike."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pickle
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from volta_mlir.tools.benchmarks.worker import THREADS
from volta_mlir.tools.benchmarks.workloads import Arrays, Workload

#: The package that each framework needs, and whether it compiles; in the order of the report.
FRAMEWORKS = {
    "volta": ("iree", True),
    "torch": ("torch", False),
    "torch_compile": ("torch", True),
    "jax": ("jax", True),
}

#: Seconds until a process that does not answer is ended.
PATIENCE = 900.0
#: Seconds that the idle threads of one framework get to fall asleep before the next one's turn.
PAUSE = 0.02


class BenchmarkError(Exception):
    """A framework can't run a workload; the message says why."""


@dataclass
class Measurement:
    """One workload in one framework. Seconds and bytes; None where a framework has no such thing.

    Attributes:
        seconds: of each timed call.
        cold: until the first result, with empty caches.
        warm: the same in a new process when the caches are full.
        peak: memory during calls, inputs included, over that of the process before.
        error: the greatest relative error of a result against the first framework's.
        details: what only this framework reports.
        failure: why there is nothing else.
    """

    seconds: list[float] = field(default_factory=list)
    cold: float | None = None
    warm: float | None = None
    peak: int | None = None
    error: float | None = None
    details: dict[str, float] = field(default_factory=dict)
    failure: str | None = None

    @property
    def median(self) -> float | None:
        """The time that is reported."""
        return statistics.median(self.seconds) if self.seconds else None


@dataclass(frozen=True)
class Effort:
    """How long a workload is measured.

    Attributes:
        rounds: turns of each framework.
        seconds: of a turn, in which there is at least one call.
        calls: of a turn, at most.
    """

    rounds: int = 5
    seconds: float = 0.25
    calls: int = 100


QUICK = Effort(rounds=2, seconds=0.01, calls=3)


def missing(framework: str) -> str | None:
    """Why a framework can't be measured here, None if it can."""
    package, _ = FRAMEWORKS[framework]
    return None if importlib.util.find_spec(package) else f"{package} is not installed"


class Process:
    """A worker process, ended with the context."""

    def __init__(self, framework: str, caches: Path) -> None:
        environment = os.environ | {
            "VOLTA_NUM_THREADS": str(THREADS),
            "OMP_NUM_THREADS": str(THREADS),
            "VOLTA_CACHE_DIR": str(caches / "volta"),
            "TORCHINDUCTOR_CACHE_DIR": str(caches / "torch"),
            "JAX_PLATFORMS": "cpu",
            "JAX_COMPILATION_CACHE_DIR": str(caches / "jax"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }
        self.framework = framework
        self._log = open(caches / f"{framework}.log", "ab")  # noqa: SIM115 closed with the process
        self._process = subprocess.Popen(
            [sys.executable, "-c", "from volta_mlir.tools.benchmarks.worker import main; main()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=environment,
        )
        self.versions: dict[str, str] = {}

    def __enter__(self) -> Process:
        # Waits for the start, so that one framework's imports don't disturb the measurement of another.
        try:
            self.versions = self.ask("start", self.framework)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=10)
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()
        self._log.close()

    def send(self, method: str, *arguments: Any) -> None:
        """Asks without waiting for the answer."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # the answer will be that it ended
            pickle.dump((method, arguments), self._process.stdin)
            self._process.stdin.flush()

    def receive(self) -> Any:
        """The answer. Raises BenchmarkError where the framework failed."""
        assert self._process.stdout is not None
        guard = threading.Timer(PATIENCE, self._process.kill)
        guard.start()
        try:
            answer, error = pickle.load(self._process.stdout)
        except (EOFError, pickle.UnpicklingError):
            raise BenchmarkError(f"the process ended with status {self._process.wait()}") from None
        finally:
            guard.cancel()
        if error is not None:
            raise BenchmarkError(error)
        return answer

    def ask(self, method: str, *arguments: Any) -> Any:
        """Asks and waits."""
        self.send(method, *arguments)
        return self.receive()


class Session:
    """Measures workloads.

    Args:
        frameworks: their names. Results are compared with PyTorch's, or else with the first one's.
        caches: an empty directory for the frameworks' compilation caches.
        quick: takes small sizes and few calls, to see whether everything works.
        progress: is told what is being done.
    """

    def __init__(
        self, frameworks: Sequence[str], caches: Path, *, quick: bool = False, progress: Callable[[str], None]
    ) -> None:
        self.frameworks, self.caches, self.quick, self.progress = frameworks, caches, quick, progress
        self.reference = "torch" if "torch" in frameworks else frameworks[0]
        self.effort = QUICK if quick else Effort()
        self.versions: dict[str, str] = {}

    def measure(self, workload: Workload) -> dict[str, Measurement]:
        """The workload in every framework."""
        measurements = {name: Measurement() for name in self.frameworks}
        for name, measurement in measurements.items():
            if FRAMEWORKS[name][1]:
                self.progress(f"{workload.name}: cold start of {name}")
                with _recording(measurement), Process(name, self.caches) as process:
                    measurement.cold = self._first_result(process, workload)
                    measurement.details = process.ask("details")
        with contextlib.ExitStack() as stack:
            running = {}
            for name in [name for name, measurement in measurements.items() if not measurement.failure]:
                with _recording(measurements[name]):
                    running[name] = stack.enter_context(Process(name, self.caches))
            self._compare(workload, running, measurements)
            self._time(workload, running, measurements)
        return measurements

    def _first_result(self, process: Process, workload: Workload) -> float:
        """Seconds until the first result, once the framework is started and the inputs are made."""
        self.versions |= process.versions
        process.ask("load", workload.name, self.quick)
        return process.ask("time", 1)[0]

    def _compare(self, workload: Workload, running: dict[str, Process], measurements: dict[str, Measurement]) -> None:
        """Computes first results, and takes those out of the running that fail or differ."""
        results: dict[str, Arrays] = {}
        for name, process in running.items():
            self.progress(f"{workload.name}: first result of {name}")
            with _recording(measurements[name]):
                measurements[name].warm = self._first_result(process, workload)
                results[name] = process.ask("results")
        expected = results.get(self.reference) or next(iter(results.values()), {})
        for name, arrays in results.items():
            error = measurements[name].error = relative_error(arrays, expected)
            if not error <= workload.tolerance:
                measurements[name].failure = f"its results differ from {self.reference}'s by {error:.1e}"
        for name in [name for name in running if measurements[name].failure]:
            del running[name]

    def _time(self, workload: Workload, running: dict[str, Process], measurements: dict[str, Measurement]) -> None:
        """Times calls in rounds, and the peak memory over all of them."""
        calls = {}
        for name, process in running.items():
            with _recording(measurements[name]):
                process.ask("forget_peak")
                once = min(process.ask("time", 2))
                calls[name] = min(max(1, int(self.effort.seconds / once)), self.effort.calls)
        for turn in range(self.effort.rounds):
            self.progress(f"{workload.name}: round {turn + 1} of {self.effort.rounds}")
            for name in calls:
                with _recording(measurements[name]):
                    time.sleep(PAUSE)
                    # The first call finds the processor's caches full of another framework's data.
                    measurements[name].seconds += running[name].ask("time", calls[name] + 1)[1:]
        for name in calls:
            with _recording(measurements[name]):
                measurements[name].peak = running[name].ask("peak")


@contextlib.contextmanager
def _recording(measurement: Measurement) -> Iterator[None]:
    """Keeps the reason why a framework fails, and goes on."""
    try:
        yield
    except BenchmarkError as error:
        measurement.failure = measurement.failure or str(error)


def relative_error(actual: Arrays, expected: Arrays) -> float:
    """The greatest ``‖actual - expected‖ / ‖expected‖`` of a tensor; infinite where names or shapes differ."""
    if actual.keys() != expected.keys() or any(actual[n].shape != expected[n].shape for n in expected):
        return float("inf")
    wide = {name: (actual[name].astype(np.float64), x.astype(np.float64)) for name, x in expected.items()}
    return max(float(np.linalg.norm(a - e) / (np.linalg.norm(e) or 1.0)) for a, e in wide.values())
