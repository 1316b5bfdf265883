"""Learning rates as functions of the number of updates, with PyTorch's names, arguments and values.

A schedule is given to an optimizer as ``lr=``, which calls it in the compiled step with the step counter of its state.
In place of an optimizer a schedule takes the base learning rate. Called with a Python int, it gives a float, computed
in float64; with a tensor, a float32 tensor of that shape::

    schedule = optim.CosineAnnealingLR(0.1, T_max=100)
    optimizer = optim.SGD(lr=schedule, momentum=0.9)
    print(schedule(50))

Values are those of PyTorch after that many calls of ``scheduler.step()``.
"""

from __future__ import annotations

import math
import operator
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from volta_mlir.control import fori_loop
from volta_mlir.dtypes import float32, float64
from volta_mlir.errors import OptionError
from volta_mlir.functions import astype, cos, exp, floor, full_like, max, maximum, minimum, where
from volta_mlir.tensor import Tensor

#: What an optimizer takes for a learning rate: a function of a Python int or an int32 tensor.
LearningRate = Callable[[Any], Any]


class Schedule(ABC):
    """Base of the schedules: frozen dataclasses that are called with a number of updates."""

    @abstractmethod
    def __call__(self, step: int | Tensor) -> Any:
        """The learning rate after a number of updates.

        Args:
            step: an int, or a tensor of integers of any shape.

        >>> from volta_mlir import arange, optim
        >>> schedule = optim.StepLR(0.5, step_size=2, gamma=0.5)
        >>> schedule(3), schedule(arange(5)).tolist()
        (0.25, [0.5, 0.5, 0.25, 0.25, 0.125])
        """


class Formula(Schedule):
    """Base of the schedules that are one formula for a tensor of steps."""

    def __call__(self, step: int | Tensor) -> Any:
        if isinstance(step, Tensor):
            return self.value(astype(step, float32))
        return self.value(Tensor(operator.index(step), float64)).item()

    @abstractmethod
    def value(self, t: Tensor) -> Tensor:
        """The learning rate after ``t`` updates, whole numbers in the dtype to compute in."""


@dataclass(frozen=True)
class FactorSchedule(Formula):
    """Base of the schedules that multiply the base learning rate with a factor; they can be chained."""

    lr: float

    def value(self, t: Tensor) -> Tensor:
        return self.lr * self.scale(t)

    @abstractmethod
    def scale(self, t: Tensor) -> Tensor:
        """The factor after ``t`` updates."""


@dataclass(frozen=True)
class StepLR(FactorSchedule):
    """Multiplies with ``gamma`` every ``step_size`` steps, as PyTorch's.

    Args:
        lr: the base learning rate.
        step_size: the number of steps.
        gamma: the factor.

    Raises:
        ValueError: ``step_size`` is not a positive integer.

    >>> StepLR(1.0, step_size=10, gamma=0.5)(25)
    0.25
    """

    step_size: int
    gamma: float = 0.1

    def __post_init__(self) -> None:
        _require_positive(step_size=self.step_size)

    def scale(self, t: Tensor) -> Tensor:
        return _power(self.gamma, floor(t / self.step_size))


@dataclass(frozen=True)
class MultiStepLR(FactorSchedule):
    """Multiplies with ``gamma`` at each milestone, as PyTorch's.

    Args:
        lr: the base learning rate.
        milestones: steps, 0 or later; one that occurs twice counts twice.
        gamma: the factor.

    >>> [MultiStepLR(1.0, milestones=[2, 4], gamma=0.5)(t) for t in range(5)]
    [1.0, 1.0, 0.5, 0.5, 0.25]
    """

    milestones: Sequence[int]
    gamma: float = 0.1

    def __post_init__(self) -> None:
        object.__setattr__(self, "milestones", tuple(self.milestones))

    def scale(self, t: Tensor) -> Tensor:
        count = full_like(t, 0)
        for milestone in self.milestones:
            count = count + where(t >= milestone, 1, 0)
        return _power(self.gamma, count)


