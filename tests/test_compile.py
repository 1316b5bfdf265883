"""Compilation: targets, donations that are checked on the schedule, failures and their reproducers."""

import functools
import logging
import os
import random
import re
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import volta_mlir as volta
from tests.models import gpt
from volta_mlir import Tensor, iree_compiler, iree_worker, nn, stream
from volta_mlir.errors import ArtifactError, CompileError
from volta_mlir.iree_compiler import Compiled, Target, compile_module, schedule_text
from volta_mlir.runtime import DeviceBuffer, FunctionSignature, Signature, Tree, leaf, load

N = 64
T = f"tensor<{N}x{N}xf32>"
ID, TRANSPOSED = "affine_map<(i, j) -> (i, j)>", "affine_map<(i, j) -> (j, i)>"


class Emitter:
    """Writes functions over f32[64, 64] and keeps NumPy's answer beside each value."""

    def __init__(self, name, arguments, donations):
        self.name, self.arguments, self.donations = name, arguments, donations
        self.lines = [
            "  %zero = arith.constant 0.0 : f32",
            f"  %empty = tensor.empty() : {T}",
            f"  %zeros = linalg.fill ins(%zero : f32) outs(%empty : {T}) -> {T}",
        ]
        self.expected = {}

    def _value(self, text, compute):
        name = f"%v{len(self.expected)}"
        self.lines.append(f"  {name} = {text}")
        self.expected[name] = compute
        return name

    def _get(self, name, inputs):
        return inputs[int(name[2:])] if name.startswith("%a") else self.expected[name](inputs)

    def matmul(self, a, b):
        return self._value(
            f"linalg.matmul ins({a}, {b} : {T}, {T}) outs(%zeros : {T}) -> {T}",
            lambda x: self._get(a, x) @ self._get(b, x) / 1,
        )

    def elementwise(self, op, a, b, transpose_b=False):
        compute = {"addf": np.add, "subf": np.subtract, "mulf": np.multiply}[op]
        second = TRANSPOSED if transpose_b else ID
        return self._value(
            f'linalg.generic {{indexing_maps = [{ID}, {second}, {ID}], iterator_types = ["parallel", "parallel"]}} '
            f"ins({a}, {b} : {T}, {T}) outs(%empty : {T}) {{ ^bb0(%l: f32, %r: f32, %o: f32): "
            f"%s = arith.{op} %l, %r : f32 linalg.yield %s : f32 }} -> {T}",
            lambda x: compute(self._get(a, x), self._get(b, x).T if transpose_b else self._get(b, x)),
        )

    def text(self, results, kept):
        args = ", ".join(
            f"%a{i}: {T}" + (f" {{iree.abi.output = {kept[i]} : index}}" if i in kept else "")
            for i in range(self.arguments)
        )
        leaves = [
            leaf(f"a{i}", (N, N), "float32", self.donations.get(i), in_place=i in kept) for i in range(self.arguments)
        ]
        outs = tuple(leaf(str(i), (N, N), "float32") for i in range(len(results)))
        names = tuple(f"a{i}" for i in range(self.arguments))
        signature = FunctionSignature(Tree("tuple", None, tuple(leaves)), Tree("tuple", None, outs), names)
        types = ", ".join([T] * len(results))
        return (
            f"func.func @{self.name}({args}) -> ({types}) {attributes(self.name, signature)} {{\n"
            + "\n".join(self.lines)
            + f"\n  return {', '.join(results)} : {types}\n}}\n"
        )

    def answers(self, results, inputs):
        return [self._get(r, inputs) for r in results]


def attributes(name, signature):
    text = Signature({name: signature}, "0").reflection(name)["volta.signature"]
    return 'attributes {iree.reflection = {volta.signature = "' + text.replace('"', "\\22") + '"}}'


def update_before_a_reader():
    """y = d·w reads w, but IREE fuses w - g into the dispatch that computes g, which would run first."""
    e = Emitter("update_before_a_reader", 3, {2: 1})
    d = e.matmul("%a0", "%a1")
    g = e.matmul(d, "%a0")
    return e, [e.matmul(d, "%a2"), e.elementwise("subf", "%a2", g)]


def elementwise_update():
    e = Emitter("elementwise_update", 2, {0: 0})
    return e, [e.elementwise("subf", "%a0", "%a1")]


def update_fused_into_matmul():
    e = Emitter("update_fused_into_matmul", 3, {2: 0})
    return e, [e.elementwise("subf", "%a2", e.matmul("%a0", "%a1"))]


def matmul_into_its_operand():
    e = Emitter("matmul_into_its_operand", 2, {1: 0})
    return e, [e.matmul("%a0", "%a1")]


def transposed_into_itself():
    e = Emitter("transposed_into_itself", 2, {1: 0})
    return e, [e.elementwise("addf", "%a0", "%a1", transpose_b=True)]


def new_value_is_read():
    e = Emitter("new_value_is_read", 3, {0: 0})
    w = e.elementwise("subf", "%a0", "%a1")
    return e, [w, e.matmul(w, "%a2")]


def swap():
    e = Emitter("swap", 2, {0: 0, 1: 1})
    return e, ["%a1", "%a0"]


def crossed_updates():
    e = Emitter("crossed_updates", 2, {0: 0, 1: 1})
    return e, [e.elementwise("addf", "%a0", "%a1"), e.elementwise("subf", "%a0", "%a1")]


