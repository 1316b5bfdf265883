"""Adagrad, Adadelta, RMSprop and Adafactor: steps divided by the root of squared gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from volta_mlir.errors import OptionError
from volta_mlir.functions import astype, maximum, mean, minimum, rsqrt, sqrt, square
from volta_mlir.optim.optimizer import Rule, Slots, decayed, require, require_not_negative
from volta_mlir.tensor import Tensor


@dataclass(frozen=True)
class Adagrad(Rule):
    """Divides by the root of the sum of squared gradients, as ``torch.optim.Adagrad``.

    Args:
        lr: see :class:`Rule`.
        lr_decay: after ``t`` updates the learning rate is divided by ``1 + t * lr_decay``.
        weight_decay: times the parameter, is added to its gradient.
        initial_accumulator_value: what the sums start with.
        eps: is added to the root.
        maximize: see :class:`Rule`.

    Raises:
        ValueError: a negative hyperparameter.

    >>> w = Tensor([1.0])
    >>> adagrad = Adagrad(lr=0.25)
    >>> adagrad.update(w, Tensor([3.0]), adagrad.init(w))[1]["sum"][""].tolist()
    [9.0]
    """

    lr: Any = 1e-2
    lr_decay: float = 0.0
    weight_decay: float = 0.0
    initial_accumulator_value: float = 0.0
    eps: float = 1e-10

    def __post_init__(self) -> None:
        super().__post_init__()
        require_not_negative(self, "lr_decay", "weight_decay", "initial_accumulator_value", "eps")

    def slots(self, shape: tuple[int, ...]) -> dict[str, Any]:
        return {"sum": (shape, self.initial_accumulator_value)}

    def scalars(self, step: Tensor, dtype: np.dtype) -> Any:
        return self.learning_rate(step, dtype) / (1 + self.lr_decay * astype(step, dtype))

    def step(self, p: Tensor, g: Tensor, slots: Slots, scalars: Any) -> tuple[Tensor, Slots]:
        p, g = decayed(p, g, self.weight_decay)
        total = slots["sum"] + g * g
        return p - scalars * g / (sqrt(total) + self.eps), {"sum": total}


@dataclass(frozen=True)
class Adadelta(Rule):
    """Steps as large as the mean of those before, as ``torch.optim.Adadelta``.

    Args:
        lr: see :class:`Rule`.
        rho: how much of the mean squares of gradients and of steps is kept at each update.
        eps: is added to the mean squares.
        weight_decay: times the parameter, is added to its gradient.
        maximize: see :class:`Rule`.

    Raises:
        ValueError: ``rho`` outside [0, 1], or a negative hyperparameter.

    >>> w = Tensor([1.0])
    >>> adadelta = Adadelta(rho=0.75)
    >>> adadelta.update(w, Tensor([4.0]), adadelta.init(w))[1]["square_avg"][""].tolist()
    [4.0]
    """

    lr: Any = 1.0
    rho: float = 0.9
    eps: float = 1e-6
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.rho <= 1, "rho value", self.rho, "at least 0 and at most 1")
        require_not_negative(self, "eps", "weight_decay")

    def slots(self, shape: tuple[int, ...]) -> dict[str, Any]:
        return {"square_avg": (shape, 0), "acc_delta": (shape, 0)}

    def scalars(self, step: Tensor, dtype: np.dtype) -> Any:
        return self.learning_rate(step, dtype)

    def step(self, p: Tensor, g: Tensor, slots: Slots, scalars: Any) -> tuple[Tensor, Slots]:
        p, g = decayed(p, g, self.weight_decay)
        average = self.rho * slots["square_avg"] + (1 - self.rho) * (g * g)
        delta = sqrt(slots["acc_delta"] + self.eps) / sqrt(average + self.eps) * g
        deltas = self.rho * slots["acc_delta"] + (1 - self.rho) * (delta * delta)
        return p - scalars * delta, {"square_avg": average, "acc_delta": deltas}


@dataclass(frozen=True)
class RMSprop(Rule):
    """Divides by the root of the mean squared gradient, as ``torch.optim.RMSprop``.

    Args:
        lr: see :class:`Rule`.
        alpha: how much of the mean is kept at each update.
        eps: is added to the root.
        weight_decay: times the parameter, is added to its gradient.
        momentum: how much of the last update's direction is kept; 0 keeps none.
        centered: whether to divide by an estimate of the standard deviation instead.
        maximize: see :class:`Rule`.

    Raises:
        ValueError: a negative hyperparameter.

    >>> w = Tensor([1.0])
    >>> rmsprop = RMSprop(alpha=0.75)
    >>> rmsprop.update(w, Tensor([4.0]), rmsprop.init(w))[1]["square_avg"][""].tolist()
    [4.0]
    """

    lr: Any = 1e-2
    alpha: float = 0.99
    eps: float = 1e-8
    weight_decay: float = 0.0
    momentum: float = 0.0
    centered: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require_not_negative(self, "alpha", "eps", "weight_decay", "momentum")

    def slots(self, shape: tuple[int, ...]) -> dict[str, Any]:
        used = {"square_avg": True, "grad_avg": self.centered, "momentum_buffer": self.momentum > 0}
        return {slot: (shape, 0) for slot, is_used in used.items() if is_used}

    def scalars(self, step: Tensor, dtype: np.dtype) -> Any:
        return self.learning_rate(step, dtype)

    def step(self, p: Tensor, g: Tensor, slots: Slots, scalars: Any) -> tuple[Tensor, Slots]:
        p, g = decayed(p, g, self.weight_decay)
        variance = self.alpha * slots["square_avg"] + (1 - self.alpha) * (g * g)
        kept = {"square_avg": variance}
        if self.centered:
            average = kept["grad_avg"] = self.alpha * slots["grad_avg"] + (1 - self.alpha) * g
            variance = variance - average * average
        direction = g / (sqrt(variance) + self.eps)
        if self.momentum > 0:
            direction = kept["momentum_buffer"] = self.momentum * slots["momentum_buffer"] + direction
        return p - scalars * direction, kept


@dataclass(frozen=True)
class Adafactor(Rule):
    """Divides by the root of a mean square that is kept as a row and a column, as ``torch.optim.Adafactor``.

    For a matrix of m × n parameters, and for each matrix of a tensor of more dimensions, it keeps m + n numbers.
    Shazeer and Stern, "Adafactor: Adaptive Learning Rates with Sublinear Memory Cost", 2018.

    Args:
        lr: see :class:`Rule`. The largest relative step, which falls with the root of the number of updates; and the
            factor of the weight decay.
        beta2_decay: the power of the number of updates with which the newest gradient's weight falls.
        eps: the least mean square root, None for the precision of the dtype of the arithmetic; and the least root mean
            square of a parameter that its step is relative to.
        d: the root mean square of the update that it is limited to.
        weight_decay: times ``lr`` and the parameter, is subtracted from the parameter.
        maximize: see :class:`Rule`.

    Raises:
        ValueError: a positive ``beta2_decay``, ``d`` below 1, or a negative other hyperparameter.

    >>> from volta_mlir import ones
    >>> state = Adafactor().init({"weight": ones((3, 4))})
    >>> state["row_var"]["weight"].shape, state["col_var"]["weight"].shape
    ((3, 1), (1, 4))
    """

    lr: Any = 1e-2
    beta2_decay: float = -0.8
    eps: tuple[float | None, float] = (None, 1e-3)
    d: float = 1.0
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least_zero = {"epsilon1": self.eps[0] or 0.0, "epsilon2": self.eps[1], "weight_decay": self.weight_decay}
        for name, value in at_least_zero.items():
            if not value >= 0:
                raise OptionError(f"{name} should be >= 0 but is: {value}")
        if not self.beta2_decay <= 0:
            raise OptionError(f"beta2_decay should be <= 0 but is: {self.beta2_decay}")
        if not self.d >= 1:
            raise OptionError(f"Clipping threshold d should be >= 1 but is: {self.d}")

    def slots(self, shape: tuple[int, ...]) -> dict[str, Any]:
        if len(shape) < 2:
            return {"variance": (shape, 0)}
        return {"row_var": ((*shape[:-1], 1), 0), "col_var": ((*shape[:-2], 1, shape[-1]), 0)}

    def scalars(self, step: Tensor, dtype: np.dtype) -> Any:
        count = astype(step + 1, dtype)
        lr = self.learning_rate(step, dtype)
        return lr, minimum(lr, rsqrt(count)), count**self.beta2_decay

    def step(self, p: Tensor, g: Tensor, slots: Slots, scalars: Any) -> tuple[Tensor, Slots]:
        lr, relative_step, weight = scalars
        least = float(np.finfo(p.dtype).eps) if self.eps[0] is None else self.eps[0]
        step_size = relative_step * maximum(self.eps[1], sqrt(mean(square(p))))
        p, g = decayed(p, g, self.weight_decay, lr, decoupled=True)
        squares = square(g)
        if g.ndim < 2:
            variance = slots["variance"] + weight * (squares - slots["variance"])
            kept = {"variance": variance}
        else:
            row = slots["row_var"] + weight * (mean(squares, -1, keepdims=True) - slots["row_var"])
            col = slots["col_var"] + weight * (mean(squares, -2, keepdims=True) - slots["col_var"])
            kept = {"row_var": row, "col_var": col}
            variance = row * col / maximum(mean(row, -2, keepdims=True), least)
        update = g * rsqrt(maximum(variance, least * least))
        scale = step_size / maximum(1, sqrt(mean(square(update))) / self.d)
        return p - scale * update, kept
