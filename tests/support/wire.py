"""A TCP proxy that does to a connection what networks do: delay, throttle, lose it, or say nothing any more."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Literal, TypeAlias

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
        self.visits: list[float] = []
        self._target = target
        self._record = record
        self._open: list[socket.socket] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    def cut(self) -> None:
        """Break every connection, as a reset does."""
        for end in self._open:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self._open.clear()

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            self.visits.append(time.monotonic())
            if self.fault in {"refuse", "kick"}:
                client.close()
                continue
            try:
                broker = socket.create_connection(("127.0.0.1", self._target), 1)
            except OSError:
                client.close()
                continue
            self._open += [client, broker]
            for source, sink, record in ((client, broker, self._record), (broker, client, False)):
                threading.Thread(target=self._pump, args=(source, sink, record), daemon=True).start()

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
        running.close()
