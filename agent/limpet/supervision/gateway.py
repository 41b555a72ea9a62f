"""The gateway, as the supervisor sees it: a process that may have been taken over by anyone in the network.

It is started if ``[api]`` is configured, and again if it ends. What it sends is bounded. It ends the
gateway alone if it is wrong or too much.
"""

from __future__ import annotations

import os
import signal
import socket
from contextlib import suppress
from time import monotonic, sleep
from typing import TYPE_CHECKING, NamedTuple, Protocol

from limpet.contracts.messages import ApiHealth
from limpet.device import directories
from limpet.gateway.launch import spawn
from limpet.isolation.child import describe, kill
from limpet.supervision.gateway_line import PATIENCE, GatewayLine
from limpet.supervision.restarts import Restarts
from limpet.wire.border import cleaned
from limpet.wire.gateway_records import Alive, Begin, FromGateway, Listening

if TYPE_CHECKING:
    import selectors
    from collections.abc import Callable, Collection, Sequence
    from pathlib import Path

    from limpet.contracts.messages import Origin
    from limpet.supervision.recent_results import RecentResults
    from limpet.tables import ApiTable
    from limpet.wire.gateway_records import Answer, Request

RETRY = 15.0
"""Seconds after which a gateway that cannot listen is started again."""
REAP_EVERY, REAP_FOR = 0.02, 1.0
"""Seconds between two looks at whether a killed process is gone, and how long the daemon's end waits for that."""


class Answers(Protocol):
    """What answers the gateway's requests."""

    def answer(self, request: Request, reply: Reply) -> None:
        """Answer a request, now or later."""


class Reply(Protocol):
    """Takes the answer to a request. Never blocks, never raises. One to a gateway that is gone is dropped."""

    def __call__(self, answer: Answer, fds: tuple[int, ...] = ()) -> None:
        """Send an answer. File descriptors are the caller's to close."""


class Surroundings(NamedTuple):
    """What the gateway needs of the supervisor. ``report`` reports an event of the device, with its reason."""

    origin: Origin
    path: Path
    answers: Answers
    recent: RecentResults
    report: Callable[[str, str], None]
    selector: selectors.BaseSelector


