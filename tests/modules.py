"""Comparing modules of Volta with PyTorch's: state, forward, gradients, buffers, in training and not.

A :class:`Pair` is a module of each library with the same state, and arguments for it. It becomes a call of functions
of the parameters and the arguments, so that :mod:`tests.pytorch` compares results, buffers after the call, and the
gradients of parameters and arguments.
"""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from tests import pytorch
from volta_mlir import nn, tree


@dataclass(frozen=True, eq=False)
class Pair:
    """Two modules and the arguments of a call, as PyTorch takes them.

    Attributes:
        name: what a failure is called by.
        ours, theirs: the modules.
        args, kwargs: tensors that require gradients are differentiated.
    """

    name: str
    ours: nn.Module
    theirs: torch.nn.Module
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    def as_call(self) -> tuple[Any, Any, pytorch.Call]:
        """Functions ``(parameters, args, kwargs) -> (results, buffers)`` of both libraries, and their call."""
        names = [tree.path_name(accessor) for accessor in tree.accessors(self.ours)]
        leaves, treedef = tree.flatten(self.ours)
        persistent = set(self.ours.state_dict())

        def ours(parameters: Any, args: Any, kwargs: Any) -> Any:
            module = tree.unflatten(
                treedef, [parameters.get(name, leaf) for name, leaf in zip(names, leaves, strict=True)]
            )
            results = module(*args, **kwargs)
            return results, {name: buffer for name, buffer in module.named_buffers() if name in persistent}

        def theirs(parameters: Any, args: Any, kwargs: Any) -> Any:
            module = copy.deepcopy(self.theirs)  # a call writes to the buffers
            results = torch.func.functional_call(module, dict(parameters), args, dict(kwargs))
            return results, dict(module.named_buffers())

        parameters = {name: p.detach().clone() for name, p in self.theirs.named_parameters()}
        for name, parameter in parameters.items():
            parameter.requires_grad_(dict(self.theirs.named_parameters())[name].requires_grad)
        return ours, theirs, pytorch.Call(self.name, (parameters, self.args, self.kwargs), {})


def shared_state(ours: nn.Module, theirs: torch.nn.Module, same_repr: bool = True) -> None:
    """Gives both modules the same state, through ``state_dict`` in both directions, and compares what they show."""
    state = theirs.state_dict()
    assert list(ours.state_dict()) == list(state)
    assert {k: t.shape for k, t in ours.state_dict().items()} == {k: tuple(t.shape) for k, t in state.items()}
    theirs.load_state_dict({name: pytorch_tensor(tensor) for name, tensor in ours.state_dict().items()})
    ours.load_state_dict(theirs.state_dict())
    for name, tensor in theirs.state_dict().items():
        np.testing.assert_array_equal(ours.state_dict()[name], pytorch.to_numpy(tensor))
    if same_repr:
        assert repr(ours) == repr_without_inplace(theirs)


def pytorch_tensor(tensor: Any) -> torch.Tensor:
    """A tensor of Volta as one of PyTorch."""
    return torch.tensor(np.asarray(tensor))


def repr_without_inplace(module: torch.nn.Module) -> str:
    """PyTorch's text, without the argument that Volta leaves out, and the name that quantization needs."""
    text = repr(module)
    for left_out in (", inplace=False", "inplace=False", "NonDynamicallyQuantizable"):
        text = text.replace(left_out, "")
    return text


def _argument(value: Any) -> Any:
    """A constructor's argument for Volta: tensors are converted, PyTorch's functions become those of the same name."""
    if callable(value) and hasattr(nn.functional, getattr(value, "__name__", "")):
        return getattr(nn.functional, value.__name__)
    return pytorch.to_volta(value)


def build(name: str, *args: Any, **kwargs: Any) -> tuple[nn.Module, torch.nn.Module]:
    """The module of a name in both libraries, built from the same arguments, with the same state.

    Tensors and functions among the arguments are converted.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = getattr(torch.nn, name)(*args, **kwargs)
        our_args, our_kwargs = tree.map(_argument, (args, kwargs))
        our_kwargs.pop("inplace", None)
        ours = getattr(nn, name)(*our_args, **our_kwargs)
    shared_state(ours, theirs)
    return ours, theirs


def pair(ours: nn.Module, theirs: torch.nn.Module, *inputs: Any, name: str = "", **kwargs: Any) -> Pair:
    """A pair for arrays and tensors as inputs; those of floats are differentiated."""
    call = pytorch.call(name or type(ours).__name__, *inputs, **kwargs)
    return Pair(call.name, ours, theirs, call.args, call.kwargs)


def modes(pairs: Iterable[Pair]) -> Iterator[Pair]:
    """Every pair in training and not."""
    for case in pairs:
        for training in (True, False):
            ours, theirs = copy.deepcopy(case.ours).train(training), copy.deepcopy(case.theirs).train(training)
            suffix = "training" if training else "evaluation"
            yield Pair(f"{case.name}, {suffix}", ours, theirs, case.args, case.kwargs)


def check_eager(pairs: Iterable[Pair], operations: float = pytorch.OPERATIONS) -> None:
    """Compares every pair, one at a time, outside of ``jit``."""
    count = 0
    for case in pairs:
        ours, theirs, call = case.as_call()
        with quiet():
            pytorch.check_eager(ours, theirs, [call], operations)
        count += 1
    assert count


def check_compiled(pairs: Sequence[Pair], operations: float = pytorch.OPERATIONS) -> None:
    """Compares pairs, which are compiled as one program."""
    with quiet():
        pytorch.check_compiled([case.as_call() for case in pairs], operations)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Leaves out the warnings that both libraries give for arguments of old."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def sample_pairs(name: str, training: bool) -> list[Pair]:
    """PyTorch's own inputs of a module, by the name of its class."""
    with quiet():
        from torch.testing._internal.common_modules import module_db

        (info,) = [info for info in module_db if info.module_cls.__name__ == name]
        torch.manual_seed(0)
        samples = info.module_inputs_func(
            info, device="cpu", dtype=torch.float32, requires_grad=True, training=training
        )
    pairs = []
    for i, sample in enumerate(samples):
        given = sample.constructor_input
        ours, theirs = build(name, *given.args, **given.kwargs)
        inputs = sample.forward_input
        if inputs is None:
            continue
        pairs.append(
            Pair(
                f"{name}[{i}] {sample.desc}",
                ours.train(training),
                theirs.train(training),
                tuple(inputs.args),
                dict(inputs.kwargs),
            )
        )
    return pairs


def sampled_names() -> list[str]:
    """The modules that PyTorch has inputs for."""
    with quiet():
        from torch.testing._internal.common_modules import module_db
    return sorted({info.module_cls.__name__ for info in module_db})
