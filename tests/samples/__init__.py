"""Inputs for the tests that are generated from the op registry.

Each family's module has ``SAMPLES``: for each mnemonic the cases that exercise the op. Together they cover its
attributes, ranks 0 to 4, and extents 0, 1, odd and large; values include NaN, infinities and signed zeros where the
dtype has them, unless a case says otherwise.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from volta_mlir.dtypes import DTYPES

Attributes = Mapping[str, Any]


@dataclass(frozen=True)
class Sample:
    """One case of an op, instantiated for each of its dtypes.

    Attributes:
        name: unique within the op.
        operands: the operand arrays for a dtype, drawn with the generator.
        attributes: the op's attributes, or a function of the dtype that gives them.
        dtypes: those for which the case is run.
        gradient: whether derivatives are compared with finite differences (float64 only; needs smooth points; other
            values stand for NaN and infinities there).
        batch: whether vmap is compared with a loop.
    """

    name: str
    operands: Callable[[np.random.Generator, np.dtype], list[np.ndarray]]
    attributes: Attributes | Callable[[np.dtype], Attributes] = field(default_factory=dict)
    dtypes: tuple[np.dtype, ...] = DTYPES
    gradient: bool = True
    batch: bool = True

    def attributes_for(self, dtype: np.dtype) -> dict[str, Any]:
        return dict(self.attributes(dtype) if callable(self.attributes) else self.attributes)


def all_samples() -> dict[str, list[Sample]]:
    """Every family's samples by mnemonic."""
    samples: dict[str, list[Sample]] = {}
    for module in pkgutil.iter_modules(__path__):
        family = importlib.import_module(f"{__name__}.{module.name}")
        samples.update(getattr(family, "SAMPLES", {}))
    return samples


def random_array(
    rng: np.random.Generator, dtype: np.dtype, shape: tuple[int, ...], special: bool = False
) -> np.ndarray:
    """Values spread over a dtype's usual range; ``special`` sprinkles NaN, infinities, zeros and extremes in."""
    size = int(np.prod(shape))
    if dtype == np.bool_:
        return rng.integers(0, 2, shape).astype(bool)
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        low, high = max(info.min, -20), min(info.max, 20)
        array = rng.integers(low, high + 1, shape).astype(dtype)
        extremes = np.array([info.min, info.max, 0, 1], dtype)
    else:
        array = (2 * rng.standard_normal(shape)).astype(dtype)
        extremes = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0], np.float32).astype(dtype)
    if special and size:
        flat = array.reshape(-1)
        positions = rng.permutation(size)[: len(extremes)]
        flat[positions] = extremes[: len(positions)]
    return array
