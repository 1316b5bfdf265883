"""The data loader: its order, its position, its thread, and what it refuses."""

from __future__ import annotations

import gc
import json
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from volta_mlir.data import DataLoader, collate
from volta_mlir.errors import ShapeError
from volta_mlir.tensor import Tensor


class Squares:
    """A dataset that fails at one sample."""

    def __init__(self, length: int, bad: int = -1) -> None:
        self.length, self.bad, self.taken = length, bad, 0

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Any]:
        if index == self.bad:
            raise KeyError("no such picture")
        self.taken += 1
        return {"x": np.full(2, index, np.float32), "y": index**2}


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "volta-data"]


def eventually(condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + 10
    while not condition() and time.monotonic() < end:
        time.sleep(0.005)
    return condition()


@pytest.mark.parametrize("prefetch", [0, 1, 3])
@pytest.mark.parametrize("drop_last", [False, True])
def test_batches_are_those_of_pytorch(prefetch: int, drop_last: bool) -> None:
    dataset = [(np.full((2,), i, np.float32), i) for i in range(11)]
    ours = DataLoader(dataset, batch_size=4, drop_last=drop_last, prefetch=prefetch)
    theirs = torch.utils.data.DataLoader(dataset, batch_size=4, drop_last=drop_last)
    assert len(ours) == len(theirs) == len(list(ours))
    for (x, y), (their_x, their_y) in zip(ours, theirs, strict=True):
        assert np.array_equal(x, their_x.numpy())
        assert y.tolist() == their_y.tolist()
        assert (x.dtype, y.dtype) == (np.float32, np.int32)


@pytest.mark.parametrize("make", [lambda a: a, lambda a: Tensor(a), lambda a: list(a)], ids=["array", "tensor", "list"])
def test_arrays_and_sequences(make: Any) -> None:
    rows = np.arange(10, dtype=np.float16).reshape(5, 2)
    batches = list(DataLoader(make(rows), batch_size=2, shuffle=True))
    assert sorted(row.tolist() for batch in batches for row in batch) == rows.tolist()
    assert all(isinstance(batch, np.ndarray) and batch.dtype == np.float16 for batch in batches)


def test_trees_of_arrays() -> None:
    x, y = np.arange(6.0).reshape(3, 2), Tensor([5, 6, 7])
    for batch in DataLoader({"x": x, "more": (y, y)}, batch_size=2, shuffle=True):
        assert [x[y - 5].tolist() for y in batch["more"][0]] == batch["x"].tolist()
        assert batch["more"][1].tolist() == batch["more"][0].tolist()
    pairs = DataLoader(((0, 1.5), (2, 3.5)), batch_size=2)  # a sequence: its leaves are no arrays
    assert [[column.tolist() for column in batch] for batch in pairs] == [[[0, 2], [1.5, 3.5]]]


def epochs(loader: DataLoader, count: int) -> list[list[int]]:
    return [np.concatenate(list(loader)).tolist() for _ in range(count)]


def test_the_order_follows_from_seed_and_epoch() -> None:
    data = np.arange(100)
    first = epochs(DataLoader(data, 7, shuffle=True, seed=5), 3)
    assert epochs(DataLoader(data, 9, shuffle=True, seed=5, prefetch=0), 3) == first
    assert all(sorted(order) == data.tolist() for order in first)
    assert len({tuple(order) for order in [data.tolist(), *first]}) == 4
    assert epochs(DataLoader(data, 7, shuffle=True, seed=6), 1) != first[:1]
    assert epochs(DataLoader(data, 7, shuffle=True, seed=5 + (1 << 64)), 3) == first
    assert epochs(DataLoader(data, 7), 1) == [data.tolist()]


def test_the_order_never_changes() -> None:
    """Saved positions stay valid: these are the numbers of the first version."""
    assert epochs(DataLoader(np.arange(8), 8, shuffle=True, seed=3), 2) == ORDERS


ORDERS = [[6, 1, 5, 2, 7, 4, 3, 0], [7, 3, 5, 6, 4, 0, 2, 1]]


@pytest.mark.parametrize("prefetch", [0, 2])
def test_a_position_goes_on_where_it_was_taken(prefetch: int) -> None:
    def loader() -> DataLoader:
        return DataLoader(Squares(10), 3, shuffle=True, seed=1, prefetch=prefetch)

    whole, positions = [], []
    uninterrupted = loader()
    for _ in range(3):
        for batch in uninterrupted:
            whole.append(batch["y"].tolist())
            positions.append(json.loads(json.dumps(uninterrupted.state_dict())))
    assert [(p["epoch"], p["batch"]) for p in positions[:5]] == [(0, 1), (0, 2), (0, 3), (1, 0), (1, 1)]
    for done, position in enumerate(positions[:-1], 1):
        resumed = loader()
        resumed.load_state_dict(position)
        rest = []
        while resumed.epoch < 3:
            rest += [batch["y"].tolist() for batch in resumed]
        assert rest == whole[done:]


def test_a_loop_that_is_left_ends_its_epoch() -> None:
    loader = DataLoader(np.arange(6), 2, shuffle=True)
    expected = epochs(DataLoader(np.arange(6), 2, shuffle=True), 3)
    next(iter(loader))
    assert loader.epoch == 0
    assert epochs(loader, 2) == expected[1:]
    assert loader.epoch == 3


def test_a_position_of_another_loader() -> None:
    state = DataLoader(np.arange(6), 2, seed=1).state_dict()
    for other in (
        DataLoader(np.arange(7), 2, seed=1),
        DataLoader(np.arange(6), 3, seed=1),
        DataLoader(np.arange(6), 2),
    ):
        with pytest.raises(ValueError, match=r"another loader's: (length was 6 and is 7|batch_size was 2|seed was 1)"):
            other.load_state_dict(state)
    loader = DataLoader(np.arange(6), 2, seed=1)
    with pytest.raises(ValueError, match=r"a position has batch, batch_size, drop_last, epoch, .*; got epoch"):
        loader.load_state_dict({"epoch": 1})
    for wrong in ({"batch": 3}, {"batch": -1}, {"epoch": -1}):
        with pytest.raises(ValueError, match="there is no batch"):
            loader.load_state_dict({**state, **wrong})


def test_what_is_no_dataset() -> None:
    for empty in ([], (), {}, np.zeros((0, 3)), {"x": np.zeros(0)}):
        with pytest.raises(ValueError, match="the dataset is empty"):
            DataLoader(empty)
    with pytest.raises(ValueError, match="3 samples are less than one batch of 4"):
        DataLoader([1, 2, 3], 4, drop_last=True)
    for name, value in (("batch_size", 0), ("prefetch", -1), ("seed", -1)):
        with pytest.raises(ValueError, match=f"{name} is {value}: expected"):
            DataLoader([1], **{name: value})
    with pytest.raises(ShapeError, match="one length, got 2, 3"):
        DataLoader((np.zeros(3), np.zeros(2)))
    with pytest.raises(ShapeError, match="rank 0"):
        DataLoader((np.zeros(3), np.zeros(())))
    with pytest.raises(TypeError, match="len"):
        DataLoader(iter([1]))


@pytest.mark.parametrize("prefetch", [0, 1, 8])
def test_an_exception_comes_at_its_batch(prefetch: int) -> None:
    loader = DataLoader(Squares(10, bad=7), 2, prefetch=prefetch)
    seen = []
    with pytest.raises(KeyError, match="no such picture") as info:
        seen.extend(batch["y"].tolist() for batch in loader)
    assert seen == [[0, 1], [4, 9], [16, 25]]
    assert info.value.__notes__ == ["raised by sample 7 of the dataset, in batch 3 of epoch 0"]
    assert loader.state_dict()["batch"] == 3
    del info
    assert eventually(lambda: not threads())


def test_the_thread_reads_ahead_but_not_far() -> None:
    dataset = Squares(100)
    assert eventually(lambda: not threads())  # those of other tests
    batches = iter(DataLoader(dataset, 1, prefetch=3))
    assert not threads()
    next(batches)
    assert eventually(lambda: dataset.taken == 4)
    time.sleep(0.02)
    assert dataset.taken == 4
    assert len(threads()) == 1
    del batches
    gc.collect()
    assert eventually(lambda: not threads())
    assert dataset.taken == 4


def test_the_thread_ends_with_the_epoch() -> None:
    for prefetch in (1, 5):
        assert len(list(DataLoader(Squares(6), 2, prefetch=prefetch))) == 3
    assert eventually(lambda: not threads())


def test_collate() -> None:
    batch = collate([{"a": [1.5, True], "s": "x", "n": np.int8(1)}, {"a": [2, False], "s": "y", "n": np.int8(2)}])
    assert batch["s"] == ["x", "y"]
    assert [array.dtype.name for array in (*batch["a"], batch["n"])] == ["float32", "bool", "int8"]
    assert collate([Tensor([1.0]), Tensor([2.0])]).tolist() == [[1], [2]]
    assert DataLoader([3, 4], 2, collate_fn=tuple).__iter__().__next__() == (3, 4)
    with pytest.raises(ShapeError, match="one structure"):
        collate([{"a": 1}, {"b": 1}])
    with pytest.raises(TypeError, match="a NoneType makes no array"):
        collate([None, None])
    with pytest.raises(ShapeError, match=r"one shape, got \(2,\), \(3,\); pass a collate_fn") as info:
        list(DataLoader([np.zeros(3), np.zeros(2)], 2))
    assert info.value.__notes__ == ["raised while samples [0, 1] were put together, in batch 0 of epoch 0"]


def test_the_page_runs_and_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parent.parent / "docs" / "data.md").read_text()
    train, trainer, exchange = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    whole: dict[str, Any] = {}
    exec(train + exchange + trainer, whole)
    assert whole["step"] == 21
    assert whole["trainer"].step == 140
    assert whole["trainer"].best < 0.5
    resumed: dict[str, Any] = {}
    exec(train, resumed)
    assert resumed["step"] == 21
    for name, tensor in whole["state"]["model"].state_dict().items():
        assert resumed["state"]["model"].state_dict()[name].tolist() == tensor.tolist()
