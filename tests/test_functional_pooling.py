"""Pooling against PyTorch's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import volta_mlir as volta
from tests import pytorch
from tests.pytorch import Call, call
from volta_mlir import DTypeError, ShapeError, TraceError
from volta_mlir.nn import functional as F

RANKS = (1, 2, 3)
MAX, AVG, LP = ([f"{kind}_pool{rank}d" for rank in RANKS] for kind in ("max", "avg", "lp"))
ADAPTIVE_MAX, ADAPTIVE_AVG = ([f"adaptive_{kind}_pool{rank}d" for rank in RANKS] for kind in ("max", "avg"))
UNPOOL = [f"max_unpool{rank}d" for rank in RANKS]
ALL = [*MAX, *AVG, *LP, *ADAPTIVE_MAX, *ADAPTIVE_AVG, *UNPOOL]
DTYPES = (torch.float16, torch.bfloat16, torch.float64)

#: How many of PyTorch's samples to compare: there are 3,500 of them.
MOST = 16


def theirs(name: str) -> Any:
    return getattr(torch.nn.functional, name)


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.tensor(np.random.default_rng(seed).normal(size=shape)).to(dtype)


def integers(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Few different numbers, so that maxima occur more than once."""
    return torch.tensor(np.random.default_rng(0).integers(0, 3, shape)).to(dtype)


def samples(name: str, dtype: torch.dtype = torch.float32) -> list[Call]:
    if name in LP:  # PyTorch has no samples
        return []
    variant = "grad" if name in UNPOOL else ""
    return pytorch.sample_calls(f"nn.functional.{name}", dtype, variant=variant)


def hand_made(name: str, dtype: torch.dtype = torch.float32) -> list[Call]:
    """What the samples leave out: ties, NaN, odd sizes, windows that stick out, an empty batch."""
    rank = int(name[-2])
    extents = (7, 6, 5)[:rank]
    x, ties = draw(2, 3, *extents, dtype=dtype), integers(2, 3, *extents, dtype=dtype)
    kernel, stride, padding = (3, 2, 4)[:rank], (2, 3, 1)[:rank], (1, 0, 2)[:rank]
    if name in MAX:
        with_nan = ties.clone()
        with_nan[0, 0, 2:4] = float("nan")
        return [
            call("ties", ties, kernel, stride, padding, return_indices=True),
            call("dilated", x, 2, 1, 1, 2, True, True),
            call("nan", with_nan, kernel, return_indices=True),
            call("ceil", ties, kernel, stride, padding, 1, True),
            call("unbatched", x[0], (2,), return_indices=True),
            call("empty", x[:0], 2),
        ]
    if name in AVG:
        divisor = {} if rank == 1 else {"divisor_override": 3}
        return [
            call("ceil", x, kernel, stride, padding, True, False),
            call("ceil with padding", x, kernel, stride, padding, True, True),
            call("far apart", x, 3, 5, 1, True, **divisor),
            call("padding", x, kernel, stride, padding, count_include_pad=False),
            call("unbatched", x[0], (2,), **divisor),
            call("empty", x[:0], 2),
        ]
    if name in LP:
        return [
            call("euclidean", x, 2, kernel if rank > 1 else 3, stride if rank > 1 else 2),
            call("ceil", x.abs() + 1, 3, 2, None, True),
            call("fraction", x.abs() + 1, 1.5, 3, 2),
            call("zeros", torch.zeros_like(x), 2, 2),
            call("unbatched", x[0], 2.0, 2, ceil_mode=True),
        ]
    if name in UNPOOL:
        # At most one element for each place, so that which one counts is not a question.
        out, indices = getattr(torch.nn.functional, f"max_pool{rank}d")(x, kernel, return_indices=True)
        whole = draw(2, 3, *(2 * k for k in kernel), dtype=dtype)
        exact, at = getattr(torch.nn.functional, f"max_pool{rank}d")(whole, kernel, return_indices=True)
        return [
            call("size", out, indices, kernel, output_size=x.shape),
            call("least", exact, at, kernel),
            call("unbatched", out[0], indices[0], kernel, output_size=extents),
        ]
    size = (3, 4, None)[:rank]
    most = {"return_indices": True} if name in ADAPTIVE_MAX else {}
    return [
        call("ties", ties, size if rank > 1 else 3, **most),
        call("larger", x, (9, 2, 10)[:rank], **most),
        call("same", x, extents, **most),
        call("one", ties[0], 1),
        call("disjoint", draw(2, 3, *(6, 8, 5)[:rank], dtype=dtype), (3, 2, 4)[:rank], **most),
        call("empty", x[:0], 2),
    ]


