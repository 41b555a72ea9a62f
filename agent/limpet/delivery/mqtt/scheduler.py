"""Hands messages from the outbox to the sender: which first, how fast, how many bytes an hour."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING

from limpet.delivery.mqtt import outgoing, rate_limits
from limpet.delivery.mqtt.clock_correction import redated
from limpet.delivery.mqtt.connection import WINDOW
from limpet.delivery.outbox import CLASSES
from limpet.device import clock

if TYPE_CHECKING:
    from collections.abc import Iterable

    from limpet.delivery.mqtt.outgoing import Outgoing
    from limpet.delivery.mqtt.publisher import Line
    from limpet.delivery.mqtt.rate_limits import ReplayRules
    from limpet.delivery.mqtt.sender import Sender
    from limpet.delivery.outbox import Class, Freshness, StoredEntry
    from limpet.delivery.outbox.queue import Outbox

READY = 2 * WINDOW
"""Messages that are kept ready with the sender."""

LARGEST_READY = 1 << 21
"""Bytes that are kept ready with the sender."""

UNLIMITED = 1 << 40

OUTAGE_SHARE = 0.1
"""A replay begins within that share of the outage, at random."""


class Scheduler:
    """Belongs to the thread that owns the outbox. ``root`` begins each topic.

    ``batch`` is how many results and bytes a replayed message may have. ``held_back`` counts the results that had
    to wait for the byte budget, once they are on their way.
    """

    def __init__(
        self, outbox: Outbox, root: str, rules: ReplayRules, batch: tuple[int, int], bytes_per_hour: int | None
    ) -> None:
        self.held_back = 0
        self._outbox = outbox
        self._root = root
        self._rules = rules
        self._batch_count, self._batch_bytes = batch
        self._line: Line | None = None
        self._replay = rate_limits.replay(rules.messages_per_second)
        self._replay_at = 0.0
        self._budget = rate_limits.budget(bytes_per_hour) if bytes_per_hour else None
        self._state_bytes = 0
        self._held_upto = 0
        self._due = math.inf

    def sync(self, sender: Sender, now: float) -> None:
        """Note what has arrived; on a new connection, begin anew with all that has not."""
        # The line is read first: what the one before has acknowledged is then in ``acked``.
        line, acked = sender.out.line, sender.out.acked
        self._outbox.ack([acked.popleft() for _ in range(len(acked))])
        if line is not self._line:
            self._line = line
            self._outbox.release(now)
            oldest = self._outbox.oldest()
            outage = 0.0 if oldest is None else now - oldest
            self._replay_at = now + random.uniform(0, min(outage * OUTAGE_SHARE, self._rules.jitter))

    def hand_over(self, sender: Sender, now: float) -> None:
        """Fill the sender's line: events, then results."""
        self._due = math.inf
        line = self._line
        if line is None or not sender.connected:
            return
        before = len(line.ready)
        self._pay_for_state(sender)
        for kind in CLASSES:
            if self._rules.fresh == "first":
                self._hand_over_fresh(line, kind, now)
            self._hand_over_backlog(line, kind, now)
            if not self._outbox.has_backlog(kind):
                self._hand_over_fresh(line, kind, now)
        if len(line.ready) > before:
            sender.wake()

    def next_due(self) -> float:
        """Return when ``hand_over`` can go on with what it had to leave."""
        return self._due

    def _hand_over_fresh(self, line: Line, kind: Class, now: float) -> None:
        room, space = _room(line)
        if room > 0 and (size := min(room * self._batch_bytes, space, self._affordable(kind, now))):
            parcels = self._take(kind, "fresh", room, size)
            self._push(line, outgoing.fresh(parcels, self._root, line.limit))

    def _hand_over_backlog(self, line: Line, kind: Class, now: float) -> None:
        room, space = _room(line)
        if not self._outbox.has_backlog(kind) or room <= 0:
            return
        room = min(room, int(self._replay.level(now)))
        if now < self._replay_at or room <= 0:
            self._due = min(self._due, max(self._replay_at, self._replay.full_at(1.0)))
            return
        if not (size := min(room * self._batch_bytes // 2, space, self._affordable(kind, now))):
            return
        parcels = self._take(kind, "backlog", room * self._batch_count, size)
        limit = min(line.limit, self._batch_bytes)
        self._replay.spend(self._push(line, outgoing.replayed(parcels, self._root, self._batch_count, limit)))

    def _take(self, kind: Class, part: Freshness, rows: int, size: int) -> list[StoredEntry]:
        ahead = clock.ahead()
        return [redated(parcel, ahead) for parcel in self._outbox.take(kind, part, rows, size)]

    def _push(self, line: Line, messages: Iterable[Outgoing]) -> int:
        count = 0
        for message in messages:
            line.ready.append(message)
            count += 1
            if self._budget:
                self._budget.spend(len(message.payload) + len(message.topic))
                if any(token.kind == "result" and token.sequence <= self._held_upto for token in message.tokens):
                    self.held_back += message.items
        return count

    def _pay_for_state(self, sender: Sender) -> None:
        """Health and the like always go out, and are paid for."""
        if self._budget:
            sent = sender.out.state_bytes
            self._budget.spend(sent - self._state_bytes)
            self._state_bytes = sent

    def _affordable(self, kind: Class, now: float) -> int:
        """Return how many bytes the budget allows. Events go out all the same, and are paid for later."""
        if self._budget is None or kind == "event":
            return UNLIMITED
        left = int(self._budget.level(now))
        if left > 0:
            return left
        self._held_upto = self._outbox.newest(kind)
        self._due = min(self._due, self._budget.full_at(1.0))
        return 0


def _room(line: Line) -> tuple[int, int]:
    """Return how many messages, and how many bytes of them, can be added to a line; 0 if either is full."""
    ready = line.ready.copy()
    space = LARGEST_READY - sum(len(message.payload) for message in ready)
    return (READY - len(ready), space) if space > 0 else (0, 0)
