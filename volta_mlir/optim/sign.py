"""Rprop and Lion: steps in the direction of a sign."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from volta_mlir.functions import clip, sign, where
from volta_mlir.optim.optimizer import Rule, Slots, decayed, require, require_betas, require_not_negative
from volta_mlir.tensor import Tensor


@dataclass(frozen=True)
class Rprop(Rule):
    """Steps of a size of each element's own, which grows while the gradient keeps its sign, as ``torch.optim.Rprop``.

    Args:
        lr: see :class:`Rule`; the first step size. Later values are not used.
        etas: the factors of the step size when the sign has changed, and when it has not.
        step_sizes: the smallest and the largest step size.
        maximize: see :class:`Rule`.

    Raises:
        ValueError: not ``0 < etas[0] < 1 < etas[1]``, or a negative learning rate.

    >>> w = Tensor([1.0])
    >>> rprop = Rprop(lr=0.25)
    >>> rprop.update(w, Tensor([4.0]), rprop.init(w))[0].tolist()
    [0.75]
    """

    lr: Any = 1e-2
    etas: tuple[float, float] = (0.5, 1.2)
    step_sizes: tuple[float, float] = (1e-6, 50)

    def __post_init__(self) -> None:
        super().__post_init__()
        low, high = self.etas
        require(0 < low < 1 < high, "eta values", f"{low}, {high}", "0 < etas[0] < 1 < etas[1]")

    def slots(self, shape: tuple[int, ...]) -> dict[str, Any]:
        return {"prev": (shape, 0), "step_size": (shape, self.lr(Tensor(0)) if callable(self.lr) else self.lr)}

    def scalars(self, step: Tensor, dtype: np.dtype) -> None:
        return None

    def step(self, p: Tensor, g: Tensor, slots: Slots, scalars: Any) -> tuple[Tensor, Slots]:
        agreement = g * slots["prev"]
        size = slots["step_size"]
        size = where(agreement > 0, self.etas[1] * size, where(agreement < 0, self.etas[0] * size, size))
        size = clip(size, *self.step_sizes)
        g = where(agreement < 0, 0, g)  # the step that went too far is not taken twice
        return p - sign(g) * size, {"prev": g, "step_size": size}


@dataclass(frozen=True)
class Lion(Rule):
    """Moves by the sign of a mean gradient.

    ``c = betas[0] * exp_avg + (1 - betas[0]) * g``, ``p -= lr * (sign(c) + weight_decay * p)``, and
    ``exp_avg = betas[1] * exp_avg + (1 - betas[1]) * g``. Chen et al., "Symbolic Discovery of Optimization Algorithms",
    2023, algorithm 2. PyTorch does not have it.

    Args:
        lr: see :class:`Rule`; three to ten times smaller than Adam's.
        betas: how much of the mean counts in the direction, and how much of it is kept at each update; below 1.
        weight_decay: times ``lr`` and the parameter, is subtracted from the parameter.
        maximize: see :class:`Rule`.

    Raises:
        ValueError: a beta outside [0, 1), or a negative hyperparameter.

    >>> w = Tensor([1.0, 1.0])
    >>> lion = Lion(lr=0.25)
    >>> lion.update(w, Tensor([4.0, -1.0]), lion.init(w))[0].tolist()
    [0.75, 1.25]
    """

    lr: Any = 1e-4
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_betas(self.betas)
        require_not_negative(self, "weight_decay")

    def slots(self, shape: tuple[int, ...]) -> dict[str, Any]:
        return {"exp_avg": (shape, 0)}

    def scalars(self, step: Tensor, dtype: np.dtype) -> Any:
        return self.learning_rate(step, dtype)

    def step(self, p: Tensor, g: Tensor, slots: Slots, scalars: Any) -> tuple[Tensor, Slots]:
        lr, mean = scalars, slots["exp_avg"]
        p, g = decayed(p, g, self.weight_decay, lr, decoupled=True)
        direction = sign(self.betas[0] * mean + (1 - self.betas[0]) * g)
        return p - lr * direction, {"exp_avg": self.betas[1] * mean + (1 - self.betas[1]) * g}
