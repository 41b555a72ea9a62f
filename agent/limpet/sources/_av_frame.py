"""Pictures of PyAV as frames: they keep the memory of the decoder or the driver until a pipeline wants pixels.

A frame is made of a ``Picture``: either one that is decoded, or the bytes that one can be decoded from. Those are
decoded once, when the first pipeline takes the frame. libswscale then does size and colours in one pass. What is
cut away is skipped by an offset, without a copy.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeAlias

import av
import av.codec
import av.error
import av.filter
import numpy as np
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter
from msgspec.structs import replace

from limpet.contracts.frame import FrameForm, Rectangle, View
from limpet.pictures.rendering import renderer
from limpet.sources import _av_limits, _jpeg

if TYPE_CHECKING:
    from fractions import Fraction

    from numpy.typing import NDArray

    from limpet.contracts.frame import Developer

Rotation: TypeAlias = Literal[0, 90, 180, 270]
"""By how many degrees a picture is turned clockwise so that it is upright."""

_PIXELS = {"rgb": "rgb24", "bgr": "bgr24", "grey": "gray"}
_METHODS = {
    "nearest": Interpolation.POINT,
    "bilinear": Interpolation.BILINEAR,
    "bicubic": Interpolation.BICUBIC,
    "area": Interpolation.AREA,
}
"""What libswscale scales down is smoothed, but with ``nearest``."""
_BITS = {"yuyv422": 16, "nv12": 12, "gray": 8}
"""Bits of a pixel where pixels are raw."""
MOST_PIXELS = 40_000_000
"""Pixels of a picture at most: 8K has 33 million."""
MOST_SIDE = 16_384
"""Pixels of a side of a picture at most."""


class Size(NamedTuple):
    """Width and height in pixels."""

    width: int
    height: int

    @property
    def bounded(self) -> bool:
        """Whether pictures of this size are taken."""
        return min(self) > 0 and max(self) <= MOST_SIDE and self.width * self.height <= MOST_PIXELS


class Picture(Protocol):
    """One picture as its decoder or its driver has it."""

    @property
    def size(self) -> Size:
        """Its size before it is turned and cut."""

    @property
    def format(self) -> str:
        """How its pixels are stored."""

    @property
    def nbytes(self) -> int:
        """Bytes that it holds in memory."""

    def decoded(self) -> av.VideoFrame:
        """Return it decoded. ``ValueError`` if it is damaged."""


class Decoded:
    """A picture that is decoded: it refers to the decoder's own memory."""

    def __init__(self, frame: av.VideoFrame) -> None:
        self.size = Size(frame.width, frame.height)
        self.format = frame.format.name
        self.nbytes = sum(plane.buffer_size for plane in frame.planes)
        self._frame = frame

    def decoded(self) -> av.VideoFrame:
        """Return it."""
        return self._frame


class Decoder:
    """Makes pictures of bytes that hold one each, such as JPEG or a camera's raw pixels. For any thread."""

    def __init__(self, codec: str, size: Size, pixels: str = "") -> None:
        """``pixels``: FFmpeg's name of the format of raw pixels, one of ``_BITS``. Empty for other codecs."""
        _av_limits.install()
        self.pixels = pixels
        self.raw = bool(pixels)
        self.bytes_of_one = _BITS[pixels] * size.width * size.height // 8 if pixels else 1
        self._size = size
        self._codec = codec
        self._context = self._open()
        self._lock = threading.Lock()

    def _open(self) -> Any:
        context: Any = av.codec.CodecContext.create(self._codec, "r")
        context.width, context.height = self._size
        context.thread_count = 1
        if self.pixels:
            context.pix_fmt = self.pixels
        else:
            # Not err_detect=explode: pictures of many webcams break the standard a little in each frame.
            context.options = {"max_pixels": str(MOST_PIXELS)}
        return context

    def decode(self, packet: Any) -> av.VideoFrame:
        """Return the picture in a packet. Raw pixels are not copied. ``ValueError`` if it is damaged."""
        with self._lock:
            try:
                frames = self._context.decode(packet)
            except (av.error.FFmpegError, ValueError) as error:
                self._context = self._open()
                raise ValueError(f"a damaged picture: {error.__class__.__name__}") from error
        if len(frames) != 1 or frames[0].is_corrupt:
            raise ValueError("a damaged picture")
        frame: av.VideoFrame = frames[0]
        return frame


