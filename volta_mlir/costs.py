"""What a traced function costs: operations and bytes by the ops' own account, and the least time that they take.

The numbers are counted on the program before it is lowered, where every op is one the user wrote or a derivative of it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from volta_mlir.dialects.base import Cost, Op
from volta_mlir.machines import MACHINES, Machine
from volta_mlir.mlir import function_named, spec_of
from volta_mlir.passes.control_flow import Scan, Switch, While
from volta_mlir.passes.derived import callee_of, control_of, lookup
from volta_mlir.passes.manager import source_location
from volta_mlir.reports import format_bytes


@dataclass(frozen=True)
class Row:
    """All executions of one kind of op on one line of the user's.

    Attributes:
        op: the op's mnemonic, or "fused" for a group that is one kernel.
        location: ``file:line``; "" where there is none.
        dtype: of the result.
        count: how often it is executed.
        cost: of all executions.
    """

    op: str
    location: str
    dtype: str
    count: int
    cost: Cost


@dataclass(frozen=True)
class CostReport:
    """What a call costs; made by ``lowered.cost_report()``.

    Attributes:
        name: the function.
        rows: the costs by op and line. A ``while_loop`` counts as one step, a branch as the dearest of its cases.

    Example:
        >>> import volta_mlir as volta
        >>> report = volta.jit(lambda x, y: x @ y).lower(volta.spec((64, 32)), volta.spec((32, 16))).cost_report()
        >>> report.flops, report.bytes, report.intensity
        (65536, 14336, 4.571428571428571)
        >>> report.seconds("h100") < report.seconds("a100") < report.seconds("cpu-core")
        True
    """

    name: str
    rows: tuple[Row, ...]

    @property
    def flops(self) -> int:
        """Operations."""
        return sum(row.cost.flops for row in self.rows)

    @property
    def bytes(self) -> int:
        """Bytes that the ops read and write, each op by itself and each operand once."""
        return sum(row.cost.bytes for row in self.rows)

    @property
    def intensity(self) -> float:
        """Operations per byte."""
        return self.flops / self.bytes if self.bytes else 0.0

    def seconds(self, machine: str | Machine) -> float:
        """The least time on a machine: each op takes its operations' or its bytes' time, whichever is longer.

        Args:
            machine: a :class:`Machine`, or the name of one in :data:`volta_mlir.machines.MACHINES`.

        Raises:
            KeyError: there is no machine of that name.
        """
        machine = _machine(machine)
        return sum(machine.seconds(row.cost.flops, row.cost.bytes, row.dtype) for row in self.rows)

    def to_text(self, machine: str | Machine = "cpu-core", most: int = 20) -> str:
        """The rows that take longest on a machine, as a table."""
        machine = _machine(machine)
        seconds = [(machine.seconds(row.cost.flops, row.cost.bytes, row.dtype), row) for row in self.rows]
        total = sum(s for s, _ in seconds)
        lines = [
            f"{self.name}: {_short(self.flops)} operations, {format_bytes(self.bytes)} moved,"
            f" {self.intensity:.3g} operations per byte; at least {total * 1e3:.3g} ms on {machine.name}"
        ]
        for s, row in sorted(seconds, key=lambda pair: -pair[0])[:most]:
            share = s / total if total else 0.0
            lines.append(
                f"  {share:6.1%} {_short(row.cost.flops):>8} {format_bytes(row.cost.bytes):>10}"
                f"  {row.count} x {row.op} {row.dtype}  {row.location or '-'}"
            )
        if len(seconds) > most:
            lines.append(f"  and {len(seconds) - most} more")
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.to_text()


def _machine(machine: str | Machine) -> Machine:
    if isinstance(machine, Machine):
        return machine
    if machine not in MACHINES:
        raise KeyError(f"there is no machine {machine!r}; there are {', '.join(MACHINES)}")
    return MACHINES[machine]


def _short(count: float) -> str:
    """A count with a unit: 1.2 G."""
    for unit in ("", " k", " M", " G", " T"):
        if abs(count) < 1000:
            return f"{count:.3g}{unit}"
        count /= 1000
    return f"{count:.3g} P"


def cost_report(module: Any, name: str) -> CostReport:
    """Counts a function of a module of volta ops."""
    grouped: dict[tuple[str, str, str], list[tuple[int, Cost]]] = defaultdict(list)
    for op, location, dtype, times, cost in _costs(module, function_named(module, name)):
        grouped[op, location, dtype].append((times, cost))
    rows = [
        Row(
            *key, sum(n for n, _ in found), Cost(sum(n * c.flops for n, c in found), sum(n * c.bytes for n, c in found))
        )
        for key, found in grouped.items()
    ]
    return CostReport(name, tuple(rows))


_Item = tuple[str, str, str, int, Cost]


def _costs(module: Any, function: Any) -> Iterator[_Item]:
    """(op, location, dtype, executions, cost of one) of everything that a call of a function executes."""
    for op in function.entry_block.operations:
        if isinstance(op, Op):
            operands, results = (
                [spec_of(v.type) for v in values] for values in (op.operation.operands, op.operation.results)
            )
            cost = op.cost(operands, results, **op.attribute_values())
            yield op.mnemonic, source_location(op.location) or "", results[0].dtype.name, 1, cost
        elif op.operation.name == "func.call":
            yield from _costs_of_call(module, function, op)


def _costs_of_call(module: Any, caller: Any, op: Any) -> Iterator[_Item]:
    callee = callee_of(op)
    control = control_of(callee)
    if control is None:
        yield from _costs(module, callee)
        return
    parts = [list(_costs(module, lookup(module, part, caller))) for part in control.parts]
    times = control.length if isinstance(control, Scan) else 1
    if isinstance(control, Switch):
        parts = [max(parts, key=lambda items: sum(item[-1].flops + item[-1].bytes for item in items))]
    assert isinstance(control, Scan | Switch | While), control
    for name, location, dtype, count, cost in (item for items in parts for item in items):
        yield name, location, dtype, count * times, cost
