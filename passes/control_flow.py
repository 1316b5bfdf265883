"""Control flow and custom derivatives: functions that are declared by what they do with other functions.

A loop or a branch is a call of a private function without a body. Its attributes name the parts::

    func.func private @sum.scan(tensor<f32>, tensor<8xf32>) -> (tensor<f32>, tensor<8xf32>)
        attributes {volta.scan = @sum.body, volta.length = 8 : i64, volta.consts = 0 : i64, volta.carry = 1 : i64}

Each kind is a :class:`Control`: how it is interpreted, batched, and differentiated. Derivatives of control flow are
control flow over derivatives of the parts, so that they nest to any order. The tangent program of a call is itself a
*linear call*: a call of a function with the attributes ``volta.linear`` (which operands are tangents) and
``volta.transposed`` (a function of the other operands and the results' cotangents that returns the cotangents of the
tangents). Reverse mode replaces the one by the other.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from volta_mlir import functions as F
from volta_mlir import trace
from volta_mlir.dialects.lowering import Lowering
from volta_mlir.dtypes import INDEX, TensorSpec, bool_, is_float
from volta_mlir.errors import CompileError, TraceError
from volta_mlir.mlir import arith, func, function_named, ir, scf, signless_tensor_type, spec_of, tensor
from volta_mlir.passes.derived import (
    CONTROL,
    attribute_of,
    build_function,
    call,
    clone_function,
    declare,
    flatten,
    lookup,
    require_tensors,
    set_results,
    unique_name,
)
from volta_mlir.passes.manager import source_location
from volta_mlir.tensor import Tensor

Arrays = Sequence[np.ndarray]
Run = Callable[[str, Arrays], list[np.ndarray]]


class Control:
    """One control-flow function: a view of its declaration."""

    kind = ""

    def __init__(self, declaration: Any) -> None:
        self.declaration = declaration
        self.module = declaration.operation.parent.opview
        self.name = declaration.sym_name.value
        self.location = declaration.location
        require_tensors(declaration, declaration.type.inputs)
        self.arguments = [spec_of(t) for t in declaration.type.inputs]
        self.results = [spec_of(t) for t in declaration.type.results]

    def __init_subclass__(cls, kind: str) -> None:
        cls.kind = kind
        CONTROL[kind] = cls

    def _int(self, key: str) -> int:
        return int(attribute_of(self.declaration, key, ir.IntegerAttr).value)

    def _symbols(self, *keys: str) -> list[Any]:
        return [attribute_of(self.declaration, key, ir.FlatSymbolRefAttr) for key in keys]

    def _symbol(self, key: str) -> str:
        return str(attribute_of(self.declaration, key, ir.FlatSymbolRefAttr).value)

    @property
    def parts(self) -> list[Any]:
        """The symbols of the functions that this one is made of."""
        return self._symbols(self.kind)

    def verify(self) -> None:
        """Raises CompileError unless the declaration and the functions that it names fit together."""

    #: Whether it is lowered to a loop.
    is_loop = False

    #: The function that a call becomes when nothing is left to differentiate; None for one that stays a call.
    inlined_as: str | None = None

    def interpret(self, run: Run, operands: Arrays) -> list[np.ndarray]:
        """The results; ``run(name, arrays)`` evaluates a function of the module."""
        raise NotImplementedError

    def linearize(self, operands: list[Tensor], tangents: list[Tensor | None], rewrite: Any) -> list[Tensor | None]:
        """Emits the tangent program of a call and returns the results' tangents.

        ``rewrite(name, count)`` replaces the primal call by one of another function of the same operands whose first
        results are the same, and returns its further results.
        """
        raise NotImplementedError

    def batch(self, operands: list[Tensor], batched: list[bool], size: int) -> list[Tensor]:
        """Emits the call over a leading axis; every result has it."""
        raise NotImplementedError

    def lower(self, b: Lowering, operands: list[Any]) -> list[Any]:
        """Emits the call in scf over calls of the converted parts; operands and results are signless values."""
        raise CompileError(
            f"@{self.name}: volta-inline must run before lowering", location=source_location(self.location)
        )

    # -- shared by the kinds -----------------------------------------------------------------------------------

    def _specs_of(self, name: str) -> tuple[list[TensorSpec], list[TensorSpec]]:
        type_ = function_named(self.module, name).type
        return [spec_of(t) for t in type_.inputs], [spec_of(t) for t in type_.results]

    def _require(self, condition: bool, what: str) -> None:
        if not condition:
            raise CompileError(f"@{self.name} {what}", location=source_location(self.location))

    def _require_part(self, symbol: Any, arguments: Sequence[TensorSpec], results: Sequence[TensorSpec] | None) -> None:
        """Raises CompileError unless a part takes these arguments and returns these results, if they are given."""
        part = lookup(self.module, symbol, self.declaration)
        require_tensors(part, part.type.inputs)
        name = part.sym_name.value
        for given, expected, verb in zip(self._specs_of(name), (arguments, results), ("take", "return"), strict=True):
            if expected is not None and given != list(expected):
                self._require(False, f"needs @{name} to {verb} {_list(expected)}; it {verb}s {_list(given)}")

    def _jvp(self, name: str, wrt: Sequence[int]) -> str:
        """Declares the jvp of a part."""
        arguments, results = self._specs_of(name)
        tangents = [arguments[i] for i in wrt]
        derivatives = [s for s in results if is_float(s.dtype)]
        attributes = {"volta.jvp": name, "volta.wrt": wrt}
        return declare(self.module, f"{name}.jvp", attributes, arguments + tangents, results + derivatives)

    def _vjp(self, name: str, wrt: Sequence[int], saved: Sequence[TensorSpec] = ()) -> str:
        """Declares the vjp of a part; it takes those of its values that are ``saved``, at the end."""
        arguments, results = self._specs_of(name)
        cotangents = [s for s in results if is_float(s.dtype)]
        attributes = {"volta.vjp": name, "volta.wrt": wrt, **({FROM_SAVED: True} if saved else {})}
        inputs = [*arguments, *cotangents, *saved]
        return declare(self.module, f"{name}.vjp", attributes, inputs, results + [arguments[i] for i in wrt])

    def _vmap(self, name: str, batched: Sequence[bool], size: int) -> str:
        """Declares the vmap of a part."""
        arguments, results = self._specs_of(name)
        attributes = {"volta.vmap": name, "volta.batched": ir.DenseBoolArrayAttr.get(list(batched)), "volta.size": size}
        inputs = [s.with_shape((size, *s.shape)) if b else s for s, b in zip(arguments, batched, strict=True)]
        return declare(
            self.module, f"{name}.vmap", attributes, inputs, [s.with_shape((size, *s.shape)) for s in results]
        )

    def _build(self, stem: str, arguments: Sequence[TensorSpec], body: Callable[..., Sequence[Tensor]]) -> str:
        return build_function(self.module, stem, arguments, body, self.location)

    def _call(self, name: str, operands: Sequence[Tensor]) -> list[Tensor]:
        return call(self.module, name, operands)

    def _linear_call(self, name: str, operands: list[Tensor], linear: list[bool], transposed: str) -> list[Tensor]:
        """Emits a linear call of the function ``name``, whose transpose is ``transposed``."""
        function = function_named(self.module, name)
        function.attributes["volta.linear"] = ir.DenseBoolArrayAttr.get(linear)
        function.attributes["volta.transposed"] = ir.FlatSymbolRefAttr.get(transposed)
        return self._call(name, operands)


def _floats(specs: Sequence[TensorSpec]) -> list[int]:
    return [i for i, s in enumerate(specs) if is_float(s.dtype)]


def _or_zeros(tangent: Tensor | None, spec: TensorSpec) -> Tensor:
    return trace.zeros(spec) if tangent is None else tangent


def _scatter(count: int, positions: Sequence[int], values: Sequence[Tensor]) -> list[Tensor | None]:
    found: list[Tensor | None] = [None] * count
    for i, v in zip(positions, values, strict=True):
        found[i] = v
    return found


def _rows(specs: Sequence[TensorSpec]) -> list[TensorSpec]:
    """The specs without their leading axis."""
    return [s.with_shape(s.shape[1:]) for s in specs]


def _list(specs: Sequence[TensorSpec]) -> str:
    return f"({', '.join(map(str, specs))})"


class Scan(Control, kind="volta.scan"):
    """A loop with a carry over the leading axis of its inputs, collecting results.

    Operands are constants, initial carries, inputs with a leading axis of ``volta.length``; results are the last
    carries and the collected results. The body takes ``(consts, carry, inputs of a step)`` and returns ``(carry,
    outputs of the step)``. With ``volta.reverse`` it runs from the last step to the first.

    Reverse mode keeps the carry of every step and computes the rest of a step again in the backward loop.
    """

    is_loop = True

    @property
    def body(self) -> str:
        return self._symbol("volta.scan")

    @property
    def length(self) -> int:
        return self._int("volta.length")

    @property
    def reverse(self) -> bool:
        return bool(attribute_of(self.declaration, "volta.reverse", ir.BoolAttr).value)

    def verify(self) -> None:
        consts, carry, length = self._int("volta.consts"), self._int("volta.carry"), self.length
        self._require(length >= 0, f"needs volta.length = at least 0, got {length}")
        is_divided = consts >= 0 and carry >= 0 and consts + carry <= len(self.arguments) and carry <= len(self.results)
        self._require(
            is_divided,
            f"has {len(self.arguments)} arguments and {len(self.results)} results, which can't have {consts} constants"
            f" and {carry} carries among them",
        )
        _, state, inputs = self.split(self.arguments)
        stacked = [*inputs, *self.results[carry:]]
        self._require(
            self.results[:carry] == state and all(s.rank and s.shape[0] == length for s in stacked),
            f"takes {_list(self.arguments)} and returns {_list(self.results)}: carries have to stay as they are, the"
            f" others to have a leading axis of {length}",
        )
        step = [*self.arguments[: consts + carry], *_rows(inputs)]
        self._require_part(self.parts[0], step, [*state, *_rows(self.results[carry:])])

    def split(self, values: Sequence[Any]) -> tuple[list[Any], list[Any], list[Any]]:
        """Operands as constants, carries and inputs."""
        consts, carry = self._int("volta.consts"), self._int("volta.carry")
        return list(values[:consts]), list(values[consts : consts + carry]), list(values[consts + carry :])

    def steps(self) -> Sequence[int]:
        """The steps in the order in which they run."""
        return range(self.length)[::-1] if self.reverse else range(self.length)

    def interpret(self, run: Run, operands: Arrays) -> list[np.ndarray]:
        consts, carry, inputs = self.split(operands)
        outputs: list[list[np.ndarray]] = [[] for _ in self.results[len(carry) :]]
        for i in self.steps():
            outs = run(self.body, [*consts, *carry, *(x[i] for x in inputs)])
            carry, step = outs[: len(carry)], outs[len(carry) :]
            for collected, value in zip(outputs, step, strict=True):
                collected.append(value)
        stacked = []
        for values, spec in zip(outputs, self.results[len(carry) :], strict=True):
            values = values[::-1] if self.reverse else values
            stacked.append(np.stack(values) if values else np.zeros(spec.shape, spec.dtype))
        return [*carry, *stacked]

    def _declare(
        self,
        body: str,
        consts: Sequence[TensorSpec],
        carry: Sequence[TensorSpec],
        inputs: Sequence[TensorSpec],
        reverse: bool,
    ) -> str:
        """A scan over another body; ``inputs`` are whole, with the leading axis."""
        _, results = self._specs_of(body)
        return declare_scan(self.module, self.name, body, consts, carry, inputs, results, self.length, reverse)

    def linearize(self, operands: list[Tensor], tangents: list[Tensor | None], rewrite: Any) -> list[Tensor | None]:
        consts, carry, inputs = self.split(self.arguments)
        t_consts, t_carry, t_inputs = self.split(tangents)
        c, k = len(consts), len(carry)
        body_arguments, body_results = self._specs_of(self.body)
        steps = body_arguments[c + k :]
        # Which values of a step have tangents; a carry has one as soon as it can have.
        active_consts = [i for i, t in enumerate(t_consts) if t is not None]
        active_carry = _floats(carry)
        active_inputs = [i for i, t in enumerate(t_inputs) if t is not None]
        outputs = body_results[k:]
        float_outputs = _floats(outputs)
        wrt = [*active_consts, *(c + i for i in active_carry), *(c + k + i for i in active_inputs)]

        # The primal loop also collects the carries at the beginning of each step.
        def keep(*args: Tensor) -> list[Tensor]:
            return [*self._call(self.body, args), *args[c : c + k]]

        kept_body = self._build(f"{self.body}.keep", body_arguments, keep)
        stacks = rewrite(self._declare(kept_body, consts, carry, inputs, self.reverse))
        stack_specs = [s.with_shape((self.length, *s.shape)) for s in carry]

        # The linear loop's constants are (consts, their tangents), its carries (tangents), its inputs (inputs, carries,
        # tangents).
        tangent_consts = [consts[i] for i in active_consts]
        tangent_carry = [carry[i] for i in active_carry]
        tangent_inputs = [inputs[i] for i in active_inputs]
        tangent_steps = [steps[i] for i in active_inputs]
        jvp = self._jvp(self.body, wrt)

        def linear(*args: Tensor) -> list[Tensor]:
            cs, tcs, tks, xs, ks, txs = _divide(
                args, consts, tangent_consts, tangent_carry, steps, carry, tangent_steps
            )
            outs = self._call(jvp, [*cs, *ks, *xs, *tcs, *tks, *txs])
            return outs[len(body_results) :]

        linear_body = self._build(
            f"{self.body}.lin", [*consts, *tangent_consts, *tangent_carry, *steps, *carry, *tangent_steps], linear
        )
        lin = self._declare(
            linear_body,
            [*consts, *tangent_consts],
            tangent_carry,
            [*inputs, *stack_specs, *tangent_inputs],
            self.reverse,
        )

        # Its transpose runs the other way: carries (cotangents of carries and, summed up, of consts).
        vjp = self._vjp(self.body, wrt)
        output_steps = [outputs[i] for i in float_outputs]
        output_stacks = [self.results[k + i] for i in float_outputs]

        def backward(*args: Tensor) -> list[Tensor]:
            cs, cks, sums, xs, ks, cys = _divide(
                args, consts, tangent_carry, tangent_consts, steps, carry, output_steps
            )
            outs = self._call(vjp, [*cs, *ks, *xs, *cks, *cys])
            grads = outs[len(body_results) :]
            g_consts, g_carry, g_inputs = _divide(grads, tangent_consts, tangent_carry, tangent_steps)
            return [*g_carry, *(s + g for s, g in zip(sums, g_consts, strict=True)), *g_inputs]

        backward_body = self._build(
            f"{self.body}.bwd", [*consts, *tangent_carry, *tangent_consts, *steps, *carry, *output_steps], backward
        )
        bwd = self._declare(
            backward_body,
            consts,
            [*tangent_carry, *tangent_consts],
            [*inputs, *stack_specs, *output_stacks],
            not self.reverse,
        )

        def transposed(*args: Tensor) -> list[Tensor]:
            cs, xs, ks, cks, cys = _divide(args, consts, inputs, stack_specs, tangent_carry, output_stacks)
            zeros = [trace.zeros(s) for s in tangent_consts]
            outs = self._call(bwd, [*cs, *cks, *zeros, *xs, *ks, *cys])
            g_carry, g_consts, g_inputs = _divide(outs, tangent_carry, tangent_consts, tangent_inputs)
            return [*g_consts, *g_carry, *g_inputs]

        transpose = self._build(
            f"{self.name}.transposed", [*consts, *inputs, *stack_specs, *tangent_carry, *output_stacks], transposed
        )

        cs, _, xs = self.split(operands)
        flags = [
            *[False] * c,
            *[True] * (len(tangent_consts) + len(tangent_carry)),
            *[False] * (len(inputs) + k),
            *[True] * len(tangent_inputs),
        ]
        outs = self._linear_call(
            lin,
            [
                *cs,
                *(t for t in t_consts if t is not None),
                *(_or_zeros(t_carry[i], carry[i]) for i in active_carry),
                *xs,
                *stacks,
                *(t for t in t_inputs if t is not None),
            ],
            flags,
            transpose,
        )
        return _scatter(len(self.results), [*active_carry, *(k + i for i in float_outputs)], outs)

    def batch(self, operands: list[Tensor], batched: list[bool], size: int) -> list[Tensor]:
        consts, carry, inputs = self.split(operands)
        b_consts, _, b_inputs = self.split(batched)
        # Every carry is batched: whether a step would batch it is not known before.
        carry = [
            x if b else F.broadcast_to(x, (size, *x.shape)) for x, b in zip(carry, self.split(batched)[1], strict=True)
        ]
        inputs = [F.moveaxis(x, 0, 1) if b else x for x, b in zip(inputs, b_inputs, strict=True)]
        body = self._vmap(self.body, [*b_consts, *[True] * len(carry), *b_inputs], size)
        c, k, x = ([t.spec for t in group] for group in (consts, carry, inputs))
        name = self._declare(body, c, k, x, self.reverse)
        outs = self._call(name, [*consts, *carry, *inputs])
        return [*outs[: len(carry)], *(F.moveaxis(y, 1, 0) for y in outs[len(carry) :])]

    def lower(self, b: Lowering, operands: list[Any]) -> list[Any]:
        consts, carry, inputs = self.split(operands)
        outputs = [_own_memory(b, s) for s in self.results[len(carry) :]]
        always = b.opaque(b.scalar(True, bool_))
        start, stop, step = (b.constant_index(i) for i in (0, self.length, 1))
        loop = scf.ForOp(start, stop, step, [*carry, *outputs])
        with ir.InsertionPoint(loop.body):
            i = loop.induction_variable
            if self.reverse:
                i = arith.subi(b.constant_index(self.length - 1), i)
            arguments = list(loop.inner_iter_args)
            state, collected = _read_only(b, arguments[: len(carry)], always), arguments[len(carry) :]
            steps = [b.row(x, i) for x in inputs]
            outs = _call_converted(self.body, self._specs_of(self.body)[1], [*consts, *state, *steps])
            rows = [b.set_row(stack, i, y) for stack, y in zip(collected, outs[len(carry) :], strict=True)]
            scf.yield_([*outs[: len(carry)], *rows])
        return list(loop.results)


# IREE updates what a loop carries in place, since it is told that nothing has to be moved between devices (see
# convert_volta_to_linalg). It then takes for granted that a carried tensor has memory of its own, and that the one use
# which updates it is the last one. Both are made true here.


def _own_memory(b: Lowering, spec: TensorSpec) -> Any:
    """The first value of collected results, whose steps overwrite it: none that is merged with another one's."""
    return b.filled(b.opaque(b.scalar(0, spec.dtype)), spec) if spec.size else b.empty(spec)


