"""The outbox: recent messages in memory, older ones on the disk, all of it bounded."""

from __future__ import annotations

import math
from collections import Counter
from itertools import chain
from typing import TYPE_CHECKING

from limpet.delivery.outbox import LARGEST, MOST_ITEMS, OVERHEAD, is_owner, shedding
from limpet.delivery.outbox.class_queue import ClassQueue
from limpet.delivery.outbox.database import Change
from limpet.delivery.outbox.disk_store import DiskStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from limpet.delivery.outbox import Class, Entry, EntryId, Freshness, StoredEntry
    from limpet.delivery.outbox.database import RowHead
    from limpet.delivery.outbox.rules import OutboxRules

COMMIT_AFTER = 0.05
COMMIT_MESSAGES = 64
"""A durable class is committed after this many seconds or messages, whichever comes first."""

DELETE_AFTER = 5.0
DELETE_MESSAGES = 512
"""Acknowledged messages leave the disk with the next commit, or after this many seconds or messages."""

GRACE = 1.0
"""Messages younger than this many seconds are still fresh on a new connection."""

AGE_CHECK = 30.0
"""Seconds between two searches for messages that are too old."""

CHUNK = 64
"""Rows that are read at once."""

SLACK = 50
"""When a bound is reached, this fraction of it is freed at once, so that it is not needed for each message."""


