"""Which line of the user's code is running: for errors, and for the locations of ops."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Iterator, Sequence
from types import CodeType

_PACKAGE = os.path.dirname(os.path.abspath(__file__))
# Layers, optimizers and models are code in the user's sense: they show up as what the user's line called.
_LAYERS = tuple(os.path.join(_PACKAGE, name) + os.sep for name in ("nn", "optim", "models"))
# Those that many lines of a program go through, whether that is the user's own or one of Volta's models.
_SHARED = tuple(os.path.join(_PACKAGE, name) + os.sep for name in ("nn", "optim"))
# Module.__call__ lies between every layer and what it consists of.
_MODULE = os.path.join(_PACKAGE, "nn", "module.py")
# In a source checkout these packages lie beside volta_mlir, in a wheel inside it.
_BESIDE = (os.path.join(os.path.dirname(_PACKAGE), name) for name in ("dialects", "passes", "tools"))
_PLUMBING = tuple(path + os.sep for path in (_PACKAGE, *_BESIDE) if os.path.exists(os.path.join(path, "__init__.py")))


@functools.cache
def is_plumbing(filename: str) -> bool:
    """Whether a file belongs to what lies between the user's call and the op."""
    return filename == _MODULE or (filename.startswith(_PLUMBING) and not filename.startswith(_LAYERS))


def most_telling(files: Sequence[str]) -> int:
    """Which of the files that led to an op, innermost first, tells most: the first that is not a layer's."""
    return next((i for i, file in enumerate(files) if not file.startswith(_SHARED)), 0)


def user_frames(limit: int, stop: CodeType | None = None) -> Iterator[tuple[str, int]]:
    """(file, line) of the running frames outside the plumbing, innermost first, up to a frame of the code ``stop``."""
    frame = sys._getframe(1)
    while frame is not None and limit > 0:
        code = frame.f_code
        if code is stop:
            return
        # What dataclasses generate, such as an optimizer's __init__, has no file.
        is_generated = code.co_filename == "<string>" and frame.f_globals.get("__name__", "").startswith("volta_mlir.")
        if not is_generated and not is_plumbing(code.co_filename):
            yield code.co_filename, frame.f_lineno
            limit -= 1
        frame = frame.f_back  # type: ignore[assignment]  # None at the bottom of the stack


def user_location() -> str | None:
    """``file:line`` of the innermost user frame that is not a library's layer, else of the innermost one, else None."""
    first = None
    for filename, line in user_frames(32):
        if not filename.startswith(_LAYERS):
            return f"{filename}:{line}"
        first = first or f"{filename}:{line}"
    return first
