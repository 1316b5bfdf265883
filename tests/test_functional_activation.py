"""Activation functions against PyTorch's."""

from __future__ import annotations

import pytest
import torch

from tests import pytorch
from volta_mlir.nn import functional as F

#: By their names in PyTorch's op database.
OPS = ("nn.functional.relu",)


@pytest.mark.parametrize("op", OPS)
def test_eager(op: str) -> None:
    name = op.removeprefix("nn.functional.")
    pytorch.check_eager(getattr(F, name), getattr(torch.nn.functional, name), pytorch.sample_calls(op))


def test_compiled() -> None:
    pairs = []
    for op in OPS:
        name = op.removeprefix("nn.functional.")
        ours, theirs = getattr(F, name), getattr(torch.nn.functional, name)
        pairs += [(ours, theirs, case) for case in pytorch.first_calls(pytorch.sample_calls(op), 2)]
    pytorch.check_compiled(pairs)
