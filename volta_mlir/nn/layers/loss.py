"""Losses as layers. A loss takes an input and a target, and returns their mean loss, unless told otherwise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from volta_mlir.nn import functional
from volta_mlir.nn.module import Buffer, Module
from volta_mlir.tensor import Tensor

__all__ = [
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

    def __init__(self, reduction: str) -> None:
        self.reduction = reduction


def _optional(weight: Any) -> Any:
    return None if weight is None else Buffer(weight)


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

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__(reduction)

    def forward(self, input: Any, target: Any) -> Tensor:
        return functional.l1_loss(input, target, self.reduction)


class MSELoss(_Loss):
    """:func:`functional.mse_loss <volta_mlir.nn.functional.mse_loss>` as a layer; its arguments are described there.

    Example:
        >>> round(MSELoss()(Tensor([3.0]), Tensor([1.0])).item(), 4)
        4.0
    """

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__(reduction)

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

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__(reduction)

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

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__(reduction)

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
