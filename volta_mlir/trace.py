"""How Python calls become ops: emitters, function traces, captures and locations.

A thread has a stack of emitters. With none, ops on Tensors are evaluated at once by their references. The top one
otherwise receives every op: a :class:`FunctionTrace` while the user's function is being traced, a plain
:class:`Emitter` while a pass runs an op's rules. The MLIR module is the only graph there is.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from volta_mlir import debug
from volta_mlir.dtypes import TensorSpec
from volta_mlir.errors import AliasError, NaNError, TraceError
from volta_mlir.frames import user_frames
from volta_mlir.mlir import context, func, ir, spec_of, tensor_type
from volta_mlir.runtime.prints import Record
from volta_mlir.tensor import Tensor

#: Arrays up to this size that a traced function captures become constants; larger ones become hidden arguments.
MAX_CONSTANT_BYTES = 1024


class _Stack(threading.local):
    def __init__(self) -> None:
        self.emitters: list[Emitter] = []


_stack = _Stack()


def current() -> Emitter | None:
    """The emitter that receives ops on this thread, None outside every trace and pass."""
    return _stack.emitters[-1] if _stack.emitters else None


# -- locations ---------------------------------------------------------------------------------------------------

_locations: dict[tuple[tuple[str, int], ...], Any] = {}


def _current_location() -> Any:
    """The user's line as an MLIR location; the lines that led there are its call sites."""
    frames = tuple(user_frames(16, _TRACE_ENTRY))
    if frames not in _locations:
        files = [ir.Location.file(name, line, 0, context()) for name, line in frames]
        if not files:
            _locations[frames] = ir.Location.unknown(context())
        else:
            _locations[frames] = files[0] if len(files) == 1 else ir.Location.callsite(files[0], files[1:], context())
    return _locations[frames]


# -- emitters ----------------------------------------------------------------------------------------------------


class Emitter:
    """Receives ops at an insertion point; passes use it to run the ops' rules.

    Args:
        insertion_point: where ops go.
        location: the location that they get.
    """

    def __init__(self, insertion_point: Any, location: Any) -> None:
        self.insertion_point = insertion_point
        self.location = location

    def current_location(self) -> Any:
        return self.location

    def lift(self, tensor: Tensor) -> Any:
        """The MLIR value of a tensor; a concrete tensor becomes a constant."""
        return tensor._value if tensor.is_traced else self.constant(tensor.numpy())

    def wrap(self, value: Any) -> Tensor:
        """An MLIR value as a traced tensor."""
        return Tensor._traced(value, spec_of(value.type), self)

    def constant(self, array: np.ndarray) -> Any:
        """A ``volta.constant`` holding ``array``."""
        from volta_mlir.dialects.creation import ConstantOp

        return self.emit(ConstantOp, [], [], {"value": array})[0]

    def emit(
        self, op: Any, values: Sequence[Any], specs: Sequence[TensorSpec], attributes: dict[str, Any]
    ) -> list[Any]:
        """Creates one op; returns its result values."""
        inferred = op.infer_all(*specs, **attributes)
        operation = ir.Operation.create(
            op.OPERATION_NAME,
            results=[tensor_type(s) for s in inferred],
            operands=values,
            attributes=op.encode(attributes),
            loc=self.current_location(),
            ip=self.insertion_point,
        )
        return list(operation.results)

    def __enter__(self) -> Emitter:
        _stack.emitters.append(self)
        return self

    def __exit__(self, *exc: object) -> None:
        _stack.emitters.pop()


