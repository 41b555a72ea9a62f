"""An outbox that a failing card, a power cut or a stranger has written to."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import time
from collections import Counter
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from limpet.delivery.outbox import LARGEST, Entry
from limpet.delivery.outbox.database import Database, set_totals
from limpet.delivery.outbox.disk_errors import DiskDamagedError
from limpet.delivery.outbox.log_records import Item
from limpet.delivery.outbox.queue import Outbox
from limpet.delivery.outbox.rules import OutboxRules
from limpet.delivery.outbox.salvage import salvage
from limpet.delivery.outbox.schema import check
from limpet.delivery.outbox.write_ahead_log import DAMAGED, WriteAheadLog
from support import state_damage
from support.state_damage import PAGE, PLENTY

if TYPE_CHECKING:
    from pathlib import Path

ROUNDS = 200
UNKNOWN = "unknown numbers of messages, disk damaged"
LOST = "messages, disk damaged"


def filled(directory: Path, count: int, size: int = 300) -> list[bytes]:
    """Leave an outbox with so many results, and return them."""
    now = time.monotonic()
    outbox = Outbox(OutboxRules(min_free_bytes=0), directory)
    outbox.open(now)
    payloads = [b"%06d" % number + os.urandom(size) for number in range(count)]
    for payload in payloads:
        outbox.put(Entry("result", "motion", (payload,), now))
    outbox.close()
    return payloads


def content(directory: Path) -> tuple[list[bytes], Counter[str], list[tuple[str, str]]]:
    """Open an outbox as a start of the daemon does; return what it sends, counts and says."""
    now = time.monotonic()
    outbox = Outbox(OutboxRules(min_free_bytes=0), directory)
    outbox.open(now)
    outbox.requeue(now)
    found = outbox.take("result", "backlog", 100_000, PLENTY)
    outbox.maintain(now + 10, away=True)
    outbox.requeue(now)
    found = outbox.take("result", "backlog", 100_000, PLENTY)
    outbox.close()
    return [stored.entry.items[0] for stored in found], outbox.counts, outbox.notices()


def test_any_damage_to_the_outbox_raises_nothing_alters_nothing_and_is_counted(tmp_path: Path) -> None:
    figures: Counter[str] = Counter()
    for seed in range(ROUNDS // 2):
        figures.update(state_damage.outbox(tmp_path, seed))
    assert figures["saved"] > figures["missing"] > figures["lost"] > 0


def test_damage_while_it_is_in_use_is_survived_and_counted(tmp_path: Path) -> None:
    figures: Counter[str] = Counter()
    for seed in range(ROUNDS // 8):
        figures.update(state_damage.running(tmp_path, seed))
    assert figures["came"] > 9 * figures["missing"]


def test_any_damage_to_the_write_ahead_log_costs_only_what_was_damaged(tmp_path: Path) -> None:
    assert sum(state_damage.wal(tmp_path, seed) for seed in range(ROUNDS)) > 20 * ROUNDS


def test_any_damage_to_the_record_of_boots_ends_in_another_name(tmp_path: Path) -> None:
    assert len({state_damage.boot(tmp_path, seed) for seed in range(ROUNDS // 2)}) > ROUNDS // 4


def test_of_a_database_cut_by_its_last_page_all_that_the_others_hold_is_saved(tmp_path: Path) -> None:
    payloads = filled(tmp_path, 410)
    path = tmp_path / "outbox.db"
    whole = path.read_bytes()
    os.truncate(path, len(whole) - PAGE)
    intact = [payload for payload in payloads if payload in whole[:-PAGE]]
    found, counts, notices = content(tmp_path)
    assert 380 < len(intact) < 410
    assert found == intact
    assert counts == {LOST: 410 - len(intact)}
    assert f"{len(intact)} messages could be read, {410 - len(intact)} could not" in notices[0][1]


@pytest.mark.parametrize("left", [1, 2, 3, 10, 25])
def test_of_a_database_cut_anywhere_all_that_is_left_is_saved(tmp_path: Path, left: int) -> None:
    payloads = filled(tmp_path, 410)
    path = tmp_path / "outbox.db"
    whole = path.read_bytes()
    os.truncate(path, left * PAGE)
    found, counts, _ = content(tmp_path)
    assert found == [payload for payload in payloads if payload in whole[: left * PAGE]]
    assert counts[UNKNOWN] or counts[LOST] == 410 - len(found)


def test_each_damaged_page_costs_only_what_is_on_it(tmp_path: Path) -> None:
    payloads = filled(tmp_path / "whole", 200)
    whole = (tmp_path / "whole/outbox.db").read_bytes()
    for number in range(0, len(whole), PAGE):
        folder = tmp_path / str(number)
        folder.mkdir()
        damaged = whole[:number] + os.urandom(PAGE) + whole[number + PAGE :]
        (folder / "outbox.db").write_bytes(damaged)
        found, counts, _ = content(folder)
        assert found == [payload for payload in payloads if payload in damaged]
        assert counts[UNKNOWN] or counts[LOST] == len(payloads) - len(found)


def test_messages_of_several_pages_are_saved(tmp_path: Path) -> None:
    payloads = filled(tmp_path, 40, size=20_000)
    path = tmp_path / "outbox.db"
    with path.open("r+b") as file:
        file.write(b"no database any more")
    assert salvage(path) == (40, 0)
    assert content(tmp_path)[0] == payloads


def test_what_the_log_holds_behind_a_damaged_frame_is_saved(tmp_path: Path) -> None:
    """SQLite would take the log up to the damage, and delete the rest."""
    sound = state_damage.base("log")
    log = sound.files["-wal"]
    saved = []
    for frame in range(0, (len(log) - 32) // (PAGE + 24), 3):
        folder = tmp_path / str(frame)
        folder.mkdir()
        at = 32 + frame * (PAGE + 24)
        (folder / "outbox.db").write_bytes(sound.files[""])
        (folder / "outbox.db-wal").write_bytes(log[: at + 24] + os.urandom(100) + log[at + 124 :])
        with pytest.raises(DiskDamagedError, match="write-ahead log"):
            Database(folder / "outbox.db")
        found = salvage(folder / "outbox.db")
        assert found.lost is None
        saved.append(found.saved)
    assert min(saved) >= len(sound.waiting) - 15
    assert max(saved) >= len(sound.waiting)


def test_acknowledged_messages_do_not_come_back(tmp_path: Path) -> None:
    """They are still in the file's free pages, unless SQLite was built to overwrite them."""
    payloads = filled(tmp_path, 400)
    path = tmp_path / "outbox.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA secure_delete=OFF")
        db.execute("DELETE FROM result WHERE sequence <= (SELECT max(sequence) - 50 FROM result)")
        ((size,),) = db.execute("SELECT sum(size) FROM result")
        set_totals(db, {"event": 0, "result": 50}, {"event": 0, "result": size})
    data = path.read_bytes()
    assert sum(payload in data for payload in payloads) > 300
    path.write_bytes(b"damaged" + data[7:])
    assert content(tmp_path)[:2] == (payloads[350:], {})


