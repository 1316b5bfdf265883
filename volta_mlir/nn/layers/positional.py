"""Positional encodings. Positions run along the axis before the last; PyTorch has no such layers."""

from __future__ import annotations

import math
from typing import Any

import volta_mlir as volta
from volta_mlir.dtypes import DEFAULT_FLOAT, float32, float64, is_float, is_integer
from volta_mlir.errors import DTypeError, OptionError, ShapeError
from volta_mlir.functions.common import as_tensor
from volta_mlir.nn import init
from volta_mlir.nn.layers.common import shown
from volta_mlir.nn.module import Module, Parameter
from volta_mlir.tensor import Tensor

__all__ = ["LearnedPositionalEncoding", "RotaryPositionalEncoding", "SinusoidalPositionalEncoding"]


def _checked(what: str, input: Any, features: int, exact: bool = True) -> Tensor:
    x = as_tensor(input)
    if x.ndim < 2 or not (x.shape[-1] == features or (not exact and x.shape[-1] > features)):
        raise ShapeError(f"{what}: expected an input of shape (..., T, {features}), got {x.spec}")
    if not is_float(x.dtype):
        raise DTypeError(f"{what}: expected an input of floating-point numbers, got {x.spec}")
    return x


def _offset(what: str, offset: Any) -> Tensor:
    offset = as_tensor(offset)
    if offset.shape or not is_integer(offset.dtype):
        raise ShapeError(f"{what}: expected offset to be an integer of rank 0, got {offset.spec}")
    return offset


def _positions(what: str, x: Tensor, offset: Any) -> Tensor:
    return volta.arange(x.shape[-2]) + _offset(what, offset)


def _angles(positions: Tensor, dim: int, theta: float, dtype: Any) -> Tensor:
    """``positions / theta^(2 i / dim)`` on a new last axis, for i from 0 to (dim - 1) // 2."""
    exponents = volta.arange(0, dim, 2).astype(dtype) * (-math.log(theta) / dim)
    return volta.expand_dims(positions.astype(dtype), -1) * volta.exp(exponents)


class SinusoidalPositionalEncoding(Module):
    """Adds ``sin(t / theta^(2 i / d_model))`` to feature ``2 i`` at position ``t``, and the cosine to ``2 i + 1``.

    Args:
        d_model: how many features there are.
        theta: the longest wave is 2π · theta positions long.

    Calling it takes the input ``[..., T, d_model]``, and optionally ``offset``, the first position, an int or an
    integer tensor of rank 0: in decoding, how many tokens came before.

    Raises:
        ShapeError: the input has another number of features, or the offset is no integer.
        DTypeError: the input is not of a floating-point dtype.

    Source: Vaswani et al., "Attention Is All You Need" (2017).

    Example:
        >>> SinusoidalPositionalEncoding(4)(volta.zeros((2, 4))).numpy().round(4).tolist()[0]
        [0.0, 1.0, 0.0, 1.0]
    """

    def __init__(self, d_model: int, theta: float = 10000.0) -> None:
        self.d_model, self.theta = d_model, float(theta)

    def forward(self, input: Any, offset: Any = 0) -> Tensor:
        what = type(self).__name__
        x = _checked(what, input, self.d_model)
        angles = _angles(_positions(what, x, offset), self.d_model, self.theta, _wide(x))
        waves = volta.stack([volta.sin(angles), volta.cos(angles)], axis=-1)
        encoding = waves.reshape(x.shape[-2], 2 * angles.shape[-1])[:, : self.d_model]
        return x + encoding.astype(x.dtype)

    def extra_repr(self) -> str:
        return shown(self, "d_model", "theta")


class LearnedPositionalEncoding(Module):
    """Adds a vector that is learned for each position, as GPT-2 and BERT do.

    Args:
        max_len: how many positions there are.
        d_model: how many features there are.
        std: standard deviation of the vectors at first.
        dtype: of the vectors.

    Attributes:
        weight: ``[max_len, d_model]``, at first from the normal distribution, as GPT-2's ``wpe.weight``.

    Calling it takes the input ``[..., T, d_model]``, and optionally ``offset``, the first position, an int or an
    integer tensor of rank 0. A tensor that leads past ``max_len`` is moved back to the last ``T`` positions.

    Raises:
        ShapeError: the input has another number of features or more than ``max_len`` positions, or the offset is no
            integer.
        DTypeError: the input is not of a floating-point dtype.

    Source: Gehring et al., "Convolutional Sequence to Sequence Learning" (2017).

    Example:
        >>> LearnedPositionalEncoding(16, 4)(volta.zeros((2, 3, 4)), offset=5).shape
        (2, 3, 4)
    """

    weight: Tensor

    def __init__(self, max_len: int, d_model: int, std: float = 0.02, dtype: Any = DEFAULT_FLOAT) -> None:
        self.max_len, self.d_model = max_len, d_model
        self.weight = Parameter(init.normal((max_len, d_model), 0.0, std, dtype))

    def forward(self, input: Any, offset: Any = 0) -> Tensor:
        what = type(self).__name__
        x = _checked(what, input, self.d_model)
        length, known = x.shape[-2], offset if isinstance(offset, int) else 0
        if not 0 <= known <= self.max_len - length:
            raise ShapeError(f"{what}: there are {self.max_len} positions, got {x.spec} from position {offset}")
        start = _offset(what, offset)
        starts = volta.stack([start, volta.zeros_like(start)])
        encoding = volta.dynamic_slice(self.weight, starts, (length, self.d_model))
        return x + encoding

    def extra_repr(self) -> str:
        return f"{self.max_len}, {self.d_model}"