@pytest.mark.parametrize("name", ALL)
def test_eager(name: str) -> None:
    calls = samples(name)
    calls = [*pytorch.first_calls(calls, MOST), *hand_made(name)] if len(calls) > MOST else [*calls, *hand_made(name)]
    pytorch.check_eager(getattr(F, name), theirs(name), calls, operations=256)


@pytest.mark.full
@pytest.mark.parametrize("name", [*MAX, *UNPOOL])
def test_all_samples(name: str) -> None:
    pytorch.check_eager(getattr(F, name), theirs(name), samples(name))


@pytest.mark.parametrize("name", [*MAX[:2], *AVG[:2], *LP[:2], *ADAPTIVE_MAX[:2], *ADAPTIVE_AVG[:2], *UNPOOL[:2]])
def test_dtypes(name: str) -> None:
    calls = [case for dtype in DTYPES for case in hand_made(name, dtype)[:2]]
    pytorch.check_eager(getattr(F, name), theirs(name), calls, operations=256)


def test_compiled() -> None:
    names = [f"{kind}{rank}d" for kind, rank in COMPILED.items()]
    pairs: list[Any] = [(getattr(F, name), theirs(name), hand_made(name)[0]) for name in names]
    pairs += [(F.fractional_max_pool2d, theirs("fractional_max_pool2d"), fractional("fractional_max_pool2d")[0])]
    pairs += [(F.max_pool1d, theirs("max_pool1d"), hand_made("max_pool1d")[1])]
    pairs += [(F.adaptive_avg_pool1d, theirs("adaptive_avg_pool1d"), hand_made("adaptive_avg_pool1d")[1])]
    pytorch.check_compiled(pairs, operations=256)


#: The rank to compile each kind of pooling for.
COMPILED = {"max_pool": 2, "avg_pool": 2, "lp_pool": 1, "adaptive_max_pool": 2, "adaptive_avg_pool": 2, "max_unpool": 2}


def test_averages_do_not_overflow() -> None:
    x = volta.full((1, 1, 4), 60000.0, "float16")
    assert F.avg_pool1d(x, 2).tolist() == F.adaptive_avg_pool1d(x, 2).tolist() == [[[60000.0] * 2]]


def test_integers_have_maxima() -> None:
    x = volta.Tensor([[1, 5, 3, 2]])
    assert F.max_pool1d(x, 3, 1, 1).tolist() == [[5, 5, 5, 3]]
    assert F.adaptive_max_pool1d(x, 2).tolist() == [[5, 3]]


def test_no_results() -> None:
    assert F.adaptive_avg_pool1d(volta.ones((2, 3, 4)), 0).shape == (2, 3, 0)


def fractional(name: str) -> list[Call]:
    """Calls with given random numbers, and 0 and almost 1 among them."""
    rank = int(name[-2])
    x, ratios = draw(2, 3, *(9, 7, 8)[:rank]), (0.5, 0.7, 0.6)[:rank]
    samples = torch.tensor(np.random.default_rng(0).uniform(size=(2, 3, rank)).astype(np.float32))
    samples[0, 0, 0], samples[0, 1, 0] = 0, 1 - 2.0**-24
    return [
        Call("size", (x.requires_grad_(), 2, (5, 5, 4)[:rank], None, True), {"_random_samples": samples}),
        Call("ratio", (x, (3, 2, 4)[:rank], None, ratios), {"_random_samples": samples}),
        Call("one", (x, 3, 1), {"_random_samples": samples}),
        Call("unbatched", (x.detach()[0], 2, 4, None, True), {"_random_samples": samples[:1]}),
    ]


