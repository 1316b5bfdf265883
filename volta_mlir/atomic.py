"""Files that are whole or not there."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

#: What the name of a file ends in while it is written.
UNFINISHED = ".unfinished"


@contextmanager
def replacing(path: str | os.PathLike[str], durable: bool = True) -> Iterator[BinaryIO]:
    """A file to write, which takes its name when the block ends, in the place of one that had it before.

    Readers see the old file or the new one, whole. Where the block raises, or the disk is full, the old one stays.

    Args:
        path: the name.
        durable: whether the file also survives a loss of power once the block has ended.

    Raises:
        OSError: the directory cannot be written, or is full.

    Example:
        >>> with replacing("/tmp/volta-greeting") as file:
        ...     _ = file.write(b"hello")
        >>> Path("/tmp/volta-greeting").read_bytes()
        b'hello'
    """
    path = Path(path)
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}{UNFINISHED}")
    try:
        with open(unfinished, "xb") as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.replace(unfinished, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(unfinished)
        raise
    if durable:
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)  # the name is a part of the directory
        finally:
            os.close(directory)
