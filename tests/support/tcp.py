"""A TCP server on the loopback interface, under brokers and proxies that misbehave."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Server:
    """Listens on a free port, and runs ``serve`` in a thread for each connection.

    ``visits``: times of the connections on the monotonic clock.
    """

    def __init__(self, serve: Callable[[socket.socket], object]) -> None:
        self.visits: list[float] = []
        self._serve = serve
        self._open: list[socket.socket] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    def drop(self) -> None:
        """Break all connections, as a reset does."""
        for connection in self._open:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self.drop()
        for connection in self._open:
            connection.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            self.visits.append(time.monotonic())
            self._open.append(client)
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()


def pump(source: socket.socket, sink: socket.socket) -> None:
    """Pass on what comes until one side ends, then end the sending of the other."""
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