@dataclass(frozen=True)
class ConstantLR(FactorSchedule):
    """``factor`` times the base learning rate for ``total_iters`` steps, then all of it, as PyTorch's.

    Args:
        lr: the base learning rate.
        factor: at least 0, at most 1.
        total_iters: the number of steps.

    Raises:
        ValueError: ``factor`` is out of range, or ``total_iters`` is not a positive integer.

    >>> [ConstantLR(1.0, factor=0.5, total_iters=2)(t) for t in range(4)]
    [0.5, 0.5, 1.0, 1.0]
    """

    factor: float = 1 / 3
    total_iters: int = 5

    def __post_init__(self) -> None:
        _require_within_one("factor", self.factor)
        _require_positive(total_iters=self.total_iters)

    def scale(self, t: Tensor) -> Tensor:
        return where(t < self.total_iters, self.factor, full_like(t, 1))


@dataclass(frozen=True)
class LinearLR(FactorSchedule):
    """A factor of the base learning rate that changes linearly for ``total_iters`` steps, as PyTorch's.

    Args:
        lr: the base learning rate.
        start_factor: the first factor; above 0, at most 1.
        end_factor: the last factor; at least 0, at most 1.
        total_iters: the number of steps.

    Raises:
        ValueError: a factor is out of range, or ``total_iters`` is not a positive integer.

    >>> [LinearLR(1.0, start_factor=0.5, total_iters=2)(t) for t in range(4)]
    [0.5, 0.75, 1.0, 1.0]
    """

    start_factor: float = 1 / 3
    end_factor: float = 1.0
    total_iters: int = 5

    def __post_init__(self) -> None:
        if not 0 < self.start_factor <= 1:
            raise OptionError(
                "Starting multiplicative factor expected to be greater than 0 and less or equal to 1, got"
                f" {self.start_factor}"
            )
        _require_within_one("end_factor", self.end_factor)
        _require_positive(total_iters=self.total_iters)

    def scale(self, t: Tensor) -> Tensor:
        return _between(self.start_factor, self.end_factor, minimum(t, self.total_iters) / self.total_iters)


@dataclass(frozen=True)
class ExponentialLR(FactorSchedule):
    """Multiplies with ``gamma`` at every step, as PyTorch's.

    Args:
        lr: the base learning rate.
        gamma: the factor.

    >>> ExponentialLR(1.0, gamma=0.5)(3)
    0.125
    """

    gamma: float

    def scale(self, t: Tensor) -> Tensor:
        return _power(self.gamma, t)


@dataclass(frozen=True)
class PolynomialLR(FactorSchedule):
    """Falls to 0 in ``total_iters`` steps as a power of the steps that remain, as PyTorch's.

    Args:
        lr: the base learning rate.
        total_iters: the number of steps.
        power: the power.

    Raises:
        ValueError: ``total_iters`` is not a positive integer.

    >>> [PolynomialLR(1.0, total_iters=2, power=2.0)(t) for t in range(4)]
    [1.0, 0.25, 0.0, 0.0]
    """

    total_iters: int = 5
    power: float = 1.0

    def __post_init__(self) -> None:
        _require_positive(total_iters=self.total_iters)

    def scale(self, t: Tensor) -> Tensor:
        return (1 - minimum(t, self.total_iters) / self.total_iters) ** self.power


@dataclass(frozen=True)
class LambdaLR(Schedule):
    """The base learning rate times a function of the step, as PyTorch's.

    Args:
        lr: the base learning rate.
        lr_lambda: takes an int or a tensor, as the schedule does.

    >>> LambdaLR(1.0, lr_lambda=lambda step: 0.5**step)(3)
    0.125
    """

    lr: float
    lr_lambda: LearningRate

    def __call__(self, step: int | Tensor) -> Any:
        return self.lr * self.lr_lambda(step)


