"""Metrics of a model on data with known answers, and of two models' differences. Pure functions of arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from limpet.contracts.data import Array, FloatArray

Metrics: TypeAlias = "dict[str, Any]"
BINS = 15
_EPSILON = 1e-12


def classification(scores: FloatArray, targets: Array, labels: Sequence[str]) -> Metrics:
    """Return accuracy, ECE, macro AUC and F1, and precision, recall, F1 a class.

    ``scores`` ``(n, classes)``, of which the largest wins; ``targets`` ``(n,)`` class indices.
    """
    said = scores.argmax(axis=1)
    classes = {label: _one_class(scores[:, i], said == i, targets == i) for i, label in enumerate(labels)}
    known = [c for c in classes.values() if c["count"]]
    return {
        "accuracy": float((said == targets).mean()),
        "f1": float(np.mean([c["f1"] for c in known])) if known else 0.0,
        "auc": float(np.mean([c["auc"] for c in known])) if known else 0.0,
        "ece": calibration_error(probabilities(scores), targets),
        "classes": classes,
        "confusion": confusion(said, targets, len(labels)).tolist(),
    }


def _one_class(scores: FloatArray, said: Array, true: Array) -> Metrics:
    return precision_recall(said, true) | {"auc": auc(scores, true), "count": int(true.sum())}


def precision_recall(said: Array, true: Array) -> Metrics:
    """Return precision, recall and F1 of two boolean arrays; 0 where there is nothing to divide by."""
    return precision_recall_of(int((said & true).sum()), int(said.sum()), int(true.sum()))


def precision_recall_of(right: int, said: int, true: int) -> Metrics:
    """Return the same of counts: right ones among those ``said`` and those that are ``true``."""
    precision, recall = right / max(said, 1), right / max(true, 1)
    return {
        "precision": precision,
        "recall": recall,
        "f1": 2 * precision * recall / max(precision + recall, _EPSILON),
    }


def auc(scores: Array, true: Array) -> float:
    """Return the area under the ROC curve: Mann and Whitney's U over ranks; .5 where one side is empty."""
    positive, negative = int(true.sum()), int((~true).sum())
    if not positive or not negative:
        return 0.5
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return float((ranks[true].sum() - positive * (positive + 1) / 2) / (positive * negative))


def probabilities(scores: FloatArray) -> FloatArray:
    """Return rows that sum to 1: as they are if they do already, else their softmax."""
    if (scores >= 0).all() and np.allclose(scores.sum(axis=1), 1, atol=0.1):
        return scores
    shifted = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True), np.float32)


def calibration_error(chances: FloatArray, targets: Array) -> float:
    """Return the expected calibration error of Naeini and others (2015) over 15 bins of equal width."""
    sure = chances.max(axis=1)
    right = chances.argmax(axis=1) == targets
    which = np.minimum((sure * BINS).astype(int), BINS - 1)
    gaps = [
        abs(float(right[which == b].mean()) - float(sure[which == b].mean())) * float((which == b).mean())
        for b in np.unique(which)
    ]
    return float(sum(gaps))


def confusion(said: Array, targets: Array, classes: int) -> Array:
    """Return counts ``(true class, said class)``."""
    table = np.zeros((classes, classes), np.int64)
    np.add.at(table, (targets.astype(int), said.astype(int)), 1)
    return table


def anomaly(scores: FloatArray, targets: Array, threshold: float) -> Metrics:
    """Return AUC of the scores, and precision, recall and F1 where a score at or above the threshold is one."""
    true = targets.astype(bool)
    return {"auc": auc(scores, true), **precision_recall(scores >= threshold, true)}


def regression(values: FloatArray, targets: Array) -> Metrics:
    """Return mean absolute error, root mean square error and R² of values ``(n, outputs)``."""
    error = values - targets.reshape(values.shape)
    spread = float(((targets - targets.mean(axis=0)) ** 2).sum())
    return {
        "mae": float(np.abs(error).mean()),
        "rmse": float(np.sqrt((error**2).mean())),
        "r2": 1 - float((error**2).sum()) / max(spread, _EPSILON),
    }
