"""How results are compared with the maker's answers, and with what a picture shows."""

from __future__ import annotations

from math import hypot, inf
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

Box: TypeAlias = "Sequence[float]"


def overlap(one: Box, other: Box) -> float:
    """Return the intersection over union of two boxes."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    both = max(width, 0.0) * max(height, 0.0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return both / (sum(areas) - both) if both else 0.0


def clipped(box: Box) -> list[float]:
    """Return a box without what is outside of the picture."""
    return [min(max(float(side), 0.0), 1.0) for side in box]


def detections(found: Sequence[Any], expected: Sequence[Any], threshold: float) -> float:
    """Return the largest difference of corners and scores.

    Each is ``{"label", "score", "box"}``. Partners are those of a label that overlap most. What one side alone has
    differs by what its score is above ``threshold``: the other side's is below.
    """
    largest = scores(found, expected, threshold)
    for one in found:
        partner = _partner(one, expected)
        if partner is not None:
            largest = max(largest, *_corners(one, partner))
    return largest


def _partner(one: Any, others: Sequence[Any]) -> Any:
    """Return the thing of the same label that overlaps most, ``None`` if none does."""
    same = [other for other in others if other["label"] == one["label"] and overlap(one["box"], other["box"])]
    return max(same, key=lambda other: overlap(one["box"], other["box"]), default=None)


def _corners(one: Any, other: Any) -> list[float]:
    pairs = zip(clipped(one["box"]), clipped(other["box"]), strict=True)
    return [abs(a - b) for a, b in pairs]


def has(found: Sequence[Any], label: str, box: Box, least: float = 0.5) -> bool:
    """Return whether one of the detections is of this label and overlaps this box enough."""
    return any(one["label"] == label and overlap(one["box"], box) >= least for one in found)


def points(found: Sequence[Any], expected: Sequence[Any], least: float) -> float:
    """Return the largest distance of points, of those that score ``least`` with the maker's code.

    Each is ``{"name", "x", "y", "score"}``, in the same order.
    """
    pairs = list(zip(found, expected, strict=True))
    if any(one["name"] != other["name"] for one, other in pairs):
        return inf
    seen = [(one, other) for one, other in pairs if other["score"] >= least]
    return max(hypot(one["x"] - other["x"], one["y"] - other["y"]) for one, other in seen)


def sure(found: Sequence[Any], expected: Sequence[Any], least: float) -> float:
    """Return the largest difference of corners; infinity if one side alone has something that scores ``least``."""
    largest = 0.0
    for ones, others in ((found, expected), (expected, found)):
        for one in (each for each in ones if each["score"] >= least):
            partner = _partner(one, others)
            if partner is None:
                return inf
            largest = max(largest, *_corners(one, partner))
    return largest


def scores(found: Sequence[Any], expected: Sequence[Any], threshold: float) -> float:
    """Return the largest difference of scores. What one side alone has scores at most ``threshold`` elsewhere."""
    largest = 0.0
    for ones, others in ((found, expected), (expected, found)):
        for one in ones:
            partner = _partner(one, others)
            largest = max(largest, abs(one["score"] - (threshold if partner is None else partner["score"])))
    return largest
