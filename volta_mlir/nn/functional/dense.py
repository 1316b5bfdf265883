"""Linear maps, lookups, and distances between vectors.

They have PyTorch's names, arguments and derivatives; ``sparse`` is left out, since gradients are dense. Indices are
integers of any dtype. Those that are known when the function is called are checked; in a compiled program, negative
ones count from the end, and what is out of range then is clamped.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import volta_mlir as volta
from volta_mlir.dtypes import INDEX
from volta_mlir.errors import OptionError, ShapeError, TraceError
from volta_mlir.functions.common import as_tensor, broadcast_shapes
from volta_mlir.nn.functional.arguments import compute_dtype, float_pair, float_tensor, index_tensor, one_axis
from volta_mlir.tensor import Tensor

__all__ = [
    "bilinear",
    "cosine_similarity",
    "embedding",
    "embedding_bag",
    "linear",
    "normalize",
    "one_hot",
    "pairwise_distance",
    "pdist",
]


# -- linear maps ---------------------------------------------------------------------------------------------------


def linear(input: Any, weight: Any, bias: Any = None) -> Tensor:
    """``input @ weight.T + bias``.

    Args:
        input: ``(…, in)``.
        weight: ``(out, in)``, or ``(in,)`` for a result of shape ``(…)``.
        bias: ``(out,)``, or ``()`` for a weight of rank 1, or None.

    Returns:
        ``(…, out)``, of the common dtype of all three.

    Raises:
        ShapeError: the shapes do not fit.

    >>> linear(Tensor([[1.0, 2.0]]), Tensor([[3.0, 4.0]]), Tensor([0.5])).tolist()
    [[11.5]]
    """
    x, weight = as_tensor(input), as_tensor(weight)
    if weight.ndim not in (1, 2):
        raise ShapeError(f"linear: expected a weight of shape (out, in) or (in,), got {weight.spec}")
    if not x.ndim or x.shape[-1] != weight.shape[-1]:
        raise ShapeError(f"linear: expected an input of shape (..., {weight.shape[-1]}), got {x.spec}")
    return _with_bias("linear", volta.dot_general(x, weight, contract=([x.ndim - 1], [weight.ndim - 1])), bias)


def _with_bias(what: str, y: Tensor, bias: Any) -> Tensor:
    if bias is None:
        return y
    bias = as_tensor(bias)
    if bias.ndim > 1 or broadcast_shapes(bias.shape, y.shape) != y.shape:
        raise ShapeError(f"{what}: expected a bias of shape {y.shape[-1:]}, got {bias.spec}")
    return y + bias


def bilinear(input1: Any, input2: Any, weight: Any, bias: Any = None) -> Tensor:
    """``input1ᵀ weight[k] input2 + bias[k]`` for each ``k``.

    Args:
        input1: ``(…, in1)``.
        input2: ``(…, in2)``, with the same leading extents.
        weight: ``(out, in1, in2)``.
        bias: ``(out,)``, or None.

    Returns:
        ``(…, out)``, of the common dtype of all four.

    Raises:
        ShapeError: the shapes do not fit.

    >>> bilinear(Tensor([1.0, 2.0]), Tensor([3.0]), Tensor([[[1.0], [1.0]]])).tolist()
    [9.0]
    """
    x, y, weight = as_tensor(input1), as_tensor(input2), as_tensor(weight)
    if weight.ndim != 3:
        raise ShapeError(f"bilinear: expected a weight of shape (out, in1, in2), got {weight.spec}")
    if x.shape[-1:] != weight.shape[1:2] or y.shape[-1:] != weight.shape[2:] or x.shape[:-1] != y.shape[:-1]:
        raise ShapeError(
            f"bilinear: expected inputs of shapes (..., {weight.shape[1]}) and (..., {weight.shape[2]}) with the same"
            f" leading extents, got {x.spec} and {y.spec}"
        )
    return _with_bias("bilinear", volta.einsum("...i,kij,...j->...k", x, weight, y), bias)


# -- lookups -------------------------------------------------------------------------------------------------------


def embedding(
    input: Any,
    weight: Any,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
) -> Tensor:
    """The rows of ``weight`` that ``input`` names. Its gradient adds the rows' gradients in place: a scatter.

    Args:
        input: integers, any shape.
        weight: ``(V, D)``, floating-point.
        padding_idx: a row that gets no gradient; negative ones count from the end.
        max_norm: must be None: it would change the weight.
        norm_type: has a meaning with ``max_norm`` only.
        scale_grad_by_freq: whether to divide the gradients by how often ``input`` has each index.

    Returns:
        The shape of ``input``, then ``D``.

    Raises:
        ShapeError: the weight is not a matrix, or an index or ``padding_idx`` is out of bounds.
        DTypeError: the indices are not integers, or the weight is not floating-point.
        ValueError: ``max_norm`` is given.

    >>> embedding(Tensor([1, 0, 1]), Tensor([[1.0, 2.0], [3.0, 4.0]])).tolist()
    [[3.0, 4.0], [1.0, 2.0], [3.0, 4.0]]
    """
    table, indices, padding = _table("embedding", input, weight, padding_idx, max_norm)
    return _rows(table, indices, padding, scale_grad_by_freq)


def _table(
    what: str, input: Any, weight: Any, padding_idx: int | None, max_norm: float | None
) -> tuple[Tensor, Tensor, int | None]:
    """The checked weight, indices and padding index."""
    if max_norm is not None:
        raise OptionError(
            f"{what}: max_norm would change the weight, and functions do not; normalise the weight where it is updated"
        )
    table = float_tensor(what, weight)
    if table.ndim != 2:
        raise ShapeError(f"{what}: expected a weight of shape (V, D), got {table.spec}")
    count = table.shape[0]
    if padding_idx is not None:
        if not -count <= padding_idx < count:
            raise ShapeError(f"{what}: padding_idx {padding_idx} is not within the {count} rows of the weight")
        padding_idx %= count
    return table, index_tensor(what, "an index", input, count), padding_idx


def _rows(table: Tensor, indices: Tensor, padding: int | None, scale_grad_by_freq: bool) -> Tensor:
    rows = volta.take(table, indices, axis=0)
    if padding is not None:
        is_padding = volta.expand_dims(indices == padding, -1)
        rows = volta.where(is_padding, volta.stop_gradient(rows), rows)
    if scale_grad_by_freq:
        counts = volta.zeros(table.shape[:1], compute_dtype(table)).at[indices].add(1)
        factors = as_tensor(volta.expand_dims(1 / counts[indices], -1), table.dtype)
        fixed = volta.stop_gradient(rows)
        rows = fixed + (rows - fixed) * factors
    return rows


def embedding_bag(
    input: Any,
    weight: Any,
    offsets: Any = None,
    max_norm: float | None = None,
    norm_type: float = 2,
    scale_grad_by_freq: bool = False,
    mode: str = "mean",
    per_sample_weights: Any = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Tensor:
    """The sum, mean or maximum of the embeddings in each bag; 0 for an empty one.

    Args:
        input: integers: ``(B, N)`` for bags of equal sizes, or ``(N,)`` for bags that ``offsets`` delimits.
        weight: ``(V, D)``, floating-point.
        offsets: ``(B,)``, where in ``input`` each bag starts, ascending from 0; None if the input is a matrix.
        max_norm: must be None: it would change the weight.
        norm_type: has a meaning with ``max_norm`` only.
        scale_grad_by_freq: whether to divide the gradients by how often ``input`` has each index.
        mode: ``"sum"``, ``"mean"`` or ``"max"``. Equal maxima of different embeddings share the gradient.
        per_sample_weights: a factor for each element of ``input``, of its shape, in the mode ``"sum"``.
        include_last_offset: whether the last offset is not a bag's start, but the last one's end.
        padding_idx: an index that counts for nothing; negative ones count from the end.

    Returns:
        ``(B, D)``.

    Raises:
        ShapeError: the shapes do not fit, or an index, an offset or ``padding_idx`` is out of bounds.
        DTypeError: indices or offsets are not integers, or the weight is not floating-point.
        ValueError: ``max_norm`` is given, or the mode is unknown or does not have the other options.

    >>> embedding_bag(Tensor([0, 1, 1]), Tensor([[1.0], [3.0]]), Tensor([0, 2])).tolist()
    [[2.0], [3.0]]
    """
    table, indices, padding = _table("embedding_bag", input, weight, padding_idx, max_norm)
    if mode not in ("sum", "mean", "max"):
        raise OptionError(f"embedding_bag: mode has to be one of sum, mean or max, got {mode!r}")
    if mode == "max" and scale_grad_by_freq:
        raise OptionError("embedding_bag: max mode does not support scaling the gradient by the frequency")
    rows = _rows(table, indices, None, scale_grad_by_freq)
    kept = volta.ones(indices.shape, bool) if padding is None else indices != padding
    dtype = compute_dtype(table)
    values = as_tensor(rows, dtype)
    if per_sample_weights is not None:
        if mode != "sum":
            raise OptionError(f"embedding_bag: per_sample_weights is only supported for mode='sum', got mode={mode!r}")
        factors = float_tensor("embedding_bag", per_sample_weights)
        if factors.shape != indices.shape:
            raise ShapeError(f"embedding_bag: expected per_sample_weights of shape {indices.shape}, got {factors.spec}")
        values = values * volta.expand_dims(factors, -1)
    bags = _Bags(indices, offsets, include_last_offset)
    counts = volta.expand_dims(bags.sum(kept.astype(INDEX)), -1)
    kept = volta.expand_dims(kept, -1)
    if mode == "max":
        largest = bags.max(volta.where(kept, values, -math.inf))
        return as_tensor(volta.where(counts > 0, largest, 0.0), table.dtype)
    total = bags.sum(volta.where(kept, values, 0.0))
    if mode == "mean":
        total = total / volta.maximum(counts, 1).astype(dtype)
    return as_tensor(total, table.dtype)


class _Bags:
    """Reductions over each bag of values ``(B, N, …)``, or ``(N, …)`` with offsets."""

    def __init__(self, indices: Tensor, offsets: Any, include_last_offset: bool) -> None:
        if indices.ndim not in (1, 2):
            raise ShapeError(f"embedding_bag: expected an input of rank 1 or 2, got {indices.spec}")
        self.bag: Tensor | None = None  # of each element
        if indices.ndim == 2:
            if offsets is not None:
                raise ShapeError("embedding_bag: if input is 2D, its rows are the bags, and offsets has to be None")
            return
        size = indices.shape[0]
        if offsets is None:
            raise ShapeError("embedding_bag: an input of rank 1 needs offsets")
        starts = index_tensor("embedding_bag", "an offset", offsets, size + 1)
        if starts.ndim != 1 or (include_last_offset and not starts.size):
            raise ShapeError(f"embedding_bag: expected offsets of rank 1, got {starts.spec}")
        if not starts.is_traced and (starts.numpy()[:1].any() or (np.diff(starts.numpy()) < 0).any()):
            raise ShapeError(f"embedding_bag: expected offsets that ascend from 0, got {starts.tolist()}")
        if include_last_offset:
            starts = starts[:-1]
        self.count = starts.shape[0]
        # The number of an element's bag: how many begin at it or before, less one.
        self.bag = volta.cumsum(volta.zeros(size + 1, INDEX).at[starts].add(1), 0)[:size] - 1

    def sum(self, values: Tensor) -> Tensor:
        if self.bag is None:
            return values.sum(1)
        return volta.zeros((self.count, *values.shape[1:]), values.dtype).at[self.bag].add(values)

    def max(self, values: Tensor) -> Tensor:
        if self.bag is None:
            return values.max(1)
        return volta.full((self.count, *values.shape[1:]), -math.inf, values.dtype).at[self.bag].max(values)


def one_hot(tensor: Any, num_classes: int = -1) -> Tensor:
    """For each class a 1 among zeros along a new last axis.

    Args:
        tensor: integers, any shape. In a compiled program, a class out of bounds gives zeros.
        num_classes: how many classes there are; -1 for one more than the largest class.

    Returns:
        int32, the shape of ``tensor``, then ``num_classes``.

    Raises:
        ShapeError: a class is out of bounds, or there is none to tell how many there are.
        DTypeError: the classes are not integers.
        TraceError: ``num_classes`` is -1, and the classes are known only when the program runs.

    >>> one_hot(Tensor([1, 0])).tolist()
    [[0, 1], [1, 0]]
    """
    classes = as_tensor(tensor)
    if num_classes == -1:
        if classes.is_traced:
            raise TraceError(
                f"one_hot: pass num_classes; the shape of the result would depend on the values of {classes.spec}"
            )
        if not classes.size:
            raise ShapeError("one_hot: cannot infer the number of classes from an empty tensor; pass num_classes")
        num_classes = int(classes.numpy().max()) + 1
    elif num_classes < 1 and classes.size:
        raise OptionError(f"one_hot: num_classes should be positive, or -1, got {num_classes}")
    return volta.one_hot(index_tensor("one_hot", "a class", classes, num_classes), num_classes, INDEX)


# -- norms and distances -------------------------------------------------------------------------------------------


def _norm(x: Tensor, p: float, axis: int | tuple[int, ...], keepdims: bool) -> Tensor:
    """``(Σ |x|ᵖ)^(1/p)`` and its limits; where it has no derivative, the gradient is 0, as in PyTorch."""
    if p == 0:
        return volta.count_nonzero(x, axis, keepdims).astype(x.dtype)
    if p == 2:
        return _root(volta.square(x).sum(axis, keepdims), 0.5)
    size = volta.abs(x)
    if p == 1:
        return size.sum(axis, keepdims)
    if math.isinf(p):
        return size.max(axis, keepdims) if p > 0 else size.min(axis, keepdims)
    return _root(_root(size, p).sum(axis, keepdims), 1 / p)


def _root(x: Tensor, exponent: float) -> Tensor:
    """``x ** exponent``, with derivative 0 where ``x`` is 0 or infinite."""
    at_zero, at_infinity = (0.0, math.inf) if exponent > 0 else (math.inf, 0.0)
    regular = (x != 0) & (x != math.inf)
    power = volta.where(regular, x, 1.0) ** exponent
    return volta.where(regular, power, volta.where(x == 0, at_zero, at_infinity))


def at_least(x: Tensor, low: float) -> Tensor:
    """``maximum(x, low)``, with the derivative of ``x``."""
    return volta.where(x < low, low + (x - volta.stop_gradient(x)), x)


def normalize(input: Any, p: float = 2.0, dim: int | tuple[int, ...] = 1, eps: float = 1e-12) -> Tensor:
    """``input`` divided by its p-norm along ``dim``, or by ``eps`` where that is larger.

    PyTorch's argument ``out`` is left out.

    Args:
        input: any shape, floating-point. Half precision is computed in float32.
        p: the exponent of the norm; infinities are the limits.
        dim: the axis, or axes, of the vectors.
        eps: the smallest divisor.

    Raises:
        ShapeError: there is no such axis.
        DTypeError: the input is not floating-point.

    >>> normalize(Tensor([[3.0, 4.0]])).tolist()
    [[0.6000000238418579, 0.800000011920929]]
    """
    x = float_tensor("normalize", input)
    axes = tuple(one_axis("normalize", x, d) for d in ((dim,) if isinstance(dim, int) else dim))
    wide = as_tensor(x.reshape(x.shape or 1), compute_dtype(x))
    return as_tensor(wide / volta.clip(_norm(wide, p, axes, keepdims=True), eps), x.dtype).reshape(x.shape)


def cosine_similarity(x1: Any, x2: Any, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """The cosine of the angle between vectors: their product, divided by the product of their norms.

    Args:
        x1, x2: floating-point, of shapes that broadcast. Half precision is computed in float32.
        dim: the axis of the vectors, after broadcasting.
        eps: the smallest norm to divide by.

    Returns:
        The broadcast shape without ``dim``.

    Raises:
        ShapeError: the shapes do not broadcast, or there is no such axis.
        DTypeError: neither is floating-point.

    >>> cosine_similarity(Tensor([[3.0, 4.0]]), Tensor([[5.0, 0.0]])).tolist()
    [0.6000000238418579]
    """
    x1, x2, dtype = float_pair("cosine_similarity", x1, x2)
    axis = one_axis("cosine_similarity", x1, dim)
    shape = x1.shape or (1,)
    units = [x / at_least(_norm(x, 2, axis, keepdims=True), eps) for x in (x1.reshape(shape), x2.reshape(shape))]
    return as_tensor((units[0] * units[1]).sum(axis), dtype)


def pairwise_distance(x1: Any, x2: Any, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> Tensor:
    """The p-norm of ``x1 - x2 + eps`` along the last axis.

    Args:
        x1, x2: ``(…, D)``, floating-point, of shapes that broadcast. Half precision is computed in float32.
        p: the exponent of the norm; infinities are the limits.
        eps: added to every difference.
        keepdim: whether the last axis stays, with extent 1.

    Raises:
        ShapeError: the shapes do not broadcast, or both are of rank 0.
        DTypeError: neither is floating-point.

    >>> pairwise_distance(Tensor([0.0, 0.0]), Tensor([3.0, 4.0]), eps=0.0).tolist()
    5.0
    """
    x1, x2, dtype = float_pair("pairwise_distance", x1, x2)
    if not x1.ndim:
        raise ShapeError("pairwise_distance takes tensors of rank 1 or more")
    return as_tensor(_norm(x1 - x2 + eps, p, x1.ndim - 1, keepdim), dtype)


def pdist(input: Any, p: float = 2.0) -> Tensor:
    """The p-norm distances of all pairs of rows ``i < j``, in the order of ``i``, then ``j``.

    Args:
        input: ``(N, D)``, floating-point. Half precision is computed in float32.
        p: the exponent of the norm, not negative; infinity is the limit.

    Returns:
        ``(N * (N - 1) / 2,)``. The differences, D times as many numbers, are kept in memory.

    Raises:
        ShapeError: the input is not a matrix.
        DTypeError: the input is not floating-point.
        ValueError: ``p`` is negative.

    >>> pdist(Tensor([[0.0], [1.0], [3.0]])).tolist()
    [1.0, 3.0, 2.0]
    """
    x = float_tensor("pdist", input)
    if x.ndim != 2:
        raise ShapeError(f"pdist: expected a tensor of rank 2, got {x.spec}")
    if p < 0:
        raise OptionError(f"pdist only supports non-negative p values, got {p}")
    wide = as_tensor(x, compute_dtype(x))
    first, second = np.triu_indices(x.shape[0], 1)
    return as_tensor(_norm(wide[first] - wide[second], p, 1, keepdims=False), x.dtype)