class Outbox:
    """Keeps messages until they are acknowledged. Used by one thread. ``counts`` has what was shed, by cause.

    ``directory`` is where the disk's part lives, ``None`` for none.
    """

    def __init__(self, rules: OutboxRules, directory: Path | None) -> None:
        self.counts: Counter[str] = Counter()
        self._rules = rules
        self._queues: dict[Class, ClassQueue] = {
            "event": ClassQueue("event", rules.events),
            "result": ClassQueue("result", rules.results),
        }
        self._store = DiskStore(directory, rules.min_free_bytes) if directory else None
        self._delete_at = math.inf
        self._blocked_until = 0.0
        self._check_age_at = 0.0

    def open(self, now: float) -> None:
        """Open the disk's part, if it can be had; on the thread that will use it."""
        if not self._store or not self._store.tend(now):
            return
        for queue in self._queues.values():
            written = self._store.heads(queue.kind, next(iter(queue.memory)) - 1, -1) if queue.memory else []
            queue.continue_from_disk(self._store.last(queue.kind), [head.sequence for head in written])
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
        """Entries held, those in flight among them."""
        return sum(
            len(queue.memory) - len(queue.to_delete) + (self._store.messages(queue.kind) if self._store else 0)
            for queue in self._queues.values()
        )

    @property
    def size(self) -> int:
        """Bytes held, in memory and on the disk."""
        return self.memory_size + sum(self._disk_bytes(queue) for queue in self._queues.values())

    @property
    def memory_size(self) -> int:
        """Bytes held in memory."""
        return sum(queue.size for queue in self._queues.values())

    def oldest(self) -> float | None:
        """Return the ``born`` of the oldest entry held."""
        born = [self._first_born(queue) for queue in self._queues.values()]
        return min((b for b in born if b is not None), default=None)

    def unsafe_since(self) -> float:
        """Return when the oldest entry was born that only memory holds, infinity if there is none."""
        born = [queue.oldest() for queue in self._queues.values() if queue.rules.keep != "memory"]
        return min((b for b in born if b is not None), default=math.inf)

    # --- messages that come and go

    def put(self, entry: Entry) -> None:
        """Keep an entry; shed what is then too much for the memory."""
        queue = self._queues[entry.kind]
        if not is_owner(entry.kind, entry.pipeline):
            self.counts[f"{entry.kind}s, no pipeline has that name"] += len(entry.items)
            return
        if entry.size - OVERHEAD > LARGEST or len(entry.items) > MOST_ITEMS:
            self.counts[f"{entry.kind}s, too large"] += len(entry.items)
            return
        if queue.rules.when_full == "refuse" and self._bytes(queue) + entry.size > queue.rules.max_bytes:
            self.counts[f"{entry.kind}s refused, outbox full"] += len(entry.items)
            return
        queue.add(entry)
        if not self._persists(queue):
            self._bound_memory(queue)

    def restore(self, entries: Iterable[Entry]) -> None:
        """Keep what another process had accepted. It may have been sent already, so it is backlog."""
        for entry in entries:
            self.put(entry)
            queue = self._queues[entry.kind]
            queue.backlog_end = queue.next - 1

    def take(self, kind: Class, freshness: Freshness, rows: int, size: int) -> list[StoredEntry]:
        """Return the next entries to send, oldest first: at most ``rows``, and until they have ``size`` bytes.

        Each entry is taken once; it stays here until it is acknowledged.
        """
        queue = self._queues[kind]
        taken: list[StoredEntry] = []
        for stored in chain(self._take_from_disk(queue, freshness, size), queue.take(freshness)):
            taken.append(stored)
            size -= stored.entry.size
            if len(taken) >= rows or size <= 0:
                break
        return taken

    def has_backlog(self, kind: Class) -> bool:
        """Whether entries wait that were there before this connection."""
        queue = self._queues[kind]
        return queue.has_backlog_in_memory() or queue.read_upto["backlog"] < self._disk_end(queue, "backlog")

    def newest(self, kind: Class) -> int:
        """Return the sequence number of the newest entry."""
        return self._queues[kind].next - 1

    def ack(self, ids: Iterable[EntryId]) -> None:
        """Forget entries that were taken and need not be sent again."""
        for kind, sequence in ids:
            self._queues[kind].forget(sequence)

    def requeue(self, now: float) -> None:
        """Begin with a new connection: whatever is not acknowledged can be taken again.

        What may have been sent already, or is older than ``GRACE`` seconds, is backlog.
        """
        for queue in self._queues.values():
            queue.requeue(self._store.last(queue.kind) if self._store else 0, now - GRACE)

    def _take_from_disk(self, queue: ClassQueue, freshness: Freshness, size: int) -> Iterator[StoredEntry]:
        while rows := self._read_next(queue, freshness, size):
            yield from queue.take_read(freshness, rows)
        self._verify_disk(queue)

    def _read_next(self, queue: ClassQueue, freshness: Freshness, size: int) -> list[StoredEntry]:
        """Return the next rows of the disk; none at its end, or if it cannot be read now."""
        after, end = queue.read_upto[freshness], self._disk_end(queue, freshness)
        if not self._store or after >= end:
            return []
        rows = self._store.read(queue.kind, after, end, CHUNK, size)
        if rows is None:
            return []
        queue.unverified = True
        if not rows:
            queue.read_upto[freshness] = end
        return rows

    def _verify_disk(self, queue: ClassQueue) -> None:
        """Once all of the disk is read, check that it held as many entries as it says.

        A damaged file may just seem to be shorter.
        """
        if not self._store or not queue.unverified:
            return
        if all(upto >= self._disk_end(queue, freshness) for freshness, upto in queue.read_upto.items()):
            queue.unverified = False
            if self._store.messages(queue.kind) > queue.in_flight_on_disk() + len(queue.to_delete):
                self._store.mistrust()

    def _disk_end(self, queue: ClassQueue, freshness: Freshness) -> int:
        """Return the number of the last entry on the disk that is backlog, or fresh."""
        last = self._store.last(queue.kind) if self._store else 0
        return min(last, queue.backlog_end) if freshness == "backlog" else last

    # --- the disk

    def maintain(self, now: float, *, away: bool) -> None:
        """Write what is due to the disk; delete what was acknowledged, is too much or too old.

        ``away``: the broker is, so that nothing will be acknowledged soon.
        """
        self.open(now)
        self._check_age(now)
        if not self._store:
            return
        for queue in self._queues.values():
            self._bound_disk(queue)
        added = [stored for queue in self._queues.values() for stored in self._to_write(queue, now, away=away)]
        if now >= self._blocked_until and (added or self._must_delete(now)) and not self._commit(added):
            self._blocked_until = now + DELETE_AFTER

    def next_due(self) -> float:
        """Return when ``maintain`` is needed again, at the latest."""
        due = [self._delete_at]
        for queue in self._queues.values():
            born = queue.oldest()
            if born is not None and self._persists(queue):
                due.append(born + self._delay(queue))
        return max(min(due), self._blocked_until)

    def close(self) -> None:
        """Write all there is, and close the file."""
        if self._store:
            queues = [queue for queue in self._queues.values() if self._persists(queue)]
            self._commit([stored for queue in queues for stored in queue.all_in_memory()])
            self._store.close()

    def _to_write(self, queue: ClassQueue, now: float, *, away: bool) -> list[StoredEntry]:
        """Return the entries of a class that are to be written now.

        An entry is due after the delay of its class, as most are acknowledged before. With one that is due, the
        younger ones are written too if they would not be acknowledged in time either.
        """
        if not self._persists(queue):
            return []
        durable = queue.rules.keep == "durable"
        full = queue.size > self._rules.memory_bytes // 2 or (durable and len(queue.memory) >= COMMIT_MESSAGES)
        return queue.to_write(now - self._delay(queue), full=full, together=away or durable)

    def _delay(self, queue: ClassQueue) -> float:
        """Return for how many seconds an entry may be in memory only."""
        return COMMIT_AFTER if queue.rules.keep == "durable" else self._rules.spill_after

    def _must_delete(self, now: float) -> bool:
        """Whether enough acknowledged messages are still on the disk, or for long enough."""
        count = sum(len(queue.to_delete) for queue in self._queues.values())
        if not count:
            self._delete_at = math.inf
            return False
        self._delete_at = min(self._delete_at, now + DELETE_AFTER)
        return count >= DELETE_MESSAGES or now >= self._delete_at

    def _commit(self, added: list[StoredEntry]) -> bool:
        """Write and delete; return whether it was done. What was not is tried again with the next commit."""
        assert self._store
        deleted = {queue.kind: list(queue.to_delete) for queue in self._queues.values() if queue.to_delete}
        if (added or deleted) and not self._store.write(Change(added, deleted, self.counts)):
            return False
        for (kind, sequence), _ in added:
            self._queues[kind].leave_memory(sequence)
        for kind, sequences in deleted.items():
            self._queues[kind].to_delete.difference_update(sequences)
        self._delete_at = math.inf
        return True

    def _persists(self, queue: ClassQueue) -> bool:
        return queue.rules.keep != "memory" and self._store is not None and self._store.usable

    # --- the bounds

    def _disk_bytes(self, queue: ClassQueue) -> int:
        return self._store.bytes(queue.kind) if self._store else 0

    def _bytes(self, queue: ClassQueue) -> int:
        return queue.size + self._disk_bytes(queue)

    def _bound_disk(self, queue: ClassQueue) -> None:
        if self._bytes(queue) > queue.rules.max_bytes and queue.to_delete:
            self._commit([])
        surplus = self._bytes(queue) - queue.rules.max_bytes
        if surplus > 0:
            sizes = queue.sizes() + Counter(self._store.sizes(queue.kind) if self._store else {})
            surplus += queue.rules.max_bytes // SLACK
            self._shed(queue, sizes, lambda after: self._heads(queue, after), surplus)
            if not queue.to_delete and self._bytes(queue) > queue.rules.max_bytes:
                self._mistrust_totals(queue)
            self._commit([])

    def _mistrust_totals(self, queue: ClassQueue) -> None:
        """Nothing can be shed, though there is too much: unless all is in flight, the disk's totals are wrong."""
        if self._store and self._store.messages(queue.kind) > queue.in_flight_on_disk():
            self._store.mistrust()

    def _bound_memory(self, queue: ClassQueue) -> None:
        surplus = queue.size - queue.rules.max_bytes
        if surplus > 0:
            self._shed(queue, queue.sizes(), queue.heads, surplus + queue.rules.max_bytes // SLACK)
        limit = self._rules.memory_bytes
        for each in (self._queues["result"], self._queues["event"]):
            surplus = self.memory_size - limit
            if surplus > 0:
                self._shed(each, each.sizes(), each.heads, surplus + limit // SLACK)

    def _shed(
        self, queue: ClassQueue, sizes: Mapping[str, int], heads: Callable[[int], Iterable[RowHead]], surplus: int
    ) -> None:
        if queue.rules.when_full == "keep-every-nth":
            self._drop(queue, queue.thinning.victims(heads, surplus), "thinned")
        else:
            self._drop(queue, shedding.largest(sizes, heads, surplus), "outbox full")

    def _check_age(self, now: float) -> None:
        if now < self._check_age_at:
            return
        self._check_age_at = now + AGE_CHECK
        for queue in self._queues.values():
            old = shedding.too_old(self._heads(queue, 0), now - queue.rules.max_age)
            self._drop(queue, old, "too old")

    def _drop(self, queue: ClassQueue, heads: Iterable[RowHead], cause: str) -> None:
        for head in heads:
            queue.forget(head.sequence)
            self.counts[f"{queue.kind}s, {cause}"] += head.items

    def _heads(self, queue: ClassQueue, after: int) -> Iterator[RowHead]:
        """Yield what may be shed after a sequence number, oldest first."""
        while self._store and (rows := self._store.heads(queue.kind, after, CHUNK)):
            after = rows[-1].sequence
            yield from (head for head in rows if queue.is_waiting(head.sequence))
        yield from queue.heads(after)

    def _first_born(self, queue: ClassQueue) -> float | None:
        if self._store and self._store.messages(queue.kind) > len(queue.to_delete):
            rows = self._store.heads(queue.kind, 0, len(queue.to_delete) + 1)
            return next((row.born for row in rows if row.sequence not in queue.to_delete), None)
        return queue.oldest()
