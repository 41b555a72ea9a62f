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
from typing import TYPE_CHECKING

from limpet.errors import DeployError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LARGEST_READ = 1 << 23
"""Bytes of a directory, which has about a hundred for each member, and of any other read."""


class _File(io.FileIO):
    """A file that refuses large reads."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Return at most ``size`` bytes; without a size, what is left, up to the limit."""
        if size is None or size < 0:
            size = LARGEST_READ
        if size > LARGEST_READ:
            raise DeployError(f"{self.name}: its directory has {size} bytes; the limit is {LARGEST_READ}")
        return super().read(size) or b""


def _regular(path: str, flags: int) -> int:
    """Open a file. ``DeployError`` if it is a FIFO, for which the call would wait, or a device."""
    descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise DeployError(f"{path}: is not a regular file")
    return descriptor


@contextmanager
def opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open a zip to read. Errors as of ``zipfile``.

    ``DeployError`` where its directory is too large, or the file is no regular one.
    """
    with _File(path, opener=_regular) as file, zipfile.ZipFile(file) as archive:
        yield archive
