"""Adam and its kin: means of gradients and of their squares."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from volta_mlir.dtypes import float64
from volta_mlir.functions import abs, astype, expm1, maximum, sqrt, where
from volta_mlir.optim.optimizer import Rule, Slots, decayed, require_betas, require_not_negative
from volta_mlir.tensor import Tensor


@dataclass(frozen=True)
class _Moments(Rule):
    """What the family shares: ``exp_avg``, the running mean of gradients, and ``exp_avg_sq``, that of their squares."""

    lr: Any = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_not_negative(self, "eps", "weight_decay")
        require_betas(self.betas)

    def slots(self, shape: tuple[int, ...]) -> dict[str, Any]:
        return {"exp_avg": (shape, 0), "exp_avg_sq": (shape, 0)}

    def moments(self, g: Tensor, slots: Slots) -> tuple[Tensor, Tensor]:
        """The means after one more gradient."""
        return _mix(self.betas[0], slots["exp_avg"], g), _mix(self.betas[1], slots["exp_avg_sq"], g * g)


@dataclass(frozen=True)
class Adam(_Moments):
    """Each element moves by its mean gradient over the root of its mean square, as ``torch.optim.Adam``.

    Args:
        lr: see :class:`Rule`.
        betas: how much of the means of gradients and of their squares is kept at each update; below 1.
        eps: is added to the root.
        weight_decay: times the parameter, is added to its gradient.
        amsgrad: whether to divide by the root of the largest mean square so far.
        decoupled_weight_decay: whether ``weight_decay`` acts on the parameter as in :class:`AdamW`.
        maximize: see :class:`Rule`.

    Raises:
        ValueError: a beta outside [0, 1), or a negative hyperparameter.

    >>> w = Tensor([1.0, 1.0])
    >>> adam = Adam(lr=0.25)
    >>> adam.update(w, Tensor([3.0, -5.0]), adam.init(w))[0].tolist()
    [0.75, 1.25]
    """

    amsgrad: bool = False
    decoupled_weight_decay: bool = field(default=False, kw_only=True)

    def slots(self, shape: tuple[int, ...]) -> dict[str, Any]:
        return {**super().slots(shape), **({"max_exp_avg_sq": (shape, 0)} if self.amsgrad else {})}

    def scalars(self, step: Tensor, dtype: np.dtype) -> tuple[Any, Any, Any]:
        # The means start at zero; dividing by 1 - beta^t corrects for that.
        mean, square = (_one_minus_power(beta, astype(step + 1, dtype)) for beta in self.betas)
        lr = self.learning_rate(step, dtype)
        return lr, lr / mean, sqrt(square)

    def step(self, p: Tensor, g: Tensor, slots: Slots, scalars: Any) -> tuple[Tensor, Slots]:
        lr, step_size, root_correction = scalars
        p, g = decayed(p, g, self.weight_decay, lr, self.decoupled_weight_decay)
        mean, square = self.moments(g, slots)
        kept = {"exp_avg": mean, "exp_avg_sq": square}
        if self.amsgrad:
            square = kept["max_exp_avg_sq"] = maximum(slots["max_exp_avg_sq"], square)
        return p - step_size * mean / (sqrt(square) / root_correction + self.eps), kept


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with decoupled weight decay, as ``torch.optim.AdamW``.

    Args:
        lr: see :class:`Rule`.
        betas: as for :class:`Adam`.
        eps: as for :class:`Adam`.
        weight_decay: times ``lr`` and the parameter, is subtracted from the parameter.
        amsgrad: as for :class:`Adam`.
        maximize: see :class:`Rule`.

    Raises:
        ValueError: a beta outside [0, 1), or a negative hyperparameter.

    >>> w = Tensor([1.0])
    >>> adamw = AdamW(lr=0.25, weight_decay=0.5)
    >>> adamw.update(w, Tensor([3.0]), adamw.init(w))[0].tolist()  # 1 - 0.25 * 0.5 - 0.25
    [0.625]
    """

    weight_decay: float = 1e-2
    decoupled_weight_decay: bool = field(default=True, init=False)


@dataclass(frozen=True)
class Adamax(_Moments):
    """Adam with the largest gradient, which fades, in place of the root, as ``torch.optim.Adamax``.

    Args:
        lr: see :class:`Rule`.
        betas: how much of the mean gradient and of the largest one is kept at each update; below 1.
        eps: is added to the gradient's magnitude.
        weight_decay: times the parameter, is added to its gradient.
        maximize: see :class:`Rule`.

    Raises:
        ValueError: a beta outside [0, 1), or a negative hyperparameter.

    >>> w = Tensor([1.0])
    >>> adamax = Adamax(lr=0.25)
    >>> adamax.update(w, Tensor([3.0]), adamax.init(w))[0].tolist()
    [0.75]
    """

    lr: Any = 2e-3

    def slots(self, shape: tuple[int, ...]) -> dict[str, Any]:
        return {"exp_avg": (shape, 0), "exp_inf": (shape, 0)}

    def scalars(self, step: Tensor, dtype: np.dtype) -> Any:
        return self.learning_rate(step, dtype) / _one_minus_power(self.betas[0], astype(step + 1, dtype))

    def step(self, p: Tensor, g: Tensor, slots: Slots, scalars: Any) -> tuple[Tensor, Slots]:
        p, g = decayed(p, g, self.weight_decay)
        mean = _mix(self.betas[0], slots["exp_avg"], g)
        largest = maximum(self.betas[1] * slots["exp_inf"], abs(g) + self.eps)
        return p - scalars * mean / largest, {"exp_avg": mean, "exp_inf": largest}


