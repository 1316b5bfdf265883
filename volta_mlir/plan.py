"""Reads what a compiled function will allocate and run: IREE's ``stream`` level, where every buffer has its size.

What is promised about memory comes from here and not from a model of the program: packed copies for data tiling, and
buffers that IREE keeps because it fuses otherwise than one expects, are in these allocations and nowhere above.
:func:`read_plans` reads the sizes of the allocations, after buffers that are not needed together were put into one.
:func:`read_buffers` reads which buffers there are before that, and when each is needed.

Operations come from MLIR's Python bindings but are only walked here, so this module imports no binding.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from volta_mlir.frames import most_telling
from volta_mlir.stream_ops import GROUPS, entry_point, is_buffer, operand_segments, tied_operands


@dataclass(frozen=True)
class Plan:
    """What one call of a compiled function takes, besides its arguments. Sizes are in bytes.

    Attributes:
        results: buffers that are allocated for results. A result in a donated buffer needs none.
        transients: the most that is allocated for intermediate results at any time.
        dispatches: how many kernels are launched.
        kernels: how many different ones.
        transfers: how many copies and fills are carried out between them. What is in a loop counts once, and so does
            what is in each branch; of memory, that of the branch which takes most.
        bytes_moved: the sizes of the tensors that kernels and transfers read and write, added up. A tensor that a
            kernel reads in part, or several times, counts once, and what pads a packed one does not.
    """

    results: int
    transients: int
    dispatches: int
    kernels: int
    transfers: int
    bytes_moved: int


def read_plans(module: Any, bytes_moved: Mapping[str, int]) -> dict[str, Plan]:
    """The plan of every public function.

    Args:
        module: the ``builtin.module`` operation after IREE's ``stream`` phase.
        bytes_moved: from :func:`read_bytes_moved`.
    """
    return {name: _read(function, bytes_moved[name]) for name, function in _public_functions(module)}


def read_bytes_moved(module: Any) -> dict[str, int]:
    """:attr:`Plan.bytes_moved` of every public function.

    Args:
        module: the ``builtin.module`` operation after IREE's ``flow`` phase, where kernels take tensors.
    """
    return {name: sum(map(_bytes_moved, _walk(function))) for name, function in _public_functions(module)}


@dataclass(frozen=True)
class Buffer:
    """The memory of a value, from the step that writes it first to the last that uses it.

    A step is what IREE orders: one kernel or copy, or several that may run at once.

    Attributes:
        bytes: its size.
        first, last: the numbers of the steps.
        kind: ``"argument"`` (used, and not a constant), ``"result"`` or ``"transient"``.
        writer: the kernel or operation that writes it first.
        location: the line of the user's that it computes, ``file:line``; "" where there is none.
    """

    bytes: int
    first: int
    last: int
    kind: str
    writer: str
    location: str


def read_buffers(module: Any) -> dict[str, list[Buffer]]:
    """The buffers of every public function, in the order in which they are written.

    Args:
        module: the ``builtin.module`` operation after ``iree-stream-async-transformation-pipeline``.
    """
    return {name: _Schedule(function).buffers() for name, function in _public_functions(module)}


def _public_functions(module: Any) -> Iterator[tuple[str, Any]]:
    for op in module.regions[0].blocks[0]:
        operation = op.operation
        if operation.name == "util.func" and (
            "sym_visibility" not in operation.attributes or operation.attributes["sym_visibility"].value == "public"
        ):
            yield operation.attributes["sym_name"].value, operation


class _Schedule:
    """The steps of one function, and which values share memory."""

    def __init__(self, function: Any) -> None:
        self._sharing: dict[Any, Any] = {}  # a forest: each value's memory is that of another one
        self._writers: dict[Any, Any] = {}  # the operation that writes a memory first
        self._sizes: dict[Any, int] = {}
        self._spans: dict[Any, tuple[int, int]] = {}
        self._kinds: dict[Any, str] = {}
        self._step = 0
        self._visit(function)

    def buffers(self) -> list[Buffer]:
        found = []
        for root, (first, last) in self._spans.items():
            writer = self._writers.get(root)
            kind = self._kinds.get(root, "transient")
            name, location = (kernel_name(writer), user_line(writer.location)) if writer is not None else (kind, "")
            found.append(Buffer(self._sizes.get(root, 0), first, last, kind, name, location))
        return [b for b in found if b.bytes]

    def _visit(self, op: Any) -> None:
        for region in op.regions:
            for block in region.blocks:
                for child in block:
                    self._operation(child.operation)

    def _operation(self, op: Any) -> None:
        if op.name in GROUPS:
            self._enter(op)
            self._leave(op)
            return
        for operand in op.operands:
            if is_buffer(operand):
                self._use(operand)
        self._write(op)
        if op.name == "stream.tensor.export":
            self._kinds.setdefault(self._memory(op.operands[0]), "result")
        self._visit(op)  # loops and branches
        if op.name.startswith(("stream.async.", "scf.")) and not self._in_concurrent(op):
            self._step += 1

    def _enter(self, op: Any) -> None:
        """The arguments of a group's block are the resources among its operands."""
        resources = [operand for operand in op.operands if is_buffer(operand)]
        for argument, operand in zip(op.regions[0].blocks[0].arguments, resources, strict=True):
            self._share(argument, operand)
        self._visit(op)

    def _leave(self, op: Any) -> None:
        """The results of a group are what it yields."""
        yielded = [v for v in list(op.regions[0].blocks[0])[-1].operation.operands if is_buffer(v)]
        results = [r for r in op.results if is_buffer(r)]
        for result, value in zip(results, yielded, strict=True):
            self._share(result, value)
            self._use(result)
        if op.name == "stream.async.concurrent":
            self._step += 1

    @staticmethod
    def _in_concurrent(op: Any) -> bool:
        return bool(op.parent.operation.name == "stream.async.concurrent")

    def _write(self, op: Any) -> None:
        resources = [r for r in op.results if is_buffer(r)]
        for number, result in enumerate(resources):
            tied = _tied_operand(op, number)
            if tied is not None:
                self._share(result, tied)
            else:
                sizes = _result_sizes(op)
                self._sizes[result] = sizes[min(number, len(sizes) - 1)] if sizes else 0
                self._writers[result] = op
                if op.name == "stream.tensor.import":
                    self._kinds[result] = "argument"
                    self._writers.pop(result)
            self._use(result)

    def _use(self, value: Any) -> None:
        root = self._memory(value)
        first, _ = self._spans.get(root, (self._step, self._step))
        self._spans[root] = (first, self._step)

    def _memory(self, value: Any) -> Any:
        while value in self._sharing:
            value = self._sharing[value]
        return value

    def _share(self, value: Any, other: Any) -> None:
        root = self._memory(other)
        if self._memory(value) is not root:
            self._sharing[value] = root


