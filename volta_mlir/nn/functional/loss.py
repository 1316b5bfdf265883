"""Loss functions.

They have PyTorch's names, arguments, layouts and derivatives; the arguments ``size_average`` and ``reduce``, which
``reduction`` replaced, are left out. Half precision is computed, and reduced, in float32 and rounded once. All of them
take ``reduction="mean"``, ``"sum"`` or ``"none"``, and raise ValueError for another one.

What PyTorch raises for values that it does not allow (a class that does not exist, a negative variance) is raised here
for values that are known when the function is called. A compiled program cannot raise.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

import volta_mlir as volta
from volta_mlir.dtypes import is_float
from volta_mlir.errors import DTypeError, OptionError, ShapeError, TraceError, warn
from volta_mlir.functions.common import as_tensor, broadcast_shapes, broadcast_to
from volta_mlir.nn.functional.activation import log_softmax, logsigmoid, relu
from volta_mlir.nn.functional.arguments import compute_dtype, float_pair, float_tensor, index_tensor
from volta_mlir.nn.functional.dense import at_least, pairwise_distance
from volta_mlir.tensor import Tensor

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "cosine_embedding_loss",
    "cross_entropy",
    "ctc_loss",
    "gaussian_nll_loss",
    "hinge_embedding_loss",
    "huber_loss",
    "kl_div",
    "l1_loss",
    "margin_ranking_loss",
    "mse_loss",
    "multi_margin_loss",
    "multilabel_margin_loss",
    "multilabel_soft_margin_loss",
    "nll_loss",
    "poisson_nll_loss",
    "smooth_l1_loss",
    "soft_margin_loss",
    "triplet_margin_loss",
    "triplet_margin_with_distance_loss",
]


def _reduced(losses: Tensor, reduction: str, dtype: np.dtype, weights: Tensor | None = None) -> Tensor:
    """The reduced losses as ``dtype``; their mean is their sum divided by that of the weights, if there are any."""
    if reduction == "mean":
        losses = losses.mean() if weights is None else losses.sum() / weights.sum()
    elif reduction == "sum":
        losses = losses.sum()
    elif reduction != "none":
        raise OptionError(f"{reduction!r} is not a valid value for reduction; expected 'mean', 'sum' or 'none'")
    return as_tensor(losses, dtype)


def _same_shape(what: str, input: Any, target: Any) -> None:
    input, target = as_tensor(input), as_tensor(target)
    if input.shape != target.shape:
        raise ShapeError(f"{what}: the target {target.spec} must have the shape of the input {input.spec}")


def _warn_of_broadcasting(what: str, input: Any, target: Any) -> None:
    input, target = as_tensor(input), as_tensor(target)
    if input.shape != target.shape:
        warn(
            f"{what}: the target {target.spec} and the input {input.spec} differ in shape and are broadcast, which is"
            " probably not what you want; give them the same shape"
        )


# -- classes -------------------------------------------------------------------------------------------------------


def cross_entropy(
    input: Any,
    target: Any,
    weight: Any = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """``-log(softmax(input))`` at the target classes. Its gradient is ``softmax(input) - one_hot(target)``.

    Args:
        input: logits ``(C,)``, ``(N, C)`` or ``(N, C, d1, …)``, floating-point.
        target: integer classes ``()``, ``(N,)`` or ``(N, d1, …)``, or probabilities of a floating-point dtype and the
            shape of the input. In a compiled program, a class outside 0 to C-1 counts for nothing: its loss is 0, and
            ``"mean"`` leaves it out.
        weight: ``(C,)``, a factor for each class, or None. With classes, ``"mean"`` divides by the sum of their
            weights.
        ignore_index: a class that counts for nothing.
        reduction: ``"mean"``, ``"sum"``, or ``"none"`` for one loss per target.
        label_smoothing: from 0 to 1, how much of each target is spread evenly over all classes.

    Raises:
        ShapeError: the shapes do not fit, or a class is out of bounds and not ``ignore_index``.
        DTypeError: the logits are not floating-point numbers.
        ValueError: ``label_smoothing`` is out of bounds, or ``ignore_index`` is given with probabilities.

    >>> round(cross_entropy(Tensor([[0.0, 0.0]]), Tensor([1])).item(), 4)
    0.6931
    """
    logits, target = float_tensor("cross_entropy", input), as_tensor(target)
    axis, classes_shape = _class_axis("cross_entropy", logits)
    if not 0 <= label_smoothing <= 1:
        raise OptionError(f"cross_entropy: label_smoothing must be between 0.0 and 1.0, got {label_smoothing}")
    soft = is_float(target.dtype)
    if target.shape != (logits.shape if soft else classes_shape):
        raise ShapeError(
            f"cross_entropy: logits {logits.spec} need classes of shape {classes_shape} or probabilities of shape"
            f" {logits.shape}, got {target.spec}"
        )
    dtype, count = compute_dtype(logits, target) if soft else compute_dtype(logits), logits.shape[axis]
    log_probabilities = log_softmax(as_tensor(logits, dtype), axis)
    weight = _class_weight("cross_entropy", weight, log_probabilities, axis)
    weighted = log_probabilities if weight is None else log_probabilities * weight
    if soft:
        if ignore_index >= 0:
            raise OptionError(f"cross_entropy: ignore_index={ignore_index} is for classes, and not for probabilities")
        probabilities = as_tensor(target, dtype) * (1 - label_smoothing) + label_smoothing / count
        return _reduced(-(probabilities * weighted).sum(axis), reduction, volta.result_type(logits, target))
    classes = index_tensor("cross_entropy", "target", target, count, ignore_index)
    chosen = _chosen(log_probabilities, classes, ignore_index, axis)
    losses, weights = _at_classes(log_probabilities, chosen, weight, axis)
    if label_smoothing:
        smooth = -volta.where(chosen.any(axis, keepdims=True), weighted, 0.0).sum(axis)
        losses = losses * (1 - label_smoothing) + smooth * (label_smoothing / count)
    return _reduced(losses, reduction, logits.dtype, weights)


def _class_axis(what: str, input: Tensor) -> tuple[int, tuple[int, ...]]:
    """The axis of the classes, and the shape without it."""
    if not input.ndim:
        raise ShapeError(f"{what}: expected an input of shape (C,), (N, C) or (N, C, d1, ...), got {input.spec}")
    axis = min(1, input.ndim - 1)
    return axis, input.shape[:axis] + input.shape[axis + 1 :]


def _class_weight(what: str, weight: Any, input: Tensor, axis: int) -> Tensor | None:
    """The weight of each class, to be broadcast with the input."""
    if weight is None:
        return None
    weight, count = as_tensor(weight), input.shape[axis]
    if weight.shape != (count,):
        raise ShapeError(f"{what}: expected a weight for each of the {count} classes, got {weight.spec}")
    return as_tensor(weight, input.dtype).reshape((-1,) + (1,) * (input.ndim - axis - 1))


def _chosen(input: Tensor, classes: Tensor, ignore_index: int, axis: int) -> Tensor:
    """Where in ``input`` the target classes are. A mask instead of a gather: the gradient needs no scatter then."""
    chosen = volta.iota(input.shape, axis, classes.dtype) == volta.expand_dims(classes, axis)
    if 0 <= ignore_index < input.shape[axis]:
        chosen = chosen & volta.expand_dims(classes != ignore_index, axis)
    return chosen


def _at_classes(input: Tensor, chosen: Tensor, weight: Tensor | None, axis: int) -> tuple[Tensor, Tensor]:
    """``-input`` where it is chosen, times the weights of the classes there; and these weights."""
    losses = -volta.where(chosen, input, 0.0).sum(axis)
    if weight is None:
        return losses, chosen.any(axis).astype(input.dtype)
    weights = volta.where(chosen, weight, 0.0).sum(axis)
    return losses * weights, weights


def nll_loss(input: Any, target: Any, weight: Any = None, ignore_index: int = -100, reduction: str = "mean") -> Tensor:
    """``-input`` at the target classes: :func:`cross_entropy` of log-probabilities.

    Args:
        input: log-probabilities ``(C,)``, ``(N, C)`` or ``(N, C, d1, …)``, floating-point.
        target: integer classes ``()``, ``(N,)`` or ``(N, d1, …)``. In a compiled program, a class outside 0 to C-1
            counts for nothing.
        weight: ``(C,)``, a factor for each class, or None. ``"mean"`` divides by the sum of the targets' weights.
        ignore_index: a class that counts for nothing.
        reduction: ``"mean"``, ``"sum"``, or ``"none"`` for one loss per target.

    Raises:
        ShapeError: the shapes do not fit, or a class is out of bounds and not ``ignore_index``.
        DTypeError: the input is not floating-point, or the classes are not integers.

    >>> nll_loss(Tensor([[-1.0, -3.0]]), Tensor([1])).item()
    3.0
    """
    x, target = float_tensor("nll_loss", input), as_tensor(target)
    axis, classes_shape = _class_axis("nll_loss", x)
    classes = index_tensor("nll_loss", "target", target, x.shape[axis], ignore_index)
    if classes.shape != classes_shape:
        raise ShapeError(f"nll_loss: {x.spec} needs classes of shape {classes_shape}, got {target.spec}")
    wide = as_tensor(x, compute_dtype(x))
    weight = _class_weight("nll_loss", weight, wide, axis)
    losses, weights = _at_classes(wide, _chosen(wide, classes, ignore_index, axis), weight, axis)
    return _reduced(losses, reduction, x.dtype, weights)


# -- differences ---------------------------------------------------------------------------------------------------


def mse_loss(input: Any, target: Any, reduction: str = "mean", weight: Any = None) -> Tensor:
    """``(input - target) ** 2``.

    Args:
        input, target: floating-point, of the same shape. Others are broadcast, with a warning.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.
        weight: the shape of the input, a factor for each element, or None. ``"mean"`` divides by their sum.

    Raises:
        ShapeError: the shapes do not fit.
        DTypeError: neither is floating-point.

    >>> mse_loss(Tensor([1.0, 2.0]), Tensor([1.0, 4.0])).item()
    2.0
    """
    return _of_difference("mse_loss", input, target, reduction, weight, volta.square)


def l1_loss(input: Any, target: Any, reduction: str = "mean", weight: Any = None) -> Tensor:
    """``|input - target|``; the derivative of equal numbers is 0.

    Args:
        input, target: floating-point, of the same shape. Others are broadcast, with a warning.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.
        weight: the shape of the input, a factor for each element, or None. ``"mean"`` divides by their sum.

    Raises:
        ShapeError: the shapes do not fit.
        DTypeError: neither is floating-point.

    >>> l1_loss(Tensor([1.0, 2.0]), Tensor([1.0, 4.0])).item()
    1.0
    """
    return _of_difference("l1_loss", input, target, reduction, weight, volta.abs)


def _of_difference(
    what: str, input: Any, target: Any, reduction: str, weight: Any, function: Callable[[Tensor], Tensor]
) -> Tensor:
    _warn_of_broadcasting(what, input, target)
    x, y, dtype = float_pair(what, input, target)
    losses, weights = function(x - y), None
    if weight is not None:
        weights = _elementwise_weight(what, weight, input, losses)
        losses = losses * weights
    return _reduced(losses, reduction, dtype, weights)


def _elementwise_weight(what: str, weight: Any, input: Any, losses: Tensor) -> Tensor:
    weight, input = as_tensor(weight), as_tensor(input)
    if weight.shape != input.shape:
        raise ShapeError(f"{what}: weights and input must have the same size, got {weight.spec} and {input.spec}")
    return as_tensor(weight, losses.dtype)


def smooth_l1_loss(input: Any, target: Any, reduction: str = "mean", beta: float = 1.0) -> Tensor:
    """``d² / (2 beta)`` where the distance ``d = |input - target|`` is below ``beta``, else ``d - beta / 2``.

    Args:
        input, target: floating-point, of the same shape. Others are broadcast, with a warning.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.
        beta: where the parabola ends; 0 gives :func:`l1_loss`.

    Raises:
        ShapeError: the shapes do not fit.
        DTypeError: neither is floating-point.
        ValueError: ``beta`` is negative.

    >>> smooth_l1_loss(Tensor([0.5, 3.0]), Tensor([0.0, 0.0]), reduction="none").tolist()
    [0.125, 2.5]
    """
    if beta < 0:
        raise OptionError(f"smooth_l1_loss does not support negative values for beta, got {beta}")

    def function(difference: Tensor) -> Tensor:
        distance = volta.abs(difference)
        if beta == 0:
            return distance
        return _parabola_and_lines(difference, distance < beta, 0.5 / beta, distance - 0.5 * beta)

    return _of_difference("smooth_l1_loss", input, target, reduction, None, function)


def huber_loss(input: Any, target: Any, reduction: str = "mean", delta: float = 1.0, weight: Any = None) -> Tensor:
    """``d² / 2`` where the distance ``d = |input - target|`` is at most ``delta``, else ``delta (d - delta / 2)``.

    Args:
        input, target: floating-point, of the same shape. Others are broadcast, with a warning.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.
        delta: where the parabola ends.
        weight: the shape of the input, a factor for each element, or None. ``"mean"`` divides by their number.

    Raises:
        ShapeError: the shapes do not fit.
        DTypeError: neither is floating-point.
        ValueError: ``delta`` is not positive.

    >>> huber_loss(Tensor([1.0, 3.0]), Tensor([0.0, 0.0]), delta=2.0, reduction="none").tolist()
    [0.5, 4.0]
    """
    if delta <= 0:
        raise OptionError(f"huber_loss does not support non-positive values for delta, got {delta}")

    def function(difference: Tensor) -> Tensor:
        distance = volta.abs(difference)
        losses = _parabola_and_lines(difference, distance <= delta, 0.5, delta * (distance - 0.5 * delta))
        return losses if weight is None else losses * _elementwise_weight("huber_loss", weight, input, losses)

    return _of_difference("huber_loss", input, target, reduction, None, function)


def _parabola_and_lines(x: Tensor, near: Tensor, factor: float, lines: Tensor) -> Tensor:
    """``factor * x²`` near 0; elsewhere the square, and its derivative, must not overflow."""
    return volta.where(near, factor * volta.square(volta.where(near, x, 0.0)), lines)


# -- probabilities -------------------------------------------------------------------------------------------------


def binary_cross_entropy(input: Any, target: Any, weight: Any = None, reduction: str = "mean") -> Tensor:
    """``-(target * log(input) + (1 - target) * log(1 - input))``, with logarithms of at least -100.

    Args:
        input: probabilities, floating-point.
        target: probabilities, the same shape.
        weight: a factor for each element, of a shape that broadcasts to that of the input, or None.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.

    Raises:
        ShapeError: the shapes do not fit.
        DTypeError: neither is floating-point.
        ValueError: the input is not between 0 and 1.

    >>> round(binary_cross_entropy(Tensor([0.5]), Tensor([1.0])).item(), 4)
    0.6931
    """
    _same_shape("binary_cross_entropy", input, target)
    x, y, dtype = float_pair("binary_cross_entropy", input, target)
    if not x.is_traced and not ((x.numpy() >= 0) & (x.numpy() <= 1)).all():
        raise OptionError("binary_cross_entropy: all elements of input should be between 0 and 1")
    # Near 0 and 1 the derivative grows beyond bounds; PyTorch divides by x (1 - x), but at least by this.
    smallest = 1e-12
    at_edge = x * (1 - x) < smallest
    inner, fixed = volta.where(at_edge, 0.5, x), volta.stop_gradient(x)
    logs = volta.clip(volta.log(fixed), -100.0), volta.clip(volta.log1p(-fixed), -100.0)
    slope = (fixed - volta.stop_gradient(y)) / smallest
    losses = volta.where(
        at_edge,
        -(y * logs[0] + (1 - y) * logs[1]) + (x - fixed) * slope,
        -(y * volta.log(inner) + (1 - y) * volta.log1p(-inner)),
    )
    return _reduced(_weighted("binary_cross_entropy", losses, weight), reduction, dtype)


def _weighted(what: str, losses: Tensor, weight: Any) -> Tensor:
    if weight is None:
        return losses
    weight = as_tensor(weight)
    if broadcast_shapes(weight.shape, losses.shape) != losses.shape:
        raise ShapeError(f"{what}: expected a weight that can be broadcast to shape {losses.shape}, got {weight.spec}")
    return losses * as_tensor(weight, losses.dtype)


def binary_cross_entropy_with_logits(
    input: Any, target: Any, weight: Any = None, reduction: str = "mean", pos_weight: Any = None
) -> Tensor:
    """:func:`binary_cross_entropy` of ``sigmoid(input)``, precise for large inputs.

    Args:
        input: logits, floating-point.
        target: probabilities, the same shape.
        weight: a factor for each element, of a shape that broadcasts to that of the input, or None.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.
        pos_weight: a factor for ``target`` alone, not ``1 - target``, of a shape that broadcasts to that of the input.

    Raises:
        ShapeError: the shapes do not fit.
        DTypeError: neither is floating-point.

    >>> binary_cross_entropy_with_logits(Tensor([1000.0, 1000.0]), Tensor([0.0, 1.0]), reduction="none").tolist()
    [1000.0, 0.0]
    """
    what = "binary_cross_entropy_with_logits"
    _same_shape(what, input, target)
    x, y, dtype = float_pair(what, input, target)
    softplus = -logsigmoid(x)
    if pos_weight is not None:
        softplus = softplus * (_weighted(what, y, as_tensor(pos_weight) - 1) + 1)
    return _reduced(_weighted(what, (1 - y) * x + softplus, weight), reduction, dtype)


def kl_div(input: Any, target: Any, reduction: str = "mean", log_target: bool = False) -> Tensor:
    """The Kullback-Leibler divergence ``target * (log(target) - input)`` of probabilities from log-probabilities.

    Args:
        input: log-probabilities, floating-point.
        target: probabilities, or log-probabilities with ``log_target``; the shapes broadcast.
        reduction: ``"batchmean"`` for the sum divided by the first extent of the input, which is the divergence's
            definition; ``"mean"``, which divides by the number of all elements; ``"sum"`` or ``"none"``.
        log_target: whether the target is a logarithm.

    Raises:
        ShapeError: the shapes do not broadcast.
        DTypeError: neither is floating-point.

    >>> log_half = Tensor([[-0.6931472, -0.6931472]])
    >>> round(kl_div(log_half, Tensor([[0.0, 1.0]]), reduction="batchmean").item(), 4)
    0.6931
    """
    x, y, dtype = float_pair("kl_div", input, target)
    if log_target:
        losses = volta.exp(y) * (y - x)
    else:
        losses = y * (volta.log(volta.where(y == 0, 1.0, y)) - x)
    if reduction != "batchmean":
        return _reduced(losses, reduction, dtype)
    input = as_tensor(input)
    return as_tensor(losses.sum() / input.shape[0] if input.ndim else losses.sum(), dtype)


def gaussian_nll_loss(
    input: Any, target: Any, var: Any, full: bool = False, eps: float = 1e-6, reduction: str = "mean"
) -> Tensor:
    """The negative logarithm of the normal distribution's density at ``target``.

    Args:
        input: the means, floating-point.
        target: observations, of a shape that broadcasts with that of the input.
        var: the variances: a number, or a tensor of the shape of the input, where the last axis may be left out, or
            one axis may have the extent 1.
        full: whether to add the constant ``log(2π) / 2``.
        eps: the variance is at least this; the derivative does not know of it.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.

    Raises:
        ShapeError: the shapes do not fit.
        DTypeError: neither input nor target is floating-point.
        ValueError: a variance is negative.

    >>> gaussian_nll_loss(Tensor([1.0]), Tensor([3.0]), Tensor([1.0])).item()
    2.0
    """
    x, y, dtype = float_pair("gaussian_nll_loss", input, target)
    shape, variance = as_tensor(input).shape, as_tensor(var)
    if not variance.is_traced and (variance.numpy() < 0).any():
        raise OptionError("gaussian_nll_loss: var has negative entry/entries")
    variance = as_tensor(variance, x.dtype)
    if not isinstance(var, int | float) and variance.shape != shape:
        different = [v for v, s in zip(variance.shape, shape, strict=False) if v != s]
        if shape[:-1] == variance.shape:
            variance = volta.expand_dims(variance, -1)
        elif variance.ndim != len(shape) or different != [1]:
            raise ShapeError(f"gaussian_nll_loss: var {variance.spec} is of incorrect size for an input of {shape}")
    variance = at_least(variance, eps)
    losses = 0.5 * (volta.log(variance) + volta.square(x - y) / variance)
    return _reduced(losses + 0.5 * math.log(2 * math.pi) if full else losses, reduction, dtype)


def poisson_nll_loss(
    input: Any,
    target: Any,
    log_input: bool = True,
    full: bool = False,
    eps: float = 1e-8,
    reduction: str = "mean",
) -> Tensor:
    """The negative logarithm of the Poisson distribution's probability of ``target``.

    Args:
        input: the means, or their logarithms with ``log_input``, floating-point.
        target: counts, of a shape that broadcasts with that of the input.
        log_input: whether the input is a logarithm.
        full: whether to add Stirling's approximation of ``log(target!)`` where the target is larger than 1.
        eps: added to the input before its logarithm is taken.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.

    Raises:
        ShapeError: the shapes do not broadcast.
        DTypeError: neither is floating-point.

    >>> poisson_nll_loss(Tensor([0.0]), Tensor([3.0])).item()
    1.0
    """
    x, y, dtype = float_pair("poisson_nll_loss", input, target)
    losses = volta.exp(x) - y * x if log_input else x - y * volta.log(x + eps)
    if full:
        many = volta.where(y > 1, y, 1.0)
        stirling = many * volta.log(many) - many + 0.5 * volta.log(2 * math.pi * many)
        losses = losses + volta.where(y > 1, stirling, 0.0)
    return _reduced(losses, reduction, dtype)


# -- sequences -----------------------------------------------------------------------------------------------------


def ctc_loss(
    log_probs: Any,
    targets: Any,
    input_lengths: Any,
    target_lengths: Any,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
) -> Tensor:
    """The negative logarithm of the probability that a sequence of classes reads as the target.

    A sequence reads as what is left of it when first repeated classes, then blanks, are dropped. The derivative is that
    by ``log_probs``; PyTorch's is meant for the input of the ``log_softmax`` that made them, where both agree.

    Args:
        log_probs: log-probabilities ``(T, N, C)`` or ``(T, C)``, floating-point.
        targets: integer classes other than the blank, ``(N, S)`` or ``(S,)``, or the targets of a batch one after the
            other, in one vector.
        input_lengths: how many of the T steps count, integers ``(N,)`` or ``()``.
        target_lengths: how long the targets are, integers ``(N,)`` or ``()``.
        blank: the class of the blank.
        reduction: ``"mean"`` for the mean of the losses, each divided by its target's length; ``"sum"`` or ``"none"``.
        zero_infinity: whether the losses of targets that do not fit into the input are 0, with derivative 0.

    Raises:
        ShapeError: the shapes do not fit, or a class or a length is out of bounds.
        DTypeError: the log-probabilities are not floating-point, or classes or lengths are not integers.
        TraceError: the targets are one vector for a batch, and their lengths are known only when the program runs.

    Source: Graves et al., "Connectionist Temporal Classification" (2006).

    >>> halves = volta.full((2, 2), -0.6931472)
    >>> round(ctc_loss(halves, Tensor([1]), Tensor(2), Tensor(1)).item(), 4)  # of four sequences, three read as 1
    0.2877
    """
    x = float_tensor("ctc_loss", log_probs)
    if x.ndim not in (2, 3) or not x.shape[0]:
        raise ShapeError(f"ctc_loss: expected log_probs of shape (T, N, C) or (T, C), got {x.spec}")
    batched = x if x.ndim == 3 else volta.expand_dims(x, 1)
    steps, batch, count = batched.shape
    if not 0 <= blank < count:
        raise ShapeError(f"ctc_loss: blank must be in the range 0 to {count - 1}, got {blank}")
    lengths = _lengths("input_lengths", input_lengths, x.shape[1:-1], steps).reshape(-1, 1)
    labels = index_tensor("ctc_loss", "target", targets, count)
    target_lengths = _lengths("target_lengths", target_lengths, x.shape[1:-1], labels.size)
    labels = _padded_targets(labels, target_lengths, batch, is_batched=x.ndim == 3)
    target_lengths = target_lengths.reshape(-1, 1)

    # The states are the blanks around the labels, and the labels. alpha holds, for each state, the logarithm of the
    # probability of all beginnings of sequences that end there.
    blanks = volta.full_like(labels, blank)
    states = volta.stack([blanks, labels], -1).reshape(batch, -1)
    states = volta.concatenate([states, volta.full((batch, 1), blank, labels.dtype)], 1)
    can_skip = (states != blank) & (states != _shifted_right(states, 2, blank))
    indices = broadcast_to(states, (steps, *states.shape))
    emitted = volta.take_along_axis(as_tensor(batched, compute_dtype(x)), indices, 2)
    position = volta.iota(states.shape, 1)
    first = volta.where((position < 2) & (position <= 2 * target_lengths), emitted[0], -math.inf)

    def step(alpha: Tensor, now: Any) -> tuple[Tensor, None]:
        time, emitted = now
        stay_or_next = volta.logaddexp(alpha, _shifted_right(alpha, 1, -math.inf))
        skip = volta.where(can_skip, _shifted_right(alpha, 2, -math.inf), -math.inf)
        return volta.where(time < lengths, volta.logaddexp(stay_or_next, skip) + emitted, alpha), None

    alpha, _ = volta.scan(step, first, (volta.arange(1, steps), emitted[1:]))
    last = volta.take_along_axis(alpha, 2 * target_lengths, 1)
    before = volta.take_along_axis(alpha, volta.maximum(2 * target_lengths - 1, 0), 1)
    losses = -volta.logaddexp(last, volta.where(target_lengths > 0, before, -math.inf))[:, 0]
    losses = volta.where(lengths[:, 0] > 0, losses, volta.where(target_lengths[:, 0] > 0, math.inf, 0.0))
    if zero_infinity:
        losses = volta.where(losses == math.inf, 0.0, losses)
    if reduction == "mean":
        losses = losses / volta.maximum(target_lengths[:, 0], 1).astype(losses.dtype)
    return _reduced(losses.reshape(x.shape[1:-1]), reduction, x.dtype)


def _lengths(name: str, lengths: Any, shape: tuple[int, ...], largest: int) -> Tensor:
    """Lengths of up to the largest."""
    found = index_tensor("ctc_loss", name, lengths, largest + 1)
    if found.shape not in (shape, shape or (1,)):
        raise ShapeError(f"ctc_loss: expected {name} of shape {shape}, got {found.spec}")
    return found


def _padded_targets(labels: Tensor, lengths: Tensor, batch: int, *, is_batched: bool) -> Tensor:
    """The targets as ``(N, S)``."""
    if labels.ndim not in ((1, 2) if is_batched else (1,)) or (labels.ndim == 2 and labels.shape[0] != batch):
        raise ShapeError(f"ctc_loss: expected targets of shape ({batch}, S), or of rank 1, got {labels.spec}")
    if not lengths.is_traced:
        total, longest = int(lengths.numpy().sum()), int(lengths.numpy().max(initial=0))
        if longest > labels.shape[-1] or (labels.ndim == 1 and total != labels.size):
            raise ShapeError(f"ctc_loss: targets {labels.spec} do not have the lengths {lengths.tolist()}")
    if not is_batched:
        return volta.expand_dims(labels, 0)
    if labels.ndim == 2:
        return labels
    if lengths.is_traced:
        raise TraceError("ctc_loss: targets in one vector need lengths that are known; pass targets of shape (N, S)")
    starts = np.cumsum(lengths.numpy()) - lengths.numpy()
    return labels[np.minimum(starts[:, None] + np.arange(longest), max(labels.size - 1, 0))]


def _shifted_right(x: Tensor, by: int, filler: Any) -> Tensor:
    """``x`` moved by so many columns, with a filler in their place."""
    return volta.pad(x, ((0, 0), (by, 0)), constant_values=filler)[:, : x.shape[1]]


# -- margins -------------------------------------------------------------------------------------------------------


def _hinge(x: Tensor) -> Tensor:
    """``max(x, 0)``, with derivative 1 at 0, as that of PyTorch's ``clamp_min``."""
    return volta.clip(x, 0.0)


