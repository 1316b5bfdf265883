"""A disk cache of bytes, shared by processes: atomic, checked, and bounded in size.

An entry is one file: a SHA-256 of the data, then the data. Files are written under a temporary name and renamed, so
that readers see whole entries or none. A read touches the file, and the files that were touched longest ago go first.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
from pathlib import Path

from volta_mlir.atomic import replacing
from volta_mlir.errors import CacheError

log = logging.getLogger("volta.cache")

_DIGEST_BYTES = 32
_SUFFIX = ".bin"
_DEFAULT_MAX_BYTES = 2 << 30
# Directories that could not be written, so that each is named once per process.
_warned: set[Path] = set()


class Cache:
    """A cache in one directory.

    A directory that is full or not writable makes it forgetful, never an error: one warning per directory is logged.

    Args:
        directory: by default ``$VOLTA_CACHE_DIR``, else ``$XDG_CACHE_HOME/volta``, else ``~/.cache/volta``.
            Without an explicit directory, ``VOLTA_CACHE=0`` switches the cache off, and so does a user without a home.
        max_bytes: bound on the sum of the entries' sizes.

    Raises:
        CacheError: ``max_bytes`` is not positive.
    """

    def __init__(self, directory: str | os.PathLike[str] | None = None, max_bytes: int = _DEFAULT_MAX_BYTES) -> None:
        if max_bytes <= 0:
            raise CacheError(f"max_bytes is {max_bytes}: expected a positive size; set VOLTA_CACHE=0 to cache nothing")
        self.max_bytes = max_bytes
        self.directory: Path | None = Path(directory) if directory is not None else _default_directory()

    @staticmethod
    def key(*parts: str | bytes) -> str:
        """SHA-256 hex over the parts; ``("ab", "c")`` and ``("a", "bc")`` differ."""
        digest = hashlib.sha256()
        for part in parts:
            data = part.encode() if isinstance(part, str) else part
            digest.update(len(data).to_bytes(8, "little"))
            digest.update(data)
        return digest.hexdigest()

    def get(self, key: str) -> bytes | None:
        """The data stored under ``key``, or None. An entry that was damaged is removed."""
        if self.directory is None:
            return None
        path = self._path(key)
        try:
            content = path.read_bytes()
        except OSError:
            return None
        digest, data = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
        intact = hashlib.sha256(data).digest() == digest
        if not intact:
            log.warning("removing a damaged cache entry: %s", path)
        with contextlib.suppress(OSError):  # a read-only directory, or another process removed it
            if intact:
                os.utime(path)
            else:
                path.unlink()
        return data if intact else None

    def put(self, key: str, data: bytes) -> None:
        """Stores ``data`` under ``key``, and removes the entries used longest ago where there are too many bytes."""
        if self.directory is None or len(data) + _DIGEST_BYTES > self.max_bytes:
            return
        path = self._path(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path, durable=False) as file:
                file.write(hashlib.sha256(data).digest() + data)
            self._evict()
        except OSError as error:
            if self.directory not in _warned:
                _warned.add(self.directory)
                log.warning("compiled modules are not cached: cannot write to %s (%s)", self.directory, error.strerror)

    def usage(self) -> tuple[int, int]:
        """The number of entries, and the sum of their sizes in bytes."""
        entries = self._entries()
        return len(entries), sum(size for _, size, _ in entries)

    def clear(self) -> None:
        """Removes all entries.

        Raises:
            OSError: the directory cannot be written.
        """
        for _, _, path in self._entries():
            Path(path).unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        assert self.directory is not None
        return self.directory / "entries" / (key + _SUFFIX)

    def _entries(self) -> list[tuple[int, int, str]]:
        """(time of the last use, size, path) of each entry."""
        if self.directory is None or not (self.directory / "entries").is_dir():
            return []
        entries = []
        for file in os.scandir(self.directory / "entries"):
            with contextlib.suppress(FileNotFoundError):  # another process evicts too
                status = file.stat()
                entries.append((status.st_mtime_ns, status.st_size, file.path))
        return entries

    def _evict(self) -> None:
        entries = self._entries()
        total = sum(size for _, size, _ in entries)
        for _, size, path in sorted(entries):
            if total <= self.max_bytes:
                return
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            total -= size


def _default_directory() -> Path | None:
    if os.environ.get("VOLTA_CACHE") == "0":
        return None
    if directory := os.environ.get("VOLTA_CACHE_DIR"):
        return Path(directory)
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return None if base.startswith("~") else Path(base) / "volta"  # there are users without a home
