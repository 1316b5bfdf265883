"""The README's program, executed as it is printed there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def test_the_quick_start_runs(tmp_path: Path) -> None:
    section = README.read_text().split("## Quick start")[1].split("\n## ")[0]
    blocks = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    assert len(blocks) == 2
    done = subprocess.run([sys.executable, "-c", "\n".join(blocks)], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    loss = re.match(r"Tensor\((\S+), dtype=float32\)", done.stdout)
    assert loss is not None
    assert float(loss[1]) < 0.1
    for text in ("linalg.generic", "train_step: ", " at the peak", "operations per byte", "saved by"):
        assert text in done.stdout, text
    assert (tmp_path / "train_step.vmfb").stat().st_size > 1000
