"""Ops that order elements along an axis: sort, argsort, top_k.

All are stable. NaN counts as greater than every number and as equal to NaN: it comes last in ascending order and
first in descending order. Zeros of either sign are equal.
"""

import numpy as np

from volta_mlir import functions as F
from volta_mlir.dialects.base import Op, Operand, Result, require
from volta_mlir.dtypes import INDEX, TensorSpec, bool_, int8, is_float, is_unsigned
from volta_mlir.mlir import arith, ir, scf, signless_element_type, spec_of, tensor

# -- references ----------------------------------------------------------------------------------------------------


def stable_order(x, axis, descending):
    """NumPy's stable argsort; in descending order, too, equal elements keep their order."""
    x = x.astype(np.float64) if is_float(x.dtype) else x
    if not descending:
        return np.argsort(x, axis=axis, kind="stable")
    backwards = np.argsort(np.flip(x, axis), axis=axis, kind="stable")
    return x.shape[axis] - 1 - np.flip(backwards, axis)


# -- the algorithm -------------------------------------------------------------------------------------------------


def sort_keys(b, x, spec, descending):
    """Signed integers whose ascending order is the wanted order of ``x``; comparing them is one instruction."""
    dtype = np.dtype(f"int{8 * spec.dtype.itemsize}")
    element, info = signless_element_type(dtype), np.iinfo(dtype)

    def key(value):
        if spec.dtype == bool_:
            value = b.convert(value, bool_, int8)
        elif is_unsigned(spec.dtype):
            value = arith.xori(value, b.scalar(info.min, dtype))
        elif is_float(spec.dtype):
            bits = arith.bitcast(element, value)
            # Negative numbers are in descending order of their bits: reverse all of theirs but the sign.
            sign = arith.shrsi(bits, b.scalar(info.bits - 1, dtype))
            bits = arith.xori(bits, arith.andi(sign, b.scalar(info.max, dtype)))
            is_zero = arith.cmpf(arith.CmpFPredicate.OEQ, value, b.scalar(0, spec.dtype))
            is_nan = arith.cmpf(arith.CmpFPredicate.UNO, value, value)
            bits = arith.select(is_zero, b.scalar(0, dtype), bits)
            value = arith.select(is_nan, b.scalar(info.max, dtype), bits)
        return arith.xori(value, b.scalar(-1, dtype)) if descending else value

    return b.elementwise(spec.with_dtype(dtype), [x], key), dtype


def merge_sort(b, keys, dtype, limit):
    """The indices of the ``limit`` first elements of each row of ``keys`` (rows, extent) in ascending stable order.

    The rows are cut into runs, at first of one element, and each level merges pairs of neighbouring runs, all of
    them in one ``linalg.generic``. The element at position ``j`` of a merged run is found by itself: of the ``j``
    elements before it some ``i`` come from the left run and ``j - i`` from the right one, and a binary search finds
    ``i``. So a level reads but never scatters, and an element costs O(log n) on each of O(log n) levels. Runs are cut
    to ``limit`` elements, because no more of them can be among the first ``limit``.
    """
    rows, extent = keys.type.shape
    indices = b.elementwise(TensorSpec((rows, extent), INDEX), [], lambda: b.convert_index(b.index(1), INDEX))
    keys, indices = (b.reshape(v, TensorSpec((rows, extent, 1), d)) for v, d in ((keys, dtype), (indices, INDEX)))
    span = 1  # how many elements of the row a run was made from
    while span < extent:
        carried = [indices, keys] if 2 * span < extent else [indices]  # after the last level no keys are compared
        merged = _merge_level(b, keys, carried, extent, span, limit)
        indices, keys = merged[0], merged[-1]
        span *= 2
    return b.reshape(indices, TensorSpec((rows, limit), INDEX))


