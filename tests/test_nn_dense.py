"""Linear maps, embeddings and distances as layers, compared with PyTorch's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import volta_mlir as volta
from tests import modules
from volta_mlir import nn
from volta_mlir.errors import ShapeError

INDICES = np.array([[1, 4, 2], [4, 3, 0]])


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape)).normal(size=shape).astype(np.float32)


def test_layers() -> None:
    pairs = [
        modules.pair(*modules.build("Linear", 3, 2), normal(5, 2, 3)),
        modules.pair(*modules.build("Linear", 3, 2, bias=False), normal(3)),
        modules.pair(*modules.build("Bilinear", 3, 4, 2), normal(5, 3), normal(5, 4)),
        modules.pair(*modules.build("Bilinear", 3, 4, 2, bias=False), normal(2, 5, 3), normal(2, 5, 4)),
        modules.pair(*modules.build("Embedding", 5, 3), INDICES),
        modules.pair(*modules.build("Embedding", 5, 3, padding_idx=-1, scale_grad_by_freq=True), INDICES),
        modules.pair(*modules.build("CosineSimilarity", dim=-1), normal(5, 3), normal(5, 3)[::-1].copy()),
        modules.pair(*modules.build("PairwiseDistance", p=1.0, keepdim=True), normal(5, 3), normal(3)),
    ]
    modules.check_eager(pairs)
    modules.check_compiled(pairs[2:6:3])


def test_embedding_bag() -> None:
    flat, offsets = INDICES.ravel(), np.array([0, 2, 2, 5])
    modules.check_eager(
        [
            modules.pair(*modules.build("EmbeddingBag", 5, 3), INDICES),
            modules.pair(*modules.build("EmbeddingBag", 5, 3, mode="max"), flat, offsets),
            modules.pair(*modules.build("EmbeddingBag", 5, 3, mode="sum"), flat, offsets, normal(6)),
            modules.pair(
                *modules.build(
                    "EmbeddingBag", 5, 3, padding_idx=4, include_last_offset=True, scale_grad_by_freq=True, mode="sum"
                ),
                flat,
                np.array([0, 2, 6]),
            ),
        ]
    )


@pytest.mark.parametrize("name", ["Embedding", "EmbeddingBag"])
def test_embeddings_from_a_table(name: str) -> None:
    table = normal(5, 3)
    theirs = getattr(torch.nn, name).from_pretrained(torch.tensor(table), padding_idx=1)
    ours = getattr(nn, name).from_pretrained(table, padding_idx=1)
    assert repr(ours) == repr(theirs)
    np.testing.assert_array_equal(ours.weight, table)
    modules.check_eager([modules.pair(ours, theirs, INDICES)])
    assert not ours.is_trainable("weight")
    assert getattr(nn, name).from_pretrained(table, freeze=False).is_trainable("weight")
    with pytest.raises(ShapeError, match=r"expected to be 2-dimensional, got float32\[3\]"):
        getattr(nn, name).from_pretrained(table[0])


def test_embeddings_at_first() -> None:
    nn.manual_seed(0)
    weight = nn.Embedding(100, 50, padding_idx=-3).weight.numpy()
    assert np.abs(weight[97]).max() == 0
    assert abs(np.delete(weight, 97, 0).std() - 1) < 0.03
    assert abs(nn.EmbeddingBag(100, 50).weight.numpy().mean()) < 0.05
    bilinear = nn.Bilinear(25, 4, 30)
    for parameter in bilinear.parameters():
        assert 0.15 < np.abs(parameter.numpy()).max() <= 0.2


def test_gradient_of_an_embedding_is_a_scatter() -> None:
    layer = nn.Embedding(1000, 4)
    gradient = volta.jit(volta.grad(lambda layer, i: layer(i).sum())).lower(layer, volta.spec((7,), "int32"))
    text = gradient.as_text("volta-inline")
    assert "volta.scatter" in text or "volta.index_add" in text
    assert "7x1000" not in text


def test_bad_input() -> None:
    for build, message in (
        (lambda: nn.Bilinear(0, 1, 1), "in1_features must be > 0, got 0"),
        (lambda: nn.Embedding(5, 3, padding_idx=5), "padding_idx must be within num_embeddings, 5, got 5"),
        (lambda: nn.Embedding(5, 3, max_norm=1.0), "max_norm would change the weight"),
        (lambda: nn.EmbeddingBag(5, 3, sparse=True), "sparse=True is not supported"),
    ):
        with pytest.raises(ValueError, match=message):
            build()
    layer: Any = nn.Embedding(5, 3)
    with pytest.raises(ShapeError, match="out of bounds"):
        layer([5])
    with pytest.raises(ShapeError, match="bilinear"):
        nn.Bilinear(3, 4, 2)(normal(2, 3), normal(2, 3))
