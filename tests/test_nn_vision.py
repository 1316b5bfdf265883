"""Rearranging, padding and resizing as layers, compared with PyTorch's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tests import modules
from volta_mlir import nn
from volta_mlir.errors import ShapeError


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def case(name: str, *args: Any, shape: tuple[int, ...], **kwargs: Any) -> modules.Pair:
    ours, theirs = modules.build(name, *args, **kwargs)
    return modules.pair(ours, theirs, normal(*shape), name=repr(ours))


def test_rearranging() -> None:
    modules.check_eager(
        [
            case("Identity", 3, unused=True, shape=(2, 3)),
            case("Hardsigmoid", shape=(2, 3)),
            case("Flatten", shape=(2, 3, 4)),
            case("Flatten", 0, -2, shape=(2, 3, 4)),
            case("Unflatten", 1, (2, -1), shape=(3, 6, 2)),
            case("Unflatten", -1, (3, 2), shape=(3, 6)),
            case("PixelShuffle", 2, shape=(1, 8, 2, 3)),
            case("PixelUnshuffle", 2, shape=(1, 2, 4, 6)),
            case("ChannelShuffle", 2, shape=(1, 6, 2, 2)),
            case("Fold", (4, 5), (2, 3), stride=(2, 1), padding=(0, 1), shape=(2, 12, 10)),
            case("Unfold", (2, 3), dilation=(1, 2), shape=(2, 3, 4, 6)),
        ]
    )


def test_resizing() -> None:
    modules.check_eager(
        [
            case("Upsample", scale_factor=2, shape=(1, 2, 3)),
            case("Upsample", (5, 7), mode="bilinear", align_corners=False, shape=(1, 2, 3, 4)),
            case("Upsample", scale_factor=(1.5, 2.0), mode="bicubic", shape=(1, 2, 4, 4)),
            case("Upsample", scale_factor=1.7, recompute_scale_factor=True, mode="linear", shape=(1, 2, 5)),
            case("UpsamplingNearest2d", scale_factor=3, shape=(1, 2, 3, 4)),
            case("UpsamplingBilinear2d", size=(5, 7), shape=(1, 2, 3, 4)),
        ],
        operations=256,
    )


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_padding(axes: int) -> None:
    shape, sides = (2, 3, 4, 5, 4)[: 2 + axes], (1, 2, 2, 0, 1, 1)[: 2 * axes]
    pairs = []
    for kind, *rest in (("Constant", 2.5), ("Zero",), ("Reflection",), ("Replication",), ("Circular",)):
        for padding in (1, sides):
            for unbatched in (False, True):
                pairs.append(case(f"{kind}Pad{axes}d", padding, *rest, shape=shape[unbatched:]))
    modules.check_eager(pairs)


def test_compiled() -> None:
    modules.check_compiled(
        [
            case("ReflectionPad2d", (1, 2, 0, 1), shape=(1, 2, 3, 4)),
            case("PixelShuffle", 2, shape=(1, 4, 2, 2)),
            case("Upsample", scale_factor=2, mode="bilinear", shape=(1, 1, 3, 3)),
        ],
        operations=256,
    )


def test_bad_input() -> None:
    for layer, shape, message in (
        (nn.Unflatten(1, (4, 2)), (3, 6), r"\(4, 2\) does not multiply to 6, axis 1 of float32\[3,6\]"),
        (nn.Unflatten(1, (4, -1)), (3, 6), "does not multiply to 6"),
        (nn.Unflatten(2, (4, 2)), (3, 6), r"axis 2 of float32\[3,6\] does not exist"),
        (nn.ReflectionPad2d(1), (3, 4), r"ReflectionPad2d: expected 3D or 4D input, got float32\[3,4\]"),
        (nn.CircularPad1d(5), (1, 1, 3), "circular"),
        (nn.Softmax2d(), (3, 4), "expected input to be 3D or 4D"),
        (nn.PixelShuffle(2), (1, 3, 2, 2), "pixel_shuffle"),
    ):
        with pytest.raises(ShapeError, match=message):
            layer(normal(*shape))
    with pytest.raises(TypeError, match="axes have no names"):
        nn.Unflatten("C", (2, 3))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="unflattened_size is a tuple of ints"):
        nn.Unflatten(1, 6)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="min_val must be less than max_val"):
        nn.Hardtanh(1.0, 1.0)
    assert repr(nn.Upsample(2)) == repr(torch.nn.Upsample(2))
