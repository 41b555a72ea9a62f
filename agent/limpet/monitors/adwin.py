"""The model's score, with ADWIN (Bifet and Gavalda 2007): the newer part of the stream against the older part.

It needs no reference to compare with, so that it finds that a device's own stream changes. It looks at ranks, as
``page_hinkley`` does, because its bound is for numbers between 0 and 1. Numbers of windows are divided by the
autocorrelation time of the score.
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
    from limpet.contracts.reference import Reference

ABILITIES = Abilities(needs=("scores",))

_UNIT = 64
"""Windows of the smallest bucket. The stream is looked at whenever one is full."""
_BUCKETS = 5
"""Buckets of each size, before two of them become one of twice the size."""
_SHORTEST = 5
"""Windows of a part that is compared."""
_GRACE = 10
"""Windows that it does not look at alone."""
_LARGEST = 1e30
_CUTS = 8.0
"""How many more cuts, on two sides, are looked at than ADWIN's bound counts."""


class Config(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Options of the monitor ``adwin``."""

    least: Annotated[float, Meta(ge=0, le=1)] = 0.1
    """Smallest change of the mean rank of scores that is worth an alarm."""


class _Thresholds(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """``delta``: ADWIN's confidence. ``time``: autocorrelation time of the score in windows."""

    delta: Annotated[float, Meta(gt=0, le=0.5)]
    time: Annotated[float, Meta(ge=1, le=1e9)]


def calibrate(config: Config, observed: Observed, reference: Reference, allowed: float) -> dict[str, Any]:
    """Return the confidence and the autocorrelation time. ``ValueError`` if the reference has no scores."""
    del config
    score = score_of(reference)
    ranks = Ranks(score).of(observed.scores)
    if len(ranks) == 0:
        raise ValueError("the reference's windows have no scores")
    return {
        "delta": min(allowed * _UNIT / _CUTS, 0.5),
        "time": round(float(cautious_times(ranks[:, None])[0]), 3),
    }


def open(config: Config, reference: Reference, thresholds: dict[str, Any]) -> Adwin:
    """Prepare to watch. ``ValueError`` if the reference has no score, or for wrong thresholds."""
    score = score_of(reference)
    read = read_thresholds("adwin", _Thresholds, thresholds)
    return Adwin(Ranks(score), AdaptiveWindow(read.delta, time=read.time, least=config.least))


class Cut(NamedTuple):
    """Where a stream changed: the mean before and after, of ranks and of scores, and how probable that is.

    ``older``: buckets before it.
    """

    before: float
    after: float
    score_before: float
    score_after: float
    since_ns: int
    p_value: float
    older: int


class _Bucket(NamedTuple):
    """``squares``: the sum of the squared differences of the ranks from their mean."""

    windows: int
    ranks: float
    squares: float
    scores: float
    began_ns: int


class AdaptiveWindow:
    """ADWIN itself, over ranks between 0 and 1.

    With ``unit`` 1, ``time`` 1 and ``least`` 0 it finds what ``river.drift.ADWIN`` with a clock of 1 finds first.
    """

    def __init__(self, delta: float, unit: int = _UNIT, time: float = 1.0, least: float = 0.0) -> None:
        self._delta = delta
        self._unit = unit
        self._time = time
        self._least = least
        self.reset()

    def reset(self) -> None:
        """Forget all windows."""
        self._rows: list[list[_Bucket]] = [[]]
        self._ranks: list[float] = []
        self._scores = 0.0
        self._began_ns = 0
        self.mean = 0.0
        self.level = 0.0

    @property
    def room(self) -> int:
        """Return how many windows are missing until it looks at the stream again."""
        return self._unit - len(self._ranks)

    def add(self, ranks: Array, scores: Array, times_ns: Array) -> Cut | None:
        """Add at least one window and at most ``room``. Return where the stream changed, if it did."""
        if not self._ranks:
            self._began_ns = int(times_ns[0])
        self._ranks += ranks.tolist()
        self._scores += float(scores.sum())
        if len(self._ranks) < self._unit:
            return None
        values = np.array(self._ranks)
        total = float(values.sum())
        squares = float(((values - total / len(values)) ** 2).sum())
        self._insert(_Bucket(len(values), total, squares, self._scores, self._began_ns))
        self._ranks.clear()
        self._scores = 0.0
        return self._shrink()

    def _insert(self, bucket: _Bucket) -> None:
        self._rows[0].append(bucket)
        for place, row in enumerate(self._rows):
            if len(row) <= _BUCKETS:
                break
            if place + 1 == len(self._rows):
                self._rows.append([])
            self._rows[place + 1].append(_merged(row.pop(0), row.pop(0)))

    def _shrink(self) -> Cut | None:
        """Forget the windows before a change."""
        buckets = [bucket for row in reversed(self._rows) for bucket in row]
        cut = self._look(buckets)
        if cut is not None:
            self._forget(cut.older)
            self.mean = cut.after
        return cut

    def _forget(self, count: int) -> None:
        for row in reversed(self._rows):
            some = min(count, len(row))
            del row[:some]
            count -= some

    def _look(self, buckets: list[_Bucket]) -> Cut | None:
        counts, ranks, squares = np.array([bucket[:3] for bucket in buckets]).T
        width, total = float(counts.sum()), float(ranks.sum())
        self.mean = total / width
        self.level = 0.0
        if width <= _GRACE or len(buckets) < 2:
            return None
        older, sums = counts.cumsum()[:-1], ranks.cumsum()[:-1]
        newer = width - older
        before, after = sums / older, (total - sums) / newer
        fewer = self._time * (1 / np.maximum(older - _SHORTEST + 1, 1) + 1 / np.maximum(newer - _SHORTEST + 1, 1))
        variance = float((squares + counts * (ranks / counts - self.mean) ** 2).sum()) / width
        confidence = math.log(2 * math.log(width) / self._delta)
        bound = np.sqrt(2 * fewer * variance * confidence) + 2 / 3 * confidence * fewer
        ratios = np.abs(before - after) / np.maximum(bound, self._least)
        ratios[(older < _SHORTEST) | (newer < _SHORTEST)] = 0
        place = int(ratios.argmax())
        self.level = float(ratios[place])
        if self.level <= 1:
            return None
        found = _confidence(abs(before[place] - after[place]), float(fewer[place]), variance)
        scores = [sum(bucket.scores for bucket in part) for part in (buckets[: place + 1], buckets[place + 1 :])]
        return Cut(
            float(before[place]),
            float(after[place]),
            scores[0] / float(older[place]),
            scores[1] / float(newer[place]),
            buckets[place + 1].began_ns,
            min(2 * math.log(width) * math.exp(-min(found, 700.0)), 1.0),
            place + 1,
        )


def _confidence(difference: float, fewer: float, variance: float) -> float:
    """Return the confidence at which the bound is this difference."""
    spread, slope = math.sqrt(2 * fewer * variance), 2 / 3 * fewer
    root = (math.sqrt(spread**2 + 4 * slope * difference) - spread) / (2 * slope)
    return root**2


def _merged(first: _Bucket, second: _Bucket) -> _Bucket:
    count = first.windows + second.windows
    difference = first.ranks / first.windows - second.ranks / second.windows
    squares = first.squares + second.squares + difference**2 * first.windows * second.windows / count
    return _Bucket(count, first.ranks + second.ranks, squares, first.scores + second.scores, first.began_ns)


class Adwin:
    """Watches the score of one pipeline. See ``limpet.contracts.monitor.Monitor``.

    Its alarm ends when the mean rank has come back most of the way to what it was before.
    """

    def __init__(self, ranks: Ranks, window: AdaptiveWindow) -> None:
        self._ranks = ranks
        self._window = window
        self.reset()

    def reset(self) -> None:
        """Forget all windows."""
        self._window.reset()
        self._cut: Cut | None = None

    @property
    def level(self) -> float:
        """The largest difference of two parts of the stream, in shares of what chance explains."""
        return self._window.level

    def see(self, observed: Observed) -> Alarm | None:
        """Add scores. Return the alarm that holds."""
        known = ~np.isnan(observed.scores)
        ranks = self._ranks.of(observed.scores)
        scores = np.clip(observed.scores[known].astype(np.float64), -_LARGEST, _LARGEST)
        times_ns = observed.times_ns[known]
        start = 0
        while start < len(ranks):
            part = slice(start, start + self._window.room)
            self._decide(self._window.add(ranks[part], scores[part], times_ns[part]))
            start = part.stop
        return self._alarm(self._cut) if self._cut else None

    def _decide(self, cut: Cut | None) -> None:
        held = self._cut
        if held is None:
            self._cut = cut
        elif abs(self._window.mean - held.before) < (1 - END) * abs(held.after - held.before):
            self._cut = None
            self._window.reset()  # it has windows of the change that is over

    def _alarm(self, cut: Cut) -> Alarm:
        moved = Moved(name="score", before=cut.score_before, now=cut.score_after)
        return Alarm(moved=[moved], since_ns=cut.since_ns, p_value=cut.p_value)
