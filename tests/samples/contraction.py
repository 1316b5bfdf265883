"""Samples of the products summed over shared axes."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.samples import Sample, random_array
from volta_mlir.dtypes import DTYPES, FLOATS, INTEGERS, bool_, float32, float64, int32

NUMBERS = tuple(d for d in DTYPES if d != bool_)


def _sample(
    name: str,
    lhs: tuple[int, ...],
    rhs: tuple[int, ...],
    contract: tuple[tuple[int, ...], tuple[int, ...]],
    batch: tuple[tuple[int, ...], tuple[int, ...]] = ((), ()),
    result: np.dtype | None = None,
    dtypes: tuple[np.dtype, ...] = NUMBERS,
) -> Sample:
    def operands(rng: np.random.Generator, dtype: np.dtype) -> list[np.ndarray]:
        return [random_array(rng, dtype, lhs), random_array(rng, dtype, rhs)]

    def attributes(dtype: np.dtype) -> dict[str, Any]:
        return {
            "lhs_batch": batch[0],
            "rhs_batch": batch[1],
            "lhs_contract": contract[0],
            "rhs_contract": contract[1],
            "dtype": dtype if result is None else result,
        }

    return Sample(name, operands, attributes, dtypes, gradient=result in (None, float64))


SAMPLES = {
    "dot_general": [
        _sample("matrices", (5, 7), (7, 3), ((1,), (0,))),
        _sample("right operand transposed", (33, 65), (17, 65), ((1,), (1,))),
        _sample("left operand transposed", (40, 6), (40, 9), ((0,), (0,))),
        _sample("matrix and vector", (9, 31), (31,), ((1,), (0,))),
        _sample("vector and matrix", (31,), (31, 9), ((0,), (0,))),
        _sample("vectors", (129,), (129,), ((0,), (0,))),
        _sample("outer product", (4,), (5,), ((), ())),
        _sample("scalars", (), (), ((), ())),
        _sample("scalar and matrix", (), (2, 3), ((), ())),
        _sample("row and matrix", (1, 24), (24, 5), ((1,), (0,))),
        _sample("contraction of extent 1", (3, 1), (1, 4), ((1,), (0,))),
        _sample("batch", (3, 4, 5), (3, 5, 6), ((2,), (1,)), ((0,), (0,))),
        _sample("two batch axes", (2, 3, 4, 5), (2, 3, 6, 5), ((3,), (3,)), ((0, 1), (0, 1))),
        _sample("batch axes elsewhere", (4, 2, 5, 3), (5, 3, 6, 2), ((2,), (0,)), ((3, 1), (1, 3))),
        _sample("batch and no free axes", (3, 8), (8, 3), ((1,), (0,)), ((0,), (1,))),
        _sample("batch alone", (6,), (6,), ((), ()), ((0,), (0,))),
        _sample("two contracting axes", (3, 4, 5), (5, 4, 2), ((1, 2), (1, 0))),
        _sample("contracting axes apart", (4, 3, 5), (4, 2, 5), ((0, 2), (0, 2))),
        _sample("free axes apart", (2, 6, 3), (5, 6, 4), ((1,), (1,))),
        _sample("empty contraction", (3, 0), (0, 4), ((1,), (0,))),
        _sample("empty result", (0, 3), (3, 4), ((1,), (0,))),
        _sample("large", (70, 130), (130, 65), ((1,), (0,))),
        _sample("wider result", (5, 40), (40, 3), ((1,), (0,)), result=float32, dtypes=FLOATS),
        _sample("widest result", (5, 40), (40, 3), ((1,), (0,)), result=float64, dtypes=FLOATS),
        _sample("wider integers", (5, 40), (40, 3), ((1,), (0,)), result=int32, dtypes=INTEGERS),
    ],
}
