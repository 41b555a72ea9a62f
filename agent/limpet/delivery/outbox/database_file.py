"""The outbox's file: its tables, its format, its checksums, and what can be wrong with it.

The file is checked as if a stranger had written it. Whatever opening or reading it raises means that it is
damaged, unless the surroundings are to blame: no space, no permission, a disk that does not answer.
"""

from __future__ import annotations

import errno
import math
import os
import sqlite3
import struct
import sys
import zlib
from contextlib import closing, contextmanager
from functools import cache
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from limpet.delivery.outbox import CLASSES, LARGEST, MOST_ITEMS, OVERHEAD, Class, is_owner, sqlite_wal
from limpet.device import state_files
from limpet.errors import LimpetError
from limpet.untrusted import open_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

FORMAT = 2
"""What ``PRAGMA user_version`` says of the tables below."""

_PLAUSIBLE = 1000
"""No later version of Limpet has a higher format; such a number is damage."""

PAGE = 4096
"""Bytes of a page."""

_PRAGMAS = f"""
PRAGMA page_size={PAGE};
PRAGMA journal_mode=WAL;
PRAGMA synchronous=FULL;
PRAGMA wal_autocheckpoint=256;
PRAGMA journal_size_limit=1048576;
PRAGMA cache_size=-512;
PRAGMA temp_store=MEMORY;
PRAGMA cell_size_check=ON;
"""
_SAFE = """
PRAGMA locking_mode=EXCLUSIVE;
PRAGMA trusted_schema=OFF;
PRAGMA mmap_size=0;
"""
"""Exclusive also keeps SQLite from mapping a shared file, which a full disk would turn into a SIGBUS."""

Row: TypeAlias = "tuple[int, str, int, str, float, float, int, int, int, int, bytes]"
"""A message: the columns of its table. ``crc`` is of the payload, ``head`` of all other columns and the table."""

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
HEAD = "sequence, pipeline, items, boot, born, wall, size, packed, crc, head"
HEADS = f"SELECT {HEAD} FROM $kind WHERE sequence > ? ORDER BY sequence LIMIT ?"  # noqa: S608 - constants
SELECT = f"""
SELECT {HEAD}, CASE WHEN typeof(payload) = 'blob' AND length(payload) <= {LARGEST} THEN payload END FROM $kind
WHERE sequence > ? AND sequence <= ? ORDER BY sequence LIMIT ?
"""  # noqa: S608 - constants
SUM = "SELECT count(*), total(size) FROM $kind WHERE sequence BETWEEN ? AND ?"
INSERT = "INSERT INTO $kind VALUES "
PLACES = "(?,?,?,?,?,?,?,?,?,?,?)"
HIGHEST = (1 << 62) - 1
"""Sequence numbers end here."""

NEWEST = HIGHEST - (1 << 59)
"""A file with a higher number is renumbered when it is opened, so that there is always room for more."""

SUFFIXES = ("", "-wal", "-journal", "-shm")
"""The files that SQLite keeps for one database."""

_HEADER = struct.Struct(">16sHBBB3s20xI8xII")
_MAGIC = b"SQLite format 3\0"


class DiskError(LimpetError):
    """The outbox on the disk cannot be used as it is."""


class DiskFullError(DiskError):
    """There is no room left for it. Deleting still works."""


class DiskDamagedError(DiskError):
    """What is in the file is not what was written."""


class DiskGoneError(DiskError):
    """The file was deleted under the running program."""


class DiskNewerError(DiskError):
    """A later version has written the file. It is left as it is."""


def connect(path: Path) -> sqlite3.Connection:
    """Open a file; make it if it is missing or empty.

    ``DiskDamagedError`` where it holds anything else than what this version writes; ``DiskNewerError`` where a
    later version wrote it. Then nothing is written.
    """
    _check_files(path)
    db = sqlite3.connect(path, timeout=0.1, isolation_level=None)
    try:
        # A text that is no UTF-8 is damage of its row, not of the statement that reads it.
        db.text_factory = _text
        if sys.version_info >= (3, 11):
            db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LARGEST + PAGE)
        db.executescript(_SAFE)
        found = _format(path, db)
        db.executescript(_PRAGMAS)
        if not found:
            db.executescript(f"BEGIN IMMEDIATE;{_create()}PRAGMA user_version={FORMAT};COMMIT;")
    except BaseException:
        db.close()
        raise
    return db


