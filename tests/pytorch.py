"""Comparing functions of Volta with PyTorch's: forward, gradients, eager and compiled.

A :class:`Call` is one call of a function with PyTorch tensors in its arguments. :func:`sample_calls` makes them from
PyTorch's own sample inputs. :func:`check_eager` compares each call on its own, through the reference interpreter;
:func:`check_compiled` compiles all of them as one program, which costs one compilation.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np
import torch

import volta_mlir as volta
from tests.harness import check_each
from tests.tolerances import mismatch, tolerance
from volta_mlir import Tensor, tree
from volta_mlir.dtypes import is_float

#: Results of functions are compared at this many operations per element, unless a test says more.
OPERATIONS = 64


@dataclass(frozen=True, eq=False)
class Call:
    """A call; tensors that require gradients are differentiated.

    Attributes:
        name: what a failure is called by.
        args, kwargs: as PyTorch takes them.
    """

    name: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name

    @property
    def variables(self) -> list[torch.Tensor]:
        """The tensors to differentiate by."""
        return [t for t in tree.leaves((self.args, dict(self.kwargs))) if _is_variable(t)]

    def with_variables(self, values: Sequence[Tensor]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments for Volta, with these values for the variables."""
        remaining = iter(values)
        args, kwargs = tree.map(
            lambda leaf: next(remaining) if _is_variable(leaf) else to_volta(leaf), (self.args, dict(self.kwargs))
        )
        return args, kwargs


def _is_variable(leaf: Any) -> bool:
    return isinstance(leaf, torch.Tensor) and leaf.requires_grad


def to_volta(leaf: Any) -> Any:
    """A PyTorch tensor as one of Volta's; dtypes become Volta's; anything else is left as it is."""
    if isinstance(leaf, torch.dtype):
        return getattr(volta, str(leaf).removeprefix("torch.").replace("bool", "bool_"))
    if not isinstance(leaf, torch.Tensor):
        return leaf
    return Tensor(to_numpy(leaf))


def to_numpy(tensor: torch.Tensor) -> np.ndarray:
    """A copy of a PyTorch tensor's data."""
    tensor = tensor.detach()
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16).copy()
    return np.array(tensor.numpy())


def sample_calls(op: str, dtype: torch.dtype = torch.float32, grad: bool = True, variant: str = "") -> list[Call]:
    """PyTorch's own sample inputs of an op, by its name in ``torch.testing``, ``nn.functional.gelu``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torch.testing._internal.common_methods_invocations import op_db

        found = [info for info in op_db if info.name == op and info.variant_test_name == variant]
        assert len(found) == 1, f"PyTorch has {len(found)} ops {op!r} with variant {variant!r}"
        torch.manual_seed(0)
        samples = list(found[0].sample_inputs("cpu", dtype, requires_grad=grad))
    return [Call(f"{op}[{i}]", (s.input, *s.args), s.kwargs) for i, s in enumerate(samples)]


def call(name: str, *args: Any, **kwargs: Any) -> Call:
    """A call whose float arrays and tensors are variables. Arrays become tensors."""

    def variable(leaf: Any) -> Any:
        if isinstance(leaf, np.ndarray | torch.Tensor):
            leaf = torch.as_tensor(leaf).detach()
            return leaf.requires_grad_() if leaf.dtype.is_floating_point else leaf
        return leaf

    args, kwargs = tree.map(variable, (args, kwargs))
    return Call(name, args, kwargs)


def expected_of(
    function: Callable[..., Any], case: Call
) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
    """PyTorch's results, the cotangents that were drawn for the float ones, and the variables' gradients."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        outs = [o for o in tree.leaves(function(*case.args, **case.kwargs)) if isinstance(o, torch.Tensor)]
    rng = np.random.default_rng(1)
    floats = [o for o in outs if o.dtype.is_floating_point]
    seeds = [torch.tensor(rng.standard_normal(o.shape)).to(o.dtype) for o in floats]
    variables = case.variables
    pairs = [(o, s) for o, s in zip(floats, seeds, strict=True) if o.requires_grad]
    if variables and pairs:
        grads = torch.autograd.grad([o for o, _ in pairs], variables, [s for _, s in pairs], allow_unused=True)
        gradients = [torch.zeros_like(v) if g is None else g for v, g in zip(variables, grads, strict=True)]
    else:
        gradients = [torch.zeros_like(v) for v in variables]
    return [to_numpy(o) for o in outs], [to_numpy(s) for s in seeds], [to_numpy(g) for g in gradients]


