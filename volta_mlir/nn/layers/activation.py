"""Activation functions as layers."""

from __future__ import annotations

from typing import Any

from volta_mlir.dtypes import DEFAULT_FLOAT
from volta_mlir.errors import OptionError, ShapeError
from volta_mlir.functions.common import as_tensor
from volta_mlir.nn import functional
from volta_mlir.nn.init import constant
from volta_mlir.nn.layers.common import Drawing, shown
from volta_mlir.nn.module import Module, Parameter
from volta_mlir.tensor import Tensor

__all__ = [
    "CELU",
    "ELU",
    "GELU",
    "GLU",
    "SELU",
    "Hardshrink",
    "Hardsigmoid",
    "Hardswish",
    "Hardtanh",
    "LeakyReLU",
    "LogSigmoid",
    "LogSoftmax",
    "Mish",
    "PReLU",
    "RReLU",
    "ReLU",
    "ReLU6",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softmax2d",
    "Softmin",
    "Softplus",
    "Softshrink",
    "Softsign",
    "Tanh",
    "Tanhshrink",
    "Threshold",
]


class CELU(Module):
    """:func:`functional.celu <volta_mlir.nn.functional.celu>` as a layer.

    Example:
        >>> CELU(alpha=2.0)(Tensor([-100.0, 3.0])).tolist()
        [-2.0, 3.0]
    """

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = alpha

    def forward(self, input: Any) -> Tensor:
        return functional.celu(input, self.alpha)

    def extra_repr(self) -> str:
        return shown(self, "alpha")


class ELU(Module):
    """:func:`functional.elu <volta_mlir.nn.functional.elu>` as a layer.

    Example:
        >>> ELU(alpha=2.0)(Tensor([-100.0, 3.0])).tolist()
        [-2.0, 3.0]
    """

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = alpha

    def forward(self, input: Any) -> Tensor:
        return functional.elu(input, self.alpha)

    def extra_repr(self) -> str:
        return shown(self, "alpha")


class GELU(Module):
    """:func:`functional.gelu <volta_mlir.nn.functional.gelu>` as a layer.

    Example:
        >>> GELU(approximate="tanh")(Tensor([-100.0, 0.0, 100.0])).tolist()
        [-0.0, 0.0, 100.0]
    """

    def __init__(self, approximate: str = "none") -> None:
        self.approximate = approximate

    def forward(self, input: Any) -> Tensor:
        return functional.gelu(input, approximate=self.approximate)

    def extra_repr(self) -> str:
        return f"approximate={self.approximate!r}"


class GLU(Module):
    """:func:`functional.glu <volta_mlir.nn.functional.glu>` as a layer.

    Example:
        >>> GLU()(Tensor([[3.0, 0.0]])).tolist()
        [[1.5]]
    """

    def __init__(self, dim: int = -1) -> None:
        self.dim = dim

    def forward(self, input: Any) -> Tensor:
        return functional.glu(input, self.dim)

    def extra_repr(self) -> str:
        return shown(self, "dim")


class SELU(Module):
    """:func:`functional.selu <volta_mlir.nn.functional.selu>` as a layer.

    Example:
        >>> SELU()(Tensor([0.0])).tolist()
        [0.0]
    """

    def forward(self, input: Any) -> Tensor:
        return functional.selu(input)


class Hardshrink(Module):
    """:func:`functional.hardshrink <volta_mlir.nn.functional.hardshrink>` as a layer.

    Example:
        >>> Hardshrink()(Tensor([-1.0, 0.25, 0.75])).tolist()
        [-1.0, 0.0, 0.75]
    """

    def __init__(self, lambd: float = 0.5) -> None:
        self.lambd = lambd

    def forward(self, input: Any) -> Tensor:
        return functional.hardshrink(input, self.lambd)

    def extra_repr(self) -> str:
        return f"{self.lambd}"


class Hardsigmoid(Module):
    """:func:`functional.hardsigmoid <volta_mlir.nn.functional.hardsigmoid>` as a layer.

    Example:
        >>> Hardsigmoid()(Tensor([-4.0, 0.0, 4.0])).tolist()
        [0.0, 0.5, 1.0]
    """

    def forward(self, input: Any) -> Tensor:
        return functional.hardsigmoid(input)


class Hardswish(Module):
    """:func:`functional.hardswish <volta_mlir.nn.functional.hardswish>` as a layer.

    Example:
        >>> Hardswish()(Tensor([0.0, 4.0])).tolist()
        [0.0, 4.0]
    """

    def forward(self, input: Any) -> Tensor:
        return functional.hardswish(input)


