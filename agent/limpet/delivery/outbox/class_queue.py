"""The queue of one class of messages: what waits in memory, what is in flight, what is backlog. No I/O.

The caller owns the disk. It reports to this queue what was read from there, and what was written.
"""

from __future__ import annotations

import random
from collections import Counter, OrderedDict, deque
from typing import TYPE_CHECKING

from limpet.delivery.outbox import Class, Entry, EntryId, Freshness, StoredEntry
from limpet.delivery.outbox.database import RowHead
from limpet.delivery.outbox.shedding import Thinning

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from limpet.delivery.outbox.rules import Rules


class ClassQueue:
    """Entries by sequence number. Numbers rise, and what is on the disk is older than what is in memory.

    * ``memory``: entries that are neither acknowledged nor on the disk, of ``size`` bytes.
    * ``in_flight``: numbers of entries that were taken and are not acknowledged.
    * ``to_delete``: numbers of entries on the disk that are not needed any more.
    * ``backlog_end``: up to this number entries are backlog, later ones are fresh.
    * ``read_upto``: the number up to which the disk was read.
    * ``unverified``: the disk was read since it was last seen to hold all that it should.
    """

    def __init__(self, kind: Class, rules: Rules) -> None:
        self.kind = kind
        self.rules = rules
        self.memory: OrderedDict[int, Entry] = OrderedDict()
        self.size = 0
        self.next = 0
        self.backlog_end = 0
        self.in_flight: set[int] = set()
        self.to_delete: set[int] = set()
        self.read_upto: dict[Freshness, int] = {"backlog": 0, "fresh": 0}
        self.unverified = False
        self.thinning = Thinning(rules.nth)
        self._waiting: dict[Freshness, deque[int]] = {"backlog": deque(), "fresh": deque()}

    # --- what comes and goes

    def add(self, entry: Entry) -> None:
        """Append an entry."""
        if not self.next:
            # A disk may be found only after messages have come: begin with a number that it does not hold.
            self.next = (1 << 61) + random.getrandbits(60)
        self.memory[self.next] = entry
        self.size += entry.size
        self._waiting["fresh"].append(self.next)
        self.next += 1

    def take(self, freshness: Freshness) -> Iterator[StoredEntry]:
        """Take entries that wait in memory, oldest first."""
        waiting = self._waiting[freshness]
        while waiting:
            sequence = waiting.popleft()
            if sequence in self.memory and sequence not in self.in_flight:
                self.in_flight.add(sequence)
                self.read_upto[freshness] = max(self.read_upto[freshness], sequence)
                yield StoredEntry(EntryId(self.kind, sequence), self.memory[sequence])

    def take_read(self, freshness: Freshness, read: Iterable[StoredEntry]) -> Iterator[StoredEntry]:
        """Take entries that were read from the disk, without those in flight or to be deleted."""
        for stored in read:
            sequence = stored.id.sequence
            self.read_upto[freshness] = sequence
            if self.is_waiting(sequence):
                self.in_flight.add(sequence)
                yield stored

    def has_backlog_in_memory(self) -> bool:
        """Whether backlog waits in memory."""
        return bool(self._waiting["backlog"])

    def is_waiting(self, sequence: int) -> bool:
        """Whether an entry is neither in flight nor to be deleted."""
        return sequence not in self.in_flight and sequence not in self.to_delete

    def forget(self, sequence: int) -> None:
        """Drop an entry: from memory at once, from the disk with the next commit."""
        self.in_flight.discard(sequence)
        if not self.leave_memory(sequence):
            self.to_delete.add(sequence)

    def leave_memory(self, sequence: int) -> bool:
        """Take an entry out of memory, as it is acknowledged or on the disk; return whether it was there."""
        entry = self.memory.pop(sequence, None)
        if entry:
            self.size -= entry.size
        return entry is not None

    def requeue(self, last_on_disk: int, born_before: float) -> None:
        """Let everything be taken again: a new connection begins.

        What was in flight, is on the disk, or was born before then becomes backlog.
        """
        late = (sequence for sequence in reversed(self.memory) if self.memory[sequence].born < born_before)
        self.backlog_end = max(self.backlog_end, last_on_disk, next(late, 0), *self.in_flight)
        self.in_flight.clear()
        self.read_upto = {"backlog": 0, "fresh": self.backlog_end}
        self._waiting = {"backlog": deque(), "fresh": deque()}
        for sequence in self.memory:
            self._waiting["backlog" if sequence <= self.backlog_end else "fresh"].append(sequence)

    def continue_from_disk(self, last: int, written: Iterable[int]) -> None:
        """Go on with a disk that holds entries up to ``last``: they are backlog.

        ``written`` are those on the disk since the oldest in memory: a commit that seemed to fail may have
        succeeded.
        """
        self.next = max(self.next, last + 1)
        self.backlog_end = max(self.backlog_end, last)
        self.read_upto["backlog"] = 0
        self.read_upto["fresh"] = max(self.read_upto["fresh"], last)
        for sequence in written:
            self.leave_memory(sequence)

    # --- what is in memory

    def oldest(self) -> float | None:
        """Return when the oldest entry in memory was born."""
        return next(iter(self.memory.values())).born if self.memory else None

    def in_flight_on_disk(self) -> int:
        """Return how many entries in flight are on the disk."""
        return sum(1 for sequence in self.in_flight if sequence not in self.memory)

    def to_write(self, born_before: float, *, full: bool, together: bool) -> list[StoredEntry]:
        """Return the entries in memory that are to be written to the disk now, oldest first.

        Those are the ones born before a time. All are written if the memory is ``full``. If ``together``, younger
        entries are written with the first one that is due: one commit in place of several.
        """
        oldest = self.oldest()
        if full or (together and oldest is not None and oldest <= born_before):
            return self.all_in_memory()
        due = []
        for sequence, entry in self.memory.items():
            if entry.born > born_before:
                break
            due.append(StoredEntry(EntryId(self.kind, sequence), entry))
        return due

    def all_in_memory(self) -> list[StoredEntry]:
        """Return all entries in memory, oldest first."""
        return [StoredEntry(EntryId(self.kind, sequence), entry) for sequence, entry in self.memory.items()]

    def sizes(self) -> Counter[str]:
        """Return how many bytes of each pipeline are in memory."""
        sizes: Counter[str] = Counter()
        for entry in self.memory.values():
            sizes[entry.pipeline] += entry.size
        return sizes

    def heads(self, after: int) -> list[RowHead]:
        """Return what the bounds need to know of the entries in memory that may be shed, oldest first."""
        return [
            RowHead(sequence, entry.pipeline, len(entry.items), entry.size, entry.born)
            for sequence, entry in self.memory.items()
            if sequence > after and self.is_waiting(sequence)
        ]
