"""Elementwise ops: every operand has the result's shape.

A member writes ``scalar`` (the body of its lowering, on scalars), ``reference``, and ``partials`` where it is
differentiable and not linear. Shapes, batching, lowering and cost come from the family.
"""

import math as pymath
from collections.abc import Sequence
from typing import Any

import numpy as np

from volta_mlir import functions as F
from volta_mlir.dialects import scalar_math as sm
from volta_mlir.dialects.base import (
    Op,
    Operand,
    Result,
    require,
)
from volta_mlir.dtypes import TensorSpec, bool_, float32, float64, is_float, is_integer, is_unsigned
from volta_mlir.errors import DTypeError, ShapeError
from volta_mlir.mlir import arith, ir, math, scf, signless_element_type, spec_of

NUMBERS = "numbers"  # floats and integers
FLOATS = "floats"
INTEGERS = "integers"
BITS = "integers and bool"
ANY = "any dtype"

_ACCEPTS = {
    NUMBERS: lambda d: is_float(d) or is_integer(d),
    FLOATS: is_float,
    INTEGERS: is_integer,
    BITS: lambda d: is_integer(d) or d == bool_,
    ANY: lambda d: True,
}


def all_batched(operands, batched):
    """The operands, repeated along a leading axis where they have none; for rules of batching."""
    size = next(x.shape[0] for x, b in zip(operands, batched, strict=True) if b)
    return [x if b else F.broadcast_to(x, (size, *x.shape)) for x, b in zip(operands, batched, strict=True)]


class Elementwise(Op):
    """Family of the elementwise ops."""

    accepts = NUMBERS
    #: Half-precision bodies of such ops run in float32: the libm calls exist in no other precision.
    in_float32 = False
    #: One function per operand: (*operands, out) -> the partial derivative, a Tensor or None for zero.
    partials = ()  # type: Any
    flops_per_element = 1
    permuted_operands = slice(None)

    @classmethod
    def infer(cls, *specs, **attributes):
        first = specs[0]
        for other in specs[1:]:
            if (
                other != first
            ):  # require's message would take longer to make than all else that an op takes to be emitted
                raise ShapeError(f"operands must agree in shape and dtype, got {first} and {other}")
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
        return cls.apply(*all_batched(operands, batched), **attributes)

    @classmethod
    def lower(cls, b, op, *operands):
        dtype = spec_of(op.operation.operands[0].type).dtype
        out = spec_of(op.operation.results[0].type)
        attributes = op.attribute_values()
        return b.elementwise(out, operands, lambda *args: cls.lower_scalar(b, dtype, args, attributes))

    @classmethod
    def lower_scalar(cls, b: Any, dtype: np.dtype, args: Sequence[Any], attributes: dict[str, Any]) -> Any:
        """The body of the lowering, with the widening that half precision needs; ``dtype`` is the operands'."""
        if cls.in_float32 and is_float(dtype) and dtype.itemsize == 2:
            widened = [arith.extf(signless_element_type(float32), a) for a in args]
            return arith.truncf(signless_element_type(dtype), cls.scalar(b, float32, *widened, **attributes))
        return cls.scalar(b, dtype, *args, **attributes)

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


class DivOp(Binary, name="div"):
    """``x / y``. Integer division truncates towards zero, ``x / 0`` is -1 (all bits set), and the smallest integer
    divided by -1 is itself."""

    linear, linear_operands = "separately", (0,)

    @staticmethod
    def reference(x, y):
        return _int_divide(x, y)[0] if is_integer(x.dtype) else np.divide(x, y)

    @classmethod
    def tangent(cls, primals, tangents, outs):
        # Division is linear in x, which spares the reciprocal; what y adds is -(x / y) / y.
        (_, y), (dx, dy), (out,) = primals, tangents, outs
        numerator = None if dx is None else cls.apply(dx, y)
        denominator = None if dy is None else dy * (-out / y)
        if numerator is None or denominator is None:
            return denominator if numerator is None else numerator
        return numerator + denominator

    @classmethod
    def transpose(cls, cotangent, operands):
        return cotangent / operands[1], None

    @classmethod
    def scalar(cls, b, dtype, x, y):
        if is_float(dtype):
            return arith.divf(x, y)
        return _divide(b, dtype, x, y, arith.divsi, arith.divui, _all_ones(b, dtype))


