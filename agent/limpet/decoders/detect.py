"""What is where in a picture: the outputs of detectors, as they are usually exported, to labelled boxes."""

from __future__ import annotations

from math import isnan
from typing import TYPE_CHECKING, Annotated

import msgspec
import numpy as np
from msgspec import Meta

from limpet.contracts.decoder import Abilities
from limpet.contracts.fields import Count
from limpet.contracts.outputs import Detection, Detections
from limpet.decoders._activation import Activation
from limpet.decoders._detection.anchors import Anchors, Reading, anchored, known_model
from limpet.decoders._detection.boxes import CANDIDATES, DIGITS, Measure, real, visible
from limpet.decoders._detection.counts import Counts
from limpet.decoders._detection.finished import End2End, finished
from limpet.decoders._detection.heads import RAW, Raw, grid_of
from limpet.decoders._detection.strides import strides_of
from limpet.decoders._detection.suppression import Suppression, suppressed
from limpet.decoders._detection.tables import Layout, layout_of, refuse_types, shapes, tables
from limpet.decoders._scores import class_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from limpet.contracts.data import TensorSpec, Window
    from limpet.contracts.stage import Spec
    from limpet.decoders._detection.heads import Head
    from limpet.decoders._detection.tables import Tables

ABILITIES = Abilities(output=Detections, reads_inputs=False, threshold=True, outlives_gaps=True)
"""Labels that were there before a gap are counted after it, too: with 0 if they are gone."""


