"""Samples of the reductions and the cumulative ops."""

from __future__ import annotations

import numpy as np

from tests.samples import Sample, random_array
from volta_mlir.dtypes import FLOATS, INTEGERS, bool_, float64

NUMBERS = (*FLOATS, *INTEGERS)
BOOL = (bool_,)


def _sample(
    name: str,
    shape: tuple[int, ...],
    dtypes: tuple[np.dtype, ...] = NUMBERS,
    gradient: bool = True,
    **attributes: object,
) -> Sample:
    """One operand; with special values, but not where derivatives are taken."""

    def operands(rng: np.random.Generator, dtype: np.dtype) -> list[np.ndarray]:
        return [random_array(rng, dtype, shape, special=dtype != float64)]

    return Sample(name, operands, attributes, dtypes, gradient)


def _zeros(name: str, shape: tuple[int, int], **attributes: object) -> Sample:
    """No, one, two … zeros in a row, where the derivative of a product can't be had by division."""

    def operands(rng: np.random.Generator, dtype: np.dtype) -> list[np.ndarray]:
        array = random_array(rng, dtype, shape)
        for row, elements in enumerate(array):
            elements[rng.permutation(shape[1])[:row]] = 0
        return [array]

    return Sample(name, operands, attributes, NUMBERS)


def _near_one(name: str, shape: tuple[int, ...], **attributes: object) -> Sample:
    """Products of many elements that do not leave the dtype's range."""
    return Sample(name, lambda rng, dtype: [rng.uniform(0.9, 1.1, shape).astype(dtype)], attributes, FLOATS)


def _ties(name: str, shape: tuple[int, ...], **attributes: object) -> Sample:
    return Sample(
        name, lambda rng, dtype: [rng.integers(0, 3, shape).astype(dtype)], attributes, NUMBERS, gradient=False
    )


def _reductions(dtypes: tuple[np.dtype, ...] = NUMBERS, finite: bool = True) -> list[Sample]:
    """Samples of a reduction; ``finite`` says whether it gives a finite number for no elements."""
    return [
        _sample("rows", (5, 7), dtypes, axes=(1,)),
        _sample("columns", (5, 7), dtypes, axes=(0,)),
        _sample("all", (3, 5), dtypes, axes=(0, 1)),
        _sample("outer axes", (2, 3, 4, 5), dtypes, axes=(0, 2)),
        _sample("no axes", (3, 2), dtypes, axes=()),
        _sample("scalar", (), dtypes, axes=()),
        _sample("extent 1", (1, 5, 1), dtypes, axes=(0, 2)),
        _sample("of nothing", (3, 0), dtypes, gradient=finite, axes=(1,)),
        _sample("to nothing", (0, 3), dtypes, axes=(1,)),
    ]


def _arguments() -> list[Sample]:
    return [
        _sample("rows", (5, 7), axis=1),
        _sample("columns", (7, 5), axis=0),
        _ties("ties", (9, 33), axis=1),
        _sample("vector", (1001,), axis=0),
        _sample("middle", (2, 5, 3), axis=1),
        _sample("extent 1", (4, 1), axis=1),
        _sample("to nothing", (0, 3), axis=1),
    ]


def _cumulative(reverse: bool) -> list[Sample]:
    way = "backwards" if reverse else "forwards"
    return [
        _sample(f"{way} rows", (4, 7), axis=1, reverse=reverse),
        _sample(f"{way} columns", (7, 4), axis=0, reverse=reverse),
        _sample(f"{way} middle", (2, 5, 3), axis=1, reverse=reverse),
        _sample(f"{way} extent 1", (3, 1), axis=1, reverse=reverse),
        _sample(f"{way} empty", (3, 0), axis=1, reverse=reverse),
    ]


CUMULATIVE = [*_cumulative(False), *_cumulative(True)]
FINITE = _sample("long", (1001,), (*INTEGERS, float64), axis=0, reverse=False)

SAMPLES = {
    "reduce_sum": [*_reductions(), _sample("long", (3, 1001), (*INTEGERS, float64), axes=(1,))],
    "reduce_prod": [
        *_reductions(),
        _zeros("zeros", (3, 5), axes=(1,)),
        _near_one("long", (3, 101), axes=(1,)),
    ],
    "reduce_max": [
        *_reductions(finite=False),
        _ties("ties", (4, 33), axes=(1,)),
        _sample("long", (3, 1001), axes=(1,)),
    ],
    "reduce_min": [
        *_reductions(finite=False),
        _ties("ties", (4, 33), axes=(1,)),
        _sample("long", (3, 1001), axes=(1,)),
    ],
    "reduce_any": _reductions(BOOL),
    "reduce_all": _reductions(BOOL),
    "argmax": _arguments(),
    "argmin": _arguments(),
    "cumsum": [*CUMULATIVE, FINITE],
    "cumprod": [
        *CUMULATIVE,
        _zeros("zeros", (3, 5), axis=1, reverse=False),
        _zeros("zeros backwards", (3, 5), axis=1, reverse=True),
        _near_one("long", (101, 3), axis=0, reverse=False),
    ],
    "cummax": [*CUMULATIVE, _ties("ties", (4, 33), axis=1, reverse=False), FINITE],
}
