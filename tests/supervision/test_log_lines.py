"""Log lines of all processes reach those who watch: bounded, cleaned, and under the name of who wrote them."""

from __future__ import annotations

import array
import contextlib
import logging
import os
import selectors
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from limpet.contracts.messages import LogMessage, Origin
from limpet.device import log_socket
from limpet.device.log_socket import encode
from limpet.supervision.log_lines import AT_ONCE, TURN, LogLines

if TYPE_CHECKING:
    from collections.abc import Iterator

ORIGIN = Origin("press-07", "4-abc", "1.0")


def record(text: str, level: int = logging.INFO, **more: object) -> logging.LogRecord:
    return logging.LogRecord("limpet.part", level, "file.py", 1, text, None, None, **more)  # type: ignore[arg-type]


class Stand:
    def __init__(self) -> None:
        self.selector = selectors.PollSelector()
        reading, self.writer = log_socket.pair()
        self.writer.setblocking(False)
        self.shown: list[LogMessage] = []
        self.names = {os.getpid(): "worker imu"}
        self.lines = LogLines(ORIGIN, reading, lambda: self.names, self.shown.append, self.selector)
        self._reading = reading

    def turn(self) -> None:
        """Read all that is there."""
        while (ready := self.selector.select(0)) or self.lines.next_due():
            for key, _ in ready:
                key.data()
            self.lines.tend()

    def close(self) -> None:
        self.lines.close()
        for each in (self._reading, self.writer, self.selector):
            each.close()  # type: ignore[attr-defined]


@pytest.fixture
def stand() -> Iterator[Stand]:
    one = Stand()
    yield one
    one.close()


def test_a_line_has_the_process_that_the_kernel_names(stand: Stand) -> None:
    stand.lines.want(wanted=True)
    stand.writer.send(encode(record("it\x1b[31m runs\nsupervisor", logging.WARNING)))
    program = (
        "import os, socket; from limpet.device import log_socket, logs; logs.configure(); import logging;"
        "logging.getLogger('limpet.other').error('from a child')"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program],
        env={**os.environ, "LIMPET_LOG_SOCKET": str(stand.writer.fileno())},
        pass_fds=[stand.writer.fileno()],
        stderr=subprocess.DEVNULL,
    )
    child.wait()
    stand.turn()
    first, second = stand.shown
    assert (first.device, first.process, first.level, first.logger) == (
        "press-07", "worker imu", "WARNING", "limpet.part",
    )  # fmt: skip
    assert first.text == "it [31m runs supervisor"
    assert (second.process, second.level, second.text) == (f"process {child.pid}", "ERROR", "from a child")


def test_an_exception_is_named_in_its_line(stand: Stand) -> None:
    stand.lines.want(wanted=True)
    error = ValueError("no port")
    stand.writer.send(encode(logging.LogRecord("a", 40, "f", 1, "it ends", None, (ValueError, error, None))))
    stand.turn()
    assert stand.shown[0].text == "it ends: ValueError: no port"


def test_a_flood_is_counted_and_holds_up_nobody(stand: Stand) -> None:
    stand.lines.want(wanted=True)
    sent = 0
    while len(stand.shown) < AT_ONCE or sent < 3 * AT_ONCE:
        try:
            stand.writer.send(encode(record(f"line {sent}")))
            sent += 1
        except BlockingIOError:  # the handler drops such a line
            stand.turn()
    stand.turn()
    assert AT_ONCE <= len(stand.shown) < sent
    before = len(stand.shown)
    while len(stand.shown) == before:
        stand.writer.send(encode(record("later")))
        sent += 1
        stand.turn()
    assert len(stand.shown) + sum(line.left_out for line in stand.shown) == sent


def test_a_flood_is_read_in_small_turns_with_a_pause_after_each(stand: Stand) -> None:
    stand.lines.want(wanted=True)
    with contextlib.suppress(BlockingIOError):
        for n in range(TURN + 10):
            stand.writer.send(encode(record(f"line {n}")))
    ((key, _),) = stand.selector.select(0)
    key.data()
    assert len(stand.shown) == TURN
    assert stand.selector.select(0) == []
    assert stand.lines.next_due() is not None
    stand.turn()
    assert [line.text for line in stand.shown] == [f"line {n}" for n in range(TURN + 10)]
    assert stand.lines.next_due() is None


def test_lines_are_not_wanted_any_more_during_a_pause(stand: Stand) -> None:
    for wanted in (True, False) * 2:
        stand.lines.want(wanted=wanted)
        for n in range(TURN if wanted else 0):
            stand.writer.send(encode(record(f"line {n}")))
        for key, _ in stand.selector.select(0):
            key.data()
    assert stand.lines.next_due() is None
    assert len(stand.shown) == 2 * TURN


@pytest.mark.parametrize("data", [b"x", b"20\nlimpet", b"-1\na\nb", b"\xff\n\xff\n\xff", b"1" * 8000])
def test_what_is_no_line_is_skipped(stand: Stand, data: bytes) -> None:
    stand.lines.want(wanted=True)
    stand.writer.send(data)
    stand.writer.send(encode(record("good")))
    stand.turn()
    assert [line.text for line in stand.shown] == ["good"]


def test_descriptors_that_come_along_are_closed(stand: Stand) -> None:
    stand.lines.want(wanted=True)
    before = len(list(Path("/proc/self/fd").iterdir()))
    rights = array.array("i", [stand.writer.fileno()] * 3)
    stand.writer.sendmsg([encode(record("with files"))], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
    stand.turn()
    assert [line.text for line in stand.shown] == ["with files"]
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_lines_from_before_anybody_watched_are_thrown_away(stand: Stand) -> None:
    stand.writer.send(encode(record("old")))
    stand.lines.want(wanted=True)
    stand.writer.send(encode(record("new")))
    stand.turn()
    stand.lines.want(wanted=False)
    stand.writer.send(encode(record("late")))
    stand.turn()
    assert [line.text for line in stand.shown] == ["new"]


def test_a_process_that_shuts_the_socket_down_ends_the_lines_and_nothing_else(
    stand: Stand, caplog: pytest.LogCaptureFixture
) -> None:
    stand.lines.want(wanted=True)
    stand.writer.shutdown(socket.SHUT_RDWR)
    stand.turn()
    stand.lines.want(wanted=True)
    stand.turn()
    assert caplog.text.count("log lines are shown no more") == 1
