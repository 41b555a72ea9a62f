"""The heads of detectors: outputs to boxes as the model measures them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from limpet.decoders._activation import probabilities
from limpet.decoders._detection.boxes import Boxes
from limpet.decoders._detection.tables import STRIDES, cells

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from limpet.contracts.data import FloatArray
    from limpet.decoders._activation import Activation
    from limpet.decoders._detection.suppression import Suppression
    from limpet.decoders._detection.tables import Tables


class Usual(NamedTuple):
    """What holds of a head unless the configuration says otherwise."""

    threshold: float
    suppression: Suppression
    overlap: float


RAW = Usual(0.25, "class", 0.45)
FINISHED = Usual(0.25, "none", 1.0)


class Head(Protocol):
    """What makes boxes of outputs."""

    @property
    def usual(self) -> Usual:
        """What holds unless the configuration says otherwise."""

    def __call__(self, outputs: Sequence[FloatArray], threshold: float) -> Boxes:
        """Return what scores ``threshold`` or more; its numbers need not be finite."""


class Grid:
    """The cells of a YOLOX: boxes count from them. ``picture``: width and height."""

    def __init__(self, picture: tuple[int, int]) -> None:
        width, height = picture
        self.largest = float(max(picture))
        corners, sizes = [], []
        for stride in STRIDES:
            across, down = np.meshgrid(np.arange(width // stride), np.arange(height // stride))
            corners.append(np.stack([across.ravel(), down.ravel()]))
            sizes.append(np.full(across.size, stride))
        self._cells = np.concatenate(corners, axis=1).astype(np.float32)
        self._strides = np.concatenate(sizes).astype(np.float32)

    def places(self, raw: FloatArray, chosen: NDArray[np.intp]) -> FloatArray:
        """Return centre, width and height ``(4, n)`` in pixels of what the model gives of the chosen boxes."""
        strides = self._strides[chosen]
        centres = (raw[:2] + self._cells[:, chosen]) * strides
        return np.concatenate([centres, np.exp(raw[2:]) * strides])


class Raw:
    """The head of a YOLO, before anything was left out. ``own``: a box has its own score."""

    usual = RAW

    def __init__(self, tables: Tables, activation: Activation, grid: Grid | None = None, *, own: bool) -> None:
        self._tables = tables
        self._own = own
        self._activation = activation
        self._grid = grid

    def __call__(self, outputs: Sequence[FloatArray], threshold: float) -> Boxes:
        """Return what scores enough."""
        raw = self._tables.scores.columns(outputs)
        likely, scores, classes = self._likely(raw, threshold)
        table = self._tables.places.columns(outputs)
        places = table[:, likely]
        if self._grid is not None:
            places = self._grid.places(places, likely)
        half = places[2:] / 2
        corners = np.concatenate([places[:2] - half, places[:2] + half]).T
        largest = float(np.fmax.reduce(table, axis=None, initial=0)) if self._grid is None else self._grid.largest
        extras = self._tables.extras.columns(outputs)[:, likely].T
        return Boxes(corners, scores, classes, extras, largest).take(scores >= threshold)

    def _likely(self, raw: FloatArray, threshold: float) -> tuple[NDArray[np.intp], FloatArray, NDArray[np.intp]]:
        """Return which boxes may score enough, their scores and classes."""
        if self._activation == "softmax":
            own, raw = raw[: int(self._own)], probabilities(raw[int(self._own) :], "softmax")
            raw = np.concatenate([probabilities(own, "sigmoid"), raw])
        each = "none" if self._activation == "softmax" else self._activation
        # A box whose own score is too low cannot score more with that of a class, which is 1 at most.
        best = probabilities(raw[0] if self._own else raw.max(axis=0), each)
        likely = np.flatnonzero(best >= threshold)
        raw, scores = raw[int(self._own) :, likely], best[likely]
        classes = raw.argmax(axis=0)
        if self._own:
            scores = scores * probabilities(raw[classes, np.arange(len(likely))], each)
        return likely, scores, classes


def grid_of(tables: Tables, picture: tuple[int, int] | None) -> Grid:
    """Return the cells that the boxes of a table count from. ``ValueError`` if they are as many as no grid has."""
    if picture is None:
        raise ValueError("layout yolox needs the size of the model's picture; set pixels to [width, height]")
    if tables.places.boxes != cells(picture):
        raise ValueError(
            f"layout yolox has {cells(picture)} boxes for a picture of {picture[0]}x{picture[1]} pixels, "
            f"and the model gives {tables.places.boxes}"
        )
    return Grid(picture)
