"""grad, vjp, jvp, vmap and hessian: of what, by what, nested, outside and inside of compiled functions."""

from __future__ import annotations

import inspect
from collections import namedtuple
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import volta_mlir as volta
from tests.tolerances import mismatch
from volta_mlir import Tensor, nn, tree
from volta_mlir.errors import DTypeError, ShapeError, TraceError

Pair = namedtuple("Pair", "first second")


def line() -> int:
    """The line that calls this."""
    return inspect.currentframe().f_back.f_lineno


def assert_same(actual: Any, expected: Any, relative: float | None = None) -> None:
    """Equal trees of equal values."""
    (a, a_def), (e, e_def) = tree.flatten(actual), tree.flatten(expected)
    assert a_def == e_def
    for x, y in zip(a, e, strict=True):
        assert (x is None) == (y is None)
        if y is not None:
            assert mismatch(np.asarray(x), np.asarray(y, np.asarray(x).dtype), relative) is None


# -- by what -----------------------------------------------------------------------------------------------------------


def test_grad_by_several_arguments():
    def function(x, y, z):
        return (x * y * y + z).sum()

    x, y, z = Tensor([1.0, 2.0]), Tensor([3.0, 4.0]), Tensor(1.0)
    assert volta.grad(function)(x, y, z).tolist() == [9.0, 16.0]
    assert volta.grad(function, -1)(x, y, z).item() == 2.0
    both = volta.grad(function, (1, 0))(x, y, z)
    assert [g.tolist() for g in both] == [[6.0, 16.0], [9.0, 16.0]]
    (alone,) = volta.grad(function, (0,))(x, y, z)
    assert alone.tolist() == [9.0, 16.0]
    value, gradient = volta.value_and_grad(function)(x, y=y, z=z)
    assert (value.item(), gradient.tolist()) == (43.0, [9.0, 16.0])
    for argnums in (3, -4, (0, 5)):
        with pytest.raises(TraceError, match="out of range, the function got 3 positional arguments"):
            volta.grad(function, argnums)(x, y, z)


def test_grad_of_trees():
    point = {"a": Pair(Tensor(2.0), [Tensor([1.0, 2.0])]), "n": Tensor(3), "flag": None, "b": (Tensor(1.0), "text")}
    gradient = volta.grad(lambda p: (p["a"].first * p["a"].second[0] * p["n"]).sum())(point)
    assert gradient["a"].first.item() == 9.0
    assert gradient["a"].second[0].tolist() == [6.0, 6.0]
    assert gradient["n"] is None
    assert gradient["flag"] is None
    assert (gradient["b"][0].item(), gradient["b"][1]) == (0.0, None)


def test_grad_by_numbers_and_arrays():
    assert volta.grad(lambda x: x * x)(3.0).item() == 6.0
    gradient = volta.grad(lambda x: (x * x).sum())(np.array([1.0, 2.0]))
    assert (gradient.dtype.name, gradient.tolist()) == ("float64", [2.0, 4.0])
    for dtype in ("float16", "bfloat16"):
        assert volta.grad(lambda x: (x * x).sum())(Tensor([1.0, 2.0], dtype)).dtype.name == dtype


def test_numbers_that_are_not_differentiated_stay_numbers():
    def function(x, n, flag=False, scale=1.0):
        for _ in range(n):
            x = x * 2
        return x * scale if flag else x

    for transform in (lambda f: f, volta.jit):
        gradient = transform(lambda x: volta.grad(function)(x, 3, flag=True, scale=0.5))
        assert gradient(Tensor(1.0)).item() == 4.0
        mapped = transform(lambda x: volta.vmap(function, (0, None))(x, 2))
        assert mapped(volta.ones(2)).tolist() == [4.0, 4.0]
    assert volta.grad(function)(Tensor(1.0), 3).item() == 8.0


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: volta.grad(lambda x: x)(x), ShapeError, r"returns a scalar, it returned float32\[2\]; take .mean"),
        (lambda x: volta.grad(lambda x: (x.sum(), x))(x), ShapeError, r"one scalar tensor; .*use has_aux=True"),
        (lambda x: volta.grad(lambda x: None)(x), ShapeError, "one scalar tensor"),
        (lambda x: volta.grad(lambda x: x.sum(), has_aux=True)(x), ShapeError, "a pair of a scalar tensor and aux"),
        (lambda x: volta.grad(lambda x: (x.sum(), 1, 2), has_aux=True)(x), ShapeError, "a pair of a scalar tensor"),
        (lambda x: volta.grad(lambda x: (x > 0).sum())(x), DTypeError, "needs a floating-point scalar"),
        (
            lambda x: volta.grad(lambda x: x.sum() * 1.0)(x.astype("int32")),
            DTypeError,
            r"no floating-point .*int32\[2\]",
        ),
        (lambda x: volta.grad(lambda x: 1.0)("text"), DTypeError, "no floating-point tensor .* got no tensors"),
    ],
)
def test_what_has_no_gradient(call, error, message):
    for function in (call, volta.jit(call)):
        with pytest.raises(error, match=message) as caught:
            function(volta.ones(2))
        assert caught.value.location == f"{__file__}:{inspect.getsourcelines(call)[1]}"


