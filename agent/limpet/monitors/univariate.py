"""Each feature by itself, with the distance of Kolmogorov and Smirnov between the reference's windows and now.

Windows are compared in spans of several lengths: a short one finds a large change soon, a long one a small change.
The threshold is the bound of Dvoretzky, Kiefer and Wolfowitz in Massart's form, for two samples, with Bonferroni's
correction for features and spans. It holds for any distribution of a feature. Windows that follow each other are
alike, so that numbers of windows are divided by the autocorrelation time of the feature in the reference.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta

from limpet.contracts.drift import MOST_FEATURES, MOST_MOVED, Moved
from limpet.contracts.monitor import Alarm
from limpet.monitors._limits import END, check_length, read_thresholds

if TYPE_CHECKING:
    from limpet.contracts.data import FloatArray
    from limpet.contracts.monitor import Observed
    from limpet.contracts.reference import FeatureReference, Reference

_EDGES = 15
"""Quantiles of a feature at which shares are compared."""
_SHORTEST = 64
_FACTORS = (1, 8, 64)
"""Lengths of the spans, in shortest ones."""
_LONGEST_BASE = 4096
_LARGEST = 1e30

_Share = Annotated[float, Meta(ge=0, le=1)]
_Limit = Annotated[float, Meta(gt=0, le=1e6)]
_Span = Annotated[int, Meta(ge=1, le=1 << 20)]


class Config(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Options of the monitor ``univariate``."""

    least: Annotated[float, Meta(ge=0, le=1)] = 0.1
    """Smallest distance that is worth an alarm: the largest difference of the share of windows below a value."""


