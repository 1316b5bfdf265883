"""Runs volta MLIR on numpy arrays, op by op, through the ops' references.

This is what evaluates transforms outside ``jit``, and the oracle that passes are tested against.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from volta_mlir.dialects.base import Op
from volta_mlir.errors import VoltaError
from volta_mlir.mlir import function_named, ir
from volta_mlir.passes.derived import control_of
from volta_mlir.passes.manager import source_location


def interpret(module: Any, name: str, arguments: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The results of the function ``name`` of a module for these arguments.

    Raises:
        VoltaError: the function, or one that it calls, does not exist or has no body, or an op is not volta's.
    """
    function = function_named(module, name)
    control = None if function is None else control_of(function)
    if control:
        return control.interpret(lambda part, operands: interpret(module, part, operands), arguments)
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
            results = interpret(module, ir.FlatSymbolRefAttr(op.operation.attributes["callee"]).value, operands)
        elif op.operation.name == "func.return":
            return operands
        else:
            raise VoltaError(f"'{op.operation.name}' can't be interpreted", location=source_location(op.location))
        values.update(zip(op.operation.results, results, strict=True))
    raise VoltaError(f"@{name} does not end with a return")
