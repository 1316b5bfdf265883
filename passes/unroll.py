"""volta-unroll: short scans as straight-line code.

A loop costs the host some time at every iteration, and IREE can't fuse across iterations; unrolled, a scan has neither
cost. Long ones stay loops, since every step adds to the compile time.
"""

from dataclasses import dataclass
from typing import Any

from volta_mlir import functions as F
from volta_mlir import trace
from volta_mlir.mlir import function_named, ir
from volta_mlir.passes.control_flow import Scan
from volta_mlir.passes.derived import call, callee_of, control_of, functions, inline, lookup
from volta_mlir.passes.manager import Pass, option


@dataclass
class Unroll(Pass, name="volta-unroll"):
    """Unroll scans whose steps together have few operations."""

    max_ops: int = option(2048, "the most operations that unrolling one scan may make")

    def run(self, module: Any) -> None:
        # Innermost first: a part that contains a scan is unrolled before the scans that repeat it.
        done: set[str] = set()
        for name in [f.sym_name.value for f in functions(module)]:
            self._unroll_calls(module, name, done)
        _erase_unused(module)

    def _unroll_calls(self, module: Any, name: str, done: set[str]) -> None:
        function = function_named(module, name)
        if name in done or function.is_external:
            return
        done.add(name)
        for op in list(function.entry_block.operations):
            control = control_of(callee_of(op)) if op.operation.name == "func.call" else None
            for part in control.parts if control else ():
                self._unroll_calls(module, lookup(module, part, function).sym_name.value, done)
            if isinstance(control, Scan):
                body = function_named(module, control.body)
                count = len(body.entry_block.operations) - 1
                if control.length * max(count, 1) <= self.max_ops:
                    _unroll(module, op, control, body)


def _unroll(module: Any, op: Any, scan: Scan, body: Any) -> None:
    steps = []
    with trace.emitting(ir.InsertionPoint(op), op.location) as emitter:
        consts, carry, inputs = scan.split([emitter.wrap(v) for v in op.operation.operands])
        outputs: dict[int, list[Any]] = {}
        for i in scan.steps():
            rows = [F.reshape(F.slice_in_dim(x, i, i + 1, axis=0), x.shape[1:]) for x in inputs]
            outs = call(module, scan.body, [*consts, *carry, *rows])
            steps.append(outs)
            carry, outputs[i] = outs[: len(carry)], outs[len(carry) :]
        results = list(carry)
        for j, spec in enumerate(scan.results[len(carry) :]):
            rows = [outputs[i][j] for i in range(scan.length)]
            results.append(F.stack(rows) if rows else F.zeros(spec.shape, spec.dtype))
        for old, new in zip(op.operation.results, results, strict=True):
            old.replace_all_uses_with(new._value)
    op.operation.erase()
    for outs in steps:
        if outs:
            inline(outs[0]._value.owner.opview, body)


def _erase_unused(module: Any) -> None:
    """Removes the declarations and parts of scans that are gone."""
    while True:
        used = set()
        for function in functions(module):
            control = control_of(function)
            for part in control.parts if control else ():
                used.add(ir.FlatSymbolRefAttr(part).value)
            for op in () if function.is_external else function.entry_block.operations:
                if op.operation.name == "func.call":
                    used.add(callee_of(op).sym_name.value)
        unused = [f for f in functions(module) if f.sym_name.value not in used and "sym_visibility" in f.attributes]
        if not unused:
            return
        for function in unused:
            function.erase()
