"""Which windows a shadow runs, and how often it may. Decides, without I/O.

Times are seconds on any steady clock.
"""

from __future__ import annotations

from limpet.bucket import Bucket

MOST_CPU = 0.25
"""Share of one CPU core that a shadow uses, on average over some seconds."""
CPU_AT_ONCE = 0.5
"""Seconds of one core that a shadow may have saved up."""
WINDOWS_PER_SECOND, WINDOWS_AT_ONCE = 100.0, 100.0
"""Windows that a shadow runs: comparing them costs the worker time, too."""

_GOLDEN = 0x9E3779B97F4A7C15
"""2^64 divided by the golden ratio: its multiples are spread evenly modulo 2^64 (Knuth's multiplicative hash)."""
_RANGE = 1 << 64


def in_share(ordinal: int, share: float) -> bool:
    """Whether a window is one of that share, by the ordinal of its last sample. The answer is always the same."""
    return ordinal * _GOLDEN % _RANGE < share * _RANGE


class Turns:
    """Counts windows: one in ``every`` is to be run, and all of the share."""

    def __init__(self, every: int, share: float) -> None:
        self._every = every
        self._share = share
        self._turn = -1

    def next(self, ordinal: int) -> bool:
        """Count a window, and return whether it is to be run."""
        self._turn = (self._turn + 1) % self._every
        return not self._turn or self.answers(ordinal)

    def answers(self, ordinal: int) -> bool:
        """Whether the result of a window is to be the shadow's."""
        return self._share > 0 and in_share(ordinal, self._share)


class Pace:
    """Limits windows and CPU time. A window may overdraw: then the next ones wait for longer."""

    def __init__(self) -> None:
        self._cpu = Bucket(MOST_CPU, CPU_AT_ONCE)
        self._windows = Bucket(WINDOWS_PER_SECOND, WINDOWS_AT_ONCE)

    def take(self, now: float) -> bool:
        """Return whether a window may be run now, and count it if so."""
        if self._windows.level(now) < 1 or self._cpu.level(now) <= 0:
            return False
        self._windows.spend(1)
        return True

    def spend(self, seconds: float) -> None:
        """Take note of the CPU time of a window."""
        self._cpu.spend(seconds)
