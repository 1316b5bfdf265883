"""Random programs of the registry's ops: the reference against every pass, derivatives, vmap and compiled code.

A program's floating-point results are compared where they are well determined: it is also evaluated with noise of a
few units in the last place on every rounded value, and what that changes measures what rounding may change. A
comparison that flips under such noise proves nothing, and is left out.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.harness import Arrays, call, compile_functions, function_module, run_passes
from tests.samples import random_array
from tests.tolerances import INNER_PRODUCT, RELATIVE, norm
from volta_mlir.dialects import OPS, Op
from volta_mlir.dialects.elementwise import Elementwise
from volta_mlir.dtypes import DTYPES, TensorSpec, bool_, float64, int32, is_float
from volta_mlir.errors import CompileError, VoltaError
from volta_mlir.interpreter import interpret
from volta_mlir.mlir import context, ext, ir
from volta_mlir.passes.pipeline import PIPELINE
from volta_mlir.tensor import Tensor
from volta_mlir.transforms import jvp, vjp, vmap

pytestmark = pytest.mark.no_cover

Draw = Callable[[st.SearchStrategy[Any]], Any]

MAX_STEPS = 16
MAX_ELEMENTS = 200


# -- programs ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """One op; its operands are numbers of values: the arguments, then every step's results."""

    op: type[Op]
    operands: tuple[int, ...]
    attributes: dict[str, Any]


@dataclass(repr=False)
class Program:
    """A typed graph of ops with arguments to run it on. Its results are the values that no step uses."""

    arguments: list[TensorSpec]
    seed: int
    special: bool
    steps: list[Step] = field(default_factory=list)
    values: list[TensorSpec] = field(default_factory=list)

    def add(self, op: type[Op], operands: Sequence[int], **attributes: Any) -> int:
        """Appends a step; returns the number of its first result. Raises VoltaError where the op refuses it."""
        results = op.infer_all(*(self.values[i] for i in operands), **attributes)
        if sum(spec.size for spec in results) > MAX_ELEMENTS:
            raise VoltaError("large")
        self.steps.append(Step(op, tuple(operands), attributes))
        self.values += results
        return len(self.values) - len(results)

    @property
    def results(self) -> list[int]:
        used = {i for step in self.steps for i in step.operands}
        return [i for i in range(len(self.arguments), len(self.values)) if i not in used]

    def draw_arguments(self) -> Arrays:
        rng = np.random.default_rng(self.seed)
        return [random_array(rng, spec.dtype, spec.shape, self.special) for spec in self.arguments]

    def apply(self, *tensors: Tensor) -> list[Tensor]:
        """The results on tensors."""
        values = list(tensors)
        for step in self.steps:
            outs = step.op.apply(*(values[i] for i in step.operands), **step.attributes)
            values += outs if isinstance(outs, tuple) else (outs,)
        return [values[i] for i in self.results]

    def evaluate(self, arguments: Arrays, noise: np.random.Generator | None = None) -> Arrays:
        """The results by the references, with noise on what each step computes, if wanted."""
        values = list(arguments)
        for step in self.steps:
            operands = [values[i] for i in step.operands]
            outs = step.op.evaluate(operands, step.attributes)
            if noise is not None and step.op.flops(
                [_spec(x) for x in operands], [_spec(x) for x in outs], **step.attributes
            ):
                outs = tuple(_perturbed(out, noise) for out in outs)
            values += outs
        return [values[i] for i in self.results]

    def module(self, name: str = "program") -> Any:
        return function_module(name, self.arguments, self.apply)

    def __repr__(self) -> str:
        return f"Program(seed={self.seed}, special={self.special})\n{self.module()}"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(repr(self))


def _spec(array: np.ndarray) -> TensorSpec:
    return TensorSpec(array.shape, array.dtype)


