"""The example of CONTRIBUTING.md, executed as it is printed there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

CONTRIBUTING = Path(__file__).parents[1] / "CONTRIBUTING.md"

# What the example's op has to do, after its code in the same process.
CHECKS = """
import numpy as np
from volta_mlir.dialects import OPS, elementwise
from volta_mlir.dtypes import TensorSpec, float32
from volta_mlir.mlir import context, ir
from volta_mlir.passes import parse_pipeline, run_pipeline

assert OPS["softsign"] is SoftsignOp
expected = np.array([-0.5, 0.0, 0.75], np.float32)
slope = np.array([0.25, 1.0, 0.0625], np.float32)

# reference, partials, batch, lower
np.testing.assert_allclose(SoftsignOp.apply(x).numpy(), expected)
gradient = volta.grad(lambda x: SoftsignOp.apply(x).sum())
np.testing.assert_allclose(gradient(x).numpy(), slope)
rows = volta.Tensor(np.stack([x.numpy(), -x.numpy()]))
np.testing.assert_allclose(volta.vmap(SoftsignOp.apply)(rows).numpy(), np.stack([expected, -expected]))
np.testing.assert_allclose(np.asarray(volta.jit(SoftsignOp.apply)(x)), expected)
np.testing.assert_allclose(np.asarray(volta.jit(gradient)(x)), slope, rtol=1e-6)

# cost
spec = TensorSpec((4,), float32)
cost = SoftsignOp.cost([spec], [spec])
assert (cost.flops, cost.bytes) == (12, 32)

# infer, in the verifier; text; lowering
TEXT = '''
func.func @f(%x: tensor<3x{0}>) -> tensor<3x{0}> {{
  %0 = "volta.softsign"(%x) : (tensor<3x{0}>) -> tensor<3x{0}>
  return %0 : tensor<3x{0}>
}}'''
with context():
    module = ir.Module.parse(TEXT.format("bf16"))
    run_pipeline(module, parse_pipeline("convert-volta-to-linalg"))
    assert "volta." not in str(module) and "linalg.generic" in str(module)
    try:
        ir.Module.parse(TEXT.format("i32"))
    except ir.MLIRError as error:
        assert "takes floats, got int32[3]" in str(error)
    else:
        raise AssertionError("the verifier accepts integers")
"""


def test_adding_an_op() -> None:
    section = CONTRIBUTING.read_text().split("## Adding an op")[1].split("\n## ")[0]
    blocks = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    assert len(blocks) == 2
    # In a process of its own: the op must not join the registry of the other tests.
    program = "\n".join([*blocks, CHECKS])
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    assert result.stdout.splitlines()[0] == "Tensor([-0.5 ,  0.  ,  0.75], dtype=float32)"
