"""Every op at every dtype that it has, generated from the registry and the samples."""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import volta_mlir as volta
from tests import tolerances
from tests.harness import (
    Arrays,
    Case,
    as_list,
    call,
    case_module,
    cases,
    check_each,
    compile_functions,
    function_module,
    op_samples,
    tiered,
)
from volta_mlir.dialects import OPS, convolution
from volta_mlir.dialects.convolution import Convolutional, to_channels_last
from volta_mlir.dialects.window import Window
from volta_mlir.dtypes import DTYPES, TensorSpec, float32, float64, is_float, is_integer
from volta_mlir.mlir import context, func, function_named, ir, tensor_type
from volta_mlir.tensor import Tensor
from volta_mlir.transforms import jvp, vjp

Function = Callable[..., tuple[Tensor, ...]]

every_op = pytest.mark.parametrize(("mnemonic", "tier"), tiered(op_samples()))


# -- text --------------------------------------------------------------------------------------------------------


@every_op
def test_text_and_bytecode_round_trip(mnemonic: str, tier: str) -> None:
    def check(case: Case) -> str | None:
        module = case_module(case)
        text = str(module)
        buffer = io.BytesIO()
        module.operation.write_bytecode(buffer)
        sources = {
            "text": text,
            "generic text": module.operation.get_asm(print_generic_op_form=True),
            "bytecode": buffer.getvalue(),
        }
        for kind, source in sources.items():
            with context():
                parsed = ir.Module.parse(source)
            if str(parsed) != text:
                return f"{kind} changes in a round trip:\n{text}{parsed}"
            op = function_named(parsed, case.symbol).entry_block.operations[0]
            for name, value in op.attribute_values().items():
                if not _same_attribute(value, case.attributes[name]):
                    return f"{kind}: attribute {name} was {case.attributes[name]!r}, reads {value!r}"
        return None

    check_each(cases(mnemonic, tier), check)


def _same_attribute(read: Any, given: Any) -> bool:
    if isinstance(read, np.ndarray):
        return tolerances.mismatch(read, np.asarray(given), relative=0) is None
    return read == (tuple(given) if isinstance(read, tuple) else given)


# -- verifier ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mnemonic", list(op_samples()))
def test_verifier_rejects(mnemonic: str) -> None:
    """Each way to write the op wrongly is refused with a message that names the op, at its line."""
    case = cases(mnemonic)[0]

    def check(what: str) -> str | None:
        text = malformed[what].get_asm(print_generic_op_form=True, assume_verified=True)
        with context():
            try:
                ir.Module.parse(text)
            except ir.MLIRError as error:
                first = error.error_diagnostics[0]
                line = text.splitlines()[int(re.findall(r":(\d+):", str(first.location))[0]) - 1]
                if f"volta.{mnemonic}" in line and f"volta.{mnemonic}" in first.message:
                    return None
                return f"the message does not name the op: {first.message} at {line.strip()}"
        return f"accepted:\n{text}"

    malformed = malformed_ops(case)
    check_each(malformed, check)


def malformed_ops(case: Case) -> dict[str, Any]:
    """Operations with the case's op, each wrong in one way."""
    with context(), ir.Location.unknown():
        types, attributes = [tensor_type(s) for s in case.specs], case.op.encode(case.attributes)
        first = case.results[0]
        results = [tensor_type(s) for s in case.results]

        def other_result(spec: TensorSpec) -> Any:
            return unchecked_op(case, types, [tensor_type(spec), *results[1:]], attributes)

        next_dtype = DTYPES[(DTYPES.index(first.dtype) + 1) % len(DTYPES)]
        modules = {
            "a result of another shape": other_result(first.with_shape((*first.shape, 7))),
            "a result of another dtype": other_result(first.with_dtype(next_dtype)),
            "a result too many": unchecked_op(case, types, [*results, results[0]], attributes),
            "an operand too many": unchecked_op(case, [*types, results[0]], results, attributes),
            "an unknown attribute": unchecked_op(case, types, results, attributes | {"surplus": ir.UnitAttr.get()}),
        }
        if types:
            dynamic = ir.Type.parse("tensor<*xf32>"), ir.Type.parse("tensor<?xf32>"), ir.Type.parse("f32")
            for type_ in dynamic:
                modules[f"an operand of type {type_}"] = unchecked_op(case, [type_, *types[1:]], results, attributes)
            modules["an operand too few"] = unchecked_op(case, types[1:], results, attributes)
        for key in attributes:
            rest = {k: v for k, v in attributes.items() if k != key}
            modules[f"without attribute {key}"] = unchecked_op(case, types, results, rest)
            wrong = rest | {key: ir.UnitAttr.get()}
            modules[f"another kind of attribute {key}"] = unchecked_op(case, types, results, wrong)
    return modules


