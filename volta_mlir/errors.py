"""The exceptions that Volta raises.

Every message says what was given, what was expected and the way out. ``location`` is the user's
``file:line`` where it is known; it is shown after the message.
"""

from __future__ import annotations

import warnings
from pathlib import Path

from volta_mlir.frames import user_location


def warn(message: str) -> None:
    """Gives a warning that points at the user's line."""
    file, _, line = (user_location() or "unknown:0").rpartition(":")
    warnings.warn_explicit(message, UserWarning, file, int(line))


class VoltaError(Exception):
    """Base of every exception that Volta raises on purpose.

    Attributes:
        message: the text without the location.
        location: the user's ``"file:line"``, or None where there is none to name.
        is_placed: whether whoever raised it named the location, rather than the line that was running.
    """

    #: Whether the line that runs when the error is raised is the one to blame, where no other is given.
    blames_caller = False

    def __init__(self, message: str, *, location: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.is_placed = location is not None
        self.location = location or (user_location() if self.blames_caller else None)

    def __str__(self) -> str:
        return f"{self.message} (at {self.location})" if self.location else self.message


class ShapeError(VoltaError, ValueError):
    """Shapes, or the structures of trees, do not fit together."""

    blames_caller = True


class DTypeError(VoltaError, TypeError):
    """An element type is not the expected one, or is not supported."""

    blames_caller = True


class OptionError(VoltaError, ValueError):
    """An argument, such as a mode or a probability, is not one of those that are possible."""

    blames_caller = True


class TraceError(VoltaError):
    """Python code cannot be traced: it needs a value that is known only when the program runs."""

    blames_caller = True


class CompileError(VoltaError):
    """The compiler refused a program or crashed on it.

    Attributes:
        reproducer: directory with ``module.mlir`` and ``command.txt``, or None where nothing could be written.
    """

    def __init__(self, message: str, *, location: str | None = None, reproducer: Path | None = None) -> None:
        super().__init__(message, location=location)
        self.reproducer = reproducer

    def __str__(self) -> str:
        text = super().__str__()
        return f"{text}\nreproducer: {self.reproducer}" if self.reproducer else text


class AliasError(VoltaError):
    """A donation cannot be carried out: the argument and the result cannot share one buffer."""


class BudgetError(VoltaError):
    """A memory budget cannot be met."""


class DeviceError(VoltaError):
    """A device or its driver is missing, or an operation on it failed."""


class DonatedError(VoltaError):
    """A buffer is used after it was donated to a call."""

    blames_caller = True


class NaNError(VoltaError, FloatingPointError):
    """A result is NaN, while :class:`volta_mlir.debug_nans` is on."""

    blames_caller = True


class ArtifactError(VoltaError):
    """A compiled file is corrupt, was not made by Volta, or was made by an incompatible version."""


class WeightsError(VoltaError, ValueError):
    """A file of weights or a checkpoint is damaged, is of no known format, or holds what Volta does not read."""


class CacheError(VoltaError):
    """The compilation cache is configured wrongly."""
