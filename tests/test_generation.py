"""Generation: what is drawn, from which tokens, in a cache that is updated in place; and text to tokens and back."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers

from volta_mlir import Tensor, models, nn, random
from volta_mlir.errors import OptionError, ShapeError, WeightsError
from volta_mlir.generation import _step, generate, sample
from volta_mlir.models import gpt2, smollm2
from volta_mlir.tokens import Tokenizer, padded_size


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return new_model(layers=1)


def new_model(layers: int) -> nn.Module:
    nn.manual_seed(0)
    config = smollm2.Config(vocabulary=40, context=64, width=16, layers=layers, heads=4, kv_heads=2, hidden=24)
    found = models.SmolLM2(config).eval()
    # Scores that differ enough for rounding not to matter.
    found.model.embed_tokens.weight = nn.Parameter(3 * found.model.embed_tokens.weight)
    return found


def without_a_cache(model: Any, prompt: list[int], count: int) -> list[int]:
    tokens = list(prompt)
    for _ in range(count):
        tokens.append(int(model(Tensor([tokens])).numpy()[0, -1].argmax()))
    return tokens[len(prompt) :]


@pytest.mark.no_cover
def test_a_cache_changes_no_token(model: Any) -> None:
    assert list(generate(model, [3, 1, 4, 1, 5], 12)) == without_a_cache(model, [3, 1, 4, 1, 5], 12)


def test_gpt2_generates_too() -> None:
    nn.manual_seed(1)
    model = models.GPT2(gpt2.Config(vocabulary=40, context=32, width=16, layers=2, heads=2)).eval()
    model.transformer.wte.weight = nn.Parameter(50 * model.transformer.wte.weight)
    assert list(generate(model, [3, 1, 4], 8)) == without_a_cache(model, [3, 1, 4], 8)


def test_prompts_of_different_lengths(model: Any) -> None:
    prompts = [[3, 1, 4, 1, 5], [9], [2, 6]]
    together = list(generate(model, prompts, 6))
    assert [list(tokens) for tokens in zip(*together, strict=True)] == [without_a_cache(model, p, 6) for p in prompts]


def test_stop_tokens_end_a_text(model: Any) -> None:
    whole = without_a_cache(model, [3, 1, 4, 1, 5], 12)
    stop = whole[4]
    assert list(generate(model, [3, 1, 4, 1, 5], 12, stop=[stop])) == whole[: whole.index(stop)]
    both = list(generate(model, [[3, 1, 4, 1, 5], [9]], 12, stop=[stop]))
    assert [tokens[0] for tokens in both][: whole.index(stop) + 1] == [*whole[: whole.index(stop)], None]


@pytest.mark.no_cover
def test_what_is_drawn_follows_from_the_seed(model: Any) -> None:
    def drawn(**options: Any) -> list[int]:
        return list(generate(model, [3, 1, 4], 10, **options))

    first = drawn(temperature=100.0, seed=1)
    assert first == drawn(temperature=100.0, seed=1)
    assert first != drawn(temperature=100.0, seed=2)
    assert drawn(temperature=100.0, top_k=1) == drawn(temperature=1e-4) == drawn(temperature=2.0, top_p=1e-6) == drawn()


def test_the_cache_is_updated_in_place() -> None:
    model: Any = new_model(layers=4)
    cache = model.new_cache(1, 64)
    arguments = model, cache, Tensor([[3]]), Tensor(1.0), None, None, None
    compiled = _step.lower(*arguments).compile()
    of_cache = sum(x.spec.nbytes for x in (*cache.keys, *cache.values))
    assert compiled.plan.results < 64  # the token; the cache needs no new memory
    assert compiled.plan.transients < of_cache


def test_few_programs_are_compiled(model: Any) -> None:
    before = len(_step._entries)
    for length in (1, 5, 16):
        list(generate(model, list(range(length)), 40))
    assert len(_step._entries) - before <= 2


# -- sampling ------------------------------------------------------------------------------------------------------

SCORES = np.log(np.array([0.5, 0.25, 0.15, 0.07, 0.03], np.float32))


def shares(**options: Any) -> np.ndarray:
    drawn = sample(Tensor(np.tile(SCORES, (4000, 1))), random.key(0), **options).numpy()
    assert drawn.dtype == np.int32
    return np.bincount(drawn, minlength=5) / 4000


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [0.5, 0.25, 0.15, 0.07, 0.03]),
        (
            {"temperature": 0.5},
            np.square([0.5, 0.25, 0.15, 0.07, 0.03]) / np.sum(np.square([0.5, 0.25, 0.15, 0.07, 0.03])),
        ),
        ({"top_k": 2}, [2 / 3, 1 / 3, 0, 0, 0]),
        ({"top_k": 5}, [0.5, 0.25, 0.15, 0.07, 0.03]),
        ({"top_p": 0.7}, [2 / 3, 1 / 3, 0, 0, 0]),
        ({"top_p": 0.76}, [5 / 9, 2.5 / 9, 1.5 / 9, 0, 0]),
        ({"top_p": 1.0}, [0.5, 0.25, 0.15, 0.07, 0.03]),
        ({"top_k": 3, "top_p": 0.5}, [1, 0, 0, 0, 0]),
    ],
)
def test_shares_of_tokens(options: dict[str, Any], expected: Any) -> None:
    found = shares(**options)
    assert np.abs(found - expected).max() < 0.03
    assert ((found == 0) == (np.asarray(expected) == 0)).all()


def test_without_a_key_the_likeliest_is_taken() -> None:
    assert sample(Tensor(SCORES)).item() == 0


# -- bad input -----------------------------------------------------------------------------------------------------


def test_what_generation_refuses(model: Any) -> None:
    for tokens, options, error, message in (
        ([], {}, ShapeError, "a prompt has no token"),
        ([[1], []], {"max_new_tokens": 5}, ShapeError, "a prompt has no token"),
        ([1] * 60, {"max_new_tokens": 5}, ShapeError, "60 tokens and 5 new ones are more than the model's context"),
        ([40], {"max_new_tokens": 5}, OptionError, "the vocabulary has 40 tokens, got 40"),
        ([-1], {"max_new_tokens": 5}, OptionError, "the vocabulary has 40 tokens, got -1"),
        ([1.5], {"max_new_tokens": 5}, OptionError, "tokens are integers"),
        ([1], {"max_new_tokens": 0}, OptionError, "max_new_tokens is out of range, got 0"),
        ([1], {"max_new_tokens": 5, "temperature": -1.0}, OptionError, "temperature is out of range"),
        ([1], {"max_new_tokens": 5, "top_k": 0}, OptionError, "top_k is out of range"),
        ([1], {"max_new_tokens": 5, "top_p": 1.5}, OptionError, "top_p is out of range"),
    ):  # fmt: skip
        with pytest.raises(error, match=message):
            generate(model, tokens, **options)


# -- tokens --------------------------------------------------------------------------------------------------------


def test_sizes_are_powers_of_two() -> None:
    assert [padded_size(n, 4) for n in (0, 1, 4, 5, 8, 9)] == [4, 4, 4, 8, 8, 16]


@pytest.fixture
def tokenizer(tmp_path: Path) -> Tokenizer:
    library = tokenizers.Tokenizer(tokenizers.models.BPE())
    library.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = tokenizers.decoders.ByteLevel()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300, initial_alphabet=alphabet, special_tokens=["<end>"], show_progress=False
    )
    library.train_from_iterator(["one two three one two one"], trainer)
    library.save(str(tmp_path / "tokenizer.json"))
    settings = {
        "eos_token": "<end>",
        "chat_template": "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}",
    }
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    return Tokenizer.from_file(tmp_path)


def test_text_to_tokens_and_back(tokenizer: Tokenizer) -> None:
    assert tokenizer.size > 256
    assert tokenizer.stop == (0,)
    for text in ("one two", "naïve ☃ 日本語 🙂", ""):
        assert tokenizer.decode(tokenizer.encode(text)) == text
        assert "".join(tokenizer.stream(tokenizer.encode(text))) == text
    assert tokenizer.decode([*tokenizer.encode("one"), 0]) == "one"


def test_a_letter_comes_with_its_last_token(tokenizer: Tokenizer) -> None:
    tokens = tokenizer.encode("☃ 🙂")
    pieces = list(tokenizer.stream(tokens))
    assert len(tokens) > len(pieces)
    assert pieces == ["☃", " ", "🙂"]


def test_conversations(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokens = tokenizer.chat([{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}])
    assert tokenizer.decode(tokens) == "user: one\nassistant: two\n"
    (tmp_path / "tokenizer_config.json").unlink()
    plain = Tokenizer.from_file(tmp_path)
    assert plain.stop == ()
    with pytest.raises(WeightsError, match="no template of conversations"):
        plain.chat([{"role": "user", "content": "one"}])


def test_what_tokenizers_refuse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WeightsError, match=r"has no tokenizer\.json"):
        Tokenizer.from_file(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(WeightsError, match="has no tokenizer that can be read"):
        Tokenizer.from_file(tmp_path)
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ImportError, match=r"pip install volta-mlir\[text\]"):
        Tokenizer.from_file(tmp_path)


def test_scores_of_a_token_that_is_padded(model: Any) -> None:
    """Padding before a prompt changes nothing, whatever is in it."""
    tokens = [[7, 7, 3, 1, 4]], [[9, 9, 3, 1, 4]]
    found = []
    for padded in tokens:
        cache = model.new_cache(1, 8)._replace(start=Tensor(np.array([2], np.int32)))
        scores, _ = model(Tensor(padded), cache)
        found.append(scores.numpy()[:, 2:])
    np.testing.assert_array_equal(*found)
    np.testing.assert_allclose(found[0], model(Tensor([[3, 1, 4]])).numpy(), rtol=1e-5, atol=1e-5)
