"""Folds along axes: reductions, whose results lack the axes, and cumulative ops, which keep every partial result."""

import math as pymath
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from volta_mlir import functions as F
from volta_mlir.dialects.base import OPS, Op, Operand, Result, require
from volta_mlir.dtypes import INDEX, SIGNED, TensorSpec, bool_, float32, is_float, is_integer
from volta_mlir.errors import DTypeError
from volta_mlir.mlir import arith, ir, spec_of, tensor


def lowest(dtype: np.dtype) -> Any:
    """What every other value of the dtype is larger than or equal to."""
    return -np.inf if is_float(dtype) else np.iinfo(dtype).min


def highest(dtype: np.dtype) -> Any:
    """What every other value of the dtype is smaller than or equal to."""
    return np.inf if is_float(dtype) else np.iinfo(dtype).max


@dataclass(frozen=True)
class Fold:
    """An associative and commutative elementwise op, and its identity for a dtype: what folding nothing gives."""

    mnemonic: str
    identity: Callable[[np.dtype], Any]

    def combine(self, b, dtype, x, y):
        """The op on scalars of ``dtype``."""
        return OPS[self.mnemonic].scalar(b, dtype, x, y)


SUM = Fold("add", lambda dtype: 0)
PROD = Fold("mul", lambda dtype: 1)
MAX = Fold("maximum", lowest)
MIN = Fold("minimum", highest)
ANY = Fold("or", lambda dtype: False)
ALL = Fold("and", lambda dtype: True)


def accumulator(dtype: np.dtype) -> np.dtype:
    """The dtype in which values of ``dtype`` are folded: float32 for half precision."""
    return float32 if is_float(dtype) and dtype.itemsize == 2 else dtype


def reduction_accumulator(fold: Fold, dtype: np.dtype) -> np.dtype:
    """:func:`accumulator`, but unsigned for the extrema of signed integers.

    IREE 3.13 takes 0 and -1 for the identities of signed maximum and minimum where it reduces a row with several
    threads of a GPU: they are those of the unsigned ones.
    """
    return np.dtype(f"u{dtype}") if fold in (MAX, MIN) and dtype in SIGNED else accumulator(dtype)


def recode(b: Any, x: Any, source: np.dtype, target: np.dtype) -> Any:
    """A scalar converted between a dtype and its accumulator; between integers of the same width in the same order."""
    if is_integer(source) and source != target:
        signed = np.dtype(f"int{8 * source.itemsize}")
        return arith.xori(x, b.scalar(np.iinfo(signed).min, signed))
    return b.convert(x, source, target)


def recoded(b: Any, x: Any, spec: TensorSpec, target: np.dtype) -> Any:
    """:func:`recode` for a tensor of ``spec``."""
    if spec.dtype == target:
        return x
    return b.elementwise(spec.with_dtype(target), [x], lambda v: recode(b, v, spec.dtype, target))


def exact(x):
    """An array in the widest dtype of its kind, in which references of floats compute."""
    return x.astype(np.float64) if is_float(x.dtype) else x


def require_numbers(spec):
    """Raises DTypeError for bool."""
    if spec.dtype == bool_:
        raise DTypeError(f"takes numbers, got {spec}")


# -- reductions ----------------------------------------------------------------------------------------------------


class Reduce(Op):
    """Family: folds the elements along ``axes``."""

    fold = SUM
    permuted_operands, permuted_result = slice(None), False
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
        require_numbers(operand)

    @classmethod
    def batch(cls, operands, batched, *, axes):
        return cls.apply(operands[0], axes=tuple(a + 1 for a in axes))

    @classmethod
    def permute(cls, operands, permutation, *, axes):
        kept = [axis for axis in permutation if axis not in axes]
        folded = cls.apply(*operands, axes=tuple(a for a, axis in enumerate(permutation) if axis in axes))
        return F.transpose(folded, [kept.index(axis) for axis in sorted(kept)])

    @classmethod
    def flops(cls, operands, results, **attributes):
        return operands[0].size

    @classmethod
    def lower(cls, b, op, x):
        source = spec_of(op.operation.operands[0].type)
        (total,) = fold_together(b, [cls.fold], [x], [source], op.axes)
        wide = reduction_accumulator(cls.fold, source.dtype)
        return recoded(b, total, spec_of(op.operation.results[0].type).with_dtype(wide), source.dtype)


