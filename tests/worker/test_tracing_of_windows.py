"""Which windows a worker reports, and what it says of them."""

from __future__ import annotations

from typing import Any

from limpet.inference.latency import Latency
from limpet.wire.records import Result, WindowTimes
from limpet.worker.tracing import AT_ONCE, Tracing

RESULT: Result[Any] = Result("motion", "m", 1, "cpu", False, 500, 600, 7, 5000, {})


def _reported(share: float, windows: int) -> list[WindowTimes]:
    reported: list[WindowTimes] = []
    tracing, latency = Tracing(reported.append), Latency()
    tracing.share = share
    for number in range(windows):
        latency.record(1, 20 + number, 300, 4000)
        tracing.see(RESULT, latency)
    return reported


def test_a_window_has_the_durations_that_were_measured_last() -> None:
    first, second = _reported(1.0, 2)
    assert first == WindowTimes("motion", 7, 500, 20, 300, 4000)
    assert second == WindowTimes("motion", 7, 500, 21, 300, 4000)


def test_a_share_of_the_windows_is_chosen() -> None:
    assert _reported(0.0, 1000) == []
    assert 0 < len(_reported(0.02, 1000)) <= AT_ONCE


def test_many_windows_at_once_are_not_all_reported() -> None:
    assert AT_ONCE <= len(_reported(1.0, 3000)) < 1500