def unchecked_op(case: Case, types: list[Any], results: list[Any], attributes: dict[str, Any]) -> Any:
    """A module with the op built from these parts, which nothing has verified."""
    module = ir.Module.create()
    function = func.FuncOp("f", (types, []), ip=ir.InsertionPoint(module.body))
    block = function.add_entry_block()
    ir.Operation.create(case.op.OPERATION_NAME, results, list(block.arguments), attributes, ip=ir.InsertionPoint(block))
    func.ReturnOp([], ip=ir.InsertionPoint(block))
    return module.operation


# -- infer, reference, lower ---------------------------------------------------------------------------------------


@every_op
def test_reference_has_inferred_specs(mnemonic: str, tier: str) -> None:
    def check(case: Case) -> str | None:
        with np.errstate(all="ignore"):
            raw = case.op.reference(*case.operands, **case.attributes)
        raw = raw if isinstance(raw, tuple) else (raw,)
        for result, spec in zip(map(np.asarray, raw), case.results, strict=True):
            # A reference may compute wider than the op, but not in numbers of another kind.
            if result.shape != spec.shape or _kind(result.dtype) != _kind(spec.dtype):
                return f"reference gives {result.dtype}{list(result.shape)}, infer gives {spec}"
        return None

    check_each(cases(mnemonic, tier), check)


def _kind(dtype: np.dtype) -> str:
    return "float" if is_float(dtype) else "integer" if is_integer(dtype) else dtype.name


@every_op
def test_compiled_agrees_with_reference(mnemonic: str, tier: str) -> None:
    selected = cases(mnemonic, tier)
    compiled = compile_functions({case.symbol: case_module(case) for case in selected})

    def check(case: Case) -> str | None:
        return disagreement(case, call(compiled[case.symbol], case.operands), list(case.expected))

    check_each(selected, check)


def test_a_kernel_gradient_of_many_elements(monkeypatch: pytest.MonkeyPatch) -> None:
    """Row by row of the kernel, as if the samples were too large to copy what all of it meets."""
    selected = [case for case in cases("convolution_kernel_grad") if is_float(case.dtype)]
    monkeypatch.setattr(convolution, "MAX_COLUMNS", 0)
    compiled = compile_functions({case.symbol: case_module(case) for case in selected})

    def check(case: Case) -> str | None:
        return disagreement(case, call(compiled[case.symbol], case.operands), list(case.expected))

    check_each(selected, check)


def disagreement(case: Case, actual: Arrays, expected: Arrays) -> str | None:
    """How one set of the case's results differs from another."""
    operations = case.operations_per_element
    for number, (a, e) in enumerate(zip(actual, expected, strict=True)):
        relative = tolerances.tolerance(e.dtype, operations) if operations and is_float(e.dtype) else 0
        problem = tolerances.mismatch(a, e, relative)
        # The norm of extremes is that of the largest, beside which nothing else counts. logaddexp cancels near 0.
        is_extreme = case.sample.name.startswith("extremes") and case.op.mnemonic != "logaddexp"
        if problem is None and relative and is_extreme:
            problem = tolerances.element_mismatch(a, e, relative)
        if problem is not None:
            return f"result {number}: {problem}"
    return None


# -- differentiation -----------------------------------------------------------------------------------------------


def gradient_cases(mnemonic: str, dtype: np.dtype, tier: str | None = None) -> list[Case]:
    """The cases that have derivatives; a tier's are those of the first such sample, or of the others."""
    grid = [Case(OPS[mnemonic], s, dtype) for s in op_samples()[mnemonic] if s.gradient and dtype in s.dtypes]
    chosen = [case for case in grid if float_positions(case.specs) and float_positions(case.results)]
    return {None: chosen, "default": chosen[:1], "rest": chosen[1:]}[tier]


def finite_operands(case: Case) -> Arrays:
    """The operands with other values for NaN and infinities, where there are no derivatives."""
    rng = case.rng("finite")
    return [np.where(np.isfinite(x), x, rng.uniform(0.5, 1.5, x.shape)).astype(x.dtype) for x in case.operands]


def float_positions(specs: Sequence[TensorSpec]) -> list[int]:
    """Which of these tensors have derivatives."""
    return [i for i, spec in enumerate(specs) if is_float(spec.dtype)]


def float_results(case: Case) -> Function:
    """The op as a function of its operands that returns the results that have derivatives."""

    def function(*operands: Tensor) -> tuple[Tensor, ...]:
        outs = case.apply(*operands)
        return tuple(outs[i] for i in float_positions(case.results))

    return function


