"""Models as Hugging Face publishes them: a directory, or a zip file, with config.json and model.safetensors."""

from __future__ import annotations

import json
import os
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from volta_mlir import Tensor, weights
from volta_mlir.errors import WeightsError


def load(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What ``config.json`` says, and the tensors.

    Args:
        path: the directory, a ``.zip`` file of it, or the ``.safetensors`` file in it.

    Raises:
        WeightsError: a file is missing or damaged.
    """
    path = Path(path)
    if path.suffix == ".zip":
        with tempfile.TemporaryDirectory(prefix="volta-") as directory:
            for name in ("config.json", "model.safetensors"):
                (Path(directory) / name).write_bytes(read(path, name))
            settings, tensors = load(directory)
            return settings, {name: Tensor(tensor.numpy().copy()) for name, tensor in tensors.items()}
    file = path if path.suffix == ".safetensors" else path / "model.safetensors"
    try:
        settings = json.loads(read(file.parent, "config.json"))
    except ValueError as error:
        raise WeightsError(f"{file.parent / 'config.json'} is no JSON: {error}") from None
    return settings, weights.load(file)


def require(settings: Mapping[str, Any], **known: tuple[Any, ...]) -> None:
    """Refuses settings that change what a model computes, though its weights have the same names and shapes.

    Args:
        settings: of ``config.json``.
        known: the values that a model computes, by the setting's name; the first is that of files that do not say.

    Raises:
        WeightsError: a setting has another value.
    """
    for name, values in known.items():
        found = settings.get(name, values[0])
        if found not in values:
            raise WeightsError(f"config.json has {name} {found!r}; known is {', '.join(map(repr, values))}")


def read(path: str | os.PathLike[str], name: str) -> bytes:
    """A file of a model, in its directory or its zip file.

    Raises:
        WeightsError: there is none.
    """
    path = Path(path)
    try:
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                return archive.read(name)
        return ((path if path.is_dir() else path.parent) / name).read_bytes()
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise WeightsError(f"{path} has no {name}: {error}") from None
