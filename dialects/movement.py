"""Ops that move elements to places known when the program is built, without computing.

Those that take places from a tensor are in :mod:`volta_mlir.dialects.indexing`.
"""

import math as pymath
from collections.abc import Sequence
from typing import Any

import numpy as np

from volta_mlir import functions as F
from volta_mlir.dialects.base import Op, Operand, Result, require
from volta_mlir.dialects.elementwise import all_batched
from volta_mlir.dtypes import TensorSpec
from volta_mlir.errors import DTypeError
from volta_mlir.mlir import arith, ir, signless_tensor_type, spec_of, tensor


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

    permuted_operands = slice(0)
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
    def permute(cls, operands, permutation, *, shape, dims):
        # The operand keeps its order up to here; its axes then come in that of the result's.
        order = [dims.index(axis) for axis in permutation if axis in dims]
        places = tuple(place for place, axis in enumerate(permutation) if axis in dims)
        return cls.apply(F.transpose(operands[0], order), shape=permuted(shape, permutation), dims=places)

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
        axes = list(range(operand.rank))
        require(sorted(permutation) == axes, f"{permutation} is no permutation of {operand}'s axes")
        return operand.with_shape(permuted(operand.shape, permutation))

    @staticmethod
    def reference(x, *, permutation):
        return np.transpose(x, permutation)

    @classmethod
    def transpose(cls, cotangent, operands, *, permutation):
        return (cls.apply(cotangent, permutation=inverse(permutation)),)

    @classmethod
    def batch(cls, operands, batched, *, permutation):
        return cls.apply(operands[0], permutation=(0, *(p + 1 for p in permutation)))

    @classmethod
    def lower(cls, b, op, x):
        out = spec_of(op.operation.results[0].type)
        if is_product(op.operation.operands[0]):
            # IREE would make the transposition a part of the product, whose axes then no longer merge to one of each
            # kind, which keeps it out of data tiling: attention's products took 6 times as long.
            x = b.unfused(x, spec_of(op.operation.operands[0].type))
        loops = range(out.rank)
        of_operand = [op.permutation.index(axis) for axis in loops]
        return b.generic([x], [of_operand], [b.empty(out)], [loops], ["parallel"] * out.rank, lambda v, _: v)[0]


def is_product(value: Any) -> bool:
    """Whether a value is a dot_general's result, reshaped or not."""
    while not isinstance(value.owner, ir.Block):
        operation = value.owner.operation
        if operation.name != ReshapeOp.OPERATION_NAME:
            return bool(operation.name == "volta.dot_general")
        value = operation.operands[0]
    return False


class ReverseOp(Movement, name="reverse"):
    """The order of the elements along each of ``axes`` reversed."""

    permuted_operands = slice(None)
    operand: Operand
    result: Result
    axes: tuple[int, ...]

    @classmethod
    def infer(cls, operand, *, axes):
        require(
            list(axes) == sorted(set(axes)) and all(0 <= a < operand.rank for a in axes),
            f"axes must ascend within the rank of {operand}, got {axes}",
        )
        return operand

    @staticmethod
    def reference(x, *, axes):
        return np.flip(x, axes)

    @classmethod
    def transpose(cls, cotangent, operands, *, axes):
        return (cls.apply(cotangent, axes=axes),)

    @classmethod
    def batch(cls, operands, batched, *, axes):
        return cls.apply(operands[0], axes=tuple(a + 1 for a in axes))

    @classmethod
    def permute(cls, operands, permutation, *, axes):
        return cls.apply(*operands, axes=tuple(a for a, axis in enumerate(permutation) if axis in axes))

    @classmethod
    def lower(cls, b, op, x):
        spec = spec_of(op.operation.results[0].type)
        axes = [axis for axis in op.axes if spec.shape[axis] > 1]
        if not axes or not spec.size:
            return x

        def body():
            last = [b.constant_index(extent - 1) for extent in spec.shape]
            at = [arith.subi(last[a], b.index(a)) if a in axes else b.index(a) for a in range(spec.rank)]
            return tensor.extract(x, at)

        return b.elementwise(spec, [], body)


