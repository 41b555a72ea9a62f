"""Windows that a worker keeps: which ones, as which bytes, and what it costs the others."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from PIL import Image

from limpet.captures import form
from limpet.config import PipelineConfig
from limpet.contracts.captures import LARGEST_WINDOW, KeepOptions
from limpet.contracts.data import Samples, SampleSpec
from limpet.contracts.drift import Moved, OpenAlarm
from limpet.contracts.outputs import Classification, Detection, Detections
from limpet.contracts.stage import Spec
from limpet.errors import ConfigError
from limpet.inference.pipeline import Pipeline
from limpet.inference.single import plan_model
from limpet.pictures.frame import ArrayFrame
from limpet.updates.answers import Answer, Pair, Pairs
from limpet.worker import kept_window
from limpet.worker.keeping import MOST_WAITING, Keeper
from limpet.worker.kept_window import TooLargeError
from support import models

if TYPE_CHECKING:
    from collections.abc import Iterator

    from limpet.contracts.captures import Loss
    from limpet.wire.records import Answered, Kept, Result

SHUTTLE = Path(__file__).parents[2] / "agent/limpet/demo_data/shuttle-1.limpet"
CHANNELS = tuple(f"f{n}" for n in range(1, 10))
QUIET: dict[str, Any] = {"audit": 0, "rare": 0.0, "margin": 0.0, "abstained": False}


class Desk:
    """A pipeline with a keeper, and what it hands over."""

    def __init__(self, cache: Path, **options: Any) -> None:
        source = SampleSpec((9,), np.dtype(np.float32), CHANNELS, 10.0)
        self.pipeline = Pipeline(plan_model(SHUTTLE, source, ["cpu"], cache))
        self.lost: Counter[Loss] = Counter()
        self.keeper = Keeper(self.pipeline.plan, KeepOptions(**(QUIET | options)), self.lost)
        self.keeper.observe(self.pipeline)
        self.kept: list[tuple[Kept, bytes]] = []
        self.answers: list[Answered] = []
        self.fed = 0

    def feed(self, count: int = 1, value: float | None = None) -> list[Result[Any]]:
        numbers = np.arange(self.fed, self.fed + count)
        values = np.repeat(numbers[:, None], 9, axis=1) if value is None else np.full((count, 9), value)
        samples = Samples(values.astype(np.float32), numbers, numbers, self.fed)
        self.fed += count
        return list(self.pipeline.feed(samples))

    def take(self) -> list[int]:
        """Have all that waits handed over. Return the ordinals of all that was, in order."""
        while self.keeper.waiting:
            self.keeper.take(lambda record, body: self.kept.append((record, body)), self.answers.append)
        return [record.sample for record, _ in self.kept]


@pytest.fixture
def desk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path, **getattr(request, "param", {}))
    with made.pipeline:
        yield made


def test_nothing_is_kept_without_a_reason(desk: Desk) -> None:
    desk.feed(50)
    assert desk.take() == []
    assert not desk.lost


def test_a_command_keeps_the_values_before_the_first_transform_and_is_answered_then(desk: Desk) -> None:
    assert desk.keeper.command(7, 2) == ""
    assert desk.keeper.command(8, 1) == "another command waits for its windows"
    results = desk.feed(4)
    assert not desk.answers
    assert desk.take() == [0, 1]
    assert [(one.number, one.error) for one in desk.answers] == [(7, "")]
    assert msgspec.to_builtins(desk.answers[0].result) == {"windows": 2}
    record, body = desk.kept[1]
    assert record.window.channels == list(CHANNELS)
    assert (record.window.shape, record.window.dtype, record.window.rate) == ([1, 9], "float32", 10.0)
    assert body == form.body_of(msgspec.json.encode(results[1].output), [np.full(9, 1, "<f4").tobytes()])
    assert (record.size, record.answer) == (len(body), "anomalous" if results[1].output.anomalous else "normal")
    assert desk.keeper.command(9, 1) == ""


def test_a_closed_pipeline_answers_the_command_that_waits(desk: Desk) -> None:
    desk.keeper.command(7, 2)
    desk.keeper.close(desk.answers.append)
    assert "closed" in desk.answers[0].error


@pytest.mark.parametrize("desk", [{"per_hour": 10}], indirect=True)
def test_an_hour_has_its_limit_and_a_tenth_of_it_is_left_to_the_audit(desk: Desk) -> None:
    desk.keeper.follow({"univariate": OpenAlarm(moved=[Moved(name="f1.mean", before=0.0, now=1.0)])})
    desk.feed(16)
    assert desk.take() == list(range(9))
    assert desk.kept[0][0].detail == "univariate: f1.mean"
    assert desk.lost == {"hour": 7}
    desk.keeper.follow({"univariate": OpenAlarm()})
    desk.feed(16)
    assert len(desk.take()) == 9


def test_windows_that_nobody_takes_are_bounded_and_counted(desk: Desk) -> None:
    desk.keeper.command(1, 100)
    desk.feed(MOST_WAITING + 5)
    assert len(desk.keeper.waiting) == MOST_WAITING
    assert desk.lost == {"busy": 5}


@pytest.mark.parametrize("desk", [{"never": ["normal", "anomalous"]}], indirect=True)
def test_a_label_that_is_never_kept_stays_in_the_worker(desk: Desk) -> None:
    desk.keeper.command(1, 1)
    desk.feed(1)
    assert not desk.keeper.waiting
    assert desk.lost == {"consent": 1}


def test_a_window_about_which_the_shadow_disagrees_is_kept_though_it_is_gone(desk: Desk) -> None:
    desk.keeper.shadowed = True
    desk.feed(5)

    def pair(sample: int, agreement: float | None) -> Pair:
        return Pair(sample, sample, Answer("a"), Answer("b"), agreement, 1.0, 1.0)

    desk.keeper.compare(Pairs("p", "m", 1, "n", 2, [pair(1, 1.0), pair(2, 0.0), pair(3, None)]))
    assert desk.take() == [2]
    assert desk.kept[0][0].reasons == ["disagreement"]
    assert desk.kept[0][0].detail == "agreement 0 with n 2"
    assert desk.kept[0][1].endswith(np.full(9, 2, "<f4").tobytes())
    desk.keeper.compare(Pairs("p", "m", 1, "n", 2, [pair(2, 0.0), pair(-900, 0.0)]))
    desk.feed(2)
    assert desk.take() == [2, 5]


@pytest.mark.parametrize("top_k", [1, 2])
def test_close_classes_are_unsure_though_a_result_names_the_best_one_alone(tmp_path: Path, top_k: int) -> None:
    path = models.dense(tmp_path / "scores.tflite", 3, 3, int8=False)
    decoder = {"kind": "classify", "labels": ["a", "b", "c"], "top_k": top_k}
    options = KeepOptions(**QUIET | {"margin": 0.1})
    wanted = PipelineConfig(source="samples", model="", decoder=decoder, keep=options)
    source = SampleSpec((3,), np.dtype(np.float32), ("a", "b", "c"), 10.0)
    rows = np.array([[0.8, 0.1, 0.1], [0.46, 0.1, 0.44], [0.1, 0.54, 0.36]], np.float32)
    with Pipeline(plan_model(path, source, ["cpu"], tmp_path, wanted)) as pipeline:
        keeper = Keeper(pipeline.plan, options, Counter())
        keeper.observe(pipeline)
        results = list(pipeline.feed(Samples(rows, np.arange(3), np.arange(3), 0)))
    assert [len(one.output.top) for one in results] == [top_k] * 3
    assert [(one.held.result.sample, one.detail) for one in keeper.waiting] == [(1, "margin 0.02")]


FRAME = ArrayFrame(np.random.default_rng(0).integers(0, 255, (60, 80, 3)).astype(np.uint8))
PICTURES = SampleSpec((60, 80, 3), np.dtype(np.uint8), frames=True)
WINDOWS = Spec(shape=(1,), dtype=np.dtype(object), frames=True)


def pictured(output: Any, **options: Any) -> tuple[Any, np.ndarray]:
    frames = np.empty(1, object)
    frames[0] = FRAME
    found, body = kept_window.body(frames, output, PICTURES, WINDOWS, KeepOptions(**options))
    (size,) = found.parts
    with Image.open(io.BytesIO(body[-size:]), formats=["JPEG"]) as image:
        return found, np.asarray(image).astype(int)


def roughness(pixels: np.ndarray) -> float:
    return float(np.abs(np.diff(pixels, axis=1)).mean())


BOX = Detections([Detection("person", 0.9, (0.0, 0.0, 0.4, 1.0))], {"person": 1})


def test_a_picture_is_kept_as_jpeg_in_its_own_size() -> None:
    found, pixels = pictured(BOX)
    assert (found.encoding, found.shape, found.changed) == ("jpeg", [1, 60, 80, 3], "")
    assert np.abs(pixels - FRAME.pixels).mean() < 30


def test_only_what_was_found_is_blurred_and_all_of_it() -> None:
    found, pixels = pictured(BOX, blur="found")
    assert found.changed == "1 boxes blurred"
    assert roughness(pixels[:, :32]) < 10 < roughness(pixels[:, 45:])


@pytest.mark.parametrize(
    ("output", "blur"), [(BOX, "all"), (Classification("a", 0.9, [], abstained=False), "found")]
)
def test_the_whole_picture_is_blurred_on_demand_or_if_there_are_no_boxes(output: Any, blur: str) -> None:
    found, pixels = pictured(output, blur=blur)
    assert found.changed == "blurred"
    assert roughness(pixels) < 10


@pytest.mark.parametrize("box", [(float("nan"),) * 4, (-1e9, -1e9, 1e9, 1e9), (0.9, 0.9, 0.1, 0.1), (2, 2, 3, 3)])
def test_a_box_may_be_anywhere(box: Any) -> None:
    pictured(Detections([Detection("a", 0.9, box)], {}), blur="found")


def test_numbers_that_no_capture_can_hold_are_refused() -> None:
    spec = SampleSpec((2,), np.dtype(np.complex64))
    windows = Spec(shape=(1, 2), dtype=np.dtype(np.complex64))
    with pytest.raises(ValueError, match="complex64"):
        kept_window.body(np.zeros((1, 2), np.complex64), {}, spec, windows, KeepOptions())
    many = np.zeros((LARGEST_WINDOW // 8 + 1, 2), np.float32)
    with pytest.raises(TooLargeError):
        kept_window.body(many, {}, spec, windows, KeepOptions())


def test_big_endian_values_are_kept_as_little_endian() -> None:
    windows = Spec(shape=(1, 2), dtype=np.dtype(">f4"))
    spec = SampleSpec((2,), np.dtype(">f4"))
    found, body = kept_window.body(np.array([[1, 2]], ">f4"), {}, spec, windows, KeepOptions())
    assert body.endswith(np.array([1, 2], "<f4").tobytes())
    assert found.dtype == "float32"


@pytest.mark.parametrize("keep", [{"blur": "all"}, {"blur": "found"}])
def test_what_cannot_be_kept_so_is_refused_with_its_key(tmp_path: Path, keep: dict[str, Any]) -> None:
    source = SampleSpec((9,), np.dtype(np.float32), CHANNELS, 10.0)
    wanted = PipelineConfig(source="samples", model="", keep=KeepOptions(**keep))
    with pytest.raises(ConfigError, match=r"keep\.blur: .* gives no pictures"):
        plan_model(SHUTTLE, source, ["cpu"], tmp_path, wanted)