def _tied_operand(op: Any, result: int) -> Any:
    """The operand whose memory a result is; None where it is its own."""
    if op.name == "stream.timepoint.await":  # the same resources, now ready
        return op.operands[result]
    tied = tied_operands(op)[result]
    return None if tied is None else op.operands[tied]


def _result_sizes(op: Any) -> list[int]:
    """The sizes of the results, which are an operation's last operands."""
    if not any(is_buffer(r) for r in op.results) or not op.name.startswith("stream."):
        return []
    count = operand_segments(op)[-1] if "operandSegmentSizes" in op.attributes else 1
    return [_constant(op.operands[i]) for i in range(len(op.operands) - count, len(op.operands))]


def kernel_name(op: Any) -> str:
    """What an operation is called in reports."""
    return entry_point(op) or str(op.name).rpartition(".")[2]


def user_line(location: Any) -> str:
    """``file:line`` of the most telling place of those that a location names, "" if it names none."""
    places = re.findall(r'"([^"]+)":(\d+)', str(location))
    return ":".join(places[most_telling([file for file, _ in places])]) if places else ""


def _bytes_moved(op: Any) -> int:
    """What an operation of IREE's ``flow`` level reads and writes."""
    match op.name:
        case "flow.dispatch" | "flow.tensor.encode" | "flow.tensor.clone" | "flow.tensor.splat":
            # A kernel may take a tensor in several shapes.
            return sum(map(_tensor_bytes, {*map(_in_memory, op.operands), *op.results}))
        case "flow.tensor.slice":
            return 2 * _tensor_bytes(op.results[0])
        case "flow.tensor.update":
            return 2 * _tensor_bytes(op.operands[-1])
    return 0


def _in_memory(value: Any) -> Any:
    """The tensor of which a value of IREE's ``flow`` level is a reshape."""
    while getattr(value.owner, "name", "") == "flow.tensor.reshape":
        value = value.owner.operands[0]
    return value


def _tensor_bytes(value: Any) -> int:
    """The size of a tensor of a static shape, 0 for any other value."""
    if not str(value.type).startswith("tensor<"):
        return 0
    element = value.type.element_type
    return math.prod(value.type.shape) * -(-element.width // 8)


def _read(function: Any, bytes_moved: int) -> Plan:
    transients = dispatches = transfers = 0
    kernels = set()
    # What is allocated for results and transients at the end of each block, on the way there that takes most.
    ends: dict[Any, tuple[int, int]] = {}
    for block in function.regions[0].blocks:
        before = [ends[predecessor] for predecessor in block.predecessors if predecessor in ends]
        results, live = map(max, zip(*before, strict=True)) if before else (0, 0)
        for op in (op for child in block for op in (child.operation, *_walk(child.operation))):
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
        ends[block] = results, live
    most = max(results for results, _ in ends.values())
    return Plan(most, transients, dispatches, len(kernels), transfers, bytes_moved)


def _walk(op: Any) -> Iterator[Any]:
    """The operations inside another one, in the order of the text."""
    for region in op.regions:
        for block in region.blocks:
            for child in block:
                yield child.operation
                yield from _walk(child.operation)


def _constant(value: Any) -> int:
    """The number that an SSA value is; the largest one where a select or branches choose between several."""
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
        elif getattr(one.owner, "name", None) == "arith.select":
            pending += list(one.owner.operands)[1:]
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