@dataclass(frozen=True)
class MultiplicativeLR(Schedule):
    """The base learning rate times the product of a function of all steps from the first on, as PyTorch's.

    The value after ``t`` steps takes a loop over them, at every step: where the product is known, LambdaLR costs less.

    Args:
        lr: the base learning rate.
        lr_lambda: the factor of one step; takes an int or an int32 tensor of rank 0, as the schedule does.

    >>> MultiplicativeLR(1.0, lr_lambda=lambda step: 0.5)(3)
    0.125
    """

    lr: float
    lr_lambda: LearningRate

    def __call__(self, step: int | Tensor) -> Any:
        if not isinstance(step, Tensor):
            return self.lr * math.prod(self.lr_lambda(i) for i in range(1, step + 1))

        def multiplied(i: Tensor, product: Tensor) -> Tensor:
            return where(i <= step, product * self.lr_lambda(i), product)

        return fori_loop(1, 1 + max(step), multiplied, full_like(step, self.lr, float32))


@dataclass(frozen=True)
class CosineAnnealingLR(Formula):
    """Follows a cosine down to ``eta_min`` in ``T_max`` steps, then up again, and so on, as PyTorch's.

    Args:
        lr: the base learning rate.
        T_max: the number of steps.
        eta_min: the least learning rate.

    Raises:
        ValueError: ``T_max`` is not a positive integer.

    >>> [round(CosineAnnealingLR(1.0, T_max=2)(t), 6) for t in range(5)]
    [1.0, 0.5, 0.0, 0.5, 1.0]
    """

    lr: float
    T_max: int
    eta_min: float = 0.0

    def __post_init__(self) -> None:
        _require_positive(T_max=self.T_max)

    def value(self, t: Tensor) -> Tensor:
        # Whole periods are taken off: the cosine of a large float32 is inexact.
        return _cosine(self.lr, self.eta_min, t % (2 * self.T_max) / self.T_max)


@dataclass(frozen=True)
class CosineAnnealingWarmRestarts(Formula):
    """Follows a cosine down to ``eta_min``, again and again, as PyTorch's.

    Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", 2017.

    Args:
        lr: the base learning rate.
        T_0: the number of steps to the first restart.
        T_mult: how many times longer each period is than the one before.
        eta_min: the least learning rate.

    Raises:
        ValueError: ``T_0`` or ``T_mult`` is not a positive integer.

    >>> [round(CosineAnnealingWarmRestarts(1.0, T_0=1, T_mult=2)(t), 6) for t in range(5)]
    [1.0, 1.0, 0.5, 1.0, 0.853553]
    """

    lr: float
    T_0: int
    T_mult: int = 1
    eta_min: float = 0.0

    def __post_init__(self) -> None:
        _require_positive(T_0=self.T_0, T_mult=self.T_mult)

    def value(self, t: Tensor) -> Tensor:
        if self.T_mult == 1:
            return _cosine(self.lr, self.eta_min, t % self.T_0 / self.T_0)
        # The periods start at T_0 (1 + T_mult + T_mult² + …); a logarithm would miss some by rounding.
        start, began = self.T_0, full_like(t, 0)
        while start < _STEPS:
            began = where(t >= start, start, began)
            start = self.T_0 + self.T_mult * start
        return _cosine(self.lr, self.eta_min, (t - began) / (self.T_0 + (self.T_mult - 1) * began))


@dataclass(frozen=True)
class WarmupCosineLR(Formula):
    """Rises linearly to the base learning rate, then follows a cosine down to ``min_lr``, and stays there.

    ``lr * (t + 1) / (warmup_steps + 1)`` for ``t < warmup_steps``; the cosine ends at ``t = total_steps``. PyTorch does
    not have it; it is what most language models are trained with.

    Args:
        lr: the base learning rate.
        warmup_steps: the number of steps of the rise; 0 for none.
        total_steps: the number of steps of rise and fall.
        min_lr: the last learning rate.

    Raises:
        ValueError: not ``0 <= warmup_steps < total_steps``.

    >>> [round(WarmupCosineLR(1.0, warmup_steps=1, total_steps=3)(t), 6) for t in range(5)]
    [0.5, 1.0, 0.5, 0.0, 0.0]
    """

    lr: float
    warmup_steps: int
    total_steps: int
    min_lr: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.warmup_steps < self.total_steps:
            raise OptionError(
                "Expected 0 <= warmup_steps < total_steps, but got"
                f" warmup_steps={self.warmup_steps}, total_steps={self.total_steps}"
            )

    def value(self, t: Tensor) -> Tensor:
        warmup = self.lr * (t + 1) / (self.warmup_steps + 1)
        progress = (minimum(t, self.total_steps) - self.warmup_steps) / (self.total_steps - self.warmup_steps)
        return where(t < self.warmup_steps, warmup, _cosine(self.lr, self.min_lr, progress))


