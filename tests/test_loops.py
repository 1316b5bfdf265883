"""Loops that stay loops: that IREE updates in place what they carry, and nothing that is still read."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import volta_mlir as volta
from tests.tolerances import mismatch
from volta_mlir import Tensor, passes, tree

N = 6
rng = np.random.default_rng(1)
W, X, ROWS = (Tensor(rng.normal(size=shape) * 0.4, "float32") for shape in ((N, N), (N, N), (5, N)))


@pytest.fixture
def rolled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiles without unrolling, and without the cache, which does not know of that."""
    pipeline = [p for p in passes.pipeline.PIPELINE if p != "volta-unroll"]
    monkeypatch.setattr(passes.pipeline, "PIPELINE", tuple(pipeline))
    monkeypatch.setenv("VOLTA_CACHE", "0")


def scan(step: Callable[[Any, Any], Any], init: Any, reverse: bool = False) -> Any:
    return volta.scan(step, init, ROWS, reverse=reverse)


def reads_after(c: Any, row: Any) -> Any:
    """What was overwritten is read by another operation later on."""
    new = c.at[0].set(row)
    return new, (c * row).sum() + (new @ row).sum()


def updates(c: Any, row: Any) -> Any:
    """Nothing but an update, of a tensor that the caller keeps."""
    return c.at[0].set(row), None


def scalars(c: Any, row: Any) -> Any:
    a, n = c
    return (a + row.sum(), n.at[()].add(1)), (a * n, n)


def swaps(c: Any, row: Any) -> Any:
    a, b = c
    return (b.at[1].add(row), a), a[0] + b[0]


def twice(c: Any, row: Any) -> Any:
    """One tensor becomes two carries, both of which are updated."""
    a, b = c
    return (a.at[0].add(row), a.at[1].add(row) + b), a[0]


def nested(c: Any, row: Any) -> Any:
    """An inner loop updates a tensor that the outer one reads afterwards."""
    inner, ys = volta.scan(lambda d, r: (d.at[2].add(r * row), d[2]), c, ROWS)
    return c * 0.5 + inner, (ys.sum(0) + c[2], inner[2])


def kept(c: Any, row: Any) -> Any:
    """The carry, and the tensor from outside that it started as, are collected."""
    return c.at[3].set(row * 2), (c, X[3])


def branch(c: Any, row: Any) -> Any:
    return volta.cond(row[0] > 0, lambda: c.at[0].set(row), lambda: c.at[1].add(row)), c


def counted(c: Any, row: Any) -> Any:
    """A loop of unknown length over a tensor that is needed again."""
    _, d = volta.while_loop(lambda s: s[0] < 3, lambda s: (s[0] + 1, s[1].at[4].add(row)), (Tensor(0), c))
    return d, (c * d).sum()


def program(x: Any, w: Any) -> Any:
    """Every hazard in one program, with gradients, whose backward loops read what the forward ones collected."""

    def loss(x: Any) -> Any:
        c, ys = scan(lambda c, r: (volta.tanh(c @ w).at[0].add(r), c[0] * r), x)
        return c.sum() + (ys * ys).sum()

    a, b = x * 2, x + 1
    return {
        "reads_after": scan(reads_after, x),
        "reversed": scan(reads_after, a, reverse=True),
        "updates": scan(updates, x),
        "updates of a value": scan(updates, a),
        "scalars": scan(scalars, (x.sum(), Tensor(0))),
        "swaps": scan(swaps, (a, b)),
        "same twice": scan(twice, (x, x)),
        "nested": scan(nested, x),
        "kept": scan(kept, x),
        "branch": scan(branch, b),
        "counted": scan(counted, a),
        "grad": volta.value_and_grad(loss)(x),
        "captured": scan(lambda c, r: (c + b.at[0].set(r).sum(), b[0] + x.at[1].add(r)[1]), x.sum()),
        "afterwards": (x, a, b),
    }


def test_nothing_that_is_read_is_overwritten(rolled: None) -> None:
    x, w = Tensor(X.numpy()), Tensor(W.numpy())
    expected = program(x, w)
    compiled = volta.jit(program)
    for _ in range(2):
        for (name, wanted), got in zip(expected.items(), compiled(x, w).values(), strict=True):
            for a, e in zip(tree.leaves(got), tree.leaves(wanted), strict=True):
                assert mismatch(np.asarray(a), np.asarray(e), 1e-5) is None, name
    np.testing.assert_array_equal(x, X)


def copies(text: str) -> list[int]:
    """The sizes in bytes of the copies in stream text."""
    constants = {name: int(value) for name, value in re.findall(r"(%\w+) = arith.constant (\d+) : index", text)}
    return [constants.get(size, -1) for size in re.findall(r"stream\.cmd\.copy .*?, .*?, (%\w+) :", text)]


@pytest.mark.parametrize("gradient", [False, True])
def test_collected_results_are_not_copied(rolled: None, gradient: bool, tmp_path: Path) -> None:
    """Each step writes its row only."""

    def loop(w: Any, xs: Any) -> Any:
        return volta.scan(lambda c, x: (volta.tanh(c @ w) + x, c * 2), xs[0], xs)

    def gradient_of(w: Any, xs: Any) -> Any:
        return volta.grad(lambda w, xs: loop(w, xs)[1].sum(), (0, 1))(w, xs)

    lowered = volta.jit(gradient_of if gradient else loop).lower(volta.spec((48, 48)), volta.spec((300, 48, 48)))
    source, out = tmp_path / "loop.mlir", tmp_path / "loop.stream.mlir"
    source.write_text(lowered.as_text("linalg"))
    flags = ["--iree-hal-target-device=local", "--iree-hal-local-target-device-backends=llvm-cpu"]
    compiler = Path(sys.executable).parent / "iree-compile"
    subprocess.run([compiler, source, *flags, "--compile-to=stream", "-o", out], check=True)
    text = out.read_text()
    assert text.count("cf.cond_br") == (2 if gradient else 1)
    sizes = copies(text)
    assert sizes
    assert set(sizes) <= {48 * 48 * 4}
