"""Log lines of all processes, for those who watch. They are cleaned. Each process may write so many a second."""

from __future__ import annotations

import logging
import selectors
from time import monotonic
from typing import TYPE_CHECKING

from limpet.bucket import Bucket
from limpet.contracts.messages import LogMessage
from limpet.device import log_socket
from limpet.errors import UnreadableError
from limpet.supervision.health import now
from limpet.wire.border import cleaned

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping
    from typing import Literal

    from limpet.contracts.messages import Origin
    from limpet.device.log_socket import RawLine

log = logging.getLogger(__name__)

PER_SECOND, AT_ONCE = 20.0, 200.0
"""Lines of a process that are shown, on average and in a burst. Others are counted."""
TURN = 50
"""Lines that are read at once."""
PAUSE = 0.01
"""Seconds until more are read, so that a process that floods takes little of the supervisor's time."""
STALE = 10_000
"""Lines that are thrown away at most when lines begin to be wanted: they may be old."""
MOST_PROCESSES = 256
"""Processes whose lines are counted apart."""
LONGEST_LOGGER = 64


class _Writer:
    """One process: how many lines it may still write, and how many were left out."""

    def __init__(self) -> None:
        self.bucket = Bucket(PER_SECOND, AT_ONCE)
        self.left_out = 0


class LogLines:
    """Reads lines while they are wanted. ``names``: the daemon's processes by their id. ``show`` shows a line."""

    def __init__(
        self,
        origin: Origin,
        end: socket.socket | None,
        names: Callable[[], Mapping[int, str]],
        show: Callable[[LogMessage], None],
        selector: selectors.BaseSelector,
    ) -> None:
        self._origin = origin
        self._end = end
        self._names = names
        self._show = show
        self._selector = selector
        self._writers: dict[int, _Writer] = {}
        self._reading = False
        self._paused_until: float | None = None

    def want(self, *, wanted: bool) -> None:
        """Read lines, or leave them to be dropped by those who write them."""
        if self._end is None or wanted == self._reading:
            return
        self._reading = wanted
        if wanted:
            self._throw_away(self._end)
            self._selector.register(self._end, selectors.EVENT_READ, self._read)
        elif self._paused_until is None:
            self._selector.unregister(self._end)
        self._paused_until = None

    def next_due(self) -> float | None:
        """Return when ``tend`` should be called next, on the monotonic clock."""
        return self._paused_until

    def tend(self) -> None:
        """Read on after a pause."""
        if self._end is not None and self._paused_until is not None and self._paused_until <= monotonic():
            self._paused_until = None
            self._selector.register(self._end, selectors.EVENT_READ, self._read)

    def _throw_away(self, end: socket.socket) -> None:
        for _ in range(STALE):
            try:
                if log_socket.receive(end) is None:
                    return
            except UnreadableError:
                continue
            except EOFError:
                return

    def _read(self) -> None:
        for _ in range(TURN):
            if self._end is None:
                return
            try:
                line = log_socket.receive(self._end)
            except UnreadableError:
                continue  # A process that was taken over may write anything. It harms no other process.
            except EOFError as error:
                self._give_up(str(error))
                return
            if line is None:
                return
            self._take(line)
        if self._end is not None:
            self._selector.unregister(self._end)
            self._paused_until = monotonic() + PAUSE

    def _take(self, line: RawLine) -> None:
        if line.pid not in self._writers and len(self._writers) >= MOST_PROCESSES:
            self._writers.clear()
        writer = self._writers.setdefault(line.pid, _Writer())
        if writer.bucket.level(monotonic()) < 1:
            writer.left_out += 1
            return
        writer.bucket.spend(1)
        left_out, writer.left_out = writer.left_out, 0
        self._show(
            LogMessage(
                device=self._origin.device,
                time=now(),
                level=level_name(line.level),
                process=self._names().get(line.pid, f"process {line.pid}"),
                logger=cleaned(line.logger, LONGEST_LOGGER),
                text=cleaned(line.text),
                left_out=left_out,
            )
        )

    def _give_up(self, reason: str) -> None:
        assert self._end is not None
        self.want(wanted=False)
        self._end = None
        log.error("%s: log lines are shown no more, until the service is restarted", reason)

    def close(self) -> None:
        """Read no more."""
        self.want(wanted=False)


def level_name(level: int) -> Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]:
    """Return the name of a level, or of the next one below."""
    if level >= logging.CRITICAL:
        return "CRITICAL"
    if level >= logging.ERROR:
        return "ERROR"
    if level >= logging.WARNING:
        return "WARNING"
    return "INFO" if level >= logging.INFO else "DEBUG"
