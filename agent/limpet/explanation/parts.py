"""The parts of a window, and the window with some of them hidden."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from limpet.contracts.explanation import LONGEST_PART, MOST_PARTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from limpet.contracts.data import Array
    from limpet.contracts.explanation import By

MOST_CHANNELS, MOST_TIMES, MOST_BANDS, TILES, FINE_TILES = 64, 16, 8, 8, 28
"""Parts of each kind. More channels than that are explained in groups of neighbours."""
SOUND_RATE = 1000.0
"""Samples a second from which on one channel is taken for sound, and explained by bands."""
_UNITS = ((7200.0, 3600.0, "h"), (600.0, 60.0, "min"), (0.05, 1.0, "s"), (0.0, 1e-3, "ms"))
"""Units of time: from which length of the window on, in seconds; the unit in seconds; its name."""


class Parts(Protocol):
    """The parts of one window. ``names`` of the parts; ``shape``: their number, or rows and columns."""

    by: By
    names: list[str]
    shape: tuple[int, ...]

    def shown(self, share: NDArray[np.float64]) -> Array:
        """Return the window with this share of each part, 0 hidden to 1 shown: float64 ``(parts,)``.

        The result has the shape and the dtype of the window, and is a new array.
        """


def usual(values: Array, rate: float | None, *, picture: bool) -> By:
    """Return by which parts a window of shape ``(rows, *shape of one sample)`` is explained best."""
    if picture:
        return "pixels"
    rows, channels = len(values), int(np.prod(values.shape[1:]))
    if channels > 1 or rows == 1:
        return "channels"
    return "bands" if rate is not None and rate >= SOUND_RATE else "times"


def divide(  # noqa: PLR0913 - each says another thing about the window
    values: Array,
    baseline: Array,
    by: By,
    *,
    channels: Sequence[str] = (),
    rate: float | None = None,
    fine: bool = False,
    most: int = MOST_PARTS,
) -> Parts:
    """Return the parts of a window.

    ``values`` has shape ``(rows, channels)``, or ``(rows, height, width, colours)`` for ``pixels``. ``baseline``
    is what replaces a hidden part, and can be broadcast to that. ``fine``: pixels in more and smaller tiles.
    ``most``: cells are as many at most, but at least one for each channel. ``ValueError`` if a window has no such
    parts.
    """
    if by == "pixels":
        if values.ndim != 4:
            raise ValueError("its samples are no pictures, so it cannot be explained by pixels")
        return Tiles(values, baseline, FINE_TILES if fine else TILES)
    if values.ndim != 2:
        raise ValueError(f'a window of shape {list(values.shape)} cannot be explained by {by}; use "pixels"')
    if by == "bands":
        return Bands(values, rate)
    return Cells(values, baseline, by, channels, rate, most)


class Cells:
    """Channels, times, or both: rectangles of an array ``(rows, channels)``."""

    def __init__(  # noqa: PLR0913, PLR0917 - as of ``divide``
        self, values: Array, baseline: Array, by: By, channels: Sequence[str], rate: float | None, most: int
    ) -> None:
        rows, columns = values.shape
        self.by = by
        self._values = values
        self._base = np.broadcast_to(baseline, values.shape).astype(np.float64)
        of_rows = _cut(rows, 1 if by == "channels" else MOST_TIMES)
        of_columns = _cut(columns, 1 if by == "times" else MOST_CHANNELS)
        while by == "cells" and len(of_rows) > 1 and len(of_rows) * len(of_columns) > most:
            of_rows = _cut(rows, len(of_rows) // 2)
        self._row = _places(of_rows, rows)
        self._column = _places(of_columns, columns)
        times = _times(of_rows, rate)
        names = [_group(begin, end, channels) for begin, end in of_columns]
        self.shape: tuple[int, ...]
        if by == "channels":
            self.names, self.shape = names, (len(names),)
        elif by == "times":
            self.names, self.shape = times, (len(times),)
        else:
            self.names = [f"{name[: LONGEST_PART - 32]}, {time}" for name in names for time in times]
            self.shape = (len(names), len(times))

    def shown(self, share: NDArray[np.float64]) -> Array:
        """Return the window with this share of each part."""
        grid = share.reshape(self.shape if self.by == "cells" else (-1, 1) if self.by == "channels" else (1, -1))
        weight = grid[self._column][:, self._row].T
        return _mixed(self._values, self._base, weight)


class Bands:
    """Bands of frequency, of all channels together. A hidden band has no amplitude; the first one is 0 Hz."""

    by: By = "bands"

    def __init__(self, values: Array, rate: float | None) -> None:
        rows = len(values)
        bins = rows // 2 + 1
        if bins < 3:
            raise ValueError(f"a window of {rows} rows has no bands of frequency")
        edges = np.unique(np.round(np.geomspace(1, bins, min(MOST_BANDS, bins)))).astype(int)
        self._band = np.searchsorted(edges, np.arange(bins), side="right")
        self._values = values
        self._spectrum = np.fft.rfft(values.astype(np.float64), axis=0)
        per_bin, unit = (rate / rows, " Hz") if rate else (1.0, " periods")
        self.names = [f"0{unit}"] + [
            f"{begin * per_bin:.4g}-{(end - 1) * per_bin:.4g}{unit}" for begin, end in pairwise(edges.tolist())
        ]
        self.shape: tuple[int, ...] = (len(self.names),)

    def shown(self, share: NDArray[np.float64]) -> Array:
        """Return the window with this share of each part."""
        weight = share[self._band][:, None]
        if (weight == 1).all():
            return self._values.copy()
        made = np.fft.irfft(self._spectrum * weight, len(self._values), axis=0)
        return fitted(made, self._values.dtype)


class Tiles:
    """Tiles of pictures ``(rows, height, width, colours)``: the same ones in each row."""

    by: By = "pixels"

    def __init__(self, values: Array, baseline: Array, tiles: int) -> None:
        height, width = values.shape[1:3]
        down, across = _cut(height, tiles), _cut(width, tiles)
        self._values = values
        self._base = np.broadcast_to(fitted(baseline, values.dtype), values.shape)
        self._down, self._across = _places(down, height), _places(across, width)
        self.shape: tuple[int, ...] = (len(down), len(across))
        self.names = [f"{left},{top}-{right},{bottom}" for top, bottom in down for left, right in across]

    def shown(self, share: NDArray[np.float64]) -> Array:
        """Return the window with this share of each part."""
        weight = share.reshape(self.shape)[self._down][:, self._across][None, :, :, None]
        return _mixed(self._values, self._base, weight)


def _mixed(values: Array, base: Array, weight: NDArray[np.float64]) -> Array:
    """Return shown and hidden parts together. Whole shares are copied exactly."""
    shown = np.broadcast_to(weight, values.shape)
    if ((weight == 0) | (weight == 1)).all():
        return np.where(shown == 1, values, base if base.dtype == values.dtype else fitted(base, values.dtype))
    base = base.astype(np.float64)
    return fitted(base + shown * (values.astype(np.float64) - base), values.dtype)


def fitted(values: Array, dtype: np.dtype[Any]) -> Array:
    """Return real numbers as another dtype: rounded and within its range if it is one of integers."""
    if dtype.kind not in "iu":
        return values.astype(dtype)
    limits = np.iinfo(dtype)
    return np.clip(np.rint(values), limits.min, limits.max).astype(dtype)


def _cut(size: int, pieces: int) -> list[tuple[int, int]]:
    """Return where pieces of almost the same size begin and end, as many as there can be, at most ``pieces``."""
    edges = [round(n * size / min(size, max(pieces, 1))) for n in range(min(size, max(pieces, 1)) + 1)]
    return list(pairwise(edges))


def _places(pieces: Sequence[tuple[int, int]], size: int) -> NDArray[np.intp]:
    """Return in which piece each place is, ``(size,)``."""
    return np.searchsorted([end for _, end in pieces], np.arange(size), side="right")


def _times(pieces: Sequence[tuple[int, int]], rate: float | None) -> list[str]:
    """Return names of pieces by time, all in one unit, with as many digits as their edges need."""
    if rate is None:
        return [f"samples {begin}-{end - 1}" if end - begin > 1 else f"sample {begin}" for begin, end in pieces]
    longest = pieces[-1][1] / rate
    seconds, unit = next((seconds, unit) for least, seconds, unit in _UNITS if longest >= least)
    shortest = min(end - begin for begin, end in pieces) / rate / seconds
    digits = max(0, 2 - math.floor(math.log10(shortest)))

    def edge(samples: int) -> str:
        text = f"{samples / rate / seconds:.{digits}f}"
        return text.rstrip("0").rstrip(".") if "." in text else text

    return [f"{edge(begin)}-{edge(end)} {unit}" for begin, end in pieces]


def _group(begin: int, end: int, channels: Sequence[str]) -> str:
    named = [channels[n] if n < len(channels) else f"channel {n}" for n in (begin, end - 1)]
    return (named[0] if end - begin == 1 else f"{named[0]} to {named[1]}")[:LONGEST_PART]
