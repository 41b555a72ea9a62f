"""MediaPipe's face detection for short range. The reference is MediaPipe's own solution."""

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

SIDE = 128
THRESHOLD, SURE = 0.5, 0.6

MODEL = Model(
    name="face_detection",
    recipe="face-detection",
    film=("astronaut.png", "grace_hopper.jpg"),
    any_tolerance=0.1,
    maker="mediapipe",
    tolerance=0.05,
    why="corners as fractions of the picture, of what scores .6 or more, and half of the difference of scores. "
    "MediaPipe takes pixels at the corners of a grid: they are the same if the longer side is a multiple of 128 "
    "and the border is whole, and interpolated otherwise",
    least_right=8 / 9,
    right_because="average precision of 98.6 %, its maker says; that it is right in fewer than 8 of 9 photographs "
    "would then have a probability of 1 %",
)


def cases(folder: Path) -> list[Case]:
    from models import photographs

    return photographs.cases(folder, list(photographs.TRUTHS), ["plain", "mirrored", "dark", "bright", "smaller"])


def prepare(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    import cv2

    height, width = picture.shape[:2]
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    square = cv2.copyMakeBorder(
        picture, top, side - height - top, left, side - width - left, cv2.BORDER_CONSTANT, value=(0, 0, 0)
    )
    return (cv2.resize(square, (SIDE, SIDE), interpolation=cv2.INTER_NEAREST).astype(np.float32) / 127.5 - 1)[None]


def answers(model: str, pictures: Sequence[NDArray[np.uint8]]) -> list[Any]:
    import mediapipe

    del model  # MediaPipe has its own copy, with the same hash: see the recipe.
    found = []
    with mediapipe.solutions.face_detection.FaceDetection(
        model_selection=0, min_detection_confidence=0.5
    ) as detector:
        for picture in pictures:
            faces = detector.process(np.ascontiguousarray(picture)).detections or []
            found.append([_face(one) for one in faces])
    return found


def _face(one: Any) -> dict[str, Any]:
    box = one.location_data.relative_bounding_box
    corners = [box.xmin, box.ymin, box.xmin + box.width, box.ymin + box.height]
    return {"label": "face", "score": one.score[0], "box": corners}


def difference(output: Any, answer: Any) -> float:
    found = output["detections"]
    return max(comparing.sure(found, answer, SURE), comparing.scores(found, answer, THRESHOLD) / 2)


def right(output: Any, case: Case) -> bool:
    truth = case.truth.boxes.get("face")
    if truth is None:
        return not output["detections"]
    return len(output["detections"]) == 1 and comparing.has(output["detections"], "face", truth, 0.4)
