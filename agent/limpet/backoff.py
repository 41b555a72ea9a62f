"""Back-off: how long to wait before the next attempt at something that has failed. The caller waits."""

from __future__ import annotations

import random

import msgspec

_MOST_DOUBLINGS = 60
"""More doublings would only overflow: 2^60 seconds are longer than any pause."""


class Backoff(msgspec.Struct, frozen=True):
    """Pauses that double with each failure, from ``first`` to ``longest`` seconds.

    Each pause is shortened at random, by up to the share ``jitter`` of it. So a thousand devices that fail
    together do not come back together.
    """

    first: float
    longest: float
    jitter: float = 0.5

    def pause(self, failures: int) -> float:
        """Return the pause in seconds after this number of failures in a row, at least 1."""
        whole = min(self.first * 2.0 ** min(failures - 1, _MOST_DOUBLINGS), self.longest)
        return whole * random.uniform(1.0 - self.jitter, 1.0)