class RemOp(Binary, name="rem"):
    """The remainder of :class:`DivOp`, with the sign of ``x``: for floats C's fmod; an integer ``x rem 0`` is ``x``."""

    in_float32 = True
    flops_per_element = 10
    partials = (lambda x, y, out: F.ones_like(x), lambda x, y, out: -F.trunc(x / y))

    @staticmethod
    def reference(x, y):
        return _int_divide(x, y)[1] if is_integer(x.dtype) else np.fmod(x, y)

    @classmethod
    def scalar(cls, b, dtype, x, y):
        if is_float(dtype):
            return _real(sm.remainder, dtype, x, y)
        return _divide(b, dtype, x, y, arith.remsi, arith.remui, x)


def _int_divide(x, y):
    """Quotient and remainder of integer arrays, truncated towards zero, in exact arithmetic."""
    info, shape = np.iinfo(x.dtype), x.shape
    x, y = x.ravel(), y.ravel()  # arithmetic on object arrays of rank 0 gives Python numbers
    wide_x, wide_y = x.astype(object), np.where(y == 0, 1, y).astype(object)
    quotient = np.abs(wide_x) // np.abs(wide_y) * np.where((x < 0) == (y < 0), 1, -1)
    remainder = wide_x - quotient * wide_y
    quotient = np.where(quotient > info.max, info.min, quotient)  # the smallest integer divided by -1
    all_ones = info.max if is_unsigned(x.dtype) else -1
    quotient, remainder = np.where(y == 0, all_ones, quotient), np.where(y == 0, x, remainder)
    return quotient.astype(x.dtype).reshape(shape), remainder.astype(x.dtype).reshape(shape)


def _divide(b, dtype, x, y, signed, unsigned, by_zero):
    """Integer division or remainder. Dividing by zero, or the smallest integer by -1, is undefined in arith, so the
    divisor is replaced by 1 there."""
    zero = arith.cmpi(arith.CmpIPredicate.eq, y, b.scalar(0, dtype))
    unsafe = zero
    if not is_unsigned(dtype):
        smallest = arith.cmpi(arith.CmpIPredicate.eq, x, b.scalar(np.iinfo(dtype).min, dtype))
        minus_one = arith.cmpi(arith.CmpIPredicate.eq, y, b.scalar(-1, dtype))
        unsafe = arith.ori(zero, arith.andi(smallest, minus_one))
    divisor = arith.select(unsafe, b.scalar(1, dtype), y)
    result = (unsigned if is_unsigned(dtype) else signed)(x, divisor)
    return arith.select(zero, by_zero, result)


class PowOp(Binary, name="pow"):
    """``x`` to the power ``y``, for floats as IEEE 754's pow. Integers wrap; a negative exponent of an integer gives 0,
    except for the bases 1 and -1."""

    in_float32, flops_per_element = True, 60
    # Where the other factor makes a term 0, it must not meet an infinity: x^(y-1) at x = 0 if y = 0, and log(0).
    partials = (
        lambda x, y, out: F.where(y == 0, 0.0, y * x ** F.where(y == 0, 1.0, y - 1)),
        lambda x, y, out: F.log(F.where(x == 0, 1.0, x)) * out,
    )

    @staticmethod
    def reference(x, y):
        if not is_integer(x.dtype):
            return _single(np.power)(x, y)
        bits = 8 * x.dtype.itemsize

        def one(base, exponent):
            if exponent < 0:
                return (0, 1, -1)[base] ** (exponent % 2 or 2) if base in (1, -1) else 0
            wrapped = pow(base, exponent, 2**bits)
            return wrapped if is_unsigned(x.dtype) or wrapped < 2 ** (bits - 1) else wrapped - 2**bits

        return np.vectorize(one, otypes=[object])(x.astype(object), y.astype(object)).astype(x.dtype)

    @classmethod
    def scalar(cls, b, dtype, x, y):
        return _real(sm.power, dtype, x, y) if is_float(dtype) else _int_power(b, dtype, x, y)