def margin_ranking_loss(input1: Any, input2: Any, target: Any, margin: float = 0.0, reduction: str = "mean") -> Tensor:
    """``max(0, margin - target * (input1 - input2))``.

    Args:
        input1, input2: floating-point, of the same rank; the shapes broadcast.
        target: 1 where ``input1`` should be larger, and -1 where it should be smaller, of the same rank.
        margin: by how much.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.

    Raises:
        ShapeError: the ranks differ, or the shapes do not broadcast.
        DTypeError: neither input is floating-point.

    >>> margin_ranking_loss(Tensor([1.0, 1.0]), Tensor([3.0, 3.0]), Tensor([1, -1]), reduction="none").tolist()
    [2.0, 0.0]
    """
    specs = [as_tensor(x).spec for x in (input1, input2, target)]
    if len({s.rank for s in specs}) > 1:
        raise ShapeError(
            "margin_ranking_loss: all input tensors should have the same dimension, but got"
            f" input1: {specs[0]}, input2: {specs[1]}, target: {specs[2]}"
        )
    x, y, dtype = float_pair("margin_ranking_loss", input1, input2)
    return _reduced(_hinge(margin - as_tensor(target, x.dtype) * (x - y)), reduction, dtype)


def hinge_embedding_loss(input: Any, target: Any, margin: float = 1.0, reduction: str = "mean") -> Tensor:
    """``input`` where the target is 1, and ``max(0, margin - input)`` where it is -1.

    Args:
        input: distances, floating-point.
        target: 1 or -1; the shapes broadcast.
        margin: how large distances should be where the target is -1.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.

    Raises:
        ShapeError: the shapes do not broadcast.
        DTypeError: neither is floating-point.

    >>> hinge_embedding_loss(Tensor([0.25, 0.25]), Tensor([1, -1]), reduction="none").tolist()
    [0.25, 0.75]
    """
    x, y, dtype = float_pair("hinge_embedding_loss", input, target)
    # Numbers other than 1 and -1 count as both, as in PyTorch.
    losses = volta.where(y != 1, _hinge(margin - x), 0.0) + volta.where(y != -1, x, 0.0)
    return _reduced(losses, reduction, dtype)


