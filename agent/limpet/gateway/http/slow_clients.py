"""What keeps slow clients from holding connections: time limits for requests, and for reading answers."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

_NO_LINGER = struct.pack("ii", 1, 0)
STALLED_SECONDS = 30.0
"""Seconds for which a client may read nothing while an answer waits for it."""
LEAST_BODY_RATE = 32_000
"""Bytes a second. A body may take as much longer as the largest one takes at this rate."""


class Patience(NamedTuple):
    """Seconds that a client may take.

    ``head``: for the first line and the headers of a request. ``body``: for its body. ``reading``: until it reads
    an answer that waits. ``idle``: until the next request.
    """

    head: float = 10.0
    body: float = 10.0
    reading: float = STALLED_SECONDS
    idle: int = 30


class Progress(NamedTuple):
    """Which part of a request the server waits for. ``request``: any number that differs for each request."""

    stage: Literal["idle", "head", "body"]
    request: int = 0


IDLE = Progress("idle")


class Pace:
    """The time limits of one connection. ``late`` is called if a request does not come in time.

    ``paused``: whether the server itself does not read. ``largest``: bytes of a body.
    """

    def __init__(
        self, patience: Patience, late: Callable[[], None], paused: Callable[[], bool], largest: int
    ) -> None:
        self._patience = patience
        self._late = late
        self._paused = paused
        self._seconds = {"head": patience.head, "body": patience.body + largest / LEAST_BODY_RATE}
        self._progress = IDLE
        self._request: asyncio.TimerHandle | None = None
        self._reading: asyncio.TimerHandle | None = None
        self._ended = False

    def wait_for(self, progress: Progress) -> None:
        """Note which part of a request the server waits for. Each part has its own time."""
        if progress == self._progress or self._ended:
            return
        self._progress = progress
        if self._request is not None:
            self._request.cancel()
            self._request = None
        if progress.stage != "idle":
            self._start()

    def stalls(self, transport: asyncio.Transport) -> None:
        """Note that the client does not read. The connection ends if it does not go on."""
        if self._reading is None:
            self._reading = asyncio.get_running_loop().call_later(self._patience.reading, _abort, transport)

    def reads(self) -> None:
        """Note that the client reads again."""
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None

    def end(self) -> None:
        """Wait for nothing any more: the connection is closed, or is a WebSocket now."""
        self.wait_for(IDLE)
        self.reads()
        self._ended = True

    def _start(self) -> None:
        seconds = self._seconds[self._progress.stage]
        self._request = asyncio.get_running_loop().call_later(seconds, self._fire)

    def _fire(self) -> None:
        if self._paused():
            self._start()
        else:
            self._late()


def _abort(transport: asyncio.Transport) -> None:
    """Close a connection, and have the kernel drop what the client did not read."""
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    transport.abort()
