"""uvicorn's protocol on httptools, with limits on time and size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from limpet.gateway.http.bad_requests import (
    LARGEST_HEAD,
    LATE,
    MOST_HEADERS,
    MOST_PIPELINED,
    TOO_LARGE_HEAD,
    UNREADABLE,
)
from limpet.gateway.http.head_cache import CACHEABLE, HeadCache
from limpet.gateway.http.slow_clients import IDLE, Pace, Progress

if TYPE_CHECKING:
    from asyncio import Transport

    from uvicorn._types import ASGI3Application
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

    from limpet.gateway.http.accepted import Accepted
    from limpet.gateway.http.head_cache import CacheableHead


class HttpProtocol(HttpToolsProtocol):
    """HTTP on one connection."""

    def __init__(self, accepted: Accepted, **options: Any) -> None:
        super().__init__(**options)
        self._accepted = accepted
        self._pace = Pace(accepted.patience, self._late, lambda: self.flow.read_paused, accepted.request_bytes)
        self._request = 0
        self._progress = Progress("head")
        self._head_bytes = self._header_count = 0
        self._has_body = False
        self._answered: RequestResponseCycle | None = None
        self._cache: HeadCache
        self._cacheable: CacheableHead | None = None

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._accepted.made(transport)
        self.app_state = self._accepted.state
        self._pace.wait_for(self._progress)
        self._cache = HeadCache(transport, self, self._pace)

    def connection_lost(self, exc: Exception | None) -> None:
        """Free what the connection holds."""
        super().connection_lost(exc)
        if self._answered is not None:
            # uvicorn says so to the last request alone, and others may wait behind the one that is answered.
            self._answered.disconnected = True
            self._answered.message_event.set()
        self._pace.end()
        self._cache.close()
        self._accepted.release()

    def data_received(self, data: bytes) -> None:
        """Take a part of a request."""
        if self.transport.is_closing():
            return
        if self._cache.busy:
            self._cache.keep(data)
            return
        if self._is_between_requests() and self._cache.take(data):
            return
        before, self._has_body = self._progress, False
        self._cacheable = self._cache.cacheable(data) if self._is_at_begin() else None
        super().data_received(data)
        if self._progress == before != IDLE and not self._has_body:  # headers, or what stands behind the body
            self._head_bytes += len(data)
            if self._head_bytes > LARGEST_HEAD:
                self._refuse(TOO_LARGE_HEAD)
        self._pace.wait_for(self._awaited())

    def _is_at_begin(self) -> bool:
        """Whether the parser waits for the first byte of a request."""
        return self._progress == IDLE or not (self._request or self._head_bytes)

    def _is_between_requests(self) -> bool:
        """Whether all requests are answered, and the client may send the next one."""
        return (
            self._progress == IDLE
            and self.cycle is not None
            and self.cycle.response_complete
            and self.timeout_keep_alive_task is not None
            and not self.flow.write_paused
        )

    def timeout_keep_alive_handler(self) -> None:
        """Close the connection, unless requests came that uvicorn did not see."""
        since = self.loop.time() - self._cache.last_used
        if self._cache.busy or since < self.timeout_keep_alive:
            wait = self.timeout_keep_alive if self._cache.busy else self.timeout_keep_alive - since
            self.timeout_keep_alive_task = self.loop.call_later(wait, self.timeout_keep_alive_handler)
        else:
            super().timeout_keep_alive_handler()

    def pause_writing(self) -> None:
        """Note that the client does not read."""
        super().pause_writing()
        self._pace.stalls(self.transport)

    def resume_writing(self) -> None:
        """Note that the client reads again."""
        super().resume_writing()
        self._pace.reads()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's reason says less
        """Answer a request that cannot be read, in the form of all errors."""
        self._refuse(UNREADABLE)

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over to the protocol for WebSocket."""
        from limpet.gateway.http.websocket_protocol import WebSocketProtocol  # only if one is opened

        if self.cycle is not None and not self.cycle.response_complete:
            self._refuse(UNREADABLE)  # Nothing would end the request before it: its answer would never end.
            return
        self._pace.end()
        accepted = self._accepted
        self.ws_protocol_class = lambda **options: WebSocketProtocol(accepted, **options)  # type: ignore[assignment]
        super().handle_websocket_upgrade()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._answered = cycle
        super()._start_asgi_task(cycle, app)

    def _should_upgrade_to_ws(self) -> bool:
        return True

    # Called by the parser

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        if self._cacheable is not None:
            self.scope[CACHEABLE] = self._cacheable  # type: ignore[literal-required]
            self._cacheable = None
        self._request += 1
        self._progress = Progress("head", self._request)
        self._head_bytes = self._header_count = 0

    def on_url(self, url: bytes) -> None:
        """Take a part of the first line."""
        self._count(len(url))
        super().on_url(url)

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        super().on_body(body)
        self._has_body = True
        self._head_bytes = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header. What comes behind the body is no header."""
        self._count(len(name) + len(value), 1)
        if self._progress.stage == "head":
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Start to answer, or have the request wait for those before it."""
        if len(self.pipeline) >= MOST_PIPELINED:
            raise ValueError("too many requests wait for answers")  # the parser refuses it
        super().on_headers_complete()
        self._progress = Progress("body", self._request)

    def on_message_complete(self) -> None:
        """Note that the request is here."""
        super().on_message_complete()
        self._progress = IDLE

    def _awaited(self) -> Progress:
        """Return what the server waits for. Empty lines between requests have stopped uvicorn's own timer."""
        is_answered = self.cycle is None or self.cycle.response_complete
        if self._progress == IDLE and is_answered and self.timeout_keep_alive_task is None:
            return Progress("head", -self._request)
        return self._progress

    def _count(self, size: int, headers: int = 0) -> None:
        self._head_bytes += size
        self._header_count += headers
        if self._head_bytes > 2 * LARGEST_HEAD or self._header_count > MOST_HEADERS:
            raise ValueError("the headers are too large")  # the parser answers with 400

    def _late(self) -> None:
        self._refuse(LATE)

    def _refuse(self, answer: bytes) -> None:
        """Answer and close. A client that gets another answer at this time gets no second one."""
        waits = self.cycle is None or self.cycle.response_complete or not self.cycle.response_started
        if waits and not self.pipeline:
            self.transport.write(answer)
        self.transport.close()
