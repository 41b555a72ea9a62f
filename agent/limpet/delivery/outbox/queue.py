"""The outbox: recent messages in memory, older ones on the disk, all of it bounded."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

from limpet.delivery.outbox import LARGEST, MOST_ITEMS, is_owner, shedding
from limpet.delivery.outbox.class_queue import ClassQueue
from limpet.delivery.outbox.database import Change
from limpet.delivery.outbox.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from limpet.delivery.outbox import Class, Entry, EntryId, Freshness, StoredEntry
    from limpet.delivery.outbox.database import Head
    from limpet.delivery.outbox.rules import OutboxRules

COMMIT_AFTER = 0.05
COMMIT_MESSAGES = 64
"""A durable class is committed after that many seconds or messages, whichever comes first."""

FORGET_AFTER = 5.0
FORGET_MESSAGES = 512
"""Acknowledged messages leave the disk with the next commit, or after that many seconds or messages."""

GRACE = 1.0
"""Seconds of a break in the connection that make no backlog of what was not sent yet."""

AGE_CHECK = 30.0
"""Seconds between two looks for messages that are too old."""

CHUNK = 64
"""Rows that are read at once."""

SLACK = 50
"""When a bound is reached, that fraction of it is shed at once, so that it is not needed for each message."""


class Outbox:
    """Keeps messages until they are acknowledged. Used by one thread. ``counts`` has what was shed, by cause.

    ``directory`` is where the disk's part lives, ``None`` for none.
    """

    def __init__(self, rules: OutboxRules, directory: Path | None) -> None:
        self.counts: Counter[str] = Counter()
        self._rules = rules
        self._lanes: dict[Class, ClassQueue] = {
            "event": ClassQueue("event", rules.events),
            "result": ClassQueue("result", rules.results),
        }
        self._store = Store(directory, rules.min_free_bytes) if directory else None
        self._forget_at = math.inf
        self._blocked_until = 0.0
        self._check_age_at = 0.0

    def open(self, now: float) -> None:
        """Open the disk's part, if it can be had; on the thread that will use it."""
        if not self._store or not self._store.tend(now):
            return
        for lane in self._lanes.values():
            written = self._store.heads(lane.kind, next(iter(lane.recent)) - 1, -1) if lane.recent else []
            lane.adopt(self._store.last(lane.kind), [head.sequence for head in written])
        for cause, items in self._store.shed().items():
            self.counts[cause] = max(self.counts[cause], items)
        if self._store.lost:
            self.counts["messages, disk damaged"] += self._store.lost
            self._store.lost = 0
        if self._store.unknown:
            self.counts["unknown numbers of messages, disk damaged"] += self._store.unknown
            self._store.unknown = 0

    def notices(self) -> list[tuple[str, str]]:
        """Return what has happened to the disk since the last call, as event and reason."""
        if not self._store:
            return []
        notices, self._store.notices = self._store.notices, []
        return notices

    @property
    def depth(self) -> int:
        """Messages held, those under way among them."""
        return sum(
            len(lane.recent) - len(lane.dead) + (self._store.messages(lane.kind) if self._store else 0)
            for lane in self._lanes.values()
        )

    @property
    def size(self) -> int:
        """Bytes held, in memory and on the disk."""
        return sum(self._bytes(lane) for lane in self._lanes.values())

    def oldest(self) -> float | None:
        """Return the ``born`` of the oldest message held."""
        born = [self._first_born(lane) for lane in self._lanes.values()]
        return min((b for b in born if b is not None), default=None)

    def unsafe_since(self) -> float:
        """Return when the oldest message was born that only memory holds, infinity if there is none."""
        born = [lane.oldest() for lane in self._lanes.values() if lane.rules.keep != "memory"]
        return min((b for b in born if b is not None), default=math.inf)

    # --- what goes through

    def put(self, entry: Entry) -> None:
        """Keep a message; shed what is then too much for the memory."""
        lane = self._lanes[entry.kind]
        if not is_owner(entry.kind, entry.pipeline):
            self.counts[f"{entry.kind}s, no pipeline has that name"] += entry.items
            return
        if len(entry.payload) > LARGEST or entry.items > MOST_ITEMS:
            self.counts[f"{entry.kind}s, too large"] += entry.items
            return
        if lane.rules.when_full == "refuse" and self._bytes(lane) + entry.size > lane.rules.max_bytes:
            self.counts[f"{entry.kind}s refused, outbox full"] += entry.items
            return
        lane.add(entry)
        if not self._persists(lane):
            self._bound_memory(lane)

    def restore(self, entries: Iterable[Entry]) -> None:
        """Keep what another process had accepted: it may have been sent, so it is backlog."""
        for entry in entries:
            self.put(entry)
            lane = self._lanes[entry.kind]
            lane.mark = lane.next - 1

    def take(self, kind: Class, part: Freshness, rows: int, size: int) -> list[StoredEntry]:
        """Return messages to send next: at most ``rows``, and until ``size`` bytes are there.

        Each is taken once; it stays here until it is acknowledged.
        """
        parcels: list[StoredEntry] = []
        for parcel in self._next(self._lanes[kind], part, size):
            parcels.append(parcel)
            size -= parcel.entry.size
            if len(parcels) >= rows or size <= 0:
                break
        return parcels

    def has_backlog(self, kind: Class) -> bool:
        """Whether messages wait that were there before this connection."""
        lane = self._lanes[kind]
        return bool(lane.queue["backlog"]) or lane.cursor["backlog"] < self._disk_end(lane, "backlog")

    def newest(self, kind: Class) -> int:
        """Return the sequence number of the newest message."""
        return self._lanes[kind].next - 1

    def ack(self, tokens: Iterable[EntryId]) -> None:
        """Forget messages that were taken and need not be sent again."""
        for kind, sequence in tokens:
            self._lanes[kind].drop(sequence)

    def release(self, now: float) -> None:
        """Begin with a new connection: whatever is not acknowledged can be taken again.

        What may have been sent already, or is older than ``GRACE`` seconds, is backlog.
        """
        for lane in self._lanes.values():
            lane.release(self._store.last(lane.kind) if self._store else 0, now - GRACE)

    def _next(self, lane: ClassQueue, part: Freshness, size: int) -> Iterator[StoredEntry]:
        yield from self._next_on_disk(lane, part, size)
        yield from lane.take(part)

    def _next_on_disk(self, lane: ClassQueue, part: Freshness, size: int) -> Iterator[StoredEntry]:
        while self._store and lane.cursor[part] < (upto := self._disk_end(lane, part)):
            found = self._store.read(lane.kind, lane.cursor[part], upto, CHUNK, size)
            if found is None:
                return
            lane.unchecked = True
            if not found:
                lane.cursor[part] = upto
            for parcel in found:
                sequence = parcel.token.sequence
                lane.cursor[part] = sequence
                if lane.waits(sequence):
                    lane.taken.add(sequence)
                    yield parcel
        if lane.unchecked:
            self._check_complete(lane)

    def _check_complete(self, lane: ClassQueue) -> None:
        """See that all was read, once no more comes: a damaged file may just seem to be shorter."""
        if self._store and all(lane.cursor[part] >= self._disk_end(lane, part) for part in lane.cursor):
            lane.unchecked = False
            taken = sum(1 for sequence in lane.taken if sequence not in lane.recent)
            if self._store.messages(lane.kind) > taken + len(lane.dead):
                self._store.mistrust()

    def _disk_end(self, lane: ClassQueue, part: Freshness) -> int:
        last = self._store.last(lane.kind) if self._store else 0
        return min(last, lane.mark) if part == "backlog" else last

    # --- the disk

    def maintain(self, now: float, *, away: bool) -> None:
        """Write what is due to the disk, delete what was acknowledged, is too much or too old.

        ``away``: the broker is, so that nothing will be acknowledged soon.
        """
        self.open(now)
        self._check_age(now)
        if not self._store:
            return
        for lane in self._lanes.values():
            self._bound_disk(lane)
        added = [parcel for lane in self._lanes.values() for parcel in self._due(lane, now, away=away)]
        if now >= self._blocked_until and (added or self._must_forget(now)) and not self._commit(added):
            self._blocked_until = now + FORGET_AFTER

    def next_due(self) -> float:
        """Return when ``maintain`` is needed again, at the latest."""
        due = [self._forget_at]
        for lane in self._lanes.values():
            born = lane.oldest()
            if born is not None and self._persists(lane):
                due.append(born + self._delay(lane))
        return max(min(due), self._blocked_until)

    def close(self) -> None:
        """Write all there is, and close the file."""
        if self._store:
            self._commit([p for lane in self._lanes.values() if self._persists(lane) for p in lane.late(math.inf)])
            self._store.close()

    def _due(self, lane: ClassQueue, now: float, *, away: bool) -> list[StoredEntry]:
        if not self._persists(lane) or not lane.recent:
            return []
        crowded = lane.size > self._rules.memory_bytes // 2
        if lane.rules.keep == "durable":
            crowded = crowded or len(lane.recent) >= COMMIT_MESSAGES
        late = lane.late(math.inf if crowded else now - self._delay(lane))
        # Together with what is late goes what will be: one commit instead of two.
        return lane.late(math.inf) if late and (away or lane.rules.keep == "durable") else late

    def _delay(self, lane: ClassQueue) -> float:
        return COMMIT_AFTER if lane.rules.keep == "durable" else self._rules.spill_after

    def _must_forget(self, now: float) -> bool:
        dead = sum(len(lane.dead) for lane in self._lanes.values())
        if not dead:
            self._forget_at = math.inf
            return False
        self._forget_at = min(self._forget_at, now + FORGET_AFTER)
        return dead >= FORGET_MESSAGES or now >= self._forget_at

    def _commit(self, added: list[StoredEntry]) -> bool:
        """Write and delete; return whether it was done. What was not is tried again with the next commit."""
        assert self._store
        deleted = {lane.kind: list(lane.dead) for lane in self._lanes.values() if lane.dead}
        if (added or deleted) and not self._store.write(Change(added, deleted, self.counts)):
            return False
        for token, _ in added:
            self._lanes[token.kind].settle(token.sequence)
        for kind, sequences in deleted.items():
            self._lanes[kind].dead.difference_update(sequences)
        self._forget_at = math.inf
        return True

    def _persists(self, lane: ClassQueue) -> bool:
        return lane.rules.keep != "memory" and self._store is not None and self._store.usable

    # --- the bounds

    def _bytes(self, lane: ClassQueue) -> int:
        return lane.size + (self._store.bytes(lane.kind) if self._store else 0)

    def _bound_disk(self, lane: ClassQueue) -> None:
        if self._bytes(lane) > lane.rules.max_bytes and lane.dead:
            self._commit([])
        surplus = self._bytes(lane) - lane.rules.max_bytes
        if surplus > 0:
            sizes = lane.sizes() + Counter(self._store.sizes(lane.kind) if self._store else {})
            spare = surplus + lane.rules.max_bytes // SLACK
            self._shed(lane, sizes, lambda after: self._heads(lane, after), spare)
            if not lane.dead and self._bytes(lane) > lane.rules.max_bytes:
                self._mistrust_totals(lane)
            self._commit([])

    def _mistrust_totals(self, lane: ClassQueue) -> None:
        """Nothing can be shed, though there is too much: unless all is under way, the disk's totals are wrong."""
        taken = sum(1 for sequence in lane.taken if sequence not in lane.recent)
        if self._store and self._store.messages(lane.kind) > taken:
            self._store.mistrust()

    def _bound_memory(self, lane: ClassQueue) -> None:
        surplus = lane.size - lane.rules.max_bytes
        if surplus > 0:
            self._shed(lane, lane.sizes(), lane.heads, surplus + lane.rules.max_bytes // SLACK)
        limit = self._rules.memory_bytes
        for other in (self._lanes["result"], self._lanes["event"]):
            surplus = sum(each.size for each in self._lanes.values()) - limit
            if surplus > 0:
                self._shed(other, other.sizes(), other.heads, surplus + limit // SLACK)

    def _shed(
        self, lane: ClassQueue, sizes: Mapping[str, int], heads: Callable[[int], Iterable[Head]], surplus: int
    ) -> None:
        thin = lane.rules.when_full == "keep-every-nth"
        victims = shedding.thinned(lane, heads, surplus) if thin else shedding.fairly(sizes, heads, surplus)
        self._drop(lane, victims, "thinned" if thin else "outbox full")

    def _check_age(self, now: float) -> None:
        if now < self._check_age_at:
            return
        self._check_age_at = now + AGE_CHECK
        for lane in self._lanes.values():
            self._drop(lane, shedding.too_old(self._heads(lane, 0), now - lane.rules.max_age), "too old")

    def _drop(self, lane: ClassQueue, heads: Iterable[Head], cause: str) -> None:
        for head in heads:
            lane.drop(head.sequence)
            self.counts[f"{lane.kind}s, {cause}"] += head.items

    def _heads(self, lane: ClassQueue, after: int) -> Iterator[Head]:
        """Yield what may be shed after a sequence number, oldest first."""
        while self._store and (rows := self._store.heads(lane.kind, after, CHUNK)):
            after = rows[-1].sequence
            yield from (head for head in rows if lane.waits(head.sequence))
        yield from lane.heads(after)

    def _first_born(self, lane: ClassQueue) -> float | None:
        if self._store and self._store.messages(lane.kind) > len(lane.dead):
            rows = self._store.heads(lane.kind, 0, len(lane.dead) + 1)
            return next((row.born for row in rows if row.sequence not in lane.dead), None)
        return lane.oldest()
