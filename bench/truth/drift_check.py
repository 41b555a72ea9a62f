"""The statistics of monitors beside those of SciPy and river, on many random samples."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from river import drift
from scipy import stats

from limpet.contracts.monitor import Observed
from limpet.contracts.reference import ClassReference, FeatureReference, Reference
from limpet.monitors import label_shift, univariate
from limpet.monitors.adwin import AdaptiveWindow

STREAMS, LENGTH = 40, 2000
SAMPLES = 200
EDGES = 15
TOLERANCE = 1e-9


class Compared(NamedTuple):
    """``adwin``: streams whose first change both find at the same window. The others: largest difference."""

    adwin: int
    distance: float
    likelihood: float


def compare() -> Compared:
    """Return what the comparison shows. ``ValueError`` if a statistic differs."""
    compared = Compared(
        sum(_same_change(seed) for seed in range(STREAMS)),
        max(_distance(seed) for seed in range(SAMPLES)),
        max(_likelihood(seed) for seed in range(SAMPLES)),
    )
    if compared.adwin < STREAMS or max(compared[1:]) > TOLERANCE:
        raise ValueError(f"a statistic is not that of SciPy or river: {compared}")
    return compared


def _same_change(seed: int) -> bool:
    random = np.random.default_rng(seed)
    numbers = np.concatenate([random.beta(2, 5, LENGTH // 2), random.beta(2 + seed % 4, 5, LENGTH // 2)])
    detector, window = drift.ADWIN(delta=0.002, clock=1), AdaptiveWindow(0.002, unit=1)
    times = np.arange(LENGTH)
    for place, number in enumerate(numbers.tolist()):
        detector.update(number)
        one = slice(place, place + 1)
        cut = window.add(numbers[one], numbers[one], times[one])
        if detector.drift_detected or cut:
            return bool(detector.drift_detected) and cut is not None
    return True


def _distance(seed: int) -> float:
    """Return by how much the distance of ``univariate`` differs from SciPy's."""
    random = np.random.default_rng(seed)
    before, now = random.integers(0, EDGES + 1, 400), random.integers(seed % 4, EDGES + 1, 64)
    edges = [float(edge) for edge in range(EDGES)]
    feature = FeatureReference(
        name="a", mean=0.0, std=1.0, quantiles=[0.0, *edges, float(EDGES)], effective=len(before)
    )
    shares = [float((before <= edge).mean()) for edge in edges]
    monitor = univariate.open(
        univariate.Config(least=0),
        Reference(windows=len(before), features=[feature]),
        {"spans": [len(now)], "chances": [0.1], "limits": [[1.0]], "shares": [shares]},
    )
    monitor.see(_observed(features=now[:, None]))
    return abs(monitor.level - float(stats.ks_2samp(before, now).statistic))


def _likelihood(seed: int) -> float:
    """Return by how much the likelihood ratio of ``label_shift`` differs from half of SciPy's statistic G."""
    random = np.random.default_rng(seed)
    said, now = random.integers(50, 200, 2), np.sort(random.integers(0, 2, 64))
    table = np.array([np.bincount(now, minlength=2), said])
    monitor = label_shift.open(
        label_shift.Config(least=0),
        Reference(
            windows=int(said.sum()),
            classes=ClassReference(labels=["a", "b"], confusion=[[1, 0], [0, 1]], priors=[0.5, 0.5]),
        ),
        {"spans": [64], "said": [*said.astype(float).tolist(), 0.0], "times": [1.0] * 3, "exponents": [1.0]},
    )
    monitor.see(_observed(classes=now))
    found = stats.chi2_contingency(table, correction=False, lambda_="log-likelihood")
    return abs(monitor.level**2 - float(found.statistic) / 2)


def _observed(features: np.ndarray | None = None, classes: np.ndarray | None = None) -> Observed:
    count = 64
    return Observed(
        features=np.zeros((count, 0), np.float32) if features is None else features.astype(np.float32),
        scores=np.full(count, np.nan, np.float32),
        classes=np.full(count, -1, np.int32) if classes is None else classes.astype(np.int32),
        embeddings=None,
        times_ns=np.arange(count, dtype=np.int64),
    )
