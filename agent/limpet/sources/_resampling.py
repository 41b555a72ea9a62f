"""Sound at another rate, block by block, with soxr's low-pass. Needs the extra ``audio``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import soxr

if TYPE_CHECKING:
    from limpet.contracts.data import FloatArray


class Resampling:
    """Takes blocks at one rate in Hz and returns blocks at another one, none of them later or earlier.

    The low-pass looks ahead. So a block may come out shorter, and ``rest`` has what is still to come.
    """

    def __init__(self, rate: float, wanted: float, channels: int) -> None:
        self._rate, self._wanted = rate, wanted
        self._nothing = np.empty((0, channels), np.float32)
        self._stream = soxr.ResampleStream(rate, wanted, channels, dtype="float32", quality="HQ")
        self._taken = self._returned = 0

    @property
    def held_ns(self) -> int:
        """Nanoseconds from the last sample that was returned to the last one that was taken."""
        seconds = (self._taken - 1) / self._rate - (self._returned - 1) / self._wanted
        return round(seconds * 1e9)

    def feed(self, values: FloatArray) -> FloatArray:
        """Take a block ``(n, channels)``, and return what is sure by now, ``(m, channels)``."""
        self._taken += len(values)
        return self._counted(self._stream.resample_chunk(np.ascontiguousarray(values)))

    def rest(self) -> FloatArray:
        """Return what was held back, and begin again with the next block."""
        values = self._counted(self._stream.resample_chunk(self._nothing, last=True))
        self._stream.clear()
        self._taken = self._returned = 0
        return values

    def _counted(self, values: FloatArray) -> FloatArray:
        self._returned += len(values)
        return values
