"""Residual networks: ResNet-18 and ResNet-50."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import volta_mlir as volta
from volta_mlir import nn
from volta_mlir.models.images import checked_images, with_weights
from volta_mlir.tensor import Tensor


def conv(in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    """A convolution without bias that keeps the extent, or divides it by the stride; at first as He et al. (2015)."""
    layer = nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2, bias=False)
    layer.weight = nn.init.kaiming_normal(layer.weight.shape, mode="fan_out", nonlinearity="relu")
    return layer


def shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Sequential | None:
    """What a block adds its result to: its input where that fits, otherwise a projection of it."""
    if stride == 1 and in_channels == out_channels:
        return None
    return nn.Sequential(conv(in_channels, out_channels, 1, stride), nn.BatchNorm2d(out_channels))


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut."""

    expansion = 1

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        self.conv1, self.bn1 = conv(in_channels, channels, 3, stride), nn.BatchNorm2d(channels)
        self.conv2, self.bn2 = conv(channels, channels, 3), nn.BatchNorm2d(channels)
        self.downsample = shortcut(in_channels, channels, stride)

    def forward(self, x: Any) -> Tensor:
        y = nn.functional.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return nn.functional.relu(y + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    """A 3×3 convolution of few channels between two 1×1 ones, and a shortcut; the 3×3 one has the stride."""

    expansion = 4

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        out_channels = channels * self.expansion
        self.conv1, self.bn1 = conv(in_channels, channels, 1), nn.BatchNorm2d(channels)
        self.conv2, self.bn2 = conv(channels, channels, 3, stride), nn.BatchNorm2d(channels)
        self.conv3, self.bn3 = conv(channels, out_channels, 1), nn.BatchNorm2d(out_channels)
        self.downsample = shortcut(in_channels, out_channels, stride)

    def forward(self, x: Any) -> Tensor:
        y = nn.functional.relu(self.bn1(self.conv1(x)))
        y = nn.functional.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return nn.functional.relu(y + (x if self.downsample is None else self.downsample(x)))


Block = type[BasicBlock] | type[Bottleneck]


def stage(block: Block, in_channels: int, channels: int, count: int, stride: int) -> nn.Sequential:
    """Blocks of the same extent, of which the first divides that of its input by the stride."""
    first = block(in_channels, channels, stride)
    return nn.Sequential(first, *(block(channels * block.expansion, channels, 1) for _ in range(count - 1)))


class ResNet(nn.Module):
    """A residual network; :func:`resnet18` and :func:`resnet50` are two of the paper's.

    Args:
        block: :class:`BasicBlock` or :class:`Bottleneck`.
        layers: how many blocks each of the four stages has.
        num_classes: how many classes there are scores for.
        in_channels: of the images.

    Calling it takes images ``[N, in_channels, H, W]`` of any size, those of ImageNet prepared with
    :func:`preprocess <volta_mlir.models.images.preprocess>`, and returns scores (logits) ``[N, num_classes]``.

    Raises:
        ShapeError: images of another shape.

    Names in the ``state_dict`` are torchvision's, so that its checkpoints load.

    Source: He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition" (2015). Reference implementation:
    torchvision's, whose bottlenecks have the stride in the 3×3 convolution, not in the first one as in the paper.

    Example:
        >>> model = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=10).eval()
        >>> model(volta.zeros((1, 3, 32, 32))).shape
        (1, 10)
    """

    def __init__(self, block: Block, layers: Sequence[int], num_classes: int = 1000, in_channels: int = 3) -> None:
        self.in_channels, expansion = in_channels, block.expansion
        self.conv1, self.bn1 = conv(in_channels, 64, 7, stride=2), nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = stage(block, 64, 64, layers[0], stride=1)
        self.layer2 = stage(block, 64 * expansion, 128, layers[1], stride=2)
        self.layer3 = stage(block, 128 * expansion, 256, layers[2], stride=2)
        self.layer4 = stage(block, 256 * expansion, 512, layers[3], stride=2)
        self.fc = nn.Linear(512 * expansion, num_classes)

    def features(self, images: Any) -> Tensor:
        """What the last layer sees: ``[N, 512]``, or ``[N, 2048]`` of bottlenecks.

        >>> ResNet(Bottleneck, [1, 1, 1, 1]).eval().features(volta.zeros((1, 3, 32, 32))).shape
        (1, 2048)
        """
        x = checked_images(self, images, self.in_channels)
        x = self.maxpool(nn.functional.relu(self.bn1(self.conv1(x))))
        return self.layer4(self.layer3(self.layer2(self.layer1(x)))).mean((2, 3))

    def forward(self, images: Any) -> Tensor:
        return self.fc(self.features(images))

    @classmethod
    def from_pretrained(cls, path: str | os.PathLike[str], num_classes: int | None = None) -> ResNet:
        """The network with the weights of a file, in evaluation mode; their names tell how many blocks there are.

        Args:
            path: a checkpoint of torchvision's ResNet-18, -34, -50, -101 or -152, or a file that
                :func:`volta_mlir.weights.save` wrote.
            num_classes: by default as many as in the file; for another number the last layer is a new one.

        Raises:
            WeightsError: the file can't be read.
            ShapeError: names are missing or unexpected, or shapes differ; the message lists them.

        >>> volta.weights.save("/tmp/volta-resnet.safetensors", ResNet(BasicBlock, [1, 1, 2, 1]).state_dict())
        >>> ResNet.from_pretrained("/tmp/volta-resnet.safetensors", num_classes=10).fc
        Linear(in_features=512, out_features=10, bias=True)
        """
        weights = volta.weights.load(path)
        block = Bottleneck if "layer1.0.conv3.weight" in weights else BasicBlock
        blocks = {tuple(name.split(".")[:2]) for name in weights if name.startswith("layer")}
        layers = [sum(stage == f"layer{i}" for stage, _ in blocks) for i in range(1, 5)]
        return with_weights(lambda classes: cls(block, layers, classes), weights, "fc", num_classes)


def resnet18(num_classes: int = 1000, in_channels: int = 3) -> ResNet:
    """ResNet-18, 11.7 million parameters with 1000 classes; see :class:`ResNet`.

    >>> list(resnet18().state_dict())[:2]
    ['conv1.weight', 'bn1.weight']
    """
    return ResNet(BasicBlock, [2, 2, 2, 2], num_classes, in_channels)


def resnet50(num_classes: int = 1000, in_channels: int = 3) -> ResNet:
    """ResNet-50, 25.6 million parameters with 1000 classes; see :class:`ResNet`.

    >>> resnet50(num_classes=10).fc
    Linear(in_features=2048, out_features=10, bias=True)
    """
    return ResNet(Bottleneck, [3, 4, 6, 3], num_classes, in_channels)
