"""Whether sound is usable: only zeros, clipped, or around another value than 0. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from limpet.contracts.data import FloatArray

SECOND = 1.0
"""Seconds of sound that are judged together."""
FULL = 0.9995
"""A sample beyond is at full scale: 16-bit samples end at 0.99997."""
CLIPPED, CLIPPED_NO_MORE = 0.01, 0.001
"""Share of samples at full scale from which sound is clipped, and below which it is no more."""
OFFSET, OFFSET_NO_MORE = 0.05, 0.03
"""Distance of the mean from 0, as a share of full scale, from which there is an offset, and below which none."""


class _Fault:
    """One fault: it begins after ``begin`` bad seconds in a row, and ends after ``end`` good ones."""

    def __init__(self, begin: int, end: int) -> None:
        self.text = ""
        self._begin = begin
        self._end = end
        self._row = 0

    def judge(self, *, bad: bool, good: bool, text: str) -> bool:
        """Take a second that is bad, good, or between. Return whether the fault begins with it."""
        counts = good if self.text else bad
        self._row = self._row + 1 if counts else 0
        if self._row < (self._end if self.text else self._begin):
            return False
        self._row = 0
        self.text = "" if self.text else text
        return bool(self.text)


class SoundWatch:
    """Judges sound second by second. ``remark`` says what is wrong with it; it is empty if nothing is.

    How often a fault began is added to ``counts``, as `silence`, `clipping` and `dc_offset`. ``channels``: what to
    call each channel.
    """

    def __init__(self, rate: int, channels: Sequence[str], counts: Counter[str]) -> None:
        self.remark = ""
        self._rate = rate
        self._channels = channels
        self._counts = counts
        self._faults = {"silence": _Fault(5, 1), "clipping": _Fault(2, 5), "dc_offset": _Fault(3, 3)}
        self._begin()

    def _begin(self) -> None:
        width = len(self._channels)
        self._frames = 0
        self._low, self._high = np.full(width, np.inf), np.full(width, -np.inf)
        self._sum, self._full = np.zeros(width), np.zeros(width)

    def see(self, values: FloatArray) -> None:
        """Look at frames ``(n, channels)`` that follow the ones before."""
        if not len(values):
            return
        low, high = values.min(axis=0), values.max(axis=0)
        self._low, self._high = np.minimum(self._low, low), np.maximum(self._high, high)
        self._sum += values.sum(axis=0, dtype=np.float64)
        if high.max() >= FULL or low.min() <= -FULL:
            self._full += (np.abs(values) >= FULL).sum(axis=0)
        self._frames += len(values)
        if self._frames >= SECOND * self._rate:
            self._judge()
            self._begin()

    def _judge(self) -> None:
        flat = self._low == self._high
        share = np.where(flat, 0.0, self._full / self._frames)
        mean = np.where(flat, 0.0, self._sum / self._frames)
        means = np.abs(mean)
        self._note("silence", self._silence(flat), bad=flat.any(), good=not flat.any())
        text = f"{self._name(share)}: {share.max():.0%} of its samples are at full scale; lower its volume"
        self._note("clipping", text, bad=share.max() > CLIPPED, good=share.max() < CLIPPED_NO_MORE)
        value = float(mean[means.argmax()])
        text = f"{self._name(means)}: has a DC offset of {value:+.0%} of full scale; use the transform detrend"
        self._note("dc_offset", text, bad=means.max() > OFFSET, good=means.max() < OFFSET_NO_MORE)
        self.remark = "; ".join(fault.text for fault in self._faults.values() if fault.text)

    def _note(self, name: str, text: str, *, bad: bool, good: bool) -> None:
        if self._faults[name].judge(bad=bool(bad), good=bool(good), text=text):
            self._counts[name] += 1

    def _name(self, measure: NDArray[np.float64]) -> str:
        return self._channels[int(measure.argmax())]

    def _silence(self, flat: NDArray[np.bool_]) -> str:
        name = self._name(flat.astype(np.float64))
        what = "only zeros" if self._low[flat.argmax()] == 0 else "the same value all the time"
        other = "" if flat.all() else f"; {self._channels[int((~flat).argmax())]} has sound"
        return f"{name}: sends {what}: is it muted?{other}"
