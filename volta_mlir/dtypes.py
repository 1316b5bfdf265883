"""Element types, their promotion, and :class:`TensorSpec`.

Volta speaks of element types as ``numpy.dtype`` objects (bfloat16 comes from ``ml_dtypes``). The promotion
table is the lattice written down in ``docs/semantics.md``: it follows JAX's, in which Python scalars are *weak*
and never widen a tensor of their own kind.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import ml_dtypes
import numpy as np

from volta_mlir.errors import DTypeError, ShapeError

bfloat16 = np.dtype(ml_dtypes.bfloat16)
float16, float32, float64 = np.dtype("float16"), np.dtype("float32"), np.dtype("float64")
int8, int16, int32, int64 = np.dtype("int8"), np.dtype("int16"), np.dtype("int32"), np.dtype("int64")
uint8, uint16, uint32, uint64 = np.dtype("uint8"), np.dtype("uint16"), np.dtype("uint32"), np.dtype("uint64")
bool_ = np.dtype("bool")

FLOATS = (bfloat16, float16, float32, float64)
SIGNED = (int8, int16, int32, int64)
UNSIGNED = (uint8, uint16, uint32, uint64)
INTEGERS = SIGNED + UNSIGNED
DTYPES = (*FLOATS, *INTEGERS, bool_)

#: What a Python scalar becomes when nothing else decides, and what index-valued ops return.
DEFAULT_FLOAT = float32
DEFAULT_INT = int32
INDEX = int32

# A dtype makes its name anew each time that it is asked.
_NAMES = {d: d.name for d in DTYPES}
_BY_NAME = {name: d for d, name in _NAMES.items()}


def as_dtype(value: Any) -> np.dtype:
    """The supported ``numpy.dtype`` that ``value`` (a dtype, a scalar type or a name) stands for.

    >>> as_dtype("bfloat16").name, as_dtype(float).name, as_dtype(np.int64).name
    ('bfloat16', 'float32', 'int64')
    """
    if value is float:
        return DEFAULT_FLOAT
    if value is int:
        return DEFAULT_INT
    if isinstance(value, str) and value in _BY_NAME:
        return _BY_NAME[value]
    if isinstance(value, np.dtype) and value in _NAMES:
        return _BY_NAME[_NAMES[value]]
    try:
        dtype = np.dtype(value)
    except TypeError:
        dtype = None
    if dtype is None or dtype.name not in _BY_NAME:
        raise DTypeError(f"unsupported dtype {value!r}; Volta's dtypes are {', '.join(_BY_NAME)}")
    return _BY_NAME[dtype.name]


def is_float(dtype: np.dtype) -> bool:
    """True for float16, bfloat16, float32 and float64."""
    return dtype in FLOATS


def is_integer(dtype: np.dtype) -> bool:
    """True for the signed and unsigned integers; bool is not an integer."""
    return dtype in INTEGERS


def is_unsigned(dtype: np.dtype) -> bool:
    """True for uint8 to uint64."""
    return dtype in UNSIGNED


# Each dtype's least upper bounds; promotion walks upwards until two meet. "i*" and "f*" are the weak Python int
# and float: a weak int joins below every integer, a weak float below every float.
_ABOVE: dict[str, tuple[str, ...]] = {
    "bool": ("i*",),
    "i*": ("uint8", "int8"),
    "uint8": ("uint16", "int16"),
    "uint16": ("uint32", "int32"),
    "uint32": ("uint64", "int64"),
    "uint64": ("f*",),
    "int8": ("int16",),
    "int16": ("int32",),
    "int32": ("int64",),
    "int64": ("f*",),
    "f*": ("float16", "bfloat16"),
    "float16": ("float32",),
    "bfloat16": ("float32",),
    "float32": ("float64",),
    "float64": (),
}


def _reachable(name: str) -> set[str]:
    return {name}.union(*(_reachable(above) for above in _ABOVE[name]))


_REACHABLE = {name: _reachable(name) for name in _ABOVE}


@cache
def _join(names: frozenset[str]) -> str:
    common = set.intersection(*(_REACHABLE[n] for n in names))
    # The least element is the one from which every other common bound can be reached.
    return next(n for n in common if common <= _REACHABLE[n])


def _lattice_name(operand: Any) -> str:
    if isinstance(operand, bool):
        return "bool"
    if isinstance(operand, int):
        return "i*"
    if isinstance(operand, float):
        return "f*"
    if getattr(operand, "_weak", False):  # a Python number that a traced function was called with
        return "f*" if is_float(operand.dtype) else "i*" if is_integer(operand.dtype) else "bool"
    return _NAMES[as_dtype(getattr(operand, "dtype", operand))]


def result_type(*operands: Any) -> np.dtype:
    """The dtype to which ``operands`` (tensors, arrays, dtypes or weak Python scalars) promote.

    >>> result_type(np.int32(1), np.float16(2)).name, result_type(np.dtype("int8"), 7).name, result_type(1, 2.0).name
    ('float16', 'int8', 'float32')
    >>> result_type(float16, bfloat16).name, result_type(uint64, int64).name
    ('float32', 'float32')
    """
    name = _join(frozenset(map(_lattice_name, operands)))
    return {"i*": DEFAULT_INT, "f*": DEFAULT_FLOAT}.get(name) or _BY_NAME[name]


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """The shape and dtype of a tensor, without data; :func:`volta_mlir.spec` makes one.

    Attributes:
        shape: the extent of each axis.
        dtype: the elements' numpy dtype.

    Example:
        >>> s = spec((2, 3), "bfloat16")
        >>> s.shape, s.rank, s.size, s.nbytes
        ((2, 3), 2, 6, 12)
    """

    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        size = 1
        for extent in self.shape:
            size *= extent
        return size

    @property
    def nbytes(self) -> int:
        """Bytes of the elements, densely packed."""
        return self.size * self.dtype.itemsize

    def with_shape(self, shape: tuple[int, ...]) -> TensorSpec:
        return TensorSpec(tuple(shape), self.dtype)

    def with_dtype(self, dtype: np.dtype) -> TensorSpec:
        return TensorSpec(self.shape, dtype)

    def __str__(self) -> str:
        return f"{_NAMES.get(self.dtype) or self.dtype.name}[{','.join(map(str, self.shape))}]"


def require_possible(spec: TensorSpec, where: str) -> None:
    """Raises ShapeError, which says where, for a spec that no tensor can have: extents and sizes fit into 64 bits."""
    if min(spec.shape, default=0) < 0:
        raise ShapeError(f"{where}: the result {spec} has negative extents")
    if max(spec.nbytes, *spec.shape, 0) >= 2**63:
        raise ShapeError(f"{where}: the result {spec} is larger than any memory")


def spec(shape: int | tuple[int, ...] | list[int], dtype: Any = DEFAULT_FLOAT) -> TensorSpec:
    """Stands for a tensor of this shape and dtype where only the signature matters, as in ``jit(f).lower(...)``.

    >>> str(spec((2, 3), "bfloat16"))
    'bfloat16[2,3]'
    """
    shape = (shape,) if isinstance(shape, int) else tuple(int(s) for s in shape)
    if any(s < 0 for s in shape):
        raise DTypeError(f"a shape has no negative extents, got {shape}")
    return TensorSpec(shape, as_dtype(dtype))
