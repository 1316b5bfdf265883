"""nn.functional.scaled_dot_product_attention against PyTorch's."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

import volta_mlir as volta
from tests import harness, tolerances
from tests.pytorch import Call, check_compiled, check_eager, sample_calls, to_numpy
from volta_mlir import Tensor
from volta_mlir import random as volta_random
from volta_mlir.dialects import attention as dialect
from volta_mlir.errors import DTypeError, ShapeError, TraceError
from volta_mlir.kernels import linked_text
from volta_mlir.nn import functional as F

ours, theirs = F.scaled_dot_product_attention, torch.nn.functional.scaled_dot_product_attention


def reference(*args: Any, **kwargs: Any) -> torch.Tensor:
    """PyTorch's function by its plain implementation: the others refuse gradients of some masks."""
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        return theirs(*args, **kwargs)


def tensors(*shapes: tuple[int, ...], dtype: torch.dtype = torch.float32, grad: bool = True) -> list[torch.Tensor]:
    rng = np.random.default_rng(len(shapes) + sum(map(sum, shapes)))
    return [torch.tensor(rng.standard_normal(s)).to(dtype).requires_grad_(grad) for s in shapes]


def attention_call(
    name: str, q: tuple[int, ...], kv: tuple[int, ...], *, dtype: torch.dtype = torch.float32, **kwargs: Any
) -> Call:
    return Call(name, tuple(tensors(q, kv, kv, dtype=dtype)), kwargs)


def bool_mask(*shape: int, empty_row: bool = False) -> torch.Tensor:
    mask = torch.tensor(np.random.default_rng(sum(shape)).random(shape) < 0.6)
    mask[..., 0] = True
    if empty_row:
        mask[..., 0, :] = False
    return mask


def float_mask(*shape: int, dtype: torch.dtype = torch.float32, hides: bool = False) -> torch.Tensor:
    (mask,) = tensors(shape, dtype=dtype, grad=False)
    if hides:
        mask[..., 0, :] = -math.inf
        mask[..., 1:, 1] = -math.inf
    return mask.requires_grad_()


SIZES = (2, 3, 5, 8)  # batch, heads, length, width

CALLS = [
    attention_call("plain", SIZES, SIZES),
    attention_call("causal", SIZES, SIZES, is_causal=True),
    attention_call("causal, more keys", (2, 3, 4, 8), (2, 3, 7, 8), is_causal=True),
    attention_call("causal, more queries", (2, 3, 7, 8), (2, 3, 4, 8), is_causal=True),
    attention_call("one query, many keys", (2, 3, 1, 8), (2, 3, 33, 8)),
    attention_call("scale", SIZES, SIZES, scale=0.7),
    attention_call("groups", (2, 6, 5, 8), (2, 2, 7, 8), enable_gqa=True),
    attention_call("causal groups", (2, 6, 5, 8), (2, 3, 5, 8), enable_gqa=True, is_causal=True),
    attention_call("one head for all", (2, 4, 5, 8), (2, 1, 6, 8), enable_gqa=True),
    attention_call("bool mask", SIZES, SIZES, attn_mask=bool_mask(5, 5)),
    attention_call("bool mask of keys", SIZES, SIZES, attn_mask=bool_mask(2, 1, 1, 5)),
    attention_call("bool mask of heads", SIZES, SIZES, attn_mask=bool_mask(3, 5, 5, empty_row=True)),
    attention_call("float mask", SIZES, SIZES, attn_mask=float_mask(5, 5)),
    attention_call("float mask of all", SIZES, SIZES, attn_mask=float_mask(2, 3, 5, 5, hides=True)),
    attention_call("float mask of queries", SIZES, SIZES, attn_mask=float_mask(2, 1, 5, 1).detach()),
    attention_call("mask of groups", (2, 4, 5, 8), (2, 2, 5, 8), attn_mask=float_mask(4, 5, 5), enable_gqa=True),
    attention_call("matrices", (5, 8), (7, 8)),
    attention_call("matrices with a mask", (5, 8), (7, 8), attn_mask=bool_mask(5, 7)),
    attention_call("broadcast batch", (2, 3, 5, 8), (3, 5, 8)),
    attention_call("rank 5", (2, 2, 3, 5, 8), (2, 2, 3, 5, 8), attn_mask=bool_mask(2, 1, 1, 5, 5)),
    attention_call("no keys", (2, 3, 8), (2, 0, 8)),
    attention_call("no queries", (2, 0, 8), (2, 3, 8)),
    Call("wider values", tuple(tensors((2, 3, 5, 8), (2, 3, 5, 8), (2, 3, 5, 11)))),
]


