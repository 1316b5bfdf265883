"""Samples of the indexing ops."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from tests.samples import Sample, random_array
from volta_mlir.dtypes import DTYPES, FLOATS, INTEGERS

NUMBERS = FLOATS + INTEGERS


def _array(rng: np.random.Generator, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    # Special values too, but not where derivatives are taken.
    return random_array(rng, dtype, shape, special=dtype != np.float64)


def _indices(rng: np.random.Generator, shape: tuple[int, ...], extent: int, dtype: str = "int32") -> np.ndarray:
    """Indices of an axis; about a third lie outside."""
    return rng.integers(-extent // 3 - 1, extent + extent // 3 + 1, shape).astype(dtype)


def _dynamic_slice(name: str, shape: tuple[int, ...], sizes: tuple[int, ...], index: str = "int32") -> Sample:
    def operands(rng: np.random.Generator, dtype: np.dtype) -> list[np.ndarray]:
        return [_array(rng, dtype, shape), _indices(rng, (len(shape),), max(shape, default=0), index)]

    return Sample(name, operands, {"sizes": sizes})


def _dynamic_update_slice(name: str, shape: tuple[int, ...], update: tuple[int, ...], index: str = "int32") -> Sample:
    def operands(rng: np.random.Generator, dtype: np.dtype) -> list[np.ndarray]:
        starts = _indices(rng, (len(shape),), max(shape, default=0), index)
        return [_array(rng, dtype, shape), _array(rng, dtype, update), starts]

    return Sample(name, operands)


def _gathered(
    shape: tuple[int, ...], indices: tuple[int, ...], axis: int, batch_axes: tuple[int, ...]
) -> tuple[int, ...]:
    return (*indices, *(extent for a, extent in enumerate(shape) if a != axis and a not in batch_axes))


#: name: (shape, shape of the indices, axis, batch axes), index dtype
_PLACES = {
    "rows": ((7, 5), (4,), 0, (), "int32"),
    "elements": ((9,), (3, 5), 0, (), "int64"),
    "inner axis": ((3, 6, 5), (2, 2), 1, (), "int32"),
    "last axis": ((4, 33), (6,), 1, (), "int64"),
    "one row": ((5, 3), (), 0, (), "int32"),
    "one row, one index": ((1, 3), (1,), 0, (), "int32"),
    "one element": ((4,), (), 0, (), "int32"),
    "batch": ((3, 6, 2), (3, 4), 1, (0,), "int32"),
    "one element for each of a batch": ((5, 17), (5,), 1, (0,), "int32"),
    "one element for each of a middle batch": ((4, 6, 1), (6, 1), 0, (1, 2), "int64"),
    "two batch axes": ((3, 5, 2), (3, 2, 4), 1, (0, 2), "int32"),
    "batch behind the axis": ((5, 3, 4, 2), (3, 2), 0, (1,), "int32"),
    "no indices": ((4, 3), (0,), 0, (), "int32"),
    "empty batch": ((0, 3, 2), (0, 4), 1, (0,), "int32"),
    "empty rows": ((4, 0), (3,), 0, (), "int32"),
}


def _gather(name: str) -> Sample:
    shape, indices, axis, batch_axes, index = _PLACES[name]

    def operands(rng: np.random.Generator, dtype: np.dtype) -> list[np.ndarray]:
        return [_array(rng, dtype, shape), _indices(rng, indices, shape[axis], index)]

    return Sample(name, operands, {"axis": axis, "batch_axes": batch_axes})


def _scatter(name: str, dtypes: tuple[np.dtype, ...]) -> Sample:
    shape, indices, axis, batch_axes, index = _PLACES[name]

    def operands(rng: np.random.Generator, dtype: np.dtype) -> list[np.ndarray]:
        updates = _array(rng, dtype, _gathered(shape, indices, axis, batch_axes))
        return [_array(rng, dtype, shape), _indices(rng, indices, shape[axis], index), updates]

    return Sample(name, operands, {"axis": axis, "batch_axes": batch_axes}, dtypes)


def _scatter_into_nothing(dtypes: tuple[np.dtype, ...]) -> Sample:
    """Every update is dropped."""

    def operands(rng: np.random.Generator, dtype: np.dtype) -> list[np.ndarray]:
        return [_array(rng, dtype, (0, 2)), np.array([0, 1, -1], np.int32), _array(rng, dtype, (3, 2))]

    return Sample("into nothing", operands, {"axis": 0, "batch_axes": ()}, dtypes)


def _all_dropped(dtypes: tuple[np.dtype, ...]) -> Sample:
    def operands(rng: np.random.Generator, dtype: np.dtype) -> list[np.ndarray]:
        return [_array(rng, dtype, (4, 3)), np.array([4, -1, 99], np.int32), _array(rng, dtype, (3, 3))]

    return Sample("all dropped", operands, {"axis": 0, "batch_axes": ()}, dtypes)


def _scatters(dtypes: tuple[np.dtype, ...], places: Iterable[str] = _PLACES) -> list[Sample]:
    return [*(_scatter(name, dtypes) for name in places), _scatter_into_nothing(dtypes), _all_dropped(dtypes)]


#: Scatter ops differ only in how they combine: some get a selection of the places.
_SOME_PLACES = ("rows", "elements", "inner axis", "one element for each of a batch", "two batch axes", "no indices")


SAMPLES = {
    "dynamic_slice": [
        _dynamic_slice("rank 2", (7, 9), (3, 4)),
        _dynamic_slice("rows", (8, 5), (2, 5), "int64"),
        _dynamic_slice("all", (3, 4), (3, 4)),
        _dynamic_slice("nothing", (3, 4), (0, 4)),
        _dynamic_slice("of nothing", (0, 4), (0, 2)),
        _dynamic_slice("one element", (5,), (1,)),
        _dynamic_slice("scalar", (), ()),
        _dynamic_slice("rank 4", (2, 5, 1, 6), (1, 3, 1, 6), "int64"),
    ],
    "dynamic_update_slice": [
        _dynamic_update_slice("rank 2", (7, 9), (3, 4)),
        _dynamic_update_slice("rows", (8, 5), (2, 5), "int64"),
        _dynamic_update_slice("all", (3, 4), (3, 4)),
        _dynamic_update_slice("nothing", (3, 4), (0, 4)),
        _dynamic_update_slice("of nothing", (0, 4), (0, 2)),
        _dynamic_update_slice("one element", (5,), (1,)),
        _dynamic_update_slice("scalar", (), ()),
        _dynamic_update_slice("rank 4", (2, 5, 1, 6), (1, 3, 1, 6), "int64"),
    ],
    "gather": [_gather(name) for name in _PLACES],
    "scatter_add": _scatters(NUMBERS),
    "scatter_set": _scatters(DTYPES),
    "scatter_mul": _scatters(NUMBERS, _SOME_PLACES),
    "scatter_max": _scatters(NUMBERS, _SOME_PLACES),
    "scatter_min": _scatters(NUMBERS, _SOME_PLACES),
}