def old_and_new_returned():
    e = Emitter("old_and_new_returned", 2, {0: 1})
    return e, ["%a0", e.elementwise("subf", "%a0", "%a1")]


def momentum():
    e = Emitter("momentum", 4, {0: 0, 1: 1})
    g = e.matmul("%a2", "%a3")
    m = e.elementwise("addf", e.elementwise("mulf", "%a1", "%a1"), g)
    return e, [e.elementwise("subf", "%a0", m), m]


def random_program(seed):
    """Matmuls and elementwise operations over four arguments; two of them donated to random results."""
    rng = random.Random(seed)
    e = Emitter(f"random_{seed}", 4, {})
    values = [f"%a{i}" for i in range(4)]
    for _ in range(rng.randint(2, 7)):
        a, b = rng.choice(values), rng.choice(values)
        if rng.random() < 0.35:
            half = e.matmul(a, b)
            values.append(e.elementwise("mulf", half, "%a3"))
        else:
            values.append(e.elementwise(rng.choice(["addf", "subf", "mulf"]), a, b, rng.random() < 0.15))
    results = rng.sample(values[4:], min(len(values) - 4, rng.randint(2, 4)))
    e.donations = dict(zip(rng.sample(range(3), 2), rng.sample(range(len(results)), 2), strict=True))
    return e, results


IN_PLACE = [elementwise_update, update_fused_into_matmul, new_value_is_read, update_before_a_reader]
COPIED = [transposed_into_itself, swap, old_and_new_returned]
# With data tiling, the matmul packs its operand first, so that overwriting it is safe.
CASES = [*IN_PLACE, *COPIED, matmul_into_its_operand, crossed_updates, momentum]
CASES += [functools.partial(random_program, seed) for seed in range(24)]


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return tmp_path_factory.mktemp("reproducers")


@pytest.fixture(scope="module")
def programs():
    return {e.name: (e, results) for e, results in (case() for case in CASES)}


@pytest.fixture(scope="module")
def compiled(programs, directory):
    """All cases in one module."""

    def emit(kept):
        return "".join(e.text(results, kept.get(name, {})) for name, (e, results) in programs.items())

    result = compile_module(emit, {name: e.donations for name, (e, _) in programs.items()}, reproducers=directory)
    iree_compiler._worker.close()  # coverage is written when a process ends by itself, and tests below crash it
    return result


@pytest.fixture(scope="module")
def module(compiled):
    return load(compiled.vmfb)


@pytest.mark.parametrize("case", CASES, ids=lambda c: getattr(c, "__name__", None) or f"random_{c.args[0]}")
def test_donation_never_changes_a_result(case, programs, module):
    name = case()[0].name
    e, results = programs[name]
    rng = np.random.default_rng(0)
    for _ in range(4):
        inputs = [rng.standard_normal((N, N)).astype(np.float32) / 4 for _ in range(e.arguments)]
        expected = e.answers(results, inputs)
        for got, want in zip(module.functions[name](*inputs), expected, strict=True):
            assert np.linalg.norm(got.numpy() - want) <= 1e-5 * np.linalg.norm(want)


@pytest.mark.parametrize("case", IN_PLACE)
def test_safe_donations_are_in_place(case, programs, compiled, module):
    name = case.__name__
    e, _ = programs[name]
    assert compiled.donations[name] == e.donations
    inputs = [DeviceBuffer.from_numpy(np.ones((N, N), np.float32)) for _ in range(e.arguments)]
    addresses = {i: inputs[i].address() for i in e.donations}
    results = module.functions[name](*inputs)
    for argument, result in e.donations.items():
        assert results[result].address() == addresses[argument]
        assert inputs[argument].donated


@pytest.mark.parametrize("case", COPIED)
def test_unsafe_donations_are_copied_and_reported(case, compiled):
    name = case.__name__
    assert [d for d in compiled.report.dropped if d.function == name]
    assert compiled.donations[name] == {}


def test_the_report_names_both_dispatches(compiled):
    (dropped,) = (d for d in compiled.report.dropped if d.function == "crossed_updates")
    assert (dropped.argument, dropped.result) == (0, 0)
    text = str(dropped)
    assert "dispatch @" in dropped.hazard.reader
    assert "dispatch @" in dropped.hazard.writer
    assert "@crossed_updates argument 0" in text
    assert "may read after the update" in text


def test_most_donations_survive(programs, compiled):
    """The check is conservative, but not so much that donation is of no use."""
    asked = sum(len(e.donations) for name, (e, _) in programs.items() if name.startswith("random_"))
    kept = sum(len(pairs) for name, pairs in compiled.donations.items() if name.startswith("random_"))
    assert kept >= asked / 2


def test_a_plan_is_that_of_the_compiled_module(directory):
    cases = [case() for case in (old_and_new_returned, update_fused_into_matmul)]

    def emit(kept):
        return "".join(e.text(results, kept.get(e.name, {})) for e, results in cases)

    planned, compiled = (
        compile_module(emit, {e.name: e.donations for e, _ in cases}, reproducers=directory, plan_only=plan_only)
        for plan_only in (True, False)
    )
    assert planned.vmfb == b""
    assert planned.report == compiled.report
    assert planned.donations == compiled.donations
    assert planned.report.dropped


