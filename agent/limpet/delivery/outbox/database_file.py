"""The files of the outbox's database: opened, checked before SQLite reads them, replaced and deleted.

The file is checked as if a stranger had written it.
"""

from __future__ import annotations

import os
import sqlite3
import struct
import sys
from contextlib import closing
from functools import cache
from typing import TYPE_CHECKING

from limpet.delivery.outbox import sqlite_wal
from limpet.delivery.outbox.disk_errors import DiskDamagedError, DiskError, DiskNewerError
from limpet.delivery.outbox.schema import FORMAT, LARGEST_PAYLOAD, PAGE, create
from limpet.device import state_files
from limpet.untrusted import open_file

if TYPE_CHECKING:
    from pathlib import Path

_PLAUSIBLE = 1000
"""No later version of Limpet has a higher format; such a number is damage."""

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

SUFFIXES = ("", "-wal", "-journal", "-shm")
"""The files that SQLite keeps for one database."""

_HEADER = struct.Struct(">16sHBBB3s20xI8xII")
_MAGIC = b"SQLite format 3\0"


def connect(path: Path) -> sqlite3.Connection:
    """Open a file; make it if it is missing or empty.

    ``DiskDamagedError`` if it holds anything else than what this version writes; ``DiskNewerError`` if a later
    version wrote it. Then nothing is written.
    """
    _check_files(path)
    db = sqlite3.connect(path, timeout=0.1, isolation_level=None)
    try:
        # A text that is not UTF-8 is damage of its row, not of the statement that reads it.
        db.text_factory = _text
        if sys.version_info >= (3, 11):
            db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LARGEST_PAYLOAD + PAGE)
        db.executescript(_SAFE)
        found = _format(path, db)
        db.executescript(_PRAGMAS)
        if not found:
            db.executescript(f"BEGIN IMMEDIATE;{create()}PRAGMA user_version={FORMAT};COMMIT;")
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


def replacement(path: Path) -> Path:
    """Return the name of the file that takes the place of a damaged one, while it is being written."""
    return path.with_name(f"{path.name}.new")


def finish_repair(path: Path) -> None:
    """Go on where a power cut ended the repair of a damaged file: use the new file, or delete it.

    The damaged file is set aside only when the new one is complete.
    """
    fresh = replacement(path)
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
        if state_files.is_irregular(each):
            state_files.set_aside(each)


def _check_files(path: Path) -> None:
    """Check the files before SQLite opens them: it trusts a journal, and skips what it cannot read of a log."""
    for suffix in SUFFIXES:
        each = path.with_name(path.name + suffix)
        if state_files.is_irregular(each):
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
            f"{path}: a later Limpet wrote it (format {found}, this one knows {FORMAT}), so it is not changed. "
            "To send its messages, install that version again. To begin an empty one, move the file away"
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
        db.executescript(create())
        return frozenset(db.execute("SELECT type, name, tbl_name, sql FROM sqlite_master"))


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")
