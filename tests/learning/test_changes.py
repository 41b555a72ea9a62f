"""What a device changes about itself: towards what feedback and samples say, in steps, within limits."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limpet.contracts.adaptation import CoverageLimits, OffsetLimits, PriorLimits, ThresholdLimits
from limpet.learning.accuracy import Judged
from limpet.learning.changes import Levels, aim, offsets, priors, threshold

LIMITS = ThresholdLimits(least=0.3, most=0.9, right=0.9, answers=100, step=0.1)


def judged(scores_right: list[tuple[float, bool]]) -> list[Judged]:
    return [
        Judged(f"d/p/b/{n}", right, "walk" if right else "run", "walk", score)
        for n, (score, right) in enumerate(scores_right)
    ]


def calibrated(count: int, seed: int = 1) -> list[Judged]:
    """Return answers whose scores are how probably they are right."""
    rare = random.Random(seed)
    scores = [rare.random() for _ in range(count)]
    return judged([(score, rare.random() < score) for score in scores])


def test_the_threshold_moves_in_steps_to_where_enough_is_right() -> None:
    answers = calibrated(500)
    now, path = 0.4, []
    while step := threshold(answers, now, LIMITS):
        now = step.value
        path.append(now)
        assert len(path) < 20
    assert all(abs(b - a) <= LIMITS.step + 1e-9 for a, b in zip([0.4, *path], path, strict=False))
    above = [one.right for one in answers if one.score is not None and one.score >= now]
    assert sum(map(bool, above)) / len(above) >= LIMITS.right
    assert 0.7 <= now <= LIMITS.most


def test_a_threshold_that_is_too_strict_is_lowered_to_the_least() -> None:
    always = judged([(n / 200, True) for n in range(200)])
    step = threshold(always, 0.8, LIMITS)
    assert step is not None
    assert step.value == pytest.approx(0.7)
    assert threshold(always, LIMITS.least, LIMITS) is None


def test_too_few_answers_change_no_threshold() -> None:
    assert threshold(calibrated(99), 0.4, LIMITS) is None


@given(st.lists(st.tuples(st.floats(-1, 2), st.booleans()), max_size=150), st.none() | st.floats(-5, 5))
def test_a_threshold_never_leaves_its_limits(answers: list[tuple[float, bool]], now: float | None) -> None:
    step = threshold(judged(answers), now, LIMITS)
    assert step is None or LIMITS.least - LIMITS.step <= step.value <= LIMITS.most


PRIORS = {"idle": 0.5, "walk": 0.4, "fault": 0.1}


def test_priors_follow_the_truths_of_feedback_within_their_limit() -> None:
    found = priors({"idle": 400, "walk": 95, "fault": 5}, PRIORS, {}, PriorLimits(most=3, answers=100))
    assert found is not None
    assert found.weights["idle"] == pytest.approx((400 + 50) / 600 / 0.5, abs=1e-3)
    assert found.weights["fault"] == pytest.approx(1 / 3, abs=0.2)
    assert "windows with feedback are" in found.reason
    far = priors({"fault": 10_000}, PRIORS, {}, PriorLimits(most=3))
    assert far is not None
    assert far.weights == {"idle": 0.3333, "walk": 0.3333, "fault": 3.0}


def test_priors_stay_where_little_changed_or_little_is_known() -> None:
    assert priors({"idle": 52, "walk": 38, "fault": 10}, PRIORS, {}, PriorLimits()) is None
    assert priors({"fault": 99}, PRIORS, {}, PriorLimits()) is None
    assert priors({"unknown": 500}, PRIORS, {}, PriorLimits()) is None
    truths = {"idle": 400, "walk": 95, "fault": 5}
    found = priors(truths, PRIORS, {}, PriorLimits())
    assert found is not None
    assert priors(truths, PRIORS, found.weights, PriorLimits()) is None


@given(st.dictionaries(st.sampled_from([*PRIORS, "other"]), st.integers(0, 10**6)))
def test_weights_never_leave_their_limit(truths: dict[str, int]) -> None:
    found = priors(truths, PRIORS, {}, PriorLimits(most=2))
    assert found is None or all(0.4999 <= weight <= 2 for weight in found.weights.values())


OFFSETS = OffsetLimits(most=0.5, step=0.1, windows=1000)
BASE = Levels(1000, (10.0, 0.0), (4.0, 1.0))


def period(first: float, second: float = 0.0) -> Levels:
    return Levels(10_000, (first, second), (4.0, 1.0))


def follow(means: list[float]) -> list[float]:
    """Return the offset of the first channel, whose deviation is 2, after each period with these means."""
    now: list[float] = []
    before, path = period(means[0]), []
    for mean in means[1:]:
        found = offsets(BASE, before, period(mean), now, OFFSETS)
        now = found.values if found else now
        before = period(mean)
        path.append(now[0] if now else 0.0)
        assert not now or now[1] == 0.0
    return path


def test_slow_drift_is_followed_in_steps_up_to_the_limit() -> None:
    path = follow([10 + 0.1 * n for n in range(30)])
    assert path[4] == pytest.approx(0.4)
    assert 0.8 <= path[-1] <= 1.0  # at most half of a standard deviation of 2
    assert all(b - a <= 0.2 + 1e-9 for a, b in pairwise(path))


def test_a_jump_is_not_followed_when_it_comes() -> None:
    assert follow([10.0, 13.0]) == [0.0]


def test_chance_and_too_few_windows_change_nothing() -> None:
    assert follow([10.0, 10.1, 9.9, 10.05]) == [0.0, 0.0, 0.0]
    few = Levels(999, (10.2, 0.0), (4.0, 1.0))
    assert offsets(BASE, few, few, [], OFFSETS) is None


def test_a_sensor_that_comes_back_is_followed_back() -> None:
    path = follow([*(10 + 0.15 * n for n in range(6)), *(10.75 - 0.15 * n for n in range(6))])
    assert max(path) == pytest.approx(0.6)
    assert abs(path[-1]) < 0.4


def test_other_numbers_of_channels_change_nothing() -> None:
    one = Levels(10_000, (10.0,), (4.0,))
    assert offsets(BASE, one, one, [], OFFSETS) is None
    assert offsets(Levels(), Levels(), Levels(5000), [], OFFSETS) is None


def test_levels_of_two_groups_of_windows_are_those_of_all() -> None:
    rare = random.Random(5)
    values = [rare.gauss(3, 2) for _ in range(50)]

    def of(some: list[float]) -> Levels:
        mean = sum(some) / len(some)
        return Levels(len(some), (mean,), (sum((x - mean) ** 2 for x in some) / len(some),))

    both, expected = of(values[:20]).plus(of(values[20:])), of(values)
    assert both.windows == 50
    assert both.means == pytest.approx(expected.means)
    assert both.variances == pytest.approx(expected.variances)


@given(
    st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=3),
    st.floats(0, 1e6),
    st.lists(st.floats(-1e9, 1e9), max_size=2),
)
def test_an_offset_never_leaves_its_limit_further(means: list[float], variance: float, now: list[float]) -> None:
    base, before, latest = (Levels(10_000, (mean,), (variance,)) for mean in means)
    found = offsets(base, before, latest, now, OFFSETS)
    if found is not None:
        deviation, start = variance**0.5, now[0] if len(now) == 1 else 0.0
        assert abs(found.values[0]) <= max(0.5 * deviation, abs(start)) + 1e-6
        assert abs(found.values[0] - start) <= 0.1 * deviation + 1e-6


REACH = CoverageLimits(coverage=0.9, least=0.7, most=0.99, rate=0.02, answers=20)


def answers_held(held: list[bool], chosen: bool = False) -> list[Judged]:  # noqa: FBT001, FBT002 - as the field
    return [
        Judged(f"d/p/b/{n}", True, "walk", "walk", 0.9, held=one, time=float(n + 1), chosen=chosen)
        for n, one in enumerate(held)
    ]


def test_sets_that_miss_the_truth_too_often_have_more_coverage_aimed_at() -> None:
    step = aim(answers_held([True, True, True, False] * 5), None, 0.0, REACH)
    assert step is not None
    assert step.value == pytest.approx(0.9 + 0.02 * (20 * 0.9 - 15))
    assert "15 of 20 sets" in step.reason


def test_sets_that_are_too_large_have_less_aimed_at_within_the_limits() -> None:
    step = aim(answers_held([True] * 200), 0.95, 0.0, REACH)
    assert step is not None
    assert step.value == pytest.approx(0.95 - 0.5 * 0.1)
    lowest = aim(answers_held([True] * 200), 0.72, 0.0, REACH)
    assert lowest is not None
    assert lowest.value == REACH.least


def test_only_results_since_the_last_change_count_and_none_that_was_kept_for_a_reason() -> None:
    missed = [False] * 30
    assert aim(answers_held(missed), 0.9, 10.0, REACH) is not None
    assert aim(answers_held(missed), 0.9, 11.0, REACH) is None
    assert aim(answers_held(missed, chosen=True), 0.9, 0.0, REACH) is None
    assert aim(answers_held([True] * 9 + [False]) * 2, None, 0.0, REACH) is None


def test_after_drift_the_stated_coverage_is_reached_again() -> None:
    rare = random.Random(3)
    now, since, first = 0.9, 0.0, 0.0
    held: list[bool] = []
    for start in range(0, 6000, 100):
        # After drift, sets that aim at a share hold the truth in its square.
        some = [
            Judged(f"d/p/b/{n}", True, held=rare.random() < now**2, time=float(n + 1))
            for n in range(start, start + 100)
        ]
        held += [bool(one.held) for one in some]
        first = first or sum(held) / len(held)
        if step := aim(some, now, since, REACH):
            now = step.value
        since = some[-1].time
    assert first < 0.87
    assert sum(held[3000:]) / 3000 == pytest.approx(0.9, abs=0.02)


@given(st.lists(st.booleans(), max_size=80), st.none() | st.floats(0.01, 0.99))
def test_an_aim_never_leaves_its_limits(held: list[bool], now: float | None) -> None:
    step = aim(answers_held(held), now, 0.0, REACH)
    assert step is None or REACH.least <= step.value <= REACH.most
