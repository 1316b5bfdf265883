"""The volta dialect, and what it takes to be one of its ops.

An op is one class. Its annotations are its operands, results and attributes, from which the IRDL definition, the
builder and the verifier follow; its methods are its *facets*:

``infer``       result specs from operand specs and attributes; the verifier recomputes and compares them
``reference``   an independent numpy formula; the eager interpreter and every test run it
``tangent``     how tangents flow, in linear ops (derived for linear ops, and from ``partials`` for elementwise ones)
``transpose``   for linear ops only: cotangents of the operands from the cotangent of the result
``batch``       the op over one more leading axis
``permute``     optional: the op on tensors whose axes come in another order
``lower``       the default lowering to linalg, tensor, arith and math
``cost``        floating-point operations and bytes moved

An op that is made of others (:class:`Composite`) writes, instead of ``tangent`` and ``lower``::

``expand``      its results in terms of other ops, which are differentiated and lowered in its place
``pullback``    optional: a reverse mode of its own
``kernel``      optional: code for the CPU that computes the same, see :mod:`volta_mlir.kernels`

Families (elementwise, movement, reduction, …) implement the facets that their members share, so that a member is
a few lines. A facet that is missing raises :class:`FacetError` with the class, the facet and what needed it.

IRDL binds one constraint variable to a variadic group, so that all members of a group must have one type. Volta's
ops therefore have a fixed number of operands, and calls, which are variadic and mixed, are ``func.call``.
"""

import functools
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from volta_mlir import trace
from volta_mlir.dtypes import TensorSpec, bfloat16, is_float, require_possible
from volta_mlir.errors import DTypeError, ShapeError, VoltaError
from volta_mlir.mlir import context, dtype_of, element_type, ext, ir, spec_of

if TYPE_CHECKING:  # the bindings read annotations of ops, for a type checker they say nothing
    Operand = Any
    Result = Any
else:
    Operand = ext.Operand[Any]
    Result = ext.Result[Any]


class Volta(ext.Dialect, name="volta"):  # type: ignore[call-arg]  # the bindings have no types
    """The dialect. Loading it (see :func:`volta_mlir.mlir.context`) registers every op in :data:`OPS`."""


class FacetError(VoltaError):
    """An op was asked for a facet that its class does not implement."""


@dataclass(frozen=True)
class Cost:
    """What one execution of an op costs: floating-point operations, and bytes read and written."""

    flops: int
    bytes: int


#: Every op by its mnemonic (``"add"`` for ``volta.add``), in the order of definition.
OPS: dict[str, type["Op"]] = {}


def _encode_array(array: np.ndarray) -> Any:
    array = np.ascontiguousarray(array).reshape(np.shape(array))
    with context(), ir.Location.unknown():
        type_ = ir.RankedTensorType.get(array.shape, element_type(array.dtype))
        if array.size == 0:
            return ir.Attribute.parse(f"dense<> : {type_}")
        return ir.DenseElementsAttr.get(array, type=type_)


def _decode_array(attr: Any) -> np.ndarray:
    """The elements; a splat's take the memory of one, however many they are."""
    spec = spec_of(attr.type)
    if spec.dtype == bfloat16:
        return np.broadcast_to(_decode_bfloat16(attr), spec.size).reshape(spec.shape)
    return (np.asarray if attr.is_splat else np.array)(attr, dtype=spec.dtype).reshape(spec.shape)


def _decode_bfloat16(attr: Any) -> np.ndarray:
    """The flat elements (one if all are equal), read from the printed form: the bindings read no bfloat16."""
    body = str(attr).removeprefix("dense<").rpartition("> : ")[0]
    if body.startswith('"0x'):  # the bytes of a large array
        return np.frombuffer(bytes.fromhex(body[3:-1]), bfloat16)
    elements = body.replace("[", " ").replace("]", " ").replace(",", " ").split()
    bits = [int(e, 16) if e.startswith("0x") else np.array(float(e), bfloat16).view(np.uint16) for e in elements]
    return np.array(bits, np.uint16).view(bfloat16)


def _decode_dtype(attr: Any) -> np.dtype:
    dtype = dtype_of(attr.value)
    if dtype is None:
        raise DTypeError(f"{attr.value} is no dtype of Volta's")
    return dtype


