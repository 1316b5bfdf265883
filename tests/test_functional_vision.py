"""Rearranging, padding, resizing and sampling against PyTorch's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import volta_mlir as volta
from tests import pytorch
from tests.pytorch import Call, call
from volta_mlir import DTypeError, ShapeError
from volta_mlir.nn import functional as F

SHUFFLES = ("pixel_shuffle", "pixel_unshuffle", "channel_shuffle")
PADS = ("constant", "reflect", "replicate", "replicate_negative", "circular")
MODES = ("nearest", "nearest-exact", "linear", "bilinear", "bicubic", "trilinear", "area")
DTYPES = (torch.float16, torch.bfloat16, torch.float64)


def theirs(name: str) -> Any:
    return getattr(torch.nn.functional, name)


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.tensor(np.random.default_rng(seed).normal(size=shape)).to(dtype)


# -- rearranging ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SHUFFLES)
def test_shuffle(name: str) -> None:
    calls = pytorch.sample_calls(f"nn.functional.{name}")
    calls += [
        call("odd", draw(2, 18, 6, 9) if name != "channel_shuffle" else draw(2, 18, 5), 3),
        call("half", draw(1, 4, 2, 2, dtype=torch.float16), 2),
    ]
    if name != "pixel_unshuffle":  # of nothing PyTorch makes a wrong shape, also as a gradient
        calls.append(Call("empty", (draw(0, 4, 2, 2), 2)))
    pytorch.check_eager(getattr(F, name), theirs(name), calls)


# -- padding -------------------------------------------------------------------------------------------------------


def pads(mode: str) -> list[Call]:
    """What the samples leave out: all that there is, and less than nothing."""
    x = draw(2, 3, 4, 5)
    if mode == "constant":
        return [
            call("negative", x, (-1, 2, 1, -2), value=1.5),
            call("none", x, ()),
            call("all axes", x, (1, 0, 0, 1, 1, 1, 0, 2)),
            call("integers", torch.tensor([[1, 2]]), (1, 1), value=7),
            call("half", draw(2, 3, dtype=torch.bfloat16), (1, 0)),
        ]
    most = {"reflect": 4, "circular": 5}.get(mode, 9)
    return [
        call("most", x, (most, most, 3, 2), mode),
        call("negative", x, (-1, 1, 1, -2), mode),
        call("more than is left", x[0], (-3, 2 if mode == "circular" else 4), mode),
        call("one side", draw(3, 5), (0, 2), mode),
        call("half", draw(2, 3, 4, dtype=torch.float16), (1, 0), mode),
        call("volume", draw(1, 2, 3, 3, 3), (1, 2, 2, 1, 0, 1), mode),
    ]


@pytest.mark.parametrize("variant", PADS)
def test_pad(variant: str) -> None:
    calls = [*pytorch.sample_calls("nn.functional.pad", variant=variant), *pads(variant.partition("_")[0])]
    pytorch.check_eager(F.pad, theirs("pad"), calls)


# -- resizing ------------------------------------------------------------------------------------------------------


def resizes(mode: str, dtype: torch.dtype = torch.float32) -> list[Call]:
    """What the samples leave out: odd ratios, given factors, one element, very large and very small results."""
    rank = {"linear": 1, "trilinear": 3}.get(mode, 2)
    x = draw(2, 3, *(7, 6, 5)[:rank], dtype=dtype)
    cornered = mode in ("linear", "bilinear", "bicubic", "trilinear")
    calls = [
        call("odd", x, (11, 4, 13)[:rank], None, mode),
        call("factor", x, None, (1.7, 0.6, 2.3)[:rank], mode),
        call("recomputed", x, None, 1.7, mode, None, True),
        call("integral", x, None, 3.0, mode),
        call("one", x, 1, None, mode),
        call("from one", draw(1, 2, *(1,) * rank, dtype=dtype), 5, None, mode),
        call("same", x, x.shape[2:], None, mode),
        call("half", x, None, 0.5, mode),
        call("empty", x[:0], 3, None, mode),
    ]
    if cornered:
        calls += [
            call("corners", x, (11, 4, 13)[:rank], None, mode, True),
            call("corners of one", x, 1, None, mode, True),
            call("corners by factor", x, None, 1.7, mode, True),
        ]
    if mode in ("bilinear", "bicubic"):
        calls += [
            call("antialias", x, (3, 2), None, mode, antialias=True),
            call("antialias by factor", x, None, (0.4, 1.6), mode, antialias=True),
            call("antialias of corners", x, (3, 9), None, mode, True, antialias=True),
        ]
    return calls


@pytest.mark.parametrize("mode", MODES)
def test_interpolate(mode: str) -> None:
    calls = [*pytorch.sample_calls("nn.functional.interpolate", variant=mode), *resizes(mode)]
    pytorch.check_eager(F.interpolate, theirs("interpolate"), calls, operations=256)


@pytest.mark.parametrize("mode", MODES)
def test_interpolate_dtypes(mode: str) -> None:
    calls = [case for dtype in DTYPES for case in resizes(mode, dtype)[:2]]
    pytorch.check_eager(F.interpolate, theirs("interpolate"), calls, operations=256)


def test_nearest_takes_any_dtype() -> None:
    x = torch.arange(12, dtype=torch.uint8).reshape(1, 1, 3, 4)
    pytorch.check_eager(F.interpolate, theirs("interpolate"), [call("uint8", x, (5, 7)), call("twice", x, None, 2)])


def test_nearest_of_all_sizes() -> None:
    """Rounding decides where an element is between two others."""
    calls = [
        call(f"{extent} to {size} {mode}", torch.arange(extent)[None, None].to(torch.float32), size, None, mode)
        for extent, size in np.random.default_rng(0).integers(1, 200, (60, 2)).tolist()
        for mode in ("nearest", "nearest-exact")
    ]
    for case in calls:
        expected = theirs("interpolate")(*case.args).detach().numpy()
        np.testing.assert_array_equal(F.interpolate(case.args[0].detach().numpy(), *case.args[1:]).numpy(), expected)


# -- sampling ------------------------------------------------------------------------------------------------------


def grids() -> list[Call]:
    """What the samples leave out: places far outside, NaN, few elements, half precision."""
    x, places = draw(2, 3, 4, 5), draw(2, 3, 2, 2, seed=1) * 2
    with_nan = places.clone()
    with_nan[0, 0, 0] = float("nan")
    modes = [(m, p, p != "border") for m in ("bilinear", "nearest", "bicubic") for p in PADDINGS]
    modes += [("bilinear", "reflection", False), ("bicubic", "border", True)]
    calls = [call(f"{mode} {padding} {corners}", x, places, mode, padding, corners) for mode, padding, corners in modes]
    volume, inside = draw(2, 2, 3, 4, 2), draw(2, 2, 3, 4, 3, seed=1) * 2
    calls += [call(f"volume {p}", volume, inside, "bilinear", p, False) for p in PADDINGS]
    # Places exactly on the borders of elements and of the image, where images end and where they are mirrored.
    along = torch.tensor([-3.0, -2.5, -2, -1.25, -1, -0.5, 0, 0.75, 1, 1.25, 2, 3])
    exact = torch.stack(torch.meshgrid(along, along, indexing="ij"), -1)[None]
    calls += [
        call(f"kinks {mode} {padding} {corners}", draw(1, 2, size, size), exact, mode, padding, corners)
        for size, corners in ((5, True), (4, False))
        for mode in ("bilinear", "nearest", "bicubic")
        for padding in PADDINGS
    ]
    return [
        *calls,
        Call("nan", (x, with_nan, "bilinear", "border", True)),
        call("one", draw(1, 1, 1, 1), places[:1], "bilinear", "reflection", True),
        call("half", x.to(torch.bfloat16), places.to(torch.bfloat16), align_corners=False),
        call("empty", x[:0], places[:0], align_corners=False),
    ]


PADDINGS = ("zeros", "border", "reflection")


def affine_maps() -> list[Call]:
    images, volumes = draw(2, 2, 3), draw(2, 3, 4)
    sizes = [
        (images, (2, 3, 4, 5)),
        (images, (2, 3, 1, 2)),
        (volumes, (2, 1, 3, 2, 4)),
        (images.double(), (2, 1, 3, 3)),
    ]
    return [call(f"{size} {corners}", theta, size, corners) for theta, size in sizes for corners in (True, False)]


def test_grid_sample() -> None:
    calls = [*pytorch.first_calls(pytorch.sample_calls("nn.functional.grid_sample"), 10), *grids()]
    pytorch.check_eager(F.grid_sample, theirs("grid_sample"), calls, operations=512)


def test_affine_grid() -> None:
    pytorch.check_eager(F.affine_grid, theirs("affine_grid"), affine_maps())


# -- all of them ---------------------------------------------------------------------------------------------------


def test_compiled() -> None:
    pairs: list[Any] = [(getattr(F, n), theirs(n), call(n, draw(1, 4, 4, 6), 2)) for n in SHUFFLES]
    pairs += [(F.pad, theirs("pad"), pads(mode)[1]) for mode in ("constant", "reflect", "replicate", "circular")]
    pairs += [(F.interpolate, theirs("interpolate"), resizes(mode)[0]) for mode in MODES[:5:2]]
    pairs += [(F.interpolate, theirs("interpolate"), resizes("bilinear")[0])]
    pairs += [(F.interpolate, theirs("interpolate"), resizes("nearest")[3])]
    pairs += [
        (F.grid_sample, theirs("grid_sample"), grids()[0]),
        (F.affine_grid, theirs("affine_grid"), affine_maps()[0]),
    ]
    pytorch.check_compiled(pairs, operations=256)


ONES = volta.ones


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: F.pixel_shuffle(ONES((3, 2, 2)), 2), ShapeError, "divisible by the square of upscale_factor 2"),
        (lambda: F.pixel_unshuffle(ONES((3, 2, 3)), 2), ShapeError, "height and width divisible by downscale_factor 2"),
        (lambda: F.channel_shuffle(ONES((1, 3, 2)), 2), ShapeError, "whose channels 2 groups divide"),
        (lambda: F.pad(ONES(3), (1, 2, 3)), ShapeError, "two numbers for each of at most 1 axes"),
        (lambda: F.pad(ONES(3), (1, -5)), ShapeError, "removes more elements than"),
        (lambda: F.pad(ONES((1, 3)), (3, 0), "reflect"), ShapeError, "'reflect' has fewer elements to offer"),
        (lambda: F.pad(ONES((1, 3)), (4, 0), "circular"), ShapeError, "'circular' has fewer elements to offer"),
        (lambda: F.pad(ONES(3), (1, 0), "reflect"), ShapeError, "pads the last 1, 2 or 3 axes"),
        (lambda: F.pad(ONES((1, 3)), (1, 0), "edge"), ValueError, "expected the mode constant, reflect"),
        (lambda: F.pad(ONES((1, 3)), (1, 0), "reflect", 1.0), ValueError, "'reflect' doesn't take in a value argument"),
        (lambda: F.interpolate(ONES((1, 1, 3)), 2, mode="cubic"), ValueError, "expected one of the modes nearest"),
        (lambda: F.interpolate(ONES((1, 1, 3)), 2, mode="bilinear"), ShapeError, "takes an input of rank 4"),
        (lambda: F.interpolate(ONES((1, 1, 3)), 2, align_corners=True), ValueError, "align_corners can only be set"),
        (lambda: F.interpolate(ONES((1, 1, 3)), 2, antialias=True), ValueError, "antialias is for the modes"),
        (lambda: F.interpolate(ONES((1, 1, 3))), ValueError, "expected either size or scale_factor"),
        (lambda: F.interpolate(ONES((1, 1, 3)), 2, 2.0), ValueError, "and not both"),
        (
            lambda: F.interpolate(ONES((1, 1, 3)), 2, recompute_scale_factor=True),
            ValueError,
            "recompute_scale_factor is not meaningful with an explicit size",
        ),
        (lambda: F.interpolate(ONES((1, 1, 3)), (2, 2)), ShapeError, "expected size to be an int or 1 of them"),
        (lambda: F.interpolate(ONES((1, 1, 3)), None, (2, 2)), ShapeError, "expected a scale_factor or 1 of them"),
        (lambda: F.interpolate(ONES((1, 1, 3)), None, 0.1), ShapeError, "input and output should have elements"),
        (lambda: F.affine_grid(ONES((1, 2, 3)), (1, 1, 0, 2)), ShapeError, "expected a positive size"),
        (lambda: F.affine_grid(ONES((1, 2, 3)), (2, 1, 2, 2)), ShapeError, r"theta of shape \(2, 2, 3\)"),
        (lambda: F.grid_sample(ONES((1, 1, 2, 2)), ONES((2, 1, 1, 2))), ShapeError, "expected a grid"),
        (lambda: F.grid_sample(ONES((1, 1, 2, 0)), ONES((1, 1, 1, 2))), ShapeError, "with elements in all axes"),
        (lambda: F.grid_sample(ONES((1, 1, 2)), ONES((1, 1, 1))), ShapeError, "takes an input of rank 4 or 5"),
        (
            lambda: F.grid_sample(ONES((1, 1, 2, 2)), ONES((1, 1, 1, 2)), "linear"),
            ValueError,
            "expected the mode bilinear",
        ),
        (lambda: F.interpolate(ONES((1, 1, 3), "int32"), 2, mode="linear"), DTypeError, "floating-point numbers"),
    ],
)
def test_bad_arguments(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
