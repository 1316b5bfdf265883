"""Positional encodings, against their definitions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import volta_mlir as volta
from volta_mlir import nn
from volta_mlir.errors import DTypeError, ShapeError


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(("d_model", "theta", "offset"), [(8, 10000.0, 0), (7, 100.0, 5), (1, 10000.0, 2)])
def test_sinusoidal(d_model: int, theta: float, offset: int) -> None:
    x = normal(2, 6, d_model)
    expected = x.astype(np.float64)
    for t in range(6):
        for feature in range(d_model):
            angle = (t + offset) / theta ** (2 * (feature // 2) / d_model)
            expected[:, t, feature] += np.cos(angle) if feature % 2 else np.sin(angle)
    layer = nn.SinusoidalPositionalEncoding(d_model, theta)
    np.testing.assert_allclose(layer(x, offset), expected, atol=2e-6)
    np.testing.assert_allclose(layer(x, volta.Tensor(offset)), expected, atol=2e-6)
    assert layer(x.astype(np.float16)).dtype == np.float16
    assert layer(x.astype(np.float64), offset).dtype == np.float64
    assert list(layer.state_dict()) == []


def test_learned() -> None:
    nn.manual_seed(0)
    layer, x = nn.LearnedPositionalEncoding(40, 30), normal(2, 5, 30)
    weight = layer.weight.numpy()
    assert abs(weight.std() - 0.02) < 0.001
    for offset in (0, 3, 35):
        expected = x + weight[offset : offset + 5]
        np.testing.assert_allclose(layer(x, offset), expected, rtol=1e-6)
        np.testing.assert_allclose(layer(x, volta.Tensor(offset)), expected, rtol=1e-6)
    assert layer(x[:, :0]).shape == (2, 0, 30)
    gradient = volta.grad(lambda layer: layer(x, 2).sum())(layer).weight.numpy()
    np.testing.assert_array_equal(gradient[:, 0], [0] * 2 + [2] * 5 + [0] * 33)
    assert list(layer.state_dict()) == ["weight"]
    assert repr(layer) == "LearnedPositionalEncoding(40, 30)"


def rotated(x: np.ndarray, positions: np.ndarray, dim: int, theta: float, interleaved: bool) -> torch.Tensor:
    """Pairs of features as complex numbers, multiplied by numbers of modulus 1."""
    x64 = torch.tensor(x, dtype=torch.float64)
    head, rest = x64[..., :dim], x64[..., dim:]
    if interleaved:
        pairs = torch.view_as_complex(head.reshape(*head.shape[:-1], dim // 2, 2))
    else:
        pairs = torch.complex(head[..., : dim // 2], head[..., dim // 2 :])
    frequencies = theta ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim)
    angles = torch.tensor(positions, dtype=torch.float64)[..., None] * frequencies
    turned = pairs * torch.polar(torch.ones_like(angles), angles)
    parts = (turned.real, turned.imag)
    head = torch.stack(parts, -1).flatten(-2) if interleaved else torch.cat(parts, -1)
    return torch.cat([head, rest], -1)


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize(("dim", "theta"), [(8, 10000.0), (4, 500000.0)])
def test_rotary(dim: int, theta: float, interleaved: bool) -> None:
    rope, x = nn.RotaryPositionalEncoding(dim, theta, interleaved), normal(2, 3, 5, 8)
    cases: list[tuple[dict[str, Any], np.ndarray]] = [
        ({}, np.arange(5)),
        ({"offset": 7}, np.arange(5) + 7),
        ({"offset": volta.Tensor(7)}, np.arange(5) + 7),
        ({"positions": np.array([4, 0, 2, 2, 9])}, np.array([4, 0, 2, 2, 9])),
        ({"positions": np.arange(10).reshape(2, 1, 5)}, np.arange(10).reshape(2, 1, 5)),
    ]
    for kwargs, positions in cases:
        expected = rotated(x, positions, dim, theta, interleaved)
        np.testing.assert_allclose(rope(x, **kwargs), expected, atol=2e-6)
    assert rope(volta.Tensor(x, "bfloat16")).dtype.name == "bfloat16"


def test_what_is_shown() -> None:
    assert repr(nn.SinusoidalPositionalEncoding(4)) == "SinusoidalPositionalEncoding(d_model=4, theta=10000.0)"
    assert repr(nn.RotaryPositionalEncoding(4)) == "RotaryPositionalEncoding(4, theta=10000.0, interleaved=False)"


def test_products_depend_on_distances_alone() -> None:
    for interleaved in (False, True):
        rope = nn.RotaryPositionalEncoding(6, interleaved=interleaved)
        query, key = normal(1, 6), normal(2, 6)[1:]
        near = (rope(query, 3) * rope(key, 1)).sum().item()
        far = (rope(query, 1003) * rope(key, 1001)).sum().item()
        assert near == pytest.approx(far, abs=1e-3)


def test_decoding_one_by_one_is_the_same() -> None:
    layers = [
        nn.RotaryPositionalEncoding(4),
        nn.RotaryPositionalEncoding(2, interleaved=True),
        nn.SinusoidalPositionalEncoding(4),
        nn.LearnedPositionalEncoding(7, 4),
    ]
    x = normal(5, 4)
    step = volta.jit(lambda x, t: [layer(x, t) for layer in layers])
    steps = [step(x[t : t + 1], volta.Tensor(t)) for t in range(5)]
    for layer, *parts in zip(layers, *steps, strict=True):
        np.testing.assert_allclose(np.concatenate([part.numpy() for part in parts]), layer(x), atol=1e-6)


def test_bad_input() -> None:
    sinusoidal, learned = nn.SinusoidalPositionalEncoding(4), nn.LearnedPositionalEncoding(3, 4)
    rope = nn.RotaryPositionalEncoding(4)
    for call, message in (
        (lambda: sinusoidal(normal(4)), r"expected an input of shape \(\.\.\., T, 4\), got float32\[4\]"),
        (lambda: sinusoidal(normal(2, 5)), r"got float32\[2,5\]"),
        (lambda: sinusoidal(normal(2, 4), 0.5), "offset to be an integer of rank 0, got float32"),
        (lambda: learned(normal(2, 4), 2), r"there are 3 positions, got float32\[2,4\] from position 2"),
        (lambda: learned(normal(2, 4), -1), "from position -1"),
        (lambda: rope(normal(2, 3)), r"got float32\[2,3\]"),
        (lambda: rope(normal(2, 4), positions=normal(2)), "expected integer positions"),
        (lambda: rope(normal(2, 4), positions=np.arange(3)), "broadcast"),
    ):
        with pytest.raises(ShapeError, match=message):
            call()
    with pytest.raises(DTypeError, match="floating-point"):
        rope(np.zeros((2, 4), np.int32))
    with pytest.raises(ValueError, match="positive even number, got 3"):
        nn.RotaryPositionalEncoding(3)
    with pytest.raises(ValueError, match="either offset or positions"):
        rope(normal(2, 4), offset=1, positions=np.arange(2))
