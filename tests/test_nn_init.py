"""Initial values: their distributions, compared with PyTorch's."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from volta_mlir import nn
from volta_mlir.errors import ShapeError
from volta_mlir.nn import init

SHAPE = (160, 60, 3)


@pytest.fixture(autouse=True)
def seed() -> None:
    nn.manual_seed(0)
    torch.manual_seed(0)


def assert_alike(ours: Any, theirs: torch.Tensor, tolerance: float = 0.03) -> None:
    """Quantiles of two samples agree, relative to the spread of them."""
    a, b = np.asarray(ours, np.float64).ravel(), theirs.numpy().astype(np.float64).ravel()
    assert a.shape == b.shape
    spread = b.std()
    assert abs(a.std() - spread) < tolerance * spread
    quantiles = np.linspace(0.02, 0.98, 25)
    assert np.abs(np.quantile(a, quantiles) - np.quantile(b, quantiles)).max() < 2 * tolerance * spread


@pytest.mark.parametrize(
    ("name", "kwargs"),
    [
        ("uniform", {"a": -1.0, "b": 3.0}),
        ("normal", {"mean": 2.0, "std": 0.5}),
        ("trunc_normal", {"std": 2.0, "a": -1.0, "b": 3.0}),
        ("xavier_uniform", {"gain": 2.0}),
        ("xavier_normal", {}),
        ("kaiming_uniform", {"a": math.sqrt(5)}),
        ("kaiming_uniform", {"mode": "fan_out", "nonlinearity": "relu"}),
        ("kaiming_normal", {"nonlinearity": "tanh"}),
        ("orthogonal", {"gain": 3.0}),
    ],
)
def test_distributions_are_pytorchs(name: str, kwargs: dict[str, Any]) -> None:
    ours = getattr(init, name)(SHAPE, **kwargs)
    theirs = getattr(torch.nn.init, f"{name}_")(torch.empty(SHAPE), **kwargs)
    assert ours.dtype == np.float32
    assert_alike(ours, theirs)
    assert getattr(init, name)((4, 2), dtype="bfloat16", **kwargs).dtype.name == "bfloat16"


def test_bounds_are_kept() -> None:
    assert np.abs(init.uniform(10000, -0.25, 0.25).numpy()).max() <= 0.25
    values = init.trunc_normal(10000, 0.0, 1.0, -0.5, 2.0).numpy()
    assert -0.5 <= values.min() < -0.49
    assert 1.9 < values.max() <= 2.0
    with pytest.raises(ValueError, match="next to nothing"):
        init.trunc_normal(3, 0.0, 1.0, 8.0, 9.0)


@pytest.mark.parametrize("shape", [(20, 30), (30, 20), (6, 3, 2, 2), (5, 5)])
def test_orthogonal(shape: tuple[int, ...]) -> None:
    matrix = init.orthogonal(shape, gain=2.0, dtype="float64").numpy().reshape(shape[0], -1)
    product = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
    np.testing.assert_allclose(product, 4 * np.eye(len(product)), atol=1e-12)


@pytest.mark.parametrize("sparsity", [0.0, 0.33, 1.0])
def test_sparse(sparsity: float) -> None:
    ours, theirs = init.sparse((50, 40), sparsity, 0.1), torch.nn.init.sparse_(torch.empty(50, 40), sparsity, 0.1)
    assert np.count_nonzero(ours.numpy(), 0).tolist() == np.count_nonzero(theirs.numpy(), 0).tolist()
    if sparsity < 1:
        assert_alike(ours, theirs, tolerance=0.2)


def test_constants() -> None:
    assert init.constant((2, 2), 3).tolist() == [[3.0, 3.0]] * 2
    assert init.zeros(2, "int32").tolist() == [0, 0]
    assert init.ones((1, 2), "float16").dtype == np.float16
    np.testing.assert_array_equal(init.eye((3, 5)), torch.nn.init.eye_(torch.empty(3, 5)))
    for shape, groups in (((4, 2, 3), 1), ((2, 4, 3, 4), 1), ((6, 2, 3, 3, 3), 3)):
        np.testing.assert_array_equal(
            init.dirac(shape, groups), torch.nn.init.dirac_(torch.empty(shape), groups).numpy()
        )


def test_gains() -> None:
    for name in ("linear", "conv2d", "conv_transpose1d", "sigmoid", "tanh", "relu", "leaky_relu", "selu"):
        assert init.calculate_gain(name) == pytest.approx(torch.nn.init.calculate_gain(name))
    assert init.calculate_gain("leaky_relu", 0.3) == pytest.approx(torch.nn.init.calculate_gain("leaky_relu", 0.3))


def test_keys_differ() -> None:
    first, second = init.key().tolist(), init.key().tolist()
    assert first != second
    nn.manual_seed(0)
    assert init.key().tolist() == first


def test_bad_input() -> None:
    for call in (
        lambda: init.eye(3),
        lambda: init.dirac((2, 2)),
        lambda: init.dirac((3, 2, 2), groups=2),
        lambda: init.orthogonal(3),
        lambda: init.sparse((1, 2, 3), 0.5),
        lambda: init.xavier_normal(3),
    ):
        with pytest.raises(ShapeError):
            call()
    with pytest.raises(ValueError, match="mode is 'fan'"):
        init.kaiming_normal((2, 2), mode="fan")
    with pytest.raises(ValueError, match="unsupported nonlinearity 'swish'"):
        init.calculate_gain("swish")