class Hardtanh(Module):
    """:func:`functional.hardtanh <volta_mlir.nn.functional.hardtanh>` as a layer.

    Raises:
        ValueError: ``min_val`` is not less than ``max_val``.

    Example:
        >>> Hardtanh(-2.0, 1.0)(Tensor([-3.0, 0.5, 3.0])).tolist()
        [-2.0, 0.5, 1.0]
    """

    def __init__(self, min_val: float = -1.0, max_val: float = 1.0) -> None:
        if min_val >= max_val:
            raise OptionError(f"min_val must be less than max_val, got {min_val} and {max_val}")
        self.min_val, self.max_val = min_val, max_val

    def forward(self, input: Any) -> Tensor:
        return functional.hardtanh(input, self.min_val, self.max_val)

    def extra_repr(self) -> str:
        return shown(self, "min_val", "max_val")


class LeakyReLU(Module):
    """:func:`functional.leaky_relu <volta_mlir.nn.functional.leaky_relu>` as a layer.

    Example:
        >>> LeakyReLU(0.5)(Tensor([-2.0, 2.0])).tolist()
        [-1.0, 2.0]
    """

    def __init__(self, negative_slope: float = 1e-2) -> None:
        self.negative_slope = negative_slope

    def forward(self, input: Any) -> Tensor:
        return functional.leaky_relu(input, self.negative_slope)

    def extra_repr(self) -> str:
        return shown(self, "negative_slope")


class LogSigmoid(Module):
    """:func:`functional.logsigmoid <volta_mlir.nn.functional.logsigmoid>` as a layer.

    Example:
        >>> LogSigmoid()(Tensor([-1000.0])).tolist()
        [-1000.0]
    """

    def forward(self, input: Any) -> Tensor:
        return functional.logsigmoid(input)


class LogSoftmax(Module):
    """:func:`functional.log_softmax <volta_mlir.nn.functional.log_softmax>` as a layer.

    Args:
        dim: along which the exponentials sum to 1; the function says which it is where it is None.

    Example:
        >>> LogSoftmax(dim=0)(Tensor([0.0])).tolist()
        [0.0]
    """

    def __init__(self, dim: int | None = None) -> None:
        self.dim = dim

    def forward(self, input: Any) -> Tensor:
        return functional.log_softmax(input, self.dim)

    def extra_repr(self) -> str:
        return shown(self, "dim")


class Mish(Module):
    """:func:`functional.mish <volta_mlir.nn.functional.mish>` as a layer.

    Example:
        >>> Mish()(Tensor([0.0])).tolist()
        [0.0]
    """

    def forward(self, input: Any) -> Tensor:
        return functional.mish(input)


class PReLU(Module):
    """:func:`functional.prelu <volta_mlir.nn.functional.prelu>` with a slope that is learned.

    Args:
        num_parameters: 1, or the number of channels, the extent of axis 1.
        init: the slope at first.
        dtype: of the slope.

    Attributes:
        weight: ``[num_parameters]``.

    Example:
        >>> PReLU(init=0.5)(Tensor([-2.0, 2.0])).tolist()
        [-1.0, 2.0]
    """

    weight: Tensor

    def __init__(self, num_parameters: int = 1, init: float = 0.25, dtype: Any = DEFAULT_FLOAT) -> None:
        self.num_parameters, self.init = num_parameters, init
        self.weight = Parameter(constant(num_parameters, init, dtype))

    def forward(self, input: Any) -> Tensor:
        return functional.prelu(input, self.weight)

    def extra_repr(self) -> str:
        return shown(self, "num_parameters")


class RReLU(Drawing):
    """:func:`functional.rrelu <volta_mlir.nn.functional.rrelu>` as a layer, with new slopes at every call in training.

    Attributes:
        key: see :class:`~volta_mlir.nn.layers.common.Drawing`.

    Example:
        >>> RReLU(0.25, 0.75).eval()(Tensor([-2.0, 2.0])).tolist()
        [-1.0, 2.0]
    """

    def __init__(self, lower: float = 1.0 / 8, upper: float = 1.0 / 3) -> None:
        super().__init__()
        self.lower, self.upper = lower, upper

    def forward(self, input: Any) -> Tensor:
        key = self.draw() if self.training else None
        return functional.rrelu(input, self.lower, self.upper, self.training, key=key)

    def extra_repr(self) -> str:
        return shown(self, "lower", "upper")


class ReLU(Module):
    """:func:`functional.relu <volta_mlir.nn.functional.relu>` as a layer.

    Example:
        >>> ReLU()(Tensor([-1.0, 2.0])).tolist()
        [0.0, 2.0]
    """

    def forward(self, input: Any) -> Tensor:
        return functional.relu(input)


class ReLU6(Module):
    """:func:`functional.relu6 <volta_mlir.nn.functional.relu6>` as a layer.

    Example:
        >>> ReLU6()(Tensor([-1.0, 2.0, 7.0])).tolist()
        [0.0, 2.0, 6.0]
    """

    def forward(self, input: Any) -> Tensor:
        return functional.relu6(input)


