"""Pictures of results: when they are taken, what is drawn, and how large they are."""

from __future__ import annotations

import io
import math
from collections import Counter
from time import monotonic
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from limpet.contracts.assignment import SnapshotOptions
from limpet.contracts.data import frame_samples
from limpet.contracts.messages import SnapshotTaken
from limpet.contracts.outputs import (
    Anomaly,
    Classification,
    Detection,
    Detections,
    Keypoint,
    Keypoints,
    Pose,
    Region,
    ScoredLabel,
    Segmentation,
)
from limpet.pictures.frame import ArrayFrame
from limpet.wire.records import LARGEST_SNAPSHOT, Answered, Result, Snapshot
from limpet.worker import snapshot_picture
from limpet.worker.snapshots import MOST_WAITING, OFF, PAUSE, Snapshots
from support.broker import wait_until

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from limpet.contracts.frame import Frame
    from limpet.wire.records import SnapshotStep

GREY = ArrayFrame(np.full((240, 320, 3), 128, np.uint8))
ANYTHING = SnapshotOptions()
BOXES = Detections([Detection("cat", 0.91, (0.25, 0.25, 0.75, 0.75), id=7)], {"cat": 1})


def opened(picture: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(picture), formats=["JPEG"]) as image:
        return np.asarray(image.convert("RGB"))


def changed(output: Any, frame: Frame = GREY) -> NDArray[np.bool_]:
    """Return where a picture differs from the grey of its frame."""
    made = snapshot_picture.draw(frame, output, ANYTHING)
    differs: NDArray[np.bool_] = (np.abs(opened(made.jpeg).astype(int) - 128) > 40).any(axis=2)
    return differs


class Desk:
    """Pictures of the pipeline ``door``, and what was sent to the supervisor."""

    def __init__(self, **options: Any) -> None:
        self.sent: list[Snapshot | Answered] = []
        self.counts: Counter[SnapshotStep] = Counter()
        self.options = SnapshotOptions(**options)
        self.snapshots = Snapshots(self.sent.append)
        self.index = 0

    def see(self, frame: Frame = GREY, output: Any = BOXES, *, event: bool = False) -> None:
        block = frame_samples(frame, 5, 6_000_000_000, self.index)
        result = Result("door", "m", 1, "cpu", False, 5, 6_000_000_000, self.index, 0, output)
        self.snapshots.see(self.options, self.counts, block, result, event=event)
        self.index += 1
        self.snapshots.take()

    @property
    def samples(self) -> list[int]:
        return [record.sample for record in self.sent if isinstance(record, Snapshot)]

    def take(self) -> bool:
        """Look whether a picture is due, and return whether there was one."""
        before = len(self.sent)
        self.snapshots.take()
        return len(self.sent) > before


def test_without_a_wish_no_picture_is_taken() -> None:
    desk = Desk()
    for _ in range(5):
        desk.see()
    assert (desk.sent, desk.counts) == ([], {})


def test_one_of_so_many_results_is_taken_but_not_more_than_one_a_second() -> None:
    desk, begin = Desk(every=3), monotonic()
    for _ in range(9):
        desk.see()
    assert desk.samples == [2]
    wait_until(desk.take)
    assert desk.samples == [2, 8]
    assert monotonic() - begin >= PAUSE
    assert desk.counts == {"taken": 2, "skipped": 1}


def test_an_event_is_taken_unless_events_are_off() -> None:
    for events in (True, False):
        desk = Desk(events=events)
        desk.see()
        desk.see(event=True)
        assert desk.samples == ([1] if events else [])


def test_a_command_gets_the_last_result_and_what_it_shows() -> None:
    desk = Desk(width=160)
    desk.see()
    desk.see()
    desk.snapshots.want(4, "door", desk.options)
    desk.snapshots.want(5, "door", desk.options)
    desk.snapshots.take()
    picture, *answers = desk.sent
    assert isinstance(picture, Snapshot)
    assert (picture.sample, picture.wall_ns, picture.pipeline) == (1, 6_000_000_000, "door")
    assert opened(picture.jpeg).shape == (120, 160, 3)
    for number, answer in zip((4, 5), answers, strict=True):
        assert isinstance(answer, Answered)
        assert (answer.number, answer.error) == (number, "")
        assert isinstance(answer.result, SnapshotTaken)
        assert (answer.result.sample, answer.result.width, answer.result.height) == (1, 160, 120)
        assert answer.result.bytes == len(picture.jpeg)


def test_a_command_waits_for_the_first_result() -> None:
    desk = Desk()
    desk.snapshots.want(1, "door", desk.options)
    desk.snapshots.take()
    assert desk.sent == []
    desk.see()
    assert desk.samples == [0]


def test_a_command_that_gets_no_picture_is_answered_with_the_reason() -> None:
    desk = Desk()
    desk.snapshots.want(1, "door", None)
    for number in range(2, MOST_WAITING + 3):
        desk.snapshots.want(number, "door", desk.options)
    desk.snapshots.forget("door")
    desk.snapshots.forget("door")
    errors = {record.number: record.error for record in desk.sent if isinstance(record, Answered)}
    assert "set `snapshots = {}`" in errors[1]
    assert "wait for a picture already" in errors[MOST_WAITING + 2]
    assert errors[2] == "the pipeline was closed meanwhile; send it again"
    assert len(errors) == MOST_WAITING + 2


