"""Many results to a message: per key, by count, by size and by age."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class _Lane:
    """What waits under one key. ``quiet_at``: when the message before is ``age`` old."""

    quiet_at: float = 0.0
    size: int = 0
    items: list[bytes] = field(default_factory=list)


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

    def add(self, key: str, item: bytes, now: float) -> list[list[bytes]]:
        """Take an item; return the batches of its key that must go out now: none, one or two."""
        lane = self._lanes.setdefault(key, _Lane())
        ready = []
        if lane.items and lane.size + len(item) > self._size:
            ready.append(self._cut(lane, now))
        leading = not lane.items and not ready and now >= lane.quiet_at
        lane.items.append(item)
        lane.size += len(item) + 1
        if leading or len(lane.items) >= self._count:
            ready.append(self._cut(lane, now))
        return ready

    def due(self, now: float) -> list[tuple[str, list[bytes]]]:
        """Return the batches that have waited long enough."""
        return [
            (key, self._cut(lane, now)) for key, lane in self._lanes.items() if lane.items and now >= lane.quiet_at
        ]

    def flush(self, now: float) -> list[tuple[str, list[bytes]]]:
        """Return all that waits."""
        return [(key, self._cut(lane, now)) for key, lane in self._lanes.items() if lane.items]

    def next_due(self) -> float | None:
        """Return when ``due`` will have something, ``None`` while nothing waits."""
        return min((lane.quiet_at for lane in self._lanes.values() if lane.items), default=None)

    def _cut(self, lane: _Lane, now: float) -> list[bytes]:
        items, lane.items, lane.size = lane.items, [], 0
        lane.quiet_at = now + self._age
        return items


def join(items: list[bytes]) -> bytes:
    """Make one payload: the JSON object itself, or an array of them."""
    return items[0] if len(items) == 1 else b"[" + b",".join(items) + b"]"
