"""volta-autodiff: defines ``volta.jvp`` and ``volta.vjp`` functions through one differentiation core.

:func:`linearize` runs every op's ``tangent`` facet after the primal ops; what depends on the tangent arguments is a
linear program over primal values. Forward mode is that function as it is. Reverse mode transposes the linear part,
op by op, backwards. The parts of a tangent rule that do not depend on tangents (partial derivatives) are moved to
where the backward pass first needs them, so that what has to be kept between the two are primal values.

The design follows Frostig et al., "Decomposing reverse-mode automatic differentiation" (2021).
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from volta_mlir import trace
from volta_mlir.dialects.base import Composite, Op
from volta_mlir.dialects.elementwise import CheckpointNameOp
from volta_mlir.dtypes import is_float
from volta_mlir.errors import CompileError, TraceError
from volta_mlir.mlir import func, function_named, ir, spec_of
from volta_mlir.passes.control_flow import FROM_SAVED, saved_in
from volta_mlir.passes.derived import (
    DERIVATIONS,
    attribute_of,
    build_function,
    call,
    callee_of,
    clone_function,
    control_of,
    current_functions,
    declare,
    define,
    expand,
    flatten,
    is_used,
    kind_of,
    replace_operands,
    require_tensors,
    set_results,
    used_by,
)
from volta_mlir.passes.manager import Pass, option, source_location
from volta_mlir.tensor import Tensor


@dataclass
class Autodiff(Pass, name="volta-autodiff"):
    """Define volta.jvp and volta.vjp functions by differentiating their sources."""

    split: bool = option(False, "make each vjp a forward @f.fwd that returns residuals and a backward @f.bwd")

    def run(self, module: Any) -> None:
        for function in current_functions(module):
            kind = kind_of(function)
            if kind in ("volta.jvp", "volta.vjp"):
                name, wrt = function.sym_name.value, attribute_of(function, "volta.wrt", ir.DenseI64ArrayAttr)
                defined = define(module, function)
                if self.split and kind == "volta.vjp":
                    split(defined, name, len(defined.type.results) - len(wrt))


def _differentiated(declaration: Any, source: Any) -> list[int]:
    """The argument numbers of ``volta.wrt``, checked."""
    wrt = list(attribute_of(declaration, "volta.wrt", ir.DenseI64ArrayAttr))
    require_tensors(source, [source.arguments[i].type for i in wrt if 0 <= i < len(source.arguments)])
    for i in wrt:
        if not 0 <= i < len(source.arguments) or not is_float(spec_of(source.arguments[i].type).dtype):
            raise CompileError(
                f"volta.wrt = {wrt}: argument {i} of @{source.sym_name.value} is not a floating-point tensor",
                location=source_location(declaration.location),
            )
    return wrt


# -- forward mode ------------------------------------------------------------------------------------------------


def linearize(function: Any, wrt: Sequence[int]) -> tuple[list[Any], list[Any]]:
    """Appends tangent arguments for the arguments ``wrt``, and the tangent program before the return.

    Returns:
        The ops of the tangent program in order, and the tangent of each returned value (None for zero).
    """
    block = function.entry_block
    *primal_ops, terminator = block.operations
    tangents: dict[Any, Tensor] = {}
    ops: list[Any] = []
    end = ir.InsertionPoint(terminator)
    for i in wrt:
        argument = block.arguments[i]
        tangent = block.add_argument(argument.type, argument.location)
        tangents[argument] = Tensor._traced(tangent, spec_of(argument.type), None)
    pending = deque(primal_ops)
    expanded = 0  # how many more primal ops there are
    while pending:
        op = pending.popleft()
        given = [tangents.get(v) for v in op.operation.operands]
        if not any(t is not None for t in given) or not _has_tangent(op):
            continue
        if isinstance(op, Composite) and op.pullback is None:
            parts = expand(op)
            expanded += len(parts) - 1
            pending.extendleft(reversed(parts))
            continue
        with trace.emitting(end, op.location) as emitter:
            if op.operation.name == "func.call":
                results, rule = _linearize_call(op, given, emitter)
            elif isinstance(op, Composite):
                results, rule = list(op.operation.results), _linearize_composite(op, given, emitter)
            else:
                results = list(op.operation.results)
                rule = type(op).tangent(
                    [emitter.wrap(v) for v in op.operation.operands],
                    given,
                    [emitter.wrap(r) for r in results],
                    **op.attribute_values(),
                )
        for result, tangent in zip(results, rule if isinstance(rule, tuple | list) else (rule,), strict=True):
            if tangent is not None:
                tangents[result] = tangent
    operations = list(block.operations)
    ops = operations[len(primal_ops) + expanded : -1]
    return ops, [tangents[v]._value if v in tangents else None for v in terminator.operation.operands]


def _linearize_call(op: Any, tangents: list[Any], emitter: trace.Emitter) -> tuple[list[Any], list[Any]]:
    """The results of a call of a control-flow function, which may become another call, and their tangents."""
    control = control_of(callee_of(op))
    results = list(op.operation.results)

    def rewrite(name: str) -> list[Tensor]:
        nonlocal results
        with trace.emitting(ir.InsertionPoint(op), op.location):
            outs = call(control.module, name, [emitter.wrap(v) for v in op.operation.operands])
        for old, new in zip(results, outs, strict=False):
            old.replace_all_uses_with(new._value)
        first, further = outs[: len(results)], outs[len(results) :]
        results = [t._value for t in first]
        op.operation.erase()
        return further

    derivatives = control.linearize([emitter.wrap(v) for v in op.operation.operands], tangents, rewrite)
    return results, derivatives


def _linearize_composite(op: Any, tangents: list[Any], emitter: trace.Emitter) -> list[Any]:
    """The tangents of the results of a composite with a pullback, from a linear call: of a function that forward mode
    inlines, the derivative of the expansion, with the pullback for its transpose; see
    :mod:`volta_mlir.passes.control_flow`.
    """
    cls, attributes, name = type(op), op.attribute_values(), type(op).mnemonic
    module = op.operation.parent.parent.opview
    operands, outs = list(op.operation.operands), list(op.operation.results)
    specs, out_specs = [[spec_of(v.type) for v in values] for values in (operands, outs)]
    wrt = [i for i, t in enumerate(tangents) if t is not None]
    floats = _float_values(outs)
    tangent_specs, cotangent_specs = [specs[i] for i in wrt], [out_specs[i] for i in floats]

    def expansion(*xs: Tensor) -> list[Tensor]:
        return list(cls.expand(*xs, **attributes))

    source = build_function(module, f"{name}.expansion", specs, expansion, op.location)
    derivation = {"volta.jvp": source, "volta.wrt": wrt}
    jvp = declare(module, f"{name}.jvp", derivation, specs + tangent_specs, out_specs + cotangent_specs)

    def linear(*xs: Tensor) -> list[Tensor]:
        return call(module, jvp, [*xs[: len(specs)], *xs[len(specs) + len(outs) :]])[len(outs) :]

    def transposed(*xs: Tensor) -> list[Tensor]:
        primals, results, cotangents = xs[: len(specs)], xs[len(specs) : -len(floats)], xs[-len(floats) :]
        grads = cls.pullback(primals, results, cotangents, **attributes)
        return [trace.zeros(specs[i]) if grads[i] is None else grads[i] for i in wrt]

    kept = specs + out_specs
    linear_name = build_function(module, f"{name}.lin", kept + tangent_specs, linear, op.location)
    function = function_named(module, linear_name)
    function.attributes["volta.linear"] = ir.DenseBoolArrayAttr.get([False] * len(kept) + [True] * len(wrt))
    function.attributes["volta.transposed"] = ir.FlatSymbolRefAttr.get(
        build_function(module, f"{name}.transposed", kept + cotangent_specs, transposed, op.location)
    )
    given = [t for t in tangents if t is not None]
    pushed = iter(call(module, linear_name, [*map(emitter.wrap, operands + outs), *given]))
    return [next(pushed) if i in floats else None for i in range(len(outs))]


def _has_tangent(op: Any) -> bool:
    is_control = op.operation.name == "func.call" and control_of(callee_of(op))
    if not isinstance(op, Op) and not is_control:
        raise CompileError(f"'{op.operation.name}' can't be differentiated", location=source_location(op.location))
    return any(is_float(spec_of(r.type).dtype) for r in op.operation.results)


def _float_values(values: Sequence[Any]) -> list[int]:
    return [i for i, v in enumerate(values) if is_float(spec_of(v.type).dtype)]


def _define_jvp(module: Any, declaration: Any, source: Any) -> Any:
    """``(primals…, tangents of wrt…) -> (results…, tangents of the float results…)``"""
    wrt = _differentiated(declaration, source)
    function = clone_function(source, f"{source.sym_name.value}.jvp.body")
    _, tangents = linearize(function, wrt)
    *_, terminator = function.entry_block.operations
    outs = list(terminator.operation.operands)
    with trace.emitting(ir.InsertionPoint(terminator), terminator.location):
        for i in _float_values(outs):
            if tangents[i] is None:
                tangents[i] = trace.zeros(spec_of(outs[i].type))._value
    set_results(function, outs + [tangents[i] for i in _float_values(outs)])
    return function


# -- reverse mode ------------------------------------------------------------------------------------------------


def _define_vjp(module: Any, declaration: Any, source: Any) -> Any:
    function = _vjp_function(source, _differentiated(declaration, source))
    if FROM_SAVED in declaration.attributes:
        _take_saved(function)
    return function


def _take_saved(function: Any) -> None:
    """Makes arguments of the values that a checkpoint keeps, so that they are not computed again."""
    block = function.entry_block
    for op in saved_in(function):
        kept = block.add_argument(op.operation.results[0].type, op.location)
        if isinstance(op, CheckpointNameOp):  # a derivative may use what was named rather than the named value
            op.operation.operands[0].replace_all_uses_except(kept, op.operation)
        op.operation.results[0].replace_all_uses_with(kept)
        op.operation.erase()
    *_, terminator = block.operations
    set_results(function, list(terminator.operation.operands))


def _vjp_function(source: Any, wrt: Sequence[int]) -> Any:
    """``(primals…, cotangents of the float results…) -> (results…, cotangents of wrt…)``"""
    function = clone_function(source, f"{source.sym_name.value}.vjp.body")
    block = function.entry_block
    primals = len(block.arguments)
    program, tangents = linearize(function, wrt)
    *_, terminator = block.operations
    outs = list(terminator.operation.operands)

    cotangents: dict[Any, Tensor] = {}

    def accumulate(value: Any, cotangent: Tensor) -> None:
        cotangents[value] = cotangents[value] + cotangent if value in cotangents else cotangent

    end = ir.InsertionPoint(terminator)
    with trace.emitting(end, terminator.location):
        for i in _float_values(outs):
            seed = block.add_argument(outs[i].type, terminator.location)
            if tangents[i] is not None:
                accumulate(tangents[i], Tensor._traced(seed, spec_of(seed.type), None))
    linear_values = set(list(block.arguments)[primals : primals + len(wrt)])
    linear_ops: list[Any] = []
    residual_ops: dict[Any, Any] = {}
    for op in program:
        if any(v in linear_values for v in op.operation.operands):
            linear_ops.append(op)
            linear_values.update(op.operation.results)
        else:
            residual_ops.update((r, op) for r in op.operation.results)

    def place(value: Any) -> None:
        """Moves the op that computes a partial derivative, and what it needs, to the end of the block."""
        op = residual_ops.pop(value, None)
        if op is not None:
            for r in op.operation.results:
                residual_ops.pop(r, None)
            for operand in op.operation.operands:
                place(operand)
            op.operation.move_before(terminator.operation)

    for op in reversed(linear_ops):
        results = [cotangents.pop(r, None) for r in op.operation.results]
        if all(ct is None for ct in results):
            continue
        with trace.emitting(end, op.location) as emitter:
            operands: list[Any] = []
            for v in op.operation.operands:
                if v in linear_values:
                    operands.append(spec_of(v.type))
                else:
                    place(v)
                    operands.append(emitter.wrap(v))
            if op.operation.name == "func.call":
                for v, ct in _transpose_call(op, operands, results):
                    if v in linear_values:
                        accumulate(v, ct)
                continue
            if len(results) == 1:
                cotangent: Any = results[0]
            else:
                cotangent = tuple(
                    trace.zeros(spec_of(r.type)) if ct is None else ct
                    for r, ct in zip(op.operation.results, results, strict=True)
                )
            rule = type(op).transpose(cotangent, operands, **op.attribute_values())
            for v, ct in zip(op.operation.operands, rule, strict=True):
                if v in linear_values and ct is not None:
                    accumulate(v, ct)
    with trace.emitting(end, terminator.location):
        tangent_arguments = list(block.arguments)[primals : primals + len(wrt)]
        grads = [
            cotangents[t]._value if t in cotangents else trace.zeros(spec_of(t.type))._value for t in tangent_arguments
        ]
    set_results(function, outs + grads)
    for op in reversed(program):
        if not is_used(op):
            op.operation.erase()
    for _ in wrt:
        block.erase_argument(primals)
    set_results(function, outs + grads)
    return function


def _transpose_call(op: Any, operands: list[Any], cotangents: list[Tensor | None]) -> list[tuple[Any, Tensor]]:
    """The cotangents of a linear call's linear operands; see :mod:`volta_mlir.passes.control_flow`."""
    callee = callee_of(op)
    if "volta.transposed" not in callee.attributes:
        raise TraceError(
            "while_loop can't be differentiated in reverse mode, since nothing bounds what would have to be kept; use"
            " scan, or fori_loop with a fixed number of steps",
            location=source_location(op.location),
        )
    linear = list(ir.DenseBoolArrayAttr(callee.attributes["volta.linear"]))
    fixed = [x for x, is_linear in zip(operands, linear, strict=True) if not is_linear]
    seeds = [
        trace.zeros(spec_of(r.type)) if ct is None else ct
        for r, ct in zip(op.operation.results, cotangents, strict=True)
    ]
    transposed = ir.FlatSymbolRefAttr(callee.attributes["volta.transposed"]).value
    outs = call(callee.operation.parent.opview, transposed, [*fixed, *seeds])
    targets = [v for v, is_linear in zip(op.operation.operands, linear, strict=True) if is_linear]
    return list(zip(targets, outs, strict=True))


