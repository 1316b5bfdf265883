"""Recurrent layers: loops over time as scans, and the cells that are one step of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import volta_mlir as volta
from volta_mlir.dtypes import DEFAULT_FLOAT
from volta_mlir.errors import DTypeError, OptionError, ShapeError, warn
from volta_mlir.functions.common import as_tensor
from volta_mlir.nn import functional, init
from volta_mlir.nn.layers.common import Drawing
from volta_mlir.nn.module import Module, Parameter
from volta_mlir.tensor import Tensor

__all__ = ["GRU", "LSTM", "RNN", "GRUCell", "LSTMCell", "RNNCell"]

# A step takes what the input contributes (its bias included), the weights and the bias of the hidden state, and the
# state; it returns the new state, of which the first is the output.
_State = tuple[Tensor, ...]
_ACTIVATIONS = {"tanh": volta.tanh, "relu": functional.relu}


def _rnn_step(projected: Tensor, weight_hh: Tensor, bias_hh: Tensor | None, state: _State, activation: Any) -> _State:
    return (activation(projected + functional.linear(state[0], weight_hh, bias_hh)),)


def _lstm_step(
    projected: Tensor, weight_hh: Tensor, bias_hh: Tensor | None, state: _State, weight_hr: Tensor | None = None
) -> _State:
    hidden, cell = state
    gates = projected + functional.linear(hidden, weight_hh, bias_hh)
    in_gate, forget_gate, candidate, out_gate = volta.split(gates, 4, axis=-1)
    cell = volta.sigmoid(forget_gate) * cell + volta.sigmoid(in_gate) * volta.tanh(candidate)
    hidden = volta.sigmoid(out_gate) * volta.tanh(cell)
    return (hidden if weight_hr is None else functional.linear(hidden, weight_hr)), cell


def _gru_step(projected: Tensor, weight_hh: Tensor, bias_hh: Tensor | None, state: _State) -> _State:
    (hidden,) = state
    recurrent = functional.linear(hidden, weight_hh, bias_hh)
    x_reset, x_update, x_new = volta.split(projected, 3, axis=-1)
    h_reset, h_update, h_new = volta.split(recurrent, 3, axis=-1)
    reset, update = volta.sigmoid(x_reset + h_reset), volta.sigmoid(x_update + h_update)
    new = volta.tanh(x_new + reset * h_new)
    return (new + update * (hidden - new),)


def _check_state(what: str, state: Sequence[Any], shapes: Sequence[tuple[int, ...]], dtype: Any) -> _State:
    tensors = tuple(map(as_tensor, state))
    for tensor, shape, name in zip(tensors, shapes, ("hidden", "cell"), strict=False):
        if tensor.shape != shape:
            raise ShapeError(f"{what}: expected {name} state of shape {shape}, got {tensor.spec}")
        if tensor.dtype != dtype:
            raise DTypeError(f"{what}: expected {name} state of dtype {dtype}, got {tensor.spec}")
    return tensors


class _Recurrent(Drawing):
    """Layers over time, in one or both directions; a subclass says how many gates it has and what a step is."""

    gates: int
    states = 1  # how many tensors are carried from step to step
    weight_hh_l0: Tensor

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        bias: bool,
        batch_first: bool,
        dropout: float,
        bidirectional: bool,
        proj_size: int,
        dtype: Any,
    ) -> None:
        if dropout:
            super().__init__()  # a key
        name = type(self).__name__
        if isinstance(dropout, bool) or not 0 <= dropout <= 1:
            raise OptionError(f"{name}: dropout should be a number in range [0, 1], got {dropout}")
        if dropout and num_layers == 1:
            warn(f"{name}: dropout acts between layers, so dropout={dropout} has no effect with num_layers=1")
        for argument, value in (("hidden_size", hidden_size), ("num_layers", num_layers)):
            if not isinstance(value, int) or value <= 0:
                raise OptionError(f"{name}: {argument} must be a positive int, got {value!r}")
        if not 0 <= proj_size < hidden_size:
            raise OptionError(f"{name}: proj_size has to be from 0 to hidden_size - 1, got {proj_size}")
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.bias, self.batch_first, self.dropout = bias, batch_first, float(dropout)
        self.bidirectional, self.proj_size = bidirectional, proj_size
        bound, rows = 1 / math.sqrt(hidden_size), self.gates * hidden_size
        out = proj_size or hidden_size
        for layer in range(num_layers):
            columns = out * len(self._directions) if layer else input_size
            for direction in self._directions:
                shapes: dict[str, tuple[int, ...]] = {"weight_ih": (rows, columns), "weight_hh": (rows, out)}
                if bias:
                    shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)}
                if proj_size:
                    shapes["weight_hr"] = (proj_size, hidden_size)
                for kind, shape in shapes.items():
                    values = init.uniform(shape, -bound, bound, dtype)
                    setattr(self, f"{kind}_l{layer}{direction}", Parameter(values))

    @property
    def _directions(self) -> tuple[str, ...]:
        return ("", "_reverse") if self.bidirectional else ("",)

    def step(self, projected: Tensor, suffix: str, state: _State) -> _State:
        """The state after a step of the layer and direction that ``suffix`` names."""
        raise NotImplementedError

    def forward(self, input: Any, hx: Any = None) -> Any:
        x, name = as_tensor(input), type(self).__name__
        if x.ndim not in (2, 3):
            raise ShapeError(f"{name}: expected input to be 2D or 3D, got {x.ndim}D: {x.spec}")
        if x.shape[-1] != self.input_size:
            raise ShapeError(f"{name}: input.shape[-1] must be equal to input_size, {self.input_size}, got {x.spec}")
        batched = x.ndim == 3
        if not batched:
            x = volta.expand_dims(x, 1)
        elif self.batch_first:
            x = volta.swapaxes(x, 0, 1)
        if x.shape[0] == 0:
            raise ShapeError(f"{name}: expected sequence length to be larger than 0, got {as_tensor(input).spec}")
        initial = self._initial(hx, x, batched)
        finals: list[_State] = []
        for layer in range(self.num_layers):
            if layer and self.dropout and self.training:
                x = functional.dropout(x, self.dropout, key=self.draw())
            outputs = []
            for direction in self._directions:
                state = tuple(tensor[len(finals)] for tensor in initial)
                output, final = self._run(x, f"l{layer}{direction}", state)
                outputs.append(output)
                finals.append(final)
            x = outputs[0] if len(outputs) == 1 else volta.concatenate(outputs, axis=-1)
        last = [volta.stack(tensors) for tensors in zip(*finals, strict=True)]
        if not batched:
            x, last = x[:, 0], [tensor[:, 0] for tensor in last]
        elif self.batch_first:
            x = volta.swapaxes(x, 0, 1)
        return x, last[0] if self.states == 1 else tuple(last)

    def _initial(self, hx: Any, x: Tensor, batched: bool) -> _State:
        """The state before the first step, one tensor ``[layers * directions, N, H]`` for each that is carried."""
        dtype = volta.result_type(x, self.weight_hh_l0)
        count, batch = self.num_layers * len(self._directions), x.shape[1:2]
        sizes = (self.proj_size or self.hidden_size, self.hidden_size)[: self.states]
        if hx is None:
            return tuple(volta.zeros((count, *batch, size), dtype) for size in sizes)
        given = hx if self.states > 1 else (hx,)
        if not isinstance(given, (tuple, list)) or len(given) != self.states:
            raise ShapeError(f"{type(self).__name__}: expected hx to be a pair (h_0, c_0), got {type(hx).__name__}")
        state = _check_state(
            type(self).__name__, given, [(count, *(batch if batched else ()), size) for size in sizes], dtype
        )
        return state if batched else tuple(volta.expand_dims(tensor, 1) for tensor in state)

    def _run(self, x: Tensor, suffix: str, state: _State) -> tuple[Tensor, _State]:
        """A layer in one direction: its outputs ``[T, N, H]`` and its last state."""
        steps, batch, features = x.shape
        bias = getattr(self, f"bias_ih_{suffix}", None)
        # Of all steps at once, as one product of matrices.
        projected = functional.linear(x.reshape(steps * batch, features), getattr(self, f"weight_ih_{suffix}"), bias)

        def step(state: _State, projected: Tensor) -> tuple[_State, Tensor]:
            state = self.step(projected, suffix, state)
            return state, state[0]

        last, outputs = volta.scan(
            step, state, projected.reshape(steps, batch, projected.shape[-1]), reverse=suffix.endswith("_reverse")
        )
        return outputs, last

    def extra_repr(self) -> str:
        text = f"{self.input_size}, {self.hidden_size}"
        defaults = {
            "proj_size": 0,
            "num_layers": 1,
            "bias": True,
            "batch_first": False,
            "dropout": 0.0,
            "bidirectional": False,
        }
        changed = ((name, getattr(self, name)) for name, default in defaults.items() if getattr(self, name) != default)
        return text + "".join(f", {name}={value}" for name, value in changed)


class RNN(_Recurrent):
    """``h' = tanh(x @ weight_ih.T + bias_ih + h @ weight_hh.T + bias_hh)`` over time (Elman, 1990).

    Args:
        input_size: extent of the input's last axis.
        hidden_size: extent of the hidden state.
        num_layers: layers, each of which takes the outputs of the one before.
        nonlinearity: ``"tanh"`` or ``"relu"``.
        bias: whether there are biases.
        batch_first: whether inputs and outputs are ``[N, T, …]`` and not ``[T, N, …]``; states are not affected.
        dropout: the probability with which an output of a layer, but the last one, is dropped in training.
        bidirectional: whether each layer also runs from the last step to the first.
        dtype: of the parameters.

    Attributes:
        weight_ih_l0: ``[hidden_size, input_size]``; for each layer, and with the suffix ``_reverse`` for its other
            direction. All parameters are at first uniform within ±1/√hidden_size.
        weight_hh_l0: ``[hidden_size, hidden_size]``.
        bias_ih_l0: ``[hidden_size]``.
        bias_hh_l0: ``[hidden_size]``.
        key: with ``dropout`` only; see :class:`~volta_mlir.nn.layers.common.Drawing`.

    Calling it takes the input ``[T, N, input_size]`` or ``[T, input_size]``, and the first hidden state ``[num_layers *
    directions, N, hidden_size]``, zeros by default. It returns the last layer's outputs ``[T, N, directions *
    hidden_size]``, and the last hidden state.

    Raises:
        ShapeError: input and state do not fit.
        DTypeError: the state has another dtype than input and weights give.

    Example:
        >>> outputs, state = RNN(3, 4, num_layers=2)(volta.ones((5, 2, 3)))
        >>> outputs.shape, state.shape
        ((5, 2, 4), (2, 2, 4))
    """

    gates = 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        dtype: Any = DEFAULT_FLOAT,
    ) -> None:
        super().__init__(input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, 0, dtype)
        self.nonlinearity = _checked_nonlinearity("RNN", nonlinearity)

    def step(self, projected: Tensor, suffix: str, state: _State) -> _State:
        bias = getattr(self, f"bias_hh_{suffix}", None)
        return _rnn_step(projected, getattr(self, f"weight_hh_{suffix}"), bias, state, _ACTIVATIONS[self.nonlinearity])


class LSTM(_Recurrent):
    """Long short-term memory over time (Hochreiter and Schmidhuber, 1997).

    The gates are, in this order in the weights, input ``i``, forget ``f``, candidate ``g`` and output ``o``: ``c' =
    σ(f) * c + σ(i) * tanh(g)``, ``h' = σ(o) * tanh(c')``.

    Args:
        input_size: see :class:`RNN`.
        hidden_size: see :class:`RNN`.
        num_layers: see :class:`RNN`.
        bias: see :class:`RNN`.
        batch_first: see :class:`RNN`.
        dropout: see :class:`RNN`.
        bidirectional: see :class:`RNN`.
        proj_size: extent to which the hidden state is projected, 0 for none (Sak et al., 2014).
        dtype: of the parameters.

    Attributes:
        weight_ih_l0: ``[4 * hidden_size, input_size]``; see :class:`RNN`.
        weight_hh_l0: ``[4 * hidden_size, proj_size or hidden_size]``.
        bias_ih_l0: ``[4 * hidden_size]``.
        bias_hh_l0: ``[4 * hidden_size]``.
        weight_hr_l0: ``[proj_size, hidden_size]``, with ``proj_size`` only.
        key: with ``dropout`` only; see :class:`~volta_mlir.nn.layers.common.Drawing`.

    Its states are pairs: hidden states ``[num_layers * directions, N, proj_size or hidden_size]`` and cell states
    ``[num_layers * directions, N, hidden_size]``.

    Raises:
        ShapeError: input and state do not fit.
        DTypeError: a state has another dtype than input and weights give.

    Example:
        >>> outputs, (hidden, cell) = LSTM(3, 4, bidirectional=True)(volta.ones((5, 2, 3)))
        >>> outputs.shape, hidden.shape, cell.shape
        ((5, 2, 8), (2, 2, 4), (2, 2, 4))
    """

    gates, states = 4, 2

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        dtype: Any = DEFAULT_FLOAT,
    ) -> None:
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, proj_size, dtype
        )

    def step(self, projected: Tensor, suffix: str, state: _State) -> _State:
        bias, weight_hr = (getattr(self, f"{kind}_{suffix}", None) for kind in ("bias_hh", "weight_hr"))
        return _lstm_step(projected, getattr(self, f"weight_hh_{suffix}"), bias, state, weight_hr)


class GRU(_Recurrent):
    """Gated recurrent unit over time (Cho et al., 2014).

    The gates are, in this order in the weights, reset ``r``, update ``z`` and candidate ``n``: ``n = tanh(x_n + σ(r) *
    h_n)``, ``h' = (1 - σ(z)) * n + σ(z) * h``, where ``x_n`` and ``h_n`` are what input and state contribute.

    Args:
        input_size: see :class:`RNN`.
        hidden_size: see :class:`RNN`.
        num_layers: see :class:`RNN`.
        bias: see :class:`RNN`.
        batch_first: see :class:`RNN`.
        dropout: see :class:`RNN`.
        bidirectional: see :class:`RNN`.
        dtype: of the parameters.

    Attributes:
        weight_ih_l0: ``[3 * hidden_size, input_size]``; see :class:`RNN`.
        weight_hh_l0: ``[3 * hidden_size, hidden_size]``.
        bias_ih_l0: ``[3 * hidden_size]``.
        bias_hh_l0: ``[3 * hidden_size]``.
        key: with ``dropout`` only; see :class:`~volta_mlir.nn.layers.common.Drawing`.

    Raises:
        ShapeError: input and state do not fit.
        DTypeError: the state has another dtype than input and weights give.

    Example:
        >>> outputs, state = GRU(3, 4, batch_first=True)(volta.ones((2, 5, 3)))
        >>> outputs.shape, state.shape
        ((2, 5, 4), (1, 2, 4))
    """

    gates = 3

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        dtype: Any = DEFAULT_FLOAT,
    ) -> None:
        super().__init__(input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, 0, dtype)

    def step(self, projected: Tensor, suffix: str, state: _State) -> _State:
        bias = getattr(self, f"bias_hh_{suffix}", None)
        return _gru_step(projected, getattr(self, f"weight_hh_{suffix}"), bias, state)


def _checked_nonlinearity(what: str, nonlinearity: str) -> str:
    if nonlinearity not in _ACTIVATIONS:
        raise OptionError(f"{what}: unknown nonlinearity {nonlinearity!r}; expected 'tanh' or 'relu'")
    return nonlinearity


# -- cells -----------------------------------------------------------------------------------------------------------


class _Cell(Module):
    gates: int
    states = 1
    weight_ih: Tensor
    weight_hh: Tensor
    bias_ih: Tensor | None
    bias_hh: Tensor | None

    def __init__(self, input_size: int, hidden_size: int, bias: bool, dtype: Any) -> None:
        self.input_size, self.hidden_size, self.bias = input_size, hidden_size, bias
        bound, rows = 1 / math.sqrt(hidden_size) if hidden_size else 0.0, self.gates * hidden_size
        self.weight_ih = Parameter(init.uniform((rows, input_size), -bound, bound, dtype))
        self.weight_hh = Parameter(init.uniform((rows, hidden_size), -bound, bound, dtype))
        self.bias_ih = Parameter(init.uniform(rows, -bound, bound, dtype)) if bias else None
        self.bias_hh = Parameter(init.uniform(rows, -bound, bound, dtype)) if bias else None

    def step(self, projected: Tensor, state: _State) -> _State:
        """The state after a step."""
        raise NotImplementedError

    def forward(self, input: Any, hx: Any = None) -> Any:
        x, name = as_tensor(input), type(self).__name__
        if x.ndim not in (1, 2):
            raise ShapeError(f"{name}: expected input to be 1D or 2D, got {x.ndim}D: {x.spec}")
        if x.shape[-1] != self.input_size:
            raise ShapeError(f"{name}: input.shape[-1] must be equal to input_size, {self.input_size}, got {x.spec}")
        dtype, shape = volta.result_type(x, self.weight_hh), (*x.shape[:-1], self.hidden_size)
        if hx is None:
            state: _State = (volta.zeros(shape, dtype),) * self.states
        else:
            given = hx if self.states > 1 else (hx,)
            if not isinstance(given, (tuple, list)) or len(given) != self.states:
                raise ShapeError(f"{name}: expected hx to be a pair (h_0, c_0), got {type(hx).__name__}")
            state = _check_state(name, given, [shape] * self.states, dtype)
        state = self.step(functional.linear(x, self.weight_ih, self.bias_ih), state)
        return state[0] if self.states == 1 else state

    def extra_repr(self) -> str:
        text = f"{self.input_size}, {self.hidden_size}"
        return text if self.bias else f"{text}, bias={self.bias}"


class RNNCell(_Cell):
    """One step of :class:`RNN`.

    Args:
        input_size: extent of the input's last axis.
        hidden_size: extent of the hidden state.
        bias: whether there are biases.
        nonlinearity: ``"tanh"`` or ``"relu"``.
        dtype: of the parameters.

    Attributes:
        weight_ih: ``[hidden_size, input_size]``; all parameters are at first uniform within ±1/√hidden_size.
        weight_hh: ``[hidden_size, hidden_size]``.
        bias_ih: ``[hidden_size]``, or None.
        bias_hh: ``[hidden_size]``, or None.

    Calling it takes the input ``[N, input_size]`` or ``[input_size]``, and the hidden state, zeros by default; it
    returns the next hidden state.

    Raises:
        ShapeError: input and state do not fit.
        DTypeError: the state has another dtype than input and weights give.

    Example:
        >>> RNNCell(3, 4)(volta.ones((2, 3))).shape
        (2, 4)
    """

    gates = 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        dtype: Any = DEFAULT_FLOAT,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, dtype)
        self.nonlinearity = _checked_nonlinearity("RNNCell", nonlinearity)

    def step(self, projected: Tensor, state: _State) -> _State:
        return _rnn_step(projected, self.weight_hh, self.bias_hh, state, _ACTIVATIONS[self.nonlinearity])

    def extra_repr(self) -> str:
        text = super().extra_repr()
        return text if self.nonlinearity == "tanh" else f"{text}, nonlinearity={self.nonlinearity}"


class LSTMCell(_Cell):
    """One step of :class:`LSTM`; states are pairs of hidden and cell state.

    Args:
        input_size: see :class:`RNNCell`.
        hidden_size: see :class:`RNNCell`.
        bias: see :class:`RNNCell`.
        dtype: of the parameters.

    Attributes:
        weight_ih: ``[4 * hidden_size, input_size]``; see :class:`RNNCell`.
        weight_hh: ``[4 * hidden_size, hidden_size]``.
        bias_ih: ``[4 * hidden_size]``, or None.
        bias_hh: ``[4 * hidden_size]``, or None.

    Raises:
        ShapeError: input and state do not fit.
        DTypeError: a state has another dtype than input and weights give.

    Example:
        >>> hidden, cell = LSTMCell(3, 4)(volta.ones((2, 3)))
        >>> hidden.shape, cell.shape
        ((2, 4), (2, 4))
    """

    gates, states = 4, 2

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, dtype: Any = DEFAULT_FLOAT) -> None:
        super().__init__(input_size, hidden_size, bias, dtype)

    def step(self, projected: Tensor, state: _State) -> _State:
        return _lstm_step(projected, self.weight_hh, self.bias_hh, state)


class GRUCell(_Cell):
    """One step of :class:`GRU`.

    Args:
        input_size: see :class:`RNNCell`.
        hidden_size: see :class:`RNNCell`.
        bias: see :class:`RNNCell`.
        dtype: of the parameters.

    Attributes:
        weight_ih: ``[3 * hidden_size, input_size]``; see :class:`RNNCell`.
        weight_hh: ``[3 * hidden_size, hidden_size]``.
        bias_ih: ``[3 * hidden_size]``, or None.
        bias_hh: ``[3 * hidden_size]``, or None.

    Raises:
        ShapeError: input and state do not fit.
        DTypeError: the state has another dtype than input and weights give.

    Example:
        >>> GRUCell(3, 4)(volta.ones(3)).shape
        (4,)
    """

    gates = 3

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, dtype: Any = DEFAULT_FLOAT) -> None:
        super().__init__(input_size, hidden_size, bias, dtype)

    def step(self, projected: Tensor, state: _State) -> _State:
        return _gru_step(projected, self.weight_hh, self.bias_hh, state)
