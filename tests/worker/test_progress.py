"""Samples that come and complete no window."""

from __future__ import annotations

import pytest

from limpet.contracts.fields import WindowSpec
from limpet.worker.progress import Counts, Progress


def reason(
    window: WindowSpec, seconds: int, rate: int, *, windows: int = 0, lost: bool = False, every: int = 1
) -> str:
    """Return what is said after so many seconds without a further window."""
    progress = Progress(window, every)
    progress.look(0, Counts(0, windows, 0))
    for second in range(1, seconds + 1):
        samples = second * rate
        progress.look(second, Counts(samples, windows, samples if lost else 0))
    return progress.reason


@pytest.mark.parametrize(
    ("window", "rate", "every", "takes"),
    [
        (WindowSpec(size=100_000), 1, 1, "28 h"),
        (WindowSpec(size=20_000), 10, 1, "33 min"),
        (WindowSpec(size=100), 10, 100_000, "12 days"),
        (WindowSpec(seconds=600.0), 10, 1, "10 min"),
    ],
)
def test_a_first_result_that_is_far_away_is_reported_at_once(
    window: WindowSpec, rate: int, every: int, takes: str
) -> None:
    assert f"Hz the first result takes {takes}." in reason(window, 7, rate, every=every)


def test_a_long_window_that_was_complete_before_is_waited_for() -> None:
    assert reason(WindowSpec(size=1000), 250, 10, windows=1) == ""
    assert "complete no window: a window needs 1,000 samples" in reason(WindowSpec(size=1000), 400, 10, windows=1)


def test_gaps_that_keep_every_window_from_being_complete_are_the_reason() -> None:
    assert reason(WindowSpec(size=50), 4, 100, lost=True) == ""
    said = reason(WindowSpec(size=50), 20, 100, lost=True)
    assert "complete no window: a window needs 50 samples; " in said
    assert said.endswith("samples are between gaps or are not finite")


def test_the_reason_ends_with_the_next_window_and_with_the_source() -> None:
    progress = Progress(WindowSpec(size=50), 1)
    for second in range(30):
        progress.look(second, Counts(100 * second, 0, 0))
    assert progress.reason
    assert progress.look(31, Counts(3100, 1, 0))
    assert progress.reason == ""
    progress.pause()
    assert not progress.look(5000, Counts(3101, 1, 0)), "the time of the outage does not count"
    assert not progress.look(5001, Counts(3102, 1, 0))
    assert progress.reason == ""
