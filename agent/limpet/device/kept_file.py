"""A file of the state directory with a checksum: what a worker learned or was taught, read as foreign data."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import msgspec

from limpet.device import state_files
from limpet.errors import UnreadableError
from limpet.sha256 import sha256
from limpet.untrusted import read_file, reading

if TYPE_CHECKING:
    from pathlib import Path

T = TypeVar("T", bound=msgspec.Struct)

DIGEST = 64
"""Bytes of the checksum before the rest."""


def encode(kept: msgspec.Struct) -> bytes:
    """Return the content of a file."""
    data = msgspec.msgpack.encode(kept)
    return checksum(data) + data


def decode(content: bytes, kind: type[T]) -> T:
    """Return what a file's content has. ``UnreadableError`` says why it cannot be used."""
    with reading("it"):
        digest, data = content[:DIGEST], content[DIGEST:]
        if checksum(data) != digest:
            raise ValueError("its checksum is wrong")
        return msgspec.msgpack.decode(data, type=kind)


def read(path: Path, largest: int) -> bytes | None:
    """Return a file's content, ``None`` if there is no file. ``UnreadableError`` says why it cannot be used."""
    try:
        return read_file(path, largest)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UnreadableError(error.strerror or "it cannot be read") from error


def load(path: Path, kind: type[T], largest: int) -> T | None:
    """Return what a file has, ``None`` if there is no file. ``UnreadableError`` says why it cannot be used."""
    content = read(path, largest)
    return None if content is None else decode(content, kind)


def save(path: Path, kept: msgspec.Struct) -> None:
    """Write a file so that after a power cut it is either the old one or the new one. ``OSError``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if state_files.is_irregular(path):
        state_files.remove(path)
    state_files.replace(path, encode(kept))


def checksum(data: bytes) -> bytes:
    """Return the SHA-256 of the rest of a file, in hexadecimal."""
    whole = sha256(len(data))
    whole.update(data)
    return whole.hexdigest().encode()