class Broken(ArrayFrame):
    """A frame that cannot be developed."""

    def developer(self, view: object) -> Any:  # noqa: ARG002
        raise ValueError("the frame is damaged")


def test_a_frame_that_cannot_be_drawn_is_counted_and_costs_nothing_else() -> None:
    desk = Desk(every=1)
    desk.snapshots.want(1, "door", desk.options)
    desk.see(Broken(np.zeros((4, 4, 3), np.uint8)))
    assert desk.counts == {"failed": 1}
    assert desk.sent == [Answered(1, "the picture could not be read: the frame is damaged")]


def test_a_box_is_drawn_where_it_is_with_its_label() -> None:
    differs = changed(BOXES)
    rows, columns = np.nonzero(differs[:, 100:])
    assert set(np.abs(rows - 60)[columns > 90]) & {0, 1}
    assert abs(int(rows.max()) - 179) <= 3
    assert abs(int(columns.max()) + 100 - 239) <= 3
    assert not differs[100:140, 100:220].any(), "the inside stays as it is"
    assert differs[50:80, 80:140].mean() > 0.3, "the label"


def test_points_bones_and_outlines_are_drawn() -> None:
    points = [Keypoint("a", 0.2, 0.5, 0.9), Keypoint("b", 0.8, 0.5, None)]
    pose = Pose("person", 0.9, (0.1, 0.1, 0.9, 0.9), points)
    assert changed(Keypoints([pose], {"person": 1}, [(0, 1), (1, 9)]))[115:125, 160].any()
    region = Region("road", 0.3, (0.5, 0.5, 0.9, 0.9), polygon=[(0.5, 0.5), (0.9, 0.5), (0.7, 0.9)])
    assert changed(Segmentation({"road": 0.3}, [region]))[115:125, 230].any()


def test_a_class_is_written_at_the_top_and_other_results_draw_nothing() -> None:
    named = Classification("day", 0.8, [ScoredLabel("day", 0.8)], abstained=False)
    assert changed(named)[:20, :60].any()
    for output in (Anomaly(anomalous=True, score=1.0, threshold=0.5), {"anything": 1}, None):
        assert not changed(output).any()


def test_a_picture_that_would_be_too_large_is_made_smaller() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1080, 1920, 3), np.uint8)
    made = snapshot_picture.draw(ArrayFrame(noise), BOXES, SnapshotOptions(width=1920, quality=95))
    assert len(made.jpeg) <= LARGEST_SNAPSHOT
    assert opened(made.jpeg).shape == (made.height, made.width, 3)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 5000), (5000, 1), (3000, 40)])
def test_a_picture_of_any_shape_is_drawn(height: int, width: int) -> None:
    made = snapshot_picture.draw(ArrayFrame(np.zeros((height, width, 3), np.uint8)), BOXES, ANYTHING)
    assert made.width <= ANYTHING.width
    assert made.height <= snapshot_picture.HIGHEST


numbers = st.floats() | st.integers(-3, 3).map(float) | st.sampled_from([math.nan, math.inf, 1e300])
boxes = st.tuples(numbers, numbers, numbers, numbers)


@settings(max_examples=50)
@given(
    st.lists(st.builds(Detection, st.text(), st.floats(), boxes, st.none() | st.integers()), max_size=5),
    st.lists(st.builds(Keypoint, st.text(), numbers, numbers, st.none() | st.floats()), max_size=5),
    st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), max_size=5),
    st.lists(st.tuples(numbers, numbers), max_size=5),
)
def test_whatever_a_model_gives_is_drawn_or_left_out(
    found: list[Detection], points: list[Keypoint], skeleton: list[Any], polygon: list[Any]
) -> None:
    pose = Pose("p", 0.5, (0.1, 0.1, 0.2, 0.2), points)
    region = Region("r", 0.5, (0.1, 0.1, 0.2, 0.2), polygon=polygon)
    for output in (Detections(found, {}), Keypoints([pose], {}, skeleton), Segmentation({}, [region])):
        assert snapshot_picture.draw(GREY, output, SnapshotOptions(width=80)).jpeg


def test_a_picture_that_is_only_shown_is_the_answer_and_no_snapshot() -> None:
    desk = Desk()
    desk.snapshots.show(7, "door", desk.options)
    assert desk.sent == []  # there is no result yet
    desk.see()
    (answered,) = desk.sent
    assert isinstance(answered, Answered)
    assert (answered.number, answered.error) == (7, "")
    assert opened(answered.result).shape == (240, 320, 3)
    assert (desk.samples, desk.counts) == ([], {})
    desk.snapshots.show(8, "door", desk.options)
    desk.snapshots.show(9, "door", desk.options)
    wait_until(desk.take)
    assert [one.number for one in desk.sent[1:] if isinstance(one, Answered)] == [8, 9]


def test_a_picture_that_is_only_shown_needs_snapshots_and_a_pipeline() -> None:
    desk = Desk()
    desk.snapshots.show(7, "door", None)
    assert desk.sent == [Answered(7, f"the pipeline 'door' takes no pictures: {OFF}")]
    desk.snapshots.show(8, "door", desk.options)
    desk.snapshots.forget("door")
    assert desk.sent[1] == Answered(8, "the pipeline was closed meanwhile; send it again")
