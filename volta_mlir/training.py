"""A loop around a compiled training step: progress, evaluation, checkpoints, and runs that can be stopped.

The step stays the user's own function, which can be lowered, printed, saved and called without the loop::

    @volta.jit(donate=("model", "state"))
    def train_step(model, state, x, y):
        loss, gradients = volta.value_and_grad(loss_of)(model, x, y)
        model, state = optimizer.update(model, gradients, state)
        return model, state, loss

    trainer = volta.Trainer(train_step, (model, optimizer.init(model)), loader, checkpoints="run")
    model, state = trainer.fit(epochs=10)
"""

from __future__ import annotations

import csv
import importlib
import inspect
import io
import logging
import math
import os
import resource
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np

from volta_mlir import tree as trees
from volta_mlir.atomic import replacing
from volta_mlir.checkpoints import Checkpoints
from volta_mlir.errors import NaNError, OptionError, ShapeError
from volta_mlir.progress import Bar
from volta_mlir.reports import format_bytes

__all__ = ["CSVLogger", "Callback", "TensorBoardLogger", "Trainer", "average"]

log = logging.getLogger("volta.train")


class Callback:
    """What a :class:`Trainer` calls while it trains. Every method may be overridden, and does nothing by itself.

    Example:
        >>> class StopAt(Callback):
        ...     def __init__(self, loss):
        ...         self.loss = loss
        ...     def on_metrics(self, trainer, metrics):
        ...         if metrics.get("train/loss", np.inf) < self.loss:
        ...             trainer.stop(f"the loss is below {self.loss}")
    """

    def on_start(self, trainer: Trainer) -> None:
        """Before the first step of :meth:`Trainer.fit`, once a checkpoint has been restored."""

    def on_step(self, trainer: Trainer) -> None:
        """After each step. ``trainer.state`` and ``trainer.step`` are those after it."""

    def on_metrics(self, trainer: Trainer, metrics: Mapping[str, float]) -> None:
        """When there are new numbers: ``train/…`` every ``log_every`` steps, ``eval/…`` after an evaluation."""

    def on_end(self, trainer: Trainer) -> None:
        """When :meth:`Trainer.fit` ends, also where it ends by an exception."""


