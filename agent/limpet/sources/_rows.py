"""Rows as a node sent them to samples: what is missing, what must go, what the numbers mean, and when it was.

No I/O: the caller passes the clocks. Most reads bring a few rows that follow the last ones, so that case is kept
short. On a small board each numpy call after a sleep costs about as much as a row.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np

from limpet.contracts.data import Rows, Samples

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from limpet.contracts.data import Array, FloatArray, TimeArray

    Ticks = TypeVar("Ticks", int, NDArray[np.int64])

CLOCK = 1 << 32
AHEAD_US = 10_000_000
"""If a node's clock jumps ahead of ours by more, it was set: nothing arrives before it is sent."""
BACK_US = 1_000_000
"""If a node's clock goes back by more, it was set. Less is the jitter of times within a frame."""
DRIFT = 0.001
"""How fast we believe that a node's clock falls behind ours, rather than that its bytes came late."""


class Calibration(NamedTuple):
    """One number for all channels or one a channel. real = raw * scale + offset; good from ``low`` to ``high``."""

    scale: NDArray[np.float64]
    offset: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


class Continuity:
    """Gives each row its ordinal, from the node's sequence number and clock where it sends them.

    A row with the number of the one before is a ``duplicate``. A number too high by k is a ``sequence_gap`` of k
    samples. If a number or a clock goes back, or a clock jumps ahead of ours, the node has ``restarted``. A
    counter of 16 bits alone could not distinguish a restart from a loss. ``next`` is the ordinal that the next row
    has if nothing is missing.
    """

    def __init__(self, modulo: int | None, dropped: Counter[str]) -> None:
        self.next = 0
        self._modulo = modulo
        self._dropped = dropped
        self._sequence: int | None = None
        self._time: int | None = None
        self._lead = 0
        self._heard = 0

    def place(self, rows: Rows, now_us: int) -> tuple[Rows, NDArray[np.int64]]:
        """Return the rows that are not duplicates, ``gap`` set, and their ordinals, int64 ``(n,)``."""
        if rows.sequence is rows.time_us is None:  # nothing to find out
            first, self.next = self.next, self.next + len(rows.values)
            return rows, np.arange(first, self.next)
        missing: NDArray[np.int64] | int = 0
        restarted = False
        if self._follows(rows.sequence):
            rows.gap[:] = False  # the number knows better than the framing whether something was lost
        else:
            rows = self._without_duplicates(rows)
            if len(rows.values):
                missing, restarted = self._breaks(rows, now_us)
        ordinals = np.arange(self.next, self.next + len(rows.values)) + missing
        if len(ordinals):
            self.next = int(ordinals[-1]) + 1
            self._remember(rows, now_us, restarted=restarted)
        return rows, ordinals

    def _follows(self, sequence: NDArray[np.int64] | None) -> bool:
        if sequence is None or self._sequence is None:
            return False
        due = np.arange(self._sequence + 1, self._sequence + 1 + len(sequence))
        return bool((sequence == (due if self._modulo is None else due % self._modulo)).all())

    def _without_duplicates(self, rows: Rows) -> Rows:
        if rows.sequence is None or not len(rows.sequence):
            return rows
        fresh = np.diff(rows.sequence, prepend=-1 if self._sequence is None else self._sequence) != 0
        self._count("duplicate", int((~fresh).sum()))
        clock = None if rows.time_us is None else rows.time_us[fresh]
        return Rows(rows.values[fresh], rows.gap[fresh], rows.sequence[fresh], clock)

    def _breaks(self, rows: Rows, now_us: int) -> tuple[NDArray[np.int64], bool]:
        """Set ``gap`` and count; return how many samples are missing up to each row, and whether one restarted."""
        restarted = self._clock_restarts(rows, now_us)
        missing = np.zeros(len(rows.values), np.int64)
        if rows.sequence is not None:
            missing = self._jumps(rows.sequence)
            restarted |= missing < 0
            missing[restarted] = 0
            rows.gap = missing > 0
        rows.gap = rows.gap | restarted
        self._count("restarted", int(restarted.sum()))
        self._count("sequence_gap", int(missing.sum()))
        return np.cumsum(missing), bool(restarted.any())

    def _jumps(self, sequence: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return how far each number is above the one that was due."""
        last = int(sequence[0]) - 1 if self._sequence is None else self._sequence
        ahead = np.diff(sequence, prepend=last) - 1
        if self._modulo is None:
            return ahead
        half = self._modulo // 2
        return (ahead + half) % self._modulo - half

    def _clock_restarts(self, rows: Rows, now_us: int) -> NDArray[np.bool_]:
        """Return at which rows the node's clock was set."""
        if rows.time_us is None:
            return np.zeros(len(rows.values), np.bool_)
        before = rows.time_us[0] if self._time is None else self._time
        back = signed(np.diff(rows.time_us, prepend=before)) < -BACK_US
        if self._time is None:
            return back
        ahead = signed(rows.time_us - (now_us + self._lead)) > AHEAD_US
        ahead[1:] &= ~ahead[:-1]
        return back | ahead

    def _remember(self, rows: Rows, now_us: int, *, restarted: bool) -> None:
        """Note where the node is, and how far its clock is ahead of ours when its bytes come without delay."""
        if rows.sequence is not None:
            self._sequence = int(rows.sequence[-1])
        if rows.time_us is None:
            return
        slack = int(DRIFT * (now_us - self._heard))
        step = signed(int(rows.time_us[-1]) - now_us - self._lead)
        self._lead += step if self._time is None or restarted else max(step, -slack)
        self._time = int(rows.time_us[-1])
        self._heard = now_us

    def _count(self, cause: str, number: int) -> None:
        if number:
            self._dropped[cause] += number


class Cutter:
    """Cuts what a source has into blocks of consecutive samples."""

    def __init__(self) -> None:
        self._last = -1

    def cut(
        self,
        values: Array,
        times: TimeArray,
        wall_offset_ns: int,
        ordinals: NDArray[np.int64],
        gap: NDArray[np.bool_],
    ) -> Iterator[Samples]:
        """Yield ``values``, cut before each that has ``gap`` set or does not have the next ordinal."""
        if not len(values):
            return
        last, self._last = self._last, int(ordinals[-1])
        wall = times + wall_offset_ns
        if self._last - last == len(values) and not gap.any():
            yield Samples(values, times, wall, last + 1)
            return
        broken = gap | (np.diff(ordinals, prepend=last) != 1)
        for start, end in pairwise([0, *(np.flatnonzero(broken[1:]) + 1).tolist(), len(values)]):
            part = slice(start, end)
            yield Samples(values[part], times[part], wall[part], int(ordinals[start]), bool(broken[start]))


class Shaper:
    """Calibrates rows, drops those that are ``not_finite`` or ``out_of_range``, and stamps the rest.

    A row gets the time of the read that ended it, less its distance from the last row of that read. The distance
    comes from ``rate`` if it is known, else from the node's clock if it sends one.
    """

    def __init__(self, calibration: Calibration, rate: float | None, dropped: Counter[str]) -> None:
        self._calibration = calibration
        scale, offset, low, high = calibration
        self._as_sent = bool((scale == 1).all() and (offset == 0).all())
        self._unlimited = bool((low == -np.inf).all() and (high == np.inf).all())
        self._interval_ns = None if rate is None else 1e9 / rate
        self._dropped = dropped
        self._last_ns = 0
        self._ages: TimeArray = np.zeros(0, np.int64)  # of consecutive rows, the newest last
        self._cutter = Cutter()

    def shape(self, rows: Rows, ordinals: NDArray[np.int64], monotonic_ns: int, wall_ns: int) -> Iterator[Samples]:
        """Yield the samples of one read, cut wherever one does not follow the one before."""
        if not len(ordinals):
            return
        values, good = self._calibrate(rows.values)
        times = self._times(rows, ordinals, monotonic_ns)
        gap = rows.gap
        if good is not None:
            values, times, ordinals, gap = values[good], times[good], ordinals[good], gap[good]
        yield from self._cutter.cut(values, times, wall_ns - monotonic_ns, ordinals, gap)

    def _calibrate(self, raw: NDArray[np.float64]) -> tuple[FloatArray, NDArray[np.bool_] | None]:
        """Return real values and which rows are good, ``None`` for all."""
        scale, offset, low, high = self._calibration
        with np.errstate(over="ignore", invalid="ignore"):
            real = raw if self._as_sent else raw * scale + offset
            values = real.astype(np.float32)
        finite = np.isfinite(values)
        if self._unlimited and finite.all():
            return values, None
        inside = (real >= low) & (real <= high)
        if finite.all() and inside.all():
            return values, None
        finite, inside = np.logical_and.reduce(finite, axis=1), np.logical_and.reduce(inside, axis=1)
        for cause, bad in (("not_finite", ~finite), ("out_of_range", finite & ~inside)):
            if bad.any():
                self._dropped[cause] += int(bad.sum())
        return values, finite & inside

    def _times(self, rows: Rows, ordinals: NDArray[np.int64], now_ns: int) -> TimeArray:
        """Return when each row was taken on our monotonic clock; it never goes back."""
        count = len(ordinals)
        if self._interval_ns is not None and ordinals[-1] - ordinals[0] == count - 1:
            if count > len(self._ages):
                self._ages = (np.arange(2 * count)[::-1] * self._interval_ns).astype(np.int64)
            age = self._ages[-count:]
        elif self._interval_ns is not None:
            age = ((ordinals[-1] - ordinals) * self._interval_ns).astype(np.int64)
        elif rows.time_us is not None:
            age = np.maximum.accumulate(signed(rows.time_us[-1] - rows.time_us)[::-1])[::-1] * 1000
        else:
            age = np.zeros(count, np.int64)
        times: TimeArray = now_ns - age
        if times[0] < self._last_ns:
            times = np.maximum(times, self._last_ns)
        self._last_ns = int(times[-1])
        return times


def signed(difference_us: Ticks) -> Ticks:
    """Return a difference of two node clocks, which wrap, as from -2**31 up to 2**31."""
    return (difference_us + CLOCK // 2) % CLOCK - CLOCK // 2
