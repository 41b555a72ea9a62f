"""Boxes of one picture: as the model measures them, and where they are in the source's picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from limpet.contracts.data import Cut, FloatArray

CANDIDATES = 1000
"""Boxes at most, the best, that are looked at for overlap: a model gone wrong must not take all day."""
CLASSES = 10_000
"""A class beyond that is none."""
DIGITS = 5
"""Of scores and fractions that are reported: a hundredth of a pixel is 0.00001 of a picture 1000 wide."""
_FRACTIONS = 2.0
"""Boxes with a larger side or place than that are measured in pixels."""
_FAR = 1000.0
"""A box farther away, in pictures, ends there: what follows stays finite."""


class Boxes(NamedTuple):
    """Boxes ``(n, 4)`` as the model measures them, left, top, right, bottom; scores ``(n,)``; classes ``(n,)``.

    ``extras`` ``(n, k)`` are what the model gives of a box beyond that, k may be 0. ``largest``: the largest place
    or side in the model's output, also of boxes that are not here.
    """

    corners: FloatArray
    scores: FloatArray
    classes: NDArray[np.intp]
    extras: FloatArray
    largest: float = 0.0

    def take(self, chosen: NDArray[np.intp] | NDArray[np.bool_] | Sequence[int]) -> Boxes:
        """Return some of the boxes, in this order."""
        return Boxes(
            self.corners[chosen], self.scores[chosen], self.classes[chosen], self.extras[chosen], self.largest
        )


class Measure:
    """What a model measures boxes in: fractions of its picture or pixels.

    ``pixels``: width and height of a picture in whose pixels it does. ``picture``: size of the model's picture
    where it is known. Then boxes that cannot be fractions show that they are in pixels, from then on.
    """

    def __init__(self, pixels: Iterable[int], picture: tuple[int, int] | None) -> None:
        self._known = tuple(pixels)
        self._picture = picture
        self._size = self._known

    def forget(self) -> None:
        """Forget what boxes have shown."""
        self._size = self._known

    def fractions(self, found: Boxes) -> FloatArray:
        """Return what makes fractions of x, y, x, y of these boxes when multiplied."""
        if not self._size and self._picture and _FRACTIONS < found.largest < np.inf:
            self._size = self._picture
        return np.reciprocal(np.array((self._size or (1, 1)) * 2, np.float32))


def real(found: Boxes, scale: FloatArray) -> Boxes:
    """Return the boxes in fractions of the model's picture, without those that have no area or no score."""
    corners = np.asarray(found.corners * scale, np.float32).clip(-_FAR, _FAR)  # NaN stays NaN, and has no area
    area = (corners[:, 2:] - corners[:, :2]).min(axis=1, initial=1) > 0
    return found._replace(corners=corners).take(np.flatnonzero(area & np.isfinite(found.scores)))


def in_source(points: NDArray[np.float64], cut: Cut | None) -> NDArray[np.float64]:
    """Return where points of a picture are in the one that it was cut from.

    Their last axis is x and y by turns.
    """
    if cut is None:
        return points
    left, top, right, bottom = cut
    times = points.shape[-1] // 2
    return points * ([right - left, bottom - top] * times) + [left, top] * times


def visible(found: Boxes, cut: Cut | None) -> tuple[Boxes, NDArray[np.float64]]:
    """Return the boxes that the source's picture shows, and where they are in it, rounded."""
    corners = in_source(found.corners.astype(np.float64), cut).clip(0, 1).round(DIGITS)
    shown = np.flatnonzero((corners[:, 2:] > corners[:, :2]).all(axis=1))
    return found.take(shown), corners[shown]
