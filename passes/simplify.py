"""volta-simplify: algebraic rules, applied until nothing changes.

Every rule keeps IEEE results to the bit (``x + 0.0`` stays, since it turns -0.0 into 0.0; but mathematical functions
of constants become what their references say, which may be rounded otherwise) and never computes more than before. A
rule takes an op and returns the tensor that replaces its result, or None where it does not apply.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from volta_mlir import functions as F
from volta_mlir import trace
from volta_mlir.dialects import contraction, creation, elementwise, movement
from volta_mlir.dialects.base import Op
from volta_mlir.dtypes import bool_, is_float, is_unsigned
from volta_mlir.mlir import context, ir, spec_of
from volta_mlir.passes.derived import functions, is_used
from volta_mlir.passes.manager import Pass, option
from volta_mlir.tensor import Tensor

Rule = Callable[[Any, trace.Emitter], Tensor | None]

#: Results up to this many elements are computed at compile time when all operands are constants.
MAX_FOLDED_ELEMENTS = 256


@dataclass
class Simplify(Pass, name="volta-simplify"):
    """Apply algebraic rules (identities, cancelling movements, constants) until nothing changes."""

    max_iterations: int = option(16, "rounds over a function before giving up")

    def run(self, module: Any) -> None:
        for function in functions(module):
            if not function.is_external:
                rewrite(function.entry_block, RULES, GENERAL_RULES, self.max_iterations)


def rewrite(
    block: Any, rules: Mapping[Any, Sequence[Rule]], general: Sequence[Rule] = (), max_rounds: int = 16
) -> None:
    """Applies rules to the ops of a block, those of an op's class and the general ones, until nothing changes.

    A rule may look at what computes its op's operands, at what computes theirs, and at what uses any of these.
    """
    among: set[Any] | None = None  # the ops for which rules may apply that did not before; at first, all
    for number in range(max_rounds):
        changed = _replace(block, rules, general, among)
        if changed or number == 0:
            _erase_unused(block, changed)
        if not changed:
            break
        among = {op for value in changed for op in _around(value)}


class _InFront(trace.Emitter):
    """Emits in front of the op that is looked at, and notes what it emits."""

    def __init__(self) -> None:
        super().__init__(None, None)
        self.op: Any = None
        self.emitted: dict[Any, None] = {}

    def emit(self, op: Any, values: Any, specs: Any, attributes: dict[str, Any]) -> list[Any]:
        self.insertion_point, self.location = ir.InsertionPoint(self.op), self.op.location
        results = super().emit(op, values, specs, attributes)
        self.emitted |= dict.fromkeys(results)
        return results


def _replace(
    block: Any, rules: Mapping[Any, Sequence[Rule]], general: Sequence[Rule], among: Collection[Any] | None
) -> dict[Any, None]:
    """One round over those of a block's ops, in order; the values that are new, or used in the place of others."""
    emitter = _InFront()
    changed: dict[Any, None] = {}
    with context(), ir.Location.unknown(), emitter:
        for op in list(block.operations):
            if not isinstance(op, Op) or (among is not None and op not in among):
                continue
            emitter.op = op
            for rule in (*rules.get(type(op), ()), *general):
                replacement = rule(op, emitter)
                if replacement is not None:
                    op.operation.results[0].replace_all_uses_with(replacement._value)
                    changed[replacement._value] = None
                    break
    return changed | emitter.emitted if changed else {}


def _erase_unused(block: Any, changed: dict[Any, None]) -> None:
    """Erases the ops of a block whose results nothing uses; of the values, those that are left, and what these used."""
    for op in reversed(list(block.operations)):
        # Calls have no effects either: all that volta can express are values.
        is_pure = isinstance(op, Op) or op.operation.name == "func.call"
        if is_pure and not is_used(op):
            for result in op.operation.results:
                changed.pop(result, None)
            changed |= dict.fromkeys(op.operation.operands)
            op.operation.erase()


