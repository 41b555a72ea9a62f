"""Single-shot detectors without their last step: boxes count from anchors, which a layout of grids gives."""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import msgspec
import numpy as np
from msgspec import Meta

from limpet.contracts.fields import Count, Positive, Share
from limpet.decoders._activation import probabilities
from limpet.decoders._detection.boxes import Boxes
from limpet.decoders._detection.heads import Usual
from limpet.decoders._detection.tables import BoxTable, plain, refuse_types, shapes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from limpet.contracts.data import FloatArray, TensorSpec
    from limpet.decoders._activation import Activation

_MOST = 100_000
"""Anchors of one model."""
_BACKGROUND = frozenset({"background", "__background__", "???"})
"""First labels of models whose class 0 is nothing."""


class Anchors(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Where the anchors of a single-shot detector are, and how its boxes count from them.

    The anchors are generated as in TensorFlow's object detection API and in MediaPipe.
    """

    strides: Annotated[list[Count], Meta(max_length=32)] = []
    """Pixels between the cells of each grid. Example: `[16, 32, 64, 128, 256, 512]`."""
    aspect_ratios: Annotated[list[Positive], Meta(max_length=32)] = msgspec.field(default_factory=lambda: [1.0])
    """Width by height of the anchors of a cell. Example: `[1.0, 2.0, 0.5, 3.0, 0.3333]`."""
    min_scale: Share = 0.2
    """Size of the first grid's anchors, as share of the picture."""
    max_scale: Share = 0.95
    """Size of the last grid's anchors, as share of the picture."""
    interpolated: Annotated[float, Meta(ge=0, le=1e9)] = 1.0
    """Aspect ratio of one more anchor in each cell, between two sizes. 0 for none."""
    reduce_lowest: bool = False
    """Whether the first grid has three anchors in each cell: half the size, and twice with other aspect ratios."""
    fixed: bool = False
    """Whether all anchors are as large as the picture, so that only their centres count."""
    offset: Share = 0.5
    """Place of an anchor's centre in its cell."""
    boxes: Annotated[list[tuple[float, float, float, float]], Meta(max_length=_MOST)] = []
    """The anchors themselves in place of grids: centre x and y, width, height as fractions of the picture."""
    scale: tuple[Positive, Positive, Positive, Positive] = (10.0, 10.0, 5.0, 5.0)
    """What the model's numbers for x, y, width and height are divided by."""
    order: Literal["yxhw", "xywh"] = "yxhw"
    """Order of the model's numbers."""
    exponential: bool = True
    """Whether width and height are powers of e, times those of the anchor."""

    def __post_init__(self) -> None:
        if bool(self.strides) == bool(self.boxes):
            raise ValueError("anchors needs strides, or boxes")


class Known(NamedTuple):
    """A model of MediaPipe: its picture, boxes and the numbers of each, and how it is read."""

    picture: tuple[int, int]
    boxes: int
    numbers: int
    anchors: Anchors
    usual: Usual
    label: str
    points: tuple[str, ...]


def _fixed(size: int, strides: list[int], interpolated: float = 1.0) -> Anchors:
    scale = (float(size),) * 4
    return Anchors(
        strides=strides,
        interpolated=interpolated,
        fixed=True,
        scale=scale,
        order="xywh",
        exponential=False,
    )


_FACE = ("right_eye", "left_eye", "nose", "mouth", "right_ear", "left_ear")
_PALM = ("wrist", "index_base", "middle_base", "ring_base", "little_base", "thumb_root", "thumb_base")
_BODY = ("hip_centre", "full_body_rim", "shoulder_centre", "upper_body_rim")
MEDIAPIPE = (
    Known((128, 128), 896, 16, _fixed(128, [8, 16, 16, 16]), Usual(0.5, "weighted", 0.3), "face", _FACE),
    Known((192, 192), 2304, 16, _fixed(192, [4], 0.0), Usual(0.6, "weighted", 0.3), "face", _FACE),
    Known((192, 192), 2016, 18, _fixed(192, [8, 16, 16, 16]), Usual(0.5, "weighted", 0.3), "palm", _PALM),
    Known((224, 224), 2254, 12, _fixed(224, [8, 16, 32, 32, 32]), Usual(0.5, "weighted", 0.3), "person", _BODY),
)
"""The detectors of MediaPipe 0.10: faces near and far, palms, persons. A model is known by its sizes."""


class Reading(NamedTuple):
    """What the model left out of its scores, and what holds unless the configuration says otherwise."""

    activation: Activation
    usual: Usual


class Anchored:
    """Boxes that count from anchors: see ``heads.Head``.

    ``anchors``: ``(4, n)``, centre x, centre y, width and height as fractions. ``background``: class 0 is nothing.
    ``skipped``: labels in front that are not those of boxes. ``extras`` of boxes are points, x and y as fractions.
    """

    def __init__(
        self,
        tables: tuple[BoxTable, BoxTable],
        options: Anchors,
        anchors: FloatArray,
        reading: Reading,
        *,
        background: bool,
    ) -> None:
        self.usual = reading.usual
        self.skipped = 0
        self._places, self._scores = tables
        self._anchors = anchors
        self._exponential = options.exponential
        swapped = options.order == "yxhw"
        self._order = [1, 0, 3, 2] if swapped else [0, 1, 2, 3]
        self._scale = np.array(options.scale, np.float32)[:, None]
        self._activation = reading.activation
        self._background = background

    def __call__(self, outputs: Sequence[FloatArray], threshold: float) -> Boxes:
        """Return what scores enough."""
        raw = self._scores.columns(outputs)
        scores = probabilities(raw, self._activation)[int(self._background) :]
        best = scores.max(axis=0)
        likely = np.flatnonzero(best >= threshold)
        table = self._places.columns(outputs)[:, likely]
        anchors = self._anchors[:, likely]
        values = table[:4][self._order] / self._scale
        centres = values[:2] * anchors[2:] + anchors[:2]
        half = (np.exp(values[2:]) if self._exponential else values[2:]) * anchors[2:] / 2
        corners = np.concatenate([centres - half, centres + half]).T
        points = (
            table[4:].reshape((len(table) - 4) // 2, 2, len(likely)) / self._scale[:2] * anchors[2:] + anchors[:2]
        )
        extras = points.reshape(len(table) - 4, len(likely)).T
        return Boxes(corners, best[likely], scores[:, likely].argmax(axis=0), np.asarray(extras, np.float32))


def known_model(outputs: Sequence[TensorSpec], picture: tuple[int, int] | None) -> Known | None:
    """Return which model of MediaPipe has such outputs, ``None`` if none has."""
    sizes = sorted(tensor.shape[-2:] for tensor in outputs if len(tensor.shape) == 3)
    for model in MEDIAPIPE:
        if picture in {model.picture, None} and sizes == [(model.boxes, 1), (model.boxes, model.numbers)]:
            return model
    return None


def anchored(
    outputs: Sequence[TensorSpec],
    options: Anchors,
    labels: Sequence[str],
    picture: tuple[int, int] | None,
    reading: Reading,
) -> Anchored:
    """Return the head of these outputs. ``ValueError`` if they do not fit the anchors."""
    refuse_types(outputs)
    if options.strides and picture is None:
        raise ValueError("strides of anchors need the size of the model's picture; set pixels to [width, height]")
    anchors = _stored(options) if options.boxes else generated(options, picture or (1, 1))
    number = anchors.shape[1]
    sizes = [plain(tensor) for tensor in outputs]
    if len(sizes) != 2 or any(size[0] != number for size in sizes):
        raise ValueError(
            f"the options of anchors make {number} anchors. The model must have two outputs, boxes and scores, "
            f"with a row for each anchor, not outputs of shape {shapes(outputs)}"
        )
    places, scores = _apart(outputs, sizes, labels)
    background = bool(labels) and (sizes[scores][1] == len(labels) + 1 or labels[0].lower() in _BACKGROUND)
    tables = (
        BoxTable(places, sizes[places], across=False, part=slice(None)),
        BoxTable(scores, sizes[scores], across=False, part=slice(None)),
    )
    head = Anchored(tables, options, anchors, reading, background=background)
    head.skipped = int(background and sizes[scores][1] == len(labels))
    return head


def _apart(
    outputs: Sequence[TensorSpec], sizes: Sequence[tuple[int, int]], labels: Sequence[str]
) -> tuple[int, int]:
    """Return which output has the boxes, and which the scores."""
    scored = {len(labels), len(labels) + 1} if labels else {size[1] for size in sizes}
    for places, scores in ((0, 1), (1, 0)):
        numbers = sizes[places][1]
        if sizes[scores][1] in scored and numbers >= 4 and numbers % 2 == 0:
            return places, scores
    raise ValueError(
        f"outputs of shape {shapes(outputs)} are no boxes (4 numbers each) and scores of {len(labels)} classes, "
        "or one more for the background"
    )


def _stored(options: Anchors) -> FloatArray:
    return np.array(options.boxes, np.float32).T.copy()


def generated(options: Anchors, picture: tuple[int, int]) -> FloatArray:
    """Return the anchors ``(4, n)`` of a picture of this width and height. ``ValueError``: there are too many."""
    width, height = picture
    grids = len(options.strides)
    made: list[FloatArray] = []
    first = 0
    while first < grids:
        stride, last = options.strides[first], first
        sides: list[tuple[float, float]] = []
        while last < grids and options.strides[last] == stride:
            sides += _sides(options, last)
            last += 1
        first = last
        columns, rows = -(-width // stride), -(-height // stride)
        if columns * rows * len(sides) + sum(part.shape[1] for part in made) > _MOST:
            raise ValueError(f"the strides of anchors make more than {_MOST} anchors")
        down, across = np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")
        x = np.repeat((across.ravel() + options.offset) / columns, len(sides))
        y = np.repeat((down.ravel() + options.offset) / rows, len(sides))
        size = np.tile(np.array(sides, np.float64).reshape(-1, 2), (columns * rows, 1)).T
        made.append(np.stack([x, y, *(np.ones_like(size) if options.fixed else size)]).astype(np.float32))
    return np.concatenate(made, axis=1)


def _sides(options: Anchors, grid: int) -> list[tuple[float, float]]:
    """Return width and height of the anchors of a cell."""
    size = _size(options, grid)
    if grid == 0 and options.reduce_lowest:
        return [_side(0.1, 1.0), _side(size, 2.0), _side(size, 0.5)]
    sides = [_side(size, ratio) for ratio in options.aspect_ratios]
    if options.interpolated > 0:
        following = 1.0 if grid == len(options.strides) - 1 else _size(options, grid + 1)
        sides.append(_side(sqrt(size * following), options.interpolated))
    return sides


def _side(size: float, ratio: float) -> tuple[float, float]:
    return size * sqrt(ratio), size / sqrt(ratio)


def _size(options: Anchors, grid: int) -> float:
    low, high, grids = options.min_scale, options.max_scale, len(options.strides)
    return (low + high) / 2 if grids == 1 else low + (high - low) * grid / (grids - 1)
