"""Zips that someone else wrote, opened with a limit on what is read into memory.

``zipfile`` reads the directory of a zip at once, however large the file says that it is. A file with holes may say
that it has gigabytes.
"""

from __future__ import annotations

import io
import os
import stat
import zipfile
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from limpet.errors import DeployError
from limpet.models.sealed import MAGIC, SealedFile

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LARGEST_READ = 1 << 23
"""Bytes of a directory, which has about a hundred for each member, and of any other read."""


class _File(io.FileIO):
    """A file that refuses large reads."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Return at most ``size`` bytes; without a size, what is left, up to the limit."""
        return super().read(_bounded(self, size)) or b""


def _regular(path: str, flags: int) -> int:
    """Open a file. ``DeployError`` if it is a FIFO, for which the call would wait, or a device."""
    descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise DeployError(f"{path}: is not a regular file")
    return descriptor


class _Bounded(io.BufferedReader):
    """The content of an encrypted file, with the limit of ``_File``."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Return at most ``size`` bytes; without a size, what is left, up to the limit."""
        return super().read(_bounded(self.raw, size))


def _bounded(file: Any, size: int | None) -> int:
    if size is None or size < 0:
        return LARGEST_READ
    if size > LARGEST_READ:
        raise DeployError(f"{file.name}: its directory has {size} bytes; the limit is {LARGEST_READ}")
    return size


@contextmanager
def opened(path: Path, key: bytes = b"") -> Iterator[zipfile.ZipFile]:
    """Open a zip to read, with the ``key`` if it is encrypted. Errors as of ``zipfile``.

    ``DeployError`` where its directory is too large, the file is no regular one, or an encrypted one was changed.
    """
    with _File(path, opener=_regular) as file:
        sealed = file.read(len(MAGIC)) == MAGIC
        file.seek(0)
        if not sealed:
            with zipfile.ZipFile(file) as archive:
                yield archive
            return
        if not key:
            raise DeployError(f"{path}: is encrypted; its key is that of updates.encryption_key_file")
        with zipfile.ZipFile(_Bounded(SealedFile(file, str(path), key))) as archive:
            yield archive
