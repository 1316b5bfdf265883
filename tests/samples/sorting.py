"""Samples of the sorting ops."""

from __future__ import annotations

import numpy as np

from tests.samples import Sample, random_array
from volta_mlir.dtypes import float64


def _sample(name: str, shape: tuple[int, ...], gradient: bool = True, **attributes: object) -> Sample:
    """One operand; with special values, but not where derivatives are taken."""

    def operands(rng: np.random.Generator, dtype: np.dtype) -> list[np.ndarray]:
        return [random_array(rng, dtype, shape, special=dtype != float64)]

    return Sample(name, operands, attributes, gradient=gradient)


def _ties(name: str, shape: tuple[int, ...], **attributes: object) -> Sample:
    """Many equal elements, zeros of both signs among them: what shows whether an order is stable."""

    def operands(rng: np.random.Generator, dtype: np.dtype) -> list[np.ndarray]:
        array = rng.integers(0, 3, shape).astype(dtype)
        return [-array if dtype.kind not in "biu" else array]

    return Sample(name, operands, attributes, gradient=False)


def _orders() -> list[Sample]:
    return [
        _sample("rows", (3, 7), axis=1, descending=False),
        _sample("columns", (9, 2), axis=0, descending=False),
        _sample("descending", (3, 7), axis=1, descending=True),
        _ties("ties", (2, 37), axis=1, descending=False),
        _ties("descending ties", (2, 37), axis=1, descending=True),
        _sample("middle", (2, 5, 3), axis=1, descending=False),
        _sample("power of two", (64,), axis=0, descending=False),
        _sample("more than a power of two", (65,), axis=0, descending=True),
        _sample("extent 1", (4, 1), axis=1, descending=False),
        _sample("empty axis", (3, 0), axis=1, descending=False),
        _sample("empty", (0, 3), axis=1, descending=False),
        _sample("long", (1000,), gradient=False, axis=0, descending=False),
    ]


SAMPLES = {
    "sort": _orders(),
    "argsort": _orders(),
    "top_k": [
        _sample("rows", (3, 7), k=3),
        _sample("one", (3, 7), k=1),
        _sample("all", (2, 9), k=9),
        _ties("ties", (2, 37), k=5),
        _sample("rank 3", (2, 3, 8), k=5),
        _sample("extent 1", (1,), k=1),
        _sample("empty", (0, 3), k=2),
        _sample("few of many", (1000,), gradient=False, k=6),
    ],
}
