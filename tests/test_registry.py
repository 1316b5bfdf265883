"""Every op has all its facets, samples for every dtype that it takes, a docstring, and a lit test."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.harness import Case, op_samples
from tests.samples import Sample, all_samples
from volta_mlir.dialects import OPS, Op
from volta_mlir.dialects.base import Composite
from volta_mlir.dialects.elementwise import Elementwise
from volta_mlir.dtypes import DTYPES, float64, is_float
from volta_mlir.errors import VoltaError
from volta_mlir.mlir import ir

LIT_TESTS = Path(__file__).parent.parent / "lit_tests" / "dialects"

every_op = pytest.mark.parametrize("mnemonic", OPS)


@every_op
def test_has_every_facet(mnemonic: str) -> None:
    op = OPS[mnemonic]
    missing = [facet for facet in ("infer", "reference", "batch", "lower", "flops") if provider(op, facet) is Op]
    if op.linear is not None and provider(op, "transpose") is Op:
        missing.append("transpose (it says that it is linear)")
    if issubclass(op, Composite):
        assert provider(op, "expand") is not Composite, f"{op.__name__} lacks expand"
        missing.remove("lower")
    elif op.linear is None and op.differentiable and has_float_results(mnemonic) and not has_tangent(op):
        missing.append("tangent or partials (or differentiable = False)")
    assert not missing, f"{op.__module__}.{op.__name__} lacks {', '.join(missing)}"


def provider(op: type[Op], method: str) -> type:
    """The class from which an op has a method."""
    return next(cls for cls in op.__mro__ if method in cls.__dict__)


def has_tangent(op: type[Op]) -> bool:
    defined_by = provider(op, "tangent")
    return bool(op.partials) if defined_by is Elementwise else defined_by is not Op


def has_float_results(mnemonic: str) -> bool:
    every = [Case(OPS[mnemonic], sample, dtype) for sample in op_samples().get(mnemonic, []) for dtype in sample.dtypes]
    return any(is_float(spec.dtype) for case in every for spec in case.results)


@every_op
def test_hides_nothing_of_the_bindings(mnemonic: str) -> None:
    op = OPS[mnemonic]
    own = {name for cls in op.__mro__[: op.__mro__.index(Op)] for name in vars(cls) if not name.startswith("_")}
    hidden = {name for name in own if hasattr(ir.OpView, name)} - {"result", "results"}
    assert not hidden, f"{op.__name__} needs other names for {', '.join(hidden)}, which every operation has"


@every_op
def test_has_docstring(mnemonic: str) -> None:
    op = OPS[mnemonic]
    assert op.__dict__.get("__doc__"), f"{op.__module__}.{op.__name__} has no docstring"


@every_op
def test_has_samples_for_every_dtype(mnemonic: str) -> None:
    assert mnemonic in op_samples(), f"volta.{mnemonic} has no samples under tests/samples"
    samples = op_samples()[mnemonic]
    covered = {dtype for sample in samples for dtype in sample.dtypes}
    taken = {dtype for dtype in DTYPES for sample in samples if takes(OPS[mnemonic], sample, dtype)}
    missing = [dtype.name for dtype in DTYPES if dtype in taken - covered]
    assert not missing, f"volta.{mnemonic} takes {', '.join(missing)}, for which it has no sample"


def takes(op: type[Op], sample: Sample, dtype: np.dtype) -> bool:
    """Whether ``infer`` accepts a sample's operands with ``dtype`` in the place of the sample's own."""
    case = Case(op, sample, sample.dtypes[0])
    specs = [spec.with_dtype(dtype) if spec.dtype == case.dtype else spec for spec in case.specs]
    try:
        with np.errstate(all="ignore"):
            op.infer_all(*specs, **sample.attributes_for(dtype))
    except VoltaError:
        return False
    return True


@every_op
def test_samples_test_every_rule(mnemonic: str) -> None:
    """Some sample compares derivatives with finite differences and batches with a loop, where the op has them."""
    op, samples = OPS[mnemonic], op_samples()[mnemonic]
    if any(Case(op, sample, sample.dtypes[0]).operands for sample in samples):
        assert any(sample.batch for sample in samples)
    if op.differentiable and any(has_float_derivative(op, sample) for sample in samples):
        assert any(sample.gradient and has_float_derivative(op, sample) for sample in samples)


def has_float_derivative(op: type[Op], sample: Sample) -> bool:
    if float64 not in sample.dtypes:
        return False
    case = Case(op, sample, float64)
    return any(is_float(s.dtype) for s in case.specs) and any(is_float(s.dtype) for s in case.results)


@every_op
def test_sample_names_are_unique(mnemonic: str) -> None:
    names = [sample.name for sample in op_samples().get(mnemonic, [])]
    assert len(set(names)) == len(names)


def test_samples_are_of_ops_that_exist() -> None:
    assert not all_samples().keys() - OPS.keys()


@every_op
def test_is_in_a_lit_test(mnemonic: str) -> None:
    assert f"volta.{mnemonic}" in mentioned_ops(), f"no file under {LIT_TESTS} uses volta.{mnemonic}"


@cache
def mentioned_ops() -> set[str]:
    files: list[Any] = sorted(LIT_TESTS.rglob("*.mlir"))
    return {name for file in files for name in re.findall(r"volta\.\w+", file.read_text())}
