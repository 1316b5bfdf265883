"""The process that IREE's compiler runs in. The only module that imports ``iree.compiler``.

Some programs crash the compiler, and a crash must not take the user's session, or a stack dump into their terminal.
So ``iree_compiler`` starts this module as a process, once, and sends it requests: pickled tuples on standard input,
pickled answers on standard output.
"""

from __future__ import annotations

import ctypes
import io
import os
import pickle
import re
import sys
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, Literal

from volta_mlir import stream
from volta_mlir.plan import Buffer, Plan, read_buffers, read_bytes_moved, read_plans

SOURCE_NAME = "module.mlir"


def _in_functions(*passes: str) -> str:
    return f"util.initializer({','.join(passes)}),util.func({','.join(passes)})"


# IREE's canonicalization of stream.tensor.import and export compares each with all operations before it. That is half
# of the time of all that follows where a program has hundreds of results, as an optimizer's step does; cse finds equal
# ones. From the bottom up, as operations that take the others in are visited when these are done.
_DEDUPLICATION = "mlir::iree_compiler::IREE::Stream::(anonymous namespace)::DeduplicateTensorOp"
_DISABLED = [f"{_DEDUPLICATION}<mlir::iree_compiler::IREE::Stream::Tensor{kind}Op>" for kind in ("Import", "Export")]
_CANONICALIZE = f'canonicalize{{top-down=false disable-patterns="{",".join(_DISABLED)}"}}'
_CLEAN_UP = _in_functions(_CANONICALIZE, "cse")
_GLOBALS = "iree-util-fold-globals,iree-util-fuse-globals,iree-util-ipo"
_CLEAN_UP_ALL = (
    _in_functions(
        _CANONICALIZE,
        "cse",
        "iree-util-optimize-int-arithmetic",
        "iree-util-simplify-global-accesses",
    ),
    _GLOBALS,
)
# IREE's stream phase in parts: what makes the schedule (the stream.async level), and what makes allocations of it. In
# between, the schedule is read. Together they make the same program as the phase does. They are its passes, without
# most of the clean-ups, which take longer the more dispatches there are: what one does, the next does as well.
_RESOURCES = (
    "iree-stream-verify-input,iree-stream-clone-to-consumers,iree-stream-conversion,"
    "iree-stream-verify-lowering-to-tensors,inline{default-pipeline=}",
    _CLEAN_UP,
    "iree-util-combine-initializers",
    "iree-stream-specialize-encodings",
    _in_functions("iree-stream-encode-host-tensors"),
    "stream.executable(iree-stream-encode-device-tensors),iree-stream-materialize-encodings",
    _in_functions("iree-stream-layout-slices"),
    *_CLEAN_UP_ALL,
    "iree-stream-verify-lowering-to-async-resources",
    _in_functions("iree-stream-materialize-copy-on-write", _CANONICALIZE),
    "iree-stream-elide-async-copies",
    _in_functions(_CANONICALIZE, "iree-stream-emplace-allocations"),
    "iree-stream-refine-usage",
    _in_functions(_CANONICALIZE),
    "iree-stream-elide-async-copies",
    _CLEAN_UP,
    "iree-stream-verify-async-access-ranges,iree-stream-place-transfer-executions",
)
_EXECUTION = _in_functions("iree-stream-schedule-execution")
_CONCURRENCY = (
    _in_functions("iree-stream-schedule-concurrency"),
    "iree-stream-sync-initializers,iree-stream-propagate-timepoints,iree-stream-materialize-builtins",
    _CLEAN_UP,
    "iree-stream-verify-lowering-to-async",
)
_ALLOCATION = (
    "iree-stream-schedule-allocation,iree-stream-emplace-transients,iree-stream-materialize-transient-size-queries",
    _in_functions("iree-stream-pack-constants", "iree-stream-layout-slices", _CANONICALIZE),
    "iree-util-propagate-subranges",
    _CLEAN_UP,
    "iree-stream-automatic-reference-counting,iree-stream-annotate-constant-transient-size",
    _CLEAN_UP,
    _in_functions("iree-stream-reuse-allocations", "convert-scf-to-cf"),
)
# To be run until nothing changes.
_WAITS = (*_CLEAN_UP_ALL, "iree-stream-elide-timepoints")
_BINDING = (
    "iree-stream-fuse-dispatch-bindings,iree-stream-annotate-dispatch-arguments,"
    "iree-stream-annotate-dispatch-assumptions,iree-stream-pack-dispatch-operands",
    *_CLEAN_UP_ALL,
    "iree-stream-fold-uniform-operands",
    _CLEAN_UP,
    "stream.executable(builtin.module(func.func(canonicalize,cse))),symbol-dce",
)
# What IREE begins to generate code with, but for a clean-up, which what came before has ended with.
_INTERFACES = ("iree-hal-materialize-interfaces,iree-hal-prune-executables",)
# Flags with which kernels can be linked apart from what calls them. Others may ask for files of kernels, put others in
# their places, or link them otherwise.
_CPU = {"--iree-hal-target-device=local", "--iree-hal-local-target-device-backends=llvm-cpu"}
_NEUTRAL = {
    "--iree-input-demote-f64-to-f32",
    "--iree-llvmcpu-matmul-tile-bytes",
    "--iree-llvmcpu-reassociate-fp-reductions",
    "--iree-llvmcpu-stack-allocation-limit",
    "--iree-llvmcpu-target-cpu",
    "--iree-opt-data-tiling",
    "--iree-opt-level",
}
_MAX_ITERATIONS = 10
_ERROR = 2  # iree_compiler_diagnostic_severity_t
_DiagnosticCallback = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p)


