"""The optimizers, step by step against PyTorch's."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

import volta_mlir as volta
from tests.pytorch import to_numpy, to_volta
from volta_mlir import nn, optim
from volta_mlir.errors import ShapeError

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from torch.testing._internal.common_optimizers import optim_db

STEPS = 50

CASES: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {"lr": 0.05}),
    ("SGD", {"lr": 0.05, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1, "maximize": True}),
    ("SGD", {"lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    ("ASGD", {"lr": 0.05, "lambd": 0.1, "alpha": 0.6, "t0": 10, "weight_decay": 0.1}),
    ("Adam", {"lr": 0.05}),
    ("Adam", {"lr": 0.05, "betas": (0.0, 0.99), "amsgrad": True, "decoupled_weight_decay": True, "weight_decay": 0.1}),
    ("AdamW", {"lr": 0.05, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.3, "amsgrad": True, "maximize": True}),
    ("Adamax", {"lr": 0.05, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.1}),
    ("NAdam", {"lr": 0.05, "momentum_decay": 0.1, "weight_decay": 0.1, "maximize": True}),
    ("NAdam", {"lr": 0.05, "weight_decay": 0.1, "decoupled_weight_decay": True}),
    ("RAdam", {"lr": 0.05}),
    ("RAdam", {"lr": 0.05, "betas": (0.9, 0.5), "weight_decay": 0.1, "decoupled_weight_decay": True}),
    ("RAdam", {"lr": 0.05, "betas": (0.5, 0.0), "eps": 1e-3, "weight_decay": 0.1, "maximize": True}),
    ("Adagrad", {"lr": 0.5, "lr_decay": 0.1, "weight_decay": 0.1, "initial_accumulator_value": 0.3, "eps": 1e-3}),
    ("Adadelta", {"lr": 2.0, "rho": 0.8, "eps": 1e-3, "weight_decay": 0.1, "maximize": True}),
    ("RMSprop", {"lr": 0.05, "alpha": 0.9, "eps": 1e-2}),
    ("RMSprop", {"lr": 0.05, "alpha": 0.9, "eps": 1e-2, "weight_decay": 0.1, "momentum": 0.5, "centered": True}),
    ("Adafactor", {"lr": 0.05}),
    (
        "Adafactor",
        {"lr": 0.3, "beta2_decay": -0.6, "eps": (1e-3, 0.1), "d": 1.5, "weight_decay": 0.1, "maximize": True},
    ),
    ("Rprop", {"lr": 0.05, "etas": (0.4, 1.5), "step_sizes": (1e-2, 0.1)}),
    ("Rprop", {"maximize": True}),
]


def pytorchs_own() -> Iterator[tuple[str, dict[str, Any]]]:
    """The option sets that PyTorch tests its optimizers with."""
    for info in optim_db:
        name = info.optim_cls.__name__
        if hasattr(optim, name):
            for sample in info.optim_inputs_func("cpu"):
                yield name, sample.kwargs


def arrays(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Parameters or gradients; of two dtypes and of all ranks that matter."""
    return {
        "matrix": rng.normal(size=(2, 3)).astype(np.float32),
        "vector": rng.normal(size=5).astype(np.float32),
        "scalar": np.array(rng.normal(), np.float32),
        "stack": rng.normal(size=(2, 3, 2)),
        "wide": np.array(rng.normal()),
    }


RNG = np.random.default_rng(0)
START, GRADIENTS = arrays(RNG), [arrays(RNG) for _ in range(STEPS)]


