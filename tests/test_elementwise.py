"""Elementwise functions against numpy, their derivatives at the edges, and the accuracy of what is compiled."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import volta_mlir as volta
from tests.harness import call, compile_functions, function_module
from tests.samples.elementwise import extremes
from volta_mlir.dialects import OPS
from volta_mlir.dtypes import FLOATS, INTEGERS, SIGNED, TensorSpec, float32, float64
from volta_mlir.tensor import Tensor

F32 = np.array(
    [-np.inf, -1e4, -2.5, -1.5, -1.0, -0.3, -0.0, 0.0, 0.3, 0.5, 1.0, 1.5, 2.5, 3.0, 1e4, np.inf, np.nan], np.float32
)
INT = np.array([-7, -3, -2, -1, 0, 1, 2, 3, 7, 100], np.int32)


def pairs(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.meshgrid(values, values)
    return x.ravel(), y.ravel()


# -- numpy's names -------------------------------------------------------------------------------------------------

UNARY = """abs arccos arcsin arctan cbrt ceil cos cosh exp exp2 expm1 floor isfinite isinf isnan log log10 log1p log2
logical_not nan_to_num negative reciprocal sign sin sinh sqrt square tan tanh trunc""".split()
BINARY = """add arctan2 divide equal fmod greater greater_equal less less_equal logaddexp logical_and logical_or
logical_xor maximum minimum mod multiply not_equal power remainder subtract""".split()


def assert_like_numpy(actual: Tensor, expected: np.ndarray) -> None:
    assert actual.shape == expected.shape
    assert (actual.dtype.kind == "b") == (expected.dtype.kind == "b")
    np.testing.assert_allclose(actual.numpy(), expected.astype(actual.dtype), rtol=2e-6, atol=1e-30)


@pytest.mark.parametrize("name", UNARY)
def test_unary_functions_mean_what_numpy_means(name: str) -> None:
    with np.errstate(all="ignore"):
        assert_like_numpy(getattr(volta, name)(F32), getattr(np, name)(F32))
        if name != "reciprocal":  # numpy's is an integer for integers
            assert_like_numpy(getattr(volta, name)(INT), getattr(np, name)(INT))


@pytest.mark.parametrize("name", BINARY)
def test_binary_functions_mean_what_numpy_means(name: str) -> None:
    x, y = pairs(F32)
    with np.errstate(all="ignore"):
        assert_like_numpy(getattr(volta, name)(x, y), getattr(np, name)(x, y))
        i, j = pairs(INT)
        i, j = (i[j > 0], j[j > 0]) if name in ("mod", "remainder", "fmod", "power") else (i, j)
        assert_like_numpy(getattr(volta, name)(i, j), getattr(np, name)(i, j))


def test_floor_divide() -> None:
    i, j = pairs(INT)
    i, j = i[j != 0], j[j != 0]
    assert_like_numpy(Tensor(i) // Tensor(j), i // j)
    assert_like_numpy(Tensor(i) % Tensor(j), i % j)
    x, y = pairs(F32[np.isfinite(F32) & (F32 != 0)])
    assert_like_numpy(Tensor(x) // Tensor(y), x // y)
    assert_like_numpy(volta.floor_divide(np.array([1, 7], np.uint8), 2), np.array([0, 3], np.uint8))
    assert volta.floor_divide(Tensor([-5, 0, 5]), 0).tolist() == [-1, -1, -1]
    assert volta.mod(Tensor([-5, 0, 5]), 0).tolist() == [-5, 0, 5]
    assert volta.mod(np.array([5], np.uint8), 0).tolist() == [5]


@pytest.mark.parametrize("name", ["bitwise_and", "bitwise_or", "bitwise_xor"])
def test_bits(name: str) -> None:
    i, j = pairs(INT)
    assert_like_numpy(getattr(volta, name)(i, j), getattr(np, name)(i, j))
    p, q = pairs(np.array([False, True]))
    assert_like_numpy(getattr(volta, name)(p, q), getattr(np, name)(p, q))


def test_operators() -> None:
    x, y = Tensor(INT), Tensor(INT[::-1].copy())
    shifts = np.abs(INT) % 8
    for actual, expected in [
        (x & y, INT & INT[::-1]),
        (3 | x, 3 | INT),
        (x ^ 5, INT ^ 5),
        (~x, ~INT),
        (x << shifts, INT << shifts),
        (x >> shifts, INT >> shifts),
        (1 << Tensor(shifts), 1 << shifts),
        (Tensor(INT.view(np.uint32)) >> shifts.astype(np.uint32), INT.view(np.uint32) >> shifts.astype(np.uint32)),
        (7 - x, 7 - INT),
        (1 / x[:4], 1 / INT[:4]),
        (7 // x[:4], 7 // INT[:4]),
        (7 % x[:4], 7 % INT[:4]),
        (abs(x), abs(INT)),
        (-x, -INT),
        (2.0**x, 2.0**INT),
    ]:
        assert_like_numpy(actual, np.asarray(expected))
    with pytest.raises(volta.DTypeError, match=r"volta.and|takes integers"):
        Tensor([1.0]) & 1


def test_clip() -> None:
    for low, high in [(-1, 2), (None, 1.5), (-0.5, None), (None, None), (2, -2)]:
        assert_like_numpy(volta.clip(F32, low, high), np.clip(F32, low, high) if (low, high) != (None, None) else F32)
    assert volta.clip(INT, min=-1, max=2).dtype == np.int32
    assert volta.clip(np.array([0, 200], np.uint8), max=9).tolist() == [0, 9]
    assert volta.clip(Tensor([5.0]), Tensor([[1.0], [7.0]]), 10.0).tolist() == [[5.0], [7.0]]


def test_rounding() -> None:
    x = np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 12.345], np.float32)
    for decimals in (0, 1, -1):
        assert_like_numpy(volta.round(x, decimals), np.round(x, decimals))
    for name in ("floor", "ceil", "trunc", "round"):
        assert getattr(volta, name)(INT).numpy().tolist() == INT.tolist()
    assert volta.nan_to_num(np.array([np.nan, np.inf, -np.inf], np.float16)).tolist() == [0, 65504, -65504]
    assert volta.nan_to_num(Tensor([np.nan, np.inf, -np.inf]), 1.0, 2.0, 3.0).tolist() == [1, 2, 3]


# -- powers --------------------------------------------------------------------------------------------------------


def test_powers_with_python_exponents() -> None:
    x = np.array([0.5, 1.5, 3.0], np.float32)
    for exponent in (0, 1, 2, 3, 7, -1, -2, 0.5, -0.5, 2.0, 2.5, 65, 1e9):
        with np.errstate(over="ignore"):
            np.testing.assert_allclose((Tensor(x) ** exponent).numpy(), np.power(x, np.float32(exponent)), rtol=1e-5)
    assert (Tensor(INT) ** 3).tolist() == (INT**3).tolist()
    assert (Tensor([-2, -1, 0, 1, 2]) ** -1).tolist() == [0, -1, 0, 1, 0]
    assert (Tensor([-2, -1, 0, 1, 2]) ** -2).tolist() == [0, 1, 0, 1, 0]
    assert (Tensor([2]) ** 0.5).dtype == float32
    assert (Tensor([True]) ** 2).dtype == np.int32


def test_small_python_exponents_become_multiplications() -> None:
    module = function_module("f", [TensorSpec((4,), float32)], lambda x: [x**5, x**0.5, x**-0.5, x**100])
    text = str(module)
    assert text.count("volta.mul") == 3
    assert [text.count(f"volta.{name}") for name in ("sqrt", "rsqrt", "pow")] == [1, 1, 1]


# -- derivatives at the edges ----------------------------------------------------------------------------------------


def gradient(function: Callable[..., Tensor], *at: float) -> list[float]:
    _, pullback = volta.vjp(function, *(Tensor(x) for x in at))
    return [float(g) for g in pullback(Tensor(1.0))]


@pytest.mark.parametrize(
    ("function", "at", "expected"),
    [
        (volta.abs, [0.0], [0.0]),
        (volta.abs, [-3.0], [-1.0]),
        (volta.maximum, [2.0, 2.0], [0.5, 0.5]),
        (volta.minimum, [2.0, 2.0], [0.5, 0.5]),
        (volta.minimum, [1.0, 2.0], [1.0, 0.0]),
        (lambda x: volta.clip(x, 0.0, 1.0), [1.0], [1.0]),
        (lambda x: volta.clip(x, 0.0, 1.0), [1.5], [0.0]),
        (volta.clip, [5.0, 0.0, 1.0], [0.0, 0.0, 1.0]),
        (volta.clip, [0.5, 2.0, 1.0], [0.0, 0.0, 1.0]),  # bounds that cross
        (volta.power, [0.0, 2.0], [0.0, 0.0]),
        (volta.power, [0.0, 1.0], [1.0, 0.0]),
        (volta.power, [0.0, 0.0], [0.0, 0.0]),
        (volta.power, [-2.0, 0.0], [0.0, math.nan]),
        (volta.power, [-2.0, 3.0], [12.0, math.nan]),
        (lambda x: x**2, [0.0], [0.0]),
        (lambda x: x**0, [0.0], [0.0]),
        (volta.sqrt, [0.0], [math.inf]),
        (volta.cbrt, [0.0], [math.inf]),
        (volta.sign, [0.0], [0.0]),
        (volta.round, [1.2], [0.0]),
        (volta.sigmoid, [1e4], [0.0]),
        (volta.sigmoid, [-1e4], [0.0]),
        (volta.tanh, [1e4], [0.0]),
        (volta.expm1, [-1e4], [0.0]),
        (volta.logaddexp, [-math.inf, -math.inf], [0.5, 0.5]),
        (volta.logaddexp, [math.inf, 0.0], [1.0, 0.0]),
        (volta.logaddexp, [1e4, -1e4], [1.0, 0.0]),
        (volta.mod, [-7.0, 3.0], [1.0, 3.0]),
        (volta.fmod, [-7.0, 3.0], [1.0, 2.0]),
        (volta.divide, [3.0, 2.0], [0.5, -0.75]),
        (volta.arcsin, [0.0], [1.0]),
        (volta.arccos, [0.0], [-1.0]),
        (volta.arcsin, [1.0], [math.inf]),
        (volta.arctan, [0.0], [1.0]),
        (volta.arctan2, [0.0, -1.0], [-1.0, 0.0]),
    ],
)
def test_derivatives_at_the_edges(function: Any, at: list[float], expected: list[float]) -> None:
    np.testing.assert_allclose(gradient(function, *at), expected, atol=1e-6)


# -- conversion ----------------------------------------------------------------------------------------------------


def test_float_to_integer_saturates() -> None:
    for dtype in INTEGERS:
        info = np.iinfo(dtype)
        x = Tensor(np.array([np.nan, np.inf, -np.inf, 1e30, -1e30, 2.9, -2.9]))
        negative = -2 if dtype in SIGNED else 0
        assert x.astype(dtype).tolist() == [0, info.max, info.min, info.max, info.min, 2, negative]
        assert x.astype(dtype).dtype == dtype


def test_to_half_precision_goes_through_float32() -> None:
    x = np.array([1 + 2.0**-11 + 2.0**-40])  # rounds up in one step, down in two
    assert Tensor(x).astype("float16").item() == 1.0
    assert Tensor(2**24 + 1).astype("bfloat16").item() == 2.0**24


def test_bitcast() -> None:
    assert volta.bitcast(np.array([1.0]), "int64").tolist() == [0x3FF0000000000000]
    assert volta.bitcast(np.array([255], np.uint8), "int8").tolist() == [-1]
    for dtype in (bool, "int16"):
        with pytest.raises(volta.DTypeError, match="widths differ"):
            volta.bitcast(Tensor([1.0]), dtype)


# -- accuracy of compiled functions ----------------------------------------------------------------------------------

# Units in the last place, as in docs/semantics.md, and where to look for them.
ACCURACY: dict[str, tuple[float, Callable[..., Any], tuple[tuple[float, float], ...]]] = {
    "add": (0.5, np.add, ((-10, 10), (-10, 10))),
    "mul": (0.5, np.multiply, ((-10, 10), (-10, 10))),
    "div": (0.5, np.divide, ((-10, 10), (-10, 10))),
    "rem": (0.5, np.fmod, ((-1e6, 1e6), (-10, 10))),
    "sqrt": (0.5, np.sqrt, ((0, 1e3),)),
    "log": (2, np.log, ((0, 3),)),
    "log1p": (2, np.log1p, ((-1, 3),)),
    "expm1": (2, np.expm1, ((-20, 20),)),
    "rsqrt": (2, lambda x: 1 / np.sqrt(x), ((0, 1e3),)),
    "cbrt": (2, np.cbrt, ((-1e3, 1e3),)),
    "sin": (2, np.sin, ((-1e6, 1e6),)),
    "cos": (2, np.cos, ((-1e6, 1e6),)),
    "logistic": (2, lambda x: 1 / (1 + np.exp(-x)), ((-20, 20),)),
    "exp": (4, np.exp, ((-80, 88.7),)),
    "pow": (4, np.power, ((0, 20), (-25, 25))),
    "tan": (4, np.tan, ((-1e3, 1e3),)),
    "atan2": (4, np.arctan2, ((-2, 2), (-2, 2))),
    "asin": (4, np.arcsin, ((-1, 1),)),
    "acos": (4, np.arccos, ((-1, 1),)),
    "sinh": (4, np.sinh, ((-80, 80),)),
    "cosh": (4, np.cosh, ((-80, 80),)),
    "tanh": (4, np.tanh, ((-8, 8),)),
    "erf": (4, np.vectorize(lambda x: math.erf(x), otypes=[np.float64]), ((-4, 4),)),
}


@pytest.mark.parametrize("dtype", [float32, float64], ids=str)
def test_accuracy_of_compiled_functions(dtype: np.dtype) -> None:
    rng = np.random.default_rng(0)
    operands = {}
    for name, (_, _, ranges) in ACCURACY.items():
        # A third spread over the range, a third close to 0, a third of all magnitudes.
        wide = [rng.uniform(low, high, 1000) for low, high in ranges]
        near = [np.clip(rng.uniform(-1, 1, 1000), low, high) for low, high in ranges]
        small = [
            np.clip(rng.standard_normal(1000) * 10 ** rng.uniform(-12, 0, 1000), low, high) for low, high in ranges
        ]
        operands[name] = [np.concatenate(x).astype(dtype) for x in zip(wide, near, small, strict=True)]
    compiled = compile_functions(
        {
            name: function_module(name, [TensorSpec(x.shape, dtype) for x in arrays], _applied(name))
            for name, arrays in operands.items()
        }
    )
    errors = {}
    for name, (bound, exact, _) in ACCURACY.items():
        (actual,) = call(compiled[name], operands[name])
        wide_type = np.float64 if name == "erf" else np.longdouble
        with np.errstate(all="ignore"):
            expected = exact(*(x.astype(wide_type) for x in operands[name]))
            spacing = np.spacing(np.abs(expected).astype(dtype))
            error = np.abs(actual.astype(np.longdouble) - expected) / spacing
        # Subnormal results may be zeros.
        error = error[(np.abs(expected) >= np.finfo(dtype).smallest_normal) & np.isfinite(expected.astype(dtype))]
        # The reference for erf is rounded itself.
        allowed = bound * 1.001 + (1 if name == "erf" and dtype == float64 else 0)
        if error.max() > allowed:
            errors[name] = f"{error.max():.3g} > {bound}"
    assert not errors


def _applied(name: str) -> Callable[..., list[Tensor]]:
    return lambda *operands: [OPS[name].apply(*operands)]


def test_large_angles() -> None:
    x = np.array([1e6, 1e8, 1e12, 1.4e14, 2.0**47, 1e30, np.inf], np.float32)
    compiled = compile_functions({"sin": function_module("sin", [TensorSpec(x.shape, float32)], _applied("sin"))})
    (actual,) = call(compiled["sin"], [x])
    np.testing.assert_allclose(actual, [*np.sin(x[:4].astype(np.float64)), *[np.nan] * 3], rtol=1e-6)
    np.testing.assert_allclose(volta.sin(x).numpy(), actual, rtol=1e-6)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_extremes_hold_special_values(dtype: np.dtype) -> None:
    values = extremes(dtype).astype(np.float64)
    assert np.isnan(values).sum() == 1
    assert np.isinf(values).sum() == 2
    assert (np.signbit(values) & (values == 0)).sum() == 1
