"""Named points of persons, hands and faces: the outputs of pose models, as they are usually exported."""

from __future__ import annotations

from math import isfinite, isnan
from typing import TYPE_CHECKING, Annotated

import msgspec
import numpy as np
from msgspec import Meta

from limpet.contracts.decoder import Abilities
from limpet.contracts.fields import Count
from limpet.contracts.outputs import Keypoint, Keypoints, Pose
from limpet.decoders._activation import Activation
from limpet.decoders._detection.bodies import Body
from limpet.decoders._detection.boxes import DIGITS, Measure, in_source, real, visible
from limpet.decoders._detection.counts import Counts
from limpet.decoders._detection.point_layouts import HEADS, Layout, Wanted, layout_of
from limpet.decoders._detection.suppression import Suppression, suppressed
from limpet.decoders._detection.tables import refuse_types
from limpet.decoders._scores import class_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from limpet.contracts.data import FloatArray, Window
    from limpet.contracts.stage import Spec
    from limpet.decoders._detection.boxes import Boxes
    from limpet.decoders._detection.heads import Head

ABILITIES = Abilities(output=Keypoints, reads_inputs=False, threshold=True, outlives_gaps=True)
"""Labels that were there before a gap are counted after it, too: with 0 if they are gone."""

_POINTS = 1000
"""Points of a result: so many with the longest names fit into a message."""
_FAR = 1000.0
"""A point farther away, in pictures, is there."""
_NAME = Annotated[str, Meta(max_length=64)]


class Config(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """How the outputs are read, and what is reported. docs/reference/decoders.md has the layouts."""

    layout: Layout = "auto"
    """What the outputs are. `"auto"` finds it by their shapes."""
    names: Annotated[list[_NAME], Meta(max_length=_POINTS)] = []
    """Names of the points, in the model's order. Default: those of COCO (17 points), BlazePose (33), a hand (21),
    or of a detector of MediaPipe. Example: `["tip", "joint", "base"]`."""
    skeleton: list[tuple[str, str]] | None = None
    """Which points a line joins. Default: that of the default names. Example: `[["tip", "joint"]]`."""
    label: _NAME | None = None
    """What has the points. Default: the model's label, else `"person"`, `"hand"` or `"face"`. Example: `"dog"`."""
    pixels: list[Count] = []
    """`[width, height]` of the picture in whose pixels the model gives points. Default: that of the model's
    picture if points are beyond 2, else points are fractions. Example: `[640, 640]`."""
    activation: Activation | None = None
    """What the model left out of its scores. Default: `"none"`; `"sigmoid"` of `mediapipe` and of landmarks of a
    face."""
    threshold: float | None = None
    """Lowest score of a pose that is reported. Default: 0.25, of `mediapipe` 0.5 or 0.6. Example: `0.4`."""
    suppression: Suppression | None = None
    """Which of two overlapping boxes is left out, as of `detect`. Default: `"class"` of `yolo`, `"weighted"` of
    `mediapipe`, else `"none"`."""
    overlap: Annotated[float, Meta(ge=0, le=1)] | None = None
    """Intersection over union, 0 to 1, above which two boxes overlap. Default: 0.45, of `mediapipe` 0.3. Example:
    `0.5`."""
    most: Annotated[int, Meta(ge=1, le=100)] = 20
    """How many poses are reported, best first. A result has at most 1000 points."""

    def __post_init__(self) -> None:
        if self.threshold is not None and isnan(self.threshold):
            raise ValueError("threshold must be a number")
        if len(self.pixels) not in {0, 2}:
            raise ValueError(f"pixels must be [width, height], as [320, 320], not {self.pixels}")
        if len(set(self.names)) < len(self.names):
            raise ValueError("names has a name twice")


def open(config: Config, spec: Spec) -> FindKeypoints:
    """Prepare to decode. ``ValueError`` where the outputs are of no such layout."""
    refuse_types(spec.outputs)
    wanted = Wanted(tuple(config.names), config.activation)
    layout = layout_of(wanted, spec) if config.layout == "auto" else config.layout
    head, body = HEADS[layout](wanted, spec)
    body = _named(config, body)
    labels = list(spec.labels) if layout in {"yolo", "end2end"} or len(spec.labels) == 1 else []
    if config.label is not None:
        labels = [config.label] * max(len(labels), 1)
    return FindKeypoints(config, head, body, labels or [body.label], spec)


class FindKeypoints:
    """Takes float32, whatever is in it."""

    def __init__(self, config: Config, head: Head, body: Body, labels: list[str], spec: Spec) -> None:
        self.spec = spec
        usual = head.usual
        self._threshold = usual.threshold if config.threshold is None else config.threshold
        self._suppression = config.suppression or usual.suppression
        self._overlap = usual.overlap if config.overlap is None else config.overlap
        self._most = min(config.most, max(_POINTS // len(body.names), 1))
        self._head = head
        self._body = body
        self._labels = labels
        self._measure = Measure(config.pixels, spec.picture)
        self._counts = Counts()

    def __call__(self, window: Window) -> Window:
        """Return the window with the poses in its picture."""
        found = self._head(window.outputs, self._threshold)
        scale = self._measure.fractions(found)
        extras = found.extras * np.tile([scale[0], scale[1], 1], len(self._body.names)).astype(np.float32)
        found = real(found._replace(extras=extras), scale)
        found = found.take(np.flatnonzero(np.isfinite(self._points(found)[..., :2]).all(axis=(1, 2))))
        found, corners = visible(suppressed(found, self._suppression, self._overlap, self._most), window.cut)
        points = self._points(found).astype(np.float64)
        places = in_source(points[..., :2], window.cut).clip(-_FAR, _FAR).round(DIGITS)
        poses = [
            Pose(class_name(self._labels, kind), score, tuple(box), self._named(*each))
            for kind, score, box, *each in zip(
                found.classes.tolist(),
                found.scores.astype(np.float64).round(DIGITS).tolist(),
                corners.tolist(),
                places.tolist(),
                points[..., 2].round(DIGITS).tolist(),
                strict=True,
            )
        ]
        counts = self._counts.of(pose.label for pose in poses)
        window.result = Keypoints(poses, counts, list(self._body.skeleton))
        return window

    def reset(self) -> None:
        """Forget which labels were there."""
        self._counts.forget()
        self._measure.forget()

    def set_threshold(self, value: float) -> None:
        """Leave out what scores below another threshold, from the next window on."""
        self._threshold = value

    def _points(self, found: Boxes) -> FloatArray:
        return found.extras.reshape(len(found.scores), len(self._body.names), 3)

    def _named(self, places: Sequence[tuple[float, float]], scores: Sequence[float]) -> list[Keypoint]:
        return [
            Keypoint(name, x, y, score if isfinite(score) else None)
            for name, (x, y), score in zip(self._body.names, places, scores, strict=True)
        ]


def _named(config: Config, body: Body) -> Body:
    """Return the body with its names and skeleton as configured. ``ValueError`` if a line ends at no point."""
    names = tuple(config.names) or body.names
    if config.skeleton is None:
        return Body(body.label, names, body.skeleton if names == body.names else ())
    places = {name: place for place, name in enumerate(names)}
    unknown = sorted({name for line in config.skeleton for name in line} - set(places))
    if unknown:
        raise ValueError(f"skeleton: {unknown[0]!r} is no name of a point; there are {', '.join(names[:40])}")
    return Body(body.label, names, tuple((places[a], places[b]) for a, b in config.skeleton))
