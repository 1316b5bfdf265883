"""Control flow and custom derivatives against the same computation written out in Python."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import volta_mlir as volta
from tests.tolerances import mismatch
from volta_mlir import Tensor, nn, tree
from volta_mlir.errors import DTypeError, ShapeError, TraceError

rng = np.random.default_rng(0)
#: Fixed data that the functions close over: a small one becomes a constant, the other one an operand.
MATRIX = Tensor(rng.normal(size=(3, 3)) * 0.5)
TABLE = Tensor(rng.normal(size=(20, 3)) * 0.5, "float32")


def assert_same(actual: Any, expected: Any, relative: float | None = None) -> None:
    """Equal trees of equal values."""
    (a, a_def), (e, e_def) = tree.flatten(actual), tree.flatten(expected)
    assert a_def == e_def
    for x, y in zip(a, e, strict=True):
        if isinstance(y, Tensor):
            assert mismatch(np.asarray(x), np.asarray(y), relative) is None
        else:
            assert x == y


@dataclass(frozen=True)
class Case:
    """A function with control flow and one without it that computes the same."""

    name: str
    function: Callable[..., Any]
    unrolled: Callable[..., Any]
    arguments: tuple[Any, ...]


def vector(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).uniform(0.2, 1.2, shape)


def step(carry: Any, x: Any) -> Any:
    carry = volta.tanh(MATRIX.astype(x.dtype) @ carry + x)
    return carry, carry * 2


def loop(function: Callable[..., Any], carry: Any, steps: Any, reverse: bool = False) -> Any:
    outs = []
    for x in reversed(steps) if reverse else steps:
        carry, y = function(carry, x)
        outs.append(y)
    return carry, volta.stack(outs[::-1] if reverse else outs)


def dict_step(carry: Any, x: Any) -> Any:
    a, b = x
    new = {"p": carry["p"] * a + b, "n": carry["n"] + 1, "q": volta.sin(carry["q"]) + carry["p"].sum()}
    return new, (new["p"] * new["q"], new["n"])


def dict_scan(p: Any, a: Any, b: Any) -> Any:
    carry, (y, n) = volta.scan(dict_step, {"p": p, "n": Tensor(0), "q": p.sum()}, (a, b))
    return carry["p"], carry["q"], y, n


def dict_loop(p: Any, a: Any, b: Any) -> Any:
    carry, ys, ns = {"p": p, "n": Tensor(0), "q": p.sum()}, [], []
    for i in range(a.shape[0]):
        carry, (y, n) = dict_step(carry, (a[i], b[i]))
        ys.append(y)
        ns.append(n)
    return carry["p"], carry["q"], volta.stack(ys), volta.stack(ns)


def nested_scan(x: Any, ys: Any) -> Any:
    def outer(c: Any, y: Any) -> Any:
        inner, outs = volta.scan(lambda d, z: (d * z + y, volta.sin(d)), c, ys)
        return inner, outs.sum()

    return volta.scan(outer, x, ys)


def nested_loop(x: Any, ys: Any) -> Any:
    n, outs = ys.shape[0], []
    for i in range(n):
        total = 0.0
        for j in range(n):
            total = volta.sin(x) + total
            x = x * ys[j] + ys[i]
        outs.append(total)
    return x, volta.stack(outs)


def rows(x: Any) -> list[Any]:
    return [x[i] for i in range(x.shape[0])]


def half(x: Any) -> Any:
    return x / 2


def branchy(x: Any, y: Any) -> Any:
    """A condition in every step of a scan, with captures of both kinds of arguments."""
    return volta.scan(lambda c, z: (volta.cond(z > 0.6, lambda a: a * volta.sin(z) + x.sum(), half, c), c), x, y)


def branchy_unrolled(x: Any, y: Any) -> Any:
    first = x
    return loop(lambda c, z: (volta.where(z > 0.6, c * volta.sin(z) + first.sum(), c / 2), c), x, rows(y))


def compose(first: Any, second: Any) -> Any:
    """The maps ``y -> a * y + b`` one after the other, which is associative but not commutative."""
    return first[0] * second[0], first[1] * second[0] + second[1]


def by_steps(function: Callable[..., Any], *xs: Any) -> tuple[Any, ...]:
    """The prefixes along axis 1, one after the other."""
    total = tuple(x[:, 0] for x in xs)
    steps = [total]
    for i in range(1, xs[0].shape[1]):
        total = function(total, tuple(x[:, i] for x in xs))
        steps.append(total)
    return tuple(volta.stack(values, 1) for values in zip(*steps, strict=True))


@volta.custom_vjp
def cube(x: Any, k: Any) -> Any:
    return x * x * x * k


cube.defvjp(lambda x, k: (x * x * x * k, (x, k)), lambda saved, ct: (ct * 3 * saved[0] * saved[0] * saved[1], None))


def frozen_factor(f: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x, k: f(x, volta.stop_gradient(k))


CASES = [
    Case("scan", lambda c, x: volta.scan(step, c, x), lambda c, x: loop(step, c, rows(x)), (vector(3), vector(4, 3))),
    Case(
        "reversed scan",
        lambda c, x: volta.scan(step, c, x, reverse=True),
        lambda c, x: loop(step, c, rows(x), reverse=True),
        (vector(3), vector(4, 3)),
    ),
    Case("scan over trees", dict_scan, dict_loop, (vector(2), vector(3, 2), vector(3, 2))),
    Case(
        "scan of a number of steps",
        lambda c, w: volta.scan(lambda c, _: (volta.sin(c) * w, None), c, length=3),
        lambda c, w: (volta.sin(volta.sin(volta.sin(c) * w) * w) * w, None),
        (vector(2), vector(2)),
    ),
    Case(
        "scan of one step",
        lambda c, x: volta.scan(step, c, x),
        lambda c, x: loop(step, c, rows(x)),
        (vector(3), vector(1, 3)),
    ),
    Case(
        "scan whose result ignores the carry",
        lambda c, x: volta.scan(lambda c, x: (c, x * x), c, x)[1],
        lambda c, x: x * x,
        (vector(2), vector(3)),
    ),
    Case("nested scan", nested_scan, nested_loop, (vector(), vector(3))),
    Case(
        "fori_loop",
        lambda x: volta.fori_loop(1, 4, lambda i, c: volta.sin(c) * i.astype(c.dtype), x),
        lambda x: volta.sin(volta.sin(volta.sin(x)) * 2) * 3,
        (vector(3),),
    ),
    Case(
        "cond, true",
        lambda x, y: volta.cond(x.sum() > 0, lambda a: a * volta.sin(y), half, x),
        lambda x, y: x * volta.sin(y),
        (vector(3), vector(3)),
    ),
    Case(
        "cond, false",
        lambda x, y: volta.cond(x.sum() < 0, lambda a: (a * y, y), lambda a: (volta.cos(a), a), x),
        lambda x, y: (volta.cos(x), x),
        (vector(3), vector(3)),
    ),
    Case(
        "nested cond",
        lambda x, y: volta.cond(x > 0, lambda: volta.cond(y > 100, lambda: x, lambda: x * y * volta.sin(x)), lambda: y),
        lambda x, y: x * y * volta.sin(x),
        (vector(), vector(1)[0]),
    ),
    Case(
        "switch",
        lambda x: volta.switch(Tensor(7), [half, lambda x: -x, lambda x: volta.exp(x) * x], x),
        lambda x: volta.exp(x) * x,
        (vector(3),),
    ),
    Case(
        "associative_scan",
        lambda x: volta.associative_scan(compose, (x, x * x), axis=1),
        lambda x: by_steps(compose, x, x * x),
        (vector(2, 7),),
    ),
    Case(
        "reversed associative_scan",
        lambda x: volta.associative_scan(compose, (x, volta.sin(x)), reverse=True),
        lambda x: tuple(
            volta.flip(y, 1).T for y in by_steps(compose, volta.flip(x.T, 1), volta.flip(volta.sin(x.T), 1))
        ),
        (vector(4, 2),),
    ),
    Case("cond in scan", branchy, branchy_unrolled, (vector(2), vector(4))),
    Case(
        "scan in cond",
        lambda c, x: volta.cond(c.sum() > 0, lambda: volta.scan(step, c, x)[0], lambda: c),
        lambda c, x: loop(step, c, rows(x))[0],
        (vector(3), vector(2, 3)),
    ),
    Case(
        "checkpoint",
        lambda x, y: volta.checkpoint(lambda a: volta.sin(a * y) * a)(x) * y,
        lambda x, y: volta.sin(x * y) * x * y,
        (vector(3), vector(3)),
    ),
    Case(
        "nested checkpoint",
        lambda x: volta.checkpoint(lambda a: volta.checkpoint(lambda b: volta.sin(b) * b)(a) * a)(x),
        lambda x: volta.sin(x) * x * x,
        (vector(3),),
    ),
    Case(
        "checkpoint in scan",
        lambda c, x: volta.scan(volta.checkpoint(step), c, x),
        lambda c, x: loop(step, c, rows(x)),
        (vector(3), vector(3, 3)),
    ),
    Case(
        "scan in checkpoint",
        lambda c, x: volta.checkpoint(lambda c, x: volta.scan(step, c, x))(c, x),
        lambda c, x: loop(step, c, rows(x)),
        (vector(3), vector(3, 3)),
    ),
]
#: Functions that have a derivative in one mode only.
REVERSE_ONLY = [
    Case("custom_vjp", frozen_factor(cube), frozen_factor(lambda x, k: x * x * x * k), (vector(3), vector(3))),
    Case(
        "custom_vjp in scan",
        lambda x, k: volta.scan(lambda c, y: (cube(c, volta.stop_gradient(k)) + y, c), x[0], x),
        lambda x, k: loop(lambda c, y: (c * c * c * volta.stop_gradient(k) + y, c), x[0], rows(x)),
        (vector(3), vector()),
    ),
    Case(
        "custom_vjp in cond",
        lambda x, k: volta.cond(k > 0, lambda: cube(x, volta.stop_gradient(k)), lambda: x),
        lambda x, k: x * x * x * volta.stop_gradient(k),
        (vector(3), vector()),
    ),
]


def triangle(x: Any) -> Any:
    """Doubles until 5 is exceeded."""
    return volta.while_loop(lambda s: s[0] < 5.0, lambda s: (s[0] * 2.0, volta.sin(s[1]) * s[0]), (x, x * x))


def triangle_unrolled(x: Any) -> Any:
    s = (x, x * x)
    for _ in range(3):
        s = (s[0] * 2.0, volta.sin(s[1]) * s[0])
    return s


FORWARD_ONLY = [
    Case("while_loop", triangle, triangle_unrolled, (np.array(0.8),)),
    Case(
        "fori_loop with traced bounds",
        lambda x: volta.fori_loop(0, Tensor(3), lambda i, c: volta.sin(c) * x, x),
        lambda x: volta.sin(volta.sin(volta.sin(x) * x) * x) * x,
        (vector(2),),
    ),
    Case(
        "while_loop in scan",
        lambda x, y: volta.scan(lambda c, z: (c + triangle(z)[1], c), x, y),
        lambda x, y: loop(lambda c, z: (c + triangle_unrolled(z)[1], c), x, rows(y)),
        (vector(), np.array([0.8, 1.0])),
    ),
]


def scalar(function: Callable[..., Any]) -> Callable[..., Any]:
    """A float scalar that depends on every float result, by a different factor for each."""

    def wrapper(*args: Any) -> Any:
        leaves = [x for x in tree.leaves(function(*args)) if isinstance(x, Tensor) and x.dtype.kind == "f"]
        return sum((volta.cos(x) * (i + 0.5)).sum() for i, x in enumerate(leaves))

    return wrapper


def directions(args: Any) -> tuple[Any, ...]:
    return tuple(Tensor(np.cos(np.arange(a.size)).reshape(a.shape).astype(a.dtype)) for a in args)


def gradient(function: Callable[..., Any], args: Any) -> Any:
    return volta.grad(scalar(function), tuple(range(len(args))))(*args)


def slope(function: Callable[..., Any], args: Any) -> Any:
    """The gradient's inner product with the directions; its gradient is of second order."""
    pairs = zip(gradient(function, args), directions(args), strict=True)
    return sum((g * d).sum() for g, d in pairs)