def _read_only(b: Lowering, carried: Sequence[Any], always: Any) -> list[Any]:
    """What a loop carries, from operations that only read it. Where it is updated, that makes a copy."""

    def choose(x: Any) -> Any:
        zero = arith.constant(x.type, 0.0 if isinstance(x.type, ir.FloatType) else 0)
        return arith.select(always, x, zero)

    return [b.elementwise(spec_of(x.type), [x], choose) if spec_of(x.type).size else x for x in carried]


def _call_converted(name: str, results: Sequence[TensorSpec], operands: Sequence[Any]) -> list[Any]:
    """Emits a call of a part at the current insertion point, on signless types."""
    return list(func.CallOp([signless_tensor_type(s) for s in results], name, list(operands)).results)


def declare_scan(
    module: Any,
    stem: str,
    body: str,
    consts: Sequence[TensorSpec],
    carry: Sequence[TensorSpec],
    inputs: Sequence[TensorSpec],
    body_results: Sequence[TensorSpec],
    length: int,
    reverse: bool,
) -> str:
    """Declares a scan of ``body``; ``inputs`` are whole, ``body_results`` those of one step."""
    collected = [s.with_shape((length, *s.shape)) for s in body_results[len(carry) :]]
    attributes = {
        "volta.scan": body,
        "volta.length": length,
        "volta.consts": len(consts),
        "volta.carry": len(carry),
        "volta.reverse": reverse,
    }
    return declare(module, f"{stem}.scan", attributes, [*consts, *carry, *inputs], [*carry, *collected])