# Python type of an attribute -> (to MLIR, from MLIR).
_CODECS: dict[Any, tuple[Any, Any]] = {
    int: (
        lambda v: ir.IntegerAttr.get(ir.IntegerType.get_signless(64, context()), int(v)),
        lambda a: ir.IntegerAttr(a).value,
    ),
    float: (lambda v: ir.FloatAttr.get_f64(float(v), context=context()), lambda a: ir.FloatAttr(a).value),
    bool: (lambda v: ir.BoolAttr.get(bool(v), context=context()), lambda a: ir.BoolAttr(a).value),
    str: (lambda v: ir.StringAttr.get(v, context=context()), lambda a: ir.StringAttr(a).value_bytes.decode()),
    tuple[int, ...]: (
        lambda v: ir.DenseI64ArrayAttr.get([int(i) for i in v], context=context()),
        lambda a: tuple(ir.DenseI64ArrayAttr(a)),
    ),
    np.dtype: (lambda v: ir.TypeAttr.get(element_type(v), context=context()), lambda a: _decode_dtype(ir.TypeAttr(a))),
    np.ndarray: (_encode_array, lambda a: _decode_array(ir.DenseElementsAttr(a))),
}


def _attribute_value(op: Any, key: str) -> Any:
    return _CODECS[op.attribute_types[key]][1](op.operation.attributes[key])


