"""Kernels of attention for the CPU, as MLIR text for IREE: one dispatch each, whatever the length.

IREE's own code for attention written as products and a softmax takes several times as long as PyTorch's, writes every
block of scores to memory, and has a kernel for each block's shape. These kernels hold the scores of :data:`ROWS` rows
and :data:`COLUMNS` columns on the stack. They consist of loops over vectors of :data:`LANES` float32, two steps of
which take almost all the time:

- *dots*: rows of a matrix times a tile of columns of another that lies transposed, summed up in registers;
- *accumulate*: a row of scores times a matrix, added to rows of a result.

A workgroup has a block of rows (queries, or keys for their own gradients), and goes through the columns in blocks that
stay in the cache. The forward kernel keeps the largest score and the sum of each row so far, and rescales what it has
when a larger one comes (Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018). Causal kernels skip
what is not seen, a row tile at a time.

Operands are padded to whole tiles around the dispatch; half precision is converted to float32 there. The vectors have
the length of the widest registers there are; for narrower ones LLVM splits them.
"""

import math

import numpy as np

from volta_mlir.dtypes import bool_, float64
from volta_mlir.mlir import signless_element_type

#: Elements of a vector, vectors side by side, and rows of a tile: its sums take half of 32 registers.
LANES, VECTORS, ROWS = 16, 2, 8
#: Columns of a tile.
TILE = LANES * VECTORS
#: Columns of scores at a time.
COLUMNS = 256
#: Rows of a workgroup.
BLOCK = 64
#: The fewest queries for which a kernel is used.
MIN_QUERIES = 8
#: The most elements of a row of operands and results, for which the stack has room.
MAX_WIDTH = 128

VECTOR = f"vector<{LANES}xf32>"
INTEGERS = f"vector<{LANES}xi32>"
INFINITY = float("inf")


def applies(q, v, mask=None):
    """Whether the kernels are for these operands, and worth it: few queries are better off with ordinary products.

    IREE 3.13 can't tile a product that is fused with a select by bool elements, and would tile none of the program.
    """
    least = 2 if mask is not None and mask.dtype == bool_ else MIN_QUERIES
    return q.dtype != float64 and q.shape[3] >= least and max(q.shape[4], v.shape[3]) <= MAX_WIDTH


