"""Models written with :mod:`volta_mlir.nn`, one file each, whose ``state_dict`` has the names of public checkpoints."""

from volta_mlir.models.mlp import MLP as MLP
