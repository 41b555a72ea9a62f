"""The supervisor's side of deployers: whatever one does, it is bounded, and ends that one alone."""

from __future__ import annotations

import selectors
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from limpet.contracts.chunks import MOST_CHUNKS
from limpet.contracts.updates import BundleSource
from limpet.supervision.deployer_claims import QUESTIONS_AT_ONCE, RECORDS_AT_ONCE, SLACK
from limpet.supervision.deployers import LARGEST_WAITING, Deployers
from limpet.wire.channel import Channel
from limpet.wire.deploy_records import LARGEST_FROM_DEPLOYER, Chunk, Ended, Lacking, Progress
from support.deployer_site import Heard
from support.fetcher import deploy, digest

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator
    from pathlib import Path

    from limpet.wire.deploy_records import Deploy

CONTENT = bytes(100_000)
FILE, PATCH = digest(CONTENT), "b" * 64
NO_PROCESS = 999_999_999


class Forks:
    """A fork server whose processes are ends of sockets in this test."""

    def __init__(self) -> None:
        self.gone = False
        self.ends: list[Channel[Any]] = []

    def fork(self, name: str, task: object, end: socket.socket) -> int:
        del name, task
        if self.gone:
            raise BrokenPipeError
        self.ends.append(Channel(end.dup(), Chunk))
        return len(self.ends)


class Desk:
    """Deployers for pipelines, and what is heard of them."""

    def __init__(self, folder: Path) -> None:
        self.selector = selectors.DefaultSelector()
        self.forks = Forks()
        self.deployers = Deployers(self.selector, self.forks)  # type: ignore[arg-type]
        self._folder = folder

    def order(self, pipeline: str = "p", **options: Any) -> Deploy:
        sources = [BundleSource(chunks="c" * 64), BundleSource(chunks="d" * 64, patch_of="e" * 64, sha256=PATCH)]
        return msgspec.structs.replace(deploy(self._folder, CONTENT, sources, **options), pipeline=pipeline)

    def start(self, pipeline: str = "p", pid: int = NO_PROCESS, **options: Any) -> tuple[Heard, Channel[Any]]:
        heard = Heard()
        self.deployers.start(self.order(pipeline, **options), heard)
        self.deployers.forked(len(self.forks.ends), pid)
        return heard, self.forks.ends[-1]

    def turn(self) -> None:
        for key, _ in self.selector.select(0):
            key.data()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.deployers.close()
    made.selector.close()
    for end in made.forks.ends:
        end.close()


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as started:
        yield started
        started.kill()


def test_the_end_is_heard_when_the_process_is_gone(desk: Desk, process: subprocess.Popen[bytes]) -> None:
    heard, end = desk.start(pid=process.pid)
    end.send(Progress(10, 20))
    end.send(Ended("fetched", received=30))
    desk.turn()
    assert heard.records == [Progress(10, 20)]
    assert heard.last is None
    assert process.wait() == -signal.SIGKILL
    desk.deployers.exited(process.pid, -signal.SIGKILL)
    assert heard.last == Ended("fetched", received=30)


def test_what_was_sent_counts_even_if_the_end_of_the_process_is_known_first(desk: Desk) -> None:
    heard, end = desk.start()
    end.send(Progress(1, 2))
    end.send(Ended("failed", "no server", received=2))
    desk.deployers.exited(NO_PROCESS, 0)
    assert heard.records == [Progress(1, 2)]
    assert heard.last == Ended("failed", "no server", received=2)


def test_a_process_that_ends_without_a_word_is_described(desk: Desk) -> None:
    heard, end = desk.start()
    end.close()
    desk.turn()
    assert heard.last is None
    desk.deployers.exited(NO_PROCESS, -signal.SIGSEGV)
    assert heard.last == "killed by SIGSEGV"


def test_a_process_that_closes_its_socket_and_goes_on_is_killed(
    desk: Desk, process: subprocess.Popen[bytes]
) -> None:
    _, end = desk.start(pid=process.pid)
    end.close()
    desk.turn()
    assert process.wait() == -signal.SIGKILL


