"""Messages in an SQLite file: what is written here survives a power cut.

Write-ahead log with ``synchronous=FULL``: a commit is on the medium when it returns. One thread uses it.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import time
import zlib
from collections import Counter
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from limpet.device.clock import PLAUSIBLE
from limpet.errors import LimpetError
from limpet.outbox import CLASSES, OVERHEAD, Class, Entry, Parcel, Token

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

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
_Row: TypeAlias = "tuple[int, str, int, str, float, float, int, int, int, bytes]"

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
_SELECT = """
SELECT sequence, pipeline, items, boot, born, wall, size, packed, crc, payload FROM $kind
WHERE sequence > ? AND sequence <= ? ORDER BY sequence LIMIT ?
"""
_HEADS = """
SELECT sequence, pipeline, items, size, boot, born, wall FROM $kind
WHERE sequence > ? ORDER BY sequence LIMIT ?
"""
_SUM = "SELECT count(*), total(size) FROM $kind WHERE sequence BETWEEN ? AND ?"
_DELETE = "DELETE FROM $kind WHERE sequence BETWEEN ? AND ?"
_INSERT = "INSERT INTO $kind VALUES "
_PLACES = "(?,?,?,?,?,?,?,?,?,?)"

_HIGHEST = (1 << 63) - 1

_PACK_FROM = 512
"""Payloads of that many bytes are compressed."""

_ROWS = 64
"""Rows to an INSERT: sqlite3 gives up the GIL at each statement, and would wait for it again at each row."""


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


class Head(NamedTuple):
    """What the bounds need to know of a row."""

    sequence: int
    pipeline: str
    items: int
    size: int
    born: float


class Change(NamedTuple):
    """One transaction: rows to add, sequence numbers to delete, and all that was ever shed."""

    added: list[Parcel]
    deleted: dict[Class, list[int]]
    shed: Mapping[str, int]


def boot_id() -> str:
    """Name this run of the kernel: ``time.monotonic`` means nothing in another one."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")[:8]
    except OSError:
        return f"{os.getpid()}.{time.monotonic_ns()}"


