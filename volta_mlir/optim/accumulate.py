"""Gradient accumulation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from volta_mlir import tree as trees
from volta_mlir.errors import OptionError
from volta_mlir.functions import where, zeros
from volta_mlir.modules import leaf_identities
from volta_mlir.optim.optimizer import Optimizer, State
from volta_mlir.optim.parameters import as_wide, for_parameter, selected, trainable, wide, with_gradients
from volta_mlir.tensor import Tensor


@dataclass(frozen=True)
class Accumulate(Optimizer):
    """An optimizer that is applied at every ``steps``-th call, with the mean of the gradients of those calls.

    With losses that are means over batches of one size, that is an update by one batch as large as all of them. The
    other calls leave the parameters as they are.

    Each call computes the update and selects: in a compiled step that is part of the kernels that read and write the
    state anyway, donated buffers are updated in place, and the host need not wait to learn which branch to take.

    The state is ``{"accumulated": the number of gradients in the sums, "grad_sum": {dotted name: tensor}, "optimizer":
    the optimizer's state}``; schedules count the updates, as ever. A parameter whose gradient is None in a call is not
    updated by it, and its sum stays.

    Args:
        optimizer: what is applied.
        steps: the number of calls.

    Raises:
        ValueError: ``steps`` is not a positive integer.

    >>> from volta_mlir import optim
    >>> optimizer = optim.Accumulate(optim.SGD(lr=1.0), steps=2)
    >>> w = Tensor([1.0])
    >>> w, state = optimizer.update(w, Tensor([2.0]), optimizer.init(w))
    >>> w.tolist()
    [1.0]
    >>> w, state = optimizer.update(w, Tensor([4.0]), state)
    >>> w.tolist(), state["optimizer"]["step"].item()
    ([-2.0], 1)
    """

    optimizer: Optimizer
    steps: int

    def __post_init__(self) -> None:
        if not isinstance(self.steps, int) or self.steps < 1:
            raise OptionError(f"Expected positive integer steps, but got {self.steps}")

    def init(self, params: Any) -> State:
        sums = {name: zeros(p.shape, wide(p.dtype)) for name, p in trainable(params).values()}
        return {"accumulated": Tensor(0), "grad_sum": sums, "optimizer": self.optimizer.init(params)}

    def update(self, params: Any, grads: Any, state: State) -> tuple[Any, State]:
        sums, means = dict(state["grad_sum"]), {}
        count = state["accumulated"] + 1
        is_last = count == self.steps
        for identity, name, _, g in with_gradients(params, grads):
            total = for_parameter(sums, name) + as_wide(g)
            means[identity] = total / self.steps
            sums[name] = where(is_last, 0, total)
        mean_grads = trees.unflatten(trees.flatten(params)[1], [means.get(i) for i in leaf_identities(params)])
        new_params, new_state = self.optimizer.update(params, mean_grads, state["optimizer"])
        return selected(is_last, new_params, params), {
            "accumulated": where(is_last, 0, count),
            "grad_sum": sums,
            "optimizer": selected(is_last, new_state, state["optimizer"]),
        }