def _around(value: Any) -> Iterator[Any]:
    """What computes a value, what uses it, and what uses that."""
    yield value.owner
    for use in value.uses:
        yield use.owner
        for result in use.owner.operation.results:
            yield from (user.owner for user in result.uses)


# -- looking at operands -------------------------------------------------------------------------------------------


def producer(value: Any, op_class: type[Op]) -> Any | None:
    """The op of this class that computes ``value``, None if another one does."""
    owner = value.owner
    if isinstance(owner, ir.Block):
        return None
    view = owner.opview if isinstance(owner, ir.Operation) else owner
    return view if isinstance(view, op_class) else None


def _splat(value: Any) -> np.ndarray | None:
    """The one element that a full or a constant tensor consists of, as a rank-0 array."""
    op = producer(value, creation.Creation)
    if isinstance(op, creation.FullOp):
        return op.value
    if isinstance(op, creation.ConstantOp) and ir.DenseElementsAttr(op.operation.attributes["value"]).is_splat:
        return op.value.reshape(-1)[:1].reshape(())
    return None


def _constant(value: Any) -> np.ndarray | None:
    """The elements of a small constant."""
    spec = spec_of(value.type)
    if spec.size > MAX_FOLDED_ELEMENTS:
        return None
    splat = _splat(value)
    if splat is not None:
        return np.broadcast_to(splat, spec.shape)
    constant = producer(value, creation.ConstantOp)
    return None if constant is None else constant.value


def _is__splat(value: Any, number: float) -> bool:
    """Whether every element is ``number``, with its sign of zero."""
    splat = _splat(value)
    return splat is not None and bool(splat == number) and bool(np.signbit(splat) == np.signbit(np.float64(number)))


# -- rules ---------------------------------------------------------------------------------------------------------


def fold_splats(op: Any, emitter: trace.Emitter) -> Tensor | None:
    """An elementwise op on splats is a splat."""
    if not isinstance(op, elementwise.Elementwise) or isinstance(
        op, elementwise.StopGradientOp | elementwise.CheckpointNameOp
    ):
        return None
    splats: list[np.ndarray] = []
    for operand in op.operation.operands:
        splat = _splat(operand)
        if splat is None:
            return None
        splats.append(splat)
    (element,) = type(op).evaluate(splats, op.attribute_values())
    return F.full(spec_of(op.operation.results[0].type).shape, element, element.dtype)


def fold_constants(op: Any, emitter: trace.Emitter) -> Tensor | None:
    """An op on small constants is a constant; what stands behind a barrier is not known to be one."""
    if not op.pure or isinstance(op, creation.Creation) or len(op.operation.results) != 1:
        return None
    result = spec_of(op.operation.results[0].type)
    if result.size > MAX_FOLDED_ELEMENTS:
        return None
    arrays = [_constant(v) for v in op.operation.operands]
    if any(a is None for a in arrays):
        return None
    (value,) = type(op).evaluate(arrays, op.attribute_values())
    return emitter.wrap(emitter.constant(value))


def add_identity(op: Any, emitter: trace.Emitter) -> Tensor | None:
    """``x + -0.0`` and, for integers, ``x + 0`` are x."""
    lhs, rhs = op.operation.operands
    zero = -0.0 if is_float(spec_of(lhs.type).dtype) else 0
    if _is__splat(rhs, zero):
        return emitter.wrap(lhs)
    return emitter.wrap(rhs) if _is__splat(lhs, zero) else None


def sub_identity(op: Any, emitter: trace.Emitter) -> Tensor | None:
    """``x - 0`` is x."""
    lhs, rhs = op.operation.operands
    return emitter.wrap(lhs) if _is__splat(rhs, 0.0) else None


def mul_identity(op: Any, emitter: trace.Emitter) -> Tensor | None:
    """``x * 1`` is x."""
    lhs, rhs = op.operation.operands
    if _is__splat(rhs, 1.0):
        return emitter.wrap(lhs)
    return emitter.wrap(rhs) if _is__splat(lhs, 1.0) else None


