"""Samples of the ops that say how to compile."""

from __future__ import annotations

from tests.samples import Sample, random_array

SAMPLES = {
    "optimization_barrier": [
        Sample("matrix", lambda rng, dtype: [random_array(rng, dtype, (3, 5), special=True)], gradient=False),
        Sample("smooth", lambda rng, dtype: [random_array(rng, dtype, (7,))]),
        Sample("scalar", lambda rng, dtype: [random_array(rng, dtype, ())]),
        Sample("empty", lambda rng, dtype: [random_array(rng, dtype, (0, 2))]),
    ]
}
