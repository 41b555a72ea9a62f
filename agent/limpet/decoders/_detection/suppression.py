"""Which of several boxes around one object to keep."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from limpet.decoders._detection.boxes import CANDIDATES, Boxes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from limpet.contracts.data import FloatArray

Suppression: TypeAlias = Literal["class", "all", "weighted", "none"]


def suppressed(found: Boxes, how: Suppression, overlap: float, most: int) -> Boxes:
    """Return at most ``most`` of the boxes, best first, that do not overlap by more than ``overlap``."""
    found = _best(found)
    if how == "none":
        return found.take(list(range(min(most, len(found.scores)))))
    if how == "weighted":
        return _blended(found, overlap, most)
    return found.take(_apart(found, overlap, most, apart_by_class=how == "class"))


def _best(found: Boxes) -> Boxes:
    """Return the best ``CANDIDATES``, best first, of equals the first."""
    return found.take((-found.scores).argsort(kind="stable")[:CANDIDATES])


def _apart(found: Boxes, overlap: float, most: int, *, apart_by_class: bool) -> list[int]:
    """Return which boxes to keep: greedy, from the best on."""
    kept: list[int] = []
    left = np.arange(len(found.scores))
    while len(left) and len(kept) < most:
        best, left = left[0], left[1:]
        kept.append(int(best))
        apart = ~_overlapping(found.corners, best, left, overlap)
        if apart_by_class:
            apart |= found.classes[left] != found.classes[best]
        left = left[apart]
    return kept


def _blended(found: Boxes, overlap: float, most: int) -> Boxes:
    """Return the best boxes, each the mean of itself and those of its class that overlap it, by their scores.

    So MediaPipe does, with what else there is of a box, too.
    """
    kept: list[int] = []
    corners, extras = found.corners.copy(), found.extras.copy()
    left = np.arange(len(found.scores))
    while len(left) and len(kept) < most:
        best = left[0]
        kept.append(int(best))
        same = _overlapping(found.corners, best, left, overlap) & (found.classes[left] == found.classes[best])
        same[0] = True
        group = left[same]
        shares = found.scores[group] / found.scores[group].sum()
        if np.isfinite(shares).all():
            corners[best] = shares @ found.corners[group]
            extras[best] = shares @ found.extras[group]
        left = left[~same]
    return found._replace(corners=corners, extras=extras).take(kept)


def _overlapping(corners: FloatArray, best: int, others: NDArray[np.intp], overlap: float) -> NDArray[np.bool_]:
    """Return which of the others share more than ``overlap`` (intersection over union) with the best."""
    sizes = (corners[others, 2:] - corners[others, :2]).prod(axis=1)
    inner = np.minimum(corners[best, 2:], corners[others, 2:])
    inner -= np.maximum(corners[best, :2], corners[others, :2])
    both = inner.clip(0).prod(axis=1)
    own = (corners[best, 2:] - corners[best, :2]).prod()
    return np.asarray(both > overlap * (own + sizes - both), np.bool_)
