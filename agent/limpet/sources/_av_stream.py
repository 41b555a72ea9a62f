"""A stream from the network, read by FFmpeg in a separate thread, which keeps the newest frame alone.

FFmpeg may wait for a server. The source never does: ``Stream.take`` returns after a given time. Every wait of
FFmpeg has a limit too, so that the thread ends.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

import av
import av.error
import av.logging

from limpet.errors import SourceError
from limpet.sources import _av_limits, _av_log
from limpet.sources._av_causes import Cause, NoVideoError, WrongSizeError, diagnose
from limpet.sources._av_frame import MOST_PIXELS, AvFrame, Decoded, Jpegs, Mounting, Picture, Size
from limpet.sources._av_gate import WAITED_NS, Gate
from limpet.sources._av_video import main_video

if TYPE_CHECKING:
    from limpet.sources._av_address import Address, Login

log = logging.getLogger(__name__)

_TIMED = {"rtsp", "mpegts", "flv", "matroska,webm", "mov,mp4,m4a,3gp,3g2,mj2"}
"""Formats whose pictures have times. Of the others, FFmpeg makes times up."""
_MOST_SAID = 100
"""Lines of FFmpeg that are kept, as some of them say why a stream ended."""
_DAMAGED_IN_A_ROW = 250
"""Pictures that cannot be decoded, one after the other, after which a stream is opened again."""
DRIFT = 0.001
"""How fast we believe that a camera's clock falls behind ours, rather than that its pictures came late."""
DRIFT_AWAITED = 0.05
"""The same for pictures that were waited for: cameras count frames that they do not send, or send fewer."""
BACK_NS = 500_000_000
"""If a stream's times go back by more, its clock was set."""
LATE_NS = 3_000_000_000
"""If pictures seem to be so late, though they were waited for, the stream's clock is too slow."""
PAUSE_NS = 500_000_000
"""A longer wait says nothing: the pictures may have been held up on their way."""
_FFMPEG: Any = av.error.FFmpegError
_INVALID: Any = av.error.InvalidDataError


class StreamClock:
    """Gives a picture the time at which the camera took it, by the stream's own times.

    The camera's clock starts anywhere. The picture that was least late says how far it is from ours. A stamp is
    never after the picture came, and never before the last one.
    """

    def __init__(self) -> None:
        self._lead: int | None = None
        self._picture = 0
        self._at = 0
        self._last = 0

    def stamp(self, picture_ns: int | None, now_ns: int, waited_ns: int = 0) -> int:
        """Return when a picture was taken that came now, after a wait. ``None``: the stream does not say."""
        stamp = now_ns
        if picture_ns is not None:
            self._lead = self._how_far(picture_ns, now_ns, waited_ns)
            self._picture, self._at = picture_ns, now_ns
            stamp = min(now_ns, picture_ns - self._lead)
        self._last = max(stamp, self._last)
        return self._last

    def _how_far(self, picture_ns: int, now_ns: int, waited_ns: int) -> int:
        """Return how far the stream's times are ahead of ours."""
        ahead = picture_ns - now_ns
        if self._lead is None or picture_ns < self._picture - BACK_NS:
            return ahead
        step = ahead - self._lead
        awaited = WAITED_NS <= waited_ns <= PAUSE_NS
        if step < -LATE_NS and awaited:
            return ahead
        return self._lead + max(step, -int((DRIFT_AWAITED if awaited else DRIFT) * (now_ns - self._at)))


class Taken(NamedTuple):
    """A frame, when it was taken, and how many there were before it."""

    frame: AvFrame
    monotonic_ns: int
    number: int


