"""Random numbers: against JAX's generator, against their distributions, and the same compiled as evaluated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import special, stats

from tests.harness import call, compile_functions, function_module
from volta_mlir import random, vmap
from volta_mlir.dialects.random import threefry2x32
from volta_mlir.dtypes import UNSIGNED, TensorSpec, uint32
from volta_mlir.errors import DTypeError, ShapeError
from volta_mlir.tensor import Tensor

FLOAT_NAMES = ["float16", "bfloat16", "float32", "float64"]
KEY = random.key(20)


@pytest.mark.parametrize(
    ("key", "counter", "expected"),
    [
        # The known answers that come with the algorithm's reference implementation, Random123.
        ((0x00000000, 0x00000000), (0x00000000, 0x00000000), (0x6B200159, 0x99BA4EFE)),
        ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
        ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
    ],
)
def test_known_answers(key: tuple[int, int], counter: tuple[int, int], expected: tuple[int, int]) -> None:
    arrays = [[np.array([word], np.uint32) for word in words] for words in (key, counter)]
    assert tuple(int(word[0]) for word in threefry2x32(*arrays)) == expected


# -- JAX's default generator -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def jax_random() -> Any:
    """``jax.random`` with 64-bit numbers; where JAX is installed."""
    jax = pytest.importorskip("jax")
    with jax.enable_x64(True):
        yield jax.random


@pytest.mark.parametrize("seed", [0, 20, 2**32 - 1, 2**40 + 5])
def test_keys_are_jax_keys(jax_random: Any, seed: int) -> None:
    key, theirs = random.key(seed), jax_random.key(seed)

    def data(key: Any) -> np.ndarray:
        return np.asarray(jax_random.key_data(key))

    np.testing.assert_array_equal(key, data(theirs))
    np.testing.assert_array_equal(random.split(key, 5), data(jax_random.split(theirs, 5)))
    np.testing.assert_array_equal(random.fold_in(key, 77), data(jax_random.fold_in(theirs, 77)))


@pytest.mark.parametrize("dtype", UNSIGNED, ids=str)
def test_bits_are_jax_bits(jax_random: Any, dtype: np.dtype) -> None:
    expected = jax_random.bits(jax_random.key(20), (3, 501), dtype)
    np.testing.assert_array_equal(random.bits(KEY, (3, 501), dtype), np.asarray(expected))


@pytest.mark.parametrize("dtype", FLOAT_NAMES)
def test_uniform_is_jax_uniform(jax_random: Any, dtype: str) -> None:
    expected = jax_random.uniform(jax_random.key(20), (1001,), dtype)
    np.testing.assert_array_equal(random.uniform(KEY, (1001,), dtype), np.asarray(expected))


def test_normal_is_close_to_jax_normal(jax_random: Any) -> None:
    expected = jax_random.normal(jax_random.key(20), (1001,), "float32")
    np.testing.assert_allclose(random.normal(KEY, (1001,)), np.asarray(expected), rtol=2e-5, atol=2e-6)


# -- distributions -----------------------------------------------------------------------------------------------

COUNT = 20_000
#: With these keys nothing is left to chance; a wrong distribution gives a p-value of practically zero.
P_VALUE = 1e-3


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("seed", [0, 1])
def test_uniform_distribution(dtype: str, seed: int) -> None:
    x = random.uniform(random.key(seed), (COUNT,), dtype).numpy()
    assert x.dtype == dtype
    assert x.min() >= 0
    assert x.max() < 1
    assert stats.kstest(x, "uniform").pvalue > P_VALUE


@pytest.mark.parametrize("dtype", FLOAT_NAMES)
def test_uniform_half_open(dtype: str) -> None:
    """Also in half precision, where every representable number is drawn."""
    x = random.uniform(KEY, (COUNT,), dtype).numpy().astype(np.float64)
    assert x.min() >= 0
    assert x.max() < 1
    assert abs(x.mean() - 0.5) < 0.02


def test_uniform_bounds() -> None:
    x = random.uniform(KEY, (COUNT,), minval=-3.0, maxval=5.0).numpy()
    assert x.min() >= -3
    assert x.max() <= 5
    assert stats.kstest((x + 3) / 8, "uniform").pvalue > P_VALUE
    per_column = random.uniform(KEY, (1000, 2), minval=Tensor([0.0, 10.0]), maxval=Tensor([1.0, 20.0])).numpy()
    assert per_column[:, 0].max() <= 1
    assert per_column[:, 1].min() >= 10


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("seed", [0, 1])
def test_normal_distribution(dtype: str, seed: int) -> None:
    x = random.normal(random.key(seed), (COUNT,), dtype).numpy()
    assert x.dtype == dtype
    assert np.isfinite(x).all()
    assert abs(x.mean()) < 0.02
    assert abs(x.var() - 1) < 0.03
    assert abs(stats.kurtosis(x)) < 0.15
    assert stats.kstest(x, "norm").pvalue > P_VALUE


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_normal_in_half_precision(dtype: str) -> None:
    x = random.normal(KEY, (COUNT,), dtype).numpy().astype(np.float64)
    assert np.isfinite(x).all()
    assert abs(x.mean()) < 0.03
    assert abs(x.var() - 1) < 0.05


@pytest.mark.parametrize(("dtype", "relative"), [("float32", 4e-7), ("float64", 2e-15)])
def test_inverse_error_function(dtype: str, relative: float) -> None:
    """Over the whole interval, the numbers next to its ends included."""
    x = np.random.default_rng(0).uniform(-1, 1, 10_000).astype(dtype)
    ends = 1 - np.logspace(np.log10(np.finfo(dtype).eps), -1, 1000).astype(dtype)
    x = np.concatenate([x, ends, -ends])
    np.testing.assert_allclose(random._erf_inv(Tensor(x)), special.erfinv(x.astype(np.float64)), rtol=relative)


@pytest.mark.parametrize(("low", "high", "dtype"), [(0, 6, "int32"), (-5, 5, "int8"), (0, 256, "uint8")])
def test_randint_is_even(low: int, high: int, dtype: str) -> None:
    x = random.randint(KEY, (COUNT,), low, high, dtype).numpy()
    assert x.dtype == dtype
    counts = np.bincount(x.astype(int) - low, minlength=high - low)
    assert len(counts) == high - low
    assert stats.chisquare(counts).pvalue > P_VALUE


def test_randint_bounds() -> None:
    everything = random.randint(KEY, (COUNT,), -(2**63), 2**63, "int64").numpy()
    assert stats.kstest(everything / 2.0**64 + 0.5, "uniform").pvalue > P_VALUE
    unsigned = random.randint(KEY, (COUNT,), 0, 2**64, "uint64").numpy()
    assert stats.kstest(unsigned / 2.0**64, "uniform").pvalue > P_VALUE
    # Three quarters of the range, where a modulus of as many bits would draw some twice as often as others.
    uneven = random.randint(KEY, (COUNT,), -(2**31), 2**30).numpy()
    assert stats.kstest((uneven / 2.0**31 + 1) / 1.5, "uniform").pvalue > P_VALUE
    assert random.randint(KEY, (4,), 7, 7).tolist() == [7] * 4
    tensors = random.randint(KEY, (1000, 3), Tensor([-100, 5, 9]), Tensor([0, 6, 2])).numpy()
    assert set(tensors[:, 0]) == set(range(-100, 0))
    assert set(tensors[:, 1]) == {5}
    assert set(tensors[:, 2]) == {9}


def test_bernoulli() -> None:
    x = random.bernoulli(KEY, 0.3, (COUNT,)).numpy()
    assert x.dtype == bool
    assert stats.binomtest(int(x.sum()), COUNT, 0.3).pvalue > P_VALUE
    assert random.bernoulli(KEY, Tensor([0.0, 1.0])).tolist() == [False, True]
    assert random.bernoulli(KEY).shape == ()


@pytest.mark.parametrize("dtype", FLOAT_NAMES)
def test_truncated_normal(dtype: str) -> None:
    for low, high in ((-2.0, 2.0), (0.5, 3.0), (-9.0, -1.0), (-np.inf, np.inf)):
        x = random.truncated_normal(KEY, low, high, (COUNT,), dtype).numpy()
        assert x.dtype == dtype
        x = x.astype(np.float64)
        assert np.isfinite(x).all()
        assert x.min() >= low
        assert x.max() <= high
        if dtype in ("float32", "float64"):
            assert stats.kstest(x, stats.truncnorm(low, high).cdf).pvalue > P_VALUE
    columns = random.truncated_normal(KEY, Tensor([-1.0, 2.0]), Tensor([[0.0], [5.0]]), dtype=dtype)
    assert columns.shape == (2, 2)


@pytest.mark.parametrize("name", ["gumbel", "exponential", "laplace"])
@pytest.mark.parametrize("dtype", FLOAT_NAMES)
def test_distributions_of_logarithms(name: str, dtype: str) -> None:
    draw = getattr(random, name)
    x = draw(KEY, (COUNT,), dtype).numpy()
    assert x.dtype == dtype
    assert np.isfinite(x).all()
    distribution = {"gumbel": stats.gumbel_r, "exponential": stats.expon, "laplace": stats.laplace}[name]
    if dtype in ("float32", "float64"):
        assert stats.kstest(x, distribution.cdf).pvalue > P_VALUE
    else:
        assert abs(x.astype(np.float64).mean() - distribution.mean()) < 0.03
    assert draw(KEY).shape == ()


def chi_square(drawn: np.ndarray, probabilities: Any) -> float:
    """The p-value of drawn indices; none of those with probability 0 may have been drawn."""
    expected = np.asarray(probabilities, np.float64) * drawn.size
    counts = np.bincount(drawn.ravel(), minlength=len(expected))
    assert not counts[expected == 0].any()
    possible = expected > 0
    return float(stats.chisquare(counts[possible], expected[possible]).pvalue)


def test_categorical() -> None:
    p = np.array([0.5, 0.0, 0.2, 0.3])
    with np.errstate(divide="ignore"):
        logits = np.log(p) + 4.0
    for dtype in FLOAT_NAMES:
        drawn = random.categorical(KEY, Tensor(logits, dtype), shape=(COUNT,))
        assert drawn.dtype.name == "int32"
        exact = np.exp(np.asarray(Tensor(logits, dtype)).astype(np.float64))
        assert chi_square(drawn.numpy(), exact / exact.sum()) > P_VALUE
    both = Tensor(np.stack([logits, logits[::-1]], axis=1), "float32")
    drawn = random.categorical(KEY, both, axis=0, shape=(COUNT, 2)).numpy()
    assert chi_square(drawn[:, 0], p) > P_VALUE
    assert chi_square(drawn[:, 1], p[::-1]) > P_VALUE
    assert abs(np.corrcoef(drawn.T)[0, 1]) < 0.03
    assert random.categorical(KEY, both, 0).shape == (2,)


def test_permutation() -> None:
    orders = np.stack([random.permutation(k, 4).numpy() for k in map(Tensor, random.split(KEY, 2000).numpy())])
    np.testing.assert_array_equal(np.sort(orders), np.broadcast_to(np.arange(4), orders.shape))
    _, numbers = np.unique(orders @ [64, 16, 4, 1], return_inverse=True)
    assert chi_square(numbers, np.full(24, 1 / 24)) > P_VALUE
    x = np.arange(12.0).reshape(3, 4)
    columns = random.permutation(KEY, x, axis=1).numpy()
    assert sorted(columns.T.tolist()) == sorted(x.T.tolist())
    assert columns.tolist() != x.tolist()
    wide = np.broadcast_to(np.arange(50), (40, 50))
    each = random.permutation(KEY, wide, -1, independent=True).numpy()
    np.testing.assert_array_equal(np.sort(each), wide)
    assert len(np.unique(each, axis=0)) == 40


def test_choice() -> None:
    p = np.array([0.1, 0.0, 0.6, 0.3])
    assert chi_square(random.choice(KEY, 5, (COUNT,)).numpy(), [0.2] * 5) > P_VALUE
    assert chi_square(random.choice(KEY, 4, (COUNT,), p=p).numpy(), p) > P_VALUE
    x = np.arange(12).reshape(3, 4) * 10
    chosen = random.choice(KEY, x, (2, 5), axis=1).numpy()
    assert chosen.shape == (3, 2, 5)
    assert {tuple(c) for c in chosen.reshape(3, -1).T} <= {tuple(c) for c in x.T}
    assert sorted(random.choice(KEY, x[0], (4,), replace=False).tolist()) == x[0].tolist()
    # Drawn without replacement, the first has the probabilities p, and the others what is left of them.
    keys = random.split(KEY, 2000)
    pairs = vmap(lambda k: random.choice(k, 4, (2,), replace=False, p=Tensor(p, "float32")))(keys).numpy()
    assert chi_square(pairs[:, 0], p) > P_VALUE
    assert (pairs[:, 0] != pairs[:, 1]).all()
    assert chi_square(pairs[pairs[:, 0] == 2, 1], [0.25, 0, 0, 0.75]) > P_VALUE


def test_vmap_over_keys() -> None:
    keys = random.split(KEY, 3)
    draws: list[Callable[[Tensor], Tensor]] = [
        lambda k: random.bits(k, (5,)),
        lambda k: random.uniform(k, (5,)),
        lambda k: random.randint(k, (5,), 0, 100),
        lambda k: random.normal(k, (2, 2)),
        lambda k: random.truncated_normal(k, -1.0, 1.0, (5,)),
        lambda k: random.permutation(k, 6),
        lambda k: random.permutation(k, np.arange(6).reshape(2, 3), 1, independent=True),
        lambda k: random.categorical(k, Tensor([0.1, 0.2, 0.3]), shape=(7,)),
        lambda k: random.gumbel(random.fold_in(k, 1), (5,)),
        lambda k: random.split(k),
    ]
    mapped = vmap(lambda k: [draw(k) for draw in draws])(keys)
    for draw, together in zip(draws, mapped, strict=True):
        np.testing.assert_array_equal(together, np.stack([draw(Tensor(k)).numpy() for k in keys.numpy()]))


# -- keys ----------------------------------------------------------------------------------------------------------


def test_keys_are_independent() -> None:
    first, second = random.split(KEY).numpy()
    draws = [random.normal(Tensor(k), (COUNT,)).numpy() for k in (KEY.numpy(), first, second)]
    draws += [random.normal(random.fold_in(KEY, step), (COUNT,)).numpy() for step in (2, 3)]
    correlations = np.corrcoef(draws) - np.eye(len(draws))
    assert np.abs(correlations).max() < 0.03


def test_fold_in_is_a_row_of_split() -> None:
    assert random.split(KEY, 4)[3].tolist() == random.fold_in(KEY, 3).tolist()


def test_key_of_a_tensor() -> None:
    for seed in (0, 5, 2**31 - 1):
        assert random.key(Tensor(seed)).tolist() == random.key(seed).tolist()
    assert random.key(Tensor(np.array(-1, np.int64))).tolist() == random.key(-1).tolist()
    assert random.fold_in(KEY, Tensor(9)).tolist() == random.fold_in(KEY, 9).tolist()


def test_bad_arguments() -> None:
    with pytest.raises(DTypeError, match=r"a key is two uint32 numbers.*got int32\[2\]"):
        random.bits(Tensor([0, 1]))
    with pytest.raises(DTypeError, match=r"got uint32\[5,2\]"):
        random.uniform(random.split(KEY, 5))
    with pytest.raises(DTypeError, match=r"a seed is an integer of rank 0, got float32\[\]"):
        random.key(Tensor(1.0))
    with pytest.raises(ShapeError, match="fold_in takes a number"):
        random.fold_in(KEY, Tensor([1, 2]))
    with pytest.raises(DTypeError, match="gives unsigned integers, not int32"):
        random.bits(KEY, dtype="int32")
    with pytest.raises(DTypeError, match="uniform draws floating-point numbers, not int32"):
        random.uniform(KEY, dtype="int32")
    with pytest.raises(DTypeError, match="randint draws integers, not float32"):
        random.randint(KEY, (), 0, 1, "float32")
    with pytest.raises(DTypeError, match="the integers from 0 to 257 do not all fit uint8"):
        random.randint(KEY, (), 0, 257, "uint8")
    with pytest.raises(DTypeError, match="gumbel draws floating-point numbers, not int32"):
        random.gumbel(KEY, dtype="int32")
    with pytest.raises(ShapeError, match=r"shapes \(2,\), \(3,\) can't be broadcast"):
        random.truncated_normal(KEY, Tensor([0.0, 1.0]), 2.0, (3,))
    with pytest.raises(ShapeError, match="axis 1 is out of range for rank 1"):
        random.permutation(KEY, Tensor([1, 2]), axis=1)
    with pytest.raises(DTypeError, match="categorical draws floating-point"):
        random.categorical(KEY, Tensor([1, 2]))
    with pytest.raises(ShapeError, match=r"shapes \(2, 1\), \(3, 1\) can't be broadcast"):
        random.categorical(KEY, Tensor([[1.0], [2.0]]), shape=(3,))
    with pytest.raises(ShapeError, match="3 of 2 elements can't be chosen without replacement"):
        random.choice(KEY, 2, (3,), replace=False)
    with pytest.raises(ShapeError, match=r"a probability for each of 2 elements, got float32\[1\]"):
        random.choice(KEY, 2, (3,), p=[1.0])
    with pytest.raises(ShapeError, match=r"int32\[0\] has nothing to choose from along axis 0"):
        random.choice(KEY, 0, (3,))
    with pytest.raises(ShapeError, match=r"2\*\*32 elements or more"):
        random.bits(KEY, (2**16, 2**16))


# -- compiled ------------------------------------------------------------------------------------------------------


def test_compiled_draws() -> None:
    """What has to be the same everywhere is; normal is within a few units in the last place."""
    same: dict[str, Callable[[Tensor], Tensor]] = {
        "split": lambda key: random.split(key, 3),
        "fold_in": lambda key: random.fold_in(key, 5),
        **{f"uniform_{d}": lambda key, d=d: random.uniform(key, (101,), d) for d in FLOAT_NAMES},
        "randint": lambda key: random.randint(key, (101,), -7, 12),
        "randint_64": lambda key: random.randint(key, (101,), -(2**63), 2**63, "int64"),
        "bernoulli": lambda key: random.bernoulli(key, 0.3, (101,)),
        "permutation": lambda key: random.permutation(key, 101),
        "choice": lambda key: random.choice(key, 50, (20,)),
        "categorical": lambda key: random.categorical(key, Tensor([0.5, 0.0, 1.0]), shape=(101,)),
    }
    normal = {f"normal_{d}": lambda key, d=d: random.normal(key, (10001,), d) for d in ("float32", "float64")}
    close: dict[str, Callable[[Tensor], Tensor]] = {
        **normal,
        "truncated_normal": lambda key: random.truncated_normal(key, -1.0, 2.0, (1001,)),
        "gumbel": lambda key: random.gumbel(key, (1001,)),
        "laplace": lambda key: random.laplace(key, (1001,)),
    }
    specs = [TensorSpec((2,), uint32)]
    modules = {name: function_module(name, specs, lambda key, f=f: [f(key)]) for name, f in (same | close).items()}
    compiled = compile_functions(modules)
    for name, function in same.items():
        (actual,) = call(compiled[name], [KEY.numpy()])
        np.testing.assert_array_equal(actual, function(KEY), err_msg=name)
    for name, function in close.items():
        (actual,) = call(compiled[name], [KEY.numpy()])
        if name in normal:
            np.testing.assert_array_max_ulp(actual, function(KEY).numpy(), maxulp=8)
        else:
            np.testing.assert_allclose(actual, function(KEY).numpy(), rtol=1e-6, atol=1e-6, err_msg=name)
