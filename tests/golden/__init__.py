"""The plans of a zoo of training steps, as text: what is fused, computed again, updated in place and outlined.

A :class:`Model` is a step with its arguments; :func:`plan_of` compiles it and writes down what was decided and what
that takes. The files ``NAME.txt`` beside this module are the plans that were last agreed on: a change of a decision
is a change of one of them, to be seen in review.
"""

from __future__ import annotations

import itertools
import re
import textwrap
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

import volta_mlir as volta
from tests.models import gpt
from volta_mlir import Tensor, models, nn, optim
from volta_mlir.compilation import Compiled, Lowered
from volta_mlir.costs import cost_report
from volta_mlir.mlir import context, ir, spec_of
from volta_mlir.models import minilm
from volta_mlir.nn import functional as F
from volta_mlir.passes import parse_pipeline, run_pipeline
from volta_mlir.passes.derived import callee_of, calls_in, functions
from volta_mlir.passes.fuse import FusedGroup, FusionReport, fusion_report
from volta_mlir.passes.outline import NO_INLINE
from volta_mlir.passes.remat import Recomputed, RematReport, remat_report

#: The same instructions everywhere, on which packed sizes depend.
TARGET = "cpu:x86-64-v3"


@dataclass(frozen=True)
class Model:
    """A training step.

    Attributes:
        make: the step and its arguments.
        static: as :func:`volta_mlir.jit` takes it.
        donate: the same.
        budget: the same, as the option ``memory_budget``, besides none.
    """

    make: Callable[[], tuple[Callable[..., Any], tuple[Any, ...]]]
    budget: int | str | None
    donate: str | tuple[str, ...] = "auto"
    static: str | tuple[str, ...] = ()

    def lower(self, budget: int | str | None) -> Lowered:
        step, arguments = self.make()
        options = {"memory_budget": budget}
        return volta.jit(step, static=self.static, donate=self.donate, options=options).lower(*arguments)


def _tokens(vocabulary: int, batch: int, length: int) -> Tensor:
    return Tensor(np.random.default_rng(0).integers(0, vocabulary, (batch, length), dtype=np.int32))


def _training(model: nn.Module, optimizer: Any, loss: Callable[..., Tensor], *batch: Tensor) -> Any:
    """A step of an optimizer, and its arguments."""

    def step(model: nn.Module, state: Any, *batch: Tensor) -> Any:
        value, gradients = volta.value_and_grad(loss)(model, *batch)
        return *optimizer.update(model, gradients, state), value

    return step, (model, optimizer.init(model), *batch)


def _gpt() -> Any:
    config = gpt.Config(layers=2, width=64, heads=4, context=64, vocabulary=11, batch=4)
    return gpt.train_step, gpt.arguments(config)


def _resnet18() -> Any:
    def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(model(x), y)

    model = models.resnet18(num_classes=10)
    return _training(model, optim.SGD(lr=0.1, momentum=0.9), loss, volta.ones((4, 3, 32, 32)), _tokens(10, 1, 4)[0])


def _minilm() -> Any:
    """Fine-tuning on pairs: each sentence is to be most like its partner among those of the batch."""

    def loss(model: nn.Module, pairs: Tensor, mask: Tensor) -> Tensor:
        count = len(pairs) // 2
        embeddings = model(pairs, mask)
        scores = embeddings[:count] @ embeddings[count:].T * 20.0
        return F.cross_entropy(scores, volta.iota((count,), 0))

    config = minilm.Config(vocabulary=101, context=32, width=64, layers=2, heads=4, hidden=256)
    mask = volta.ones((16, 32), "int32")
    return _training(minilm.MiniLM(config), optim.AdamW(lr=1e-4), loss, _tokens(101, 16, 32), mask)


def _lstm() -> Any:
    def loss(model: nn.Module, tokens: Tensor) -> Tensor:
        scores, _ = model(tokens[:, :-1])
        return F.cross_entropy(scores.reshape(-1, scores.shape[-1]), tokens[:, 1:].reshape(-1))

    return _training(models.LSTMLM(101, 64, layers=2), optim.Adam(lr=1e-3), loss, _tokens(101, 8, 5))


#: The least memory is found at once, a number of bytes in several rounds: the largest programs have the former.
ZOO = {
    "gpt": Model(_gpt, "min", donate=gpt.DONATED, static="heads"),
    "resnet18": Model(_resnet18, None),  # of such small images, no plan of IREE's takes less
    "minilm": Model(_minilm, "min"),
    "lstm": Model(_lstm, 1_640_000),
}


def plan_of(model: Model) -> str:
    """What is decided about a model's step, and what that takes, without a budget and with the model's."""
    lines = [f"for {TARGET}"]
    for budget in dict.fromkeys((None, model.budget)):
        compiled = Compiled(model.lower(budget), TARGET, plan_only=True)
        title = "no memory_budget" if budget is None else f"memory_budget {budget}"
        module = compiled.lowered._at("volta-remat", goal=compiled.report.goal)
        lines += ["", title, "-" * len(title), *_figures(compiled, module), *_donations(compiled)]
        lines += _decisions(compiled, module)
    return "\n".join(lines) + "\n"


