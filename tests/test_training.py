"""The training loop: what it calls when, what it keeps, and how it ends."""

from __future__ import annotations

import errno
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import volta_mlir as volta
from volta_mlir import nn, optim
from volta_mlir.checkpoints import Checkpoints
from volta_mlir.data import DataLoader
from volta_mlir.errors import NaNError, ShapeError, WeightsError
from volta_mlir.progress import working
from volta_mlir.tensor import Tensor
from volta_mlir.training import Callback, CSVLogger, TensorBoardLogger, Trainer, average

ROWS = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
optimizer = optim.Adam(lr=optim.ExponentialLR(0.05, gamma=0.99))


@volta.jit(donate=("model", "state", "key"))
def train_step(model: Any, state: Any, key: Any, x: Any) -> Any:
    key, noise_key = volta.random.split(key)
    noise = volta.random.normal(noise_key, x.shape)
    loss, gradients = volta.value_and_grad(lambda model: ((model(x + noise) - 1) ** 2).mean())(model)
    lr = optimizer.lr(state["step"])
    model, state = optimizer.update(model, gradients, state)
    return model, state, key, {"loss": loss, "lr": lr}


def start() -> tuple[Any, Any, Any]:
    nn.manual_seed(0)
    model = nn.Linear(3, 2)
    return model, optimizer.init(model), volta.random.key(3)


def loader_of() -> DataLoader:
    return DataLoader(ROWS, batch_size=4, shuffle=True, seed=1, prefetch=0)


def contents(tree: Any) -> list[bytes]:
    return [np.asarray(leaf).tobytes() for leaf in volta.tree.leaves(tree)]


def counting(total: Any, x: Any) -> tuple[Any, Any]:
    """A step that needs no compiler: adds up what it is given."""
    return total + float(np.sum(x)), {"loss": total}


