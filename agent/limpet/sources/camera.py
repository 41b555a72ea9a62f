"""A camera of this machine, or a stream of one on the network. The latest frame wins.

A frame keeps the camera's own pixels. Nothing is decoded, scaled or copied before a pipeline takes the frame.
What was lost is counted by cause, and so is how often the camera went away or could not be opened:

``skipped``      frames that the driver lost, or for which it had no memory
``corrupt``      frames that are damaged, and those of a stream that are made of such
``overtaken``    frames of a stream that a newer one replaced before they were read, or before they were decoded
``resized``      how often a stream changed the size of its pictures
``busy``         another program uses the camera
``missing``      there is no such device
``unplugged``    the camera was unplugged while it was open
``driver``       the driver reports an error
``no_access``    this user may not open it
``wrong_format`` the camera does not have this format, size or crop
``control``      the camera does not have this control, or not this value of it
``login``        the camera refuses user and password
``tls``          the connection cannot be encrypted, or the certificate is not trusted
``not_found``    the camera has no such stream
``codec``        what comes cannot be decoded
``timeout``      nothing came in time
``unreachable``  no connection
``ended``        the camera ended the stream
"""

from __future__ import annotations

import errno
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn
from urllib.parse import urlsplit

import av
import msgspec
import numpy as np
from msgspec import Meta

from limpet.contracts.data import SampleSpec, empty_samples, frame_samples
from limpet.contracts.fields import Positive
from limpet.contracts.frame import Rectangle
from limpet.contracts.needs import Endpoint, Needs
from limpet.errors import ConfigError, SourceError, UnreadableError
from limpet.sources import _jpeg, _v4l2
from limpet.sources._av_address import PORTS, Address, Login
from limpet.sources._av_frame import MOST_SIDE, AvFrame, Decoder, Encoded, Mounting, Size
from limpet.sources._av_stream import Stream
from limpet.sources._v4l2 import CODES
from limpet.untrusted import read_file

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterator

    from limpet.contracts.data import Samples

IDLE = 0.5
"""Seconds after which a camera without a frame shows that it is still read."""
PATIENCE = 5.0
"""Seconds without a frame after which it is opened again, unless the configuration has another `silence`."""
TRUSTED = Path("/etc/ssl/certs/ca-certificates.crt")
"""The authorities that this system trusts."""
LARGEST_PASSWORD = 1024
OLDEST_NS = 10_000_000_000
"""A driver's stamp that is older is no time at which a frame was taken."""

_FORMATS = {
    "mjpeg": ("mjpeg", ""),
    "yuyv": ("rawvideo", "yuyv422"),
    "nv12": ("rawvideo", "nv12"),
    "grey": ("rawvideo", "gray"),
}
"""FFmpeg's codec, and FFmpeg's name of the pixels."""
_SMALL = 640 * 480
"""Pixels up to which USB carries pictures that are not compressed at a full rate."""


