"""When ops, and groups of them, compute the same from other operands: what repeats in a program is found by this."""

from collections.abc import Sequence
from typing import Any

from volta_mlir.passes.fused import SAVED


def label_of(op: Any) -> tuple[Any, ...]:
    """Equal for operations without regions that do the same to values of the same types, for the same line."""
    attributes = tuple((name, op.attributes[name]) for name in op.attributes if name != SAVED)
    types = tuple(v.type for v in op.operands), tuple(v.type for v in op.results)
    return op.name, attributes, types, op.location.attr


def uses_of(ops: Sequence[Any]) -> tuple[tuple[int, ...], list[tuple[Any, int]]]:
    """How operations use each other's results and values from outside.

    Returns:
        A number for each operand, not negative for results, in the order of the operations, and negative for what comes
        from outside, in the order of first use; and for each of the latter an operation that uses it, and as which
        operand.
    """
    results: dict[Any, int] = {}
    outside: dict[Any, int] = {}
    uses, reads = [], []
    for op in ops:
        for number, value in enumerate(op.operands):
            if value not in results and value not in outside:
                outside[value] = ~len(outside)
                reads.append((op, number))
            uses.append(results[value] if value in results else outside[value])
        for result in op.results:
            results[result] = len(results)
    return tuple(uses), reads
