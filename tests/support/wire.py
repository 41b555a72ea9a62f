"""A TCP proxy that does to a connection what networks do: delay, throttle, lose it, or say nothing any more."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Literal, TypeAlias

from support.tcp import Server

if TYPE_CHECKING:
    from collections.abc import Iterator

Fault: TypeAlias = Literal["none", "refuse", "silent", "delay", "throttle", "kick"]
"""``refuse`` and ``kick``: hang up at once; ``silent``: what is sent vanishes, the connection stands."""


class Wire:
    """Listens on a port of the loopback and passes on to ``target``, as ``fault`` says at each moment.

    ``sent`` is what clients have sent, kept if ``record`` is set.
    """

    def __init__(self, target: int, *, record: bool = False) -> None:
        self.fault: Fault = "none"
        self.sent = bytearray()
        self._target = target
        self._record = record
        self.server = Server(self._serve)
        self.url, self.port = self.server.url, self.server.port

    @property
    def visits(self) -> list[float]:
        """Times of the connections on the monotonic clock."""
        return self.server.visits

    def cut(self) -> None:
        """Break every connection, as a reset does."""
        self.server.drop()

    def _serve(self, client: socket.socket) -> None:
        if self.fault in {"refuse", "kick"}:
            client.close()
            return
        try:
            broker = socket.create_connection(("127.0.0.1", self._target), 1)
        except OSError:
            client.close()
            return
        back = threading.Thread(target=self._pump, args=(broker, client, False), daemon=True)
        back.start()
        self._pump(client, broker, self._record)
        back.join()

    def _pump(self, source: socket.socket, sink: socket.socket, record: bool) -> None:  # noqa: FBT001 - a thread's
        with suppress(OSError):
            while data := source.recv(65536):
                if record:
                    self.sent += data
                if self.fault == "delay":
                    time.sleep(0.3)
                elif self.fault == "throttle":
                    time.sleep(len(data) / 20_000)
                if self.fault != "silent":
                    sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)
        source.close()


@contextmanager
def wire(target: int, *, record: bool = False) -> Iterator[Wire]:
    running = Wire(target, record=record)
    try:
        yield running
    finally:
        running.server.close()
