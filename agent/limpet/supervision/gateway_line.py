"""The socket to one gateway process. It sends without waiting, and limits what the gateway may have it do.

What waits to be sent is bounded. A gateway that requests too much is read later, as a slow one is. One that sends
what it may not send, or does not answer for too long, is lost.
"""

from __future__ import annotations

import os
import selectors
import socket
from collections import deque
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

from limpet.bucket import Bucket
from limpet.errors import UnreadableError
from limpet.wire.border import cleaned
from limpet.wire.channel import Channel
from limpet.wire.gateway_records import (
    LARGEST_FROM_GATEWAY,
    Alive,
    FromGateway,
    GetFigures,
    GetModels,
    GetPicture,
    GetRecent,
    Listening,
    Ping,
    Watch,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from limpet.wire.gateway_records import ToGateway

POINTS_PER_SECOND, POINTS_AT_ONCE = 1000.0, 2000.0
"""Work for the gateway, in points. Most requests take one."""
_POINTS: dict[type, float] = {GetFigures: 20, GetModels: 10, Watch: 50, GetRecent: 4, GetPicture: 4}
READ_PER_POINT, SENT_PER_POINT = 4096, 16_384
"""Bytes that are read, and that are made and sent, for a point."""
ENOUGH = 1 << 20
"""Bytes that wait to be sent. With more, the gateway's requests wait."""
MOST_OUTGOING = 32 << 20
"""Bytes that may wait to be sent."""
PING_EVERY = 10.0
"""Seconds between two looks at whether the gateway answers."""
PATIENCE = 30.0
"""Seconds that it may take to answer: it may still import, on a slow machine."""


class _Outgoing(NamedTuple):
    """What is left of a record, and copies of the descriptors that go with its first byte."""

    data: memoryview
    fds: tuple[int, ...]


class GatewayLine:
    """``hear`` gets each record of the gateway. ``lose`` gets the reason once the gateway is lost."""

    def __init__(
        self,
        end: socket.socket,
        selector: selectors.BaseSelector,
        hear: Callable[[FromGateway], None],
        lose: Callable[[str], None],
        patience: float = PATIENCE,
    ) -> None:
        end.setblocking(False)
        self._channel: Channel[FromGateway] = Channel(end, FromGateway, largest=LARGEST_FROM_GATEWAY)
        self._selector = selector
        self._hear = hear
        self._lose = lose
        self._patience = patience
        self._outgoing: deque[_Outgoing] = deque()
        self._bytes = 0
        self._requests: deque[FromGateway] = deque()
        self._points = Bucket(POINTS_PER_SECOND, POINTS_AT_ONCE)
        self._paused_until: float | None = None
        self._next_ping = monotonic() + min(PING_EVERY, patience / 3)
        self._unanswered_since: float | None = None
        self._listening_for = selectors.EVENT_READ
        self._has_said_where = False
        self._closed = False
        self._selector.register(self._channel, self._listening_for, self._turn)

    # --- to the gateway

    def send(self, answer: ToGateway, fds: tuple[int, ...] = ()) -> None:
        """Send a record, now or later. The descriptors stay the caller's to close."""
        if self._closed:
            return
        data = self._channel.encode(answer)
        if self._bytes + len(data) > MOST_OUTGOING:
            self._end("it does not read what it is sent")
            return
        try:
            copies = tuple(map(os.dup, fds))
        except OSError as error:
            self._end(f"no file descriptor is left: {error.strerror}")
            return
        self._outgoing.append(_Outgoing(memoryview(data), copies))
        self._bytes += len(data)
        self._points.spend(len(data) / SENT_PER_POINT)
        self._flush()
        self._listen()

    def _flush(self) -> None:
        try:
            while self._outgoing:
                self._send_first()
        except BlockingIOError:
            pass
        except OSError:
            self._drop_outgoing()  # It is gone, which the next read shows.

    def _send_first(self) -> None:
        data, fds = self._outgoing[0]
        end = self._channel.socket
        sent = socket.send_fds(end, [data], fds) if fds else end.send(data)
        _close(fds)
        self._bytes -= sent
        if sent < len(data):
            self._outgoing[0] = _Outgoing(data[sent:], ())
        else:
            self._outgoing.popleft()

    def _drop_outgoing(self) -> None:
        while self._outgoing:
            _close(self._outgoing.popleft().fds)
        self._bytes = 0

    # --- from the gateway

    def _turn(self) -> None:
        if self._closed:
            return
        self._flush()
        self._work()
        if not (self._closed or self._waits()):
            self._read()
        self._listen()

    def _read(self) -> None:
        before = self._channel.received_bytes
        try:
            self._requests.extend(self._channel.receive())
        except EOFError:
            self._end("it ended")
        except UnreadableError as error:
            self._end(cleaned(str(error)))
        else:
            self._points.spend((self._channel.received_bytes - before) / READ_PER_POINT)
            self._work()

    def _work(self) -> None:
        while self._requests and not self._closed and not self._waits():
            request = self._requests.popleft()
            self._points.spend(_POINTS.get(type(request), 1))
            if isinstance(request, Alive):
                self._unanswered_since = None
            elif isinstance(request, Listening) and self._has_said_where:
                self._end("it said twice where it listens")  # Each would be an event of the device.
            else:
                self._has_said_where |= isinstance(request, Listening)
                self._hear(request)

    def _waits(self) -> bool:
        """Whether the gateway's requests have to wait."""
        if self._points.level(monotonic()) < 0:
            self._paused_until = self._points.full_at(0.1 * POINTS_PER_SECOND)
        return self._paused_until is not None or self._bytes > ENOUGH

    # --- time

    def tend(self) -> None:
        """Go on after a pause, and see whether the gateway answers."""
        now = monotonic()
        if self._paused_until is not None and self._paused_until <= now:
            self._paused_until = None
            self._turn()
        if self._closed or self._next_ping > now:
            return
        self._next_ping = now + min(PING_EVERY, self._patience / 3)
        if self._unanswered_since is None:
            self._unanswered_since = now
            self.send(Ping())
        elif now - self._unanswered_since >= self._patience and self._paused_until is None:
            self._end(f"it has not answered for {self._patience:.0f} s")

    def next_due(self) -> float:
        """Return when ``tend`` should be called next, on the monotonic clock."""
        return min(self._next_ping, self._next_ping if self._paused_until is None else self._paused_until)

    def _listen(self) -> None:
        """Have the selector report what there is to do."""
        if self._closed:
            return
        wanted = (selectors.EVENT_WRITE if self._outgoing else 0) | (0 if self._waits() else selectors.EVENT_READ)
        if wanted == self._listening_for:
            return
        if not self._listening_for:
            self._selector.register(self._channel, wanted, self._turn)
        elif not wanted:
            self._selector.unregister(self._channel)
        else:
            self._selector.modify(self._channel, wanted, self._turn)
        self._listening_for = wanted

    # --- the end

    def _end(self, reason: str) -> None:
        if not self._closed:
            self.close()
            self._lose(reason)

    def close(self) -> None:
        """Listen no more."""
        if self._closed:
            return
        self._closed = True
        self._drop_outgoing()
        self._requests.clear()
        with suppress(KeyError):
            self._selector.unregister(self._channel)
        self._channel.close()


def _close(fds: tuple[int, ...]) -> None:
    for fd in fds:
        os.close(fd)
