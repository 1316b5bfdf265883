"""What optimizers share: trees of parameters, state by name, the learning rate."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from volta_mlir import tree as trees
from volta_mlir.calls import as_argument, is_tensor_like
from volta_mlir.dtypes import float32, is_float, result_type
from volta_mlir.errors import ShapeError
from volta_mlir.functions import astype, zeros
from volta_mlir.modules import leaf_identities, trainable_mask
from volta_mlir.tensor import Tensor

State = dict[str, Any]


@dataclass(frozen=True)
class Optimizer:
    """Base of the optimizers: pure functions from parameters, gradients and state to new ones.

    An optimizer is a constant of the program. Its state is a dict of tensors, ``{"step": …, slot: {name: …}}`` with the
    parameters' dotted names, so it can be donated, saved, and read. Arithmetic and state are in float32 or wider; the
    parameters keep their dtypes.

    Args:
        lr: the learning rate: a number, a scalar tensor, or a schedule: a function of the number of updates made so
            far (an int32 scalar tensor) that returns one.

    A subclass names its :attr:`slots` and defines :meth:`scalars` and :meth:`step`.
    """

    lr: float | Tensor | Callable[[Tensor], Any]

    #: The tensors that are kept for each parameter.
    slots: ClassVar[tuple[str, ...]] = ()

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
        leaves = trees.leaves(params)
        mask = [use and _is_float(p) for p, use in zip(leaves, trainable_mask(params), strict=True)]
        names = _names(params, mask)
        return {
            "step": Tensor(0),
            **{
                slot: {name: zeros(p.shape, _wide(p.dtype)) for name, p in names.values()} for slot in self.used_slots()
            },
        }

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
        leaves, treedef = trees.flatten(params)
        gradients = trees.leaves(grads)
        if len(gradients) != len(leaves):
            raise ShapeError(f"there are {len(gradients)} gradients for {len(leaves)} leaves of the parameters")
        identities = leaf_identities(params)
        by_identity = {i: g for i, g in zip(identities, gradients, strict=True) if g is not None}
        names = _names(params, [i in by_identity for i in identities])
        slots = {slot: dict(state[slot]) for slot in self.used_slots()}
        scalars: dict[np.dtype, Any] = {}
        updated: dict[Hashable, Tensor] = {}
        for key, (name, p) in names.items():
            g, wide = as_argument(by_identity[key]), _wide(p.dtype)
            if g.shape != p.shape:
                raise ShapeError(f"the gradient of {name or 'the parameter'} has shape {g.shape}, expected {p.shape}")
            for slot in slots:
                if name not in slots[slot]:
                    raise ShapeError(f"there is no state for parameter {name!r}; make it anew with init(params)")
            if wide not in scalars:
                scalars[wide] = self.scalars(state["step"], wide)
            new, kept = self.step(astype(p, wide), astype(g, wide), tuple(slots[s][name] for s in slots), scalars[wide])
            updated[key] = astype(new, p.dtype)
            for slot, value in zip(slots, kept, strict=True):
                slots[slot][name] = value
        params = trees.unflatten(treedef, [updated.get(i, p) for i, p in zip(identities, leaves, strict=True)])
        return params, {"step": state["step"] + 1, **slots}

    def used_slots(self) -> tuple[str, ...]:
        """Those of :attr:`slots` that the settings need."""
        return self.slots

    def scalars(self, step: Tensor, dtype: np.dtype) -> Any:
        """What one update needs for all parameters of a dtype, given the number of updates before it."""
        raise NotImplementedError

    def step(self, p: Tensor, g: Tensor, slots: tuple[Tensor, ...], scalars: Any) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The new value of one parameter and of its slots."""
        raise NotImplementedError

    def learning_rate(self, step: Tensor, dtype: np.dtype) -> Any:
        """The learning rate of the update after ``step`` others."""
        lr = self.lr(step) if callable(self.lr) else self.lr
        return lr if isinstance(lr, float | int) else astype(lr, dtype)


def _names(params: Any, chosen: list[bool]) -> dict[Hashable, tuple[str, Tensor]]:
    """(dotted name, tensor) of each distinct leaf that is chosen in at least one place, by the leaf's identity."""
    names: dict[Hashable, tuple[str, Tensor]] = {}
    leaves = zip(trees.accessors(params), trees.leaves(params), leaf_identities(params), chosen, strict=True)
    for accessor, leaf, identity, use in leaves:
        if use and identity not in names:
            names[identity] = trees.path_name(accessor), as_argument(leaf)
    if len({name for name, _ in names.values()}) != len(names):
        raise ShapeError("two parameters have the same dotted name; rename a key that has a dot")
    return names


def _is_float(leaf: Any) -> bool:
    return is_tensor_like(leaf) and is_float(as_argument(leaf).dtype)


def _wide(dtype: np.dtype) -> np.dtype:
    return result_type(dtype, float32)
