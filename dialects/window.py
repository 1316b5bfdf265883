"""Windows that slide over a tensor: their sums and maxima, and what the derivatives of those are made of.

A window has an extent, a stride, a padding and a dilation for each axis of the operand, and extent 1 along the axes
that it does not cover, which may be any. Padding is never part of a sum or a maximum. The index of an element in its
window counts in row-major order; it stands for the element in ``window_gather`` and ``window_scatter``.
"""

import itertools
import math as pymath
from dataclasses import dataclass
from typing import Any

import numpy as np

from volta_mlir.dialects.base import Op, Operand, Result, require
from volta_mlir.dialects.elementwise import all_batched
from volta_mlir.dialects.movement import all_permuted, inverse, permuted
from volta_mlir.dialects.reduction import accumulator, lowest, require_numbers
from volta_mlir.dtypes import INDEX, TensorSpec, bool_, float32, is_float, is_unsigned
from volta_mlir.errors import DTypeError
from volta_mlir.mlir import arith, spec_of, tensor

#: Windows of up to this many elements are unrolled: each element of the window becomes a slice of the operand, which
#: vectorises whatever is done with it. IREE leaves loops over windows scalar unless they are sums or maxima.
MAX_UNROLLED = 64


@dataclass(frozen=True)
class Axis:
    """The geometry of windows along one axis of ``extent`` elements: ``low`` more are before it, ``high`` after."""

    extent: int
    window: int
    stride: int
    low: int
    high: int
    dilation: int

    @property
    def span(self) -> int:
        """How many elements lie between the ends of a window, both included."""
        return (self.window - 1) * self.dilation + 1

    @property
    def count(self) -> int:
        """The number of windows."""
        return (self.extent + self.low + self.high - self.span) // self.stride + 1

    @property
    def is_trivial(self) -> bool:
        """True where each window is the element at its own place."""
        return (self.window, self.stride, self.low, self.high) == (1, 1, 0, 0)

    def check(self) -> None:
        """Raises ShapeError for a geometry that makes no sense, and where not even one window fits."""
        require(
            self.window > 0 and self.stride > 0 and self.dilation > 0 and self.low >= 0 and self.high >= 0,
            f"a window has a positive extent, stride and dilation and no negative padding, got {self}",
        )
        padded = self.extent + self.low + self.high
        require(self.span <= max(padded, 1), f"a window over {self.span} elements does not fit into {padded}")
        require(
            max(padded, self.stride, self.dilation) <= np.iinfo(INDEX).max,  # places in the padded axis are numbered
            f"padded extents, strides and dilations are at most {np.iinfo(INDEX).max}, got {self}",
        )

    def transposed(self, spread: bool = False) -> "TransposedAxis":
        """The geometry of the transposed map; with ``spread`` it has one phase only."""
        return TransposedAxis(self, spread)


