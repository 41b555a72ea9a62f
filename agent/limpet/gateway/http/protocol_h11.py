"""uvicorn's protocol on h11, with limits on time and size. For 32-bit Arm, where httptools is not to be had."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from limpet.gateway.http.bad_requests import LATE, UNREADABLE
from limpet.gateway.http.slow_clients import IDLE, Pace, Progress

if TYPE_CHECKING:
    from asyncio import Transport

    from limpet.gateway.http.accepted import Accepted


class HttpProtocol(H11Protocol):
    """HTTP on one connection. h11 itself limits headers, by ``h11_max_incomplete_event_size``."""

    def __init__(self, accepted: Accepted, **options: Any) -> None:
        super().__init__(**options)
        self._accepted = accepted
        self._pace = Pace(accepted.patience, self._late, lambda: self.flow.read_paused, accepted.request_bytes)

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._accepted.made(transport)
        self.app_state = self._accepted.state
        self._pace.wait_for(Progress("head"))

    def connection_lost(self, exc: Exception | None) -> None:
        """Free what the connection holds."""
        super().connection_lost(exc)
        self._pace.end()
        self._accepted.release()

    def data_received(self, data: bytes) -> None:
        """Take a part of a request."""
        if self.transport.is_closing():
            return
        super().data_received(data)
        if not self.transport.is_closing():
            self._pace.wait_for(self._progress())

    def pause_writing(self) -> None:
        """Note that the client does not read."""
        super().pause_writing()
        self._pace.stalls(self.transport)

    def resume_writing(self) -> None:
        """Note that the client reads again."""
        super().resume_writing()
        self._pace.reads()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's reason says less
        """Answer a request that cannot be read, in the form of all errors, even if h11 would not answer it."""
        self._refuse(UNREADABLE)

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Hand the connection over to the protocol for WebSocket."""
        from limpet.gateway.http.websocket_protocol import WebSocketProtocol  # only if one is opened

        self._pace.end()
        accepted = self._accepted
        self.ws_protocol_class = lambda **options: WebSocketProtocol(accepted, **options)  # type: ignore[assignment]
        super().handle_websocket_upgrade(event)

    def _should_upgrade_to_ws(self) -> bool:
        return True

    def _progress(self) -> Progress:
        state = self.conn.their_state
        if state is h11.SEND_BODY:
            return Progress("body", id(self.cycle))
        is_answered = self.cycle is None or self.cycle.response_complete
        if state is h11.IDLE and (
            self.conn.trailing_data[0] or (is_answered and not self.timeout_keep_alive_task)
        ):
            return Progress("head", id(self.cycle))
        return IDLE

    def _late(self) -> None:
        self._refuse(LATE)

    def _refuse(self, answer: bytes) -> None:
        """Answer and close. A client that gets another answer at this time gets no second one."""
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            self.transport.write(answer)
        self.transport.close()
