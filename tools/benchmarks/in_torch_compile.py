"""The workloads in PyTorch through torch.compile."""

from __future__ import annotations

import torch

from volta_mlir.tools.benchmarks.in_torch import CompiledProgram as Program
from volta_mlir.tools.benchmarks.in_torch import versions

__all__ = ["Program", "versions", "warm_up"]


def warm_up() -> None:
    """Starts what every program needs: here the compiler, which lives in the same process."""
    torch.compile(lambda x: x + 1)(torch.ones(1))
