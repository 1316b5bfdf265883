"""Models of features and images, compared with PyTorch's."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests import modules
from volta_mlir import models, nn
from volta_mlir.errors import OptionError, ShapeError


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_mlp() -> None:
    ours = models.MLP([5, 8, 7, 3], nn.Tanh)
    theirs = torch.nn.Sequential(
        torch.nn.Linear(5, 8), torch.nn.Tanh(), torch.nn.Linear(8, 7), torch.nn.Tanh(), torch.nn.Linear(7, 3)
    )
    modules.shared_state(ours, theirs, same_repr=False)
    modules.check_eager([modules.pair(ours, theirs, normal(4, 5))])


def test_dropout_of_an_mlp() -> None:
    model = models.MLP([5, 100, 3], dropout=0.5)
    assert [type(layer).__name__ for layer in model] == ["Linear", "ReLU", "Dropout", "Linear"]
    x = normal(4, 5)
    assert not np.array_equal(model(x), model(x))
    model.eval()
    assert np.array_equal(model(x), model(x))


def test_what_an_mlp_refuses() -> None:
    with pytest.raises(OptionError, match=r"MLP: sizes are .*, got \[3\]"):
        models.MLP([3])
    with pytest.raises(OptionError, match="between 0 and 1"):
        models.MLP([3, 4, 2], dropout=2.0)
    with pytest.raises(ShapeError, match=r"5.*4"):
        models.MLP([5, 3])(normal(2, 4))
