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


def detections(found: Sequence[Any], expected: Sequence[Any]) -> float:
    """Return the largest difference of corners and scores; infinity unless they are the same things.

    Each is ``{"label", "score", "box"}``. Partners are those that overlap most.
    """
    if len(found) != len(expected):
        return inf
    left, largest = list(expected), 0.0
    for one in found:
        same = [other for other in left if other["label"] == one["label"]]
        if not same:
            return inf
        partner = max(same, key=lambda other: overlap(one["box"], other["box"]))
        left.remove(partner)
        corners = [abs(a - b) for a, b in zip(one["box"], clipped(partner["box"]), strict=True)]
        largest = max(largest, *corners, abs(one["score"] - partner["score"]))
    return largest


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
            same = [other for other in others if other["label"] == one["label"]]
            partner = max(same, key=lambda other: overlap(one["box"], other["box"]), default=None)
            if partner is None or not overlap(one["box"], partner["box"]):
                return inf
            pairs = zip(clipped(one["box"]), clipped(partner["box"]), strict=True)
            largest = max(largest, *(abs(a - b) for a, b in pairs))
    return largest


def scores(found: Sequence[Any], expected: Sequence[Any], threshold: float) -> float:
    """Return the largest difference of scores. What one side alone has scores ``threshold`` at most on the other."""
    largest = 0.0
    for ones, others in ((found, expected), (expected, found)):
        for one in ones:
            same = [other for other in others if other["label"] == one["label"]]
            partner = max(same, key=lambda other: overlap(one["box"], other["box"]), default=None)
            missing = partner is None or not overlap(one["box"], partner["box"])
            largest = max(largest, abs(one["score"] - (threshold if missing else partner["score"])))
    return largest
