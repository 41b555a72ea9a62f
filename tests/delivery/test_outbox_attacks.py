"""Files that a stranger wrote, with right checksums: the memory and the time that they cost are bounded."""

from __future__ import annotations

import struct
import time
import tracemalloc
import zlib
from contextlib import closing
from typing import TYPE_CHECKING

import msgspec
import pytest

from limpet.delivery.mqtt.rate_limits import ReplayRules
from limpet.delivery.mqtt.ready_queue import ReadyQueue
from limpet.delivery.mqtt.scheduler import LARGEST_READY, Scheduler
from limpet.delivery.outbox import OVERHEAD, Entry, item_array
from limpet.delivery.outbox.database import MOST_CAUSES, Database, boot_id, set_shed
from limpet.delivery.outbox.database_file import connect
from limpet.delivery.outbox.log_records import FORMAT, MOST_MESSAGES, parse
from limpet.delivery.outbox.queue import Outbox
from limpet.delivery.outbox.rules import OutboxRules, ResultRules
from limpet.delivery.outbox.schema import HIGHEST, NEWEST, PAGE, PLACES, check
from limpet.delivery.outbox.sqlite_pages import Pages
from limpet.delivery.outbox.sqlite_wal import CommittedFrames
from limpet.delivery.outbox.write_ahead_log import WriteAheadLog

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

MIB = 1 << 20


def outbox(directory: Path, rules: OutboxRules | None = None) -> Outbox:
    opened = Outbox(rules or OutboxRules(min_free_bytes=0), directory)
    opened.open(time.monotonic())
    return opened


def put(opened: Outbox, first: int, count: int) -> None:
    now = time.monotonic()
    for number in range(first, first + count):
        opened.put(Entry("result", "motion", (b'{"sequence":%d}' % number,), now))
    opened.maintain(now + 10, away=True)


def everything(opened: Outbox) -> list[bytes]:
    opened.requeue(time.monotonic())
    return [stored.entry.items[0] for stored in opened.take("result", "backlog", 100_000, 1 << 40)]


def set_total(db: sqlite3.Connection, messages: int, size: int) -> None:
    head = check("total", "result", messages, size)
    db.execute("UPDATE total SET messages = ?, bytes = ?, head = ? WHERE kind = 'result'", (messages, size, head))


def poison(db: sqlite3.Connection, sequence: int, payload: bytes, packed: int = 0) -> None:
    """Add a message as Limpet would, with right checksums."""
    crc, size = zlib.crc32(payload), len(payload) + OVERHEAD
    head = (sequence, "motion", 1, boot_id(), time.monotonic(), time.time(), size, packed)
    db.execute(f"INSERT INTO result VALUES {PLACES}", (*head, crc, check("result", *head, crc), payload))  # noqa: S608
    messages, old, _ = db.execute("SELECT messages, bytes, head FROM total WHERE kind = 'result'").fetchone()
    total = (messages + 1, old + size)
    set_total(db, *total)


@pytest.mark.parametrize("number", [HIGHEST, HIGHEST - 1, NEWEST + 1, NEWEST])
def test_a_message_with_the_highest_number_costs_no_later_message(tmp_path: Path, number: int) -> None:
    first = outbox(tmp_path)
    put(first, 0, 10)
    first.close()
    with closing(connect(tmp_path / "outbox.db")) as db:
        poison(db, number, item_array.join([b"{}"]))
    for start in (10, 20, 30):
        again = outbox(tmp_path)
        put(again, start, 10)
        again.close()
    last = outbox(tmp_path)
    wanted = [b'{"sequence":%d}' % number for number in range(40)]
    assert [payload for payload in everything(last) if payload != b"{}"] == wanted
    assert last.counts == {}
    last.close()


def test_totals_that_are_far_too_high_shed_no_later_message(tmp_path: Path) -> None:
    rules = OutboxRules(min_free_bytes=0, results=ResultRules(max_bytes=MIB))
    first = outbox(tmp_path, rules)
    put(first, 0, 10)
    first.close()
    with closing(connect(tmp_path / "outbox.db")) as db:
        poison(db, 1 << 40, item_array.join([b"{}"]))
        total = (1 << 40, 1 << 52)
        set_total(db, *total)
    second = outbox(tmp_path, rules)
    for _ in range(3):
        second.maintain(time.monotonic(), away=True)
    put(second, 10, 10)
    second.close()
    third = outbox(tmp_path, rules)
    assert [b'{"sequence":%d}' % number for number in range(10, 20)] == everything(third)[-10:]
    third.close()


def test_payloads_that_unpack_to_megabytes_are_not_all_kept_ready(tmp_path: Path) -> None:
    outbox(tmp_path).close()
    large = zlib.compress(item_array.join([b'{"a":1' + b" " * (3 * MIB) + b"}"]), 9)
    with closing(connect(tmp_path / "outbox.db")) as db:
        for number in range(1, 61):
            poison(db, number, large, 1)
    opened = outbox(tmp_path)
    ready = ReadyQueue(1 << 28)
    scheduler = Scheduler(opened, "limpet/press-07", ReplayRules(jitter=0), (100, 65_536), None)
    scheduler.start_connection(ready, time.monotonic())
    for _ in range(50):
        scheduler.hand_over(0, time.monotonic() + 1)
    assert 1 <= ready.size <= LARGEST_READY + 4 * MIB
    opened.close()