def derivatives(function: Callable[..., Any], args: Any) -> dict[str, Any]:
    """Derivatives in all modes."""
    every = tuple(range(len(args)))
    return {
        "jvp": volta.jvp(function, args, directions(args)),
        "grad": gradient(function, args),
        "forward over reverse": volta.jvp(lambda *a: gradient(function, a), args, directions(args))[1],
        "reverse over reverse": volta.grad(lambda *a: slope(function, a), every)(*args),
        "reverse over forward": volta.grad(
            lambda *a: scalar(lambda *b: volta.jvp(function, b, directions(b))[1])(*a), every
        )(*args),
    }


def many(args: Any) -> tuple[Any, ...]:
    """Three versions of the arguments, along a new leading axis."""
    return tuple(Tensor(np.stack([a * s for s in (1.0, 0.9, 0.8)]).astype(a.dtype)) for a in args)


def tensors(case: Case, dtype: str) -> tuple[Tensor, ...]:
    return tuple(Tensor(a, dtype) for a in case.arguments)


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_values_and_derivatives_of_all_orders(case):
    args = tensors(case, "float64")
    assert_same(case.function(*args), case.unrolled(*args), 1e-14)
    assert_same(derivatives(case.function, args), derivatives(case.unrolled, args), 1e-12)


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_vmap_of_derivatives_and_derivatives_of_vmap(case):
    args = many(case.arguments)

    def results(function: Callable[..., Any]) -> Any:
        return {
            "vmap": volta.vmap(function)(*args),
            "vmap of some": volta.vmap(function, (0, *[None] * (len(args) - 1)))(args[0], *(a[0] for a in args[1:])),
            "vmap of grad": volta.vmap(lambda *a: gradient(function, a))(*args),
            "vmap of jvp": volta.vmap(lambda *a: volta.jvp(function, a, a))(*args),
            "grad of vmap": gradient(volta.vmap(function), args),
        }

    assert_same(results(case.function), results(case.unrolled), 1e-12)


