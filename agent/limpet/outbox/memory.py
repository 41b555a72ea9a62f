"""An outbox in memory: bounded, and gone with the process."""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING

from limpet.outbox import CLASSES, Class, Entry, Parcel

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class MemoryOutbox:
    """Keeps each class of messages under its bound in bytes by shedding its oldest that was not taken yet."""

    def __init__(self, bounds: Mapping[Class, int]) -> None:
        self.depth = 0
        self.size = 0
        self.shed: Counter[str] = Counter()
        self._bounds = bounds
        self._waiting: dict[Class, deque[Parcel]] = {kind: deque() for kind in CLASSES}
        self._held: Counter[Class] = Counter()
        self._taken: dict[int, Entry] = {}
        self._token = 0

    def put(self, entry: Entry) -> None:
        """Keep a message, and shed what is then too much."""
        self._token += 1
        waiting = self._waiting[entry.kind]
        waiting.append(Parcel(self._token, entry))
        self._account(entry, 1)
        while self._held[entry.kind] > self._bounds[entry.kind] and waiting:
            old = waiting.popleft().entry
            self._account(old, -1)
            self.shed[f"{old.kind}s, outbox full"] += old.items

    def take(self, count: int) -> list[Parcel]:
        """Return up to ``count`` messages to send next, events first."""
        parcels: list[Parcel] = []
        for waiting in self._waiting.values():
            while waiting and len(parcels) < count:
                parcels.append(waiting.popleft())
        self._taken.update(parcels)
        return parcels

    def ack(self, tokens: Iterable[int]) -> None:
        """Forget messages that were taken."""
        for token in tokens:
            self._account(self._taken.pop(token), -1)

    def oldest(self) -> float | None:
        """Return the ``born`` of the oldest message held."""
        taken = (entry.born for entry in self._taken.values())
        heads = (waiting[0].entry.born for waiting in self._waiting.values() if waiting)
        return min([*taken, *heads], default=None)

    def _account(self, entry: Entry, sign: int) -> None:
        self.depth += sign
        self.size += sign * entry.size
        self._held[entry.kind] += sign * entry.size
