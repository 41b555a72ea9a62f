"""Files of the outbox as other versions of Limpet write them: taken over, or left alone."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from limpet.delivery.outbox import Entry
from limpet.delivery.outbox.database import Database
from limpet.delivery.outbox.disk_errors import DiskNewerError
from limpet.delivery.outbox.log_records import Item
from limpet.delivery.outbox.queue import Outbox
from limpet.delivery.outbox.rules import OutboxRules
from limpet.delivery.outbox.schema import FORMAT
from limpet.delivery.outbox.write_ahead_log import WriteAheadLog

if TYPE_CHECKING:
    from pathlib import Path

# What the outbox of another format looks like.
OTHER = """
CREATE TABLE total (kind TEXT PRIMARY KEY, messages INTEGER NOT NULL, bytes INTEGER NOT NULL);
CREATE TABLE shed (cause TEXT PRIMARY KEY, items INTEGER NOT NULL);
CREATE TABLE result (sequence INTEGER PRIMARY KEY, payload BLOB NOT NULL);
INSERT INTO total VALUES ('event', 0, 0), ('result', 2, 132);
INSERT INTO result VALUES (41, x'6f6e'), (42, x'7477');
"""


def write(path: Path, version: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path)) as db:
        db.executescript(f"PRAGMA journal_mode=WAL; {OTHER} PRAGMA user_version={version};")


def version(path: Path) -> int:
    with closing(sqlite3.connect(path)) as db:
        (found,) = db.execute("PRAGMA user_version").fetchone()
    assert isinstance(found, int)
    return found


@pytest.mark.parametrize("marked", [0, 1, -1, 1_000_000])
def test_a_file_of_no_known_format_is_set_aside_and_that_is_told(tmp_path: Path, marked: int) -> None:
    path = tmp_path / "outbox.db"
    write(path, marked)
    now = time.monotonic()
    outbox = Outbox(OutboxRules(min_free_bytes=0), tmp_path)
    outbox.open(now)
    assert [event for event, _ in outbox.notices()] == ["outbox_degraded", "outbox_recovered"]
    assert outbox.counts == {"unknown numbers of messages, disk damaged": 1}
    outbox.put(Entry("result", "motion", (b"new",), now))
    outbox.close()
    assert version(path) == FORMAT
    assert version(tmp_path / "outbox.db.damaged") == marked


def test_a_new_file_says_its_format(tmp_path: Path) -> None:
    Database(tmp_path / "outbox.db").close()
    assert version(tmp_path / "outbox.db") == FORMAT


def test_a_later_versions_file_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    write(path, FORMAT + 1)
    before = path.read_bytes()
    with pytest.raises(
        DiskNewerError, match=rf"format {FORMAT + 1}, this one knows {FORMAT}.*install that version"
    ):
        Database(path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["outbox.db"]


def test_beside_a_later_versions_file_the_outbox_works_in_memory_and_says_so_once(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    write(path, FORMAT + 1)
    now = time.monotonic()
    outbox = Outbox(OutboxRules(min_free_bytes=0), tmp_path)
    outbox.open(now)
    outbox.put(Entry("result", "motion", (b"new",), now))
    for later in (10, 20, 30):
        outbox.maintain(now + later, away=True)
    assert [stored.entry.items[0] for stored in outbox.take("result", "fresh", 10, 10_000)] == [b"new"]
    (notice,) = outbox.notices()
    assert notice[0] == "outbox_degraded"
    assert "later Limpet" in notice[1]
    outbox.close()

    with closing(sqlite3.connect(path)) as db:  # the later version comes back
        assert db.execute("SELECT payload FROM result").fetchall() == [(b"on",), (b"tw",)]


def wal(directory: Path) -> list[bytes]:
    return [entry.items[0] for entry in WriteAheadLog(directory).read(time.monotonic())]


def test_a_later_versions_write_ahead_log_is_neither_read_nor_deleted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = WriteAheadLog(tmp_path)
    first.append([Item("result", "motion", b"kept")], 1.0, 0.0)
    first.close(1.0, 0.0)
    (path,) = tmp_path.glob("write-ahead-log/*.log")
    data = path.read_bytes()
    assert wal(tmp_path) == [b"kept"]

    theirs = data[:7] + bytes([data[7] + 1]) + data[8:]
    path.write_bytes(theirs)
    now = time.monotonic()
    second = WriteAheadLog(tmp_path)
    assert second.read(now) == []
    second.append([Item("result", "motion", b"ours")], now, now)
    second.close(now + 1, now + 2)
    assert [(entry, entry.read_bytes()) for entry in tmp_path.glob("write-ahead-log/*.log")] == [(path, theirs)]
    assert "later Limpet" in caplog.text


@pytest.mark.parametrize("content", [b"", b"limpet", b"limpetj", b"something else altogether"])
def test_a_write_ahead_log_that_is_none_is_empty(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "write-ahead-log" / "00000001.log"
    path.parent.mkdir()
    path.write_bytes(content)
    assert wal(tmp_path) == []
