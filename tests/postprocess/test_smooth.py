from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from limpet.contracts.data import Window
from limpet.contracts.outputs import Classification, Labels, ScoredLabel
from limpet.contracts.stage import Spec
from limpet.postprocess import smooth

SPEC = Spec(shape=(1, 3), dtype=np.dtype(np.float32))
NOTHING = Classification(None, None, [], True)


def through(results: list[Any], **options: Any) -> list[Any]:
    stage = smooth.open(msgspec.convert(options, smooth.Config), SPEC)
    return [stage(Window(np.zeros((1, 3)), 0, 0, 0, result=one)).result for one in results]


def classes(a: float, b: float) -> Classification:
    top = [ScoredLabel("a", a), ScoredLabel("b", b)]
    top.sort(key=lambda one: -(one.score or 0.0))
    return Classification(top[0].label, top[0].score, top, False)


def scores(results: list[Any]) -> list[tuple[str | None, float | None]]:
    return [(one.label, one.score) for one in results]


def test_the_mean_is_over_the_last_windows_alone() -> None:
    found = through([classes(1, 0), classes(0.2, 0.8), classes(0.1, 0.9)], windows=2)
    assert scores(found) == [("a", 1.0), ("a", 0.6), ("b", 0.85)]
    assert found[2].top == [ScoredLabel("b", 0.85), ScoredLabel("a", 0.15)]


def test_below_the_threshold_it_abstains() -> None:
    (one,) = through([classes(0.4, 0.3)], windows=2, threshold=0.5)
    assert (one.label, one.score, one.abstained) == (None, 0.4, True)


def test_votes_are_counted_and_a_tie_goes_to_the_latest() -> None:
    found = through([classes(0.9, 0.1), classes(0.4, 0.6), classes(0.4, 0.6)], windows=3, method="vote")
    assert scores(found) == [("a", 1.0), ("b", 0.5), ("b", pytest.approx(2 / 3, abs=1e-5))]


def test_a_window_without_numbers_does_not_count() -> None:
    found = through([classes(0.8, 0.2), NOTHING, classes(0.6, 0.4)], windows=2)
    assert scores(found) == [("a", 0.8), ("a", 0.8), ("a", 0.7)]


def test_before_the_first_number_it_abstains() -> None:
    assert through([NOTHING], windows=2) == [NOTHING]


def test_a_window_that_abstains_has_no_vote() -> None:
    unsure = Classification(None, 0.3, [ScoredLabel("a", 0.3)], True)
    found = through([classes(0.9, 0.1), unsure], windows=2, method="vote")
    assert scores(found) == [("a", 1.0), ("a", 0.5)]


def test_labels_that_apply_are_averaged_each_for_itself() -> None:
    heard = [Labels([ScoredLabel("dog", 0.9), ScoredLabel("cat", 0.4)], False), Labels([], False)]
    assert [one.labels for one in through(heard, windows=2, threshold=0.45)] == [
        [ScoredLabel("dog", 0.9)],
        [ScoredLabel("dog", 0.45)],
    ]