def soft_margin_loss(input: Any, target: Any, reduction: str = "mean") -> Tensor:
    """``log(1 + exp(-target * input))``, computed without overflow.

    Args:
        input: floating-point.
        target: 1 or -1; the shapes broadcast.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.

    Raises:
        ShapeError: the shapes do not broadcast.
        DTypeError: neither is floating-point.

    >>> soft_margin_loss(Tensor([1000.0, 1000.0]), Tensor([1, -1]), reduction="none").tolist()
    [0.0, 1000.0]
    """
    x, y, dtype = float_pair("soft_margin_loss", input, target)
    return _reduced(-logsigmoid(y * x), reduction, dtype)


def _rows(what: str, input: Any) -> tuple[Tensor, Tensor]:
    """The input, and ``(N, C)`` made of it in the dtype to compute in: a vector is one row."""
    x = float_tensor(what, input)
    if x.ndim > 2:
        raise ShapeError(f"{what}: expected an input of shape (C,) or (N, C), got {x.spec}")
    return x, as_tensor(x, compute_dtype(x)).reshape(x.shape if x.ndim == 2 else (1, x.size))


def multi_margin_loss(
    input: Any, target: Any, p: int = 1, margin: float = 1.0, weight: Any = None, reduction: str = "mean"
) -> Tensor:
    """``Σ max(0, margin - input[target] + input[j])ᵖ / C`` over all other classes ``j``.

    Args:
        input: scores ``(C,)`` or ``(N, C)``, floating-point.
        target: integer classes ``()`` or ``(N,)``. In a compiled program, a class outside 0 to C-1 has loss 0.
        p: 1 or 2.
        margin: by how much the score of the target should be larger than the others.
        weight: ``(C,)``, a factor for each target class, or None. ``"mean"`` divides by the number of targets.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.

    Raises:
        ShapeError: the shapes do not fit, or a class is out of bounds.
        DTypeError: the input is not floating-point, or the classes are not integers.
        ValueError: ``p`` is neither 1 nor 2.

    >>> multi_margin_loss(Tensor([0.0, 0.5]), Tensor(0)).item()
    0.75
    """
    if p not in (1, 2):
        raise OptionError(f"multi_margin_loss: only p == 1 and p == 2 supported, got {p}")
    x, rows = _rows("multi_margin_loss", input)
    classes = index_tensor("multi_margin_loss", "target", target, rows.shape[1])
    if classes.size != rows.shape[0] or classes.ndim > 1:
        raise ShapeError(f"multi_margin_loss: expected a target of shape ({rows.shape[0]},), got {classes.spec}")
    weight = _class_weight("multi_margin_loss", weight, rows, 1)
    chosen = volta.iota(rows.shape, 1, classes.dtype) == classes.reshape(-1, 1)
    score = volta.where(chosen, rows, 0.0).sum(1, keepdims=True)
    others = chosen.any(1, keepdims=True) & ~chosen
    losses = relu(volta.where(others, margin - score + rows, 0.0)) ** p
    if weight is not None:
        losses = losses * volta.where(chosen, weight, 0.0).sum(1, keepdims=True)
    return _reduced((losses.sum(1) / rows.shape[1]).reshape(classes.shape), reduction, x.dtype)


