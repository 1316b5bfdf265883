"""``make bench``: compares Volta with PyTorch and JAX, and writes ``docs/benchmarks.md``.

Runs in a checkout: the models that it trains are those of the tests.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from volta_mlir.tools.benchmarks import report
from volta_mlir.tools.benchmarks.session import FRAMEWORKS, Measurement, Session, missing
from volta_mlir.tools.benchmarks.workloads import WORKLOADS


@click.command()
@click.option("--only", multiple=True, metavar="TEXT", help="Run the workloads whose names contain TEXT; repeatable.")
@click.option("--quick", is_flag=True, help="Take tiny sizes and few calls, to see whether everything works.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), default=Path("build/benchmarks.json"),
              show_default=True, help="Where the measurements go, for programs.")  # fmt: skip
@click.option("--document", type=click.Path(path_type=Path),
              help="Where the report goes; by default docs/benchmarks.md, or the terminal for a part.")  # fmt: skip
@click.option("--list", "only_list", is_flag=True, help="List the workloads.")
def main(only: tuple[str, ...], quick: bool, json_path: Path, document: Path | None, only_list: bool) -> None:
    """Compare Volta with PyTorch and JAX."""
    names = [name for name in WORKLOADS if not only or any(text in name for text in only)]
    if not names:
        raise click.BadParameter(f"no workload's name contains {' or '.join(only)}", param_hint="--only")
    if only_list:
        click.echo("\n".join(names))
        return
    skipped = {name: reason for name in FRAMEWORKS if (reason := missing(name))}
    json_path.parent.mkdir(parents=True, exist_ok=True)
    if document is None and not quick and not only:
        document = Path("docs/benchmarks.md")
    for measurements, versions in _measure(names, [name for name in FRAMEWORKS if name not in skipped], quick):
        # After each workload: what was measured is kept when the run is interrupted.
        machine = report.machine(versions)
        json_path.write_text(json.dumps(report.as_json(measurements, machine, skipped), indent=1))
        text = report.document(measurements, machine, skipped)
        if document is not None:
            document.parent.mkdir(parents=True, exist_ok=True)
            document.write_text(text)
    if document is None:
        click.echo(text)
    else:
        click.echo(f"Wrote {document} and {json_path}")


def _measure(
    names: list[str], frameworks: list[str], quick: bool
) -> Iterator[tuple[dict[str, dict[str, Measurement]], dict[str, str]]]:
    """After each workload, all measurements by workload and framework, and the versions of what was measured."""
    measurements = {}
    columns = (
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    console = Console(stderr=True)
    with (
        tempfile.TemporaryDirectory(prefix="volta-bench-") as caches,
        Progress(*columns, console=console, disable=not console.is_terminal) as progress,
    ):
        task = progress.add_task("", total=len(names))
        session = Session(
            frameworks, Path(caches), quick=quick, progress=lambda text: progress.update(task, description=text)
        )
        for name in names:
            measurements[name] = session.measure(WORKLOADS[name])
            progress.advance(task)
            yield measurements, session.versions


if __name__ == "__main__":
    main()
