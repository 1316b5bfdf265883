"""Derived functions: declarations that say from which function, and how, they are made.

A transform does not rewrite at once. It declares a private function without a body whose attributes name its kind
and its source, and calls it::

    func.func private @loss.vjp(tensor<4xf32>, tensor<f32>) -> (tensor<f32>, tensor<4xf32>)
        attributes {volta.vjp = @loss, volta.wrt = array<i64: 0>}

The pass of that kind (volta-autodiff for ``volta.vjp`` and ``volta.jvp``, volta-vmap for ``volta.vmap``) gives it a
body. Derivations nest: a source may itself call derived functions, which are defined and inlined first.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from volta_mlir import trace
from volta_mlir.dtypes import TensorSpec
from volta_mlir.errors import CompileError
from volta_mlir.mlir import func, function_named, ir, spec_of, tensor_type
from volta_mlir.passes.manager import source_location
from volta_mlir.tensor import Tensor

#: How a function of each kind gets its body: ``(module, declaration, source) -> the defined function``.
DERIVATIONS: dict[str, Callable[[Any, Any, Any], Any]] = {}

#: Kinds of functions that are never inlined as they are: control flow and custom derivatives. Their declarations name
#: other functions; :mod:`volta_mlir.passes.control_flow` says what they mean.
CONTROL: dict[str, Any] = {}


def kind_of(function: Any) -> str | None:
    """The kind of a derived function that has no body yet, None for any other function."""
    if not function.is_external:
        return None
    return next((kind for kind in DERIVATIONS if kind in function.attributes), None)


def control_of(function: Any) -> Any:
    """The :class:`volta_mlir.passes.control_flow.Control` of a function of such a kind, None for any other."""
    if not function.is_external:
        return None
    return next((CONTROL[kind](function) for kind in CONTROL if kind in function.attributes), None)


def functions(module: Any) -> list[Any]:
    """The module's functions."""
    return [op for op in module.body.operations if isinstance(op, func.FuncOp)]


def current_functions(module: Any) -> Iterator[Any]:
    """The module's functions, for a loop that defines some: each is looked up when its turn comes, and may be new."""
    for name in [function.sym_name.value for function in functions(module)]:
        function = function_named(module, name)
        if function is not None:
            yield function


def is_private(function: Any) -> bool:
    """True for a function that only its own module can call."""
    return "sym_visibility" in function.attributes and function.visibility.value == "private"


def lookup(module: Any, symbol: Any, user: Any) -> Any:
    """The function that a symbol attribute of ``user`` names."""
    name = ir.FlatSymbolRefAttr(symbol).value
    found = function_named(module, name)
    if found is None:
        raise CompileError(f"there is no function @{name}", location=source_location(user.location))
    return found


def callee_of(op: Any) -> Any:
    """The function that a ``func.call`` calls."""
    parent = op.operation.parent
    while parent.name != "builtin.module":
        parent = parent.parent
    return lookup(parent.opview, op.operation.attributes["callee"], op)


_WRITTEN = {
    ir.ArrayAttr: "[…]",
    ir.BoolAttr: "true or false",
    ir.DenseBoolArrayAttr: "array<i1: …>",
    ir.DenseI64ArrayAttr: "array<i64: …>",
    ir.FlatSymbolRefAttr: "@function",
    ir.IntegerAttr: "an integer",
}


def attribute_of(function: Any, key: str, kind: Any) -> Any:
    """An attribute of a function, which must have it and be of this kind of MLIR's."""
    found = function.attributes.get(key)
    try:
        return kind(found)
    except (TypeError, ValueError):
        got = "nothing" if found is None else str(found)
        raise CompileError(
            f"@{function.sym_name.value} needs {key} = {_WRITTEN[kind]}, got {got}",
            location=source_location(function.location),
        ) from None


def require_one_block(operation: Any) -> None:
    """Raises CompileError for an operation with a region of several blocks."""
    if any(len(region.blocks) > 1 for region in operation.operation.regions):
        raise CompileError(
            "branches between blocks can't be transformed or lowered; use scf, or Volta's control flow",
            location=source_location(operation.location),
        )


def require_tensors(function: Any, types: Iterable[Any]) -> None:
    """Raises CompileError unless these types of values of a function, and its results', are tensors of Volta's."""
    for type_ in (*types, *function.type.results):
        try:
            spec_of(type_)
        except TypeError as error:
            raise CompileError(
                f"@{function.sym_name.value} can't be derived from: {error}",
                location=source_location(function.location),
            ) from None


