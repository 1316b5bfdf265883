"""Tensor: the value that users hold, concrete (numpy or device memory) or traced (an MLIR value)."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from functools import lru_cache
from types import ModuleType
from typing import Any

import numpy as np

from volta_mlir.dtypes import TensorSpec, as_dtype, is_float, is_integer
from volta_mlir.errors import DTypeError, ShapeError, TraceError


@lru_cache(maxsize=1)
def _functions() -> ModuleType:
    # Imported at first use: it needs the dialect, which a program that only runs artifacts does without.
    from volta_mlir import functions

    return functions


def _check_updatable(tensor: Tensor) -> None:
    from volta_mlir.trace import check_updatable

    check_updatable(tensor)


def _rank_of(dtype: np.dtype) -> int:
    """Which dtypes a value can be stored as: bool as any, integers as numbers, floats as floats."""
    return 2 if is_float(dtype) else int(is_integer(dtype))


def _is_one(alpha: Any) -> bool:
    return isinstance(alpha, int | float) and alpha == 1


def _weak_if(result: Tensor, *operands: Any) -> Tensor:
    """The result of arithmetic, weak as that of Python's own where all operands are numbers from Python."""
    if operands[0]._weak:
        result._weak = all(x._weak if isinstance(x, Tensor) else isinstance(x, int | float) for x in operands)
    return result


def _check_range(array: np.ndarray, dtype: np.dtype) -> None:
    """Raises DTypeError where a Python number would wrap around."""
    limits = np.iinfo(dtype)
    if array.size and (int(array.min()) < limits.min or int(array.max()) > limits.max):
        wrong = next(int(x) for x in array.flat if not limits.min <= int(x) <= limits.max)
        raise DTypeError(f"{wrong} does not fit {dtype.name}, which goes from {limits.min} to {limits.max}")


