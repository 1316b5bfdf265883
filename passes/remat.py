"""volta-remat: values of the forward pass that are computed again in the backward pass, so that they take less memory.

With a budget in bytes, as many as it takes; without one those that need next to no time, such as the output of an
activation whose input is kept as well.

The program is seen as volta-fuse will divide it: its dispatches are the tasks, and the values that it stores are what
takes memory (:class:`_Program`). :mod:`volta_mlir.recompute` decides which of them are dropped. Then the ops of a
dropped value are copied to just before the first task that needs it again (:class:`_Rewrite`).

A copy must not be merged with its original, nor run before it is needed. So where a copy is made of kept values only,
one of its operands, the smallest, goes through ``volta.after``, which waits for what the task reads besides. All
operands do where IREE packs them (:func:`_packs`).
"""

import functools
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from volta_mlir import trace
from volta_mlir.dialects.attention import AttentionGradOp, AttentionOp, MaskedAttentionGradOp, MaskedAttentionOp
from volta_mlir.dialects.base import Op
from volta_mlir.dialects.contraction import DotGeneralOp
from volta_mlir.dialects.control import AfterOp
from volta_mlir.dialects.convolution import Convolutional, ConvolutionOp
from volta_mlir.dialects.movement import ReshapeOp
from volta_mlir.dtypes import TensorSpec, bool_
from volta_mlir.errors import BudgetError
from volta_mlir.machines import MACHINES
from volta_mlir.mlir import ir, spec_of
from volta_mlir.passes.alias import result_pairs
from volta_mlir.passes.derived import functions, is_private, replace_operands
from volta_mlir.passes.fuse import Dispatch, Fuse, FusionPlan, Node, Value, erase_unused
from volta_mlir.passes.fused import is_fused
from volta_mlir.passes.manager import Pass, UpstreamPass, innermost_location, option, source_location
from volta_mlir.recompute import Choice, Graph, Task, plan, simulate, spare
from volta_mlir.reports import format_bytes

#: The attribute of an op that computes a value again.
RECOMPUTED = "volta.recomputed"
#: Ops that take long for their bytes.
_PRODUCTS = (DotGeneralOp, Convolutional, AttentionOp, AttentionGradOp, MaskedAttentionOp, MaskedAttentionGradOp)
#: Functions whose values take no more than this together keep all of them, without a budget.
_WORTHWHILE = 32 * 2**20
#: How often a plan is made for less than the budget, because carrying out the last one took more than planned.
_ATTEMPTS = 6
#: How often what is left over the budget is planned anew, around the new peak.
_ROUNDS = 3
#: How much more than was planned, as a share, may come out without another attempt.
_CLOSE = 0.03


