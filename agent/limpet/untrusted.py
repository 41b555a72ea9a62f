"""Bytes from outside: another process, the network, or the disk.

Decoding does no I/O, so any exception that it raises has one meaning: these bytes could not be read. Every place
that decodes such bytes uses ``reading``, and catches ``UnreadableError`` where it knows who sent them. Only the
sender fails.
"""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING

from limpet.errors import LimpetError, UnreadableError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import BinaryIO


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Turn everything that decoding raises into ``UnreadableError``. ``what`` names the bytes in its text.

    A ``LimpetError`` passes unchanged: its text already says what is wrong.
    """
    try:
        yield
    except LimpetError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise UnreadableError(f"{what} could not be read: {reason or type(error).__name__}") from error


def printable(text: str) -> str:
    """Return a text that a terminal can only show. A model's description or name may hold orders for it."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else ascii(c)[1:-1] for c in text)


def read_file(path: Path, largest: int) -> bytes:
    """Return the content of a regular file of at most ``largest`` bytes.

    ``UnreadableError`` if the file is larger, or is a symbolic link, FIFO, device or directory. The call never
    blocks and follows no link in the last part of the path. ``OSError`` as from ``open`` otherwise.
    """
    with open_file(path) as file:
        data = file.read(largest + 1)
    if len(data) > largest:
        raise UnreadableError(f"{path} is larger than {largest} bytes")
    return data


def read_linked_file(path: Path, largest: int) -> bytes:
    """Return the content of a regular file that a link may lead to, with the errors of ``read_file``."""
    try:
        file = path.resolve()
    except RuntimeError as error:
        raise UnreadableError(f"{path} is a symbolic link that leads round in a circle") from error
    return read_file(file, largest)


def open_file(path: Path) -> BinaryIO:
    """Open a regular file for reading, with the errors of ``read_file``."""
    if path.is_symlink():
        raise UnreadableError(f"{path} is a symbolic link; a regular file is expected")
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UnreadableError(f"{path} is not a regular file")
    return os.fdopen(descriptor, "rb")
