"""A YOLO that ``converters/examples/yolo`` trains in PyTorch. The reference is PyTorch, and YOLO's usual NMS.

The bundle is int8 in most layers, and the reference is float: scores differ by a few hundredths. So a digit counts
as found by one alone only if its score is clearly above the threshold.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from models import comparing
from models.entry import Model

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from models.photographs import Case

BUILD = Path(__file__).parents[3] / "converters/examples/yolo/build"
COUNT = 40
"""Pictures, of those that were held back in training."""
THRESHOLD, OVERLAP, SURE = 0.4, 0.45, 0.55

MODEL = Model(
    name="yolo_digits",
    project="yolo",
    maker="converters",
    tolerance=0.03,
    why="corners as fractions of the picture, of digits that score .55 or more; int8 beside float",
)


def cases(folder: Path) -> list[Case]:
    import json

    from PIL import Image

    from models.photographs import Case, Truth

    folder.mkdir(parents=True, exist_ok=True)
    pictures = np.load(BUILD / "test.npy")[:COUNT]
    lines = (BUILD / "targets.jsonl").read_text(encoding="utf-8").splitlines()[:COUNT]
    found = []
    for number, (picture, line) in enumerate(zip(pictures, lines, strict=True)):
        path = folder / f"{number:03}.png"
        Image.fromarray(picture).save(path)
        boxes = {f"{index} {one['label']}": tuple(one["box"]) for index, one in enumerate(json.loads(line))}
        found.append(Case(path, Truth(frozenset(), boxes, {})))
    return found


def prepare(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    return picture.astype(np.float32)[None] / np.float32(255)


def answers(model: str, pictures: Sequence[NDArray[np.uint8]]) -> list[Any]:
    import torch

    del model
    network = torch.export.load(BUILD / "model.pt2").module(check_guards=False)
    found = []
    for picture in pictures:
        with torch.no_grad():
            rows = network(torch.from_numpy(prepare(picture)).permute(0, 3, 1, 2))[0].numpy().T
        found.append(_apart(rows))
    return found


def _apart(rows: Any) -> list[Any]:
    """Return what is above the threshold, without what overlaps something better of the same label."""
    kept: list[Any] = []
    best = rows[:, 4:].max(axis=1)
    for place in np.argsort(-best, kind="stable"):
        if best[place] < THRESHOLD:
            break
        x, y, width, height = rows[place, :4].tolist()
        box = [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
        label = str(rows[place, 4:].argmax())
        if all(one["label"] != label or comparing.overlap(one["box"], box) <= OVERLAP for one in kept):
            kept.append({"label": label, "score": float(best[place]), "box": box})
    return kept


def difference(output: Any, answer: Any) -> float:
    return comparing.sure(output["detections"], answer, SURE)


def right(output: Any, case: Case) -> bool:
    """Return whether each digit is found where it is, and none besides."""
    found = output["detections"]
    boxes = [(name.partition(" ")[2], box) for name, box in case.truth.boxes.items()]
    return len(found) == len(boxes) and all(comparing.has(found, label, box) for label, box in boxes)
