"""Heads that give points: boxes whose ``extras`` are x, y and score of each point, NaN where it has no score."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from limpet.decoders._activation import probabilities
from limpet.decoders._detection.boxes import Boxes
from limpet.decoders._detection.heads import FINISHED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from limpet.contracts.data import FloatArray
    from limpet.decoders._activation import Activation
    from limpet.decoders._detection.anchors import Anchored
    from limpet.decoders._detection.heads import Head


class MoveNet:
    """One person: y, x and score of each point as fractions. Its score is the mean of those of the points."""

    usual = FINISHED

    def __init__(self, points: int) -> None:
        self._points = points

    def __call__(self, outputs: Sequence[FloatArray], threshold: float) -> Boxes:
        """Return the person, if it scores enough."""
        points = outputs[0].reshape(1, self._points, 3)[..., [1, 0, 2]]
        return _around(points, points[..., 2].mean(axis=1), threshold)


class MoveNetMulti:
    """Several persons: y, x and score of each point, top, left, bottom, right and score of the box."""

    usual = FINISHED

    def __init__(self, points: int) -> None:
        self._points = points

    def __call__(self, outputs: Sequence[FloatArray], threshold: float) -> Boxes:
        """Return the persons that score enough."""
        end = self._points * 3
        rows = outputs[0].reshape(-1, end + 5)
        rows = rows[rows[:, -1] >= threshold]
        points = rows[:, :end].reshape(-1, self._points, 3)[..., [1, 0, 2]]
        corners = rows[:, [end + 1, end, end + 3, end + 2]]
        return Boxes(corners, rows[:, -1], np.zeros(len(rows), np.intp), points.reshape(-1, end))


class Landmarks(NamedTuple):
    """Where the outputs of a model of landmarks are: ``numbers`` of each point, the first are x and y.

    ``score``: the output that says whether there is something, ``None`` if none does. ``first``: how many points
    are reported. ``visible``: which number is the visibility before its sigmoid, 0 if none is.
    """

    output: int
    score: int | None
    numbers: int
    first: int
    visible: int = 0


class Landmarked:
    """One body: x, y and more of each point, in pixels of the model's picture or as fractions."""

    usual = FINISHED

    def __init__(self, places: Landmarks, activation: Activation) -> None:
        self._places = places
        self._activation = activation

    def __call__(self, outputs: Sequence[FloatArray], threshold: float) -> Boxes:
        """Return the body, if it scores enough."""
        places = self._places
        rows = outputs[places.output].reshape(-1, places.numbers)[: places.first]
        points = np.full((1, places.first, 3), np.nan, np.float32)
        points[0, :, :2] = rows[:, :2]
        if places.visible:
            points[0, :, 2] = probabilities(rows[:, places.visible], "sigmoid")
        score = np.ones(1, np.float32)
        if places.score is not None:
            score = probabilities(outputs[places.score].reshape(1), self._activation)
        return _around(points, score, threshold)


class HeatMaps:
    """A map for each point, ``(h, w, points)`` or, ``first``, ``(points, h, w)``: the point is at its peak.

    A parabola through the peak and its neighbours says where between the pixels it is.
    """

    usual = FINISHED

    def __init__(self, shape: tuple[int, int, int], activation: Activation, *, first: bool) -> None:
        self._shape = shape
        self._first = first
        self._activation = activation

    def __call__(self, outputs: Sequence[FloatArray], threshold: float) -> Boxes:
        """Return the body, if the mean of its points' scores is enough."""
        maps = outputs[0].reshape(self._shape)
        maps = maps if self._first else maps.transpose(2, 0, 1)
        count, height, width = maps.shape
        flat = maps.reshape(count, -1)
        each = np.arange(count)
        best = flat.argmax(axis=1)
        rows, columns = best // width, best % width
        points = np.empty((1, count, 3), np.float32)
        points[0, :, 0] = (columns + 0.5 + _vertex(maps[each, rows].T, columns)) / width
        points[0, :, 1] = (rows + 0.5 + _vertex(maps[each, :, columns].T, rows)) / height
        points[0, :, 2] = probabilities(flat[each, best], self._activation)
        return _around(points, points[..., 2].mean(axis=1), threshold)


def _vertex(lines: FloatArray, peaks: FloatArray) -> FloatArray:
    """Return how far the vertex of a parabola through a peak is from it, -0.5 to 0.5; 0 at the border.

    ``lines`` ``(size, n)`` has a line through each peak.
    """
    size, count = lines.shape
    each = np.arange(count)
    before, at, after = (lines[np.clip(peaks + step, 0, size - 1), each] for step in (-1, 0, 1))
    bend = 2 * at - before - after
    inside = (peaks > 0) & (peaks < size - 1) & (bend > 0)
    return np.asarray(np.where(inside, (after - before) / np.where(inside, 2 * bend, 1), 0), np.float32)


class Tabled:
    """A head of boxes whose extras are the points, ``numbers`` of each: x, y and perhaps a score."""

    def __init__(self, head: Head | Anchored, numbers: int, activation: Activation) -> None:
        self.usual = head.usual
        self._head = head
        self._numbers = numbers
        self._activation = activation

    def __call__(self, outputs: Sequence[FloatArray], threshold: float) -> Boxes:
        """Return what scores enough."""
        found = self._head(outputs, threshold)
        number = len(found.scores)
        points = found.extras.reshape(number, found.extras.shape[1] // self._numbers, self._numbers)
        if self._numbers == 2:
            points = np.concatenate([points, np.full_like(points[..., :1], np.nan)], axis=2)
        else:
            points = np.concatenate([points[..., :2], probabilities(points[..., 2:], self._activation)], axis=2)
        return found._replace(extras=points.reshape(number, points.shape[1] * 3))


def _around(points: FloatArray, scores: FloatArray, threshold: float) -> Boxes:
    """Return bodies ``(n, points, 3)`` with the smallest boxes around their points."""
    corners = np.concatenate([points[..., :2].min(axis=1), points[..., :2].max(axis=1)], axis=1)
    largest = float(np.fmax.reduce(np.abs(corners), axis=None, initial=0))
    found = Boxes(corners, scores, np.zeros(len(scores), np.intp), points.reshape(len(scores), -1), largest)
    return found.take(np.flatnonzero(scores >= threshold))