@dataclass(frozen=True)
class Request:
    """One program, and what is wanted of it.

    Attributes:
        text: MLIR.
        flags: of ``iree-compile``.
        kept: the donations that the text carries: function, argument index, result index.
        wanted: the compiled module, only what its functions take, the text of the schedule, or the buffers in it.
    """

    text: str
    flags: tuple[str, ...]
    kept: Mapping[str, Mapping[int, int]]
    wanted: Literal["module", "plans", "schedule", "buffers"] = "module"


@dataclass(frozen=True)
class Refusal:
    """IREE reported failure. ``diagnostics`` are IREE's errors, each with its notes, as text."""

    stage: str
    diagnostics: tuple[str, ...]


@dataclass(frozen=True)
class Binary:
    """A compiled module, and what its functions take."""

    vmfb: bytes
    plans: dict[str, Plan]


@dataclass(frozen=True)
class Restart:
    """The request needs a process that was started with exactly these flags, which no session takes."""

    flags: tuple[str, ...]


#: What is wanted, or donations that must be dropped first.
Result = Binary | bytes | dict[str, list[Buffer]] | list[stream.Hazard]
# A result, or why there is none.
Answer = Result | Restart | Refusal

# The flags that this process was started with.
_process_flags: tuple[str, ...] = ()


def handle(request: Request) -> Answer:
    """Compiles one program."""
    diagnostics: list[str] = []
    try:
        with _Invocation(request.text.encode(), request.flags, diagnostics) as invocation:
            invocation.verify_each_pass(False)
            invocation.run("flow")
            invocation.inline()
            invocation.verify("iree-stream-verify-input")
            bytes_moved = read_bytes_moved(invocation.module())
            invocation.schedule()
            stream.separate_races(invocation.module())
            invocation.verify("iree-stream-verify-lowering-to-async")
            if request.wanted == "schedule":
                return str(invocation.module()).encode()
            if request.wanted == "buffers":
                return read_buffers(invocation.module())
            if any(request.kept.values()):
                hazards = stream.keep_donations(invocation.module(), request.kept)
                if hazards:
                    return hazards
            invocation.allocate()
            invocation.verify("iree-stream-verify-lowering-to-cmd")
            plans = read_plans(invocation.module(), bytes_moved)
            if request.wanted == "plans":
                return Binary(b"", plans)
            host = None
            if _can_link_apart(request.flags):
                invocation.run_pipelines(_INTERFACES)
                host = invocation.take_host()
            # In one run, one of the threads does not get work at times.
            invocation.run("executable-configurations", after="stream" if host is None else "executable-sources")
            invocation.verify_each_pass(True)  # what IREE can't generate code for shows here
            invocation.run("executable-targets", after="executable-configurations")
            invocation.verify_each_pass(False)
            invocation.round_products()
            if host is not None:
                return Binary(_link(invocation, host, request.flags, diagnostics), plans)
            invocation.run("end", after="executable-targets")
            return Binary(invocation.vmfb(), plans)
    except _NeedsProcess as needed:
        return Restart(needed.flags)
    except _Refused as refused:
        return Refusal(str(refused), tuple(diagnostics))


