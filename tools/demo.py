"""Trains a classifier of handwritten digits, and runs the compiled file with IREE alone.

::

    python -m volta_mlir.tools.demo --output demo_output
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import matplotlib
import numpy as np
from rich.progress import Progress
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import volta_mlir as volta
from volta_mlir import nn, optim

EPOCHS = 30
BATCH = 64
REQUIRED_ACCURACY = 0.97

optimizer = optim.Adam(lr=2e-3)


def loss_of(model: nn.Module, images: Any, labels: Any) -> Any:
    """What the training makes small."""
    return nn.functional.cross_entropy(model(images), labels)


@volta.jit(donate=("model", "state"))
def train_step(model: nn.Module, state: Any, images: Any, labels: Any) -> Any:
    """The whole step is one compiled function: forward, backward, and an update of the donated buffers in place."""
    loss, gradients = volta.value_and_grad(loss_of)(model, images, labels)
    model, state = optimizer.update(model, gradients, state)
    return model, state, loss


@volta.jit
def predict(model: nn.Module, images: Any) -> Any:
    """The most likely digit of each image."""
    return model(images).argmax(-1)


@click.command()
@click.option("--output", default="demo_output", show_default=True, type=click.Path(path_type=Path))
def main(output: Path) -> None:
    """Train a classifier of handwritten digits, and run the compiled file with IREE alone."""
    output.mkdir(parents=True, exist_ok=True)
    digits = load_digits()  # 1797 images of 8×8 pixels
    images = (digits.data / 16).astype(np.float32)
    labels = digits.target.astype(np.int32)
    train_x, test_x, train_y, test_y = train_test_split(images, labels, test_size=360, random_state=0, stratify=labels)

    nn.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10))
    state = optimizer.init(model)
    train_step.lower(model, state, train_x[:BATCH], train_y[:BATCH]).compile().save(output / "train_step.vmfb")
    predict.lower(model, test_x).compile().save(output / "predict.vmfb")

    rng = np.random.default_rng(0)
    losses = []
    with Progress(disable=not sys.stdout.isatty()) as progress:
        for epoch in progress.track(range(1, EPOCHS + 1), description="training"):
            order = rng.permutation(len(train_x))
            for start in range(0, len(order) - BATCH + 1, BATCH):
                batch = order[start : start + BATCH]
                model, state, loss = train_step(model, state, train_x[batch], train_y[batch])
                losses.append(loss.item())
            accuracy = np.mean(predict(model, test_x).numpy() == test_y)
            if epoch % 5 == 0:
                progress.print(f"epoch {epoch:2}: loss {np.mean(losses[-20:]):.4f}, test accuracy {accuracy:.2%}")
    plot(losses, output / "loss.png")

    agreement = np.mean(run_with_iree(model, test_x, output) == predict(model, test_x).numpy())
    print(f"iree-run-module on {output / 'predict.vmfb'} agrees with Volta on {agreement:.2%} of the test images")
    if accuracy < REQUIRED_ACCURACY or agreement < 1:
        sys.exit(f"expected an accuracy of at least {REQUIRED_ACCURACY:.0%} and full agreement")


def run_with_iree(model: nn.Module, images: Any, output: Path) -> Any:
    """What IREE's own program says about the images: it knows the compiled file and arrays, but not Volta."""
    arguments = []
    for name, array in {**model.state_dict(), "images": images}.items():
        path = output / f"{name}.npy"
        np.save(path, np.asarray(array))
        arguments.append(f"--input=@{path}")
    program = Path(sys.executable).with_name("iree-run-module")
    result = output / "classes.npy"
    files = [f"--module={output / 'predict.vmfb'}", f"--output=@{result}"]
    subprocess.run([program, "--device=local-task", "--function=predict", *files, *arguments], check=True)
    return np.load(result)


def plot(losses: list[float], path: Path) -> None:
    """Draws the loss of every step."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots()
    axes.semilogy(losses)
    axes.set(xlabel="step", ylabel="loss", title="Handwritten digits")
    figure.savefig(path)
    pyplot.close(figure)


if __name__ == "__main__":
    main()
