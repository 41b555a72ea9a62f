"""Records how long each stage of each inference took, at the cost of one memory write.

The buckets are those of ``limpet.histogram``, which needs no numpy; this module runs where numpy is.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

import numpy as np

from limpet.histogram import BUCKETS, SUB_BITS, SUB_BUCKETS
from limpet.wire.records import TIMED_STEPS

if TYPE_CHECKING:
    from limpet.contracts.data import TimeArray
    from limpet.wire.records import TimedStep

_ROWS = 1024
_ROW = Struct(f"{len(TIMED_STEPS)}q")
_pack_into = _ROW.pack_into
_ROW_BYTES = _ROW.size
_FULL = _ROWS * _ROW_BYTES

# An IEEE double has its exponent, biased by 1023, above 52 bits of mantissa: shifted so that SUB_BITS of the
# mantissa stay, it counts buckets.
_MANTISSA = 52 - SUB_BITS
_FIRST = (1023 + SUB_BITS - 1) << SUB_BITS


class Latency:
    """Durations of one pipeline's stages as histograms. Memory is bounded: 32 kB of rows and a count a bucket."""

    def __init__(self) -> None:
        self._rows = bytearray(_FULL)
        self._end = 0
        self._counts = np.zeros((len(TIMED_STEPS), BUCKETS), np.int64)

    def record(self, queue_ns: int, transform_ns: int, invoke_ns: int, decode_ns: int) -> None:
        """Take the durations of one inference, in the order of ``records.TIMED_STEPS``."""
        end = self._end
        _pack_into(self._rows, end, queue_ns, transform_ns, invoke_ns, decode_ns)
        self._end = end = end + _ROW_BYTES
        if end == _FULL:
            self._fold()

    @property
    def last_ns(self) -> tuple[int, ...]:
        """The durations that were recorded last, in the order of ``records.TIMED_STEPS``. 0 before the first."""
        return _ROW.unpack_from(self._rows, (self._end or _FULL) - _ROW_BYTES)

    @property
    def last_us(self) -> float:
        """What the inference took that was recorded last, in µs and without waiting. 0 before the first."""
        _, *stages = self.last_ns
        return float(sum(stages)) / 1000

    def take(self) -> dict[TimedStep, dict[int, int]]:
        """Return a sparse histogram for each stage of what was recorded since the last call."""
        self._fold()
        taken: dict[TimedStep, dict[int, int]] = {}
        for stage, counts in zip(TIMED_STEPS, self._counts, strict=True):
            filled = np.flatnonzero(counts)
            taken[stage] = dict(zip(filled.tolist(), counts[filled].tolist(), strict=True))
        self._counts[:] = 0
        return taken

    def _fold(self) -> None:
        """Count the recorded rows."""
        durations = np.frombuffer(self._rows, np.int64, self._end // 8).reshape(-1, len(TIMED_STEPS))
        cells = buckets_of(durations) + np.arange(len(TIMED_STEPS)) * BUCKETS
        # On 32-bit Arm bincount takes no int64.
        counts = np.bincount(cells.ravel().astype(np.intp), minlength=self._counts.size)
        self._counts += counts.reshape(self._counts.shape)
        self._end = 0


def buckets_of(values_ns: TimeArray) -> TimeArray:
    """Return ``histogram.bucket_of`` of each of many durations, int64 of any shape."""
    values = np.maximum(values_ns, 0)
    # Clear bits that a bucket does not see, so that the conversion never rounds up into the next bucket.
    bits = (values & ~(values >> (SUB_BITS + 1))).astype(np.float64).view(np.int64)
    return np.where(values < SUB_BUCKETS, values, (bits >> _MANTISSA) - _FIRST)
