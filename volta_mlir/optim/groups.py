"""Parameter groups: different hyperparameters, or optimizers, for different parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

from volta_mlir.optim.optimizer import PerParameter, Rule
from volta_mlir.tensor import Tensor

#: A shell pattern of dotted names, or a function of a name and a parameter.
Choice = str | Callable[[str, Tensor], bool]


@dataclass(frozen=True)
class ParamGroups(PerParameter):
    """One optimizer for most parameters, and others for groups of them, as PyTorch's list of ``params`` dicts.

    The state is that of one optimizer, with one step counter and the slots of each parameter's rule.

    Args:
        default: updates what no group chooses.
        groups: pairs of a choice and what updates the chosen parameters; the first choice that fits a parameter counts.
            A choice is a pattern of dotted names, in which ``*`` stands for anything (dots too) and ``?`` for one
            character, or a function of a name and a tensor, from its shape and dtype, that returns a bool. What
            updates is an optimizer, or a dict of hyperparameters that differ from those of ``default``, or None for
            parameters that stay as they are and have no state. A tied parameter is chosen by its first name.

    Raises:
        TypeError: a hyperparameter that ``default`` does not have, or what is no optimizer with one rule.

    >>> from volta_mlir import nn, optim
    >>> optimizer = optim.ParamGroups(
    ...     optim.AdamW(lr=1e-3, weight_decay=0.1),
    ...     [("0.*", None), (lambda name, p: p.ndim < 2, {"weight_decay": 0.0})],
    ... )
    >>> list(optimizer.init(nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1)))["exp_avg"])
    ['1.weight', '1.bias']
    """

    default: Rule
    groups: Sequence[tuple[Choice, Rule | Mapping[str, Any] | None]]

    def __post_init__(self) -> None:
        groups = []
        for choice, given in self.groups:
            rule = replace(self.default, **given) if isinstance(given, Mapping) else given
            groups.append((choice, rule))
        for rule in (self.default, *(rule for _, rule in groups if rule is not None)):
            if not isinstance(rule, Rule):
                raise TypeError(f"a group has an optimizer with one rule, as Adam, a dict, or None; got {rule!r}")
        object.__setattr__(self, "groups", tuple(groups))

    def rule(self, name: str, p: Tensor) -> Rule | None:
        for choice, rule in self.groups:
            if fnmatchcase(name, choice) if isinstance(choice, str) else choice(name, p):
                assert not isinstance(rule, Mapping)  # for mypy: see __post_init__
                return rule
        return self.default
