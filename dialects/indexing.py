"""Ops that move elements to and from places given by a tensor: dynamic_slice, dynamic_update_slice, gather, scatter_*.

Indices are int32 or int64 and count from the front. Reading clamps them into range; writing drops what is out of
range; a dynamic slice is moved to lie inside.

``gather`` and the scatter family index one axis. Several axes are indexed as one: reshape merges them.
"""

import math as pymath

import numpy as np

from volta_mlir import functions as F
from volta_mlir.dialects.base import Op, Operand, Result, require
from volta_mlir.dialects.elementwise import MaximumOp, MinimumOp
from volta_mlir.dialects.reduction import accumulator, highest, lowest
from volta_mlir.dtypes import TensorSpec, bool_, int32, int64, is_float
from volta_mlir.errors import DTypeError
from volta_mlir.mlir import arith, ir, spec_of, tensor


def require_indices(indices):
    """Raises DTypeError unless ``indices`` is a spec of an index dtype."""
    if indices.dtype not in (int32, int64):
        raise DTypeError(f"indices are int32 or int64, got {indices}")


def clamped(b, index, dtype, last):
    """A scalar index as an ``index`` value, moved into ``[0, last]``."""
    index = b.convert(index, dtype, int64)
    inside = arith.minsi(arith.maxsi(index, b.scalar(0, int64)), b.scalar(last, int64))
    return b.to_index(inside, int64)


# -- slices at a position given by a tensor ------------------------------------------------------------------------


class DynamicSliceOp(Op, name="dynamic_slice"):
    """The ``sizes`` elements along each axis from ``starts`` on, which has an entry for each axis.

    A start is clamped so that the slice lies inside the operand.
    """

    linear = "jointly"
    linear_operands = (0,)
    operand: Operand
    starts: Operand
    result: Result
    sizes: tuple[int, ...]

    @classmethod
    def infer(cls, operand, starts, *, sizes):
        require_window(operand, starts, sizes)
        return operand.with_shape(sizes)

    @staticmethod
    def reference(x, starts, *, sizes):
        return x[window(x.shape, starts, sizes)]

    @classmethod
    def transpose(cls, cotangent, operands, *, sizes):
        x, starts = operands
        return DynamicUpdateSliceOp.apply(F.zeros(x.shape, x.dtype), cotangent, starts), None

    @classmethod
    def batch(cls, operands, batched, *, sizes):
        x, starts = operands
        if not batched[1]:
            starts = F.concatenate([F.zeros(1, starts.dtype), starts])
            return cls.apply(x, starts, sizes=(x.shape[0], *sizes))
        x = x if batched[0] else F.broadcast_to(x, (starts.shape[0], *x.shape))
        for axis, size in enumerate(sizes):  # each batch element has its own start: gather along one axis at a time
            extent = x.shape[axis + 1]
            if size < extent:
                start = F.clip(starts[:, axis : axis + 1], 0, extent - size)
                part = GatherOp.apply(x, start + F.arange(size, dtype=starts.dtype), axis=axis + 1, batch_axes=(0,))
                x = F.moveaxis(part, 1, axis + 1)
        return x

    @classmethod
    def flops(cls, operands, results, **attributes):
        return 0

    @classmethod
    def lower(cls, b, op, x, starts):
        out = spec_of(op.operation.results[0].type)
        if out.shape == tuple(x.type.shape) or not out.size:
            return b.empty(out) if not out.size else x
        return b.extract_slice(x, window_offsets(b, op, x, starts, out.shape), out.shape, [1] * out.rank)


