"""Loads compiled modules and calls their functions. Needs IREE's runtime, not the compiler."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optree

from volta_mlir import tree as trees
from volta_mlir.errors import ArtifactError, DeviceError, DTypeError, ShapeError
from volta_mlir.runtime import signature as signatures
from volta_mlir.runtime.buffer import DeviceBuffer, describe, numpy_dtype, same_storage
from volta_mlir.runtime.checksum import unseal
from volta_mlir.runtime.device import Device, device, iree, reason, require_threads, vm_instance
from volta_mlir.runtime.ending import under_way
from volta_mlir.runtime.prints import lines_of, outputs_of
from volta_mlir.runtime.signature import FunctionSignature, LeafSpec, Signature, Tree


def load(
    source: str | os.PathLike[str] | bytes,
    device: str | Device | None = None,
    *,
    wrap: Callable[[DeviceBuffer], Any] | None = None,
) -> LoadedModule:
    """Loads a ``.vmfb`` that Volta compiled.

    Args:
        source: path of the file, or its contents.
        device: where to run; by default the CPU.
        wrap: applied to each array of a result; by default results are ``DeviceBuffer``.

    Raises:
        ArtifactError: the file is missing or damaged, was not made by Volta, or needs a newer version. Modules of
            other compilers have no signature to check arguments against: run those with ``iree.runtime`` itself.
        DeviceError: there is no such device, or the module was compiled for another kind.
    """
    return LoadedModule(source, device, wrap)


class LoadedModule:
    """A compiled module on a device. Its functions are attributes: ``module.step(model, x)``.

    Attributes:
        functions: every exported function by name.
        signature: names, shapes and dtypes.
        device: where it runs.
    """

    def __init__(
        self,
        source: str | os.PathLike[str] | bytes,
        where: str | Device | None = None,
        wrap: Callable[[DeviceBuffer], Any] | None = None,
    ) -> None:
        """See ``load``."""
        self.device = device(where)
        name, program, self.signature = _open(source)
        runtime = iree()
        hal = runtime.create_hal_module(vm_instance(), self.device.hal)
        try:
            context = runtime.VmContext(vm_instance(), [hal, program])
        except Exception as error:
            raise DeviceError(
                f"{name} does not run on {self.device}: {reason(error)}; was it compiled for another kind of device?"
            ) from None
        lock = threading.Lock()  # a context runs one call at a time
        self.functions: Mapping[str, Function] = {
            f: Function(f, program.lookup_function(f), context, lock, entry, self.device, wrap)
            for f, entry in self.signature.functions.items()
        }

    def __getattr__(self, name: str) -> Function:
        functions: Mapping[str, Function] = self.__dict__.get("functions", {})
        if name in functions:
            return functions[name]
        raise AttributeError(f"this module has no function {name!r}; it has {', '.join(functions)}")

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self.functions]

    def __repr__(self) -> str:
        return f"LoadedModule({', '.join(self.functions)} on {self.device})"


class Function:
    """One exported function.

    Calling it takes trees of arrays (NumPy, ``DeviceBuffer``, anything with ``__dlpack__`` or ``__array__``, Python
    numbers), checks them against the signature, and returns a tree of arrays. ``invoke_flat`` skips all that.

    Attributes:
        name: the exported name.
        signature: what it takes and returns.
        donated_by: who chose the donated arguments, as messages about them say it.
    """

    donated_by = ""

    def __init__(
        self,
        name: str,
        entry: Any,
        context: Any,
        lock: threading.Lock,
        signature: FunctionSignature,
        where: Device,
        wrap: Callable[[DeviceBuffer], Any] | None = None,
    ) -> None:
        self.name = name
        self.signature = signature
        self.device = where
        self._entry = entry
        self._context = context
        self._lock = lock
        self._wrap = wrap
        self._arguments = signature.args.leaves()
        outputs = [*signature.results.leaves(), *outputs_of(signature.prints)]
        self._outputs = [(spec.shape, numpy_dtype(spec.dtype)) for spec in outputs]
        self._donated = [(i, spec) for i, spec in enumerate(self._arguments) if spec.donated is not None]
        self._overwritten = [i for i, spec in self._donated if spec.in_place]
        self._maybe_same = self._find_maybe_same()
        # Looked up once: a call has microseconds.
        self._new_list = iree().VmVariantList
        self._view_type = iree().HalBufferView

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the function. Donated arguments cannot be used afterwards.

        Raises:
            ShapeError: the arguments' structure or a shape is not as the signature says; names the leaf.
            DTypeError: a dtype is not as the signature says; names the leaf.
            DonatedError: an argument was donated to an earlier call.
            DeviceError: an array is on another device, or the call failed.
        """
        with under_way:
            leaves: list[Any] = []
            for name, tree, value in self._bind(args, kwargs):
                _match(tree, value, name, leaves)
            buffers = [
                _to_buffer(value, spec, self.device) for value, spec in zip(leaves, self._arguments, strict=True)
            ]
            results: Sequence[Any] = self.invoke_flat(buffers)
            if self._wrap is not None:
                results = [self._wrap(result) for result in results]
            return self.signature.results.unflatten(iter(results))

    def invoke_flat(self, buffers: Sequence[DeviceBuffer]) -> list[DeviceBuffer]:
        """Calls the function with its leaves in order, which must fit the signature, and returns the results' leaves.

        What ``volta.debug.print`` prints in it is printed then.

        Raises:
            DonatedError: an argument was donated to an earlier call.
            DeviceError: the call failed (donated arguments are lost then), or this process was forked after the device
                had started.
        """
        require_threads()
        passed = self._protect(buffers) if self._overwritten else buffers
        inputs = self._new_list(len(passed))
        for buffer in passed:
            inputs.push_ref(buffer.view.ref)
        outputs = self._new_list(len(self._outputs))
        try:
            with self._lock:
                self._context.invoke(self._entry, inputs, outputs)
        except Exception as error:  # nanobind maps IREE's status codes to various types
            raise DeviceError(f"{self.name}() failed on {self.device}: {reason(error)}") from error
        finally:
            for index, spec in self._donated:
                buffers[index].mark_donated(f"{spec.path} of {self.name}(){self.donated_by}")
        view_type, where = self._view_type, self.device
        results = [
            DeviceBuffer(outputs.get_as_object(i, view_type), shape, dtype, where)
            for i, (shape, dtype) in enumerate(self._outputs)
        ]
        if self.signature.prints:
            count = len(self.signature.results.leaves())
            for line in lines_of(self.signature.prints, [result.numpy() for result in results[count:]]):
                print(line)
            del results[count:]
        for result, argument in self._maybe_same:
            # An argument that is returned unchanged is the same memory: neither may be overwritten from now on.
            if not buffers[argument].donated and same_storage(results[result], buffers[argument]):
                results[result].mark_shared()
                buffers[argument].mark_shared()
        return results

    def _protect(self, buffers: Sequence[DeviceBuffer]) -> list[DeviceBuffer]:
        """The arguments, with copies for those that the call overwrites although somebody else can see them."""
        passed = list(buffers)
        times = Counter(map(id, buffers))
        for index in self._overwritten:
            buffer = buffers[index]
            if times[id(buffer)] > 1 or not buffer.is_private():
                passed[index] = buffer.copy()
        return passed

    def _find_maybe_same(self) -> list[tuple[int, int]]:
        """Pairs of result and argument that could be one buffer: not updated in place, and equally large."""

        def size(spec: LeafSpec) -> int:
            return int(np.prod(spec.shape, dtype=np.int64)) * numpy_dtype(spec.dtype).itemsize

        in_place = {spec.donated for _, spec in self._donated if spec.in_place}
        return [
            (r, a)
            for r, result in enumerate(self.signature.results.leaves())
            if r not in in_place
            for a, argument in enumerate(self._arguments)
            if argument.donated is None and size(result) == size(argument) > 0
        ]

    def _bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[tuple[str, Tree, Any]]:
        """Name, expected tree and value of each argument; keyword arguments come to their places."""
        names = self.signature.arg_names
        values = list(args)
        for name, tree in list(zip(names, self.signature.args.children, strict=True))[len(args) :]:
            if name in kwargs:
                values.append(kwargs.pop(name))
            elif tree.kind == "static":
                values.append(None)
        if kwargs:
            raise ShapeError(f"{self.name}() got unexpected arguments {', '.join(kwargs)}; it takes {', '.join(names)}")
        expected_trees = self.signature.args.children
        if len(values) != len(expected_trees):
            expected = ", ".join(names) or "none"
            raise ShapeError(f"{self.name}() got {len(values)} arguments: expected {len(expected_trees)}, {expected}")
        return list(zip(names, expected_trees, values, strict=True))

    def __repr__(self) -> str:
        def show(specs: Sequence[LeafSpec]) -> str:
            return ", ".join(f"{s.path}: {describe(s.shape, s.dtype)}" for s in specs)

        return f"{self.name}({show(self._arguments)}) -> ({show(self.signature.results.leaves())})"


