"""Scaled dot-product attention, of which no matrix of queries by keys is kept.

Queries are ``[batch, heads, group, length, width]``, keys and values ``[batch, heads, source length, width]``: a group
of query heads shares a head of keys (grouped-query attention), which is never repeated in memory. Besides its result,
attention returns each query's log-sum-exp of scores, from which the backward pass recomputes the probabilities block
by block, as in Dao et al., "FlashAttention" (2022).

Two computations do this. For the CPU there are kernels (:mod:`volta_mlir.dialects.attention_kernels`), which keep a
tile of scores on the stack. Everything else, and what is differentiated further, is :meth:`expand`: queries are taken
in blocks of :data:`BLOCK`, so that what is alive at a time is a block's scores with all keys. A causal block only
meets the keys up to its last query, which halves the work. Up to one block this is the plain computation. Blocks are
independent, and a compiler that sees that computes them all at once, with all their scores alive; so each block's
queries are made to depend on the block before (:func:`_after`).

Instead of these, IREE's own ``iree_linalg_ext.attention`` was tried, which takes ten times as long as PyTorch's on a
CPU; and unrolled blocks alone, whose kernels all differ when causal: at 4096 tokens they took five times as long as
PyTorch's, and half a minute to compile.

The ops are composites: forward mode and higher derivatives differentiate the expansion, reverse mode is attention's
own :meth:`pullback`. The gradient is an op of its own, so that it can be batched, lowered and differentiated like any
other. It takes ``delta``, for each query the inner product of result and cotangent less the cotangent of the
log-sum-exp, and no result: that is all in which either enters.
"""

import functools
import operator

import numpy as np

from volta_mlir import functions as F
from volta_mlir.dialects import attention_kernels
from volta_mlir.dialects.base import Composite, Operand, Result, require, require_float
from volta_mlir.dialects.elementwise import StopGradientOp
from volta_mlir.dialects.reduction import accumulator
from volta_mlir.dtypes import bool_
from volta_mlir.errors import DTypeError

#: The most queries of a head whose scores are alive at a time.
BLOCK = 512


# -- specs ---------------------------------------------------------------------------------------------------------


def _check(q, k, v, mask=None):
    """Raises ShapeError or DTypeError unless the operands are queries, keys, values and a mask for them."""
    require_float(q, "attention")
    for spec in (k, v):
        if spec.dtype != q.dtype:
            raise DTypeError(f"queries, keys and values must have one dtype, got {q}, {k} and {v}")
    require(
        q.rank == 5 and k.rank == v.rank == 4,
        f"queries must have the axes (batch, heads, group, length, width), keys and values (batch, heads, length,"
        f" width), got {q}, {k} and {v}",
    )
    require(q.shape[:2] == k.shape[:2] == v.shape[:2], f"batch and heads differ between {q}, {k} and {v}")
    require(q.shape[-1] == k.shape[-1], f"the widths of queries {q} and keys {k} differ")
    require(k.shape[2] == v.shape[2], f"the lengths of keys {k} and values {v} differ")
    require(0 not in q.shape + v.shape, f"attention takes no empty tensors, got {q}, {k} and {v}")
    if mask is None:
        return
    if mask.dtype not in (bool_, accumulator(q.dtype)):
        raise DTypeError(f"a mask must be bool or {accumulator(q.dtype).name} for {q}, got {mask}")
    scores = (*q.shape[:4], k.shape[2])
    require(
        mask.rank == 5 and all(m in (1, s) for m, s in zip(mask.shape, scores, strict=True)),
        f"the mask {mask} does not broadcast to {scores}",
    )


def _check_gradient(q, v, lse, delta, dout):
    """Raises ShapeError or DTypeError unless the operands belong to the results of attention over ``q`` and ``v``."""
    rows = q.with_shape(q.shape[:4]).with_dtype(accumulator(q.dtype))
    if (lse, delta) != (rows, rows):
        raise DTypeError(f"log-sum-exp and delta of {q} must be {rows}, got {lse} and {delta}")
    expected = q.with_shape((*q.shape[:4], v.shape[-1]))
    require(dout == expected, f"the result's cotangent must be {expected}, got {dout}")


def _results(q, v):
    """The specs of attention's results."""
    return q.with_shape((*q.shape[:4], v.shape[-1])), q.with_shape(q.shape[:4]).with_dtype(accumulator(q.dtype))


# -- the computation over blocks -----------------------------------------------------------------------------------


