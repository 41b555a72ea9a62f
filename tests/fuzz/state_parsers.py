"""What lies in the state directory, as if a stranger had written it."""

from __future__ import annotations

import shutil
import struct
import time
import zlib
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from fuzz.registry import Prepared, parser
from limpet.audit import file as journal_file
from limpet.audit.entry import What, Who
from limpet.audit.journal import Journal
from limpet.contracts.adaptation import AdaptOptions, PriorLimits, ThresholdLimits
from limpet.delivery.outbox import Entry
from limpet.delivery.outbox.log_records import Item
from limpet.delivery.outbox.queue import Outbox
from limpet.delivery.outbox.rules import OutboxRules
from limpet.delivery.outbox.write_ahead_log import WriteAheadLog
from limpet.device import boot
from limpet.device.kept_file import DIGEST, checksum
from limpet.learning import state
from limpet.learning.accuracy import Accuracy, Judged, health
from limpet.learning.accuracy import take as take_answer
from limpet.learning.adaptations import NONE, Adaptation, add, correction
from limpet.learning.advice import RetrainingOptions, reasons
from limpet.learning.changes import Levels
from limpet.learning.state import AllLearned, Followed, Learned
from limpet.runtimes._learned_windows import LearnedWindows
from limpet.runtimes._mahalanobis import fit
from limpet.supervision import learning, roster
from support import reports

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

RULES = {"min_free_bytes": 0}


def fill(folder: Path, count: int = 40) -> Outbox:
    """Return an open outbox with messages on its disk."""
    outbox = Outbox(msgspec.convert(RULES, OutboxRules), folder)
    now = time.monotonic()
    outbox.open(now)
    for message in reports.results(count):
        outbox.put(Entry("result", "motion", (msgspec.json.encode(message),), now))
    outbox.put(Entry("event", "motion", (msgspec.json.encode(reports.event()),), now))
    outbox.maintain(now + 10, away=True)
    return outbox


def reopen(folder: Path) -> int:
    """Start on what lies in a folder, as the daemon does, and take all of it; return how much that was."""
    now = time.monotonic()
    outbox = Outbox(msgspec.convert(RULES, OutboxRules), folder)
    wal = WriteAheadLog(folder)
    outbox.open(now)
    outbox.restore(wal.read(now))
    outbox.requeue(now + 10)
    taken = 0
    for kind in ("event", "result"):
        for part in ("backlog", "fresh"):
            while entries := outbox.take(kind, part, 100, 1 << 20):
                taken += len(entries)
                outbox.ack(stored.id for stored in entries)
    outbox.maintain(now + 20, away=False)
    outbox.notices()
    outbox.close()
    wal.close(now, now)
    return taken


def contents(folder: Path) -> dict[str, bytes]:
    """Return the files of an outbox that is open, its log among them."""
    outbox = fill(folder)
    files = {path.name: path.read_bytes() for path in folder.glob("outbox.db*") if path.is_file()}
    outbox.close()
    return files


def _files(folder: Path, name: str) -> Prepared:
    """Prepare a parser of one file of an outbox, whose others are sound."""
    sound = contents(folder / "sound")
    closed = (folder / "sound" / "outbox.db").read_bytes()
    place = folder / "outbox"

    def take(data: bytes) -> None:
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        if name != "outbox.db":
            (place / "outbox.db").write_bytes(sound["outbox.db"])
        (place / name).write_bytes(data)
        reopen(place)

    return Prepared([closed] if name == "outbox.db" else [sound[name]], take)


@parser("outbox database")
def _database(folder: Path) -> Prepared:
    return _files(folder, "outbox.db")


@parser("outbox log")
def _log(folder: Path) -> Prepared:
    return _files(folder, "outbox.db-wal")


def _wal(folder: Path) -> tuple[bytes, Callable[[bytes], None]]:
    """Return a sound file of the wal, and what reads one."""
    sound = WriteAheadLog(folder / "sound")
    sound.read(0)
    items = [Item("result", "motion", msgspec.json.encode(message)) for message in reports.results(4)]
    for _ in range(3):
        sound.append(items, time.monotonic(), 0.0)
    data = next((folder / "sound").rglob("*.log")).read_bytes()
    sound.close(time.monotonic(), 0.0)
    place = folder / "outbox"

    def take(damaged: bytes) -> None:
        shutil.rmtree(place, ignore_errors=True)
        (place / "write-ahead-log").mkdir(parents=True)
        (place / "write-ahead-log" / "00000001.log").write_bytes(damaged)
        now = time.monotonic()
        outbox = Outbox(msgspec.convert(RULES, OutboxRules), None)
        outbox.restore(WriteAheadLog(place).read(now))

    return data, take


@parser("write-ahead log")
def _whole_log(folder: Path) -> Prepared:
    data, take = _wal(folder)
    return Prepared([data], take)