def _perturbed(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if not is_float(array.dtype):
        return array
    with np.errstate(all="ignore"):
        factor = 1 + RELATIVE[array.dtype.name] * rng.uniform(-1, 1, array.shape)
        return (array.astype(np.float64) * factor).astype(array.dtype)


# -- drawing programs ----------------------------------------------------------------------------------------------


def _subset(draw: Draw, rank: int) -> tuple[int, ...]:
    return tuple(axis for axis in range(rank) if draw(st.booleans()))


def _each(draw: Draw, rank: int, low: int, high: int) -> tuple[int, ...]:
    return tuple(draw(st.integers(low, high)) for _ in range(rank))


def _slice(draw: Draw, spec: TensorSpec) -> dict[str, Any]:
    bounds = [sorted((draw(st.integers(0, s)), draw(st.integers(0, s)))) for s in spec.shape]
    start, limit = tuple(b[0] for b in bounds), tuple(b[1] for b in bounds)
    return {"start": start, "limit": limit, "strides": _each(draw, spec.rank, 1, 3)}


def _pad(draw: Draw, spec: TensorSpec) -> dict[str, Any]:
    low, high = _each(draw, spec.rank, -1, 2), _each(draw, spec.rank, -1, 2)
    return {"low": low, "high": high, "interior": _each(draw, spec.rank, 0, 1)}


def _broadcast(draw: Draw, spec: TensorSpec) -> dict[str, Any]:
    stretched = tuple(draw(st.integers(1, 3)) if s == 1 else s for s in spec.shape)
    new = _each(draw, draw(st.integers(0, 2)), 1, 3)
    return {"shape": new + stretched, "dims": tuple(range(len(new), len(new) + spec.rank))}


def _window(draw: Draw, spec: TensorSpec) -> dict[str, Any]:
    bounds = {"window": (1, 3), "strides": (1, 2), "low": (0, 2), "high": (0, 2), "dilation": (1, 2)}
    return {name: _each(draw, spec.rank, *bound) for name, bound in bounds.items()}


#: How the attributes of an op are drawn from the spec of its first operand, by mnemonic or by attribute name.
BY_MNEMONIC: dict[str, Callable[[Draw, TensorSpec], dict[str, Any]]] = {
    "broadcast_in_dim": _broadcast,
    "slice": _slice,
    "pad": _pad,
    "window_max": _window,
    "window_sum": _window,
    "top_k": lambda draw, s: {"k": draw(st.integers(0, s.shape[-1] if s.rank else 0))},
    "reshape": lambda draw, s: {"shape": draw(st.sampled_from([(s.size,), s.shape[::-1], (1, *s.shape)]))},
    "transpose": lambda draw, s: {"permutation": tuple(draw(st.permutations(range(s.rank))))},
    "compare": lambda draw, s: {"direction": draw(st.sampled_from(["eq", "ne", "lt", "le", "gt", "ge"]))},
}
BY_NAME: dict[str, Callable[[Draw, TensorSpec], Any]] = {
    "axes": lambda draw, s: _subset(draw, s.rank),
    "axis": lambda draw, s: draw(st.integers(0, max(0, s.rank - 1))),
}


def _fuzzed(op: type[Op]) -> bool:
    count = operand_count(op)
    names = {name for name, type_ in op.attribute_types.items() if type_ is not bool}
    return 0 < count <= 3 and (op.mnemonic in BY_MNEMONIC or names <= BY_NAME.keys())


def operand_count(op: type[Op]) -> int:
    return sum(isinstance(f, ext.OperandDef) for f in op._fields)


ELEMENTWISE = [op for op in OPS.values() if issubclass(op, Elementwise) and _fuzzed(op)]
OTHERS = [op for op in OPS.values() if not issubclass(op, Elementwise) and _fuzzed(op)]


def operand_specs(op: type[Op], spec: TensorSpec, attributes: dict[str, Any]) -> list[TensorSpec] | None:
    """Specs of operands that an op takes, with ``spec`` the usual one; None where it does not take it.

    They are all equal, or scalars after the first, or the first is a predicate.
    """
    rest = operand_count(op) - 1
    arrangements = [spec] * (rest + 1), [spec] + [spec.with_shape(())] * rest, [spec.with_dtype(bool_)] + [spec] * rest
    for specs in arrangements:
        try:
            op.infer_all(*specs, **attributes)
        except VoltaError:
            continue
        return specs
    return None


@cache
def elementwise_ops(dtype: np.dtype) -> list[type[Op]]:
    """The elementwise ops for values of a dtype."""
    return [op for op in ELEMENTWISE if op.attribute_types or operand_specs(op, TensorSpec((), dtype), {})]


def _draw_op(draw: Draw, program: Program, elementwise: bool) -> None:
    """Appends an op on one of the values, which decides what its other operands have to be."""
    principal = draw(st.integers(0, len(program.values) - 1))
    spec = program.values[principal]
    op = draw(st.sampled_from(elementwise_ops(spec.dtype) if elementwise else OTHERS))
    if op.mnemonic in BY_MNEMONIC:
        attributes = BY_MNEMONIC[op.mnemonic](draw, spec)
    else:
        attributes = {
            n: draw(st.booleans()) if t is bool else BY_NAME[n](draw, spec) for n, t in op.attribute_types.items()
        }
    specs = operand_specs(op, spec, attributes)
    if specs is not None:
        at = specs.index(spec) if spec in specs else None
        operands = [principal if i == at else _draw_value(draw, program, s) for i, s in enumerate(specs)]
        program.add(op, operands, **attributes)


def _draw_value(draw: Draw, program: Program, spec: TensorSpec) -> int:
    """A value of this spec: one that there is, or another one converted and broadcast, or else a constant."""
    chosen = draw(st.sampled_from(sorted(range(len(program.values)), key=lambda i: program.values[i] != spec)))
    shape = program.values[chosen].shape
    leading = spec.rank - len(shape)
    if leading < 0 or any(s not in (1, t) for s, t in zip(shape, spec.shape[leading:], strict=True)):
        value = np.array(draw(st.sampled_from([0, 1, 2, 3]))).astype(spec.dtype)
        return program.add(OPS["full"], [], value=value, shape=spec.shape)
    if program.values[chosen].dtype != spec.dtype:
        chosen = program.add(OPS["convert"], [chosen], dtype=spec.dtype)
    if shape != spec.shape:
        dims = tuple(range(leading, spec.rank))
        chosen = program.add(OPS["broadcast_in_dim"], [chosen], shape=spec.shape, dims=dims)
    return chosen


def _draw_convert(draw: Draw, program: Program, dtypes: Sequence[np.dtype]) -> None:
    source = draw(st.integers(0, len(program.values) - 1))
    program.add(OPS["convert"], [source], dtype=draw(st.sampled_from(dtypes)))


def _draw_product(draw: Draw, program: Program) -> None:
    """Contracts an axis of one value with an axis of another, or of the same, after making their extents agree."""
    lhs = draw(st.integers(0, len(program.values) - 1))
    left = program.values[lhs]
    if not left.rank or left.dtype == bool_:
        return
    axis = draw(st.integers(0, left.rank - 1))
    batch = draw(st.sampled_from([a for a in range(left.rank) if a != axis] or [None]))
    right_shape = [left.shape[axis], draw(st.integers(1, 3))] + ([] if batch is None else [left.shape[batch]])
    rhs = _draw_value(draw, program, left.with_shape(tuple(right_shape)))
    program.add(
        OPS["dot_general"],
        [lhs, rhs],
        lhs_batch=() if batch is None else (batch,),
        rhs_batch=() if batch is None else (2,),
        lhs_contract=(axis,),
        rhs_contract=(0,),
        dtype=left.dtype,
    )


def _draw_indexing(draw: Draw, program: Program) -> None:
    """Reads or writes at indices, which may well be out of range."""
    source = draw(st.integers(0, len(program.values) - 1))
    spec = program.values[source]
    if not spec.rank:
        return
    mnemonic = draw(st.sampled_from(["gather", "scatter_add", "scatter_set", "dynamic_slice"]))
    if mnemonic == "dynamic_slice":
        starts = _draw_value(draw, program, TensorSpec((spec.rank,), int32))
        program.add(OPS[mnemonic], [source, starts], sizes=tuple(draw(st.integers(0, s)) for s in spec.shape))
        return
    axis = draw(st.integers(0, spec.rank - 1))
    shape = draw(st.sampled_from([(), (3,), (1, 2)]))
    operands = [source, _draw_value(draw, program, TensorSpec(shape, int32))]
    if mnemonic != "gather":
        rest = spec.shape[:axis] + spec.shape[axis + 1 :]
        operands.append(_draw_value(draw, program, spec.with_shape(shape + rest)))
    program.add(OPS[mnemonic], operands, axis=axis, batch_axes=())


def _draw_convolution(draw: Draw, program: Program) -> None:
    """A convolution along one axis, or one of its gradients, of a value of rank 3."""
    sources = [i for i, spec in enumerate(program.values) if spec.rank == 3 and spec.size]
    if not sources:
        return
    source = draw(st.sampled_from(sources))
    spec = program.values[source]
    layout = draw(st.sampled_from(["NCW", "NCW", "NWC"]))
    batch, channels, extent = (spec.shape[layout.index(letter)] for letter in "NCW")
    groups, others, window = draw(st.sampled_from([1, 1, channels])), draw(st.integers(1, 3)), draw(st.integers(1, 3))
    stride, low, high, dilation = (draw(st.integers(*b)) for b in ((1, 2), (0, 2), (0, 2), (1, 2)))
    attributes = {"strides": (stride,), "low": (low,), "high": (high,), "dilation": (dilation,)}
    attributes |= {"groups": groups, "layout": layout}
    mnemonic = draw(st.sampled_from(["convolution", "convolution_input_grad", "convolution_kernel_grad"]))
    span = (window - 1) * dilation + 1
    if mnemonic == "convolution_kernel_grad":
        count = (extent + low + high - span) // stride + 1
        shape = (batch, groups * others, count) if layout == "NCW" else (batch, count, groups * others)
        attributes["extents"] = (window,)
    else:
        outputs, inputs = (groups * others, channels // groups)
        if mnemonic == "convolution_input_grad":
            outputs, inputs = channels, others
            attributes["extents"] = ((extent - 1) * stride + span - low - high,)
        shape = (outputs, inputs, window) if layout == "NCW" else (window, inputs, outputs)
    other = _draw_value(draw, program, spec.with_shape(shape))
    program.add(OPS[mnemonic], [source, other], **attributes)


@st.composite
def programs(
    draw: Draw, dtypes: Sequence[np.dtype] = DTYPES, special: bool = True, convolutions: bool = False
) -> Program:
    shapes = st.lists(st.sampled_from([3, 1, 2, 5, 4, 3, 2, 7, 1, 0]), max_size=3).map(tuple)
    specs = draw(st.lists(st.builds(TensorSpec, shapes, st.sampled_from(dtypes)), min_size=1, max_size=3))
    if convolutions:
        extents = st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(2, 7))
        specs.insert(0, TensorSpec(draw(extents), draw(st.sampled_from([d for d in dtypes if d != bool_]))))
    program = Program(specs, draw(st.integers(0, 2**32 - 1)), special and draw(st.booleans()))
    program.values += specs
    for _ in range(draw(st.integers(1, MAX_STEPS))):
        try:
            kinds = ["elementwise"] * 3 + ["other"] * 3 + ["convert", "product", "indexing"]
            kind = draw(st.sampled_from(kinds + ["convolution"] * 3 * convolutions))
            if kind == "convolution":
                _draw_convolution(draw, program)
            elif kind == "convert":
                _draw_convert(draw, program, dtypes)
            elif kind == "product":
                _draw_product(draw, program)
            elif kind == "indexing":
                _draw_indexing(draw, program)
            else:
                _draw_op(draw, program, elementwise=kind == "elementwise")
        except VoltaError:
            pass  # the op does not take this dtype, or the result is too large
    return program


# -- comparison ----------------------------------------------------------------------------------------------------

NOISY_RUNS = 4


def disagreement(program: Program, arguments: Arrays, actual: Arrays) -> str | None:
    """How ``actual`` differs from the reference's results, where rounding decides nothing."""
    expected = program.evaluate(arguments)
    rng = np.random.default_rng(program.seed)
    noisy = [program.evaluate(arguments, rng) for _ in range(NOISY_RUNS)]
    for number, (a, e, *runs) in enumerate(zip(actual, expected, *noisy, strict=True)):
        if (a.shape, a.dtype) != (e.shape, e.dtype):
            return f"result {number}: got {a.dtype}{list(a.shape)}, expected {e.dtype}{list(e.shape)}"
        with np.errstate(all="ignore"):
            wrong = _wrong_floats(a, e, runs) if is_float(e.dtype) else _wrong_integers(a, e, runs)
        if wrong.any():
            at = tuple(map(int, np.argwhere(wrong)[0]))
            return f"result {number}: {wrong.sum()} of {e.size} elements; at {list(at)} got {a[at]}, expected {e[at]}"
    return None


def _wrong_integers(a: np.ndarray, e: np.ndarray, runs: Arrays) -> np.ndarray:
    certain = np.logical_and.reduce([run == e for run in runs])
    return certain & (a != e)


def _wrong_floats(a: np.ndarray, e: np.ndarray, runs: Arrays) -> np.ndarray:
    info = RELATIVE[e.dtype.name]
    a, e, *runs = (x.astype(np.float64) for x in (a, e, *runs))
    same = [(run == e) | (np.isnan(run) & np.isnan(e)) | (np.isfinite(run) & np.isfinite(e)) for run in runs]
    certain = np.logical_and.reduce(same)
    spread = np.maximum.reduce([np.where(np.isfinite(e), np.abs(run - e), 0) for run in runs])
    allowed = 8 * spread + info * np.abs(e)
    return certain & ~((a == e) | (np.isnan(a) & np.isnan(e)) | (np.abs(a - e) <= allowed))


# -- tests ---------------------------------------------------------------------------------------------------------


def explore(
    strategy: st.SearchStrategy[Program], examples: int, check: Callable[[Program], None], shrink: bool = True
) -> None:
    """Runs ``check`` on this many programs; a failure is reported for the simplest program that fails."""
    phases = [Phase.generate, Phase.shrink] if shrink else [Phase.generate]
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    settings(max_examples=examples, phases=phases, suppress_health_check=checks)(
        given(strategy)(lambda program: check(program))
    )()


def tiers(default: int, full: int) -> Any:
    """The number of programs in the default tier, and in the full one."""
    values = [pytest.param(default, id="default"), pytest.param(full, id="rest", marks=pytest.mark.full)]
    return pytest.mark.parametrize("examples", values)


#: Passes that leave small programs alone otherwise.
PASS_OPTIONS = {"volta-remat": "volta-remat{budget=0}", "volta-fuse": "volta-fuse{min-rows=1}"}


@tiers(100, 5000)
def test_passes(examples: int) -> None:
    """The interpreted program after each pass but the lowering, and after its text was printed and parsed."""

    def check(program: Program) -> None:
        arguments = program.draw_arguments()
        module = program.module()
        for name in ("canonicalize", *(PASS_OPTIONS.get(name, name) for name in PIPELINE[:-1])):
            run_passes(module, name)
            problem = disagreement(program, arguments, interpret(module, "program", arguments))
            assert problem is None, f"after {name}: {problem}\n{module}"
        buffer = io.BytesIO()
        module.operation.write_bytecode(buffer)
        with context():
            for source in (str(module), buffer.getvalue()):
                assert str(ir.Module.parse(source)) == str(module)

    explore(programs(), examples, check)


@tiers(100, 5000)
def test_layout(examples: int) -> None:
    """The interpreted program with convolutions, and what is between them, in channels last."""
    moved = 0

    def check(program: Program) -> None:
        nonlocal moved
        arguments = program.draw_arguments()
        module = program.module()
        before = str(module)
        run_passes(module, "volta-layout")
        moved += str(module) != before
        for name in ("volta-simplify", "cse", "volta-align"):
            run_passes(module, name)
        problem = disagreement(program, arguments, interpret(module, "program", arguments))
        assert problem is None, f"{problem}\n{module}"

    explore(programs(convolutions=True), examples, check)
    assert moved >= examples // 10


@tiers(60, 2000)
def test_derivatives(examples: int) -> None:
    """Reverse mode against forward mode by ⟨ct, J t⟩ = ⟨Jᵀ ct, t⟩."""

    def check(program: Program) -> None:
        if not any(map(_is_float_spec, program.arguments)):
            return
        rng = np.random.default_rng(program.seed)
        primals = tuple(map(Tensor, program.draw_arguments()))
        tangents = tuple(Tensor(rng.standard_normal(x.shape)) if _is_float_spec(x.spec) else None for x in primals)
        floats = [n for n, i in enumerate(program.results) if _is_float_spec(program.values[i])]

        def function(*tensors: Tensor) -> list[Tensor]:
            results = program.apply(*tensors)
            return [results[n] for n in floats]

        outs, pushed = jvp(function, primals, tangents)
        cotangents = [Tensor(rng.standard_normal(out.shape)) for out in outs]
        _, pullback = vjp(function, *primals)
        pulled = pullback(cotangents)
        forward = [(c.numpy(), p.numpy()) for c, p in zip(cotangents, pushed, strict=True)]
        reverse = [(g.numpy(), t.numpy()) for g, t in zip(pulled, tangents, strict=True) if t is not None]
        if not all(np.isfinite(x).all() for pair in forward + reverse for x in pair):
            return
        left, right = (float(sum(np.vdot(x, y) for x, y in pairs)) for pairs in (forward, reverse))
        # A derivative that cancels to zero keeps the rounding errors of its terms: measure against terms of size one.
        size = _norm(cotangents) * _norm(tangents)
        scale = size + sum(norm(x) * norm(y) for pairs in (forward, reverse) for x, y in pairs)
        assert abs(left - right) <= INNER_PRODUCT * scale, f"forward mode gives {left}, reverse mode {right}"

    explore(programs(dtypes=(float64, float64, int32), special=False), examples, check)


def _norm(tensors: Sequence[Tensor | None]) -> float:
    return math.hypot(*(norm(x.numpy()) for x in tensors if x is not None))


def _is_float_spec(spec: TensorSpec) -> bool:
    return is_float(spec.dtype)


@tiers(60, 2000)
def test_vmap(examples: int) -> None:
    """vmap of the program against a loop, with every choice of batched arguments in turn."""

    def check(program: Program) -> None:
        rows = [program.draw_arguments(), *_other_arguments(program)]
        number = program.seed % (2 ** len(program.arguments) - 1) + 1  # a subset that is not empty
        batched = [bool(number >> i & 1) for i in range(len(program.arguments))]
        rows = [[row[i] if b else rows[0][i] for i, b in enumerate(batched)] for row in rows]
        stacked = [np.stack([row[i] for row in rows]) if b else rows[0][i] for i, b in enumerate(batched)]
        outs = vmap(program.apply, in_axes=tuple(0 if b else None for b in batched))(*map(Tensor, stacked))
        for position, row in enumerate(rows):
            problem = disagreement(program, row, [out.numpy()[position] for out in outs])
            assert problem is None, f"batched {batched}, example {position}: {problem}"

    explore(programs(), examples, check)


def _other_arguments(program: Program) -> list[Arrays]:
    rng = np.random.default_rng(program.seed + 1)
    return [[random_array(rng, s.dtype, s.shape, program.special) for s in program.arguments] for _ in range(2)]


@tiers(48, 2000)
def test_compiled(examples: int) -> None:
    """Compiled programs, many at a time. A failure names the shortest prefix of the program that fails.

    They are simplified first, as in jit: where IREE folds what Volta does not, it may mix up the results of a group.
    """
    drawn: list[Program] = []
    explore(programs(), examples, drawn.append, shrink=False)
    problems = []
    refused = 0
    for start in range(0, len(drawn), 60):
        batch = {f"program{start + i}": program for i, program in enumerate(drawn[start : start + 60])}
        compiled = compile_functions({name: program.module(name) for name, program in batch.items()}, simplify=True)
        for name, program in batch.items():
            if isinstance(compiled[name], CompileError):
                # IREE refuses a few groups of ops ("expected type of bb argument"); jit then compiles without fusion.
                refused += 1
                compiled[name] = compile_functions({name: program.module(name)}, fuse=False, simplify=True)[name]
            if compiled_problem(program, compiled[name]) is not None:
                problems.append(shortest_failure(program))
    assert refused <= max(3, len(drawn) // 100)
    if problems:
        pytest.fail(f"{len(problems)} of {len(drawn)} programs\n" + "\n".join(problems), pytrace=False)


def compiled_problem(program: Program, function: Any) -> str | None:
    arguments = program.draw_arguments()
    try:
        return disagreement(program, arguments, call(function, arguments))
    except VoltaError as error:
        return f"{type(error).__name__}: {error}"


def shortest_failure(program: Program) -> str:
    for length in range(1, len(program.steps) + 1):
        prefix = Program(program.arguments, program.seed, program.special)
        prefix.values += program.arguments
        for step in program.steps[:length]:
            prefix.add(step.op, step.operands, **step.attributes)
        compiled = compile_functions({"program": prefix.module()}, simplify=True)
        problem = compiled_problem(prefix, compiled["program"])
        if problem is not None:
            return f"{problem}\n{prefix}"
    return f"fails only together with other programs\n{program}"
