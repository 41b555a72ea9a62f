"""Named points out of the layouts that pose models are exported in."""

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
from limpet.contracts.outputs import Keypoints
from limpet.contracts.stage import Spec
from limpet.decoders import keypoints
from support.stages import window

if TYPE_CHECKING:
    from collections.abc import Sequence

FACES = msgspec.json.decode((Path(__file__).parents[1] / "data" / "cases" / "mediapipe-faces.json").read_bytes())


def opened(
    shapes: Sequence[tuple[int, ...]], picture: tuple[int, int] | None = None, labels: tuple[str, ...] = (),
    **options: Any,
) -> keypoints.FindKeypoints:  # fmt: skip
    outputs = tuple(TensorSpec(f"out{n}", shape, np.dtype(np.float32)) for n, shape in enumerate(shapes))
    spec = Spec(shape=shapes[0], dtype=np.dtype(np.float32), outputs=outputs, labels=labels, picture=picture)
    return keypoints.open(msgspec.convert(options, keypoints.Config), spec)


def found(decoder: keypoints.FindKeypoints, *outputs: FloatArray, cut: Cut | None = None) -> Keypoints:
    result = decoder(window(outputs[0], outputs=outputs, cut=cut)).result
    assert isinstance(result, Keypoints)
    return result


# x, y and score of 17 points, between 0.25 and 0.75 of the picture
POINTS = np.stack([np.linspace(0.25, 0.75, 17), np.linspace(0.75, 0.25, 17), np.linspace(0.5, 0.9, 17)], axis=1)


def is_person(result: Keypoints, score: float, tolerance: float = 1e-5) -> None:
    (pose,) = result.poses
    assert (pose.label, result.counts) == ("person", {"person": 1})
    assert pose.score == pytest.approx(score, abs=tolerance)
    assert pose.box == pytest.approx((0.25, 0.25, 0.75, 0.75), abs=tolerance)
    assert [(point.x, point.y, point.score) for point in pose.points] == [
        pytest.approx(tuple(row), abs=tolerance) for row in POINTS
    ]
    assert pose.points[0].name == "nose"
    named = {(pose.points[a].name, pose.points[b].name) for a, b in result.skeleton}
    assert {("left_shoulder", "right_shoulder"), ("left_knee", "left_ankle")} <= named


def test_movenet_gives_one_person() -> None:
    output = POINTS[:, [1, 0, 2]].reshape(1, 1, 17, 3).astype(np.float32)
    is_person(found(opened([output.shape]), output), 0.7)
    assert found(opened([output.shape], threshold=0.71), output) == Keypoints(
        [], {}, found(opened([output.shape]), output).skeleton
    )


def test_movenet_multi_gives_those_that_score_enough() -> None:
    output = np.zeros((1, 6, 56), np.float32)
    output[0, 3] = [*POINTS[:, [1, 0, 2]].ravel(), 0.25, 0.25, 0.75, 0.75, 0.6]
    is_person(found(opened([output.shape]), output), 0.6)


@pytest.mark.parametrize("across", [True, False])
def test_a_yolo_has_points_behind_its_score_in_pixels(*, across: bool) -> None:
    rows = np.zeros((1, 84, 56), np.float32)
    points = POINTS * [64, 32, 1]
    rows[0, 7] = [32, 16, 32, 16, 0.8, *points.ravel()]
    rows[0, 8] = [33, 16, 32, 16, 0.7, *points.ravel()]  # the same person
    output = rows.transpose(0, 2, 1).copy() if across else rows
    is_person(found(opened([output.shape], (64, 32)), output), 0.8)


def test_an_end_to_end_yolo_has_points_behind_its_class() -> None:
    rows = np.zeros((1, 300, 57), np.float32)
    rows[0, 0] = [16, 8, 48, 24, 0.8, 0, *(POINTS * [64, 32, 1]).ravel()]
    is_person(found(opened([rows.shape], (64, 32)), rows), 0.8)


@pytest.mark.parametrize("first", [True, False])
def test_a_point_is_at_the_peak_of_its_heat_map_between_the_pixels(*, first: bool) -> None:
    down, across = np.mgrid[:48, :48] + 0.5
    maps = np.stack(
        [score * np.exp(-((across - x * 48) ** 2 + (down - y * 48) ** 2) / 8) for x, y, score in POINTS]
    )
    output = np.asarray(maps if first else maps.transpose(1, 2, 0), np.float32)[None]
    is_person(found(opened([output.shape]), output), 0.69, 0.06)
    for point, (x, y, _) in zip(found(opened([output.shape]), output).poses[0].points, POINTS, strict=True):
        assert abs(point.x - x) * 48 < 0.1  # a tenth of a pixel
        assert abs(point.y - y) * 48 < 0.1


def test_landmarks_of_blazepose_are_in_pixels_with_their_visibility() -> None:
    output = np.zeros((39, 5), np.float32)
    output[:33, 0], output[:33, 1] = np.linspace(64, 192, 33), np.linspace(192, 64, 33)
    output[:33, 3] = 2
    outputs = [output.reshape(1, 195), np.array([[0.9]], np.float32), np.zeros((1, 256, 256, 1), np.float32)]
    decoder = opened([one.shape for one in outputs], (256, 256))
    (pose,) = found(decoder, *outputs).poses
    assert (pose.label, pose.score, pose.box) == ("person", 0.9, (0.25, 0.25, 0.75, 0.75))
    assert (pose.points[32].name, pose.points[32].x, pose.points[32].y) == ("right_foot_index", 0.75, 0.25)
    assert pose.points[0].score == pytest.approx(1 / (1 + math.exp(-2)), abs=1e-5)
    assert len(pose.points) == 33
    outputs[1][...] = 0.1
    assert not found(decoder, *outputs).poses


