"""Mathematical functions of float scalars, for the bodies of elementwise lowerings.

Upstream's ``math`` dialect names these functions, but what becomes of them depends on the target: some have no
lowering in float64, some only a polynomial for small arguments. Here they are written with arithmetic, ``math.exp``,
``math.log`` and fused multiply-add, for float32 and float64 alike. The error bounds are those of
``docs/semantics.md``. Vulkan has no ``exp`` and ``log`` of float64.
"""

import math as pymath
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np

from volta_mlir.dialects.lowering import Lowering
from volta_mlir.dtypes import bool_, float32, float64, int32, int64
from volta_mlir.mlir import arith, ir, math, scf, signless_element_type

_LN2 = Fraction("0.693147180559945309417232121458176568075500134360255254120680009493393621969694716")
_HALF_PI = Fraction("1.57079632679489661923132169163975144209858469968755291048747229615390820314310450")


class Real:
    """A scalar of float32 or float64 with Python's operators, so that formulas read as formulas.

    Comparisons are ordered (False for NaN) and give i1 values, which ``&``-like ops of ``arith`` combine.
    """

    def __init__(self, value: Any, dtype: np.dtype) -> None:
        self.value = value
        self.dtype = dtype

    def of(self, x: Any) -> "Real":
        """``x``, a number or a Real, as a Real of this dtype."""
        return x if isinstance(x, Real) else Real(Lowering().scalar(float(x), self.dtype), self.dtype)

    def _binary(self, op: Any, x: Any, y: Any) -> "Real":
        return Real(op(self.of(x).value, self.of(y).value), self.dtype)

    def __add__(self, other: Any) -> "Real":
        return self._binary(arith.addf, self, other)

    def __radd__(self, other: Any) -> "Real":
        return self._binary(arith.addf, other, self)

    def __sub__(self, other: Any) -> "Real":
        return self._binary(arith.subf, self, other)

    def __rsub__(self, other: Any) -> "Real":
        return self._binary(arith.subf, other, self)

    def __mul__(self, other: Any) -> "Real":
        return self._binary(arith.mulf, self, other)

    def __rmul__(self, other: Any) -> "Real":
        return self._binary(arith.mulf, other, self)

    def __truediv__(self, other: Any) -> "Real":
        return self._binary(arith.divf, self, other)

    def __rtruediv__(self, other: Any) -> "Real":
        return self._binary(arith.divf, other, self)

    def __neg__(self) -> "Real":
        return Real(arith.negf(self.value), self.dtype)

    def __abs__(self) -> "Real":
        return Real(math.absf(self.value), self.dtype)

    def compare(self, predicate: str, other: Any) -> Any:
        """An i1 value; ``predicate`` is one of ``arith.cmpf``'s."""
        return arith.cmpf(getattr(arith.CmpFPredicate, predicate), self.value, self.of(other).value)

    def __lt__(self, other: Any) -> Any:
        return self.compare("OLT", other)

    def __gt__(self, other: Any) -> Any:
        return self.compare("OGT", other)

    def equals(self, other: Any) -> Any:
        return self.compare("OEQ", other)

    def is_nan(self) -> Any:
        return self.compare("UNO", self)


# -- building blocks -----------------------------------------------------------------------------------------------


def select(condition: Any, x: Real | float, y: Real | float) -> Real:
    """``x`` where the i1 condition holds, else ``y``; one of the two is a Real."""
    like = x if isinstance(x, Real) else y
    assert isinstance(like, Real)
    return Real(arith.select(condition, like.of(x).value, like.of(y).value), like.dtype)


def invert(condition: Any) -> Any:
    """Not the i1 condition."""
    return arith.xori(condition, Lowering().scalar(True, bool_))


def fma(x: Real, y: Any, z: Any) -> Real:
    """``x * y + z``, rounded once."""
    return Real(math.fma(x.value, x.of(y).value, x.of(z).value), x.dtype)


def exp(x: Real) -> Real:
    """The exponential function."""
    return Real(math.exp(x.value), x.dtype)


def log(x: Real) -> Real:
    """The natural logarithm."""
    return Real(math.log(x.value), x.dtype)


def sqrt(x: Real) -> Real:
    """The square root."""
    return Real(math.sqrt(x.value), x.dtype)


def rsqrt(x: Real) -> Real:
    """One over the square root."""
    return Real(math.rsqrt(x.value), x.dtype)