def _int_power(b, dtype, x, y):
    """By repeated squaring, in a loop over the exponent's bits."""
    element = signless_element_type(dtype)
    zero, one = b.scalar(0, dtype), b.scalar(1, dtype)
    loop = scf.WhileOp([element] * 3, [one, x, y])
    condition, body = (region.blocks.append(*[element] * 3) for region in (loop.before, loop.after))
    with ir.InsertionPoint(condition):
        _, _, exponent = condition.arguments
        # A negative exponent, with the sign bit set, takes as many rounds as there are bits, and is corrected below.
        scf.condition(arith.cmpi(arith.CmpIPredicate.ne, exponent, zero), list(condition.arguments))
    with ir.InsertionPoint(body):
        power, square, exponent = body.arguments
        odd = arith.cmpi(arith.CmpIPredicate.ne, arith.andi(exponent, one), zero)
        power = arith.select(odd, arith.muli(power, square), power)
        scf.yield_([power, arith.muli(square, square), arith.shrui(exponent, one)])
    power = loop.results[0]
    if is_unsigned(dtype):
        return power
    # (±1)^y repeats with period 2, so that the bits of a negative y gave the right power.
    unit = arith.cmpi(arith.CmpIPredicate.ule, arith.addi(x, one), b.scalar(2, dtype))
    nonzero = arith.cmpi(arith.CmpIPredicate.ne, x, zero)
    negative = arith.cmpi(arith.CmpIPredicate.slt, y, zero)
    return arith.select(arith.andi(negative, arith.xori(arith.andi(unit, nonzero), b.scalar(True, bool_))), zero, power)


class AbsOp(Unary, name="abs"):
    """The absolute value; that of the smallest integer wraps to itself."""

    reference = staticmethod(np.abs)
    partials = (lambda x, out: F.sign(x),)

    @classmethod
    def scalar(cls, b, dtype, x):
        if is_float(dtype):
            return math.absf(x)
        return x if is_unsigned(dtype) else arith.maxsi(x, arith.subi(b.scalar(0, dtype), x))


class SignOp(Unary, name="sign"):
    """-1, 0 or 1. Zeros keep their sign, and NaN is NaN."""

    differentiable = False

    @staticmethod
    def reference(x):
        if is_integer(x.dtype):
            return np.sign(x)
        return np.where((x == 0) | np.isnan(x), x, np.copysign(1, x.astype(float64)).astype(x.dtype))

    @classmethod
    def scalar(cls, b, dtype, x):
        zero, one = b.scalar(0, dtype), b.scalar(1, dtype)
        if is_float(dtype):
            keep = arith.cmpf(arith.CmpFPredicate.UEQ, x, zero)
            return arith.select(keep, x, math.copysign(one, x))
        if is_unsigned(dtype):
            return arith.minui(x, one)
        return arith.maxsi(b.scalar(-1, dtype), arith.minsi(x, one))


class MaximumOp(Binary, name="maximum"):
    """The larger operand; NaN if one is NaN, and 0 is larger than -0. Where both are equal, each gets half of the
    derivative."""

    accepts = ANY
    partials = (lambda x, y, out: _share(x, y, "gt"), lambda x, y, out: _share(y, x, "gt"))

    @staticmethod
    def reference(x, y):
        # NumPy's choice among zeros depends on the CPU.
        return np.where(x == y, np.where(np.signbit(x), y, x), np.maximum(x, y))

    @classmethod
    def scalar(cls, b, dtype, x, y):
        return _extremum(dtype, x, y, arith.maximumf, arith.maxsi, arith.maxui)


