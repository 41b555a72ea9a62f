"""YOLO heads without their last step, as they are exported for NPUs: a grid of cells for each stride.

Each of a cell's four sides has ``BINS`` logits: for 0, 1, 2 and so on strides away from the cell's middle. Their
softmax has the probabilities of these distances, and the side is at their mean.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from limpet.decoders._activation import probabilities
from limpet.decoders._detection.boxes import Boxes
from limpet.decoders._detection.heads import RAW
from limpet.decoders._detection.tables import STRIDES, refuse_types, shapes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from limpet.contracts.data import Array, FloatArray, TensorSpec
    from limpet.decoders._activation import Activation

BINS = 16
"""Logits of each side, as Ultralytics trains YOLOv8 and 11."""


class Part(NamedTuple):
    """Some numbers of each cell of a grid: an output ``(h, w, n)`` or, ``first``, ``(n, h, w)``."""

    output: int
    shape: tuple[int, int, int]
    first: bool
    numbers: slice

    def columns(self, outputs: Sequence[Array]) -> Array:
        """Return a view ``(n, h * w)``."""
        table = outputs[self.output]
        columns = table.reshape(self.shape[0], -1) if self.first else table.reshape(-1, self.shape[2]).T
        return columns[self.numbers]


class Level(NamedTuple):
    """A grid: its stride, its width in cells, and where its sides and scores are."""

    stride: int
    width: int
    sides: Part
    scores: Part


class Strides:
    """Sides and scores for each cell of three grids: see ``heads.Head``. ``picture``: width and height."""

    usual = RAW

    def __init__(self, levels: Sequence[Level], picture: tuple[int, int], activation: Activation) -> None:
        self._levels = levels
        self._largest = float(max(picture))
        self._activation = activation

    def __call__(self, outputs: Sequence[FloatArray], threshold: float) -> Boxes:
        """Return what scores enough, in pixels."""
        found = [self._found(level, outputs, threshold) for level in self._levels]
        corners, scores, classes = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return Boxes(corners, scores, classes, np.zeros((len(scores), 0), np.float32), self._largest)

    def _found(
        self, level: Level, outputs: Sequence[FloatArray], threshold: float
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        raw = level.scores.columns(outputs)
        best = probabilities(raw.max(axis=0), self._activation)
        likely = np.flatnonzero(best >= threshold)
        logits = level.sides.columns(outputs)[:, likely].reshape(4, BINS, len(likely))
        away = np.arange(BINS, dtype=np.float32) @ probabilities(logits, "softmax", axis=1)
        x, y = likely % level.width + 0.5, likely // level.width + 0.5
        corners = np.stack([x - away[0], y - away[1], x + away[2], y + away[3]], axis=1) * level.stride
        return np.asarray(corners, np.float32), best[likely], raw[:, likely].argmax(axis=0)


def strides_of(
    outputs: Sequence[TensorSpec], labels: int, picture: tuple[int, int] | None, activation: Activation
) -> Strides:
    """Return the head of these outputs. ``ValueError`` if they are no grids of such cells."""
    refuse_types(outputs)
    if picture is None:
        raise ValueError("layout strides needs the size of the model's picture; set pixels to [width, height]")
    if not labels:
        raise ValueError("layout strides needs labels, one for each class")
    return Strides([_level(outputs, labels, picture, stride) for stride in STRIDES], picture, activation)


def _level(outputs: Sequence[TensorSpec], labels: int, picture: tuple[int, int], stride: int) -> Level:
    """Return where a grid's sides and scores are. ``ValueError`` if they are nowhere, or may be in two outputs."""
    width, height = picture[0] // stride, picture[1] // stride
    sides = 4 * BINS
    both = _parts(outputs, (height, width), sides + labels)
    if len(both) == 1:
        whole = both[0]
        return Level(
            stride, width, whole._replace(numbers=slice(sides)), whole._replace(numbers=slice(sides, None))
        )
    apart = [_parts(outputs, (height, width), numbers) for numbers in (sides, labels)]
    if [len(found) for found in apart] == [1, 1] and not both:
        return Level(stride, width, apart[0][0], apart[1][0])
    raise ValueError(
        f"layout strides has {sides} numbers for the sides and {labels} scores for each of "
        f"{width}x{height} cells. They are in one output or two, not in outputs of shape {shapes(outputs)}"
    )


def _parts(outputs: Sequence[TensorSpec], size: tuple[int, int], numbers: int) -> list[Part]:
    """Return the outputs that have so many numbers for each cell."""
    found = []
    for place, tensor in enumerate(outputs):
        shape = tuple(tensor.shape[-3:])
        if shape in {(*size, numbers), (numbers, *size)}:
            first = shape == (numbers, *size)
            found.append(Part(place, (shape[0], shape[1], shape[2]), first, slice(None)))
    return found
