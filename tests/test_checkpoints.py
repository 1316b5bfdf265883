"""Training states on disk: round trips, damage, full disks, and runs that are killed."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file

import volta_mlir as volta
from volta_mlir import nn, optim, weights
from volta_mlir import tree as trees
from volta_mlir.checkpoints import Checkpoints, restore, save
from volta_mlir.errors import ShapeError, TraceError, WeightsError
from volta_mlir.tensor import Tensor


class Tied(nn.Module):
    def __init__(self, seed: int) -> None:
        self.embedding = nn.Embedding(5, 3)
        self.head = nn.Linear(3, 5)
        self.head.weight = self.embedding.weight
        self.norm = nn.BatchNorm1d(5)
        self.scratch = nn.Buffer(np.full(2, seed, np.float32), persistent=False)


def state_of(seed: int) -> dict[str, Any]:
    """A whole training state: tied parameters, buffers, an optimizer's state, a key, and leaves of every kind."""
    model = Tied(seed).to("bfloat16")
    return {
        "model": model,
        "optimizer": optim.Adam().init(model),
        "key": volta.random.key(seed),
        "step": seed,
        "best": seed / 3,
        "flags": [None, True, "text"],
        "array": np.arange(seed, seed + 3),
        "scalar": np.float64(seed),
        "empty": Tensor(np.zeros((0, 2), np.float32)),
    }


def leaves_are_equal(a: Any, b: Any) -> bool:
    def equal(x: Any, y: Any) -> bool:
        if isinstance(x, (Tensor, np.ndarray, np.generic)):
            x, y = np.asarray(x), np.asarray(y)
            return x.dtype == y.dtype and x.shape == y.shape and x.tobytes() == y.tobytes()
        return type(x) is type(y) and x == y

    return len(trees.leaves(a)) == len(trees.leaves(b)) and all(map(equal, trees.leaves(a), trees.leaves(b)))


def test_a_whole_state_comes_back(tmp_path: Path) -> None:
    state, like = state_of(7), state_of(1)
    extra = {"position": {"epoch": 3, "batch": 5}, "loss": [0.1, float("inf")]}
    save(tmp_path / "s.safetensors", state, extra)
    assert not leaves_are_equal(state, like)
    back, back_extra = restore(tmp_path / "s.safetensors", like)
    assert leaves_are_equal(back, state)
    assert back_extra == extra
    assert [type(leaf) for leaf in trees.leaves(back)] == [type(leaf) for leaf in trees.leaves(state)]
    assert trees.flatten(back)[1] == trees.flatten(like)[1]
    model = back["model"]
    assert model.head.weight is model.embedding.weight
    assert model.is_buffer("scratch")
    back["array"][0] = 9  # arrays are the caller's own
    assert leaves_are_equal(restore(tmp_path / "s.safetensors", like)[0], state)


def test_specs_stand_for_tensors(tmp_path: Path) -> None:
    save(tmp_path / "s.safetensors", {"w": Tensor([1.0, 2.0])})
    assert restore(tmp_path / "s.safetensors", {"w": volta.spec(2)})[0]["w"].tolist() == [1, 2]
    save(tmp_path / "s.safetensors", Tensor([1.0]))
    assert restore(tmp_path / "s.safetensors", Tensor([0.0]))[0].tolist() == [1]


def test_other_tools_read_it(tmp_path: Path) -> None:
    state = state_of(2)
    save(tmp_path / "s.safetensors", state)
    loaded = load_file(tmp_path / "s.safetensors")
    assert "model.embedding.weight" in loaded
    assert "model.head.weight" not in loaded, "a tied parameter is there once"
    assert loaded["optimizer.exp_avg.norm.weight"].tolist() == [0] * 5
    tensors = weights.load(tmp_path / "s.safetensors")
    prefix = "model."
    state["model"].load_state_dict(
        {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}, False
    )


