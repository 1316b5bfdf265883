"""Fused functions: groups of ops that are computed in one dispatch, as volta-fuse makes them.

A group is a private function with the attribute ``volta.fused``, called where the group stands::

    func.func private @step.fused(%x: tensor<8x4xf32>, %b: tensor<4xf32>) -> tensor<8x4xf32>
        attributes {volta.fused} {
      %0 = "volta.broadcast_in_dim"(%b) {dims = array<i64: 1>, shape = array<i64: 8, 4>} : …
      %1 = "volta.add"(%x, %0) : …
      %2 = "volta.tanh"(%1) : …
      return %2 : tensor<8x4xf32>
    }

Its body is ordinary volta: the interpreter runs it, and any pass can read it. Its *results* are elementwise ops of one
shape, or reductions of operands of one shape along the same axes. All its other ops are *pointwise*: an element of
the result is made from at most one element of each operand, at a place that is known from the loops. So the whole
function is one ``linalg.generic``: broadcasts, transpositions and reshapes of axes of extent 1 become indexing maps,
constants and iotas become scalars, slices of arguments are read as tensors, elementwise ops become its body. What is
used by none of the results costs nothing, and what is used twice is computed once.

A function with that attribute whose body only calls such groups is one dispatch of several loop nests: a reduction, and
what uses its results for the same row.

A :data:`Place` says where an element is taken from: for each axis of a value the number of the loop that indexes it,
or None for an axis of extent 1.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from math import prod
from typing import Any

from volta_mlir.dialects.control import AfterOp
from volta_mlir.dialects.creation import ConstantOp, FullOp, IotaOp
from volta_mlir.dialects.elementwise import CheckpointNameOp, Elementwise, StopGradientOp
from volta_mlir.dialects.lowering import Lowering
from volta_mlir.dialects.movement import BroadcastInDimOp, ReshapeOp, SliceOp, TransposeOp, inverse, permuted
from volta_mlir.dialects.reduction import (
    Reduce,
    cut_run,
    fold_together,
    kept_axes,
    recode,
    recoded,
    reduction_accumulator,
    runs,
)
from volta_mlir.dtypes import TensorSpec
from volta_mlir.mlir import arith, func, ir, passmanager, signless_element_type, spec_of
from volta_mlir.passes.derived import callee_of, calls_in

#: The attribute of a function that is one dispatch.
FUSED = "volta.fused"
#: The attribute of a call of such a function: the number of bytes that this saves.
SAVED = "volta.saved"
#: The attribute of a call of a group that IREE is to compute in the dispatch of the product that it reads.
EPILOGUE = "volta.epilogue"

Place = tuple[int | None, ...]


def is_fused(function: Any) -> bool:
    """Whether a function is a group that volta-fuse made."""
    return FUSED in function.attributes


def is_pointwise(op: Any) -> bool:
    """Whether each element of the op's result is made of at most one element of each operand, at a known place."""
    if isinstance(op, Elementwise):
        return not isinstance(op, StopGradientOp | CheckpointNameOp)
    if isinstance(op, ReshapeOp):
        before, after = (spec_of(v.type).shape for v in (op.operation.operands[0], op.operation.results[0]))
        return [s for s in before if s != 1] == [s for s in after if s != 1]
    if isinstance(op, ConstantOp):
        return bool(ir.DenseElementsAttr(op.operation.attributes["value"]).is_splat)
    return isinstance(op, AfterOp | BroadcastInDimOp | TransposeOp | FullOp | IotaOp)


def is_view(op: Any) -> bool:
    """Whether the op's result is a part of its operand in memory, which a group reads as it reads a whole tensor."""
    return isinstance(op, SliceOp) and all(stride == 1 for stride in op.strides)


