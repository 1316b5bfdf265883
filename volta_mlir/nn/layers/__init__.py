"""Layers with PyTorch's names, arguments, layouts and initialisation."""

from typing import TYPE_CHECKING

from volta_mlir.nn.layers import (
    activation,
    containers,
    convolution,
    dense,
    loss,
    normalization,
    pooling,
    positional,
    recurrent,
    regularization,
    transformer,
    vision,
)
from volta_mlir.nn.layers.activation import *
from volta_mlir.nn.layers.containers import *
from volta_mlir.nn.layers.convolution import *
from volta_mlir.nn.layers.dense import *
from volta_mlir.nn.layers.loss import *
from volta_mlir.nn.layers.normalization import *
from volta_mlir.nn.layers.pooling import *
from volta_mlir.nn.layers.positional import *
from volta_mlir.nn.layers.recurrent import *
from volta_mlir.nn.layers.regularization import *
from volta_mlir.nn.layers.transformer import *
from volta_mlir.nn.layers.vision import *

_MODULES = (
    activation,
    containers,
    convolution,
    dense,
    loss,
    normalization,
    pooling,
    positional,
    recurrent,
    regularization,
    transformer,
    vision,
)

if not TYPE_CHECKING:  # type checkers would take a list that they cannot read for an empty one
    __all__ = [name for module in _MODULES for name in module.__all__]
