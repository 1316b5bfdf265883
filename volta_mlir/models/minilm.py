"""all-MiniLM-L6-v2, an encoder of sentences."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import volta_mlir as volta
from volta_mlir import Tensor, nn
from volta_mlir.errors import ShapeError, WeightsError
from volta_mlir.nn import functional as F


@dataclass(frozen=True)
class Config:
    """The sizes of a model; the defaults are those of all-MiniLM-L6-v2.

    Attributes:
        vocabulary: how many tokens there are.
        context: how many positions.
        width: features of a token.
        layers: how many there are.
        heads: of attention.
        hidden: features between the products of a feed-forward layer.
        epsilon: in the norms.
    """

    vocabulary: int = 30522
    context: int = 512
    width: int = 384
    layers: int = 6
    heads: int = 12
    hidden: int = 1536
    epsilon: float = 1e-12


class _Embeddings(nn.Module):
    def __init__(self, config: Config) -> None:
        self.word_embeddings = nn.Embedding(config.vocabulary, config.width)
        self.position_embeddings = nn.Embedding(config.context, config.width)
        self.token_type_embeddings = nn.Embedding(2, config.width)
        self.LayerNorm = nn.LayerNorm(config.width, config.epsilon)

    def forward(self, tokens: Tensor) -> Tensor:
        positions = self.position_embeddings.weight[: tokens.shape[1]]
        return self.LayerNorm(self.word_embeddings(tokens) + positions + self.token_type_embeddings.weight[0])


class _SelfAttention(nn.Module):
    def __init__(self, config: Config) -> None:
        self.heads = config.heads
        self.query, self.key, self.value = (nn.Linear(config.width, config.width) for _ in range(3))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        batch, length, width = x.shape
        q, k, v = (
            projection(x).reshape(batch, length, self.heads, width // self.heads).swapaxes(1, 2)
            for projection in (self.query, self.key, self.value)
        )
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask.reshape(batch, 1, 1, length))
        return mixed.swapaxes(1, 2).reshape(x.shape)


class _Output(nn.Module):
    """A product, added to what came before, and a norm."""

    def __init__(self, inputs: int, config: Config) -> None:
        self.dense = nn.Linear(inputs, config.width)
        self.LayerNorm = nn.LayerNorm(config.width, config.epsilon)

    def forward(self, x: Tensor, before: Tensor) -> Tensor:
        return self.LayerNorm(self.dense(x) + before)


class _Attention(nn.Module):
    def __init__(self, config: Config) -> None:
        self.self = _SelfAttention(config)
        self.output = _Output(config.width, config)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.output(self.self(x, mask), x)


class _Intermediate(nn.Module):
    def __init__(self, config: Config) -> None:
        self.dense = nn.Linear(config.width, config.hidden)

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(self.dense(x))


class _Layer(nn.Module):
    def __init__(self, config: Config) -> None:
        self.attention = _Attention(config)
        self.intermediate = _Intermediate(config)
        self.output = _Output(config.hidden, config)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = self.attention(x, mask)
        return self.output(self.intermediate(x), x)


class _Encoder(nn.Module):
    def __init__(self, config: Config) -> None:
        self.layer = nn.ModuleList([_Layer(config) for _ in range(config.layers)])

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        for layer in self.layer:
            x = layer(x, mask)
        return x


class MiniLM(nn.Module):
    """A BERT encoder whose tokens' mean, normalized, is the embedding of a sentence.

    Its ``state_dict`` has the names of Hugging Face's ``BertModel`` without the pooler, which sentences do not use.

    Args:
        config: the sizes.

    Calling it takes tokens ``[batch, length]``, integers, and a mask of the same shape, True or 1 where there is a
    token and no padding, and returns embeddings ``[batch, width]`` of length 1, whose products are cosines.
    :meth:`encode` takes sentences.

    Raises:
        ShapeError: there are more tokens than positions.

    Source: Wang et al., "MiniLM" (2020); Reimers and Gurevych, "Sentence-BERT" (2019).

    Example:
        >>> import volta_mlir as volta
        >>> model = MiniLM(Config(vocabulary=11, context=8, width=16, layers=2, heads=4, hidden=32))
        >>> model(volta.zeros((3, 5), "int32"), volta.ones((3, 5), "int32")).shape
        (3, 16)
    """

    def __init__(self, config: Config = Config()) -> None:
        self.config = config
        self.embeddings = _Embeddings(config)
        self.encoder = _Encoder(config)
        self.tokenizer: Any = None

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        hidden = self.hidden(tokens, mask)
        present = volta.expand_dims(mask, -1).astype(hidden.dtype)
        mean = (hidden * present).sum(1) / volta.maximum(present.sum(1), 1e-9)
        return F.normalize(mean, dim=-1)

    def hidden(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """The features of each token ``[batch, length, width]``."""
        if tokens.shape[1] > self.config.context:
            raise ShapeError(f"MiniLM has {self.config.context} positions, got {tokens.shape[1]} tokens")
        return self.encoder(self.embeddings(tokens), mask != 0)

    def encode(self, sentences: str | Sequence[str]) -> np.ndarray:
        """The embeddings of sentences ``[sentences, width]``, or of one ``[width]``, float32.

        Sentences are cut to 256 tokens, as the model was trained. Batches are padded to a power of two, so that few
        programs are compiled.

        Raises:
            WeightsError: the model has no tokenizer: it was not made by :meth:`from_pretrained`.
            ValueError: there is no sentence.
        """
        from volta_mlir.tokens import padded_size

        if self.tokenizer is None:
            raise WeightsError("this model has no tokenizer; MiniLM.from_pretrained loads one")
        texts = [sentences] if isinstance(sentences, str) else list(sentences)
        if not texts:
            raise ValueError("there is no sentence to encode")
        most = self.config.context // 2
        rows = [self.tokenizer.encode(text) for text in texts]
        # What is cut still ends with the token that ends a text.
        rows = [row if len(row) <= most else [*row[: most - 1], row[-1]] for row in rows]
        tokens = np.zeros((padded_size(len(rows), 1), padded_size(max(map(len, rows)), 16)), np.int32)
        mask = np.zeros_like(tokens)
        for number, row in enumerate(rows):
            tokens[number, : len(row)], mask[number, : len(row)] = row, 1
        found = np.array(_embed(self, Tensor(tokens), Tensor(mask)).numpy()[: len(rows)])
        return found[0] if isinstance(sentences, str) else found

    @classmethod
    def from_pretrained(cls, path: str | os.PathLike[str]) -> MiniLM:
        """Loads ``model.safetensors``, ``config.json`` and ``tokenizer.json`` from a directory or a zip file of it.

        Raises:
            WeightsError: a file is missing, damaged, or of another architecture.
            ShapeError: names or shapes are not those of the model.
        """
        from volta_mlir.models.huggingface import load, require
        from volta_mlir.tokens import Tokenizer

        settings, tensors = load(path)
        if settings.get("model_type") != "bert":
            raise WeightsError(f"config.json describes a {settings.get('model_type')} model, expected bert")
        require(settings, hidden_act=("gelu",), position_embedding_type=("absolute",), is_decoder=(False,))
        config = Config(
            settings["vocab_size"], settings["max_position_embeddings"], settings["hidden_size"],
            settings["num_hidden_layers"], settings["num_attention_heads"], settings["intermediate_size"],
            settings["layer_norm_eps"],
        )  # fmt: skip
        with nn.init.skipped():
            model = cls(config)
        skipped = ("pooler.", "embeddings.position_ids")
        model.load_state_dict({name: x for name, x in tensors.items() if not name.startswith(skipped)})
        model.tokenizer = Tokenizer.from_file(path)
        return model.eval()


@volta.jit
def _embed(model: MiniLM, tokens: Tensor, mask: Tensor) -> Tensor:
    return model(tokens, mask)