def prepare(folder: Path) -> None:
    """Make the outbox's folder in the folder of all reporters.

    A file or FIFO in the place of either is set aside; ``DiskError`` at a symbolic link.
    """
    for each in (folder.parent, folder):
        if each.is_symlink():
            raise DiskError(
                f"{each} is a symbolic link, which Limpet does not follow; "
                "delete it, or mount the other disk there"
            )
        if os.path.lexists(each) and not each.is_dir():
            state_files.set_aside(each)
        each.mkdir(0o700, parents=True, exist_ok=True)


def rescue(path: Path) -> Path:
    """Return the name of the file that takes the place of a damaged one, while it is being written."""
    return path.with_name(f"{path.name}.new")


def finish(path: Path) -> None:
    """Go on where a power cut ended the repair of a damaged file: use the new file, or delete it.

    The damaged file is set aside only when the new one is complete.
    """
    fresh = rescue(path)
    if os.path.lexists(path) or not state_files.is_regular(fresh):
        delete(fresh)
    else:
        fresh.replace(path)


def delete(path: Path) -> None:
    """Delete all files of a database."""
    for suffix in SUFFIXES:
        state_files.remove(path.with_name(path.name + suffix))


def set_strange_aside(path: Path) -> None:
    """Set aside what has the name of one of a database's files and is no regular file."""
    for suffix in SUFFIXES:
        each = path.with_name(path.name + suffix)
        if state_files.strange(each):
            state_files.set_aside(each)


def _check_files(path: Path) -> None:
    """Look at the files before SQLite does, which believes a journal and skips what it cannot read of a log."""
    for suffix in SUFFIXES:
        each = path.with_name(path.name + suffix)
        if state_files.strange(each):
            raise DiskDamagedError(f"{each} is {state_files.kind(each)}; a regular file is expected")
    if state_files.is_regular(path.with_name(f"{path.name}-journal")):
        raise DiskDamagedError(f"{path}-journal: the outbox has no such journal")
    if state_files.is_regular(path):
        with open_file(path) as file:
            _check_header(path, file.read(_HEADER.size))
    log = sqlite_wal.read(path.with_name(f"{path.name}-wal"))
    if log.damaged:
        raise DiskDamagedError(f"{path}-wal: a part of the write-ahead log is not what was written")
    size = path.lstat().st_size if state_files.is_regular(path) else PAGE
    if size % PAGE or (not size and not log.frames):
        raise DiskDamagedError(f"{path}: it ends after {size} bytes")


def _check_header(path: Path, head: bytes) -> None:
    """Refuse a header that is not Limpet's: https://sqlite.org/fileformat2.html, section 1.3."""
    if not head:
        return
    if len(head) < _HEADER.size:
        raise DiskDamagedError(f"{path}: not a database, {len(head)} bytes only")
    magic, page, write, read, reserved, fractions, schema, encoding, version = _HEADER.unpack(head)
    if magic != _MAGIC:
        raise DiskDamagedError(f"{path}: not a database")
    _check_version(path, version)
    sound = (page, reserved, fractions) == (PAGE, 0, b"\x40\x20\x20") and {write, read} <= {1, 2}
    if not sound or schema > 4 or encoding not in {0, 1}:
        raise DiskDamagedError(f"{path}: its header is damaged")


def _check_version(path: Path, found: int) -> None:
    if FORMAT < found <= _PLAUSIBLE:
        raise DiskNewerError(
            f"{path}: a later Limpet wrote it (format {found}, this one knows {FORMAT}) and it is left untouched; "
            "install that version again to have its messages sent, or move the file away to begin an empty one"
        )
    if 0 < found < FORMAT:
        raise DiskDamagedError(f"{path}: a version before the first release wrote it (format {found})")
    if found not in {0, FORMAT}:
        raise DiskDamagedError(f"{path}: there is no format {found}")


