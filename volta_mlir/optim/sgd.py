"""Stochastic gradient descent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from volta_mlir.functions import where
from volta_mlir.optim.optimizer import Optimizer
from volta_mlir.tensor import Tensor


@dataclass(frozen=True)
class SGD(Optimizer):
    """Gradient descent with momentum, as ``torch.optim.SGD``.

    Args:
        lr: see :class:`Optimizer`.
        momentum: how much of the last update's direction is kept; 0 keeps no state.
        dampening: by how much a gradient is damped when it joins the direction; the first one is not.
        weight_decay: times the parameter, is added to its gradient.
        nesterov: looks ahead along the direction; needs momentum and no dampening.

    Raises:
        ValueError: ``nesterov`` without momentum or with dampening.
    """

    lr: Any = 1e-3
    momentum: float = 0.0
    dampening: float = 0.0
    weight_decay: float = 0.0
    nesterov: bool = False

    slots: ClassVar[tuple[str, ...]] = ("momentum_buffer",)

    def __post_init__(self) -> None:
        if self.nesterov and (self.momentum <= 0 or self.dampening != 0):
            raise ValueError("nesterov needs a momentum above 0 and no dampening")

    def used_slots(self) -> tuple[str, ...]:
        return self.slots if self.momentum else ()

    def scalars(self, step: Tensor, dtype: np.dtype) -> tuple[Any, Tensor]:
        return self.learning_rate(step, dtype), step == 0

    def step(self, p: Tensor, g: Tensor, slots: tuple[Tensor, ...], scalars: Any) -> tuple[Tensor, tuple[Tensor, ...]]:
        lr, is_first = scalars
        if self.weight_decay:
            g = g + self.weight_decay * p
        if self.momentum:
            direction = self.momentum * slots[0] + (1 - self.dampening) * g
            if self.dampening:
                direction = where(is_first, g, direction)
            slots = (direction,)
            g = g + self.momentum * direction if self.nesterov else direction
        return p - lr * g, slots