def floor(x: Real) -> Real:
    """Rounds down."""
    return Real(math.floor(x.value), x.dtype)


def round_even(x: Real) -> Real:
    """Rounds to the nearest, halves to even."""
    return Real(math.roundeven(x.value), x.dtype)


def trunc(x: Real) -> Real:
    """Rounds towards zero (``math.trunc`` is a library call on CPUs without SSE 4.1)."""
    return copysign(floor(abs(x)), x)


def minimum(x: Real, y: Any) -> Real:
    """The smaller one; NaN if one is NaN."""
    return Real(arith.minimumf(x.value, x.of(y).value), x.dtype)


def maximum(x: Real, y: Any) -> Real:
    """The larger one; NaN if one is NaN."""
    return Real(arith.maximumf(x.value, x.of(y).value), x.dtype)


def copysign(x: Any, y: Real) -> Real:
    """``|x|`` with the sign of ``y``."""
    return Real(math.copysign(y.of(x).value, y.value), y.dtype)


def polynomial(x: Real, coefficients: Sequence[float | Fraction]) -> Real:
    """``c[0] + c[1]·x + c[2]·x² + …`` by Horner's rule."""
    result = x.of(coefficients[-1])
    for c in reversed(coefficients[:-1]):
        result = fma(result, x, c)
    return result


def _words(number: Fraction, dtype: np.dtype, count: int) -> list[float]:
    """``count`` floats of ``dtype`` whose sum approximates ``number``, each the rounding of what is left."""
    words = []
    for _ in range(count):
        words.append(float(dtype.type(float(number))))
        number -= Fraction(words[-1])
    return words


def _subtract_multiple(x: Real, k: Real, words: Sequence[float]) -> Real:
    """``x - k·sum(words)`` for integral ``k`` where that is small: Cody and Waite's reduction."""
    for word in words:
        x = fma(-k, word, x)
    return x


def _integer(dtype: np.dtype) -> np.dtype:
    return int32 if dtype == float32 else int64


def _bits(x: Real) -> Any:
    return arith.bitcast(signless_element_type(_integer(x.dtype)), x.value)


def _from_bits(bits: Any, dtype: np.dtype) -> Real:
    return Real(arith.bitcast(signless_element_type(dtype), bits), dtype)


def _power_of_two(k: Real) -> Real:
    """``2**k`` for an integral ``k`` in the range of normal numbers."""
    info, integer = np.finfo(k.dtype), _integer(k.dtype)
    scalar = Lowering().scalar
    exponent = arith.fptosi(signless_element_type(integer), k.value)
    biased = arith.addi(exponent, scalar(info.maxexp - 1, integer))
    return _from_bits(arith.shli(biased, scalar(info.nmant, integer)), k.dtype)


# -- exponentials and logarithms -----------------------------------------------------------------------------------


def expm1(x: Real) -> Real:
    """``exp(x) - 1``: for ``x = k·ln 2 + r`` it is ``2^k·(expm1(r) + 1 - 2^-k)``, and expm1(r) a Taylor series."""
    info = np.finfo(x.dtype)
    # Beyond these bounds the result is -1 or infinite. NaN may not reach the conversion of k to an integer.
    clipped = minimum(maximum(x, -(info.nmant + 2) * float(_LN2)), info.maxexp * float(_LN2))
    clipped = select(x.is_nan(), 0.0, clipped)
    k = round_even(clipped * float(1 / _LN2))
    r = _subtract_multiple(clipped, k, _words(_LN2, x.dtype, 2))
    terms = 8 if x.dtype == float32 else 14
    series = polynomial(r, [Fraction(1, pymath.factorial(n)) for n in range(2, terms)])
    small = fma(r * r, series, r)
    # 2^k overflows for the largest k although the result does not: multiply by 2^(k-1), then by 2.
    half = _power_of_two(k - 1)
    result = 2 * (half * (small + (1 - 0.5 / half)))
    result = select(k.equals(0), small, result)
    result = select(x > info.maxexp * float(_LN2), float("inf"), result)
    return select(x.is_nan(), x, copysign(result, x))


def log1p(x: Real) -> Real:
    """``log(1 + x)``: what rounding 1 + x has lost is added back to first order."""
    one_plus = 1 + x
    result = log(one_plus) + (x - (one_plus - 1)) / one_plus
    exact = arith.ori(one_plus.equals(1), one_plus.equals(float("inf")))
    return select(exact, x, select(one_plus.equals(0), -float("inf"), result))


