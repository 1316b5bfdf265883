"""Layers and functions of neural networks, with PyTorch's names, arguments and layouts."""

from volta_mlir.nn import functional, init, layers
from volta_mlir.nn.init import manual_seed
from volta_mlir.nn.layers import *
from volta_mlir.nn.module import Buffer, Module, Parameter
from volta_mlir.nn.summary import summary

__all__ = ["Buffer", "Module", "Parameter", "functional", "init", "manual_seed", "summary", *layers.__all__]
