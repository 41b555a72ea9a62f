"""One recording while it runs: samples in, lines of the file and the description out."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timezone
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from limpet.recordings.folder import MOST_GAPS, MOST_SPANS, Recording
from limpet.recordings.label_track import LabelTrack
from limpet.recordings.layouts import Layout, Table, Wave

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from limpet.contracts.data import TimeArray


TOLERANCE = 0.1
"""Share by which the rate may differ from what the source says."""
_HIGHEST, _LONGEST = 1e9, 1e8
"""Samples a second, and seconds from a sample to the next, that are believed."""
_ENOUGH = 50
"""Samples after which the rate is known well enough to say that."""


class Origin(NamedTuple):
    """Where samples come from. ``units`` has one for each channel, or none at all. ``layout``: that of files."""

    source: str
    kind: str
    channels: list[str]
    units: list[str]
    rate: float | None
    layout: Layout = Table()


class Take:
    """One recording. ``samples`` and ``gaps`` so far; ``last`` is the time of the last sample in seconds."""

    def __init__(self, origin: Origin, first_ns: int, wall_ns: int, label: str) -> None:
        """``first_ns`` and ``wall_ns``: the time of the first sample, monotonic and Unix."""
        self.samples = 0
        self.last = 0.0
        self.gaps: list[float] = []
        self.labelled: Counter[str] = Counter()
        self.track = LabelTrack(label)
        self._origin = origin
        self._in_gaps = 0.0
        self._first_ns = first_ns
        self._wall_ns = wall_ns

    def seconds(self, monotonic_ns: int) -> float:
        """Return a time as seconds from the first sample. A time before that is 0."""
        return round(max(0, monotonic_ns - self._first_ns) / 1e9, 6)

    def times(self, monotonic_ns: TimeArray) -> NDArray[np.float64]:
        """Return the times of samples in seconds from the first sample. In a WAV file, only the rate says them."""
        if isinstance(self._origin.layout, Wave):
            return ((self.samples + np.arange(len(monotonic_ns))) / self._origin.layout.rate).round(6)
        since: NDArray[np.float64] = (np.maximum(monotonic_ns, self._first_ns) - self._first_ns) / 1e9
        return np.maximum(since, self.last).round(6)

    def add(self, seconds: NDArray[np.float64], *, gap: bool) -> None:
        """Count samples that were written. ``gap``: the first does not follow the sample before."""
        times = seconds.tolist()
        if gap and self.samples:
            self.gaps.append(times[0])
            self._in_gaps += times[0] - self.last
        self.labelled.update(self.track.counts(times))
        self.samples += len(times)
        self.last = times[-1]

    @property
    def full(self) -> bool:
        """Whether its description has reached a limit, so that a new recording must begin."""
        return len(self.gaps) >= MOST_GAPS or self.track.changes >= MOST_SPANS

    @property
    def measured(self) -> float | None:
        """Samples a second between gaps, ``None`` if there are too few."""
        steps, seconds = self.samples - 1 - len(self.gaps), self.last - self._in_gaps
        return steps / seconds if 0 < steps <= seconds * _HIGHEST else None

    @property
    def is_off(self) -> bool:
        """Whether the samples come at another rate than the source says."""
        said, measured = self._origin.rate, self.measured
        if said is None or measured is None or self.samples < _ENOUGH:
            return False
        return abs(measured - said) > TOLERANCE * said

    @property
    def rate(self) -> float | None:
        """Samples a second: as the source says; as measured if it does not say so, or if it is wrong."""
        return self.measured if self._origin.rate is None or self.is_off else self._origin.rate

    @property
    def duration(self) -> float:
        """Seconds from the first sample to where one after the last would be."""
        return round(self.last + (min(1 / self.rate, _LONGEST) if self.rate else 0.0), 6)

    def described(self, file: str, dropped: Mapping[str, int], *, complete: bool) -> Recording:
        """Return its description."""
        origin, end = self._origin, self.duration
        return Recording(
            file=file,
            source=origin.source,
            kind=origin.kind,
            channels=origin.channels,
            units=origin.units,
            rate=None if self.rate is None else round(self.rate, 6) or None,
            samples=self.samples,
            seconds=end,
            started=datetime.fromtimestamp(self._wall_ns / 1e9, timezone.utc),
            complete=complete,
            dropped=dict(dropped),
            gaps=self.gaps,
            spans=self.track.spans(end),
        )
