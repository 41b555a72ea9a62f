"""Heads of detectors beyond plain tables: anchors, grids, outputs apart; what is measured in pixels."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limpet.contracts.data import Cut, FloatArray, TensorSpec
from limpet.contracts.frame import FrameForm, whole
from limpet.contracts.stage import Spec
from limpet.decoders import detect
from limpet.pictures.view import cut_of
from limpet.transforms import crop, letterbox, resize
from support.stages import decoded, window

if TYPE_CHECKING:
    from collections.abc import Sequence

LABELS = ("cat", "dog", "bird")


def opened(
    shapes: Sequence[tuple[int, ...]],
    labels: Sequence[str] = LABELS,
    picture: tuple[int, int] | None = None,
    types: Sequence[str] = (),
    names: Sequence[str] = (),
    **options: Any,
) -> detect.Detect:
    specs = tuple(
        TensorSpec(names[n] if names else f"out{n}", shape, np.dtype(types[n] if types else "float32"))
        for n, shape in enumerate(shapes)
    )
    spec = Spec(shape=shapes[0], dtype=np.dtype(np.float32), outputs=specs, labels=tuple(labels), picture=picture)
    return detect.open(msgspec.convert(options, detect.Config), spec)


def found(decoder: detect.Detect, *outputs: FloatArray, cut: Cut | None = None) -> list[tuple[Any, ...]]:
    result = decoder(window(outputs[0], outputs=outputs, cut=cut)).result
    return [(one.label, one.score, *one.box) for one in result.detections]


def scored(rows: int, *scores: tuple[int, int, float], classes: int, least: float) -> FloatArray:
    table = np.full((1, rows, classes), least, np.float32)
    for row, kind, score in scores:
        table[0, row, kind] = score
    return table


# MediaPipe's face detector for near faces: 128x128, cells of 8 pixels with two anchors, of 16 with six.
def test_a_face_counts_from_the_middle_of_its_cell() -> None:
    regressors, logits = np.zeros((1, 896, 16), np.float32), np.full((1, 896, 1), -200, np.float32)
    anchor = 512 + (3 * 8 + 5) * 6 + 2  # row 3, column 5 of the 8x8 grid: its middle is at pixel (88, 56)
    regressors[0, anchor, :4] = 8, -8, 32, 16
    logits[0, anchor] = 2
    decoder = opened([(1, 896, 16), (1, 896, 1)], (), (128, 128))
    (face,) = found(decoder, regressors, logits)
    assert face == (
        "face",
        pytest.approx(1 / (1 + math.exp(-2)), abs=1e-5),
        80 / 128,
        40 / 128,
        112 / 128,
        56 / 128,
    )


def test_overlapping_faces_become_their_mean_by_scores() -> None:
    regressors, logits = np.zeros((1, 896, 16), np.float32), np.full((1, 896, 1), -200, np.float32)
    regressors[0, 272, 2:4] = 40
    regressors[0, 273, 2:4] = 48  # of the same cell
    logits[0, 272], logits[0, 273] = 4, 1
    a, b = (1 / (1 + math.exp(-x)) for x in (4, 1))
    decoder = opened([(1, 896, 16), (1, 896, 1)], (), (128, 128))
    ((_, score, left, _, right, _),) = found(decoder, regressors, logits)
    assert score == pytest.approx(a, abs=1e-5)
    assert (right - left) * 128 == pytest.approx((40 * a + 48 * b) / (a + b), abs=2e-3)
    apart = opened([(1, 896, 16), (1, 896, 1)], (), (128, 128), suppression="none")
    assert len(found(apart, regressors, logits)) == 2


@pytest.mark.parametrize(
    ("picture", "boxes", "numbers", "label"),
    [(128, 896, 16, "face"), (192, 2304, 16, "face"), (192, 2016, 18, "palm"), (224, 2254, 12, "person")],
)
def test_mediapipes_detectors_are_known_by_their_sizes(picture: int, boxes: int, numbers: int, label: str) -> None:
    shapes = [(1, boxes, numbers), (1, boxes, 1)]
    regressors, logits = np.zeros(shapes[0], np.float32), np.full(shapes[1], -200, np.float32)
    logits[0, boxes // 2] = 9
    regressors[0, boxes // 2, 2:4] = picture / 4
    ((found_label, *_),) = found(opened(shapes, (), (picture, picture)), regressors, logits)
    assert found_label == label
    with pytest.raises(ValueError, match="no detector of MediaPipe that Limpet knows"):
        opened(shapes, (), (320, 320), layout="mediapipe")


# TensorFlow's SSD for 300x300: 19x19 cells with three anchors, then 10, 5, 3, 2, 1 with six.
SSD = {
    "strides": [16, 32, 64, 128, 256, 512], "aspect_ratios": [1.0, 2.0, 0.5, 3.0, 1 / 3], "reduce_lowest": True,
}  # fmt: skip


@pytest.mark.parametrize("labels", [LABELS, ("???", *LABELS)])
def test_a_single_shot_detector_counts_from_generated_anchors_without_the_background(
    labels: tuple[str, ...],
) -> None:
    boxes = np.zeros((1, 1917, 4), np.float32)
    row = 19 * 19 * 3 + 10 * 10 * 6 + (2 * 5 + 4) * 6  # row 2, column 4 of 5x5, the first of its anchors: a square
    boxes[0, row] = 1, -2, math.log(2) * 5, 0  # y, x, height, width
    scores = scored(1917, (row, 2, 0.75), (row, 0, 0.9), (0, 0, 1.0), classes=4, least=0)
    decoder = opened([(1, 1917, 4), (1, 1917, 4)], labels, (300, 300), anchors=SSD)
    ((label, score, left, top, right, bottom),) = found(decoder, boxes, scores)
    side = 0.2 + 0.75 * 2 / 5  # of the third grid of six
    x, y = (4 + 0.5) / 5 - 0.2 * side, (2 + 0.5) / 5 + 0.1 * side
    assert (label, score) == ("dog", 0.75)
    assert (left, top, right, bottom) == pytest.approx(
        (x - side / 2, y - side, min(x + side / 2, 1), min(y + side, 1)), abs=2e-5
    )


def test_anchors_may_be_stored_one_by_one() -> None:
    anchors = {"boxes": [[0.25, 0.25, 0.5, 0.5], [0.75, 0.5, 0.5, 1.0]], "order": "xywh", "scale": [1, 1, 1, 1]}
    decoder = opened([(1, 2, 3), (1, 2, 4)], anchors=anchors, activation="softmax")
    boxes = np.array([[[0.5, 0, 0, 0], [0, 0, 0, math.log(0.5)]]], np.float32)
    logits = np.log(np.array([[[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]]], np.float32)) + 5
    assert found(decoder, logits, boxes) == [
        ("bird", pytest.approx(0.8, abs=1e-5), 0.5, 0.25, 1.0, 0.75),
        ("cat", pytest.approx(0.7, abs=1e-5), 0.25, 0.0, 0.75, 0.5),
    ]


def test_a_yolox_counts_from_cells_in_pixels() -> None:
    table = np.zeros((1, 84, 8), np.float32)  # 64x64: 8x8, 4x4 and 2x2 cells
    row = 64 + 2 * 4 + 1  # row 2, column 1 of the cells of 16 pixels
    table[0, row] = 0.5, 0.25, math.log(2), math.log(0.5), 0.8, 0, 0.5, 0
    decoder = opened([table.shape], picture=(64, 64), layout="yolox")
    assert found(decoder, table) == [("dog", 0.4, 8 / 64, 32 / 64, 40 / 64, 40 / 64)]


@pytest.mark.parametrize("apart", [True, False])
@pytest.mark.parametrize("first", [True, False])
def test_sides_of_cells_are_the_mean_of_their_logits(*, apart: bool, first: bool) -> None:
    outputs: list[FloatArray] = []
    for cells in (8, 4, 2):  # 64x64 pixels
        grid = np.zeros((1, cells, cells, 64 + 3), np.float32)
        grid[..., 64:] = -9
        if cells == 4:
            grid[0, 2, 1, 64 + 1] = math.log(3)
            for side, away in enumerate((1, 0, 2, 1)):
                grid[0, 2, 1, side * 16 + away] = 60
            grid[0, 2, 1, 16 + 1] = 60  # as likely 0 as 1: the upper side is half a stride away
        grids = [grid[..., :64], grid[..., 64:]] if apart else [grid]
        outputs += [one.transpose(0, 3, 1, 2).copy() if first else one.copy() for one in grids]
    decoder = opened([one.shape for one in outputs], picture=(64, 64), layout="strides")
    (one,) = found(decoder, *outputs)
    assert one == ("dog", 0.75, 8 / 64, 32 / 64, 56 / 64, 56 / 64)


@pytest.mark.parametrize("counted", [True, False])
def test_boxes_scores_and_classes_apart_are_known_by_type_or_name(*, counted: bool) -> None:
    boxes = np.array([[[16, 32, 48, 64], [0, 0, 8, 8]]], np.float32)
    classes, scores = np.array([[1, 2]]), np.array([[0.5, 0.75]], np.float32)
    outputs: list[Any] = [classes, scores, boxes] + [np.array([1.0], np.float32)] * counted
    shapes = [output.shape for output in outputs]
    expected = [("dog", 0.5, 0.25, 0.5, 0.75, 1.0)]
    if not counted:
        expected.insert(0, ("bird", 0.75, 0.0, 0.0, 0.125, 0.125))
    types = ["int64", "float32", "float32", "float32"]
    assert found(opened(shapes, types=types, picture=(64, 64), layout="nms"), *outputs) == expected
    names = ["detection_classes", "detection_scores", "detection_boxes", "num_detections"]
    outputs[0] = classes.astype(np.float32)
    assert found(opened(shapes, names=names, picture=(64, 64), layout="nms"), *outputs) == expected
    with pytest.raises(ValueError, match="names or types of the outputs must say which has the classes"):
        opened(shapes[:3], layout="nms")


def test_the_pixels_are_those_of_the_models_picture_once_boxes_show_that_they_are_no_fractions() -> None:
    table = np.zeros((1, 7, 40), np.float32)
    table[0, :5, 0] = 32, 16, 32, 16, 0.5
    table[0, :5, 1] = 1, 1, 2, 2, 0.4  # alone it could be a fraction
    decoder = opened([table.shape], picture=(64, 32))
    assert found(decoder, table) == [("cat", 0.5, 0.25, 0.25, 0.75, 0.75), ("cat", 0.4, 0, 0, 2 / 64, 2 / 32)]
    table[0, :, 0] = 0
    assert found(decoder, table) == [("cat", 0.4, 0, 0, 2 / 64, 2 / 32)]
    table[0, :5, 1] = 0.5, 0.5, 0.5, 0.5, 0.4
    assert found(opened([table.shape], picture=(64, 32)), table) == [("cat", 0.4, 0.25, 0.25, 0.75, 0.75)]


def test_boxes_of_different_labels_may_suppress_each_other() -> None:
    table = np.zeros((1, 7, 40), np.float32)
    table[0, :6, 0] = 0.5, 0.5, 0.5, 0.5, 0.9, 0
    table[0, :6, 1] = 0.5, 0.5, 0.5, 0.4, 0, 0.8
    assert [one[0] for one in found(opened([table.shape]), table)] == ["cat", "dog"]
    assert [one[0] for one in found(opened([table.shape], suppression="all"), table)] == ["cat"]


@pytest.mark.parametrize(
    ("shape", "labels", "picture", "message"),
    [
        ((1, 84, 8), LABELS, (64, 64), 'Set layout to "yolox" or "yolov5"'),
        ((1, 300, 6), ("a", "b"), (640, 640), 'Set layout to "end2end" or "yolov8"'),
        ((1, 300, 6), ("a",), (640, 640), 'Set layout to "end2end" or "yolov5"'),
    ],
)
def test_what_may_be_two_layouts_is_refused(
    shape: tuple[int, ...], labels: tuple[str, ...], picture: tuple[int, int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        opened([shape], labels, picture)


@pytest.mark.parametrize(
    ("shapes", "options", "message"),
    [
        ([(1, 84, 8)], {"layout": "yolox"}, "size of the model's picture"),
        ([(1, 83, 8)], {"layout": "yolox", "pixels": [64, 64]}, "84 boxes for a picture of 64x64"),
        ([(1, 84, 8)], {"layout": "anchors"}, "needs the table anchors|needs anchors"),
        ([(1, 9, 4), (1, 9, 3)], {"anchors": {}}, "anchors needs strides, or boxes"),
        ([(1, 9, 4), (1, 9, 3)], {"anchors": {"strides": [8]}}, "size of the model's picture"),
        ([(1, 9, 4), (1, 9, 3)], {"anchors": {"strides": [8]}, "pixels": [64, 64]}, "make 128 anchors"),
        ([(1, 9, 4), (1, 9, 3)], {"anchors": {"strides": [1]}, "pixels": [10**6, 10**6]}, "more than 100000"),
        ([(1, 8, 4), (1, 8, 9)], {"anchors": {"strides": [32]}, "pixels": [64, 64]}, "no boxes .4 numbers each"),
        ([(1, 9, 4)], {"layout": "nms"}, "four outputs"),
        ([(1, 8, 8, 67)], {"layout": "strides"}, "size of the model's picture"),
        ([(1, 8, 8, 67)], {"layout": "strides", "pixels": [64, 64]}, "64 numbers for the sides and 3 scores"),
    ],
)
def test_outputs_that_do_not_fit_their_layout_are_refused(
    shapes: list[tuple[int, ...]], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        opened(shapes, **options)


sides = st.integers(1, 63)


@given(st.tuples(sides, sides, sides, sides), st.integers(16, 500), st.integers(16, 500))
def test_a_box_seen_through_a_letterbox_is_where_it_was(
    box: tuple[int, int, int, int], across: int, down: int
) -> None:
    left, top, width, height = box
    truth = np.array([left / 64, top / 64, min(left + width, 64) / 64, min(top + height, 64) / 64])
    scale = 64 / max(across, down)  # the picture, scaled, lies in the middle of 64x64
    x, y = (64 - across * scale) / 2, (64 - down * scale) / 2
    cut = Cut(-x / (across * scale), -y / (down * scale), 1 + x / (across * scale), 1 + y / (down * scale))
    seen = truth * ([across * scale, down * scale] * 2)
    row = np.array([*(seen + [x, y] * 2), 0.5, 1], np.float32).reshape(1, 1, 6)
    table = np.concatenate([row, np.zeros((1, 3, 6), np.float32)], axis=1)
    decoder = opened([table.shape], pixels=[64, 64])
    ((*_, a, b, c, d),) = found(decoder, table, cut=cut)
    assert (np.abs(np.array([a, b, c, d]) - truth) * ([across, down] * 2)).max() < 0.1


def test_a_box_in_the_border_of_a_letterbox_is_left_out_and_one_that_reaches_into_it_cut() -> None:
    table = np.zeros((1, 4, 6), np.float32)
    table[0, 0] = 0.25, 0, 0.75, 0.2, 0.9, 0  # the upper quarter is border
    table[0, 1] = 0.25, 0, 0.75, 0.5, 0.8, 1
    decoder = opened([table.shape])
    assert found(decoder, table, cut=Cut(0, -0.5, 1, 1.5)) == [("dog", 0.8, 0.25, 0.0, 0.75, 0.5)]


numbers = st.lists(st.floats(width=32) | st.sampled_from([math.nan, math.inf, -math.inf, 3e38]), min_size=1)


@given(numbers, st.sampled_from(["mediapipe", "anchors", "yolox", "nms"]), st.sampled_from(["class", "weighted"]))
def test_garbage_gives_boxes_that_are_boxes(values: list[float], layout: str, suppression: str) -> None:
    shapes: dict[str, list[tuple[int, ...]]] = {
        "mediapipe": [(1, 896, 16), (1, 896, 1)],
        "anchors": [(1, 8, 4), (1, 8, 3)],
        "yolox": [(1, 84, 8)],
        "nms": [(1, 9, 4), (1, 9), (1, 9), (1,)],
    }
    options: dict[str, Any] = (
        {"anchors": {"strides": [64], "aspect_ratios": [1] * 7}} if layout == "anchors" else {}
    )
    names = ["boxes", "classes", "scores", "count"] if layout == "nms" else []
    labels = ("face",) if layout == "mediapipe" else LABELS
    side = 128 if layout == "mediapipe" else 64
    decoder = opened(
        shapes[layout], labels, (side, side), names=names, layout=layout, suppression=suppression, threshold=-1,
        **options,
    )  # fmt: skip
    outputs = [np.resize(np.array(values, np.float32), shape) for shape in shapes[layout]]
    with np.errstate(all="ignore"):
        result = decoded(decoder, outputs)
    assert len(result.detections) <= 100
    for one in result.detections:
        left, top, right, bottom = one.box
        assert math.isfinite(one.score)
        assert 0 <= left <= right <= 1
        assert 0 <= top <= bottom <= 1


FACES = msgspec.json.decode((Path(__file__).parents[1] / "data" / "cases" / "mediapipe-faces.json").read_bytes())


@pytest.mark.parametrize("size", [128, 192])
def test_a_face_is_where_mediapipe_has_it(size: int) -> None:
    case = FACES[str(size)]
    regressors = np.zeros((1, case["boxes_of"], 16), np.float32)
    logits = np.full((1, case["boxes_of"], 1), -100, np.float32)
    regressors[0, case["rows"]], logits[0, case["rows"], 0] = case["boxes"], case["logits"]
    decoder = opened([regressors.shape, logits.shape], (), (size, size))
    ((label, score, *box),) = found(decoder, regressors, logits)
    assert label == "face"
    assert score == pytest.approx(case["score"], abs=2e-5)
    assert box == pytest.approx(case["box"], abs=2e-5)


@given(
    st.tuples(sides, sides, sides, sides),
    st.tuples(st.integers(8, 900), st.integers(8, 900)),
    st.sampled_from(["letterbox", "resize", "top_left", "crop"]),
)
def test_boxes_are_mapped_back_through_what_was_developed(
    box: tuple[int, int, int, int], size: tuple[int, int], how: str
) -> None:
    """The truth is in pixels of the source's picture, and the model sees it where ``View`` puts these pixels."""
    width, height = size
    form = FrameForm(width, height, "rgb24")
    view = whole(form)
    if how == "crop":
        cut = crop.view(crop.Config(width=max(width // 2, 1), height=max(height // 2, 1)), view)
        assert cut is not None
        view = cut
    if how == "resize":
        seen = resize.view(resize.Config(width=96, height=64), view)
    else:
        align = "top_left" if how == "top_left" else "centre"
        seen = letterbox.view(letterbox.Config(width=96, height=64, align=align), view)
    assert seen is not None
    part = seen.part
    left, top = part.left + part.width * box[0] / 64, part.top + part.height * box[1] / 64
    right = part.left + part.width * min(box[0] + box[2], 64) / 64
    bottom = part.top + part.height * min(box[1] + box[3], 64) / 64
    across, down = seen.width / part.width, seen.height / part.height
    row = [
        seen.border[0] + (left - part.left) * across,
        seen.border[1] + (top - part.top) * down,
        seen.border[0] + (right - part.left) * across,
        seen.border[1] + (bottom - part.top) * down,
    ]
    table = np.zeros((1, 4, 6), np.float32)
    table[0, 0] = [*row, 0.5, 1]
    decoder = opened([table.shape], pixels=[96, 64])
    ((*_, a, b, c, d),) = found(decoder, table, cut=cut_of(seen, form))
    truth = np.array([left, top, right, bottom])
    assert np.abs(np.array([a * width, b * height, c * width, d * height]) - truth).max() < 0.1  # pixels
