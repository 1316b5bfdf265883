"""The volta dialect: one class per op, grouped by family. See :mod:`volta_mlir.dialects.base`."""

from volta_mlir.dialects.base import OPS, Op, Volta

# Importing a family defines its ops; the dialect is complete once all of them are in.
from volta_mlir.dialects import (  # isort: skip
    elementwise,
    creation,
    movement,
    reduction,
    contraction,
    sorting,
    random,
    control,
)

__all__ = [
    "OPS",
    "Op",
    "Volta",
    "contraction",
    "control",
    "creation",
    "elementwise",
    "movement",
    "random",
    "reduction",
    "sorting",
]
