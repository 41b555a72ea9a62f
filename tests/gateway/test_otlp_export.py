"""The export to a collector, by a real daemon and by the parts."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import TYPE_CHECKING

import msgspec
import pytest
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics

from limpet.errors import LimpetError, TransportError
from limpet.gateway.otlp import collector_files
from limpet.gateway.otlp.collector import LARGEST_ANSWER, LONGEST_WAIT, BusyError, Collector, RefusedError
from limpet.gateway.otlp.export import pause
from limpet.tables import OtlpTable
from support import certificates
from support.api_daemon import api_daemon
from support.broker import free_port, wait_until
from support.collector import collector, facts

if TYPE_CHECKING:
    from pathlib import Path


def _connect(table: OtlpTable) -> Collector:
    return Collector(table.url, collector_files.read(table))


REQUEST, ANSWER = metrics.ExportMetricsServiceRequest(), metrics.ExportMetricsServiceResponse


def test_a_daemon_exports_metrics_and_the_ways_of_windows_over_tls(tmp_path: Path) -> None:
    (tmp_path / "headers").write_text("Authorization: Bearer secret\n\nX-Scope: factory\n")
    with collector(certificates.certificate(certificates.authority(tmp_path), "collector")) as received:
        files = 'headers_file = "headers", ca_file = "ca.pem"'
        otlp = f'otlp = {{ url = "{received.url}/", interval = 0.2, traces = 1.0, {files} }}'
        with api_daemon(tmp_path, api=otlp) as running:
            wait_until(lambda: received.of("/v1/metrics") and _results(received.metrics) > 0)
            wait_until(lambda: received.spans)
            results = (tmp_path / "results.jsonl").read_text().splitlines()
        sent = received.of("/v1/metrics")[-1]
        assert running.daemon.process.returncode == 0
    assert facts(sent.resource_metrics[0].resource.attributes)["service.instance.id"] == "press-07"
    assert {headers["Authorization"] for _, headers, _ in received.requests} == {"Bearer secret"}
    roots = {facts(span.attributes)["limpet.result.id"]: span for span in received.spans if span.name == "window"}
    made = {one["id"]: one for one in map(json.loads, results) if "id" in one}
    known = roots.keys() & made.keys()
    assert known
    for name in known:
        spans = [span for span in received.spans if span.trace_id == sha256(name.encode()).digest()[:16]]
        assert {span.name for span in spans} == {"window", "source", "transform", "invoke", "decode", "publish"}
        work = {span.name: span.end_time_unix_nano - span.start_time_unix_nano for span in spans}
        decoded = sum(work[stage] for stage in ("source", "transform", "invoke", "decode"))
        assert decoded == pytest.approx(made[name]["latency_us"] * 1000, abs=1)


def _results(found: dict[str, object]) -> int:
    return found["limpet.pipeline.results"].sum.data_points[0].as_int  # type: ignore[attr-defined]


def test_a_daemon_goes_on_if_there_is_no_collector(tmp_path: Path) -> None:
    otlp = f'otlp = {{ url = "http://127.0.0.1:{free_port()}", interval = 0.1, traces = 1.0 }}'
    with api_daemon(tmp_path, api=otlp) as running:
        wait_until(lambda: "OTLP: metrics could not be exported" in running.daemon.log)
        assert running.request("/metrics").status == 200
        assert running.daemon.log.count("OTLP: metrics could not be exported") == 1


def test_a_collector_with_a_certificate_of_another_authority_gets_nothing(tmp_path: Path) -> None:
    ca, stranger = certificates.authority(tmp_path), certificates.authority(tmp_path, "stranger")
    with collector(certificates.certificate(ca, "collector")) as received:
        with pytest.raises(TransportError, match="certificate"):
            _connect(OtlpTable(url=received.url, ca_file=stranger)).send("/v1/metrics", REQUEST, ANSWER)
        assert received.requests == []


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_collector_that_is_busy_may_be_sent_the_same_again(status: int) -> None:
    with collector() as received:
        received.status = status
        with pytest.raises(TransportError, match=str(status)):
            _connect(OtlpTable(url=received.url)).send("/v1/metrics", REQUEST, ANSWER)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("", 0), ("7", 7), ("99999999999", LONGEST_WAIT), ("-1", 0), ("²", 0), ("Wed, 21 Oct 2015 07:28:00 GMT", 0)],
)
def test_a_collector_that_is_busy_says_for_how_long(header: str, seconds: float) -> None:
    with collector() as received:
        received.status, received.retry_after = 503, header.encode().decode("latin-1")
        with pytest.raises(BusyError) as caught:
            _connect(OtlpTable(url=received.url)).send("/v1/metrics", REQUEST, ANSWER)
    assert caught.value.seconds == seconds


@pytest.mark.parametrize("status", [202, 204])
def test_a_collector_may_take_a_request_with_another_status_of_success(status: int) -> None:
    with collector() as received:
        received.status, received.body = status, b"" if status == 204 else b"queued"
        assert _connect(OtlpTable(url=received.url)).send("/v1/metrics", REQUEST, ANSWER) == ANSWER()


@pytest.mark.parametrize(
    ("failures", "error", "seconds"),
    [
        (0, None, 60),
        (1, TransportError(""), 60),
        (1, BusyError("", 0), 60),
        (1, BusyError("", 900), 900),
        (9, BusyError("", 3), 60),
    ],
)
def test_a_collector_is_left_alone_for_as_long_as_it_wants(
    failures: int, error: LimpetError | None, seconds: float
) -> None:
    assert pause(60.0, failures, error) == seconds


@pytest.mark.parametrize("status", [301, 400, 401, 404, 500])
def test_a_collector_that_refuses_a_request_is_not_sent_it_again(status: int) -> None:
    with collector() as received:
        received.status = status
        with pytest.raises(RefusedError, match=str(status)):
            _connect(OtlpTable(url=received.url)).send("/v1/metrics", REQUEST, ANSWER)
    assert len(received.requests) == 1


@pytest.mark.parametrize(
    ("body", "error"), [(b"\xff" * 40, RefusedError), (b"\0" * (LARGEST_ANSWER + 1), TransportError)]
)
def test_an_answer_that_cannot_be_read_or_is_too_large_is_an_error(body: bytes, error: type[Exception]) -> None:
    with collector() as received:
        received.body = body
        with pytest.raises(error):
            _connect(OtlpTable(url=received.url)).send("/v1/metrics", REQUEST, ANSWER)


def test_what_a_collector_rejects_is_in_its_answer() -> None:
    partial = metrics.ExportMetricsPartialSuccess(rejected_data_points=3, error_message="too old")
    with collector() as received:
        received.body = ANSWER(partial_success=partial).SerializeToString()
        answer = _connect(OtlpTable(url=received.url)).send("/v1/metrics", REQUEST, ANSWER)
    assert (answer.partial_success.rejected_data_points, answer.partial_success.error_message) == (3, "too old")


@pytest.mark.parametrize(
    "text", ["no colon", ": empty", "Host: other", "Bad Name: x", "A: b\x01", "content-length: 0", "Ä: x"]
)
def test_a_file_with_a_wrong_header_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "headers"
    path.write_text(f"X-Good: 1\n{text}\n")
    with pytest.raises(LimpetError, match=r"api\.otlp\.headers_file .*headers"):
        collector_files.read_headers(path)


@pytest.mark.parametrize(
    "table",
    [
        {"url": "ftp://collector"},
        {"url": "http://user:secret@collector:4318"},
        {"url": "http://collector:4318?a=b"},
        {"url": "http://collector:4318", "headers_file": "headers"},
        {"url": "http://127.0.0.1:4318", "traces": 1.5},
    ],
)
def test_a_table_that_cannot_be_used_is_refused(table: dict[str, object]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(table, OtlpTable, dec_hook=lambda kind, value: kind(value))


@pytest.mark.parametrize(
    "url", ["https://collector", "http://127.0.0.1:4318", "http://[::1]:4318", "http://localhost"]
)
def test_headers_go_to_this_device_or_over_tls(url: str) -> None:
    table = msgspec.convert({"url": url, "headers_file": "h"}, OtlpTable, dec_hook=lambda kind, value: kind(value))
    assert table.url == url