class Encoded:
    """A picture that is decoded when it is first wanted."""

    def __init__(self, packet: Any, decoder: Decoder, size: Size, form: str) -> None:
        """``packet``: an ``av.Packet`` with the bytes of this picture alone."""
        self.size = size
        self.format = form
        self.nbytes = packet.size
        self._packet = packet
        self._decoder = decoder
        self._frame: av.VideoFrame | None = None
        self._lock = threading.Lock()

    def decoded(self) -> av.VideoFrame:
        """Return it decoded; once, however many pipelines take it."""
        with self._lock:
            if self._frame is None:
                self._frame = self._decoder.decode(self._packet)
                self.nbytes = max(self.nbytes, sum(plane.buffer_size for plane in self._frame.planes))
            return self._frame


class Jpegs:
    """The pictures of packets that are one JPEG each. One decoder decodes them, whatever their size."""

    def __init__(self) -> None:
        self._decoder: Decoder | None = None

    def picture(self, packet: Any) -> Encoded:
        """Return the picture of an ``av.Packet``. ``ValueError`` if it is no JPEG that Limpet takes."""
        size = Size(*_jpeg.size(packet))
        if self._decoder is None:
            self._decoder = Decoder("mjpeg", size)
        return Encoded(packet, self._decoder, size, "mjpeg")


class Mounting(NamedTuple):
    """How a camera is mounted: its picture is turned so that it is upright, then mirrored, and then cut."""

    rotation: Rotation = 0
    crop: Rectangle | None = None
    mirrored: bool = False

    def upright(self, size: Size) -> Rectangle:
        """Return the part of the upright picture that is used. ``ValueError``: it is not inside."""
        width, height = size if self.rotation % 180 == 0 else reversed(size)
        crop = self.crop
        if crop is None:
            return Rectangle(0, 0, width, height)
        if crop.left + crop.width > width or crop.top + crop.height > height:
            wanted = f"[{crop.left}, {crop.top}, {crop.width}, {crop.height}]"
            raise ValueError(f"crop {wanted} is not inside of the picture, which is {width}x{height}")
        return crop

    def stored(self, part: Rectangle, size: Size) -> Rectangle:
        """Return where a part of the used picture is in the picture as it is stored."""
        used = self.upright(size)
        left, top = used.left + part.left, used.top + part.top
        if self.mirrored:
            left = (size.width if self.rotation % 180 == 0 else size.height) - left - part.width
        right, bottom = left + part.width, top + part.height
        if self.rotation == 90:
            return Rectangle(top, size.height - right, part.height, part.width)
        if self.rotation == 180:
            return Rectangle(size.width - right, size.height - bottom, part.width, part.height)
        if self.rotation == 270:
            return Rectangle(size.width - bottom, left, part.height, part.width)
        return Rectangle(left, top, part.width, part.height)


AS_IT_IS = Mounting()


class AvFrame:
    """A picture with what makes it upright. See ``limpet.contracts.frame.Frame``."""

    def __init__(self, picture: Picture, mounting: Mounting = AS_IT_IS) -> None:
        """``ValueError``: the mounting's crop is not inside of the picture, or the picture is too large."""
        if not picture.size.bounded:
            raise ValueError(f"the picture is {picture.size.width}x{picture.size.height}, which is too large")
        used = mounting.upright(picture.size)
        self.form = FrameForm(used.width, used.height, picture.format)
        self.picture = picture
        self.mounting = mounting

    @property
    def nbytes(self) -> int:
        """Bytes that it holds in memory."""
        return self.picture.nbytes

    def developer(self, view: View) -> Developer:
        """Prepare to develop frames of this form. ``ValueError`` if its part is not inside of the frame.

        Where colours are stored for two pixels in one, ``part`` begins at an even pixel: one off at most.
        """
        part = view.part
        inside = part.left >= 0 and part.top >= 0 and part.width > 0 and part.height > 0
        if not inside or part.left + part.width > self.form.width or part.top + part.height > self.form.height:
            raise ValueError(f"{part} is not inside of a frame of {self.form.width}x{self.form.height}")
        if view.like != "any":
            return _like_a_library(self, view)
        return _Developer(self, view).develop


def _like_a_library(frame: AvFrame, view: View) -> Developer:
    """Return what converts all of a part to RGB, and then scales it with that library's numbers."""
    part = Rectangle(0, 0, view.part.width, view.part.height)
    convert = _Developer(frame, View(part=view.part, width=part.width, height=part.height))
    render = renderer(replace(view, part=part), (part.height, part.width, 3), np.dtype(np.uint8))
    return lambda each: render(convert.develop(each))


