"""Dropout: what is kept as it is against PyTorch's, what is dropped by statistics."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import volta_mlir as volta
from tests import pytorch
from tests.pytorch import call
from volta_mlir import DTypeError, ShapeError, Tensor, TraceError, random
from volta_mlir.nn import functional as F

#: The functions, with the shape of an input and that of the mask.
SHAPES = {
    "dropout": ((40, 50, 5), (40, 50, 5)),
    "dropout1d": ((100, 100, 3), (100, 100, 1)),
    "dropout2d": ((100, 100, 2, 2), (100, 100, 1, 1)),
    "dropout3d": ((100, 100, 1, 2, 2), (100, 100, 1, 1, 1)),
    "alpha_dropout": ((40, 50, 5), (40, 50, 5)),
    "feature_alpha_dropout": ((100, 100, 3), (100, 100, 1)),
}
PROBABILITIES = (0.1, 0.5, 0.8)
KEY = random.key(3)


def draws(name: str, p: float, x: Any = None) -> np.ndarray:
    shape = SHAPES[name][0]
    return getattr(F, name)(volta.ones(shape) if x is None else x, p, True, key=KEY).numpy()


@pytest.mark.parametrize("name", SHAPES)
def test_identity(name: str) -> None:
    """Without training, or with a probability of 0, no key is needed; PyTorch's samples say the same."""
    variants = {"feature_alpha_dropout": "without_train"}
    op = f"nn.functional.{name}"
    calls = [] if name == "dropout1d" else pytorch.sample_calls(op, variant=variants.get(name, ""))
    ranks = {"dropout2d": (3, 4), "dropout3d": (4, 5), "feature_alpha_dropout": range(2, 9)}.get(name, range(9))
    calls = [c for c in calls if not c.kwargs.get("training", name.startswith("dropout")) and c.args[0].ndim in ranks]
    x = np.ones(SHAPES[name][0][-3:] if name == "dropout1d" else SHAPES[name][0], np.float32)
    calls += [call("off", x, 0.5, False), call("never", x, 0, True), call("half", x.astype(np.float16), training=False)]
    pytorch.check_eager(getattr(F, name), getattr(torch.nn.functional, name), calls)


@pytest.mark.parametrize("name", SHAPES)
def test_everything_dropped(name: str) -> None:
    """With a probability of 1 results and gradients are zeros, whatever the input is."""
    x = Tensor([[[[[np.nan, np.inf, 1.0]]]]]).reshape(*(1,) * (len(SHAPES[name][0]) - 1), 3)
    out, pullback = volta.vjp(lambda x: getattr(F, name)(x, 1.0, True, key=KEY), x)
    (gradient,) = pullback(volta.ones(x.shape))
    assert out.tolist() == gradient.tolist() == volta.zeros(x.shape).tolist()


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("p", PROBABILITIES)
def test_rate(name: str, p: float) -> None:
    """As many are dropped as ``p`` says, by the whole channel, and independently of their neighbours."""
    out = draws(name, p)
    of_ones = np.unique(out)
    assert len(of_ones) == 2
    dropped = out == of_ones.min()  # of ones, what is dropped is always the smaller
    mask_shape = SHAPES[name][1]
    of_channels = dropped[tuple(slice(0, n) for n in mask_shape)]
    assert (dropped == of_channels).all()
    count = of_channels.size
    deviation = np.sqrt(p * (1 - p) / count)
    assert abs(of_channels.mean() - p) < 4 * deviation
    flat = of_channels.ravel()
    assert abs((flat[1:] & flat[:-1]).mean() - p * p) < 6 * deviation


@pytest.mark.parametrize("p", PROBABILITIES)
def test_scale(p: float) -> None:
    """What is kept is divided by 1 - p."""
    x = np.random.default_rng(0).normal(size=SHAPES["dropout"][0]).astype(np.float32)
    out = draws("dropout", p, x)
    kept = out != 0
    np.testing.assert_allclose(out[kept], x[kept] / (1 - p), rtol=1e-6)


@pytest.mark.parametrize("name", ["alpha_dropout", "feature_alpha_dropout"])
@pytest.mark.parametrize("p", PROBABILITIES)
def test_alpha(name: str, p: float) -> None:
    """The values are those of PyTorch, and mean and variance stay 0 and 1."""
    x = np.random.default_rng(0).normal(size=SHAPES[name][0]).astype(np.float32)
    out = draws(name, p, x)
    dropped = np.broadcast_to(draws(name, p) == draws(name, p).min(), x.shape)
    theirs = getattr(torch.nn.functional, name)(torch.zeros(1000, 10), p, True).unique().numpy()
    np.testing.assert_allclose(np.unique(out[dropped]), theirs[:1], rtol=1e-5)
    slope = np.polyfit(x[~dropped], out[~dropped], 1)
    ours = sorted({out[dropped][0], slope[1]})
    np.testing.assert_allclose(ours, theirs, rtol=1e-4)
    deviation = 5 / np.sqrt(dropped.size / (3 if name.startswith("feature") else 1))
    assert abs(out.mean()) < 2 * deviation
    assert abs(out.var() - 1) < 3 * deviation