@pytest.mark.parametrize(
    "record",
    [
        Progress(len(CONTENT) + 1, 0),
        Progress(-1, 0),
        Progress(0, 1_000_000 + SLACK + 1),
        Ended("failed", received=1_000_000 + SLACK + 1),
        Ended("failed", "x" * 2000),
        {"type": "Ended", "outcome": "good"},
        Lacking("a" * 64, needs_list=True),
        Lacking("../../command/reset", needs_list=True),
        Lacking(FILE, [(0, MOST_CHUNKS)]),
        Lacking(FILE, [(-1, 0)]),
        Lacking(FILE, [(2, 1)]),
        Lacking(FILE, [(0, 4), (4, 5)]),
        Lacking(FILE, [(at, at) for at in range(0, 600, 2)]),
        Chunk(FILE, 0, b""),
    ],
    ids=lambda record: type(record).__name__,
)
def test_attack_a_record_that_may_not_be_ends_that_deployer_alone(
    desk: Desk, process: subprocess.Popen[bytes], record: object
) -> None:
    other, _ = desk.start("other")
    heard, end = desk.start(pid=process.pid, most_bytes=1_000_000)
    end.send(record)
    desk.turn()
    assert process.wait() == -signal.SIGKILL
    desk.deployers.exited(process.pid, -signal.SIGKILL)
    assert isinstance(heard.last, str)
    assert heard.last != "killed by SIGKILL"
    assert not heard.records
    assert other.last is None
    assert set(desk.deployers.pids()) == {"other"}


def test_bytes_that_were_received_do_not_become_fewer(desk: Desk) -> None:
    heard, end = desk.start()
    end.send(Progress(10, 20))
    end.send(Ended("fetched", received=19))
    desk.turn()
    desk.deployers.exited(NO_PROCESS, 0)
    assert heard.last == "it claims to have received 19 bytes"


@pytest.mark.parametrize(
    ("record", "at_once"),
    [(Progress(1, 1), RECORDS_AT_ONCE), (Lacking(FILE, needs_list=True), QUESTIONS_AT_ONCE)],
    ids=["progress", "lacking"],
)
def test_attack_a_hostile_deployer_floods_the_supervisor(
    desk: Desk, process: subprocess.Popen[bytes], record: object, at_once: int
) -> None:
    heard, end = desk.start(pid=process.pid)
    for _ in range(200):
        end.send(record)
    for _ in range(10):
        desk.turn()
    assert process.wait() == -signal.SIGKILL
    desk.deployers.exited(process.pid, -signal.SIGKILL)
    assert at_once <= len(heard.records) <= at_once + 10
    assert "records a second" in str(heard.last)


def test_attack_a_record_without_end_is_not_kept(desk: Desk, process: subprocess.Popen[bytes]) -> None:
    heard, end = desk.start(pid=process.pid)
    end.socket.sendall((LARGEST_FROM_DEPLOYER + 1).to_bytes(4, "little"))
    desk.turn()
    assert process.wait() == -signal.SIGKILL
    desk.deployers.exited(process.pid, -signal.SIGKILL)
    assert str(LARGEST_FROM_DEPLOYER) in str(heard.last)


def test_chunks_go_to_deployers_that_asked_for_that_file(desk: Desk) -> None:
    _, one = desk.start("one")
    _, two = desk.start("two")
    desk.deployers.chunk(FILE, 0, b"too early")
    assert not desk.deployers.wanted_chunks()
    one.send(Lacking(FILE, needs_list=True))
    two.send(Lacking(PATCH, [(0, 5)]))
    desk.turn()
    assert desk.deployers.wanted_chunks() == {FILE, PATCH}
    desk.deployers.chunk(FILE, -1, b"list")
    desk.deployers.chunk(PATCH, 5, b"chunk")
    assert list(one.receive()) == [Chunk(FILE, -1, b"list")]
    assert list(two.receive()) == [Chunk(PATCH, 5, b"chunk")]
    one.send(Lacking(FILE))
    desk.turn()
    assert desk.deployers.wanted_chunks() == {PATCH}


