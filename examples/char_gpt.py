"""Trains a small GPT on the letters of Python's standard library, and samples a text that looks like Python.

::

    python examples/char_gpt.py --output char_gpt_run

The loss, in nats per letter of text that was not trained on, falls below 1.6 after a few minutes on two cores. Stop it
with Ctrl-C and start it again: it goes on from its last checkpoint.
"""

from __future__ import annotations

import logging
import sysconfig
from pathlib import Path
from typing import Any

import click
import numpy as np

import volta_mlir as volta
from volta_mlir import nn, optim
from volta_mlir.generation import generate
from volta_mlir.models import GPT2
from volta_mlir.models.gpt2 import Config
from volta_mlir.training import CSVLogger, Trainer

CONTEXT = 128


class Windows:
    """Pieces of a text: letters, and the letters that follow them."""

    def __init__(self, text: np.ndarray, count: int) -> None:
        self.text, self.starts = text, np.random.default_rng(0).integers(0, len(text) - CONTEXT - 1, count)

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        piece = self.text[self.starts[index] : self.starts[index] + CONTEXT + 1]
        return piece[:-1], piece[1:]


def loss_of(model: GPT2, letters: Any, next_letters: Any) -> Any:
    """The mean cross-entropy, in nats per letter."""
    scores = model(letters)
    return nn.functional.cross_entropy(scores.reshape(-1, scores.shape[-1]), next_letters.reshape(-1))


@click.command()
@click.option("--output", default="char_gpt_run", show_default=True, type=click.Path(path_type=Path))
@click.option("--steps", default=1000, show_default=True, help="Steps of training, of 32 pieces each.")
def main(output: Path, steps: int) -> None:
    """Train, and sample."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    files = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    source = "".join(path.read_text(errors="ignore") for path in files).encode("ascii", "ignore")
    alphabet = sorted(set(source))
    numbers = np.zeros(256, np.int32)
    numbers[alphabet] = np.arange(len(alphabet))
    text = numbers[np.frombuffer(source, np.uint8)]
    split = int(0.95 * len(text))

    nn.manual_seed(0)
    model = GPT2(Config(vocabulary=len(alphabet), context=2 * CONTEXT, width=128, layers=4, heads=4))
    optimizer = optim.AdamW(lr=optim.WarmupCosineLR(3e-3, warmup_steps=50, total_steps=max(steps, 51)))

    @volta.jit(donate="auto")
    def train_step(model: GPT2, state: Any, letters: Any, next_letters: Any) -> Any:
        loss, gradients = volta.value_and_grad(loss_of)(model, letters, next_letters)
        return *optimizer.update(model, gradients, state), loss

    valid_step = volta.jit(loss_of)
    held_out = volta.data.DataLoader(Windows(text[split:], 256), batch_size=32)
    loader = volta.data.DataLoader(Windows(text[:split], 32 * 1000), batch_size=32, shuffle=True)

    def evaluate(model: GPT2, state: Any) -> dict[str, float]:
        return {"loss": float(np.mean([valid_step(model, *batch).item() for batch in held_out]))}

    trainer = Trainer(
        train_step, (model, optimizer.init(model)), loader, evaluate=evaluate, evaluate_every=min(250, steps),
        checkpoints=output, callbacks=[CSVLogger(output / "metrics.csv")],
    )  # fmt: skip
    model, _ = trainer.fit(steps=steps)
    click.echo(f"loss on text that was not trained on: {evaluate(model, None)['loss']:.3f}")

    prompt = numbers[list(b"def ")].tolist()
    letters = generate(model.eval(), prompt, CONTEXT, temperature=0.8, top_p=0.95, seed=1)
    click.echo("def " + bytes(alphabet[letter] for letter in letters).decode())


if __name__ == "__main__":
    main()
