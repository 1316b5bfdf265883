"""Dropout. What is dropped depends on an explicit key (:mod:`volta_mlir.random`) and nothing else."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import volta_mlir as volta
from volta_mlir import random
from volta_mlir.errors import OptionError, ShapeError, TraceError
from volta_mlir.nn.functional.arguments import float_tensor
from volta_mlir.tensor import Tensor

__all__ = ["alpha_dropout", "dropout", "dropout1d", "dropout2d", "dropout3d", "feature_alpha_dropout"]

#: What selu tends to for small inputs: minus its scale times its alpha.
_SELU_MINIMUM = -1.7580993408473766


def _kept(what: str, shape: Sequence[int], p: float, key: Any) -> Tensor:
    """Which elements are kept."""
    if key is None:
        raise TraceError(
            f"{what}: training with p={p} needs a key that says what to drop: pass key=volta.random.key(seed), and"
            " another one at each call, as volta.random.split and fold_in make"
        )
    return random.bernoulli(key, 1 - p, shape)


def _check_probability(what: str, p: float) -> None:
    if not 0 <= p <= 1:
        raise OptionError(f"{what}: dropout probability has to be between 0 and 1, but got {p}")


def _dropout(what: str, x: Tensor, shape: Sequence[int], p: float, training: bool, key: Any) -> Tensor:
    """Zeros with probability ``p``, for each element of ``shape``, which broadcasts to the input's; others grow."""
    _check_probability(what, p)
    if not training or p == 0:
        return x
    kept = _kept(what, shape, p, key)
    return volta.zeros_like(x) if p == 1 else volta.where(kept, x * (1 / (1 - p)), 0.0)


def _alpha_dropout(what: str, x: Tensor, shape: Sequence[int], p: float, training: bool, key: Any) -> Tensor:
    _check_probability(what, p)
    if not training or p == 0:
        return x
    kept = _kept(what, shape, p, key)
    if p == 1:
        return volta.zeros_like(x)
    scale = 1 / math.sqrt((1 - p) * (1 + p * _SELU_MINIMUM**2))
    shift = -scale * _SELU_MINIMUM * p
    return volta.where(kept, x * scale + shift, _SELU_MINIMUM * scale + shift)


def _per_channel(what: str, x: Tensor, ranks: Sequence[int], unbatched: int | None = None) -> tuple[int, ...]:
    """The input's shape with 1 for positions; ``unbatched`` is the rank of inputs that have no batch axis."""
    if x.ndim not in ranks:
        raise ShapeError(f"{what}: expected an input of rank {' or '.join(map(str, ranks))}, got {x.spec}")
    leading = 1 if x.ndim == unbatched else 2
    return x.shape[:leading] + (1,) * (x.ndim - leading)


def dropout(input: Any, p: float = 0.5, training: bool = True, *, key: Any = None) -> Tensor:
    """In training, zeros instead of each element with probability ``p``; others are divided by ``1 - p``.

    What is dropped is zero even where the input is infinite or NaN.

    Args:
        input: any shape, floating-point.
        p: a Python number from 0 to 1.
        training: whether to drop anything.
        key: a key of :mod:`volta_mlir.random`. The same key drops the same elements, on every target.

    Raises:
        TraceError: there is no key in training with a positive ``p``.
        ValueError: ``p`` is not a probability.
        DTypeError: the input is not of a floating-point dtype.

    Source: Srivastava et al., "Dropout" (2014).

    >>> from volta_mlir import random
    >>> sorted(set(dropout(volta.ones(100), 0.5, key=random.key(0)).tolist()))
    [0.0, 2.0]
    """
    x = float_tensor("dropout", input)
    return _dropout("dropout", x, x.shape, p, training, key)


def dropout1d(input: Any, p: float = 0.5, training: bool = True, *, key: Any = None) -> Tensor:
    """:func:`dropout` of whole channels of sequences.

    Args:
        input: ``(N, C, L)`` or ``(C, L)``, floating-point.
        p, training, key: as for :func:`dropout`.

    Raises:
        ShapeError: the input has another rank.
        TraceError, ValueError, DTypeError: as for :func:`dropout`.

    >>> from volta_mlir import random
    >>> dropout1d(volta.ones((1, 3, 2)), key=random.key(0)).tolist()
    [[[0.0, 0.0], [0.0, 0.0], [2.0, 2.0]]]
    """
    x = float_tensor("dropout1d", input)
    return _dropout("dropout1d", x, _per_channel("dropout1d", x, (2, 3), unbatched=2), p, training, key)


