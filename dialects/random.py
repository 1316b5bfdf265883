"""Random bits as a function of a key: random_bits.

Bits depend on the key and a counter alone, so that they are the same on every device, in every order of computation,
and when they are computed again.
"""

import math as pymath

import numpy as np

from volta_mlir.dialects.base import Op, Operand, Result, require
from volta_mlir.dialects.elementwise import all_batched
from volta_mlir.dtypes import UNSIGNED, TensorSpec, uint32, uint64
from volta_mlir.errors import DTypeError
from volta_mlir.mlir import arith, ir, spec_of, tensor

#: Threefry's rotations: each row is used for four rounds, in turns.
ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
PARITY = 0x1BD11BDA


def threefry2x32(key, counter):
    """NumPy's Threefry-2x32 with 20 rounds: two uint32 arrays from two keys and two counters (Salmon et al., 2011)."""
    schedule = [key[0], key[1], key[0] ^ key[1] ^ np.uint32(PARITY)]
    x, y = counter[0] + schedule[0], counter[1] + schedule[1]
    for group in range(5):
        for rotation in ROTATIONS[group % 2]:
            x = x + y
            y = (y << np.uint32(rotation)) | (y >> np.uint32(32 - rotation))
            y = y ^ x
        x = x + schedule[(group + 1) % 3]
        y = y + schedule[(group + 2) % 3] + np.uint32(group + 1)
    return x, y


class RandomBitsOp(Op, name="random_bits"):
    """Uniformly distributed bits: element ``i`` in row-major order is Threefry-2x32 of the counter ``start + i``.

    A key is two uint32; leading axes of ``key`` and ``start`` (uint32) are those of independent generators, and come
    first in the result. A counter gives two words ``(x, y)``: a uint64 result is ``x << 32 | y``, narrower ones are the
    low bits of ``x ^ y``.
    """

    differentiable = False
    key: Operand
    start: Operand
    result: Result
    shape: tuple[int, ...]
    dtype: np.dtype

    @classmethod
    def infer(cls, key, start, *, shape, dtype):
        if key.dtype != uint32 or start.dtype != uint32:
            raise DTypeError(f"the key and the start are uint32, got {key} and {start}")
        if dtype not in UNSIGNED:
            raise DTypeError(f"gives unsigned integers, not {dtype.name}")
        require(key.rank > 0 and key.shape[-1] == 2, f"a key is two numbers, got {key}")
        require(key.shape[:-1] == start.shape, f"key {key} and start {start} differ in their leading axes")
        require(all(s >= 0 for s in shape) and pymath.prod(shape) < 2**32, f"shape {shape} has 2**32 elements or more")
        return TensorSpec((*start.shape, *shape), dtype)

    @staticmethod
    def reference(key, start, *, shape, dtype):
        start = start.reshape(start.shape + (1,) * len(shape)).astype(np.uint64)
        count = start + np.arange(pymath.prod(shape), dtype=np.uint64).reshape(shape)
        keys = key.reshape(key.shape[:-1] + (1,) * len(shape) + (2,))
        words = (count >> np.uint64(32)).astype(np.uint32), count.astype(np.uint32)
        x, y = threefry2x32((keys[..., 0], keys[..., 1]), words)
        if dtype == uint64:
            return (x.astype(np.uint64) << np.uint64(32)) | y
        return (x ^ y).astype(dtype)

    @classmethod
    def batch(cls, operands, batched, *, shape, dtype):
        return cls.apply(*all_batched(operands, batched), shape=shape, dtype=dtype)

    @classmethod
    def flops(cls, operands, results, **attributes):
        return 75 * results[0].size  # 20 rounds of an addition, a rotation and an exclusive or, and the key schedule

    @classmethod
    def lower(cls, b, op, key, start):
        out, generators = spec_of(op.operation.results[0].type), spec_of(op.operation.operands[1].type)

        def body():
            lead = [b.index(a) for a in range(generators.rank)]
            keys = [tensor.extract(key, [*lead, b.constant_index(word)]) for word in range(2)]
            flat = b.constant_index(0)
            for axis in range(generators.rank, out.rank):
                flat = arith.addi(arith.muli(flat, b.constant_index(out.shape[axis])), b.index(axis))
            first = tensor.extract(start, lead)
            low = arith.addi(first, arith.index_cast(first.type, flat))
            carry = arith.extui(first.type, arith.cmpi(arith.CmpIPredicate.ult, low, first))
            x, y = cls._threefry(b, keys, carry, low)
            if out.dtype == uint64:
                i64 = ir.IntegerType.get_signless(64)
                high = arith.shli(arith.extui(i64, x), b.scalar(32, uint64))
                return arith.ori(high, arith.extui(i64, y))
            return b.convert(arith.xori(x, y), uint32, out.dtype)

        return b.elementwise(out, [], body)

    @staticmethod
    def _threefry(b, keys, x, y):
        def word(value):
            return b.scalar(value, uint32)

        schedule = [*keys, arith.xori(arith.xori(*keys), word(PARITY))]
        x, y = arith.addi(x, schedule[0]), arith.addi(y, schedule[1])
        for group in range(5):
            for rotation in ROTATIONS[group % 2]:
                x = arith.addi(x, y)
                y = arith.ori(arith.shli(y, word(rotation)), arith.shrui(y, word(32 - rotation)))
                y = arith.xori(y, x)
            x = arith.addi(x, schedule[(group + 1) % 3])
            y = arith.addi(arith.addi(y, schedule[(group + 2) % 3]), word(group + 1))
        return x, y
