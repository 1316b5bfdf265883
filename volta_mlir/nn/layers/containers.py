"""Modules of modules and of parameters."""

from __future__ import annotations

from collections.abc import Callable, ItemsView, Iterable, Iterator, KeysView, Mapping, ValuesView
from itertools import groupby
from typing import TYPE_CHECKING, Any, ClassVar, Self

from volta_mlir.errors import OptionError
from volta_mlir.functions.common import as_tensor
from volta_mlir.nn.module import Kind, Module, Parameter, is_parameter
from volta_mlir.tensor import Tensor

if TYPE_CHECKING:
    from volta_mlir.control import Intermediate

__all__ = ["CheckpointedSequential", "ModuleDict", "ModuleList", "ParameterDict", "ParameterList", "Sequential"]


class _Container(Module):
    """Holds modules, or parameters, in order."""

    _holds: ClassVar[tuple[Kind, ...]] = (Kind.CHILD,)

    def __len__(self) -> int:
        return len(self._names())

    def _names(self) -> list[str]:
        return [name for name, kind in self._kinds.items() if kind in self._holds]

    def _get(self, name: str) -> Any:
        return self.__dict__[name]

    def _checked(self, module: Any) -> Module:
        if not isinstance(module, Module):
            raise TypeError(f"{type(self).__name__} holds modules, got a {type(module).__name__}")
        return module


class _List(_Container):
    """Names are the positions."""

    def __iter__(self) -> Iterator[Any]:
        return map(self._get, self._names())

    def _name_of(self, index: int) -> str:
        if not -len(self) <= index < len(self):
            raise IndexError(f"index {index} is out of range for a {type(self).__name__} of {len(self)}")
        return self._names()[index]

    def _refill(self, values: Iterable[Any]) -> None:
        """Puts these in the place of all that is held."""
        values = list(values)
        for name in self._names():
            delattr(self, name)
        for i, value in enumerate(values):
            setattr(self, str(i), value)


class ModuleList(_List):
    """A list of modules, which the model calls as it likes; children are named by their index.

    Example:
        >>> from volta_mlir import nn
        >>> layers = ModuleList([nn.Linear(3, 3), nn.Linear(3, 2)])
        >>> len(layers), layers[-1].out_features, [name for name, _ in layers[:1].named_parameters()]
        (2, 2, ['0.weight', '0.bias'])
    """

    def __init__(self, modules: Iterable[Module] | None = None) -> None:
        self.extend(modules or ())

    def append(self, module: Module) -> Self:
        """Adds a module at the end."""
        setattr(self, str(len(self)), self._checked(module))
        return self

    def extend(self, modules: Iterable[Module]) -> Self:
        """Adds modules at the end."""
        for module in modules:
            self.append(module)
        return self

    def insert(self, index: int, module: Module) -> None:
        """Adds a module before the one at ``index``."""
        modules = list(self)
        modules.insert(index, self._checked(module))
        self._refill(modules)

    def pop(self, index: int = -1) -> Module:
        """Removes and returns a module."""
        module = self[index]
        del self[index]
        return module

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return type(self)(list(self)[index])
        return self._get(self._name_of(index))

    def __setitem__(self, index: int, module: Module) -> None:
        setattr(self, self._name_of(index), self._checked(module))

    def __delitem__(self, index: int | slice) -> None:
        modules = list(self)
        if isinstance(index, int):
            self._name_of(index)
        del modules[index]
        self._refill(modules)

    def __iadd__(self, modules: Iterable[Module]) -> Self:
        return self.extend(modules)

    def __add__(self, modules: Iterable[Module]) -> ModuleList:
        return ModuleList([*self, *modules])

    def _repr_of_children(self) -> list[str]:
        lines: list[str] = []
        start = 0
        for text, group in groupby(map(repr, self)):
            count = len(list(group))
            head = f"({start}): " if count == 1 else f"({start}-{start + count - 1}): {count} x "
            lines += f"{head}{text}".splitlines()
            start += count
        return lines


