"""A table of a model's modules: their classes, the shapes that they return, and their parameters."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from io import StringIO
from typing import Any

from volta_mlir import tree
from volta_mlir.calls import numbers_as_static
from volta_mlir.dtypes import TensorSpec
from volta_mlir.nn.module import Module, watching
from volta_mlir.tensor import Tensor


@dataclass(frozen=True)
class Row:
    """A module of a model.

    Attributes:
        name: its dotted name; ``""`` for the model.
        kind: the name of its class.
        outputs: what its first call returned, a tuple with one spec for each tensor; None where it was not called.
        parameters: how many numbers its own parameters hold, without those of the modules inside it. A tied parameter
            counts where it comes first.
        calls: how often it was called.
    """

    name: str
    kind: str
    outputs: tuple[TensorSpec, ...] | None
    parameters: int
    calls: int


@dataclass(frozen=True)
class Summary:
    """What :func:`summary` found; prints as a table.

    Attributes:
        rows: one for each module, the model first.
        trainable: how many numbers the trainable parameters hold.
        frozen: how many numbers the frozen parameters hold.
        buffers: how many numbers the buffers hold.
        nbytes: bytes of parameters and buffers.
    """

    rows: tuple[Row, ...]
    trainable: int
    frozen: int
    buffers: int
    nbytes: int

    @property
    def parameters(self) -> int:
        """How many numbers all parameters hold."""
        return self.trainable + self.frozen

    def __rich__(self) -> Any:
        from rich.console import Group
        from rich.table import Table

        has_outputs = any(row.outputs is not None for row in self.rows)
        table = Table("Module", "Class")
        if has_outputs:
            table.add_column("Output")
        table.add_column("Parameters", justify="right")
        for row in self.rows:
            cells = [_escaped(row.name or "(model)"), _escaped(row.kind)]
            if has_outputs:
                cells.append(_escaped(_shapes(row)))
            table.add_row(*cells, f"{row.parameters:,}" if row.parameters else "")
        return Group(table, *self._totals())

    def _totals(self) -> Iterator[str]:
        from rich.filesize import decimal

        yield f"Parameters: {self.parameters:,} ({self.trainable:,} trainable, {self.frozen:,} frozen)"
        yield f"Buffers: {self.buffers:,}"
        yield f"Size: {decimal(self.nbytes)}"

    def __str__(self) -> str:
        from rich.console import Console

        text = StringIO()
        Console(file=text, width=120, color_system=None).print(self)
        return "\n".join(line.rstrip() for line in text.getvalue().splitlines())

    __repr__ = __str__


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def _shapes(row: Row) -> str:
    if row.outputs is None:
        return ""
    shapes = ", ".join(str(spec) for spec in row.outputs)
    return f"{shapes} ×{row.calls}" if row.calls > 1 else shapes


def summary(model: Module, *inputs: Any, **kwargs: Any) -> Summary:
    """The modules of a model with the shapes that they return and their parameters, as an object that prints a table.

    The model is traced and not run: nothing is computed, no buffer changes, and specs can stand for inputs.

    Args:
        model: any module.
        inputs: what to call it with, tensors or specs (:func:`volta_mlir.spec`); without any, shapes are left out.
        kwargs: further arguments of the call.

    Raises:
        TypeError: ``model`` is not a module.
        VoltaError: what the model raises for such inputs.

    >>> import volta_mlir as volta
    >>> from volta_mlir import nn
    >>> model = nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))
    >>> result = summary(model, volta.spec((32, 784)))
    >>> result.parameters, [str(*row.outputs) for row in result.rows]
    (101770, ['float32[32,10]', 'float32[32,128]', 'float32[32,128]', 'float32[32,10]'])
    >>> print(result)
    ┏━━━━━━━━━┳━━━━━━━━━━━━┳━━━━━━━━━━━━━━━━━┳━━━━━━━━━━━━┓
    ┃ Module  ┃ Class      ┃ Output          ┃ Parameters ┃
    ┡━━━━━━━━━╇━━━━━━━━━━━━╇━━━━━━━━━━━━━━━━━╇━━━━━━━━━━━━┩
    │ (model) │ Sequential │ float32[32,10]  │            │
    │ 0       │ Linear     │ float32[32,128] │    100,480 │
    │ 1       │ ReLU       │ float32[32,128] │            │
    │ 2       │ Linear     │ float32[32,10]  │      1,290 │
    └─────────┴────────────┴─────────────────┴────────────┘
    Parameters: 101,770 (101,770 trainable, 0 frozen)
    Buffers: 0
    Size: 407.1 kB
    """
    if not isinstance(model, Module):
        raise TypeError(f"summary describes a module, got a {type(model).__name__}")
    calls = _calls(model, inputs, kwargs) if inputs or kwargs else {}
    rows, counted = [], set()
    totals = {"trainable": 0, "frozen": 0, "buffers": 0, "nbytes": 0}
    for name, module in model.named_modules():
        own = 0
        for leaf_name, leaf in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
            if id(leaf) in counted:
                continue
            counted.add(id(leaf))
            attribute = leaf_name.partition(".")[0]
            if module.is_buffer(attribute):
                totals["buffers"] += leaf.size
            else:
                totals["trainable" if module.is_trainable(attribute) else "frozen"] += leaf.size
                own += leaf.size
            totals["nbytes"] += leaf.nbytes
        outputs = calls.get(name, [])
        rows.append(Row(name, type(module).__name__, outputs[0] if outputs else None, own, len(outputs)))
    return Summary(tuple(rows), **totals)


def _calls(model: Module, inputs: Any, kwargs: Any) -> dict[str, list[tuple[TensorSpec, ...]]]:
    """For each module by name, what its calls returned, in order."""
    from volta_mlir.compilation import jit

    found: dict[str, list[tuple[TensorSpec, ...]]] = {}

    def run(model: Module, inputs: Any, kwargs: Any) -> Any:
        names = {id(module): name for name, module in model.named_modules()}

        def note(module: Module, result: Any) -> None:
            if id(module) in names:
                tensors = [leaf.spec for leaf in tree.leaves(result) if isinstance(leaf, Tensor)]
                found.setdefault(names[id(module)], []).append(tuple(tensors))

        with watching(note):
            return model(*inputs, **kwargs)

    jit(run).lower(model, *numbers_as_static((inputs, kwargs)))  # flags and counts are parts of the program
    return found
