"""SmolLM2, a small language model of the Llama architecture."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import volta_mlir as volta
from volta_mlir import Tensor, nn, weights
from volta_mlir.errors import WeightsError
from volta_mlir.models.cache import Cache, attention
from volta_mlir.nn import functional as F


@dataclass(frozen=True)
class Config:
    """The sizes of a model; the defaults are those of SmolLM2-135M.

    Attributes:
        vocabulary: how many tokens there are.
        context: the longest sequence that the model was trained for.
        width: features of a token.
        layers: how many there are.
        heads, kv_heads: of queries, and of keys and values; the first is a multiple of the second.
        hidden: features between the products of a feed-forward layer.
        theta: base of the rotary encoding.
        epsilon: in the norms.
    """

    vocabulary: int = 49152
    context: int = 8192
    width: int = 576
    layers: int = 30
    heads: int = 9
    kv_heads: int = 3
    hidden: int = 1536
    theta: float = 100000.0
    epsilon: float = 1e-5


#: The published sizes.
SIZES = {
    "135M": Config(),
    "360M": Config(width=960, layers=32, heads=15, kv_heads=5, hidden=2560),
    "1.7B": Config(width=2048, layers=24, heads=32, kv_heads=32, hidden=8192, theta=130000.0),
}


class _Attention(nn.Module):
    def __init__(self, config: Config) -> None:
        self.width = config.width // config.heads
        self.q_proj = nn.Linear(config.width, config.heads * self.width, bias=False)
        self.k_proj = nn.Linear(config.width, config.kv_heads * self.width, bias=False)
        self.v_proj = nn.Linear(config.width, config.kv_heads * self.width, bias=False)
        self.o_proj = nn.Linear(config.heads * self.width, config.width, bias=False)
        self.rotate = nn.RotaryPositionalEncoding(self.width, config.theta)

    def forward(self, x: Tensor, cache: Cache | None, layer: int) -> tuple[Tensor, Cache | None]:
        batch, length, _ = x.shape
        q, k, v = (
            projection(x).reshape(batch, length, -1, self.width).swapaxes(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        positions = volta.arange(length) if cache is None else volta.expand_dims(cache.positions(length), 1)
        q, k = (self.rotate(each, positions=positions) for each in (q, k))
        mixed, cache = attention(q, k, v, cache, layer)
        return self.o_proj(mixed.swapaxes(1, 2).reshape(batch, length, -1)), cache


class _FeedForward(nn.Module):
    def __init__(self, config: Config) -> None:
        self.gate_proj = nn.Linear(config.width, config.hidden, bias=False)
        self.up_proj = nn.Linear(config.width, config.hidden, bias=False)
        self.down_proj = nn.Linear(config.hidden, config.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class _Layer(nn.Module):
    def __init__(self, config: Config) -> None:
        self.self_attn = _Attention(config)
        self.mlp = _FeedForward(config)
        self.input_layernorm = nn.RMSNorm(config.width, config.epsilon)
        self.post_attention_layernorm = nn.RMSNorm(config.width, config.epsilon)

    def forward(self, x: Tensor, cache: Cache | None, layer: int) -> tuple[Tensor, Cache | None]:
        mixed, cache = self.self_attn(self.input_layernorm(x), cache, layer)
        x = x + mixed
        return x + self.mlp(self.post_attention_layernorm(x)), cache


class _Decoder(nn.Module):
    def __init__(self, config: Config) -> None:
        self.embed_tokens = nn.Embedding(config.vocabulary, config.width)
        self.layers = nn.ModuleList([_Layer(config) for _ in range(config.layers)])
        self.norm = nn.RMSNorm(config.width, config.epsilon)

    def forward(self, tokens: Tensor, cache: Cache | None) -> tuple[Tensor, Cache | None]:
        x = self.embed_tokens(tokens)
        for number, layer in enumerate(self.layers):
            x, cache = layer(x, cache, number)
        return self.norm(x), cache


class SmolLM2(nn.Module):
    """A decoder with rotary positions, grouped queries, RMS norms and SwiGLU; the output is the embedding, transposed.

    Its ``state_dict`` has the names of Hugging Face's ``LlamaForCausalLM``.

    Args:
        config: the sizes.

    Calling it takes tokens ``[batch, length]``, integers, and returns scores of the next one
    ``[batch, length, vocabulary]``. With a :class:`volta_mlir.models.cache.Cache` it takes the tokens that come next,
    and returns the cache too; :func:`volta_mlir.generation.generate` does that.

    Source: Allal et al., "SmolLM2: When Smol Goes Big" (2025); Touvron et al., "LLaMA" (2023); Hugging Face's
    ``modeling_llama.py``.

    Example:
        >>> import volta_mlir as volta
        >>> config = Config(vocabulary=11, width=16, layers=2, heads=4, kv_heads=2, hidden=32)
        >>> SmolLM2(config)(volta.zeros((1, 5), "int32")).shape
        (1, 5, 11)
    """

    def __init__(self, config: Config = SIZES["135M"]) -> None:
        self.config = config
        self.model = _Decoder(config)

    def forward(self, tokens: Tensor, cache: Cache | None = None) -> Any:
        x, kept = self.model(tokens, cache)
        scores = x @ self.model.embed_tokens.weight.T
        return scores if cache is None else (scores, kept)

    def new_cache(self, batch: int, capacity: int) -> Cache:
        """An empty cache for this many sequences and tokens."""
        config = self.config
        return Cache.empty(config.layers, batch, config.kv_heads, capacity, config.width // config.heads)

    @classmethod
    def from_pretrained(cls, path: str | os.PathLike[str]) -> SmolLM2:
        """Loads a GGUF file of the Llama architecture, or Hugging Face's ``model.safetensors`` and ``config.json``.

        Args:
            path: the ``.gguf`` file, or the directory or ``.safetensors`` file of a Hugging Face model.

        Raises:
            WeightsError: the file is missing, damaged, or of another architecture.
            ShapeError: names or shapes are not those of the model.
        """
        path = Path(path)
        if path.suffix == ".gguf":
            config = _config_of_gguf(path)
            tensors = weights.load(path, dtype="float32")
            output = tensors.pop("output.weight", None)
            if output is not None and not np.array_equal(output.numpy(), tensors["token_embd.weight"].numpy()):
                raise WeightsError(f"{path} has an output.weight that is not the embedding; expected tied embeddings")
            state: dict[str, Any] = {_name_of_gguf(name): tensor for name, tensor in tensors.items()}
            for name in list(state):
                if name.endswith(("q_proj.weight", "k_proj.weight")):
                    heads = config.heads if name.endswith("q_proj.weight") else config.kv_heads
                    state[name] = _halves(state[name], heads)
        else:
            from volta_mlir.models.huggingface import load

            settings, state = load(path)
            config = _config_of_settings(settings)
            state.pop("lm_head.weight", None)  # a copy of the embedding, in files that have it
        with nn.init.skipped():
            model = cls(config)
        model.load_state_dict(state)
        return model.eval()


def _config_of_settings(settings: Mapping[str, Any]) -> Config:
    kind = settings.get("model_type")
    if kind != "llama" or not settings.get("tie_word_embeddings", False):
        raise WeightsError(f"config.json describes a {kind} model; expected llama with tied embeddings")
    from volta_mlir.models.huggingface import require

    # Newer files have the settings of the rotary encoding together, older ones apart.
    rotary = settings.get("rope_parameters") or settings.get("rope_scaling") or {}
    require(settings, hidden_act=("silu",))
    require(rotary, rope_type=("default",), type=("default",))
    return Config(
        vocabulary=settings["vocab_size"],
        context=settings["max_position_embeddings"],
        width=settings["hidden_size"],
        layers=settings["num_hidden_layers"],
        heads=settings["num_attention_heads"],
        kv_heads=settings.get("num_key_value_heads", settings["num_attention_heads"]),
        hidden=settings["intermediate_size"],
        theta=float(settings.get("rope_theta") or rotary.get("rope_theta", 10000.0)),
        epsilon=settings["rms_norm_eps"],
    )


def _config_of_gguf(path: Path) -> Config:
    values = weights.metadata(path)
    architecture = values.get("general.architecture")
    if architecture != "llama":
        raise WeightsError(f"{path} is of the architecture {architecture}, expected llama")
    missing = [key for key in _GGUF_KEYS.values() if key not in values]
    if missing:
        raise WeightsError(f"{path} does not say {', '.join(missing)}")
    found = {field: values[key] for field, key in _GGUF_KEYS.items()}
    scaling, rotated = values.get("llama.rope.scaling.type", "none"), values.get("llama.rope.dimension_count")
    if scaling != "none" or rotated not in (None, found["width"] // found["heads"]):
        raise WeightsError(
            f"{path} has a rotary encoding with scaling {scaling} of {rotated} features; expected none, of whole heads"
        )
    return Config(vocabulary=len(values["tokenizer.ggml.tokens"]), **found)


_GGUF_KEYS = {
    "context": "llama.context_length",
    "width": "llama.embedding_length",
    "layers": "llama.block_count",
    "heads": "llama.attention.head_count",
    "kv_heads": "llama.attention.head_count_kv",
    "hidden": "llama.feed_forward_length",
    "theta": "llama.rope.freq_base",
    "epsilon": "llama.attention.layer_norm_rms_epsilon",
}
_GGUF_NAMES = {
    "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}  # fmt: skip


def _name_of_gguf(name: str) -> str:
    """Hugging Face's name of a tensor."""
    if name.startswith("blk."):
        _, number, part, kind = name.split(".", 3)
        return f"model.layers.{number}.{_GGUF_NAMES.get(part, part)}.{kind}"
    return {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}.get(name, name)


def _halves(weight: Tensor, heads: int) -> np.ndarray:
    """Rows for rotations of the halves of a head, of rows for rotations of neighbours, which is how GGUF has them."""
    rows = weight.numpy().reshape(heads, -1, 2, weight.shape[-1])
    return np.ascontiguousarray(rows.swapaxes(1, 2)).reshape(weight.shape)