def run(function: Callable[..., Any], case: Call, values: Sequence[Tensor], seeds: Sequence[Tensor]) -> list[Tensor]:
    """Volta's results, then its gradients of the variables for cotangents of the float results."""

    def flat(*variables: Tensor) -> list[Tensor]:
        args, kwargs = case.with_variables(variables)
        return [o for o in tree.leaves(function(*args, **kwargs)) if isinstance(o, Tensor)]

    if not values:
        return flat()
    outs, pullback = volta.vjp(flat, *values)
    remaining = iter(seeds)
    cotangents = [next(remaining) if is_float(o.dtype) else None for o in outs]
    return [*outs, *pullback(cotangents)]


def _problem(
    actual: Sequence[Any], results: Sequence[np.ndarray], gradients: Sequence[np.ndarray], operations: float
) -> str | None:
    expected = [*results, *gradients]
    names = [f"result {i}" for i in range(len(results))] + [f"gradient {i}" for i in range(len(gradients))]
    if len(actual) != len(expected):
        return f"{len(actual)} results and gradients, expected {len(expected)}"
    for name, a, e in zip(names, actual, expected, strict=True):
        a = np.asarray(a)
        if not is_float(e.dtype):
            a = a.astype(e.dtype)  # indices are int32 in Volta, int64 in PyTorch
        relative = tolerance(e.dtype, operations) if is_float(e.dtype) else None
        # A gradient that is zero but for rounding has no relative error to speak of.
        wide = [x.astype(np.float64) for x in (a, e)] if a.shape == e.shape and is_float(e.dtype) else None
        with np.errstate(invalid="ignore"):  # infinity less infinity
            if wide and a.dtype == e.dtype and np.abs(wide[0] - wide[1]).max(initial=0) < tolerance(e.dtype) / 4:
                continue
        wrong = mismatch(a, e, relative)
        if wrong:
            return f"{name}: {wrong}"
    return None


def check_eager(
    ours: Callable[..., Any], theirs: Callable[..., Any], calls: Sequence[Call], operations: float = OPERATIONS
) -> None:
    """Compares every call, one at a time, outside of ``jit``."""
    assert calls

    def check(case: Call) -> str | None:
        results, seeds, gradients = expected_of(theirs, case)
        values = [Tensor(to_numpy(v)) for v in case.variables]
        return _problem(run(ours, case, values, list(map(Tensor, seeds))), results, gradients, operations)

    check_each(calls, check)


def check_compiled(
    pairs: Sequence[tuple[Callable[..., Any], Callable[..., Any], Call]], operations: float = OPERATIONS
) -> None:
    """Compares calls ``(ours, theirs, call)``, which are compiled as one program."""
    assert pairs
    expected = [expected_of(theirs, case) for _, theirs, case in pairs]
    values = [[Tensor(to_numpy(v)) for v in case.variables] for _, _, case in pairs]
    seeds = [list(map(Tensor, s)) for _, s, _ in expected]

    @volta.jit
    def program(values: Any, seeds: Any) -> Any:
        return [run(ours, case, v, s) for (ours, _, case), v, s in zip(pairs, values, seeds, strict=True)]

    actual = program(values, seeds)

    def check(number: int) -> str | None:
        results, _, gradients = expected[number]
        found = _problem(actual[number], results, gradients, operations)
        return None if found is None else f"{pairs[number][2]}: {found}"

    check_each(range(len(pairs)), check)


def first_calls(calls: Sequence[Call], count: int = 1) -> Iterator[Call]:
    """Some calls, spread over all: what is worth compiling of a long list."""
    step = max(1, len(calls) // count)
    return iter(calls[::step][:count])
