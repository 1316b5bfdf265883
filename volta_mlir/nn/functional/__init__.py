"""Functions of neural networks, under PyTorch's names, arguments and layouts."""

from typing import TYPE_CHECKING

from volta_mlir.nn.functional import (
    activation,
    attention,
    convolution,
    dense,
    loss,
    normalization,
    pooling,
    regularization,
    vision,
)
from volta_mlir.nn.functional.activation import *
from volta_mlir.nn.functional.attention import *
from volta_mlir.nn.functional.convolution import *
from volta_mlir.nn.functional.dense import *
from volta_mlir.nn.functional.loss import *
from volta_mlir.nn.functional.normalization import *
from volta_mlir.nn.functional.pooling import *
from volta_mlir.nn.functional.regularization import *
from volta_mlir.nn.functional.vision import *

_MODULES = (
    activation,
    attention,
    convolution,
    dense,
    loss,
    normalization,
    pooling,
    regularization,
    vision,
)

if not TYPE_CHECKING:  # type checkers would take a list that they cannot read for an empty one
    __all__ = [name for module in _MODULES for name in module.__all__]
