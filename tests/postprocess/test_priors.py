"""Weights of classes, where they are more or less frequent than in the training data."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limpet.contracts.data import Window
from limpet.contracts.outputs import Classification, ScoredLabel
from limpet.contracts.stage import Spec
from limpet.postprocess import priors

SPEC = Spec(shape=(1, 3), dtype=np.dtype(np.float32), labels=("idle", "walk", "fault"))


def weighted(scores: list[float] | None, top: int = 3, **options: object) -> Window:
    stage = priors.open(msgspec.convert(options, priors.Config), SPEC)
    values = None if scores is None else np.array(scores, np.float32)
    ranked = [] if scores is None else [ScoredLabel(SPEC.labels[n], scores[n]) for n in range(top)]
    given = Classification(
        ranked[0].label if ranked else None, ranked[0].score if ranked else None, ranked, not ranked
    )
    return stage(Window(np.zeros((1, 3), np.float32), 0, 0, 0, result=given, scores=values))


def test_the_scores_are_those_of_bayes_rule() -> None:
    trained, here, scores = np.array([0.5, 0.3, 0.2]), np.array([0.8, 0.19, 0.01]), np.array([0.2, 0.3, 0.5])
    expected = scores / trained * here
    expected /= expected.sum()
    weights = dict(zip(SPEC.labels, (here / trained).tolist(), strict=True))
    window = weighted(scores.tolist(), weights=weights)
    assert window.scores == pytest.approx(expected, abs=1e-6)
    assert window.result.label == "idle"
    assert [one.label for one in window.result.top] == ["idle", "walk", "fault"]
    assert window.result.score == pytest.approx(expected[0])


def test_as_many_labels_are_reported_as_before_and_the_threshold_is_of_the_new_scores() -> None:
    window = weighted([0.5, 0.3, 0.2], top=1, weights={"fault": 5.0}, threshold=0.6)
    assert (window.result.label, window.result.abstained) == (None, True)
    assert [one.label for one in window.result.top] == ["fault"]
    assert not weighted([0.5, 0.3, 0.2], weights={"fault": 50.0}, threshold=0.6).result.abstained


def test_a_window_without_scores_stays_as_it_is() -> None:
    assert weighted(None, weights={"fault": 5.0}).result == Classification(None, None, [], True)
    nothing = weighted([0.0, 0.0, 0.0], weights={"fault": 5.0})
    assert nothing.result.label == "idle"


def test_a_class_that_the_model_does_not_have_is_refused() -> None:
    with pytest.raises(ValueError, match="weights: the model has no class 'run'"):
        weighted([0.5, 0.3, 0.2], weights={"run": 2.0})


@given(st.lists(st.floats(0, 1, width=32), min_size=3, max_size=3), st.floats(1e-3, 1e3))
def test_any_scores_give_probabilities(scores: list[float], weight: float) -> None:
    window = weighted(scores, weights={"walk": weight})
    assert window.scores is not None
    total = float(window.scores.sum())
    assert total == pytest.approx(1, abs=1e-3) or not any(scores) or sum(scores) < 1e-30
