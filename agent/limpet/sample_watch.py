"""When samples have been missing for unusually long. No I/O; times are seconds on any steady clock."""

from __future__ import annotations

from collections import deque

LEAST = 3.0
"""Seconds without a sample that are never unusual."""
PERIODS = 3
"""Usual pauses between two samples after which a sample is overdue."""
_PAUSES = 8
"""Pauses from which the usual one is taken. An outage is soon forgotten."""


class SampleWatch:
    """Learns how far apart samples come. ``rate``, in samples a second, is what to expect at least from the start.

    ``extra``: seconds that are added to ``LEAST``.
    """

    def __init__(self, rate: float | None, now: float, extra: float = 0.0) -> None:
        self._expected = 1 / rate if rate else 0.0
        self._least = LEAST + extra
        self._last = now
        self._pauses: deque[float] = deque(maxlen=_PAUSES)

    def opened(self, now: float) -> None:
        """Take note that the source was opened: it may be silent for a while again."""
        self._last = now

    def sample(self, now: float) -> None:
        """Take note of one or more samples."""
        self._pauses.append(now - self._last)
        self._last = now

    def overdue(self, now: float) -> bool:
        """Whether there has been no sample for unusually long."""
        usual = max(self._expected, max(self._pauses, default=0.0))
        return now - self._last > max(self._least, PERIODS * usual)