def _figures(compiled: Compiled, module: Any) -> Iterator[str]:
    plan, lowered = compiled.plan, compiled.lowered
    arguments = sum(spec_of(t).nbytes for t in lowered.traced.trace.function.type.inputs)
    figures = {
        "peak bytes": arguments + plan.results + plan.transients,
        "  arguments": arguments,
        "  results": plan.results,
        "  transients": plan.transients,
        "dispatches": plan.dispatches,
        "different kernels": plan.kernels,
        "transfers": plan.transfers,
        "bytes moved": plan.bytes_moved,
        "operations": _operations(module, lowered.name),
    }
    if compiled.report.goal is not None:
        figures["goal of volta-remat"] = compiled.report.goal
    for name, figure in figures.items():
        yield f"{name:20}{figure:16,}"
    if compiled.target.options:
        yield f"so that it fits: {' '.join(compiled.target.options)}"
    if compiled.report.fallback:
        yield f"fallback to {' '.join(compiled.report.flags)}"


def _operations(module: Any, name: str) -> int:
    """Those of what runs, with what is computed again."""
    with context():
        return cost_report(module, name).flops


def _donations(compiled: Compiled) -> Iterator[str]:
    lowered, dropped = compiled.lowered, compiled.report.dropped
    count = sum(lowered.donated)
    yield f"donated: {count} tensors of {', '.join(lowered.donated_arguments)}, {count - len(dropped)} in place"
    for drop in dropped:
        # The kernels' numbers change with everything.
        hazard = re.sub(
            rf"@{lowered.name}_dispatch_\d+_", "", f"{drop.hazard.reader} {drop.hazard.reason} {drop.hazard.writer}"
        )
        yield from _wrapped(f"  not {lowered.argument_names[drop.argument]}: {hazard}")


def _decisions(compiled: Compiled, module: Any) -> list[str]:
    """What the passes from volta-remat, whose module is given, to volta-outline make of the step."""
    with context(), ir.Location.unknown():
        recomputed = remat_report(module)
        run_pipeline(module, parse_pipeline("volta-fuse"))
        fused = fusion_report(module)
        run_pipeline(module, parse_pipeline("volta-alias,volta-outline"))
        if compiled.lowered.jitted.memory_budget is None:
            return [*_groups(fused), *_outlined(module)]
        return [*_recomputed(recomputed), *itertools.islice(_groups(fused), 1), *itertools.islice(_outlined(module), 1)]


def _recomputed(report: RematReport) -> Iterator[str]:
    """One line for each kind of op, which tells the shape of the largest."""
    kinds: dict[str, list[Recomputed]] = defaultdict(list)
    for row in report.rows:
        kinds[row.op].append(row)
    yield f"computed again: {sum(row.count for row in report.rows)} ops, {report.flops:,} operations"
    for op, rows in sorted(kinds.items(), key=lambda kind: (-sum(row.flops for row in kind[1]), kind[0])):
        largest = max(rows, key=lambda row: (row.spec.size, str(row.spec)))
        yield f"{sum(row.count for row in rows):4} x {sum(row.flops for row in rows):12,}  {largest.spec} = {op}"


def _groups(report: FusionReport) -> Iterator[str]:
    """Groups of the same ops and of results of the same ranks are one line, which tells the shapes of the largest."""
    alike: dict[Any, list[FusedGroup]] = defaultdict(list)
    for group in report.groups:
        ranks = tuple((r.dtype, len(r.shape)) for r in group.results)
        alike[tuple(sorted(group.ops)), ranks, group.is_epilogue].append(group)
    yield f"fused: {len(report.groups)} groups, which save {report.bytes_saved:,} bytes"
    for groups in alike.values():
        results = max((group.results for group in groups), key=lambda specs: sum(spec.size for spec in specs))
        saved = sum(group.bytes_saved for group in groups)
        ops = ("product then " if groups[0].is_epilogue else "") + _counted(groups[0].ops)
        yield from _wrapped(f"{len(groups):4} x {saved:12,}  {_counted(map(str, results))} = {ops}")


def _outlined(module: Any) -> Iterator[str]:
    calls = Counter(callee_of(call).sym_name.value for f in functions(module) for call in calls_in(f))
    found = [f for f in functions(module) if NO_INLINE in f.attributes]
    yield f"outlined: {len(found)} functions"
    for f in found:
        ops = len(f.entry_block.operations) - 1
        yield f"{calls[f.sym_name.value]:4} x {ops} ops, {len(f.arguments)} arguments, {len(f.type.results)} results"


def _counted(names: Iterable[str]) -> str:
    return " ".join(name if count == 1 else f"{count}*{name}" for name, count in sorted(Counter(names).items()))


def _wrapped(line: str) -> list[str]:
    return textwrap.wrap(line, 120, subsequent_indent=" " * 21, break_on_hyphens=False)