class MinimumOp(Binary, name="minimum"):
    """The smaller operand; NaN if one is NaN, and -0 is smaller than 0. Where both are equal, each gets half of the
    derivative."""

    accepts = ANY
    partials = (lambda x, y, out: _share(x, y, "lt"), lambda x, y, out: _share(y, x, "lt"))

    @staticmethod
    def reference(x, y):
        return np.where(x == y, np.where(np.signbit(x), x, y), np.minimum(x, y))

    @classmethod
    def scalar(cls, b, dtype, x, y):
        return _extremum(dtype, x, y, arith.minimumf, arith.minsi, arith.minui)


def _share(x, y, direction):
    """1 where ``x`` is chosen over ``y``, ½ where they are equal, else 0."""
    chosen = CompareOp.apply(x, y, direction=direction)
    return F.where(chosen, F.ones_like(x), F.where(x == y, F.full_like(x, 0.5), F.zeros_like(x)))


def _extremum(dtype, x, y, floats, signed, unsigned):
    if is_float(dtype):
        return floats(x, y)
    return (unsigned if is_unsigned(dtype) or dtype == bool_ else signed)(x, y)


class ClampOp(Elementwise, name="clamp"):
    """``minimum(maximum(x, low), high)``: ``high`` where the bounds cross; NaN if any operand is NaN. On the closed
    interval the derivative goes to ``x``, outside it to the bound that is taken."""

    low: Operand
    operand: Operand
    high: Operand
    result: Result
    flops_per_element = 2
    partials = (
        lambda low, x, high, out: ((x < low) & (low <= high)).astype(x.dtype),
        lambda low, x, high, out: ((x >= low) & (x <= high)).astype(x.dtype),
        lambda low, x, high, out: ((x > high) | (low > high)).astype(x.dtype),
    )

    @staticmethod
    def reference(low, x, high):
        return MinimumOp.reference(MaximumOp.reference(x, low), high)

    @classmethod
    def scalar(cls, b, dtype, low, x, high):
        return MinimumOp.scalar(b, dtype, MaximumOp.scalar(b, dtype, x, low), high)


# -- mathematical functions ----------------------------------------------------------------------------------------


def _single(function: Any) -> Any:
    """A numpy function that computes in float32 where its operands are in half precision."""

    def reference(*arrays):
        return function(*(x.astype(float32) if x.dtype.itemsize == 2 else x for x in arrays))

    return staticmethod(reference)


def _real(function: Any, dtype: np.dtype, *scalars: Any) -> Any:
    """One of :mod:`scalar_math`'s functions on MLIR scalars."""
    return function(*(sm.Real(x, dtype) for x in scalars)).value


class Transcendental(Unary):
    """Family of the functions of a float. A member names its expansion in :mod:`scalar_math`."""

    accepts, in_float32, flops_per_element = FLOATS, True, 20
    expansion = None  # type: Any

    @classmethod
    def scalar(cls, b, dtype, x):
        return _real(cls.expansion, dtype, x)


class ExpOp(Transcendental, name="exp"):
    """The exponential function."""

    reference, expansion = _single(np.exp), sm.exp
    partials = (lambda x, out: out,)


class Expm1Op(Transcendental, name="expm1"):
    """``exp(x) - 1``, without cancellation for small ``x``."""

    reference, expansion = _single(np.expm1), sm.expm1
    partials = (lambda x, out: out + 1,)


class LogOp(Transcendental, name="log"):
    """The natural logarithm."""

    reference, expansion = _single(np.log), sm.log
    partials = (lambda x, out: 1 / x,)


class Log1pOp(Transcendental, name="log1p"):
    """``log(1 + x)``, without cancellation for small ``x``."""

    reference, expansion = _single(np.log1p), sm.log1p
    partials = (lambda x, out: 1 / (1 + x),)


class SqrtOp(Transcendental, name="sqrt"):
    """The square root."""

    reference, expansion, flops_per_element = _single(np.sqrt), sm.sqrt, 4
    partials = (lambda x, out: 0.5 / out,)


