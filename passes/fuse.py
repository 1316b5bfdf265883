"""volta-fuse: groups of ops that are computed together, so that what lies between them is not stored.

A value that several ops use would be stored once and read by each. Most elementwise values are cheaper to compute
again in each of their users than to store: GELU's tanh, the centred rows of a layer norm, a softmax's exponentials.

The plan for a function is made in five steps.

1. *Stored or computed where it is used.* A value is stored if an op needs it that is not pointwise (a product, a
   gather, the function's return), or if storing it costs less than computing it in each *kernel* that uses it
   (:meth:`FusionPlan._is_cheaper_stored`, in bytes, with operations converted to bytes). A kernel computes one stored
   elementwise value, or one reduction, whose operand is computed in its loops.
2. *Groups.* Kernels over the same loops that read the same tensor, or of which one reads the other's result, become
   one, where no other op has to run between them (:meth:`FusionPlan._group`).
3. *Dispatches.* A reduction and the groups that use its result for the same row become one dispatch of several loop
   nests, in which a row is read while it is in the cache. Updates of short vectors, such as of biases and of running
   statistics, that are in no such dispatch become one, though they have nothing in common
   (:meth:`FusionPlan.dispatches`).
4. *Epilogues.* A group that reads a product element by element, such as a bias and an activation function, is left to
   IREE, which computes it in the product's dispatch (:meth:`FusionPlan._product_of`). Measured on one core (Zen 4),
   ``gelu(x @ w + b)`` with x 2048x384 and w 384x1536 takes 0.93 (float32) and 0.8 (bfloat16) of the time that it takes
   with the group in a dispatch of its own, and 0.3 of the intermediate bytes.
5. *Functions.* What several ops compute together becomes a function, see :mod:`volta_mlir.passes.fused`. Ops are put in
   an order in which everything comes after what it uses.

:func:`can_fuse` is the one rule about what may be computed inside what.
"""

import heapq
import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from volta_mlir.dialects.base import Cost, Op
from volta_mlir.dialects.contraction import DotGeneralOp
from volta_mlir.dialects.control import AfterOp
from volta_mlir.dialects.convolution import ConvolutionOp
from volta_mlir.dialects.elementwise import Elementwise, PowOp
from volta_mlir.dialects.movement import ReshapeOp, TransposeOp, is_product
from volta_mlir.dialects.reduction import Reduce, reduction_accumulator
from volta_mlir.dtypes import TensorSpec, bool_, is_integer
from volta_mlir.mlir import func, ir, spec_of
from volta_mlir.passes.derived import callee_of, calls_in, functions, is_used, unique_name, used_by
from volta_mlir.passes.fused import EPILOGUE, FUSED, SAVED, Nest, is_fused, is_pointwise, is_view, loops_of
from volta_mlir.passes.manager import Pass, UpstreamPass, option, source_location
from volta_mlir.passes.structure import label_of

#: How many operations take as long as moving one byte to or from memory, on a core with vector units.
OPERATIONS_PER_BYTE = 16
#: What a further dispatch costs, as the bytes that could be moved meanwhile.
DISPATCH_BYTES = 32 * 1024
#: What is no more than this may be kept for long.
SMALL_BYTES = 1024
#: How many tensors a value that is not stored may be computed from, and how many a group may read.
MAX_INPUTS = 12
#: What more kernels use than these will be stored.
MANY_KERNELS = 8
#: Updates of vectors that take no more than this are computed together.
MAX_VECTOR_BYTES = 64 * 1024
#: How many tensors a dispatch may read, compute and write: IREE's CPU devices take no more.
MAX_TENSORS = 32


@dataclass
class Fuse(Pass, name="volta-fuse"):
    """Group ops that are computed together, so that what lies between them is not stored."""

    recompute: bool = option(True, "compute a cheap value in each of the kernels that use it rather than store it")
    rows: bool = option(True, "compute reductions, and what uses their results for the same row, in one dispatch")
    epilogues: bool = option(True, "compute what follows a product element by element in the product's dispatch")
    min_rows: int = option(32, "the fewest rows for that, which are what threads share; a few long ones stay apart")

    def run(self, module: Any) -> None:
        # A dispatch must not have equal results: IREE merges them, and may read another result's buffer for the second.
        UpstreamPass("cse").run(module)
        for function in functions(module):
            if not function.is_external and not is_fused(function) and len(function.body.blocks) == 1:
                erase_unused(list(function.entry_block.operations))
                FusionPlan(function, self).carry_out(module)


def can_fuse(producer: Any, consumer: Any) -> bool:
    """Whether ``producer`` can be computed in the loops of ``consumer``, an op that uses its result."""
    return _can_be_fused(producer) and (
        isinstance(consumer, Reduce) or (isinstance(consumer, Op) and is_pointwise(consumer))
    )


def _can_be_fused(op: Any) -> bool:
    """Whether an op can be computed in the loops of some op that uses its result."""
    if not isinstance(op, Op) or not (is_pointwise(op) or is_view(op)):
        return False
    result = _spec(op.operation.results[0])
    if isinstance(op, PowOp) and is_integer(result.dtype):
        return False  # a loop inside the loop, which keeps the whole from being vectorised
    if isinstance(op, TransposeOp) and is_product(op.operation.operands[0]):
        return False  # see TransposeOp.lower
    return result.size > 0