class Op(Volta.Operation):  # type: ignore[name-defined]  # the bindings add the attribute
    """Base of every volta op; see the module's docstring for the facets.

    A subclass with ``name=`` is an op and joins :data:`OPS`; one without is a family. Annotations declare, in this
    order, operands (``Operand``), results (``Result``) and attributes (one of the Python types ``int``, ``float``,
    ``bool``, ``str``, ``tuple[int, ...]``, ``np.dtype``, ``np.ndarray``); a family's come before its members'.
    """

    #: Attribute names and their Python types, in order. (Not annotated: ext takes annotations for fields.)
    attribute_types = {}  # type: dict[str, Any]  # noqa: RUF012 - every subclass makes its own
    mnemonic = ""

    #: Whether equal ops may be merged, and unused ones removed.
    pure = True
    #: "jointly" for an op linear in its operands together (a sum, a concatenation), "separately" for one linear in
    #: each with the others fixed (a product); None for any other. A linear op writes ``transpose`` and no tangent.
    linear = None  # type: str | None
    #: The operands in which a linear op is linear; None: all.
    linear_operands = None  # type: tuple[int, ...] | None
    #: False where a float result carries no derivative (a step function): the tangent is zero.
    differentiable = True
    #: The operands whose axes :meth:`permute` takes in another order; None for an op that keeps their order.
    permuted_operands = None  # type: slice | None
    #: Whether the result's axes are then in that order too.
    permuted_result = True

    def __init_subclass__(cls, *, name: str | None = None, **kwargs: Any) -> None:
        own = {key: type_ for key, type_ in cls.__annotations__.items() if type_ in _CODECS}
        cls.attribute_types = {**cls.attribute_types, **own}
        for key in own:
            cls.__annotations__[key] = Any
        super().__init_subclass__(name=name, traits=[ext.Pure] if name and cls.pure else None, **kwargs)
        for key in cls.attribute_types:
            # ext's generated property, a family's included, gives the raw attribute; ours gives the Python value.
            setattr(cls, key, property(functools.partial(_attribute_value, key=key)))
        if name:
            cls.mnemonic = name
            OPS[name] = cls

    # -- construction and access -------------------------------------------------------------------------------

    @classmethod
    def apply(cls, *operands: Any, **attributes: Any) -> Any:
        """Emits the op at the current trace or pass, or evaluates its reference where there is neither.

        Operands are Tensors; the result is a Tensor, or a tuple of them for an op with several results.
        """
        return trace.bind(cls, operands, attributes)

    @classmethod
    def encode(cls, attributes: dict[str, Any]) -> dict[str, Any]:
        """Python attribute values as MLIR attributes."""
        if attributes.keys() != cls.attribute_types.keys():
            raise TypeError(
                f"volta.{cls.mnemonic} takes the attributes {sorted(cls.attribute_types)}, got {sorted(attributes)}"
            )
        return {key: _CODECS[cls.attribute_types[key]][0](value) for key, value in attributes.items()}

    def attribute_values(self) -> dict[str, Any]:
        """This operation's attributes as Python values."""
        return self.decode(self.operation.attributes)

    @classmethod
    def decode(cls, attributes: Any) -> dict[str, Any]:
        """MLIR attributes as Python values: the inverse of :meth:`encode`."""
        return {key: _CODECS[type_][1](attributes[key]) for key, type_ in cls.attribute_types.items()}

    @classmethod
    def infer_all(cls, *specs: TensorSpec, **attributes: Any) -> tuple[TensorSpec, ...]:
        """:meth:`infer` with the result always a tuple, and refused where it can't exist.

        Raises:
            ShapeError: an attribute, or the size in bytes of a result, has more than 64 bits, or an extent is negative.
        """
        for key, value in attributes.items():
            numbers = value if isinstance(value, tuple) else (value,)
            if any(isinstance(number, int) and not -(2**63) <= number < 2**63 for number in numbers):
                raise ShapeError(f"volta.{cls.mnemonic}: {key} = {value} has more than 64 bits")
        inferred = cls.infer(*specs, **attributes)
        inferred = inferred if isinstance(inferred, tuple) else (inferred,)
        for spec in inferred:
            require_possible(spec, f"volta.{cls.mnemonic}")
        return inferred

    @classmethod
    def evaluate(cls, arrays: Sequence[np.ndarray], attributes: dict[str, Any]) -> tuple[np.ndarray, ...]:
        """:meth:`reference` on arrays, held to the inferred specs. NumPy's floating-point warnings are silent:
        infinities and NaN are ordinary results here."""
        expected = cls.infer_all(*(TensorSpec(a.shape, a.dtype) for a in arrays), **attributes)
        with np.errstate(all="ignore"):
            outs = cls.reference(*arrays, **attributes)
            outs = outs if isinstance(outs, tuple) else (outs,)
            arrays = tuple(
                np.asarray(out).astype(spec.dtype, copy=False) for out, spec in zip(outs, expected, strict=True)
            )
        for out, spec in zip(arrays, expected, strict=True):
            if out.shape != spec.shape:
                raise ShapeError(f"volta.{cls.mnemonic}: reference gives shape {out.shape}, infer gives {spec}")
        return arrays

    @staticmethod
    def verify_invariants(op: Any) -> bool:
        """The verifier: operand and attribute kinds, then the results against :meth:`infer`."""
        view = op.operation.opview
        try:
            view.check_signature()
            operands = [spec_of(v.type) for v in view.operation.operands]
            actual = [r.type for r in view.operation.results]
            inferred = view.infer_all(*operands, **view.attribute_values())
            if [spec_of(t) for t in actual] != list(inferred):
                raise ShapeError(
                    f"inferred {', '.join(map(str, inferred))}, but the result is {', '.join(map(str, actual))}"
                )
        except (VoltaError, TypeError, ValueError, KeyError) as error:
            view.location.emit_error(f"'volta.{view.mnemonic}' {getattr(error, 'message', error)}")
            return False
        return True

    def check_signature(self) -> None:
        """Raises TypeError unless the operation has the operands and attributes that its class declares.

        This verifier runs before IRDL's own. Attributes of other dialects, ``dialect.name``, are allowed.
        """
        count = sum(isinstance(field, ext.OperandDef) for field in self._fields)
        if len(self.operation.operands) != count:
            raise TypeError(f"takes {count} operands, got {len(self.operation.operands)}")
        names = list(self.operation.attributes)
        for name in self.attribute_types:
            if name not in names:
                raise TypeError(f"needs the attribute '{name}'")
        for name in names:
            if name not in self.attribute_types and "." not in name:
                raise TypeError(f"has no attribute '{name}'")

    # -- facets ------------------------------------------------------------------------------------------------

    @classmethod
    def infer(cls, *specs: TensorSpec, **attributes: Any) -> TensorSpec | tuple[TensorSpec, ...]:
        raise cls.missing("infer", "building the op")

    @staticmethod
    def reference(*arrays: Any, **attributes: Any) -> Any:
        raise FacetError("an op's class lacks the facet 'reference'")

    @classmethod
    def tangent(cls, primals: Sequence[Any], tangents: Sequence[Any], outs: Sequence[Any], **attributes: Any) -> Any:
        """Tangents of the results: a Tensor, or a tuple with None for a zero tangent.

        ``tangents[i]`` is None where operand ``i`` is not differentiated; at least one is not. Tangents may only be
        used by linear ops, linearly. Linear ops and those that are not differentiable inherit this one.
        """
        if not cls.differentiable:
            return (None,) * len(outs)
        if cls.linear is None:
            raise cls.missing("tangent", "differentiation")
        linear = range(len(primals)) if cls.linear_operands is None else cls.linear_operands
        active = [i for i in linear if tangents[i] is not None]
        if not active:
            return (None,) * len(outs)
        if cls.linear == "separately":
            terms = [
                cls.apply(*(tangents[j] if j == i else x for j, x in enumerate(primals)), **attributes) for i in active
            ]
            return functools.reduce(operator.add, terms)
        operands = list(primals)
        for i in linear:
            operands[i] = tangents[i] if tangents[i] is not None else trace.zeros(primals[i].spec)
        return cls.apply(*operands, **attributes)

    @classmethod
    def transpose(cls, cotangent: Any, operands: Sequence[Any], **attributes: Any) -> Sequence[Any]:
        """Cotangents of the operands (None for none) from the result's.

        ``operands[i]`` is a TensorSpec where the op is linear in it and its cotangent is wanted, else a Tensor.
        """
        raise cls.missing("transpose", "reverse-mode differentiation")

    @classmethod
    def batch(cls, operands: Sequence[Any], batched: Sequence[bool], **attributes: Any) -> Any:
        """The op over a leading axis, which operand ``i`` has where ``batched[i]``; every result must have it."""
        raise cls.missing("batch", "vmap")

    @classmethod
    def permute(cls, operands: Sequence[Any], permutation: Sequence[int], **attributes: Any) -> Any:
        """The op on operands of which those in ``permuted_operands`` are transposed by ``permutation``; so is the
        result, where ``permuted_result`` says so. None where there is no such op.

        This one is for ops whose attributes say nothing of axes.
        """
        return cls.apply(*operands, **attributes)

    @classmethod
    def lower(cls, b: Any, op: "Op", *operands: Any) -> Any:
        """Emits the op in upstream dialects; ``b`` is a :class:`volta_mlir.dialects.lowering.Lowering` builder,
        operands are signless MLIR values; returns a value, or a tuple of them."""
        raise cls.missing("lower", "convert-volta-to-linalg")

    @classmethod
    def flops(cls, operands: Sequence[TensorSpec], results: Sequence[TensorSpec], **attributes: Any) -> int:
        """Floating-point (or integer arithmetic) operations of one execution."""
        raise cls.missing("flops", "the cost model")

    @classmethod
    def cost(cls, operands: Sequence[TensorSpec], results: Sequence[TensorSpec], **attributes: Any) -> Cost:
        """Operations, and the bytes of operands and results, each touched once."""
        moved = sum(s.nbytes for s in operands) + sum(s.nbytes for s in results)
        return Cost(cls.flops(operands, results, **attributes), moved)

    @classmethod
    def missing(cls, facet: str, wanted_by: str) -> FacetError:
        return FacetError(f"volta.{cls.mnemonic}: {wanted_by} needs {cls.__name__}.{facet}, which is not defined")


