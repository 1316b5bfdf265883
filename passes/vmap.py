"""volta-vmap: defines ``volta.vmap`` functions by every op's ``batch`` facet.

The mapped axis is always the leading one. Ops without a batched operand stay as they are and are computed once.
"""

from dataclasses import dataclass
from typing import Any

from volta_mlir import functions as F
from volta_mlir import trace
from volta_mlir.dialects.base import Op
from volta_mlir.errors import CompileError
from volta_mlir.mlir import func, ir, spec_of, tensor_type
from volta_mlir.passes.control_flow import SAVED
from volta_mlir.passes.derived import (
    DERIVATIONS,
    attribute_of,
    callee_of,
    control_of,
    current_functions,
    define,
    kind_of,
    require_tensors,
)
from volta_mlir.passes.manager import Pass, source_location


@dataclass
class Vmap(Pass, name="volta-vmap"):
    """Define volta.vmap functions by adding a leading axis to what depends on the batched arguments."""

    def run(self, module: Any) -> None:
        for function in current_functions(module):
            if kind_of(function) == "volta.vmap":
                define(module, function)


def _define_vmap(module: Any, declaration: Any, source: Any) -> Any:
    """``(arguments, with a leading axis where volta.batched) -> (results, all with a leading axis)``"""
    flags = list(attribute_of(declaration, "volta.batched", ir.DenseBoolArrayAttr))
    size = attribute_of(declaration, "volta.size", ir.IntegerAttr).value
    if size < 0:
        raise CompileError(f"volta.size is not negative, got {size}", location=source_location(declaration.location))
    if len(flags) != len(source.arguments):
        raise CompileError(
            f"volta.batched has {len(flags)} entries, @{source.sym_name.value} has {len(source.arguments)} arguments",
            location=source_location(declaration.location),
        )
    require_tensors(source, [a.type for a, flag in zip(source.arguments, flags, strict=True) if flag])
    types = [
        tensor_type(spec_of(a.type).with_shape((size, *a.type.shape))) if flag else a.type
        for a, flag in zip(source.arguments, flags, strict=True)
    ]
    with declaration.location:
        function = func.FuncOp(
            f"{source.sym_name.value}.vmap.body", (types, []), visibility="private", ip=ir.InsertionPoint(declaration)
        )
        block = function.add_entry_block()
    end = ir.InsertionPoint(block)
    values: dict[Any, Any] = dict(zip(source.arguments, block.arguments, strict=True))
    batched = {a for a, flag in zip(source.arguments, flags, strict=True) if flag}
    for op in source.entry_block.operations:
        operands = list(op.operation.operands)
        mapped = [v in batched for v in operands]
        with trace.emitting(end, op.location) as emitter:
            if op.operation.name == "func.return":
                outs = [
                    values[v]
                    if flag
                    else F.broadcast_to(emitter.wrap(values[v]), (size, *spec_of(v.type).shape))._value
                    for v, flag in zip(operands, mapped, strict=True)
                ]
                func.ReturnOp(outs, ip=end)
                break
            control = control_of(callee_of(op)) if op.operation.name == "func.call" else None
            if not isinstance(op, Op) and not control:
                raise CompileError(f"'{op.operation.name}' can't be batched", location=source_location(op.location))
            if not any(mapped):
                copy = op.operation.clone(ip=end)
                for i, v in enumerate(operands):
                    copy.operands[i] = values[v]
                results = list(copy.results)
            else:
                tensors = [emitter.wrap(values[v]) for v in operands]
                if control:
                    out = control.batch(tensors, mapped, size)
                else:
                    out = type(op).batch(tensors, mapped, **op.attribute_values())
                results = [t._value for t in (out if isinstance(out, tuple | list) else (out,))]
                batched.update(op.operation.results)
                if SAVED in op.operation.attributes:
                    for result in results:
                        result.owner.attributes[SAVED] = op.operation.attributes[SAVED]
            values.update(zip(op.operation.results, results, strict=True))
    function_type = ir.FunctionType.get([a.type for a in block.arguments], [v.type for v in outs])
    function.attributes["function_type"] = ir.TypeAttr.get(function_type)
    return function


DERIVATIONS["volta.vmap"] = _define_vmap
