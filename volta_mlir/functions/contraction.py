"""Products of tensors."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from volta_mlir.dialects import contraction as ops
from volta_mlir.dtypes import DEFAULT_INT, bool_, result_type
from volta_mlir.errors import ShapeError
from volta_mlir.functions.common import as_tensor, axes_tuple, broadcast_shapes, broadcast_to
from volta_mlir.functions.creation import iota
from volta_mlir.functions.elementwise import where
from volta_mlir.functions.movement import ravel, reshape, transpose
from volta_mlir.functions.reduction import sum as reduce_sum
from volta_mlir.tensor import Tensor

__all__ = ["dot", "dot_general", "einsum", "inner", "matmul", "outer", "tensordot", "vdot"]


def _promote(*operands: Any) -> list[Tensor]:
    """The operands as tensors of their common dtype, in which bool counts as int32."""
    dtype = result_type(*operands)
    return [as_tensor(x, DEFAULT_INT if dtype == bool_ else dtype) for x in operands]


def dot_general(
    lhs: Any,
    rhs: Any,
    contract: tuple[Sequence[int], Sequence[int]],
    batch: tuple[Sequence[int], Sequence[int]] = ((), ()),
    dtype: np.dtype | None = None,
) -> Tensor:
    """Batched product over any axes; the result has the batch axes, lhs's free axes, rhs's free axes.

    Args:
        contract: the axes of lhs and of rhs to sum over.
        batch: the axes of lhs and of rhs to pair up.
        dtype: of the result; default the operands'. Half precision accumulates in float32 either way.

    >>> dot_general(Tensor([[1.0, 2.0]]), Tensor([[3.0, 4.0]]), contract=([1], [1])).tolist()
    [[11.0]]
    """
    x, y = _promote(lhs, rhs)
    return ops.DotGeneralOp.apply(
        x, y, lhs_batch=tuple(batch[0]), rhs_batch=tuple(batch[1]), lhs_contract=tuple(contract[0]),
        rhs_contract=tuple(contract[1]), dtype=x.dtype if dtype is None else dtype,
    )  # fmt: skip


def matmul(x: Any, y: Any) -> Tensor:
    """numpy's ``@``: vectors and matrices, leading axes broadcast.

    >>> matmul(Tensor([[1.0, 2.0]]), Tensor([3.0, 4.0])).tolist()
    [11.0]
    """
    x, y = _promote(x, y)
    if not x.ndim or not y.ndim:
        raise ShapeError(f"matmul takes tensors of rank 1 or more, got {x.spec} and {y.spec}")
    inner = -2 if y.ndim > 1 else -1
    if x.shape[-1] != y.shape[inner]:
        raise ShapeError(f"matmul: the last axis of {x.spec} and axis {inner} of {y.spec} differ in extent")
    if y.ndim <= 2 or (x.ndim == 1 and y.ndim == 1):  # no batch axes on the right: x's are all free
        return dot_general(x, y, ([x.ndim - 1], [y.ndim + inner]))
    if x.ndim == 1:
        return reshape(matmul(reshape(x, (1, -1)), y), (*y.shape[:-2], y.shape[-1]))
    lead = broadcast_shapes(x.shape[:-2], y.shape[:-2])
    x, y = broadcast_to(x, (*lead, *x.shape[-2:])), broadcast_to(y, (*lead, *y.shape[-2:]))
    axes = range(len(lead))
    return dot_general(x, y, ([len(lead) + 1], [len(lead)]), (axes, axes))


def dot(x: Any, y: Any) -> Tensor:
    """numpy's ``dot``: the last axis of ``x`` times the last but one of ``y`` (its only one, of a vector).

    >>> dot(Tensor([1.0, 2.0]), Tensor([3.0, 4.0])).tolist()
    11.0
    """
    x, y = _promote(x, y)
    if not x.ndim or not y.ndim:
        return x * y
    return tensordot(x, y, ([-1], [-2 if y.ndim > 1 else -1]))


def vdot(x: Any, y: Any) -> Tensor:
    """The sum of the products of all elements.

    >>> vdot(Tensor([[1.0, 2.0]]), Tensor([[3.0, 4.0]])).tolist()
    11.0
    """
    return dot(ravel(x), ravel(y))


def inner(x: Any, y: Any) -> Tensor:
    """The last axis of ``x`` times the last axis of ``y``.

    >>> inner(Tensor([[1, 2], [3, 4]]), Tensor([5, 6])).tolist()
    [17, 39]
    """
    x, y = _promote(x, y)
    return tensordot(x, y, ([-1], [-1])) if x.ndim and y.ndim else x * y


def outer(x: Any, y: Any) -> Tensor:
    """All products of an element of ``x`` and one of ``y``, as a matrix.

    >>> outer(Tensor([1, 2]), Tensor([3, 4])).tolist()
    [[3, 4], [6, 8]]
    """
    return tensordot(ravel(x), ravel(y), 0)


def tensordot(x: Any, y: Any, axes: int | tuple[Sequence[int], Sequence[int]] = 2) -> Tensor:
    """The products of ``x`` and ``y`` summed over axes; the result has the others, those of ``x`` first.

    Args:
        x, y: the operands.
        axes: the axes of ``x`` and those of ``y``, or how many of the last axes of ``x`` and the first of ``y``.

    >>> tensordot(Tensor([[1, 2], [3, 4]]), Tensor([[1, 0], [0, 1]])).tolist()
    5
    """
    x, y = _promote(x, y)
    if isinstance(axes, int):
        if not 0 <= axes <= min(x.ndim, y.ndim):
            raise ShapeError(f"tensordot: {x.spec} and {y.spec} do not both have {axes} axes")
        axes = (range(x.ndim - axes, x.ndim), range(axes))
    left, right = ([axes_tuple(a, t.ndim)[0] for a in of] for of, t in zip(axes, (x, y), strict=True))
    if [x.shape[a] for a in left] != [y.shape[a] for a in right]:
        raise ShapeError(f"tensordot: axes {left} of {x.spec} and {right} of {y.spec} differ in extent")
    return dot_general(x, y, (left, right))


# -- einsum --------------------------------------------------------------------------------------------------------


def einsum(subscripts: str, *operands: Any) -> Tensor:
    """numpy's ``einsum``: the sum of products that the subscripts describe, letter by axis.

    Operands are multiplied in pairs, at each step the pair with the smallest product.

    Args:
        subscripts: the axes of each operand, then those of the result: ``"bij,bjk->bik"``. ``...`` stands for further
            axes, which broadcast. Without ``->`` the result has the letters that occur once, in alphabetical order.
        operands: one for each part of the subscripts.

    Raises:
        ShapeError: the subscripts do not fit the operands.

    >>> einsum("ij,ij->i", Tensor([[1, 2], [3, 4]]), Tensor([[5, 6], [7, 8]])).tolist()
    [17, 53]
    """
    tensors = _promote(*operands)
    terms, result = _parse(subscripts, tensors)
    extents: dict[str, int] = {}
    for term, x in zip(terms, tensors, strict=True):
        for letter, extent in zip(term, x.shape, strict=True):
            if extents.setdefault(letter, extent) != extent:
                if 1 not in (extents[letter], extent) or letter not in _ELLIPSIS:
                    raise ShapeError(f"einsum {subscripts!r}: {letter} has the extents {extents[letter]} and {extent}")
                extents[letter] = max(extents[letter], extent) if extent and extents[letter] else 0
    parts = [_distinct(term, x) for term, x in zip(terms, tensors, strict=True)]
    parts = [(t, broadcast_to(x, [extents[a] for a in t])) if set(t) & set(_ELLIPSIS) else (t, x) for t, x in parts]
    while len(parts) > 1:
        pairs = itertools.combinations(range(len(parts)), 2)
        i, j = min(pairs, key=lambda pair: _product_size(parts, pair, result, extents))
        first, second = parts[i], parts[j]
        parts = [part for k, part in enumerate(parts) if k not in (i, j)]
        needed = set(result).union(*(term for term, _ in parts))
        parts.append(
            _multiply(_summed(*first, needed | set(second[0])), _summed(*second, needed | set(first[0])), needed)
        )
    term, x = _summed(*parts[0], set(result))
    return transpose(x, [term.index(letter) for letter in result]) if term else x


_ELLIPSIS = "".join(chr(code) for code in range(0x391, 0x3A2))  # letters that stand for the axes of "...": Greek ones


def _parse(subscripts: str, tensors: Sequence[Tensor]) -> tuple[list[str], str]:
    """The letters of each operand's axes and of the result's, with letters in the place of ``...``."""
    text = subscripts.replace(" ", "")
    left, arrow, result = text.partition("->")
    terms = left.split(",")
    if len(terms) != len(tensors):
        raise ShapeError(f"einsum {subscripts!r} takes {len(terms)} operands, got {len(tensors)}")
    if any(not (c.isascii() and c.isalpha()) for c in (left + result).replace("...", "").replace(",", "")):
        raise ShapeError(f"einsum {subscripts!r}: subscripts consist of letters, commas, '...' and one '->'")
    more = [x.ndim - len(term.replace("...", "")) for term, x in zip(terms, tensors, strict=True)]
    for term, count, x in zip(terms, more, tensors, strict=True):
        if count < 0 or (count and "..." not in term):
            raise ShapeError(f"einsum {subscripts!r}: {term!r} does not name the axes of {x.spec}")
    rank = max((count for term, count in zip(terms, more, strict=True) if "..." in term), default=0)
    shared = _ELLIPSIS[:rank]
    terms = [term.replace("...", shared[rank - count :]) for term, count in zip(terms, more, strict=True)]
    if not arrow:
        letters = "".join(terms)
        result = "..." + "".join(sorted(c for c in set(letters) - set(shared) if letters.count(c) == 1))
    result = result.replace("...", shared)
    if len(set(result)) != len(result) or not set(result) <= set("".join(terms)):
        raise ShapeError(f"einsum {subscripts!r}: the result repeats a letter, or has one that no operand has")
    return terms, result


def _distinct(term: str, x: Tensor) -> tuple[str, Tensor]:
    """The diagonal along each letter that occurs more than once."""
    for letter in dict.fromkeys(term):
        while term.count(letter) > 1:
            first, second = term.index(letter), term.rindex(letter)
            diagonal = iota(x.shape, first) == iota(x.shape, second)
            x = reduce_sum(where(diagonal, x, 0), axis=second)
            term = term[:second] + term[second + 1 :]
    return term, x


def _summed(term: str, x: Tensor, needed: set[str]) -> tuple[str, Tensor]:
    """Without the axes that are not needed."""
    axes = tuple(a for a, letter in enumerate(term) if letter not in needed)
    return ("".join(c for c in term if c in needed), reduce_sum(x, axis=axes)) if axes else (term, x)


def _product_size(
    parts: Sequence[tuple[str, Tensor]], pair: tuple[int, int], result: str, extents: dict[str, int]
) -> int:
    others = set(result).union(*(term for k, (term, _) in enumerate(parts) if k not in pair))
    return math.prod(extents[a] for a in set(parts[pair[0]][0] + parts[pair[1]][0]) & others)


def _multiply(first: tuple[str, Tensor], second: tuple[str, Tensor], needed: set[str]) -> tuple[str, Tensor]:
    (left, x), (right, y) = first, second
    shared = [letter for letter in left if letter in right]
    batch = [letter for letter in shared if letter in needed]
    contracted = [letter for letter in shared if letter not in needed]
    axes = [([left.index(c) for c in letters], [right.index(c) for c in letters]) for letters in (contracted, batch)]
    free = [letter for letter in left + right if letter not in shared]
    return "".join(batch + free), dot_general(x, y, axes[0], axes[1])
