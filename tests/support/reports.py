"""Messages as the supervisor makes them, and a reporter's surroundings."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from limpet.contracts import messages
from limpet.contracts.reporter import Reporter, ReporterContext
from limpet.contracts.updates import ModelName, UpdateReport
from limpet.delivery.bus import Bus
from limpet.delivery.deliveries import DeliveryInbox
from limpet.device import directories

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from limpet.contracts.deliveries import Deliveries
    from limpet.contracts.reporter import Command
    from limpet.contracts.updates import UpdateStage
    from limpet.delivery.bus import Cursor

R = TypeVar("R", bound=Reporter)

ORIGIN = messages.Origin("press-07", "boot1", "0.1.0")


def deaf(command: Command) -> None:
    """Take no command."""
    raise AssertionError(f"nobody should have sent {command.name}")


def context(
    state: Path,
    cursor: Cursor,
    obey: Callable[[Command], None] | None = deaf,
    name: str = "mqtt",
    deliveries: Deliveries | None = None,
) -> ReporterContext:
    """Return what a reporter gets that is opened alone, its folder being ``state``."""
    deliveries = deliveries or DeliveryInbox(lambda: None)
    return ReporterContext(name, ORIGIN, state, directories.runtime() or state, cursor, obey, deliveries)


class Fed(Generic[R]):
    """A reporter that is open, and the bus that it reads."""

    def __init__(self, reporter: R, bus: Bus, cursor: Cursor) -> None:
        self.reporter, self.bus, self.cursor = reporter, bus, cursor

    def report(self, message: messages.Message) -> None:
        self.bus.append(message)

    def health(self) -> dict[str, Any]:
        return self.reporter.health() | {"waiting": self.cursor.uncommitted, "missed": self.cursor.missed}


@contextmanager
def opened(
    module: Any,
    config: Any,
    state: Path,
    obey: Callable[[Command], None] | None = deaf,
    bus: Bus | None = None,
    *,
    deliveries: Deliveries | None = None,
) -> Iterator[Fed[Any]]:
    """Open a reporter of a plugin's module on a bus of its own."""
    bus = bus or Bus()
    cursor = bus.subscribe()
    with module.open(config, context(state, cursor, obey, deliveries=deliveries)) as reporter:
        yield Fed(reporter, bus, cursor)


NOW = datetime(2026, 11, 21, 12, 30, 15, 250_000, tzinfo=timezone.utc)


def result(sequence: int = 0, pipeline: str = "motion", output: Any = None) -> messages.ResultMessage:
    return messages.ResultMessage(
        id=f"press-07/{pipeline}/boot1/{sequence}",
        device="press-07",
        pipeline=pipeline,
        boot="boot1",
        sequence=sequence,
        time=NOW,
        monotonic_ns=123_456_789,
        sample=10 * sequence,
        model="motion",
        version=3,
        delegate="cpu",
        degraded=False,
        latency_us=812.5,
        output={"label": "idle", "score": 0.93} if output is None else output,
    )


def results(count: int, pipeline: str = "motion") -> Iterator[messages.ResultMessage]:
    return (result(sequence, pipeline) for sequence in range(count))


def event(pipeline: str = "motion", name: str = "degraded") -> messages.EventMessage:
    return messages.EventMessage(
        device="press-07", boot="boot1", time=NOW, event=name, pipeline=pipeline, reason="the GPU is gone"
    )


def device_health(uptime: float = 12.5) -> messages.DeviceHealth:
    return messages.DeviceHealth(
        device="press-07",
        boot="boot1",
        version="0.1.0",
        time=NOW,
        uptime_s=uptime,
        cpu_share=0.25,
        load_1m=0.5,
        pss_mb=48.2,
        memory_available_mb=900.0,
        temperature_c=None,
        throttled=None,
        disk_free_mb=1024.0,
        clock_synchronised=True,
        pipelines={"motion": "running"},
        reporters={"mqtt": {"connected": True}},
    )


def pipeline_health(pipeline: str = "motion", count: int = 100) -> messages.PipelineHealth:
    latency = messages.StageLatency(count=count, p50=1.0, p95=2.0, p99=3.0, buckets={"31": count})
    return messages.PipelineHealth(
        device="press-07",
        pipeline=pipeline,
        time=NOW,
        state="running",
        reason="",
        model="motion",
        version=3,
        delegate="cpu",
        delegate_share=1.0,
        degraded=False,
        results=count,
        errors=0,
        restarts=0,
        dropped={"garbage": 2},
        latency_us={"invoke": latency},
    )


def model_reported(
    pipeline: str = "motion", stage: UpdateStage | None = None, **update: Any
) -> messages.ModelReported:
    """Return what runs; with a ``stage``, in the middle of an update to version 4."""
    wanted = ModelName("motion", 4)
    return messages.ModelReported(
        update=UpdateReport(stage=stage, since=NOW, wanted=wanted, **update) if stage else None,
        device="press-07",
        pipeline=pipeline,
        time=NOW,
        model="motion",
        version=3,
        state="running",
        reason="",
        delegate="cpu",
        degraded=False,
    )


def picture(
    pipeline: str = "motion", jpeg: bytes = b"\xff\xd8\xff some picture \xff\xd9"
) -> messages.SnapshotMessage:
    return messages.SnapshotMessage(device="press-07", pipeline=pipeline, time=NOW, sample=3, jpeg=jpeg)


def one_of_each() -> list[messages.Message]:
    return [result(), event(), event(""), device_health(), pipeline_health(), model_reported()]
