"""What a model is worth on data with known answers, and how two models differ. Pure functions of arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from limpet.types import Array, FloatArray

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
    right = int((said & true).sum())
    precision, recall = right / max(int(said.sum()), 1), right / max(int(true.sum()), 1)
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


def mean_average_precision(
    found: Sequence[Sequence[tuple[Array, int, float]]],
    true: Sequence[Sequence[tuple[Array, int]]],
    overlap: float = 0.5,
) -> float:
    """Return the mean over classes of the average precision, all points (PASCAL VOC 2010).

    An image's ``found`` are boxes ``(top, left, bottom, right)`` with class and score; ``true`` boxes with class.
    """
    classes = {kind for image in true for _, kind in image}
    if not classes:
        return 0.0
    return float(np.mean([_average_precision(found, true, kind, overlap) for kind in sorted(classes)]))


def _average_precision(
    found: Sequence[Sequence[tuple[Array, int, float]]],
    true: Sequence[Sequence[tuple[Array, int]]],
    kind: int,
    overlap: float,
) -> float:
    boxes = [[box for box, k in image if k == kind] for image in true]
    said = [(score, i, box) for i, image in enumerate(found) for box, k, score in image if k == kind]
    taken: list[set[int]] = [set() for _ in boxes]
    hits = []
    for _, image, box in sorted(said, key=lambda one: -one[0]):
        overlaps = [(_overlap(box, other), j) for j, other in enumerate(boxes[image]) if j not in taken[image]]
        best, j = max(overlaps, default=(0.0, -1))
        hits.append(best >= overlap)
        if hits[-1]:
            taken[image].add(j)
    right = np.cumsum(hits)
    precision = right / np.arange(1, len(hits) + 1)
    smooth = np.maximum.accumulate(precision[::-1])[::-1]
    recall = np.concatenate([[0], right / max(sum(map(len, boxes)), 1)])
    return float((np.diff(recall) * smooth).sum()) if hits else 0.0


def _overlap(a: Array, b: Array) -> float:
    """Return intersection over union."""
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    both = float(np.prod(np.maximum(sides, 0)))
    union = float(np.prod(a[2:] - a[:2])) + float(np.prod(b[2:] - b[:2])) - both
    return both / union if union > 0 else 0.0
