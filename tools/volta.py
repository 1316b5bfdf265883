"""``volta``: runs and describes compiled modules. Needs IREE's runtime, neither the compiler nor MLIR."""

from __future__ import annotations

import difflib
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape
from rich.tree import Tree as Drawing

import volta_mlir
from volta_mlir.cache import Cache
from volta_mlir.errors import DTypeError, ShapeError, VoltaError
from volta_mlir.runtime import DeviceBuffer, Function, LeafSpec, Tree, load, numpy_dtype, read_signature
from volta_mlir.runtime import devices as all_devices


def main(argv: Sequence[str] | None = None) -> int:
    """Runs ``volta`` and returns its exit status: 0, 1 for a failure, 2 for a wrong command line."""
    try:
        cli.main(args=None if argv is None else list(argv), prog_name="volta", standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return 2
    except click.ClickException as error:
        return _fail(error.format_message(), error.exit_code)
    except VoltaError as error:
        return _fail(error.message, 1)  # without the location, which would be a line of click
    except BrokenPipeError:  # whoever reads our output has seen enough: leave the interpreter nothing to flush
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        return _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error), 1)
    return 0


def _fail(message: str, status: int) -> int:
    print(f"volta: error: {' '.join(message.split())}", file=sys.stderr)
    return status


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(volta_mlir.__version__, message="volta %(version)s")
def cli() -> None:
    """Run and describe programs that Volta compiled."""


# -- run -------------------------------------------------------------------------------------------------------------


@cli.command()
@click.argument("file")
@click.option("-f", "--function", "name", metavar="NAME", help="Which function to call, if there are several.")
@click.option(
    "-i",
    "--input",
    "inputs",
    multiple=True,
    metavar="VALUE",
    help="An array, given in the order of the arguments or as NAME=VALUE with a name from `volta inspect`: a .npy file,"
    " 2x3xf32=1,2,3,4,5,6 (one number fills the array, none gives zeros), a number, or random.",
)
@click.option("--random", "fill", is_flag=True, help="Draw the arrays for which there is no --input.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the random arrays.")
@click.option("-d", "--device", default="cpu", show_default=True, help="Where to run; `volta devices` lists them.")
@click.option("-o", "--output", metavar="DIR", help="Write each result as a .npy file into this directory.")
def run(
    file: str, name: str | None, inputs: Sequence[str], fill: bool, seed: int, device: str, output: str | None
) -> None:
    """Call a function of FILE, a .vmfb that Volta compiled, and print its results."""
    function = _choose(dict(load(file, device).functions), name)
    arrays = _read_inputs(function.signature.args.leaves(), inputs, np.random.default_rng(seed), fill)
    results = function.invoke_flat([DeviceBuffer.from_numpy(array, function.device) for array in arrays])
    for spec, result in zip(function.signature.results.leaves(), results, strict=True):
        array = result.numpy()
        click.echo(f"{spec.path}: {_describe(spec)}")
        click.echo(np.array2string(array, separator=", ", threshold=100))
        if output is not None:
            os.makedirs(output, exist_ok=True)
            np.save(Path(output) / f"{spec.path}.npy", array)


def _choose(functions: dict[str, Function], name: str | None) -> Function:
    if name is None and len(functions) == 1:
        return next(iter(functions.values()))
    names = ", ".join(functions)
    if name is None:
        raise click.UsageError(f"the file has several functions, choose one with --function: {names}")
    if name not in functions:
        raise click.UsageError(f"there is no function {name!r}; the file has {names}")
    return functions[name]


def _read_inputs(
    specs: Sequence[LeafSpec], inputs: Sequence[str], rng: np.random.Generator, fill: bool
) -> list[np.ndarray[Any, Any]]:
    """One array for each leaf."""
    texts: dict[str, str] = {}
    paths = [spec.path for spec in specs]
    for text in inputs:
        path, equals, value = text.partition("=")
        if not (equals and path in paths):
            if equals and not _LITERAL.fullmatch(text) and not os.path.exists(text):
                close = difflib.get_close_matches(path, paths)
                raise click.UsageError(
                    f"the function takes no {path!r}; "
                    + (f"did you mean {' or '.join(close)}?" if close else f"it takes {', '.join(paths)}")
                )
            unnamed = [p for p in paths if p not in texts]
            if not unnamed:
                raise click.UsageError(f"there are more inputs than the {len(paths)} arrays that the function takes")
            path, value = unnamed[0], text
        if path in texts:
            raise click.UsageError(f"{path} is given twice")
        texts[path] = value
    missing = [f"{spec.path} ({_describe(spec)})" for spec in specs if spec.path not in texts]
    if missing and not fill:
        raise click.UsageError(f"no --input for {', '.join(missing)}; --random draws what is missing")
    return [_array(texts.get(spec.path, "random"), spec, rng) for spec in specs]


