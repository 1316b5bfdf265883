"""Reads IREE's schedule: the ``stream.async`` level, where every write to a buffer makes a new SSA value.

``keep_donations`` answers whether a donated argument is safe to overwrite. IREE stores a result in the argument's
buffer without asking whether somebody still has to read the old contents, and the order of the program's text says
nothing, because fusion moves the update into an earlier dispatch. At this level it can be decided: the old contents
are one SSA value, the update is an operation whose result is *tied* to it, and concurrency is explicit regions. An
update that comes too early is moved behind what reads the old contents, if nothing else is in the way.

``separate_races`` takes regions apart in which one operation needs what another writes: IREE's own analysis looks at
direct users only. It misses that of three parts of a buffer, written one after the other, the second is then read.

Operations come from MLIR's Python bindings, so this module imports no binding.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations, zip_longest
from typing import Any

from volta_mlir.stream_ops import (
    GROUPS,
    WRITES_FIRST_OPERAND,
    Access,
    accesses,
    entry_point,
    first_argument,
    is_buffer,
    operand_segments,
    tied_operands,
)

# Operations that only read their operands, whatever the region they are in.
_READERS = {
    "stream.async.clone",
    "stream.async.dispatch",
    "stream.async.load",
    "stream.async.slice",
    "stream.async.transfer",
    "stream.tensor.export",
} | WRITES_FIRST_OPERAND
_IGNORED = {"hal.buffer_view.assert", "stream.resource.size"}


@dataclass(frozen=True)
class Hazard:
    """Why overwriting one donated argument would change the program's results.

    ``reader`` and ``writer`` name dispatches, or operations where there is no dispatch.
    """

    function: str
    argument: int
    reader: str
    writer: str
    reason: str

    def __str__(self) -> str:
        return f"@{self.function} argument {self.argument}: {self.reader} {self.reason} {self.writer}"


def separate_races(module: Any) -> int:
    """Makes the operations of concurrent regions run one after the other where one needs what another writes.

    Args:
        module: the ``builtin.module`` operation after ``iree-stream-async-transformation-pipeline``.

    Returns:
        How many regions that were.
    """
    roots: dict[Any, Any] = {}
    races = [op for op in _operations(module) if op.name == "stream.async.concurrent" and _has_race(op, roots)]
    for group in races:
        _run_in_order(group)
    return len(races)


def _run_in_order(group: Any) -> None:
    """Makes the operations of a concurrent region run one after the other."""
    block = group.regions[0].blocks[0]
    for argument, operand in zip(block.arguments, group.operands, strict=False):  # then come the sizes
        argument.replace_all_uses_with(operand)
    *body, end = (op.operation for op in block)
    for op in body:
        op.move_before(group)
    for result, value in zip(group.results, end.operands, strict=False):
        result.replace_all_uses_with(value)
    group.erase()


def _operations(module: Any) -> Iterator[Any]:
    """All operations of a module's functions."""
    pending = list(_Program(module).functions.values())
    while pending:
        for region in pending.pop().regions:
            for block in region.blocks:
                for op in block:
                    yield op.operation
                    pending.append(op.operation)


def _has_race(group: Any, roots: dict[Any, Any]) -> bool:
    buffers: dict[Any, list[tuple[Any, Access]]] = defaultdict(list)
    for op in group.regions[0].blocks[0]:
        operation = op.operation
        if operation.name == "stream.yield":
            continue
        for access in accesses(operation):
            buffers[_root(operation.operands[access.operand], roots)].append((operation, access))
        for result, tied in zip_longest(operation.results, tied_operands(operation)):
            if tied is None and is_buffer(result):
                buffers[_root(result, roots)].append((operation, Access(-1, None, None, is_write=True)))
    return any(
        (one.is_write or other.is_write) and first != second and one.may_meet(other)
        for found in buffers.values()
        for (first, one), (second, other) in combinations(found, 2)
    )


def _root(value: Any, roots: dict[Any, Any]) -> Any:
    """The first value in the buffer that this one is stored in."""
    path = []
    while value not in roots:
        path.append(value)
        above = _before(value)
        if above is None:
            break
        value = above
    root = roots.get(value, value)
    roots.update(dict.fromkeys(path, root))
    return root


def _before(value: Any) -> Any:
    """The value that is in the same buffer before the operation that makes this one; None where there is none."""
    if not hasattr(value.owner, "operation"):
        group = value.owner.owner.operation
        return group.operands[value.maybe_downcast().arg_number] if group.name in GROUPS else None
    op, index = value.owner.operation, value.maybe_downcast().result_number
    if op.name in GROUPS:
        return list(op.regions[0].blocks[0])[-1].operation.operands[index]
    tied = tied_operands(op)
    return op.operands[tied[index]] if tied and tied[index] is not None else None


