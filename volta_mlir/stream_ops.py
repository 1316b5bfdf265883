"""What IREE's ``stream.async`` operations do with buffers, for the modules that read its schedule.

Operations come from MLIR's Python bindings but are only looked at here, so this module imports no binding.
"""

from __future__ import annotations

from typing import Any

#: Operations with a region of others, whose block's arguments are the operands and whose results are what it yields.
GROUPS = frozenset({"stream.async.execute", "stream.async.concurrent"})
#: Operations that store their result in their first operand's buffer. The others say so in ``tied_operands``.
WRITES_FIRST_OPERAND = frozenset(
    {"stream.async.copy", "stream.async.fill", "stream.async.update", "stream.async.store"}
)


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
