"""Messages in an SQLite file: what is written here survives a power cut.

Write-ahead log with ``synchronous=FULL``: a commit is on the medium when it returns. One thread uses it.
"""

from __future__ import annotations

import sqlite3
import time
import zlib
from collections import Counter
from contextlib import closing, suppress
from typing import TYPE_CHECKING, NamedTuple

from limpet.delivery.outbox import CLASSES, OVERHEAD, Class, Entry, EntryId, StoredEntry, item_array
from limpet.delivery.outbox.database_file import connect, finish_repair, prepare, set_strange_aside
from limpet.delivery.outbox.disk_errors import DiskDamagedError, DiskGoneError, disk_errors
from limpet.delivery.outbox.schema import (
    INSERT,
    NEWEST,
    PLACES,
    SELECT,
    SELECT_HEADS,
    SUM,
    Row,
    check,
    is_sound,
    is_sound_head,
    is_sound_shed,
    is_sound_total,
    items_of,
    of,
)
from limpet.device.clock import PLAUSIBLE, boot_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

_SIZES = "SELECT pipeline, min(max(total(size), 0), 1e15) FROM $kind GROUP BY pipeline"
_DELETE = "DELETE FROM $kind WHERE sequence BETWEEN ? AND ?"
MOST_CAUSES = 100
"""Causes of shedding that are read from the file, at most."""

MOST_PIPELINES = 10_000
"""Pipelines whose sizes are read from the file, at most."""

_COMPRESS_FROM = 512
"""Payloads of at least this many bytes are compressed."""

_ROWS = 64
"""Rows of one INSERT. sqlite3 releases the GIL for each statement, and would wait for it again after each row."""


class RowHead(NamedTuple):
    """What the bounds need to know of a row."""

    sequence: int
    pipeline: str
    items: int
    size: int
    born: float


class Change(NamedTuple):
    """One transaction: rows to add, sequence numbers to delete, and all that was ever shed."""

    added: list[StoredEntry]
    deleted: dict[Class, list[int]]
    shed: Mapping[str, int]


