"""Which decoder suits a bare model, by the shapes of its inputs and outputs and its number of labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

_MEDIAPIPE = {(896, 16), (2304, 16), (2016, 18), (2254, 12)}
"""Boxes, and numbers of each, of the detectors of MediaPipe: faces near and far, palms, persons."""
_LANDMARKS = {195, 63, 1404}
"""Numbers of MediaPipe's landmarks of a body, a hand and a face."""
_PERSON = (17, 3)
"""Points of MoveNet and numbers of each."""
_SMALLEST_MASK = 16
"""Pixels of a side: less is no mask."""


def usual_decoder(
    inputs: Sequence[Sequence[int]], outputs: Sequence[Sequence[int]], labels: int
) -> dict[str, Any]:
    """Return the decoder of a model with inputs and outputs of these shapes, nothing if they do not show it.

    A decoder refuses what it cannot read in any case. A model with labels and no other shapes classifies.
    """
    picture = len(inputs) == 1 and len(inputs[0]) == 4
    sizes = [tuple(shape[1:]) for shape in outputs]
    if picture:
        if _finds_points(sizes):
            return {"kind": "keypoints"}
        if _finds_boxes(sizes, labels):
            return {"kind": "detect"}
        if _finds_areas(sizes, labels):
            return {"kind": "segment"}
    elif labels and len(outputs) == 4:
        return {"kind": "detect"}
    return {"kind": "classify"} if labels else {}


def _finds_boxes(sizes: Sequence[tuple[int, ...]], labels: int) -> bool:
    """Whether outputs are four of TFLite's post-processing, of a MediaPipe detector, or a YOLO's table."""
    if len(sizes) == 2 and sorted(map(len, sizes)) == [2, 2]:
        boxes, scores = sorted(sizes, key=lambda size: -size[1])
        if boxes in _MEDIAPIPE and scores == (boxes[0], 1):
            return True
    if labels and len(sizes) == 4:
        return True
    return (
        bool(labels) and len(sizes) == 1 and len(sizes[0]) == 2 and bool({labels + 4, labels + 5, 6} & {*sizes[0]})
    )


def _finds_points(sizes: Sequence[tuple[int, ...]]) -> bool:
    """Whether outputs are those of MoveNet for one person, or landmarks and their score."""
    if len(sizes) == 1:
        return sizes[0][-2:] == _PERSON
    flat = [size[-1] for size in sizes if size and all(side == 1 for side in size[:-1])]
    return bool(_LANDMARKS & set(flat)) and 1 in flat


def _finds_areas(sizes: Sequence[tuple[int, ...]], labels: int) -> bool:
    """Whether the only output is a mask: a probability for each pixel, or a score for each label."""
    if len(sizes) != 1 or len(sizes[0]) != 3 or min(sizes[0][:2]) < _SMALLEST_MASK:
        return False
    return sizes[0][2] in {1, labels}