class Theirs:
    """An optimizer of PyTorch's with its parameters."""

    def __init__(self, name: str, options: dict[str, Any], start: dict[str, Any]) -> None:
        self.params = {key: torch.tensor(value, requires_grad=True) for key, value in start.items()}
        self.optimizer = getattr(torch.optim, name)(self.params.values(), **options)

    def step(self, gradients: dict[str, Any]) -> None:
        """Makes an update."""
        for key, param in self.params.items():
            param.grad = torch.tensor(gradients[key])
        torch.set_default_dtype(torch.float64)  # of the scalars that PyTorch keeps
        try:
            self.optimizer.step()
        finally:
            torch.set_default_dtype(torch.float32)

    def check(self, params: dict[str, Any], state: dict[str, Any], what: str = "") -> None:
        """Compares parameters and everything that is kept of them."""
        for name, expected in self.params.items():
            tolerance = 2e-5 if expected.dtype == torch.float32 else 1e-11
            assert params[name].dtype.name == str(expected.dtype).removeprefix("torch.")
            close(params[name], to_numpy(expected), tolerance, f"{what} {name}")
            for slot, value in self.optimizer.state[expected].items():
                if value is not None and slot not in ("step", "eta", "mu"):
                    close(state[slot][name], to_numpy(value), tolerance, f"{what} {slot} of {name}")


def close(actual: Any, expected: np.ndarray, tolerance: float, what: str) -> None:
    assert actual.shape == expected.shape, what
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance / 10, err_msg=what)


def ours(name: str, options: dict[str, Any]) -> optim.Optimizer:
    return getattr(optim, name)(**{key: to_volta(value) for key, value in options.items()})


def tensors(values: dict[str, Any]) -> dict[str, volta.Tensor]:
    return {key: volta.Tensor(value) for key, value in values.items()}


@pytest.mark.parametrize("steps", [5, pytest.param(STEPS, marks=pytest.mark.full)])
@pytest.mark.parametrize(("name", "options"), [*CASES, *pytorchs_own()])
def test_every_step_is_pytorchs(name: str, options: dict[str, Any], steps: int) -> None:
    optimizer, theirs, params = ours(name, options), Theirs(name, options, START), tensors(START)
    state = optimizer.init(params)
    for gradients in GRADIENTS[:steps]:
        params, state = optimizer.update(params, gradients, state)
        theirs.step(gradients)
        theirs.check(params, state)


def test_every_compiled_step_is_pytorchs() -> None:
    start = {"matrix": START["matrix"]}
    optimizers = [ours(name, options) for name, options in CASES]
    everything = [(params := tensors(start), optimizer.init(params)) for optimizer in optimizers]
    theirs = [Theirs(name, options, start) for name, options in CASES]

    @volta.jit(donate=("everything",))
    def step(everything: Any, gradients: Any) -> Any:
        return [
            optimizer.update(params, gradients, state)
            for optimizer, (params, state) in zip(optimizers, everything, strict=True)
        ]

    for gradients in GRADIENTS:
        everything = step(everything, {"matrix": gradients["matrix"]})
        for case, their, (params, state) in zip(CASES, theirs, everything, strict=True):
            their.step(gradients)
            their.check(params, state, str(case))
    for _, state in everything:
        assert state["step"].item() == STEPS and state["step"].dtype == np.int32


def test_lion_is_that_of_the_paper() -> None:
    lr, (beta1, beta2), decay = 0.05, (0.8, 0.95), 0.1
    for maximize in (False, True):
        lion = optim.Lion(lr=lr, betas=(beta1, beta2), weight_decay=decay, maximize=maximize)
        p, mean = START["stack"].copy(), np.zeros_like(START["stack"])
        params, update = {"p": volta.Tensor(p)}, volta.jit(lion.update, donate=("params", "state"))
        state = lion.init(params)
        for gradients in GRADIENTS:
            params, state = update(params, {"p": gradients["stack"]}, state)
            g = -gradients["stack"] if maximize else gradients["stack"]
            p = p - lr * (np.sign(beta1 * mean + (1 - beta1) * g) + decay * p)
            mean = mean * beta2 + g * (1 - beta2)
            close(params["p"], p, 1e-12, "p")
            close(state["exp_avg"]["p"], mean, 1e-12, "exp_avg")


