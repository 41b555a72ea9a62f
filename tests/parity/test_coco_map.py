"""Average precision against COCO's own evaluation, pycocotools, on pictures drawn at random."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from limpet_convert import detections
from limpet_convert.detections import Boxes

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import NDArray

coco: Any = pytest.importorskip("pycocotools.coco", reason="needs the environment of `make parity`")
cocoeval: Any = pytest.importorskip("pycocotools.cocoeval", reason="needs the environment of `make parity`")

LABELS = ["cat", "dog", "bird"]
SIDE = 1000
"""Pixels of a side of a picture for pycocotools. Limpet's boxes are fractions of the picture."""
MEAN, AT_50 = 0, 1
"""Which of COCO's figures is the mean over overlaps, and which is at .5."""


def corners(chance: Generator, count: int) -> NDArray[np.float64]:
    begin = chance.uniform(0, 0.7, (count, 2))
    return np.hstack([begin, begin + chance.uniform(0.05, 0.3, (count, 2))])


def picture(chance: Generator) -> Boxes:
    """Draw up to eight objects."""
    count = int(chance.integers(0, 9))
    return Boxes(corners(chance, count), chance.integers(0, len(LABELS), count), np.ones(count))


def found_in(chance: Generator, true: Boxes) -> Boxes:
    """Find most objects, some twice or with a wrong label, and others that are not there. Scores repeat."""
    again = np.repeat(np.arange(len(true.kinds)), chance.integers(0, 3, len(true.kinds)))
    strays = int(chance.integers(0, 4))
    moved = true.corners[again] + chance.normal(0, 0.02, (len(again), 4))
    moved[:, 2:] = np.maximum(moved[:, 2:], moved[:, :2] + 0.01)
    kinds = np.where(
        chance.random(len(again)) < 0.8, true.kinds[again], chance.integers(0, len(LABELS), len(again))
    )
    where = np.vstack([moved, corners(chance, strays)])
    scores = np.sort(chance.integers(1, 20, len(where)) / 20)[::-1]
    return Boxes(where, np.concatenate([kinds, chance.integers(0, len(LABELS), strays)]), scores)


def annotations(pictures: list[Boxes]) -> list[dict[str, Any]]:
    rows = []
    for number, boxes in enumerate(pictures):
        for (left, top, right, bottom), kind, score in zip(
            boxes.corners * SIDE, boxes.kinds, boxes.scores, strict=True
        ):
            box = [left, top, right - left, bottom - top]
            more = {"score": float(score), "iscrowd": 0, "area": box[2] * box[3]}
            rows.append({"id": len(rows) + 1, "image_id": number, "category_id": int(kind), "bbox": box, **more})
    return rows


def by_coco(found: list[Boxes], true: list[Boxes], kinds: list[int]) -> Any:
    """Return COCO's figures over these labels."""
    truth = coco.COCO()
    truth.dataset = {
        "images": [{"id": number, "width": SIDE, "height": SIDE} for number in range(len(true))],
        "categories": [{"id": kind, "name": label} for kind, label in enumerate(LABELS)],
        "annotations": annotations(true),
    }
    truth.createIndex()
    evaluation = cocoeval.COCOeval(truth, truth.loadRes(annotations(found)), "bbox")
    evaluation.params.catIds = kinds
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation.stats


@pytest.mark.parametrize("seed", range(30))
def test_average_precision_is_cocos(seed: int) -> None:
    chance = np.random.default_rng(seed)
    true = [picture(chance) for _ in range(int(chance.integers(1, 30)))]
    found = [found_in(chance, one) for one in true]
    ours = detections.metrics(found, found, true, LABELS)
    all_labels = by_coco(found, true, list(range(len(LABELS))))
    assert ours["map"] == pytest.approx(all_labels[MEAN], abs=1e-12)
    assert ours["map50"] == pytest.approx(all_labels[AT_50], abs=1e-12)
    for kind, label in enumerate(LABELS):
        if ours["classes"][label]["count"]:
            one_label = by_coco(found, true, [kind])
            assert ours["classes"][label]["ap"] == pytest.approx(one_label[MEAN], abs=1e-12)
            assert ours["classes"][label]["ap50"] == pytest.approx(one_label[AT_50], abs=1e-12)
