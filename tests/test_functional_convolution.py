"""Convolutions, their transposes, fold and unfold against PyTorch's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import volta_mlir as volta
from tests import pytorch
from tests.pytorch import Call, call
from volta_mlir import DTypeError, ShapeError, nn
from volta_mlir.nn import functional as F

CONV = ("conv1d", "conv2d", "conv3d")
TRANSPOSED = ("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
BLOCKS = ("fold", "unfold")
DTYPES = (torch.float16, torch.bfloat16, torch.float64)


def theirs(name: str) -> Any:
    return getattr(torch.nn.functional, name)


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.tensor(np.random.default_rng(seed).normal(size=shape)).to(dtype)


def sizes(name: str, *extents: int) -> tuple[int, ...]:
    """As many of the extents as the function has spatial axes."""
    return extents[: int(name[-2])]


def convolutions(name: str, dtype: torch.dtype = torch.float32) -> list[Call]:
    """What PyTorch's samples leave out."""
    image, kernel = sizes(name, 7, 6, 5), sizes(name, 3, 2, 3)
    x, w = draw(2, 4, *image, dtype=dtype), draw(6, 4, *kernel, seed=1, dtype=dtype)
    depthwise = draw(8, 1, *kernel, seed=2, dtype=dtype)
    return [
        call("same", x, w, draw(6, dtype=dtype), padding="same", dilation=2),
        call("depthwise", x, depthwise, groups=4, stride=2, padding=1),
        call("groups", x, draw(6, 2, *kernel, dtype=dtype), None, sizes(name, 2, 1, 3), sizes(name, 1, 0, 2), 1, 2),
        call("unbatched", x[0], w, draw(6, dtype=dtype), padding="valid"),
        call("one by one", x, draw(3, 4, *(1,) * len(image), dtype=dtype), stride=(2,)),
        call("empty", x[:0], w, draw(6, dtype=dtype)),
    ]


def transposed_convolutions(name: str, dtype: torch.dtype = torch.float32) -> list[Call]:
    """What PyTorch's samples leave out: output padding from none to more than the stride, and to more than is cut."""
    image, kernel = sizes(name, 4, 3, 2), sizes(name, 3, 2, 3)
    x, w = draw(2, 4, *image, dtype=dtype), draw(4, 3, *kernel, seed=1, dtype=dtype)
    bias = draw(6, dtype=dtype)
    return [
        call("groups", x, w, bias, 2, 1, 1, 2),
        call("depthwise", x, draw(4, 1, *kernel, dtype=dtype), None, sizes(name, 2, 3, 2), 1, sizes(name, 1, 2, 0), 4),
        call("dilated", x, w, bias[:3], 2, 1, 2, 1, 3),
        call("cut", x, w, None, 1, 3, 2, 1, 3),
        call("unbatched", x[0], w, bias[:3], output_padding=sizes(name, 1, 0, 2), dilation=3, stride=2),
        call("empty", x[:0], w),
    ]


def blocks(name: str, dtype: torch.dtype = torch.float32) -> list[Call]:
    if name == "unfold":
        return [
            call("pairs", draw(2, 3, 7, 8, dtype=dtype), (3, 2), (2, 3), (1, 2), (2, 1)),
            call("unbatched", draw(3, 4, 5, dtype=dtype), 2),
            call("empty", draw(0, 3, 4, 5, dtype=dtype), 2, stride=2),
        ]
    return [
        call("pairs", draw(2, 18, 27, dtype=dtype), (7, 8), (3, 2), (2, 3), (1, 2), (2, 1)),
        call("all", draw(2, 12, 5, dtype=dtype), (7, 3), (3, 2), (2, 1), (1, 0), (1, 2)),
        call("unbatched", draw(12, 12, dtype=dtype), (4, 5), 2),
        call("empty", draw(0, 12, 4, dtype=dtype), (4, 5), 2, stride=2),
    ]


def hand_made(name: str, dtype: torch.dtype = torch.float32) -> list[Call]:
    makers = {**dict.fromkeys(CONV, convolutions), **dict.fromkeys(TRANSPOSED, transposed_convolutions)}
    return makers.get(name, blocks)(name, dtype)


@pytest.mark.parametrize("name", [*CONV, *TRANSPOSED, *BLOCKS])
def test_eager(name: str) -> None:
    # PyTorch has no samples of fold, and 163 of unfold.
    calls = [] if name == "fold" else pytorch.sample_calls(f"nn.functional.{name}")
    calls = [*pytorch.first_calls(calls, 24), *hand_made(name)] if len(calls) > 40 else [*calls, *hand_made(name)]
    pytorch.check_eager(getattr(F, name), theirs(name), calls, operations=512)


@pytest.mark.full
def test_all_samples_of_unfold() -> None:
    pytorch.check_eager(F.unfold, torch.nn.functional.unfold, pytorch.sample_calls("nn.functional.unfold"))


@pytest.mark.parametrize("name", [*CONV, *TRANSPOSED, *BLOCKS])
def test_dtypes(name: str) -> None:
    calls = [case for dtype in DTYPES for case in hand_made(name, dtype)[:2]]
    pytorch.check_eager(getattr(F, name), theirs(name), calls, operations=512)


def test_compiled() -> None:
    names = [*CONV[:2], *TRANSPOSED[:2], *BLOCKS]
    pairs: list[Any] = [(getattr(F, name), theirs(name), hand_made(name)[0]) for name in names]
    pairs += [(getattr(F, name), theirs(name), hand_made(name)[2]) for name in ("conv3d", "conv_transpose3d")]
    pytorch.check_compiled(pairs, operations=512)


