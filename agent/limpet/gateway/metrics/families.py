"""The device's figures as metrics. They have the same meaning on ``/metrics`` and in OTLP. No I/O.

Names and units are as OpenTelemetry has them: ``limpet.pipeline.stage.duration`` in ``s``. Prometheus' name
of it is ``limpet_pipeline_stage_duration_seconds``, see ``exposition``. Counters only rise while a supervisor
runs. What a machine cannot measure is left out.
"""

from __future__ import annotations

from bisect import bisect_left
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, TypeGuard, get_args

from limpet import histogram
from limpet.contracts.messages import State
from limpet.contracts.updates import UpdateStage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from limpet.contracts.messages import DeviceHealth, ModelReported, PipelineHealth
    from limpet.wire.gateway_records import Figures

Kind: TypeAlias = Literal["counter", "gauge", "histogram", "info"]

BOUNDS: tuple[float, ...] = tuple(2.0**power for power in range(-18, 5))
"""Upper bounds of latencies in seconds, 4 µs to 16 s. They are those of a native histogram with schema 0."""
_BOUNDS_NS = tuple(bound * 1e9 for bound in BOUNDS)
MB = 1_000_000


class Durations(NamedTuple):
    """A histogram. ``counts``: durations up to each bound of ``BOUNDS`` and above the one before, then the rest.

    ``total_s``: their sum in seconds, within 1/32.
    """

    counts: tuple[int, ...]
    total_s: float


class Point(NamedTuple):
    """A value and its labels."""

    labels: dict[str, str]
    value: float | Durations


class Family(NamedTuple):
    """A metric with all its points. ``unit``: in the case-sensitive code of UCUM, empty for none.

    An ``info`` has its facts as labels, and the value 1.
    """

    name: str
    kind: Kind
    unit: str
    text: str
    points: list[Point]


def durations(buckets: Mapping[int, int]) -> Durations:
    """Return latencies in the buckets of ``limpet.histogram`` by ``BOUNDS``.

    A bucket that has a bound inside counts as longer. Such a duration is at most 1/16 below the bound.
    """
    counts, total = [0] * (len(BOUNDS) + 1), 0.0
    for bucket, count in buckets.items():
        place, middle = _place(bucket)
        counts[place] += count
        total += middle * count
    return Durations(tuple(counts), total / 1e9)


@cache
def _place(bucket: int) -> tuple[int, float]:
    """Return which count a bucket belongs to, and its middle in ns."""
    low, high = histogram.bounds(bucket)
    return bisect_left(_BOUNDS_NS, high - 1), (low + high - 1) / 2


def families(figures: Figures) -> list[Family]:
    """Return all metrics that have a point."""
    found = [
        *_device(figures.device, figures),
        *_pipelines(figures.pipelines, figures.latency),
        *_updates(figures.models),
        *_reporters(figures.device.reporters),
    ]
    return [family for family in found if family.points]


# --- the device