def define(module: Any, declaration: Any, callers: Sequence[str] = ()) -> Any:
    """Gives a derived function its body and returns it; the source is flattened first."""
    kind = kind_of(declaration)
    if kind is None:
        return declaration
    name = declaration.sym_name.value
    source = lookup(module, attribute_of(declaration, kind, ir.FlatSymbolRefAttr), declaration)
    source = flatten(module, source, (*callers, name))
    if source.is_external:
        raise CompileError(
            f"@{source.sym_name.value} has no body to derive from", location=source_location(declaration.location)
        )
    defined = DERIVATIONS[kind](module, declaration, source)
    if defined.type != declaration.type:
        raise CompileError(
            f"@{name} is declared as {declaration.type}, but {kind} of @{source.sym_name.value} is {defined.type}",
            location=source_location(declaration.location),
        )
    declaration.erase()
    defined.attributes["sym_name"] = ir.StringAttr.get(name)
    return defined


def flatten(module: Any, function: Any, callers: Sequence[str] = ()) -> Any:
    """Defines ``function`` if it is derived, and inlines what it calls; returns it.

    Calls of control-flow functions stay, and the functions that those name are flattened. ``callers`` are the functions
    on the way here, by which recursion is found.
    """
    name = function.sym_name.value
    if name in callers:
        circle = " -> ".join(f"@{f}" for f in (*callers[callers.index(name) :], name))
        raise CompileError(f"recursion can't be compiled: {circle}", location=source_location(function.location))
    function = define(module, function, callers)
    callers = (*callers, name)
    if function.is_external:
        control = control_of(function)
        if control:
            control.verify()
        for part in control.parts if control else ():
            flatten(module, lookup(module, part, function), callers)
        return function
    require_one_block(function)
    pending = [(op, callers) for op in calls_in(function)]
    while pending:
        call, way = pending.pop()
        callee = lookup(module, call.operation.attributes["callee"], call)
        if callee.sym_name.value in way or control_of(callee):
            flatten(module, callee, way)
            continue
        callee = define(module, callee, way)
        if callee.is_external:
            raise CompileError(f"@{callee.sym_name.value} has no body", location=source_location(call.location))
        pending += [(op, (*way, callee.sym_name.value)) for op in inline(call, callee)]
    return function


def calls_in(operation: Any) -> list[Any]:
    """The ``func.call`` ops in the regions of an operation, or of those inside."""
    calls = []

    def visit(call: Any) -> Any:
        calls.append(call.opview)
        return ir.WalkResult.ADVANCE

    operation.operation.walk(visit, op_class=func.CallOp)
    return calls


def inline(call: Any, callee: Any) -> list[Any]:
    """Replaces a call by the callee's body; returns the calls that this brings in."""
    require_one_block(callee)
    copy = callee.operation.clone(ip=False).opview  # whole, because regions inside may use what lies around them
    calls = calls_in(copy)
    for argument, operand in zip(copy.arguments, call.operation.operands, strict=True):
        argument.replace_all_uses_with(operand)
    *ops, terminator = copy.entry_block.operations
    for op in ops:
        op.operation.move_before(call.operation)
    for old, new in zip(call.operation.results, terminator.operation.operands, strict=True):
        old.replace_all_uses_with(new)
    call.operation.erase()
    return calls


def expand(op: Any) -> list[Any]:
    """Replaces a composite op by its expansion, and returns the ops of that."""
    block = op.operation.block
    start = list(block.operations).index(op)
    behind = len(block.operations) - start
    with trace.emitting(ir.InsertionPoint(op), op.location) as emitter:
        outs = type(op).expand(*(emitter.wrap(v) for v in op.operation.operands), **op.attribute_values())
        for old, new in zip(op.operation.results, outs if isinstance(outs, tuple) else (outs,), strict=True):
            old.replace_all_uses_with(emitter.lift(new))
    ops = list(block.operations)[start:-behind]
    op.operation.erase()
    return ops


