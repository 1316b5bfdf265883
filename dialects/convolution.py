"""Convolutions in one to three dimensions and their gradients: three ops that are each other's transposes.

For an input ``x``, a kernel ``w`` and a cotangent ``y``, the number ``sum(convolution(x, w) * y)`` is linear in each of
the three, and the ops are its derivatives: ``convolution(x, w)`` by ``y``, ``convolution_input_grad(y, w)`` by ``x``,
``convolution_kernel_grad(x, y)`` by ``w``. So the transpose of each, in either operand, is another of them, and
derivatives of any order consist of nothing else. A transposed convolution is ``convolution_input_grad``.

``layout`` names the axes of ``x`` and ``y``: N is the batch, C the channels, others are spatial. The kernel's axes are
in the same order, with O for the output channels and I for the input channels of a group: OIHW with NCHW, HWIO with
NHWC. Channels are divided into ``groups`` that do not mix. Padding is zeros. The kernel is not flipped.
"""

import itertools
import math as pymath
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from volta_mlir import functions as F
from volta_mlir.dialects.base import Op, Operand, Result, require
from volta_mlir.dialects.contraction import contract
from volta_mlir.dialects.control import AfterOp
from volta_mlir.dialects.movement import inverse, permuted
from volta_mlir.dialects.reduction import accumulator
from volta_mlir.dialects.window import Axis, padded, plus
from volta_mlir.dtypes import TensorSpec, bool_, is_float
from volta_mlir.errors import DTypeError
from volta_mlir.mlir import arith, signless_tensor_type, spec_of, tensor

#: Up to this many elements a gradient by a kernel copies at once, of those that its results came from.
MAX_COLUMNS = 8 << 20

LAYOUTS = ("NCW", "NWC", "NCHW", "NHWC", "NCDHW", "NDHWC")


