"""Looking into programs that run: printing values, and finding where a NaN comes from."""

from __future__ import annotations

import os
from types import TracebackType
from typing import Any

import numpy as np

from volta_mlir.dtypes import is_float
from volta_mlir.errors import OptionError

_enabled = os.environ.get("VOLTA_DEBUG_NANS") == "1"


class debug_nans:
    """Has every operation's floating-point results checked, and :class:`NaNError` raised where one is NaN.

    Outside of compiled functions each operation is checked as it is evaluated. The results of a compiled function are
    checked after every call; if one has a NaN, the function is evaluated again, operation by operation, to find where
    it comes from. The error names that operation and its line, and which operand has a NaN already.

    It holds from the call on, or in a ``with`` block within it. The environment variable ``VOLTA_DEBUG_NANS=1`` turns
    it on from the start. Every result is waited for, and the arguments of compiled functions are copied.

    Args:
        enabled: False turns it off.

    Example:
        >>> import volta_mlir as volta
        >>> with debug_nans():
        ...     try:
        ...         volta.log(volta.Tensor([1.0, -1.0]))
        ...     except volta.NaNError as error:
        ...         print(error.message)
        volta.log gives NaN (1 of 2 elements); none of its operands has one: float32[2]
    """

    def __init__(self, enabled: bool = True) -> None:
        global _enabled
        self._before, _enabled = _enabled, enabled

    def __enter__(self) -> debug_nans:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        global _enabled
        _enabled = self._before


def checks_nans() -> bool:
    """Whether results are checked."""
    return _enabled


def count_nans(array: Any) -> int:
    """The number of NaN in an array; 0 where its dtype has none."""
    return int(np.isnan(array).sum()) if is_float(array.dtype) else 0


def describe(name: str, result: np.ndarray, operands: list[np.ndarray]) -> str:
    """What an operation with a NaN in its result did with which operands."""
    specs = [f"{x.dtype.name}[{','.join(map(str, x.shape))}]" for x in operands]
    already = [
        f"operand {i} ({spec})" for i, (x, spec) in enumerate(zip(operands, specs, strict=True)) if count_nans(x)
    ]
    what = f"{name} gives NaN ({count_nans(result)} of {result.size} elements)"
    if already:
        return f"{what}; {' and '.join(already)} had NaN already"
    return f"{what}; none of its operands has one: {', '.join(specs) or 'there are none'}"


def print(text: str, /, *args: Any, **kwargs: Any) -> None:
    """Prints values, in compiled functions too: when they run, and not when they are traced.

    What a call of a compiled function prints appears when it has ended, in the order of the program. It is not removed,
    though nothing uses it. Loops print each step, branches only where they run, ``vmap`` each example, and
    differentiated functions their values, not derivatives; what is computed again in the backward pass is not printed
    again. A file that ``save`` wrote prints where Volta loads it; for other runtimes the values are further results.

    Args:
        text: a format string with a field for each argument, as ``str.format`` takes it: ``"{}"``, ``"{loss:.3f}"``.
        args: trees of tensors of any shapes and dtypes, which are NumPy arrays in the text, and Python values.
        kwargs: the same, by name.

    Raises:
        OptionError: the text does not fit the arguments.
        TraceError: it is called in a ``while_loop`` or a ``custom_vjp`` function.

    Example:
        >>> import volta_mlir as volta
        >>> @volta.jit
        ... def f(x):
        ...     volta.debug.print("x = {}, its sum {total:.1f}", x, total=x.sum())
        ...     return x * 2
        >>> y = f(volta.Tensor([1.0, 2.0]))
        x = [1. 2.], its sum 3.0
        >>> volta.debug.print("{name} = {}", y, name="y")
        y = [2. 4.]
    """
    from volta_mlir import trace as tracing
    from volta_mlir.calls import as_argument, describe_tree, flatten_tree, numbers_as_static, signature_leaves
    from volta_mlir.frames import user_location
    from volta_mlir.runtime.prints import Print
    from volta_mlir.runtime.signature import leaf

    if not isinstance(text, str):
        raise OptionError(f'debug.print: the first argument is a format string, such as "x = {{}}"; got {text!r}')
    leaves, structure = flatten_tree(numbers_as_static((args, kwargs)))
    tensors = [as_argument(x) for x in leaves]
    specs = [leaf(f"printed.{i}", x.shape, x.dtype.name) for i, x in enumerate(tensors)]
    record = Print(text, describe_tree(signature_leaves(structure, specs)), user_location())
    record.check()
    tracing.emit_print(record, tensors)
