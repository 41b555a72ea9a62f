"""A TCP proxy that stands between a client and a broker, and can misbehave."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Literal, TypeAlias

from support.tcp import Server, pump

if TYPE_CHECKING:
    from collections.abc import Iterator

Manner: TypeAlias = Literal["pass", "kick", "mute", "refuse-5", "hang-up-on-5"]
"""``kick``: welcome, then hang up; ``mute``: take the connection and say nothing; the others only know 3.1.1."""

WELCOME_5 = bytes([0x20, 3, 0, 0, 0])
UNACCEPTABLE_VERSION = bytes([0x20, 2, 0, 1])
LEVEL_5 = b"\x00\x04MQTT\x05"


class Gate:
    """Passes connections on to ``target``."""

    def __init__(self, target: int, manner: Manner) -> None:
        self._target = target
        self._manner = manner
        self.server = Server(self._serve)
        self.url = self.server.url

    @property
    def visits(self) -> list[float]:
        """Times of the connections on the monotonic clock."""
        return self.server.visits

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
            back = threading.Thread(target=pump, args=(broker, client), daemon=True)
            back.start()
            pump(client, broker)
            back.join()


@contextmanager
def gate(target: int, manner: Manner) -> Iterator[Gate]:
    running = Gate(target, manner)
    try:
        yield running
    finally:
        running.server.close()