@pytest.mark.parametrize("name", sorted({name for name, _ in CASES} | {"Lion"}))
def test_half_precision_has_state_in_float32(name: str) -> None:
    optimizer = getattr(optim, name)(lr=0.05)
    wide = {key: START[key] for key in ("matrix", "vector")}
    expected, exact = tensors(wide), optimizer.init(tensors(wide))
    params = {key: volta.Tensor(value, "bfloat16") for key, value in wide.items()}
    state = optimizer.init(params)
    for gradients in GRADIENTS[:3]:
        gradients = {key: volta.Tensor(gradients[key], "bfloat16") for key in wide}
        params, state = optimizer.update(params, gradients, state)
        expected, exact = optimizer.update(expected, gradients, exact)
    for key in wide:
        assert params[key].dtype.name == "bfloat16"
        np.testing.assert_allclose(params[key].astype("float32"), expected[key], rtol=2e-2, atol=2e-2)
    for slot, names in state.items():
        assert slot == "step" or {value.dtype.name for value in names.values()} <= {"float32"}


def test_training_a_model_is_pytorchs() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(16, 6)).astype(np.float32), rng.integers(0, 3, 16)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
    theirs = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3))
    model.load_state_dict(theirs.state_dict())
    optimizer, torch_optimizer = optim.AdamW(lr=0.01), torch.optim.AdamW(theirs.parameters(), lr=0.01)

    @volta.jit(donate=("model", "state"))
    def step(model: Any, state: Any, x: Any, y: Any) -> Any:
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


class WithFixed(nn.Module):
    """A model with a leaf of each kind."""

    def __init__(self) -> None:
        self.weight, self.fixed = nn.Parameter([1.0]), nn.Parameter([2.0], trainable=False)
        self.mean = nn.Buffer([3.0])


def test_leaves_without_gradient_stay() -> None:
    optimizer, model = optim.Adam(), WithFixed()
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


def test_tied_parameters_stay_tied() -> None:
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    model[1].weight = model[0].weight
    optimizer = optim.SGD(lr=0.1, momentum=0.9)
    state = optimizer.init(model)
    assert list(state["momentum_buffer"]) == ["0.weight"]
    x = np.ones((2, 3), np.float32)

    @volta.jit
    def step(model: Any, state: Any) -> Any:
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


def test_a_tied_parameter_that_is_frozen_in_one_place() -> None:
    model = nn.Sequential(nn.Linear(2, 2, bias=False).freeze(), nn.Linear(2, 2, bias=False))
    model[1].weight = model[0].weight
    optimizer = optim.SGD(lr=0.5, momentum=0.9)
    state = optimizer.init(model)
    assert list(state["momentum_buffer"]) == ["0.weight"]  # its first name, in the state and in updates
    grads = volta.grad(lambda m: m(np.ones((1, 2), np.float32)).sum())(model)
    new, _ = optimizer.update(model, grads, state)
    assert new[0].weight is new[1].weight
    assert not np.array_equal(new[0].weight, model[0].weight)


def test_the_learning_rate_may_be_a_schedule_or_a_tensor() -> None:
    params = {"w": volta.Tensor([1.0])}
    gradient = {"w": volta.Tensor([1.0])}
    schedule = optim.SGD(lr=lambda step: 0.5 ** step.astype("float32"))
    state = schedule.init(params)
    update = volta.jit(schedule.update)
    for expected in (0.0, -0.5, -0.75):
        params, state = update(params, gradient, state)
        assert params["w"].item() == expected

    @volta.jit
    def step(params: Any, lr: Any) -> Any:
        results = []
        for kind in (optim.Adam, optim.Rprop):
            optimizer = kind(lr=lr)
            results.append(optimizer.update(params, gradient, optimizer.init(params))[0])
        return results

    start = {"w": volta.Tensor([1.0])}
    for lr in (0.25, 0.5):
        for result in step(start, volta.Tensor([lr])):
            np.testing.assert_allclose(result["w"], [1 - lr], rtol=1e-6)