# -- one tensor in several places --------------------------------------------------------------------------------------


class Tied(nn.Module):
    def __init__(self) -> None:
        self.first = nn.Linear(2, 2, bias=False)
        self.second = nn.Linear(2, 2, bias=False)
        self.second.weight = self.first.weight

    def forward(self, x: Any) -> Any:
        return self.second(self.first(x)).sum()


def test_tied_parameters_have_one_gradient():
    model, x = Tied(), volta.ones(2)
    total = volta.grad(lambda w: (w @ (w @ x)).sum())(model.first.weight)
    for grad in (volta.grad(Tied.forward), volta.jit(volta.grad(Tied.forward))):
        gradient = grad(model, x)
        assert gradient.first.weight is gradient.second.weight
        assert_same(gradient.first.weight, total)
    cotangents, _ = volta.vjp(Tied.forward, model, x)[1](Tensor(1.0))
    assert cotangents.first.weight is cotangents.second.weight
    assert_same(cotangents.first.weight, total)


def test_a_tensor_in_two_places_is_two_variables():
    x, one = Tensor(3.0), Tensor(1.0)
    for call in (lambda f: f, volta.jit):
        assert call(volta.grad(lambda a, b: a * b * b))(x, x).item() == 9.0
        assert [g.item() for g in call(volta.grad(lambda a, b: a * b * b, (0, 1)))(x, x)] == [9.0, 18.0]
        gradient = call(volta.grad(lambda p: p["a"] * p["b"] * p["b"]))({"a": x, "b": x})
        assert (gradient["a"].item(), gradient["b"].item()) == (9.0, 18.0)
        cotangents = call(lambda x: volta.vjp(lambda a, b: a * b * b, x, x)[1](one))(x)
        assert [g.item() for g in cotangents] == [9.0, 18.0]
        out, tangent = call(lambda x: volta.jvp(lambda a, b: a * b * b, (x, x), (one, one * 0)))(x)
        assert (out.item(), tangent.item()) == (27.0, 9.0)


def test_a_tied_parameter_passed_on_its_own_is_another_variable():
    model = Tied()
    weight = model.first.weight
    gradient = volta.grad(lambda model, w: (model.first(volta.ones(2)) * w).sum())(model, weight)
    assert_same(gradient.first.weight, volta.grad(lambda v: (v @ volta.ones(2) * weight).sum())(weight))


def test_frozen_parameters_have_no_gradient():
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    gradient_of = volta.grad(lambda model, x: model(x).sum())

    def products() -> int:
        lowered = volta.jit(gradient_of).lower(model, volta.ones((1, 2)))
        return lowered.as_text("volta-alias").count("volta.dot_general")

    trained = products()
    model[0].freeze()
    gradient = gradient_of(model, volta.ones((1, 2)))
    assert {name for name, leaf in gradient.named_parameters() if leaf is not None} == {"1.weight", "1.bias"}
    assert products() < trained


# -- auxiliary results -------------------------------------------------------------------------------------------------


def test_auxiliary_results():
    def function(x):
        loss = (x * x).sum()
        return loss, {"x": x, "loss": loss, "n": (x > 1).sum(), "text": "abc", "none": None}

    for call in (lambda f: f, volta.jit):
        gradient, aux = call(volta.grad(function, has_aux=True))(Tensor([1.0, 2.0]))
        assert gradient.tolist() == [2.0, 4.0]
        assert (aux["loss"].item(), aux["n"].item(), aux["text"], aux["none"]) == (5.0, 1, "abc", None)
        (value, aux), gradient = call(volta.value_and_grad(function, has_aux=True))(Tensor([1.0, 2.0]))
        assert (value.item(), aux["x"].tolist(), gradient.tolist()) == (5.0, [1.0, 2.0], [2.0, 4.0])


