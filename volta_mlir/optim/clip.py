"""Limits for gradients."""

from __future__ import annotations

import math
from typing import Any

from volta_mlir.dtypes import float32, result_type
from volta_mlir.errors import OptionError
from volta_mlir.functions import abs, astype, isfinite, max, maximum, minimum, sqrt, square, sum
from volta_mlir.functions import clip as clipped
from volta_mlir.functions.common import as_tensor
from volta_mlir.optim.parameters import as_wide, distinct, map_distinct
from volta_mlir.tensor import Tensor


def global_norm(tree: Any, norm_type: float = 2.0) -> Tensor:
    """The norm of all tensors of a tree as one vector, as ``torch.nn.utils.get_total_norm``.

    Args:
        tree: gradients, or any tree of floating-point tensors and None; those of tied parameters count once.
        norm_type: p for the p-norm, above 0; ``inf``, or ``"inf"``, for the largest magnitude.

    Returns:
        A scalar of the widest dtype in the tree, at least float32; 0 for a tree without tensors.

    Raises:
        ValueError: ``norm_type`` is 0 or less.

    >>> global_norm({"weight": Tensor([3.0, 0.0]), "bias": Tensor(4.0), "fixed": None}).item()
    5.0
    """
    p = float(norm_type)
    if not p > 0:
        raise OptionError(f"Invalid norm_type: {norm_type}; expected a number above 0, or inf")
    tensors = [as_wide(t) for t in distinct(tree).values() if t.size]
    total = as_tensor(0, result_type(float32, *(t.dtype for t in tensors)))
    for t in tensors:
        if math.isinf(p):
            total = maximum(total, astype(max(abs(t)), total.dtype))
        else:
            total = total + astype(sum(square(t) if p == 2 else abs(t) ** p), total.dtype)
    if math.isinf(p):
        return total
    return sqrt(total) if p == 2 else total ** (1 / p)


def clip_grad_norm(
    grads: Any, max_norm: float | Tensor, norm_type: float = 2.0, error_if_nonfinite: bool = False
) -> tuple[Any, Tensor]:
    """Gradients scaled down so that their norm is at most ``max_norm``.

    ``torch.nn.utils.clip_grad_norm_`` as a pure function: gradients are values here, and come back as results.

    Args:
        grads: a tree of gradients; None stays, and tied ones count once.
        max_norm: the largest norm.
        norm_type: as for :func:`global_norm`.
        error_if_nonfinite: whether a norm that is infinite or NaN is an error; outside of traces only.

    Returns:
        The scaled gradients, in their dtypes, and the norm from before.

    Raises:
        ValueError: ``norm_type`` is 0 or less.
        RuntimeError: the norm is not finite and ``error_if_nonfinite`` is set.
        TraceError: ``error_if_nonfinite`` is set in a trace.

    >>> grads, norm = clip_grad_norm({"weight": Tensor([3.0]), "bias": Tensor(4.0)}, max_norm=2.5)
    >>> grads["weight"].round(4).tolist(), norm.item()
    ([1.5], 5.0)
    """
    norm = global_norm(grads, norm_type)
    if error_if_nonfinite and not bool(isfinite(norm)):
        raise RuntimeError(
            f"The total norm of order {norm_type} for gradients is non-finite, so it cannot be clipped. To disable this"
            " error and scale the gradients by the non-finite norm anyway, set `error_if_nonfinite=False`"
        )
    scale = minimum(max_norm / (norm + 1e-6), 1)
    return map_distinct(lambda g: astype(as_wide(g) * astype(scale, as_wide(g).dtype), g.dtype), grads), norm


def clip_grad_value(grads: Any, clip_value: float | Tensor) -> Any:
    """Gradients whose elements are limited to ``[-clip_value, clip_value]``.

    ``torch.nn.utils.clip_grad_value_`` as a pure function.

    Args:
        grads: a tree of gradients; None stays.
        clip_value: the largest magnitude.

    Returns:
        The limited gradients, in their dtypes.

    >>> clip_grad_value({"weight": Tensor([3.0, -0.5])}, 1.0)["weight"].tolist()
    [1.0, -0.5]
    """
    return map_distinct(lambda g: astype(clipped(g, -clip_value, clip_value), g.dtype), grads)
