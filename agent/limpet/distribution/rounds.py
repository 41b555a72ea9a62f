"""Which chunk to send next, when many devices lack different ones. No I/O: the caller brings the time.

In a round each chunk goes out at most once, however many devices lack it. What they request meanwhile, and has
gone out in this round, is for the next round.
"""

from __future__ import annotations

import heapq
import math
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

ON_ITS_WAY = 1.0
"""Seconds after a chunk was sent in which a request for it does not count: the device had not got it yet."""


class Rounds:
    """``count`` is the number of chunks, ``sent`` counts those that went out, ``number`` the rounds."""

    def __init__(self, count: int) -> None:
        self.sent = 0
        self.number = 0
        self._count = count
        self._queue: list[int] = []
        self._queued: set[int] = set()
        self._done: set[int] = set()
        self._next: set[int] = set()
        self._sent_at: dict[int, float] = {}

    @property
    def waiting(self) -> int:
        """How many chunks are to be sent."""
        return len(self._queue) + len(self._next)

    def request(self, ranges: Iterable[tuple[int, int]], now: float) -> None:
        """Take in which chunks a device lacks, as ranges of indices. Those that do not exist are left out."""
        indices = (
            index for first, last in ranges for index in range(max(0, first), min(last, self._count - 1) + 1)
        )
        for index in islice(indices, self._count):  # ranges of a stranger may overlap without end
            if now - self._sent_at.get(index, -math.inf) < ON_ITS_WAY or index in self._queued:
                continue
            if index in self._done:
                self._next.add(index)
            else:
                self._queued.add(index)
                heapq.heappush(self._queue, index)

    def next(self) -> int | None:
        """Return the index of the chunk to send now, ``None`` if no device lacks one."""
        if not self._queue and self._next:
            self._queue, self._next = sorted(self._next), set()
            self._queued = set(self._queue)
            self._done.clear()
        return self._queue[0] if self._queue else None

    def note_sent(self, now: float) -> None:
        """Take in that the chunk that ``next`` returned went out."""
        index = heapq.heappop(self._queue)
        self.number += not self._done
        self._queued.discard(index)
        self._done.add(index)
        self._sent_at[index] = now
        self.sent += 1
        if not self._queue and not self._next:
            self._done.clear()
