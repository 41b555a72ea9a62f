"""Anonymous files, for data that is too large for a socket between two processes. No numpy."""

from __future__ import annotations

import fcntl
import os
from typing import IO

_SEALS = 2 | 4
"""F_SEAL_SHRINK and F_SEAL_GROW, see fcntl(2)."""


def anonymous_file() -> IO[bytes]:
    """Return an empty file in memory, or an unnamed one on the disk if the system has no files in memory."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("limpet", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING), "r+b")
    import tempfile  # which would take 0.5 MB in every process

    return tempfile.TemporaryFile()


def seal(file: IO[bytes]) -> None:
    """Fix the size of such a file, if the system can."""
    if hasattr(fcntl, "F_ADD_SEALS"):
        fcntl.fcntl(file, fcntl.F_ADD_SEALS, _SEALS)


def sealed(fd: int) -> bool:
    """Whether the size of a file is fixed, so that it cannot shrink while it is mapped.

    One of huge pages does not count: its pages can be taken away, and then there may be none in their place.
    """
    if not hasattr(fcntl, "F_GET_SEALS"):
        return True
    try:
        small = os.fstatvfs(fd).f_bsize == os.sysconf("SC_PAGE_SIZE")
        return small and fcntl.fcntl(fd, fcntl.F_GET_SEALS) & _SEALS == _SEALS
    except OSError:  # another sort of file, which has no seals
        return False
