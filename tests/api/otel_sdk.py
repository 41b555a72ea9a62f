"""Reads exported metrics and traces with OpenTelemetry's SDK, and compares them with what the SDK sends itself.

Runs in the environment of ``make api``, which has the SDK. The argument is a folder with what was exported.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.metrics.view import ExplicitBucketHistogramAggregation, View
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv._incubating.attributes import device_attributes, host_attributes, os_attributes
from opentelemetry.semconv.attributes import service_attributes

COUNTER, GAUGE = "limpet.pipeline.results", "limpet.machine.load"
HISTOGRAM = "limpet.pipeline.stage.duration"
_SAMPLED = 1


def main(folder: Path) -> None:
    """Check what is in a folder. ``AssertionError`` says what differs from the SDK."""
    metrics = ExportMetricsServiceRequest.FromString((folder / "metrics.bin").read_bytes())
    traces = ExportTraceServiceRequest.FromString((folder / "traces.bin").read_bytes())
    for each in (metrics.resource_metrics[0], traces.resource_spans[0]):
        check_resource({one.key: one.value.string_value for one in each.resource.attributes})
    ours = {one.name: one for one in metrics.resource_metrics[0].scope_metrics[0].metrics}
    check_metrics(ours, sdk_metrics(list(ours[HISTOGRAM].histogram.data_points[0].explicit_bounds)))
    check_spans(list(traces.resource_spans[0].scope_spans[0].spans), sdk_spans())
    sys.stdout.write(f"{len(ours)} metrics, {len(by_name(traces))} kinds of spans: all as the SDK has it\n")


def by_name(traces: ExportTraceServiceRequest) -> dict[str, Any]:
    """Return a span of each name."""
    return {span.name: span for span in traces.resource_spans[0].scope_spans[0].spans}


def check_resource(found: dict[str, str]) -> None:
    """See that attributes have the names and values of the semantic conventions."""
    known = {
        service_attributes.SERVICE_NAME,
        service_attributes.SERVICE_VERSION,
        service_attributes.SERVICE_INSTANCE_ID,
        device_attributes.DEVICE_ID,
        host_attributes.HOST_NAME,
        host_attributes.HOST_ARCH,
        os_attributes.OS_TYPE,
    }
    assert found.keys() - known == {"limpet.boot"}, found
    assert known <= found.keys(), found
    assert found[host_attributes.HOST_ARCH] in {one.value for one in host_attributes.HostArchValues}
    assert found[os_attributes.OS_TYPE] == os_attributes.OsTypeValues.LINUX.value


def sdk_metrics(bounds: list[float]) -> dict[str, Any]:
    """Return what the SDK sends for a counter, a gauge and a histogram."""
    reader = InMemoryMetricReader()
    view = View(instrument_name=HISTOGRAM, aggregation=ExplicitBucketHistogramAggregation(bounds))
    meter = MeterProvider([reader], views=[view]).get_meter("limpet")
    meter.create_counter(COUNTER).add(3, {"pipeline": "motion"})
    meter.create_gauge(GAUGE).set(0.5)
    meter.create_histogram(HISTOGRAM, unit="s").record(0.002, {"pipeline": "motion", "stage": "invoke"})
    sent = encode_metrics(reader.get_metrics_data())
    return {one.name: one for one in sent.resource_metrics[0].scope_metrics[0].metrics}


def check_metrics(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    """See that each kind of metric has the form that the SDK gives it."""
    for name, sdk in theirs.items():
        own = ours[name]
        kind = own.WhichOneof("data")
        assert (kind, own.unit) == (sdk.WhichOneof("data"), sdk.unit), name
        mine, its = getattr(own, kind), getattr(sdk, kind)
        fields = {field.name for field, _ in mine.ListFields()}
        assert fields == {field.name for field, _ in its.ListFields()}, (name, fields)
        if kind != "gauge":
            assert mine.aggregation_temporality == its.aggregation_temporality, name
    assert ours[COUNTER].sum.is_monotonic
    assert theirs[COUNTER].sum.is_monotonic
    point, sdk_point = (each[HISTOGRAM].histogram.data_points[0] for each in (ours, theirs))
    assert list(point.explicit_bounds) == list(sdk_point.explicit_bounds)
    assert len(point.bucket_counts) == len(sdk_point.bucket_counts)
    for metric in ours.values():
        check_points(metric)


def check_points(metric: Any) -> None:
    """See that numbers fit together, and that no two points have the same attributes."""
    kind = metric.WhichOneof("data")
    points = getattr(metric, kind).data_points
    assert points, metric.name
    labels = [tuple((one.key, one.value.string_value) for one in point.attributes) for point in points]
    assert len(set(labels)) == len(labels), metric.name
    for point in points:
        assert point.time_unix_nano > 0
        if kind != "gauge":
            assert 0 < point.start_time_unix_nano <= point.time_unix_nano, metric.name
        if kind == "histogram":
            assert sum(point.bucket_counts) == point.count


def sdk_spans() -> list[Any]:
    """Return what the SDK sends for a span and one below it."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("limpet")
    with tracer.start_as_current_span("window"), tracer.start_as_current_span("invoke"):
        pass
    return list(encode_spans(exporter.get_finished_spans()).resource_spans[0].scope_spans[0].spans)


def check_spans(ours: list[Any], theirs: list[Any]) -> None:
    """See that spans have the form of the SDK's, and form whole traces."""
    by_id = {span.span_id: span for span in ours}
    assert len(by_id) == len(ours)
    sdk = {span.name: span for span in theirs}
    for span in ours:
        its = sdk["window" if span.name == "window" else "invoke"]
        assert (len(span.trace_id), len(span.span_id)) == (len(its.trace_id), len(its.span_id)) == (16, 8)
        assert (span.kind, len(span.parent_span_id)) == (its.kind, len(its.parent_span_id))
        assert span.flags & ~_SAMPLED == its.flags & ~_SAMPLED, (span.flags, its.flags)  # this SDK leaves it out
        assert span.start_time_unix_nano <= span.end_time_unix_nano
        if span.parent_span_id:
            parent = by_id[span.parent_span_id]
            assert parent.trace_id == span.trace_id
            assert parent.start_time_unix_nano <= span.start_time_unix_nano
            assert span.end_time_unix_nano <= parent.end_time_unix_nano


if __name__ == "__main__":
    main(Path(sys.argv[1]))
