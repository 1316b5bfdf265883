"""Cases and programs made from the op registry, and the ways to run them: interpreted, derived, compiled."""

from __future__ import annotations

import re
import traceback
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
import pytest

from tests import samples
from tests.samples import Sample
from volta_mlir import __version__, runtime
from volta_mlir.cache import Cache
from volta_mlir.dialects import OPS, Op
from volta_mlir.dtypes import TensorSpec, float32
from volta_mlir.errors import CompileError
from volta_mlir.iree_compiler import Target, compile_module
from volta_mlir.kernels import linked_text
from volta_mlir.mlir import context, function_named, ir, spec_of
from volta_mlir.passes import parse_pipeline, run_pipeline
from volta_mlir.passes.derived import functions
from volta_mlir.runtime.signature import FunctionSignature, Signature, Tree, leaf
from volta_mlir.tensor import Tensor
from volta_mlir.trace import trace_function

Arrays = list[np.ndarray]
#: Takes and returns the flat list of a function's arrays.
Runnable = Callable[[Sequence[np.ndarray]], Arrays]


# -- cases -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Case:
    """One sample of an op at one dtype. The same case always has the same operands."""

    op: type[Op]
    sample: Sample
    dtype: np.dtype

    def __str__(self) -> str:
        return f"{self.op.mnemonic}/{self.sample.name}/{self.dtype.name}"

    @property
    def symbol(self) -> str:
        """A function name of its own."""
        return re.sub(r"\W", "_", str(self))

    def rng(self, purpose: str = "") -> np.random.Generator:
        """A generator that depends on nothing but the case and the purpose."""
        return np.random.default_rng(zlib.crc32(f"{self}{purpose}".encode()))

    def draw(self, purpose: str) -> Arrays:
        """Operands for some purpose, drawn as the sample says."""
        return [np.asarray(x) for x in self.sample.operands(self.rng(purpose), self.dtype)]

    @cached_property
    def operands(self) -> Arrays:
        return self.draw("")

    @cached_property
    def attributes(self) -> dict[str, Any]:
        return self.sample.attributes_for(self.dtype)

    @cached_property
    def specs(self) -> list[TensorSpec]:
        return [TensorSpec(x.shape, x.dtype) for x in self.operands]

    @cached_property
    def results(self) -> tuple[TensorSpec, ...]:
        """The inferred specs of the results."""
        return self.op.infer_all(*self.specs, **self.attributes)

    @cached_property
    def expected(self) -> tuple[np.ndarray, ...]:
        """The reference's results."""
        return self.op.evaluate(self.operands, self.attributes)

    @property
    def operations_per_element(self) -> float:
        """How many operations one element of the results takes; 0 where elements are only moved."""
        flops = self.op.flops(self.specs, self.results, **self.attributes)
        return flops / max(1, sum(spec.size for spec in self.results))

    def apply(self, *operands: Tensor) -> list[Tensor]:
        """The op on tensors."""
        return as_list(self.op.apply(*operands, **self.attributes))


@cache
def op_samples() -> dict[str, list[Sample]]:
    """The samples of every op in the registry that has any, in the registry's order."""
    found = samples.all_samples()
    return {mnemonic: found[mnemonic] for mnemonic in OPS if mnemonic in found}


#: The two tiers of cases: "default" is a representative selection, "rest" is the whole grid without it.
TIERS = ("default", "rest")


def tiered(names: Iterable[str]) -> list[Any]:
    """pytest parameters ``(name, tier)``: all names in the default tier, and again with what only the full one runs."""
    return [
        pytest.param(name, tier, id=f"{name}-{tier}", marks=[pytest.mark.full] if tier == "rest" else [])
        for tier in TIERS
        for name in names
    ]


def cases(mnemonic: str, tier: str = "default") -> list[Case]:
    """The cases of an op in a tier: by default its first sample with all dtypes, and any other one with one of them."""
    chosen = []
    for number, sample in enumerate(op_samples()[mnemonic]):
        representative = _representative(number, sample.dtypes)
        dtypes = [d for d in sample.dtypes if (d in representative) == (tier == "default")]
        chosen += [Case(OPS[mnemonic], sample, dtype) for dtype in dtypes]
    return chosen


def _representative(number: int, dtypes: Sequence[np.dtype]) -> set[np.dtype]:
    if number == 0:
        return set(dtypes)
    if number % 2 and float32 in dtypes:
        return {float32}
    return {dtypes[number % len(dtypes)]}  # which takes turns over the samples


def check_each(items: Iterable[Any], check: Callable[[Any], str | None]) -> None:
    """Runs ``check`` on every item and fails with all the problems that it returned or raised."""
    problems = []
    for item in items:
        try:
            problem = check(item)
        except Exception as error:
            at = traceback.extract_tb(error.__traceback__)[-1]
            problem = f"{type(error).__name__} at {at.filename}:{at.lineno}: {error}"
        if problem is not None:
            problems.append(f"{item}: {problem}")
    if problems:
        pytest.fail(f"{len(problems)} problems\n" + "\n".join(problems), pytrace=False)


