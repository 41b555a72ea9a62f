"""Whose message is read next. Each call waits for its turn, and one that sends nothing loses it to others."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

from limpet.gateway.access.limits import Budget

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from limpet.gateway.access.rights import Peer

SILENT_SECONDS = 2.0
"""A call that sends nothing for so long loses its turn, if others wait."""
CHECK_SECONDS = 0.25
LEAST_BYTES = 32_000
"""A connection that sends less than this in ``SILENT_SECONDS`` sends nothing."""


class Connected(Protocol):
    """The connection of a call."""

    @property
    def port(self) -> int:
        """The client's."""

    @property
    def received(self) -> int | None:
        """Bytes that came over it. ``None`` if that is not known."""


class SilentError(Exception):
    """A call had its turn and sent nothing, while others waited."""


class _Call:
    """A call that waits for its turn or has it."""

    def __init__(self, peer: Peer, connected: Connected, number: int) -> None:
        self.client, self.near = peer.key, peer.loopback
        self.connected = connected
        self.connection = (peer.address, connected.port)
        self.number = number
        self.turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.reading: asyncio.Future[Any] | None = None
        self.silent = False
        self._received: int | None = None
        self._since: float | None = None

    def is_silent(self) -> bool:
        """Whether little came since this was first asked. It may be another call of its connection that sends."""
        received = self.connected.received
        if self._since is None or (received or 0) - (self._received or 0) >= LEAST_BYTES:
            self._received, self._since = received, monotonic()
        return monotonic() - self._since >= SILENT_SECONDS


class Turns:
    """At most ``most`` messages are read at once, and a share of them for one client.

    The next turn is that of the client with the fewest, and of its connection that waits longest for one. So one
    connection with many calls delays the others by a turn at most.
    """

    def __init__(self, most: int) -> None:
        self._free = Budget(most)
        self._waiting: list[_Call] = []
        self._reading: list[_Call] = []
        self._last: dict[tuple[str, int], int] = {}
        self._numbers = 0
        self._check: asyncio.TimerHandle | None = None

    async def read(self, peer: Peer, connected: Connected, message: Coroutine[Any, Any, Any], most: float) -> Any:
        """Return the message, read within ``most`` seconds. ``SilentError``, ``asyncio.TimeoutError``."""
        call = _Call(peer, connected, self._next())
        self._waiting.append(call)
        try:
            self._give()
            await call.turn
            call.reading = asyncio.ensure_future(message)
            return await asyncio.wait_for(call.reading, most)
        except asyncio.CancelledError as error:
            if call.silent:
                raise SilentError from error
            raise
        finally:
            message.close()  # of a call that ended before its turn
            self._end(call)

    def _next(self) -> int:
        self._numbers += 1
        return self._numbers

    def _end(self, call: _Call) -> None:
        if call in self._reading:
            self._reading.remove(call)
            self._free.give(call.client, 1)
        else:
            self._waiting.remove(call)
        if all(other.connection != call.connection for other in (*self._waiting, *self._reading)):
            self._last.pop(call.connection, None)
        self._give()

    def _give(self) -> None:
        """Give free turns to those who wait."""
        for call in sorted(self._waiting, key=self._order):
            if not call.turn.done() and self._free.take(call.client, 1, near=call.near):
                self._waiting.remove(call)
                self._reading.append(call)
                self._last[call.connection] = self._next()
                call.turn.set_result(None)
                self._give()  # the order is another now
                break
        if self._waiting and self._check is None:
            self._check = asyncio.get_running_loop().call_later(CHECK_SECONDS, self._end_silent)

    def _order(self, call: _Call) -> tuple[int, int, int]:
        of_client = sum(one.client == call.client for one in self._reading)
        return of_client, self._last.get(call.connection, 0), call.number

    def _end_silent(self) -> None:
        """End the turns of those who send nothing."""
        self._check = None
        for call in self._reading:
            if call.reading is not None and call.is_silent():
                call.silent = True
                call.reading.cancel()
        self._give()
