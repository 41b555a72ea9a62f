"""When samples are overdue: what a source says of its rate, and what was seen, decide."""

from __future__ import annotations

import pytest

from limpet.sample_watch import LEAST, PERIODS, SampleWatch


@pytest.mark.parametrize(("rate", "after"), [(None, LEAST), (100.0, LEAST), (0.1, PERIODS * 10)])
def test_samples_are_overdue_after_some_of_their_usual_pauses(rate: float | None, after: float) -> None:
    watch = SampleWatch(rate, 0.0)
    assert not watch.overdue(after)
    assert watch.overdue(after + 0.1)


def test_the_pauses_of_a_slow_sensor_are_learned_and_an_outage_is_forgotten() -> None:
    watch = SampleWatch(None, 0.0)
    for second in (10, 20, 30):
        watch.sample(second)
    assert not watch.overdue(60)
    assert watch.overdue(61)
    for hundredth in range(100):
        watch.sample(1000 + hundredth / 100)
    assert watch.overdue(1000.99 + LEAST + 0.1)


def test_an_opening_is_no_sample() -> None:
    watch = SampleWatch(None, 0.0)
    watch.opened(100.0)
    assert not watch.overdue(100 + LEAST)
    assert watch.overdue(100 + LEAST + 0.1)
