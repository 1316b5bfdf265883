"""Initial values of parameters, drawn on the host from one generator of the process.

The names are PyTorch's without their underscore: where PyTorch fills a tensor, these functions take a shape and return
a tensor. A shape is an int or a sequence of them, and ``dtype`` one of floating-point numbers, float32 by default.
Those that are scaled by the layer's size raise ShapeError for fewer than two axes.

Example:
    >>> from volta_mlir import nn
    >>> layer = nn.Linear(256, 128)
    >>> layer.weight = kaiming_normal(layer.weight.shape, mode="fan_out", nonlinearity="relu")
    >>> bool(abs(layer.weight.numpy().std() - calculate_gain("relu") / 128**0.5) < 0.002)
    True
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from volta_mlir.dtypes import DEFAULT_FLOAT, as_dtype, uint32
from volta_mlir.errors import OptionError, ShapeError
from volta_mlir.functions.common import shape_tuple
from volta_mlir.tensor import Tensor

__all__ = [
    "calculate_gain",
    "constant",
    "dirac",
    "eye",
    "fan_in_and_fan_out",
    "kaiming_normal",
    "kaiming_uniform",
    "key",
    "manual_seed",
    "normal",
    "ones",
    "orthogonal",
    "skipped",
    "sparse",
    "trunc_normal",
    "uniform",
    "xavier_normal",
    "xavier_uniform",
    "zeros",
]

Shape = int | Sequence[int]

_generator: Any = np.random.default_rng(0)


def manual_seed(seed: int) -> None:
    """Starts the generator that initialises layers anew; it starts with seed 0 in every process.

    >>> from volta_mlir import nn
    >>> nn.manual_seed(7)
    >>> first = nn.Linear(2, 2).weight.tolist()
    >>> nn.manual_seed(7)
    >>> nn.Linear(2, 2).weight.tolist() == first
    True
    """
    global _generator
    _generator = np.random.default_rng(seed)


class _Zeros:
    """In the place of a generator: what it draws is zero, which takes neither time nor memory."""

    def normal(self, loc: float, scale: float, size: Any) -> np.ndarray:
        return np.zeros(size, np.float32)

    uniform = normal

    def integers(self, low: int, high: int, size: Any, dtype: Any) -> np.ndarray:
        return np.zeros(size, dtype)


@contextlib.contextmanager
def skipped() -> Iterator[None]:
    """Layers that are made inside start with zeros where they would draw numbers: for models that are loaded next.

    Example:
        >>> from volta_mlir import nn
        >>> with skipped():
        ...     layer = nn.Linear(2, 2)
        >>> layer.weight.tolist()
        [[0.0, 0.0], [0.0, 0.0]]
    """
    global _generator
    before, _generator = _generator, _Zeros()
    try:
        yield
    finally:
        _generator = before


def key() -> Tensor:
    """A key for :mod:`volta_mlir.random`, another one at every call.

    >>> key().shape
    (2,)
    """
    return Tensor(_generator.integers(0, 2**32, 2, uint32))


# -- plain distributions ---------------------------------------------------------------------------------------------


def uniform(shape: Shape, a: float = 0.0, b: float = 1.0, dtype: Any = DEFAULT_FLOAT) -> Tensor:
    """Values from the uniform distribution on [a, b).

    >>> bool((uniform((100,), -0.5, 0.5).numpy() < 0.5).all())
    True
    """
    return Tensor(_generator.uniform(a, b, shape_tuple(shape)), as_dtype(dtype))


def normal(shape: Shape, mean: float = 0.0, std: float = 1.0, dtype: Any = DEFAULT_FLOAT) -> Tensor:
    """Values from the normal distribution.

    >>> normal((2, 3)).shape
    (2, 3)
    """
    return Tensor(_generator.normal(mean, std, shape_tuple(shape)), as_dtype(dtype))


def trunc_normal(
    shape: Shape, mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0, dtype: Any = DEFAULT_FLOAT
) -> Tensor:
    """Values from the normal distribution, those outside of [a, b] drawn again.

    Args:
        shape: of the result.
        mean: of the distribution before it is cut off.
        std: of the distribution before it is cut off.
        a: the smallest value.
        b: the largest value.
        dtype: of the result.

    Raises:
        ValueError: fewer than one in 10,000 values would lie in [a, b].

    >>> bool((abs(trunc_normal((1000,)).numpy()) <= 2).all())
    True
    """
    inside = 0.5 * (math.erf((b - mean) / std / math.sqrt(2)) - math.erf((a - mean) / std / math.sqrt(2)))
    if inside < 1e-4:
        raise OptionError(f"trunc_normal: [{a}, {b}] holds next to nothing of the normal distribution ({mean}, {std})")
    values = _generator.normal(mean, std, shape_tuple(shape))
    while not isinstance(_generator, _Zeros) and (outside := (values < a) | (values > b)).any():
        values[outside] = _generator.normal(mean, std, np.count_nonzero(outside))
    return Tensor(values, as_dtype(dtype))


# -- constants -------------------------------------------------------------------------------------------------------


def constant(shape: Shape, val: float, dtype: Any = DEFAULT_FLOAT) -> Tensor:
    """The same value everywhere.

    >>> constant((2,), 0.5).tolist()
    [0.5, 0.5]
    """
    return Tensor(np.full(shape_tuple(shape), val, as_dtype(dtype)))


def zeros(shape: Shape, dtype: Any = DEFAULT_FLOAT) -> Tensor:
    """Zeros.

    >>> zeros(2).tolist()
    [0.0, 0.0]
    """
    return constant(shape, 0, dtype)


def ones(shape: Shape, dtype: Any = DEFAULT_FLOAT) -> Tensor:
    """Ones.

    >>> ones(2).tolist()
    [1.0, 1.0]
    """
    return constant(shape, 1, dtype)


def eye(shape: Shape, dtype: Any = DEFAULT_FLOAT) -> Tensor:
    """A matrix with ones on its diagonal and zeros elsewhere.

    Raises:
        ShapeError: the shape is not that of a matrix.

    >>> eye((2, 3)).tolist()
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    """
    shape = shape_tuple(shape)
    if len(shape) != 2:
        raise ShapeError(f"eye: expected the shape of a matrix, got {shape}")
    return Tensor(np.eye(*shape, dtype=as_dtype(dtype)))


def dirac(shape: Shape, groups: int = 1, dtype: Any = DEFAULT_FLOAT) -> Tensor:
    """The weight of a convolution that returns its input: as many channels as there are out of those that come in.

    Args:
        shape: ``[out, in / groups, *kernel]`` with one to three axes of the kernel.
        groups: of the convolution.
        dtype: of the result.

    Raises:
        ShapeError: the shape has other than 3 to 5 axes, or ``groups`` does not divide its first extent.

    >>> dirac((1, 2, 3)).tolist()
    [[[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]]
    """
    shape = shape_tuple(shape)
    if not 3 <= len(shape) <= 5:
        raise ShapeError(f"dirac: expected a shape of 3, 4 or 5 axes, got {shape}")
    if shape[0] % groups:
        raise ShapeError(f"dirac: {shape[0]} channels can't be divided into {groups} groups")
    values = np.zeros(shape, as_dtype(dtype))
    out = shape[0] // groups
    centre = tuple(extent // 2 for extent in shape[2:])
    for group in range(groups):
        for channel in range(min(out, shape[1])):
            values[(group * out + channel, channel, *centre)] = 1
    return Tensor(values)


# -- scaled by the layer's size --------------------------------------------------------------------------------------


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The factor by which a layer's weights should be larger because of the nonlinearity that follows it.

    Args:
        nonlinearity: ``"linear"``, ``"conv1d"`` …, ``"sigmoid"``, ``"tanh"``, ``"relu"``, ``"leaky_relu"``, ``"selu"``.
        param: the slope of ``leaky_relu``, 0.01 by default.

    Raises:
        ValueError: another nonlinearity.

    >>> calculate_gain("tanh")
    1.6666666666666667
    """
    if nonlinearity in ("linear", "sigmoid") or nonlinearity.startswith("conv"):
        return 1.0
    if nonlinearity == "tanh":
        return 5 / 3
    if nonlinearity == "relu":
        return math.sqrt(2)
    if nonlinearity == "leaky_relu":
        return math.sqrt(2 / (1 + (0.01 if param is None else param) ** 2))
    if nonlinearity == "selu":
        return 0.75
    raise OptionError(f"unsupported nonlinearity {nonlinearity!r}")


def fan_in_and_fan_out(shape: Shape) -> tuple[int, int]:
    """How many inputs an output of a layer with such a weight depends on, and how many outputs an input reaches.

    Raises:
        ShapeError: the shape has fewer than 2 axes.

    >>> fan_in_and_fan_out((8, 3, 5, 5))
    (75, 200)
    """
    shape = shape_tuple(shape)
    if len(shape) < 2:
        raise ShapeError(f"fan in and fan out: expected a shape of at least 2 axes, got {shape}")
    window = math.prod(shape[2:])
    return shape[1] * window, shape[0] * window


def xavier_uniform(shape: Shape, gain: float = 1.0, dtype: Any = DEFAULT_FLOAT) -> Tensor:
    """Uniform values of variance ``gain² · 2 / (fan_in + fan_out)`` (Glorot and Bengio, 2010).

    >>> bool((abs(xavier_uniform((10, 20)).numpy()) <= (6 / 30) ** 0.5).all())
    True
    """
    bound = math.sqrt(3) * _xavier_std(shape, gain)
    return uniform(shape, -bound, bound, dtype)


def xavier_normal(shape: Shape, gain: float = 1.0, dtype: Any = DEFAULT_FLOAT) -> Tensor:
    """Normal values of variance ``gain² · 2 / (fan_in + fan_out)`` (Glorot and Bengio, 2010).

    >>> xavier_normal((10, 20)).shape
    (10, 20)
    """
    return normal(shape, 0.0, _xavier_std(shape, gain), dtype)


def _xavier_std(shape: Shape, gain: float) -> float:
    return gain * math.sqrt(2 / max(1, sum(fan_in_and_fan_out(shape))))


def kaiming_uniform(
    shape: Shape,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    dtype: Any = DEFAULT_FLOAT,
) -> Tensor:
    """Uniform values of variance ``gain² / fan`` (He et al., 2015).

    Args:
        shape: of the weight, ``[out, in, *kernel]``.
        a: the slope of ``leaky_relu``.
        mode: ``"fan_in"`` keeps the magnitudes of the forward pass, ``"fan_out"`` those of the backward pass.
        nonlinearity: what follows the layer, for :func:`calculate_gain`.
        dtype: of the result.

    >>> bool((abs(kaiming_uniform((5, 24), a=5**0.5).numpy()) <= 1 / 24**0.5).all())
    True
    """
    bound = math.sqrt(3) * _kaiming_std(shape, a, mode, nonlinearity)
    return uniform(shape, -bound, bound, dtype)


def kaiming_normal(
    shape: Shape,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    dtype: Any = DEFAULT_FLOAT,
) -> Tensor:
    """Normal values of variance ``gain² / fan`` (He et al., 2015); the arguments are :func:`kaiming_uniform`'s.

    >>> kaiming_normal((5, 24)).shape
    (5, 24)
    """
    return normal(shape, 0.0, _kaiming_std(shape, a, mode, nonlinearity), dtype)


def _kaiming_std(shape: Shape, a: float, mode: str, nonlinearity: str) -> float:
    if mode not in ("fan_in", "fan_out"):
        raise OptionError(f"mode is {mode!r}; expected 'fan_in' or 'fan_out'")
    fan = fan_in_and_fan_out(shape)[mode == "fan_out"]
    return calculate_gain(nonlinearity, a) / math.sqrt(max(1, fan))


def orthogonal(shape: Shape, gain: float = 1.0, dtype: Any = DEFAULT_FLOAT) -> Tensor:
    """A matrix with orthonormal rows or columns, whichever are fewer, times ``gain`` (Saxe et al., 2013).

    Axes after the first count as one.

    Raises:
        ShapeError: the shape has fewer than 2 axes.

    >>> q = orthogonal((2, 5)).numpy()
    >>> bool(abs(q @ q.T - np.eye(2)).max() < 1e-6)
    True
    """
    shape = shape_tuple(shape)
    if len(shape) < 2:
        raise ShapeError(f"orthogonal: expected a shape of at least 2 axes, got {shape}")
    rows, columns = shape[0], math.prod(shape[1:])
    q, r = np.linalg.qr(_generator.normal(size=(max(rows, columns), min(rows, columns))))
    q *= np.sign(np.diag(r))  # the distribution is uniform over orthogonal matrices only with these signs
    return Tensor((gain * (q if rows >= columns else q.T)).reshape(shape), as_dtype(dtype))


def sparse(shape: Shape, sparsity: float, std: float = 0.01, dtype: Any = DEFAULT_FLOAT) -> Tensor:
    """A matrix of normal values, of which in each column a share ``sparsity``, rounded up, is zero (Martens, 2010).

    Raises:
        ShapeError: the shape is not that of a matrix.

    >>> np.count_nonzero(sparse((10, 3), sparsity=0.75).numpy(), axis=0).tolist()
    [2, 2, 2]
    """
    shape = shape_tuple(shape)
    if len(shape) != 2:
        raise ShapeError(f"sparse: expected the shape of a matrix, got {shape}")
    values = _generator.normal(0.0, std, shape)
    for column in values.T:
        column[_generator.permutation(shape[0])[: math.ceil(sparsity * shape[0])]] = 0
    return Tensor(values, as_dtype(dtype))
