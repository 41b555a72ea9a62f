"""Regress and anomaly: what is learned from, the threshold, and Mahalanobis' distance as a layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from limpet_convert.errors import ConvertError
from limpet_convert.training import curve, mahalanobis, problem, proposals, recorded, tasks
from limpet_convert.training.tasks import Answers
from support.recorded_motion import RATE, motion, write

if TYPE_CHECKING:
    from pathlib import Path

    from limpet_convert.training.problem import Problem


def normal_and(folder: Path, label: str) -> Problem:
    parts = [[("normal", motion("walk", 6, n)), (label, motion("shake", 2, n))] for n in range(6)]
    return problem.anomaly(recorded.read(write(folder, parts)), None)


def test_anomalies_measure_and_are_never_learned_from(tmp_path: Path) -> None:
    found = normal_and(tmp_path, "jammed")
    assert {piece.label for piece in found.pieces} == {"", "jammed"}
    lesson = tasks.lesson(found, 0.01)
    assert lesson.learnable(np.array([0, 1, 0])).tolist() == [True, False, True]


def test_without_the_label_normal_all_without_a_label_is_normal(tmp_path: Path) -> None:
    parts = [[("", motion("walk", 6, n)), ("jammed", motion("shake", 2, n))] for n in range(3)]
    found = problem.anomaly(recorded.read(write(tmp_path, parts)), None)
    assert sum(len(piece.values) for piece in found.pieces if not piece.label) == 3 * 300


def test_too_little_that_is_normal_is_refused_with_how_much_is_needed(tmp_path: Path) -> None:
    folder = write(tmp_path, [[("normal", motion("walk", 2, 1)), ("", motion("walk", 20, 2))]])
    with pytest.raises(ConvertError, match="100 samples are normal; 200 or more"):
        problem.anomaly(recorded.read(folder), None)


def test_without_anomalies_there_is_one_proposal_and_it_is_said_why(tmp_path: Path) -> None:
    found = problem.anomaly(recorded.read(write(tmp_path, [[("", motion("walk", 9, n))] for n in range(3)])), None)
    plan = proposals.of_normal(found.pieces, RATE, (), measured=False)
    assert [(one.features.network, one.features.name) for one in plan.candidates] == [("mahalanobis", "spectrum")]
    assert "No anomaly is labelled" in plan.reasons[-1]


def test_the_threshold_keeps_the_rate_of_false_alarms(tmp_path: Path) -> None:
    found = normal_and(tmp_path, "jammed")
    random = np.random.default_rng(1)
    scores = np.concatenate([random.normal(1, 0.1, 2000), random.normal(3, 0.1, 100)]).astype(np.float32)[
        :, np.newaxis
    ]
    true = np.repeat([0, 1], [2000, 100])
    strange = next(n for n, piece in enumerate(found.pieces) if piece.label)
    answers = Answers(scores, true, np.arange(2100) % 6, np.where(true, strange, 0))
    figures = tasks.lesson(found, 0.02).figures(answers)
    assert figures["false_alarms"] <= 0.02
    assert figures["anomalies"]["jammed"] == {"windows": 100, "found": 1.0}
    assert figures["auc"] == 1.0
    further = random.normal(1, 0.1, 20_000) >= figures["threshold"]
    assert 0.01 < further.mean() < 0.03
    fixed = tasks.lesson(found, 0.02, threshold=2.0).figures(answers)
    assert (fixed["threshold"], fixed["false_alarms"]) == (2.0, 0.0)
    few = tasks.lesson(found, 0.02).figures(Answers(scores[:20], true[:20], np.zeros(20, int), np.zeros(20, int)))
    assert few["threshold"] > scores[:20].max()


def test_the_error_of_the_layer_is_the_distance_of_mahalanobis() -> None:
    random = np.random.default_rng(1)
    mixed = np.array([[2, 0.5, 0], [0, 1, 0.3], [0, 0, 0.5]])
    normal = (random.normal(size=(5000, 3)) @ mixed + [1, 2, 3]).astype(np.float32)
    kernel, bias = mahalanobis.layer(normal)
    strange = np.array([[4, 0, 3.5], [1, 2, 3]], np.float32)
    error = np.square(strange @ kernel + bias - strange).mean(axis=1)
    away = strange - normal.mean(axis=0)
    squared = np.einsum("nd,de,ne->n", away, np.linalg.inv(np.cov(normal.T)), away)
    assert error == pytest.approx(squared / 3, rel=0.02, abs=0.01)


def test_a_channel_or_numbers_as_labels_are_estimated_and_words_are_not(tmp_path: Path) -> None:
    folder = write(
        tmp_path / "a", [[("1.5", motion("walk", 4, n)), ("3", motion("shake", 4, n))] for n in range(3)]
    )
    session = recorded.read(folder)
    by_label = problem.regress(session, "", None)
    assert {float(piece.target[0]) for piece in by_label.pieces if piece.target is not None} == {1.5, 3.0}
    by_channel = problem.regress(session, "az", None)
    assert by_channel.channels == ("ax", "ay")
    assert by_channel.pieces[0].target is not None
    assert np.array_equal(by_channel.pieces[0].target, session.recordings[0].values[:, 2])
    words = recorded.read(write(tmp_path / "b", [[("walk", motion("walk", 4, 1))]]))
    with pytest.raises(ConvertError, match="'walk' is no number"):
        problem.regress(words, "", None)
    with pytest.raises(ConvertError, match="no channel 'temperature'"):
        problem.regress(words, "temperature", None)


def point(share: float, score: float, **recall: float) -> dict[str, Any]:
    return {"share": share, "score": score, "recall": recall}


def test_advice_says_of_which_label_more_would_help() -> None:
    figures = {"classes": {"a": 0, "b": 0, "c": 0}, "confusion": [[9, 1, 0], [0, 7, 3], [0, 0, 9]]}
    found = curve.advice([point(0.5, 0.8, a=0.7, b=0.7, c=1.0), point(1.0, 0.9, a=0.9, b=0.7, c=1.0)], figures)
    assert [line[:24] for line in found] == ["More recordings of 'a' w", "70% of 'b' is recognised"]
    assert "mostly taken for 'c'" in found[1]
    assert curve.advice([point(0.5, 1.0, a=1.0), point(1.0, 1.0, a=1.0)], figures) == [
        "More of the same recordings would help little."
    ]
