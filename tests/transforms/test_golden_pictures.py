"""The transforms of pictures give the numbers of Pillow, OpenCV, TensorFlow and Keras."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from limpet.contracts.frame import Like, Method, Rectangle, View
from limpet.pictures.rendering import renderer
from support import golden_pictures

ARRAYS = golden_pictures.arrays()
FILTERS: dict[Method, Image.Resampling] = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "area": Image.Resampling.BOX,
}
sizes = st.tuples(st.integers(1, 70), st.integers(1, 70))


@pytest.mark.parametrize("case", golden_pictures.cases(), ids=lambda case: case.name)
def test_a_transform_gives_the_numbers_of_the_library(case: golden_pictures.Case) -> None:
    for number, (name, size) in enumerate(case.inputs):
        wanted = ARRAYS[f"{case.name}/{number}"]
        found = golden_pictures.made(case, ARRAYS[name], size)
        assert found.dtype == wanted.dtype
        difference = np.abs(found.astype(np.float64).reshape(wanted.shape) - wanted)
        assert difference.max() <= case.difference
    assert case.difference <= (1 if wanted.dtype == np.uint8 else 0.005)


def resize(picture: np.ndarray, width: int, height: int, method: Method, like: Like = "pillow") -> np.ndarray:
    part = Rectangle(0, 0, picture.shape[1], picture.shape[0])
    view = View(part=part, width=width, height=height, method=method, like=like, antialias=like == "pillow")
    return renderer(view, picture.shape, picture.dtype)(picture)


@settings(deadline=None, max_examples=60)
@given(sizes, sizes, st.sampled_from(sorted(FILTERS)), st.integers(0, 9))
def test_bytes_of_any_size_are_exactly_those_of_pillow(
    old: tuple[int, int], new: tuple[int, int], method: Method, seed: int
) -> None:
    picture = np.random.default_rng(seed).integers(0, 256, (*old, 3), np.uint8)
    wanted = np.asarray(Image.fromarray(picture).resize(new, FILTERS[method]))
    np.testing.assert_array_equal(resize(picture, *new, method), wanted)


@settings(deadline=None, max_examples=60)
@given(
    sizes,
    sizes,
    st.sampled_from(sorted(FILTERS)),
    st.sampled_from(["pillow", "opencv", "tensorflow"]),
    st.sampled_from(["uint8", "float32"]),
)
def test_a_picture_of_one_colour_keeps_it_at_any_size(
    old: tuple[int, int], new: tuple[int, int], method: Method, like: Like, dtype: str
) -> None:
    picture = np.full((*old, 3), (0, 77, 255), dtype)
    found = resize(picture, *new, method, like)
    assert found.shape == (new[1], new[0], 3)
    # TensorFlow's areas are computed in float32.
    np.testing.assert_allclose(found, np.broadcast_to(np.float32([0, 77, 255]), found.shape), atol=0.01)


def test_a_part_and_a_border_are_those_of_the_view() -> None:
    picture = np.arange(5 * 6 * 3, dtype=np.uint8).reshape(5, 6, 3)
    view = View(part=Rectangle(1, 2, 3, 2), width=3, height=2, border=(1, 0, 2, 1), fill=9, colour="bgr")
    found = renderer(view, picture.shape, picture.dtype)(picture)
    wanted = np.full((3, 6, 3), 9, np.uint8)
    wanted[:2, 1:4] = picture[2:4, 1:4, ::-1]
    np.testing.assert_array_equal(found, wanted)
    assert found.shape == view.shape


@pytest.mark.parametrize("part", [Rectangle(4, 0, 3, 2), Rectangle(0, 0, 0, 2), Rectangle(-1, 0, 2, 2)])
def test_a_part_that_a_picture_has_not_is_refused(part: Rectangle) -> None:
    with pytest.raises(ValueError, match="a picture of 6x5 has no part of"):
        renderer(View(part=part, width=2, height=2), (5, 6, 3), np.dtype(np.uint8))
