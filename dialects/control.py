"""Ops that say how to compile, not what to compute. (Calls are upstream's ``func.call``.)"""

import numpy as np

from volta_mlir.dialects.base import Op, Operand, Result
from volta_mlir.mlir import ir


class OptimizationBarrierOp(Op, name="optimization_barrier"):
    """The operand itself, which no optimisation sees through.

    What is computed from it is not merged with the same computation from the operand, so that values can be
    recomputed on purpose. IREE keeps to that as well, at the price of a wait on the host where the operand is not an
    argument of the function.
    """

    pure = False
    linear = "jointly"
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