@dataclass(frozen=True)
class NAdam(_Moments):
    """Adam with Nesterov's momentum, as ``torch.optim.NAdam``.

    Args:
        lr: see :class:`Rule`.
        betas: as for :class:`Adam`.
        eps: is added to the root.
        weight_decay: times the parameter, is added to its gradient.
        momentum_decay: how fast the momentum approaches ``betas[0]``.
        decoupled_weight_decay: whether ``weight_decay`` acts on the parameter as in :class:`AdamW`.
        maximize: see :class:`Rule`.

    Raises:
        ValueError: a beta outside [0, 1), or a negative hyperparameter.

    >>> w = Tensor([1.0])
    >>> nadam = NAdam(lr=0.25)
    >>> w, state = nadam.update(w, Tensor([3.0]), nadam.init(w))
    >>> round(state["mu_product"][""].item(), 3)  # PyTorch's scalar, kept for each parameter
    0.45
    """

    lr: Any = 2e-3
    momentum_decay: float = 4e-3
    decoupled_weight_decay: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require_not_negative(self, "momentum_decay")

    def slots(self, shape: tuple[int, ...]) -> dict[str, Any]:
        return {**super().slots(shape), "mu_product": ((), 1)}

    def scalars(self, step: Tensor, dtype: np.dtype) -> Any:
        count = astype(step + 1, dtype)
        mu, mu_next = (self.betas[0] * (1 - 0.5 * 0.96 ** (t * self.momentum_decay)) for t in (count, count + 1))
        return self.learning_rate(step, dtype), mu, mu_next, _one_minus_power(self.betas[1], count)

    def step(self, p: Tensor, g: Tensor, slots: Slots, scalars: Any) -> tuple[Tensor, Slots]:
        lr, mu, mu_next, correction = scalars
        p, g = decayed(p, g, self.weight_decay, lr, self.decoupled_weight_decay)
        mean, square = self.moments(g, slots)
        product = slots["mu_product"] * mu
        direction = (1 - mu) / (1 - product) * g + mu_next / (1 - product * mu_next) * mean
        p = p - lr * direction / (sqrt(square / correction) + self.eps)
        return p, {"exp_avg": mean, "exp_avg_sq": square, "mu_product": product}


@dataclass(frozen=True)
class RAdam(_Moments):
    """Adam that divides by the root only when its variance is tractable, as ``torch.optim.RAdam``.

    Args:
        lr: see :class:`Rule`.
        betas: as for :class:`Adam`.
        eps: is added to the root.
        weight_decay: times the parameter, is added to its gradient.
        decoupled_weight_decay: whether ``weight_decay`` acts on the parameter as in :class:`AdamW`.
        maximize: see :class:`Rule`.

    Raises:
        ValueError: a beta outside [0, 1), or a negative hyperparameter.

    >>> w = Tensor([1.0])
    >>> radam = RAdam(lr=0.25)
    >>> radam.update(w, Tensor([3.0]), radam.init(w))[0].tolist()  # like plain descent at first
    [0.25]
    """

    decoupled_weight_decay: bool = False

    def scalars(self, step: Tensor, dtype: np.dtype) -> Any:
        # In float64: the length of the average is a difference of numbers that are almost equal.
        mean, square = (_one_minus_power(beta, astype(step + 1, float64)) for beta in self.betas)
        longest = 2 / (1 - self.betas[1]) - 1
        length = longest - 2 * astype(step + 1, float64) * (1 - square) / square
        is_rectified = length > 5
        ratio = (length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)
        rectification = sqrt(where(is_rectified, ratio, 1) * square)
        lr = self.learning_rate(step, dtype)
        return lr, lr / astype(mean, dtype), is_rectified, astype(rectification, dtype)

    def step(self, p: Tensor, g: Tensor, slots: Slots, scalars: Any) -> tuple[Tensor, Slots]:
        lr, step_size, is_rectified, rectification = scalars
        p, g = decayed(p, g, self.weight_decay, lr, self.decoupled_weight_decay)
        mean, square = self.moments(g, slots)
        factor = where(is_rectified, rectification / (sqrt(square) + self.eps), 1)
        return p - step_size * mean * factor, {"exp_avg": mean, "exp_avg_sq": square}


def _mix(beta: float, mean: Tensor, x: Tensor) -> Tensor:
    return beta * mean + (1 - beta) * x


def _one_minus_power(base: float, exponent: Tensor) -> Any:
    """``1 - base ** exponent``, exact to the last bits where the power is close to 1."""
    return -expm1(exponent * math.log(base)) if base else 1.0
