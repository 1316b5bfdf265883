"""Transforms of functions: grad, value_and_grad, vjp, jvp, hvp, jacfwd, jacrev, hessian, vmap, stop_gradient.

Inside a trace a transform traces its function to a private function of the module and calls a function derived from
it (:mod:`volta_mlir.passes.derived`), which a pass defines later. Outside, the same trace is made around the call,
expanded at once, and run by the interpreter.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Sequence
from itertools import islice
from typing import Any

import numpy as np

from volta_mlir import trace as tracing
from volta_mlir import tree as trees
from volta_mlir.calls import TracedCall, as_argument, flatten_tree, is_tensor_like, numbers_as_static, trace_call
from volta_mlir.dtypes import TensorSpec, is_float
from volta_mlir.errors import DTypeError, ShapeError, TraceError
from volta_mlir.functions import eye, moveaxis, ones, zeros
from volta_mlir.mlir import context, function_named, ir, spec_of
from volta_mlir.modules import leaf_identities, trainable_mask
from volta_mlir.passes.derived import declare, unique_name
from volta_mlir.runtime.prints import Record, Repeated
from volta_mlir.tensor import Tensor

Argnums = int | Sequence[int]


# -- calls of derived functions ----------------------------------------------------------------------------------


def _stem(function: Callable[..., Any]) -> str:
    name = getattr(function, "__name__", type(function).__name__)
    return "".join(c if c.isalnum() or c in "_$." else "_" for c in name)


def _derive(
    kind: str, source: TracedCall, attributes: dict[str, Any], operands: Sequence[Tensor], results: Sequence[TensorSpec]
) -> list[Tensor]:
    """Declares the derived function in the current trace's module and calls it."""
    trace = _current_trace()
    attributes = {f"volta.{kind}": source.trace.name, **{f"volta.{k}": v for k, v in attributes.items()}}
    with context(), trace.current_location():
        name = declare(trace.module, f"{source.trace.name}.{kind}", attributes, [t.spec for t in operands], results)
    return tracing.call(name, operands, trace, results)


def _current_trace() -> tracing.FunctionTrace:
    trace = tracing.current()
    if trace is None:
        raise TraceError(
            "a pullback made inside a traced function can be called there only; return its results instead"
        )
    if not isinstance(trace, tracing.FunctionTrace):
        raise TraceError("a function can't be traced inside an op's rule")
    return trace


def _trace_source(
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    identities: Sequence[Hashable] | None = None,
) -> TracedCall:
    """Traces a function to a private one of the current trace's module; see :func:`trace_call`."""
    module = _current_trace().module
    name = unique_name(module, _stem(function))
    return trace_call(module, name, function, args, kwargs, private=True, identities=identities)


def _operands(
    source: TracedCall, args: tuple[Any, ...], kwargs: dict[str, Any], identities: Sequence[Hashable] | None = None
) -> list[Tensor]:
    """What a call of the traced function takes."""
    tensors, _ = flatten_tree((args, kwargs), identities)
    return [*map(as_argument, tensors), *source.captures]


def _variables(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Hashable]:
    """The identities of the arguments' leaves for differentiation: a module's tied parameters are one variable."""
    positional = [(i, identity) for i, arg in enumerate(args) for identity in leaf_identities(arg)]
    return [*positional, *((None, i) for i in range(len(trees.leaves(kwargs))))]


def _carry_out(source: TracedCall, arguments: Any, outs: Sequence[Tensor]) -> list[Tensor]:
    """The results that are returned; new values of buffers are stored, and what is to be printed is printed."""
    returned, written, printed = source.split(outs)
    for write, value in zip(source.writes, written, strict=True):
        write.store(arguments, value)
    _print(source.prints, printed)
    return returned


def _print(prints: Sequence[Record], values: Sequence[Tensor]) -> None:
    remaining = iter(values)
    for record in prints:
        tracing.emit_print(record, list(islice(remaining, len(record.outputs()))))


def _eagerly(transformed: Callable[..., Any]) -> Callable[..., Any]:
    """Lets a function that needs a trace be called outside one: traced, expanded, and interpreted."""

    @functools.wraps(transformed)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if tracing.current() is not None:
            return transformed(*args, **kwargs)
        return evaluate(transformed, args, kwargs)

    return wrapper