def test_averaging_gradient_descent_follows_a_schedule() -> None:
    """PyTorch's ASGD makes an update with the learning rate of the one before."""
    weight = torch.tensor([1.0], requires_grad=True)
    theirs = torch.optim.ASGD([weight], lr=0.5, lambd=0.1)
    schedule = torch.optim.lr_scheduler.ExponentialLR(theirs, 0.5)
    optimizer = optim.ASGD(lr=optim.ExponentialLR(0.5, 0.5), lambd=0.1)
    w = volta.Tensor([1.0])
    state = optimizer.init(w)
    for _ in range(4):
        weight.grad = torch.ones(1)
        theirs.step()
        schedule.step()
        w, state = optimizer.update(w, volta.ones(1), state)
        np.testing.assert_allclose(w, weight.detach(), rtol=1e-6)
    rprop = optim.Rprop(lr=optim.ExponentialLR(0.5, 0.5))
    assert rprop.init(w)["step_size"][""].item() == 0.5


def test_optimizers_are_constants_of_the_program() -> None:
    assert optim.Adam(lr=0.1) == optim.Adam(lr=0.1) != optim.AdamW(lr=0.1)
    assert len({optim.SGD(0.1), optim.SGD(0.1), optim.SGD(0.1, momentum=0.5)}) == 2
    with pytest.raises(AttributeError):
        optim.SGD(0.1).lr = 0.2


def test_bad_hyperparameters_raise_what_pytorch_raises() -> None:
    tried = set()
    for info in optim_db:
        name = info.optim_cls.__name__
        if not hasattr(optim, name):
            continue
        for sample in info.optim_error_inputs_func("cpu", torch.float32):
            options = sample.optimizer_error_input.kwargs
            # Of the others some are about PyTorch's implementations, and some about tensors for other hyperparameters.
            if options and "foreach" not in options and "Tensors" not in sample.error_regex:
                with pytest.raises(sample.error_type, match=sample.error_regex):
                    ours(name, options)
                tried.add(name)
    assert len(tried) == 12


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("SGD", {"lr": -0.1}, "Invalid learning rate: -0.1; expected 0 or more"),
        ("SGD", {"lr": float("nan")}, "Invalid learning rate: nan"),
        ("SGD", {"lr": torch.tensor(-0.5)}, "Invalid learning rate: "),
        ("SGD", {"weight_decay": -1.0}, "Invalid weight_decay value: -1.0"),
        ("SGD", {"nesterov": True}, "Nesterov momentum requires .* got momentum=0.0"),
        ("SGD", {"nesterov": True, "momentum": 0.9, "dampening": 0.1}, "dampening=0.1"),
        ("Adam", {"eps": -1e-8}, "Invalid epsilon value: -1e-08; expected 0 or more"),
        ("Adam", {"betas": (0.9, 1.0)}, "Invalid beta parameter at index 1: 1.0; expected at least 0 and below 1"),
        ("RMSprop", {"alpha": -0.5}, "Invalid alpha value: -0.5"),
        ("Adagrad", {"initial_accumulator_value": -0.5}, "Invalid initial_accumulator_value value: -0.5"),
        ("Adafactor", {"eps": (None, -1.0)}, "epsilon2 should be >= 0 but is: -1.0"),
        ("Adafactor", {"weight_decay": -1.0}, "weight_decay should be >= 0 but is: -1.0"),
        ("Lion", {"betas": (1.5, 0.9)}, "Invalid beta parameter at index 0: 1.5"),
    ],
)
def test_bad_hyperparameters(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ours(name, options)


def test_what_does_not_fit_is_named() -> None:
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


@pytest.mark.parametrize("state", [{}, None, nn.Linear(2, 1)], ids=["empty", "none", "module"])
def test_a_state_of_something_else_is_refused(state) -> None:
    model = nn.Linear(2, 1)
    with pytest.raises(ShapeError, match=r"the optimizer's state is a \w+ that has no step; pass what init\(params\)"):
        optim.Adam(lr=0.1).update(model, model, state)
