"""Samples of the ops that say how to compile."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.samples import Sample, random_array


def _after(shape: tuple[int, ...], special: bool = False) -> Any:
    """Operands of ``after``: the token is a number, whatever the other one is."""

    def draw(rng: np.random.Generator, dtype: np.dtype) -> list[np.ndarray]:
        of_numbers = np.dtype("float32") if dtype == np.dtype(bool) else dtype
        return [random_array(rng, dtype, shape, special=special), random_array(rng, of_numbers, (), special=special)]

    return draw


SAMPLES = {
    "optimization_barrier": [
        Sample("matrix", lambda rng, dtype: [random_array(rng, dtype, (3, 5), special=True)], gradient=False),
        Sample("smooth", lambda rng, dtype: [random_array(rng, dtype, (7,))]),
        Sample("scalar", lambda rng, dtype: [random_array(rng, dtype, ())]),
        Sample("empty", lambda rng, dtype: [random_array(rng, dtype, (0, 2))]),
    ],
    "after": [
        Sample("matrix", _after((3, 5), special=True), gradient=False),
        Sample("smooth", _after((7,))),
        Sample("scalars", _after(())),
        Sample("empty", _after((0, 2))),
    ],
}