DERIVATIONS["volta.jvp"] = _define_jvp
DERIVATIONS["volta.vjp"] = _define_vjp


# -- forward and backward as functions of their own ------------------------------------------------------------


def split(function: Any, name: str, count: int) -> tuple[Any, Any]:
    """Divides a vjp function into ``@name.fwd`` and ``@name.bwd``; the function itself then calls the two.

    ``count`` is the number of the source's results. The forward has the primals for arguments and returns the results,
    then the residuals: the values that the backward needs. The backward takes the residuals, then the cotangents.
    """
    block = function.entry_block
    *ops, terminator = block.operations
    outs_and_grads = list(terminator.operation.operands)
    outs, grads = outs_and_grads[:count], outs_and_grads[count:]
    seeds = list(block.arguments)[len(block.arguments) - len(_float_values(outs)) :]
    primals = list(block.arguments)[: len(block.arguments) - len(seeds)]

    forward = _needed_for(outs, ops)
    in_forward = set(forward)
    backward = [op for op in _needed_for(grads, ops) if op not in in_forward]
    forward_values = {r for op in forward for r in op.operation.results} | set(primals)
    used = [v for op in backward for v in used_by(op)] + grads
    residuals = list(dict.fromkeys(v for v in used if v in forward_values))

    fwd = _function_of(function, f"{name}.fwd", primals, forward, outs + residuals)
    bwd = _function_of(function, f"{name}.bwd", residuals + seeds, backward, grads)
    with terminator.location:
        ip = ir.InsertionPoint(terminator)
        first = func.CallOp(fwd.type.results, f"{name}.fwd", primals, ip=ip)
        results = list(first.results)
        second = func.CallOp(bwd.type.results, f"{name}.bwd", results[len(outs) :] + seeds, ip=ip)
    set_results(function, results[: len(outs)] + list(second.results))
    for op in reversed(ops):
        op.operation.erase()
    return fwd, bwd


