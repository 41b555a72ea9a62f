"""MoveNet Lightning. The reference is TensorFlow: its maker's graph, and ``tf.image.resize_with_pad`` before it.

The maker's tutorial prepares pictures so. The graph is the one of TensorFlow Hub, in its form for TensorFlow.js.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from models import comparing
from models.entry import Model

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from models.photographs import Case

SIDE = 192
SEEN = 0.3
"""Score from which the maker's tutorial shows a point."""
POINTS = (
    *("nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow"),
    *("right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee"),
    *("left_ankle", "right_ankle"),
)

MODEL = Model(
    name="movenet_lightning",
    recipe="movenet-lightning",
    film=("astronaut.png", "grace_hopper.jpg"),
    any_tolerance=0.4,
    maker="converters",
    tolerance=0.02,
    why="distance of points as fractions of the picture, of those that score .3 or more, and scores. The maker's "
    "graph cuts off the fractions of pixels, so that noise of 0.0001 before that moves scores by up to 0.07: the "
    "resize must be TensorFlow's to the last bit",
)


def cases(folder: Path) -> list[Case]:
    from models import photographs

    variants = ["plain", "mirrored", "dark", "bright", "cut", "smaller", "jpeg"]
    return photographs.cases(folder, ["astronaut.png", "camera.png", "grace_hopper.jpg"], variants)


def prepare(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    import cv2

    height, width = picture.shape[:2]
    scale = SIDE / max(height, width)
    small = cv2.resize(picture, (round(width * scale), round(height * scale)))
    found = np.zeros((1, SIDE, SIDE, 3), np.float32)
    top, left = (SIDE - small.shape[0]) // 2, (SIDE - small.shape[1]) // 2
    found[0, top : top + small.shape[0], left : left + small.shape[1]] = small
    return found


def answers(model: str, pictures: Sequence[NDArray[np.uint8]]) -> list[Any]:
    import tensorflow as tf

    from limpet_convert import recipes
    from limpet_convert.recipe_files import fetch
    from limpet_convert.recipes import movenet_lightning

    del model
    run = movenet_lightning.original(fetch(recipes.find("movenet-lightning").origin))
    found = []
    for picture in pictures:
        height, width = picture.shape[:2]
        padded = tf.cast(tf.image.resize_with_pad(picture[None], SIDE, SIDE), tf.int32)
        side = max(height, width)
        points = []
        for name, (y, x, score) in zip(POINTS, run(padded)[0].numpy()[0, 0], strict=True):
            # From the padded square to the picture.
            across = (float(x) - 0.5) * side / width + 0.5
            down = (float(y) - 0.5) * side / height + 0.5
            points.append({"name": name, "x": across, "y": down, "score": float(score)})
        found.append(points)
    return found


def difference(output: Any, answer: Any) -> float:
    if len(output["poses"]) != 1:
        return float("inf")
    found = output["poses"][0]["points"]
    scores = max(abs(one["score"] - other["score"]) for one, other in zip(found, answer, strict=True))
    return max(comparing.points(found, answer, SEEN), scores)


def right(output: Any, case: Case) -> bool:
    """Return whether each point is within a twelfth of the picture of where it is."""
    if len(output["poses"]) != 1:
        return False
    found = {one["name"]: one for one in output["poses"][0]["points"]}
    known = [(found[name], place) for name, place in case.truth.points.items() if name in found]
    return all(np.hypot(one["x"] - x, one["y"] - y) < 1 / 12 for one, (x, y) in known)
