"""The tables of the outbox's file, the statements that use them, and the checksums of their rows. No I/O."""

from __future__ import annotations

import math
import zlib
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from limpet.delivery.outbox import CLASSES, LARGEST, MOST_ITEMS, OVERHEAD, Class, is_owner, item_array
from limpet.errors import UnreadableError
from limpet.untrusted import reading

if TYPE_CHECKING:
    from collections.abc import Sequence

FORMAT = 3
"""The ``PRAGMA user_version`` of the tables below."""

PAGE = 4096
"""Bytes of a page."""

LARGEST_PAYLOAD = LARGEST + item_array.MOST_OVERHEAD * (MOST_ITEMS + 1)
"""Bytes of the items of a row, at most. More of them in a file is damage."""

HIGHEST = (1 << 62) - 1
"""Sequence numbers end here."""

NEWEST = HIGHEST - (1 << 59)
"""A file with a higher number is renumbered when it is opened, so that there are always numbers left."""

Row: TypeAlias = "tuple[int, str, int, str, float, float, int, int, int, int, bytes]"
"""Results or an event: the columns of its table.

``payload`` has the items, as in ``item_array``; if ``packed`` is 1, compressed by zlib. ``crc`` is its checksum,
``head`` that of all other columns and of the table's name.
"""

_TABLES = """
CREATE TABLE total (
  kind TEXT PRIMARY KEY, messages INTEGER NOT NULL, bytes INTEGER NOT NULL, head INTEGER NOT NULL);
CREATE TABLE shed (cause TEXT PRIMARY KEY, items INTEGER NOT NULL, head INTEGER NOT NULL);
"""
_TABLE = """
CREATE TABLE $kind (
  sequence INTEGER PRIMARY KEY, pipeline TEXT NOT NULL, items INTEGER NOT NULL, boot TEXT NOT NULL,
  born REAL NOT NULL, wall REAL NOT NULL, size INTEGER NOT NULL, packed INTEGER NOT NULL,
  crc INTEGER NOT NULL, head INTEGER NOT NULL, payload BLOB NOT NULL);
"""
_TOTAL = "INSERT INTO total VALUES ('$kind', 0, 0, $check);"
_HEAD = "sequence, pipeline, items, boot, born, wall, size, packed, crc, head"
SELECT_HEADS = f"SELECT {_HEAD} FROM $kind WHERE sequence > ? ORDER BY sequence LIMIT ?"  # noqa: S608 - constants
SELECT = f"""
SELECT {_HEAD}, CASE WHEN typeof(payload) = 'blob' AND length(payload) <= {LARGEST_PAYLOAD} THEN payload END
FROM $kind WHERE sequence > ? AND sequence <= ? ORDER BY sequence LIMIT ?
"""  # noqa: S608 - constants
SUM = "SELECT count(*), total(size) FROM $kind WHERE sequence BETWEEN ? AND ?"
INSERT = "INSERT INTO $kind VALUES "
PLACES = "(?,?,?,?,?,?,?,?,?,?,?)"


def create() -> str:
    """Return the statements that make the tables."""
    tables = (of(kind, _TABLE + _TOTAL).replace("$check", str(check("total", kind, 0, 0))) for kind in CLASSES)
    return _TABLES + "".join(tables)


def of(kind: Class, statement: str) -> str:
    """Return a statement about the table of a class."""
    return statement.replace("$kind", kind)


def check(*values: str | float) -> int:
    """Return the checksum of values, the name of their table among them."""
    return zlib.crc32(msgspec.msgpack.encode(values))


def is_sound_head(kind: Class, head: Sequence[object]) -> bool:
    """Whether the columns of a row, all but its payload, are what was written."""
    kinds = (int, str, int, str, float, float, int, int, int, int)
    if len(head) != len(kinds) or any(type(value) is not each for value, each in zip(head, kinds, strict=True)):
        return False
    sequence, pipeline, items, _, born, wall, size, packed, _, found = head
    assert isinstance(sequence, int)
    assert isinstance(pipeline, str)
    assert isinstance(items, int)
    assert isinstance(born, float)
    assert isinstance(wall, float)
    assert isinstance(size, int)
    bounded = 0 < sequence <= HIGHEST and 0 <= items <= MOST_ITEMS
    bounded = bounded and OVERHEAD <= size <= OVERHEAD + LARGEST_PAYLOAD
    finite = math.isfinite(born) and math.isfinite(wall) and packed in {0, 1}
    return bounded and finite and is_owner(kind, pipeline) and check(kind, *head[:-1]) == found  # type: ignore[arg-type] # looked at above


def is_sound(kind: Class, row: Sequence[object]) -> bool:
    """Whether a row is what was written."""
    *head, payload = row
    return (
        is_sound_head(kind, head)
        and type(payload) is bytes
        and len(payload) + OVERHEAD == head[6]
        and zlib.crc32(payload) == head[8]
    )


def is_sound_total(row: Sequence[object]) -> bool:
    """Whether a row of the table of totals is what was written."""
    return _is_counted("total", row, (str, int, int, int)) and row[0] in CLASSES


def is_sound_shed(row: Sequence[object]) -> bool:
    """Whether a row of the counts of what was shed is what was written."""
    return _is_counted("shed", row, (str, int, int))


def _is_counted(table: str, row: Sequence[object], kinds: tuple[type, ...]) -> bool:
    if len(row) != len(kinds) or any(type(value) is not each for value, each in zip(row, kinds, strict=True)):
        return False
    name, *counts, found = row
    small = all(isinstance(count, int) and 0 <= count < 1 << 53 for count in counts)
    text = isinstance(name, str) and len(name) <= 100 and name.isprintable()
    return small and text and check(table, name, *counts) == found  # type: ignore[arg-type] # looked at above


def items_of(row: Row) -> tuple[bytes, ...]:
    """Return the items of a sound row. ``UnreadableError`` if they do not unpack, or are too large or too few."""
    payload, packed, count = row[10], row[7], row[2]
    return item_array.split(_decompressed(payload) if packed else payload, count)


def _decompressed(payload: bytes) -> bytes:
    with reading("a payload"):
        stream = zlib.decompressobj()
        plain = stream.decompress(payload, LARGEST_PAYLOAD)
    if not stream.eof:
        raise UnreadableError("a payload does not unpack")
    return plain
