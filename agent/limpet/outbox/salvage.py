"""What can be saved of a damaged outbox."""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from typing import TYPE_CHECKING, NamedTuple

from limpet.outbox import CLASSES, Class
from limpet.outbox.file import HIGHEST, INSERT, PLACES, SELECT, SUM, connect, explained, of, sound

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from limpet.outbox.file import Row


class Salvaged(NamedTuple):
    """How many messages could be read of a damaged file, and how many more there should have been."""

    saved: int
    lost: int


def salvage(path: Path) -> Salvaged:
    """Move a damaged file aside, and bring what can be read of it into a new one."""
    damaged = path.with_name(f"{path.name}.damaged")
    with explained(path):
        for suffix in ("", "-wal"):
            with suppress(FileNotFoundError):
                path.with_name(path.name + suffix).replace(damaged.with_name(damaged.name + suffix))
        with closing(connect(path)) as fresh, closing(sqlite3.connect(damaged, isolation_level=None)) as old:
            expected = _expected(old)
            saved = 0
            fresh.execute("BEGIN IMMEDIATE")
            for kind in CLASSES:
                fresh.executemany(of(kind, INSERT) + PLACES, _readable(old, kind))
                count, size = fresh.execute(of(kind, SUM), (0, HIGHEST)).fetchone()
                fresh.execute("UPDATE total SET messages = ?, bytes = ? WHERE kind = ?", (count, int(size), kind))
                saved += count
            fresh.execute("COMMIT")
        return Salvaged(saved, max(expected - saved, 0))


def _expected(db: sqlite3.Connection) -> int:
    with suppress(sqlite3.Error):
        (messages,) = db.execute("SELECT total(messages) FROM total").fetchone()
        return int(messages)
    return 0


def _readable(db: sqlite3.Connection, kind: Class) -> Iterator[Row]:
    """Yield the rows of a damaged file from both ends, as far as they can be read and look right."""
    seen = set()
    for order in ("ASC", "DESC"):
        with suppress(sqlite3.Error):
            for row in db.execute(of(kind, SELECT).replace("LIMIT", f"{order} LIMIT"), (0, HIGHEST, -1)):
                if row[0] in seen:
                    break
                seen.add(row[0])
                if sound(row):
                    yield row
