"""Train a convolutional network on scikit-learn's handwritten digits, to 98.5 % of the test images and more.

::

    pip install 'volta-mlir[demo]'  # scikit-learn
    python examples/digits_cnn.py
"""

import logging
from typing import Any

import click
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import volta_mlir as volta
from volta_mlir import nn, optim
from volta_mlir.data import DataLoader

BATCH = 64


def block(in_channels: int, out_channels: int) -> nn.Sequential:
    """A 3×3 convolution that keeps the extent, normalized."""
    conv = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels), nn.ReLU())


def network() -> nn.Module:
    """Takes images [N, 1, 8, 8], returns scores [N, 10]."""
    return nn.Sequential(
        *(block(1, 32), block(32, 32), nn.MaxPool2d(2)),
        *(block(32, 64), block(64, 64), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64 * 2 * 2, 10)),
    )


def shifted(images: Any, key: Any) -> Any:
    """Images that are moved by up to one pixel, each in its own direction, and filled up with zeros."""
    at = volta.random.randint(key, (2, len(images)), 0, 3)
    padded = nn.functional.pad(images, (1, 1, 1, 1))
    return volta.vmap(lambda image, y, x: volta.dynamic_slice(image, (0, y, x), (1, 8, 8)))(padded, *at)


@volta.jit
def predict(model: nn.Module, images: Any) -> Any:
    """The most likely digit of each image."""
    return model(images).argmax(1)


@click.command()
@click.option("--epochs", default=30, show_default=True)
@click.option("--seed", default=0, show_default=True, help="Of the weights, the order and the shifts.")
def main(epochs: int, seed: int) -> None:
    """Train a convolutional network on handwritten digits."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    digits = load_digits()  # 1797 images of 8×8 pixels
    images = (digits.images[:, None] / 16).astype(np.float32)
    split = train_test_split(
        images, digits.target.astype(np.int32), test_size=360, random_state=0, stratify=digits.target
    )
    train_x, test_x, train_y, test_y = split
    loader = DataLoader((train_x, train_y), BATCH, shuffle=True, seed=seed, drop_last=True)

    nn.manual_seed(seed)
    model = network()
    optimizer = optim.AdamW(lr=optim.OneCycleLR(1e-2, epochs=epochs, steps_per_epoch=len(loader)), weight_decay=0.05)

    @volta.jit(donate=("model", "state"))
    def train_step(model: nn.Module, state: Any, key: Any, images: Any, labels: Any) -> Any:
        key, shift = volta.random.split(key)

        def loss_of(model: nn.Module) -> Any:
            return nn.functional.cross_entropy(model(shifted(images, shift)), labels, label_smoothing=0.1)

        loss, gradients = volta.value_and_grad(loss_of)(model)
        model, state = optimizer.update(model, gradients, state)
        return model, state, key, loss

    initial = (model, optimizer.init(model), volta.random.key(seed))
    model, _, _ = volta.Trainer(train_step, initial, loader, log_every=100).fit(epochs=epochs)
    accuracy = np.mean(predict(model.eval(), test_x).numpy() == test_y)
    print(f"test accuracy: {accuracy:.2%}")


if __name__ == "__main__":
    main()
