"""The builder that ops' ``lower`` facets use: linalg.generic and friends at the current insertion point.

Below volta every integer is signless, so an op takes signedness from its own volta types and picks the operation
(``arith.divui`` or ``arith.divsi``). Scalars inside a body are MLIR values of the signless element type.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from volta_mlir.dtypes import TensorSpec, bfloat16, float32, int16, int32, is_float, is_unsigned
from volta_mlir.mlir import arith, context, ir, linalg, signless_element_type, signless_tensor_type, tensor

#: How an operand is indexed by the loops of a generic: one entry per axis of the operand, which is a loop's number
#: or the sum of several loops times their factors, as pairs.
Map = Sequence[int | tuple[tuple[int, int], ...]]


@lru_cache(maxsize=4096)
def _map_attr(loops: int, results: tuple[int | tuple[tuple[int, int], ...], ...]) -> Any:
    with context():
        exprs = [
            ir.AffineDimExpr.get(r) if isinstance(r, int) else sum(ir.AffineDimExpr.get(d) * factor for d, factor in r)
            for r in results
        ]
        return ir.AffineMapAttr.get(ir.AffineMap.get(loops, 0, exprs))


@lru_cache(maxsize=256)
def _iterator_attr(kinds: tuple[str, ...]) -> Any:
    with context():
        return ir.ArrayAttr.get([ir.Attribute.parse(f"#linalg.iterator_type<{k}>") for k in kinds])


def reassociation(source: tuple[int, ...], target: tuple[int, ...]) -> list[tuple[list[int], list[int]]] | None:
    """Groups of adjacent source and target axes with equal products, each with one axis on one side at least.

    None where there is no such grouping (``(2, 3)`` to ``(3, 2)``).
    """
    if not source or not target:
        return None
    groups: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(source) and j < len(target):
        left, right = [i], [j]
        size_left, size_right = source[i], target[j]
        while size_left != size_right:
            if size_left < size_right:
                i += 1
                if i == len(source):
                    return None
                left.append(i)
                size_left *= source[i]
            else:
                j += 1
                if j == len(target):
                    return None
                right.append(j)
                size_right *= target[j]
        groups.append((left, right))
        i, j = i + 1, j + 1
    for rest in range(i, len(source)):  # what is left over has extent 1
        groups[-1][0].append(rest)
    for rest in range(j, len(target)):
        groups[-1][1].append(rest)
    if any(len(left) > 1 and len(right) > 1 for left, right in groups):
        return None
    return groups


class Lowering:
    """Emits upstream ops at the current insertion point and location (the conversion pass sets both).

    Args:
        vector_bytes: the size of a vector, in the lanes of which rows are folded; 0 if they aren't folded in lanes.
    """

    def __init__(self, vector_bytes: int = 0) -> None:
        self.vector_bytes = vector_bytes

    # -- tensors -----------------------------------------------------------------------------------------------

    def empty(self, spec: TensorSpec) -> Any:
        """A tensor with undefined contents, to be written by a structured op."""
        return tensor.empty(spec.shape, signless_element_type(spec.dtype))

    def splat(self, value: Any, spec: TensorSpec) -> Any:
        """A constant tensor with every element ``value`` (a number or a rank-0 array)."""
        array = np.asarray(value, spec.dtype)
        if is_unsigned(spec.dtype):
            array = array.view(spec.dtype.name[1:])
        type_ = signless_tensor_type(spec)
        if spec.size == 0:
            return self.empty(spec)
        attr = ir.DenseElementsAttr.get_splat(type_, self._scalar_attr(array))
        return arith.constant(type_, attr)

    def dense(self, array: np.ndarray, spec: TensorSpec) -> Any:
        """A constant tensor; ``array`` holds signless bits of ``spec``'s dtype."""
        type_ = signless_tensor_type(spec)
        if spec.size == 0:
            return self.empty(spec)
        return arith.constant(
            type_, ir.DenseElementsAttr.get(np.ascontiguousarray(array).reshape(spec.shape), type=type_)
        )

    def filled(self, scalar: Any, spec: TensorSpec) -> Any:
        """A tensor filled by ``linalg.fill`` from a scalar value; the initial value of reductions."""
        return linalg.fill(scalar, outs=[self.empty(spec)])

    def generic(
        self,
        inputs: Sequence[Any],
        input_maps: Sequence[Map],
        outputs: Sequence[Any],
        output_maps: Sequence[Map],
        iterators: Sequence[str],
        body: Callable[..., Any],
        *,
        packed: bool = False,
    ) -> tuple[Any, ...]:
        """One ``linalg.generic``.

        Args:
            inputs, outputs: tensors; outputs are also the initial values.
            input_maps, output_maps: for each tensor, what indexes each of its axes; see :data:`Map`.
            iterators: "parallel" or "reduction" per loop.
            body: takes one scalar per input and per output, returns one scalar per output (a value or a tuple).
            packed: whether IREE packs the operands of this product into tiles.

        Returns:
            The results, one per output.
        """
        loops = len(iterators)
        attributes = {
            "indexing_maps": ir.ArrayAttr.get([_map_attr(loops, tuple(m)) for m in (*input_maps, *output_maps)]),
            "iterator_types": _iterator_attr(tuple(iterators)),
            "operandSegmentSizes": ir.DenseI32ArrayAttr.get([len(inputs), len(outputs)]),
        }
        if packed:
            from volta_mlir.iree_compiler import PACKED

            attributes[PACKED] = ir.UnitAttr.get()
        op = ir.Operation.create(
            "linalg.generic",
            results=[o.type for o in outputs],
            operands=[*inputs, *outputs],
            attributes=attributes,
            regions=1,
        )
        elements = [v.type.element_type for v in (*inputs, *outputs)]
        block = op.regions[0].blocks.append(*elements)
        with ir.InsertionPoint(block):
            yielded = body(*block.arguments)
            linalg.yield_(list(yielded) if isinstance(yielded, tuple | list) else [yielded])
        return tuple(op.results)

    def elementwise(self, spec: TensorSpec, inputs: Sequence[Any], body: Callable[..., Any]) -> Any:
        """A tensor of ``spec`` computed element by element from inputs of the same shape."""
        identity = range(spec.rank)
        return self.generic(
            inputs,
            [identity] * len(inputs),
            [self.empty(spec)],
            [identity],
            ["parallel"] * spec.rank,
            lambda *args: body(*args[:-1]),
        )[0]

    def converted(self, x: Any, spec: TensorSpec, dtype: np.dtype) -> Any:
        """``x`` (of ``spec``) converted to ``dtype`` element by element, see :meth:`convert`."""
        if spec.dtype == dtype:
            return x
        return self.elementwise(spec.with_dtype(dtype), [x], lambda v: self.convert(v, spec.dtype, dtype))

    def transpose(self, x: Any, spec: TensorSpec, permutation: Sequence[int]) -> Any:
        """``x`` (of ``spec``) with result axis ``i`` taken from axis ``permutation[i]``."""
        out = spec.with_shape(tuple(spec.shape[p] for p in permutation))
        if list(permutation) == list(range(spec.rank)):
            return x
        loops = range(spec.rank)
        source = [list(permutation).index(axis) for axis in loops]
        return self.generic([x], [source], [self.empty(out)], [loops], ["parallel"] * spec.rank, lambda v, _: v)[0]

    def reshape(self, x: Any, out: TensorSpec) -> Any:
        """The elements of ``x`` in row-major order under ``out``'s shape, as collapse_shape and expand_shape."""
        source = tuple(x.type.shape)
        if source == out.shape:
            return x
        if out.size == 0:
            return self.empty(out)
        if not out.shape:
            return self._collapse(x, [])
        groups = reassociation(source, out.shape)
        if groups is None:  # no common refinement of axes: go through one flat axis
            x = self._collapse(x, [list(range(len(source)))]) if len(source) != 1 else x
            return self._expand(x, [list(range(len(out.shape)))], out)
        collapse = [left for left, _ in groups]
        expand, axis = [], 0
        for _, right in groups:
            expand.append(list(range(axis, axis + len(right))))
            axis += len(right)
        if any(len(g) != 1 for g in collapse):
            x = self._collapse(x, collapse)
        if any(len(g) != 1 for g in expand):
            x = self._expand(x, expand, out)
        return x

    def _collapse(self, x: Any, groups: list[list[int]]) -> Any:
        source = x.type.shape
        if not source:
            return x
        shape = [int(np.prod([source[a] for a in g], dtype=np.int64)) for g in groups]
        return tensor.collapse_shape(ir.RankedTensorType.get(shape, x.type.element_type), x, groups)

    def _expand(self, x: Any, groups: list[list[int]], out: TensorSpec) -> Any:
        if not x.type.shape:
            groups = []
        return tensor.expand_shape(signless_tensor_type(out), x, groups, [], out.shape)

    def unfused(self, x: Any, spec: TensorSpec) -> Any:
        """``x`` (of ``spec``, not empty) behind a ``tensor.reshape``, across which IREE neither fuses nor moves ops."""
        flat = self.reshape(x, spec.with_shape((spec.size,)))
        extents = self.dense(np.array(spec.shape), TensorSpec((spec.rank,), np.dtype("int64")))
        return tensor.reshape(x.type, flat, extents)

    def dispatch(self, results: Sequence[TensorSpec], body: Callable[[], Sequence[Any]]) -> list[Any]:
        """What ``body`` returns, of the specs ``results``, computed by the ops that it emits in one dispatch of IREE's.

        IREE neither takes these ops apart nor adds others to them.
        """
        # The bindings can't declare an op whose results differ in type, so this one stays unknown to them.
        context().allow_unregistered_dialects = True
        region = self._dispatch_region([signless_tensor_type(spec) for spec in results])
        with ir.InsertionPoint(region.regions[0].blocks.append()):
            values = list(body())
            # Of equal results IREE 3.13 drops all but the first, and then reads the dispatch's first one for them.
            numbers = {value: number for number, value in enumerate(dict.fromkeys(values))}
            ir.Operation.create("flow.return", operands=list(numbers))
        if len(numbers) < len(values):
            whole, region = region, self._dispatch_region([value.type for value in numbers])
            whole.regions[0].blocks[0].append_to(region.regions[0])
            whole.erase()
        return [region.results[numbers[value]] for value in values]

    @staticmethod
    def _dispatch_region(types: Sequence[Any]) -> Any:
        return ir.Operation.create(
            "flow.dispatch.region",
            results=types,
            attributes={"operandSegmentSizes": ir.DenseI32ArrayAttr.get([0, 0])},
            regions=2,  # the second one says how many workgroups there are; IREE finds out
        )

    def extract_slice(self, x: Any, offsets: Sequence[Any], sizes: Sequence[int], strides: Sequence[int]) -> Any:
        """``sizes[i]`` elements of ``x`` along each axis, every ``strides[i]``-th from ``offsets[i]`` on.

        Offsets are ints or ``index`` values.
        """
        static, dynamic = self._split_offsets(offsets)
        type_ = ir.RankedTensorType.get(sizes, x.type.element_type)
        return tensor.extract_slice(type_, x, dynamic, [], [], static, list(sizes), list(strides))

    def insert_slice(self, x: Any, into: Any, offsets: Sequence[Any], strides: Sequence[int]) -> Any:
        """``into`` with ``x`` written to the slice that :meth:`extract_slice` reads."""
        static, dynamic = self._split_offsets(offsets)
        return tensor.insert_slice(x, into, dynamic, [], [], static, list(x.type.shape), list(strides))

    def place(self, x: Any, into: Any, low: Sequence[int], interior: Sequence[int]) -> Any:
        """``into`` with element ``e`` of ``x`` written to ``low + e * (interior + 1)`` along each axis; elements whose
        place is outside are dropped."""
        source, target = tuple(x.type.shape), tuple(into.type.shape)
        steps = [between + 1 for between in interior]
        first = [max(0, -(before // step)) for before, step in zip(low, steps, strict=True)]
        of_axes = zip(source, target, low, steps, strict=True)
        end = [min(extent, -((before - room) // step)) for extent, room, before, step in of_axes]
        kept = tuple(max(0, e - f) for e, f in zip(end, first, strict=True))
        if 0 in kept:
            return into
        if kept != source:
            x = self.extract_slice(x, first, kept, [1] * len(source))
        if kept == target:
            return x
        offsets = [before + f * step for before, f, step in zip(low, first, steps, strict=True)]
        return self.insert_slice(x, into, offsets, steps)

    @staticmethod
    def _split_offsets(offsets: Sequence[Any]) -> tuple[list[int], list[Any]]:
        marker = ir.ShapedType.get_dynamic_stride_or_offset()
        static = [o if isinstance(o, int) else marker for o in offsets]
        return static, [o for o in offsets if not isinstance(o, int)]

    def row(self, x: Any, index: Any) -> Any:
        """``x[index]`` along the leading axis, for an ``index`` value that is in range."""
        shape = list(x.type.shape)
        out = ir.RankedTensorType.get(shape[1:], x.type.element_type)
        dynamic = ir.ShapedType.get_dynamic_stride_or_offset()
        zeros, ones = [0] * (len(shape) - 1), [1] * len(shape)
        return tensor.extract_slice(out, x, [index], [], [], [dynamic, *zeros], [1, *shape[1:]], ones)

    def set_row(self, x: Any, index: Any, row: Any) -> Any:
        """``x`` with ``x[index]`` replaced, for an ``index`` value that is in range."""
        shape = list(x.type.shape)
        dynamic = ir.ShapedType.get_dynamic_stride_or_offset()
        zeros, ones = [0] * (len(shape) - 1), [1] * len(shape)
        return tensor.insert_slice(row, x, [index], [], [], [dynamic, *zeros], [1, *shape[1:]], ones)

    # -- scalars -----------------------------------------------------------------------------------------------

    def _scalar_attr(self, array: np.ndarray) -> Any:
        element = signless_element_type(array.dtype)
        if is_float(array.dtype):
            return ir.FloatAttr.get(element, float(array))
        if array.dtype == np.bool_:
            return ir.BoolAttr.get(bool(array))
        return ir.IntegerAttr.get(element, int(array))

    def scalar(self, value: Any, dtype: np.dtype) -> Any:
        """A constant scalar of ``dtype`` (Python number; unsigned values wrap to their bits)."""
        array = np.asarray(value, dtype)
        if is_unsigned(dtype):
            array = array.view(dtype.name[1:])
        return arith.constant(signless_element_type(dtype), self._scalar_attr(array))

    def opaque(self, scalar: Any) -> Any:
        """A scalar that no optimisation knows, nor takes for equal to another one."""
        return ir.Operation.create("util.optimization_barrier", results=[scalar.type], operands=[scalar]).result

    def index(self, loop: int) -> Any:
        """The current value of a loop, as an ``index``; inside a body."""
        return linalg.IndexOp(loop).result

    def constant_index(self, value: int) -> Any:
        """A constant ``index``."""
        return arith.constant(ir.IndexType.get(), value)

    def element_of_slice(self, x: Any, start: Sequence[int], strides: Sequence[int]) -> Any:
        """The element where the loops are of a slice of ``x``; inside a body."""
        steps = [arith.muli(self.index(a), self.constant_index(stride)) for a, stride in enumerate(strides)]
        at = [arith.addi(i, self.constant_index(n)) for i, n in zip(steps, start, strict=True)]
        return tensor.extract(x, at)

    def convert_index(self, index: Any, dtype: np.dtype) -> Any:
        """An ``index`` as a scalar of ``dtype``."""
        i64 = ir.IntegerType.get_signless(64)
        value = arith.index_cast(i64, index)
        return self.convert(value, np.dtype("int64"), dtype)

    def to_index(self, scalar: Any, dtype: np.dtype) -> Any:
        """An integer scalar of ``dtype`` as an ``index``."""
        cast = arith.index_castui if is_unsigned(dtype) else arith.index_cast
        return cast(ir.IndexType.get(), scalar)

    def convert(self, x: Any, source: np.dtype, target: np.dtype) -> Any:
        """A scalar converted between dtypes with volta.convert's semantics: float to integer truncates, saturates
        and takes NaN to 0; to bool is ``!= 0``; integers wrap; to half precision goes through float32."""
        if source == target:
            return x
        element = signless_element_type(target)
        if target == np.bool_:
            zero = self.scalar(0, source)
            if is_float(source):
                return arith.cmpf(arith.CmpFPredicate.UNE, x, zero)
            return arith.cmpi(arith.CmpIPredicate.ne, x, zero)
        if is_float(target) and target.itemsize == 2 and source != float32:
            # Through float32, which is where targets without such a conversion would take it anyway.
            x = self.convert(x, source, float32)
            if target == bfloat16 and not is_float(source):
                return self._rounded_to_bfloat16(x)
            return arith.truncf(element, x)
        if is_float(source):
            if not is_float(target):
                return self._float_to_int(x, source, target)
            return (arith.extf if source.itemsize < target.itemsize else arith.truncf)(element, x)
        unsigned = is_unsigned(source) or source == np.bool_
        if is_float(target):
            return (arith.uitofp if unsigned else arith.sitofp)(element, x)
        source_bits = 1 if source == np.bool_ else 8 * source.itemsize
        target_bits = 8 * target.itemsize
        if source_bits < target_bits:
            return (arith.extui if unsigned else arith.extsi)(element, x)
        if source_bits > target_bits:
            return arith.trunci(element, x)
        return x

    def _rounded_to_bfloat16(self, x: Any) -> Any:
        """A finite float32 to the nearest bfloat16, of two the even one, by its bits.

        MLIR makes one conversion of those from an integer to float32 and on, and LLVM has none from integers to
        bfloat16 without AVX512-BF16, but calls a function that is not there.
        """
        bits = arith.bitcast(signless_element_type(int32), x)
        is_odd = arith.andi(arith.shrui(bits, self.scalar(16, int32)), self.scalar(1, int32))
        rounded = arith.addi(bits, arith.addi(is_odd, self.scalar(0x7FFF, int32)))
        high = arith.trunci(signless_element_type(int16), arith.shrui(rounded, self.scalar(16, int32)))
        return arith.bitcast(signless_element_type(bfloat16), high)

    def _float_to_int(self, x: Any, source: np.dtype, target: np.dtype) -> Any:
        # arith.fptosi and fptoui are undefined outside the target's range: compare first, select afterwards.
        if source.itemsize < 4:
            x, source = arith.extf(signless_element_type(float32), x), float32
        element = signless_element_type(target)
        info = np.iinfo(target)
        low = float(info.min)
        high = float(2 ** (8 * target.itemsize - (0 if is_unsigned(target) else 1)))  # max + 1, exact in binary
        too_low = arith.cmpf(arith.CmpFPredicate.OLT, x, self.scalar(low, source))
        too_high = arith.cmpf(arith.CmpFPredicate.OGE, x, self.scalar(high, source))
        nan = arith.cmpf(arith.CmpFPredicate.UNO, x, x)
        unsafe = arith.ori(arith.ori(too_low, too_high), nan)
        safe = arith.select(unsafe, self.scalar(0, source), x)
        cast = (arith.fptoui if is_unsigned(target) else arith.fptosi)(element, safe)
        clipped = arith.select(too_high, self.scalar(info.max, target), cast)
        return arith.select(too_low, self.scalar(info.min, target), clipped)
