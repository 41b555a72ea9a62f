"""Outputs to masks: a class for each pixel, or a mask for each object."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from limpet.contracts.data import Cut
from limpet.decoders._activation import probabilities
from limpet.decoders._detection.boxes import Boxes, real
from limpet.decoders._detection.suppression import suppressed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from limpet.contracts.data import Array, FloatArray
    from limpet.decoders._activation import Activation
    from limpet.decoders._detection.boxes import Measure
    from limpet.decoders._detection.heads import Raw
    from limpet.decoders._segmentation.areas import Kinds

CLASSES = 256
"""Classes of a mask."""


class Place(NamedTuple):
    """Which rows and columns of a mask show the source's picture, and where they are in it."""

    rows: slice
    columns: slice
    cut: Cut


def place_of(shape: tuple[int, int], cut: Cut | None) -> Place:
    """Return which part of a mask ``(h, w)`` shows the source's picture: not the border of a letterbox."""
    height, width = shape
    left, top, right, bottom = cut or Cut(0, 0, 1, 1)
    first_column, last_column = _shown(width, left, right)
    first_row, last_row = _shown(height, top, bottom)
    across, down = (right - left) / width, (bottom - top) / height
    shown = Cut(
        left + first_column * across,
        top + first_row * down,
        left + last_column * across,
        top + last_row * down,
    )
    return Place(slice(first_row, last_row), slice(first_column, last_column), shown)


def _shown(size: int, begin: float, end: float) -> tuple[int, int]:
    """Return the first pixel whose middle is in the source's picture, and the one behind the last."""
    middles = begin + (np.arange(size) + 0.5) * (end - begin) / size
    inside = np.flatnonzero((middles >= 0) & (middles <= 1))
    return (int(inside[0]), int(inside[-1]) + 1) if len(inside) else (0, 0)


class ClassMap:
    """A number of a class for each pixel ``(h, w)``, as ARG_MAX gives it."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self.shape = shape

    def kinds(self, outputs: Sequence[Array], threshold: float) -> Kinds:  # noqa: ARG002 - there are no scores
        """Return the class of each pixel, -1 where it is none."""
        numbers = outputs[0].reshape(self.shape)
        known = (numbers >= 0) & (numbers < CLASSES)  # NaN is not
        return np.where(known, numbers, -1).astype(np.int32)


class ScoreMap:
    """A score for each class and pixel, ``(h, w, c)`` or, ``first``, ``(c, h, w)``: the best class counts."""

    def __init__(self, shape: tuple[int, int, int], *, first: bool) -> None:
        self._whole = shape
        self._axis = 0 if first else 2
        self.shape = (shape[1], shape[2]) if first else (shape[0], shape[1])

    def kinds(self, outputs: Sequence[Array], threshold: float) -> Kinds:  # noqa: ARG002 - the best class wins
        """Return the class of each pixel."""
        scores = outputs[0].reshape(self._whole)
        return np.asarray(scores.argmax(axis=self._axis), np.int32)


class ProbabilityMap:
    """A probability for each pixel ``(h, w)``: class 1 from the threshold on, and 0 for nothing below."""

    def __init__(self, shape: tuple[int, int], activation: Activation) -> None:
        self.shape = shape
        self._activation = activation

    def kinds(self, outputs: Sequence[Array], threshold: float) -> Kinds:
        """Return 1 for each pixel that scores enough, 0 for the others."""
        scores = probabilities(outputs[0].reshape(self.shape), self._activation)
        return np.asarray(scores >= threshold, np.int32)


class Objects(NamedTuple):
    """Objects with boxes in fractions of the model's picture, and a mask ``(n, h, w)`` for each."""

    boxes: Boxes
    masks: NDArray[np.bool_]


class Prototypes:
    """A YOLO whose boxes have weights of prototype masks, ``(h, w, m)`` or, ``first``, ``(m, h, w)``.

    An object's mask is where the sum of the weighted prototypes is above 0, within its box.
    """

    def __init__(self, head: Raw, output: int, shape: tuple[int, int, int], *, first: bool) -> None:
        self._head = head
        self._output = output
        self._whole = shape
        self._first = first
        self.shape = (shape[1], shape[2]) if first else (shape[0], shape[1])

    def objects(self, outputs: Sequence[Any], threshold: float, measure: Measure, most: int) -> Objects:
        """Return the ``most`` best objects that score enough."""
        found = self._head(outputs, threshold)
        found = suppressed(real(found, measure.fractions(found)), "class", self._head.usual.overlap, most)
        prototypes: FloatArray = outputs[self._output].reshape(self._whole)
        flat = prototypes.reshape(len(prototypes), -1) if self._first else prototypes.reshape(-1, self._whole[2]).T
        height, width = self.shape
        masks = (found.extras @ flat > 0).reshape(len(found.scores), height, width)
        x, y = (np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height
        left, top, right, bottom = (found.corners[:, side, None] for side in range(4))
        across, down = (x >= left) & (x <= right), (y >= top) & (y <= bottom)
        return Objects(found, masks & across[:, None, :] & down[:, :, None])