class DynamicUpdateSliceOp(Op, name="dynamic_update_slice"):
    """The operand with ``update`` written from ``starts`` on, which has an entry for each axis.

    A start is clamped so that the update lies inside the operand.
    """

    linear = "jointly"
    linear_operands = (0, 1)
    operand: Operand
    update: Operand
    starts: Operand
    result: Result

    @classmethod
    def infer(cls, operand, update, starts):
        if update.dtype != operand.dtype:
            raise DTypeError(f"the update of {operand} is {update}")
        require_window(operand, starts, update.shape)
        return operand

    @staticmethod
    def reference(x, update, starts):
        out = x.copy()
        out[window(x.shape, starts, update.shape)] = update
        return out

    @classmethod
    def transpose(cls, cotangent, operands):
        x, update, starts = operands
        for_x = for_update = None
        if isinstance(x, TensorSpec):
            for_x = cls.apply(cotangent, F.zeros(update.shape, x.dtype), starts)
        if isinstance(update, TensorSpec):
            for_update = DynamicSliceOp.apply(cotangent, starts, sizes=update.shape)
        return for_x, for_update, None

    @classmethod
    def batch(cls, operands, batched):
        x, update, starts = operands
        size = next(t.shape[0] for t, flag in zip(operands, batched, strict=True) if flag)
        x, update = (
            t if flag else F.broadcast_to(t, (size, *t.shape)) for t, flag in zip((x, update), batched[:2], strict=True)
        )
        if not batched[2]:
            return cls.apply(x, update, F.concatenate([F.zeros(1, starts.dtype), starts]))
        if not update.size:
            return x
        # Each batch element has its own start: spread the update over the operand's shape, and select.
        inside = F.ones(x.shape, bool)
        for axis in range(x.ndim - 1):
            extent, width = x.shape[axis + 1], update.shape[axis + 1]
            if width < extent:
                start = F.clip(starts[:, axis : axis + 1], 0, extent - width)
                offset = F.arange(extent, dtype=starts.dtype) - start
                update = F.moveaxis(GatherOp.apply(update, offset, axis=axis + 1, batch_axes=(0,)), 1, axis + 1)
                covered = (offset >= 0) & (offset < width)
                inside = inside & F.broadcast_in_dim(covered, x.shape, [0, axis + 1])
        return F.where(inside, update, x)

    @classmethod
    def flops(cls, operands, results, **attributes):
        return 0

    @classmethod
    def lower(cls, b, op, x, update, starts):
        shape = tuple(update.type.shape)
        if shape == tuple(x.type.shape) or 0 in shape:
            return x if 0 in shape else update
        return b.insert_slice(update, x, window_offsets(b, op, x, starts, shape), [1] * len(shape))


def require_window(operand, starts, sizes):
    """Raises unless ``starts`` can place a slice of ``sizes`` in ``operand``; all but ``sizes`` are specs."""
    require_indices(starts)
    require(starts.shape == (operand.rank,), f"the starts of a slice of {operand} have shape {starts.shape}")
    require(
        len(sizes) == operand.rank and all(0 <= s <= n for s, n in zip(sizes, operand.shape, strict=True)),
        f"{operand} has no slice of shape {tuple(sizes)}",
    )


def window(shape, starts, sizes):
    """NumPy's index of a slice of ``sizes`` that lies inside ``shape``."""
    inside = np.clip(starts, 0, np.array(shape, np.int64) - np.array(sizes, np.int64))
    return tuple(slice(int(first), int(first) + size) for first, size in zip(inside, sizes, strict=True))


def window_offsets(b, op, x, starts, sizes):
    """The offsets of that slice: ints, and ``index`` values along the axes on which it can move."""
    dtype = spec_of(op.operation.operands[-1].type).dtype
    return [
        clamped(b, tensor.extract(starts, [b.constant_index(axis)]), dtype, extent - size) if size < extent else 0
        for axis, (extent, size) in enumerate(zip(x.type.shape, sizes, strict=True))
    ]


# -- elements at places given by a tensor --------------------------------------------------------------------------


def gathered_shape(operand, indices, axis, batch):
    """The shape of ``gather``'s result and of scatter's updates; all but ``axis`` and ``batch`` are specs."""
    require_indices(indices)
    require(0 <= axis < operand.rank, f"axis {axis} is out of range for {operand}")
    require(
        list(batch) == sorted(set(batch)) and all(0 <= a < operand.rank and a != axis for a in batch),
        f"batch axes must ascend within the rank of {operand} and differ from axis {axis}, got {batch}",
    )
    paired = tuple(operand.shape[a] for a in batch)
    require(
        indices.shape[: len(batch)] == paired,
        f"the leading axes of indices {indices} must have the extents of axes {batch} of {operand}",
    )
    return (*indices.shape, *(operand.shape[a] for a in rest_axes(operand.rank, axis, batch)))


