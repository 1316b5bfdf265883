"""Buffers of modules that are written while a function is traced."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import pytest

import volta_mlir as volta
from volta_mlir import Tensor, nn
from volta_mlir.errors import ShapeError, TraceError


class Stats(nn.Module):
    """Sums up what it sees and counts its calls."""

    def __init__(self) -> None:
        self.weight = nn.Parameter([2.0])
        self.total = nn.Buffer(np.zeros(1, np.float32))
        self.calls = nn.Buffer(0)

    def forward(self, x: Any) -> Any:
        self.total = self.total + x
        self.calls = self.calls + 1
        return x * self.weight + self.total


class Outer(nn.Module):
    def __init__(self) -> None:
        self.layers = [Stats(), {"inner": Stats()}]

    def forward(self, x: Any) -> Any:
        return self.layers[1]["inner"](self.layers[0](x))


def state(model: nn.Module) -> dict[str, Any]:
    return {name: buffer.tolist() for name, buffer in model.named_buffers()}


X = Tensor([1.0])


@pytest.mark.parametrize(
    "call",
    [
        lambda m: m(X),
        lambda m: volta.jit(lambda m, x: m(x))(m, X),
        lambda m: volta.jit(lambda x: m(x))(X),
        lambda m: volta.jit(m)(X),
        lambda m: volta.grad(lambda m, x: m(x).sum())(m, X),
        lambda m: volta.grad(lambda x: m(x).sum())(X),
        lambda m: volta.value_and_grad(lambda m, x: (m(x).sum(), m), has_aux=True)(m, X),
        lambda m: volta.vjp(lambda m, x: m(x), m, X),
        lambda m: volta.vjp(lambda x: m(x), X)[1](X),
        lambda m: volta.jvp(lambda x: m(x), (X,), (X,)),
        lambda m: volta.checkpoint(lambda m, x: m(x))(m, X),
        lambda m: volta.grad(lambda x: volta.checkpoint(lambda x: m(x))(x).sum())(X),
        lambda m: volta.grad(lambda x: volta.grad(lambda y: m(y).sum())(x).sum())(X),
        lambda m: volta.jit(lambda m, x: volta.grad(lambda m, x: m(x).sum())(m, x))(m, X),
        lambda m: volta.jit(lambda x: volta.vjp(lambda x: m(x), x)[1](x))(X),
        lambda m: volta.jit(lambda x: volta.scan(lambda c, _: (m(x) + c, None), x, length=1))(X),
    ],
)
def test_what_is_written_comes_back(call):
    model = Outer()
    once = {"layers.0.total": [1.0], "layers.0.calls": 1, "layers.1.inner.total": [3.0], "layers.1.inner.calls": 1}
    call(model)
    assert state(model) == once
    assert all(not buffer.is_traced for buffer in model.buffers())
    call(model)
    assert state(model)["layers.0.total"] == [2.0]
    assert state(model)["layers.1.inner.calls"] == 2


def test_each_call_of_a_compiled_function_reads_what_the_last_one_wrote():
    model = Stats()
    compiled = volta.jit(lambda x: model(x))
    assert [compiled(X).item() for _ in range(3)] == [3.0, 4.0, 5.0]
    model.total = Tensor([10.0])
    assert compiled(X).item() == 13.0
    assert state(model) == {"total": [11.0], "calls": 4}
    passed = volta.jit(lambda m, x: m(x))
    other = Stats()
    assert [passed(other, X).item() for _ in range(2)] == [3.0, 4.0]
    assert state(model)["calls"] == 4


def test_a_buffer_written_often_is_one_result():
    def function(model, x):
        for _ in range(3):
            x = model(x)
        return x

    model = Stats()
    lowered = volta.jit(function).lower(model, X)
    assert lowered.result_names == ["result", "buffer.total", "buffer.calls"]
    assert state(model) == {"total": [0.0], "calls": 0}
    volta.jit(function)(model, X)
    assert state(model)["calls"] == 3


def test_a_buffer_reset_to_a_constant():
    def function(model, x):
        model.calls = 5
        model.calls = model.calls + 1
        return x

    model = Stats()
    lowered = volta.jit(function).lower(model, X)
    assert not lowered.traced.captures
    assert lowered.result_names == ["result", "buffer.calls"]
    volta.jit(function)(model, X)
    assert model.calls.item() == 6
    outside = volta.jit(lambda x: function(model, x))
    model.calls = 0
    outside(X)
    assert model.calls.item() == 6


def test_the_written_module_can_be_returned_too():
    model = Stats()

    @volta.jit
    def function(model, x):
        return model, model(x)

    returned, _ = function(model, X)
    assert returned is not model
    assert returned.calls.item() == model.calls.item() == 1


def test_donated_buffers():
    model = Stats()
    step = volta.jit(lambda model, x: (model, model(x)), donate="model")
    for _ in range(3):
        old, (model, _) = model, step(model, X)
    assert state(model) == {"total": [3.0], "calls": 3}
    assert old.calls.item() == 3


def test_an_error_puts_buffers_back():
    model = Stats()

    def function(x):
        model(x)
        raise KeyError("stop")

    def nested(x):
        return volta.grad(lambda y: function(y))(x)

    def argument(m, x):
        m(x)
        raise KeyError("stop")

    for call in (volta.jit(function), volta.grad(function), volta.jit(nested), nested):
        with pytest.raises(KeyError):
            call(X)
        assert state(model) == {"total": [0.0], "calls": 0}
    with pytest.raises(KeyError):
        volta.jit(argument)(model, X)
    assert state(model) == {"total": [0.0], "calls": 0}


def test_a_function_that_caught_an_error_goes_on():
    model = Stats()

    def function(x):
        with contextlib.suppress(NameError):
            volta.grad(lambda y: model(y) + missing)(x)  # noqa: F821
        return model(x)

    volta.jit(function)(X)
    assert state(model) == {"total": [1.0], "calls": 1}


def test_writes_without_a_meaning():
    model = Stats()
    for call in (volta.vmap(model), volta.jit(volta.vmap(model))):
        with pytest.raises(TraceError, match="a Buffer was assigned under vmap"):
            call(volta.ones((2, 1)))
    for loop in (
        lambda: volta.while_loop(lambda x: x < 5, lambda x: model(x).sum(), 1.0),
        lambda: volta.cond(True, lambda m: m(X), lambda m: X, model),
    ):
        with pytest.raises(TraceError, match="a Buffer was assigned inside"):
            loop()
    with pytest.raises(ShapeError, match=r"buffer Stats\.total has shape \(1,\), got \(2,\)"):
        volta.jit(lambda m: setattr(m, "total", volta.ones(2)))(model)
    with pytest.raises(TraceError, match="added or removed leaves"):
        volta.jit(lambda m: setattr(m, "other", nn.Parameter([1.0])))(model)
    assert state(model) == {"total": [0.0], "calls": 0}


def test_gradients_leave_buffers_out():
    gradient = volta.grad(lambda m, x: m(x).sum())(Stats(), X)
    assert gradient.weight.tolist() == [1.0]
    assert (gradient.total, gradient.calls) == (None, None)


def test_buffers_are_carried_through_a_scan():
    model = Stats()

    @volta.jit
    def function(xs):
        return volta.scan(lambda c, x: (c, model(x)), 0.0, xs)[1]

    outs = function(Tensor([[1.0], [2.0], [3.0]]))
    assert outs.tolist() == [[3.0], [7.0], [12.0]]
    assert state(model) == {"total": [6.0], "calls": 3}
    gradient = volta.grad(lambda xs: volta.scan(lambda c, x: (c, model(x)), 0.0, xs)[1].sum())(volta.ones((3, 1)))
    assert gradient.tolist() == [[5.0], [4.0], [3.0]]
    assert state(model)["calls"] == 6


XS = Tensor([[1.0], [2.0], [3.0]])


@pytest.mark.parametrize("transform", [lambda f: f, volta.jit])
def test_modules_in_a_carry(transform):
    model = Stats()
    loop = transform(lambda model, xs: volta.scan(lambda m, x: (m, m(x)), model, xs))
    last, outs = loop(model, XS)
    assert outs.tolist() == [[3.0], [7.0], [12.0]]
    assert state(last) == state(model) == {"total": [6.0], "calls": 3}
    while_loop = transform(lambda model: volta.while_loop(lambda m: m.calls < 7, lambda m: (m(X), m)[1], model))
    assert state(while_loop(model)) == state(model) == {"total": [10.0], "calls": 7}

    def keeps_the_old(m, x):
        old = volta.tree.map(lambda leaf: leaf, m)
        return old, m(x)

    last, outs = transform(lambda model, xs: volta.scan(keeps_the_old, model, xs))(model, XS)
    assert outs.tolist() == [[13.0], [16.0], [19.0]]
    assert state(last) == state(model) == {"total": [10.0], "calls": 7}


@pytest.mark.parametrize("transform", [lambda f: f, volta.jit])
def test_stacked_modules_in_a_scan(transform):
    layers = volta.tree.map(lambda *leaves: volta.stack(leaves), Stats(), Stats(), Stats())
    loop = transform(lambda layers, x: volta.scan(lambda x, layer: (layer(x), None), x, layers)[0])
    assert loop(layers, X).tolist() == [27.0]
    assert state(layers) == {"total": [[1.0], [3.0], [9.0]], "calls": [1, 1, 1]}
    backwards = volta.scan(lambda x, layer: (layer(x), None), X, layers, reverse=True)[0]
    assert backwards.tolist() == [118.0]
    assert state(layers) == {"total": [[40.0], [15.0], [10.0]], "calls": [2, 2, 2]}


def test_training_steps_in_a_scan():
    def step(carry, x):
        model, rate = carry
        gradient = volta.grad(lambda m: m(x).sum())(model)
        model.weight = model.weight - rate * gradient.weight
        return (model, rate), model.weight

    for transform in (lambda f: f, volta.jit):
        model = Stats()
        (model, _), weights = transform(lambda m, xs: volta.scan(step, (m, 0.5), xs))(model, XS)
        assert weights.tolist() == [[1.5], [0.5], [-1.0]]
        assert state(model) == {"total": [6.0], "calls": 3}
