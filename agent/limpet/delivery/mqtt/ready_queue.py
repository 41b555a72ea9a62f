"""What one connection is to send next: filled by the outbox's thread, emptied by the network thread."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from limpet.delivery.mqtt.outgoing import Outgoing


class ReadyQueue:
    """Messages in the order of sending. ``limit``: bytes that one may have; a single item may have more."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._messages: deque[Outgoing] = deque()
        # Each counter has one thread that writes it, so neither needs a lock.
        self._bytes_added = 0
        self._bytes_taken = 0

    def __len__(self) -> int:
        return len(self._messages)

    @property
    def size(self) -> int:
        """Bytes of the messages that wait."""
        return self._bytes_added - self._bytes_taken

    def add(self, message: Outgoing) -> None:
        """Append a message. On the outbox's thread."""
        self._bytes_added += message.size
        self._messages.append(message)

    def take(self) -> Outgoing | None:
        """Take the next message, ``None`` if there is none. On the network thread."""
        if not self._messages:
            return None
        message = self._messages.popleft()
        self._bytes_taken += message.size
        return message
