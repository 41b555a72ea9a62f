"""Sets and intervals: their coverage on data that nobody has seen, and numbers that crepes and MAPIE give."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limpet.contracts.data import Window
from limpet.contracts.outputs import Classification, Regression, ScoredLabel
from limpet.contracts.stage import Spec
from limpet.postprocess import conformal

LABELS = ("a", "b", "c", "d")
SPEC = Spec(shape=(1, 4), dtype=np.dtype(np.float32), labels=LABELS)
GIVEN = Classification("a", 0.5, [ScoredLabel("a", 0.5)], False)


def opened(spec: Spec = SPEC, **options: Any) -> Any:
    return conformal.open(msgspec.convert(options, conformal.Config), spec)


def found(scores: list[float] | None, ordinal: int = 0, **options: Any) -> Classification:
    given = None if scores is None else np.array(scores, np.float32)
    window = Window(np.zeros((1, 4)), 0, 0, ordinal, result=GIVEN, scores=given)
    result: Classification = opened(**options)(window).result
    return result


def test_lac_takes_all_classes_that_are_probable_enough_best_first() -> None:
    assert found([0.2, 0.5, 0.05, 0.25], quantile=0.8).set == ["b", "d", "a"]
    assert found([0.2, 0.5, 0.05, 0.25], quantile=0.5).set == ["b"]


def test_aps_takes_the_most_probable_classes_until_they_add_up_to_enough() -> None:
    assert found([0.2, 0.5, 0.05, 0.25], quantile=0.94, method="aps").set == ["b", "d"]
    assert found([0.2, 0.5, 0.05, 0.25], quantile=0.97, method="aps").set == ["b", "d", "a"]


def test_a_set_has_the_best_class_unless_it_may_be_empty() -> None:
    assert found([0.4, 0.3, 0.2, 0.1], quantile=0.5).set == ["a"]
    assert found([0.4, 0.3, 0.2, 0.1], quantile=0.5, empty=True).set == []


@pytest.mark.parametrize(("quantile", "label"), [(0.65, "a"), (0.75, None), (0.1, None)])
def test_a_set_that_is_too_large_or_empty_abstains(quantile: float, label: str | None) -> None:
    result = found([0.4, 0.3, 0.2, 0.1], quantile=quantile, empty=True, most=1)
    assert (result.label, result.abstained, result.score) == (label, label is None, 0.5)


def test_a_window_without_scores_has_no_set() -> None:
    assert found(None, quantile=0.5) == GIVEN


def test_the_same_window_has_the_same_set_and_chance_differs_from_window_to_window() -> None:
    options: dict[str, Any] = {"quantile": 0.5, "method": "aps", "random": True, "empty": True}
    sets = [found([0.9, 0.05, 0.03, 0.02], ordinal, **options).set for ordinal in range(400)]
    assert sets == [found([0.9, 0.05, 0.03, 0.02], ordinal, **options).set for ordinal in range(400)]
    assert 0.45 < sum(bool(one) for one in sets) / 400 < 0.66  # 0.5 / 0.9


def test_chance_is_uniform() -> None:
    drawn = np.array([conformal.uniform(ordinal) for ordinal in range(0, 640_000, 64)])
    counts = np.histogram(drawn, 10, (0, 1))[0]
    assert len(drawn) == counts.sum() == 10_000
    assert abs(counts - 1000).max() < 150  # Five standard deviations.


def drawn(count: int, seed: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return probabilities of classes, and classes drawn from them."""
    random = np.random.default_rng(seed)
    probabilities = random.dirichlet([0.3] * 4, count)
    classes = (probabilities.cumsum(axis=1) > random.random((count, 1))).argmax(axis=1)
    return probabilities, classes


@pytest.mark.parametrize("method", ["lac", "aps"])
@pytest.mark.parametrize("coverage", [0.7, 0.9])
def test_sets_hold_the_true_class_with_the_stated_coverage(method: conformal.Method, coverage: float) -> None:
    probabilities, classes = drawn(40_000, 1)
    half = len(classes) // 2
    uniform = np.array([conformal.uniform(ordinal) for ordinal in range(len(classes))])
    unlike = conformal.nonconformity(probabilities, method, uniform)[np.arange(len(classes)), classes]
    limit = conformal.quantile(unlike[:half], coverage)
    stage = opened(quantile=limit, coverage=coverage, method=method, random=method == "aps", empty=True)
    held = 0
    for ordinal in range(half, half + 4000):
        scores = probabilities[ordinal].astype(np.float32)
        window = stage(Window(np.zeros((1, 4)), 0, 0, ordinal, result=GIVEN, scores=scores))
        held += LABELS[classes[ordinal]] in window.result.set
    assert held / 4000 == pytest.approx(coverage, abs=0.03)  # More than four standard deviations.


