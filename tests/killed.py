"""Trains in processes that are killed and started again until they are done: ``python killed.py directory kills``.

The processes are forks of this one, so that the libraries are imported once. Every other one is killed at a random
time; the others are killed while they change files, before or within one of the calls that write, name or remove a
checkpoint. Each run has to end with the bits of one that was not killed, and no checkpoint may be unreadable ever.
"""

from __future__ import annotations

import io
import itertools
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

import volta_mlir as volta
from volta_mlir import nn, optim
from volta_mlir.checkpoints import Checkpoint, Checkpoints
from volta_mlir.data import DataLoader
from volta_mlir.training import CSVLogger, Trainer

EPOCHS, STEPS = 4, 12
FILE_OPERATIONS = 400  # about as many as a run does
ROWS = np.random.default_rng(0).normal(size=(10, 3)).astype(np.float32)
optimizer = optim.Adam(lr=optim.ExponentialLR(0.05, gamma=0.9))


def start() -> tuple[Any, Any, Any]:
    nn.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.2), nn.Linear(4, 2))
    return model, optimizer.init(model), volta.random.key(4)


@volta.jit(donate="auto")
def train_step(model: Any, optimizer_state: Any, key: Any, x: Any) -> Any:
    key, noise_key = volta.random.split(key)
    x = x + volta.random.normal(noise_key, x.shape)
    loss, gradients = volta.value_and_grad(lambda model: ((model(x) - 1) ** 2).mean())(model)
    model, optimizer_state = optimizer.update(model, gradients, optimizer_state)
    return model, optimizer_state, key, loss


def evaluate(model: Any, optimizer_state: Any, key: Any) -> dict[str, Any]:
    return {"norm": np.abs(model[3].weight.numpy()).sum()}


def train(directory: Path) -> None:
    loader = DataLoader(ROWS, batch_size=4, shuffle=True, seed=2, prefetch=1)
    Trainer(
        train_step,
        start(),
        loader,
        evaluate=evaluate,
        monitor="norm",
        checkpoints=Checkpoints(directory, keep=2),
        checkpoint_every=1,
        log_every=2,
        callbacks=[CSVLogger(directory.with_suffix(".csv"))],
    ).fit(epochs=EPOCHS)


def like() -> dict[str, Any]:
    return dict(zip(("model", "optimizer_state", "key"), start(), strict=True))


def contents(checkpoint: Checkpoint) -> Any:
    leaves = [np.asarray(leaf).tobytes() for leaf in volta.tree.leaves(checkpoint.state)]
    return checkpoint.step, leaves, checkpoint.extra


def outcome(directory: Path) -> Any:
    """The last state, the best one, and what was logged but for speed and memory."""
    checkpoints = Checkpoints(directory)
    assert checkpoints.latest() == STEPS
    logged = directory.with_suffix(".csv").read_text().splitlines()
    numbers = [row for row in logged if "loss" in row or "eval" in row]
    return contents(checkpoints.restore(like())), contents(checkpoints.restore_best(like())), numbers


@contextmanager
def dying(number: int) -> Iterator[None]:
    """In the block the process kills itself at the file operation of this number."""
    operations = itertools.count()

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def watched(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if next(operations) == number:
                die()
            return function(*args, **kwargs)

        return call

    class Watched(io.BufferedWriter):
        def write(self, data: Any) -> int:
            if next(operations) == number:
                super().write(bytes(data)[: len(data) // 2])
                self.flush()
                die()
            return super().write(data)

    def watched_open(path: Path, mode: str) -> Any:
        return Watched(io.FileIO(path, mode.replace("b", ""))) if "x" in mode else open(path, mode)

    with (
        mock.patch("volta_mlir.atomic.open", watched_open, create=True),
        mock.patch.multiple("os", **{f: watched(getattr(os, f)) for f in ("fsync", "replace", "link", "unlink")}),
    ):
        yield


def started(directory: Path, dies_at: int | None = None) -> int:
    """The id of a process that trains."""
    child = os.fork()
    if child:
        return child
    try:
        if dies_at is None:
            train(directory)
        else:
            with dying(dies_at):
                train(directory)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        os._exit(1)
    os._exit(0)


def status_of(child: int) -> int:
    """0, the exit status, or minus the signal."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main(directory: Path, kills: int) -> None:
    assert status_of(started(directory / "whole")) == 0  # compiles
    begin = time.monotonic()
    assert status_of(started(directory / "again")) == 0
    duration = time.monotonic() - begin
    expected = outcome(directory / "whole")
    assert outcome(directory / "again") == expected
    draw = random.Random(0)
    counts = {"kills": 0, "runs": 0, "partial": 0, "unfinished": 0}
    while counts["kills"] < kills or not counts["runs"]:
        run = directory / f"killed-{counts['runs']}"
        if counts["kills"] == kills:
            child = started(run)
        elif counts["kills"] % 2:
            child = started(run, draw.randrange(FILE_OPERATIONS))
        else:
            child = started(run)
            time.sleep(draw.uniform(0, duration))
            os.kill(child, signal.SIGKILL)
        status = status_of(child)
        checkpoints = Checkpoints(run)
        for step in checkpoints.steps():
            assert checkpoints.restore(like(), step).step == step
        if checkpoints.best() is not None:
            checkpoints.restore_best(like())
        counts["partial"] += 0 < (checkpoints.latest() or 0) < STEPS
        counts["unfinished"] += len(list(run.glob(".*.unfinished")))
        if status == -signal.SIGKILL:
            counts["kills"] += 1
        else:
            assert status == 0
            assert outcome(run) == expected
            counts["runs"] += 1
    print(json.dumps(counts))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