class Stop(Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_step(self, trainer: Trainer) -> None:
        if trainer.step == self.step:
            trainer.stop("enough")


def test_it_is_the_loop_that_one_would_write(caplog: pytest.LogCaptureFixture) -> None:
    model, state, key = start()
    losses = []
    loader = loader_of()
    for _ in range(3):
        for x in loader:
            model, state, key, metrics = train_step(model, state, key, x)
            losses.append(metrics["loss"].item())
    caplog.set_level(logging.INFO, "volta.train")
    trainer = Trainer(train_step, start(), loader_of(), log_every=5, tokens=lambda x: x.size)
    assert contents(trainer.fit(epochs=3)) == contents((model, state, key))
    assert contents(trainer.state) == contents((model, state, key))
    assert (trainer.step, trainer.epoch, trainer.stop_reason) == (15, 3, None)
    assert [step for step, _ in trainer.history] == [5, 10, 15]
    for (_, metrics), begin in zip(trainer.history, (0, 5, 10), strict=True):
        assert metrics["train/loss"] == pytest.approx(np.mean(losses[begin : begin + 5]))
        assert metrics["train/lr"] == pytest.approx(0.05 * 0.99 ** (begin + 4))
        assert metrics["train/tokens_per_second"] == pytest.approx(3 * metrics["train/samples_per_second"])
        assert 1e7 < metrics["train/peak_memory"] < 1e12
    last = [record.getMessage() for record in caplog.records][-1]
    for part in ("step 15 (epoch 3): loss ", ", lr 0.04344", "samples/s", "tokens/s", "iB at the peak"):
        assert part in last


def test_states_and_batches_of_every_form() -> None:
    trainer = Trainer(lambda state, x, y: ({"n": state["n"] + x * y}, state["n"]), {"n": 1}, [(1, 2), [3, 4]])
    assert trainer.fit(epochs=2) == {"n": 29}
    trainer = Trainer(lambda n, x, y: (n + x - y, n), 0, [{"y": 1, "x": 5}])
    assert trainer.fit(steps=3) == 12
    endless = iter(range(10**9))
    trainer = Trainer(counting, 0.0, endless)
    assert trainer.fit(steps=4) == 6
    assert trainer.epoch is None
    assert trainer.fit(steps=5) == 10
    with pytest.raises(ValueError, match="has no length, so that epochs cannot be counted: pass steps"):
        trainer.fit(epochs=1)
    for arguments in ({}, {"epochs": 1, "steps": 2}):
        with pytest.raises(ValueError, match="epochs or steps, one of them"):
            trainer.fit(**arguments)
    with pytest.raises(ValueError, match="the loader gave no batch"):
        Trainer(counting, 0.0, iter([])).fit(steps=1)


def test_a_loop_goes_on_where_the_one_before_it_ended() -> None:
    whole = Trainer(train_step, start(), loader_of())
    whole.fit(steps=12)
    parts = Trainer(train_step, start(), loader_of())
    for steps in (3, 3, 8, 12):
        parts.fit(steps=steps)
        assert parts.step == steps
    assert contents(parts.state) == contents(whole.state)


@pytest.mark.parametrize(
    ("step", "state", "match"),
    [
        (lambda a, b, x: (a, x), (1, 2), r"returned 2 values: expected \(a, b, metrics\)"),
        (lambda a, x: a, 1, r"returned a int: expected \(a, metrics\)"),
        (lambda a, b, x: (b, a, 0), (1, [2]), r"another a than it takes"),
        (lambda a, x: (a, {"lr": 0.1}), 1, "the step's metrics are lr: there is no 'loss' among them"),
        (lambda a, x: (a, np.ones(2)), 1, r"the metric loss has the shape \(2,\): expected one number"),
    ],
)
def test_steps_that_are_none(step: Any, state: Any, match: str) -> None:
    with pytest.raises(ShapeError, match=match):
        Trainer(step, state, [1]).fit(steps=1)


def test_arguments_that_make_no_sense() -> None:
    for name in ("log_every", "evaluate_every", "checkpoint_every", "patience"):
        with pytest.raises(ValueError, match=f"{name} is 0: expected 1 or more"):
            Trainer(counting, 0.0, [1], **{name: 0})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="mode is 'least'"):
        Trainer(counting, 0.0, [1], mode="least")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="patience needs monitor"):
        Trainer(counting, 0.0, [1], evaluate=lambda total: {"loss": 0}, patience=1)
    with pytest.raises(ValueError, match="monitor needs evaluate"):
        Trainer(counting, 0.0, [1], monitor="loss")
    with pytest.raises(TypeError, match="a list cannot save its position"):
        Trainer(counting, 0.0, [1], checkpoints="run")
    with pytest.raises(ValueError, match="monitor is 'accuracy': evaluate gave loss"):
        Trainer(counting, 0.0, [1], evaluate=lambda total: {"loss": 0}, monitor="accuracy").fit(epochs=1)
    loader = DataLoader(ROWS)
    with pytest.raises(ValueError, match="give it one of its own"):
        Trainer(counting, 0.0, loader, evaluate=lambda total: average(lambda x: {}, loader)).fit(epochs=1)
    with pytest.raises(ValueError, match=r"evaluate changed the state, as by model\.eval\(\)"):
        Trainer(lambda model, x: (model, 0), nn.Dropout(), [1], evaluate=lambda model: {"a": model.eval() and 0}).fit(1)
    with pytest.raises(ValueError, match="pass checkpoints to the Trainer"):
        Trainer(counting, 0.0, [1]).restore_best()


class Scripted:
    """An evaluation whose results are given."""

    def __init__(self, values: list[float]) -> None:
        self.values = values
        self.steps: list[float] = []

    def __call__(self, total: float) -> dict[str, float]:
        self.steps.append(total)
        return {"accuracy": self.values[len(self.steps) - 1]}


