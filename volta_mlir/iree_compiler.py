"""Compiles linalg-level MLIR text to a ``.vmfb``, in a process of its own (``iree_worker``).

``compile_module`` also decides which donations are kept. The worker compiles up to IREE's schedule of the program and
has ``stream.keep_donations`` see to it that no donated buffer is overwritten too early. A donation that is unsafe is
dropped, which makes IREE use a fresh buffer, and the program is emitted again without it.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import logging
import os
import pickle
import platform
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from volta_mlir import stream
from volta_mlir.cache import Cache
from volta_mlir.errors import ArtifactError, CompileError
from volta_mlir.iree_worker import SOURCE_NAME, Answer, Binary, Refusal, Request, Restart, Result
from volta_mlir.plan import Buffer, Plan
from volta_mlir.runtime.checksum import seal

log = logging.getLogger("volta.compile")

Donations = Mapping[str, Mapping[int, int]]

#: IREE's attribute of products whose operands are packed into tiles. Where no product has it, IREE packs those of all.
PACKED = "iree.opt.data_tiling"

_PACKAGE = str(Path(__file__).resolve().parent)
_MAX_REPRODUCERS = 20

# By default IREE computes in float32 where the program says float64.
_NUMERICS = ("--iree-input-demote-f64-to-f32=false",)
# Flags of each kind of target, without the architecture. On the CPU, a product fused with the operations around it may
# need a little more stack than the 32 KiB that IREE allows itself by default; its workers have 128.
_BACKENDS = {
    "cpu": (
        "--iree-hal-target-device=local",
        "--iree-hal-local-target-device-backends=llvm-cpu",
        "--iree-llvmcpu-stack-allocation-limit=65536",
    ),
    "cuda": ("--iree-hal-target-device=cuda",),
    "vulkan": ("--iree-hal-target-device=vulkan",),
}
_ARCHITECTURE_FLAGS = {
    "cpu": "--iree-llvmcpu-target-cpu=",
    "cuda": "--iree-cuda-target=",
    "vulkan": "--iree-vulkan-target=",
}
# IREE's own default for CUDA, sm_60, has no tensor cores; sm_80 code runs on every later device.
_DEFAULT_ARCHITECTURES = {"cpu": "host", "cuda": "sm_80", "vulkan": ""}
# What to try, best first: some graphs do not compile with all optimisations. On a transformer's training step O2 was
# slower than O1 on the CPU and more of its dispatches failed ("exceeded stack allocation limit"); reassociation, which
# O2 implies, makes float reductions vectorise and more accurate, so it is asked for by name. Data tiling makes matmuls
# several times faster, and refuses contractions with more than one dimension of a kind ("large vector sizes").
_PACKING = "--iree-opt-data-tiling"
_OPTIMIZED = ("--iree-opt-level=O1", "--iree-llvmcpu-reassociate-fp-reductions=true")
_ATTEMPTS = {
    "cpu": (
        (*_OPTIMIZED, _PACKING),
        # Smaller tiles: a product with a long epilogue, such as an optimizer's update, needs too large vectors or too
        # much stack with IREE's own.
        (*_OPTIMIZED, _PACKING, "--iree-llvmcpu-matmul-tile-bytes=32768"),
        _OPTIMIZED,
        ("--iree-opt-level=O0",),
    ),
    "cuda": (("--iree-opt-level=O1",), ("--iree-opt-level=O0",)),
    "vulkan": (("--iree-opt-level=O1",), ("--iree-opt-level=O0",)),
}


@dataclass(frozen=True)
class Target:
    """What to compile for.

    Attributes:
        kind: ``"cpu"``, ``"cuda"`` or ``"vulkan"``.
        architecture: a CPU name, ``"sm_86"``, a Vulkan target name, or empty for IREE's default.
        options: further ``iree-compile`` flags, given last, so that they win.
    """

    kind: str
    architecture: str = ""
    options: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str | Target) -> Target:
        """Reads ``"cpu"``, ``"cuda:sm_86"``, ``"vulkan:ampere"``, optionally followed by ``iree-compile`` flags.

        Raises:
            CompileError: the kind is unknown, or what follows is not a flag.
        """
        if isinstance(text, Target):
            return text
        head, *options = shlex.split(text) or [""]
        kind, _, architecture = head.partition(":")
        if kind not in _BACKENDS:
            raise CompileError(f"unknown target {text!r}: expected one of {', '.join(_BACKENDS)}, such as 'cuda:sm_86'")
        for option in options:
            if not option.startswith("--"):
                raise CompileError(f"unknown option {option!r} in target {text!r}: expected iree-compile flags")
        return cls(kind, architecture or _DEFAULT_ARCHITECTURES[kind], tuple(options))

    def __str__(self) -> str:
        return shlex.join((f"{self.kind}:{self.architecture}" if self.architecture else self.kind, *self.options))

    def attempts(self, packing: bool = True) -> tuple[tuple[str, ...], ...]:
        """Complete ``iree-compile`` flags, best first; the others are for graphs that do not compile with those.

        Args:
            packing: whether some product says that it is packed; where none does, IREE would pack all of them.
        """
        fixed = _BACKENDS[self.kind] + _NUMERICS
        if self.architecture:
            fixed += (_ARCHITECTURE_FLAGS[self.kind] + self.architecture,)
        left_out = () if packing else (_PACKING,)
        return tuple(
            fixed + tuple(flag for flag in varied if flag not in left_out) + self.options
            for varied in _ATTEMPTS[self.kind]
        )

    def flags(self, packing: bool = True) -> tuple[str, ...]:
        """The ``iree-compile`` flags that are tried first."""
        return self.attempts(packing)[0]

    @property
    def vector_bytes(self) -> int:
        """The size of a vector register, 64 where it is unknown; 0 where threads share a row, as a GPU's do."""
        if self.kind != "cpu":
            return 0
        flag = _ARCHITECTURE_FLAGS["cpu"]
        *_, architecture = self.architecture, *(f.removeprefix(flag) for f in self.options if f.startswith(flag))
        if architecture == "host":
            features = _host_cpu().split()
            if "flags" not in features:
                return 16
            return 64 if "avx512f" in features else 32 if "avx2" in features else 16
        return {"generic": 16, "x86-64": 16, "x86-64-v2": 16, "x86-64-v3": 32}.get(architecture, 64)

    def fingerprint(self) -> str:
        """Changes whenever the same text could compile to another binary: flags, compiler version, this CPU."""
        parts = [*map(shlex.join, self.attempts()), compiler_version()]
        if self.kind == "cpu" and self.architecture == "host":
            parts.append(_host_cpu())
        return "\n".join(parts)


