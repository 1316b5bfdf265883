"""Samples of convolutions and their gradients."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.samples import Sample, random_array
from volta_mlir.dialects.convolution import ConvolutionOp
from volta_mlir.dtypes import DTYPES, TensorSpec, bool_, float32

NUMBERS = tuple(d for d in DTYPES if d != bool_)

Shape = tuple[int, ...]


def _geometry(
    layout: str,
    strides: Shape | None = None,
    low: Shape | None = None,
    high: Shape | None = None,
    dilation: Shape | None = None,
    groups: int = 1,
) -> dict[str, Any]:
    rank = len(layout) - 2
    return {
        "strides": strides or (1,) * rank,
        "low": low or (0,) * rank,
        "high": high or low or (0,) * rank,
        "dilation": dilation or (1,) * rank,
        "groups": groups,
        "layout": layout,
    }


#: (name, shape of the input, shape of the kernel, geometry)
GEOMETRIES: list[tuple[str, Shape, Shape, dict[str, Any]]] = [
    ("NHWC", (2, 6, 7, 3), (3, 2, 3, 5), _geometry("NHWC", low=(1, 1), high=(1, 0))),
    ("NCHW", (2, 3, 6, 7), (5, 3, 3, 2), _geometry("NCHW", low=(1, 0))),
    ("stride", (1, 3, 9, 8), (4, 3, 3, 3), _geometry("NCHW", strides=(2, 3), low=(1, 1))),
    ("stride over one result", (2, 4, 2, 2), (5, 4, 3, 3), _geometry("NCHW", strides=(2, 2), low=(1, 1))),
    ("stride over one result NHWC", (2, 2, 2, 16), (3, 3, 16, 17), _geometry("NHWC", strides=(2, 2), low=(1, 1))),
    ("stride NHWC", (2, 8, 8, 16), (3, 3, 16, 17), _geometry("NHWC", strides=(2, 2), low=(1, 1))),
    ("dilation", (2, 9, 10, 2), (3, 2, 2, 3), _geometry("NHWC", low=(2, 0), dilation=(2, 3))),
    ("stride and dilation", (1, 2, 11, 9), (3, 2, 3, 2), _geometry("NCHW", (2, 3), (1, 2), (0, 1), (3, 2))),
    ("stride larger than the kernel", (2, 9, 7, 3), (1, 2, 3, 4), _geometry("NHWC", strides=(2, 3))),
    ("kernel of one element", (2, 5, 6, 4), (1, 1, 4, 3), _geometry("NHWC")),
    ("kernel of one element, stride", (2, 4, 5, 6), (3, 4, 1, 1), _geometry("NCHW", strides=(2, 2), low=(1, 0))),
    ("kernel of one row", (2, 6, 7, 3), (1, 3, 3, 4), _geometry("NHWC", strides=(2, 1), low=(1, 1))),
    ("kernel of one column", (2, 4, 7, 5), (6, 2, 3, 1), _geometry("NCHW", strides=(1, 2), groups=2)),
    ("prime width", (1, 3, 13, 2), (2, 1, 2, 3), _geometry("NHWC", low=(1, 0))),
    ("padding beyond the kernel", (1, 3, 4, 2), (2, 2, 2, 3), _geometry("NHWC", low=(3, 2), high=(4, 0))),
    ("groups", (2, 6, 5, 4), (4, 3, 3, 2), _geometry("NCHW", low=(1, 1), groups=2)),
    ("groups NHWC, stride", (1, 6, 7, 6), (3, 3, 2, 9), _geometry("NHWC", strides=(2, 2), groups=3)),
    ("groups, kernel of one element", (2, 3, 4, 6), (1, 1, 3, 4), _geometry("NHWC", groups=2)),
    ("depthwise", (2, 7, 6, 5), (3, 3, 1, 5), _geometry("NHWC", low=(1, 1), groups=5)),
    ("depthwise, stride", (1, 4, 8, 9), (4, 1, 3, 3), _geometry("NCHW", strides=(2, 2), low=(1, 1), groups=4)),
    ("depthwise, two of each", (1, 6, 5, 3), (2, 3, 1, 6), _geometry("NHWC", groups=3)),
    ("NCW", (2, 3, 12), (4, 3, 5), _geometry("NCW", strides=(2,), low=(2,))),
    ("NWC", (2, 9, 3), (3, 3, 2), _geometry("NWC", dilation=(2,))),
    ("NWC depthwise", (2, 9, 4), (3, 1, 4), _geometry("NWC", low=(2,), high=(0,), groups=4)),
    ("NCDHW", (1, 2, 4, 5, 6), (3, 2, 2, 3, 2), _geometry("NCDHW", strides=(1, 2, 1), low=(0, 1, 1))),
    ("NDHWC", (2, 4, 3, 4, 2), (2, 2, 2, 2, 3), _geometry("NDHWC")),
    ("long kernel", (1, 80, 2), (70, 2, 3), _geometry("NWC", low=(3,))),
    ("no batch", (0, 5, 5, 2), (3, 3, 2, 3), _geometry("NHWC")),
    ("no input channels", (1, 5, 5, 0), (3, 3, 0, 3), _geometry("NHWC")),
]


def _samples(roles: str) -> list[Sample]:
    """Samples whose operands are two of the input x, the kernel w and the cotangent y."""

    def sample(name: str, x: Shape, w: Shape, geometry: dict[str, Any]) -> Sample:
        y = ConvolutionOp.infer(TensorSpec(x, float32), TensorSpec(w, float32), **geometry).shape
        layout = geometry["layout"]
        shapes = {"x": x, "w": w, "y": y}

        def operands(rng: np.random.Generator, dtype: np.dtype) -> list[np.ndarray]:
            return [random_array(rng, dtype, shapes[role]) for role in roles]

        spatial = [a for a, axis in enumerate(layout) if axis not in "NC"]
        kernel_spatial = range(2, len(layout)) if layout[-1] != "C" else range(len(layout) - 2)
        extents = {
            "xw": {},
            "yw": {"extents": tuple(x[a] for a in spatial)},
            "xy": {"extents": tuple(w[a] for a in kernel_spatial)},
        }[roles]
        return Sample(name, operands, {**geometry, **extents}, NUMBERS)

    return [sample(*case) for case in GEOMETRIES]


SAMPLES = {
    "convolution": _samples("xw"),
    "convolution_input_grad": _samples("yw"),
    "convolution_kernel_grad": _samples("xy"),
}
