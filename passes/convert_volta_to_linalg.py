"""convert-volta-to-linalg: every op by its ``lower`` facet, signed and unsigned types to signless ones."""

from dataclasses import dataclass
from typing import Any

from volta_mlir.dialects.base import Composite, Op
from volta_mlir.dialects.lowering import Lowering
from volta_mlir.errors import CompileError
from volta_mlir.mlir import func, ir, signless_tensor_type, spec_of
from volta_mlir.passes.derived import callee_of, control_of, expand, functions
from volta_mlir.passes.manager import Pass, source_location


@dataclass
class ConvertVoltaToLinalg(Pass, name="convert-volta-to-linalg"):
    """Lower every volta op to linalg, tensor, arith and math on signless types; no volta op is left."""

    def run(self, module: Any) -> None:
        declarations = []
        for function in functions(module):
            if control_of(function):
                declarations.append(function)
            else:
                _convert_function(function)
        for declaration in declarations:
            declaration.erase()


def _signless(type_: Any) -> Any:
    return signless_tensor_type(spec_of(type_)) if isinstance(type_, ir.RankedTensorType) else type_


def _convert_function(function: Any) -> None:
    if function.is_external:
        raise CompileError(
            f"@{function.sym_name.value} has no body; derived functions are defined by volta-autodiff and volta-vmap",
            location=source_location(function.location),
        )
    for op in list(function.entry_block.operations):
        if isinstance(op, Composite):
            expand(op)
    # The lowerings read signedness off the old function's types, so a new function is built beside it.
    old_type = function.type
    new_type = ir.FunctionType.get([_signless(t) for t in old_type.inputs], [_signless(t) for t in old_type.results])
    with function.location:
        converted = func.FuncOp(function.sym_name.value, new_type, ip=ir.InsertionPoint(function))
    for key, attribute in function.attributes.items():
        if key != "function_type":
            converted.attributes[key] = attribute
    block = converted.add_entry_block([a.location for a in function.arguments])
    values = dict(zip(function.arguments, block.arguments, strict=True))
    builder = Lowering()
    with ir.InsertionPoint(block):
        for op in function.entry_block.operations:
            operands = [values[v] for v in op.operation.operands]
            with op.location:
                results = _convert_op(builder, op, operands)
            values.update(zip(op.operation.results, results, strict=True))
    function.erase()


def _convert_op(builder: Lowering, op: Any, operands: list[Any]) -> list[Any]:
    if isinstance(op, Op):
        lowered = type(op).lower(builder, op, *operands)
        return list(lowered) if isinstance(lowered, tuple | list) else [lowered]
    control = control_of(callee_of(op)) if op.operation.name == "func.call" else None
    if control:
        return control.lower(builder, operands)
    # What is not volta's (returns, calls, ops of upstream dialects) stays as it is, on the new types.
    raw = op.operation
    new = ir.Operation.create(
        raw.name,
        results=[_signless(r.type) for r in raw.results],
        operands=operands,
        attributes=dict(raw.attributes.items()),
    )
    return list(new.results)
