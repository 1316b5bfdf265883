"""``make docs``: writes the reference of operations and passes from their classes."""

from __future__ import annotations

import inspect
import sys
from itertools import groupby
from pathlib import Path
from typing import Any

from volta_mlir.dialects import OPS
from volta_mlir.passes import PASSES
from volta_mlir.passes.manager import options_of

_GENERATED = "<!-- Written by `make docs`; edit the docstrings instead. -->"


def ops() -> str:
    """``docs/ops.md``: every op of the dialect, by family."""
    lines = ["# Operations of the `volta` dialect", "", _GENERATED]
    by_family = sorted(OPS.items(), key=lambda item: (item[1].__module__, item[0]))
    for module, members in groupby(by_family, key=lambda item: item[1].__module__):
        lines += ["", f"## {module.rpartition('.')[2].capitalize()}", "", inspect.getdoc(sys.modules[module]) or ""]
        for name, op in members:
            lines += ["", f"### `volta.{name}`", "", inspect.getdoc(op) or ""]
            if op.attribute_types:
                attributes = (f"`{key}: {_type_name(type_)}`" for key, type_ in op.attribute_types.items())
                lines += ["", f"Attributes: {', '.join(attributes)}"]
    return _markdown(lines)


def passes() -> str:
    """``docs/passes.md``: every pass of Volta's with its options."""
    lines = ["# Passes", "", _GENERATED]
    for name, pass_type in sorted(PASSES.items()):
        lines += ["", f"## `{name}`", "", inspect.getdoc(pass_type) or ""]
        options = options_of(pass_type)
        if options:
            lines += ["", "| option | default | |", "| --- | --- | --- |"]
            for option in options:
                written = str(option).replace("|", r"\|")  # even in code, a bar ends a table's cell
                lines.append(f"| `{written}` | `{option.default}` | {option.help} |")
    return _markdown(lines)


def _type_name(type_: Any) -> str:
    return type_.__name__ if isinstance(type_, type) else str(type_)


def _markdown(lines: list[str]) -> str:
    # Docstrings are reStructuredText, of which they use nothing but literals and references.
    text = "\n".join(lines) + "\n"
    return text.replace("``", "`")


PAGES = {"ops.md": ops, "passes.md": passes}


def main() -> None:
    """Writes the pages under ``docs/`` in the current directory."""
    directory = Path("docs")
    directory.mkdir(exist_ok=True)
    for name, page in PAGES.items():
        (directory / name).write_text(page())


if __name__ == "__main__":
    main()
