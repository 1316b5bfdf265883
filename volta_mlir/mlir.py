"""The one module that imports the MLIR Python bindings.

``torch_mlir`` bundles upstream MLIR's complete bindings; ``VOLTA_MLIR_PACKAGE`` names another complete ``mlir``
package to use instead (one with ``ir``, ``passmanager`` and ``dialects.ext``).
"""

from __future__ import annotations

import importlib
import os
import sys
import threading
from functools import cache, lru_cache
from typing import Any

import numpy as np

from volta_mlir.dtypes import DTYPES, TensorSpec, is_unsigned

PACKAGE = os.environ.get("VOLTA_MLIR_PACKAGE", "torch_mlir")


def _load(name: str) -> Any:
    try:
        return importlib.import_module(f"{PACKAGE}.{name}")
    except ImportError as error:
        raise ImportError(
            f"cannot import the MLIR bindings {PACKAGE}.{name} ({error}); install torch-mlir, or set"
            " VOLTA_MLIR_PACKAGE to a package with the complete upstream bindings"
        ) from error


class _Lazy:
    """A module that is imported when something of it is first used: half of the time of a start that lowers nothing."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        value = getattr(_load(self._name), attribute)
        setattr(self, attribute, value)
        return value


ir: Any = _load("ir")
passmanager: Any = _load("passmanager")
ext: Any = _load("dialects.ext")
func: Any = _load("dialects.func")
linalg: Any = _Lazy("dialects.linalg")
arith: Any = _Lazy("dialects.arith")
math: Any = _Lazy("dialects.math")
tensor: Any = _Lazy("dialects.tensor")
scf: Any = _Lazy("dialects.scf")

_ELEMENT_NAMES = {
    dtype: {"bfloat16": "bf16", "float16": "f16", "float32": "f32", "float64": "f64", "bool": "i1"}.get(dtype.name)
    or dtype.name.replace("uint", "ui").replace("int", "i")
    for dtype in DTYPES
}


_context: Any = None
_context_lock = threading.RLock()


def context() -> Any:
    """The process-wide MLIR context, with the volta dialect loaded; use it as ``with context():``."""
    return _context or _make_context()


def _make_context() -> Any:
    global _context
    from volta_mlir.dialects import Volta, iree

    with _context_lock:  # threads may trace at once, and what they make must belong to one context
        if _context is None:
            ctx = ir.Context()
            with ctx, ir.Location.unknown():
                for dialect in (Volta, *iree.DIALECTS):
                    dialect.load()
                    # The bindings import a module of the dialect's name for every op that they wrap, and look for it
                    # on disk each time until it is found.
                    sys.modules.setdefault(f"{PACKAGE}.dialects.{dialect.DIALECT_NAMESPACE}", sys.modules[__name__])
            _context = ctx
    return _context


@cache
def foreign_attribute(text: str) -> Any:
    """An attribute of a dialect that only IREE knows; it is printed as it was given."""
    ctx = context()
    with _context_lock:
        before, ctx.allow_unregistered_dialects = ctx.allow_unregistered_dialects, True
        try:
            return ir.Attribute.parse(text, ctx)
        finally:
            ctx.allow_unregistered_dialects = before


@cache
def element_type(dtype: np.dtype) -> Any:
    """The MLIR element type of ``dtype``: unsigned integers are ``ui*`` in volta, signed ones signless ``i*``."""
    return ir.Type.parse(_ELEMENT_NAMES[dtype], context())


@cache
def signless_element_type(dtype: np.dtype) -> Any:
    """The element type that ``dtype`` has below volta, where signedness lives in the operations."""
    if is_unsigned(dtype):
        return ir.Type.parse(f"i{8 * dtype.itemsize}", context())
    return element_type(dtype)


@lru_cache(maxsize=4096)
def tensor_type(spec: TensorSpec) -> Any:
    """``tensor<…>`` for a spec."""
    with context(), ir.Location.unknown():
        return ir.RankedTensorType.get(spec.shape, element_type(spec.dtype))


@lru_cache(maxsize=4096)
def signless_tensor_type(spec: TensorSpec) -> Any:
    """``tensor<…>`` for a spec, as linalg and IREE see it."""
    with context(), ir.Location.unknown():
        return ir.RankedTensorType.get(spec.shape, signless_element_type(spec.dtype))


@lru_cache(maxsize=1)
def _dtypes_by_element() -> dict[Any, np.dtype]:
    return {element_type(dtype): dtype for dtype in DTYPES}


def dtype_of(element: Any) -> np.dtype | None:
    """The dtype of an MLIR element type, None where Volta has none."""
    return _dtypes_by_element().get(element)


@lru_cache(maxsize=4096)
def spec_of(type_: Any) -> TensorSpec:
    """The spec of a statically shaped ``tensor<…>`` type without encoding; raises TypeError for any other type."""
    if isinstance(type_, ir.RankedTensorType) and type_.has_static_shape and type_.encoding is None:
        dtype = dtype_of(type_.element_type)
        if dtype is not None:
            return TensorSpec(tuple(type_.shape), dtype)
    raise TypeError(f"expected a statically shaped tensor of a Volta dtype, got {type_}")


def function_named(module: Any, name: str) -> Any:
    """The ``func.func`` called ``name`` in a module, None if there is none."""
    symbols = ir.SymbolTable(module.operation)
    found = symbols[name] if name in symbols else None  # noqa: SIM401 - it has no get
    return found if isinstance(found, func.FuncOp) else None