def keep_donations(module: Any, donations: Mapping[str, Mapping[int, int]]) -> list[Hazard]:
    """Moves updates of donated arguments behind what reads the old contents, and says which are too early even so.

    Args:
        module: the ``builtin.module`` operation after ``iree-stream-async-transformation-pipeline``.
        donations: for each function, argument index to result index.

    Returns:
        One hazard for each argument that some operation may still read too late.
    """
    pending = [(function, argument) for function, pairs in donations.items() for argument in pairs]
    tried: set[tuple[Any, Any]] = set()
    while True:
        program = _Program(module)
        conflicts = {one: found for one in pending if (found := _check_argument(program, *one))}
        late = dict.fromkeys(c.late for c in conflicts.values() if c.late is not None and c.late not in tried)
        tried.update(late)
        if not sum(_postpone(writer, reader) for writer, reader in late):
            return [conflict.hazard for conflict in conflicts.values()]
        pending = list(conflicts)


def _postpone(writer: Any, reader: Any) -> bool:
    """Moves an operation behind another one of the same region, if what runs in between allows it."""
    region = _region_of(reader)
    if region is None or region != _region_of(writer):
        return False
    for op in _ancestors(writer):
        if op.name == "stream.async.concurrent":
            _run_in_order(op)
            break
    order = [op.operation for op in region.regions[0].blocks[0]]
    last = next(op for op in _ancestors(reader) if _parent(op) == region)
    start, stop = order.index(writer), order.index(last)
    between = order[start + 1 : stop + 1]
    roots: dict[Any, Any] = {}
    made = set(writer.results)
    reads = {_root(writer.operands[a.operand], roots) for a in accesses(writer) if not a.is_write}
    for op in (inner for outer in between for inner in (outer, *_inside(outer))):
        writes = [_root(v, roots) for v in op.results if is_buffer(v)]
        if not made.isdisjoint(op.operands) or not reads.isdisjoint(writes):
            return False
    if start < stop:
        writer.move_after(last)
    return True


def _region_of(op: Any) -> Any:
    """The region of commands that an operation is in, if it is."""
    return next((parent for op in _ancestors(op) if (parent := _parent(op)).name == "stream.async.execute"), None)


def _inside(op: Any) -> list[Any]:
    """The operations of a concurrent region."""
    return [inner.operation for region in op.regions for block in region.blocks for inner in block]


@dataclass(eq=False)
class _Version:
    """The contents of a donated buffer between two writes."""

    previous: _Version | None
    writer: Any = None
    readers: list[tuple[Any, int]] = field(default_factory=list)  # operation, operand index

    def older(self) -> Iterator[_Version]:
        version: _Version | None = self
        while version is not None:
            yield version
            version = version.previous


@dataclass(frozen=True)
class _Conflict:
    """A hazard, and where it is one of order, what writes too early and what reads too late."""

    hazard: Hazard
    late: tuple[Any, Any] | None = None


def _check_argument(program: _Program, function: str, argument: int) -> _Conflict | None:
    def conflict(reader: str, writer: str, reason: str, late: tuple[Any, Any] | None = None) -> _Conflict:
        return _Conflict(Hazard(function, argument, reader, writer, reason), late)

    root = program.functions[function].regions[0].blocks[0].arguments[argument]
    versions: list[_Version] = []
    pending: list[tuple[Any, _Version]] = []
    for use in root.uses:
        name = use.owner.name
        if name == "stream.tensor.import":
            versions.append(_Version(None))
            pending.append((use.owner.results[0], versions[-1]))
        elif name not in _IGNORED:
            return conflict(name, name, "uses the argument in a way that cannot be followed:")

    while pending:
        value, version = pending.pop()
        for use in value.uses:
            op, index = use.owner, use.operand_number
            name = op.name
            if name in GROUPS:
                pending.append((op.regions[0].blocks[0].arguments[index], version))
            elif name == "stream.yield":
                parent = _parent(op)
                if parent.name not in GROUPS:
                    return conflict(parent.name, parent.name, "passes the buffer through control flow:")
                pending.append((parent.results[index], version))
            elif name == "stream.timepoint.await":
                pending.append((op.results[index], version))
            elif index in (tied := tied_operands(op)):
                versions.append(_Version(version, op))
                pending.append((op.results[tied.index(index)], versions[-1]))
            elif name in _READERS:
                version.readers.append((op, index))
            elif name not in _IGNORED:
                return conflict(name, name, "passes the buffer through control flow:")

    for version in versions:
        writer = version.writer
        if version.previous is None:
            continue
        for other in versions:
            if other.writer is not None and other is not version and other.previous is version.previous:
                return conflict(_describe(other.writer), _describe(writer), "overwrites the same contents as")
        for old in version.previous.older():
            for reader, operand in old.readers:
                if reader == writer:
                    if not program.reads_what_it_writes(reader, operand):
                        return conflict(
                            _describe(reader), _describe(writer), "reads other elements than it overwrites in"
                        )
                elif not program.happens_before(reader, writer):
                    late = writer, reader
                    return conflict(_describe(reader), _describe(writer), "may read after the update by", late)
        if not program.updates_in_place(writer):
            return conflict(_describe(writer), _describe(writer), "reads other elements than it overwrites in")
    return None


