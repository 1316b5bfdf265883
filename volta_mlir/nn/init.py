"""Initial values of parameters, drawn on the host from one generator of the process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from volta_mlir.dtypes import DEFAULT_FLOAT, as_dtype
from volta_mlir.tensor import Tensor

_generator = np.random.default_rng(0)


def manual_seed(seed: int) -> None:
    """Starts the generator that initialises layers anew; it starts with seed 0 in every process.

    >>> from volta_mlir import nn
    >>> nn.manual_seed(7)
    >>> first = nn.Linear(2, 2).weight.tolist()
    >>> nn.manual_seed(7)
    >>> nn.Linear(2, 2).weight.tolist() == first
    True
    """
    global _generator
    _generator = np.random.default_rng(seed)


def uniform(shape: Sequence[int], bound: float, dtype: Any = DEFAULT_FLOAT) -> Tensor:
    """Values distributed uniformly within ±``bound``.

    >>> float(abs(uniform((100,), 0.5).numpy()).max()) <= 0.5
    True
    """
    return Tensor(_generator.uniform(-bound, bound, tuple(shape)), as_dtype(dtype))
