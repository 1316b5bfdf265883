"""The workloads, as names, sizes and inputs; how each framework computes them is in its own module.

Inputs come from a seeded generator, so that every process makes the same ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.models import gpt

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Kernel:
    """A function of tensors.

    Attributes:
        function: its name in the frameworks' modules.
        shapes: of the operands; with ``backward``, the last is the result's.
        quick: smaller ones.
        dtype: of operands and result.
        backward: whether the gradients of all operands are computed too, from a cotangent of the result.
    """

    name: str
    function: str
    shapes: tuple[tuple[int, ...], ...]
    quick: tuple[tuple[int, ...], ...]
    dtype: str = "float32"
    backward: bool = False

    @property
    def tolerance(self) -> float:
        """The relative error, norm-wise per result, that frameworks may differ by."""
        return 1e-5 if self.dtype == "float32" else 1e-2

    def operands(self, quick: bool) -> list[np.ndarray]:
        """The operands, as float32."""
        rng = np.random.default_rng(0)
        return [rng.standard_normal(shape).astype(np.float32) for shape in (self.quick if quick else self.shapes)]


@dataclass(frozen=True)
class Training:
    """A training step: parameters and optimizer state in and out.

    Attributes:
        model: its name in the frameworks' modules.
        config: what the model's builders take.
        quick: a smaller one.
    """

    name: str
    model: str
    config: Any
    quick: Any
    tolerance: float = 1e-4


@dataclass(frozen=True)
class MLP:
    """Sizes of a multi-layer perceptron with ReLU, trained by Adam."""

    widths: tuple[int, ...]
    batch: int

    def parameters(self) -> Arrays:
        """Weights and biases under the names that PyTorch's ``Sequential`` gives them."""
        rng = np.random.default_rng(0)
        arrays: Arrays = {}
        for i, (inputs, outputs) in enumerate(zip(self.widths, self.widths[1:], strict=False)):
            weight = rng.standard_normal((outputs, inputs)) / np.sqrt(inputs)
            arrays[f"{2 * i}.weight"] = weight.astype(np.float32)
            arrays[f"{2 * i}.bias"] = np.zeros(outputs, np.float32)
        return arrays

    def examples(self) -> tuple[np.ndarray, np.ndarray]:
        """Inputs and classes."""
        rng = np.random.default_rng(1)
        inputs = rng.standard_normal((self.batch, self.widths[0])).astype(np.float32)
        return inputs, rng.integers(0, self.widths[-1], self.batch, dtype=np.int32)


@dataclass(frozen=True)
class ResNet:
    """Sizes of a residual network for 1000 classes, trained by SGD with momentum."""

    depth: int
    batch: int
    size: int

    def parameters(self) -> Arrays:
        """Weights, biases and statistics under the names that torchvision gives them."""
        from volta_mlir import models, nn

        nn.manual_seed(0)
        model = models.resnet18() if self.depth == 18 else models.resnet50()
        return {name: np.array(tensor.numpy()) for name, tensor in model.state_dict().items()}

    def examples(self) -> tuple[np.ndarray, np.ndarray]:
        """Images and classes."""
        rng = np.random.default_rng(1)
        images = rng.standard_normal((self.batch, 3, self.size, self.size)).astype(np.float32)
        return images, rng.integers(0, 1000, self.batch, dtype=np.int32)


def _matmul(n: int, dtype: str) -> Kernel:
    short = {"float32": "f32", "bfloat16": "bf16"}[dtype]
    return Kernel(f"matmul {n} {short}", "matmul", ((n, n), (n, n)), ((64, 64), (64, 64)), dtype)


def _both(name: str, function: str, shapes: Any, quick: Any) -> tuple[Kernel, Kernel]:
    """The forward computation, and it with its gradients; the last shapes are those of the results."""
    return (
        Kernel(f"{name} forward", function, shapes[:-1], quick[:-1]),
        Kernel(f"{name} forward and backward", function, shapes, quick, backward=True),
    )


_IMAGES, _HEADS, _SQUARE = (8, 56, 56, 64), (8, 6, 256, 64), (2048, 2048)

_ALL: tuple[Kernel | Training, ...] = (
    Training("MLP step, digits", "mlp", MLP((64, 128, 128, 10), 64), MLP((8, 16, 4), 8)),
    Training("MLP step, 784-1024-1024-10", "mlp", MLP((784, 1024, 1024, 10), 256), MLP((16, 32, 4), 8)),
    Training("GPT step", "gpt", gpt.Config(), gpt.SMALL),
    *(_matmul(n, dtype) for dtype in ("float32", "bfloat16") for n in (512, 1024, 2048)),
    *_both("conv2d 3x3", "conv2d", (_IMAGES, (3, 3, 64, 64), _IMAGES), ((2, 8, 8, 4), (3, 3, 4, 4), (2, 8, 8, 4))),
    *_both("attention", "attention", (_HEADS,) * 4, ((2, 2, 16, 8),) * 4),
    *_both("attention, 4096 tokens", "attention", ((1, 4, 4096, 64),) * 4, ((1, 2, 40, 8),) * 4),
    Kernel("sum of rows", "sum_rows", (_SQUARE,), ((16, 16),)),
    Kernel("sum of columns", "sum_columns", (_SQUARE,), ((16, 16),)),
    Kernel("softmax", "softmax", (_SQUARE,), ((16, 16),)),
    *_both("layer norm", "layer_norm", (_SQUARE, (2048,), (2048,), _SQUARE), ((16, 16), (16,), (16,), (16, 16))),
)

Workload = Kernel | Training

#: What ``make bench`` measures, by name, in the order of the report.
WORKLOADS: dict[str, Workload] = {workload.name: workload for workload in _ALL}

_DEEP = MLP((512,) * 101, 2048)

#: Training steps whose memory ``make bench-memory`` measures.
MEMORY_WORKLOADS: dict[str, Training] = {
    workload.name: workload
    for workload in (
        Training("GPT, 6 layers", "gpt", gpt.Config(), gpt.SMALL),
        Training("GPT, 12 layers", "gpt", gpt.Config(12, width=768, heads=12, context=512, batch=4), gpt.SMALL),
        Training("ResNet-18, 16 images", "resnet", ResNet(18, 16, 224), ResNet(18, 2, 32)),
        Training("ResNet-50, 16 images", "resnet", ResNet(50, 16, 224), ResNet(50, 2, 32)),
        Training("MLP, 100 layers", "mlp", _DEEP, MLP((16,) * 6, 256)),
    )
}
