"""What is where in a picture: the outputs of detectors, as they are usually exported, to labelled boxes."""

from __future__ import annotations

from math import isnan, prod
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple, Protocol, TypeAlias

import msgspec
import numpy as np
from msgspec import Meta

from limpet.contracts.decoder import Abilities
from limpet.contracts.fields import Count
from limpet.contracts.outputs import Detection, Detections

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from limpet.contracts.data import Array, Cut, FloatArray, TensorSpec, Window
    from limpet.contracts.stage import Spec

Layout: TypeAlias = Literal["auto", "ssd", "yolov5", "yolov8", "end2end"]

CANDIDATES = 1000
"""Boxes at most, the best, that are looked at for overlap: a model gone wrong must not take all day."""
CLASSES = 10_000
"""A class beyond that is none."""
DIGITS = 5
"""Of scores and fractions that are reported: a hundredth of a pixel is 0.00001 of a picture 1000 wide."""

ABILITIES = Abilities(output=Detections, reads_inputs=False, threshold=True, outlives_gaps=True)
"""Labels that were there before a gap are counted after it, too: with 0 if they are gone."""


class Config(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """How the outputs are read, and what is reported.

    ``labels`` stand in for the model's. ``layout``: ``ssd`` is the four tensors of TFLite's detection
    post-processing. ``yolov8`` has a row or a column for each box, with centre, width, height and a score for each
    class, in one tensor or two. ``yolov5`` is the same with a score of the box before those of the classes.
    ``end2end`` has a row for each box with left, top, right, bottom, score and class. ``auto`` distinguishes them
    by shape and number of labels. ``pixels``: ``[width, height]`` of the picture that boxes are measured in, empty
    where they are fractions of it. ``activation`` is what a YOLO left out of its scores. Boxes with a score below
    ``threshold`` are left out. So are boxes that overlap a better box of the same label by more than ``overlap``
    (intersection over union). The models of ``ssd`` and ``end2end`` do that themselves. The ``most`` best are
    reported.
    """

    labels: list[str] = []
    """Names of the classes. Default: the model's. Example: `["person", "car"]`."""
    layout: Layout = "auto"
    """What the outputs are. `"auto"` finds it by their shapes and the number of labels."""
    pixels: list[Count] = []
    """`[width, height]` of the picture in whose pixels the model gives boxes. Default: boxes are fractions of it.
    Example: `[640, 640]`."""
    activation: Literal["none", "sigmoid"] = "none"
    """What a YOLO left out of its scores."""
    threshold: float = 0.25
    """Lowest score that is reported."""
    overlap: Annotated[float, Meta(ge=0, le=1)] = 0.45
    """Intersection over union, 0 to 1, above which the worse of two boxes of a label is left out."""
    most: Annotated[int, Meta(ge=1, le=CANDIDATES)] = 100
    """How many boxes are reported, best first."""

    def __post_init__(self) -> None:
        if isnan(self.threshold):
            raise ValueError("threshold must be a number")
        if len(self.pixels) not in {0, 2}:
            raise ValueError(f"pixels must be [width, height], as [320, 320], not {self.pixels}")


def open(config: Config, spec: Spec) -> Detect:
    """Prepare to decode. ``ValueError`` where the outputs are of no such layout, or have not as many classes."""
    outputs = spec.outputs
    names = list(config.labels or spec.labels)
    layout = layout_of(outputs, len(names)) if config.layout == "auto" else config.layout
    if layout == "ssd":
        order = _ssd_order(outputs)
        _refuse_types([outputs[order.boxes], outputs[order.scores]])
        return Detect(config, _Processed(order), names, spec)
    _refuse_types(outputs)
    places, scores = tables(outputs, layout, len(names))
    if layout == "end2end":
        return Detect(config, _End2End(places, scores), names, spec)
    return Detect(config, _Raw(places, scores, layout == "yolov5", config.activation), names, spec)


class Boxes(NamedTuple):
    """Boxes ``(n, 4)`` as the model measures them, left, top, right, bottom; scores ``(n,)``; classes ``(n,)``."""

    corners: FloatArray
    scores: FloatArray
    classes: NDArray[np.intp]


class _Head(Protocol):
    suppressed: bool
    """Whether the model itself has left out what overlaps."""

    def __call__(self, outputs: Sequence[FloatArray], threshold: float) -> Boxes:
        """Return what scores ``threshold`` or more; its numbers need not be finite."""


class Detect:
    """Takes float32, whatever is in it."""

    def __init__(self, config: Config, head: _Head, labels: list[str], spec: Spec) -> None:
        self.spec = spec
        self._threshold = config.threshold
        self._head = head
        self._labels = labels
        self._most, self._overlap = config.most, config.overlap
        self._scale: FloatArray = np.reciprocal(np.array((config.pixels or [1, 1]) * 2, np.float32))
        self._none: dict[str, int] = {}

    def __call__(self, window: Window) -> Window:
        """Return the window with what is in its picture."""
        found = _best(_real(self._head(window.outputs, self._threshold), self._scale))
        chosen: Sequence[int] | slice = slice(self._most)
        if not self._head.suppressed:
            chosen = _apart(found, self._overlap, self._most)
        corners = _in_source(found.corners[chosen].astype(np.float64), window.cut).round(DIGITS).tolist()
        scores = found.scores[chosen].astype(np.float64).round(DIGITS).tolist()
        detections = [
            Detection(self._label(kind), score, tuple(box))
            for kind, score, box in zip(found.classes[chosen].tolist(), scores, corners, strict=True)
        ]
        window.result = Detections(detections, self._counted(detections))
        return window

    def reset(self) -> None:
        """Forget which labels were there."""
        self._none = {}

    def set_threshold(self, value: float) -> None:
        """Leave out what scores below another threshold, from the next window on."""
        self._threshold = value

    def _label(self, kind: int) -> str:
        return self._labels[kind] if kind < len(self._labels) else str(kind)

    def _counted(self, detections: list[Detection]) -> dict[str, int]:
        counts = self._none.copy()
        for one in detections:
            counts[one.label] = counts.get(one.label, 0) + 1
        if len(counts) > len(self._none):
            self._none = dict.fromkeys(counts, 0)
        return counts


def _real(found: Boxes, scale: FloatArray) -> Boxes:
    """Return the boxes in fractions, cut off at the picture's border, without those that are none."""
    corners = np.asarray(found.corners * scale, np.float32).clip(0, 1)  # NaN stays NaN, and has no area
    good = (corners[:, 2:] - corners[:, :2]).min(axis=1, initial=1) > 0
    good &= np.isfinite(found.scores)
    return Boxes(corners[good], found.scores[good], found.classes[good])


def _in_source(corners: NDArray[np.float64], cut: Cut | None) -> NDArray[np.float64]:
    """Return where boxes ``(n, 4)`` of a picture are in the source's picture that it was cut from."""
    if cut is None:
        return corners
    left, top, right, bottom = cut
    size, origin = [right - left, bottom - top] * 2, [left, top] * 2
    return corners * size + origin


def _best(found: Boxes) -> Boxes:
    """Return the best ``CANDIDATES``, best first, of equals the first."""
    order = (-found.scores).argsort(kind="stable")[:CANDIDATES]
    return Boxes(found.corners[order], found.scores[order], found.classes[order])


def _apart(found: Boxes, overlap: float, most: int) -> list[int]:
    """Return which boxes to keep so that no two of a class overlap by more: greedy, from the best on."""
    kept: list[int] = []
    sizes = (found.corners[:, 2:] - found.corners[:, :2]).prod(axis=1)
    left = np.arange(len(sizes))
    while len(left) and len(kept) < most:
        best, left = left[0], left[1:]
        kept.append(int(best))
        inner = np.minimum(found.corners[best, 2:], found.corners[left, 2:])
        inner -= np.maximum(found.corners[best, :2], found.corners[left, :2])
        both = inner.clip(0).prod(axis=1)
        apart = both <= overlap * (sizes[best] + sizes[left] - both)
        left = left[apart | (found.classes[left] != found.classes[best])]
    return kept


class BoxTable(NamedTuple):
    """What an output has of each box: ``part`` of it. ``shape`` is the output's without dimensions of 1 in front.

    ``across``: each box is a column of the output.
    """

    output: int
    shape: tuple[int, int]
    across: bool
    part: slice

    def columns(self, outputs: Sequence[Array]) -> Array:
        """Return a view whose first axis is what there is of each box."""
        table = outputs[self.output].reshape(self.shape)
        return (table if self.across else table.T)[self.part]


class _Raw:
    """The head of a YOLO, before anything was left out: see ``_Head``. ``own``: a box has its own score."""

    suppressed = False

    def __init__(self, places: BoxTable, scores: BoxTable, own: bool, activation: str) -> None:  # noqa: FBT001
        self._places, self._scores = places, scores
        self._own = own
        self._activated = _sigmoid if activation == "sigmoid" else _as_it_is

    def __call__(self, outputs: Sequence[FloatArray], threshold: float) -> Boxes:
        raw = self._scores.columns(outputs)
        # A box whose own score is too low cannot score more with that of a class, which is 1 at most.
        best = self._activated(raw[0] if self._own else raw.max(axis=0))
        likely = np.flatnonzero(best >= threshold)
        raw, scores = raw[int(self._own) :, likely], best[likely]
        classes = raw.argmax(axis=0)
        if self._own:
            scores = scores * self._activated(raw[classes, np.arange(len(likely))])
        places = self._places.columns(outputs)[:, likely]
        half = places[2:] / 2
        corners = np.concatenate([places[:2] - half, places[:2] + half]).T
        enough = scores >= threshold
        return Boxes(corners[enough], scores[enough], classes[enough])


class _End2End:
    """Left, top, right, bottom, score, class: see ``_Head``."""

    suppressed = True

    def __init__(self, places: BoxTable, scores: BoxTable) -> None:
        self._places, self._scores = places, scores

    def __call__(self, outputs: Sequence[FloatArray], threshold: float) -> Boxes:
        scores, classes = self._scores.columns(outputs)
        return _known(self._places.columns(outputs).T, scores, classes, threshold)


class _Order(NamedTuple):
    boxes: int
    classes: int
    scores: int
    number: int


class _Processed:
    """TFLite_Detection_PostProcess: boxes are top, left, bottom, right. See ``_Head``."""

    suppressed = True

    def __init__(self, order: _Order) -> None:
        self._order = order

    def __call__(self, outputs: Sequence[FloatArray], threshold: float) -> Boxes:
        boxes, classes, scores, count = (outputs[place] for place in self._order)
        number = int(max(0.0, min(scores.size, count.item())))  # NaN is not less than that
        corners = boxes.reshape(-1, 4)[:number, [1, 0, 3, 2]]
        return _known(corners, scores.ravel()[:number], classes.ravel()[:number], threshold)


def _known(corners: FloatArray, scores: FloatArray, classes: FloatArray, threshold: float) -> Boxes:
    """Return the boxes that score enough and whose class, a float, can be one."""
    good = (scores >= threshold) & (classes > -0.5) & (classes < CLASSES)
    return Boxes(corners[good], scores[good], classes[good].round().astype(np.intp))


def layout_of(outputs: Sequence[TensorSpec], labels: int) -> Layout:
    """Return which layout outputs are of. ``ValueError`` if the shapes do not say."""
    if len(outputs) == 4:
        return "ssd"
    known: list[Layout] = ["yolov8", "yolov5"]
    fitting = [layout for layout in known if labels and _tables(outputs, layout, labels)]
    if fitting:
        return fitting[0]
    if len(outputs) == 1 and _plain(outputs[0])[1] == 6:
        return "end2end"
    raise ValueError(
        f"the layout of outputs of shape {_shapes(outputs)} is unclear with {labels} labels. For each "
        f"box, yolov8 then has {labels + 4} numbers, yolov5 {labels + 5}, end2end 6. "
        "Set labels, one for each class, or layout"
    )


def tables(outputs: Sequence[TensorSpec], layout: Layout, labels: int) -> tuple[BoxTable, BoxTable]:
    """Return where a box's four places are, and where its scores are. ``ValueError`` if they are nowhere."""
    found = _tables(outputs, layout, labels)
    if found is None:
        behind = _BEHIND[layout] + labels * (layout != "end2end") if labels else "the"
        raise ValueError(
            f"{layout} has 4 numbers and {behind} scores for each box with {labels} labels, in one output or two; "
            f"not in outputs of shape {_shapes(outputs)}"
        )
    return found


_BEHIND = {"yolov8": 0, "yolov5": 1, "end2end": 2}
"""What comes behind a box's places, before the scores of the classes if there are such."""


def _tables(outputs: Sequence[TensorSpec], layout: Layout, labels: int) -> tuple[BoxTable, BoxTable] | None:
    shapes = [_plain(tensor) for tensor in outputs]
    known = labels or layout == "end2end"
    behind = _BEHIND[layout] + labels * (layout != "end2end")
    if len(shapes) == 1:
        # Without labels: there are more boxes than classes.
        wanted = 4 + behind if known else max(min(shapes[0]), 5 + behind)
        whole = _axis(0, shapes[0], wanted, layout)
        return whole and (whole._replace(part=slice(4)), whole._replace(part=slice(4, None)))
    for first, second in ((0, 1), (1, 0)) if len(shapes) == 2 else ():
        places = _axis(first, shapes[first], 4, layout)
        scores = _axis(second, shapes[second], behind if known else min(shapes[second]), layout)
        if places and scores and shapes[first][places.across] == shapes[second][scores.across]:
            return places, scores
    return None


def _axis(output: int, shape: tuple[int, int], wanted: int, layout: Layout) -> BoxTable | None:
    """Return the table that has ``wanted`` numbers for each box, ``None`` if this is none."""
    if wanted not in shape:
        return None
    # Where either would do: yolov8 is exported with a column for each box, the others with a row.
    across = shape[0] == wanted and (shape[1] != wanted or layout == "yolov8")
    return BoxTable(output, shape, across, slice(None))


def _plain(tensor: TensorSpec) -> tuple[int, int]:
    """Return the shape of a table without dimensions of 1 in front."""
    shape = tensor.shape
    if len(shape) < 2 or any(size not in {1, -1} for size in shape[:-2]) or min(shape[-2:]) < 1:
        raise ValueError(f"detect takes tables of boxes, not an output of shape {list(shape)}")
    return shape[-2], shape[-1]


def _refuse_types(outputs: Sequence[TensorSpec]) -> None:
    """Raise ``ValueError`` for boxes or scores that are no real values."""
    for tensor in outputs:
        if tensor.dtype.kind != "f" and not tensor.quantized:
            raise ValueError(
                f"detect takes boxes and scores as floats or quantized integers, and output {tensor.name!r} is "
                f"{tensor.dtype} without quantization; export the model with float outputs"
            )


def _shapes(outputs: Sequence[TensorSpec]) -> str:
    return ", ".join(str(list(tensor.shape)) for tensor in outputs) or "none"


def _ssd_order(outputs: Sequence[TensorSpec]) -> _Order:
    """Return which output is what: those of TensorFlow 1 begin with the boxes, those of 2 with the scores."""
    if len(outputs) != 4:
        raise ValueError(f"ssd has four outputs (boxes, classes, scores and their count), not {len(outputs)}")
    boxes = [n for n, tensor in enumerate(outputs) if len(tensor.shape) == 3 and tensor.shape[-1] == 4]
    order = {0: _Order(boxes=0, classes=1, scores=2, number=3), 1: _Order(scores=0, boxes=1, number=2, classes=3)}
    if len(boxes) == 1 and boxes[0] in order:
        found = order[boxes[0]]
        counts = [abs(prod(outputs[place].shape)) for place in found]
        if counts == [4 * counts[1], counts[1], counts[1], 1]:
            return found
    raise ValueError(
        f"layout ssd does not fit outputs of shape {_shapes(outputs)}. It needs boxes, classes, scores and count, "
        "or scores, boxes, count and classes, in this order. Boxes have shape [1, n, 4]"
    )


def _as_it_is(scores: FloatArray) -> FloatArray:
    return scores


def _sigmoid(scores: FloatArray) -> FloatArray:
    return np.asarray(0.5 + 0.5 * np.tanh(scores / 2), np.float32)  # never overflows, unlike 1 / (1 + exp(-score))
