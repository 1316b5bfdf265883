"""Activation functions as layers."""

from __future__ import annotations

from typing import Any

from volta_mlir.nn import functional
from volta_mlir.nn.module import Module
from volta_mlir.tensor import Tensor

__all__ = ["ReLU", "Tanh"]


class ReLU(Module):
    """:func:`functional.relu <volta_mlir.nn.functional.relu>` as a layer.

    Example:
        >>> ReLU()(Tensor([-1.0, 2.0])).tolist()
        [0.0, 2.0]
    """

    def forward(self, x: Any) -> Tensor:
        return functional.relu(x)


class Tanh(Module):
    """:func:`functional.tanh <volta_mlir.nn.functional.tanh>` as a layer."""

    def forward(self, x: Any) -> Tensor:
        return functional.tanh(x)
