"""Short-lived processes that answer one question and end: checkers, examiners and the like.

Such a process reads what someone else wrote, so it may have been taken over. Its answer is bounded, in size and
in time, and it is killed once it has answered.
"""

from __future__ import annotations

import selectors
import socket
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any

import msgspec

from limpet.errors import UnreadableError
from limpet.isolation.child import describe, kill
from limpet.wire.border import cleaned
from limpet.wire.channel import Channel
from limpet.wire.fork_records import Question
from limpet.wire.records import LARGEST_RECORD

if TYPE_CHECKING:
    from collections.abc import Callable

    from limpet.supervision.forks import Forks

    Answer = Callable[[Any, str], None]
    """What takes the answer; or ``None``, and why there is none."""
    Cancel = Callable[[], None]
    More = Callable[[Any], float | None]
    """What takes each record, and returns how long the process may go on. ``None``: that record is the answer."""

TOO_LONG = "it took too long"
"""Why there is no answer when the time is over."""


class _Helper(msgspec.Struct, eq=False):
    """``channel`` is ``None`` until the fork server has the order. ``number`` is that of the fork."""

    name: str
    task: Question
    kind: Any
    until: float
    answer: Answer
    more: More | None = None
    again: int = 0
    number: int = 0
    pid: int | None = None
    channel: Channel[Any] | None = None


class Helpers:
    """The processes that have not answered yet, and those that have and may still be there."""

    def __init__(self, selector: selectors.BaseSelector, forks: Forks) -> None:
        self._selector = selector
        self._forks = forks
        self._waiting: list[_Helper] = []
        self._answered: list[_Helper] = []

    def start(  # noqa: PLR0913 - a process, its answer, and how long that may take
        self,
        name: str,
        task: Question,
        kind: Any,
        seconds: float,
        answer: Answer,
        *,
        more: More | None = None,
        again: int = 0,
    ) -> Cancel:
        """Start a process. ``answer`` is called with its record of ``kind``, in ``seconds`` at the latest.

        If it reports its steps before it answers, ``more`` says how long each may take. ``again``: how often it is
        started again if a signal kills it, as the kernel does for want of memory. If the fork server is
        being replaced, the process is started once there is one. Return what ends the process without an answer.
        It does nothing if the answer is there.
        """
        helper = _Helper(name, task, kind, monotonic() + seconds, answer, more, again)
        self._waiting.append(helper)
        self._fork(helper)
        return lambda: self._cancel(helper)

    def _cancel(self, helper: _Helper) -> None:
        if helper in self._waiting:
            self._withdraw(helper)

    def forked(self, number: int, pid: int) -> None:
        """Take note of a process. It is killed at once if its answer is there already."""
        for helper in (*self._waiting, *self._answered):
            if helper.number == number:
                helper.pid = pid
        for helper in self._answered:
            if helper.number == number:
                _kill(helper)

    def not_forked(self, number: int, reason: str) -> None:
        """Take note that the kernel refused a process."""
        self._answered = [helper for helper in self._answered if helper.number != number]
        for helper in list(self._waiting):
            if helper.number == number:
                self._finish(helper, None, f"it could not be started: {reason}")

    def exited(self, pid: int, status: int) -> None:
        """Take note that a process is gone. What it has sent counts."""
        self._answered = [helper for helper in self._answered if helper.pid != pid]
        for helper in [helper for helper in self._waiting if helper.pid == pid]:
            self._read(helper)
            if helper in self._waiting and helper.again and status < 0:
                self._ignore(helper)
                helper.channel = helper.pid = None
                helper.again -= 1
                self._fork(helper)
            elif helper in self._waiting:
                self._finish(helper, None, describe(status))
            self._answered = [other for other in self._answered if other is not helper]

    def next_due(self) -> float | None:
        """Return when the next answer is late, on the monotonic clock."""
        return min((helper.until for helper in self._waiting), default=None)

    def tend(self, now: float) -> None:
        """Give up those that take too long, and start those that could not be started."""
        for helper in list(self._waiting):
            if helper.until <= now:
                self._finish(helper, None, TOO_LONG)
            elif helper.channel is None:
                self._fork(helper)

    def fork_server_gone(self) -> None:
        """Take note that all processes are gone. Those that have not answered are started again by ``tend``."""
        self._answered.clear()
        for helper in self._waiting:
            self._ignore(helper)
            helper.channel = helper.pid = None

    def close(self) -> None:
        """Wait for no answer any more."""
        for helper in self._waiting:
            self._ignore(helper)
        self._waiting.clear()

    def _fork(self, helper: _Helper) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                helper.number = self._forks.fork(helper.name, helper.task, theirs)
            except OSError:
                ours.close()
                return  # There will be another fork server.
        ours.setblocking(False)
        helper.channel = Channel(ours, helper.kind, largest=LARGEST_RECORD)
        self._selector.register(helper.channel, selectors.EVENT_READ, lambda: self._read(helper))

    def _read(self, helper: _Helper) -> None:
        if helper.channel is None or helper not in self._waiting:
            return  # It was finished by an event of the same turn.
        try:
            for record in helper.channel.receive():
                seconds = None if helper.more is None else helper.more(record)
                if seconds is None:
                    self._finish(helper, record, "")
                    return
                helper.until = monotonic() + seconds
        except EOFError:
            with suppress(KeyError):
                self._selector.unregister(helper.channel)  # The fork server reports how it ended.
        except UnreadableError as error:
            self._finish(helper, None, cleaned(str(error)))

    def _finish(self, helper: _Helper, record: Any, reason: str) -> None:
        self._withdraw(helper)
        helper.answer(record, reason)

    def _withdraw(self, helper: _Helper) -> None:
        """Kill a process, and take no answer from it any more."""
        self._waiting.remove(helper)
        if helper.channel is not None:
            self._answered.append(helper)
        self._ignore(helper)
        _kill(helper)

    def _ignore(self, helper: _Helper) -> None:
        if helper.channel is not None:
            with suppress(KeyError):
                self._selector.unregister(helper.channel)
            helper.channel.close()


def _kill(helper: _Helper) -> None:
    if helper.pid is not None:
        kill(helper.pid)
