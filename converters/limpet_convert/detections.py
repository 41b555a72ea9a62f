"""Metrics of a detector, and the agreement of two, as the device reads their outputs.

The decoder is the agent's own, so the metrics are of what the device will report. Average precision is COCO's (Lin
and others, 2014; cocodataset.org/#detection-eval): precision at 101 recalls, the highest at that recall or above.
Detections are matched from the best down. One is right if it overlaps an object of its label that no better one
has taken. It takes the object that it overlaps most. ``map`` is the mean over overlaps of .5 to .95 and labels,
``map50`` that at .5.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from limpet import text_file
from limpet.contracts.data import TensorSpec, Window
from limpet.contracts.stage import Spec
from limpet.decoders import detect
from limpet.errors import ConfigError
from limpet.filling import fill
from limpet.wording import suggest
from limpet_convert.errors import ConvertError
from limpet_convert.metrics import precision_recall_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from limpet.contracts.data import Array, FloatArray
    from limpet.contracts.outputs import Detection
    from limpet_convert.metrics import Metrics
    from limpet_convert.project import Bundle

OVERLAPS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
"""As pycocotools has them: 0.35 among them is a little more than 7 / 20."""
LEAST = 0.001
"""Threshold under which average precision takes no detections: all that matter are above."""
MOST = 100
"""Detections of a picture that average precision takes."""
NOTHING = "nothing"


@dataclass(frozen=True)
class Boxes:
    """What is in one picture: ``corners`` ``(n, 4)`` left, top, right, bottom as fractions; best first."""

    corners: NDArray[np.float64]
    kinds: NDArray[np.int64]
    scores: NDArray[np.float64]


class _Target(msgspec.Struct):
    label: str
    box: tuple[float, float, float, float]


def read_targets(path: Path, labels: Sequence[str]) -> Array:
    """Read a file with a line of JSON for each window: a list of objects with ``label`` and ``box``.

    Boxes are left, top, right and bottom as fractions of the picture, as the device reports them. Returns float64
    ``(windows, most, 5)``, class and box, filled up with classes of -1. ``ConvertError`` names the line.
    """
    lines = [_line(text, f"{path}: line {n}", labels) for n, text in enumerate(_lines(path), 1)]
    targets = np.full((len(lines), max(map(len, lines), default=0), 5), -1.0)
    for target, line in zip(targets, lines, strict=True):
        target[: len(line)] = np.reshape(line, (-1, 5))
    return targets


def _lines(path: Path) -> list[str]:
    try:
        return text_file.lines(path.read_bytes())
    except UnicodeDecodeError as error:
        raise ConvertError(f"{path}: not text: {error}") from error


def _line(text: str, where: str, labels: Sequence[str]) -> list[tuple[float, ...]]:
    try:
        found = msgspec.json.decode(text, type=list[_Target])
    except msgspec.DecodeError as error:
        example = '[{"label": "dog", "box": [0.1, 0.2, 0.5, 0.9]}]'
        raise ConvertError(f"{where}: {error}; a line has what is in one window, as {example} or []") from error
    for one in found:
        left, top, right, bottom = one.box
        if one.label not in labels:
            raise ConvertError(f"{where}: no label {one.label!r}{suggest(one.label, labels)}; see bundle.labels")
        if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
            raise ConvertError(
                f"{where}: {list(one.box)} is no box: left, top, right and bottom as fractions, 0 to 1, of the "
                "picture's width and height"
            )
    return [(float(labels.index(one.label)), *one.box) for one in found]


def truth(target: Array) -> Boxes:
    """Return one window of what ``read_targets`` returned."""
    there = target[target[:, 0] >= 0]
    return Boxes(there[:, 1:], there[:, 0].astype(np.int64), np.ones(len(there)))


@dataclass(frozen=True)
class Reader:
    """Reads outputs as the device does, as ``config`` says."""

    config: detect.Config
    labels: list[str]

    @classmethod
    def of(cls, bundle: Bundle) -> Reader:
        """Take the decoder of a bundle. ``ConfigError`` has what is wrong with it."""
        problems: list[str] = []
        options = {key: value for key, value in bundle.decoder.items() if key != "kind"}
        config = fill(detect.Config, options, "bundle.decoder", Path(), problems)
        if config is None:
            raise ConfigError(problems)
        return cls(config, list(config.labels or bundle.labels))

    def specs(self, shapes: Sequence[Sequence[int]]) -> list[TensorSpec]:
        """Return outputs of these shapes, batch of 1 in front. ``ConvertError`` where the decoder refuses them."""
        specs = [TensorSpec(f"output {n}", tuple(shape), np.dtype(np.float32)) for n, shape in enumerate(shapes)]
        try:
            detect.open(self.config, self._spec(specs))
        except ValueError as error:
            raise ConvertError(f"bundle.decoder: {error}") from error
        return specs

    def read(self, outputs: Sequence[FloatArray], *, reported: bool) -> list[Boxes]:
        """Return what is in each picture: what is ``reported`` on the device, or all for average precision."""
        config = self.config
        if not reported:
            least = LEAST if config.threshold is None else min(LEAST, config.threshold)
            config = msgspec.structs.replace(config, threshold=least, most=MOST)
        specs = self.specs([(1, *output.shape[1:]) for output in outputs])
        decoder = detect.open(config, self._spec(specs))
        kinds = {label: number for number, label in enumerate(self.labels)}
        found = []
        for n in range(len(outputs[0])):
            window = Window(outputs[0][n], 0, 0, n, outputs=[output[n] for output in outputs])
            found.append(_boxes(decoder(window).result.detections, kinds))
        return found

    def _spec(self, specs: Sequence[TensorSpec]) -> Spec:
        return Spec(shape=specs[0].shape, dtype=specs[0].dtype, outputs=tuple(specs), labels=tuple(self.labels))

    def parts(self, shapes: Sequence[Sequence[int]]) -> list[NDArray[np.intp]]:
        """Return which numbers of all outputs, flat and one after the other, are boxes, and which are scores.

        They differ in scale by a hundred, so that an error must be measured for each.
        """
        specs = self.specs(shapes)
        ends = np.cumsum([0] + [int(np.prod(spec.shape)) for spec in specs])
        places = [np.arange(begin, end) for begin, end in pairwise(ends)]
        found = detect.box_tables(self.config, self._spec(specs))
        return places if found is None else [table.columns(places).ravel() for table in found[:2]]


def _boxes(found: Sequence[Detection], kinds: dict[str, int]) -> Boxes:
    known = [one for one in found if one.label in kinds]
    return Boxes(
        np.array([one.box for one in known]).reshape(-1, 4),
        np.array([kinds[one.label] for one in known], np.int64),
        np.array([one.score for one in known]),
    )


def overlaps(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return intersection over union of each of ``a`` ``(n, 4)`` with each of ``b`` ``(m, 4)``."""
    inner = np.minimum(a[:, None, 2:], b[None, :, 2:]) - np.maximum(a[:, None, :2], b[None, :, :2])
    both = inner.clip(0).prod(axis=2)
    sizes = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (a, b)]
    return np.asarray(both / np.maximum(sizes[0][:, None] + sizes[1] - both, 1e-12))


