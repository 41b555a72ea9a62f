"""Exports the figures every so often, and the ways of windows as they come."""

from __future__ import annotations

import asyncio
import logging
import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from time import time_ns
from typing import TYPE_CHECKING, Any, TypeVar

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from limpet.backoff import Backoff
from limpet.device.clock import Start
from limpet.errors import LimpetError, TransportError
from limpet.gateway.metrics.families import families
from limpet.gateway.metrics.inference import inference_families
from limpet.gateway.otlp.collector import BusyError, Collector
from limpet.gateway.otlp.requests import Machine, Period, metrics_request, resource, trace_request
from limpet.wire.border import cleaned
from limpet.wire.gateway_records import GetTraces, Traces

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from google.protobuf.message import Message

    from limpet.contracts.messages import Origin
    from limpet.gateway.link import SupervisorLink
    from limpet.gateway.open_inference.statistics import ModelStatistics
    from limpet.gateway.otlp.collector_files import CollectorFiles
    from limpet.tables import OtlpTable
    from limpet.wire.gateway_records import TracedWindow

log = logging.getLogger(__name__)

A = TypeVar("A", bound="Message")

TRACE_INTERVAL = 5.0
"""Seconds between two exports of traces at most."""
LONGEST = 40.0
"""Seconds after which a request is given up, even if the collector sends a byte now and then."""
MOST_TRACES = 1000
"""Traces that wait for a collector that is away. Beyond, the oldest are dropped."""
PAUSES = Backoff(TRACE_INTERVAL, 60.0)


class Exporter:
    """Metrics and traces for one collector. ``files`` were read before."""

    def __init__(self, table: OtlpTable, files: CollectorFiles, origin: Origin) -> None:
        self._start = Start()
        self._table = table
        self._collector = Collector(table.url, files)
        machine = os.uname()
        self._resource = resource(origin, Machine(machine.nodename, machine.machine))
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="otlp")
        self._lock = asyncio.Lock()
        self._sending: asyncio.Future[Any] | None = None
        self._waiting: deque[TracedWindow] = deque()
        self._dropped = 0

    async def run(self, supervisor: SupervisorLink, statistics: Mapping[tuple[str, str], ModelStatistics]) -> None:
        """Export until it is cancelled. ``statistics``: what clients had models do."""
        jobs = [_repeat("metrics", self._table.interval, lambda: self._export_metrics(supervisor, statistics))]
        if self._table.traces:
            interval = min(self._table.interval, TRACE_INTERVAL)
            jobs.append(_repeat("traces", interval, lambda: self._export_traces(supervisor)))
        await asyncio.gather(*jobs)

    async def _export_metrics(
        self, supervisor: SupervisorLink, statistics: Mapping[tuple[str, str], ModelStatistics]
    ) -> None:
        figures = await supervisor.figures()
        now = time_ns()
        found = [
            (families(figures), Period(round(figures.started * 1e9), now)),
            (inference_families(statistics), Period(round(self._start.unix() * 1e9), now)),
        ]
        request = metrics_request(found, self._resource)
        answer = await self._send("/v1/metrics", request, ExportMetricsServiceResponse)
        _report_rejected("metrics", answer.partial_success.rejected_data_points, answer)

    async def _export_traces(self, supervisor: SupervisorLink) -> None:
        taken = await supervisor.ask(GetTraces, Traces)
        self._keep(taken)
        if not self._waiting:
            return
        windows = list(self._waiting)
        try:
            answer = await self._send(
                "/v1/traces", trace_request(windows, self._resource), ExportTraceServiceResponse
            )
        except TransportError:
            raise
        except LimpetError:
            self._forget(len(windows))
            raise
        self._forget(len(windows))
        _report_rejected("traces", answer.partial_success.rejected_spans, answer)

    def _keep(self, taken: Traces) -> None:
        self._waiting.extend(taken.windows)
        surplus = max(len(self._waiting) - MOST_TRACES, 0)
        self._forget(surplus)
        if taken.missed + surplus:
            self._dropped += taken.missed + surplus
            log.warning("OTLP: %d traces were dropped so far, as the collector does not take them", self._dropped)

    def _forget(self, count: int) -> None:
        for _ in range(count):
            self._waiting.popleft()

    async def _send(self, path: str, request: Message, answer: type[A]) -> A:
        async with self._lock:
            if self._sending is not None and not self._sending.done():
                raise TransportError("the collector has not answered the request before")
            loop = asyncio.get_running_loop()
            sending = loop.run_in_executor(self._thread, self._collector.send, path, request, answer)
            self._sending = sending
            try:
                return await asyncio.wait_for(asyncio.shield(sending), LONGEST)
            except asyncio.TimeoutError as error:
                raise TransportError(f"the collector does not answer within {LONGEST:g} s") from error


async def _repeat(what: str, interval: float, export: Callable[[], Awaitable[None]]) -> None:
    """Export every so many seconds, and less often while that fails. The first failure in a row is logged."""
    failures = 0
    while True:
        failed: LimpetError | None = None
        try:
            await export()
        except LimpetError as error:
            failed = error
            failures += 1
            if failures == 1:
                log.warning("OTLP: %s could not be exported: %s", what, error)
        else:
            if failures:
                log.info("OTLP: %s are exported again", what)
            failures = 0
        await asyncio.sleep(pause(interval, failures, failed))


def pause(interval: float, failures: int, error: LimpetError | None) -> float:
    """Return the seconds until the next export. ``error``: the last of so many failures in a row."""
    wanted = error.seconds if isinstance(error, BusyError) else 0.0
    return max(interval, wanted, PAUSES.pause(failures) if failures else 0.0)


def _report_rejected(what: str, count: int, answer: Any) -> None:
    if count:
        log.warning(
            "OTLP: the collector rejected %d of the %s: %s",
            count,
            what,
            cleaned(answer.partial_success.error_message),
        )