def clone_function(source: Any, name: str) -> Any:
    """A private copy of a function, right after it, without argument and result attributes."""
    copy = source.operation.clone(ip=ir.InsertionPoint(source)).opview
    copy.operation.move_after(source.operation)
    for key in list(copy.attributes):
        if key not in ("function_type", "sym_name"):
            del copy.attributes[key]
    copy.attributes["sym_name"] = ir.StringAttr.get(name)
    copy.attributes["sym_visibility"] = ir.StringAttr.get("private")
    return copy


def used_by(op: Any) -> Iterator[Any]:
    """The values that an op uses, also inside of its regions."""
    yield from op.operation.operands
    for region in op.operation.regions:
        for block in region.blocks:
            for inner in block.operations:
                yield from used_by(inner)


def is_used(op: Any) -> bool:
    """Whether something uses a result of an op."""
    return any(True for result in op.operation.results for _ in result.uses)


def replace_operands(op: Any, values: Mapping[Any, Any]) -> None:
    """Has an op, and those inside of its regions, use other values."""
    for i, operand in enumerate(op.operation.operands):
        if operand in values:
            op.operation.operands[i] = values[operand]
    for region in op.operation.regions:
        for block in region.blocks:
            for inner in block.operations:
                replace_operands(inner, values)


def set_results(function: Any, values: list[Any]) -> None:
    """Makes ``function`` return ``values``, and its type what its block says."""
    block = function.entry_block
    terminator = block.operations[len(block.operations) - 1]
    with terminator.location:
        func.ReturnOp(values, ip=ir.InsertionPoint(terminator))
    terminator.operation.erase()
    function_type = ir.FunctionType.get([a.type for a in block.arguments], [v.type for v in values])
    function.attributes["function_type"] = ir.TypeAttr.get(function_type)


# -- building functions --------------------------------------------------------------------------------------------


def unique_name(module: Any, stem: str) -> str:
    """``stem``, or ``stem.1``, ``stem.2``, … where the module has that function already."""
    symbols = ir.SymbolTable(module.operation)
    name, count = stem, 0
    while name in symbols:
        count += 1
        name = f"{stem}.{count}"
    return name


def declare(
    module: Any, stem: str, attributes: dict[str, Any], arguments: Sequence[TensorSpec], results: Sequence[TensorSpec]
) -> str:
    """Declares a private function with attributes that say how it is made; returns its name."""
    name = unique_name(module, stem)
    types = [tensor_type(s) for s in arguments], [tensor_type(s) for s in results]
    declaration = func.FuncOp(name, types, visibility="private", ip=ir.InsertionPoint(module.body))
    for key, value in attributes.items():
        declaration.attributes[key] = _attribute(value)
    return name


def _attribute(value: Any) -> Any:
    if isinstance(value, ir.Attribute):
        return value
    if isinstance(value, str):
        return ir.FlatSymbolRefAttr.get(value)
    if isinstance(value, bool):
        return ir.BoolAttr.get(value)
    if isinstance(value, int):
        return ir.IntegerAttr.get(ir.IntegerType.get_signless(64), value)
    if value and all(isinstance(v, str) for v in value):
        return ir.ArrayAttr.get([ir.FlatSymbolRefAttr.get(v) for v in value])
    return ir.DenseI64ArrayAttr.get(list(value))


def build_function(
    module: Any, stem: str, arguments: Sequence[TensorSpec], body: Callable[..., Sequence[Tensor]], location: Any
) -> str:
    """A private function whose results are those of ``body(*argument tensors)``; returns its name."""
    name = unique_name(module, stem)
    with location:
        types: tuple[list[Any], list[Any]] = [tensor_type(s) for s in arguments], []
        function = func.FuncOp(name, types, visibility="private", ip=ir.InsertionPoint(module.body))
        block = function.add_entry_block()
    with trace.emitting(ir.InsertionPoint(block), location) as emitter:
        results = [emitter.lift(t) for t in body(*(emitter.wrap(a) for a in block.arguments))]
        with location:
            func.ReturnOp(results, ip=emitter.insertion_point)
    type_ = ir.FunctionType.get([a.type for a in block.arguments], [r.type for r in results])
    function.attributes["function_type"] = ir.TypeAttr.get(type_)
    return name


def call(module: Any, name: str, operands: Sequence[Tensor]) -> list[Tensor]:
    """Emits a call of a function of the module at the current emitter."""
    function = function_named(module, name)
    emitter = trace.current()
    assert emitter is not None
    return trace.call(name, operands, emitter, [spec_of(t) for t in function.type.results])
