"""Shows that long work is going on: a line on a terminal, nothing anywhere else."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

#: Seconds before anything is shown: short work stays silent.
DELAY = 1.0


@contextmanager
def working(what: str) -> Iterator[None]:
    """While the body runs for more than :data:`DELAY` seconds, a spinner with ``what`` and the elapsed time.

    >>> with working("compiling"):
    ...     pass
    """
    if not sys.stderr.isatty() or Bar.shown:
        yield
        return
    done = threading.Event()
    shower = threading.Thread(target=_show, args=(what, done), daemon=True)
    shower.start()
    try:
        yield
    finally:
        done.set()
        shower.join()


class Bar:
    """A progress bar on the terminal, with a line about what is going on.

    Args:
        what: is written before it.
        step: where it begins.
        total: where it ends.
    """

    #: How many are on the terminal: it has room for one thing that moves.
    shown = 0

    def __init__(self, what: str, step: int, total: int | None) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._progress = Progress(*columns, TextColumn("{task.fields[text]}"), console=Console(stderr=True))
        self._task = self._progress.add_task(what, completed=step, total=total, text="")
        self._progress.start()
        Bar.shown += 1

    @staticmethod
    def is_possible() -> bool:
        """Whether there is a terminal."""
        return sys.stderr.isatty()

    def move_to(self, step: int) -> None:
        """Shows so many steps as done."""
        self._progress.update(self._task, completed=step)

    def describe(self, text: str) -> None:
        """Writes a text after the bar."""
        self._progress.update(self._task, text=text)

    def print(self, line: str) -> None:
        """Writes a line above the bar."""
        self._progress.print(line, markup=False, highlight=False)

    def close(self) -> None:
        """Leaves the bar as it is."""
        self._progress.stop()
        Bar.shown -= 1


def _show(what: str, done: threading.Event) -> None:
    if done.wait(DELAY):
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        progress.add_task(what)
        done.wait()
