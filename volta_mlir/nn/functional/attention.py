"""Attention."""

from __future__ import annotations

import math
from typing import Any

import volta_mlir as volta
from volta_mlir import random
from volta_mlir.dialects.attention import AttentionOp, MaskedAttentionOp
from volta_mlir.dialects.reduction import accumulator
from volta_mlir.dtypes import bool_, is_float
from volta_mlir.errors import DTypeError, OptionError, ShapeError, TraceError
from volta_mlir.functions.common import as_tensor, broadcast_shapes
from volta_mlir.tensor import Tensor

__all__ = ["scaled_dot_product_attention"]

_NAME = "scaled_dot_product_attention"


def scaled_dot_product_attention(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    *,
    dropout_key: Any = None,
) -> Tensor:
    """``softmax(query · keyᵀ * scale + mask) · value``, without keeping a matrix of queries by keys.

    The backward pass recomputes the probabilities from each query's log-sum-exp. Leading axes are broadcast. Scores are
    computed in float32 at least. With dropout, the matrix of probabilities is kept.

    Args:
        query: ``[..., heads, length, width]``, floating-point; or fewer leading axes.
        key: ``[..., heads, source length, width]``, of the same dtype.
        value: ``[..., heads, source length, width of the result]``, of the same dtype.
        attn_mask: broadcasts to ``[..., heads, length, source length]``. A bool mask is True where a query sees a key;
            a float mask, float32 or of the query's dtype, is added to the scores. A query that sees no key gets zeros.
        dropout_p: the probability with which probabilities are zeroed, whether or not a module is in training.
        is_causal: query ``i`` sees the keys up to ``i``, counted from the first ones. Not together with a mask.
        scale: of the scores; default ``1 / sqrt(width)``.
        enable_gqa: whether keys and values may have fewer heads than queries, of which each is shared by a group of
            successive query heads; it is not repeated in memory.
        dropout_key: a key of :mod:`volta_mlir.random` that says what is dropped; needed with dropout. PyTorch draws
            from a global state instead.

    Returns:
        ``[..., heads, length, width of the result]``, of the query's dtype.

    Raises:
        ShapeError, DTypeError: the tensors do not fit together.
        ValueError: both a mask and ``is_causal``, or a ``dropout_p`` that is no probability.
        TraceError: dropout without a key.

    Source: Dao et al., "FlashAttention" (2022); PyTorch's function of this name.

    >>> query, key = Tensor([[1.0, 0.0]]), Tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> scaled_dot_product_attention(query, key, Tensor([[1.0], [3.0]]), scale=0.0).tolist()
    [[2.0]]
    """
    query, key, value = map(as_tensor, (query, key, value))
    _check(query, key, value, enable_gqa)
    if attn_mask is not None and is_causal:
        raise OptionError(f"{_NAME}: attn_mask must not be given when is_causal=True")
    if not 0 <= dropout_p <= 1:
        raise OptionError(f"{_NAME}: dropout probability has to be between 0 and 1, but got {dropout_p}")
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None and query.shape[-1] else float(scale or 0)
    leading = _leading_shape(query, key, value, enable_gqa)
    length, source, width = query.shape[-2], key.shape[-2], value.shape[-1]
    mask = None if attn_mask is None else _mask(as_tensor(attn_mask), query, (*leading, length, source))
    out_shape = (*leading, length, width)
    if 0 in (*out_shape, source):  # without keys, every query sees none
        return volta.zeros(out_shape, query.dtype)

    # As [batch, heads, group, …]: query heads that share a head of keys are a group.
    heads = leading[-1] if leading else 1
    shared = key.shape[-3] if enable_gqa else heads
    batch = math.prod(leading[:-1])
    groups = heads // shared
    q = volta.broadcast_to(query, (*leading, *query.shape[-2:])).reshape(batch, shared, groups, *query.shape[-2:])
    k, v = (
        volta.broadcast_to(x, (*leading[:-1], shared, *x.shape[-2:]) if leading else x.shape).reshape(
            batch, shared, *x.shape[-2:]
        )
        for x in (key, value)
    )
    if mask is not None:
        mask = _grouped_mask(mask, leading, shared)
    if dropout_p > 0:
        out = _with_dropout(q, k, v, mask, is_causal, scale, dropout_p, dropout_key)
    elif mask is not None:
        out, _ = MaskedAttentionOp.apply(q, k, v, mask, scale=scale)
    else:
        out, _ = AttentionOp.apply(q, k, v, scale=scale, causal=is_causal)
    return out.reshape(out_shape)