@dataclass(frozen=True)
class DroppedDonation:
    """A donation that is carried out as a copy, and why."""

    function: str
    argument: int
    result: int
    hazard: stream.Hazard

    def __str__(self) -> str:
        return f"{self.hazard}; result {self.result} gets its own buffer"


@dataclass(frozen=True)
class Report:
    """What the compiler decided.

    Attributes:
        flags: the ``iree-compile`` flags that worked.
        fallback: whether these are not the ones tried first.
        dropped: donations that are not in place, with the reason.
        plans: what a call of each function takes.
        cached: whether the result came from the disk cache.
        unfused: whether the program compiled only without the pass volta-fuse.
        goal: the budget that volta-remat was given, so that what IREE allocates keeps to the user's.
        target: what it is compiled for, with the options that were added for the same reason.
    """

    flags: tuple[str, ...]
    fallback: bool = False
    dropped: tuple[DroppedDonation, ...] = ()
    plans: Mapping[str, Plan] = field(default_factory=dict)
    cached: bool = False
    unfused: bool = False
    goal: int | None = None
    target: str = ""


@dataclass(frozen=True)
class Compiled:
    """A ``.vmfb``, the donations that are in place in it, and the report."""

    vmfb: bytes
    donations: dict[str, dict[int, int]]
    report: Report

    def to_bytes(self) -> bytes:
        header = {
            "donations": {f: list(pairs.items()) for f, pairs in self.donations.items()},
            "flags": self.report.flags,
            "fallback": self.report.fallback,
            "unfused": self.report.unfused,
            "goal": self.report.goal,
            "target": self.report.target,
            "dropped": [
                [d.function, d.argument, d.result, d.hazard.reader, d.hazard.writer, d.hazard.reason]
                for d in self.report.dropped
            ],
            "plans": {function: asdict(plan) for function, plan in self.report.plans.items()},
        }
        return json.dumps(header).encode() + b"\n" + self.vmfb

    @classmethod
    def from_bytes(cls, data: bytes) -> Compiled:
        """The inverse of ``to_bytes``; the report says ``cached``. Raises ArtifactError for anything else."""
        head, _, vmfb = data.partition(b"\n")
        try:
            header = json.loads(head)
            donations = {f: {int(a): int(r) for a, r in pairs} for f, pairs in header["donations"].items()}
            dropped = tuple(
                DroppedDonation(function, argument, result, stream.Hazard(function, argument, *names))
                for function, argument, result, *names in header["dropped"]
            )
            plans = {function: Plan(**plan) for function, plan in header["plans"].items()}
            report = Report(
                tuple(header["flags"]),
                header["fallback"],
                dropped,
                plans,
                cached=True,
                unfused=header["unfused"],
                goal=header["goal"],
                target=header["target"],
            )
            return cls(vmfb, donations, report)
        except (ValueError, KeyError, TypeError) as error:
            raise ArtifactError(f"not a compiled module: {error}") from error


