"""Numbers near the limits of 64 bits: errors with a type, from Python and from a text, and no crash."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import volta_mlir as volta
from volta_mlir import Tensor
from volta_mlir.errors import DTypeError, OptionError, ShapeError
from volta_mlir.nn import functional as fn
from volta_mlir.tools.volta_opt import main

LARGE = (2**31, 2**62, 2**63 - 1, 2**63, 2**70)
X = np.ones((4, 4), np.float32)

REFUSED: dict[str, Callable[[Any, int], Any]] = {
    "pad, low": lambda x, n: volta.pad(x, [(n, 0), (n, 0)]),
    "pad, high": lambda x, n: volta.pad(x, [(0, n), (n, 0)]),
    "slice": lambda x, n: volta.slice_in_dim(x, 0, n),
    "max_pool2d, window": lambda x, n: fn.max_pool2d(x[None], n),
    "max_pool2d, stride": lambda x, n: fn.max_pool2d(x[None], 2, stride=n),
    "max_pool2d, dilation": lambda x, n: fn.max_pool2d(x[None], 2, dilation=n),
    "avg_pool2d, padding": lambda x, n: fn.avg_pool2d(x[None], 2, padding=n),
    "conv2d, stride": lambda x, n: fn.conv2d(x[None], x[None, None, :2, :2], stride=n),
    "conv2d, padding": lambda x, n: fn.conv2d(x[None], x[None, None, :2, :2], padding=n),
    "conv2d, dilation": lambda x, n: fn.conv2d(x[None], x[None, None, :2, :2], dilation=n),
    "conv_transpose2d": lambda x, n: fn.conv_transpose2d(x[None], x[None, None, :2, :2], stride=n),
    "zeros": lambda x, n: volta.zeros((n, n)),
    "negative": lambda x, n: volta.zeros((-n,)),
    "tile": lambda x, n: volta.tile(x, (n, n)),
    "eye": lambda x, n: volta.eye(n),
    "scan, negative": lambda x, n: volta.scan(lambda c, _: (c, c), x, length=-n),
    "scan, collected": lambda x, n: volta.scan(lambda c, _: (c, c), x, length=n * 2**30),
}


@pytest.mark.parametrize("name", REFUSED)
def test_python(name: str) -> None:
    function = REFUSED[name]
    for number in LARGE:
        with pytest.raises((ShapeError, OptionError)):
            volta.jit(lambda x, n=number: function(x, n)).lower(X)
        with pytest.raises((ShapeError, OptionError)):
            function(Tensor(X), number)


def test_slices_are_pythons() -> None:
    x = Tensor(X)
    for number in LARGE:
        np.testing.assert_array_equal(x[::number], X[::number])
        np.testing.assert_array_equal(x[:number, ::-number], X[:number, ::-number])
        np.testing.assert_array_equal(volta.jit(lambda x, n=number: x[-n::n])(X), X[-number::number])


@pytest.mark.parametrize("number", [2**70, 10**400])
def test_numbers_that_fit_no_dtype(number: int) -> None:
    for dtype in ("int32", "float32") if number > 2**200 else ("int32",):
        with pytest.raises(DTypeError, match=f"{number} does not fit {dtype}"):
            Tensor([1], dtype) + number


def test_many_steps_that_do_nothing_are_not_unrolled() -> None:
    lowered = volta.jit(lambda x: volta.scan(lambda c, _: (c, None), x, length=2**40)).lower(X)
    assert "scf.for" in lowered.as_text("linalg")


TEXTS = {
    "pad": (
        '"volta.pad"(%x, %z) {low = array<i64: LOW>, high = array<i64: HIGH>, interior = array<i64: INTERIOR>}'
        " : (tensor<4xf32>, tensor<f32>) -> tensor<4xf32>"
    ),
    "slice": (
        '"volta.slice"(%x) {starts = array<i64: LOW>, limits = array<i64: HIGH>, strides = array<i64: INTERIOR>}'
        " : (tensor<4xf32>) -> tensor<4xf32>"
    ),
    "window": (
        '"volta.window_sum"(%x) {window = array<i64: 1>, strides = array<i64: INTERIOR>, low = array<i64: LOW>,'
        " high = array<i64: HIGH>, dilation = array<i64: INTERIOR>} : (tensor<4xf32>) -> tensor<4xf32>"
    ),
}


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("low", [0, 2**62, 2**63 - 1, -(2**63)])
@pytest.mark.parametrize("high", [4, 2**63 - 1, -(2**63)])
@pytest.mark.parametrize("interior", [3, 2**62, 2**63 - 1, -(2**63)])
def test_texts(capsys, tmp_path, name: str, low: int, high: int, interior: int) -> None:
    op = TEXTS[name].replace("LOW", str(low)).replace("HIGH", str(high)).replace("INTERIOR", str(interior))
    path = tmp_path / "text.mlir"
    path.write_text(
        f"func.func @main(%x: tensor<4xf32>, %z: tensor<f32>) -> tensor<4xf32> {{\n"
        f"  %0 = {op}\n  return %0 : tensor<4xf32>\n}}\n"
    )
    assert main([str(path), "--volta-simplify", "--convert-volta-to-linalg"]) == 1
    error = capsys.readouterr().err
    assert f"{path}:2:8: error: " in error and "internal" not in error
