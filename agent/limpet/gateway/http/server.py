"""The HTTP server: uvicorn's protocols on connections that are accepted and counted here.

uvicorn's own server wakes up ten times a second. This one sleeps until a client comes.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from typing import TYPE_CHECKING

from uvicorn.config import Config
from uvicorn.server import ServerState

from limpet.gateway.access.peers import Connection
from limpet.gateway.http.accepted import Accepted
from limpet.gateway.http.bad_requests import CROWDED, LARGEST_HEAD
from limpet.gateway.http.connections import Connections
from limpet.gateway.http.slow_clients import Patience

try:
    from limpet.gateway.http.protocol import HttpProtocol
except ModuleNotFoundError:  # httptools is not for every processor
    from limpet.gateway.http.protocol_h11 import HttpProtocol  # type: ignore[assignment]

if TYPE_CHECKING:
    from asyncio import Protocol
    from collections.abc import Callable

    from starlette.types import ASGIApp

HANDSHAKE_SECONDS = 10.0
AT_ONCE = 64
"""Connections that are accepted before anything else is done."""
OUT_OF_FILES_SECONDS = 1.0
LARGEST_MESSAGE = 1024
"""Bytes of a message of a client over WebSocket."""
_PATIENCE = Patience()


class Server:
    """Serves an application. ``most``: connections. ``tls``: for those over TCP. ``protocol``: the HTTP parser."""

    def __init__(  # noqa: PLR0913, PLR0917 - all that is served, and how
        self,
        app: ASGIApp,
        most: int,
        request_bytes: int,
        tls: ssl.SSLContext | None = None,
        protocol: Callable[..., Protocol] = HttpProtocol,
        patience: Patience = _PATIENCE,
    ) -> None:
        self._config = Config(
            app,
            http="h11",  # not used, but loaded
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,  # else a client on this device could say where it is and how it came
            timeout_keep_alive=patience.idle,
            h11_max_incomplete_event_size=LARGEST_HEAD,
            ws_max_size=LARGEST_MESSAGE,
            ws_per_message_deflate=False,
        )
        self._config.load()
        # It logs a line for each bad request. Clients could fill the disk with it.
        logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
        logging.getLogger("asyncio").setLevel(
            logging.ERROR
        )  # as does asyncio for what is sent to clients that left
        self._connections = Connections(most)
        self._request_bytes = request_bytes
        self._tls = tls
        self._patience = patience
        self._protocol = protocol
        self._state = ServerState()
        self._tasks: set[asyncio.Task[None]] = set()

    def serve(self, listener: socket.socket) -> None:
        """Accept connections from now on. To be called in the event loop."""
        listener.setblocking(False)
        asyncio.get_running_loop().add_reader(listener, self._accept, listener)

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(AT_ONCE):
            try:
                accepted, _ = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError:  # no file descriptor is left
                loop = asyncio.get_running_loop()
                loop.remove_reader(listener)
                loop.call_later(OUT_OF_FILES_SECONDS, self.serve, listener)
                return
            self._take(accepted)

    def _take(self, accepted: socket.socket) -> None:
        accepted.setblocking(False)
        tls = self._tls if accepted.family != socket.AF_UNIX else None
        try:
            connection = Connection(accepted, secure=tls is not None)
        except OSError:  # the client is gone
            accepted.close()
            return
        if not self._connections.admit(connection):
            _turn_away(accepted, polite=tls is None)
            return
        task = asyncio.get_running_loop().create_task(self._connect(accepted, connection, tls))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, accepted: socket.socket, connection: Connection, tls: ssl.SSLContext | None) -> None:
        held = Accepted(connection, self._connections, self._request_bytes, self._patience)

        def protocol() -> Protocol:
            return self._protocol(held, config=self._config, server_state=self._state, app_state={})

        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                protocol, accepted, ssl=tls, ssl_handshake_timeout=HANDSHAKE_SECONDS if tls else None
            )
        except (OSError, ssl.SSLError):  # TLS fails, or takes too long
            held.release()


def _turn_away(accepted: socket.socket, *, polite: bool) -> None:
    with accepted:
        if polite:
            try:
                accepted.send(CROWDED)
            except OSError:
                return
