"""Boxes out of the layouts that detectors are exported in."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limpet.contracts.data import Cut, FloatArray, TensorSpec
from limpet.decoders import detect
from support.stages import decoded, output_spec, window

if TYPE_CHECKING:
    from collections.abc import Sequence

FLOAT = np.dtype(np.float32)
LABELS = ["cat", "dog", "bird"]
PICTURE = [320, 240]
Truth = tuple[str, float, tuple[float, float, float, float]]
CAT: Truth = ("cat", 0.875, (0.25, 0.25, 0.5, 0.75))
DOG: Truth = ("dog", 0.625, (0.5, 0.0, 1.0, 0.5))


def decoder(outputs: Sequence[FloatArray], labels: Sequence[str] = LABELS, **options: Any) -> detect.Detect:
    specs = [TensorSpec(f"out{number}", output.shape, FLOAT) for number, output in enumerate(outputs)]
    return detect.open(detect.Config(**options), output_spec(specs, labels))


def detected(outputs: Sequence[FloatArray], labels: Sequence[str] = LABELS, **options: Any) -> list[Truth]:
    found = decoded(decoder(outputs, labels, **options), outputs)
    return [(one.label, one.score, one.box) for one in found.detections]


def table(layout: str, truths: Sequence[Truth], *, pixels: bool = False, boxes: int = 20) -> FloatArray:
    """Write an output of a YOLO with the truths in its first rows, and 0 in the others."""
    first = 5 if layout == "yolov5" else 4
    made = np.zeros((boxes, 6 if layout == "end2end" else first + len(LABELS)), np.float32)
    for row, (label, score, (left, top, right, bottom)) in zip(made, truths, strict=False):
        sides = [left, top, right, bottom]
        if layout != "end2end":
            sides = [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top]
        row[:4] = np.array(sides) * (PICTURE * 2 if pixels else 1)
        if layout == "end2end":
            row[4:] = score, LABELS.index(label)
        elif layout == "yolov5":
            row[[4, 5 + LABELS.index(label)]] = score, 1
        else:
            row[4 + LABELS.index(label)] = score
    return made[None] if layout != "yolov8" else made.T[None].copy()


def processed(truths: Sequence[Truth], count: float, room: int = 5) -> list[FloatArray]:
    """Write the four outputs of TFLite's post-processing: boxes, classes, scores, count."""
    boxes, classes, scores = (np.zeros((1, room, *more), np.float32) for more in ((4,), (), ()))
    for number, (label, score, (left, top, right, bottom)) in enumerate(truths):
        boxes[0, number] = top, left, bottom, right
        classes[0, number], scores[0, number] = LABELS.index(label), score
    return [boxes, classes, scores, np.array([count], np.float32)]


@pytest.mark.parametrize("pixels", [False, True])
@pytest.mark.parametrize("layout", ["yolov8", "yolov8 rows", "yolov5", "end2end"])
def test_every_layout_is_recognised_by_its_shape_and_gives_the_same_boxes(layout: str, *, pixels: bool) -> None:
    output = table(layout, [DOG, CAT], pixels=pixels)
    assert detected([output], pixels=PICTURE if pixels else []) == [CAT, DOG]


# With three labels a yolov5 has four scores, as many as places: then the boxes come first.
@pytest.mark.parametrize(("layout", "swapped"), [("yolov8", False), ("yolov8", True), ("yolov5", False)])
@pytest.mark.parametrize("across", [False, True])
def test_boxes_and_scores_may_come_apart(layout: str, *, across: bool, swapped: bool) -> None:
    whole = table(layout, [DOG, CAT], pixels=True)
    rows = whole if layout == "yolov5" else whole.transpose(0, 2, 1)
    parts = [part.transpose(0, 2, 1).copy() if across else part for part in (rows[..., :4], rows[..., 4:])]
    assert detected(parts[::-1] if swapped else parts, pixels=PICTURE) == [CAT, DOG]


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [2, 0, 3, 1]], ids=["tensorflow1", "tensorflow2"])
def test_post_processed_boxes_are_read_as_far_as_they_are_counted(order: list[int]) -> None:
    outputs = processed([CAT, DOG, CAT], count=2)
    assert detected([outputs[place] for place in order]) == [CAT, DOG]


@pytest.mark.parametrize(("count", "boxes"), [(math.inf, 2), (-1, 0), (-math.inf, 0), (0, 0), (1.0, 1)])
def test_a_count_that_cannot_be_is_cut_to_what_there_is(count: float, boxes: int) -> None:
    assert len(detected(processed([CAT, DOG], count))) == boxes


def test_logits_become_scores_where_the_model_left_that_out() -> None:
    output = table("yolov5", [CAT, DOG])
    output[0, :2, 4:] = [[2, 4, -9, -9], [-2, -9, 4, -9]]
    output[0, 2:, 4:] = -30
    ((label, score, _),) = detected([output], activation="sigmoid")
    assert label == "cat"
    assert score == pytest.approx(1 / (1 + math.exp(-2)) / (1 + math.exp(-4)), abs=1e-5)


