"""Control flow on traced values: scan, associative_scan, while_loop, fori_loop, cond, switch; and custom_vjp,
checkpoint.

The functions that these take are traced once each. What they close over becomes operands of the loop or branch.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, overload

import numpy as np

from volta_mlir import functions as F
from volta_mlir import trace as tracing
from volta_mlir import tree as trees
from volta_mlir.calls import BufferWrite, Structure, TracedCall, as_argument, flatten_tree, is_tensor_like, trace_call
from volta_mlir.dialects.base import Op
from volta_mlir.dialects.elementwise import CheckpointNameOp
from volta_mlir.dtypes import INDEX, TensorSpec, bool_, is_float, require_possible
from volta_mlir.errors import DTypeError, OptionError, ShapeError, TraceError
from volta_mlir.functions.common import axes_tuple
from volta_mlir.mlir import context, ir, spec_of
from volta_mlir.passes.control_flow import SAVED, declare_scan, declare_switch, declare_while
from volta_mlir.passes.derived import build_function, call, declare, unique_name
from volta_mlir.passes.manager import source_location
from volta_mlir.runtime.prints import Chosen, Repeated, first_location
from volta_mlir.runtime.signature import LeafSpec
from volta_mlir.tensor import Tensor
from volta_mlir.transforms import _carry_out, _current_trace, _eagerly, _operands, _stem, _trace_source

# -- tracing parts -------------------------------------------------------------------------------------------------


def _examples(tree: Any, drop_axis: bool = False) -> Any:
    """The tree with specs for tensors, so that equal tensors stay separate arguments."""

    def example(leaf: Any) -> Any:
        if not is_tensor_like(leaf):
            return leaf
        spec = as_argument(leaf).spec
        return spec.with_shape(spec.shape[1:]) if drop_axis else spec

    return trees.map(example, tree)


def _tensors(tree: Any) -> list[Tensor]:
    """The tensor leaves, one for each occurrence."""
    return [as_argument(leaf) for leaf in trees.leaves(tree) if is_tensor_like(leaf)]


def _trace_part(function: Callable[..., Any], *examples: Any) -> TracedCall:
    """Traces a part for example arguments; assigning buffers in it is refused."""
    module = _current_trace().module
    return trace_call(module, unique_name(module, _stem(function)), function, examples, {}, private=True)


def _refuse_writes(part: TracedCall, where: str, of_arguments: bool = True) -> None:
    """Raises TraceError if the part assigns buffers of closed-over modules or, unless that is false, of arguments."""
    if any(of_arguments or write.module is not None for write in part.writes):
        raise TraceError(f"a Buffer was assigned inside {where}, which runs it conditionally; return the value instead")


def _refuse_prints(part: TracedCall, where: str, instead: str) -> None:
    """Raises TraceError, with the line of the print, if the part prints."""
    if part.prints:
        raise TraceError(f"debug.print is called inside {where}; {instead}", location=first_location(part.prints[0]))


def _store_carried(part: TracedCall, arguments: tuple[Any, ...], carry: Any) -> None:
    """Stores the buffers of modules in the carry, the first argument, that a part assigned: those in the last carry."""
    for write in part.writes:
        if write.accessor is not None and write.accessor[1].entry == 0:
            write.store((arguments, {}), write.accessor[2:](carry))


def _result_leaves(part: TracedCall, outs: Sequence[Tensor]) -> list[Tensor]:
    """The results of a part in the order of its tree's leaves, each occurrence separately."""
    return [outs[slot] for slot in part.results.slots if isinstance(slot, int)]


def _result_specs(part: TracedCall) -> list[TensorSpec]:
    return [part.result_specs[slot] for slot in part.results.slots if isinstance(slot, int)]


def _rebuild(structure: Structure, tensors: Sequence[Tensor]) -> Any:
    """A tree with one tensor for each tensor leaf of the structure."""
    remaining = iter(tensors)
    return trees.unflatten(
        structure.treedef, [next(remaining) if isinstance(slot, int) else slot.value for slot in structure.slots]
    )


def _build(stem: str, specs: Sequence[TensorSpec], body: Callable[..., Sequence[Tensor]]) -> str:
    trace = _current_trace()
    with context():
        return build_function(trace.module, stem, specs, body, trace.current_location())


def _call(name: str, operands: Sequence[Tensor]) -> list[Tensor]:
    with context():
        return call(_current_trace().module, name, operands)


