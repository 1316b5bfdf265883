"""Reductions over axes, which the result does not have any more."""

import numpy as np

from volta_mlir import functions as F
from volta_mlir.dialects.base import Op, Operand, Result, require
from volta_mlir.dtypes import float32, is_float
from volta_mlir.errors import DTypeError
from volta_mlir.mlir import arith, spec_of


class Reduce(Op):
    """Family: ``combine`` folds the elements along ``axes`` into ``initial(dtype)``.

    Half precision accumulates in float32.
    """

    operand: Operand
    result: Result
    axes: tuple[int, ...]

    @classmethod
    def infer(cls, operand, *, axes):
        require(
            list(axes) == sorted(set(axes)) and all(0 <= a < operand.rank for a in axes),
            f"axes must ascend within the rank of {operand}, got {axes}",
        )
        cls.check_dtype(operand)
        return operand.with_shape(tuple(s for a, s in enumerate(operand.shape) if a not in axes))

    @classmethod
    def check_dtype(cls, operand):
        if operand.dtype == np.bool_:
            raise DTypeError(f"takes numbers, got {operand}")

    @classmethod
    def initial(cls, dtype):
        raise cls.missing("initial", "convert-volta-to-linalg")

    @classmethod
    def combine(cls, b, dtype, element, accumulator):
        raise cls.missing("combine", "convert-volta-to-linalg")

    @classmethod
    def batch(cls, operands, batched, *, axes):
        return cls.apply(operands[0], axes=tuple(a + 1 for a in axes))

    @classmethod
    def flops(cls, operands, results, **attributes):
        return operands[0].size

    @classmethod
    def lower(cls, b, op, x):
        source, out = spec_of(op.operation.operands[0].type), spec_of(op.operation.results[0].type)
        wide = float32 if is_float(source.dtype) and source.dtype.itemsize == 2 else source.dtype
        loops = ["reduction" if a in op.axes else "parallel" for a in range(source.rank)]
        kept = [a for a in range(source.rank) if a not in op.axes]
        start = b.filled(b.scalar(cls.initial(wide), wide), out.with_dtype(wide))

        def body(element, accumulator):
            return cls.combine(b, wide, b.convert(element, source.dtype, wide), accumulator)

        (total,) = b.generic([x], [range(source.rank)], [start], [kept], loops, body)
        if wide == out.dtype:
            return total
        return b.elementwise(out, [total], lambda v: b.convert(v, wide, out.dtype))


class ReduceSumOp(Reduce, name="reduce_sum"):
    """The sum along ``axes``; integers wrap, an empty sum is 0."""

    linear = "jointly"

    @staticmethod
    def reference(x, *, axes):
        return np.sum(x, axis=axes, dtype=np.float64 if is_float(x.dtype) else x.dtype)

    @classmethod
    def transpose(cls, cotangent, operands, *, axes):
        shape = operands[0].shape
        return (F.broadcast_in_dim(cotangent, shape, [a for a in range(len(shape)) if a not in axes]),)

    @classmethod
    def initial(cls, dtype):
        return 0

    @classmethod
    def combine(cls, b, dtype, element, accumulator):
        return arith.addf(element, accumulator) if is_float(dtype) else arith.addi(element, accumulator)