@pytest.mark.parametrize("case", REVERSE_ONLY, ids=lambda c: c.name)
def test_functions_with_reverse_mode_only(case):
    args = tensors(case, "float64")
    assert_same(case.function(*args), case.unrolled(*args), 1e-14)
    assert_same(gradient(case.function, args), gradient(case.unrolled, args), 1e-12)
    second = [volta.grad(lambda *a, f=f: slope(f, a))(*args) for f in (case.function, case.unrolled)]
    assert_same(*second, 1e-12)
    stacked = many(case.arguments)
    batched = [volta.vmap(lambda *a, f=f: gradient(f, a))(*stacked) for f in (case.function, case.unrolled)]
    assert_same(*batched, 1e-12)


@pytest.mark.parametrize("case", FORWARD_ONLY, ids=lambda c: c.name)
def test_functions_with_forward_mode_only(case):
    args = tensors(case, "float64")
    assert_same(case.function(*args), case.unrolled(*args), 1e-14)
    first = [volta.jvp(f, args, directions(args)) for f in (case.function, case.unrolled)]
    assert_same(*first, 1e-12)
    second = [
        volta.jvp(lambda *a, f=f: volta.jvp(f, a, directions(a))[1], args, directions(args))
        for f in (case.function, case.unrolled)
    ]
    assert_same(*second, 1e-12)
    with pytest.raises(TraceError, match=r"while_loop can't be differentiated in reverse mode.*scan"):
        gradient(case.function, args)


