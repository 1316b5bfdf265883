"""Layers with PyTorch's names, arguments, layouts and initialisation."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

from volta_mlir.dtypes import DEFAULT_FLOAT
from volta_mlir.nn import functional, init
from volta_mlir.nn.module import Module, Parameter
from volta_mlir.tensor import Tensor


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
        self.weight = Parameter(init.uniform((out_features, in_features), bound, dtype))
        self.bias = Parameter(init.uniform((out_features,), bound, dtype)) if bias else None

    def forward(self, x: Any) -> Tensor:
        return functional.linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


class ReLU(Module):
    """:func:`functional.relu <volta_mlir.nn.functional.relu>` as a layer."""

    def forward(self, x: Any) -> Tensor:
        return functional.relu(x)


class Tanh(Module):
    """:func:`functional.tanh <volta_mlir.nn.functional.tanh>` as a layer."""

    def forward(self, x: Any) -> Tensor:
        return functional.tanh(x)


class Flatten(Module):
    """Makes one axis of the axes ``start_dim`` to ``end_dim``, both included.

    Example:
        >>> import numpy as np
        >>> Flatten()(np.zeros((5, 2, 3), np.float32)).shape
        (5, 6)
    """

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, x: Any) -> Tensor:
        return functional.flatten(x, self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class ModuleList(Module):
    """A list of modules, which the model calls as it likes; children are named by their index.

    Example:
        >>> layers = ModuleList([Linear(3, 3), Linear(3, 2)])
        >>> len(layers), layers[-1].out_features, [name for name, _ in layers[:1].named_parameters()]
        (2, 2, ['0.weight', '0.bias'])
    """

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        self.extend(modules)

    def append(self, module: Module) -> None:
        """Adds a module at the end."""
        if not isinstance(module, Module):
            raise TypeError(f"{type(self).__name__} holds modules, got a {type(module).__name__}")
        setattr(self, str(len(self)), module)

    def extend(self, modules: Iterable[Module]) -> None:
        """Adds modules at the end."""
        for module in modules:
            self.append(module)

    def __len__(self) -> int:
        return len(self._kinds)

    def __iter__(self) -> Iterator[Module]:
        return (self.__dict__[name] for name in self._kinds)

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return ModuleList(list(self)[index])
        return list(self)[index]


class Sequential(ModuleList):
    """Calls its modules one after the other, each with what the one before returned.

    Example:
        >>> Sequential(Linear(4, 8), ReLU(), Linear(8, 2))
        Sequential(
          (0): Linear(in_features=4, out_features=8, bias=True)
          (1): ReLU()
          (2): Linear(in_features=8, out_features=2, bias=True)
        )
    """

    def __init__(self, *modules: Module) -> None:
        super().__init__(modules)

    def forward(self, x: Any) -> Any:
        for module in self:
            x = module(x)
        return x