def _describe(op: Any) -> str:
    kernel = entry_point(op)
    return str(op.name) if kernel is None else f"dispatch @{kernel}"


def _parent(op: Any) -> Any:
    """The enclosing operation as a plain Operation, so that comparisons work."""
    return op.operation.parent.operation


class _Program:
    """Lookups over one module."""

    def __init__(self, module: Any) -> None:
        self._module = module
        self._accesses: dict[Any, dict[int, Access]] = {}
        self._agreements: dict[tuple[Any, int, int], bool] = {}

    @cached_property
    def functions(self) -> dict[str, Any]:
        return {op.attributes["sym_name"].value: op.operation for op in self._top_level("util.func")}

    @cached_property
    def _executables(self) -> dict[str, Any]:
        return {op.attributes["sym_name"].value: op.operation for op in self._top_level("stream.executable")}

    def _top_level(self, name: str) -> Iterator[Any]:
        return (op for op in self._module.regions[0].blocks[0] if op.operation.name == name)

    @cached_property
    def _positions(self) -> dict[Any, int]:
        """Position of every operation in its block, for functions only."""
        positions: dict[Any, int] = {}

        def visit(op: Any) -> None:
            for region in op.regions:
                for block in region.blocks:
                    for index, child in enumerate(block):
                        positions[child.operation] = index
                        visit(child.operation)

        for function in self.functions.values():
            visit(function)
        return positions

    # Order of execution.

    def happens_before(self, first: Any, second: Any) -> bool:
        """Whether ``first`` has surely finished before ``second`` starts."""
        above_second = {_parent(op): op for op in _ancestors(second)}
        for op in _ancestors(first):
            parent = _parent(op)
            if parent not in above_second:
                continue
            other = above_second[parent]
            if parent.name == "stream.async.execute":
                return self._positions[op] < self._positions[other]  # commands of a region run one after the other
            if parent.name == "util.func":
                return op.block == other.block and self._awaits(op, other)
            return False  # concurrent, or inside control flow
        return False

    def _awaits(self, first: Any, second: Any) -> bool:
        """Whether ``second`` is submitted, or made to wait, until the region ``first`` has finished."""
        if first.name != "stream.async.execute" or self._positions[first] >= self._positions[second]:
            return False
        roots = [second]
        for op in first.block:  # a wait on the host orders everything that follows it
            between = self._positions[first] < self._positions[op.operation] < self._positions[second]
            if between and op.operation.name == "stream.timepoint.await":
                roots.append(op.operation)
        seen: set[Any] = set()
        while roots:
            op = roots.pop()
            for operand in op.operands:
                if "timepoint" not in str(operand.type) or not hasattr(operand.owner, "name"):
                    continue
                owner = operand.owner.operation
                if owner == first:
                    return True
                if owner not in seen:
                    seen.add(owner)
                    roots.append(owner)
        return False

    # What one dispatch does inside.

    def updates_in_place(self, writer: Any) -> bool:
        """Whether a dispatch that reads the buffer through the very binding it writes does so element by element."""
        if writer.name != "stream.async.dispatch":
            return True  # copies, fills and updates do not read what they overwrite
        bindings = [tied - first_argument(writer) for tied in tied_operands(writer) if tied is not None]
        return all(self._bindings_agree(writer, binding, binding) for binding in bindings)

    def reads_what_it_writes(self, dispatch: Any, operand: int) -> bool:
        """Whether a dispatch that overwrites a buffer reads it only at the element that it is about to write."""
        if dispatch.name != "stream.async.dispatch":
            return False
        base = first_argument(dispatch)
        found = self._accesses.get(dispatch)
        if found is None:
            found = self._accesses[dispatch] = {access.operand: access for access in accesses(dispatch)}
        read, buffer = found[operand], dispatch.operands[operand]
        return all(
            (read.begin, read.end) == (write.begin, write.end)
            and self._bindings_agree(dispatch, operand - base, write.operand - base)
            for write in found.values()
            if write.is_write and dispatch.operands[write.operand] == buffer
        )

    def _bindings_agree(self, dispatch: Any, read: int, write: int) -> bool:
        key = dispatch.attributes["entry_points"], read, write  # layers have their kernels in common
        found = self._agreements.get(key)
        if found is None:
            functions = self._entry_points(dispatch)
            found = self._agreements[key] = all(_reads_only_overwritten_elements(f, read, write) for f in functions)
        return found

    def _entry_points(self, dispatch: Any) -> Iterator[Any]:
        for symbol in dispatch.attributes["entry_points"]:
            executable, export = symbol.value
            body = self._executables[executable].regions[0].blocks[0]
            functions = {}
            target = None
            for op in body:
                if op.operation.name == "stream.executable.export" and op.attributes["sym_name"].value == export:
                    target = op.attributes["function_ref"].value
                elif op.operation.name == "builtin.module":
                    for function in op.operation.regions[0].blocks[0]:
                        functions[function.attributes["sym_name"].value] = function.operation
            yield functions[target]