def _divide(values: Sequence[Any], *groups: Sequence[Any]) -> list[list[Any]]:
    """``values`` cut into parts as long as the groups."""
    parts, start = [], 0
    for group in groups:
        parts.append(list(values[start : start + len(group)]))
        start += len(group)
    assert start == len(values), "the groups must cover the values"
    return parts


class While(Control, kind="volta.while"):
    """A loop of unknown length: ``while volta.condition(consts, carry): carry = body(consts, carry)``.

    Forward mode only: nothing bounds what reverse mode would have to keep.
    """

    is_loop = True

    @property
    def body(self) -> str:
        return self._symbol("volta.while")

    @property
    def condition(self) -> str:
        return self._symbol("volta.condition")

    @property
    def consts(self) -> int:
        return self._int("volta.consts")

    @property
    def parts(self) -> list[Any]:
        return self._symbols("volta.while", "volta.condition")

    def verify(self) -> None:
        consts, count = self.consts, len(self.arguments)
        self._require(0 <= consts <= count, f"has {count} arguments, which can't have {consts} constants among them")
        self._require_part(self.parts[0], self.arguments, self.arguments[consts:])
        self._require_part(self.parts[1], self.arguments, [TensorSpec((), bool_)])
        self._require(self.results == self.arguments[consts:], "needs to return what it carries")

    def interpret(self, run: Run, operands: Arrays) -> list[np.ndarray]:
        consts, carry = list(operands[: self.consts]), list(operands[self.consts :])
        while run(self.condition, [*consts, *carry])[0]:
            carry = run(self.body, [*consts, *carry])
        return carry

    def linearize(self, operands: list[Tensor], tangents: list[Tensor | None], rewrite: Any) -> list[Tensor | None]:
        c = self.consts
        consts, carry = self.arguments[:c], self.arguments[c:]
        active_consts = [i for i in range(c) if tangents[i] is not None]
        active_carry = _floats(carry)
        tangent_consts, tangent_carry = [consts[i] for i in active_consts], [carry[i] for i in active_carry]
        jvp = self._jvp(self.body, [*active_consts, *(c + i for i in active_carry)])

        def condition(*args: Tensor) -> list[Tensor]:
            cs, _, ks, _ = _divide(args, consts, tangent_consts, carry, tangent_carry)
            return self._call(self.condition, [*cs, *ks])

        def body(*args: Tensor) -> list[Tensor]:
            cs, tcs, ks, tks = _divide(args, consts, tangent_consts, carry, tangent_carry)
            return self._call(jvp, [*cs, *ks, *tcs, *tks])

        state = [*consts, *tangent_consts, *carry, *tangent_carry]
        name = declare_while(
            self.module,
            self.name,
            self._build(f"{self.condition}.jvp", state, condition),
            self._build(f"{self.body}.jvp", state, body),
            len(consts) + len(tangent_consts),
            state,
        )
        outs = self._call(
            name,
            [
                *operands[:c],
                *(t for t in tangents[:c] if t is not None),
                *operands[c:],
                *(_or_zeros(tangents[c + i], carry[i]) for i in active_carry),
            ],
        )
        return _scatter(len(carry), active_carry, outs[len(carry) :])

    def batch(self, operands: list[Tensor], batched: list[bool], size: int) -> list[Tensor]:
        c = self.consts
        flags = [*batched[:c], *[True] * (len(operands) - c)]
        operands = [
            x if b or not flag else F.broadcast_to(x, (size, *x.shape))
            for x, b, flag in zip(operands, batched, flags, strict=True)
        ]
        condition = self._vmap(self.condition, flags, size)
        body = self._vmap(self.body, flags, size)

        def any_left(*args: Tensor) -> list[Tensor]:
            return [F.any(self._call(condition, args)[0])]

        def step(*args: Tensor) -> list[Tensor]:
            # Examples that are done keep their values.
            (running,) = self._call(condition, args)
            new = self._call(body, args)
            return [
                F.where(F.broadcast_in_dim(running, x.shape, [0]), y, x) for x, y in zip(args[c:], new, strict=True)
            ]

        specs = [t.spec for t in operands]
        name = declare_while(
            self.module,
            self.name,
            self._build(f"{self.condition}.any", specs, any_left),
            self._build(f"{self.body}.masked", specs, step),
            c,
            specs,
        )
        return self._call(name, operands)

    def lower(self, b: Lowering, operands: list[Any]) -> list[Any]:
        consts, carry = operands[: self.consts], operands[self.consts :]
        types = [v.type for v in carry]
        always = b.opaque(b.scalar(True, bool_))
        loop = scf.WhileOp(types, carry)
        before, after = (region.blocks.append(*types) for region in loop.regions)
        with ir.InsertionPoint(before):
            state = _read_only(b, before.arguments, always)
            (test,) = _call_converted(self.condition, [TensorSpec((), bool_)], [*consts, *state])
            scf.condition(tensor.extract(test, []), list(before.arguments))
        with ir.InsertionPoint(after):
            state = _read_only(b, after.arguments, always)
            scf.yield_(_call_converted(self.body, self.results, [*consts, *state]))
        return list(loop.results)


