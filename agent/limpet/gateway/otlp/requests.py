"""What a collector is sent: metrics and traces as OTLP's protobuf. No I/O.

The id of a trace is the first half of the SHA-256 of its result's id. So a person who has a result finds its
trace.

Sources: https://opentelemetry.io/docs/specs/otlp/ and https://opentelemetry.io/docs/specs/semconv/resource/.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.metrics.v1 import metrics_pb2 as metrics
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1 import trace_pb2 as traces

from limpet.gateway.metrics.family import BOUNDS, Durations

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from limpet.contracts.messages import Origin
    from limpet.gateway.metrics.family import Family, Point
    from limpet.wire.gateway_records import TracedWindow

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm32", "armv6l": "arm32", "i686": "x86"}
"""Names of the kernel, and those that OpenTelemetry has for them."""
_FLAGS = traces.SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK | 1
"""The parent is of the same process, and the trace is sampled."""
_STAGES = ("source", "transform", "invoke", "decode", "publish")


class Machine(NamedTuple):
    """``name``: that of the host. ``architecture``: as the kernel calls it."""

    name: str
    architecture: str


class Period(NamedTuple):
    """When figures hold: from ``begin`` to ``end``, Unix times in ns."""

    begin: int
    end: int


def resource(origin: Origin, machine: Machine) -> Resource:
    """Return who reports, with the attributes of OpenTelemetry's semantic conventions."""
    facts = {
        "service.name": "limpet",
        "service.version": origin.version,
        "service.instance.id": origin.device,
        "device.id": origin.device,
        "host.name": machine.name,
        "host.arch": _ARCHITECTURES.get(machine.architecture, machine.architecture),
        "os.type": "linux",
        "limpet.boot": origin.boot,
    }
    return Resource(attributes=_attributes(facts))


def metrics_request(
    found: Iterable[tuple[Iterable[Family], Period]], who: Resource
) -> ExportMetricsServiceRequest:
    """Return metrics, each cumulative since the start of its period."""
    sent = [
        _metric(family, period) for families, period in found for family in families if family.name != _IS_RESOURCE
    ]
    scoped = metrics.ScopeMetrics(scope=_SCOPE, metrics=sent)
    return ExportMetricsServiceRequest(
        resource_metrics=[metrics.ResourceMetrics(resource=who, scope_metrics=[scoped])]
    )


_IS_RESOURCE = "limpet.device"
"""This metric has the same facts as the resource."""


_SCOPE = InstrumentationScope(name="limpet")


def _metric(family: Family, period: Period) -> metrics.Metric:
    name = f"{family.name}.info" if family.kind == "info" else family.name
    found = metrics.Metric(name=name, description=family.text, unit=family.unit)
    if family.kind == "histogram":
        found.histogram.aggregation_temporality = metrics.AGGREGATION_TEMPORALITY_CUMULATIVE
        found.histogram.data_points.extend(_histogram(point, period) for point in family.points)
    elif family.kind == "counter":
        found.sum.aggregation_temporality = metrics.AGGREGATION_TEMPORALITY_CUMULATIVE
        found.sum.is_monotonic = True
        found.sum.data_points.extend(_number(point, period.begin, period.end) for point in family.points)
    else:
        found.gauge.data_points.extend(_number(point, 0, period.end) for point in family.points)
    return found


def _histogram(point: Point, period: Period) -> metrics.HistogramDataPoint:
    value = point.value
    assert isinstance(value, Durations)
    return metrics.HistogramDataPoint(
        attributes=_attributes(point.labels),
        start_time_unix_nano=period.begin,
        time_unix_nano=period.end,
        count=sum(value.counts),
        sum=value.total_s,
        bucket_counts=value.counts,
        explicit_bounds=BOUNDS,
    )


def _number(point: Point, begin: int, end: int) -> metrics.NumberDataPoint:
    value = point.value
    assert not isinstance(value, Durations)
    found = metrics.NumberDataPoint(
        attributes=_attributes(point.labels), start_time_unix_nano=begin, time_unix_nano=end
    )
    if isinstance(value, int) and abs(value) < 1 << 63:
        found.as_int = int(value)
    else:
        found.as_double = float(value)
    return found


# --- traces


def trace_request(windows: Iterable[TracedWindow], who: Resource) -> ExportTraceServiceRequest:
    """Return the ways of windows, each a trace: a span for the window, and below it one for each stage."""
    spans = [span for window in windows for span in _spans(window)]
    scoped = traces.ScopeSpans(scope=_SCOPE, spans=spans)
    return ExportTraceServiceRequest(resource_spans=[traces.ResourceSpans(resource=who, scope_spans=[scoped])])


def trace_id(result: str) -> bytes:
    """Return the id of the trace of a result, 16 bytes."""
    return sha256(result.encode()).digest()[:16]


def _spans(window: TracedWindow) -> Iterator[traces.Span]:
    durations = (
        window.source_ns,
        window.transform_ns,
        window.invoke_ns,
        window.decode_ns,
        window.publish_ns,
    )
    facts: dict[str, str | int] = {
        "limpet.result.id": window.id,
        "limpet.pipeline": window.pipeline,
        "limpet.model.name": window.model,
        "limpet.model.version": window.version,
        "limpet.delegate": window.delegate,
        "limpet.degraded": window.degraded,
    }
    root = _span(window, "window", window.unix_ns, sum(durations))
    root.attributes.extend(_attributes(facts))
    yield root
    begin = window.unix_ns
    for stage, duration in zip(_STAGES, durations, strict=True):
        span = _span(window, stage, begin, duration)
        span.parent_span_id = root.span_id
        yield span
        begin += duration


def _span(window: TracedWindow, name: str, begin: int, duration: int) -> traces.Span:
    return traces.Span(
        trace_id=trace_id(window.id),
        span_id=sha256(f"{window.id}/{name}".encode()).digest()[:8],
        name=name,
        kind=traces.Span.SPAN_KIND_INTERNAL,
        start_time_unix_nano=begin,
        end_time_unix_nano=begin + duration,
        flags=_FLAGS,
    )


def _attributes(facts: Mapping[str, str | int]) -> list[KeyValue]:
    return [KeyValue(key=key, value=_value(value)) for key, value in facts.items()]


def _value(value: str | int) -> AnyValue:
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    return AnyValue(int_value=value) if isinstance(value, int) else AnyValue(string_value=_sound(value))


def _sound(text: str) -> str:
    """Return a text without half characters, which protobuf refuses."""
    return text.encode("utf-8", "replace").decode()
