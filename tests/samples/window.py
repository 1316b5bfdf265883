"""Samples of the ops over windows."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.samples import Sample, random_array
from volta_mlir.dialects.window import Window
from volta_mlir.dtypes import DTYPES, INDEX, bool_

NUMBERS = tuple(d for d in DTYPES if d != bool_)


def _geometry(
    window: tuple[int, ...],
    strides: tuple[int, ...] | None = None,
    low: tuple[int, ...] | None = None,
    high: tuple[int, ...] | None = None,
    dilation: tuple[int, ...] | None = None,
) -> dict[str, Any]:
    ones, zeros = (1,) * len(window), (0,) * len(window)
    return {
        "window": window,
        "strides": strides or ones,
        "low": low or zeros,
        "high": high or low or zeros,
        "dilation": dilation or ones,
    }


#: (name, shape of the tensor under the windows, geometry)
GEOMETRIES: list[tuple[str, tuple[int, ...], dict[str, Any]]] = [
    ("channels last", (2, 7, 6, 5), _geometry((1, 3, 2, 1), (1, 2, 2, 1), (0, 1, 1, 0))),
    ("channels first", (2, 3, 8, 9), _geometry((1, 1, 2, 3), (1, 1, 2, 3))),
    ("1-D", (13,), _geometry((4,), (2,), (3,), (1,))),
    ("dilation", (1, 11, 12, 3), _geometry((1, 3, 3, 1), (1, 1, 1, 1), (0, 2, 2, 0), dilation=(1, 2, 3, 1))),
    ("stride and dilation", (2, 12), _geometry((1, 3), (1, 2), (0, 2), (0, 1), (1, 3))),
    ("stride larger than the window", (3, 11, 2), _geometry((1, 2, 1), (1, 4, 1))),
    ("padding beyond the window", (4, 3), _geometry((2, 1), (2, 1), (5, 0), (4, 0))),
    ("axes apart", (5, 3, 6), _geometry((2, 1, 3), (1, 1, 2), (1, 0, 0))),
    ("3-D", (1, 4, 5, 6, 2), _geometry((1, 2, 2, 2, 1), (1, 2, 1, 2, 1))),
    ("large window", (2, 24, 3), _geometry((1, 17, 1), (1, 1, 1), (0, 8, 0))),
    ("very large window", (1, 20, 18, 2), _geometry((1, 10, 9, 1), (1, 4, 3, 1), (0, 2, 1, 0))),
    ("no window", (3, 4), _geometry((1, 1))),
    ("dilation without effect", (3, 4), _geometry((1, 1), dilation=(2, 3))),
    ("empty", (0, 6, 2), _geometry((1, 3, 1))),
]


def _counts(shape: tuple[int, ...], geometry: dict[str, Any]) -> tuple[int, ...]:
    return Window.counts(shape, **geometry)


def _reductions(special: bool, dtypes: tuple[np.dtype, ...] = NUMBERS) -> list[Sample]:
    def sample(name: str, shape: tuple[int, ...], geometry: dict[str, Any]) -> Sample:
        # A maximum of padding alone is an infinity, from which no finite difference can be taken.
        finite = "beyond the window" not in name
        return Sample(name, lambda rng, dtype: [random_array(rng, dtype, shape)], geometry, dtypes, finite)

    samples = [sample(*case) for case in GEOMETRIES]
    if special:
        _, shape, geometry = GEOMETRIES[0]
        samples.append(
            Sample(
                "NaN and infinities",
                lambda rng, dtype: [random_array(rng, dtype, shape, special=True)],
                geometry,
                dtypes,
                gradient=False,
            )
        )
    return samples


def _minus_infinity(rng: np.random.Generator, dtype: np.dtype) -> list[np.ndarray]:
    x = random_array(rng, dtype, (3, 8))
    x[1:] = -np.inf if dtype.kind not in "iu" else np.iinfo(dtype).min
    x[2, 4] = 1
    return [x]


def _indices(rng: np.random.Generator, counts: tuple[int, ...], geometry: dict[str, Any]) -> np.ndarray:
    """Mostly indices in the window, some out of range on either side."""
    return rng.integers(-2, int(np.prod(geometry["window"])) + 2, counts).astype(INDEX)


def _gathers() -> list[Sample]:
    def sample(name: str, shape: tuple[int, ...], geometry: dict[str, Any]) -> Sample:
        def operands(rng: np.random.Generator, dtype: np.dtype) -> list[np.ndarray]:
            return [random_array(rng, dtype, shape), _indices(rng, _counts(shape, geometry), geometry)]

        return Sample(name, operands, geometry, NUMBERS)

    return [sample(*case) for case in GEOMETRIES]


def _scatters() -> list[Sample]:
    def sample(name: str, shape: tuple[int, ...], geometry: dict[str, Any]) -> Sample:
        def operands(rng: np.random.Generator, dtype: np.dtype) -> list[np.ndarray]:
            counts = _counts(shape, geometry)
            return [random_array(rng, dtype, counts), _indices(rng, counts, geometry)]

        return Sample(name, operands, {**geometry, "shape": shape}, NUMBERS)

    return [sample(*case) for case in GEOMETRIES]


def _spreads() -> list[Sample]:
    def sample(name: str, shape: tuple[int, ...], geometry: dict[str, Any]) -> Sample:
        def operands(rng: np.random.Generator, dtype: np.dtype) -> list[np.ndarray]:
            return [random_array(rng, dtype, _counts(shape, geometry))]

        return Sample(name, operands, {**geometry, "shape": shape}, NUMBERS)

    return [sample(*case) for case in GEOMETRIES]


SAMPLES = {
    "window_sum": _reductions(special=True),
    "window_max": _reductions(special=True),
    "window_argmax": [
        *_reductions(special=True),
        Sample("nothing above the least value", _minus_infinity, _geometry((1, 3), (1, 2), (0, 2)), NUMBERS, False),
    ],
    "window_gather": _gathers(),
    "window_scatter": _scatters(),
    "window_spread": _spreads(),
}
