"""Paths of Unix sockets. The kernel takes 107 bytes; a longer path is reached by way of its open folder."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LONGEST = 107
"""Bytes of a path in ``sockaddr_un``, without the zero at its end."""


@contextmanager
def reachable(path: Path) -> Iterator[str]:
    """Return an address of a socket's path for as long as the block lasts. ``OSError`` if it has no folder."""
    if len(os.fsencode(path)) <= LONGEST:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