def _link(kernels: _Invocation, host: Any, flags: tuple[str, ...], diagnostics: list[str]) -> bytes:
    """The module of the kernels that code was generated for, and of the host's part of the program.

    LLVM makes a library of all kernels on one thread, a third of the time that a compilation takes. Meanwhile the
    host's part, which grows with a network's depth, is lowered with kernels that do nothing, by an invocation of its
    own. Then the library is put in the place of theirs.
    """
    source = kernels.with_stubs(host)
    with _Invocation(source, flags, diagnostics) as program, ThreadPoolExecutor(1) as thread:
        linked = thread.submit(kernels.run, "hal", after="executable-targets")
        program.verify_each_pass(False)
        program.run("hal", after="executable-targets")
        stubs = program.libraries()
        program.run("end", after="hal")
        linked.result()
        libraries = kernels.libraries()
        if stubs.keys() != libraries.keys():
            raise _Refused("linking kernels")
        program.replace_libraries(libraries)
        return program.vmfb()


def _can_link_apart(flags: tuple[str, ...]) -> bool:
    return _CPU.issubset(flags) and {flag.partition("=")[0] for flag in flags if flag not in _CPU} <= _NEUTRAL


class _Refused(Exception):
    """Names the stage that failed."""


class _NeedsProcess(Exception):
    """Some flags are no session's but a process's."""

    def __init__(self, flags: tuple[str, ...]) -> None:
        super().__init__(flags)
        self.flags = flags


