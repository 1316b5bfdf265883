"""Products summed over shared axes: dot_general."""

import math as pymath

import numpy as np

from volta_mlir import functions as F
from volta_mlir.dialects.base import Op, Operand, Result, require
from volta_mlir.dtypes import TensorSpec, bool_, float32, is_float
from volta_mlir.errors import DTypeError
from volta_mlir.mlir import arith, spec_of


def free_axes(rank, *taken):
    """The axes of a rank that no group in ``taken`` names."""
    return tuple(a for a in range(rank) if not any(a in group for group in taken))


class DotGeneralOp(Op, name="dot_general"):
    """Batched product: sums over the contracting axes for each index of the batch axes.

    The result's axes are the batch axes, the free axes of ``lhs``, the free axes of ``rhs``. Half-precision
    operands accumulate in float32. ``dtype`` is the result's dtype.
    """

    linear = "separately"
    lhs: Operand
    rhs: Operand
    result: Result
    lhs_batch: tuple[int, ...]
    rhs_batch: tuple[int, ...]
    lhs_contract: tuple[int, ...]
    rhs_contract: tuple[int, ...]
    dtype: np.dtype

    @classmethod
    def infer(cls, lhs, rhs, *, lhs_batch, rhs_batch, lhs_contract, rhs_contract, dtype):
        if lhs.dtype != rhs.dtype or lhs.dtype == bool_:
            raise DTypeError(f"operands must be numbers of one dtype, got {lhs} and {rhs}")
        for what, left, right in (("batch", lhs_batch, rhs_batch), ("contracting", lhs_contract, rhs_contract)):
            require(len(left) == len(right), f"{what} axes differ in number: {left} and {right}")
            for a, c in zip(left, right, strict=True):
                require(0 <= a < lhs.rank and 0 <= c < rhs.rank, f"{what} axes {left}, {right} exceed {lhs}, {rhs}")
                require(lhs.shape[a] == rhs.shape[c], f"{what} axes {a} of {lhs} and {c} of {rhs} differ in extent")
        for spec, batch, contract in ((lhs, lhs_batch, lhs_contract), (rhs, rhs_batch, rhs_contract)):
            require(len(set(batch + contract)) == len(batch + contract), f"{batch} and {contract} repeat an axis of {spec}")
        batch_shape = [lhs.shape[a] for a in lhs_batch]
        lhs_free = [lhs.shape[a] for a in free_axes(lhs.rank, lhs_batch, lhs_contract)]
        rhs_free = [rhs.shape[a] for a in free_axes(rhs.rank, rhs_batch, rhs_contract)]
        return TensorSpec((*batch_shape, *lhs_free, *rhs_free), dtype)

    @staticmethod
    def reference(lhs, rhs, *, lhs_batch, rhs_batch, lhs_contract, rhs_contract, dtype):
        wide = np.float64 if is_float(dtype) else dtype
        left = np.arange(lhs.ndim)
        right = np.arange(rhs.ndim) + lhs.ndim
        right[list(rhs_batch)] = left[list(lhs_batch)]
        right[list(rhs_contract)] = left[list(lhs_contract)]
        out = [
            *left[list(lhs_batch)],
            *left[list(free_axes(lhs.ndim, lhs_batch, lhs_contract))],
            *right[list(free_axes(rhs.ndim, rhs_batch, rhs_contract))],
        ]
        args = [lhs.astype(wide), list(map(int, left)), rhs.astype(wide), list(map(int, right)), list(map(int, out))]
        return np.einsum(*args, optimize=True)

    @classmethod
    def transpose(cls, cotangent, operands, *, lhs_batch, rhs_batch, lhs_contract, rhs_contract, dtype):
        x, y = operands
        if isinstance(x, TensorSpec):
            return cls._cotangent(cotangent, x, y, lhs_batch, rhs_batch, lhs_contract, rhs_contract, False), None
        return None, cls._cotangent(cotangent, y, x, rhs_batch, lhs_batch, rhs_contract, lhs_contract, True)

    @classmethod
    def _cotangent(cls, ct, x, y, x_batch, y_batch, x_contract, y_contract, swapped):
        """The cotangent of ``x``, contracting ``ct`` with the other operand ``y`` over y's free axes."""
        x_free = free_axes(x.rank, x_batch, x_contract)
        y_free = free_axes(y.ndim, y_batch, y_contract)
        n = len(x_batch)
        first = n if swapped else n + len(x_free)  # where y's free axes begin in ct
        ct_y = tuple(range(first, first + len(y_free)))
        batch = tuple(range(n))
        ct = ct.astype(y.dtype)
        kept = free_axes(y.ndim, y_batch, y_free)  # y's contracting axes in the order that a product leaves them
        contracted = [x_contract[y_contract.index(a)] for a in kept]
        # Either order of the factors will do: take the one that leaves x's axes in order, if one does.
        axes = [*x_batch, *contracted, *x_free]
        if axes == sorted(axes):
            return cls.apply(
                y, ct, lhs_batch=tuple(y_batch), rhs_batch=batch, lhs_contract=y_free, rhs_contract=ct_y, dtype=x.dtype
            )
        axes = [*x_batch, *x_free, *contracted]
        out = cls.apply(
            ct, y, lhs_batch=batch, rhs_batch=tuple(y_batch), lhs_contract=ct_y, rhs_contract=y_free, dtype=x.dtype
        )
        return F.transpose(out, [axes.index(a) for a in range(x.rank)])

    @classmethod
    def batch(cls, operands, batched, *, lhs_batch, rhs_batch, lhs_contract, rhs_contract, dtype):
        lhs, rhs = operands
        left = tuple(a + 1 for a in lhs_batch), tuple(a + 1 for a in lhs_contract)
        right = tuple(a + 1 for a in rhs_batch), tuple(a + 1 for a in rhs_contract)
        if all(batched):
            return cls.apply(
                lhs, rhs, lhs_batch=(0, *left[0]), rhs_batch=(0, *right[0]), lhs_contract=left[1],
                rhs_contract=right[1], dtype=dtype,
            )  # fmt: skip
        if batched[0]:  # the new axis is lhs's first free axis, after the batch axes in the result
            out = cls.apply(
                lhs, rhs, lhs_batch=left[0], rhs_batch=rhs_batch, lhs_contract=left[1], rhs_contract=rhs_contract,
                dtype=dtype,
            )  # fmt: skip
            position = len(lhs_batch)
        else:
            out = cls.apply(
                lhs, rhs, lhs_batch=lhs_batch, rhs_batch=right[0], lhs_contract=lhs_contract, rhs_contract=right[1],
                dtype=dtype,
            )  # fmt: skip
            position = lhs.ndim - len(lhs_contract)
        return F.moveaxis(out, position, 0)

    @classmethod
    def flops(cls, operands, results, *, lhs_contract, **attributes):
        return 2 * results[0].size * pymath.prod(operands[0].shape[a] for a in lhs_contract)

    @classmethod
    def lower(cls, b, op, lhs, rhs):
        x, y = (spec_of(v.type) for v in op.operation.operands)
        out = spec_of(op.operation.results[0].type)
        attributes = op.attribute_values()
        # IREE's data tiling wants at most one axis of each kind: group the axes, merging those of a kind.
        lhs, lhs_shape, lhs_at = cls._grouped(b, lhs, x, attributes["lhs_batch"], attributes["lhs_contract"])
        rhs, rhs_shape, rhs_at = cls._grouped(b, rhs, y, attributes["rhs_batch"], attributes["rhs_contract"])
        batch, m, k, n = lhs_shape["b"], lhs_shape["f"], lhs_shape["c"], rhs_shape["f"]
        loops = {kind: i for i, kind in enumerate(k_ for k_, e in (("b", batch), ("m", m), ("n", n), ("c", k)) if e is not None)}
        iterators = ["reduction" if kind == "c" else "parallel" for kind in loops]
        lhs_map = [loops[{"f": "m"}.get(kind, kind)] for kind in lhs_at]
        rhs_map = [loops[{"f": "n"}.get(kind, kind)] for kind in rhs_at]
        flat = tuple(e for e in (batch, m, n) if e is not None)
        out_map = [loops[kind] for kind in ("b", "m", "n") if kind in loops]
        wide = float32 if is_float(x.dtype) and x.dtype.itemsize == 2 else out.dtype
        start = b.filled(b.scalar(0, wide), TensorSpec(flat, wide))

        def body(u, v, accumulator):
            u, v = b.convert(u, x.dtype, wide), b.convert(v, y.dtype, wide)
            if is_float(wide):
                return arith.addf(accumulator, arith.mulf(u, v))
            return arith.addi(accumulator, arith.muli(u, v))

        (product,) = b.generic([lhs, rhs], [lhs_map, rhs_map], [start], [out_map], iterators, body)
        if wide != out.dtype:
            narrow = TensorSpec(flat, out.dtype)
            product = b.elementwise(narrow, [product], lambda v: b.convert(v, wide, out.dtype))
        return b.reshape(product, out)

    @staticmethod
    def _grouped(b, value, spec, batch, contract):
        """``value`` with at most one axis per kind: (value, extent by kind or None, kinds in axis order).

        Axes of a kind that already lie together in order are merged in place; otherwise the operand is transposed.
        """
        groups = {"b": list(batch), "f": list(free_axes(spec.rank, batch, contract)), "c": list(contract)}
        together = all(g == list(range(g[0], g[0] + len(g))) for g in groups.values() if g)
        order = sorted((k for k in groups if groups[k]), key=lambda k: groups[k][0]) if together else [k for k in groups if groups[k]]
        if not together:
            value = b.transpose(value, spec, [a for kind in order for a in groups[kind]])
        extents = {k: pymath.prod(spec.shape[a] for a in g) if g else None for k, g in groups.items()}
        merged = spec.with_shape(tuple(extents[k] for k in order))
        return b.reshape(value, merged), extents, order
