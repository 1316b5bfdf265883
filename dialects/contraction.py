"""Products summed over shared axes: dot_general."""

import math as pymath
from collections.abc import Sequence

import numpy as np

from volta_mlir import functions as F
from volta_mlir.dialects.base import Op, Operand, Result, require
from volta_mlir.dtypes import TensorSpec, bool_, float16, float32, float64, is_float
from volta_mlir.errors import DTypeError
from volta_mlir.mlir import arith, spec_of

#: A right operand of up to this many bytes needs no packing, if the left one has this many rows or more. IREE 3.13
#: takes 0.5 to 1.2 times as long without it for float32, and makes no copies; but 5 to 12 times as long for odd extents
#: (37), 1.4 times for bfloat16, and 2 to 6 times where the sum is over the rows.
CACHED_BYTES, MANY_ROWS, WHOLE_TILE = 2**20, 1024, 16


def free_axes(rank: int, *taken: Sequence[int]) -> tuple[int, ...]:
    """The axes of a rank that no group in ``taken`` names."""
    return tuple(a for a in range(rank) if not any(a in group for group in taken))


class DotGeneralOp(Op, name="dot_general"):
    """Batched product: sums over the contracting axes for each index of the batch axes.

    The result's axes are the batch axes, the free axes of ``lhs``, the free axes of ``rhs``. ``dtype`` is the result's
    dtype. Integers wrap; floats accumulate in the widest of the operands' dtype, the result's and float32.
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
        if dtype == bool_ or is_float(dtype) != is_float(lhs.dtype):
            raise DTypeError(f"products of {lhs.dtype.name} can't be added up in {dtype.name}")
        for what, left, right in (("batch", lhs_batch, rhs_batch), ("contracting", lhs_contract, rhs_contract)):
            require(len(left) == len(right), f"{what} axes differ in number: {left} and {right}")
            for a, c in zip(left, right, strict=True):
                require(0 <= a < lhs.rank and 0 <= c < rhs.rank, f"{what} axes {left}, {right} exceed {lhs}, {rhs}")
                require(lhs.shape[a] == rhs.shape[c], f"{what} axes {a} of {lhs} and {c} of {rhs} differ in extent")
        for spec, batch, contract in ((lhs, lhs_batch, lhs_contract), (rhs, rhs_batch, rhs_contract)):
            require(
                len(set(batch + contract)) == len(batch + contract), f"{batch} and {contract} repeat an axis of {spec}"
            )
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
        return contract(b, lhs, rhs, x, y, **op.attribute_values())


def contract(b, lhs, rhs, x, y, *, lhs_batch, rhs_batch, lhs_contract, rhs_contract, dtype):
    """Emits the dot_general with these attributes of two values, of specs ``x`` and ``y``."""
    axes = {"lhs_batch": lhs_batch, "rhs_batch": rhs_batch, "lhs_contract": lhs_contract, "rhs_contract": rhs_contract}
    out = DotGeneralOp.infer(x, y, **axes, dtype=dtype)
    wide = accumulation_dtype(x.dtype, dtype)
    if x.dtype == float16:  # its products convert the operands anyway, once for each of them: convert them once
        lhs, rhs = b.converted(lhs, x, wide), b.converted(rhs, y, wide)
        x, y = x.with_dtype(wide), y.with_dtype(wide)
    # IREE's data tiling wants at most one axis of each kind: group the axes, merging those of a kind.
    lhs, lhs_kinds, extents = _grouped(b, lhs, x, {"batch": lhs_batch, "m": None, "k": lhs_contract})
    rhs, rhs_kinds, rhs_extents = _grouped(b, rhs, y, {"batch": rhs_batch, "n": None, "k": rhs_contract})
    extents |= rhs_extents
    loops = [kind for kind in ("batch", "m", "n", "k") if kind in extents]
    kept = [kind for kind in loops if kind != "k"]
    flat = TensorSpec(tuple(extents[kind] for kind in kept), wide)

    # Data tiling would pack a matrix anew for each product with a vector, which takes longer than the product. What
    # IREE does not recognise as a contraction it leaves as it is; that is as fast if the rows are contiguous.
    matrix_kinds = max(lhs_kinds, rhs_kinds, key=len)
    hidden = is_float(wide) and ("m" in loops) != ("n" in loops) and matrix_kinds[-1] == "k"

    def body(u, v, accumulator):
        u, v = b.convert(u, x.dtype, wide), b.convert(v, y.dtype, wide)
        if not is_float(wide):
            return arith.addi(accumulator, arith.muli(u, v))
        if hidden:
            return arith.subf(accumulator, arith.mulf(arith.negf(u), v))
        return arith.addf(accumulator, arith.mulf(u, v))

    (product,) = b.generic(
        [lhs, rhs],
        [[loops.index(kind) for kind in kinds] for kinds in (lhs_kinds, rhs_kinds)],
        [b.filled(b.scalar(0, wide), flat)],
        [range(len(kept))],
        ["reduction" if kind == "k" else "parallel" for kind in loops],
        body,
        packed="k" in loops and not hidden and _is_packed(lhs_kinds, extents, x.dtype),
    )
    return b.reshape(b.converted(product, flat, dtype), out)


def _is_packed(lhs_kinds, extents, dtype):
    """Whether the product takes less time if IREE packs its operands into tiles first, and unpacks the result.

    It does not where rows of ``lhs`` meet an ``rhs`` that stays in the processor's cache as it is.
    """
    rows, columns, inner = (extents.get(kind, 1) for kind in ("m", "n", "k"))
    is_even = not any(extent % WHOLE_TILE for extent in (rows, columns, inner))
    is_cached = dtype in (float32, float64) and inner * columns * dtype.itemsize <= CACHED_BYTES
    return not (lhs_kinds == ["m", "k"] and rows >= MANY_ROWS and is_even and is_cached)


def _grouped(b, value, spec, groups):
    """``value`` with at most one axis per kind, the kinds in the order of the axes, and the extent of each kind.

    ``groups`` are the axes of each kind; one kind has None, which is the axes that no other has. Axes of a kind that
    lie together in order are merged in place; otherwise the operand is transposed. A kind without axes, or with
    extent 1, gets none.
    """
    free = free_axes(spec.rank, *filter(None, groups.values()))
    groups = {kind: free if axes is None else tuple(axes) for kind, axes in groups.items()}
    extents = {kind: pymath.prod(spec.shape[a] for a in axes) for kind, axes in groups.items()}
    kinds = [kind for kind in groups if groups[kind]]
    if all(groups[kind] == tuple(range(groups[kind][0], groups[kind][0] + len(groups[kind]))) for kind in kinds):
        kinds.sort(key=lambda kind: groups[kind])
    else:
        value = b.transpose(value, spec, [a for kind in kinds for a in groups[kind]])
    kinds = [kind for kind in kinds if extents[kind] != 1]
    value = b.reshape(value, spec.with_shape(tuple(extents[kind] for kind in kinds)))
    return value, kinds, {kind: extents[kind] for kind in kinds}


def accumulation_dtype(operand, result):
    """The dtype in which products of ``operand``'s dtype are added up for a result of another; float32 at least."""
    return result if not is_float(result) else max(operand, result, float32, key=lambda dtype: dtype.itemsize)
