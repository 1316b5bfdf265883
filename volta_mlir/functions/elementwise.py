"""Elementwise functions, with numpy's broadcasting and Volta's promotion.

What has numpy's name means what numpy means; ``docs/semantics.md`` says what happens at the edges. Functions whose
results are not integral turn integers and bool into float32.
"""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np

from volta_mlir.dialects import elementwise as ops
from volta_mlir.dtypes import as_dtype, bool_, is_float, is_unsigned
from volta_mlir.functions.common import as_tensor, astype, broadcast, promote, promote_float
from volta_mlir.functions.creation import full_like, ones_like
from volta_mlir.tensor import Tensor

__all__ = [
    "abs",
    "add",
    "arccos",
    "arcsin",
    "arctan",
    "arctan2",
    "astype",
    "bitcast",
    "bitwise_and",
    "bitwise_not",
    "bitwise_or",
    "bitwise_xor",
    "cbrt",
    "ceil",
    "clip",
    "cos",
    "cosh",
    "divide",
    "equal",
    "erf",
    "exp",
    "exp2",
    "expm1",
    "floor",
    "floor_divide",
    "fmod",
    "greater",
    "greater_equal",
    "isfinite",
    "isinf",
    "isnan",
    "left_shift",
    "less",
    "less_equal",
    "log",
    "log1p",
    "log2",
    "log10",
    "logaddexp",
    "logical_and",
    "logical_not",
    "logical_or",
    "logical_xor",
    "maximum",
    "minimum",
    "mod",
    "multiply",
    "nan_to_num",
    "negative",
    "not_equal",
    "power",
    "reciprocal",
    "remainder",
    "right_shift",
    "round",
    "rsqrt",
    "sigmoid",
    "sign",
    "sin",
    "sinh",
    "sqrt",
    "square",
    "subtract",
    "tan",
    "tanh",
    "trunc",
    "where",
]  # fmt: skip


def _unary(op: Any, x: Any) -> Tensor:
    return op.apply(as_tensor(x))


def _binary(op: Any, x: Any, y: Any, **attributes: Any) -> Tensor:
    return op.apply(*broadcast(*promote(x, y)), **attributes)


def _float_unary(op: Any, x: Any) -> Tensor:
    return op.apply(*promote_float(x))


def _float_binary(op: Any, x: Any, y: Any) -> Tensor:
    return op.apply(*broadcast(*promote_float(x, y)))


def _logical(op: Any, *operands: Any) -> Tensor:
    return op.apply(*broadcast(*(astype(x, bool) for x in operands)))


# -- arithmetic ----------------------------------------------------------------------------------------------------


def negative(x: Any) -> Tensor:
    """``-x``.

    >>> negative(Tensor([1.0, -2.0])).tolist()
    [-1.0, 2.0]
    """
    return _unary(ops.NegOp, x)


def add(x: Any, y: Any) -> Tensor:
    """``x + y``.

    >>> add(Tensor([1, 2]), 3).tolist()
    [4, 5]
    """
    return _binary(ops.AddOp, x, y)


def subtract(x: Any, y: Any) -> Tensor:
    """``x - y``.

    >>> subtract(Tensor([1, 2]), 3).tolist()
    [-2, -1]
    """
    return _binary(ops.SubOp, x, y)


def multiply(x: Any, y: Any) -> Tensor:
    """``x * y``.

    >>> multiply(Tensor([1, 2]), 3).tolist()
    [3, 6]
    """
    return _binary(ops.MulOp, x, y)


def divide(x: Any, y: Any) -> Tensor:
    """``x / y``, the true quotient: integers become float32.

    >>> divide(Tensor([3, 1]), 2).tolist()
    [1.5, 0.5]
    """
    return _float_binary(ops.DivOp, x, y)


def floor_divide(x: Any, y: Any) -> Tensor:
    """``x // y``, the quotient rounded down; an integer divided by 0 gives -1 (all bits set), a float NaN.

    >>> floor_divide(Tensor([7, -7]), 2).tolist()
    [3, -4]
    """
    x, y = broadcast(*promote(x, y))
    if is_unsigned(x.dtype):
        return ops.DivOp.apply(x, y)
    rest = ops.RemOp.apply(x, y)
    if is_float(x.dtype):
        quotient = (x - rest) / y  # integral but for rounding
        return round(where(_signs_differ(rest, y), quotient - 1, quotient))
    quotient = ops.DivOp.apply(x, y)
    return where(_signs_differ(rest, y), quotient - 1, quotient)


