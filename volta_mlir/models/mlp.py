"""A multi-layer perceptron."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from volta_mlir import nn
from volta_mlir.errors import OptionError


class MLP(nn.Sequential):
    """Linear layers with an activation, and maybe dropout, after each but the last.

    The names in its ``state_dict`` are those of PyTorch's ``nn.Sequential`` of the same layers: ``0.weight``,
    ``2.weight``, …, or ``0.weight``, ``3.weight``, … with dropout.

    Args:
        sizes: the number of features of the input, of each hidden layer, and of the result.
        activation: makes a layer without parameters.
        dropout: the probability with which a hidden feature becomes zero in training; 0 leaves the layers out.

    Calling it takes ``[…, sizes[0]]`` and returns ``[…, sizes[-1]]``.

    Raises:
        ValueError: there are fewer than two sizes, or ``dropout`` is not a probability.
        ShapeError: the input has another number of features.

    Source: Rumelhart, Hinton and Williams, "Learning representations by back-propagating errors" (1986).

    Example:
        >>> import volta_mlir as volta
        >>> model = MLP([784, 256, 10])
        >>> model(volta.zeros((32, 784))).shape
        (32, 10)
        >>> list(model.state_dict())
        ['0.weight', '0.bias', '2.weight', '2.bias']
    """

    def __init__(
        self, sizes: Sequence[int], activation: Callable[[], nn.Module] = nn.ReLU, dropout: float = 0.0
    ) -> None:
        if len(sizes) < 2:
            raise OptionError(f"MLP: sizes are those of the input, of hidden layers and of the result, got {sizes}")
        layers: list[nn.Module] = []
        for features, next_features in pairwise(sizes[:-1]):
            layers += [nn.Linear(features, next_features), activation()]
            if dropout:
                layers.append(nn.Dropout(dropout))
        super().__init__(*layers, nn.Linear(sizes[-2], sizes[-1]))
