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
import numpy as np
from matplotlib.figure import Figure
from rich.progress import Progress
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import volta_mlir as volta
from volta_mlir import nn, optim

EPOCHS = 40
BATCH = 64
STEPS = 22  # in an epoch
NOISE = 0.2  # is added to the pixels in training, since there are few images to learn from
REQUIRED_ACCURACY = 0.97

optimizer = optim.Adam(lr=lambda step: 3e-3 * (1 - step / (EPOCHS * STEPS)))


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
    model = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10))
    state = optimizer.init(model)
    rng = np.random.default_rng(0)
    losses: list[float] = []
    with Progress(disable=not sys.stdout.isatty()) as progress:
        for epoch in progress.track(range(1, EPOCHS + 1), description="training"):
            order = rng.permutation(len(train_x))
            for batch in np.split(order[: STEPS * BATCH], STEPS):
                noise = rng.normal(scale=NOISE, size=(BATCH, 64)).astype(np.float32)
                model, state, loss = train_step(model, state, train_x[batch] + noise, train_y[batch])
                losses.append(loss.item())
            if epoch % 10 == 0:
                predicted = predict(model, test_x).numpy()
                accuracy = np.mean(predicted == test_y)
                progress.print(f"epoch {epoch}: loss {np.mean(losses[-20:]):.3f}, test accuracy {accuracy:.2%}")
    plot(losses, output / "loss.png")

    train_step.lower(model, state, train_x[:BATCH], train_y[:BATCH]).compile().save(output / "train_step.vmfb")
    predict.lower(model, test_x).compile().save(output / "predict.vmfb")
    agreement = np.mean(run_with_iree(model, test_x, output) == predicted)
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
    options = ["--device=local-task", f"--module={output / 'predict.vmfb'}", "--function=predict"]
    subprocess.run([program, *options, *arguments, f"--output=@{result}"], check=True, stdout=subprocess.DEVNULL)
    return np.load(result)


def plot(losses: list[float], path: Path) -> None:
    """Draws the loss of every step."""
    figure = Figure()
    axes = figure.subplots()
    axes.semilogy(losses)
    axes.set(xlabel="step", ylabel="loss", title="Handwritten digits")
    figure.savefig(path)


if __name__ == "__main__":
    main()
