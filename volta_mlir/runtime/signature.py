"""The signature that a ``.vmfb`` carries about itself: names, shapes, dtypes and trees of every exported function.

It is JSON in the reflection attribute ``volta.signature`` of each function, readable by any IREE runtime.
"""

from __future__ import annotations

import ast
import json
from collections import namedtuple
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from volta_mlir.errors import ArtifactError
from volta_mlir.runtime.prints import Chosen, Print, Record, Repeated

ATTRIBUTE = "volta.signature"
# Raised whenever an older reader would misunderstand a file.
FORMAT = 1


@dataclass(frozen=True)
class LeafSpec:
    """One array.

    Attributes:
        path: the name that messages use, such as ``model.layers.0.weight``.
        shape: static.
        dtype: NumPy's name, or ``bfloat16``.
        donated: for an argument, the index of the result that takes its buffer, or None.
        in_place: whether a donation really shares the buffer; otherwise the compiler found a copy necessary.
    """

    path: str
    shape: tuple[int, ...]
    dtype: str
    donated: int | None = None
    in_place: bool = True


@dataclass(frozen=True)
class Tree:
    """A tree of arrays.

    ``kind`` is ``leaf``, ``none``, ``static``, ``list``, ``tuple``, ``dict``, ``namedtuple`` or ``tied``; ``keys`` are
    a dict's keys or a namedtuple's fields, and ``name`` is the latter's class. Leaves are numbered from left to right,
    in ``keys`` order. ``tied`` stands for the array of an earlier leaf, with the number ``index`` and the path
    ``name``; ``static`` for a Python value that is a part of the program, whose ``repr`` is the ``name``.
    """

    kind: str
    leaf: LeafSpec | None = None
    children: tuple[Tree, ...] = ()
    keys: tuple[str, ...] = ()
    name: str = ""
    index: int = 0

    def leaves(self) -> list[LeafSpec]:
        """All leaves from left to right."""
        return list(self._walk())

    def _walk(self) -> Iterator[LeafSpec]:
        if self.leaf is not None:
            yield self.leaf
        for child in self.children:
            yield from child._walk()

    def unflatten(self, leaves: Iterator[Any]) -> Any:
        """Builds the tree from its leaves. A namedtuple gets a class with the same name and fields."""
        return self._build(leaves, [])

    def _build(self, leaves: Iterator[Any], taken: list[Any]) -> Any:
        if self.kind == "leaf":
            taken.append(next(leaves))
            return taken[-1]
        if self.kind == "tied":
            return taken[self.index]
        if self.kind == "none":
            return None
        if self.kind == "static":
            return _literal(self.name)
        values = [child._build(leaves, taken) for child in self.children]
        if self.kind == "dict":
            return dict(zip(self.keys, values, strict=True))
        if self.kind == "namedtuple":
            return namedtuple(self.name, self.keys)(*values)
        return values if self.kind == "list" else tuple(values)


def _literal(text: str) -> Any:
    """The value that was written as ``text``, or the text itself where that is no literal."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def leaf(path: str, shape: tuple[int, ...], dtype: str, donated: int | None = None, in_place: bool = True) -> Tree:
    """A tree that is one array."""
    return Tree("leaf", LeafSpec(path, tuple(shape), dtype, donated, in_place))


@dataclass(frozen=True)
class FunctionSignature:
    """What one function takes and returns. ``args`` is a tuple tree with one child for each name in ``arg_names``.

    The values of ``prints`` are further results of the compiled function, after those of ``results``.
    """

    args: Tree
    results: Tree
    arg_names: tuple[str, ...]
    prints: tuple[Record, ...] = ()


@dataclass(frozen=True)
class Signature:
    """All exported functions of a module, and the version of Volta that made it."""

    functions: Mapping[str, FunctionSignature]
    version: str

    def reflection(self, function: str) -> dict[str, str]:
        """The entries for ``iree.reflection`` on ``function``; the values are plain strings, to be escaped for MLIR."""
        return {ATTRIBUTE: to_json(self, function)}


def to_json(signature: Signature, function: str) -> str:
    """One function's part of the signature as JSON, ASCII only."""
    entry = signature.functions[function]
    data = {
        "format": FORMAT,
        "version": signature.version,
        "args": _tree_to_json(entry.args),
        "arg_names": list(entry.arg_names),
        "results": _tree_to_json(entry.results),
    }
    if entry.prints:
        data["prints"] = list(map(_print_to_json, entry.prints))
    return json.dumps(data, separators=(",", ":"))


def from_json(texts: Mapping[str, str]) -> Signature:
    """Reads a module's signature from its functions' attributes.

    Raises:
        ArtifactError: not a signature, or one of a newer format than this version reads.
    """
    functions = {}
    version = ""
    for name, text in texts.items():
        try:
            data = json.loads(text)
            if data["format"] > FORMAT:
                raise ArtifactError(
                    f"made by Volta {data['version']}, in format {data['format']}: this version reads up to {FORMAT}; "
                    "upgrade volta-mlir, or compile again with this version"
                )
            args, results = _tree_from_json(data["args"]), _tree_from_json(data["results"])
            prints = tuple(map(_print_from_json, data.get("prints", ())))
            functions[name] = FunctionSignature(args, results, tuple(data["arg_names"]), prints)
            version = data["version"]
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise ArtifactError(f"the signature of function {name!r} cannot be read: {error!r}") from None
    return Signature(functions, version)


def _tree_to_json(tree: Tree) -> Any:
    if tree.leaf is not None:
        spec = tree.leaf
        entry: dict[str, Any] = {"path": spec.path, "shape": list(spec.shape), "dtype": spec.dtype}
        if spec.donated is not None:
            entry |= {"donated": spec.donated, "in_place": spec.in_place}
        return entry
    entry = {"kind": tree.kind}
    if tree.children:
        entry["children"] = [_tree_to_json(child) for child in tree.children]
    if tree.keys:
        entry["keys"] = list(tree.keys)
    if tree.name:
        entry["name"] = tree.name
    if tree.kind == "tied":
        entry["index"] = tree.index
    return entry


def _tree_from_json(data: Any) -> Tree:
    if "kind" not in data:
        return leaf(data["path"], tuple(data["shape"]), data["dtype"], data.get("donated"), data.get("in_place", True))
    children = tuple(_tree_from_json(child) for child in data.get("children", ()))
    return Tree(data["kind"], None, children, tuple(data.get("keys", ())), data.get("name", ""), data.get("index", 0))


def _print_to_json(record: Record) -> Any:
    if isinstance(record, Print):
        return {"text": record.text, "arguments": _tree_to_json(record.arguments)}
    prints = list(map(_print_to_json, record.prints))
    if isinstance(record, Repeated):
        return {"count": record.count, "reverse": record.reverse, "prints": prints}
    index = _tree_to_json(Tree("leaf", record.index))
    return {"branch": record.branch, "branches": record.branches, "index": index, "prints": prints}


def _print_from_json(data: Any) -> Record:
    if "text" in data:
        return Print(data["text"], _tree_from_json(data["arguments"]))
    prints = tuple(map(_print_from_json, data["prints"]))
    if "count" in data:
        return Repeated(data["count"], prints, data["reverse"])
    (index,) = _tree_from_json(data["index"]).leaves()
    return Chosen(data["branch"], data["branches"], prints, index)