def test_a_deployer_that_does_not_read_blocks_nothing_and_gets_the_rest_later(desk: Desk) -> None:
    _, end = desk.start()
    end.send(Lacking(FILE, needs_list=True))
    desk.turn()
    data = bytes(100_000)
    for index in range(200):
        desk.deployers.chunk(FILE, index, data)
    end.socket.setblocking(False)
    got: list[Chunk] = []
    quiet = 0
    while quiet < 5:
        desk.turn()
        came = list(end.receive())
        got += came
        quiet = 0 if end.received_bytes and came else quiet + 1
    assert 0 < len(got) * len(data) < LARGEST_WAITING + 2_000_000
    assert [chunk.index for chunk in got] == list(range(len(got)))
    desk.deployers.chunk(FILE, 7, b"again")
    assert list(end.receive()) == [Chunk(FILE, 7, b"again")]


def test_chunks_for_a_process_that_is_gone_are_dropped(desk: Desk) -> None:
    heard, end = desk.start()
    end.send(Lacking(FILE, needs_list=True))
    desk.turn()
    end.close()
    desk.deployers.chunk(FILE, 0, b"x")
    desk.turn()
    desk.deployers.exited(NO_PROCESS, 1)
    assert heard.last == "ended with exit status 1"


def test_a_deployer_that_takes_too_long_is_killed(desk: Desk, process: subprocess.Popen[bytes]) -> None:
    heard, _ = desk.start(pid=process.pid, seconds=5.0)
    due = desk.deployers.next_due()
    assert due is not None
    assert due > time.monotonic() + 5.0
    desk.deployers.tend(due - 1.0)
    assert process.poll() is None
    desk.deployers.tend(due)
    assert process.wait() == -signal.SIGKILL
    assert desk.deployers.next_due() is None
    desk.deployers.exited(process.pid, -signal.SIGKILL)
    assert heard.last == "it took too long"


def test_a_second_deployer_of_a_pipeline_waits_for_the_end_of_the_first(
    desk: Desk, process: subprocess.Popen[bytes]
) -> None:
    first, end = desk.start(pid=process.pid)
    second = Heard()
    desk.deployers.start(desk.order(), second)
    assert process.wait() == -signal.SIGKILL
    with pytest.raises(BrokenPipeError):
        end.send(Ended("fetched"))
    assert len(desk.forks.ends) == 1
    desk.deployers.exited(process.pid, -signal.SIGKILL)
    assert len(desk.forks.ends) == 2
    desk.deployers.forked(2, NO_PROCESS)
    desk.forks.ends[1].send(Ended("fetched"))
    desk.turn()
    desk.deployers.exited(NO_PROCESS, 0)
    assert (first.last, second.last) == (None, Ended("fetched"))


def test_a_deployer_that_is_stopped_before_it_is_there_is_killed_then(
    desk: Desk, process: subprocess.Popen[bytes]
) -> None:
    heard = Heard()
    desk.deployers.start(desk.order(), heard)
    desk.deployers.stop("p")
    desk.deployers.stop("p")
    assert process.poll() is None
    desk.deployers.forked(1, process.pid)
    assert process.wait() == -signal.SIGKILL
    desk.deployers.exited(process.pid, -signal.SIGKILL)
    assert heard.last is None


def test_a_process_that_the_kernel_refuses_is_an_end(desk: Desk) -> None:
    heard = Heard()
    desk.deployers.start(desk.order(), heard)
    desk.deployers.not_forked(1, "no memory")
    assert heard.last == "it could not be started: no memory"


def test_a_deployer_is_started_again_by_another_fork_server(desk: Desk) -> None:
    heard, _ = desk.start()
    desk.forks.gone = True
    desk.deployers.fork_server_gone()
    desk.deployers.tend(time.monotonic())
    assert heard.last is None
    desk.forks.gone = False
    desk.deployers.tend(time.monotonic())
    desk.deployers.forked(2, NO_PROCESS)
    desk.forks.ends[1].send(Ended("fetched"))
    desk.turn()
    desk.deployers.fork_server_gone()
    assert heard.last == Ended("fetched")


def test_the_one_who_listens_may_stop_the_deployer(desk: Desk) -> None:
    said: list[object] = []

    def heard(record: object, _: str) -> None:
        said.append(record)
        desk.deployers.stop("p")

    desk.deployers.start(desk.order(), heard)
    for _ in range(3):
        desk.forks.ends[0].send(Progress(1, 1))
    desk.turn()
    desk.turn()
    assert said == [Progress(1, 1)]
