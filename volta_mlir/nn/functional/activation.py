"""Activation functions.

They have PyTorch's names, arguments and derivatives, those at kinks included; ``inplace`` is left out, since tensors do
not change. Half precision is computed in float32 and rounded once. Unless said otherwise, a function takes a tensor of
floating-point numbers of any shape and returns one of the same shape and dtype, and raises DTypeError for other dtypes;
where integers are allowed too, for bools.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import volta_mlir as volta
from volta_mlir import random
from volta_mlir.dtypes import as_dtype, bool_
from volta_mlir.errors import DTypeError, OptionError, ShapeError, TraceError, warn
from volta_mlir.functions.common import as_tensor, promote
from volta_mlir.nn.functional.arguments import compute_dtype, float_tensor, one_axis
from volta_mlir.tensor import Tensor

__all__ = [
    "celu",
    "elu",
    "gelu",
    "glu",
    "gumbel_softmax",
    "hardshrink",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "leaky_relu",
    "log_softmax",
    "logsigmoid",
    "mish",
    "prelu",
    "relu",
    "relu6",
    "rrelu",
    "selu",
    "sigmoid",
    "silu",
    "softmax",
    "softmin",
    "softplus",
    "softshrink",
    "softsign",
    "swiglu",
    "tanh",
    "tanhshrink",
    "threshold",
]


def _computed(what: str, input: Any, function: Callable[[Tensor], Tensor]) -> Tensor:
    """``function(input)``, where half precision is computed in float32."""
    x = float_tensor(what, input)
    return as_tensor(function(as_tensor(x, compute_dtype(x))), x.dtype)


def _numbers(what: str, input: Any) -> Tensor:
    """``input`` as a tensor of numbers, integers too; raises DTypeError for bools."""
    x = as_tensor(input)
    if x.dtype == bool_:
        raise DTypeError(f"{what}: expected numbers, got {x.spec}")
    return x


# -- piecewise linear ----------------------------------------------------------------------------------------------
# By selects and not by maximum: the derivative of a select is a mask, while equal operands of maximum share theirs.


def relu(input: Any) -> Tensor:
    """``max(input, 0)``; the derivative at 0 is 0, and NaN stays NaN.

    Args:
        input: numbers, integers too.

    >>> relu(Tensor([-1.0, 2.0])).tolist()
    [0.0, 2.0]
    """
    return threshold(_numbers("relu", input), 0, 0)


def threshold(input: Any, threshold: float, value: float) -> Tensor:
    """``input`` where it is larger than ``threshold``, else ``value``.

    Args:
        input: numbers, integers too.
        threshold, value: converted to the dtype of the input.

    >>> threshold(Tensor([0.5, 1.0, 2.0]), 1.0, -7.0).tolist()
    [-7.0, -7.0, 2.0]
    """
    x = _numbers("threshold", input)
    return volta.where(x <= volta.full_like(x, threshold), volta.full_like(x, value), x)


def hardtanh(input: Any, min_val: float = -1.0, max_val: float = 1.0) -> Tensor:
    """``input`` limited to the interval from ``min_val`` to ``max_val``; the derivative at the bounds is 0.

    Args:
        input: numbers, integers too.
        min_val, max_val: the bounds, converted to the dtype of the input.

    Raises:
        ValueError: the bounds cross.
        DTypeError: the lower bound is negative, and the input is of an unsigned dtype.

    >>> hardtanh(Tensor([-2.0, 0.5, 2.0])).tolist()
    [-1.0, 0.5, 1.0]
    """
    if min_val > max_val:
        raise OptionError(f"hardtanh: min_val cannot be greater than max_val, got {min_val} and {max_val}")
    x = _numbers("hardtanh", input)
    if x.dtype.kind == "u" and min_val < 0:
        raise DTypeError(f"hardtanh: {x.spec} has no negative numbers, got min_val={min_val}")
    low, high = volta.full_like(x, min_val), volta.full_like(x, max_val)
    return volta.where(x <= low, low, volta.where(x >= high, high, x))


def relu6(input: Any) -> Tensor:
    """``min(max(input, 0), 6)``; the derivative at 0 and 6 is 0.

    Args:
        input: numbers, integers too.

    >>> relu6(Tensor([-1.0, 2.0, 8.0])).tolist()
    [0.0, 2.0, 6.0]
    """
    return hardtanh(input, 0, 6)


def leaky_relu(input: Any, negative_slope: float = 0.01) -> Tensor:
    """``input`` where it is positive, else ``negative_slope * input``.

    >>> leaky_relu(Tensor([-2.0, 2.0]), 0.25).tolist()
    [-0.5, 2.0]
    """
    return _leaky(float_tensor("leaky_relu", input), negative_slope)


def _leaky(x: Tensor, slope: Any) -> Tensor:
    return volta.where(x > 0, x, x * slope)


def prelu(input: Any, weight: Any) -> Tensor:
    """``input`` where it is positive, else ``weight * input``, with a weight for all elements or for each channel.

    Args:
        input: ``(N, C, …)``, or any shape for a single weight.
        weight: ``(C,)``, ``(1,)`` or ``()``.

    Raises:
        ShapeError: there are neither one nor as many weights as channels.

    >>> prelu(Tensor([[-2.0, -2.0]]), Tensor([0.5, 0.25])).tolist()
    [[-1.0, -0.5]]
    """
    x, weight = promote(float_tensor("prelu", input), float_tensor("prelu", weight))
    if weight.ndim > 1:
        raise ShapeError(f"prelu: expected weight to be a scalar or of rank 1, got {weight.spec}")
    if weight.size != 1:
        channels = x.shape[1] if x.ndim > 1 else 1
        if weight.size != channels:
            raise ShapeError(f"prelu: {x.spec} has {channels} channels, got {weight.size} weights")
        return _leaky(x, weight.reshape((-1,) + (1,) * (x.ndim - 2)))
    return _leaky(x, weight.reshape(()))


def rrelu(
    input: Any, lower: float = 1.0 / 8, upper: float = 1.0 / 3, training: bool = False, *, key: Tensor | None = None
) -> Tensor:
    """Leaky ReLU, whose slope for each element is drawn in training, and the mean of the bounds otherwise.

    Args:
        input: any shape.
        lower, upper: the bounds of the uniform distribution of slopes.
        training: whether to draw.
        key: for the random numbers, as :func:`volta_mlir.random.key` makes it; PyTorch has a generator instead.

    Raises:
        TraceError: there is no key in training.
        ValueError: the bounds cross.

    Source: Xu et al., "Empirical Evaluation of Rectified Activations in Convolutional Network" (2015).

    >>> rrelu(Tensor([-2.0, 2.0]), 0.25, 0.75).tolist()
    [-1.0, 2.0]
    >>> slope = -rrelu(Tensor(-1.0), 0.25, 0.75, training=True, key=volta.random.key(0)).item()
    >>> 0.25 <= slope < 0.75
    True
    """
    x = float_tensor("rrelu", input)
    if lower > upper:
        raise OptionError(f"rrelu: the lower bound {lower} is above the upper bound {upper}")
    if not training:
        return _leaky(x, (lower + upper) / 2)
    return _leaky(x, random.uniform(_required("rrelu", key), x.shape, x.dtype, lower, upper))


def _required(what: str, key: Tensor | None) -> Tensor:
    if key is None:
        raise TraceError(f"{what} draws random numbers; pass key=volta.random.key(…), a new one for every call")
    return key


def hardsigmoid(input: Any) -> Tensor:
    """``relu6(input + 3) / 6``.

    >>> hardsigmoid(Tensor([-4.0, 0.0, 4.0])).tolist()
    [0.0, 0.5, 1.0]
    """
    return _computed("hardsigmoid", input, lambda x: relu6(x + 3) / 6)


def hardswish(input: Any) -> Tensor:
    """``input * relu6(input + 3) / 6``.

    Source: Howard et al., "Searching for MobileNetV3" (2019).

    >>> hardswish(Tensor([-4.0, 0.0, 4.0])).tolist()
    [-0.0, 0.0, 4.0]
    """
    return _computed("hardswish", input, lambda x: x * relu6(x + 3) / 6)


def hardshrink(input: Any, lambd: float = 0.5) -> Tensor:
    """``input``, but 0 where it lies between ``-lambd`` and ``lambd``.

    >>> hardshrink(Tensor([-2.0, 0.5, 1.0])).tolist()
    [-2.0, 0.0, 1.0]
    """
    x = float_tensor("hardshrink", input)
    return volta.where((x >= -lambd) & (x <= lambd), volta.zeros_like(x), x)


def softshrink(input: Any, lambd: float = 0.5) -> Tensor:
    """``input`` moved towards 0 by ``lambd``, and not across it.

    Raises:
        ValueError: ``lambd`` is negative.

    >>> softshrink(Tensor([-2.0, 0.5, 1.0])).tolist()
    [-1.5, 0.0, 0.5]
    """
    if lambd < 0:
        raise OptionError(f"softshrink: lambd must be greater or equal to 0, got {lambd}")
    x = float_tensor("softshrink", input)
    return volta.where((x >= -lambd) & (x <= lambd), volta.zeros_like(x), x - lambd * volta.sign(x))


# -- exponential ---------------------------------------------------------------------------------------------------


def elu(input: Any, alpha: float = 1.0) -> Tensor:
    """``input`` where it is positive, else ``alpha * (exp(input) - 1)``; the derivative at 0 is ``alpha``.

    Source: Clevert et al., "Fast and Accurate Deep Network Learning by Exponential Linear Units" (2015).

    >>> elu(Tensor([0.0, 2.0])).tolist()
    [0.0, 2.0]
    """
    return _computed("elu", input, lambda x: _elu(x, alpha, 1.0))


def _elu(x: Tensor, alpha: float, scale: float) -> Tensor:
    negative = x <= 0
    return volta.where(negative, alpha * volta.expm1(volta.where(negative, x * scale, 0.0)), x)


def celu(input: Any, alpha: float = 1.0) -> Tensor:
    """``input`` where it is positive, else ``alpha * (exp(input / alpha) - 1)``.

    Raises:
        ValueError: ``alpha`` is 0.

    Source: Barron, "Continuously Differentiable Exponential Linear Units" (2017).

    >>> celu(Tensor([0.0, 2.0]), alpha=0.5).tolist()
    [0.0, 2.0]
    """
    if alpha == 0:
        raise OptionError("celu: alpha cannot be 0")
    return _computed("celu", input, lambda x: _elu(x, alpha, 1 / alpha))


# Fixed points of mean 0 and variance 1, from the source that selu names.
_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772, 1.0507009873554805


def selu(input: Any) -> Tensor:
    """``1.0507… * elu(input, 1.6732…)``, which keeps mean and variance through many layers.

    Source: Klambauer et al., "Self-Normalizing Neural Networks" (2017).

    >>> selu(Tensor([0.0, 1.0])).tolist()
    [0.0, 1.0507010221481323]
    """
    return _computed("selu", input, lambda x: _SELU_SCALE * _elu(x, _SELU_ALPHA, 1.0))


def gelu(input: Any, approximate: str = "none") -> Tensor:
    """``input`` times the normal distribution's cumulative function of it.

    Args:
        input: any shape.
        approximate: ``"none"`` for ``input * (1 + erf(input / √2)) / 2``, or ``"tanh"`` for
            ``input * (1 + tanh(√(2/π) * (input + 0.044715 * input³))) / 2``.

    Raises:
        ValueError: ``approximate`` is something else.

    Source: Hendrycks and Gimpel, "Gaussian Error Linear Units" (2016).

    >>> round(gelu(Tensor(1.0)).item(), 4), round(gelu(Tensor(1.0), approximate="tanh").item(), 4)
    (0.8413, 0.8412)
    """
    if approximate == "none":
        return _computed("gelu", input, lambda x: 0.5 * x * (1 + volta.erf(x * math.sqrt(0.5))))
    if approximate == "tanh":
        scale = math.sqrt(2 / math.pi)
        return _computed("gelu", input, lambda x: 0.5 * x * (1 + volta.tanh(scale * (x + 0.044715 * x * x * x))))
    raise OptionError(f"gelu: approximate must be 'none' or 'tanh', got {approximate!r}")


def sigmoid(input: Any) -> Tensor:
    """``1 / (1 + exp(-input))``; integers become float32.

    >>> sigmoid(Tensor([0.0, 1000.0])).tolist()
    [0.5, 1.0]
    """
    return volta.sigmoid(input)


def logsigmoid(input: Any) -> Tensor:
    """``log(sigmoid(input))``, computed without overflow.

    >>> logsigmoid(Tensor([-1000.0, 1000.0])).tolist()
    [-1000.0, -0.0]
    """
    return _computed("logsigmoid", input, lambda x: -volta.logaddexp(-x, 0.0))


def tanh(input: Any) -> Tensor:
    """The hyperbolic tangent; integers become float32.

    >>> tanh(Tensor([0.0, 1000.0])).tolist()
    [0.0, 1.0]
    """
    return volta.tanh(input)


def tanhshrink(input: Any) -> Tensor:
    """``input - tanh(input)``.

    >>> tanhshrink(Tensor([0.0, 1000.0])).tolist()
    [0.0, 999.0]
    """
    return _computed("tanhshrink", input, lambda x: x - volta.tanh(x))


def silu(input: Any) -> Tensor:
    """``input * sigmoid(input)``, also known as swish.

    >>> silu(Tensor([0.0, 1000.0])).tolist()
    [0.0, 1000.0]
    """
    return _computed("silu", input, lambda x: x * volta.sigmoid(x))


def mish(input: Any) -> Tensor:
    """``input * tanh(softplus(input))``.

    Source: Misra, "Mish: A Self Regularized Non-Monotonic Neural Activation Function" (2019).

    >>> mish(Tensor([0.0, 1000.0])).tolist()
    [0.0, 1000.0]
    """
    return _computed("mish", input, lambda x: x * volta.tanh(volta.logaddexp(x, 0.0)))


def softplus(input: Any, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """``log(1 + exp(beta * input)) / beta``, a smooth ReLU.

    Args:
        input: any shape.
        beta: how sharp the bend is.
        threshold: where ``beta * input`` is larger, the result is ``input``.

    >>> softplus(Tensor([-1000.0, 0.0, 1000.0])).tolist()
    [0.0, 0.6931471824645996, 1000.0]
    """

    def function(x: Tensor) -> Tensor:
        scaled = x * beta
        return volta.where(scaled > threshold, x, volta.logaddexp(scaled, 0.0) / beta)

    return _computed("softplus", input, function)


def softsign(input: Any) -> Tensor:
    """``input / (1 + |input|)``.

    >>> softsign(Tensor([-1.0, 3.0])).tolist()
    [-0.5, 0.75]
    """
    return _computed("softsign", input, lambda x: x / (volta.abs(x) + 1))


# -- along an axis -------------------------------------------------------------------------------------------------


def softmax(input: Any, dim: int | None = None, dtype: Any = None) -> Tensor:
    """``exp(input)``, normalised to a sum of 1 along ``dim``, computed without overflow.

    Args:
        input: any shape.
        dim: the axis. Without one it is axis 0 of tensors of rank 0, 1 and 3, and axis 1 of others, with a warning.
        dtype: the input is first converted to it.

    Raises:
        ShapeError: the input has no axis ``dim``.

    >>> softmax(Tensor([1000.0, 1000.0]), dim=0).tolist()
    [0.5, 0.5]
    """
    return _along_axis("softmax", input, dim, dtype, _softmax)


def softmin(input: Any, dim: int | None = None, dtype: Any = None) -> Tensor:
    """``softmax(-input)``; see :func:`softmax`.

    >>> softmin(Tensor([1000.0, 1000.0]), dim=0).tolist()
    [0.5, 0.5]
    """
    return _along_axis("softmin", input, dim, dtype, lambda x, axis: _softmax(-x, axis))


def log_softmax(input: Any, dim: int | None = None, dtype: Any = None) -> Tensor:
    """``log(softmax(input))``, computed without overflow; see :func:`softmax`.

    >>> log_softmax(Tensor([1000.0, 1000.0]), dim=0).tolist()
    [-0.6931471824645996, -0.6931471824645996]
    """
    return _along_axis("log_softmax", input, dim, dtype, _log_softmax)


def _along_axis(
    what: str, input: Any, dim: int | None, dtype: Any, function: Callable[[Tensor, int], Tensor]
) -> Tensor:
    if dtype is not None:
        input = as_tensor(input, as_dtype(dtype))
    x = float_tensor(what, input)
    if dim is None:
        dim = 0 if x.ndim in (0, 1, 3) else 1
        warn(f"{what}: without dim= the axis depends on the rank; it is {dim} for {x.spec}. Pass dim={dim}")
    axis = one_axis(what, x, dim)
    vector = x if x.ndim else x.reshape(1)
    return _computed(what, vector, lambda x: function(x, axis)).reshape(x.shape)


def _shifted(x: Tensor, axis: int) -> Tensor:
    # Softmax does not change when its input shifts, so the shift has no derivative either.
    return x - volta.stop_gradient(x.max(axis, keepdims=True))


def _softmax(x: Tensor, axis: int) -> Tensor:
    exponentials = volta.exp(_shifted(x, axis))
    return exponentials / exponentials.sum(axis, keepdims=True)


def _log_softmax(x: Tensor, axis: int) -> Tensor:
    x = _shifted(x, axis)
    return x - volta.log(volta.exp(x).sum(axis, keepdims=True))


def gumbel_softmax(
    logits: Any, tau: float = 1, hard: bool = False, *, dim: int = -1, key: Tensor | None = None
) -> Tensor:
    """A sample of one-hot vectors with the probabilities ``softmax(logits)``, softened so that it has derivatives.

    PyTorch's argument ``eps``, which has no effect there, is left out.

    Args:
        logits: unnormalised log-probabilities, any shape.
        tau: the temperature: the smaller, the closer the sample is to one-hot.
        hard: whether the result is one-hot, with the derivatives of the soft one.
        dim: the axis of the vectors.
        key: for the random numbers, as :func:`volta_mlir.random.key` makes it; PyTorch has a generator instead.

    Raises:
        TraceError: there is no key.
        ShapeError: the logits have no axis ``dim``.

    Sources: Maddison et al., "The Concrete Distribution" (2016); Jang et al., "Categorical Reparameterization with
    Gumbel-Softmax" (2016).

    >>> gumbel_softmax(Tensor([0.0, 100.0]), hard=True, key=volta.random.key(0)).tolist()
    [0.0, 1.0]
    """
    x = float_tensor("gumbel_softmax", logits)
    axis = one_axis("gumbel_softmax", x, dim)
    dtype = compute_dtype(x)
    noise = random.gumbel(_required("gumbel_softmax", key), x.shape, dtype)
    soft = softmax((as_tensor(x, dtype) + noise) / tau, axis)
    if hard:
        chosen = volta.argmax(soft, axis, keepdims=True) == volta.iota(soft.shape, axis)
        soft = chosen.astype(dtype) + (soft - volta.stop_gradient(soft))
    return as_tensor(soft, x.dtype)


def glu(input: Any, dim: int = -1) -> Tensor:
    """``a * sigmoid(b)``, where ``a`` is the first half of the input along ``dim`` and ``b`` the second.

    Args:
        input: an even extent along ``dim``.
        dim: the axis to halve.

    Raises:
        ShapeError: the extent is odd, or there is no such axis.

    Source: Dauphin et al., "Language Modeling with Gated Convolutional Networks" (2016).

    >>> glu(Tensor([3.0, 0.0])).tolist()
    [1.5]
    """
    a, b = _halves("glu", input, dim)
    dtype = compute_dtype(a)
    return as_tensor(as_tensor(a, dtype) * volta.sigmoid(as_tensor(b, dtype)), a.dtype)


def swiglu(x: Any, dim: int = -1) -> Tensor:
    """``silu(a) * b``, where ``a``, the gate, is the first half of ``x`` along ``dim`` and ``b`` the second.

    PyTorch has no such function. This is how LLaMA's feed-forward layers combine the results of ``w1`` and ``w3``.

    Args:
        x: an even extent along ``dim``.
        dim: the axis to halve.

    Raises:
        ShapeError: the extent is odd, or there is no such axis.

    Source: Shazeer, "GLU Variants Improve Transformer" (2020).

    >>> swiglu(Tensor([1000.0, 2.0])).tolist()
    [2000.0]
    """
    a, b = _halves("swiglu", x, dim)
    dtype = compute_dtype(a)
    return as_tensor(silu(as_tensor(a, dtype)) * as_tensor(b, dtype), a.dtype)


def _halves(what: str, input: Any, dim: int) -> list[Tensor]:
    x = float_tensor(what, input)
    if not x.ndim:
        raise ShapeError(f"{what} takes a tensor of rank 1 or more, got {x.spec}")
    axis = one_axis(what, x, dim)
    if x.shape[axis] % 2:
        raise ShapeError(f"{what}: halving dimension must be even, but dimension {axis} of {x.spec} is not")
    return volta.split(x, 2, axis)