def _hits(found: Boxes, true: Boxes) -> NDArray[np.bool_]:
    """Return for each of ``OVERLAPS`` which detections are right, ``(10, n)``."""
    shared = overlaps(found.corners, true.corners) * (found.kinds[:, None] == true.kinds)
    hits = np.zeros((len(OVERLAPS), len(found.kinds)), bool)
    free = np.ones((len(OVERLAPS), len(true.kinds)), bool)
    for number in np.flatnonzero(shared.max(axis=1, initial=0) >= OVERLAPS[0]):
        left = np.where(free, shared[number], 0.0)
        best = left.argmax(axis=1)
        right = left[np.arange(len(OVERLAPS)), best] >= OVERLAPS
        hits[right, number] = True
        free[right, best[right]] = False
    return hits


def average_precision(scores: Array, hits: Array, objects: int) -> NDArray[np.float64]:
    """Return COCO's average precision of one label by overlap, for ``hits`` ``(overlaps, n)``."""
    order = (-scores).argsort(kind="stable")
    right = hits[:, order].cumsum(axis=1)
    precision = right / np.arange(1, len(order) + 1)
    best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    reached = [np.searchsorted(recall, RECALLS) for recall in right / objects]
    return np.array([np.append(row, 0.0)[places].mean() for row, places in zip(best, reached, strict=True)])