def _merge_level(b, keys, carried, extent, span, limit):
    """``carried`` tensors, which lie in runs as ``keys`` do, with pairs of runs of ``span`` elements merged by key.

    All have the shape (rows, runs, width). The last run of a row may have fewer than ``width`` elements; what is
    behind them is unspecified.
    """
    rows, runs, width = keys.type.shape
    index = ir.IndexType.get()
    shape = (rows, -(-extent // (2 * span)), min(2 * span, extent, limit))

    def clamp(value, low, high):
        return arith.minsi(arith.maxsi(value, b.constant_index(low)), b.constant_index(high))

    def size_of(run):
        return clamp(arith.subi(b.constant_index(extent), arith.muli(run, b.constant_index(span))), 0, width)

    def body(*_):
        row, pair, j = b.index(0), b.index(1), b.index(2)
        one = b.constant_index(1)
        left = arith.muli(pair, b.constant_index(2))
        right = arith.addi(left, one)
        left_size, right_size = size_of(left), size_of(right)
        right = clamp(right, 0, runs - 1)  # there may be none, of size 0

        def left_first(i, k):
            """Whether element ``i`` of the left run goes before element ``k`` of the right one."""
            pair_of_keys = tensor.extract(keys, [row, left, i]), tensor.extract(keys, [row, right, k])
            return arith.cmpi(arith.CmpIPredicate.sle, *pair_of_keys)

        # i is at least low and at most high; while they differ, both elements that are compared exist.
        low, high = arith.maxsi(arith.subi(j, right_size), b.constant_index(0)), arith.minsi(j, left_size)
        search = scf.WhileOp([index, index], [low, high])
        with ir.InsertionPoint(search.before.blocks.append(index, index)) as ip:
            low, high = ip.block.arguments
            scf.condition(arith.cmpi(arith.CmpIPredicate.slt, low, high), [low, high])
        with ir.InsertionPoint(search.after.blocks.append(index, index)) as ip:
            low, high = ip.block.arguments
            middle = arith.shrui(arith.addi(low, high), one)
            more = left_first(middle, arith.subi(arith.subi(j, middle), one))
            scf.yield_([arith.select(more, arith.addi(middle, one), low), arith.select(more, high, middle)])
        i = search.results[0]
        k = arith.subi(j, i)
        from_left = arith.cmpi(arith.CmpIPredicate.slt, i, left_size)
        right_is_empty = arith.cmpi(arith.CmpIPredicate.sge, k, right_size)
        i, k = clamp(i, 0, width - 1), clamp(k, 0, width - 1)
        from_left = arith.andi(from_left, arith.ori(right_is_empty, left_first(i, k)))
        position = [row, arith.select(from_left, left, right), arith.select(from_left, i, k)]
        return [tensor.extract(values, position) for values in carried]

    outputs = [tensor.empty(shape, values.type.element_type) for values in carried]
    return b.generic([], [], outputs, [range(3)] * len(outputs), ["parallel"] * 3, body)


def take_rows(b, x, spec, indices, limit):
    """``x[row, indices[row, i]]`` for a matrix ``x``, whose spec is given; the indices are within its rows."""
    return b.elementwise(
        spec.with_shape((spec.shape[0], limit)),
        [indices],
        lambda i: tensor.extract(x, [b.index(0), b.to_index(i, INDEX)]),
    )


# -- ops -----------------------------------------------------------------------------------------------------------


def sorting_flops(operand):
    """One comparison per step of a binary search per level of merging."""
    levels = max(1, operand.size).bit_length()
    return operand.size * levels * levels // 2


class Sorting(Op):
    """Family: orders the elements along ``axis``."""

    operand: Operand
    result: Result
    axis: int
    descending: bool

    @classmethod
    def infer(cls, operand, *, axis, descending):
        require(0 <= axis < operand.rank, f"axis {axis} is out of range for {operand}")
        return operand

    @classmethod
    def batch(cls, operands, batched, *, axis, descending):
        return cls.apply(operands[0], axis=axis + 1, descending=descending)

    @classmethod
    def flops(cls, operands, results, **attributes):
        return sorting_flops(operands[0])

    @classmethod
    def lower(cls, b, op, x):
        source, out = (spec_of(v.type) for v in (op.operation.operands[0], op.operation.results[0]))
        if not source.size:
            return b.empty(out)
        extent = source.shape[op.axis]
        axes = [a for a in range(source.rank) if a != op.axis] + [op.axis]
        matrix = source.with_shape((source.size // extent, extent))
        x = b.reshape(b.transpose(x, source, axes), matrix)
        keys, dtype = sort_keys(b, x, matrix, op.descending)
        indices = merge_sort(b, keys, dtype, extent)
        moved = out.with_shape(tuple(source.shape[a] for a in axes))
        ordered = b.reshape(cls.from_indices(b, x, matrix, indices), moved)
        return b.transpose(ordered, moved, [axes.index(a) for a in range(source.rank)])

    @classmethod
    def from_indices(cls, b, x, matrix, indices):
        """The result's rows, from those of the operand and the order of their elements."""
        raise cls.missing("from_indices", "convert-volta-to-linalg")


class SortOp(Sorting, name="sort"):
    """The elements along ``axis`` in ascending (or descending) order."""

    @staticmethod
    def reference(x, *, axis, descending):
        return np.take_along_axis(x, stable_order(x, axis, descending), axis)

    @classmethod
    def tangent(cls, primals, tangents, outs, *, axis, descending):
        order = ArgsortOp.apply(primals[0], axis=axis, descending=descending)
        return F.take_along_axis(tangents[0], order, axis)

    @classmethod
    def from_indices(cls, b, x, matrix, indices):
        return take_rows(b, x, matrix, indices, matrix.shape[1])


class ArgsortOp(Sorting, name="argsort"):
    """The indices (int32) along ``axis`` that sort the operand; equal elements keep their order."""

    differentiable = False

    @classmethod
    def infer(cls, operand, *, axis, descending):
        return super().infer(operand, axis=axis, descending=descending).with_dtype(INDEX)

    @staticmethod
    def reference(x, *, axis, descending):
        return stable_order(x, axis, descending)

    @classmethod
    def from_indices(cls, b, x, matrix, indices):
        return indices


class TopKOp(Op, name="top_k"):
    """The ``k`` greatest elements along the last axis, greatest first, and their indices (int32).

    Of equal elements the first ones are taken, in their order.
    """

    operand: Operand
    values: Result
    indices: Result
    k: int

    @classmethod
    def infer(cls, operand, *, k):
        require(operand.rank > 0 and 1 <= k <= operand.shape[-1], f"k = {k} is not within the last axis of {operand}")
        values = operand.with_shape((*operand.shape[:-1], k))
        return values, values.with_dtype(INDEX)

    @staticmethod
    def reference(x, *, k):
        indices = stable_order(x, -1, True)[..., :k]
        return np.take_along_axis(x, indices, -1), indices

    @classmethod
    def tangent(cls, primals, tangents, outs, *, k):
        return F.take_along_axis(tangents[0], outs[1], -1), None

    @classmethod
    def batch(cls, operands, batched, *, k):
        return cls.apply(operands[0], k=k)

    @classmethod
    def flops(cls, operands, results, **attributes):
        return sorting_flops(operands[0])

    @classmethod
    def lower(cls, b, op, x):
        source = spec_of(op.operation.operands[0].type)
        outs = [spec_of(r.type) for r in op.operation.results]
        if not source.size:
            return [b.empty(spec) for spec in outs]
        extent = source.shape[-1]
        matrix = source.with_shape((source.size // extent, extent))
        x = b.reshape(x, matrix)
        keys, dtype = sort_keys(b, x, matrix, descending=True)
        indices = merge_sort(b, keys, dtype, op.k)
        return [b.reshape(v, s) for v, s in zip((take_rows(b, x, matrix, indices, op.k), indices), outs, strict=True)]