def multilabel_margin_loss(input: Any, target: Any, reduction: str = "mean") -> Tensor:
    """``Σ max(0, 1 - input[i] + input[j]) / C`` over all target classes ``i`` and all other classes ``j``.

    Args:
        input: scores ``(C,)`` or ``(N, C)``, floating-point.
        target: integers of the same shape: in each row classes, and -1 behind the last one.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.

    Raises:
        ShapeError: the shapes do not fit, or a class is out of bounds.
        DTypeError: the input is not floating-point, or the classes are not integers.

    >>> multilabel_margin_loss(Tensor([0.5, 0.0]), Tensor([0, -1])).item()
    0.25
    """
    x, rows = _rows("multilabel_margin_loss", input)
    classes = index_tensor("multilabel_margin_loss", "target", target, rows.shape[1], ignored=-1)
    if classes.shape != x.shape:
        raise ShapeError(f"multilabel_margin_loss: expected a target of shape {x.shape}, got {classes.spec}")
    classes = classes.reshape(rows.shape)
    listed = volta.cumsum(classes < 0, 1) == 0
    is_target = (volta.one_hot(classes, rows.shape[1], bool) & volta.expand_dims(listed, -1)).any(1)
    scores = volta.take_along_axis(rows, volta.where(listed, classes, 0), 1)
    pairs = volta.expand_dims(listed, 2) & volta.expand_dims(~is_target, 1)
    losses = relu(volta.where(pairs, 1 - volta.expand_dims(scores, 2) + volta.expand_dims(rows, 1), 0.0))
    return _reduced((losses.sum((1, 2)) / rows.shape[1]).reshape(x.shape[:-1]), reduction, x.dtype)