def test_agrees_with_pytorch() -> None:
    check_eager(ours, reference, CALLS)


def test_agrees_with_pytorch_on_its_samples() -> None:
    calls = [c for c in sample_calls("nn.functional.scaled_dot_product_attention") if not c.kwargs.get("dropout_p")]
    assert len(calls) >= 10
    check_eager(ours, reference, calls)


def test_compiled_agrees_with_pytorch() -> None:
    names = {"causal, more keys", "causal groups", "bool mask of heads", "float mask of all", "one query, many keys"}
    check_compiled([(ours, reference, call) for call in CALLS if call.name in names])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_dtypes(dtype: torch.dtype) -> None:
    calls = [
        attention_call("causal", SIZES, SIZES, dtype=dtype, is_causal=True),
        attention_call("float mask", SIZES, SIZES, dtype=dtype, attn_mask=float_mask(5, 5, dtype=dtype)),
    ]
    check_eager(ours, reference, calls)
    check_compiled([(ours, reference, call) for call in calls])


def naive(q: Tensor, k: Tensor, v: Tensor, mask: Any = None, causal: bool = False) -> Tensor:
    """The same from ordinary functions, which keep the matrix."""
    scores = (q @ k.mT) * (1 / math.sqrt(q.shape[-1]))
    if causal:
        mask = volta.iota(scores.shape[-2:], axis=0) >= volta.iota(scores.shape[-2:], axis=1)
    if mask is not None:
        scores = volta.where(mask, scores, -np.inf) if mask.dtype == np.bool_ else scores + mask
    return F.softmax(scores, -1) @ v


def arrays(*shapes: tuple[int, ...], dtype: str = "float32") -> list[Tensor]:
    return [Tensor(to_numpy(t), dtype) for t in tensors(*shapes, grad=False)]


def assert_close(actual: Any, expected: Any, operations: float = 64) -> None:
    for a, e in zip(volta.tree.leaves(actual), volta.tree.leaves(expected), strict=True):
        problem = tolerances.mismatch(a.numpy(), e.numpy(), tolerances.tolerance(e.dtype, operations))
        assert problem is None, problem


