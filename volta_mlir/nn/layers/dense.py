"""Linear maps and lookups."""

from __future__ import annotations

import math
from typing import Any

from volta_mlir.dtypes import DEFAULT_FLOAT
from volta_mlir.nn import functional, init
from volta_mlir.nn.layers.common import shown
from volta_mlir.nn.module import Module, Parameter
from volta_mlir.tensor import Tensor

__all__ = ["Linear"]


class Linear(Module):
    """``x @ weight.T + bias`` over the last axis.

    Args:
        in_features: extent of the last axis of the input.
        out_features: extent of the last axis of the result.
        bias: whether there is a bias.
        dtype: of the parameters.

    Attributes:
        weight: ``[out_features, in_features]``, at first uniform within ±1/√in_features.
        bias: ``[out_features]``, at first from the same distribution, or None.

    Example:
        >>> Linear(3, 2)(Tensor([[1.0, 2.0, 3.0]])).shape
        (1, 2)
    """

    weight: Tensor
    bias: Tensor | None

    def __init__(self, in_features: int, out_features: int, bias: bool = True, dtype: Any = DEFAULT_FLOAT) -> None:
        self.in_features, self.out_features = in_features, out_features
        bound = 1 / math.sqrt(in_features) if in_features else 0.0
        self.weight = Parameter(init.uniform((out_features, in_features), -bound, bound, dtype))
        self.bias = Parameter(init.uniform(out_features, -bound, bound, dtype)) if bias else None

    def forward(self, input: Any) -> Tensor:
        return functional.linear(input, self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"{shown(self, 'in_features', 'out_features')}, bias={self.bias is not None}"
