"""Frames to pixels: what becomes one view, what that shows of the source, and what happens to bad frames."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from msgspec.structs import replace

from limpet.config import PipelineConfig
from limpet.contracts.data import Array, Cut, Samples, SampleSpec, Window
from limpet.contracts.fields import WindowSpec
from limpet.contracts.frame import Developer, FrameForm, Rectangle, View
from limpet.errors import ModelError
from limpet.inference.develop import fold
from limpet.inference.measure import throughput
from limpet.inference.pipeline import Pipeline
from limpet.inference.planning import plan_pipeline
from limpet.inference.resolving import resolve_transforms
from limpet.inference.stages import Transforms
from limpet.inference.window import windows_of
from limpet.pictures.frame import ArrayFrame
from support import models
from support.assigned import single

if TYPE_CHECKING:
    from pathlib import Path

UINT8 = np.dtype(np.uint8)
CAMERA = SampleSpec((12, 16, 3), UINT8, rate=30.0, queue=1, frames=True)
ANY_SIZE = replace(CAMERA, shape=(-1, -1, 3))
FORM = FrameForm(16, 12, "rgb24")
RESIZE = {"kind": "resize", "width": 4, "height": 2}
CROP = {"kind": "crop", "width": 8, "height": 6}
GREY = {"kind": "colour", "to": "grey"}
NORMALISE = {"kind": "normalise", "mean": 127, "std": 127.5}


def transforms(tmp_path: Path, *tables: dict[str, Any], spec: SampleSpec = CAMERA, rows: int = 1) -> Transforms:
    plugins = resolve_transforms(tables, "transforms", tmp_path)
    return Transforms(plugins, windows_of(WindowSpec(size=rows), spec))


def view(tmp_path: Path, *tables: dict[str, Any]) -> tuple[View, int]:
    return fold(resolve_transforms(tables, "transforms", tmp_path), FORM)


def pixels(seed: int = 0, height: int = 12, width: int = 16) -> Array:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def frames(*pictures: Array) -> Array:
    found = np.empty(len(pictures), object)
    found[:] = [ArrayFrame(picture) for picture in pictures]
    return found


def block(values: Array, index: int = 0) -> Samples:
    stamps = np.arange(index, index + len(values), dtype=np.int64)
    return Samples(values, stamps, stamps, index)


def developed(opened: Transforms, *pictures: Array) -> Window:
    window = Window(frames(*pictures), 0, 0, 0)
    for stage in opened.take():
        window = stage(window)
    return window


def test_leading_picture_transforms_become_one_view(tmp_path: Path) -> None:
    found, count = view(tmp_path, CROP, RESIZE, {"kind": "colour", "to": "bgr"})
    assert count == 3
    assert found == View(part=Rectangle(4, 3, 8, 6), width=4, height=2, colour="bgr")
    letterbox = {"kind": "letterbox", "width": 8, "height": 8, "like": "opencv"}
    found, count = view(tmp_path, letterbox, GREY)
    assert (found.width, found.height, found.border, found.fill, found.antialias) == (
        8,
        6,
        (0, 1, 0, 1),
        114,
        False,
    )
    assert (found.like, count) == ("opencv", 1)  # OpenCV's grey of what OpenCV resized is another step.


@pytest.mark.parametrize(
    "tables",
    [
        [RESIZE, {"kind": "crop", "width": 2, "height": 2}],
        [RESIZE, {"kind": "resize", "width": 8, "height": 8}],
        [{**RESIZE, "like": "pillow"}, {**GREY, "like": "opencv"}],
        [{"kind": "letterbox", "width": 8, "height": 8}, {"kind": "crop", "share": 0.5}],
        [GREY, NORMALISE],
    ],
)
def test_what_a_view_cannot_say_works_on_the_array_behind_it_with_the_same_result(
    tmp_path: Path, tables: list[dict[str, Any]]
) -> None:
    opened = transforms(tmp_path, *tables)
    window = developed(opened, pixels())
    plain = transforms(tmp_path, *tables, spec=replace(CAMERA, frames=False))
    expected = Window(pixels()[np.newaxis], 0, 0, 0)
    for stage in plain.take():
        expected = stage(expected)
    np.testing.assert_array_equal(window.values, expected.values)
    assert opened.spec.shape == plain.spec.shape == window.values.shape
    assert opened.spec.dtype == window.values.dtype
    assert window.cut == expected.cut


@pytest.mark.parametrize(
    ("tables", "cut"),
    [
        ([RESIZE], None),
        ([CROP, RESIZE], Cut(0.25, 0.25, 0.75, 0.75)),
        ([{"kind": "letterbox", "width": 16, "height": 16}], Cut(0, -2 / 12, 1, 14 / 12)),
        ([{"kind": "letterbox", "width": 32, "height": 32, "align": "top_left"}], Cut(0, 0, 1, 16 / 12)),
        (
            [CROP, {"kind": "letterbox", "width": 8, "height": 8}],
            Cut(0.25, 0.25 - 1 / 12, 0.75, 0.75 + 1 / 12),
        ),
        ([RESIZE, {"kind": "crop", "width": 2, "height": 2}], Cut(0.25, 0, 0.75, 1)),
    ],
)
def test_the_cut_is_the_part_of_the_source_that_the_model_sees(
    tmp_path: Path, tables: list[dict[str, Any]], cut: Cut | None
) -> None:
    window = developed(transforms(tmp_path, *tables), pixels())
    if cut is None:
        assert window.cut is None
    else:
        assert window.cut == pytest.approx(cut)


def test_frames_of_no_known_size_need_a_resize(tmp_path: Path) -> None:
    for tables in ([], [GREY], [{"kind": "crop", "share": 0.5}]):
        with pytest.raises(ModelError, match=r"may have any size.*add a resize"):
            transforms(tmp_path, *tables, spec=ANY_SIZE)
    assert transforms(tmp_path, RESIZE, spec=ANY_SIZE).spec.shape == (1, 2, 4, 3)
    assert transforms(tmp_path, CROP, GREY, spec=ANY_SIZE).spec.shape == (1, 6, 8, 1)


def test_a_crop_larger_than_the_frame_is_refused_before_data_flows_if_the_size_is_known(tmp_path: Path) -> None:
    large = {"kind": "crop", "width": 40, "height": 40}
    with pytest.raises(ModelError, match=r"transforms\[0\]: a crop of 40x40 is larger than its picture of 16x12"):
        transforms(tmp_path, large)
    opened = transforms(tmp_path, large, spec=ANY_SIZE)
    with pytest.raises(ModelError, match="a crop of 40x40 is larger than its picture of 16x12"):
        developed(opened, pixels())


@pytest.mark.parametrize(
    ("window", "spec", "says"),
    [
        (WindowSpec(seconds=1.0), CAMERA, "a window of a camera's frames has a size, not seconds"),
        (WindowSpec(size=2), ANY_SIZE, "a window of 2 frames needs frames of one size"),
    ],
)
def test_windows_that_frames_cannot_make_are_refused(
    tmp_path: Path, window: WindowSpec, spec: SampleSpec, says: str
) -> None:
    with pytest.raises(ModelError, match=says):
        plan(tmp_path, spec, window=window)


def plan(tmp_path: Path, spec: SampleSpec = CAMERA, **wanted: Any) -> Any:
    scaled = wanted.pop("scaled", {"dtype": "float32"})
    models.same(tmp_path / "m.tflite", wanted.pop("shape", (1, 2, 4, 3)), **scaled)
    options = {"transforms": [RESIZE], "decoder": {"kind": "regress"}} | wanted
    config = PipelineConfig(source="camera", model="m.tflite", **options)
    return plan_pipeline(single(tmp_path, config), "p", spec)


def values_of(result: Any) -> list[float]:
    return list(result.output.values.values())


def resized(picture: Array) -> list[int]:
    from PIL import Image

    return np.asarray(Image.fromarray(picture).resize((4, 2), Image.Resampling.BILINEAR)).ravel().tolist()


def test_a_frame_goes_through_the_pipeline_as_pillow_would_resize_it(tmp_path: Path) -> None:
    with Pipeline(plan(tmp_path)) as pipeline:
        results = list(pipeline.feed(block(frames(pixels(0), pixels(1)))))
    assert [values_of(result) for result in results] == [resized(pixels(0)), resized(pixels(1))]


def test_normalising_the_pixels_is_left_to_the_model_behind_a_resize_too(tmp_path: Path) -> None:
    scaled = {"dtype": "uint8", "scale": 2 / 255, "zero_point": 127}
    with Pipeline(plan(tmp_path, transforms=[RESIZE, NORMALISE], scaled=scaled)) as pipeline:
        (result,) = pipeline.feed(block(frames(pixels())))
        assert len(pipeline.graph.transforms) == 1
    np.testing.assert_allclose(values_of(result), (np.array(resized(pixels())) - 127) / 127.5, atol=1e-6)


def test_a_window_of_several_frames_has_them_in_order_and_each_hop_the_next(tmp_path: Path) -> None:
    wanted = {"shape": (1, 3, 2, 4, 3), "window": WindowSpec(size=3, hop=2)}
    plain = plan(tmp_path, **wanted)
    assert plain.transforms.windows.hop == 2
    assert plan(tmp_path, every=5, **wanted).transforms.windows.hop == 10
    pictures = [pixels(n) for n in range(7)]
    with Pipeline(plain) as pipeline:
        results = [
            values_of(result)
            for begin in range(0, 7, 2)
            for result in pipeline.feed(block(frames(*pictures[begin : begin + 2]), begin))
        ]
    assert results == [
        [value for picture in pictures[at : at + 3] for value in resized(picture)] for at in (0, 2, 4)
    ]


def test_frames_of_another_size_are_a_gap_and_no_failure(tmp_path: Path) -> None:
    with Pipeline(plan(tmp_path, ANY_SIZE)) as pipeline:
        first = list(pipeline.feed(block(frames(pixels(0), pixels(1)))))
        assert pipeline.forms.news() == ""
        mixed = list(pipeline.feed(block(frames(pixels(2), pixels(3, 30, 50), pixels(4, 30, 50)), 2)))
        news = pipeline.forms.news()
        again = list(pipeline.feed(block(frames(pixels(5, 30, 50)), 5)))
        assert pipeline.forms.news() == ""
    wanted = [pixels(n) for n in range(3)] + [pixels(n, 30, 50) for n in (3, 4, 5)]
    assert [values_of(result) for result in (*first, *mixed, *again)] == [resized(picture) for picture in wanted]
    assert news == "the source's frames are 50x30 rgb24 now; they were 16x12 rgb24"


def test_a_new_size_begins_a_new_window(tmp_path: Path) -> None:
    wanted = {"shape": (1, 2, 2, 4, 3), "window": WindowSpec(size=2)}
    with Pipeline(plan(tmp_path, **wanted)) as pipeline:
        pictures = [pixels(0), pixels(1, 24, 32), pixels(2, 24, 32)]
        (result,) = pipeline.feed(block(frames(*pictures)))
        assert pipeline.in_no_window == 1
    assert values_of(result) == resized(pictures[1]) + resized(pictures[2])


class DamagedFrame:
    """A frame whose pixels cannot be decoded, or not even its form be developed."""

    def __init__(self, *, form: bool) -> None:
        self.form = FrameForm(16, 12, "mjpeg" if form else "rgb24")
        self.nbytes = 10
        self._form = form

    def developer(self, view: View) -> Developer:  # noqa: ARG002 - it develops nothing
        if self._form:
            raise ValueError("no decoder for mjpeg")
        raise AssertionError("its form has a developer already")

    @property
    def pixels(self) -> Array:
        raise ValueError("a JPEG ends early")


@pytest.mark.parametrize(
    ("form", "says"),
    [
        (True, "frames of 16x12 mjpeg cannot be developed: no decoder for mjpeg"),
        (False, "a frame of 16x12 rgb24 cannot be developed: a JPEG ends early"),
    ],
)
def test_a_damaged_frame_costs_its_own_window_alone(tmp_path: Path, form: bool, says: str) -> None:  # noqa: FBT001
    values = frames(pixels(0), pixels(0), pixels(2))
    values[1] = DamagedFrame(form=form)
    errors: list[ModelError] = []
    with Pipeline(plan(tmp_path)) as pipeline:
        results = list(pipeline.feed(block(values), errors.append))
    assert [values_of(result) for result in results] == [resized(pixels(0)), resized(pixels(2))]
    assert [str(error) for error in errors] == [says]


def test_a_window_that_is_made_up_and_a_measurement_have_frames(tmp_path: Path) -> None:
    for spec in (CAMERA, ANY_SIZE):
        planned = plan(tmp_path, spec)
        with Pipeline(planned) as pipeline:
            pipeline.try_once(noise=False)
            pipeline.try_once(noise=True)
        assert throughput(planned, seconds=0.01, rounds=1).inferences > 0


def test_a_successor_goes_on_with_the_frames_under_way(tmp_path: Path) -> None:
    wanted = {"shape": (1, 2, 2, 4, 3), "window": WindowSpec(size=2)}
    with Pipeline(plan(tmp_path, **wanted)) as old, Pipeline(plan(tmp_path, **wanted)) as new:
        assert not list(old.feed(block(frames(pixels(0)))))
        assert new.take_over(old)
        (result,) = new.feed(block(frames(pixels(1)), 1))
    assert values_of(result) == resized(pixels(0)) + resized(pixels(1))


def test_a_grey_frame_has_three_colours_unless_the_model_wants_one(tmp_path: Path) -> None:
    picture = pixels()[:, :, 0]
    coloured = developed(transforms(tmp_path, RESIZE), picture).values
    grey = developed(transforms(tmp_path, RESIZE, GREY), picture).values
    assert coloured.shape == (1, 2, 4, 3)
    np.testing.assert_array_equal(coloured, np.repeat(grey, 3, axis=3))