class RsqrtOp(Transcendental, name="rsqrt"):
    """``1 / sqrt(x)``."""

    reference, expansion, flops_per_element = _single(lambda x: 1 / np.sqrt(x)), sm.rsqrt, 5
    partials = (lambda x, out: -0.5 * out / x,)


class CbrtOp(Transcendental, name="cbrt"):
    """The cube root, also of negative numbers."""

    reference, expansion, flops_per_element = _single(np.cbrt), sm.cbrt, 50
    partials = (lambda x, out: (1 / 3) / (out * out),)


def _trigonometric(function: Any) -> Any:
    """The reference of a function whose argument is reduced by multiples of π, up to a limit."""
    return _single(lambda x: function(np.where(np.abs(x) < sm.TRIGONOMETRIC_LIMIT, x, np.nan).astype(x.dtype)))


class SinOp(Transcendental, name="sin"):
    """The sine."""

    reference, expansion = _trigonometric(np.sin), sm.sin
    partials = (lambda x, out: F.cos(x),)


class CosOp(Transcendental, name="cos"):
    """The cosine."""

    reference, expansion = _trigonometric(np.cos), sm.cos
    partials = (lambda x, out: -F.sin(x),)


class TanOp(Transcendental, name="tan"):
    """The tangent."""

    reference, expansion, flops_per_element = _trigonometric(np.tan), sm.tan, 25
    partials = (lambda x, out: 1 + out * out,)


class AsinOp(Transcendental, name="asin"):
    """The angle between -π/2 and π/2 with this sine; NaN outside [-1, 1]."""

    reference, expansion, flops_per_element = _single(np.arcsin), sm.asin, 45
    partials = (lambda x, out: F.rsqrt((1 - x) * (1 + x)),)


class AcosOp(Transcendental, name="acos"):
    """The angle between 0 and π with this cosine; NaN outside [-1, 1]."""

    reference, expansion, flops_per_element = _single(np.arccos), sm.acos, 45
    partials = (lambda x, out: -F.rsqrt((1 - x) * (1 + x)),)


class SinhOp(Transcendental, name="sinh"):
    """The hyperbolic sine."""

    reference, expansion, flops_per_element = _single(np.sinh), sm.sinh, 50
    partials = (lambda x, out: F.cosh(x),)


class CoshOp(Transcendental, name="cosh"):
    """The hyperbolic cosine."""

    reference, expansion = _single(np.cosh), sm.cosh
    partials = (lambda x, out: F.sinh(x),)


class TanhOp(Transcendental, name="tanh"):
    """The hyperbolic tangent."""

    reference, expansion = _single(np.tanh), sm.tanh
    partials = (lambda x, out: 1 - out * out,)


class ErfOp(Transcendental, name="erf"):
    """The error function."""

    reference, expansion = _single(np.vectorize(pymath.erf, otypes=[float64])), sm.erf
    partials = (lambda x, out: (2 / pymath.sqrt(pymath.pi)) * F.exp(-x * x),)


class LogisticOp(Transcendental, name="logistic"):
    """The logistic function ``1 / (1 + exp(-x))``."""

    reference, expansion = _single(lambda x: np.exp(-np.logaddexp(np.zeros_like(x), -x))), sm.logistic
    partials = (lambda x, out: out * (1 - out),)


class Atan2Op(Binary, name="atan2"):
    """The angle of the point ``(x, y)``, with operands ``y``, ``x``, between -π and π."""

    accepts, in_float32, flops_per_element = FLOATS, True, 40
    reference = _single(np.arctan2)
    partials = (lambda y, x, out: x / (x * x + y * y), lambda y, x, out: -y / (x * x + y * y))

    @classmethod
    def scalar(cls, b, dtype, y, x):
        return _real(sm.atan2, dtype, y, x)


