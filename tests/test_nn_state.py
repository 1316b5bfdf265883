"""Layers that change as they are called, batch norm and dropout: under every transform, in training and not."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import volta_mlir as volta
from tests import modules
from volta_mlir import nn
from volta_mlir.errors import ShapeError, TraceError


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(1.0, 2.0, size=shape).astype(np.float32)


# -- batch norm and its relatives ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kwargs", [{}, {"momentum": None}, {"momentum": 0.7, "affine": False}, {"bias": False}])
def test_running_statistics_step_by_step(kwargs: dict[str, Any]) -> None:
    ours, theirs = modules.build("BatchNorm2d", 3, **kwargs)
    step = volta.jit(lambda layer, x: layer(x))
    for i in range(5):
        x = normal(4, 3, 2, 2, seed=i)
        expected = theirs(torch.tensor(x)).detach().numpy()
        np.testing.assert_allclose((step if i % 2 else ours)(*((ours, x) if i % 2 else (x,))), expected, atol=1e-5)
        for name, value in theirs.named_buffers():
            np.testing.assert_allclose(ours.get_buffer(name), value, rtol=1e-5, atol=1e-6)
    ours.eval()
    np.testing.assert_allclose(step(ours, x), theirs.eval()(torch.tensor(x)).detach(), atol=1e-5)
    ours.reset_running_stats()
    theirs.reset_running_stats()
    for name, value in theirs.named_buffers():
        np.testing.assert_array_equal(ours.get_buffer(name), value)


def test_without_running_statistics() -> None:
    pairs = []
    for kwargs in ({"track_running_stats": False}, {"track_running_stats": True}):
        pairs.append(modules.pair(*modules.build("BatchNorm1d", 3, **kwargs), normal(5, 3, 2)))
        pairs.append(modules.pair(*modules.build("InstanceNorm1d", 3, affine=True, **kwargs), normal(5, 3, 4)))
        pairs.append(modules.pair(*modules.build("InstanceNorm2d", 3, **kwargs), normal(3, 4, 2)))
    modules.check_eager(modules.modes(pairs))
    layer = nn.BatchNorm1d(3, track_running_stats=False)
    assert list(layer.buffers()) == []
    layer.reset_running_stats()


def test_norms_compiled() -> None:
    modules.check_compiled(
        [
            modules.pair(*modules.build("BatchNorm2d", 3), normal(4, 3, 2, 2)),
            modules.pair(*modules.build("LayerNorm", (3, 2)), normal(4, 3, 2)),
            modules.pair(*modules.build("GroupNorm", 2, 4), normal(3, 4, 2)),
            modules.pair(*modules.build("RMSNorm", 4), normal(3, 4)),
        ]
    )


def test_norms_of_other_dtypes() -> None:
    layer = nn.BatchNorm1d(3).bfloat16()
    assert layer(volta.ones((4, 3), "bfloat16")).dtype.name == "bfloat16"
    assert [buffer.dtype.name for buffer in layer.buffers()] == ["bfloat16", "bfloat16", "int32"]
    for build in (nn.BatchNorm3d, nn.InstanceNorm3d):
        assert build(3, affine=True, dtype="float64").weight.dtype == np.float64
    assert nn.LayerNorm(3, dtype="float16").bias.dtype == np.float16


def test_norms_refuse_what_does_not_fit() -> None:
    for layer, x, message in (
        (nn.BatchNorm1d(3), normal(3), r"BatchNorm1d: expected 2D or 3D input, got 1D: float32\[3\]"),
        (nn.BatchNorm2d(3), normal(2, 3, 4), r"BatchNorm2d: expected 4D input, got 3D"),
        (nn.BatchNorm2d(3), normal(2, 4, 2, 2), r"\(4,\), got float32\[3\]"),
        (nn.BatchNorm1d(3), normal(1, 3), "more than 1 value per channel"),
        (nn.InstanceNorm1d(3), normal(3), "expected 2D or 3D input"),
        (nn.LayerNorm(3), normal(3, 2), r"\(3,\)"),
        (nn.GroupNorm(2, 4), normal(3, 5), "group_norm"),
    ):
        with pytest.raises(ShapeError, match=message):
            layer(x)
    with pytest.raises(ValueError, match=r"num_channels \(3\) must be divisible by num_groups \(2\)"):
        nn.GroupNorm(2, 3)


# -- under transforms ------------------------------------------------------------------------------------------------


class Model(nn.Module):
    """Both kinds of layers, so that a test of a transform tests both."""

    def __init__(self) -> None:
        self.layers = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2))

    def forward(self, x: Any) -> Any:
        return self.layers(x)


def loss(model: nn.Module, x: Any) -> Any:
    return (model(x) ** 2).sum()


X = normal(6, 3)

CALLS: dict[str, Callable[[nn.Module], Any]] = {
    "call": lambda m: loss(m, X),
    "jit": lambda m: volta.jit(loss)(m, X),
    "value_and_grad": lambda m: volta.value_and_grad(loss)(m, X)[0],
    "value_and_grad of a closure": lambda m: volta.value_and_grad(lambda x: loss(m, x))(X)[0],
    "checkpoint": lambda m: volta.checkpoint(loss)(m, X),
    "gradient of checkpoint": lambda m: volta.jit(volta.value_and_grad(volta.checkpoint(loss)))(m, X)[0],
    "vjp": lambda m: volta.vjp(loss, m, X)[0],
    "scan": lambda m: volta.jit(lambda m, xs: volta.scan(lambda c, x: (c + loss(m, x), None), 0.0, xs)[0])(m, X[None]),
}


@pytest.mark.parametrize("name", CALLS)
def test_state_is_the_same_under_every_transform(name: str) -> None:
    """The same values twice in a row, and the same state afterwards: each call draws anew and updates once."""
    nn.manual_seed(3)
    model = Model()
    expected = copy.deepcopy(model)
    before = expected.layers[2].key.tolist()
    for _ in range(2):
        np.testing.assert_allclose(CALLS[name](model), loss(expected, X), rtol=1e-5)
        for key, buffer in expected.named_buffers():
            np.testing.assert_allclose(model.get_buffer(key), buffer, rtol=1e-5, atol=1e-6)
    assert expected.layers[1].num_batches_tracked.item() == 2
    assert model.layers[2].key.tolist() != before


def test_a_step_of_a_scan_draws_and_counts() -> None:
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(0.5))
    expected = copy.deepcopy(model)
    xs = normal(4, 5, 3)
    outs = volta.jit(lambda xs: volta.scan(lambda c, x: (c, model(x)), 0.0, xs)[1])(xs)
    np.testing.assert_allclose(outs, np.stack([expected(x).numpy() for x in xs]), atol=1e-5)
    assert model[0].num_batches_tracked.item() == 4
    np.testing.assert_allclose(model[0].running_var, expected[0].running_var, rtol=1e-5)
    assert model[1].key.tolist() == expected[1].key.tolist()


def test_recomputation_draws_the_same() -> None:
    drop = nn.Dropout(0.5)
    function = volta.checkpoint(lambda x: volta.tanh(drop(x)))
    x = volta.ones(64)
    value, pullback = volta.vjp(function, x)
    (gradient,) = pullback(volta.ones(64))
    np.testing.assert_array_equal(value.numpy() != 0, gradient.numpy() != 0)
    assert 0 < np.count_nonzero(gradient.numpy()) < 64


@pytest.mark.parametrize("layer", [nn.BatchNorm1d(2), nn.Dropout(0.5)], ids=["batch norm", "dropout"])
def test_state_has_no_meaning_under_vmap(layer: nn.Module) -> None:
    with pytest.raises(TraceError, match="a Buffer was assigned under vmap"):
        volta.vmap(layer)(volta.ones((3, 4, 2)))
    assert volta.vmap(layer.eval())(volta.ones((3, 4, 2))).shape == (3, 4, 2)


def test_mode_inside_of_jit() -> None:
    drop = nn.Dropout(0.5)

    @volta.jit
    def both(layer: nn.Module, x: Any) -> Any:
        training = layer.train()(x)
        return training, layer.eval()(x)

    x = volta.ones(64)
    training, evaluation = both(drop, x)
    assert 0 < np.count_nonzero(training.numpy()) < 64
    assert evaluation.tolist() == x.tolist()
    assert drop.training


# -- dropout ---------------------------------------------------------------------------------------------------------

DROPOUTS = [
    ("Dropout", (40, 50)),
    ("Dropout1d", (40, 50, 3)),
    ("Dropout2d", (40, 50, 3, 2)),
    ("Dropout3d", (40, 50, 2, 2, 2)),
    ("AlphaDropout", (40, 50)),
    ("FeatureAlphaDropout", (40, 50, 3)),
]


@pytest.mark.parametrize(("name", "shape"), DROPOUTS)
def test_dropout(name: str, shape: tuple[int, ...]) -> None:
    ours, theirs = modules.build(name, 0.3)
    x = normal(*shape)
    modules.check_eager(modules.pair(m, t, x) for m, t in ((ours.eval(), theirs.eval()), modules.build(name, 0.0)))
    drawn, expected = ours.train()(x).numpy(), theirs.train()(torch.tensor(x)).numpy()
    # What is drawn differs; how often, what is put there, and what becomes of the rest, does not.
    dropped, expected_dropped = drawn == most_frequent(drawn), expected == most_frequent(expected)
    assert abs(dropped.mean() - 0.3) < 0.03
    np.testing.assert_allclose(most_frequent(drawn), most_frequent(expected), rtol=1e-5)
    slope, shift = np.polyfit(x[~expected_dropped], expected[~expected_dropped], 1)
    np.testing.assert_allclose(drawn[~dropped], slope * x[~dropped] + shift, rtol=1e-3, atol=1e-3)
    if name not in ("Dropout", "AlphaDropout"):
        assert set(np.unique(dropped.reshape(*shape[:2], -1).mean(-1))) == {0.0, 1.0}


def most_frequent(values: np.ndarray) -> Any:
    numbers, counts = np.unique(values, return_counts=True)
    return numbers[counts.argmax()]


def test_layers_draw_independently() -> None:
    nn.manual_seed(5)
    first, second = nn.Dropout(), nn.Dropout()
    x = volta.ones(64)
    assert first(x).tolist() != second(x).tolist()
    nn.manual_seed(5)
    again = nn.Dropout()
    a = again(x).tolist()
    nn.manual_seed(5)
    assert nn.Dropout()(x).tolist() == a != again(x).tolist()
    assert list(again.state_dict()) == []


def test_evaluation_draws_nothing() -> None:
    layer = nn.Dropout().eval()
    key = layer.key.tolist()
    layer(volta.ones(2))
    assert layer.key.tolist() == key
    slopes = nn.RReLU()
    x = volta.full(64, -1.0)
    assert slopes(x).tolist() != slopes(x).tolist()
    assert np.unique(slopes.eval()(x).numpy()).size == 1


def test_dropout_refuses_what_is_no_probability() -> None:
    for p in (-0.1, 1.5):
        with pytest.raises(ValueError, match="dropout probability has to be between 0 and 1, but got"):
            nn.Dropout2d(p)
