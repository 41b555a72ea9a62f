"""The outbox on disks that fill up, cannot be written to, are damaged, or go away."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from limpet.delivery.outbox import Entry
from limpet.delivery.outbox.database import Database
from limpet.delivery.outbox.disk_errors import DiskDamagedError
from limpet.delivery.outbox.log_records import Item
from limpet.delivery.outbox.queue import Outbox
from limpet.delivery.outbox.rules import OutboxRules
from limpet.delivery.outbox.salvage import salvage
from limpet.delivery.outbox.write_ahead_log import WriteAheadLog
from limpet.reporters import mqtt
from support import reports
from support.broker import free_port, listener, mosquitto, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

PLENTY = 1 << 30
TESTS = Path(__file__).parent.parent


class Clocked:
    """An outbox whose time the test moves, ten seconds at a time, and what it said of its disk."""

    def __init__(self, directory: Path, **table: Any) -> None:
        self.now = time.monotonic()
        self.outbox = Outbox(msgspec.convert({"min_free_bytes": 0} | table, OutboxRules), directory)
        self.outbox.open(self.now)
        self.notices: list[tuple[str, str]] = []

    def put(self, first: int, last: int) -> None:
        for number in range(first, last):
            payload = f"{number:06d}".encode() + os.urandom(300)
            self.outbox.put(Entry("result", "p", (payload,), self.now))
            if number % 50 == 49:
                self.outbox.maintain(self.now, away=True)

    def wait(self) -> None:
        self.now += 10
        self.outbox.maintain(self.now, away=True)
        self.notices += self.outbox.notices()

    def numbers(self) -> list[int]:
        """Take everything, as on a new connection; return the numbers."""
        self.outbox.requeue(self.now + 10)
        entries = self.outbox.take("result", "backlog", 100_000, PLENTY)
        entries += self.outbox.take("result", "fresh", 100_000, PLENTY)
        return [int(stored.entry.items[0][:6]) for stored in entries]

    def said(self) -> list[str]:
        return [event for event, _ in self.notices]


def test_nothing_touches_the_disk_while_the_broker_keeps_up(tmp_path: Path) -> None:
    clocked = Clocked(tmp_path)
    before = (tmp_path / "outbox.db-wal").stat().st_size
    for number in range(100):
        clocked.put(number, number + 1)
        clocked.outbox.ack(stored.id for stored in clocked.outbox.take("result", "fresh", 10, PLENTY))
        clocked.wait()
    assert (tmp_path / "outbox.db-wal").stat().st_size == before
    clocked.outbox.close()


def test_a_durable_class_is_on_the_disk_at_once(tmp_path: Path) -> None:
    clocked = Clocked(tmp_path, results={"keep": "durable"})
    clocked.put(0, 10)
    assert clocked.outbox.next_due() <= clocked.now + 0.05
    clocked.outbox.maintain(clocked.now + 0.05, away=False)
    assert clocked.outbox.unsafe_since() == float("inf")


def test_memory_does_not_grow_with_the_depth(tmp_path: Path) -> None:
    clocked = Clocked(tmp_path, memory_bytes=65_536)
    for start in range(0, 4000, 500):
        clocked.put(start, start + 500)
        clocked.wait()
        assert clocked.outbox.memory_size <= 65_536
    assert clocked.outbox.depth == 4000
    assert clocked.numbers() == list(range(4000))
    clocked.outbox.close()


def test_what_was_shed_is_counted_over_restarts(tmp_path: Path) -> None:
    small = {"results": {"max_bytes": 20_000}}
    first = Clocked(tmp_path, **small)
    first.put(0, 200)
    first.wait()
    left = len(first.numbers())
    first.outbox.close()
    second = Clocked(tmp_path, **small)
    assert second.outbox.counts == {"results, outbox full": 200 - left}
    assert second.numbers() == list(range(200 - left, 200))
    second.outbox.close()


def test_an_empty_file_gives_its_room_back(tmp_path: Path) -> None:
    clocked = Clocked(tmp_path)
    clocked.put(0, 30_000)
    clocked.wait()
    assert (tmp_path / "outbox.db").stat().st_size > 8_000_000
    clocked.outbox.requeue(clocked.now)
    clocked.outbox.ack(stored.id for stored in clocked.outbox.take("result", "backlog", 100_000, PLENTY))
    clocked.wait()
    assert (tmp_path / "outbox.db").stat().st_size < 100_000
    clocked.outbox.close()


def test_a_deleted_directory_is_made_again_with_all_that_was_in_it(tmp_path: Path) -> None:
    directory = tmp_path / "outbox"
    clocked = Clocked(directory)
    clocked.put(0, 500)
    clocked.wait()
    shutil.rmtree(directory)
    clocked.put(500, 600)
    clocked.wait()
    clocked.wait()
    assert clocked.said() == ["outbox_degraded", "outbox_recovered"]
    assert clocked.numbers() == list(range(600))
    clocked.outbox.close()
    assert Clocked(directory).numbers() == list(range(600))


def damage_middle(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(os.urandom(20_000))


def damage_beginning(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"not a database at all")


@pytest.mark.parametrize("damage", [damage_middle, damage_beginning])
def test_a_damaged_file_costs_what_cannot_be_read_and_is_kept(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    first = Clocked(tmp_path)
    first.put(0, 2000)
    first.wait()
    first.outbox.close()
    damage(tmp_path / "outbox.db")
    second = Clocked(tmp_path)
    second.put(2000, 2100)
    numbers = second.numbers()
    second.wait()
    numbers = second.numbers()
    second.put(2100, 2200)
    second.wait()
    assert second.said()[0] == "outbox_degraded"
    assert second.said()[-1] == "outbox_recovered"
    assert (tmp_path / "outbox.db.damaged").exists()
    assert numbers == sorted(set(numbers))
    assert set(range(2000, 2100)) <= set(numbers)
    if damage is damage_middle:
        assert len(numbers) > 1500
        assert second.outbox.counts["messages, disk damaged"] == 2100 - len(numbers)
    second.outbox.close()
    assert set(range(2000, 2200)) <= set(Clocked(tmp_path).numbers())


def test_a_message_that_does_not_unpack_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    clocked = Clocked(tmp_path)
    clocked.outbox.put(Entry("result", "p", (b"1",) * 1001, clocked.now))
    clocked.wait()
    clocked.outbox.close()
    db = sqlite3.connect(path)
    db.execute("UPDATE result SET payload = x'00'")
    db.commit()
    db.close()
    disk = Database(path)
    with pytest.raises(DiskDamagedError, match="not what was written"):
        disk.read("result", 0, 1 << 62, 10, PLENTY)
    disk.close()
    assert salvage(path) == (0, 1)


ON_SMALL_DISK = """
import subprocess, sys
from pathlib import Path
sys.path[:0] = [{tests!r}, {reporters!r}]
from test_outbox_disk import Clocked
directory = Path({directory!r})
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "none", directory], check=True)
def remount(how): subprocess.run(["mount", "-o", "remount," + how, directory], check=True)
{code}
"""


def on_small_disk(directory: Path, code: str) -> None:
    """Run code in a process that has mounted 12 MiB of its own on a directory."""
    text = ON_SMALL_DISK.format(
        tests=str(TESTS),
        reporters=str(Path(__file__).parent),
        directory=str(directory),
        code=textwrap.dedent(code),
    )
    done = subprocess.run(
        ["unshare", "-Urm", sys.executable, "-c", text], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_a_full_disk_degrades_to_memory_and_is_used_again_when_there_is_room(tmp_path: Path) -> None:
    on_small_disk(
        tmp_path,
        """
        clocked = Clocked(directory, min_free_bytes=0)
        clocked.put(0, 1000)
        clocked.wait()
        filler = directory / "filler"
        with filler.open("wb") as file:
            try:
                while True: file.write(bytes(65536)); file.flush()
            except OSError:
                pass
        for start in range(1000, 4000, 100):
            clocked.put(start, start + 100)
            clocked.wait()
        assert clocked.said() == ["outbox_degraded"], clocked.notices
        assert not (directory / "ballast").exists()
        assert clocked.outbox.depth == 4000
        # What is on the full disk can be sent, and deleted.
        clocked.outbox.requeue(clocked.now)
        entries = clocked.outbox.take("result", "backlog", 800, 1 << 30)
        assert len(entries) == 800
        clocked.outbox.ack(stored.id for stored in entries)
        clocked.wait()
        assert clocked.outbox.depth == 3200
        filler.unlink()
        clocked.wait()
        assert clocked.said() == ["outbox_degraded", "outbox_recovered"], clocked.notices
        clocked.wait()
        assert (directory / "ballast").exists()
        assert clocked.outbox.unsafe_since() == float("inf")
        clocked.outbox.close()
        assert Clocked(directory).numbers() == list(range(800, 4000))
        """,
    )


def test_what_was_shed_while_the_disk_was_full_is_written_once_there_is_room(tmp_path: Path) -> None:
    on_small_disk(
        tmp_path,
        """
        from limpet.delivery.outbox.database import Change, Database
        from limpet.delivery.outbox.disk_errors import DiskFullError
        disk = Database(directory / "outbox.db")
        with (directory / "filler").open("wb", buffering=0) as file:
            try:
                while True: file.write(bytes(4096))
            except OSError:
                pass
        shed = {f"{number:0100d}": 7 for number in range(100)}
        try:
            disk.write(Change([], {}, shed))
            raise AssertionError("it was not full")
        except DiskFullError:
            pass
        (directory / "filler").unlink()
        disk.write(Change([], {}, shed))
        disk.close()
        assert Database(directory / "outbox.db").shed == shed
        """,
    )


def test_room_for_others_is_left_on_the_disk(tmp_path: Path) -> None:
    on_small_disk(
        tmp_path,
        """
        clocked = Clocked(directory, min_free_bytes=4 << 20, memory_bytes=1 << 20)
        for start in range(0, 40_000, 500):
            clocked.put(start, start + 500)
            clocked.wait()
        import shutil
        assert shutil.disk_usage(directory).free > 2 << 20
        assert clocked.said() == ["outbox_degraded"]
        assert "little space" in clocked.notices[0][1]
        shed = clocked.outbox.counts["results, outbox full"]
        assert shed + clocked.outbox.depth == 40_000
        """,
    )


def test_a_read_only_disk_degrades_to_memory_and_is_used_again_when_it_can_be(tmp_path: Path) -> None:
    on_small_disk(
        tmp_path,
        """
        first = Clocked(directory)
        first.put(0, 100)
        first.outbox.close()
        remount("ro")
        clocked = Clocked(directory)
        clocked.put(100, 200)
        clocked.wait()
        assert clocked.said() == ["outbox_degraded"], clocked.notices
        remount("rw")
        clocked.wait()
        clocked.wait()
        assert clocked.said() == ["outbox_degraded", "outbox_recovered"], clocked.notices
        assert clocked.numbers() == list(range(200))
        """,
    )


def test_the_write_ahead_log_brings_back_what_was_accepted_and_not_safe(tmp_path: Path) -> None:
    wal = WriteAheadLog(tmp_path)
    assert wal.read(1.0) == []
    wal.append([Item("result", "motion", b"1"), Item("event", "", b"2")], 10.0, 0.0)
    wal.append([Item("result", "motion", b"3")], 11.0, 10.5)
    again = WriteAheadLog(tmp_path)
    assert again.read(12.0) == [Entry("result", "motion", (b"3",), 11.0)]
    again.append([Item("result", "motion", b"4")], 13.0, 0.0)
    assert [entry.items[0] for entry in WriteAheadLog(tmp_path).read(14.0)] == [b"3", b"4"]


def test_the_write_ahead_log_forgets_what_is_safe(tmp_path: Path) -> None:
    wal = WriteAheadLog(tmp_path)
    wal.read(1.0)
    for number in range(40):
        wal.append([Item("result", "motion", os.urandom(100_000))], 10.0 + number, 0.0)
    assert len(list((tmp_path / "write-ahead-log").iterdir())) > 3
    wal.advance(60.0, 59.0)
    assert len(list((tmp_path / "write-ahead-log").iterdir())) == 1
    assert WriteAheadLog(tmp_path).read(61.0) == []
    wal.close(61.0, 62.0)
    assert list((tmp_path / "write-ahead-log").iterdir()) == []


@pytest.mark.parametrize("cut", [1, 5, 30])
def test_a_torn_or_damaged_end_of_the_write_ahead_log_costs_its_last_record_only(tmp_path: Path, cut: int) -> None:
    wal = WriteAheadLog(tmp_path)
    wal.read(1.0)
    wal.append([Item("result", "motion", b"1")], 10.0, 0.0)
    wal.append([Item("result", "motion", b"2")], 11.0, 0.0)
    (file,) = (tmp_path / "write-ahead-log").iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[:-cut])
    assert [entry.items[0] for entry in WriteAheadLog(tmp_path).read(12.0)] == [b"1"]
    file.write_bytes(whole[:-cut] + b"\\xff" * cut)
    assert [entry.items[0] for entry in WriteAheadLog(tmp_path).read(12.0)] == [b"1"]


def test_a_write_ahead_log_that_cannot_be_written_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "runtime").touch()
    wal = WriteAheadLog(tmp_path / "runtime")
    for number in range(20):
        wal.append([Item("result", "motion", b"1")], 10.0 + number, 0.0)
    assert len(caplog.records) == 1
    assert "a crash would now lose the last seconds" in caplog.text


CHILD = """
import sys
from pathlib import Path
from limpet.delivery.outbox.rules import OutboxRules
from limpet.reporters import mqtt
from support import reports
url, state, first = sys.argv[1:]
config = mqtt.Config(url=url, reconnect_max=0.1, outbox=OutboxRules(spill_after=0.2))
with reports.opened(mqtt, config, Path(state)) as reporter:
    for sequence in range(int(first), 1 << 30):
        reporter.report(reports.result(sequence))
        if sequence % 10 == 9:
            while reporter.health()["accepted"] <= sequence - int(first):
                pass
            print(sequence, flush=True)