def padded(extent, multiple):
    """``extent``, rounded up to a multiple."""
    return -(-extent // multiple) * multiple


def bits(number):
    """A float32 as text: its bits, which say it exactly."""
    return f"0x{np.float32(number).view(np.uint32):08X}"


def tensor_type(*shape, element="f32"):
    """A tensor type as text."""
    return f"tensor<{'x'.join([*map(str, shape), str(element)])}>"


def by_row(vectors):
    """The vectors of each row of a tile."""
    return [vectors[i : i + VECTORS] for i in range(0, len(vectors), VECTORS)]


class Text:
    """Writes a function line by line. Values are their names; tensors are pairs of name and type."""

    def __init__(self):
        self.lines = []
        self._names = 0

    def name(self):
        """A new value's name."""
        self._names += 1
        return f"%v{self._names}"

    def op(self, text):
        """Writes an operation with one result, which is returned."""
        name = self.name()
        self.lines.append(f"{name} = {text}")
        return name

    # -- scalars and vectors -----------------------------------------------------------------------------------

    def index(self, value):
        """A constant index."""
        return self.op(f"arith.constant {value} : index")

    def number(self, value):
        """A constant float32."""
        return self.op(f"arith.constant {bits(value)} : f32")

    def indices(self, operation, x, y):
        """An operation of ``arith`` on two indices, of which the second may be a Python number."""
        return self.op(f"arith.{operation} {x}, {self.index(y) if isinstance(y, int) else y} : index")

    def scalars(self, operation, *operands):
        """An operation on numbers."""
        return self.op(f"{operation} {', '.join(operands)} : f32")

    def vectors(self, operation, *operands):
        """An operation on vectors of numbers."""
        return self.op(f"{operation} {', '.join(operands)} : {VECTOR}")

    def splat(self, scalar):
        """A vector of equal numbers."""
        return self.op(f"vector.broadcast {scalar} : f32 to {VECTOR}")

    def positions(self, index):
        """A vector of integers that are all this index."""
        integer = self.op(f"arith.index_cast {index} : index to i32")
        return self.op(f"vector.broadcast {integer} : i32 to {INTEGERS}")

    def counted(self, index):
        """A vector of integers that count from this index."""
        steps = self.op(f"arith.constant dense<{list(range(LANES))}> : {INTEGERS}")
        return self.op(f"arith.addi {self.positions(index)}, {steps} : {INTEGERS}")

    def unless(self, comparison, x, y, vector, otherwise):
        """``vector``, and ``otherwise`` where a comparison of integers is false."""
        condition = self.op(f"arith.cmpi {comparison}, {x}, {y} : {INTEGERS}")
        return self.op(f"arith.select {condition}, {vector}, {otherwise} : vector<{LANES}xi1>, {VECTOR}")

    def finite(self, scalar):
        """``scalar``, or zero for -inf."""
        infinite = self.op(f"arith.cmpf oeq, {scalar}, {self.number(-INFINITY)} : f32")
        return self.op(f"arith.select {infinite}, {self.number(0.0)}, {scalar} : f32")

    # -- tensors -----------------------------------------------------------------------------------------------

    def read(self, tensor, *at):
        """The vector at a place in a tensor."""
        place, zero = f"{tensor[0]}[{', '.join(at)}]", self.number(0.0)
        return self.op(f"vector.transfer_read {place}, {zero} {{in_bounds = [true]}} : {tensor[1]}, {VECTOR}")

    def write(self, vector, tensor, *at):
        """The tensor with a vector written to a place."""
        place = f"{tensor[0]}[{', '.join(at)}] {{in_bounds = [true]}}"
        return self.op(f"vector.transfer_write {vector}, {place} : {VECTOR}, {tensor[1]}"), tensor[1]

    def element(self, tensor, *at):
        """The element at a place in a tensor."""
        return self.op(f"tensor.extract {tensor[0]}[{', '.join(at)}] : {tensor[1]}")

    def with_element(self, scalar, tensor, *at):
        """The tensor with an element replaced."""
        return self.op(f"tensor.insert {scalar} into {tensor[0]}[{', '.join(at)}] : {tensor[1]}"), tensor[1]

    def empty(self, *shape):
        """A tensor to be written."""
        return self.op(f"tensor.empty() : {tensor_type(*shape)}"), tensor_type(*shape)

    def loop(self, start, stop, step, carried, body):
        """A loop over an index, carrying pairs of name and type, as ``body(index, carried)`` returns them."""
        types = [type_ for _, type_ in carried]
        index, result = self.name(), self.name()
        arguments = [self.name() for _ in carried]
        start, stop, step = (self.index(i) if isinstance(i, int) else i for i in (start, stop, step))
        initial = ", ".join(f"{a} = {name}" for a, (name, _) in zip(arguments, carried, strict=True))
        self.lines.append(
            f"{result}:{len(carried)} = scf.for {index} = {start} to {stop} step {step} iter_args({initial})"
            f" -> ({', '.join(types)}) {{"
        )
        outs = body(index, list(zip(arguments, types, strict=True)))
        self.lines += [f"scf.yield {', '.join(name for name, _ in outs)} : {', '.join(types)}", "}"]
        return [(f"{result}#{i}", type_) for i, type_ in enumerate(types)]

    def rows_filled(self, scalar, rows):
        """A column of equal numbers."""
        return self.loop(0, rows, 1, [self.empty(rows)], lambda i, c: [self.with_element(scalar, c[0], i)])[0]

    def zeros(self, rows, columns):
        """A matrix of zeros."""
        zero = self.splat(self.number(0.0))

        def row(i, carried):
            return self.loop(0, columns, LANES, carried, lambda j, c: [self.write(zero, c[0], i, j)])

        return self.loop(0, rows, 1, [self.empty(rows, columns)], row)[0]

    # -- around a dispatch -------------------------------------------------------------------------------------

    def constant(self, number, *shape):
        """A tensor of equal numbers."""
        return self.op(f"arith.constant dense<{bits(number)}> : {tensor_type(*shape)}")

    def prepared(self, name, spec, extents, transposed=False, fill=0.0):
        """An operand in float32, with its leading axes merged and the last ones padded to ``extents``; also with
        the last two axes swapped. Bool becomes 0 and -inf.
        """
        kept = len(extents)
        groups = [list(range(spec.rank - kept)), *([a] for a in range(spec.rank - kept, spec.rank))]
        element = signless_element_type(spec.dtype)
        shape = [math.prod(spec.shape[: spec.rank - kept]), *spec.shape[spec.rank - kept :]]
        source, type_ = tensor_type(*spec.shape, element=element), tensor_type(*shape, element=element)
        name = self.op(f"tensor.collapse_shape {name} {groups} : {source} into {type_}")
        if spec.dtype == bool_:
            shown, hidden = (self.constant(value, *shape) for value in (0.0, -INFINITY))
            name = self.op(f"arith.select {name}, {shown}, {hidden} : {type_}, {tensor_type(*shape)}")
        elif type_ != tensor_type(*shape):
            name = self.op(f"arith.extf {name} : {type_} to {tensor_type(*shape)}")
        type_ = tensor_type(*shape)
        more = [0, *(e - s for e, s in zip(extents, shape[1:], strict=True))]
        if any(more):
            shape = [shape[0], *extents]
            indices = ", ".join(f"%i{a}: index" for a in range(len(shape)))
            body = f"^bb0({indices}): tensor.yield {self.number(fill)} : f32"
            name = self.op(
                f"tensor.pad {name} low{[0] * len(shape)} high{more} {{ {body} }} : {type_} to {tensor_type(*shape)}"
            )
        if transposed:
            out, into = self.empty(shape[0], shape[2], shape[1])
            operands = f"ins({name} : {tensor_type(*shape)}) outs({out} : {into})"
            return self.op(f"linalg.transpose {operands} permutation = [0, 2, 1]"), into
        return name, tensor_type(*shape)

    def finished(self, tensor, spec):
        """A dispatch's result as a tensor of ``spec``: the inverse of :meth:`prepared`."""
        name, type_ = tensor
        kept = type_.count("x") - 1
        lead, rest = spec.rank - kept, spec.shape[spec.rank - kept :]
        shape = [math.prod(spec.shape[:lead]), *rest]
        zeros, ones = [0] * len(shape), [1] * len(shape)
        name = self.op(f"tensor.extract_slice {name}{zeros} {shape} {ones} : {type_} to {tensor_type(*shape)}")
        type_, element = tensor_type(*shape), signless_element_type(spec.dtype)
        if str(element) != "f32":
            name = self.op(f"arith.truncf {name} : {type_} to {tensor_type(*shape, element=element)}")
            type_ = tensor_type(*shape, element=element)
        groups = [list(range(lead)), *([a] for a in range(lead, spec.rank))]
        out = tensor_type(*spec.shape, element=element)
        return self.op(f"tensor.expand_shape {name} {groups} output_shape {list(spec.shape)} : {type_} into {out}")

    def dispatch(self, inputs, outputs, count, body):
        """A dispatch over a grid of workgroups: ``body(x, y, inputs, outputs)``; returns the results."""
        arguments = [(self.name(), f"{_BINDING}<readonly:{type_}>") for _, type_ in inputs]
        results = [(self.name(), f"{_BINDING}<writeonly:{type_}>") for type_ in outputs]
        operands, types = (", ".join(part) for part in zip(*inputs, strict=True))
        name = self.name()
        self.lines += [
            f"{name}:{len(outputs)} = flow.dispatch.workgroups[]({operands}) : ({types}) -> ({', '.join(outputs)}) =",
            f"({', '.join(f'{n}: {t}' for n, t in (*arguments, *results))}) {{",
        ]
        x, y = (self.op(f"flow.dispatch.workgroup.id[{axis}] : index") for axis in (0, 1))
        body(x, y, arguments, results)
        self.lines += ["flow.return", "} count() -> (index, index, index) {"]
        sizes = [self.index(c) for c in (*count, 1)]
        self.lines += [f"flow.return {', '.join(sizes)} : index, index, index", "}"]
        return [(f"{name}#{i}", type_) for i, type_ in enumerate(outputs)]

    def load(self, binding, first, *sizes, start=0):
        """The tensor ``binding[first, start:…]`` of these sizes."""
        at = [first, start, *[0] * (len(sizes) - 1)]
        type_ = tensor_type(*sizes)
        slice_ = f"offsets = [{', '.join(map(str, at))}], sizes = {[1, *sizes]}, strides = {[1] * len(at)}"
        return self.op(f"{_LOAD} {binding[0]}, {slice_} : {binding[1]} -> {type_}"), type_

    def store(self, tensor, binding, first, start, *sizes):
        """Stores a tensor to ``binding[first, start:…]``."""
        at = [first, start, *[0] * (len(sizes) - 1)]
        slice_ = f"offsets = [{', '.join(map(str, at))}], sizes = {[1, *sizes]}, strides = {[1] * len(at)}"
        self.lines.append(f"{_STORE} {tensor[0]}, {binding[0]}, {slice_} : {tensor[1]} -> {binding[1]}")

    # -- the steps that take the time --------------------------------------------------------------------------

    def tiled(self, *tensors):
        """Prepared operands with each :data:`TILE` of their rows transposed, one tile after the other.

        So the columns that a tile of scores needs lie together, whatever the length. Those of one type are computed
        together.
        """
        found: dict[tuple[str, str], tuple[str, str]] = {}
        for type_ in dict.fromkeys(type_ for _, type_ in tensors):
            names = [name for name, other in tensors if other == type_]
            count, rows, width = map(int, type_.removeprefix("tensor<").split("x")[:3])
            parts, into = (tensor_type(count, rows // TILE, *last) for last in ((TILE, width), (width, TILE)))
            groups, shape = [[0], [1, 2], [3]], [count, rows // TILE, TILE, width]
            split = [
                self.op(f"tensor.expand_shape {name} {groups} output_shape {shape} : {type_} into {parts}")
                for name in names
            ]
            empty, many = self.empty(count, rows // TILE, width, TILE)[0], len(names)
            maps = ["affine_map<(a, b, c, d) -> (a, b, d, c)>"] * many + [
                "affine_map<(a, b, c, d) -> (a, b, c, d)>"
            ] * many
            ins, outs = (
                f"{', '.join(v)} : {', '.join([t] * many)}" for v, t in ((split, parts), ([empty] * many, into))
            )
            result = self.name()
            self.lines += [
                f"{result}:{many} = linalg.generic {{indexing_maps = [{', '.join(maps)}], iterator_types ="
                f' ["parallel", "parallel", "parallel", "parallel"]}} ins({ins}) outs({outs}) {{',
                f"^bb0({', '.join(f'%{kind}{i}: f32' for kind in 'xy' for i in range(many))}):",
                f"linalg.yield {', '.join(f'%x{i}' for i in range(many))} : {', '.join(['f32'] * many)}",
                f"}} -> ({', '.join([into] * many)})",
            ]
            found |= {(name, type_): (f"{result}#{i}", into) for i, name in enumerate(names)}
        return [found[tensor] for tensor in tensors]

    def dots(self, left, rows, tiles, first, depth):
        """The products of rows of a matrix with a tile of columns of a :meth:`tiled` one, the one that has column
        ``first``: for each row, vectors.
        """
        zero = self.splat(self.number(0.0))
        tile = self.indices("divui", first, TILE)

        def step(d, sums):
            factors = [self.read(tiles, tile, d, self.index(LANES * i)) for i in range(VECTORS)]
            outs = []
            for row, totals in zip(rows, by_row(sums), strict=True):
                scalar = self.splat(self.element(left, row, d))
                for factor, (total, _) in zip(factors, totals, strict=True):
                    outs.append((self.vectors("vector.fma", scalar, factor, total), VECTOR))
            return outs

        sums = self.loop(0, depth, 1, [(zero, VECTOR)] * (len(rows) * VECTORS), step)
        return by_row([name for name, _ in sums])

    def accumulate(self, out, rows, scores, start, stop, matrix, first, width, factors=None):
        """``out`` with ``scores[:, start:stop] · matrix[first + start:first + stop]`` added to its rows, which are
        multiplied by ``factors`` before."""

        def group(column, carried):
            (out,) = carried
            columns = [self.indices("addi", column, LANES * i) for i in range(VECTORS)]
            sums = []
            for i, row in enumerate(rows):
                for c in columns:
                    old = self.read(out, row, c)
                    sums.append((old if factors is None else self.vectors("arith.mulf", old, factors[i]), VECTOR))

            def step(j, sums):
                source = self.indices("addi", first, j)
                parts = [self.read(matrix, source, c) for c in columns]
                outs = []
                for i, totals in enumerate(by_row(sums)):
                    scalar = self.splat(self.element(scores, self.index(i), j))
                    for part, (total, _) in zip(parts, totals, strict=True):
                        outs.append((self.vectors("vector.fma", scalar, part, total), VECTOR))
                return outs

            sums = self.loop(start, stop, 1, sums, step)
            for (name, _), (row, c) in zip(sums, [(r, c) for r in rows for c in columns], strict=True):
                out = self.write(name, out, row, c)
            return [out]

        return self.loop(0, width, TILE, [out], group)[0]


_BINDING = "!iree_tensor_ext.dispatch.tensor"
_LOAD, _STORE = "iree_tensor_ext.dispatch.tensor.load", "iree_tensor_ext.dispatch.tensor.store"


class Sizes:
    """The extents of attention, padded to whole tiles, and what each kernel's loops need of them."""

    def __init__(self, q, k, v):
        self.batch, heads, self.group, self.queries, width = q.shape
        self.shared = self.batch * heads
        self.keys = k.shape[2]
        self.width, self.out = padded(width, TILE), padded(v.shape[3], TILE)
        # Rows are padded to whole workgroups and columns to whole tiles, which are powers of two. The stack has room
        # for a block of keys with both its gradients up to this width.
        wide = self.width + self.out > 3 * MAX_WIDTH // 2
        self.query_rows = _block(self.queries, BLOCK)
        self.key_rows = _block(self.keys, BLOCK // 2 if wide else BLOCK)
        self.padded_queries = padded(self.queries, max(self.query_rows, TILE))
        self.padded_keys = padded(self.keys, max(self.key_rows, TILE))
        self.query_blocks, self.key_blocks = -(-self.queries // self.query_rows), -(-self.keys // self.key_rows)


def _block(extent, largest):
    """How many rows a workgroup has of so many."""
    return next((rows for rows in (ROWS, 2 * ROWS, 4 * ROWS) if extent <= rows), largest)


class Mask:
    """A mask as the operand of a dispatch. Its rows are queries, or keys where it lies transposed."""

    def __init__(self, t, spec, n, transposed=False):
        self.t, self.spec = t, spec
        # Each of the last axes is whole, or has extent 1.
        whole = [
            1 if size == 1 else extent
            for size, extent in zip(spec.shape[3:], (n.padded_queries, n.padded_keys), strict=True)
        ]
        self.operand = t.prepared("%mask", spec, tuple(whole), transposed=transposed)
        self.rows, self.columns = whole[::-1] if transposed else whole
        self.group, self.heads = n.group, n.shared // n.batch

    def load(self, binding, head, block, rows):
        """The part of a head's mask that a workgroup's rows need."""
        t, (batch, heads, group) = self.t, self.spec.shape[:3]
        place = t.index(0)
        member = t.indices("divui", head, self.group * self.heads)
        shared = t.indices("remui", t.indices("divui", head, self.group), self.heads)
        for size, index in ((batch, member), (heads, shared), (group, t.indices("remui", head, self.group))):
            place = t.indices("muli", place, size)
            place = t.indices("addi", place, index) if size != 1 else place
        if self.rows == 1:
            return t.load(binding, place, 1, self.columns)
        return t.load(binding, place, rows, self.columns, start=block)

    def add(self, score, part, row, column):
        """A vector of scores with the mask's part added."""
        t = self.t
        at = (t.index(0) if self.rows == 1 else row), (t.index(0) if self.columns == 1 else column)
        numbers = t.splat(t.element(part, *at)) if self.columns == 1 else t.read(part, *at)
        return t.vectors("arith.addf", score, numbers)


def _tile_rows(t, row):
    """The rows of a tile, and where they are in the block."""
    return [t.indices("addi", row, i) for i in range(ROWS)]


def _function(name, operands, results, t, returned):
    """The text of a function; operands are specs by name, None for one that there is not."""
    arguments = ", ".join(f"{n}: {_type(spec)}" for n, spec in operands.items() if spec is not None)
    types = ", ".join(map(_type, results))
    body = "\n".join(f"  {line}" for line in t.lines)
    return (
        f"func.func private @{name}({arguments}) -> ({types}) {{\n{body}\n  return {', '.join(returned)} : {types}\n}}"
    )


def _type(spec):
    return tensor_type(*spec.shape, element=signless_element_type(spec.dtype))


def _columns_of_tile(t, first, extent, limit):
    """How many columns from ``first`` on a tile has: at most :data:`COLUMNS`, up to the extent and a limit."""
    count = t.indices("minsi", t.indices("subi", t.index(extent), first), COLUMNS)
    return count if limit is None else t.indices("minsi", count, t.indices("subi", limit, first))


def forward(name, q, k, v, mask, results, *, scale, causal):
    """The text of a function that computes attention.

    Args:
        name: the function's.
        q, k, v, mask: the operands' specs; the mask may be None.
        results: the results' specs.
        scale, causal: the op's attributes.
    """
    t, n = Text(), Sizes(q, k, v)
    inputs = [
        t.prepared("%q", q, (n.padded_queries, n.width)),
        *t.tiled(t.prepared("%k", k, (n.padded_keys, n.width))),
        t.prepared("%v", v, (n.padded_keys, n.out)),
    ]
    masking = None if mask is None else Mask(t, mask, n)
    if masking:
        inputs.append(masking.operand)
    heads = n.shared * n.group
    outputs = [tensor_type(heads, n.padded_queries, n.out), tensor_type(heads, n.padded_queries)]

    def workgroup(x, y, inputs, outputs):
        block = t.indices("muli", x, n.query_rows)
        head = t.indices("divui", y, n.group)
        queries = t.load(inputs[0], y, n.query_rows, n.width, start=block)
        keys = t.load(inputs[1], head, n.padded_keys // TILE, n.width, TILE)
        values = t.load(inputs[2], head, n.padded_keys, n.out)
        mask_part = masking.load(inputs[3], y, block, n.query_rows) if masking else None
        scaling, lowest = t.splat(t.number(scale)), t.splat(t.number(-INFINITY))
        end = t.index(n.padded_keys)
        if causal:
            end = t.indices("minsi", end, t.indices("addi", block, n.query_rows))

        def key_block(first, state):
            def row_tile(tile, state):
                out, largest, total, scores = state
                rows, query = _tile_rows(t, tile), t.indices("addi", block, tile)
                count = _columns_of_tile(t, first, n.padded_keys, t.indices("addi", query, ROWS) if causal else None)
                positions = [t.positions(row) for row in _tile_rows(t, query)]

                def columns(column, state):
                    scores, *maxima = state
                    places = [t.indices("addi", column, LANES * i) for i in range(VECTORS)]
                    absolute = [t.indices("addi", first, place) for place in places]
                    products = t.dots(queries, rows, keys, absolute[0], n.width)
                    for j, place in enumerate(places):
                        counted = t.counted(absolute[j])
                        for i, row in enumerate(products):
                            score = t.vectors("arith.mulf", row[j], scaling)
                            if masking:
                                score = masking.add(score, mask_part, rows[i], absolute[j])
                            if causal:
                                score = t.unless("sle", counted, positions[i], score, lowest)
                            if n.keys != n.padded_keys:
                                score = t.unless("slt", counted, t.positions(t.index(n.keys)), score, lowest)
                            scores = t.write(score, scores, t.index(i), place)
                            maxima[i] = t.vectors("arith.maximumf", maxima[i][0], score), VECTOR
                    return [scores, *maxima]

                scores, *maxima = t.loop(0, count, TILE, [scores, *[(lowest, VECTOR)] * ROWS], columns)
                factors, shifts = [], []
                for row, (maximum, _) in zip(rows, maxima, strict=True):
                    old = t.element(largest, row)
                    new = t.op(f"vector.reduction <maximumf>, {maximum}, {old} : {VECTOR} into f32")
                    largest = t.with_element(new, largest, row)
                    shift = t.finite(new)
                    factors.append(t.scalars("math.exp", t.scalars("arith.subf", old, shift)))
                    shifts.append(t.splat(shift))

                def exponentials(column, state):
                    scores, *sums = state
                    for i in range(ROWS):
                        shifted = t.vectors("arith.subf", t.read(scores, t.index(i), column), shifts[i])
                        weight = t.vectors("math.exp", shifted)
                        scores = t.write(weight, scores, t.index(i), column)
                        sums[i] = t.vectors("arith.addf", sums[i][0], weight), VECTOR
                    return [scores, *sums]

                zero = t.splat(t.number(0.0))
                whole = t.indices("muli", t.indices("ceildivsi", count, TILE), TILE)
                scores, *sums = t.loop(0, whole, LANES, [scores, *[(zero, VECTOR)] * ROWS], exponentials)
                for row, (part, _), factor in zip(rows, sums, factors, strict=True):
                    part = t.op(f"vector.reduction <add>, {part} : {VECTOR} into f32")
                    total = t.with_element(t.scalars("math.fma", t.element(total, row), factor, part), total, row)
                splats = [t.splat(factor) for factor in factors]
                out = t.accumulate(out, rows, scores, 0, count, values, first, n.out, splats)
                return [out, largest, total, scores]

            return t.loop(0, n.query_rows, ROWS, state, row_tile)

        state = [
            t.zeros(n.query_rows, n.out),
            t.rows_filled(t.number(-INFINITY), n.query_rows),
            t.rows_filled(t.number(0.0), n.query_rows),
            t.empty(ROWS, COLUMNS),
        ]
        out, largest, total, _ = t.loop(0, end, COLUMNS, state, key_block)

        def finish(row, state):
            out, sums = state
            weight = t.element(total, row)
            inverse = t.scalars("arith.divf", t.number(1.0), weight)
            if masking:  # a query that sees no key gets zeros
                nothing = t.op(f"arith.cmpf oeq, {weight}, {t.number(0.0)} : f32")
                inverse = t.op(f"arith.select {nothing}, {t.number(0.0)}, {inverse} : f32")
            inverse = t.splat(inverse)

            def scaled(column, carried):
                value = t.vectors("arith.mulf", t.read(carried[0], row, column), inverse)
                return [t.write(value, carried[0], row, column)]

            (out,) = t.loop(0, n.out, LANES, [out], scaled)
            log = t.scalars("arith.addf", t.element(largest, row), t.scalars("math.log", weight))
            return [out, t.with_element(log, sums, row)]

        out, sums = t.loop(0, n.query_rows, 1, [out, t.empty(n.query_rows)], finish)
        t.store(out, outputs[0], y, block, n.query_rows, n.out)
        t.store(sums, outputs[1], y, block, n.query_rows)

    outs = t.dispatch(inputs, outputs, (n.query_blocks, heads), workgroup)
    returned = [t.finished(out, spec) for out, spec in zip(outs, results, strict=True)]
    operands = {"%q": q, "%k": k, "%v": v, "%mask": mask}
    return _function(name, operands, results, t, returned)


def gradient(name, q, k, v, mask, lse, delta, dout, results, *, scale, causal):
    """The text of a function that computes the gradients of queries, keys and values; see :func:`forward`.

    There are two dispatches, one whose rows are queries, and one whose rows are keys, which compute the probabilities
    each for itself: so no two workgroups add to the same rows.
    """
    t, n = Text(), Sizes(q, k, v)
    query_shape, dout_shape = (n.padded_queries, n.width), (n.padded_queries, n.out)
    queries, cotangents = t.prepared("%q", q, query_shape), t.prepared("%dout", dout, dout_shape)
    # What pads the queries has no probability.
    sums = "%lse"
    if mask is not None:  # where a query sees no key, all scores are -inf, and so are their exponents then
        zeros, infinities = (t.constant(value, *lse.shape) for value in (0.0, -INFINITY))
        nothing = t.op(f"arith.cmpf oeq, {sums}, {infinities} : {_type(lse)}")
        sums = t.op(f"arith.select {nothing}, {zeros}, {sums} : {_type(lse.with_dtype(bool_))}, {_type(lse)}")
    sums = t.prepared(sums, lse, (n.padded_queries,), fill=INFINITY)
    deltas = t.prepared("%delta", delta, (n.padded_queries,))
    keys, values = t.prepared("%k", k, (n.padded_keys, n.width)), t.prepared("%v", v, (n.padded_keys, n.out))
    masking, turned_masking = (None, None) if mask is None else (Mask(t, mask, n), Mask(t, mask, n, transposed=True))
    heads = n.shared * n.group

    def by_queries(x, y, inputs, outputs):
        block, head = t.indices("muli", x, n.query_rows), t.indices("divui", y, n.group)
        q_rows = t.load(inputs[0], y, n.query_rows, n.width, start=block)
        dout_rows = t.load(inputs[1], y, n.query_rows, n.out, start=block)
        sum_rows, delta_rows = (t.load(inputs[i], y, n.query_rows, start=block) for i in (2, 3))
        k_rows = t.load(inputs[4], head, n.padded_keys, n.width)
        k_tiles = t.load(inputs[5], head, n.padded_keys // TILE, n.width, TILE)
        v_tiles = t.load(inputs[6], head, n.padded_keys // TILE, n.out, TILE)
        mask_part = masking.load(inputs[7], y, block, n.query_rows) if masking else None
        scaling, hidden = t.splat(t.number(scale)), t.splat(t.number(-INFINITY))
        end = t.index(n.padded_keys)
        if causal:
            end = t.indices("minsi", end, t.indices("addi", block, n.query_rows))

        def key_block(first, state):
            def row_tile(tile, state):
                dq, scores = state
                rows, query = _tile_rows(t, tile), t.indices("addi", block, tile)
                count = _columns_of_tile(t, first, n.padded_keys, t.indices("addi", query, ROWS) if causal else None)
                positions = [t.positions(row) for row in _tile_rows(t, query)]
                row_sums, row_deltas = ([t.splat(t.element(c, r)) for r in rows] for c in (sum_rows, delta_rows))

                def columns(column, state):
                    (scores,) = state
                    places = [t.indices("addi", column, LANES * i) for i in range(VECTORS)]
                    absolute = [t.indices("addi", first, place) for place in places]
                    seen = [(t.counted(absolute[j]), positions) for j in range(VECTORS)] if causal else None
                    products = t.dots(q_rows, rows, k_tiles, absolute[0], n.width)
                    for j, place in enumerate(places):
                        for i, row in enumerate(products):
                            score = t.vectors("arith.mulf", row[j], scaling)
                            if masking:
                                score = masking.add(score, mask_part, rows[i], absolute[j])
                            if seen is not None:
                                score = t.unless("sle", seen[j][0], positions[i], score, hidden)
                            p = t.vectors("math.exp", t.vectors("arith.subf", score, row_sums[i]))
                            scores = t.write(p, scores, t.index(i), place)
                    products = t.dots(dout_rows, rows, v_tiles, absolute[0], n.out)
                    for j, place in enumerate(places):
                        for i, row in enumerate(products):
                            centred = t.vectors("arith.subf", row[j], row_deltas[i])
                            centred = t.vectors("arith.mulf", centred, scaling)
                            ds = t.vectors("arith.mulf", centred, t.read(scores, t.index(i), place))
                            scores = t.write(ds, scores, t.index(i), place)
                    return [scores]

                (scores,) = t.loop(0, count, TILE, [scores], columns)
                return [t.accumulate(dq, rows, scores, 0, count, k_rows, first, n.width), scores]

            return t.loop(0, n.query_rows, ROWS, state, row_tile)

        dq, _ = t.loop(0, end, COLUMNS, [t.zeros(n.query_rows, n.width), t.empty(ROWS, COLUMNS)], key_block)
        t.store(dq, outputs[0], y, block, n.query_rows, n.width)

    def by_keys(x, y, inputs, outputs):
        block = t.indices("muli", x, n.key_rows)
        k_rows = t.load(inputs[0], y, n.key_rows, n.width, start=block)
        v_rows = t.load(inputs[1], y, n.key_rows, n.out, start=block)
        scaling, hidden = t.splat(t.number(scale)), t.splat(t.number(-INFINITY))

        def group_member(member, state):
            head = t.indices("addi", t.indices("muli", y, n.group), member)
            q_tiles = t.load(inputs[2], head, n.padded_queries // TILE, n.width, TILE)
            dout_tiles = t.load(inputs[3], head, n.padded_queries // TILE, n.out, TILE)
            q_rows = t.load(inputs[4], head, n.padded_queries, n.width)
            dout_rows = t.load(inputs[5], head, n.padded_queries, n.out)
            mask_part = turned_masking.load(inputs[8], head, block, n.key_rows) if turned_masking else None
            all_sums, all_deltas = (t.load(inputs[i], head, n.padded_queries) for i in (6, 7))

            def query_block(first, state):
                def row_tile(tile, state):
                    dk, dv, scores, grads = state
                    rows, key = _tile_rows(t, tile), t.indices("addi", block, tile)
                    count = _columns_of_tile(t, first, n.padded_queries, None)
                    start = t.index(0)
                    if causal:  # the first query that sees a key of the tile, from its own tile's beginning on
                        start = t.indices("maxsi", t.indices("subi", key, first), 0)
                        start = t.indices("muli", t.indices("divui", start, TILE), TILE)
                    positions = [t.positions(row) for row in _tile_rows(t, key)]

                    def columns(column, state):
                        scores, grads = state
                        places = [t.indices("addi", column, LANES * i) for i in range(VECTORS)]
                        absolute = [t.indices("addi", first, place) for place in places]
                        products = t.dots(k_rows, rows, q_tiles, absolute[0], n.width)
                        for j, place in enumerate(places):
                            counted, sums = t.counted(absolute[j]), t.read(all_sums, absolute[j])
                            for i, row in enumerate(products):
                                score = t.vectors("arith.mulf", row[j], scaling)
                                if turned_masking:
                                    score = turned_masking.add(score, mask_part, rows[i], absolute[j])
                                if causal:
                                    score = t.unless("sge", counted, positions[i], score, hidden)
                                p = t.vectors("math.exp", t.vectors("arith.subf", score, sums))
                                scores = t.write(p, scores, t.index(i), place)
                        products = t.dots(v_rows, rows, dout_tiles, absolute[0], n.out)
                        for j, place in enumerate(places):
                            deltas = t.read(all_deltas, absolute[j])
                            for i, row in enumerate(products):
                                p = t.read(scores, t.index(i), place)
                                centred = t.vectors("arith.subf", row[j], deltas)
                                ds = t.vectors("arith.mulf", p, t.vectors("arith.mulf", centred, scaling))
                                grads = t.write(ds, grads, t.index(i), place)
                        return [scores, grads]

                    scores, grads = t.loop(start, count, TILE, [scores, grads], columns)
                    dv = t.accumulate(dv, rows, scores, start, count, dout_rows, first, n.out)
                    dk = t.accumulate(dk, rows, grads, start, count, q_rows, first, n.width)
                    return [dk, dv, scores, grads]

                return t.loop(0, n.key_rows, ROWS, state, row_tile)

            start = t.index(0)
            if causal:
                start = t.indices("muli", t.indices("divui", block, COLUMNS), COLUMNS)
            return t.loop(start, n.padded_queries, COLUMNS, state, query_block)

        state = [t.zeros(n.key_rows, width) for width in (n.width, n.out)]
        state += [t.empty(ROWS, COLUMNS), t.empty(ROWS, COLUMNS)]
        dk, dv, *_ = t.loop(0, n.group, 1, state, group_member)
        t.store(dk, outputs[0], y, block, n.key_rows, n.width)
        t.store(dv, outputs[1], y, block, n.key_rows, n.out)

    # The forward pass has tiled the keys in the same way.
    (key_tiles,), (value_tiles, query_tiles, cotangent_tiles) = t.tiled(keys), t.tiled(values, queries, cotangents)
    inputs = [queries, cotangents, sums, deltas, keys, key_tiles, value_tiles]
    inputs += [masking.operand] if masking else []
    outputs = [tensor_type(heads, *query_shape)]
    grid = n.query_blocks, heads
    (dq,) = t.dispatch(inputs, outputs, grid, by_queries)
    inputs = [keys, values, query_tiles, cotangent_tiles, queries, cotangents, sums, deltas]
    inputs += [turned_masking.operand] if turned_masking else []
    outputs = [tensor_type(n.shared, n.padded_keys, width) for width in (n.width, n.out)]
    dk, dv = t.dispatch(inputs, outputs, (n.key_blocks, n.shared), by_keys)
    returned = [t.finished(dq, results[0]), t.finished(dk, results[1]), t.finished(dv, results[2])]
    operands = {"%q": q, "%k": k, "%v": v, "%mask": mask, "%lse": lse, "%delta": delta, "%dout": dout}
    return _function(name, operands, results, t, returned)