class SiLU(Module):
    """:func:`functional.silu <volta_mlir.nn.functional.silu>` as a layer.

    Example:
        >>> SiLU()(Tensor([0.0])).tolist()
        [0.0]
    """

    def forward(self, input: Any) -> Tensor:
        return functional.silu(input)


class Sigmoid(Module):
    """:func:`functional.sigmoid <volta_mlir.nn.functional.sigmoid>` as a layer.

    Example:
        >>> Sigmoid()(Tensor([0.0])).tolist()
        [0.5]
    """

    def forward(self, input: Any) -> Tensor:
        return functional.sigmoid(input)


class Softmax(Module):
    """:func:`functional.softmax <volta_mlir.nn.functional.softmax>` as a layer.

    Args:
        dim: along which the result sums to 1; the function says which it is where it is None.

    Example:
        >>> Softmax(dim=-1)(Tensor([[5.0, 5.0]])).tolist()
        [[0.5, 0.5]]
    """

    def __init__(self, dim: int | None = None) -> None:
        self.dim = dim

    def forward(self, input: Any) -> Tensor:
        return functional.softmax(input, self.dim)

    def extra_repr(self) -> str:
        return shown(self, "dim")


class Softmax2d(Module):
    """Softmax over the channels of ``[N, C, H, W]`` or ``[C, H, W]``.

    Raises:
        ShapeError: the input has another rank.

    Example:
        >>> Softmax2d()(Tensor([[[5.0]], [[5.0]]])).tolist()
        [[[0.5]], [[0.5]]]
    """

    def forward(self, input: Any) -> Tensor:
        input = as_tensor(input)
        if input.ndim not in (3, 4):
            raise ShapeError(f"Softmax2d: expected input to be 3D or 4D, got {input.spec}")
        return functional.softmax(input, -3)


class Softmin(Module):
    """:func:`functional.softmin <volta_mlir.nn.functional.softmin>` as a layer.

    Args:
        dim: along which the result sums to 1; the function says which it is where it is None.

    Example:
        >>> Softmin(dim=-1)(Tensor([[5.0, 5.0]])).tolist()
        [[0.5, 0.5]]
    """

    def __init__(self, dim: int | None = None) -> None:
        self.dim = dim

    def forward(self, input: Any) -> Tensor:
        return functional.softmin(input, self.dim)

    def extra_repr(self) -> str:
        return shown(self, "dim")


class Softplus(Module):
    """:func:`functional.softplus <volta_mlir.nn.functional.softplus>` as a layer.

    Example:
        >>> Softplus()(Tensor([-1000.0, 1000.0])).tolist()
        [0.0, 1000.0]
    """

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        self.beta, self.threshold = beta, threshold

    def forward(self, input: Any) -> Tensor:
        return functional.softplus(input, self.beta, self.threshold)

    def extra_repr(self) -> str:
        return shown(self, "beta", "threshold")


class Softshrink(Module):
    """:func:`functional.softshrink <volta_mlir.nn.functional.softshrink>` as a layer.

    Example:
        >>> Softshrink()(Tensor([-1.0, 0.25, 0.75])).tolist()
        [-0.5, 0.0, 0.25]
    """

    def __init__(self, lambd: float = 0.5) -> None:
        self.lambd = lambd

    def forward(self, input: Any) -> Tensor:
        return functional.softshrink(input, self.lambd)

    def extra_repr(self) -> str:
        return f"{self.lambd}"


class Softsign(Module):
    """:func:`functional.softsign <volta_mlir.nn.functional.softsign>` as a layer.

    Example:
        >>> Softsign()(Tensor([-1.0, 3.0])).tolist()
        [-0.5, 0.75]
    """

    def forward(self, input: Any) -> Tensor:
        return functional.softsign(input)


class Tanh(Module):
    """:func:`functional.tanh <volta_mlir.nn.functional.tanh>` as a layer.

    Example:
        >>> Tanh()(Tensor([0.0])).tolist()
        [0.0]
    """

    def forward(self, input: Any) -> Tensor:
        return functional.tanh(input)


class Tanhshrink(Module):
    """:func:`functional.tanhshrink <volta_mlir.nn.functional.tanhshrink>` as a layer.

    Example:
        >>> Tanhshrink()(Tensor([0.0])).tolist()
        [0.0]
    """

    def forward(self, input: Any) -> Tensor:
        return functional.tanhshrink(input)


class Threshold(Module):
    """:func:`functional.threshold <volta_mlir.nn.functional.threshold>` as a layer.

    Example:
        >>> Threshold(0.5, -1.0)(Tensor([0.25, 0.75])).tolist()
        [-1.0, 0.75]
    """

    def __init__(self, threshold: float, value: float) -> None:
        self.threshold, self.value = threshold, value

    def forward(self, input: Any) -> Tensor:
        return functional.threshold(input, self.threshold, self.value)

    def extra_repr(self) -> str:
        return shown(self, "threshold", "value")
