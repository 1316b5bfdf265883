"""Ops that say how to compile, not what to compute. (Calls are upstream's ``func.call``.)"""

from typing import Any

import numpy as np

from volta_mlir import functions as F
from volta_mlir.dialects.base import Op, Operand, Result
from volta_mlir.dialects.lowering import Lowering
from volta_mlir.dtypes import TensorSpec, bool_, is_float
from volta_mlir.errors import DTypeError, ShapeError
from volta_mlir.mlir import arith, ir, signless_element_type, spec_of
from volta_mlir.tensor import Tensor


class OptimizationBarrierOp(Op, name="optimization_barrier"):
    """The operand itself, which no optimisation sees through.

    What is computed from it is not merged with the same computation from the operand, so that values can be
    recomputed on purpose. IREE keeps to that as well, at the price of a wait on the host where the operand is not an
    argument of the function.
    """

    pure = False
    linear = "jointly"
    permuted_operands = slice(None)
    operand: Operand
    result: Result

    @classmethod
    def infer(cls, operand):
        return operand

    @staticmethod
    def reference(x):
        return np.array(x)

    @classmethod
    def transpose(cls, cotangent, operands):
        return (cls.apply(cotangent),)

    @classmethod
    def batch(cls, operands, batched):
        return cls.apply(operands[0])

    @classmethod
    def flops(cls, operands, results):
        return 0

    @classmethod
    def lower(cls, b, op, x):
        return ir.Operation.create("util.optimization_barrier", results=[x.type], operands=[x]).result


class AfterOp(Op, name="after"):
    """The first operand, not before the second, a number of rank 0, is there.

    What is computed from it is not merged with the same computation from the operand itself, and waits for the second
    operand: a backward pass recomputes values behind it, so that they are computed when they are needed and not before.

    An ``optimization_barrier`` keeps computations apart too, but in no order, so that IREE makes both copies early and
    keeps them. Here the order is a data dependence that looks like one: elements are selected by the second operand's
    bits, which always say yes (``n · (n + 1)`` is even). It stays on the device, unlike a condition of rank 0, which
    IREE would read back to the host. Fused with what uses it, it costs no pass over the tensor.
    """

    linear = "separately"
    linear_operands = (0,)
    permuted_operands = slice(1)
    operand: Operand
    token: Operand
    result: Result

    @classmethod
    def infer(cls, operand, token):
        if token.dtype == bool_:
            raise DTypeError(f"takes a number for a token, got {token}")
        if token.rank:
            raise ShapeError(f"takes a token of rank 0, got {token}")
        return operand

    @classmethod
    def of(cls, operand: Tensor, value: Tensor) -> Tensor:
        """The operand, once a tensor of numbers, one at least, is there."""
        return cls.apply(operand, F.reshape(value[(slice(0, 1),) * value.ndim], ()))

    @staticmethod
    def reference(x, token):
        return np.array(x)

    @classmethod
    def transpose(cls, cotangent, operands):
        return cls.apply(cotangent, operands[1]), None

    @classmethod
    def batch(cls, operands, batched):
        x, token = operands
        if not batched[0]:
            x = F.broadcast_to(F.expand_dims(x, 0), (token.shape[0], *x.shape))
        return cls.of(x, token) if batched[1] else cls.apply(x, token)

    @classmethod
    def flops(cls, operands, results):
        return 0

    @classmethod
    def scalar(cls, b: Lowering, spec: TensorSpec, token_spec: TensorSpec, value: Any, token: Any) -> Any:
        """The body on scalars of these specs' dtypes."""
        bits = np.dtype(f"int{8 * token_spec.dtype.itemsize}")
        number = arith.bitcast(signless_element_type(bits), token) if is_float(token_spec.dtype) else token
        one, zero = b.scalar(1, bits), b.scalar(0, bits)
        odd = arith.andi(arith.muli(number, arith.addi(number, one)), one)
        is_even = arith.cmpi(arith.CmpIPredicate.eq, odd, zero)
        return arith.select(is_even, value, b.scalar(0, spec.dtype))

    @classmethod
    def lower(cls, b, op, x, token):
        spec, token_spec = (spec_of(v.type) for v in op.operation.operands)
        loops = range(spec.rank)

        def body(value, token, _):
            return cls.scalar(b, spec, token_spec, value, token)

        (result,) = b.generic([x, token], [loops, ()], [b.empty(spec)], [loops], ["parallel"] * spec.rank, body)
        return result