def _blocks(q, k, causal):
    """For each block of queries its first and last one, and how many keys it meets."""
    length, source = q.shape[3], k.shape[2]
    for first in range(0, length, BLOCK):
        last = min(first + BLOCK, length)
        yield first, last, min(last, source) if causal else source


def _rows(x, first, last):
    """Queries ``first`` to ``last`` of a tensor that has them on axis 3."""
    return x if (first, last) == (0, x.shape[3]) else F.slice_in_dim(x, first, last, axis=3)


def _keys(x, count):
    """The first ``count`` keys of a tensor that has them on axis 2."""
    return x if count == x.shape[2] else F.slice_in_dim(x, 0, count, axis=2)


def _mask_rows(mask, first, last):
    """The part of a mask that belongs to queries ``first`` to ``last``."""
    return mask if mask.shape[3] == 1 else _rows(mask, first, last)


def _after(x, block):
    """``x``, computed after ``block``: a select by what is always true, which no compiler knows of data."""
    if block is None:
        return x
    element = F.reshape(block[(slice(0, 1),) * block.ndim], (1,) * x.ndim)
    return F.where(F.broadcast_to(F.logical_not(F.abs(element) < 0), x.shape), x, 0.0)


def _product(q, k):
    """``[b, h, g, l, e] · [b, h, s, e]`` to ``[b, h, g, l, s]`` in the dtype in which scores are computed."""
    return F.dot_general(q, k, ((4,), (3,)), ((0, 1), (0, 1)), dtype=accumulator(q.dtype))


def _weighted(p, v):
    """``[b, h, g, l, s] · [b, h, s, e]`` to ``[b, h, g, l, e]``; ``p`` is rounded to the dtype of ``v``."""
    return F.dot_general(p.astype(v.dtype), v, ((4,), (2,)), ((0, 1), (0, 1)), dtype=p.dtype)


def _collected(p, q):
    """``[b, h, g, l, s] · [b, h, g, l, e]`` to ``[b, h, s, e]``; ``p`` is rounded to the dtype of ``q``."""
    return F.dot_general(p.astype(q.dtype), q, ((2, 3), (2, 3)), ((0, 1), (0, 1)), dtype=p.dtype)


def _scores(q, k, mask, first, scale, causal):
    """The scores of queries from ``first`` on; -inf where a query does not see a key."""
    scores = _product(q, k) * scale
    if causal:
        shape = scores.shape[3:]
        seen = F.iota(shape, axis=0) + first >= F.iota(shape, axis=1)
        return F.where(F.broadcast_to(seen, scores.shape), scores, -np.inf)
    if mask is None:
        return scores
    return F.where(mask, scores, -np.inf) if mask.dtype == bool_ else scores + mask


def _attention(q, k, v, mask, scale, causal):
    """The results of attention, block by block."""
    outs, sums, block = [], [], None
    for first, last, count in _blocks(q, k, causal):
        part = None if mask is None else _mask_rows(mask, first, last)
        scores = _scores(_after(_rows(q, first, last), block), _keys(k, count), part, first, scale, causal)
        # The result does not depend on what is subtracted. A query that sees no key has only -inf, and gets zeros.
        largest = StopGradientOp.apply(F.max(scores, -1, keepdims=True))
        largest = F.where(largest == -np.inf, 0.0, largest)
        weights = F.exp(scores - largest)
        total = F.sum(weights, -1, keepdims=True)
        sees_nothing = total == 0
        total = F.where(sees_nothing, 1.0, total)
        block = (_weighted(weights, _keys(v, count)) / total).astype(q.dtype)
        outs.append(block)
        sums.append(F.where(sees_nothing, -np.inf, largest + F.log(total))[..., 0])
    return F.concatenate(outs, 3), F.concatenate(sums, 3)


def _score_gradients(q, k, v, mask, lse, delta, dout, scale, causal, first, last):
    """The probabilities of queries ``first`` to ``last`` and the gradients of their scores.

    ``q`` and ``dout`` are theirs, ``k`` and ``v`` what they meet; the others are whole.
    """
    scores = _scores(q, k, None if mask is None else _mask_rows(mask, first, last), first, scale, causal)
    sums = F.expand_dims(_rows(lse, first, last), -1)
    p = F.exp(scores - F.where(sums == -np.inf, 0.0, sums))
    return p, p * (_product(dout, v) - F.expand_dims(_rows(delta, first, last), -1))


