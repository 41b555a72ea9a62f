"""The way of windows, from what workers and the supervisor measured."""

from __future__ import annotations

from datetime import datetime, timezone
from time import monotonic_ns

from hypothesis import given
from hypothesis import strategies as st

from limpet.contracts.messages import ResultMessage
from limpet.supervision.tracing import LONGEST_NS, MOST_KEPT, MOST_WAITING, Tracing, traced
from limpet.wire.records import WindowTimes

TIME = datetime(2026, 11, 28, 12, 0, 0, 250, tzinfo=timezone.utc)
INT64 = st.integers(-(1 << 63), (1 << 63) - 1)


def _result(sample: int = 7, monotonic: int = 1_000_000, latency_us: float = 900.0) -> ResultMessage:
    return ResultMessage(
        id=f"d/motion/1/{sample}",
        device="d",
        pipeline="motion",
        boot="1",
        sequence=sample,
        time=TIME,
        monotonic_ns=monotonic,
        sample=sample,
        model="gesture",
        version=3,
        delegate="cpu",
        degraded=False,
        latency_us=latency_us,
        output={},
    )


def _times(sample: int = 7, monotonic: int = 1_000_000) -> WindowTimes:
    return WindowTimes("motion", sample, monotonic, 100_000, 300_000, 50_000)


def test_stages_follow_one_another_until_the_result_is_published() -> None:
    window = traced(_result(), _times(), now_ns=2_000_000)
    assert (window.source_ns, window.transform_ns, window.invoke_ns, window.decode_ns, window.publish_ns) == (
        450_000,
        100_000,
        300_000,
        50_000,
        100_000,
    )
    assert window.unix_ns == 1_795_867_200_000_250_000
    assert (window.id, window.model, window.version) == ("d/motion/1/7", "gesture", 3)


@given(INT64, INT64, INT64, INT64, st.floats(-1e300, 1e300))
def test_what_a_hostile_worker_says_of_stages_is_bounded(
    monotonic: int, transform: int, invoke: int, decode: int, latency_us: float
) -> None:
    times = WindowTimes("motion", 7, monotonic, transform, invoke, decode)
    window = traced(_result(monotonic=monotonic, latency_us=latency_us), times, monotonic_ns())
    stages = (window.source_ns, window.transform_ns, window.invoke_ns, window.decode_ns, window.publish_ns)
    assert all(0 <= stage <= LONGEST_NS for stage in stages)


def test_a_window_is_kept_once_its_result_came() -> None:
    tracing = Tracing()
    tracing.expect(_times())
    assert tracing.take() == ([], 0)
    assert tracing.waits
    tracing.accepted([_result(sample=6), _result(monotonic=5), _result()])
    assert not tracing.waits
    windows, missed = tracing.take()
    assert ([window.id for window in windows], missed) == (["d/motion/1/7"], 0)
    assert tracing.take() == ([], 0)


def test_windows_without_a_result_make_room_for_others() -> None:
    tracing = Tracing()
    for sample in range(MOST_WAITING + 1):
        tracing.expect(_times(sample))
    tracing.accepted([_result(sample=0), _result(sample=1)])
    assert [window.id for window in tracing.take()[0]] == ["d/motion/1/1"]


def test_windows_that_the_gateway_does_not_take_are_counted() -> None:
    tracing = Tracing()
    for sample in range(MOST_KEPT + 3):
        tracing.expect(_times(sample))
        tracing.accepted([_result(sample=sample)])
    windows, missed = tracing.take()
    assert (len(windows), missed, windows[0].id) == (MOST_KEPT, 3, "d/motion/1/3")