def logistic(x: Real) -> Real:
    """``1 / (1 + exp(-x))``."""
    return 1 / (1 + exp(-x))


def logaddexp(x: Real, y: Real) -> Real:
    """``log(exp(x) + exp(y))``, with the larger of the two taken out."""
    larger = maximum(x, y)
    correction = log1p(exp(-abs(x - y)))
    # Equal infinities have no difference.
    return select(abs(larger).equals(float("inf")), larger, larger + correction)


def _log_words(x: Real) -> tuple[Real, Real]:
    """The logarithm of a positive finite number as an unevaluated sum of two floats.

    ``x = 2^e·m`` with m in [√½, √2), and ``log(m) = 2·atanh(q)`` with ``q = (m - 1) / (m + 1)``.
    """
    info, integer = np.finfo(x.dtype), _integer(x.dtype)
    scalar, element = Lowering().scalar, signless_element_type(x.dtype)
    subnormal = x < float(info.smallest_normal)
    x = select(subnormal, x * 2.0**info.nmant, x)
    sqrt_half = int(np.sqrt(x.dtype.type(0.5)).view(integer))
    distance = arith.subi(_bits(x), scalar(sqrt_half, integer))
    exponent = arith.shrsi(distance, scalar(info.nmant, integer))
    m = _from_bits(arith.subi(_bits(x), arith.shli(exponent, scalar(info.nmant, integer))), x.dtype)
    e = Real(arith.sitofp(element, exponent), x.dtype)
    e = select(subnormal, e - float(info.nmant), e)

    f = m - 1
    reciprocal = 1 / (f + 2)
    q = f * reciprocal
    q_low = reciprocal * fma(-q, f, fma(q, -2.0, f))  # what the quotient q lacks: (f - q·(f + 2)) / (f + 2)
    s = q * q
    # atanh(q) = q + q·s/3 + q·s²/5 + …; the second term is kept in two words as well.
    third, third_low = _words(Fraction(1, 3), x.dtype, 2)
    s_low = fma(q, q, -s) + 2 * q * q_low
    u = s * third
    u_low = fma(s, third, -u) + s * third_low + s_low * third
    terms = 4 if x.dtype == float32 else 9
    u_low = u_low + s * s * polynomial(s, [Fraction(1, 2 * n + 5) for n in range(terms)])
    t = q * u
    t_low = fma(q, u, -t) + q * u_low + q_low * u

    ln2, ln2_low = _words(_LN2, x.dtype, 2)
    main = e * ln2
    rest = fma(e, ln2, -main) + e * ln2_low
    for high, low in ((2 * q, 2 * q_low), (2 * t, 2 * t_low)):
        total = main + high  # |main| ≥ |high| or main is 0, so that the rounding error is exact
        rest = rest + ((main - total) + high) + low
        main = total
    total = main + rest
    return total, (main - total) + rest


def power(x: Real, y: Real) -> Real:
    """``x**y`` as IEEE 754's pow: ``exp(y·log|x|)`` with the product in two words, and the sign of an odd power."""
    infinity = float("inf")
    a = abs(x)
    high, low = _log_words(a)
    high = select(a.equals(0), -infinity, select(a < infinity, high, a))
    product = y * high
    product_low = fma(y, high, -product) + y * low
    # Close below the largest number, the rounded product alone would overflow.
    top = float(np.nextafter(np.log(np.finfo(x.dtype).max), x.dtype.type(0)))
    clipped = minimum(product, top)
    result = exp(clipped)
    result = fma(result, (product - clipped) + product_low, result)
    # For an infinite product, the differences are NaN.
    result = select(abs(product) < infinity, result, maximum(product, 0.0))

    integral = round_even(y).equals(y)  # with floor, LLVM makes it trunc, a library call on old CPUs
    half = y * 0.5
    odd = arith.andi(integral, invert(round_even(half).equals(half)))
    result = select(arith.andi(odd, copysign(1.0, x) < 0), -result, result)
    undefined = arith.andi(arith.andi(x < 0, x > -infinity), invert(integral))
    result = select(undefined, float("nan"), result)
    one = arith.ori(y.equals(0), x.equals(1))
    one = arith.ori(one, arith.andi(x.equals(-1), abs(y).equals(infinity)))
    return select(one, 1.0, result)