@pytest.mark.parametrize("name", ["fractional_max_pool2d", "fractional_max_pool3d"])
def test_fractional(name: str) -> None:
    pytorch.check_eager(getattr(F, name), theirs(name), fractional(name))
    x, key = volta.Tensor(draw(1, 1, *(12,) * int(name[-2])).numpy()), volta.random.key(0)
    outs = [getattr(F, name)(x, 2, 8, key=k).tolist() for k in (key, key, volta.random.key(1))]
    assert outs[0] == outs[1] != outs[2]


def test_bad_fractions() -> None:
    x = volta.ones((1, 3, 3))
    with pytest.raises(TraceError, match=r"pass key=volta.random.key\(seed\)"):
        F.fractional_max_pool2d(x, 2, 2)
    for sizes in ((None, None), (2, 0.5)):
        with pytest.raises(ValueError, match="either output_size or output_ratio, and not both"):
            F.fractional_max_pool2d(x, 2, *sizes, key=volta.random.key(0))
    with pytest.raises(ShapeError, match=r"\(3, 3\) windows of \(2, 2\) elements at different places do not fit"):
        F.fractional_max_pool2d(x, 2, 3, key=volta.random.key(0))


ONES = volta.ones


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: F.max_pool2d(ONES((3, 3)), 2), r"max_pool2d: expected an input of rank 3 \(unbatched\) or 4"),
        (lambda: F.max_pool1d(ONES((1, 3)), 2, padding=2), "at most half of the effective kernel size, got padding=2"),
        (lambda: F.max_pool1d(ONES((1, 3)), 4), "output would be empty: no window over 4 elements fits"),
        (lambda: F.avg_pool2d(ONES((1, 3, 3)), (1, 2, 3)), "expected kernel_size to be an int or 2 of them"),
        (lambda: F.avg_pool2d(ONES((1, 3, 3)), 2, 0), "expected a positive kernel_size, stride and dilation"),
        (lambda: F.adaptive_avg_pool2d(ONES((1, 3, 3)), (1, 2, 3)), "output_size to be a number or 2 of them"),
        (lambda: F.adaptive_max_pool1d(ONES((1, 3)), -1), "output_size to be a number or 1 of them, got -1"),
        (lambda: F.adaptive_max_pool1d(ONES((1, 0)), 1), "with elements in all axes but the batch"),
        (lambda: F.max_unpool1d(ONES((1, 2)), volta.Tensor([0]), 2), r"expected indices of shape \(1, 2\)"),
        (lambda: F.max_unpool1d(ONES((1, 1)), volta.Tensor([[0]]), 2, output_size=[4]), "less than the stride"),
        (lambda: F.max_unpool2d(ONES((1, 1, 1)), volta.Tensor([[[0]]]), 2, output_size=[2]), "less than the stride"),
        (
            lambda: F.max_unpool1d(ONES((1, 2)), volta.Tensor([[1, 9]]), 2),
            "an index 9 is out of bounds; expected 0 to 3",
        ),
    ],
)
def test_bad_shapes(call: Any, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        call()


@pytest.mark.parametrize("name", ["avg_pool1d", "adaptive_avg_pool1d", "lp_pool1d"])
def test_bad_dtypes(name: str) -> None:
    with pytest.raises(DTypeError, match=f"{name}: expected an input of floating-point numbers, got int32"):
        getattr(F, name)(volta.ones((1, 4), "int32"), *([2, 2] if name == "lp_pool1d" else [2]))


def test_bad_divisor() -> None:
    with pytest.raises(ValueError, match="avg_pool2d: divisor must be not zero"):
        F.avg_pool2d(ONES((1, 2, 2)), 2, divisor_override=0)
