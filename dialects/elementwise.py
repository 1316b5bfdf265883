"""Elementwise ops: every operand has the result's shape.

A member writes ``scalar`` (the body of its lowering, on scalars), ``reference``, and ``partials`` where it is
differentiable and not linear. Shapes, batching, lowering and cost come from the family.
"""

from typing import Any

import numpy as np

from volta_mlir import functions as F
from volta_mlir.dialects.base import (
    Op,
    Operand,
    Result,
    require,
)
from volta_mlir.dtypes import TensorSpec, bool_, float32, is_float, is_integer, is_unsigned
from volta_mlir.errors import DTypeError
from volta_mlir.mlir import arith, math, signless_element_type, spec_of

NUMBERS = "numbers"  # floats and integers
FLOATS = "floats"
BITS = "integers and bool"
ANY = "any dtype"

_ACCEPTS = {
    NUMBERS: lambda d: is_float(d) or is_integer(d),
    FLOATS: is_float,
    BITS: lambda d: is_integer(d) or d == bool_,
    ANY: lambda d: True,
}


class Elementwise(Op):
    """Family of the elementwise ops."""

    accepts = NUMBERS
    #: Half-precision bodies of such ops run in float32: the libm calls exist in no other precision.
    in_float32 = False
    #: One function per operand: (*operands, out) -> the partial derivative, a Tensor or None for zero.
    partials = ()  # type: Any
    flops_per_element = 1

    @classmethod
    def infer(cls, *specs, **attributes):
        first = specs[0]
        for other in specs[1:]:
            require(other == first, f"operands must agree in shape and dtype, got {first} and {other}")
        if not _ACCEPTS[cls.accepts](first.dtype):
            raise DTypeError(f"takes {cls.accepts}, got {first}")
        return cls.result_spec(first)

    @classmethod
    def result_spec(cls, operand: TensorSpec) -> TensorSpec:
        return operand

    @classmethod
    def tangent(cls, primals, tangents, outs, **attributes):
        if not cls.partials:
            return super().tangent(primals, tangents, outs, **attributes)
        total = None
        for partial, tangent in zip(cls.partials, tangents, strict=True):
            slope = partial(*primals, outs[0]) if partial and tangent is not None else None
            if slope is not None:
                term = tangent * slope
                total = term if total is None else total + term
        return total

    @classmethod
    def batch(cls, operands, batched, **attributes):
        size = next(x.shape[0] for x, b in zip(operands, batched, strict=True) if b)
        spread = [x if b else F.broadcast_to(x, (size, *x.shape)) for x, b in zip(operands, batched, strict=True)]
        return cls.apply(*spread, **attributes)

    @classmethod
    def lower(cls, b, op, *operands):
        dtype = spec_of(op.operation.operands[0].type).dtype
        out = spec_of(op.operation.results[0].type)
        attributes = op.attribute_values()

        def body(*args):
            if cls.in_float32 and dtype.itemsize == 2:
                args = [arith.extf(signless_element_type(float32), a) for a in args]
                wide = cls.scalar(b, float32, *args, **attributes)
                return arith.truncf(signless_element_type(dtype), wide)
            return cls.scalar(b, dtype, *args, **attributes)

        return b.elementwise(out, operands, body)

    @classmethod
    def scalar(cls, b, dtype, *args, **attributes):
        """The body on scalars of ``dtype`` (the operands' dtype)."""
        raise cls.missing("scalar", "convert-volta-to-linalg")

    @classmethod
    def flops(cls, operands, results, **attributes):
        return cls.flops_per_element * results[0].size


class Unary(Elementwise):
    """One operand."""

    operand: Operand
    result: Result


class Binary(Elementwise):
    """Two operands of one spec."""

    lhs: Operand
    rhs: Operand
    result: Result


# -- arithmetic --------------------------------------------------------------------------------------------------


class NegOp(Unary, name="neg"):
    """``-x``; integers wrap."""

    linear = "jointly"
    reference = staticmethod(np.negative)

    @classmethod
    def scalar(cls, b, dtype, x):
        return arith.negf(x) if is_float(dtype) else arith.subi(b.scalar(0, dtype), x)

    @classmethod
    def transpose(cls, cotangent, operands):
        return (-cotangent,)


class AddOp(Binary, name="add"):
    """``x + y``; integers wrap."""

    linear = "jointly"
    reference = staticmethod(np.add)

    @classmethod
    def tangent(cls, primals, tangents, outs):
        x, y = tangents
        return y if x is None else x if y is None else x + y

    @classmethod
    def scalar(cls, b, dtype, x, y):
        return arith.addf(x, y) if is_float(dtype) else arith.addi(x, y)

    @classmethod
    def transpose(cls, cotangent, operands):
        return cotangent, cotangent


class SubOp(Binary, name="sub"):
    """``x - y``; integers wrap."""

    linear = "jointly"
    reference = staticmethod(np.subtract)

    @classmethod
    def tangent(cls, primals, tangents, outs):
        x, y = tangents
        return -y if x is None else x if y is None else x - y

    @classmethod
    def scalar(cls, b, dtype, x, y):
        return arith.subf(x, y) if is_float(dtype) else arith.subi(x, y)

    @classmethod
    def transpose(cls, cotangent, operands):
        return cotangent, -cotangent


