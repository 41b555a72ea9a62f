"""Real videos, made by FFmpeg's own encoders: a bright square that moves over a dark picture."""

from __future__ import annotations

import io
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import av
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SIDE = 16
"""Pixels of a side of the square."""


def picture(number: int, width: int = 128, height: int = 96) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return the picture with this number, RGB: its square is ``4 * number`` pixels from the left."""
    made = np.full((height, width, 3), 40, np.uint8)
    left = 4 * number % (width - SIDE)
    made[height // 2 :, :, 2] = 120
    made[8 : 8 + SIDE, left : left + SIDE] = 230
    return made


def left_of_square(pixels: Any) -> int:
    """Return how far the square is from the left."""
    columns = np.asarray(pixels)[12, :, 1] > 130
    return int(np.flatnonzero(columns)[0])


def packets(
    codec: str, count: int, size: tuple[int, int] = (128, 96), rate: int = 25, **options: str
) -> Iterator[bytes]:
    """Yield each picture encoded, as an elementary stream."""
    context: Any = av.CodecContext.create(codec, "w")
    context.width, context.height = size
    context.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    context.time_base = Fraction(1, rate)
    context.framerate = Fraction(rate, 1)
    context.options = options
    for number in range(count):
        frame = av.VideoFrame.from_ndarray(picture(number, *size), "rgb24").reformat(format=context.pix_fmt)
        frame.pts = number
        frame.time_base = context.time_base
        for packet in context.encode(frame):
            yield bytes(packet)
    for packet in context.encode(None):
        yield bytes(packet)


def jpegs(count: int, size: tuple[int, int] = (128, 96)) -> list[bytes]:
    """Return pictures as JPEG files."""
    return list(packets("mjpeg", count, size, qmin="2", qmax="3"))


def write(
    path: Path,
    count: int = 25,
    codec: str = "libx264",
    *,
    size: tuple[int, int] = (128, 96),
    rate: int = 25,
    form: str | None = None,
    **options: str,
) -> Path:
    """Write a video. Its format is that of the path's suffix."""
    with av.open(str(path), "w", format=form, options=options) as container:
        stream: Any = container.add_stream(codec, rate=rate)
        stream.width, stream.height = size
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.gop_size = 5
        stream.codec_context.max_b_frames = 0
        for number in range(count):
            frame = av.VideoFrame.from_ndarray(picture(number, *size), "rgb24")
            for packet in stream.encode(frame.reformat(format=stream.pix_fmt)):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def write_with(path: Path, count: int = 25, *, sound: float = 0.0, preview: bool = False) -> Path:
    """Write a video of 25 frames a second with other streams: seconds of ``sound``, and a small preview first."""
    with av.open(str(path), "w") as container:
        small: Any = container.add_stream("mjpeg", rate=1) if preview else None
        stream: Any = container.add_stream("libx264", rate=25)
        heard: Any = container.add_stream("aac", rate=16_000) if sound else None
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        if small is not None:
            small.width, small.height, small.pix_fmt = 64, 48, "yuvj420p"
            for number in range(2):
                container.mux(small.encode(av.VideoFrame.from_ndarray(picture(number, 64, 48), "rgb24")))
        for number in range(count):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(number), "rgb24")))
        container.mux(stream.encode(None))
        for number in range(int(sound * 16_000 / 1024)):
            block = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
            block.sample_rate, block.pts = 16_000, number * 1024
            container.mux(heard.encode(block))
        for each in (small, heard):
            if each is not None:
                container.mux(each.encode(None))
    return path


class _Packets(io.RawIOBase):
    """Collects what FFmpeg's RTP packetiser writes, a packet at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.found.append(bytes(data))
        return len(data)


def rtp(count: int, size: tuple[int, int] = (128, 96), rate: int = 25, between: int = 0) -> Iterator[list[bytes]]:
    """Yield the RTP packets of each picture in H.264, as FFmpeg cuts them; RTCP reports are among them.

    Every fifth is a key picture. ``between``: so many pictures in a row refer to later ones too.
    """
    sink = _Packets()
    with av.open(sink, "w", format="rtp", buffer_size=1200) as container:
        options = (
            {"x264-params": f"bframes={between}:b-adapt=0:rc-lookahead=0:threads=1"}
            if between
            else {"tune": "zerolatency", "g": "5"}
        )
        stream: Any = container.add_stream("libx264", rate=rate, options=options)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.flags &= ~(1 << 22)  # parameter sets go with the pictures
        for number in range(count):
            frame = av.VideoFrame.from_ndarray(picture(number, *size), "rgb24").reformat(format="yuv420p")
            for packet in stream.encode(frame):
                container.mux(packet)
            found, sink.found = sink.found, []
            yield found