def mod(x: Any, y: Any) -> Tensor:
    """``x % y``, which has the sign of ``y``; an integer modulo 0 is itself.

    >>> mod(Tensor([7, -7]), 3).tolist()
    [1, 2]
    """
    x, y = broadcast(*promote(x, y))
    rest = ops.RemOp.apply(x, y)
    return rest if is_unsigned(x.dtype) else where(_signs_differ(rest, y), rest + y, rest)


def _signs_differ(x: Tensor, y: Tensor) -> Tensor:
    """Where one is negative and the other positive."""
    return ((x < 0) & (y > 0)) | ((x > 0) & (y < 0))


def remainder(x: Any, y: Any) -> Tensor:
    """:func:`mod`, under numpy's other name.

    >>> remainder(-1.0, 4.0).tolist()
    3.0
    """
    return mod(x, y)


def fmod(x: Any, y: Any) -> Tensor:
    """The remainder with the sign of ``x``, as C's.

    >>> fmod(Tensor([7, -7]), 3).tolist()
    [1, -1]
    """
    return _binary(ops.RemOp, x, y)


# Python exponents up to this size are expanded into multiplications.
_MAX_MULTIPLIED_EXPONENT = 64


def power(x: Any, y: Any) -> Tensor:
    """``x ** y``.

    Integral exponents that are Python numbers become multiplications; 0.5 and -0.5 become sqrt and rsqrt. Integers to
    a negative power give 0, except for the bases 1 and -1.

    >>> power(Tensor([1.0, 3.0]), 2).tolist(), power(Tensor([2, 3]), Tensor([3, 2])).tolist()
    ([1.0, 9.0], [8, 9])
    """
    if isinstance(y, int | float) and not isinstance(y, bool):
        (base, _), exponent = promote(x, y), math.fabs(y)
        if is_float(base.dtype) and exponent == 0.5:
            return sqrt(base) if y > 0 else rsqrt(base)
        if exponent <= _MAX_MULTIPLIED_EXPONENT and exponent == int(exponent) and (y >= 0 or is_float(base.dtype)):
            result = _repeated_product(base, int(exponent))
            return result if y >= 0 else reciprocal(result)
    return _binary(ops.PowOp, x, y)


def _repeated_product(x: Tensor, count: int) -> Tensor:
    """``x`` multiplied with itself ``count`` times, by squaring."""
    result = None
    while count:
        if count % 2:
            result = x if result is None else result * x
        count //= 2
        if count:
            x = x * x
    return ones_like(x) if result is None else result


def square(x: Any) -> Tensor:
    """``x * x``.

    >>> square(Tensor([-3, 2])).tolist()
    [9, 4]
    """
    x = as_tensor(x)
    return x * x


def reciprocal(x: Any) -> Tensor:
    """``1 / x``; integers become float32.

    >>> reciprocal(Tensor([2, 4])).tolist()
    [0.5, 0.25]
    """
    return divide(1, x)


def abs(x: Any) -> Tensor:
    """The absolute value; that of the smallest integer wraps to itself. The derivative at 0 is 0.

    >>> abs(Tensor([-1.5, 2.0])).tolist()
    [1.5, 2.0]
    """
    return _unary(ops.AbsOp, x)


def sign(x: Any) -> Tensor:
    """-1, 0 or 1; NaN for NaN.

    >>> sign(Tensor([-2, 0, 5])).tolist()
    [-1, 0, 1]
    """
    return _unary(ops.SignOp, x)


def maximum(x: Any, y: Any) -> Tensor:
    """The larger of the two, NaN if one is; where they are equal, each gets half of the derivative.

    >>> maximum(Tensor([1, 5]), 3).tolist()
    [3, 5]
    """
    return _binary(ops.MaximumOp, x, y)


def minimum(x: Any, y: Any) -> Tensor:
    """The smaller of the two, NaN if one is; where they are equal, each gets half of the derivative.

    >>> minimum(Tensor([1, 5]), 3).tolist()
    [1, 3]
    """
    return _binary(ops.MinimumOp, x, y)


def clip(x: Any, min: Any = None, max: Any = None) -> Tensor:
    """``x`` limited to the interval from ``min`` to ``max`` (None: no limit on that side).

    The derivative is 1 on the closed interval.

    >>> clip(Tensor([-1.0, 0.5, 2.0]), 0, 1).tolist()
    [0.0, 0.5, 1.0]
    """
    x = as_tensor(x)
    if min is None and max is None:
        return x
    (x, *_) = promote(x, *(bound for bound in (min, max) if bound is not None))
    low, high = (-math.inf, math.inf) if is_float(x.dtype) else (np.iinfo(x.dtype).min, np.iinfo(x.dtype).max)
    bounds = [as_tensor(low if min is None else min, x.dtype), as_tensor(high if max is None else max, x.dtype)]
    low_, x, high_ = broadcast(bounds[0], x, bounds[1])
    return ops.ClampOp.apply(low_, x, high_)


