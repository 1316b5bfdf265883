"""Samples of the ops that say how to compile."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.samples import Sample, random_array
from volta_mlir.dtypes import is_float


def _after(shape: tuple[int, ...], token: tuple[int, ...], special: bool = False) -> Any:
    """Operands of ``after``: the token is of floats, whatever the other one is."""

    def draw(rng: np.random.Generator, dtype: np.dtype) -> list[np.ndarray]:
        of_floats = dtype if is_float(dtype) else np.dtype("float32")
        return [random_array(rng, dtype, shape, special=special), random_array(rng, of_floats, token, special=special)]

    return draw


SAMPLES = {
    "optimization_barrier": [
        Sample("matrix", lambda rng, dtype: [random_array(rng, dtype, (3, 5), special=True)], gradient=False),
        Sample("smooth", lambda rng, dtype: [random_array(rng, dtype, (7,))]),
        Sample("scalar", lambda rng, dtype: [random_array(rng, dtype, ())]),
        Sample("empty", lambda rng, dtype: [random_array(rng, dtype, (0, 2))]),
    ],
    "after": [
        Sample("matrix", _after((3, 5), (2, 2), special=True), gradient=False),
        Sample("smooth", _after((7,), (3,))),
        Sample("scalars", _after((), ())),
        Sample("empty", _after((0, 2), (1,))),
    ],
}