def test_a_state_of_another_structure_is_listed(tmp_path: Path) -> None:
    path = tmp_path / "s.safetensors"
    save(path, {"a": Tensor([1.0]), "b": Tensor([1.0]), "c": Tensor([1.0]), "n": 3, "k": 4, "more": 1})
    like = {"a": Tensor([[1.0]]), "b": Tensor([1]), "d": Tensor([1.0]), "n": 3.0, "k": Tensor([1.0]), "x": None}
    with pytest.raises(ShapeError) as info:
        restore(path, like)
    assert str(info.value).partition("\n")[0] == f"{path}: the checkpoint does not fit the state:"
    assert set(re.sub(r" \(at .*", "", str(info.value)).splitlines()[1:]) == {
        "  a: expected float32[1,1], got float32[1]",
        "  b: expected int32[1], got float32[1]",
        "  n: expected float, got int",
        "  k: expected float32[1], got int",
        "  missing: d, x",
        "  unexpected: c, more",
    }

    class Pair(nn.Module):
        def __init__(self) -> None:
            self.a = nn.Parameter([1.0])
            self.b = nn.Parameter([2.0])

    save(path, Pair())
    like = Pair()
    like.b = like.a
    with pytest.raises(ShapeError, match="b: is tied to a, but was not when it was saved"):
        restore(path, like)


def test_what_a_checkpoint_does_not_hold(tmp_path: Path) -> None:
    path = tmp_path / "s.safetensors"
    with pytest.raises(TypeError, match=r"w\.0 is a object; a checkpoint holds"):
        save(path, {"w": [object()]})
    with pytest.raises(TypeError, match="JSON"):
        save(path, {}, extra={1, 2})
    with pytest.raises(ShapeError, match=r"several leaves have the name a\.b"):
        save(path, {"a": {"b": 1}, "a.b": 2, "c": 3})
    with pytest.raises(WeightsError, match="'c' has an unsupported dtype"):
        save(path, {"c": np.ones(1, complex)})
    with pytest.raises(TraceError):
        volta.jit(lambda x: save(path, x))(Tensor([1.0]))
    assert os.listdir(tmp_path) == []
    weights.save(path, {"w": [1.0]})
    with pytest.raises(WeightsError, match="it is no checkpoint"):
        restore(path, {"w": Tensor([1.0])})
    with pytest.raises(WeightsError, match="No such file"):
        restore(tmp_path / "none", {})


@pytest.mark.parametrize("part", ["header", "tensor", "end", "extra", "values"])
def test_damage_is_noticed(tmp_path: Path, part: str) -> None:
    checkpoints = Checkpoints(tmp_path)
    for step in (1, 2):
        checkpoints.save(step, {"w": Tensor([1.0, 2.0]), "n": 12345}, {"note": "abcdef"})
    path = checkpoints.path(2)
    content = path.read_bytes()
    damaged = {
        "header": content.replace(b'"shape":[2]', b'"shape":[1]'),
        "tensor": content[:-1] + b"\0",
        "end": content[:-1],
        "extra": content.replace(b"abcdef", b"abcdeF"),
        "values": content.replace(b"12345", b"12346"),
    }[part]
    assert damaged != content
    path.write_bytes(damaged)
    like = {"w": Tensor([0.0, 0.0]), "n": 0}
    with pytest.raises(WeightsError, match=rf"{path}: .*; the one before it is that of step 1$"):
        checkpoints.restore(like)
    assert checkpoints.restore(like, step=1).state["n"] == 12345
    checkpoints.path(1).write_bytes(damaged)
    with pytest.raises(WeightsError) as info:
        checkpoints.restore(like, step=1)
    assert "before" not in str(info.value)