def _array(text: str, spec: LeafSpec, rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """The array that an input's text stands for; raises ShapeError or DTypeError where it does not fit the leaf."""
    dtype = numpy_dtype(spec.dtype)
    if text == "random":
        return _random(spec.shape, dtype, rng)
    if text.endswith(".npy"):
        array = _read_npy(text)
        if array.dtype.kind == "V" and array.dtype.itemsize == dtype.itemsize:
            array = array.view(dtype)  # .npy files do not say bfloat16
    elif match := _LITERAL.fullmatch(text):
        array = _literal(match, spec)
    elif spec.shape:
        raise click.UsageError(f"{spec.path}: {text!r} is no .npy file, no array such as 2x3xf32=1, and not random")
    else:
        array = _numbers(text, dtype, spec)
        if array.size != 1:
            raise DTypeError(f"{spec.path}: {text!r} is no {_describe(spec)}")
        array = array.reshape(())
    if array.dtype != dtype:
        raise DTypeError(f"{spec.path}: {text} is {array.dtype.name}, expected {_describe(spec)}")
    _check_shape(text, array.shape, spec)
    return array


def _check_shape(text: str, shape: tuple[int, ...], spec: LeafSpec) -> None:
    if shape != spec.shape:
        raise ShapeError(f"{spec.path}: {text} has shape {shape}, expected {_describe(spec)}")


def _read_npy(path: str) -> np.ndarray[Any, Any]:
    try:
        return np.asarray(np.load(path, allow_pickle=False))
    except (EOFError, ValueError) as error:
        raise ShapeError(f"{path} is not a .npy file: {error}", location=None) from None


# IREE's way to write arrays: 2x3xf32=1,2,3,4,5,6
_LITERAL = re.compile(r"((?:\d+x)*)(bf16|f16|f32|f64|[su]?i(?:1|8|16|32|64))(?:=(.*))?")
_NAMES = {"bf16": "bfloat16", "f16": "float16", "f32": "float32", "f64": "float64", "i1": "bool"}


def _literal(match: re.Match[str], spec: LeafSpec) -> np.ndarray[Any, Any]:
    extents, type_name, values = match.groups()
    name = _NAMES.get(type_name) or f"{'u' if type_name[0] == 'u' else ''}int{type_name.lstrip('sui')}"
    dtype, shape = numpy_dtype(name), tuple(int(extent) for extent in extents.split("x")[:-1])
    _check_shape(match[0], shape, spec)  # before anything of this shape is made
    numbers = _numbers(values, dtype, spec) if values else np.zeros(1, dtype)
    if numbers.size not in (1, int(np.prod(shape))):
        raise ShapeError(f"{spec.path}: {match[0]} has {numbers.size} numbers, expected {int(np.prod(shape))} or 1")
    return np.full(shape, numbers[0], dtype) if numbers.size == 1 else numbers.reshape(shape)


def _numbers(text: str, dtype: np.dtype[Any], spec: LeafSpec) -> np.ndarray[Any, Any]:
    try:
        number = int if dtype.kind in "iu" else float
        words = text.replace(",", " ").split()
        return np.array([number(word) for word in words], dtype)
    except (ValueError, OverflowError):
        raise DTypeError(f"{spec.path}: {text!r} is no {_describe(spec)}") from None


def _random(shape: tuple[int, ...], dtype: np.dtype[Any], rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """Between 0 and 1, or small integers, or bits: not negative, since variances and second moments are not either."""
    if dtype.kind in "iub":
        return rng.integers(0, 2 if dtype.kind == "b" else 10, shape).astype(dtype)
    return rng.random(shape).astype(dtype)


# -- inspect ---------------------------------------------------------------------------------------------------------


@cli.command()
@click.argument("file")
def inspect(file: str) -> None:
    """Show what FILE, a .vmfb that Volta compiled, takes and returns."""
    signature = read_signature(file)
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"{escape(file)}: {decimal(Path(file).stat().st_size)}, compiled by Volta {signature.version}")
    for name, function in signature.functions.items():
        drawing = Drawing(f"[bold]{escape(name)}[/]")
        results = function.results.leaves()
        arguments = drawing.add("arguments")
        for label, tree in zip(function.arg_names, function.args.children, strict=True):
            _draw(arguments, label, tree, results)
        _draw(drawing, "results", function.results, [])
        console.print(drawing)


def _draw(drawing: Drawing, label: str, tree: Tree, results: Sequence[LeafSpec]) -> None:
    """Adds a tree of arrays below ``label``; ``results`` are those that a donated array may become."""
    if tree.leaf is not None:
        text = f"{escape(label)}: [cyan]{escape(_describe(tree.leaf))}[/]"
        if tree.leaf.donated is not None:
            how = "donated to" if tree.leaf.in_place else "donated, but copied, to"
            text += f" [dim]{how} {escape(results[tree.leaf.donated].path)}[/]"
        drawing.add(text)
        return
    notes = {"none": ": None", "static": f": {tree.name}, fixed", "tied": f": the same as {tree.name}"}
    branch = drawing.add(escape(label + notes.get(tree.kind, "")))
    for key, child in zip(_keys(tree), tree.children, strict=True):
        _draw(branch, key, child, results)


def _keys(tree: Tree) -> Iterator[str]:
    return iter(tree.keys or map(str, range(len(tree.children))))


def _describe(spec: LeafSpec) -> str:
    return f"{spec.dtype}[{','.join(map(str, spec.shape))}]"


# -- devices and cache -----------------------------------------------------------------------------------------------


@cli.command()
def devices() -> None:
    """List the devices that programs can run on."""
    for device in all_devices():
        click.echo(device)


@cli.command()
@click.option("--clear", is_flag=True, help="Remove everything from the cache.")
def cache(clear: bool) -> None:
    """Show how much the cache of compiled programs holds, or clear it."""
    store = Cache()
    if store.directory is None:
        click.echo("the cache is off (VOLTA_CACHE=0, or there is no home directory)")
        return
    count, size = store.usage()
    if clear:
        store.clear()
    removed = "removed " if clear else ""
    click.echo(f"{store.directory}: {removed}{count} {'entry' if count == 1 else 'entries'}, {decimal(size)}")


if __name__ == "__main__":
    sys.exit(main())