def test_the_quantile_is_the_smallest_that_is_enough_with_the_new_window() -> None:
    scores = np.arange(1, 20) / 20
    assert conformal.quantile(scores, 0.9) == 0.9  # ceil(20 * 0.9) = 18th
    assert conformal.quantile(scores, 0.91) == 0.95
    with pytest.raises(ValueError, match=r"19 windows are too few for a coverage of 0.96; at least 24"):
        conformal.quantile(scores, 0.96)


def test_sets_and_intervals_are_those_of_crepes_and_mapie() -> None:
    probabilities, classes = drawn(200, 7)
    limit = conformal.quantile(conformal.nonconformity(probabilities, "lac")[np.arange(200), classes], 0.9)
    assert limit == pytest.approx(0.8182532727231338)  # MAPIE 1.6
    held = conformal.nonconformity(drawn(6, 8)[0], "lac") <= limit
    # crepes 0.9 and MAPIE 1.6
    assert held.astype(int).tolist() == [
        [0, 0, 1, 0], [0, 0, 0, 1], [0, 0, 1, 0], [0, 0, 1, 1], [0, 0, 0, 1], [1, 0, 0, 0],
    ]  # fmt: skip
    errors = np.abs(np.random.default_rng(9).normal(size=50))
    assert conformal.quantile(errors, 0.9) == pytest.approx(1.83706811)  # crepes 0.9


REGRESSION = Regression({"a": 2.0, "b": None, "c": -1.0}, {"a": "m"}, in_range=True, out_of_range=[])


def test_intervals_reach_as_far_as_the_quantile_to_both_sides() -> None:
    stage = opened(quantiles={"a": 0.5, "b": 1.0})
    result = stage(Window(np.zeros(3), 0, 0, 0, result=REGRESSION)).result
    assert result.intervals == {"a": (1.5, 2.5)}
    assert result.values == REGRESSION.values


@pytest.mark.parametrize(("aim", "reach"), [(None, 2.0), (0.95, 3.0), (0.8, 1.0), (0.85, 1.5)])
def test_the_coverage_that_is_aimed_at_chooses_between_levels(aim: float | None, reach: float) -> None:
    stage = opened(quantiles={"a": [1.0, 2.0, 3.0]}, levels=[0.8, 0.9, 0.95], aim=aim)
    low, high = stage(Window(np.zeros(3), 0, 0, 0, result=REGRESSION)).result.intervals["a"]
    assert (high - low) / 2 == pytest.approx(reach)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({}, "set quantile, for classes, or quantiles"),
        ({"quantile": 0.5, "quantiles": {"a": 1}}, "set quantile, for classes, or quantiles"),
        ({"quantile": [0.5, 0.6]}, "2 quantiles for 1 levels"),
        ({"quantile": [0.5, 0.6], "levels": [0.95, 0.9]}, "levels must rise"),
        ({"quantile": [0.5, 0.6], "levels": [0.8, 0.95], "aim": 0.99}, "within levels"),
        ({"quantile": 0.5, "aim": 0.95}, "aim needs levels"),
        ({"quantile": 0.5, "random": True}, 'random goes with method = "aps"'),
        ({"quantiles": {"x": 1}}, "quantiles has 'x'; the model gives a"),
        ({"quantile": float("nan")}, "quantile"),
    ],
)
def test_what_cannot_work_is_refused_with_the_reason(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        opened(**options)


numbers = st.floats(width=32)


@given(
    scores=st.lists(numbers, min_size=4, max_size=4),
    quantile=st.floats(0, 2),
    method=st.sampled_from(["lac", "aps"]),
    empty=st.booleans(),
)
@settings(max_examples=60)
def test_whatever_a_decoder_gives_a_set_has_each_class_once(
    scores: list[float], quantile: float, method: str, *, empty: bool
) -> None:
    with np.errstate(all="ignore"):
        result = found(scores, quantile=quantile, method=method, empty=empty)
    assert result.set is not None
    assert len(set(result.set)) == len(result.set)
    assert empty or result.set