def _call_inside(name: str, operands: Sequence[Tensor]) -> list[Tensor]:
    """A call from within a function that :func:`_build` is building."""
    return call(_module_of_builder(), name, operands)


def _module_of_builder() -> Any:
    emitter = tracing.current()
    assert emitter is not None
    return emitter.insertion_point.block.owner.operation.parent.opview


# -- scan ------------------------------------------------------------------------------------------------------------


@_eagerly
def scan(
    function: Callable[..., Any], init: Any, xs: Any = None, length: int | None = None, reverse: bool = False
) -> tuple[Any, Any]:
    """A loop with a carry over the leading axis of ``xs``, collecting results.

    Differentiable in both modes. Short loops are unrolled when compiled. A step may assign buffers of a module in the
    carry, which it returns, of one in ``xs``, whose leaves are stacked, and of one that it closes over.

    Args:
        function: ``(carry, x) -> (carry, y)``; the carry keeps its structure, shapes and dtypes.
        init: the first carry, any pytree.
        xs: pytree of tensors with equal leading axes; None for none, then ``length`` says how often.
        length: how often, if ``xs`` does not say it.
        reverse: from the last step to the first; ``ys`` keeps the order of ``xs``.

    Returns:
        The last carry, and a pytree of every step's ``y``, stacked.

    Raises:
        ShapeError: leading axes differ, the function does not return a pair, or the carry changes its structure, a
            shape or a dtype.

    Example:
        >>> from volta_mlir import Tensor
        >>> total, sums = scan(lambda carry, x: (carry + x, carry + x), Tensor(0.0), Tensor([1.0, 2.0, 3.0]))
        >>> total.item(), sums.tolist()
        (6.0, [1.0, 3.0, 6.0])
    """
    inputs = _tensors(xs)
    lengths = {x.shape[0] if x.ndim else None for x in inputs} | ({length} if length is not None else set())
    if len(lengths) != 1 or None in lengths:
        raise ShapeError(
            f"scan: xs must have one leading length, got {', '.join(str(x.spec) for x in inputs) or 'no xs'}"
            f"{'' if length is None else f' and length={length}'}"
        )
    steps = int(lengths.pop() or 0)
    if not 0 <= steps < 2**63:
        raise ShapeError(f"scan: length is a number of steps, at least 0 and of 64 bits; got {steps}")
    carry = _tensors(init)
    part = _trace_part(function, _examples(init), _examples(xs, drop_axis=True))
    carry_structure = flatten_tree(_examples(init))[1]
    count = len(carry)
    _check_carry(part, init, carry)
    captures, writes = part.captures, part.writes
    # What a step assigns to a buffer of a module in xs is one more y; of one in the carry, the step returns it.
    of_xs = [w for w in writes if w.accessor is not None and w.accessor[1].entry == 1]
    # A buffer of a closed-over module that a step assigns is a carry: the next step reads what this one wrote.
    of_closures = [w for w in writes if w.module is not None]
    written = [as_argument(getattr(write.module, write.name)) for write in of_closures]
    positions = {write.capture: i for i, write in enumerate(of_closures) if write.capture is not None}
    consts = [t for i, t in enumerate(captures) if i not in positions]

    def values(of: Sequence[BufferWrite], outs: Sequence[Any]) -> list[Any]:
        """What a step gives, or its spec, for these writes."""
        return [value for write, value in zip(writes, part.split(outs)[1], strict=True) if write in of]

    step_specs = [x.spec.with_shape(x.shape[1:]) for x in inputs]

    def body(*args: Tensor) -> list[Tensor]:
        cs, state = iter(args[: len(consts)]), args[len(consts) : len(consts) + count]
        buffers = args[len(consts) + count : len(consts) + count + len(written)]
        step = args[len(consts) + count + len(written) :]
        captured = [buffers[positions[i]] if i in positions else next(cs) for i in range(len(captures))]
        outs = _call_inside(part.trace.name, [*state, *step, *captured])
        leaves = _result_leaves(part, outs)
        printed = part.split(outs)[2]
        return [*leaves[:count], *values(of_closures, outs), *leaves[count:], *values(of_xs, outs), *printed]

    state = [*carry, *written]
    const_specs, state_specs, input_specs = ([t.spec for t in group] for group in (consts, state, inputs))
    name = _build(f"{part.trace.name}.body", [*const_specs, *state_specs, *step_specs], body)
    printed_specs = part.split(part.result_specs)[2]
    results = [*state_specs, *_result_specs(part)[count:], *values(of_xs, part.result_specs), *printed_specs]
    for spec in results[len(state) :]:
        require_possible(spec.with_shape((steps, *spec.shape)), "scan")
    trace = _current_trace()
    with context(), trace.current_location():
        loop = declare_scan(
            trace.module, part.trace.name, name, const_specs, state_specs, input_specs, results, steps, reverse
        )
    outs = _call(loop, [*consts, *state, *inputs])
    if part.prints:
        tracing.emit_print(Repeated(steps, part.prints, reverse), outs[len(outs) - part.printed :])
    last_ys = len(outs) - part.printed
    end = last_ys - len(of_xs)
    for write, value in zip([*of_closures, *of_xs], [*outs[count : len(state)], *outs[end:last_ys]], strict=True):
        write.store(((init, xs), {}), value)
    # The results' tree is (carry, y); its leaves are the last carries and the stacked outputs.
    out_carry, ys = _rebuild(part.results, [*outs[:count], *outs[len(state) : end]])
    last = _rebuild(carry_structure, trees_tensors(out_carry))
    _store_carried(part, (init, xs), last)
    return last, ys


