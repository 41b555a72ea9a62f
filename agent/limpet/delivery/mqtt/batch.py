"""Many results to a message: per key, by count, by size and by age."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple


@dataclass(slots=True)
class _Lane:
    """What waits under one key, ``since`` then. ``quiet_at``: when the message before is ``age`` old.

    ``size`` has one byte more for each item than it is long: the comma after it.
    """

    quiet_at: float = 0.0
    since: float = 0.0
    size: int = 0
    items: list[bytes] = field(default_factory=list)


class Batch(NamedTuple):
    """Items that go out together. ``since`` is when the first of them came."""

    key: str
    since: float
    items: list[bytes]


class Batcher:
    """Collects encoded items into batches.

    The first item after a quiet period goes out at once. While items come faster than one every ``age`` seconds
    they are collected, and go out ``age`` after the batch before, or when ``count`` of them or ``size`` bytes are
    there. Order is kept within a key. The caller brings the time.
    """

    def __init__(self, count: int, age: float, size: int) -> None:
        self._count = count
        self._age = age
        self._size = size
        self._lanes: dict[str, _Lane] = {}

    def add(self, key: str, item: bytes, now: float) -> list[Batch]:
        """Take an item; return the batches of its key that must go out now: none, one or two."""
        lane = self._lanes.setdefault(key, _Lane())
        ready = []
        if lane.items and lane.size + len(item) + 2 > self._size:
            ready.append(self._cut(key, lane, now))
        leading = not lane.items and not ready and now >= lane.quiet_at
        if not lane.items:
            lane.since = now
        lane.items.append(item)
        lane.size += len(item) + 1
        if leading or len(lane.items) >= self._count:
            ready.append(self._cut(key, lane, now))
        return ready

    def due(self, now: float) -> list[Batch]:
        """Return the batches that have waited long enough."""
        return [
            self._cut(key, lane, now) for key, lane in self._lanes.items() if lane.items and now >= lane.quiet_at
        ]

    def flush(self, now: float) -> list[Batch]:
        """Return all that waits."""
        return [self._cut(key, lane, now) for key, lane in self._lanes.items() if lane.items]

    def next_due(self) -> float:
        """Return when ``due`` will have something, infinity while nothing waits."""
        return min((lane.quiet_at for lane in self._lanes.values() if lane.items), default=math.inf)

    def since(self) -> float:
        """Return when the oldest item that waits came, infinity while nothing waits."""
        return min((lane.since for lane in self._lanes.values() if lane.items), default=math.inf)

    def _cut(self, key: str, lane: _Lane, now: float) -> Batch:
        batch = Batch(key, lane.since, lane.items)
        lane.items, lane.size = [], 0
        lane.quiet_at = now + self._age
        return batch


def join(items: list[bytes]) -> bytes:
    """Make one payload: the JSON object itself, or an array of them."""
    return items[0] if len(items) == 1 else b"[" + b",".join(items) + b"]"
