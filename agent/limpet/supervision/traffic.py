"""What one worker process may send: about which pipelines, which answers, how much and how often. No I/O.

Times are seconds on any steady clock.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from limpet.bucket import Bucket
from limpet.wire import border
from limpet.wire.records import RawResults, Transition

if TYPE_CHECKING:
    from collections.abc import Collection

    from limpet.updates.answers import Pairs
    from limpet.wire.records import Ask, FromWorker, Notice, RawAnswered

BYTES_PER_SECOND, BYTES_AT_ONCE = 8 << 20, 8 << 20
"""Bytes per second that are read from a worker and made from its records, on average and in a burst. Then it
waits.
"""
OVERHEAD = 1024
"""Bytes that a record counts in addition to its own: so many small ones cost as much time."""
NOTICES_PER_SECOND, NOTICES_AT_ONCE = 0.5, 10
"""Notices of a pipeline that become events. The others are counted."""
MOVES_PER_SECOND, MOVES_AT_ONCE = 1.0, 20
"""Transitions of a pipeline that take effect at once. The last one of the others does so a little later."""
PAIRS_PER_SECOND, PAIRS_AT_ONCE = 200.0, 2000.0
"""Windows of a pipeline and its shadow that are passed on, on average and in a burst. Others count as skipped."""
LEAVING = 10.0
"""Seconds for which a worker may still send results and other records of a pipeline that was taken from it."""
MOST_LEFT_OUT = 1 << 40
MOST_ASKED = 256
"""Questions whose answers are waited for."""


class Traffic:
    """The limits of one worker process, and how far it has used them."""

    def __init__(self) -> None:
        self.paused_until: float | None = None
        """When the process is read again, if it has sent too much."""
        self._bytes = Bucket(BYTES_PER_SECOND, BYTES_AT_ONCE)
        self._leaving: dict[str, float] = {}
        self._questions: dict[int, border.Question] = {}
        self._times: Counter[int] = Counter()
        self._limits: dict[str, ReportLimits] = {}

    def restart(self) -> None:
        """Take note of a new process. Its limit of messages per second is not reset."""
        self.paused_until = None
        self._leaving, self._questions, self._limits = {}, {}, {}
        self._times = Counter()

    def leave(self, pipelines: Collection[str], now: float) -> None:
        """Take note of pipelines that are taken from the process."""
        self._leaving |= dict.fromkeys(pipelines, now + LEAVING)

    def ask(self, ask: Ask) -> None:
        """Take note of a question to the process. If too many wait for an answer, the oldest is forgotten."""
        while len(self._questions) >= MOST_ASKED:
            number = next(iter(self._questions))
            del self._questions[number], self._times[number]
        self._questions[ask.number] = type(ask.what)
        self._times[ask.number] += 1

    def answered(self, answer: RawAnswered) -> None:
        """Take note of an answer. The same question may have been sent more than once."""
        self._times[answer.number] -= 1
        if not self._times[answer.number]:
            del self._questions[answer.number], self._times[answer.number]

    def check(self, record: FromWorker, pipelines: Collection[str], now: float) -> None:
        """Check that a process with these pipelines may send a record. ``UnreadableError`` says why not."""
        self._leaving = {name: until for name, until in self._leaving.items() if until > now}
        border.check(record, {*pipelines, *self._leaving}, self._questions)

    def spend(self, size: int, now: float) -> bool:
        """Take note of bytes that were read. Return whether the process has to wait."""
        level = self._bytes.level(now)
        self._bytes.spend(size)
        if level >= size:
            return False
        self.paused_until = self._bytes.full_at(1.0)
        return True

    def admit(self, record: Notice | Transition, now: float) -> Notice | Transition | None:
        """Return what is passed on now, if anything: a worker cannot flood the events of others."""
        return self._limits_of(record.pipeline).admit(record, now)

    def admit_pairs(self, record: Pairs, now: float) -> Pairs | None:
        """Return what is passed on now of what a pipeline and its shadow answered, if anything."""
        return self._limits_of(record.pipeline).admit_pairs(record, now)

    def _limits_of(self, pipeline: str) -> ReportLimits:
        if pipeline not in self._limits:
            self._limits[pipeline] = ReportLimits()
        return self._limits[pipeline]

    def postponed(self, now: float) -> list[Transition]:
        """Return transitions that had to wait and are due now."""
        return [move for limits in self._limits.values() if (move := limits.postponed(now))]

    def last_moves(self) -> list[Transition]:
        """Return transitions that had to wait, as the process is gone."""
        return [move for limits in self._limits.values() if (move := limits.take())]


def size_of(record: FromWorker) -> int:
    """Return how many bytes a record counts, in addition to those of its channel."""
    items = record.items if isinstance(record, RawResults) else []
    return OVERHEAD + sum(len(item.output) for item in items)


class ReportLimits:
    """How often one pipeline's worker may move it and report events."""

    def __init__(self) -> None:
        self._notices = Bucket(NOTICES_PER_SECOND, NOTICES_AT_ONCE)
        self._moves = Bucket(MOVES_PER_SECOND, MOVES_AT_ONCE)
        self._pairs = Bucket(PAIRS_PER_SECOND, PAIRS_AT_ONCE)
        self._folded = 0
        self._left_out = 0
        self._last: Transition | None = None

    def admit_pairs(self, record: Pairs, now: float) -> Pairs | None:
        """Return a record of pairs if it is passed on. The next one that is counts those that were not."""
        count = max(len(record.items), 1)
        if self._pairs.level(now) < count:
            self._left_out = min(self._left_out + len(record.items) + record.skipped, MOST_LEFT_OUT)
            return None
        self._pairs.spend(count)
        record.skipped, self._left_out = record.skipped + self._left_out, 0
        return record

    def admit(self, record: Notice | Transition, now: float) -> Notice | Transition | None:
        """Return what is passed on now."""
        if isinstance(record, Transition):
            self._last = record
            return self.postponed(now)
        if self._notices.level(now) < 1:
            self._folded += 1
            return None
        self._notices.spend(1)
        if self._folded:
            record.reason += f" (and {self._folded} more such notices that were not passed on)"
            self._folded = 0
        return record

    def postponed(self, now: float) -> Transition | None:
        """Return the last transition, if it has not been passed on and may be now."""
        if self._last is None or self._moves.level(now) < 1:
            return None
        self._moves.spend(1)
        return self.take()

    def take(self) -> Transition | None:
        """Return the last transition, if it has not been passed on."""
        last, self._last = self._last, None
        return last