@dataclass(frozen=True, eq=False)
class Kind:
    """What ops have in common that do the same to values of the same types, such as those of a network's layers.

    Attributes:
        results: the specs of what they compute.
        fusable: whether such an op can be computed in the loops of an op that uses its result.
        is_reduction: whether it folds elements.
        is_view: whether its result is a part of its operand in memory.
        moves: whether it only moves elements or makes them from nothing, which no kernel is needed for.
        cost: what it takes by itself; nothing where it is no volta op.
        flops: operations for one element of the result.
        loops: the extents of the loops that a kernel for it has.
        elements: how often the body of these loops runs.
        axes: the loops that a reduction folds.
        accumulator: the bytes of what it accumulates in.
    """

    results: tuple[TensorSpec, ...]
    fusable: bool
    is_reduction: bool
    is_view: bool
    moves: bool
    cost: Cost
    flops: float
    loops: tuple[int, ...]
    elements: int
    axes: tuple[int, ...]
    accumulator: int

    @staticmethod
    def of(op: Any, operands: list[TensorSpec]) -> "Kind":
        """That of an op, which uses values of the specs ``operands``."""
        results = tuple(_spec(r) for r in op.operation.results)
        cost = type(op).cost(operands, results, **op.attribute_values()) if isinstance(op, Op) else Cost(0, 0)
        is_reduction = isinstance(op, Reduce)
        loops = loops_of(op) if isinstance(op, Op) and results else ()
        return Kind(
            results=results,
            fusable=_can_be_fused(op),
            is_reduction=is_reduction,
            is_view=is_view(op),
            moves=not isinstance(op, Elementwise | AfterOp) and not is_reduction,
            cost=cost,
            flops=cost.flops / max(1, results[0].size) if results else 0,
            loops=loops,
            elements=math.prod(loops),
            axes=tuple(op.axes) if is_reduction else (),
            accumulator=reduction_accumulator(op.fold, results[0].dtype).itemsize if is_reduction else 0,
        )


class Node:
    """An op of the function.

    Attributes:
        op: the op.
        index: its place among all of them.
        operands, results: the values that it uses, also inside of its regions, and those that it computes.
        result: the first of the results.
        label: equal for ops of one kind and line.
        inlines: whether it computes its operands in its loops rather than reading them.
        is_constant: whether it depends on no argument. IREE computes that once, and takes one result of a kernel for
            another then.

    The others are those of its kind.
    """

    result: "Value"
    is_constant: bool

    def __init__(self, op: Any, index: int, operands: list["Value"], label: Any, kind: Kind) -> None:
        self.op, self.index, self.operands, self.label = op, index, operands, label
        self.inlines = False
        self.is_constant = all(v.producer is not None and v.producer.is_constant for v in operands)
        self.fusable, self.is_view, self.moves = kind.fusable, kind.is_view, kind.moves
        self.is_reduction, self.axes, self.accumulator = kind.is_reduction, kind.axes, kind.accumulator
        self.cost, self.flops, self.loops, self.elements = kind.cost, kind.flops, kind.loops, kind.elements
        results = zip(op.operation.results, kind.results, strict=True)
        self.results = [Value(result, spec, self) for result, spec in results]
        if self.results:
            self.result = self.results[0]

    @property
    def inputs(self) -> list["Value"]:
        return self.operands


@dataclass(eq=False)
class Value:
    """A value: an argument, where there is no producer, or an op's result."""

    handle: Any
    spec: TensorSpec
    producer: Node | None
    users: list[Node] = field(default_factory=list)
    stored: bool = False
    needed: bool = False
    size: int = field(init=False)
    nbytes: int = field(init=False)

    def __post_init__(self) -> None:
        self.size, self.nbytes = self.spec.size, self.spec.nbytes


@dataclass(eq=False)
class Group:
    """Kernels that are computed together, or any other op by itself."""

    results: list[Node]
    ops: list[Node]
    inputs: list[Value]

    @property
    def key(self) -> Any:
        """What kernels that are computed together have in common: loops, and for a reduction how it goes over them.

        A vector has as many lanes as there is room for accumulators.
        """
        first = self.results[0]
        return first.loops, (first.axes, first.accumulator) if first.is_reduction else None


