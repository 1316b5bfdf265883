"""Module: a pytree whose leaves are parameters and buffers, and whose other attributes are static.

optree flattens a module into its children (parameters, buffers, sub-modules) and a :class:`_Structure` that holds the
rest. Every call of a compiled function flattens its modules, so structures are cached in the instances, and equal
structures are one object: comparing two trees then compares pointers.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple, Self

import numpy as np
import optree

from volta_mlir import static, trace
from volta_mlir.calls import as_argument, is_tensor_like
from volta_mlir.dtypes import TensorSpec, as_dtype, is_float
from volta_mlir.errors import DTypeError, ShapeError
from volta_mlir.tensor import Tensor
from volta_mlir.tree import NAMESPACE


class Kind(Enum):
    """What a child of a module is."""

    PARAMETER = "parameter"
    FROZEN = "frozen parameter"
    BUFFER = "buffer"
    TRANSIENT = "non-persistent buffer"  # state that is no part of the state_dict
    CHILD = "child"  # a module, or a container of modules


_PARAMETERS = (Kind.PARAMETER, Kind.FROZEN)
_BUFFERS = (Kind.BUFFER, Kind.TRANSIENT)


@dataclass(frozen=True, eq=False)
class _Marked:
    """A tensor on its way into a module's attribute."""

    tensor: Tensor | TensorSpec
    kind: Kind


# Functions, not classes, and typed as Any: the attribute that takes the marker holds the plain tensor.


def Parameter(value: Any, trainable: bool = True) -> Any:
    """Marks a tensor as a parameter of the module that it is assigned to; the attribute holds the plain tensor.

    Args:
        value: a tensor, an array, nested lists of numbers, or a spec.
        trainable: whether ``grad`` differentiates it; a frozen parameter may have any dtype.

    Raises:
        DTypeError: a trainable parameter of a dtype that has no derivatives.

    >>> class Scale(Module):
    ...     def __init__(self):
    ...         self.factor = Parameter(2.0)
    ...     def forward(self, x):
    ...         return self.factor * x
    >>> Scale()(3.0).item()
    6.0
    """
    tensor = _as_leaf(value)
    if trainable and not is_float(tensor.dtype):
        raise DTypeError(f"a trainable parameter has a floating-point dtype, got {tensor.dtype}; pass trainable=False")
    return _Marked(tensor, Kind.PARAMETER if trainable else Kind.FROZEN)


def Buffer(value: Any, persistent: bool = True) -> Any:
    """Marks a tensor as state that is not trained, such as running statistics.

    Assigning the attribute later gives it a new value of the same shape and dtype, also inside a compiled function.

    Args:
        value: a tensor, an array, nested lists of numbers, or a spec.
        persistent: whether it is part of the ``state_dict``.

    >>> class Counter(Module):
    ...     def __init__(self):
    ...         self.calls = Buffer(0)
    ...     def forward(self, x):
    ...         self.calls = self.calls + 1
    ...         return x
    >>> counter = Counter()
    >>> _ = counter(1.0), counter(1.0)
    >>> counter.calls.item()
    2
    """
    return _Marked(_as_leaf(value), Kind.BUFFER if persistent else Kind.TRANSIENT)


def is_parameter(value: Any) -> bool:
    """Whether a value is marked as a :func:`Parameter`.

    >>> is_parameter(Parameter([1.0])), is_parameter(Tensor([1.0]))
    (True, False)
    """
    return isinstance(value, _Marked) and value.kind in _PARAMETERS


def _as_leaf(value: Any) -> Tensor | TensorSpec:
    if isinstance(value, TensorSpec):
        return value
    return as_argument(value) if is_tensor_like(value) else Tensor(value)


class IncompatibleKeys(NamedTuple):
    """What :meth:`Module.load_state_dict` found to differ.

    Attributes:
        missing_keys: names in the module, not in the state.
        unexpected_keys: names in the state, not in the module.
    """

    missing_keys: list[str]
    unexpected_keys: list[str]


class _Watch(threading.local):
    observer: Callable[[Module, Any], None] | None = None


_watch = _Watch()


