"""Clipping, parameter groups, gradient accumulation and averages of weights."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

import volta_mlir as volta
from tests.pytorch import to_numpy
from volta_mlir import Tensor, nn, optim
from volta_mlir.errors import ShapeError, TraceError

RNG = np.random.default_rng(0)


def mlp() -> tuple[Any, torch.nn.Module]:
    """A model, and PyTorch's with the same weights."""
    torch.manual_seed(0)
    theirs = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3))
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
    model.load_state_dict(theirs.state_dict())
    return model, theirs


def batch(size: int = 16) -> tuple[np.ndarray, np.ndarray]:
    return RNG.normal(size=(size, 6)).astype(np.float32), RNG.integers(0, 3, size)


def loss_of(model: Any, x: Any, y: Any) -> Any:
    return nn.functional.cross_entropy(model(x), y)


def backward(theirs: torch.nn.Module, x: np.ndarray, y: np.ndarray) -> None:
    theirs.zero_grad()
    torch.nn.functional.cross_entropy(theirs(torch.tensor(x)), torch.tensor(y)).backward()


def check(model: Any, theirs: torch.nn.Module) -> None:
    for name, tensor in theirs.state_dict().items():
        np.testing.assert_allclose(model.state_dict()[name], tensor, rtol=1e-4, atol=1e-5, err_msg=name)


class Tied(nn.Module):
    """A model with a tied weight, a frozen one and a buffer."""

    def __init__(self) -> None:
        self.first, self.second = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
        self.second.weight = self.first.weight
        self.scale = nn.Parameter(2.0, trainable=False)
        self.count = nn.Buffer(0)

    def forward(self, x: Any) -> Any:
        self.count = self.count + 1
        return self.second(self.first(x)) * self.scale


# -- clipping --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm_type", [2.0, 1, 3.5, math.inf, "inf"])
@pytest.mark.parametrize("max_norm", [0.5, 100.0])
def test_clipping_by_norm_is_pytorchs(norm_type: Any, max_norm: float) -> None:
    values = {"a": RNG.normal(size=(3, 4)).astype(np.float32), "b": RNG.normal(size=5), "c": np.array(-2.0, np.float32)}
    parameters = [torch.zeros(value.shape, dtype=torch.as_tensor(value).dtype) for value in values.values()]
    for parameter, value in zip(parameters, values.values(), strict=True):
        parameter.grad = torch.tensor(value)
    expected = torch.nn.utils.clip_grad_norm_(parameters, max_norm, norm_type)
    grads, norm = optim.clip_grad_norm({**values, "none": None}, max_norm, norm_type)
    assert grads["none"] is None
    np.testing.assert_allclose(norm, expected, rtol=1e-6)
    for name, parameter in zip(values, parameters, strict=True):
        assert grads[name].dtype == values[name].dtype
        np.testing.assert_allclose(grads[name], parameter.grad, rtol=1e-6)


def test_clipping_in_a_compiled_step_is_pytorchs() -> None:
    model, theirs = mlp()
    optimizer, torch_optimizer = optim.Adam(lr=0.05), torch.optim.Adam(theirs.parameters(), lr=0.05)

    @volta.jit(donate=("model", "state"))
    def step(model: Any, state: Any, x: Any, y: Any) -> Any:
        grads, norm = optim.clip_grad_norm(volta.grad(loss_of)(model, x, y), 0.3)
        largest = optim.global_norm(grads, math.inf)
        return *optimizer.update(model, optim.clip_grad_value(grads, 0.05), state), norm, largest

    state = optimizer.init(model)
    for _ in range(5):
        x, y = batch()
        model, state, norm, largest = step(model, state, x, y)
        backward(theirs, x, y)
        expected = torch.nn.utils.clip_grad_norm_(theirs.parameters(), 0.3)
        np.testing.assert_allclose(norm, expected, rtol=1e-5)
        np.testing.assert_allclose(largest, max(p.grad.abs().max() for p in theirs.parameters()), rtol=1e-5)
        torch.nn.utils.clip_grad_value_(theirs.parameters(), 0.05)
        torch_optimizer.step()
        check(model, theirs)