def test_gradients_of_captured_tensors():
    def function(x):
        inner = volta.grad(lambda y: (y * y * x).sum())  # x is captured
        return (inner(x) * x).sum()  # 2 x³

    for call in (lambda f: f, volta.jit):
        assert call(volta.grad(function))(Tensor([1.0, 2.0])).tolist() == [6.0, 24.0]


def test_stop_gradient_of_trees():
    def function(x):
        stopped = volta.stop_gradient({"x": x, "n": 3, "text": "a"})
        assert stopped["text"] == "a"
        return (x * stopped["x"] * stopped["n"]).sum()

    assert volta.grad(function)(Tensor([2.0])).tolist() == [6.0]
    assert volta.stop_gradient(Tensor(1.0)).item() == 1.0


# -- vjp and jvp -------------------------------------------------------------------------------------------------------


def example(x: Any, y: Any) -> Any:
    """Several results, one of them twice, one of them an integer."""
    a = volta.sin(x) * y.sum()
    return {"a": a, "b": (a @ volta.exp(y), a), "n": (x > 0).sum()}


def sample(seed: int, *shape: int) -> Tensor:
    return Tensor(np.random.default_rng(seed).normal(size=shape))


def test_vjp_and_jvp_agree():
    x, y = sample(0, 3), sample(1, 3)
    tx, ty = sample(2, 3), sample(3, 3)
    out, tangents = volta.jvp(example, (x, y), (tx, ty))
    again, pullback = volta.vjp(example, x, y)
    assert_same(out, again)
    assert tangents["n"] is None
    cotangent = {"a": sample(4, 3), "b": (sample(5), sample(6, 3)), "n": None}
    gx, gy = pullback(cotangent)
    left = sum(
        (t * c).sum() for t, c in [(tangents["a"], cotangent["a"]), *zip(tangents["b"], cotangent["b"], strict=True)]
    )
    assert left.item() == pytest.approx(((gx * tx).sum() + (gy * ty).sum()).item(), rel=1e-12)
    step = 1e-6
    ahead, behind = (example(x + s * tx, y + s * ty)["b"][0] for s in (step, -step))
    assert tangents["b"][0].item() == pytest.approx(((ahead - behind) / (2 * step)).item(), rel=1e-6)
    (gx_again, _) = pullback(cotangent)
    assert_same(gx, gx_again)


def test_vjp_in_a_compiled_function():
    def function(x, y, cotangent):
        out, pullback = volta.vjp(example, x, y)
        return out, pullback(cotangent), pullback({"a": x, "b": (y.sum(), y), "n": None})

    arguments = sample(0, 3), sample(1, 3), {"a": sample(4, 3), "b": (sample(5), sample(6, 3)), "n": None}
    assert_same(volta.jit(function)(*arguments), function(*arguments), 1e-12)


def test_the_forward_pass_runs_once():
    def mlp(w, x):
        return volta.tanh(volta.tanh(x @ w) @ w)

    def step(w, x):
        out, pullback = volta.vjp(mlp, w, x)
        return out, pullback(out)

    text = volta.jit(step).lower(volta.spec((3, 3)), volta.spec((2, 3))).as_text("volta-alias")
    # Two products forward; two backward for each of w and x.
    assert text.count("volta.dot_general") == 2 + 4
    assert text.count("volta.tanh") == 2


def test_a_forward_loop_runs_once():
    """Loops are not merged, so that the pullback must not bring the forward one again."""

    def step(w, x):
        out, pullback = volta.vjp(lambda w, x: volta.scan(lambda c, r: (volta.tanh(c @ w + r), c), x[0], x), w, x)
        return out, pullback(out)

    spec = volta.spec((3000, 3, 3))
    text = volta.jit(step).lower(volta.spec((3, 3)), spec).as_text("linalg")
    assert text.count("scf.for") == 2  # one forward, one backward
    w, x = sample(0, 3, 3), sample(1, 3, 3, 3)
    out, gradients = step(w, x)
    compiled = volta.jit(step)(w, x)
    assert_same(compiled, (out, gradients), 1e-12)