def test_associative_scan_of_every_length():
    calls = []

    def concatenated(a: Any, b: Any) -> Any:
        calls.append(a["last"].shape[0])
        return {"first": a["first"], "last": b["last"], "count": a["count"] + b["count"]}

    for n in range(1, 20):
        calls.clear()
        x = volta.arange(n)
        found = volta.associative_scan(concatenated, {"first": x, "last": x, "count": volta.ones_like(x)})
        assert found["first"].tolist() == [0] * n
        assert found["last"].tolist() == list(range(n))
        assert found["count"].tolist() == list(range(1, n + 1))
        assert len(calls) <= 2 * np.log2(n)
        assert sum(calls) < 2 * n


def test_a_fori_loop_with_ints_of_numpy_has_a_gradient():
    def power(x):
        return volta.fori_loop(np.int64(0), np.array([3, 4])[0], lambda i, c: c * x, Tensor(1.0))

    assert volta.grad(power)(Tensor(2.0)).item() == 12.0


def test_examples_of_a_mapped_while_loop_stop_by_themselves():
    x = Tensor([0.8, 3.0, 20.0])
    halves = volta.vmap(lambda x: volta.while_loop(lambda y: y < 5.0, lambda y: y * 2.0, x))(x)
    assert halves.tolist() == pytest.approx([6.4, 6.0, 20.0])
    counts = volta.vmap(lambda n: volta.fori_loop(0, n, lambda i, c: c + i, Tensor(0)))(Tensor([0, 1, 4]))
    assert counts.tolist() == [0, 0, 6]


