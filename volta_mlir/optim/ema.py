"""Exponential moving averages of parameters."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from volta_mlir.errors import OptionError
from volta_mlir.functions import astype, expm1, full_like, where
from volta_mlir.optim.optimizer import State
from volta_mlir.optim.parameters import as_wide, for_parameter, replaced, trainable
from volta_mlir.tensor import Tensor


@dataclass(frozen=True)
class EMA:
    """Averages of parameters, in which older values fade.

    As ``torch.optim.swa_utils.AveragedModel`` with ``get_ema_multi_avg_fn(decay)``: the first update takes the
    parameters as they are, and later ones give ``decay * average + (1 - decay) * parameter``. The averages are in
    float32 or wider.

    Args:
        decay: how much of the average is kept at each update.
        bias_correction: whether every value fades in the same way, as Adam's means do: the first is not taken for the
            average of all that came before it, and counts no more than the others.

    Raises:
        ValueError: ``decay`` outside [0, 1], or 1 with ``bias_correction``.

    Example::

        model, state = optimizer.update(model, gradients, state)
        average = ema.update(model, average)      # in the compiled step, with average donated
        ...
        accuracy_of(ema.params(model, average))   # the averaged model

    >>> w = Tensor([1.0])
    >>> ema = EMA(decay=0.75)
    >>> state = ema.init(w)
    >>> for value in (2.0, 6.0):
    ...     state = ema.update(Tensor([value]), state)
    >>> ema.params(w, state).tolist()
    [3.0]
    """

    decay: float = 0.999
    bias_correction: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.decay <= 1 or (self.bias_correction and self.decay == 1):
            end = "below 1 with bias_correction" if self.bias_correction else "at most 1"
            raise OptionError(f"Invalid decay value: {self.decay}; expected at least 0 and {end}")

    def init(self, params: Any) -> State:
        """The state before the first update: ``{"step": 0, "average": {dotted name: a copy of the parameter}}``.

        Args:
            params: a Module, or any tree of tensors. Trainable parameters have averages, and floating-point tensors
                outside of modules.
        """
        # A copy, since the state and the parameters are donated each on its own.
        average = {n: as_wide(p if p.is_traced else Tensor(p)) for n, p in trainable(params).values()}
        return {"step": Tensor(0), "average": average}

    def update(self, params: Any, state: State) -> State:
        """The state after one more value of the parameters.

        Raises:
            ShapeError: the state was made for other parameters.
        """
        step, average = state["step"] + 1, dict(state["average"])
        for name, p in trainable(params).values():
            old = for_parameter(average, name)
            average[name] = old + self._share(astype(step, old.dtype)) * (as_wide(p) - old)
        return {"step": step, "average": average}

    def _share(self, t: Tensor) -> Any:
        """The share of the newest of ``t`` values in the average."""
        if self.bias_correction and self.decay:
            return (self.decay - 1) / expm1(t * math.log(self.decay))  # (1 - decay) / (1 - decay^t)
        return where(t == 1, full_like(t, 1), 1 - self.decay)

    def params(self, params: Any, state: State) -> Any:
        """``params`` with the averages in place of what has one, in its dtype; buffers and the rest are those given.

        Raises:
            ShapeError: the state was made for other parameters.
        """
        averages = {
            identity: astype(for_parameter(state["average"], name), p.dtype)
            for identity, (name, p) in trainable(params).items()
        }
        return replaced(params, averages)