class Database:
    """The file. ``last`` is its highest sequence number ever, ``messages`` and ``bytes`` are what it holds.

    Every method may raise ``DiskError``. After any but ``DiskFullError``, close it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.last: dict[Class, int] = {}
        self.messages: Counter[Class] = Counter()
        self.bytes: Counter[Class] = Counter()
        self.shed: Counter[str] = Counter()
        self._boot = boot_id()
        with disk_errors(path):
            prepare(path.parent)
            finish_repair(path)
            self._db = connect(path)
            try:
                self._load()
            except BaseException:
                self._db.close()
                raise

    def _load(self) -> None:
        self._inode = self.path.lstat().st_ino
        totals = list(self._db.execute("SELECT kind, messages, bytes, head FROM total LIMIT 9"))
        if sorted(row[0] for row in totals if is_sound_total(row)) != sorted(CLASSES):
            raise DiskDamagedError(f"{self.path}: its totals are not what was written")
        for kind, messages, size, _ in totals:
            self.messages[kind] = messages
            self.bytes[kind] = size
        for kind in CLASSES:
            self.last[kind] = self._last(kind)
        shed = list(self._db.execute("SELECT cause, items, head FROM shed LIMIT ?", (MOST_CAUSES,)))
        if not all(map(is_sound_shed, shed)):
            raise DiskDamagedError(f"{self.path}: its counts of what was shed are not what was written")
        self.shed.update({cause: items for cause, items, _ in shed})

    def _last(self, kind: Class) -> int:
        (last,) = self._db.execute(of(kind, "SELECT max(sequence) FROM $kind")).fetchone()
        messages, size = self.messages[kind], self.bytes[kind]
        # Numbers begin with 1, and no two messages have the same.
        if (
            (last is None) != (messages == 0)
            or not messages <= (last or 0) <= NEWEST
            or size < messages * OVERHEAD
        ):
            raise DiskDamagedError(f"{self.path}: its totals do not fit its messages")
        return last or 0

    def read(self, kind: Class, after: int, upto: int, rows: int, size: int) -> list[StoredEntry]:
        """Return rows with ``after`` < sequence <= ``upto``: at most ``rows``, until ``size`` bytes are there."""
        found: list[StoredEntry] = []
        with disk_errors(self.path):
            cursor = self._db.execute(of(kind, SELECT), (after, upto, rows))
            with closing(cursor):
                for row in cursor:
                    found.append(self._stored(kind, row))
                    size -= found[-1].entry.size
                    if size <= 0:
                        break
        return found

    def heads(self, kind: Class, after: int, rows: int) -> list[RowHead]:
        """Return what the bounds need to know of the rows after a sequence number."""
        with disk_errors(self.path):
            return [self._head(kind, row) for row in self._db.execute(of(kind, SELECT_HEADS), (after, rows))]

    def sizes(self, kind: Class) -> dict[str, int]:
        """Return about how many bytes each pipeline has. Rows are not checked here, but when they are read."""
        with disk_errors(self.path):
            rows = self._db.execute(of(kind, _SIZES)).fetchmany(MOST_PIPELINES)
        return {str(pipeline): int(size) for pipeline, size in rows}

    def _head(self, kind: Class, row: tuple[int, str, int, str, float, float, int, int, int, int]) -> RowHead:
        if not is_sound_head(kind, row):
            raise self._damaged()
        sequence, pipeline, items, boot, born, wall, size, *_ = row
        return RowHead(sequence, pipeline, items, size, self._born(boot, born, wall))

    def _damaged(self) -> DiskDamagedError:
        return DiskDamagedError(f"{self.path}: a message is not what was written")

    def write(self, change: Change) -> None:
        """Make a change durably, all of it or nothing."""
        if not self.present():
            raise DiskGoneError(f"{self.path} was deleted")
        with disk_errors(self.path):
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
                count, freed = self._db.execute(of(kind, SUM), span).fetchone()
                self._db.execute(of(kind, _DELETE), span)
                messages[kind] -= count
                size[kind] -= int(freed)
        for kind in CLASSES:
            rows = [self._row(token.sequence, entry) for token, entry in change.added if token.kind == kind]
            for start in range(0, len(rows), _ROWS):
                self._insert(kind, rows[start : start + _ROWS])
            messages[kind] += len(rows)
            size[kind] += sum(row[6] for row in rows)
        if any(messages[kind] < 0 or size[kind] < 0 for kind in CLASSES):
            raise DiskDamagedError(f"{self.path}: it holds more messages than its totals say")
        set_totals(self._db, messages, size)
        set_shed(self._db, {cause: n for cause, n in change.shed.items() if self.shed[cause] != n})
        return messages, size

    def _insert(self, kind: Class, rows: list[Row]) -> None:
        statement = of(kind, INSERT) + ",".join([PLACES] * len(rows))
        self._db.execute(statement, [value for row in rows for value in row])

    def _row(self, sequence: int, entry: Entry) -> Row:
        payload, packed = item_array.join(entry.items), 0
        if len(payload) >= _COMPRESS_FROM:
            payload, packed = zlib.compress(payload, 1), 1
        wall = time.time() - time.monotonic() + entry.born
        size = len(payload) + OVERHEAD
        head = (sequence, entry.pipeline, len(entry.items), self._boot, float(entry.born), wall, size, packed)
        crc = zlib.crc32(payload)
        return *head, crc, check(entry.kind, *head, crc), payload

    def _stored(self, kind: Class, row: Row) -> StoredEntry:
        if not is_sound(kind, row):
            raise self._damaged()
        sequence, pipeline, _, boot, born, wall, *_ = row
        entry = Entry(kind, pipeline, items_of(row), self._born(boot, born, wall), boot == self._boot)
        return StoredEntry(EntryId(kind, sequence), entry)

    def _born(self, boot: str, born: float, wall: float) -> float:
        """Return when a row was born on the monotonic clock of this boot; now, if that is unknown."""
        if boot == self._boot:
            return min(born, time.monotonic())
        now = time.time()
        known = now > PLAUSIBLE < wall
        return time.monotonic() - (max(now - wall, 0.0) if known else 0.0)

    def present(self) -> bool:
        """Whether the file is still the one that was opened."""
        try:
            return self.path.lstat().st_ino == self._inode
        except OSError:
            return False

    def length(self) -> int:
        """Return the file's length in bytes."""
        with disk_errors(self.path):
            return self.path.stat().st_size

    def compact(self) -> None:
        """Give the space of an empty file back to the file system."""
        with disk_errors(self.path):
            self._db.execute("VACUUM")
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Close the file, whatever state it is in."""
        with suppress(sqlite3.Error):
            self._db.close()

    def copy_to(self, path: Path) -> None:
        """Copy all of it into another file, from the open one if its name is gone."""
        with disk_errors(path):
            prepare(path.parent)
            set_strange_aside(path)
            with closing(connect(path)) as copy:
                self._db.backup(copy)


def set_totals(db: sqlite3.Connection, messages: Mapping[Class, int], size: Mapping[Class, int]) -> None:
    """Write how many messages each class has, and their bytes."""
    db.executemany(
        "UPDATE total SET messages = ?, bytes = ?, head = ? WHERE kind = ?",
        [(messages[k], size[k], check("total", k, messages[k], size[k]), k) for k in CLASSES],
    )


def set_shed(db: sqlite3.Connection, shed: Mapping[str, int]) -> None:
    """Write how many messages were ever shed, by cause."""
    db.executemany(
        "INSERT OR REPLACE INTO shed VALUES (?, ?, ?)",
        [(cause, items, check("shed", cause, items)) for cause, items in shed.items()],
    )


def _runs(sequences: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Yield runs of consecutive numbers, as (first, last)."""
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