def read_signature(source: str | os.PathLike[str] | bytes) -> Signature:
    """What a ``.vmfb`` says about itself; starts no device, so that a module for a device that is not here is read too.

    Args:
        source: path of the file, or its contents.

    Raises:
        ArtifactError: the file is missing or damaged, was not made by Volta, or needs a newer version.
    """
    return _open(source)[2]


def _open(source: str | os.PathLike[str] | bytes) -> tuple[str, Any, Signature]:
    """What messages call the module, IREE's module, and the signature."""
    name, data = _read(source)
    try:
        data = unseal(data)
    except ArtifactError as error:
        raise ArtifactError(f"{name} cannot be loaded: {error.message}") from None
    try:
        program = iree().VmModule.copy_buffer(vm_instance(), data)
    except Exception as error:  # nanobind maps IREE's status codes to various types
        raise ArtifactError(
            f"{name} cannot be loaded: {reason(error)}; expected a .vmfb made by this version of IREE"
        ) from None
    reflections = {f: program.lookup_function(f).reflection for f in program.function_names}
    texts = {f: entries[signatures.ATTRIBUTE] for f, entries in reflections.items() if signatures.ATTRIBUTE in entries}
    if not texts:
        raise ArtifactError(f"{name} carries no Volta signature: it was made by another compiler; use iree.runtime")
    try:
        return name, program, signatures.from_json(texts)
    except ArtifactError as error:
        raise ArtifactError(f"{name}: {error.message}") from None


