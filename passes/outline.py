"""volta-outline: what a program repeats, such as the layers of a network, becomes one function.

Twelve transformer layers are twelve equal pieces of the forward pass, and as many of the backward pass with the
optimizer's updates. After volta-fuse they are equal op by op. Here each distinct piece becomes a private function, and
the pieces become calls of it::

    func.func private @step.repeated(…) -> (…) attributes {noinline} { … }

so that what follows, the lowering and IREE's formation of dispatches, works on each distinct piece once. The calls are
inlined when IREE has formed its dispatches, before it schedules them and plans their memory (``iree_worker``). What
it does across the borders of pieces differs: where a value is read by two pieces, each of them computes from it.

1. *Runs.* Ops have equal labels where they do the same to values of the same types, for the same line. A run is a
   stretch of ops whose labels recur with a period (:func:`_longest_run`); it is cut where the fewest values cross.
2. *Pieces.* Pieces between two cuts are equal if their ops also use each other's results in the same way, and if the
   same of their results are used outside (:meth:`_Block.piece`).
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from volta_mlir.dialects.base import Op
from volta_mlir.mlir import func, ir
from volta_mlir.passes.derived import functions, is_private, unique_name, used_by
from volta_mlir.passes.fused import is_fused
from volta_mlir.passes.manager import Pass, option
from volta_mlir.passes.structure import label_of, uses_of

#: The attribute by which IREE's inliner leaves a function alone.
NO_INLINE = "noinline"
#: How many periods are tried, of those at which the most ops recur.
_PERIODS = 64


@dataclass
class Outline(Pass, name="volta-outline"):
    """Make one function of each piece that a function repeats, such as a layer."""

    min_ops: int = option(8, "the fewest ops of a piece")

    def run(self, module: Any) -> None:
        for function in functions(module):
            is_whole = not (is_private(function) or function.is_external or is_fused(function))
            if is_whole and len(function.body.blocks) == 1:
                _outline(module, function, self.min_ops)


def _sink_constants(function: Any) -> None:
    """Puts what has no operands before each op that uses it, so that a piece has its own constants."""
    for op in list(function.entry_block.operations):
        if isinstance(op, Op) and op.pure and not len(op.operation.operands):
            for use in list(op.operation.results[0].uses):
                with ir.InsertionPoint(_in_block(use.owner.operation, function)):
                    copy = op.operation.clone()
                use.owner.operation.operands[use.operand_number] = copy.operation.results[0]
            op.operation.erase()


def _in_block(op: Any, function: Any) -> Any:
    """The op itself, or the one around it, in the function's block."""
    while op.parent.operation != function.operation:
        op = op.parent.operation
    return op


def _outline(module: Any, function: Any, min_ops: int) -> None:
    _sink_constants(function)
    block = _Block([op.operation for op in function.entry_block.operations])
    pieces: dict[Any, list[_Piece]] = {}
    for start, period, count in _runs(block, 0, len(block.ops) - 1, min_ops):
        for number in range(count):
            piece = block.piece(start + number * period, period)
            pieces.setdefault(piece.structure, []).append(piece)
    repeated = [equal for equal in pieces.values() if len(equal) > 1]
    for equal in repeated:
        name = _define(module, function, equal[0])
        for piece in equal:
            _call(name, piece)
    # What uses a piece's results may be another piece, which goes first.
    for piece in sorted((p for equal in repeated for p in equal), key=lambda p: p.start, reverse=True):
        for op in reversed(piece.ops):
            op.erase()


def _runs(block: "_Block", start: int, end: int, min_ops: int) -> Iterator[tuple[int, int, int]]:
    """Disjoint runs among the ops from ``start`` to before ``end``: the first op, the period, the number of pieces."""
    if end - start < 2 * min_ops:
        return
    found = _longest_run(block.labels[start:end], min_ops)
    if found is None:
        return
    first, period, length = found
    first += start
    # The cut that the fewest values cross may leave one piece less between the ends of the run.
    cuts = [block.crossing[first + offset : first + length + 1 : period] for offset in range(period)]
    offset = min(range(period), key=lambda i: (np.median(cuts[i]), i))
    count = (length - offset) // period
    if count > 1:
        yield first + offset, period, count
    yield from _runs(block, start, first, min_ops)
    yield from _runs(block, first + length, end, min_ops)