def pullback(function: Function, primals: int) -> Function:
    """Reverse mode as a function of the primals and then the cotangents."""

    def reverse(*arguments: Tensor) -> tuple[Tensor, ...]:
        _, pull = vjp(function, *arguments[:primals])
        return tuple(g for g in pull(arguments[primals:]) if g is not None)

    return reverse


def normal(case: Case, purpose: str, specs: Sequence[TensorSpec]) -> list[Tensor]:
    """Random directions: a tensor for each of these specs that is floating-point."""
    rng = case.rng(purpose)
    return [Tensor(rng.standard_normal(specs[i].shape), specs[i].dtype) for i in float_positions(specs)]


differentiated_ops = pytest.mark.parametrize("mnemonic", [m for m in op_samples() if gradient_cases(m, float64)])


@differentiated_ops
def test_first_derivative(mnemonic: str) -> None:
    def check(case: Case) -> str | None:
        return derivative_problem(case, float_results(case), [*map(Tensor, finite_operands(case))])

    check_each(gradient_cases(mnemonic, float64), check)


@differentiated_ops
def test_second_derivative(mnemonic: str) -> None:
    """The derivative of reverse mode with respect to the operands and the cotangents."""

    def check(case: Case) -> str | None:
        function = pullback(float_results(case), len(case.operands))
        cotangents = normal(case, "cotangents", case.results)
        return derivative_problem(case, function, [*map(Tensor, finite_operands(case)), *cotangents])

    check_each(gradient_cases(mnemonic, float64), check)


def derivative_problem(case: Case, function: Function, primals: list[Tensor]) -> str | None:
    """Compares jvp with central differences, and vjp with jvp by ⟨ct, J t⟩ = ⟨Jᵀ ct, t⟩, in float64."""
    specs = [x.spec for x in primals]
    tangents = normal(case, "tangents", specs)
    remaining = iter(tangents)
    directions = tuple(next(remaining) if is_float(spec.dtype) else None for spec in specs)
    outs, pushed = jvp(function, tuple(primals), directions)

    step = tolerances.FINITE_DIFFERENCE_STEP

    def moved(by: float) -> tuple[Tensor, ...]:
        return function(*(x if t is None else x + by * t for x, t in zip(primals, directions, strict=True)))

    for number, (p, above, below) in enumerate(zip(pushed, moved(step), moved(-step), strict=True)):
        difference = (above.numpy() - below.numpy()) / (2 * step)
        problem = tolerances.mismatch(p.numpy(), difference, tolerances.FINITE_DIFFERENCES)
        if problem is not None:
            return f"jvp of float result {number} against finite differences: {problem}"

    cotangents = normal(case, "pulled back", [out.spec for out in outs])
    pulled = pullback(function, len(primals))(*primals, *cotangents)
    forward, reverse = inner_product(cotangents, pushed), inner_product(pulled, tangents)
    scale = sum(
        tolerances.norm(c.numpy()) * tolerances.norm(p.numpy()) for c, p in zip(cotangents, pushed, strict=True)
    )
    if not abs(forward - reverse) <= tolerances.INNER_PRODUCT * scale:
        return f"vjp against jvp: ⟨ct, J t⟩ = {forward}, ⟨Jᵀ ct, t⟩ = {reverse}"
    return None


def inner_product(xs: Sequence[Tensor], ys: Sequence[Tensor]) -> float:
    return float(sum(np.vdot(x.numpy(), y.numpy()) for x, y in zip(xs, ys, strict=True)))


# -- batching ------------------------------------------------------------------------------------------------------

BATCH = 3


def batched_cases(mnemonic: str, tier: str = "default") -> list[Case]:
    return [case for case in cases(mnemonic, tier) if case.sample.batch and case.operands]


@every_op
def test_batch_agrees_with_loop(mnemonic: str, tier: str) -> None:
    def check(case: Case) -> str | None:
        for batched in batched_subsets(len(case.operands)):
            operands, rows = batched_operands(case, batched)
            outs = batch_rule(case, batched)(*map(Tensor, operands))
            problem = disagreement(case, [out.numpy() for out in outs], looped(case, rows))
            if problem is not None:
                return f"batched {batched}: {problem}"
        return None

    check_each(batched_cases(mnemonic, tier), check)


def batched_subsets(operands: int) -> list[tuple[bool, ...]]:
    """Which operands have the new axis: every choice of some; with many operands, each alone and all together."""
    every = [choice for choice in itertools.product((False, True), repeat=operands) if any(choice)]
    return every if operands <= 3 else [choice for choice in every if sum(choice) in (1, operands)]