def test_evaluation_the_best_state_and_patience(tmp_path: Path) -> None:
    evaluate = Scripted([0.5, 0.7, 0.7, 0.6, 0.9])
    loader = DataLoader(np.ones(4, np.float32), prefetch=0)
    trainer = Trainer(
        counting,
        0.0,
        loader,
        evaluate=evaluate,
        evaluate_every=2,
        checkpoints=Checkpoints(tmp_path, keep=1),
        monitor="accuracy",
        mode="max",
        patience=2,
    )
    assert trainer.fit(epochs=100) == 8
    assert evaluate.steps == [2, 4, 6, 8]
    assert (trainer.best, trainer.best_step) == (0.7, 4)
    assert trainer.stop_reason == "2 evaluations without a better accuracy than 0.7, that of step 4"
    assert [m for _, m in trainer.history if "eval/accuracy" in m] == [
        {"eval/accuracy": v} for v in evaluate.values[:4]
    ]
    assert trainer.checkpoints is not None
    assert (trainer.checkpoints.steps(), trainer.checkpoints.best()) == ([8], 4)
    assert trainer.restore_best() == 4
    # Another process, which was started again, is out of patience too.
    again = Trainer(
        counting, 0.0, loader, evaluate=evaluate, checkpoints=tmp_path, monitor="accuracy", mode="max", patience=2
    )
    assert (again.fit(epochs=100), again.step, again.best) == (8, 8, 0.7)


def test_an_evaluation_that_is_nan_is_never_the_best() -> None:
    trainer = Trainer(
        counting, 0.0, [1], evaluate=Scripted([np.nan, 3, np.nan, 2, np.nan, 4]), monitor="accuracy", patience=2
    )
    trainer.fit(epochs=9)
    assert (trainer.step, trainer.best, trainer.best_step) == (6, 2, 4)
    trainer = Trainer(counting, 0.0, [1], evaluate=Scripted([np.nan] * 9), monitor="accuracy", patience=2)
    trainer.fit(epochs=9)
    assert (trainer.step, trainer.best) == (2, None)


def test_an_evaluation_after_each_epoch_and_the_last_step() -> None:
    evaluate = Scripted([0] * 9)
    Trainer(counting, 0.0, DataLoader(np.ones(4, np.float32)), evaluate=evaluate).fit(steps=10)
    assert evaluate.steps == [4, 8, 10]


@pytest.mark.parametrize("stop", [1, 5, 7])
def test_a_run_that_is_resumed_ends_as_one_that_is_not(tmp_path: Path, stop: int) -> None:
    def trainer(directory: str, *callbacks: Callback) -> Trainer:
        return Trainer(
            train_step, start(), loader_of(), checkpoints=tmp_path / directory, checkpoint_every=3, callbacks=callbacks
        )

    whole = trainer("whole")
    whole.fit(epochs=2)
    interrupted = trainer("parts", Stop(stop))
    interrupted.fit(epochs=2)
    assert (interrupted.step, interrupted.stop_reason) == (stop, "enough")
    resumed = trainer("parts")
    resumed.fit(epochs=2)
    assert contents(resumed.state) == contents(whole.state)
    assert set(volta.weights.load(Checkpoints(tmp_path / "parts").path(10))) >= {"model.weight", "state.step", "key"}
    with pytest.raises(ValueError, match="has checkpoints of another run"):
        trainer("parts").fit(epochs=2, resume=False)
    assert trainer("new").fit(steps=1, resume=False) is not None


def test_when_there_are_checkpoints(tmp_path: Path) -> None:
    loader = DataLoader(np.ones(4, np.float32), prefetch=0)
    checkpoints = Checkpoints(tmp_path, keep=None)
    Trainer(counting, 0.0, loader, checkpoints=checkpoints, checkpoint_every=3).fit(steps=7)
    assert checkpoints.steps() == [3, 6, 7]
    Trainer(counting, 0.0, loader, checkpoints=checkpoints).fit(steps=13)  # each epoch
    assert checkpoints.steps() == [3, 6, 7, 8, 12, 13]
    with pytest.raises(WeightsError, match="no checkpoint is marked as the best one"):
        Trainer(counting, 0.0, loader, checkpoints=checkpoints).restore_best()


