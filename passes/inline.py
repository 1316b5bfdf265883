"""volta-inline: calls into the functions that other modules can call, derived ones defined on the way."""

from dataclasses import dataclass
from typing import Any

from volta_mlir.mlir import function_named
from volta_mlir.passes.derived import callee_of, calls_in, control_of, flatten, functions, inline, is_private, lookup
from volta_mlir.passes.manager import Pass


@dataclass
class Inline(Pass, name="volta-inline"):
    """Inline every call in public functions; keep control flow and its parts, remove the other private functions."""

    def run(self, module: Any) -> None:
        pending = [f.sym_name.value for f in functions(module) if not is_private(f)]
        reachable: set[str] = set()
        while pending:
            name = pending.pop()
            if name in reachable:
                continue
            reachable.add(name)
            function = _inline_all(module, flatten(module, function_named(module, name)))
            control = control_of(function)
            if control:
                pending += [lookup(module, part, function).sym_name.value for part in control.parts]
            elif not function.is_external:
                pending += [callee_of(op).sym_name.value for op in calls_in(function)]
        for function in functions(module):
            if function.sym_name.value not in reachable:
                function.erase()


def _inline_all(module: Any, function: Any) -> Any:
    """Inlines what stands for its derivative only, now that nothing is left to differentiate."""
    if function.is_external:
        return function
    while True:
        for op in calls_in(function):
            control = control_of(callee_of(op))
            if control and control.inlined_as:
                inline(op, flatten(module, function_named(module, control.inlined_as)))
                break
        else:
            return function