def same_operands(op: Any, emitter: trace.Emitter) -> Tensor | None:
    """The greater of x and x is x, and so on; of integers ``x - x`` is 0, and ``x < x`` is false."""
    lhs, rhs = op.operation.operands
    if lhs != rhs:
        return None
    if isinstance(op, elementwise.MaximumOp | elementwise.MinimumOp | elementwise.AndOp | elementwise.OrOp):
        return emitter.wrap(lhs)
    spec = spec_of(lhs.type)
    if is_float(spec.dtype):
        return None
    if isinstance(op, elementwise.CompareOp):
        return F.full(spec.shape, op.direction in ("eq", "le", "ge"), bool_)
    return F.full(spec.shape, 0, spec.dtype)


def unsigned_abs(op: Any, emitter: trace.Emitter) -> Tensor | None:
    """The absolute value of an unsigned number is the number."""
    source = op.operation.operands[0]
    return emitter.wrap(source) if is_unsigned(spec_of(source.type).dtype) else None


def reverse_nothing(op: Any, emitter: trace.Emitter) -> Tensor | None:
    """Reversing axes of one element, or none, changes nothing."""
    source = op.operation.operands[0]
    shape = spec_of(source.type).shape
    return emitter.wrap(source) if all(shape[axis] == 1 for axis in op.axes) else None


def double_negation(op: Any, emitter: trace.Emitter) -> Tensor | None:
    """``-(-x)`` is x."""
    inner = producer(op.operation.operands[0], elementwise.NegOp)
    return emitter.wrap(inner.operation.operands[0]) if inner else None


def convert_identity(op: Any, emitter: trace.Emitter) -> Tensor | None:
    """A conversion to the operand's own dtype is the operand."""
    source = op.operation.operands[0]
    return emitter.wrap(source) if source.type == op.operation.results[0].type else None


def keep_operand(op: Any, emitter: trace.Emitter) -> Tensor | None:
    """Differentiation is over: the value itself."""
    return emitter.wrap(op.operation.operands[0])


def select_constant(op: Any, emitter: trace.Emitter) -> Tensor | None:
    """A selection by a splat, or between equal values, is one of them."""
    predicate, on_true, on_false = op.operation.operands
    if on_true == on_false:
        return emitter.wrap(on_true)
    splat = _splat(predicate)
    return None if splat is None else emitter.wrap(on_true if splat else on_false)


def move_splat(op: Any, emitter: trace.Emitter) -> Tensor | None:
    """A splat reshaped, transposed or broadcast is a splat."""
    splat = _splat(op.operation.operands[0])
    if splat is None:
        return None
    return F.full(spec_of(op.operation.results[0].type).shape, splat, splat.dtype)


def same_type(op: Any, emitter: trace.Emitter) -> Tensor | None:
    """A reshape or broadcast that changes nothing."""
    source = op.operation.operands[0]
    return emitter.wrap(source) if source.type == op.operation.results[0].type else None


def reshape_of_reshape(op: Any, emitter: trace.Emitter) -> Tensor | None:
    """The last shape alone counts."""
    inner = producer(op.operation.operands[0], movement.ReshapeOp)
    return F.reshape(emitter.wrap(inner.operation.operands[0]), op.shape) if inner else None


def transpose_identity(op: Any, emitter: trace.Emitter) -> Tensor | None:
    """A transposition that moves no axis, or only axes of extent 1, is the operand or a reshape."""
    source = op.operation.operands[0]
    spec = spec_of(source.type)
    permutation = op.permutation
    if list(permutation) == sorted(permutation):
        return emitter.wrap(source)
    long = [p for p in permutation if spec.shape[p] != 1]
    return F.reshape(emitter.wrap(source), [spec.shape[p] for p in permutation]) if long == sorted(long) else None


def transpose_of_transpose(op: Any, emitter: trace.Emitter) -> Tensor | None:
    """Two transpositions are one."""
    inner = producer(op.operation.operands[0], movement.TransposeOp)
    if inner is None:
        return None
    first = inner.permutation
    return F.transpose(emitter.wrap(inner.operation.operands[0]), [first[p] for p in op.permutation])