class MulOp(Binary, name="mul"):
    """``x * y``; integers wrap."""

    linear = "separately"
    reference = staticmethod(np.multiply)

    @classmethod
    def scalar(cls, b, dtype, x, y):
        return arith.mulf(x, y) if is_float(dtype) else arith.muli(x, y)

    @classmethod
    def transpose(cls, cotangent, operands):
        x, y = operands
        return (cotangent * y, None) if isinstance(x, TensorSpec) else (None, cotangent * x)


class TanhOp(Unary, name="tanh"):
    """The hyperbolic tangent."""

    accepts, in_float32, flops_per_element = FLOATS, True, 20
    reference = staticmethod(np.tanh)
    partials = (lambda x, out: 1 - out * out,)

    @classmethod
    def scalar(cls, b, dtype, x):
        return math.tanh(x)


class ConvertOp(Unary, name="convert"):
    """Converts to another dtype. Float to integer truncates towards zero, saturates, and takes NaN to 0; integers
    wrap; to bool is ``x != 0``."""

    linear = "jointly"
    accepts = ANY
    dtype: np.dtype

    @classmethod
    def infer(cls, operand, *, dtype):
        return operand.with_dtype(dtype)

    @staticmethod
    def reference(x, *, dtype):
        if not (is_float(x.dtype) and is_integer(dtype)):
            return (x != 0) if dtype == bool_ else x.astype(dtype)
        info = np.iinfo(dtype)
        wide = np.nan_to_num(np.trunc(x.astype(np.float64)), nan=0.0, posinf=np.inf, neginf=-np.inf)
        inside = (wide >= float(info.min)) & (wide < float(info.max) + (1 if dtype.itemsize < 8 else 0))
        exact = np.where(inside, wide, 0).astype(dtype)
        return np.where(inside, exact, np.where(wide < 0, info.min, info.max).astype(dtype))

    @classmethod
    def tangent(cls, primals, tangents, outs, *, dtype):
        return tangents[0].astype(dtype) if is_float(dtype) else None

    @classmethod
    def transpose(cls, cotangent, operands, *, dtype):
        return (cotangent.astype(operands[0].dtype),)

    @classmethod
    def scalar(cls, b, source, x, *, dtype):
        return b.convert(x, source, dtype)


# -- comparison and selection --------------------------------------------------------------------------------------

_COMPARISONS = {
    # name: (numpy's ufunc, ordered or unordered float predicate, signed predicate, unsigned predicate)
    "eq": (np.equal, "OEQ", "eq", "eq"),
    "ne": (np.not_equal, "UNE", "ne", "ne"),
    "lt": (np.less, "OLT", "slt", "ult"),
    "le": (np.less_equal, "OLE", "sle", "ule"),
    "gt": (np.greater, "OGT", "sgt", "ugt"),
    "ge": (np.greater_equal, "OGE", "sge", "uge"),
}


class CompareOp(Binary, name="compare"):
    """Compares elementwise: ``direction`` is eq, ne, lt, le, gt or ge. NaN is unequal to everything."""

    differentiable = False

    accepts = ANY
    direction: str

    @classmethod
    def infer(cls, lhs, rhs, *, direction):
        require(direction in _COMPARISONS, f"direction is one of {', '.join(_COMPARISONS)}, got {direction!r}")
        return super().infer(lhs, rhs).with_dtype(bool_)

    @staticmethod
    def reference(x, y, *, direction):
        return _COMPARISONS[direction][0](x, y)

    @classmethod
    def scalar(cls, b, dtype, x, y, *, direction):
        _, floats, signed, unsigned = _COMPARISONS[direction]
        if is_float(dtype):
            return arith.cmpf(getattr(arith.CmpFPredicate, floats), x, y)
        predicate = unsigned if is_unsigned(dtype) or dtype == bool_ else signed
        return arith.cmpi(getattr(arith.CmpIPredicate, predicate), x, y)


class SelectOp(Elementwise, name="select"):
    """``on_true`` where the predicate (bool, same shape) holds, else ``on_false``."""

    linear = "jointly"
    predicate: Operand
    on_true: Operand
    on_false: Operand
    result: Result
    accepts = ANY
    linear_operands = (1, 2)
    reference = staticmethod(np.where)

    @classmethod
    def infer(cls, predicate, on_true, on_false):
        if predicate.dtype != bool_:
            raise DTypeError(f"the predicate is bool, got {predicate}")
        require(on_true == on_false, f"the branches must agree in shape and dtype, got {on_true} and {on_false}")
        require(predicate.shape == on_true.shape, f"the predicate has shape {predicate.shape}, the branches {on_true.shape}")
        return on_true

    @classmethod
    def transpose(cls, cotangent, operands):
        zero = F.zeros_like(cotangent)
        predicate = operands[0]
        return None, cls.apply(predicate, cotangent, zero), cls.apply(predicate, zero, cotangent)

    @classmethod
    def scalar(cls, b, dtype, predicate, on_true, on_false):
        return arith.select(predicate, on_true, on_false)
