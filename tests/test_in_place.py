"""Updates in place: objects get new values, and nothing else changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import volta_mlir as volta
from volta_mlir import Tensor, nn, optim
from volta_mlir.errors import AliasError, DTypeError, ShapeError, TraceError

START = np.array([[1.0, -2.0, 3.0], [0.5, 4.0, -1.5]], np.float32)
OTHER = np.array([2.0, -0.5, 4.0], np.float32)


def assign(index: Any) -> Callable[[Any, Any], None]:
    def update(x: Any, y: Any) -> None:
        x[index] = y[0] if np.ndim(np.asarray(START)[index]) == 0 else y[: START[index].shape[-1]]

    return update


#: Updates of ``x`` by ``y``, the same in PyTorch.
UPDATES: dict[str, Callable[[Any, Any], Any]] = {
    "add_": lambda x, y: x.add_(y),
    "add_ with alpha": lambda x, y: x.add_(y, alpha=-2),
    "sub_": lambda x, y: x.sub_(y),
    "sub_ with alpha": lambda x, y: x.sub_(1.5, alpha=3),
    "mul_": lambda x, y: x.mul_(y),
    "div_": lambda x, y: x.div_(y),
    "pow_": lambda x, y: x.pow_(2),
    "clamp_": lambda x, y: x.clamp_(-1, 2),
    "clamp_ of one side": lambda x, y: x.clamp_(max=0.5),
    "copy_": lambda x, y: x.copy_(y),
    "fill_": lambda x, y: x.fill_(7),
    "zero_": lambda x, y: x.zero_(),
    "a chain": lambda x, y: x.mul_(2).add_(y).clamp_(min=0),
    "by itself": lambda x, y: x.mul_(x),
    "x[0, 1] = y": assign((0, 1)),
    "x[1] = y": assign(1),
    "x[:, 1:] = y": assign((slice(None), slice(1, None))),
    "x[:] = y": assign(slice(None)),
    "x[[1, 1]] = y": assign([1, 1]),
}


def results(update: Callable[[Any, Any], Any], x: Any, y: Any) -> Any:
    """The updated tensor; what was computed from it before must not change."""
    before = x + 0
    update(x, y)
    return x, before


@pytest.mark.parametrize("update", UPDATES.values(), ids=UPDATES)
def test_updates_are_pytorchs(update: Callable[[Any, Any], Any]) -> None:
    expected, _ = results(update, torch.tensor(START), torch.tensor(OTHER))
    x, y, array = Tensor(START), Tensor(OTHER), START.copy()
    view = x.numpy()
    actual, before = results(update, x, y)
    assert actual is x
    np.testing.assert_allclose(x, expected.numpy(), rtol=1e-6)
    for kept in (before, view, array):
        np.testing.assert_array_equal(kept, START)
    np.testing.assert_array_equal(y, OTHER)


def test_compiled_updates() -> None:
    """All in one program; the arguments are the callers', and keep their values."""

    @volta.jit
    def program(x: Any, y: Any) -> Any:
        return {name: results(update, x.clone(), y) for name, update in UPDATES.items()}, x, y

    x, y = Tensor(START), Tensor(OTHER)
    found, same_x, same_y = program(x, y)
    for name, update in UPDATES.items():
        expected, _ = results(update, torch.tensor(START), torch.tensor(OTHER))
        np.testing.assert_allclose(found[name][0], expected.numpy(), rtol=1e-6, err_msg=name)
        np.testing.assert_array_equal(found[name][1], START, err_msg=name)
    for kept in (x, same_x):
        np.testing.assert_array_equal(kept, START)
    for kept in (y, same_y):
        np.testing.assert_array_equal(kept, OTHER)


def test_arguments_are_the_functions_own() -> None:
    def function(x: Any) -> Any:
        x.add_(1.0)
        x[0] = 0.0
        return x

    x = Tensor(OTHER)
    for transform in (volta.jit, volta.vmap, lambda f: lambda x: volta.vjp(f, x)[0]):
        inner = function if transform is not volta.vmap else lambda x: x.add_(1.0)
        changed = transform(inner)(x)
        assert changed.tolist()[1:] == [0.5, 5.0]
        np.testing.assert_array_equal(x, OTHER)
    gradient = volta.grad(lambda x: (x.mul_(x).mul_(x)).sum())(x)
    np.testing.assert_allclose(gradient, 4 * OTHER**3)
    total, states = volta.scan(lambda c, y: (c.add_(y), c), Tensor(1.0), x)
    assert (total.item(), states.tolist()) == (6.5, [3.0, 2.5, 6.5])


def test_adding_to_a_name_rebinds_it() -> None:
    x = Tensor(OTHER)
    y = x
    y += 1
    np.testing.assert_array_equal(x, OTHER)
    np.testing.assert_array_equal(y, OTHER + 1)


def test_copies_do_not_share_memory() -> None:
    step = volta.jit(lambda x: x * 2, donate="x")
    x, y, z = Tensor(OTHER), volta.jit(lambda x: x + 1)(Tensor(OTHER)), Tensor(OTHER)
    x.copy_(y)
    z[:] = y
    clone = y.clone()
    step(y)
    for kept in (x, z, clone):
        np.testing.assert_array_equal(kept, OTHER + 1)


