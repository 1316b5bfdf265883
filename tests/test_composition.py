"""Random compositions of transforms and control flow, against the same computation written out in Python."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import volta_mlir as volta
from tests.tolerances import INNER_PRODUCT, mismatch
from volta_mlir import Tensor

Function = Callable[[Any], Any]
EXTENT = 3
ROWS = Tensor(np.random.default_rng(5).uniform(-1, 1, (4, EXTENT)))


@dataclass(frozen=True)
class Pair:
    """A function of a vector with transforms and control flow, and one without them; both return a vector."""

    text: str
    function: Function
    plain: Function

    def __repr__(self) -> str:
        return self.text


def elementary() -> st.SearchStrategy[Pair]:
    functions: dict[str, Function] = {
        "sin": volta.sin,
        "square": lambda x: x * x * 0.5,
        "mix": lambda x: x[::-1] * 0.7 + x.mean(),
        "tanh": lambda x: volta.tanh(x - 0.2),
    }
    return st.sampled_from([Pair(name, f, f) for name, f in functions.items()])


def scanned(f: Pair, g: Pair, reverse: bool, length: int) -> Pair:
    def loop(x: Any) -> Any:
        total: Any = 0.0
        rows = [ROWS[i] for i in range(length)]
        for row in reversed(rows) if reverse else rows:
            x, y = f.plain(x) * 0.6 + row, g.plain(x)
            total = total + y * row
        return x + total

    def scan(x: Any) -> Any:
        rows = ROWS[:length]
        x, ys = volta.scan(lambda c, row: (f.function(c) * 0.6 + row, g.function(c)), x, rows, reverse=reverse)
        return x + (ys * rows).sum(0)

    return Pair(f"scan({f}, {g}, reverse={reverse}, length={length})", scan, loop)


def branched(f: Pair, g: Pair) -> Pair:
    return Pair(
        f"cond({f}, {g})",
        lambda x: volta.cond(x.sum() > 0.1, f.function, lambda x: g.function(x) - x, x),
        lambda x: volta.where(x.sum() > 0.1, f.plain(x), g.plain(x) - x),
    )


def mapped(f: Pair) -> Pair:
    factors = Tensor(np.array([0.5, -1.0]))
    return Pair(
        f"vmap({f})",
        lambda x: volta.vmap(lambda a: f.function(a * x))(factors).sum(0),
        lambda x: f.plain(x * 0.5) + f.plain(-x),
    )


def looped(f: Pair, count: int) -> Pair:
    def loop(x: Any) -> Any:
        for i in range(count):
            x = f.plain(x) * (0.3 + i)
        return x

    return Pair(
        f"fori_loop({f}, {count})",
        lambda x: volta.fori_loop(0, count, lambda i, c: f.function(c) * (i.astype(c.dtype) + 0.3), x),
        loop,
    )


def differentiated(f: Pair) -> Pair:
    """One derivative in reverse mode, written out as one in forward mode for each element."""

    def by_columns(x: Any) -> Any:
        columns = [volta.jvp(lambda x: f.plain(x).sum(), (x,), (e,))[1] for e in volta.eye(EXTENT, dtype=x.dtype)]
        return volta.stack(columns)

    return Pair(f"grad({f})", lambda x: volta.grad(lambda x: f.function(x).sum())(x), by_columns)


def accumulated(f: Pair) -> Pair:
    def loop(x: Any) -> Any:
        rows = f.plain(x) * ROWS
        total = rows[0]
        sums = [total]
        for i in range(1, ROWS.shape[0]):
            total = total * 0.5 * rows[i] + rows[i]
            sums.append(total)
        return volta.stack(sums).sum(0)

    # The maps y -> a * y + b, which are composed.
    def compose(first: Any, second: Any) -> Any:
        return first[0] * second[0], first[1] * second[0] + second[1]

    def scan(x: Any) -> Any:
        rows = f.function(x) * ROWS
        return volta.associative_scan(compose, (rows * 0.5, rows))[1].sum(0)

    return Pair(f"associative_scan({f})", scan, loop)


def compositions() -> st.SearchStrategy[Pair]:
    def extend(inner: st.SearchStrategy[Pair]) -> st.SearchStrategy[Pair]:
        return st.one_of(
            st.builds(scanned, inner, elementary(), st.booleans(), st.integers(1, 4)),
            st.builds(branched, inner, elementary()),
            st.builds(mapped, inner),
            st.builds(looped, inner, st.integers(0, 3)),
            st.builds(differentiated, inner),
            st.builds(accumulated, inner),
            st.builds(lambda f: Pair(f"checkpoint({f})", volta.checkpoint(f.function), f.plain), inner),
        )

    return st.recursive(elementary(), extend, max_leaves=3)


def assert_close(actual: Any, expected: Any) -> None:
    assert mismatch(np.asarray(actual), np.asarray(expected), 1e-10) is None


def vectors() -> st.SearchStrategy[Tensor]:
    # A little off the grid, so that no condition is met by rounding alone.
    numbers = st.integers(-8, 8).map(lambda n: n / 8 + 0.01)
    return st.tuples(*[numbers] * EXTENT).map(lambda x: Tensor(np.array(x)))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(compositions(), vectors(), vectors())
def test_compositions(pair: Pair, x: Tensor, t: Tensor) -> None:
    """The value, and that forward mode, reverse mode and vmap agree with the loop and with each other."""
    out, tangent = volta.jvp(pair.function, (x,), (t,))
    assert_close(pair.function(x), pair.plain(x))
    expected, expected_tangent = volta.jvp(pair.plain, (x,), (t,))
    assert_close(out, expected)
    assert_close(tangent, expected_tangent)
    cotangent = Tensor(np.array([0.5, -1.0, 2.0]))
    (gradient,) = volta.vjp(pair.function, x)[1](cotangent)
    left, right = (tangent * cotangent).sum().item(), (t * gradient).sum().item()
    assert left == pytest.approx(right, rel=INNER_PRODUCT, abs=INNER_PRODUCT)
    both = volta.vmap(pair.function)(volta.stack([x, t]))
    assert_close(both, volta.stack([pair.plain(x), pair.plain(t)]))


@pytest.mark.no_cover
def test_compiled_compositions() -> None:
    """One program of a few deep ones, with second derivatives."""
    sin, mix, tanh = (Pair(f.__name__, f, f) for f in (volta.sin, lambda x: x[::-1] * 0.7 + x.mean(), volta.tanh))
    pairs = [
        scanned(branched(mapped(sin), tanh), mix, True, 2),
        mapped(scanned(differentiated(sin), accumulated(mix), False, 2)),
    ]

    def program(functions: list[Function], x: Any) -> list[Any]:
        return [(f(x), volta.hvp(lambda x, f=f: f(x).sum(), (x,), (volta.cos(x),))) for f in functions]

    x = Tensor(np.array([0.3, -0.2, 0.9]))
    compiled = volta.jit(lambda x: program([p.function for p in pairs], x))(x)
    for pair, (value, (second,)), (expected, (expected_second,)) in zip(
        pairs, compiled, program([p.plain for p in pairs], x), strict=True
    ):
        assert mismatch(np.asarray(value), np.asarray(expected), 1e-12) is None, pair
        assert mismatch(np.asarray(second), np.asarray(expected_second), 1e-10) is None, pair