def test_examples_of_a_mapped_switch_choose_by_themselves():
    branches = [half, lambda x: -x, lambda x: x * x]
    results = volta.vmap(lambda i, x: volta.switch(i, branches, x))(Tensor([-3, 0, 1, 2, 9]), volta.ones(5) * 4.0)
    assert results.tolist() == [2.0, 2.0, -4.0, 16.0, 16.0]
    assert volta.vmap(lambda p: volta.cond(p, lambda: 1.0, lambda: 2.0))(Tensor([True, False])).tolist() == [1.0, 2.0]


# -- compiled ----------------------------------------------------------------------------------------------------------


def test_compiled():
    """Derivatives of every kind of control flow in one program, in float32."""
    names = {"scan over trees", "nested scan", "switch", "cond in scan", "scan in checkpoint", "custom_vjp in scan"}
    reverse = [case for case in (*CASES, *REVERSE_ONLY) if case.name in names]

    def program(arguments: dict[str, Any], unrolled: bool) -> dict[str, Any]:
        found = {}
        for case in (*reverse, *FORWARD_ONLY):
            function, args = case.unrolled if unrolled else case.function, arguments[case.name]
            if case in reverse:
                found[case.name] = function(*args), gradient(function, args)
            else:
                found[case.name] = volta.jvp(function, args, directions(args))
        return found

    arguments = {case.name: tensors(case, "float32") for case in (*reverse, *FORWARD_ONLY)}
    compiled = volta.jit(program, static="unrolled")(arguments, False)
    assert_same(compiled, program(arguments, True), 1e-5)


def test_compiled_loops_and_branches():
    """What is too long to unroll, and what is only known when it runs."""

    @volta.jit
    def program(x: Any, index: Any, count: Any) -> Any:
        carry, ys = volta.scan(lambda c, row: (volta.sin(c) + row * TABLE[0], c[0]), TABLE[1], x)
        chosen = volta.switch(index, [half, lambda x: -x, lambda x: x * x], x[:2])
        counted = volta.fori_loop(0, count, lambda i, c: c + i, Tensor(0))
        gradient = volta.grad(lambda x: volta.scan(lambda c, r: (c * 0.99 + r, None), TABLE[2], x)[0].sum())(x)
        return carry, ys, chosen, counted, gradient

    x = Tensor(rng.normal(size=(900, 3)), "float32")
    for index, count in ((-1, 0), (1, 3), (5, 10)):
        actual = program(x, Tensor(index), Tensor(count))
        assert_same(actual, program.function(x, Tensor(index), Tensor(count)), 1e-5)
    text = program.lower(x, Tensor(0), Tensor(0)).as_text("linalg")
    assert "scf.for" in text
    assert "scf.while" in text
    assert "scf.if" in text


