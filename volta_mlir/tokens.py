"""Text to tokens and back, with the ``tokenizers`` library: ``pip install volta-mlir[text]``."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from volta_mlir import weights
from volta_mlir.errors import WeightsError

__all__ = ["Tokenizer", "padded_size"]

# What a GGUF file says of its tokens: control tokens, and tokens that are found in text before it is divided.
_CONTROL, _USER_DEFINED = 3, 4


def padded_size(count: int, least: int = 16) -> int:
    """The next power of two, and ``least`` at least: sizes of which few programs are compiled.

    >>> padded_size(5), padded_size(100)
    (16, 128)
    """
    return max(least, 1 << max(count - 1, 0).bit_length())


class Tokenizer:
    """Text to tokens and back.

    Attributes:
        stop: the tokens that end a text: of the file's end of sequence.
        chat_template: a Jinja template of a conversation, None where the file has none.

    Example:
        >>> from tokenizers import Tokenizer as Library, models, pre_tokenizers
        >>> words = Library(models.WordLevel({"hello": 0, "world": 1, "?": 2}, unk_token="?"))
        >>> words.pre_tokenizer = pre_tokenizers.Whitespace()
        >>> tokenizer = Tokenizer(words)
        >>> tokenizer.encode("hello world"), tokenizer.decode([1, 0])
        ([0, 1], 'world hello')
    """

    def __init__(self, library: Any, stop: Sequence[int] = (), chat_template: str | None = None) -> None:
        self._library = library
        self.stop = tuple(stop)
        self.chat_template = chat_template

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Tokenizer:
        """Loads a Hugging Face ``tokenizer.json``, or the vocabulary of a GGUF file.

        Args:
            path: the ``.json`` or ``.gguf`` file, or the directory or ``.zip`` file of a model.

        Raises:
            WeightsError: the file is missing, damaged, or of a kind that is not known here.
            ImportError: the ``tokenizers`` library is not installed.
        """
        path = Path(path)
        if path.suffix == ".gguf":
            return cls._from_gguf(path)
        from volta_mlir.models.huggingface import read

        library = _library()
        try:
            found = library.Tokenizer.from_str(read(path, "tokenizer.json").decode())
        except Exception as error:  # the library raises nothing more exact
            if isinstance(error, WeightsError):
                raise
            raise WeightsError(f"{path} has no tokenizer that can be read: {error}") from None
        found.no_padding()
        found.no_truncation()
        try:
            settings = json.loads(read(path, "tokenizer_config.json"))
        except (WeightsError, ValueError):
            settings = {}
        end = settings.get("eos_token")
        number = found.token_to_id(end["content"] if isinstance(end, Mapping) else end) if end else None
        return cls(found, () if number is None else (number,), settings.get("chat_template"))

    @classmethod
    def _from_gguf(cls, path: Path) -> Tokenizer:
        library = _library()
        values = weights.metadata(path)
        kind, division = values.get("tokenizer.ggml.model"), values.get("tokenizer.ggml.pre", "default")
        if kind != "gpt2" or division not in ("default", "gpt-2", "smollm"):
            raise WeightsError(
                f"{path} has a {kind} vocabulary, divided as {division}; known is gpt2, divided as default, gpt-2 or"
                " smollm"
            )
        tokens = [str(token) for token in values["tokenizer.ggml.tokens"]]
        merges = [tuple(str(merge).split(" ", 1)) for merge in values["tokenizer.ggml.merges"]]
        try:
            model = library.models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges)
        except Exception as error:
            raise WeightsError(f"{path} has a vocabulary that does not fit together: {error}") from None
        found = library.Tokenizer(model)
        parts = [library.pre_tokenizers.ByteLevel(add_prefix_space=False)]
        if division == "smollm":
            parts.insert(0, library.pre_tokenizers.Digits(individual_digits=True))
        found.pre_tokenizer = library.pre_tokenizers.Sequence(parts)
        found.decoder = library.decoders.ByteLevel()
        kinds = values.get("tokenizer.ggml.token_type", [])
        for number, add in ((_CONTROL, found.add_special_tokens), (_USER_DEFINED, found.add_tokens)):
            add([library.AddedToken(t, normalized=False) for t, k in zip(tokens, kinds, strict=False) if k == number])
        end = values.get("tokenizer.ggml.eos_token_id")
        return cls(found, () if end is None else (int(end),), values.get("tokenizer.chat_template"))

    @property
    def size(self) -> int:
        """How many tokens there are."""
        return int(self._library.get_vocab_size())

    def encode(self, text: str) -> list[int]:
        """The tokens of a text, with those that the model's own settings put around it."""
        return list(self._library.encode(text).ids)

    def decode(self, tokens: Iterable[int]) -> str:
        """The text of tokens; control tokens are left out."""
        return str(self._library.decode(list(map(int, tokens))))

    def stream(self, tokens: Iterable[int]) -> Iterator[str]:
        """Pieces of text as tokens come; a letter that takes several tokens comes with the last of them."""
        stream = _library().decoders.DecodeStream(skip_special_tokens=True)
        for token in tokens:
            piece = stream.step(self._library, int(token))
            if piece:
                yield piece

    def chat(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """The tokens of a conversation, up to where the model answers.

        Args:
            messages: each with a ``role``, ``"system"``, ``"user"`` or ``"assistant"``, and its ``content``.

        Raises:
            WeightsError: the file has no template of conversations.
            ImportError: the ``jinja2`` library is not installed.
        """
        if self.chat_template is None:
            raise WeightsError("the model has no template of conversations: it was not trained for them")
        try:
            from jinja2.sandbox import ImmutableSandboxedEnvironment
        except ImportError:
            raise ImportError("conversations need jinja2: pip install volta-mlir[text]") from None
        template = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True).from_string(self.chat_template)
        text = template.render(messages=list(messages), add_generation_prompt=True, bos_token="", eos_token="")
        return self.encode(text)


def _library() -> ModuleType:
    try:
        import tokenizers
    except ImportError:
        raise ImportError("tokens need the tokenizers library: pip install volta-mlir[text]") from None
    return tokenizers