@pytest.mark.parametrize(
    "column", ["sequence", "pipeline", "items", "boot", "born", "wall", "size", "packed", "crc"]
)
def test_the_checksum_covers_every_column(tmp_path: Path, column: str) -> None:
    payloads = filled(tmp_path, 20)
    other = "'other'" if column in {"pipeline", "boot"} else f"{column} + 1"
    change = "UPDATE result SET $ = % WHERE sequence = (SELECT max(sequence) FROM result)"
    with closing(sqlite3.connect(tmp_path / "outbox.db", isolation_level=None)) as db:
        db.execute(change.replace("$", column).replace("%", other))
    found, counts, _ = content(tmp_path)
    assert found == payloads[:-1]
    assert counts == {LOST: 1}


def test_a_message_moved_to_the_other_class_comes_back_to_its_own(tmp_path: Path) -> None:
    payloads = filled(tmp_path, 5)
    with closing(sqlite3.connect(tmp_path / "outbox.db", isolation_level=None)) as db:
        db.execute("INSERT INTO event SELECT * FROM result")
        db.execute("DELETE FROM result")
    assert content(tmp_path)[:2] == (payloads, {})


@pytest.mark.parametrize("name", ["a/#", "a\0", "+", "", "p" * 70_000, "motion\n", "\ud7ff"])
def test_a_message_of_no_valid_pipeline_is_dropped_though_its_checksum_is_right(tmp_path: Path, name: str) -> None:
    payloads = filled(tmp_path, 3)
    with closing(sqlite3.connect(tmp_path / "outbox.db", isolation_level=None)) as db:
        (row,) = db.execute("SELECT * FROM result ORDER BY sequence LIMIT 1").fetchall()
        head = check("result", row[0], name, *row[2:9])
        db.execute("UPDATE result SET pipeline = ?, head = ? WHERE sequence = ?", (name, head, row[0]))
    found, counts, _ = content(tmp_path)
    assert found == payloads[1:]
    assert counts == {LOST: 1}


