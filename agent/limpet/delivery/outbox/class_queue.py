"""One class of messages, in order: what is in memory of it, and what is known of the rest."""

from __future__ import annotations

import random
from collections import Counter, OrderedDict, deque
from typing import TYPE_CHECKING

from limpet.delivery.outbox import Class, Entry, EntryId, Freshness, StoredEntry
from limpet.delivery.outbox.database import Head

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from limpet.delivery.outbox.rules import Rules


class ClassQueue:
    """Sequence numbers rise; what is on the disk is older than what is in ``recent``.

    ``recent`` is neither acknowledged nor on the disk, ``size`` its bytes. ``taken`` is under way, ``dead`` is to
    be deleted from the disk. Up to ``mark`` messages are backlog. ``cursor``: where reading the disk goes on.
    ``unchecked``: the disk was read since it was last seen to be complete.
    ``thinned`` and ``counts``: how far thinning has come, and how many messages of each pipeline it has met.
    """

    def __init__(self, kind: Class, rules: Rules) -> None:
        self.kind = kind
        self.rules = rules
        self.recent: OrderedDict[int, Entry] = OrderedDict()
        self.size = 0
        self.next = 0
        self.mark = 0
        self.taken: set[int] = set()
        self.dead: set[int] = set()
        self.cursor: dict[Freshness, int] = {"backlog": 0, "fresh": 0}
        self.queue: dict[Freshness, deque[int]] = {"backlog": deque(), "fresh": deque()}
        self.unchecked = False
        self.thinned = 0
        self.counts: Counter[str] = Counter()

    def add(self, entry: Entry) -> None:
        """Append an entry."""
        if not self.next:
            # A disk may be found only after messages have come: a number that it does not hold.
            self.next = (1 << 61) + random.getrandbits(60)
        self.recent[self.next] = entry
        self.size += entry.size
        self.queue["fresh"].append(self.next)
        self.next += 1

    def drop(self, sequence: int) -> None:
        """Forget an entry: at once in memory, with the next commit on the disk."""
        self.taken.discard(sequence)
        if not self.settle(sequence):
            self.dead.add(sequence)

    def settle(self, sequence: int) -> bool:
        """Take an entry out of memory, as it is acknowledged or on the disk; return whether it was there."""
        entry = self.recent.pop(sequence, None)
        if entry:
            self.size -= entry.size
        return entry is not None

    def release(self, last_on_disk: int, born_before: float) -> None:
        """Let everything be taken anew; what was under way, is on the disk or so old is backlog."""
        old = (sequence for sequence in reversed(self.recent) if self.recent[sequence].born < born_before)
        self.mark = max(self.mark, last_on_disk, next(old, 0), *self.taken)
        self.taken.clear()
        self.cursor = {"backlog": 0, "fresh": self.mark}
        self.queue = {"backlog": deque(), "fresh": deque()}
        for sequence in self.recent:
            self.queue["backlog" if sequence <= self.mark else "fresh"].append(sequence)

    def adopt(self, last: int, written: Iterable[int]) -> None:
        """Go on with a disk that holds messages up to ``last``: what is not under way there is backlog.

        ``written`` are those since the oldest in memory: a commit that seemed to fail may have been made.
        """
        self.next = max(self.next, last + 1)
        self.mark = max(self.mark, last)
        self.cursor["backlog"] = 0
        self.cursor["fresh"] = max(self.cursor["fresh"], last)
        for sequence in written:
            self.settle(sequence)

    def waits(self, sequence: int) -> bool:
        """Whether an entry is neither under way nor to be deleted."""
        return sequence not in self.taken and sequence not in self.dead

    def take(self, part: Freshness) -> Iterator[StoredEntry]:
        """Take what is in memory, oldest first."""
        queue = self.queue[part]
        while queue:
            sequence = queue.popleft()
            if sequence in self.recent and sequence not in self.taken:
                self.taken.add(sequence)
                self.cursor[part] = max(self.cursor[part], sequence)
                yield StoredEntry(EntryId(self.kind, sequence), self.recent[sequence])

    def oldest(self) -> float | None:
        """Return when the oldest in memory was born."""
        return next(iter(self.recent.values())).born if self.recent else None

    def late(self, born_before: float) -> list[StoredEntry]:
        """Return what is in memory and was born before then: all that is to be written to the disk now."""
        late = []
        for sequence, entry in self.recent.items():
            if entry.born > born_before:
                break
            late.append(StoredEntry(EntryId(self.kind, sequence), entry))
        return late

    def sizes(self) -> Counter[str]:
        """Return how many bytes of each pipeline are in memory."""
        sizes: Counter[str] = Counter()
        for entry in self.recent.values():
            sizes[entry.pipeline] += entry.size
        return sizes

    def heads(self, after: int) -> list[Head]:
        """Return what in memory may be shed, oldest first."""
        return [
            Head(sequence, entry.pipeline, entry.items, entry.size, entry.born)
            for sequence, entry in self.recent.items()
            if sequence > after and self.waits(sequence)
        ]