class Composite(Op):
    """Family of ops that are made of others: lowering and derivatives are those of their expansion.

    One with a ``pullback`` is differentiated in reverse mode by that, and in forward mode by its expansion. It is a
    class method that takes the operands, the results, the cotangents of the float results, and the attributes, and
    returns the cotangents of the operands, None for those without.
    """

    pullback = None  # type: Any

    @classmethod
    def expand(cls, *operands: Any, **attributes: Any) -> Any:
        """The results, a Tensor or a tuple of them, in terms of other ops."""
        raise cls.missing("expand", "lowering and differentiation")

    @classmethod
    def kernel(
        cls, name: str, operands: Sequence[TensorSpec], results: Sequence[TensorSpec], **attributes: Any
    ) -> str | None:
        """MLIR text of a private function ``name`` that computes the op on the CPU; None where the expansion does."""
        return None


def normalize_axis(axis: int, rank: int, what: str) -> int:
    """``axis`` counted from the front; raises ShapeError where the rank has no such axis."""
    if not -rank <= axis < rank:
        raise ShapeError(f"{what}: axis {axis} is out of range for rank {rank}")
    return axis % rank if rank else axis


def require(condition: bool, message: str) -> None:
    """Raises ShapeError with ``message`` unless ``condition``; for use in ``infer``."""
    if not condition:
        raise ShapeError(message)


def require_float(spec: TensorSpec, mnemonic: str) -> None:
    """Raises DTypeError unless ``spec`` is of a floating-point dtype."""
    if not is_float(spec.dtype):
        raise DTypeError(f"volta.{mnemonic} takes floating-point tensors, got {spec}")
