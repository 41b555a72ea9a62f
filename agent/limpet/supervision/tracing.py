"""The way of some windows, for the gateway: workers measure the stages, the supervisor the end.

Decides, without I/O but for a look at the clock.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from time import monotonic_ns
from typing import TYPE_CHECKING

from limpet.wire.gateway_records import TracedWindow

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from limpet.contracts.messages import ResultMessage
    from limpet.wire.records import WindowTimes

MOST_WAITING = 256
"""Windows whose results have not come. More are given up, the oldest first."""
MOST_KEPT = 1000
"""Windows that wait for the gateway. Then the oldest ones are dropped, and counted as missed."""
LONGEST_NS = 3_600_000_000_000
"""A stage that took longer, as a worker says, is taken for as long."""


class Tracing:
    """Keeps windows until the gateway takes them."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[tuple[str, int, int], WindowTimes] = OrderedDict()
        self._kept: deque[TracedWindow] = deque()
        self._missed = 0

    @property
    def waits(self) -> bool:
        """Whether the result of a window is waited for."""
        return bool(self._waiting)

    def expect(self, times: WindowTimes) -> None:
        """Take what a worker measured of a window. Its result follows."""
        self._waiting[times.pipeline, times.sample, times.monotonic_ns] = times
        if len(self._waiting) > MOST_WAITING:
            self._waiting.popitem(last=False)

    def accepted(self, results: Sequence[ResultMessage]) -> None:
        """Take results that were put on the bus right now."""
        now = monotonic_ns()
        for result in results:
            times = self._waiting.pop((result.pipeline, result.sample, result.monotonic_ns), None)
            if times is not None:
                self._keep(traced(result, times, now))

    def _keep(self, window: TracedWindow) -> None:
        self._kept.append(window)
        if len(self._kept) > MOST_KEPT:
            self._kept.popleft()
            self._missed += 1

    def take(self) -> tuple[list[TracedWindow], int]:
        """Return the windows since the last call, oldest first, and how many were missed."""
        windows, missed = list(self._kept), self._missed
        self._kept.clear()
        self._missed = 0
        return windows, missed


def traced(result: ResultMessage, times: WindowTimes, now_ns: int) -> TracedWindow:
    """Return the way of a window whose result was put on the bus at ``now_ns``, on the monotonic clock."""
    latency = round(result.latency_us * 1000)
    transform, invoke, decode = map(_within, (times.transform_ns, times.invoke_ns, times.decode_ns))
    return TracedWindow(
        result.id,
        result.pipeline,
        result.model,
        result.version,
        result.delegate,
        result.degraded,
        _unix_ns(result.time),
        _within(latency - transform - invoke - decode),
        transform,
        invoke,
        decode,
        _within(now_ns - result.monotonic_ns - latency),
    )


def _within(duration_ns: int) -> int:
    return min(max(duration_ns, 0), LONGEST_NS)


def _unix_ns(time: datetime) -> int:
    return max(round(time.timestamp() * 1e6) * 1000, 0)
