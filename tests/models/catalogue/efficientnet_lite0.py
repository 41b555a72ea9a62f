"""EfficientNet-Lite0, int8. The reference is the code that its package carries: OpenCV's resize, then LiteRT.

The code of the package puts pixels into the quantized input as they are. But the input's scale is 0.012566 and its
zero point 131: the maker's models take (x - 127) / 128, so pixels must be normalised and quantized first.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any

import numpy as np

from models.entry import Model

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from models.photographs import Case

SCALE, ZERO = 0.012566016986966133, 131

MODEL = Model(
    name="efficientnet_lite0",
    recipe="efficientnet-lite0",
    maker="converters",
    tolerance=0.02,
    why="score of the best class; int8 outputs have steps of 0.004",
    right_because="right in 74.4 % of ImageNet's pictures, its maker says; that it is right in fewer than 3 of 6 "
    "photographs would then have a probability of 4 %",
)


def cases(folder: Path) -> list[Case]:
    from models import photographs

    names = [name for name, truth in photographs.TRUTHS.items() if truth.classes]
    return photographs.cases(folder, names, ["plain", "mirrored", "dark", "bright", "smaller", "jpeg"])


def prepare(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    import cv2

    pixels = (cv2.resize(picture, (224, 224)).astype(np.float32) - 127) / 128
    return np.clip(np.rint(pixels / SCALE) + ZERO, 0, 255).astype(np.uint8)[None]


def answers(model: str, pictures: Sequence[NDArray[np.uint8]]) -> list[Any]:
    import zipfile

    from models import maker

    with zipfile.ZipFile(model) as file:
        labels = file.read(file.namelist()[0]).decode().splitlines()
    found = []
    for (scores,) in maker.run(model, map(prepare, pictures)):
        best = int(scores[0].argmax())
        found.append({"label": labels[best], "score": float(scores[0, best]) / 256})
    return found


def difference(output: Any, answer: Any) -> float:
    same = output["label"] == answer["label"]
    return abs(output["score"] - answer["score"]) if same else inf


def right(output: Any, case: Case) -> bool:
    return output["label"] in case.truth.classes
