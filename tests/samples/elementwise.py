"""Samples of the elementwise ops: extreme values against each other, all shapes, and smooth points for derivatives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import ml_dtypes
import numpy as np

from tests.samples import Sample, random_array
from volta_mlir.dtypes import DTYPES, FLOATS, INTEGERS, bool_, float64, is_float

NUMBERS = FLOATS + INTEGERS
BITS = (*INTEGERS, bool_)

SHAPES = {
    "scalar": (),
    "one element": (1, 1),
    "empty": (2, 0),
    "rank 4": (2, 1, 3, 2),
    "odd": (7, 13),
    "large": (1003,),
}

Draw = Callable[[np.random.Generator, np.dtype, tuple[int, ...]], np.ndarray]


def extremes(dtype: np.dtype) -> np.ndarray:
    """The values at which something special happens. Subnormals are left out: programs may take them for zeros."""
    if dtype == bool_:
        return np.array([False, True])
    if not is_float(dtype):
        info = np.iinfo(dtype)
        bits = info.bits
        values = {info.min, info.min + 1, -1, 0, 1, 2, 3, 5, bits - 1, bits, bits + 1, info.max - 1, info.max}
        return np.array(sorted(v for v in values if info.min <= v <= info.max), dtype)
    info = ml_dtypes.finfo(dtype)
    positive = [
        0.0,
        float(info.smallest_normal),
        1e-3,
        0.5,
        1.0,
        1.5,
        2.0,
        2.5,
        3.0,
        7.25,
        100.0,
        float(info.max),
        np.inf,
    ]
    return np.array([*positive, *(-x for x in positive), np.nan]).astype(dtype)


def between(low: float, high: float) -> Draw:
    """Uniform numbers."""
    return lambda rng, dtype, shape: rng.uniform(low, high, shape).astype(dtype)


def grid(operands: int) -> Callable[[np.random.Generator, np.dtype], list[np.ndarray]]:
    """Every extreme value of the dtype with every other one, and as many random values."""

    def draw(rng: np.random.Generator, dtype: np.dtype) -> list[np.ndarray]:
        combined = [x.ravel() for x in np.meshgrid(*[extremes(dtype)] * operands)]
        return [np.concatenate([x, random_array(rng, dtype, x.shape)]) for x in combined]

    return draw


def samples(
    operands: int,
    dtypes: tuple[np.dtype, ...],
    domains: tuple[Draw, ...] | None = None,
    *,
    attributes: Any = None,
    special: Callable[[np.random.Generator, np.dtype], list[np.ndarray]] | None = None,
    gradient: bool = True,
) -> list[Sample]:
    """The cases of one op.

    Args:
        operands: how many it has.
        dtypes: those that it takes.
        domains: for each operand, smooth points in the interior of the domain; by default normal numbers.
        attributes: the op's attributes.
        special: the operands that hold extreme values.
        gradient: whether the op is smooth at points of ``domains``.
    """
    domains = domains or (random_array,) * operands

    def at(shape: tuple[int, ...]) -> Callable[[np.random.Generator, np.dtype], list[np.ndarray]]:
        def draw(rng: np.random.Generator, dtype: np.dtype) -> list[np.ndarray]:
            return [(domain if is_float(dtype) else random_array)(rng, dtype, shape) for domain in domains]

        return draw

    given = attributes or {}
    cases = [Sample("extremes", special or grid(operands), given, dtypes, gradient=False)]
    return cases + [Sample(name, at(shape), given, dtypes, gradient) for name, shape in SHAPES.items()]


def unary(dtypes: tuple[np.dtype, ...], domain: Draw = random_array, **options: Any) -> list[Sample]:
    return samples(1, dtypes, (domain,), **options)


def binary(dtypes: tuple[np.dtype, ...], *domains: Draw, **options: Any) -> list[Sample]:
    return samples(2, dtypes, domains or None, **options)


def converted(target: np.dtype) -> list[Sample]:
    """``convert`` from every dtype to one; the names tell them apart."""
    # Finite differences in float64 only see derivatives that are not rounded to fewer digits.
    cases = unary(DTYPES, attributes={"dtype": target}, gradient=target == float64)
    return [replace(case, name=f"{case.name} to {target}") for case in cases if case.name in ("extremes", "odd")]


def bitcast_target(dtype: np.dtype) -> dict[str, np.dtype]:
    """A dtype of the same width and another kind."""
    unsigned, signed = np.dtype(f"u{dtype.itemsize}"), np.dtype(f"i{dtype.itemsize}")
    if is_float(dtype):
        return {"dtype": unsigned}
    floats = {d.itemsize: d for d in FLOATS if d.name != "bfloat16"}
    return {"dtype": floats.get(dtype.itemsize, signed) if dtype.kind == "u" else unsigned}


def compared(direction: str) -> Sample:
    return Sample(f"extremes {direction}", grid(2), {"direction": direction}, gradient=False)


def selected(rng: np.random.Generator, dtype: np.dtype, shape: tuple[int, ...]) -> list[np.ndarray]:
    return [random_array(rng, bool_, shape), random_array(rng, dtype, shape), random_array(rng, dtype, shape)]


def clamped(rng: np.random.Generator, dtype: np.dtype, shape: tuple[int, ...]) -> list[np.ndarray]:
    """Bounds that leave some of the values alone."""
    x = random_array(rng, dtype, shape)
    low, high = np.full(shape, 0 if dtype.kind == "u" else -1, dtype), np.full(shape, 1, dtype)
    return [low, x, high]


POSITIVE = between(0.1, 4)
NONZERO: Draw = lambda rng, dtype, shape: (rng.uniform(0.5, 3, shape) * rng.choice([-1, 1], shape)).astype(dtype)  # noqa: E731
UNIT = between(-0.9, 0.9)


def smallest_by_one(rng: np.random.Generator, dtype: np.dtype) -> list[np.ndarray]:
    return [np.array(np.iinfo(dtype).min, dtype), np.array(1, dtype)]


#: Its magnitude fits no signed integer, which the reference's exact arithmetic must not trip over, scalars included.
SMALLEST_INTEGER = Sample("smallest integer", smallest_by_one, dtypes=INTEGERS, gradient=False)

SAMPLES = {
    "neg": unary(NUMBERS),
    "abs": unary(NUMBERS, NONZERO),
    "sign": unary(NUMBERS, NONZERO),
    "exp": unary(FLOATS),
    "expm1": unary(FLOATS),
    "log": unary(FLOATS, POSITIVE),
    "log1p": unary(FLOATS, between(-0.8, 4)),
    "sqrt": unary(FLOATS, POSITIVE),
    "rsqrt": unary(FLOATS, POSITIVE),
    "cbrt": unary(FLOATS, NONZERO),
    "sin": unary(FLOATS),
    "cos": unary(FLOATS),
    "tan": unary(FLOATS, UNIT),
    "asin": unary(FLOATS, UNIT),
    "acos": unary(FLOATS, UNIT),
    "sinh": unary(FLOATS),
    "cosh": unary(FLOATS),
    "tanh": unary(FLOATS),
    "erf": unary(FLOATS),
    "logistic": unary(FLOATS),
    "floor": unary(FLOATS, gradient=False),
    "ceil": unary(FLOATS, gradient=False),
    "round": unary(FLOATS, gradient=False),
    "is_finite": unary(FLOATS, gradient=False),
    "stop_gradient": unary(DTYPES, gradient=False),
    "checkpoint_name": unary(DTYPES, attributes={"label": "a value"}),
    "add": binary(NUMBERS),
    "sub": binary(NUMBERS),
    "mul": binary(NUMBERS),
    "div": [*binary(NUMBERS, random_array, NONZERO), SMALLEST_INTEGER],
    "rem": [*binary(NUMBERS, between(4.1, 5.9), between(2.1, 3.9)), SMALLEST_INTEGER],
    "pow": binary(NUMBERS, POSITIVE, between(-3, 3)),
    "maximum": binary(DTYPES),
    "minimum": binary(DTYPES),
    "atan2": binary(FLOATS, NONZERO, NONZERO),
    "logaddexp": binary(FLOATS),
    "and": binary(BITS),
    "or": binary(BITS),
    "xor": binary(BITS),
    "not": unary(BITS),
    "shift_left": binary(INTEGERS),
    "shift_right_logical": binary(INTEGERS),
    "shift_right_arithmetic": binary(INTEGERS),
    "compare": [
        *binary(DTYPES, attributes={"direction": "lt"}, gradient=False),
        *(compared(direction) for direction in ("eq", "ne", "le", "gt", "ge")),
    ],
    "convert": [case for target in DTYPES for case in converted(target)],
    "bitcast": unary(NUMBERS, attributes=bitcast_target, gradient=False),
    "select": [
        Sample(name, lambda rng, dtype, shape=shape: selected(rng, dtype, shape))  # type: ignore[misc]
        for name, shape in {"vector": (17,), **SHAPES}.items()
    ],
    "clamp": [
        Sample("extremes", grid(3), dtypes=NUMBERS, gradient=False),
        *(
            Sample(name, lambda rng, dtype, shape=shape: clamped(rng, dtype, shape), dtypes=NUMBERS)  # type: ignore[misc]
            for name, shape in SHAPES.items()
        ),
    ],
}
