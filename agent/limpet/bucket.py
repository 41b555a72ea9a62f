"""A limit on rate that allows for bursts. The caller brings the time."""

from __future__ import annotations


class Bucket:
    """A token bucket: ``rate`` tokens a second, at most ``capacity`` saved up. It may be overdrawn."""

    def __init__(self, rate: float, capacity: float) -> None:
        self._rate = rate
        self._capacity = capacity
        self._level = capacity
        self._at = 0.0

    def level(self, now: float) -> float:
        """Return how many tokens there are."""
        self._level = min(self._capacity, self._level + (now - self._at) * self._rate)
        self._at = now
        return self._level

    def spend(self, tokens: float) -> None:
        """Take tokens out."""
        self._level -= tokens

    def full_at(self, need: float) -> float:
        """Return when there will be ``need`` tokens."""
        return self._at + max(need - self._level, 0.0) / self._rate