def cbrt(x: Real) -> Real:
    """The cube root: ``exp(log|x| / 3)``, and a step of Newton's method for its last digits."""
    a = abs(x)
    root = exp(log(a) * (1 / 3))
    root = root + (a / (root * root) - root) * (1 / 3)
    itself = arith.ori(invert(a < float("inf")), a.equals(0))
    return select(itself, x, copysign(root, x))


# -- hyperbolic functions ------------------------------------------------------------------------------------------


def sinh(x: Real) -> Real:
    """From expm1 where it does not cancel, and from ``exp(|x|)/2``, in halves that do not overflow, elsewhere."""
    a = abs(x)
    u = expm1(minimum(a, 1.0))
    half = _half_exp(a)
    return copysign(select(a > 1, half - 0.25 / half, 0.5 * (u + u / (u + 1))), x)


def cosh(x: Real) -> Real:
    """From ``exp(|x|)/2``, which does not overflow before the result does."""
    half = _half_exp(abs(x))
    return half + 0.25 / half


def _half_exp(a: Real) -> Real:
    """``exp(a) / 2``, also where exp(a) overflows."""
    root = exp(a * 0.5)
    return (0.5 * root) * root


def tanh(x: Real) -> Real:
    """From expm1, which does not cancel; in float32 upstream's rational function is accurate enough."""
    if x.dtype == float32:
        return Real(math.tanh(x.value), x.dtype)
    u = expm1(-2 * abs(x))
    return copysign(-u / (u + 2), x)


# -- trigonometric functions ---------------------------------------------------------------------------------------


#: sin, cos and tan of arguments from here on are NaN, as those of infinities: reducing them would take more of π.
TRIGONOMETRIC_LIMIT = 2.0**47


def _sin_cos(x: Real) -> tuple[Real, Real, Real]:
    """Sine and cosine of ``|x| - k·π/2``, and ``k mod 4``."""
    a = select(abs(x) < TRIGONOMETRIC_LIMIT, abs(x), float("nan"))
    if x.dtype == float32:  # in float64 the argument is exact and so is its reduction, for little more
        a = Real(arith.extf(signless_element_type(float64), a.value), float64)
    k = round_even(a * float(1 / _HALF_PI))
    r = _subtract_multiple(a, k, _words(_HALF_PI, float64, 2 if x.dtype == float32 else 4))
    quadrant = fma(floor(k * 0.25), -4.0, k)
    if x.dtype == float32:
        r, quadrant = (Real(arith.truncf(signless_element_type(float32), v.value), float32) for v in (r, quadrant))
    s = r * r
    terms = 5 if x.dtype == float32 else 9
    sine = polynomial(s, [Fraction((-1) ** n, pymath.factorial(2 * n + 1)) for n in range(1, terms)])
    cosine = polynomial(s, [Fraction((-1) ** n, pymath.factorial(2 * n)) for n in range(1, terms + 1)])
    return fma(r * s, sine, r), fma(s, cosine, 1.0), quadrant


def _is_odd(quadrant: Real) -> Any:
    return arith.ori(quadrant.equals(1), quadrant.equals(3))


def sin(x: Real) -> Real:
    """The sine."""
    s, c, quadrant = _sin_cos(x)
    result = select(_is_odd(quadrant), c, s)
    return select(quadrant > 1.5, -result, result) * copysign(1.0, x)


def cos(x: Real) -> Real:
    """The cosine."""
    s, c, quadrant = _sin_cos(x)
    result = select(_is_odd(quadrant), s, c)
    negative = arith.ori(quadrant.equals(1), quadrant.equals(2))
    return select(negative, -result, result)


def tan(x: Real) -> Real:
    """The tangent."""
    s, c, quadrant = _sin_cos(x)
    return select(_is_odd(quadrant), -c / s, s / c) * copysign(1.0, x)


def atan2(y: Real, x: Real) -> Real:
    """The angle of ``(x, y)``: reduced to the first octant, and there to tan(π/8) by the difference with π/4."""
    a, b = abs(x), abs(y)
    larger, smaller = maximum(a, b), minimum(a, b)
    t = select(larger.equals(smaller), 1.0, smaller / larger)
    t = select(larger.equals(0), 0.0, select(larger.is_nan(), larger, t))
    upper = t > pymath.tan(pymath.pi / 8)
    z = select(upper, (t - 1) / (t + 1), t)
    s = z * z
    terms = 10 if t.dtype == float32 else 22
    series = polynomial(s, [Fraction((-1) ** n, 2 * n + 1) for n in range(1, terms)])
    angle = select(upper, pymath.pi / 4, 0.0 * z) + fma(z * s, series, z)
    angle = select(b > a, pymath.pi / 2 - angle, angle)
    angle = select(copysign(1.0, x) < 0, pymath.pi - angle, angle)
    return copysign(angle, y)