# -- mathematical functions ----------------------------------------------------------------------------------------


def exp(x: Any) -> Tensor:
    """The exponential function.

    >>> exp(0).tolist()
    1.0
    """
    return _float_unary(ops.ExpOp, x)


def exp2(x: Any) -> Tensor:
    """Two to the power ``x``.

    >>> exp2(Tensor([3.0, -1.0])).tolist()
    [8.0, 0.5]
    """
    (x,) = promote_float(x)
    return power(2.0, x)


def expm1(x: Any) -> Tensor:
    """``exp(x) - 1``, accurate for small ``x``.

    >>> expm1(0).tolist()
    0.0
    """
    return _float_unary(ops.Expm1Op, x)


def log(x: Any) -> Tensor:
    """The natural logarithm; NaN for negative numbers.

    >>> log(1).tolist()
    0.0
    """
    return _float_unary(ops.LogOp, x)


def log2(x: Any) -> Tensor:
    """The logarithm to base 2.

    >>> log2(Tensor([1.0, 8.0])).tolist()
    [0.0, 3.0]
    """
    return log(x) / math.log(2)


def log10(x: Any) -> Tensor:
    """The logarithm to base 10.

    >>> log10(Tensor([1.0, 100.0])).tolist()
    [0.0, 2.0]
    """
    return log(x) / math.log(10)


def log1p(x: Any) -> Tensor:
    """``log(1 + x)``, accurate for small ``x``.

    >>> log1p(0).tolist()
    0.0
    """
    return _float_unary(ops.Log1pOp, x)


def logaddexp(x: Any, y: Any) -> Tensor:
    """``log(exp(x) + exp(y))``, without overflow.

    >>> logaddexp(1000.0, 0.0).tolist()
    1000.0
    """
    return _float_binary(ops.LogAddExpOp, x, y)


def sqrt(x: Any) -> Tensor:
    """The square root; NaN for negative numbers.

    >>> sqrt(Tensor([4.0, 9.0])).tolist()
    [2.0, 3.0]
    """
    return _float_unary(ops.SqrtOp, x)


def rsqrt(x: Any) -> Tensor:
    """``1 / sqrt(x)``.

    >>> rsqrt(4).tolist()
    0.5
    """
    return _float_unary(ops.RsqrtOp, x)


def cbrt(x: Any) -> Tensor:
    """The cube root, also of negative numbers.

    >>> cbrt(-8).tolist()
    -2.0
    """
    return _float_unary(ops.CbrtOp, x)


def sin(x: Any) -> Tensor:
    """The sine of an angle in radians.

    >>> sin(0).tolist()
    0.0
    """
    return _float_unary(ops.SinOp, x)


def cos(x: Any) -> Tensor:
    """The cosine of an angle in radians.

    >>> cos(0).tolist()
    1.0
    """
    return _float_unary(ops.CosOp, x)


def tan(x: Any) -> Tensor:
    """The tangent of an angle in radians.

    >>> tan(0).tolist()
    0.0
    """
    return _float_unary(ops.TanOp, x)


def arcsin(x: Any) -> Tensor:
    """The angle between -π/2 and π/2 with this sine; NaN outside [-1, 1].

    >>> arcsin(0).tolist()
    0.0
    """
    return _float_unary(ops.AsinOp, x)


def arccos(x: Any) -> Tensor:
    """The angle between 0 and π with this cosine; NaN outside [-1, 1].

    >>> arccos(1).tolist()
    0.0
    """
    return _float_unary(ops.AcosOp, x)


def arctan(x: Any) -> Tensor:
    """The angle between -π/2 and π/2 with this tangent.

    >>> arctan(0).tolist()
    0.0
    """
    return arctan2(x, 1)


def arctan2(y: Any, x: Any) -> Tensor:
    """The angle of the point ``(x, y)`` between -π and π.

    >>> arctan2(0.0, 1.0).tolist()
    0.0
    """
    return _float_binary(ops.Atan2Op, y, x)


def sinh(x: Any) -> Tensor:
    """The hyperbolic sine.

    >>> sinh(0).tolist()
    0.0
    """
    return _float_unary(ops.SinhOp, x)


