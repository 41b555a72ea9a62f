"""Damaged state: what a failing card, or whoever wrote to the state directory, leaves for the next start."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from limpet.delivery.outbox import OVERHEAD, item_array
from limpet.delivery.outbox.log_records import Item
from limpet.delivery.outbox.schema import check
from limpet.delivery.outbox.write_ahead_log import WriteAheadLog
from limpet.device import boot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from attack.ground import Ground
    from attack.report import Attempt

BORDER = "the state directory"
TESTS = Path(__file__).parents[1]
OUTBOX = "reporters/mqtt"
WAL = f"{OUTBOX}/write-ahead-log"
DATABASE = f"{OUTBOX}/outbox.db"
HUGE = 1 << 30
THOUSANDS = {
    "outbox database": 1000,
    "outbox log": 1000,
    "write-ahead log": 3000,
    "write-ahead log record": 3000,
    "boot.json": 3000,
}
"""How many damaged ones of each kind are opened."""


def _garbage(name: str) -> Callable[[Path], object]:
    return lambda state: (state / name).write_bytes(os.urandom(8192))


def _boot(data: bytes) -> Callable[[Path], object]:
    return lambda state: (state / "boot.json").write_bytes(data)


def _instead(name: str, make: Callable[[Path], object]) -> Callable[[Path], None]:
    """Return what puts something else in the place of a file."""

    def damage(state: Path) -> None:
        path = state / name
        path.parent.mkdir(exist_ok=True)
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        make(path)

    return damage


def _linked(name: str, target: str) -> Callable[[Path], None]:
    return _instead(name, lambda path: path.symlink_to(target))


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(HUGE)


def _flipped(name: str) -> Callable[[Path], None]:
    def damage(state: Path) -> None:
        data = bytearray((state / name).read_bytes())
        for at in range(100, len(data), 997):
            data[at] ^= 0xFF
        (state / name).write_bytes(data)

    return damage


def _cut(name: str) -> Callable[[Path], None]:
    return lambda state: os.truncate(state / name, (state / name).stat().st_size // 2 - 7)


def _row(**fields: Any) -> Callable[[Path], None]:
    """Return what writes a row as the outbox does, its checksums too, but for these columns."""

    def damage(state: Path) -> None:
        payload = fields.get("payload", item_array.join([b'{"id":"x"}']))
        row = {
            "sequence": 1_000_000, "pipeline": "bystander", "items": 1, "boot": "b", "born": 1.0, "wall": 1.0,
            "size": len(payload) + OVERHEAD, "packed": 0, "crc": zlib.crc32(payload),
        } | fields  # fmt: skip
        row.pop("payload", None)
        values = [*row.values(), check("result", *row.values()), payload]
        with contextlib.closing(sqlite3.connect(state / DATABASE)) as db:
            db.execute("INSERT OR REPLACE INTO result VALUES (?,?,?,?,?,?,?,?,?,?,?)", values)
            db.execute("UPDATE total SET messages = messages + 1 WHERE kind = 'result'")
            db.commit()

    return damage


def _statement(sql: str) -> Callable[[Path], None]:
    def damage(state: Path) -> None:
        with contextlib.closing(sqlite3.connect(state / DATABASE)) as db:
            db.executescript(sql)

    return damage


def _wal(*items: Item) -> Callable[[Path], None]:
    """Return what writes a write-ahead log as the daemon does, with checksums that are right."""

    def damage(state: Path) -> None:
        wal = WriteAheadLog(state / OUTBOX)
        wal.read(0.0)
        wal.append(list(items), time.monotonic(), 0.0)

    return damage


DAMAGES: dict[str, tuple[str, Callable[[Path], object]]] = {
    "boot.json of garbage": ("boot.json", _garbage("boot.json")),
    "boot.json that is not UTF-8": ("boot.json", _boot(b'{"count":7,"installation":"\xe2\x28"}')),
    "boot.json whose installation is a/#": ("boot.json", _boot(b'{"count":7,"installation":"a/#\\u0000"}')),
    "boot.json with a count of 2^80": ("boot.json", _boot(b'{"count":%d,"installation":"a"}' % (1 << 80))),
    "boot.json of 100,000 nested lists": ("boot.json", _boot(b"[" * 100_000)),
    "boot.json of 1 GiB": ("boot.json", _instead("boot.json", _sparse)),
    "a FIFO in place of boot.json": ("boot.json", _instead("boot.json", os.mkfifo)),
    "a folder in place of boot.json": ("boot.json", _instead("boot.json", os.mkdir)),
    "a link to a secret in place of boot.json": (
        "boot.json", _linked("boot.json", "../mqtt-password")
    ),
    "a link to /dev/zero in place of boot.json": (
        "boot.json", _linked("boot.json", "/dev/zero")
    ),
    "a link in place of boot.new": ("boot.new", _linked("boot.new", "../limpet.toml")),
    "a FIFO in place of the lock": ("lock", _instead("lock", os.mkfifo)),
    "a folder in place of the lock": ("lock", _instead("lock", os.mkdir)),
    "a link in place of the lock": ("lock", _linked("lock", "../limpet.toml")),
    "a database of garbage": (DATABASE, _garbage(DATABASE)),
    "a database with flipped bytes": (DATABASE, _flipped(DATABASE)),
    "a database cut in half": (DATABASE, _cut(DATABASE)),
    "a database of 1 GiB of zeros": (DATABASE, _instead(DATABASE, _sparse)),
    "a FIFO in place of the database": (DATABASE, _instead(DATABASE, os.mkfifo)),
    "a folder in place of the database": (DATABASE, _instead(DATABASE, os.mkdir)),
    "a link in place of the database": (
        DATABASE, _linked(DATABASE, "/dev/zero")
    ),
    "a log of the database of garbage": (f"{DATABASE}-wal", _garbage(f"{DATABASE}-wal")),
    "a folder in place of the log": (f"{DATABASE}-wal", _instead(f"{DATABASE}-wal", os.mkdir)),
    "a FIFO in place of the ballast": (f"{OUTBOX}/ballast", _instead(f"{OUTBOX}/ballast", os.mkfifo)),
    "a folder in place of the ballast": (f"{OUTBOX}/ballast", _instead(f"{OUTBOX}/ballast", os.mkdir)),
    "a link in place of the ballast": (
        f"{OUTBOX}/ballast", _linked(f"{OUTBOX}/ballast", "../../limpet.toml")
    ),
    "a file in place of the outbox": (OUTBOX, _instead(OUTBOX, lambda path: path.write_bytes(b"x"))),
    "a link in place of the outbox": (OUTBOX, _linked(OUTBOX, "/proc/self")),
    "a file in place of all outboxes": ("reporters", _instead("reporters", lambda path: path.write_bytes(b"x"))),
    "a FIFO in place of all outboxes": ("reporters", _instead("reporters", os.mkfifo)),
    "a link in place of all outboxes": ("reporters", _linked("reporters", "/proc/self")),
    "a link in place of the cache": ("cache", _linked("cache", "/proc/self")),
    "a link in place of the folder that a worker may change": (
        "cache/models/calm", _linked("cache/models/calm", "../../reporters/mqtt")
    ),
    "a file in place of the cache": ("cache", _instead("cache", lambda path: path.write_bytes(b"x"))),
    "a row for the pipeline a/#": (DATABASE, _row(pipeline="a/#")),
    "a row for a pipeline with a NUL": (DATABASE, _row(pipeline="a\0b")),
    "a row for a pipeline of 70,000 letters": (DATABASE, _row(pipeline="x" * 70_000)),
    "a row whose pipeline is a number": (DATABASE, _row(pipeline=7)),
    "rows of no pipeline in UTF-8": (DATABASE, _statement("UPDATE result SET pipeline = CAST(x'ff' AS TEXT)")),
    "a row of 2^60 items": (DATABASE, _row(items=1 << 60)),
    "a row of minus one item": (DATABASE, _row(items=-1)),
    "a row born at infinity": (DATABASE, _row(born=float("inf"), wall=float("-inf"))),
    "a row that is packed twice": (DATABASE, _row(packed=1)),
    "a row whose payload is no JSON": (
        DATABASE, _row(payload=(noise := item_array.join([b"\xff\xfe["] * 3)), crc=zlib.crc32(noise), items=3)
    ),
    "a row of 1 MB that is said to be packed": (
        DATABASE, _row(payload=(bomb := zlib.compress(bytes(1 << 30))), crc=zlib.crc32(bomb), packed=1)
    ),
    "a row of the largest number": (DATABASE, _row(sequence=(1 << 63) - 1)),
    "totals of minus 2^60": (DATABASE, _statement("UPDATE total SET messages = -(1 << 60), bytes = 1 << 60")),
    "totals that are texts": (DATABASE, _statement("UPDATE total SET messages = 'many', bytes = x'00'")),
    "a database without tables": (
        DATABASE, _statement("DROP TABLE result; DROP TABLE event; DROP TABLE total; DROP TABLE shed")
    ),
    "a database with other tables": (
        DATABASE, _statement("DROP TABLE result; CREATE TABLE result (sequence TEXT, evil BLOB)")
    ),
    "a database with a trigger": (
        DATABASE,
        _statement("CREATE TRIGGER evil AFTER INSERT ON result BEGIN DELETE FROM result; DELETE FROM total; END"),
    ),
    "a database with a view for a table": (
        DATABASE,
        _statement(
            "DROP TABLE shed; CREATE VIEW shed AS WITH RECURSIVE r(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM r) "
            "SELECT x AS cause, x AS items FROM r"
        ),
    ),
    "a cause of drops that is a number": (DATABASE, _statement("INSERT INTO shed VALUES (x'ff00', 'many', 7)")),
    "a database of a later version": (DATABASE, _statement("PRAGMA user_version = 99")),
    "a write-ahead log for the pipeline a/#": (WAL, _wal(Item("result", "a/#", b"{}"))),
    "a write-ahead log for a name of 70,000 letters": (WAL, _wal(Item("result", "x" * 70_000, b"{}"))),
    "a write-ahead log of an unknown class": (WAL, _wal(Item("secret", "p", b"{}"))),
    "a write-ahead log that is not UTF-8": (WAL, _garbage(f"{WAL}/00000098.log")),
    "a write-ahead log of 1 GiB": (WAL, _instead(f"{WAL}/00000097.log", _sparse)),
    "a FIFO in place of a write-ahead log": (WAL, _instead(f"{WAL}/00000096.log", os.mkfifo)),
    "a folder in place of a write-ahead log": (WAL, _instead(f"{WAL}/00000095.log", os.mkdir)),
    "a file in place of the write-ahead log's folder": (
        WAL, _instead(WAL, lambda path: path.write_bytes(b"x"))
    ),
}  # fmt: skip
"""What is damaged, and how. Each is followed by a start of the daemon."""


def run(ground: Ground, names: Iterable[str] | None = None) -> None:
    """Damage the state of a daemon that was killed with messages on its disk, and start it, again and again."""
    _leave_messages(ground)
    sound = ground.folder / "sound"
    shutil.copytree(ground.state, sound, ignore=shutil.ignore_patterns("*.sock"))
    for name in names or DAMAGES:
        path, damage = DAMAGES[name]
        with ground.attempt(name, BORDER) as attempt:
            _restore(ground, sound)
            with _intact(attempt, ground.path, ground.folder / "mqtt-password"):
                damage(ground.state)
                attempt.reached = f"the daemon started on {path}"
                ground.start(attempt)
            attempt.happened = attempt.happened or ground.warnings()
    _restore(ground, sound)
    ground.start()


def _leave_messages(ground: Ground) -> None:
    """Kill the daemon when it has messages on its disk and in its write-ahead log."""
    ground.broker.freeze()
    with contextlib.suppress(AssertionError):
        ground.wait_for_disk()
    ground.end()
    ground.broker.thaw()


def _restore(ground: Ground, sound: Path) -> None:
    """Put a sound state back, as of the present number of starts."""
    ground.end()
    boot.next_boot(sound)
    if ground.state.is_symlink() or ground.state.is_file():
        ground.state.unlink()
    shutil.rmtree(ground.state, ignore_errors=True)
    shutil.copytree(sound, ground.state)


@contextlib.contextmanager
def _intact(attempt: Attempt, *paths: Path) -> Iterator[None]:
    """See that files outside the state stay as they are."""
    before = [path.read_bytes() for path in paths]
    yield
    if [path.read_bytes() for path in paths] != before:
        attempt.harmed("escaped")
        attempt.happened += " It wrote through a link."
    for path, data in zip(paths, before, strict=True):
        path.write_bytes(data)


def run_thousands(ground: Ground) -> None:
    """Open damaged state as a start does, without the rest of the daemon."""
    for parser, times in THOUSANDS.items():
        with ground.attempt(f"{times:,} times a damaged {parser}", BORDER) as attempt:
            # Where there is a file system in memory, syncing costs nothing.
            memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108
            with tempfile.TemporaryDirectory(dir=memory) as folder:
                _open_damaged(attempt, parser, times, Path(folder))


def _open_damaged(attempt: Attempt, parser: str, times: int, folder: Path) -> None:
    command = [sys.executable, "-m", "attack.damaged", parser, str(times), folder]
    done = subprocess.run(
        command,
        cwd=TESTS,
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        capture_output=True,
        check=False,
        timeout=300,
    )
    if done.returncode:
        attempt.harmed("poisoned_starts")
        attempt.happened = done.stderr.decode()[-200:]
        attempt.reached = "the process ended of it"
        return
    found = json.loads(done.stdout.splitlines()[-1])
    attempt.harmed("poisoned_starts", found["failed"])
    attempt.reached = f"{found['opened']} were opened"
    attempt.happened = found["first"]
