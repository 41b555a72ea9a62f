"""Ends the wait of a thread in ``select`` or ``poll``, from another thread or from a signal handler."""

from __future__ import annotations

import signal
import socket
from contextlib import suppress


class Wakeup:
    """A socket pair. The waiting thread watches ``socket`` for reading, and calls ``clear`` once it is ready."""

    def __init__(self) -> None:
        self.socket, self._writer = socket.socketpair()
        self.socket.setblocking(False)
        self._writer.setblocking(False)

    def wake(self) -> None:
        """End the wait, or the next one. From any thread; does nothing after ``close``."""
        with suppress(OSError):  # full: there are wake-ups enough
            self._writer.send(b"\0")

    def clear(self) -> None:
        """Take the wake-ups that have come."""
        with suppress(BlockingIOError):
            self.socket.recv(4096)

    def on_signals(self) -> None:
        """Wake up at every signal that has a handler in Python. On the main thread."""
        signal.set_wakeup_fd(self._writer.fileno())

    def close(self) -> None:
        """Close both ends."""
        self.socket.close()
        self._writer.close()