def operand_places(op: Any, place: Place) -> list[Place]:
    """Where the operands of a pointwise op are read for the element of its result at ``place``."""
    if isinstance(op, Elementwise):
        return [place] * len(op.operation.operands)
    if isinstance(op, AfterOp):
        return [place, ()]
    operands = [spec_of(v.type) for v in op.operation.operands]
    if isinstance(op, BroadcastInDimOp):
        shape = operands[0].shape
        return [tuple(None if shape[a] == 1 else place[dim] for a, dim in enumerate(op.dims))]
    if isinstance(op, TransposeOp):
        return [permuted(place, inverse(op.permutation))]
    if isinstance(op, ReshapeOp):
        result = spec_of(op.operation.results[0].type)
        long = iter([loop for loop, extent in zip(place, result.shape, strict=True) if extent != 1])
        return [tuple(None if extent == 1 else next(long) for extent in operands[0].shape)]
    return []


def loops_of(op: Any) -> tuple[int, ...]:
    """The shape over which a result is computed: its own, or that of what a reduction folds."""
    return spec_of((op.operation.operands if isinstance(op, Reduce) else op.operation.results)[0].type).shape


class Nest:
    """The loops of a group, and what is read where in them. Axes of extent 1 have no loop.

    Args:
        ops: pointwise ops, slices of values from outside, and the reductions among the results, each after what it
            uses.
        results: the ops whose results the group has.
        is_whole: whether the group is a dispatch, and not one of several in a dispatch.
        vector_bytes: the size of a vector, in the lanes of which rows are folded; 0 if they aren't folded in lanes.

    Attributes:
        loops: the extent of each loop.
        folded: the loops that reductions fold. If they are several runs of adjacent loops, the last run is folded
            here, and the others afterwards.
        places: for each value the places at which it is needed.
        views: the slices.
        inputs: the values that come from outside, or are slices of such, and the places at which they are read.
    """

    def __init__(
        self, ops: Sequence[Any], results: Sequence[Any], *, is_whole: bool = True, vector_bytes: int = 0
    ) -> None:
        self.views: list[Any] = []
        self.ops: list[Any] = []
        for op in ops:
            (self.views if is_view(op) else self.ops).append(op)
        ops, self.results, self.is_whole, self._vector_bytes = self.ops, results, is_whole, vector_bytes
        shape = loops_of(results[0])
        long = [axis for axis, extent in enumerate(shape) if extent != 1]
        self.loops = tuple(shape[axis] for axis in long)
        self.is_reduction = isinstance(results[0], Reduce)
        self.folded = tuple(long.index(a) for a in results[0].axes if a in long) if self.is_reduction else ()
        self.whole: Place = tuple(long.index(axis) if axis in long else None for axis in range(len(shape)))
        self.places: dict[Any, dict[Place, None]] = {}
        for op in results:
            self._need((op.operation.operands if self.is_reduction else op.operation.results)[0], self.whole)
        for op in reversed(ops):
            if not isinstance(op, Reduce):
                for place in self.places.get(op.operation.results[0], ()):
                    for operand, where in zip(op.operation.operands, operand_places(op, place), strict=True):
                        self._need(operand, where)
        made = {op.operation.results[0] for op in ops}
        used = dict.fromkeys(v for op in ops for v in op.operation.operands if v not in made)
        self.inputs = [(v, place) for v in used for place in self.places[v]]

    def _need(self, value: Any, place: Place) -> None:
        self.places.setdefault(value, {})[place] = None

    @property
    def last_run(self) -> tuple[int, int]:
        """The first and the number of the loops that are folded here; none are folded if this is no reduction."""
        return runs(self.folded)[-1] if self.folded else (len(self.loops), 1)

    @cached_property
    def cut(self) -> tuple[int, int, int]:
        """How the last run is computed: in parts (see `cut_run`), and each of these in steps, and the steps in lanes.

        Lanes are what a vector holds. Said here, they make the order in which a row is summed the same in all groups,
        so that what is computed again is what was computed before; and IREE 3.13 finds them itself only for a
        reduction of one operand to one result.
        """
        first, count = self.last_run
        extent = prod(self.loops[first : first + count])
        specs = [spec_of(op.operation.results[0].type) for op in self.results]
        folds = zip(self.results, specs, strict=True)
        lanes = self._vector_bytes // max(reduction_accumulator(op.fold, spec.dtype).itemsize for op, spec in folds)
        if lanes < 2 or not self.are_rows or extent % lanes or extent <= lanes:
            lanes = 1
        parts, steps = cut_run(extent // lanes) if self.is_whole else (1, extent // lanes)
        return parts, steps, lanes

    @property
    def folded_after(self) -> list[int]:
        """The loops, among `extents`, that are folded after the last run: other runs, and the parts of the last one."""
        first, _ = self.last_run
        return [*(loop for loop in self.folded if loop < first), *([first] if self.folded and self.cut[0] > 1 else [])]

    @property
    def are_rows(self) -> bool:
        """Whether elements that are next to each other in memory are folded."""
        return bool(self.folded) and sum(self.last_run) == len(self.loops)

    @property
    def here(self) -> int:
        """The number of the loop over the steps, among `extents`."""
        return self.last_run[0] + (self.cut[0] > 1)

    @cached_property
    def extents(self) -> tuple[int, ...]:
        """The extents of the loops, those of `cut` in the place of the last run's."""
        if not self.folded:
            return self.loops
        first, count = self.last_run
        return (*self.loops[:first], *(n for n in self.cut if n > 1), *self.loops[first + count :])

    def numbers(self, loop: int) -> range:
        """The numbers among `extents` of what a loop has become, alone or together with the others of its run."""
        first, count = self.last_run
        added = len(self.extents) - len(self.loops)
        if loop < first:
            return range(loop, loop + 1)
        if loop < first + count:
            return range(first, first + count + added)
        return range(loop + added, loop + added + 1)

    @property
    def is_simple(self) -> bool:
        """Whether what is folded here can be computed in one loop: IREE 3.13 is slow, or fails, with more."""
        if not self.is_reduction:
            return True
        if not self.folded or 0 in self.loops:
            return False
        first, count = self.last_run
        run = list(range(first, first + count))
        counted = [op for op in self.ops if isinstance(op, IotaOp)]
        if count > 1 and any(place[op.axis] in run for op in counted for place in self.places[op.operation.results[0]]):
            return False
        places = [place for _, place in self.inputs]
        # The extent of a loop comes from what is read in it.
        return all(_holds(run, place) for place in places) and any(first in place for place in places)


def _holds(run: list[int], place: Place) -> bool:
    """Whether a place takes all loops of a run, one after the other, or none."""
    taken = [loop for loop in place if loop is not None]
    if not set(run) & set(taken):
        return True
    at = taken.index(run[0]) if run[0] in taken else 0
    return taken[at : at + len(run)] == run


def lower_fused(b: Lowering, function: Any, operands: Sequence[Any], *, is_epilogue: bool = False) -> list[Any]:
    """Emits a group as one dispatch; ``operands`` are the signless values of the function's arguments.

    An epilogue is no dispatch: IREE adds it to that of the product that it reads. And a reduction of a long run is two,
    of which the second is that of the group: see `Nest.cut`.
    """
    calls = calls_in(function)
    outs = [spec_of(t) for t in function.type.results]
    squeezed = [out.with_shape(tuple(extent for extent in out.shape if extent != 1)) for out in outs]
    if not calls:
        whole = _nest_of(function, b)
        finish = _lower_nest(b, function, whole, operands, _emit if is_epilogue else b.dispatch)
        if len(outs) == 1 or not whole.folded_after:
            return finish()
        # IREE 3.13 makes no valid op of a generic with several results of which one is transposed.
        return _reshaped(b, b.dispatch(squeezed, lambda: _reshaped(b, finish(), squeezed)), outs)
    values = dict(zip(function.arguments, operands, strict=True))
    nests = {call: _nest_of(callee_of(call), b, is_whole=False) for call in calls}

    def lower(call: Any, nest: Nest, emit: Emit) -> Finish:
        return _lower_nest(b, callee_of(call), nest, [values[v] for v in call.operation.operands], emit)

    before = {call: lower(call, _nest_of(callee_of(call), b), b.dispatch) for call in _cut_before(nests, function)}

    def dispatch() -> list[Any]:
        for call, nest in nests.items():
            finish = before.get(call) or lower(call, nest, _emit)
            values.update(zip(call.operation.results, finish(), strict=True))
        returned = function.entry_block.operations[len(calls)].operation.operands
        return _reshaped(b, [values[v] for v in returned], squeezed)

    return _reshaped(b, b.dispatch(squeezed, dispatch), outs)


def _cut_before(nests: Mapping[Any, Nest], function: Any) -> list[Any]:
    """The calls of which the long run of a reduction is folded in parts by a dispatch of its own, before the group's.

    That is where nothing else in the group goes over that run, which it would read again.
    """
    found = []
    for call, nest in nests.items():
        others = max((prod(other.loops) for c, other in nests.items() if c != call), default=0)
        is_long = nest.is_reduction and cut_run(nest.cut[1])[0] > 1
        is_first = all(v.owner == function.entry_block for v in call.operation.operands)
        if is_long and is_first and others * prod(nest.cut) <= prod(nest.loops):
            found.append(call)
    return found


def _reshaped(b: Lowering, values: Sequence[Any], specs: Sequence[TensorSpec]) -> list[Any]:
    """The values in the shapes of the specs; what is one value stays one."""
    found = {key: b.reshape(*key) for key in dict.fromkeys(zip(values, specs, strict=True))}
    return [found[key] for key in zip(values, specs, strict=True)]


#: Runs a function that emits ops whose results have these specs, and returns the results: as a dispatch, or in one.
Emit = Callable[[Sequence[TensorSpec], Callable[[], Sequence[Any]]], list[Any]]
#: Emits what is left to do after a dispatch, and returns the results.
Finish = Callable[[], list[Any]]


def _emit(results: Sequence[TensorSpec], body: Callable[[], Sequence[Any]]) -> list[Any]:
    """The ops by themselves, in the dispatch that they are in or that IREE forms."""
    return list(body())


def _nest_of(function: Any, b: Lowering, *, is_whole: bool = True) -> Nest:
    """The loops of a group that calls no other."""
    *ops, terminator = function.entry_block.operations
    producers = {op.operation.results[0]: op for op in ops}
    results = [producers[v] for v in terminator.operation.operands]
    return Nest(ops, results, is_whole=is_whole, vector_bytes=b.vector_bytes)


def _lower_nest(b: Lowering, function: Any, nest: Nest, operands: Sequence[Any], emit: Emit) -> Finish:
    """Emits a group that calls no other as one linalg.generic."""
    values = dict(zip(function.arguments, operands, strict=True))
    views = {op.operation.results[0]: op for op in nest.views}
    inputs, maps = [], []
    run = nest.numbers(nest.last_run[0]) if nest.folded else range(0)
    for value, place in nest.inputs:
        # Axes that merge are adjacent in whatever has them.
        taken = list(dict.fromkeys(number for loop in place if loop is not None for number in nest.numbers(loop)))
        spec = spec_of(value.type).with_shape(tuple(nest.extents[loop] for loop in taken))
        view = views.get(value)
        # Outside of the dispatch a run is one axis: IREE would move its parts up to what computes the value, which it
        # then computes twice, for those who read it otherwise too.
        joined = [prod(nest.cut) if loop in run else nest.extents[loop] for loop in taken if loop not in run[1:]]
        whole = values[view.operation.operands[0]] if view else b.reshape(values[value], spec.with_shape(tuple(joined)))
        inputs.append((whole, view, spec))
        maps.append(taken)

    def read() -> list[Any]:
        return [_slice(b, whole, view, spec) if view else b.reshape(whole, spec) for whole, view, spec in inputs]

    outs = [spec_of(op.operation.results[0].type) for op in nest.results]
    return (_lower_reductions if nest.is_reduction else _lower_elementwise)(b, nest, read, maps, outs, emit)


def _slice(b: Lowering, whole: Any, view: Any, spec: TensorSpec) -> Any:
    """A slice as a tensor of ``spec``; inside of a dispatch, which then reads no more than that."""
    sizes = spec_of(view.operation.results[0].type).shape
    return b.reshape(b.extract_slice(whole, view.start, sizes, view.strides), spec)


def _lower_elementwise(
    b: Lowering, nest: Nest, read: Callable[[], list[Any]], maps: list[Any], outs: list[TensorSpec], emit: Emit
) -> Finish:
    flat = [out.with_shape(nest.loops) for out in outs]
    loops = range(len(nest.loops))

    def body(*scalars: Any) -> list[Any]:
        found = _scalars(b, nest, scalars)
        return [found[op.operation.results[0], nest.whole] for op in nest.results]

    constants: dict[int, Any] = {}

    def dispatch() -> Sequence[Any]:
        outputs = [b.empty(spec) for spec in flat]
        results = b.generic(read(), maps, outputs, [loops] * len(outs), ["parallel"] * len(loops), body)
        folded = _folded(results, flat)
        constants.update((i, v) for i, v in enumerate(folded) if isinstance(v, ir.Attribute))
        return _distinct(results, folded)

    values = emit(flat, dispatch)
    # IREE 3.13 computes a dispatch that depends on nothing once, and mixes up its results.
    for number, value in constants.items():
        scalar = arith.constant(signless_element_type(flat[number].dtype), value)
        values[number] = b.filled(scalar, flat[number])
    return lambda: _reshaped(b, values, outs)


def _lower_reductions(
    b: Lowering, nest: Nest, read: Callable[[], list[Any]], maps: list[Any], outs: list[TensorSpec], emit: Emit
) -> Finish:
    _, _, lanes = nest.cut
    kept = kept_axes(len(nest.extents), (nest.here,))
    shape = tuple(nest.extents[loop] for loop in kept)
    rest = nest.folded_after
    left = tuple(extent for loop, extent in enumerate(nest.loops) if loop not in nest.folded)
    folds = [op.fold for op in nest.results]
    totals = [TensorSpec(shape, reduction_accumulator(fold, out.dtype)) for fold, out in zip(folds, outs, strict=True)]

    def body(*scalars: Any) -> list[Any]:
        found = _scalars(b, nest, scalars)
        results = []
        for op, out, spec, total in zip(nest.results, outs, totals, scalars[len(maps) :], strict=True):
            element = recode(b, found[op.operation.operands[0], nest.whole], out.dtype, spec.dtype)
            results.append(op.fold.combine(b, spec.dtype, element, total))
        return results

    def dispatch() -> Sequence[Any]:
        identities = [b.scalar(f.identity(spec.dtype), spec.dtype) for f, spec in zip(folds, totals, strict=True)]
        outputs = [b.filled(identity, spec) for identity, spec in zip(identities, totals, strict=True)]
        iterators = ["reduction" if loop == nest.here else "parallel" for loop in range(len(nest.extents))]
        computed = b.generic(read(), maps, outputs, [kept] * len(outs), iterators, body)
        results = _distinct(computed, _folded(computed, list(zip(folds, totals, strict=True))))
        if lanes > 1:
            results = fold(results, [nest.here])
        return results if rest else finished(results)

    def fold(values: Sequence[Any], axes: Sequence[int]) -> list[Any]:
        """Values, some of which may be equal, folded along axes."""
        numbers = {value: number for number, value in enumerate(values)}
        specs = [totals[n].with_shape(tuple(value.type.shape)) for value, n in numbers.items()]
        results = fold_together(b, [folds[n] for n in numbers.values()], list(numbers), specs, axes)
        found = dict(zip(numbers, results, strict=True))
        return [found[value] for value in values]

    def finished(values: Sequence[Any]) -> list[Any]:
        """Values, some of which may be equal, in the dtypes of the results."""
        keys = [(v, t.with_shape(left), out.dtype) for v, t, out in zip(values, totals, outs, strict=True)]
        found = {key: recoded(b, *key) for key in dict.fromkeys(keys)}
        return [found[key] for key in keys]

    if not rest:
        results = emit([out.with_shape(left) for out in outs], dispatch)
        return lambda: _reshaped(b, results, outs)
    folded_here = shape if lanes == 1 else (*shape[: nest.here], *shape[nest.here + 1 :])
    partial = emit([total.with_shape(folded_here) for total in totals], dispatch)
    return lambda: _reshaped(b, finished(fold(partial, rest)), outs)


def _distinct(results: Sequence[Any], folded: Sequence[Any]) -> list[Any]:
    """Results of a linalg.generic; of equal ones, the first each time, for `Lowering.dispatch`."""
    found: dict[Any, Any] = {}
    return [found.setdefault(value, result) for value, result in zip(folded, results, strict=True)]


def _folded(results: Sequence[Any], initial: Sequence[Any]) -> list[Any]:
    """Where a linalg.generic has several results, or reads nothing, what MLIR makes of it in a function of the scalars.

    Args:
        results: those of the linalg.generic.
        initial: something for the initial value of each, equal where they are.

    Returns:
        For each result the attribute of a constant, or something that is equal for equal values.
    """
    generic = results[0].owner
    block = generic.regions[0].blocks[0]
    *ops, end = (op.operation for op in block.operations)
    inputs = len(block.arguments) - len(results)
    if (len(results) == 1 and inputs) or any(len(op.regions) for op in ops):
        return list(range(len(results)))
    read = list(zip(generic.operands, generic.attributes["indexing_maps"], strict=True))
    given: dict[Any, Any] = dict(zip(block.arguments, [*read[:inputs], *initial], strict=True))
    inside = {v for op in ops for v in op.results}
    for op in ops:
        if op.name == "linalg.index":
            given[op.results[0]] = op.attributes["dim"]
        given.update((v, v) for v in op.operands if v not in inside and v not in given)
    types = {key: v.type for v, key in given.items()}
    module = ir.Module.create()
    with ir.InsertionPoint(module.body):
        function = func.FuncOp("body", (list(types.values()), [v.type for v in end.operands]))
    arguments = dict(zip(types, function.add_entry_block().arguments, strict=True))
    values = {v: arguments[key] for v, key in given.items()}
    with ir.InsertionPoint(function.entry_block):
        for op in ops:
            if op.results[0] not in values:
                copy = op.clone()
                for number, operand in enumerate(op.operands):
                    copy.operands[number] = values[operand]
                values[op.results[0]] = copy.results[0]
        func.ReturnOp([values[v] for v in end.operands])
    passmanager.PassManager.parse("builtin.module(canonicalize,cse)").run(module.operation)
    *_, end = function.entry_block.operations
    numbers: dict[Any, int] = {}
    keys = []
    for value in end.operation.operands:
        is_constant = getattr(value.owner, "name", "") == "arith.constant"
        keys.append(value.owner.attributes["value"] if is_constant else numbers.setdefault(value, len(numbers)))
    return keys


def _scalars(b: Lowering, nest: Nest, inputs: Sequence[Any]) -> dict[Any, Any]:
    """The scalars of all values at all places, from those of the inputs, inside a body."""
    found = dict(zip(nest.inputs, inputs[: len(nest.inputs)], strict=True))
    for op in nest.ops:
        if not isinstance(op, Reduce):
            for place in nest.places.get(op.operation.results[0], ()):
                found[op.operation.results[0], place] = _scalar(b, op, place, found, nest)
    return found


def _scalar(b: Lowering, op: Any, place: Place, found: dict[Any, Any], nest: Nest) -> Any:
    """The element of a pointwise op's result at a place, inside a body."""
    operands = list(op.operation.operands)
    scalars = [found[v, where] for v, where in zip(operands, operand_places(op, place), strict=True)]
    if isinstance(op, Elementwise):
        return op.lower_scalar(b, spec_of(operands[0].type).dtype, scalars, op.attribute_values())
    if isinstance(op, AfterOp):
        return op.scalar(b, *(spec_of(v.type) for v in operands), *scalars)
    if isinstance(op, FullOp):
        return b.scalar(op.value, op.value.dtype)
    if isinstance(op, ConstantOp):
        value = op.value
        return b.scalar(value.reshape(-1)[0], value.dtype)
    if isinstance(op, IotaOp):
        loop = place[op.axis]
        if loop is None:
            return b.convert_index(b.constant_index(0), op.dtype)
        outer, *inner = nest.numbers(loop)
        index = b.index(outer)
        for number in inner:
            index = arith.addi(arith.muli(index, b.constant_index(nest.extents[number])), b.index(number))
        return b.convert_index(index, op.dtype)
    return scalars[0]
