"""Results that wait for a shadow's answer to the same window. No I/O. Times are seconds on any steady clock.

They leave in the order in which they came, each of them once.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from limpet.wire.records import Result

PATIENCE = 0.25
"""Seconds after which the pipeline's own result is reported."""
MOST_HELD = 256
"""Results that wait, those behind the first one among them."""


class _Entry(msgspec.Struct):
    """A result, and until when it waits: 0 if it only waits for those before it."""

    result: Any
    until: float


class HeldResults:
    """A queue of results of one pipeline."""

    def __init__(self) -> None:
        self._entries: deque[_Entry] = deque()

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, result: Result[Any], until: float) -> list[Result[Any]]:
        """Take a result, and return those that are to be reported now. ``until``: how long it waits, 0 for not."""
        if not until and not self._entries:
            return [result]
        self._entries.append(_Entry(result, until))
        return self.release() if len(self._entries) > MOST_HELD else self._ready()

    def answer(self, ordinal: int, instead: Result[Any] | None) -> list[Result[Any]]:
        """Report the result of a window as it is, or ``instead`` of it. Return those that are to be reported now.

        ``ordinal``: that of the window's last sample. A result that waits no longer stays as it was reported.
        """
        for entry in self._entries:
            if entry.until and entry.result.sample == ordinal:
                entry.result, entry.until = instead or entry.result, 0.0
                break
        return self._ready()

    def late(self, now: float) -> list[Result[Any]]:
        """Return what has waited for long enough, and what was behind it."""
        if not self._entries or self._entries[0].until > now:
            return []
        for entry in self._entries:
            if entry.until <= now:
                entry.until = 0.0
        return self._ready()

    def release(self) -> list[Result[Any]]:
        """Return all results as they are."""
        released = [entry.result for entry in self._entries]
        self._entries.clear()
        return released

    def _ready(self) -> list[Result[Any]]:
        ready = []
        while self._entries and not self._entries[0].until:
            ready.append(self._entries.popleft().result)
        return ready