@contextmanager
def watching(observer: Callable[[Module, Any], None]) -> Iterator[None]:
    """Has ``observer(module, result)`` called after every call of a module on this thread.

    >>> from volta_mlir import nn
    >>> with watching(lambda module, result: print(type(module).__name__, result.shape)):
    ...     _ = nn.Sequential(nn.Flatten(), nn.ReLU())(Tensor([[[1.0, 2.0]]]))
    Flatten (1, 2)
    ReLU (1, 2)
    Sequential (1, 2)
    """
    before, _watch.observer = _watch.observer, observer
    try:
        yield
    finally:
        _watch.observer = before


class _Structure:
    """A module without its children: equal ones are one object, as long as they are made by :meth:`of`.

    Attributes:
        cls: the module's class.
        kinds: the kind of each child by name, in order; never changed in place.
        names: the children's names.
        statics: the other attributes.
        mutable: names of those statics that instances must not share.
        stable: whether an instance can change only by assignment to its attributes.
    """

    __slots__ = ("__weakref__", "cls", "kinds", "mutable", "names", "stable", "statics")

    def __init__(self, cls: type[Module], kinds: dict[str, Kind], statics: dict[str, Any], stable: bool) -> None:
        self.cls, self.kinds, self.stable = cls, kinds, stable
        self.names = tuple(kinds)
        self.statics = {name: static.copied(value) for name, value in statics.items()}
        self.mutable = tuple(name for name, value in statics.items() if static.is_mutable(value))

    @classmethod
    def of(cls, module: Module) -> _Structure:
        """The structure of a module."""
        kinds, stable, statics, keys = module._kinds, True, {}, []
        for name, value in vars(module).items():
            if name in _OWN:
                continue
            if name in kinds:
                stable &= isinstance(value, (Tensor, Module)) or not static.is_mutable(value)
                continue
            try:
                keys.append((name, static.key(value)))
            except TypeError:
                raise TypeError(
                    f"{type(module).__name__}.{name} holds a {type(value).__name__}, which is neither a parameter, a"
                    " buffer, a module nor hashable; static attributes are compared by value: make its class a frozen"
                    " dataclass"
                ) from None
            stable &= not static.is_mutable(value)
            statics[name] = value
        key = (type(module), tuple(kinds.items()), frozenset(keys), stable)
        with _lock:
            structure = _structures.get(key)
            if structure is None:
                structure = _structures[key] = cls(type(module), kinds, statics, stable)
        return structure


_structures: weakref.WeakValueDictionary[Any, _Structure] = weakref.WeakValueDictionary()
_lock = threading.Lock()

# Attributes of every instance that are no part of its state.
_OWN = frozenset({"_kinds", "_structure"})


def _flatten(module: Module) -> tuple[list[Any], _Structure, tuple[str, ...]]:
    structure = module._structure or module._settle()
    state = module.__dict__
    return [state[name] for name in structure.names], structure, structure.names


def _unflatten(structure: _Structure, children: Any) -> Module:
    module = object.__new__(structure.cls)
    state = module.__dict__
    state["_kinds"] = structure.kinds
    state["_structure"] = structure if structure.stable else None
    state.update(structure.statics)
    for name in structure.mutable:
        state[name] = static.copied(state[name])
    state.update(zip(structure.names, children, strict=True))
    return module


def _register(cls: type[Module]) -> None:
    optree.register_pytree_node(
        cls,  # type: ignore[arg-type]  # optree's types want a Collection
        _flatten,  # type: ignore[arg-type]
        _unflatten,  # type: ignore[arg-type]
        path_entry_type=optree.GetAttrEntry,
        namespace=NAMESPACE,
    )


