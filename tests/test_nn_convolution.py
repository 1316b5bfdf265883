"""Convolutions as layers, compared with PyTorch's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests import modules
from volta_mlir import nn
from volta_mlir.errors import ShapeError


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape)).normal(size=shape).astype(np.float32)


def case(name: str, *args: Any, shape: tuple[int, ...], **kwargs: Any) -> modules.Pair:
    ours, theirs = modules.build(name, *args, **kwargs)
    return modules.pair(ours, theirs, normal(*shape), name=repr(ours))


def test_convolutions() -> None:
    modules.check_eager(
        [
            case("Conv1d", 4, 6, 3, shape=(2, 4, 7), stride=2, padding=1, groups=2),
            case("Conv1d", 4, 6, 2, shape=(4, 7), padding="same", dilation=3),
            case("Conv2d", 2, 3, (3, 2), shape=(2, 2, 6, 5), bias=False, padding="valid"),
            case("Conv2d", 2, 4, 3, shape=(2, 2, 6, 5), groups=2, dilation=(1, 2), padding=(2, 1)),
            case("Conv3d", 2, 3, (1, 2, 3), shape=(1, 2, 3, 4, 4), stride=(1, 2, 1)),
        ],
        operations=256,
    )


def test_padding_modes() -> None:
    modules.check_eager(
        [
            case("Conv1d", 2, 3, 3, shape=(2, 2, 7), padding=(2,), padding_mode="circular"),
            case("Conv1d", 2, 3, 3, shape=(2, 7), padding="valid", padding_mode="circular"),
            case("Conv2d", 2, 3, (2, 3), shape=(2, 2, 6, 5), padding="same", padding_mode="reflect"),
            case("Conv2d", 2, 3, 3, shape=(2, 2, 6, 5), padding=(1, 2), padding_mode="replicate"),
            case("Conv3d", 1, 1, 2, shape=(1, 1, 3, 3, 3), padding=1, padding_mode="replicate"),
        ],
        operations=256,
    )


def test_transposes() -> None:
    pairs = [
        case("ConvTranspose1d", 4, 6, 3, shape=(2, 4, 5), stride=3, output_padding=1, groups=2),
        case("ConvTranspose2d", 2, 3, (3, 2), shape=(2, 4, 3), bias=False, dilation=2, padding=1),
        case("ConvTranspose3d", 2, 3, 2, shape=(1, 2, 3, 2, 2), stride=(1, 2, 1)),
    ]
    ours, theirs = modules.build("ConvTranspose2d", 2, 3, 3, stride=(2, 3), padding=1)
    for size in ((6, 7), (5, 8), (1, 3, 6, 8)):
        pairs.append(modules.pair(ours, theirs, normal(1, 2, 3, 3), output_size=list(size), name=f"output_size={size}"))
    modules.check_eager(pairs, operations=256)


def test_compiled() -> None:
    modules.check_compiled(
        [
            case("Conv2d", 2, 4, 3, shape=(2, 2, 6, 5), padding=1, stride=2),
            case("ConvTranspose1d", 4, 2, 3, shape=(2, 4, 5), stride=2),
        ],
        operations=256,
    )


def test_initialisation() -> None:
    nn.manual_seed(0)
    for layer in (nn.Conv2d(4, 60, 5), nn.ConvTranspose2d(40, 4, 5)):
        for parameter in layer.parameters():
            values = parameter.numpy()
            assert np.abs(values).max() <= 0.1
            if values.size > 100:
                assert abs(values.std() - 0.1 / np.sqrt(3)) < 0.002
    assert nn.Conv1d(1, 1, 1, dtype="float16").weight.dtype == np.float16


def test_bad_input() -> None:
    for build, message in (
        (lambda: nn.Conv2d(3, 4, 3, groups=2), "in_channels must be divisible by groups, got 3 and 2"),
        (lambda: nn.Conv2d(4, 3, 3, groups=2), "out_channels must be divisible by groups"),
        (lambda: nn.Conv2d(4, 4, 3, groups=0), "groups must be a positive integer, got 0"),
        (lambda: nn.Conv2d(4, 4, 3, padding="full"), "padding is 'same', 'valid' or numbers, got 'full'"),
        (lambda: nn.Conv2d(4, 4, 3, 2, padding="same"), "not supported for strided"),
        (lambda: nn.Conv2d(4, 4, 3, padding_mode="wrap"), "padding_mode must be one of .*, got 'wrap'"),
        (lambda: nn.Conv2d(4, 4, (3, 3, 3)), r"kernel_size is a number or 2 numbers, got \(3, 3, 3\)"),
        (lambda: nn.ConvTranspose2d(4, 4, 3, padding_mode="reflect"), "Only 'zeros' padding mode is supported"),
    ):
        with pytest.raises(ValueError, match=message):
            build()
    with pytest.raises(ShapeError, match=r"conv2d.*float32\[1,3,5,5\]"):
        nn.Conv2d(4, 4, 3)(normal(1, 3, 5, 5))
    up = nn.ConvTranspose1d(1, 1, 3, stride=2)
    with pytest.raises(
        ShapeError, match=r"requested an output size of \(9,\), but valid sizes range from \[7\] to \[8\]"
    ):
        up(normal(1, 1, 3), output_size=[9])
    with pytest.raises(ShapeError, match="output_size must have 1 or 3 elements, got 2"):
        up(normal(1, 1, 3), output_size=[9, 9])
