"""The optimizers, step by step against PyTorch's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import volta_mlir as volta
from volta_mlir import nn, optim
from volta_mlir.errors import ShapeError

STEPS = 50

CASES = [
    ("SGD", {}),
    ("SGD", {"momentum": 0.9}),
    ("SGD", {"momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1}),
    ("SGD", {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    ("Adam", {}),
    ("Adam", {"betas": (0.5, 0.9), "eps": 1e-3, "weight_decay": 0.1}),
    ("Adam", {"betas": (0.0, 0.99)}),
    ("AdamW", {}),
    ("AdamW", {"betas": (0.8, 0.95), "weight_decay": 0.3}),
]


def arrays(rng: np.random.Generator, dtype: str = "float32") -> dict[str, np.ndarray]:
    return {"a": rng.normal(size=(3, 4)).astype(dtype), "b": rng.normal(size=5).astype(dtype)}


def by_torch(name: str, options: dict[str, Any], start: dict[str, Any], gradients: list[dict[str, Any]]) -> list[Any]:
    """The parameters after each step."""
    params = {key: torch.tensor(value, requires_grad=True) for key, value in start.items()}
    optimizer = getattr(torch.optim, name)(params.values(), lr=0.05, **options)
    history = []
    for gradient in gradients:
        for key, param in params.items():
            param.grad = torch.tensor(gradient[key])
        optimizer.step()
        history.append({key: param.detach().numpy().copy() for key, param in params.items()})
    return history


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize(("name", "options"), CASES)
def test_every_step_is_pytorchs(name, options, compiled):
    rng = np.random.default_rng(0)
    start, gradients = arrays(rng), [arrays(rng) for _ in range(STEPS)]
    optimizer = getattr(optim, name)(lr=0.05, **options)
    update = volta.jit(optimizer.update, donate=("params", "state")) if compiled else optimizer.update
    params = {key: volta.Tensor(value) for key, value in start.items()}
    state = optimizer.init(params)
    for gradient, expected in zip(gradients, by_torch(name, options, start, gradients), strict=True):
        params, state = update(params, gradient, state)
        for key in params:
            np.testing.assert_allclose(params[key], expected[key], rtol=1e-5, atol=1e-6)
    assert state["step"].item() == STEPS
    assert state["step"].dtype == np.int32


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW"])
def test_other_dtypes(name):
    rng = np.random.default_rng(0)
    start, gradients = arrays(rng, "float64"), [arrays(rng, "float64") for _ in range(5)]
    expected = by_torch(name, {}, start, gradients)[-1]
    optimizer = getattr(optim, name)(lr=0.05)
    for dtype, tolerance in (("float64", 1e-12), ("float16", 5e-3), ("bfloat16", 4e-2)):
        params = {key: volta.Tensor(value, dtype) for key, value in start.items()}
        state = optimizer.init(params)
        for gradient in gradients:
            params, state = optimizer.update(params, {k: volta.Tensor(g, dtype) for k, g in gradient.items()}, state)
        for key in params:
            assert params[key].dtype.name == dtype
            np.testing.assert_allclose(
                params[key].numpy().astype("float64"), expected[key], rtol=tolerance, atol=tolerance
            )
        for slot in optimizer.used_slots():
            assert state[slot]["a"].dtype.name == ("float64" if dtype == "float64" else "float32")


def test_training_a_model_is_pytorchs():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(16, 6)).astype(np.float32), rng.integers(0, 3, 16)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
    theirs = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3))
    model.load_state_dict(theirs.state_dict())
    optimizer, torch_optimizer = optim.AdamW(lr=0.01), torch.optim.AdamW(theirs.parameters(), lr=0.01)

    @volta.jit(donate=("model", "state"))
    def step(model, state, x, y):
        loss, grads = volta.value_and_grad(lambda m: nn.functional.cross_entropy(m(x), y))(model)
        return *optimizer.update(model, grads, state), loss

    state = optimizer.init(model)
    assert sorted(state) == ["exp_avg", "exp_avg_sq", "step"]
    assert sorted(state["exp_avg"]) == ["0.bias", "0.weight", "2.bias", "2.weight"]
    for _ in range(STEPS):
        model, state, loss = step(model, state, x, y)
        torch_optimizer.zero_grad()
        expected = torch.nn.functional.cross_entropy(theirs(torch.tensor(x)), torch.tensor(y))
        expected.backward()
        torch_optimizer.step()
        np.testing.assert_allclose(loss, expected.detach(), rtol=1e-4)
    for name, tensor in theirs.state_dict().items():
        np.testing.assert_allclose(model.state_dict()[name], tensor, rtol=1e-3, atol=1e-4)


def test_leaves_without_gradient_stay():
    class Model(nn.Module):
        def __init__(self):
            self.weight, self.fixed = nn.Parameter([1.0]), nn.Parameter([2.0], trainable=False)
            self.mean = nn.Buffer([3.0])

    optimizer, model = optim.Adam(), Model()
    state = optimizer.init(model)
    assert list(state["exp_avg"]) == ["weight"]
    grads = volta.grad(lambda m: (m.weight * m.fixed + m.mean).sum())(model)
    new, state = optimizer.update(model, grads, state)
    assert new.weight.item() < 1
    assert new.fixed is model.fixed
    assert new.mean is model.mean
    assert model.weight.item() == 1
    grads.weight = None
    newer, _ = optimizer.update(new, grads, state)
    assert newer.weight is new.weight


def test_tied_parameters_stay_tied():
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    model[1].weight = model[0].weight
    optimizer = optim.SGD(lr=0.1, momentum=0.9)
    state = optimizer.init(model)
    assert list(state["momentum_buffer"]) == ["0.weight"]
    x = np.ones((2, 3), np.float32)

    @volta.jit
    def step(model, state):
        grads = volta.grad(lambda m: m(x).sum())(model)
        return optimizer.update(model, grads, state)

    weight = torch.tensor(model[0].weight.numpy(), requires_grad=True)
    torch_optimizer = torch.optim.SGD([weight], lr=0.1, momentum=0.9)
    for _ in range(3):
        model, state = step(model, state)
        assert model[0].weight is model[1].weight
        torch_optimizer.zero_grad()
        (torch.tensor(x) @ weight.T @ weight.T).sum().backward()
        torch_optimizer.step()
        np.testing.assert_allclose(model[0].weight, weight.detach(), rtol=1e-5, atol=1e-6)


def test_the_learning_rate_may_be_a_schedule_or_a_tensor():
    params = {"w": volta.Tensor([1.0])}
    gradient = {"w": volta.Tensor([1.0])}
    schedule = optim.SGD(lr=lambda step: 0.5 ** step.astype("float32"))
    state = schedule.init(params)
    update = volta.jit(schedule.update)
    for expected in (0.0, -0.5, -0.75):
        params, state = update(params, gradient, state)
        assert params["w"].item() == expected

    @volta.jit
    def step(params, lr):
        optimizer = optim.Adam(lr=lr)
        return optimizer.update(params, gradient, optimizer.init(params))[0]

    start = {"w": volta.Tensor([1.0])}
    for lr in (0.25, 0.5):
        np.testing.assert_allclose(step(start, volta.Tensor(lr))["w"], [1 - lr], rtol=1e-6)


def test_optimizers_are_constants_of_the_program():
    assert optim.Adam(lr=0.1) == optim.Adam(lr=0.1) != optim.AdamW(lr=0.1)
    assert len({optim.SGD(0.1), optim.SGD(0.1), optim.SGD(0.1, momentum=0.5)}) == 2
    with pytest.raises(AttributeError):
        optim.SGD(0.1).lr = 0.2
    with pytest.raises(ValueError, match="betas"):
        optim.Adam(betas=(0.9, 1.0))
    for options in ({}, {"momentum": 0.9, "dampening": 0.1}):
        with pytest.raises(ValueError, match="nesterov"):
            optim.SGD(nesterov=True, **options)


def test_what_does_not_fit_is_named():
    optimizer, w = optim.Adam(), {"w": volta.ones((2,))}
    state = optimizer.init(w)
    with pytest.raises(ShapeError, match=r"the gradient of w has shape \(3,\), expected \(2,\)"):
        optimizer.update(w, {"w": volta.ones((3,))}, state)
    with pytest.raises(ShapeError, match="2 gradients for 1 leaves"):
        optimizer.update(w, {"w": w["w"], "v": w["w"]}, state)
    with pytest.raises(ShapeError, match="no state for parameter 'v'"):
        optimizer.update({"v": w["w"]}, {"v": w["w"]}, state)
    with pytest.raises(ShapeError, match="same dotted name"):
        optimizer.init({"a.b": volta.ones((2,)), "a": {"b": volta.ones((2,))}})
