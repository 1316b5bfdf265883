"""Ops that move elements without computing: broadcast_in_dim, reshape, transpose, …"""

import math as pymath

import numpy as np

from volta_mlir import functions as F
from volta_mlir.dialects.base import Op, Operand, Result, require
from volta_mlir.dtypes import TensorSpec
from volta_mlir.mlir import ir, signless_tensor_type, spec_of, tensor


class Movement(Op):
    """Family of the ops that only move elements; linear in the data, free of arithmetic."""

    linear = "jointly"

    @classmethod
    def flops(cls, operands, results, **attributes):
        return 0


class BroadcastInDimOp(Movement, name="broadcast_in_dim"):
    """Places operand axis ``i`` at result axis ``dims[i]``; axes of extent 1 and new axes repeat.

    ``dims`` ascends, so that no axes change their order.
    """

    operand: Operand
    result: Result
    shape: tuple[int, ...]
    dims: tuple[int, ...]

    @classmethod
    def infer(cls, operand, *, shape, dims):
        require(len(dims) == operand.rank, f"dims {dims} does not name a result axis for each axis of {operand}")
        require(list(dims) == sorted(set(dims)), f"dims must ascend, got {dims}")
        for axis, dim in enumerate(dims):
            require(0 <= dim < len(shape), f"dims {dims} is out of range for the result's rank {len(shape)}")
            require(
                operand.shape[axis] in (1, shape[dim]),
                f"axis {axis} of {operand} can't be broadcast to axis {dim} of shape {shape}",
            )
        return operand.with_shape(shape)

    @staticmethod
    def reference(x, *, shape, dims):
        aligned = [1] * len(shape)
        for axis, dim in enumerate(dims):
            aligned[dim] = x.shape[axis]
        return np.broadcast_to(x.reshape(aligned), shape)

    @classmethod
    def transpose(cls, cotangent, operands, *, shape, dims):
        source = operands[0].shape
        new = [d for d in range(len(shape)) if d not in dims]
        stretched = [d for axis, d in enumerate(dims) if source[axis] == 1 and shape[d] != 1]
        return (F.reshape(F.sum(cotangent, axis=tuple(new + stretched)), source),)

    @classmethod
    def batch(cls, operands, batched, *, shape, dims):
        (x,) = operands
        return cls.apply(x, shape=(x.shape[0], *shape), dims=(0, *(d + 1 for d in dims)))

    @classmethod
    def lower(cls, b, op, x):
        source, out = spec_of(op.operation.operands[0].type), spec_of(op.operation.results[0].type)
        kept = [a for a in range(source.rank) if source.shape[a] == out.shape[op.dims[a]]]
        if len(kept) != source.rank:  # drop stretched axes: an affine map can't repeat an axis of extent 1
            x = b.reshape(x, source.with_shape(tuple(source.shape[a] for a in kept)))
        if len(kept) == out.rank:
            return x
        loops = ["parallel"] * out.rank
        return b.generic([x], [[op.dims[a] for a in kept]], [b.empty(out)], [range(out.rank)], loops, lambda v, _: v)[0]


class ReshapeOp(Movement, name="reshape"):
    """The same elements in row-major order under another shape."""

    operand: Operand
    result: Result
    shape: tuple[int, ...]

    @classmethod
    def infer(cls, operand, *, shape):
        require(
            operand.size == pymath.prod(shape) and all(s >= 0 for s in shape),
            f"{operand} has {operand.size} elements, shape {shape} has {pymath.prod(shape)}",
        )
        return operand.with_shape(shape)

    @staticmethod
    def reference(x, *, shape):
        return np.reshape(x, shape)

    @classmethod
    def transpose(cls, cotangent, operands, *, shape):
        return (F.reshape(cotangent, operands[0].shape),)

    @classmethod
    def batch(cls, operands, batched, *, shape):
        (x,) = operands
        return cls.apply(x, shape=(x.shape[0], *shape))

    @classmethod
    def lower(cls, b, op, x):
        return b.reshape(x, spec_of(op.operation.results[0].type))


class TransposeOp(Movement, name="transpose"):
    """Result axis ``i`` is operand axis ``permutation[i]``."""

    operand: Operand
    result: Result
    permutation: tuple[int, ...]

    @classmethod
    def infer(cls, operand, *, permutation):
        require(sorted(permutation) == list(range(operand.rank)), f"{permutation} is no permutation of {operand}'s axes")
        return operand.with_shape(tuple(operand.shape[p] for p in permutation))

    @staticmethod
    def reference(x, *, permutation):
        return np.transpose(x, permutation)

    @classmethod
    def transpose(cls, cotangent, operands, *, permutation):
        return (cls.apply(cotangent, permutation=tuple(int(i) for i in np.argsort(permutation))),)

    @classmethod
    def batch(cls, operands, batched, *, permutation):
        return cls.apply(operands[0], permutation=(0, *(p + 1 for p in permutation)))

    @classmethod
    def lower(cls, b, op, x):
        out = spec_of(op.operation.results[0].type)
        loops = range(out.rank)
        source = [op.permutation.index(axis) for axis in loops]
        return b.generic([x], [source], [b.empty(out)], [loops], ["parallel"] * out.rank, lambda v, _: v)[0]
