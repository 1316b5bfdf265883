"""Every module that PyTorch has sample inputs for, with these, in training and not."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest
import torch

from tests import modules, pytorch
from volta_mlir import nn

#: Modules that draw random numbers in training, which are others than PyTorch's: compared in evaluation only.
DRAWING = {"TransformerEncoderLayer", "TransformerDecoderLayer"}

#: Those whose samples take modules as arguments, or minutes (test_nn_transformer.py has smaller ones), or are
#: logarithms of negative numbers, or take the derivative that PyTorch's ctc_loss has only after log_softmax
#: (test_nn_loss.py has better ones), or bring random numbers of a dtype that PyTorch refuses (test_nn_pooling.py).
LEFT_OUT = {"Transformer", "TransformerEncoder", "KLDivLoss", "CTCLoss", "FractionalMaxPool2d", "FractionalMaxPool3d"}

NAMES = [name for name in modules.sampled_names() if hasattr(nn, name) and name not in LEFT_OUT]


def modes_of(name: str) -> list[bool]:
    """Whether to train; both where that makes a difference."""
    if name in DRAWING:
        return [False]
    return [True, False] if "BatchNorm" in name or "InstanceNorm" in name else [True]


#: What is less exact: long sums of large terms that cancel.
DEEP = ("RNN", "MultiheadAttention", "TransformerDecoderLayer", "TransformerEncoderLayer")


def check(name: str, at_most: int | None) -> None:
    operations = 2**13 if name in DEEP else pytorch.OPERATIONS
    cases = [case for training in modes_of(name) for case in modules.sample_pairs(name, training)]
    step = 1 if at_most is None else -(-len(cases) // at_most)
    modules.check_eager(cases[::step], operations)


@pytest.mark.parametrize("name", NAMES)
def test_samples(name: str) -> None:
    check(name, at_most=12)


@pytest.mark.full
@pytest.mark.parametrize("name", NAMES)
def test_all_samples(name: str) -> None:
    check(name, at_most=None)


def test_every_module_is_compared() -> None:
    """By its samples, or in a test of its family, which names it as a string or as an attribute."""
    texts = [path.read_text() for path in Path(__file__).parent.glob("test_nn_*.py")]
    named = set()
    for text in texts:
        for axes in "123":
            named |= set(re.findall(r"(?:\"|nn\.|lib\.)([A-Z]\w*)\b", text.replace("{axes}", axes)))
    shared = [name for name in nn.layers.__all__ if hasattr(torch.nn, name)]
    assert len(shared) > 130
    assert sorted(set(shared) - named - set(NAMES)) == []


def test_signatures_are_pytorchs() -> None:
    """Constructors take PyTorch's arguments in PyTorch's order, but for those that are left out everywhere."""
    left_out = {"device", "dtype", "inplace", "size_average", "reduce", "args", "kwargs", "_weight", "_freeze"}
    left_out |= {"min_value", "max_value"}  # deprecated names of Hardtanh's
    differing = {}
    for name in nn.layers.__all__:
        if not hasattr(torch.nn, name):
            continue
        ours, theirs = (
            [p for p in inspect.signature(getattr(lib, name)).parameters if p not in left_out] for lib in (nn, torch.nn)
        )
        if ours != theirs:
            differing[name] = (ours, theirs)
    # PyTorch's take any arguments, whose names are in their documentation only.
    for name in ("RNN", "LSTM", "GRU"):
        assert not differing.pop(name)[1]
    assert not differing
