"""Reports: memory over the schedule, by the lines that need it."""

from __future__ import annotations

import inspect
import xml.etree.ElementTree as ET

import pytest

import volta_mlir as volta
from volta_mlir.plan import Buffer, Plan
from volta_mlir.reports import MemoryReport, format_bytes

KIB = 1024


def made(*buffers: Buffer) -> MemoryReport:
    return MemoryReport("f", 4 * KIB, Plan(2 * KIB, 8 * KIB, 3, 2, 1, 16 * KIB), buffers)


BUFFERS = (
    Buffer(KIB, 0, 2, "argument", "argument", ""),
    Buffer(3 * KIB, 0, 1, "transient", "first", "model.py:3"),
    Buffer(KIB, 1, 3, "transient", "second", "model.py:4"),
    Buffer(KIB, 1, 2, "transient", "second", "model.py:4"),
    Buffer(KIB, 3, 3, "result", "third", "model.py:5"),
)


def test_what_is_live_when() -> None:
    report = made(*BUFFERS)
    assert report.peak_bytes == 14 * KIB
    assert report.live == [3 * KIB, 5 * KIB, 2 * KIB, KIB]
    assert report.peak_step == 1
    assert [b.writer for b in report.at_peak()] == ["first", "second", "second"]


def test_the_text_names_lines() -> None:
    assert str(made(*BUFFERS)).splitlines() == [
        "f: 14.0 KiB at the peak",
        "  arguments 4.0 KiB, results 2.0 KiB, transients 8.0 KiB",
        "Live at step 1 of 4: 5.0 KiB",
        "           3.0 KiB  model.py:3  first",
        "       2 x 1.0 KiB  model.py:4  second",
    ]


def test_a_function_without_buffers() -> None:
    report = made()
    assert report.live == [0]
    assert report.at_peak() == []
    assert len(str(report).splitlines()) == 2
    ET.fromstring(report.to_svg())


def test_the_picture_has_a_point_per_step(tmp_path) -> None:
    report = made(*BUFFERS)
    report.save(tmp_path / "memory.svg")
    (polygon,) = ET.parse(tmp_path / "memory.svg").findall("{http://www.w3.org/2000/svg}polygon")
    heights = [float(point.partition(",")[2]) for point in polygon.attrib["points"].split()]
    assert min(heights) == 30  # the peak reaches the top
    assert len(heights) == 2 + 2 * len(report.live)


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (3 << 40, "3.0 TiB"), (1 << 51, "2048.0 TiB")]
)
def test_bytes_have_units(count: int, text: str) -> None:
    assert format_bytes(count) == text


def deep(x, w, depth=6):
    kept = []
    for _ in range(depth):
        x = volta.tanh(x @ w)
        kept.append(x)
    return sum(k.sum() for k in kept) + x.sum(0)


def test_a_compiled_function_reports_what_it_keeps() -> None:
    spec = volta.spec((128, 128))
    report = volta.jit(volta.value_and_grad(lambda x, w: deep(x, w).sum(), argnums=1)).lower(spec, spec).memory_report()
    square = 128 * 128 * 4
    assert report.arguments == 2 * square
    assert report.results == square + 64  # the scalar is aligned
    # The backward pass needs every layer's result.
    assert max(report.live) >= 6 * square
    # Buffers of different sizes leave gaps in what is allocated.
    assert max(report.live) <= report.transients <= 1.1 * max(report.live)
    line = inspect.getsourcelines(deep)[1] + 3
    assert sum(b.bytes for b in report.at_peak() if b.location == f"{__file__}:{line}") >= 5 * square


def test_checkpoints_need_less_memory() -> None:
    def block(x, weights):
        for w in weights:
            x = volta.tanh(x @ w)
        return x

    def loss(function, x, weights):
        for start in range(0, len(weights), 4):
            x = function(x, weights[start : start + 4])
        return (x * x).sum()

    x, weights = volta.spec((512, 64)), [volta.spec((64, 64))] * 16
    peaks = []
    for function in (block, volta.checkpoint(block)):
        step = volta.jit(volta.grad(lambda x, ws, f=function: loss(f, x, ws), argnums=1))
        peaks.append(max(step.lower(x, weights).memory_report().live))
    # Sixteen layers' results, or those of four blocks and of four layers.
    layer = 512 * 64 * 4
    assert peaks[0] >= 16 * layer
    assert peaks[1] <= 12 * layer


def test_donated_arguments_are_no_results() -> None:
    spec = volta.spec((64, 64))
    report = volta.jit(lambda x, y: x + volta.tanh(y), donate="x").lower(spec, spec).memory_report()
    assert (report.arguments, report.results, report.transients) == (2 * 64 * 64 * 4, 0, 0)