@dataclass
class Remat(Pass, name="volta-remat"):
    """Compute values again in the backward pass: what is cheap, or as much as a budget of bytes takes."""

    budget: int | None = option(None, "the most bytes of arguments, results and transients; 0: as few as possible")
    share: float = option(0.03, "without a budget: the most time that is added, as a share of the whole")

    def run(self, module: Any) -> None:
        if self.budget is None and not self.share:
            return
        UpstreamPass("cse").run(module)  # what is equal is one value, whose copies are told apart from it
        for function in functions(module):
            if is_private(function) or function.is_external or is_fused(function) or len(function.body.blocks) > 1:
                continue
            if self.budget:
                self._meet(function, self.budget)
            elif self.budget == 0:
                _minimize(function)
            elif _result_bytes(function) > _WORTHWHILE:
                program = _Program(function)
                found = spare(program.graph(), self.share)
                _Rewrite(program, found.choice).carry_out()

    def _meet(self, function: Any, budget: int) -> None:
        program = _Program(function)
        room = budget - program.fixed
        aim, least = max(room, 0), simulate(program.graph()).peak
        if least <= room:
            return
        for number in range(_ATTEMPTS):
            # Copies change what is fused, and so the peak, a little: what comes out may miss what was aimed at.
            attempt, peak, _ = _recompute(_copy(function), aim)
            least = min(peak, least)
            if peak <= room:
                function.erase()
                return
            attempt.erase()
            if not aim:
                break
            aim = 0 if number == _ATTEMPTS - 2 else max(aim - max(peak - room, aim // 50), 0)
        least += program.fixed
        raise BudgetError(
            f"@{function.sym_name.value} needs {least} bytes ({format_bytes(least)}) at least, which is more than the"
            f" budget of {format_bytes(budget)}; {format_bytes(program.fixed)} are arguments and results",
            location=source_location(function.location),
        )


def _result_bytes(function: Any) -> int:
    results = (r for op in function.entry_block.operations for r in op.operation.results)
    return sum(spec_of(r.type).nbytes for r in results if isinstance(r.type, ir.RankedTensorType))


def _minimize(function: Any) -> None:
    """Puts in place of a function what takes the least that is found.

    Where copies are fused so that less is spared than was planned, a plan that spares less may come to more.
    """
    best, least, lowest = _recompute(_copy(function), 0)
    if least > lowest * (1 + _CLOSE):
        base = simulate(_Program(function).graph()).peak
        for number in range(1, _ATTEMPTS):
            attempt, peak, planned = _recompute(_copy(function), lowest + (base - lowest) * number // 8)
            worse = attempt
            if peak < least:
                worse, best, least = best, attempt, peak
            worse.erase()
            if peak <= planned * (1 + _CLOSE):
                break
    function.erase()


def _copy(function: Any) -> Any:
    return function.operation.clone(ip=ir.InsertionPoint(function)).opview


def _recompute(function: Any, room: int) -> tuple[Any, int, int]:
    """Has a function compute values again.

    Returns:
        What takes its place; its peak, which may exceed the room; and the peak that was planned at first.
    """
    program = _Program(function)
    graph = program.graph()
    peak = planned = simulate(graph).peak
    for number in range(_ROUNDS):
        found = plan(graph, room)
        if not number:
            planned = found.outcome.peak
        if not found.choice.dropped:
            break
        before = _copy(function)
        _Rewrite(program, found.choice).carry_out()
        program = _Program(function)
        graph = program.graph()
        reached = simulate(graph).peak
        if reached >= peak:  # what is fused otherwise took all that the plan had spared
            function.erase()
            return before, peak, planned
        before.erase()
        peak = reached
        if peak <= room:
            break
    return function, peak, planned


class _Program:
    """A function as the planner sees it.

    Attributes:
        fixed: the bytes of arguments, and of results that take no donated argument's memory.
        tasks: the dispatches that are the graph's tasks.
        numbers: the number in the graph of each value that takes memory.
    """

    def __init__(self, function: Any) -> None:
        self.function = function
        self.plan = FusionPlan(function, Fuse())
        self.end = self.plan.nodes[-1]
        dispatches = self.plan.dispatches()
        self._put_in_order(dispatches)
        self._memory: dict[Value, Value] = {}  # what is a view of another value
        self.tasks: list[Dispatch] = []
        for dispatch in dispatches:
            (first, *_) = dispatch.results
            if isinstance(first.op, ReshapeOp):
                self._memory[first.result] = self.memory_of(first.operands[0])
            else:
                self.tasks.append(dispatch)
        donated = result_pairs(function)
        results = [v.nbytes for i, v in enumerate(self.end.operands) if i not in donated.values()]
        self.fixed = sum(v.nbytes for v in self.plan.arguments) + sum(results)
        made = [v for task in self.tasks for v in self.made_by(task)]
        self.numbers = {value: number for number, value in enumerate([*self.plan.arguments, *made])}

    def graph(self) -> Graph:
        """The program as tasks."""
        returned = {self.memory_of(v) for v in self.end.operands}
        sizes = [0 if v.producer is None or v in returned else v.nbytes for v in self.numbers]
        values = list(self.numbers)
        recipe = functools.cache(lambda number: self._recipe(values[number]))
        return Graph(tuple(self._task(task) for task in self.tasks), tuple(sizes), recipe)

    def _put_in_order(self, dispatches: list[Dispatch]) -> None:
        """Puts the ops in the order of the dispatches, each op that is computed inside one before the first of them."""
        placed: set[Node] = set()
        end = self.end.op.operation

        def place(node: Node) -> None:
            pending = [(node, False)]
            while pending:
                one, is_ready = pending.pop()
                if one in placed:
                    continue
                if is_ready:
                    placed.add(one)
                    one.op.operation.move_before(end)
                else:
                    pending.append((one, True))
                    pending += [(v.producer, False) for v in one.operands if v.producer is not None]

        for node in [*(node for dispatch in dispatches for node in dispatch.results), *self.plan.nodes[:-1]]:
            place(node)

    def memory_of(self, value: Value) -> Value:
        """The value whose memory a value is in."""
        return self._memory.get(value, value)

    def made_by(self, task: Dispatch) -> list[Value]:
        """The values that others read of what a task computes; what passes between its parts only is not stored."""
        inside = {node for group in task.groups for node in group.ops}
        values = [v for node in task.results for v in node.results]
        return [v for v in values if not v.stored or set(v.users) - inside]

    def _task(self, dispatch: Dispatch) -> Task:
        nodes = [node for group in dispatch.groups for node in group.ops]
        return self._computation(nodes, dispatch.inputs, self.made_by(dispatch), dispatch.results[-1])

    def _recipe(self, value: Value) -> Task:
        """How a value is computed again from other values that are stored."""
        assert value.producer is not None
        nodes = {value.producer: None}
        inputs: dict[Value, None] = {}
        pending = [value.producer]
        while pending:
            for operand in pending.pop().operands:
                node = operand.producer
                if node is None or self.memory_of(operand) in self.numbers:
                    inputs[operand] = None
                elif node not in nodes:
                    nodes[node] = None
                    pending.append(node)
        return self._computation(list(nodes), list(inputs), [value], value.producer)

    def _computation(self, nodes: list[Node], inputs: list[Value], outputs: list[Value], last: Node) -> Task:
        read = [v for v in dict.fromkeys(map(self.memory_of, inputs)) if v in self.numbers]
        ops = [node.op for node in nodes]
        moved = sum(v.nbytes for v in (*read, *outputs))
        dtype = outputs[0].spec.dtype.name if outputs else "float32"
        place = innermost_location(last.op.location)
        return Task(
            inputs=tuple(self.numbers[v] for v in read),
            outputs=tuple(self.numbers[v] for v in outputs),
            seconds=MACHINES["cpu-core"].seconds(sum(node.cost.flops for node in nodes), moved, dtype),
            # IREE packs what a product reads, and what it writes, into tiles.
            workspace=moved if any(isinstance(op, DotGeneralOp) for op in ops) else 0,
            recomputable=all(isinstance(op, Op) and op.pure and not list(op.operation.regions) for op in ops),
            is_product=any(isinstance(op, _PRODUCTS) for op in ops),
            label=(place, last.op.operation.name, outputs[0].spec if outputs else None),
        )


def _can_be_token(value: Value) -> bool:
    return value.spec.dtype != bool_ and value.spec.size > 0


def _bytes_read(user: Node, value: Value) -> int:
    """What is read of a value where ``volta.after`` gives it to an op: nothing of a constant in the op's loops."""
    is_constant = value.producer is not None and not value.producer.operands
    return 0 if user.fusable and is_constant else value.nbytes


def _packs(node: Node) -> bool:
    """Whether IREE may pack what an op reads into tiles: what the first run packs would be kept for the second."""
    if isinstance(node.op, DotGeneralOp):
        return True
    if not isinstance(node.op, ConvolutionOp):
        return False
    kernel = node.operands[1].spec.shape
    return all(extent == 1 for extent in (kernel[:-2] if node.op.layout[-1] == "C" else kernel[2:]))


def _ancestors(nodes: Sequence[Node]) -> set[Node]:
    """The nodes and all that they are computed from."""
    found, pending = set(nodes), list(nodes)
    while pending:
        for value in pending.pop().operands:
            if value.producer is not None and value.producer not in found:
                found.add(value.producer)
                pending.append(value.producer)
    return found


class _Rewrite:
    """Carries out a choice: copies ops, and has the tasks behind the boundary use the copies."""

    def __init__(self, program: _Program, choice: Choice) -> None:
        self.program = program
        values = list(program.numbers)
        self.dropped = {values[number] for number in choice.dropped}
        self.late = program.tasks[choice.boundary + 1 :]
        # Fusion would store what a dropped value's cone shares with the forward pass, if copies used it as well.
        producers = [v.producer for v in self.dropped if v.producer is not None]
        self.cones = {node for producer in producers for node in program.plan.cone([producer])[0]}
        self.late_nodes = {node for task in self.late for node in task.results}
        # What an early task computes for itself, and a late one stores, stands before the copies.
        early_results = [node for task in program.tasks[: choice.boundary + 1] for node in task.results]
        self.early_nodes = _ancestors(early_results)
        self.made_late = {v for task in self.late for v in program.made_by(task)}
        self.copies: dict[Value, Any] = {}
        early = (v for task in program.tasks[choice.boundary :: -1] for node in task.results for v in node.results)
        self.token: Any = next((v.handle for v in early if _can_be_token(v)), None)

    def carry_out(self) -> None:
        if not self.dropped or self.token is None:  # nothing in this program can be waited for
            return
        for task in self.late:
            self.token = self._token(task) or self.token
            for node in task.results:
                if node in self.early_nodes:
                    continue
                replace_operands(node.op, {v.handle: self._late(v, node.op.operation) for v in node.operands})
        erase_unused(list(self.program.function.entry_block.operations))

    def _after(self, value: Any, before: Any) -> Any:
        """The value behind the token, for an operation."""
        emitter: Any
        with trace.emitting(ir.InsertionPoint(before), before.location) as emitter:
            return AfterOp.of(emitter.wrap(value), emitter.wrap(self.token))._value

    def _token(self, task: Dispatch) -> Any:
        """What the task reads that is computed last, of what is computed behind the boundary."""
        read = map(self.program.memory_of, task.inputs)
        usable = [v for v in read if v in self.made_late and _can_be_token(v)]
        return max(usable, key=lambda v: self.program.numbers[v]).handle if usable else None

    def _late(self, value: Value, before: Any) -> Any:
        """The value as a task behind the boundary uses it; what has to be computed again goes before an operation."""
        pending = [(value, False)]
        while pending:
            one, is_ready = pending.pop()
            node = one.producer
            if one in self.copies:
                continue
            if node is None or node in self.late_nodes or (one in self.program.numbers and one not in self.dropped):
                self.copies[one] = one.handle
            elif is_ready:
                self._copy(node, before)
            else:
                pending.append((one, True))
                pending += [(v, False) for v in node.operands]
        return self.copies[value]

    def _copy(self, node: Node, before: Any) -> None:
        operands = [self.copies[v] for v in node.operands]
        is_changed = any(new != v.handle for new, v in zip(operands, node.operands, strict=True))
        # What passes between the parts of one task would be stored if a later task read it.
        inside = not isinstance(node.op, ReshapeOp) and any(
            v.stored and v not in self.program.numbers for v in node.results
        )
        must_differ = inside or node in self.cones or any(v in self.dropped for v in node.results)
        if not operands or not (is_changed or must_differ):
            self.copies.update((v, v.handle) for v in node.results)
            return
        with node.op.location, ir.InsertionPoint(before):
            copy = node.op.operation.clone()
            copy.attributes[RECOMPUTED] = ir.UnitAttr.get()
            if not is_changed:
                cost = [_bytes_read(node, v) for v in node.operands]
                for i in range(len(operands)) if _packs(node) else [cost.index(min(cost))]:
                    operands[i] = self._after(operands[i], copy)
        for i, operand in enumerate(operands):
            copy.operands[i] = operand
        self.copies.update(zip(node.results, copy.results, strict=True))


# -- the report ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Recomputed:
    """What is computed again of one line.

    Attributes:
        op: the op's mnemonic.
        spec: the shape and dtype of its result.
        location: the user's line, ``file:line``; "" where there is none.
        count: how often.
        flops: operations of all of them together.
    """

    op: str
    spec: TensorSpec
    location: str
    count: int
    flops: int

    def __str__(self) -> str:
        return f"{self.count:4} x {self.op} {self.spec}  {self.location or '-'}"


@dataclass(frozen=True)
class RematReport:
    """What volta-remat has a program compute again; made by ``lowered.remat_report()``.

    Attributes:
        rows: by op and line, those with the most operations first.
    """

    rows: tuple[Recomputed, ...]

    @property
    def flops(self) -> int:
        """The operations that are added."""
        return sum(row.flops for row in self.rows)

    def __str__(self) -> str:
        return "\n".join(map(str, self.rows)) or "volta-remat has nothing computed again"


def remat_report(module: Any) -> RematReport:
    """What the public functions of a module compute again, after volta-remat."""
    found: dict[tuple[str, TensorSpec, str], list[int]] = defaultdict(list)
    for function in functions(module):
        for op in () if function.is_external else function.entry_block.operations:
            if RECOMPUTED in op.operation.attributes and isinstance(op, Op):
                operands, results = (
                    [spec_of(v.type) for v in vs] for vs in (op.operation.operands, op.operation.results)
                )
                flops = op.cost(operands, results, **op.attribute_values()).flops
                found[op.mnemonic, results[0], source_location(op.location) or ""].append(flops)
    rows = [Recomputed(*key, len(flops), sum(flops)) for key, flops in found.items()]
    return RematReport(tuple(sorted(rows, key=lambda row: (-row.flops, row.location, row.op))))