class Module:
    """Base of layers and models: attributes that hold tensors, and a ``forward`` that uses them.

    A subclass assigns its tensors as :func:`Parameter` or :func:`Buffer`; the attribute holds the plain tensor, and
    later assignments to it keep its kind. Attributes that are modules, or lists, tuples and dicts of modules and
    parameters, are children. All other attributes are static: a part of the program, compared by value. Changing one
    makes compiled functions trace again.

    A module is a pytree: it is passed to and returned from compiled functions like any container of tensors. Use
    ``super().__init__()`` or not, as you like.

    Attributes:
        training: whether layers behave as in training; :meth:`train` and :meth:`eval` set it.

    Example:
        >>> class Affine(Module):
        ...     def __init__(self, weight, bias):
        ...         self.weight, self.bias = Parameter(weight), Parameter(bias)
        ...     def forward(self, x):
        ...         return x @ self.weight + self.bias
        >>> model = Affine([[2.0]], [1.0])
        >>> model(Tensor([[3.0]])).tolist()
        [[7.0]]
        >>> [name for name, _ in model.named_parameters()]
        ['weight', 'bias']
    """

    training: bool
    _kinds: dict[str, Kind]
    _structure: _Structure | None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        _register(cls)

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        self = super().__new__(cls)
        self.__dict__.update(_kinds={}, _structure=None, training=True)
        return self

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What calling the module computes; subclasses define it."""
        raise NotImplementedError(f"{type(self).__name__} defines no forward()")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._structure is None:
            self._settle()  # parameters may have joined a list
        result = self.forward(*args, **kwargs)
        if _watch.observer is not None:
            _watch.observer(self, result)
        return result

    # -- attributes ----------------------------------------------------------------------------------------------

    def __setattr__(self, name: str, value: Any) -> None:
        if hasattr(getattr(type(self), name, None), "__set__"):  # a property
            super().__setattr__(name, value)
            return
        kind = self._kinds.get(name)
        if is_tensor_like(value):
            if kind in _BUFFERS:
                self._write_buffer(name, value)
                return
            if kind in _PARAMETERS:
                self.__dict__[name] = _as_leaf(value)
                return
        self._place(name, *self._classify(name, value, kind))

    def __delattr__(self, name: str) -> None:
        super().__delattr__(name)
        self._set_kind(name, None)

    def _place(self, name: str, value: Any, kind: Kind | None) -> None:
        if isinstance(value, np.ndarray) and value.flags.writeable:
            value = value.copy()  # static: a later write to the array would go unnoticed, so let it fail
            value.flags.writeable = False
        self.__dict__[name] = value
        self._set_kind(name, kind)

    def _set_kind(self, name: str, kind: Kind | None) -> None:
        kinds = {n: k for n, k in self._kinds.items() if n != name} if kind is None else {**self._kinds, name: kind}
        self.__dict__.update(_kinds=kinds, _structure=None)

    def _classify(self, name: str, value: Any, kind: Kind | None) -> tuple[Any, Kind | None]:
        """What an attribute holds after the assignment of ``value``, and its kind: None for a static one.

        ``kind`` is that of the attribute so far.
        """
        if isinstance(value, _Marked):
            return value.tensor, value.kind
        if isinstance(value, Module):
            return value, Kind.CHILD
        here = f"{type(self).__name__}.{name}"
        if isinstance(value, (Tensor, TensorSpec)):
            raise TypeError(f"{here} = {value!r}: wrap a tensor in nn.Parameter, or in nn.Buffer if it is not trained")
        if optree.tree_is_leaf(value, none_is_leaf=True, namespace=NAMESPACE):
            if value is None and kind in _PARAMETERS:
                return None, kind  # a parameter that is left out, or a gradient that is not there
            if kind in (*_PARAMETERS, *_BUFFERS):
                raise TypeError(f"{here} is a {kind.value}; it can't become a {type(value).__name__}")
            return value, None
        leaves, treedef = _flatten_container(value)
        kinds = {leaf.kind for leaf in leaves if isinstance(leaf, _Marked)}
        if not kinds.isdisjoint(_BUFFERS):
            raise TypeError(f"{here}: a Buffer needs an attribute of its own, not a place in a {type(value).__name__}")
        if kind in _PARAMETERS:
            kinds.add(kind)
        if len(kinds) > 1:
            raise TypeError(f"{here}: trainable and frozen parameters need attributes of their own")
        if not kinds and any(isinstance(leaf, (Tensor, TensorSpec)) for leaf in leaves):
            raise TypeError(f"{here}: wrap each tensor of a {type(value).__name__} in nn.Parameter")
        if any(isinstance(leaf, _Marked) for leaf in leaves):
            plain = (leaf.tensor if isinstance(leaf, _Marked) else leaf for leaf in leaves)
            value = optree.tree_unflatten(treedef, plain)
        if kinds:
            return value, kinds.pop()
        return value, Kind.CHILD if any(isinstance(leaf, Module) for leaf in leaves) else None

    def _settle(self) -> _Structure:
        """Takes in what was done to the module's lists and dicts since they were assigned; returns the structure."""
        for name, value in list(self.__dict__.items()):
            if name not in _OWN and static.is_mutable(value):
                before = self._kinds.get(name)
                value, kind = self._classify(name, value, before)
                self.__dict__[name] = value
                # A child stays one, whatever a transformation puts in its place (a gradient may hold None).
                if kind is not None and kind is not before:
                    self._set_kind(name, kind)
        structure = _Structure.of(self)
        if structure.stable:
            self.__dict__["_structure"] = structure
        return structure

    def is_buffer(self, name: str) -> bool:
        """Whether the attribute is a buffer."""
        return self._kinds.get(name) in _BUFFERS

    def is_trainable(self, name: str) -> bool:
        """Whether the attribute is a trainable parameter, or a container of such."""
        return self._kinds.get(name) is Kind.PARAMETER

    def restore_buffer(self, name: str, value: Any) -> None:
        """Sets a buffer to ``value`` without noting a write."""
        self.__dict__[name] = value

    def _write_buffer(self, name: str, value: Any) -> None:
        old = self.__dict__[name]
        if isinstance(old, (Tensor, TensorSpec)):
            here = f"{type(self).__name__}.{name}"
            if isinstance(value, (int, float)):  # weak, as in an operation with the buffer
                value = Tensor(value, old.dtype)
            value = _as_leaf(value)
            if value.shape != old.shape:
                raise ShapeError(f"buffer {here} has shape {old.shape}, got {value.shape}")
            if value.dtype != old.dtype:
                raise DTypeError(f"buffer {here} has dtype {old.dtype}, got {value.dtype}")
        trace.record_buffer_write(self, name, old)
        self.__dict__[name] = value

    # -- leaves --------------------------------------------------------------------------------------------------

    def named_parameters(self, prefix: str = "", recurse: bool = True) -> Iterator[tuple[str, Tensor]]:
        """The parameters with their dotted names; a tied one comes once, under its first name.

        Args:
            prefix: goes before every name, with a dot.
            recurse: whether those of the modules inside come too.
        """
        return self._named_leaves(_PARAMETERS, prefix, recurse)

    def parameters(self, recurse: bool = True) -> Iterator[Tensor]:
        """The parameters; a tied one comes once."""
        return (tensor for _, tensor in self.named_parameters(recurse=recurse))

    def named_buffers(self, prefix: str = "", recurse: bool = True) -> Iterator[tuple[str, Tensor]]:
        """The buffers with their dotted names; a tied one comes once, under its first name."""
        return self._named_leaves(_BUFFERS, prefix, recurse)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """The buffers; a tied one comes once."""
        return (tensor for _, tensor in self.named_buffers(recurse=recurse))

    def get_parameter(self, target: str) -> Tensor:
        """The parameter of a dotted name; AttributeError where there is none.

        >>> from volta_mlir import nn
        >>> nn.Sequential(nn.Linear(3, 2)).get_parameter("0.weight").shape
        (2, 3)
        """
        return self._get_leaf(target, _PARAMETERS, "parameter")

    def get_buffer(self, target: str) -> Tensor:
        """The buffer of a dotted name; AttributeError where there is none."""
        return self._get_leaf(target, _BUFFERS, "buffer")

    def _get_leaf(self, target: str, kinds: tuple[Kind, ...], what: str) -> Tensor:
        for name, kind, leaf in _walk(self):
            if name == target and kind in kinds and leaf is not None:
                return leaf
        raise AttributeError(f"{type(self).__name__} has no {what} {target!r}")

    def _named_leaves(self, kinds: tuple[Kind, ...], prefix: str, recurse: bool) -> Iterator[tuple[str, Tensor]]:
        seen = set()
        for name, kind, leaf in _walk(self, f"{prefix}." if prefix else "", recurse):
            if kind in kinds and leaf is not None and id(leaf) not in seen:
                seen.add(id(leaf))
                yield name, leaf

    # -- modules -------------------------------------------------------------------------------------------------

    def named_modules(self) -> Iterator[tuple[str, Module]]:
        """This module under the name ``""``, then those inside it with their dotted names, each once."""
        return _named_modules("", self, set())

    def modules(self) -> Iterator[Module]:
        """This module, then those inside it, each once."""
        return (module for _, module in self.named_modules())

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The modules directly inside this one, also those in its lists and dicts, with their names, each once.

        >>> from volta_mlir import nn
        >>> [name for name, _ in nn.Sequential(nn.ReLU(), nn.Sequential(nn.Tanh())).named_children()]
        ['0', '1']
        """
        seen = set()
        for name, module in _direct_modules(self):
            if id(module) not in seen:
                seen.add(id(module))
                yield name, module

    def children(self) -> Iterator[Module]:
        """The modules directly inside this one, each once."""
        return (module for _, module in self.named_children())

    def get_submodule(self, target: str) -> Module:
        """The module of a dotted name, this one for ``""``; AttributeError where there is none.

        >>> from volta_mlir import nn
        >>> nn.Sequential(nn.ReLU(), nn.Sequential(nn.Tanh())).get_submodule("1.0")
        Tanh()
        """
        if not target:
            return self
        for name, module in _direct_modules(self):
            if target == name or target.startswith(f"{name}."):
                return module.get_submodule(target[len(name) + 1 :])
        raise AttributeError(f"{type(self).__name__} has no module {target!r}")

    def apply(self, fn: Callable[[Module], Any]) -> Self:
        """Calls ``fn`` with every module inside, then with this one; returns this one.

        >>> from volta_mlir import nn
        >>> model = nn.Sequential(nn.ReLU(), nn.Tanh()).apply(lambda module: print(type(module).__name__))
        ReLU
        Tanh
        Sequential
        """
        for module in self.children():
            module.apply(fn)
        fn(self)
        return self

    # -- registration --------------------------------------------------------------------------------------------

    def register_parameter(self, name: str, param: Any) -> None:
        """Sets the attribute ``name`` to a parameter, a :func:`Parameter` or None."""
        self._register(name, param, param is None or is_parameter(param))

    def register_buffer(self, name: str, tensor: Any, persistent: bool = True) -> None:
        """Sets the attribute ``name`` to a :func:`Buffer` of this value, or None.

        >>> module = Module()
        >>> module.register_buffer("steps", 0)
        >>> list(module.state_dict())
        ['steps']
        """
        self._register(name, None if tensor is None else Buffer(tensor, persistent), True)

    def add_module(self, name: str, module: Module | None) -> None:
        """Sets the attribute ``name`` to a module inside this one, or None."""
        self._register(name, module, module is None or isinstance(module, Module))

    register_module = add_module

    def _register(self, name: str, value: Any, fits: bool) -> None:
        here = f"{type(self).__name__}.{name}"
        if not fits:
            raise TypeError(f"{here}: a {type(value).__name__} is not what can be registered here")
        if not name or "." in name:
            raise KeyError(f"a name can't be empty or contain a dot, got {name!r}")
        if hasattr(self, name) and name not in self._kinds and getattr(self, name) is not None:
            raise KeyError(f"attribute {here} already exists")
        setattr(self, name, value)

    # -- dtypes --------------------------------------------------------------------------------------------------

    def to(self, dtype: Any) -> Self:
        """Converts the floating-point parameters and buffers, here and in every module inside; returns the module.

        Args:
            dtype: a floating-point dtype. There is no device to name: a compiled function has one
                (``volta.jit(f, device=…)``) and brings its arguments there.

        Raises:
            DTypeError: what is given is not a floating-point dtype.

        >>> from volta_mlir import nn
        >>> nn.Linear(2, 2).to("bfloat16").weight.dtype.name
        'bfloat16'
        """
        try:
            target = as_dtype(dtype)
        except DTypeError:
            target = None
        if target is None or not is_float(target):
            raise DTypeError(
                f"Module.to takes a floating-point dtype, got {dtype!r}; modules have no device: a compiled function"
                " brings its arguments to its own, volta.jit(f, device=…)"
            )
        converted: dict[int, Any] = {}  # tied tensors stay tied

        def convert(name: str, leaf: Any) -> Any:
            if isinstance(leaf, TensorSpec):
                return leaf.with_dtype(target) if is_float(leaf.dtype) else leaf
            if not isinstance(leaf, Tensor) or not is_float(leaf.dtype):
                return leaf
            return converted.setdefault(id(leaf), leaf.astype(target))

        _replace_leaves(self, convert)
        return self

    def half(self) -> Self:
        """``to("float16")``."""
        return self.to("float16")

    def bfloat16(self) -> Self:
        """``to("bfloat16")``."""
        return self.to("bfloat16")

    def float(self) -> Self:
        """``to("float32")``."""
        return self.to("float32")

    def double(self) -> Self:
        """``to("float64")``."""
        return self.to("float64")

    # -- modes ---------------------------------------------------------------------------------------------------

    def train(self, mode: bool = True) -> Self:
        """Sets ``training`` here and in every module inside; returns the module."""
        for module in self.modules():
            if module.training != mode:
                module.training = mode
        return self

    def eval(self) -> Self:
        """``train(False)``."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Makes the parameters here and in every module inside trainable or frozen; returns the module.

        Parameters of integer dtypes stay frozen.
        """
        new = Kind.PARAMETER if requires_grad else Kind.FROZEN
        for module in self.modules():
            for name, kind in module._kinds.items():
                if kind in _PARAMETERS and kind is not new and _is_trainable(module.__dict__[name]):
                    module._set_kind(name, new)
        return self

    def freeze(self) -> Self:
        """``requires_grad_(False)``: ``grad`` leaves the parameters alone, and they cost nothing there."""
        return self.requires_grad_(False)

    def unfreeze(self) -> Self:
        """``requires_grad_(True)``."""
        return self.requires_grad_(True)

    # -- state ---------------------------------------------------------------------------------------------------

    def state_dict(self, prefix: str = "") -> dict[str, Tensor]:
        """Every parameter and persistent buffer by its dotted name; names and layouts are PyTorch's.

        Args:
            prefix: goes before every name, as it is.

        >>> from volta_mlir import nn
        >>> {name: tensor.shape for name, tensor in nn.Sequential(nn.Linear(3, 2), nn.ReLU()).state_dict().items()}
        {'0.weight': (2, 3), '0.bias': (2,)}
        """
        return {
            name: leaf
            for name, kind, leaf in _walk(self, prefix)
            if kind in (*_PARAMETERS, Kind.BUFFER) and leaf is not None
        }

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> IncompatibleKeys:
        """Sets parameters and buffers, in place, to copies of those in ``state_dict``, converted to the dtypes here.

        Args:
            state_dict: arrays by name: Tensors, numpy arrays, PyTorch tensors. Of the names of a tied parameter it
                needs one, and tied parameters stay tied.
            strict: whether missing and unexpected names are errors.

        Returns:
            The names that are missing and those that are unexpected.

        Raises:
            ShapeError: names are missing or unexpected, shapes differ, or the names of a tied parameter have different
                values; the message lists all of it. Nothing is changed then.
            TraceError: a value is traced and has no data yet.
        """
        own = self.state_dict()
        groups: dict[int, list[str]] = {}  # the names of each distinct tensor
        for name, leaf in own.items():
            groups.setdefault(id(leaf), []).append(name)
        loaded: dict[str, Tensor] = {}
        missing, problems = [], []
        for names in groups.values():
            target, given = own[names[0]], [name for name in names if name in state_dict]
            if not given:
                missing += names
                continue
            arrays = [_to_numpy(state_dict[name]) for name in given]
            for name, array in zip(given, arrays, strict=True):
                if array.shape != target.shape:
                    problems.append(f"{name}: expected shape {target.shape}, got {array.shape}")
                elif any(
                    array is not first and not np.array_equal(array, first, equal_nan=True) for first in arrays[:1]
                ):
                    problems.append(f"{name}: is tied to {given[0]}, but the values differ")
            tensor = Tensor(np.array(arrays[0], dtype=target.dtype))  # a copy: nobody else may write to it
            loaded.update(dict.fromkeys(names, tensor))
        unexpected = [name for name in state_dict if name not in own]
        if strict and missing:
            problems.append(f"missing: {', '.join(missing)}")
        if strict and unexpected:
            problems.append(f"unexpected: {', '.join(unexpected)}")
        if problems:
            lines = "".join(f"\n  {problem}" for problem in problems)
            raise ShapeError(f"the state does not fit {type(self).__name__}:{lines}")
        _replace_leaves(self, lambda name, leaf: loaded.get(name, leaf))
        return IncompatibleKeys(missing, unexpected)

    # -- Python --------------------------------------------------------------------------------------------------

    def extra_repr(self) -> str:
        """What ``repr`` shows between the parentheses; subclasses define it."""
        return ""

    def __repr__(self) -> str:
        extra, inside = self.extra_repr().splitlines(), self._repr_of_children()
        if len(extra) <= 1 and not inside:
            return f"{type(self).__name__}({''.join(extra)})"
        return "\n".join([f"{type(self).__name__}(", *(f"  {line}" for line in (*extra, *inside)), ")"])

    def _repr_of_children(self) -> list[str]:
        """The lines that ``repr`` shows for the modules inside."""
        return [line for name, module in _direct_modules(self) for line in f"({name}): {module!r}".splitlines()]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_structure": None}


_register(Module)


# -- trees of modules ------------------------------------------------------------------------------------------------


def _flatten_container(tree: Any) -> tuple[list[Any], Any]:
    """The leaves of a tree in which modules are leaves too."""
    return optree.tree_flatten(tree, is_leaf=_is_module, none_is_leaf=True, namespace=NAMESPACE)


def _is_module(value: Any) -> bool:
    return isinstance(value, Module)


def _entries(tree: Any) -> Iterator[tuple[str, Any]]:
    """The leaves of a tree in which modules are leaves too, each with its path as a suffix: ``.0.weight``."""
    accessors, leaves, _ = optree.tree_flatten_with_accessor(
        tree, is_leaf=_is_module, none_is_leaf=True, namespace=NAMESPACE
    )
    for accessor, leaf in zip(accessors, leaves, strict=True):
        yield "".join(f".{entry.entry}" for entry in accessor), leaf


def _walk(module: Module, prefix: str = "", recurse: bool = True) -> Iterator[tuple[str, Kind, Any]]:
    """(dotted name, kind, leaf) of every leaf, in the order of :func:`volta_mlir.tree.flatten`."""
    structure = module._structure or module._settle()
    for name, kind in structure.kinds.items():
        for suffix, leaf in _entries(module.__dict__[name]):
            path = f"{prefix}{name}{suffix}"
            if not isinstance(leaf, Module):
                yield path, kind, leaf
            elif recurse:
                yield from _walk(leaf, f"{path}.")


def _direct_modules(module: Module) -> Iterator[tuple[str, Module]]:
    structure = module._structure or module._settle()
    for name in structure.names:
        for suffix, leaf in _entries(module.__dict__[name]):
            if isinstance(leaf, Module):
                yield f"{name}{suffix}", leaf


def _named_modules(path: str, module: Module, seen: set[int]) -> Iterator[tuple[str, Module]]:
    if id(module) in seen:
        return
    seen.add(id(module))
    yield path, module
    for name, child in _direct_modules(module):
        yield from _named_modules(f"{path}.{name}" if path else name, child, seen)


def _replace_leaves(module: Module, function: Callable[[str, Any], Any], prefix: str = "") -> None:
    """Sets each leaf of a module to ``function(name, leaf)``, in place."""
    for name in (module._structure or module._settle()).names:
        entries = list(_entries(module.__dict__[name]))
        new = []
        for suffix, leaf in entries:
            path = f"{prefix}{name}{suffix}"
            if isinstance(leaf, Module):
                _replace_leaves(leaf, function, f"{path}.")
                new.append(leaf)
            else:
                new.append(function(path, leaf))
        if any(leaf is not value for (_, leaf), value in zip(entries, new, strict=True)):
            module.__dict__[name] = optree.tree_unflatten(_flatten_container(module.__dict__[name])[1], new)


def _is_trainable(value: Any) -> bool:
    return all(is_float(leaf.dtype) for _, leaf in _entries(value) if isinstance(leaf, (Tensor, TensorSpec)))


def _to_numpy(value: Any) -> np.ndarray:
    if hasattr(value, "detach"):  # a PyTorch tensor
        value = value.detach().cpu()
        if str(value.dtype) == "torch.bfloat16":  # numpy does not know it; float32 holds every value of it
            value = value.float()
    return np.asarray(value)