def test_causes_that_a_stranger_made_up_do_not_fill_the_health_messages(tmp_path: Path) -> None:
    outbox(tmp_path).close()
    with closing(connect(tmp_path / "outbox.db")) as db:
        db.execute("BEGIN")
        set_shed(db, {f"{number:0100d}": 1 for number in range(5000)})
        db.execute("COMMIT")
    with closing(Database(tmp_path / "outbox.db")) as disk:
        assert len(disk.shed) <= MOST_CAUSES


@pytest.mark.parametrize("suffix", ["", "-wal"])
def test_a_sparse_file_of_a_terabyte_is_salvaged_at_once(tmp_path: Path, suffix: str) -> None:
    first = outbox(tmp_path)
    put(first, 0, 10)
    first.close()
    path = tmp_path / f"outbox.db{suffix}"
    with path.open("ab") as file:
        file.truncate(1 << 40)
    if not suffix:
        with path.open("r+b") as file:
            file.write(b"not SQLite any more")
    found = everything(again := outbox(tmp_path))
    assert [b'{"sequence":%d}' % number for number in range(10)] == found
    again.close()


def test_pages_that_lead_to_each_other_a_million_times_take_little_memory(tmp_path: Path) -> None:
    count = 400
    cells = b"".join(struct.pack(">H", 4090) for _ in range(2030))
    path = tmp_path / "pages"
    with path.open("wb") as file:
        for number in range(1, count + 1):
            child = struct.pack(">I", number % count + 1)
            page = bytearray(PAGE)
            start = 100 if number == 1 else 0
            page[start : start + 12] = struct.pack(">BHHHBI", 5, 0, 2030 - start, 0, 0, number % count + 1)
            page[12 : 12 + len(cells)] = cells if number > 1 else bytes(len(cells))
            page[4090:4094] = child
            file.write(page)
    # The schema on the first page leads to the second one.
    record = b"\x06\x17\x1b\x1b\x01\x81\x01" + b"table" + b"result" + b"result" + b"\x02" + b"x" * 58
    with path.open("r+b") as file:
        page = bytearray(PAGE)
        page[32:36] = struct.pack(">I", 3)
        place = 2000
        page[100:108] = struct.pack(">BHHHB", 13, 0, 1, place, 0)
        page[108:110] = struct.pack(">H", place)
        cell = bytes([len(record), 1]) + record
        page[place : place + len(cell)] = cell
        file.write(page)
    with path.open("rb") as file:
        pages = Pages(file, None, CommittedFrames([], 0, damaged=False))
        tracemalloc.start()
        try:
            assert sum(1 for _ in pages.rows()) <= 1
            assert tracemalloc.get_traced_memory()[1] < 8 * MIB
        finally:
            tracemalloc.stop()


# --- the write-ahead log


def sealed(body: bytes) -> bytes:
    return struct.pack("<4sII", b"\xa5\x5aLj", len(body), zlib.crc32(body)) + body


def record(items: int) -> bytes:
    one = msgspec.msgpack.encode(["result", "a", b""])
    head = msgspec.msgpack.encode([boot_id(), 1.0, 0.5])
    return sealed(b"\x94" + head[1:] + b"\xdd" + struct.pack(">I", items) + one * items)


START = b"limpetj" + bytes([FORMAT])


def test_a_write_ahead_log_of_millions_of_tiny_messages_takes_little_memory(tmp_path: Path) -> None:
    folder = tmp_path / "write-ahead-log"
    folder.mkdir()
    for number in range(1, 6):
        (folder / f"{number:08d}.log").write_bytes(START + record(40_000) + record(350_000))
    tracemalloc.start()
    try:
        wal = WriteAheadLog(tmp_path)
        found = wal.read(time.monotonic())
        assert tracemalloc.get_traced_memory()[1] < 80 * MIB
    finally:
        tracemalloc.stop()
    assert 40_000 <= len(found) <= MOST_MESSAGES
    assert wal.damaged >= 5


def test_a_write_ahead_log_of_traps_is_read_in_bounded_effort() -> None:
    """Damaged heads that claim all of the file, between sound records.

    Without a bound, reading would compute a checksum of terabytes, and this test would reach its time limit.
    """
    good = record(1)
    trap = struct.pack("<4sII", b"\xa5\x5aLj", 4 * MIB, 0) * 7
    data = START + (trap + good) * (5 * MIB // len(trap + good))
    records, damaged = parse(data)
    assert records
    assert damaged


def test_the_write_ahead_log_ends_with_the_newest_where_there_is_too_much(tmp_path: Path) -> None:
    folder = tmp_path / "write-ahead-log"
    folder.mkdir()
    for number in range(1, 5):
        (folder / f"{number:08d}.log").write_bytes(START + record(30_000))
    wal = WriteAheadLog(tmp_path)
    assert len(wal.read(time.monotonic())) == 90_000
    assert wal.damaged == 1