# -- buffers, errors ---------------------------------------------------------------------------------------------------


class Counter(nn.Module):
    def __init__(self) -> None:
        self.total = nn.Buffer(volta.zeros(()))

    def forward(self, x: Any) -> Any:
        self.total = self.total + x
        return x * self.total


def test_a_buffer_assigned_in_a_scan_is_carried():
    counter = Counter()
    total, _ = volta.scan(lambda c, y: (c + counter(y), None), 0.0, Tensor([1.0, 2.0, 3.0, 4.0]))
    assert total.item() == 1 * 1 + 2 * 3 + 3 * 6 + 4 * 10
    assert counter.total.item() == 10


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: volta.scan(lambda c, x: (c, x), 0.0), ShapeError, "must have one leading length, got no xs"),
        (lambda x: volta.scan(lambda c, x: (c, x), 0.0, (x, x[1:])), ShapeError, "one leading length, got"),
        (lambda x: volta.scan(lambda c, x: (c, x), 0.0, x, length=2), ShapeError, "and length=2"),
        (lambda x: volta.scan(lambda c, x: (c, x), 0.0, x.sum()), ShapeError, "one leading length"),
        (lambda x: volta.scan(lambda c, x: c, 0.0, x), ShapeError, r"must return a pair \(carry, y\)"),
        (
            lambda x: volta.scan(lambda c, x: ((c, c), x), 0.0, x),
            ShapeError,
            r"carry began as float32\[\] and came back as a tuple of 2",
        ),
        (lambda x: volta.scan(lambda c, x: (c + x, x), 0, x), ShapeError, r"int32\[\] and came back as .*float32\[\]"),
        (
            lambda x: volta.scan(lambda c, x: ({"a": [c["a"][0], x], "b": None}, x), {"a": [x, x], "b": x}, x),
            ShapeError,
            r"carry\.a\.1 began as float32\[3\] and came back as float32\[\]; carry\.b began as .* None",
        ),
        (
            lambda x: volta.cond(x.sum() > 0, lambda: {"a": x}, lambda: {"b": x}),
            ShapeError,
            "the result is a dict of b in on_false and a dict of a in on_true",
        ),
        (
            lambda x: volta.associative_scan(lambda a, b: {"k": a["k"]}, {"k": x, "l": x}),
            ShapeError,
            "for elems it took a dict of k, l and returned a dict of k",
        ),
        (lambda x: volta.associative_scan(lambda a, b: a, (x, x[1:])), ShapeError, "one extent along axis 0, got"),
        (lambda x: volta.associative_scan(lambda a, b: a, ()), ShapeError, "got no tensors"),
        (lambda x: volta.associative_scan(lambda a, b: a, x.sum()), ShapeError, "axis 0 is out of range for rank 0"),
        (lambda x: volta.associative_scan(lambda a, b: (a, b), x), ShapeError, "must return what it takes"),
        (lambda x: volta.associative_scan(lambda a, b: a > b, x), ShapeError, r"float32\[1\] and returned .*bool\[1\]"),
        (lambda x: volta.while_loop(lambda c: c, lambda c: c, x), DTypeError, "condition must return a bool scalar"),
        (lambda x: volta.while_loop(lambda c: True, lambda c: c[0], x), ShapeError, "the carry must keep its type"),
        (lambda x: volta.switch(0, []), TraceError, "there are no branches"),
        (lambda x: volta.switch(x.astype("int32"), [lambda: 0]), ShapeError, "the index is a scalar"),
        (lambda x: volta.switch(0, [lambda: x, lambda: x[0]]), ShapeError, "branches must return the same type"),
        (lambda x: volta.cond(x[0], lambda: x, lambda: x), DTypeError, "the predicate is a bool scalar, got float32"),
        (lambda x: volta.custom_vjp(half)(x), TraceError, r"half has no derivative yet; call its defvjp"),
    ],
)
def test_misuse_names_the_users_line(call, error, message):
    with pytest.raises(error, match=message) as caught:
        call(volta.ones(3))
    assert caught.value.location.startswith(f"{__file__}:")
    with pytest.raises(error, match=message):
        volta.jit(call)(volta.ones(3))