class _Developer:
    """Develops frames of one form to one view."""

    def __init__(self, frame: AvFrame, view: View) -> None:
        self._form, self._size, self._mounting = frame.form, frame.picture.size, frame.mounting
        self._part = frame.mounting.stored(view.part, self._size)
        turned = frame.mounting.rotation % 180 == 90
        self._scaled = Size(view.height, view.width) if turned else Size(view.width, view.height)
        self._turns = -frame.mounting.rotation // 90
        self._format = _PIXELS[view.colour]
        self._interpolation = _METHODS[view.method]
        if view.method == "bilinear" and not view.antialias:
            self._interpolation = Interpolation.FAST_BILINEAR
        self._reformatter = VideoReformatter()
        self._cutter: _Cutter | None = None
        left, top, _, _ = view.border
        self._inside = (slice(top, top + view.height), slice(left, left + view.width))
        self._bordered: NDArray[np.uint8] | None = None
        if any(view.border):
            self._bordered = np.full(view.shape, view.fill, np.uint8)

    def develop(self, frame: AvFrame) -> NDArray[Any]:
        """Return the pixels of a frame. ``ValueError`` if it is damaged or has another form."""
        if frame.form != self._form or frame.mounting != self._mounting or frame.picture.size != self._size:
            raise ValueError("a frame of another form")
        source = frame.picture.decoded()
        if (source.width, source.height) != self._size:
            raise ValueError(f"a picture of {source.width}x{source.height} where {self._size} was announced")
        try:
            pixels = self._convert(source)
        except (av.error.FFmpegError, ValueError) as error:
            raise ValueError(f"a picture that cannot be converted: {error}") from error
        if self._turns:
            pixels = np.rot90(pixels, self._turns)
        if self._mounting.mirrored:
            pixels = pixels[:, ::-1]
        if self._bordered is None:
            return pixels
        self._bordered[self._inside] = pixels
        return self._bordered

    def _convert(self, source: av.VideoFrame) -> NDArray[np.uint8]:
        """Cut, scale and colour. The result is a view of what libswscale wrote."""
        if self._part != Rectangle(0, 0, *self._size):
            if self._cutter is None or not self._cutter.takes(source):
                self._cutter = _Cutter(source, self._part)
            source = self._cutter.cut(source)
        made = self._reformatter.reformat(
            source,
            *self._scaled,
            self._format,
            interpolation=self._interpolation,
            # Without this, grey keeps the range of a video's luma, 16 to 235.
            dst_color_range=ColorRange.JPEG,
            threads=1,
        )
        return pixels_of(made)


class _Cutter:
    """Cuts a part out of pictures with libavfilter, which moves pointers and copies nothing."""

    def __init__(self, source: av.VideoFrame, part: Rectangle) -> None:
        self._format = source.format.name
        self._size = (source.width, source.height)
        graph = av.filter.Graph()
        graph.threads = 1
        time_base = source.time_base or _NO_TIME
        first = graph.add_buffer(
            width=source.width, height=source.height, format=source.format, time_base=time_base
        )
        crop = graph.add("crop", f"{part.width}:{part.height}:{part.left}:{part.top}")
        graph.link_nodes(first, crop, graph.add("buffersink")).configure()
        self._graph = graph

    def takes(self, source: av.VideoFrame) -> bool:
        """Whether a picture is like the first one."""
        return source.format.name == self._format and (source.width, source.height) == self._size

    def cut(self, source: av.VideoFrame) -> av.VideoFrame:
        """Return a part of a picture, in the same memory."""
        self._graph.vpush(source)
        return self._graph.vpull()


def pixels_of(frame: av.VideoFrame) -> NDArray[np.uint8]:
    """Return packed pixels of one plane, uint8 ``(height, width, channels)``, in the frame's own memory."""
    plane = frame.planes[0]
    channels = 1 if frame.format.name == "gray" else 3
    memory: Any = plane
    rows: NDArray[np.uint8] = np.frombuffer(memory, np.uint8).reshape(frame.height, plane.line_size)
    return rows[:, : frame.width * channels].reshape(frame.height, frame.width, channels)


def _no_time() -> Fraction:
    from fractions import Fraction as Exact

    return Exact(1, 1000)


_NO_TIME = _no_time()
