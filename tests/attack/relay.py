"""Stands between the daemon and its broker, and says to the daemon what no sound broker would."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

CHUNK = 1 << 16


class Relay:
    """Relays TCP connections to ``target``. ``greetings``: what the next connections are told instead."""

    def __init__(self, target: int) -> None:
        self.connections = 0
        self.greetings: list[bytes] = []
        self._target = target
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self._open: socket.socket | None = None
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def _start(self, target: Callable[..., None], *arguments: socket.socket) -> None:
        self._threads.append(threading.Thread(target=target, args=arguments, daemon=True))
        self._threads[-1].start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._server.accept()
                self.connections += 1
                serve = self._greet if self.greetings else self._connect
                self._start(serve, near)

    def _greet(self, near: socket.socket) -> None:
        greeting = self.greetings.pop(0)
        with near, contextlib.suppress(OSError):
            near.recv(CHUNK)
            near.sendall(greeting)
            near.shutdown(socket.SHUT_WR)
            near.settimeout(3)
            while near.recv(CHUNK):
                pass

    def _connect(self, near: socket.socket) -> None:
        try:
            far = socket.create_connection(("127.0.0.1", self._target))
        except OSError:
            near.close()
            return
        with near, far:
            self._open = near
            back = threading.Thread(target=_pump, args=(far, near), daemon=True)
            back.start()
            _pump(near, far)
            back.join()

    def inject(self, data: bytes) -> None:
        """Say this to the daemon on the connection at hand."""
        assert self._open
        with contextlib.suppress(OSError):
            self._open.settimeout(3)
            self._open.sendall(data)

    def hang_up(self) -> None:
        """End the connection at hand without a word."""
        if self._open:
            with contextlib.suppress(OSError):
                self._open.shutdown(socket.SHUT_RDWR)

    def proof(self, before: int) -> str:
        """Return how it is known that the daemon has read what was said; ``before``: connections before that."""
        until = time.monotonic() + 5
        while time.monotonic() < until:
            if self.connections > before:
                return "the daemon gave up the connection"
            if self._open and _unread(self._open) == 0:
                return "the daemon read every byte"
            time.sleep(0.02)
        return ""

    def greeted(self, wanted: int) -> str:
        """Wait until so many connections came, and return that as the proof."""
        until = time.monotonic() + 20
        while time.monotonic() < until:
            if self.connections >= wanted and not self.greetings:
                return "the daemon connected and was told so"
            time.sleep(0.02)
        self.greetings = []
        return ""

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown(socket.SHUT_RDWR)
        self.hang_up()
        for thread in self._threads:
            thread.join(10)
        self._server.close()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(CHUNK):
            sink.sendall(data)
    for end in (source, sink):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def _unread(ours: socket.socket) -> int | None:
    """Return how many bytes the process at the other end has not read, as the kernel says."""
    with contextlib.suppress(OSError):
        here, there = ours.getsockname()[1], ours.getpeername()[1]
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            _, local, remote, _, queues, *_ = line.split()
            if (int(local[9:], 16), int(remote[9:], 16)) == (there, here):
                return int(queues.partition(":")[2], 16)
    return None
