"""MediaPipe's selfie segmentation. The reference is MediaPipe's own solution."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from models.entry import Model

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from models.photographs import Case

SIDE = 256

MODEL = Model(
    name="selfie_segmentation",
    recipe="selfie-segmentation",
    maker="mediapipe",
    tolerance=0.05,
    why="one minus the intersection over union of the masks; MediaPipe scales its mask to the picture and back",
)


def cases(folder: Path) -> list[Case]:
    from models import photographs

    variants = ["plain", "mirrored", "dark", "bright", "cut", "smaller", "jpeg"]
    return photographs.cases(folder, ["astronaut.png", "camera.png", "grace_hopper.jpg"], variants)


def prepare(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    import cv2

    return cv2.resize(picture, (SIDE, SIDE)).astype(np.float32)[None] / np.float32(255)


def answers(model: str, pictures: Sequence[NDArray[np.uint8]]) -> list[Any]:
    import cv2
    import mediapipe

    del model  # MediaPipe has its own copy, with the same hash: see the recipe.
    found = []
    for picture in pictures:
        with mediapipe.solutions.selfie_segmentation.SelfieSegmentation(model_selection=0) as segmenter:
            mask = segmenter.process(np.ascontiguousarray(picture)).segmentation_mask
        found.append((cv2.resize(mask, (SIDE, SIDE)) >= 0.5).astype(int).tolist())
    return found


def _mask(output: Any) -> NDArray[np.bool_]:
    """Return the mask of a result: run lengths go down the columns, and begin with zeros."""
    regions = [one for one in output["regions"] if one["label"] == "person"]
    if not regions:
        return np.zeros((SIDE, SIDE), bool)
    (region,) = regions
    counts = region["rle"]["counts"]
    flat = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    height, width = region["rle"]["size"]
    return flat.reshape(width, height).T


def difference(output: Any, answer: Any) -> float:
    ours, theirs = _mask(output), np.array(answer, bool)
    return float(1 - (ours & theirs).sum() / max((ours | theirs).sum(), 1))


def right(output: Any, case: Case) -> bool:
    """Return whether nose and body are a person's, and the background is not."""
    mask = _mask(output)
    seen = {}
    for name in ("nose", "body", "background"):
        x, y = case.truth.points[name]
        seen[name] = bool(mask[min(int(y * SIDE), SIDE - 1), min(int(x * SIDE), SIDE - 1)])
    return seen == {"nose": True, "body": True, "background": False}