@dataclass(eq=False)
class Dispatch:
    """Groups that are computed in one dispatch, or any op by itself.

    A dispatch of several groups begins with a reduction. The others have its loops, or those of its results: what
    passes between groups has one element for each row of what is folded, so that no row needs another.
    """

    groups: list[Group]
    #: The loops of the first group and those that it folds; None where no group can be added.
    rows: Nest | None = None
    results: list[Node] = field(init=False)
    #: What is read from outside.
    inputs: list[Value] = field(init=False)

    def __post_init__(self) -> None:
        (first,) = self.groups
        self.results, self.inputs = list(first.results), list(first.inputs)

    def add(self, group: Group) -> None:
        """Has a group that it :meth:`accepts` computed here too."""
        made = {node.result for node in self.results}
        self.inputs = list(dict.fromkeys([*self.inputs, *(v for v in group.inputs if v not in made)]))
        self.groups.append(group)
        self.results += group.results

    def accepts(self, nest: Nest, min_rows: int) -> bool:
        """Whether a group, which reads a result of this dispatch, can be one of its groups."""
        rows = self.rows
        if rows is None:
            return False
        kept = [loop for loop in range(len(rows.loops)) if loop not in rows.folded]
        shape = tuple(rows.loops[loop] for loop in kept)
        whole = nest.loops == rows.loops
        if nest.is_reduction and not (whole and nest.folded == rows.folded):
            return False
        if whole and (kept != list(range(len(kept))) or math.prod(shape) < min_rows):
            return False  # rows are not contiguous, or too few to share the work by them
        if not whole and nest.loops != shape:
            return False
        made = {node.op.operation.results[0]: node for node in self.results}
        read = {value for value, _ in nest.inputs}
        if nest.is_reduction and any(v not in read and not node.is_reduction for v, node in made.items()):
            return False  # IREE 3.13 can't compile it after an elementwise op whose result it does not need
        if any(view.operation.operands[0] in made for view in nest.views):
            return False
        expected = kept if whole else list(range(len(kept)))
        for value, place in nest.inputs:
            node = made.get(value)
            if node and (_is_of_all(node, rows) or [loop for loop in place if loop is not None] != expected):
                return False
        return True


@dataclass(eq=False)
class _Cone:
    """The ops that an op is computed by in its loops, and what was decided about it.

    Attributes:
        ops: itself and the others.
        inputs: what they read.
        parts: the cones of those of its operands that are computed with it.
        users: the kernels that use its result.
        stored: whether that is stored, given all this.
    """

    ops: frozenset[Node]
    inputs: frozenset[Value]
    parts: list["_Cone"]
    users: list[Node] | None = None
    stored: bool = False

    @cached_property
    def flops(self) -> float:
        """Operations for one element of the result."""
        return math.fsum(node.flops for node in self.ops)

    @cached_property
    def nbytes(self) -> int:
        """The bytes that are read."""
        return sum(value.nbytes for value in self.inputs)

    @staticmethod
    def of(node: Node, parts: list["_Cone"]) -> "_Cone":
        """The cone of an op."""
        ops = frozenset((node,)).union(*(part.ops for part in parts))
        read = frozenset(node.operands).union(*(part.inputs for part in parts))
        return _Cone(ops, frozenset(v for v in read if v.producer not in ops), parts)


