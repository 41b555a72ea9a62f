"""Damage to the state directory by the thousand: each function takes a seed, damages one file, and uses it.

Whatever the damage is, nothing is raised, no message comes that was not put in, none comes twice, and what is
missing is counted. ``outbox``, ``wal`` and ``boot`` work in a folder that the caller deletes.
"""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import tempfile
import time
from contextlib import closing, suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

from limpet.delivery.outbox import Entry
from limpet.delivery.outbox.log_records import Item
from limpet.delivery.outbox.queue import Outbox
from limpet.delivery.outbox.rules import OutboxRules
from limpet.delivery.outbox.write_ahead_log import WriteAheadLog
from limpet.device import boot as boots
from limpet.device import state_files

PLENTY = 1 << 30
PAGE = 4096


class Base(NamedTuple):
    """A sound outbox: its files' contents by suffix, the messages that wait in it, and those that were sent."""

    files: dict[str, bytes]
    waiting: dict[bytes, Entry]
    sent: set[bytes]


def payload(number: int) -> bytes:
    """Return a message that no other has. Some take several pages, some are compressed."""
    chance = random.Random(number)
    text = b"%06d " % number
    if number % 29 == 0:
        return text + chance.randbytes(9_000)
    return text + (b"a" * 600 if number % 7 == 0 else chance.randbytes(chance.randrange(20, 400)))


@cache
def base(kept: str) -> Base:
    """Return an outbox that was closed in order, or one whose process was killed with messages in the log."""
    with tempfile.TemporaryDirectory() as folder:
        return _build(Path(folder) / "outbox", killed=kept == "log")


def _build(directory: Path, *, killed: bool) -> Base:
    now = time.monotonic()
    outbox = Outbox(OutboxRules(min_free_bytes=0), directory)
    outbox.open(now)
    entries = [
        Entry("event" if number % 5 == 0 else "result", "abc"[number % 3], (payload(number),), now)
        for number in range(250)
    ]
    for start in range(0, len(entries), 50):
        for entry in entries[start : start + 50]:
            outbox.put(entry)
        now += 10
        outbox.maintain(now, away=True)
    outbox.requeue(now)
    gone = outbox.take("result", "backlog", 60, PLENTY)
    outbox.ack(stored.id for stored in gone)
    outbox.maintain(now + 10, away=True)
    outbox.maintain(now + 20, away=True)
    if not killed:
        outbox.close()
    files = {
        suffix: path.read_bytes() for suffix in ("", "-wal") if (path := directory / f"outbox.db{suffix}").exists()
    }
    sent = {stored.entry.items[0] for stored in gone}
    outbox.close()
    return Base(files, {entry.items[0]: entry for entry in entries if entry.items[0] not in sent}, sent)


def outbox(folder: Path, seed: int) -> dict[str, int]:
    """Damage an outbox and use it; return what it counted, and how many messages came out."""
    chance = random.Random(seed)
    sound = base(chance.choice(["closed", "log"]))
    directory = folder / f"outbox{seed}"
    directory.mkdir()
    for suffix, data in sound.files.items():
        (directory / f"outbox.db{suffix}").write_bytes(data)
    what = chance.choice(DAMAGES)
    what(directory, chance)
    if what in {cut, mix, noise} and _is_clean_cut(directory):
        shutil.rmtree(directory)
        return {}
    try:
        return _look(directory, sound, f"seed {seed}, {what.__name__}")
    finally:
        shutil.rmtree(directory)


def running(folder: Path, seed: int) -> dict[str, int]:
    """Damage an outbox while it is in use; return how many messages came out, and what was counted."""
    chance = random.Random(seed)
    directory = folder / f"running{seed}"
    now = time.monotonic()
    used = Outbox(OutboxRules(min_free_bytes=0), directory)
    used.open(now)
    put: set[bytes] = set()
    came: list[bytes] = []
    try:
        for turn in range(12):
            for number in range(turn * 20, turn * 20 + 20):
                put.add(payload(number))
                used.put(Entry("result", "a", (payload(number),), now))
            now += 10
            used.maintain(now, away=True)
            if turn in {3, 7}:
                chance.choice((flip, flip_structure, cut, zero, noise, strange))(directory, chance)
            if turn % 2:
                used.requeue(now)
                stored_entries = used.take("result", "backlog", 30, PLENTY)
                came += [stored.entry.items[0] for stored in stored_entries]
                used.ack(stored.id for stored in stored_entries)
        used.close()
        left, counts, _ = _all_of(directory, now, f"seed {seed}")
        came += [entry.items[0] for entry in left]
        assert put.issuperset(came), f"seed {seed}: a message was altered"
        lost = counts.get("messages, disk damaged", 0) + used.counts["messages, disk damaged"]
        unknown = {**used.counts, **counts}.get("unknown numbers of messages, disk damaged", 0)
        assert unknown or len(put - {*came}) <= lost, (
            f"seed {seed}: {len(put - {*came})} are missing, {lost} counted"
        )
        return {"came": len(came), "missing": len(put - {*came}), "unknown": unknown}
    finally:
        shutil.rmtree(directory)