@parser("write-ahead log record")
def _log_record(folder: Path) -> Prepared:
    """The body of a record, under a checksum that is right."""
    data, take = _wal(folder)
    head = data[:8]
    (length,) = struct.unpack_from("<I", data, 8)
    body = data[16 : 16 + length]
    return Prepared([body], lambda raw: take(head + struct.pack("<II", len(raw), zlib.crc32(raw)) + raw))


@parser("learned windows")
def _learned(folder: Path) -> Prepared:
    """What a model has learned, under a checksum that is right."""
    sound = LearnedWindows(3, seed=0)
    for number in range(40):
        sound.add(np.arange(3, dtype=np.float32) + number, 1000)
    data = sound.encoded("accelerations")[DIGEST:]
    path = folder / "windows.bin"

    def take(damaged: bytes) -> None:
        path.write_bytes(checksum(damaged) + damaged)
        windows = LearnedWindows(3, seed=0)
        windows.load(path, "accelerations")
        windows.add(np.zeros(3, np.float32), 1000)
        fit(windows.rows) if len(windows.rows) > 1 else None

    return Prepared([data], take)


@parser("learning.json")
def _learning(folder: Path) -> Prepared:
    """Accuracy and adaptations: what is read becomes health, corrections, and the same file again."""
    judged = Judged("press/motion/b1/1", True, "walk", "walk", 0.9, ("site=north",))
    made = Adaptation(
        number=1, kind="threshold", time=1e9, model="shake", version=3, reason="why", threshold=0.5, undone=1e9
    )
    known = Learned(
        accuracy=(take_answer(Accuracy(model="shake", version=3), judged),),
        advised=("shake 3", "drift"),
        adaptations=add(add(NONE, made), msgspec.structs.replace(made, kind="priors", weights={"walk": 2.0})),
        followed=Followed(base=Levels(9, (1.0,), (0.5,))),
    )
    allowed = AdaptOptions(threshold=ThresholdLimits(least=0.1, most=0.9), priors=PriorLimits())

    def take(data: bytes) -> None:
        (folder / state.NAME).write_bytes(data)
        for one in learning.read(folder, lambda _: None).pipelines.values():
            for found in one.accuracy:
                again = take_answer(found, judged)
                msgspec.json.encode([health(again, None), reasons(again, None, {}, RetrainingOptions())])
            correction(one.adaptations, "shake", 3, allowed)
            whole = AllLearned(pipelines={"motion": one})
            msgspec.json.decode(msgspec.json.encode(whole), type=AllLearned)

    return Prepared([msgspec.json.encode(AllLearned(pipelines={"motion": known})), b"{}"], take)


@parser("pipelines.json")
def _pipelines(folder: Path) -> Prepared:
    def take(data: bytes) -> None:
        (folder / roster.NAME).write_bytes(data)
        roster.Roster(folder, lambda _: None).adopt(["one"])

    roster.Roster(folder, lambda _: None).adopt(["one", "two"])
    return Prepared([(folder / roster.NAME).read_bytes(), b"{}"], take)


@parser("boot.json")
def _boot(folder: Path) -> Prepared:
    def take(data: bytes) -> None:
        (folder / "boot.json").write_bytes(data)
        boot.next_boot(folder)

    boot.next_boot(folder)
    return Prepared([(folder / "boot.json").read_bytes(), b'{"count":7,"installation":"a1b2c3"}'], take)


@parser("audit journal")
def _journal(folder: Path) -> Prepared:
    """A journal as it was found at a start. Whatever it is, the file is one chain after the next line."""
    path = folder / journal_file.NAME
    journal = Journal(folder, "1-abcdef")
    for version in range(4):
        what = What(model="motion", version=version, reason="trial is over")
        journal.record("installed", what, pipeline="press", who=Who(keys=("k1",), topic="operators/anna"))
    journal.tend()
    journal.published()
    sound, head = path.read_bytes(), (folder / journal_file.PUBLISHED).read_bytes()

    def take(data: bytes) -> None:
        path.write_bytes(data)
        (folder / journal_file.PUBLISHED).write_bytes(head)
        started = Journal(folder, "2-abcdef")
        started.record("start")
        started.tend()
        found = journal_file.read(path, [started.head])
        if found.problem or found.torn:
            raise AssertionError(found.problem or "torn")

    return Prepared([sound, sound[:-9], b"", b"\n", b"{}\n"], take)


@parser("audit head")
def _head(folder: Path) -> Prepared:
    def take(data: bytes) -> None:
        (folder / journal_file.PUBLISHED).write_bytes(data)
        journal_file.published(folder)

    return Prepared([b'{"seq":7,"sha256":"' + b"a" * 64 + b'"}', b"{}"], take)