class Trainer:
    """Calls a training step for batch after batch, and looks after what goes with it.

    Every ``log_every`` steps it fetches the metrics of the steps since from the device, and shows their means with
    throughput and the memory of the process: in a progress bar on a terminal, otherwise as messages of the logger
    ``volta.train`` at the level INFO. In between nothing is waited for. Of ``"lr"``, the learning rate where the step
    returns it, the last value is shown.

    Args:
        train_step: called as ``train_step(*state, *batch)``, with a batch that is a dict as ``**batch``. Returns
            ``(*state, metrics)``, where ``metrics`` is the loss, or a dict of scalars with ``"loss"`` among them. It is
            a function that :func:`volta_mlir.jit` made, usually with the state donated.
        state: what goes from step to step: a tuple of trees, such as model and optimizer state, of which each is an
            argument; anything else is the one argument. A step that donates it makes the caller's own unusable: go on
            with what :meth:`fit` returns.
        loader: a :class:`volta_mlir.data.DataLoader`, or anything that each ``for`` loop takes an epoch's batches from.
            It needs a length for all that counts epochs, and ``state_dict`` and ``load_state_dict`` for checkpoints.
        evaluate: called as ``evaluate(*state)``; returns a dict of numbers. It leaves the state and the loader as they
            are: ``model.eval()`` belongs in a compiled function, which has a model of its own while it is traced.
        evaluate_every: steps between evaluations; default one epoch. There is one after the last step too.
        checkpoints: a directory, or :class:`volta_mlir.checkpoints.Checkpoints`, which says how many are kept. The best
            one by ``monitor`` is kept besides.
        checkpoint_every: steps between checkpoints; default one epoch. There is one at the end too.
        log_every: steps between progress messages.
        monitor: the number of ``evaluate`` that says how good a state is; None: none does.
        mode: whether the best is the least, ``"min"``, or the greatest, ``"max"``.
        patience: training stops after this many evaluations in a row without a new best one; None: never.
        tokens: the number of tokens of a batch, for tokens per second; default: they are not counted.
        callbacks: see :class:`Callback`.

    Attributes:
        state: the state after the last step, as it was passed.
        step: the number of steps so far, those of the runs before that were resumed included.
        history: ``(step, metrics)`` of everything that callbacks got as metrics.
        best: the best value of what ``monitor`` names so far, or None.
        best_step: the step that it was found after, or None.
        last_step: the step that :meth:`fit` ends after, or None before it was called.
        stop_reason: why training ended before its last step, or None.

    Raises:
        ValueError: a number is out of range.
        TypeError: there are checkpoints, and the loader cannot save its position.

    Example:
        >>> import volta_mlir as volta
        >>> from volta_mlir import nn, optim
        >>> from volta_mlir.data import DataLoader
        >>> x = np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)
        >>> loader = DataLoader((x, x.sum(1, keepdims=True)), batch_size=16, shuffle=True)
        >>> optimizer = optim.Adam(lr=optim.ExponentialLR(0.1, gamma=0.98))
        >>> @volta.jit(donate=("model", "state"))
        ... def train_step(model, state, x, y):
        ...     loss, gradients = volta.value_and_grad(lambda model: ((model(x) - y) ** 2).mean())(model)
        ...     lr = optimizer.lr(state["step"])
        ...     model, state = optimizer.update(model, gradients, state)
        ...     return model, state, {"loss": loss, "lr": lr}
        >>> model = nn.Linear(3, 1)
        >>> trainer = Trainer(train_step, (model, optimizer.init(model)), loader, log_every=20)
        >>> model, state = trainer.fit(epochs=20)
        >>> trainer.step, [step for step, _ in trainer.history], trainer.history[-1][1]["train/loss"] < 0.05
        (80, [20, 40, 60, 80], True)
    """

    def __init__(
        self,
        train_step: Callable[..., Any],
        state: Any,
        loader: Iterable[Any],
        *,
        evaluate: Callable[..., Mapping[str, Any]] | None = None,
        evaluate_every: int | None = None,
        checkpoints: str | os.PathLike[str] | Checkpoints | None = None,
        checkpoint_every: int | None = None,
        log_every: int = 50,
        monitor: str | None = None,
        mode: Literal["min", "max"] = "min",
        patience: int | None = None,
        tokens: Callable[[Any], int] | None = None,
        callbacks: Iterable[Callback] = (),
    ) -> None:
        counts = {"evaluate_every": evaluate_every, "checkpoint_every": checkpoint_every, "log_every": log_every}
        for name, count in {**counts, "patience": patience}.items():
            if count is not None and count < 1:
                raise OptionError(f"{name} is {count}: expected 1 or more")
        if mode not in ("min", "max"):
            raise OptionError(f"mode is {mode!r}: expected 'min' or 'max'")
        if (patience is not None and monitor is None) or (monitor is not None and evaluate is None):
            raise OptionError("patience needs monitor, the name of a number of evaluate's; monitor needs evaluate")
        if checkpoints is not None and not hasattr(loader, "load_state_dict"):
            raise TypeError(
                f"a {type(loader).__name__} cannot save its position, which checkpoints hold: use a"
                " volta.data.DataLoader, or give it state_dict and load_state_dict"
            )
        self.train_step, self.loader, self.evaluate = train_step, loader, evaluate
        self.checkpoints = Checkpoints(checkpoints) if isinstance(checkpoints, str | os.PathLike) else checkpoints
        self.evaluate_every, self.checkpoint_every, self.log_every = evaluate_every, checkpoint_every, log_every
        self.monitor, self.mode, self.patience = monitor, mode, patience
        self.tokens = tokens
        self.callbacks = (_Progress(), *callbacks)
        self.step = 0
        self.history: list[tuple[int, dict[str, float]]] = []
        self.best: float | None = None
        self.best_step: int | None = None
        self.last_step: int | None = None
        self.stop_reason: str | None = None
        self._is_tuple = type(state) is tuple
        self._state: tuple[Any, ...] = state if self._is_tuple else (state,)
        self._names = _parameter_names(train_step, len(self._state))
        self._evaluations_since_best = 0
        self._pending: list[tuple[int, dict[str, Any]]] = []
        self._values: dict[str, list[float]] = defaultdict(list)  # of the steps since the last message
        self._clock = _Clock()

    @property
    def state(self) -> Any:
        """The state after the last step."""
        return self._state if self._is_tuple else self._state[0]

    @property
    def steps_per_epoch(self) -> int | None:
        """The length of the loader, or None where it has none."""
        return len(self.loader) if isinstance(self.loader, Sized) else None

    @property
    def epoch(self) -> int | None:
        """The number of whole epochs so far, or None where the loader has no length."""
        length = self.steps_per_epoch
        return None if length is None else self.step // length

    def fit(self, epochs: int | None = None, steps: int | None = None, *, resume: bool = True) -> Any:
        """Trains until there were so many epochs or steps, counted from the first run's start.

        With checkpoints it goes on from the latest one in their directory: parameters, optimizer state, the loader's
        position and everything else in the state come back, so that a run that is killed and started again ends with
        the same bits as one that was not.

        Ctrl-C ends the step that runs, saves a checkpoint, and returns; a second one raises KeyboardInterrupt at once.

        Args:
            epochs: how many in total.
            steps: how many in total, instead of epochs.
            resume: False starts anew, in a directory without checkpoints.

        Returns:
            The state after the last step.

        Raises:
            NaNError: the loss is NaN or infinite; names the step. No checkpoint has such a state.
            ShapeError: the step returns something else than the state and the metrics, or a checkpoint does not fit.
            WeightsError: a checkpoint cannot be written, or is damaged.
            ValueError: neither epochs nor steps are given, or both; or the loader gives no batch.
        """
        total = self.last_step = self._total(epochs, steps)
        self.stop_reason = None
        if resume:
            self._resume()
        elif self.checkpoints is not None and self.checkpoints.steps():
            raise OptionError(f"{self.checkpoints.directory} has checkpoints of another run: use another directory")
        self._check_patience()
        with ExitStack() as stack:
            for callback in self.callbacks:
                stack.callback(callback.on_end, self)
            is_interrupted = stack.enter_context(_interrupts())
            for callback in self.callbacks:
                callback.on_start(self)
            self._train(total, is_interrupted)
        return self.state

    def stop(self, reason: str) -> None:
        """Has :meth:`fit` end after this step, with a checkpoint; for callbacks.

        >>> trainer = Trainer(lambda total, x: (total + x, 0.0), 0, [1, 2, 3])
        >>> class Stop(Callback):
        ...     def on_step(self, trainer):
        ...         if trainer.step == 2:
        ...             trainer.stop("it is enough")
        >>> trainer.callbacks += (Stop(),)
        >>> trainer.fit(epochs=10), trainer.stop_reason
        (3, 'it is enough')
        """
        self.stop_reason = reason

    def restore_best(self) -> Any:
        """Takes the state of the best evaluation from its checkpoint, and returns it.

        Raises:
            WeightsError: there are no checkpoints, or there was no evaluation.
        """
        if self.checkpoints is None:
            raise OptionError("the best state is kept in checkpoints: pass checkpoints to the Trainer")
        self._take(self.checkpoints.restore_best(like=self._named_state()).state)
        return self.state

    # -- the loop --------------------------------------------------------------------------------------------------

    def _total(self, epochs: int | None, steps: int | None) -> int:
        if (epochs is None) == (steps is None):
            raise OptionError("fit takes epochs or steps, one of them")
        if steps is not None:
            return steps
        if self.steps_per_epoch is None:
            raise OptionError(
                f"a {type(self.loader).__name__} has no length, so that epochs cannot be counted: pass steps"
            )
        assert epochs is not None
        return epochs * self.steps_per_epoch

    def _train(self, total: int, is_interrupted: Callable[[], bool]) -> None:
        is_first = True
        self._clock = _Clock()
        while self.step < total and self.stop_reason is None:
            before = self.step
            for batch in self._epoch():
                self._advance(batch, check=is_first)
                if is_first:  # which was traced and compiled
                    self._clock = _Clock()
                else:
                    self._clock.count(batch, self.tokens)
                is_first = False
                for callback in self.callbacks:
                    callback.on_step(self)
                if is_interrupted():
                    self.stop("interrupted")
                self._attend(is_last=self.step == total)
                if self.step == total or self.stop_reason is not None:
                    break
            if self.step == before:
                raise OptionError("the loader gave no batch")

    def _epoch(self) -> Iterable[Any]:
        position = self._position()
        if position is not None:  # go on in the middle of an epoch that a run before this has left
            self.loader.load_state_dict(position)  # type: ignore[attr-defined]
        return self.loader

    def _position(self) -> Any:
        """The loader's, or None where it has none."""
        return self.loader.state_dict() if hasattr(self.loader, "state_dict") else None

    def _advance(self, batch: Any, *, check: bool) -> None:
        """One step."""
        results = _called(self.train_step, self._state, batch)
        count = len(self._state)
        if not isinstance(results, tuple) or len(results) != count + 1:
            names = ", ".join(self._names)
            given = f"{len(results)} values" if isinstance(results, tuple) else f"a {type(results).__name__}"
            raise ShapeError(f"the step returned {given}: expected ({names}, metrics)")
        metrics = dict(results[-1]) if isinstance(results[-1], Mapping) else {"loss": results[-1]}
        if check:
            for name, old, new in zip(self._names, self._state, results, strict=False):
                before, after = trees.flatten(old)[1], trees.flatten(new)[1]
                if before != after:
                    raise ShapeError(f"the step returned another {name} than it takes: {after}, expected {before}")
            if "loss" not in metrics:
                raise ShapeError(
                    f"the step's metrics are {', '.join(map(str, metrics))}: there is no 'loss' among them"
                )
        self._state = results[:count]
        self.step += 1
        self._pending.append((self.step, metrics))

    def _attend(self, *, is_last: bool) -> None:
        """What there is to do after a step."""
        if is_last or self.stop_reason is not None or self.step % self.log_every == 0:
            self._log()
        with self._clock.paused():
            length = self.steps_per_epoch
            is_best = False
            if self.evaluate is not None and (is_last or _is_due(self.step, self.evaluate_every or length)):
                is_best = self._evaluated()
            is_end = is_last or self.stop_reason is not None
            if self.checkpoints is not None and (
                is_end or is_best or _is_due(self.step, self.checkpoint_every or length)
            ):
                self._save(is_best)

    def _log(self) -> None:
        values = self._fetched()
        if not values:
            return
        metrics = {name: math.fsum(column) / len(column) for name, column in values.items()}
        if "lr" in values:
            metrics["lr"] = values["lr"][-1]
        metrics |= self._clock.rates()
        metrics["peak_memory"] = _peak_memory()
        self._values, self._clock = defaultdict(list), _Clock()
        self._publish({f"train/{name}": value for name, value in metrics.items()})

    def _fetched(self) -> dict[str, list[float]]:
        """The metrics of the steps since the last message.

        Raises:
            NaNError: a loss is not finite.
        """
        while self._pending:
            step, metrics = self._pending[0]
            numbers = {name: _as_number(name, value) for name, value in metrics.items()}
            if not math.isfinite(numbers["loss"]):
                raise NaNError(self._explained(step, numbers["loss"]))
            for name, number in numbers.items():
                self._values[name].append(number)
            del self._pending[0]
        return self._values

    def _explained(self, step: int, loss: float) -> str:
        latest = None if self.checkpoints is None else self.checkpoints.latest()
        kept = "" if latest is None else f"; the checkpoint of step {latest} is from before that"
        return (
            f"the loss is {loss} after step {step}{kept}. volta.debug_nans() finds the operation that makes it; a lower"
            " learning rate or optim.clip_grad_norm may avoid it"
        )

    def _evaluated(self) -> bool:
        """Evaluates; whether the state is the best one so far."""
        assert self.evaluate is not None
        position, structure = self._position(), trees.flatten(self._state)[1]
        numbers = {name: _as_number(name, value) for name, value in self.evaluate(*self._state).items()}
        if self._position() != position:
            raise OptionError("evaluate takes batches of the loader that training goes through: give it one of its own")
        if trees.flatten(self._state)[1] != structure:
            raise OptionError("evaluate changed the state, as by model.eval(): call that inside of a compiled function")
        self._publish({f"eval/{name}": value for name, value in numbers.items()})
        if self.monitor is None:
            return False
        if self.monitor not in numbers:
            raise OptionError(f"monitor is {self.monitor!r}: evaluate gave {', '.join(numbers) or 'nothing'}")
        value = numbers[self.monitor]
        sign = -1 if self.mode == "min" else 1
        if not math.isnan(value) and (self.best is None or sign * value > sign * self.best):
            self.best, self.best_step, self._evaluations_since_best = value, self.step, 0
            return True
        self._evaluations_since_best += 1
        self._check_patience()
        return False

    def _check_patience(self) -> None:
        if self.patience is not None and self._evaluations_since_best >= self.patience:
            self.stop(
                f"{self._evaluations_since_best} evaluations without a better {self.monitor} than"
                f" {self.best}, that of step {self.best_step}"
            )

    def _publish(self, metrics: dict[str, float]) -> None:
        self.history.append((self.step, metrics))
        for callback in self.callbacks:
            callback.on_metrics(self, metrics)

    # -- checkpoints -----------------------------------------------------------------------------------------------

    def _named_state(self) -> dict[str, Any]:
        return dict(zip(self._names, self._state, strict=True))

    def _take(self, state: Mapping[str, Any]) -> None:
        self._state = tuple(state[name] for name in self._names)

    def _save(self, is_best: bool) -> None:
        assert self.checkpoints is not None
        progress = {
            "metrics": self._fetched(),  # raises before a state with NaN is saved
            "best": self.best,
            "best_step": self.best_step,
            "evaluations_since_best": self._evaluations_since_best,
        }
        extra = {"progress": progress, "loader": self._position()}
        self.checkpoints.save(self.step, self._named_state(), extra)
        if is_best:
            self.checkpoints.mark_best(self.step)

    def _resume(self) -> None:
        """Goes on from the latest checkpoint, unless this Trainer is past it."""
        if self.checkpoints is None or (self.checkpoints.latest() or 0) <= self.step:
            return
        self.step, state, extra = self.checkpoints.restore(like=self._named_state())
        self._take(state)
        self.loader.load_state_dict(extra["loader"])  # type: ignore[attr-defined]
        progress = extra["progress"]
        self.best, self.best_step = progress["best"], progress["best_step"]
        self._evaluations_since_best = progress["evaluations_since_best"]
        self._values = defaultdict(list, progress["metrics"])
        if self.best_step == self.step:  # killed before it was marked, maybe
            self.checkpoints.mark_best(self.step)
        log.info("resumed from step %d, %s", self.step, self.checkpoints.path(self.step))