class _Invocation:
    """One program, MLIR's text or bytecode, on its way through IREE. Use as a context manager; nothing survives it."""

    def __init__(self, source: bytes, flags: tuple[str, ...], diagnostics: list[str]) -> None:
        from iree.compiler import api

        self._api = api
        self._session = api.Session()
        refused = tuple(flag for flag in flags if not self._set_flag(flag))
        if refused != _process_flags:
            self._session.close()
            raise _NeedsProcess(refused)
        # The handler of the Python bindings is called without the interpreter lock, so the C API's is used.
        self._callback = _DiagnosticCallback(
            lambda severity, message, length, _: (
                diagnostics.append(ctypes.string_at(message, length).decode(errors="replace"))
                if severity == _ERROR
                else None
            )
        )
        self._source = api.Source.wrap_buffer(self._session, source, buffer_name=SOURCE_NAME)
        self._invocation = self._new_invocation()
        if not self._invocation.parse_source(self._source):
            self.__exit__()
            raise _Refused("parse")

    def _set_flag(self, flag: str) -> bool:
        try:
            self._session.set_flags(flag)
        except ValueError:
            return False
        return True

    def __enter__(self) -> _Invocation:
        return self

    def __exit__(self, *_: object) -> None:
        self._invocation.close()
        self._session.close()

    def verify_each_pass(self, enabled: bool) -> None:
        """Whether the program is verified after each pass, which takes a fourth of the time."""
        self._call("SetVerifyIR", ctypes.c_bool(enabled))

    def verify(self, check: str) -> None:
        """Verifies the program, and runs a pass that checks its level.

        Not by ``module().operation.verify()``: of a large program threads report what is wrong, and wait for Python's
        lock, which the bindings hold meanwhile.
        """
        self.verify_each_pass(True)
        self.run_pipelines((check,))
        self.verify_each_pass(False)

    def run(self, phase: str, after: str | None = None) -> None:
        """Compiles up to and including ``phase``, from the start or from what ``after`` left."""
        if after is not None:
            self._call("SetCompileFromPhase", ctypes.c_char_p(after.encode()))
        self._call("SetCompileToPhase", ctypes.c_char_p(phase.encode()))
        if not self._invocation.execute():
            raise _Refused(f"compiling to {phase}")

    def inline(self) -> None:
        """Inlines what volta-outline made functions of: they were to have dispatches formed once, not to be called."""
        kept = [function for function in _ops(self.module()) if "inlining_policy" in function.attributes]
        for function in kept:
            del function.attributes["inlining_policy"]
        if kept:
            self.run_pipelines(("inline{default-pipeline=},symbol-dce,util.func(cse)",))

    def schedule(self) -> None:
        """Makes the schedule: what runs when, and which buffers there are."""
        self.run_pipelines(_RESOURCES)
        with self._without_exports():
            self.run_pipelines((_EXECUTION,))
        self.run_pipelines(_CONCURRENCY)

    @contextmanager
    def _without_exports(self) -> Iterator[None]:
        """Has casts stand for ``stream.tensor.export``, each of which a pass would compare with all before it."""
        blocks = [block for function in _ops(self.module(), "util.func") for block in function.regions[0].blocks]
        exports = [op.operation for block in blocks for op in block if op.operation.name == "stream.tensor.export"]
        casts = []
        with self._session.context:
            for export in exports:
                (value, *sizes), attributes = export.operands, dict(export.attributes.items())
                cast = _replace(export, "builtin.unrealized_conversion_cast", [value], {})
                casts.append((cast, sizes, attributes))
            yield
            for cast, sizes, attributes in casts:
                _replace(cast, "stream.tensor.export", [cast.operands[0], *sizes], attributes)

    def allocate(self) -> None:
        """Makes allocations of the schedule."""
        self.run_pipelines(_ALLOCATION)
        self._run_until_stable(_WAITS)
        self.run_pipelines(_BINDING)

    def _run_until_stable(self, pipelines: tuple[str, ...]) -> None:
        """Does what iree-util-fixed-point-iterator does, whose pipeline can't be given as text.

        Passes say by an attribute of the module that they changed something, where another one asks for it.
        """
        from iree.compiler import ir

        attributes = self.module().attributes
        for number in range(_MAX_ITERATIONS):
            attributes["iree.fixedpoint.iteration"] = ir.Attribute.parse(f"{number} : index", self._session.context)
            self.run_pipelines(pipelines)
            if "iree.fixedpoint.modified" not in attributes:
                break
            del attributes["iree.fixedpoint.modified"]
        del attributes["iree.fixedpoint.iteration"]

    def module(self) -> Any:
        """The program as it is now."""
        _ = self._session.context  # the bindings must own the context before a module is exported
        module = self._invocation.export_module()
        self._invocation.import_module(module)
        return module

    def run_pipelines(self, pipelines: tuple[str, ...]) -> None:
        """Runs pipelines over the program as it is now."""
        for pipeline in pipelines:
            if pipeline == _GLOBALS and not self._has_globals():
                continue
            if not self._invocation.execute_text_pass_pipeline(pipeline):
                raise _Refused(pipeline)

    def _has_globals(self) -> bool:
        """Whether there is more than devices and functions for callers: what may have constants, or calls."""
        module = self.module()
        return (
            bool(_ops(module, "util.initializer"))
            or any(str(op.attributes["type"]) != "!hal.device" for op in _ops(module, "util.global"))
            or any("sym_visibility" in function.attributes for function in _ops(module, "util.func"))
        )

    def round_products(self) -> None:
        """Has LLVM round a product before it adds something to it, as it is where the product is stored in between.

        IREE lets LLVM make one operation of both (``contract``), which rounds once. What is computed again in another
        kernel would differ from what was computed before. Matrix products ask for that operation themselves.
        """
        from iree.compiler import ir

        with self._session.context:
            exact = ir.Attribute.parse("#llvm.fastmath<none>")

            def visit(op: Any) -> Any:
                if op.name == "llvm.fmul":
                    op.attributes["fastmathFlags"] = exact
                return ir.WalkResult.ADVANCE

            self.module().operation.walk(visit)

    def take_host(self) -> Any:
        """Takes all but the kernels out of the program, so that nothing goes over it while code is generated.

        Returns:
            The module that it is in now.
        """
        from iree.compiler import ir

        program = self.module()
        with self._session.context, ir.Location.unknown():
            host = ir.Module.create().operation
            for name in program.attributes:
                host.attributes[name] = program.attributes[name]
            for op in _ops(program):
                if op.name != "hal.executable":
                    host.regions[0].blocks[0].append(op)
        return host

    def with_stubs(self, host: Any) -> bytes:
        """The host's part, as bytecode, with kernels that do nothing in the place of this program's.

        All become public, there and here: else those that nothing calls are dropped, and the others numbered anew.
        """
        from iree.compiler import ir

        with self._session.context:
            for kernel in _ops(self.module(), "hal.executable"):
                if "sym_visibility" in kernel.attributes:
                    del kernel.attributes["sym_visibility"]
                stub = kernel.clone(ip=ir.InsertionPoint(host.regions[0].blocks[0]))
                for variant in _ops(stub, "hal.executable.variant"):
                    exported = {export.attributes["sym_name"] for export in _ops(variant, "hal.executable.export")}
                    for code in _ops(variant, "builtin.module"):
                        _empty(code, exported)
            bytecode = io.BytesIO()
            host.write_bytecode(bytecode)
        return bytecode.getvalue()

    def libraries(self) -> dict[str, str]:
        """What the kernels were linked to, by the name that IREE gives it in a module."""
        libraries = {}
        for kernel in _ops(self.module(), "hal.executable"):
            for binary in _ops(kernel, "hal.executable.binary"):
                name = re.sub(rb"\W", b"_", f"{_name(kernel)}_{_name(binary)}".encode())
                libraries[name.decode()] = str(binary.attributes["data"])
        return libraries

    def replace_libraries(self, libraries: Mapping[str, str]) -> None:
        """Puts libraries in the places of those with the same names."""
        from iree.compiler import ir

        data = {_name(op): op for module in _ops(self.module()) for op in _ops(module, "vm.rodata")}
        with self._session.context:
            for name, library in libraries.items():
                data[name].attributes["value"] = ir.Attribute.parse(library)

    def vmfb(self) -> bytes:
        with self._api.Output.open_membuffer() as output:
            self._invocation.output_vm_bytecode(output)
            return bytes(output.map_memory())

    def _new_invocation(self) -> Any:
        invocation = self._session.invocation()
        enable = self._api.ctypes_dl._dylib.ireeCompilerInvocationEnableCallbackDiagnostics
        enable.restype, enable.argtypes = None, [ctypes.c_void_p, ctypes.c_int, _DiagnosticCallback, ctypes.c_void_p]
        enable(invocation._inv_p, 0, self._callback, None)
        return invocation

    def _call(self, function: str, argument: ctypes.c_bool | ctypes.c_char_p) -> None:
        # The Python wrapper lacks these functions of the C API.
        call = getattr(self._api.ctypes_dl._dylib, "ireeCompilerInvocation" + function)
        call.restype, call.argtypes = None, [ctypes.c_void_p, type(argument)]
        call(self._invocation._inv_p, argument)


