"""Frames of PyAV: which memory they hold, and what a view makes of them."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import av
import numpy as np
import pytest
from av.video.plane import VideoPlane
from hypothesis import given
from hypothesis import strategies as st

from limpet.contracts.frame import Colour, Like, Rectangle, View, whole
from limpet.pictures.rendering import renderer
from limpet.sources._av_frame import AvFrame, Decoded, Decoder, Encoded, Mounting, Rotation, Size
from support import videos

WIDTH, HEIGHT = 640, 480


def gradients() -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return a picture whose colours change slowly, so that colour resolution does not matter."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack([x * 255 // WIDTH, y * 255 // HEIGHT, (x + y) * 255 // (WIDTH + HEIGHT)], -1).astype(np.uint8)


def camera_memory(pixels: str = "yuyv422") -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return what a driver would have written: a picture in this format."""
    frame = av.VideoFrame.from_ndarray(gradients(), "rgb24").reformat(format=pixels)
    parts = [np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size) for plane in frame.planes]  # type: ignore[call-overload]
    rows = WIDTH * 2 if pixels == "yuyv422" else WIDTH
    return np.concatenate([part[:, :rows].reshape(-1) for part in parts])


def frame_of(memory: Any, pixels: str = "yuyv422", mounting: Mounting | None = None) -> AvFrame:
    size = Size(WIDTH, HEIGHT)
    picture = Encoded(av.Packet(memory), Decoder("rawvideo", size, pixels), size, pixels)
    return AvFrame(picture, mounting or Mounting())


def address(frame: av.VideoFrame) -> int:
    return frame.planes[0].buffer_ptr


def test_the_pixels_of_a_driver_are_not_copied() -> None:
    memory = camera_memory()
    frame = frame_of(memory)
    assert address(frame.picture.decoded()) == memory.ctypes.data
    assert frame.nbytes == memory.nbytes


def test_a_buffer_is_free_when_nothing_refers_to_its_frame_any_more() -> None:
    freed: list[bool] = []
    memory = camera_memory()
    weakref.finalize(memory, freed.append, True)
    frame: AvFrame | None = frame_of(memory)
    assert frame is not None
    pixels = frame.developer(whole(frame.form))(frame)
    del memory
    gc.collect()
    assert not freed
    assert pixels.shape == (HEIGHT, WIDTH, 3)
    frame = None
    gc.collect()
    assert freed == [True]


def test_what_is_developed_is_the_memory_that_the_conversion_wrote() -> None:
    frame = frame_of(camera_memory())
    pixels = frame.developer(View(part=Rectangle(0, 0, WIDTH, HEIGHT), width=224, height=224))(frame)
    owner: Any = pixels
    while not isinstance(owner, VideoPlane):
        owner = owner.obj if isinstance(owner, memoryview) else owner.base
    assert pixels.ctypes.data == owner.buffer_ptr


