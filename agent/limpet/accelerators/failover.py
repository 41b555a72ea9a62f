"""Which of its delegates a pipeline should be on, and when a better one may be tried again. Decides, without I/O.

Times are seconds on any steady clock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from limpet.backoff import Backoff

if TYPE_CHECKING:
    from collections.abc import Sequence

BACKOFF = Backoff(first=1.25, longest=375.0, jitter=0.2)
"""Seconds from a failure to the next probe."""
STABLE = 60.0
"""Seconds that a delegate must have run for its earlier failures to be forgotten."""


class _Standing(msgspec.Struct):
    """How it goes with one delegate. ``since``: when it was last taken up, ``None`` before the first time."""

    failures: int = 0
    not_before: float = 0.0
    since: float | None = None

    def fail(self, now: float) -> None:
        if self.since is not None and now - self.since >= STABLE:
            self.failures = 0
        self.failures += 1
        self.since = None
        self.not_before = now + BACKOFF.pause(self.failures)


class Failover:
    """The delegates of one pipeline, best first.

    If the delegate in use ``failed``, the next that is not known to be broken takes over. Those above it become
    ``due`` for a probe, which ends in ``passed`` or ``refused``. Each failure doubles the time to the next probe.
    Only ``STABLE`` seconds of work reset that time. So a delegate that comes and goes is tried less and less
    often.
    """

    def __init__(self, delegates: Sequence[str], now: float) -> None:
        self.delegates = tuple(delegates)
        self._standings = [_Standing() for _ in self.delegates]
        self._current: int | None = None
        self._take(0, now)

    @property
    def current(self) -> str | None:
        """The delegate to be on; ``None`` when all are broken."""
        return None if self._current is None else self.delegates[self._current]

    @property
    def degraded(self) -> bool:
        """Whether it is not the best."""
        return self._current != 0

    def failed(self, now: float) -> str | None:
        """Note that the delegate in use failed, and return the one to go on with.

        When all are broken, that is the first whose time comes: ask ``due`` for it.
        """
        if self._current is not None:
            self._standings[self._current].fail(now)
        below = range(0 if self._current is None else self._current + 1, len(self.delegates))
        usable = [i for i in below if self._standings[i].not_before <= now]
        self._current = None
        if usable:
            self._take(usable[0], now)
        return self.current

    def due(self, now: float) -> str | None:
        """Return the best delegate above the one in use that may be probed now."""
        for i in self._above():
            if self._standings[i].not_before <= now:
                return self.delegates[i]
        return None

    def refused(self, delegate: str, now: float) -> None:
        """Note that a probe failed."""
        self._standings[self.delegates.index(delegate)].fail(now)

    def passed(self, delegate: str, now: float) -> None:
        """Note that a probe passed: its delegate is the delegate in use from now on."""
        self._take(self.delegates.index(delegate), now)

    def _above(self) -> range:
        return range(len(self.delegates) if self._current is None else self._current)

    def _take(self, index: int, now: float) -> None:
        self._current = index
        self._standings[index].since = now
