"""Reads pickles without running them.

A pickle is a program for a small stack machine, one of whose instructions calls any function of any module. The machine
here has the instructions that build containers, numbers and strings, and calls what the caller's table lists. Any
other instruction, and any other name, ends it.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Mapping
from typing import Any

from volta_mlir.errors import WeightsError

_MARK = object()
# Instructions that push their own argument.
_LITERALS = frozenset(
    """BININT BININT1 BININT2 LONG1 LONG4 BINFLOAT BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINSTRING SHORT_BINSTRING
    BINBYTES SHORT_BINBYTES""".split()
)
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "MARK": lambda: _MARK,
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
# Hashing these does not recur, however deep a pickle nests its tuples.
_KEYS = (str, int, float, bytes, type(None))


def as_dict(items: Any) -> dict[Any, Any]:
    """A dict of pairs; ValueError for a key that is no number or string."""
    result = {}
    for key, value in items:
        if not isinstance(key, _KEYS):
            raise ValueError(f"a {type(key).__name__} as a key")
        result[key] = value
    return result


def unpickle(file: Any, known: Mapping[str, Any], persistent: Callable[[Any], Any]) -> Any:
    """The value of a pickle; the file is left behind its end.

    Args:
        file: an ``io.BytesIO`` or a ``mmap``, which reserve no memory for bytes that are not there.
        known: what the pickle may name, by ``"module name"``; it may call the functions among that.
        persistent: gives the value of a persistent id.

    Raises:
        WeightsError: the pickle is damaged, or asks for something else; the message names it, and the byte.

    >>> import io, pickle
    >>> unpickle(io.BytesIO(pickle.dumps({"a": (1, 2.5)}, protocol=2)), {}, str)
    {'a': (1, 2.5)}
    >>> unpickle(io.BytesIO(pickle.dumps(print, protocol=2)), {}, str)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    volta_mlir.errors.WeightsError: the pickle asks for __builtin__.print at byte 2: ...
    """
    machine = _Machine(known, persistent)
    position = 0
    try:
        instructions = pickletools.genops(file)
        while True:
            opcode, argument, at = next(instructions)
            position = at or 0
            if opcode.name == "STOP":
                (value,) = machine.stack
                return value
            machine.run(opcode.name, argument)
    except _Refused as refused:
        raise WeightsError(
            f"the pickle asks for {refused} at byte {position}: only tensors, containers and numbers are loaded, and"
            " nothing was executed. Load it where it was made, and save the tensors alone"
        ) from None
    except WeightsError as error:
        raise WeightsError(f"{error.message}, in the pickle at byte {position}") from error
    except (ValueError, TypeError, LookupError, UnicodeError, OverflowError, AttributeError) as error:
        raise WeightsError(f"a damaged pickle, at byte {position}: {error}") from error


class _Refused(Exception):
    """The name of what a pickle may not have."""


class _Machine:
    def __init__(self, known: Mapping[str, Any], persistent: Callable[[Any], Any]) -> None:
        self.known, self.persistent = known, persistent
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self, name: str, argument: Any) -> None:
        stack = self.stack
        if name in ("PROTO", "FRAME"):
            return
        if name in _LITERALS:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name]())
        elif name in ("BINPUT", "LONG_BINPUT"):
            self.memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(self.memo[argument])
        elif name in _TUPLES:
            stack.append(tuple(self.pop() for _ in range(_TUPLES[name]))[::-1])
        elif name == "TUPLE":
            stack.append(tuple(self.pop_to_mark()))
        elif name == "APPEND":
            self.append([self.pop()])
        elif name == "APPENDS":
            self.append(self.pop_to_mark())
        elif name == "SETITEM":
            self.set_items([self.pop(), self.pop()][::-1])
        elif name == "SETITEMS":
            self.set_items(self.pop_to_mark())
        elif name == "GLOBAL":
            stack.append(self.look_up(argument))
        elif name == "STACK_GLOBAL":
            of, module = self.pop(), self.pop()
            stack.append(self.look_up(f"{module} {of}"))
        elif name == "BINPERSID":
            stack.append(self.persistent(self.pop()))
        elif name == "REDUCE":
            arguments, function = self.pop(), self.pop()
            if not callable(function) or type(arguments) is not tuple:
                raise ValueError("a call of what is no function")
            stack.append(function(*arguments))
        elif name == "BUILD":
            # An OrderedDict's own attributes: PyTorch keeps versions of modules there.
            self.pop()
            if type(stack[-1]) is not dict:
                raise ValueError("attributes of what is no OrderedDict")
        else:
            raise _Refused(f"the instruction {name}")

    def pop(self) -> Any:
        value = self.stack.pop()
        if value is _MARK:
            raise ValueError("a mark in the place of a value")
        return value

    def pop_to_mark(self) -> list[Any]:
        mark = len(self.stack) - 1
        while self.stack[mark] is not _MARK:
            mark -= 1
            if mark < 0:
                raise ValueError("there is no mark")
        values = self.stack[mark + 1 :]
        del self.stack[mark:]
        return values

    def append(self, values: list[Any]) -> None:
        if type(self.stack[-1]) is not list:
            raise ValueError("an element of what is no list")
        self.stack[-1].extend(values)

    def set_items(self, values: list[Any]) -> None:
        if type(self.stack[-1]) is not dict or len(values) % 2:
            raise ValueError("an item of what is no dict")
        self.stack[-1].update(as_dict(zip(values[::2], values[1::2], strict=True)))

    def look_up(self, name: str) -> Any:
        if name not in self.known:
            raise _Refused(name.replace(" ", "."))
        return self.known[name]
