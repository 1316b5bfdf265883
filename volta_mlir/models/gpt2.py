"""GPT-2, a language model."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Any

import volta_mlir as volta
from volta_mlir import Tensor, nn
from volta_mlir.errors import ShapeError, WeightsError
from volta_mlir.models.cache import Cache, attention
from volta_mlir.nn import functional as F
from volta_mlir.nn import init


@dataclass(frozen=True)
class Config:
    """The sizes of a model; the defaults are those of the smallest published one.

    Attributes:
        vocabulary: how many tokens there are.
        context: how many positions.
        width: features of a token.
        layers: how many there are.
        heads: of attention.
        dropout: the probability in training, of embeddings, attention's results and feed-forward's results.
    """

    vocabulary: int = 50257
    context: int = 1024
    width: int = 768
    layers: int = 12
    heads: int = 12
    dropout: float = 0.0


#: The published sizes.
SIZES = {
    "small": Config(),
    "medium": Config(width=1024, layers=24, heads=16),
    "large": Config(width=1280, layers=36, heads=20),
    "xl": Config(width=1600, layers=48, heads=25),
}


class _Product(nn.Module):
    """A linear layer whose weight is ``[inputs, outputs]``, as the published files have it."""

    weight: Tensor
    bias: Tensor

    def __init__(self, inputs: int, outputs: int, std: float) -> None:
        self.weight = nn.Parameter(init.normal((inputs, outputs), 0.0, std))
        self.bias = nn.Parameter(volta.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight + self.bias


class _Attention(nn.Module):
    def __init__(self, config: Config) -> None:
        self.heads = config.heads
        self.c_attn = _Product(config.width, 3 * config.width, 0.02)
        self.c_proj = _Product(config.width, config.width, 0.02 / (2 * config.layers) ** 0.5)

    def forward(self, x: Tensor, cache: Cache | None, layer: int) -> tuple[Tensor, Cache | None]:
        batch, length, width = x.shape
        q, k, v = (
            part.reshape(batch, length, self.heads, width // self.heads).swapaxes(1, 2)
            for part in volta.split(self.c_attn(x), 3, axis=-1)
        )
        mixed, cache = attention(q, k, v, cache, layer)
        return self.c_proj(mixed.swapaxes(1, 2).reshape(x.shape)), cache


class _FeedForward(nn.Module):
    def __init__(self, config: Config) -> None:
        self.c_fc = _Product(config.width, 4 * config.width, 0.02)
        self.c_proj = _Product(4 * config.width, config.width, 0.02 / (2 * config.layers) ** 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.c_proj(F.gelu(self.c_fc(x), approximate="tanh"))


class _Block(nn.Module):
    def __init__(self, config: Config) -> None:
        self.ln_1, self.ln_2 = nn.LayerNorm(config.width), nn.LayerNorm(config.width)
        self.attn, self.mlp = _Attention(config), _FeedForward(config)
        self.drop = nn.Dropout(config.dropout) if config.dropout else nn.Identity()

    def forward(self, x: Tensor, cache: Cache | None, layer: int) -> tuple[Tensor, Cache | None]:
        mixed, cache = self.attn(self.ln_1(x), cache, layer)
        x = x + self.drop(mixed)
        return x + self.drop(self.mlp(self.ln_2(x))), cache


class _Transformer(nn.Module):
    def __init__(self, config: Config) -> None:
        self.wte = nn.Embedding(config.vocabulary, config.width)
        self.wpe = nn.Embedding(config.context, config.width)
        for embedding, std in ((self.wte, 0.02), (self.wpe, 0.01)):
            embedding.weight = nn.Parameter(init.normal(embedding.weight.shape, 0.0, std))
        self.drop = nn.Dropout(config.dropout) if config.dropout else nn.Identity()
        self.h = nn.ModuleList([_Block(config) for _ in range(config.layers)])
        self.ln_f = nn.LayerNorm(config.width)

    def forward(self, tokens: Tensor, cache: Cache | None) -> tuple[Tensor, Cache | None]:
        length = tokens.shape[1]
        positions = volta.arange(length) if cache is None else cache.positions(length)
        x = self.drop(self.wte(tokens) + self.wpe(positions))
        for number, block in enumerate(self.h):
            x, cache = block(x, cache, number)
        return self.ln_f(x), cache


class GPT2(nn.Module):
    """A decoder with learned positions, layer norms before each part, and GELU; its output is the transposed embedding.

    Its ``state_dict`` has the names of Hugging Face's ``GPT2LMHeadModel``.

    Args:
        config: the sizes.

    Calling it takes tokens ``[batch, length]``, integers, and returns scores of the next one
    ``[batch, length, vocabulary]``. With a :class:`volta_mlir.models.cache.Cache` it takes the tokens that come next,
    and returns the cache too; :func:`volta_mlir.generation.generate` does that.

    Raises:
        ShapeError: there are more tokens than positions.

    Source: Radford et al., "Language Models are Unsupervised Multitask Learners" (2019); Hugging Face's
    ``modeling_gpt2.py``.

    Example:
        >>> import volta_mlir as volta
        >>> model = GPT2(Config(vocabulary=11, context=8, width=16, layers=2, heads=4))
        >>> model(volta.zeros((1, 5), "int32")).shape
        (1, 5, 11)
    """

    def __init__(self, config: Config = SIZES["small"]) -> None:
        self.config = config
        self.transformer = _Transformer(config)

    def forward(self, tokens: Tensor, cache: Cache | None = None) -> Any:
        if tokens.shape[1] > self.config.context:
            raise ShapeError(f"GPT2 has {self.config.context} positions, got {tokens.shape[1]} tokens")
        x, kept = self.transformer(tokens, cache)
        scores = x @ self.transformer.wte.weight.T
        return scores if cache is None else (scores, kept)

    def new_cache(self, batch: int, capacity: int) -> Cache:
        """An empty cache for this many sequences and tokens."""
        config = self.config
        return Cache.empty(config.layers, batch, config.heads, capacity, config.width // config.heads)

    @classmethod
    def from_pretrained(cls, path: str | os.PathLike[str]) -> GPT2:
        """Loads Hugging Face's ``model.safetensors`` with its ``config.json``, from their directory.

        Raises:
            WeightsError: a file is missing, damaged, or of another architecture.
            ShapeError: names or shapes are not those of the model.
        """
        from volta_mlir.models.huggingface import load, require

        settings, tensors = load(path)
        if settings.get("model_type") != "gpt2":
            raise WeightsError(f"config.json describes a {settings.get('model_type')} model, expected gpt2")
        require(
            settings, activation_function=("gelu_new", "gelu_pytorch_tanh"), layer_norm_epsilon=(1e-5,),
            scale_attn_weights=(True,), scale_attn_by_inverse_layer_idx=(False,), tie_word_embeddings=(True,),
        )  # fmt: skip
        config = Config(
            settings["vocab_size"], settings["n_positions"], settings["n_embd"], settings["n_layer"],
            settings["n_head"],
        )  # fmt: skip
        with nn.init.skipped():
            model = cls(config)
        # Files of the bare transformer have no prefix; masks of attention are no parameters here.
        state = {
            name if name.startswith(("transformer.", "lm_head.")) else f"transformer.{name}": tensor
            for name, tensor in tensors.items()
            if not re.search(r"\.attn\.(masked_)?bias$", name)
        }
        state.pop("lm_head.weight", None)
        model.load_state_dict(state)
        return model.eval()