def batched_operands(case: Case, batched: tuple[bool, ...]) -> tuple[Arrays, list[Arrays]]:
    """The operands with the batched ones stacked, and the operands of each iteration of the loop."""
    draws = [case.operands, *(case.draw(f"batch {i}") for i in range(1, BATCH))]
    rows = [[draw[i] if b else case.operands[i] for i, b in enumerate(batched)] for draw in draws]
    stacked = [np.stack([row[i] for row in rows]) if b else case.operands[i] for i, b in enumerate(batched)]
    return stacked, rows


def batch_rule(case: Case, batched: tuple[bool, ...]) -> Function:
    """The op over a leading axis as a function of its operands."""
    return lambda *operands: tuple(as_list(case.op.batch(operands, batched, **case.attributes)))


def looped(case: Case, rows: list[Arrays]) -> Arrays:
    outs = [case.op.evaluate(row, case.attributes) for row in rows]
    return [np.stack(results) for results in zip(*outs, strict=True)]


# -- permutation ---------------------------------------------------------------------------------------------------


def axes_order(case: Case) -> list[int] | None:
    """An order in which the op can take its axes; None where it takes them in the present one only."""
    attributes = case.attributes
    if issubclass(case.op, Convolutional):
        return list(to_channels_last("x", attributes["layout"])) if attributes["layout"][-1] != "C" else None
    taken = range(len(case.specs))[case.op.permuted_operands]
    rank = case.specs[taken[0]].rank if taken else case.results[0].rank
    windows = attributes["window"] if issubclass(case.op, Window) else (1,) * rank
    free = [axis for axis in reversed(range(rank)) if windows[axis] == 1]
    order = [*free[: len(free) // 2], *(axis for axis in range(rank) if windows[axis] > 1), *free[len(free) // 2 :]]
    return order if order != sorted(order) else None


@pytest.mark.parametrize("mnemonic", [m for m, op in OPS.items() if op.permuted_operands is not None])
def test_permute_agrees_with_reference(mnemonic: str) -> None:
    """The op on transposed operands against its reference."""

    def check(case: Case) -> str | None:
        order = axes_order(case)
        operands = [*map(Tensor, case.operands)]
        for number in range(len(operands))[case.op.permuted_operands]:
            operands[number] = volta.transpose(operands[number], order)
        result = np.asarray(case.op.permute(operands, order, **case.attributes))
        if case.op.permuted_result:
            result = result.transpose(np.argsort(order))
        return disagreement(case, [result], list(case.expected))

    every = [case for case in cases(mnemonic) if axes_order(case) is not None]
    assert every, f"no sample of {mnemonic} has axes to permute"
    check_each(every, check)


# -- compiled derivatives and batches: that every op that the rules use can be compiled with these attributes ----------

FAMILIES = sorted({OPS[mnemonic].__module__.rpartition(".")[2] for mnemonic in op_samples()})
every_family = pytest.mark.parametrize(("family", "tier"), tiered(FAMILIES))


def family_members(family: str) -> list[str]:
    return [m for m in op_samples() if OPS[m].__module__.rpartition(".")[2] == family]


@every_family
def test_compiled_derivatives(family: str, tier: str) -> None:
    programs = {}
    for mnemonic in family_members(family):
        for case in gradient_cases(mnemonic, float32, tier):
            arguments = [*map(Tensor, finite_operands(case)), *normal(case, "cotangents", case.results)]
            programs[case] = pullback(float_results(case), len(case.operands)), arguments
    check_compiled(programs)


@every_family
def test_compiled_batches(family: str, tier: str) -> None:
    programs = {}
    for mnemonic in family_members(family):
        chosen = [case for case in batched_cases(mnemonic) if case.dtype in (float32, case.sample.dtypes[0])]
        for case in chosen[:1] if tier == "default" else chosen[1:]:
            batched = (True,) * len(case.operands)
            operands, _ = batched_operands(case, batched)
            programs[case] = batch_rule(case, batched), [Tensor(x) for x in operands]
    check_compiled(programs)


def check_compiled(programs: dict[Case, tuple[Function, list[Tensor]]]) -> None:
    """Compares functions compiled with the same functions evaluated."""
    compiled = compile_functions(
        {c.symbol: function_module(c.symbol, [x.spec for x in args], f) for c, (f, args) in programs.items()}
    )

    def check(case: Case) -> str | None:
        function, arguments = programs[case]
        results = call(compiled[case.symbol], [x.numpy() for x in arguments])
        longest_sum = max((x.size for x in arguments), default=1)
        for number, (actual, expected) in enumerate(zip(results, function(*arguments), strict=True)):
            relative = tolerances.tolerance(expected.dtype, longest_sum) if is_float(expected.dtype) else 0
            problem = tolerances.mismatch(actual, expected.numpy(), relative)
            if problem is not None:
                return f"result {number}: {problem}"
        return None

    check_each(programs, check)