class FunctionTrace(Emitter):
    """Builds one ``func.func`` from a Python function; tensors from outside are captured as further arguments.

    After the trace, ``captures[i]`` is the outer Tensor (concrete, or traced by ``parent``) that belongs to argument
    ``len(arg_specs) + i``.
    """

    def __init__(self, module: Any, name: str, arg_specs: Sequence[TensorSpec], *, private: bool) -> None:
        parent = current()
        if parent is not None and not isinstance(parent, FunctionTrace):
            raise TraceError("a function can't be traced inside an op's rule")
        self.parent: FunctionTrace | None = parent
        self.module = module
        self.captures: list[Tensor] = []
        self._captured: dict[int, Any] = {}
        self._constants: dict[int, Any] = {}
        # Shared with the functions traced inside: concrete tensors that are constants of the program, and the tensors
        # of NumPy arrays.
        self.baked: dict[int, Tensor] = parent.baked if parent else {}
        self.arrays: dict[tuple[int, str], tuple[np.ndarray, Tensor]] = parent.arrays if parent else {}
        #: What ``debug.print`` was called with, and the values.
        self.prints: list[tuple[Record, list[Tensor]]] = []
        # Assigned buffers, by their modules' identity and their names: the module, and where it is not one of the
        # trace's own, the value to put back.
        self._assigned: dict[tuple[int, str], tuple[Any, Tensor | None]] = {}
        with context(), ir.Location.unknown():
            types = [tensor_type(s) for s in arg_specs]
            self.function = func.FuncOp(
                name, (types, []), visibility="private" if private else None, ip=ir.InsertionPoint(module.body)
            )
            self.block = self.function.add_entry_block()
        super().__init__(ir.InsertionPoint(self.block), None)
        self.arguments = [self.wrap(v) for v in self.block.arguments]

    @property
    def name(self) -> str:
        return self.function.sym_name.value

    def current_location(self) -> Any:
        return _current_location()

    def lift(self, tensor: Tensor) -> Any:
        if tensor._emitter is self:
            return tensor._value
        if id(tensor) in self._captured:
            return self._captured[id(tensor)]
        if not tensor.is_traced and tensor.nbytes <= MAX_CONSTANT_BYTES:
            if id(tensor) not in self._constants:
                self._constants[id(tensor)] = (self.constant(tensor.numpy()), tensor)
                self.baked[id(tensor)] = tensor
            return self._constants[id(tensor)][0]
        return self._capture(tensor)

    def _capture(self, tensor: Tensor) -> Any:
        if tensor.is_traced and not self._is_nested_in(tensor._emitter):
            raise TraceError(
                f"{tensor!r} belongs to a trace that has ended, or to another function's trace; it leaked out"
                " through a global, a closure or an attribute. Return it from the traced function instead"
            )
        if id(tensor) not in self._captured:
            self._captured[id(tensor)] = self.block.add_argument(
                tensor_type(tensor.spec), ir.Location.unknown(context())
            )
            self.captures.append(tensor)  # also keeps the tensor alive, so that its id stays its own
        return self._captured[id(tensor)]

    def capture_state(self, tensor: Tensor) -> None:
        """Makes a tensor from outside an argument, however small, because each call may find another value there."""
        argument = self._capture(tensor)
        if id(tensor) in self._constants:
            constant, _ = self._constants.pop(id(tensor))
            constant.replace_all_uses_with(argument)
            del self.baked[id(tensor)]

    def note_buffer_write(self, module: Any, name: str, old: Any) -> None:
        """See :func:`record_buffer_write`."""
        if (id(module), name) in self._assigned:
            return
        is_own = isinstance(old, Tensor) and old._emitter is self
        self._assigned[id(module), name] = module, None if is_own else old
        if not is_own:
            self.capture_state(old)

    @property
    def outer_writes(self) -> list[tuple[Any, str, Tensor]]:
        """The buffers of modules from outside that were assigned: module, name, and the value from before the trace."""
        return [(module, name, old) for (_, name), (module, old) in self._assigned.items() if old is not None]

    def restore_buffers(self) -> None:
        """Gives the buffers of modules from outside the values from before the trace."""
        for module, name, old in self.outer_writes:
            module.restore_buffer(name, old)

    def _is_nested_in(self, emitter: Any) -> bool:
        trace = self.parent
        while trace is not None:
            if trace is emitter:
                return True
            trace = trace.parent
        return False

    def finish(self, results: Sequence[Tensor]) -> list[TensorSpec]:
        """Ends the function with a return of ``results``, and sets its type."""
        values = [self.lift(t) for t in results]
        with context(), self.current_location():
            func.ReturnOp(values, ip=self.insertion_point)
            inputs = [a.type for a in self.block.arguments]
            self.function.attributes["function_type"] = ir.TypeAttr.get(
                ir.FunctionType.get(inputs, [v.type for v in values])
            )
        return [t.spec for t in results]


def trace_function(
    module: Any, name: str, function: Callable[..., Any], arg_specs: Sequence[TensorSpec], *, private: bool
) -> tuple[FunctionTrace, Any]:
    """Runs ``function(trace, *traced arguments)`` under a new :class:`FunctionTrace`.

    ``function`` returns the flat list of result tensors and anything else: ``(tensors, extra)``. When it raises, the
    function op is removed again, and the buffers that it assigned get their values back.
    """
    trace = FunctionTrace(module, name, arg_specs, private=private)
    try:
        with trace:
            tensors, extra = function(trace, *trace.arguments)
            trace.finish(tensors)
    except BaseException:
        trace.restore_buffers()
        trace.function.erase()
        raise
    return trace, extra


_TRACE_ENTRY = trace_function.__code__


