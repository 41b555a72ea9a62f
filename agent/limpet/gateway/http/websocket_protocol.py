"""uvicorn's protocol for WebSocket on wsproto, with a limit for clients that do not read. Imported when used."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.websockets.wsproto_impl import WSProtocol

from limpet.bucket import Bucket
from limpet.gateway.http.bad_requests import UNREADABLE
from limpet.gateway.http.slow_clients import Pace

if TYPE_CHECKING:
    from limpet.gateway.http.accepted import Accepted

HEARD_PER_SECOND, HEARD_AT_ONCE = 1000.0, 4096
"""Bytes that a client may send. It has to say hardly anything: it answers pings."""


class WebSocketProtocol(WSProtocol):
    """WebSocket on a connection that began with HTTP. uvicorn's pings end it if the client is gone."""

    def __init__(self, accepted: Accepted, **options: Any) -> None:
        super().__init__(**options)
        self._accepted = accepted
        self._pace = Pace(accepted.patience, lambda: None, lambda: False, 0)
        self._heard = Bucket(HEARD_PER_SECOND, HEARD_AT_ONCE)
        self._has_begun = False

    def data_received(self, data: bytes) -> None:
        """Take what the client sends. A client that sends too much loses its connection: each ping is answered."""
        if self._has_begun:
            if self._heard.level(monotonic()) < len(data):
                self.transport.abort()
                return
            self._heard.spend(len(data))
        self._has_begun = True  # with the request, whose size the parser of HTTP has limited
        try:
            super().data_received(data)
        except ValueError:  # wsproto takes headers for ASCII
            self.transport.write(UNREADABLE)
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Free what the connection holds."""
        super().connection_lost(exc)
        self._pace.end()
        self._accepted.release()

    def pause_writing(self) -> None:
        """Note that the client does not read."""
        super().pause_writing()
        self._pace.stalls(self.transport)

    def resume_writing(self) -> None:
        """Note that the client reads again."""
        super().resume_writing()
        self._pace.reads()
