"""How long to wait before the next attempt."""

from __future__ import annotations

import random


class Backoff:
    """Pauses that double from ``first`` to ``longest`` seconds, each shortened by up to half at random.

    The jitter keeps a thousand devices from coming back in one instant.
    """

    def __init__(self, first: float, longest: float) -> None:
        self._first = min(first, longest)
        self._longest = longest
        self._pause = self._first

    def next(self) -> float:
        """Return the pause before the next attempt in seconds."""
        pause, self._pause = self._pause, min(2 * self._pause, self._longest)
        return pause * random.uniform(0.5, 1.0)

    def reset(self) -> None:
        """Start again from the first pause: what was tried has worked."""
        self._pause = self._first
