"""Keys and values of the tokens so far, which a decoder attends to."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

import volta_mlir as volta
from volta_mlir import Tensor
from volta_mlir.nn import functional as F


class Cache(NamedTuple):
    """The keys and values of every layer. A compiled function that is given a cache to keep updates it in place.

    Sequences end at the same place: shorter ones begin later, after padding that nothing attends to.

    Attributes:
        keys: of each layer ``[batch, heads, capacity, width]``.
        values: of each layer, the same.
        length: how many tokens are in the cache, padding included; int32.
        start: at which of them each sequence begins ``[batch]``, int32.

    Example:
        >>> cache = Cache.empty(layers=2, batch=1, heads=3, capacity=16, width=8)
        >>> cache.capacity, cache.keys[0].shape
        (16, (1, 3, 16, 8))
    """

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    length: Tensor
    start: Tensor

    @classmethod
    def empty(cls, layers: int, batch: int, heads: int, capacity: int, width: int, dtype: Any = "float32") -> Cache:
        """A cache without tokens."""

        def zeros() -> tuple[Tensor, ...]:
            return tuple(Tensor(np.zeros((batch, heads, capacity, width), np.float32), dtype) for _ in range(layers))

        return cls(zeros(), zeros(), Tensor(np.int32(0)), Tensor(np.zeros(batch, np.int32)))

    @property
    def capacity(self) -> int:
        """How many tokens fit."""
        return self.keys[0].shape[2]

    def positions(self, count: int) -> Tensor:
        """The positions ``[batch, count]`` of the tokens that come next; 0 for padding."""
        places = self.length + volta.arange(count)
        return volta.maximum(places - volta.expand_dims(self.start, 1), 0)

    def visible(self, count: int) -> Tensor:
        """Which places each of the tokens that come next attends to: ``[batch, 1, count, capacity]``."""
        place = volta.arange(self.capacity)
        query = volta.expand_dims(self.length + volta.arange(count), 1)
        start = self.start.reshape(-1, 1, 1, 1)
        return (place <= query) & (place >= start)

    def updated(self, layer: int, keys: Tensor, values: Tensor) -> Cache:
        """With a layer's keys and values ``[batch, heads, count, width]`` of the tokens that come next."""
        zero = volta.zeros_like(self.length)
        place = volta.stack([zero, zero, self.length, zero])

        def replaced(all: tuple[Tensor, ...], new: Tensor) -> tuple[Tensor, ...]:
            return (*all[:layer], volta.dynamic_update_slice(all[layer], new, place), *all[layer + 1 :])

        return self._replace(keys=replaced(self.keys, keys), values=replaced(self.values, values))

    def advanced(self, count: int) -> Cache:
        """After this many tokens, once every layer is updated."""
        return self._replace(length=self.length + count)


def attention(
    query: Tensor, key: Tensor, value: Tensor, cache: Cache | None, layer: int
) -> tuple[Tensor, Cache | None]:
    """Causal attention of tokens to each other and to those in a cache, which is updated.

    Args:
        query: ``[batch, heads, length, width]``.
        key, value: the same, with as many heads or a divisor of it.
        cache: what came before; None where nothing did and nothing comes after.
        layer: the number of the layer in the cache.
    """
    if cache is None:
        return F.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True), None
    cache = cache.updated(layer, key, value)
    mask = cache.visible(query.shape[2])
    mixed = F.scaled_dot_product_attention(
        query, cache.keys[layer], cache.values[layer], attn_mask=mask, enable_gqa=True
    )
    return mixed, cache