def _longest_run(labels: np.ndarray, min_ops: int) -> tuple[int, int, int] | None:
    """The run that repeats the most ops: its start, period and length; None where nothing recurs."""
    last: dict[int, int] = {}
    distances: Counter[int] = Counter()
    for i, label in enumerate(labels.tolist()):
        if label in last:
            distances[i - last[label]] += 1
        last[label] = i
    best, found = 0, None
    for period, _ in distances.most_common(_PERIODS):
        if period < min_ops:
            continue
        recurs = np.concatenate([[False], labels[:-period] == labels[period:], [False]])
        edges = np.flatnonzero(np.diff(recurs))
        for start, stop in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
            repeated = (stop - start) // period * period
            if repeated > best or (repeated == best and found is not None and repeated and period < found[1]):
                best, found = repeated, (start, period, stop - start + period)
    return found


@dataclass(eq=False)
class _Piece:
    """Consecutive ops.

    Attributes:
        start: the number of the first one.
        structure: equal for pieces that can be one function.
        reads: for each value from outside, an op that uses it, and as which operand.
        outputs: the results that are used outside.
    """

    start: int
    ops: list[Any]
    structure: tuple[Any, ...]
    reads: list[tuple[Any, int]]
    outputs: list[Any]

    @property
    def inputs(self) -> list[Any]:
        """The values from outside, as they are now: those of another piece are its call's once that is there."""
        return [op.operands[i] for op, i in self.reads]


class _Block:
    """The ops of a function.

    Attributes:
        labels: a number for each op, equal for ops of equal structure.
        crossing: for each op the number of values that are computed before it, and used by it or later.
    """

    def __init__(self, ops: list[Any]) -> None:
        self.ops = ops
        known: dict[Any, int] = {}
        # An op with regions is equal to no other.
        structures = [op if len(op.regions) else label_of(op) for op in ops]
        self.labels = np.array([known.setdefault(structure, len(known)) for structure in structures])
        steps = np.zeros(len(ops) + 1, int)
        self._last_use: dict[Any, int] = {}
        for i, op in enumerate(ops):
            for value in used_by(op):
                self._last_use[value] = i
        for i, op in enumerate(ops):
            for last in (self._last_use[v] for v in op.results if v in self._last_use):
                steps[i + 1] += 1
                steps[last + 1] -= 1
        self.crossing = np.cumsum(steps)

    def piece(self, start: int, count: int) -> _Piece:
        """The ops from ``start`` on as a piece."""
        ops = self.ops[start : start + count]
        uses, reads = uses_of(ops)
        results = [v for op in ops for v in op.results]
        outputs = [i for i, v in enumerate(results) if self._last_use.get(v, 0) >= start + count]
        structure = tuple(self.labels[start : start + count].tolist()), uses, tuple(outputs)
        return _Piece(start, ops, structure, reads, [results[i] for i in outputs])


def _define(module: Any, caller: Any, piece: _Piece) -> str:
    """A function that computes what a piece does; returns its name."""
    name: str = unique_name(module, f"{caller.sym_name.value}.repeated")
    types = [v.type for v in piece.inputs], [v.type for v in piece.outputs]
    with piece.ops[0].location:
        function = func.FuncOp(name, types, visibility="private", ip=ir.InsertionPoint(module.body))
        function.attributes[NO_INLINE] = ir.UnitAttr.get()
        block = function.add_entry_block()
    values = dict(zip(piece.inputs, block.arguments, strict=True))
    with ir.InsertionPoint(block):
        for op in piece.ops:
            copy = op.clone()
            for i, operand in enumerate(op.operands):
                copy.operands[i] = values[operand]
            values.update(zip(op.results, copy.operation.results, strict=True))
        with piece.ops[-1].location:
            func.ReturnOp([values[v] for v in piece.outputs])
    return name


def _call(name: str, piece: _Piece) -> None:
    """Replaces a piece by a call."""
    with piece.ops[-1].location, ir.InsertionPoint(piece.ops[-1]):
        call = func.CallOp([v.type for v in piece.outputs], name, piece.inputs)
    for old, new in zip(piece.outputs, call.results, strict=True):
        old.replace_all_uses_with(new)
