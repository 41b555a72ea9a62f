"""Metrics against figures worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from limpet_convert import metrics

LABELS = ["a", "b", "c"]


def test_classification_by_hand() -> None:
    scores = np.array([[0.8, 0.1, 0.1], [0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.1, 0.2, 0.7]], np.float32)
    found = metrics.classification(scores, np.array([0, 1, 1, 2]), LABELS)
    assert found["accuracy"] == 0.75
    assert found["classes"]["a"] | {"auc": 0, "f1": 0} == {
        "precision": 0.5,
        "recall": 1,
        "f1": 0,
        "auc": 0,
        "count": 1,
    }
    assert found["classes"]["b"]["recall"] == 0.5
    assert found["confusion"] == [[1, 0, 0], [1, 1, 0], [0, 0, 1]]


def test_a_sure_and_right_model_has_no_calibration_error_a_sure_and_wrong_one_all() -> None:
    sure = np.eye(3, dtype=np.float32)
    assert metrics.calibration_error(sure, np.array([0, 1, 2])) == 0
    assert metrics.calibration_error(sure, np.array([1, 2, 0])) == 1
    half = np.full((10, 2), 0.5, np.float32)
    assert metrics.calibration_error(half, np.array([0, 1] * 5)) == pytest.approx(0)


def test_logits_become_probabilities_and_probabilities_stay() -> None:
    logits = np.array([[1000.0, 0.0]], np.float32)
    assert metrics.probabilities(logits).tolist() == [[1, 0]]
    assert metrics.probabilities(np.array([[0.3, 0.7]], np.float32)) == pytest.approx(np.array([[0.3, 0.7]]))


def test_auc_counts_ties_half() -> None:
    assert metrics.auc(np.array([1, 2, 3, 4]), np.array([False, False, True, True])) == 1
    assert metrics.auc(np.array([1, 1, 1, 1]), np.array([False, False, True, True])) == 0.5
    assert metrics.auc(np.array([1, 2]), np.array([True, True])) == 0.5


def test_anomalies_at_the_threshold_count() -> None:
    found = metrics.anomaly(np.array([0.1, 0.5, 0.5, 0.9], np.float32), np.array([0, 0, 1, 1]), 0.5)
    assert (found["precision"], found["recall"]) == (pytest.approx(2 / 3), 1)


def test_regression_by_hand() -> None:
    found = metrics.regression(np.array([[1.0], [2.0], [3.0]], np.float32), np.array([1.0, 2.0, 5.0]))
    assert found["mae"] == pytest.approx(2 / 3)
    assert found["rmse"] == pytest.approx(np.sqrt(4 / 3))
    assert found["r2"] == pytest.approx(1 - 4 / (26 / 3))