class Stream:
    """Reads until it is closed, or something fails."""

    def __init__(self, address: Address, login: Login, mounting: Mounting) -> None:
        _av_log.install()
        _av_limits.install()
        self._address, self._login, self._mounting = address, login, mounting
        self._clock = StreamClock()
        self._changed = threading.Condition()
        self._newest: Taken | None = None
        self._count = 0
        self._counted: Counter[str] = Counter()
        self._failure: tuple[Cause, BaseException] | None = None
        self._size: Size | None = None
        self._since = time.monotonic()
        """When FFmpeg was given the time limit that runs now."""
        self._closed = False
        self._opened = False
        self._jpegs = Jpegs()
        self._said: list[tuple[int, str, str]] = []
        """What FFmpeg has written to its log since the last packet."""
        self._gate = Gate()
        self._waited_ns = 0
        self._searches = False
        """Whether what comes is searched for JPEGs."""
        self._thread = threading.Thread(target=self._run, name="read stream", daemon=True)
        self._thread.start()

    @property
    def opened(self) -> bool:
        """Whether the camera has answered, and what it sends is known."""
        return self._opened

    def take(self, seconds: float, dropped: Counter[str]) -> Taken | None:
        """Return the newest frame, ``None`` if none comes in so many seconds. ``SourceError`` says what failed."""
        with self._changed:
            self._changed.wait_for(lambda: self._newest or self._failure or self._counted, seconds)
            counted, self._counted = self._counted, Counter()
            taken, self._newest = self._newest, None
            failure = self._failure if taken is None else None
        if len(self._said) > 2 * _MOST_SAID:
            del self._said[:-_MOST_SAID]
        for word, number in counted.items():
            dropped[word] += number
        if failure is not None:
            cause, error = failure
            dropped[cause.word] += 1
            where = _av_log.without_password(self._address.url)
            raise SourceError(f"{where}: {cause.sentence}") from error
        return taken

    def close(self) -> None:
        """Have the thread end. One that waits for a server ends later, by itself."""
        with self._changed:
            self._closed = True
        self._thread.join(0.2)

    def _run(self) -> None:
        said: list[tuple[int, str, str]] = []
        try:
            with av.logging.Capture() as said:
                self._said = said
                self._read(said)
            self._fail(EOFError(), said)
        except Exception as error:  # noqa: BLE001 - whatever FFmpeg raises, the stream is away
            self._fail(error, said)

    def _fail(self, error: Exception, said: list[tuple[int, str, str]]) -> None:
        text = " ".join(f"[{part}] {message}" for _, part, message in said[-20:])
        cause = diagnose(error, text, time.monotonic() - self._since, self._address.timeout)
        if cause.word == "ended" and not self._count:
            cause = Cause("ended", f"{cause.sentence} before it sent a picture: check url")
        # The error of FFmpeg has the URL with the password in its text, and is not passed on.
        with self._changed:
            self._failure = cause, EOFError(cause.sentence)
            self._changed.notify_all()

    def _read(self, said: list[tuple[int, str, str]]) -> None:
        """Read until the stream ends.

        Small web cameras break the rules of multipart in many ways. So if there is no video, JPEGs are looked for.
        """
        try:
            self._read_as("rtsp" if self._address.scheme in {"rtsp", "rtsps"} else None, said)
        except _INVALID:
            if self._address.scheme not in {"http", "https"} or self._count:
                raise
            said.clear()
            self._searches = True
            self._read_as("mjpeg", said)
            if self._size is None:
                raise

    def _read_as(self, form: str | None, said: list[tuple[int, str, str]]) -> None:
        address = self._address
        timeout = (address.timeout, address.timeout)
        url = address.with_login(self._login)
        with av.open(url, format=form, container_options=address.options, timeout=timeout) as container:
            stream: Any = main_video(container)
            context: Any = stream and stream.codec_context
            if context is None or context.name not in _av_limits.CODECS:
                raise NoVideoError
            context.thread_count = 1
            context.options = {"max_pixels": str(MOST_PIXELS)}
            timed = container.format.name in _TIMED
            self._opened = True
            damaged = 0
            asked = time.monotonic_ns()
            for packet in container.demux(stream):
                self._since = time.monotonic()
                if self._closed:
                    return
                self._waited_ns = (now := time.monotonic_ns()) - asked
                if why := self._gate.leaves_out(now, self._waited_ns, key=packet.is_keyframe):
                    self._left_out(why)
                else:
                    found = self._pictures(packet, context.name, timed=timed)
                    damaged = 0 if found else damaged + 1
                if damaged > _DAMAGED_IN_A_ROW:
                    raise NoVideoError
                asked = time.monotonic_ns()
                if said:
                    log.debug(
                        "%s: FFmpeg: %s", container.format.name, _av_log.without_password(said[-1][2].strip())
                    )
                    said.clear()

    def _pictures(self, packet: Any, codec: str, *, timed: bool) -> int:
        """Keep what a packet holds; count what is damaged. Return how many pictures it held."""
        found: list[Picture] = []
        try:
            if codec == "mjpeg":
                if packet.size:
                    found = [self._jpegs.picture(packet)]
                    self._keep(found[0], packet, timed=timed)
            else:
                for frame in packet.decode():
                    if self._intact(frame):
                        found.append(Decoded(frame))
                        self._keep(found[-1], frame, timed=timed)
        except EOFError:
            raise
        except (_FFMPEG, ValueError):
            self._damaged()
        return len(found)

    def _intact(self, frame: av.VideoFrame) -> bool:
        if frame.is_corrupt:
            self._damaged()
        return not frame.is_corrupt

    def _keep(self, picture: Picture, stamped: Any, *, timed: bool) -> None:
        """Keep a picture as the newest. ``stamped``: what has its time, as pictures may come in another order."""
        at = None
        if timed and stamped.pts is not None:
            at = int(stamped.pts * stamped.time_base * 1_000_000_000)
        size = picture.size
        try:
            self._mounting.upright(size)
        except ValueError as error:
            raise WrongSizeError(str(error)) from error
        frame = AvFrame(picture, self._mounting)
        if self._size is not None and size != self._size:
            self._note("resized")
            log.warning("the stream's pictures are %dx%d now; they were %dx%d", *size, *self._size)
        self._size = size
        taken = Taken(frame, self._clock.stamp(at, time.monotonic_ns(), self._waited_ns), self._count)
        with self._changed:
            if self._newest is not None:
                self._counted["overtaken"] += 1
            self._newest = taken
            self._count += 1
            self._changed.notify_all()

    def _damaged(self) -> None:
        if self._searches and self._size is None:
            return  # It may be no picture at all.
        self._gate.damaged(time.monotonic_ns())
        self._left_out("corrupt")

    def _left_out(self, why: str) -> None:
        with self._changed:
            self._count += 1
        self._note(why)

    def _note(self, word: str) -> None:
        with self._changed:
            self._counted[word] += 1
            self._changed.notify_all()