def test_the_last_few_are_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "new" / "run", keep=2)
    assert (checkpoints.steps(), checkpoints.latest()) == ([], None)
    with pytest.raises(WeightsError, match="there are no checkpoints"):
        checkpoints.restore({})
    for step in (0, 5, 10, 10, 1_000_000_000_000):
        checkpoints.save(step, {"step": step})
    assert checkpoints.steps() == [10, 1_000_000_000_000]
    assert checkpoints.latest() == 1_000_000_000_000
    assert checkpoints.restore({"step": 0}, step=10).state == {"step": 10}
    notes, left = checkpoints.directory / "notes.txt", checkpoints.directory / ".step-7.safetensors.1234.unfinished"
    notes.write_text("mine")
    left.write_text("what a run that was killed leaves")
    checkpoints.save(1_000_000_000_000, {"step": 1})
    assert notes.exists()
    assert not left.exists()
    for wrong in (9, -1):
        with pytest.raises(ValueError, match=f"step {wrong} comes before"):
            checkpoints.save(wrong, {})
    with pytest.raises(ValueError, match="keep is 0"):
        Checkpoints(tmp_path, keep=0)
    everything = Checkpoints(tmp_path / "all", keep=None)
    for step in range(5):
        everything.save(step, {})
    assert everything.steps() == list(range(5))


@pytest.mark.parametrize("links", [True, False])
def test_the_best_one_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    if not links:

        def link(*args: Any) -> None:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

        monkeypatch.setattr(os, "link", link)
    checkpoints = Checkpoints(tmp_path, keep=1)
    assert checkpoints.best() is None
    for step, value in ((1, 10), (2, 20), (2, 21), (3, 30)):
        checkpoints.save(step, {"n": value})
        if step < 3:
            checkpoints.mark_best(step)
            checkpoints.mark_best(step)
            assert checkpoints.restore_best({"n": 0}) == (step, {"n": value}, None)
    assert sorted(os.listdir(tmp_path)) == [checkpoints._best_path(2).name, checkpoints.path(3).name]
    with pytest.raises(WeightsError, match="No such file"):
        checkpoints.mark_best(2)  # which is gone but for its other name
    assert checkpoints.restore_best({"n": 0}).state == {"n": 21}


def test_a_full_disk_leaves_the_last_good_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = Checkpoints(tmp_path, keep=1)
    checkpoints.save(1, {"w": Tensor([1.0])})

    def full(*args: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WeightsError, match=r"No space left on device; the checkpoint of step 1 stays"):
        checkpoints.save(2, {"w": Tensor([2.0])})
    with pytest.raises(WeightsError, match="No space left on device; there is none before it"):
        Checkpoints(tmp_path / "other").save(2, {"w": Tensor([2.0])})
    assert os.listdir(tmp_path / "other") == []
    monkeypatch.undo()
    assert checkpoints.restore({"w": Tensor([0.0])}).state["w"].tolist() == [1]
    (tmp_path / "file").write_text("")
    with pytest.raises(WeightsError, match=r"Not a directory|File exists"):
        Checkpoints(tmp_path / "file").save(1, {})


LIMITED = """
import resource, sys
import numpy as np
from volta_mlir.checkpoints import Checkpoints
from volta_mlir.errors import WeightsError
checkpoints = Checkpoints(sys.argv[1], keep=1)
checkpoints.save(1, {"w": np.ones(1000)})
limits = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
try:
    checkpoints.save(2, {"w": np.ones(100_000)})
except WeightsError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, limits)  # what else is written at exit, such as coverage, has to fit
print(checkpoints.steps(), checkpoints.restore({"w": np.zeros(1000)}).state["w"].sum())
"""


def test_a_file_that_may_not_grow(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", LIMITED, tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    message, rest = done.stdout.splitlines()
    assert message.endswith("File too large; the checkpoint of step 1 stays")
    assert rest == "[1] 1000.0"
    assert len(os.listdir(tmp_path)) == 1


@pytest.mark.no_cover
@pytest.mark.parametrize("kills", [16, pytest.param(50, marks=pytest.mark.full)])
def test_a_run_that_is_killed_ends_as_one_that_is_not(kills: int, tmp_path: Path) -> None:
    command = [sys.executable, Path(__file__).with_name("killed.py"), tmp_path, str(kills)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    counts = json.loads(done.stdout)
    assert counts["kills"] == kills
    assert counts["runs"] >= 1
    assert counts["partial"] >= kills // 5, "many were killed between their first and their last step"
    assert counts["unfinished"] >= kills // 10, "some were killed while they wrote a file"