class FusionPlan:
    """What is done with one function: which values are stored, and what is computed together."""

    def __init__(self, function: Any, options: Fuse) -> None:
        self.function, self.options = function, options
        self.nodes: list[Node] = []
        self.arguments = [Value(argument, _spec(argument), None, stored=True) for argument in function.arguments]
        values = {value.handle: value for value in self.arguments}
        kinds: dict[Any, Kind] = {}
        for index, op in enumerate(function.entry_block.operations):
            operands = [value for v in used_by(op) if (value := values.get(v))]
            # What is inside of regions is not in the label, and transposing a product is something else.
            label = label_of(op.operation), isinstance(op, TransposeOp) and is_product(operands[0].handle)
            kind = kinds.get(label)
            if kind is None or op.operation.regions:
                kind = kinds[label] = Kind.of(op, [value.spec for value in operands])
            node = Node(op, index, operands, label, kind)
            for value in dict.fromkeys(operands):
                value.users.append(node)
            values.update((value.handle, value) for value in node.results)
            self.nodes.append(node)
        #: The names of the functions that there are, by what they compute.
        self.functions: dict[Any, str] = {}
        self.plain_reductions: set[Node] = set()
        #: What is stored because a kernel that computed it as well would read too many tensors.
        self.divided: set[Node] = set()
        #: Reductions that compute a value by themselves though it is stored, see :meth:`_join_rows`.
        self.repeated: dict[Value, set[Node]] = {}
        #: An index that no node has which has to run before this one, or with it, exceeds.
        self.latest: dict[Node, int] = {}
        #: What :meth:`cone` found, until it is decided otherwise, and the loops for ops and results.
        self._found: dict[tuple[Node, ...], tuple[list[Node], list[Value]]] = {}
        self._nests: dict[tuple[tuple[Node, ...], tuple[Node, ...]], Nest] = {}
        #: What was decided about each op that can be computed in another's loops, and what for.
        self._cones: dict[Node, _Cone] = {}
        #: Ops with operands that are stored now and were not before, or the other way round.
        self._stale: set[Node] = set(self.nodes)
        #: What computes a stored value, or a reduction.
        self.kernels: list[Node] = []
        self._decide()
        while (bad := {r for r in self.kernels if r.is_reduction and not self._nest([r]).is_simple}) | (
            parts := {part for kernel in self.kernels for part in self._too_many(kernel)}
        ):
            self.plain_reductions |= bad
            self.divided |= parts
            self._decide()

    def __del__(self) -> None:
        # Ops and values refer to each other. The garbage collector needs a third of a plan's time to find that out.
        for node in self.nodes:
            vars(node).clear()

    # -- stored or computed where it is used -------------------------------------------------------------------

    def _decide(self) -> None:
        self._found.clear()
        for node in reversed(self.nodes):
            node.inlines = (node.fusable and not node.is_view) or (
                node.is_reduction and node not in self.plain_reductions
            )
            for value in node.results:
                # A movement is no kernel: where it is needed as a tensor, so is what it moves.
                value.needed = (
                    not node.fusable
                    or node in self.divided
                    or any(not user.inlines or (user.moves and user.result.needed) for user in value.users)
                )
                self._store(value, value.needed)
        for _ in range(4):  # each round knows better which kernels use a value
            kernels = self._kernels_of_values()
            if not self._revise(kernels):
                break
        self._join_rows(kernels)
        self.kernels = [node for node in self.nodes if self._is_kernel(node)]

    def _store(self, value: Value, stored: bool) -> None:
        if value.stored != stored:
            value.stored = stored
            self._stale.update(value.users)

    def _kernels_of_values(self) -> dict[Value, dict[Node, None]]:
        """The kernels that use each value that can be computed in their loops.

        What very many use counts as one, before it is decided to be stored too: through sums, such as a network's
        residual stream, a value would have the kernels of all later layers.
        """
        kernels: dict[Value, dict[Node, None]] = {}
        for node in reversed(self.nodes):
            if node.fusable:
                found: dict[Node, None] = {}
                for user in node.result.users if node.operands else ():  # a constant is computed everywhere
                    if not user.inlines:
                        continue
                    if (
                        user.is_reduction
                        or (user.result.stored and not user.moves)
                        or len(kernels[user.result]) > MANY_KERNELS
                    ):
                        found[user] = None
                    elif len(node.result.users) == 1:
                        found = kernels[user.result]
                    else:
                        found.update(kernels[user.result])
                kernels[node.result] = found
        return kernels

    def _revise(self, kernels: Mapping[Value, Collection[Node]]) -> bool:
        """Decides anew what is stored, where that depends on something new, and whether anything changed."""
        changed, cones = False, self._cones
        for node in self.nodes:
            if not node.fusable:
                continue
            if node in self._stale:
                self._stale.discard(node)
                operands = [] if node.is_view else node.operands
                parts = [cones[v.producer] for v in operands if v.producer and self._is_computed_in_place(v)]
                if node not in cones or cones[node].parts != parts:
                    cones[node] = _Cone.of(node, parts)
                    self._stale.update(node.result.users)
            cone, value = cones[node], node.result
            if not value.needed and not node.moves:
                users = list(kernels[value])
                if cone.users != users:
                    cone.users = users
                    cone.stored = self._is_cheaper_stored(node, cone, users)
                changed |= cone.stored != value.stored
                self._store(value, cone.stored)
        return changed

    def _is_cheaper_stored(self, node: Node, cone: _Cone, kernels: Collection[Node]) -> bool:
        """Whether storing a value costs less than computing it in each of the kernels that use it."""
        value, count = node.result, len(kernels)
        if len(cone.inputs) > MAX_INPUTS or (count > 1 and not self.options.recompute):
            return True
        elements = sum(k.elements for k in kernels)
        if count == 1 and elements <= value.size:
            return False  # it is computed once anyway
        size, read, flops = value.nbytes, cone.nbytes, cone.flops
        if count > 1 and self._share_rows(kernels):
            count = 1  # a row is read once for all of them
        elif count > 1 and read > 1.5 * size:
            return True  # more would be kept for later than the value itself
        inline = count * read + flops * elements / OPERATIONS_PER_BYTE
        store = read + size * (1 + count) + flops * value.size / OPERATIONS_PER_BYTE + DISPATCH_BYTES
        return store < inline

    def _share_rows(self, kernels: Collection[Node]) -> bool:
        """Whether kernels are reductions of rows, and elementwise ones that need all these for their own rows."""
        if len({k.loops for k in kernels}) > 1:
            return False
        reductions = {k for k in kernels if self._folds_rows(k)}
        others = [k for k in kernels if k not in reductions]
        same = len({k.axes for k in reductions}) == 1
        return same and bool(others) and all(self._needed_by(k, reductions) == reductions for k in others)

    def _join_rows(self, kernels: Mapping[Value, Collection[Node]]) -> None:
        """Lets reductions of rows compute what they fold by themselves, if it is stored in the same dispatch.

        The residual stream before a layer norm: it is needed later, and is stored by the kernel that stores the
        normalised rows, for which its mean and variance have been computed from the same addends.
        """
        self.repeated = {}
        for value, users in kernels.items():
            node = value.producer
            assert node is not None
            if not value.stored or node.moves:
                continue
            same = [k for k in users if k.loops == node.loops]
            reductions = {k for k in same if self._folds_rows(k)}
            for kernel in sorted((k for k in same if not k.is_reduction), key=lambda k: k.index):
                needed = self._needed_by(kernel, reductions)
                if needed:
                    if len({k.axes for k in needed}) == 1:
                        self.repeated[value] = needed
                    break

    def _folds_rows(self, node: Node) -> bool:
        """Whether an op is a reduction that can share a dispatch with what uses its result for the same row."""
        if not node.is_reduction or not self.options.rows or node in self.plain_reductions:
            return False
        shape, axes = node.loops, node.axes
        kept = len(shape) - len(axes)
        return list(axes) == list(range(kept, len(shape))) and math.prod(shape[:kept]) >= self.options.min_rows

    @staticmethod
    def _needed_by(kernel: Node, reductions: set[Node]) -> set[Node]:
        """Those of the reductions from which a kernel is computed, through elementwise ops alone."""
        first = min((r.index for r in reductions), default=kernel.index)
        seen, found, pending = {kernel}, set(), [kernel]
        while pending:
            for operand in pending.pop().operands:
                node = operand.producer
                if node is None or node.index < first or node in seen:
                    continue
                seen.add(node)
                if node in reductions:
                    found.add(node)
                if node in reductions or node.fusable:
                    pending.append(node)
        return found

    # -- groups ------------------------------------------------------------------------------------------------

    def _is_kernel(self, node: Node) -> bool:
        """Whether an op is computed in loops of its own, or of a group."""
        if node.is_reduction:
            return node.inlines and node.operands[0].size > 0
        return node.fusable and not node.moves and node.result.stored

    def cone(self, results: Sequence[Node]) -> tuple[list[Node], list[Value]]:
        """The ops that the results are computed by in their loops, in order, and what these read."""
        key = tuple(results)
        if key in self._found:
            return self._found[key]
        members = set(results)
        pending = list(results)
        while pending:
            node = pending.pop()
            for operand in () if node.is_view else node.operands:
                repeated = self.repeated.get(operand, set()).issuperset(results)
                if operand.producer not in members and (repeated or self._is_computed_in_place(operand)):
                    assert operand.producer is not None
                    members.add(operand.producer)
                    pending.append(operand.producer)
        ops = sorted(members, key=lambda n: n.index)
        inputs = dict.fromkeys(v for n in ops for v in n.operands if v.producer not in members)
        self._found[key] = ops, list(inputs)
        return self._found[key]

    @staticmethod
    def _is_computed_in_place(value: Value) -> bool:
        """Whether a kernel that uses a value computes it, as it does all movements: they cost nothing."""
        node = value.producer
        return node is not None and node.fusable and (not value.stored or node.moves)

    def _too_many(self, kernel: Node) -> list[Node]:
        """What a kernel computes its operands with, if it reads too many tensors for a dispatch, of a product even."""
        if len(self.cone([kernel])[1]) <= MAX_TENSORS - 2:
            return []
        return [v.producer for v in kernel.operands if v.producer is not None and self._is_computed_in_place(v)]

    def _nest(self, results: Sequence[Node]) -> Nest:
        """The loops in which the results are computed."""
        ops, _ = self.cone(results)
        key = tuple(ops), tuple(results)
        if key not in self._nests:
            self._nests[key] = Nest([n.op for n in ops], [n.op for n in results])
        return self._nests[key]

    def _group(self) -> list[Group]:
        self.latest = {node: node.index for node in self.nodes}
        owner: dict[Node, Group] = {}
        groups: dict[Any, list[Group]] = {}
        for kernel in self.kernels:
            ops, inputs = self.cone([kernel])
            group = Group([kernel], ops, inputs)
            large = kernel.elements
            cones = (self.cone([v.producer]) for v in inputs if v.producer and v.producer.fusable)
            known = {*inputs, *(v for _, read in cones for v in read)} if kernel.is_reduction else set()
            shared = {v for v in inputs if v.size >= large}
            sliced = {v.producer for n in ops if n.is_view for v in n.operands}
            makers = {v.producer for v in shared}
            for other in reversed(groups.get(group.key, ())):
                # What the other reads is in memory still when what this one's inputs are computed from is: a layer
                # norm's gradients by its parameters are computed together with that by the bias before it.
                if (
                    (
                        not shared.isdisjoint(other.inputs)
                        or not makers.isdisjoint(other.results)
                        or (kernel.is_reduction and known.issuperset(v for v in other.inputs if v.size >= large))
                    )
                    and len({*inputs, *other.inputs}) + len(other.results) <= MAX_INPUTS
                    and sliced.isdisjoint(other.results)
                    and not self._runs_between(other, inputs, not kernel.is_reduction, owner)
                    and (both := self._both(other, group))
                ):
                    other.results, other.ops, other.inputs = both.results, both.ops, both.inputs
                    owner[kernel] = other
                    self._join(other, owner)
                    break
            else:
                groups.setdefault(group.key, []).append(group)
                owner[kernel] = group
        return [group for same in groups.values() for group in same]

    def _both(self, one: Group, other: Group) -> Group | None:
        """Two groups over the same loops as one, if a dispatch can read and write so many tensors.

        Not where one of them computes a value by itself that the other waits for.
        """
        results = [*one.results, *other.results]
        ops, inputs = self.cone(results)
        is_whole = {*one.inputs, *other.inputs}.issuperset(inputs)
        fits = len(inputs) + len(results) <= MAX_TENSORS and not all(node.is_constant for node in results)
        return Group(results, ops, inputs) if is_whole and fits else None

    def _runs_between(self, unit: Any, inputs: list[Value], direct: bool, owner: Mapping[Node, Any]) -> bool:
        """Whether what is read in ``inputs`` is computed from results of ``unit`` by something else.

        Reading them ``direct``ly is no such thing where that is allowed. ``owner`` are the units of nodes that have
        one.
        """
        start = min(node.index for node in unit.results)
        seen: set[Node] = set()
        pending = [(0, inputs)]
        while pending:
            _, values = heapq.heappop(pending)  # of the first node: what is computed from it is found soon
            for value in values:
                node = value.producer
                if node is None or node in seen:
                    continue
                other = owner.get(node)
                if other is unit:
                    if not (direct and values is inputs):
                        return True
                    continue
                if other:
                    seen.update(other.results)
                else:
                    seen.add(node)
                if self.latest[node] >= start:
                    heapq.heappush(pending, (node.index, (other or node).inputs))
        return False

    def _join(self, unit: Any, owner: Mapping[Node, Any]) -> None:
        """Notes that what needs one result of ``unit`` needs all of them."""
        latest = max(self.latest[node] for node in unit.results)
        pending = list(unit.results)
        while pending:
            node = pending.pop()
            if self.latest[node] < latest:
                self.latest[node] = latest
                pending += owner[node].results if node in owner else ()
                pending += (user for value in node.results for user in value.users)

    def dispatches(self) -> list[Dispatch]:
        """What runs, with groups over the same rows in one dispatch, in an order in which it can."""
        groups = self._group()
        kernels = set(groups)
        stored = (node for node in self.nodes[:-1] if not node.fusable or node.result.stored)
        units = {node: Group([node], [node], node.operands) for node in stored}
        units |= {node: group for group in groups for node in group.results}
        owner: dict[Node, Dispatch] = {}
        updates: dict[Any, Dispatch] = {}
        for group in _in_order(units):
            producers = (owner[v.producer] for v in group.inputs if v.producer is not None)
            before = [dispatch for dispatch in dict.fromkeys(producers) if dispatch.rows]
            # What folds nothing, and reads nothing that a fold leaves, is by itself.
            nest = None
            if group in kernels and (before or group.results[0].is_reduction):
                nest = self._nest(group.results)
            for dispatch in before:
                if (
                    nest
                    and len({*group.inputs, *dispatch.inputs, *group.results, *dispatch.results}) <= MAX_TENSORS
                    and not all(n.is_constant for n in (*group.results, *dispatch.results))
                    and dispatch.accepts(nest, self.options.min_rows)
                    and not self._runs_between(dispatch, group.inputs, True, owner)
                ):
                    dispatch.add(group)
                    break
            else:
                folds_all = nest is not None and nest.is_reduction and nest.last_run[1] == len(nest.folded)
                dispatch = Dispatch([group], nest if folds_all and self.options.rows else None)
                if group in kernels and self._is_update(group):
                    last = updates.get(group.key)
                    both = self._both(last.groups[0], group) if last else None
                    if last and both and not self._runs_between(last, group.inputs, False, owner):
                        last.groups, last.results, last.inputs = [both], both.results, both.inputs
                        dispatch = last
                    updates[group.key] = dispatch
            owner |= dict.fromkeys(group.results, dispatch)
            self._join(dispatch, owner)
        return _in_order(owner, set(self.nodes[-1].operands))

    def _is_update(self, group: Group) -> bool:
        """Whether a group computes short vectors that are returned, such as a bias and its moments after a step."""
        end = self.nodes[-1]
        return all(
            not node.is_reduction
            and len(node.loops) == 1
            and node.result.nbytes <= MAX_VECTOR_BYTES
            and end in node.result.users
            and {end, *group.ops}.issuperset(node.result.users)
            for node in group.results
        )

    # -- functions ---------------------------------------------------------------------------------------------

    def carry_out(self, module: Any) -> None:
        """Makes functions of what several ops compute together, and puts everything in an order that suits them."""
        end = self.nodes[-1].op.operation
        dispatches = self.dispatches()
        counted: set[Node] = set()
        fused = [d for d in dispatches if self._is_fused(d)]
        read = Counter(v for dispatch in dispatches for v in dispatch.inputs) + Counter(self.nodes[-1].operands)
        # Calls take the places of ops that other groups have too, so these are looked at before there is one.
        products = {d: p for d in fused if self.options.epilogues and (p := self._product_of(d, read))}
        for dispatch in dispatches:
            for node in dispatch.results:
                node.op.operation.move_before(end)
            if dispatch not in fused:
                continue
            names, saved = [], 0
            for group in dispatch.groups:
                saved += sum(n.cost.bytes for n in group.ops if n not in counted)
                saved -= sum(v.nbytes for v in group.inputs) + sum(n.result.nbytes for n in group.results)
                counted.update(group.ops)
                names.append(self._define(module, group))
            if dispatch in products:
                saved += 2 * products[dispatch].nbytes
            call = self._call(module, dispatch, names, saved, read)
            if dispatch in products:
                call.attributes[EPILOGUE] = ir.UnitAttr.get()
        erase_unused([node.op for node in self.nodes])

    def _is_fused(self, dispatch: Dispatch) -> bool:
        """Whether a dispatch becomes a function: of several ops, or rows, which all are folded in one order."""
        group, *others = dispatch.groups
        if others or len(group.ops) > 1:
            return True
        if not group.results[0].is_reduction:
            return False
        nest = self._nest(group.results)
        return nest.is_simple and nest.are_rows

    def _product_of(self, dispatch: Dispatch, read: Mapping[Value, int]) -> Value | None:
        """The product that a dispatch is the epilogue of: all elements of its result are used here, and only here.

        What else the epilogue of a contraction reads has fewer loops: IREE would lay out a whole tensor as the result
        is, in a further dispatch, and nothing would be gained.
        """
        group, *others = dispatch.groups
        if others or len(group.results) > 1 or group.results[0].is_reduction:
            return None
        nest = self._nest(group.results)
        if nest.views or not nest.loops:
            return None
        places = [(v, [loop for loop in place if loop is not None]) for v, place in nest.inputs]
        whole = [(v, place) for v, place in places if len(set(place)) == len(nest.loops)]
        if any(place != sorted(place) for _, place in whole):
            return None
        values = {v.handle: v for v in group.inputs}
        for handle, _ in whole:
            value = values[handle]
            while read[value] == 1 and value.producer is not None and isinstance(value.producer.op, ReshapeOp):
                (value,) = value.producer.operands
            node = value.producer
            if node is None or node.is_constant or read[value] > 1:
                continue
            if isinstance(node.op, (ConvolutionOp, DotGeneralOp) if len(whole) == 1 else ConvolutionOp):
                return value
        return None

    def _define(self, module: Any, group: Group) -> str:
        """The name of a group's function, which equal groups, such as those of a network's layers, have in common."""
        structure = tuple(n.label for n in group.ops), _uses(group.inputs, group.ops, group.results)
        if structure in self.functions:
            return self.functions[structure]
        function, values = self._new_function(module, group.inputs, group.results)
        with ir.InsertionPoint(function.entry_block):
            for node in group.ops:
                copy = node.op.operation.clone()
                for i, operand in enumerate(node.operands):
                    copy.operands[i] = values[operand]
                values[node.result] = copy.results[0]
            with group.results[-1].op.location:
                func.ReturnOp([values[n.result] for n in group.results])
        self.functions[structure] = str(function.sym_name.value)
        return self.functions[structure]

    def _call(self, module: Any, dispatch: Dispatch, names: list[str], saved: int, read: Mapping[Value, int]) -> Any:
        """Calls the groups of a dispatch, which for several of them is a function that calls theirs."""
        location = _location_of([dispatch.results[-1], *(n for group in dispatch.groups for n in group.ops)])
        results = dispatch.results
        if len(names) == 1:
            (name,) = names
        else:
            results = [n for n in results if read[n.result]]
            inside = [v for group in dispatch.groups for v in group.inputs if v not in dispatch.inputs]
            dropped = [n.result for n in dispatch.results if n not in results]
            saved += sum(v.nbytes for v in (*inside, *dropped))
            name = self._define_rows(module, dispatch, names, results, location)
        with location, ir.InsertionPoint(self.nodes[-1].op.operation):
            call = func.CallOp([n.result.handle.type for n in results], name, [v.handle for v in dispatch.inputs])
            call.attributes[SAVED] = ir.IntegerAttr.get(ir.IntegerType.get_signless(64), saved)
        for node, value in zip(results, call.results, strict=True):
            node.result.handle.replace_all_uses_with(value)
            node.result.handle = value
        return call

    def _define_rows(
        self, module: Any, dispatch: Dispatch, names: list[str], results: list[Node], location: Any
    ) -> str:
        """The name of a function that calls the groups of a dispatch, which equal dispatches have in common."""
        structure = tuple(names), _uses(dispatch.inputs, dispatch.groups, results)
        if structure in self.functions:
            return self.functions[structure]
        function, values = self._new_function(module, dispatch.inputs, results)
        with ir.InsertionPoint(function.entry_block):
            for group, callee in zip(dispatch.groups, names, strict=True):
                with _location_of([group.results[-1], *group.ops]):
                    types = [n.result.handle.type for n in group.results]
                    call = func.CallOp(types, callee, [values[v] for v in group.inputs])
                values.update(zip([n.result for n in group.results], call.results, strict=True))
            with location:
                func.ReturnOp([values[n.result] for n in results])
        self.functions[structure] = str(function.sym_name.value)
        return self.functions[structure]

    def _new_function(self, module: Any, inputs: list[Value], results: list[Node]) -> tuple[Any, dict[Value, Any]]:
        """A function without ops, and its arguments for the inputs."""
        types = [v.handle.type for v in inputs], [n.result.handle.type for n in results]
        name = unique_name(module, f"{self.function.sym_name.value}.fused")
        with results[-1].op.location:
            function = func.FuncOp(name, types, visibility="private", ip=ir.InsertionPoint(module.body))
            arguments = function.add_entry_block().arguments
        function.attributes[FUSED] = ir.UnitAttr.get()
        return function, dict(zip(inputs, arguments, strict=True))