def cosh(x: Any) -> Tensor:
    """The hyperbolic cosine.

    >>> cosh(0).tolist()
    1.0
    """
    return _float_unary(ops.CoshOp, x)


def tanh(x: Any) -> Tensor:
    """The hyperbolic tangent.

    >>> tanh(0).tolist()
    0.0
    """
    return _float_unary(ops.TanhOp, x)


def erf(x: Any) -> Tensor:
    """The error function.

    >>> erf(0).tolist()
    0.0
    """
    return _float_unary(ops.ErfOp, x)


def sigmoid(x: Any) -> Tensor:
    """The logistic function ``1 / (1 + exp(-x))``.

    >>> sigmoid(0).tolist()
    0.5
    """
    return _float_unary(ops.LogisticOp, x)


# -- rounding ------------------------------------------------------------------------------------------------------


def _round(op: Any, x: Any) -> Tensor:
    x = as_tensor(x)
    return op.apply(x) if is_float(x.dtype) else x


def floor(x: Any) -> Tensor:
    """Rounds down; integers stay as they are.

    >>> floor(Tensor([1.5, -1.5])).tolist()
    [1.0, -2.0]
    """
    return _round(ops.FloorOp, x)


def ceil(x: Any) -> Tensor:
    """Rounds up; integers stay as they are.

    >>> ceil(Tensor([1.5, -1.5])).tolist()
    [2.0, -1.0]
    """
    return _round(ops.CeilOp, x)


def round(x: Any, decimals: int = 0) -> Tensor:
    """Rounds to the nearest, halves to even, at ``decimals`` digits behind the point; integers stay as they are.

    >>> round(Tensor([0.5, 1.5, -1.2])).tolist(), round(Tensor(12.34), -1).tolist()
    ([0.0, 2.0, -1.0], 10.0)
    """
    x = as_tensor(x)
    if decimals == 0 or not is_float(x.dtype):
        return _round(ops.RoundOp, x)
    scale = 10.0 ** math.fabs(decimals)
    return _round(ops.RoundOp, x * scale) / scale if decimals > 0 else _round(ops.RoundOp, x / scale) * scale


def trunc(x: Any) -> Tensor:
    """Rounds towards zero; integers stay as they are.

    >>> trunc(Tensor([1.5, -1.5])).tolist()
    [1.0, -1.0]
    """
    x = as_tensor(x)
    return where(x < 0, ceil(x), floor(x)) if is_float(x.dtype) else x


# -- what kind of number -------------------------------------------------------------------------------------------


def isfinite(x: Any) -> Tensor:
    """Whether each element is neither infinite nor NaN.

    >>> isfinite(Tensor([1.0, float("inf"), float("nan")])).tolist()
    [True, False, False]
    """
    x = as_tensor(x)
    return ops.IsFiniteOp.apply(x) if is_float(x.dtype) else full_like(x, True, bool_)


def isinf(x: Any) -> Tensor:
    """Whether each element is infinite.

    >>> isinf(Tensor([1.0, float("-inf"), float("nan")])).tolist()
    [False, True, False]
    """
    x = as_tensor(x)
    return abs(x) == math.inf if is_float(x.dtype) else full_like(x, False, bool_)


def isnan(x: Any) -> Tensor:
    """Whether each element is NaN.

    >>> isnan(Tensor([1.0, float("nan")])).tolist()
    [False, True]
    """
    x = as_tensor(x)
    return x != x


def nan_to_num(x: Any, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None) -> Tensor:
    """``x`` with NaN and infinities replaced, infinities by the dtype's largest numbers unless given.

    >>> nan_to_num(Tensor([float("nan"), 1.0])).tolist()
    [0.0, 1.0]
    """
    x = as_tensor(x)
    if not is_float(x.dtype):
        return x
    largest = float(ml_dtypes.finfo(x.dtype).max)  # type: ignore[no-untyped-call]  # ml_dtypes has no types
    x = where(isnan(x), nan, x)
    x = where(x == math.inf, largest if posinf is None else posinf, x)
    return where(x == -math.inf, -largest if neginf is None else neginf, x)


# -- bits and logic ------------------------------------------------------------------------------------------------


def bitwise_and(x: Any, y: Any) -> Tensor:
    """``x & y`` of integers or bool.

    >>> bitwise_and(Tensor([6, 5]), 3).tolist()
    [2, 1]
    """
    return _binary(ops.AndOp, x, y)


def bitwise_or(x: Any, y: Any) -> Tensor:
    """``x | y`` of integers or bool.

    >>> bitwise_or(Tensor([6, 5]), 3).tolist()
    [7, 7]
    """
    return _binary(ops.OrOp, x, y)


