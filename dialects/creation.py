"""Ops that make tensors from nothing: constant, full, iota."""

import numpy as np

from volta_mlir.dialects.base import Op, Result, normalize_axis, require
from volta_mlir.dtypes import TensorSpec
from volta_mlir.mlir import ir


class Creation(Op):
    """Family of ops without operands."""

    differentiable = False

    @classmethod
    def batch(cls, operands, batched, **attributes):
        raise AssertionError("an op without operands is never batched")

    @classmethod
    def flops(cls, operands, results, **attributes):
        return 0


def signless(array: np.ndarray) -> np.ndarray:
    """The same bits with signed integers for unsigned ones, as they are below volta."""
    return array.view(array.dtype.name[1:]) if array.dtype.kind == "u" else array


class ConstantOp(Creation, name="constant"):
    """A tensor known when the program is built.

    ``%r = "volta.constant"() {value = dense<[1.0, 2.0]> : tensor<2xf32>} : () -> tensor<2xf32>``
    """

    result: Result
    value: np.ndarray

    @classmethod
    def infer(cls, *, value):
        return TensorSpec(value.shape, value.dtype)

    @staticmethod
    def reference(*, value):
        return value

    @classmethod
    def lower(cls, b, op):
        value = op.value
        spec = TensorSpec(value.shape, value.dtype)
        if ir.DenseElementsAttr(op.operation.attributes["value"]).is_splat and spec.size:
            return b.splat(value.flat[0], spec)
        return b.dense(signless(value), spec)


class FullOp(Creation, name="full"):
    """A tensor filled with one value, a rank-0 array of the result's dtype.

    ``%r = "volta.full"() {value = dense<0.0> : tensor<f32>, shape = array<i64: 2, 3>} : () -> tensor<2x3xf32>``
    """

    result: Result
    value: np.ndarray
    shape: tuple[int, ...]

    @classmethod
    def infer(cls, *, value, shape):
        require(value.shape == (), f"the fill value is a scalar, got shape {value.shape}")
        return TensorSpec(tuple(shape), value.dtype)

    @staticmethod
    def reference(*, value, shape):
        return np.full(shape, value, value.dtype)

    @classmethod
    def lower(cls, b, op):
        return b.splat(op.value, TensorSpec(op.shape, op.value.dtype))


class IotaOp(Creation, name="iota"):
    """Indices along one axis: ``result[..., i, ...] = i``, converted to the dtype.

    ``%r = "volta.iota"() {shape = array<i64: 2, 3>, axis = 1 : i64, dtype = i32} : () -> tensor<2x3xi32>``
    """

    result: Result
    shape: tuple[int, ...]
    axis: int
    dtype: np.dtype

    @classmethod
    def infer(cls, *, shape, axis, dtype):
        normalize_axis(axis, len(shape), "iota")
        require(len(shape) > 0, "iota needs a rank of at least 1")
        return TensorSpec(tuple(shape), dtype)

    @staticmethod
    def reference(*, shape, axis, dtype):
        along = np.arange(shape[axis]).reshape([-1 if i == axis % len(shape) else 1 for i in range(len(shape))])
        return np.broadcast_to(along, shape).astype(dtype)

    @classmethod
    def lower(cls, b, op):
        spec = TensorSpec(op.shape, op.dtype)
        axis = op.axis % spec.rank
        return b.elementwise(spec, [], lambda: b.convert_index(b.index(axis), op.dtype))