def declare_while(module: Any, stem: str, condition: str, body: str, consts: int, state: Sequence[TensorSpec]) -> str:
    """Declares a while loop; ``state`` are the specs of the constants and the carries."""
    attributes = {"volta.while": body, "volta.condition": condition, "volta.consts": consts}
    return declare(module, f"{stem}.while", attributes, state, state[consts:])


class Switch(Control, kind="volta.switch"):
    """One of several branches: the first operand, an int32 scalar, is clamped to their number.

    Branches take the further operands. Reverse mode computes the chosen branch again in the backward pass.
    """

    @property
    def branches(self) -> list[str]:
        return [ir.FlatSymbolRefAttr(s).value for s in self.parts]

    @property
    def parts(self) -> list[Any]:
        branches = list(attribute_of(self.declaration, "volta.switch", ir.ArrayAttr))
        if not branches or not all(isinstance(branch, ir.FlatSymbolRefAttr) for branch in branches):
            raise CompileError(
                f"@{self.name} needs volta.switch = [@function, …]", location=source_location(self.location)
            )
        return branches

    def verify(self) -> None:
        self._require(self.arguments[:1] == [TensorSpec((), INDEX)], f"needs an index of {INDEX}, its first argument")
        for branch in self.parts:
            self._require_part(branch, self.arguments[1:], self.results)

    def interpret(self, run: Run, operands: Arrays) -> list[np.ndarray]:
        chosen = int(np.clip(operands[0], 0, len(self.branches) - 1))
        return run(self.branches[chosen], operands[1:])

    def linearize(self, operands: list[Tensor], tangents: list[Tensor | None], rewrite: Any) -> list[Tensor | None]:
        wrt = [i for i, t in enumerate(tangents[1:]) if t is not None]
        specs = self.arguments[1:]
        lin = [_linear_part(self, branch, specs, wrt) for branch in self.branches]
        name = declare_switch(self.module, self.name, lin, [*specs, *(specs[i] for i in wrt)])
        back = [_transposed_part(self, branch, specs, wrt) for branch in self.branches]
        cotangents = [self.results[i] for i in _floats(self.results)]
        transposed = declare_switch(self.module, self.name, back, [*specs, *cotangents])
        flags = [False] * len(operands) + [True] * len(wrt)
        given = [t for t in tangents if t is not None]
        outs = self._linear_call(name, [*operands, *given], flags, transposed)
        return _scatter(len(self.results), _floats(self.results), outs)

    def batch(self, operands: list[Tensor], batched: list[bool], size: int) -> list[Tensor]:
        branches = [self._vmap(branch, batched[1:], size) for branch in self.branches]
        if not batched[0]:
            name = declare_switch(self.module, self.name, branches, [t.spec for t in operands[1:]])
            return self._call(name, operands)
        # Each example has its own branch: all of them are computed, and selected from.
        index = F.clip(operands[0], 0, len(branches) - 1)
        outs = self._call(branches[0], operands[1:])
        for i, branch in enumerate(branches[1:], 1):
            others = self._call(branch, operands[1:])
            outs = [
                F.where(F.broadcast_in_dim(F.equal(index, i), y.shape, [0]), y, x)
                for x, y in zip(outs, others, strict=True)
            ]
        return outs

    def lower(self, b: Lowering, operands: list[Any]) -> list[Any]:
        index, *arguments = operands
        number = tensor.extract(index, [])
        types = [signless_tensor_type(s) for s in self.results]

        def choose(first: int) -> list[Any]:
            if first == len(self.branches) - 1:
                return _call_converted(self.branches[first], self.results, arguments)
            is_first = arith.cmpi(arith.CmpIPredicate.sle, number, b.scalar(first, INDEX))
            branch = scf.IfOp(is_first, types, has_else=True)
            with ir.InsertionPoint(branch.then_block):
                scf.yield_(_call_converted(self.branches[first], self.results, arguments))
            with ir.InsertionPoint(branch.else_block):
                scf.yield_(choose(first + 1))
            return list(branch.results)

        return choose(0)