def evaluate(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """``function(*args, **kwargs)`` by tracing it, expanding its transforms, and interpreting the result."""
    from volta_mlir.interpreter import interpret
    from volta_mlir.passes.inline import Inline

    marked = numbers_as_static((args, kwargs))
    with context(), ir.Location.unknown():
        module = ir.Module.create()
        traced = trace_call(module, "main", function, *marked, private=False)
        Inline().run(module)
        tensors, _ = flatten_tree(marked)
        inputs = [as_argument(t).numpy() for t in (*tensors, *traced.captures)]
        outs = _tensors(interpret(module, "main", inputs))
    return traced.results.unflatten(_carry_out(traced, (args, kwargs), outs))


def _tensors(arrays: Sequence[np.ndarray]) -> list[Tensor]:
    return [Tensor._concrete(a, TensorSpec(a.shape, a.dtype)) for a in arrays]


# -- differentiation ---------------------------------------------------------------------------------------------


def _normal_argnums(argnums: Argnums, args: tuple[Any, ...], name: str) -> tuple[int, ...]:
    numbers = (argnums,) if isinstance(argnums, int) else tuple(argnums)
    for i in numbers:
        if not -len(args) <= i < len(args):
            raise TraceError(
                f"{name}: argnums {argnums} is out of range, the function got {len(args)} positional arguments",
            )
    return tuple(i % len(args) for i in numbers)


def _wrt(source: TracedCall, args: tuple[Any, ...], argnums: tuple[int, ...], name: str) -> dict[int, list[int | None]]:
    """For each differentiated argument, the function argument number of each of its leaves (None: no derivative)."""
    chosen: dict[int, list[int | None]] = {}
    start = 0
    for i, arg in enumerate(args):
        leaves = trees.leaves(arg)
        slots = source.arguments.slots[start : start + len(leaves)]
        start += len(leaves)
        if i not in argnums:
            continue
        mask = trainable_mask(arg)
        numbers: list[int | None] = [
            slot if isinstance(slot, int) and trainable and is_float(as_argument(leaf).dtype) else None
            for slot, trainable, leaf in zip(slots, mask, leaves, strict=True)
        ]
        if all(n is None for n in numbers):
            raise DTypeError(
                f"{name}: argument {i} has no floating-point tensor to differentiate by, got"
                f" {', '.join(str(as_argument(x).spec) for x in leaves if is_tensor_like(x)) or 'no tensors'}",
            )
        chosen[i] = numbers
    return chosen


def value_and_grad(function: Callable[..., Any], argnums: Argnums = 0, has_aux: bool = False) -> Callable[..., Any]:
    """A function that returns the value of ``function`` and its gradient.

    Args:
        function: returns a floating-point scalar, or ``(scalar, aux)`` with ``has_aux``.
        argnums: which positional arguments to differentiate by; a tuple gives a tuple of gradients.
        has_aux: the second result is any pytree, returned as it is.

    Returns:
        A function of the same arguments that returns ``(value, grad)`` or ``((value, aux), grad)``. A gradient has the
        structure of its argument. Of a Module it holds the trainable Parameters' gradients; other leaves are None.

    Raises:
        ShapeError: the value is not a scalar. DTypeError: it, or the argument, is not floating-point.

    Example:
        >>> from volta_mlir import Tensor
        >>> value, grad = value_and_grad(lambda x: (x * x).sum())(Tensor([1.0, 3.0]))
        >>> value.item(), grad.tolist()
        (10.0, [2.0, 6.0])
    """

    @_eagerly
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        numbers = _normal_argnums(argnums, args, "grad")
        # Numbers that no derivative is taken by stay numbers, so that they can decide what the function does.
        given = tuple(arg if i in numbers else numbers_as_static(arg) for i, arg in enumerate(args))
        options = numbers_as_static(kwargs)
        variables = _variables(given, options)
        source = _trace_source(function, given, options, variables)
        value_spec = _scalar_result(source, has_aux)
        chosen = _wrt(source, args, numbers, "grad")
        wrt = sorted({n for leaves in chosen.values() for n in leaves if n is not None})
        seeds = [ones(()).astype(value_spec.dtype)]
        # Every float result takes a cotangent; auxiliary ones and buffers get zeros.
        seeds += [zeros(s.shape, s.dtype) for s in source.result_specs[1:] if is_float(s.dtype)]
        outs, grads = _pull_back(source, _operands(source, given, options, variables), wrt, seeds)
        outs = _carry_out(source, (args, kwargs), outs)
        by_number = dict(zip(wrt, grads, strict=True))
        gradients = {}
        for i, leaves in chosen.items():
            _, treedef = trees.flatten(args[i])
            gradients[i] = trees.unflatten(treedef, [None if n is None else by_number[n] for n in leaves])
        result = gradients[numbers[0]] if isinstance(argnums, int) else tuple(gradients[i] for i in numbers)
        return source.results.unflatten(outs), result

    return wrapper


def _scalar_result(source: TracedCall, has_aux: bool) -> TensorSpec:
    """The spec of the value, checked."""
    slots = source.results.slots
    tree = source.results.unflatten(range(source.returned))
    value = tree[0] if has_aux and isinstance(tree, tuple) and len(tree) == 2 else tree
    if value != 0 or (not has_aux and len(slots) != 1) or (has_aux and value is tree):
        wanted = "a pair of a scalar tensor and aux" if has_aux else "one scalar tensor"
        hint = "" if has_aux else "; use has_aux=True if it returns (loss, other)"
        raise ShapeError(f"grad needs a function that returns {wanted}; it returned {_describe(source)}{hint}")
    spec = source.result_specs[0]
    if spec.shape:
        raise ShapeError(f"grad needs a function that returns a scalar, it returned {spec}; take .mean() or .sum()")
    if not is_float(spec.dtype):
        raise DTypeError(f"grad needs a floating-point scalar, the function returned {spec}")
    return spec


def _describe(source: TracedCall) -> str:
    """The function's result with specs for tensors."""
    return str(trees.map(str, source.results.unflatten(source.result_specs)))


def _pull_back(
    source: TracedCall, operands: Sequence[Tensor], wrt: Sequence[int], seeds: Sequence[Tensor]
) -> tuple[list[Tensor], list[Tensor]]:
    """Calls the vjp function of ``source``; returns its results and the cotangents of ``wrt``."""
    specs = source.result_specs + [operands[i].spec for i in wrt]
    outs = _derive("vjp", source, {"wrt": list(wrt)}, [*operands, *seeds], specs)
    return outs[: len(source.result_specs)], outs[len(source.result_specs) :]


def grad(function: Callable[..., Any], argnums: Argnums = 0, has_aux: bool = False) -> Callable[..., Any]:
    """A function that returns the gradient of ``function``, or ``(grad, aux)``; see :func:`value_and_grad`.

    Example:
        >>> from volta_mlir import Tensor
        >>> grad(grad(lambda x: x * x * x))(Tensor(2.0)).item()
        12.0
    """
    both = value_and_grad(function, argnums, has_aux)

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        value, gradient = both(*args, **kwargs)
        return (gradient, value[1]) if has_aux else gradient

    return wrapper


def vjp(function: Callable[..., Any], *primals: Any) -> tuple[Any, Callable[..., Any]]:
    """The value of ``function`` and its pullback.

    Args:
        function: any pytrees of tensors in and out.
        primals: where to evaluate it.

    Returns:
        ``(out, pullback)``; ``pullback(cotangent)``, with a cotangent of the structure of ``out``, returns a tuple of
        the primals' cotangents (None for leaves that are not floating-point).

    Raises:
        ShapeError: the cotangent's structure, a shape or a dtype is not that of ``out``.

    Example:
        >>> from volta_mlir import Tensor
        >>> out, pullback = vjp(lambda x, y: x * y, Tensor(3.0), Tensor(4.0))
        >>> [g.item() for g in pullback(Tensor(1.0))]
        [4.0, 3.0]
    """
    if tracing.current() is None:
        return _eager_vjp(function, primals)
    variables = _variables(primals, {})
    source = _trace_source(function, primals, {}, variables)
    outs, pullback = _traced_vjp(source, primals, _operands(source, primals, {}, variables))
    return source.results.unflatten(_carry_out(source, (primals, {}), outs)), pullback


def _traced_vjp(
    source: TracedCall, primals: tuple[Any, ...], operands: Sequence[Tensor]
) -> tuple[list[Tensor], Callable[..., Any]]:
    """The results inside a trace, and the pullback.

    The function is differentiated at once, into a forward and a backward part: loops that were computed again for the
    pullback would not be merged with the first ones.
    """
    from volta_mlir.passes.autodiff import define_split_vjp

    wrt, module, count = _float_slots(source), _current_trace().module, len(source.result_specs)
    with context(), ir.Location.unknown():
        define_split_vjp(module, source.trace.function, wrt)

    def run(part: str, given: Sequence[Tensor]) -> list[Tensor]:
        name = f"{source.trace.name}.{part}"
        results = function_named(module, name).type.results
        return tracing.call(name, given, _current_trace(), [spec_of(t) for t in results])

    outs = run("fwd", operands)
    residuals = outs[count:]

    def pullback(cotangent: Any) -> tuple[Any, ...]:
        grads = run("bwd", [*residuals, *_cotangent_leaves(source, cotangent)])
        return _cotangents_of(primals, source, dict(zip(wrt, grads, strict=True)))

    return outs[:count], pullback


def _float_slots(source: TracedCall) -> list[int]:
    """The numbers of the floating-point arguments, captures not among them."""
    return [i for i, t in enumerate(source.trace.arguments) if is_float(t.dtype)]


def _cotangents_of(primals: tuple[Any, ...], source: TracedCall, by_number: dict[int, Tensor]) -> tuple[Any, ...]:
    _, treedef = trees.flatten(primals)
    slots = source.arguments.slots[: treedef.num_leaves]
    return trees.unflatten(treedef, [by_number.get(s) if isinstance(s, int) else None for s in slots])


def _cotangent_leaves(source: TracedCall, cotangent: Any) -> list[Tensor]:
    """The cotangents of the float results, checked against the results; those of hidden ones are zeros."""
    leaves, treedef = trees.flatten(cotangent)
    if treedef != source.results.treedef:
        form = "{path} is {first}, its cotangent {second}"
        result = trees.map(lambda _: "a leaf", source.results.unflatten(source.result_specs))
        difference = trees.mismatch(result, trees.map(lambda _: "a leaf", cotangent), form, "the result")
        raise ShapeError(f"the cotangent must have the structure of the result; {difference}")
    by_slot: dict[int, Tensor] = {}
    for leaf, slot in zip(leaves, source.results.slots, strict=True):
        if isinstance(slot, int) and is_float(source.result_specs[slot].dtype):
            given = as_argument(leaf)
            if given.spec != source.result_specs[slot]:
                raise ShapeError(f"a cotangent is {given.spec}, its result {source.result_specs[slot]}")
            # A result that occurs twice in the tree takes the sum of its cotangents.
            by_slot[slot] = by_slot[slot] + given if slot in by_slot else given
    hidden = source.result_specs[source.returned :]
    return [by_slot[slot] for slot in sorted(by_slot)] + [zeros(s.shape, s.dtype) for s in hidden if is_float(s.dtype)]


def _eager_vjp(function: Callable[..., Any], primals: tuple[Any, ...]) -> tuple[Any, Callable[..., Any]]:
    """Outside a trace the forward function runs once, and the residuals wait in numpy arrays."""
    from volta_mlir.interpreter import interpret
    from volta_mlir.passes.autodiff import define_split_vjp

    # The caller may change arrays, and tensors in place, before the pullback is called.
    kept = {id(leaf): _kept(leaf) for leaf in trees.leaves(primals) if is_tensor_like(leaf)}  # tied ones stay tied
    values = trees.map(lambda leaf: kept.get(id(leaf), leaf), primals)
    variables = _variables(values, {})
    with context(), ir.Location.unknown():
        module = ir.Module.create()
        source = trace_call(module, "main", function, values, {}, private=True, identities=variables)
        tensors, _ = flatten_tree((values, {}), variables)
        wrt = _float_slots(source)
        define_split_vjp(module, source.trace.function, wrt)
        arrays = interpret(module, "main.fwd", [t.numpy() for t in (*tensors, *source.captures)])
    outs = _tensors(arrays[: len(source.result_specs)])
    residuals = arrays[len(outs) :]

    def pullback(cotangent: Any) -> tuple[Any, ...]:
        if tracing.current() is not None:
            # Traced cotangents, as under vmap: the program computes the forward function too.
            again = _trace_source(function, values, {}, variables)
            return _traced_vjp(again, values, _operands(again, values, {}, variables))[1](cotangent)
        seeds = [t.numpy() for t in _cotangent_leaves(source, cotangent)]
        with context():
            grads = interpret(module, "main.bwd", [*residuals, *seeds])
        return _cotangents_of(values, source, dict(zip(wrt, _tensors(grads), strict=True)))

    return source.results.unflatten(_carry_out(source, (primals, {}), outs)), pullback


def _kept(leaf: Any) -> Tensor:
    """A concrete leaf as a Tensor of its own."""
    given = as_argument(leaf)
    return Tensor._concrete(given._data, given.spec)


@_eagerly
def jvp(function: Callable[..., Any], primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
    """The value of ``function`` and its directional derivative (forward mode).

    Args:
        primals: the arguments.
        tangents: trees of the same structure; leaves of primals that are not floating-point take None.

    Returns:
        ``(out, tangent)`` of one structure; the tangent of a leaf that is not floating-point is None.

    Raises:
        ShapeError: the tangents' structure, a shape or a dtype is not that of the primals.

    Example:
        >>> from volta_mlir import Tensor
        >>> out, tangent = jvp(lambda x: x * x, (Tensor(3.0),), (Tensor(1.0),))
        >>> out.item(), tangent.item()
        (9.0, 6.0)
    """
    leaves, treedef = trees.flatten(primals)
    tangent_leaves, tangent_def = trees.flatten(tangents)
    if tangent_def != treedef:
        form = "{path} is {first}, its tangent {second}"
        first, second = (trees.map(lambda _: "a leaf", tree) for tree in (primals, tangents))
        difference = trees.mismatch(first, second, form, "primals")
        raise ShapeError(f"jvp: tangents must have the structure of the primals; {difference}")
    # Each leaf has a tangent of its own, so that none are tied.
    variables = range(len(leaves))
    source = _trace_source(function, primals, {}, variables)
    operands = _operands(source, primals, {}, variables)
    by_number: dict[int, Tensor] = {}
    for leaf, tangent, slot in zip(leaves, tangent_leaves, source.arguments.slots, strict=True):
        if tangent is None or not isinstance(slot, int):
            continue
        primal, given = as_argument(leaf), as_argument(tangent)
        if given.spec != primal.spec or not is_float(primal.dtype):
            raise ShapeError(f"jvp: a tangent is {given.spec} for a primal {primal.spec}")
        by_number[slot] = given
    wrt = sorted(by_number)
    floats = [i for i, s in enumerate(source.result_specs) if is_float(s.dtype)]
    specs = source.result_specs + [source.result_specs[i] for i in floats]
    outs = _derive("jvp", source, {"wrt": wrt}, [*operands, *(by_number[i] for i in wrt)], specs)
    by_result = dict(zip(floats, outs[len(source.result_specs) :], strict=True))
    results = _carry_out(source, (primals, {}), outs[: len(source.result_specs)])
    tangent_tree = trees.unflatten(
        source.results.treedef, [by_result.get(s) if isinstance(s, int) else None for s in source.results.slots]
    )
    return source.results.unflatten(results), tangent_tree


@_eagerly
def hvp(function: Callable[..., Any], primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, ...]:
    """The product of the matrix of second derivatives and a vector, without the matrix: forward over reverse.

    Args:
        function: returns a floating-point scalar.
        primals: its arguments, any pytrees.
        tangents: the vector, trees of the same structure; leaves of primals that are not floating-point take None.

    Returns:
        The directional derivative of the gradient: a tuple with a tree for each argument, None for one that has no
        floating-point tensor.

    Raises:
        ShapeError: the value is not a scalar, or the tangents do not fit the primals.

    Example:
        >>> from volta_mlir import Tensor
        >>> (product,) = hvp(lambda x: (x * x * x).sum(), (Tensor([1.0, 2.0]),), (Tensor([1.0, 1.0]),))
        >>> product.tolist()
        [6.0, 12.0]
    """
    numbers = tuple(i for i, arg in enumerate(primals) if any(map(_float_spec, trees.leaves(arg))))
    _, products = jvp(grad(function, numbers), primals, tangents)
    by_number = dict(zip(numbers, products, strict=True))
    return tuple(by_number.get(i) for i in range(len(primals)))


def jacfwd(function: Callable[..., Any], argnums: Argnums = 0) -> Callable[..., Any]:
    """A function that returns the Jacobian of ``function`` in forward mode, a column at a time under :func:`vmap`.

    That suits few inputs and many outputs; :func:`jacrev` suits the other case.

    Args:
        function: any pytrees of tensors in and out.
        argnums: which positional arguments to differentiate by; with a tuple, a leaf of the result is a tuple.

    Returns:
        A function of the same arguments. Its result has the structure of the function's result, and in place of each
        tensor of shape S the structure of the argument, with a tensor of shape S + T for each of shape T. None stands
        for what is not floating-point.

    Raises:
        DTypeError: the arguments have no floating-point tensor.

    Example:
        >>> from volta_mlir import Tensor
        >>> jacfwd(lambda x: x * x[0])(Tensor([1.0, 2.0])).tolist()
        [[2.0, 0.0], [2.0, 1.0]]
    """

    @_eagerly
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        chosen, of_chosen = _choose(function, argnums, args, kwargs, "jacfwd")
        basis, specs = _basis(chosen, "jacfwd")
        columns = vmap(lambda *directions: jvp(of_chosen, chosen, directions)[1])(*basis)

        def block(column: Tensor, rows: slice, spec: TensorSpec) -> Tensor:
            return moveaxis(column[rows], 0, -1).reshape((*column.shape[1:], *spec.shape))

        def blocks(column: Tensor | None) -> Any:
            if column is None:
                return None
            parts = [None if place is None else block(column, *place) for place in specs]
            found = trees.unflatten(trees.flatten(chosen)[1], parts)
            return found[0] if isinstance(argnums, int) else found

        return trees.map(blocks, columns)

    return wrapper


def jacrev(function: Callable[..., Any], argnums: Argnums = 0) -> Callable[..., Any]:
    """A function that returns the Jacobian of ``function`` in reverse mode, a row at a time; see :func:`jacfwd`.

    Example:
        >>> from volta_mlir import Tensor
        >>> jacrev(lambda x: x * x[0])(Tensor([1.0, 2.0])).tolist()
        [[2.0, 0.0], [2.0, 1.0]]
    """

    @_eagerly
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        chosen, of_chosen = _choose(function, argnums, args, kwargs, "jacrev")
        out, pullback = vjp(of_chosen, *chosen)
        basis, specs = _basis(out, "jacrev")
        gradients = vmap(pullback)(basis)
        rows = gradients[0] if isinstance(argnums, int) else gradients

        def block(place: tuple[slice, TensorSpec], gradient: Tensor | None) -> Tensor | None:
            taken, spec = place
            return None if gradient is None else gradient[taken].reshape((*spec.shape, *gradient.shape[1:]))

        parts = [None if place is None else trees.map(functools.partial(block, place), rows) for place in specs]
        return trees.unflatten(trees.flatten(out)[1], parts)

    return wrapper


#: The Jacobian in reverse mode, as in JAX.
jacobian = jacrev


def hessian(function: Callable[..., Any], argnums: Argnums = 0) -> Callable[..., Any]:
    """A function that returns the matrix of second derivatives, forward over reverse.

    ``function`` returns a scalar; for a tensor of shape S at ``argnums`` the result has the shape S + S. Trees, and a
    tuple for ``argnums``, give a tree of trees as :func:`jacfwd` does.

    Raises:
        ShapeError: the value is not a scalar.
        DTypeError: it, or an argument, is not floating-point.

    Example:
        >>> from volta_mlir import Tensor
        >>> hessian(lambda x: (x * x * x).sum())(Tensor([1.0, 2.0])).tolist()
        [[6.0, 0.0], [0.0, 12.0]]
    """
    return jacfwd(grad(function, argnums), argnums)


def _choose(
    function: Callable[..., Any], argnums: Argnums, args: tuple[Any, ...], kwargs: dict[str, Any], name: str
) -> tuple[tuple[Any, ...], Callable[..., Any]]:
    """The arguments to differentiate by, and the function of them alone."""
    numbers = _normal_argnums(argnums, args, name)

    def of_chosen(*values: Any) -> Any:
        given = dict(enumerate(args)) | dict(zip(numbers, values, strict=True))
        return function(*given.values(), **kwargs)

    return tuple(args[i] for i in numbers), of_chosen


def _float_spec(leaf: Any) -> TensorSpec | None:
    """The spec of a leaf that can be differentiated by."""
    spec = as_argument(leaf).spec if is_tensor_like(leaf) else None
    return spec if spec and is_float(spec.dtype) else None


def _basis(tree: Any, name: str) -> tuple[Any, list[tuple[slice, TensorSpec] | None]]:
    """The unit vectors of a tree's floating-point tensors along a new leading axis, and which of them each leaf has."""
    leaves, treedef = trees.flatten(tree)
    specs = [_float_spec(leaf) for leaf in leaves]
    total = sum(spec.size for spec in specs if spec)
    if not any(specs):
        raise DTypeError(f"{name}: there is no floating-point tensor to differentiate, got {trees.map(_text, tree)}")
    vectors: list[Tensor | None] = []
    places: list[tuple[slice, TensorSpec] | None] = []
    start = 0
    for spec in specs:
        if spec is None:
            vectors.append(None)
            places.append(None)
            continue
        vectors.append(eye(total, spec.size, -start, spec.dtype).reshape(total, *spec.shape))
        places.append((slice(start, start + spec.size), spec))
        start += spec.size
    return trees.unflatten(treedef, vectors), places


def _text(leaf: Any) -> str:
    return str(as_argument(leaf).spec if is_tensor_like(leaf) else leaf)


# -- vmap --------------------------------------------------------------------------------------------------------


def vmap(function: Callable[..., Any], in_axes: Any = 0, out_axes: Any = 0) -> Callable[..., Any]:
    """``function`` over one more axis of its arguments, without a loop.

    Args:
        function: any pytrees of tensors in and out, for one example.
        in_axes: the mapped axis of the arguments: one for all, or a tuple with one entry for each positional argument,
            each an int, None (not mapped), or a tree of these that is a prefix of the argument. Keyword arguments are
            mapped over axis 0.
        out_axes: where the axis goes in the results: an int for all, or a prefix tree.

    Returns:
        A function of such arguments with one more axis.

    Raises:
        ShapeError: the axes do not fit the arguments or the results, or their extents differ.
        TraceError: the function assigns a buffer of a module.

    Example:
        >>> from volta_mlir import Tensor
        >>> dot = vmap(lambda x, y: (x * y).sum(), in_axes=(0, None))
        >>> dot(Tensor([[1.0, 2.0], [3.0, 4.0]]), Tensor([1.0, 1.0])).tolist()
        [3.0, 7.0]
    """

    @_eagerly
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        axes = tuple(in_axes) if isinstance(in_axes, tuple | list) else (in_axes,) * len(args)
        if len(axes) != len(args):
            raise ShapeError(f"vmap: in_axes has {len(axes)} entries for {len(args)} arguments")
        axis_leaves = _prefix_leaves((axes, 0), (args, kwargs), "in_axes")
        leaves, treedef = trees.flatten((args, kwargs))
        sizes = set()
        moved: list[Any] = []
        for leaf, axis in zip(leaves, axis_leaves, strict=True):
            if axis is None or not is_tensor_like(leaf):
                moved.append(leaf)
                continue
            x = as_argument(leaf)
            if not -x.ndim <= axis < x.ndim:
                raise ShapeError(f"vmap: in_axes {axis} is out of range for {x.spec}")
            sizes.add(x.shape[axis])
            moved.append(moveaxis(x, axis, 0))
        if len(sizes) != 1:
            what = f"of different extents {sorted(sizes)}" if sizes else "at all"
            raise ShapeError(f"vmap: arguments must agree on the mapped axis, none or axes {what}")
        (size,) = sizes
        return _map(function, moved, axis_leaves, treedef, size, out_axes)

    return wrapper


def _map(function: Any, leaves: list[Any], axes: list[Any], treedef: Any, size: int, out_axes: Any) -> Any:
    """Traces ``function`` for one example and calls its vmap function."""
    mapped = [axis is not None and isinstance(leaf, Tensor) for leaf, axis in zip(leaves, axes, strict=True)]
    examples = [
        TensorSpec(leaf.shape[1:], leaf.dtype) if is_mapped else numbers_as_static(leaf)
        for leaf, is_mapped in zip(leaves, mapped, strict=True)
    ]
    source = _trace_source(function, *trees.unflatten(treedef, examples))
    if source.writes:
        raise TraceError(
            "a Buffer was assigned under vmap, where each example would write its own value; return it instead"
        )
    operands = {
        slot: (as_argument(leaf), is_mapped)
        for leaf, is_mapped, slot in zip(leaves, mapped, source.arguments.slots, strict=True)
        if isinstance(slot, int)
    }
    arguments = [*(operands[i][0] for i in range(len(operands))), *source.captures]
    flags = [*(operands[i][1] for i in range(len(operands))), *(False for _ in source.captures)]
    attributes = {"batched": ir.DenseBoolArrayAttr.get(flags, context=context()), "size": size}
    specs = [TensorSpec((size, *s.shape), s.dtype) for s in source.result_specs]
    outs, _, printed = source.split(_derive("vmap", source, attributes, arguments, specs))
    if source.prints:
        tracing.emit_print(Repeated(size, source.prints), printed)
    result = source.results.unflatten(outs)
    destinations = _prefix_leaves(out_axes, result, "out_axes")
    moved = []
    for x, axis in zip(trees.leaves(result), destinations, strict=True):
        if isinstance(x, Tensor):
            if axis is None or not -x.ndim <= axis < x.ndim:
                raise ShapeError(f"vmap: out_axes {axis} is no axis of the result {x.spec}")
            x = moveaxis(x, 0, axis)
        moved.append(x)
    return trees.unflatten(trees.flatten(result)[1], moved)


def _prefix_leaves(prefix: Any, tree: Any, what: str) -> list[Any]:
    """An entry of ``prefix`` for each leaf of ``tree``: a prefix tree's leaf holds for everything below it."""
    if prefix is None or isinstance(prefix, int):
        return [prefix] * len(trees.leaves(tree))
    if isinstance(tree, dict) and isinstance(prefix, dict) and prefix.keys() == tree.keys():
        pairs = [(prefix[key], tree[key]) for key in sorted(tree)]
    elif isinstance(tree, tuple | list) and isinstance(prefix, tuple | list) and len(prefix) == len(tree):
        pairs = list(zip(prefix, tree, strict=True))
    else:
        raise ShapeError(f"vmap: {what} {prefix!r} is not a prefix of the tree {tree!r}")
    return [leaf for p, t in pairs for leaf in _prefix_leaves(p, t, what)]


def stop_gradient(x: Any) -> Any:
    """``x`` as a constant for differentiation; any pytree.

    Example:
        >>> from volta_mlir import Tensor
        >>> grad(lambda x: x * stop_gradient(x))(Tensor(3.0)).item()
        3.0
    """
    from volta_mlir.dialects.elementwise import StopGradientOp

    return trees.map(lambda leaf: StopGradientOp.apply(as_argument(leaf)) if is_tensor_like(leaf) else leaf, x)
