"""The outbox's file: its tables, its format, and what can be wrong with it."""

from __future__ import annotations

import errno
import sqlite3
import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias

from limpet.errors import LimpetError
from limpet.outbox import CLASSES, Class

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_MIGRATIONS: tuple[str, ...] = ()
"""SQL that makes each earlier format the next one, in order. A released format never changes."""

FORMAT = 1 + len(_MIGRATIONS)
"""What ``PRAGMA user_version`` says of the tables below."""

_PRAGMAS = """
PRAGMA page_size=4096;
PRAGMA journal_mode=WAL;
PRAGMA synchronous=FULL;
PRAGMA wal_autocheckpoint=256;
PRAGMA journal_size_limit=1048576;
PRAGMA cache_size=-512;
PRAGMA temp_store=MEMORY;
PRAGMA cell_size_check=ON;
"""
Row: TypeAlias = "tuple[int, str, int, str, float, float, int, int, int, bytes]"

_TOTALS = """
CREATE TABLE IF NOT EXISTS total (kind TEXT PRIMARY KEY, messages INTEGER NOT NULL, bytes INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS shed (cause TEXT PRIMARY KEY, items INTEGER NOT NULL);
"""
_TABLE = """
CREATE TABLE IF NOT EXISTS $kind (
  sequence INTEGER PRIMARY KEY, pipeline TEXT NOT NULL, items INTEGER NOT NULL, boot TEXT NOT NULL,
  born REAL NOT NULL, wall REAL NOT NULL, size INTEGER NOT NULL, packed INTEGER NOT NULL,
  crc INTEGER NOT NULL, payload BLOB NOT NULL);
INSERT OR IGNORE INTO total VALUES ('$kind', 0, 0);
"""
SELECT = """
SELECT sequence, pipeline, items, boot, born, wall, size, packed, crc, payload FROM $kind
WHERE sequence > ? AND sequence <= ? ORDER BY sequence LIMIT ?
"""
SUM = "SELECT count(*), total(size) FROM $kind WHERE sequence BETWEEN ? AND ?"
INSERT = "INSERT INTO $kind VALUES "
PLACES = "(?,?,?,?,?,?,?,?,?,?)"
HIGHEST = (1 << 63) - 1


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
    """Open a file, make what is missing in it, and bring it to the present format.

    ``DiskNewerError`` where a later version wrote it; then nothing is written.
    """
    db = sqlite3.connect(path, timeout=0.1, isolation_level=None)
    try:
        found = _format(path, db)
        db.executescript(_PRAGMAS)
        steps = "".join(_MIGRATIONS[found - 1 :]) if found else ""
        tables = "".join(of(kind, _TABLE) for kind in CLASSES)
        mark = f"PRAGMA user_version={FORMAT};" if found != FORMAT else ""
        db.executescript(f"BEGIN IMMEDIATE;{steps}{_TOTALS}{tables}{mark}COMMIT;")
    except BaseException:
        db.close()
        raise
    return db


def _format(path: Path, db: sqlite3.Connection) -> int:
    """Return the format of an open file, 0 for an empty one, before anything is written to it."""
    # Exclusive also keeps SQLite from mapping a shared file, which a full disk would turn into a SIGBUS.
    db.execute("PRAGMA locking_mode=EXCLUSIVE")
    (found,) = db.execute("PRAGMA user_version").fetchone()
    if found > FORMAT:
        raise DiskNewerError(
            f"{path}: a later Limpet wrote it (format {found}, this one knows {FORMAT}) and it is left untouched; "
            "install that version again to have its messages sent, or move the file away to begin an empty one"
        )
    return int(found)


def sound(row: tuple[object, ...]) -> bool:
    """Whether a row is what was written, as far as can be told."""
    *others, crc, payload = row
    kinds = (int, str, int, str, float, float, int, int)
    right = all(isinstance(value, kind) for value, kind in zip(others, kinds, strict=True))
    return right and isinstance(payload, bytes) and zlib.crc32(payload) == crc


def of(kind: Class, statement: str) -> str:
    """Make a statement be about the table of a class."""
    return statement.replace("$kind", kind)


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn what SQLite and the file system raise into ``DiskError``."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise (DiskFullError if full else DiskError)(f"{path}: {error.strerror}") from error
    except sqlite3.Error as error:
        raise _explain(path, error) from error


def _explain(path: Path, error: sqlite3.Error) -> DiskError:
    text = str(error)
    if "full" in text:
        return DiskFullError(f"{path}: {text}")
    # Not an OperationalError, which is about the surroundings.
    if type(error) is sqlite3.DatabaseError or "malformed" in text or "no such table" in text:
        return DiskDamagedError(f"{path}: {text}")
    return DiskError(f"{path}: {text}")
