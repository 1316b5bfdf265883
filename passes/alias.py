"""volta-alias: which result takes the buffer of which donated argument.

A donated argument (``volta.donated``) and a result can share a buffer when their shapes and dtypes agree. Arguments
and results carry their place in the caller's trees (``volta.name``), by which a parameter finds its own update; what
is left is paired in order. The pairing is written as ``iree.abi.output``. Then what computes such a result is moved
behind everything that reads the argument. Whether a pair may really be updated in place shows only in the schedule
that IREE makes; the compile step checks it there and drops pairs that may not.
"""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from volta_mlir.dialects.movement import ReshapeOp
from volta_mlir.mlir import ir
from volta_mlir.passes.derived import functions, is_private, used_by
from volta_mlir.passes.manager import Pass

ABI_OUTPUT = "iree.abi.output"


@dataclass
class Alias(Pass, name="volta-alias"):
    """Pair donated arguments with the results that take over their buffers, as iree.abi.output."""

    def run(self, module: Any) -> None:
        for function in functions(module):
            if not is_private(function) and not function.is_external:
                _alias_function(function)


def _alias_function(function: Any) -> None:
    pairs = result_pairs(function)
    if pairs:
        set_donations(function, pairs)
        _read_first(function, pairs)


def result_pairs(function: Any) -> dict[int, int]:
    """The number of a donated argument, and that of the result which can take its buffer."""
    arguments = _attributes(function, "arg_attrs", len(function.arguments))
    results = _attributes(function, "res_attrs", len(function.type.results))
    donated = [i for i, attributes in enumerate(arguments) if "volta.donated" in attributes]
    free = {i: type_ for i, type_ in enumerate(function.type.results) if "volta.printed" not in results[i]}
    pairs: dict[int, int] = {}
    for matches in (_same_name, lambda argument, result: True):
        for i in donated:
            if i in pairs:
                continue
            for j, type_ in free.items():
                if type_ == function.arguments[i].type and matches(arguments[i], results[j]):
                    pairs[i] = j
                    del free[j]
                    break
    return pairs


def _read_first(function: Any, pairs: dict[int, int]) -> None:
    """Puts what writes a result behind all that reads the argument whose buffer it takes, where that is possible."""
    import networkx

    *ops, end = (op.operation for op in function.entry_block.operations)
    numbers = {op: number for number, op in enumerate(ops)}
    order = networkx.DiGraph()
    order.add_nodes_from(numbers.values())
    readers: dict[Any, list[int]] = defaultdict(list)
    for op, number in numbers.items():
        for value in used_by(op):
            readers[value].append(number)
            if value.owner in numbers:
                order.add_edge(numbers[value.owner], number)
    for argument, result in pairs.items():
        writer = end.operands[result].owner
        while writer in numbers and isinstance(writer.opview, ReshapeOp):  # in the same memory
            writer = writer.operands[0].owner
        if writer not in numbers:
            continue
        pending = list(readers[function.arguments[argument]])
        for reader in pending:
            if isinstance(ops[reader].opview, ReshapeOp):
                pending += readers[ops[reader].results[0]]
            if reader != numbers[writer] and not networkx.has_path(order, numbers[writer], reader):
                order.add_edge(reader, numbers[writer])
    for number in networkx.lexicographical_topological_sort(order):
        ops[number].move_before(end)


def _same_name(argument: dict[str, Any], result: dict[str, Any]) -> bool:
    """Whether both are the same leaf of their trees: the paths agree after the first component."""
    names = [a.get("volta.name") for a in (argument, result)]
    paths = [name.value.partition(".")[2] for name in names if isinstance(name, ir.StringAttr)]
    return len(paths) == 2 and paths[0] == paths[1]


def _attributes(function: Any, kind: str, count: int) -> list[dict[str, Any]]:
    if kind not in function.attributes:
        return [{} for _ in range(count)]
    return [{entry.name: entry.attr for entry in ir.DictAttr(d)} for d in ir.ArrayAttr(function.attributes[kind])]


def donations(function: Any) -> dict[int, int]:
    """Argument number to result number, as ``iree.abi.output`` says."""
    arguments = _attributes(function, "arg_attrs", len(function.arguments))
    return {i: ir.IntegerAttr(a[ABI_OUTPUT]).value for i, a in enumerate(arguments) if ABI_OUTPUT in a}


def set_donations(function: Any, pairs: dict[int, int]) -> None:
    """Replaces the ``iree.abi.output`` attributes of a function's arguments."""
    arguments = _attributes(function, "arg_attrs", len(function.arguments))
    for i, attributes in enumerate(arguments):
        attributes.pop(ABI_OUTPUT, None)
        if i in pairs:
            attributes[ABI_OUTPUT] = ir.IntegerAttr.get(ir.IndexType.get(), pairs[i])
    function.attributes["arg_attrs"] = ir.ArrayAttr.get([ir.DictAttr.get(a) for a in arguments])
