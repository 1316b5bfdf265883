"""Loss functions against PyTorch's."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import volta_mlir as volta
from tests import pytorch
from tests.pytorch import Call, call
from volta_mlir import Tensor, tree
from volta_mlir.errors import DTypeError, ShapeError, TraceError
from volta_mlir.nn import functional as F

INF = float("inf")
REDUCTIONS = ("mean", "sum", "none")


def theirs(name: str) -> Callable[..., Any]:
    return getattr(torch.nn.functional, name)


def samples(name: str) -> list[Call]:
    return pytorch.sample_calls(f"nn.functional.{name}")


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def probabilities(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.05, 0.95, shape).astype(np.float32)


def signs(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.tensor(np.random.default_rng(seed).choice([-1, 1], shape))


def fixed(x: np.ndarray) -> torch.Tensor:
    """A tensor that is not differentiated."""
    return torch.tensor(x)


def constant(case: Call, *positions: int) -> Call:
    """The call without derivatives by the arguments at these positions, which PyTorch does not have."""
    for position in positions:
        case.args[position].requires_grad_(False)
    return case


def optioned(name: str, args: tuple[Any, ...], options: dict[str, Any]) -> Call:
    """A call with derivatives by its arguments and not by its options."""
    return Call(name, call(name, *args).args, options)


CLASSES = torch.tensor([[0, 2, 1], [1, 3, 2]])
#: The losses of two tensors of one shape, with values for them and options.
PAIRS: dict[str, tuple[np.ndarray, Any, tuple[dict[str, Any], ...]]] = {
    "mse_loss": (draw(3, 4), draw(3, 4, seed=1), ({"weight": fixed(probabilities(3, 4))},)),
    "l1_loss": (draw(3, 4), draw(3, 4, seed=1), ({"weight": fixed(probabilities(3, 4))},)),
    "smooth_l1_loss": (draw(3, 4), draw(3, 4, seed=1), ({"beta": 0.5}, {"beta": 0.0})),
    "huber_loss": (draw(3, 4), draw(3, 4, seed=1), ({"delta": 0.5}, {"weight": fixed(probabilities(3, 4))})),
    "binary_cross_entropy": (
        probabilities(3, 4),
        probabilities(3, 4, seed=1),
        ({"weight": fixed(probabilities(4, seed=2))},),
    ),
    "binary_cross_entropy_with_logits": (
        draw(3, 4),
        probabilities(3, 4),
        (
            {"weight": fixed(probabilities(3, 1, seed=2))},
            {"pos_weight": fixed(probabilities(4, seed=2)), "weight": fixed(probabilities(4, seed=3))},
        ),
    ),
    "kl_div": (draw(3, 4), probabilities(3, 4), ({"log_target": True}, {"reduction": "batchmean"})),
    "poisson_nll_loss": (
        probabilities(3, 4) * 3,
        probabilities(3, 4, seed=1) * 5,
        ({"full": True}, {"log_input": False, "full": True, "eps": 0.1}),
    ),
    "hinge_embedding_loss": (draw(3, 4), signs(3, 4), ({"margin": 0.3},)),
    "soft_margin_loss": (draw(3, 4), signs(3, 4), ()),
    "multilabel_soft_margin_loss": (
        draw(3, 4),
        fixed((probabilities(3, 4) > 0.5).astype(np.float32)),
        ({"weight": fixed(probabilities(3, 4, seed=2))}, {"weight": fixed(probabilities(4, seed=2))}),
    ),
}
#: The others.
MORE: dict[str, tuple[tuple[Any, ...], tuple[dict[str, Any], ...]]] = {
    "cross_entropy": (
        (draw(2, 4, 3), CLASSES),
        (
            {"weight": fixed(probabilities(4))},
            {"label_smoothing": 0.2},
            {"label_smoothing": 0.2, "weight": fixed(probabilities(4)), "ignore_index": 2},
            {"ignore_index": 1},
        ),
    ),
    "nll_loss": ((draw(2, 4, 3), CLASSES), ({"weight": fixed(probabilities(4))}, {"ignore_index": 2})),
    "gaussian_nll_loss": (
        (draw(3, 4), draw(3, 4, seed=1), probabilities(3, 4)),
        ({"full": True}, {"eps": 0.5}),
    ),
    "margin_ranking_loss": ((draw(3, 4), draw(3, 4, seed=1), signs(3, 4)), ({"margin": 0.5},)),
    "cosine_embedding_loss": ((draw(6, 4), draw(6, 4, seed=1), signs(6)), ({"margin": 0.5}, {"margin": -0.5})),
    "triplet_margin_loss": (
        (draw(5, 4), draw(5, 4, seed=1), draw(5, 4, seed=2)),
        ({"swap": True}, {"p": 1.0, "margin": 0.2}, {"p": 3.0, "eps": 0.1}),
    ),
    "multi_margin_loss": (
        (draw(4, 3), torch.tensor([0, 2, 1, 2])),
        ({"p": 2}, {"margin": 0.5, "weight": fixed(probabilities(3))}),
    ),
    "multilabel_margin_loss": ((draw(2, 4), torch.tensor([[3, 0, -1, 1], [2, 2, 1, -1]])), ()),
}
NAMES = (*PAIRS, *MORE)


def arguments(name: str) -> tuple[tuple[Any, ...], list[dict[str, Any]]]:
    """Arguments, and options for them, the empty ones first."""
    args, options = MORE[name] if name in MORE else (PAIRS[name][:2], PAIRS[name][2])
    return args, [{}, *options]


@pytest.mark.parametrize("name", NAMES)
def test_pytorchs_samples(name: str) -> None:
    pytorch.check_eager(getattr(F, name), theirs(name), samples(name))


@pytest.mark.parametrize("name", NAMES)
def test_options_and_reductions(name: str) -> None:
    args, options = arguments(name)
    cases = [
        optioned(f"{o}, {reduction}", args, {"reduction": reduction, **o}) for o in options for reduction in REDUCTIONS
    ]
    pytorch.check_eager(getattr(F, name), theirs(name), cases)


@pytest.mark.parametrize("name", NAMES)
def test_dtypes(name: str) -> None:
    args, options = arguments(name)

    def case(options: dict[str, Any], *dtypes: torch.dtype) -> Call:
        """The call with its numbers converted to one dtype after the other."""

        def converted(x: Any) -> Any:
            x = torch.as_tensor(x) if isinstance(x, np.ndarray) else x
            if isinstance(x, torch.Tensor) and x.dtype.is_floating_point:
                for dtype in dtypes:
                    x = x.to(dtype)
            return x

        converted_options = {"reduction": "sum", **{k: converted(v) for k, v in options.items()}}
        return optioned(f"{dtypes[-1]}, {options}", tuple(converted(a) for a in args), converted_options)

    pytorch.check_eager(getattr(F, name), theirs(name), [case(o, torch.float64) for o in options])
    # PyTorch rounds some of its intermediate values to half precision.
    for dtype in (torch.float16, torch.bfloat16):
        for o in options:
            exact, half = case(o, dtype, torch.float64), case(o, dtype)
            expected = theirs(name)(*exact.args, **exact.kwargs).item()
            actual = getattr(F, name)(*map(pytorch.to_volta, half.args), **tree.map(pytorch.to_volta, half.kwargs))
            assert actual.dtype == pytorch.to_volta(dtype)
            assert abs(actual.item() - expected) <= torch.finfo(dtype).eps * abs(expected)


# -- classes -------------------------------------------------------------------------------------------------------


def test_cross_entropys_layout() -> None:
    rng = np.random.default_rng(0)
    cases = []
    for shape in ((4,), (5, 4), (2, 4, 3), (2, 4, 3, 2)):
        classes = shape[:0] if len(shape) == 1 else (shape[0], *shape[2:])
        logits = draw(*shape) * 10
        target = torch.tensor(rng.integers(0, 4, classes))
        some = torch.where(target == 2, -100, target)
        soft = torch.softmax(torch.tensor(draw(*shape, seed=1)), min(1, len(shape) - 1))
        for options in ({}, {"label_smoothing": 0.1}, {"weight": fixed(probabilities(4))}):
            cases += [optioned(f"{shape}, {options}", (logits, target), options)]
            cases += [optioned(f"{shape}, some ignored, {options}", (logits, some), options)]
            cases += [optioned(f"{shape}, soft, {options}", (logits, soft), options)]
    pytorch.check_eager(F.cross_entropy, torch.nn.functional.cross_entropy, cases)


def test_cross_entropy_of_extreme_logits() -> None:
    logits = np.array([[1000, 1000, -1000], [1e30, -1e30, 0], [0, -INF, 1], [5, 5, 5]], np.float32)
    target = torch.tensor([0, 0, 2, 1])
    pytorch.check_eager(
        F.cross_entropy,
        torch.nn.functional.cross_entropy,
        [call("extreme", logits, target, reduction=r) for r in REDUCTIONS]
        + [call("all ignored", logits, torch.full((4,), -100), reduction="mean"),
           call("no targets", logits[:0], target[:0], reduction="mean")],
    )  # fmt: skip


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int32", "uint32", "int64"])
def test_classes_of_any_integer_dtype(dtype: str) -> None:
    logits, classes = draw(3, 4), np.array([0, 3, 2])
    expected = torch.nn.functional.cross_entropy(torch.tensor(logits), torch.tensor(classes)).numpy()
    np.testing.assert_allclose(F.cross_entropy(logits, classes.astype(dtype)), expected, rtol=1e-6)
    np.testing.assert_allclose(volta.jit(F.cross_entropy)(logits, classes.astype(dtype)), expected, rtol=1e-6)


def test_a_compiled_program_leaves_out_classes_that_do_not_exist() -> None:
    logits, classes = draw(4, 3), np.array([0, 3, -1, 2], np.int32)
    for name in ("cross_entropy", "nll_loss"):
        expected = theirs(name)(torch.tensor(logits[[0, 3]]), torch.tensor([0, 2]))
        np.testing.assert_allclose(volta.jit(getattr(F, name))(logits, classes), expected.numpy(), rtol=1e-6)
        with pytest.raises(ShapeError, match=f"{name}: target 3 is out of bounds; expected 0 to 2"):
            getattr(F, name)(logits, classes)


def test_cross_entropys_gradient_is_cheap() -> None:
    def loss(x: Any, y: Any) -> Tensor:
        return F.cross_entropy(x, y)

    lowered = volta.jit(volta.grad(loss)).lower(volta.spec((8, 100)), volta.spec((8,), "int32"))
    text = lowered.as_text("volta-simplify")  # fusion may compute an exponential again
    assert "scatter" not in text
    assert "gather" not in text
    assert text.count("volta.exp") == 1
    logits, classes = draw(8, 100), np.arange(8)
    expected = (F.softmax(logits, 1) - F.one_hot(classes, 100)).numpy() / 8
    np.testing.assert_allclose(volta.grad(loss)(logits, classes), expected, atol=1e-8)


def test_means_of_many_in_half_precision_do_not_overflow() -> None:
    logits = Tensor(np.zeros((20000, 50)), "float16")
    assert abs(F.cross_entropy(logits, np.zeros(20000, int)).item() - np.log(50)) < 1e-2
    assert F.mse_loss(logits, logits - 200).item() == 40000


# -- differences, probabilities ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss"])
def test_kinks(name: str) -> None:
    x = np.array([0, 1, -1, 0.5, -0.5, 1e4, INF], np.float32)
    cases = [call("kinks", x, np.zeros_like(x), reduction="none")]
    if name in ("smooth_l1_loss", "huber_loss"):
        option = {"smooth_l1_loss": "beta", "huber_loss": "delta"}[name]
        cases += [call("other kinks", x[:-1], np.zeros(6, np.float32), **{option: 0.5}, reduction="none")]
    else:
        cases += [call("integers", x[:-1], torch.arange(6))]
    pytorch.check_eager(getattr(F, name), theirs(name), cases)


@pytest.mark.parametrize("name", ["mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss"])
def test_broadcasting_warns(name: str) -> None:
    x, y = draw(3, 4), draw(4, seed=1)
    with pytest.warns(
        UserWarning, match=rf"{name}: the target float32\[4\] and the input float32\[3,4\] differ in shape"
    ):
        actual = getattr(F, name)(x, y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = theirs(name)(torch.tensor(x), torch.tensor(y))
    np.testing.assert_allclose(actual, expected.numpy(), rtol=1e-6)


def test_binary_cross_entropy_at_its_edges() -> None:
    x = np.array([0, 0, 0, 1, 1, 1, 1e-13, 1e-30, 1e-13, 1e-7], np.float32)
    y = fixed(np.array([0, 1, 0.5, 0, 1, 0.5, 0, 1, 1, 1], np.float32))
    cases = [call(f"{a} and {b}", a, b) for a, b in zip(torch.tensor(x), y, strict=True)]
    pytorch.check_eager(
        F.binary_cross_entropy, torch.nn.functional.binary_cross_entropy, [constant(c, 1) for c in cases]
    )


def test_binary_cross_entropy_with_large_logits() -> None:
    x = np.array([1000, -1000, 1000, -1000, 0, 90, -90], np.float32)
    y = np.array([0, 1, 1, 0, 0.5, 0.3, 0.3], np.float32)
    name = "binary_cross_entropy_with_logits"
    pytorch.check_eager(getattr(F, name), theirs(name), [call("large", x, y, reduction="none")])


def test_soft_margin_loss_does_not_overflow() -> None:
    losses = F.soft_margin_loss([1000.0, -1000.0], [1, 1], reduction="none")
    np.testing.assert_array_equal(losses, [0, 1000])
    (gradient,) = volta.vjp(lambda x: F.soft_margin_loss(x, [1, 1], reduction="sum"), Tensor([1000.0, -1000.0]))[1](
        Tensor(1.0)
    )
    np.testing.assert_array_equal(gradient, [0, -1])


def test_kl_div() -> None:
    x, y = draw(3, 4), probabilities(3, 4)
    y[0, 0] = 0
    cases = [constant(call(f"zero, {r}", x, y, reduction=r), 1) for r in (*REDUCTIONS, "batchmean")]
    cases += [
        call("scalar", draw(), probabilities(), reduction="batchmean"),
        call("broadcast", x, y[2], reduction="sum"),
    ]
    pytorch.check_eager(F.kl_div, torch.nn.functional.kl_div, cases)


def test_gaussian_nll_loss_takes_variances_of_several_shapes() -> None:
    x, y = draw(3, 4), draw(3, 4, seed=1)
    cases = [call(f"{s}", x, y, probabilities(*s)) for s in ((3, 4), (3,), (3, 1), (1, 4))]
    cases += [call("number", x, y, 0.25), call("small", x, y, np.full((3, 4), 1e-9, np.float32), eps=1e-3)]
    pytorch.check_eager(F.gaussian_nll_loss, torch.nn.functional.gaussian_nll_loss, cases)


def test_losses_broadcast_where_pytorchs_do() -> None:
    x, y = draw(3, 4), signs(4)
    for name in ("soft_margin_loss", "hinge_embedding_loss"):
        pytorch.check_eager(getattr(F, name), theirs(name), [call(name, x, y)])
    pytorch.check_eager(
        F.margin_ranking_loss, torch.nn.functional.margin_ranking_loss, [call("ranks", x, draw(1, 4), signs(3, 1))]
    )


def test_kinks_of_margins() -> None:
    x = np.array([-1, 0, 1, 2], np.float32)
    zero = np.zeros(4, np.float32)
    checks: list[tuple[str, Call]] = [
        ("margin_ranking_loss", call("tie", x, zero, torch.ones(4, dtype=torch.int64), margin=1.0)),
        ("hinge_embedding_loss", call("tie", x, torch.tensor([-1, -1, -1, -1]), margin=1.0)),
        ("hinge_embedding_loss", call("neither 1 nor -1", x, torch.tensor([0, 2, 1, -1]))),
        ("multi_margin_loss", call("tie", x, torch.tensor(3))),
        ("multilabel_margin_loss", call("tie", x, torch.tensor([3, -1, 0, 0]))),
        ("multilabel_margin_loss", call("no class", x, torch.tensor([-1, -1, 0, 0]))),
        ("cosine_embedding_loss", call("tie", np.eye(2, dtype=np.float32), np.eye(2, dtype=np.float32), signs(2), 1.0)),
        ("cosine_embedding_loss", call("zeros", zero[None], x[None], torch.tensor([1]))),
        ("cosine_embedding_loss", call("neither", x[None], x[None] + 1, torch.tensor([0]))),
        ("triplet_margin_loss", call("rows", draw(3, 2, 4), draw(1, 2, 4), draw(3, 1, 4), reduction="none")),
    ]
    for name, case in checks:
        pytorch.check_eager(getattr(F, name), theirs(name), [case])


def test_triplets_with_a_distance() -> None:
    case = call("l1", draw(5, 4), draw(5, 4, seed=1), draw(5, 4, seed=2))

    def ours(*points: Any) -> Tensor:
        return F.triplet_margin_with_distance_loss(
            *points, distance_function=lambda x, y: volta.abs(x - y).sum(-1), margin=0.5, swap=True
        )

    def reference(*points: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.triplet_margin_with_distance_loss(
            *points, distance_function=lambda x, y: (x - y).abs().sum(-1), margin=0.5, swap=True
        )

    pytorch.check_eager(ours, reference, [case])
    name = "triplet_margin_with_distance_loss"
    pytorch.check_eager(getattr(F, name), theirs(name), [case])


# -- sequences -----------------------------------------------------------------------------------------------------


def ctc(x: Any, *args: Any, **kwargs: Any) -> Tensor:
    return F.ctc_loss(F.log_softmax(x, -1), *args, **kwargs)


def torch_ctc(x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    return torch.nn.functional.ctc_loss(torch.log_softmax(x, -1), *args, **kwargs)


def ctc_calls() -> list[Call]:
    x = draw(6, 3, 4)
    targets = torch.tensor([[1, 1, 2], [3, 1, 3], [2, 2, 2]])
    lengths, target_lengths = torch.tensor([6, 4, 2]), torch.tensor([3, 1, 2])  # the last one does not fit
    options: list[dict[str, Any]] = [
        *({"reduction": r, "zero_infinity": True} for r in REDUCTIONS),
        {"reduction": "none", "blank": 3, "zero_infinity": True},
    ]
    return [
        *(call(f"{o}", x, targets % 3 if "blank" in o else targets, lengths, target_lengths, **o) for o in options),
        call("tuples", x, targets, (6, 6, 6), (3, 0, 2), reduction="none"),
        call("one vector", x, torch.tensor([1, 1, 2, 3, 2]), (6, 6, 6), (3, 1, 1)),
        call("empty targets", x, targets[:, :0], (6, 3, 1), (0, 0, 0)),
        call("one sequence", x[:, 0], targets[0, :2], torch.tensor(5), torch.tensor(2)),
        call("no steps", x, targets, (0, 6, 0), (0, 3, 1), reduction="none", zero_infinity=True),
        call("float64", x.astype(float), targets, (6, 6, 6), (3, 3, 3)),
    ]


def test_ctc_loss() -> None:
    pytorch.check_eager(ctc, torch_ctc, ctc_calls())
    assert F.ctc_loss(Tensor(draw(3, 2, 4), "bfloat16"), [[1], [2]], [3, 3], [1, 1]).dtype == volta.bfloat16


def test_ctc_loss_of_targets_that_do_not_fit_is_infinite() -> None:
    x = torch.log_softmax(torch.tensor(draw(2, 1, 3)), -1)
    assert F.ctc_loss(x.numpy(), [[1, 1]], [2], [2]).item() == INF
    assert torch.nn.functional.ctc_loss(x, torch.tensor([[1, 1]]), [2], [2]).item() == INF


@pytest.mark.full
def test_ctc_loss_of_pytorchs_samples() -> None:
    pytorch.check_eager(ctc, torch_ctc, pytorch.sample_calls("nn.functional.ctc_loss"), operations=3000)


def test_ctc_loss_compiled() -> None:
    x, targets = draw(3, 2, 4), torch.tensor([[1, 1], [3, 2]])
    lengths = np.array([3, 2]), np.array([2, 1])
    pytorch.check_compiled([(ctc, torch_ctc, call("ctc_loss", x, targets, *map(torch.tensor, lengths)))])
    x, targets = F.log_softmax(x, -1), targets.numpy()
    np.testing.assert_allclose(volta.jit(F.ctc_loss)(x, targets, *lengths), F.ctc_loss(x, targets, *lengths), rtol=1e-6)
    with pytest.raises(TraceError, match="targets in one vector need lengths that are known"):
        volta.jit(F.ctc_loss)(x, targets[0], *lengths)


# -- compiled, transformed -----------------------------------------------------------------------------------------


def test_compiled() -> None:
    pairs = []
    for name in NAMES:
        args, options = arguments(name)
        pairs.append((getattr(F, name), theirs(name), optioned(f"{name} {options[-1]}", args, options[-1])))
    soft = torch.softmax(torch.tensor(draw(3, 4)), 1)
    pairs.append(
        (F.cross_entropy, torch.nn.functional.cross_entropy, call("soft", draw(3, 4), soft, label_smoothing=0.1))
    )
    edges = constant(call("edges", np.array([0, 1, 0.5], np.float32), torch.tensor([1.0, 1.0, 0.0])), 1)
    pairs.append((F.binary_cross_entropy, torch.nn.functional.binary_cross_entropy, edges))
    pytorch.check_compiled(pairs)


SMOOTH = (
    "cross_entropy",
    "mse_loss",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "soft_margin_loss",
    "multilabel_soft_margin_loss",
    "poisson_nll_loss",
    "gaussian_nll_loss",
    "cosine_embedding_loss",
    "kl_div",
)


@pytest.mark.parametrize("name", SMOOTH)
def test_second_derivatives(name: str) -> None:
    (x, *others), _ = arguments(name)
    x = x.astype(float)
    rest = [torch.as_tensor(o.astype(float) if isinstance(o, np.ndarray) else o) for o in others]

    def squared(losses: Any) -> Any:
        return (losses * losses).sum()

    actual = volta.hessian(
        lambda x: squared(getattr(F, name)(x, *map(pytorch.to_volta, rest), reduction="none")),
    )(Tensor(x))
    expected = torch.autograd.functional.hessian(
        lambda x: squared(theirs(name)(x, *rest, reduction="none")), torch.tensor(x)
    )
    np.testing.assert_allclose(actual, expected.numpy(), rtol=1e-9, atol=1e-11)


def test_vmap_is_a_loop() -> None:
    x, y, p = draw(3, 4, 5), draw(3, 4, 5, seed=1), probabilities(3, 4, 5)
    classes = np.random.default_rng(0).integers(0, 5, (3, 4))
    cases: list[tuple[Callable[..., Tensor], tuple[np.ndarray, ...]]] = [
        (F.cross_entropy, (x, classes)),
        (lambda x, c: F.cross_entropy(x, c, label_smoothing=0.1, reduction="none"), (x, classes)),
        (F.huber_loss, (x, y)),
        (F.binary_cross_entropy, (p, p[::-1])),
        (F.multi_margin_loss, (x, classes)),
        (F.triplet_margin_loss, (x, y, p)),
    ]
    for function, arguments in cases:
        loop = np.stack([function(*row).numpy() for row in zip(*map(list, arguments), strict=True)])
        np.testing.assert_allclose(volta.vmap(function)(*arguments), loop, rtol=2e-6)


# -- bad input -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_unknown_reductions(name: str) -> None:
    args, _ = arguments(name)
    with pytest.raises(
        ValueError, match="'average' is not a valid value for reduction; expected 'mean', 'sum' or 'none'"
    ):
        getattr(F, name)(*map(pytorch.to_volta, args), reduction="average")


@pytest.mark.parametrize("name", NAMES)
def test_integers_are_refused(name: str) -> None:
    args, _ = arguments(name)
    integers = [np.asarray(a).astype(np.int32) for a in args]
    with pytest.raises(DTypeError, match=f"{name}: expected .*floating-point numbers, got int32"):
        getattr(F, name)(*integers)


T = np.zeros((4, 2, 3), np.float32)
X = np.zeros((2, 3), np.float32)
C = np.zeros(2, np.int64)


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        (
            lambda: F.cross_entropy(X, np.zeros(3, int)),
            ShapeError,
            r"need classes of shape \(2,\) or probabilities of shape \(2, 3\), got int64\[3\]",
        ),
        (lambda: F.cross_entropy(X, np.zeros(2)), ShapeError, r"probabilities of shape \(2, 3\), got float64\[2\]"),
        (lambda: F.cross_entropy(X, np.zeros((2, 3), int)), ShapeError, r"classes of shape \(2,\)"),
        (lambda: F.cross_entropy(np.float32(1), 0), ShapeError, r"cross_entropy: expected an input of shape \(C,\)"),
        (lambda: F.cross_entropy(X, [True, False]), DTypeError, "cross_entropy: expected integers as target, got bool"),
        (lambda: F.cross_entropy(X, C, label_smoothing=1.5), ValueError, "must be between 0.0 and 1.0, got 1.5"),
        (lambda: F.cross_entropy(X, C, weight=[1.0]), ShapeError, r"for each of the 3 classes, got float32\[1\]"),
        (lambda: F.cross_entropy(X, X, ignore_index=1), ValueError, "ignore_index=1 is for classes"),
        (lambda: F.nll_loss(X, np.zeros(3, int)), ShapeError, r"float32\[2,3\] needs classes of shape \(2,\)"),
        (lambda: F.nll_loss(X, X), DTypeError, "nll_loss: expected integers as target, got float32"),
        (lambda: F.nll_loss(np.float32(1), 0), ShapeError, "nll_loss: expected an input of shape"),
        (lambda: F.mse_loss(X, np.zeros((4, 3)), weight=X), ShapeError, "can't be broadcast"),
        (lambda: F.mse_loss(X, X, weight=X[0]), ShapeError, "mse_loss: weights and input must have the same size"),
        (lambda: F.huber_loss(X, X, weight=X[0]), ShapeError, "huber_loss: weights and input must have the same size"),
        (lambda: F.huber_loss(X, X, delta=0), ValueError, "non-positive values for delta, got 0"),
        (lambda: F.smooth_l1_loss(X, X, beta=-1), ValueError, "negative values for beta, got -1"),
        (lambda: F.binary_cross_entropy(X, X[0]), ShapeError, "must have the shape of the input"),
        (lambda: F.binary_cross_entropy(X + 2, X), ValueError, "all elements of input should be between 0 and 1"),
        (lambda: F.binary_cross_entropy(X, X, weight=np.zeros(2)), ShapeError, "can't be broadcast"),
        (lambda: F.binary_cross_entropy(X, X, weight=np.zeros((4, 2, 3))), ShapeError, "expected a weight that can be"),
        (lambda: F.binary_cross_entropy_with_logits(X, X[0]), ShapeError, "must have the shape of the input"),
        (lambda: F.gaussian_nll_loss(X, X, -1.0), ValueError, "var has negative entry/entries"),
        (lambda: F.gaussian_nll_loss(X, X, X - 1), ValueError, "var has negative entry/entries"),
        (lambda: F.gaussian_nll_loss(X, X, np.ones(3)), ShapeError, r"var float32\[3\] is of incorrect size"),
        (lambda: F.gaussian_nll_loss(X, X, np.ones((1, 1))), ShapeError, "is of incorrect size"),
        (lambda: F.margin_ranking_loss(X, X, X[0]), ShapeError, r"input2: float32\[2,3\], target: float32\[3\]"),
        (lambda: F.cosine_embedding_loss(X, X, X), ShapeError, "expected inputs of shape"),
        (lambda: F.cosine_embedding_loss(X[0], X[0], C), ShapeError, "expected inputs of shape"),
        (lambda: F.cosine_embedding_loss(X, X, np.ones(3)), ShapeError, "can't be broadcast"),
        (lambda: F.multi_margin_loss(X, C, p=3), ValueError, "only p == 1 and p == 2 supported, got 3"),
        (lambda: F.multi_margin_loss(X, C[:1]), ShapeError, r"expected a target of shape \(2,\), got int64\[1\]"),
        (lambda: F.multi_margin_loss(X, C + 3), ShapeError, "multi_margin_loss: target 3 is out of bounds"),
        (lambda: F.multi_margin_loss(X[None], C), ShapeError, r"expected an input of shape \(C,\) or \(N, C\)"),
        (lambda: F.multilabel_margin_loss(X, C), ShapeError, r"expected a target of shape \(2, 3\), got int64\[2\]"),
        (lambda: F.multilabel_margin_loss(X, X.astype(int) + 3), ShapeError, "target 3 is out of bounds"),
        (lambda: F.ctc_loss(T[None], [[1], [1]], C, C), ShapeError, r"log_probs of shape \(T, N, C\) or \(T, C\)"),
        (lambda: F.ctc_loss(T, [[1], [1]], C, C, blank=3), ShapeError, "blank must be in the range 0 to 2, got 3"),
        (lambda: F.ctc_loss(T, [[1], [3]], C, C), ShapeError, "ctc_loss: target 3 is out of bounds"),
        (lambda: F.ctc_loss(T, [[1], [1]], C + 5, C), ShapeError, "input_lengths 5 is out of bounds; expected 0 to 4"),
        (lambda: F.ctc_loss(T, [[1], [1]], C, C[:1]), ShapeError, r"target_lengths of shape \(2,\), got int64\[1\]"),
        (lambda: F.ctc_loss(T, [[1], [1]], C, C + 2), ShapeError, "do not have the lengths"),
        (lambda: F.ctc_loss(T, [1, 1], C, C), ShapeError, "do not have the lengths"),
        (lambda: F.ctc_loss(T, [[1]], C, C), ShapeError, r"expected targets of shape \(2, S\)"),
        (lambda: F.ctc_loss(T[:, 0], [[1]], 1, 1), ShapeError, "expected targets of shape"),
        (lambda: F.ctc_loss(T.astype(int), [[1], [1]], C, C), DTypeError, "ctc_loss: expected an input of floating"),
        (lambda: F.multilabel_soft_margin_loss(1.0, 1.0), ShapeError, "takes an input of rank 1 or more"),
        (lambda: F.triplet_margin_loss(X, X, X[0]), ShapeError, "anchor, positive and negative of the same rank"),
        (lambda: F.triplet_margin_loss(X, X, X, margin=0), ValueError, "margin must be greater than 0, got 0"),
        (lambda: F.triplet_margin_with_distance_loss(X, X, X, margin=-1), ValueError, "greater than 0, got -1"),
    ],
)  # fmt: skip
def test_bad_input(function: Callable[[], Any], error: type[Exception], message: str) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "mse_loss: the target")
        with pytest.raises(error, match=message):
            function()
