"""The records of the write-ahead log: how they are written, and read again from a damaged file. No I/O."""

from __future__ import annotations

import math
import struct
import zlib
from typing import TYPE_CHECKING

import msgspec

from limpet.delivery.outbox import LARGEST, Class, item_array
from limpet.errors import UnreadableError
from limpet.untrusted import reading

if TYPE_CHECKING:
    from collections.abc import Iterator

SEGMENT = 1024 * 1024
"""Bytes after which another file is begun."""

FORMAT = 2
MARK = b"limpetj"
"""A file begins with this and a byte that says its format."""

_SYNC = b"\xa5\x5aLj"
"""Each record begins with this, so that the next one is found after a damaged one."""

_HEAD = struct.Struct("<4sII")
MOST_MESSAGES = 100_000
"""Messages that are read of all files. More would not fit into memory."""

LARGEST_FILE = SEGMENT + LARGEST + 4096
"""Bytes of a file, at most. The record that makes it longer than a segment is its last."""

START = MARK + bytes([FORMAT])
"""The first bytes of a file."""

_ENCODER = msgspec.msgpack.Encoder()


class Item(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One result or event."""

    kind: Class
    pipeline: str
    payload: bytes


class Record(msgspec.Struct, array_like=True):
    """What came at one time. Everything that came before ``safe`` is acknowledged or in the database."""

    boot: str
    born: float
    safe: float
    items: list[Item]


class _Sealed(msgspec.Struct, array_like=True):
    """A record whose items are not decoded yet: they may be many more than there is memory for."""

    boot: str
    born: float
    safe: float
    items: msgspec.Raw

    @property
    def count(self) -> int:
        """How many items it says that it has."""
        return item_array.array_length(bytes(self.items)[:5])


def encode(record: Record) -> bytes:
    """Return a record as it stands in a file."""
    body = _ENCODER.encode(record)
    return _HEAD.pack(_SYNC, len(body), zlib.crc32(body)) + body


def split(items: list[Item]) -> Iterator[list[Item]]:
    """Split what came at one time into records of about a segment at most. No items make one record, too."""
    part: list[Item] = []
    size = 0
    for item in items:
        if part and size + len(item.payload) > SEGMENT:
            yield part
            part, size = [], 0
        part.append(item)
        size += len(item.payload)
    yield part


def parse(data: bytes, most: int = MOST_MESSAGES) -> tuple[list[Record], int]:
    """Return a file's records of ``most`` messages in all, and how many places between them could not be read.

    A record that is cut short by the end of the file is no damage: the process ended while it wrote it.
    """
    start = len(START)
    damaged = int(len(data) >= start and data[:start] != START)
    records: list[Record] = []
    at = start
    # A stranger's file may begin a thousand overlapping records: the effort of reading them is bounded.
    budget = 8 * len(data)
    while at < len(data):
        record, after = _record(data, at, most)
        if record:
            records.append(record)
            most -= len(record.items)
            at = after
            continue
        after, budget = _next(data, at, most, budget)
        damaged += after < len(data) or not _is_torn(data, at)
        at = after
    return records, damaged


def _record(data: bytes, at: int, most: int) -> tuple[Record | None, int]:
    """Return the record at a place, ``None`` if it is damaged, and where the next one begins."""
    if at + _HEAD.size > len(data):
        return None, at
    sync, length, crc = _HEAD.unpack_from(data, at)
    body = data[at + _HEAD.size : at + _HEAD.size + length]
    if sync != _SYNC or len(body) < length or zlib.crc32(body) != crc:
        return None, at
    try:
        with reading("a record"):
            sealed = msgspec.msgpack.decode(body, type=_Sealed)
            if sealed.count > most:
                return None, at
            record = msgspec.msgpack.decode(body, type=Record)
    except UnreadableError:
        return None, at
    # A time in the far future would make all other records look old.
    if not (math.isfinite(record.born) and 0 <= record.safe <= record.born):
        return None, at
    return record, at + _HEAD.size + length


def _next(data: bytes, at: int, most: int, budget: int) -> tuple[int, int]:
    """Return where the next sound record begins, the end if there is none, and what is left of the budget."""
    budget -= _effort(data, at)
    while budget > 0 and 0 <= (at := data.find(_SYNC, at + 1)) <= len(data) - _HEAD.size:
        if _record(data, at, most)[0]:
            return at, budget
        budget -= _effort(data, at)
    return len(data), budget


def _effort(data: bytes, at: int) -> int:
    """Return how many bytes were looked at to find that a record is damaged."""
    if at + _HEAD.size > len(data):
        return _HEAD.size
    length: int = _HEAD.unpack_from(data, at)[1]
    return _HEAD.size + min(length, len(data))


def _is_torn(data: bytes, at: int) -> bool:
    """Whether a record is cut short by the end of the file."""
    head = data[at : at + _HEAD.size]
    if len(head) < _HEAD.size:
        return head[:4] == _SYNC[: len(head)]
    sync, length, _ = _HEAD.unpack(head)
    return bool(sync == _SYNC and at + _HEAD.size + length > len(data) and length <= LARGEST_FILE)