def rest_axes(rank, axis, batch):
    """The axes that are neither indexed nor batch axes."""
    return tuple(a for a in range(rank) if a != axis and a not in batch)


def gather_valid(x, indices, *, axis, batch_axes):
    """``gather`` with zeros where an index is out of range: what updates that scatter drops have to do with ``x``."""
    spec = x.spec.with_shape(gathered_shape(x.spec, indices.spec, axis, batch_axes))
    zeros = F.zeros(spec.shape, spec.dtype)
    if not x.shape[axis]:
        return zeros
    valid = F.broadcast_in_dim((indices >= 0) & (indices < x.shape[axis]), spec.shape, range(indices.ndim))
    return F.where(valid, GatherOp.apply(x, indices, axis=axis, batch_axes=batch_axes), zeros)


class GatherOp(Op, name="gather"):
    """``operand`` at ``indices`` along ``axis``.

    The operand's ``batch`` axes are paired with the leading axes of the indices: each batch element is indexed by
    its own indices. The result has the axes of the indices, then the operand's remaining axes. Indices are clamped.
    """

    linear = "jointly"
    linear_operands = (0,)
    operand: Operand
    indices: Operand
    result: Result
    axis: int
    batch_axes: tuple[int, ...]

    @classmethod
    def infer(cls, operand, indices, *, axis, batch_axes):
        shape = gathered_shape(operand, indices, axis, batch_axes)
        require(
            operand.shape[axis] > 0 or 0 in shape, f"axis {axis} of {operand} has no elements that {indices} could name"
        )
        return operand.with_shape(shape)

    @staticmethod
    def reference(x, indices, *, axis, batch_axes):
        lead = len(batch_axes)
        x = np.transpose(x, (*batch_axes, axis, *rest_axes(x.ndim, axis, batch_axes)))
        if not x.size or not indices.size:
            return np.empty((*indices.shape, *x.shape[lead + 1 :]), x.dtype)
        pairs = np.indices(indices.shape, sparse=True)[:lead]
        return x[(*pairs, np.clip(indices, 0, x.shape[lead] - 1))]

    @classmethod
    def transpose(cls, cotangent, operands, *, axis, batch_axes):
        x, indices = operands
        inside = F.clip(indices, 0, x.shape[axis] - 1)
        zeros = F.zeros(x.shape, x.dtype)
        return ScatterAddOp.apply(zeros, inside, cotangent, axis=axis, batch_axes=batch_axes), None

    @classmethod
    def batch(cls, operands, batched, *, axis, batch_axes):
        x, indices = operands
        shifted = tuple(a + 1 for a in batch_axes)
        if all(batched):
            return cls.apply(x, indices, axis=axis + 1, batch_axes=(0, *shifted))
        if batched[0]:  # the new axis is the first of the remaining ones
            return F.moveaxis(cls.apply(x, indices, axis=axis + 1, batch_axes=shifted), indices.ndim, 0)
        indices = F.moveaxis(indices, 0, len(batch_axes))
        return F.moveaxis(cls.apply(x, indices, axis=axis, batch_axes=batch_axes), len(batch_axes), 0)

    @classmethod
    def flops(cls, operands, results, **attributes):
        return 0

    @classmethod
    def lower(cls, b, op, x, indices):
        source, places = (spec_of(v.type) for v in op.operation.operands)
        out = spec_of(op.operation.results[0].type)
        if not out.size:
            return b.empty(out)
        axis, batch_axes = op.axis, op.batch_axes
        rest = rest_axes(source.rank, axis, batch_axes)

        def body(index, _):
            at = [None] * source.rank
            at[axis] = clamped(b, index, places.dtype, source.shape[axis] - 1)
            for loop, a in (*enumerate(batch_axes), *enumerate(rest, start=places.rank)):
                at[a] = b.index(loop)
            return tensor.extract(x, at)

        loops = range(out.rank)
        maps = [range(places.rank)], [loops]
        return b.generic([indices], maps[0], [b.empty(out)], maps[1], ["parallel"] * out.rank, body)[0]


