"""Points, polygons and lines of a picture, as fractions of its width and height. Pure arithmetic."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, TypeAlias

from msgspec import Meta

from limpet.contracts.detected_events import Fraction

if TYPE_CHECKING:
    from collections.abc import Sequence

Point: TypeAlias = tuple[Fraction, Fraction]
Polygon: TypeAlias = Annotated[list[Point], Meta(min_length=3, max_length=64)]
Line: TypeAlias = tuple[Point, Point]

NEAR = 1e-9
"""So close to a border is on it."""


def foot(box: Sequence[float]) -> Point:
    """Return the middle of a box's lower edge, in the picture: where an object stands."""
    return _inside((box[0] + box[2]) / 2), _inside(box[3])


def _inside(place: float) -> float:
    return min(max(place, 0.0), 1.0)


def contains(polygon: Sequence[Point], point: Point) -> bool:
    """Whether a point is in a polygon or on its border. Where the polygon crosses itself, parts are out of it."""
    x, y = point
    inside = False
    for start, end in zip(polygon, [*polygon[1:], polygon[0]], strict=True):
        if _is_on(start, end, point):
            return True
        if (start[1] > y) != (end[1] > y):
            crossing = start[0] + (y - start[1]) / (end[1] - start[1]) * (end[0] - start[0])
            inside ^= x < crossing
    return inside


def _is_on(start: Point, end: Point, point: Point) -> bool:
    """Whether a point is on the way from ``start`` to ``end``."""
    within = all(
        min(a, b) - NEAR <= place <= max(a, b) + NEAR for a, b, place in zip(start, end, point, strict=True)
    )
    return within and abs(side(start, end, point)) <= NEAR


def area(polygon: Sequence[Point]) -> float:
    """Return the area of a polygon that does not cross itself."""
    pairs = zip(polygon, [*polygon[1:], polygon[0]], strict=True)
    return abs(sum(a[0] * b[1] - b[0] * a[1] for a, b in pairs)) / 2


def side(start: Point, end: Point, point: Point) -> float:
    """Return on which side of a line a point is: above 0 to the right of who walks from ``start`` to ``end``.

    It is the distance to the line, times the line's length.
    """
    return (end[0] - start[0]) * (point[1] - start[1]) - (end[1] - start[1]) * (point[0] - start[0])


def crosses(line: Line, start: Point, end: Point) -> bool:
    """Whether the way between two points that are on different sides of a line goes through it, ends included."""
    return side(start, end, line[0]) * side(start, end, line[1]) <= 0