def _ops(op: Any, name: str | None = None) -> list[Any]:
    """The operations in another one's only block, or those of a name."""
    return [inner.operation for inner in op.regions[0].blocks[0] if name in (None, inner.operation.name)]


def _name(op: Any) -> str:
    """An operation's symbol."""
    from iree.compiler import ir

    return ir.StringAttr(op.attributes["sym_name"]).value


def _empty(module: Any, exported: Collection[Any]) -> None:
    """Has the functions of these names, in LLVM's dialect, return at once, and erases what else is in a module."""
    from iree.compiler import ir

    int32 = ir.IntegerType.get_signless(32)
    for op in _ops(module):
        if op.name == "llvm.func" and op.attributes["sym_name"] in exported:
            with op.location, ir.InsertionPoint(op):
                function = ir.Operation.create("llvm.func", attributes=dict(op.attributes.items()), regions=1)
                arguments = [argument.type for argument in op.regions[0].blocks[0].arguments]
                with ir.InsertionPoint(ir.Block.create_at_start(function.regions[0], arguments)):
                    value = {"value": ir.IntegerAttr.get(int32, 0)}
                    zero = ir.Operation.create("llvm.mlir.constant", [int32], attributes=value)
                    ir.Operation.create("llvm.return", operands=[zero.result])
        op.erase()


def _replace(op: Any, name: str, operands: list[Any], attributes: dict[str, Any]) -> Any:
    """Puts an operation with one result in the place of another one."""
    from iree.compiler import ir

    with op.location, ir.InsertionPoint(op):
        new = ir.Operation.create(name, [op.results[0].type], operands, attributes)
    op.results[0].replace_all_uses_with(new.results[0])
    op.erase()
    return new


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answers requests until the other side closes the pipe."""
    while True:
        try:
            request = pickle.load(requests)
        except EOFError:
            return
        pickle.dump(handle(request), answers)
        answers.flush()


def main() -> None:
    """Entry point of the worker process."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what the compiler prints must not get between the answers
    # Loads the library while the first program is still being traced.
    from iree.compiler.api import ctypes_dl

    global _process_flags
    _process_flags = tuple(sys.argv[1:])
    if _process_flags:
        # What no session takes is set once for the process. It ends here where a flag is unknown.
        ctypes_dl._initializeGlobalCL("iree-compile", *_process_flags)
    serve(sys.stdin.buffer, answers)
