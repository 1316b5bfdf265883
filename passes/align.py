"""volta-align: brings reshapes, slices and pads to where volta-fuse need not store what they move.

A reshape that splits axes, a slice and a transposition go up to what is in memory anyway, where they cost nothing: the
heads of queries, keys and values are then computed from slices of one product, in the layout in which they are
stored. A reshape that merges axes goes down, behind the elementwise op on it. A sum of tensors that are each padded to
a block of the result, the gradient of such slices, becomes a selection by the number of the block.

Every rule keeps results to the bit. They are applied until nothing changes, as in volta-simplify.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from volta_mlir import functions as F
from volta_mlir import trace
from volta_mlir.dialects import elementwise
from volta_mlir.dialects.elementwise import Elementwise
from volta_mlir.dialects.lowering import reassociation
from volta_mlir.dialects.movement import BroadcastInDimOp, PadOp, ReshapeOp, SliceOp, TransposeOp
from volta_mlir.mlir import spec_of
from volta_mlir.passes.derived import functions
from volta_mlir.passes.manager import Pass
from volta_mlir.passes.simplify import Rule, producer, rewrite
from volta_mlir.tensor import Tensor

#: The most blocks of a sum of padded tensors, each of which is read once for every block.
MAX_BLOCKS = 4


@dataclass
class Align(Pass, name="volta-align"):
    """Move reshapes, slices and pads to where what they move need not be stored."""

    def run(self, module: Any) -> None:
        for function in functions(module):
            if not function.is_external:
                rewrite(function.entry_block, RULES)


# -- looking at ops ------------------------------------------------------------------------------------------------


def _elementwise(value: Any) -> Any | None:
    """The elementwise op that computes ``value``, None if another one does."""
    op = producer(value, Elementwise)
    return None if isinstance(op, elementwise.StopGradientOp) else op


def _users(op: Any) -> list[Any]:
    return [getattr(use.owner, "opview", use.owner) for use in op.operation.results[0].uses]


def _result(op: Any) -> Any:
    return spec_of(op.operation.results[0].type)


def _parts(before: tuple[int, ...], after: tuple[int, ...]) -> list[list[int]] | None:
    """The axes of ``after`` that each axis of ``before`` is split into; None if that is no splitting of axes."""
    groups = reassociation(before, after)
    if groups is None or len(after) <= len(before) or any(len(left) != 1 for left, _ in groups):
        return None
    return [right for _, right in groups]


def _split(op: Any) -> list[tuple[int, ...]] | None:
    """The extents that a reshape splits each axis into; None for another reshape."""
    shape = _result(op).shape
    parts = _parts(spec_of(op.operation.operands[0].type).shape, shape)
    return None if parts is None else [tuple(shape[axis] for axis in axes) for axes in parts]


def _moved_up(inner: Any, emitter: trace.Emitter, move: Callable[[Tensor], Tensor]) -> Tensor:
    """An elementwise op of operands that are moved in the place of its result."""
    operands = [move(emitter.wrap(v)) for v in inner.operation.operands]
    result: Tensor = type(inner).apply(*operands, **inner.attribute_values())
    return result


# -- rules ---------------------------------------------------------------------------------------------------------


def slice_of_elementwise(op: Any, emitter: trace.Emitter) -> Tensor | None:
    """Slices of an elementwise op that nothing else uses, and that together are no more than all of it."""
    inner = _elementwise(op.operation.operands[0])
    if inner is None:
        return None
    users = _users(inner)
    if not all(isinstance(user, SliceOp) for user in users):
        return None
    if sum(_result(user).size for user in users) > _result(inner).size:
        return None
    return _moved_up(inner, emitter, lambda x: F.slice(x, op.start, op.limit, op.strides))


def slice_of_broadcast(op: Any, emitter: trace.Emitter) -> Tensor | None:
    """What is broadcast is sliced before."""
    inner = producer(op.operation.operands[0], BroadcastInDimOp)
    if inner is None:
        return None
    x = emitter.wrap(inner.operation.operands[0])
    of_axes = zip(x.shape, inner.dims, strict=True)
    taken = [(0, 1, 1) if n == 1 else (op.start[d], op.limit[d], op.strides[d]) for n, d in of_axes]
    return F.broadcast_in_dim(F.slice(x, *zip(*taken, strict=True)) if taken else x, _result(op).shape, inner.dims)


def split_of_slice(op: Any, emitter: trace.Emitter) -> Tensor | None:
    """What is sliced is split before, if the slice takes whole parts of the axes."""
    inner, parts = producer(op.operation.operands[0], SliceOp), _split(op)
    if inner is None or parts is None:
        return None
    x = emitter.wrap(inner.operation.operands[0])
    taken: list[tuple[int, int, int]] = []
    shape: list[int] = []
    for (count, *rest), extent, start, stride in zip(parts, x.shape, inner.start, inner.strides, strict=True):
        size = math.prod(rest)
        if rest and (stride != 1 or start % size or extent % size):
            return None
        first = start // size
        shape += [extent // size, *rest]
        taken += [(first, first + (count - 1) * stride + 1, stride), *((0, n, 1) for n in rest)]
    return F.slice(F.reshape(x, shape), *zip(*taken, strict=True))


def split_of_broadcast(op: Any, emitter: trace.Emitter) -> Tensor | None:
    """What is broadcast is split before."""
    inner = producer(op.operation.operands[0], BroadcastInDimOp)
    if inner is None:
        return None
    parts = _parts(_result(inner).shape, op.shape)
    if parts is None:
        return None
    x = emitter.wrap(inner.operation.operands[0])
    split = [[1 if n == 1 else op.shape[a] for a in parts[d]] for n, d in zip(x.shape, inner.dims, strict=True)]
    axes = [axis for d in inner.dims for axis in parts[d]]
    return F.broadcast_in_dim(F.reshape(x, [n for extents in split for n in extents]), op.shape, axes)


def split_of_elementwise(op: Any, emitter: trace.Emitter) -> Tensor | None:
    """An elementwise op of which only split axes are used, which are then transposed."""
    inner = _elementwise(op.operation.operands[0])
    if inner is None or _split(op) is None or len(_users(inner)) != 1:
        return None
    if not all(isinstance(user, TransposeOp) for user in _users(op)):
        return None
    return _moved_up(inner, emitter, lambda x: F.reshape(x, op.shape))


def transpose_of_elementwise(op: Any, emitter: trace.Emitter) -> Tensor | None:
    """An elementwise op whose result is only used transposed."""
    inner = _elementwise(op.operation.operands[0])
    if inner is None or len(_users(inner)) != 1:
        return None
    return _moved_up(inner, emitter, lambda x: F.transpose(x, op.permutation))


def elementwise_of_merged(op: Any, emitter: trace.Emitter) -> Tensor | None:
    """An elementwise op on axes that were merged after other elementwise ops on the same axes."""
    merged = [producer(value, ReshapeOp) for value in op.operation.operands]
    if any(one is None for one in merged):
        return None
    sources = [reshape.operation.operands[0] for reshape in merged if reshape is not None]
    inner = [_elementwise(source) for source in sources]
    if any(one is None or len(_users(one)) != 1 for one in inner) or len({spec_of(s.type).shape for s in sources}) != 1:
        return None
    if _parts(_result(op).shape, spec_of(sources[0].type).shape) is None:
        return None
    operands = [emitter.wrap(source) for source in sources]
    return F.reshape(type(op).apply(*operands, **op.attribute_values()), _result(op).shape)


def select_block(op: Any, emitter: trace.Emitter) -> Tensor | None:
    """A tensor padded to a block of a sum's term is selected by the number of the block."""
    source, value = op.operation.operands
    spec = spec_of(source.type)
    padded = [axis for axis in range(spec.rank) if op.low[axis] or op.high[axis]]
    if len(padded) != 1 or any(op.interior) or not all(isinstance(u, elementwise.AddOp) for u in _users(op)):
        return None
    (axis,) = padded
    extent, low, high = spec.shape[axis], op.low[axis], op.high[axis]
    if not spec.size or min(low, high) < 0 or low % extent or high % extent:
        return None
    count = (low + extent + high) // extent
    if count > MAX_BLOCKS:
        return None
    x, place = emitter.wrap(source), axis
    merged = producer(source, ReshapeOp)
    if merged is not None:
        inner = emitter.wrap(merged.operation.operands[0])
        parts = _parts(spec.shape, inner.shape)
        if parts is not None:
            x, place = inner, parts[axis][0]
    shape = (*x.shape[:place], count, *x.shape[place:])
    is_block = F.iota(shape, axis=place) == low // extent
    repeated = F.broadcast_in_dim(x, shape, [a for a in range(len(shape)) if a != place])
    return F.reshape(F.where(is_block, repeated, emitter.wrap(value)), _result(op).shape)


RULES: dict[Any, tuple[Rule, ...]] = {
    SliceOp: (slice_of_elementwise, slice_of_broadcast),
    ReshapeOp: (split_of_slice, split_of_broadcast, split_of_elementwise),
    TransposeOp: (transpose_of_elementwise,),
    PadOp: (select_block,),
    elementwise.AddOp: (elementwise_of_merged,),
}
