"""Plots of characters: Braille patterns of 2 by 4 dots. Pure functions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from limpet.contracts.data import Array

_BRAILLE = 0x2800
_DOTS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])
"""The bit of each dot of a character, from top to bottom and from left to right."""


_LARGEST = 1e300
"""Larger values are drawn as this one, so that neither sums nor differences overflow."""


def drawable(values: Array) -> NDArray[np.float64]:
    """Return values as they are drawn: what is no number is 0, and none is very large."""
    return np.clip(np.nan_to_num(values.astype(np.float64)), -_LARGEST, _LARGEST)


def braille(
    seconds: NDArray[np.float64], values: Array, view: tuple[float, float], size: tuple[int, int]
) -> list[str]:
    """Draw channels, ``values`` ``(n, channels)``, over the times of ``view`` in ``size`` (columns, lines).

    All channels have one scale, from the lowest to the highest value in view. Each column of dots reaches from the
    lowest to the highest of its samples, and to the sample before, so that no peak is lost.
    """
    columns, lines = size
    dots = np.zeros((lines * 4, columns * 2), bool)
    first, last = np.searchsorted(seconds, view)
    part = drawable(values[first:last])
    if len(part):
        low, high = scale(part)
        places = (seconds[first:last] - view[0]) / (view[1] - view[0]) * dots.shape[1]
        places = np.clip(places.astype(int), 0, dots.shape[1] - 1)
        heights = ((high - part) / (high - low) * (dots.shape[0] - 1)).round().astype(int)
        for channel in heights.T:
            _draw(dots, places, channel)
    blocks = dots.reshape(lines, 4, columns, 2)
    codes = _BRAILLE + (blocks * _DOTS[None, :, None, :]).sum(axis=(1, 3))
    return ["".join(map(chr, line)) for line in codes]


def scale(values: Array) -> tuple[float, float]:
    """Return the lowest and the highest value, apart from each other."""
    shown = drawable(values)
    low, high = float(shown.min()), float(shown.max())
    half = max(0.5, abs(low) / 1e6)  # of a large number, 0.5 changes nothing
    return (low, high) if high > low else (low - half, high + half)


def _draw(dots: NDArray[np.bool_], places: NDArray[np.int_], heights: NDArray[np.int_]) -> None:
    starts = np.flatnonzero(np.diff(places, prepend=-1))
    tops = np.minimum.reduceat(heights, starts)
    bottoms = np.maximum.reduceat(heights, starts)
    before = heights[np.maximum(starts - 1, 0)]
    for place, top, bottom, last in zip(places[starts], tops, bottoms, before, strict=True):
        dots[min(top, last) : max(bottom, last) + 1, place] = True
