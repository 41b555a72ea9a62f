"""Health messages: of each pipeline from the ledger, of the device from the machine."""

from __future__ import annotations

from datetime import datetime, timezone
from time import monotonic
from typing import TYPE_CHECKING

from msgspec.structs import replace

from limpet.accelerators import inventory
from limpet.contracts.messages import (
    AcceleratorHealth,
    DeviceHealth,
    ModelReported,
    PipelineHealth,
    SnapshotFigures,
    StageLatency,
)
from limpet.contracts.savings import Saving
from limpet.contracts.uncertainty import UncertaintyHealth
from limpet.device import host
from limpet.histogram import difference, quantile

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from limpet.contracts.captures import CaptureHealth
    from limpet.contracts.messages import Origin
    from limpet.contracts.savings import Saver
    from limpet.contracts.uncertainty import Uncertainties
    from limpet.contracts.updates import UpdateReport
    from limpet.device.host import Host
    from limpet.supervision.ledger import Account, Ledger
    from limpet.wire.records import TimedStep

SEARCH = 60.0
"""Seconds between two searches for accelerators, each of which reads some hundred files."""


def now() -> datetime:
    """Return the wall clock in UTC."""
    return datetime.now(timezone.utc)


class HealthReader:
    """Makes the health messages of one series of readers.

    Latencies in a message are those since the previous message. Each ``HealthReader`` takes that difference for
    itself: the ledger's histograms only rise.
    """

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self._before: dict[str, dict[TimedStep, dict[int, int]]] = {}

    def pipeline(self, account: Account, time: datetime) -> PipelineHealth:
        """Make the health message of a pipeline: ``time`` is in UTC."""
        last, latency = account.last, self._new_latency(account)
        return PipelineHealth(
            device=self._origin.device,
            pipeline=account.pipeline,
            time=time,
            state=last.state,
            reason=last.reason,
            model=last.model,
            version=last.version,
            delegate=last.delegate,
            delegate_share=last.delegate_share,
            degraded=last.degraded,
            placement=last.placement,
            sandbox=last.sandbox,
            results=account.results,
            errors=account.errors,
            restarts=account.restarts,
            failovers=account.failovers,
            clipped=round(account.clipped / account.looked_at, 4) if account.looked_at else None,
            dropped=dict(account.dropped),
            events_left_out=account.events_left_out,
            snapshots=_snapshots(account),
            savings=_savings(account),
            uncertainty=_uncertainty(account.uncertainty),
            monitors=account.monitors.health,
            captures=_captures(account),
            accuracy=account.accuracy,
            adaptations=account.adaptations,
            latency_us={stage: _summary(buckets) for stage, buckets in latency.items()},
        )

    def _new_latency(self, account: Account) -> dict[TimedStep, dict[int, int]]:
        before = self._before.get(account.pipeline, {})
        self._before[account.pipeline] = {stage: dict(buckets) for stage, buckets in account.latency.items()}
        return {stage: difference(buckets, before.get(stage, {})) for stage, buckets in account.latency.items()}


def _snapshots(account: Account) -> SnapshotFigures | None:
    counts = account.snapshots
    if not counts:
        return None
    return SnapshotFigures(taken=counts["taken"], skipped=counts["skipped"], failed=counts["failed"])


def _savings(account: Account) -> dict[Saver, Saving] | None:
    found: dict[Saver, Saving] = {
        saver: Saving(
            windows=one.windows,
            spared=one.spared,
            saved_s=round(one.saved_ns / 1e9, 3),
            cost_s=round(one.cost_ns / 1e9, 3),
        )
        for saver, one in account.savings.items()
    }
    return found or None


def _uncertainty(counts: Uncertainties) -> UncertaintyHealth | None:
    if not counts.windows:
        return None
    sets = sum(counts.sets.values())
    total = sum(size * count for size, count in counts.sets.items())
    return UncertaintyHealth(
        windows=counts.windows,
        abstained=counts.abstained,
        set_sizes={str(size): count for size, count in sorted(counts.sets.items())},
        mean_set_size=round(total / sets, 3) if sets else None,
        mean_runs=round(counts.runs / counts.windows, 3) if counts.runs else None,
    )


def _captures(account: Account) -> CaptureHealth | None:
    return None if account.captures is None else replace(account.captures, lost=dict(account.lost))


def _summary(buckets: dict[int, int]) -> StageLatency:
    p50, p95, p99 = (round((quantile(buckets, q) or 0.0) / 1000, 3) for q in (0.5, 0.95, 0.99))
    counts = {str(bucket): count for bucket, count in sorted(buckets.items())}
    return StageLatency(count=sum(buckets.values()), p50=p50, p95=p95, p99=p99, buckets=counts)


def model_reported(
    origin: Origin, account: Account, time: datetime, update: UpdateReport | None = None
) -> ModelReported:
    """Make the message that says which model a pipeline runs."""
    last = account.last
    return ModelReported(
        device=origin.device,
        pipeline=account.pipeline,
        time=time,
        model=last.model,
        version=last.version,
        state=last.state,
        reason=last.reason,
        delegate=last.delegate,
        degraded=last.degraded,
        placement=last.placement,
        update=update,
    )


class DeviceReader:
    """Reads what the device's health message has of the machine. ``state`` is the state directory."""

    def __init__(self, origin: Origin, machine: Host, state: Path) -> None:
        self._origin = origin
        self._machine = machine
        self._state = state
        self._accelerators: list[AcceleratorHealth] = []
        self._next_search = 0.0

    def device(self, ledger: Ledger, pss_mb: float | None, reporters: dict[str, dict[str, Any]]) -> DeviceHealth:
        """Make the health message of the device. ``pss_mb`` is the memory of all processes of the daemon."""
        return DeviceHealth(
            device=self._origin.device,
            boot=self._origin.boot,
            version=self._origin.version,
            time=now(),
            uptime_s=host.uptime_s(),
            cpu_share=self._machine.cpu_share(),
            load_1m=self._machine.load_1m(),
            pss_mb=pss_mb,
            memory_available_mb=self._machine.memory_available_mb(),
            temperature_c=self._machine.temperature_c(),
            throttled=self._machine.throttled(),
            disk_free_mb=host.disk_free_mb(self._state),
            clock_synchronised=host.clock_synchronised(),
            accelerators=self._find_accelerators(),
            pipelines={account.pipeline: account.last.state for account in ledger.current},
            reporters=reporters,
        )

    def _find_accelerators(self) -> list[AcceleratorHealth]:
        if monotonic() >= self._next_search:
            self._next_search = monotonic() + SEARCH
            self._accelerators = [
                AcceleratorHealth(
                    name=one.name, where=one.where, delegate=one.delegate, usable=one.usable, why_not=one.why_not
                )
                for one in inventory.discover()
            ]
        return self._accelerators
