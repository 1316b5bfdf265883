"""Derived functions: declarations that say from which function, and how, they are made.

A transform does not rewrite at once. It declares a private function without a body whose attributes name its kind
and its source, and calls it::

    func.func private @loss.vjp(tensor<4xf32>, tensor<f32>) -> (tensor<f32>, tensor<4xf32>)
        attributes {volta.vjp = @loss, volta.wrt = array<i64: 0>}

The pass of that kind (volta-autodiff for ``volta.vjp`` and ``volta.jvp``, volta-vmap for ``volta.vmap``) gives it a
body. Derivations nest: a source may itself call derived functions, which are defined and inlined first.
"""

from collections.abc import Callable, Iterator
from typing import Any

from volta_mlir.errors import CompileError
from volta_mlir.mlir import func, function_named, ir
from volta_mlir.passes.manager import source_location

#: How a function of each kind gets its body: ``(module, declaration, source) -> the defined function``.
DERIVATIONS: dict[str, Callable[[Any, Any, Any], Any]] = {}


def kind_of(function: Any) -> str | None:
    """The kind of a derived function that has no body yet, None for any other function."""
    if not function.is_external:
        return None
    return next((kind for kind in DERIVATIONS if kind in function.attributes), None)


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


def define(module: Any, declaration: Any) -> Any:
    """Gives a derived function its body and returns it; the source is flattened first."""
    kind = kind_of(declaration)
    if kind is None:
        return declaration
    source = flatten(module, lookup(module, declaration.attributes[kind], declaration))
    if source.is_external:
        raise CompileError(f"@{source.sym_name.value} has no body to derive from", location=source_location(declaration.location))
    defined = DERIVATIONS[kind](module, declaration, source)
    if defined.type != declaration.type:
        raise CompileError(
            f"@{declaration.sym_name.value} is declared as {declaration.type}, but {kind} of"
            f" @{source.sym_name.value} is {defined.type}",
            location=source_location(declaration.location),
        )
    name = declaration.sym_name.value
    declaration.erase()
    defined.attributes["sym_name"] = ir.StringAttr.get(name)
    return defined


def flatten(module: Any, function: Any) -> Any:
    """Defines ``function`` if it is derived, and inlines everything that it calls; returns it."""
    function = define(module, function)
    if function.is_external:
        return function
    pending = [op for op in function.entry_block.operations if op.operation.name == "func.call"]
    while pending:
        call = pending.pop()
        callee = define(module, lookup(module, call.operation.attributes["callee"], call))
        if callee.is_external:
            raise CompileError(f"@{callee.sym_name.value} has no body", location=source_location(call.location))
        pending += inline(call, callee)
    return function


def inline(call: Any, callee: Any) -> list[Any]:
    """Replaces a call by the callee's body; returns the calls that this brings in."""
    values = dict(zip(callee.arguments, call.operation.operands, strict=True))
    calls = []
    for op in callee.entry_block.operations:
        operands = [values[v] for v in op.operation.operands]
        if op.operation.name == "func.return":
            for old, new in zip(call.operation.results, operands, strict=True):
                old.replace_all_uses_with(new)
            break
        copy = op.operation.clone(ip=ir.InsertionPoint(call))
        for i, operand in enumerate(operands):
            copy.operands[i] = operand
        values.update(zip(op.operation.results, copy.results, strict=True))
        if copy.name == "func.call":
            calls.append(copy.opview)
    call.operation.erase()
    return calls


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


def set_results(function: Any, values: list[Any]) -> None:
    """Makes ``function`` return ``values``, and its type what its block says."""
    block = function.entry_block
    terminator = block.operations[len(block.operations) - 1]
    with terminator.location:
        func.ReturnOp(values, ip=ir.InsertionPoint(terminator))
    terminator.operation.erase()
    function_type = ir.FunctionType.get([a.type for a in block.arguments], [v.type for v in values])
    function.attributes["function_type"] = ir.TypeAttr.get(function_type)
