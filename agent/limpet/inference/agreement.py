"""How far two models agree about one window, and what a result says in short.

``agreement`` is symmetric, 0 to 1, and 1 for equal outputs. Each function below has the definition for one type of
output. No numpy: outputs are small.
"""

from __future__ import annotations

import math
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, TypeAlias, get_args

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
    Output,
    Regression,
    Segmentation,
    Tensors,
)
from limpet.untrusted import reading
from limpet.updates.answers import Answer, cut_label, cut_labels

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from limpet.contracts.outputs import Keypoint, Pose, ScoredLabel, TensorValues

LEAST_OVERLAP = 0.5
"""Intersection over union from which two boxes are of one object."""
NEAR = 0.1
"""Share of the diagonal of the larger box, within which two points are the same one."""
LEAST_POINTS = 0.5
"""Share of the points of two poses that are the same ones, from which the poses are."""
MOST_BOXES = 100
"""Boxes or poses of one output that are compared, the best ones."""
LEAST_AREA = 0.01
"""Share of the picture from which on a label of a segmentation is an answer."""

Box: TypeAlias = tuple[float, float, float, float]

_TYPES: dict[str, Any] = {one.__name__: one for one in get_args(Output) if isinstance(one, type)}


def kind_of(output: object) -> str:
    """Return the name of an output's type, empty if it is none of ``limpet.contracts.outputs``."""
    name = type(output).__name__
    return name if _TYPES.get(name) is type(output) else ""


def read(kind: str, data: bytes) -> Any:
    """Return an output from its msgpack, as ``kind_of`` named its type. ``UnreadableError``.

    An output of a type that is not known is a mapping.
    """
    with reading("an output"):
        if kind and kind not in _TYPES:
            raise ValueError(f"there is no output {kind!r}")
        return msgspec.msgpack.decode(data, type=_TYPES.get(kind, dict[str, Any]))


def agreement(ours: object, theirs: object) -> float | None:
    """Return how far two outputs agree, ``None`` if their types differ or have no definition."""
    compare = _COMPARE.get(type(ours))
    if compare is None or type(ours) is not type(theirs):
        return None
    try:
        return compare(ours, theirs)
    except (OverflowError, ValueError):  # Numbers whose sum is no number.
        return float(ours == theirs)


def answer(output: object) -> Answer:
    """Return what an output says in short. An output of a type without a definition says nothing."""
    shorten = _SHORTEN.get(type(output))
    return Answer(None) if shorten is None else shorten(output)


# --- agreement, by type


def _classifications(a: Classification, b: Classification) -> float:
    """1 if both have the same label, or both have none; else 0."""
    return float(a.label == b.label)


def _anomalies(a: Anomaly, b: Anomaly) -> float | None:
    """1 if both say the same; else 0. ``None`` as long as one of the models still learns what is normal."""
    return None if a.untrained or b.untrained else float(a.anomalous == b.anomalous)


def _keywords(a: Keyword, b: Keyword) -> float:
    """1 if both heard the same keyword, or none; else 0."""
    return float(a.keyword == b.keyword)


def _clusters(a: Cluster, b: Cluster) -> float:
    """1 if both have the same label, or both have none; else 0."""
    return float(a.label == b.label)


def _embeddings(a: Embedding, b: Embedding) -> float:
    """1 if both have the same label, or both have none; else 0. Vectors of two models have no common meaning."""
    return float(a.label == b.label)


def _labels(a: Labels, b: Labels) -> float:
    """Jaccard's index of the sets of labels: those in both, of those in any; 1 if both are empty."""
    return _jaccard({one.label for one in a.labels}, {one.label for one in b.labels})


def _jaccard(a: set[str], b: set[str]) -> float:
    return len(a & b) / len(a | b) if a or b else 1.0


def _detections(a: Detections, b: Detections) -> float:
    """F1 = 2 m / (|A| + |B|); 1 if both are empty.

    m is the largest possible number of pairs of boxes. The boxes of a pair have the same label, and an
    intersection over union of at least ``LEAST_OVERLAP``. Each box is in one pair at most. Of more than
    ``MOST_BOXES`` boxes, the best are taken.
    """
    ours, theirs = a.detections[:MOST_BOXES], b.detections[:MOST_BOXES]
    return _f1(
        ours, theirs, lambda one, other: one.label == other.label and overlap(one.box, other.box) >= LEAST_OVERLAP
    )