def _check(query: Tensor, key: Tensor, value: Tensor, enable_gqa: bool) -> None:
    """Raises an error unless these can be queries, keys and values."""
    specs = f"query {query.spec}, key {key.spec} and value {value.spec}"
    if min(query.ndim, key.ndim, value.ndim) < 2:
        raise ShapeError(f"{_NAME}: expected query, key and value of at least 2 dimensions, got {specs}")
    if not is_float(query.dtype) or not query.dtype == key.dtype == value.dtype:
        raise DTypeError(f"{_NAME}: expected query, key and value of one floating-point dtype, got {specs}")
    if query.shape[-1] != key.shape[-1]:
        raise ShapeError(f"{_NAME}: query and key must have the same last dimension, got {specs}")
    if key.shape[-2] != value.shape[-2]:
        raise ShapeError(f"{_NAME}: key and value must have the same length, got {specs}")
    if enable_gqa:
        if min(query.ndim, key.ndim, value.ndim) < 3:
            raise ShapeError(f"{_NAME}: enable_gqa needs a dimension of heads, got {specs}")
        if key.shape[-3] != value.shape[-3] or not key.shape[-3] or query.shape[-3] % key.shape[-3]:
            raise ShapeError(
                f"{_NAME}: the number of heads of key and value must be the same and divide that of query, got {specs}"
            )


def _leading_shape(query: Tensor, key: Tensor, value: Tensor, enable_gqa: bool) -> tuple[int, ...]:
    """The axes before the last two, broadcast; with ``enable_gqa``, heads are those of the query."""
    last = -3 if enable_gqa else -2
    shapes = [x.shape[:last] for x in (query, key, value)]
    try:
        leading = broadcast_shapes(*shapes)
    except ShapeError:
        raise ShapeError(
            f"{_NAME}: leading dimensions can't be broadcast: query {query.spec}, key {key.spec}, value {value.spec}"
        ) from None
    return (*leading, query.shape[-3]) if enable_gqa else leading


def _mask(mask: Tensor, query: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The mask with as many axes as ``shape``, bool or in the dtype of the scores."""
    wide = accumulator(query.dtype)
    if mask.dtype not in (bool_, wide, query.dtype):
        raise DTypeError(
            f"{_NAME}: expected attn_mask to be bool, {wide.name} or of the query's dtype, got {mask.spec} for"
            f" {query.spec}"
        )
    fits = mask.ndim <= len(shape) and all(
        m in (1, s) for m, s in zip(mask.shape, shape[len(shape) - mask.ndim :], strict=True)
    )
    if not fits:
        raise ShapeError(f"{_NAME}: attn_mask {mask.spec} can't be broadcast to the scores {shape}")
    mask = mask.reshape((1,) * (len(shape) - mask.ndim) + mask.shape)
    return mask if mask.dtype == bool_ else mask.astype(wide)


def _grouped_mask(mask: Tensor, leading: tuple[int, ...], shared: int) -> Tensor:
    """A mask with as many axes as the scores as ``[batch, heads, group, length, source length]``, 1 where it can be."""
    batch = mask.shape[: len(leading) - 1]
    if math.prod(batch) != 1:
        batch = leading[:-1]
        mask = volta.broadcast_to(mask, (*batch, *mask.shape[len(batch) :]))
    heads = mask.shape[-3] if leading else 1
    grouped = (1, 1) if heads == 1 else (shared, heads // shared)
    return mask.reshape(math.prod(batch), *grouped, *mask.shape[-2:])


def _with_dropout(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    causal: bool,
    scale: float,
    p: float,
    key: Any,
) -> Tensor:
    """Attention whose probabilities are dropped, over the matrix of all of them."""
    if key is None:
        raise TraceError(f"{_NAME}: dropout_p={p} needs dropout_key=volta.random.key(seed), another one at each call")
    wide = accumulator(q.dtype)
    scores = volta.einsum("bhgle,bhse->bhgls", q.astype(wide), k.astype(wide)) * scale
    shape = scores.shape[-2:]
    if causal:
        mask = (volta.iota(shape, axis=0) >= volta.iota(shape, axis=1)).reshape(1, 1, 1, *shape)
    if mask is not None:
        scores = volta.where(mask, scores, -math.inf) if mask.dtype == bool_ else scores + mask
    largest = volta.stop_gradient(scores.max(-1, keepdims=True))
    weights = volta.exp(scores - volta.where(largest == -math.inf, 0.0, largest))
    total = weights.sum(-1, keepdims=True)
    weights = weights / volta.where(total == 0, 1.0, total)
    kept = random.bernoulli(key, 1 - p, weights.shape)
    weights = volta.where(kept, weights * (1 / (1 - p) if p < 1 else 0.0), 0.0)
    return volta.einsum("bhgls,bhse->bhgle", weights, v.astype(wide)).astype(q.dtype)