class Interrupt(Callback):
    """Presses Ctrl-C during steps."""

    def __init__(self, *steps: int) -> None:
        self.steps = steps

    def on_step(self, trainer: Trainer) -> None:
        if trainer.step in self.steps:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_saves_and_returns(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    loader = DataLoader(np.ones(4, np.float32), prefetch=0)
    trainer = Trainer(counting, 0.0, loader, checkpoints=tmp_path, callbacks=[Interrupt(2)])
    assert trainer.fit(epochs=2) == 2
    assert trainer.stop_reason == "interrupted"
    assert "press Ctrl-C again to stop at once" in caplog.text
    assert Checkpoints(tmp_path).restore({"total": 0.0}).state == {"total": 2.0}
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert trainer.fit(epochs=2) == 8, "it goes on"
    with pytest.raises(KeyboardInterrupt):
        Trainer(counting, 0.0, loader, callbacks=[Interrupt(1), Interrupt(1)]).fit(epochs=1)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_in_another_thread_ctrl_c_is_left_alone() -> None:
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(Trainer(counting, 0.0, [1, 2]).fit(epochs=1)))
    thread.start()
    thread.join()
    assert results == [3]


@pytest.mark.parametrize(("value", "text"), [(np.nan, "nan"), (np.inf, "inf")])
def test_a_loss_that_is_not_finite_names_its_step(tmp_path: Path, value: float, text: str) -> None:
    def step(total: float, x: Any) -> tuple[float, float]:
        return total + 1, value if total == 2 else 1.0

    loader = DataLoader(np.ones(8, np.float32), prefetch=0)
    with pytest.raises(NaNError, match=rf"^the loss is {text} after step 3\. volta\.debug_nans\(\)"):
        Trainer(step, 0.0, loader).fit(epochs=1)
    with pytest.raises(NaNError, match=r"after step 3; the checkpoint of step 2 is from before that"):
        Trainer(step, 0.0, loader, checkpoints=tmp_path, checkpoint_every=2).fit(epochs=1)
    assert Checkpoints(tmp_path).steps() == [2], "no state is saved from after it"


def test_callbacks_hear_of_everything() -> None:
    heard: list[Any] = []

    class Listener(Callback):
        def on_start(self, trainer: Trainer) -> None:
            heard.append("start")

        def on_step(self, trainer: Trainer) -> None:
            heard.append((trainer.step, trainer.state))

        def on_metrics(self, trainer: Trainer, metrics: Any) -> None:
            heard.append(sorted(metrics)[0])

        def on_end(self, trainer: Trainer) -> None:
            heard.append("end")

    trainer = Trainer(counting, 0.0, [1, 2], callbacks=[Listener()], evaluate=lambda total: {"total": total})
    trainer.fit(epochs=1)
    assert heard == ["start", (1, 1), (2, 3), "train/loss", "eval/total", "end"]
    heard.clear()
    with pytest.raises(ZeroDivisionError):
        Trainer(lambda total, x: 1 / 0, 0.0, [1], callbacks=[Listener()]).fit(epochs=1)
    assert heard == ["start", "end"]


def test_csv(tmp_path: Path) -> None:
    path, loader = tmp_path / "logs" / "metrics.csv", DataLoader(np.ones(4, np.float32), prefetch=0)

    def run(steps: int, directory: str) -> None:
        Trainer(
            counting,
            0.0,
            loader,
            checkpoints=tmp_path / directory,
            log_every=2,
            evaluate=lambda total: {"total": total},
            callbacks=[CSVLogger(path)],
        ).fit(steps=steps)

    def rows() -> list[str]:
        return [line for line in path.read_text().splitlines() if "memory" not in line and "second" not in line]

    run(4, "a")
    expected = ["step,metric,value", "2,train/loss,0.5", "4,train/loss,2.5", "4,eval/total,4.0"]
    assert rows() == expected
    with open(path, "a") as file:
        file.write("6,train/loss,4.5\n7,tra")  # by a run that was killed, after its last checkpoint
    run(6, "a")
    assert rows() == [*expected, "6,train/loss,4.5", "6,eval/total,6.0"]
    run(2, "b")
    assert rows() == ["step,metric,value", "2,train/loss,0.5", "2,eval/total,2.0"]


