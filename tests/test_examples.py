"""The programs under examples/, as users run them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import volta_mlir as volta

pytestmark = pytest.mark.no_cover

EXAMPLES = Path(__file__).parent.parent / "examples"


def run(name: str, *arguments: str | Path, cwd: Path) -> str:
    """What an example prints."""
    command = [sys.executable, "-W", "error", EXAMPLES / name, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_example_says_how_it_is_run() -> None:
    for path in EXAMPLES.glob("*.py"):
        docstring = path.read_text().split('"""')[1]
        assert f"python examples/{path.name}" in docstring, path


@pytest.mark.usefixtures("ctrl_c")
def test_train_mlp_is_interrupted_and_goes_on(tmp_path: Path) -> None:
    whole = run("train_mlp.py", "--output", "whole", cwd=tmp_path)
    assert float(re.search(r"held-out images: ([\d.]+)%", whole)[1]) > 97
    for name in ("parts", "again", "once more"):  # where the machine is busy, training may end before it is interrupted
        command = [sys.executable, EXAMPLES / "train_mlp.py", "--output", name]
        with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
            for line in process.stderr:
                if line.startswith("step 50 "):
                    os.kill(process.pid, signal.SIGINT)
        assert process.returncode == 0
        if not (tmp_path / name / "model.safetensors").exists():
            break
    else:
        pytest.fail("it was never interrupted")
    assert run("train_mlp.py", "--output", name, cwd=tmp_path) == whole
    contents = [(tmp_path / output / "model.safetensors").read_bytes() for output in ("whole", name)]
    assert contents[0] == contents[1]
    assert list(volta.weights.load(tmp_path / "whole" / "model.safetensors")) == [
        f"{layer}.{name}" for layer in (0, 2, 4) for name in ("weight", "bias")
    ]


def percentages(text: str) -> list[float]:
    return [float(number) for number in re.findall(r"accuracy.*: ([\d.]+)%", text)]


def test_a_network_learns_the_digits(tmp_path: Path) -> None:
    (accuracy,) = percentages(run("digits_cnn.py", cwd=tmp_path))
    assert accuracy >= 98.5


@pytest.mark.full  # docs/models.md has the same, which is always tested
@pytest.mark.weights
def test_a_fine_tuned_head_beats_a_classifier_of_pixels(tmp_path: Path) -> None:
    pixels, features = percentages(run("finetune_efficientnet.py", cwd=tmp_path))
    assert pixels < 65
    assert features > 80


@pytest.mark.full  # as is this
def test_a_character_gpt_trains_and_samples(tmp_path: Path) -> None:
    printed = run("char_gpt.py", "--output", "gpt", "--steps", "3", cwd=tmp_path)
    loss, sampled = re.fullmatch(
        r"loss on text that was not trained on: ([\d.]+)\n(def .*)\n", printed, re.DOTALL
    ).groups()
    assert 2 < float(loss) < 5
    assert len(sampled) == len("def ") + 128


@pytest.mark.full
def test_a_character_gpt_learns_python(tmp_path: Path) -> None:
    printed = run("char_gpt.py", "--output", "gpt", cwd=tmp_path)
    assert float(re.search(r"not trained on: ([\d.]+)", printed)[1]) < 1.6


def test_a_chat_without_weights_says_where_they_are(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, EXAMPLES / "chat.py", "--weights", "nothing.gguf"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 2
    assert "nothing.gguf" in done.stderr


@pytest.mark.full  # and this
@pytest.mark.weights
def test_a_chat_answers(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", EXAMPLES / "chat.py", "--length", "8", "--temperature", "0"]
    done = subprocess.run(
        command, input="What is the capital of France?\n", capture_output=True, text=True, cwd=tmp_path, check=True
    )
    assert "The capital of France is Paris" in done.stdout