def call(function: str, operands: Sequence[Tensor], trace: Emitter, result_specs: Sequence[TensorSpec]) -> list[Tensor]:
    """Emits ``func.call`` of a function (by its name) in ``trace``."""
    values = [trace.lift(t) for t in operands]
    operation = ir.Operation.create(
        "func.call",
        results=[tensor_type(s) for s in result_specs],
        operands=values,
        attributes={"callee": ir.FlatSymbolRefAttr.get(function, context())},
        loc=trace.current_location(),
        ip=trace.insertion_point,
    )
    return [trace.wrap(r) for r in operation.results]


def bind(op: Any, operands: Sequence[Tensor], attributes: dict[str, Any]) -> Any:
    """Emits ``op`` at the current emitter, or evaluates it where there is none; see :meth:`Op.apply`."""
    emitter = current()
    if emitter is None:
        arrays = [_concrete_array(t) for t in operands]
        results = op.evaluate(arrays, attributes)
        if debug.checks_nans():
            _check_nans(op, arrays, results)
        outs = [Tensor._concrete(a, TensorSpec(a.shape, a.dtype)) for a in results]
    else:
        values = [emitter.lift(t) for t in operands]
        outs = [emitter.wrap(v) for v in emitter.emit(op, values, [t.spec for t in operands], attributes)]
    return outs[0] if len(outs) == 1 else tuple(outs)


def _check_nans(op: Any, operands: list[np.ndarray], results: Sequence[np.ndarray]) -> None:
    for result in results:
        if debug.count_nans(result):
            raise NaNError(debug.describe(op.OPERATION_NAME, result, operands))


def _concrete_array(tensor: Tensor) -> np.ndarray:
    if tensor.is_traced:
        raise TraceError(
            f"{tensor!r} is used outside the trace that it belongs to; return it from the traced function instead"
        )
    return tensor.numpy()


def zeros(spec: TensorSpec) -> Tensor:
    """A tensor of zeros at the current emitter."""
    from volta_mlir.dialects.creation import FullOp

    return FullOp.apply(value=np.zeros((), spec.dtype), shape=spec.shape)


def check_updatable(tensor: Tensor) -> None:
    """Raises where giving a tensor a new value in place would not be seen where its old one is used."""
    emitter = current()
    if tensor._emitter is not emitter:
        if emitter is None:
            raise TraceError(f"{tensor!r} belongs to a trace that has ended, and can't be changed any more")
        raise TraceError(
            f"{tensor.spec} was made outside of the function that is being traced, and can't be changed in place here;"
            " return the new value, or change a clone() of it"
        )
    if tensor._program is not None:
        raise AliasError(
            f"{tensor.spec} is a constant of the compiled function {tensor._program}, which would not see the change;"
            " pass it to that function as an argument, or change a clone() of it"
        )


def clone(tensor: Tensor) -> Tensor:
    """A tensor object of the current trace, or a concrete one of its own, with the same value."""
    emitter = current()
    if emitter is None:
        return Tensor._concrete(_concrete_array(tensor).copy(), tensor.spec)
    return emitter.wrap(emitter.lift(tensor))


def tensor_of(array: np.ndarray, dtype: np.dtype | None) -> Tensor:
    """A NumPy array as a Tensor; a traced function that uses the same array again gets the same Tensor."""
    emitter = current()
    if not isinstance(emitter, FunctionTrace):
        return Tensor(array, dtype)
    key = id(array), str(dtype)
    known = emitter.arrays.get(key)
    tensor = Tensor(array, dtype)
    if known and known[1].numpy().tobytes() == tensor.numpy().tobytes():  # an array may have changed in between
        return known[1]
    emitter.arrays[key] = array, tensor  # the array too, so that its id stays its own
    return tensor


@contextmanager
def emitting(insertion_point: Any, location: Any) -> Iterator[Emitter]:
    """Runs the body's ops at ``insertion_point``; for passes."""
    with context(), location, Emitter(insertion_point, location) as emitter:
        yield emitter


def emit_print(record: Record, tensors: Sequence[Tensor]) -> None:
    """Prints values now, or has the function that is being traced return them, so that they are printed after a call.

    Raises:
        TraceError: an op's rule prints.
    """
    from volta_mlir.dialects.elementwise import StopGradientOp

    trace = current()
    if trace is None:
        for line in record.lines([_concrete_array(t) for t in tensors]):
            print(line)
    elif isinstance(trace, FunctionTrace):
        trace.prints.append((record, [StopGradientOp.apply(t) for t in tensors]))
    else:
        raise TraceError("debug.print is called inside an op's rule, which has no values to print")


def record_buffer_write(module: Any, name: str, old: Any) -> None:
    """Notes that a module's buffer is being assigned while a function is traced.

    A module that belongs to the trace (its buffer was traced by it) needs no note: the arguments are compared when the
    trace ends. One from outside is noted once, with the value to put back.
    """
    trace = current()
    if isinstance(trace, FunctionTrace):
        trace.note_buffer_write(module, name, old)