def declare_switch(module: Any, stem: str, branches: Sequence[str], operands: Sequence[TensorSpec]) -> str:
    """Declares a switch over functions of the same type; ``operands`` are those after the index."""
    results = [spec_of(t) for t in function_named(module, branches[0]).type.results]
    attributes = {"volta.switch": tuple(branches)}
    return declare(module, f"{stem}.switch", attributes, [TensorSpec((), INDEX), *operands], results)


def _linear_part(control: Control, name: str, specs: Sequence[TensorSpec], wrt: Sequence[int]) -> str:
    """``(arguments, tangents of wrt) -> tangents of the float results`` of a function."""
    jvp = control._jvp(name, wrt)
    count = len(control.results)
    tangents = [specs[i] for i in wrt]
    return control._build(f"{name}.lin", [*specs, *tangents], lambda *args: control._call(jvp, args)[count:])


def _transposed_part(control: Control, name: str, specs: Sequence[TensorSpec], wrt: Sequence[int]) -> str:
    """``(arguments, cotangents of the float results) -> cotangents of wrt`` of a function."""
    vjp = control._vjp(name, wrt)
    count = len(control.results)
    cotangents = [control.results[i] for i in _floats(control.results)]
    return control._build(f"{name}.bwd", [*specs, *cotangents], lambda *args: control._call(vjp, args)[count:])


