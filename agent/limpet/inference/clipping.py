"""Whether the values for a quantized model fit into the range of its input.

Values beyond that are clipped, and the model answers all the same. That happens when a transform is missing, or
when a sensor measures what the calibration never saw. At most ten windows a second are looked at.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from limpet.contracts.data import Array, FloatArray, TensorSpec

PAUSE = 100_000_000
"""Nanoseconds from one look to the next, at least."""
SHARE = 0.01
"""Share of the values of a window that must be outside for it to count as clipped."""
FEWEST = 20
"""Windows that were looked at before there is a verdict."""
MANY = 0.05
"""Share of clipped windows beyond which they are worth an event."""


class Clipping:
    """Counts windows that were looked at, and those of them that were clipped.

    ``due`` is the time, in ns of the monotonic clock, from which on another window is to be looked at.
    """

    def __init__(self, inputs: Sequence[TensorSpec], pixels: FloatArray | None) -> None:
        self._pixels = pixels
        self._limits = [_limits(tensor) for tensor in inputs]
        self.measures = any(self._limits)
        self.due = 0 if self.measures else sys.maxsize
        self._looked = self._clipped = 0
        self._recent = [0, 0]
        self._said = False

    def look(self, inputs: Sequence[Array], now: int) -> None:
        """Look at the model's inputs."""
        self.due = now + PAUSE
        pairs = zip(inputs, self._limits, strict=False)
        clipped = any(
            limits is not None and _outside(values, limits, self._pixels) > SHARE for values, limits in pairs
        )
        self._looked += 1
        self._clipped += clipped
        self._recent[0] += 1
        self._recent[1] += clipped

    def take(self) -> tuple[int, int]:
        """Return how many windows were looked at since the last call, and how many were clipped."""
        counts = self._looked, self._clipped
        self._looked = self._clipped = 0
        return counts

    def news(self) -> str:
        """Return the text of an event if many windows are clipped since the last call, and were not before."""
        looked, clipped = self._recent
        if looked < FEWEST:
            return ""
        self._recent = [0, 0]
        before, self._said = self._said, clipped > MANY * looked
        if before or not self._said:
            return ""
        return described(clipped, looked)


def described(clipped: int, looked: int) -> str:
    """Return in words how many windows are clipped, and what to do."""
    return (
        f"{clipped} of {looked} windows have values that the model's quantized input cannot hold; "
        "check transforms, or calibrate the model with such values"
    )


def _limits(tensor: TensorSpec) -> tuple[float, float] | None:
    """Return between which values nothing is clipped: the stored range, and a step beyond it."""
    if not tensor.quantized or len(tensor.scale) != 1 or tensor.dtype.itemsize > 2:
        return None
    limits, scale = np.iinfo(tensor.dtype), tensor.scale[0]
    zero = tensor.zero_point[0] if tensor.zero_point else 0
    return (limits.min - zero - 1) * scale, (limits.max - zero + 1) * scale


def _outside(values: Array, limits: tuple[float, float], pixels: FloatArray | None) -> float:
    """Return the share of values outside, NaN among them. ``pixels`` are what bytes stand for, if they do."""
    if values.size == 0:
        return 0.0
    low, high = limits
    ends = np.array([values.min(), values.max()])
    if pixels is not None:
        ends = pixels[ends]
    if ends[0] >= low and ends[1] <= high:
        return 0.0
    real = values if pixels is None else pixels[values]
    return int(np.count_nonzero(~((real >= low) & (real <= high)))) / values.size
