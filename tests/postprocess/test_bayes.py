"""The Bayes filter beside sums over all sequences of classes, which need no filter."""

from __future__ import annotations

import itertools
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from limpet.contracts.data import Window
from limpet.contracts.outputs import Classification, ScoredLabel
from limpet.contracts.stage import Spec
from limpet.postprocess import _chain, bayes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

SECOND = 1_000_000_000
LABELS = ("a", "b", "c")
TRANSITION = [[0.8, 0.15, 0.05], [0.1, 0.7, 0.2], [0.3, 0.1, 0.6]]
PRIORS = {"a": 0.5, "b": 0.2, "c": 0.3}
TRAINED = {"a": 0.2, "b": 0.3, "c": 0.5}
GIVEN = Classification("a", 0.5, [ScoredLabel("a", 0.5)], False)
SCORES = np.array([[0.7, 0.2, 0.1], [0.3, 0.4, 0.3], [0.1, 0.8, 0.1], [0.25, 0.25, 0.5], [0.9, 0.05, 0.05]])


def opened(**options: Any) -> bayes.Bayes:
    rate = options.pop("rate", None)
    form = Spec(shape=(1, 3), dtype=np.dtype(np.float32), rate=rate, labels=LABELS)
    spec = replace(form, samples=("speed", "level"), beside=("heat", "door"))
    return bayes.open(msgspec.convert(options, bayes.Config), spec)


def window(scores: Sequence[float] | None, at: float = 0.0, **others: Any) -> Window:
    given = None if scores is None else np.array(scores, np.float32)
    return Window(np.zeros((1, 3)), round(at * SECOND), 0, 0, result=GIVEN, scores=given, **others)


def posterior(stage: bayes.Bayes, one: Window) -> NDArray[np.float64]:
    found = stage(one).result.posterior
    return np.array([found[label] for label in LABELS])


def by_all_sequences(scores: NDArray[Any], weight: float = 1.0) -> NDArray[np.float64]:
    """Return the posterior of the last class as a sum over every sequence of classes."""
    prior, trained = (np.array(list(shares.values())) for shares in (PRIORS, TRAINED))
    total = np.zeros(3)
    for classes in itertools.product(range(3), repeat=len(scores)):
        likely = prior[classes[0]]
        for one, other in itertools.pairwise(classes):
            likely *= TRANSITION[one][other]
        for place, kind in enumerate(classes):
            likely *= (scores[place][kind] / trained[kind]) ** weight
        total[classes[-1]] += likely
    return np.asarray(total / total.sum())


@pytest.mark.parametrize("weight", [1.0, 0.4])
def test_the_posterior_is_the_sum_over_all_sequences_of_classes(weight: float) -> None:
    stage = opened(transition=TRANSITION, priors=PRIORS, trained=TRAINED, weight=weight)
    for count in range(1, len(SCORES) + 1):
        found = posterior(stage, window(SCORES[count - 1].tolist()))
        np.testing.assert_allclose(found, by_all_sequences(SCORES[:count], weight), atol=2e-5)


def test_label_score_and_top_are_those_of_the_posterior() -> None:
    stage = opened(stay=0.99)
    for _ in range(5):
        stage(window([0.6, 0.3, 0.1]))
    result = stage(window([0.2, 0.7, 0.1])).result
    assert result.label == "a"
    assert result.score == result.posterior["a"] == result.top[0].score
    assert list(result.posterior) == ["a", "b", "c"]


def test_a_window_without_scores_has_the_posterior_that_follows_from_those_before() -> None:
    stage = opened(transition=TRANSITION, priors=PRIORS)
    before = posterior(stage, window([0.7, 0.2, 0.1]))
    found = posterior(stage, window(None))
    np.testing.assert_allclose(found, before @ np.array(TRANSITION), atol=2e-5)


def test_time_without_windows_is_as_many_steps() -> None:
    late, each = opened(transition=TRANSITION, rate=10.0), opened(transition=TRANSITION, rate=10.0)
    for stage in (late, each):
        stage(window([0.98, 0.01, 0.01], at=0.0))
    for step in range(1, 7):
        each(window(None, at=step / 10))
    np.testing.assert_allclose(
        posterior(late, window([0.3, 0.3, 0.4], at=0.7)),
        posterior(each, window([0.3, 0.3, 0.4], at=0.7)),
        atol=2e-5,
    )


