"""The vision transformer: attention among the patches of an image."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import volta_mlir as volta
from volta_mlir import nn
from volta_mlir.errors import OptionError, ShapeError
from volta_mlir.models.images import checked_images, with_weights
from volta_mlir.tensor import Tensor


def linear(in_features: int, out_features: int) -> nn.Linear:
    """A linear layer whose weights are small at first, and its biases zero."""
    layer = nn.Linear(in_features, out_features)
    layer.weight = nn.init.trunc_normal(layer.weight.shape, std=0.02)
    layer.bias = nn.init.zeros(out_features)
    return layer


class Attention(nn.Module):
    """Attention of several heads among all patches."""

    def __init__(self, dim: int, num_heads: int) -> None:
        self.num_heads = num_heads
        self.qkv, self.proj = linear(dim, 3 * dim), linear(dim, dim)

    def forward(self, x: Any) -> Tensor:
        batch, patches, dim = x.shape
        qkv = self.qkv(x).reshape(batch, patches, 3, self.num_heads, dim // self.num_heads)
        q, k, v = volta.transpose(qkv, (2, 0, 3, 1, 4))  # each [batch, head, patch, feature]
        y = nn.functional.scaled_dot_product_attention(q, k, v)
        return self.proj(volta.swapaxes(y, 1, 2).reshape(batch, patches, dim))


class Block(nn.Module):
    """Attention, then a perceptron of two layers, each after a normalization and added to its input."""

    def __init__(self, dim: int, num_heads: int, dropout: float) -> None:
        self.norm1, self.attn = nn.LayerNorm(dim, eps=1e-6), Attention(dim, num_heads)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = nn.Sequential({"fc1": linear(dim, 4 * dim), "act": nn.GELU(), "fc2": linear(4 * dim, dim)})
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Any) -> Tensor:
        x = x + self.drop(self.attn(self.norm1(x)))
        return x + self.drop(self.mlp(self.norm2(x)))


class ViT(nn.Module):
    """A vision transformer; :func:`vit_tiny`, :func:`vit_small` and :func:`vit_base` are the usual ones.

    Args:
        num_classes: how many classes there are scores for.
        in_channels: of the images.
        image_size: height and width of the images, in pixels.
        patch_size: height and width of a patch, in pixels.
        dim: features of a patch.
        depth: how many blocks there are.
        num_heads: of the attention, by default one for every 64 features.
        dropout: the probability with which a feature is dropped in training, where patches come in and in each block.

    Calling it takes images ``[N, in_channels, image_size, image_size]`` and returns scores (logits)
    ``[N, num_classes]``.

    Raises:
        ValueError: patches do not fill the image, or heads do not share the features.
        ShapeError: images of another shape.

    Names in the ``state_dict`` are those of timm, DeiT and MAE.

    Source: Dosovitskiy et al., "An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale" (2020).
    Reference implementations: timm's ``VisionTransformer`` and transformers' ``ViTForImageClassification``.

    Example:
        >>> model = ViT(num_classes=10, image_size=32, patch_size=8, dim=64, depth=2).eval()
        >>> model(volta.zeros((1, 3, 32, 32))).shape
        (1, 10)
    """

    def __init__(
        self,
        num_classes: int = 1000,
        in_channels: int = 3,
        image_size: int = 224,
        patch_size: int = 16,
        dim: int = 768,
        depth: int = 12,
        num_heads: int | None = None,
        dropout: float = 0.0,
    ) -> None:
        num_heads = max(1, dim // 64) if num_heads is None else num_heads
        if image_size % patch_size:
            raise OptionError(f"ViT: image_size must be divisible by patch_size, got {image_size} and {patch_size}")
        if dim % num_heads:
            raise OptionError(f"ViT: dim must be divisible by num_heads, got {dim} and {num_heads}")
        self.in_channels, self.image_size = in_channels, image_size
        self.cls_token = nn.Parameter(nn.init.trunc_normal((1, 1, dim), std=0.02))
        self.pos_embed = nn.Parameter(nn.init.trunc_normal((1, (image_size // patch_size) ** 2 + 1, dim), std=0.02))
        self.patch_embed = nn.Sequential({"proj": nn.Conv2d(in_channels, dim, patch_size, stride=patch_size)})
        self.drop = nn.Dropout(dropout)
        self.blocks = nn.Sequential(*(Block(dim, num_heads, dropout) for _ in range(depth)))
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.head = linear(dim, num_classes)

    def features(self, images: Any) -> Tensor:
        """What the last layer sees, the class token: ``[N, dim]``.

        >>> model = ViT(image_size=32, patch_size=8, dim=64, depth=2).eval()
        >>> model.features(volta.zeros((1, 3, 32, 32))).shape
        (1, 64)
        """
        x = self.patch_embed(checked_images(self, images, self.in_channels, self.image_size))
        x = volta.swapaxes(x.reshape(*x.shape[:2], -1), 1, 2)
        x = volta.concatenate([volta.broadcast_to(self.cls_token, (x.shape[0], 1, x.shape[2])), x], axis=1)
        x = self.blocks(self.drop(x + self.pos_embed))
        return self.norm(x[:, 0])

    def forward(self, images: Any) -> Tensor:
        return self.head(self.features(images))

    @classmethod
    def from_pretrained(
        cls, path: str | os.PathLike[str], num_classes: int | None = None, num_heads: int | None = None
    ) -> ViT:
        """The model with the weights of a file, in evaluation mode; their shapes tell its sizes.

        Args:
            path: a checkpoint of timm's, or the ``model.safetensors`` of transformers' ``ViTForImageClassification``,
                or a file that :func:`volta_mlir.weights.save` wrote.
            num_classes: by default as many as in the file; for another number the last layer is a new one.
            num_heads: by default one for every 64 features.

        Raises:
            WeightsError: the file can't be read.
            ShapeError: names are missing or unexpected, or shapes differ; the message lists them.

        >>> model = ViT(num_classes=7, image_size=32, patch_size=8, dim=64, depth=2)
        >>> volta.weights.save("/tmp/volta-vit.safetensors", model.state_dict())
        >>> ViT.from_pretrained("/tmp/volta-vit.safetensors").head
        Linear(in_features=64, out_features=7, bias=True)
        """
        weights = as_timm(volta.weights.load(path))
        missing = [name for name in ("pos_embed", "patch_embed.proj.weight") if name not in weights]
        if missing:
            raise ShapeError(f"these are not the weights of a ViT; missing: {', '.join(missing)}")
        _, positions, dim = weights["pos_embed"].shape
        _, in_channels, patch_size, _ = weights["patch_embed.proj.weight"].shape
        image_size = round((positions - 1) ** 0.5) * patch_size
        depth = len({name.split(".")[1] for name in weights if name.startswith("blocks.")})
        return with_weights(
            lambda classes: cls(classes, in_channels, image_size, patch_size, dim, depth, num_heads),
            weights,
            "head",
            num_classes,
        )


def vit_tiny(num_classes: int = 1000, in_channels: int = 3, image_size: int = 224, patch_size: int = 16) -> ViT:
    """ViT-Ti of DeiT, 5.7 million parameters with 1000 classes; see :class:`ViT`.

    >>> vit_tiny(num_classes=10).head
    Linear(in_features=192, out_features=10, bias=True)
    """
    return ViT(num_classes, in_channels, image_size, patch_size, dim=192)


def vit_small(num_classes: int = 1000, in_channels: int = 3, image_size: int = 224, patch_size: int = 16) -> ViT:
    """ViT-S of DeiT, 22 million parameters with 1000 classes; see :class:`ViT`.

    >>> vit_small(num_classes=10).head
    Linear(in_features=384, out_features=10, bias=True)
    """
    return ViT(num_classes, in_channels, image_size, patch_size, dim=384)


def vit_base(num_classes: int = 1000, in_channels: int = 3, image_size: int = 224, patch_size: int = 16) -> ViT:
    """ViT-B, 87 million parameters with 1000 classes; see :class:`ViT`.

    >>> vit_base(num_classes=10).head
    Linear(in_features=768, out_features=10, bias=True)
    """
    return ViT(num_classes, in_channels, image_size, patch_size, dim=768)


#: What transformers calls parts of the names that timm has, in the order in which to replace them.
_TRANSFORMERS = (
    ("vit.", ""),
    ("embeddings.cls_token", "cls_token"),
    ("embeddings.position_embeddings", "pos_embed"),
    ("embeddings.patch_embeddings.projection", "patch_embed.proj"),
    ("encoder.layer.", "blocks."),
    ("layernorm_before", "norm1"),
    ("layernorm_after", "norm2"),
    ("layernorm", "norm"),
    ("attention.attention.", "attn."),
    ("attention.output.dense", "attn.proj"),
    ("intermediate.dense", "mlp.fc1"),
    ("output.dense", "mlp.fc2"),
    ("classifier", "head"),
)


def as_timm(weights: Mapping[str, Any]) -> dict[str, Any]:
    """Weights with timm's names: those of transformers' files are renamed, with queries, keys and values joined.

    >>> part = {f"vit.encoder.layer.0.attention.attention.{x}.bias": volta.ones(2) for x in ("query", "key", "value")}
    >>> {name: tensor.shape for name, tensor in as_timm(part).items()}
    {'blocks.0.attn.qkv.bias': (6,)}
    """
    renamed = {}
    for name, value in weights.items():
        for theirs, ours in _TRANSFORMERS:
            name = name.replace(theirs, ours)
        if not name.startswith("pooler."):  # of models without a classifier, which don't use it to classify
            renamed[name] = value
    for name in list(renamed):
        parts = [name.replace("query", part) for part in ("query", "key", "value")]
        if ".attn.query." in name and all(part in renamed for part in parts):
            renamed[name.replace("query", "qkv")] = volta.concatenate([renamed.pop(part) for part in parts])
    return renamed