def _read(source: str | os.PathLike[str] | bytes) -> tuple[str, bytes]:
    """What messages call the module, and its contents."""
    if isinstance(source, bytes | bytearray | memoryview):
        return "this module", bytes(source)
    try:
        return str(source), Path(source).read_bytes()
    except OSError as error:
        raise ArtifactError(f"{source} cannot be read: {error.strerror}") from None


def _match(tree: Tree, value: Any, path: str, leaves: list[Any]) -> None:
    """Appends the leaves of ``value`` in ``tree``'s order, or raises ShapeError where the structures differ."""
    if tree.kind == "leaf":
        leaves.append(value)
        return
    if tree.kind == "tied":
        if value is not leaves[tree.index]:
            raise ShapeError(f"{path}: got another array, expected the one that is passed as {tree.name}")
        return
    if tree.kind == "none":
        if value is not None:
            raise ShapeError(f"{path}: got {type(value).__name__}, expected None")
        return
    if tree.kind == "static":
        if value is not None and repr(value) != tree.name:
            raise ShapeError(f"{path}: got {value!r}, but the function was compiled for {tree.name}")
        return
    if tree.kind == "dict":
        entries = _entries(value)
        if entries is None:
            raise ShapeError(f"{path}: got {type(value).__name__}, expected a dict with keys {', '.join(tree.keys)}")
        missing = [k for k in tree.keys if k not in entries]
        extra = [k for k, child in entries.items() if k not in tree.keys and not _is_empty(child)]
        if missing or extra:
            wrong = [f"missing {', '.join(missing)}"] * bool(missing) + [f"unexpected {', '.join(extra)}"] * bool(extra)
            raise ShapeError(f"{path}: wrong keys ({'; '.join(wrong)}); expected {', '.join(tree.keys)}")
        items, names = [entries[k] for k in tree.keys], list(tree.keys)
    else:
        if not isinstance(value, list | tuple):
            raise ShapeError(f"{path}: got {type(value).__name__}, expected a {tree.kind} of {len(tree.children)}")
        if len(value) != len(tree.children):
            raise ShapeError(f"{path}: got {len(value)} elements, expected {len(tree.children)}")
        items, names = list(value), list(tree.keys) or [str(i) for i in range(len(value))]
    for child, item, name in zip(tree.children, items, names, strict=True):
        _match(child, item, f"{path}.{name}", leaves)


