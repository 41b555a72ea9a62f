"""Reads the streams of the local API: server-sent events and WebSocket, over TCP or over the Unix socket."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
from typing import TYPE_CHECKING, Any

from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, CloseConnection, RejectConnection, Request, TextMessage

from support.api_daemon import UnixConnection

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from support.api_daemon import ApiDaemon

PATIENCE = 20


@contextlib.contextmanager
def events(
    running: ApiDaemon, query: str = "", *, unix: bool = False, headers: Mapping[str, str] | None = None
) -> Iterator[Iterator[dict[str, Any]]]:
    """Open a stream of server-sent events, and yield what iterates over their data."""
    connection = UnixConnection(running.socket) if unix else http.client.HTTPConnection("127.0.0.1", running.port)
    connection.timeout = PATIENCE
    with contextlib.closing(connection):
        connection.request("GET", f"/api/stream?{query}", headers=dict(headers or {}))
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield (json.loads(line.removeprefix(b"data: ")) for line in answer if line.startswith(b"data: "))


class WebSocket:
    """A client of ``/api/ws``. ``status`` and ``code``: with which the server refused or closed it, 0 if not."""

    def __init__(self, connection: socket.socket, query: str, host: str, headers: Mapping[str, str]) -> None:
        self._socket = connection
        self._protocol = WSConnection(ConnectionType.CLIENT)
        self.status = self.code = 0
        self._accepted = False
        self._text = ""
        self._waiting: list[dict[str, Any]] = []
        sent = [(name.encode(), value.encode()) for name, value in headers.items()]
        self._socket.sendall(self._protocol.send(Request(host, f"/api/ws?{query}", extra_headers=sent)))
        while not self._accepted and not self.status:
            self._receive()

    def send(self, text: str) -> None:
        self._socket.sendall(self._protocol.send(TextMessage(text)))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield messages until the server closes."""
        while self._accepted and (self._waiting or not self.code):
            while self._waiting:
                yield self._waiting.pop(0)
            if not self.code:
                self._receive()

    def _receive(self) -> None:
        self._protocol.receive_data(self._socket.recv(1 << 16) or None)
        for event in self._protocol.events():
            if isinstance(event, TextMessage):
                self._text += event.data
                if event.message_finished:
                    self._waiting.append(json.loads(self._text))
                    self._text = ""
            elif isinstance(event, RejectConnection):
                self.status = event.status_code
            elif isinstance(event, CloseConnection):
                self.code = int(event.code)
            self._accepted |= isinstance(event, AcceptConnection)


@contextlib.contextmanager
def websocket(
    running: ApiDaemon, query: str = "", *, host: str = "localhost", headers: Mapping[str, str] | None = None
) -> Iterator[WebSocket]:
    """Open a WebSocket over TCP."""
    with socket.create_connection(("127.0.0.1", running.port), PATIENCE) as connection:
        yield WebSocket(connection, query, host, headers or {})
