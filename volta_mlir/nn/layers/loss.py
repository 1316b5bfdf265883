"""Losses as layers. A loss takes an input and a target, and returns their mean loss, unless told otherwise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import volta_mlir as volta
from volta_mlir.dtypes import DEFAULT_FLOAT
from volta_mlir.errors import OptionError, ShapeError
from volta_mlir.functions.common import as_tensor
from volta_mlir.nn import functional
from volta_mlir.nn.functional.arguments import index_tensor
from volta_mlir.nn.layers.containers import ModuleList, Sequential
from volta_mlir.nn.layers.dense import Linear
from volta_mlir.nn.module import Buffer, Module
from volta_mlir.tensor import Tensor

__all__ = [
    "AdaptiveLogSoftmaxWithLoss",
    "BCELoss",
    "BCEWithLogitsLoss",
    "CTCLoss",
    "CosineEmbeddingLoss",
    "CrossEntropyLoss",
    "GaussianNLLLoss",
    "HingeEmbeddingLoss",
    "HuberLoss",
    "KLDivLoss",
    "L1Loss",
    "MSELoss",
    "MarginRankingLoss",
    "MultiLabelMarginLoss",
    "MultiLabelSoftMarginLoss",
    "MultiMarginLoss",
    "NLLLoss",
    "PoissonNLLLoss",
    "SmoothL1Loss",
    "SoftMarginLoss",
    "TripletMarginLoss",
    "TripletMarginWithDistanceLoss",
]


class _Loss(Module):
    reduction: str

    def __init__(self, reduction: str = "mean") -> None:
        self.reduction = reduction


def _optional(weight: Any) -> Any:
    return None if weight is None else Buffer(weight)


class AdaptiveLogSoftmaxResult(NamedTuple):
    """What :class:`AdaptiveLogSoftmaxWithLoss` returns.

    Attributes:
        output: ``[N]``, the log-probability of each target.
        loss: their mean, negative.
    """

    output: Tensor
    loss: Tensor


class AdaptiveLogSoftmaxWithLoss(Module):
    """Softmax over many classes in clusters: rare classes share an output of the head and have smaller projections.

    The clusters' projections save parameters. All of them are computed for every input, so that shapes do not depend on
    the targets.

    Args:
        in_features: features of the input.
        n_classes: how many classes there are, from frequent to rare.
        cutoffs: where the clusters begin, ascending; classes before the first are in the head.
        div_value: cluster ``i`` has a projection to ``in_features / div_value^(i + 1)`` features.
        head_bias: whether the head has a bias.
        dtype: of the parameters.

    Attributes:
        head: :class:`Linear` to the classes of the head and the clusters.
        tail: for each cluster two :class:`Linear` layers without bias.

    Calling it takes the input ``[N, in_features]`` and the classes ``[N]``, or both without ``N``; it returns an
    :class:`AdaptiveLogSoftmaxResult`.

    Raises:
        ValueError: the cutoffs are not ascending, or not between 1 and ``n_classes - 1``.
        ShapeError: input and target do not fit, or a class does not exist.

    Source: Grave et al., "Efficient softmax approximation for GPUs" (2017).

    Example:
        >>> layer = AdaptiveLogSoftmaxWithLoss(4, n_classes=10, cutoffs=[2, 5])
        >>> output, loss = layer(Tensor([[1.0, 2.0, 3.0, 4.0]]), Tensor([7]))
        >>> output.shape, loss.shape
        ((1,), ())
    """

    def __init__(
        self,
        in_features: int,
        n_classes: int,
        cutoffs: Sequence[int],
        div_value: float = 4.0,
        head_bias: bool = False,
        dtype: Any = DEFAULT_FLOAT,
    ) -> None:
        bounds = list(cutoffs)
        if not bounds or bounds != sorted(set(bounds)) or bounds[0] <= 0 or bounds[-1] >= n_classes:
            raise OptionError(
                f"cutoffs should be a sequence of unique, ascending ints from 1 to {n_classes - 1}, got {cutoffs}"
            )
        self.in_features, self.n_classes, self.cutoffs = in_features, n_classes, [*bounds, n_classes]
        self.div_value, self.head_bias = div_value, head_bias
        self.shortlist_size, self.n_clusters = bounds[0], len(bounds)
        self.head = Linear(in_features, self.shortlist_size + self.n_clusters, head_bias, dtype)
        self.tail = ModuleList()
        for i, (low, high) in enumerate(pairwise(self.cutoffs)):
            hidden = int(in_features // div_value ** (i + 1))
            first, second = Linear(in_features, hidden, False, dtype), Linear(hidden, high - low, False, dtype)
            self.tail.append(Sequential(first, second))

    def forward(self, input: Any, target: Any) -> AdaptiveLogSoftmaxResult:
        x, classes = as_tensor(input), as_tensor(target)
        if x.ndim not in (1, 2) or x.shape[:-1] != classes.shape:
            raise ShapeError(f"expected input and target of the same batch, got {x.spec} and {classes.spec}")
        classes = index_tensor("AdaptiveLogSoftmaxWithLoss", "target", classes, self.n_classes)
        places = volta.expand_dims(classes, -1)
        output = volta.take_along_axis(self.log_prob(x), places, -1).squeeze(-1)
        return AdaptiveLogSoftmaxResult(output, -output.mean())

    def log_prob(self, input: Any) -> Tensor:
        """The log-probabilities ``[N, n_classes]`` of all classes."""
        head = functional.log_softmax(self.head(input), -1)
        parts = [head[..., : self.shortlist_size]]
        for i, cluster in enumerate(self.tail):
            of_cluster = volta.expand_dims(head[..., self.shortlist_size + i], -1)
            parts.append(functional.log_softmax(cluster(input), -1) + of_cluster)
        return volta.concatenate(parts, axis=-1)

    def predict(self, input: Any) -> Tensor:
        """The most probable class of each input, ``[N]``."""
        return self.log_prob(input).argmax(-1)


class BCELoss(_Loss):
    """:func:`functional.binary_cross_entropy` as a layer; its arguments are described there.

    Attributes:
        weight: a factor for each element, or None; a buffer.

    Example:
        >>> round(BCELoss()(Tensor([0.5]), Tensor([1.0])).item(), 4)
        0.6931
    """

    def __init__(self, weight: Any = None, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.weight = _optional(weight)

    def forward(self, input: Any, target: Any) -> Tensor:
        return functional.binary_cross_entropy(input, target, self.weight, self.reduction)


class BCEWithLogitsLoss(_Loss):
    """:func:`functional.binary_cross_entropy_with_logits` as a layer; its arguments are described there.

    Attributes:
        weight: a factor for each element, or None; a buffer.
        pos_weight: a factor for the positive class, or None; a buffer.

    Example:
        >>> round(BCEWithLogitsLoss()(Tensor([0.0]), Tensor([1.0])).item(), 4)
        0.6931
    """

    def __init__(self, weight: Any = None, reduction: str = "mean", pos_weight: Any = None) -> None:
        super().__init__(reduction)
        self.weight = _optional(weight)
        self.pos_weight = _optional(pos_weight)

    def forward(self, input: Any, target: Any) -> Tensor:
        return functional.binary_cross_entropy_with_logits(input, target, self.weight, self.reduction, self.pos_weight)


class CTCLoss(_Loss):
    """:func:`functional.ctc_loss <volta_mlir.nn.functional.ctc_loss>` as a layer; its arguments are described there.

    Example:
        >>> CTCLoss()(Tensor([[[-1.0, -0.5]], [[-0.5, -1.0]]]), Tensor([[1]]), Tensor([2]), Tensor([1])).shape
        ()
    """

    def __init__(self, blank: int = 0, reduction: str = "mean", zero_infinity: bool = False) -> None:
        super().__init__(reduction)
        self.blank = blank
        self.zero_infinity = zero_infinity

    def forward(self, log_probs: Any, targets: Any, input_lengths: Any, target_lengths: Any) -> Tensor:
        return functional.ctc_loss(
            log_probs, targets, input_lengths, target_lengths, self.blank, self.reduction, self.zero_infinity
        )


class CosineEmbeddingLoss(_Loss):
    """:func:`functional.cosine_embedding_loss` as a layer; its arguments are described there.

    Example:
        >>> round(CosineEmbeddingLoss()(Tensor([[1.0, 0.0]]), Tensor([[0.0, 1.0]]), Tensor([1])).item(), 4)
        1.0
    """

    def __init__(self, margin: float = 0.0, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.margin = margin

    def forward(self, input1: Any, input2: Any, target: Any) -> Tensor:
        return functional.cosine_embedding_loss(input1, input2, target, self.margin, self.reduction)


class CrossEntropyLoss(_Loss):
    """:func:`functional.cross_entropy` as a layer; its arguments are described there.

    Attributes:
        weight: a factor for each class, or None; a buffer.

    Example:
        >>> round(CrossEntropyLoss()(Tensor([[0.0, 0.0]]), Tensor([1])).item(), 4)
        0.6931
    """

    def __init__(
        self, weight: Any = None, ignore_index: int = -100, reduction: str = "mean", label_smoothing: float = 0.0
    ) -> None:
        super().__init__(reduction)
        self.weight = _optional(weight)
        self.ignore_index = ignore_index
        self.label_smoothing = label_smoothing

    def forward(self, input: Any, target: Any) -> Tensor:
        return functional.cross_entropy(
            input, target, self.weight, self.ignore_index, self.reduction, self.label_smoothing
        )


class GaussianNLLLoss(_Loss):
    """:func:`functional.gaussian_nll_loss` as a layer; its arguments are described there.

    Example:
        >>> round(GaussianNLLLoss()(Tensor([1.0]), Tensor([3.0]), Tensor([1.0])).item(), 4)
        2.0
    """

    def __init__(self, *, full: bool = False, eps: float = 1e-6, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.full = full
        self.eps = eps

    def forward(self, input: Any, target: Any, var: Any) -> Tensor:
        return functional.gaussian_nll_loss(input, target, var, self.full, self.eps, self.reduction)


class HingeEmbeddingLoss(_Loss):
    """:func:`functional.hinge_embedding_loss` as a layer; its arguments are described there.

    Example:
        >>> round(HingeEmbeddingLoss()(Tensor([0.25, 0.25]), Tensor([1, -1])).item(), 4)
        0.5
    """

    def __init__(self, margin: float = 1.0, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.margin = margin

    def forward(self, input: Any, target: Any) -> Tensor:
        return functional.hinge_embedding_loss(input, target, self.margin, self.reduction)


class HuberLoss(_Loss):
    """:func:`functional.huber_loss` as a layer; its arguments are described there.

    Example:
        >>> round(HuberLoss()(Tensor([3.0]), Tensor([1.0])).item(), 4)
        1.5
    """

    def __init__(self, reduction: str = "mean", delta: float = 1.0) -> None:
        super().__init__(reduction)
        self.delta = delta

    def forward(self, input: Any, target: Any) -> Tensor:
        return functional.huber_loss(input, target, self.reduction, self.delta)


class KLDivLoss(_Loss):
    """:func:`functional.kl_div <volta_mlir.nn.functional.kl_div>` as a layer; its arguments are described there.

    Example:
        >>> round(KLDivLoss(reduction="batchmean")(Tensor([[0.0]]), Tensor([[1.0]])).item(), 4)
        0.0
    """

    def __init__(self, reduction: str = "mean", log_target: bool = False) -> None:
        super().__init__(reduction)
        self.log_target = log_target

    def forward(self, input: Any, target: Any) -> Tensor:
        return functional.kl_div(input, target, self.reduction, self.log_target)


class L1Loss(_Loss):
    """:func:`functional.l1_loss <volta_mlir.nn.functional.l1_loss>` as a layer; its arguments are described there.

    Example:
        >>> round(L1Loss()(Tensor([3.0]), Tensor([1.0])).item(), 4)
        2.0
    """

    def forward(self, input: Any, target: Any) -> Tensor:
        return functional.l1_loss(input, target, self.reduction)


class MSELoss(_Loss):
    """:func:`functional.mse_loss <volta_mlir.nn.functional.mse_loss>` as a layer; its arguments are described there.

    Example:
        >>> round(MSELoss()(Tensor([3.0]), Tensor([1.0])).item(), 4)
        4.0
    """

    def forward(self, input: Any, target: Any) -> Tensor:
        return functional.mse_loss(input, target, self.reduction)


class MarginRankingLoss(_Loss):
    """:func:`functional.margin_ranking_loss` as a layer; its arguments are described there.

    Example:
        >>> round(MarginRankingLoss()(Tensor([1.0]), Tensor([3.0]), Tensor([1])).item(), 4)
        2.0
    """

    def __init__(self, margin: float = 0.0, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.margin = margin

    def forward(self, input1: Any, input2: Any, target: Any) -> Tensor:
        return functional.margin_ranking_loss(input1, input2, target, self.margin, self.reduction)


class MultiLabelMarginLoss(_Loss):
    """:func:`functional.multilabel_margin_loss` as a layer; its arguments are described there.

    Example:
        >>> round(MultiLabelMarginLoss()(Tensor([[0.5, 1.0]]), Tensor([[1, -1]])).item(), 4)
        0.25
    """

    def forward(self, input: Any, target: Any) -> Tensor:
        return functional.multilabel_margin_loss(input, target, self.reduction)


class MultiLabelSoftMarginLoss(_Loss):
    """:func:`functional.multilabel_soft_margin_loss` as a layer; its arguments are described there.

    Attributes:
        weight: a factor for each class, or None; a buffer.

    Example:
        >>> round(MultiLabelSoftMarginLoss()(Tensor([[0.0]]), Tensor([[1.0]])).item(), 4)
        0.6931
    """

    def __init__(self, weight: Any = None, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.weight = _optional(weight)

    def forward(self, input: Any, target: Any) -> Tensor:
        return functional.multilabel_soft_margin_loss(input, target, self.weight, self.reduction)


class MultiMarginLoss(_Loss):
    """:func:`functional.multi_margin_loss` as a layer; its arguments are described there.

    Attributes:
        weight: a factor for each class, or None; a buffer.

    Example:
        >>> round(MultiMarginLoss()(Tensor([[0.5, 1.0]]), Tensor([1])).item(), 4)
        0.25
    """

    def __init__(self, p: int = 1, margin: float = 1.0, weight: Any = None, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.p = p
        self.margin = margin
        self.weight = _optional(weight)

    def forward(self, input: Any, target: Any) -> Tensor:
        return functional.multi_margin_loss(input, target, self.p, self.margin, self.weight, self.reduction)


class NLLLoss(_Loss):
    """:func:`functional.nll_loss <volta_mlir.nn.functional.nll_loss>` as a layer; its arguments are described there.

    Attributes:
        weight: a factor for each class, or None; a buffer.

    Example:
        >>> round(NLLLoss()(Tensor([[-1.0, -2.0]]), Tensor([1])).item(), 4)
        2.0
    """

    def __init__(self, weight: Any = None, ignore_index: int = -100, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.weight = _optional(weight)
        self.ignore_index = ignore_index

    def forward(self, input: Any, target: Any) -> Tensor:
        return functional.nll_loss(input, target, self.weight, self.ignore_index, self.reduction)


class PoissonNLLLoss(_Loss):
    """:func:`functional.poisson_nll_loss` as a layer; its arguments are described there.

    Example:
        >>> round(PoissonNLLLoss()(Tensor([0.0]), Tensor([1.0])).item(), 4)
        1.0
    """

    def __init__(self, log_input: bool = True, full: bool = False, eps: float = 1e-8, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.log_input = log_input
        self.full = full
        self.eps = eps

    def forward(self, input: Any, target: Any) -> Tensor:
        return functional.poisson_nll_loss(input, target, self.log_input, self.full, self.eps, self.reduction)


class SmoothL1Loss(_Loss):
    """:func:`functional.smooth_l1_loss` as a layer; its arguments are described there.

    Example:
        >>> round(SmoothL1Loss()(Tensor([3.0]), Tensor([1.0])).item(), 4)
        1.5
    """

    def __init__(self, reduction: str = "mean", beta: float = 1.0) -> None:
        super().__init__(reduction)
        self.beta = beta

    def forward(self, input: Any, target: Any) -> Tensor:
        return functional.smooth_l1_loss(input, target, self.reduction, self.beta)


class SoftMarginLoss(_Loss):
    """:func:`functional.soft_margin_loss` as a layer; its arguments are described there.

    Example:
        >>> round(SoftMarginLoss()(Tensor([0.0]), Tensor([1.0])).item(), 4)
        0.6931
    """

    def forward(self, input: Any, target: Any) -> Tensor:
        return functional.soft_margin_loss(input, target, self.reduction)


class TripletMarginLoss(_Loss):
    """:func:`functional.triplet_margin_loss` as a layer; its arguments are described there.

    Example:
        >>> round(TripletMarginLoss()(Tensor([[0.0]]), Tensor([[3.0]]), Tensor([[1.0]])).item(), 4)
        3.0
    """

    def __init__(
        self, margin: float = 1.0, p: float = 2.0, eps: float = 1e-6, swap: bool = False, reduction: str = "mean"
    ) -> None:
        super().__init__(reduction)
        self.margin = margin
        self.p = p
        self.eps = eps
        self.swap = swap

    def forward(self, anchor: Any, positive: Any, negative: Any) -> Tensor:
        return functional.triplet_margin_loss(
            anchor, positive, negative, self.margin, self.p, self.eps, self.swap, self.reduction
        )


class TripletMarginWithDistanceLoss(_Loss):
    """:func:`functional.triplet_margin_with_distance_loss` as a layer; its arguments are described there.

    Example:
        >>> round(TripletMarginWithDistanceLoss()(Tensor([[0.0]]), Tensor([[3.0]]), Tensor([[1.0]])).item(), 4)
        3.0
    """

    def __init__(
        self,
        *,
        distance_function: Callable[[Any, Any], Tensor] | None = None,
        margin: float = 1.0,
        swap: bool = False,
        reduction: str = "mean",
    ) -> None:
        super().__init__(reduction)
        self.distance_function = distance_function
        self.margin = margin
        self.swap = swap

    def forward(self, anchor: Any, positive: Any, negative: Any) -> Tensor:
        return functional.triplet_margin_with_distance_loss(
            anchor,
            positive,
            negative,
            distance_function=self.distance_function,
            margin=self.margin,
            swap=self.swap,
            reduction=self.reduction,
        )
