"""What clients had models do since the gateway started: counts and times, by model and version."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from limpet.wire.guest_records import Inferred


@dataclass
class Times:
    """How often something was done, and for how many ns in all."""

    count: int = 0
    ns: int = 0

    def add(self, ns: float) -> None:
        """Count one that took so many ns."""
        self.count += 1
        self.ns += int(ns)


@dataclass
class ModelStatistics:
    """One version of a model. ``windows``: rows of all requests. ``runs``: a run can serve many requests."""

    success: Times = field(default_factory=Times)
    fail: Times = field(default_factory=Times)
    queue: Times = field(default_factory=Times)
    run: Times = field(default_factory=Times)
    windows: int = 0
    runs: float = 0.0
    last_ms: int = 0

    def add(self, inferred: Inferred, rows: int, ns: float, now_ms: int) -> None:
        """Count a request that was answered. ``ns``: from its arrival to its answer."""
        self.success.add(ns)
        self.queue.add(inferred.queue_us * 1e3)
        self.run.add(inferred.run_us * 1e3)
        self.windows += rows
        self.runs += 1 / inferred.batched
        self.last_ms = now_ms
