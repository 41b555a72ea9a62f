"""Processes that answer one question: whatever they do, there is one answer, and they are killed."""

from __future__ import annotations

import selectors
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from limpet.supervision.helpers import Helpers
from limpet.wire.channel import Channel
from limpet.wire.fork_records import Checked, Examine, Examined

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator
    from pathlib import Path


class Forks:
    """A fork server whose processes are ends of sockets in this test."""

    def __init__(self) -> None:
        self.gone = False
        self.ends: list[Channel[object]] = []

    def fork(self, name: str, task: object, end: socket.socket) -> int:
        del name, task
        if self.gone:
            raise BrokenPipeError
        self.ends.append(Channel(end.dup(), Checked))
        return len(self.ends)


class Desk:
    """Helpers, and the answers that came."""

    def __init__(self, path: Path) -> None:
        self.selector = selectors.DefaultSelector()
        self.forks = Forks()
        self.helpers = Helpers(self.selector, self.forks)  # type: ignore[arg-type]
        self.answers: list[tuple[object, str]] = []
        self._path = path

    def ask(self, seconds: float = 60.0) -> Callable[[], None]:
        """Ask, and return what withdraws the question."""
        path, answers = self._path, self.answers
        return self.helpers.start("one", Examine(path), Examined, seconds, lambda *said: answers.append(said))

    def turn(self) -> None:
        for key, _ in self.selector.select(0):
            key.data()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.helpers.close()
    made.selector.close()
    for end in made.forks.ends:
        end.close()


GOOD = Examined("motion", 3, "a" * 64)


def test_an_answer_is_passed_on_and_its_process_is_killed(desk: Desk) -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        desk.ask()
        desk.helpers.forked(1, process.pid)
        desk.forks.ends[0].send(GOOD)
        desk.turn()
        assert desk.answers == [(GOOD, "")]
        assert process.wait() == -signal.SIGKILL
    assert desk.helpers.next_due() is None


def test_a_process_that_answers_before_its_id_is_known_is_killed_then(desk: Desk) -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        desk.ask()
        desk.forks.ends[0].send(GOOD)
        desk.turn()
        assert process.poll() is None
        desk.helpers.forked(1, process.pid)
        assert process.wait() == -signal.SIGKILL


def test_a_question_that_is_withdrawn_gets_no_answer_and_its_process_is_killed(desk: Desk) -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        withdraw = desk.ask()
        desk.helpers.forked(1, process.pid)
        withdraw()
        assert process.wait() == -signal.SIGKILL
    desk.helpers.exited(process.pid, -signal.SIGKILL)
    withdraw()
    assert desk.answers == []
    assert desk.helpers.next_due() is None


def test_a_process_that_ends_without_an_answer_is_described(desk: Desk) -> None:
    desk.ask()
    desk.helpers.forked(1, 999_999_999)
    desk.forks.ends[0].close()
    desk.turn()
    assert desk.answers == []
    desk.helpers.exited(999_999_999, -signal.SIGSEGV)
    assert desk.answers == [(None, "killed by SIGSEGV")]


def test_an_answer_counts_even_if_the_end_of_its_process_is_known_first(desk: Desk) -> None:
    desk.ask()
    desk.helpers.forked(1, 999_999_999)
    desk.forks.ends[0].send(GOOD)
    desk.helpers.exited(999_999_999, 0)
    assert desk.answers == [(GOOD, "")]
    desk.turn()
    assert len(desk.answers) == 1


@pytest.mark.parametrize(
    "record",
    [
        Examined("Motion/../x", 3, "a" * 64),
        Examined("motion", 3, "../../etc/passwd", "a problem"),
        Examined("motion", -1, "a" * 64),
        Examined("motion", 3, "a" * 64, "x" * 2000),
        Examined("motion", 3, "a" * 64, runtime="../mahalanobis"),
        Examined("motion", 3, "a" * 64, file_sha256="../secret"),
        Examined("motion", 3, "a" * 64, signed_by=["a key"]),
        Checked([]),
    ],
    ids=["name", "hash", "version", "text", "runtime", "file", "key", "another record"],
)
def test_an_answer_that_may_not_be_is_none(desk: Desk, record: object) -> None:
    desk.ask()
    desk.forks.ends[0].send(record)
    desk.turn()
    ((answer, reason),) = desk.answers
    assert answer is None
    assert "could not be read" in reason


def test_neither_a_model_nor_a_problem_is_no_answer(desk: Desk) -> None:
    with pytest.raises(ValueError, match="neither"):
        Examined()
    desk.ask()
    desk.forks.ends[0].send({"type": "Examined"})
    desk.turn()
    assert desk.answers[0][0] is None


def test_a_process_that_takes_too_long_is_given_up(desk: Desk) -> None:
    desk.ask(seconds=0.5)
    desk.helpers.tend(time.monotonic())
    assert desk.answers == []
    desk.helpers.tend(time.monotonic() + 1.0)
    assert desk.answers == [(None, "it took too long")]


def test_a_process_that_the_kernel_refuses_is_an_answer(desk: Desk) -> None:
    desk.ask()
    desk.helpers.not_forked(1, "Cannot allocate memory")
    assert desk.answers == [(None, "it could not be started: Cannot allocate memory")]


def test_a_question_outlives_its_fork_server(desk: Desk) -> None:
    desk.ask()
    desk.forks.gone = True
    desk.forks.ends[0].close()
    desk.turn()
    desk.helpers.fork_server_gone()
    desk.helpers.tend(time.monotonic())
    assert desk.answers == []
    desk.forks.gone = False
    desk.helpers.tend(time.monotonic())
    desk.forks.ends[1].send(GOOD)
    desk.turn()
    assert desk.answers == [(GOOD, "")]