class Gateway:
    """The gateway's process, if there is to be one. ``patience``: seconds that it may take to answer."""

    def __init__(self, around: Surroundings, patience: float = PATIENCE) -> None:
        self._around = around
        self._patience = patience
        self._begin: Begin | None = None
        self._files: tuple[object, ...] = ()
        self._restarts = Restarts()
        self._line: GatewayLine | None = None
        self._pid: int | None = None
        self._ended_because: str | None = None
        """Why the process was killed or has ended, until it is known to be gone. Empty if it was to end."""
        self._addresses: list[str] = []
        self._cannot_listen = ""
        """Why this process does not listen, as it says."""
        self._problem = ""
        """Why there is no gateway, until it listens again."""
        self._starts = 0

    @property
    def pids(self) -> dict[str, int]:
        """The process id by name, if there is a process."""
        return {} if self._pid is None else {"gateway": self._pid}

    def health(self) -> ApiHealth | None:
        """Return how the gateway is. ``None`` if there is to be none."""
        if self._begin is None:
            return None
        if self._addresses:
            return ApiHealth(state="listening", addresses=self._addresses, restarts=max(self._starts - 1, 0))
        return ApiHealth(
            state="failed" if self._problem else "starting",
            restarts=max(self._starts - 1, 0),
            problem=self._problem,
        )

    def use(self, table: ApiTable | None, commands: Sequence[str], pipelines: Collection[str]) -> None:
        """Serve what a configuration wants. A gateway that serves something else ends.

        So does one whose token file, keys or certificates have changed: it reads them at its start.
        """
        around = self._around
        around.recent.use(pipelines, wanted=table is not None)
        begin = None
        if table is not None:
            begin = Begin(around.origin, table, around.path if table.socket else None, list(commands))
        files = _stamps(table)
        if begin == self._begin and files == self._files:
            return
        if begin is None:
            around.report("api_stopped", "it is not configured any more")
        self._begin, self._files, self._restarts, self._starts = begin, files, Restarts(), 0
        self._problem = ""
        self._end("")
        self.tend()

    def tend(self) -> None:
        """Start the gateway if it is due, and see whether it answers."""
        self._reap()
        if self._line is not None:
            self._line.tend()
        elif self._begin is not None and self._pid is None and self._restarts.not_before <= monotonic():
            self._start(self._begin)

    def next_due(self) -> float | None:
        """Return when ``tend`` should be called next, on the monotonic clock."""
        if self._line is not None:
            return self._line.next_due()
        if self._pid is not None:
            return monotonic() + REAP_EVERY
        return self._restarts.not_before if self._begin is not None else None

    def close(self) -> None:
        """End it, and start it no more."""
        self._begin = None
        self._end("")
        until = monotonic() + REAP_FOR
        while self._pid is not None and monotonic() < until:
            self._reap()
            sleep(REAP_EVERY)

    def _start(self, begin: Begin) -> None:
        ours, theirs = socket.socketpair()
        self._starts += 1
        self._cannot_listen = ""
        with theirs:
            try:
                self._pid = spawn(theirs)
            except OSError as error:
                ours.close()
                self._fail(f"it could not be started: {error.strerror}")
                return
        self._line = line = GatewayLine(
            ours, self._around.selector, lambda record: self._hear(record, line), self._end, self._patience
        )
        line.send(begin)

    def _hear(self, record: FromGateway, line: GatewayLine) -> None:
        if isinstance(record, Listening):
            self._take(record)
        elif not isinstance(record, Alive):
            try:
                self._around.answers.answer(record, line.send)
            except OSError as error:  # no file descriptor or no memory is left
                self._end(f"its request could not be answered: {error.strerror}")

    def _take(self, record: Listening) -> None:
        if record.problem:
            self._cannot_listen = cleaned(record.problem)
            return
        self._problem = ""
        self._addresses = [cleaned(address) for address in record.addresses]
        self._around.report("api_started", cleaned(", ".join(self._addresses)))

    def _end(self, reason: str) -> None:
        """Kill the process. ``reason``: why that was necessary."""
        if self._line is not None:
            self._line.close()
            self._line = None
        self._addresses = []
        if self._pid is not None:
            kill(self._pid)
            self._ended_because = reason
            self._reap()

    def _reap(self) -> None:
        """Take note that the process is gone, if it is."""
        if self._pid is None or self._line is not None:
            return
        pid, status = self._pid, 0
        with suppress(ChildProcessError):
            pid, status = os.waitpid(self._pid, os.WNOHANG)
        if pid == 0:
            return
        self._pid = None
        reason, self._ended_because = self._ended_because, None
        if reason and self._begin is not None:
            code = os.waitstatus_to_exitcode(status)
            self._fail(self._cannot_listen or (reason if code == -signal.SIGKILL else describe(code)))

    def _fail(self, reason: str) -> None:
        """Report that there is no gateway, and decide when the next one is started."""
        now = monotonic()
        if self._cannot_listen:
            self._restarts.not_before = now + RETRY
        else:
            self._restarts.crashed(now)
        if reason != self._problem:
            pause = self._restarts.not_before - now
            again = f"it is started again in {pause:.0f} s" if pause > 1 else "it is started again"
            self._around.report("api_failed", f"{reason}; {again}")
        self._problem = reason


def _stamps(table: ApiTable | None) -> tuple[object, ...]:
    """Return what changes when a file changes that the gateway reads."""
    if table is None:
        return ()
    paths = [table.token_file, table.certificate, table.key, table.client_ca]
    if table.otlp is not None:
        paths += [table.otlp.ca_file, table.otlp.headers_file]
    return tuple(_stamp(path) for path in paths)


def _stamp(path: Path | None) -> object:
    if path is None:
        return None
    try:
        status = directories.credential(path).stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
