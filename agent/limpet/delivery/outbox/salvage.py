"""Copies what can be read of a damaged outbox into a new one."""

from __future__ import annotations

import os
from collections import Counter
from contextlib import ExitStack, closing
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from limpet.delivery.outbox import CLASSES, Class, sqlite_wal
from limpet.delivery.outbox.database import MOST_CAUSES, set_shed, set_totals
from limpet.delivery.outbox.database_file import SUFFIXES, connect, delete, replacement
from limpet.delivery.outbox.disk_errors import disk_errors
from limpet.delivery.outbox.schema import (
    HIGHEST,
    NEWEST,
    PLACES,
    SELECT_HEADS,
    SUM,
    check,
    is_sound,
    is_sound_shed,
    is_sound_total,
    items_of,
    of,
)
from limpet.delivery.outbox.sqlite_pages import Pages
from limpet.device import state_files
from limpet.errors import UnreadableError
from limpet.untrusted import open_file

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

    from limpet.delivery.outbox.sqlite_pages import Values

_ROWS = 64
"""Rows of one transaction. They are in memory at once, and may be long."""

_INSERT = "INSERT OR IGNORE INTO $kind VALUES "


class Salvaged(NamedTuple):
    """How many messages could be read of a damaged file, and how many could not, ``None`` if that is unknown."""

    saved: int
    lost: int | None


def salvage(path: Path) -> Salvaged:
    """Copy what can be read of a damaged file into a new one, and set the damaged one aside.

    The new one takes its place only when it is complete: a power cut before that changes nothing.
    """
    fresh = replacement(path)
    with disk_errors(path):
        delete(fresh)
        found = _copy(path, fresh)
        _set_aside(path)
        fresh.replace(path)
        state_files.sync(path.parent)
    return found


def set_aside_unreadable(path: Path) -> None:
    """Set a damaged file aside, of which nothing can be read."""
    with disk_errors(path):
        _set_aside(path)


def _set_aside(path: Path) -> None:
    """Set aside all files of a database, the database itself last."""
    for suffix in reversed(SUFFIXES):
        each = path.with_name(path.name + suffix)
        damaged = path.with_name(f"{path.name}.damaged{suffix}")
        state_files.remove(damaged)
        if os.path.lexists(each):
            each.rename(damaged)


def _copy(path: Path, fresh: Path) -> Salvaged:
    wal = path.with_name(f"{path.name}-wal")
    log = sqlite_wal.read(wal)
    with closing(connect(fresh)) as db, ExitStack() as stack:
        db.execute("PRAGMA synchronous=OFF")
        file = stack.enter_context(open_file(path)) if state_files.is_regular(path) else None
        frames = stack.enter_context(open_file(wal)) if log.frames else None
        expected = _fill(db, Pages(file, frames, log))
        for kind in CLASSES:
            _renumber(db, kind)
        saved = _count(db)
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with fresh.open("r+b") as written:
        os.fsync(written.fileno())
    # If the log is damaged, the totals that were found are old.
    known = expected.keys() >= set(CLASSES) and not log.damaged
    return Salvaged(saved, max(sum(expected.values()) - saved, 0) if known else None)


def _fill(db: sqlite3.Connection, pages: Pages) -> Counter[str]:
    """Copy every sound row; return how many messages there should be, by class."""
    expected: Counter[str] = Counter()
    shed: dict[str, int] = {}
    rows = pages.rows()
    some: list[Values] = [()]
    while some:
        db.execute("BEGIN")
        some = list(islice(rows, _ROWS))
        for row in some:
            _put(db, row, expected, shed)
        db.execute("COMMIT")
    set_shed(db, dict(islice(shed.items(), MOST_CAUSES)))
    return expected


def _put(db: sqlite3.Connection, row: Values, expected: Counter[str], shed: dict[str, int]) -> None:
    """Copy a row if it is intact. Of several counts with one name, the newest comes first and is used."""
    if is_sound_total(row):
        expected.setdefault(row[0], row[1])
    elif is_sound_shed(row):
        shed.setdefault(row[0], row[1])
    else:
        for kind in CLASSES:
            if _is_message(kind, row):
                db.execute(of(kind, _INSERT) + PLACES, row)


def _renumber(db: sqlite3.Connection, kind: Class) -> None:
    """Renumber the messages from 1 if a stranger's number leaves too few for those to come."""
    (last,) = db.execute(of(kind, "SELECT max(sequence) FROM $kind")).fetchone()
    if last is None or last <= NEWEST:
        return
    number = cursor = 0
    db.execute("BEGIN")
    while rows := db.execute(of(kind, SELECT_HEADS), (cursor, _ROWS)).fetchall():
        for sequence, *values, _ in rows:
            number += 1
            fresh = number, check(kind, number, *values), sequence
            db.execute(of(kind, "UPDATE $kind SET sequence = ?, head = ? WHERE sequence = ?"), fresh)
        cursor = rows[-1][0]
    db.execute("COMMIT")


def _is_message(kind: Class, row: Values) -> bool:
    """Whether a row is a message of this class that can be sent."""
    if len(row) != PLACES.count("?") or not is_sound(kind, _with_floats(row)):
        return False
    try:
        items_of(row)
    except UnreadableError:
        return False
    return True


def _with_floats(row: Values) -> Values:
    """Return a row with the type of its columns: SQLite stores 2.0 as the integer 2."""
    return tuple(
        float(value) if at in {4, 5} and isinstance(value, int) else value for at, value in enumerate(row)
    )


def _count(db: sqlite3.Connection) -> int:
    messages: Counter[Class] = Counter()
    size: Counter[Class] = Counter()
    for kind in CLASSES:
        messages[kind], total = db.execute(of(kind, SUM), (0, HIGHEST)).fetchone()
        size[kind] = int(total)
    set_totals(db, messages, size)
    return sum(messages.values())