def _gradients(q, k, v, mask, lse, delta, dout, scale, causal):
    """The cotangents of queries, keys and values, block by block."""
    dq, block = [], None
    dk, dv = F.zeros(k.shape, lse.dtype), F.zeros(v.shape, lse.dtype)
    for first, last, count in _blocks(q, k, causal):
        queries, cotangent = (_after(_rows(x, first, last), block) for x in (q, dout))
        keys, values = _keys(k, count), _keys(v, count)
        p, ds = _score_gradients(queries, keys, values, mask, lse, delta, cotangent, scale, causal, first, last)
        block = _weighted(ds, keys) * scale
        dq.append(block.astype(q.dtype))
        dk, dv = _add_keys(dk, _collected(ds, queries)), _add_keys(dv, _collected(p, cotangent))
    return F.concatenate(dq, 3), (dk * scale).astype(k.dtype), dv.astype(v.dtype)


def _add_keys(total, part):
    """``total`` with ``part`` added to its first keys."""
    count = part.shape[2]
    if count == total.shape[2]:
        return total + part
    return F.concatenate([_keys(total, count) + part, F.slice_in_dim(total, count, total.shape[2], axis=2)], 2)


# -- references, derivatives, batches, costs -------------------------------------------------------------------------


def _reference_scores(q, k, mask, scale, causal):
    scores = scale * np.einsum("bhgle,bhse->bhgls", q.astype(np.float64), k.astype(np.float64))
    if causal:
        return np.where(np.tri(*scores.shape[3:]) == 1, scores, -np.inf)
    if mask is None:
        return scores
    return np.where(mask, scores, -np.inf) if mask.dtype == bool_ else scores + mask.astype(np.float64)


def _reference_probabilities(scores, lse):
    return np.exp(scores - np.where(np.isneginf(lse), 0, lse)[..., None])


def _reference(q, k, v, mask, scale, causal):
    scores = _reference_scores(q, k, mask, scale, causal)
    lse = np.logaddexp.reduce(scores, axis=-1)
    return np.einsum("bhgls,bhse->bhgle", _reference_probabilities(scores, lse), v.astype(np.float64)), lse


def _reference_gradients(q, k, v, mask, lse, delta, dout, scale, causal):
    """The cotangents of queries, keys, values and scores."""
    q, k, v, lse, delta, dout = (x.astype(np.float64) for x in (q, k, v, lse, delta, dout))
    p = _reference_probabilities(_reference_scores(q, k, mask, scale, causal), lse)
    ds = p * (np.einsum("bhgle,bhse->bhgls", dout, v) - delta[..., None])
    dq = scale * np.einsum("bhgls,bhse->bhgle", ds, k)
    dk = scale * np.einsum("bhgls,bhgle->bhse", ds, q)
    return dq, dk, np.einsum("bhgls,bhgle->bhse", p, dout), ds


def _delta(outs, cotangents):
    """What :class:`AttentionGradOp` takes in the place of the results: how the scores' gradients are centred."""
    (out, lse), (dout, dlse) = outs, cotangents
    return F.sum(out.astype(lse.dtype) * dout.astype(lse.dtype), -1) - dlse


def _merged(operands, batched, size):
    """The operands with the new leading axis, of extent ``size``, merged into the batch."""
    return [
        F.reshape(x if b else F.broadcast_to(x, (size, *x.shape)), (size * x.shape[b], *x.shape[1 + b :]))
        for x, b in zip(operands, batched, strict=True)
    ]


def _size(operands, batched):
    """The extent of the new leading axis."""
    return next(x.shape[0] for x, b in zip(operands, batched, strict=True) if b)


def _merged_mask(operands, batched):
    """:func:`_merged` of the mask, which is operand 3, with an entry for each member of the batch."""
    q, mask = operands[0], operands[3]
    whole = _size(operands, batched), q.shape[batched[0]]
    mask = F.broadcast_to(mask, (*whole, *mask.shape[1 + batched[3] :]))
    return F.reshape(mask, (whole[0] * whole[1], *mask.shape[2:]))


