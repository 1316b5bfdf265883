"""``make bench-memory``: what training steps take in memory, with and without a budget, against PyTorch.

Writes ``docs/memory.md``. Runs in a checkout: the models are those of the tests.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress

from volta_mlir.reports import format_bytes
from volta_mlir.tools.benchmarks import report
from volta_mlir.tools.benchmarks.session import BenchmarkError, Process, missing, relative_error
from volta_mlir.tools.benchmarks.workloads import MEMORY_WORKLOADS, Arrays, Training

_INTRODUCTION = """\
# Memory

<!-- Written by `make bench-memory`. -->

Training steps, each in a process of its own: the most memory that it had during the calls (the high-water mark of its
resident memory), over what it had before its state and inputs were made, once everything is compiled and loaded.
*Promised* is `lowered.memory_report().peak_bytes`, what IREE's allocations say. *All kept* computes nothing again
(`memory_budget=None`), the default what takes next to no time. *Half* and *third* are budgets for that part of the
intermediate values of *all kept*, *min* the least that Volta finds. PyTorch runs eagerly. All processes take turns,
and the median over all turns counts."""

_NOTES = """\
*Intermediate* is the part of what is promised that is neither arguments nor results; PyTorch's is what was measured
less the same arguments and results. *Error* is the greatest relative difference of a result, norm-wise per tensor, from
that of *all kept*, after one step. The results are the loss and the new parameters. Plans compute the same, mostly to
the last bit: a row is summed in one order in whatever kernel, and a product is rounded before something is added to it.
What PyTorch computes agrees in a few digits: Adam's first step takes the signs of gradients rather than
gradients, and steps of the ResNets and of the deep MLP are ill-conditioned at their initial parameters. PyTorch in
single precision is 6e-03 (ResNet-18), 2e-02 (ResNet-50) and 1e-01 (MLP) away from PyTorch in double precision."""

_FUSION = """\
## Fusion