def test_tied_gradients_count_once_and_stay_tied() -> None:
    model = Tied()
    grads = volta.grad(lambda m: m(np.ones((1, 2), np.float32)).sum())(model)
    norm = optim.global_norm(grads)
    np.testing.assert_allclose(norm, np.linalg.norm(grads.first.weight), rtol=1e-6)
    clipped, _ = optim.clip_grad_norm(grads, 1e-3)
    assert clipped.first.weight is clipped.second.weight
    assert clipped.scale is None
    np.testing.assert_allclose(optim.global_norm(clipped), 1e-3, rtol=1e-2)


def test_norms_at_the_edges() -> None:
    assert optim.global_norm({"none": None}).item() == 0
    assert optim.global_norm([Tensor(np.zeros((0, 3), np.float32))], math.inf).item() == 0
    half = Tensor([300.0, 400.0], "float16")  # whose squares are infinite in float16
    grads, norm = optim.clip_grad_norm([half], 5.0)
    assert (norm.item(), norm.dtype.name, grads[0].dtype.name) == (500.0, "float32", "float16")
    np.testing.assert_allclose(grads[0].astype("float32"), [3.0, 4.0], rtol=1e-3)
    grads, norm = optim.clip_grad_norm([Tensor([1.0, math.nan])], 5.0)
    assert np.isnan(norm.item()) and np.isnan(grads[0].numpy()).all()
    with pytest.raises(RuntimeError, match=r"The total norm of order 2.0 .* non-finite"):
        optim.clip_grad_norm([Tensor([1.0, math.nan])], 5.0, error_if_nonfinite=True)
    assert optim.clip_grad_norm([Tensor([3.0, 4.0])], 9.0, error_if_nonfinite=True)[1].item() == 5
    with pytest.raises(TraceError):
        volta.jit(lambda g: optim.clip_grad_norm(g, 5.0, error_if_nonfinite=True))(Tensor([1.0]))
    for norm_type in (0, -1.0, math.nan):
        with pytest.raises(ValueError, match=f"Invalid norm_type: {norm_type}"):
            optim.global_norm([Tensor([1.0])], norm_type)


# -- parameter groups ------------------------------------------------------------------------------------------------


def test_groups_are_pytorchs() -> None:
    model, theirs = mlp()
    adamw = optim.AdamW(lr=0.05, weight_decay=0.3)
    optimizer = optim.ParamGroups(
        adamw,
        [
            (lambda name, p: p.ndim < 2, {"weight_decay": 0.0, "lr": optim.ExponentialLR(0.02, gamma=0.9)}),
            ("2.*", optim.SGD(lr=0.1, momentum=0.9)),
        ],
    )
    torch_adamw = torch.optim.AdamW(
        [
            {"params": [theirs[0].weight]},
            {"params": [theirs[0].bias, theirs[2].bias], "weight_decay": 0.0, "lr": 0.02},
        ],
        lr=0.05,
        weight_decay=0.3,
    )
    torch_sgd = torch.optim.SGD([theirs[2].weight], lr=0.1, momentum=0.9)
    step = volta.jit(
        lambda model, state, x, y: optimizer.update(model, volta.grad(loss_of)(model, x, y), state),
        donate=("model", "state"),
    )
    state = optimizer.init(model)
    assert {slot: set(names) for slot, names in state.items() if slot != "step"} == {
        "exp_avg": {"0.weight", "0.bias", "2.bias"},
        "exp_avg_sq": {"0.weight", "0.bias", "2.bias"},
        "momentum_buffer": {"2.weight"},
    }
    for count in range(5):
        x, y = batch()
        model, state = step(model, state, x, y)
        torch_adamw.param_groups[1]["lr"] = 0.02 * 0.9**count
        backward(theirs, x, y)
        torch_adamw.step()
        torch_sgd.step()
        check(model, theirs)


def test_a_group_without_optimizer_is_frozen() -> None:
    model, _ = mlp()
    optimizer = optim.ParamGroups(optim.SGD(lr=0.1, momentum=0.5), [("0.*", None)])
    state = optimizer.init(model)
    assert set(state["momentum_buffer"]) == {"2.weight", "2.bias"}
    new, _ = optimizer.update(model, volta.grad(loss_of)(model, *batch()), state)
    assert new[0].weight is model[0].weight
    assert not np.array_equal(new[2].weight, model[2].weight)


