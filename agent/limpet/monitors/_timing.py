"""Intervals between windows: another rate, a clock that drifts, and windows that are missing.

Medians and means over many windows are compared. One late window moves the mean alone, and windows that come in
bursts move the median alone. Another rate moves both.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from limpet.contracts.data import Array

SPAN = 512
"""Intervals that a median and a mean are taken of."""
_SPANS = 8
"""Spans that the clock's drift is measured over."""
RATE = 1.2
"""A rate is wrong from this factor on."""
CLOCK = 1.01
"""A clock drifts from this factor on, against the first windows of the pipeline."""
MISSING = 0.2
"""Share of the intervals that are half as long again as the median, if the mean is longer by this share, too."""
_HALF_AGAIN = 1.5
_BACKWARD = 3
"""Steps back in time that are a fault of the clock."""
_END = 0.5
"""Share of the logarithm of the factor at which an alarm ends."""

Timing: TypeAlias = Literal["rate", "clock", "drop_out"]
# That half of the intervals are off if each is with a chance of a quarter, and a fifth if each is with one of 5 %.
P_VALUE = math.exp(-SPAN * 0.135)


class _Step(NamedTuple):
    """Intervals in seconds, above 0."""

    median: float
    mean: float

    def apart(self, other: _Step) -> float:
        """Return the logarithm of the factor by which both differ, 0 if they differ in opposite directions."""
        median, mean = math.log(self.median / other.median), math.log(self.mean / other.mean)
        return min(abs(median), abs(mean)) if median * mean > 0 else 0.0


class Intervals:
    """Watches the intervals of one pipeline.

    ``expected``: in seconds. Where it is ``None``, windows have no steady rate. Then only steps back are a fault.
    """

    def __init__(self, expected: float | None) -> None:
        self.expected = expected
        self.reset()

    def reset(self) -> None:
        """Forget all windows."""
        self._last_ns: int | None = None
        self._waiting: list[Array] = []
        self._count = 0
        self._steps: list[_Step] = []
        self._first: _Step | None = None
        self._began_ns = 0
        self.found: dict[Timing, int] = {}
        """Faults that hold, and since when."""
        self.levels: dict[Timing, float] = {}
        self.now = 0.0
        self.missing = 0.0

    def add(self, times_ns: Array, *, gap: bool) -> None:
        """Add windows, at least one."""
        times = times_ns if self._last_ns is None or gap else np.concatenate([[self._last_ns], times_ns])
        self._last_ns = int(times_ns[-1])
        intervals = np.diff(times).astype(np.float64) / 1e9
        while len(intervals):
            if self._count == 0:
                self._began_ns = int(times[0])
            some = intervals[: SPAN - self._count]
            self._waiting.append(some)
            self._count += len(some)
            intervals, times = intervals[len(some) :], times[len(some) :]
            if self._count == SPAN:
                self._judge(np.concatenate(self._waiting))
                self._waiting.clear()
                self._count = 0

    def _judge(self, intervals: Array) -> None:
        self.now = float(np.median(intervals))
        back = int((intervals < 0).sum()) / _BACKWARD
        if back >= 1 or self.now <= 0:
            self._set("clock", max(back, 1.0))
        elif self.expected is None:
            self._set("clock", back)
        else:
            step = _Step(self.now, float(np.maximum(intervals, 0).mean()))
            self.missing = float((intervals > _HALF_AGAIN * self.now).mean())
            self._set("drop_out", max(0.0, min(self.missing, step.mean / self.expected - 1)) / MISSING)
            off = step.apart(_Step(self.expected, self.expected)) / math.log(RATE)
            self._set("rate", off)
            self._steps.append(step)
            if len(self._steps) == _SPANS:
                self._set("clock", 0.0 if off >= _END else self._drift())
                self._steps.clear()

    def _drift(self) -> float:
        medians, means = zip(*self._steps, strict=True)
        step = _Step(float(np.median(medians)), float(np.mean(means)))
        self._first = self._first or step
        return step.apart(self._first) / math.log(CLOCK)

    def _set(self, fault: Timing, level: float) -> None:
        self.levels[fault] = level
        if level >= 1:
            self.found.setdefault(fault, self._began_ns)
        elif level < _END:
            self.found.pop(fault, None)