def metrics(
    found: Sequence[Boxes], reported: Sequence[Boxes], true: Sequence[Boxes], labels: Sequence[str]
) -> Metrics:
    """Return ``map`` and ``map50`` of what was found, and precision, recall and F1 at .5 of what is reported."""
    classes = {}
    for kind, label in enumerate(labels):
        there = sum(int((one.kinds == kind).sum()) for one in true)
        scores, hits = _all_hits([_only(one, kind) for one in found], true)
        precision = average_precision(scores, hits, there) if there else np.zeros(len(OVERLAPS))
        _, right = _all_hits([_only(one, kind) for one in reported], true)
        classes[label] = {
            "ap": float(precision.mean()),
            "ap50": float(precision[0]),
            **precision_recall_of(int(right[0].sum()), right.shape[1], there),
            "count": there,
        }
    known = [one for one in classes.values() if one["count"]]
    means = {key: float(np.mean([one[key] for one in known])) if known else 0.0 for key in ("ap", "ap50", "f1")}
    return {"map": means["ap"], "map50": means["ap50"], "f1": means["f1"], "classes": classes}


def _only(boxes: Boxes, kind: int) -> Boxes:
    chosen = boxes.kinds == kind
    return Boxes(boxes.corners[chosen], boxes.kinds[chosen], boxes.scores[chosen])


def _all_hits(found: Sequence[Boxes], true: Sequence[Boxes]) -> tuple[Array, Array]:
    hits = [_hits(one, other) for one, other in zip(found, true, strict=True)]
    return np.concatenate([one.scores for one in found]), np.concatenate(hits, axis=1)


def _pairs(a: Boxes, b: Boxes, *, same: bool) -> list[tuple[int, int]]:
    """Match the detections of two models: overlap .5 at least, the closest first. Return pairs of indices."""
    shared = overlaps(a.corners, b.corners)
    if same:
        shared *= a.kinds[:, None] == b.kinds
    pairs = []
    while shared.size and shared.max() >= OVERLAPS[0]:
        i, j = (int(n) for n in np.unravel_index(shared.argmax(), shared.shape))
        pairs.append((i, j))
        shared[i], shared[:, j] = 0, 0
    return pairs


def agreement(a: Sequence[Boxes], b: Sequence[Boxes]) -> float:
    """Return which share of one model's detections the other has too, of the label; the lower of both ways."""
    common = sum(len(_pairs(one, other, same=True)) for one, other in zip(a, b, strict=True))
    most = max(sum(len(one.kinds) for one in side) for side in (a, b))
    return common / most if most else 1.0


def changes(a: Sequence[Boxes], b: Sequence[Boxes], labels: Sequence[str]) -> list[dict[str, Any]]:
    """Return which labels turned into which, or came and went, most often first."""
    names = [*labels, NOTHING]
    counts: dict[tuple[int, int], int] = {}
    for one, other in zip(a, b, strict=True):
        pairs = _pairs(one, other, same=False)
        turned = [(int(one.kinds[i]), int(other.kinds[j])) for i, j in pairs]
        turned += [(int(one.kinds[i]), -1) for i in set(range(len(one.kinds))) - {i for i, _ in pairs}]
        turned += [(-1, int(other.kinds[j])) for j in set(range(len(other.kinds))) - {j for _, j in pairs}]
        for before, after in turned:
            if before != after:
                counts[before, after] = counts.get((before, after), 0) + 1
    found = [{"from": names[a], "to": names[b], "detections": n} for (a, b), n in sorted(counts.items())]
    return sorted(found, key=lambda one: -int(str(one["detections"])))
