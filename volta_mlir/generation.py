"""Text from a language model: tokens one after the other, each drawn from the model's scores of the next one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

import volta_mlir as volta
from volta_mlir import Tensor, random
from volta_mlir.errors import OptionError, ShapeError
from volta_mlir.functions.common import as_tensor
from volta_mlir.tokens import padded_size

__all__ = ["generate", "sample"]


def sample(
    scores: Any, key: Tensor | None = None, temperature: Any = 1.0, top_k: int | None = None, top_p: Any = None
) -> Tensor:
    """Draws a token for each row of scores.

    Args:
        scores: unnormalized logarithms of probabilities ``[..., vocabulary]``.
        key: of :mod:`volta_mlir.random`; without one, the token with the highest score is taken.
        temperature: what scores are divided by: below 1, likely tokens become likelier.
        top_k: only so many tokens of the highest scores are drawn; default all.
        top_p: only the likeliest tokens are drawn that are needed for a probability of this much together.

    Returns:
        Tokens ``[...]``, int32.

    Source: Fan, Lewis and Dauphin, "Hierarchical Neural Story Generation" (2018), for ``top_k``; Holtzman et al., "The
    Curious Case of Neural Text Degeneration" (2020), for ``top_p``.

    >>> sample(Tensor([[0.0, 3.0, 1.0]])).tolist()
    [1]
    >>> sample(Tensor([[0.0, 3.0, 1.0]]), random.key(0), top_k=1).tolist()
    [1]
    """
    scores = as_tensor(scores)
    if key is None:
        return volta.argmax(scores, -1).astype("int32")
    scores = scores / temperature
    if top_k is not None and top_k < scores.shape[-1]:
        scores, tokens = volta.top_k(scores, top_k)
    else:
        tokens = None
    if top_p is not None:
        scores = _likeliest(scores, top_p, is_sorted=tokens is not None)
    chosen = random.categorical(key, scores)
    if tokens is not None:
        chosen = volta.take_along_axis(tokens, volta.expand_dims(chosen, -1), axis=-1).squeeze(-1)
    return chosen.astype("int32")


def _likeliest(scores: Tensor, top_p: Any, is_sorted: bool) -> Tensor:
    """The scores, -inf but for the likeliest that have the probability ``top_p`` together."""
    ordered = scores if is_sorted else volta.sort(scores, descending=True)
    probabilities = volta.softmax(ordered, -1)
    before = volta.cumsum(probabilities, -1) - probabilities
    kept = volta.where(before < top_p, ordered, float("inf"))
    return volta.where(scores >= kept.min(-1, keepdims=True), scores, float("-inf"))


def generate(
    model: Any,
    tokens: Sequence[int] | Sequence[Sequence[int]] | np.ndarray,
    max_new_tokens: int = 256,
    *,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
    stop: Sequence[int] = (),
) -> Iterator[Any]:
    """Continues a text, or several.

    Two programs are compiled: one takes the whole prompt, padded on its left to a power of two, one takes a token. Both
    update a cache of keys and values in place and draw the next token on the device.

    Args:
        model: has ``config.vocabulary``, ``config.context`` and ``new_cache(batch, capacity)``, and takes tokens and a
            cache: :class:`~volta_mlir.models.smollm2.SmolLM2`, :class:`~volta_mlir.models.gpt2.GPT2`.
        tokens: the prompt, or several of any lengths.
        max_new_tokens: after how many tokens to end.
        temperature: see :func:`sample`; 0 takes the likeliest token.
        top_k: see :func:`sample`.
        top_p: see :func:`sample`.
        seed: what is drawn follows from it.
        stop: tokens that end a text. They are not given.

    Yields:
        The next token as an int. Of several prompts a list with the next token of each, None for those that ended.

    Raises:
        ShapeError: a prompt is empty or, with the tokens to come, longer than the model's context.
        ValueError: a token is not in the vocabulary, or an option is out of range.

    Example:
        >>> from volta_mlir.models.gpt2 import GPT2, Config
        >>> model = GPT2(Config(vocabulary=11, context=64, width=16, layers=1, heads=2)).eval()
        >>> len(list(generate(model, [1, 2, 3], max_new_tokens=5)))
        5
    """
    prompts, is_one = _prompts(tokens)
    _check(model, prompts, max_new_tokens, temperature, top_k, top_p)
    return _generate(model, prompts, is_one, max_new_tokens, temperature, top_k, top_p, seed, frozenset(stop))


def _prompts(tokens: Any) -> tuple[list[list[int]], bool]:
    rows = tokens.tolist() if isinstance(tokens, np.ndarray | Tensor) else list(tokens)
    is_one = not rows or not isinstance(rows[0], Sequence | np.ndarray)
    prompts = [rows] if is_one else [list(row) for row in rows]
    if not all(isinstance(token, int | np.integer) for prompt in prompts for token in prompt):
        raise OptionError("generate: tokens are integers, of one prompt or of several")
    return [[int(token) for token in prompt] for prompt in prompts], is_one


def _check(
    model: Any,
    prompts: list[list[int]],
    max_new_tokens: int,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
) -> None:
    config = model.config
    for prompt in prompts:
        if not prompt:
            raise ShapeError("generate: a prompt has no token")
        if len(prompt) + max_new_tokens > config.context:
            raise ShapeError(
                f"generate: {len(prompt)} tokens and {max_new_tokens} new ones are more than the model's context of"
                f" {config.context}"
            )
        outside = [token for token in prompt if not 0 <= token < config.vocabulary]
        if outside:
            raise OptionError(f"generate: the vocabulary has {config.vocabulary} tokens, got {outside[0]}")
    for name, value, is_right in (
        ("max_new_tokens", max_new_tokens, max_new_tokens >= 1),
        ("temperature", temperature, temperature >= 0),
        ("top_k", top_k, top_k is None or top_k >= 1),
        ("top_p", top_p, top_p is None or 0 < top_p <= 1),
    ):
        if not is_right:
            raise OptionError(f"generate: {name} is out of range, got {value}")


def _generate(
    model: Any,
    prompts: list[list[int]],
    is_one: bool,
    max_new_tokens: int,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
    seed: int,
    stop: frozenset[int],
) -> Iterator[Any]:
    longest = max(map(len, prompts))
    length = min(padded_size(longest), model.config.context - max_new_tokens)
    cache = model.new_cache(len(prompts), padded_size(length + max_new_tokens, 64))
    padded = np.zeros((len(prompts), length), np.int32)
    for row, prompt in zip(padded, prompts, strict=True):
        row[length - len(prompt) :] = prompt
    cache = cache._replace(start=Tensor(np.array([length - len(prompt) for prompt in prompts], np.int32)))
    settings: dict[str, Any] = {"temperature": Tensor(np.float32(1)), "top_p": None, "key": None, "top_k": None}
    if temperature > 0:  # otherwise nothing is drawn, and one program serves all settings
        settings = {
            "temperature": Tensor(np.float32(temperature)),
            "top_p": None if top_p is None else Tensor(np.float32(top_p)),
            "key": random.key(seed),
            "top_k": top_k,
        }
    next_tokens = Tensor(padded)
    ended = [False] * len(prompts)
    for _ in range(max_new_tokens):
        next_tokens, cache = _step(model, cache, next_tokens, **settings)
        found = next_tokens.numpy()[:, 0].tolist()
        ended = [done or token in stop for done, token in zip(ended, found, strict=True)]
        if all(ended):
            return
        yield found[0] if is_one else [None if done else token for done, token in zip(ended, found, strict=True)]


# Compiled for each model, size of the prompt and of the cache: that is no accident to warn of.
@volta.jit(donate="cache", static="top_k", options={"explain_retrace": False})
def _step(
    model: Any,
    cache: Any,
    tokens: Tensor,
    temperature: Tensor,
    top_p: Tensor | None,
    key: Tensor | None,
    top_k: int | None,
) -> tuple[Tensor, Any]:
    """The token ``[batch, 1]`` after these ``[batch, length]``, and the cache with them."""
    scores, cache = model(tokens, cache)
    cache = cache.advanced(tokens.shape[1])
    if key is not None:
        key = random.fold_in(key, cache.length)
    chosen = sample(scores[:, -1], key, temperature, top_k, top_p)
    return volta.expand_dims(chosen, -1), cache
