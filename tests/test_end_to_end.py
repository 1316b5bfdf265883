"""A file written by hand, through volta-opt, iree-compile and iree-run-module, as a user would do it."""

from __future__ import annotations

import subprocess
import sysconfig
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent.parent
SCRIPTS = Path(sysconfig.get_path("scripts"))
PASSES = ("--volta-autodiff", "--volta-inline", "--cse", "--volta-simplify", "--convert-volta-to-linalg")
FLAGS = ("--iree-hal-target-device=local", "--iree-hal-local-target-device-backends=llvm-cpu")


def run(program: str, *arguments: object) -> str:
    command = [str(SCRIPTS / program), *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout


def test_a_loss_by_hand_is_differentiated_lowered_compiled_and_run(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    w, x = rng.standard_normal((3, 2)).astype(np.float32), rng.standard_normal((4, 3)).astype(np.float32)
    for name, array in (("w", w), ("x", x)):
        np.save(tmp_path / f"{name}.npy", array)
    run("volta-opt", ROOT / "examples/loss.mlir", *PASSES, "-o", tmp_path / "step.mlir")
    assert '"volta.' not in (tmp_path / "step.mlir").read_text()
    run("iree-compile", tmp_path / "step.mlir", *FLAGS, "-o", tmp_path / "step.vmfb")
    outputs = [tmp_path / "new.npy", tmp_path / "loss.npy"]
    run(
        "iree-run-module", f"--module={tmp_path / 'step.vmfb'}", "--function=step",
        f"--input=@{tmp_path / 'w.npy'}", f"--input=@{tmp_path / 'x.npy'}", *(f"--output=@{o}" for o in outputs),
    )  # fmt: skip
    hidden = np.tanh(x @ w)
    gradient = x.T @ (2 * hidden * (1 - hidden**2))
    np.testing.assert_allclose(np.load(outputs[0]), w - 0.1 * gradient, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(np.load(outputs[1]), (hidden**2).sum(), rtol=1e-5)