def fold_together(
    b: Any,
    folds: Sequence[Fold],
    values: Sequence[Any],
    specs: Sequence[TensorSpec],
    axes: Sequence[int],
) -> list[Any]:
    """Tensors of one shape, of ``specs``, folded along ``axes`` in the same loops, each with its fold.

    Returns:
        The results, in the dtypes of the accumulators.
    """
    wides = [reduction_accumulator(fold, spec.dtype) for fold, spec in zip(folds, specs, strict=True)]
    # One loop for each run of adjacent axes, and one run at a time: IREE 3.13 refuses or crashes on sums over several
    # loops of a product with a broadcast factor, and runs others slower.
    for first, count in reversed(runs(axes)):
        shape = specs[0].shape
        before, after = shape[:first], shape[first + count :]
        parts, elements = cut_run(pymath.prod(shape[first : first + count]))
        cut = [parts, elements] if parts > 1 else [elements]
        values = [b.reshape(v, spec.with_shape((*before, *cut, *after))) for v, spec in zip(values, specs, strict=True)]
        while cut:
            cut.pop()
            specs = [spec.with_shape((*before, *cut, *after)) for spec in specs]
            values = _fold_axis(b, folds, values, specs, wides, first + len(cut))
            specs = [spec.with_dtype(wide) for spec, wide in zip(specs, wides, strict=True)]
    return [recoded(b, v, spec, wide) for v, spec, wide in zip(values, specs, wides, strict=True)]


def _fold_axis(b, folds, values, specs, wides, axis):
    """Folds one axis in one loop nest; ``specs`` have the dtypes of the values, and the other axes."""
    rank = specs[0].rank + 1
    loops = ["reduction" if a == axis else "parallel" for a in range(rank)]
    outs = [spec.with_dtype(wide) for spec, wide in zip(specs, wides, strict=True)]
    starts = [
        b.filled(b.scalar(fold.identity(out.dtype), out.dtype), out) for fold, out in zip(folds, outs, strict=True)
    ]

    def body(*scalars):
        elements, totals = scalars[: len(values)], scalars[len(values) :]
        return [
            fold.combine(b, wide, recode(b, element, spec.dtype, wide), total)
            for fold, spec, wide, element, total in zip(folds, specs, wides, elements, totals, strict=True)
        ]

    kept = [kept_axes(rank, (axis,))] * len(values)
    return b.generic(values, [range(rank)] * len(values), starts, kept, loops, body)


def runs(axes: Sequence[int]) -> list[tuple[int, int]]:
    """The first axis and the length of each run of adjacent axes.

    >>> runs((0, 2, 3))
    [(0, 1), (2, 2)]
    """
    starts = [a for a in axes if a - 1 not in axes]
    return [(a, next(n for n in range(1, len(axes) + 1) if a + n not in axes)) for a in starts]


#: Up to so many elements are folded one after the other.
MAX_RUN = 4096


@cache
def cut_run(extent: int) -> tuple[int, int]:
    """In how many parts so many elements are folded, before their results are, and how many elements a part has.

    A sum of n elements, one after the other, is wrong by up to n roundings; in √n parts of √n elements each, by 2√n.
    And parts are computed by different threads, where a single row, or few columns, would keep one busy.
    Source: Higham, "The Accuracy of Floating Point Summation" (1993).

    >>> cut_run(200_704), cut_run(768), cut_run(10_007)
    ((448, 448), (1, 768), (1, 10007))
    """
    if extent <= MAX_RUN:
        return 1, extent
    parts = next(n for n in range(pymath.isqrt(extent), 0, -1) if extent % n == 0)
    return parts, extent // parts


def kept_axes(rank: int, axes: Sequence[int]) -> list[int]:
    """The axes of a rank that a reduction over ``axes`` leaves."""
    return [a for a in range(rank) if a not in axes]