def one_function(body, arguments="%x: tensor<8xf32>", results="tensor<8xf32>"):
    return f"func.func @f({arguments}) -> ({results}) {{\n{body}\n}}\n"


def donations_of(text, directory, donation, target="cpu"):
    """Which donations are kept in a module whose text marks the argument with DONATED."""

    def emit(kept):
        return text.replace("DONATED", "{iree.abi.output = 0 : index}" if kept.get("f") else "")

    return compile_module(emit, {"f": donation}, target, reproducers=directory)


def test_a_matmul_is_not_in_place_where_it_reads_its_operand_directly(directory):
    e, results = matmul_into_its_operand()
    text = (
        e.text(results, {1: 0})
        .replace("@matmul_into_its_operand", "@f")
        .replace("{iree.abi.output = 0 : index}", "DONATED")
    )
    result = donations_of(text, directory, {1: 0}, "cpu --iree-opt-data-tiling=false")
    assert result.donations == {"f": {}}
    assert "reads other elements than it overwrites" in str(result.report.dropped[0])


def test_one_slice_is_updated_in_place(directory):
    body = """
      %0 = tensor.insert_slice %row into %x[3, 0] [1, 64] [1, 1] : tensor<1x64xf32> into tensor<16x64xf32>
      return %0 : tensor<16x64xf32>"""
    arguments = "%x: tensor<16x64xf32> DONATED, %row: tensor<1x64xf32>"
    result = donations_of(one_function(body, arguments, "tensor<16x64xf32>"), directory, {0: 0})
    assert result.donations == {"f": {0: 0}}


def test_a_normalisation_is_not_in_place(directory):
    """Every element of the result needs all elements of the argument."""
    body = """
      %zero = arith.constant 0.0 : f32
      %e0 = tensor.empty() : tensor<f32>
      %z = linalg.fill ins(%zero : f32) outs(%e0 : tensor<f32>) -> tensor<f32>
      %sum = linalg.generic {indexing_maps = [affine_map<(i) -> (i)>, affine_map<(i) -> ()>],
        iterator_types = ["reduction"]} ins(%x : tensor<512xf32>) outs(%z : tensor<f32>) {
        ^bb0(%a: f32, %b: f32): %s = arith.addf %a, %b : f32 linalg.yield %s : f32 } -> tensor<f32>
      %e = tensor.empty() : tensor<512xf32>
      %0 = linalg.generic {indexing_maps = [affine_map<(i) -> (i)>, affine_map<(i) -> ()>, affine_map<(i) -> (i)>],
        iterator_types = ["parallel"]} ins(%x, %sum : tensor<512xf32>, tensor<f32>) outs(%e : tensor<512xf32>) {
        ^bb0(%a: f32, %b: f32, %c: f32): %s = arith.divf %a, %b : f32 linalg.yield %s : f32 } -> tensor<512xf32>
      return %0 : tensor<512xf32>"""
    result = donations_of(one_function(body, "%x: tensor<512xf32> DONATED", "tensor<512xf32>"), directory, {0: 0})
    assert result.donations == {"f": {}}


def test_a_gather_is_not_in_place(directory):
    body = """
      %c511 = arith.constant 511 : index
      %e = tensor.empty() : tensor<512xf32>
      %0 = linalg.generic {indexing_maps = [affine_map<(i) -> (i)>], iterator_types = ["parallel"]}
        outs(%e : tensor<512xf32>) { ^bb0(%o: f32):
          %i = linalg.index 0 : index
          %j = arith.subi %c511, %i : index
          %v = tensor.extract %x[%j] : tensor<512xf32>
          linalg.yield %v : f32 } -> tensor<512xf32>
      return %0 : tensor<512xf32>"""
    result = donations_of(one_function(body, "%x: tensor<512xf32> DONATED", "tensor<512xf32>"), directory, {0: 0})
    assert result.donations == {"f": {}}


def test_a_loop_is_not_in_place(directory):
    body = """
      %c0 = arith.constant 0 : index
      %c1 = arith.constant 1 : index
      %c9 = arith.constant 9 : index
      %e = tensor.empty() : tensor<64x64xf32>
      %zero = arith.constant 0.0 : f32
      %z = linalg.fill ins(%zero : f32) outs(%e : tensor<64x64xf32>) -> tensor<64x64xf32>
      %0 = scf.for %i = %c0 to %c9 step %c1 iter_args(%acc = %x) -> (tensor<64x64xf32>) {
        %m = linalg.matmul ins(%acc, %x : tensor<64x64xf32>, tensor<64x64xf32>) outs(%z : tensor<64x64xf32>)
          -> tensor<64x64xf32>
        scf.yield %m : tensor<64x64xf32>
      }
      return %0 : tensor<64x64xf32>"""
    result = donations_of(one_function(body, "%x: tensor<64x64xf32> DONATED", "tensor<64x64xf32>"), directory, {0: 0})
    assert result.donations == {"f": {}}


ADD = one_function("  %0 = arith.addf %x, %x : tensor<8xf32>\n  return %0 : tensor<8xf32>")


def test_a_cached_report_keeps_its_reasons(compiled):
    again = Compiled.from_bytes(compiled.to_bytes())
    assert again.donations == compiled.donations
    assert again.report.dropped == compiled.report.dropped
    with pytest.raises(ArtifactError, match="not a compiled module"):
        Compiled.from_bytes(b"{}\n")


