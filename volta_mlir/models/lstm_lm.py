"""A recurrent language model."""

from __future__ import annotations

from typing import Any

from volta_mlir import Tensor, nn
from volta_mlir.errors import OptionError


class LSTMLM(nn.Module):
    """An embedding, LSTM layers, and scores of the next token.

    Its ``state_dict`` has the names of PyTorch's example of a word-level language model: ``encoder.weight``,
    ``rnn.weight_ih_l0``, …, ``decoder.weight``, ``decoder.bias``.

    Args:
        vocabulary: how many tokens there are.
        width: features of a token, and of the recurrent state.
        layers: of the LSTM.
        dropout: the probability with which features become zero in training, between layers and around them.
        tied: whether the decoder's weight is the embedding.

    Calling it takes tokens ``[batch, length]``, integers, and optionally the state of an earlier call, and returns
    scores ``[batch, length, vocabulary]`` and the state after the last token: a pair of ``[layers, batch, width]``.

    Source: Zaremba, Sutskever and Vinyals, "Recurrent Neural Network Regularization" (2014); Press and Wolf, "Using the
    Output Embedding to Improve Language Models" (2017).

    Example:
        >>> import volta_mlir as volta
        >>> scores, (hidden, cell) = LSTMLM(11, 8, layers=2)(volta.zeros((3, 5), "int32"))
        >>> scores.shape, hidden.shape
        ((3, 5, 11), (2, 3, 8))
    """

    def __init__(
        self, vocabulary: int, width: int = 256, layers: int = 2, dropout: float = 0.0, tied: bool = False
    ) -> None:
        if not 0 <= dropout < 1:
            raise OptionError(f"LSTMLM: dropout is a probability below 1, got {dropout}")
        self.drop = nn.Dropout(dropout) if dropout else nn.Identity()
        self.encoder = nn.Embedding(vocabulary, width)
        self.rnn = nn.LSTM(width, width, layers, batch_first=True, dropout=dropout if layers > 1 else 0.0)
        self.decoder = nn.Linear(width, vocabulary)
        if tied:
            self.decoder.weight = self.encoder.weight

    def forward(self, tokens: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        outputs, state = self.rnn(self.drop(self.encoder(tokens)), state)
        return self.decoder(self.drop(outputs)), state
