"""The checksum at the end of a ``.vmfb``, behind what IREE reads.

IREE checks the structure of a file, but not all of it: some files with a few wrong bits crash it, and one whose end is
missing may run.
"""

from __future__ import annotations

import hashlib

from volta_mlir.errors import ArtifactError

_MARK = b"volta:sha256:"
_LENGTH = len(_MARK) + hashlib.sha256().digest_size


def seal(program: bytes) -> bytes:
    """``program`` with its checksum at the end."""
    return program + _MARK + hashlib.sha256(program).digest()


def unseal(data: bytes) -> bytes:
    """The program that was sealed.

    Raises:
        ArtifactError: the data has no checksum, or another one.
    """
    program, end = data[:-_LENGTH], data[-_LENGTH:]
    if not end.startswith(_MARK):
        raise ArtifactError(
            "it does not end in Volta's checksum: either a part is missing, or Volta did not make it; a module that"
            " iree-compile made runs with iree-run-module or iree.runtime"
        )
    if end != _MARK + hashlib.sha256(program).digest():
        raise ArtifactError("it is damaged: its contents do not have the checksum at its end")
    return program