def _format(path: Path, db: sqlite3.Connection) -> int:
    """Return the format of an open file, 0 for an empty one, before anything is written to it."""
    (found,) = db.execute("PRAGMA user_version").fetchone()
    _check_version(path, found)
    there = frozenset(db.execute("SELECT type, name, tbl_name, sql FROM sqlite_master LIMIT 20"))
    if there != (_expected() if found else frozenset()):
        raise DiskDamagedError(f"{path}: it has other tables than the outbox")
    return int(found)


@cache
def _expected() -> frozenset[tuple[object, ...]]:
    """Return the schema of a sound file."""
    with closing(sqlite3.connect(":memory:")) as db:
        db.executescript(_create())
        return frozenset(db.execute("SELECT type, name, tbl_name, sql FROM sqlite_master"))


def _create() -> str:
    tables = (of(kind, _TABLE + _TOTAL).replace("$check", str(check("total", kind, 0, 0))) for kind in CLASSES)
    return _TABLES + "".join(tables)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def check(*values: str | float) -> int:
    """Return the checksum of values, the name of their table among them."""
    return zlib.crc32(msgspec.msgpack.encode(values))


def is_sound_head(kind: Class, head: Sequence[object]) -> bool:
    """Whether the columns of a message, all but its payload, are what was written."""
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
    plausible = 0 < sequence <= HIGHEST and 0 <= items <= MOST_ITEMS and OVERHEAD <= size <= OVERHEAD + LARGEST
    finite = math.isfinite(born) and math.isfinite(wall) and packed in {0, 1}
    return plausible and finite and is_owner(kind, pipeline) and check(kind, *head[:-1]) == found  # type: ignore[arg-type] # looked at above


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
    """Whether a row of what was shed is what was written."""
    return _is_counted("shed", row, (str, int, int))


def _is_counted(table: str, row: Sequence[object], kinds: tuple[type, ...]) -> bool:
    if len(row) != len(kinds) or any(type(value) is not each for value, each in zip(row, kinds, strict=True)):
        return False
    name, *counts, found = row
    small = all(isinstance(count, int) and 0 <= count < 1 << 53 for count in counts)
    text = isinstance(name, str) and len(name) <= 100 and name.isprintable()
    return small and text and check(table, name, *counts) == found  # type: ignore[arg-type] # looked at above


def unpacked(row: Row) -> bytes:
    """Return the payload of a sound row. ``ValueError`` if it is longer than any payload, or incomplete."""
    payload, packed = row[10], row[7]
    if not packed:
        return payload
    stream = zlib.decompressobj()
    plain = stream.decompress(payload, LARGEST)
    if not stream.eof:
        raise ValueError("a payload that does not unpack")
    return plain


def of(kind: Class, statement: str) -> str:
    """Make a statement be about the table of a class."""
    return statement.replace("$kind", kind)


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn whatever using a file raises into ``DiskError``."""
    try:
        yield
    except DiskError:
        raise
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise (DiskFullError if full else DiskError)(f"{path}: {error.strerror}") from error
    except sqlite3.Error as error:
        raise _explain(path, error) from error
    except Exception as error:
        raise DiskDamagedError(f"{path}: {error or type(error).__name__}") from error


_SURROUNDINGS = ("unable to open", "locked", "disk i/o error", "readonly", "read-only")
"""What SQLite says where the file is not to blame."""


def _explain(path: Path, error: sqlite3.Error) -> DiskError:
    text = str(error)
    if "is full" in text:
        return DiskFullError(f"{path}: {text}")
    if any(part in text.lower() for part in _SURROUNDINGS):
        return DiskError(f"{path}: {text}")
    return DiskDamagedError(f"{path}: {text}")
