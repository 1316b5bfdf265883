"""Multi-head attention and the transformer's layers and stacks."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import volta_mlir as volta
from volta_mlir.dtypes import DEFAULT_FLOAT, bool_, is_float
from volta_mlir.errors import DTypeError, OptionError, ShapeError
from volta_mlir.functions.common import as_tensor
from volta_mlir.nn import functional, init
from volta_mlir.nn.layers.common import Drawing
from volta_mlir.nn.layers.containers import ModuleList
from volta_mlir.nn.layers.dense import Linear
from volta_mlir.nn.layers.normalization import LayerNorm
from volta_mlir.nn.layers.regularization import Dropout
from volta_mlir.nn.module import Module, Parameter
from volta_mlir.tensor import Tensor

__all__ = [
    "MultiHeadAttention",
    "MultiheadAttention",
    "Transformer",
    "TransformerDecoder",
    "TransformerDecoderLayer",
    "TransformerEncoder",
    "TransformerEncoderLayer",
]

Activation = str | Callable[[Any], Any]


class MultiheadAttention(Drawing):
    """Attention of several heads, each of which sees its own projections of queries, keys and values.

    Args:
        embed_dim: features of queries and results, ``E``.
        num_heads: how many heads the features are divided among.
        dropout: the probability with which an attention weight is dropped in training.
        bias: whether the projections have biases.
        add_bias_kv: whether a learned key and value are added to those given.
        add_zero_attn: whether a key and value of zeros are added to those given.
        kdim: features of the keys, ``E`` by default.
        vdim: features of the values, ``E`` by default.
        batch_first: whether inputs and results are ``[N, T, …]`` and not ``[T, N, …]``.
        dtype: of the parameters.

    Attributes:
        in_proj_weight: ``[3 E, E]``, the projections of queries, keys and values, at first Xavier-uniform; None where
            ``kdim`` or ``vdim`` differs.
        q_proj_weight: ``[E, E]``, only where they differ, as for those that follow.
        k_proj_weight: ``[E, kdim]``.
        v_proj_weight: ``[E, vdim]``.
        in_proj_bias: ``[3 E]``, at first zeros, or None.
        bias_k: ``[1, 1, E]``, the key that is added, at first Xavier-normal, or None.
        bias_v: ``[1, 1, E]``, the value that is added, or None.
        out_proj: a :class:`Linear` layer, whose bias is zeros at first.
        key: with ``dropout`` only; see :class:`~volta_mlir.nn.layers.common.Drawing`.

    Calling it takes

    - query ``[T, N, E]``, key ``[S, N, kdim]`` and value ``[S, N, vdim]``, or all of them without ``N``;
    - ``key_padding_mask`` ``[N, S]``: True, or -inf, for keys that are left out;
    - ``need_weights``: whether the weights are returned too; without, no ``[T, S]`` matrix is kept;
    - ``attn_mask`` ``[T, S]`` or ``[N * num_heads, T, S]``: True for pairs that are left out, or floats that are added
      to the scores;
    - ``average_attn_weights``: whether the weights are averaged over the heads;
    - ``is_causal``: says that ``attn_mask`` is the causal one, which is then not read where that saves time; without an
      ``attn_mask`` it leaves out later keys all the same.

    It returns the result ``[T, N, E]``, and the weights ``[N, T, S]``, ``[N, num_heads, T, S]`` where they are not
    averaged, or None.

    Raises:
        ValueError: ``num_heads`` does not divide ``embed_dim``.
        ShapeError: inputs and masks do not fit.
        DTypeError: a mask is neither of bools nor of floating-point numbers.

    Source: Vaswani et al., "Attention Is All You Need" (2017).

    Example:
        >>> attention = MultiheadAttention(8, 2, batch_first=True)
        >>> x = volta.ones((3, 5, 8))
        >>> y, weights = attention(x, x, x)
        >>> y.shape, weights.shape
        ((3, 5, 8), (3, 5, 5))
    """

    bias_k: Any
    bias_v: Any

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        dtype: Any = DEFAULT_FLOAT,
    ) -> None:
        if embed_dim <= 0 or num_heads <= 0:
            raise OptionError(f"embed_dim and num_heads must be greater than 0, got {embed_dim} and {num_heads}")
        if embed_dim % num_heads:
            raise OptionError(f"embed_dim must be divisible by num_heads, got {embed_dim} and {num_heads}")
        if dropout:
            super().__init__()  # a key
        self.embed_dim, self.num_heads, self.head_dim = embed_dim, num_heads, embed_dim // num_heads
        self.kdim, self.vdim = embed_dim if kdim is None else kdim, embed_dim if vdim is None else vdim
        self.dropout, self.batch_first, self.add_zero_attn = dropout, batch_first, add_zero_attn
        if self.kdim == self.vdim == embed_dim:
            self.in_proj_weight = Parameter(init.xavier_uniform((3 * embed_dim, embed_dim), dtype=dtype))
            self.q_proj_weight = self.k_proj_weight = self.v_proj_weight = None
        else:
            self.q_proj_weight = Parameter(init.xavier_uniform((embed_dim, embed_dim), dtype=dtype))
            self.k_proj_weight = Parameter(init.xavier_uniform((embed_dim, self.kdim), dtype=dtype))
            self.v_proj_weight = Parameter(init.xavier_uniform((embed_dim, self.vdim), dtype=dtype))
            self.in_proj_weight = None
        self.in_proj_bias = Parameter(init.zeros(3 * embed_dim, dtype)) if bias else None
        self.bias_k = Parameter(init.xavier_normal((1, 1, embed_dim), dtype=dtype)) if add_bias_kv else None
        self.bias_v = Parameter(init.xavier_normal((1, 1, embed_dim), dtype=dtype)) if add_bias_kv else None
        self.out_proj = Linear(embed_dim, embed_dim, bias, dtype)
        if bias:
            self.out_proj.bias = init.zeros(embed_dim, dtype)

    def forward(
        self,
        query: Any,
        key: Any,
        value: Any,
        key_padding_mask: Any = None,
        need_weights: bool = True,
        attn_mask: Any = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        is_batched, (query, key, value) = self._as_batches(query, key, value)
        q, k, v = self._projected(query, key, value)
        batch, length, source = q.shape[0], q.shape[1], k.shape[1]
        skipped_keys = self._padding_mask(key_padding_mask, batch if is_batched else None, source)
        skipped = self._pair_mask(attn_mask, batch, length, source)
        if is_causal and (skipped is None or (skipped_keys is None and not need_weights)):
            skipped = None  # the flag says it all
        else:
            is_causal = False
        added = 0
        if self.bias_k is not None:
            k, v = (self._with_last(x, bias) for x, bias in ((k, self.bias_k), (v, self.bias_v)))
            added += 1
        if self.add_zero_attn:
            k, v = (self._with_last(x, volta.zeros((1, 1, self.embed_dim), x.dtype)) for x in (k, v))
            added += 1
        if added:  # what is added, every query sees
            skipped_keys, skipped = (_padded(mask, added) for mask in (skipped_keys, skipped))
        if is_causal and (added or skipped_keys is not None or need_weights):
            skipped, is_causal = _padded(~volta.tril(volta.ones((length, source), bool_)), added), False
        mask = _merged(skipped_keys, skipped)
        q, k, v = (self._as_heads(x) for x in (q, k, v))
        if need_weights:
            y, weights = self._with_weights(q, k, v, mask)
            weights = weights.mean(1) if average_attn_weights else weights
        else:
            dropout = self.dropout if self.training else 0.0
            seen = ~mask if mask is not None and mask.dtype == bool_ else mask
            drawn = self.draw() if dropout else None
            y = functional.scaled_dot_product_attention(q, k, v, seen, dropout, is_causal, dropout_key=drawn)
            weights = None
        y = self.out_proj(volta.swapaxes(y, 1, 2).reshape(batch, length, self.embed_dim))
        if not is_batched:
            return y[0], None if weights is None else weights[0]
        return y if self.batch_first else volta.swapaxes(y, 0, 1), weights

    def _as_batches(self, *given: Any) -> tuple[bool, list[Tensor]]:
        """Whether there is an axis ``N``, and queries, keys and values as ``[N, T, …]``, equal objects as one."""
        tensors = [as_tensor(x) for x in given]
        specs = f"query {tensors[0].spec}, key {tensors[1].spec} and value {tensors[2].spec}"
        rank = tensors[0].ndim
        if rank not in (2, 3) or any(x.ndim != rank for x in tensors):
            raise ShapeError(f"MultiheadAttention: expected 3D or 2D query, key and value, got {specs}")
        for x, features, name in zip(
            tensors, (self.embed_dim, self.kdim, self.vdim), ("query", "key", "value"), strict=True
        ):
            if x.shape[-1] != features:
                raise ShapeError(f"MultiheadAttention: expected {features} features of the {name}, got {specs}")
        if rank == 2:
            batches = [volta.expand_dims(x, 0) for x in tensors]
        else:
            batches = tensors if self.batch_first else [volta.swapaxes(x, 0, 1) for x in tensors]
        if len({x.shape[0] for x in batches}) > 1 or batches[1].shape[1] != batches[2].shape[1]:
            raise ShapeError(f"MultiheadAttention: batches or lengths do not fit: {specs}")
        for i in (1, 2):
            if given[i] is given[0]:
                batches[i] = batches[0]
        return rank == 3, batches

    def _projected(self, query: Tensor, key: Tensor, value: Tensor) -> list[Tensor]:
        if self.in_proj_weight is not None and query is key is value:
            return volta.split(functional.linear(query, self.in_proj_weight, self.in_proj_bias), 3, axis=-1)
        if self.in_proj_weight is not None:
            weights = volta.split(self.in_proj_weight, 3)
        else:
            weights = [self.q_proj_weight, self.k_proj_weight, self.v_proj_weight]
        biases = [None] * 3 if self.in_proj_bias is None else volta.split(self.in_proj_bias, 3)
        return [functional.linear(*args) for args in zip((query, key, value), weights, biases, strict=True)]

    def _padding_mask(self, mask: Any, batch: int | None, source: int) -> Tensor | None:
        """What keys are left out, as ``[N, 1, 1, S]``."""
        if mask is None:
            return None
        mask, expected = _checked_mask("key_padding_mask", mask), (source,) if batch is None else (batch, source)
        if mask.shape != expected:
            raise ShapeError(f"MultiheadAttention: expected a key_padding_mask of shape {expected}, got {mask.spec}")
        return mask.reshape(batch or 1, 1, 1, source)

    def _pair_mask(self, mask: Any, batch: int, length: int, source: int) -> Tensor | None:
        """What pairs are left out, as ``[T, S]`` or ``[N, num_heads, T, S]``."""
        if mask is None:
            return None
        mask, heads = _checked_mask("attn_mask", mask), batch * self.num_heads
        if mask.shape not in ((length, source), (heads, length, source)):
            raise ShapeError(
                f"MultiheadAttention: expected an attn_mask of shape {(length, source)} or {(heads, length, source)},"
                f" got {mask.spec}"
            )
        return mask if mask.ndim == 2 else mask.reshape(batch, self.num_heads, length, source)

    def _with_last(self, x: Tensor, row: Tensor) -> Tensor:
        return volta.concatenate([x, volta.broadcast_to(row, (x.shape[0], 1, self.embed_dim))], axis=1)

    def _as_heads(self, x: Tensor) -> Tensor:
        return volta.swapaxes(x.reshape(*x.shape[:2], self.num_heads, self.head_dim), 1, 2)

    def _with_weights(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        scores = (q * (1 / math.sqrt(self.head_dim))) @ k.mT
        if mask is not None:
            scores = scores + _as_floats(mask, scores.dtype)
        weights = functional.softmax(scores, -1)
        if self.dropout and self.training:
            weights = functional.dropout(weights, self.dropout, key=self.draw())
        return weights @ v, weights


#: The name with the capital that the others have.
MultiHeadAttention = MultiheadAttention


def _checked_mask(what: str, mask: Any) -> Tensor:
    mask = as_tensor(mask)
    if mask.dtype != bool_ and not is_float(mask.dtype):
        raise DTypeError(f"only bool and floating types of {what} are supported, got {mask.spec}")
    return mask


def _as_floats(mask: Tensor, dtype: Any) -> Tensor:
    """A mask as what is added to scores."""
    if mask.dtype != bool_:
        return mask.astype(dtype)
    return volta.where(mask, volta.full((), -math.inf, dtype), volta.zeros((), dtype))


def _merged(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    """A mask that leaves out what either does."""
    if first is None or second is None:
        return second if first is None else first
    if first.dtype == second.dtype == bool_:
        return first | second
    dtype = first.dtype if first.dtype != bool_ else second.dtype
    return _as_floats(first, dtype) + _as_floats(second, dtype)


def _padded(mask: Tensor | None, count: int) -> Tensor | None:
    """A mask for so many more keys, which are not left out."""
    if mask is None or not count:
        return mask
    return volta.concatenate([mask, volta.zeros((*mask.shape[:-1], count), mask.dtype)], axis=-1)


# -- layers ----------------------------------------------------------------------------------------------------------


def _activation(given: Activation) -> Callable[[Any], Any]:
    if isinstance(given, str):
        if given not in ("relu", "gelu"):
            raise OptionError(f"activation should be relu/gelu, not {given}")
        return functional.relu if given == "relu" else functional.gelu
    return given


class TransformerEncoderLayer(Module):
    """Self-attention, then two linear maps, each with dropout, a residual connection and layer normalisation.

    Args:
        d_model: features of the input, ``E``.
        nhead: heads of the attention.
        dim_feedforward: features between the two linear maps.
        dropout: probability of all dropouts.
        activation: between the linear maps: ``"relu"``, ``"gelu"``, a function or a module.
        layer_norm_eps: ``eps`` of the normalisations.
        batch_first: whether inputs and results are ``[N, T, E]`` and not ``[T, N, E]``.
        norm_first: whether to normalise before attention and linear maps, and not after them.
        bias: whether linear maps and normalisations have biases.
        dtype: of the parameters.

    Attributes:
        self_attn: :class:`MultiheadAttention`.
        linear1: ``[dim_feedforward, d_model]``.
        linear2: ``[d_model, dim_feedforward]``.
        norm1: after, or before, the attention.
        norm2: after, or before, the linear maps.

    Calling it takes ``src``, ``src_mask``, ``src_key_padding_mask`` and ``is_causal``, which
    :class:`MultiheadAttention` describes.

    Source: Vaswani et al., "Attention Is All You Need" (2017).

    Example:
        >>> TransformerEncoderLayer(8, 2, 16)(volta.ones((5, 3, 8)), is_causal=True).shape
        (5, 3, 8)
    """

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: Activation = functional.relu,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        dtype: Any = DEFAULT_FLOAT,
    ) -> None:
        self.self_attn = MultiheadAttention(d_model, nhead, dropout, bias, batch_first=batch_first, dtype=dtype)
        self.linear1 = Linear(d_model, dim_feedforward, bias, dtype)
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, bias, dtype)
        self.norm_first = norm_first
        self.norm1 = LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype)
        self.norm2 = LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype)
        self.dropout1, self.dropout2 = Dropout(dropout), Dropout(dropout)
        self.activation = _activation(activation)

    def forward(
        self, src: Any, src_mask: Any = None, src_key_padding_mask: Any = None, is_causal: bool = False
    ) -> Tensor:
        def attend(x: Tensor) -> Tensor:
            y, _ = self.self_attn(x, x, x, src_key_padding_mask, False, src_mask, is_causal=is_causal)
            return self.dropout1(y)

        def feed_forward(x: Tensor) -> Tensor:
            return self.dropout2(self.linear2(self.dropout(self.activation(self.linear1(x)))))

        return _residuals(as_tensor(src), self.norm_first, (self.norm1, attend), (self.norm2, feed_forward))


def _residuals(x: Tensor, norm_first: bool, *blocks: tuple[Module, Callable[[Tensor], Tensor]]) -> Tensor:
    """Adds the result of one block after the other, normalising before or after each."""
    for norm, block in blocks:
        x = x + block(norm(x)) if norm_first else norm(x + block(x))
    return x


class TransformerDecoderLayer(Module):
    """:class:`TransformerEncoderLayer` with attention to a memory between its two parts.

    Args:
        d_model: see :class:`TransformerEncoderLayer`, as for those that follow.
        nhead: see there.
        dim_feedforward: see there.
        dropout: see there.
        activation: see there.
        layer_norm_eps: see there.
        batch_first: see there.
        norm_first: see there.
        bias: see there.
        dtype: see there.

    Attributes:
        self_attn: :class:`MultiheadAttention` to the target.
        multihead_attn: :class:`MultiheadAttention` to the memory.
        linear1: ``[dim_feedforward, d_model]``.
        linear2: ``[d_model, dim_feedforward]``.
        norm1: of the first attention.
        norm2: of the second attention.
        norm3: of the linear maps.

    Calling it takes ``tgt``, ``memory``, then masks of either: ``tgt_mask``, ``memory_mask``,
    ``tgt_key_padding_mask``, ``memory_key_padding_mask``, ``tgt_is_causal`` and ``memory_is_causal``.

    Example:
        >>> TransformerDecoderLayer(8, 2, 16)(volta.ones((5, 3, 8)), volta.ones((7, 3, 8))).shape
        (5, 3, 8)
    """

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: Activation = functional.relu,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        dtype: Any = DEFAULT_FLOAT,
    ) -> None:
        self.self_attn = MultiheadAttention(d_model, nhead, dropout, bias, batch_first=batch_first, dtype=dtype)
        self.multihead_attn = MultiheadAttention(d_model, nhead, dropout, bias, batch_first=batch_first, dtype=dtype)
        self.linear1 = Linear(d_model, dim_feedforward, bias, dtype)
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, bias, dtype)
        self.norm_first = norm_first
        self.norm1 = LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype)
        self.norm2 = LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype)
        self.norm3 = LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype)
        self.dropout1, self.dropout2, self.dropout3 = Dropout(dropout), Dropout(dropout), Dropout(dropout)
        self.activation = _activation(activation)

    def forward(
        self,
        tgt: Any,
        memory: Any,
        tgt_mask: Any = None,
        memory_mask: Any = None,
        tgt_key_padding_mask: Any = None,
        memory_key_padding_mask: Any = None,
        tgt_is_causal: bool = False,
        memory_is_causal: bool = False,
    ) -> Tensor:
        def attend(x: Tensor) -> Tensor:
            y, _ = self.self_attn(x, x, x, tgt_key_padding_mask, False, tgt_mask, is_causal=tgt_is_causal)
            return self.dropout1(y)

        def attend_to_memory(x: Tensor) -> Tensor:
            y, _ = self.multihead_attn(
                x, memory, memory, memory_key_padding_mask, False, memory_mask, is_causal=memory_is_causal
            )
            return self.dropout2(y)

        def feed_forward(x: Tensor) -> Tensor:
            return self.dropout3(self.linear2(self.dropout(self.activation(self.linear1(x)))))

        return _residuals(
            as_tensor(tgt),
            self.norm_first,
            (self.norm1, attend),
            (self.norm2, attend_to_memory),
            (self.norm3, feed_forward),
        )


# -- stacks ----------------------------------------------------------------------------------------------------------


def _copies(layer: Module, count: int) -> ModuleList:
    """Copies of a layer, which draw independently."""
    copies = ModuleList(copy.deepcopy(layer) for _ in range(count))
    for module in copies.modules():
        if isinstance(module, Drawing) and module.is_buffer("key"):
            module.key = init.key()
    return copies


class TransformerEncoder(Module):
    """Layers, one after the other.

    Args:
        encoder_layer: a :class:`TransformerEncoderLayer`, of which copies are made; their parameters are equal at
            first.
        num_layers: how many.
        norm: is applied to the result, or None.
        enable_nested_tensor: has no effect; it is there because PyTorch has it.
        mask_check: has no effect; it is there because PyTorch has it.

    Attributes:
        layers: the layers.
        norm: see above.

    Calling it takes ``src``, ``mask``, ``src_key_padding_mask`` and ``is_causal``.

    Example:
        >>> encoder = TransformerEncoder(TransformerEncoderLayer(8, 2, 16), num_layers=2)
        >>> encoder(volta.ones((5, 3, 8))).shape
        (5, 3, 8)
    """

    def __init__(
        self,
        encoder_layer: Module,
        num_layers: int,
        norm: Module | None = None,
        enable_nested_tensor: bool = True,
        mask_check: bool = True,
    ) -> None:
        self.layers = _copies(encoder_layer, num_layers)
        self.num_layers, self.norm = num_layers, norm

    def forward(
        self, src: Any, mask: Any = None, src_key_padding_mask: Any = None, is_causal: bool | None = None
    ) -> Tensor:
        x = as_tensor(src)
        for layer in self.layers:
            x = layer(x, mask, src_key_padding_mask, bool(is_causal))
        return x if self.norm is None else self.norm(x)


class TransformerDecoder(Module):
    """Layers, one after the other, which all see the same memory.

    Args:
        decoder_layer: a :class:`TransformerDecoderLayer`, of which copies are made; their parameters are equal at
            first.
        num_layers: how many.
        norm: is applied to the result, or None.

    Attributes:
        layers: the layers.
        norm: see above.

    Calling it takes the arguments of :class:`TransformerDecoderLayer`.

    Example:
        >>> decoder = TransformerDecoder(TransformerDecoderLayer(8, 2, 16), num_layers=2)
        >>> decoder(volta.ones((5, 3, 8)), volta.ones((7, 3, 8))).shape
        (5, 3, 8)
    """

    def __init__(self, decoder_layer: Module, num_layers: int, norm: Module | None = None) -> None:
        self.layers = _copies(decoder_layer, num_layers)
        self.num_layers, self.norm = num_layers, norm

    def forward(
        self,
        tgt: Any,
        memory: Any,
        tgt_mask: Any = None,
        memory_mask: Any = None,
        tgt_key_padding_mask: Any = None,
        memory_key_padding_mask: Any = None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
    ) -> Tensor:
        x, memory = as_tensor(tgt), as_tensor(memory)
        for layer in self.layers:
            x = layer(
                x,
                memory,
                tgt_mask,
                memory_mask,
                tgt_key_padding_mask,
                memory_key_padding_mask,
                bool(tgt_is_causal),
                memory_is_causal,
            )
        return x if self.norm is None else self.norm(x)


class Transformer(Module):
    """An encoder of a source, and a decoder of a target that sees what the encoder returned.

    Args:
        d_model: features of source and target, ``E``.
        nhead: heads of the attentions.
        num_encoder_layers: layers of the encoder.
        num_decoder_layers: layers of the decoder.
        dim_feedforward: see :class:`TransformerEncoderLayer`, as for those that follow.
        dropout: see there.
        activation: see there.
        custom_encoder: takes the place of the encoder.
        custom_decoder: takes the place of the decoder.
        layer_norm_eps: see there.
        batch_first: see there.
        norm_first: see there.
        bias: see there.
        dtype: see there.

    Attributes:
        encoder: :class:`TransformerEncoder`; matrices are Xavier-uniform at first.
        decoder: :class:`TransformerDecoder`.

    Calling it takes ``src``, ``tgt``, then masks of source, target and memory in PyTorch's order.

    Raises:
        ShapeError: source and target have other features than ``d_model``, or different batches.

    Source: Vaswani et al., "Attention Is All You Need" (2017).

    Example:
        >>> model = Transformer(8, 2, 1, 1, 16)
        >>> mask = Transformer.generate_square_subsequent_mask(5)
        >>> model(volta.ones((7, 3, 8)), volta.ones((5, 3, 8)), tgt_mask=mask).shape
        (5, 3, 8)
    """

    def __init__(
        self,
        d_model: int = 512,
        nhead: int = 8,
        num_encoder_layers: int = 6,
        num_decoder_layers: int = 6,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: Activation = functional.relu,
        custom_encoder: Module | None = None,
        custom_decoder: Module | None = None,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        dtype: Any = DEFAULT_FLOAT,
    ) -> None:
        def stack(of: type[Module], layer: type[Module], count: int) -> Module:
            return of(
                layer(
                    d_model,
                    nhead,
                    dim_feedforward,
                    dropout,
                    activation,
                    layer_norm_eps,
                    batch_first,
                    norm_first,
                    bias,
                    dtype,
                ),
                count,
                LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype),
            )

        encoder = TransformerEncoder, TransformerEncoderLayer, num_encoder_layers
        decoder = TransformerDecoder, TransformerDecoderLayer, num_decoder_layers
        self.encoder = stack(*encoder) if custom_encoder is None else custom_encoder
        self.decoder = stack(*decoder) if custom_decoder is None else custom_decoder
        for module in self.modules():
            for name, parameter in module.named_parameters(recurse=False):
                if parameter.ndim > 1:
                    setattr(module, name, init.xavier_uniform(parameter.shape, dtype=parameter.dtype))
        self.d_model, self.nhead, self.batch_first = d_model, nhead, batch_first

    def forward(
        self,
        src: Any,
        tgt: Any,
        src_mask: Any = None,
        tgt_mask: Any = None,
        memory_mask: Any = None,
        src_key_padding_mask: Any = None,
        tgt_key_padding_mask: Any = None,
        memory_key_padding_mask: Any = None,
        src_is_causal: bool | None = None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
    ) -> Tensor:
        src, tgt = as_tensor(src), as_tensor(tgt)
        axis = 0 if self.batch_first else 1
        if src.ndim != tgt.ndim or (src.ndim == 3 and src.shape[axis] != tgt.shape[axis]):
            raise ShapeError(f"the batch number of src and tgt must be equal, got {src.spec} and {tgt.spec}")
        if (src.shape[-1:], tgt.shape[-1:]) != ((self.d_model,),) * 2:
            raise ShapeError(
                f"the feature number of src and tgt must be equal to d_model, {self.d_model}, got {src.spec} and"
                f" {tgt.spec}"
            )
        memory = self.encoder(src, src_mask, src_key_padding_mask, src_is_causal)
        return self.decoder(
            tgt,
            memory,
            tgt_mask,
            memory_mask,
            tgt_key_padding_mask,
            memory_key_padding_mask,
            tgt_is_causal,
            memory_is_causal,
        )

    @staticmethod
    def generate_square_subsequent_mask(sz: int, dtype: Any = DEFAULT_FLOAT) -> Tensor:
        """The causal mask ``[sz, sz]`` as what is added to scores: -inf for later keys, else 0.

        >>> Transformer.generate_square_subsequent_mask(2).tolist()
        [[0.0, -inf], [0.0, 0.0]]
        """
        return volta.triu(volta.full((sz, sz), -math.inf, dtype), 1)