def dropout2d(input: Any, p: float = 0.5, training: bool = True, *, key: Any = None) -> Tensor:
    """:func:`dropout` of whole channels of images, or of sequences.

    Args:
        input: ``(N, C, H, W)`` or ``(N, C, L)``, floating-point. The latter is what PyTorch takes an input of rank 3
            for, and not an image without a batch axis.
        p, training, key: as for :func:`dropout`.

    Raises:
        ShapeError: the input has another rank.
        TraceError, ValueError, DTypeError: as for :func:`dropout`.

    >>> from volta_mlir import random
    >>> dropout2d(volta.ones((1, 3, 1, 2)), key=random.key(0)).tolist()
    [[[[0.0, 0.0]], [[0.0, 0.0]], [[2.0, 2.0]]]]
    """
    x = float_tensor("dropout2d", input)
    return _dropout("dropout2d", x, _per_channel("dropout2d", x, (3, 4)), p, training, key)


def dropout3d(input: Any, p: float = 0.5, training: bool = True, *, key: Any = None) -> Tensor:
    """:func:`dropout` of whole channels of volumes.

    Args:
        input: ``(N, C, D, H, W)`` or ``(C, D, H, W)``, floating-point.
        p, training, key: as for :func:`dropout`.

    Raises:
        ShapeError: the input has another rank.
        TraceError, ValueError, DTypeError: as for :func:`dropout`.

    >>> from volta_mlir import random
    >>> dropout3d(volta.ones((3, 1, 1, 2)), key=random.key(0)).tolist()
    [[[[0.0, 0.0]]], [[[0.0, 0.0]]], [[[2.0, 2.0]]]]
    """
    x = float_tensor("dropout3d", input)
    return _dropout("dropout3d", x, _per_channel("dropout3d", x, (4, 5), unbatched=4), p, training, key)


def alpha_dropout(input: Any, p: float = 0.5, training: bool = False, *, key: Any = None) -> Tensor:
    """In training, what selu tends to instead of each element with probability ``p``, then scaled and shifted.

    An input of mean 0 and variance 1 keeps these.

    Args:
        input: any shape, floating-point.
        p, training, key: as for :func:`dropout`; here ``training`` is false by default, as in PyTorch.

    Raises:
        TraceError, ValueError, DTypeError: as for :func:`dropout`.

    Source: Klambauer et al., "Self-Normalizing Neural Networks" (2017).

    >>> from volta_mlir import random
    >>> len(set(alpha_dropout(volta.ones(100), 0.5, True, key=random.key(0)).tolist()))
    2
    """
    x = float_tensor("alpha_dropout", input)
    return _alpha_dropout("alpha_dropout", x, x.shape, p, training, key)


def feature_alpha_dropout(input: Any, p: float = 0.5, training: bool = False, *, key: Any = None) -> Tensor:
    """:func:`alpha_dropout` of whole channels.

    Args:
        input: ``(N, C, …)``, floating-point.
        p, training, key: as for :func:`alpha_dropout`.

    Raises:
        ShapeError: the input has fewer than two axes.
        TraceError, ValueError, DTypeError: as for :func:`dropout`.

    >>> from volta_mlir import random
    >>> x = feature_alpha_dropout(volta.ones((1, 3, 2)), 0.5, True, key=random.key(0))
    >>> (x[..., 0] == x[..., 1]).all().item()
    True
    """
    x = float_tensor("feature_alpha_dropout", input)
    if x.ndim < 2:
        raise ShapeError(f"feature_alpha_dropout: expected an input of rank 2 or more, got {x.spec}")
    shape = x.shape[:2] + (1,) * (x.ndim - 2)
    return _alpha_dropout("feature_alpha_dropout", x, shape, p, training, key)
