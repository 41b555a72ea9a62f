"""The model's score, with Page's cumulative sum, as in the test of Page and Hinkley, around the reference's mean.

It looks at ranks: which share of the reference's windows has a smaller score. A rank is between 0 and 1 whatever
the score is, so that Bennett's bound holds. With Lundberg's inequality it gives the threshold.

The sum grows by what a rank is beyond the reference's mean, less the slack. The slack is half of the smallest
change that is worth an alarm. It is what the reference's mean may be wrong by if that is more.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import msgspec
import numpy as np
from msgspec import Meta

from limpet.contracts.drift import Moved
from limpet.contracts.monitor import Abilities, Alarm
from limpet.monitors._effective import cautious_times
from limpet.monitors._limits import END, read_thresholds
from limpet.monitors._ranks import Ranks, score_of

if TYPE_CHECKING:
    from limpet.contracts.data import Array
    from limpet.contracts.monitor import Observed
    from limpet.contracts.reference import FeatureReference, Reference

ABILITIES = Abilities(needs=("scores",))

_ERRORS = 4.5
"""Standard errors that the reference's mean may be wrong by."""
_LARGEST_SUM = 1.25
"""Of the threshold. A sum does not grow beyond it, so that an alarm ends soon."""
_LARGEST = 1e30


class Config(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Options of the monitor ``page_hinkley``."""

    least: Annotated[float, Meta(gt=0, le=0.5)] = 0.1
    """Smallest change of the mean rank of scores that is worth an alarm."""


class _Thresholds(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """``mean`` and ``variance`` of the ranks, and ``time``, their autocorrelation time in windows.

    ``error``: what the mean may be wrong by. ``exponent``: minus the logarithm of the chance of a false alarm.
    """

    mean: Annotated[float, Meta(ge=0, le=1)]
    variance: Annotated[float, Meta(gt=0, le=1)]
    time: Annotated[float, Meta(ge=1, le=1e9)]
    error: Annotated[float, Meta(ge=0, le=1)]
    exponent: Annotated[float, Meta(gt=0, le=700)]


def calibrate(config: Config, observed: Observed, reference: Reference, allowed: float) -> dict[str, Any]:
    """Return how the ranks are distributed. ``ValueError`` if the reference has no scores, or far too few."""
    del config
    score = score_of(reference)
    ranks = Ranks(score).of(observed.scores)
    if len(ranks) == 0:
        raise ValueError("the reference's windows have no scores")
    time = float(cautious_times(ranks[:, None])[0])
    effective = len(ranks) / time
    variance = min(float(ranks.var()) + 3 / effective, 0.25)  # the rule of three: what it has not seen yet
    error = _ERRORS * math.sqrt(variance / effective)
    if error >= 0.25:
        raise ValueError(
            f"{len(ranks)} scores of the reference are worth {effective:.0f} independent ones. That is too few"
        )
    return {
        "mean": round(float(ranks.mean()), 6),
        "variance": round(variance, 6),
        "time": round(time, 3),
        "error": round(error, 6),
        "exponent": round(math.log(2 / min(allowed, 0.5)), 4),
    }


def open(config: Config, reference: Reference, thresholds: dict[str, Any]) -> PageHinkley:
    """Prepare to sum. ``ValueError`` if the reference has no score, or for wrong thresholds."""
    score = score_of(reference)
    read = read_thresholds("page_hinkley", _Thresholds, thresholds)
    slack = max(config.least / 2, read.error)
    decay = adjustment_coefficient(read.variance, slack) / read.time
    return PageHinkley(score, Settings(read.mean, slack, decay, read.exponent / decay))


class Settings(NamedTuple):
    """``mean`` of the ranks, ``slack`` of a step, ``decay``: the sum exceeds h with a chance of exp(-decay h)."""

    mean: float
    slack: float
    decay: float
    threshold: float


def adjustment_coefficient(variance: float, slack: float) -> float:
    """Return Lundberg's coefficient r of steps of this variance, at most 1, with mean ``-slack``.

    A sum of them exceeds h with a chance of at most exp(-r h). By Bennett's bound, r is the positive root of
    ``variance * (exp(r) - 1 - r) = slack * r``.
    """
    low, high = 0.0, 1.0
    while variance * (math.expm1(high) - high) < slack * high and high < 100:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        if variance * (math.expm1(middle) - middle) < slack * middle:
            low = middle
        else:
            high = middle
    return max(low, 1e-9)


class _Side:
    """The cumulative sum of one side."""

    def __init__(self) -> None:
        self.sum = 0.0
        self.since_ns = 0
        self.total = 0.0
        self.count = 0

    def add(self, step: float, largest: float, score: float, time_ns: int) -> None:
        """Add a step. Remember since when the sum is not 0, and the scores since then."""
        if self.sum <= 0:
            self.since_ns, self.total, self.count = time_ns, 0.0, 0
        self.sum = min(max(self.sum + step, 0.0), largest)
        self.total += score
        self.count += 1

    def path(self, steps: Array) -> Array:
        """Return the sum after each step, without a limit."""
        sums = self.sum + np.cumsum(steps)
        return sums - np.minimum(np.minimum.accumulate(sums), 0)

    def follow(self, path: Array, scores: Array, times_ns: Array) -> None:
        """Do what ``add`` does with each step of a path."""
        begun = self.sum <= 0
        zeros = np.flatnonzero(path[:-1] <= 0)
        first = int(zeros[-1]) + 1 if len(zeros) else 0
        if begun or len(zeros):
            self.since_ns, self.total, self.count = int(times_ns[first]), 0.0, 0
        self.sum = float(path[-1])
        self.total += float(scores[first:].sum())
        self.count += len(scores) - first


class PageHinkley:
    """Watches the score of one pipeline. See ``limpet.contracts.monitor.Monitor``."""

    def __init__(self, score: FeatureReference, settings: Settings) -> None:
        self._ranks = Ranks(score)
        self._before = score.mean
        self._settings = settings
        self.reset()

    def reset(self) -> None:
        """Forget all windows."""
        self._up, self._down = _Side(), _Side()
        self._alarmed: _Side | None = None

    @property
    def level(self) -> float:
        """The larger sum, in shares of the threshold."""
        return max(self._up.sum, self._down.sum) / self._settings.threshold

    def see(self, observed: Observed) -> Alarm | None:
        """Add scores. Return the alarm of the side whose sum reached the threshold."""
        known = ~np.isnan(observed.scores)
        ranks = self._ranks.of(observed.scores)
        if len(ranks) == 0:
            return self._alarm(self._alarmed) if self._alarmed else None
        scores = np.clip(observed.scores[known].astype(np.float64), -_LARGEST, _LARGEST)
        times_ns = observed.times_ns[known]
        if self._alarmed or not self._add_all(ranks - self._settings.mean, scores, times_ns):
            self._add_each(ranks - self._settings.mean, scores, times_ns)
        return self._alarm(self._alarmed) if self._alarmed else None

    def _add_all(self, beyond: Array, scores: Array, times_ns: Array) -> bool:
        """Add scores at once if no sum comes to the threshold. Return whether that was so."""
        paths = [
            (side, side.path(steps - self._settings.slack))
            for side, steps in ((self._up, beyond), (self._down, -beyond))
        ]
        if max(float(path.max()) for _, path in paths) >= self._settings.threshold:
            return False
        for side, path in paths:
            side.follow(path, scores, times_ns)
        return True

    def _add_each(self, beyond: Array, scores: Array, times_ns: Array) -> None:
        """Add one score after the other, and see whether an alarm begins or ends."""
        largest = _LARGEST_SUM * self._settings.threshold
        slack = self._settings.slack
        for step, score, time_ns in zip(beyond.tolist(), scores.tolist(), times_ns.tolist(), strict=True):
            self._up.add(step - slack, largest, score, time_ns)
            self._down.add(-step - slack, largest, score, time_ns)
            self._decide()

    def _decide(self) -> None:
        if self._alarmed and self._alarmed.sum < END * self._settings.threshold:
            self._alarmed = None
        if not self._alarmed:
            side = self._up if self._up.sum >= self._down.sum else self._down
            self._alarmed = side if side.sum >= self._settings.threshold else None

    def _alarm(self, side: _Side) -> Alarm:
        moved = Moved(name="score", before=self._before, now=side.total / max(side.count, 1))
        chance = 2 * math.exp(-min(self._settings.decay * side.sum, 700.0))
        return Alarm(moved=[moved], since_ns=side.since_ns, p_value=min(chance, 1.0))