class Disk:
    """The file. ``last`` is the highest sequence number that it ever held; ``messages`` and ``bytes`` it holds.

    Every method may raise ``DiskError``; after another one than ``DiskFullError`` it is to be closed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.last: dict[Class, int] = {}
        self.messages: Counter[Class] = Counter()
        self.bytes: Counter[Class] = Counter()
        self.shed: Counter[str] = Counter()
        self._boot = boot_id()
        with _explained(path):
            path.parent.mkdir(0o700, parents=True, exist_ok=True)
            self._db = _connect(path)
            try:
                self._load()
            except BaseException:
                self._db.close()
                raise

    def _load(self) -> None:
        self._inode = self.path.stat().st_ino
        for kind, messages, size in self._db.execute("SELECT kind, messages, bytes FROM total"):
            self.messages[kind] = messages
            self.bytes[kind] = size
        for kind in CLASSES:
            (last,) = self._db.execute(_of(kind, "SELECT max(sequence) FROM $kind")).fetchone()
            self.last[kind] = last or 0
        self.shed.update(dict(self._db.execute("SELECT cause, items FROM shed")))

    def read(self, kind: Class, after: int, upto: int, rows: int, size: int) -> list[Parcel]:
        """Return rows with ``after`` < sequence <= ``upto``: at most ``rows``, until ``size`` bytes are there."""
        found: list[Parcel] = []
        with _explained(self.path):
            cursor = self._db.execute(_of(kind, _SELECT), (after, upto, rows))
            with closing(cursor):
                for row in cursor:
                    found.append(self._parcel(kind, row))
                    size -= found[-1].entry.size
                    if size <= 0:
                        break
        return found

    def heads(self, kind: Class, after: int, rows: int) -> list[Head]:
        """Return what the bounds need to know of the rows after a sequence number."""
        with _explained(self.path):
            return [
                Head(sequence, pipeline, items, size, self._born(boot, born, wall))
                for sequence, pipeline, items, size, boot, born, wall in self._db.execute(
                    _of(kind, _HEADS), (after, rows)
                )
            ]

    def write(self, change: Change) -> None:
        """Make a change durably, all of it or nothing."""
        if not self.present():
            raise DiskGoneError(f"{self.path} was deleted")
        with _explained(self.path):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                totals = self._apply(change)
                self._db.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")
                raise
            self.messages, self.bytes = totals
            self.shed = Counter({**self.shed, **change.shed})
        for token, _ in change.added:
            self.last[token.kind] = max(self.last[token.kind], token.sequence)

    def _apply(self, change: Change) -> tuple[Counter[Class], Counter[Class]]:
        messages, size = self.messages.copy(), self.bytes.copy()
        for kind, sequences in change.deleted.items():
            for low, high in _runs(sequences):
                span = (low, high)
                count, freed = self._db.execute(_of(kind, _SUM), span).fetchone()
                self._db.execute(_of(kind, _DELETE), span)
                messages[kind] -= count
                size[kind] -= int(freed)
        for kind in CLASSES:
            rows = [self._row(token.sequence, entry) for token, entry in change.added if token.kind == kind]
            for start in range(0, len(rows), _ROWS):
                self._insert(kind, rows[start : start + _ROWS])
            messages[kind] += len(rows)
            size[kind] += sum(row[6] for row in rows)
        self._db.executemany(
            "UPDATE total SET messages = ?, bytes = ? WHERE kind = ?", [(messages[k], size[k], k) for k in CLASSES]
        )
        changed = [(cause, items) for cause, items in change.shed.items() if self.shed[cause] != items]
        self._db.executemany("INSERT OR REPLACE INTO shed VALUES (?, ?)", changed)
        return messages, size

    def _insert(self, kind: Class, rows: list[_Row]) -> None:
        statement = _of(kind, _INSERT) + ",".join([_PLACES] * len(rows))
        self._db.execute(statement, [value for row in rows for value in row])

    def _row(self, sequence: int, entry: Entry) -> _Row:
        payload, packed = entry.payload, 0
        if len(payload) >= _PACK_FROM:
            payload, packed = zlib.compress(payload, 1), 1
        wall = time.time() - time.monotonic() + entry.born
        size = len(payload) + OVERHEAD
        crc = zlib.crc32(payload)
        return sequence, entry.pipeline, entry.items, self._boot, entry.born, wall, size, packed, crc, payload

    def _parcel(self, kind: Class, row: _Row) -> Parcel:
        sequence, pipeline, items, boot, born, wall, _, packed, _, payload = row
        if not _sound(row):
            raise DiskDamagedError(f"{self.path}: a message is not what was written")
        if packed:
            payload = zlib.decompress(payload)
        born, here = self._born(boot, born, wall), boot == self._boot
        return Parcel(Token(kind, sequence), Entry(kind, pipeline, payload, items, born, here))

    def _born(self, boot: str, born: float, wall: float) -> float:
        """Return when a row was born on this kernel's monotonic clock; now, where nobody can tell."""
        if boot == self._boot:
            return born
        now = time.time()
        known = now > PLAUSIBLE < wall
        return time.monotonic() - (max(now - wall, 0.0) if known else 0.0)

    def present(self) -> bool:
        """Whether the file is still the one that was opened."""
        try:
            return self.path.stat().st_ino == self._inode
        except OSError:
            return False

    def room(self) -> int:
        """Return the file's length in bytes."""
        with _explained(self.path):
            return self.path.stat().st_size

    def compact(self) -> None:
        """Give an empty file's room back to the file system."""
        with _explained(self.path):
            self._db.execute("VACUUM")
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Close the file, whatever state it is in."""
        with suppress(sqlite3.Error):
            self._db.close()

    def copy_to(self, path: Path) -> None:
        """Copy all of it into another file, from the open one if its name is gone."""
        with _explained(path):
            path.parent.mkdir(0o700, parents=True, exist_ok=True)
            with closing(_connect(path)) as copy:
                self._db.backup(copy)


class Salvaged(NamedTuple):
    """How many messages could be read of a damaged file, and how many more there should have been."""

    saved: int
    lost: int


def salvage(path: Path) -> Salvaged:
    """Move a damaged file aside, and bring what can be read of it into a new one."""
    damaged = path.with_name(f"{path.name}.damaged")
    with _explained(path):
        for suffix in ("", "-wal"):
            with suppress(FileNotFoundError):
                path.with_name(path.name + suffix).replace(damaged.with_name(damaged.name + suffix))
        with closing(_connect(path)) as fresh, closing(sqlite3.connect(damaged, isolation_level=None)) as old:
            expected = _expected(old)
            saved = 0
            fresh.execute("BEGIN IMMEDIATE")
            for kind in CLASSES:
                fresh.executemany(_of(kind, _INSERT) + _PLACES, _readable(old, kind))
                count, size = fresh.execute(_of(kind, _SUM), (0, _HIGHEST)).fetchone()
                fresh.execute("UPDATE total SET messages = ?, bytes = ? WHERE kind = ?", (count, int(size), kind))
                saved += count
            fresh.execute("COMMIT")
        return Salvaged(saved, max(expected - saved, 0))


def _expected(db: sqlite3.Connection) -> int:
    with suppress(sqlite3.Error):
        (messages,) = db.execute("SELECT total(messages) FROM total").fetchone()
        return int(messages)
    return 0


def _readable(db: sqlite3.Connection, kind: Class) -> Iterator[_Row]:
    """Yield the rows of a damaged file from both ends, as far as they can be read and look right."""
    seen = set()
    for order in ("ASC", "DESC"):
        with suppress(sqlite3.Error):
            for row in db.execute(_of(kind, _SELECT).replace("LIMIT", f"{order} LIMIT"), (0, _HIGHEST, -1)):
                if row[0] in seen:
                    break
                seen.add(row[0])
                if _sound(row):
                    yield row


def _sound(row: tuple[object, ...]) -> bool:
    """Whether a row is what was written, as far as can be told."""
    *others, crc, payload = row
    kinds = (int, str, int, str, float, float, int, int)
    right = all(isinstance(value, kind) for value, kind in zip(others, kinds, strict=True))
    return right and isinstance(payload, bytes) and zlib.crc32(payload) == crc


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=0.1, isolation_level=None)
    try:
        found = _format(path, db)
        db.executescript(_PRAGMAS)
        steps = "".join(_MIGRATIONS[found - 1 :]) if found else ""
        tables = "".join(_of(kind, _TABLE) for kind in CLASSES)
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


def _of(kind: Class, statement: str) -> str:
    """Make a statement be about the table of a class."""
    return statement.replace("$kind", kind)


def _runs(sequences: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Cut numbers into runs without a hole, as (first, last)."""
    low = high = None
    for number in sorted(sequences):
        if high is not None and number == high + 1:
            high = number
            continue
        if low is not None and high is not None:
            yield low, high
        low = high = number
    if low is not None and high is not None:
        yield low, high


@contextmanager
def _explained(path: Path) -> Iterator[None]:
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
