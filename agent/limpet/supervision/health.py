"""What the supervisor knows of each pipeline, and the health messages made of it. No I/O but the clock."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from limpet.contracts.messages import ModelReported, PipelineHealth, ResultMessage, StageLatency
from limpet.device import clock
from limpet.histogram import merge, quantile
from limpet.wire.border import folded

if TYPE_CHECKING:
    from collections.abc import Mapping

    from limpet.contracts.messages import Origin
    from limpet.wire.records import Figures, Result, Stage, Transition

LARGEST_COUNT = (1 << 53) - 1
"""Readers of JSON have integers up to here exactly, and msgspec writes none above 2^64."""


def now() -> datetime:
    """Return the wall clock in UTC."""
    return datetime.now(timezone.utc)


@dataclass(slots=True)
class PipelineRecord:
    """One pipeline since the supervisor started."""

    origin: Origin
    name: str
    last: Transition
    sequence: int = 0
    errors: int = 0
    restarts: int = 0
    looked_at: int = 0
    clipped: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    latency: dict[Stage, dict[int, int]] = field(default_factory=dict)

    def accept(self, result: Result) -> ResultMessage:
        """Give a result its number: from here on it is the supervisor's."""
        self.sequence += 1
        origin = self.origin
        time = datetime.fromtimestamp(result.wall_ns / 1e9, timezone.utc)
        return ResultMessage(
            id=f"{origin.device}/{self.name}/{origin.boot}/{self.sequence}",
            device=origin.device,
            pipeline=self.name,
            boot=origin.boot,
            sequence=self.sequence,
            time=time,
            monotonic_ns=result.monotonic_ns,
            sample=result.sample,
            model=result.model,
            version=result.version,
            delegate=result.delegate,
            degraded=result.degraded,
            latency_us=result.latency_ns / 1000,
            output=result.output,
            clock=clock.mark(time),
        )

    def add(self, figures: Figures, dropped: Mapping[str, int]) -> None:
        """Add what a heartbeat brought; ``dropped`` are samples of its source, by cause.

        Causes beyond ``MOST_CAUSES`` count as "other".
        """
        new = Counter(folded(dropped, self.dropped))
        new["gap"] += figures.discarded
        for cause, count in new.items():
            if count:
                self.dropped[cause] = min(self.dropped[cause] + count, LARGEST_COUNT)
        self.errors = min(self.errors + figures.errors, LARGEST_COUNT)
        self.looked_at = min(self.looked_at + figures.looked_at, LARGEST_COUNT)
        self.clipped = min(self.clipped + figures.clipped, LARGEST_COUNT)
        for stage, buckets in figures.latency.items():
            merge(self.latency.setdefault(stage, {}), buckets)

    def move(self, to: Transition) -> list[tuple[str, str]]:
        """Take note of a transition; return the events that it is, each with its reason."""
        before, self.last = self.last, to
        if not to.model:
            to.model, to.version, to.delegate = before.model, before.version, before.delegate
            to.delegate_share, to.degraded = before.delegate_share, before.degraded
            to.placement, to.sandbox = before.placement, before.sandbox
        events: list[tuple[str, str]] = []
        if to.state != before.state:
            events.append((to.state, to.reason))
        worse = to.degraded and to.reason and (to.delegate, to.reason) != (before.delegate, before.reason)
        if to.state == "running" and (to.degraded != before.degraded or worse):
            why = f"; {to.reason}" if to.reason else ""
            events.append(("degraded" if to.degraded else "recovered", f"runs on {to.delegate}{why}"))
        return events

    def health(self) -> PipelineHealth:
        """Make the health message; the latencies begin anew."""
        latency, self.latency = self.latency, {}
        last = self.last
        return PipelineHealth(
            device=self.origin.device,
            pipeline=self.name,
            time=now(),
            state=last.state,
            reason=last.reason,
            model=last.model,
            version=last.version,
            delegate=last.delegate,
            delegate_share=last.delegate_share,
            degraded=last.degraded,
            placement=last.placement,
            sandbox=last.sandbox,
            results=self.sequence,
            errors=self.errors,
            restarts=self.restarts,
            clipped=round(self.clipped / self.looked_at, 4) if self.looked_at else None,
            dropped=dict(self.dropped),
            latency_us={stage: _figures(buckets) for stage, buckets in latency.items()},
        )

    def model(self) -> ModelReported:
        """Make the message that says which model runs."""
        last = self.last
        return ModelReported(
            device=self.origin.device,
            pipeline=self.name,
            time=now(),
            model=last.model,
            version=last.version,
            state=last.state,
            reason=last.reason,
            delegate=last.delegate,
            degraded=last.degraded,
            placement=last.placement,
        )


def _figures(buckets: dict[int, int]) -> StageLatency:
    p50, p95, p99 = (round((quantile(buckets, q) or 0.0) / 1000, 3) for q in (0.5, 0.95, 0.99))
    counts = {str(bucket): count for bucket, count in sorted(buckets.items())}
    return StageLatency(count=sum(buckets.values()), p50=p50, p95=p95, p99=p99, buckets=counts)
