"""Every public name is described, with an example that runs."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import volta_mlir

#: The namespaces that users import names from.
NAMESPACES = (
    "volta_mlir",
    "volta_mlir.checkpoints",
    "volta_mlir.data",
    "volta_mlir.generation",
    "volta_mlir.models",
    "volta_mlir.nn",
    "volta_mlir.nn.functional",
    "volta_mlir.nn.init",
    "volta_mlir.optim",
    "volta_mlir.random",
    "volta_mlir.tokens",
    "volta_mlir.training",
    "volta_mlir.weights",
)


def _modules() -> list[str]:
    """Every module of the package."""
    found = pkgutil.walk_packages(volta_mlir.__path__, "volta_mlir.")
    beside = [
        name
        for package in ("dialects", "passes", "tools")
        for _, name, _ in pkgutil.walk_packages(
            importlib.import_module(f"volta_mlir.{package}").__path__, f"volta_mlir.{package}."
        )
    ]
    # The benchmarks' modules import PyTorch and JAX; they have no examples.
    return sorted({*(m.name for m in found), *beside} - {name for name in beside if ".benchmarks." in name})


def _public() -> Iterator[tuple[str, Any]]:
    """(qualified name, object) of everything that users call."""
    for namespace in NAMESPACES:
        module = importlib.import_module(namespace)
        for name in getattr(module, "__all__", None) or [n for n in dir(module) if n[0] != "_"]:
            value = getattr(module, name)
            if inspect.ismodule(value) or not callable(value):
                continue
            if isinstance(value, type) and issubclass(value, np.generic | BaseException):
                continue
            yield f"{namespace}.{name}", value


def _has_example(value: Any) -> bool:
    """Whether the object's docstring has an example, or for a class that of one of its own methods."""
    own = [vars(value).get("__doc__")] if inspect.isclass(value) else [inspect.getdoc(value)]
    if inspect.isclass(value):
        own += [inspect.getdoc(member) for member in vars(value).values() if callable(member)]
    return any(">>>" in (text or "") for text in own)


def test_every_public_name_has_an_example() -> None:
    names = dict(_public())
    assert len(names) > 250
    assert not [name for name, value in names.items() if not _has_example(value)]


@pytest.mark.parametrize("name", _modules())
def test_examples(name: str) -> None:
    module = importlib.import_module(name)
    result = doctest.testmod(module)
    assert result.failed == 0
