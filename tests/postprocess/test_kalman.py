"""The Kalman filter beside the joint normal distribution of all values, which needs no filter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limpet.contracts.data import Window
from limpet.contracts.outputs import Regression
from limpet.contracts.stage import Spec
from limpet.postprocess import kalman

if TYPE_CHECKING:
    from collections.abc import Sequence

SPEC = Spec(shape=(1, 2), dtype=np.dtype(np.float32), labels=("t", "h"))
SECOND = 1_000_000_000
REACH = 1.6448536269514722
"""Standard deviations that hold 90 % of a normal distribution, as SciPy gives them."""


def opened(**options: Any) -> kalman.Kalman:
    return kalman.open(msgspec.convert({"noise": 0.5, "drift": 0.2, **options}, kalman.Config), SPEC)


def through(stage: kalman.Kalman, value: float | None, at: float, h: float | None = None) -> Regression:
    given = Regression({"t": value, "h": h}, {}, in_range=True, out_of_range=[])
    result: Regression = stage(Window(np.zeros(2), round(at * SECOND), 0, 0, result=given)).result
    return result


def joint(values: Sequence[float], times: Sequence[float], noise: float, drift: float) -> tuple[float, float]:
    """Return mean and deviation of the last level, from the joint normal distribution with a vague first level."""
    vague = 1e8
    passed = np.array(times) - times[0]
    levels = vague + drift**2 * np.minimum.outer(passed, passed)
    measured = levels + noise**2 * np.eye(len(times))
    gain = np.linalg.solve(measured, levels[-1])
    return float(gain @ np.array(values)), float(np.sqrt(levels[-1, -1] - gain @ levels[-1]))


def test_the_level_is_that_of_the_joint_distribution_of_all_values() -> None:
    values, times = [1.0, 1.4, 0.7, 2.0, 1.8], [0.0, 0.5, 2.0, 2.1, 7.0]
    stage = opened()
    for count in range(1, 6):
        result = through(stage, values[count - 1], times[count - 1])
        mean, deviation = joint(values[:count], times[:count], 0.5, 0.2)
        assert result.intervals is not None
        low, high = result.intervals["t"]
        assert result.values["t"] == pytest.approx(mean, abs=1e-5)
        assert (high - low) / 2 == pytest.approx(REACH * deviation, rel=1e-3)
        assert (high + low) / 2 == pytest.approx(mean, abs=1e-5)


def test_intervals_hold_the_quantity_with_the_stated_probability() -> None:
    random = np.random.default_rng(3)
    levels = np.cumsum(random.normal(0, 0.2 * np.sqrt(0.1), 6000))
    stage, held = opened(), 0
    for step, (level, error) in enumerate(zip(levels, random.normal(0, 0.5, 6000), strict=True)):
        intervals = through(stage, float(level + error), step / 10).intervals
        assert intervals is not None
        low, high = intervals["t"]
        held += low <= level <= high
    assert held / 6000 == pytest.approx(0.9, abs=0.03)


def test_it_is_nearer_to_the_quantity_than_the_model() -> None:
    random = np.random.default_rng(4)
    levels = np.cumsum(random.normal(0, 0.02, 2000))
    measured = levels + random.normal(0, 0.5, 2000)
    stage = opened(drift=0.0632)
    found = np.array([through(stage, float(value), step / 10).values["t"] for step, value in enumerate(measured)])
    assert np.abs(found - levels).mean() < 0.4 * np.abs(measured - levels).mean()


def test_a_trend_is_followed_through_a_gap() -> None:
    stage = opened(model="trend", noise=0.01, drift=0.001)
    for step in range(200):
        through(stage, step * 0.3, step)
    result = through(stage, None, 209)
    assert result.values["t"] is None
    assert through(stage, 210 * 0.3, 210).values["t"] == pytest.approx(63, abs=0.02)


def test_the_trend_model_has_the_variances_of_its_equations() -> None:
    track = kalman.Track(0.5, 0.2, trend=True)
    track.begin(1.0)
    state, covariance = np.array([1.0, 0.0]), np.diag([0.25, 0.25 + 0.04])
    for seconds, value in ((0.5, 1.3), (1.0, 0.2), (0.25, 4.0)):
        track.predict(seconds)
        move = np.array([[1, seconds], [0, 1]])
        noise = 0.04 * np.array([[seconds**3 / 3, seconds**2 / 2], [seconds**2 / 2, seconds]])
        state, covariance = move @ state, move @ covariance @ move.T + noise
        track.correct(value)
        gain = covariance[:, 0] / (covariance[0, 0] + 0.25)
        state, covariance = state + gain * (value - state[0]), covariance - np.outer(gain, covariance[0])
        assert track.value == pytest.approx(state[0])
        assert track.variance == pytest.approx(covariance[0, 0])


def test_an_outlier_is_ignored_but_a_step_is_not_for_long() -> None:
    stage = opened(noise=0.1, drift=0.01, outlier=5)
    for step in range(50):
        through(stage, 0.0, step)
    assert through(stage, 100.0, 50).values["t"] == pytest.approx(0, abs=0.1)
    found = [through(stage, 100.0, 51 + step).values["t"] for step in range(6)]
    assert found[0] == pytest.approx(0, abs=0.1)
    assert found[-1] == pytest.approx(100, abs=0.1)


def test_an_interval_that_is_too_wide_abstains_until_it_is_narrow() -> None:
    stage = opened(noise=1.0, drift=0.01, widest=1.0)
    found = [through(stage, 0.0, step / 10).abstained for step in range(40)]
    assert found[0]
    assert not found[-1]


def test_each_quantity_has_its_own_noise_and_others_pass() -> None:
    stage = opened(noise={"t": 0.5}, drift={"t": 0.1})
    result = through(stage, 1.0, 0, h=40.0)
    assert result.values == {"t": 1.0, "h": 40.0}
    assert result.intervals is not None
    assert list(result.intervals) == ["t"]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"noise": {"x": 1.0}}, "noise has 'x'; the model gives t"),
        ({"noise": {"t": 1.0}, "drift": {"h": 1.0}}, "must name the same quantities"),
        ({"noise": 0.0}, "noise"),
        ({"widest": {"x": 1.0}}, "widest has 'x'"),
    ],
)
def test_what_cannot_work_is_refused_with_the_reason(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        opened(**options)


value = st.none() | st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from([1.7e308, -1.7e308])


@given(
    st.lists(st.tuples(value, st.floats(-1e9, 1e9)), min_size=1, max_size=8), st.sampled_from(["level", "trend"])
)
@settings(max_examples=80)
def test_whatever_a_model_gives_the_result_can_be_sent(windows: Any, model: str) -> None:
    stage = opened(model=model, outlier=3)
    for given_value, at in windows:
        result = through(stage, given_value, at)
        again = msgspec.json.decode(msgspec.json.encode(result), type=Regression)
        assert again.values == result.values
