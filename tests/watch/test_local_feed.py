"""The reader of the monitor socket: where it looks, and what it does about a socket that says something wrong."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from limpet.watch.inbox import MOST_BYTES, Inbox, Received
from limpet.watch.local import LARGEST_LINE, LocalFeed, paths
from support.broker import wait_until
from watch import messages as said

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def socket_path(tmp_path: Path) -> Path:
    return tmp_path / "monitor.sock"


@contextmanager
def daemon(path: Path, *answers: bytes) -> Iterator[None]:
    """Answer connections one after the other, each with these bytes and an end."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            for answer in answers:
                connection, _ = listener.accept()
                with connection:
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield
        thread.join()


def line(topic: str, message: bytes) -> bytes:
    return b'{"topic":"' + topic.encode() + b'","message":' + message + b"}\n"


@pytest.mark.parametrize(
    ("answer", "notice"),
    [
        (b"", "the daemon has stopped; connecting again"),
        (b"nonsense\n", "a line of the daemon could not be read"),
        (b'{"topic": 5}\n', "a line of the daemon could not be read"),
        (b'{"topic": "status", "message": {"device": 1}}\n', "a message of the daemon could not be read"),
        (b'{"refused": "8 others\\u001b[2J watch"}\n', "the daemon refuses: 8 others\\x1b[2J watch"),
        (b"x" * LARGEST_LINE + b"\n", "a line of the daemon is longer than"),
    ],
)
def test_what_is_wrong_is_said_and_the_connection_is_made_again(
    socket_path: Path, answer: bytes, notice: str
) -> None:
    inbox = Inbox()
    messages: list[Received] = []
    with (
        daemon(socket_path, answer, line("status", said.status())),
        LocalFeed([socket_path], Path("limpet.toml"), inbox),
    ):
        wait_until(lambda: notice in inbox.notice)
        wait_until(lambda: messages.extend(inbox.take()[0]) or messages)
    assert messages == [Received("press-07", "status", said.status())]


def test_messages_and_what_was_missed_are_handed_over(socket_path: Path) -> None:
    inbox = Inbox()
    taken: list[int] = []
    with (
        daemon(socket_path, b'{"missed": 12}\n' + line("event", said.event("x"))),
        LocalFeed([socket_path.with_name("none.sock"), socket_path], Path("limpet.toml"), inbox),
    ):
        wait_until(lambda: taken.append(inbox.take()[1]) or sum(taken) == 12)


def test_the_inbox_drops_the_oldest_messages_and_counts_them() -> None:
    inbox = Inbox()
    for number in range(20):
        inbox.put(Received("d", str(number), bytes(MOST_BYTES // 10)))
    messages, missed = inbox.take()
    assert [message.topic for message in messages] == [str(number) for number in range(10, 20)]
    assert missed == 10
    assert inbox.take() == ([], 0)


def test_the_socket_is_looked_for_where_the_daemon_of_a_file_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    state = tmp_path / "state"
    assert paths(state, tmp_path / "limpet.toml") == [state / "monitor.sock"]
    assert paths(state, Path("/etc/limpet/limpet.toml"))[-1] == Path("/run/limpet/monitor.sock")
    assert paths(state, Path("/etc/limpet/second.toml"))[-1] == Path("/run/limpet-second/monitor.sock")
    monkeypatch.setenv("RUNTIME_DIRECTORY", "/run/boxed")
    assert paths(state, tmp_path / "limpet.toml") == [Path("/run/boxed/monitor.sock"), state / "monitor.sock"]