def test_a_box_that_overlaps_a_better_one_of_its_label_is_left_out() -> None:
    beside: Truth = ("cat", 0.75, (0.3, 0.25, 0.55, 0.75))
    other: Truth = ("dog", 0.75, beside[2])
    output = table("yolov8", [beside, other, CAT])
    assert [(label, score) for label, score, _ in detected([output])] == [("cat", 0.875), ("dog", 0.75)]
    assert len(detected([output], overlap=0.7)) == 3
    assert [score for _, score, _ in detected([output], most=1)] == [0.875]


def test_the_threshold_may_be_set_while_it_runs() -> None:
    output = table("yolov8", [CAT, DOG])
    opened = decoder([output], threshold=0.625)
    assert len(decoded(opened, [output]).detections) == 2
    opened.set_threshold(0.626)
    assert [one.label for one in decoded(opened, [output]).detections] == ["cat"]


def test_a_label_that_is_gone_is_counted_as_none() -> None:
    seen, gone = table("yolov8", [CAT, DOG, ("cat", 0.5, (0.6, 0.6, 0.9, 0.9))]), table("yolov8", [DOG])
    opened = decoder([seen])
    assert decoded(opened, [gone]).counts == {"dog": 1}
    assert decoded(opened, [seen]).counts == {"cat": 2, "dog": 1}
    assert decoded(opened, [gone]).counts == {"cat": 0, "dog": 1}


def test_boxes_are_cut_off_at_the_border_and_those_outside_left_out() -> None:
    output = table("end2end", [("cat", 0.9, (-0.5, 0.5, 0.5, 1.5)), ("cat", 0.9, (1.5, 0.5, 2.5, 1.0))])
    assert [box for _, _, box in detected([output])] == [(0.0, 0.5, 0.5, 1.0)]


def test_without_labels_a_class_is_called_by_its_number_and_so_is_one_beyond_them() -> None:
    assert [label for label, _, _ in detected([table("yolov8", [DOG])], [], layout="yolov8")] == ["1"]
    outputs = processed([DOG], count=1)
    outputs[1][0, 0] = 90
    assert [label for label, _, _ in detected(outputs)] == ["90"]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", range(7))
def test_a_box_with_what_is_no_number_is_left_out_or_cut_and_the_others_stay(bad: float, place: int) -> None:
    output = table("yolov8", [CAT, DOG])
    output[0, place, 0] = bad
    with np.errstate(all="ignore"):  # whether numpy warns is the caller's choice
        found = detected([output])
    assert DOG in found
    assert all(math.isfinite(score) for _, score, _ in found)
    assert len(found) <= 2


def test_a_model_gone_wrong_takes_no_longer_than_its_best_boxes() -> None:
    output = np.random.default_rng(0).uniform(0.01, 1, (1, 7, 20_000)).astype(np.float32)
    found = detected([output], threshold=0, overlap=0, most=detect.CANDIDATES)
    assert 0 < len(found) < detect.CANDIDATES


def brute(truths: Sequence[Truth], overlap: float) -> list[Truth]:
    """Leave out by the definition: the best first, each that overlaps none before it."""
    kept: list[Truth] = []
    for one in sorted(truths, key=lambda truth: -truth[1]):
        if all(one[0] != other[0] or shared(one[2], other[2]) <= overlap for other in kept):
            kept.append(one)
    return kept


def shared(a: Sequence[float], b: Sequence[float]) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(width, 0) * max(height, 0)
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


sixteenths = st.integers(0, 15)


@st.composite
def boxes(draw: st.DrawFn) -> Truth:
    left, top = (draw(st.integers(0, 15)) for _ in range(2))
    right, bottom = draw(st.integers(left + 1, 16)), draw(st.integers(top + 1, 16))
    return draw(st.sampled_from(LABELS)), 0.0, (left / 16, top / 16, right / 16, bottom / 16)


@given(st.lists(boxes(), max_size=20), st.sampled_from([0.0, 0.3001, 0.4501, 0.8001, 1.0]))
def test_what_is_left_out_is_what_the_definition_leaves_out(found: list[Truth], overlap: float) -> None:
    scored = [(label, (40 - number) / 40, box) for number, (label, _, box) in enumerate(found)]
    assert detected([table("yolov8", scored)], overlap=overlap) == brute(scored, overlap)


strange = st.sampled_from([math.nan, math.inf, -math.inf, 3e38, 1e-45])
anything = st.lists(st.floats(width=32) | strange, min_size=1)


def test_boxes_of_a_cut_lie_where_they_do_in_the_sources_picture() -> None:
    output = table("yolov8", [CAT])
    found = decoder([output])(window(output, outputs=[output], cut=Cut(0.5, 0.0, 1.0, 0.25))).result
    assert [one.box for one in found.detections] == [(0.625, 0.0625, 0.75, 0.1875)]


@given(anything, st.sampled_from(["yolov5", "yolov8", "end2end", "ssd"]), st.sampled_from(["none", "sigmoid"]))
def test_garbage_gives_boxes_that_are_boxes(values: list[float], layout: str, activation: str) -> None:
    outputs = processed([], 0) if layout == "ssd" else [table(layout, [])]
    for output in outputs:
        output[...] = np.resize(np.array(values, np.float32), output.shape)
    with np.errstate(all="ignore"):
        found = detected(outputs, layout=layout, activation=activation, threshold=-1)
    for _, score, (left, top, right, bottom) in found:
        assert math.isfinite(score)
        assert 0 <= left <= right <= 1
        assert 0 <= top <= bottom <= 1