def asin(x: Real) -> Real:
    """The angle between -π/2 and π/2 with this sine."""
    return atan2(x, sqrt((1 - x) * (1 + x)))


def acos(x: Real) -> Real:
    """The angle between 0 and π with this cosine."""
    return atan2(sqrt((1 - x) * (1 + x)), x)


# -- the error function --------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _scaled_erfc() -> list[float]:
    """Chebyshev coefficients of ``exp(x²)·erfc(x)`` for x in [1, 6] as a function of ``t`` in [-1, 1]; see erf."""

    def value(t: float) -> float:
        x = 9.6 / (t + 2.2) - 2
        return pymath.exp(x * x) * pymath.erfc(x)

    return list(np.polynomial.chebyshev.chebinterpolate(np.vectorize(value), 17))


def erf(x: Real) -> Real:
    """Its Taylor series up to 1, and ``1 - exp(-x²)·p(t)`` above, with ``t`` linear in ``1/(x + 2)``."""
    if x.dtype == float32:  # upstream's, which takes -0 to 0
        return copysign(Real(math.erf(x.value), x.dtype), x)
    a = minimum(abs(x), 6.0)  # where it has been 1 to the last digit for a while
    inner = minimum(a, 1.0)
    taylor = [Fraction((-1) ** n, pymath.factorial(n) * (2 * n + 1)) for n in range(1, 20)]
    s = inner * inner
    small = (2 / pymath.sqrt(pymath.pi)) * fma(inner * s, polynomial(s, taylor), inner)
    outer = maximum(a, 1.0)
    t = 9.6 / (outer + 2) - 2.2
    # Clenshaw's recurrence for a Chebyshev series.
    first, *coefficients = _scaled_erfc()
    b1 = b2 = t.of(0.0)
    for c in reversed(coefficients):
        b1, b2 = fma(2 * t, b1, c - b2), b1
    series = fma(t, b1, first - b2)
    return copysign(select(a > 1, 1 - exp(-outer * outer) * series, small), x)


# -- remainder -----------------------------------------------------------------------------------------------------


def remainder(x: Real, y: Real) -> Real:
    """``x - y·trunc(x / y)`` exactly, with the sign of ``x``, as C's fmod."""
    if x.dtype == float32:
        return Real(arith.remf(x.value, y.value), x.dtype)
    # float64's fmod is a library call that is not there. Long division: the largest y·2^n ≤ |x|, subtracted where
    # it fits, then halved down to y; every step is exact. The loops only see finite numbers.
    infinity = float("inf")
    a, divisor = abs(x), abs(y)
    finite = arith.andi(a < infinity, arith.andi(divisor > 0, divisor < infinity))
    dividend, start = select(finite, a, 0.0), select(finite, divisor, 1.0)
    element = signless_element_type(x.dtype)

    def loop(initial: list[Real], condition: Any, step: Any) -> list[Real]:
        op = scf.WhileOp([element] * len(initial), [r.value for r in initial])
        before = op.before.blocks.append(*[element] * len(initial))
        after = op.after.blocks.append(*[element] * len(initial))
        with ir.InsertionPoint(before):
            arguments = list(before.arguments)
            scf.condition(condition(*(Real(v, x.dtype) for v in arguments)), arguments)
        with ir.InsertionPoint(after):
            scf.yield_([r.value for r in step(*(Real(v, x.dtype) for v in after.arguments))])
        return [Real(v, x.dtype) for v in op.results]

    (scaled,) = loop([start], lambda d: d.compare("OLE", dividend * 0.5), lambda d: [d * 2])
    rest, _ = loop(
        [dividend, scaled],
        lambda r, d: d.compare("OGE", start),
        lambda r, d: [select(r.compare("OGE", d), r - d, r), d * 0.5],
    )
    otherwise = select(arith.andi(a < infinity, divisor.equals(infinity)), a, float("nan"))
    return copysign(select(finite, rest, otherwise), x)
