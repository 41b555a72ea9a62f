"""Bytes from outside: another process, the network, or the disk.

Decoding does no I/O, so any exception that it raises has one meaning: these bytes could not be read. Every place
that decodes such bytes uses ``reading``, and catches ``UnreadableError`` where it knows who sent them. Only the
sender fails.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from limpet.errors import LimpetError, UnreadableError

if TYPE_CHECKING:
    from pathlib import Path
    from typing import BinaryIO


class _Reading:
    """As a generator would be, in a third of the time: each record of a channel is read so."""

    __slots__ = ("_what",)

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        """Begin to decode."""

    def __exit__(self, _kind: object, error: BaseException | None, _where: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, LimpetError):
            reason = " ".join(str(error).split())[:200]
            raise UnreadableError(f"{self._what} could not be read: {reason or type(error).__name__}") from error


def reading(what: str) -> _Reading:
    """Turn everything that decoding raises into ``UnreadableError``. ``what`` names the bytes in its text.

    A ``LimpetError`` passes unchanged: its text already says what is wrong.
    """
    return _Reading(what)


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
