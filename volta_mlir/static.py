"""Static values, those that decide a program: a hashable key for each, and copies that share no mutable container."""

from __future__ import annotations

import copy
from collections.abc import Hashable
from typing import Any

import numpy as np


def is_mutable(value: Any) -> bool:
    """Whether ``value`` can change without an assignment: it is or holds a list, a dict, a set or a writable array."""
    if isinstance(value, tuple):
        return any(map(is_mutable, value))
    if isinstance(value, np.ndarray):
        return value.flags.writeable
    return isinstance(value, (list, dict, set))


def key(value: Any) -> Hashable:
    """A hashable key that is equal for equal values of equal types.

    Raises:
        TypeError: an object that is neither hashable nor a list, a dict, a set or an array.

    >>> key([1, 2.0]) == key([1, 2.0]), key(1) == key(True), key([1]) == key((1,))
    (True, False, False)
    """
    kind = type(value)
    if isinstance(value, float):
        return kind, repr(value)  # tells 0.0 from -0.0, and equates NaN with itself
    if isinstance(value, (list, tuple)):
        return kind, tuple(map(key, value))
    if isinstance(value, dict):
        return kind, tuple((key(k), key(v)) for k, v in value.items())
    if isinstance(value, (set, frozenset)):
        return kind, frozenset(map(key, value))
    if isinstance(value, np.ndarray):
        return kind, value.dtype.str, value.shape, value.tobytes()
    hash(value)
    return kind, value


def copied(value: Any) -> Any:
    """``value`` with its mutable containers and arrays copied."""
    if not is_mutable(value):
        return value
    if isinstance(value, tuple):
        return getattr(type(value), "_make", type(value))(map(copied, value))
    result = copy.copy(value)
    if isinstance(value, list):
        result[:] = map(copied, value)
    elif isinstance(value, dict):
        result.update((k, copied(v)) for k, v in value.items())
    return result
