"""Channels that a model does not take, and that postprocess stages look at: their mean over each window."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import numpy as np

from limpet.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from limpet.contracts.data import Array, FloatArray, Samples, SampleSpec, Window
    from limpet.contracts.fields import WindowSpec
    from limpet.inference.resolving import Configured

MOST_ROWS = 1 << 16
"""Samples that are remembered, at most. Of a longer window the mean is that of its end."""


def channels_beside(stages: Sequence[Configured], own: Sequence[str], source: SampleSpec) -> dict[str, int]:
    """Return the channels that stages want and the model does not take, each with its column of the source."""
    named = bool(source.shape) and source.shape[-1] == len(source.channels)
    wanted = [name for stage in stages for name in stage.abilities.channels(stage.config)]
    return {
        name: source.channels.index(name)
        for name in wanted
        if named and name not in own and name in source.channels
    }


class Beside:
    """Remembers the last samples of some columns. ``spec`` says how long a window is."""

    def __init__(self, columns: Sequence[int], spec: WindowSpec) -> None:
        self._columns = list(columns)
        self._rows = None if spec.seconds is not None else spec.size
        self._duration_ns = round((spec.seconds or 0.0) * 1e9)
        self._blocks: deque[tuple[int, Array, FloatArray]] = deque()
        self._count = 0

    def see(self, samples: Samples) -> None:
        """Take a block of the source's samples. ``ModelError`` if it lacks a column."""
        if not len(samples):
            return
        try:
            values = samples.values.take(self._columns, axis=1).astype(np.float32)
        except IndexError as error:
            raise ModelError(
                f"the source gave values of shape {samples.values.shape}, without all channels"
            ) from error
        self._blocks.append((samples.index, samples.monotonic_ns, values))
        self._count += len(values)
        while len(self._blocks) > 1 and self._is_old():
            self._count -= len(self._blocks.popleft()[2])

    def with_means(self, windows: Iterator[Window]) -> Iterator[Window]:
        """Set ``beside`` of each window."""
        for window in windows:
            window.beside = self._mean(window)
            yield window

    def _is_old(self) -> bool:
        """Whether the oldest block is in no window that the newest one completes."""
        (_, oldest_times, oldest), (_, newest_times, newest) = self._blocks[0], self._blocks[-1]
        others = self._count - len(oldest)
        if self._rows is None:
            old = int(oldest_times[-1]) < int(newest_times[0]) - 2 * self._duration_ns
            return old or others >= MOST_ROWS
        return others >= min(self._rows, MOST_ROWS) + len(newest)

    def _mean(self, window: Window) -> FloatArray | None:
        """Return the mean of each column over a window, NaN where it has no finite value."""
        found = []
        for index, times, values in self._blocks:
            numbers = index + np.arange(len(values))
            if self._rows is None:
                inside = (times <= window.monotonic_ns) & (times > window.monotonic_ns - self._duration_ns)
            else:
                inside = (numbers <= window.ordinal) & (numbers > window.ordinal - self._rows)
            found.append(values[inside])
        rows = np.concatenate(found) if found else np.empty((0, len(self._columns)), np.float32)
        finite = np.isfinite(rows)
        with np.errstate(all="ignore"):
            return np.asarray(np.where(finite, rows, 0).sum(axis=0) / finite.sum(axis=0), np.float32)
