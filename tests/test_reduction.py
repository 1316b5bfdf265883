"""Functions over reductions, cumulative ops and sorting: against numpy and scipy, and at their edges."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import special

import volta_mlir as volta
from volta_mlir.errors import ShapeError
from volta_mlir.tensor import Tensor

RNG = np.random.default_rng(0)
X = RNG.standard_normal((3, 4, 5)).astype(np.float32)


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("axis", [None, 0, -1, (0, 2), (-1, 1)])
@pytest.mark.parametrize("name", ["sum", "prod", "max", "min", "mean", "var", "std", "any", "all"])
def test_reductions_are_numpy_reductions(name: str, axis: Any, keepdims: bool) -> None:
    for x in (X, (X * 2).astype(np.int32), X > 0.5):
        expected = getattr(np, name)(x, axis=axis, keepdims=keepdims)
        actual = getattr(volta, name)(x, axis, keepdims).numpy()
        assert actual.shape == np.shape(expected)
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("axis", [None, 0, -1])
@pytest.mark.parametrize("name", ["argmax", "argmin"])
def test_arguments_are_numpy_arguments(name: str, axis: Any, keepdims: bool) -> None:
    for x in (X, (X * 2).astype(np.int32), X > 0.5):
        expected = getattr(np, name)(x, axis=axis, keepdims=keepdims)
        np.testing.assert_array_equal(getattr(volta, name)(x, axis, keepdims), expected)


@pytest.mark.parametrize("axis", [None, 0, -1])
def test_cumulative_functions(axis: Any) -> None:
    for x in (X, (X * 2).astype(np.int32)):
        np.testing.assert_allclose(volta.cumsum(x, axis), np.cumsum(x, axis), rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(volta.cumprod(x, axis), np.cumprod(x, axis), rtol=1e-5, atol=1e-6)
    flat = X.reshape(-1) if axis is None else X
    running = np.maximum.accumulate(flat, axis or 0)
    np.testing.assert_array_equal(volta.cummax(X, axis), running)
    backwards = np.flip(np.maximum.accumulate(np.flip(flat, axis or 0), axis or 0), axis or 0)
    np.testing.assert_array_equal(volta.cummax(X, axis, reverse=True), backwards)


def test_dtypes_of_results() -> None:
    half = Tensor(np.full((3000,), 1.0, np.float16))
    assert (volta.sum(half).dtype.name, volta.sum(half).item()) == ("float16", 3000.0)  # exact: summed in float32
    flags = Tensor([True, True, False])
    assert [f(flags).dtype.name for f in (volta.sum, volta.prod, volta.max, volta.mean)] == [
        "int32", "int32", "bool", "float32",
    ]  # fmt: skip
    assert volta.count_nonzero(Tensor([0.0, -0.0, math.nan, 2.0])).item() == 2
    assert volta.cumsum(flags).tolist() == [1, 2, 2]


def test_nothing_to_reduce() -> None:
    empty = Tensor(np.zeros((2, 0), np.float32))
    assert volta.sum(empty, 1).tolist() == [0, 0]
    assert volta.prod(empty, 1).tolist() == [1, 1]
    assert volta.max(empty, 1).tolist() == [-math.inf] * 2
    assert volta.min(empty, 1).tolist() == [math.inf] * 2
    assert volta.max(empty.astype("int8")).item() == -128
    assert volta.any(empty, 1).tolist() == [False] * 2
    assert volta.all(empty, 1).tolist() == [True] * 2
    assert volta.logsumexp(empty, 1).tolist() == [-math.inf] * 2
    assert np.isnan(volta.mean(empty, 1).numpy()).all()
    assert np.isnan(volta.var(Tensor([1.0]), ddof=1).numpy())
    with pytest.raises(ShapeError, match=r"axis 1 of float32\[2,0\] has no elements to choose from"):
        volta.argmax(empty, 1)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_means_of_half_precision_do_not_overflow(dtype):
    x = Tensor(np.tile([300.0, 700.0], 1000), dtype)  # their sum, and their squared distances, exceed float16
    for function, expected in ((volta.mean, 500), (volta.var, 40000), (volta.std, 200)):
        assert function(x).dtype.name == dtype
        np.testing.assert_allclose(function(x).item(), expected, rtol=1e-2)
    np.testing.assert_array_equal(volta.grad(volta.mean)(x), np.full(2000, 1 / 2000).astype(x.dtype))


@pytest.mark.parametrize(
    ("shape", "axis"), [((1 << 21,), None), ((1 << 16, 8), 0), ((8, 60, 60, 5), (0, 1, 2)), ((3, 200_000), 1)]
)
def test_long_sums_are_accurate(shape: tuple[int, ...], axis: Any) -> None:
    x = (1 + RNG.random(shape)).astype(np.float32)
    expected = np.sum(np.square(x, dtype=np.float64), axis)
    actual = volta.jit(lambda x: volta.sum(x * x, axis))(Tensor(x)).numpy()
    np.testing.assert_allclose(actual, expected, rtol=1e-6)
    counted = volta.jit(lambda x: volta.sum(x, axis))(volta.ones(shape)).numpy()
    np.testing.assert_array_equal(counted, np.sum(np.ones(shape), axis))


@pytest.mark.parametrize("width", [48, 50, 384])
def test_a_long_sum_of_what_is_counted(width: int) -> None:
    x = Tensor(np.ones((5000, width), np.int32))

    def counted(x: Tensor) -> Tensor:
        return x * volta.arange(5000)[:, None]

    np.testing.assert_array_equal(volta.jit(lambda x: counted(x).sum(0))(x), np.full(width, 5000 * 4999 // 2))
    np.testing.assert_array_equal(volta.jit(lambda x: counted(x).max(0))(x), np.full(width, 4999))
    np.testing.assert_array_equal(volta.jit(lambda x: counted(x).max(1))(x), np.arange(5000))
    np.testing.assert_array_equal(volta.jit(lambda x: counted(x).max())(x), 4999)


def test_long_sums_together_of_which_one_is_transposed() -> None:
    x = Tensor(RNG.standard_normal((8192, 6, 4)).astype(np.float32))
    together = volta.jit(lambda x: (x.sum(0).T, x.max(0))).lower(x).compile()
    assert not together.report.unfused
    total, greatest = together(x)
    np.testing.assert_allclose(total.numpy(), x.numpy().sum(0, dtype=np.float64).T, rtol=1e-4, atol=1e-3)
    np.testing.assert_array_equal(greatest.numpy(), x.numpy().max(0))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_row_is_summed_in_one_order(dtype: str) -> None:
    """By itself, with other sums, of several operands, and in what uses it."""
    x, zero = (Tensor(v.astype(dtype)) for v in (RNG.standard_normal((64, 384)), np.zeros((64, 384))))

    def centred(x: Tensor) -> tuple[Tensor, Tensor]:
        total = x.sum(1)
        return total, x - total[:, None] / 384

    alone = volta.jit(lambda x: x.sum(1))(x).numpy()
    for function in (
        lambda x, _: (x.sum(1), x.max(1)),
        lambda x, zero: ((x - zero).sum(1),),
        lambda x, _: centred(x),
        lambda x, zero: (*centred(x - zero), (x * zero).sum(1)),
        lambda x, _: (x.sum(1), x.astype("float64").sum(1), x.astype("float16").sum(1)),
    ):
        np.testing.assert_array_equal(volta.jit(function)(x, zero)[0], alone)


def test_products_are_rounded_before_they_are_added_to() -> None:
    """So that what is computed again in another kernel comes out alike."""
    x, y, z = (RNG.standard_normal(1000).astype(np.float32) for _ in range(3))
    fused = volta.jit(lambda x, y, z: x * y + z)(*map(Tensor, (x, y, z)))
    np.testing.assert_array_equal(fused, x * y + z)


def test_bad_axes() -> None:
    with pytest.raises(ShapeError, match="axis 3 is out of range for rank 3"):
        volta.sum(X, 3)
    with pytest.raises(ShapeError, match="repeat"):
        volta.max(X, (0, -3))
    with pytest.raises(ShapeError, match="rank 1 or more"):
        volta.cumsum(1.0, 0)
    with pytest.raises(ShapeError, match="axis -1 is out of range for rank 0"):
        volta.sort(1.0)
    with pytest.raises(ShapeError, match=r"k = 6 is not within the last axis of float32\[3,4,5\]"):
        volta.top_k(X, 6)


# -- derivatives where they are delicate -------------------------------------------------------------------------


def test_equal_extrema_share_the_derivative() -> None:
    x = Tensor([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0]])
    expected = [[0, 0.5, 0.5], [1 / 3] * 3]
    np.testing.assert_allclose(volta.grad(lambda x: x.max(1).sum())(x), expected, rtol=1e-6)
    np.testing.assert_allclose(volta.grad(lambda x: (-x).min(1).sum())(x), -np.array(expected), rtol=1e-6)


def test_derivative_of_a_product_with_zeros() -> None:
    x = Tensor([[2.0, 3.0, 4.0], [2.0, 0.0, 4.0], [0.0, 3.0, 0.0]])
    np.testing.assert_allclose(volta.grad(lambda x: x.prod(1).sum())(x), [[12, 8, 6], [0, 8, 0], [0, 0, 0]])
    np.testing.assert_allclose(volta.grad(lambda x: x.cumprod(1).sum())(x), [[16, 10, 6], [1, 10, 0], [4, 0, 0]])


def test_exponentials_do_not_overflow() -> None:
    x = np.array([[1000, 1001, -1000], [-1e30, 0, 3]], np.float32)
    np.testing.assert_allclose(volta.softmax(x), special.softmax(x, axis=-1), rtol=1e-6)
    np.testing.assert_allclose(volta.log_softmax(x), special.log_softmax(x, axis=-1), rtol=1e-6)
    np.testing.assert_allclose(volta.logsumexp(x, -1), special.logsumexp(x, axis=-1), rtol=1e-6)
    assert volta.logsumexp(X, (0, 2), keepdims=True).shape == (1, 4, 1)
    assert volta.softmax(X, (0, 2)).sum().item() == pytest.approx(4)


def test_exponentials_of_infinities() -> None:
    inf = math.inf
    x = Tensor([[-inf, -inf], [-inf, 1.0], [inf, 1.0], [math.nan, 1.0]])
    assert volta.logsumexp(x, 1).tolist()[:3] == [-inf, 1.0, inf]
    assert math.isnan(volta.logsumexp(x, 1).tolist()[3])
    gradient = volta.grad(lambda x: volta.logsumexp(x, 1).sum())(x[:2])
    assert gradient.tolist() == [[0, 0], [0, 1]]
    assert volta.softmax(x)[1].tolist() == [0, 1]
    assert np.isnan(volta.softmax(x)[0].numpy()).all()


def test_derivative_of_softmax() -> None:
    x, weights = Tensor(X[0]), RNG.standard_normal((4, 5)).astype(np.float32)
    probabilities = special.softmax(X[0], axis=-1)
    inner = (weights * probabilities).sum(-1, keepdims=True)
    actual = volta.grad(lambda x: (volta.softmax(x) * weights).sum())(x)
    np.testing.assert_allclose(actual, probabilities * (weights - inner), rtol=1e-4, atol=1e-6)
    actual = volta.grad(lambda x: volta.logsumexp(x, -1).sum())(x)
    np.testing.assert_allclose(actual, probabilities, rtol=1e-5)
    actual = volta.grad(lambda x: (volta.log_softmax(x) * weights).sum())(x)
    np.testing.assert_allclose(actual, weights - probabilities * weights.sum(-1, keepdims=True), rtol=1e-4, atol=1e-6)


# -- order ---------------------------------------------------------------------------------------------------------


def test_order_with_nan() -> None:
    x = Tensor([2.0, math.nan, -math.inf, 2.0, math.inf, math.nan])
    assert volta.argsort(x).tolist() == [2, 0, 3, 4, 1, 5]
    assert volta.argsort(x, descending=True).tolist() == [1, 5, 4, 0, 3, 2]
    assert volta.top_k(x, 3)[1].tolist() == [1, 5, 4]
    assert volta.argmax(x).item() == volta.argmin(x).item() == 1


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_sort_takes_along_argsort(axis: int, descending: bool) -> None:
    x = RNG.integers(0, 4, (5, 6, 7)).astype(np.float32)
    values, order = volta.sort(x, axis, descending), volta.argsort(x, axis, descending)
    assert order.dtype.name == "int32"
    np.testing.assert_array_equal(values, np.take_along_axis(x, order.numpy(), axis))
    expected = np.sort(x, axis)
    np.testing.assert_array_equal(values, np.flip(expected, axis) if descending else expected)


def test_derivative_of_an_order() -> None:
    x = Tensor([3.0, 1.0, 2.0])
    weights = Tensor([10.0, 20.0, 30.0])
    assert volta.grad(lambda x: (volta.sort(x) * weights).sum())(x).tolist() == [30, 10, 20]
    assert volta.grad(lambda x: (volta.top_k(x, 2)[0] * weights[:2]).sum())(x).tolist() == [10, 0, 20]
    assert volta.grad(lambda x: (volta.cummax(x) * weights).sum())(x).tolist() == [60, 0, 0]