@pytest.mark.parametrize(
    "call",
    [
        lambda c: volta.cond(c.total > 0, lambda: c(1.0), lambda: c.total),
        lambda c: volta.while_loop(lambda x: x < 3, lambda x: x + c(1.0), volta.zeros(())),
        lambda c: volta.vmap(c)(volta.ones(2)),
    ],
)
def test_a_buffer_assigned_where_that_has_no_meaning(call):
    counter = Counter()
    with pytest.raises(TraceError, match="a Buffer was assigned"):
        call(counter)
    assert counter.total.item() == 0


def test_forward_mode_of_custom_vjp_is_refused():
    for function in (volta.jvp, volta.jit(volta.jvp)):
        with pytest.raises(TraceError, match="has a custom_vjp, which defines reverse mode only"):
            function(lambda x: cube(x, 1.0), (Tensor(2.0),), (Tensor(1.0),))


@pytest.mark.parametrize(
    ("fwd", "bwd", "message"),
    [
        (lambda x: x, lambda saved, ct: (ct,), r"fwd must return a pair \(result, residuals\)"),
        (lambda x: ((x, x), None), lambda saved, ct: (ct,), "fwd must return the function's result first"),
        (lambda x: (x, None), lambda saved, ct: ct, "bwd must return a tuple with 1 cotangents"),
        (lambda x: (x, None), lambda saved, ct: ((ct, ct),), "a cotangent must have the structure of its argument"),
        (lambda x: (x, None), lambda saved, ct: (ct.sum(),), r"bwd returned a cotangent float32\[\] for an argument"),
    ],
)
def test_a_custom_vjp_that_does_not_fit(fwd, bwd, message):
    function = volta.custom_vjp(lambda x: x)
    function.defvjp(fwd, bwd)
    with pytest.raises(ShapeError, match=message):
        volta.grad(lambda x: function(x).sum())(volta.ones(2))


def test_custom_vjp_takes_trees_and_captures():
    scale = TABLE.sum()

    @volta.custom_vjp
    def function(tree, x, n):
        return {"y": tree["a"] * x, "n": n}

    def bwd(saved, cotangents):
        return {"a": saved * cotangents["y"] * scale, "b": None}, None, None

    function.defvjp(lambda tree, x, n: ({"y": tree["a"] * x, "n": n}, x), bwd)
    grads = volta.grad(lambda t, x: function(t, x, Tensor(3))["y"], (0, 1))(
        {"a": Tensor(2.0), "b": Tensor(1.0)}, Tensor(5.0)
    )
    assert grads[0]["a"].item() == pytest.approx(5 * scale.item())
    assert grads[0]["b"].item() == 0
    assert grads[1].item() == 0


def test_checkpoint_computes_again_what_it_does_not_keep():
    def layer(x):
        return volta.sin(volta.sin(x))

    def count(function):
        lowered = volta.jit(volta.value_and_grad(lambda x: function(x).sum())).lower(volta.spec(4))
        return lowered.as_text("cse").count('"volta.sin"')

    assert count(layer) == 2
    assert count(volta.checkpoint(layer)) == 3


# -- policies of checkpoints ---------------------------------------------------------------------------------------


def _named_layer(w: Tensor, x: Tensor) -> Tensor:
    h = volta.checkpoint_name(x @ w, "h")
    return volta.tanh(volta.sin(h) * volta.exp(-h * h))


def _network(layer: Any) -> Any:
    def loss(ws: list[Tensor], x: Tensor) -> Tensor:
        for w in ws:
            x = layer(w, x)
        return (x * x).sum()

    return loss


