"""Reads what a compiled function will allocate and run: IREE's ``stream`` level, where every buffer has its size.

What is promised about memory comes from here and not from a model of the program: packed copies for data tiling, and
buffers that IREE keeps because it fuses otherwise than one expects, are in these allocations and nowhere above.

Operations come from MLIR's Python bindings but are only walked here, so this module imports no binding.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Plan:
    """What one call of a compiled function takes, besides its arguments. Sizes are in bytes.

    Attributes:
        results: buffers that are allocated for results. A result in a donated buffer needs none.
        transients: the most that is allocated for intermediate results at any time.
        dispatches: how many kernels are launched.
        kernels: how many different ones.
        transfers: how many copies and fills are carried out between them.
    """

    results: int
    transients: int
    dispatches: int
    kernels: int
    transfers: int


def read_plans(module: Any) -> dict[str, Plan]:
    """The plan of every public function.

    Args:
        module: the ``builtin.module`` operation after IREE's ``stream`` phase.

    Raises:
        ValueError: a size is not known before the program runs.
    """
    functions = (op.operation for op in module.regions[0].blocks[0] if op.operation.name == "util.func")
    return {
        f.attributes["sym_name"].value: _read(f)
        for f in functions
        if "sym_visibility" not in f.attributes or f.attributes["sym_visibility"].value == "public"
    }


def _read(function: Any) -> Plan:
    results = transients = live = dispatches = transfers = 0
    kernels = set()
    for op in _walk(function):
        match op.name:
            case "stream.resource.alloca" | "stream.resource.alloc":
                size = _constant(op.operands[0])
                if "external" in str(op.results[0].type):
                    results += size
                else:
                    live += size
                    transients = max(transients, live)
            case "stream.resource.dealloca":
                if "external" not in str(op.operands[0].type):
                    live -= _constant(op.operands[1])
            case "stream.cmd.dispatch":
                dispatches += 1
                kernels.add(str(op.attributes["entry_points"]))
            case "stream.cmd.copy" | "stream.cmd.fill":
                transfers += 1
    return Plan(results, transients, dispatches, len(kernels), transfers)


def _walk(op: Any) -> Iterator[Any]:
    """The operations inside another one, in the order of the text."""
    for region in op.regions:
        for block in region.blocks:
            for child in block:
                yield child.operation
                yield from _walk(child.operation)


def _constant(value: Any) -> int:
    """The number that an SSA value is; the largest one where branches pass different ones to a block."""
    numbers, pending, seen = [], [value], set()
    while pending:
        one = pending.pop()
        if one in seen:
            continue
        seen.add(one)
        passed = _passed(one)
        if passed:
            pending += passed
        elif getattr(one.owner, "name", None) == "arith.constant":
            numbers.append(int(one.owner.attributes["value"].value))
        else:
            raise ValueError(f"the size {value} is not a constant")
    return max(numbers)


def _passed(value: Any) -> list[Any]:
    """What branches pass to a block's argument; nothing for any other value."""
    block = value.owner
    passed = []
    for predecessor in getattr(block, "predecessors", ()):
        *_, branch = predecessor.operations
        first = {"cf.br": 0, "cf.cond_br": 1}.get(branch.operation.name)
        if first is None:
            return []
        for number, successor in enumerate(branch.operation.successors):
            if successor == block:
                passed.append(branch.operation.operands[first + value.arg_number])
            if number == 0 and first == 1:
                first += branch.operation.attributes["operandSegmentSizes"][1]
    return passed
