"""When may something that crashed run again? Decides, without I/O and without its own clock."""

from __future__ import annotations

import random
from collections import deque

import msgspec

from limpet.backoff import Backoff

MEMORY = 60.0
"""Seconds after which a crash is forgotten."""
LIMIT = 5
"""Crashes within ``MEMORY`` that open the circuit."""
BACKOFF = Backoff(first=0.125, longest=2.0, jitter=0.2)
COOL_OFF = 300.0
"""Seconds that the circuit stays open before one more try."""


class Restarts(msgspec.Struct):
    """Exponential backoff with jitter, and a circuit breaker, for one pipeline.

    After ``LIMIT`` crashes in ``MEMORY`` seconds the circuit is open for ``COOL_OFF`` seconds; a crash at the try
    after that opens it again at once.
    """

    not_before: float = 0.0
    open: bool = False
    _crashes: deque[float] = msgspec.field(default_factory=deque)

    def crashed(self, now: float) -> None:
        """Take note of a crash at ``now`` (seconds on any steady clock) and set ``not_before`` and ``open``."""
        self._crashes.append(now)
        while self._crashes[0] < now - MEMORY:
            self._crashes.popleft()
        self.open = self.open or len(self._crashes) >= LIMIT
        pause = COOL_OFF * random.uniform(1.0, 1.25) if self.open else BACKOFF.pause(len(self._crashes))
        self.not_before = now + pause