def trees_tensors(tree: Any) -> list[Tensor]:
    """The Tensor leaves of a tree."""
    return [leaf for leaf in trees.leaves(tree) if isinstance(leaf, Tensor)]


def _check_carry(part: TracedCall, init: Any, carry: Sequence[Tensor]) -> None:
    tree = part.results.unflatten(list(range(part.returned)))
    if not isinstance(tree, tuple) or len(tree) != 2:
        raise ShapeError("scan: the function must return a pair (carry, y); y may be None")
    specs = _result_specs(part)[: len(carry)]
    if trees.flatten(tree[0])[1] != trees.flatten(init)[1] or specs != [t.spec for t in carry]:
        raise ShapeError(f"scan: {_changed(init, _result_tree(part)[0])}")


def _result_tree(part: TracedCall) -> Any:
    """What a part returns, with specs for tensors."""
    return part.results.unflatten(part.result_specs)


def _changed(init: Any, last: Any) -> str:
    """Says how a carry that does not keep its type changes; ``last`` has specs for tensors."""
    form = "{path} began as {first} and came back as {second}"
    return f"the carry must keep its type; {trees.mismatch(_examples(init), last, form, 'carry')}"


def associative_scan(function: Callable[[Any, Any], Any], elems: Any, reverse: bool = False, axis: int = 0) -> Any:
    """Every prefix of ``elems`` along an axis combined by an associative function, in a logarithmic number of steps.

    Differentiable in both modes. It calls the function about 2 · log₂(n) times for n elements, each time for many pairs
    at once, where a :func:`scan` has n steps one after the other.

    Args:
        function: ``(a, b) -> c`` for trees like ``elems``, elementwise along the axis, whose extent is any number of
            elements; must be associative, and keep shapes and dtypes.
        elems: a pytree of tensors with one extent along the axis.
        reverse: combine from the end.
        axis: the axis to scan along.

    Returns:
        A tree like ``elems``: at each place along the axis what came up to it, that place included.

    Raises:
        ShapeError: extents differ, or the function changes a shape or a dtype.

    Example:
        >>> from volta_mlir import Tensor
        >>> associative_scan(lambda a, b: a * b, Tensor([1.0, 2.0, 3.0, 4.0])).tolist()
        [1.0, 2.0, 6.0, 24.0]
    """
    leaves, treedef = trees.flatten(elems)
    tensors = [as_argument(leaf) for leaf in leaves]
    axes = [axes_tuple(axis, x.ndim)[0] for x in tensors]
    if len({x.shape[a] for x, a in zip(tensors, axes, strict=True)}) != 1:
        raise ShapeError(
            f"associative_scan: elems must have one extent along axis {axis}, got"
            f" {', '.join(str(x.spec) for x in tensors) or 'no tensors'}"
        )
    moved = [F.moveaxis(x, a, 0) for x, a in zip(tensors, axes, strict=True)]

    def combine(first: list[Tensor], second: list[Tensor]) -> list[Tensor]:
        given = [
            trees.unflatten(treedef, [F.moveaxis(x, 0, a) for x, a in zip(xs, axes, strict=True)])
            for xs in (first, second)
        ]
        outs, structure = trees.flatten(function(*given))
        found = [F.moveaxis(as_argument(x), a, 0) for x, a in zip(outs, axes, strict=False)]
        if structure != treedef or [x.spec for x in found] != [x.spec for x in first]:
            taken, returned = _examples(given[0]), _examples(trees.unflatten(structure, outs))
            difference = trees.mismatch(taken, returned, "for {path} it took {first} and returned {second}", "elems")
            raise ShapeError(f"associative_scan: the function must return what it takes; {difference}")
        return found

    if reverse:
        moved = [F.flip(x, 0) for x in moved]
    moved = _prefixes(combine, moved)
    if reverse:
        moved = [F.flip(x, 0) for x in moved]
    return trees.unflatten(treedef, [F.moveaxis(x, 0, a) for x, a in zip(moved, axes, strict=True)])