def _keypoints(a: Keypoints, b: Keypoints) -> float:
    """F1 of the poses, as for detections.

    Two poses are the same if they have the same label, and at least ``LEAST_POINTS`` of all their points are the
    same. A point is the same in both if the distance is at most ``NEAR`` times the diagonal of the larger box.
    """
    return _f1(a.poses[:MOST_BOXES], b.poses[:MOST_BOXES], _same_pose)


def _same_pose(a: Pose, b: Pose) -> bool:
    if a.label != b.label:
        return False
    ours, theirs = ({one.name: one for one in pose.points} for pose in (a, b))
    names = ours.keys() | theirs.keys()
    reach = NEAR * max(_diagonal(a.box), _diagonal(b.box))
    near = sum(_distance(ours[name], theirs[name]) <= reach for name in ours.keys() & theirs.keys())
    return near >= LEAST_POINTS * len(names)


def _segmentations(a: Segmentation, b: Segmentation) -> float:
    """1 - ½ Σ |a_i - b_i| over the shares of all labels, and of the rest of the picture."""
    names = a.shares.keys() | b.shares.keys()
    ours, theirs = ([shares.get(name, 0.0) for name in names] for shares in (a.shares, b.shares))
    ours.append(max(1 - math.fsum(ours), 0.0))
    theirs.append(max(1 - math.fsum(theirs), 0.0))
    distance = math.fsum(abs(one - other) for one, other in zip(ours, theirs, strict=True)) / 2
    return _limited(1 - distance)


def _regressions(a: Regression, b: Regression) -> float:
    """Mean over all quantities of 1 - |a - b| / (|a| + |b|).

    It is 1 where both are 0 or null, 0 where one is null or missing, and 1 if there are no quantities. Quantities
    are compared by name; if no name is in both, by place.
    """
    return _mean([_near(one, other) for one, other in _by_name(a.values, b.values)])


def _by_name(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[tuple[Any, Any]]:
    """Return pairs of values; ``None`` where one has no partner."""
    if a.keys().isdisjoint(b.keys()):
        return list(zip_longest(a.values(), b.values()))
    return [(a.get(name), b.get(name)) for name in a.keys() | b.keys()]


def _near(a: float | None, b: float | None) -> float:
    if a is None or b is None:
        return float(a is b)
    largest = max(abs(a), abs(b))
    if not largest or not math.isfinite(largest):
        return float(a == b)
    a, b = a / largest, b / largest  # their sum could be infinite
    return _limited(1 - abs(a - b) / (abs(a) + abs(b)))


def _tensors(a: Tensors, b: Tensors) -> float:
    """Mean over all tensors of 1 - ‖a - b‖ / (‖a‖ + ‖b‖), with the Euclidean norm.

    It is 1 where both are all zeros. It is 0 where a tensor is missing in one or has another shape, or a value is
    null in one alone. Values that are null in both count as 0. Tensors are compared as quantities are.
    """
    ours, theirs = ({one.name: one for one in tensors.tensors} for tensors in (a, b))
    return _mean([_near_tensors(one, other) for one, other in _by_name(ours, theirs)])


def _near_tensors(a: TensorValues | None, b: TensorValues | None) -> float:
    if a is None or b is None or a.shape != b.shape or len(a.values) != len(b.values):
        return 0.0
    if any((one is None) != (other is None) for one, other in zip(a.values, b.values, strict=True)):
        return 0.0
    ours, theirs = ([float(one or 0) for one in tensor.values] for tensor in (a, b))
    largest = max(map(abs, (*ours, *theirs)), default=0.0)
    if not largest or not math.isfinite(largest):
        return float(ours == theirs)
    ours, theirs = ([one / largest for one in values] for values in (ours, theirs))
    return _limited(1 - math.dist(ours, theirs) / (math.hypot(*ours) + math.hypot(*theirs)))


def _mean(values: Collection[float]) -> float:
    return _limited(math.fsum(values) / len(values)) if values else 1.0


def _limited(value: float) -> float:
    """Return a number between 0 and 1, whatever rounding made of it. NaN is 0: nothing agrees with it."""
    return min(max(value, 0.0), 1.0) if value == value else 0.0  # noqa: PLR0124 - NaN


def overlap(a: Box, b: Box) -> float:
    """Return the intersection over union of two boxes; 1 for equal ones, also if they are empty."""
    if a == b:
        return 1.0
    shared = _area((max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])))
    union = _area(a) + _area(b) - shared
    return _limited(shared / union) if union > 0 else 0.0


