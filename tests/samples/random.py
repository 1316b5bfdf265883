"""Samples of the random ops."""

from __future__ import annotations

import numpy as np

from tests.samples import Sample
from volta_mlir.dtypes import UNSIGNED, uint32


def _sample(name: str, lead: tuple[int, ...], shape: tuple[int, ...], start: int = 0) -> Sample:
    """Keys for generators of the shape ``lead``; what the sample's dtype says is the dtype of the bits."""

    def operands(rng: np.random.Generator, dtype: np.dtype) -> list[np.ndarray]:
        key = rng.integers(0, 2**32, (*lead, 2), dtype=np.uint32)
        return [key, np.full(lead, start, uint32)]

    return Sample(name, operands, lambda dtype: {"shape": shape, "dtype": dtype}, UNSIGNED)


SAMPLES = {
    "random_bits": [
        _sample("matrix", (), (5, 7)),
        _sample("scalar", (), ()),
        _sample("generators", (3,), (4,)),
        _sample("generators of scalars", (2, 3), ()),
        _sample("rank 4", (), (2, 3, 4, 5)),
        _sample("later", (), (9,), start=7),
        _sample("beyond 32 bits", (), (9,), start=2**32 - 4),
        _sample("empty", (), (0, 3)),
        _sample("long", (), (1001,)),
    ]
}