def test_a_pullback_is_that_of_the_values_at_its_time():
    """Updates in place afterwards do not reach it."""

    def function(x):
        _, pullback = volta.vjp(lambda y: y * y * x, x)
        x.mul_(10.0)
        return pullback(volta.ones_like(x))[0]

    assert volta.jit(function)(Tensor([3.0])).tolist() == [18.0]
    x = Tensor([3.0])
    assert function(x).tolist() == [18.0]
    assert x.tolist() == [30.0]
    y = Tensor([3.0])
    _, pullback = volta.vjp(lambda y: y * y, y)
    y.mul_(10.0)
    assert volta.vmap(pullback)(volta.ones((2, 1)))[0].tolist() == [[6.0], [6.0]]


def test_an_eager_forward_pass_runs_once(monkeypatch):
    from volta_mlir.dialects.elementwise import ExpOp

    runs = []
    reference = ExpOp.reference
    monkeypatch.setattr(ExpOp, "reference", staticmethod(lambda x: runs.append(1) or reference(x)))
    out, pullback = volta.vjp(lambda x: volta.exp(x), Tensor([0.0, 1.0]))
    assert len(runs) == 1
    for _ in range(3):
        (gradient,) = pullback(volta.ones(2))
    assert len(runs) == 1
    assert_same(gradient, out)


def test_jacobians_by_mapping_a_pullback():
    out, pullback = volta.vjp(lambda x: volta.sin(x) * x[0], Tensor([1.0, 2.0]))
    (jacobian,) = volta.vmap(pullback)(volta.eye(2))
    expected = [[np.cos(1) + np.sin(1), 0], [np.sin(2), np.cos(2)]]
    assert np.allclose(jacobian, expected, atol=1e-6)
    assert out.shape == (2,)
    columns = volta.vmap(lambda t: volta.jvp(lambda x: volta.sin(x) * x[0], (Tensor([1.0, 2.0]),), (t,))[1])(
        volta.eye(2)
    )
    assert np.allclose(columns.T, expected, atol=1e-6)
    compiled = volta.jit(lambda x: volta.vmap(volta.vjp(lambda x: volta.sin(x) * x[0], x)[1])(volta.eye(2)))
    assert np.allclose(compiled(Tensor([1.0, 2.0]))[0], expected, atol=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: volta.jvp(lambda x: x, (x,), (x[:1],)), r"a tangent is float32\[1\] for a primal float32\[2\]"),
        (lambda x: volta.jvp(lambda x: x, (x,), ((x,),)), r"primals\.0 is a leaf, its tangent a tuple of 1"),
        (lambda x: volta.jvp(lambda x: x, (x > 0,), (x,)), r"a tangent is float32\[2\] for a primal bool\[2\]"),
        (lambda x: volta.vjp(lambda x: x, x)[1](x[:1]), r"a cotangent is float32\[1\], its result float32\[2\]"),
        (lambda x: volta.vjp(lambda x: x, x)[1]((x,)), "the result is a leaf, its cotangent a tuple of 1"),
    ],
)
def test_derivatives_that_do_not_fit(call, message):
    for function in (call, volta.jit(call)):
        with pytest.raises(ShapeError, match=message) as caught:
            function(volta.ones(2))
        assert caught.value.location.startswith(__file__)


def test_tangents_may_be_left_out():
    out, tangent = volta.jvp(lambda x, n: x * x * n, (Tensor(3.0), Tensor(2)), (Tensor(1.0), None))
    assert (out.item(), tangent.item()) == (18.0, 12.0)
    out, tangent = volta.jvp(lambda x, y: x * y, (Tensor(3.0), Tensor(2.0)), (None, Tensor(1.0)))
    assert (out.item(), tangent.item()) == (6.0, 3.0)
    assert volta.jvp(lambda x: {"y": x > 0}, (Tensor(1.0),), (Tensor(1.0),))[1] == {"y": None}


# -- second order ------------------------------------------------------------------------------------------------------


def test_hessians_have_their_closed_forms():
    a = sample(0, 4, 4)
    quadratic = volta.hessian(lambda x: x @ a @ x / 2)
    assert_same(quadratic(sample(1, 4)), (a + a.T) / 2, 1e-12)
    x = sample(2, 2, 3)
    expected = np.zeros((2, 3, 2, 3))
    for i in np.ndindex(2, 3):
        expected[i + i] = -np.sin(x.numpy()[i])
    assert_same(volta.hessian(lambda x: volta.sin(x).sum())(x), expected, 1e-12)
    assert volta.hessian(lambda x: x * x * x)(Tensor(2.0)).item() == 12.0
    assert volta.hessian(lambda n, x: (x**n).sum(), 1)(3, Tensor([2.0])).tolist() == [[12.0]]
    compiled = volta.jit(volta.hessian(lambda x: (x * x * x).sum()))
    lowered = compiled.lower(volta.spec(40))
    assert not lowered.traced.captures
    assert compiled(Tensor([1.0, 2.0])).tolist() == [[6.0, 0.0], [0.0, 12.0]]