def multilabel_soft_margin_loss(input: Any, target: Any, weight: Any = None, reduction: str = "mean") -> Tensor:
    """:func:`binary_cross_entropy_with_logits`, averaged over the classes, which are the last axis.

    Args:
        input: logits ``(…, C)``, floating-point.
        target: 0 or 1; the shapes broadcast.
        weight: a factor for each element, of a shape that broadcasts to that of the input, or None.
        reduction: ``"mean"``, ``"sum"``, or ``"none"`` for losses ``(…)``.

    Raises:
        ShapeError: the shapes do not fit, or the input is of rank 0.
        DTypeError: neither is floating-point.

    >>> multilabel_soft_margin_loss(Tensor([1000.0, 1000.0]), Tensor([0.0, 1.0])).item()
    500.0
    """
    x, y, dtype = float_pair("multilabel_soft_margin_loss", input, target)
    if not x.ndim:
        raise ShapeError("multilabel_soft_margin_loss takes an input of rank 1 or more")
    losses = -(y * logsigmoid(x) + (1 - y) * logsigmoid(-x))
    return _reduced(_weighted("multilabel_soft_margin_loss", losses, weight).mean(-1), reduction, dtype)


def cosine_embedding_loss(
    input1: Any, input2: Any, target: Any, margin: float = 0.0, reduction: str = "mean"
) -> Tensor:
    """``1 - c`` where the target is 1, and ``max(0, c - margin)`` where it is -1, for the cosine ``c`` of two vectors.

    Args:
        input1, input2: ``(N, D)`` or ``(D,)``, floating-point.
        target: 1 or -1, ``(N,)`` or ``()``; the loss of other numbers is 0.
        margin: how large cosines may be where the target is -1.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.

    Raises:
        ShapeError: the shapes do not fit.
        DTypeError: neither input is floating-point.

    >>> cosine_embedding_loss(Tensor([3.0, 0.0]), Tensor([2.0, 0.0]), Tensor(-1)).item()
    1.0
    """
    specs, target = [as_tensor(x).spec for x in (input1, input2)], as_tensor(target)
    if target.ndim > 1 or any(s.rank != target.ndim + 1 for s in specs):
        raise ShapeError(
            "cosine_embedding_loss: expected inputs of shape (N, D) and a target of shape (N,), or (D,) and (), got"
            f" {specs[0]}, {specs[1]} and {target.spec}"
        )
    x, y, dtype = float_pair("cosine_embedding_loss", input1, input2)
    target = broadcast_to(target, x.shape[:-1])
    squares = (volta.square(x).sum(-1) + 1e-12) * (volta.square(y).sum(-1) + 1e-12)
    cosine = (x * y).sum(-1) / volta.sqrt(squares)
    losses = volta.where(target == 1, 1 - cosine, volta.where(target == -1, _hinge(cosine - margin), 0.0))
    return _reduced(losses, reduction, dtype)


