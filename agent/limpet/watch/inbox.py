"""Between the thread that receives messages and the one that draws: a queue within bounds."""

from __future__ import annotations

from collections import deque
from threading import Lock
from typing import NamedTuple

MOST_MESSAGES = 20_000
MOST_BYTES = 16 << 20


class Received(NamedTuple):
    """A message on a topic below a device."""

    device: str
    topic: str
    payload: bytes


class Inbox:
    """If it is full, the oldest messages go, and are counted as missed.

    ``notice`` says what is wrong with the connection; it is empty while messages can come.
    """

    def __init__(self) -> None:
        self.notice = ""
        self._lock = Lock()
        self._messages: deque[Received] = deque()
        self._bytes = 0
        self._missed = 0

    def put(self, message: Received) -> None:
        """Add a message."""
        with self._lock:
            self._messages.append(message)
            self._bytes += len(message.payload)
            while len(self._messages) > MOST_MESSAGES or self._bytes > MOST_BYTES:
                self._bytes -= len(self._messages.popleft().payload)
                self._missed += 1

    def add_missed(self, count: int) -> None:
        """Count messages that the sender left out."""
        with self._lock:
            self._missed += count

    def take(self) -> tuple[list[Received], int]:
        """Return all messages, and how many were missed since the last call."""
        with self._lock:
            messages, self._messages = list(self._messages), deque()
            missed, self._missed, self._bytes = self._missed, 0, 0
        return messages, missed
