"""A loss written by hand in a file: differentiated, simplified and lowered by volta-opt, compiled by iree-compile."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

LOSS = """
// The mean squared error of a layer, and a step of gradient descent on it.

func.func private @loss(%w: tensor<3x2xf32>, %b: tensor<2xf32>, %x: tensor<4x3xf32>, %y: tensor<4x2xf32>)
    -> tensor<f32> {
  %0 = "volta.dot_general"(%x, %w) {dtype = f32, lhs_batch = array<i64>, rhs_batch = array<i64>,
    lhs_contract = array<i64: 1>, rhs_contract = array<i64: 0>} : (tensor<4x3xf32>, tensor<3x2xf32>) -> tensor<4x2xf32>
  %1 = "volta.broadcast_in_dim"(%b) {dims = array<i64: 1>, shape = array<i64: 4, 2>}
    : (tensor<2xf32>) -> tensor<4x2xf32>
  %2 = "volta.add"(%0, %1) : (tensor<4x2xf32>, tensor<4x2xf32>) -> tensor<4x2xf32>
  %3 = "volta.tanh"(%2) : (tensor<4x2xf32>) -> tensor<4x2xf32>
  %4 = "volta.sub"(%3, %y) : (tensor<4x2xf32>, tensor<4x2xf32>) -> tensor<4x2xf32>
  %5 = "volta.mul"(%4, %4) : (tensor<4x2xf32>, tensor<4x2xf32>) -> tensor<4x2xf32>
  %6 = "volta.reduce_sum"(%5) {axes = array<i64: 0, 1>} : (tensor<4x2xf32>) -> tensor<f32>
  %eighth = "volta.full"() {shape = array<i64>, value = dense<0.125> : tensor<f32>} : () -> tensor<f32>
  %7 = "volta.mul"(%6, %eighth) : (tensor<f32>, tensor<f32>) -> tensor<f32>
  return %7 : tensor<f32>
}

func.func private @loss.vjp(tensor<3x2xf32>, tensor<2xf32>, tensor<4x3xf32>, tensor<4x2xf32>, tensor<f32>)
  -> (tensor<f32>, tensor<3x2xf32>, tensor<2xf32>) attributes {volta.vjp = @loss, volta.wrt = array<i64: 0, 1>}

func.func @step(%w: tensor<3x2xf32>, %b: tensor<2xf32>, %x: tensor<4x3xf32>, %y: tensor<4x2xf32>)
    -> (tensor<f32>, tensor<3x2xf32>, tensor<2xf32>) {
  %one = "volta.full"() {shape = array<i64>, value = dense<1.0> : tensor<f32>} : () -> tensor<f32>
  %0:3 = func.call @loss.vjp(%w, %b, %x, %y, %one)
    : (tensor<3x2xf32>, tensor<2xf32>, tensor<4x3xf32>, tensor<4x2xf32>, tensor<f32>)
    -> (tensor<f32>, tensor<3x2xf32>, tensor<2xf32>)
  %1 = "volta.sub"(%w, %0#1) : (tensor<3x2xf32>, tensor<3x2xf32>) -> tensor<3x2xf32>
  %2 = "volta.sub"(%b, %0#2) : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
  return %0#0, %1, %2 : tensor<f32>, tensor<3x2xf32>, tensor<2xf32>
}
"""
TOOLS = Path(sys.executable).parent


def run(tool: str, *arguments: str | Path) -> str:
    result = subprocess.run([TOOLS / tool, *arguments], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize(
    "passes",
    [
        ("--volta-inline", "--volta-simplify", "--cse"),
        ("--volta-autodiff", "--volta-inline", "--volta-simplify", "--canonicalize"),
        ("--volta-autodiff=split=true", "--symbol-dce"),
    ],
    ids=["inlined", "in steps", "split"],
)
def test_a_hand_written_loss_is_trained_by_the_tools_alone(tmp_path, passes):
    source, lowered, compiled = (tmp_path / name for name in ("loss.mlir", "lowered.mlir", "loss.vmfb"))
    source.write_text(LOSS)
    run("volta-opt", source, *passes, "--convert-volta-to-linalg", "-o", lowered)
    text = lowered.read_text()
    assert "volta." not in text.replace("@loss.vjp", "")
    run(
        "iree-compile",
        "--iree-hal-target-device=local",
        "--iree-hal-local-target-device-backends=llvm-cpu",
        "--iree-llvmcpu-target-cpu=host",
        lowered,
        "-o",
        compiled,
    )

    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=shape).astype(np.float32) for shape in [(3, 2), (2,), (4, 3), (4, 2)]]
    for name, array in zip("wbxy", arrays, strict=True):
        np.save(tmp_path / f"{name}.npy", array)
    run(
        "iree-run-module",
        "--device=local-sync",
        f"--module={compiled}",
        "--function=step",
        *(f"--input=@{tmp_path / name}.npy" for name in "wbxy"),
        *(f"--output=@{tmp_path / f'out{i}.npy'}" for i in range(3)),
    )
    loss, new_w, new_b = (np.load(tmp_path / f"out{i}.npy") for i in range(3))

    w, b, x, y = (torch.tensor(array, requires_grad=i < 2) for i, array in enumerate(arrays))
    expected = ((torch.tanh(x @ w + b) - y) ** 2).mean()
    expected.backward()
    assert np.allclose(loss, expected.item(), rtol=1e-5)
    assert np.allclose(new_w, (w - w.grad).detach(), rtol=1e-5, atol=1e-6)
    assert np.allclose(new_b, (b - b.grad).detach(), rtol=1e-5, atol=1e-6)