def _device(device: DeviceHealth, figures: Figures) -> Iterator[Family]:
    facts = {"device": device.device, "boot": device.boot, "version": device.version}
    yield Family(
        "limpet.device", "info", "", "The device, this run of the daemon and Limpet's version.", [Point(facts, 1)]
    )
    yield _one("limpet.start.time", "gauge", "s", "Unix time at which the daemon started.", figures.started)
    cpu = figures.cpu
    yield _one(
        "limpet.machine.cpu.busy",
        "counter",
        "s",
        "Time for which the cores of the machine worked.",
        cpu.busy_s if cpu else None,
    )
    yield _one(
        "limpet.machine.cpu",
        "counter",
        "s",
        "Time for which the cores of the machine worked or idled.",
        cpu.all_s if cpu else None,
    )
    yield _one("limpet.machine.load", "gauge", "", "Load average over a minute.", device.load_1m)
    free = device.memory_available_mb
    yield _one(
        "limpet.machine.memory.available",
        "gauge",
        "By",
        "Memory that is available without swapping.",
        _bytes(free),
    )
    yield _one(
        "limpet.machine.disk.free",
        "gauge",
        "By",
        "Space left on the disk of the state directory.",
        _bytes(device.disk_free_mb),
    )
    yield _one(
        "limpet.machine.temperature",
        "gauge",
        "Cel",
        "Temperature of the hottest thermal zone.",
        device.temperature_c,
    )
    yield _one(
        "limpet.machine.throttled", "gauge", "", "Whether heat or power slows the machine down.", device.throttled
    )
    yield _one(
        "limpet.machine.clock.synchronised",
        "gauge",
        "",
        "Whether the wall clock is right.",
        device.clock_synchronised,
    )
    yield _one(
        "limpet.memory",
        "gauge",
        "By",
        "Memory of Limpet's processes, shared pages counted once.",
        _bytes(device.pss_mb),
    )
    usable = [
        Point({"accelerator": one.name, "where": one.where, "delegate": one.delegate}, one.usable)
        for one in device.accelerators
    ]
    yield Family("limpet.accelerator.usable", "gauge", "", "Whether an accelerator can be used.", usable)
    lost = device.audit.lost if device.audit else None
    yield _one("limpet.audit.lost.lines", "counter", "", "Lines that the audit journal lost.", lost)


def _one(name: str, kind: Kind, unit: str, text: str, value: float | None) -> Family:
    return Family(name, kind, unit, text, [] if value is None else [Point({}, value)])


def _bytes(megabytes: float | None) -> int | None:
    return None if megabytes is None else round(megabytes * MB)


# --- pipelines


def _pipelines(
    pipelines: Iterable[PipelineHealth], latency: Mapping[str, Mapping[str, Mapping[int, int]]]
) -> Iterator[Family]:
    healths = list(pipelines)

    def each(
        name: str, kind: Kind, text: str, value: Callable[[PipelineHealth], float | None], unit: str = ""
    ) -> Family:
        values = [(one.pipeline, value(one)) for one in healths]
        points = [Point({"pipeline": pipeline}, found) for pipeline, found in values if found is not None]
        return Family(f"limpet.pipeline{name}", kind, unit, text, points)

    def many(
        name: str, kind: Kind, text: str, label: str, values: Callable[[PipelineHealth], Mapping[str, float]]
    ) -> Family:
        points = [
            Point({"pipeline": one.pipeline, label: key}, value)
            for one in healths
            for key, value in values(one).items()
        ]
        return Family(f"limpet.pipeline{name}", kind, "", text, points)

    yield Family(
        "limpet.pipeline", "info", "", "What a pipeline runs, and on what.", [_runs(one) for one in healths]
    )
    yield many(
        ".state", "gauge", "Whether a pipeline is in this state.", "state", lambda one: _among(one.state, State)
    )
    yield each(
        ".degraded", "gauge", "Whether a pipeline runs on something worse than it could.", lambda one: one.degraded
    )
    yield each(
        ".delegated.ops",
        "gauge",
        "Share of the model's operations that run on the delegate.",
        lambda one: one.delegate_share,
        "1",
    )
    yield each(".results", "counter", "Results.", lambda one: one.results)
    yield each(".errors", "counter", "Windows without a result.", lambda one: one.errors)
    yield each(".restarts", "counter", "Restarts of the worker.", lambda one: one.restarts)
    yield each(
        ".failovers", "counter", "How often a pipeline left an accelerator that failed.", lambda one: one.failovers
    )
    yield many(
        ".dropped.samples", "counter", "Samples that are in no window, by cause.", "cause", lambda one: one.dropped
    )
    yield each(
        ".clipped.windows",
        "gauge",
        "Share of the windows with values that the model's input cannot hold.",
        lambda one: one.clipped,
        "1",
    )
    yield each(
        ".events.left.out",
        "counter",
        "Events that were too many to be published.",
        lambda one: one.events_left_out,
    )
    yield many(".snapshots", "counter", "Pictures of results.", "outcome", _snapshots)
    stages = [
        Point({"pipeline": pipeline, "stage": stage}, durations(buckets))
        for pipeline, found in latency.items()
        for stage, buckets in found.items()
    ]
    yield Family(
        "limpet.pipeline.stage.duration", "histogram", "s", "How long windows took in each stage.", stages
    )


