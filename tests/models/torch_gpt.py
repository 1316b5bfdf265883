"""The model of :mod:`tests.models.gpt` in PyTorch, over the same dict of parameters."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from tests.models.gpt import BETA1, BETA2, EPSILON, LEARNING_RATE, WEIGHT_DECAY

Parameters = dict[str, Any]


def layer_norm(p: Parameters, x: torch.Tensor) -> torch.Tensor:
    return F.layer_norm(x, x.shape[-1:], p["weight"], p["bias"])


def linear(p: Parameters, x: torch.Tensor) -> torch.Tensor:
    return F.linear(x, p["weight"].T, p["bias"])


def block(p: Parameters, x: torch.Tensor, heads: int) -> torch.Tensor:
    batch, length, width = x.shape
    qkv = linear(p["qkv"], layer_norm(p["norm1"], x))
    q, k, v = (t.view(batch, length, heads, width // heads).transpose(1, 2) for t in torch.chunk(qkv, 3, -1))
    mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    x = x + linear(p["attention"], mixed.transpose(1, 2).reshape(x.shape))
    return x + linear(p["down"], F.gelu(linear(p["up"], layer_norm(p["norm2"], x)), approximate="tanh"))


def loss(params: Parameters, tokens: torch.Tensor, targets: torch.Tensor, heads: int) -> torch.Tensor:
    """The mean cross-entropy of a batch."""
    x = F.embedding(tokens, params["tokens"]) + params["positions"]
    for p in params["blocks"]:
        x = block(p, x, heads)
    scores = layer_norm(params["norm"], x) @ params["tokens"].T
    return F.cross_entropy(scores.flatten(0, 1), targets.flatten().long())


def optimizer(leaves: list[torch.Tensor]) -> torch.optim.Optimizer:
    """AdamW as in :func:`tests.models.gpt.adamw`."""
    groups = [
        {"params": [p for p in leaves if p.ndim > 1], "weight_decay": WEIGHT_DECAY},
        {"params": [p for p in leaves if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=LEARNING_RATE, betas=(BETA1, BETA2), eps=EPSILON, fused=True)