def _is_empty(value: Any) -> bool:
    """Whether a value is a module without arrays, such as an activation function, which has no place in a signature."""
    return not isinstance(value, Mapping | list | tuple) and not trees.leaves(value)


def _entries(value: Any) -> dict[str, Any] | None:
    """The entries of a dict, or the children of a module or of another registered container; None for anything else."""
    if isinstance(value, Mapping):
        return {str(key): item for key, item in value.items()}
    if isinstance(value, list | tuple) or optree.tree_is_leaf(value, none_is_leaf=True, namespace=trees.NAMESPACE):
        return None
    children, _, names, _ = optree.tree_flatten_one_level(value, none_is_leaf=True, namespace=trees.NAMESPACE)
    return dict(zip(map(str, names), children, strict=True))


def _to_buffer(value: Any, spec: LeafSpec, where: Device) -> DeviceBuffer:
    """The argument as a buffer that fits ``spec``."""
    if hasattr(value, "__volta_buffer__"):
        value = value.__volta_buffer__()
    if not isinstance(value, DeviceBuffer):
        array = _to_array(value, spec)
        _check(array.shape, array.dtype.name, spec)
        return DeviceBuffer.from_numpy(array, where)
    _check(value.shape, value.dtype.name, spec)
    if value.device != where:
        raise DeviceError(f"{spec.path} is on {value.device}, the module runs on {where}: use .to({str(where)!r})")
    return value


def _to_array(value: Any, spec: LeafSpec) -> np.ndarray[Any, Any]:
    if isinstance(value, bool | int | float) and not isinstance(value, np.generic):
        expected = numpy_dtype(spec.dtype)
        if np.result_type(type(value)).kind not in _FITTING_SCALARS.get(expected.kind, "bif"):
            raise DTypeError(f"{spec.path}: got {value!r}, expected {describe(spec.shape, spec.dtype)}")
        try:
            return np.asarray(value, dtype=expected)
        except OverflowError:
            raise DTypeError(f"{spec.path}: {value!r} does not fit {spec.dtype}") from None
    if hasattr(value, "__array__") and not hasattr(value, "__dlpack__"):
        return np.asarray(value)
    if hasattr(value, "__dlpack__") and not isinstance(value, np.ndarray | np.generic):
        return DeviceBuffer.from_dlpack(value).numpy()
    array = np.asarray(value)
    if array.dtype == np.object_:
        raise DTypeError(
            f"{spec.path}: got {type(value).__name__}, expected an array {describe(spec.shape, spec.dtype)}"
        )
    return array


# Which kinds of Python numbers an array takes, by the kind of its dtype. bfloat16 has a kind of its own.
_FITTING_SCALARS = {"b": "b", "i": "bi", "u": "bi", "f": "bif"}


def _check(shape: tuple[int, ...], dtype: str, spec: LeafSpec) -> None:
    if tuple(shape) != spec.shape:
        raise ShapeError(f"{spec.path}: got {describe(shape, dtype)}, expected {describe(spec.shape, spec.dtype)}")
    if dtype != spec.dtype:
        raise DTypeError(
            f"{spec.path}: got {describe(shape, dtype)}, expected {describe(spec.shape, spec.dtype)}; "
            f"convert it with .astype({spec.dtype!r})"
        )
