"""Pooling as layers, compared with PyTorch's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tests import modules
from volta_mlir import nn
from volta_mlir.errors import ShapeError


def numbers(*shape: int) -> np.ndarray:
    """Distinct ones, so that maxima are unique."""
    size = int(np.prod(shape))
    return (np.random.default_rng(0).permutation(size).astype(np.float32) / size).reshape(shape)


def case(name: str, *args: Any, shape: tuple[int, ...], **kwargs: Any) -> modules.Pair:
    ours, theirs = modules.build(name, *args, **kwargs)
    return modules.pair(ours, theirs, numbers(*shape), name=repr(ours))


SHAPES = {1: (2, 2, 7), 2: (2, 2, 6, 5), 3: (1, 2, 4, 3, 5)}


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_layers(axes: int) -> None:
    shape = SHAPES[axes]
    sizes = (2, 3, 2)[:axes]
    modules.check_eager(
        [
            case(f"MaxPool{axes}d", 2, shape=shape),
            case(f"MaxPool{axes}d", sizes, 1, 1, 2, shape=shape[1:], return_indices=True),
            case(f"MaxPool{axes}d", 3, 2, shape=shape, ceil_mode=True),
            case(f"AvgPool{axes}d", 3, 1, 1, shape=shape, count_include_pad=False),
            case(f"AvgPool{axes}d", sizes, shape=shape[1:], ceil_mode=True),
            *([case(f"AvgPool{axes}d", 2, shape=shape, divisor_override=3)] if axes > 1 else []),
            case(f"LPPool{axes}d", 2, 2, shape=shape),
            case(f"AdaptiveAvgPool{axes}d", 3, shape=shape),
            case(f"AdaptiveAvgPool{axes}d", (2,) * axes, shape=shape[1:]),
            case(f"AdaptiveMaxPool{axes}d", 3, shape=shape, return_indices=True),
        ],
        operations=256,
    )


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_unpooling(axes: int) -> None:
    even, odd = numbers(*(1, 2, 4, 2, 6)[: 2 + axes]), numbers(*SHAPES[axes])
    pool, _ = modules.build(f"MaxPool{axes}d", 2, return_indices=True)
    ours, theirs = modules.build(f"MaxUnpool{axes}d", 2)
    pairs = []
    for x, kwargs in ((even, {}), (odd, {"output_size": list(odd.shape)})):
        maxima, indices = (tensor.numpy().copy() for tensor in pool(x))
        pairs.append(modules.pair(ours, theirs, maxima, indices.astype(np.int64), **kwargs))
    modules.check_eager(pairs)


@pytest.mark.parametrize("axes", [2, 3])
def test_fractional(axes: int) -> None:
    samples = torch.rand((1, 2, axes), generator=torch.Generator().manual_seed(0))
    shape = (1, 2, 5, 6, 7)[: 2 + axes]
    name = f"FractionalMaxPool{axes}d"
    modules.check_eager(
        [
            case(name, 2, 3, shape=shape, _random_samples=samples),
            case(name, (1, 2, 3)[:axes], output_ratio=(0.5,) * axes, shape=shape, _random_samples=samples),
            case(name, 3, (2, 3, 4)[:axes], return_indices=True, shape=shape, _random_samples=samples),
        ]
    )
    layer, x = getattr(nn, name)(2, 5).eval(), numbers(*(1, 9, 8, 8, 8)[: 2 + axes])
    assert layer(x).tolist() != layer(x).tolist()
    for sizes in ({}, {"output_size": 2, "output_ratio": 0.5}):
        with pytest.raises(ValueError, match=f"{name}: expected either output_size or output_ratio, and not both"):
            getattr(nn, name)(2, **sizes)


def test_compiled() -> None:
    modules.check_compiled(
        [
            case("MaxPool2d", 3, 2, 1, shape=SHAPES[2]),
            case("AvgPool1d", 2, shape=SHAPES[1]),
            case("AdaptiveAvgPool2d", 1, shape=SHAPES[2]),
        ],
        operations=256,
    )


def test_bad_input() -> None:
    for layer, shape, message in (
        (nn.MaxPool2d(2), (3, 4), r"max_pool2d.*float32\[3,4\]"),
        (nn.AvgPool1d(5), (1, 2, 3), "avg_pool1d"),
        (nn.AdaptiveAvgPool2d((2, 2)), (4,), "adaptive_avg_pool2d"),
        (nn.MaxPool1d(2, padding=2), (1, 2, 3), "padding"),
    ):
        with pytest.raises((ShapeError, ValueError), match=message):
            layer(numbers(*shape))
