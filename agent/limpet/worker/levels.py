"""Means of channels, for pipelines that follow the slow drift of a sensor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from limpet.contracts.adaptation import MOST_CHANNELS
from limpet.learning.changes import Levels

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from limpet.contracts.data import Window
    from limpet.wire.records import Result

LARGEST = 1e30


class ChannelLevels:
    """Adds up the channel means of windows, of the samples before the first transform."""

    def __init__(self, channels: int) -> None:
        self._channels = channels if channels <= MOST_CHANNELS else 0
        self._count = 0
        self._means: NDArray[np.float64] = np.zeros(self._channels)
        self._squares: NDArray[np.float64] = np.zeros(self._channels)

    def see(self, window: Window, _result: Result[Any]) -> None:
        """Look at a window. One with NaN, or with numbers that are too large, does not count."""
        if window.samples is None or not self._channels:
            return
        means = np.asarray(window.samples, np.float64).reshape(-1, self._channels).mean(axis=0)
        if not np.abs(means).max(initial=0.0) < LARGEST**0.5:
            return
        self._count += 1
        moved = means - self._means
        self._means = self._means + moved / self._count
        self._squares = self._squares + moved * (means - self._means)

    def take(self) -> Levels | None:
        """Return the levels of the windows since the last call, ``None`` if there was none."""
        if not self._count:
            return None
        variances = self._squares / self._count
        found = Levels(self._count, tuple(self._means.tolist()), tuple(variances.tolist()))
        self._count = 0
        self._means, self._squares = np.zeros(self._channels), np.zeros(self._channels)
        return found
