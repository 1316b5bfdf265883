"""Random numbers from explicit keys.

A key is two uint32 numbers. What is drawn depends on the key, the shape and the dtype alone: bits, :func:`uniform` on
[0, 1), :func:`randint`, :func:`bernoulli` and :func:`permutation` are the same on every device, and the same whenever
they are computed again; what goes through a logarithm, such as :func:`normal`, differs between devices by a few units
in the last place. To draw again, make new keys with :func:`split` or :func:`fold_in`: numbers drawn from one key twice
are the same numbers.

All functions take a key as :func:`key` makes it, uint32 of the shape ``(2,)``, and raise DTypeError for anything else.
A shape is an int or a sequence of them, ``()`` for one number. Those that draw floating-point numbers take such a
dtype, float32 by default, and raise DTypeError for others.

The generator is Threefry-2x32. Keys, bits and uniform numbers are those of JAX's default generator.

Example:
    >>> first, second = split(key(0))
    >>> uniform(first, (2,)).tolist() == uniform(second, (2,)).tolist()
    False
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from volta_mlir import functions as F
from volta_mlir.dialects.random import RandomBitsOp
from volta_mlir.dtypes import (
    DEFAULT_FLOAT,
    DEFAULT_INT,
    as_dtype,
    float32,
    float64,
    is_float,
    is_integer,
    uint32,
    uint64,
)
from volta_mlir.errors import DTypeError, ShapeError
from volta_mlir.functions.common import as_tensor, axes_tuple, broadcast_shapes, shape_tuple
from volta_mlir.tensor import Tensor

__all__ = [
    "bernoulli", "bits", "categorical", "choice", "exponential", "fold_in", "gumbel", "key", "laplace", "normal",
    "permutation", "randint", "split", "truncated_normal", "uniform",
]  # fmt: skip

Shape = int | Sequence[int]


def key(seed: int | Tensor) -> Tensor:
    """The key that belongs to a seed: an int, of which 64 bits count, or an integer tensor of rank 0.

    >>> key(7).tolist()
    [0, 7]
    """
    if isinstance(seed, Tensor):
        if seed.shape or not is_integer(seed.dtype):
            raise DTypeError(f"a seed is an integer of rank 0, got {seed.spec}")
        return _words(F.astype(seed, uint64))
    return Tensor(np.array([seed >> 32 & 0xFFFFFFFF, seed & 0xFFFFFFFF], uint32))


def _key(key: Any) -> Tensor:
    key = as_tensor(key)
    if key.dtype != uint32 or key.shape != (2,):
        raise DTypeError(f"a key is two uint32 numbers, as volta.random.key makes, got {key.spec}")
    return key


def _words(pairs: Tensor) -> Tensor:
    """The high and the low word of uint64 numbers, on a new last axis."""
    return F.stack([(pairs >> 32).astype(uint32), pairs.astype(uint32)], axis=-1)


def split(key: Tensor, num: int = 2) -> Tensor:
    """``num`` new keys, one per row, which draw independently of each other; ``key`` is then used up.

    >>> split(key(0), 3).shape
    (3, 2)
    """
    return _words(bits(key, (num,), uint64))


def fold_in(key: Tensor, data: int | Tensor) -> Tensor:
    """A new key from a key and a number, such as a step's or a layer's; the data's low 32 bits count.

    ``fold_in(key, i)`` is row ``i`` of :func:`split`: take new keys from one key with the one or with the other.

    >>> fold_in(key(0), 1).tolist() == fold_in(key(0), 2).tolist()
    False
    """
    data = Tensor(np.array(data & 0xFFFFFFFF, uint32)) if isinstance(data, int) else F.astype(data, uint32)
    if data.shape:
        raise ShapeError(f"fold_in takes a number, got {data.spec}; vmap it over several")
    return _words(RandomBitsOp.apply(_key(key), data, shape=(), dtype=uint64))


def bits(key: Tensor, shape: Shape = (), dtype: Any = uint32) -> Tensor:
    """Random bits as unsigned integers.

    >>> bits(key(0), (2,), "uint8").dtype.name
    'uint8'
    """
    start = Tensor(np.zeros((), uint32))
    return RandomBitsOp.apply(_key(key), start, shape=shape_tuple(shape), dtype=as_dtype(dtype))


def uniform(key: Tensor, shape: Shape = (), dtype: Any = DEFAULT_FLOAT, minval: Any = 0.0, maxval: Any = 1.0) -> Tensor:
    """Numbers uniformly distributed over [minval, maxval).

    They are multiples of the spacing that numbers between 1 and 2 have (2⁻²³ in float32), scaled. Where the bounds
    are not 0 and 1, scaling may round differently on different devices, and may round up to ``maxval``.

    >>> x = uniform(key(0), (1000,)).numpy()
    >>> bool((x >= 0).all() and (x < 1).all())
    True
    """
    dtype = _float_dtype(dtype, "uniform")
    mantissa = _mantissa_bits(dtype)
    integer = np.dtype(f"uint{8 * dtype.itemsize}")
    drawn = np.dtype("uint8") if mantissa < 8 else integer
    fraction = bits(key, shape, drawn).astype(integer) >> (8 * drawn.itemsize - mantissa)
    one = np.ones((), dtype).view(integer)
    numbers = F.bitcast(fraction | Tensor(one), dtype) - 1
    if not isinstance(minval, Tensor) and not isinstance(maxval, Tensor) and (minval, maxval) == (0, 1):
        return numbers
    minval, maxval = (F.astype(bound, dtype) for bound in (minval, maxval))
    return F.maximum(minval, numbers * (maxval - minval) + minval)


def _float_dtype(dtype: Any, what: str) -> np.dtype:
    dtype = as_dtype(dtype)
    if not is_float(dtype):
        raise DTypeError(f"{what} draws floating-point numbers, not {dtype.name}")
    return dtype


def _mantissa_bits(dtype: np.dtype) -> int:
    return {"bfloat16": 7, "float16": 10, "float32": 23, "float64": 52}[dtype.name]


def normal(key: Tensor, shape: Shape = (), dtype: Any = DEFAULT_FLOAT) -> Tensor:
    """Numbers from the normal distribution with mean 0 and variance 1.

    They are √2 · erf⁻¹(u) of :func:`uniform` numbers u on (-1, 1); none is farther from 0 than 5.5 in float32. Two
    devices differ by at most 8 units in the last place, in float32 and in float64; half precision is rounded from
    float32.

    >>> abs(normal(key(0), (10000,)).mean().item()) < 0.03
    True
    """
    dtype = _float_dtype(dtype, "normal")
    one = np.ones((), dtype)
    lowest = np.nextafter(-one, np.zeros((), dtype))
    return _normal_quantile(uniform(key, shape, dtype, Tensor(lowest), Tensor(one)))


def _normal_quantile(u: Tensor) -> Tensor:
    """√2 · erf⁻¹(u) in the dtype of ``u``."""
    wide = u if u.dtype == float64 else u.astype(float32)
    return (_erf_inv(wide) * math.sqrt(2)).astype(u.dtype)


def truncated_normal(
    key: Tensor, lower: Any, upper: Any, shape: Shape | None = None, dtype: Any = DEFAULT_FLOAT
) -> Tensor:
    """Numbers from the normal distribution with mean 0 and variance 1, those between ``lower`` and ``upper`` only.

    Args:
        key: two uint32 numbers.
        lower: the lower bound, a number or a tensor; no number is below it.
        upper: the upper bound; no number is above it.
        shape: the bounds broadcast to it; without one the result has their common shape.
        dtype: a floating-point dtype.

    They are √2 · erf⁻¹(u) of uniform numbers u between the bounds' own erf(bound / √2), so that bounds more than 5 away
    from 0 in float32, on the same side, leave few different numbers.

    >>> x = truncated_normal(key(0), -1.0, 2.0, (1000,)).numpy()
    >>> bool((x >= -1).all() and (x <= 2).all())
    True
    """
    dtype = _float_dtype(dtype, "truncated_normal")
    lower, upper = F.astype(lower, dtype), F.astype(upper, dtype)
    shape = broadcast_shapes(lower.shape, upper.shape) if shape is None else shape_tuple(shape)
    lower, upper = F.broadcast_to(lower, shape), F.broadcast_to(upper, shape)
    wide = float64 if dtype == float64 else float32
    low, high = (F.erf(bound.astype(wide) / math.sqrt(2)) for bound in (lower, upper))
    inside = float(np.nextafter(np.ones((), wide), np.zeros((), wide)))  # erf⁻¹ is infinite at the ends
    u = F.clip(uniform(key, shape, wide, low, high), -inside, inside)
    return F.clip(_normal_quantile(u).astype(dtype), lower, upper)


# Polynomials of Giles, "Approximating the erfinv function" (2010), highest power first. Each is for w = -log(1 - x²)
# up to its bound, and takes f(w) less the centre.
_ERF_INV: dict[np.dtype, tuple[tuple[float, bool, float, tuple[float, ...]], ...]] = {
    float32: (
        # bound of w, whether the polynomial is of sqrt(w), centre, coefficients
        (5.0, False, 2.5, (
            2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087, -0.00125372503,
            -0.00417768164, 0.246640727, 1.50140941,
        )),
        (math.inf, True, 3.0, (
            -0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773, -0.0076224613, 0.00943887047,
            1.00167406, 2.83297682,
        )),
    ),
    float64: (
        (6.25, False, 3.125, (
            -3.6444120640178196996e-21, -1.685059138182016589e-19, 1.2858480715256400167e-18, 1.115787767802518096e-17,
            -1.333171662854620906e-16, 2.0972767875968561637e-17, 6.6376381343583238325e-15, -4.0545662729752068639e-14,
            -8.1519341976054721522e-14, 2.6335093153082322977e-12, -1.2975133253453532498e-11,
            -5.4154120542946279317e-11, 1.051212273321532285e-09, -4.1126339803469836976e-09,
            -2.9070369957882005086e-08, 4.2347877827932403518e-07, -1.3654692000834678645e-06,
            -1.3882523362786468719e-05, 0.0001867342080340571352, -0.00074070253416626697512, -0.0060336708714301490533,
            0.24015818242558961693, 1.6536545626831027356,
        )),
        (16.0, True, 3.25, (
            2.2137376921775787049e-09, 9.0756561938885390979e-08, -2.7517406297064545428e-07, 1.8239629214389227755e-08,
            1.5027403968909827627e-06, -4.013867526981545969e-06, 2.9234449089955446044e-06, 1.2475304481671778723e-05,
            -4.7318229009055733981e-05, 6.8284851459573175448e-05, 2.4031110387097893999e-05,
            -0.0003550375203628474796, 0.00095328937973738049703, -0.0016882755560235047313, 0.0024914420961078508066,
            -0.0037512085075692412107, 0.005370914553590063617, 1.0052589676941592334, 3.0838856104922207635,
        )),
        (math.inf, True, 5.0, (
            -2.7109920616438573243e-11, -2.5556418169965252055e-10, 1.5076572693500548083e-09,
            -3.7894654401267369937e-09, 7.6157012080783393804e-09, -1.4960026627149240478e-08,
            2.9147953450901080826e-08, -6.7711997758452339498e-08, 2.2900482228026654717e-07,
            -9.9298272942317002539e-07, 4.5260625972231537039e-06,
            -1.9681778105531670567e-05, 7.5995277030017761139e-05, -0.00021503011930044477347,
            -0.00013871931833623122026, 1.0103004648645343977, 4.8499064014085844221,
        )),
    ),
}  # fmt: skip


def _erf_inv(x: Tensor) -> Tensor:
    """The inverse of the error function on (-1, 1)."""
    w = -F.log((1 - x) * (1 + x))  # 1 - x * x would cancel near 1
    result = None
    for bound, of_root, centre, coefficients in reversed(_ERF_INV[x.dtype]):
        argument = (F.sqrt(w) if of_root else w) - centre
        polynomial = F.full_like(x, coefficients[0])
        for coefficient in coefficients[1:]:
            polynomial = polynomial * argument + coefficient
        result = polynomial if result is None else F.where(w < bound, polynomial, result)
    return result * x


def randint(key: Tensor, shape: Shape, minval: int | Tensor, maxval: int | Tensor, dtype: Any = DEFAULT_INT) -> Tensor:
    """Integers from ``minval`` (included) to ``maxval`` (excluded); ``minval`` where there is none between them.

    Bounds are ints, or tensors, which are converted to the dtype and broadcast to the shape. An int ``maxval`` may be
    one more than the dtype's largest value. Each number is 64 bits modulo the number n of integers: the probabilities
    of two integers differ by less than one part in 2⁶⁴ / n.

    >>> sorted(set(randint(key(0), (100,), 0, 3).tolist()))
    [0, 1, 2]
    """
    dtype = as_dtype(dtype)
    if not is_integer(dtype):
        raise DTypeError(f"randint draws integers, not {dtype.name}")
    low, span = _interval(minval, maxval, dtype)
    # In modular arithmetic of 64 bits, which every integer dtype embeds in; there are 2⁶⁴ integers where span is 0.
    return (low + bits(key, shape, uint64) % span).astype(dtype)


def _interval(minval: int | Tensor, maxval: int | Tensor, dtype: np.dtype) -> tuple[Tensor, Tensor]:
    """The first integer and how many there are, both modulo 2⁶⁴."""
    if isinstance(minval, int) and isinstance(maxval, int):
        info = np.iinfo(dtype)
        if not (info.min <= minval <= info.max and maxval <= int(info.max) + 1):
            raise DTypeError(f"the integers from {minval} to {maxval} do not all fit {dtype.name}")
        count = max(1, maxval - minval)
        return Tensor(np.array(minval % 2**64, uint64)), Tensor(np.array(count % 2**64, uint64))
    low, high = F.astype(minval, dtype), F.astype(maxval, dtype)
    span = F.where(low < high, high.astype(uint64) - low.astype(uint64), 1)
    return low.astype(uint64), span


def bernoulli(key: Tensor, p: Any = 0.5, shape: Shape | None = None) -> Tensor:
    """Bools that are true with probability ``p``, a number or a tensor, which broadcasts to ``shape``.

    Without a shape the result has that of ``p``. The probability is met up to 2⁻²³.

    >>> bernoulli(key(0), 1.0, (2,)).tolist()
    [True, True]
    """
    p = F.astype(p, float32)
    shape = p.shape if shape is None else shape_tuple(shape)
    return uniform(key, shape) < F.broadcast_to(p, shape)


def gumbel(key: Tensor, shape: Shape = (), dtype: Any = DEFAULT_FLOAT) -> Tensor:
    """Numbers from the Gumbel distribution with location 0 and scale 1: -log(-log(u)) of uniform numbers u.

    >>> abs(gumbel(key(0), (10000,)).mean().item() - 0.5772) < 0.03
    True
    """
    return -F.log(exponential(key, shape, _float_dtype(dtype, "gumbel")))


def exponential(key: Tensor, shape: Shape = (), dtype: Any = DEFAULT_FLOAT) -> Tensor:
    """Positive numbers from the exponential distribution with rate 1: -log(u) of uniform numbers u on (0, 1).

    >>> abs(exponential(key(0), (10000,)).mean().item() - 1) < 0.03
    True
    """
    dtype = _float_dtype(dtype, "exponential")
    # Between the multiples of 2⁻ⁿ that uniform draws, so that neither 0 nor 1 is among them.
    wide = float64 if dtype == float64 else float32
    u = uniform(key, shape, wide) + 2.0 ** -(_mantissa_bits(wide) + 1)
    return -F.log(u).astype(dtype)


def laplace(key: Tensor, shape: Shape = (), dtype: Any = DEFAULT_FLOAT) -> Tensor:
    """Numbers from the Laplace distribution with location 0 and scale 1.

    >>> abs(laplace(key(0), (10000,)).mean().item()) < 0.05
    True
    """
    dtype = _float_dtype(dtype, "laplace")
    wide = float64 if dtype == float64 else float32
    # As for exponential: symmetric about 0, and never -1 or 1.
    u = uniform(key, shape, wide, -1.0, 1.0) + 2.0 ** -_mantissa_bits(wide)
    return (-F.sign(u) * F.log1p(-F.abs(u))).astype(dtype)


# -- choosing ------------------------------------------------------------------------------------------------------


def permutation(key: Tensor, x: Any, axis: int = 0, independent: bool = False) -> Tensor:
    """A random order of the numbers below ``x``, an int, or of the slices of ``x`` along an axis.

    Args:
        key: two uint32 numbers.
        x: an int, which stands for ``arange(x)``, or a tensor of rank 1 or more.
        axis: the axis along which slices are moved.
        independent: every row along the axis gets an order of its own, instead of one for whole slices.

    Raises:
        ShapeError: ``x`` has no such axis.

    It sorts by 64 random bits for each element; two are equal with a probability below n² / 2⁶⁵.

    >>> sorted(permutation(key(0), 4).tolist())
    [0, 1, 2, 3]
    """
    x = F.arange(x) if isinstance(x, int) and not isinstance(x, bool) else as_tensor(x)
    (axis,) = axes_tuple(axis, x.ndim)
    if independent:
        return F.take_along_axis(x, F.argsort(bits(key, x.shape, uint64), axis), axis)
    return F.take(x, F.argsort(bits(key, (x.shape[axis],), uint64)), axis)


def categorical(key: Tensor, logits: Any, axis: int = -1, shape: Shape | None = None) -> Tensor:
    """Indices (int32) along ``axis``, drawn with the probabilities ``softmax(logits, axis)``.

    Args:
        key: two uint32 numbers.
        logits: unnormalized logarithms of probabilities, floating-point; -inf is never drawn.
        axis: the axis of the categories.
        shape: how many to draw: the shape of ``logits`` without ``axis`` broadcasts to it, and is the default.

    Raises:
        ShapeError: ``logits`` has no such axis, or its other axes do not broadcast to ``shape``.
        DTypeError: ``logits`` is not floating-point.

    It is the argmax of ``logits`` plus :func:`gumbel` numbers, so that devices differ only where two are equal but for
    the last place.

    >>> categorical(key(0), Tensor([0.0, float("-inf")]), shape=(3,)).tolist()
    [0, 0, 0]
    """
    logits = as_tensor(logits)
    dtype = _float_dtype(logits.dtype, "categorical")
    (axis,) = axes_tuple(axis, logits.ndim)
    logits = F.moveaxis(logits, axis, -1)
    shape = (*(logits.shape[:-1] if shape is None else shape_tuple(shape)), logits.shape[-1])
    # Half precision has too few different gumbel numbers to tell small probabilities apart.
    wide = float64 if dtype == float64 else float32
    return F.argmax(F.broadcast_to(logits, shape).astype(wide) + gumbel(key, shape, wide), -1)


def choice(key: Tensor, a: Any, shape: Shape = (), replace: bool = True, p: Any = None, axis: int = 0) -> Tensor:
    """Elements of ``a`` chosen at random.

    Args:
        key: two uint32 numbers.
        a: an int, which stands for ``arange(a)``, or a tensor, of which slices along ``axis`` are chosen.
        shape: how many; it takes the place of the axis.
        replace: an element may be chosen more than once.
        p: the elements' probabilities, of rank 1 and with the sum 1; default: all are the same.
        axis: the axis of ``a`` to choose along.

    Raises:
        ShapeError: ``a`` has no such axis or no elements along it, ``p`` does not fit it, or more elements than there
            are shall be chosen without replacement.

    >>> sorted(choice(key(0), 5, (5,), replace=False).tolist())
    [0, 1, 2, 3, 4]
    """
    a = F.arange(a) if isinstance(a, int) and not isinstance(a, bool) else as_tensor(a)
    shape = shape_tuple(shape)
    (axis,) = axes_tuple(axis, a.ndim)
    n, draws = a.shape[axis], math.prod(shape)
    if not n and draws:
        raise ShapeError(f"choice: {a.spec} has nothing to choose from along axis {axis}")
    if not replace and draws > n:
        raise ShapeError(f"choice: {draws} of {n} elements can't be chosen without replacement")
    if p is not None:
        p = as_tensor(p)
        if p.shape != (n,) or not is_float(p.dtype):
            raise ShapeError(f"choice: p is a probability for each of {n} elements, got {p.spec}")
        logits = F.log(p)
        if replace:
            index = categorical(key, logits, shape=shape)
        else:
            # The greatest sums of logits and gumbel numbers are draws without replacement (Gumbel top-k).
            index = F.argsort(logits + gumbel(key, (n,), logits.dtype), descending=True)[:draws]
    elif replace:
        index = randint(key, shape, 0, n)
    else:
        index = permutation(key, n)[:draws]
    return F.take(a, F.reshape(index, shape), axis)
