"""When the fork server may rest, which saves its memory and makes the next start of a process take longer.

Decides, without I/O. Times are seconds on any steady clock.
"""

from __future__ import annotations

REST_AFTER = 10.0
"""Seconds without anything to do after which it rests."""
MOST_PATIENCE = 600.0
WORTH_IT = 60.0
"""Seconds of a rest that make up for starting the fork server again."""


class Rests:
    """Waits longer for the next rest after each one that was short: where an accelerator fails again and again."""

    def __init__(self, now: float, rest_after: float = REST_AFTER) -> None:
        self._rest_after = self._patience = rest_after
        self._used = now
        self._resting_since: float | None = None

    @property
    def resting(self) -> bool:
        """Whether it rests."""
        return self._resting_since is not None

    def use(self, now: float) -> None:
        """Take note that the fork server has or had something to do, so it does not rest now."""
        if self._resting_since is not None:
            worth_it = now - self._resting_since >= WORTH_IT
            self._patience = self._rest_after if worth_it else min(2 * self._patience, MOST_PATIENCE)
            self._resting_since = None
        self._used = now

    def due(self, now: float, next_use: float | None) -> bool:
        """Whether it should rest from now on. If so, take note that it does.

        ``next_use``: when a process is to be started next, ``None`` if none is.
        """
        if self._resting_since is not None or now - self._used < self._patience:
            return False
        if next_use is not None and next_use - now < self._patience:
            return False
        self._resting_since = now
        return True
