"""What the families of layers share."""

from __future__ import annotations

from typing import Any

from volta_mlir import random
from volta_mlir.nn import init
from volta_mlir.nn.module import Buffer, Module
from volta_mlir.tensor import Tensor


def shown(module: Module, *names: str) -> str:
    """The attributes of these names as ``repr`` shows them: ``p=0.5, dim=1``."""
    return ", ".join(f"{name}={getattr(module, name)}" for name in names)


def repeated(value: Any, count: int) -> tuple[int, ...]:
    """An argument that is a number for every axis, or one number for all."""
    return tuple(value) if isinstance(value, (tuple, list)) else (value,) * count


class Drawing(Module):
    """Base of layers that draw random numbers, other ones at every call.

    Attributes:
        key: for :mod:`volta_mlir.random`, another one in every layer; :func:`~volta_mlir.nn.manual_seed` decides
            which. A call that draws replaces it. It is state, but not in the ``state_dict``. A copy draws the same
            numbers, unless it gets a key of its own: ``layer.key = nn.init.key()``.

    Example:
        >>> layer = Drawing()
        >>> layer.draw().tolist() == layer.draw().tolist()
        False
    """

    key: Tensor

    def __init__(self) -> None:
        self.key = Buffer(init.key(), persistent=False)

    def draw(self) -> Tensor:
        """A key that was not used before."""
        self.key, key = random.split(self.key)
        return key