@dataclass(frozen=True)
class OneCycleLR(Formula):
    """Rises to ``max_lr`` and falls far below where it began, as PyTorch's.

    Smith and Topin, "Super-Convergence: Very Fast Training of Neural Networks Using Large Learning Rates", 2018.

    Args:
        max_lr: the largest learning rate.
        total_steps: the number of steps; or else ``epochs`` and ``steps_per_epoch``.
        epochs: the number of epochs.
        steps_per_epoch: the number of steps in each.
        pct_start: the fraction of the steps that rise.
        anneal_strategy: "cos" or "linear".
        cycle_momentum: only False, since it is the learning rate alone that is scheduled; True is PyTorch's default.
        div_factor: the first learning rate is ``max_lr / div_factor``.
        final_div_factor: the last one is the first one divided by this.
        three_phase: whether to fall to the first learning rate as fast as it rose, and then to the last one.

    Raises:
        ValueError: an argument is out of its range; or, as in PyTorch, an int beyond ``total_steps`` is asked for.
            With a tensor, the learning rate stays as it is there.

    >>> schedule = OneCycleLR(1.0, total_steps=11, pct_start=0.5, anneal_strategy="linear", div_factor=5.0)
    >>> [round(schedule(t), 3) for t in (0, 4, 5, 10)]
    [0.2, 0.911, 0.909, 0.0]
    """

    max_lr: float
    total_steps: int | None = None
    epochs: int | None = None
    steps_per_epoch: int | None = None
    pct_start: float = 0.3
    anneal_strategy: str = "cos"
    cycle_momentum: bool = False
    div_factor: float = 25.0
    final_div_factor: float = 1e4
    three_phase: bool = False

    def __post_init__(self) -> None:
        if self.total_steps is not None:
            _require_positive(total_steps=self.total_steps)
        elif self.epochs is not None and self.steps_per_epoch is not None:
            _require_positive(epochs=self.epochs, steps_per_epoch=self.steps_per_epoch)
            object.__setattr__(self, "total_steps", self.epochs * self.steps_per_epoch)
        else:
            raise OptionError("You must define either total_steps OR (epochs AND steps_per_epoch)")
        if not 0 <= self.pct_start <= 1:
            raise OptionError(f"Expected float between 0 and 1 pct_start, but got {self.pct_start}")
        if self.anneal_strategy not in ("cos", "linear"):
            raise OptionError(f"anneal_strategy must be one of 'cos' or 'linear', instead got {self.anneal_strategy}")
        _refuse_cycle_momentum(self.cycle_momentum)

    def __call__(self, step: int | Tensor) -> Any:
        assert self.total_steps is not None  # for mypy: see __post_init__
        if not isinstance(step, Tensor) and step > self.total_steps:
            raise OptionError(f"Tried to step {step} times. The specified number of total steps is {self.total_steps}")
        return super().__call__(step)

    def value(self, t: Tensor) -> Tensor:
        assert self.total_steps is not None
        t = minimum(t, self.total_steps)
        first = self.max_lr / self.div_factor
        last = first / self.final_div_factor
        top = self.pct_start * self.total_steps - 1
        phases = [(top, first, self.max_lr), (self.total_steps - 1, self.max_lr, last)]
        if self.three_phase:
            phases[1:] = [(2 * top, self.max_lr, first), (self.total_steps - 1, first, last)]
        anneal = _cosine if self.anneal_strategy == "cos" else _between
        begin, result = 0.0, None
        for end, low, high in phases:
            # A phase without steps is never reached, and its slope does not matter.
            lr = anneal(low, high, (t - begin) / ((end - begin) or 1))
            result = lr if result is None else where(t > begin, lr, result)
            begin = end
        assert result is not None
        return result


