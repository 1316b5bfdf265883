"""Runs volta MLIR on numpy arrays, op by op, through the ops' references.

This is what evaluates transforms outside ``jit``, and the oracle that passes are tested against.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from volta_mlir import debug
from volta_mlir.dialects.base import Op
from volta_mlir.errors import NaNError, VoltaError
from volta_mlir.mlir import function_named, ir
from volta_mlir.passes.derived import control_of
from volta_mlir.passes.manager import source_location


def interpret(module: Any, name: str, arguments: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The results of the function ``name`` of a module for these arguments.

    Raises:
        VoltaError: the function, or one that it calls, does not exist or has no body, or an op is not volta's.
        NaNError: a result has a NaN, while these are looked for.
    """
    results, argument = _run(module, name, arguments)
    if argument is not None:
        raise NaNError(f"{argument} has NaN already, and so have the results")
    return results


def _run(module: Any, name: str, arguments: Sequence[np.ndarray]) -> tuple[list[np.ndarray], str | None]:
    """The results, and the name of an argument whose NaN reach them."""
    function = function_named(module, name)
    control = None if function is None else control_of(function)
    if control:
        return control.interpret(lambda part, operands: _run(module, part, operands)[0], arguments), None
    if function is None or function.is_external:
        raise VoltaError(f"there is no function @{name} with a body to interpret")
    if len(arguments) != len(function.arguments):
        raise VoltaError(f"@{name} takes {len(function.arguments)} arguments, got {len(arguments)}")
    values: dict[Any, np.ndarray] = dict(zip(function.arguments, arguments, strict=True))
    for op in function.entry_block.operations:
        operands = [values[v] for v in op.operation.operands]
        if isinstance(op, Op):
            results: Sequence[np.ndarray] = type(op).evaluate(operands, op.attribute_values())
        elif op.operation.name == "func.call":
            results, _ = _run(module, ir.FlatSymbolRefAttr(op.operation.attributes["callee"]).value, operands)
        elif op.operation.name == "func.return":
            return operands, _origin_of_nan(function, op, values) if debug.checks_nans() else None
        else:
            raise VoltaError(f"'{op.operation.name}' can't be interpreted", location=source_location(op.location))
        values.update(zip(op.operation.results, results, strict=True))
    raise VoltaError(f"@{name} does not end with a return")


def _origin_of_nan(function: Any, terminator: Any, values: dict[Any, np.ndarray]) -> str | None:
    """Goes back from a result that has a NaN to where it arises: the argument that has it.

    Raises:
        NaNError: an op makes it of operands without one.
    """
    value = next((v for v in terminator.operation.operands if debug.count_nans(values[v])), None)
    while value is not None:
        if isinstance(value, ir.BlockArgument):
            return _argument_name(function, value.arg_number)
        op = value.owner
        before = next((v for v in op.operands if debug.count_nans(values[v])), None)
        if before is None:
            text = debug.describe(op.name, values[value], [values[v] for v in op.operands])
            raise NaNError(text, location=source_location(op.location))
        value = before
    return None


def _argument_name(function: Any, number: int) -> str:
    if "arg_attrs" in function.attributes:
        attributes = ir.DictAttr(ir.ArrayAttr(function.attributes["arg_attrs"])[number])
        if "volta.name" in attributes:
            return f"the argument {ir.StringAttr(attributes['volta.name']).value}"
    return f"argument {number} of @{function.sym_name.value}"