class LogAddExpOp(Binary, name="logaddexp"):
    """``log(exp(x) + exp(y))`` without overflow."""

    accepts, in_float32, flops_per_element = FLOATS, True, 50
    reference = _single(np.logaddexp)
    # Equal operands share the derivative, infinite ones too, which have no difference.
    partials = (
        lambda x, y, out: F.sigmoid(F.where(x == y, 0.0, x - y)),
        lambda x, y, out: F.sigmoid(F.where(x == y, 0.0, y - x)),
    )

    @classmethod
    def scalar(cls, b, dtype, x, y):
        return _real(sm.logaddexp, dtype, x, y)


class Rounding(Unary):
    """Family of the functions that round a float to an integral one: step functions."""

    accepts, differentiable = FLOATS, False
    scalar_op = None  # type: Any

    @classmethod
    def scalar(cls, b, dtype, x):
        return cls.scalar_op(x)


class FloorOp(Rounding, name="floor"):
    """Rounds down."""

    reference, scalar_op = staticmethod(np.floor), math.floor


class CeilOp(Rounding, name="ceil"):
    """Rounds up."""

    reference, scalar_op = staticmethod(np.ceil), math.ceil


class RoundOp(Rounding, name="round"):
    """Rounds to the nearest, halves to even."""

    reference, scalar_op = staticmethod(np.rint), math.roundeven


class IsFiniteOp(Unary, name="is_finite"):
    """Whether a float is neither infinite nor NaN, as bool."""

    accepts, differentiable = FLOATS, False
    reference = staticmethod(np.isfinite)

    @classmethod
    def result_spec(cls, operand):
        return operand.with_dtype(bool_)

    @classmethod
    def scalar(cls, b, dtype, x):
        return arith.cmpf(arith.CmpFPredicate.OLT, math.absf(x), b.scalar(np.inf, dtype))


# -- bits ----------------------------------------------------------------------------------------------------------


class AndOp(Binary, name="and"):
    """Bitwise and; logical for bool."""

    accepts = BITS
    reference = staticmethod(np.bitwise_and)

    @classmethod
    def scalar(cls, b, dtype, x, y):
        return arith.andi(x, y)


class OrOp(Binary, name="or"):
    """Bitwise or; logical for bool."""

    accepts = BITS
    reference = staticmethod(np.bitwise_or)

    @classmethod
    def scalar(cls, b, dtype, x, y):
        return arith.ori(x, y)


class XorOp(Binary, name="xor"):
    """Bitwise exclusive or; logical for bool."""

    accepts = BITS
    reference = staticmethod(np.bitwise_xor)

    @classmethod
    def scalar(cls, b, dtype, x, y):
        return arith.xori(x, y)


class NotOp(Unary, name="not"):
    """Bitwise not; logical for bool."""

    accepts = BITS
    reference = staticmethod(np.bitwise_not)

    @classmethod
    def scalar(cls, b, dtype, x):
        return arith.xori(x, b.scalar(True, dtype) if dtype == bool_ else _all_ones(b, dtype))


def _all_ones(b, dtype):
    return b.scalar(np.iinfo(dtype).max if is_unsigned(dtype) else -1, dtype)


class Shift(Binary):
    """Family of the shifts. Counts are taken as unsigned; from the width on, all bits are shifted out."""

    accepts = INTEGERS
    scalar_op = None  # type: Any

    @classmethod
    def scalar(cls, b, dtype, x, count):
        # arith's shifts are undefined from the width on.
        over = arith.cmpi(arith.CmpIPredicate.uge, count, b.scalar(8 * dtype.itemsize, dtype))
        shifted = cls.scalar_op(x, arith.select(over, b.scalar(0, dtype), count))
        return arith.select(over, b.scalar(0, dtype), shifted)


def _shift_reference(function: Any) -> Any:
    """``function`` on the bits as unsigned integers, and 0 for counts that are out of range."""

    def reference(x, count):
        bits, counts = x.view(f"u{x.dtype.itemsize}"), count.view(f"u{x.dtype.itemsize}")
        over = counts >= 8 * x.dtype.itemsize
        return np.where(over, 0, function(bits, np.where(over, 0, counts))).astype(bits.dtype).view(x.dtype)

    return staticmethod(reference)


