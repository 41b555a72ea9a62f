"""Samples without gaps to windows: each alone, by count or by time. ``Windower`` looks after gaps."""

from __future__ import annotations

import math
from copy import copy
from typing import TYPE_CHECKING

import numpy as np

from limpet.contracts.data import Window

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from limpet.contracts.data import Array, SampleSpec, TimeArray
    from limpet.contracts.fields import WindowSpec

_LIMIT = 128 << 20
"""Bytes of samples at which a window by time is given up: its stamps stand still, or it is far too long."""


def make_cutter(spec: WindowSpec, samples: SampleSpec) -> _Single | _ByCount | _ByTime:
    """Return what cuts blocks of samples without a gap into such windows, block after block."""
    if spec.seconds is not None:
        return _ByTime(spec, samples, spec.seconds)
    size = spec.size or 1
    hop = spec.hop or size
    return _Single() if size == hop == 1 else _ByCount(samples, size, hop)


class _Single:
    """Every sample is a window: nothing is kept, nothing can be lost."""

    def __init__(self) -> None:
        self.discarded = 0
        self.gap_pending = False

    def forget(self) -> None:
        """Forget the samples under way: there are none."""

    def cut(self, values: Array, mono: TimeArray, wall: TimeArray, index: int) -> Iterator[Window]:
        """Return a window for each sample."""
        count = len(values)
        views = values.reshape(count, 1, *values.shape[1:])
        return map(Window, views, mono.tolist(), wall.tolist(), range(index, index + count))


