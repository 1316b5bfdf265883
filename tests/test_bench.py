"""The benchmarks on tiny sizes: every framework computes the same, and the report says what was measured."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from volta_mlir.tools import bench, bench_compile, bench_memory
from volta_mlir.tools.benchmarks import report, session, worker
from volta_mlir.tools.benchmarks.session import Measurement, Process, Session, relative_error
from volta_mlir.tools.benchmarks.workloads import WORKLOADS


@pytest.mark.no_cover
@pytest.mark.parametrize("name", WORKLOADS)
@pytest.mark.parametrize("framework", ["volta", "jax"])
def test_frameworks_agree(framework: str, name: str) -> None:
    pytest.importorskip(session.FRAMEWORKS[framework][0])
    workload = WORKLOADS[name]
    results = []
    for module in (framework, "torch"):
        program = importlib.import_module(f"volta_mlir.tools.benchmarks.in_{module}").Program(workload, quick=True)
        program.call()
        program.call()
        results.append(program.results())
    assert relative_error(*results) <= workload.tolerance


@pytest.mark.parametrize("framework", session.FRAMEWORKS)
def test_a_worker_measures(framework: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if framework == "torch_compile":
        pytest.skip("compiles for seconds")
    pytest.importorskip(session.FRAMEWORKS[framework][0])
    there = worker.Worker()
    assert there.start(framework)
    there.load("sum of rows", True)
    there.time(1)
    there.forget_peak()
    assert len(there.time(3)) == 3
    resident = worker.memory("VmRSS")
    assert there.peak() >= resident - there._baseline  # which other tests in this process may have left higher
    assert [x.shape for x in there.results().values()] == [(16,)]
    if framework == "volta":
        assert there.details().keys() == {"trace", "passes", "artifact", "peak", "transients", "dispatches"}


def run(*arguments: str) -> Any:
    return CliRunner().invoke(bench.main, arguments, catch_exceptions=False)


def test_a_run_from_end_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "FRAMEWORKS", {name: session.FRAMEWORKS[name] for name in ("volta", "torch")})
    monkeypatch.setattr(bench, "FRAMEWORKS", session.FRAMEWORKS | {"jax": ("no_such_package", True)})
    monkeypatch.setattr(bench, "missing", lambda name: "it is not installed" if name == "jax" else None)
    done = run("--quick", "--only", "sum of rows", "--json", str(tmp_path / "a" / "b.json"))
    assert done.exit_code == 0
    assert "| sum of rows |" in done.output
    assert "- JAX: it is not installed" in done.output
    data = json.loads((tmp_path / "a" / "b.json").read_text())
    measured = data["workloads"]["sum of rows"]
    assert measured.keys() == {"volta", "torch"}
    for framework in measured.values():
        assert framework["failure"] is None
        assert framework["median"] > 0
        assert framework["warm"] > 0
    assert measured["volta"]["cold"] > 0
    assert measured["volta"]["details"]["artifact"] > 1000
    assert {"python", "volta", "iree", "torch"} == data["machine"]["versions"].keys()


def test_workloads_are_selected_by_name() -> None:
    assert run("--list").output.splitlines() == list(WORKLOADS)
    assert run("--list", "--only", "GPT", "--only", "softmax").output.splitlines() == ["GPT step", "softmax"]
    refused = run("--only", "nothing like it")
    assert refused.exit_code == 2
    assert "no workload's name contains" in refused.output


class Scripted:
    """Stands for a worker process: answers from a table."""

    def __init__(self, answers: dict[str, Any]) -> None:
        self.answers = answers

    def __enter__(self) -> Scripted:
        self.versions = self.ask("start")
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def ask(self, method: str, *arguments: Any) -> Any:
        answer = self.answers[method]
        if isinstance(answer, Exception):
            raise answer
        return answer


GOOD = {
    "start": {"x": "1"},
    "load": None,
    "time": [0.5, 0.25, 0.25],
    "details": {},
    "forget_peak": None,
    "peak": 10_000_000,
    "results": {"0": np.ones(2)},
}


def measure(monkeypatch: pytest.MonkeyPatch, **changed: Any) -> dict[str, Measurement]:
    """The measurements when JAX's process answers otherwise, and the others well."""
    monkeypatch.setattr(session, "Process", lambda name, caches: Scripted(GOOD | (changed if name == "jax" else {})))
    there = Session(list(session.FRAMEWORKS), Path(), quick=True, progress=lambda text: None)
    return there.measure(WORKLOADS["softmax"])