def compile_module(
    emit: Callable[[Donations], str],
    donations: Donations | None = None,
    target: Target | str = "cpu",
    *,
    reproducers: Path | None = None,
    plan_only: bool = False,
) -> Compiled:
    """Compiles a module, keeping each donation that is safe to carry out in place.

    Args:
        emit: returns MLIR text (``func.func`` over linalg, tensor, arith, math, scf) for the given donations: each
            donated argument carries ``{iree.abi.output = N : index}``. Called again with fewer if some are unsafe.
        donations: for each function, argument index to result index.
        target: see ``Target.parse``.
        reproducers: the directory that reproducers of failures go to; by default the user's cache directory.
        plan_only: whether to stop when it is decided what a call takes, which needs a fraction of the time: there is no
            code then, ``vmfb`` is empty.

    Raises:
        CompileError: IREE refused the program, whatever the optimisations. The error names a reproducer.
    """
    target = Target.parse(target)
    compiler_version()  # raises where there is no compiler
    kept = {f: dict(pairs) for f, pairs in (donations or {}).items() if pairs}
    text = emit(kept)
    reproducer = _Reproducer.write(reproducers or Cache().directory, text, target.flags(PACKED in text))
    compiled = _compile_somehow(emit, text, kept, target, reproducer, "plans" if plan_only else "module")
    reproducer.remove()
    for dropped in compiled.report.dropped:
        log.info("donation is not in place: %s", dropped)
    return compiled


def schedule_text(text: str, target: Target | str = "cpu") -> str:
    """The program at IREE's ``stream.async`` level, for reading and for tests: what overlaps, what is in place.

    Raises:
        CompileError: the program does not compile.
    """
    answer = _scheduled(Request(text, Target.parse(target).flags(PACKED in text), {}, "schedule"))
    assert isinstance(answer, bytes)
    return answer.decode()


def buffers_of(text: str, flags: tuple[str, ...]) -> dict[str, list[Buffer]]:
    """The buffers of every function in IREE's schedule for a program that compiles with these flags.

    Raises:
        CompileError: it does not.
    """
    answer = _scheduled(Request(text, flags, {}, "buffers"))
    assert isinstance(answer, dict)
    return answer


def _scheduled(request: Request) -> Any:
    try:
        return _worker.ask(request)
    except _Refused as refused:
        raise CompileError(f"IREE cannot schedule this program: {refused.summary}", location=refused.location) from None