def test_derivatives_of_derivatives():
    def function(x):
        return volta.sin(x) * x * x

    x = Tensor(0.7, "float64")
    third = -np.cos(0.7) * 0.49 - 6 * np.sin(0.7) * 0.7 + 6 * np.cos(0.7)
    forward = lambda f: lambda x: volta.jvp(f, (x,), (volta.ones_like(x),))[1]  # noqa: E731
    pulled = lambda f: lambda x: volta.vjp(f, x)[1](volta.ones_like(x))[0]  # noqa: E731
    for transforms in [
        (volta.grad, volta.grad, volta.grad),
        (forward, forward, forward),
        (forward, volta.grad, volta.grad),
        (volta.grad, forward, volta.grad),
        (volta.grad, volta.grad, forward),
        (pulled, volta.grad, forward),
        (forward, pulled, pulled),
    ]:
        derivative = function
        for transform in transforms:
            derivative = transform(derivative)
        assert derivative(x).item() == pytest.approx(third, rel=1e-12)
    assert volta.jit(derivative)(x).item() == pytest.approx(third, rel=1e-12)


def test_hessian_vector_products():
    def function(p, n, y):
        return (volta.sin(p["a"]) * y * n).sum() * p["b"]

    p, y = {"a": sample(0, 3), "b": sample(1)}, sample(2, 3)
    tangents = ({"a": sample(3, 3), "b": sample(4)}, None, sample(5, 3))

    def product(p, y):
        return volta.hvp(function, (p, 2, y), tangents)

    expected = {
        "a": -volta.sin(p["a"]) * y * 2 * p["b"] * tangents[0]["a"]
        + volta.cos(p["a"]) * 2 * (tangents[2] * p["b"] + y * tangents[0]["b"]),
        "b": (volta.cos(p["a"]) * tangents[0]["a"] * y * 2 + volta.sin(p["a"]) * 2 * tangents[2]).sum(),
    }
    by_y = 2 * (volta.cos(p["a"]) * tangents[0]["a"] * p["b"] + volta.sin(p["a"]) * tangents[0]["b"])
    for call in (product, volta.jit(product)):
        by_p, by_n, last = call(p, y)
        assert by_n is None
        assert_same(by_p, expected, 1e-12)
        assert_same(last, by_y, 1e-12)
    with pytest.raises(ShapeError, match="tangents must have the structure of the primals"):
        volta.hvp(function, (p, 2, y), (y, None, y))


def test_jacobians_of_trees():
    def function(x, n, p):
        return {"y": volta.sin(x) * p["a"] ** n, "z": ((x[0] * p["b"]).sum(), n), "i": (x > 0)}

    x, p = sample(0, 3), {"a": sample(1, 3), "b": sample(2, 2, 2)}
    diagonal = np.diag
    sin, cos, a, b = np.sin(x.numpy()), np.cos(x.numpy()), p["a"].numpy(), p["b"].numpy()
    d_y = diagonal(cos * a**2), {"a": diagonal(sin * 2 * a), "b": np.zeros((3, 2, 2))}
    d_z = np.array([b.sum(), 0, 0]), {"a": np.zeros(3), "b": np.full((2, 2), x.numpy()[0])}
    for jacobian in (volta.jacfwd, volta.jacrev, volta.jacobian):
        both = jacobian(function, (0, 2))
        for call in (both, volta.jit(both, static="n")):
            found = call(x, 2, p)
            assert_same(found["y"], d_y, 1e-12)
            assert_same(found["z"][0], d_z, 1e-12)
            assert (found["z"][1], found["i"]) == (None, None)
        assert_same(jacobian(function)(x, n=2, p=p)["y"], d_y[0], 1e-12)
        assert jacobian(lambda x: x * x)(3.0).item() == 6.0
        with pytest.raises(TraceError, match="argnums 1 is out of range"):
            jacobian(lambda x: x, 1)(x)
    with pytest.raises(DTypeError, match=r"jacfwd: there is no floating-point tensor.*int32\[\]"):
        volta.jacfwd(lambda x: x)(Tensor(1))
    with pytest.raises(DTypeError, match="jacrev: there is no floating-point tensor"):
        volta.jacrev(lambda x: x > 0)(x)


