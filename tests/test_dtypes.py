"""Dtypes: the promotion table of docs/semantics.md, weak scalars, and what is not a dtype."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import volta_mlir as volta
from volta_mlir.dtypes import DTYPES, FLOATS, INTEGERS, UNSIGNED, TensorSpec, as_dtype, result_type

# The names of the table's rows and columns.
OPERANDS: dict[str, Any] = {
    "b": np.dtype(bool),
    **{
        f"{kind}{bits}": as_dtype(f"{name}{bits}")
        for kind, name in (("u", "uint"), ("i", "int"))
        for bits in (8, 16, 32, 64)
    },
    "bf16": as_dtype("bfloat16"),
    **{f"f{bits}": as_dtype(f"float{bits}") for bits in (16, 32, 64)},
    "int": 1,
    "float": 1.0,
}


def documented_table() -> dict[tuple[str, str], str]:
    """(row, column) -> result, as docs/semantics.md has it."""
    text = (Path(__file__).parents[1] / "docs" / "semantics.md").read_text()
    section = text.split("## Dtypes and promotion")[1].split("\n## ")[0]
    header, _, *rows = [
        [cell.strip(" *") for cell in line.strip("|").split("|")]
        for line in section.splitlines()
        if line.startswith("|")
    ]
    return {(row[0], column): result for row in rows for column, result in zip(header[1:], row[1:], strict=True)}


def test_promotion_is_as_documented() -> None:
    table = documented_table()
    assert table.keys() == set(itertools.product(OPERANDS, OPERANDS))
    wrong = {
        key: (result_type(*(OPERANDS[name] for name in key)).name, result)
        for key, result in table.items()
        if result_type(*(OPERANDS[name] for name in key)) != OPERANDS[result]
    }
    assert not wrong


def test_promotion_is_commutative_associative_and_idempotent() -> None:
    for x, y in itertools.product(DTYPES, DTYPES):
        assert result_type(x, y) == result_type(y, x)
        for z in DTYPES:
            assert result_type(x, y, z) == result_type(z, y, x)
        assert result_type(x, x) == x


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_python_scalars_are_weak(dtype: np.dtype) -> None:
    x = volta.Tensor(np.ones(2, dtype))
    assert (x * 2).dtype == (dtype if dtype != volta.bool_ else volta.int32)
    assert (2 * x).dtype == (x * 2).dtype
    assert (x * 2.0).dtype == (dtype if dtype in FLOATS else volta.float32)
    assert (x * np.sqrt(4)).dtype == (x * 2.0).dtype  # numpy.float64 is a Python float
    assert (x * np.int64(2)).dtype == result_type(dtype, volta.int64)
    assert volta.logical_and(x, True).dtype == bool


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_functions_with_fractional_results_give_floats(dtype: np.dtype) -> None:
    x = volta.Tensor(np.ones(2, dtype))
    expected = dtype if dtype in FLOATS else volta.float32
    assert volta.exp(x).dtype == (x / 2).dtype == volta.arctan2(x, x).dtype == expected


def test_defaults_of_python_data() -> None:
    assert volta.Tensor(1).dtype == volta.Tensor([1]).dtype == volta.int32
    assert volta.Tensor(1.0).dtype == volta.Tensor([1.0]).dtype == volta.float32
    assert volta.Tensor(True).dtype == bool
    assert volta.Tensor(np.ones(1)).dtype == volta.float64
    assert result_type(True, 1) == volta.int32
    assert result_type(1, 2.0) == volta.float32


@pytest.mark.parametrize("value", ["float8", "complex64", np.complex128, "datetime64[s]", object, "nonsense", 3.5])
def test_unsupported_dtypes_are_named(value: Any) -> None:
    with pytest.raises(volta.DTypeError, match="Volta's dtypes are bfloat16"):
        as_dtype(value)


def test_as_dtype() -> None:
    for dtype in DTYPES:
        assert as_dtype(dtype) == as_dtype(dtype.name) == as_dtype(dtype.type) == dtype
    assert as_dtype(float) == volta.float32
    assert as_dtype(int) == volta.int32
    assert as_dtype(bool) == np.bool_
    assert set(UNSIGNED) < set(INTEGERS) < set(DTYPES)


def test_spec() -> None:
    spec = volta.spec([2, 3], "bfloat16")
    assert spec == TensorSpec((2, 3), volta.bfloat16)
    assert (spec.rank, spec.size, spec.nbytes, str(spec)) == (2, 6, 12, "bfloat16[2,3]")
    assert volta.spec(4).shape == (4,)
    assert volta.spec(()).size == 1
    assert spec.with_shape((0, 5)).size == 0
    assert spec.with_dtype(volta.float64).nbytes == 48
    with pytest.raises(volta.DTypeError, match="negative"):
        volta.spec((2, -1))