@dataclass(frozen=True)
class CyclicLR(Formula):
    """Rises from ``base_lr`` to ``max_lr`` and falls again, in cycles, as PyTorch's.

    Smith, "Cyclical Learning Rates for Training Neural Networks", 2017.

    Args:
        base_lr: the least learning rate.
        max_lr: the largest one, before scaling.
        step_size_up: the number of steps that rise.
        step_size_down: the number of steps that fall; None for as many.
        mode: "triangular" for equal cycles, "triangular2" for cycles that are half as high each time, "exp_range" for
            ones that fade by ``gamma`` at each step.
        gamma: the factor of "exp_range".
        scale_fn: a factor in place of ``mode``'s: takes a float tensor.
        scale_mode: whether ``scale_fn`` takes the number of the "cycle", from 1, or that of the step ("iterations").
        cycle_momentum: only False, since it is the learning rate alone that is scheduled; True is PyTorch's default.

    Raises:
        ValueError: an argument is out of its range.

    >>> [CyclicLR(1.0, 2.0, step_size_up=2, mode="triangular2")(t) for t in range(7)]
    [1.0, 1.5, 2.0, 1.5, 1.0, 1.25, 1.5]
    """

    base_lr: float
    max_lr: float
    step_size_up: int = 2000
    step_size_down: int | None = None
    mode: str = "triangular"
    gamma: float = 1.0
    scale_fn: Callable[[Tensor], Any] | None = None
    scale_mode: str = "cycle"
    cycle_momentum: bool = False

    def __post_init__(self) -> None:
        _require_positive(step_size_up=self.step_size_up)
        if self.step_size_down is not None:
            _require_positive(step_size_down=self.step_size_down)
        if self.mode not in ("triangular", "triangular2", "exp_range") and self.scale_fn is None:
            raise OptionError(
                f"mode is invalid and scale_fn is None: {self.mode}; expected 'triangular', 'triangular2' or"
                " 'exp_range'"
            )
        if self.scale_mode not in ("cycle", "iterations"):
            raise OptionError(f"scale_mode must be one of 'cycle' or 'iterations', instead got {self.scale_mode}")
        _refuse_cycle_momentum(self.cycle_momentum)

    def value(self, t: Tensor) -> Tensor:
        up = self.step_size_up
        down = up if self.step_size_down is None else self.step_size_down
        position = t % (up + down)
        height = where(position <= up, position / up, (up + down - position) / down)
        return self.base_lr + (self.max_lr - self.base_lr) * height * self._scale(t, floor(t / (up + down)) + 1)

    def _scale(self, t: Tensor, cycle: Tensor) -> Any:
        if self.scale_fn is not None:
            return self.scale_fn(cycle if self.scale_mode == "cycle" else t)
        if self.mode == "exp_range":
            return _power(self.gamma, t)
        return 0.5 ** (cycle - 1) if self.mode == "triangular2" else 1.0


