"""Optimizers with PyTorch's names, arguments and arithmetic, as pure functions.

::

    optimizer = optim.Adam(lr=1e-3)
    state = optimizer.init(model)
    model, state = optimizer.update(model, gradients, state)
"""

from volta_mlir.optim.adam import Adam, AdamW
from volta_mlir.optim.optimizer import Optimizer
from volta_mlir.optim.sgd import SGD

__all__ = ["SGD", "Adam", "AdamW", "Optimizer"]
