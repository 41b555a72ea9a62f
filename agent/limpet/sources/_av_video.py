"""Video files, a frame at a time: as many frames are in memory as are in use, however long a video is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import av
import av.error

from limpet.errors import UnreadableError
from limpet.sources import _av_log, _jpeg
from limpet.sources._av_frame import MOST_PIXELS, AvFrame, Decoded, Decoder, Encoded, Mounting, Size

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
            seconds = (container.duration or 0) / 1e6 if self._timed else 0.0
            self.facts = Facts(Size(used.width, used.height), rate, max(0.0, seconds))

    def _opened(self) -> Any:
        """Open the file, and nothing that it names."""
        options = {
            "protocol_whitelist": "file",
            "format_whitelist": _FORMATS,
            "max_pixels": str(MOST_PIXELS),
            "max_streams": "64",
        }
        try:
            return av.open(f"file:{self.path}", container_options=options, metadata_errors="replace")
        except PermissionError:
            raise
        except _FFMPEG as error:
            raise UnreadableError(_reason(error)) from error

    @staticmethod
    def _stream(container: Any) -> Any:
        stream = next(iter(container.streams.video), None)
        if stream is None:
            raise UnreadableError("it has no pictures")
        if stream.codec_context is None:
            raise UnreadableError("FFmpeg cannot decode its pictures")
        return stream

    def _mounting(self, container: Any) -> Mounting:
        """Return how the pictures are to be turned: a telephone notes how it was held."""
        try:
            frame = next(container.decode(self._stream(container)), None)
        except (_FFMPEG, ValueError):
            return Mounting()
        turned = 0 if frame is None else round(-frame.rotation / 90) * 90 % 360
        return Mounting(turned)  # type: ignore[arg-type]

    def frames(self, dropped: Counter[str]) -> Iterator[Timed]:
        """Yield the frames, once. The end of what can be read is the end.

        What cannot be decoded is counted as ``corrupt``, and what is missing at the end as ``cut_short``.
        """
        with self._opened() as container:
            stream = self._stream(container)
            reader = _Reader(stream, self._mounted, dropped, timed=self._timed)
            last = 0.0
            try:
                for packet in container.demux(stream):
                    for each in reader.pictures(packet):
                        last = each.seconds or 0.0
                        yield each
                        del each
            except _FFMPEG:
                dropped["corrupt"] += 1
        self._count_missing(last, dropped)

    def _count_missing(self, last: float, dropped: Counter[str]) -> None:
        facts = self.facts
        missing = round((facts.seconds - last) * facts.rate) - 1
        if missing > _TOLERATED:
            dropped["cut_short"] += missing


class _Reader:
    """Makes frames of packets."""

    def __init__(self, stream: Any, mounting: Mounting, dropped: Counter[str], *, timed: bool) -> None:
        self._stream, self._mounting, self._dropped, self._timed = stream, mounting, dropped, timed
        self._number = 0
        self._first: float | None = None
        self._jpegs: Decoder | None = None
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
            if seconds is not None and self._first is None:
                self._first = seconds
            at = None if seconds is None else max(0.0, seconds - (self._first or 0.0))
            yield Timed(self._number, at, AvFrame(picture, self._mounting))
            self._number += 1

    def _found(self, packet: Any) -> list[tuple[Picture, float | None]]:
        if self._stream.codec_context.name == "mjpeg":
            return [(self._jpeg(packet), self._seconds(packet))] if packet.size else []
        found: list[tuple[Picture, float | None]] = []
        for frame in packet.decode():
            if frame.is_corrupt:
                self._dropped["corrupt"] += 1
                self._number += 1
            else:
                found.append((Decoded(frame), self._seconds(frame)))
        return found

    def _jpeg(self, packet: Any) -> Encoded:
        size = Size(*_jpeg.size(packet))
        if self._jpegs is None:
            self._jpegs = Decoder("mjpeg", size)
        return Encoded(packet, self._jpegs, size, "mjpeg")

    def _seconds(self, timed: Any) -> float | None:
        if not self._timed or timed.pts is None:
            return None
        return float(timed.pts * timed.time_base)


def _reason(error: Any) -> str:
    """Return what is wrong with a file that FFmpeg does not open."""
    said = (error.log[2] if error.log else "").lower()
    if "moov atom not found" in said:
        return "it is cut short: its index, which is at the end, is missing"
    if type(error).__name__ in {"InvalidDataError", "DemuxerNotFoundError", "ArgumentError"}:
        return "it is no video, or its head is damaged"
    return str(error.strerror or "it cannot be read")
