"""Each feature by itself, with the distance of Kolmogorov and Smirnov between the reference's windows and now.

The threshold is the bound of Dvoretzky, Kiefer and Wolfowitz in Massart's form, for two samples, with Bonferroni's
correction for features and spans. It holds for any distribution of a feature. Windows that follow each other are
alike, so that numbers of windows are divided by the autocorrelation time of these shares in the reference.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta

from limpet.contracts.drift import MOST_FEATURES, MOST_MOVED, Moved
from limpet.monitors._effective import cautious_times
from limpet.monitors._limits import END, check_length, read_thresholds
from limpet.monitors._spans import MOST_SPANS, SpanLengths, Spans, Verdict, check_spans, span_lengths

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from limpet.contracts.data import Array, FloatArray
    from limpet.contracts.monitor import Observed
    from limpet.contracts.reference import FeatureReference, Reference

_EDGES = 15
"""Quantiles of a feature at which shares are compared."""
_LARGEST = 1e30

_Share = Annotated[float, Meta(ge=0, le=1)]
_Limit = Annotated[float, Meta(gt=0, le=1e6)]
_Chance = Annotated[float, Meta(gt=0, lt=1)]


class Config(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Options of the monitor ``univariate``."""

    least: Annotated[float, Meta(ge=0, le=1)] = 0.1
    """Smallest distance that is worth an alarm: the largest difference of the share of windows below a value."""


class _Thresholds(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """``chances``: of each span, how probable it is that a feature reaches its limit.

    ``limits``: of each span, the distance of each feature. ``shares``: of each feature, the share of the
    reference's windows at most at each compared quantile.
    """

    spans: SpanLengths
    chances: Annotated[list[_Chance], Meta(max_length=MOST_SPANS)]
    limits: Annotated[list[Annotated[list[_Limit], Meta(max_length=MOST_FEATURES)]], Meta(max_length=MOST_SPANS)]
    shares: Annotated[list[Annotated[list[_Share], Meta(max_length=_EDGES)]], Meta(max_length=MOST_FEATURES)]


def calibrate(config: Config, observed: Observed, reference: Reference, allowed: float) -> dict[str, Any]:
    """Return the distance of each feature and span at which all together raise ``allowed`` alarms a window.

    ``ValueError`` if the reference has no features, or so few windows that no distance would be an alarm.
    """
    del config
    features = reference.features
    if not features:
        raise ValueError("the reference has no features")
    count = len(observed)
    if count == 0:
        raise ValueError("the reference has no windows")
    below = [observed.features <= edge for edge in _edges(features)]
    shares = np.stack([one.mean(axis=0) for one in below], axis=1)
    # Near the median, shares vary most. An edge counts as much as its shares vary.
    times = np.max([_weighted_times(one) for one in below], axis=0)
    spans = span_lengths(times)
    chances = [min(allowed * span / len(spans) / len(features), 0.5) for span in spans]
    limits = [
        np.sqrt(math.log(math.e / chance) * (times / span + times / count) / 2)
        for span, chance in zip(spans, chances, strict=True)
    ]
    if min(float(limit.min()) for limit in limits) >= 1:
        raise ValueError(
            f"{count} windows of the reference are worth {count / times.min():.0f} independent ones."
            " That is too few for so rare false alarms"
        )
    return {
        "spans": spans,
        "chances": chances,
        "limits": [np.round(limit, 6).tolist() for limit in limits],
        "shares": np.round(shares, 6).tolist(),
    }


def _weighted_times(below: Array) -> NDArray[np.float64]:
    shares = below.mean(axis=0)
    times: NDArray[np.float64] = np.maximum(4 * shares * (1 - shares) * cautious_times(below), 1)
    return times


def open(config: Config, reference: Reference, thresholds: dict[str, Any]) -> Spans:
    """Prepare to compare. ``ValueError`` if the thresholds do not fit the reference."""
    read = read_thresholds("univariate", _Thresholds, thresholds)
    features = len(reference.features)
    check_length("univariate", "shares", len(read.shares), features)
    for share in read.shares:
        check_length("univariate", "shares", len(share), _EDGES)
    for limit in read.limits:
        check_length("univariate", "limits", len(limit), features)
    check_length("univariate", "chances", len(read.chances), len(read.spans))
    check_length("univariate", "limits", len(read.limits), len(read.spans))
    check_spans("univariate", read.spans)
    return Spans(read.spans, _Distances(reference.features, read, config.least))


class _Distances:
    """The distance of each feature from the reference, over a span."""

    def __init__(self, features: list[FeatureReference], thresholds: _Thresholds, least: float) -> None:
        self._features = features
        self._chances = thresholds.chances
        self._limits = np.array(thresholds.limits)
        self._least = least
        self._edges = _edges(features)[:, None]
        self._shares = np.array(thresholds.shares).T

    def sums(self, observed: Observed) -> NDArray[np.float64]:
        """Return how many windows are at most at each edge, ``(edges, features)``, and below that the sums."""
        totals = observed.features.sum(axis=0, dtype=np.float64)
        if not np.isfinite(totals).all():
            numbers = np.nan_to_num(observed.features, posinf=_LARGEST, neginf=-_LARGEST)
            totals = numbers.sum(axis=0, dtype=np.float64)
        few = np.uint8 if len(observed) < 256 else np.uint32  # which is faster
        below = np.add.reduce((observed.features <= self._edges).view(np.uint8), axis=1, dtype=few)
        return np.concatenate([below, totals[None]])

    def judge(self, index: int, means: NDArray[np.float64]) -> Verdict:
        """Compare the shares with the reference's."""
        distances = np.abs(means[:-1] - self._shares).max(axis=0)
        limits = self._limits[index]
        ratios = distances / np.maximum(limits, self._least)
        exponents = math.log(math.e / self._chances[index]) * (distances / limits) ** 2
        p_value = len(self._features) * math.e * math.exp(-min(float(exponents.max()), 700.0))
        most = float(ratios.max())
        places = np.argsort(-ratios)[:MOST_MOVED] if most >= END else ()
        moved = [self._moved(place, float(means[-1, place])) for place in places if ratios[place] >= END]
        return Verdict(most, moved, min(p_value, 1.0))

    def _moved(self, place: int, now: float) -> Moved:
        feature = self._features[place]
        return Moved(name=feature.name, before=feature.mean, now=now)


def _edges(features: list[FeatureReference]) -> FloatArray:
    """Return the quantiles at which shares are compared, ``(edges, features)``, without the outermost ones."""
    columns = []
    for feature in features:
        places = np.linspace(0, len(feature.quantiles) - 1, _EDGES + 2)[1:-1]
        columns.append(np.asarray(feature.quantiles)[np.round(places).astype(int)])
    return np.stack(columns, axis=1).astype(np.float32)
