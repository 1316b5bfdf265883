"""Every module that PyTorch has sample inputs for, with these, in training and not."""

from __future__ import annotations

import pytest

from tests import modules, pytorch
from volta_mlir import nn

#: Modules that draw random numbers in training, which are others than PyTorch's: compared in evaluation only.
DRAWING = {"TransformerEncoderLayer", "TransformerDecoderLayer"}

#: Those whose samples take modules as arguments, or minutes (test_nn_transformer.py has smaller ones), or are
#: logarithms of negative numbers (test_nn_loss.py has better ones).
LEFT_OUT = {"Transformer", "TransformerEncoder", "KLDivLoss"}

NAMES = [name for name in modules.sampled_names() if hasattr(nn, name) and name not in LEFT_OUT]


def modes_of(name: str) -> list[bool]:
    """Whether to train; both where that makes a difference."""
    if name in DRAWING:
        return [False]
    return [True, False] if "BatchNorm" in name or "InstanceNorm" in name else [True]


def check(name: str, at_most: int | None) -> None:
    # Long sums of large terms that cancel are less exact.
    operations = 2**13 if name in ("RNN", "MultiheadAttention") else pytorch.OPERATIONS
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