def test_wrong_results_are_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    measurements = measure(monkeypatch, results={"0": np.array([1.0, 1.1])})
    assert measurements["jax"].failure == "its results differ from torch's by 7.1e-02"
    assert measurements["jax"].median is None
    assert measurements["volta"].median == 0.25
    assert "- softmax, JAX: its results differ" in report.document({"softmax": measurements}, report.machine({}), {})


@pytest.mark.parametrize("method", ["start", "load", "details", "results", "forget_peak", "peak"])
def test_a_failing_framework_is_a_line_of_the_report(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    measurements = measure(monkeypatch, **{method: session.BenchmarkError("it broke")})
    assert measurements["jax"].failure == "it broke"
    assert all(measurements[name].peak for name in ("volta", "torch", "torch_compile"))
    assert "- softmax, JAX: it broke" in report.document({"softmax": measurements}, report.machine({}), {})


def test_a_process_reports_errors_and_its_own_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(session.BenchmarkError, match="ModuleNotFound"), Process("no_such_framework", tmp_path):
        pass
    monkeypatch.setattr(session, "PATIENCE", 0.01)
    with pytest.raises(session.BenchmarkError, match="ended with status -9"), Process("volta", tmp_path):
        pass


def test_numbers_have_three_digits() -> None:
    assert [report._number(x, 1e3) for x in (None, 0.000123456, 0.0123456, 0.123456)] == ["–", "0.123", "12.3", "123"]


def test_errors_of_other_shapes_are_infinite() -> None:
    assert relative_error({"a": np.ones(2)}, {"a": np.ones(3)}) == float("inf")
    assert relative_error({"a": np.ones(2)}, {"b": np.ones(2)}) == float("inf")
    assert relative_error({"a": np.zeros(2)}, {"a": np.zeros(2)}) == 0


@pytest.mark.no_cover
def test_memory_from_end_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    json_path, document = tmp_path / "memory.json", tmp_path / "memory.md"
    done = CliRunner().invoke(
        bench_memory.main,
        ["--quick", "--only", "MLP", "--json", str(json_path), "--document", str(document)],
        catch_exceptions=False,
    )
    assert done.exit_code == 0
    (rows,) = json.loads(json_path.read_text()).values()
    free, least, torch = rows["Volta"], rows["Volta, min"], rows["PyTorch"]
    assert least["promised"] < free["promised"]
    assert least["error"] <= 1e-5
    assert torch["error"] <= 1e-4
    assert all(len(row["seconds"]) == 1 and row["measured"] is not None for row in (free, least, torch))
    (dispatches, _), (fewer, _) = rows["Volta, all kept"]["fusion"]
    assert fewer <= dispatches
    text = document.read_text()
    assert "| MLP, 100 layers | Volta, min |" in text
    assert f"| MLP, 100 layers | {dispatches} | {fewer} |" in text


def test_unknown_memory_workloads_are_refused() -> None:
    done = CliRunner().invoke(bench_memory.main, ["--only", "nothing"])
    assert done.exit_code == 2
    assert "no workload's name contains nothing" in done.output


@pytest.mark.no_cover
def test_compile_times_by_depth() -> None:
    done = CliRunner().invoke(bench_compile.main, ["--quick", "--layers", "1", "--rounds", "1"])
    assert done.exit_code == 0, done.output
    _, row, start = done.output.splitlines()
    layers, trace, lower, iree, total, factor, wall, kernels, dispatches = map(float, row.split())
    assert layers == factor == 1
    assert total == pytest.approx(trace + lower + iree, abs=0.2)
    assert iree > 0
    assert wall > 0
    assert 1 < kernels <= dispatches
    assert re.fullmatch(r"volta-opt starts in \d+\.\d\d s of the processors", start)