@dataclass(frozen=True)
class Geometry:
    """The extents of a convolution. Shapes are channels last: (N, spatial…, C) and (spatial…, I, O)."""

    batch: int
    groups: int
    inputs: int
    outputs: int
    axes: tuple[Axis, ...]

    @property
    def rank(self) -> int:
        """The number of spatial axes."""
        return len(self.axes)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each of ``x``, ``w`` and ``y``."""
        return {
            "x": (self.batch, *(axis.extent for axis in self.axes), self.groups * self.inputs),
            "w": (*(axis.window for axis in self.axes), self.inputs, self.groups * self.outputs),
            "y": (self.batch, *(axis.count for axis in self.axes), self.groups * self.outputs),
        }

    @property
    def taps(self) -> list[tuple[int, ...]]:
        """The places in the kernel, row-major."""
        return list(itertools.product(*(range(axis.window) for axis in self.axes)))

    @property
    def low(self) -> list[int]:
        """Padding before each axis of ``x``."""
        return [0, *(axis.low for axis in self.axes), 0]

    @property
    def high(self) -> list[int]:
        """Padding after each axis of ``x``."""
        return [0, *(axis.high for axis in self.axes), 0]

    def trimmed(self) -> "Geometry":
        """Without the end of the padded ``x`` that no place in the kernel meets.

        IREE takes loops of one step out of a ``linalg.generic``, and refuses what is left if ``x`` is longer.
        """
        used = [(axis.count - 1) * axis.stride + (axis.window - 1) * axis.dilation + 1 for axis in self.axes]
        axes = [replace(axis, high=end - axis.extent - axis.low) for axis, end in zip(self.axes, used, strict=True)]
        return replace(self, axes=tuple(axes))

    def offsets(self, tap: tuple[int, ...]) -> list[int]:
        """Where in the padded ``x`` the elements that one place in the kernel meets begin."""
        return [0, *(t * axis.dilation for t, axis in zip(tap, self.axes, strict=True)), 0]

    def under(self, first: int, first_tap: int) -> list[tuple[tuple[int, int], tuple[int, int]]]:
        """What indexes the spatial axes of the padded ``x``, as a ``Map`` of loops: those over the places in ``y`` are
        numbered from ``first`` on, those over the places in the kernel from ``first_tap`` on."""
        return [((first + a, axis.stride), (first_tap + a, axis.dilation)) for a, axis in enumerate(self.axes)]

    @property
    def steps(self) -> list[int]:
        """How far apart in the padded ``x`` they are."""
        return [1, *(axis.stride for axis in self.axes), 1]


def to_channels_last(role: str, layout: str) -> tuple[int, ...]:
    """The permutation that brings an ``x``, ``w`` or ``y`` in ``layout`` to channels last."""
    rank = len(layout)
    if layout[-1] == "C":
        return tuple(range(rank))
    return (*range(2, rank), 1, 0) if role == "w" else (0, *range(2, rank), 1)


class Convolutional(Op):
    """Family of the three ops."""

    linear = "separately"
    permuted_operands = slice(1)
    #: What lhs, rhs and the result are: ``x``, ``w`` and ``y`` in some order.
    roles = ("x", "w", "y")
    lhs: Operand
    rhs: Operand
    result: Result
    strides: tuple[int, ...]
    low: tuple[int, ...]
    high: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    layout: str

    @classmethod
    def geometry(cls, lhs, rhs, *, strides, low, high, dilation, groups, layout, extents=()):
        """The geometry for operands of these shapes, which are checked; ``extents`` are the result's spatial ones."""
        require(layout in LAYOUTS, f"layout must be one of {', '.join(LAYOUTS)}, got {layout!r}")
        require(len(lhs) == len(rhs) == len(layout), f"layout {layout} is not that of shapes {lhs} and {rhs}")
        rank = len(layout) - 2
        given = (strides, low, high, dilation, *([extents] if "extents" in cls.attribute_types else []))
        require(
            all(len(g) == rank for g in given),
            f"strides, low, high, dilation and extents must have {rank} entries for layout {layout}, got {given}",
        )
        require(groups > 0, f"groups must be positive, got {groups}")
        shapes = {
            role: permuted(shape, to_channels_last(role, layout))
            for role, shape in zip(cls.roles, (lhs, rhs), strict=False)
        }
        x, w, y = (shapes.get(role, ()) for role in "xwy")
        inputs, outputs = w[-2:] if w else (x[-1] // groups, y[-1])
        spatial = (x[1:-1] if x else extents, w[:-2] if w else extents)
        axes = tuple(Axis(*of_axis) for of_axis in zip(*spatial, strides, low, high, dilation, strict=True))
        for axis in axes:
            axis.check()
        geometry = Geometry((x or y)[0], groups, inputs, outputs // groups, axes)
        for role, given, other in zip(cls.roles, (lhs, rhs), (rhs, lhs), strict=False):
            expected = permuted(geometry.shapes[role], inverse(to_channels_last(role, layout)))
            require(
                given == expected,
                f"shapes {given} and {other} do not fit with {groups} groups, strides {strides}, padding {low}, {high},"
                f" dilation {dilation}: with {other}, {given} should be {expected}",
            )
        return geometry

    @classmethod
    def infer(cls, lhs, rhs, **attributes):
        if lhs.dtype != rhs.dtype or lhs.dtype == bool_:
            raise DTypeError(f"operands must be numbers of one dtype, got {lhs} and {rhs}")
        geometry = cls.geometry(lhs.shape, rhs.shape, **attributes)
        role = cls.roles[2]
        return lhs.with_shape(permuted(geometry.shapes[role], inverse(to_channels_last(role, attributes["layout"]))))

    @classmethod
    def reference(cls, lhs, rhs, *, layout, **attributes):
        geometry = cls.geometry(lhs.shape, rhs.shape, layout=layout, **attributes)
        wide = np.float64 if is_float(lhs.dtype) else lhs.dtype
        arrays = [
            x.transpose(to_channels_last(role, layout)).astype(wide)
            for role, x in zip(cls.roles, (lhs, rhs), strict=False)
        ]
        out = cls.sum_over_taps(geometry, *arrays)
        return out.transpose(inverse(to_channels_last(cls.roles[2], layout)))

    @classmethod
    def sum_over_taps(cls, geometry, lhs, rhs):
        """The reference with channels last, one place in the kernel after the other."""
        raise cls.missing("sum_over_taps", "the reference")

    @classmethod
    def transpose(cls, cotangent, operands, *, extents=(), **attributes):
        layout = attributes["layout"]
        values = dict(zip(cls.roles, (*operands, cotangent), strict=True))
        wanted = next(role for role in cls.roles[:2] if isinstance(values[role], TensorSpec))
        op = next(
            op for op in (ConvolutionOp, ConvolutionInputGradOp, ConvolutionKernelGradOp) if op.roles[2] == wanted
        )
        if wanted != "y":
            shape = permuted(values[wanted].shape, to_channels_last(wanted, layout))
            attributes["extents"] = shape[:-2] if wanted == "w" else shape[1:-1]
        out = op.apply(values[op.roles[0]], values[op.roles[1]], **attributes)
        return tuple(out if role == wanted else None for role in cls.roles[:2])

    @classmethod
    def batch(cls, operands, batched, *, groups, layout, **attributes):
        # The new axis is part of the result and of one operand or both; what these have in common takes it in:
        # the batch (N), the input channels (I), the output channels (O), or, where all three have it, the groups (G).
        having = {role for role, b in zip(cls.roles, batched, strict=False) if b} | {cls.roles[2]}
        kind = {"xy": "N", "wx": "I", "wy": "O", "wxy": "G"}["".join(sorted(having))]
        size = next(x.shape[0] for x, b in zip(operands, batched, strict=True) if b)
        folded = [
            cls._fold(x, role, kind, groups, layout) if b else x
            for x, b, role in zip(operands, batched, cls.roles, strict=False)
        ]
        out = cls.apply(*folded, groups=groups * size if kind == "G" else groups, layout=layout, **attributes)
        axis, before = cls._place(cls.roles[2], kind, groups, layout)
        shape = out.shape
        split = F.reshape(out, (*shape[:axis], before, size, shape[axis] // (before * size), *shape[axis + 1 :]))
        return F.reshape(F.moveaxis(split, axis + 1, 0), (size, *shape[:axis], shape[axis] // size, *shape[axis + 1 :]))

    @staticmethod
    def _place(role, kind, groups, layout):
        """The axis that takes a new one in, and how many groups of its elements the new axis goes inside of."""
        if role == "w":
            first = layout[-1] != "C"
            axis = {"I": 1 if first else -2, "O": 0 if first else -1, "G": 0 if first else -1}[kind] % len(layout)
            return axis, groups if kind == "O" else 1
        return (0, 1) if kind == "N" else (layout.index("C"), groups if kind in "IO" else 1)

    @classmethod
    def _fold(cls, x, role, kind, groups, layout):
        """``x`` with its leading axis taken in."""
        axis, before = cls._place(role, kind, groups, layout)
        size, *shape = x.shape
        split = F.reshape(x, (size, *shape[:axis], before, shape[axis] // before, *shape[axis + 1 :]))
        return F.reshape(F.moveaxis(split, 0, axis + 1), (*shape[:axis], size * shape[axis], *shape[axis + 1 :]))

    @classmethod
    def permute(cls, operands, permutation, *, layout, **attributes):
        # Only from channels first to last. Kernels are small; their order is as it was up to here.
        kernel = to_channels_last("w", layout)
        operands = [F.transpose(x, kernel) if role == "w" else x for x, role in zip(operands, cls.roles, strict=False)]
        out = cls.apply(*operands, layout="".join(permuted(layout, permutation)), **attributes)
        return F.transpose(out, inverse(kernel)) if cls.roles[2] == "w" else out

    @classmethod
    def flops(cls, operands, results, **attributes):
        geometry = cls.geometry(*(operand.shape for operand in operands), **attributes)
        return 2 * pymath.prod(geometry.shapes["y"]) * geometry.inputs * len(geometry.taps)

    @classmethod
    def lower(cls, b, op, lhs, rhs):
        specs = [spec_of(v.type) for v in (*op.operation.operands, *op.operation.results)]
        out, layout = specs[2], op.layout
        if any(spec.size == 0 for spec in specs):
            return b.splat(0, out)
        geometry = cls.geometry(specs[0].shape, specs[1].shape, **op.attribute_values())
        # Half precision is converted here: inside the loops it would be, again and again.
        dtype = accumulator(specs[0].dtype)
        operands = []
        for value, spec, role in zip((lhs, rhs), specs, cls.roles, strict=False):
            permutation = to_channels_last(role, layout)
            value = b.transpose(value, spec, permutation)
            operands.append(b.converted(value, spec.with_shape(permuted(spec.shape, permutation)), dtype))
        permutation = to_channels_last(cls.roles[2], layout)
        result = TensorSpec(permuted(out.shape, permutation), dtype)
        value = b.converted(cls.emit(b, geometry, operands[0], operands[1], dtype), result, out.dtype)
        return b.transpose(value, result.with_dtype(out.dtype), inverse(permutation))

    @classmethod
    def emit(cls, b, geometry, lhs, rhs, dtype):
        """The lowering with channels last and ``dtype`` all through."""
        raise cls.missing("emit", "convert-volta-to-linalg")


class ConvolutionOp(Convolutional, name="convolution"):
    """``y[n, o, …] = sum of x[n, o · strides + k · dilation - low, …] · w[k, …]`` over places ``k`` in the kernel and
    the input channels of the group."""

    @classmethod
    def sum_over_taps(cls, geometry, x, w):
        x, w = split_groups(geometry, np.pad(x, list(zip(geometry.low, geometry.high, strict=True))), w)
        y: Any = 0
        for tap in geometry.taps:
            y = y + np.einsum("n...gi,igo->n...go", elements_at(geometry, x, tap), w[tap])
        return y.reshape(geometry.shapes["y"])

    @classmethod
    def emit(cls, b, geometry, x, w, dtype):
        geometry = geometry.trimmed()
        *outer, last = geometry.axes
        wider = replace(last, high=last.high + (easy_count(last.count) - last.count) * last.stride)
        wide_geometry = replace(geometry, axes=(*outer, wider))
        x = padded(b, x, TensorSpec(geometry.shapes["x"], dtype), 0, geometry.low, wide_geometry.high)
        y = convolve(b, wide_geometry, x, w, dtype)
        shape = geometry.shapes["y"]
        return y if wider == last else b.extract_slice(y, [0] * len(shape), shape, [1] * len(shape))


def easy_count(count):
    """A number of results along the last axis, not much larger than ``count``, for which IREE has fast convolutions.

    It divides the axis into vectors of at most 8; for 13 or 29, which only 1 divides, it takes five times longer.
    """
    while count > 8 and not any(count % n == 0 for n in (8, 7, 6, 5, 4)):
        count += 1
    return count


class ConvolutionInputGradOp(Convolutional, name="convolution_input_grad"):
    """Adds up in ``x`` (with spatial ``extents``) each element of ``y`` times the kernel, at the place it came from."""

    roles = ("y", "w", "x")
    extents: tuple[int, ...]

    @classmethod
    def sum_over_taps(cls, geometry, y, w):
        shape = geometry.shapes["x"]
        around = [a + n + z for a, n, z in zip(geometry.low, shape, geometry.high, strict=True)]
        x, w = split_groups(geometry, np.zeros(around, y.dtype), w)
        y = y.reshape(*y.shape[:-1], geometry.groups, geometry.outputs)
        for tap in geometry.taps:
            elements_at(geometry, x, tap)[...] += np.einsum("n...go,igo->n...gi", y, w[tap])
        return x.reshape(around)[tuple(slice(a, a + n) for a, n in zip(geometry.low, shape, strict=True))]

    @classmethod
    def emit(cls, b, geometry, y, w, dtype):
        # By phases, a depthwise convolution would not be one any more; it is cheap enough with zeros between.
        is_depthwise = geometry.groups > 1 and geometry.inputs == 1
        axes = [axis.transposed(spread=is_depthwise) for axis in geometry.axes]
        counts = [axis.count for axis in axes]
        counts[-1] = easy_count(counts[-1])
        low = [0, *(axis.low for axis in axes), 0]
        high = [0, *(axis.high + n - axis.count for axis, n in zip(axes, counts, strict=True)), 0]
        y = padded(b, y, TensorSpec(geometry.shapes["y"], dtype), 0, low, high, [1, *(axis.spread for axis in axes), 1])
        # A convolution of stride 1 of y with a kernel that has the phases among its output channels.
        kept = [min(axis.phases, axis.axis.window) for axis in axes]
        kernel = cls._kernel_by_phases(b, geometry, axes, kept, w, dtype)
        phased = Geometry(
            geometry.batch,
            geometry.groups,
            geometry.outputs,
            geometry.inputs * pymath.prod(kept),
            tuple(Axis(n, t.taps, 1, 0, 0, t.axis.dilation) for n, t in zip(y.type.shape[1:-1], axes, strict=True)),
        )
        x = convolve(b, phased, y, kernel, dtype)
        # (N, i…, G, phases…, I) to (N, i and phase…, G, I)
        rank = len(axes)
        spec = TensorSpec((geometry.batch, *counts, geometry.groups, *kept, geometry.inputs), dtype)
        if pymath.prod(kept) > 1 or any(axis.phases > 1 for axis in axes):
            order = [0, *itertools.chain(*((1 + a, 2 + rank + a) for a in range(rank))), 1 + rank, 2 + 2 * rank]
            x = b.transpose(b.reshape(x, spec), spec, order)
            spec = spec.with_shape(permuted(spec.shape, order))
            missing = [0, *itertools.chain(*((0, axis.phases - k) for axis, k in zip(axes, kept, strict=True))), 0, 0]
            x = padded(b, x, spec, 0, [0] * spec.rank, missing)
        extents = geometry.shapes["x"]
        merged = (extents[0], *(n * axis.phases for n, axis in zip(counts, axes, strict=True)), extents[-1])
        x = b.reshape(x, TensorSpec(merged, dtype))
        if merged == extents:
            return x
        return b.extract_slice(x, [0, *(axis.start for axis in axes), 0], extents, [1] * len(extents))

    @staticmethod
    def _kernel_by_phases(b, geometry, axes, kept, w, dtype):
        """(u…, O, G · phase… · I) from ``w``, in which ``t = phase + phases · (taps - 1 - u)``; 0 for t outside."""
        rank = len(axes)
        shape = (*(axis.taps for axis in axes), geometry.outputs, geometry.groups, *kept, geometry.inputs)

        def body():
            at, inside = [], b.scalar(True, bool_)
            for a, axis in enumerate(axes):
                last = b.constant_index(axis.axis.window - 1)
                u = arith.subi(b.constant_index(axis.taps - 1), b.index(a))
                t = arith.addi(b.index(rank + 2 + a), arith.muli(u, b.constant_index(axis.phases)))
                clamped = arith.minsi(t, last)
                inside = arith.andi(inside, arith.cmpi(arith.CmpIPredicate.eq, t, clamped))
                at.append(clamped)
            channel = arith.addi(arith.muli(b.index(rank + 1), b.constant_index(geometry.outputs)), b.index(rank))
            element = tensor.extract(w, [*at, b.index(2 * rank + 2), channel])
            return arith.select(inside, element, b.scalar(0, dtype))

        kernel = b.elementwise(TensorSpec(shape, dtype), [], body)
        return b.reshape(kernel, TensorSpec((*shape[: rank + 1], pymath.prod(shape[rank + 1 :])), dtype))


class ConvolutionKernelGradOp(Convolutional, name="convolution_kernel_grad"):
    """For each place in the kernel (of spatial ``extents``) the sum of products of ``x`` and ``y`` that it makes."""

    roles = ("x", "y", "w")
    permuted_operands, permuted_result = slice(None), False
    extents: tuple[int, ...]

    @classmethod
    def sum_over_taps(cls, geometry, x, y):
        w = np.empty((*geometry.shapes["w"][:-1], geometry.groups, geometry.outputs), x.dtype)
        x, _ = split_groups(geometry, np.pad(x, list(zip(geometry.low, geometry.high, strict=True))), w)
        rows = pymath.prod(geometry.shapes["y"][:-1])
        y = y.reshape(rows, geometry.groups, geometry.outputs)
        for tap in geometry.taps:
            elements = elements_at(geometry, x, tap).reshape(rows, geometry.groups, geometry.inputs)
            w[tap] = np.einsum("mgi,mgo->igo", elements, y)
        return w.reshape(geometry.shapes["w"])

    @classmethod
    def emit(cls, b, geometry, x, y, dtype):
        geometry = geometry.trimmed()
        x = padded(b, x, TensorSpec(geometry.shapes["x"], dtype), 0, geometry.low, geometry.high)
        if geometry.groups > 1 and min(geometry.inputs, geometry.outputs) == 1:
            w = cls._depthwise(b, geometry, x, y, dtype)
        elif geometry.inputs < 16:
            w = cls._columns(b, geometry, x, y, dtype)
        else:
            w = cls._products(b, geometry, x, y, dtype)
        taps, groups, inputs, outputs = len(geometry.taps), geometry.groups, geometry.inputs, geometry.outputs
        split = TensorSpec((groups, taps, inputs, outputs), dtype)
        return b.reshape(b.transpose(b.reshape(w, split), split, (1, 2, 0, 3)), TensorSpec(geometry.shapes["w"], dtype))

    @classmethod
    def _products(cls, b, geometry, x, y, dtype):
        """(G, places in the kernel, I, O of a group) by a matrix product for each place in the kernel."""
        groups, inputs, outputs = geometry.groups, geometry.inputs, geometry.outputs
        rows = pymath.prod(geometry.shapes["y"][:-1])
        y = groups_first(b, y, groups, dtype)
        products: list[Any] = []
        for tap in geometry.taps:
            elements = cls._elements(b, geometry, x, tap, products[-1:], dtype)
            elements = groups_first(b, elements, groups, dtype)
            products.append(cls._product(b, elements, y, (groups, rows, inputs, outputs), dtype))
        part = TensorSpec((groups, 1, inputs, outputs), dtype)
        whole = part.with_shape((groups, len(products), inputs, outputs))
        return concatenated(b, [b.reshape(v, part) for v in products], 1, whole)

    @staticmethod
    def _elements(b, geometry, x, tap, last, dtype):
        """What one place in the kernel meets of the padded ``x``, once the ``last`` product, if there is one, is there.

        Left to itself, IREE copies what all places meet at once, and keeps as many copies of ``x``.
        """
        met = TensorSpec((*geometry.shapes["y"][:-1], geometry.shapes["x"][-1]), dtype)
        if not last:
            return b.extract_slice(x, geometry.offsets(tap), met.shape, geometry.steps)
        number = TensorSpec((), dtype)

        def body(token, _):
            return AfterOp.scalar(b, met, number, b.element_of_slice(x, geometry.offsets(tap), geometry.steps), token)

        token, loops = token_of(b, last[0], number), ["parallel"] * met.rank
        (result,) = b.generic([token], [()], [b.empty(met)], [range(met.rank)], loops, body)
        return result

    @classmethod
    def _columns(cls, b, geometry, x, y, dtype):
        """(G, places in the kernel, I, O of a group) by one matrix product with all elements that a result came from,
        or, where these are many, by one for each row of the kernel.

        They take as much memory as ``x`` times the places in the kernel, or in its row. With few channels, products for
        each place would consist of packing.
        """
        first, *others = geometry.axes
        groups, inputs, outputs = geometry.groups, geometry.inputs, geometry.outputs
        rows, columns = pymath.prod(geometry.shapes["y"][:-1]), pymath.prod(a.window for a in others) * inputs
        y = groups_first(b, y, groups, dtype)
        if not others or rows * first.window * columns * groups <= MAX_COLUMNS:
            elements = cls._columns_of(b, geometry, x, [], dtype)
            return cls._product(b, elements, y, (groups, rows, first.window * columns, outputs), dtype)
        extent = (first.count - 1) * first.stride + 1
        row = replace(geometry, axes=(Axis(extent, 1, first.stride, 0, 0, 1), *others))
        shape = (x.type.shape[0], extent, *x.type.shape[2:])
        products: list[Any] = []
        for number in range(first.window):
            start = [0, number * first.dilation, *(0 for _ in shape[2:])]
            elements = b.extract_slice(x, start, shape, [1] * len(shape))
            elements = cls._columns_of(b, row, elements, products[-1:], dtype)
            products.append(cls._product(b, elements, y, (groups, rows, columns, outputs), dtype))
        return concatenated(b, products, 1, TensorSpec((groups, first.window * columns, outputs), dtype))

    @staticmethod
    def _columns_of(b, geometry, x, last, dtype):
        """(G, N, spatial…, kernel…, I) from the padded ``x``, once the ``last`` product, if there is one, is there."""
        rank, groups, inputs = geometry.rank, geometry.groups, geometry.inputs
        counts, windows = geometry.shapes["y"][:-1], geometry.shapes["w"][:-2]
        columns = TensorSpec((groups, *counts, *windows, inputs), dtype)
        end = 2 + 2 * rank
        number = TensorSpec((), dtype)
        tokens = [token_of(b, product, number) for product in last]
        window = b.empty(TensorSpec(windows, dtype))  # gives the loops over the kernel their extents
        (x,) = b.generic(
            [b.reshape(x, TensorSpec((*x.type.shape[:-1], groups, inputs), dtype)), window, *tokens],
            [[1, *geometry.under(2, 2 + rank), 0, end], range(2 + rank, end), *[()] * len(tokens)],
            [b.empty(columns)],
            [range(end + 1)],
            ["parallel"] * (end + 1),
            lambda v, _, *rest: AfterOp.scalar(b, columns, number, v, rest[0]) if tokens else v,
        )
        return x

    @staticmethod
    def _product(b, x, y, extents, dtype):
        """The product of ``x`` and ``y``, of ``extents`` (G, rows, columns of x, columns of y), over the rows."""
        groups, rows, inputs, outputs = extents
        left, right = TensorSpec((groups, rows, inputs), dtype), TensorSpec((groups, rows, outputs), dtype)
        return contract(
            b, b.reshape(x, left), b.reshape(y, right), left, right,
            lhs_batch=(0,), rhs_batch=(0,), lhs_contract=(1,), rhs_contract=(1,), dtype=dtype,
        )  # fmt: skip

    @staticmethod
    def _depthwise(b, geometry, x, y, dtype):
        """(places in the kernel, channels) with a channel for each product, (G, I, O), as (G, places, I, O of a group).

        One pass over ``y`` makes the sums for several places: made one by one they take five times longer.
        """
        groups, inputs, outputs = geometry.groups, geometry.inputs, geometry.outputs
        channels = groups * inputs * outputs
        slices = [repeated(b, elements, 1, outputs, dtype) for elements in slices_at(b, geometry, x)]
        y = repeated(b, y, outputs, inputs, dtype)
        rank = len(y.type.shape)
        start = b.filled(b.scalar(0, dtype), TensorSpec((channels,), dtype))
        add = product_added(dtype)
        parts = []
        for first in range(0, len(slices), 9):
            few = slices[first : first + 9]

            def body(*args):
                n = len(args) // 2
                return [add(u, args[n], total) for u, total in zip(args[:n], args[n + 1 :], strict=True)]

            parts += b.generic(
                [*few, y],
                [range(rank)] * (len(few) + 1),
                [start] * len(few),
                [[rank - 1]] * len(few),
                ["reduction"] * (rank - 1) + ["parallel"],
                body,
            )
        part = TensorSpec((1, groups, inputs, outputs), dtype)
        spec = part.with_shape((len(parts), *part.shape[1:]))
        return b.transpose(concatenated(b, [b.reshape(v, part) for v in parts], 0, spec), spec, (1, 0, 2, 3))


def token_of(b, product, number):
    """An element of a (G, I, O), of the spec ``number``, for what has to wait for it."""
    return b.reshape(b.extract_slice(product, [0, 0, 0], (1, 1, 1), [1, 1, 1]), number)


def split_groups(geometry, x, w):
    """For references: ``x`` as (N, spatial…, G, I) and ``w`` as (spatial…, I, G, O)."""
    x = x.reshape(*x.shape[:-1], geometry.groups, geometry.inputs)
    return x, w.reshape(*geometry.shapes["w"][:-1], geometry.groups, geometry.outputs)


def elements_at(geometry, x, tap):
    """For references: the view of the padded ``x`` (with groups split) that one place in the kernel meets."""
    counts = geometry.shapes["y"][1:-1]
    places = zip(geometry.offsets(tap)[1:-1], counts, geometry.steps[1:-1], strict=True)
    return x[(slice(None), *(slice(at, at + (count - 1) * step + 1, step) for at, count, step in places))]


def kept_apart(b, x, spec):
    """``x`` (of ``spec``) in a form that keeps IREE from folding what makes it into the convolution that uses it.

    IREE leaves a convolution scalar if its kernel comes in another layout, which is 50 times slower. Writing all of it
    into a tensor with one more axis hides what it is made of until IREE has formed dispatches, and is free.
    """
    *outer, last = spec.shape
    shape = (*outer, 1, last)
    into = b.empty(spec.with_shape(shape))
    written = tensor.insert_slice(x, into, [], [], [], [0] * len(shape), list(shape), [1] * len(shape))
    return b.reshape(written, spec)


def convolve(b, geometry, x, w, dtype):
    """The convolution of an ``x`` that is padded already; channels last."""
    groups, inputs, outputs = geometry.groups, geometry.inputs, geometry.outputs
    counts = geometry.shapes["y"][:-1]
    if any(axis.window == 1 and axis.stride > 1 for axis in geometry.axes):
        # IREE takes this for a matrix product with gaps, and leaves it scalar: close the gaps first.
        axes = tuple(Axis(axis.count, 1, 1, 0, 0, 1) if axis.window == 1 else axis for axis in geometry.axes)
        shape = (geometry.batch, *(axis.extent + axis.low + axis.high for axis in axes), groups * inputs)
        steps = [1, *(before.stride // after.stride for before, after in zip(geometry.axes, axes, strict=True)), 1]
        x = b.extract_slice(x, [0] * len(shape), shape, steps)
        geometry = replace(geometry, axes=axes)
    flat = [axis.window == 1 for axis in geometry.axes]
    if any(flat) and not all(flat):
        return along_some_axes(b, geometry, flat, x, w, dtype)
    x = kept_apart(b, x, TensorSpec(tuple(x.type.shape), dtype))
    if groups > 1 and min(inputs, outputs) == 1:
        return depthwise(b, geometry, x, w, dtype)
    w = kept_apart(b, w, TensorSpec(geometry.shapes["w"], dtype))
    if groups == 1:
        return one_group(b, geometry, x, w, dtype)
    parts = []
    one = replace(geometry, groups=1)
    for group in range(groups):
        of_x, of_w = ([0] * len(counts) + [group * n] for n in (inputs, outputs))
        mine = b.extract_slice(x, of_x, (*x.type.shape[:-1], inputs), [1] * len(of_x))
        kernel = b.extract_slice(w, of_w, one.shapes["w"], [1] * len(of_w))
        parts.append(one_group(b, one, mine, kernel, dtype))
    return concatenated(b, parts, len(counts), TensorSpec(geometry.shapes["y"], dtype))


def along_some_axes(b, geometry, flat, x, w, dtype):
    """A convolution whose kernel has extent 1 along the axes that are ``flat``, which become part of the batch.

    IREE would drop the loops over the kernel along these axes, and then knows no fast way to do the rest.
    """
    order = [a for a, is_flat in enumerate(flat, 1) if is_flat] + [
        a for a, is_flat in enumerate(flat, 1) if not is_flat
    ]
    order = [0, *order, len(order) + 1]
    rest = tuple(axis for axis, is_flat in zip(geometry.axes, flat, strict=True) if not is_flat)
    spec = TensorSpec(tuple(x.type.shape), dtype)
    batch = geometry.batch * pymath.prod(
        axis.count for axis, is_flat in zip(geometry.axes, flat, strict=True) if is_flat
    )
    inner = replace(geometry, batch=batch, axes=rest)
    x = b.reshape(
        b.transpose(x, spec, order), TensorSpec((batch, *permuted(spec.shape, order)[-1 - len(rest) :]), dtype)
    )
    y = convolve(b, inner, x, b.reshape(w, TensorSpec(inner.shapes["w"], dtype)), dtype)
    out = TensorSpec(permuted(geometry.shapes["y"], order), dtype)
    return b.transpose(b.reshape(y, out), out, inverse(order))


def slices_at(b, geometry, x):
    """For each place in the kernel the elements of the padded ``x`` that it meets."""
    shape = (*geometry.shapes["y"][:-1], geometry.shapes["x"][-1])
    return [b.extract_slice(x, geometry.offsets(tap), shape, geometry.steps) for tap in geometry.taps]


def concatenated(b, parts, axis, spec):
    """The parts one after the other along ``axis``, which makes a tensor of ``spec``."""
    return tensor.concat(signless_tensor_type(spec), axis, parts) if len(parts) > 1 else parts[0]


def groups_first(b, x, groups, dtype):
    """(N, spatial…, G · C) as (G, N, spatial…, C)."""
    *outer, channels = x.type.shape
    split = TensorSpec((*outer, groups, channels // groups), dtype)
    return b.transpose(b.reshape(x, split), split, (len(outer), *range(len(outer)), len(outer) + 1))


def product_added(dtype):
    """The body that adds the product of two scalars to a third."""

    def body(u, v, total):
        return plus(dtype, total, arith.mulf(u, v) if is_float(dtype) else arith.muli(u, v))

    return body


def one_group(b, geometry, x, w, dtype):
    """A convolution in which all channels mix: loops over N, spatial…, O, kernel…, I.

    A kernel of extent 1 along all axes makes it a matrix product.
    """
    rank = geometry.rank
    if all(axis.window == 1 for axis in geometry.axes):
        kernel = TensorSpec((geometry.inputs, geometry.outputs), dtype)
        elements = TensorSpec(tuple(x.type.shape), dtype)
        return contract(
            b, x, b.reshape(w, kernel), elements, kernel,
            lhs_batch=(), rhs_batch=(), lhs_contract=(1 + rank,), rhs_contract=(0,), dtype=dtype,
        )  # fmt: skip
    taps = range(2 + rank, 2 + 2 * rank)
    start = b.filled(b.scalar(0, dtype), TensorSpec(geometry.shapes["y"], dtype))
    return b.generic(
        [x, w],
        [[0, *geometry.under(1, 2 + rank), 2 + 2 * rank], [*taps, 2 + 2 * rank, 1 + rank]],
        [start],
        [range(2 + rank)],
        ["parallel"] * (2 + rank) + ["reduction"] * (rank + 1),
        product_added(dtype),
    )[0]


def depthwise(b, geometry, x, w, dtype):
    """A convolution whose groups have one input or one output channel.

    There is a channel for each product, (G, I, O), of which those of one output channel are summed: loops over N,
    spatial…, channels, kernel….
    """
    rank, groups, inputs, outputs = geometry.rank, geometry.groups, geometry.inputs, geometry.outputs
    channels = groups * inputs * outputs
    x = repeated(b, x, 1, outputs, dtype)
    kernel = TensorSpec((*geometry.shapes["w"][:-1], groups, outputs), dtype)
    w = b.transpose(b.reshape(w, kernel), kernel, (*range(rank), rank + 1, rank, rank + 2))
    kernel = TensorSpec((*geometry.shapes["w"][:-2], channels), dtype)
    w = kept_apart(b, b.reshape(w, kernel), kernel)
    taps = range(2 + rank, 2 + 2 * rank)
    counts = geometry.shapes["y"][:-1]
    (y,) = b.generic(
        [x, w],
        [[0, *geometry.under(1, 2 + rank), 1 + rank], [*taps, 1 + rank]],
        [b.filled(b.scalar(0, dtype), TensorSpec((*counts, channels), dtype))],
        [range(2 + rank)],
        ["parallel"] * (2 + rank) + ["reduction"] * rank,
        product_added(dtype),
    )
    if inputs == 1:
        return y
    y = b.reshape(y, TensorSpec((*counts, groups, inputs), dtype))
    start = b.filled(b.scalar(0, dtype), TensorSpec((*counts, groups), dtype))
    loops = ["parallel"] * (2 + rank) + ["reduction"]
    (y,) = b.generic([y], [range(3 + rank)], [start], [range(2 + rank)], loops, lambda v, total: plus(dtype, v, total))
    return y


def repeated(b, x, block, times, dtype):
    """Each ``block`` of successive channels of ``x``, so many times."""
    if times == 1:
        return x
    *outer, channels = x.type.shape
    x = b.reshape(x, TensorSpec((*outer, channels // block, block), dtype))
    out = TensorSpec((*outer, channels // block, times, block), dtype)
    loops = range(len(out.shape))
    source = [*loops[:-2], loops[-1]]
    (x,) = b.generic([x], [source], [b.empty(out)], [loops], ["parallel"] * len(loops), lambda v, _: v)
    return b.reshape(x, TensorSpec((*outer, channels * times), dtype))