class SliceOp(Movement, name="slice"):
    """Along axis ``i`` the elements ``start[i]``, ``start[i] + strides[i]``, … below ``limit[i]``."""

    permuted_operands = slice(None)
    operand: Operand
    result: Result
    start: tuple[int, ...]
    limit: tuple[int, ...]
    strides: tuple[int, ...]

    @classmethod
    def infer(cls, operand, *, start, limit, strides):
        require(
            len(start) == len(limit) == len(strides) == operand.rank,
            f"start {start}, limit {limit} and strides {strides} must have an entry for each axis of {operand}",
        )
        for axis, (first, end, stride, extent) in enumerate(zip(start, limit, strides, operand.shape, strict=True)):
            require(
                0 <= first <= end <= extent and stride > 0,
                f"axis {axis} of {operand} has no slice from {first} to {end} with stride {stride}",
            )
        return operand.with_shape(tuple(len(range(*of_axis)) for of_axis in zip(start, limit, strides, strict=True)))

    @staticmethod
    def reference(x, *, start, limit, strides):
        return x[tuple(map(slice, start, limit, strides))]

    @classmethod
    def transpose(cls, cotangent, operands, *, start, limit, strides):
        before = zip(operands[0].shape, start, strides, cotangent.shape, strict=True)
        high = tuple(extent - first - dilated(count, stride - 1) for extent, first, stride, count in before)
        interior = tuple(stride - 1 for stride in strides)
        return (PadOp.apply(cotangent, zero(cotangent.dtype), low=start, high=high, interior=interior),)

    @classmethod
    def batch(cls, operands, batched, *, start, limit, strides):
        (x,) = operands
        return cls.apply(x, start=(0, *start), limit=(x.shape[0], *limit), strides=(1, *strides))

    @classmethod
    def permute(cls, operands, permutation, **attributes):
        return cls.apply(*operands, **all_permuted(attributes, permutation))

    @classmethod
    def lower(cls, b, op, x):
        out = spec_of(op.operation.results[0].type)
        start, strides = op.start, op.strides
        if out.shape == tuple(x.type.shape) or not out.size:
            return x if out.size else b.empty(out)
        if strides[-1] == 1 or out.shape[-1] == 1:
            return b.extract_slice(x, start, out.shape, strides)

        # Innermost strides are as fast this way, and IREE cannot compile a gather from a view that has one.
        return b.elementwise(out, [], lambda: b.element_of_slice(x, start, strides))


def permuted(entries: Sequence[Any], permutation: Sequence[int]) -> tuple[Any, ...]:
    """A shape, or what else has an entry for each axis, of a transposed tensor."""
    return tuple(entries[axis] for axis in permutation)


def all_permuted(attributes, permutation):
    """Attributes that have an entry for each axis, for those of a transposed tensor."""
    return {key: permuted(value, permutation) for key, value in attributes.items()}


def inverse(permutation: Sequence[int]) -> tuple[int, ...]:
    """The permutation that undoes one."""
    return tuple(permutation.index(a) for a in range(len(permutation)))


def zero(dtype):
    """A zero of rank 0."""
    return F.zeros((), dtype)


def dilated(extent: int, interior: int) -> int:
    """The extent of an axis with ``interior`` elements between each two."""
    return extent + max(extent - 1, 0) * interior