class Scatter(Op):
    """Family: ``operand`` with ``updates`` combined into the places that ``gather`` would read.

    Updates that have an index out of range are dropped. Several updates of one place are combined in row-major order
    of the indices. A member writes ``combine``, ``accumulate`` and ``neutral``, a value that combining ignores.
    """

    operand: Operand
    indices: Operand
    updates: Operand
    result: Result
    axis: int
    batch_axes: tuple[int, ...]
    #: Half precision is combined in float32.
    in_float32 = True

    @classmethod
    def infer(cls, operand, indices, updates, *, axis, batch_axes):
        shape = gathered_shape(operand, indices, axis, batch_axes)
        if updates.dtype != operand.dtype:
            raise DTypeError(f"the updates of {operand} are {updates}")
        require(updates.shape == shape, f"the updates of {operand} at {indices} have shape {shape}, got {updates}")
        cls.check_dtype(operand)
        return operand

    @classmethod
    def check_dtype(cls, operand):
        if operand.dtype == bool_:
            raise DTypeError(f"takes numbers, got {operand}")

    @classmethod
    def combine(cls, b, dtype, old, new):
        """The scalar that a place holds after an update."""
        raise cls.missing("combine", "convert-volta-to-linalg")

    @classmethod
    def neutral(cls, dtype):
        """A number ``n`` with ``combine(x, n) == x``."""
        raise cls.missing("neutral", "convert-volta-to-linalg")

    @staticmethod
    def accumulate(table, rows, updates):
        """Combines ``updates`` into ``table[rows]``, in NumPy."""
        raise NotImplementedError

    @classmethod
    def reference(cls, x, indices, updates, *, axis, batch_axes):
        order = (*batch_axes, axis, *rest_axes(x.ndim, axis, batch_axes))
        moved = np.transpose(x, order)
        lead, extent = pymath.prod(moved.shape[: len(batch_axes)]), x.shape[axis]
        places, row = indices.size // max(lead, 1), pymath.prod(moved.shape[len(batch_axes) + 1 :])
        table = moved.reshape(lead * extent, row).astype(np.float64 if is_float(x.dtype) else x.dtype)
        at = indices.reshape(lead, places)
        valid = (at >= 0) & (at < extent)
        rows = at + np.arange(lead)[:, None] * extent
        cls.accumulate(table, rows[valid], updates.reshape(lead, places, row)[valid])
        return np.transpose(table.reshape(moved.shape), np.argsort(order))

    @classmethod
    def batch(cls, operands, batched, *, axis, batch_axes):
        x, indices, updates = operands
        size = next(t.shape[0] for t, flag in zip(operands, batched, strict=True) if flag)
        x = x if batched[0] else F.broadcast_to(x, (size, *x.shape))
        shifted = tuple(a + 1 for a in batch_axes)
        if batched[1]:
            updates = updates if batched[2] else F.broadcast_to(updates, (size, *updates.shape))
            return cls.apply(x, indices, updates, axis=axis + 1, batch_axes=(0, *shifted))
        if not batched[2]:
            updates = F.broadcast_to(updates, (size, *updates.shape))
        updates = F.moveaxis(updates, 0, indices.ndim)  # the new axis is the first of the remaining ones
        return cls.apply(x, indices, updates, axis=axis + 1, batch_axes=shifted)

    @classmethod
    def flops(cls, operands, results, **attributes):
        return operands[2].size

    @classmethod
    def lower(cls, b, op, x, indices, updates):
        spec, places, new = (spec_of(v.type) for v in op.operation.operands)
        if not spec.size or not new.size:
            return x
        one_each = new.size == pymath.prod(spec.shape[a] for a in op.batch_axes)
        lowering = cls._lower_dense if one_each else cls._lower_rows
        return lowering(b, spec, places, op.axis, op.batch_axes, x, indices, updates)

    @classmethod
    def _wide(cls, dtype):
        return accumulator(dtype) if cls.in_float32 else dtype

    @classmethod
    def _lower_dense(cls, b, spec, places, axis, batch_axes, x, indices, updates):
        """One element of each batch element changes: compare every place with its index. Fuses with its neighbours."""
        pairs = tuple(spec.shape[a] for a in batch_axes)
        indices = b.reshape(indices, places.with_shape(pairs))
        updates = b.reshape(updates, spec.with_shape(pairs))
        wide = cls._wide(spec.dtype)

        def body(old, index, new, _):
            here = arith.index_cast(signless_int64(), b.index(axis))
            hit = arith.cmpi(arith.CmpIPredicate.eq, b.convert(index, places.dtype, int64), here)
            combined = cls.combine(b, wide, b.convert(old, spec.dtype, wide), b.convert(new, spec.dtype, wide))
            return arith.select(hit, b.convert(combined, wide, spec.dtype), old)

        loops = range(spec.rank)
        maps = [loops, batch_axes, batch_axes]
        return b.generic([x, indices, updates], maps, [b.empty(spec)], [loops], ["parallel"] * spec.rank, body)[0]

    @classmethod
    def _lower_rows(cls, b, spec, places, axis, batch_axes, x, indices, updates):
        """The operand as a table with a row for each index of each batch element, updated row by row, in order."""
        order = (*batch_axes, axis, *rest_axes(spec.rank, axis, batch_axes))
        moved = spec.with_shape(tuple(spec.shape[a] for a in order))
        extent, lead = spec.shape[axis], pymath.prod(moved.shape[: len(batch_axes)])
        wide = cls._wide(spec.dtype)
        table = TensorSpec((lead * extent, spec.size // (lead * extent)), wide)
        updated = table.with_shape((places.size, table.shape[1]))

        x = b.reshape(b.transpose(x, spec, order), table.with_dtype(spec.dtype))
        updates = b.reshape(updates, updated.with_dtype(spec.dtype))
        if wide != spec.dtype:
            x = b.elementwise(table, [x], lambda v: b.convert(v, spec.dtype, wide))
            updates = b.elementwise(updated, [updates], lambda v: b.convert(v, spec.dtype, wide))
        rows, valid = cls._rows(b, places, lead, extent, indices)
        rows, updates = cls._without_dropped(b, wide, x, rows, valid, updates)
        out = scatter_rows(b, x, rows, updates, lambda new, old: cls.combine(b, wide, old, new))
        if wide != spec.dtype:
            out = b.elementwise(table.with_dtype(spec.dtype), [out], lambda v: b.convert(v, wide, spec.dtype))
        return b.transpose(b.reshape(out, moved), moved, [order.index(a) for a in range(spec.rank)])

    @classmethod
    def _rows(cls, b, places, lead, extent, indices):
        """For each place in order the row of the table, and whether the index is in range."""
        flat = TensorSpec((places.size,), int64 if lead * extent > np.iinfo(int32).max else int32)
        indices = b.reshape(indices, flat.with_dtype(places.dtype))
        per_element = places.size // lead

        def body(index, *_):
            index64 = b.convert(index, places.dtype, int64)
            inside = clamped(b, index, places.dtype, extent - 1)
            valid = arith.cmpi(arith.CmpIPredicate.eq, arith.index_cast(signless_int64(), inside), index64)
            element = arith.divui(b.index(0), b.constant_index(per_element))
            row = arith.addi(arith.muli(element, b.constant_index(extent)), inside)
            return b.convert_index(row, flat.dtype), valid

        outs = [b.empty(flat), b.empty(flat.with_dtype(bool_))]
        return b.generic([indices], [[0]], outs, [[0], [0]], ["parallel"], body)

    @classmethod
    def _without_dropped(cls, b, dtype, table, rows, valid, updates):
        """The rows and updates with those that are not valid made ineffective."""
        out = TensorSpec(tuple(updates.type.shape), dtype)

        def body(keep, new, _):
            return arith.select(keep, new, b.scalar(cls.neutral(dtype), dtype))

        maps = [[0], [0, 1]]
        return rows, b.generic([valid, updates], maps, [b.empty(out)], [[0, 1]], ["parallel"] * 2, body)[0]


def signless_int64():
    """The type i64."""
    return ir.IntegerType.get_signless(64)


def scatter_rows(b, table, rows, updates, body):
    """IREE's scatter: ``table[rows[i]] = body(updates[i], table[rows[i]])`` by element, for each ``i`` in order."""
    at = b.reshape(rows, TensorSpec((*rows.type.shape, 1), spec_of(rows.type).dtype))
    # What computes the updates stays apart: IREE cannot compile a scatter for CUDA with some of it fused in.
    updates = b.unfused(updates, spec_of(updates.type))
    op = ir.Operation.create(
        "iree_linalg_ext.scatter",
        results=[table.type],
        operands=[updates, at, table],
        attributes={"dimension_map": ir.DenseI64ArrayAttr.get([0]), "unique_indices": ir.BoolAttr.get(False)},
        regions=1,
    )
    element = table.type.element_type
    block = op.regions[0].blocks.append(element, element)
    with ir.InsertionPoint(block):
        ir.Operation.create("iree_linalg_ext.yield", operands=[body(*block.arguments)])
    return op.result


class ScatterAddOp(Scatter, name="scatter_add"):
    """Adds each update to its place; the transpose of gather."""

    linear = "jointly"
    linear_operands = (0, 2)

    @staticmethod
    def accumulate(table, rows, updates):
        np.add.at(table, rows, updates)

    @classmethod
    def combine(cls, b, dtype, old, new):
        return arith.addf(old, new) if is_float(dtype) else arith.addi(old, new)

    @classmethod
    def neutral(cls, dtype):
        return -0.0 if is_float(dtype) else 0  # 0.0 would turn -0.0 into 0.0

    @classmethod
    def transpose(cls, cotangent, operands, *, axis, batch_axes):
        x, indices, updates = operands
        wanted = isinstance(updates, TensorSpec)
        for_updates = gather_valid(cotangent, indices, axis=axis, batch_axes=batch_axes) if wanted else None
        return cotangent if isinstance(x, TensorSpec) else None, None, for_updates


class ScatterSetOp(Scatter, name="scatter_set"):
    """Writes each update to its place; the last one in row-major order of the indices wins."""

    linear = "jointly"
    linear_operands = (0, 2)
    in_float32 = False

    @classmethod
    def check_dtype(cls, operand):
        pass

    @staticmethod
    def accumulate(table, rows, updates):
        table[rows] = updates

    @classmethod
    def combine(cls, b, dtype, old, new):
        return new

    @classmethod
    def flops(cls, operands, results, **attributes):
        return 0

    @classmethod
    def transpose(cls, cotangent, operands, *, axis, batch_axes):
        x, indices, updates = operands
        attributes = {"axis": axis, "batch_axes": batch_axes}
        for_x = for_updates = None
        if isinstance(x, TensorSpec):
            for_x = cls.apply(cotangent, indices, F.zeros(updates.shape, updates.dtype), **attributes)
        if isinstance(updates, TensorSpec):
            # Write the updates' numbers: those that are still there have won, and get the cotangent of their place.
            numbers = F.reshape(F.arange(indices.size, dtype=int64), indices.shape)
            lead = sorted((axis, *batch_axes))
            places = {"axis": lead.index(axis), "batch_axes": tuple(map(lead.index, batch_axes))}
            written = cls.apply(F.zeros([cotangent.shape[a] for a in lead], int64), indices, numbers, **places)
            won = gather_valid(written, indices, **places) == numbers
            taken = gather_valid(cotangent, indices, **attributes)
            won = F.broadcast_in_dim(won, taken.shape, range(indices.ndim))
            for_updates = F.where(won, taken, F.zeros_like(taken))
        return for_x, None, for_updates

    @classmethod
    def _without_dropped(cls, b, dtype, table, rows, valid, updates):
        # No value leaves a place as it is. Instead a dropped update repeats the last valid one, whose value its place
        # has in the end anyway; if none is valid, all write to the first one's row what is there.
        (count, width), row_dtype = updates.type.shape, spec_of(rows.type).dtype
        number = TensorSpec((), int64)

        def later(keep, found):
            here = b.convert_index(b.index(0), int64)
            return arith.select(keep, here, found)

        start = b.filled(b.scalar(-1, int64), number)
        (last,) = b.generic([valid], [[0]], [start], [[]], ["reduction"], later)
        repeated = TensorSpec((), row_dtype)
        row = b.elementwise(repeated, [last], lambda found: tensor.extract(rows, [clamped(b, found, int64, count - 1)]))

        def value(_):
            found = tensor.extract(last, [])
            column = b.index(0)
            update = tensor.extract(updates, [clamped(b, found, int64, count - 1), column])
            old = tensor.extract(table, [b.to_index(tensor.extract(row, []), row_dtype), column])
            return arith.select(arith.cmpi(arith.CmpIPredicate.sge, found, b.scalar(0, int64)), update, old)

        line = TensorSpec((width,), dtype)
        (values,) = b.generic([], [], [b.empty(line)], [[0]], ["parallel"], value)

        def choose(keep, new, other, _):
            return arith.select(keep, new, other)

        rows_spec, updates_spec = TensorSpec((count,), row_dtype), TensorSpec((count, width), dtype)
        (rows,) = b.generic([valid, rows, row], [[0], [0], []], [b.empty(rows_spec)], [[0]], ["parallel"], choose)
        maps = [[0], [0, 1], [1]]
        (updates,) = b.generic(
            [valid, updates, values], maps, [b.empty(updates_spec)], [[0, 1]], ["parallel"] * 2, choose
        )
        return rows, updates


class ScatterMulOp(Scatter, name="scatter_mul"):
    """Multiplies each place by its updates. Derivatives are right where factors are zero."""

    @staticmethod
    def accumulate(table, rows, updates):
        np.multiply.at(table, rows, updates)

    @classmethod
    def combine(cls, b, dtype, old, new):
        return arith.mulf(old, new) if is_float(dtype) else arith.muli(old, new)

    @classmethod
    def neutral(cls, dtype):
        return 1

    @classmethod
    def tangent(cls, primals, tangents, outs, *, axis, batch_axes):
        x, indices, updates = primals
        attributes = {"axis": axis, "batch_axes": batch_axes}
        # The product of a place's other factors: of those that are not zero, if no other one is.
        nonzero = [F.where(f == 0, 1, f) for f in (x, updates)]
        product = cls.apply(nonzero[0], indices, nonzero[1], **attributes)
        zeros = [(f == 0).astype(x.dtype) for f in (x, updates)]
        count = ScatterAddOp.apply(zeros[0], indices, zeros[1], **attributes)
        at_updates = [gather_valid(t, indices, **attributes) for t in (product, count)]

        def times_others(tangent, of, product, count):
            others = F.where(count == zeros[of], product / nonzero[of], 0)
            return F.zeros_like(others) if tangent is None else tangent * others

        of_x = times_others(tangents[0], 0, product, count)
        of_updates = times_others(tangents[2], 1, *at_updates)
        return ScatterAddOp.apply(of_x, indices, of_updates, **attributes)


class ScatterExtremum(Scatter):
    """Family of scatter_max and scatter_min. Equal candidates for a place share its derivative, which is 0 at NaN."""

    @classmethod
    def tangent(cls, primals, tangents, outs, *, axis, batch_axes):
        x, indices, updates = primals
        attributes = {"axis": axis, "batch_axes": batch_axes}
        won = gather_valid(outs[0], indices, **attributes) == updates
        kept, won = (x == outs[0]).astype(x.dtype), won.astype(x.dtype)
        candidates = ScatterAddOp.apply(kept, indices, won, **attributes)
        of_x, of_updates = (
            F.zeros_like(share) if tangent is None else tangent * share
            for tangent, share in ((tangents[0], kept), (tangents[2], won))
        )
        return ScatterAddOp.apply(of_x, indices, of_updates, **attributes) * (1 / F.maximum(candidates, 1))


class ScatterMaxOp(ScatterExtremum, name="scatter_max"):
    """Replaces each place by the maximum of it and its updates; NaN wins."""

    @staticmethod
    def accumulate(table, rows, updates):
        np.maximum.at(table, rows, updates)

    @classmethod
    def combine(cls, b, dtype, old, new):
        return MaximumOp.scalar(b, dtype, old, new)

    @classmethod
    def neutral(cls, dtype):
        return lowest(dtype)


class ScatterMinOp(ScatterExtremum, name="scatter_min"):
    """Replaces each place by the minimum of it and its updates; NaN wins."""

    @staticmethod
    def accumulate(table, rows, updates):
        np.minimum.at(table, rows, updates)

    @classmethod
    def combine(cls, b, dtype, old, new):
        return MinimumOp.scalar(b, dtype, old, new)

    @classmethod
    def neutral(cls, dtype):
        return highest(dtype)
