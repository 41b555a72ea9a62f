"""The writer of the audit journal, on real files: damage, power cuts, kill -9, a full disk, and its bounds."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limpet.audit import file as journal_file
from limpet.audit.entry import Entry, Head, What, Who, decode, hash_of
from limpet.audit.journal import BURST, OWN_BURST, Journal
from support.broker import wait_until

AGENT = Path(__file__).parents[2] / "agent"


def entries(state: Path) -> list[Entry]:
    return [decode(line.rstrip(b"\n")) for line in (state / journal_file.NAME).read_bytes().splitlines()]


def written(state: Path, lines: int = 3) -> Journal:
    journal = Journal(state, "1-abcdef")
    for number in range(lines):
        journal.record("activated", What(model="motion", version=number), pipeline="press")
    assert journal.tend() == []
    journal.published()
    return journal


def sound(state: Path) -> bool:
    published = journal_file.published(state)
    found = journal_file.read(state / journal_file.NAME, [published] if published else [])
    return not found.problem and not found.torn


def test_lines_say_what_was_done_and_by_whom(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "1-abcdef")
    what = What(model="motion", version=8, sha256="a" * 64, reason="trial is over")
    journal.record("installed", what, pipeline="press", who=Who(keys=("k1", "k2")), durable=True)
    (line,) = entries(tmp_path)
    assert (line.seq, line.event, line.pipeline, line.what) == (1, "installed", "press", what)
    assert (line.boot, line.who.keys, line.clock) == ("1-abcdef", ("k1", "k2"), None)
    assert journal.head == Head(1, hash_of((tmp_path / journal_file.NAME).read_bytes()[:-1]))
    assert (tmp_path / journal_file.NAME).stat().st_mode & 0o777 == 0o600


def test_another_run_goes_on_with_the_chain(tmp_path: Path) -> None:
    head = written(tmp_path).head
    journal = Journal(tmp_path, "2-abcdef")
    assert journal.head == head
    journal.record("start")
    assert (entries(tmp_path)[-1].seq, entries(tmp_path)[-1].prev, journal.tend()) == (4, head.sha256, [])
    assert sound(tmp_path)


@settings(max_examples=40)
@given(st.data())
def test_a_start_after_any_cut_goes_on_or_says_that_the_journal_is_damaged(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    state = tmp_path_factory.mktemp("state")
    journal = written(state)
    published = data.draw(st.booleans(), "published")
    if not published:
        (state / journal_file.PUBLISHED).unlink()
    path = state / journal_file.NAME
    whole = path.read_bytes()
    end = data.draw(st.integers(0, len(whole) - 1), "end")
    path.write_bytes(whole[:end])
    again = Journal(state, "2-abcdef")
    news = again.tend()
    assert bool(news) is published  # a lost end is known only from the head that was published
    again.record("start")
    assert sound(state)
    last = entries(state)[-1]
    if published:
        first = entries(state)[0]
        assert (first.event, first.seq, first.prev) == ("begun", 4, journal.head.sha256)
        assert (state / "audit.jsonl.damaged").read_bytes() == whole[:end]
    elif whole[:end] and not whole[:end].endswith(b"\n"):
        assert entries(state)[-2].event == "torn"
        assert (state / "audit.jsonl.torn").read_bytes() == whole[:end].splitlines()[-1]
    assert last.event == "start"


@pytest.mark.parametrize(
    "how", ["noise", "fifo", "link", "directory", "older", "missing", "second name", "endless"]
)
def test_a_damaged_or_replaced_journal_begins_again_with_the_head_that_was_published(
    tmp_path: Path, how: str
) -> None:
    path = tmp_path / journal_file.NAME
    precious = tmp_path / "precious"
    written(tmp_path, 2)
    older = path.read_bytes()
    precious.write_bytes(older)
    head = written(tmp_path, 2).head
    if how == "second name":
        os.link(path, tmp_path / "other")
    else:
        path.unlink()
    if how == "noise":
        path.write_bytes(os.urandom(5000))
    elif how == "endless":
        path.write_bytes(b"\n" * (3 << 20))
    elif how == "fifo":
        os.mkfifo(path)
    elif how == "link":
        path.symlink_to(precious)
    elif how == "directory":
        (path / "inside").mkdir(parents=True)
    elif how == "older":
        path.write_bytes(older)
    journal = Journal(tmp_path, "2-abcdef")
    ((event, reason),) = journal.tend()
    assert event == "state_damaged"
    assert "the audit journal begins again" in reason
    (first,) = entries(tmp_path)
    assert (first.event, first.seq, first.prev) == ("begun", head.seq + 1, head.sha256)
    assert first.what.reason
    assert precious.read_bytes() == older
    assert sound(tmp_path)
    assert Journal(tmp_path, "3-abcdef").tend() == []


@pytest.mark.parametrize("how", ["deleted", "replaced", "longer", "link"])
def test_a_journal_that_changes_while_the_daemon_runs_begins_again_at_the_next_line(
    tmp_path: Path, how: str
) -> None:
    journal = written(tmp_path)
    head, path = journal.head, tmp_path / journal_file.NAME
    precious = tmp_path / "precious"
    precious.write_bytes(path.read_bytes())
    if how == "longer":
        with path.open("ab") as file:
            file.write(b"x\n")
    else:
        path.unlink()
    if how == "replaced":
        path.write_bytes(precious.read_bytes().replace(b'"version":2', b'"version":9'))
    if how == "link":
        path.symlink_to(precious)
    before = precious.read_bytes()
    journal.record("rolled_back", pipeline="press")
    assert [event for event, _ in journal.tend()] == ["state_damaged"]
    first, second = entries(tmp_path)
    assert (first.event, first.prev, second.event) == ("begun", head.sha256, "rolled_back")
    assert precious.read_bytes() == before
    assert sound(tmp_path)


def fill(state: Path, beyond: int) -> None:
    """Write more than the journal may hold, over several runs, as one would be bounded in rate."""
    sizes = [0]
    while sum(sizes) < journal_file.LARGEST + beyond:
        journal = Journal(state, "1-abcdef")
        before = journal.head.seq
        for _ in range(int(OWN_BURST)):
            journal.record("failed", What(reason="x" * 500), pipeline="press")
        assert journal.tend() == []
        sizes.append((journal.head.seq - before) * 700)
        assert (state / journal_file.NAME).stat().st_size <= journal_file.LARGEST


def test_the_older_half_is_cut_at_the_limit_and_the_chain_says_so(tmp_path: Path) -> None:
    fill(tmp_path, 2 * journal_file.LARGEST)
    found = journal_file.read(tmp_path / journal_file.NAME)
    first, cut = found.chain.first, found.chain.last_cut
    assert first is not None
    assert cut is not None
    assert (found.problem, found.torn) == ("", b"")
    assert (cut.what.first, cut.what.cut) == (first.seq, first.prev)
    assert first.seq > 1000
    assert found.sound > journal_file.LARGEST // 4
    lines = (tmp_path / journal_file.NAME).read_bytes().splitlines(keepends=True)
    (tmp_path / journal_file.NAME).write_bytes(b"".join(lines[1:]))
    assert f"number {first.seq} is the first" in journal_file.read(tmp_path / journal_file.NAME).problem


def test_a_flood_of_commands_is_counted_in_a_summary_and_leaves_room_for_the_rest(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "1-abcdef")
    for _ in range(10_000):
        journal.record("command", What(command="restart"), who=Who(reporter="mqtt"))
        journal.count("ping")
    journal.record("installed", What(model="motion", version=8), durable=True)
    journal.close()
    every = entries(tmp_path)
    commands = sum(one.event == "command" for one in every)
    assert BURST <= commands < BURST + 60
    assert [one.event for one in every[-2:]] == ["installed", "summary"]
    assert every[-1].what.counts == {"command": 10_000 - commands, "ping": 10_000}


WRITER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from limpet.audit.entry import What
from limpet.audit.journal import Journal
number = 0
while True:
    journal = Journal(Path(sys.argv[1]), "run")
    for _ in range(50):
        journal.record("activated", What(model="motion", version=number, reason="r" * 300))
        number += 1
        journal.tend()
        journal.published()
"""