class Config(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A camera of this machine (`device`), or a stream from the network (`url`)."""

    device: str = ""
    """Device node of the camera. `limpet devices` lists them by names that stay. Example:
    `"/dev/v4l/by-id/usb-046d_C920-video-index0"`."""
    url: str = ""
    """Stream of a network camera: `rtsp://`, `rtsps://`, `http://`, `https://` or `tcp://`. User and password have
    keys of their own. Example: `"rtsp://192.168.1.20/stream1"`."""
    size: tuple[Annotated[int, Meta(ge=1, le=MOST_SIDE)], Annotated[int, Meta(ge=1, le=MOST_SIDE)]] | None = None
    """Width and height in pixels that `device` is set to. Default: as it is set. Example: `[640, 480]`."""
    rate: Positive | None = None
    """Frames a second that `device` is set to. Default: as it is set. Example: `15`."""
    format: Literal["auto", "mjpeg", "yuyv", "nv12", "grey"] = "auto"
    """How `device` stores its pixels. `"auto"`: one that it has, MJPEG for large pictures. Example: `"yuyv"`."""
    rotation: Literal[0, 90, 180, 270] = 0
    """Degrees clockwise by which pictures are turned, so that they are upright. Example: `180`."""
    crop: (
        tuple[
            Annotated[int, Meta(ge=0, le=MOST_SIDE)],
            Annotated[int, Meta(ge=0, le=MOST_SIDE)],
            Annotated[int, Meta(ge=1, le=MOST_SIDE)],
            Annotated[int, Meta(ge=1, le=MOST_SIDE)],
        ]
        | None
    ) = None
    """The part of the upright picture to use: left, top, width and height in pixels. Default: all of it. Example:
    `[160, 0, 960, 720]`."""
    controls: dict[str, bool | int | str] = {}
    """Controls of `device`, in this order, by the names that `v4l2-ctl --list-ctrls-menus` shows. Example:
    `{ auto_exposure = "manual_mode", exposure_time_absolute = 100 }`."""
    user: str = ""
    """User name for `url`. Default: no login. Example: `"limpet"`."""
    password_file: Path | None = None
    """File whose first line is the password for `url`. Example: `"/etc/limpet/camera-password"`."""
    ca_file: Path | None = None
    """Certificates that are trusted for `rtsps://` and `https://`: the camera's own, or its authority's. Default:
    the system's. Example: `"camera.pem"`."""
    verify: bool = True
    """Whether the camera of `rtsps://` or `https://` has to prove who it is. If not, another computer of the
    network can pretend to be the camera."""
    timeout: Annotated[float, Meta(ge=0.5, le=120)] = 10.0
    """Seconds for a connection to `url`, and for the next bytes from it. Example: `5`."""

    def __post_init__(self) -> None:
        if bool(self.device) == bool(self.url):
            raise ValueError("a camera needs either device or url")
        if self.device:
            if not self.device.startswith("/dev/"):
                raise ValueError('device: expected a path such as "/dev/video0"')
            of_url = {"user": self.user, "password_file": self.password_file, "ca_file": self.ca_file}
            named = [key for key, value in of_url.items() if value]
            if named:
                raise ValueError(f"{named[0]}: goes with url")
            return
        of_device = {"size": self.size, "rate": self.rate, "controls": self.controls}
        named = [key for key, value in of_device.items() if value]
        if named or self.format != "auto":
            key = named[0] if named else "format"
            raise ValueError(f"{key}: goes with device; a stream is as the camera is set up to send it")
        _check_url(self)


def _check_url(config: Config) -> None:
    """``ValueError`` if a URL cannot be a stream's. The text has no part of the URL that may be a password."""
    try:
        parts = urlsplit(config.url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError("url: it cannot be read; expected such as rtsp://HOST:PORT/PATH") from None
    if parts.scheme == "file" or not parts.scheme:
        raise ValueError('url: a video file is played by a source of kind "replay"')
    if parts.scheme not in PORTS:
        raise ValueError(f"url: {parts.scheme}:// is not known; use {', '.join(f'{each}://' for each in PORTS)}")
    if "@" in parts.netloc:
        raise ValueError("url: has a user or a password in it; use the keys user and password_file")
    if not host or not (port or PORTS[parts.scheme]):
        raise ValueError(f"url: has no host or no port; write {parts.scheme}://HOST:PORT")
    if not config.url.isprintable() or " " in config.url:
        raise ValueError("url: has a space or a character that cannot be printed")
    if config.password_file and not config.user:
        raise ValueError("password_file: goes with user")


def needs(config: Config) -> Needs:
    """Return the camera's device node, or the server that it is at."""
    if config.device:
        return Needs(devices=(config.device,))
    parts = urlsplit(config.url)
    return Needs(endpoints=(Endpoint(parts.hostname or "", parts.port or PORTS[parts.scheme]),), read=(TRUSTED,))


def describe(config: Config) -> SampleSpec:
    """Return that samples are frames. ``ConfigError``: the crop cannot be inside of the picture."""
    width = height = -1
    mounting = _mounting(config)
    if config.size is not None:
        try:
            used = mounting.upright(Size(*config.size))
        except ValueError as error:
            raise ConfigError([str(error)]) from error
        width, height = used.width, used.height
    elif mounting.crop is not None:
        width, height = mounting.crop.width, mounting.crop.height
    return SampleSpec(
        (height, width, 3), np.dtype(np.uint8), rate=config.rate, patience=PATIENCE, queue=1, frames=True
    )


def _mounting(config: Config) -> Mounting:
    return Mounting(config.rotation, Rectangle(*config.crop) if config.crop else None)


@contextmanager
def open(config: Config, dropped: Counter[str]) -> Iterator[Iterator[Samples]]:
    """Open the camera. See ``contracts.source.Source``; the causes in ``dropped`` stand above."""
    if config.url:
        stream = Stream(_address(config), _login(config, dropped), _mounting(config))
        try:
            yield _from_stream(config, stream, dropped)
        finally:
            stream.close()
        return
    camera, decoder, size = _opened(config, dropped)
    try:
        yield _from_device(config, camera, decoder, size, dropped)
    finally:
        camera.close()


# --- streams


def _address(config: Config) -> Address:
    return Address(config.url, config.timeout, str(config.ca_file or TRUSTED), config.verify)


def _login(config: Config, dropped: Counter[str]) -> Login:
    if config.password_file is None:
        return Login(config.user)
    try:
        text = read_file(config.password_file, LARGEST_PASSWORD).decode()
    except (OSError, UnreadableError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no short text file"
        _fail(dropped, "login", f"password_file {config.password_file}: {reason}", error)
    return Login(config.user, next(iter(text.splitlines()), ""))


def _from_stream(config: Config, stream: Stream, dropped: Counter[str]) -> Iterator[Samples]:
    spec = describe(config)
    next_one = 0
    while True:
        taken = stream.take(IDLE, dropped)
        if taken is None:
            note = "" if stream.opened else f"the camera at {urlsplit(config.url).hostname} has not answered yet"
            yield empty_samples(spec, next_one, note)
            continue
        gap, next_one = taken.number != next_one, taken.number + 1
        yield _sample(taken.frame, taken.monotonic_ns, taken.number, gap=gap)
        del taken


def _sample(frame: AvFrame, taken_ns: int, index: int, *, gap: bool) -> Samples:
    wall = time.time_ns() - time.monotonic_ns()
    return frame_samples(frame, taken_ns, taken_ns + wall, index, gap=gap)


# --- devices


def _fail(dropped: Counter[str], word: str, sentence: str, cause: BaseException | None = None) -> NoReturn:
    """Count why the camera is away, and say it."""
    dropped[word] += 1
    raise SourceError(sentence) from cause


_REASONS = {
    errno.ENOENT: ("missing", "there is no such device: is the camera plugged in? See limpet devices"),
    errno.ENODEV: ("unplugged", "the camera was unplugged"),
    errno.ENXIO: ("unplugged", "the camera was unplugged"),
    errno.EBUSY: ("busy", "another program uses the camera: end it, or use another camera"),
    errno.EACCES: ("no_access", "this user may not open it: run sudo usermod -aG video USER"),
    errno.EPERM: ("no_access", "it may not be opened"),
    errno.ENOTTY: ("wrong_format", "it is no camera"),
    errno.EINVAL: ("wrong_format", "it is no camera that this program can read"),
    errno.ENOSPC: ("busy", "the USB bus has no bandwidth left: use a smaller size, MJPEG, or another port"),
    errno.ENOMEM: ("wrong_format", "the driver has no memory for pictures of this size"),
    errno.EIO: ("driver", "the driver reports an error of the camera: try another USB port or cable"),
    errno.ETIMEDOUT: ("timeout", "the camera does not answer"),
    errno.EPROTO: ("timeout", "the camera does not answer as it should: try another USB port or cable"),
}


def _away(config: Config, error: OSError, dropped: Counter[str]) -> NoReturn:
    word, sentence = _REASONS.get(error.errno or 0, ("unreachable", error.strerror or "it cannot be read"))
    _fail(dropped, word, f"{config.device}: {sentence}", error)


def _opened(config: Config, dropped: Counter[str]) -> tuple[_v4l2.Camera, Decoder, Size]:
    """Open a device, set it up and start it."""
    try:
        camera = _v4l2.Camera(config.device)
    except OSError as error:
        _away(config, error, dropped)
    try:
        kind, setting = _set_up(config, camera, dropped)
        _set_controls(config, camera, dropped)
        camera.start()
    except OSError as error:
        camera.close()
        _away(config, error, dropped)
    except SourceError:
        camera.close()
        raise
    codec, pixels = _FORMATS[kind]
    size = Size(setting.width, setting.height)
    try:
        _mounting(config).upright(size)
        _check_rows(kind, setting)
    except ValueError as error:
        camera.close()
        _fail(dropped, "wrong_format", f"{config.device}: {error}", error)
    return camera, Decoder(codec, size, pixels), size


def _check_rows(kind: str, setting: _v4l2.Setting) -> None:
    tight = setting.width * {"yuyv": 2}.get(kind, 1)
    if kind != "mjpeg" and setting.stride not in {0, tight}:
        raise ValueError(f"its rows have {setting.stride} bytes in place of {tight}; use another size or format")


def choose(codes: list[str], width: int, height: int) -> str:
    """Return the format to use of those that a camera has; empty if Limpet knows none of them."""
    order = ["yuyv", "nv12", "mjpeg", "grey"] if width * height <= _SMALL else ["mjpeg", "nv12", "yuyv", "grey"]
    return next((kind for kind in order if CODES[kind] in codes), "")


def _set_up(config: Config, camera: _v4l2.Camera, dropped: Counter[str]) -> tuple[str, _v4l2.Setting]:
    """Set format, size and rate. Return the format's name, and what the driver chose."""
    if not camera.captures:
        why = (
            "gives pictures in several planes, which Limpet cannot read" if camera.multi_planar else "is no camera"
        )
        _fail(dropped, "wrong_format", f"{config.device}: {why}; see limpet devices")
    before = camera.setting()
    width, height = config.size or (before.width, before.height)
    codes = camera.codes()
    kind = config.format if config.format != "auto" else choose(codes, width, height)
    there = ", ".join(name for name, code in CODES.items() if code in codes) or "none that Limpet knows"
    if not kind or CODES[kind] not in codes:
        _fail(
            dropped, "wrong_format", f"{config.device}: it has no format {kind or config.format}; it has {there}"
        )
    code = CODES[kind]
    setting = camera.set(code, width, height)
    if (setting.width, setting.height) != (width, height) or setting.code != code:
        sizes = ", ".join(f"{w}x{h}" for w, h in camera.sizes(code)[:12]) or f"{setting.width}x{setting.height}"
        _fail(
            dropped,
            "wrong_format",
            f"{config.device}: it has no {width}x{height} as {kind}; its sizes are {sizes}",
        )
    if config.rate is not None:
        rate = camera.set_rate(config.rate)
        if rate is not None and abs(rate - config.rate) > 0.05 * config.rate:
            why = f"it has no rate of {config.rate:g} frames a second at this size; it offers {rate:g}"
            _fail(dropped, "wrong_format", f"{config.device}: {why}")
    return kind, setting


def _set_controls(config: Config, camera: _v4l2.Camera, dropped: Counter[str]) -> None:
    if not config.controls:
        return
    there = camera.controls()
    for name, value in config.controls.items():
        control = there.get(name)
        if control is None or not control.settable:
            names = ", ".join(sorted(each for each, found in there.items() if found.settable)) or "none"
            _fail(dropped, "control", f"{config.device}: controls: it has no control {name}; it has {names}")
        try:
            camera.set_control(control, control.number(value))
        except ValueError as error:
            _fail(dropped, "control", f"{config.device}: controls: {error}", error)
        except OSError as error:
            if error.errno in {errno.ENODEV, errno.ENXIO}:
                raise
            why = f"{name} = {value} is refused ({error.strerror}); another control may have to be set before"
            _fail(dropped, "control", f"{config.device}: controls: {why}", error)


def _from_device(
    config: Config, camera: _v4l2.Camera, decoder: Decoder, size: Size, dropped: Counter[str]
) -> Iterator[Samples]:
    spec, mounting = describe(config), _mounting(config)
    due: int | None = None
    index = 0
    last_ns = 0
    yielded = time.monotonic()
    while True:
        try:
            for shot in camera.shots(IDLE):
                lost = 0 if due is None else (shot.sequence - due) % (1 << 32)
                lost = 0 if lost > 1 << 31 else lost
                due = (shot.sequence + 1) % (1 << 32)
                if lost:
                    dropped["skipped"] += lost
                index += lost
                frame = None if shot.damaged else _frame(shot, decoder, size, mounting)
                if frame is None:
                    dropped["corrupt"] += 1
                    index += 1
                    continue
                now = time.monotonic_ns()
                taken = shot.taken_ns if now - OLDEST_NS < shot.taken_ns <= now else now
                del shot
                last_ns = max(last_ns, taken)
                yielded = time.monotonic()
                sample = _sample(frame, last_ns, index, gap=lost > 0)
                del frame
                yield sample
                del sample
                index += 1
        except OSError as error:
            _away(config, error, dropped)
        if time.monotonic() - yielded >= 0.9 * IDLE:
            yielded = time.monotonic()
            yield empty_samples(spec, index)


def _frame(shot: _v4l2.Shot, decoder: Decoder, size: Size, mounting: Mounting) -> AvFrame | None:
    """Return a frame in the driver's memory; ``None`` if it is damaged.

    A JPEG is copied: it is small, and FFmpeg reads a few bytes beyond its end.
    """
    data: Any = shot.data
    if decoder.raw:
        if len(data) < decoder.bytes_of_one:
            return None
        return AvFrame(Encoded(av.Packet(data), decoder, size, decoder.pixels), mounting)
    try:
        if Size(*_jpeg.size(data)) != size:
            return None
    except ValueError:
        return None
    packet = av.Packet(len(data))
    packet.update(data)
    return AvFrame(Encoded(packet, decoder, size, "mjpeg"), mounting)