@dataclass(frozen=True)
class SequentialLR(Schedule):
    """One schedule after the other, each from its beginning, as PyTorch's.

    Args:
        schedulers: schedules, or other functions of a step.
        milestones: the steps at which the second and later ones begin.

    Raises:
        ValueError: there is not one milestone less than schedules.

    >>> warmup, decay = LinearLR(1.0, start_factor=0.5, total_iters=2), ExponentialLR(1.0, gamma=0.5)
    >>> [SequentialLR([warmup, decay], milestones=[2])(t) for t in range(5)]
    [0.5, 0.75, 1.0, 0.5, 0.25]
    """

    schedulers: Sequence[LearningRate]
    milestones: Sequence[int]

    def __post_init__(self) -> None:
        _require_schedules("SequentialLR", self.schedulers)
        if len(self.milestones) != len(self.schedulers) - 1:
            raise OptionError(
                "Sequential Schedulers expects number of schedulers provided to be one more than the number of"
                f" milestone points, but got number of schedulers {len(self.schedulers)} and the number of milestones"
                f" to be equal to {len(self.milestones)}"
            )
        object.__setattr__(self, "schedulers", tuple(self.schedulers))
        object.__setattr__(self, "milestones", tuple(self.milestones))

    def __call__(self, step: int | Tensor) -> Any:
        if not isinstance(step, Tensor):
            index = bisect_right(self.milestones, step)
            return self.schedulers[index](step - (self.milestones[index - 1] if index else 0))
        lr = self.schedulers[0](step)
        for milestone, schedule in zip(self.milestones, self.schedulers[1:], strict=True):
            lr = where(step >= milestone, schedule(maximum(step - milestone, 0)), lr)
        return lr


@dataclass(frozen=True)
class ChainedScheduler(Formula):
    """Several schedules at once, as PyTorch's: their factors are multiplied.

    Args:
        schedulers: schedules that multiply the base learning rate (StepLR, MultiStepLR, ConstantLR, LinearLR,
            ExponentialLR, PolynomialLR), which must be the same for all. What others give in PyTorch's chain depends
            on their order and on the steps so far; multiply them in a function of the step instead.

    Raises:
        ValueError: there are no schedules, or their base learning rates differ.
        TypeError: a schedule of another kind.

    >>> chained = ChainedScheduler([ConstantLR(1.0, factor=0.5, total_iters=2), ExponentialLR(1.0, gamma=0.5)])
    >>> [chained(t) for t in range(4)]
    [0.5, 0.25, 0.25, 0.125]
    """

    schedulers: Sequence[FactorSchedule]

    def __post_init__(self) -> None:
        _require_schedules("ChainedScheduler", self.schedulers)
        for schedule in self.schedulers:
            if not isinstance(schedule, FactorSchedule):
                raise TypeError(
                    f"ChainedScheduler multiplies factors of the base learning rate, which {type(schedule).__name__}"
                    " does not have; multiply them in a function of the step, or use SequentialLR"
                )
        rates = [schedule.lr for schedule in self.schedulers]
        if len(set(rates)) > 1:
            raise OptionError(f"ChainedScheduler expects all schedulers to have the same base lr, but got {rates}")
        object.__setattr__(self, "schedulers", tuple(self.schedulers))

    def value(self, t: Tensor) -> Tensor:
        return self.schedulers[0].lr * math.prod((s.scale(t) for s in self.schedulers), start=full_like(t, 1))