def warm_up() -> None:
    """Starts the compiler's process, so that it loads while the caller does something else. Returns at once."""
    _worker.start()


def shut_down() -> None:
    """Ends the compiler's process, until it is needed again."""
    _worker.close()


@functools.cache
def compiler_version() -> str:
    """The version of the installed compiler package, found without loading the compiler.

    Raises:
        CompileError: it is not installed.
    """
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("iree-base-compiler")
    except PackageNotFoundError:
        raise CompileError("compiling needs IREE's compiler: pip install iree-base-compiler") from None


def _compile_somehow(
    emit: Callable[[Donations], str],
    text: str,
    donations: dict[str, dict[int, int]],
    target: Target,
    reproducer: _Reproducer,
    wanted: Literal["module", "plans"],
) -> Compiled:
    first_error: CompileError | None = None
    for flags in target.attempts(PACKED in text):
        kept, source = {f: dict(pairs) for f, pairs in donations.items()}, text
        dropped: list[DroppedDonation] = []
        try:
            while isinstance(answer := _worker.ask(Request(source, flags, kept, wanted)), list):
                for hazard in answer:
                    result = kept[hazard.function].pop(hazard.argument)
                    dropped.append(DroppedDonation(hazard.function, hazard.argument, result, hazard))
                source = emit(kept)
            assert isinstance(answer, Binary)
            report = Report(flags, first_error is not None, tuple(dropped), answer.plans, target=str(target))
            return Compiled(seal(answer.vmfb) if answer.vmfb else b"", kept, report)
        except _Refused as refused:
            if first_error is None:
                reproducer.record(source, flags, refused)
                first_error = CompileError(
                    f"IREE cannot compile this program for {target}: {refused.summary}",
                    location=refused.location,
                    reproducer=reproducer.directory,
                )
            if refused.is_input_error:  # other flags cannot help
                break
            log.info("does not compile for %s with %s: %s", target, shlex.join(flags), refused.summary)
    assert first_error is not None
    raise first_error


@functools.cache
def _host_cpu() -> str:
    """What decides the code that ``host`` generates: the processor's model and features."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return "\n".join(sorted({line for line in lines if line.startswith(("model name", "flags"))}))


# The compiler's process.


class _Refused(Exception):
    """IREE reported failure or crashed; becomes a CompileError once everything was tried."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.stage)
        self.is_input_error = refusal.stage in ("parse", "flags")
        self.diagnostics = refusal.diagnostics
        first = refusal.diagnostics[0] if refusal.diagnostics else f"{refusal.stage} failed without a message"
        self.summary = " ".join(first.split()) if refusal.stage == "flags" else first.strip().splitlines()[0]
        # "file:line:column: message", then for each caller "file:line:column: called from".
        match = re.match(r"(.+?):(\d+):\d+: (.*)", self.summary)
        self.location: str | None = None
        if match:
            callers = re.findall(r"^(.+?):(\d+):\d+: called from$", first, re.MULTILINE)
            frames = [(match[1], match[2]), *callers]
            users = [f"{file}:{line}" for file, line in frames if file != SOURCE_NAME and not file.startswith(_PACKAGE)]
            if users:
                self.location = users[-1]
                self.summary = match[3]


