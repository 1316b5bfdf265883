"""Multi-head attention and the transformer's layers and stacks, compared with PyTorch's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import volta_mlir as volta
from tests import modules
from volta_mlir import nn
from volta_mlir.errors import DTypeError, ShapeError

N, T, S, E, HEADS = 2, 3, 4, 6, 2
#: Sums in which large terms cancel are less exact.
OPERATIONS = 2**13


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def causal(size: int) -> np.ndarray:
    return np.triu(np.ones((size, size), bool), 1)


def attention(name: str, shapes: Any, build: dict[str, Any], **call: Any) -> modules.Pair:
    ours, theirs = modules.build("MultiheadAttention", E, HEADS, **build)
    inputs = [normal(*shape, seed=i) for i, shape in enumerate(shapes)]
    return modules.pair(ours, theirs, *inputs, name=name, **call)


PADDING = np.array([[False, False, True, True], [False, False, False, True]])
PAIRS = np.random.default_rng(3).random((T, S)) < 0.4
PAIRS[:, 0] = False  # PyTorch gives NaN for queries that see no key

CROSS = ((T, N, E), (S, N, E), (S, N, E))
FIRST = ((N, T, E), (N, S, E), (N, S, E))


def test_attention() -> None:
    modules.check_eager(
        [
            attention("weights", CROSS, {}),
            attention("each head's weights", FIRST, {"batch_first": True}, average_attn_weights=False),
            attention("no weights", CROSS, {"bias": False}, need_weights=False),
            attention("no batch", ((T, E), (S, E), (S, E)), {}, key_padding_mask=PADDING[0], attn_mask=PAIRS),
            attention("dimensions", ((T, N, E), (S, N, 5), (S, N, 7)), {"kdim": 5, "vdim": 7}, need_weights=False),
            attention("bool masks", CROSS, {}, key_padding_mask=PADDING, attn_mask=PAIRS),
            attention("padding, no weights", CROSS, {}, key_padding_mask=PADDING, need_weights=False),
            attention("float mask", CROSS, {}, attn_mask=normal(T, S), need_weights=False),
            attention("both kinds", CROSS, {}, attn_mask=normal(N * HEADS, T, S), key_padding_mask=PADDING),
            attention("added", CROSS, {"add_bias_kv": True, "add_zero_attn": True}, attn_mask=PAIRS),
            attention("added, padding", CROSS, {"add_bias_kv": True}, key_padding_mask=PADDING, need_weights=False),
        ],
        OPERATIONS,
    )


def test_self_attention_is_one_projection() -> None:
    ours, theirs = modules.build("MultiheadAttention", E, HEADS, batch_first=True)
    x = normal(N, T, E)
    mask = causal(T)
    theirs_y = theirs(*[torch.tensor(x)] * 3, attn_mask=torch.tensor(mask), need_weights=False)[0]
    for kwargs in (
        {"attn_mask": mask, "is_causal": True, "need_weights": False},
        {"attn_mask": mask, "is_causal": True},
        {"is_causal": True},
        {"is_causal": True, "need_weights": False},
        {"is_causal": True, "need_weights": False, "key_padding_mask": np.zeros((N, T), bool)},
    ):
        np.testing.assert_allclose(ours(x, x, x, **kwargs)[0], theirs_y.detach(), atol=1e-5)
    lowered = volta.jit(lambda m, x: m(x, x, x, need_weights=False)[0]).lower(ours, volta.spec((N, T, E)))
    assert lowered.as_text("volta-simplify").count("volta.dot_general") == 2


def test_causal_attention_with_added_keys() -> None:
    ours, theirs = modules.build("MultiheadAttention", E, HEADS, add_bias_kv=True, add_zero_attn=True)
    x, mask = normal(T, N, E), causal(T)
    expected = theirs(*[torch.tensor(x)] * 3, attn_mask=torch.tensor(mask), need_weights=False)[0]
    actual = ours(x, x, x, attn_mask=mask, need_weights=False, is_causal=True)[0]
    np.testing.assert_allclose(actual, expected.detach(), atol=1e-5)


def test_dropout_of_attention() -> None:
    layer = nn.MultiHeadAttention(E, HEADS, dropout=0.5)
    x = normal(40, N, E)
    for need_weights in (True, False):
        first, second = (layer(x, x, x, need_weights=need_weights)[0].numpy() for _ in range(2))
        assert not np.array_equal(first, second)
    _, weights = layer(x, x, x, average_attn_weights=False)
    assert abs((weights.numpy() == 0).mean() - 0.5) < 0.05
    assert layer.eval()(x, x, x)[1].numpy().min() > 0
    assert "key" not in layer.state_dict()


def test_initialisation() -> None:
    nn.manual_seed(0)
    layer = nn.MultiheadAttention(64, 4, add_bias_kv=True)
    bound = np.sqrt(6 / (64 + 192))
    assert 0.95 * bound < np.abs(layer.in_proj_weight.numpy()).max() <= bound
    assert np.abs(layer.in_proj_bias.numpy()).max() == np.abs(layer.out_proj.bias.numpy()).max() == 0
    theirs = torch.nn.MultiheadAttention(64, 4, add_bias_kv=True)
    assert 0.7 < layer.bias_k.numpy().std() / theirs.bias_k.std().item() < 1.4
    assert abs(layer.out_proj.weight.numpy().std() / theirs.out_proj.weight.std().item() - 1) < 0.05
    model = nn.Transformer(32, 4, 1, 1, 64)
    assert abs(model.encoder.layers[0].linear1.weight.numpy().std() - np.sqrt(2 / 96)) < 0.01


def layer(name: str, *sizes: int, inputs: int, call: dict[str, Any] | None = None, **build: Any) -> modules.Pair:
    ours, theirs = modules.build(name, *sizes, **build)
    first = build.get("batch_first", False)
    shapes = [(N, T, E), (N, S, E)] if first else [(T, N, E), (S, N, E)]
    xs = [normal(*shape, seed=i) for i, shape in enumerate(shapes[:inputs])]
    return modules.pair(ours, theirs, *xs, name=f"{name} {build} {list(call or ())}", **(call or {}))


def test_layers() -> None:
    masks = {"src_mask": causal(T), "is_causal": True}
    padded = {"src_key_padding_mask": PADDING[:, 1:], "src_mask": causal(T)}
    targets = {"tgt_mask": causal(T), "tgt_is_causal": True, "memory_key_padding_mask": PADDING}
    sizes = (E, HEADS, 5)
    pairs = [
        layer("TransformerEncoderLayer", *sizes, inputs=1, dropout=0.0, activation="gelu", call=masks),
        layer("TransformerEncoderLayer", *sizes, inputs=1, norm_first=True, bias=False, batch_first=True, call=padded),
        layer("TransformerDecoderLayer", *sizes, inputs=2, activation=torch.nn.functional.silu, call=targets),
        layer("TransformerDecoderLayer", *sizes, inputs=2, norm_first=True, batch_first=True),
    ]
    modules.check_eager([evaluated(case) for case in pairs], OPERATIONS)
    modules.check_compiled([evaluated(pairs[1])], OPERATIONS)


def evaluated(case: modules.Pair) -> modules.Pair:
    case.ours.eval()
    case.theirs.eval()
    return case


def test_a_module_as_activation() -> None:
    ours = nn.TransformerEncoderLayer(E, HEADS, 5, activation=nn.PReLU())
    assert list(ours.state_dict())[-1] == "activation.weight"
    theirs = torch.nn.TransformerEncoderLayer(E, HEADS, 5, activation=torch.nn.PReLU())
    modules.shared_state(ours, theirs)
    modules.check_eager([evaluated(modules.pair(ours, theirs, normal(T, N, E)))], OPERATIONS)


def stacks(lib: Any) -> Any:
    sizes = {"d_model": E, "nhead": HEADS, "dim_feedforward": 5}
    encoder = lib.TransformerEncoder(
        lib.TransformerEncoderLayer(**sizes), 2, lib.LayerNorm(E), enable_nested_tensor=False
    )
    decoder = lib.TransformerDecoder(lib.TransformerDecoderLayer(**sizes), 2)
    return encoder, decoder, lib.Transformer(E, HEADS, 1, 2, 5, batch_first=True)


def test_stacks() -> None:
    with modules.quiet():
        ours, theirs = stacks(nn), stacks(torch.nn)
    for a, b in zip(ours, theirs, strict=True):
        modules.shared_state(a, b)
    mask = torch.nn.Transformer.generate_square_subsequent_mask(T)
    np.testing.assert_array_equal(nn.Transformer.generate_square_subsequent_mask(T), mask)
    source, target = normal(S, N, E), normal(T, N, E, seed=1)
    first = (source.swapaxes(0, 1).copy(), target.swapaxes(0, 1).copy())
    modules.check_eager(
        [
            evaluated(modules.pair(ours[0], theirs[0], source, src_key_padding_mask=PADDING)),
            evaluated(modules.pair(ours[1], theirs[1], target, source, tgt_mask=causal(T), tgt_is_causal=True)),
            evaluated(modules.pair(ours[2], theirs[2], *first, tgt_mask=causal(T))),
        ],
        OPERATIONS,
    )


def test_copies_draw_independently() -> None:
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(E, HEADS, 5), 3)
    keys = [tuple(buffer.tolist()) for name, buffer in encoder.named_buffers() if name.endswith("key")]
    assert len(keys) == len(set(keys)) == 12
    np.testing.assert_array_equal(encoder.layers[0].linear1.weight, encoder.layers[2].linear1.weight)


def test_custom_stacks() -> None:
    class Pick(nn.Module):
        def forward(self, x: Any, *masks: Any) -> Any:
            return x

    model = nn.Transformer(E, HEADS, custom_encoder=Pick(), custom_decoder=Pick())
    assert model(normal(S, N, E), normal(T, N, E)).shape == (T, N, E)


def test_bad_input() -> None:
    for build, message in (
        (lambda: nn.MultiheadAttention(6, 4), "embed_dim must be divisible by num_heads, got 6 and 4"),
        (lambda: nn.MultiheadAttention(0, 4), "must be greater than 0, got 0 and 4"),
        (lambda: nn.TransformerEncoderLayer(E, HEADS, activation="swish"), "activation should be relu/gelu, not swish"),
    ):
        with pytest.raises(ValueError, match=message):
            build()
    x, m = normal(T, N, E), nn.MultiheadAttention(E, HEADS)
    for call, message in (
        (lambda: m(x, x, x[0]), "expected 3D or 2D query, key and value"),
        (lambda: m(x, x[..., :3], x), r"expected 6 features of the key, got .*float32\[3,2,3\]"),
        (lambda: m(x, x[:2], x), "batches or lengths do not fit"),
        (lambda: m(x, x, x, key_padding_mask=PADDING), r"key_padding_mask of shape \(2, 3\), got bool\[2,4\]"),
        (lambda: m(x, x, x, attn_mask=PAIRS), r"attn_mask of shape \(3, 3\) or \(4, 3, 3\), got bool\[3,4\]"),
        (lambda: nn.Transformer(E, HEADS, 1, 1, 5)(x, x[:, :1]), "batch number of src and tgt must be equal"),
        (lambda: nn.Transformer(E, HEADS, 1, 1, 5)(x, x[..., :5]), "must be equal to d_model, 6"),
    ):
        with pytest.raises(ShapeError, match=message):
            call()
    with pytest.raises(DTypeError, match="only bool and floating types of attn_mask are supported"):
        m(x, x, x, attn_mask=np.zeros((T, T), np.int32))
