"""``make bench-compile``: how long a training step takes to compile, by the number of its layers; volta-opt's start.

Runs in a checkout: the model, GPT, is that of the tests. Each depth is compiled in a process of its own, without the
cache. They take turns, and medians count. Seconds are those of the processors, of all threads together, which depends
less on what else the machine does.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass, replace

import click


@dataclass
class Times:
    """What compiling takes at one depth.

    Attributes:
        layers: the depth.
        trace: seconds of running the Python function.
        lower: seconds of all passes.
        iree: seconds of IREE's process.
        wall: seconds that pass from the traced function to the compiled one.
        kernels: how many different ones are compiled.
        dispatches: how many are launched.
    """

    layers: int
    trace: float
    lower: float
    iree: float
    wall: float
    kernels: int
    dispatches: int

    @property
    def total(self) -> float:
        """Seconds of all processors."""
        return self.trace + self.lower + self.iree


def measure(layers: int, *, quick: bool = False) -> Times:
    """Compiles at one depth, in this process and the compiler's, which is ended."""
    from tests.models import gpt
    from volta_mlir import iree_compiler, jit

    arguments = gpt.arguments(replace(gpt.SMALL if quick else gpt.Config(), layers=layers))
    step = jit(gpt.train_step, static="heads", donate=gpt.DONATED)
    start = time.process_time()
    lowered = step.lower(*arguments)
    traced = time.process_time()
    lowered.as_text("linalg")
    end = time.process_time()
    wall = time.perf_counter()
    plan = lowered.compile().plan
    wall = time.perf_counter() - wall
    before = _children_seconds()
    iree_compiler.shut_down()  # a child's times are known once it has ended
    iree = _children_seconds() - before
    return Times(layers, traced - start, end - traced, iree, wall, plan.kernels, plan.dispatches)


@click.command()
@click.option("--layers", multiple=True, type=int, help="A depth; repeatable.  [default: 6, 12, 24]")
@click.option("--rounds", default=3, show_default=True, help="How often each depth takes its turn.")
@click.option("--quick", is_flag=True, help="Take a tiny model, to see whether everything works.")
@click.option("--measure", "only", type=int, hidden=True, help="Measure one depth here, and print it as JSON.")
def main(layers: tuple[int, ...], rounds: int, quick: bool, only: int | None) -> None:
    """Measure how long GPT's training step takes to compile, by the number of its layers."""
    if only is not None:
        click.echo(json.dumps(asdict(measure(only, quick=quick))))
        return
    turns = [[_in_child(depth, quick) for depth in layers or (6, 12, 24)] for _ in range(rounds)]
    rows = [_median(times) for times in zip(*turns, strict=True)]
    click.echo("layers   trace   lower    IREE   total  factor    wall  kernels  dispatches")
    for row in rows:
        seconds = "".join(f"{value:8.1f}" for value in (row.trace, row.lower, row.iree, row.total))
        factor = f"{row.total / rows[0].total:8.2f}"
        click.echo(f"{row.layers:6}{seconds}{factor}{row.wall:8.1f}{row.kernels:9}{row.dispatches:12}")
    click.echo(f"volta-opt starts in {statistics.median(_start() for _ in range(5)):.2f} s of the processors")


def _median(times: Sequence[Times]) -> Times:
    return Times(*(statistics.median(values) for values in zip(*map(astuple, times), strict=True)))


def _start() -> float:
    """Seconds that volta-opt takes to do nothing."""
    before = _children_seconds()
    subprocess.run([sys.executable, "-m", "volta_mlir.tools.volta_opt", "--help"], capture_output=True, check=True)
    return _children_seconds() - before


def _children_seconds() -> float:
    """Seconds of the processors of processes that were started here, and have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _in_child(layers: int, quick: bool) -> Times:
    command = [sys.executable, "-m", "volta_mlir.tools.bench_compile", "--measure", str(layers)]
    command += ["--quick"] if quick else []
    environment = os.environ | {"VOLTA_CACHE": "0"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise click.ClickException(f"compiling {layers} layers failed:\n{done.stderr}")
    return Times(**json.loads(done.stdout.splitlines()[-1]))


if __name__ == "__main__":
    main()