def _is_clean_cut(directory: Path) -> bool:
    """Whether a log ends between two of its frames: nobody can know that there were more."""
    path = directory / "outbox.db-wal"
    length = path.stat().st_size if path.exists() else PAGE
    return length <= 32 or (length - 32) % (PAGE + 24) == 0


def _look(directory: Path, sound: Base, name: str) -> dict[str, int]:
    now = time.monotonic()
    found, counts, notices = _all_of(directory, now, name)
    if "later Limpet" in notices:
        return {}
    payloads = [entry.items[0] for entry in found]
    assert len(set(payloads)) == len(payloads), f"{name}: a message came twice"
    for entry in found:
        ours = sound.waiting.get(entry.items[0])
        assert ours or entry.items[0] in sound.sent, f"{name}: a message was altered"
        assert not ours or (entry.kind, entry.pipeline) == (ours.kind, ours.pipeline), (
            f"{name}: a message was altered"
        )
    missing = len(sound.waiting) - len([each for each in payloads if each in sound.waiting])
    lost = counts.get("messages, disk damaged", 0)
    unknown = counts.get("unknown numbers of messages, disk damaged", 0)
    assert unknown or missing <= lost, f"{name}: {missing} are missing, {lost} are counted"
    # What is saved is still there the next time, and the file is sound again.
    again, _, _ = _all_of(directory, now + 100, name)
    assert {entry.items[0] for entry in again} >= set(payloads), f"{name}: the second start loses messages"
    assert len([path for path in directory.iterdir() if "damaged" in path.name]) <= 4
    revived = len([each for each in payloads if each in sound.sent])
    return {"saved": len(found), "missing": missing, "lost": lost, "unknown": unknown, "revived": revived}


def _all_of(directory: Path, now: float, name: str) -> tuple[list[Entry], dict[str, int], str]:
    """Return all messages of an outbox, as the intake would send them, its counts, and what it says."""
    outbox = Outbox(OutboxRules(min_free_bytes=0), directory)
    outbox.open(now)
    found: list[Entry] = []
    for _ in range(4):
        outbox.requeue(now)
        found = [
            stored.entry
            for kind in ("event", "result")
            for part in ("backlog", "fresh")
            for stored in outbox.take(kind, part, 100_000, PLENTY)
        ]
        outbox.oldest()
        now += 10
        outbox.maintain(now, away=True)
    notices = " ".join(reason for _, reason in outbox.notices())
    assert outbox.depth >= 0, name
    outbox.close()
    return found, dict(outbox.counts), notices


# --- damage to a database


def _database(directory: Path) -> Path:
    return directory / "outbox.db"


def _any(directory: Path, chance: random.Random) -> Path:
    files = [path for path in directory.glob("outbox.db*") if path.is_file() and path.stat().st_size]
    return chance.choice(sorted(files))


def flip(directory: Path, chance: random.Random) -> None:
    path = _any(directory, chance)
    data = bytearray(path.read_bytes())
    for _ in range(chance.choice([1, 1, 2, 8, 64])):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    path.write_bytes(data)


def flip_structure(directory: Path, chance: random.Random) -> None:
    """Damage the headers of pages, and that of the file."""
    path = _any(directory, chance)
    data = bytearray(path.read_bytes())
    for _ in range(chance.choice([1, 1, 3])):
        at = chance.randrange(0, len(data), PAGE) + chance.randrange(110)
        if at < len(data):
            data[at] = chance.randrange(256)
    path.write_bytes(data)