def triplet_margin_loss(
    anchor: Any,
    positive: Any,
    negative: Any,
    margin: float = 1.0,
    p: float = 2,
    eps: float = 1e-6,
    swap: bool = False,
    reduction: str = "mean",
) -> Tensor:
    """``max(0, margin + distance(anchor, positive) - distance(anchor, negative))``.

    Args:
        anchor, positive, negative: ``(…, D)``, floating-point, of the same rank; the shapes broadcast.
        margin: by how much the negatives should be farther away.
        p, eps: of :func:`pairwise_distance`.
        swap: whether the distance from the positive to the negative counts where it is smaller than that from the
            anchor, as Balntas et al. have it in "Learning shallow convolutional feature descriptors with triplet
            losses" (2016).
        reduction: ``"mean"``, ``"sum"``, or ``"none"`` for losses ``(…)``.

    Raises:
        ShapeError: the ranks differ, or the shapes do not broadcast.
        DTypeError: none is floating-point.
        ValueError: the margin is not positive.

    >>> triplet_margin_loss(Tensor([0.0]), Tensor([1.0]), Tensor([1.5]), eps=0.0).item()
    0.5
    """
    return _triplet(
        "triplet_margin_loss",
        (anchor, positive, negative),
        lambda x, y: pairwise_distance(x, y, p, eps),
        margin,
        swap,
        reduction,
    )


