"""Layers and functions of neural networks, with PyTorch's names, arguments and layouts."""

from typing import TYPE_CHECKING

from volta_mlir.nn import functional as functional
from volta_mlir.nn import init as init
from volta_mlir.nn import layers as layers
from volta_mlir.nn.init import manual_seed as manual_seed
from volta_mlir.nn.layers import *
from volta_mlir.nn.module import Buffer as Buffer
from volta_mlir.nn.module import Module as Module
from volta_mlir.nn.module import Parameter as Parameter
from volta_mlir.nn.summary import summary as summary

if not TYPE_CHECKING:  # type checkers would take a list that they cannot read for an empty one
    __all__ = ["Buffer", "Module", "Parameter", "functional", "init", "manual_seed", "summary", *layers.__all__]