# -- programs ----------------------------------------------------------------------------------------------------


def as_list(value: Any) -> list[Any]:
    """A result of ``Op.apply`` as a list."""
    return list(value) if isinstance(value, tuple | list) else [value]


def new_module() -> Any:
    """An empty MLIR module."""
    with context(), ir.Location.unknown():
        return ir.Module.create()


def function_module(name: str, specs: Sequence[TensorSpec], body: Callable[..., Sequence[Tensor]]) -> Any:
    """A module whose only public function is ``body``, traced."""
    module = new_module()
    trace_function(module, name, lambda _, *tensors: (list(body(*tensors)), None), specs, private=False)
    return module


def case_module(case: Case) -> Any:
    """A module with one function, which is the case's op."""
    return function_module(case.symbol, case.specs, case.apply)


def run_passes(module: Any, pipeline: str) -> Any:
    """Runs a pipeline over a module, in place; returns the module."""
    run_pipeline(module, parse_pipeline(pipeline))
    return module


def signature_of(module: Any, name: str) -> tuple[list[TensorSpec], list[TensorSpec]]:
    """The specs of a function's arguments and results."""
    type_ = function_named(module, name).type
    return [spec_of(t) for t in type_.inputs], [spec_of(t) for t in type_.results]


# -- compiled programs -------------------------------------------------------------------------------------------


def compile_functions(
    modules: Mapping[str, Any], *, fuse: bool = True, simplify: bool = False
) -> dict[str, Runnable | Exception]:
    """Lowers and compiles volta modules, each with the one public function that it is named for, as one program.

    Compiling costs a quarter of a second for each program and little for each function in it. A function that cannot
    be lowered or compiled gets its error; the others are compiled without it. The modules are consumed.
    """
    outcome: dict[str, Runnable | Exception] = {}
    lowered = {}
    for name, module in modules.items():
        arguments, results = signature_of(module, name)
        try:
            passes = ["volta-inline", *["volta-simplify"] * simplify, *["volta-fuse{min-rows=1}"] * fuse]
            lowered[name] = run_passes(module, ",".join([*passes, "convert-volta-to-linalg"]))
        except Exception as error:
            outcome[name] = error
        else:
            _describe(module, name, arguments, results)
    outcome.update(_compile_lowered(lowered))
    return outcome


def _describe(module: Any, name: str, arguments: list[TensorSpec], results: list[TensorSpec]) -> None:
    """Attaches the signature that the runtime checks calls against."""

    def tree(specs: list[TensorSpec], prefix: str) -> Tree:
        leaves = (leaf(f"{prefix}{i}", s.shape, s.dtype.name) for i, s in enumerate(specs))
        return Tree("tuple", children=tuple(leaves))

    names = tuple(f"x{i}" for i in range(len(arguments)))
    signature = Signature({name: FunctionSignature(tree(arguments, "x"), tree(results, "y"), names)}, __version__)
    with context():
        reflection = {key: ir.StringAttr.get(text) for key, text in signature.reflection(name).items()}
        function_named(module, name).attributes["iree.reflection"] = ir.DictAttr.get(reflection)


def _compile_lowered(lowered: Mapping[str, Any]) -> dict[str, Runnable | Exception]:
    if not lowered:
        return {}
    program = new_module()
    for module in lowered.values():
        for function in functions(module):  # a kernel's name tells what it computes, so that one may serve all
            if function_named(program, function.sym_name.value) is None:
                function.operation.clone(ip=ir.InsertionPoint(program.body))
    text = linked_text(program)
    try:
        loaded = runtime.load(_compile_text(text))
    except CompileError as error:
        if len(lowered) == 1:
            return dict.fromkeys(lowered, error)
        names = list(lowered)  # find the culprits by halving
        halves = names[: len(names) // 2], names[len(names) // 2 :]
        return {k: v for half in halves for k, v in _compile_lowered({n: lowered[n] for n in half}).items()}
    return {name: _runnable(loaded.functions[name]) for name in lowered}


def _compile_text(text: str) -> bytes:
    disk, key = Cache(), Cache.key("tests, sealed", text, Target.parse("cpu").fingerprint())
    vmfb = disk.get(key)
    if vmfb is None:
        vmfb = compile_module(lambda donations: text).vmfb
        disk.put(key, vmfb)
    return vmfb


def _runnable(function: Any) -> Runnable:
    return lambda arrays: [np.asarray(result) for result in function(*arrays)]


def call(function: Runnable | Exception, arrays: Sequence[np.ndarray]) -> Arrays:
    """The results of a compiled function; raises what kept it from being compiled."""
    if isinstance(function, Exception):
        raise function
    return function(arrays)