#: Products and sines in the gradient of three layers: the forward pass has 3 of each, the gradient two products for
#: each layer, but one for the first.
@pytest.mark.parametrize(
    ("policy", "products", "sines"),
    [
        (None, 3 + 5 + 3, 3 + 3),
        (volta.dots_saveable, 3 + 5, 3 + 3),
        (volta.save_only_names("h"), 3 + 5, 3 + 3),
        (volta.save_only_names("other"), 3 + 5 + 3, 3 + 3),
        (lambda value: value.op in ("sin", "dot_general"), 3 + 5, 3),
        (lambda value: value.spec.shape == (4, 8), 3 + 5, 3),
    ],
)
def test_policies_say_what_is_computed_again(policy: Any, products: int, sines: int) -> None:
    rng = np.random.default_rng(0)
    ws = [Tensor(rng.standard_normal((8, 8)) / 3) for _ in range(3)]
    x = Tensor(rng.standard_normal((4, 8)))
    step = volta.grad(_network(volta.checkpoint(_named_layer, policy=policy)))
    text = volta.jit(step).lower(ws, x).as_text("volta-simplify")
    assert (text.count("volta.dot_general"), text.count("volta.sin")) == (products, sines)
    assert "checkpoint_name" not in text
    expected = volta.grad(_network(_named_layer))(ws, x)
    for results in (step(ws, x), volta.jit(step)(ws, x)):
        for e, a in zip(expected, results, strict=True):
            np.testing.assert_allclose(a.numpy(), e.numpy(), rtol=1e-4, atol=1e-6)


def test_a_policy_is_told_about_each_value() -> None:
    seen: list[volta.Intermediate] = []

    def policy(value: volta.Intermediate) -> bool:
        seen.append(value)
        return False

    volta.grad(_network(volta.checkpoint(_named_layer, policy=policy)))([volta.ones((2, 2))], volta.ones((3, 2)))
    assert [value.op for value in seen] == ["dot_general", "checkpoint_name", "sin", "neg", "mul", "exp", "mul", "tanh"]
    assert [value.name for value in seen if value.name] == ["h"]
    line = _named_layer.__code__.co_firstlineno + 1
    assert (seen[0].spec, seen[0].location) == (volta.spec((3, 2)), f"{__file__}:{line}")


def test_policies_nest_and_differentiate_again() -> None:
    layer = volta.checkpoint(_named_layer, policy=volta.dots_saveable)
    outer = volta.checkpoint(lambda w, x: layer(w, layer(w, x)), policy=volta.save_only_names("h"))
    rng = np.random.default_rng(1)
    w, x = (Tensor(rng.standard_normal(shape) / 2) for shape in ((3, 3), (2, 3)))

    def plain(w: Tensor, x: Tensor) -> Tensor:
        return _named_layer(w, _named_layer(w, x))

    for derivative in (
        lambda f: volta.hvp(lambda w: f(w, x).sum(), (w,), (volta.ones_like(w),)),
        lambda f: volta.vmap(volta.grad(lambda x: (f(w, x) ** 2).sum()))(volta.stack([x, x + 1])),
        lambda f: volta.grad(lambda w: (volta.grad(lambda x: f(w, x).sum())(x) ** 2).sum())(w),
    ):
        expected, actual = (volta.tree.leaves(derivative(f)) for f in (plain, outer))
        for e, a in zip(expected, actual, strict=True):
            np.testing.assert_allclose(a.numpy(), e.numpy(), rtol=1e-8)


@pytest.mark.parametrize("policy", ["dots", 1])
def test_a_policy_is_a_function(policy: Any) -> None:
    with pytest.raises(volta.OptionError, match="a policy is volta"):
        volta.checkpoint(lambda x: x, policy=policy)


@pytest.mark.parametrize("names", [(), (1,), ("a", None)])
def test_names_are_strings(names: Any) -> None:
    with pytest.raises(volta.OptionError, match="save_only_names takes the names of values"):
        volta.save_only_names(*names)


@pytest.mark.parametrize("name", ["", 3, None])
def test_a_name_is_a_string(name: Any) -> None:
    with pytest.raises(volta.OptionError, match="checkpoint_name takes a name of at least one letter"):
        volta.checkpoint_name(volta.ones(2), name)