def cut(directory: Path, chance: random.Random) -> None:
    path = _any(directory, chance)
    length = path.stat().st_size
    at = chance.choice([chance.randrange(length), length - chance.randrange(1, min(length, 3 * PAGE))])
    os.truncate(path, chance.choice([at, at // PAGE * PAGE]))


def zero(directory: Path, chance: random.Random) -> None:
    path = _any(directory, chance)
    with path.open("r+b") as file:
        file.seek(chance.randrange(path.stat().st_size) // PAGE * PAGE)
        file.write(bytes(chance.choice([512, PAGE, 4 * PAGE])))


def swap(directory: Path, chance: random.Random) -> None:
    data = bytearray(_database(directory).read_bytes())
    one, two = (chance.randrange(len(data) // PAGE) * PAGE for _ in range(2))
    data[one : one + PAGE], data[two : two + PAGE] = data[two : two + PAGE], data[one : one + PAGE]
    _database(directory).write_bytes(data)


def noise(directory: Path, chance: random.Random) -> None:
    path = _any(directory, chance)
    path.write_bytes(chance.randbytes(chance.choice([0, 1, 99, 100, 4096, 20_000])))


def mix(directory: Path, chance: random.Random) -> None:
    """Put a log beside a database that is not its own."""
    other = base("log").files["-wal"]
    (directory / "outbox.db-wal").write_bytes(other[: chance.randrange(len(other))])


STATEMENTS = (
    "UPDATE result SET payload = 'text'",
    "UPDATE result SET payload = 7",
    "UPDATE result SET payload = zeroblob(20000000)",
    "UPDATE result SET sequence = 9223372036854775807 WHERE sequence = (SELECT max(sequence) FROM result)",
    "UPDATE result SET sequence = -sequence",
    "UPDATE result SET items = 1 << 62",
    "UPDATE result SET items = 'many'",
    "UPDATE result SET items = 'a' WHERE sequence % 3 = 0",
    "UPDATE result SET pipeline = 'a/#'",
    "UPDATE result SET pipeline = 'a' || char(0)",
    "UPDATE result SET pipeline = cast(x'ff00fe' AS TEXT)",
    "UPDATE result SET pipeline = replace(hex(zeroblob(35000)), '00', 'p')",
    "UPDATE result SET pipeline = x'61'",
    "UPDATE event SET pipeline = 7",
    "UPDATE result SET born = 'yesterday'",
    "UPDATE result SET born = 9e999",
    "UPDATE result SET wall = -9e999",
    "UPDATE result SET boot = zeroblob(1000000)",
    "UPDATE result SET size = -1",
    "UPDATE result SET size = 1 << 61",
    "UPDATE result SET packed = 1",
    "UPDATE result SET packed = 'x'",
    "UPDATE result SET crc = 'x'",
    "UPDATE total SET messages = -5",
    "UPDATE total SET messages = 1 << 62, bytes = 1 << 62",
    "UPDATE total SET bytes = 'lots'",
    "UPDATE total SET kind = 'a/#' WHERE kind = 'event'",
    "DELETE FROM total",
    "DELETE FROM result",
    "DELETE FROM result WHERE sequence % 2",
    "INSERT INTO shed VALUES ('a' || char(10), 1, 1)",
    "INSERT INTO shed VALUES (zeroblob(100000), 'x', 1)",
    "INSERT INTO total VALUES ('third', 1, 1, 1)",
    "INSERT INTO event SELECT * FROM result",
    "DROP TABLE result",
    "DROP TABLE total",
    "ALTER TABLE result ADD COLUMN more TEXT",
    "ALTER TABLE result ADD COLUMN more AS (abs(-9223372036854775807 - 1))",
    "DROP TABLE result; CREATE VIEW result AS SELECT * FROM event",
    "DROP TABLE shed; CREATE VIRTUAL TABLE shed USING fts5(cause, items, head)",
    "CREATE TRIGGER t AFTER INSERT ON result BEGIN DELETE FROM event; END",
    "CREATE TRIGGER t AFTER DELETE ON result BEGIN UPDATE total SET messages = 99; END",
    "CREATE INDEX i ON result (abs(items))",
    "CREATE TABLE sqlite_stat9 (a)",
    "CREATE TABLE others (a); DROP TABLE event",
    "PRAGMA user_version=0",
    "PRAGMA user_version=1",
    "PRAGMA user_version=-7",
    "PRAGMA user_version=123456",
    "PRAGMA journal_mode=DELETE",
    "PRAGMA journal_mode=DELETE; PRAGMA page_size=512; VACUUM",
    "PRAGMA journal_mode=DELETE; PRAGMA page_size=65536; VACUUM",
    "PRAGMA auto_vacuum=FULL; VACUUM",
    "PRAGMA writable_schema=ON; UPDATE sqlite_master SET sql = 'CREATE TABLE result (a)' WHERE name = 'result'",
    "PRAGMA writable_schema=ON; UPDATE sqlite_master SET rootpage = 999 WHERE name = 'result'",
    "PRAGMA writable_schema=ON; UPDATE sqlite_master SET rootpage = 2 WHERE name = 'result'",
    "PRAGMA writable_schema=ON; DELETE FROM sqlite_master",
    "PRAGMA writable_schema=ON; UPDATE sqlite_master SET sql = 'nonsense'",
)


def rewrite(directory: Path, chance: random.Random) -> None:
    """Make a valid database of it that Limpet has not written."""
    with closing(sqlite3.connect(_database(directory), isolation_level=None)) as db, suppress(sqlite3.Error):
        db.executescript(chance.choice(STATEMENTS))


def foreign(directory: Path, chance: random.Random) -> None:
    """Put the database of another program there."""
    for path in list(directory.iterdir()):
        path.unlink()
    with closing(sqlite3.connect(_database(directory))) as db:
        db.executescript("CREATE TABLE result (sequence, payload); INSERT INTO result VALUES (1, 'x');")
        db.execute(f"PRAGMA user_version={chance.randrange(-3, 3)}")
        db.commit()


def strange(directory: Path, chance: random.Random) -> None:
    """Put something that is no file in the place of one."""
    path = directory / chance.choice(
        ["outbox.db", "outbox.db-wal", "outbox.db-journal", "outbox.db-shm", "ballast"]
    )
    state_files.remove(path)
    make_strange(path, chance)


def make_strange(path: Path, chance: random.Random) -> None:
    """Make a FIFO, a directory, or a link to what never ends."""
    make = chance.choice([os.mkfifo, os.mkdir, None])
    if make:
        make(path)
    else:
        path.symlink_to("/dev/zero")


def hot_journal(directory: Path, chance: random.Random) -> None:
    """Lay a journal that SQLite would roll back."""
    pages = b"".join(n.to_bytes(4, "big") + chance.randbytes(PAGE) + bytes(4) for n in range(1, 4))
    head = bytes.fromhex("d9d505f920a163d7") + b"".join(n.to_bytes(4, "big") for n in (3, 0, 3, 512, PAGE))
    (directory / "outbox.db-journal").write_bytes(head.ljust(512, b"\0") + pages)


def nothing(directory: Path, chance: random.Random) -> None:
    """Leave it as it is."""


DAMAGES = (
    *[flip] * 3,
    *[flip_structure] * 2,
    cut,
    zero,
    swap,
    noise,
    mix,
    *[rewrite] * 2,
    foreign,
    strange,
    hot_journal,
    nothing,
)


# --- the write-ahead log and the record of boots


def wal(folder: Path, seed: int) -> int:
    """Damage a write-ahead log and read it; return how many messages came out."""
    chance = random.Random(seed)
    directory = folder / f"write-ahead log{seed}"
    written = WriteAheadLog(directory)
    written.read(1.0)
    for number in range(40):
        written.append([Item("result", "abc"[number % 3], payload(number))], 10.0 + number, 0.0)
    written.close(50.0, 0.0)
    (path,) = (directory / "write-ahead-log").iterdir()
    _spoil(path, chance)
    try:
        again = WriteAheadLog(directory)
        found = [entry.items[0] for entry in again.read(100.0)]
        assert len(set(found)) == len(found)
        assert found == [payload(number) for number in range(40) if payload(number) in found]
        assert len(found) == 40 or again.problems or path.is_file(), f"seed {seed}: silence"
        again.append([Item("event", "", b"new")], 100.0, 0.0)
        assert WriteAheadLog(directory).read(101.0)[-1].items[0] == b"new"
        return len(found)
    finally:
        shutil.rmtree(directory)


def boot(folder: Path, seed: int) -> str:
    """Damage the record of boots and start with it; return the name of the run."""
    chance = random.Random(seed)
    state = folder / f"boot{seed}"
    state.mkdir()
    first = boots.next_boot(state)
    path = state / "boot.json"
    texts = (
        b'{"count":1e999,"installation":"abcdef"}',
        b'{"count":-1,"installation":"a/#"}',
        b"[" * 3000,
        b"\xff",
        b"{}",
    )
    if chance.random() < 0.3:
        path.write_bytes(chance.choice(texts))
    else:
        _spoil(path, chance)
    notices: list[str] = []
    try:
        claim = boots.lock(state, notices.append)
        name = boots.next_boot(state, notices.append)
        if claim:
            claim.close()
        count, _, mark = name.partition("-")
        assert count.isdecimal()
        assert set(mark) <= set("0123456789abcdef")
        assert len(mark) == 12
        assert notices or name != first
        boots.renew(state)
        assert int(boots.next_boot(state).partition("-")[0]) == int(count) + 1
        return name
    finally:
        shutil.rmtree(state)


def _spoil(path: Path, chance: random.Random) -> None:
    """Damage any file."""
    data = bytearray(path.read_bytes())
    how = chance.randrange(6)
    if how == 0:
        data = data[: chance.randrange(len(data))]
    elif how == 1:
        data = bytearray(chance.randbytes(chance.choice([0, 1, 8, 500])))
    elif how == 2:
        path.unlink()
        make_strange(path, chance)
        return
    elif how == 3:
        at = chance.randrange(len(data))
        data[at:at] = chance.randbytes(chance.randrange(1, 40))
    else:
        for _ in range(chance.choice([1, 2, 16])):
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    path.write_bytes(data)