def _uses(inputs: list[Value], parts: Sequence[Node | Group], results: list[Node]) -> tuple[int, ...]:
    """What each operand of the parts is, then each result: numbers for the inputs, and then for what parts compute."""
    numbers = {value: number for number, value in enumerate(inputs)}
    uses = []
    for part in parts:
        uses += [numbers[value] for value in part.inputs]
        for value in part.results if isinstance(part, Node) else [node.result for node in part.results]:
            numbers[value] = len(numbers)
    return *uses, *(numbers[node.result] for node in results)


def _location_of(nodes: list[Node]) -> Any:
    """The first node's place, together with those of the others."""
    return ir.Location.fused(list(dict.fromkeys(node.op.location for node in nodes)))


def erase_unused(ops: list[Any]) -> None:
    """Erases those of the ops, each of which comes after what it uses, that nothing needs."""
    for op in reversed(ops):
        if isinstance(op, Op) and op.pure and not is_used(op):
            op.operation.erase()


def _is_of_all(node: Node, rows: Nest) -> bool:
    """Whether a result has an element for each of the loops, not one for each row."""
    return not node.is_reduction and tuple(extent for extent in node.loops if extent != 1) == rows.loops


def _in_order(units: Mapping[Node, Any], returned: Collection[Value] = ()) -> list[Any]:
    """The units of all nodes, ordered so that what one reads comes before it, and otherwise as they were.

    But a unit that frees more memory than its results take, or takes next to none, runs as soon as it can: an
    optimizer's update right after its gradient, and not when all gradients are there. What is ``returned`` has memory
    of its own, or an argument's.
    """
    inputs = {unit: unit.inputs for unit in units.values()}
    readers: dict[Value, set[Any]] = {}
    waiting: dict[Any, int] = {}
    users: dict[Any, list[Any]] = {}
    for unit, read in inputs.items():
        before = {units[v.producer] for v in read if v.producer is not None} - {unit}
        waiting[unit] = len(before)
        for other in before:
            users.setdefault(other, []).append(unit)
        for value in read:
            if value.producer is not None and value not in returned:
                readers.setdefault(value, set()).add(unit)

    def is_urgent(unit: Any) -> bool:
        taken = sum(v.nbytes for node in unit.results for v in node.results if v.stored and v not in returned)
        freed = sum(v.nbytes for v in inputs[unit] if readers.get(v) == {unit})
        return taken <= freed or taken <= SMALL_BYTES

    heap: list[tuple[bool, int, Any]] = []

    def ready(unit: Any) -> None:
        heapq.heappush(heap, (not is_urgent(unit), unit.results[-1].index, unit))

    for unit, count in waiting.items():
        if not count:
            ready(unit)
    found: dict[Any, None] = {}
    while heap:
        _, _, unit = heapq.heappop(heap)
        if unit in found:
            continue
        found[unit] = None
        for user in users.get(unit, ()):
            waiting[user] -= 1
            if not waiting[user]:
                ready(user)
        for value in inputs[unit]:
            left = readers.get(value, set())
            left.discard(unit)
            if len(left) == 1:
                (last,) = left
                if not waiting[last]:
                    ready(last)
    assert len(found) == len(waiting), "units wait for one another"
    return list(found)


