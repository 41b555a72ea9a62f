"""Video files, a frame at a time: as many frames are in memory as are in use, however long a video is."""

from __future__ import annotations

import struct
from math import atan2, degrees, isfinite
from typing import TYPE_CHECKING, Any, NamedTuple

import av
import av.error
from av.sidedata.sidedata import Type as SideData
from av.stream import Disposition

from limpet.errors import UnreadableError
from limpet.sources import _av_limits, _av_log
from limpet.sources._av_frame import MOST_PIXELS, AvFrame, Decoded, Jpegs, Mounting, Size

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterator
    from pathlib import Path

    from limpet.sources._av_frame import Picture

_FORMATS = (
    "mov,mp4,matroska,webm,avi,mjpeg,mpegts,mpeg,mpegvideo,flv,h264,hevc,ogg,asf,ivf,yuv4mpegpipe,nut,gif,m4v,dv"
)
"""No playlist is among them: one could name other files."""
_UNTIMED = {"mjpeg", "h264", "hevc", "m4v", "mpegvideo", "mjpeg_2000"}
"""Formats without times. FFmpeg makes some up."""
_FFMPEG: Any = av.error.FFmpegError
_TOLERATED = 2
"""Frames that a video may have fewer than its head says, as heads are rounded."""
_BACK = 0.5
"""Seconds by which times go back where another recording begins, as in files that were put together."""
_AHEAD = 10.0
"""Seconds by which times jump ahead there, in a format that allows it."""
_JUMPING = {"mpegts"}


class Facts(NamedTuple):
    """What the head of a video says. ``size``: of the upright picture. ``rate``, ``seconds``: 0 if unknown."""

    size: Size
    rate: float
    seconds: float


class Timed(NamedTuple):
    """A frame, its ordinal and its time from the first one; ``None``: the file does not say."""

    number: int
    seconds: float | None
    frame: AvFrame


class Video:
    """A video file. ``UnreadableError``: it is none, or its head is damaged."""

    def __init__(self, path: Path) -> None:
        _av_log.install()
        _av_limits.install()
        self.path = path
        with self._opened() as container:
            stream = self._stream(container)
            self._mounted = mounting = self._mounting(container)
            size = Size(stream.codec_context.width, stream.codec_context.height)
            if not size.bounded:
                raise UnreadableError(f"its pictures are {size.width}x{size.height}, which is too large")
            used = mounting.upright(size)
            self._timed = container.format.name not in _UNTIMED
            rate = float(stream.average_rate or stream.guessed_rate or 0) if self._timed else 0.0
            seconds = _duration(container, stream) if self._timed else 0.0
            self.facts = Facts(Size(used.width, used.height), rate, max(0.0, seconds))

    def _opened(self) -> Any:
        """Open the file, and nothing that it names."""
        options = {
            "protocol_whitelist": "file",
            "format_whitelist": _FORMATS,
            "max_pixels": str(MOST_PIXELS),
            "max_streams": "64",
            "codec_whitelist": _av_limits.CODEC_LIST,
        }
        try:
            return av.open(f"file:{self.path}", container_options=options, metadata_errors="replace")
        except PermissionError:
            raise
        except _FFMPEG as error:
            raise UnreadableError(_reason(error)) from error

    @staticmethod
    def _stream(container: Any) -> Any:
        stream = main_video(container)
        if stream is None:
            raise UnreadableError("it has no pictures")
        if stream.codec_context is None or stream.codec_context.name not in _av_limits.CODECS:
            raise UnreadableError("FFmpeg cannot decode its pictures")
        return stream

    def _mounting(self, container: Any) -> Mounting:
        """Return how the pictures are to be turned: a telephone notes how it was held."""
        try:
            frame = next(container.decode(self._stream(container)), None)
        except (_FFMPEG, ValueError):
            return Mounting()
        matrix = None if frame is None else frame.side_data.get(SideData.DISPLAYMATRIX)
        return Mounting() if matrix is None else held(bytes(matrix))

    def frames(self, dropped: Counter[str]) -> Iterator[Timed]:
        """Yield the frames, once. The end of what can be read is the end.

        What cannot be decoded is counted as ``corrupt``, and what is missing at the end as ``cut_short``.
        """
        with self._opened() as container:
            stream = self._stream(container)
            times = _Times(container, stream) if self._timed else None
            reader = _Reader(stream, self._mounted, dropped, times)
            try:
                for packet in container.demux(stream):
                    yield from reader.pictures(packet)
            except _FFMPEG:
                dropped["corrupt"] += 1
        if times is not None:
            self._count_missing(times, dropped)

    def _count_missing(self, times: _Times, dropped: Counter[str]) -> None:
        """Count what is missing at the end, and at the beginning, before the first picture that needs no other."""
        early = round(times.waited * self.facts.rate)
        if early > _TOLERATED:
            dropped["corrupt"] += early
        if times.jumped:
            return
        missing = round((self.facts.seconds - times.until) * self.facts.rate)
        if missing > _TOLERATED:
            dropped["cut_short"] += missing


