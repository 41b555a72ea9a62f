"""uvicorn's protocol for WebSocket on wsproto, with a limit for clients that do not read. Imported when used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from uvicorn.protocols.websockets.wsproto_impl import WSProtocol

from limpet.gateway.http.slow_clients import Pace

if TYPE_CHECKING:
    from limpet.gateway.http.accepted import Accepted


class WebSocketProtocol(WSProtocol):
    """WebSocket on a connection that began with HTTP. uvicorn's pings end it if the client is gone."""

    def __init__(self, accepted: Accepted, **options: Any) -> None:
        super().__init__(**options)
        self._accepted = accepted
        self._pace = Pace(accepted.patience, lambda: None, lambda: False, 0)

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
