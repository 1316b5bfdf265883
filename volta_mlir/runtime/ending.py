"""The end of the process while daemon threads make calls.

A thread that comes back from native code when the interpreter is gone is unwound by Python, through frames of C++ that
abort the process. So calls that are under way are waited for, and threads that begin one then wait until the process
has ended.
"""

from __future__ import annotations

import atexit
import threading
import time
from threading import get_ident

#: The most seconds that the end of the process waits for calls.
PATIENCE = 60.0

_depths: dict[int, int] = {}  # how many calls each thread is in
_ending: int | None = None  # the thread that ends the process, which may still call


class _UnderWay:
    """Marks, in a ``with`` block, that this thread is in a call. It may be nested."""

    def __enter__(self) -> None:
        me = get_ident()
        depth = _depths.get(me, 0)
        _depths[me] = depth + 1  # before the other thread's mark is read
        if depth == 0 and _ending not in (None, me):
            del _depths[me]
            threading.Event().wait()

    def __exit__(self, *error: object) -> None:
        me = get_ident()
        depth = _depths[me] - 1
        if depth:
            _depths[me] = depth
        else:
            del _depths[me]


under_way = _UnderWay()


@atexit.register
def _end() -> None:
    global _ending
    _ending = get_ident()
    deadline = time.monotonic() + PATIENCE
    while _depths.keys() - {_ending} and time.monotonic() < deadline:
        time.sleep(0.001)
