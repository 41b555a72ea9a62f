"""ALSA's capture devices by libasound, through ctypes.

libasound itself resamples without a low-pass, so it may not: ``Capture.rate`` is one that the device has.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import time
from contextlib import contextmanager, suppress
from ctypes import POINTER, byref, c_char_p, c_int, c_long, c_uint, c_ulong, c_void_p
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from limpet.errors import SourceError
from limpet.sources._capture import Chunk, rates
from limpet.wording import IN_USE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from limpet.contracts.data import FloatArray
    from limpet.sources._capture import Wanted

PERIOD = 0.03
"""Seconds of sound from one wake-up to the next."""
CONFIGURATION = ("/usr/share/alsa", "/etc/alsa", "/etc/asound.conf", "/proc/asound")
"""What libasound reads to open a device, and where cards have their names."""
_OWN_CONFIGURATION = ("ALSA_CONFIG_PATH", "ALSA_CONFIG_DIR", "ALSA_PLUGIN_DIR")
_CARD = re.compile(r"^(?:plug)?hw:(?:CARD=)?(?P<card>\w+)(?:,(?:DEV=)?(?P<device>\d+))?")
_CAPTURE, _NON_BLOCKING, _INTERLEAVED = 1, 1, 3
_MOST_CHANNELS = 256
_READABLE = 1 << 16
"""Frames that one read takes, at most."""


class _Format(NamedTuple):
    """A sample format: its number in libasound, its bytes, and how to make floats from -1 to 1 of bytes."""

    name: str
    number: int
    size: int
    decode: Callable[[bytes], FloatArray]


def _integers(dtype: str, full: float) -> Callable[[bytes], FloatArray]:
    return lambda data: np.frombuffer(data, dtype).astype(np.float32) / np.float32(full)


def _three_bytes(data: bytes) -> FloatArray:
    """Make floats of 24-bit integers without padding."""
    wide = np.zeros((len(data) // 3, 4), np.uint8)
    wide[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
    return wide.view("<i4")[:, 0].astype(np.float32) / np.float32(1 << 31)


def _low_three_bytes(data: bytes) -> FloatArray:
    """Make floats of 24-bit integers in 4 bytes, of which the highest means nothing."""
    wide = np.frombuffer(data, "<i4") << 8
    return wide.astype(np.float32) / np.float32(1 << 31)


FORMATS = (
    _Format("S32_LE", 10, 4, _integers("<i4", 1 << 31)),
    _Format("S24_3LE", 32, 3, _three_bytes),
    _Format("S24_LE", 6, 4, _low_three_bytes),
    _Format("S16_LE", 2, 2, _integers("<i2", 1 << 15)),
    _Format("FLOAT_LE", 14, 4, lambda data: np.frombuffer(data, "<f4").copy()),
    _Format("U8", 1, 1, lambda data: (np.frombuffer(data, np.uint8).astype(np.float32) - 128) / np.float32(128)),
)
"""In the order of preference: the finest resolution first."""


_ErrorHandler = ctypes.CFUNCTYPE(None, c_char_p, c_int, c_char_p, c_int, c_char_p)
_QUIET = _ErrorHandler(lambda *_: None)
"""libasound writes its errors to stderr otherwise. Kept here, as libasound holds no reference to it."""

_FUNCTIONS: dict[str, list[Any]] = {
    "open": [POINTER(c_void_p), c_char_p, c_int, c_int],
    "close": [c_void_p],
    "prepare": [c_void_p],
    "start": [c_void_p],
    "drop": [c_void_p],
    "wait": [c_void_p, c_int],
    "delay": [c_void_p, POINTER(c_long)],
    "hw_params": [c_void_p, c_void_p],
    "hw_params_malloc": [POINTER(c_void_p)],
    "hw_params_any": [c_void_p, c_void_p],
    "hw_params_set_rate_resample": [c_void_p, c_void_p, c_uint],
    "hw_params_set_access": [c_void_p, c_void_p, c_int],
    "hw_params_test_format": [c_void_p, c_void_p, c_int],
    "hw_params_set_format": [c_void_p, c_void_p, c_int],
    "hw_params_get_channels_max": [c_void_p, POINTER(c_uint)],
    "hw_params_set_channels": [c_void_p, c_void_p, c_uint],
    "hw_params_test_channels": [c_void_p, c_void_p, c_uint],
    "hw_params_test_rate": [c_void_p, c_void_p, c_uint, c_int],
    "hw_params_get_rate_min": [c_void_p, POINTER(c_uint), POINTER(c_int)],
    "hw_params_get_rate_max": [c_void_p, POINTER(c_uint), POINTER(c_int)],
    "hw_params_set_rate": [c_void_p, c_void_p, c_uint, c_int],
    "hw_params_set_period_time_near": [c_void_p, c_void_p, POINTER(c_uint), POINTER(c_int)],
    "hw_params_set_buffer_time_near": [c_void_p, c_void_p, POINTER(c_uint), POINTER(c_int)],
    "hw_params_get_period_size": [c_void_p, POINTER(c_ulong), POINTER(c_int)],
    "hw_params_get_buffer_size": [c_void_p, POINTER(c_ulong)],
    "sw_params": [c_void_p, c_void_p],
    "sw_params_malloc": [POINTER(c_void_p)],
    "sw_params_current": [c_void_p, c_void_p],
    "sw_params_set_avail_min": [c_void_p, c_void_p, c_ulong],
}
_VOID = ("hw_params_free", "sw_params_free")


class Library:
    """libasound with the types of its functions. A call that fails raises ``OSError`` with the number."""

    def __init__(self) -> None:
        """Load it. ``SourceError`` if it is not installed."""
        try:
            library = ctypes.CDLL("libasound.so.2")
        except OSError as error:
            raise SourceError(
                'libasound.so.2 is not installed. Run: sudo apt install libasound2; or set backend = "portaudio"'
            ) from error
        library.snd_lib_error_set_handler(_QUIET)
        self._functions: dict[str, Any] = {}
        function: Any
        for name, types in _FUNCTIONS.items():
            function = library[f"snd_pcm_{name}"]
            function.argtypes, function.restype = types, c_int
            self._functions[name] = function
        for name in _VOID:
            function = library[f"snd_pcm_{name}"]
            function.argtypes, function.restype = [c_void_p], None
            self._functions[name] = function
        for name in ("readi", "avail_update"):
            function = library[f"snd_pcm_{name}"]
            function.argtypes = [c_void_p, c_void_p, c_ulong][: 3 if name == "readi" else 1]
            function.restype = c_long
            self._functions[name] = function

    def call(self, name: str, *arguments: Any) -> int:
        """Call ``snd_pcm_NAME``. ``OSError`` if it returns an error."""
        code = int(self._functions[name](*arguments) or 0)
        if code < 0:
            raise OSError(-code, os.strerror(-code))
        return code

    def can(self, name: str, *arguments: Any) -> bool:
        """Whether a test of a parameter succeeds."""
        return int(self._functions[name](*arguments)) == 0


class Card(NamedTuple):
    """A sound card that ALSA knows: its number and its id, which does not depend on the order of plugging in."""

    number: int
    id: str


def card(device: str, asound: Path = Path("/proc/asound")) -> Card | None:
    """Return the card that ``hw:`` or ``plughw:`` names; ``None`` if it is not there, or another kind is named."""
    found = _CARD.match(device)
    if found is None:
        return None
    wanted = found["card"]
    try:
        if wanted.isdecimal():
            return Card(int(wanted), (asound / f"card{wanted}" / "id").read_text().strip())
        return Card(int((asound / wanted).readlink().name.removeprefix("card")), wanted)
    except (OSError, ValueError):
        return None


def is_hardware(device: str) -> bool:
    """Whether a name is that of a card's own device, with libasound's conversions or without."""
    return _CARD.match(device) is not None


def nodes(device: str, asound: Path = Path("/proc/asound")) -> tuple[str, ...]:
    """Return the device nodes of the card that is named.

    While it is away, these are patterns for all cards: it may come back with another number.
    """
    found = _CARD.match(device)
    if found is None:
        return ("/dev/snd/controlC*", "/dev/snd/pcmC*D*c", "/dev/snd/timer")
    there, number = card(device, asound), found["device"] or "0"
    which = "*" if there is None else str(there.number)
    return f"/dev/snd/controlC{which}", f"/dev/snd/pcmC{which}D{number}c", "/dev/snd/timer"


def configuration() -> tuple[Path, ...]:
    """Return the files and folders that libasound reads before it opens a device."""
    own = [path for name in _OWN_CONFIGURATION for path in os.environ.get(name, "").split(":") if path]
    home = Path(os.environ.get("HOME") or "/")
    return *map(Path, (*CONFIGURATION, *own)), home / ".asoundrc", home / ".config" / "alsa" / "asoundrc"


@contextmanager
def opened(wanted: Wanted) -> Iterator[Capture]:
    """Open a device. ``SourceError`` says why it cannot be used.

    ``plughw:`` is opened as ``hw:`` if that has a format that is known here: libasound would make one channel the
    mean of two.
    """
    library = Library()
    plain = wanted._replace(device=wanted.device.removeprefix("plug"))
    try:
        capture = _open(library, plain if is_hardware(wanted.device) else wanted)
    except _NoFormatError:
        if wanted.device == plain.device:
            raise
        capture = _open(library, wanted)
    try:
        yield capture
    finally:
        capture.close()


def _open(library: Library, wanted: Wanted) -> Capture:
    handle = c_void_p()
    try:
        library.call("open", byref(handle), wanted.device.encode(), _CAPTURE, _NON_BLOCKING)
    except OSError as error:
        raise SourceError(f"{wanted.device}: {reason(error, wanted.device)}") from _with_node(error, wanted.device)
    try:
        return Capture(library, handle, wanted)
    except BaseException:
        library.call("close", handle)
        raise


def _with_node(error: OSError, device: str) -> OSError:
    """Return the error with the device node that it is about, so that the sandbox can say what it refused."""
    there = card(device)
    if there is None or error.errno not in {errno.EACCES, errno.EPERM}:
        return error
    return OSError(error.errno, error.strerror or "", nodes(device)[1])


def reason(error: OSError, device: str) -> str:
    """Return what a person can do about an error, in words that go on from the name of the device."""
    hardware = is_hardware(device)
    if error.errno in {errno.ENOENT, errno.ENODEV, errno.ENXIO}:
        return "is not there; is it plugged in? Run: limpet devices"
    if error.errno in {errno.EBUSY, errno.EAGAIN}:
        return IN_USE
    if error.errno in {errno.EACCES, errno.EPERM} and hardware:
        return "may not be opened by this user; on most systems the group audio may"
    if hardware:
        return f"cannot be opened: {error.strerror}"
    return (
        f"cannot be opened: {error.strerror}. Sound servers and dsnoop do not work in the sandbox; "
        'name the card, as device = "plughw:CARD=Device,DEV=0". Run: limpet devices'
    )


class _NoFormatError(SourceError):
    """The device has no sample format that is known here."""


class Capture:
    """An open device. ``rate`` in Hz and ``channels`` are what it gives; ``format`` is how it gives samples."""

    def __init__(self, library: Library, handle: c_void_p, wanted: Wanted) -> None:
        """Set the device up and start it. ``SourceError`` if it does not have what is wanted."""
        self._library = library
        self._handle = handle
        self._device = wanted.device
        parameters = c_void_p()
        library.call("hw_params_malloc", byref(parameters))
        try:
            self._set_up(parameters, wanted)
        except OSError as error:
            raise SourceError(f"{wanted.device}: {reason(error, wanted.device)}") from error
        finally:
            library.call("hw_params_free", parameters)
        self._buffer = ctypes.create_string_buffer(self._frames * self.channels * self.format.size)
        self._gap = False
        self._start()

    def _set_up(self, parameters: c_void_p, wanted: Wanted) -> None:
        library, handle = self._library, self._handle
        library.call("hw_params_any", handle, parameters)
        library.call("hw_params_set_rate_resample", handle, parameters, 0)
        library.call("hw_params_set_access", handle, parameters, _INTERLEAVED)
        self.channels = self._choose_channels(parameters, wanted)
        library.call("hw_params_set_channels", handle, parameters, self.channels)
        self.rate = self._choose_rate(parameters, wanted.rate)
        library.call("hw_params_set_rate", handle, parameters, self.rate, 0)
        self.format = self._choose_format(parameters)
        library.call("hw_params_set_format", handle, parameters, self.format.number)
        direction = c_int()
        microseconds = c_uint(round(wanted.buffer * 1e6))
        library.call("hw_params_set_buffer_time_near", handle, parameters, byref(microseconds), byref(direction))
        microseconds = c_uint(round(min(PERIOD, wanted.buffer / 4) * 1e6))
        library.call("hw_params_set_period_time_near", handle, parameters, byref(microseconds), byref(direction))
        library.call("hw_params", handle, parameters)
        period, buffer = c_ulong(), c_ulong()
        library.call("hw_params_get_period_size", parameters, byref(period), byref(direction))
        library.call("hw_params_get_buffer_size", parameters, byref(buffer))
        self.period = period.value
        self._frames = min(buffer.value, _READABLE)
        self._wake_at(self.period)

    def _wake_at(self, frames: int) -> None:
        library, software = self._library, c_void_p()
        library.call("sw_params_malloc", byref(software))
        try:
            library.call("sw_params_current", self._handle, software)
            library.call("sw_params_set_avail_min", self._handle, software, frames)
            library.call("sw_params", self._handle, software)
        finally:
            library.call("sw_params_free", software)

    def _choose_channels(self, parameters: c_void_p, wanted: Wanted) -> int:
        library, most = self._library, c_uint()
        library.call("hw_params_get_channels_max", parameters, byref(most))
        for count in range(max(wanted.channels, 1), min(most.value, _MOST_CHANNELS) + 1):
            if library.can("hw_params_test_channels", self._handle, parameters, count):
                return count
        raise SourceError(f"{wanted.device}: has {most.value} channels; `channels` needs {wanted.channels}")

    def _choose_rate(self, parameters: c_void_p, wanted: int) -> int:
        """Return the wanted rate or the next higher one that the device has; else its highest."""
        for rate in rates(wanted):
            if self._library.can("hw_params_test_rate", self._handle, parameters, rate, 0):
                return rate
        low, high, direction = c_uint(), c_uint(), c_int()
        self._library.call("hw_params_get_rate_min", parameters, byref(low), byref(direction))
        self._library.call("hw_params_get_rate_max", parameters, byref(high), byref(direction))
        return min(max(wanted, low.value), high.value)

    def _choose_format(self, parameters: c_void_p) -> _Format:
        for each in FORMATS:
            if self._library.can("hw_params_test_format", self._handle, parameters, each.number):
                return each
        names = ", ".join(each.name for each in FORMATS)
        raise _NoFormatError(f'{self._device}: has none of the formats {names}; write "plughw:" for "hw:"')

    def close(self) -> None:
        """Close the device."""
        with suppress(OSError):  # of a card that is gone
            self._library.call("close", self._handle)

    def read(self, seconds: float) -> Chunk | None:
        """Wait for frames. Maximum: ``seconds``. ``None``: there are none yet.

        ``SourceError`` if the device is gone. An overrun starts the device again; the next chunk has ``gap`` set.
        """
        library, handle = self._library, self._handle
        try:
            if not library.call("wait", handle, round(seconds * 1000)):
                return None
            count = library.call("readi", handle, self._buffer, self._frames)
        except OSError as error:
            self._recover(error)
            return None
        now, left = time.monotonic_ns(), self._left()
        if not count:
            return None
        size = count * self.channels * self.format.size
        values = self.format.decode(ctypes.string_at(self._buffer, size)).reshape(count, self.channels)
        gap, self._gap = self._gap, False
        return Chunk(values, now - left * 1_000_000_000 // self.rate, gap)

    def _left(self) -> int:
        """Return how many frames the device has taken that were not read yet."""
        left = c_long()
        try:
            self._library.call("delay", self._handle, byref(left))
        except OSError:  # an overrun, of which the next read hears
            return 0
        return max(left.value, 0)

    def _recover(self, error: OSError) -> None:
        """Start again after an overrun or a suspend. ``SourceError`` for any other error."""
        if error.errno == errno.EIO:
            error = self._plainer(error)
        if error.errno == errno.EAGAIN:
            time.sleep(PERIOD)  # a driver may say that there are frames where there are none
            return
        if error.errno not in {errno.EPIPE, errno.ESTRPIPE, errno.EINTR}:
            gone = error.errno in {errno.ENODEV, errno.ENOENT, errno.EBADFD, errno.ESHUTDOWN}
            what = "was unplugged" if gone else f"cannot be read: {error.strerror}"
            raise SourceError(f"{self._device}: {what}") from error
        self._gap = True
        self._start()

    def _plainer(self, error: OSError) -> OSError:
        """Return why waiting failed: of a card that is gone, libasound says no more than that."""
        try:
            self._library.call("avail_update", self._handle)
        except OSError as reason_of_it:
            return reason_of_it
        return error

    def _start(self) -> None:
        try:
            self._library.call("prepare", self._handle)
            self._library.call("start", self._handle)
        except OSError as error:
            raise SourceError(f"{self._device}: {reason(error, self._device)}") from error
