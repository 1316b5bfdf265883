"""The comparison that the other tests rely on refuses what it should."""

from __future__ import annotations

import numpy as np
import pytest

from tests.tolerances import element_mismatch, mismatch, tolerance
from volta_mlir.dtypes import bfloat16, float16, float32, float64

NAN, INF = np.nan, np.inf


@pytest.mark.parametrize("dtype", [bfloat16, float16, float32, float64], ids=str)
def test_rounding_is_accepted_and_more_is_not(dtype: np.dtype) -> None:
    expected = np.array([1.0, -2.0, 3.0], dtype)
    eps = tolerance(dtype)
    assert mismatch((expected.astype(np.float64) * (1 + eps / 4)).astype(dtype), expected) is None
    assert "relative error" in mismatch((expected.astype(np.float64) * (1 + 4 * eps)).astype(dtype), expected)


@pytest.mark.parametrize(
    ("actual", "expected"),
    [([NAN, 1], [1, 1]), ([1, 1], [NAN, 1]), ([INF, 1], [-INF, 1]), ([1e38, 1], [INF, 1]), ([INF, 1], [1e38, 1])],
)
def test_special_values_are_where_they_are_expected(actual: list[float], expected: list[float]) -> None:
    assert mismatch(np.array(actual), np.array(expected)) is not None
    assert mismatch(np.array(expected), np.array(expected)) is None


def test_tolerance_is_relative_to_the_whole_tensor() -> None:
    assert mismatch(np.array([1e6, 1e-9]), np.array([1e6, 0.0])) is None
    assert mismatch(np.array([0.0, 1e-9]), np.array([0.0, 0.0])) is not None


def test_norms_do_not_overflow() -> None:
    assert mismatch(np.array([1e308, 2e307]), np.array([1e308, 1e307])) is not None


def test_exact_comparison_sees_the_sign_of_zero() -> None:
    assert mismatch(np.array([-0.0]), np.array([0.0])) is None
    assert mismatch(np.array([-0.0]), np.array([0.0]), relative=0) is not None
    assert mismatch(np.array([NAN, -0.0]), np.array([NAN, -0.0]), relative=0) is None


def test_integers_shapes_and_dtypes_are_exact() -> None:
    assert mismatch(np.array([1, 2]), np.array([1, 3])) is not None
    assert mismatch(np.zeros((2, 1)), np.zeros(2)) is not None
    assert mismatch(np.zeros(2, np.float32), np.zeros(2)) is not None
    assert mismatch(np.zeros((0, 3)), np.zeros((0, 3))) is None


@pytest.mark.parametrize(
    ("actual", "is_wrong"),
    [
        ([1e30, 1.0, 0.0, NAN], False),
        ([1e30, 1.1, 0.0, NAN], True),
        ([1e30, 1.0, -0.0, NAN], True),
        ([1e30, 1.0, 1e-20, NAN], True),
        ([1e30, 1.0, 1e-40, NAN], False),
    ],
)
def test_elements_are_held_to_the_tolerance_by_themselves(actual: list[float], is_wrong: bool) -> None:
    expected = np.array([1e30, 1.0, 0.0, NAN], np.float32)
    assert (element_mismatch(np.array(actual, np.float32), expected, 1e-6) is not None) == is_wrong
