"""Recurrent layers and cells, compared with PyTorch's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import volta_mlir as volta
from tests import modules
from volta_mlir import nn
from volta_mlir.errors import DTypeError, ShapeError

SIZES = (3, 4)
BATCH = 2


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def case(kind: str, state: bool = True, batched: bool = True, steps: int = 5, **kwargs: Any) -> modules.Pair:
    ours, theirs = modules.build(kind, *SIZES, **kwargs)
    batch = (BATCH,) if batched else ()
    shape = (*batch, steps, 3) if kwargs.get("batch_first") else (steps, *batch, 3)
    directions = kwargs.get("num_layers", 1) * (1 + kwargs.get("bidirectional", False))
    hidden = normal(directions, *batch, kwargs.get("proj_size") or 4)
    hx = (hidden, normal(directions, *batch, 4)) if kind == "LSTM" else hidden
    name = f"{kind}({', '.join(f'{k}={v}' for k, v in kwargs.items())})"
    return modules.pair(ours, theirs, normal(*shape), *([hx] if state else []), name=name)


OPTIONS: list[dict[str, Any]] = [
    {},
    {"state": False, "batched": False},
    {"batched": False, "bidirectional": True},
    {"num_layers": 2, "bidirectional": True, "batch_first": True},
    {"num_layers": 3, "bias": False, "state": False, "bidirectional": True},
]


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_layers(kind: str) -> None:
    options = list(OPTIONS)
    if kind == "RNN":
        options += [{"nonlinearity": "relu"}]
    if kind == "LSTM":
        options += [{"proj_size": 2, "num_layers": 2, "bidirectional": True}, {"proj_size": 1, "batched": False}]
    modules.check_eager(case(kind, **o) for o in options)


def test_cells() -> None:
    pairs = []
    for kind in ("RNNCell", "LSTMCell", "GRUCell"):
        for batch in ((), (BATCH,)):
            for kwargs in ({}, {"bias": False}, *([{"nonlinearity": "relu"}] if kind == "RNNCell" else [])):
                ours, theirs = modules.build(kind, *SIZES, **kwargs)
                state = normal(*batch, 4)
                hx = (state, state + 1) if kind == "LSTMCell" else state
                pairs += [modules.pair(ours, theirs, normal(*batch, 3), *rest) for rest in ((), (hx,))]
    modules.check_eager(pairs)


@pytest.mark.no_cover
def test_compiled() -> None:
    pairs = [
        case("LSTM", steps=3, bidirectional=True),
        case("GRU", steps=3, batch_first=True, state=False),
    ]
    modules.check_compiled(pairs)


def test_initialisation() -> None:
    nn.manual_seed(0)
    for layer in (nn.LSTM(10, 25, num_layers=2, bidirectional=True), nn.GRUCell(10, 25)):
        for parameter in layer.parameters():
            values = parameter.numpy()
            assert 0.15 < np.abs(values).max() <= 0.2
            assert abs(values.std() - 0.2 / np.sqrt(3)) < 0.02
    assert nn.GRU(2, 3, dtype="bfloat16")(volta.ones((2, 1, 2), "bfloat16"))[0].dtype.name == "bfloat16"


def test_dropout_between_layers() -> None:
    layer = nn.GRU(3, 4, num_layers=2, dropout=0.5)
    x = normal(5, BATCH, 3)
    first, second = layer(x)[0].numpy(), layer(x)[0].numpy()
    assert not np.array_equal(first, second)
    assert "key" not in layer.state_dict()
    theirs = torch.nn.GRU(3, 4, num_layers=2, dropout=0.5)
    modules.shared_state(layer, theirs)
    modules.check_eager([modules.pair(layer.eval(), theirs.eval(), x)])
    # Dropping everything leaves the second layer without an input.
    layer = nn.GRU(3, 4, num_layers=2, dropout=1.0)
    alone = nn.GRU(4, 4)
    alone.load_state_dict({k.replace("l1", "l0"): v for k, v in layer.state_dict().items() if k.endswith("l1")})
    np.testing.assert_allclose(layer(x)[0], alone(np.zeros((5, BATCH, 4), np.float32))[0], atol=1e-6)


def test_long_sequences_are_loops() -> None:
    layer = nn.LSTM(3, 4)
    lowered = volta.jit(lambda layer, x: layer(x)[0]).lower(layer, volta.spec((200, 2, 3)))
    assert "volta.scan" in lowered.as_text()


def test_bad_input() -> None:
    rnn, lstm, cell = nn.RNN(3, 4), nn.LSTM(3, 4), nn.GRUCell(3, 4)
    for call, message in (
        (lambda: rnn(normal(3)), r"RNN: expected input to be 2D or 3D, got 1D: float32\[3\]"),
        (lambda: rnn(normal(5, 2, 4)), r"input\.shape\[-1\] must be equal to input_size, 3, got float32\[5,2,4\]"),
        (lambda: rnn(normal(0, 2, 3)), "sequence length to be larger than 0"),
        (
            lambda: rnn(normal(5, 2, 3), normal(1, 3, 4)),
            r"expected hidden state of shape \(1, 2, 4\), got float32\[1,3,4\]",
        ),
        (lambda: lstm(normal(5, 2, 3), normal(1, 2, 4)), r"LSTM: expected hx to be a pair \(h_0, c_0\), got ndarray"),
        (
            lambda: lstm(normal(5, 3), (normal(1, 4), normal(1, 5))),
            r"expected cell state of shape \(1, 4\), got float32\[1,5\]",
        ),
        (lambda: cell(normal(5, 2, 3)), "GRUCell: expected input to be 1D or 2D, got 3D"),
        (lambda: cell(normal(2, 4)), r"input\.shape\[-1\] must be equal to input_size"),
        (lambda: cell(normal(2, 3), normal(4)), r"expected hidden state of shape \(2, 4\)"),
        (lambda: nn.LSTMCell(3, 4)(normal(2, 3), normal(2, 4)), "pair"),
    ):
        with pytest.raises(ShapeError, match=message):
            call()
    with pytest.raises(DTypeError, match="expected hidden state of dtype float32, got float64"):
        rnn(normal(5, 2, 3), np.zeros((1, 2, 4)))
    for build, message in (
        (lambda: nn.RNN(3, 4, nonlinearity="gelu"), "unknown nonlinearity 'gelu'"),
        (lambda: nn.LSTM(3, 4, dropout=1.5), r"range \[0, 1\], got 1\.5"),
        (lambda: nn.GRU(3, 0), "hidden_size must be a positive int, got 0"),
        (lambda: nn.GRU(3, 4, num_layers=0), "num_layers must be a positive int, got 0"),
        (lambda: nn.LSTM(3, 4, proj_size=4), "proj_size"),
    ):
        with pytest.raises(ValueError, match=message):
            build()
    with pytest.warns(UserWarning, match="no effect with num_layers=1"):
        nn.GRU(3, 4, dropout=0.5)
