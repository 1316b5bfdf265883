"""Machines and their limits, against which costs are weighed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Machine:
    """A machine's limits, for the roofline model (Williams, Waterman and Patterson, 2009).

    Args:
        name: what reports call it.
        bandwidth: bytes per second to and from memory.
        flops: operations per second, by dtype name. A dtype that is not here counts as ``"float32"``.

    Example:
        >>> Machine("abacus", bandwidth=10.0, flops={"float32": 100.0}).seconds(flops=200, bytes=5, dtype="float32")
        2.0
    """

    name: str
    bandwidth: float
    flops: Mapping[str, float]

    def seconds(self, flops: int, bytes: int, dtype: str) -> float:
        """The least time for so many operations on, and so many bytes of, elements of a dtype."""
        return max(flops / self.flops.get(dtype, self.flops["float32"]), bytes / self.bandwidth)


#: Machines by name, from their makers' data sheets; products of float32 on the GPUs without TF32. The CPU is one core
#: with two 512-bit units at 2 GHz and its share of the memory channels.
MACHINES = {
    machine.name: machine
    for machine in (
        Machine("cpu-core", 10e9, {"float32": 128e9, "float64": 64e9}),
        Machine("a100", 2.0e12, {"float32": 19.5e12, "float64": 9.7e12, "float16": 312e12, "bfloat16": 312e12}),
        Machine("h100", 3.35e12, {"float32": 67e12, "float64": 34e12, "float16": 989e12, "bfloat16": 989e12}),
    )
}
