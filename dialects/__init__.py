"""The volta dialect: one class per op, grouped by family. See :mod:`volta_mlir.dialects.base`."""

from volta_mlir.dialects.base import OPS, Op, Volta

# The ops' rules use the functions, whose modules import the families: begin there, so that each family finds the
# ones before it complete.
import volta_mlir.functions  # noqa: F401  # isort: skip

# Importing a family defines its ops; the dialect is complete once all of them are in.
from volta_mlir.dialects import (  # isort: skip
    elementwise,
    creation,
    movement,
    indexing,
    reduction,
    contraction,
    window,
    convolution,
    sorting,
    random,
    control,
    attention,
)

__all__ = [
    "OPS",
    "Op",
    "Volta",
    "attention",
    "contraction",
    "control",
    "convolution",
    "creation",
    "elementwise",
    "indexing",
    "movement",
    "random",
    "reduction",
    "sorting",
    "window",
]