class Tensor:
    """An n-dimensional array of one dtype, with numpy's operators and broadcasting.

    Outside a trace a Tensor is *concrete*: it holds a numpy array or a device buffer, and operators evaluate at
    once. Inside ``jit`` and the transforms it is *traced*: it stands for a value of the program being built, has a
    shape and a dtype but no data, and operators emit ops.

    Values never change. Assigning to elements (``x[i] = y``) and the methods that end in an underscore (``x.add_(y)``)
    give the object ``x`` a new value of the same shape and dtype; other tensors, and the arrays they were made from,
    keep theirs. In a compiled function the new value takes the old one's memory where nothing else needs that.

    Args:
        data: anything numpy turns into an array of a supported dtype; Python floats become float32 and ints int32.
        dtype: converts to this dtype.

    Raises:
        DTypeError: the dtype is not supported, or a Python int does not fit it.

    Example:
        >>> x = Tensor([[1.0, 2.0], [3.0, 4.0]])
        >>> (x @ x).tolist()
        [[7.0, 10.0], [15.0, 22.0]]
    """

    __slots__ = ("_data", "_emitter", "_program", "_value", "_weak", "spec", "__weakref__")
    __array_priority__ = 1000  # numpy arrays on the left leave the operator to Tensor

    _data: Any
    _value: Any
    _emitter: Any
    _program: str | None  # the compiled function that this concrete tensor is a constant of
    _weak: bool  # made of Python numbers alone: does not widen what it meets
    spec: TensorSpec

    def __init__(self, data: Any, dtype: Any = None) -> None:
        if isinstance(data, Tensor):
            data = data.numpy()
        try:
            array = np.array(data)  # a copy: tensors never change, arrays may
        except ValueError as error:  # lists of different lengths
            raise ShapeError(f"a tensor has as many elements in every row: {error}") from None
        if not hasattr(data, "dtype"):  # Python scalars and lists take Volta's defaults, not numpy's 64 bits
            defaults = {"float64": "float32", "int64": "int32"}
            dtype = as_dtype(dtype or defaults.get(array.dtype.name, array.dtype))
            if is_integer(dtype) and is_integer(array.dtype):
                _check_range(array, dtype)
        # Also without a change of dtype: an array of the other byte order is converted.
        try:
            array = array.astype(as_dtype(array.dtype if dtype is None else dtype), copy=False)
        except OverflowError:  # a Python int beyond all of NumPy's
            raise DTypeError(f"{data} does not fit {as_dtype(dtype).name}") from None
        self._data, self._value, self._emitter, self._program, self._weak = array, None, None, None, False
        self.spec = TensorSpec(array.shape, as_dtype(array.dtype))

    @classmethod
    def _concrete(cls, data: Any, spec: TensorSpec) -> Tensor:
        """Wraps a numpy array or a device buffer as it is."""
        self = object.__new__(cls)
        self._data, self._value, self._emitter, self._program, self.spec = data, None, None, None, spec
        self._weak = False
        return self

    @classmethod
    def _traced(cls, value: Any, spec: TensorSpec, emitter: Any) -> Tensor:
        """Wraps an MLIR value that ``emitter`` (see :mod:`volta_mlir.trace`) built."""
        self = object.__new__(cls)
        self._data, self._value, self._emitter, self._program, self.spec = None, value, emitter, None, spec
        self._weak = False
        return self

    # -- what it is --------------------------------------------------------------------------------------------

    @property
    def is_traced(self) -> bool:
        """True for a value of a program being traced, which has no data yet."""
        return self._value is not None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.spec.shape

    @property
    def dtype(self) -> np.dtype:
        return self.spec.dtype

    @property
    def ndim(self) -> int:
        return len(self.spec.shape)

    @property
    def size(self) -> int:
        return self.spec.size

    @property
    def nbytes(self) -> int:
        return self.spec.nbytes

    @property
    def data(self) -> Any:
        """The numpy array or device buffer of a concrete tensor."""
        self._need_data("its data is read", "return it from the function and read it outside")
        return self._data

    def __repr__(self) -> str:
        if self.is_traced:
            return f"Tensor<{self.spec}, traced>"
        text = np.array2string(self.numpy(), separator=", ", prefix="Tensor(", threshold=100)
        return f"Tensor({text}, dtype={self.dtype.name})"

    def __format__(self, spec: str) -> str:
        """A format such as ``.3f`` applies to the number that a tensor of rank 0 holds."""
        return format(self.item(), spec) if spec and not self.shape else super().__format__(spec)

    def __reduce__(self) -> Any:
        # For pickle and copy, which must not share memory: a copy lives on when the original is donated.
        self._need_data("it is copied or pickled", "copy it outside")
        return Tensor, (self.numpy(),)

    # -- data out ----------------------------------------------------------------------------------------------

    def _need_data(self, what: str, instead: str) -> None:
        if self.is_traced:
            raise TraceError(
                f"{what}, but {self.spec} is traced and has no value until the compiled program runs; {instead}"
            )

    def numpy(self) -> np.ndarray:
        """The data as a read-only numpy array; without a copy where the memory allows it."""
        data = self.data
        if not isinstance(data, np.ndarray):
            return data.numpy()
        view = data.view()
        view.flags.writeable = False
        return view

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        array = self.numpy()
        array = array if dtype is None else array.astype(dtype, copy=False)
        return array.copy() if copy else array

    def __volta_buffer__(self) -> Any:
        """For compiled modules: the device buffer, or the numpy array in host memory."""
        return self.data

    def __dlpack__(self, **kwargs: Any) -> Any:
        return self.data.__dlpack__(**kwargs)

    def __dlpack_device__(self) -> Any:
        return self.data.__dlpack_device__()

    def item(self) -> Any:
        """The only element, as a Python scalar; raises ValueError where there is not exactly one."""
        self._need_data("item() is called", "return the tensor and call item() outside")
        return self.numpy().item()

    def tolist(self) -> Any:
        """The data as nested Python lists."""
        return self.numpy().tolist()

    def __bool__(self) -> bool:
        self._need_data(
            "Python's if, while, and, or, not needs True or False",
            "use volta.where to select values, or mark the argument static= if it decides the program's structure",
        )
        return bool(self.numpy())

    def __float__(self) -> float:
        self._need_data("float() is called", "keep it a tensor, or pass the number as a static= argument")
        return float(self.numpy())

    def __int__(self) -> int:
        self._need_data("int() is called", "keep it a tensor, or pass the number as a static= argument")
        return int(self.numpy())

    def __index__(self) -> int:
        self._need_data(
            "a Python index or range needs an int",
            "index tensors with tensors (x[i]), use volta.dynamic_slice, or pass the number as a static= argument",
        )
        return operator.index(self.numpy().item())

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of a tensor of rank 0")
        return self.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))

    def __hash__(self) -> int:
        return id(self)

    # -- operators -----------------------------------------------------------------------------------------------

    def __add__(self, other: Any) -> Tensor:
        return _weak_if(_functions().add(self, other), self, other)

    def __radd__(self, other: Any) -> Tensor:
        return _weak_if(_functions().add(other, self), self, other)

    def __sub__(self, other: Any) -> Tensor:
        return _weak_if(_functions().subtract(self, other), self, other)

    def __rsub__(self, other: Any) -> Tensor:
        return _weak_if(_functions().subtract(other, self), self, other)

    def __mul__(self, other: Any) -> Tensor:
        return _weak_if(_functions().multiply(self, other), self, other)

    def __rmul__(self, other: Any) -> Tensor:
        return _weak_if(_functions().multiply(other, self), self, other)

    def __truediv__(self, other: Any) -> Tensor:
        return _weak_if(_functions().divide(self, other), self, other)

    def __rtruediv__(self, other: Any) -> Tensor:
        return _weak_if(_functions().divide(other, self), self, other)

    def __floordiv__(self, other: Any) -> Tensor:
        return _weak_if(_functions().floor_divide(self, other), self, other)

    def __rfloordiv__(self, other: Any) -> Tensor:
        return _weak_if(_functions().floor_divide(other, self), self, other)

    def __mod__(self, other: Any) -> Tensor:
        return _weak_if(_functions().mod(self, other), self, other)

    def __rmod__(self, other: Any) -> Tensor:
        return _weak_if(_functions().mod(other, self), self, other)

    def __pow__(self, other: Any) -> Tensor:
        return _weak_if(_functions().power(self, other), self, other)

    def __rpow__(self, other: Any) -> Tensor:
        return _weak_if(_functions().power(other, self), self, other)

    def __matmul__(self, other: Any) -> Tensor:
        return _functions().matmul(self, other)

    def __rmatmul__(self, other: Any) -> Tensor:
        return _functions().matmul(other, self)

    def __and__(self, other: Any) -> Tensor:
        return _functions().bitwise_and(self, other)

    def __rand__(self, other: Any) -> Tensor:
        return _functions().bitwise_and(other, self)

    def __or__(self, other: Any) -> Tensor:
        return _functions().bitwise_or(self, other)

    def __ror__(self, other: Any) -> Tensor:
        return _functions().bitwise_or(other, self)

    def __xor__(self, other: Any) -> Tensor:
        return _functions().bitwise_xor(self, other)

    def __rxor__(self, other: Any) -> Tensor:
        return _functions().bitwise_xor(other, self)

    def __lshift__(self, other: Any) -> Tensor:
        return _functions().left_shift(self, other)

    def __rlshift__(self, other: Any) -> Tensor:
        return _functions().left_shift(other, self)

    def __rshift__(self, other: Any) -> Tensor:
        return _functions().right_shift(self, other)

    def __rrshift__(self, other: Any) -> Tensor:
        return _functions().right_shift(other, self)

    def __neg__(self) -> Tensor:
        return _weak_if(_functions().negative(self), self)

    def __pos__(self) -> Tensor:
        return self

    def __abs__(self) -> Tensor:
        return _weak_if(_functions().abs(self), self)

    def __invert__(self) -> Tensor:
        return _functions().bitwise_not(self)

    # Comparisons are elementwise, as numpy's, but for None and strings, which no element is equal to.

    def __eq__(self, other: Any) -> Any:
        return NotImplemented if other is None or isinstance(other, str) else _functions().equal(self, other)

    def __ne__(self, other: Any) -> Any:
        return NotImplemented if other is None or isinstance(other, str) else _functions().not_equal(self, other)

    def __lt__(self, other: Any) -> Tensor:
        return _functions().less(self, other)

    def __le__(self, other: Any) -> Tensor:
        return _functions().less_equal(self, other)

    def __gt__(self, other: Any) -> Tensor:
        return _functions().greater(self, other)

    def __ge__(self, other: Any) -> Tensor:
        return _functions().greater_equal(self, other)

    def __getitem__(self, index: Any) -> Tensor:
        return _functions().getitem(self, index)

    @property
    def at(self) -> Any:
        """``x.at[index].set(y)``, ``add``, ``mul``, ``div``, ``max``, ``min`` give ``x`` updated at an index."""
        return _functions().indexing.At(self)

    # -- in place ------------------------------------------------------------------------------------------------

    def _become(self, new: Tensor) -> Tensor:
        """Gives this object the value of ``new``, converted to its dtype as PyTorch does."""
        if new.shape != self.shape:
            raise ShapeError(f"an in-place operation can't change {self.spec} to the shape {list(new.shape)}")
        if _rank_of(new.dtype) > _rank_of(self.dtype):
            raise DTypeError(f"the result of an in-place operation is {new.dtype.name}, which {self.spec} can't hold")
        new = new.astype(self.dtype)
        # What another tensor holds on a device may be donated with it.
        self._data = new._data if new._data is None or isinstance(new._data, np.ndarray) else new.numpy().copy()
        self._value, self._weak = new._value, False
        return self

    def _updated(self, function: str, *args: Any, **kwargs: Any) -> Tensor:
        """Gives this object the value of a function of it."""
        _check_updatable(self)
        return self._become(getattr(_functions(), function)(self, *args, **kwargs))

    def __setitem__(self, index: Any, value: Any) -> None:
        """``value``, converted to the dtype and broadcast, takes the place of the elements at ``index``."""
        _check_updatable(self)
        self._become(self.at[index].set(value))

    def add_(self, other: Any, *, alpha: Any = 1) -> Tensor:
        """Adds ``alpha * other`` in place; returns this tensor.

        >>> x = Tensor([1.0, 2.0])
        >>> y = x.add_(1).mul_(10)
        >>> x.tolist(), y is x
        ([20.0, 30.0], True)
        """
        return self._updated("add", other if _is_one(alpha) else _functions().multiply(alpha, other))

    def sub_(self, other: Any, *, alpha: Any = 1) -> Tensor:
        """Subtracts ``alpha * other`` in place; returns this tensor."""
        return self._updated("subtract", other if _is_one(alpha) else _functions().multiply(alpha, other))

    def mul_(self, other: Any) -> Tensor:
        """Multiplies by ``other`` in place; returns this tensor."""
        return self._updated("multiply", other)

    def div_(self, other: Any) -> Tensor:
        """Divides by ``other`` in place, which takes a floating-point tensor; returns this tensor."""
        return self._updated("divide", other)

    def pow_(self, exponent: Any) -> Tensor:
        """Raises to a power in place; returns this tensor."""
        return self._updated("power", exponent)

    def clamp_(self, min: Any = None, max: Any = None) -> Tensor:
        """Limits to the interval from ``min`` to ``max`` in place; returns this tensor."""
        return self._updated("clip", min, max)

    def copy_(self, src: Any) -> Tensor:
        """Takes the values of ``src``, converted to the dtype and broadcast; returns this tensor."""
        _check_updatable(self)
        return self._become(_functions().broadcast_to(_functions().astype(src, self.dtype), self.shape))

    def fill_(self, value: Any) -> Tensor:
        """Takes ``value``, a scalar, everywhere; returns this tensor."""
        if isinstance(value, Tensor) and value.shape:
            raise ShapeError(f"fill_ takes a scalar, got {value.spec}")
        return self.copy_(value)

    def zero_(self) -> Tensor:
        """Takes 0 everywhere; returns this tensor."""
        return self.copy_(0)

    def clone(self) -> Tensor:
        """A tensor of its own with the same values, which in-place methods of this one do not change.

        Inside a traced function it belongs to that function, and can be changed there.
        """
        from volta_mlir.trace import clone

        return clone(self)

    # -- methods: the function of the same name, with self as its first argument -------------------------------

    def __getattr__(self, name: str) -> Any:
        if name in _METHODS:
            function = getattr(_functions(), name)
            return lambda *args, **kwargs: function(self, *args, **kwargs)
        raise AttributeError(f"Tensor has no attribute {name!r}")

    @property
    def T(self) -> Tensor:
        """The axes reversed."""
        return _functions().transpose(self)

    @property
    def mT(self) -> Tensor:
        """The last two axes exchanged."""
        return _functions().swapaxes(self, -1, -2)

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *_METHODS]


#: Functions of the namespace that are methods too.
_METHODS = frozenset(
    """
    abs all any argmax argmin argsort astype broadcast_to ceil clip cos cummax cumprod cumsum erf exp
    expand_dims flatten floor isfinite isinf isnan log log1p max mean min prod ravel reciprocal repeat reshape
    round rsqrt sigmoid sign sin sort sqrt square squeeze std sum swapaxes take tanh transpose trunc var
    """.split()
)