def average(function: Callable[..., Mapping[str, Any]], loader: Iterable[Any]) -> dict[str, float]:
    """The mean of what a function says about each batch of a loader, weighted by the number of samples.

    Args:
        function: takes a batch, as the step of a :class:`Trainer` does, and returns a dict of scalars which are means
            over its samples.
        loader: gives batches, one epoch.

    Raises:
        ValueError: the loader gives no batch.

    >>> from volta_mlir.data import DataLoader
    >>> average(lambda x: {"mean": x.mean()}, DataLoader(np.arange(5.0), batch_size=3))
    {'mean': 2.0}
    """
    sums: dict[str, float] = defaultdict(float)
    count = 0
    for batch in loader:
        samples = _samples(batch)
        count += samples
        for name, value in _called(function, (), batch).items():
            sums[name] += samples * _as_number(name, value)
    if not count:
        raise OptionError("the loader gave no batch")
    return {name: total / count for name, total in sums.items()}


class CSVLogger(Callback):
    """Writes metrics to a CSV file with the columns ``step,metric,value``; a run that is resumed goes on in it.

    Rows of steps after the one that is resumed from, which are trained again, are removed.

    Args:
        path: the file; its directory is made.

    Example:
        >>> trainer = Trainer(lambda total, x: (total + x, 0.5), 0, [1, 2, 3], callbacks=[CSVLogger("/tmp/volta.csv")])
        >>> _ = trainer.fit(epochs=1)
        >>> Path("/tmp/volta.csv").read_text().splitlines()[:2]
        ['step,metric,value', '3,train/loss,0.5']
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def on_start(self, trainer: Trainer) -> None:
        rows = []
        if trainer.step and self.path.exists():
            with open(self.path, newline="") as old:
                # The last row may be cut off where a run was killed.
                rows = [r for r in csv.reader(old) if len(r) == 3 and r[0].isdigit() and int(r[0]) <= trainer.step]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows([("step", "metric", "value"), *rows])
        with replacing(self.path, durable=False) as file:
            file.write(text.getvalue().encode())

    def on_metrics(self, trainer: Trainer, metrics: Mapping[str, float]) -> None:
        with open(self.path, "a", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(
                (trainer.step, name, value) for name, value in metrics.items()
            )


class TensorBoardLogger(Callback):
    """Writes metrics to an event file that TensorBoard shows, with the library tensorboardX.

    A run that is resumed writes another file to the same directory, which says from which step on it replaces those
    before.

    Args:
        directory: where the event files are written.

    Raises:
        ImportError: tensorboardX is not installed: ``pip install 'volta-mlir[tensorboard]'``.

    Example:
        >>> import glob, tempfile
        >>> directory = tempfile.mkdtemp()
        >>> trainer = Trainer(lambda total, x: (total + x, 0.5), 0, [1, 2], callbacks=[TensorBoardLogger(directory)])
        >>> trainer.fit(epochs=1)
        3
        >>> len(glob.glob(f"{directory}/events.out.tfevents.*"))
        1
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        try:
            self._writer_type = importlib.import_module("tensorboardX").SummaryWriter
        except ImportError as error:
            raise ImportError(
                "TensorBoardLogger needs the library tensorboardX: pip install 'volta-mlir[tensorboard]'"
            ) from error
        self.directory = Path(directory)
        self._writer: Any = None

    def on_start(self, trainer: Trainer) -> None:
        # Without purge_step TensorBoard draws what a killed run had logged after its last checkpoint twice.
        purge = trainer.step + 1 if trainer.step else None
        self._writer = self._writer_type(str(self.directory), purge_step=purge, flush_secs=10)

    def on_metrics(self, trainer: Trainer, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, trainer.step)

    def on_end(self, trainer: Trainer) -> None:
        if self._writer is not None:
            self._writer.close()


