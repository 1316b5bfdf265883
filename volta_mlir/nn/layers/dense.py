"""Linear maps and lookups."""

from __future__ import annotations

import math
from typing import Any, Self

from volta_mlir.dtypes import DEFAULT_FLOAT
from volta_mlir.errors import OptionError, ShapeError
from volta_mlir.functions.common import as_tensor
from volta_mlir.nn import functional, init
from volta_mlir.nn.layers.common import shown
from volta_mlir.nn.module import Module, Parameter
from volta_mlir.tensor import Tensor

__all__ = ["Bilinear", "CosineSimilarity", "Embedding", "EmbeddingBag", "Linear", "PairwiseDistance"]


class Linear(Module):
    """``x @ weight.T + bias`` over the last axis.

    Args:
        in_features: extent of the last axis of the input.
        out_features: extent of the last axis of the result.
        bias: whether there is a bias.
        dtype: of the parameters.

    Attributes:
        weight: ``[out_features, in_features]``, at first uniform within ±1/√in_features.
        bias: ``[out_features]``, at first from the same distribution, or None.

    Example:
        >>> Linear(3, 2)(Tensor([[1.0, 2.0, 3.0]])).shape
        (1, 2)
    """

    weight: Tensor
    bias: Tensor | None

    def __init__(self, in_features: int, out_features: int, bias: bool = True, dtype: Any = DEFAULT_FLOAT) -> None:
        self.in_features, self.out_features = in_features, out_features
        bound = 1 / math.sqrt(in_features) if in_features > 0 else 0.0
        self.weight = Parameter(init.uniform((out_features, in_features), -bound, bound, dtype))
        self.bias = Parameter(init.uniform(out_features, -bound, bound, dtype)) if bias else None

    def forward(self, input: Any) -> Tensor:
        return functional.linear(input, self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"{shown(self, 'in_features', 'out_features')}, bias={self.bias is not None}"


class Bilinear(Module):
    """``input1ᵀ @ weight[k] @ input2 + bias[k]`` for each feature ``k`` of the result.

    Args:
        in1_features: extent of the last axis of the first input.
        in2_features: extent of the last axis of the second input.
        out_features: extent of the last axis of the result.
        bias: whether there is a bias.
        dtype: of the parameters.

    Attributes:
        weight: ``[out_features, in1_features, in2_features]``, at first uniform within ±1/√in1_features.
        bias: ``[out_features]``, at first from the same distribution, or None.

    Example:
        >>> import numpy as np
        >>> Bilinear(3, 4, 2)(np.ones((5, 3), "f4"), np.ones((5, 4), "f4")).shape
        (5, 2)
    """

    weight: Tensor
    bias: Tensor | None

    def __init__(
        self, in1_features: int, in2_features: int, out_features: int, bias: bool = True, dtype: Any = DEFAULT_FLOAT
    ) -> None:
        if in1_features <= 0:
            raise OptionError(f"in1_features must be > 0, got {in1_features}")
        self.in1_features, self.in2_features, self.out_features = in1_features, in2_features, out_features
        bound = 1 / math.sqrt(in1_features)
        self.weight = Parameter(init.uniform((out_features, in1_features, in2_features), -bound, bound, dtype))
        self.bias = Parameter(init.uniform(out_features, -bound, bound, dtype)) if bias else None

    def forward(self, input1: Any, input2: Any) -> Tensor:
        return functional.bilinear(input1, input2, self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"{shown(self, 'in1_features', 'in2_features', 'out_features')}, bias={self.bias is not None}"


class _Table(Module):
    """Rows by their numbers."""

    weight: Tensor

    def _set_up(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None,
        max_norm: float | None,
        norm_type: float,
        scale_grad_by_freq: bool,
        sparse: bool,
        dtype: Any,
    ) -> None:
        if max_norm is not None:
            raise OptionError("max_norm would change the weight during a call; normalise it where it is updated")
        if sparse:
            raise OptionError("sparse=True is not supported: gradients are dense tensors")
        if padding_idx is not None:
            if not -num_embeddings <= padding_idx < num_embeddings:
                raise OptionError(f"padding_idx must be within num_embeddings, {num_embeddings}, got {padding_idx}")
            padding_idx %= num_embeddings
        self.num_embeddings, self.embedding_dim, self.padding_idx = num_embeddings, embedding_dim, padding_idx
        self.max_norm, self.norm_type = max_norm, norm_type
        self.scale_grad_by_freq, self.sparse = scale_grad_by_freq, sparse
        weight = init.normal((num_embeddings, embedding_dim), dtype=dtype)
        self.weight = Parameter(weight if padding_idx is None else weight.at[padding_idx].set(0))

    def _take(self, embeddings: Any, freeze: bool) -> Self:
        self.weight = Parameter(embeddings, trainable=not freeze)
        return self


def _matrix(embeddings: Any) -> Tensor:
    table = as_tensor(embeddings)
    if table.ndim != 2:
        raise ShapeError(f"embeddings parameter is expected to be 2-dimensional, got {table.spec}")
    return table


class Embedding(_Table):
    """:func:`functional.embedding <volta_mlir.nn.functional.embedding>`: rows of a table by their numbers.

    Args:
        num_embeddings: rows of the table.
        embedding_dim: extent of each row.
        padding_idx: the row of this number is zero at first and gets no gradient; negative ones count from the end.
        max_norm: must be None: it would change the weight during a call.
        norm_type: has a meaning with ``max_norm`` only.
        scale_grad_by_freq: whether a row's gradient is divided by the number of times that it was looked up.
        sparse: must be False: gradients are dense.
        dtype: of the table.

    Attributes:
        weight: ``[num_embeddings, embedding_dim]``, at first from the normal distribution.

    Raises:
        ValueError: ``padding_idx`` is no row, or an argument is not supported.

    Example:
        >>> Embedding(10, 3)(Tensor([[1, 2], [4, 5]])).shape
        (2, 2, 3)
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
        dtype: Any = DEFAULT_FLOAT,
    ) -> None:
        self._set_up(num_embeddings, embedding_dim, padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse, dtype)

    @classmethod
    def from_pretrained(
        cls,
        embeddings: Any,
        freeze: bool = True,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
    ) -> Self:
        """An embedding with a given table.

        Args:
            embeddings: ``[num_embeddings, embedding_dim]``.
            freeze: whether the table is a frozen parameter.
            padding_idx: the row of this number gets no gradient; its values are kept.
            max_norm: see :class:`Embedding`, as for those that follow.
            norm_type: see there.
            scale_grad_by_freq: see there.
            sparse: see there.

        Raises:
            ShapeError: the table is no matrix.

        >>> Embedding.from_pretrained([[1.0, 2.0], [3.0, 4.0]])(1).tolist()
        [3.0, 4.0]
        """
        table = _matrix(embeddings)
        rows, columns = table.shape
        module = cls(rows, columns, padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse)
        return module._take(table, freeze)

    def forward(self, input: Any) -> Tensor:
        return functional.embedding(input, self.weight, self.padding_idx, scale_grad_by_freq=self.scale_grad_by_freq)

    def extra_repr(self) -> str:
        text = f"{self.num_embeddings}, {self.embedding_dim}"
        if self.padding_idx is not None:
            text += f", {shown(self, 'padding_idx')}"
        return f"{text}, scale_grad_by_freq=True" if self.scale_grad_by_freq else text


class EmbeddingBag(_Table):
    """:func:`functional.embedding_bag <volta_mlir.nn.functional.embedding_bag>`: sums, means or maxima of rows.

    Args:
        num_embeddings: rows of the table.
        embedding_dim: extent of each row.
        max_norm: must be None: it would change the weight during a call.
        norm_type: has a meaning with ``max_norm`` only.
        scale_grad_by_freq: whether a row's gradient is divided by the number of times that it was looked up.
        mode: ``"sum"``, ``"mean"`` or ``"max"``.
        sparse: must be False: gradients are dense.
        include_last_offset: whether the last offset is the end of the last bag.
        padding_idx: the row of this number counts for nothing.
        dtype: of the table.

    Attributes:
        weight: ``[num_embeddings, embedding_dim]``, at first from the normal distribution.

    Calling it takes the indices, and optionally ``offsets`` and ``per_sample_weights``; see the function.

    Raises:
        ValueError: ``padding_idx`` is no row, or an argument is not supported.

    Example:
        >>> EmbeddingBag(10, 3, mode="sum")(Tensor([1, 2, 4, 5, 4, 3]), Tensor([0, 4])).shape
        (2, 3)
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        mode: str = "mean",
        sparse: bool = False,
        include_last_offset: bool = False,
        padding_idx: int | None = None,
        dtype: Any = DEFAULT_FLOAT,
    ) -> None:
        self._set_up(num_embeddings, embedding_dim, padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse, dtype)
        self.mode, self.include_last_offset = mode, include_last_offset

    @classmethod
    def from_pretrained(
        cls,
        embeddings: Any,
        freeze: bool = True,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        mode: str = "mean",
        sparse: bool = False,
        include_last_offset: bool = False,
        padding_idx: int | None = None,
    ) -> Self:
        """An embedding with a given table; see :meth:`Embedding.from_pretrained`.

        >>> EmbeddingBag.from_pretrained([[1.0, 2.0], [3.0, 4.0]])(Tensor([[0, 1]])).tolist()
        [[2.0, 3.0]]
        """
        table = _matrix(embeddings)
        rows, columns = table.shape
        module = cls(
            rows, columns, max_norm, norm_type, scale_grad_by_freq, mode, sparse, include_last_offset, padding_idx
        )
        return module._take(table, freeze)

    def forward(self, input: Any, offsets: Any = None, per_sample_weights: Any = None) -> Tensor:
        return functional.embedding_bag(
            input,
            self.weight,
            offsets,
            scale_grad_by_freq=self.scale_grad_by_freq,
            mode=self.mode,
            per_sample_weights=per_sample_weights,
            include_last_offset=self.include_last_offset,
            padding_idx=self.padding_idx,
        )

    def extra_repr(self) -> str:
        text = f"{self.num_embeddings}, {self.embedding_dim}"
        if self.scale_grad_by_freq:
            text += ", scale_grad_by_freq=True"
        text += f", mode={self.mode!r}"
        return text if self.padding_idx is None else f"{text}, {shown(self, 'padding_idx')}"


class CosineSimilarity(Module):
    """:func:`functional.cosine_similarity <volta_mlir.nn.functional.cosine_similarity>` as a layer.

    Example:
        >>> CosineSimilarity(dim=0)(Tensor([3.0, 0.0]), Tensor([2.0, 0.0])).item()
        1.0
    """

    def __init__(self, dim: int = 1, eps: float = 1e-8) -> None:
        self.dim, self.eps = dim, eps

    def forward(self, x1: Any, x2: Any) -> Tensor:
        return functional.cosine_similarity(x1, x2, self.dim, self.eps)


class PairwiseDistance(Module):
    """:func:`functional.pairwise_distance <volta_mlir.nn.functional.pairwise_distance>` as a layer.

    Example:
        >>> round(PairwiseDistance()(Tensor([[3.0, 0.0]]), Tensor([[0.0, 4.0]])).item(), 4)
        5.0
    """

    def __init__(self, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> None:
        self.norm, self.eps, self.keepdim = p, eps, keepdim

    def forward(self, x1: Any, x2: Any) -> Tensor:
        return functional.pairwise_distance(x1, x2, self.norm, self.eps, self.keepdim)
