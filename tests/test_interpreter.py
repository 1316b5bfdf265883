"""The interpreter: programs op by op, by the ops' references."""

from __future__ import annotations

import numpy as np
import pytest

import volta_mlir as volta
from volta_mlir.errors import TraceError, VoltaError
from volta_mlir.interpreter import interpret
from volta_mlir.mlir import context, ir

PROGRAM = """
func.func @main(%x: tensor<2xf32>, %n: tensor<i32>) -> (tensor<2xf32>, tensor<i32>) {
  %0 = "volta.neg"(%x) : (tensor<2xf32>) -> tensor<2xf32>
  %1:2 = func.call @twice(%0, %0) : (tensor<2xf32>, tensor<2xf32>) -> (tensor<2xf32>, tensor<2xf32>)
  return %1#1, %n : tensor<2xf32>, tensor<i32>
}

func.func private @twice(%x: tensor<2xf32>, %y: tensor<2xf32>) -> (tensor<2xf32>, tensor<2xf32>) {
  %0 = "volta.add"(%x, %y) : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
  return %y, %0 : tensor<2xf32>, tensor<2xf32>
}

func.func private @loop(tensor<2xf32>) -> tensor<2xf32> attributes {
  volta.scan = @step, volta.length = 3 : i64, volta.consts = 0 : i64, volta.carry = 1 : i64, volta.reverse = false}

func.func private @step(%x: tensor<2xf32>) -> tensor<2xf32> {
  %0 = "volta.add"(%x, %x) : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
  return %0 : tensor<2xf32>
}

func.func @looped(%x: tensor<2xf32>) -> tensor<2xf32> {
  %0 = func.call @loop(%x) : (tensor<2xf32>) -> tensor<2xf32>
  return %0 : tensor<2xf32>
}

func.func @foreign(%x: tensor<2xf32>) -> tensor<2xf32> {
  %0 = arith.negf %x : tensor<2xf32>
  return %0 : tensor<2xf32>
}

func.func private @external(tensor<2xf32>) -> tensor<2xf32>

func.func private @derived(tensor<2xf32>, tensor<2xf32>) -> (tensor<2xf32>, tensor<2xf32>)
  attributes {volta.jvp = @step, volta.wrt = array<i64: 0>}
"""
X = np.array([1.0, 2.0], np.float32)


@pytest.fixture(scope="module")
def module():
    with context():
        return ir.Module.parse(PROGRAM)


def run(module, name, *arguments):
    with context():
        return interpret(module, name, arguments)


def test_functions_call_functions(module):
    x, n = run(module, "main", X, np.array(3, np.int32))
    assert x.tolist() == [-2.0, -4.0]
    assert n == 3
    assert run(module, "looped", X)[0].tolist() == [8.0, 16.0]
    assert run(module, "loop", X)[0].tolist() == [8.0, 16.0]


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("missing", (), "there is no function @missing with a body"),
        ("external", (X,), "there is no function @external with a body"),
        ("derived", (X, X), "there is no function @derived with a body"),
        ("step", (), "@step takes 1 arguments, got 0"),
        ("foreign", (X,), "'arith.negf' can't be interpreted"),
    ],
)
def test_what_cannot_be_interpreted(module, name, arguments, message):
    with pytest.raises(VoltaError, match=message) as error:
        run(module, name, *arguments)
    assert (error.value.location is None) == (name != "foreign")


def test_eager_functions_are_interpreted():
    """What a program computes outside of compiled functions is what it computes inside."""

    def function(x):
        total, sums = volta.scan(lambda c, y: (c + y, c * y), volta.zeros(()), x)
        return volta.grad(lambda x: volta.sort(x * x)[1])(x), total, sums, volta.vmap(volta.exp)(x)

    x = volta.Tensor([3.0, -1.0, 2.0])
    for eager, compiled in zip(function(x), volta.jit(function)(x), strict=True):
        assert np.allclose(eager, compiled, rtol=1e-6)


def test_errors_of_passes_reach_eager_code():
    with pytest.raises(TraceError, match="while_loop can't be differentiated in reverse mode") as error:
        volta.grad(lambda x: volta.while_loop(lambda y: y < 3, lambda y: y * 2, x))(1.0)
    assert __file__ in error.value.location