def events(path: Path) -> Iterator[Any]:
    """The events of a file in TensorBoard's format: records of length, checksum of the length, data, checksum."""
    from tensorboardX.crc32c import crc32c
    from tensorboardX.proto.event_pb2 import Event

    def masked(data: bytes) -> int:
        crc = crc32c(data)
        return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) % (1 << 32)

    content = path.read_bytes()
    while content:
        length = int.from_bytes(content[:8], "little")
        data = content[12 : 12 + length]
        assert int.from_bytes(content[8:12], "little") == masked(content[:8])
        assert int.from_bytes(content[12 + length : 16 + length], "little") == masked(data)
        yield Event.FromString(data)
        content = content[16 + length :]


def test_tensorboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loader = DataLoader(np.ones(4, np.float32), prefetch=0)
    for number, steps in enumerate((4, 6)):
        logger = TensorBoardLogger(tmp_path / f"log{number}")
        Trainer(
            counting,
            0.0,
            loader,
            checkpoints=tmp_path / "run",
            log_every=2,
            callbacks=[logger],
            evaluate=lambda t: {"t": t},
        ).fit(steps=steps)

    def scalars(number: int) -> tuple[list[Any], list[Any]]:
        (path,) = (tmp_path / f"log{number}").iterdir()
        found = list(events(path))
        values = [(e.step, v.tag, v.simple_value) for e in found for v in e.summary.value]
        purged = [e.step for e in found if e.WhichOneof("what") == "session_log"]
        return [v for v in values if v[1] in ("train/loss", "eval/t")], purged

    assert scalars(0) == ([(2, "train/loss", 0.5), (4, "train/loss", 2.5), (4, "eval/t", 4)], [])
    assert scalars(1) == ([(6, "train/loss", 4.5), (6, "eval/t", 6)], [5])
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ImportError, match=r"pip install 'volta-mlir\[tensorboard\]'"):
        TensorBoardLogger(tmp_path)


def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "200")

    def evaluate(total: float) -> dict[str, float]:
        with working("compiling"):  # which has a line of its own elsewhere
            assert not [thread for thread in threading.enumerate() if "_show" in thread.name]
        return {"total": total}

    Trainer(counting, 0.0, [1, 2], evaluate=evaluate, log_every=1).fit(epochs=2)
    shown = capfd.readouterr().err
    assert "training" in shown
    assert "4/4" in shown
    assert "step 4 (epoch 2): total 6" in shown
    assert "loss 4" in shown


def test_the_average_weighs_batches() -> None:
    loader = DataLoader({"x": np.arange(5.0), "y": np.ones(5)}, batch_size=2)
    means = average(lambda x, y: {"x": x.mean(), "y": Tensor(y).mean()}, loader)
    assert means == {"x": 2.0, "y": 1.0}
    with pytest.raises(ValueError, match="the loader gave no batch"):
        average(lambda x: {}, [])


def test_a_full_disk_stops_training_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    loader = DataLoader(np.ones(8, np.float32), prefetch=0)
    trainer = Trainer(counting, 0.0, loader, checkpoints=tmp_path, checkpoint_every=2)
    trainer.fit(steps=2)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(WeightsError, match=r"No space left on device; the checkpoint of step 2 stays"):
            trainer.fit(epochs=1)
    assert Checkpoints(tmp_path).steps() == [2]
    assert (trainer.step, trainer.state) == (4, 4)
    assert trainer.fit(epochs=1) == 8, "once there is space, it goes on from where it was"
    assert Trainer(counting, 0.0, loader, checkpoints=tmp_path).fit(epochs=1) == 8


def test_an_exception_of_the_step_leaves_the_state(tmp_path: Path) -> None:
    def step(total: float, x: Any) -> tuple[float, float]:
        if total == 2:
            raise RuntimeError("mine")
        return total + 1, 0.0

    loader = DataLoader(np.ones(4, np.float32), prefetch=0)
    trainer = Trainer(step, 0.0, loader, checkpoints=tmp_path, checkpoint_every=1)
    with pytest.raises(RuntimeError, match="mine"):
        trainer.fit(epochs=1)
    assert (trainer.step, trainer.state, Checkpoints(tmp_path).latest()) == (2, 2.0, 2)
