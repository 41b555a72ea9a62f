"""When work for others may run in a worker, between the windows of its own pipelines."""

from __future__ import annotations

from time import perf_counter

SLICE = 0.005
"""Seconds for which work for others runs at a time. One window runs in any case."""
SHARE = 0.1
"""Share of the time that work for others gets if samples always wait."""


class SpareTime:
    """Gives slices of time. While samples wait, slices make up ``SHARE`` of the time."""

    def __init__(self) -> None:
        self._next = 0.0

    def may_run(self, *, busy: bool) -> bool:
        """Whether a slice may begin now. ``busy``: samples wait, which go first."""
        return not busy or perf_counter() >= self._next

    def spent(self, seconds: float) -> None:
        """Count a slice that has just ended."""
        self._next = perf_counter() + seconds * (1 / SHARE - 1)
