"""Adam and AdamW."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from volta_mlir.functions import astype, expm1, sqrt
from volta_mlir.optim.optimizer import Optimizer
from volta_mlir.tensor import Tensor


@dataclass(frozen=True)
class Adam(Optimizer):
    """Adam, as ``torch.optim.Adam``: each element moves by its mean gradient over the root of its mean square.

    Args:
        lr: see :class:`Optimizer`.
        betas: how much of the means of gradients and of their squares is kept at each step; below 1.
        eps: is added to the root.
        weight_decay: times the parameter, is added to its gradient.

    Raises:
        ValueError: a beta outside [0, 1).
    """

    lr: Any = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0

    slots: ClassVar[tuple[str, ...]] = ("exp_avg", "exp_avg_sq")

    def __post_init__(self) -> None:
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas are {self.betas}; expected numbers from 0 to below 1")

    def scalars(self, step: Tensor, dtype: np.dtype) -> tuple[Any, Any, Any]:
        # The means start at zero; dividing by 1 - beta^t corrects for that.
        count = astype(step + 1, dtype)
        mean, square = (_one_minus_power(beta, count) for beta in self.betas)
        lr = self.learning_rate(step, dtype)
        return lr, lr / mean, sqrt(square)

    def step(self, p: Tensor, g: Tensor, slots: tuple[Tensor, ...], scalars: Any) -> tuple[Tensor, tuple[Tensor, ...]]:
        lr, step_size, root_correction = scalars
        p, g = self.decay(p, g, lr)
        mean, square = slots
        mean = self.betas[0] * mean + (1 - self.betas[0]) * g
        square = self.betas[1] * square + (1 - self.betas[1]) * (g * g)
        return p - step_size * mean / (sqrt(square) / root_correction + self.eps), (mean, square)

    def decay(self, p: Tensor, g: Tensor, lr: Any) -> tuple[Tensor, Tensor]:
        """The parameter and the gradient after weight decay."""
        return (p, g + self.weight_decay * p) if self.weight_decay else (p, g)


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with decoupled weight decay, as ``torch.optim.AdamW``.

    Args:
        lr: see :class:`Optimizer`.
        betas: as for :class:`Adam`.
        eps: as for :class:`Adam`.
        weight_decay: times ``lr`` and the parameter, is subtracted from the parameter.
    """

    weight_decay: float = 1e-2

    def decay(self, p: Tensor, g: Tensor, lr: Any) -> tuple[Tensor, Tensor]:
        return (p * (1 - lr * self.weight_decay), g) if self.weight_decay else (p, g)


def _one_minus_power(base: float, exponent: Tensor) -> Any:
    """``1 - base ** exponent``, exact to the last bits where the power is close to 1."""
    return -expm1(exponent * math.log(base)) if base else 1.0
