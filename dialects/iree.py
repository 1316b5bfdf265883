"""The operations of IREE's own dialects that lowerings emit.

The MLIR bindings do not know IREE. Declaring here what is used of it lets a lowered module be built, verified and
printed like any other; IREE parses the printed generic form.
"""

from typing import TYPE_CHECKING, Any

from volta_mlir.mlir import ext, ir

if TYPE_CHECKING:  # the bindings read annotations of operations, for a type checker they say nothing
    Value = Any
    Result = Any
else:
    Value = ext.Operand[Any]
    Result = ext.Result[Any]


class IreeLinalgExt(ext.Dialect, name="iree_linalg_ext"):
    """Structured operations that upstream's linalg lacks."""


class ScanOp(IreeLinalgExt.Operation, name="scan", traits=[ext.Pure]):
    """Folds along one dimension and keeps every intermediate result; ``total`` is the last one."""

    operand: Value
    destination: Value
    start: Value
    result: Result
    total: Result
    body: ext.Region
    dimension: Any = ext.attribute()
    inclusive: Any = ext.attribute()
    operandSegmentSizes: Any = ext.attribute()  # one input, two outputs


class ScatterOp(IreeLinalgExt.Operation, name="scatter", traits=[ext.Pure]):
    """Combines the rows of ``updates`` with the rows of ``destination`` that ``indices`` names, in order."""

    updates: Value
    indices: Value
    destination: Value
    result: Result
    body: ext.Region
    dimension_map: Any = ext.attribute()
    unique_indices: Any = ext.attribute()


class YieldOp(IreeLinalgExt.Operation, name="yield", traits=[ir.IsTerminatorTrait]):
    """Ends the body of a structured operation."""

    value: Value


class Util(ext.Dialect, name="util"):
    """IREE's types and operations for host programs."""


class OptimizationBarrierOp(Util.Operation, name="optimization_barrier"):
    """The operand, hidden from every optimisation. Not pure: two of them are not one."""

    operand: Value
    result: Result


DIALECTS = (IreeLinalgExt, Util)