class Sequential(_List):
    """Calls its modules one after the other, each with what the one before returned.

    Args:
        args: the modules, or a dict of them by name.

    Example:
        >>> from volta_mlir import nn
        >>> Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        Sequential(
          (0): Linear(in_features=4, out_features=8, bias=True)
          (1): ReLU()
          (2): Linear(in_features=8, out_features=2, bias=True)
        )
        >>> Sequential({"inner": nn.Linear(4, 8), "act": nn.ReLU()}).act
        ReLU()
    """

    def __init__(self, *args: Module | Mapping[str, Module]) -> None:
        if len(args) == 1 and isinstance(args[0], Mapping):
            for name, module in args[0].items():
                self.add_module(name, self._checked(module))
        else:
            self.extend(args)  # type: ignore[arg-type]  # append checks

    def forward(self, input: Any) -> Any:
        for module in self:
            input = module(input)
        return input

    def append(self, module: Module) -> Self:
        """Adds a module at the end, named by its position."""
        self.add_module(str(len(self)), self._checked(module))
        return self

    def extend(self, sequential: Iterable[Module]) -> Self:
        """Adds modules at the end."""
        for module in sequential:
            self.append(module)
        return self

    def insert(self, index: int, module: Module) -> Self:
        """Adds a module before the one at ``index``; all are then named by their positions.

        Raises:
            IndexError: the index is out of range.
        """
        if not -len(self) <= index <= len(self):
            raise IndexError(f"index {index} is out of range for a Sequential of {len(self)}")
        modules = list(self)
        modules.insert(index, self._checked(module))
        self._refill(modules)
        return self

    def pop(self, index: int | slice) -> Module:
        """Removes and returns a module, or a Sequential of several; the others are then named by their positions."""
        module = self[index]
        del self[index]
        return module

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return type(self)({name: self._get(name) for name in self._names()[index]})
        return self._get(self._name_of(index))

    def __setitem__(self, index: int, module: Module) -> None:
        setattr(self, self._name_of(index), self._checked(module))

    def __delitem__(self, index: int | slice) -> None:
        names = self._names()[index] if isinstance(index, slice) else [self._name_of(index)]
        for name in names:
            delattr(self, name)
        self._refill(self)

    def __add__(self, other: Sequential) -> Sequential:
        return Sequential(*self, *other)

    def __iadd__(self, other: Sequential) -> Self:
        return self.extend(other)


class CheckpointedSequential(Sequential):
    """A Sequential that keeps only some of what its modules pass on for the backward pass, and computes the rest again.

    With ``checkpoint_every`` near the root of the number of modules, the memory for intermediate values grows like that
    root (Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016). Results, gradients, what is drawn at
    random and running statistics are those of a Sequential. The option ``memory_budget`` of :func:`volta_mlir.jit` does
    the same without being told where.

    Args:
        layers: the modules, or a dict of them by name.
        checkpoint_every: how many modules are computed again together, from what the last of those before returned.
        policy: which values are kept besides; see :func:`volta_mlir.checkpoint`.

    Raises:
        OptionError: ``checkpoint_every`` is no positive integer.

    Example:
        >>> from volta_mlir import nn, ones
        >>> model = CheckpointedSequential([nn.Linear(4, 4) for _ in range(9)], checkpoint_every=3)
        >>> model(ones((2, 4))).shape
        (2, 4)
    """

    def __init__(
        self,
        layers: Iterable[Module] | Mapping[str, Module],
        checkpoint_every: int = 1,
        policy: Callable[[Intermediate], bool] | None = None,
    ) -> None:
        if not isinstance(checkpoint_every, int) or isinstance(checkpoint_every, bool) or checkpoint_every < 1:
            raise OptionError(f"checkpoint_every is how many modules, 1 at least, got {checkpoint_every!r}")
        super().__init__(*([layers] if isinstance(layers, Mapping) else layers))
        self.checkpoint_every = checkpoint_every
        self.policy = policy

    def forward(self, input: Any) -> Any:
        from volta_mlir.control import checkpoint  # needs the MLIR bindings, which making a model does not

        def run(modules: list[Module], input: Any) -> Any:
            for module in modules:
                input = module(input)
            return input

        modules = list(self)
        for start in range(0, len(modules), self.checkpoint_every):
            input = checkpoint(run, policy=self.policy)(modules[start : start + self.checkpoint_every], input)
        return input

    def extra_repr(self) -> str:
        return f"checkpoint_every={self.checkpoint_every}"

    def __getitem__(self, index: int | slice) -> Any:
        found = super().__getitem__(index)
        if isinstance(index, slice):
            found.checkpoint_every, found.policy = self.checkpoint_every, self.policy
        return found