class _Worker:
    """The process that compiles; started when needed, one request at a time, started anew after a crash."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._flags: tuple[str, ...] = ()
        self._owner = 0
        self._stderr: Any = None

    def start(self) -> None:
        with self._lock:
            self._start()

    def ask(self, request: Request) -> Result:
        """Compiles one program. Raises _Refused where IREE refuses it or crashes."""
        with self._lock:
            answer = self._exchange(request)
            if isinstance(answer, Restart):
                self._kill()
                self._flags = answer.flags
                answer = self._exchange(request)
        if isinstance(answer, Refusal):
            raise _Refused(answer)
        assert not isinstance(answer, Restart)
        return answer

    def _exchange(self, request: Request) -> Answer:
        process = self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            pickle.dump(request, process.stdin)
            process.stdin.flush()
            return pickle.load(process.stdout)
        except (EOFError, OSError, pickle.UnpicklingError):
            return self._crash()
        except BaseException:  # interrupted: the answer would be taken for the next request's
            self._kill()
            raise

    def close(self) -> None:
        """Ends the process, which leaves by itself once its input ends."""
        with self._lock:
            if self._process is not None and self._owner == os.getpid():
                assert self._process.stdin is not None
                with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                    self._process.stdin.close()
                    self._process.wait(timeout=2)
            self._kill()

    def _start(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._owner == os.getpid() and self._process.poll() is None:
            return self._process
        self._kill()  # one that has ended by itself leaves its pipes behind
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 closed by _kill
        self._owner = os.getpid()  # a forked child must not write into its parent's pipe
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", "from volta_mlir.iree_worker import main; main()", *self._flags],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            start_new_session=True,  # Ctrl-C reaches this process only, which then ends the other one
        )
        return self._process

    def _crash(self) -> Refusal:
        assert self._process is not None
        status = self._process.wait()
        self._stderr.seek(0)
        output = self._stderr.read().decode(errors="replace").strip()
        self._kill()
        flags, self._flags = self._flags, ()
        if flags and "Unknown command line argument" in output:
            return Refusal("flags", (output,))
        if status < 0:
            return Refusal("crash", (f"the compiler crashed ({signal.Signals(-status).name})\n{output}",))
        last = output.splitlines()[-1] if output else "no message"
        return Refusal("crash", (f"the compiler's process ended with status {status}: {last}\n{output}",))

    def _kill(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        assert process.stdout is not None
        if self._owner == os.getpid():
            process.kill()
            process.wait()
        for pipe in (process.stdin, process.stdout, self._stderr):
            with contextlib.suppress(OSError):
                pipe.close()


_worker = _Worker()
atexit.register(_worker.close)


# Reproducers.


@dataclass
class _Reproducer:
    """A directory with the program, the command, and what went wrong.

    It is written before compiling and removed afterwards, because a crash of the compiler takes the process along.
    """

    directory: Path | None

    @classmethod
    def write(cls, parent: Path | None, text: str, flags: tuple[str, ...]) -> _Reproducer:
        """Writes to ``crashes`` in the given directory, or in the temporary one where that is not writable."""
        fallback = Path(tempfile.gettempdir()) / f"volta-{os.getuid()}"
        for root in filter(None, (parent, fallback)):
            directory = root / "crashes" / f"{Cache.key(text, *flags)[:16]}-{os.getpid()}"
            try:
                directory.mkdir(parents=True, exist_ok=True)
                reproducer = cls(directory)
                reproducer._store(text, flags)
                reproducer._prune()
                return reproducer
            except OSError as error:
                log.debug("no reproducer in %s: %s", directory, error)
        return cls(None)

    def record(self, text: str, flags: tuple[str, ...], refused: _Refused) -> None:
        """Records a failure."""
        if self.directory is None:
            return
        try:
            self._store(text, flags)
            (self.directory / "error.txt").write_text("\n".join(refused.diagnostics) + "\n")
        except OSError as error:
            log.debug("incomplete reproducer %s: %s", self.directory, error)

    def remove(self) -> None:
        if self.directory is not None:
            shutil.rmtree(self.directory, ignore_errors=True)

    def _store(self, text: str, flags: tuple[str, ...]) -> None:
        assert self.directory is not None
        (self.directory / SOURCE_NAME).write_text(text)
        command = shlex.join(["iree-compile", *flags, SOURCE_NAME, "-o", "module.vmfb"])
        (self.directory / "command.txt").write_text(command + "\n")

    def _prune(self) -> None:
        """Keeps the newest reproducers."""
        assert self.directory is not None
        others = sorted(self.directory.parent.iterdir(), key=lambda d: d.stat().st_mtime, reverse=True)
        for old in others[_MAX_REPRODUCERS:]:
            shutil.rmtree(old, ignore_errors=True)
