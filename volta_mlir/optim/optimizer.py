"""What optimizers are: pure functions of parameters, gradients and state."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from volta_mlir.errors import OptionError, ShapeError
from volta_mlir.functions import astype, broadcast_to, full, reshape
from volta_mlir.functions.common import as_tensor
from volta_mlir.optim.parameters import for_parameter, replaced, trainable, wide, with_gradients
from volta_mlir.tensor import Tensor

State = dict[str, Any]
#: What an optimizer keeps of one parameter, by PyTorch's names.
Slots = dict[str, Tensor]


class Optimizer(ABC):
    """Base of the optimizers: frozen dataclasses, which are constants of the program, with two pure functions.

    The state is a tree of dicts and tensors whose structure, shapes and dtypes never change, so that it can be
    donated, saved, and read.
    """

    @abstractmethod
    def init(self, params: Any) -> State:
        """The state before the first update.

        Args:
            params: a Module, or any tree of tensors. There is state for trainable parameters and for floating-point
                tensors outside of modules; a tied one has it once, under its first name.

        >>> from volta_mlir import nn, optim
        >>> state = optim.Adam().init(nn.Linear(3, 2))
        >>> state["step"].item(), state["exp_avg"]["weight"].shape
        (0, (2, 3))
        """

    @abstractmethod
    def update(self, params: Any, grads: Any, state: State) -> tuple[Any, State]:
        """The parameters after one step, and the state for the next.

        Args:
            params: the tree that the state was made for.
            grads: a tree of the same structure, as ``grad`` returns it. Where it holds None the parameter stays as it
                is; tied parameters are updated once and stay tied.
            state: from :meth:`init` or from the last update.

        Raises:
            ShapeError: ``grads`` or ``state`` does not fit ``params``; the message names the parameter.

        >>> import volta_mlir as volta
        >>> from volta_mlir import optim
        >>> sgd = optim.SGD(lr=0.5)
        >>> w = volta.Tensor([1.0, 2.0])
        >>> w, state = sgd.update(w, volta.Tensor([2.0, 2.0]), sgd.init(w))
        >>> w.tolist(), state["step"].item()
        ([0.0, 1.0], 1)
        """


class PerParameter(Optimizer):
    """An optimizer that updates every parameter on its own, by the rule that :meth:`rule` names.

    Its state is ``{"step": the number of updates so far, slot: {dotted name: tensor}}``. Arithmetic and state are in
    float32 or wider; the parameters keep their dtypes.
    """

    @abstractmethod
    def rule(self, name: str, p: Tensor) -> Rule | None:
        """What updates a parameter; None for one that stays as it is."""

    def init(self, params: Any) -> State:
        slots: dict[str, Slots] = {}
        for name, p in trainable(params).values():
            rule, dtype = self.rule(name, p), wide(p.dtype)
            for slot, (shape, value) in rule.slots(p.shape).items() if rule else ():
                slots.setdefault(slot, {})[name] = _filled(shape, value, dtype)
        return {"step": Tensor(0), **slots}

    def update(self, params: Any, grads: Any, state: State) -> tuple[Any, State]:
        if not isinstance(state, dict) or "step" not in state:
            raise ShapeError(
                f"the optimizer's state is a {type(state).__name__} that has no step; pass what init(params) or"
                " the last update(params, grads, state) returned"
            )
        step = state["step"]
        slots = {slot: dict(values) for slot, values in state.items() if slot != "step"}
        scalars: dict[tuple[int, np.dtype], Any] = {}  # the same for all parameters of a rule and a dtype
        updated = {}
        for identity, name, p, g in with_gradients(params, grads):
            rule, dtype = self.rule(name, p), wide(p.dtype)
            if rule is None:
                continue
            key = id(rule), dtype
            if key not in scalars:
                scalars[key] = rule.scalars(step, dtype)
            g = astype(-g if rule.maximize else g, dtype)
            kept = {slot: for_parameter(slots.get(slot, {}), name) for slot in rule.slots(p.shape)}
            new, kept = rule.step(astype(p, dtype), g, kept, scalars[key])
            updated[identity] = astype(new, p.dtype)
            for slot, value in kept.items():
                slots[slot][name] = value
        return replaced(params, updated), {"step": step + 1, **slots}


@dataclass(frozen=True)
class Rule(PerParameter):
    """An optimizer with one rule for all parameters: the hyperparameters and the formula.

    Args:
        lr: the learning rate: a number, a scalar tensor, or a schedule: a function of the number of updates made so
            far (an int32 scalar tensor) that returns one.
        maximize: whether to follow the gradient instead of its negative.

    Raises:
        ValueError: a hyperparameter is out of its range.

    A subclass is a frozen dataclass that defines :meth:`slots`, :meth:`scalars` and :meth:`step`:

    >>> @dataclass(frozen=True)
    ... class HeavyBall(Rule):
    ...     momentum: float = 0.5
    ...     def slots(self, shape):
    ...         return {"velocity": (shape, 0)}
    ...     def scalars(self, step, dtype):
    ...         return self.learning_rate(step, dtype)
    ...     def step(self, p, g, slots, lr):
    ...         velocity = self.momentum * slots["velocity"] - lr * g
    ...         return p + velocity, {"velocity": velocity}
    >>> optimizer, w = HeavyBall(lr=1.0), Tensor([8.0])
    >>> state = optimizer.init(w)
    >>> for _ in range(2):
    ...     w, state = optimizer.update(w, Tensor([2.0]), state)
    >>> w.tolist()
    [3.0]
    """

    lr: float | Tensor | Callable[[Tensor], Any]
    maximize: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        if callable(self.lr):
            return
        lr = as_tensor(self.lr)
        if lr.size != 1:
            raise OptionError(f"Tensor lr must be 1-element, got shape {lr.shape}")
        require(lr.is_traced or lr.item() >= 0, "learning rate", self.lr)

    def rule(self, name: str, p: Tensor) -> Rule:
        return self

    @abstractmethod
    def slots(self, shape: tuple[int, ...]) -> dict[str, tuple[tuple[int, ...], Any]]:
        """The shape and the first value of each tensor that is kept for a parameter of a shape."""

    @abstractmethod
    def scalars(self, step: Tensor, dtype: np.dtype) -> Any:
        """What one update needs for all parameters of a dtype, given the number of updates before it."""

    @abstractmethod
    def step(self, p: Tensor, g: Tensor, slots: Slots, scalars: Any) -> tuple[Tensor, Slots]:
        """The new value of one parameter and of its slots."""

    def learning_rate(self, step: Tensor, dtype: np.dtype) -> Any:
        """The learning rate of the update after ``step`` others."""
        lr = self.lr(step) if callable(self.lr) else self.lr
        return lr if isinstance(lr, float | int) else reshape(astype(lr, dtype), ())


def decayed(p: Tensor, g: Tensor, weight_decay: float, lr: Any = None, decoupled: bool = False) -> tuple[Any, Any]:
    """The parameter and its gradient after weight decay.

    Args:
        p: the parameter.
        g: its gradient.
        weight_decay: times the parameter, is added to the gradient.
        lr: the learning rate, for decoupled decay.
        decoupled: whether ``weight_decay`` times ``lr`` and the parameter is subtracted from the parameter instead
            (Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019).
    """
    if not weight_decay:
        return p, g
    return (p * (1 - lr * weight_decay), g) if decoupled else (p, g + weight_decay * p)


def require(condition: bool, what: str, value: Any, expected: str = "0 or more") -> None:
    """Raises ValueError unless the condition holds, in PyTorch's words."""
    if not condition:
        raise OptionError(f"Invalid {what}: {value}; expected {expected}")


def require_not_negative(rule: Rule, *names: str) -> None:
    """Raises ValueError for a negative hyperparameter, and for NaN."""
    for name in names:
        value = getattr(rule, name)
        require(value >= 0, "epsilon value" if name == "eps" else f"{name} value", value)


def require_betas(betas: tuple[float, float]) -> None:
    """Raises ValueError for a beta outside [0, 1)."""
    for index, beta in enumerate(betas):
        require(0 <= beta < 1, f"beta parameter at index {index}", beta, "at least 0 and below 1")


def _filled(shape: tuple[int, ...], value: Any, dtype: np.dtype) -> Tensor:
    if isinstance(value, Tensor) and value.is_traced:
        return broadcast_to(astype(value, dtype), shape)
    return full(shape, value, dtype)