class PadOp(Movement, name="pad"):
    """``value`` (rank 0) around and between the elements.

    Along axis ``i`` there are ``interior[i]`` of them between each two elements, ``low[i]`` before the first and
    ``high[i]`` after the last; a negative ``low`` or ``high`` removes as many instead, of whatever is there.
    """

    permuted_operands = slice(1)
    operand: Operand
    value: Operand
    result: Result
    low: tuple[int, ...]
    high: tuple[int, ...]
    interior: tuple[int, ...]

    @classmethod
    def infer(cls, operand, value, *, low, high, interior):
        if value.dtype != operand.dtype:
            raise DTypeError(f"the value to pad {operand} with is {value}")
        require(value.rank == 0, f"the value to pad with is a scalar, got {value}")
        require(
            len(low) == len(high) == len(interior) == operand.rank,
            f"low {low}, high {high} and interior {interior} must have an entry for each axis of {operand}",
        )
        require(all(i >= 0 for i in interior), f"interior padding must not be negative, got {interior}")
        of_axes = zip(operand.shape, low, high, interior, strict=True)
        shape = tuple(before + dilated(extent, between) + after for extent, before, after, between in of_axes)
        require(all(extent >= 0 for extent in shape), f"padding of {low} and {high} removes more than {operand} has")
        return operand.with_shape(shape)

    @staticmethod
    def reference(x, value, *, low, high, interior):
        spans = [dilated(n, between) for n, between in zip(x.shape, interior, strict=True)]
        around = [(max(before, 0), max(after, 0)) for before, after in zip(low, high, strict=True)]
        canvas = np.full([before + span + after for span, (before, after) in zip(spans, around, strict=True)], value)
        of_axes = zip(spans, around, interior, strict=True)
        canvas[tuple(slice(before, before + span, between + 1) for span, (before, _), between in of_axes)] = x
        kept = zip(canvas.shape, low, high, strict=True)
        return canvas[tuple(slice(max(-before, 0), n - max(-after, 0)) for n, before, after in kept)]

    @classmethod
    def transpose(cls, cotangent, operands, *, low, high, interior):
        x, value = operands
        for_x = for_value = None
        if isinstance(x, TensorSpec):
            spread = F.pad_interior(cotangent, zero(x.dtype), [-a for a in low], [-a for a in high])
            for_x = F.slice(spread, [0] * x.rank, spread.shape, [between + 1 for between in interior])
        if isinstance(value, TensorSpec):
            inside = cls._inside(x.shape, low, high, interior)
            for_value = F.sum(F.where(inside, zero(value.dtype), cotangent))
        return for_x, for_value

    @classmethod
    def _inside(cls, shape, low, high, interior):
        """True where the result has an element of the operand."""
        return cls.apply(F.ones(shape, bool), zero(bool), low=low, high=high, interior=interior)

    @classmethod
    def batch(cls, operands, batched, *, low, high, interior):
        x, value = operands
        around = {"low": (0, *low), "high": (0, *high), "interior": (0, *interior)}
        if not batched[1]:
            return cls.apply(x, value, **around)
        x = x if batched[0] else F.broadcast_to(x, (value.shape[0], *x.shape))
        out = cls.apply(x, zero(x.dtype), **around)
        return F.where(cls._inside(x.shape, **around), out, F.broadcast_in_dim(value, out.shape, [0]))

    @classmethod
    def permute(cls, operands, permutation, **attributes):
        return cls.apply(*operands, **all_permuted(attributes, permutation))

    @classmethod
    def lower(cls, b, op, x, value):
        out = spec_of(op.operation.results[0].type)
        if out.size == 0:
            return b.empty(out)
        return b.place(x, b.elementwise(out, [], lambda: tensor.extract(value, [])), op.low, op.interior)


class ConcatenateOp(Movement, name="concatenate"):
    """``lhs``, then ``rhs``, along an axis. Longer concatenations are trees of these."""

    permuted_operands = slice(None)
    lhs: Operand
    rhs: Operand
    result: Result
    axis: int

    @classmethod
    def infer(cls, lhs, rhs, *, axis):
        if lhs.dtype != rhs.dtype:
            raise DTypeError(f"operands must agree in dtype, got {lhs} and {rhs}")
        require(0 <= axis < lhs.rank, f"axis {axis} is out of range for {lhs}")
        others = [[s for a, s in enumerate(spec.shape) if a != axis] for spec in (lhs, rhs)]
        require(
            lhs.rank == rhs.rank and others[0] == others[1], f"{lhs} and {rhs} differ along axes other than axis {axis}"
        )
        total = lhs.shape[axis] + rhs.shape[axis]
        return lhs.with_shape((*lhs.shape[:axis], total, *lhs.shape[axis + 1 :]))

    @staticmethod
    def reference(x, y, *, axis):
        return np.concatenate([x, y], axis)

    @classmethod
    def transpose(cls, cotangent, operands, *, axis):
        at = operands[0].shape[axis]
        return F.slice_in_dim(cotangent, 0, at, axis=axis), F.slice_in_dim(cotangent, at, None, axis=axis)

    @classmethod
    def batch(cls, operands, batched, *, axis):
        return cls.apply(*all_batched(operands, batched), axis=axis + 1)

    @classmethod
    def permute(cls, operands, permutation, *, axis):
        return cls.apply(*operands, axis=permutation.index(axis))

    @classmethod
    def lower(cls, b, op, *operands):
        out = spec_of(op.operation.results[0].type)
        # A tree along one axis becomes one tensor.concat, so that each part is copied once, to its final place.
        parts = [part for x in operands for part in cls._parts(x, op.axis) if 0 not in part.type.shape]
        if len(parts) < 2:
            return parts[0] if parts else b.empty(out)
        return tensor.concat(signless_tensor_type(out), op.axis, parts)

    @staticmethod
    def _parts(x, axis):
        inner = x.owner.opview if isinstance(x, ir.OpResult) else None
        return list(inner.inputs) if isinstance(inner, tensor.ConcatOp) and inner.dim.value == axis else [x]