def test_a_part_is_cut_out_without_a_copy() -> None:
    """Of a frame that is large, the conversion of a small part takes memory for that part alone."""
    side = 4096
    memory = np.zeros(side * side * 2, np.uint8)
    memory[1::2] = 128
    at = (100 * side + 200) * 2
    memory[at : at + 2 * 16 : 2] = 235
    size = Size(side, side)
    frame = AvFrame(Encoded(av.Packet(memory), Decoder("rawvideo", size, "yuyv422"), size, "yuyv422"))  # type: ignore[arg-type]
    develop = frame.developer(View(part=Rectangle(200, 100, 16, 16), width=16, height=16, method="nearest"))
    pixels = develop(frame)
    assert pixels[0].min() > 250
    assert pixels[1:].max() < 5
    memory[at : at + 2 * 16 : 2] = 16
    assert develop(frame)[0].max() < 5, "the second one sees what is in the driver's memory now"


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize("pixels", ["yuyv422", "nv12", "yuv420p"])
def test_a_part_of_the_upright_picture_is_what_the_model_sees(rotation: Rotation, pixels: str) -> None:
    if pixels == "yuv420p":
        made = av.VideoFrame.from_ndarray(gradients(), "rgb24").reformat(format=pixels)
        frame = AvFrame(Decoded(made), Mounting(rotation))
    else:
        frame = frame_of(camera_memory(pixels), pixels, Mounting(rotation))
    upright = np.rot90(gradients(), -rotation // 90)
    assert (frame.form.height, frame.form.width) == upright.shape[:2]
    part = Rectangle(100, 40, 200, 300)
    pixels_seen = frame.developer(View(part=part, width=200, height=300))(frame)
    wanted = upright[40:340, 100:300].astype(int)
    assert np.abs(pixels_seen - wanted).max() <= 6


def test_a_source_cuts_its_upright_picture() -> None:
    crop = Rectangle(40, 200, 300, 400)
    frame = frame_of(camera_memory(), mounting=Mounting(90, crop))
    assert (frame.form.width, frame.form.height) == (300, 400)
    seen = frame.developer(whole(frame.form))(frame)
    wanted = np.rot90(gradients(), -1)[200:600, 40:340].astype(int)
    assert np.abs(seen - wanted).max() <= 6
    with pytest.raises(ValueError, match="not inside of the picture, which is 480x640"):
        frame_of(camera_memory(), mounting=Mounting(90, Rectangle(0, 0, 640, 480)))


@pytest.mark.parametrize("colour", ["rgb", "bgr", "grey"])
def test_border_and_colours_come_with_the_size(colour: Colour) -> None:
    frame = frame_of(camera_memory())
    view = View(
        part=Rectangle(0, 0, WIDTH, HEIGHT), width=64, height=48, border=(0, 8, 0, 9), fill=114, colour=colour
    )
    seen = frame.developer(view)(frame)
    assert seen.shape == view.shape
    assert (seen[:8] == 114).all()
    assert (seen[-9:] == 114).all()
    small = gradients()[5::10, 5::10].astype(int)
    luma = (small @ [0.299, 0.587, 0.114])[..., np.newaxis]
    wanted = {"rgb": small, "bgr": small[..., ::-1], "grey": luma}[colour]
    assert np.abs(seen[8:-9] - wanted).max() <= 8


@pytest.mark.parametrize("like", ["pillow", "opencv", "tensorflow"])
def test_numbers_of_a_library_come_from_the_whole_picture_in_rgb(like: Like) -> None:
    """Those of an array, which has its own golden values; but for how libswscale rounds in vectors."""
    frame = frame_of(camera_memory(), mounting=Mounting(90))
    rgb = np.array(frame.developer(whole(frame.form))(frame))
    view = View(
        part=Rectangle(20, 40, 200, 300), width=50, height=70, like=like, border=(1, 2, 3, 4), colour="bgr"
    )
    seen = frame.developer(view)(frame)
    wanted = renderer(view, rgb.shape, rgb.dtype)(rgb)
    assert seen.dtype == wanted.dtype
    difference = np.abs(seen.astype(float) - wanted)
    assert difference.mean() < 1
    assert difference.max() < 6


def test_white_is_255_in_grey() -> None:
    white = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 255, np.uint8), "rgb24").reformat(format="yuv420p")
    frame = AvFrame(Decoded(white))
    view = View(part=Rectangle(0, 0, 32, 32), width=16, height=16, colour="grey")
    assert frame.developer(view)(frame).min() == 255


def test_a_jpeg_is_decoded_once_and_only_when_it_is_wanted() -> None:
    data = videos.jpegs(1)[0]
    size = Size(128, 96)
    frame = AvFrame(Encoded(av.Packet(data), Decoder("mjpeg", size), size, "mjpeg"))
    assert frame.nbytes == len(data)
    develop = frame.developer(whole(frame.form))
    first = develop(frame).copy()
    decoded = frame.picture.decoded()
    assert frame.nbytes >= 128 * 96 * 3 // 2
    assert np.array_equal(develop(frame), first)
    assert frame.picture.decoded() is decoded
    assert videos.left_of_square(first) == 0


@given(st.binary(max_size=300), st.integers(0, 2000))
def test_a_damaged_jpeg_is_a_value_error(noise: bytes, at: int) -> None:
    data = bytearray(JPEG)
    data[at : at + len(noise)] = noise
    size = Size(128, 96)
    frame = AvFrame(Encoded(av.Packet(bytes(data)), Decoder("mjpeg", size), size, "mjpeg"))
    try:
        pixels = frame.developer(whole(frame.form))(frame)
    except ValueError:
        return
    assert pixels.shape == (96, 128, 3)


JPEG = videos.jpegs(1)[0]


def test_a_part_outside_of_the_frame_is_refused() -> None:
    frame = frame_of(camera_memory())
    with pytest.raises(ValueError, match="not inside"):
        frame.developer(View(part=Rectangle(600, 0, 100, 10), width=10, height=10))


def test_a_frame_of_another_form_is_refused() -> None:
    frame = frame_of(camera_memory())
    develop = frame.developer(whole(frame.form))
    made = av.VideoFrame.from_ndarray(videos.picture(0), "rgb24")
    with pytest.raises(ValueError, match="another form"):
        develop(AvFrame(Decoded(made)))