def triplet_margin_with_distance_loss(
    anchor: Any,
    positive: Any,
    negative: Any,
    *,
    distance_function: Callable[[Tensor, Tensor], Tensor] | None = None,
    margin: float = 1.0,
    swap: bool = False,
    reduction: str = "mean",
) -> Tensor:
    """:func:`triplet_margin_loss` with a distance of one's own.

    Args:
        anchor, positive, negative: floating-point, of the same rank.
        distance_function: takes two of them; :func:`pairwise_distance` if None.
        margin, swap, reduction: as for :func:`triplet_margin_loss`.

    Raises:
        ShapeError: the ranks differ.
        ValueError: the margin is not positive.

    >>> triplet_margin_with_distance_loss(
    ...     Tensor([0.0]), Tensor([1.0]), Tensor([1.5]), distance_function=lambda x, y: volta.abs(x - y)
    ... ).item()
    0.5
    """
    distance = pairwise_distance if distance_function is None else distance_function
    what = "triplet_margin_with_distance_loss"
    return _triplet(what, (anchor, positive, negative), distance, margin, swap, reduction)


def _triplet(
    what: str,
    points: tuple[Any, Any, Any],
    distance: Callable[[Tensor, Tensor], Tensor],
    margin: float,
    swap: bool,
    reduction: str,
) -> Tensor:
    if margin <= 0:
        raise OptionError(f"{what}: margin must be greater than 0, got {margin}")
    anchor, positive, negative = (as_tensor(x) for x in points)
    if len({x.ndim for x in (anchor, positive, negative)}) > 1:
        raise ShapeError(
            f"{what}: expected anchor, positive and negative of the same rank, got {anchor.spec}, {positive.spec} and"
            f" {negative.spec}"
        )
    dtype = volta.result_type(anchor, positive, negative)
    if not is_float(dtype):
        raise DTypeError(f"{what}: expected floating-point numbers, got {anchor.spec}")
    wide = compute_dtype(dtype)
    anchor, positive, negative = (as_tensor(x, wide) for x in (anchor, positive, negative))
    near, far = distance(anchor, positive), distance(anchor, negative)
    if swap:
        far = volta.minimum(far, distance(positive, negative))
    return _reduced(_hinge(margin + near - far), reduction, dtype)
