"""Batches of results: by pipeline, bounded in count, size and age. No I/O: the caller brings the time."""

from __future__ import annotations

import math
from typing import NamedTuple

import msgspec


class _Pending(msgspec.Struct):
    """The items of one key that wait, the first of them ``since`` then. ``ready_at``: when they go out.

    ``size`` has one byte more for each item than it is long: the comma after it.
    """

    ready_at: float = 0.0
    since: float = 0.0
    size: int = 0
    items: list[bytes] = msgspec.field(default_factory=list)


class Batch(NamedTuple):
    """Items that go out together. ``since`` is when the first of them came."""

    key: str
    since: float
    items: tuple[bytes, ...]


class Batcher:
    """Collects encoded items into batches.

    The first item after a quiet period goes out at once. While items come faster than one every ``age`` seconds
    they are collected. They go out ``age`` seconds after the batch before, or when there are ``count`` of them or
    ``size`` bytes. The order is kept within a key.
    """

    def __init__(self, count: int, age: float, size: int) -> None:
        self._count = count
        self._age = age
        self._size = size
        self._pending: dict[str, _Pending] = {}

    def add(self, key: str, item: bytes, now: float) -> list[Batch]:
        """Take an item; return the batches of its key that must go out now: none, one or two."""
        pending = self._pending.get(key)
        if pending is None:
            pending = self._pending[key] = _Pending()
        ready: list[Batch] = []
        if pending.items and pending.size + len(item) + 2 > self._size:
            ready.append(self._cut(key, pending, now))
        at_once = not pending.items and not ready and now >= pending.ready_at
        if not pending.items:
            pending.since = now
        pending.items.append(item)
        pending.size += len(item) + 1
        if at_once or len(pending.items) >= self._count:
            ready.append(self._cut(key, pending, now))
        return ready

    def due(self, now: float) -> list[Batch]:
        """Return the batches that have waited long enough."""
        return [
            self._cut(key, pending, now)
            for key, pending in self._pending.items()
            if pending.items and now >= pending.ready_at
        ]

    def flush(self, now: float) -> list[Batch]:
        """Return all that waits."""
        return [self._cut(key, pending, now) for key, pending in self._pending.items() if pending.items]

    def next_due(self) -> float:
        """Return when ``due`` will have something, infinity while nothing waits."""
        return min((pending.ready_at for pending in self._pending.values() if pending.items), default=math.inf)

    def since(self) -> float:
        """Return when the oldest item that waits came, infinity while nothing waits."""
        return min((pending.since for pending in self._pending.values() if pending.items), default=math.inf)

    def _cut(self, key: str, pending: _Pending, now: float) -> Batch:
        batch = Batch(key, pending.since, tuple(pending.items))
        pending.items, pending.size = [], 0
        pending.ready_at = now + self._age
        return batch