class _Thresholds(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """``spans``: lengths in windows, each a multiple of the one before.

    ``chances``: how probable it is that a feature is at its limit. ``limits``: of each span, the distance of each
    feature. ``shares``: of each feature, the share of the reference's windows at most at each compared quantile.
    """

    spans: Annotated[list[_Span], Meta(min_length=1, max_length=4)]
    chances: Annotated[list[Annotated[float, Meta(gt=0, lt=1)]], Meta(min_length=1, max_length=4)]
    limits: Annotated[
        list[Annotated[list[_Limit], Meta(max_length=MOST_FEATURES)]], Meta(min_length=1, max_length=4)
    ]
    shares: Annotated[list[Annotated[list[_Share], Meta(max_length=_EDGES)]], Meta(max_length=MOST_FEATURES)]


def calibrate(config: Config, observed: Observed, reference: Reference, allowed: float) -> dict[str, Any]:
    """Return the distance of each feature and span at which all together raise ``allowed`` alarms a window.

    ``ValueError`` if the reference has no features, or so few windows that no distance would be an alarm.
    """
    del config
    features = reference.features
    if not features:
        raise ValueError("the reference has no features")
    effective = np.array([feature.effective for feature in features])
    times = np.maximum(reference.windows / effective, 1)
    base = min(_SHORTEST * 2 ** max(0, round(math.log2(float(np.median(times))))), _LONGEST_BASE)
    spans = [base * factor for factor in _FACTORS]
    chances = [min(allowed * span / len(spans) / len(features), 0.5) for span in spans]
    limits = [
        np.sqrt(math.log(math.e / chance) * (times / span + 1 / effective) / 2)
        for span, chance in zip(spans, chances, strict=True)
    ]
    if min(float(limit.min()) for limit in limits) >= 1:
        raise ValueError(
            f"{reference.windows} windows of the reference are worth {effective.max():.0f} independent ones."
            " That is too few for so rare false alarms"
        )
    edges = _edges(features)
    shares = np.stack([(observed.features <= edge).mean(axis=0) for edge in edges], axis=1)
    return {
        "spans": spans,
        "chances": chances,
        "limits": [np.round(limit, 6).tolist() for limit in limits],
        "shares": np.round(shares, 6).tolist(),
    }


def open(config: Config, reference: Reference, thresholds: dict[str, Any]) -> Univariate:
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
    if any(long % short for short, long in zip(read.spans, read.spans[1:], strict=False)):
        raise ValueError(f"the reference's thresholds of univariate: {read.spans} are not multiples of each other")
    return Univariate(reference.features, read, config.least)


class Spans:
    """Shares of windows at most at each edge, counted over spans of several lengths, of several streams at once.

    ``edges`` and ``shares`` have shape ``(edges, features)``. All spans are multiples of the first one.
    """

    def __init__(self, edges: FloatArray, shares: FloatArray, spans: list[int], streams: int = 1) -> None:
        self.spans = spans
        self._edges = edges
        self._shares = shares
        self._counts = np.zeros((len(spans), streams, *edges.shape), np.int32)
        self._filled = [0] * len(spans)

    @property
    def room(self) -> int:
        """Return how many windows may be added at most at once."""
        return self.spans[0] - self._filled[0]

    def add(self, values: FloatArray) -> dict[int, FloatArray]:
        """Add windows ``(streams, n, features)``. Return the distances ``(streams, features)`` of what is full.

        The key is the place of the span in ``spans``.
        """
        below = (values[:, :, None] <= self._edges).sum(axis=1, dtype=np.int32)
        full = {}
        for index, span in enumerate(self.spans):
            self._counts[index] += below
            self._filled[index] += values.shape[1]
            if self._filled[index] == span:
                now = self._counts[index].astype(np.float32) / span
                full[index] = np.abs(now - self._shares).max(axis=1)
                self._counts[index] = 0
                self._filled[index] = 0
        return full

    def forget(self, index: int) -> None:
        """Begin a span again."""
        self._counts[index] = 0
        self._filled[index] = 0


class Univariate:
    """Compares the features of one pipeline. See ``limpet.contracts.monitor.Monitor``."""

    def __init__(self, features: list[FeatureReference], thresholds: _Thresholds, least: float) -> None:
        self._features = features
        self._chances = thresholds.chances
        self._limits = np.maximum(np.array(thresholds.limits, np.float32), least)
        self._exact = np.array(thresholds.limits, np.float32)
        self._spans = Spans(_edges(features), np.array(thresholds.shares, np.float32).T, thresholds.spans)
        self.reset()

    def reset(self) -> None:
        """Forget all windows."""
        count = len(self._spans.spans)
        for index in range(count):
            self._spans.forget(index)
        self._sums = np.zeros((count, len(self._features)))
        self._began = [0] * count
        self._fresh = [True] * count
        self._alarms: dict[int, Alarm] = {}

    def see(self, observed: Observed) -> Alarm | None:
        """Add windows. Return the alarm of the shortest span that has one."""
        start = 0
        while start < len(observed):
            end = min(len(observed), start + self._spans.room)
            self._add(observed.features[start:end], int(observed.times_ns[start]))
            start = end
        return self._alarms[min(self._alarms)] if self._alarms else None

    def _add(self, values: FloatArray, time_ns: int) -> None:
        self._began = [time_ns if new else began for began, new in zip(self._began, self._fresh, strict=True)]
        self._sums += np.nan_to_num(values, posinf=_LARGEST, neginf=-_LARGEST).sum(axis=0, dtype=np.float64)
        full = self._spans.add(values[None])
        for index, distances in full.items():
            self._judge(index, distances[0])
            self._sums[index] = 0
        self._fresh = [index in full for index in range(len(self._fresh))]

    def _judge(self, index: int, distances: FloatArray) -> None:
        ratios = distances / self._limits[index]
        most = float(ratios.max())
        held = self._alarms.get(index)
        if most >= 1 or (held and most >= END):
            since_ns = held.since_ns if held else self._began[index]
            self._alarms[index] = self._alarm(index, distances, ratios, since_ns)
        elif held:
            del self._alarms[index]
            self._begin_longer(index)

    def _begin_longer(self, index: int) -> None:
        """Begin the longer spans again, as they hold windows of the change that is over."""
        for longer in range(index + 1, len(self._fresh)):
            self._spans.forget(longer)
            self._sums[longer] = 0
            self._fresh[longer] = True

    def _alarm(self, index: int, distances: FloatArray, ratios: FloatArray, since_ns: int) -> Alarm:
        order = [place for place in np.argsort(-ratios)[:MOST_MOVED] if ratios[place] >= END]
        span = self._spans.spans[index]
        moved = [
            Moved(
                name=self._features[place].name,
                before=self._features[place].mean,
                now=float(self._sums[index][place] / span),
            )
            for place in order
        ]
        exponents = np.log(math.e / self._chances[index]) * (distances / self._exact[index]) ** 2
        chance = len(self._features) * math.e * math.exp(-min(float(exponents.max()), 700.0))
        return Alarm(moved=moved, since_ns=since_ns, p_value=min(chance, 1.0))


def _edges(features: list[FeatureReference]) -> FloatArray:
    """Return the quantiles at which shares are compared, ``(edges, features)``, without the outermost ones."""
    columns = []
    for feature in features:
        places = np.linspace(0, len(feature.quantiles) - 1, _EDGES + 2)[1:-1]
        columns.append(np.asarray(feature.quantiles)[np.round(places).astype(int)])
    return np.stack(columns, axis=1).astype(np.float32)