def test_what_no_outbox_can_keep_is_counted_and_not_taken(tmp_path: Path) -> None:
    outbox = Outbox(OutboxRules(min_free_bytes=0), tmp_path)
    outbox.open(1.0)
    outbox.put(Entry("result", "a/#", (b"x", b"y", b"z"), 1.0))
    outbox.put(Entry("event", "\n", (b"x",), 1.0))
    outbox.put(Entry("result", "motion", (bytes(LARGEST + 1),), 1.0))
    assert outbox.depth == 0
    assert outbox.counts == {
        "results, no pipeline has that name": 3,
        "events, no pipeline has that name": 1,
        "results, too large": 1,
    }
    outbox.close()


def test_counts_of_what_was_shed_survive_damage(tmp_path: Path) -> None:
    now = time.monotonic()
    rules = OutboxRules(min_free_bytes=0)
    rules.results.max_bytes = 20_000
    outbox = Outbox(rules, tmp_path)
    outbox.open(now)
    for number in range(200):
        outbox.put(Entry("result", "motion", (os.urandom(300),), now))
        outbox.maintain(now + number, away=True)
    outbox.close()
    shed = outbox.counts["results, outbox full"]
    with (tmp_path / "outbox.db").open("r+b") as file:
        file.write(b"damaged")
    assert content(tmp_path)[1]["results, outbox full"] == shed > 0


@pytest.mark.parametrize("name", ["outbox.db", "outbox.db-wal", "outbox.db-journal", "outbox.db-shm", "ballast"])
@pytest.mark.parametrize("what", ["link", "fifo", "directory"])
def test_what_is_no_file_is_set_aside_and_never_followed(tmp_path: Path, name: str, what: str) -> None:
    precious = tmp_path / "precious"
    precious.write_bytes(b"x" * 5000)
    directory = tmp_path / "outbox"
    payloads = filled(directory, 5)
    path = directory / name
    path.unlink(missing_ok=True)
    if what == "link":
        path.symlink_to(precious)
    elif what == "fifo":
        os.mkfifo(path)
    else:
        (path / "inside").mkdir(parents=True)
    found, counts, notices = content(directory)
    assert precious.read_bytes() == b"x" * 5000
    if name == "outbox.db":
        assert counts == {UNKNOWN: 1}
    else:
        assert found == payloads
        assert counts == {}
    assert bool(notices) == (name != "ballast")
    assert path.is_file() or not os.path.lexists(path)


@pytest.mark.parametrize("link", ["reporters", "reporters/mqtt"])
def test_a_write_ahead_log_behind_a_link_is_neither_read_nor_written(tmp_path: Path, link: str) -> None:
    elsewhere, folder = tmp_path / "elsewhere", tmp_path / "reporters/mqtt"
    for name in ("write-ahead-log", "mqtt/write-ahead-log"):
        (elsewhere / name).mkdir(parents=True)
        (elsewhere / name / "00000001.log").write_bytes(b"precious")
    before = sorted(elsewhere.rglob("*"))
    (tmp_path / link).parent.mkdir(exist_ok=True)
    (tmp_path / link).symlink_to(elsewhere)
    wal = WriteAheadLog(folder)
    assert wal.read(1.0) == []
    wal.append([Item("result", "motion", b"1")], 1.0, 0.0)
    wal.close(2.0, 2.0)
    assert sorted(elsewhere.rglob("*")) == before


@pytest.mark.parametrize("link", ["reporters", "reporters/mqtt"])
def test_an_outbox_behind_a_link_is_reported_and_kept_in_memory_until_the_link_is_gone(
    tmp_path: Path, link: str
) -> None:
    elsewhere, folder = tmp_path / "elsewhere", tmp_path / "reporters/mqtt"
    elsewhere.mkdir()
    (tmp_path / link).parent.mkdir(exist_ok=True)
    (tmp_path / link).symlink_to(elsewhere)
    now = time.monotonic()
    outbox = Outbox(OutboxRules(min_free_bytes=0), folder)
    outbox.open(now)
    outbox.put(Entry("result", "motion", (b"1",), now))
    outbox.maintain(now + 10, away=True)
    assert list(elsewhere.iterdir()) == []
    (notice,) = outbox.notices()
    assert "is a symbolic link, which Limpet does not follow" in notice[1]
    (tmp_path / link).unlink()
    outbox.maintain(now + 20, away=True)
    outbox.close()
    assert content(folder)[0] == [b"1"]


