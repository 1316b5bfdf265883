"""x[...], x.at[...] and the functions made of the movement and indexing ops, against NumPy, eager and compiled."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest

import volta_mlir as volta
from tests.harness import call, compile_functions, function_module
from volta_mlir import functions as F
from volta_mlir.errors import DTypeError, ShapeError, TraceError
from volta_mlir.tensor import Tensor

X = np.arange(120, dtype=np.int32).reshape(4, 5, 6)
ROWS, COLUMNS = np.array([[0, -1], [2, 1]]), np.array([3, -2])

INDICES: dict[str, Any] = {
    "integer": 2,
    "negative integer": -1,
    "integers": (1, -2, 3),
    "slice": slice(1, 3),
    "slice to the end": (slice(None), slice(-2, None)),
    "steps": (slice(None, None, 2), slice(4, None, -1), slice(-1, 0, -2)),
    "outer steps and a reversed axis": (slice(None, None, 2), slice(1, None, 3), slice(None, None, -1)),
    "empty slice": (slice(3, 1), slice(0, 0, -1)),
    "slice beyond the end": (slice(-99, 99), slice(99, None)),
    "one element, negative step": slice(2, 1, -1),
    "ellipsis": (..., 1),
    "ellipsis in the middle": (1, ..., slice(2)),
    "ellipsis for nothing": (1, ..., 2, 3),
    "new axes": (None, 1, None, slice(2), None),
    "everything": (),
    "array": ROWS,
    "list": [0, 2, 0],
    "empty list": [],
    "array behind": (slice(None), ROWS),
    "array last": (..., COLUMNS),
    "two arrays": (ROWS, COLUMNS),
    "two arrays, last axes": (slice(1), ROWS, COLUMNS),
    "three arrays": (ROWS, COLUMNS, [[1], [5]]),
    "arrays apart": (ROWS, slice(1, 4), COLUMNS),
    "array and integer": (ROWS, 2),
    "array and integer apart": (1, slice(None), COLUMNS),
    "array, new axis, array": (ROWS, None, COLUMNS),
    "array and new axes": (None, ROWS, slice(2), None),
    "array behind a reversed slice": (slice(None, None, -2), ROWS),
    "scalar arrays": (np.array(1), slice(None), np.array(-1)),
    "numpy integer": (np.int64(2), np.uint8(1)),
    "mask": X % 3 == 0,
    "mask of leading axes": X[:, :, 0] > 40,
    "mask of one axis": (slice(None), np.array([True, False, True, True, False])),
    "mask and array": (np.array([True, False, True, False]), COLUMNS),
    "empty mask": np.zeros(4, bool),
}


#: What is compiled too: together these need every op that an index can need.
COMPILED = (
    "integers", "steps", "outer steps and a reversed axis", "new axes", "array behind", "two arrays", "arrays apart",
    "array behind a reversed slice", "mask",
)  # fmt: skip


def as_volta(index: Any) -> Any:
    """An index with arrays as Tensors."""
    if isinstance(index, tuple):
        return tuple(map(as_volta, index))
    return Tensor(index) if isinstance(index, np.ndarray) else index


Functions = dict[str, tuple[Callable[..., Tensor], list[np.ndarray], np.ndarray]]


def agree(functions: Functions, compiled: Iterable[str] | None = None) -> None:
    """Checks functions of tensors, with their arguments, against expected arrays: eager, and as one compiled program.

    ``compiled`` names those that are compiled; default: all.
    """
    compiled = functions if compiled is None else set(compiled)
    modules = {}
    for name, (function, arguments, expected) in functions.items():
        eager = function(*map(Tensor, arguments))
        np.testing.assert_array_equal(eager.numpy(), expected, err_msg=f"{name}, eager", strict=True)
        if name in compiled:
            body = lambda *tensors, function=function: [function(*tensors)]  # noqa: E731
            modules[name] = function_module(name, [Tensor(a).spec for a in arguments], body)
    for name, runnable in compile_functions(modules).items():
        function, arguments, expected = functions[name]
        (result,) = call(runnable, arguments)
        np.testing.assert_array_equal(result, expected, err_msg=f"{name}, compiled", strict=True)


def symbol(name: str) -> str:
    return name.replace(" ", "_").replace(",", "")


def test_getitem() -> None:
    functions = {
        symbol(name): (lambda x, index=index: x[as_volta(index)], [X], X[index]) for name, index in INDICES.items()
    }
    agree(functions, map(symbol, COMPILED))


def test_getitem_with_traced_indices() -> None:
    arrays = [ROWS.astype(np.int32), np.array([3, 4], np.uint8)]
    agree(
        {
            "one": (lambda x, i, j: x[i], [X, *arrays], X[arrays[0]]),
            "two": (lambda x, i, j: x[i, :, j], [X, *arrays], X[arrays[0], :, arrays[1]]),
            "behind": (lambda x, i, j: x[1:, j], [X, *arrays], X[1:, arrays[1]]),
            "scalar": (lambda x, i, j: x[:, i[0, 1], j[0]], [X, *arrays], X[:, -1, 3]),
        }
    )


def test_indices_out_of_range_are_clamped_when_read_and_dropped_when_written() -> None:
    x, i, j = np.arange(12, dtype=np.float32).reshape(3, 4), np.array([-9, -1, 3, 1]), np.array([0, 9, 0, 3])
    added = x.copy()
    added[1, 3] += 10
    rows = x.copy()
    rows[[2, 1]] = 7
    agree(
        {
            "read": (lambda x, i, j: x[i], [x, i, j], x[[0, 2, 2, 1]]),
            "read_two": (lambda x, i, j: x[i, j], [x, i, j], x[[0, 2, 2, 1], [0, 3, 0, 3]]),
            "write": (lambda x, i, j: x.at[i].set(7), [x, i, j], rows),
            "write_two": (lambda x, i, j: x.at[i, j].add(10), [x, i, j], added),
        }
    )


@pytest.mark.parametrize("method", ["set", "add", "mul", "max", "min"])
def test_at(method: str) -> None:
    ufunc = {"add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}.get(method)
    functions = {}
    for name, index in INDICES.items():
        value = np.random.default_rng(0).integers(-50, 200, X[index].shape).astype(np.int32)
        expected = X.copy()
        if ufunc is None:
            expected[index] = value
        else:
            ufunc.at(expected, index, value)
        update = lambda x, value, index=index: getattr(x.at[as_volta(index)], method)(value)  # noqa: E731
        functions[symbol(name)] = (update, [X, value], expected)
    # The others differ from add in the scatter op alone, of which they have samples of their own.
    agree(functions, map(symbol, COMPILED) if method in ("set", "add") else ())


def test_at_broadcasts_and_converts() -> None:
    x = Tensor(X)
    np.testing.assert_array_equal(x.at[1:3, ::2].add(1.0).numpy(), X + np.isin(np.arange(4), [1, 2])[:, None, None]
        * (np.arange(5) % 2 == 0)[:, None])  # fmt: skip
    assert x.at[0].set(np.float64(2.5)).dtype == np.int32
    assert x.at[0].get().shape == (5, 6)
    halves = Tensor(X, "float32").at[Tensor([0, 0, 2])].divide(2.0).numpy()
    np.testing.assert_array_equal(halves, X / np.array([4, 1, 2, 1])[:, None, None])
    with pytest.raises(ShapeError):
        x.at[0].set(np.zeros(4))
    with pytest.raises(DTypeError, match=r"at\[...\].div gives floating-point numbers, the tensor is int32"):
        x.at[0].div(2)


def test_gradients_of_products() -> None:
    """Each factor's is the product of the place's others, zeros or not."""
    i = Tensor([0, 0, 1, 3, 3])
    x, value = Tensor([2.0, 0.0, 5.0, 0.0]), Tensor([3.0, 4.0, 7.0, 0.0, 6.0])
    for_x, for_value = volta.grad(lambda x, v: x.at[i].mul(v).sum(), argnums=(0, 1))(x, value)
    assert for_x.tolist() == [12.0, 7.0, 1.0, 0.0]
    assert for_value.tolist() == [8.0, 6.0, 0.0, 0.0, 0.0]
    _, for_value = volta.grad(lambda x, v: x.at[i].mul(v).sum(), argnums=(0, 1))(Tensor([2.0, 0.0, 5.0, 3.0]), value)
    assert for_value.tolist() == [8.0, 6.0, 0.0, 18.0, 0.0]


def test_gradients_of_indexing() -> None:
    """Each element's gradient is how often it was read; an update's is 1 if it is in the result."""
    x = Tensor(X, "float32")
    i = Tensor([1, 1, -1, 9])  # reads rows 1, 1, 3, 3
    counts = volta.grad(lambda x: x[i, ::2].sum())(x).numpy()
    expected = np.zeros(X.shape)
    expected[1, ::2] = expected[3, ::2] = 2
    np.testing.assert_array_equal(counts, expected)

    value = Tensor(np.ones((4, 5, 6)), "float32")
    for_x, for_value = volta.grad(lambda x, v: x.at[i].set(v).sum(), argnums=(0, 1))(x, value)
    np.testing.assert_array_equal(for_x.numpy()[:, 0, 0], [1, 0, 1, 0])
    np.testing.assert_array_equal(for_value.numpy()[:, 0, 0], [0, 1, 1, 0])


def test_functions() -> None:
    x, i = X[0], np.array([[2, 0, -1]], np.int64)
    agree(
        {
            "take": (lambda x, i: F.take(x, i, axis=1), [x, i], np.take(x, i, axis=1)),
            "take_flat": (lambda x, i: F.take(x, i), [x, i], np.take(x, i)),
            "along": (lambda x, i: F.take_along_axis(x, i, 1), [x, i], np.take_along_axis(x, i, 1)),
            "along_0": (lambda x, i: F.take_along_axis(x[:, :1], i, 0), [x, i], np.take_along_axis(x[:, :1], i, 0)),
            "stack": (lambda x, i: F.stack([x, x + 1], -1), [x, i], np.stack([x, x + 1], -1)),
            "concatenate": (
                lambda x, i: F.concatenate([x, x[:0], x[1:2], x, x[3:]]),
                [x, i],
                np.concatenate([x, x[1:2], x, x[3:]]),
            ),
            "split": (lambda x, i: F.split(x, 3, axis=1)[1], [x, i], x[:, 2:4]),
            "split_at": (lambda x, i: F.split(x, [1, -2], axis=1)[1], [x, i], x[:, 1:-2]),
            "array_split": (lambda x, i: F.array_split(x, 2)[1], [x, i], x[3:]),
            "tile": (lambda x, i: F.tile(x, (2, 1, 3)), [x, i], np.tile(x, (2, 1, 3))),
            "tile_short": (lambda x, i: F.tile(x, 2), [x, i], np.tile(x, 2)),
            "repeat": (lambda x, i: F.repeat(x, 3, axis=-1), [x, i], np.repeat(x, 3, axis=-1)),
            "repeat_flat": (lambda x, i: F.repeat(x, 2), [x, i], np.repeat(x, 2)),
            "roll": (lambda x, i: F.roll(x, 7, axis=1), [x, i], np.roll(x, 7, axis=1)),
            "roll_flat": (lambda x, i: F.roll(x, -4), [x, i], np.roll(x, -4)),
            "roll_axes": (lambda x, i: F.roll(x, (1, -2), (0, 1)), [x, i], np.roll(x, (1, -2), (0, 1))),
            "flip": (lambda x, i: F.flip(x), [x, i], np.flip(x)),
            "flatten": (lambda x, i: F.flatten(x[None], 1), [x, i], x.reshape(1, -1)),
            "ravel": (lambda x, i: x.ravel(), [x, i], x.ravel()),
            "pad": (lambda x, i: F.pad(x, [(1, 0), (2, 3)], constant_values=4), [x, i],
                np.pad(x, [(1, 0), (2, 3)], constant_values=4)),
            **{
                f"pad_{mode}": (
                    lambda x, i, mode=mode: F.pad(x, ((2, 7), (0, 1)), mode), [x, i], np.pad(x, ((2, 7), (0, 1)), mode)
                )
                for mode in ("edge", "reflect", "symmetric", "wrap")
            },
            "tril": (lambda x, i: F.tril(x, 1), [x, i], np.tril(x, 1)),
            "triu": (lambda x, i: F.triu(x, -1), [x, i], np.triu(x, -1)),
            "one_hot": (lambda x, i: F.one_hot(i, 3, "int8"), [x, i],
                np.array([[[0, 0, 1], [1, 0, 0], [0, 0, 0]]], np.int8)),
            "one_hot_0": (lambda x, i: F.one_hot(i[0], 3, bool, axis=0), [x, i],
                np.array([[0, 1, 0], [0, 0, 0], [1, 0, 0]], bool)),
            **{
                f"diagonal_{k + 9}": (lambda x, i, k=k: F.diagonal(x, k), [x, i], np.diagonal(x, k))
                for k in (-9, -5, -2, 0, 3, 5, 6)
            },
            "dynamic_slice": (lambda x, i: F.dynamic_slice(x, [i[0, 0], 9], [2, 3]), [x, i], x[2:4, 3:6]),
            "update_slice": (
                lambda x, i: F.dynamic_update_slice(x, x[:2, :3] * 0, i[0, :2]),
                [x, i],
                np.where((np.isin(np.arange(5), [2, 3]))[:, None] & (np.arange(6) < 3), 0, x),
            ),
        }
    )  # fmt: skip


def test_diagonal_of_other_axes() -> None:
    for k, a, b in [(0, 0, 2), (1, 2, 0), (-1, -1, 1)]:
        np.testing.assert_array_equal(F.diagonal(Tensor(X), k, a, b).numpy(), np.diagonal(X, k, a, b))


def test_eye() -> None:
    np.testing.assert_array_equal(F.eye(3, 4, -1, "int64").numpy(), np.eye(3, 4, -1, np.int64), strict=True)
    np.testing.assert_array_equal(F.eye(2).numpy(), np.eye(2, dtype=np.float32), strict=True)


@pytest.mark.parametrize(
    ("index", "error", "message"),
    [
        ((0, 5), ShapeError, r"index 5 is out of range for axis 1 of int32\[4,5,6\]"),
        (-5, ShapeError, "axis 0"),
        ((0, 0, 0, 0), ShapeError, "3 axes, the index has entries for 4"),
        ((..., ...), ShapeError, "at most one ellipsis"),
        (np.array([0.5]), DTypeError, "indices are integers"),
        ("a", DTypeError, "dtype"),
        (True, ShapeError, "mask"),
        (np.zeros(3, bool), ShapeError, "mask"),
        ((np.arange(3), np.arange(2)), ShapeError, "broadcast"),
    ],
)
def test_bad_indices(index: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Tensor(X)[index]


def test_traced_masks_are_refused() -> None:
    with pytest.raises(TraceError, match=r"volta\.where"):
        function_module("f", [Tensor(X).spec], lambda x: [x[x > 3]])


@pytest.mark.parametrize(
    "function",
    [
        lambda x: F.split(x, 4, axis=1),
        lambda x: F.array_split(x, 0),
        lambda x: F.concatenate([]),
        lambda x: F.concatenate([x, x[0]]),
        lambda x: F.concatenate([1, 2]),
        lambda x: F.stack([x, x[0]]),
        lambda x: F.flatten(x, 2, 1),
        lambda x: F.roll(x, (1, 2), 0),
        lambda x: F.pad(x, [(1, 2), (3, 4)]),
        lambda x: F.pad(x, -1),
        lambda x: F.pad(x[:0], 1, "edge"),
        lambda x: F.take_along_axis(x, [0], 0),
        lambda x: F.take(x[:0], [0], 0),
        lambda x: F.tril(x[0, 0]),
        lambda x: F.diagonal(x, 0, 1, 1),
        lambda x: F.dynamic_slice(x, [0, 0], [1, 1, 1]),
        lambda x: F.dynamic_slice(x, [0, 0, 0], [1, 1, 7]),
        lambda x: F.slice(x, [0, 0, 0], [4, 5, 7]),
        lambda x: F.pad_interior(x, 0, [-9, 0, 0], [0, 0, 0]),
    ],
)
def test_shapes_that_do_not_fit(function: Callable[[Tensor], Any]) -> None:
    with pytest.raises(ShapeError):
        function(Tensor(X))