def test_hessians_of_trees():
    point = {"a": sample(0, 2), "b": sample(1)}
    blocks = volta.hessian(lambda p: (p["a"] * p["a"] * p["b"]).sum())(point)
    a, b = point["a"].numpy(), point["b"].numpy()
    expected = {"a": {"a": np.diag([2 * b, 2 * b]), "b": 2 * a}, "b": {"a": 2 * a, "b": np.zeros(())}}
    assert_same(blocks, expected, 1e-12)


# -- vmap --------------------------------------------------------------------------------------------------------------


def looped(function: Callable[..., Any], in_axes: Any, out_axis: int, *args: Tensor) -> Tensor:
    size = next(a.shape[axis] for a, axis in zip(args, in_axes, strict=True) if axis is not None)
    rows = [
        function(
            *(a if axis is None else volta.take(a, Tensor(i), axis) for a, axis in zip(args, in_axes, strict=True))
        )
        for i in range(size)
    ]
    return volta.stack(rows, out_axis)


@pytest.mark.parametrize("out_axis", [0, 1, -1])
@pytest.mark.parametrize("in_axes", [(0, 0), (1, None), (None, 1), (-1, 0), (0, -1)])
def test_vmap_is_a_loop(in_axes, out_axis):
    def function(x, y):
        return volta.tanh(x @ y) + x.sum()

    shapes = [(3, 4), (4, 2)]
    args = []
    for seed, (shape, axis) in enumerate(zip(shapes, in_axes, strict=True)):
        full = list(shape)
        if axis is not None:
            full.insert(axis % 3, 5)
        args.append(sample(seed, *full))
    mapped = volta.vmap(function, in_axes, out_axis)(*args)
    assert_same(mapped, looped(function, in_axes, out_axis, *args), 1e-12)


def test_axes_for_parts_of_trees():
    def function(tree, pair, *, scale):
        return {"sum": tree["x"] + tree["y"][0] * pair.first, "y": tree["y"][1] * scale, "text": "a"}

    tree_ = {"x": volta.ones((2, 3)), "y": [Tensor(2.0), volta.ones((3, 2))]}
    out = volta.vmap(function, ({"x": 0, "y": [None, 1]}, Pair(None, 0)), {"sum": 1, "y": 0, "text": None})(
        tree_, Pair(Tensor(3.0), volta.ones(2)), scale=Tensor([1.0, 2.0])
    )
    assert out["sum"].shape == (3, 2)
    assert out["sum"].tolist() == [[7.0, 7.0]] * 3
    assert out["y"].tolist() == [[1.0] * 3, [2.0] * 3]
    assert out["text"] == "a"
    whole = volta.vmap(lambda t: t["x"] + t["y"], in_axes=({"x": 0, "y": 0},))({"x": volta.ones(2), "y": volta.ones(2)})
    assert whole.tolist() == [2.0, 2.0]
    assert volta.vmap(lambda t: t["x"] + t["y"])({"x": volta.ones(2), "y": volta.ones(2)}).tolist() == [2.0, 2.0]


def test_nested_vmap():
    x, y = sample(0, 2, 3), sample(1, 4, 3)
    outer = volta.vmap(volta.vmap(lambda a, b: a @ b, (None, 0)), (0, None))
    assert_same(outer(x, y), x @ y.T, 1e-12)
    assert_same(volta.jit(outer)(x, y), x @ y.T, 1e-12)
    constant = volta.vmap(lambda a: (volta.ones(2), 3.0))(x)
    assert [c.shape for c in constant] == [(2, 2), (2,)]


