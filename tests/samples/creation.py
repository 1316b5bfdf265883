"""Samples of the ops that make tensors from nothing."""

from __future__ import annotations

import numpy as np

from tests.samples import Sample, random_array
from volta_mlir.dtypes import DTYPES, FLOATS


def nothing(rng: np.random.Generator, dtype: np.dtype) -> list[np.ndarray]:
    return []


def constant(name: str, shape: tuple[int, ...], special: bool = False) -> Sample:
    def attributes(dtype: np.dtype) -> dict[str, np.ndarray]:
        return {"value": random_array(np.random.default_rng(0), dtype, shape, special)}

    return Sample(name, nothing, attributes, gradient=False)


def full(name: str, value: float, shape: tuple[int, ...], dtypes: tuple[np.dtype, ...] = DTYPES) -> Sample:
    return Sample(
        name, nothing, lambda dtype: {"value": np.array(value).astype(dtype), "shape": shape}, dtypes, gradient=False
    )


def iota(name: str, shape: tuple[int, ...], axis: int) -> Sample:
    return Sample(name, nothing, lambda dtype: {"shape": shape, "axis": axis, "dtype": dtype}, gradient=False)


SAMPLES = {
    "constant": [
        constant("matrix", (3, 5)),
        constant("special", (17,), special=True),
        constant("scalar", ()),
        constant("one element", (1, 1)),
        constant("empty", (2, 0)),
        constant("rank 4", (2, 1, 3, 2)),
        Sample("equal elements", nothing, lambda dtype: {"value": np.ones((4, 3), dtype)}, gradient=False),
    ],
    "full": [
        full("matrix", 1, (3, 5)),
        full("scalar", 1, ()),
        full("empty", 1, (0, 3)),
        full("rank 4", 0, (2, 1, 3, 2)),
        full("fraction", -0.1, (7,), FLOATS),
        full("nan", np.nan, (3,), FLOATS),
        full("infinity", -np.inf, (3,), FLOATS),
        full("negative zero", -0.0, (3,), FLOATS),
    ],
    "iota": [
        iota("vector", (7,), 0),
        iota("first axis", (3, 5), 0),
        iota("last axis", (3, 5), -1),
        iota("middle axis", (2, 3, 4), 1),
        iota("one element", (1,), 0),
        iota("empty", (0, 3), 1),
        iota("beyond eight bits", (300,), 0),
        iota("large", (70000,), 0),
    ],
}