def test_unfold_transposes_fold() -> None:
    """fold is the gradient of unfold."""
    x, arguments = volta.Tensor(draw(2, 3, 7, 6).numpy()), {"kernel_size": (3, 2), "padding": 1, "stride": (2, 1)}
    out, pullback = volta.vjp(lambda x: F.unfold(x, **arguments), x)
    np.testing.assert_allclose(pullback(out)[0].numpy(), F.fold(out, (7, 6), **arguments).numpy(), rtol=1e-5)


ONES = volta.ones


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: F.conv2d(ONES((3, 4)), ONES((1, 3, 1, 1))), r"conv2d: expected an input of rank 3 \(unbatched\) or 4"),
        (lambda: F.conv1d(ONES((1, 3, 4)), ONES((1, 3, 1, 1))), "conv1d: expected a weight of rank 3"),
        (
            lambda: F.conv1d(ONES((1, 4, 5)), ONES((2, 3, 2))),
            r"given groups=1, weight of shape \(2, 3, 2\), expected an input with 3 channels, got .* with 4",
        ),
        (lambda: F.conv1d(ONES((1, 4, 5)), ONES((3, 2, 2)), groups=2), "whose first axis 2 groups divide"),
        (lambda: F.conv1d(ONES((1, 4, 5)), ONES((3, 2, 2)), groups=0), "groups to be positive, got 0"),
        (
            lambda: F.conv1d(ONES((1, 3, 5)), ONES((2, 3, 2)), ONES(3)),
            r"expected bias of shape \(2,\), got float32\[3\]",
        ),
        (lambda: F.conv1d(ONES((1, 1, 5)), ONES((1, 1, 6))), "a window over 6 elements does not fit into 5"),
        (
            lambda: F.conv2d(ONES((1, 1, 5, 5)), ONES((1, 1, 2, 2)), stride=(1, 2, 3)),
            "stride to be an int or 2 of them",
        ),
        (
            lambda: F.conv1d(ONES((1, 1, 5)), ONES((1, 1, 2)), stride=2, padding="same"),
            "padding='same' is not supported for strided convolutions",
        ),
        (lambda: F.conv_transpose1d(ONES((1, 2, 5)), ONES((3, 2, 2))), "expected an input with 3 channels"),
        (lambda: F.conv_transpose1d(ONES((1, 3, 5)), ONES((3, 2, 2)), groups=2), "channels that 2 groups divide"),
        (lambda: F.conv_transpose1d(ONES((1, 3, 5)), ONES((3, 2, 2)), ONES(3)), r"expected bias of shape \(2,\)"),
        (
            lambda: F.conv_transpose1d(ONES((1, 1, 5)), ONES((1, 1, 2)), output_padding=2, stride=2, dilation=2),
            r"output_padding \(2,\) must be smaller than the strides \(2,\) or the dilation \(2,\)",
        ),
        (lambda: F.conv_transpose1d(ONES((1, 1, 1)), ONES((1, 1, 2)), padding=2), "leaves nothing of the result"),
        (lambda: F.unfold(ONES((1, 1, 3, 3)), 4), "no block of kernel_size .* fits into"),
        (lambda: F.unfold(ONES((1, 1, 3, 3)), 2, stride=0), "expected a positive kernel_size, dilation and stride"),
        (lambda: F.unfold(ONES((3, 3)), 2), r"unfold: expected an input of rank 3 \(unbatched\) or 4"),
        (lambda: F.fold(ONES((1, 7, 4)), (3, 3), 2), r"expected an input of shape \(N, C \* 4, 4\)"),
        (lambda: F.fold(ONES((1, 8, 5)), (3, 3), 2), r"expected an input of shape \(N, C \* 4, 4\)"),
    ],
)
def test_bad_shapes(call: Any, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        call()


def test_bad_padding() -> None:
    with pytest.raises(ValueError, match="conv1d: padding is 'same', 'valid' or numbers, got 'full'"):
        F.conv1d(ONES((1, 1, 5)), ONES((1, 1, 2)), padding="full")


def test_ints_of_numpy_are_ints() -> None:
    x, weight = volta.ones((1, 1, 4, 4)), volta.ones((1, 1, 2, 2))
    two = np.int64(2)
    assert F.conv2d(x, weight, stride=two).shape == F.max_pool2d(x, two).shape == (1, 1, two, two)
    assert volta.zeros(two).shape == volta.random.normal(volta.random.key(0), two).shape == nn.init.zeros(two).shape
    assert F.layer_norm(volta.ones((3, 2)), two).shape == nn.LayerNorm(two)(volta.ones((3, 2))).shape == (3, 2)


def test_what_is_no_int_is_refused() -> None:
    x, weight = volta.ones((1, 1, 4, 4)), volta.ones((1, 1, 2, 2))
    for function, message in (
        (lambda: F.conv2d(x, weight, stride=1.5), "conv2d: expected stride to be an int or 2 of them, got 1.5"),
        (lambda: F.max_pool2d(x, (2, 2.0)), r"max_pool2d: expected kernel_size to be an int or 2 .* got \(2, 2.0\)"),
        (lambda: F.adaptive_avg_pool2d(x, 2.0), "adaptive_avg_pool2d: expected output_size to be an int .* got 2.0"),
        (lambda: F.softmax(x, "channels"), "softmax: expected dim to be an int, got 'channels'"),
    ):
        with pytest.raises(DTypeError, match=message):
            function()
    with pytest.raises(ValueError, match="negative dimensions are not allowed"):
        nn.Linear(-1, 2)
