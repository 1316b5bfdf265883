"""What IREE's ``stream.async`` operations do with buffers, for the modules that read its schedule.

Operations come from MLIR's Python bindings but are only looked at here, so this module imports no binding.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

#: Operations with a region of others, whose block's arguments are the operands and whose results are what it yields.
GROUPS = frozenset({"stream.async.execute", "stream.async.concurrent"})
#: Operations that store their result in their first operand's buffer. The others say so in ``tied_operands``.
WRITES_FIRST_OPERAND = frozenset(
    {
        "stream.async.collective",
        "stream.async.copy",
        "stream.async.fill",
        "stream.async.store",
        "stream.async.update",
    }
)
# For each operand that is a buffer, the indices of the operands that say where in it the operation begins and ends.
_RANGES = {
    "stream.async.collective": {0: (2, 3), 5: (7, 8)},
    "stream.async.copy": {0: (2, 3), 4: (6, 7)},
    "stream.async.fill": {0: (2, 3)},
    "stream.async.slice": {0: (2, 3)},
    "stream.async.update": {0: (2, 3)},
}


def operand_segments(op: Any) -> list[int]:
    """How many operands there are of each kind."""
    return list(op.attributes["operandSegmentSizes"])


def first_argument(op: Any) -> int:
    """The index of a dispatch's first argument: the workload comes before."""
    return operand_segments(op)[0] if op.name == "stream.async.dispatch" else 0


def tied_operands(op: Any) -> list[int | None]:
    """For each result the index of the operand in whose buffer it is stored; None where it has one of its own."""
    if op.name in WRITES_FIRST_OPERAND:
        return [0]
    if "tied_operands" not in op.attributes:
        return [None] * len(op.results)
    base = first_argument(op)
    return [base + tied.value if tied.value >= 0 else None for tied in op.attributes["tied_operands"]]


def entry_point(op: Any) -> str | None:
    """The name of the kernel that a dispatch launches (the first variant's); None for other operations."""
    if "entry_points" not in op.attributes:
        return None
    return str(next(iter(op.attributes["entry_points"])).value[-1])


@dataclass(frozen=True)
class Access:
    """What an operation does with the buffer of one operand.

    Attributes:
        operand: its index.
        begin, end: the bytes, as MLIR values; None for all of them.
        is_write: whether the operation stores a result there.
    """

    operand: int
    begin: Any
    end: Any
    is_write: bool

    def may_meet(self, other: Access) -> bool:
        """Whether some byte of the same buffer may be in both."""
        if self.begin is None or other.begin is None:
            return True
        return _may_be_below(self.begin, other.end) and _may_be_below(other.begin, self.end)


def accesses(op: Any) -> Iterator[Access]:
    """What an operation does with its operands' buffers."""
    operands, tied = list(op.operands), tied_operands(op)
    if op.name == "stream.async.dispatch":
        ranges = _dispatch_ranges(op, operands)
        buffers = list(ranges)
    else:
        ranges = _RANGES.get(op.name, {})
        buffers = [i for i, value in enumerate(operands) if is_buffer(value)]
    for operand in buffers:
        begin, end = (operands[i] for i in ranges[operand]) if operand in ranges else (None, None)
        yield Access(operand, begin, end, operand in tied)


def is_buffer(value: Any) -> bool:
    """Whether a value is a buffer's contents."""
    return str(value.type).startswith("!stream.resource")


def _dispatch_ranges(op: Any, operands: list[Any]) -> dict[int, tuple[int, int]]:
    """The segments are workload, arguments, sizes, offsets, ends, lengths; arguments that are numbers have no range."""
    segments = operand_segments(op)
    base, offsets, ends = segments[0], sum(segments[:3]), sum(segments[:4])
    buffers = [i for i in range(base, base + segments[1]) if is_buffer(operands[i])]
    return {operand: (offsets + n, ends + n) for n, operand in enumerate(buffers)}


def _may_be_below(one: Any, other: Any) -> bool:
    numbers = [_constant(one), _constant(other)]
    return None in numbers or numbers[0] < numbers[1]


def _constant(value: Any) -> Any:
    """The number that a value is; None if it is none in the program."""
    owner = getattr(value.owner, "operation", None)
    return owner.attributes["value"].value if owner is not None and owner.name == "arith.constant" else None