class _ByCount:
    """Windows of ``size`` samples, one every ``hop``.

    ``_buffer[_first:_last]`` are the samples of earlier blocks with which the next window begins. If it begins
    later than the next block does, there are none, and ``_skip`` samples of the block are before it. A window that
    is wholly inside a block is a view of the block; only what windows across two blocks need is copied.
    """

    def __init__(self, samples: SampleSpec, size: int, hop: int) -> None:
        self.size = size
        self.discarded = 0
        self.gap_pending = False
        self._hop = hop
        # Fewer than size samples are held, and _views adds fewer than 3 * size to them.
        # A frame is one object, whatever its shape.
        shape, dtype = ((), np.dtype(object)) if samples.frames else (samples.shape, samples.dtype)
        self._buffer = np.empty((4 * size, *shape), dtype)
        self._first = self._last = 0
        self._skip = 0
        self._seen = 0  # How many of the held samples were in a window already.

    def __deepcopy__(self, _: object) -> _ByCount:
        """Copy what is held; frames themselves never change."""
        other = copy(self)
        other.own_buffer()
        return other

    def own_buffer(self) -> None:
        """Hold the samples under way in memory of its own."""
        self._buffer = self._buffer.copy()

    def forget(self) -> None:
        """Forget the samples under way."""
        self.discarded += max(self._last - self._first - self._seen, 0)
        self._first = self._last = self._skip = self._seen = 0

    def cut(self, values: Array, mono: TimeArray, wall: TimeArray, index: int) -> Iterator[Window]:
        """Return the windows that these samples complete. The buffer is already as the next call needs it."""
        count, hop, held = len(values), self._hop, self._last - self._first
        available = held + count - self._skip
        windows = max((available - self.size) // hop + 1, 0)
        first_end = self._skip - held + self.size - 1  # Where in the block the first of them ends.
        left = available - windows * hop  # Samples for the windows after them.
        views = self._views(values, windows, max(left, 0))
        self._skip = max(-left, 0)
        if not windows:
            return iter(())
        self._seen = max(self.size - hop, 0)
        ends = slice(first_end, None, hop)
        ordinals = range(index + first_end, index + count, hop)
        return map(Window, views, mono[ends].tolist(), wall[ends].tolist(), ordinals)

    def _views(self, values: Array, windows: int, left: int) -> Iterable[Array]:
        """Return so many windows, and hold the ``left`` samples after their beginnings for the next ones."""
        held, hop = self._last - self._first, self._hop
        if left > len(values):  # The next window begins before this block, so these do, too.
            first = self._append(values)
            self._first = first + windows * hop
            return self._buffered(first, windows)
        stitched: list[Array] = []
        if held and windows:
            across = min(windows, -(-held // hop))  # Windows that begin before this block.
            first = self._append(values[: (across - 1) * hop + self.size - held])
            stitched = self._buffered(first, across)
        inside = self._inside(values, len(stitched) * hop + self._skip - held, windows - len(stitched))
        self._first = self._last
        if left:
            self._append(values[len(values) - left :])
        return [*stitched, *inside] if stitched else inside

    def _append(self, values: Array) -> int:
        """Put samples behind those that are held; return where in the buffer these begin."""
        if self._last + len(values) > len(self._buffer):
            held = self._last - self._first
            self._buffer[:held] = self._buffer[self._first : self._last]
            self._first, self._last = 0, held
        end = self._last + len(values)
        self._buffer[self._last : end] = values
        self._last = end
        return self._first

    def _buffered(self, first: int, windows: int) -> list[Array]:
        """Return so many windows of the buffer as views of it."""
        begins = range(first, first + windows * self._hop, self._hop)
        return [self._buffer[at : at + self.size] for at in begins]

    def _inside(self, values: Array, first: int, windows: int) -> Iterable[Array]:
        """Return so many windows that are wholly in ``values``, as views of it."""
        end = first + windows * self._hop
        if self._hop == self.size and windows:
            return values[first:end].reshape(-1, self.size, *values.shape[1:])
        return [values[at : at + self.size] for at in range(first, end, self._hop)]


class _ByTime:
    """Windows over ``seconds``, from the first sample on; as they come, or resampled to ``size`` rows.

    A window is complete with the first sample behind it, a resampled one with the first on or behind its last row.
    One into which no sample fell is not made.
    """

    def __init__(self, spec: WindowSpec, samples: SampleSpec, seconds: float) -> None:
        self.discarded = 0
        self._span = max(round(seconds * 1e9), 1)
        self._hop = max(round((spec.hop_seconds or seconds) * 1e9), 1)
        self._reach = self._span
        self._resampler: _Resampler | None = None
        if spec.size:
            self._resampler = _Resampler(spec.size, self._span, samples.shape)
            self._reach = int(self._resampler.grid[-1])
        self._values = np.empty((0, *samples.shape), samples.dtype)
        self._stamps = np.empty((3, 0), np.int64)  # monotonic, wall, ordinal
        self._row_bytes = math.prod(samples.shape) * samples.dtype.itemsize + 24
        self._end = 0
        self._used = 0  # how many of the buffered samples were in a window
        self._start: int | None = None  # of the next window
        self._newest = 0
        self.gap_pending = False

    def forget(self) -> None:
        """Forget the samples under way."""
        if self._start is not None:
            skipped = int(np.searchsorted(self._stamps[0, : self._end], self._start))
            self.discarded += max(self._end - max(self._used, skipped), 0)
        self._end = self._used = 0
        self._start = None

    def cut(self, values: Array, mono: TimeArray, wall: TimeArray, index: int) -> Iterator[Window]:
        """Return the windows that these samples complete."""
        if mono[0] < self._newest:
            self.forget()
        self._newest = int(mono[-1])
        end = self._make_room(len(values))
        if self._start is None:
            self._start = int(mono[0])
        self._values[self._end : end] = values
        self._stamps[:, self._end : end] = mono, wall, np.arange(index, index + len(values))
        self._end = end
        return self._windows(self._start, self._newest)

    def _make_room(self, count: int) -> int:
        """Let the buffer have room for ``count`` more rows; return where they will end."""
        if self._end + count <= len(self._values):
            return self._end + count
        kept = 0 if self._start is None else self._needed_from(self._start)
        if (self._end - kept) * self._row_bytes > _LIMIT:
            self.forget()
            self.gap_pending = True
            kept = 0
        live = slice(kept, self._end)
        self._end -= kept
        self._used = max(self._used - kept, 0)
        values, stamps = self._values, self._stamps
        capacity = 2 * (self._end + count)
        if capacity > len(values):
            self._values = np.empty((capacity, *values.shape[1:]), values.dtype)
            self._stamps = np.empty((3, capacity), np.int64)
        self._values[: self._end] = values[live]
        self._stamps[:, : self._end] = stamps[:, live]
        return self._end + count

    def _needed_from(self, start: int) -> int:
        """Return the position of the first buffered sample that a window from ``start`` on needs."""
        mono = self._stamps[0, : self._end]
        if self._resampler is None:
            return int(np.searchsorted(mono, start))
        return int(np.searchsorted(mono, start, "right")) - 1

    def _windows(self, start: int, newest: int) -> Iterator[Window]:
        mono = self._stamps[0, : self._end]
        while newest >= start + self._reach:
            first, stop = np.searchsorted(mono, (start, start + self._span)).tolist()
            if first == stop:
                start += ((int(mono[first]) - start - self._span) // self._hop + 1) * self._hop
                self._start = start
                continue
            self._start = start + self._hop
            yield self._window(start, first, stop)
            start += self._hop

    def _window(self, start: int, first: int, stop: int) -> Window:
        if self._resampler is None:
            values, last = self._values[first:stop], stop - 1
        else:
            mono = self._stamps[0, : self._end]
            values = self._resampler(self._values, mono, start)
            last = int(np.searchsorted(mono, start + self._reach))
        self._used = last + 1
        mono_ns, wall_ns, index = self._stamps[:, last].tolist()
        return Window(values, mono_ns, wall_ns, index)


class _Resampler:
    """Linear interpolation at ``size`` instants ``grid``, evenly spaced over ``span`` ns."""

    def __init__(self, size: int, span: int, shape: tuple[int, ...]) -> None:
        self.grid = np.rint(np.arange(size) * (span / size)).astype(np.int64)
        self._out = np.empty((size, *shape), np.float32)
        self._below = np.empty_like(self._out)

    def __call__(self, values: Array, stamps: TimeArray, start: int) -> Array:
        """Return the values at ``start + grid``, which must be between the first and the last of ``stamps``."""
        grid = self.grid + start
        below = np.searchsorted(stamps, grid, "right") - 1
        since = grid - stamps[below]
        # A sample that is on the grid is taken as it is, whatever comes after it.
        above = np.where(since == 0, below, np.minimum(below + 1, len(stamps) - 1))
        weight = (since / np.maximum(stamps[above] - stamps[below], 1)).astype(np.float32)
        with np.errstate(all="ignore"):
            self._below[...] = values[below]
            self._out[...] = values[above]
            self._out -= self._below
            self._out *= weight.reshape(-1, *[1] * (self._out.ndim - 1))
            self._out += self._below
        return self._out