def _runs(one: PipelineHealth) -> Point:
    facts = {"pipeline": one.pipeline, "model": one.model, "version": str(one.version), "delegate": one.delegate}
    return Point(facts, 1)


def _among(state: str, states: Any) -> dict[str, float]:
    """Return 1 for the state, and 0 for the other ones."""
    return {each: float(each == state) for each in get_args(states)}


def _snapshots(one: PipelineHealth) -> dict[str, float]:
    counts = one.snapshots
    return {} if counts is None else {"taken": counts.taken, "skipped": counts.skipped, "failed": counts.failed}


def _updates(models: Iterable[ModelReported]) -> Iterator[Family]:
    points = [
        Point({"pipeline": one.pipeline, "stage": stage}, value)
        for one in models
        if one.update is not None
        for stage, value in _among(one.update.stage, UpdateStage).items()
    ]
    yield Family("limpet.pipeline.update", "gauge", "", "Whether an update of the model is in this stage.", points)


# --- reporters, which may be other packages'

_REPORTER: tuple[tuple[str, str, Kind, str, str], ...] = (
    ("connected", "limpet.reporter.connected", "gauge", "", "Whether a reporter is connected."),
    ("reconnects", "limpet.reporter.reconnects", "counter", "", "How often a reporter connected again."),
    ("waiting", "limpet.reporter.waiting.messages", "gauge", "", "Messages that a reporter has not read yet."),
    ("missed", "limpet.reporter.missed.messages", "counter", "", "Messages that a reporter read too late."),
    ("published", "limpet.reporter.published.messages", "counter", "", "Messages that were sent."),
    (
        "acknowledged",
        "limpet.reporter.acknowledged.messages",
        "counter",
        "",
        "Messages that the broker has taken.",
    ),
    ("written", "limpet.reporter.written.lines", "counter", "", "Lines that were written."),
    ("failed", "limpet.reporter.failed.lines", "counter", "", "Lines that could not be written."),
    ("outbox_depth", "limpet.outbox.messages", "gauge", "", "Messages that wait in the outbox."),
    ("outbox_bytes", "limpet.outbox.size", "gauge", "By", "Size of the outbox."),
    ("outbox_oldest_s", "limpet.outbox.oldest.age", "gauge", "s", "Age of the oldest message in the outbox."),
)
"""A figure of a reporter's health, and the metric that it is."""
_REPORTER_CAUSES = (
    ("shed", "limpet.outbox.shed.messages", "Messages that were shed, by cause."),
    ("refused", "limpet.reporter.refused.messages", "Messages that the broker refused, by cause."),
)


def _reporters(reporters: Mapping[str, Mapping[str, Any]]) -> Iterator[Family]:
    kinds = [Point({"reporter": name, "kind": str(one.get("kind", ""))}, 1) for name, one in reporters.items()]
    yield Family("limpet.reporter", "info", "", "The reporters and their kinds.", kinds)
    for key, name, kind, unit, text in _REPORTER:
        points = [
            Point({"reporter": reporter}, value)
            for reporter, one in reporters.items()
            if _is_number(value := one.get(key))
        ]
        yield Family(name, kind, unit, text, points)
    for key, name, text in _REPORTER_CAUSES:
        causes = [
            Point({"reporter": reporter, "cause": str(cause)}, value)
            for reporter, one in reporters.items()
            if isinstance(counts := one.get(key), dict)
            for cause, value in counts.items()
            if _is_number(value)
        ]
        yield Family(name, "counter", "", text, causes)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float)
