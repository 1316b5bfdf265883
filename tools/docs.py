"""``make docs``: writes the reference of operations and passes, and what there is of PyTorch's names, from the code."""

from __future__ import annotations

import inspect
import sys
import warnings
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import Any

from volta_mlir import nn, optim
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


#: Why a name of PyTorch's is not here. What is neither here nor in this table is listed as missing.
LEFT_OUT = {
    **dict.fromkeys("upsample upsample_bilinear upsample_nearest NLLLoss2d Container".split(), "deprecated in PyTorch"),
    **dict.fromkeys("UpsamplingBilinear2d UpsamplingNearest2d CrossMapLRN2d".split(), "deprecated in PyTorch"),
    **dict.fromkeys("DataParallel SyncBatchNorm".split(), "for several devices"),
    **dict.fromkeys("RNNBase RNNCellBase".split(), "a base class"),
    **dict.fromkeys(["LBFGS"], "calls the model several times in a step"),
    **dict.fromkeys(["SparseAdam"], "gradients are dense"),
    **dict.fromkeys(["LRScheduler"], "a schedule is any function of the step"),
}
#: Parameters that say how PyTorch works, not what it computes.
_UNSAID = {
    *("device", "inplace", "size_average", "reduce", "sparse", "foreach", "fused", "capturable", "differentiable"),
    *("params", "defaults", "optimizer", "last_epoch"),
}


def parity() -> str:
    """``docs/parity.md``: PyTorch's layers, functions, optimizers and schedules, and what Volta has of them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torch

    lines = [
        "# PyTorch's names in Volta",
        "",
        _GENERATED,
        "",
        f"Compared with PyTorch {torch.__version__.split('+')[0]}.",
    ]
    lines += [f"Parameters named {', '.join(f'`{p}`' for p in sorted(_UNSAID))} are left out everywhere."]
    schedulers = torch.optim.lr_scheduler
    sections: list[tuple[str, Any, Any, Iterable[str]]] = [
        ("torch.nn", torch.nn, nn, _classes(torch.nn, torch.nn.Module)),
        ("torch.nn.functional", torch.nn.functional, nn.functional, _pure_functions(torch.nn.functional)),
        ("torch.nn.init", torch.nn.init, nn.init, [n for n in _functions(torch.nn.init) if n.endswith("_")]),
        ("torch.optim", torch.optim, optim, _classes(torch.optim, torch.optim.Optimizer)),
        ("torch.optim.lr_scheduler", schedulers, optim, schedulers.__all__),
    ]
    for title, theirs, ours, names in sections:
        rows = [_parity_row(name, getattr(theirs, name), ours) for name in names]
        found = sum("| – |" not in row for row in rows)
        lines += ["", f"## `{title}`: {found} of {len(rows)}", ""]
        lines += [
            "| PyTorch | Volta | without the parameters | with further parameters |",
            "| --- | --- | --- | --- |",
            *rows,
        ]
        own = sorted({*ours.__all__} - {*names} - {n.rstrip("_") for n in names})
        if own and title != "torch.optim.lr_scheduler":
            lines += ["", f"Further names: {', '.join(f'`{name}`' for name in own)}."]
    return _markdown(lines)


def _classes(module: Any, base: type) -> list[str]:
    return [n for n in dir(module) if inspect.isclass(c := getattr(module, n)) and issubclass(c, base) and n[0] != "_"]


def _functions(module: Any) -> list[str]:
    """The functions that are PyTorch's API: those with a documentation, or written in C++, but for its plumbing."""
    plumbing = (
        "_with_indices",
        "boolean_dispatch",
        "torch_function",
        "assert_int",
        "native_",
        "grouped_mm",
        "scaled_mm",
    )
    functions = (n for n in dir(module) if n[0] != "_" and inspect.isroutine(getattr(module, n)))
    return [n for n in functions if n[0].islower() and not any(part in n for part in plumbing)]


def _pure_functions(module: Any) -> list[str]:
    return [n for n in _functions(module) if not n.endswith("_")]


def _parity_row(name: str, theirs: Any, ours: Any) -> str:
    own_name = name if name in ours.__all__ else name.rstrip("_")
    if own_name not in ours.__all__:
        reason = LEFT_OUT.get(name, "shapes are given" if name.startswith("Lazy") else "missing")
        return f"| `{name}` | – | {reason} | |"
    own = getattr(ours, own_name)
    expected, actual = _parameters(theirs), _parameters(own)
    lacking = [p for p in expected if p not in actual and p not in _UNSAID] if expected and actual else []
    further = [p for p in actual if p not in expected] if expected and actual else []
    cells = [", ".join(f"`{p}`" for p in parameters) for parameters in (lacking, further)]
    return f"| `{name}` | `{own_name}` | {cells[0]} | {cells[1]} |"


def _parameters(function: Any) -> list[str]:
    """The names of a function's or constructor's parameters; none where Python does not know them."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:
        return []
    return [p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD) and p.name[0] != "_"]


def _type_name(type_: Any) -> str:
    return type_.__name__ if isinstance(type_, type) else str(type_)


def _markdown(lines: list[str]) -> str:
    # Docstrings are reStructuredText, of which they use nothing but literals and references.
    text = "\n".join(lines) + "\n"
    return text.replace("``", "`")


PAGES = {"ops.md": ops, "passes.md": passes, "parity.md": parity}


def main() -> None:
    """Writes the pages under ``docs/`` in the current directory."""
    directory = Path("docs")
    directory.mkdir(exist_ok=True)
    for name, page in PAGES.items():
        (directory / name).write_text(page())


if __name__ == "__main__":
    main()