class TransposedAxis:
    """How windows add up to the elements under them: the transpose of taking windows, as taking windows.

    The element at ``p`` is in window ``o`` as its ``t``-th, where ``p + low = o · stride + t · dilation``. Written as
    ``p + low = i · stride + phase``, each ``phase`` has windows ``o = i - u`` for ``t = phase + u · stride``: the
    elements of one phase come from windows of stride 1 over the windows, which overlap in ``taps`` places. That needs
    a stride or a dilation of 1; with both larger, the windows are spread out first to be ``stride`` apart, with zeros
    between them.
    """

    def __init__(self, axis: Axis, spread: bool) -> None:
        self.axis = axis
        #: How far to spread the windows first.
        self.spread = axis.stride if spread or axis.dilation > 1 else 1
        #: The stride that remains, which is also the number of phases.
        self.phases = axis.stride // self.spread
        self.taps = -(-axis.window // self.phases)
        self.first = axis.low // self.phases
        #: The number of values of ``i``.
        self.count = (axis.low + axis.extent - 1) // self.phases - self.first + 1
        #: Padding of the (spread) windows, which may be negative.
        self.low = (self.taps - 1) * axis.dilation - self.first
        self.high = self.first + self.count - 1 - (axis.count - 1) * self.spread
        #: Where the first element is, among all phases of all ``i``.
        self.start = axis.low - self.first * self.phases


def padded(b, x, spec, fill, low, high, spread=None):
    """``x`` (of ``spec``), elements ``spread[i]`` apart, ``fill`` around them; ``low`` and ``high`` may crop."""
    spread = spread or [1] * spec.rank
    of_axes = zip(spec.shape, low, high, spread, strict=True)
    shape = tuple(before + (extent - 1) * apart + 1 + after for extent, before, after, apart in of_axes)
    around = b.filled(b.scalar(fill, spec.dtype), spec.with_shape(shape))
    return b.place(x, around, low, [apart - 1 for apart in spread])


def slide(b, inputs, geometry, starts, step):
    """Folds windows of the inputs into ``starts``.

    Args:
        b: the builder.
        inputs: tensors of one shape (left, *windowed, right), padded.
        geometry: for each windowed axis (count, phases, taps, stride, dilation).
        starts: tensors of shape (left, count, phases, count, phases, …, right) that the results start from.
        step: takes an element of each input, its place in the window and the phase (an ``index`` for each windowed
            axis) and the accumulators; returns the new accumulators.

    Returns:
        The last accumulators.
    """
    left, *_, right = inputs[0].type.shape
    rank = len(geometry)
    last = 2 * rank + 1
    phases = [2 + 2 * a for a in range(rank)]
    counts, taps = [g[0] for g in geometry], [g[2] for g in geometry]
    identity = range(last + 1)

    if pymath.prod(taps) <= MAX_UNROLLED:
        places = list(itertools.product(*map(range, taps)))
        slices = [
            b.extract_slice(
                x,
                [0, *(t * g[4] for t, g in zip(place, geometry, strict=True)), 0],
                [left, *counts, right],
                [1, *(g[3] for g in geometry), 1],
            )
            for place in places
            for x in inputs
        ]

        def unrolled(*args):
            elements, accumulators = args[: len(slices)], args[len(slices) :]
            phase = [b.index(loop) for loop in phases]
            for number, place in enumerate(places):
                mine = elements[number * len(inputs) : (number + 1) * len(inputs)]
                accumulators = step(mine, [b.constant_index(t) for t in place], phase, accumulators)
            return accumulators[-1]

        source: list[Any] = [0, *(1 + 2 * a for a in range(rank)), last]
        *others, start = starts
        maps = [*[source] * len(slices), *[identity] * len(others)]
        parallel = ["parallel"] * (last + 1)
        return b.generic([*slices, *others], maps, [start], [identity], parallel, unrolled)[0]

    def looped(*args):
        elements, accumulators = args[: len(inputs)], args[len(inputs) + 1 :]
        place = [b.index(last + 1 + a) for a in range(rank)]
        return step(elements, place, [b.index(loop) for loop in phases], accumulators)

    source = [0, *(((1 + 2 * a, g[3]), (last + 1 + a, g[4])) for a, g in enumerate(geometry)), last]
    window = b.empty(TensorSpec(tuple(taps), float32))  # gives the loops over the window their extents
    return b.generic(
        [*inputs, window],
        [*[source] * len(inputs), range(last + 1, last + 1 + rank)],
        starts,
        [identity] * len(starts),
        ["parallel"] * (last + 1) + ["reduction"] * rank,
        looped,
    )[-1]


class Window(Op):
    """Family of the ops over windows."""

    window: tuple[int, ...]
    strides: tuple[int, ...]
    low: tuple[int, ...]
    high: tuple[int, ...]
    dilation: tuple[int, ...]
    permuted_operands = slice(None)

    @classmethod
    def axes(cls, extents, *, window, strides, low, high, dilation, **others):
        """The geometry of each axis of a tensor with these extents, over which the windows slide."""
        given = (window, strides, low, high, dilation)
        require(
            len(extents) > 0 and all(len(g) == len(extents) for g in given),
            f"window {window}, strides {strides}, low {low}, high {high} and dilation {dilation} must have an entry for"
            f" each axis of shape {extents}",
        )
        axes = [Axis(*of_axis) for of_axis in zip(extents, *given, strict=True)]
        for axis in axes:
            axis.check()
        return axes

    @classmethod
    def counts(cls, extents, **attributes):
        """The shape that has one element for each window over a tensor with these extents."""
        return tuple(axis.count for axis in cls.axes(extents, **attributes))

    @classmethod
    def one_more_axis(cls, attributes, size):
        """The attributes for tensors with one more leading axis, of ``size``."""
        leading = {"window": 1, "strides": 1, "low": 0, "high": 0, "dilation": 1, "shape": size}
        return {key: (leading[key], *value) for key, value in attributes.items()}

    @classmethod
    def batch(cls, operands, batched, **attributes):
        operands = all_batched(operands, batched)
        return cls.apply(*operands, **cls.one_more_axis(attributes, operands[0].shape[0]))

    @classmethod
    def permute(cls, operands, permutation, **attributes):
        windowed = [axis for axis in permutation if attributes["window"][axis] > 1]
        if windowed != sorted(windowed):  # indices in windows count in row-major order
            return None
        return cls.apply(*operands, **all_permuted(attributes, permutation))

    @classmethod
    def elements(cls, x, fill, *, window, strides, low, high, dilation, **others):
        """For references: each window's elements along a new last axis."""
        around = np.pad(x, list(zip(low, high, strict=True)), constant_values=fill)
        if around.size == 0:  # sliding_window_view refuses axes of extent 0
            counts = cls.counts(x.shape, window=window, strides=strides, low=low, high=high, dilation=dilation)
            return np.empty((*counts, pymath.prod(window)), x.dtype)
        spans = [(w - 1) * d + 1 for w, d in zip(window, dilation, strict=True)]
        view = np.lib.stride_tricks.sliding_window_view(around, spans)
        view = view[(*(slice(None, None, s) for s in strides), *(slice(None, None, d) for d in dilation))]
        return view.reshape(*view.shape[: x.ndim], pymath.prod(window))

    @classmethod
    def positions(cls, extents, **attributes):
        """For references: the flat position of each window's elements, -1 for padding."""
        return cls.elements(np.arange(pymath.prod(extents)).reshape(extents), -1, **attributes)

    @classmethod
    def flops(cls, operands, results, *, window, **attributes):
        return results[0].size * pymath.prod(window)


class Layout:
    """How a lowering arranges tensors: (left, *windowed, right).

    ``right`` is there to vectorise over; where the windowed axes are last, an axis from before them is moved there.
    """

    def __init__(self, axes):
        self.windowed = [a for a, axis in enumerate(axes) if not axis.is_trivial] or [0]
        self.geometry = [axes[a] for a in self.windowed]
        left = [a for a in range(len(axes)) if a < self.windowed[0]]
        right = [a for a in range(len(axes)) if a > self.windowed[0] and a not in self.windowed]
        if left and not right:
            right = [left.pop()]
        self.left, self.right = left, right
        self.permutation = (*left, *self.windowed, *right)

    def arrange(self, b, x, spec):
        """``x`` (of ``spec``) so arranged, and its spec."""
        left, right = (pymath.prod(spec.shape[a] for a in group) for group in (self.left, self.right))
        arranged = spec.with_shape((left, *(spec.shape[a] for a in self.windowed), right))
        return b.reshape(b.transpose(x, spec, self.permutation), arranged), arranged

    def restore(self, b, x, out):
        """The tensor of spec ``out`` of which :meth:`arrange` makes ``x``."""
        arranged = out.with_shape(permuted(out.shape, self.permutation))
        return b.transpose(b.reshape(x, arranged), arranged, inverse(self.permutation))


def plus(dtype, x, y):
    """``x + y`` of two scalars."""
    return arith.addf(x, y) if is_float(dtype) else arith.addi(x, y)


# -- one element of each window ------------------------------------------------------------------------------------


class Reduction(Window):
    """Family of the ops that fold each window into one element.

    ``start`` gives the tensors to start from, ``step`` folds an element in; the last accumulator is the result.
    """

    operand: Operand
    result: Result

    @classmethod
    def infer(cls, operand, **attributes):
        require_numbers(operand)
        return operand.with_shape(cls.counts(operand.shape, **attributes))

    @classmethod
    def identity(cls, dtype):
        """What changes no window: the value of padding."""
        raise cls.missing("identity", "convert-volta-to-linalg")

    @classmethod
    def start(cls, b, spec, geometry):
        """The accumulators' initial tensors; ``spec`` is the operand's dtype in the shape of the windows."""
        wide = accumulator(spec.dtype)
        return [b.filled(b.scalar(cls.identity(wide), wide), spec.with_dtype(wide))]

    @classmethod
    def step(cls, b, dtype, element, place, geometry, *accumulators):
        """The accumulators with ``element``, which is at ``place`` in its window."""
        raise cls.missing("step", "convert-volta-to-linalg")

    @classmethod
    def lower(cls, b, op, x):
        spec, out = spec_of(op.operation.operands[0].type), spec_of(op.operation.results[0].type)
        if out.size == 0:
            return b.empty(out)
        layout = Layout(cls.axes(spec.shape, **op.attribute_values()))
        geometry = layout.geometry
        x, arranged = layout.arrange(b, x, spec)
        low, high = ([0, *(getattr(axis, side) for axis in geometry), 0] for side in ("low", "high"))
        x = padded(b, x, arranged, cls.identity(spec.dtype), low, high)
        left, *_, right = arranged.shape
        windows = arranged.with_shape((left, *itertools.chain(*((axis.count, 1) for axis in geometry)), right))
        result = slide(
            b,
            [x],
            [(axis.count, 1, axis.window, axis.stride, axis.dilation) for axis in geometry],
            cls.start(b, windows, geometry),
            lambda elements, place, phase, accumulators: cls.step(
                b, spec.dtype, elements[0], place, geometry, *accumulators
            ),
        )
        flat = TensorSpec((left, *(axis.count for axis in geometry), right), out.dtype)
        result = b.converted(b.reshape(result, flat), flat.with_dtype(cls.accumulated(spec.dtype)), out.dtype)
        return layout.restore(b, result, out)

    @classmethod
    def accumulated(cls, dtype):
        """The dtype of the last accumulator for operands of ``dtype``."""
        return accumulator(dtype)


class WindowSumOp(Reduction, name="window_sum"):
    """The sum of each window; integers wrap, half precision accumulates in float32."""

    linear = "jointly"

    @staticmethod
    def reference(x, **attributes):
        return Window.elements(x, 0, **attributes).sum(axis=-1, dtype=np.float64 if is_float(x.dtype) else x.dtype)

    @classmethod
    def transpose(cls, cotangent, operands, **attributes):
        return (WindowSpreadOp.apply(cotangent, shape=operands[0].shape, **attributes),)

    @classmethod
    def identity(cls, dtype):
        return 0

    @classmethod
    def step(cls, b, dtype, element, place, geometry, total):
        wide = accumulator(dtype)
        return [plus(wide, total, b.convert(element, dtype, wide))]


class WindowMaxOp(Reduction, name="window_max"):
    """The maximum of each window, NaN where the window has one; of padding alone the dtype's least value.

    The derivative is that of the element that ``window_argmax`` names.
    """

    @staticmethod
    def reference(x, **attributes):
        return Window.elements(x, lowest(x.dtype), **attributes).max(axis=-1)

    @classmethod
    def tangent(cls, primals, tangents, outs, **attributes):
        return WindowGatherOp.apply(tangents[0], WindowArgmaxOp.apply(primals[0], **attributes), **attributes)

    @classmethod
    def identity(cls, dtype):
        return lowest(dtype)

    @classmethod
    def accumulated(cls, dtype):
        return dtype

    @classmethod
    def start(cls, b, spec, geometry):
        return [b.filled(b.scalar(lowest(spec.dtype), spec.dtype), spec)]

    @classmethod
    def step(cls, b, dtype, element, place, geometry, best):
        if is_float(dtype):
            return [arith.maximumf(best, element)]
        return [(arith.maxui if is_unsigned(dtype) else arith.maxsi)(best, element)]


class WindowArgmaxOp(Reduction, name="window_argmax"):
    """The index in each window of its maximum: the first one, or the last NaN where there are any.

    Padding is never the maximum; a window of nothing else has the index -1.
    """

    differentiable = False

    @classmethod
    def infer(cls, operand, **attributes):
        return super().infer(operand, **attributes).with_dtype(INDEX)

    @staticmethod
    def reference(x, **attributes):
        elements = Window.elements(x, lowest(x.dtype), **attributes)
        real = Window.positions(x.shape, **attributes) >= 0
        nan = np.isnan(elements)
        count = elements.shape[-1]
        maximum = np.max(elements, axis=-1, keepdims=True, where=real & ~nan, initial=lowest(x.dtype))
        first = np.argmax(real & (elements == maximum), axis=-1)
        last_nan = count - 1 - np.argmax(nan[..., ::-1], axis=-1)
        index = np.where(nan.any(axis=-1), last_nan, first)
        return np.where(real.any(axis=-1), index, -1).astype(INDEX)

    @classmethod
    def identity(cls, dtype):
        return lowest(dtype)

    @classmethod
    def accumulated(cls, dtype):
        return INDEX

    @classmethod
    def start(cls, b, spec, geometry):
        """The least value and the first element that is not padding."""

        def first():
            places, inside = [], b.scalar(True, bool_)
            for a, axis in enumerate(geometry):
                at = arith.muli(b.index(1 + 2 * a), b.constant_index(axis.stride))
                missing = arith.maxsi(arith.subi(b.constant_index(axis.low), at), b.constant_index(0))
                step = b.constant_index(axis.dilation)
                place = arith.divui(arith.addi(missing, b.constant_index(axis.dilation - 1)), step)
                at = arith.addi(at, arith.muli(place, step))
                for value, limit in ((place, axis.window), (at, axis.low + axis.extent)):
                    inside = arith.andi(inside, arith.cmpi(arith.CmpIPredicate.slt, value, b.constant_index(limit)))
                places.append(place)
            number = b.convert_index(number_of(b, places, geometry), INDEX)
            return arith.select(inside, number, b.scalar(-1, INDEX))

        numbers = spec.with_dtype(INDEX)
        is_padded = any(axis.low or axis.high for axis in geometry)
        index = b.elementwise(numbers, [], first) if is_padded else b.filled(b.scalar(0, INDEX), numbers)
        return [b.filled(b.scalar(lowest(spec.dtype), spec.dtype), spec), index]

    @classmethod
    def step(cls, b, dtype, element, place, geometry, best, index):
        if is_float(dtype):
            better = arith.ori(
                arith.cmpf(arith.CmpFPredicate.OGT, element, best),
                arith.cmpf(arith.CmpFPredicate.UNO, element, element),
            )
        else:
            predicate = arith.CmpIPredicate.ugt if is_unsigned(dtype) else arith.CmpIPredicate.sgt
            better = arith.cmpi(predicate, element, best)
        number = b.convert_index(number_of(b, place, geometry), INDEX)
        return [arith.select(better, element, best), arith.select(better, number, index)]


def number_of(b, place, geometry):
    """The row-major index of a place in a window."""
    number = place[0]
    for axis, along in zip(geometry[1:], place[1:], strict=True):
        number = arith.addi(arith.muli(number, b.constant_index(axis.window)), along)
    return number


def require_index(index):
    """Raises DTypeError unless ``index`` is of the dtype of indices."""
    if index.dtype != INDEX:
        raise DTypeError(f"indices in windows are {INDEX.name}, got {index}")


class WindowGatherOp(Window, name="window_gather"):
    """The element of each window that ``index`` names; 0 where that is padding, or not in the window.

    It transposes ``window_scatter``.
    """

    linear, linear_operands = "jointly", (0,)
    operand: Operand
    index: Operand
    result: Result

    @classmethod
    def infer(cls, operand, index, **attributes):
        require_numbers(operand)
        require_index(index)
        out = operand.with_shape(cls.counts(operand.shape, **attributes))
        require(index.shape == out.shape, f"{index} does not have an index for each of the windows {out.shape}")
        return out

    @staticmethod
    def reference(x, index, **attributes):
        positions = Window.positions(x.shape, **attributes)
        inside = (index >= 0) & (index < positions.shape[-1])
        at = np.take_along_axis(positions, np.where(inside, index, 0)[..., None], axis=-1)[..., 0]
        inside &= at >= 0
        return np.where(inside, np.append(x.ravel(), np.zeros(1, x.dtype))[at], np.zeros((), x.dtype))

    @classmethod
    def transpose(cls, cotangent, operands, **attributes):
        return WindowScatterOp.apply(cotangent, operands[1], shape=operands[0].shape, **attributes), None

    @classmethod
    def flops(cls, operands, results, **attributes):
        return 0

    @classmethod
    def lower(cls, b, op, x, index):
        spec, out = spec_of(op.operation.operands[0].type), spec_of(op.operation.results[0].type)
        axes = cls.axes(spec.shape, **op.attribute_values())
        if spec.size == 0:
            return b.splat(0, out)

        def body(number):
            zero, one = b.constant_index(0), b.constant_index(1)
            taps = b.scalar(pymath.prod(axis.window for axis in axes), INDEX)
            inside = arith.cmpi(arith.CmpIPredicate.ult, number, taps)
            rest = b.to_index(arith.select(inside, number, b.scalar(0, INDEX)), INDEX)
            at: list[Any] = []
            for a, axis in reversed(list(enumerate(axes))):
                place = arith.remui(rest, b.constant_index(axis.window))
                rest = arith.divui(rest, b.constant_index(axis.window))
                first = arith.muli(b.index(a), b.constant_index(axis.stride))
                position = arith.addi(first, arith.muli(place, b.constant_index(axis.dilation)))
                position = arith.subi(position, b.constant_index(axis.low))
                last = arith.subi(b.constant_index(axis.extent), one)
                clamped = arith.maxsi(arith.minsi(position, last), zero)
                inside = arith.andi(inside, arith.cmpi(arith.CmpIPredicate.eq, position, clamped))
                at.insert(0, clamped)
            return arith.select(inside, tensor.extract(x, at), b.scalar(0, out.dtype))

        return b.elementwise(out, [index], body)


# -- what windows add to the elements under them -------------------------------------------------------------------


class Scattering(Window):
    """Family of the ops that take one element per window and add it to elements of a tensor of ``shape``."""

    @classmethod
    def check_windows(cls, operand, shape, **attributes):
        """Raises ShapeError unless ``operand`` has an element for each window over ``shape``."""
        counts = cls.counts(shape, **attributes)
        require(
            operand.shape == counts, f"{operand} does not have an element for each of the windows {counts} of {shape}"
        )

    @classmethod
    def scatter(cls, b, op, inputs, hits):
        """Adds each window's element where ``hits`` says.

        ``inputs`` are values and what pads them, the elements first. ``hits`` takes the inputs' scalars, the place
        in the window and the geometry of the windowed axes; it returns a bool, or None for all places.
        """
        out = spec_of(op.operation.results[0].type)
        specs = [spec_of(v.type) for v in op.operation.operands]
        if out.size == 0 or specs[0].size == 0:
            return b.splat(0, out)
        layout = Layout(cls.axes(out.shape, **op.attribute_values()))
        geometry = [axis.transposed() for axis in layout.geometry]
        low, high = ([0, *(getattr(axis, side) for axis in geometry), 0] for side in ("low", "high"))
        spread = [1, *(axis.spread for axis in geometry), 1]
        arranged = []
        for (value, fill), spec in zip(inputs, specs, strict=True):
            value, spec = layout.arrange(b, value, spec)
            arranged.append(padded(b, value, spec, fill, low, high, spread))
        left, *_, right = arranged[0].type.shape
        wide = accumulator(out.dtype)
        phased = TensorSpec((left, *itertools.chain(*((axis.count, axis.phases) for axis in geometry)), right), wide)

        def step(elements, place, phase, accumulators):
            places = [
                arith.addi(
                    along, arith.muli(b.constant_index(axis.phases), arith.subi(b.constant_index(axis.taps - 1), u))
                )
                for axis, along, u in zip(geometry, phase, place, strict=True)
            ]
            element = b.convert(elements[0], out.dtype, wide)
            hit = hits(elements, places, layout.geometry)
            for along, axis in zip(places, geometry, strict=True):
                if axis.taps * axis.phases != axis.axis.window:  # some phases have a tap less than others
                    inside = arith.cmpi(arith.CmpIPredicate.slt, along, b.constant_index(axis.axis.window))
                    hit = inside if hit is None else arith.andi(hit, inside)
            if hit is not None:
                element = arith.select(hit, element, b.scalar(0, wide))
            return [plus(wide, accumulators[0], element)]

        total = slide(
            b,
            arranged,
            [(axis.count, axis.phases, axis.taps, 1, axis.axis.dilation) for axis in geometry],
            [b.filled(b.scalar(0, wide), phased)],
            step,
        )
        merged = TensorSpec((left, *(axis.count * axis.phases for axis in geometry), right), wide)
        total = b.converted(b.reshape(total, merged), merged, out.dtype)
        extents = (left, *(axis.axis.extent for axis in geometry), right)
        if extents != merged.shape:
            total = b.extract_slice(total, [0, *(axis.start for axis in geometry), 0], extents, [1] * len(extents))
        return layout.restore(b, total, out)


class WindowScatterOp(Scattering, name="window_scatter"):
    """Adds the element of each window to the element under it that ``index`` names, in a tensor of zeros of ``shape``.

    Indices that name padding, or nothing in the window, are dropped.
    """

    linear, linear_operands = "jointly", (0,)
    operand: Operand
    index: Operand
    result: Result
    shape: tuple[int, ...]

    @classmethod
    def infer(cls, operand, index, *, shape, **attributes):
        require_numbers(operand)
        require_index(index)
        require(index.shape == operand.shape, f"{index} does not have an index for each element of {operand}")
        cls.check_windows(operand, shape, **attributes)
        return operand.with_shape(shape)

    @staticmethod
    def reference(x, index, *, shape, **attributes):
        positions = Window.positions(shape, **attributes)
        inside = (index >= 0) & (index < positions.shape[-1])
        at = np.take_along_axis(positions, np.where(inside, index, 0)[..., None], axis=-1)[..., 0]
        inside &= at >= 0
        out = np.zeros(pymath.prod(shape), np.float64 if is_float(x.dtype) else x.dtype)
        np.add.at(out, at[inside], x[inside])
        return out.reshape(shape)

    @classmethod
    def transpose(cls, cotangent, operands, *, shape, **attributes):
        return WindowGatherOp.apply(cotangent, operands[1], **attributes), None

    @classmethod
    def flops(cls, operands, results, **attributes):
        return operands[0].size

    @classmethod
    def lower(cls, b, op, x, index):
        def hits(elements, places, geometry):
            number = b.convert_index(number_of(b, places, geometry), INDEX)
            return arith.cmpi(arith.CmpIPredicate.eq, elements[1], number)

        return cls.scatter(b, op, [(x, 0), (index, -1)], hits)


class WindowSpreadOp(Scattering, name="window_spread"):
    """Adds the element of each window to every element under it, in a tensor of zeros of ``shape``.

    It transposes ``window_sum``.
    """

    linear = "jointly"
    operand: Operand
    result: Result
    shape: tuple[int, ...]

    @classmethod
    def infer(cls, operand, *, shape, **attributes):
        require_numbers(operand)
        cls.check_windows(operand, shape, **attributes)
        return operand.with_shape(shape)

    @staticmethod
    def reference(x, *, shape, **attributes):
        positions = Window.positions(shape, **attributes)
        out = np.zeros(pymath.prod(shape), np.float64 if is_float(x.dtype) else x.dtype)
        np.add.at(out, positions[positions >= 0], np.broadcast_to(x[..., None], positions.shape)[positions >= 0])
        return out.reshape(shape)

    @classmethod
    def transpose(cls, cotangent, operands, *, shape, **attributes):
        return (WindowSumOp.apply(cotangent, **attributes),)

    @classmethod
    def flops(cls, operands, results, *, window, **attributes):
        return operands[0].size * pymath.prod(window)

    @classmethod
    def lower(cls, b, op, x):
        return cls.scatter(b, op, [(x, 0)], lambda elements, places, geometry: None)