class ReduceSumOp(Reduce, name="reduce_sum"):
    """The sum along ``axes``; integers wrap, an empty sum is 0."""

    fold = SUM
    linear = "jointly"

    @staticmethod
    def reference(x, *, axes):
        return np.sum(exact(x), axis=axes, dtype=exact(x).dtype)

    @classmethod
    def transpose(cls, cotangent, operands, *, axes):
        (operand,) = operands
        return (F.broadcast_in_dim(cotangent, operand.shape, kept_axes(operand.rank, axes)),)


class ReduceProdOp(Reduce, name="reduce_prod"):
    """The product along ``axes``; integers wrap, an empty product is 1."""

    fold = PROD

    @staticmethod
    def reference(x, *, axes):
        return np.prod(exact(x), axis=axes, dtype=exact(x).dtype)

    @classmethod
    def tangent(cls, primals, tangents, outs, *, axes):
        # The partial derivative is the product of the other elements: of those before and those behind. Unlike
        # out / x, this is right where elements are zero.
        kept = kept_axes(primals[0].ndim, axes)
        shape = (*outs[0].shape, pymath.prod(primals[0].shape[a] for a in axes))
        x, tangent = (F.reshape(F.transpose(v, [*kept, *axes]), shape) for v in (primals[0], tangents[0]))
        others = 1
        for reverse in (False, True):
            products = CumprodOp.apply(x, axis=len(kept), reverse=reverse)
            others = others * shifted(products, 1, len(kept), reverse, fill=1)
        return F.sum(tangent * others, axis=-1)


class ReduceExtremum(Reduce):
    """Family of maximum and minimum: NaN if an element is NaN.

    Equal extrema share the derivative equally; a NaN has none.
    """

    @classmethod
    def tangent(cls, primals, tangents, outs, *, axes):
        (x,), (tangent,), (out,) = primals, tangents, outs
        is_extremum = x == F.broadcast_in_dim(out, x.shape, kept_axes(x.ndim, axes))
        shares = F.sum(is_extremum.astype(x.dtype), axes)
        total = F.sum(F.where(is_extremum, tangent, F.zeros_like(tangent)), axes)
        return total * (1 / F.maximum(shares, 1))  # there is none where the result is NaN, or of no elements


class ReduceMaxOp(ReduceExtremum, name="reduce_max"):
    """The largest element along ``axes``; of none it is -inf, or an integer dtype's smallest value."""

    fold = MAX

    @staticmethod
    def reference(x, *, axes):
        return np.max(exact(x), axis=axes, initial=lowest(x.dtype))


class ReduceMinOp(ReduceExtremum, name="reduce_min"):
    """The smallest element along ``axes``; of none it is inf, or an integer dtype's largest value."""

    fold = MIN

    @staticmethod
    def reference(x, *, axes):
        return np.min(exact(x), axis=axes, initial=highest(x.dtype))


class ReduceLogical(Reduce):
    """Family of the reductions of bool."""

    @classmethod
    def check_dtype(cls, operand):
        if operand.dtype != bool_:
            raise DTypeError(f"takes bool, got {operand}")


class ReduceAnyOp(ReduceLogical, name="reduce_any"):
    """Whether an element along ``axes`` is true; of none it is false."""

    fold = ANY

    @staticmethod
    def reference(x, *, axes):
        return np.any(x, axis=axes)


class ReduceAllOp(ReduceLogical, name="reduce_all"):
    """Whether all elements along ``axes`` are true; of none it is true."""

    fold = ALL

    @staticmethod
    def reference(x, *, axes):
        return np.all(x, axis=axes)


# -- where the extremum is -----------------------------------------------------------------------------------------