def test_a_power_cut_during_the_repair_loses_nothing(tmp_path: Path) -> None:
    payloads = filled(tmp_path, 20)
    path = tmp_path / "outbox.db"
    shutil.copy(path, tmp_path / "outbox.db.new")
    # Before the damaged file is set aside: the new one may be incomplete, and is made again.
    with (tmp_path / "outbox.db.new").open("r+b") as file:
        file.truncate(PAGE)
    assert content(tmp_path)[0] == payloads
    assert not (tmp_path / "outbox.db.new").exists()
    # Afterwards: the new one is complete.
    path.rename(tmp_path / "outbox.db.new")
    assert content(tmp_path)[0] == payloads


def test_only_the_last_damaged_file_is_kept(tmp_path: Path) -> None:
    for _ in range(3):
        filled(tmp_path, 5)
        (tmp_path / "outbox.db").write_bytes(random.Random(1).randbytes(9000))
        content(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ballast", "outbox.db", "outbox.db.damaged"]


def test_a_damaged_record_in_the_middle_of_the_write_ahead_log_costs_that_record_only(tmp_path: Path) -> None:
    wal = WriteAheadLog(tmp_path)
    wal.read(1.0)
    for number in range(5):
        wal.append([Item("result", "motion", b"%d" % number)], 10.0 + number, 0.0)
    wal.close(20.0, 0.0)
    (path,) = tmp_path.glob("write-ahead-log/*.log")
    data = path.read_bytes()
    path.write_bytes(data.replace(b"\xc4\x012", b"\xc4\x01x"))
    again = WriteAheadLog(tmp_path)
    assert [entry.items[0] for entry in again.read(30.0)] == [b"0", b"1", b"3", b"4"]
    assert again.damaged == 1
    assert "1 places are damaged" in again.problems[0]
    again.close(40.0, 50.0)
    assert [path.name for path in (tmp_path / "write-ahead-log").iterdir()] == [DAMAGED]


def test_messages_of_no_pipeline_in_the_write_ahead_log_are_counted_and_dropped(tmp_path: Path) -> None:
    wal = WriteAheadLog(tmp_path)
    wal.read(1.0)
    names = ("a/#", "a\0", "p" * 70_000, "", "motion")
    wal.append([Item("result", name, b"1") for name in names], 10.0, 0.0)
    again = WriteAheadLog(tmp_path)
    assert [entry.pipeline for entry in again.read(30.0)] == ["motion"]
    assert again.refused == 4


def test_a_write_ahead_log_of_too_many_files_and_strange_names_is_bounded(tmp_path: Path) -> None:
    folder = tmp_path / "write-ahead-log"
    folder.mkdir()
    for number in range(200):
        (folder / f"{number:08d}.log").write_bytes(b"limpetj\x02")
    for name in ("99999999.log", "²³.log", "x.log", "123456789012345678901234567890.log"):
        (folder / name).write_bytes(b"limpetj\x02")
    wal = WriteAheadLog(tmp_path)
    assert wal.read(1.0) == []
    wal.append([Item("result", "motion", b"1")], 2.0, 0.0)
    assert [entry.items[0] for entry in WriteAheadLog(tmp_path).read(3.0)] == [b"1"]
    assert len(list(folder.iterdir())) < 45
    assert wal.damaged > 100


def test_a_write_ahead_log_whose_folder_is_a_link_is_not_written_elsewhere(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run/write-ahead-log").symlink_to(elsewhere)
    wal = WriteAheadLog(tmp_path / "run")
    wal.read(1.0)
    wal.append([Item("result", "motion", b"1")], 2.0, 0.0)
    assert list(elsewhere.iterdir()) == []
    assert "is a symbolic link" in wal.problems[0]
    assert [entry.items[0] for entry in WriteAheadLog(tmp_path / "run").read(3.0)] == [b"1"]
