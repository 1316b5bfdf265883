"""Linear maps, lookups and distances against PyTorch's."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import volta_mlir as volta
from tests import pytorch
from tests.pytorch import Call, call
from volta_mlir import Tensor
from volta_mlir.errors import DTypeError, ShapeError, TraceError
from volta_mlir.nn import functional as F

INF = float("inf")
DTYPES = (torch.float64, torch.float16, torch.bfloat16)
FUNCTIONS = (
    "linear",
    "bilinear",
    "embedding",
    "embedding_bag",
    "normalize",
    "cosine_similarity",
    "pairwise_distance",
    "pdist",
)


def theirs(name: str) -> Callable[..., Any]:
    return getattr(torch.nn.functional, name)


def samples(name: str) -> list[Call]:
    found = pytorch.sample_calls(f"nn.functional.{name}")
    if name.startswith("embedding"):  # the samples have the weight first
        found = [Call(case.name, (case.args[1], case.args[0]), case.kwargs) for case in found]
    for case in found:
        if name == "normalize" and case.args[0].shape[case.kwargs.get("dim", 1) :][:1] == (1,):
            case.args[0].requires_grad_(False)  # numbers divided by themselves: their gradient is rounding errors
    return found


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_pytorchs_samples(name: str) -> None:
    pytorch.check_eager(getattr(F, name), theirs(name), samples(name), operations=256)


def test_one_hot() -> None:
    cases = pytorch.sample_calls("nn.functional.one_hot", torch.int64, grad=False)
    cases += [call(str(d), torch.tensor([[0, 2]], dtype=torch.int64).to(d)) for d in (torch.int64,)]
    cases += [call("no classes", torch.zeros((0,), dtype=torch.int64), 3)]
    pytorch.check_eager(F.one_hot, torch.nn.functional.one_hot, cases)
    assert F.one_hot(Tensor([1], "uint8"), 3).dtype == volta.int32
    np.testing.assert_array_equal(F.one_hot(Tensor([1, 0], "uint8")), [[0, 1], [1, 0]])


# -- linear maps ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_linear_maps_in_other_dtypes(dtype: torch.dtype) -> None:
    x, y, weight, bias = (torch.tensor(draw(*s)).to(dtype) for s in ((2, 3, 4), (2, 3, 5), (6, 4, 5), (6,)))
    pytorch.check_eager(
        F.linear,
        torch.nn.functional.linear,
        [call("linear", x, weight[:, :, 0].clone(), bias), call("vector", x, x[0, 0])],
    )
    pytorch.check_eager(F.bilinear, torch.nn.functional.bilinear, [call("bilinear", x, y, weight, bias)])


def test_linear_broadcasts_its_bias() -> None:
    cases = [call("one", draw(2, 4), draw(3, 4), draw(1)), call("scalar", draw(2, 4), draw(3, 4), draw())]
    pytorch.check_eager(F.linear, torch.nn.functional.linear, cases)
    np.testing.assert_allclose(F.linear([1.0, 2.0], [3.0, 4.0], 0.5), 11.5)


# -- lookups -------------------------------------------------------------------------------------------------------


def test_embedding() -> None:
    weight = draw(5, 3)
    indices = torch.tensor([[0, 4, 4], [2, 4, 0]])
    options: list[dict[str, Any]] = [
        {"padding_idx": 4},
        {"padding_idx": -5},
        {"scale_grad_by_freq": True},
        {"padding_idx": 0, "scale_grad_by_freq": True},
    ]
    cases = [call(str(o), indices, weight, **o) for o in options]
    cases += [call(f"{i}", indices.to(i), weight) for i in (torch.int32, torch.int64)]
    cases += [call(str(d), indices, torch.tensor(weight).to(d), padding_idx=2, scale_grad_by_freq=True) for d in DTYPES]
    cases += [call("none", torch.zeros((2, 0), dtype=torch.int64), weight), call("one", torch.tensor(3), weight)]
    pytorch.check_eager(F.embedding, torch.nn.functional.embedding, cases)


def test_embeddings_gradient_is_a_scatter() -> None:
    def loss(weight: Any, indices: Any) -> Tensor:
        return (F.embedding(indices, weight, padding_idx=1) ** 2).sum()

    lowered = volta.jit(volta.grad(loss)).lower(volta.spec((1000, 8)), volta.spec((4,), "int32"))
    text = lowered.as_text("volta-simplify")
    assert "volta.scatter_add" in text
    assert "dot_general" not in text
    assert "x1000x" not in text and "<4x1000" not in text  # nothing pairs the indices with the rows


def test_embedding_bag() -> None:
    weight, ids = draw(6, 3), torch.tensor([1, 1, 5, 0, 5, 2, 2])
    bags: list[tuple[Any, dict[str, Any]]] = [
        (ids, {"offsets": torch.tensor([0, 3, 3, 5])}),  # one is empty
        (ids, {"offsets": torch.tensor([0, 2, 7], dtype=torch.int64), "include_last_offset": True}),
        (ids, {"offsets": torch.tensor([0, 3]), "padding_idx": 5}),
        (ids[:6].reshape(2, 3), {}),
        (ids[:6].reshape(2, 3), {"padding_idx": -1}),
        (torch.tensor([[5, 5], [5, 1]]), {"padding_idx": 5}),  # one is empty without its padding
    ]
    cases = [call(f"{mode}, {i.tolist()}, {options}", i, weight, mode=mode, **options)
             for mode, (i, options) in itertools.product(("sum", "mean", "max"), bags)]  # fmt: skip
    cases += [
        call(f"weighted {o}", i, weight, mode="sum", per_sample_weights=draw(*i.shape, seed=1), **o) for i, o in bags
    ]
    cases += [call(f"{d}", i, torch.tensor(weight).to(d), **o) for d in DTYPES for i, o in (bags[0], bags[4])]
    pytorch.check_eager(F.embedding_bag, torch.nn.functional.embedding_bag, cases)


@pytest.mark.parametrize("mode", ["sum", "mean"])
def test_embedding_bag_scales_gradients_by_frequency(mode: str) -> None:
    # PyTorch's gradients are wrong here, on the CPU: it takes some counts of another index.
    ids = np.array([[1, 1, 5], [0, 5, 2]])
    weights = draw(2, 3, seed=1)

    def gradient(by_frequency: bool) -> np.ndarray:
        def loss(weight: Any) -> Tensor:
            return (F.embedding_bag(ids, weight, mode=mode, scale_grad_by_freq=by_frequency) * weights).sum()

        return volta.grad(loss)(draw(6, 3)).numpy()

    counts = np.array([1, 2, 1, 1, 1, 2], np.float32)
    np.testing.assert_allclose(gradient(True), gradient(False) / counts[:, None], rtol=1e-6)


def test_one_hot_of_traced_classes_needs_their_number() -> None:
    np.testing.assert_array_equal(
        volta.jit(lambda x: F.one_hot(x, 3))(np.array([1, -1, 3], np.int32)), [[0, 1, 0], [0, 0, 0], [0, 0, 0]]
    )
    with pytest.raises(TraceError, match="one_hot: pass num_classes"):
        volta.jit(lambda x: F.one_hot(x)).lower(volta.spec((2,), "int32"))


# -- norms and distances -------------------------------------------------------------------------------------------

EXPONENTS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, INF, -INF, -1.0, -2.0)


def test_normalize() -> None:
    x = draw(3, 4)
    x[1] = 0
    x[2] = [0, 1, -2, 0]
    cases = [call(f"p={p}", x[:1], p) for p in EXPONENTS]
    cases += [call(f"with zeros, p={p}", x[1:], p) for p in (0.0, 1.0, 1.5, 2.0, 3.0)]
    cases += [call(str(d), torch.tensor(x).to(d), dim=0) for d in DTYPES]
    cases += [
        call("large in float16", torch.tensor(x[2:] * 1e3).half()),
        call("axes", draw(2, 3, 4), dim=(0, -1)),
        call("eps", x, eps=10.0),
    ]
    pytorch.check_eager(F.normalize, torch.nn.functional.normalize, cases)


def test_distances() -> None:
    x, y = draw(4, 3), draw(4, 3, seed=1)
    cases = [call(f"p={p}", x, y, p) for p in EXPONENTS]
    cases += [call(f"equal, p={p}", x, x.copy(), p, 0.0) for p in (0.0, 1.0, 1.5, 2.0, 3.0)]
    cases += [call("broadcast", draw(2, 1, 3), draw(4, 3), keepdim=True)]
    cases += [call(str(d), torch.tensor(x).to(d), torch.tensor(y).to(d)) for d in DTYPES]
    pytorch.check_eager(F.pairwise_distance, torch.nn.functional.pairwise_distance, cases)
    rows = np.concatenate([x, x[:1]])  # two are equal
    pytorch.check_eager(
        F.pdist, torch.nn.functional.pdist, [call(f"p={p}", rows, p) for p in (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, INF)]
    )
    pytorch.check_eager(F.pdist, torch.nn.functional.pdist, [call("float64", rows.astype(float))])
    assert F.pdist(Tensor(rows, "bfloat16")).dtype == volta.bfloat16


def test_cosine_similarity() -> None:
    x, y = draw(4, 3), draw(4, 3, seed=1)
    x[0] = y[1] = 0
    cases = [call(f"eps={eps}", x, y, eps=eps) for eps in (1e-8, 2.0)]
    cases += [call(str(d), torch.tensor(x).to(d), torch.tensor(y).to(d), dim=0) for d in DTYPES]
    cases += [call("large in float16", *(torch.tensor(t * 1e3).half() for t in (x[2:], y[2:])))]
    pytorch.check_eager(F.cosine_similarity, torch.nn.functional.cosine_similarity, cases)


# -- compiled, transformed -----------------------------------------------------------------------------------------


def test_compiled() -> None:
    pairs = [(getattr(F, n), theirs(n), case) for n in FUNCTIONS for case in pytorch.first_calls(samples(n), 1)]
    ids, weight = torch.tensor([1, 1, 5, 0]), draw(6, 3)
    bags = {"offsets": torch.tensor([0, 3, 3])}
    more: list[tuple[str, Call]] = [
        ("embedding", call("by frequency", ids, weight, padding_idx=0, scale_grad_by_freq=True)),
        ("embedding_bag", call("max with an empty bag", ids, weight, mode="max", **bags)),
        ("normalize", call("p=1.5", np.array([[1, 0], [0, 0]], np.float32), 1.5)),
        ("pairwise_distance", call("p=2 of equal rows", weight, weight.copy(), eps=0.0)),
        ("one_hot", call("one_hot", ids, 6)),
    ]
    pytorch.check_compiled(pairs + [(getattr(F, n), theirs(n), case) for n, case in more], operations=256)


def test_compiled_lookups_take_indices_as_arguments() -> None:
    @volta.jit
    def function(ids: Any, offsets: Any, weight: Any) -> Any:
        return F.embedding(ids, weight), F.embedding_bag(ids, weight, offsets)

    ids, offsets, weight = np.array([2, 0, 2]), np.array([0, 1]), draw(3, 2)
    rows, bags = function(ids, offsets, weight)
    np.testing.assert_array_equal(rows, weight[ids])
    np.testing.assert_allclose(bags, [weight[2], (weight[0] + weight[2]) / 2], rtol=1e-6)


@pytest.mark.parametrize("name", ["normalize", "cosine_similarity", "pairwise_distance", "bilinear"])
def test_second_derivatives(name: str) -> None:
    x, y, weight = (draw(*shape, seed=i).astype(float) for i, shape in enumerate([(2, 3), (2, 3), (4, 3, 3)]))
    others = {"normalize": [], "bilinear": [y, weight]}.get(name, [y])

    def loss(function: Any, tensor: Any) -> Any:
        return lambda x: (function(x, *map(tensor, others)) ** 2 * 0.5 + function(x, *map(tensor, others))).sum()

    actual = volta.hessian(loss(getattr(F, name), Tensor))(Tensor(x))
    expected = torch.autograd.functional.hessian(loss(theirs(name), torch.tensor), torch.tensor(x))
    np.testing.assert_allclose(actual, expected.numpy(), atol=1e-9)


def test_vmap_is_a_loop() -> None:
    ids = np.random.default_rng(0).integers(0, 5, (3, 4))
    x, y, weight = draw(3, 2, 4), draw(3, 2, 4, seed=1), draw(5, 4, seed=2)
    offsets = Tensor([0, 1])
    cases: list[tuple[Callable[..., Tensor], tuple[np.ndarray, ...]]] = [
        (lambda i: F.embedding(i, weight), (ids,)),
        (lambda i: F.embedding_bag(i, weight, offsets, mode="max"), (ids,)),
        (lambda i: F.one_hot(i, 5), (ids,)),
        (lambda x: F.linear(x, weight), (x,)),
        (lambda x: F.normalize(x, 3.0), (x,)),
        (F.cosine_similarity, (x, y)),
        (F.pdist, (x,)),
    ]
    for function, arguments in cases:
        loop = np.stack([function(*row).numpy() for row in zip(*map(list, arguments), strict=True)])
        np.testing.assert_allclose(volta.vmap(function)(*arguments), loop, rtol=2e-6)


# -- bad input -----------------------------------------------------------------------------------------------------

X, W = np.zeros((2, 3), np.float32), np.zeros((4, 3), np.float32)
IDS = np.array([0, 1], np.int64)


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        (lambda: F.linear(X, W.T), ShapeError, r"linear: expected an input of shape \(..., 4\), got float32\[2,3\]"),
        (lambda: F.linear(np.float32(1), W), ShapeError, "linear: expected an input of shape"),
        (lambda: F.linear(X, W[None]), ShapeError, r"linear: expected a weight of shape .*float32\[1,4,3\]"),
        (lambda: F.linear(X, W, np.zeros(3)), ShapeError, "can't be broadcast"),
        (lambda: F.linear(X, W, np.zeros((5, 2, 4))), ShapeError, r"linear: expected a bias of shape \(4,\)"),
        (lambda: F.linear(X[0], W[0], np.zeros(3)), ShapeError, r"linear: expected a bias of shape \(\)"),
        (lambda: F.bilinear(X, X, W), ShapeError, r"bilinear: expected a weight of shape \(out, in1, in2\)"),
        (lambda: F.bilinear(X, X, W[None]), ShapeError, r"expected inputs of shapes \(..., 4\) and \(..., 3\)"),
        (lambda: F.bilinear(X, X[:1], np.zeros((1, 3, 3))), ShapeError, "the same leading extents"),
        (lambda: F.embedding([4], W), ShapeError, "embedding: an index 4 is out of bounds; expected 0 to 3"),
        (lambda: F.embedding([-1], W), ShapeError, "embedding: an index -1 is out of bounds"),
        (lambda: F.embedding([0.5], W), DTypeError, r"embedding: expected integers as an index, got float32\[1\]"),
        (lambda: F.embedding(IDS, W[0]), ShapeError, r"expected a weight of shape \(V, D\), got float32\[3\]"),
        (lambda: F.embedding(IDS, W.astype(int)), DTypeError, "embedding: expected an input of floating-point numbers"),
        (lambda: F.embedding(IDS, W, padding_idx=4), ShapeError, "padding_idx 4 is not within the 4 rows"),
        (lambda: F.embedding(IDS, W, max_norm=1.0), ValueError, "embedding: max_norm would change the weight"),
        (lambda: F.embedding_bag(IDS, W), ShapeError, "an input of rank 1 needs offsets"),
        (lambda: F.embedding_bag(IDS[0], W), ShapeError, "expected an input of rank 1 or 2, got int64"),
        (lambda: F.embedding_bag(IDS[None], W, [0]), ShapeError, "offsets has to be None"),
        (lambda: F.embedding_bag(IDS, W, [[0]]), ShapeError, r"expected offsets of rank 1, got int32\[1,1\]"),
        (lambda: F.embedding_bag(IDS, W, [1]), ShapeError, r"expected offsets that ascend from 0, got \[1\]"),
        (lambda: F.embedding_bag(IDS, W, [0, 2, 1]), ShapeError, r"offsets that ascend from 0, got \[0, 2, 1\]"),
        (lambda: F.embedding_bag(IDS, W, [0, 3]), ShapeError, "an offset 3 is out of bounds; expected 0 to 2"),
        (lambda: F.embedding_bag(IDS, W, [], include_last_offset=True), ShapeError, "expected offsets of rank 1"),
        (lambda: F.embedding_bag(IDS, W, [0], mode="min"), ValueError, "one of sum, mean or max, got 'min'"),
        (lambda: F.embedding_bag(IDS, W, [0], mode="max", scale_grad_by_freq=True), ValueError, "by the frequency"),
        (lambda: F.embedding_bag(IDS, W, [0], per_sample_weights=[1.0, 1.0]), ValueError, "only supported for mode"),
        (lambda: F.embedding_bag(IDS, W, [0], mode="sum", per_sample_weights=[1.0]), ShapeError, r"of shape \(2,\)"),
        (lambda: F.embedding_bag(IDS, W, [0], max_norm=1.0), ValueError, "max_norm would change the weight"),
        (lambda: F.one_hot([3], 3), ShapeError, "one_hot: a class 3 is out of bounds; expected 0 to 2"),
        (lambda: F.one_hot([-1]), ShapeError, "one_hot: a class -1 is out of bounds"),
        (lambda: F.one_hot([1.0], 3), DTypeError, "one_hot: expected integers as a class"),
        (lambda: F.one_hot([1], 0), ValueError, "num_classes should be positive, or -1, got 0"),
        (lambda: F.one_hot(np.zeros(0, int)), ShapeError, "from an empty tensor"),
        (lambda: F.normalize(X, dim=2), ShapeError, "normalize: dimension out of range"),
        (lambda: F.normalize(X.astype(int)), DTypeError, "normalize: expected an input of floating-point"),
        (lambda: F.cosine_similarity(X, W), ShapeError, "can't be broadcast"),
        (lambda: F.cosine_similarity([1], [2], 0), DTypeError, "cosine_similarity: expected floating-point numbers"),
        (lambda: F.cosine_similarity(X, X, 2), ShapeError, "cosine_similarity: dimension out of range"),
        (lambda: F.pairwise_distance(1.0, 2.0), ShapeError, "pairwise_distance takes tensors of rank 1 or more"),
        (lambda: F.pdist(X[0]), ShapeError, r"pdist: expected a tensor of rank 2, got float32\[3\]"),
        (lambda: F.pdist(X, -1.0), ValueError, "pdist only supports non-negative p values, got -1.0"),
    ],
)  # fmt: skip
def test_bad_input(function: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        function()
