"""Connected areas of a mask, and their outlines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Kinds = np.ndarray[Any, np.dtype[np.int32]]
"""A mask ``(h, w)``: the number of a class for each pixel, below 0 for none."""

MOST_RUNS = 20_000
"""Runs of equal pixels in rows of a mask. Of one with more, noise or a large one, every other pixel is enough."""
_MOST_CORNERS = 2000
"""Corners of an outline that are simplified; of more, some are left out first."""
_STEPS = ((0, 1), (1, 0), (0, -1), (-1, 0))
"""Row and column, to the right, down, left and up."""


class Area(NamedTuple):
    """Pixels of one class that touch at their sides. ``box``: left, top, right, bottom in pixels.

    ``row`` and ``column`` are the first pixel of it, from the top and then the left.
    """

    kind: int
    pixels: int
    box: tuple[int, int, int, int]
    row: int
    column: int


class Runs(NamedTuple):
    """Runs of equal pixels in rows, in the order of reading: ``end`` is the column behind the last pixel."""

    row: list[int]
    begin: list[int]
    end: list[int]
    kind: list[int]


def coarse(kinds: Kinds) -> Kinds:
    """Return the mask, or every so many pixels of it, so that it has no more than ``MOST_RUNS``."""
    while min(kinds.shape) > 1 and _count_runs(kinds) > MOST_RUNS:
        kinds = kinds[::2, ::2]
    return kinds


def _count_runs(kinds: Kinds) -> int:
    return int(np.count_nonzero(kinds[:, 1:] != kinds[:, :-1])) + len(kinds)


def _runs(kinds: Kinds) -> Runs:
    height, width = kinds.shape
    changes = np.ones((height, width), np.bool_)
    changes[:, 1:] = kinds[:, 1:] != kinds[:, :-1]
    begins = np.flatnonzero(changes)
    ends = np.append(begins[1:], height * width)
    rows = begins // width
    known = kinds.ravel()[begins] >= 0
    columns = [rows, begins - rows * width, ends - rows * width, kinds.ravel()[begins]]
    return Runs(*(column[known].tolist() for column in columns))


def areas(kinds: Kinds) -> list[Area]:
    """Return the areas of a mask, largest first."""
    runs = _runs(kinds)
    parents = _joined(runs)
    found: dict[int, Area] = {}
    for number, (row, begin, end, kind) in enumerate(zip(*runs, strict=True)):
        root = _root(parents, number)
        area = found.get(root)
        if area is None:
            found[root] = Area(kind, end - begin, (begin, row, end, row + 1), row, begin)
        else:
            left, top, right, _ = area.box
            box = (min(left, begin), top, max(right, end), row + 1)
            found[root] = area._replace(pixels=area.pixels + end - begin, box=box)
    return sorted(found.values(), key=lambda area: -area.pixels)


def _joined(runs: Runs) -> list[int]:
    """Return a parent of each run: those with the same root touch."""
    rows, begins, ends, kinds = runs
    parents = list(range(len(rows)))
    above = 0
    for here in range(len(rows)):
        while above < here and (
            rows[above] < rows[here] - 1 or (rows[above] == rows[here] - 1 and ends[above] <= begins[here])
        ):
            above += 1
        other = above
        while other < here and rows[other] == rows[here] - 1 and begins[other] < ends[here]:
            if kinds[other] == kinds[here]:
                a, b = _root(parents, other), _root(parents, here)
                parents[max(a, b)] = min(a, b)
            other += 1
    return parents


def _root(parents: list[int], number: int) -> int:
    while parents[number] != number:
        parents[number] = parents[parents[number]]
        number = parents[number]
    return number


def outline(kinds: Kinds, area: Area) -> NDArray[np.float64]:
    """Return the corners ``(n, 2)``, x and y in pixels, of the outer border of an area, clockwise."""
    left, top, right, bottom = area.box
    inside = np.pad(kinds[top:bottom, left:right] == area.kind, 1)
    stride, pixels = inside.shape[1], inside.tobytes()
    row, column = area.row - top + 1, area.column - left + 1
    start, heading = (row, column), 0
    corners = []
    while True:
        down, across = _STEPS[heading]
        row, column = row + down, column + across
        turn = _turn(pixels, stride, (row, column), heading)
        if turn:
            corners.append((column - 1 + left, row - 1 + top))
            heading = (heading + turn) % 4
        if (row, column) == start and heading == 0:
            return np.array(corners, np.float64)


def _turn(pixels: bytes, stride: int, corner: tuple[int, int], heading: int) -> int:
    """Return 1 to turn right at a corner of pixels, -1 to turn left, 0 to go straight on.

    The area is on the right hand. An area that touches it at a corner alone is another one.
    """
    row, column = corner
    here = row * stride + column  # the pixel right of the corner and below it
    right = (here, here - 1, here - stride - 1, here - stride)[heading]
    ahead = (here - stride, here, here - 1, here - stride - 1)[heading]
    if not pixels[right]:
        return 1
    return -1 if pixels[ahead] else 0


def simplified(corners: NDArray[np.float64], tolerance: float, most: int) -> NDArray[np.float64]:
    """Return at most ``most`` of the corners of a closed outline, three at least.

    The line through them is ``tolerance`` pixels from the others at most, farther where that takes too many.
    """
    corners = corners[:: -(-len(corners) // _MOST_CORNERS)]
    while True:
        kept = _line(corners, tolerance)
        if len(kept) <= most or len(kept) <= 3:
            return corners[kept]
        tolerance = max(tolerance, 0.25) * 1.5


def _line(corners: NDArray[np.float64], tolerance: float) -> list[int]:
    """Return which corners stay: Douglas and Peucker's algorithm on the two halves of a closed line."""
    count = len(corners)
    if count <= 3:
        return list(range(count))
    far = int(((corners - corners[0]) ** 2).sum(axis=1).argmax())
    closed = np.concatenate([corners, corners[:1]])
    kept = {0, far}
    left = [(0, far), (far, count)]
    while left:
        begin, end = left.pop()
        if end - begin < 2:
            continue
        away = _distances(closed[begin + 1 : end], closed[begin], closed[end])
        worst = int(away.argmax())
        if away[worst] > tolerance:
            middle = begin + 1 + worst
            kept.add(middle)
            left += [(begin, middle), (middle, end)]
    if len(kept) < 3:
        away = _distances(corners, corners[0], corners[far])
        kept.add(int(away.argmax()))
    return sorted(kept)


def _distances(
    points: NDArray[np.float64], begin: NDArray[np.float64], end: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return how far points are from the segment between two points."""
    along = end - begin
    length = float(along @ along)
    share = ((points - begin) @ along / length).clip(0, 1) if length else np.zeros(len(points))
    return np.asarray(np.hypot(*(points - begin - share[:, None] * along).T))
