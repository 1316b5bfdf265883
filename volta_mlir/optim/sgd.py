"""Stochastic gradient descent, plain and averaged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from volta_mlir.errors import OptionError
from volta_mlir.functions import astype, maximum, where
from volta_mlir.optim.optimizer import Rule, Slots, decayed, require_not_negative
from volta_mlir.tensor import Tensor


@dataclass(frozen=True)
class SGD(Rule):
    """Gradient descent with momentum, as ``torch.optim.SGD``.

    Args:
        lr: see :class:`Rule`.
        momentum: how much of the last update's direction is kept; 0 keeps no state.
        dampening: by how much a gradient is damped when it joins the direction; the first one is not.
        weight_decay: times the parameter, is added to its gradient.
        nesterov: looks ahead along the direction; needs momentum and no dampening.
        maximize: see :class:`Rule`.

    Raises:
        ValueError: a negative hyperparameter, or ``nesterov`` without momentum or with dampening.

    >>> w = Tensor([1.0])
    >>> sgd = SGD(lr=0.1, momentum=0.9)
    >>> sgd.update(w, Tensor([2.0]), sgd.init(w))[1]["momentum_buffer"][""].tolist()
    [2.0]
    """

    lr: Any = 1e-3
    momentum: float = 0.0
    dampening: float = 0.0
    weight_decay: float = 0.0
    nesterov: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require_not_negative(self, "momentum", "weight_decay")
        if self.nesterov and (self.momentum <= 0 or self.dampening != 0):
            raise OptionError(
                "Nesterov momentum requires a momentum and zero dampening, got"
                f" momentum={self.momentum}, dampening={self.dampening}"
            )

    def slots(self, shape: tuple[int, ...]) -> dict[str, Any]:
        return {"momentum_buffer": (shape, 0)} if self.momentum else {}

    def scalars(self, step: Tensor, dtype: np.dtype) -> tuple[Any, Tensor]:
        return self.learning_rate(step, dtype), step == 0

    def step(self, p: Tensor, g: Tensor, slots: Slots, scalars: Any) -> tuple[Tensor, Slots]:
        lr, is_first = scalars
        p, g = decayed(p, g, self.weight_decay)
        if not self.momentum:
            return p - lr * g, {}
        direction = self.momentum * slots["momentum_buffer"] + (1 - self.dampening) * g
        if self.dampening:
            direction = where(is_first, g, direction)
        g = g + self.momentum * direction if self.nesterov else direction
        return p - lr * g, {"momentum_buffer": direction}


@dataclass(frozen=True)
class ASGD(Rule):
    """Averaged gradient descent, as ``torch.optim.ASGD``; the averages are ``state["ax"]``.

    The weight ``mu`` of a parameter in its average and the step size ``eta``, which PyTorch keeps, follow from the
    number of updates.

    Args:
        lr: see :class:`Rule`. As in PyTorch, each update but the first uses that of the update before.
        lambd: decays the parameter, and the step size.
        alpha: the power with which the step size falls.
        t0: the number of updates after which averaging starts; before, ``ax`` is the parameter.
        weight_decay: times the parameter, is added to its gradient.
        maximize: see :class:`Rule`.

    Raises:
        ValueError: a negative learning rate or weight decay.

    >>> w = Tensor([1.0])
    >>> asgd = ASGD(lr=0.5)
    >>> asgd.update(w, Tensor([2.0]), asgd.init(w))[1]["ax"][""].round(3).tolist()
    [-0.0]
    """

    lr: Any = 1e-2
    lambd: float = 1e-4
    alpha: float = 0.75
    t0: float = 1e6
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_not_negative(self, "weight_decay")

    def slots(self, shape: tuple[int, ...]) -> dict[str, Any]:
        return {"ax": (shape, 0)}

    def scalars(self, step: Tensor, dtype: np.dtype) -> tuple[Tensor, Tensor]:
        count = astype(step, dtype)
        lr = self.learning_rate(maximum(step - 1, 0), dtype)
        eta = lr / (1 + self.lambd * lr * count) ** self.alpha
        mu = 1 / maximum(1, count - self.t0)
        return eta, mu

    def step(self, p: Tensor, g: Tensor, slots: Slots, scalars: Any) -> tuple[Tensor, Slots]:
        eta, mu = scalars
        p, g = decayed(p, g, self.weight_decay)
        p = p * (1 - self.lambd * eta) - eta * g
        return p, {"ax": where(mu == 1, p, slots["ax"] + mu * (p - slots["ax"]))}
