"""Finding where a NaN comes from."""

from __future__ import annotations

import os
from types import TracebackType
from typing import Any

import numpy as np

from volta_mlir.dtypes import is_float

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
