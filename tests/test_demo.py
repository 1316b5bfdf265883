"""The demo, as `make demo` runs it."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from volta_mlir.tools import demo, volta


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    output = tmp_path_factory.mktemp("demo") / "output"
    command = [sys.executable, "-m", "volta_mlir.tools.demo", "--output", str(output)]
    return subprocess.run(command, capture_output=True, text=True, check=False), output


def test_it_trains_and_iree_agrees(result):
    process, output = result
    assert process.returncode == 0, process.stderr
    *epochs, last = process.stdout.splitlines()
    assert [line.split(":")[0] for line in epochs] == ["epoch 10", "epoch 20", "epoch 30", "epoch 40"]
    assert float(re.search(r"accuracy ([\d.]+)%", epochs[-1])[1]) >= 97
    assert last.endswith("agrees with Volta on 100.00% of the test images")
    assert (output / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_its_files_describe_themselves_and_run(result, capsys):
    _, output = result
    assert volta.main(["inspect", str(output / "train_step.vmfb")]) == 0
    shown = capsys.readouterr().out
    assert "weight: float32[256,64] donated to 0.0.weight" in shown
    assert "labels: int32[64]" in shown
    arguments = [f"--input=model.{path.stem}={path}" for path in output.glob("[024].*.npy")]
    arguments += [f"--input=images={output / 'images.npy'}"]
    assert volta.main(["run", str(output / "predict.vmfb"), *arguments]) == 0
    assert "int32[360]" in capsys.readouterr().out


def test_it_fails_where_it_has_not_learnt(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(demo, "REQUIRED_ACCURACY", 1.01)
    with pytest.raises(SystemExit, match="expected an accuracy of at least 101% and full agreement"):
        demo.main(["--output", str(tmp_path)])
