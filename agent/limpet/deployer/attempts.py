"""When a source is tried again, how fast it may send, and when it is too slow. Decides, without I/O.

Times are seconds on any steady clock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from limpet.backoff import Backoff
from limpet.bucket import Bucket

if TYPE_CHECKING:
    from limpet.deployer.failures import SourceFailedError

PAUSES = Backoff(first=1.0, longest=30.0)
MOST_FAILURES = 5
"""Failures of a source, without progress between them, after which it is given up."""
LEAST_RATE = 128.0
"""Bytes a second below which a server is given up. The slowest modem that is in use brings more."""


class Attempts:
    """The attempts at one source."""

    def __init__(self, present: int, pauses: Backoff = PAUSES) -> None:
        self._pauses = pauses
        self._best = present
        self._failures = 0

    def pause(self, failure: SourceFailedError, present: int) -> float | None:
        """Return how long to wait before the next attempt; ``None`` if the source is given up.

        ``present``: bytes that are there.
        """
        if present > self._best and not failure.slow:
            self._best, self._failures = present, 0
        self._failures += 1
        if failure.final or self._failures >= MOST_FAILURES:
            return None
        return max(failure.wait, self._pauses.pause(self._failures))


class Pace:
    """How fast a body comes. ``rate``: most bytes a second; 0: no limit. ``window``: seconds of a measurement."""

    def __init__(self, rate: float, window: float, now: float) -> None:
        self._bucket = Bucket(rate, rate) if rate else None
        if self._bucket:
            self._bucket.level(now)
            self._bucket.spend(rate)  # so that a second of it is not taken at once
        self._least = min(LEAST_RATE, rate / 4) if rate else LEAST_RATE
        self._window = window
        self._since = now
        self._bytes = 0

    def took(self, size: int, now: float) -> float:
        """Take note of bytes that came. Return how many seconds to read nothing."""
        self._bytes += size
        if self._bucket is None:
            return 0.0
        self._bucket.level(now)
        self._bucket.spend(size)
        return self._bucket.full_at(0.0) - now

    def too_slow(self, now: float) -> bool:
        """Whether less came in the last window than may be."""
        if now - self._since < self._window:
            return False
        slow = self._bytes < self._least * (now - self._since)
        self._since, self._bytes = now, 0
        return slow
