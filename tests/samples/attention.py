"""Samples of attention and its gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.samples import Sample, random_array
from volta_mlir.dialects.attention import AttentionOp, MaskedAttentionOp
from volta_mlir.dialects.attention_kernels import MIN_QUERIES
from volta_mlir.dialects.reduction import accumulator
from volta_mlir.dtypes import FLOATS

Draw = Callable[[np.random.Generator, np.dtype], np.ndarray]


def _operands(
    rng: np.random.Generator, dtype: np.dtype, q: tuple[int, ...], source: int, width: int
) -> list[np.ndarray]:
    shapes = q, (*q[:2], source, q[-1]), (*q[:2], source, width)
    return [random_array(rng, dtype, shape) for shape in shapes]


def _mask(shape: tuple[int, ...], kind: str) -> Draw:
    """A random mask: "numbers", "bool" in which each query sees some key, or "hiding", "hiding numbers" (with -inf) in
    which one sees none."""

    def draw(rng: np.random.Generator, dtype: np.dtype) -> np.ndarray:
        hidden = rng.random(shape) < 0.3
        hidden[:, :, :, 0, :] = "hiding" in kind
        hidden[:, :, :, 1:, 0] = False
        if "numbers" not in kind:
            return ~hidden
        numbers = random_array(rng, accumulator(dtype), shape)
        return numbers if kind == "numbers" else np.where(hidden, -np.inf, numbers).astype(numbers.dtype)

    return draw


def _with_cotangents(
    rng: np.random.Generator, dtype: np.dtype, operands: list[np.ndarray], attributes: dict[str, Any]
) -> list[np.ndarray]:
    """Operands of attention with the further ones of its gradient, as they are for random cotangents."""
    op: Any = AttentionOp if len(operands) == 3 else MaskedAttentionOp
    out, lse = op.evaluate(operands, attributes)
    dout = random_array(rng, dtype, out.shape)
    delta = (out.astype(lse.dtype) * dout.astype(lse.dtype)).sum(-1) - random_array(rng, lse.dtype, lse.shape)
    return [*operands, lse, delta, dout]


def _samples(gradient: bool, masked: bool) -> list[Sample]:
    found = []

    def add(
        name: str, q: tuple[int, ...], source: int, width: int, mask: Draw | None = None, **attributes: Any
    ) -> None:
        if (mask is not None) != masked:
            return

        def operands(rng: np.random.Generator, dtype: np.dtype) -> list[np.ndarray]:
            drawn = _operands(rng, dtype, q, source, width)
            if mask is not None:
                drawn.append(mask(rng, dtype))
            return _with_cotangents(rng, dtype, drawn, attributes) if gradient else drawn

        # Infinite results have no derivatives; what is long is there for the kernels, which take no float64.
        differentiated = name != "hiding" and q[3] < MIN_QUERIES
        found.append(Sample(name, operands, attributes, FLOATS, gradient=differentiated))

    add("one head", (1, 1, 1, 4, 3), 5, 2, scale=0.5, causal=False)
    add("causal", (2, 1, 1, 5, 4), 5, 4, scale=0.5, causal=True)
    add("causal, more keys", (1, 2, 1, 3, 4), 7, 4, scale=0.3, causal=True)
    add("causal, more queries", (1, 2, 1, 7, 4), 3, 4, scale=0.3, causal=True)
    add("groups", (2, 2, 3, 4, 5), 6, 3, scale=0.4, causal=False)
    add("causal groups", (1, 2, 2, 4, 5), 4, 3, scale=0.4, causal=True)
    add("one query", (2, 3, 1, 1, 8), 9, 8, scale=0.3, causal=False)
    add("long", (2, 2, 1, 9, 5), 11, 3, scale=0.5, causal=False)
    add("long, causal", (1, 2, 2, 43, 33), 37, 40, scale=0.2, causal=True)
    add("many keys", (1, 2, 1, 9, 4), 530, 8, scale=0.5, causal=False)
    add("many queries", (1, 1, 2, 530, 4), 70, 8, scale=0.5, causal=True)
    add("one key", (2, 3, 1, 3, 4), 1, 4, scale=0.3, causal=False)
    add("numbers", (1, 2, 1, 3, 4), 5, 4, _mask((1, 1, 1, 3, 5), "numbers"), scale=0.5)
    add("for all queries", (2, 2, 1, 3, 4), 5, 4, _mask((2, 1, 1, 1, 5), "numbers"), scale=0.5)
    add("for all keys", (2, 2, 1, 3, 4), 5, 4, _mask((1, 2, 1, 3, 1), "numbers"), scale=0.5)
    add("groups", (2, 2, 3, 4, 5), 6, 3, _mask((2, 2, 3, 4, 6), "numbers"), scale=0.4)
    add("bool", (2, 2, 2, 4, 3), 5, 2, _mask((2, 1, 2, 4, 5), "bool"), scale=0.5)
    add("hiding numbers", (2, 1, 1, 4, 3), 5, 2, _mask((1, 1, 1, 4, 5), "hiding numbers"), scale=0.5)
    add("hiding", (2, 1, 1, 4, 3), 5, 2, _mask((2, 1, 1, 4, 5), "hiding"), scale=0.5)
    add("long", (2, 2, 2, 11, 4), 13, 5, _mask((2, 1, 2, 11, 13), "numbers"), scale=0.5)
    add("long, of queries", (2, 2, 1, 11, 4), 13, 5, _mask((1, 2, 1, 11, 1), "numbers"), scale=0.5)
    add("long, bool of keys", (2, 1, 2, 75, 4), 270, 5, _mask((2, 1, 1, 1, 270), "bool"), scale=0.5)
    add("long, hiding numbers", (1, 1, 2, 9, 4), 13, 5, _mask((1, 1, 1, 9, 13), "hiding numbers"), scale=0.5)
    return found


#: A bool mask has no gradient.
_OF_FLOAT_MASKS = [s for s in _samples(gradient=True, masked=True) if "bool" not in s.name and s.name != "hiding"]

SAMPLES = {
    "attention": _samples(gradient=False, masked=False),
    "attention_grad": _samples(gradient=True, masked=False),
    "masked_attention": _samples(gradient=False, masked=True),
    "masked_attention_grad": _samples(gradient=True, masked=True),
    "attention_mask_grad": _OF_FLOAT_MASKS,
}