"""


def accepted_until_killed(url: str, state: Path, first: int, tens: int) -> int:
    """Have a process report results from number ``first`` on; return the last that it had accepted.

    It is killed after this many times ten results.
    """
    environment = os.environ | {"PYTHONPATH": str(TESTS)}
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, url, str(state), str(first)], stdout=subprocess.PIPE, env=environment
    )
    assert child.stdout
    lines = [child.stdout.readline() for _ in range(tens)]
    child.send_signal(signal.SIGKILL)
    lines += child.stdout.readlines()
    child.stdout.close()
    child.wait()
    # The last line may be cut short.
    return int([line for line in lines if line.endswith(b"\n")][-1])


@pytest.mark.parametrize("away", [False, True], ids=["broker there", "broker away"])
def test_a_killed_process_loses_nothing_that_it_had_accepted(tmp_path: Path, *, away: bool) -> None:
    """Kill it while results pour in; what it had accepted must come out of the next process, or have come."""
    with mosquitto(tmp_path / "broker") as broker, listener(broker.port) as heard:
        url = f"mqtt://127.0.0.1:{free_port()}" if away else broker.url
        accepted = []
        first = 0
        for tens in (1, 30, 100):
            last = accepted_until_killed(url, tmp_path / "state", first, tens)
            accepted += range(first, last + 1)
            first = last + 1_000_000
        with reports.opened(mqtt, mqtt.Config(url=broker.url), tmp_path / "state") as reporter:
            wait_until(lambda: reporter.health()["connected"] and reporter.health()["outbox_depth"] == 0, 30)
            wait_until(lambda: set(accepted) <= {r["sequence"] for r in heard.results()["motion"]}, 30)
            assert reporter.health()["shed"] == {}
        if away:
            assert all(r["replayed"] for r in heard.results()["motion"])