def test_the_schedule_can_be_read():
    assert "stream.async.dispatch" in schedule_text(ADD)
    with pytest.raises(CompileError, match="cannot schedule"):
        schedule_text("func.func @f(")


def test_targets():
    assert Target.parse("cpu") == Target("cpu", "host")
    assert str(Target.parse("cuda")) == "cuda:sm_80"
    assert str(Target.parse("vulkan")) == "vulkan"
    cuda = Target.parse("cuda:sm_86 --iree-foo=1")
    assert "--iree-cuda-target=sm_86" in cuda.flags()
    assert cuda.flags()[-1] == "--iree-foo=1"
    assert Target.parse(cuda) is cuda
    assert str(cuda) == "cuda:sm_86 --iree-foo=1"
    assert Target.parse("cpu:generic").fingerprint() != Target.parse("cpu").fingerprint()


def test_integers_become_bfloat16_on_processors_without_it() -> None:
    def convert(*operands: volta.Tensor) -> list[volta.Tensor]:
        return [x.astype("bfloat16") for x in operands]

    operands = [np.ones(7, dtype) for dtype in (bool, "int8", "int32", "uint64")]
    volta.jit(convert).lower(*operands).compile("cpu:x86-64-v3")


@pytest.mark.parametrize(
    ("text", "message"), [("tpu", "unknown target 'tpu': expected one of cpu"), ("cpu O3", "unknown option 'O3'")]
)
def test_bad_targets(text, message):
    with pytest.raises(CompileError, match=message):
        Target.parse(text)


def reproducer_of(error):
    directory = error.value.reproducer
    assert str(directory) in str(error.value)
    assert (directory / "module.mlir").exists()
    assert (directory / "command.txt").read_text().startswith("iree-compile --iree-hal-target-device=local")
    return directory


def test_a_refused_program_names_the_users_line(directory, capfd):
    frames = f'callsite("{iree_compiler.__file__}":1:1 at "/home/me/train.py":7:3)'
    bad = one_function(
        f'  %0 = "util.nope"(%x) : (tensor<8xf32>) -> tensor<8xf32> loc({frames})\n  return %0 : tensor<8xf32>'
    )
    with pytest.raises(CompileError, match="unregistered operation 'util\\.nope'") as error:
        compile_module(lambda kept: bad, reproducers=directory)
    assert error.value.location == "/home/me/train.py:7"
    assert "(at /home/me/train.py:7)" in str(error.value)
    directory = reproducer_of(error)
    assert "see current operation" in (directory / "error.txt").read_text()
    assert capfd.readouterr() == ("", "")


def test_a_refused_flag(directory):
    with pytest.raises(CompileError, match="Unknown command line argument '--iree-nope'"):
        compile_module(lambda kept: ADD, target="cpu --iree-nope", reproducers=directory)


# IREE 3.13 crashes on operations that it does not know in dialects that it does not know.
CRASH = one_function('  %0 = "foo.bar"(%x) : (tensor<8xf32>) -> tensor<8xf32>\n  return %0 : tensor<8xf32>')


def test_a_crash_of_the_compiler_is_an_error(directory, capfd, caplog):
    caplog.set_level(logging.INFO, "volta.compile")
    with pytest.raises(CompileError, match="the compiler crashed \\(SIGSEGV\\)") as error:
        compile_module(lambda kept: CRASH, reproducers=directory)
    reproducer_of(error)
    assert capfd.readouterr() == ("", "")
    assert caplog.text.count("does not compile for cpu:host") == len(iree_compiler._ATTEMPTS["cpu"])
    assert compile_module(lambda kept: ADD + " ", reproducers=directory).vmfb  # the next program is not affected


def test_a_graph_that_is_too_much_for_data_tiling(directory, caplog):
    """A contraction with two M dimensions: IREE's packing refuses it."""
    caplog.set_level(logging.INFO, "volta.compile")
    body = """
      %zero = arith.constant 0.0 : f32
      %e = tensor.empty() : tensor<8x128x768xf32>
      %z = linalg.fill ins(%zero : f32) outs(%e : tensor<8x128x768xf32>) -> tensor<8x128x768xf32>
      %0 = linalg.generic {indexing_maps = [affine_map<(b, m, n, k) -> (b, m, k)>, affine_map<(b, m, n, k) -> (n, k)>,
        affine_map<(b, m, n, k) -> (b, m, n)>], iterator_types = ["parallel", "parallel", "parallel", "reduction"]}
        ins(%x, %w : tensor<8x128x192xf32>, tensor<768x192xf32>) outs(%z : tensor<8x128x768xf32>) {
        ^bb0(%a: f32, %b: f32, %c: f32): %p = arith.mulf %a, %b : f32 %s = arith.addf %c, %p : f32
        linalg.yield %s : f32 } -> tensor<8x128x768xf32>
      return %0 : tensor<8x128x768xf32>"""
    text = one_function(body, "%x: tensor<8x128x192xf32>, %w: tensor<768x192xf32>", "tensor<8x128x768xf32>")
    result = compile_module(lambda kept: text, reproducers=directory)
    assert result.report.fallback == bool(caplog.records)


def test_a_fallback_is_reported(tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO, "volta.compile")
    good = iree_compiler._ATTEMPTS["cpu"][-1]
    monkeypatch.setitem(iree_compiler._ATTEMPTS, "cpu", (("--iree-llvmcpu-target-cpu=nonsense",), good))
    result = compile_module(lambda kept: ADD, reproducers=tmp_path)
    assert result.report.fallback
    assert result.report.flags[-1] == "--iree-opt-level=O0"
    assert [r.levelno for r in caplog.records] == [logging.INFO]