def test_modules_are_shared_between_examples():
    model, x = nn.Linear(3, 2), Tensor(np.ones((5, 3), np.float32))
    assert_same(volta.vmap(lambda m, x: m(x), (None, 0))(model, x), model(x), 1e-6)
    assert_same(volta.vmap(model)(x), model(x), 1e-6)
    models = volta.vmap(lambda scale: tree.map(lambda leaf: leaf * scale, model))(Tensor([1.0, 2.0]))
    assert models.weight.shape == (2, 2, 3)
    assert_same(volta.vmap(lambda m, x: m(x), (0, None))(models, x)[1], model(x) * 2, 1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: volta.vmap(lambda a, b: a, 0)(x, x[:1]), r"of different extents \[1, 2\]"),
        (lambda x: volta.vmap(lambda a: a, None)(x), "none or axes at all"),
        (lambda x: volta.vmap(lambda: 1)(), "none or axes at all"),
        (lambda x: volta.vmap(lambda a: a, 1)(x), r"in_axes 1 is out of range for float32\[2\]"),
        (lambda x: volta.vmap(lambda a: a, -2)(x), "in_axes -2 is out of range"),
        (lambda x: volta.vmap(lambda a: a)(x[0]), r"in_axes 0 is out of range for float32\[\]"),
        (lambda x: volta.vmap(lambda a, b: a, (0,))(x, x), "in_axes has 1 entries for 2 arguments"),
        (lambda x: volta.vmap(lambda a: a, ({"x": 0},))(x), "is not a prefix of the tree"),
        (lambda x: volta.vmap(lambda a: a, ([0, 0],))([x]), "is not a prefix of the tree"),
        (lambda x: volta.vmap(lambda a: a, 0, 1)(x), r"out_axes 1 is no axis of the result float32\[2\]"),
        (lambda x: volta.vmap(lambda a: a, 0, None)(x), "out_axes None is no axis"),
        (lambda x: volta.vmap(lambda a: {"a": a}, 0, {"b": 0})(x), "out_axes .* is not a prefix"),
    ],
)
def test_axes_that_do_not_fit(call, message):
    for function in (call, volta.jit(call)):
        with pytest.raises(ShapeError, match=message) as caught:
            function(volta.ones(2))
        assert caught.value.location.startswith(__file__)


def test_vmap_and_derivatives_in_any_order():
    def loss(w, x):
        return volta.tanh(x @ w).sum()

    w, xs = sample(0, 3), sample(1, 5, 3)
    cosh = np.cosh(xs.numpy() @ w.numpy())
    each = xs.numpy() / cosh[:, None] ** 2
    ones = volta.ones(5, "float64")

    def every(w, xs):
        mapped = volta.vmap(loss, (None, 0))
        return {
            "vmap(grad)": volta.vmap(volta.grad(loss), (None, 0))(w, xs),
            "grad(vmap)": volta.grad(lambda w: mapped(w, xs).sum())(w),
            "jvp(grad)": volta.jvp(lambda w: volta.grad(lambda w: mapped(w, xs).sum())(w), (w,), (w,))[1],
            "vmap(jvp)": volta.vmap(lambda x: volta.jvp(lambda w: loss(w, x), (w,), (w,))[1])(xs),
            "vmap(value_and_grad)": volta.vmap(volta.value_and_grad(loss), (None, 0))(w, xs)[0],
            "vjp(vmap)": volta.vjp(lambda w: mapped(w, xs), w)[1](ones)[0],
            "vmap(hessian)": volta.vmap(volta.hessian(loss), (None, 0))(w, xs).sum(0) @ w,
            "vmap(vmap(grad))": volta.vmap(lambda w: volta.vmap(lambda x: volta.grad(loss)(w, x))(xs))(
                volta.stack([w, w])
            )[1],
        }

    second = -2 * np.tanh(xs.numpy() @ w.numpy())[:, None] * each
    hvp = (second * (xs.numpy() @ w.numpy())[:, None]).sum(0)
    expected = {
        "vmap(grad)": each,
        "grad(vmap)": each.sum(0),
        "jvp(grad)": hvp,
        "vmap(jvp)": each @ w.numpy(),
        "vmap(value_and_grad)": np.tanh(xs.numpy() @ w.numpy()),
        "vjp(vmap)": each.sum(0),
        "vmap(hessian)": hvp,
        "vmap(vmap(grad))": each,
    }
    for function in (every, volta.jit(every)):
        assert_same(function(w, xs), expected, 1e-12)


def test_transforms_keep_the_functions_name():
    def function(x):
        """Documented."""
        return x

    for transformed in (
        volta.grad(function),
        volta.vmap(function),
        volta.checkpoint(function),
        volta.hessian(function),
    ):
        assert (transformed.__name__, transformed.__doc__) == ("function", "Documented.")
    text = volta.jit(lambda x: volta.grad(function)(x)).lower(volta.spec(())).as_text()
    assert "func.func private @function(" in text
    assert "func.func private @function.vjp(" in text
