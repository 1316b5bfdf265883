"""Kernels: composite ops for which the CPU has code of its own.

convert-volta-to-linalg lowers such an op to a call of a private function, whose body is the op's expansion, and whose
attribute says what it computes::

    func.func private @attention.5f0c3a91(…) -> (…) attributes {
        volta.kernel = {op = "attention", causal = true, scale = 0.125}
    }

That is a complete program for any target. Where it is compiled for the CPU, :func:`linked_text` puts the kernels in the
place of these functions. Equal ops share a function, in whatever module: its name tells what it computes.
"""

from __future__ import annotations

import re
from typing import Any

from volta_mlir.mlir import func, ir, spec_of

#: Says which op a function computes: a dictionary of the op's mnemonic, ``op``, and its attributes.
ATTRIBUTE = "volta.kernel"


def linked_text(module: Any) -> str:
    """A lowered module as text for IREE, in generic form, with the CPU's kernels for the functions that have one."""
    from volta_mlir.dialects import OPS

    copy, kernels = module.operation.clone().opview, []
    for function in list(copy.body.operations):
        if not isinstance(function, func.FuncOp) or ATTRIBUTE not in function.attributes:
            continue
        described = ir.DictAttr(function.attributes[ATTRIBUTE])
        op: Any = OPS[ir.StringAttr(described["op"]).value]
        attributes = op.decode(described)
        operands, results = ([spec_of(t) for t in types] for types in (function.type.inputs, function.type.results))
        kernels.append(op.kernel(function.sym_name.value, operands, results, **attributes))
        function.erase()
    # The calls of what is gone would not pass the verifier.
    text: str = copy.operation.get_asm(print_generic_op_form=True, enable_debug_info=True, assume_verified=True)
    end = [match.start() for match in re.finditer(r"^}\)", text, re.MULTILINE)][-1]
    return "\n".join([text[:end], *kernels, text[end:]])
