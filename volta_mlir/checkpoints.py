"""Training state on disk: saved whole or not at all, and checked when it is read.

A checkpoint is a safetensors file, which other tools read too: the state's tensors by their dotted names, and in the
metadata its other leaves, what the user adds, and a checksum over all of it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Hashable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from volta_mlir import tree as trees
from volta_mlir import weights
from volta_mlir.atomic import UNFINISHED, replacing
from volta_mlir.dtypes import TensorSpec
from volta_mlir.errors import ShapeError, WeightsError
from volta_mlir.modules import leaf_identities
from volta_mlir.tensor import Tensor
from volta_mlir.weights.safetensors import contents

__all__ = ["Checkpoint", "Checkpoints", "restore", "save"]

_VERSION = "1"
# Keys of the metadata.
_FORMAT, _VALUES, _EXTRA, _DIGEST = "volta.checkpoint", "volta.values", "volta.extra", "volta.sha256"
_ARRAYS = (Tensor, np.ndarray, np.generic)


def save(path: str | os.PathLike[str], state: Any, extra: Any = None) -> None:
    """Writes a tree of tensors to one file, atomically: a model, an optimizer's state, keys, or a dict of all of them.

    Args:
        path: ends in ``.safetensors``.
        state: any tree. Leaves are Tensors, arrays, numbers, strings or None. A tied parameter is written once.
        extra: what else belongs to it, such as a data loader's position: anything that JSON holds.

    Raises:
        WeightsError: the file cannot be written, or a leaf has a dtype that Volta does not have.
        ShapeError: two leaves have the same dotted name.
        TypeError: a leaf is something else, or ``extra`` is not JSON.
        TraceError: a tensor is traced and has no data yet.

    >>> save("/tmp/volta-state.safetensors", {"w": Tensor([1.0, 2.0]), "step": 3}, extra={"epoch": 1})
    >>> restore("/tmp/volta-state.safetensors", {"w": Tensor([0.0, 0.0]), "step": 0})
    ({'w': Tensor([1., 2.], dtype=float32), 'step': 3}, {'epoch': 1})
    """
    arrays: dict[str, np.ndarray] = {}
    values: dict[str, Any] = {}
    for names, leaf in _variables(state):
        if isinstance(leaf, _ARRAYS):
            arrays[names[0]] = weights.array_of(names[0], leaf)
        elif leaf is None or isinstance(leaf, (bool, int, float, str)):
            values.update(dict.fromkeys(names, leaf))
        else:
            raise TypeError(
                f"{names[0]} is a {type(leaf).__name__}; a checkpoint holds tensors, arrays, numbers, strings and None"
            )
    metadata = {_FORMAT: _VERSION, _VALUES: json.dumps(values), _EXTRA: json.dumps(extra)}
    weights.save(path, arrays, {**metadata, _DIGEST: _digest(arrays, metadata)})


def restore(path: str | os.PathLike[str], like: Any) -> tuple[Any, Any]:
    """The state that was saved to a file, and its ``extra``.

    Args:
        path: the file.
        like: a tree of the same structure: the state that training starts with, say. Its tensors give shapes and dtypes
            and may be specs; where they are tied, those of the result are.

    Returns:
        A tree of the structure of ``like``, and what was passed to :func:`save` as ``extra``.

    Raises:
        WeightsError: the file is missing, damaged, or no checkpoint.
        ShapeError: names are missing or unexpected, or shapes, dtypes or types differ; the message lists all of it.

    >>> from volta_mlir import spec
    >>> save("/tmp/volta-weight.safetensors", {"w": Tensor([1.0, 2.0])})
    >>> restore("/tmp/volta-weight.safetensors", {"w": spec(2)})[0]["w"].tolist()
    [1.0, 2.0]
    """
    metadata, tensors = weights.metadata(path), weights.load(path)
    if metadata.get(_FORMAT) != _VERSION:
        raise WeightsError(
            f"{os.fspath(path)}: it is no checkpoint, or one of another version of Volta; volta.weights.load reads"
            " the tensors of any file"
        )
    arrays = {name: tensor.numpy().copy() for name, tensor in tensors.items()}  # the file need not stay
    digest = metadata.pop(_DIGEST, None)
    metadata.pop("format", None)
    if digest != _digest(arrays, metadata):
        raise WeightsError(f"{os.fspath(path)}: it is damaged: its contents do not have the checksum that is in it")
    return _rebuilt(os.fspath(path), like, arrays, json.loads(metadata[_VALUES])), json.loads(metadata[_EXTRA])


class Checkpoint(NamedTuple):
    """What :meth:`Checkpoints.restore` returns.

    Attributes:
        step: the number that it was saved under.
        state: the tree.
        extra: what was saved beside it.

    >>> Checkpoint(3, {"w": 1.0}, None).step
    3
    """

    step: int
    state: Any
    extra: Any


class Checkpoints:
    """The checkpoints of one run: files of a directory, of which the last few are kept.

    A run that is killed at any moment leaves whole checkpoints. One process writes to a directory; any may read.

    Args:
        directory: is made when the first checkpoint is saved.
        keep: how many to keep; None keeps all.

    Raises:
        ValueError: ``keep`` is less than 1.

    Example:
        >>> import tempfile
        >>> from volta_mlir import nn, optim
        >>> model, optimizer = nn.Linear(3, 2), optim.Adam()
        >>> checkpoints = Checkpoints(tempfile.mkdtemp(), keep=2)
        >>> for step in (10, 20, 30):
        ...     _ = checkpoints.save(step, (model, optimizer.init(model)), extra={"epoch": step // 10})
        >>> checkpoints.steps(), checkpoints.latest()
        ([20, 30], 30)
        >>> step, (model, state), extra = checkpoints.restore(like=(model, optimizer.init(model)))
        >>> step, extra
        (30, {'epoch': 3})
    """

    def __init__(self, directory: str | os.PathLike[str], keep: int | None = 3) -> None:
        if keep is not None and keep < 1:
            raise ValueError(f"keep is {keep}: expected 1 or more, or None to keep all")
        self.directory, self.keep = Path(directory), keep

    def path(self, step: int) -> Path:
        """The file of a step."""
        return self.directory / f"step-{step:012d}.safetensors"

    def steps(self) -> list[int]:
        """The steps that there are checkpoints of, in order."""
        return self._steps("step")

    def latest(self) -> int | None:
        """The last step that there is a checkpoint of; None where there is none."""
        return max(self.steps(), default=None)

    def save(self, step: int, state: Any, extra: Any = None) -> Path:
        """Saves a state, see :func:`save`, and then removes the oldest ones beyond ``keep``; returns the file.

        Raises:
            ValueError: the step is negative, or there is a checkpoint of a later one.
            WeightsError: the file cannot be written; the checkpoints that there are stay.
        """
        latest = self.latest()
        if step < 0 or (latest is not None and step < latest):
            raise ValueError(
                f"step {step} comes before {0 if latest is None else latest}; to go on from an earlier checkpoint,"
                " remove the later ones, or save to another directory"
            )
        path = self.path(step)
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            for left in self.directory.glob(f".step-*{UNFINISHED}"):  # by a run that was killed
                left.unlink()
        except OSError as error:
            raise WeightsError(f"{path}: {error.strerror}") from error
        try:
            save(path, state, extra)
        except WeightsError as error:
            kept = "there is none before it" if latest is None else f"the checkpoint of step {latest} stays"
            raise WeightsError(f"{error.message}; {kept}") from error
        if self.keep is not None:
            for old in self.steps()[: -self.keep]:
                with contextlib.suppress(FileNotFoundError):
                    self.path(old).unlink()
        return path

    def best(self) -> int | None:
        """The step that :meth:`mark_best` was called with last; None where it never was."""
        return max(self._steps("best"), default=None)

    def mark_best(self, step: int) -> None:
        """Keeps the checkpoint of this step besides the last few, until another one is marked.

        Its file gets a second name; on a file system without links it is copied.

        Raises:
            WeightsError: there is no checkpoint of that step, or the directory cannot be written.

        >>> import tempfile
        >>> checkpoints = Checkpoints(tempfile.mkdtemp(), keep=1)
        >>> for step in (1, 2, 3):
        ...     _ = checkpoints.save(step, {"w": float(step)})
        ...     if step == 2:
        ...         checkpoints.mark_best(step)
        >>> checkpoints.steps(), checkpoints.best(), checkpoints.restore_best({"w": 0.0}).state
        ([3], 2, {'w': 2.0})
        """
        source, path = self.path(step), self._best_path(step)
        link = self.directory / f".{source.name}.best{UNFINISHED}"
        try:
            link.unlink(missing_ok=True)
            try:
                os.link(source, link)
            except FileNotFoundError:
                raise
            except OSError:
                with replacing(path) as file:
                    file.write(source.read_bytes())
            else:
                os.replace(link, path)
                link.unlink(missing_ok=True)  # where both were names of one file, nothing was replaced
        except OSError as error:
            raise WeightsError(f"{source}: {error.strerror}") from error
        for other in self._steps("best"):
            if other != step:
                self._best_path(other).unlink(missing_ok=True)

    def restore_best(self, like: Any) -> Checkpoint:
        """Reads the checkpoint that :meth:`mark_best` has kept; otherwise as :meth:`restore`."""
        step = self.best()
        if step is None:
            raise WeightsError(f"{self.directory}: no checkpoint is marked as the best one")
        return Checkpoint(step, *restore(self._best_path(step), like))

    def _best_path(self, step: int) -> Path:
        return self.directory / f"best-{step:012d}.safetensors"

    def _steps(self, kind: str) -> list[int]:
        names = os.listdir(self.directory) if self.directory.is_dir() else []
        matches = (re.fullmatch(rf"{kind}-(\d{{12,}})\.safetensors", name) for name in names)
        return sorted(int(match[1]) for match in matches if match)

    def restore(self, like: Any, step: int | None = None) -> Checkpoint:
        """Reads a checkpoint, see :func:`restore`.

        Args:
            like: a tree of the same structure.
            step: which one; default the latest.

        Raises:
            WeightsError: there is none, or it is damaged; the message names the one before it.
            ShapeError: the state has another structure.
        """
        steps = self.steps()
        if not steps:
            raise WeightsError(f"{self.directory}: there are no checkpoints")
        step = steps[-1] if step is None else step
        try:
            return Checkpoint(step, *restore(self.path(step), like))
        except WeightsError as error:
            before = [other for other in steps if other < step]
            hint = f"; the one before it is that of step {before[-1]}" if before else ""
            raise WeightsError(f"{error.message}{hint}") from error


def _variables(tree: Any) -> Iterator[tuple[list[str], Any]]:
    """The distinct leaves, each with its names: a tied parameter has several."""
    groups: dict[Hashable, tuple[list[str], Any]] = {}
    names = [trees.path_name(accessor) for accessor in trees.accessors(tree)]
    for name, leaf, identity in zip(names, trees.leaves(tree), leaf_identities(tree), strict=True):
        key = identity if isinstance(leaf, (*_ARRAYS, TensorSpec)) else name
        groups.setdefault(key, ([], leaf))[0].append(name)
    twice = {name for name in names if names.count(name) > 1} if len(set(names)) < len(names) else set()
    if twice:
        raise ShapeError(f"several leaves have the name {', '.join(sorted(twice))}")
    yield from groups.values()


def _rebuilt(path: str, like: Any, arrays: Mapping[str, np.ndarray], values: Mapping[str, Any]) -> Any:
    """``like`` with the leaves of a file."""
    saved = {**arrays, **values}
    leaves: dict[str, Any] = {}
    missing: list[str] = []
    problems: list[str] = []
    for names, leaf in _variables(like):
        there = [name for name in names if name in saved]
        if not there:
            missing += names
            continue
        given = there[0]
        problems += [f"{name}: is tied to {given}, but was not when it was saved" for name in there[1:]]
        value = saved[given]
        if _described(value) != _described(leaf):
            problems.append(f"{given}: expected {_described(leaf)}, got {_described(value)}")
        elif isinstance(leaf, (Tensor, TensorSpec)):
            value = Tensor._concrete(value, TensorSpec(value.shape, value.dtype))
        elif isinstance(leaf, np.generic):
            value = value[()]
        leaves.update(dict.fromkeys(names, value))
    unexpected = [name for name in saved if name not in leaves and name not in missing]
    problems += [f"missing: {', '.join(missing)}"] if missing else []
    problems += [f"unexpected: {', '.join(unexpected)}"] if unexpected else []
    if problems:
        lines = "".join(f"\n  {problem}" for problem in problems)
        raise ShapeError(f"{path}: the checkpoint does not fit the state:{lines}")
    in_order = [leaves[trees.path_name(accessor)] for accessor in trees.accessors(like)]
    return trees.unflatten(trees.flatten(like)[1], in_order)


def _described(leaf: Any) -> str:
    """Shape and dtype of a tensor, the type of another leaf."""
    if isinstance(leaf, TensorSpec):
        return str(leaf)
    if isinstance(leaf, _ARRAYS):
        return str(TensorSpec(leaf.shape, leaf.dtype))
    return "None" if leaf is None else type(leaf).__name__


def _digest(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> str:
    """SHA-256 over names, dtypes, shapes, contents and metadata."""
    digest = hashlib.sha256(json.dumps(sorted(metadata.items())).encode())
    for name, array in sorted(arrays.items()):
        digest.update(json.dumps([name, array.dtype.name, array.shape]).encode())
        digest.update(contents(array))
    return digest.hexdigest()
