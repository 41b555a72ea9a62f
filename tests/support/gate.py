"""A TCP proxy that stands between a client and a broker, and can misbehave."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

Manner: TypeAlias = Literal["pass", "kick", "mute", "refuse-5", "hang-up-on-5"]
"""``kick``: welcome, then hang up; ``mute``: take the connection and say nothing; the others only know 3.1.1."""

WELCOME_5 = bytes([0x20, 3, 0, 0, 0])
UNACCEPTABLE_VERSION = bytes([0x20, 2, 0, 1])
LEVEL_5 = b"\x00\x04MQTT\x05"


class Gate:
    """Listens on ``port`` of the loopback and passes on to ``target``. ``visits``: the time of each connection."""

    def __init__(self, target: int, manner: Manner) -> None:
        self.visits: list[float] = []
        self._target = target
        self._manner = manner
        self._open: list[socket.socket] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        threading.Thread(target=self._run, daemon=True).start()

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for sock in self._open:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def _run(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            self.visits.append(time.monotonic())
            self._open.append(client)
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError):
            hello = client.recv(4096)
            if self._manner == "mute":
                return
            if self._manner == "kick":
                client.sendall(WELCOME_5)
            elif LEVEL_5 in hello[:12] and self._manner == "refuse-5":
                client.sendall(UNACCEPTABLE_VERSION)
            elif not (LEVEL_5 in hello[:12] and self._manner == "hang-up-on-5"):
                self._join(client, hello)
            client.shutdown(socket.SHUT_RDWR)
            client.close()

    def _join(self, client: socket.socket, hello: bytes) -> None:
        with socket.create_connection(("127.0.0.1", self._target)) as broker:
            broker.sendall(hello)
            back = threading.Thread(target=_pump, args=(broker, client), daemon=True)
            back.start()
            _pump(client, broker)
            back.join()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


@contextmanager
def gate(target: int, manner: Manner) -> Iterator[Gate]:
    running = Gate(target, manner)
    try:
        yield running
    finally:
        running.close()