#: The attribute of an op in a checkpointed function whose result the policy keeps.
SAVED = "volta.saved"
#: The attribute of a ``volta.vjp`` function that takes such results as further arguments, after the cotangents.
FROM_SAVED = "volta.from_saved"


def saved_in(function: Any) -> list[Any]:
    """The ops of a function whose results a policy keeps."""
    return [op for op in function.entry_block.operations if SAVED in op.operation.attributes]


class Checkpoint(Control, kind="volta.checkpoint"):
    """A function whose intermediate values are computed again in the backward pass instead of being kept, except for
    the results of ops that are marked ``volta.saved``.
    """

    @property
    def inlined_as(self) -> str:  # type: ignore[override]  # a property here
        return self._symbol("volta.checkpoint")

    def verify(self) -> None:
        self._require_part(self.parts[0], self.arguments, self.results)

    def interpret(self, run: Run, operands: Arrays) -> list[np.ndarray]:
        return run(self.inlined_as, operands)

    def linearize(self, operands: list[Tensor], tangents: list[Tensor | None], rewrite: Any) -> list[Tensor | None]:
        from volta_mlir.dialects.control import AfterOp, OptimizationBarrierOp

        wrt = [i for i, t in enumerate(tangents) if t is not None]
        name = self.inlined_as
        source = flatten(self.module, function_named(self.module, name))
        saved = [spec_of(op.operation.results[0].type) for op in saved_in(source)]
        kept = rewrite(self._saving(source)) if saved else []
        lin = _linear_part(self, name, self.arguments, wrt)
        vjp = self._vjp(name, wrt, saved)
        cotangents = [self.results[i] for i in _floats(self.results)]
        tangent_specs = [self.arguments[i] for i in wrt]

        def backward(*args: Tensor) -> list[Tensor]:
            # Without a barrier the recomputation would be merged with the forward pass as a common subexpression. It
            # starts when the gradient arrives, or it would be scheduled with the forward pass and kept as well.
            primals, residuals, seeds = _divide(args, self.arguments, saved, cotangents)
            token = next((g for g in seeds if g.size), None)
            behind = OptimizationBarrierOp.apply if token is None else lambda x: AfterOp.of(x, token)
            outs = self._call(vjp, [*map(behind, primals), *seeds, *map(behind, residuals)])
            return outs[len(self.results) :]

        transposed = self._build(f"{name}.again", [*self.arguments, *saved, *cotangents], backward)

        def forward(*args: Tensor) -> list[Tensor]:
            primals, _, given = _divide(args, self.arguments, saved, tangent_specs)
            return self._call(lin, [*primals, *given])

        linear = self._build(f"{name}.again.lin", [*self.arguments, *saved, *tangent_specs], forward) if saved else lin
        flags = [False] * (len(operands) + len(saved)) + [True] * len(wrt)
        given = [t for t in tangents if t is not None]
        outs = self._linear_call(linear, [*operands, *kept, *given], flags, transposed)
        return _scatter(len(self.results), _floats(self.results), outs)

    def _saving(self, source: Any) -> str:
        """A function that also returns what the policy keeps."""
        function = clone_function(source, unique_name(self.module, f"{source.sym_name.value}.saving"))
        *_, terminator = function.entry_block.operations
        kept = [op.operation.results[0] for op in saved_in(function)]
        set_results(function, [*terminator.operation.operands, *kept])
        return str(function.sym_name.value)

    def batch(self, operands: list[Tensor], batched: list[bool], size: int) -> list[Tensor]:
        body = self._vmap(self.inlined_as, batched, size)
        _, results = self._specs_of(body)
        name = declare(self.module, self.name, {"volta.checkpoint": body}, [t.spec for t in operands], results)
        return self._call(name, operands)


