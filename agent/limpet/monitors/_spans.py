"""Windows in spans of several lengths. A short span finds a large change soon, a long span finds a small change.

The sums over each span are judged when it is full. Then it begins again. Spans of one length do not overlap.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Annotated, NamedTuple, Protocol, TypeAlias

import numpy as np
from msgspec import Meta

from limpet.contracts.monitor import Alarm
from limpet.monitors._limits import END

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from limpet.contracts.drift import Moved
    from limpet.contracts.monitor import Observed

SHORTEST = 64
FACTORS = (1, 4, 32, 256)
"""Lengths of the spans, in shortest ones."""
_CALM = 2
"""Spans without the change after which an alarm ends; of the longest span one is enough."""
INDEPENDENT = 16
"""Independent windows in the shortest span, about."""
LONGEST_BASE = 4096
MOST_SPANS = 4

SpanLengths: TypeAlias = Annotated[
    list[Annotated[int, Meta(ge=1, le=1 << 20)]], Meta(min_length=1, max_length=MOST_SPANS)
]


class Verdict(NamedTuple):
    """What a span shows. ``ratio``: of the statistic to its threshold. An alarm begins at 1."""

    ratio: float
    moved: list[Moved]
    p_value: float


class Judge(Protocol):
    """What is summed over the windows of a span, and what the means say."""

    def sums(self, observed: Observed) -> NDArray[np.float64]:
        """Return the sums over these windows, always of one shape."""

    def judge(self, index: int, means: NDArray[np.float64]) -> Verdict:
        """Judge the means over a span. ``index``: its place among the lengths."""


def span_lengths(times: Sequence[float] | NDArray[np.float64]) -> list[int]:
    """Return lengths that suit windows with these autocorrelation times."""
    wanted = INDEPENDENT * float(np.median(times)) / SHORTEST
    base = min(SHORTEST * 2 ** max(0, min(round(math.log2(wanted)), 20)), LONGEST_BASE)
    return [base * factor for factor in FACTORS]


def check_spans(kind: str, lengths: Sequence[int]) -> None:
    """Raise ``ValueError`` if lengths from a bundle are not multiples of the one before."""
    if any(long <= short or long % short for short, long in itertools.pairwise(lengths)):
        what = f"{list(lengths)} are no lengths of spans: each must be a multiple of the one before"
        raise ValueError(f"the reference's thresholds of {kind}: {what}")


class Spans:
    """A monitor that judges spans. See ``limpet.contracts.monitor.Monitor``."""

    def __init__(self, lengths: Sequence[int], judge: Judge) -> None:
        self._lengths = lengths
        self._judge = judge
        self.reset()

    def reset(self) -> None:
        """Forget all windows."""
        count = len(self._lengths)
        self._sums: list[NDArray[np.float64] | None] = [None] * count
        self._filled = [0] * count
        self._began = [0] * count
        self._alarms: dict[int, Alarm] = {}
        self._levels = [0.0] * count
        self._calm = [0] * count

    @property
    def level(self) -> float:
        """The largest statistic of the last span of each length, in shares of its threshold."""
        return max(self._levels)

    def see(self, observed: Observed) -> Alarm | None:
        """Add windows. Return the alarm of the shortest span that has one."""
        start = 0
        while start < len(observed):
            end = min(len(observed), start + self._lengths[0] - self._filled[0])
            self._add(_part(observed, start, end))
            start = end
        return self._alarms[min(self._alarms)] if self._alarms else None

    def _add(self, observed: Observed) -> None:
        sums = self._judge.sums(observed)
        for index in range(len(self._lengths)):
            old = self._sums[index]
            if old is None:
                self._began[index] = int(observed.times_ns[0])
            self._sums[index] = sums if old is None else old + sums
            self._filled[index] += len(observed)
        for index, length in enumerate(self._lengths):
            full = self._sums[index]
            if full is not None and self._filled[index] >= length:
                self._forget(index)
                self._decide(index, self._judge.judge(index, full / length))

    def _decide(self, index: int, verdict: Verdict) -> None:
        self._levels[index] = verdict.ratio
        held = self._alarms.get(index)
        if verdict.ratio >= 1 or (held and verdict.ratio >= END):
            since_ns = held.since_ns if held else self._began[index]
            self._alarms[index] = Alarm(moved=verdict.moved, since_ns=since_ns, p_value=verdict.p_value)
            self._calm[index] = 0
        elif held:
            self._calm[index] += 1
            if self._calm[index] >= (_CALM if index + 1 < len(self._lengths) else 1):
                self._end(index)

    def _end(self, index: int) -> None:
        """End the alarm of a span, and those of longer ones: their windows are of the change that is over."""
        for longer in range(index, len(self._lengths)):
            self._alarms.pop(longer, None)
            self._forget(longer)
            self._levels[longer] = min(self._levels[longer], END)

    def _forget(self, index: int) -> None:
        self._sums[index] = None
        self._filled[index] = 0


def _part(observed: Observed, start: int, end: int) -> Observed:
    if start == 0 and end == len(observed):
        return observed
    return type(observed)(
        features=observed.features[start:end],
        scores=observed.scores[start:end],
        classes=observed.classes[start:end],
        embeddings=None if observed.embeddings is None else observed.embeddings[start:end],
        times_ns=observed.times_ns[start:end],
        gap=observed.gap and start == 0,
    )
