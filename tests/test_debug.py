"""debug_nans: where a NaN comes from."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import volta_mlir as volta
from volta_mlir import Tensor, nn
from volta_mlir.errors import NaNError


def line() -> int:
    """The line that calls this."""
    return inspect.currentframe().f_back.f_lineno


@pytest.fixture(autouse=True)
def checked() -> Any:
    with volta.debug_nans():
        yield


LOG_LINE = 0


def loss(x: Any, scale: Any) -> Any:
    global LOG_LINE
    y = x * scale
    LOG_LINE = line() + 1
    z = volta.log(y)
    return (z * 2 + x).sum()


def in_a_scan(x: Any, scale: Any) -> Any:
    return volta.scan(lambda c, row: (c - 0.6, loss(c, scale) + row), x, x)[1]


GOOD, BAD = Tensor([0.5, 1.0]), Tensor([0.5, -1.0])


def test_eagerly_each_operation_is_checked() -> None:
    assert np.isfinite(loss(GOOD, 1.0).item())
    with pytest.raises(
        NaNError, match=r"volta.log gives NaN \(1 of 2 elements\); none of its operands has one"
    ) as error:
        loss(BAD, 1.0)
    assert error.value.location == f"{__file__}:{LOG_LINE}"
    assert isinstance(error.value, FloatingPointError)
    with pytest.raises(NaNError, match=r"volta.mul gives NaN.*operand 0 \(float32\[2\]\) had NaN already"):
        loss(Tensor([np.nan, 1.0]), 1.0)
    assert volta.isnan(Tensor([np.nan])).tolist() == [True]


@pytest.mark.parametrize("function", [loss, in_a_scan, volta.grad(loss), volta.jit(loss), volta.jit(in_a_scan)])
def test_transformed_and_compiled_functions(function: Any) -> None:
    assert np.isfinite(np.asarray(function(Tensor([1.0, 2.0]), 3.0))).all()
    with pytest.raises(NaNError, match=r"volta.log gives NaN \(\d of 2 elements\); none of its operands") as error:
        function(BAD, 1.0)
    assert error.value.location == f"{__file__}:{LOG_LINE}"


def test_arguments_that_are_nan() -> None:
    step = volta.jit(lambda tree, y: tree["x"] * y + 1)
    with pytest.raises(NaNError, match=r"the argument tree\.x has NaN already, and so have the results"):
        step({"x": Tensor([np.nan])}, Tensor([1.0]))
    with pytest.raises(NaNError, match=r"argument 0 of @main has NaN already"):
        volta.vmap(lambda x: x + 1)(Tensor([np.nan]))


class Total(nn.Module):
    def __init__(self) -> None:
        self.total = nn.Buffer(1.0)

    def forward(self, x: Any) -> Any:
        self.total = volta.sqrt(self.total - x)
        return x


def test_donated_arguments_and_buffers() -> None:
    """What the call overwrites is looked at as it was before; a buffer keeps its value."""
    step = volta.jit(lambda model, x: (model(x.sum()), x * 0.5), donate=("model", "x"))
    model = Total()
    with pytest.raises(NaNError, match=r"volta.sqrt gives NaN \(1 of 1 elements\)") as error:
        step(model, volta.jit(lambda: volta.ones(8))())
    assert error.value.location.startswith(__file__)
    closed = Total()
    with pytest.raises(NaNError, match=r"volta\.sqrt gives NaN"):
        volta.jit(lambda x: closed(x))(2.0)
    assert closed.total.item() == 1.0


def test_nan_that_is_not_chosen() -> None:
    """Results count in compiled functions, not what they select from."""
    assert volta.jit(lambda x: volta.where(x > 0, volta.log(x), 0.0))(Tensor([1.0, -1.0])).tolist() == [0.0, 0.0]


def test_it_is_off_by_default() -> None:
    with volta.debug_nans(False):
        assert np.isnan(loss(BAD, 1.0).item())
        assert np.isnan(volta.jit(loss)(BAD, 1.0).item())
        with volta.debug_nans(), pytest.raises(NaNError):
            loss(BAD, 1.0)
        assert np.isnan(volta.value_and_grad(loss)(BAD, 1.0)[0].item())
    script = "import volta_mlir as volta; print(volta.log(volta.Tensor(-1.0)))"
    for value, code in (("0", 0), ("1", 1)):
        environment = {**os.environ, "VOLTA_DEBUG_NANS": value}
        run = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
        assert run.returncode == code
        assert ("NaNError" in run.stderr) == bool(code)


def test_compiled_code_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A NaN that the references do not make."""
    from volta_mlir import interpreter

    monkeypatch.setattr(interpreter, "interpret", lambda *args: [])
    with pytest.raises(NaNError, match="evaluated operation by operation it has none"):
        volta.jit(loss)(BAD, 1.0)