def _ancestors(op: Any) -> Iterator[Any]:
    """The operation and those around it, up to the one whose parent is the function."""
    op = op.operation
    while op.name != "util.func":
        yield op
        op = _parent(op)


def _reads_only_overwritten_elements(function: Any, read: int, write: int) -> bool:
    """Whether each element read through one binding is used only for the same element of the other.

    The rule is narrow on purpose. Workgroups run in any order and code generation may compute a producer again for
    each consumer, so a value that was read may have one use, and every step from it to the store must map element to
    element: an all-parallel ``linalg.generic`` with the same permutation for operand and result, or the initial value
    of an operation that accumulates in place. Everything else counts as unsafe.
    """
    block = function.regions[0].blocks[0]
    loads = _accesses(block.arguments[read], "iree_tensor_ext.dispatch.tensor.load")
    stores = _accesses(block.arguments[write], "iree_tensor_ext.dispatch.tensor.store")
    if loads is None or stores is None:
        return False
    if not loads:
        return True
    if len(loads) != 1 or len(stores) != 1:
        return False
    load, store = loads[0], stores[0]
    if _slice(load, 1) != _slice(store, 2):
        return False
    return _flows_elementwise(load.results[0], store)


def _accesses(binding: Any, kind: str) -> list[Any] | None:
    """Loads or stores through a binding; None where it is used in some other way."""
    found = []
    for use in binding.uses:
        if use.owner.name != "stream.binding.subspan":
            return None
        for access in use.owner.results[0].uses:
            name = access.owner.name
            if name == kind:
                found.append(access.owner)
            elif not name.startswith("iree_tensor_ext.dispatch.tensor."):
                return None
    return found


def _slice(access: Any, tensors: int) -> tuple[Any, ...]:
    """What identifies the elements of a load or a store: subspan offset, shape of the whole, slice."""
    source = access.operands[tensors - 1]
    whole = str(source.type).partition(":")[2]
    statics = tuple(tuple(access.attributes[f"static_{part}"]) for part in ("offsets", "sizes", "strides"))
    return (source.owner.operation.operands[1], whole, statics, tuple(access.operands)[tensors:])


def _flows_elementwise(value: Any, store: Any) -> bool:
    uses = list(value.uses)
    if len(uses) != 1:
        return False
    op, index = uses[0].owner, uses[0].operand_number
    if op == store:
        return True
    if op.name == "tensor.insert_slice":  # only the inserted slice is written
        return index == 1 and _flows_elementwise(op.results[0], store)
    if not op.name.startswith("linalg.") or "operandSegmentSizes" not in op.attributes:
        return False
    inputs = operand_segments(op)[0]
    if index >= inputs:  # the initial value: read, updated and written at the same place
        return _flows_elementwise(op.results[index - inputs], store)
    if op.name != "linalg.generic" or any("parallel" not in str(i) for i in op.attributes["iterator_types"]):
        return False
    maps = [m.value for m in op.attributes["indexing_maps"]]
    if not maps[index].is_permutation:
        return False
    for number, result in enumerate(op.results):
        if _flows_elementwise(result, store):
            # Values that leave by other results are computed in the same loop, as long as nobody fuses them elsewhere.
            others = [r for i, r in enumerate(op.results) if i != number]
            return maps[inputs + number] == maps[index] and all(_only_stored(r) for r in others)
    return False


def _only_stored(value: Any) -> bool:
    return all(use.owner.name == "iree_tensor_ext.dispatch.tensor.store" for use in value.uses)
