"""The residual networks of :mod:`volta_mlir.models.resnet` in PyTorch, with the same names."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class Block(nn.Module):
    """Convolutions with batch norms, and a shortcut; of three the second has the stride, of two the first."""

    def __init__(self, inputs: int, widths: tuple[int, ...], kernels: tuple[int, ...], stride: int) -> None:
        super().__init__()
        self.count = len(widths)
        strided = self.count - 2
        for number, (before, after, kernel) in enumerate(zip((inputs, *widths), widths, kernels, strict=False)):
            step = stride if number == strided else 1
            self.add_module(f"conv{number + 1}", nn.Conv2d(before, after, kernel, step, kernel // 2, bias=False))
            self.add_module(f"bn{number + 1}", nn.BatchNorm2d(after))
        if stride != 1 or inputs != widths[-1]:
            projection = nn.Conv2d(inputs, widths[-1], 1, stride, bias=False)
            self.downsample: nn.Module = nn.Sequential(projection, nn.BatchNorm2d(widths[-1]))
        else:
            self.downsample = nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x
        for number in range(1, self.count + 1):
            y = self.get_submodule(f"bn{number}")(self.get_submodule(f"conv{number}")(y))
            if number < self.count:
                y = y.relu_()
        return (y + self.downsample(x)).relu_()


class ResNet(nn.Module):
    """ResNet-18 or ResNet-50."""

    def __init__(self, depth: int, classes: int) -> None:
        super().__init__()
        layers, kernels = {18: ((2, 2, 2, 2), (3, 3)), 50: ((3, 4, 6, 3), (1, 3, 1))}[depth]
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
        inputs = 64
        for number, count in enumerate(layers):
            width = 64 << number
            widths = (width, width) if depth == 18 else (width, width, 4 * width)
            blocks = []
            for i in range(count):
                blocks.append(Block(inputs, widths, kernels, 2 if number and not i else 1))
                inputs = widths[-1]
            self.add_module(f"layer{number + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(inputs, classes)

    def forward(self, x: torch.Tensor) -> Any:
        x = nn.functional.max_pool2d(self.bn1(self.conv1(x)).relu_(), 3, 2, 1)
        for number in range(1, 5):
            x = self.get_submodule(f"layer{number}")(x)
        return self.fc(x.mean((2, 3)))