def bitwise_xor(x: Any, y: Any) -> Tensor:
    """``x ^ y`` of integers or bool.

    >>> bitwise_xor(Tensor([6, 5]), 3).tolist()
    [5, 6]
    """
    return _binary(ops.XorOp, x, y)


def bitwise_not(x: Any) -> Tensor:
    """``~x`` of integers or bool.

    >>> bitwise_not(Tensor([0, 5])).tolist()
    [-1, -6]
    """
    return _unary(ops.NotOp, x)


def left_shift(x: Any, y: Any) -> Tensor:
    """``x << y``; counts from the width on, and negative ones, shift all bits out.

    >>> left_shift(Tensor([1, 3]), 2).tolist()
    [4, 12]
    """
    return _binary(ops.ShiftLeftOp, x, y)


def right_shift(x: Any, y: Any) -> Tensor:
    """``x >> y``, which keeps the sign of signed integers; counts from the width on, and negative ones, shift all out.

    >>> right_shift(Tensor([-8, 9]), 1).tolist()
    [-4, 4]
    """
    x, y = broadcast(*promote(x, y))
    return (ops.ShiftRightLogicalOp if is_unsigned(x.dtype) else ops.ShiftRightArithmeticOp).apply(x, y)


def logical_and(x: Any, y: Any) -> Tensor:
    """Whether both are nonzero.

    >>> logical_and(Tensor([0, 2]), True).tolist()
    [False, True]
    """
    return _logical(ops.AndOp, x, y)


def logical_or(x: Any, y: Any) -> Tensor:
    """Whether one or both are nonzero.

    >>> logical_or(Tensor([0, 2]), False).tolist()
    [False, True]
    """
    return _logical(ops.OrOp, x, y)


def logical_xor(x: Any, y: Any) -> Tensor:
    """Whether exactly one is nonzero.

    >>> logical_xor(Tensor([0, 2]), True).tolist()
    [True, False]
    """
    return _logical(ops.XorOp, x, y)


def logical_not(x: Any) -> Tensor:
    """Whether each element is zero.

    >>> logical_not(Tensor([0, 2])).tolist()
    [True, False]
    """
    return _logical(ops.NotOp, x)


def bitcast(x: Any, dtype: Any) -> Tensor:
    """The bits of each element as another dtype of the same width.

    >>> hex(bitcast(Tensor(1.0), "int32").item())
    '0x3f800000'
    """
    return ops.BitcastOp.apply(as_tensor(x), dtype=as_dtype(dtype))


# -- comparison and selection --------------------------------------------------------------------------------------


def equal(x: Any, y: Any) -> Tensor:
    """``x == y`` as bool.

    >>> equal(Tensor([1, 2]), 2).tolist()
    [False, True]
    """
    return _binary(ops.CompareOp, x, y, direction="eq")


def not_equal(x: Any, y: Any) -> Tensor:
    """``x != y`` as bool.

    >>> not_equal(Tensor([1, 2]), 2).tolist()
    [True, False]
    """
    return _binary(ops.CompareOp, x, y, direction="ne")


def less(x: Any, y: Any) -> Tensor:
    """``x < y`` as bool.

    >>> less(Tensor([1, 2]), 2).tolist()
    [True, False]
    """
    return _binary(ops.CompareOp, x, y, direction="lt")


def less_equal(x: Any, y: Any) -> Tensor:
    """``x <= y`` as bool.

    >>> less_equal(Tensor([1, 3]), 2).tolist()
    [True, False]
    """
    return _binary(ops.CompareOp, x, y, direction="le")


def greater(x: Any, y: Any) -> Tensor:
    """``x > y`` as bool.

    >>> greater(Tensor([1, 3]), 2).tolist()
    [False, True]
    """
    return _binary(ops.CompareOp, x, y, direction="gt")


def greater_equal(x: Any, y: Any) -> Tensor:
    """``x >= y`` as bool.

    >>> greater_equal(Tensor([1, 2]), 2).tolist()
    [False, True]
    """
    return _binary(ops.CompareOp, x, y, direction="ge")


def where(condition: Any, x: Any, y: Any) -> Tensor:
    """``x`` where the condition (bool) holds, else ``y``; all three broadcast.

    >>> where(Tensor([True, False]), 1.0, 2.0).tolist()
    [1.0, 2.0]
    """
    x, y = promote(x, y)
    return ops.SelectOp.apply(*broadcast(astype(condition, bool), x, y))
