"""A decoder's output as an explanation needs it: the label, and a number for each label or quantity."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import msgspec

from limpet.contracts.outputs import (
    Anomaly,
    Classification,
    Cluster,
    Detections,
    Embedding,
    Keypoints,
    Keyword,
    Labels,
    Regression,
    Segmentation,
    Tensors,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

Box: TypeAlias = tuple[float, float, float, float]

MOST_NUMBERS = 1000
"""Labels or quantities of one answer."""


class Decoded(NamedTuple):
    """What a model and its decoder made of a window. ``scores``: the probability of each label, if it has them."""

    output: Any
    scores: Mapping[str, float] | None = None


class Answer(msgspec.Struct):
    """The same as an explanation needs it.

    ``label``: the class, ``None`` if the decoder abstains. ``numbers``: by label or quantity, best
    first, the finite ones. ``classifies``: the answer is a class or an object, so that a label without a number
    has the score 0. ``boxes``: where the best object of each label is.
    """

    label: str | None
    numbers: dict[str, float]
    classifies: bool = True
    boxes: dict[str, Box] = {}

    @property
    def best(self) -> str:
        """What to explain by default: the answer, else the largest score or the first quantity.

        ``ValueError`` if there is no number at all.
        """
        if self.label in self.numbers:
            return self.label or ""
        if not self.numbers:
            raise ValueError("its answer has no number that could be explained")
        return next(iter(self.numbers))

    def number(self, label: str) -> float:
        """Return the number of a label or quantity. ``ValueError`` if a quantity has none, as of NaN."""
        if label not in self.numbers and not self.classifies:
            raise ValueError(f"the model gives no finite number for {label!r}, so it cannot be explained")
        return self.numbers.get(label, 0.0)


def read(decoded: Decoded, near: Box | None = None) -> Answer:
    """Return the answer in what a decoder made.

    ``near``: the box of the object that is explained. The number of an object's label is then its score times
    how much its box overlaps that one, as D-RISE (V. Petsiuk and others, CVPR 2021) has it.
    """
    output, scores = decoded
    for kind, reader in _READERS:
        if isinstance(output, kind):
            answer = reader(output, near)
            break
    else:
        answer = Answer(None, _finite(_plain(output)), classifies=False)
    if scores:
        ranked = sorted(scores.items(), key=lambda pair: -pair[1] if math.isfinite(pair[1]) else math.inf)
        answer.numbers = _finite(ranked)
    return answer


def _classification(output: Classification, _: Box | None) -> Answer:
    numbers = _scored((one.label, one.score) for one in output.top)
    if not numbers and output.label is not None:  # the model gives the number of a class alone
        numbers = {output.label: 1.0}
    return Answer(output.label, numbers)


def _anomaly(output: Anomaly, _: Box | None) -> Answer:
    label = None if output.untrained else ("anomalous" if output.anomalous else "normal")
    return Answer(label, _scored([("score", output.score)]))


def _detections(output: Detections, near: Box | None) -> Answer:
    return _objects([(one.label, one.score, one.box) for one in output.detections], near)


def _keypoints(output: Keypoints, near: Box | None) -> Answer:
    return _objects([(one.label, one.score, one.box) for one in output.poses], near)


def _objects(objects: Sequence[tuple[str, float, Box]], near: Box | None) -> Answer:
    numbers: dict[str, float] = {}
    boxes: dict[str, Box] = {}
    for label, score, box in objects:
        found = score * (1.0 if near is None else overlap(box, near))
        numbers[label] = max(found, numbers.get(label, 0.0))
        boxes.setdefault(label, box)
    return Answer(objects[0][0] if objects else None, _finite(numbers.items()), boxes=boxes)


def _segmentation(output: Segmentation, _: Box | None) -> Answer:
    label = output.regions[0].label if output.regions else None
    ranked = sorted(output.shares.items(), key=lambda pair: -pair[1])
    return Answer(label, _finite(ranked))


def _regression(output: Regression, _: Box | None) -> Answer:
    return Answer(None, _scored(output.values.items()), classifies=False)


def _keyword(output: Keyword, _: Box | None) -> Answer:
    return Answer(output.keyword, _scored(output.scores.items()))


def _labels(output: Labels, _: Box | None) -> Answer:
    best = output.labels[0].label if output.labels else None
    return Answer(best, _scored((one.label, one.score) for one in output.labels))


def _cluster(output: Cluster, _: Box | None) -> Answer:
    return Answer(output.label, _scored([("distance", output.distance)]))


def _embedding(output: Embedding, _: Box | None) -> Answer:
    return Answer(output.label, _scored((one.label, one.score) for one in output.top))


def _tensors(output: Tensors, _: Box | None) -> Answer:
    pairs = ((f"{one.name}[{n}]", value) for one in output.tensors for n, value in enumerate(one.values))
    return Answer(
        None, _finite((name, float(value)) for name, value in pairs if value is not None), classifies=False
    )


_READERS: tuple[tuple[type, Callable[[Any, Box | None], Answer]], ...] = (
    (Classification, _classification),
    (Anomaly, _anomaly),
    (Detections, _detections),
    (Keypoints, _keypoints),
    (Segmentation, _segmentation),
    (Regression, _regression),
    (Keyword, _keyword),
    (Labels, _labels),
    (Cluster, _cluster),
    (Embedding, _embedding),
    (Tensors, _tensors),
)


def _plain(output: Any) -> Iterator[tuple[str, float]]:
    """Yield the numbers at the top of the mapping that a decoder of another package gives."""
    made = msgspec.to_builtins(output)
    for name, value in made.items() if isinstance(made, dict) else ():
        if isinstance(value, int | float) and not isinstance(value, bool):
            yield str(name), float(value)


def _scored(pairs: Any) -> dict[str, float]:
    return _finite((name, value) for name, value in pairs if value is not None)


def _finite(pairs: Any) -> dict[str, float]:
    """Return the finite numbers, at most ``MOST_NUMBERS``."""
    finite = ((name, float(value)) for name, value in pairs if math.isfinite(value))
    return {name: value for (name, value), _ in zip(finite, range(MOST_NUMBERS), strict=False)}


def overlap(one: Box, other: Box) -> float:
    """Return the intersection of two boxes over their union, 0 to 1."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return both / (areas - both)