def _split(results, size):
    """The results with the batch divided again."""
    return tuple(F.reshape(x, (size, x.shape[0] // size, *x.shape[1:])) for x in results)


def _shared_axes(mask):
    """The axes along which a mask is the same for all."""
    return tuple(a for a in range(5) if mask.shape[a] == 1)


def _pairs(q, k, causal):
    """How many scores are computed."""
    length, source = q.shape[3], k.shape[2]
    rows = sum(min(i + 1, source) for i in range(length)) if causal else length * source
    return q.size // (length * q.shape[4]) * rows


class AttentionOp(Composite, name="attention"):
    """``softmax(scale * q·kᵀ) v`` of ``q`` [batch, heads, group, length, e], ``k`` [batch, heads, source length, e] and
    ``v`` [batch, heads, source length, f], and the log-sum-exp of each query's scores.

    With ``causal``, query ``i`` sees the keys up to ``i``. Scores are computed in float32 at least.
    """

    q: Operand
    k: Operand
    v: Operand
    out: Result
    lse: Result
    scale: float
    causal: bool

    @classmethod
    def infer(cls, q, k, v, *, scale, causal):
        _check(q, k, v)
        return _results(q, v)

    @staticmethod
    def reference(q, k, v, *, scale, causal):
        return _reference(q, k, v, None, scale, causal)

    @classmethod
    def expand(cls, q, k, v, *, scale, causal):
        return _attention(q, k, v, None, scale, causal)

    @classmethod
    def pullback(cls, primals, outs, cotangents, *, scale, causal):
        delta = _delta(outs, cotangents)
        return AttentionGradOp.apply(*primals, outs[1], delta, cotangents[0], scale=scale, causal=causal)

    @classmethod
    def kernel(cls, name, operands, results, **attributes):
        q, k, v = operands
        if attention_kernels.applies(q, v):
            return attention_kernels.forward(name, q, k, v, None, results, **attributes)
        return None

    @classmethod
    def batch(cls, operands, batched, **attributes):
        size = _size(operands, batched)
        return _split(cls.apply(*_merged(operands, batched, size), **attributes), size)

    @classmethod
    def flops(cls, operands, results, *, scale, causal):
        q, k, v = operands
        return _pairs(q, k, causal) * (2 * q.shape[-1] + 2 * v.shape[-1] + 4)


class AttentionGradOp(Composite, name="attention_grad"):
    """The cotangents of attention's operands.

    ``lse`` is its second result, ``dout`` the cotangent of its first, ``delta`` the inner product of the first result
    and ``dout`` for each query, less the cotangent of ``lse``.
    """

    q: Operand
    k: Operand
    v: Operand
    lse: Operand
    delta: Operand
    dout: Operand
    dq: Result
    dk: Result
    dv: Result
    scale: float
    causal: bool

    @classmethod
    def infer(cls, q, k, v, lse, delta, dout, *, scale, causal):
        _check(q, k, v)
        _check_gradient(q, v, lse, delta, dout)
        return q, k, v

    @staticmethod
    def reference(q, k, v, lse, delta, dout, *, scale, causal):
        return _reference_gradients(q, k, v, None, lse, delta, dout, scale, causal)[:3]

    @classmethod
    def expand(cls, q, k, v, lse, delta, dout, *, scale, causal):
        return _gradients(q, k, v, None, lse, delta, dout, scale, causal)

    @classmethod
    def kernel(cls, name, operands, results, **attributes):
        q, k, v, lse, delta, dout = operands
        if attention_kernels.applies(q, v):
            return attention_kernels.gradient(name, q, k, v, None, lse, delta, dout, results, **attributes)
        return None

    @classmethod
    def batch(cls, operands, batched, **attributes):
        size = _size(operands, batched)
        return _split(cls.apply(*_merged(operands, batched, size), **attributes), size)

    @classmethod
    def flops(cls, operands, results, *, scale, causal):
        q, k, v, *_ = operands
        return _pairs(q, k, causal) * (6 * q.shape[-1] + 4 * v.shape[-1] + 5)


class MaskedAttentionOp(Composite, name="masked_attention"):
    """Attention with a mask, whose axes (batch, heads, group, length, source length) may have extent 1 for all.

    A float mask (float32 for half precision) is added to the scores; where a bool mask is False, a query does not see
    the key. A query that sees no key gets zeros, and -inf for its log-sum-exp.
    """

    q: Operand
    k: Operand
    v: Operand
    mask: Operand
    out: Result
    lse: Result
    scale: float

    @classmethod
    def infer(cls, q, k, v, mask, *, scale):
        _check(q, k, v, mask)
        return _results(q, v)

    @staticmethod
    def reference(q, k, v, mask, *, scale):
        return _reference(q, k, v, mask, scale, False)

    @classmethod
    def expand(cls, q, k, v, mask, *, scale):
        return _attention(q, k, v, mask, scale, False)

    @classmethod
    def pullback(cls, primals, outs, cotangents, *, scale):
        operands = *primals, outs[1], _delta(outs, cotangents), cotangents[0]
        grads = MaskedAttentionGradOp.apply(*operands, scale=scale)
        return *grads, None if primals[3].dtype == bool_ else AttentionMaskGradOp.apply(*operands, scale=scale)

    @classmethod
    def kernel(cls, name, operands, results, *, scale):
        q, k, v, mask = operands
        if attention_kernels.applies(q, v, mask):
            return attention_kernels.forward(name, q, k, v, mask, results, scale=scale, causal=False)
        return None

    @classmethod
    def batch(cls, operands, batched, *, scale):
        *others, mask = operands
        if batched[3] or mask.shape[0] != 1:
            mask = _merged_mask(operands, batched)
        size = _size(operands, batched)
        return _split(cls.apply(*_merged(others, batched[:3], size), mask, scale=scale), size)

    @classmethod
    def flops(cls, operands, results, *, scale):
        q, k, v, _ = operands
        return _pairs(q, k, False) * (2 * q.shape[-1] + 2 * v.shape[-1] + 5)


class MaskedGradient(Composite):
    """Family of the gradients of masked attention, with :class:`AttentionGradOp`'s operands and the mask."""

    q: Operand
    k: Operand
    v: Operand
    mask: Operand
    lse: Operand
    delta: Operand
    dout: Operand

    @classmethod
    def batch(cls, operands, batched, *, scale):
        size = _size(operands, batched)
        others = _merged(operands[:3] + operands[4:], batched[:3] + batched[4:], size)
        outs = cls.apply(*others[:3], _merged_mask(operands, batched), *others[3:], scale=scale)
        return _split(outs if isinstance(outs, tuple) else (outs,), size)


class MaskedAttentionGradOp(MaskedGradient, name="masked_attention_grad"):
    """The cotangents of queries, keys and values of masked attention; see :class:`AttentionGradOp`."""

    dq: Result
    dk: Result
    dv: Result
    scale: float

    @classmethod
    def infer(cls, q, k, v, mask, lse, delta, dout, *, scale):
        _check(q, k, v, mask)
        _check_gradient(q, v, lse, delta, dout)
        return q, k, v

    @staticmethod
    def reference(q, k, v, mask, lse, delta, dout, *, scale):
        return _reference_gradients(q, k, v, mask, lse, delta, dout, scale, False)[:3]

    @classmethod
    def expand(cls, q, k, v, mask, lse, delta, dout, *, scale):
        return _gradients(q, k, v, mask, lse, delta, dout, scale, False)

    @classmethod
    def kernel(cls, name, operands, results, *, scale):
        q, k, v, mask, lse, delta, dout = operands
        if attention_kernels.applies(q, v, mask):
            return attention_kernels.gradient(name, q, k, v, mask, lse, delta, dout, results, scale=scale, causal=False)
        return None

    @classmethod
    def flops(cls, operands, results, *, scale):
        q, k, v, *_ = operands
        return _pairs(q, k, False) * (6 * q.shape[-1] + 4 * v.shape[-1] + 6)


class AttentionMaskGradOp(MaskedGradient, name="attention_mask_grad"):
    """The cotangent of the mask of masked attention, a float mask; an op of its own, since it is seldom wanted."""

    dmask: Result
    scale: float

    @classmethod
    def infer(cls, q, k, v, mask, lse, delta, dout, *, scale):
        _check(q, k, v, mask)
        _check_gradient(q, v, lse, delta, dout)
        require_float(mask, "attention_mask_grad")
        return mask

    @staticmethod
    def reference(q, k, v, mask, lse, delta, dout, *, scale):
        *_, ds = _reference_gradients(q, k, v, mask, lse, delta, dout, scale, False)
        return ds.sum(_shared_axes(mask), keepdims=True)

    @classmethod
    def expand(cls, q, k, v, mask, lse, delta, dout, *, scale):
        sums, block = [], None
        for first, last, _ in _blocks(q, k, False):
            queries, cotangent = (_after(_rows(x, first, last), block) for x in (q, dout))
            _, ds = _score_gradients(queries, k, v, mask, lse, delta, cotangent, scale, False, first, last)
            block = F.sum(ds, _shared_axes(mask), keepdims=True)
            sums.append(block)
        return functools.reduce(operator.add, sums) if mask.shape[3] == 1 else F.concatenate(sums, 3)

    @classmethod
    def batch(cls, operands, batched, *, scale):
        (dmask,) = super().batch(operands, batched, scale=scale)
        return F.sum(dmask, 1, keepdims=True) if operands[3].shape[batched[3]] == 1 else dmask

    @classmethod
    def flops(cls, operands, results, *, scale):
        q, k, v, *_ = operands
        return _pairs(q, k, False) * (2 * q.shape[-1] + 2 * v.shape[-1] + 6)
