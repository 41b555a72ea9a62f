"""Samples to windows: by count or by time, never across a gap, except with ``span_gaps``."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from limpet.contracts.stage import Spec
from limpet.errors import ModelError
from limpet.inference.window_cutters import make_cutter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from limpet.contracts.data import Samples, SampleSpec, TimeArray, Window
    from limpet.contracts.fields import WindowSpec

LARGEST = 64 << 20
"""Bytes of a window, at most. Its worker holds several."""

_NO_ORDINAL = -1


def refuse_oversize(spec: WindowSpec, samples: SampleSpec) -> None:
    """Raise ``ModelError`` if windows of these samples are too large to keep, or cannot be cut of frames."""
    if samples.frames and spec.seconds is not None:
        raise ModelError("a window of a camera's frames has a size, not seconds; use window = { size = 1 }")
    if samples.frames and -1 in samples.shape and spec.size != 1:
        raise ModelError(
            f"a window of {spec.size} frames needs frames of one size; set the source's width and height"
        )
    rows = spec.size or math.ceil((spec.seconds or 0) * (samples.rate or 0))
    size = rows * math.prod(samples.shape) * samples.dtype.itemsize
    if size > LARGEST:
        raise ModelError(
            f"a window of {rows} samples of shape {list(samples.shape)} takes {size} bytes; the limit is {LARGEST}"
        )


def windows_of(spec: WindowSpec, samples: SampleSpec, every: int = 1) -> Spec:
    """Return the form of windows of these samples, which are float32 at another rate if they are resampled.

    The shape has -1 first if time alone says how many rows there are. Of the windows, one in ``every`` is taken.
    """
    rows, dtype, rate = spec.size or 1, samples.dtype, samples.rate
    hop = (spec.hop or rows) * every if spec.seconds is None else None
    if spec.seconds is not None:
        rows = spec.size or -1
        if spec.size is not None:
            dtype, rate = np.dtype(np.float32), spec.size / spec.seconds
            hop = _whole((spec.hop_seconds or spec.seconds) * rate * every)
    shape = (rows, *samples.shape)
    channels = samples.channels if shape[-1] == len(samples.channels) else ()
    return Spec(shape=shape, dtype=dtype, rate=rate, channels=channels, hop=hop, frames=samples.frames)


def _whole(rows: float) -> int | None:
    """Return a number of rows, ``None`` if it is not a whole one."""
    nearest = round(rows)
    return nearest if nearest and abs(rows - nearest) < 1e-6 * nearest else None


def windows_a_second(spec: WindowSpec, samples: SampleSpec) -> float | None:
    """Return at which rate windows come, ``None`` if the samples have no steady rate."""
    if spec.seconds is not None:
        return 1 / (spec.hop_seconds or spec.seconds)
    return None if samples.rate is None else samples.rate / (spec.hop or spec.size or 1)


class Windower:
    """Cuts blocks of samples into windows. ``spec`` is the form of these."""

    def __init__(self, spec: WindowSpec, samples: SampleSpec) -> None:
        self._cutter = make_cutter(spec, samples)
        self.spec = windows_of(spec, samples)
        self._span_gaps = spec.span_gaps
        self._max_gap = _max_gap(spec)
        self._expected: int | None = None
        self._last_ns: int | None = None

    @property
    def discarded(self) -> int:
        """How many samples are in no window because of a gap after them."""
        return self._cutter.discarded

    def forget(self) -> None:
        """Forget the samples under way; they count as discarded."""
        self._cutter.forget()

    def push(self, samples: Samples) -> Iterator[Window]:
        """Take a block and return the windows that it completes. Iterate to the end before the next push.

        A window's values are a view of the block where it is wholly inside. A jump of ``Samples.index`` is a gap
        like ``Samples.gap``, and like two stamps that are further apart than ``max_gap`` or run backwards.
        """
        count = len(samples.values)
        if not count:
            if samples.gap and self._expected is not None:
                self._expected = _NO_ORDINAL
            return iter(())
        gap = (samples.gap or samples.index != self._expected) and self._expected is not None
        self._expected = samples.index + count
        if self._max_gap is not None and (breaks := self._breaks(samples.monotonic_ns, self._max_gap)):
            return self._pieces(samples, {0, *breaks} if gap else breaks)
        if gap:
            self._gap()
        cutter = self._cutter
        windows = cutter.cut(samples.values, samples.monotonic_ns, samples.wall_ns, samples.index)
        return self._marked(windows) if cutter.gap_pending else windows

    def _breaks(self, stamps: TimeArray, max_gap: int) -> set[int]:
        """Return the positions of the samples that are too far from the one before."""
        before, first = self._last_ns, int(stamps[0])
        breaks = {0} if before is not None and not 0 <= first - before <= max_gap else set()
        self._last_ns = first
        if len(stamps) > 1:
            self._last_ns = int(stamps[-1])
            # Unsigned, a step backwards is a very long one forwards.
            far = (stamps[1:] - stamps[:-1]).view(np.uint64) > max_gap
            if far.any():
                breaks.update((np.flatnonzero(far) + 1).tolist())
        return breaks

    def _pieces(self, samples: Samples, breaks: set[int]) -> Iterator[Window]:
        """Cut a block that has gaps before the positions ``breaks``."""
        for begin, end in pairwise(sorted({0, *breaks, len(samples)})):
            if begin in breaks:
                self._gap()
            part = slice(begin, end)
            yield from self._marked(
                self._cutter.cut(
                    samples.values[part], samples.monotonic_ns[part], samples.wall_ns[part], samples.index + begin
                )
            )

    def _gap(self) -> None:
        self._cutter.gap_pending = True
        if not self._span_gaps:
            self._cutter.forget()

    def _marked(self, windows: Iterator[Window]) -> Iterator[Window]:
        """Mark the first window as one after a gap. It may come with a later block."""
        for window in windows:
            window.gap, self._cutter.gap_pending = self._cutter.gap_pending, False
            yield window


def _max_gap(spec: WindowSpec) -> int | None:
    """Return the longest step in ns that is no gap; for windows by time, at least none that runs backwards."""
    if spec.max_gap is not None:
        return round(spec.max_gap * 1e9)
    return None if spec.seconds is None else np.iinfo(np.int64).max