class ArgExtremum(Op):
    """Family: the index (int32) along ``axis`` of the first extremum. A NaN is more extreme than any number."""

    fold = MAX
    differentiable = False
    permuted_operands, permuted_result = slice(None), False
    operand: Operand
    result: Result
    axis: int

    @classmethod
    def infer(cls, operand, *, axis):
        require(0 <= axis < operand.rank, f"axis {axis} is out of range for {operand}")
        require(operand.shape[axis] > 0, f"axis {axis} of {operand} has no elements to choose from")
        require_numbers(operand)
        return operand.with_shape(operand.shape[:axis] + operand.shape[axis + 1 :]).with_dtype(INDEX)

    @classmethod
    def batch(cls, operands, batched, *, axis):
        return cls.apply(operands[0], axis=axis + 1)

    @classmethod
    def permute(cls, operands, permutation, *, axis):
        kept = [a for a in permutation if a != axis]
        extremum = cls.apply(*operands, axis=permutation.index(axis))
        return F.transpose(extremum, [kept.index(a) for a in sorted(kept)])

    @classmethod
    def flops(cls, operands, results, **attributes):
        return 2 * operands[0].size

    @classmethod
    def lower(cls, b, op, x):
        # Two plain reductions, first the extremum, then the smallest index where it is, vectorise; one that carries
        # both does not.
        source, out = spec_of(op.operation.operands[0].type), spec_of(op.operation.results[0].type)
        wide, axis = reduction_accumulator(cls.fold, source.dtype), op.axis
        loops = ["reduction" if a == axis else "parallel" for a in range(source.rank)]
        every, kept = range(source.rank), kept_axes(source.rank, [axis])
        start = b.filled(b.scalar(cls.fold.identity(wide), wide), out.with_dtype(wide))

        def extremum(element, best):
            return cls.fold.combine(b, wide, recode(b, element, source.dtype, wide), best)

        (best,) = b.generic([x], [every], [start], [kept], loops, extremum)
        none = b.scalar(highest(INDEX), INDEX)

        def first(element, best, index):
            element = recode(b, element, source.dtype, wide)
            if is_float(wide):  # the extremum is NaN where an element is
                found = arith.cmpf(arith.CmpFPredicate.OEQ, element, best)
                found = arith.ori(found, arith.cmpf(arith.CmpFPredicate.UNO, element, element))
            else:
                found = arith.cmpi(arith.CmpIPredicate.eq, element, best)
            # Unsigned for the reason that reduction_accumulator gives; no index is negative.
            return arith.minui(arith.select(found, b.convert_index(b.index(axis), INDEX), none), index)

        (index,) = b.generic([x, best], [every, kept], [b.filled(none, out)], [kept], loops, first)
        return index


class ArgmaxOp(ArgExtremum, name="argmax"):
    """The index of the first largest element along ``axis``."""

    fold = MAX

    @staticmethod
    def reference(x, *, axis):
        return np.argmax(exact(x), axis=axis)


class ArgminOp(ArgExtremum, name="argmin"):
    """The index of the first smallest element along ``axis``."""

    fold = MIN

    @staticmethod
    def reference(x, *, axis):
        return np.argmin(exact(x), axis=axis)


# -- cumulative ops ------------------------------------------------------------------------------------------------


