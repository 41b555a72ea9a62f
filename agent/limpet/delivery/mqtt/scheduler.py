"""Decides which messages of the outbox go to the broker next: in which order, how fast, how many bytes an hour.

Belongs to the thread that owns the outbox.
"""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING

from limpet.delivery.mqtt import outgoing, rate_limits
from limpet.delivery.mqtt.clock_correction import corrected
from limpet.delivery.mqtt.connection import WINDOW
from limpet.delivery.outbox import CLASSES
from limpet.device import clock

if TYPE_CHECKING:
    from collections.abc import Iterable

    from limpet.delivery.mqtt.outgoing import Outgoing
    from limpet.delivery.mqtt.rate_limits import ReplayRules
    from limpet.delivery.mqtt.ready_queue import ReadyQueue
    from limpet.delivery.outbox import Class, Freshness, StoredEntry
    from limpet.delivery.outbox.queue import Outbox

MOST_READY = 2 * WINDOW
"""Messages that are kept ready for the network thread."""

LARGEST_READY = 1 << 21
"""Bytes that are kept ready for the network thread."""

UNLIMITED = 1 << 40

OUTAGE_SHARE = 0.1
"""A replay begins at a random time within this share of the outage."""


class Scheduler:
    """Fills the queue ``ready`` of the present connection. ``root`` begins each topic.

    ``batch`` is how many results and bytes a replayed message may have. ``held_back`` counts the results that had
    to wait for the byte budget, once they are handed over.
    """

    def __init__(
        self, outbox: Outbox, root: str, rules: ReplayRules, batch: tuple[int, int], bytes_per_hour: int | None
    ) -> None:
        self.ready: ReadyQueue | None = None
        self.held_back = 0
        self._outbox = outbox
        self._root = root
        self._rules = rules
        self._batch_count, self._batch_bytes = batch
        self._replay = rate_limits.replay(rules.messages_per_second)
        self._replay_at = 0.0
        self._budget = rate_limits.budget(bytes_per_hour) if bytes_per_hour else None
        self._state_bytes = 0
        self._held_upto = 0
        self._due = math.inf

    def start_connection(self, ready: ReadyQueue | None, now: float) -> None:
        """Begin again, on a new connection, with everything that is not acknowledged."""
        self.ready = ready
        self._outbox.requeue(now)
        oldest = self._outbox.oldest()
        outage = 0.0 if oldest is None else now - oldest
        self._replay_at = now + random.uniform(0, min(outage * OUTAGE_SHARE, self._rules.jitter))

    def hand_over(self, state_bytes: int, now: float) -> bool:
        """Fill the queue: events, then results. Return whether anything was added.

        ``state_bytes``: bytes of health and the like that went out so far. They always go out, and are charged to
        the budget.
        """
        self._due = math.inf
        ready = self.ready
        if ready is None:
            return False
        before = len(ready)
        if self._budget:
            self._budget.spend(state_bytes - self._state_bytes)
            self._state_bytes = state_bytes
        for kind in CLASSES:
            if self._rules.fresh == "first":
                self._hand_over_fresh(ready, kind, now)
            self._hand_over_backlog(ready, kind, now)
            if not self._outbox.has_backlog(kind):
                self._hand_over_fresh(ready, kind, now)
        return len(ready) > before

    def next_due(self) -> float:
        """Return when ``hand_over`` can go on with what it had to leave."""
        return self._due

    def _hand_over_fresh(self, ready: ReadyQueue, kind: Class, now: float) -> None:
        count, space = _free(ready)
        if count <= 0:
            return
        size = min(count * self._batch_bytes, space, self._affordable(kind, now))
        if size:
            self._add(ready, outgoing.fresh(self._take(kind, "fresh", count, size), self._root, ready.limit))

    def _hand_over_backlog(self, ready: ReadyQueue, kind: Class, now: float) -> None:
        count, space = _free(ready)
        if not self._outbox.has_backlog(kind) or count <= 0:
            return
        count = min(count, int(self._replay.level(now)))
        if now < self._replay_at or count <= 0:
            self._due = min(self._due, max(self._replay_at, self._replay.full_at(1.0)))
            return
        size = min(count * self._batch_bytes // 2, space, self._affordable(kind, now))
        if not size:
            return
        entries = self._take(kind, "backlog", count * self._batch_count, size)
        limit = min(ready.limit, self._batch_bytes)
        added = self._add(ready, outgoing.replayed(entries, self._root, self._batch_count, limit))
        self._replay.spend(added)

    def _take(self, kind: Class, freshness: Freshness, rows: int, size: int) -> list[StoredEntry]:
        ahead = clock.ahead()
        return [corrected(stored, ahead) for stored in self._outbox.take(kind, freshness, rows, size)]

    def _add(self, ready: ReadyQueue, messages: Iterable[Outgoing]) -> int:
        """Add messages to the queue, charge them to the budget, and return how many they were."""
        count = 0
        for message in messages:
            ready.add(message)
            count += 1
            if self._budget:
                self._budget.spend(message.size + len(message.topic))
                if any(kind == "result" and sequence <= self._held_upto for kind, sequence in message.ids):
                    self.held_back += len(message.items)
        return count

    def _affordable(self, kind: Class, now: float) -> int:
        """Return how many bytes the budget allows. Events always go out, and are charged later."""
        if self._budget is None or kind == "event":
            return UNLIMITED
        left = int(self._budget.level(now))
        if left > 0:
            return left
        self._held_upto = self._outbox.newest(kind)
        self._due = min(self._due, self._budget.full_at(1.0))
        return 0


def _free(ready: ReadyQueue) -> tuple[int, int]:
    """Return how many messages, and how many bytes of them, can be added to a queue; 0 if either is full."""
    space = LARGEST_READY - ready.size
    return (MOST_READY - len(ready), space) if space > 0 else (0, 0)