def _prefixes(combine: Callable[[list[Tensor], list[Tensor]], list[Tensor]], xs: list[Tensor]) -> list[Tensor]:
    """The prefixes along axis 0: those of pairs of neighbours are every second one, the others lie one step further.

    Blelloch, "Prefix sums and their applications" (1990).
    """
    n = xs[0].shape[0]
    if n < 2:
        return xs
    odd = _prefixes(combine, combine([x[: n - 1 : 2] for x in xs], [x[1::2] for x in xs]))
    if n == 2:
        return [F.concatenate([x[:1], y]) for x, y in zip(xs, odd, strict=True)]
    later = combine([y[: (n - 1) // 2] for y in odd], [x[2::2] for x in xs])
    even = [F.concatenate([x[:1], z]) for x, z in zip(xs, later, strict=True)]
    results = []
    for first, second in zip(even, odd, strict=True):
        count, *rest = second.shape
        woven = F.stack([first[:count], second], axis=1).reshape((2 * count, *rest))
        results.append(F.concatenate([woven, first[count:]]) if n % 2 else woven)
    return results


# -- while_loop and fori_loop ----------------------------------------------------------------------------------------


@_eagerly
def while_loop(condition: Callable[[Any], Any], body: Callable[[Any], Any], init: Any) -> Any:
    """``carry = init; while condition(carry): carry = body(carry)``.

    Differentiable in forward mode only; in reverse mode use :func:`scan` or a :func:`fori_loop` of fixed length.

    Args:
        condition: takes the carry and returns a bool scalar.
        body: takes the carry and returns the next one, of the same structure, shapes and dtypes.
        init: the first carry, any pytree.

    Returns:
        The last carry.

    Raises:
        ShapeError: the carry changes its structure, a shape or a dtype.
        DTypeError: the condition returns something else.
        TraceError: a buffer of a module that is not in the carry is assigned, or the loop is differentiated in reverse.

    Example:
        >>> from volta_mlir import Tensor
        >>> while_loop(lambda x: x < 100, lambda x: x * 2, Tensor(3)).item()
        192
    """
    example = _examples(init)
    test, step = _trace_part(condition, example), _trace_part(body, example)
    _refuse_writes(test, "while_loop")
    _refuse_writes(step, "while_loop", of_arguments=False)
    for part in (test, step):
        _refuse_prints(
            part,
            "a while_loop, whose number of steps is not known",
            "print in a scan, or in a fori_loop with numbers for bounds, or print what the loop returns",
        )
    carry = _tensors(init)
    specs = [t.spec for t in carry]
    if _result_specs(test) != [TensorSpec((), bool_)]:
        raise DTypeError(
            f"while_loop: the condition must return a bool scalar, it returned {list(map(str, test.result_specs))}"
        )
    if step.results.treedef != trees.flatten(init)[1] or _result_specs(step) != specs:
        raise ShapeError(f"while_loop: {_changed(init, _result_tree(step))}")
    consts = [*test.captures, *step.captures]
    first, count = len(test.captures), len(consts)
    state = [*(t.spec for t in consts), *specs]
    condition_name = _build(
        f"{test.trace.name}.condition",
        state,
        lambda *args: _call_inside(test.trace.name, [*args[count:], *args[:first]]),
    )
    body_name = _build(
        f"{step.trace.name}.body",
        state,
        lambda *args: _result_leaves(step, _call_inside(step.trace.name, [*args[count:], *args[first:count]])),
    )
    trace = _current_trace()
    with context(), trace.current_location():
        loop = declare_while(trace.module, step.trace.name, condition_name, body_name, count, state)
    last = _rebuild(step.results, _call(loop, [*consts, *carry]))
    _store_carried(step, (init,), last)
    return last


def fori_loop(lower: Any, upper: Any, body: Callable[[Any, Any], Any], init: Any) -> Any:
    """``for i in range(lower, upper): carry = body(i, carry)``.

    With ints for bounds, Python's or NumPy's, it is a :func:`scan`, differentiable in both modes; with tensors a
    :func:`while_loop`.

    Args:
        lower: the first number, an integer.
        upper: the number after the last one.
        body: takes the number, an int32 scalar, and the carry; returns the next carry.
        init: the first carry, any pytree.

    Returns:
        The last carry; ``init`` where ``upper`` is not above ``lower``.

    Raises:
        ShapeError, TraceError: as for :func:`scan` or :func:`while_loop`.

    Example:
        >>> from volta_mlir import Tensor
        >>> fori_loop(0, 4, lambda i, x: x + i, Tensor(0)).item()
        6
    """
    if isinstance(lower, int | np.integer) and isinstance(upper, int | np.integer):

        def step(carry: Any, i: Any) -> tuple[Any, None]:
            return body(i, carry), None

        return scan(step, init, F.arange(int(lower), max(int(lower), int(upper))))[0]

    def more(state: Any) -> Any:
        return F.less(state[0], state[1])

    def advance(state: Any) -> Any:
        i, end, carry = state
        return i + 1, end, body(i, carry)

    lower, upper = (F.astype(as_argument(b), INDEX) for b in (lower, upper))
    return while_loop(more, advance, (lower, upper, init))[2]


# -- branches --------------------------------------------------------------------------------------------------------


def cond(predicate: Any, on_true: Callable[..., Any], on_false: Callable[..., Any], *operands: Any) -> Any:
    """``on_true(*operands)`` if the predicate, a bool scalar, holds, else ``on_false(*operands)``; only one runs.

    Args:
        predicate: a bool scalar. Under :func:`~volta_mlir.vmap` with one for each example, both functions run.
        on_true, on_false: return trees of the same structure, shapes and dtypes.
        operands: any pytrees; what the functions close over need not be among them.

    Raises:
        DTypeError: the predicate is not a bool scalar.
        ShapeError: the functions return different types.
        TraceError: a function assigns a buffer of a module.

    Example:
        >>> from volta_mlir import Tensor
        >>> cond(Tensor(True), lambda x: x + 1, lambda x: x - 1, Tensor(1.0)).item()
        2.0
    """
    test = as_argument(predicate)
    if test.spec != TensorSpec((), bool_):
        raise DTypeError(f"cond: the predicate is a bool scalar, got {test.spec}")
    return _switch(F.astype(test, INDEX), {"on_false": on_false, "on_true": on_true}, *operands)


def switch(index: Any, branches: Sequence[Callable[..., Any]], *operands: Any) -> Any:
    """``branches[index](*operands)``; the index, an integer scalar, is clamped to the branches; only one runs.

    Args:
        index: an integer scalar.
        branches: return trees of the same structure, shapes and dtypes.
        operands: any pytrees, which all branches take.

    Raises:
        ShapeError: the branches return different types, or the index is not a scalar.
        TraceError: there are no branches, or one assigns a buffer of a module.

    Example:
        >>> from volta_mlir import Tensor
        >>> switch(Tensor(1), [lambda x: x, lambda x: x * 10], Tensor(2.0)).item()
        20.0
    """
    if not branches:
        raise TraceError("switch: there are no branches")
    chosen = F.astype(as_argument(index), INDEX)
    if chosen.shape:
        raise ShapeError(f"switch: the index is a scalar, got {chosen.spec}")
    return _switch(chosen, {f"branch {i}": branch for i, branch in enumerate(branches)}, *operands)


@_eagerly
def _switch(chosen: Tensor, branches: dict[str, Callable[..., Any]], *operands: Any) -> Any:
    """The branches, by what errors call them; the index is a scalar of :data:`INDEX`."""
    parts = [_trace_part(branch, *_examples(operands)) for branch in branches.values()]
    first, first_name = parts[0], next(iter(branches))
    for part, name in zip(parts, branches, strict=True):
        _refuse_writes(part, "cond or switch")
        if part.results.treedef != first.results.treedef or _result_specs(part) != _result_specs(first):
            form = f"{{path}} is {{first}} in {first_name} and {{second}} in {name}"
            difference = trees.mismatch(_result_tree(first), _result_tree(part), form, "the result")
            raise ShapeError(f"the branches must return the same type; {difference}")
    arguments = _tensors(operands)
    captures = list({id(t): t for part in parts for t in part.captures}.values())
    specs = [t.spec for t in (*arguments, *captures)]

    def branch(part: TracedCall) -> str:
        places = [len(arguments) + next(i for i, t in enumerate(captures) if t is c) for c in part.captures]

        def body(*args: Tensor) -> list[Tensor]:
            outs = _call_inside(part.trace.name, [*args[: len(arguments)], *(args[i] for i in places)])
            # Every branch returns what any of them prints.
            printed = [
                part.split(outs)[2] if other is part else map(tracing.zeros, other.split(other.result_specs)[2])
                for other in parts
            ]
            return [*_result_leaves(part, outs), *chain.from_iterable(printed)]

        return _build(f"{part.trace.name}.branch", specs, body)

    trace = _current_trace()
    names = [branch(part) for part in parts]
    with context(), trace.current_location():
        name = declare_switch(trace.module, parts[0].trace.name, names, specs)
    outs = iter(_call(name, [chosen, *arguments, *captures]))
    results = [next(outs) for _ in _result_specs(parts[0])]
    for i, part in enumerate(parts):
        values = list(islice(outs, part.printed))
        if part.prints:
            index = LeafSpec("branch", (), INDEX.name)
            tracing.emit_print(Chosen(i, len(parts), part.prints, index), [chosen, *values])
    return _rebuild(parts[0].results, results)


# -- checkpoint and custom_vjp ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Intermediate:
    """A value inside a checkpointed function, for its policy to decide on.

    Attributes:
        op: the op that computes it: ``"dot_general"``, ``"tanh"``, …; ``docs/ops.md`` lists them.
        name: what :func:`checkpoint_name` called it, else None.
        spec: its shape and dtype.
        location: the user's line, ``file:line``; None where there is none.

    Example:
        >>> import volta_mlir as volta
        >>> large = lambda value: value.spec.nbytes > 1 << 20
        >>> large(Intermediate("tanh", None, volta.spec((1024, 1024)), None))
        True
    """

    op: str
    name: str | None
    spec: TensorSpec
    location: str | None


#: Whether a value is kept for the backward pass.
Policy = Callable[[Intermediate], bool]


def dots_saveable(value: Intermediate) -> bool:
    """A policy of :func:`checkpoint`: the results of products and convolutions are kept, the rest is computed again.

    As ``jax.checkpoint_policies.dots_saveable``, and convolutions.

    Example:
        >>> import volta_mlir as volta
        >>> layer = checkpoint(lambda w, x: volta.tanh(x @ w).sum(), policy=dots_saveable)
        >>> volta.grad(layer)(volta.zeros((2, 2)), volta.ones((1, 2))).tolist()
        [[1.0, 1.0], [1.0, 1.0]]
    """
    return value.op in ("dot_general", "convolution")


def save_only_names(*names: str) -> Policy:
    """A policy of :func:`checkpoint`: values with one of these names are kept, the rest is computed again.

    As ``jax.checkpoint_policies.save_only_these_names``.

    Raises:
        OptionError: no name is given, or one is no string.

    Example:
        >>> import volta_mlir as volta
        >>> def layer(w, x):
        ...     return (checkpoint_name(x @ w, "product") ** 2).sum()
        >>> volta.grad(checkpoint(layer, policy=save_only_names("product")))(volta.ones((1, 1)), volta.ones((1, 1)))
        Tensor([[2.]], dtype=float32)
    """
    if not names or not all(isinstance(name, str) for name in names):
        raise OptionError(f"save_only_names takes the names of values, got {', '.join(map(repr, names)) or 'none'}")
    return lambda value: value.name in names


def checkpoint_name(x: Any, name: str) -> Tensor:
    """``x``, under a name by which the policy of a :func:`checkpoint` may keep it.

    Args:
        x: a tensor of any shape and dtype.
        name: not empty; several values may have the same one.

    Example:
        >>> checkpoint_name(Tensor([1.0]), "attention").tolist()
        [1.0]
    """
    if not isinstance(name, str) or not name:
        raise OptionError(f"checkpoint_name takes a name of at least one letter, got {name!r}")
    return CheckpointNameOp.apply(as_argument(x), label=name)


@overload
def checkpoint(function: Callable[..., Any], *, policy: Policy | None = None) -> Callable[..., Any]: ...


@overload
def checkpoint(*, policy: Policy | None = None) -> Callable[[Callable[..., Any]], Callable[..., Any]]: ...


def checkpoint(function: Callable[..., Any] | None = None, *, policy: Policy | None = None) -> Any:
    """``function``, whose intermediate values are computed again in the backward pass instead of being kept.

    Args:
        function: any pytrees of tensors in and out, of any dtypes. It may assign buffers; what it draws at random is
            the same when it is computed again.
        policy: which values are kept nevertheless: :func:`dots_saveable`, :func:`save_only_names`, or a function of an
            :class:`Intermediate`; default none. What the function calls control flow with is not asked about.

    Returns:
        A function of the same arguments and results; usable as a decorator too.

    Raises:
        OptionError: the policy is no function.

    Example:
        >>> from volta_mlir import Tensor, grad
        >>> grad(checkpoint(lambda x: (x * x).sum()))(Tensor([3.0])).tolist()
        [6.0]
    """
    if policy is not None and not callable(policy):
        raise OptionError(
            f"checkpoint: a policy is volta.dots_saveable, volta.save_only_names(…) or a function; got {policy!r}"
        )
    if function is None:
        return functools.partial(checkpoint, policy=policy)

    @_eagerly
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        source = _trace_source(function, args, kwargs)
        operands = _operands(source, args, kwargs)
        trace = _current_trace()
        with context(), trace.current_location():
            if policy is not None:
                _mark_saved(source.trace.function, policy)
            name = declare(
                trace.module,
                f"{source.trace.name}.checkpoint",
                {"volta.checkpoint": source.trace.name},
                [t.spec for t in operands],
                source.result_specs,
            )
        return source.results.unflatten(_carry_out(source, (args, kwargs), _call(name, operands)))

    return wrapper


def _mark_saved(function: Any, policy: Policy) -> None:
    """Marks what a policy keeps in a function."""
    for op in function.entry_block.operations:
        if isinstance(op, Op) and len(op.operation.results) == 1:
            name = op.label if isinstance(op, CheckpointNameOp) else None
            spec = spec_of(op.operation.results[0].type)
            if policy(Intermediate(op.mnemonic, name, spec, source_location(op.location))):
                op.operation.attributes[SAVED] = ir.UnitAttr.get()


class custom_vjp:
    """A function with a reverse-mode derivative of its own.

    ``fwd`` takes the function's arguments and returns ``(result, residuals)``; ``bwd(residuals, cotangent)`` returns a
    tuple with the cotangent of each argument (None for those that have none).

    Args:
        function: any pytrees of tensors in, as positional arguments, and out.

    Raises:
        TraceError: there is no derivative yet (:meth:`defvjp`), it is wanted in forward mode, or a buffer is assigned.
        ShapeError: ``fwd`` or ``bwd`` returns something of another structure, shape or dtype than it should.

    Example:
        >>> from volta_mlir import Tensor, grad
        >>> @custom_vjp
        ... def clipped(x):
        ...     return x * 2
        >>> clipped.defvjp(lambda x: (x * 2, None), lambda residuals, ct: (ct.clip(-1.0, 1.0),))
        >>> grad(lambda x: clipped(x) * 5)(Tensor(1.0)).item()
        1.0
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self._fwd: Callable[..., Any] | None = None
        self._bwd: Callable[..., Any] | None = None

    def defvjp(self, fwd: Callable[..., Any], bwd: Callable[..., Any]) -> None:
        """Sets the forward and the backward function."""
        self._fwd, self._bwd = fwd, bwd

    def __call__(self, *args: Any) -> Any:
        """Calls the function."""
        return _custom_vjp_call(self, args)


@_eagerly
def _custom_vjp_call(custom: custom_vjp, args: tuple[Any, ...]) -> Any:
    if custom._fwd is None or custom._bwd is None:
        raise TraceError(f"{_stem(custom.function)} has no derivative yet; call its defvjp(fwd, bwd) first")
    examples = _examples(args)
    primal, fwd = _trace_part(custom.function, *examples), _trace_part(custom._fwd, *examples)
    for part in (primal, fwd):
        _refuse_writes(part, "a custom_vjp function")
        _refuse_prints(part, "a custom_vjp function", "print its arguments or what it returns")
    pair = fwd.results.unflatten(fwd.result_specs)
    if not isinstance(pair, tuple) or len(pair) != 2:
        raise ShapeError("custom_vjp: fwd must return a pair (result, residuals)")
    results = _result_specs(primal)
    if trees.flatten(pair[0])[1] != primal.results.treedef or _result_specs(fwd)[: len(results)] != results:
        raise ShapeError("custom_vjp: fwd must return the function's result first, of the same type")
    cotangent = primal.results.unflatten([s if is_float(s.dtype) else None for s in primal.result_specs])
    bwd = _trace_part(custom._bwd, pair[1], cotangent)
    _refuse_writes(bwd, "a custom_vjp function")
    _refuse_prints(bwd, "a custom_vjp function", "print the gradient")

    arguments = _tensors(args)
    captures = list({id(t): t for part in (primal, fwd, bwd) for t in part.captures}.values())
    specs = [t.spec for t in (*arguments, *captures)]
    count = len(arguments)

    def places(part: TracedCall) -> list[int]:
        return [count + next(i for i, t in enumerate(captures) if t is c) for c in part.captures]

    def run(part: TracedCall, operands: Sequence[Tensor]) -> list[Tensor]:
        given = [*operands[:count], *(operands[i] for i in places(part))]
        return _result_leaves(part, _call_inside(part.trace.name, given))

    # The backward's captures travel as residuals.
    bwd_places = places(bwd)
    primal_name = _build(f"{primal.trace.name}.primal", specs, lambda *xs: run(primal, xs))
    fwd_name = _build(f"{primal.trace.name}.fwd", specs, lambda *xs: [*run(fwd, xs), *(xs[i] for i in bwd_places)])
    residuals = [*_result_specs(fwd)[len(results) :], *(specs[i] for i in bwd_places)]
    seeds = [s for s in results if is_float(s.dtype)]
    bwd_name = _build(
        f"{primal.trace.name}.bwd", [*residuals, *seeds], functools.partial(_run_bwd, bwd, args, specs, len(residuals))
    )
    trace = _current_trace()
    with context(), trace.current_location():
        attributes = {"volta.custom_vjp": primal_name, "volta.fwd": fwd_name, "volta.bwd": bwd_name}
        name = declare(trace.module, f"{primal.trace.name}.custom", attributes, specs, results)
    return _rebuild(primal.results, _call(name, [*arguments, *captures]))


def _run_bwd(bwd: TracedCall, args: Any, specs: Sequence[TensorSpec], residuals: int, *given: Tensor) -> list[Tensor]:
    """Calls the user's backward and returns a cotangent for each float operand, zeros where it gives none."""
    captured = len(bwd.captures)
    own, passed, seeds = given[: residuals - captured], given[residuals - captured : residuals], given[residuals:]
    outs = _call_inside(bwd.trace.name, [*own, *seeds, *passed])
    cotangents = bwd.results.unflatten(outs)
    if not isinstance(cotangents, tuple) or len(cotangents) != len(args):
        raise ShapeError(f"custom_vjp: bwd must return a tuple with {len(args)} cotangents, one for each argument")
    found: list[Tensor | None] = []
    for arg, cotangent in zip(args, cotangents, strict=True):
        wanted = [leaf for leaf in trees.leaves(arg) if is_tensor_like(leaf)]
        leaves = [None] * len(wanted) if cotangent is None else trees.leaves(cotangent)
        if len(leaves) != len(wanted):
            raise ShapeError("custom_vjp: a cotangent must have the structure of its argument")
        found += leaves
    found += [None] * (len(specs) - len(found))
    results = []
    for cotangent, spec in zip(found, specs, strict=True):
        if not is_float(spec.dtype):
            continue
        if cotangent is not None and cotangent.spec != spec:
            raise ShapeError(f"custom_vjp: bwd returned a cotangent {cotangent.spec} for an argument {spec}")
        results.append(tracing.zeros(spec) if cotangent is None else cotangent)
    return results