def test_landmarks_of_a_hand_have_no_scores_of_their_own() -> None:
    output = np.tile(np.array([[112, 56, 0], [56, 112, 0], [100, 100, 0]], np.float32), (7, 1)).reshape(1, 63)
    outputs = [output, np.array([[0.8]], np.float32), np.zeros((1, 1), np.float32), np.zeros((1, 63), np.float32)]
    (pose,) = found(opened([one.shape for one in outputs], (224, 224)), *outputs).poses
    assert (pose.label, pose.score, pose.box) == ("hand", 0.8, (0.25, 0.25, 0.5, 0.5))
    assert (pose.points[0].name, pose.points[0].x, pose.points[0].score) == ("wrist", 0.5, None)


@pytest.mark.parametrize("size", [128, 192])
def test_the_points_of_a_face_are_where_mediapipe_has_them(size: int) -> None:
    case = FACES[str(size)]
    regressors = np.zeros((1, case["boxes_of"], 16), np.float32)
    logits = np.full((1, case["boxes_of"], 1), -100, np.float32)
    regressors[0, case["rows"]], logits[0, case["rows"], 0] = case["boxes"], case["logits"]
    (face,) = found(opened([regressors.shape, logits.shape], (size, size)), regressors, logits).poses
    assert [point.name for point in face.points][:3] == ["right_eye", "left_eye", "nose"]
    assert [(point.x, point.y) for point in face.points] == [
        pytest.approx(tuple(p), abs=2e-5) for p in case["points"]
    ]
    assert (face.label, face.score) == ("face", pytest.approx(case["score"], abs=2e-5))


def test_points_lie_where_they_do_in_the_sources_picture_also_outside_of_it() -> None:
    output = POINTS[:, [1, 0, 2]].reshape(1, 1, 17, 3).astype(np.float32)
    (pose,) = found(opened([output.shape]), output, cut=Cut(0.0, -1.0, 1.0, 2.0)).poses
    assert (pose.points[0].x, pose.points[0].y) == (0.25, 1.25)
    assert pose.box == (0.25, 0.0, 0.75, 1.0)


def test_names_and_lines_may_be_configured() -> None:
    output = np.array([[[0.1, 0.2, 0.9], [0.5, 0.6, 0.8], [0.9, 0.9, 0.7]]], np.float32)
    decoder = opened([output.shape], names=["a", "b", "c"], skeleton=[("a", "c")], label="arm", layout="movenet")
    result = found(decoder, output)
    assert [point.name for point in result.poses[0].points] == ["a", "b", "c"]
    assert (result.poses[0].label, result.skeleton) == ("arm", [(0, 2)])


@pytest.mark.parametrize(
    ("shapes", "options", "message"),
    [
        ([(1, 9, 9)], {}, "no layout that keypoints knows, with 17 points"),
        ([(1, 1, 13, 3)], {}, "no layout that keypoints knows"),
        ([(1, 1, 13, 3)], {"layout": "movenet"}, r"an output of shape \[1, 1, 17, 3\]"),
        ([(1, 1, 17, 3)], {"names": ["a", "b"], "layout": "movenet"}, r"shape \[1, 1, 2, 3\]"),
        ([(1, 1, 2, 3)], {"names": ["a", "a"]}, "a name twice"),
        ([(1, 1, 2, 3)], {"names": ["a", "b"], "skeleton": [("a", "x")]}, "'x' is no name of a point"),
        ([(1, 17, 48, 17)], {}, "axis of .* is unclear"),
        ([(1, 6, 57)], {"layout": "yolo"}, "numbers more for each box"),
        ([(1, 896, 16), (1, 896, 2)], {"layout": "mediapipe"}, "no detector of MediaPipe"),
        ([(1, 1, 17, 3)], {"threshold": math.nan}, "threshold must be a number"),
        ([(1, 1, 17, 3)], {"pixels": [3]}, "pixels must be"),
    ],
)
def test_what_is_unclear_is_refused(shapes: list[tuple[int, ...]], options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        opened(shapes, **options)


LAYOUTS: dict[str, list[tuple[int, ...]]] = {
    "movenet": [(1, 1, 17, 3)],
    "movenet_multi": [(1, 6, 56)],
    "yolo": [(1, 56, 84)],
    "end2end": [(1, 300, 57)],
    "heatmaps": [(1, 8, 9, 17)],
    "landmarks": [(1, 195), (1, 1)],
    "mediapipe": [(1, 896, 16), (1, 896, 1)],
}
numbers = st.lists(st.floats(width=32) | st.sampled_from([math.nan, math.inf, -math.inf, 3e38]), min_size=1)


@given(numbers, st.sampled_from(sorted(LAYOUTS)), st.sampled_from([None, (128, 128)]))
def test_garbage_gives_poses_of_numbers(values: list[float], layout: str, picture: tuple[int, int] | None) -> None:
    decoder = opened(LAYOUTS[layout], picture, threshold=-1)
    outputs = [np.resize(np.array(values, np.float32), shape) for shape in LAYOUTS[layout]]
    with np.errstate(all="ignore"):
        result = found(decoder, *outputs)
    for pose in result.poses:
        assert all(0 <= side <= 1 for side in pose.box)
        assert all(math.isfinite(point.x) and math.isfinite(point.y) for point in pose.points)
    assert len(msgspec.msgpack.encode(result)) < 1 << 17
