"""Samples of the movement ops."""

from __future__ import annotations

import numpy as np

from tests.samples import Sample, random_array


def _sample(name: str, *shapes: tuple[int, ...], **attributes: object) -> Sample:
    """A sample whose operands have these shapes and the dtype."""

    def operands(rng: np.random.Generator, dtype: np.dtype) -> list[np.ndarray]:
        # Special values too, but not where derivatives are taken.
        return [random_array(rng, dtype, shape, special=dtype != np.float64) for shape in shapes]

    return Sample(name, operands, attributes)


SAMPLES = {
    "broadcast_in_dim": [
        _sample("new axes", (3, 5), shape=(2, 3, 4, 5), dims=(1, 3)),
        _sample("stretched", (1, 7), shape=(4, 7), dims=(0, 1)),
        _sample("stretched and new", (1, 1), shape=(3, 1, 5), dims=(0, 2)),
        _sample("scalar", (), shape=(2, 33), dims=()),
        _sample("scalar to scalar", (), shape=(), dims=()),
        _sample("empty", (0, 1), shape=(0, 4), dims=(0, 1)),
        _sample("to empty", (1,), shape=(0,), dims=(0,)),
    ],
    "reshape": [
        _sample("split and merge", (4, 6), shape=(2, 2, 6)),
        _sample("incompatible", (4, 6), shape=(3, 8)),
        _sample("to scalar", (1, 1), shape=()),
        _sample("from scalar", (), shape=(1, 1, 1)),
        _sample("ones", (1, 5, 1), shape=(5,)),
        _sample("empty", (0, 3), shape=(2, 0, 7)),
        _sample("rank 4", (2, 3, 4, 5), shape=(6, 20)),
    ],
    "transpose": [
        _sample("rank 3", (2, 3, 5), permutation=(2, 0, 1)),
        _sample("rank 4", (2, 3, 4, 33), permutation=(3, 1, 0, 2)),
        _sample("scalar", (), permutation=()),
        _sample("ones", (1, 7), permutation=(1, 0)),
        _sample("empty", (0, 3), permutation=(1, 0)),
    ],
    "reverse": [
        _sample("two axes", (3, 5, 7), axes=(0, 2)),
        _sample("last axis", (2, 33), axes=(1,)),
        _sample("no axis", (4,), axes=()),
        _sample("scalar", (), axes=()),
        _sample("one element", (1, 1), axes=(0, 1)),
        _sample("empty", (0, 3), axes=(0, 1)),
        _sample("rank 4", (2, 3, 1, 4), axes=(1, 2, 3)),
    ],
    "slice": [
        _sample("strided", (9, 10), start=(1, 0), limit=(8, 10), strides=(3, 2)),
        _sample("contiguous", (7, 6), start=(2, 0), limit=(5, 6), strides=(1, 1)),
        _sample("inner", (5, 33), start=(0, 3), limit=(5, 20), strides=(1, 1)),
        _sample("all", (3, 4), start=(0, 0), limit=(3, 4), strides=(1, 1)),
        _sample("one element", (5,), start=(4,), limit=(5,), strides=(7,)),
        _sample("nothing", (3, 4), start=(1, 2), limit=(3, 2), strides=(1, 3)),
        _sample("of nothing", (0, 4), start=(0, 1), limit=(0, 3), strides=(2, 1)),
        _sample("scalar", (), start=(), limit=(), strides=()),
        _sample("rank 4", (3, 4, 5, 6), start=(1, 0, 2, 3), limit=(3, 4, 5, 6), strides=(1, 3, 2, 1)),
    ],
    "pad": [
        _sample("around", (3, 4), (), low=(1, 2), high=(2, 0), interior=(0, 0)),
        _sample("interior", (3, 4), (), low=(1, 0), high=(2, 1), interior=(1, 2)),
        _sample("negative", (5, 6), (), low=(-1, -2), high=(-2, 0), interior=(0, 0)),
        _sample("mixed signs", (4, 5), (), low=(-2, 3), high=(4, -1), interior=(0, 0)),
        _sample("negative with interior", (4, 5), (), low=(-2, -1), high=(-3, 2), interior=(2, 1)),
        _sample("only padding left", (2, 3), (), low=(-2, 1), high=(3, 1), interior=(0, 0)),
        _sample("between elements", (2,), (), low=(-1,), high=(-2,), interior=(3,)),
        _sample("nothing left", (2, 3), (), low=(-1, 0), high=(-1, 0), interior=(0, 0)),
        _sample("empty", (0, 2), (), low=(1, 1), high=(2, 0), interior=(2, 0)),
        _sample("scalar", (), (), low=(), high=(), interior=()),
        _sample("rank 4", (2, 1, 3, 4), (), low=(0, 1, 1, 0), high=(0, 1, 1, 0), interior=(0, 0, 1, 0)),
    ],
    "concatenate": [
        _sample("first axis", (2, 5), (3, 5), axis=0),
        _sample("last axis", (3, 17), (3, 16), axis=1),
        _sample("empty left", (0, 4), (2, 4), axis=0),
        _sample("empty right", (3, 2), (3, 0), axis=1),
        _sample("both empty", (0,), (0,), axis=0),
        _sample("empty elsewhere", (2, 0), (1, 0), axis=0),
        _sample("rank 4", (2, 1, 3, 2), (2, 4, 3, 2), axis=1),
    ],
}  # fmt: skip
