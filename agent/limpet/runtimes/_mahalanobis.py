"""What is normal, from windows of which some may not be: a robust Mahalanobis distance and its threshold. No I/O.

Decision 0033 has the measurements behind the constants.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from limpet.contracts.data import FloatArray

Doubles: TypeAlias = NDArray[np.float64]

_KEEP = 0.9
"""Share of the windows that count as normal: those that are closest together."""
_STEPS = 5
"""Rounds in which that share is chosen again, by the distances that it gives."""
_FAR = 1000.0
"""Deviations from the median, in units of the spread, beyond which a value counts as no farther."""
_RIDGE = 1e-3
"""Added to each variance, which is about 1: keeps channels that say the same from dividing by zero."""
_GROSS = 2.0
"""Windows farther away than so many times the distance that 90 % keep do not count for the threshold."""
_REST = 1e-3
"""Spread of a channel at rest, as a share of its value."""
_NEAR = 1.0
"""The threshold is at least this distance. Windows that never change are all at 0, and 0 is no anomaly."""
_QUARTILES = 1.349
"""Between the quartiles of a normal distribution, in standard deviations."""
_LARGEST = 1e30
"""No value is larger here: its square is still a number."""


class Normal(NamedTuple):
    """What was learned. ``center`` and ``spread`` make values comparable; the rest is in their units.

    Each has ``d`` values, float64, and ``precision`` has the shape ``(d, d)``.
    """

    center: Doubles
    spread: Doubles
    mean: Doubles
    precision: Doubles

    def distances(self, windows: FloatArray) -> Doubles:
        """Return how far each window is from normal, float64 ``(n,)``, for windows ``(n, d)``."""
        apart = _comparable(windows, self.center, self.spread) - self.mean
        squares: Doubles = np.einsum("ij,ij->i", apart @ self.precision, apart)
        return np.sqrt(np.maximum(squares, 0.0))


def fit(windows: FloatArray) -> Normal:
    """Learn from windows ``(n, d)``, n at least 2. Up to a tenth of them may be anything.

    The windows that are closest together are found in rounds, as FAST-MCD does. Channels that are constant,
    or that always move together, are no problem: every variance has a floor.
    """
    center, spread = _center_and_spread(windows)
    values = _comparable(windows, center, spread)
    kept = max(2, int(_KEEP * len(values)))
    order = np.argsort(np.abs(values).max(axis=1), kind="stable")[:kept]
    mean, precision = _moments(values[order])
    for _ in range(_STEPS):
        apart = values - mean
        squares = np.einsum("ij,ij->i", apart @ precision, apart)
        closest = np.sort(np.argsort(squares, kind="stable")[:kept])
        if np.array_equal(closest, order):
            break
        order = closest
        mean, precision = _moments(values[order])
    return Normal(center, spread, mean, precision)


def threshold(windows: FloatArray, false_alarms: float, folds: int) -> float:
    """Return the distance that a share ``false_alarms`` of windows like these reach.

    The windows are split into ``folds`` parts. What is learned from the others judges each part, as it will judge
    windows that it has not seen. Windows far beyond the rest were not normal, so they do not count.
    """
    distances = np.empty(len(windows))
    part = np.arange(len(windows)) % folds
    for number in range(folds):
        distances[part == number] = fit(windows[part != number]).distances(windows[part == number])
    distances.sort()
    counted = distances[distances <= _GROSS * distances[int(_KEEP * len(distances)) - 1]]
    return max(_NEAR, float(np.quantile(counted, 1.0 - false_alarms)))


def _center_and_spread(windows: FloatArray) -> tuple[Doubles, Doubles]:
    """Return the median of each channel, and how far its values usually are from it."""
    values = _bounded(windows)
    low, center, high = np.percentile(values, [25, 50, 75], axis=0)
    spread = (high - low) / _QUARTILES
    deviation = values.std(axis=0)
    rest = np.maximum(_REST * np.abs(center), _RIDGE * _REST)
    return center, np.where(spread > 0, spread, np.where(deviation > rest, deviation, rest))


def _comparable(windows: FloatArray, center: Doubles, spread: Doubles) -> Doubles:
    values: Doubles = np.clip((_bounded(windows) - center) / spread, -_FAR, _FAR)
    return values


def _bounded(windows: FloatArray) -> Doubles:
    bounded: Doubles = np.clip(windows.astype(np.float64), -_LARGEST, _LARGEST)
    return bounded


def _moments(values: Doubles) -> tuple[Doubles, Doubles]:
    """Return mean and inverse covariance. The fewer windows for their channels, the less correlation counts."""
    count, channels = values.shape
    mean = values.mean(axis=0)
    apart = values - mean
    covariance = apart.T @ apart / count
    doubt = max(0.01, channels / (count + channels))
    covariance *= 1.0 - doubt
    covariance[np.diag_indices(channels)] /= 1.0 - doubt
    covariance[np.diag_indices(channels)] += _RIDGE
    return mean, np.linalg.inv(covariance)