def _area(box: Box) -> float:
    return max(box[2] - box[0], 0.0) * max(box[3] - box[1], 0.0)


def _diagonal(box: Box) -> float:
    return math.hypot(box[2] - box[0], box[3] - box[1])


def _distance(a: Keypoint, b: Keypoint) -> float:
    return math.hypot(a.x - b.x, a.y - b.y)


def _f1(ours: Sequence[Any], theirs: Sequence[Any], same: Callable[[Any, Any], bool]) -> float:
    if not ours and not theirs:
        return 1.0
    near = [[place for place, other in enumerate(theirs) if same(one, other)] for one in ours]
    return 2 * matched(near) / (len(ours) + len(theirs))


def matched(near: Sequence[Sequence[int]]) -> int:
    """Return the largest number of pairs if each one is paired with one of its near ones, and these but once.

    ``near`` has the places of the others that each one may be paired with. This is Kuhn's algorithm.
    """
    partner: dict[int, int] = {}

    def pair(one: int, seen: set[int]) -> bool:
        for other in near[one]:
            if other in seen:
                continue
            seen.add(other)
            if other not in partner or pair(partner[other], seen):
                partner[other] = one
                return True
        return False

    return sum(pair(one, set()) for one in range(len(near)))


_COMPARE: Mapping[type, Callable[[Any, Any], float | None]] = {
    Classification: _classifications,
    Anomaly: _anomalies,
    Detections: _detections,
    Keypoints: _keypoints,
    Segmentation: _segmentations,
    Regression: _regressions,
    Keyword: _keywords,
    Labels: _labels,
    Cluster: _clusters,
    Embedding: _embeddings,
    Tensors: _tensors,
}


# --- answers, by type


def _label(label: str | None, score: float | None) -> Answer:
    return Answer(None if label is None else cut_label(label), _score(score))


def _several(labels: Collection[str], score: float | None) -> Answer:
    return Answer(cut_labels(list(labels)), _score(score))


def _score(score: float | None) -> float | None:
    """Return a score that is a share, ``None`` for one on another scale."""
    return score if score is not None and 0 <= score <= 1 else None


def _best(found: Sequence[Any]) -> float | None:
    return found[0].score if found else None


def _of_quantity(output: Regression) -> Answer:
    """Return the first quantity; ``None`` if it is null."""
    value = next(iter(output.values.values()), None)
    return Answer(float(value) if value is not None and math.isfinite(value) else None)


def _of_labels(output: Labels) -> Answer:
    found: list[ScoredLabel] = output.labels
    return _several([one.label for one in found], _best(found))


_SHORTEN: Mapping[type, Callable[[Any], Answer]] = {
    Classification: lambda one: _label(one.label, one.score),
    Anomaly: lambda one: Answer("anomalous" if one.anomalous else "normal"),
    Detections: lambda one: _several([box.label for box in one.detections], _best(one.detections)),
    Keypoints: lambda one: _several([pose.label for pose in one.poses], _best(one.poses)),
    Segmentation: lambda one: _several([name for name, share in one.shares.items() if share >= LEAST_AREA], None),
    Regression: _of_quantity,
    Keyword: lambda one: _label(one.keyword, one.score),
    Labels: _of_labels,
    Cluster: lambda one: _label(one.label, None),
    Embedding: lambda one: _label(one.label, one.similarity),
}
