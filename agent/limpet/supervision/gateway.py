"""The gateway, as the supervisor sees it: a process that may have been taken over by anyone in the network.

It is started if ``[api]`` is configured, and again if it ends. What it sends is bounded. It ends the
gateway alone if it is wrong or too much.
"""

from __future__ import annotations

import logging
import os
import selectors
import socket
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Protocol

from limpet.errors import UnreadableError
from limpet.gateway.launch import spawn
from limpet.isolation.child import kill
from limpet.supervision.restarts import Restarts
from limpet.wire.border import cleaned
from limpet.wire.channel import Channel
from limpet.wire.gateway_records import LARGEST_FROM_GATEWAY, Begin, FromGateway, Listening

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from limpet.contracts.messages import Origin
    from limpet.supervision.recent_results import RecentResults
    from limpet.tables import ApiTable
    from limpet.wire.gateway_records import Answer, Request

log = logging.getLogger(__name__)


class Answers(Protocol):
    """What answers the gateway's requests."""

    def answer(self, request: Request, reply: Reply) -> None:
        """Answer a request, now or later. ``KeyError`` if it names a pipeline that is not there."""


class Reply(Protocol):
    """Takes the answer to a request. Never blocks, never raises. One to a gateway that is gone is dropped."""

    def __call__(self, answer: Answer, fds: tuple[int, ...] = ()) -> None:
        """Send an answer. File descriptors are the caller's to close."""


class Gateway:
    """The gateway's process, if there is to be one."""

    def __init__(
        self,
        origin: Origin,
        path: Path,
        answers: Answers,
        recent: RecentResults,
        selector: selectors.BaseSelector,
    ) -> None:
        self._origin = origin
        self._path = path
        self._answers = answers
        self._recent = recent
        self._selector = selector
        self._begin: Begin | None = None
        self._restarts = Restarts()
        self._channel: Channel[FromGateway] | None = None
        self._pid: int | None = None

    @property
    def pids(self) -> dict[str, int]:
        """The process id by name, if there is a process."""
        return {} if self._pid is None else {"gateway": self._pid}

    def use(self, table: ApiTable | None, commands: Sequence[str], pipelines: Collection[str]) -> None:
        """Serve what a configuration wants. A gateway that serves something else ends."""
        self._recent.use(pipelines, wanted=table is not None)
        begin = None
        if table is not None:
            begin = Begin(self._origin, table, self._path if table.socket else None, list(commands))
        if begin != self._begin:
            self._begin, self._restarts = begin, Restarts()
            self._end()
            self.tend()

    def tend(self) -> None:
        """Start the gateway if it is due."""
        if self._begin is not None and self._channel is None and self._restarts.not_before <= monotonic():
            self._start(self._begin)

    def next_due(self) -> float | None:
        """Return when it is to be started, on the monotonic clock."""
        return self._restarts.not_before if self._begin is not None and self._channel is None else None

    def close(self) -> None:
        """End it, and start it no more."""
        self._begin = None
        self._end()

    def _start(self, begin: Begin) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self._pid = spawn(theirs)
            except OSError as error:
                ours.close()
                log.error("the local API could not be started: %s", error.strerror)  # noqa: TRY400 - no bug
                self._restarts.crashed(monotonic())
                return
        ours.setblocking(False)
        self._channel = Channel(ours, FromGateway, largest=LARGEST_FROM_GATEWAY)
        self._selector.register(self._channel, selectors.EVENT_READ, self._read)
        self._send(begin)

    def _send(self, record: Begin | Answer, fds: tuple[int, ...] = ()) -> None:
        if self._channel is None:
            return
        try:
            self._channel.send(record, fds)
        except BlockingIOError:
            self._lose("it does not read what it is sent")
        except OSError:
            pass  # It is gone, which the next read shows.

    def _read(self) -> None:
        channel = self._channel
        if channel is None:
            return
        try:
            for record in channel.receive():
                self._hear(record, channel)
        except EOFError:
            self._lose("it ended")
        except UnreadableError as error:
            self._lose(cleaned(str(error)))

    def _hear(self, record: FromGateway, channel: Channel[FromGateway]) -> None:
        if isinstance(record, Listening):
            log.info("local API: %s", record.problem or ", ".join(record.addresses))
            return

        def reply(answer: Answer, fds: tuple[int, ...] = ()) -> None:
            if self._channel is channel:
                self._send(answer, fds)

        self._answers.answer(record, reply)

    def _lose(self, reason: str) -> None:
        log.warning("local API: %s; it is started again", reason)
        self._restarts.crashed(monotonic())
        self._end()

    def _end(self) -> None:
        if self._channel is not None:
            with suppress(KeyError):
                self._selector.unregister(self._channel)
            self._channel.close()
            self._channel = None
        if self._pid is not None:
            kill(self._pid)
            with suppress(ChildProcessError):
                os.waitpid(self._pid, 0)
            self._pid = None
