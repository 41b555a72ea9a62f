"""Masks to shares, outlines, run lengths and PNGs."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from limpet.contracts.data import Cut, FloatArray, TensorSpec
from limpet.contracts.outputs import RunLengths, Segmentation
from limpet.contracts.stage import Spec
from limpet.decoders import segment
from support.stages import window

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

LABELS = ("background", "floor", "wall")


def segmented(
    *outputs: Any, labels: Sequence[str] = LABELS, cut: Cut | None = None, picture: tuple[int, int] | None = None,
    **options: Any,
) -> Segmentation:  # fmt: skip
    specs = tuple(TensorSpec(f"out{n}", one.shape, one.dtype) for n, one in enumerate(outputs))
    spec = Spec(shape=specs[0].shape, dtype=specs[0].dtype, outputs=specs, labels=tuple(labels), picture=picture)
    decoder = segment.open(msgspec.convert(options, segment.Config), spec)
    result = decoder(window(outputs[0], outputs=outputs, cut=cut)).result
    assert isinstance(result, Segmentation)
    return result


def drawn(polygon: Sequence[tuple[float, float]], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Return which pixels have their middle in a polygon, by counting how often a ray crosses it."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    x, y = (x + 0.5) / shape[1], (y + 0.5) / shape[0]
    inside = np.zeros(shape, bool)
    for (x1, y1), (x2, y2) in zip(polygon, [*polygon[1:], polygon[0]], strict=True):
        if y1 != y2:
            inside ^= ((y1 > y) != (y2 > y)) & (x < (x2 - x1) * (y - y1) / (y2 - y1) + x1)
    return inside


def unpacked(rle: RunLengths) -> NDArray[np.bool_]:
    """Return the mask of run lengths, by the definition."""
    pixels = [number % 2 == 1 for number, count in enumerate(rle.counts) for _ in range(count)]
    return np.array(pixels, bool).reshape(rle.size[::-1]).T


ROOM = np.zeros((1, 20, 40), np.int64)
ROOM[0, 10:], ROOM[0, 2:10, 5:25] = 1, 2


@pytest.mark.parametrize("layout", ["classes", "last", "first"])
def test_classes_have_shares_and_outlines(layout: str) -> None:
    scores = np.eye(3, dtype=np.float32)[ROOM] * 5 - 2
    output: Any = {"classes": ROOM, "last": scores, "first": scores.transpose(0, 3, 1, 2).copy()}[layout]
    found = segmented(output)
    assert found.shares == {"floor": 0.5, "wall": 0.2}
    floor, wall = found.regions
    assert (floor.label, floor.share, floor.box) == ("floor", 0.5, (0, 0.5, 1, 1))
    assert sorted(floor.polygon) == [(0, 0.5), (0, 1), (1, 0.5), (1, 1)]
    assert (wall.label, wall.share, wall.box) == ("wall", 0.2, (0.125, 0.1, 0.625, 0.5))
    assert sorted(wall.polygon) == [(0.125, 0.1), (0.125, 0.5), (0.625, 0.1), (0.625, 0.5)]


@pytest.mark.parametrize("activation", ["none", "sigmoid"])
def test_one_probability_for_each_pixel_is_one_label(activation: str) -> None:
    probability = np.full((1, 16, 16, 1), 0.2, np.float32)
    probability[0, 4:12, 4:12] = 0.9
    probability[0, 0:2, 0:2] = 0.6
    output = probability if activation == "none" else np.log(probability / (1 - probability))
    found = segmented(output, labels=["selfie"], activation=activation)
    assert found.shares == {"selfie": round(68 / 256, 5)}
    assert [region.box for region in found.regions] == [(0.25, 0.25, 0.75, 0.75), (0, 0, 0.125, 0.125)]
    assert segmented(output, labels=["selfie"], activation=activation, threshold=0.7).shares == {"selfie": 0.25}


def test_run_lengths_go_down_the_columns_and_begin_with_zeros() -> None:
    found = segmented(np.array([[[0, 0, 1], [2, 1, 1]]]), form="rle")
    floor, wall = found.regions
    assert floor.rle == RunLengths((2, 3), [3, 3])
    assert wall.rle == RunLengths((2, 3), [1, 1, 4])
    assert found.cut == (0, 0, 1, 1)
    assert segmented(np.full((1, 2, 2), 1), form="rle").regions[0].rle == RunLengths((2, 2), [0, 4])


def test_the_mask_is_a_png_if_wanted() -> None:
    assert segmented(ROOM).mask is None
    found = segmented(ROOM, png=True, form="none")
    assert found.mask is not None
    assert found.mask.labels == list(LABELS)
    np.testing.assert_array_equal(np.array(Image.open(io.BytesIO(found.mask.png))), ROOM[0])
    assert found.regions == []


def test_the_border_of_a_letterbox_is_no_part_of_shares_and_outlines() -> None:
    boxed = np.full((1, 40, 40), 2)
    boxed[0, 10:30] = ROOM[0]  # above and below is border
    cut = Cut(0, -0.5, 1, 1.5)
    found, plain = segmented(boxed, cut=cut, png=True), segmented(ROOM, png=True)
    assert (found.shares, found.regions) == (plain.shares, plain.regions)
    assert found.mask == plain.mask


def test_outlines_of_a_cut_are_where_they_are_in_the_sources_picture() -> None:
    found = segmented(ROOM, cut=Cut(0.5, 0, 1, 0.5), form="rle")
    assert [region.box for region in found.regions] == [(0.5, 0.25, 1, 0.5), (0.5625, 0.05, 0.8125, 0.25)]
    assert found.cut == (0.5, 0, 1, 0.5)


def yolo(across: int = 40) -> tuple[FloatArray, FloatArray]:
    """Return a table of three labels and two weights, and prototypes: left half, upper half."""
    table = np.zeros((1, 9, across), np.float32)
    prototypes = np.full((1, 16, 16, 2), -1, np.float32)
    prototypes[0, :, :8, 0] = 1
    prototypes[0, :8, :, 1] = 1
    return table, prototypes


@pytest.mark.parametrize("first", [True, False])
def test_an_object_of_a_yolo_is_its_weighted_prototypes_within_its_box(*, first: bool) -> None:
    table, prototypes = yolo()
    table[0, :, 0] = 32, 32, 32, 32, 0, 0.9, 0, 1, 0  # 16 to 48 of 64 pixels, the left half of it
    table[0, :, 1] = 32, 32, 32, 64, 0, 0, 0.8, 0, 1  # the upper half
    table[0, :, 2] = 33, 32, 32, 64, 0, 0, 0.7, 0, 1  # the same
    if first:
        prototypes = prototypes.transpose(0, 3, 1, 2).copy()
    found = segmented(table, prototypes, picture=(64, 64))
    floor, wall = found.regions
    assert (floor.label, floor.score, floor.box) == ("floor", 0.9, (0.25, 0.25, 0.5, 0.75))
    assert (wall.label, wall.score, wall.box) == ("wall", 0.8, (0.25, 0, 0.75, 0.5))
    assert found.shares == {"floor": 0.125, "wall": 0.25}
    assert sorted(floor.polygon) == [(0.25, 0.25), (0.25, 0.75), (0.5, 0.25), (0.5, 0.75)]
    one, two = segmented(table, prototypes, picture=(64, 64), form="rle", png=True).regions
    assert one.rle is not None
    assert unpacked(one.rle).sum() == 32
    assert two.polygon == []


masks = st.integers(1, 12).flatmap(
    lambda width: st.lists(st.lists(st.integers(0, 2), min_size=width, max_size=width), min_size=1, max_size=12)
)


def flooded(mask: NDArray[np.int64]) -> list[NDArray[np.bool_]]:
    """Return the areas of a mask, pixel by pixel."""
    found = []
    left = {(y, x) for y, x in np.argwhere(mask > 0).tolist()}
    while left:
        todo, area = [left.pop()], np.zeros(mask.shape, bool)
        while todo:
            y, x = todo.pop()
            area[y, x] = True
            for near in ((y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)):
                if near in left and mask[near] == mask[y, x]:
                    left.remove(near)
                    todo.append(near)
        found.append(area)
    return found


def filled(area: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return an area with its holes: what cannot be reached from outside, also around corners."""
    outside = np.pad(~area, 1, constant_values=True)
    reached = np.zeros(outside.shape, bool)
    todo = [(0, 0)]
    while todo:
        y, x = todo.pop()
        if 0 <= y < outside.shape[0] and 0 <= x < outside.shape[1] and outside[y, x] and not reached[y, x]:
            reached[y, x] = True
            todo += [(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
    return ~reached[1:-1, 1:-1]


@settings(max_examples=50)
@given(masks)
def test_an_outline_is_the_border_of_its_area_without_holes(rows: list[list[int]]) -> None:
    mask = np.array(rows)
    found = segmented(mask[None], tolerance=0, points=1000, most=3, least=0, layout="classes")
    truth = sorted(flooded(mask), key=lambda area: -int(area.sum()))
    sizes = [round(int(area.sum()) / mask.size, 5) for area in truth]
    assert [region.share for region in found.regions] == sizes[:3]
    for region in found.regions:
        same = next(area for area in truth if (drawn(region.polygon, mask.shape) == filled(area)).all())
        assert region.share == round(int(same.sum()) / mask.size, 5)


@given(masks)
def test_run_lengths_are_the_mask(rows: list[list[int]]) -> None:
    mask = np.array(rows)
    for region in segmented(mask[None], form="rle", least=0, layout="classes").regions:
        assert region.rle is not None
        np.testing.assert_array_equal(unpacked(region.rle), mask == LABELS.index(region.label))


def test_an_outline_has_few_corners_and_is_within_a_pixel() -> None:
    y, x = np.mgrid[:128, :128]
    disc = ((y - 63.5) ** 2 + (x - 63.5) ** 2 < 50**2).astype(np.int64)
    (region,) = segmented(disc[None], points=60).regions
    assert len(region.polygon) <= 60
    away = np.abs(np.hypot(*(np.array(region.polygon) * 128 - 64).T) - 50)
    assert away.max() < 1.5
    wrong = drawn(region.polygon, disc.shape) != disc
    assert wrong.sum() < 2 * np.pi * 50
    (rough,) = segmented(disc[None], points=6).regions
    assert 3 <= len(rough.polygon) <= 6


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["polygons", "rle"]), st.sampled_from([1, 5, 30]))
def test_noise_gives_a_bounded_result(seed: int, form: str, grain: int) -> None:
    noise = np.random.default_rng(seed).integers(0, 3, (1, 300 // grain, 300 // grain))
    noise = noise.repeat(grain, 1).repeat(grain, 2)
    found = segmented(noise, form=form, png=True, least=0, most=100, points=1000)
    assert found.regions
    assert len(msgspec.msgpack.encode(found)) < 1 << 17


def test_scores_that_are_no_numbers_are_no_reason_to_fail() -> None:
    scores = np.full((1, 8, 8, 3), np.nan, np.float32)
    assert sum(segmented(scores).shares.values()) <= 1
    assert segmented(np.full((1, 8, 8, 1), np.nan, np.float32), labels=["x"]).shares == {}
    table, prototypes = yolo()
    table[...], prototypes[...] = np.inf, np.nan
    with np.errstate(all="ignore"):
        assert segmented(table, prototypes, picture=(64, 64)).regions == []