def test_after_a_long_gap_the_prior_is_that_of_the_field() -> None:
    stage = opened(stay=0.999, priors=PRIORS, rate=10.0)
    stage(window([0.98, 0.01, 0.01]))
    np.testing.assert_allclose(posterior(stage, window(None, at=1e7)), list(PRIORS.values()), atol=1e-5)


def test_windows_that_come_faster_than_a_step_change_nothing_but_the_evidence() -> None:
    stage = opened(stay=0.0, priors=PRIORS, seconds=1)
    found = [posterior(stage, window(None if at else [0.9, 0.05, 0.05], at=at)) for at in (0, 0.2, 0.4)]
    np.testing.assert_allclose(found[1], found[0])
    np.testing.assert_allclose(found[2], found[0])


def test_a_clock_that_is_set_back_does_not_stop_the_filter() -> None:
    stage = opened(transition=TRANSITION, seconds=1)
    stage(window([0.9, 0.05, 0.05], at=1000))
    assert posterior(stage, window([0.05, 0.9, 0.05], at=10)).argmax() == 1
    assert posterior(stage, window([0.05, 0.05, 0.9], at=11)).argmax() == 2


def test_a_posterior_that_is_shown_as_the_threshold_reaches_it() -> None:
    stage = opened(transition=np.eye(3).tolist(), threshold=1.0)
    found = [stage(window([0.99, 0.005, 0.005])).result for _ in range(5)]
    assert found[0].abstained
    assert [one.abstained for one in found] == [one.score < 1.0 for one in found]
    assert not found[-1].abstained


def test_a_posterior_below_the_threshold_abstains() -> None:
    stage = opened(stay=0.5, threshold=0.9)
    result = stage(window([0.5, 0.4, 0.1])).result
    assert (result.label, result.abstained, result.score) == (None, True, result.posterior["a"])


def test_a_model_that_is_sure_and_wrong_is_overruled_and_comes_back() -> None:
    stage = opened(stay=0.9)
    for _ in range(9):
        stage(window([1.0, 0.0, 0.0]))
    found = [stage(window([0.0, 1.0, 0.0])).result.label for _ in range(3)]
    assert found[-1] == "b"


def noon(hour: int) -> int:
    return int(datetime(2026, 11, 28, hour, 30).timestamp()) * SECOND  # noqa: DTZ001 - the device's own time zone


@pytest.mark.parametrize(("hour", "night"), [(21, False), (22, True), (3, True), (6, False), (12, False)])
def test_priors_depend_on_the_hour(hour: int, *, night: bool) -> None:
    at_night = {"a": 0.9, "b": 0.05, "c": 0.05}
    stage = opened(stay=0.5, priors=PRIORS, when=[{"hours": [22, 6], "priors": at_night}])
    one = window(None)
    one.wall_ns = noon(hour)
    assert time.localtime(one.wall_ns / 1e9).tm_hour == hour
    np.testing.assert_allclose(posterior(stage, one), list((at_night if night else PRIORS).values()), atol=1e-5)


@pytest.mark.parametrize(("level", "applies"), [(2.0, True), (0.5, False)])
def test_priors_depend_on_another_channel(level: float, *, applies: bool) -> None:
    moving = {"a": 0.1, "b": 0.1, "c": 0.8}
    stage = opened(stay=0.5, priors=PRIORS, when=[{"channel": "level", "above": 1.0, "priors": moving}])
    samples = np.array([[9.0, level - 0.1], [9.0, level + 0.1]])
    found = posterior(stage, window(None, samples=samples))
    np.testing.assert_allclose(found, list((moving if applies else PRIORS).values()), atol=1e-5)


