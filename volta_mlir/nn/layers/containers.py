"""Modules of modules."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from volta_mlir.nn.module import Module

__all__ = ["ModuleList", "Sequential"]


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