def _needed_for(values: Sequence[Any], ops: Sequence[Any]) -> list[Any]:
    """Those of ``ops`` that ``values`` depend on, in order."""
    needed, found = set(values), []
    for op in reversed(ops):
        if any(r in needed for r in op.operation.results):
            found.append(op)
            needed.update(used_by(op))
    return found[::-1]


def define_split_vjp(module: Any, source: Any, wrt: Sequence[int]) -> None:
    """Defines ``@source.fwd`` and ``@source.bwd`` (see :func:`split`) for a function of the module."""
    flatten(module, source)
    name = source.sym_name.value
    for part in split(_vjp_function(source, wrt), name, len(source.type.results)):
        flatten(module, part)  # derivatives of control flow call functions that are yet to be derived


def _function_of(near: Any, name: str, arguments: list[Any], ops: list[Any], results: list[Any]) -> Any:
    """A private function with copies of ``ops`` over ``arguments``."""
    with near.location:
        function = func.FuncOp(
            name,
            ([v.type for v in arguments], [v.type for v in results]),
            visibility="private",
            ip=ir.InsertionPoint(near),
        )
        block = function.add_entry_block()
    values = dict(zip(arguments, block.arguments, strict=True))
    ip = ir.InsertionPoint(block)
    for op in ops:
        copy = op.operation.clone(ip=ip)
        replace_operands(copy, values)
        values.update(zip(op.operation.results, copy.results, strict=True))
    with near.location:
        func.ReturnOp([values[v] for v in results], ip=ip)
    return function