def test_groups_are_constants_of_the_program() -> None:
    sgd = optim.SGD(lr=0.1)
    groups = optim.ParamGroups(sgd, [("*.bias", {"lr": 0.2})])
    assert groups == optim.ParamGroups(sgd, (("*.bias", optim.SGD(lr=0.2)),))
    assert hash(groups) == hash(optim.ParamGroups(sgd, [("*.bias", {"lr": 0.2})]))
    with pytest.raises(TypeError, match="weight_dekay"):
        optim.ParamGroups(sgd, [("*.bias", {"weight_dekay": 0.2})])
    with pytest.raises(ValueError, match="Invalid learning rate: -1"):
        optim.ParamGroups(sgd, [("*.bias", {"lr": -1})])
    for default, group in ((sgd, groups), (groups, None), (sgd, 0.1)):
        with pytest.raises(TypeError, match="an optimizer with one rule"):
            optim.ParamGroups(default, [("*", group)])


# -- accumulation ----------------------------------------------------------------------------------------------------


def test_accumulation_equals_one_big_batch() -> None:
    model, theirs = mlp()
    steps, traces = 4, []
    optimizer = optim.Accumulate(optim.AdamW(lr=optim.ExponentialLR(0.05, gamma=0.8), weight_decay=0.1), steps)
    torch_optimizer = torch.optim.AdamW(theirs.parameters(), weight_decay=0.1)

    @volta.jit(donate=("model", "state"))
    def step(model: Any, state: Any, x: Any, y: Any) -> Any:
        traces.append(1)
        return optimizer.update(model, volta.grad(loss_of)(model, x, y), state)

    state = optimizer.init(model)
    for update in range(3):
        x, y = batch(steps * 8)
        before = {name: np.array(t) for name, t in model.state_dict().items()}
        for i in range(steps):
            for name, value in before.items():
                np.testing.assert_array_equal(model.state_dict()[name], value)
            assert state["accumulated"].item() == i
            model, state = step(model, state, x[i * 8 : (i + 1) * 8], y[i * 8 : (i + 1) * 8])
        torch_optimizer.param_groups[0]["lr"] = 0.05 * 0.8**update
        backward(theirs, x, y)
        torch_optimizer.step()
        check(model, theirs)
        assert state["optimizer"]["step"].item() == update + 1
        assert not any(total.numpy().any() for total in state["grad_sum"].values())
    assert len(traces) == 1, "the state has changed its structure"


def test_accumulation_leaves_what_has_no_gradient() -> None:
    model = Tied()
    optimizer = optim.Accumulate(optim.SGD(lr=0.1, momentum=0.9), steps=2)
    state = optimizer.init(model)
    assert set(state["grad_sum"]) == {"first.weight"}
    grads = volta.grad(lambda m: m(np.ones((1, 2), np.float32)).sum())(model)
    assert model.count.item() == 1
    for _ in range(2):
        new, state = optimizer.update(model, grads, state)
        assert new.first.weight is new.second.weight
        assert new.scale is model.scale and new.count is model.count
    expected = model.first.weight.numpy() - 0.1 * grads.first.weight.numpy()
    np.testing.assert_allclose(new.first.weight, expected, rtol=1e-6)

    params = {"used": Tensor([1.0], "bfloat16"), "unused": Tensor([2.0])}
    state = optimizer.init(params)
    assert state["grad_sum"]["used"].dtype.name == "float32"
    for _ in range(2):
        params, state = optimizer.update(params, {"used": Tensor([1.0], "bfloat16"), "unused": None}, state)
    assert params["used"].dtype.name == "bfloat16" and params["unused"].tolist() == [2.0]
    assert params["used"].astype("float32").item() == pytest.approx(0.9, abs=4e-3)
    with pytest.raises(ShapeError, match="no state for parameter 'other'"):
        optimizer.update({"other": Tensor(1.0)}, {"other": Tensor(1.0)}, state)
    for steps in (0, 1.5):
        with pytest.raises(ValueError, match=f"Expected positive integer steps, but got {steps}"):
            optim.Accumulate(optim.SGD(), steps)