@dataclass(frozen=True)
class ReduceLROnPlateau:
    """Reduces the learning rate when a metric has stopped improving, as PyTorch's.

    It depends on more than the step, so it has a state, ``{"lr", "best", "num_bad_epochs", "cooldown_counter"}``. The
    learning rate in it is given to the optimizer, and :meth:`update` is called with the metric, both in the compiled
    step or outside of it::

        plateau = optim.ReduceLROnPlateau(lr=0.1, patience=3)
        schedule = plateau.init()

        @volta.jit(donate=("model", "state", "schedule"))
        def step(model, state, schedule, x, y):
            loss, gradients = volta.value_and_grad(loss_of)(model, x, y)
            model, state = optim.SGD(lr=schedule["lr"]).update(model, gradients, state)
            return model, state, plateau.update(loss, schedule), loss

    Args:
        lr: the first learning rate.
        mode: "min" where the metric shall fall, "max" where it shall rise.
        factor: what the learning rate is multiplied with; below 1.
        patience: how many updates without improvement are allowed before the learning rate is reduced.
        threshold: by how much the metric must beat the best one.
        threshold_mode: "rel" for a fraction of the best metric, "abs" for a difference.
        cooldown: after a reduction, for so many updates none counts as bad.
        min_lr: the least learning rate.
        eps: a reduction by no more than this is not made.

    Raises:
        ValueError: an argument is out of its range.

    >>> plateau = ReduceLROnPlateau(lr=1.0, factor=0.5, patience=1)
    >>> state = plateau.init()
    >>> for loss in (3.0, 2.0, 2.5, 2.5):
    ...     state = plateau.update(loss, state)
    >>> state["lr"].item(), state["best"].item()
    (0.5, 2.0)
    """

    lr: float
    mode: str = "min"
    factor: float = 0.1
    patience: int = 10
    threshold: float = 1e-4
    threshold_mode: str = "rel"
    cooldown: int = 0
    min_lr: float = 0.0
    eps: float = 1e-8

    def __post_init__(self) -> None:
        if self.factor >= 1:
            raise OptionError(f"Factor should be < 1.0, got {self.factor}")
        if self.mode not in ("min", "max"):
            raise OptionError(f"mode {self.mode} is unknown! It is 'min' or 'max'")
        if self.threshold_mode not in ("rel", "abs"):
            raise OptionError(f"threshold mode {self.threshold_mode} is unknown! It is 'rel' or 'abs'")

    def init(self) -> dict[str, Tensor]:
        """The state before the first metric."""
        return {
            "lr": Tensor(float(self.lr)),
            "best": Tensor(math.inf if self.mode == "min" else -math.inf),
            "num_bad_epochs": Tensor(0),
            "cooldown_counter": Tensor(0),
        }

    def update(self, metric: Any, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """The state after one more metric.

        Args:
            metric: a number or a scalar tensor.
            state: from :meth:`init` or from the last update.
        """
        metric, best, lr = astype(metric, float32), state["best"], state["lr"]
        is_better = self._is_better(metric, best)
        cools = state["cooldown_counter"] > 0
        bad = where(is_better | cools, 0, state["num_bad_epochs"] + 1)
        is_reduced = bad > self.patience
        new_lr = maximum(lr * self.factor, self.min_lr)
        return {
            "lr": where(is_reduced & (lr - new_lr > self.eps), new_lr, lr),
            "best": where(is_better, metric, best),
            "num_bad_epochs": where(is_reduced, 0, bad),
            "cooldown_counter": where(is_reduced, self.cooldown, maximum(state["cooldown_counter"] - 1, 0)),
        }

    def _is_better(self, metric: Tensor, best: Tensor) -> Tensor:
        sign = -1 if self.mode == "min" else 1
        margin = best * (1 + sign * self.threshold) if self.threshold_mode == "rel" else best + sign * self.threshold
        return metric < margin if self.mode == "min" else metric > margin


#: More steps than an int32 counts.
_STEPS = 2**31


def _power(base: float, exponent: Tensor) -> Tensor:
    # What is lost when the base is rounded to the exponent's dtype would be as many times as large as the exponent.
    rounded = np.asarray(base, exponent.dtype).item()
    power = rounded**exponent
    return power if rounded == base else power * exp(exponent * math.log(base / rounded))


def _between(start: float, end: float, fraction: Tensor) -> Tensor:
    return start * (1 - fraction) + end * fraction


def _cosine(start: float, end: float, fraction: Tensor) -> Tensor:
    """From ``start`` to ``end`` along half a period of the cosine."""
    return end + (start - end) * ((1 + cos(math.pi * fraction)) / 2)


def _require_positive(**values: int) -> None:
    for name, value in values.items():
        if not isinstance(value, int) or value < 1:
            raise OptionError(f"Expected positive integer {name}, but got {value}")


def _require_within_one(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise OptionError(f"{name}: multiplicative factor expected to be between 0 and 1, got {value}")


def _require_schedules(name: str, schedulers: Sequence[Any]) -> None:
    if not schedulers:
        raise OptionError(f"{name} expects at least one scheduler, but got no scheduler.")


def _refuse_cycle_momentum(cycle_momentum: bool) -> None:
    if cycle_momentum:
        raise OptionError(
            "cycle_momentum is not supported: a schedule gives a learning rate; pass cycle_momentum=False"
        )
