"""Layers and functions of neural networks, with PyTorch's names, arguments and layouts."""

from volta_mlir.nn import functional, init
from volta_mlir.nn.init import manual_seed
from volta_mlir.nn.layers import Flatten, Linear, ModuleList, ReLU, Sequential, Tanh
from volta_mlir.nn.module import Buffer, Module, Parameter

__all__ = [
    "Buffer",
    "Flatten",
    "Linear",
    "Module",
    "ModuleList",
    "Parameter",
    "ReLU",
    "Sequential",
    "Tanh",
    "functional",
    "init",
    "manual_seed",
]
