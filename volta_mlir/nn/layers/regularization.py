"""Dropout as layers, which draw anew at every call in training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from volta_mlir.errors import OptionError
from volta_mlir.nn import functional
from volta_mlir.nn.layers.common import Drawing, shown
from volta_mlir.tensor import Tensor

__all__ = ["AlphaDropout", "Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "FeatureAlphaDropout"]


class _Dropout(Drawing):
    _function: ClassVar[Callable[..., Tensor]]

    def __init__(self, p: float = 0.5) -> None:
        if not 0 <= p <= 1:
            raise OptionError(f"dropout probability has to be between 0 and 1, but got {p}")
        super().__init__()
        self.p = p

    def forward(self, input: Any) -> Tensor:
        key = self.draw() if self.training and self.p else None
        return type(self)._function(input, self.p, self.training, key=key)

    def extra_repr(self) -> str:
        return shown(self, "p")


class Dropout(_Dropout):
    """:func:`functional.dropout <volta_mlir.nn.functional.dropout>` as a layer.

    Args:
        p: the probability with which an element becomes zero in training.

    Attributes:
        key: see :class:`~volta_mlir.nn.layers.common.Drawing`.

    Raises:
        ValueError: ``p`` is not a probability.

    Example:
        >>> import volta_mlir as volta
        >>> layer = Dropout(0.5)
        >>> layer(volta.ones(100)).tolist() == layer(volta.ones(100)).tolist()
        False
        >>> layer.eval()(volta.ones(2)).tolist()
        [1.0, 1.0]
    """

    _function = staticmethod(functional.dropout)


class Dropout1d(_Dropout):
    """:func:`functional.dropout1d <volta_mlir.nn.functional.dropout1d>` as a layer; see :class:`Dropout`.

    Example:
        >>> Dropout1d(1.0)(Tensor([[[1.0, 2.0]]])).tolist()
        [[[0.0, 0.0]]]
    """

    _function = staticmethod(functional.dropout1d)


class Dropout2d(_Dropout):
    """:func:`functional.dropout2d <volta_mlir.nn.functional.dropout2d>` as a layer; see :class:`Dropout`.

    Example:
        >>> Dropout2d(1.0)(Tensor([[[[1.0, 2.0]]]])).tolist()
        [[[[0.0, 0.0]]]]
    """

    _function = staticmethod(functional.dropout2d)


class Dropout3d(_Dropout):
    """:func:`functional.dropout3d <volta_mlir.nn.functional.dropout3d>` as a layer; see :class:`Dropout`.

    Example:
        >>> Dropout3d(1.0)(Tensor([[[[[1.0, 2.0]]]]])).tolist()
        [[[[[0.0, 0.0]]]]]
    """

    _function = staticmethod(functional.dropout3d)


class AlphaDropout(_Dropout):
    """:func:`functional.alpha_dropout <volta_mlir.nn.functional.alpha_dropout>` as a layer; see :class:`Dropout`.

    Example:
        >>> AlphaDropout(0.5).eval()(Tensor([1.0, 2.0])).tolist()
        [1.0, 2.0]
    """

    _function = staticmethod(functional.alpha_dropout)


class FeatureAlphaDropout(_Dropout):
    """:func:`functional.feature_alpha_dropout` as a layer; see :class:`Dropout`.

    Example:
        >>> FeatureAlphaDropout(0.5).eval()(Tensor([[1.0, 2.0]])).tolist()
        [[1.0, 2.0]]
    """

    _function = staticmethod(functional.feature_alpha_dropout)
