"""Containers of modules and parameters, compared with PyTorch's."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
import torch

import volta_mlir as volta
from volta_mlir import nn, tree

BOTH = pytest.mark.parametrize("lib", [nn, torch.nn], ids=["volta", "torch"])


def kinds(modules: Any) -> list[str]:
    return [type(module).__name__ for module in modules]


def names(module: Any) -> list[str]:
    return list(module.state_dict())


@BOTH
def test_sequential(lib: Any) -> None:
    model = lib.Sequential(lib.Linear(2, 3), lib.ReLU())
    model.append(lib.Linear(3, 3)).extend([lib.Tanh()])
    model.insert(1, lib.Sigmoid() if hasattr(lib, "Sigmoid") else lib.Tanh())
    model[-1] = lib.Flatten()
    assert len(model) == 5
    assert kinds(model)[2:] == ["ReLU", "Linear", "Flatten"]
    assert names(model) == ["0.weight", "0.bias", "3.weight", "3.bias"]
    del model[1]
    assert names(model) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert names(model[1:3]) == ["2.weight", "2.bias"]
    assert kinds([model.pop(1)]) == ["ReLU"]
    assert kinds(model + lib.Sequential(lib.Tanh())) == ["Linear", "Linear", "Flatten", "Tanh"]
    model += lib.Sequential(lib.ReLU())
    assert kinds(model) == ["Linear", "Linear", "Flatten", "ReLU"]
    del model[1:]
    assert kinds(model) == ["Linear"]
    with pytest.raises(IndexError):
        model[1]
    with pytest.raises(IndexError):
        model.insert(7, lib.ReLU())
    with pytest.raises(TypeError):
        model.append(1)


@BOTH
def test_named_sequential(lib: Any) -> None:
    model = lib.Sequential(OrderedDict([("first", lib.Linear(2, 3)), ("act", lib.ReLU())]))
    model.add_module("last", lib.Linear(3, 1))
    assert names(model) == ["first.weight", "first.bias", "last.weight", "last.bias"]
    assert model[2] is model.last
    assert names(model[1:]) == ["last.weight", "last.bias"]
    del model[1]
    assert names(model) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    assert model(np.ones((4, 2), np.float32) if lib is nn else torch.ones(4, 2)).shape == (4, 1)
    assert repr(model).splitlines()[1].startswith("  (0): Linear(in_features=2")


@BOTH
def test_module_list(lib: Any) -> None:
    layers = lib.ModuleList([lib.ReLU()])
    layers.append(lib.Tanh()).extend([lib.Linear(2, 2)])
    layers.insert(0, lib.Flatten())
    assert kinds(layers) == ["Flatten", "ReLU", "Tanh", "Linear"]
    assert layers[-1] is layers[3]
    assert names(layers) == ["3.weight", "3.bias"]
    assert kinds(layers[1:3]) == ["ReLU", "Tanh"]
    layers[0] = lib.Tanh()
    del layers[1]
    assert kinds(layers) == ["Tanh", "Tanh", "Linear"]
    del layers[:2]
    assert names(layers) == ["0.weight", "0.bias"]
    layers += [lib.ReLU()]
    assert kinds(layers + [lib.Tanh()]) == ["Linear", "ReLU", "Tanh"]  # noqa: RUF005
    assert kinds([layers.pop(0)]) == ["Linear"]
    assert len(layers) == 1
    with pytest.raises(IndexError):
        layers[3]
    with pytest.raises(TypeError):
        layers.append(1)


def test_lists_show_equal_modules_once() -> None:
    def build(lib: Any) -> Any:
        block = [lib.Sequential(lib.Linear(2, 2), lib.ReLU()) for _ in range(3)]
        return lib.ModuleList([lib.Tanh(), *block, lib.Tanh(), lib.Flatten()])

    assert repr(build(nn)) == repr(build(torch.nn))
    assert repr(nn.ModuleList()) == repr(torch.nn.ModuleList())


@BOTH
def test_module_dict(lib: Any) -> None:
    heads = lib.ModuleDict({"a": lib.Linear(2, 1), "b": lib.ReLU()})
    heads.update([("c", lib.Tanh())])
    heads.update(lib.ModuleDict({"d": lib.Linear(1, 1)}))
    assert (list(heads), list(heads.keys()), len(heads)) == (["a", "b", "c", "d"], ["a", "b", "c", "d"], 4)
    assert kinds(heads.values()) == ["Linear", "ReLU", "Tanh", "Linear"]
    assert names(heads) == ["a.weight", "a.bias", "d.weight", "d.bias"]
    assert ("b" in heads, "x" in heads) == (True, False)
    assert heads["b"] is dict(heads.items())["b"]
    heads["b"] = lib.Flatten()
    assert kinds([heads.pop("b")]) == ["Flatten"]
    del heads["c"]
    assert list(heads) == ["a", "d"]
    with pytest.raises(KeyError):
        heads["b"]
    with pytest.raises((KeyError, TypeError)):
        heads["items"] = lib.ReLU()
    with pytest.raises(TypeError):
        heads["e"] = 1
    heads.clear()
    assert len(heads) == 0


def test_containers_are_trees() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            self.layers = nn.ModuleList([nn.Linear(2, 2) for _ in range(2)])
            self.heads = nn.ModuleDict({"x": nn.Linear(2, 1)})
            self.scales = nn.ParameterList([[1.0], [2.0]])
            self.shifts = nn.ParameterDict({"x": [0.5]})

        def forward(self, x: Any) -> Any:
            for layer, scale in zip(self.layers, self.scales, strict=True):
                x = layer(x) * scale
            return self.heads["x"](x) + self.shifts["x"]

    model, x = Model(), np.ones((3, 2), np.float32)
    gradients = volta.jit(volta.grad(lambda model, x: model(x).sum()))(model, x)
    assert gradients.shifts["x"].tolist() == [3.0]
    assert len(gradients.scales) == 2
    assert [tensor.shape for tensor in tree.leaves(gradients)] == [tensor.shape for tensor in tree.leaves(model)]


def test_parameter_list() -> None:
    values = nn.ParameterList([[1.0, 2.0], nn.Parameter([3], trainable=False)])
    values.append(volta.ones((2, 2))).extend([np.zeros(3, np.float32)])
    values += [[5.0]]
    assert [value.shape for value in values] == [(2,), (1,), (2, 2), (3,), (1,)]
    assert [values.is_trainable(str(i)) for i in range(5)] == [True, False, True, True, True]
    assert names(values) == ["0", "1", "2", "3", "4"]
    values[0] = [7.0]
    values[1] = [9]
    assert (values[0].tolist(), values[-1].tolist()) == ([7.0], [5.0])
    assert not values.is_trainable("1")
    sliced = values[1:3]
    assert [sliced.is_trainable(name) for name in names(sliced)] == [False, True]
    assert repr(sliced) == (
        "ParameterList(\n"
        "  (0): Parameter containing: [int32 of size 1]\n"
        "  (1): Parameter containing: [float32 of size 2x2]\n"
        ")"
    )
    with pytest.raises(IndexError):
        values[5]


def test_parameter_dict() -> None:
    values = nn.ParameterDict({"a": [1.0]})
    values.update({"b": nn.Parameter([2], trainable=False)})
    values["a"] = [3.0, 4.0]
    assert (values["a"].tolist(), list(values), "b" in values) == ([3.0, 4.0], ["a", "b"], True)
    assert (values.is_trainable("a"), values.is_trainable("b")) == (True, False)
    assert values.pop("b").tolist() == [2]
    assert repr(values) == "ParameterDict((a): Parameter containing: [float32 of size 2])"
    with pytest.raises(KeyError):
        values["b"]
    with pytest.raises(KeyError, match="dot"):
        values["a.b"] = [1.0]


# -- CheckpointedSequential ----------------------------------------------------------------------------------------


def _layers() -> list[nn.Module]:
    nn.manual_seed(3)
    return [m for _ in range(4) for m in (nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Dropout(0.25), nn.Tanh())]


@pytest.mark.parametrize("policy", [None, volta.dots_saveable])
@pytest.mark.parametrize("every", [1, 3, 16, 100])
def test_a_checkpointed_sequential_computes_what_a_sequential_does(every: int, policy: Any) -> None:
    x = volta.Tensor(np.random.default_rng(0).standard_normal((5, 8)).astype(np.float32))
    found = []
    for model in (nn.Sequential(*_layers()), nn.CheckpointedSequential(_layers(), every, policy)):
        value, gradients = volta.value_and_grad(lambda model, x: (model(x) ** 2).sum())(model, x)
        found.append((value, gradients, model.state_dict()))
    assert tree.leaves(found[0][1])
    leaves = ([leaf for leaf in tree.leaves(one) if isinstance(leaf, volta.Tensor)] for one in found)
    for expected, actual in zip(*leaves, strict=True):
        np.testing.assert_allclose(actual.numpy(), expected.numpy(), rtol=1e-5, atol=1e-6)


def test_a_checkpointed_sequential_takes_less_memory() -> None:
    x = volta.spec((512, 64))

    def transients(model: nn.Module) -> int:
        step = volta.jit(volta.grad(lambda model, x: (model(x) ** 2).sum()))
        return step.lower(model, x).compile().plan.transients

    layers = [module for _ in range(12) for module in (nn.Linear(64, 64), nn.Tanh())]
    kept, again = nn.Sequential(*layers), nn.CheckpointedSequential(layers, checkpoint_every=6)
    assert transients(again) < 0.7 * transients(kept)


def test_slices_of_a_checkpointed_sequential_keep_its_settings() -> None:
    model = nn.CheckpointedSequential(_layers(), 3, volta.dots_saveable)
    part = model[2:6]
    assert (len(part), part.checkpoint_every, part.policy) == (4, 3, volta.dots_saveable)
    assert repr(part).startswith("CheckpointedSequential(")
    assert names(model) == names(nn.Sequential(*_layers()))


@pytest.mark.parametrize("every", [0, -1, 1.5, True, None])
def test_checkpoint_every_is_a_positive_integer(every: Any) -> None:
    with pytest.raises(volta.OptionError, match="checkpoint_every is how many modules"):
        nn.CheckpointedSequential(_layers(), every)
