"""What ``volta.debug.print`` prints in a compiled function: records that travel with it.

The values are further results of the function, after those that the caller gets. A record says how many of them are its
own, and makes lines of them after the call.
"""

from __future__ import annotations

import string
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from volta_mlir.errors import OptionError
from volta_mlir.runtime.buffer import numpy_dtype

if TYPE_CHECKING:
    from volta_mlir.runtime.signature import LeafSpec, Tree


class _Formatter(string.Formatter):
    """``str.format`` that refuses arguments without a place in the text."""

    def check_unused_args(self, used_args: set[int | str], args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        unused = [str(i) for i in range(len(args)) if i not in used_args] + [n for n in kwargs if n not in used_args]
        if unused:
            raise ValueError(f"it has no place for the argument {', '.join(unused)}")


@dataclass(frozen=True)
class Print:
    """One line, or several if the text has several.

    Attributes:
        text: a format string.
        arguments: a pair of the positional arguments and of a dict with the others.
        location: the user's ``file:line`` while the program is made.
    """

    text: str
    arguments: Tree
    location: str | None = field(default=None, compare=False)

    def outputs(self) -> list[LeafSpec]:
        """The arrays that :meth:`lines` takes."""
        return self.arguments.leaves()

    def lines(self, arrays: Sequence[np.ndarray]) -> Iterator[str]:
        """What is printed for these values."""
        args, kwargs = self.arguments.unflatten(iter(arrays))
        yield _Formatter().vformat(self.text, args, kwargs)

    def check(self) -> None:
        """Raises OptionError where the text does not fit the arguments, whatever their values are."""
        zeros = [np.zeros(spec.shape, numpy_dtype(spec.dtype)) for spec in self.outputs()]
        try:
            list(self.lines(zeros))
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            reason = str(error)
            if isinstance(error, KeyError):
                reason = f"there is no argument {error}"
            elif isinstance(error, IndexError):
                reason = "it has more fields than there are positional arguments"
            raise OptionError(
                f"debug.print: {self.text!r} does not fit its arguments: {reason}. It takes a format string, such as"
                ' "loss {}" or "loss {loss:.3f}", and the values as arguments; an f-string would be made when the'
                " function is traced"
            ) from None


@dataclass(frozen=True)
class Repeated:
    """Prints of each step of a loop, or of each example of a vmap; their values have one more leading axis.

    Attributes:
        count: how many steps there are.
        prints: those of one step.
        reverse: whether the last step is the first.
    """

    count: int
    prints: tuple[Record, ...]
    reverse: bool = False

    def outputs(self) -> list[LeafSpec]:
        """The arrays that :meth:`lines` takes."""
        return [replace(spec, shape=(self.count, *spec.shape)) for spec in outputs_of(self.prints)]

    def lines(self, arrays: Sequence[np.ndarray]) -> Iterator[str]:
        """What is printed for these values."""
        steps = range(self.count)
        for step in reversed(steps) if self.reverse else steps:
            yield from lines_of(self.prints, [np.asarray(array[step]) for array in arrays])


@dataclass(frozen=True)
class Chosen:
    """Prints of one of several branches; the first value is the number of the branch that ran, not yet clamped.

    Attributes:
        branch: the branch that they belong to.
        branches: how many there are.
        prints: those of the branch.
        index: describes the first value.
    """

    branch: int
    branches: int
    prints: tuple[Record, ...]
    index: LeafSpec

    def outputs(self) -> list[LeafSpec]:
        """The arrays that :meth:`lines` takes."""
        return [self.index, *outputs_of(self.prints)]

    def lines(self, arrays: Sequence[np.ndarray]) -> Iterator[str]:
        """What is printed for these values."""
        if min(max(int(arrays[0]), 0), self.branches - 1) == self.branch:
            yield from lines_of(self.prints, arrays[1:])


Record = Print | Repeated | Chosen


def outputs_of(prints: Sequence[Record]) -> list[LeafSpec]:
    """The arrays that records need, in order."""
    return [spec for record in prints for spec in record.outputs()]


def lines_of(prints: Sequence[Record], arrays: Sequence[np.ndarray]) -> Iterator[str]:
    """What records print for the arrays that :func:`outputs_of` describes."""
    remaining = iter(arrays)
    for record in prints:
        yield from record.lines(list(islice(remaining, len(record.outputs()))))


def first_location(record: Record) -> str | None:
    """The user's line of the first print."""
    return record.location if isinstance(record, Print) else first_location(record.prints[0])
