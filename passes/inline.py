"""volta-inline: calls into the functions that other modules can call, derived ones defined on the way."""

from dataclasses import dataclass
from typing import Any

from volta_mlir.passes.derived import current_functions, flatten, functions, is_private
from volta_mlir.passes.manager import Pass


@dataclass
class Inline(Pass, name="volta-inline"):
    """Inline every call in public functions and remove the private functions."""

    def run(self, module: Any) -> None:
        for function in current_functions(module):
            if not is_private(function):
                flatten(module, function)
        for function in functions(module):
            if is_private(function):
                function.erase()
