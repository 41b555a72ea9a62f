"""A few of a source's values, for people who watch the device. They are copies: blocks belong to the source."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from limpet.wire.border import cleaned
from limpet.wire.records import LONGEST_NAME, MOST_SHOWN_CHANNELS, MOST_SHOWN_ROWS, Inputs

if TYPE_CHECKING:
    from limpet.contracts.data import Samples, SampleSpec

PAUSE = 0.125
"""Seconds between two samples that are kept."""


class LiveInputs:
    """Counts samples, and keeps the newest of some blocks."""

    def __init__(self, spec: SampleSpec) -> None:
        self._shape = [max(size, 0) for size in spec.shape]
        self._frames = spec.frames
        names = spec.channels[:MOST_SHOWN_CHANNELS]
        self._channels = [cleaned(name, LONGEST_NAME) for name in names]
        self._are_rows = len(spec.shape) == 1
        self._rows: list[list[float]] = []
        self._samples = 0
        self._since = monotonic()
        self._next = 0.0

    def see(self, samples: Samples) -> None:
        """Look at a block before it goes to the pipelines."""
        count = len(samples)
        self._samples += count
        if self._frames and count:
            form = samples.values[-1].form
            self._shape[:2] = form.height, form.width
        if self._are_rows and count and (now := monotonic()) >= self._next:
            self._next = now + PAUSE
            if len(self._rows) >= MOST_SHOWN_ROWS:
                del self._rows[0]
            self._rows.append(samples.values[-1, :MOST_SHOWN_CHANNELS].tolist())

    def take(self) -> Inputs:
        """Return what came since the last call."""
        now = monotonic()
        rate = self._samples / max(now - self._since, 1e-3)
        rows, self._rows = self._rows, []
        self._samples, self._since = 0, now
        return Inputs(rate, self._shape, self._channels, rows)
