"""Areas of a mask in the source's picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from limpet.contracts.data import Cut
from limpet.decoders._detection.boxes import DIGITS, in_source
from limpet.decoders._segmentation.areas import outline, simplified

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from limpet.decoders._segmentation.areas import Area, Kinds

Box: TypeAlias = tuple[float, float, float, float]
Polygon: TypeAlias = list[tuple[float, float]]


def rounded(cut: Cut) -> Box:
    """Return a rectangle with the digits that are reported."""
    left, top, right, bottom = (round(side, DIGITS) for side in cut)
    return left, top, right, bottom


def box_around(mask: NDArray[np.bool_], cut: Cut) -> Box:
    """Return the box of what is true in a mask, in the source's picture. Something must be true."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return _box((int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1), mask.shape, cut)


def outlined(kinds: Kinds, area: Area, cut: Cut, tolerance: float, most: int) -> tuple[Box, Polygon]:
    """Return the box and the outline, of at most ``most`` corners, of an area in the source's picture."""
    height, width = kinds.shape
    corners = simplified(outline(kinds, area), tolerance, most) / [width, height]
    places = in_source(corners, cut).clip(0, 1).round(DIGITS)
    return _box(area.box, kinds.shape, cut), [(x, y) for x, y in places.tolist()]


def _box(pixels: tuple[int, int, int, int], shape: tuple[int, ...], cut: Cut) -> Box:
    height, width = shape
    left, top, right, bottom = pixels
    sides = cut.of((left / width, top / height, right / width, bottom / height))
    return rounded(Cut(*(min(max(side, 0.0), 1.0) for side in sides)))