class _Times:
    """Times of frames from the first one. Where another recording begins, they go on."""

    def __init__(self, container: Any, stream: Any) -> None:
        self.until = 0.0
        """When the last frame ends, from where the stream begins."""
        self.waited = 0.0
        """How long after that the first frame is."""
        self.jumped = False
        self._jumps = container.format.name in _JUMPING
        self._begin = float((stream.start_time or 0) * stream.time_base)
        self._usual = 1 / float(stream.average_rate or stream.guessed_rate or 25)
        self._first: float | None = None
        self._last = self._at = 0.0

    def at(self, timed: Any) -> float | None:
        """Return the time of a packet or a frame; ``None``: the file does not say."""
        if timed.pts is None:
            return None
        seconds = float(timed.pts * timed.time_base)
        if self._first is None:
            self._first = self._last = seconds
            self.waited = seconds - self._begin
        step = seconds - self._last
        if step < -_BACK or (self._jumps and step > _AHEAD):
            self.jumped = True
            self._first = seconds - self._at - self._usual
        self._last = seconds
        self._at = max(self._at, seconds - self._first)
        lasts = float((timed.duration or 0) * timed.time_base) or self._usual
        self.until = max(self.until, seconds + lasts - self._begin)
        return self._at


class _Reader:
    """Makes frames of packets."""

    def __init__(self, stream: Any, mounting: Mounting, dropped: Counter[str], times: _Times | None) -> None:
        self._stream, self._mounting, self._dropped, self._times = stream, mounting, dropped, times
        self._number = 0
        self._jpegs = Jpegs()
        stream.codec_context.options = {"max_pixels": str(MOST_PIXELS)}

    def pictures(self, packet: Any) -> Iterator[Timed]:
        """Yield the frames that a packet completes."""
        try:
            found = self._found(packet)
        except EOFError:
            return
        except (_FFMPEG, ValueError):
            self._dropped["corrupt"] += 1
            self._number += 1
            return
        for picture, seconds in found:
            yield Timed(self._number, seconds, AvFrame(picture, self._mounting))
            self._number += 1

    def _found(self, packet: Any) -> list[tuple[Picture, float | None]]:
        if self._stream.codec_context.name == "mjpeg":
            return [(self._jpegs.picture(packet), self._seconds(packet))] if packet.size else []
        found: list[tuple[Picture, float | None]] = []
        for frame in packet.decode():
            if frame.is_corrupt:
                self._dropped["corrupt"] += 1
                self._number += 1
            else:
                found.append((Decoded(frame), self._seconds(frame)))
        return found

    def _seconds(self, timed: Any) -> float | None:
        return None if self._times is None else self._times.at(timed)


def main_video(container: Any) -> Any:
    """Return the stream of pictures that a person would watch, ``None`` if there is none.

    Beside it a file may have a cover, or a preview that is small.
    """
    streams = list(container.streams.video)
    watched = [each for each in streams if each.codec_context and not each.disposition & Disposition.attached_pic]
    return max(
        watched or streams,
        key=lambda each: each.codec_context.width * each.codec_context.height if each.codec_context else 0,
        default=None,
    )


def _duration(container: Any, stream: Any) -> float:
    """Return how many seconds the pictures last, 0 if unknown. Sound may last longer."""
    if stream.duration is not None:
        return float(stream.duration * stream.time_base)
    noted = stream.metadata.get("DURATION", "").split(":")  # as in Matroska
    try:
        hours, minutes, seconds = map(float, noted)
    except ValueError:
        return (container.duration or 0) / 1e6 if len(container.streams) == 1 else 0.0
    return hours * 3600 + minutes * 60 + seconds if isfinite(hours + minutes + seconds) else 0.0


def held(matrix: bytes) -> Mounting:
    """Return how pictures are to be turned and mirrored by a display matrix: nine int32, row by row."""
    right, down, _, right_by_y, down_by_y, *_ = struct.unpack("=9i", matrix)
    mirrored = right * down_by_y - right_by_y * down < 0
    turned = round(degrees(atan2(down, -right if mirrored else right)) / 90) * 90 % 360
    return Mounting(turned, mirrored=mirrored)  # type: ignore[arg-type]


def _reason(error: Any) -> str:
    """Return what is wrong with a file that FFmpeg does not open."""
    said = (error.log[2] if error.log else "").lower()
    if "moov atom not found" in said:
        return "it is cut short: its index, which is at the end, is missing"
    if type(error).__name__ in {"InvalidDataError", "DemuxerNotFoundError", "ArgumentError"}:
        return "it is no video, or its head is damaged"
    return str(error.strerror or "it cannot be read")
