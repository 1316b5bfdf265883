"""convert-volta-to-linalg: every op by its ``lower`` facet, signed and unsigned types to signless ones."""

import zlib
from dataclasses import dataclass
from typing import Any

from volta_mlir import kernels
from volta_mlir.dialects.base import Composite, Op
from volta_mlir.dialects.lowering import Lowering
from volta_mlir.errors import CompileError
from volta_mlir.mlir import foreign_attribute, func, function_named, ir, signless_tensor_type, spec_of
from volta_mlir.passes.derived import build_function, callee_of, control_of, expand, functions, require_one_block
from volta_mlir.passes.fused import EPILOGUE, is_fused, lower_fused
from volta_mlir.passes.manager import Pass, option, source_location

#: Tells IREE that its default device reads its own memory. IREE 3.13 does not find out on which device a value is that
#: a loop carries, and copies it to the default one at every use unless it knows that nothing has to be moved.
ONE_DEVICE = "#hal.device.topology<links = [(@__device_0 -> @__device_0 = {unified_memory = true})]>"


@dataclass
class ConvertVoltaToLinalg(Pass, name="convert-volta-to-linalg"):
    """Lower every volta op to linalg, tensor, arith and math on signless types; no volta op is left.

    An op that has a kernel becomes a call of a function that says so.
    """

    vector_bytes: int = option(64, "the size of a vector, in the lanes of which rows are folded; 0 for none")

    def run(self, module: Any) -> None:
        for op in module.body.operations:
            if isinstance(op, Op) or op.operation.name == "builtin.module":
                where = source_location(op.location)
                raise CompileError(f"'{op.operation.name}' can't be lowered outside of a function", location=where)
        for function in functions(module):
            _replace_composites(module, function)
        described = []
        for function in functions(module):
            control = control_of(function)
            if control or is_fused(function):
                described.append(function)
                if control and control.is_loop:
                    module.operation.attributes["stream.topology"] = foreign_attribute(ONE_DEVICE)
            else:
                _convert_function(function, Lowering(self.vector_bytes))
        for declaration in described:
            declaration.erase()


def _replace_composites(module: Any, parent: Any) -> None:
    """Makes the composite ops inside another one calls of kernels' functions, or expands them."""
    for region in parent.operation.regions:
        for block in region.blocks:
            for op in list(block.operations):
                if not isinstance(op, Composite):
                    _replace_composites(module, op)
                elif not _outline(module, op):
                    expand(op)


def _outline(module: Any, op: Any) -> bool:
    """Replaces a composite op by a call of a function, see :mod:`volta_mlir.kernels`; False if it has no kernel."""
    cls, attributes = type(op), op.attribute_values()
    operands, results = ([spec_of(v.type) for v in values] for values in (op.operation.operands, op.operation.results))
    if cls.kernel("main", operands, results, **attributes) is None:
        return False
    identity = f"{cls.mnemonic} {operands} {sorted(attributes.items())}"
    name = f"{cls.mnemonic}.{zlib.crc32(identity.encode()):08x}"
    if function_named(module, name) is None:
        with op.location:
            build_function(module, name, operands, lambda *xs: list(cls.expand(*xs, **attributes)), op.location)
            described = {"op": ir.StringAttr.get(cls.mnemonic)} | cls.encode(attributes)
            function_named(module, name).attributes[kernels.ATTRIBUTE] = ir.DictAttr.get(described)
    with op.location, ir.InsertionPoint(op):
        call = func.CallOp([r.type for r in op.operation.results], name, list(op.operation.operands))
    for old, new in zip(op.operation.results, call.results, strict=True):
        old.replace_all_uses_with(new)
    op.operation.erase()
    return True


def _signless(type_: Any, user: Any) -> Any:
    """The type below volta of a value of ``user``."""
    if not isinstance(type_, ir.RankedTensorType):
        return type_
    try:
        return signless_tensor_type(spec_of(type_))
    except TypeError as error:
        raise CompileError(str(error), location=source_location(user.location)) from None


def _convert_function(function: Any, b: Lowering) -> None:
    if function.is_external:
        raise CompileError(
            f"@{function.sym_name.value} has no body; derived functions are defined by volta-autodiff and volta-vmap",
            location=source_location(function.location),
        )
    # The lowerings read signedness off the old function's types, so a new function is built beside it.
    inputs, results = (
        [_signless(t, function) for t in types] for types in (function.type.inputs, function.type.results)
    )
    with function.location:
        new_type = ir.FunctionType.get(inputs, results)
        converted = func.FuncOp(function.sym_name.value, new_type, ip=ir.InsertionPoint(function))
    for key, attribute in function.attributes.items():
        if key != "function_type":
            converted.attributes[key] = attribute
    _convert_regions(b, function, converted, {})
    function.erase()


def _convert_regions(builder: Lowering, source: Any, target: Any, values: dict[Any, Any]) -> None:
    """Fills the regions of ``target``; ``values`` are those that ``source`` may use from around it, converted."""
    require_one_block(source)
    for old_region, new_region in zip(source.operation.regions, target.operation.regions, strict=True):
        for block in old_region.blocks:
            types = [_signless(a.type, source) for a in block.arguments]
            new_block = new_region.blocks.append(*types, arg_locs=[a.location for a in block.arguments])
            values.update(zip(block.arguments, new_block.arguments, strict=True))
            with ir.InsertionPoint(new_block):
                for op in block.operations:
                    with op.location:
                        results = _convert_op(builder, op, values)
                    values.update(zip(op.operation.results, results, strict=True))


def _convert_op(builder: Lowering, op: Any, values: dict[Any, Any]) -> list[Any]:
    operands = [values[v] for v in op.operation.operands]
    if isinstance(op, Op):
        lowered = type(op).lower(builder, op, *operands)
        return list(lowered) if isinstance(lowered, tuple | list) else [lowered]
    if op.operation.name == "func.call":
        callee = callee_of(op)
        if is_fused(callee):
            return lower_fused(builder, callee, operands, is_epilogue=EPILOGUE in op.operation.attributes)
        control = control_of(callee)
        if control:
            return control.lower(builder, operands)
    # What is not volta's (returns, calls, ops of upstream dialects) stays as it is, on the new types.
    raw = op.operation
    new = ir.Operation.create(
        raw.name,
        results=[_signless(r.type, op) for r in raw.results],
        operands=operands,
        attributes=dict(raw.attributes.items()),
        regions=len(raw.regions),
    )
    _convert_regions(builder, op, new, values)
    return list(new.results)
