"""The device's wall clock: whether it is right, and by how much it was set.

A device without a battery-backed clock starts in 1970 until a time service sets it. What it says before that is
marked, so that it can be set right by the monotonic clock.
"""

from __future__ import annotations

import os
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal, TypeAlias

Mark: TypeAlias = Literal["unsynchronised"]

PLAUSIBLE = 1_700_000_000.0
"""A wall clock before this time (2023) was never set."""

STEP = 1.0
"""Smallest step in seconds. Time services make smaller changes gradually."""


def boot_id() -> str:
    """Return the name of this boot of the machine: ``time.monotonic`` means nothing in another one."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")[:8]
    except OSError:
        return f"{os.getpid()}.{time.monotonic_ns()}"


def mark(when: datetime) -> Mark | None:
    """Return the mark of a message with that time, ``None`` if the clock was right."""
    return mark_at(when.timestamp())


def mark_at(seconds: float) -> Mark | None:
    """Return the mark of a message with a time in seconds since 1970, ``None`` if the clock was right."""
    return "unsynchronised" if seconds < PLAUSIBLE else None


def ahead() -> float | None:
    """Return by how many seconds the wall clock is ahead of ``time.monotonic``, ``None`` if it was never set."""
    wall = time.time()
    return wall - time.monotonic() if wall >= PLAUSIBLE else None


def at(monotonic: float, ahead: float) -> datetime:
    """Return the wall clock's time, in UTC, at an instant of ``time.monotonic``."""
    return datetime.fromtimestamp(monotonic + ahead, timezone.utc)


class Start:
    """When something started, which is now. The wall clock may be set later, by years and also back."""

    def __init__(self) -> None:
        self._monotonic = time.monotonic()
        self._unix = 0.0

    def unix(self) -> float:
        """Return the Unix time. It stays the same while the clock is corrected a little: counters begin there."""
        now = time.time() - (time.monotonic() - self._monotonic)
        if abs(now - self._unix) > STEP:
            self._unix = round(now, 2)
        return self._unix


class ClockWatch:
    """Notices that the wall clock was set."""

    def __init__(self) -> None:
        self._since_boot = _since_boot()

    def step(self) -> float | None:
        """Return by how many seconds it was set since the last call, ``None`` if it was not."""
        before, self._since_boot = self._since_boot, _since_boot()
        change = self._since_boot - before
        return change if abs(change) >= STEP else None


def _since_boot() -> float:
    """Return how far the wall clock is ahead of one that runs on while the machine sleeps."""
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