class _Progress(Callback):
    """Shows what happens: a bar on a terminal, messages of the logger elsewhere."""

    def __init__(self) -> None:
        self._bar: Bar | None = None

    def on_start(self, trainer: Trainer) -> None:
        if Bar.is_possible():
            self._bar = Bar("training", trainer.step, trainer.last_step)

    def on_step(self, trainer: Trainer) -> None:
        if self._bar is not None:
            self._bar.move_to(trainer.step)

    def on_metrics(self, trainer: Trainer, metrics: Mapping[str, float]) -> None:
        is_training = next(iter(metrics), "").startswith("train/")
        line = ", ".join(_shown(name.partition("/")[2], value) for name, value in metrics.items())
        where = f"step {trainer.step}" if trainer.epoch is None else f"step {trainer.step} (epoch {trainer.epoch})"
        if self._bar is None:
            log.info("%s: %s", where, line if is_training else f"evaluation: {line}")
        elif is_training:
            self._bar.describe(line)
        else:
            self._bar.print(f"{where}: {line}")

    def on_end(self, trainer: Trainer) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class _Clock:
    """How long the steps since the last message took, and what was trained on in them."""

    def __init__(self) -> None:
        self._begin = time.perf_counter()
        self._samples = self._tokens = 0

    def count(self, batch: Any, tokens: Callable[[Any], int] | None) -> None:
        """Counts a batch that was trained on."""
        self._samples += _samples(batch)
        self._tokens += tokens(batch) if tokens is not None else 0

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leaves the time of the block out."""
        begin = time.perf_counter()
        yield
        self._begin += time.perf_counter() - begin

    def rates(self) -> dict[str, float]:
        """Samples and tokens per second, as far as there are any."""
        seconds = time.perf_counter() - self._begin
        counts = {"samples_per_second": self._samples, "tokens_per_second": self._tokens}
        return {name: count / seconds for name, count in counts.items() if count}


@contextmanager
def _interrupts() -> Iterator[Callable[[], bool]]:
    """In the block Ctrl-C only makes a function true, so that no step is cut in two; a second one raises.

    Elsewhere than in the main thread, and where somebody else handles Ctrl-C, nothing changes.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield lambda: False
        return
    was_pressed = False

    def press(number: int, frame: Any) -> None:
        nonlocal was_pressed
        was_pressed = True
        signal.signal(signal.SIGINT, signal.default_int_handler)
        log.warning("interrupted: training stops after this step; press Ctrl-C again to stop at once")

    signal.signal(signal.SIGINT, press)
    try:
        yield lambda: was_pressed
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _peak_memory() -> int:
    """The most bytes that the process had in memory so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts in KiB


def _called(function: Callable[..., Any], state: tuple[Any, ...], batch: Any) -> Any:
    if isinstance(batch, dict):
        return function(*state, **batch)
    return function(*state, *(batch if isinstance(batch, tuple | list) else (batch,)))


def _samples(batch: Any) -> int:
    """The number of samples of a batch: rows of its first array."""
    shape = next((np.shape(leaf) for leaf in trees.leaves(batch)), ())
    return shape[0] if shape else 1


def _is_due(step: int, every: int | None) -> bool:
    return every is not None and step % every == 0


def _as_number(name: str, value: Any) -> float:
    array = np.asarray(value)
    if array.size != 1:
        raise ShapeError(f"the metric {name} has the shape {array.shape}: expected one number")
    return float(array.reshape(()))


def _shown(name: str, value: float) -> str:
    if name == "peak_memory":
        return f"{format_bytes(value)} at the peak"
    if name.endswith("_per_second"):
        return f"{value:,.0f} {name.removesuffix('_per_second')}/s"
    return f"{name} {value:.4g}"


def _parameter_names(function: Callable[..., Any], count: int) -> list[str]:
    """The names of a function's first parameters, by which a checkpoint names the parts of the state."""
    parameters = list(inspect.signature(function).parameters.values())[:count]
    named = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return named if len(named) == count else [f"state{i}" for i in range(count)]
