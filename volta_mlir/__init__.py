"""Volta: an ML training and inference compiler on MLIR and IREE.

Importing the package is cheap and starts no device; names are loaded at first use.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Where each public name lives. Errors, dtypes and Tensor need numpy only; `load` and `devices` need IREE's runtime;
# the rest needs the MLIR bindings, and compiling needs IREE's compiler.
_HOME = {
    **dict.fromkeys(
        """VoltaError ShapeError DTypeError OptionError TraceError CompileError AliasError BudgetError DeviceError
        DonatedError NaNError ArtifactError WeightsError CacheError""".split(),
        "errors",
    ),
    **dict.fromkeys(
        """spec TensorSpec bfloat16 float16 float32 float64 int8 int16 int32 int64 uint8 uint16 uint32 uint64
        bool_ result_type""".split(),
        "dtypes",
    ),
    "Tensor": "tensor",
    "debug_nans": "debug",
    "load": "artifact",
    "Trainer": "training",
    **dict.fromkeys("devices device".split(), "runtime"),
    **dict.fromkeys("jit Jitted Lowered Compiled".split(), "compilation"),
    **dict.fromkeys(
        "grad value_and_grad vjp jvp hvp jacfwd jacrev jacobian hessian vmap stop_gradient".split(), "transforms"
    ),
    **dict.fromkeys(
        """scan associative_scan while_loop fori_loop cond switch custom_vjp checkpoint checkpoint_name dots_saveable
        save_only_names Intermediate""".split(),
        "control",
    ),
}
if TYPE_CHECKING:  # the same for type checkers
    from volta_mlir.artifact import load as load
    from volta_mlir.compilation import Compiled as Compiled
    from volta_mlir.compilation import Jitted as Jitted
    from volta_mlir.compilation import Lowered as Lowered
    from volta_mlir.compilation import jit as jit
    from volta_mlir.control import *  # noqa: F403
    from volta_mlir.debug import debug_nans as debug_nans
    from volta_mlir.dtypes import *  # noqa: F403
    from volta_mlir.errors import *  # noqa: F403
    from volta_mlir.functions import *  # noqa: F403
    from volta_mlir.runtime import device as device
    from volta_mlir.runtime import devices as devices
    from volta_mlir.tensor import Tensor as Tensor
    from volta_mlir.training import Trainer as Trainer
    from volta_mlir.transforms import *  # noqa: F403

_HERE = os.path.dirname(__file__)
# Modules and packages; the package's directory also holds py.typed and caches.
_MODULES = frozenset(
    name
    for name, _, ending in (entry.partition(".") for entry in os.listdir(_HERE))
    if name[0] != "_" and (ending == "py" or os.path.isdir(os.path.join(_HERE, name)))
)
_MODULES |= {"dialects", "passes", "tools"}


def __getattr__(name: str) -> Any:
    if name.startswith("_"):
        raise AttributeError(f"module 'volta_mlir' has no attribute {name!r}")
    if name in _MODULES:
        return importlib.import_module(f"volta_mlir.{name}")
    home = _HOME.get(name)
    module = importlib.import_module(f"volta_mlir.{home or 'functions'}")
    if home is None and name not in module.__all__:
        raise AttributeError(f"module 'volta_mlir' has no attribute {name!r}")
    value = getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    functions = importlib.import_module("volta_mlir.functions")
    return sorted({"__version__", *_HOME, *_MODULES, *functions.__all__})
