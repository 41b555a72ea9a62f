"""Records on a stream of bytes: four bytes of length, little-endian, then msgpack.

``limpet.wire.channel`` has the same on sockets between processes, with file descriptors and without waiting.
"""

from __future__ import annotations

import struct
from typing import IO, Any, Protocol, TypeVar

import msgspec

from limpet.errors import UnreadableError
from limpet.untrusted import reading

LENGTH = struct.Struct("<I")

R = TypeVar("R")


class Readable(Protocol):
    """What is read from."""

    def read(self, size: int, /) -> bytes:
        """Return so many bytes, fewer at the end."""


def framed(payload: bytes) -> bytes:
    """Return msgpack with its length in front."""
    return LENGTH.pack(len(payload)) + payload


def write(file: IO[bytes], record: Any) -> None:
    """Write a record."""
    file.write(framed(msgspec.msgpack.encode(record)))


def read(file: Readable, kind: type[R], largest: int) -> R:
    """Read a record of at most ``largest`` bytes.

    ``EOFError`` if the stream ends early, ``UnreadableError`` if it is not such a record.
    """
    (length,) = LENGTH.unpack(exactly(file, LENGTH.size))
    if length > largest:
        raise UnreadableError(f"the stream is damaged: a record has {length} bytes, the limit is {largest}")
    data = exactly(file, length)
    with reading("a record of the stream"):
        return msgspec.msgpack.decode(data, type=kind)


def exactly(file: Readable, size: int) -> bytes:
    """Read so many bytes. ``EOFError`` if there are fewer."""
    data = file.read(size)
    if len(data) < size:
        raise EOFError("the stream ended too early")
    return data