def _spec(value: Any) -> TensorSpec:
    """The spec of a value, an empty one for what is no tensor."""
    return spec_of(value.type) if isinstance(value.type, ir.RankedTensorType) else TensorSpec((0,), bool_)


# -- the report ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FusedGroup:
    """A group of ops that is computed in one dispatch.

    Attributes:
        name: the function that it became.
        ops: the mnemonics of its ops, in order.
        results: what it computes.
        bytes_saved: what would move to and from memory besides if each op ran by itself. Ops that an earlier group
            computes too do not count again, so that a group that only spares a stored tensor may have a negative one.
        location: the user's line of the last result, ``file:line``.
        is_epilogue: whether that is the dispatch of the product that it reads.
    """

    name: str
    ops: tuple[str, ...]
    results: tuple[TensorSpec, ...]
    bytes_saved: int
    location: str | None
    is_epilogue: bool = False

    def __str__(self) -> str:
        results = ", ".join(map(str, self.results))
        at = f" ({self.location})" if self.location else ""
        after = "(product) " if self.is_epilogue else ""
        return f"{self.bytes_saved / 1e6:12.3f} MB  @{self.name} -> {results}: {after}{' '.join(self.ops)}{at}"


@dataclass(frozen=True)
class FusionReport:
    """What volta-fuse made of a program: its groups, in the order in which they run."""

    groups: tuple[FusedGroup, ...]

    @property
    def bytes_saved(self) -> int:
        """What all groups save together."""
        return sum(group.bytes_saved for group in self.groups)

    def __str__(self) -> str:
        total = f"{self.bytes_saved / 1e6:12.3f} MB  saved by {len(self.groups)} groups"
        return "\n".join([*map(str, self.groups), total])


def fusion_report(module: Any) -> FusionReport:
    """The groups that the functions of a module call, after volta-fuse and before it is lowered."""
    found = []
    for function in functions(module):
        for call in calls_in(function) if not function.is_external and not is_fused(function) else ():
            callee = callee_of(call)
            if is_fused(callee):
                parts = [callee, *map(callee_of, calls_in(callee))]
                ops = [op for part in parts for op in part.entry_block.operations if isinstance(op, Op)]
                if len(ops) == 1:  # a function for the order of its sums
                    continue
                found.append(
                    FusedGroup(
                        name=callee.sym_name.value,
                        ops=tuple(op.mnemonic for op in ops),
                        results=tuple(map(spec_of, callee.type.results)),
                        bytes_saved=ir.IntegerAttr(call.operation.attributes[SAVED]).value,
                        location=source_location(call.location),
                        is_epilogue=EPILOGUE in call.operation.attributes,
                    )
                )
    return FusionReport(tuple(found))
