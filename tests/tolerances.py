"""How close results must be: one table for every test.

Floating-point tensors are compared norm-wise, ``‖actual - expected‖ ≤ tolerance(dtype) · ‖expected‖``, over the
positions where the expected value is finite; NaN and infinities must be where they are expected. Integers and bool
are compared exactly, and so are the results of ops that only move elements.
"""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np

from volta_mlir.dtypes import is_float

#: Relative error of one tensor, by dtype. About 16 units in the last place, for results of a few operations.
RELATIVE = {"float64": 4e-15, "float32": 2e-6, "float16": 4e-3, "bfloat16": 3e-2}

#: Derivatives against central finite differences, all in float64: the step is 1e-5, the truncation error its square.
FINITE_DIFFERENCE_STEP = 1e-5
FINITE_DIFFERENCES = 1e-6
#: The inner product test of reverse mode against forward mode, in float64.
INNER_PRODUCT = 1e-10


def tolerance(dtype: np.dtype, operations: float = 1) -> float:
    """The relative tolerance for results of which each element takes this many operations.

    Rounding errors of a sum of n terms, and what cancellation makes of them, grow like the square root of n. Half
    precision accumulates in float32, so that only the final rounding shows.
    """
    growth = math.sqrt(max(1.0, operations)) if dtype.itemsize > 2 else 1.0
    return RELATIVE[dtype.name] * growth


def mismatch(actual: np.ndarray, expected: np.ndarray, relative: float | None = None) -> str | None:
    """What is wrong with ``actual``, None if nothing.

    ``relative`` is the relative error allowed to floating-point tensors, by default the dtype's; 0 compares exactly,
    the sign of zero included.
    """
    if actual.shape != expected.shape or actual.dtype != expected.dtype:
        return f"got {actual.dtype}{list(actual.shape)}, expected {expected.dtype}{list(expected.shape)}"
    if not is_float(expected.dtype):
        return _first_difference(actual, expected, actual != expected)
    relative = tolerance(expected.dtype) if relative is None else relative
    # Widened for the arithmetic below; float64 holds every other dtype's values exactly.
    a, e = actual.astype(np.float64), expected.astype(np.float64)
    finite = np.isfinite(e)
    special = ~finite & ~((a == e) | (np.isnan(a) & np.isnan(e)))
    wrong = special | (finite & ~np.isfinite(a))
    if relative == 0:
        wrong |= finite & ((a != e) | (np.signbit(a) != np.signbit(e)))
    if wrong.any():
        return _first_difference(actual, expected, wrong)
    error, size = norm(np.where(finite, a, 0) - np.where(finite, e, 0)), norm(np.where(finite, e, 0))
    if error > relative * size:
        worst = _first_difference(actual, expected, np.abs(a - e) == np.nanmax(np.abs(np.where(finite, a - e, 0))))
        return f"relative error {error / size if size else math.inf:.2e} > {relative:.2e}; worst: {worst}"
    return None


def element_mismatch(actual: np.ndarray, expected: np.ndarray, relative: float) -> str | None:
    """What is wrong with ``actual`` besides :func:`mismatch`'s findings where each finite element is held to the
    relative error by itself, and zeros to their sign. Subnormal results may be zeros.
    """
    tiny = 2 * float(ml_dtypes.finfo(expected.dtype).smallest_normal)
    a, e = (np.where(np.isfinite(expected), x, 1).astype(np.float64) for x in (actual, expected))
    is_tiny = np.abs(e) < tiny
    wrong = ~is_tiny & (np.abs(a - e) > relative * np.abs(e))
    wrong |= is_tiny & ((np.abs(a) > tiny) | (np.signbit(a) != np.signbit(e)))
    return _first_difference(actual, expected, wrong)


def norm(x: np.ndarray) -> float:
    """The Euclidean norm, without overflow."""
    scale = float(np.abs(x).max(initial=0.0))
    return scale * float(np.linalg.norm(x.ravel() / scale)) if scale else 0.0


def _first_difference(actual: np.ndarray, expected: np.ndarray, where: np.ndarray) -> str | None:
    positions = np.argwhere(where)
    if not len(positions):
        return None
    at = tuple(map(int, positions[0]))
    return f"{len(positions)} of {expected.size} elements; at {list(at)} got {actual[at]}, expected {expected[at]}"