class _Dict(_Container):
    """Names are the keys."""

    def __getitem__(self, key: str) -> Any:
        if key not in self:
            raise KeyError(key)
        return self._get(key)

    def __delitem__(self, key: str) -> None:
        self[key]
        delattr(self, key)

    def __contains__(self, key: object) -> bool:
        return key in self._names()

    def __iter__(self) -> Iterator[str]:
        return iter(self._names())

    def _as_dict(self) -> dict[str, Any]:
        return {name: self._get(name) for name in self._names()}

    def keys(self) -> KeysView[str]:
        """The keys in the order in which they were set."""
        return self._as_dict().keys()

    def values(self) -> ValuesView[Any]:
        """What the keys stand for."""
        return self._as_dict().values()

    def items(self) -> ItemsView[str, Any]:
        """Pairs of keys and what they stand for."""
        return self._as_dict().items()

    def pop(self, key: str) -> Any:
        """Removes a key and returns what it stood for."""
        value = self[key]
        del self[key]
        return value

    def clear(self) -> None:
        """Removes everything."""
        for key in self._names():
            del self[key]


def _pairs(entries: Mapping[str, Any] | Iterable[tuple[str, Any]]) -> Iterable[tuple[str, Any]]:
    return entries.items() if isinstance(entries, (Mapping, _Dict)) else entries


class ModuleDict(_Dict):
    """A dict of modules; children are named by their keys.

    Example:
        >>> from volta_mlir import nn
        >>> heads = ModuleDict({"cat": nn.Linear(3, 1), "dog": nn.Linear(3, 1)})
        >>> list(heads), list(heads["dog"].state_dict(prefix="dog."))
        (['cat', 'dog'], ['dog.weight', 'dog.bias'])
    """

    def __init__(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]] | None = None) -> None:
        self.update(modules or {})

    def update(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]]) -> None:
        """Sets the modules of a dict, or of pairs."""
        for key, module in _pairs(modules):
            self[key] = module

    def __setitem__(self, key: str, module: Module) -> None:
        self.add_module(key, self._checked(module))


class ParameterList(_List):
    """A list of parameters, named by their index; tensors become trainable parameters.

    Example:
        >>> scales = ParameterList([[1.0], [2.0, 3.0]])
        >>> [scale.shape for scale in scales], list(scales.state_dict())
        ([(1,), (2,)], ['0', '1'])
    """

    _holds = (Kind.PARAMETER, Kind.FROZEN)

    def __init__(self, values: Iterable[Any] | None = None) -> None:
        self.extend(values or ())

    def append(self, value: Any) -> Self:
        """Adds a parameter at the end."""
        setattr(self, str(len(self)), _as_parameter(value))
        return self

    def extend(self, values: Iterable[Any]) -> Self:
        """Adds parameters at the end."""
        for value in values:
            self.append(value)
        return self

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return type(self)(Parameter(self._get(n), self.is_trainable(n)) for n in self._names()[index])
        return self._get(self._name_of(index))

    def __setitem__(self, index: int, value: Any) -> None:
        setattr(self, self._name_of(index), _kept(value))

    def __iadd__(self, values: Iterable[Any]) -> Self:
        return self.extend(values)

    def extra_repr(self) -> str:
        return "\n".join(_described(i, tensor) for i, tensor in enumerate(self))


class ParameterDict(_Dict):
    """A dict of parameters, named by their keys; tensors become trainable parameters.

    Example:
        >>> table = ParameterDict({"left": [1.0], "right": [2.0]})
        >>> table["right"].tolist(), list(table.state_dict())
        ([2.0], ['left', 'right'])
    """

    _holds = (Kind.PARAMETER, Kind.FROZEN)

    def __init__(self, parameters: Mapping[str, Any] | Iterable[tuple[str, Any]] | None = None) -> None:
        self.update(parameters or {})

    def update(self, parameters: Mapping[str, Any] | Iterable[tuple[str, Any]]) -> None:
        """Sets the parameters of a dict, or of pairs."""
        for key, value in _pairs(parameters):
            self[key] = value

    def __setitem__(self, key: str, value: Any) -> None:
        if key in self:
            setattr(self, key, _kept(value))
        else:
            self.register_parameter(key, _as_parameter(value))

    def extra_repr(self) -> str:
        return "\n".join(_described(key, tensor) for key, tensor in self.items())


def _as_parameter(value: Any) -> Any:
    return value if is_parameter(value) else Parameter(value)


def _kept(value: Any) -> Any:
    """A value for an attribute that stays the kind of parameter that it is, unless it is marked."""
    return value if is_parameter(value) else as_tensor(value)


def _described(name: Any, tensor: Tensor) -> str:
    return f"({name}): Parameter containing: [{tensor.dtype.name} of size {'x'.join(map(str, tensor.shape))}]"
