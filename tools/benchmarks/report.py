"""The measurements as Markdown and as JSON."""

from __future__ import annotations

import dataclasses
import datetime
import os
import platform
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from volta_mlir.tools.benchmarks.session import Measurement
from volta_mlir.tools.benchmarks.worker import THREADS

Measurements = Mapping[str, Mapping[str, Measurement]]

TITLES = {"volta": "Volta", "torch": "PyTorch", "torch_compile": "torch.compile", "jax": "JAX"}

_INTRODUCTION = f"""\
# Benchmarks

<!-- Written by `make bench`. -->

Every workload runs in Volta, in PyTorch (eager and through `torch.compile`) and in JAX, on {THREADS} threads each.
Each framework has a process of its own for each workload; they compute the same from the same inputs, and a framework
whose results differ is not timed. Then they take turns, and the median over all turns counts. PyTorch uses its fused
attention and its fused optimizers, and convolves in its channels_last layout; Volta and JAX write attention as matmul,
softmax, matmul."""

_NOTES = {
    "Time": (
        "Milliseconds per call, the median. The last column is Volta's time over the best other's: below 1 is faster."
    ),
    "Memory": """\
The most megabytes that the process had in memory during the calls, inputs and state included, over what it had before
it made the inputs. What compiling in the same process left behind counts.""",
    "First result": """\
Seconds until the first result, in a new process with empty compilation caches / with full ones; imports and inputs not
included.""",
    "Volta's compilation": """\
Seconds of the cold start that tracing, the passes down to linalg, and IREE with the first call take, and the size of
the compiled file.""",
    "Agreement": "The greatest relative error, norm-wise per tensor, of results against PyTorch's.",
}


def document(measurements: Measurements, machine: Mapping[str, Any], skipped: Mapping[str, str]) -> str:
    """``docs/benchmarks.md``."""
    frameworks = list(next(iter(measurements.values()), {}))
    sections = [_INTRODUCTION, machine_text(machine)]
    titles = [TITLES[name] for name in frameworks]

    def add(title: str, columns: Sequence[str], row: Callable[[Mapping[str, Measurement]], list[str]]) -> None:
        rows = [[name, *row(by_framework)] for name, by_framework in measurements.items()]
        sections.append(f"## {title}\n\n{_NOTES[title]}\n\n{table(['', *columns], rows)}")

    def each(show: Callable[[Measurement], str]) -> Callable[[Mapping[str, Measurement]], list[str]]:
        return lambda by_framework: [show(by_framework[name]) for name in frameworks]

    milliseconds = each(lambda m: _number(m.median, 1e3))
    add("Time", [*titles, "Volta / best"], lambda by: [*milliseconds(by), _number(ratio(by), 1)])
    add("Memory", titles, each(lambda m: _number(m.peak, 1e-6)))
    add("First result", titles, each(lambda m: f"{_number(m.cold, 1)} / {_number(m.warm, 1)}"))
    if "volta" in frameworks:
        add("Volta's compilation", ["tracing", "passes", "IREE", "file"], _compilation)
    add("Agreement", titles, each(lambda m: "–" if m.error is None else f"{m.error:.0e}" if m.error else "0"))
    failures = [f"- {TITLES[name]}: {reason}" for name, reason in skipped.items()]
    failures += [
        f"- {workload}, {TITLES[name]}: {m.failure}"
        for workload, by_framework in measurements.items()
        for name, m in by_framework.items()
        if m.failure
    ]
    if failures:
        sections.append("## Not measured\n\n" + "\n".join(failures))
    return "\n\n".join(sections) + "\n"


def ratio(by_framework: Mapping[str, Measurement]) -> float | None:
    """Volta's time over that of the fastest other framework."""
    times = {name: m.median for name, m in by_framework.items() if m.median}
    own = times.pop("volta", None)
    return own / min(times.values()) if own and times else None


def as_json(measurements: Measurements, machine: Mapping[str, Any], skipped: Mapping[str, str]) -> dict[str, Any]:
    """Everything, for programs; times in seconds, sizes in bytes."""
    return {
        "machine": dict(machine),
        "skipped": dict(skipped),
        "workloads": {
            workload: {name: dataclasses.asdict(m) | {"median": m.median} for name, m in by_framework.items()}
            for workload, by_framework in measurements.items()
        },
    }


def machine(versions: Mapping[str, str]) -> dict[str, Any]:
    """What was measured on, and when."""
    return {
        "date": datetime.date.today().isoformat(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": THREADS,
        "system": platform.system(),
        "versions": {"python": platform.python_version(), **versions},
    }


def _processor() -> str:
    """The processor's name, and the widest vectors that it has."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or platform.machine()
    model = re.search(r"^model name\s*: (.*)$", text, re.MULTILINE)
    vectors = next((name for flag, name in (("avx512f", "AVX-512"), ("avx2", "AVX2")) if flag in text), None)
    return ", ".join(filter(None, (model[1] if model else platform.machine(), vectors)))


def machine_text(machine: Mapping[str, Any]) -> str:
    """A line about the machine."""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    cores = f"{machine['cores']} cores, {machine['threads']} used"
    return f"Measured on {machine['date']}: {machine['processor']}; {cores}; {machine['system']}. Versions: {versions}."


def _compilation(by_framework: Mapping[str, Measurement]) -> list[str]:
    m = by_framework["volta"]
    if not m.details or m.cold is None:
        return ["–"] * 4
    trace, passes = m.details["trace"], m.details["passes"]
    rest = m.cold - trace - passes
    return [_number(trace, 1), _number(passes, 1), _number(rest, 1), f"{m.details['artifact'] / 1024:.0f} KiB"]


def _number(value: float | None, scale: float) -> str:
    """Three digits."""
    if value is None:
        return "–"
    scaled = value * scale
    return f"{scaled:.0f}" if scaled >= 100 else f"{scaled:.3g}" if scaled < 10 else f"{scaled:.1f}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; all columns but the first are numbers."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
