"""Messages from other systems to dialects, bounded so that a flood of questions is no flood of answers. No I/O."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

INTERVAL = 5.0
"""Seconds between two answers on one topic: an answer may be all that a dialect has to publish."""

MOST_WAITING = 4
"""Messages on one topic that may wait for that."""

LARGEST = 1 << 16
"""Bytes of a message."""


class DialectRequests:
    """Keeps messages until they may be answered. ``ignore`` counts one that is not kept, by cause and text."""

    def __init__(self, ignore: Callable[[str, str], None]) -> None:
        self._ignore = ignore
        self._waiting: dict[str, deque[bytes]] = {}
        self._answered_at: dict[str, float] = {}

    def add(self, topic: str, payload: bytes) -> None:
        """Keep a message, unless the same one waits already."""
        waiting = self._waiting.setdefault(topic, deque())
        if len(payload) > LARGEST:
            self._ignore("too large", f"a message of {len(payload)} bytes on {topic!r} is ignored")
        elif payload not in waiting:
            if len(waiting) < MOST_WAITING:
                waiting.append(payload)
            else:
                self._ignore("too many", f"messages come on {topic!r} faster than they are answered")

    def next(self, now: float) -> tuple[str, bytes] | None:
        """Take a message that may be answered now, as topic and payload."""
        for topic, waiting in self._waiting.items():
            if waiting and now - self._answered_at.get(topic, -INTERVAL) >= INTERVAL:
                return topic, waiting.popleft()
        return None

    def answered(self, topic: str, now: float) -> None:
        """Take in that a message was answered: the next on its topic waits."""
        self._answered_at[topic] = now