What a step launches, and what its kernels read and write, counted in IREE's schedule: without volta-fuse
(`options={"fuse": False}`) and with it, everything kept."""

#: Names of the variants of a workload.
KEPT, FREE, HALF, THIRD, LEAST = "Volta, all kept", "Volta", "Volta, half", "Volta, third", "Volta, min"
TORCH = "PyTorch"


@dataclass
class Row:
    """One variant of one workload. Bytes and seconds.

    Attributes:
        budget: the option ``memory_budget``.
        promised: what the compiled program says it takes.
        transients: of that, what is neither arguments nor results.
        measured: the high-water mark.
        seconds: of each timed step.
        error: against the results with all kept.
        dispatches: kernels that a step launches.
        fusion: dispatches and bytes moved without the passes that fuse, and with them; of *all kept* only.
        failure: why there is nothing else.
    """

    budget: int | str | None = "auto"
    promised: int | None = None
    transients: int | None = None
    measured: int | None = None
    seconds: list[float] = field(default_factory=list)
    error: float | None = None
    dispatches: int | None = None
    fusion: list[tuple[int, int]] | None = None
    failure: str | None = None

    @property
    def median(self) -> float | None:
        """The time of a step."""
        return statistics.median(self.seconds) if self.seconds else None


@click.command()
@click.option("--only", multiple=True, metavar="TEXT", help="Run the workloads whose names contain TEXT; repeatable.")
@click.option("--quick", is_flag=True, help="Take tiny sizes and few calls, to see whether everything works.")
@click.option("--rounds", default=5, show_default=True, help="How often the processes take turns.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), default=Path("build/memory.json"),
              show_default=True, help="Where the measurements go, for programs.")  # fmt: skip
@click.option("--document", type=click.Path(path_type=Path),
              help="Where the report goes; by default docs/memory.md, or the terminal for a part.")  # fmt: skip
def main(only: tuple[str, ...], quick: bool, rounds: int, json_path: Path, document: Path | None) -> None:
    """Measure the memory of training steps."""
    workloads = [w for w in MEMORY_WORKLOADS.values() if not only or any(text in w.name for text in only)]
    if not workloads:
        raise click.BadParameter(f"no workload's name contains {' or '.join(only)}", param_hint="--only")
    json_path.parent.mkdir(parents=True, exist_ok=True)
    if document is None and not quick and not only:
        document = Path("docs/memory.md")
    rows: dict[str, dict[str, Row]] = {}
    console = Console(stderr=True)
    with (
        tempfile.TemporaryDirectory(prefix="volta-bench-") as caches,
        Progress(console=console, disable=not console.is_terminal) as progress,
    ):
        task = progress.add_task("", total=len(workloads))
        session = _Session(Path(caches), quick, rounds, lambda text: progress.update(task, description=text))
        for workload in workloads:
            rows[workload.name] = session.measure(workload)
            progress.advance(task)
            # After each workload: what was measured is kept when the run is interrupted.
            content = {name: {variant: asdict(row) for variant, row in of.items()} for name, of in rows.items()}
            json_path.write_text(json.dumps(content, indent=1))
            text = _document(rows, session.versions)
            if document is not None:
                document.write_text(text)
    if document is None:
        click.echo(text)
    else:
        click.echo(f"Wrote {document} and {json_path}")


class _Session:
    def __init__(self, caches: Path, quick: bool, rounds: int, progress: Callable[[str], None]) -> None:
        self.caches, self.quick, self.rounds = caches, quick, 1 if quick else rounds
        self.progress = progress
        self.versions: dict[str, str] = {}

    def measure(self, workload: Training) -> dict[str, Row]:
        """All variants of a workload."""
        self.progress(workload.name)
        kept = Row(budget=None)
        self._compile(workload, kept)
        with _recording(kept), Process("volta", self.caches) as process:
            self._load(process, workload, kept)
            kept.fusion = process.ask("fusion")
        rows = {KEPT: kept, FREE: Row(), HALF: Row(), THIRD: Row(), LEAST: Row(budget="min")}
        if kept.promised is not None and kept.transients is not None:
            rows[HALF].budget = kept.promised - kept.transients // 2
            rows[THIRD].budget = kept.promised - kept.transients + kept.transients // 3
        for name in (FREE, HALF, THIRD, LEAST):
            self._compile(workload, rows[name])
        if missing("torch") is None:
            rows[TORCH] = Row()
        results: dict[str, Arrays] = {}
        with contextlib.ExitStack() as stack:
            running: dict[str, Process] = {}
            for name, row in rows.items():
                with _recording(row):
                    process = stack.enter_context(Process("torch" if name == TORCH else "volta", self.caches))
                    self.versions |= process.versions
                    self._load(process, workload, row)
                    process.ask("time", 1)
                    results[name] = process.ask("results")
                    process.ask("settle")
                    process.ask("forget_peak")
                    running[name] = process
            for name in running:
                rows[name].error = relative_error(results[name], results[KEPT]) if KEPT in results else None
            for _ in range(self.rounds):
                for name, process in running.items():
                    with _recording(rows[name]):
                        # The first call finds the processor's caches full of another process's data.
                        rows[name].seconds += process.ask("time", 2)[1:]
            for name, process in running.items():
                with _recording(rows[name]):
                    rows[name].measured = process.ask("peak")
        return rows

    def _compile(self, workload: Training, row: Row) -> None:
        """Fills the cache, in a process whose memory does not count."""
        with _recording(row), Process("volta", self.caches) as process:
            self._load(process, workload, row)
            details = process.ask("details")
            row.promised, row.transients = int(details["peak"]), int(details["transients"])
            row.dispatches = int(details["dispatches"])

    def _load(self, process: Process, workload: Training, row: Row) -> None:
        process.ask("load", workload.name, self.quick, *([row.budget] if process.framework == "volta" else []))


@contextlib.contextmanager
def _recording(row: Row) -> Iterator[None]:
    """Keeps the reason why something fails, and goes on."""
    try:
        yield
    except BenchmarkError as error:
        row.failure = row.failure or str(error)


def _document(rows: dict[str, dict[str, Row]], versions: dict[str, str]) -> str:
    columns = ["", "", "promised", "measured", "measured / promised", "of PyTorch's", "intermediate", "step",
               "of all kept's", "error", "dispatches"]  # fmt: skip
    table = []
    for name, variants in rows.items():
        kept, torch = variants[KEPT], variants.get(TORCH, Row())
        if torch.measured is not None and kept.promised is not None and kept.transients is not None:
            torch = variants[TORCH] = replace(torch, transients=torch.measured - (kept.promised - kept.transients))
        for variant, row in variants.items():
            table.append([
                name, variant, _bytes(row.promised), _bytes(row.measured), _ratio(row.measured, row.promised),
                _ratio(row.measured, torch.measured), _bytes(row.transients),
                "–" if row.median is None else f"{row.median * 1e3:.0f} ms", _ratio(row.median, kept.median),
                "–" if row.error is None else f"{row.error:.0e}", str(row.dispatches or "–"),
            ])  # fmt: skip
    failures = [
        f"- {name}, {variant}: {row.failure}"
        for name, variants in rows.items()
        for variant, row in variants.items()
        if row.failure
    ]
    parts = [_INTRODUCTION, report.machine_text(report.machine(versions)), report.table(columns, table), _NOTES]
    if failures:
        parts.append("Failures:\n\n" + "\n".join(failures))
    return "\n\n".join([*parts, _FUSION, _fusion_table(rows)]) + "\n"


def _fusion_table(rows: dict[str, dict[str, Row]]) -> str:
    columns = ["", "dispatches, unfused", "fused", "times", "bytes moved, unfused", "fused", "times"]
    table = []
    for name, variants in rows.items():
        if counts := variants[KEPT].fusion:
            (dispatches, moved), (fewer, less) = counts
            table.append([
                name, str(dispatches), str(fewer), _ratio(fewer, dispatches), _bytes(moved), _bytes(less),
                _ratio(less, moved),
            ])  # fmt: skip
    return report.table(columns, table)


def _bytes(count: int | None) -> str:
    return "–" if count is None else format_bytes(count)


def _ratio(value: float | None, other: float | None) -> str:
    return "–" if value is None or not other else f"{value / other:.2f}"


if __name__ == "__main__":
    main()
