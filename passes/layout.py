"""volta-layout: channels last through whole networks of convolutions.

Convolutions compute with channels last, wherever their users have them. Transposing what goes into each and what
comes out of it costs a copy each time, which the backward pass then keeps. Here the order of axes goes from the
convolutions to all that their inputs and results are computed from and to, as far as ops don't care about it, so that
only what enters and leaves such a network is transposed.
"""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from volta_mlir import functions as F
from volta_mlir import trace
from volta_mlir.dialects.base import Op
from volta_mlir.dialects.convolution import Convolutional, to_channels_last
from volta_mlir.dialects.movement import inverse
from volta_mlir.mlir import ir
from volta_mlir.passes.derived import functions
from volta_mlir.passes.manager import Pass

Permutation = tuple[int, ...]
#: Ops, and for each the values whose axes come in one order that may be another.
Ops = list[tuple[Any, list[Any]]]


@dataclass
class Layout(Pass, name="volta-layout"):
    """Bring convolutions, and what is computed between them, to channels last."""

    def run(self, module: Any) -> None:
        for function in functions(module):
            block = None if function.is_external else function.entry_block
            if block is not None and any(isinstance(op, Convolutional) for op in block.operations):
                ops = [(op, values) for op in block.operations if (values := _permuted(op))]
                _permute(block, ops, _orders(ops))


def _permuted(op: Any) -> list[Any]:
    """The values of an op whose axes come in one order that may be another."""
    if not isinstance(op, Op) or op.permuted_operands is None:
        return []
    if isinstance(op, Convolutional) and op.layout[-1] == "C":
        return []
    return [*list(op.operation.operands)[op.permuted_operands], *(op.operation.results if op.permuted_result else ())]


def _orders(ops: Ops) -> dict[Any, Permutation]:
    """How to transpose values to channels last: those of convolutions, and those that other ops connect with them."""
    orders: dict[Any, Permutation] = {}
    connected: dict[Any, list[Any]] = defaultdict(list)
    found = []
    for op, values in ops:
        for value in values:
            connected[value].append(values)
        if isinstance(op, Convolutional):
            found += [(value, to_channels_last("x", op.layout)) for value in values]
    while found:
        value, order = found.pop()
        if value not in orders:
            orders[value] = order
            found += [(other, order) for values in connected[value] for other in values]
    return orders


def _permute(block: Any, ops: Ops, orders: dict[Any, Permutation]) -> None:
    """Replaces the ops on such values by those on the transposed ones."""
    found = [(op, orders[values[0]]) for op, values in ops if values[0] in orders]
    replaced = []
    transposed: dict[Any, Any] = {}
    with trace.emitting(ir.InsertionPoint(block), ir.Location.unknown()) as emitter:
        for op, order in found:
            emitter.insertion_point, emitter.location = ir.InsertionPoint(op), op.location
            operands = [emitter.wrap(value) for value in op.operation.operands]
            for number in range(len(operands))[op.permuted_operands]:
                value = operands[number]._value
                if value not in transposed:
                    transposed[value] = F.transpose(operands[number], order)
                operands[number] = transposed[value]
            result = type(op).permute(operands, order, **op.attribute_values())
            if result is None:
                continue
            replaced.append(op)
            before = result
            if op.permuted_result:
                before = F.transpose(result, inverse(order))
                transposed[before._value] = result
            op.operation.results[0].replace_all_uses_with(before._value)
    for op in reversed(replaced):
        op.operation.erase()