def test_kill_9_while_it_writes_leaves_a_chain_that_goes_on(tmp_path: Path) -> None:
    seen = 0
    for attempt in range(6):
        with subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), str(AGENT)]) as writer:
            path = tmp_path / journal_file.NAME
            wait_until(lambda: path.exists() and path.stat().st_size > 2000 + seen, 20)  # noqa: B023
            time.sleep(attempt * 0.003)
            writer.send_signal(signal.SIGKILL)
            writer.wait(10)
        journal = Journal(tmp_path, "after")
        assert [news for news in journal.tend() if news[0] == "state_damaged"] == []
        assert sound(tmp_path)
        seen = path.stat().st_size
    versions = [one.what.version for one in entries(tmp_path) if one.event == "activated"]
    assert len(versions) > 6


FULL = """
import os, subprocess, sys
from pathlib import Path
sys.path.insert(0, {agent!r})
from limpet.audit.entry import What, decode
from limpet.audit import file as journal_file
from limpet.audit.journal import Journal
state = Path({state!r})
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", state], check=True)
{code}
"""


def on_full_disk(state: Path, code: str) -> None:
    text = FULL.format(agent=str(AGENT), state=str(state), code=textwrap.dedent(code))
    done = subprocess.run(
        ["unshare", "-Urm", sys.executable, "-c", text], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_a_full_disk_loses_lines_says_so_once_and_a_line_counts_them_later(tmp_path: Path) -> None:
    on_full_disk(
        tmp_path,
        """
        journal = Journal(state, "1-abcdef")
        journal.record("start")
        filler = state / "filler"
        with filler.open("wb", buffering=0) as file:
            try:
                while True: file.write(bytes(4096))
            except OSError:
                pass
        for number in range(100):
            journal.record("failed", What(reason="x" * 300))
        news = journal.tend()
        assert [event for event, _ in news] == ["audit_gap"], news
        assert "No space left" in news[0][1], news
        assert journal.lost > 80, journal.lost
        lost, head = journal.lost, journal.head
        again = journal_file.read(state / "audit.jsonl")
        assert (again.problem, again.torn, again.chain.head) == ("", b"", head), again
        filler.unlink()
        journal.record("installed")
        assert journal.tend() == []
        lines = [decode(line) for line in (state / "audit.jsonl").read_bytes().splitlines()]
        gap, last = lines[-2:]
        assert (gap.event, gap.what.count, last.event) == ("gap", lost, "installed"), (gap, last)
        found = journal_file.read(state / "audit.jsonl")
        assert (found.problem, found.chain.lost) == ("", lost)
        """,
    )


def test_a_full_disk_at_a_start_with_a_damaged_journal_leaves_a_chain_that_says_so_later(tmp_path: Path) -> None:
    on_full_disk(
        tmp_path,
        """
        journal = Journal(state, "1-abcdef")
        journal.record("start")
        journal.tend()
        journal.published()
        (state / "audit.jsonl").write_bytes(b"x" * 3000)
        filler = state / "filler"
        with filler.open("wb", buffering=0) as file:
            try:
                while True: file.write(bytes(4096))
            except OSError:
                pass
        again = Journal(state, "2-abcdef")
        again.record("start")
        assert [event for event, _ in again.tend()] == ["state_damaged", "audit_gap"]
        filler.unlink()
        again.record("installed")
        lines = [decode(line) for line in (state / "audit.jsonl").read_bytes().splitlines()]
        assert [line.event for line in lines] == ["begun", "gap", "installed"], lines
        assert (lines[0].prev, lines[1].what.count) == (journal.head.sha256, 2)
        found = journal_file.read(state / "audit.jsonl", [journal.head, again.head])
        assert found.problem == "", found
        """,
    )


def test_a_folder_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    state = tmp_path / "missing" / "state"
    journal = Journal(state, "1-abcdef")
    journal.record("start")
    journal.record("command", durable=True)
    journal.published()
    assert [event for event, _ in journal.tend()] == ["audit_gap"]
    assert (journal.lost, journal.head.seq) == (2, 0)
    state.mkdir(parents=True)
    journal.record("installed")
    assert [one.event for one in entries(state)] == ["gap", "installed"]


def test_attack_a_flood_of_requests_hides_no_model_that_is_put_to_work(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "1-abcdef")
    for _ in range(1000):
        for event in ("update_wanted", "update_withdrawn", "update_refused", "update_failed"):
            journal.record(event, pipeline="press")
    journal.record("update_good", What(model="motion", version=8))
    journal.close()
    assert [one.event for one in entries(tmp_path)[-2:]] == ["update_good", "summary"]