class ShiftLeftOp(Shift, name="shift_left"):
    """``x`` shifted to the left."""

    reference, scalar_op = _shift_reference(np.left_shift), arith.shli


class ShiftRightLogicalOp(Shift, name="shift_right_logical"):
    """``x`` shifted to the right, filled with zeros."""

    reference, scalar_op = _shift_reference(np.right_shift), arith.shrui


class ShiftRightArithmeticOp(Shift, name="shift_right_arithmetic"):
    """``x`` shifted to the right, filled with copies of its highest bit."""

    @staticmethod
    def reference(x, count):
        bits = 8 * x.dtype.itemsize
        signed = x.view(f"i{x.dtype.itemsize}")
        clipped = np.minimum(count.view(f"u{x.dtype.itemsize}"), bits - 1).astype(signed.dtype)
        return (signed >> clipped).view(x.dtype)

    @classmethod
    def scalar(cls, b, dtype, x, count):
        return arith.shrsi(x, arith.minui(count, b.scalar(8 * dtype.itemsize - 1, dtype)))


# -- conversion ----------------------------------------------------------------------------------------------------


class BitcastOp(Unary, name="bitcast"):
    """The bits of each element as another dtype of the same width."""

    accepts, differentiable, flops_per_element = NUMBERS, False, 0
    dtype: np.dtype

    @classmethod
    def infer(cls, operand, *, dtype):
        spec = super().infer(operand)
        if dtype == bool_ or dtype.itemsize != operand.dtype.itemsize:
            raise DTypeError(f"can't take the bits of {operand} as {dtype}: the widths differ")
        return spec.with_dtype(dtype)

    @staticmethod
    def reference(x, *, dtype):
        return x.view(dtype)

    @classmethod
    def scalar(cls, b, source, x, *, dtype):
        element = signless_element_type(dtype)
        return x if x.type == element else arith.bitcast(element, x)


class ConvertOp(Unary, name="convert"):
    """Converts to another dtype. Float to integer truncates towards zero, saturates, and takes NaN to 0; integers
    wrap; to bool is ``x != 0``. To half precision, everything goes through float32."""

    linear = "jointly"
    accepts = ANY
    dtype: np.dtype

    @classmethod
    def infer(cls, operand, *, dtype):
        return operand.with_dtype(dtype)

    @staticmethod
    def reference(x, *, dtype):
        if dtype == bool_:
            return x != 0
        if is_float(dtype):
            return x.astype(float32).astype(dtype) if dtype.itemsize == 2 else x.astype(dtype)
        if not is_float(x.dtype):
            return x.astype(dtype)
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
        require(
            predicate.shape == on_true.shape, f"the predicate has shape {predicate.shape}, the branches {on_true.shape}"
        )
        return on_true

    @classmethod
    def transpose(cls, cotangent, operands):
        zero = F.zeros_like(cotangent)
        predicate = operands[0]
        return None, cls.apply(predicate, cotangent, zero), cls.apply(predicate, zero, cotangent)

    @classmethod
    def scalar(cls, b, dtype, predicate, on_true, on_false):
        return arith.select(predicate, on_true, on_false)


class StopGradientOp(Unary, name="stop_gradient"):
    """The operand itself, as a constant for differentiation."""

    accepts, differentiable, flops_per_element = ANY, False, 0
    reference = staticmethod(np.array)

    @classmethod
    def lower(cls, b, op, x):
        return x


class CheckpointNameOp(Unary, name="checkpoint_name"):
    """The operand itself, under a name by which the policy of a checkpoint may keep it."""

    accepts, linear, flops_per_element = ANY, "jointly", 0
    label: str

    @classmethod
    def infer(cls, operand, *, label):
        require(label != "", "a name has at least one letter")
        return super().infer(operand)

    @staticmethod
    def reference(x, *, label):
        return np.array(x)

    @classmethod
    def transpose(cls, cotangent, operands, *, label):
        return (cotangent,)

    @classmethod
    def lower(cls, b, op, x):
        return x
