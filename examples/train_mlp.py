"""Trains a multi-layer perceptron on handwritten digits, and can be stopped at any moment.

::

    pip install 'volta-mlir[demo]'
    python examples/train_mlp.py --output mlp_run --epochs 30

Takes some ten seconds on two cores, and reaches an accuracy of about 98 %. Press Ctrl-C or kill it, and start it again:
it goes on from its last checkpoint, and ends with the same bits as a run that was not stopped. In the directory are

- ``step-….safetensors``, ``best-….safetensors``: the last checkpoints, and the best one;
- ``metrics.csv``: loss, learning rate, throughput, memory and accuracy over the steps;
- ``model.safetensors``: the parameters of the best one, with the names that PyTorch gives to an ``nn.Sequential``.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import click
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import volta_mlir as volta
from volta_mlir import nn, optim
from volta_mlir.data import DataLoader
from volta_mlir.models import MLP
from volta_mlir.training import CSVLogger, Trainer, average

# 30 epochs have 660 steps.
optimizer = optim.AdamW(lr=optim.CosineAnnealingLR(3e-3, T_max=660), weight_decay=0.05)


@volta.jit(donate="auto")  # model, state and key come back: their memory takes the results
def train_step(model: nn.Module, state: Any, key: Any, images: Any, labels: Any) -> Any:
    """One compiled program: noise, forward, backward, update."""
    key, noise_key = volta.random.split(key)
    noisy = images + 0.2 * volta.random.normal(noise_key, images.shape)
    loss, gradients = volta.value_and_grad(lambda model: nn.functional.cross_entropy(model(noisy), labels))(model)
    lr = optimizer.lr(state["step"])
    model, state = optimizer.update(model, gradients, state)
    return model, state, key, {"loss": loss, "lr": lr}


@volta.jit
def valid_step(model: nn.Module, images: Any, labels: Any) -> dict[str, Any]:
    """The loss and the accuracy of a batch."""
    scores = model(images)
    return {
        "loss": nn.functional.cross_entropy(scores, labels),
        "accuracy": (scores.argmax(-1) == labels).astype("float32").mean(),
    }


@click.command()
@click.option("--output", default="mlp_run", show_default=True, type=click.Path(path_type=Path))
@click.option("--epochs", default=30, show_default=True)
def main(output: Path, epochs: int) -> None:
    """Train a multi-layer perceptron on handwritten digits."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")  # what happens, where there is no terminal
    digits = load_digits()  # 1797 images of 8×8 pixels
    images, labels = (digits.data / 16).astype(np.float32), digits.target.astype(np.int32)
    train_x, valid_x, train_y, valid_y = train_test_split(
        images, labels, test_size=360, random_state=0, stratify=labels
    )
    valid_loader = DataLoader((valid_x, valid_y), batch_size=120)

    nn.manual_seed(0)
    model = MLP([64, 256, 256, 10])
    trainer = Trainer(
        train_step,
        (model, optimizer.init(model), volta.random.key(0)),
        DataLoader((train_x, train_y), batch_size=64, shuffle=True, drop_last=True),
        evaluate=lambda model, state, key: average(lambda x, y: valid_step(model, x, y), valid_loader),
        monitor="accuracy",
        mode="max",
        checkpoints=output,
        callbacks=[CSVLogger(output / "metrics.csv")],
    )
    trainer.fit(epochs=epochs)
    if trainer.stop_reason is None:
        model, *_ = trainer.restore_best()
        volta.weights.save(output / "model.safetensors", model.state_dict())
        print(f"best accuracy on held-out images: {trainer.best:.2%}, after step {trainer.best_step}")


if __name__ == "__main__":
    main()
