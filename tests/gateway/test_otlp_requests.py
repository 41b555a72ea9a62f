"""What a collector is sent, decoded by OpenTelemetry's own classes."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import AGGREGATION_TEMPORALITY_CUMULATIVE

from limpet.contracts.messages import Origin
from limpet.gateway.metrics.exposition import OPEN_METRICS, write
from limpet.gateway.metrics.families import families
from limpet.gateway.metrics.family import BOUNDS, Family, Point
from limpet.gateway.otlp.requests import Machine, Period, metrics_request, resource, trace_request
from limpet.wire.gateway_records import TracedWindow
from support.collector import facts
from support.figures import figures

if TYPE_CHECKING:
    from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric

WHO = resource(Origin("press-07", "1-abc", "0.1.0"), Machine("pi", "aarch64"))
PERIOD = Period(1_000, 5_000)
WINDOW = TracedWindow(
    "press-07/motion/1-abc/5", "motion", "gesture", 3, "cpu", False, 10_000, 1, 20, 300, 4000, 50_000
)


def _sent(found: list[Family]) -> dict[str, Metric]:
    data = metrics_request([(found, PERIOD)], WHO).SerializeToString()
    (one,) = ExportMetricsServiceRequest.FromString(data).resource_metrics
    return {metric.name: metric for metric in one.scope_metrics[0].metrics}


def test_the_resource_has_the_attributes_of_the_semantic_conventions() -> None:
    assert facts(WHO.attributes) == {
        "service.name": "limpet",
        "service.version": "0.1.0",
        "service.instance.id": "press-07",
        "device.id": "press-07",
        "host.name": "pi",
        "host.arch": "arm64",
        "os.type": "linux",
        "limpet.boot": "1-abc",
    }


def test_counters_are_cumulative_since_the_supervisor_started() -> None:
    metric = _sent(families(figures()))["limpet.pipeline.results"]
    assert metric.sum.is_monotonic
    assert metric.sum.aggregation_temporality == AGGREGATION_TEMPORALITY_CUMULATIVE
    (point,) = metric.sum.data_points
    assert (point.start_time_unix_nano, point.time_unix_nano, point.as_int) == (1_000, 5_000, 1200)
    assert facts(point.attributes) == {"pipeline": "motion"}


def test_gauges_keep_their_unit() -> None:
    metric = _sent(families(figures()))["limpet.machine.temperature"]
    assert (metric.unit, metric.gauge.data_points[0].as_double) == ("Cel", 61.5)


def test_a_histogram_has_the_counts_of_the_metrics_page() -> None:
    found = families(figures())
    points = _sent(found)["limpet.pipeline.stage.duration"].histogram.data_points
    invoke = next(point for point in points if facts(point.attributes)["stage"] == "invoke")
    assert list(invoke.explicit_bounds) == list(BOUNDS)
    assert len(invoke.bucket_counts) == len(BOUNDS) + 1
    assert invoke.count == sum(invoke.bucket_counts) == 13
    page = write(found, OPEN_METRICS).decode()
    assert f'stage_duration_seconds_sum{{pipeline="motion",stage="invoke"}} {invoke.sum!r}\n' in page


def test_numbers_that_are_too_large_for_an_integer_are_sent_all_the_same() -> None:
    odd = [Family("limpet.odd", "gauge", "", "", [Point({"a": "\ud800"}, 1 << 70), Point({"a": "b"}, True)])]
    first, second = _sent(odd)["limpet.odd"].gauge.data_points
    assert (first.as_double, facts(first.attributes)) == (float(1 << 70), {"a": "?"})
    assert second.as_int == 1


def test_the_way_of_a_window_is_a_trace_with_a_span_for_each_stage() -> None:
    data = trace_request([WINDOW], WHO).SerializeToString()
    root, *stages = ExportTraceServiceRequest.FromString(data).resource_spans[0].scope_spans[0].spans
    assert root.trace_id == sha256(b"press-07/motion/1-abc/5").digest()[:16]
    assert (root.name, root.parent_span_id) == ("window", b"")
    assert (root.start_time_unix_nano, root.end_time_unix_nano) == (10_000, 64_321)
    assert facts(root.attributes) == {
        "limpet.result.id": "press-07/motion/1-abc/5",
        "limpet.pipeline": "motion",
        "limpet.model.name": "gesture",
        "limpet.model.version": 3,
        "limpet.delegate": "cpu",
        "limpet.degraded": False,
    }
    assert [stage.name for stage in stages] == ["source", "transform", "invoke", "decode", "publish"]
    assert {stage.parent_span_id for stage in stages} == {root.span_id}
    assert {stage.trace_id for stage in stages} == {root.trace_id}
    assert len({span.span_id for span in (root, *stages)}) == 6
    ends = [stage.end_time_unix_nano for stage in stages]
    assert [stage.start_time_unix_nano for stage in stages] == [10_000, *ends[:-1]]
    assert ends[-1] == root.end_time_unix_nano