@pytest.mark.parametrize("causal", [False, True])
def test_forward_mode_and_second_order(causal: bool) -> None:
    q, k, v, *tangents = arrays(*[(1, 2, 4, 3)] * 6, dtype="float64")

    def f(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return ours(q, k, v, is_causal=causal)

    def expected(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return naive(q, k, v, causal=causal)

    def gradient_norm(function: Any) -> Any:
        def squares(*args: Tensor) -> Tensor:
            grads = volta.grad(lambda *xs: (function(*xs) ** 2).sum(), (0, 1, 2))(*args)
            return sum((g * g).sum() for g in grads)

        return squares

    assert_close(volta.jvp(f, (q, k, v), tuple(tangents)), volta.jvp(expected, (q, k, v), tuple(tangents)))
    of_ours, of_naive = (volta.grad(gradient_norm(g), (0, 1, 2)) for g in (f, expected))
    assert_close(of_ours(q, k, v), of_naive(q, k, v))
    directional = [volta.jvp(gradient_norm(g), (q, k, v), tuple(tangents)) for g in (f, expected)]
    assert_close(*directional)


def test_vmap() -> None:
    q, k, v, mask = arrays((3, 2, 5, 4), (3, 2, 6, 4), (3, 2, 6, 4), (3, 5, 6))
    mapped = volta.vmap(lambda q, k, v, mask: ours(q, k, v, mask))(q, k, v, mask)
    assert_close(mapped, volta.stack([ours(q[i], k[i], v[i], mask[i]) for i in range(3)]))
    shared = volta.vmap(lambda q: ours(q, k[0], v[0], is_causal=True))(q)
    assert_close(shared, volta.stack([ours(q[i], k[0], v[0], is_causal=True) for i in range(3)]))


def test_gradient_of_a_part_of_the_operands() -> None:
    q, k, v = arrays((2, 5, 4), (2, 5, 4), (2, 5, 4))
    whole = volta.grad(lambda q, k, v: ours(q, k, v).sum() ** 2, (0, 1, 2))(q, k, v)
    assert_close(volta.grad(lambda v: ours(q, k, v).sum() ** 2)(v), whole[2])


# -- memory --------------------------------------------------------------------------------------------------------

LENGTH, HEADS, WIDTH = 4096, 4, 64


def with_gradients(function: Any) -> Any:
    """``function`` of queries, keys and values that also returns their gradients."""

    def both(q: Tensor, k: Tensor, v: Tensor, cotangent: Tensor) -> Any:
        out, pullback = volta.vjp(function, q, k, v)
        return out, *pullback(cotangent)

    return both


def transients(function: Any) -> int:
    """The bytes that a compiled function with its gradients allocates for intermediate results."""
    spec = volta.spec((1, HEADS, LENGTH, WIDTH))
    return volta.jit(with_gradients(function)).lower(spec, spec, spec, spec).compile().plan.transients


@pytest.mark.parametrize("causal", [False, True])
def test_memory_is_linear_in_the_length(causal: bool) -> None:
    operand = 4 * HEADS * LENGTH * WIDTH
    scores = 4 * HEADS * LENGTH * LENGTH
    assert transients(lambda q, k, v: ours(q, k, v, is_causal=causal)) < 8 * operand < scores / 4


def test_memory_of_the_matrix() -> None:
    """What the bound of the other test is worth."""
    assert transients(naive) >= 4 * HEADS * LENGTH * LENGTH


def test_kernels_stand_in_for_functions() -> None:
    """The lowered program is complete without the kernels, and for the CPU it has them."""
    spec = volta.spec((2, 3, 40, 8))
    lowered = volta.jit(lambda q, k, v: ours(q, k, ours(q, k, v))).lower(spec, spec, spec)
    text = lowered.as_text("linalg")
    assert "volta.kernel" in text
    assert text.count("call @attention.") == 2
    assert text.count("func.func private @attention.") == 1  # one for both
    assert "flow.dispatch" not in text
    linked = linked_text(lowered._at("linalg"))
    assert linked.count("flow.dispatch.workgroups[]") == 1
    assert "volta.kernel" not in linked


def test_functions_that_kernels_stand_in_for() -> None:
    """Without the kernels, as other targets compile it."""
    q, k, v = arrays((2, 3, 40, 8), (2, 3, 40, 8), (2, 3, 40, 8))
    module = harness.function_module("main", [x.spec for x in (q, k, v)], lambda *xs: [ours(*xs, is_causal=True)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(harness, "linked_text", lambda module: module.operation.get_asm(print_generic_op_form=True))
        compiled = harness.compile_functions({"main": module})["main"]
    (out,) = harness.call(compiled, [x.numpy() for x in (q, k, v)])
    assert_close([Tensor(out)], [ours(q, k, v, is_causal=True)])


@pytest.mark.no_cover
def test_blocks() -> None:
    """What is computed without kernels, over several blocks, with masks that have the queries' axis and that do not."""
    names = ["causal, more keys", "causal, more queries", "causal groups", "bool mask", "bool mask of keys"]
    names += ["float mask", "float mask of all", "mask of groups"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dialect, "BLOCK", 2)
        check_compiled([(ours, reference, call) for call in CALLS if call.name in names])


# -- dropout -------------------------------------------------------------------------------------------------------


def test_dropout() -> None:
    q, k, v = arrays((2, 3, 5, 8), (2, 3, 6, 8), (2, 3, 6, 8))
    key = volta_random.key(3)
    for kwargs in ({}, {"is_causal": True}, {"attn_mask": Tensor(bool_mask(5, 6).numpy())}):
        out = ours(q, k, v, dropout_p=0.4, dropout_key=key, **kwargs)
        identity = Tensor(np.broadcast_to(np.eye(6, dtype=np.float32), (2, 3, 6, 6)))
        probabilities = ours(q, k, identity, **kwargs)
        dropped = ours(q, k, identity, dropout_p=0.4, dropout_key=key, **kwargs)
        kept = dropped.numpy() != 0
        assert_close(dropped, Tensor(np.where(kept, probabilities.numpy() / 0.6, 0).astype(np.float32)))
        assert_close(out, dropped @ v)
    assert 0.4 < kept[..., :1].mean() < 0.8
    assert not ours(q, k, v, dropout_p=1.0, dropout_key=key).numpy().any()
    assert_close(volta.jit(lambda q: ours(q, k, v, dropout_p=0.4, dropout_key=key, **kwargs))(q), out)


# -- bad input -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shapes", "kwargs", "error", "message"),
    [
        (((5,), (5,), (5,)), {}, ShapeError, "at least 2 dimensions"),
        (((4, 8), (5, 6), (5, 8)), {}, ShapeError, "same last dimension"),
        (((4, 8), (5, 8), (6, 8)), {}, ShapeError, "same length"),
        (((2, 4, 8), (3, 5, 8), (3, 5, 8)), {}, ShapeError, "leading dimensions can't be broadcast"),
        (((4, 8), (4, 8), (4, 8)), {"enable_gqa": True}, ShapeError, "dimension of heads"),
        (((3, 4, 8), (2, 4, 8), (2, 4, 8)), {"enable_gqa": True}, ShapeError, "number of heads"),
        (((4, 8), (5, 8), (5, 8)), {"attn_mask": np.ones((3, 5), bool)}, ShapeError, "can't be broadcast"),
        (((4, 8), (5, 8), (5, 8)), {"attn_mask": np.ones((1, 4, 5), bool)}, ShapeError, "can't be broadcast"),
        (((4, 8), (5, 8), (5, 8)), {"attn_mask": np.ones((4, 5), np.int32)}, DTypeError, "attn_mask to be bool"),
        (((4, 8), (5, 8), (5, 8)), {"attn_mask": np.ones((4, 5), bool), "is_causal": True}, ValueError, "is_causal"),
        (((4, 8), (5, 8), (5, 8)), {"dropout_p": 1.5}, ValueError, "between 0 and 1, but got 1.5"),
        (((4, 8), (5, 8), (5, 8)), {"dropout_p": 0.5}, TraceError, "dropout_key"),
    ],
)
def test_bad_input(shapes: Any, kwargs: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ours(*arrays(*shapes), **kwargs)


def test_bad_dtypes() -> None:
    q, k, v = arrays((4, 8), (4, 8), (4, 8))
    with pytest.raises(DTypeError, match="one floating-point dtype"):
        ours(q, k.astype("float16"), v)
    with pytest.raises(DTypeError, match="one floating-point dtype"):
        ours(*(x.astype("int32") for x in (q, k, v)))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"q": (2, 3, 4)}, ShapeError, "must have the axes"),
        ({"k": (3, 1, 4, 3)}, ShapeError, "batch and heads differ"),
        ({"k": (2, 1, 4, 2)}, ShapeError, "widths"),
        ({"k": (2, 1, 5, 3)}, ShapeError, "lengths"),
        ({"k": (2, 1, 0, 3), "v": (2, 1, 0, 3)}, ShapeError, "no empty tensors"),
        ({"mask": (2, 1, 3, 4, 4)}, ShapeError, "does not broadcast"),
        ({"lse": (2, 1, 1, 5)}, DTypeError, "log-sum-exp"),
        ({"dout": (2, 1, 1, 4, 5)}, ShapeError, "cotangent"),
    ],
)
def test_op_refuses(change: dict[str, Any], error: type[Exception], message: str) -> None:
    shapes = {"q": (2, 1, 1, 4, 3), "k": (2, 1, 4, 3), "v": (2, 1, 4, 3), "mask": (1, 1, 1, 4, 4)}
    shapes |= {"lse": (2, 1, 1, 4), "delta": (2, 1, 1, 4), "dout": (2, 1, 1, 4, 3)}
    specs = [volta.spec(shape) for shape in (shapes | change).values()]
    with pytest.raises(error, match=message):
        dialect.MaskedAttentionGradOp.infer(*specs, scale=1.0)