@pytest.mark.parametrize("name", SHAPES)
def test_gradient(name: str) -> None:
    """The derivative is the scale where an element is kept, 0 where it is dropped."""
    x = volta.ones(SHAPES[name][0])
    _, pullback = volta.vjp(lambda x: getattr(F, name)(x, 0.5, True, key=KEY), x)
    (gradient,) = pullback(volta.ones(x.shape))
    out = draws(name, 0.5)
    kept = out == out.max()
    doubled = getattr(F, name)(x * 2, 0.5, True, key=KEY).numpy()
    np.testing.assert_allclose(gradient.numpy(), np.where(kept, doubled - out, 0), rtol=1e-5)


def test_compiled() -> None:
    """The same key drops the same elements in a compiled program, forward and backward."""
    names = list(SHAPES)
    inputs = {n: np.random.default_rng(1).normal(size=(3, 4, *SHAPES[n][0][2:])).astype(np.float32) for n in names}

    def program(key: Any, inputs: Any) -> Any:
        outs = []
        for name in names:
            out, pullback = volta.vjp(lambda x, name=name: getattr(F, name)(x, 0.3, True, key=key), inputs[name])
            outs.append((out, pullback(volta.ones(out.shape))[0]))
        return outs

    for (a, a_gradient), (e, e_gradient) in zip(volta.jit(program)(KEY, inputs), program(KEY, inputs), strict=True):
        np.testing.assert_allclose(a.numpy(), e.numpy(), rtol=1e-6)
        np.testing.assert_allclose(a_gradient.numpy(), e_gradient.numpy(), rtol=1e-6)


def test_keys() -> None:
    x = volta.ones(100)
    same = [F.dropout(x, key=random.key(1)).tolist() for _ in range(2)]
    assert same[0] == same[1] != F.dropout(x, key=random.key(2)).tolist()


def test_layouts() -> None:
    """Which axes are channels depends on the rank as in PyTorch."""
    assert F.dropout1d(volta.ones((64, 5)), key=KEY).numpy().std(axis=1).max() == 0
    assert F.dropout3d(volta.ones((64, 2, 2, 2)), key=KEY).numpy().std(axis=(1, 2, 3)).max() == 0
    sequences = F.dropout2d(volta.ones((8, 8, 4)), key=KEY).numpy()
    assert sequences.std(axis=2).max() == 0
    assert sequences.std(axis=1).max() > 0


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
@pytest.mark.parametrize("name", ["dropout", "alpha_dropout"])
def test_dtypes(name: str, dtype: str) -> None:
    out = getattr(F, name)(volta.ones((4, 4), dtype), 0.5, True, key=KEY)
    assert out.dtype.name == dtype
    wide = getattr(F, name)(volta.ones((4, 4)), 0.5, True, key=KEY)
    np.testing.assert_allclose(out.numpy().astype(np.float64), wide.numpy(), rtol=1e-2)


@pytest.mark.parametrize("name", SHAPES)
def test_bad_arguments(name: str) -> None:
    function, x = getattr(F, name), volta.ones((2, 2, *SHAPES[name][0][2:]))
    with pytest.raises(
        TraceError, match=rf"{name}: training with p=0.5 needs a key .*pass key=volta.random.key\(seed\)"
    ):
        function(x, 0.5, True)
    for p in (-0.1, 1.1):
        with pytest.raises(ValueError, match=f"{name}: dropout probability has to be between 0 and 1, but got {p}"):
            function(x, p, True, key=KEY)
    with pytest.raises(DTypeError, match=f"{name}: expected an input of floating-point numbers, got int32"):
        function(x.astype("int32"), 0.5, True, key=KEY)
    with pytest.raises(DTypeError, match="a key is two uint32 numbers"):
        function(x, 0.5, True, key=Tensor(0))


@pytest.mark.parametrize(
    ("name", "rank", "expected"),
    [
        ("dropout1d", 1, "2 or 3"),
        ("dropout2d", 2, "3 or 4"),
        ("dropout3d", 3, "4 or 5"),
        ("feature_alpha_dropout", 1, "2 or more"),
    ],
)
def test_bad_ranks(name: str, rank: int, expected: str) -> None:
    with pytest.raises(ShapeError, match=f"{name}: expected an input of rank {expected}, got"):
        getattr(F, name)(volta.ones((2,) * rank), 0.5, True, key=KEY)
