"""How good a model is on recordings that it did not learn from, and how sure that is. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from limpet_convert import metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from limpet.contracts.data import Array, FloatArray
    from limpet_convert.metrics import Metrics

RESAMPLES = 1000
FEWEST = 5
"""Recordings for an interval."""
PERMUTATIONS = 1000
CHANCE = 0.05
_SEED = 1
_Z = 1.96


@dataclass(frozen=True)
class Interval:
    """A 95 % interval."""

    low: float
    high: float


def balanced_accuracy(said: Array, true: Array) -> float:
    """Return the mean over the classes of the share of their windows that is recognised."""
    return float(np.mean([(said[true == one] == one).mean() for one in np.unique(true)]))


def interval(groups: Array, statistic: Callable[[Array], float]) -> Interval | None:
    """Return the interval of a statistic by resampling whole recordings: windows of one recording are alike.

    ``groups``: the recording of each window. ``statistic`` takes positions of windows. ``None`` for too few
    recordings. This is the percentile bootstrap over clusters (Field and Welsh, 2007). Where a share is 1
    or 0 in all recordings, resampling shows nothing: the other end is then Wilson's (1927) for so many recordings.
    """
    names = np.unique(groups)
    if len(names) < FEWEST:
        return None
    members = [np.flatnonzero(groups == name) for name in names]
    random = np.random.default_rng(_SEED)
    found = [
        statistic(np.concatenate([members[n] for n in random.integers(len(names), size=len(names))]))
        for _ in range(RESAMPLES)
    ]
    low, high = np.nanpercentile(found, [2.5, 97.5])
    if low == high == 1:
        low = len(names) / (len(names) + _Z**2)
    elif low == high == 0:
        high = _Z**2 / (len(names) + _Z**2)
    return Interval(float(low), float(high))


def by_piece(chances: FloatArray, true: Array, pieces: Array) -> float:
    """Return the share of pieces whose class has the highest mean probability over their windows."""
    right = [chances[pieces == one].mean(axis=0).argmax() == true[pieces == one][0] for one in np.unique(pieces)]
    return float(np.mean(right))


def chance(said: Array, true: Array, pieces: Array) -> float:
    """Return how often labels dealt to the pieces at random agree as well with the model: a permutation test.

    All windows of a piece keep one label.
    """
    names, first = np.unique(pieces, return_index=True)
    place = np.searchsorted(names, pieces)
    labels = true[first]
    observed = balanced_accuracy(said, true)
    random = np.random.default_rng(_SEED)
    as_good = sum(
        balanced_accuracy(said, random.permutation(labels)[place]) >= observed - 1e-12 for _ in range(PERMUTATIONS)
    )
    return (as_good + 1) / (PERMUTATIONS + 1)


def fewest_chance(labels: Sequence[str]) -> float:
    """Return the smallest chance that so few pieces can show: 1 by the number of ways to deal the labels out."""
    _, counts = np.unique(labels, return_counts=True)
    ways, left = 1.0, int(counts.sum())
    for count in counts:
        for n in range(int(count)):
            ways *= left / (n + 1)
            left -= 1
    return 1 / ways


def classification(
    chances: FloatArray, true: Array, labels: Sequence[str], recordings: Array, names: Sequence[str]
) -> dict[str, Any]:
    """Return metrics, intervals, baselines, the confusion matrix and the result of each recording.

    ``chances``: ``(n, classes)``; ``true``: ``(n,)``; ``recordings``: the recording of each window, as a position
    in ``names``.
    """
    found = metrics.classification(chances, true, labels)
    said = chances.argmax(axis=1)
    counts = np.bincount(true, minlength=len(labels))
    figures = {
        "accuracy": found["accuracy"],
        "balanced_accuracy": balanced_accuracy(said, true),
        "f1": found["f1"],
    }
    statistics: Mapping[str, Callable[[Array], float]] = {
        "accuracy": lambda at: float((said[at] == true[at]).mean()),
        "balanced_accuracy": lambda at: balanced_accuracy(said[at], true[at]),
    }
    intervals = {name: interval(recordings, statistic) for name, statistic in statistics.items()}
    return {
        **figures,
        "auc": found["auc"],
        "intervals": {name: [one.low, one.high] for name, one in intervals.items() if one},
        "baselines": {"chance": 1 / len(labels), "majority": float(counts.max() / counts.sum())},
        "classes": found["classes"],
        "confusion": found["confusion"],
        "recordings": _by_recording(said == true, recordings, names),
        "windows": len(true),
    }


def _by_recording(right: Array, recordings: Array, names: Sequence[str]) -> list[Metrics]:
    return [
        {
            "file": names[one],
            "windows": int((recordings == one).sum()),
            "accuracy": float(right[recordings == one].mean()),
        }
        for one in np.unique(recordings)
    ]