@pytest.mark.parametrize(
    ("update", "error", "message"),
    [
        (lambda x: x.add_(1.5), DTypeError, r"result of an in-place operation is float32, which int32\[3\] can't hold"),
        (lambda x: x.div_(2), DTypeError, "float32, which int32"),
        (lambda x: (x > 0).add_(x), DTypeError, r"int32, which bool\[3\] can't hold"),
        (lambda x: x.add_(volta.ones((2, 3), "int32")), ShapeError, r"can't change int32\[3\] to the shape \[2, 3\]"),
        (lambda x: x.copy_(volta.ones(2)), ShapeError, "can't be broadcast"),
        (lambda x: x.fill_(volta.ones(3)), ShapeError, r"fill_ takes a scalar, got float32\[3\]"),
    ],
)
def test_shape_and_dtype_stay(update: Callable[[Any], Any], error: type[Exception], message: str) -> None:
    for call in (update, volta.jit(lambda x: update(x + 0))):
        with pytest.raises(error, match=message) as caught:
            call(Tensor([1, 2, 3]))
        assert caught.value.location.startswith(__file__)


def test_conversion_within_a_kind() -> None:
    x = Tensor([1.0, 2.0], "float16")
    assert x.add_(Tensor([0.5, 0.25])).dtype == "float16"
    assert Tensor([1, 2], "int8").copy_(Tensor([3.7, -200.0])).tolist() == [3, -128]


CONSTANT, LARGE = Tensor(OTHER), Tensor(np.ones(1000, np.float32))


@pytest.mark.parametrize("update", [lambda x: x.add_(1), lambda x: x.__setitem__(0, 1.0), lambda x: x.zero_()])
def test_tensors_from_outside(update: Callable[[Any], Any]) -> None:
    """What an inner function can't return to where the tensor is."""

    def branch(x: Any) -> Any:
        return volta.cond(x.sum() > 0, lambda: update(x) or x, lambda: x)

    calls: list[Callable[[Any], Any]] = [
        branch,
        lambda x: volta.scan(lambda c, _: (update(x) or c, None), x, length=2),
        lambda x: volta.grad(lambda y: (update(x) or y).sum())(x),
        lambda x: update(CONSTANT),
        lambda x: update(LARGE),
    ]
    for call in calls:
        with pytest.raises(TraceError, match=r"made outside of the function that is being traced.*clone\(\)") as caught:
            volta.jit(call)(Tensor(OTHER))
        assert caught.value.location.startswith(__file__)
    leaked = []
    volta.jit(lambda x: leaked.append(x) or x).lower(volta.spec(2))
    with pytest.raises(TraceError, match="belongs to a trace that has ended"):
        update(leaked[0])
    assert LARGE.sum().item() == 1000


def test_constants_and_captures_of_compiled_functions() -> None:
    """A constant can't change any more; what is read at each call can."""
    small, large = Tensor(OTHER), Tensor(np.ones(1000, np.float32))
    function = volta.jit(lambda x: (x * small, x * large.sum()))
    assert function(Tensor(2.0))[1].item() == 2000
    large.mul_(3)
    large[0] = 0.0
    assert function(Tensor(2.0))[1].item() == 2 * 2997
    with pytest.raises(AliasError, match="is a constant of the compiled function main, which would not see the change"):
        small.add_(1)
    np.testing.assert_array_equal(function(Tensor(2.0))[0], OTHER * 2)
    np.testing.assert_array_equal(small.clone().add_(1), OTHER + 1)


class Average(nn.Module):
    def __init__(self) -> None:
        self.mean = nn.Buffer(volta.zeros(()))

    def forward(self, x: Any) -> Any:
        self.mean.mul_(0.5).add_(x)
        return x - self.mean


def test_buffers_are_updated() -> None:
    """As if they had been assigned: in a compiled function the new value comes back."""
    eager, compiled, differentiated = Average(), Average(), Average()
    step = volta.jit(lambda model, x: model(x))
    for x in (1.0, 2.0, 4.0):
        out = eager(Tensor(x))
        assert step(compiled, Tensor(x)).item() == out.item()
        assert volta.value_and_grad(lambda x, model: model(x))(Tensor(x), differentiated)[0].item() == out.item()
    assert eager.mean.item() == compiled.mean.item() == differentiated.mean.item() == 5.25


def test_a_donated_argument_is_updated_in_place() -> None:
    @volta.jit(donate="x")
    def step(x: Any, y: Any) -> Any:
        x.mul_(0.9).add_(y, alpha=0.1)
        x[3] = y[0]
        return x

    ones = volta.jit(lambda: volta.ones((64, 64)))  # on the device, where numpy arrays would be copied to
    x, y = ones(), ones()
    address = x.data.address()
    out = step(x, y)
    expected = np.full((64, 64), 0.9 + 0.1, np.float32)
    expected[3] = 1.0
    np.testing.assert_allclose(out, expected, rtol=1e-6)
    assert out.data.address() == address
    assert not step.lower(out, y).compile().report.dropped


def test_weights_are_updated_after_their_last_use() -> None:
    # The gradient of the first layer needs the weight of the second, whose update could run before it.
    def step(model: nn.Module, state: Any, x: Tensor, y: Tensor) -> Any:
        value, gradients = volta.value_and_grad(lambda model: nn.functional.cross_entropy(model(x), y))(model)
        return *optimizer.update(model, gradients, state), value

    layers = [nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(32 * 4 * 4, 5))
    optimizer = optim.SGD(lr=0.1, momentum=0.9)
    arguments = model, optimizer.init(model), volta.spec((4, 8, 16, 16)), volta.spec((4,), np.int32)
    assert not volta.jit(step, donate="auto").lower(*arguments).compile().report.dropped