class CustomVjp(Control, kind="volta.custom_vjp"):
    """A function with a reverse-mode derivative of its own: ``volta.fwd`` returns its results and residuals,
    ``volta.bwd`` takes the residuals and the float results' cotangents and returns the float arguments' cotangents.
    """

    @property
    def inlined_as(self) -> str:  # type: ignore[override]  # a property here
        return self._symbol("volta.custom_vjp")

    @property
    def parts(self) -> list[Any]:
        return self._symbols("volta.custom_vjp", "volta.fwd", "volta.bwd")

    def verify(self) -> None:
        primal, fwd, bwd = self.parts
        self._require_part(primal, self.arguments, self.results)
        self._require_part(fwd, self.arguments, None)
        count, (_, returned) = len(self.results), self._specs_of(fwd.value)
        self._require(returned[:count] == self.results, f"needs @{fwd.value} to return {_list(self.results)} first")
        seeds, gradients = ([specs[i] for i in _floats(specs)] for specs in (self.results, self.arguments))
        self._require_part(bwd, [*returned[count:], *seeds], gradients)

    def interpret(self, run: Run, operands: Arrays) -> list[np.ndarray]:
        return run(self.inlined_as, operands)

    def linearize(self, operands: list[Tensor], tangents: list[Tensor | None], rewrite: Any) -> list[Tensor | None]:
        residuals = rewrite(self._symbol("volta.fwd"))
        floats = _floats(self.arguments)
        tangent_specs = [self.arguments[i] for i in floats]
        results = [self.results[i] for i in _floats(self.results)]
        specs = [r.spec for r in residuals]
        # Nothing defines this function: it can be transposed, but not computed.
        lin = declare(self.module, f"{self.name}.lin", {"volta.opaque": self.name}, [*specs, *tangent_specs], results)
        given = [_or_zeros(tangents[i], self.arguments[i]) for i in floats]
        flags = [False] * len(residuals) + [True] * len(given)
        outs = self._linear_call(lin, [*residuals, *given], flags, self._symbol("volta.bwd"))
        return _scatter(len(self.results), _floats(self.results), outs)

    def batch(self, operands: list[Tensor], batched: list[bool], size: int) -> list[Tensor]:
        operands = [x if b else F.broadcast_to(x, (size, *x.shape)) for x, b in zip(operands, batched, strict=True)]
        parts = {}
        for key in ("volta.custom_vjp", "volta.fwd", "volta.bwd"):
            name = self._symbol(key)
            arguments, _ = self._specs_of(name)
            parts[key] = self._vmap(name, [True] * len(arguments), size)
        _, results = self._specs_of(parts["volta.custom_vjp"])
        name = declare(self.module, self.name, parts, [t.spec for t in operands], results)
        return self._call(name, operands)


class Opaque(Control, kind="volta.opaque"):
    """The tangent of a custom_vjp function, which only reverse mode has."""

    def _refuse(self) -> TraceError:
        return TraceError(
            f"@{self._symbol('volta.opaque')} has a custom_vjp, which defines reverse mode only; jvp, hessian and other"
            " forward-mode transforms can't differentiate it",
            location=source_location(self.location),
        )

    @property
    def parts(self) -> list[Any]:
        return []

    def interpret(self, run: Run, operands: Arrays) -> list[np.ndarray]:
        raise self._refuse()

    def linearize(self, operands: list[Tensor], tangents: list[Tensor | None], rewrite: Any) -> list[Tensor | None]:
        raise self._refuse()

    def batch(self, operands: list[Tensor], batched: list[bool], size: int) -> list[Tensor]:
        raise self._refuse()

    def lower(self, b: Lowering, operands: list[Any]) -> list[Any]:
        raise self._refuse()