def broadcast_of_broadcast(op: Any, emitter: trace.Emitter) -> Tensor | None:
    """Two broadcasts are one."""
    inner = producer(op.operation.operands[0], movement.BroadcastInDimOp)
    if inner is None:
        return None
    dims = [op.dims[d] for d in inner.dims]
    return F.broadcast_in_dim(emitter.wrap(inner.operation.operands[0]), op.shape, dims)


def dot_of_transpose(op: Any, emitter: trace.Emitter) -> Tensor | None:
    """A transposed operand of a product is the operand with other axis numbers, if its free axes keep their order."""
    attributes = op.attribute_values()
    operands = [emitter.wrap(v) for v in op.operation.operands]
    changed = False
    for i, side in enumerate(("lhs", "rhs")):
        inner = producer(op.operation.operands[i], movement.TransposeOp)
        if inner is None:
            continue
        permutation = inner.permutation
        batch, contract = attributes[f"{side}_batch"], attributes[f"{side}_contract"]
        free = [permutation[a] for a in contraction.free_axes(len(permutation), batch, contract)]
        if free == sorted(free):
            attributes[f"{side}_batch"] = tuple(permutation[a] for a in batch)
            attributes[f"{side}_contract"] = tuple(permutation[a] for a in contract)
            operands[i] = emitter.wrap(inner.operation.operands[0])
            changed = True
    return contraction.DotGeneralOp.apply(*operands, **attributes) if changed else None


def transpose_of_dot(op: Any, emitter: trace.Emitter) -> Tensor | None:
    """A product with the free axes of its operands exchanged is the product in the other order."""
    dot = producer(op.operation.operands[0], contraction.DotGeneralOp)
    if dot is None or len(list(dot.operation.results[0].uses)) != 1:
        return None
    a = dot.attribute_values()
    lhs, rhs = dot.operation.operands
    batch = len(a["lhs_batch"])
    left = spec_of(lhs.type).rank - batch - len(a["lhs_contract"])
    rank = spec_of(dot.operation.results[0].type).rank
    exchanged = [*range(batch), *range(batch + left, rank), *range(batch, batch + left)]
    if list(op.permutation) != exchanged:
        return None
    return contraction.DotGeneralOp.apply(
        emitter.wrap(rhs), emitter.wrap(lhs), lhs_batch=a["rhs_batch"], rhs_batch=a["lhs_batch"],
        lhs_contract=a["rhs_contract"], rhs_contract=a["lhs_contract"], dtype=a["dtype"],
    )  # fmt: skip


RULES: dict[Any, tuple[Rule, ...]] = {
    elementwise.AddOp: (add_identity,),
    elementwise.SubOp: (sub_identity, same_operands),
    elementwise.MulOp: (mul_identity,),
    elementwise.MaximumOp: (same_operands,),
    elementwise.MinimumOp: (same_operands,),
    elementwise.AndOp: (same_operands,),
    elementwise.OrOp: (same_operands,),
    elementwise.XorOp: (same_operands,),
    elementwise.CompareOp: (same_operands,),
    elementwise.AbsOp: (unsigned_abs,),
    elementwise.NegOp: (double_negation,),
    elementwise.ConvertOp: (convert_identity,),
    elementwise.SelectOp: (select_constant,),
    elementwise.StopGradientOp: (keep_operand,),
    elementwise.CheckpointNameOp: (keep_operand,),
    movement.ReshapeOp: (same_type, move_splat, reshape_of_reshape),
    movement.BroadcastInDimOp: (same_type, move_splat, broadcast_of_broadcast),
    movement.ReverseOp: (reverse_nothing,),
    movement.TransposeOp: (transpose_identity, move_splat, transpose_of_transpose, transpose_of_dot),
    contraction.DotGeneralOp: (dot_of_transpose,),
}
GENERAL_RULES: tuple[Rule, ...] = (fold_splats, fold_constants)
