"""Normalisation against PyTorch's."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

import volta_mlir as volta
from tests import pytorch
from tests.pytorch import Call, call
from volta_mlir import DTypeError, ShapeError, Tensor
from volta_mlir.nn import functional as F

#: By their names in PyTorch's op database.
OPS = ("batch_norm", "group_norm", "instance_norm", "layer_norm", "local_response_norm", "rms_norm")
DTYPES = (torch.float16, torch.bfloat16, torch.float64)

# PyTorch's updates of running statistics write to its samples; these functions keep theirs.
KEEPS = ("batch_norm", "instance_norm")


def theirs(name: str) -> Any:
    """PyTorch's function, on copies of the running statistics."""
    function = getattr(torch.nn.functional, name)
    if name not in KEEPS:
        return function

    def copying(input: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        args = tuple(a.clone() if isinstance(a, torch.Tensor) and i < 2 else a for i, a in enumerate(args))
        of_stats = {k: kwargs[k].clone() for k in ("running_mean", "running_var") if kwargs.get(k) is not None}
        return function(input, *args, **{**kwargs, **of_stats})

    return copying


def without_statistics(name: str, case: Call) -> Call:
    """The call with running statistics that are not differentiated: PyTorch has no derivatives by them."""
    if name not in KEEPS:
        return case
    args = tuple(a.detach() if isinstance(a, torch.Tensor) and i in (1, 2) else a for i, a in enumerate(case.args))
    kwargs = {k: v.detach() if k.startswith("running") and v is not None else v for k, v in case.kwargs.items()}
    return Call(case.name, args, kwargs)


def applies(name: str, case: Call) -> bool:
    """Whether a sample has channels, and more than two elements to normalise over.

    What is normalised over one or two elements is 0, 1 or -1, and the gradients are zero but for rounding errors.
    """
    return case.args[0].ndim > 1 if name in KEEPS else name != "layer_norm" or math.prod(case.args[1]) > 2


def samples(name: str, dtype: torch.dtype = torch.float32) -> list[Call]:
    """PyTorch's samples that apply."""
    calls = pytorch.sample_calls(f"nn.functional.{name}", dtype)
    return [without_statistics(name, case) for case in calls if applies(name, case)]


def image(*shape: int, seed: int = 0, offset: float = 0.0) -> np.ndarray:
    return (np.random.default_rng(seed).normal(size=shape) + offset).astype(np.float32)


def hand_made(name: str) -> list[Call]:
    """What the samples leave out: weights without biases, large means, odd sizes, an empty batch."""
    x, weight, bias = image(3, 6, 5), image(6, seed=1), image(6, seed=2)
    mean, variance = torch.tensor(image(6, seed=3)), torch.tensor(image(6, seed=4) ** 2)
    far = image(4, 6, 7, offset=10.0)
    if name == "batch_norm":
        return [
            call("training", x, None, None, weight, bias, True),
            call("bias", x, None, None, bias=bias, training=True),
            call("weight", x, mean, variance, weight),
            call("running bias", x, mean, variance, bias=bias, eps=0.1),
            call("matrix", image(5, 6), None, None, weight, bias, True),
            call("volume", image(2, 6, 3, 2, 2), None, None, weight, bias, True),
            call("empty", image(0, 6, 5), mean, variance, weight, bias),
        ]
    if name == "instance_norm":
        return [
            call("image", image(2, 6, 3, 3), weight=weight, bias=bias),
            call("bias", x, bias=bias),
            call("running", x, mean, variance, weight, bias, False),
        ]
    if name == "group_norm":
        return [
            call("far", far, 2, weight, bias),
            call("channels", x, 6, weight),
            call("one", x, 1),
            call("matrix", image(3, 6), 3, weight, bias, 0.1),
            call("empty", image(0, 6, 3), 3, weight, bias),
        ]
    if name == "layer_norm":
        return [
            call("far", far, (6, 7), image(6, 7), image(6, 7, seed=1)),
            call("vector", image(5), (5,)),
            call("bias", x, (5,), None, image(5)),
            call("empty", image(0, 5), (5,), image(5)),
        ]
    if name == "rms_norm":
        return [call("eps", x, (6, 5), image(6, 5), 0.1), call("tiny", x * np.float32(1e-4), (5,))]
    return [call("even", x, 4, 0.5, 0.5, 2.0), call("wide", x, 9, 1.0), call("empty", image(0, 3, 4), 2)]


@pytest.mark.parametrize("name", OPS)
def test_eager(name: str) -> None:
    calls = [*samples(name), *(without_statistics(name, case) for case in hand_made(name))]
    pytorch.check_eager(getattr(F, name), theirs(name), calls, operations=512)


@pytest.mark.parametrize("name", OPS)
def test_dtypes(name: str) -> None:
    calls = [case for dtype in DTYPES for case in pytorch.first_calls(samples(name, dtype), 3)]
    pytorch.check_eager(getattr(F, name), theirs(name), calls, operations=512)


def with_updated_statistics(name: str) -> Any:
    """PyTorch's function in training, which returns copies of the statistics that it updates too."""

    def function(input: torch.Tensor, mean: torch.Tensor, variance: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        mean, variance = mean.detach().clone(), variance.detach().clone()
        weight, bias, momentum = args
        return (
            getattr(torch.nn.functional, name)(input, mean, variance, weight, bias, True, momentum, **kwargs),
            mean,
            variance,
        )

    return function


def updating(name: str) -> list[Call]:
    """Calls of the functions that return new running statistics."""
    weight, bias, stats = image(6), image(6, seed=1), (torch.tensor(image(6)), torch.tensor(image(6, seed=2) ** 2))
    half = [s.to(torch.bfloat16) for s in stats]
    calls = [
        call("image", image(2, 6, 3, 4), *stats, weight, bias, 0.1),
        call("momentum", image(4, 6, 3), *stats, None, None, 0.9, eps=0.1),
        call("half", torch.tensor(image(4, 6, 3)).to(torch.bfloat16), *half, None, None, 0.5),
    ]
    return [without_statistics(name, case) for case in calls]


@pytest.mark.parametrize("name", KEEPS)
def test_running_statistics(name: str) -> None:
    pytorch.check_eager(getattr(F, f"{name}_with_stats"), with_updated_statistics(name), updating(name))


def test_compiled() -> None:
    pairs: list[Any] = [(getattr(F, name), theirs(name), hand_made(name)[0]) for name in OPS]
    pairs += [
        (getattr(F, f"{name}_with_stats"), with_updated_statistics(name), case)
        for name in KEEPS
        for case in updating(name)[::2]
    ]
    pytorch.check_compiled(pairs, operations=512)


def test_momentum_is_a_tensor() -> None:
    x, mean, variance = Tensor(image(4, 2, 3)), volta.zeros(2), volta.ones(2)
    given = F.batch_norm_with_stats(x, mean, variance, momentum=0.25)
    from_tensor = F.batch_norm_with_stats(x, mean, variance, momentum=Tensor(0.25))
    assert [t.tolist() for t in given] == [t.tolist() for t in from_tensor]


def test_mixed_precision() -> None:
    """A half precision input with float32 weights gives a half precision result."""
    x = torch.tensor(image(3, 6, 5)).to(torch.bfloat16)
    weight, bias = image(6), image(6, seed=1)
    calls = [call("batch_norm", x, None, None, weight, bias, True)]
    pytorch.check_eager(F.batch_norm, torch.nn.functional.batch_norm, calls)
    # PyTorch rounds gradients of the weights to half precision on the way.
    calls = [Call("layer_norm", (x.requires_grad_(), (5,), torch.tensor(image(5)), torch.tensor(image(5, seed=1))))]
    pytorch.check_eager(F.layer_norm, torch.nn.functional.layer_norm, calls)


def test_no_cancellation() -> None:
    """Far from 0 the variance is as precise as the input is."""
    x = image(4, 256, offset=3000.0)
    wide = torch.tensor(x, dtype=torch.float64)
    expected = torch.nn.functional.layer_norm(wide, (256,)).numpy()
    for function in (F.layer_norm, volta.jit(lambda x, shape: F.layer_norm(x, (256,)), static=("shape",))):
        actual = function(Tensor(x), (256,)).numpy()
        assert np.abs(actual - expected).max() < 5e-4  # half of the spacing of numbers around 3000 is 1.2e-4


def test_second_order() -> None:
    """The constant mean in the formulas does not show in higher derivatives."""
    x, direction = image(3, 5), image(3, 5, seed=1)

    def ours(x: Any) -> Any:
        return volta.square(F.layer_norm(x, 5, eps=0.1) - 0.5).sum()

    variable = torch.tensor(x, requires_grad=True)
    loss = (torch.nn.functional.layer_norm(variable, (5,), eps=0.1) - 0.5).square().sum()
    (gradient,) = torch.autograd.grad(loss, variable, create_graph=True)
    (expected,) = torch.autograd.grad((gradient * torch.tensor(direction)).sum(), variable)
    forward_over_reverse = volta.jvp(volta.grad(ours), (Tensor(x),), (Tensor(direction),))[1]
    reverse_over_reverse = volta.grad(lambda x: (volta.grad(ours)(x) * direction).sum())(Tensor(x))
    for actual in (forward_over_reverse, reverse_over_reverse):
        np.testing.assert_allclose(actual.numpy(), expected.numpy(), rtol=1e-4, atol=1e-5)


def test_gradient_reduces_twice() -> None:
    """Forward and backward of batch normalisation take two sums over the input each."""

    def step(x: Any, weight: Any, bias: Any, cotangent: Any) -> Any:
        out, pullback = volta.vjp(
            lambda *args: F.batch_norm(args[0], None, None, *args[1:], training=True), x, weight, bias
        )
        return out, pullback(cotangent)

    x, channels = volta.spec((4, 8, 5)), volta.spec(8)
    lowered = volta.jit(step).lower(x, channels, channels, x)
    text = lowered.as_text("volta-alias")
    assert text.count("volta.reduce_sum") == 4, text


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: F.batch_norm(volta.ones((2, 3)), None, None), "expected running_mean and running_var"),
        (lambda: F.batch_norm(volta.ones((1, 3)), None, None, training=True), "more than 1 value per channel"),
        (lambda: F.batch_norm(volta.ones(3), None, None, training=True), r"expected an input of shape \(N, C, …\)"),
        (lambda: F.batch_norm(volta.ones((2, 3)), volta.ones(2), volta.ones(3)), r"running_mean of shape \(3,\)"),
        (lambda: F.instance_norm(volta.ones((2, 3, 1))), "more than 1 value per channel"),
        (
            lambda: F.instance_norm(volta.ones((2, 3, 4)), weight=volta.ones(4)),
            r"weight of shape \(3,\), got float32\[4\]",
        ),
        (lambda: F.group_norm(volta.ones((2, 3, 4)), 2), "that num_groups divides, got .* and 2 groups"),
        (lambda: F.group_norm(volta.ones((2, 3, 4)), 3, bias=volta.ones(1)), r"bias of shape \(3,\)"),
        (lambda: F.layer_norm(volta.ones((2, 3)), 2), r"normalized_shape=\(2,\), expected an input of shape \(\*, 2\)"),
        (lambda: F.layer_norm(volta.ones((2, 3)), ()), "at least one axis"),
        (lambda: F.layer_norm(volta.ones((2, 3)), 3, volta.ones(2)), r"weight of shape \(3,\)"),
        (lambda: F.rms_norm(volta.ones(3), (2, 3)), r"expected an input of shape \(\*, 2, 3\)"),
        (lambda: F.local_response_norm(volta.ones((2, 3)), 1), "rank 3 or more"),
    ],
)
def test_bad_shapes(call: Any, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        call()


@pytest.mark.parametrize("name", OPS)
def test_bad_dtypes(name: str) -> None:
    args = {"batch_norm": (None, None), "instance_norm": ()}.get(name, (1,))
    with pytest.raises(DTypeError, match=f"{name}: expected an input of floating-point numbers, got int32"):
        getattr(F, name)(volta.ones((2, 3, 4), "int32"), *args)