# -- averages --------------------------------------------------------------------------------------------------------


def test_averages_are_pytorchs() -> None:
    values = [{"a": RNG.normal(size=(2, 3)).astype(np.float32), "b": RNG.normal(size=4)} for _ in range(20)]
    module = torch.nn.ParameterDict({name: torch.nn.Parameter(torch.tensor(v)) for name, v in values[0].items()})
    theirs = torch.optim.swa_utils.AveragedModel(module, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.8))
    ema, corrected = optim.EMA(0.8), optim.EMA(0.8, bias_correction=True)
    states = [average.init({name: Tensor(v) for name, v in values[0].items()}) for average in (ema, corrected)]

    @volta.jit(donate=("states",))
    def step(states: Any, params: Any) -> Any:
        return [average.update(params, state) for average, state in zip((ema, corrected), states, strict=True)]

    for count, params in enumerate(values):
        states = step(states, params)
        with torch.no_grad():
            for name, value in params.items():
                module[name].copy_(torch.tensor(value))
        theirs.update_parameters(module)
        weights = 0.8 ** np.arange(count, -1, -1.0)
        for name, tolerance in (("a", 1e-5), ("b", 1e-12)):
            expected = to_numpy(theirs.module[name])
            np.testing.assert_allclose(states[0]["average"][name], expected, rtol=tolerance, atol=tolerance)
            mean = np.average([earlier[name] for earlier in values[: count + 1]], axis=0, weights=weights)
            np.testing.assert_allclose(states[1]["average"][name], mean, rtol=tolerance, atol=tolerance)
    averaged = ema.params(values[-1], states[0])
    np.testing.assert_array_equal(averaged["b"], states[0]["average"]["b"])


def test_averages_in_a_compiled_training_step() -> None:
    model = Tied()
    optimizer, ema = optim.SGD(lr=0.1), optim.EMA(decay=0.5)

    @volta.jit(donate=("model", "average"))
    def step(model: Any, average: Any, x: Any) -> Any:
        grads = volta.grad(lambda m: m(x).sum())(model)
        new, _ = optimizer.update(model, grads, optimizer.init(model))
        return new, ema.update(new, average)

    average = ema.init(model)
    assert set(average["average"]) == {"first.weight"}
    expected = None
    for _ in range(3):
        model, average = step(model, average, np.ones((1, 2), np.float32))
        weight = np.array(model.first.weight)
        expected = weight if expected is None else 0.5 * expected + 0.5 * weight
    averaged = ema.params(model, average)
    np.testing.assert_allclose(averaged.first.weight, expected, rtol=1e-6)
    assert averaged.first.weight is averaged.second.weight
    assert averaged.scale is model.scale and averaged.count is model.count
    np.testing.assert_array_equal(model.first.weight, weight)


def test_averages_of_half_precision_and_bad_ones() -> None:
    ema = optim.EMA(0.999)
    params = {"w": Tensor([1.0], "bfloat16")}
    state = ema.init(params)
    for value in (1.0, 2.0):
        state = ema.update({"w": Tensor([value], "bfloat16")}, state)
    assert state["average"]["w"].dtype.name == "float32"
    np.testing.assert_allclose(state["average"]["w"], [1.001], rtol=1e-6)  # which bfloat16 could not tell from 1
    assert ema.params(params, state)["w"].dtype.name == "bfloat16"
    assert optim.EMA(0.0, bias_correction=True).update(params, state)["average"]["w"].item() == 1
    assert volta.jit(ema.init)(params)["average"]["w"].item() == 1
    for use in (ema.update, ema.params):
        with pytest.raises(ShapeError, match="no state for parameter 'v'"):
            use({"v": Tensor([1.0])}, state)
    for decay, options in ((-0.1, {}), (1.1, {}), (1.0, {"bias_correction": True})):
        with pytest.raises(ValueError, match=f"Invalid decay value: {decay}; expected at least 0"):
            optim.EMA(decay, **options)