@pytest.mark.parametrize(("door", "applies"), [(1.0, True), (0.0, False), (float("nan"), False), (None, False)])
def test_priors_depend_on_a_channel_that_the_model_does_not_take(door: float | None, *, applies: bool) -> None:
    moving = {"a": 0.1, "b": 0.1, "c": 0.8}
    stage = opened(stay=0.5, priors=PRIORS, when=[{"channel": "door", "above": 0.5, "priors": moving}])
    beside = None if door is None else np.array([9.0, door], np.float32)
    found = posterior(stage, window(None, beside=beside))
    np.testing.assert_allclose(found, list((moving if applies else PRIORS).values()), atol=1e-5)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({}, "set transition or stay"),
        ({"stay": 0.9, "transition": TRANSITION}, "set transition or stay"),
        ({"transition": [[1.0]]}, "3 rows of 3 numbers"),
        ({"transition": [[0.5, 0.4, 0.0], *TRANSITION[1:]]}, "row 0 of transition adds up to 0.9"),
        ({"stay": 0.9, "priors": {"a": 0.5, "b": 0.5}}, "priors has no share of 'c'"),
        ({"stay": 0.9, "priors": {"a": 0.5, "b": 0.2, "d": 0.3}}, "'d', which is no label"),
        ({"stay": 0.9, "trained": {"a": 0.5, "b": 0.2, "c": 0.5}}, "add up to 1.2"),
        ({"stay": 0.9, "when": [{"priors": PRIORS}]}, "set hours or channel"),
        ({"stay": 0.9, "when": [{"priors": PRIORS, "channel": "speed"}]}, "above or below"),
        ({"stay": 0.9, "when": [{"priors": PRIORS, "channel": "x", "above": 1}]}, "takes speed, level"),
    ],
)
def test_what_cannot_work_is_refused_with_the_reason(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        opened(**options)


share = st.floats(0.01, 1)


@given(st.lists(st.tuples(share, share, share), min_size=3, max_size=3), st.tuples(share, share, share))
@example(  # The first class always changes. What was left for it to stay was -2e-16.
    rows=[
        (0.7777024037223592, 0.11980289841944056, 0.46762592977809125),
        (0.13949457386324676, 0.25, 0.1015625),
        (0.9045724342885476, 0.030432502963882307, 0.7556067243429321),
    ],
    wanted=(0.23089316387875589, 0.016297852835212918, 0.875),
)
@settings(max_examples=50)
def test_a_conditioned_chain_has_the_shares_that_are_wanted(rows: Any, wanted: Any) -> None:
    flows = np.array(rows) + np.array(rows).T  # As many changes one way as the other.
    usual, transition = flows.sum(axis=1) / flows.sum(), flows / flows.sum(axis=1, keepdims=True)
    now = np.array(wanted) / sum(wanted)
    found = _chain.conditioned(transition, usual, now)
    assert (found >= 0).all()
    np.testing.assert_allclose(found.sum(axis=1), 1)
    np.testing.assert_allclose(now @ found, now, atol=1e-12)
    changes = [shares @ (1 - np.diag(chain)) for shares, chain in ((usual, transition), (now, found))]
    assert changes[1] <= changes[0] + 1e-12


def test_the_stationary_shares_are_those_of_the_chain_that_alternates_too() -> None:
    np.testing.assert_allclose(_chain.stationary(np.array([[0.0, 1.0], [1.0, 0.0]])), [0.5, 0.5])
    found = _chain.stationary(np.array(TRANSITION))
    np.testing.assert_allclose(found @ np.array(TRANSITION), found, atol=1e-9)


numbers = st.floats(width=32) | st.sampled_from([float("nan"), float("inf"), -1.0, 0.0, 1.0, 3e38])


@given(
    st.lists(st.tuples(st.lists(numbers, min_size=3, max_size=3), st.floats(-1e6, 1e6)), min_size=1, max_size=6)
)
@settings(max_examples=50)
def test_whatever_a_decoder_gives_the_posterior_is_one(windows: Any) -> None:
    stage = opened(transition=TRANSITION, seconds=0.5)
    for scores, at in windows:
        with np.errstate(all="ignore"):
            found = posterior(stage, window(scores, at=at))
        assert np.isfinite(found).all()
        assert found.sum() == pytest.approx(1, abs=1e-4)
