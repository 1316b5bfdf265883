"""The table of a model's modules."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import volta_mlir as volta
from volta_mlir import nn
from volta_mlir.errors import ShapeError


class Model(nn.Module):
    """Tied, frozen, shared and unused parts."""

    def __init__(self) -> None:
        self.embedding = nn.Embedding(10, 4)
        self.norm = nn.BatchNorm1d(4)
        self.block = nn.Sequential(nn.Linear(4, 4).freeze(), nn.ReLU())
        self.heads = [nn.Linear(4, 10, bias=False), nn.Linear(4, 2)]
        self.heads[0].weight = self.embedding.weight
        self.scale = nn.Parameter([1.0])

    def forward(self, tokens: Any, twice: bool = False) -> Any:
        x = self.block(self.norm(self.embedding(tokens))) * self.scale
        if twice:
            x = self.block(x)
        return {"logits": self.heads[0](x), "state": x}


def test_counts() -> None:
    model = Model()
    found = nn.summary(model)
    assert (found.trainable, found.frozen, found.buffers) == (40 + 8 + 10 + 1, 20, 9)
    assert found.parameters == 79
    assert found.nbytes == 4 * (79 + 9)
    own = {row.name: row.parameters for row in found.rows}
    assert own == {
        "": 1,
        "embedding": 40,
        "norm": 8,
        "block": 0,
        "block.0": 20,
        "block.1": 0,
        "heads.0": 0,
        "heads.1": 10,
    }
    assert all(row.outputs is None and row.calls == 0 for row in found.rows)
    assert "Output" not in str(found)


def test_counts_are_pytorchs() -> None:
    ours = nn.summary(nn.Transformer(8, 2, 2, 1, 16))
    theirs = torch.nn.Transformer(8, 2, 2, 1, 16, batch_first=True)
    assert ours.trainable == sum(p.numel() for p in theirs.parameters())


def test_shapes() -> None:
    model = Model()
    before = model.norm.running_mean.tolist()
    found = nn.summary(model, volta.spec((3,), "int32"), twice=True)
    rows = {row.name: row for row in found.rows}
    assert [str(spec) for spec in rows[""].outputs or ()] == ["float32[3,10]", "float32[3,4]"]
    assert (rows["block.0"].calls, rows["heads.0"].calls, rows["heads.1"].calls) == (2, 1, 0)
    assert rows["heads.1"].outputs is None
    assert model.norm.running_mean.tolist() == before
    assert not model.scale.is_traced
    assert nn.summary(model, np.zeros(3, np.int32)).rows[1].outputs == (volta.spec((3, 4)),)


def test_it_prints() -> None:
    text = str(nn.summary(Model(), volta.spec((3,), "int32"), twice=True)).splitlines()
    assert "│ block.0   │ Linear      │ float32[3,4] ×2             │         20 │" in text
    assert "│ heads.1   │ Linear      │                             │         10 │" in text
    assert text[-3:] == ["Parameters: 79 (59 trainable, 20 frozen)", "Buffers: 9", "Size: 352 bytes"]


def test_specs_stand_for_parameters() -> None:
    layer = nn.Linear(3, 2)
    layer.weight, layer.bias = volta.spec((2, 3), "bfloat16"), nn.Parameter(volta.spec(2, "bfloat16"))
    found = nn.summary(layer, volta.spec((4, 3), "bfloat16"))
    assert (found.trainable, found.nbytes) == (8, 16)
    assert found.rows[0].outputs == (volta.spec((4, 2), "bfloat16"),)


def test_names_with_markup() -> None:
    model = nn.ModuleDict({"[red]": nn.ReLU()})
    assert "[red]" in str(nn.summary(model))


def test_bad_input() -> None:
    with pytest.raises(TypeError, match="describes a module, got a function"):
        nn.summary(lambda x: x)  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match="linear"):
        nn.summary(nn.Linear(3, 2), volta.spec((4, 4)))
    # Nobody watches after an error.
    assert nn.Linear(3, 2)(np.ones((1, 3), np.float32)).shape == (1, 2)