def test_flags_that_only_a_process_takes(tmp_path, monkeypatch):
    small = "--iree-llvmcpu-matmul-tile-bytes=32768"
    for flags in ((small,), (), (small,)):
        result = compile_module(lambda kept: ADD, target=" ".join(("cpu", *flags)), reproducers=tmp_path)
        assert result.report.flags[-len(flags) :] == flags or not flags
        assert iree_compiler._worker._flags == flags


def test_old_reproducers_go(tmp_path):
    for i in range(iree_compiler._MAX_REPRODUCERS + 3):
        with pytest.raises(CompileError):
            compile_module(lambda kept, i=i: f"nonsense {i}", reproducers=tmp_path)
    assert len(list((tmp_path / "crashes").iterdir())) == iree_compiler._MAX_REPRODUCERS


def test_without_a_cache_reproducers_go_to_the_temporary_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("VOLTA_CACHE", "0")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(CompileError) as error:
        compile_module(lambda kept: "nonsense")
    assert error.value.reproducer.is_relative_to(tmp_path)
    assert compile_module(lambda kept: ADD).vmfb
    assert len(list(error.value.reproducer.parent.iterdir())) == 1


def test_nowhere_to_write_a_reproducer(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "file"))
    reproducer = iree_compiler._Reproducer.write(tmp_path / "file", "text", ())
    assert reproducer.directory is None
    reproducer.record("text", (), None)
    reproducer.remove()
    gone = iree_compiler._Reproducer(tmp_path / "gone")
    gone.record("text", (), None)


@pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")  # by JAX, where it is installed
def test_the_worker_survives_a_fork_and_ends_with_its_owner():
    iree_compiler.warm_up()
    worker = iree_compiler._worker
    process = worker._process
    pid = os.fork()
    if pid == 0:
        worker.close()  # must neither end nor disturb the parent's process
        os._exit(0)
    os.waitpid(pid, 0)
    assert process.poll() is None
    worker.close()
    assert process.poll() == 0
    worker.close()


def test_an_interrupted_compilation_leaves_no_answer_behind(monkeypatch, directory):
    worker = iree_compiler._worker
    with monkeypatch.context() as patch:
        patch.setattr("pickle.load", lambda stream: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            compile_module(lambda kept: ADD + "  ", reproducers=directory)
    assert worker._process is None
    assert compile_module(lambda kept: ADD + "  ", reproducers=directory).vmfb


def test_a_worker_that_cannot_start_says_why(monkeypatch, tmp_path):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 'ImportError: broken installation' >&2\nexit 3\n")
    python.chmod(0o755)
    iree_compiler._worker.close()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", str(python))
        with pytest.raises(CompileError, match="ended with status 3: ImportError: broken installation"):
            compile_module(lambda kept: ADD + "   ", reproducers=tmp_path)


def test_a_missing_compiler(monkeypatch):
    iree_compiler.compiler_version.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "path", [])
        with pytest.raises(CompileError, match="pip install iree-base-compiler"):
            compile_module(lambda kept: ADD)