class RotaryPositionalEncoding(Module):
    """Rotates pairs of features of queries and keys by angles that grow with the position.

    The product of a query and a key then depends on the distance of their positions alone. Pair ``i`` of ``dim / 2``
    at position ``t`` is rotated by ``t / theta^(2 i / dim)``. There are two conventions for which features make a pair,
    and a checkpoint works with the one that it was trained with:

    - halves, ``interleaved=False``: features ``i`` and ``i + dim / 2``. GPT-NeoX, and the models that Hugging Face
      keeps in its form: LLaMA, Mistral, Qwen, Gemma, Phi.
    - neighbours, ``interleaved=True``: features ``2 i`` and ``2 i + 1``. RoFormer, GPT-J, and LLaMA as Meta publishes
      it.

    Args:
        dim: how many features are rotated, an even number; those of a head that come after are left alone.
        theta: base of the angles: 10000 in the first models, 500000 in LLaMA 3, 1000000 in Qwen 2.
        interleaved: which features make a pair.

    Calling it takes queries or keys ``[..., T, head_dim]``, and optionally one of ``offset``, the first position, an
    int or an integer tensor of rank 0, and ``positions``, integers that broadcast to ``[..., T]``.

    Raises:
        ValueError: ``dim`` is odd, or both ``offset`` and ``positions`` are given.
        ShapeError: the input has fewer than ``dim`` features, or offset or positions do not fit.
        DTypeError: the input is not of a floating-point dtype.

    Source: Su et al., "RoFormer" (2021).

    Example:
        >>> rope = RotaryPositionalEncoding(2)
        >>> rope(Tensor([[1.0, 0.0]])).tolist()
        [[1.0, 0.0]]
        >>> rope(Tensor([[1.0, 0.0]]), offset=1).numpy().round(2)
        array([[0.54, 0.84]], dtype=float32)
    """

    def __init__(self, dim: int, theta: float = 10000.0, interleaved: bool = False) -> None:
        if dim <= 0 or dim % 2:
            raise OptionError(f"RotaryPositionalEncoding: dim must be a positive even number, got {dim}")
        self.dim, self.theta, self.interleaved = dim, float(theta), interleaved

    def forward(self, input: Any, offset: Any = None, positions: Any = None) -> Tensor:
        what = type(self).__name__
        x = _checked(what, input, self.dim, exact=False)
        if positions is None:
            positions = _positions(what, x, 0 if offset is None else offset)
        elif offset is not None:
            raise OptionError(f"{what}: give either offset or positions")
        else:
            positions = as_tensor(positions)
            if not is_integer(positions.dtype):
                raise ShapeError(f"{what}: expected integer positions, got {positions.spec}")
            positions = volta.broadcast_to(positions, x.shape[:-1])
        angles = _angles(positions, self.dim, self.theta, _wide(x))
        cos, sin = volta.cos(angles), volta.sin(angles)
        rotated = x[..., : self.dim].astype(_wide(x))
        if self.interleaved:
            pairs = rotated.reshape(*x.shape[:-1], self.dim // 2, 2)
            first, second = pairs[..., 0], pairs[..., 1]
            turned = volta.stack([first * cos - second * sin, second * cos + first * sin], axis=-1)
            rotated = turned.reshape(rotated.shape)
        else:
            first, second = volta.split(rotated, 2, axis=-1)
            rotated = volta.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
        rotated = rotated.astype(x.dtype)
        return rotated if x.shape[-1] == self.dim else volta.concatenate([rotated, x[..., self.dim :]], axis=-1)

    def extra_repr(self) -> str:
        return f"{self.dim}, {shown(self, 'theta', 'interleaved')}"


def _wide(x: Tensor) -> Any:
    """The dtype for angles: half precision could not tell neighbouring positions apart."""
    return float64 if x.dtype == float64 else float32
