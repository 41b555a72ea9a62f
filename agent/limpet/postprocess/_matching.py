"""Which box of one list is which of another: the assignment with the largest overlap in all. Pure numpy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from limpet.postprocess._motion import Box

_NEVER = 10.0
"""The cost of a pair that may not be: more than all that could be gained with it."""


def overlaps(first: Sequence[Box], second: Sequence[Box], grown: float = 0.0) -> NDArray[np.float64]:
    """Return the intersection over union of each pair, float64 ``(len(first), len(second))``.

    ``grown``: each box is made larger on each side by this share of its size. So boxes overlap that are close to
    each other (Yang and others, 2023: C-BIoU).
    """
    a, b = _grown(first, grown)[:, None], _grown(second, grown)[None]
    inner = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    both = inner.clip(0).prod(axis=-1)
    either = (a[..., 2:] - a[..., :2]).prod(axis=-1) + (b[..., 2:] - b[..., :2]).prod(axis=-1) - both
    shares: NDArray[np.float64] = np.divide(both, either, out=np.zeros_like(both), where=either > 0)
    return shares


def _grown(boxes: Sequence[Box], share: float) -> NDArray[np.float64]:
    corners = np.array(boxes, np.float64).reshape(-1, 4)
    more = (corners[:, 2:] - corners[:, :2]) * share
    return np.concatenate([corners[:, :2] - more, corners[:, 2:] + more], axis=1)


def matched(worth: NDArray[np.float64], least: float) -> list[tuple[int, int]]:
    """Return as many pairs of a row and a column as there can be, with the largest sum of ``worth``.

    Each pair has at least ``least``. ``worth`` is not above 1. Each row and each column is in one pair at most.
    """
    good = worth >= least
    alone = good & (good.sum(axis=1, keepdims=True) == 1) & (good.sum(axis=0, keepdims=True) == 1)
    pairs = [(int(row), int(column)) for row, column in np.argwhere(alone)]
    good[alone.any(axis=1)] = False
    rows, columns = np.flatnonzero(good.any(axis=1)), np.flatnonzero(good.any(axis=0))
    if len(rows):
        inner = np.ix_(rows, columns)
        cost = np.where(good[inner], 1 - worth[inner], _NEVER)
        for row, column in _assigned(cost):
            if good[rows[row], columns[column]]:
                pairs.append((int(rows[row]), int(columns[column])))
    return pairs


def _assigned(cost: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Return the assignment of least cost: as many pairs as the shorter side has (Jonker and Volgenant, 1987)."""
    if cost.shape[0] > cost.shape[1]:
        return [(row, column) for column, row in _assigned(cost.T)]
    count, width = cost.shape
    of_row, of_column = np.zeros(count), np.zeros(width)
    """The dual variables: the cost of a pair is never less than their sum."""
    row_of = np.full(width, -1)
    for first in range(count):
        row, free = first, np.ones(width, bool)
        shortest, before = np.full(width, np.inf), np.full(width, -1)
        column, path = -1, 0.0
        while True:
            reduced = path + cost[row] - of_row[row] - of_column
            closer = free & (reduced < shortest)
            shortest[closer], before[closer] = reduced[closer], column
            column = int(np.where(free, shortest, np.inf).argmin())
            path = shortest[column]
            free[column] = False
            if row_of[column] < 0:
                break
            row = int(row_of[column])
        reached = ~free & (row_of >= 0)
        of_row[first] += path
        of_row[row_of[reached]] += path - shortest[reached]
        of_column[reached] += shortest[reached] - path
        while column >= 0:  # Swap along the path.
            previous = int(before[column])
            row_of[column] = first if previous < 0 else row_of[previous]
            column = previous
    return [(int(row), column) for column, row in enumerate(row_of) if row >= 0]
