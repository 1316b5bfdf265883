"""Losses as layers, compared with PyTorch's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import volta_mlir as volta
from tests import modules
from volta_mlir import nn
from volta_mlir.errors import ShapeError


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


X, Y = normal(4, 3), normal(4, 3, seed=1)
LABELS, SIGNS = np.array([0, 2, 1, 2]), np.array([1, -1, 1, -1])
WEIGHT = torch.tensor([0.5, 2.0, 1.0])


def distance(a: Any, b: Any) -> Any:
    return abs(a - b).sum(-1)


def case(name: str, *inputs: Any, **kwargs: Any) -> modules.Pair:
    ours, theirs = modules.build(name, **kwargs)
    return modules.pair(ours, theirs, *inputs, name=f"{name}({kwargs})")


CASES = [
    ("CrossEntropyLoss", (X, LABELS), {"weight": WEIGHT, "ignore_index": 1, "label_smoothing": 0.1}),
    ("NLLLoss", (X, LABELS), {"weight": WEIGHT}),
    ("BCEWithLogitsLoss", (X, (Y > 0).astype(np.float32)), {"weight": WEIGHT, "pos_weight": 2 * WEIGHT}),
    ("KLDivLoss", (X, Y), {"log_target": True}),
    ("KLDivLoss", (X, abs(Y)), {}),
    ("TripletMarginLoss", (X, Y, normal(4, 3, seed=2)), {"margin": 2.0, "swap": True}),
    ("TripletMarginWithDistanceLoss", (X, Y, normal(4, 3, seed=2)), {"distance_function": distance}),
    ("MultiMarginLoss", (X, LABELS), {"p": 2, "weight": WEIGHT}),
    ("CosineEmbeddingLoss", (X, Y, SIGNS), {"margin": 0.2}),
]


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_losses(reduction: str) -> None:
    modules.check_eager(case(name, *inputs, reduction=reduction, **kwargs) for name, inputs, kwargs in CASES)


def test_compiled() -> None:
    modules.check_compiled([case(name, *inputs, **kwargs) for name, inputs, kwargs in CASES[:4:3]])


def test_ctc() -> None:
    """PyTorch's gradient is right only together with log_softmax, so both are compared with it in front."""
    targets, lengths = np.array([[1, 2, 2], [3, 1, 0]]), (np.array([6, 5]), np.array([3, 2]))
    pairs = []
    for kwargs in ({}, {"blank": 4, "reduction": "sum"}, {"reduction": "none", "zero_infinity": True}):
        ours, theirs = modules.build("CTCLoss", **kwargs)
        ours, theirs = WithLogits(nn.LogSoftmax(-1), ours), TorchWithLogits(torch.nn.LogSoftmax(-1), theirs)
        pairs.append(modules.pair(ours, theirs, normal(6, 2, 5), targets, *lengths))
    modules.check_eager(pairs, operations=512)


def test_adaptive_softmax() -> None:
    ours, theirs = modules.build("AdaptiveLogSoftmaxWithLoss", 8, 12, [3, 7], div_value=2.0, head_bias=True)
    x, classes = normal(5, 8), np.array([0, 2, 5, 7, 11])
    modules.check_eager([modules.pair(ours, theirs, x, classes), modules.pair(ours, theirs, x[0], np.array(5))])
    np.testing.assert_allclose(ours.log_prob(x), theirs.log_prob(torch.tensor(x)).detach(), rtol=1e-5)
    assert ours.predict(x).tolist() == theirs.predict(torch.tensor(x)).tolist()
    for cutoffs in ([], [3, 3], [0, 3], [3, 12]):
        with pytest.raises(ValueError, match="cutoffs should be a sequence of unique, ascending ints from 1 to 11"):
            nn.AdaptiveLogSoftmaxWithLoss(8, 12, cutoffs)
    with pytest.raises(ShapeError, match="of the same batch"):
        ours(x, classes[:3])
    with pytest.raises(ShapeError, match="out of bounds"):
        ours(x[0], np.array(12))


class WithLogits(nn.Module):
    def __init__(self, normalise: nn.Module, loss: nn.Module) -> None:
        self.normalise, self.loss = normalise, loss

    def forward(self, logits: Any, *rest: Any) -> Any:
        return self.loss(self.normalise(logits), *rest)


class TorchWithLogits(torch.nn.Module):
    def __init__(self, normalise: torch.nn.Module, loss: torch.nn.Module) -> None:
        super().__init__()
        self.normalise, self.loss = normalise, loss

    def forward(self, logits: Any, *rest: Any) -> Any:
        return self.loss(self.normalise(logits), *rest)


def test_weights_are_state() -> None:
    for name in ("BCELoss", "CrossEntropyLoss", "NLLLoss", "MultiMarginLoss", "MultiLabelSoftMarginLoss"):
        loss = getattr(nn, name)(weight=WEIGHT.numpy())
        assert list(loss.state_dict()) == ["weight"] == list(getattr(torch.nn, name)(weight=WEIGHT).state_dict())
        assert list(getattr(nn, name)().state_dict()) == []
    loss = nn.CrossEntropyLoss(WEIGHT.numpy())
    gradient = volta.grad(lambda models, x: models[1](models[0](x), LABELS))((nn.Linear(3, 3), loss), X)
    assert gradient[1].weight is None
    assert gradient[0].weight.shape == (3, 3)


def test_bad_input() -> None:
    with pytest.raises(ShapeError, match="cross_entropy"):
        nn.CrossEntropyLoss()(X, LABELS[:3])
    with pytest.raises(ValueError, match=r"'average' is not a valid value for reduction"):
        nn.MSELoss(reduction="average")(X, X)
