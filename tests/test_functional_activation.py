"""Activation functions against PyTorch's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import volta_mlir as volta
from tests import pytorch
from tests.pytorch import Call, call
from volta_mlir import Tensor
from volta_mlir.errors import DTypeError, ShapeError, TraceError
from volta_mlir.nn import functional as F

INF, NAN = float("inf"), float("nan")

#: The functions of one tensor, with arguments that exercise their options.
ELEMENTWISE: dict[str, tuple[dict[str, Any], ...]] = {
    "relu": ({},),
    "relu6": ({},),
    "leaky_relu": ({}, {"negative_slope": 0.3}),
    "rrelu": ({}, {"lower": 0.0, "upper": 0.5}),
    "elu": ({}, {"alpha": 0.7}),
    "celu": ({}, {"alpha": 0.5}, {"alpha": -2.0}),  # PyTorch rounds 1 / alpha to float32 in the gradient
    "selu": ({},),
    "gelu": ({}, {"approximate": "tanh"}),
    "silu": ({},),
    "mish": ({},),
    "softplus": ({}, {"beta": 2.0, "threshold": 1.0}),
    "softsign": ({},),
    "hardswish": ({},),
    "hardsigmoid": ({},),
    "hardtanh": ({}, {"min_val": 0.5, "max_val": 3.0}),
    "hardshrink": ({}, {"lambd": 1.0}, {"lambd": 0.0}),
    "softshrink": ({}, {"lambd": 1.0}, {"lambd": 0.0}),
    "tanhshrink": ({},),
    "threshold": ({"threshold": 0.5, "value": 3.0},),
    "sigmoid": ({},),
    "logsigmoid": ({},),
    "tanh": ({},),
}
SMOOTH = ("celu", "gelu", "silu", "mish", "softplus", "sigmoid", "logsigmoid", "tanh", "tanhshrink")
NORMALIZED = ("softmax", "softmin", "log_softmax")
#: PyTorch's samples, by function: pairs of an op's name in its database and of a variant.
SAMPLES: dict[str, tuple[tuple[str, str], ...]] = {
    **{name: ((f"nn.functional.{name}", ""),) for name in [*ELEMENTWISE, "prelu", "glu"]},
    **{name: ((name, ""),) for name in ("sigmoid", "tanh")},
    **{name: ((name, ""), (name, "with_dtype")) for name in ("softmax", "log_softmax")},
    "softmin": (("nn.functional.softmin", ""), ("nn.functional.softmin", "with_dtype")),
}


def theirs(name: str) -> Callable[..., Any]:
    return getattr(torch, name) if name in ("sigmoid", "tanh") else getattr(torch.nn.functional, name)


def samples(name: str) -> list[Call]:
    found = [case for op, variant in SAMPLES[name] for case in pytorch.sample_calls(op, variant=variant)]
    return [case for case in found if not case.kwargs.get("training")]  # random there


@pytest.mark.parametrize("name", SAMPLES)
def test_pytorchs_samples(name: str) -> None:
    pytorch.check_eager(getattr(F, name), theirs(name), samples(name))


#: Zero, both sides of every kink, the kinks, and where exponentials overflow or vanish.
POINTS = np.array(
    [0, 3.3, -3.3, -3, 3, 6, 6.5, -1, 1, 0.5, -0.5, 0.2, -0.2, -2.1, 21, 90, -90, 1e3, -1e3, 3e4, -3e4], np.float32
)


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_kinks_and_large_inputs(name: str) -> None:
    cases = []
    for dtype in (torch.float32, torch.float64, torch.float16, torch.bfloat16):
        every = 1 if dtype == torch.float32 else 2
        for options in ELEMENTWISE[name][::-every]:
            for point in POINTS[::every]:  # each on its own: norm-wise, the large ones would hide the small ones
                case = call(f"{dtype}, {options}, {point}", torch.tensor(point).to(dtype), **options)
                if name == "hardsigmoid" and dtype == torch.float64:  # PyTorch rounds 1 / 6 to float32 in the gradient
                    case.args[0].requires_grad_(False)
                cases.append(case)
    pytorch.check_eager(getattr(F, name), theirs(name), cases)


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_infinities_and_nan(name: str) -> None:
    for options in ELEMENTWISE[name]:
        for point in (INF, -INF, NAN):
            if (name, point) == ("gelu", INF):
                continue  # NaN in PyTorch where its vectorised code is used
            expected = theirs(name)(torch.tensor([point]), **options).numpy()
            np.testing.assert_array_equal(getattr(F, name)(Tensor([point]), **options), expected, f"{point} {options}")


@pytest.mark.parametrize("name", ["relu", "relu6", "hardtanh", "leaky_relu", "elu", "hardshrink", "softplus"])
def test_gradients_at_infinity(name: str) -> None:
    points = np.array([-INF, INF], np.float32)
    pytorch.check_eager(getattr(F, name), theirs(name), [call(name, points)])


def test_gelu_of_infinity() -> None:
    assert F.gelu(Tensor(INF)).item() == F.gelu(Tensor(INF), approximate="tanh").item() == INF


@pytest.mark.parametrize("name", ["relu", "relu6", "hardtanh", "threshold"])
def test_integers(name: str) -> None:
    x = torch.tensor([-9, -1, 0, 1, 2, 8], dtype=torch.int32)
    options = {"threshold": 1, "value": 5} if name == "threshold" else {}
    pytorch.check_eager(getattr(F, name), theirs(name), [call(name, x, **options)])


def test_sigmoid_and_tanh_of_integers_are_floats() -> None:
    for name in ("sigmoid", "tanh"):
        pytorch.check_eager(getattr(F, name), theirs(name), [call(name, torch.tensor([-1, 0, 2]))])


# -- along an axis -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NORMALIZED)
def test_normalized(name: str) -> None:
    rng = np.random.default_rng(0)
    rows = np.array([[1000, 1000, -1000], [-INF, 1, 2], [1e30, -1e30, 0], [88, 89, 90]], np.float32)
    x = rng.normal(size=(3, 4, 5))
    cases = [
        call("large", rows, dim=1),
        call("infinite", np.array([1, INF], np.float32), dim=0),
        call("only -inf", np.array([-INF, -INF], np.float32), dim=-1),
        call("nan", np.array([NAN, 1], np.float32), dim=0),
        call("empty", np.zeros((2, 0), np.float32), dim=1),
        call("float64", x, dim=-2),
        call("float16", torch.tensor(x).half(), dim=0),
        call("bfloat16", torch.tensor(x).bfloat16(), dim=2),
        call("long rows in float16", torch.tensor(rng.normal(size=(2, 5000))).half(), dim=1),
        call("of integers", torch.tensor([[1, 2], [3, 4]]), dim=1, dtype=torch.float32),
        call("from half", torch.tensor(x).half(), dim=1, dtype=torch.float32),
    ]
    pytorch.check_eager(getattr(F, name), theirs(name), cases)


@pytest.mark.parametrize("name", NORMALIZED)
def test_implicit_dimension(name: str) -> None:
    for shape in ((), (3,), (2, 3), (2, 3, 4), (2, 3, 2, 2)):
        x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
        with pytest.warns(UserWarning, match=rf"{name}: without dim= the axis depends on the rank.*Pass dim="):
            actual = getattr(F, name)(x)
        with pytest.warns(UserWarning, match="Implicit dimension"):
            expected = theirs(name)(torch.tensor(x))
        np.testing.assert_allclose(actual, expected.numpy(), rtol=1e-6)


def test_swiglu() -> None:
    def reference(x: torch.Tensor, dim: int = -1) -> torch.Tensor:
        a, b = x.chunk(2, dim)
        return torch.nn.functional.silu(a) * b

    x = torch.tensor(np.random.default_rng(0).normal(size=(4, 6, 2)))
    cases = [call(f"{dtype}, {options}", x.to(dtype), **options)
             for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16)
             for options in ({}, {"dim": 1}, {"dim": -3})]  # fmt: skip
    pytorch.check_eager(F.swiglu, reference, cases)
    pytorch.check_eager(F.glu, torch.nn.functional.glu, cases)


def test_prelu_of_half_precision_and_channels() -> None:
    x = torch.tensor(np.random.default_rng(0).normal(size=(2, 3, 4)))
    weights = torch.tensor([0.5, -0.25, 0.0])
    cases = [call(str(d), x.to(d), weights.to(d)) for d in (torch.float64, torch.float16, torch.bfloat16)]
    pytorch.check_eager(F.prelu, torch.nn.functional.prelu, [*cases, call("zeros", 0 * x, weights.double())])


# -- random --------------------------------------------------------------------------------------------------------


def test_rrelu_draws_a_slope_for_each_element() -> None:
    x = np.concatenate([np.full(4000, -2, np.float32), np.full(3, 5, np.float32), np.zeros(1, np.float32)])
    key = volta.random.key(3)

    def function(x: Any) -> Tensor:
        return F.rrelu(x, 0.1, 0.3, training=True, key=key)

    out, pullback = volta.vjp(function, Tensor(x))
    slopes = out.numpy()[:4000] / -2
    assert (slopes >= 0.1).all() and (slopes <= 0.3).all()
    assert abs(slopes.mean() - 0.2) < 0.005 and abs(slopes.std() - 0.2 / np.sqrt(12)) < 0.003
    np.testing.assert_array_equal(out.numpy()[4000:], [5, 5, 5, 0])
    (gradient,) = pullback(volta.ones_like(out))
    np.testing.assert_allclose(gradient.numpy()[:4000], slopes, rtol=1e-6)
    np.testing.assert_array_equal(gradient.numpy()[4000:4003], [1, 1, 1])
    np.testing.assert_array_equal(out, function(x))
    assert (F.rrelu(x, 0.1, 0.3, training=True, key=volta.random.key(4)) != out).any().item()
    np.testing.assert_array_equal(F.rrelu(Tensor(-1.0), 0.5, 0.5, training=True, key=key), -0.5)


def test_gumbel_softmax_has_the_probabilities_of_softmax() -> None:
    logits = np.log(np.array([0.5, 0.3, 0.2], np.float32))
    many = np.tile(logits, (5000, 1))
    hard = F.gumbel_softmax(many, hard=True, key=volta.random.key(0)).numpy()
    assert set(np.unique(hard)) == {0, 1}
    np.testing.assert_array_equal(hard.sum(1), 1)
    np.testing.assert_allclose(hard.mean(0), [0.5, 0.3, 0.2], atol=0.03)
    columns = F.gumbel_softmax(many.T, tau=0.5, hard=True, dim=0, key=volta.random.key(0))
    np.testing.assert_allclose(columns.numpy().mean(1), [0.5, 0.3, 0.2], atol=0.03)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64"])
def test_gumbel_softmax_is_soft_and_its_hard_form_has_the_same_gradient(dtype: str) -> None:
    logits = Tensor(np.random.default_rng(0).normal(size=(4, 5)), dtype)
    weights = Tensor(np.random.default_rng(1).normal(size=(4, 5)), dtype)
    key = volta.random.key(1)
    soft = F.gumbel_softmax(logits, tau=0.7, key=key)
    noise = volta.random.gumbel(key, logits.shape, "float64" if dtype == "float64" else "float32")
    expected = torch.softmax((torch.tensor(logits.numpy().astype(float)) + torch.tensor(noise.numpy())) / 0.7, -1)
    assert soft.dtype == logits.dtype
    np.testing.assert_allclose(soft.numpy().astype(float), expected, atol=1e-2 if soft.dtype.itemsize == 2 else 1e-6)
    gradients = [
        volta.grad(lambda x, hard=hard: (F.gumbel_softmax(x, 0.7, hard, key=key) * weights).sum())(logits)
        for hard in (False, True)
    ]
    np.testing.assert_array_equal(*gradients)
    assert gradients[0].any().item()


# -- compiled, transformed -----------------------------------------------------------------------------------------


def test_compiled() -> None:
    pairs = []
    for name in SAMPLES:
        if name in ELEMENTWISE:
            case = call(f"{name} at kinks", POINTS, **ELEMENTWISE[name][-1])
        else:
            (case,) = pytorch.first_calls(samples(name))
        pairs.append((getattr(F, name), theirs(name), case))
    pytorch.check_compiled(pairs)


def test_random_ones_compiled() -> None:
    x = np.random.default_rng(0).normal(size=(2, 3)).astype(np.float32)

    def function(x: Any, key: Any) -> Any:
        return F.rrelu(x, training=True, key=key), F.gumbel_softmax(x, hard=True, key=key)

    for actual, expected in zip(
        volta.jit(function)(x, volta.random.key(5)), function(x, volta.random.key(5)), strict=True
    ):
        np.testing.assert_allclose(actual, expected, rtol=1e-6)


@pytest.mark.parametrize("name", [*SMOOTH, *NORMALIZED])
def test_second_derivatives(name: str) -> None:
    x = np.linspace(-2, 2, 6)
    weights = np.random.default_rng(0).normal(size=6)
    options = {"dim": 0} if name in NORMALIZED else {}
    actual = volta.hessian(lambda x: (getattr(F, name)(x, **options) * weights).sum())(Tensor(x))
    function = theirs(name)
    expected = torch.autograd.functional.hessian(
        lambda x: (function(x, **options) * torch.tensor(weights)).sum(), torch.tensor(x)
    )
    np.testing.assert_allclose(actual, expected.numpy(), atol=1e-12)


def test_vmap_is_a_loop() -> None:
    x = np.random.default_rng(0).normal(size=(3, 4, 6)).astype(np.float32) * 3
    weights = np.array([[0.1], [0.2], [0.3]], np.float32)
    functions: list[Callable[[Any], Tensor]] = [
        F.gelu, F.elu, F.hardswish, F.softshrink, F.softplus, F.relu6,
        lambda x: F.softmax(x, 0), lambda x: F.log_softmax(x, -1), lambda x: F.glu(x, 1), lambda x: F.swiglu(x, 0),
    ]  # fmt: skip
    for function in functions:
        loop = np.stack([function(row).numpy() for row in x])
        np.testing.assert_allclose(volta.vmap(function)(x), loop, rtol=1e-6)
    loop = np.stack([F.prelu(row, weight).numpy() for row, weight in zip(x, weights, strict=True)])
    np.testing.assert_allclose(volta.vmap(F.prelu)(x, weights), loop, rtol=1e-6)


# -- bad input -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted({*SAMPLES} - {"relu", "relu6", "hardtanh", "threshold", "sigmoid", "tanh"}))
def test_integers_are_refused(name: str) -> None:
    arguments = ([1.0],) if name == "prelu" else ()
    options = {"dim": 0} if name in (*NORMALIZED, "glu") else {}
    with pytest.raises(DTypeError, match=rf"{name}: expected an input of floating-point numbers, got int32\[2\]"):
        getattr(F, name)([1, 2], *arguments, **options)


@pytest.mark.parametrize("name", ["relu", "relu6", "hardtanh", "threshold"])
def test_bools_and_negative_bounds_of_unsigned_numbers_are_refused(name: str) -> None:
    options = {"threshold": 0, "value": 0} if name == "threshold" else {}
    with pytest.raises(DTypeError, match=r"expected numbers, got bool\[1\]"):
        getattr(F, name)([True], **options)
    if name == "hardtanh":
        with pytest.raises(DTypeError, match=r"hardtanh: uint8\[2\] has no negative numbers, got min_val=-1.0"):
            F.hardtanh(np.array([1, 2], np.uint8))
    unsigned = np.array([0, 5, 200], np.uint8)
    np.testing.assert_array_equal(F.relu6(unsigned), [0, 5, 6])


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        (lambda x: F.softmax(x, 2), ShapeError, r"softmax: dimension out of range .*\[-2, 1\], but got 2\)"),
        (lambda x: F.log_softmax(x[0, 0], 1), ShapeError, r"log_softmax: .* out of range .*\[-1, 0\], but got 1"),
        (lambda x: F.gumbel_softmax(x, dim=-3, key=volta.random.key(0)), ShapeError, "gumbel_softmax: dimension out"),
        (lambda x: F.glu(x), ShapeError, r"glu: halving dimension must be even, but dimension 1 of float32\[2,3\]"),
        (lambda x: F.swiglu(x, 1), ShapeError, "swiglu: halving dimension must be even"),
        (lambda x: F.glu(x, 2), ShapeError, "glu: dimension out of range"),
        (lambda x: F.glu(x[0, 0]), ShapeError, "glu takes a tensor of rank 1 or more"),
        (lambda x: F.prelu(x, [0.1, 0.2]), ShapeError, r"prelu: float32\[2,3\] has 3 channels, got 2 weights"),
        (lambda x: F.prelu(x[0], [0.1, 0.2, 0.3]), ShapeError, r"prelu: float32\[3\] has 1 channels, got 3 weights"),
        (lambda x: F.prelu(x, [[0.1, 0.2, 0.3]]), ShapeError, r"prelu: expected weight .* got float32\[1,3\]"),
        (lambda x: F.gelu(x, approximate="sigmoid"), ValueError, "approximate must be 'none' or 'tanh', got 'sigmoid'"),
        (lambda x: F.hardtanh(x, 1, 0), ValueError, "min_val cannot be greater than max_val, got 1 and 0"),
        (lambda x: F.softshrink(x, -1), ValueError, "lambd must be greater or equal to 0, got -1"),
        (lambda x: F.celu(x, 0), ValueError, "alpha cannot be 0"),
        (lambda x: F.rrelu(x, 2, 1), ValueError, "the lower bound 2 is above the upper bound 1"),
        (lambda x: F.rrelu(x, training=True), TraceError, r"rrelu draws random .* pass key=volta.random.key\(…\)"),
        (lambda x: F.gumbel_softmax(x), TraceError, r"gumbel_softmax draws .* pass key=volta.random.key\(…\)"),
    ],
)  # fmt: skip
def test_bad_input(function: Callable[[Tensor], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        function(volta.zeros((2, 3)))
