"""A cache of the heads of requests. One whose head came before on its connection needs neither parser nor task.

A client that has a model run again and again sends the same first line and headers each time. What they mean is
found out the usual way: by the parser, the guard and the application. If it depends on these bytes and on the
connection alone, the head is cached. Then the bytes are only compared. Rates and sizes count for each request.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from limpet.gateway.http.slow_clients import IDLE, Progress

if TYPE_CHECKING:
    from asyncio import Transport
    from collections.abc import Callable

    from limpet.gateway.http.slow_clients import Pace

CACHEABLE = "limpet.cacheable"
"""Key of the ``CacheableHead`` in the scope of a request whose head can be cached."""
MOST_HEADS = 8
"""Heads that are cached of one connection."""
_BEGIN, _END = b"POST ", b"\r\n\r\n"

Reply: TypeAlias = "Callable[[bytes | None], None]"
"""Takes the whole answer, or ``None`` if the request is to go the usual way."""


class CachedHead(NamedTuple):
    """What a head means. ``length``: bytes of the body.

    ``admit`` counts a request; ``False`` if it is one too many. ``release`` is called at its end. ``start`` begins
    to answer a body; ``False`` if it is to go the usual way.
    """

    length: int
    admit: Callable[[int], bool]
    release: Callable[[int], None]
    start: Callable[[bytes | bytearray, Reply], bool]


class CacheableHead:
    """A head that can be cached. The guard sets ``admit`` and ``release``, or forbids it."""

    def __init__(self, heads: dict[bytes, CachedHead], head: bytes) -> None:
        self._heads = heads
        self._head = head
        self.admit: Callable[[int], bool] | None = None
        self.release: Callable[[int], None] | None = None

    def store(self, length: int, start: Callable[[bytes | bytearray, Reply], bool]) -> None:
        """Cache what the head means."""
        if self.admit is not None and self.release is not None:
            if len(self._heads) >= MOST_HEADS:
                self._heads.clear()
            self._heads[self._head] = CachedHead(length, self.admit, self.release, start)


class _Request(NamedTuple):
    known: CachedHead
    head: bytes
    body: bytes | bytearray


class HeadCache:
    """The cache of one connection, and its requests that need no parser. ``protocol`` has the parser."""

    def __init__(self, transport: Transport, protocol: asyncio.Protocol, pace: Pace) -> None:
        self._transport = transport
        self._protocol = protocol
        self._pace = pace
        self._heads: dict[bytes, CachedHead] = {}
        self._later = bytearray()
        self._request: _Request | None = None
        self._is_collecting = self._is_closed = False
        self._count = 0
        self._loop = asyncio.get_running_loop()
        self.last_used = 0.0

    @property
    def busy(self) -> bool:
        """Whether a request is not answered yet."""
        return self._request is not None

    def cacheable(self, data: bytes) -> CacheableHead | None:
        """Return the head of the request that begins with ``data``, if it can be cached."""
        end = data.find(_END) if data.startswith(_BEGIN) else -1
        if end < 0 or data.count(b"\n", 0, end) != data.count(b"\r\n", 0, end):
            return None
        return CacheableHead(self._heads, data[: end + len(_END)])

    def keep(self, data: bytes) -> None:
        """Keep what comes before a request is answered."""
        if not self._later:
            self._transport.pause_reading()
        self._later += data

    def take(self, data: bytes) -> bool:
        """Begin to answer a request whose head is cached. ``False``: the parser is to have it.

        No other request may be at work.
        """
        if not self._heads:
            return False
        end = data.find(_END) + len(_END)
        head = data[:end]
        known = self._heads.get(head)
        if known is None or not known.admit(known.length):
            return False
        self._pace.wait_for(IDLE)
        whole = end + known.length
        if len(data) >= whole:
            self._run(_Request(known, head, data[end:whole]))
            if len(data) > whole:
                self._take_later(data[whole:])
        else:
            self._collect(known, head, memoryview(data)[end:])
        return True

    def _collect(self, known: CachedHead, head: bytes, begin: memoryview) -> None:
        """Read the rest of a body without any detour."""
        self._count -= 1
        self._pace.wait_for(Progress("body", self._count))
        body = bytearray(known.length)
        body[: len(begin)] = begin
        self._request = _Request(known, head, body)
        self._is_collecting = True
        self._transport.set_protocol(_Rest(self._protocol, memoryview(body)[len(begin) :], self._collected))

    def _collected(self) -> None:
        assert self._request is not None
        self._is_collecting = False
        self._transport.set_protocol(self._protocol)
        self._pace.wait_for(IDLE)
        self._run(self._request)

    def _run(self, request: _Request) -> None:
        self._request = request
        if not request.known.start(request.body, self._reply):
            self._reply(None)

    def _reply(self, answer: bytes | None) -> None:
        assert self._request is not None
        (known, head, body), self._request = self._request, None
        known.release(known.length)
        if self._is_closed:
            return
        if answer is None:
            self._heads.pop(head, None)
            self._protocol.data_received(head + body)
        else:
            self.last_used = self._loop.time()
            self._transport.write(answer)
        if self._later:
            data, self._later = bytes(self._later), bytearray()
            self._transport.resume_reading()
            self._protocol.data_received(data)

    def _take_later(self, data: bytes) -> None:
        if self._request is None:
            self._protocol.data_received(data)
        else:
            self.keep(data)

    def close(self) -> None:
        """Forget all: the connection is closed. A request that a model runs is released once it has run."""
        self._is_closed = True
        self._heads.clear()
        if self._is_collecting and self._request is not None:
            self._request.known.release(self._request.known.length)
            self._request = None


class _Rest(asyncio.BufferedProtocol):
    """Reads the rest of a body into its place."""

    def __init__(self, protocol: asyncio.Protocol, target: memoryview, complete: Callable[[], None]) -> None:
        self._protocol = protocol
        self._target = target
        self._complete = complete

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - what is missing says how much
        """Return where the next bytes go."""
        return self._target

    def buffer_updated(self, nbytes: int) -> None:
        """Note that bytes have come."""
        self._target = self._target[nbytes:]
        if not self._target:
            self._complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass it on."""
        self._protocol.connection_lost(exc)

    def pause_writing(self) -> None:
        """Pass it on."""
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        """Pass it on."""
        self._protocol.resume_writing()