class Cumulative(Op):
    """Family: element ``i`` along ``axis`` folds the elements up to ``i``, or with ``reverse`` those from ``i`` on."""

    fold = SUM
    permuted_operands = slice(None)
    operand: Operand
    result: Result
    axis: int
    reverse: bool

    @classmethod
    def infer(cls, operand, *, axis, reverse):
        require(0 <= axis < operand.rank, f"axis {axis} is out of range for {operand}")
        require_numbers(operand)
        return operand

    @classmethod
    def reference(cls, x, *, axis, reverse):
        x = exact(np.flip(x, axis) if reverse else x)
        out = cls.ufunc.accumulate(x, axis=axis, dtype=x.dtype)
        return np.flip(out, axis) if reverse else out

    @classmethod
    def batch(cls, operands, batched, *, axis, reverse):
        return cls.apply(operands[0], axis=axis + 1, reverse=reverse)

    @classmethod
    def permute(cls, operands, permutation, *, axis, reverse):
        return cls.apply(*operands, axis=permutation.index(axis), reverse=reverse)

    @classmethod
    def flops(cls, operands, results, **attributes):
        return operands[0].size

    @classmethod
    def lower(cls, b, op, x):
        spec = spec_of(op.operation.results[0].type)
        if not spec.size:
            return x
        dtype = accumulator(spec.dtype)
        wide, totals = spec.with_dtype(dtype), spec.with_shape(spec.shape[: op.axis] + spec.shape[op.axis + 1 :])
        x = cls._prepared(b, x, spec, wide, op)
        start = b.filled(b.scalar(cls.fold.identity(dtype), dtype), totals.with_dtype(dtype))
        scan = ir.Operation.create(
            "iree_linalg_ext.scan",
            results=[x.type, start.type],
            operands=[x, b.empty(wide), start],
            attributes={
                "dimension": ir.IntegerAttr.get(ir.IntegerType.get_signless(64), op.axis),
                "inclusive": ir.BoolAttr.get(True),
                "operandSegmentSizes": ir.DenseI32ArrayAttr.get([1, 2]),
            },
            regions=1,
        )
        block = scan.regions[0].blocks.append(x.type.element_type, x.type.element_type)
        with ir.InsertionPoint(block):
            total = cls.fold.combine(b, dtype, *block.arguments)
            ir.Operation.create("iree_linalg_ext.yield", operands=[total])
        return cls._prepared(b, scan.results[0], wide, spec, op)

    @staticmethod
    def _prepared(b, x, source, target, op):
        """``x`` in the target's dtype, and reversed if the op is."""
        if not op.reverse:
            return (
                x
                if source == target
                else b.elementwise(target, [x], lambda v: b.convert(v, source.dtype, target.dtype))
            )
        last = source.shape[op.axis] - 1

        def body():
            at = [b.index(a) for a in range(source.rank)]
            at[op.axis] = arith.subi(b.constant_index(last), at[op.axis])
            return b.convert(tensor.extract(x, at), source.dtype, target.dtype)

        return b.elementwise(target, [], body)


def shifted(x, by, axis, reverse, fill):
    """``x`` moved by ``by`` places along ``axis``, forwards (backwards with ``reverse``), with ``fill`` moving in."""
    extent = x.shape[axis]
    by = min(by, extent)
    filler = F.full((*x.shape[:axis], by, *x.shape[axis + 1 :]), fill, x.dtype)
    kept = F.slice_in_dim(x, by if reverse else 0, extent if reverse else extent - by, axis=axis)
    return F.concatenate([kept, filler] if reverse else [filler, kept], axis)


class CumsumOp(Cumulative, name="cumsum"):
    """The running sum along ``axis``; integers wrap."""

    fold = SUM
    ufunc = np.add
    linear = "jointly"

    @classmethod
    def transpose(cls, cotangent, operands, *, axis, reverse):
        return (cls.apply(cotangent, axis=axis, reverse=not reverse),)


class CumprodOp(Cumulative, name="cumprod"):
    """The running product along ``axis``; integers wrap."""

    fold = PROD
    ufunc = np.multiply

    @classmethod
    def tangent(cls, primals, tangents, outs, *, axis, reverse):
        # The product rule on spans of 1, 2, 4, … elements that end at each element: no division, so that zeros do
        # no harm.
        product, tangent = primals[0], tangents[0]
        span = 1
        while span < product.shape[axis]:
            before = shifted(product, span, axis, reverse, fill=1)
            tangent = tangent * before + shifted(tangent, span, axis, reverse, fill=0) * product
            product = product * before
            span *= 2
        return tangent


class CummaxOp(Cumulative, name="cummax"):
    """The running maximum along ``axis``; NaN from the first NaN on. Of equal maxima the latest has the derivative."""

    fold = MAX
    ufunc = np.maximum

    @classmethod
    def tangent(cls, primals, tangents, outs, *, axis, reverse):
        (x,), (tangent,), (out,) = primals, tangents, outs
        last = x.shape[axis] - 1
        position = F.iota(x.shape, axis, INDEX)
        position = last - position if reverse else position
        is_maximum = (x == out) | (x != x)
        latest = cls.apply(F.where(is_maximum, position, F.zeros_like(position)), axis=axis, reverse=reverse)
        return F.take_along_axis(tangent, last - latest if reverse else latest, axis)