class Config(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """How the outputs are read, and what is reported. docs/reference/decoders.md has the layouts."""

    labels: list[str] = []
    """Names of the classes. Default: the model's. Example: `["person", "car"]`."""
    layout: Layout = "auto"
    """What the outputs are. `"auto"` finds it by their shapes and the number of labels."""
    pixels: list[Count] = []
    """`[width, height]` of the picture in whose pixels the model gives boxes. Default: that of the model's picture
    if boxes are larger than 2, else boxes are fractions. Example: `[640, 640]`."""
    activation: Activation | None = None
    """What the model left out of its scores. Default: `"none"`; `"sigmoid"` of `mediapipe` and `strides`."""
    anchors: Anchors | None = None
    """Where the anchors of `layout = "anchors"` are."""
    threshold: float | None = None
    """Lowest score that is reported. Default: 0.25, of `mediapipe` 0.5 or 0.6. Example: `0.4`."""
    suppression: Suppression | None = None
    """Which of two overlapping boxes is left out: `"class"` the worse of a label, `"all"` the worse of any label,
    `"none"` neither. `"weighted"` reports their mean. Default: `"class"`; `"weighted"` of `mediapipe`; `"none"` of
    `ssd`, `nms` and `end2end`, which do it themselves."""
    overlap: Annotated[float, Meta(ge=0, le=1)] | None = None
    """Intersection over union, 0 to 1, above which two boxes overlap. Default: 0.45, of `mediapipe` 0.3. Example:
    `0.5`."""
    most: Annotated[int, Meta(ge=1, le=CANDIDATES)] = 100
    """How many boxes are reported, best first."""

    def __post_init__(self) -> None:
        if self.threshold is not None and isnan(self.threshold):
            raise ValueError("threshold must be a number")
        if len(self.pixels) not in {0, 2}:
            raise ValueError(f"pixels must be [width, height], as [320, 320], not {self.pixels}")
        if self.anchors is not None and self.layout not in {"auto", "anchors"}:
            raise ValueError(f'anchors goes with layout = "anchors", not {self.layout}')
        if self.layout == "anchors" and self.anchors is None:
            raise ValueError(
                'layout "anchors" needs anchors, as anchors = { strides = [16, 32, 64, 128, 256, 512] }'
            )


def open(config: Config, spec: Spec) -> Detect:
    """Prepare to decode. ``ValueError`` where the outputs are of no such layout, or have not as many classes."""
    labels = list(config.labels or spec.labels)
    layout = _layout(config, spec, len(labels))
    if layout == "mediapipe":
        return Detect(config, *_mediapipe(config, spec, labels), spec)
    size = (config.pixels[0], config.pixels[1]) if config.pixels else spec.picture
    if config.anchors is not None:
        head = anchored(spec.outputs, config.anchors, labels, size, Reading(config.activation or "none", RAW))
        return Detect(config, head, labels[head.skipped :], spec)
    if layout == "strides":
        grids = strides_of(spec.outputs, len(labels), size, config.activation or "sigmoid")
        return Detect(config, grids, labels, spec)
    activation = config.activation or "none"
    return Detect(config, _table_head(layout, spec.outputs, len(labels), size, activation), labels, spec)


def box_tables(config: Config, spec: Spec) -> Tables | None:
    """Return where one or two outputs have boxes and scores, ``None`` where these are apart.

    ``ValueError`` if they are nowhere.
    """
    labels = len(config.labels or spec.labels)
    layout = _layout(config, spec, labels)
    if layout in {"ssd", "nms", "strides", "anchors", "mediapipe"}:
        return None
    return tables(spec.outputs, layout, labels)


class Detect:
    """Takes float32, whatever is in it."""

    def __init__(self, config: Config, head: Head, labels: list[str], spec: Spec) -> None:
        self.spec = spec
        usual = head.usual
        self._threshold = usual.threshold if config.threshold is None else config.threshold
        self._suppression = config.suppression or usual.suppression
        self._overlap = usual.overlap if config.overlap is None else config.overlap
        self._most = config.most
        self._head = head
        self._labels = labels
        self._measure = Measure(config.pixels, spec.picture)
        self._counts = Counts()

    def __call__(self, window: Window) -> Window:
        """Return the window with what is in its picture."""
        found = self._head(window.outputs, self._threshold)
        found = real(found, self._measure.fractions(found))
        found, corners = visible(suppressed(found, self._suppression, self._overlap, self._most), window.cut)
        scores = found.scores.astype(np.float64).round(DIGITS).tolist()
        detections = [
            Detection(class_name(self._labels, kind), score, tuple(box))
            for kind, score, box in zip(found.classes.tolist(), scores, corners.tolist(), strict=True)
        ]
        window.result = Detections(detections, self._counts.of(one.label for one in detections))
        return window

    def reset(self) -> None:
        """Forget which labels were there."""
        self._counts.forget()
        self._measure.forget()

    def set_threshold(self, value: float) -> None:
        """Leave out what scores below another threshold, from the next window on."""
        self._threshold = value


def _layout(config: Config, spec: Spec, labels: int) -> Layout:
    """Return the layout of the outputs. ``ValueError`` if it is not clear."""
    if config.anchors is not None:
        return "anchors"
    if config.layout != "auto":
        return config.layout
    if known_model(spec.outputs, spec.picture) and labels in {0, 1}:
        return "mediapipe"
    return layout_of(spec.outputs, labels, spec.picture)


def _mediapipe(config: Config, spec: Spec, labels: list[str]) -> tuple[Head, list[str]]:
    """Return the head of a model of MediaPipe and its labels. ``ValueError`` if it is none."""
    model = known_model(spec.outputs, spec.picture)
    if model is None:
        raise ValueError(
            f"outputs of shape {shapes(spec.outputs)} are those of no detector of MediaPipe that Limpet knows; "
            "set anchors"
        )
    labels = labels or [model.label]
    reading = Reading(config.activation or "sigmoid", model.usual)
    return anchored(spec.outputs, model.anchors, labels, model.picture, reading), labels


def _table_head(
    layout: Layout,
    outputs: Sequence[TensorSpec],
    labels: int,
    size: tuple[int, int] | None,
    activation: Activation,
) -> Head:
    """Return the head of tables that need no anchors."""
    if layout in {"ssd", "nms"}:
        return finished(outputs, layout)
    refuse_types(outputs)
    found = tables(outputs, layout, labels)
    if layout == "end2end":
        return End2End(found)
    grid = grid_of(found, size) if layout == "yolox" else None
    return Raw(found, activation, grid, own=layout != "yolov8")
