"""Every module that PyTorch has sample inputs for, with these, in training and not."""

from __future__ import annotations

import pytest

from tests import modules, pytorch
from volta_mlir import nn

#: Modules that draw random numbers in training, which are others than PyTorch's: compared in evaluation only.
DRAWING = {"Transformer", "TransformerEncoder", "TransformerEncoderLayer", "TransformerDecoderLayer"}

NAMES = [name for name in modules.sampled_names() if hasattr(nn, name)]


def modes_of(name: str) -> list[bool]:
    """Whether to train; both where that makes a difference."""
    if name in DRAWING:
        return [False]
    return [True, False] if "BatchNorm" in name or "InstanceNorm" in name else [True]


@pytest.mark.parametrize("name", NAMES)
def test_samples(name: str) -> None:
    # Sums over time in which large terms cancel are less exact.
    operations = 2**13 if name == "RNN" else pytorch.OPERATIONS
    cases = [case for training in modes_of(name) for case in modules.sample_pairs(name, training)]
    modules.check_eager(cases, operations)