def test_threads_compile_one_after_the_other(directory):
    results = {}

    def work(i):
        results[i] = compile_module(lambda kept: ADD + "\n" * (i + 5), reproducers=directory).vmfb

    threads = [threading.Thread(target=work, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 3


def test_the_worker_answers_requests(tmp_path):
    """The worker's own code, in this process, where coverage sees it."""
    flags = Target.parse("cpu").flags()
    program = (
        "import sys\nfrom volta_mlir import iree_worker\n"
        f"flags = {flags!r}\n"
        "ask = lambda text, kept={}, **o: iree_worker.handle(iree_worker.Request(text, flags, kept, **o))\n"
        f"add = {ADD!r}\n"
        "assert ask(add).plans['f'].dispatches == 1\n"
        "assert b'stream.async' in ask(add, wanted='schedule')\n"
        "donated = add.replace('8xf32>)', '8xf32> {iree.abi.output = 0 : index})', 1)\n"
        "assert ask(donated, {'f': {0: 0}}).plans['f'].results == 0\n"
        "assert ask('nonsense').stage == 'parse'\n"
        "flags = ('--nope',)\nassert ask(add).flags == ('--nope',)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert iree_worker.SOURCE_NAME == "module.mlir"


@pytest.mark.parametrize(
    ("target", "size"),
    [
        ("cpu:x86-64", 16),
        ("cpu:x86-64-v3", 32),
        ("cpu:znver4", 64),
        ("cpu --iree-llvmcpu-target-cpu=x86-64-v3", 32),
        ("cpu:x86-64 --iree-opt-level=O2", 16),
        ("cuda", 0),
    ],
)
def test_the_size_of_a_vector_is_that_of_the_target(target: str, size: int) -> None:
    assert Target.parse(target).vector_bytes == size


def test_importing_the_compiler_layer_does_not_load_iree():
    program = "import sys, volta_mlir.iree_compiler; sys.exit('iree.compiler' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


# Schedules that IREE makes rarely, written by hand.

RESOURCE, TIME = "!stream.resource<external>", "!stream.timepoint"


def region(name, operation, awaited=""):
    """An execution region that applies one operation to the donated buffer."""
    operands, types = ("%w", RESOURCE) if not awaited else (f"%w, {awaited}", f"{RESOURCE}, {TIME}")
    return f"""
    %{name}, %t_{name} = "stream.async.execute"({operands}) ({{
    ^bb0(%v_{name}: {RESOURCE}):
      %r_{name} = "{operation}"(%v_{name}) : ({RESOURCE}) -> {RESOURCE}
      "stream.yield"(%r_{name}) : ({RESOURCE}) -> ()
    }}) {{tied_operands = [-1 : index]}} : ({types}) -> ({RESOURCE}, {TIME})"""


def hazards_of(body):
    from torch_mlir import ir

    text = f"""
    "util.func"() ({{
    ^bb0(%a: !hal.buffer_view):
      "hal.buffer_view.assert"(%a) : (!hal.buffer_view) -> ()
      %w = "stream.tensor.import"(%a) : (!hal.buffer_view) -> {RESOURCE}
      {body}
      "util.return"() : () -> ()
    }}) {{sym_name = "f"}} : () -> ()"""
    with ir.Context() as context:
        context.allow_unregistered_dialects = True
        return stream.keep_donations(ir.Module.parse(text).operation, {"f": {0: 0}})


READ, WRITE = "stream.async.clone", "stream.async.fill"
JOIN = f'\n%t = "stream.timepoint.join"(%t_one) : ({TIME}) -> {TIME}'
HOST = f'\n%h = "stream.timepoint.await"(%one, %t_one) : ({RESOURCE}, {TIME}) -> {RESOURCE}'
CHAIN = region("between", READ, "%t_one")


@pytest.mark.parametrize(
    ("body", "safe"),
    [
        (region("one", READ) + region("two", WRITE, "%t_one"), True),
        (region("one", READ) + JOIN + region("two", WRITE, "%t"), True),
        (region("one", READ) + HOST + region("two", WRITE), True),
        (region("one", READ) + CHAIN + region("two", WRITE, "%t_between"), True),
        (region("one", READ) + region("two", WRITE), False),
        (region("one", WRITE) + region("two", READ, "%t_one"), False),
        (region("one", WRITE) + region("two", WRITE, "%t_one"), False),
        (f'"stream.tensor.export"(%w) : ({RESOURCE}) -> ()' + region("one", WRITE), False),
        (region("one", "stream.async.unheard_of"), False),
        (f'%x = "stream.resource.size"(%w) : ({RESOURCE}) -> index' + region("one", WRITE), True),
        (f'%x = "util.call"(%w) : ({RESOURCE}) -> {RESOURCE}', False),
        ('"util.call"(%a) : (!hal.buffer_view) -> ()', False),
        (f'%x = "other.region"() ({{ "stream.yield"(%w) : ({RESOURCE}) -> () }}) : () -> {RESOURCE}', False),
        ("", True),
    ],
)
def test_regions_of_the_schedule(body, safe):
    assert (not hazards_of(body)) == safe


@pytest.mark.parametrize(("wave", "safe"), [("stream.async.concurrent", False), ("stream.async.execute", True)])
def test_commands_within_a_region(wave, safe):
    body = f"""
    %o = "{wave}"(%w) ({{
    ^bb0(%v: {RESOURCE}):
      %r = "{READ}"(%v) : ({RESOURCE}) -> {RESOURCE}
      %u = "{WRITE}"(%v) : ({RESOURCE}) -> {RESOURCE}
      "stream.yield"(%u) : ({RESOURCE}) -> ()
    }}) : ({RESOURCE}) -> {RESOURCE}"""
    assert (not hazards_of(body)) == safe


@pytest.mark.parametrize("wave", [True, False], ids=["in a wave", "alone"])
@pytest.mark.parametrize(
    ("between", "safe"),
    [
        ("", True),
        (f'%x = "{READ}"(%v) : ({RESOURCE}) -> {RESOURCE}', True),
        (f'%x = "{READ}"(%u) : ({RESOURCE}) -> {RESOURCE}', False),  # the new contents
        ("third", True),
        ("source", False),  # what the update reads
    ],
)
def test_an_update_is_postponed_where_nothing_is_in_the_way(between: str, safe: bool, wave: bool) -> None:
    """A copy into the donated buffer comes before a reader of the old contents."""
    if between in ("third", "source"):
        index = "index, " * 4
        between = f'%x = "{WRITE}"(%{between}, %n, %n, %n, %n, %n) : ({RESOURCE}, {index}index) -> {RESOURCE}'
    numbers = "%n, %n, %n", ", ".join(["index"] * 3)
    copy = (
        f'"stream.async.copy"(%TARGET, {numbers[0]}, %SOURCE, {numbers[0]}, %n)'
        f" : ({RESOURCE}, {numbers[1]}, {RESOURCE}, {numbers[1]}, index) -> {RESOURCE}"
    )
    update = f"%u = {copy.replace('TARGET', 'v').replace('SOURCE', 'source')}"
    if wave:
        update = f"""%u = "stream.async.concurrent"(%v, %source) ({{
        ^bb1(%v1: {RESOURCE}, %s1: {RESOURCE}):
          %u1 = {copy.replace("TARGET", "v1").replace("SOURCE", "s1")}
          "stream.yield"(%u1) : ({RESOURCE}) -> ()
        }}) {{tied_operands = [0 : index]}} : ({RESOURCE}, {RESOURCE}) -> {RESOURCE}"""
    body = f"""
    %n = "arith.constant"() {{value = 8 : index}} : () -> index
    %s = "stream.async.alloca"() : () -> {RESOURCE}
    %s2 = "stream.async.alloca"() : () -> {RESOURCE}
    %o, %t = "stream.async.execute"(%w, %s, %s2) ({{
    ^bb0(%v: {RESOURCE}, %source: {RESOURCE}, %third: {RESOURCE}):
      {update}
      {between}
      %r = "{READ}"(%v) : ({RESOURCE}) -> {RESOURCE}
      "stream.yield"(%u) : ({RESOURCE}) -> ()
    }}) : ({RESOURCE}, {RESOURCE}, {RESOURCE}) -> ({RESOURCE}, {TIME})"""
    assert (not hazards_of(body)) == safe


def layer(carry, row):
    new = volta.tanh(carry @ row)
    return new, new.sum()


def loop(x, rows):
    return volta.scan(layer, x, rows)


def loop_in_a_loop(x, rows):
    return volta.scan(lambda x, rows: volta.scan(lambda x, row: (volta.sin(x * row), row.sum()), x, rows), x, rows)


def regions(x, limit):
    """Branches and a loop whose length is not known, with constants: several execution regions and globals."""
    weight = Tensor(np.random.default_rng(0).standard_normal((8, 8)).astype(np.float32))
    x = volta.cond(x.sum() > limit, lambda x: volta.tanh(x @ weight), lambda x: x + 1, x)
    x, total = volta.while_loop(
        lambda carry: carry[1] < limit,
        lambda carry: (volta.tanh(carry[0] @ weight), carry[1] + volta.exp(carry[0]).sum()),
        (x, x.sum()),
    )
    return volta.cond(total > 0, lambda x: volta.tanh(x @ x), lambda x: x - weight, x), total


def drawing(rows):
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(0.5))
    return volta.scan(lambda carry, x: (carry, model(x)), 0.0, rows)[1]


def linalg_text(function, donate, arguments, static=(), target="cuda"):
    lowered = volta.jit(function, donate=donate, static=static).lower(*arguments)
    # By default without lanes: where a kernel takes a tensor in two shapes, IREE's phase leaves more equal operands.
    return lowered._at("linalg", target=target).operation.get_asm(print_generic_op_form=True)


def training_step():
    return linalg_text(gpt.train_step, gpt.DONATED, gpt.arguments(gpt.SMALL), "heads")


@pytest.mark.parametrize("target", ["cpu", "cuda"])
@pytest.mark.parametrize(
    "text",
    [
        lambda: linalg_text(loop, (), (volta.spec((8, 8)), volta.spec((40, 8, 8)))),
        lambda: linalg_text(loop, ("x", "rows"), (volta.spec((8, 8)), volta.spec((40, 8, 8)))),
        lambda: linalg_text(loop_in_a_loop, ("x",), (volta.spec((8,)), volta.spec((40, 30, 8)))),
        lambda: linalg_text(regions, ("x",), (volta.spec((8, 8)), volta.spec(()))),
        lambda: linalg_text(
            volta.grad(lambda x, rows: loop(x, rows)[1].sum()), (), (volta.spec((8, 8)), volta.spec((40, 8, 8)))
        ),
        lambda: linalg_text(drawing, (), (volta.spec((4, 5, 3)),)),
        training_step,
    ],
    ids=["loop", "donated", "loop in a loop", "regions", "gradient of a loop", "drawing", "training step"],
)
def test_the_parts_of_the_stream_phase_make_the_same_program(target: str, text: Callable[[], str]) -> None:
    def is_constant(line: str) -> bool:
        return re.match(r"\s*%c-?\d\w* = arith.constant ", line) is not None

    source = text()
    programs = []
    for in_parts in (False, True):
        with iree_worker._Invocation(source.encode(), iree_compiler.Target.parse(target).flags(), []) as invocation:
            invocation.run("flow")
            invocation.inline()
            if in_parts:
                invocation.schedule()
                invocation.allocate()
            else:
                invocation.run("stream", after="flow")
            lines = str(invocation.module()).splitlines()
            # The constants of a function stand in any order.
            programs.append(([x for x in lines if not is_constant(x)], sorted(x for x in lines if is_constant(x))))
    assert programs[0] == programs[1]


@pytest.mark.parametrize(
    "text",
    [
        lambda: linalg_text(lambda x: x, (), (volta.spec((4,)),)),
        lambda: ADD.replace("@f", '@"größe"'),
        lambda: linalg_text(drawing, (), (volta.spec((4, 5, 3)),)),
        pytest.param(training_step, marks=pytest.mark.full),
        lambda: linalg_text(lambda x: nn.functional.layer_norm(x, (64,)), (), (volta.spec((40, 64)),), target="cpu"),
    ],
    ids=["no kernel", "one kernel", "drawing", "training step", "lanes"],
)
def test_a_program_that_is_linked_with_a_library_is_that_of_one_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: Callable[[], str]
) -> None:
    def contents(vmfb: bytes) -> tuple[dict[str, bytes], str]:
        """The library, and what the host does. Bytes that pad IREE's structures are whatever was in memory."""
        file = tmp_path / "module.vmfb"
        file.write_bytes(vmfb)
        dump = Path(sys.executable).with_name("iree-dump-module")
        host = subprocess.run([dump, file], capture_output=True, check=True, text=True).stdout
        with zipfile.ZipFile(file) as archive:
            return {name: archive.read(name) for name in archive.namelist() if name != "module.fb"}, host

    def in_one_run(kernels: iree_worker._Invocation, host: Any, *_: Any) -> bytes:
        """Puts the host's part back."""
        body = kernels.module().regions[0].blocks[0]
        for op in list(body):
            if op.operation.name == "util.global":  # IREE makes another one of the device
                op.operation.erase()
        for op in list(host.regions[0].blocks[0]):
            body.append(op)
        kernels.run("end", after="executable-targets")
        return kernels.vmfb()

    request = iree_worker.Request(text(), iree_compiler.Target.parse("cpu").flags(), {})
    linked = iree_worker.handle(request)
    monkeypatch.setattr(iree_worker, "_link", in_one_run)
    whole = iree_worker.handle(request)
    assert isinstance(linked, iree_worker.Binary)
    assert isinstance(whole, iree_worker.Binary)
    assert contents(linked.vmfb) == contents(whole.vmfb)
    assert linked.plans == whole.plans


def test_dumped_files_are_of_the_program(tmp_path: Path) -> None:
    compile_module(lambda _: ADD, target=f"cpu --iree-hal-dump-executable-files-to={tmp_path}")
    (code,) = tmp_path.glob("*.codegen.ll")
    assert "fadd" in code.read_text()
    assert [source for source in tmp_path.glob("*.mlir") if "arith.addf" in source.read_text()]


def test_what_reads_a_part_that_was_written_runs_after_it() -> None:
    """IREE starts both at once: between them, another part is written."""
    place = volta.jit(
        lambda all, new, length: volta.dynamic_update_slice(
            all, new, volta.stack([volta.zeros_like(length), length, 0])
        ),
    ).lower(volta.spec((2, 8, 2)), volta.spec((2, 1, 2)), volta.spec((), "int32"))
    schedule = schedule_text(place._at("linalg").operation.get_asm(print_generic_op_form=True))
    assert "stream.async.slice" in schedule
    assert "stream.async.concurrent" not in schedule


def part(value: str, begin: str, end: str) -> str:
    return f'"stream.async.slice"(%{value}, %size, %{begin}, %{end}, %four) : ({RESOURCE}, {", ".join(["index"] * 4)})'


def gathered(target: str, begin: str, end: str, source: str) -> str:
    operands = f"%{target}, %size, %{begin}, %{end}, %four, %{source}, %size, %zero, %size, %size, %four"
    types = f"{RESOURCE}, {', '.join(['index'] * 4)}, {RESOURCE}, {', '.join(['index'] * 5)}"
    return f'"stream.async.collective"({operands}) : ({types})'


@pytest.mark.parametrize(
    ("last", "expected"),
    [
        (part("second", "eight", "twelve"), 1),  # what %second wrote
        (part("third", "eight", "twelve"), 1),  # the same, though %third is not in the way
        (part("third", "twelve", "size"), 1),
        (part("third", "unknown", "size"), 1),
        (part("a", "eight", "twelve"), 1),  # what was there before, while it is overwritten
        (part("a", "size", "more"), 0),
        (part("other", "eight", "twelve"), 0),
        (gathered("other", "zero", "size", "third"), 1),
        (gathered("third", "eight", "twelve", "other"), 1),
        (gathered("third", "size", "more", "other"), 0),
    ],
)
def test_races(last: str, expected: int) -> None:
    from torch_mlir import ir

    numbers = {"zero": 0, "four": 4, "eight": 8, "twelve": 12, "size": 16, "more": 20}
    constants = "\n".join(
        f'%{name} = "arith.constant"() {{value = {value} : index}} : () -> index' for name, value in numbers.items()
    )

    def fill(name: str, target: str, begin: str, end: str) -> str:
        return (
            f'%{name} = "stream.async.fill"(%{target}, %size, %{begin}, %{end}, %four, %byte)'
            f" : ({RESOURCE}, index, index, index, index, i8) -> {RESOURCE}"
        )

    text = f"""
    "util.func"() ({{
    ^bb0(%w: {RESOURCE}, %v: {RESOURCE}, %byte: i8, %unknown: index):
      {constants}
      %o = "stream.async.concurrent"(%w, %v) ({{
      ^bb1(%a: {RESOURCE}, %other: {RESOURCE}):
        {fill("first", "a", "zero", "eight")}
        {fill("second", "first", "eight", "twelve")}
        {fill("third", "second", "twelve", "size")}
        %r = {last} -> {RESOURCE}
        "stream.yield"(%r) : ({RESOURCE}) -> ()
      }}) {{tied_operands = [-1 : index]}} : ({RESOURCE}, {RESOURCE}) -> {RESOURCE}
      "util.return"(%o) : ({RESOURCE}) -> ()
    }}) {{sym_name = "f"}} : () -> ()"""
    with ir.Context() as context:
        context.allow_unregistered_dialects = True
        module = ir.Module.parse(text)
        assert stream.separate_races(module.operation) == expected
        assert ("stream.async.concurrent" in str(module)) == (not expected)
        assert module.operation.verify()
        assert stream.separate_races(module.operation) == 0
