"""A collector of OpenTelemetry: an HTTP server that decodes what it gets with OpenTelemetry's own classes."""

from __future__ import annotations

import contextlib
import gzip
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as traces

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
    from opentelemetry.proto.trace.v1.trace_pb2 import Span

_KINDS: dict[str, Any] = {
    "/v1/metrics": (metrics.ExportMetricsServiceRequest, metrics.ExportMetricsServiceResponse),
    "/v1/traces": (traces.ExportTraceServiceRequest, traces.ExportTraceServiceResponse),
}


class Collector:
    """What came. ``bodies``: the last bytes of each path.

    ``status``, ``body`` and ``retry_after`` are the answer; without a ``body`` it is an empty response.
    """

    def __init__(self) -> None:
        self.status = 200
        self.body: bytes | None = None
        self.retry_after = ""
        self.requests: list[tuple[str, dict[str, str], Any]] = []
        self.bodies: dict[str, bytes] = {}
        self.url = ""

    def of(self, path: str) -> list[Any]:
        """Return the requests on a path."""
        return [request for where, _, request in list(self.requests) if where == path]

    @property
    def metrics(self) -> dict[str, Metric]:
        """The metrics of the last request, by name. Empty before the first."""
        last = self.of("/v1/metrics")[-1:]
        return {one.name: one for each in last for one in each.resource_metrics[0].scope_metrics[0].metrics}

    @property
    def spans(self) -> list[Span]:
        """All spans that came."""
        return [span for each in self.of("/v1/traces") for span in each.resource_spans[0].scope_spans[0].spans]


@contextlib.contextmanager
def collector(certificate: tuple[Path, Path] | None = None) -> Iterator[Collector]:
    """Run a collector on a free port of loopback, with TLS if there is a certificate and its key."""
    state = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            asked, answered = _KINDS[self.path.removeprefix("/otlp")]
            assert self.headers["content-type"] == "application/x-protobuf"
            assert self.headers["content-encoding"] == "gzip"
            state.bodies[self.path.removeprefix("/otlp")] = data = gzip.decompress(body)
            request = asked.FromString(data)
            state.requests.append((self.path.removeprefix("/otlp"), dict(self.headers), request))
            answer = answered().SerializeToString() if state.body is None else state.body
            self.send_response(state.status)
            if state.retry_after:
                self.send_header("Retry-After", state.retry_after)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        state.url = f"http://127.0.0.1:{server.server_port}/otlp"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
            state.url = f"https://localhost:{server.server_port}/otlp"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield state
        finally:
            server.shutdown()
            thread.join()


def facts(attributes: Any) -> dict[str, Any]:
    """Return attributes as a dictionary."""
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}
