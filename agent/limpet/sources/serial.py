"""A sensor board on a serial line: UART, USB serial, pseudo-terminal, or a port somewhere on the network.

The framing says how bytes become rows. What was dropped is counted by cause:

``not_data``        whole lines that are no samples, such as log messages: nothing is missing
``partial``         the rest of a frame that had begun before the port was opened
``overlong``        a frame without an end; as with the next four, frames are counted
``malformed``       a frame that cannot be read: garbage, the wrong baud rate, half a frame
``crc``             a frame with a wrong checksum
``fields``          a frame with the wrong number of fields or channels
``duplicate``       samples that came twice
``sequence_gap``    samples that the node counted and that never came, whatever became of them
``restarted``       how often the node restarted while the port was open
``not_finite``      samples with a value that is missing, NaN or infinite
``out_of_range``    samples with a value outside ``range``
"""

from __future__ import annotations

import errno
import os
import socket
import termios
import time
from collections import Counter
from contextlib import contextmanager, suppress
from pathlib import Path
from select import select
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import msgspec
import numpy as np
import serial
from msgspec import Meta

from limpet import plugins
from limpet.contracts.data import SampleSpec, empty_samples
from limpet.contracts.fields import Positive
from limpet.contracts.needs import Endpoint, Needs
from limpet.errors import ConfigError, SourceError
from limpet.filling import fill
from limpet.sample_watch import LEAST, SampleWatch
from limpet.sources import _recognition
from limpet.sources._rows import Calibration, Continuity, Shaper
from limpet.wording import IN_USE, below, suggest, updated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from limpet.contracts.data import Samples
    from limpet.contracts.framing import Framing, FramingPlugin

IDLE = 0.5
"""Seconds without a sample after which the source shows that it is alive."""
PACE = 0.01
"""Seconds from one read to the next: a fast node costs 100 wake-ups a second, not one a frame."""
LINGER = 0.02
"""Seconds that a network port may gather bytes: it does not know how many are there."""
CHUNK = 4096
AGAIN = 3.0
"""Seconds after which it is looked at again what comes instead of samples."""
PATIENCE = 60.0
"""Seconds without a sample after which the port is opened again, unless the rate is lower than one in three."""
WRITING = 5.0
"""Seconds that the start command may take."""
_KEEP_ALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 25_000}
"""A connection whose other end is gone without a word is closed after 25 s."""

_ON_NETWORK = {"socket", "rfc2217"}
_AROUND_A_PORT = {"spy", "alt"}
_SEARCHED = {
    "hwgrep": tuple(
        f"/dev/{name}*" for name in ("ttyS", "ttyUSB", "ttyXRUSB", "ttyACM", "ttyAMA", "rfcomm", "ttyAP")
    ),
    "cp2110": ("/dev/hidraw*", "/dev/bus/usb"),
}
"""Schemes of pyserial's URLs, and for those that find a port by themselves, where they look."""

_PARITIES = {
    "none": serial.PARITY_NONE,
    "even": serial.PARITY_EVEN,
    "odd": serial.PARITY_ODD,
    "mark": serial.PARITY_MARK,
    "space": serial.PARITY_SPACE,
}
REASONS = {
    errno.ENOENT: "is not there; is the device plugged in?",
    errno.EACCES: "may not be opened by this user; on most systems the group dialout may",
    errno.EAGAIN: IN_USE,
    errno.EBUSY: IN_USE,
}
PerChannel: TypeAlias = float | list[float]


class Config(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One node on one port."""

    port: Annotated[str, Meta(min_length=1)]
    """Device, best under `/dev/serial/by-id/`, or a URL: `socket://HOST:PORT`, `rfc2217://HOST:PORT`. Example:
    `"/dev/ttyACM0"`."""
    channels: Annotated[list[str], Meta(min_length=1)]
    """Names of the values of a sample, in the order in which the board sends them. Example: `["ax", "ay",
    "az"]`."""
    baud: Annotated[int, Meta(gt=0)] = 115200
    """Bit rate in bits a second."""
    framing: str | dict[str, Any] = "csv"
    """How bytes become samples: a kind, or a table with `kind` and its keys. Example: `{ kind = "csv", delimiter =
    ";" }`."""
    rate: Positive | None = None
    """Samples a second, for boards without their own clock. Stamps are then evenly spaced. Default: samples
    are stamped when they come. Example: `100`."""
    scale: PerChannel = 1.0
    """One number, or one a channel: real = raw * `scale` + `offset`. Example: `[0.1, 0.1, 1.0]`."""
    offset: PerChannel = 0.0
    """One number, or one a channel, in the unit of the real values. Example: `-273.15`."""
    range: list[float | list[float]] = []
    """`[low, high]` of real values, or one such pair a channel. Samples outside are dropped. Default: all values.
    Example: `[-40, 125]`."""
    bytesize: Literal[5, 6, 7, 8] = 8
    """Data bits of a character."""
    parity: Literal["none", "even", "odd", "mark", "space"] = "none"
    """Parity bit of a character."""
    stopbits: Literal[1, 2] = 1
    """Stop bits of a character."""
    rtscts: bool = False
    """Hardware flow control with RTS and CTS."""
    dsrdtr: bool = False
    """Hardware flow control with DSR and DTR."""
    xonxoff: bool = False
    """Software flow control."""
    dtr: bool | None = None
    """Set this line when the port is opened. Many boards restart when it is raised. Default: the system's, usually
    on. Example: `false`."""
    rts: bool | None = None
    """Set this line when the port is opened. Default: the system's, usually on. Example: `false`."""
    settle: Annotated[float, Meta(ge=0, le=60)] = 0.0
    """Seconds to wait after the port is opened. What the board sends meanwhile is thrown away. Example: `2`."""
    start: str = ""
    r"""Text to send after that. Example: `"start\r\n"`."""

    def __post_init__(self) -> None:
        if len(set(self.channels)) < len(self.channels):
            raise ValueError("channels: a name appears twice")
        if reserved := {"sequence", "time_us"}.intersection(self.channels):
            raise ValueError(f"channels: {min(reserved)!r} is the name of a node's counter; use another")
        calibration(self)


def calibration(config: Config) -> Calibration:
    """Return what raw values mean. ``ValueError`` where there is not one number, or one a channel."""
    count = len(config.channels)
    if not config.range:
        low, high = np.array(-np.inf), np.array(np.inf)
    else:
        pairs: Sequence[Any] = config.range if isinstance(config.range[0], list) else [config.range]
        if len(pairs) not in (1, count) or not all(_is_pair(pair) for pair in pairs):
            raise ValueError(f"range: expected [low, high], or {count} such pairs, one a channel")
        low, high = np.array(pairs, np.float64).T
        if not (low < high).all():
            raise ValueError("range: expected low below high")
    return Calibration(
        _per_channel(config.scale, count, "scale"), _per_channel(config.offset, count, "offset"), low, high
    )


def _is_pair(numbers: Any) -> bool:
    return isinstance(numbers, list) and len(numbers) == 2 and not any(isinstance(n, list) for n in numbers)


def _per_channel(numbers: PerChannel, count: int, key: str) -> NDArray[np.float64]:
    if isinstance(numbers, list) and len(numbers) != count:
        raise ValueError(f"{key}: has {len(numbers)} numbers for {count} channels")
    return np.array(numbers, np.float64)


def needs(config: Config) -> Needs:
    """Return the port's device node, or the server that it is at. ``ConfigError``: it is a URL without a port."""
    if not _is_url(config):
        return Needs(devices=(str(Path(config.port).absolute()),))
    from urllib.parse import urlsplit  # it takes memory that most sources do without

    url = urlsplit(config.port)
    if url.scheme in _ON_NETWORK:
        try:
            endpoint = Endpoint(url.hostname or "", url.port or 0)
        except ValueError as error:
            raise ConfigError([f"port: {error}"]) from error
        if not (endpoint.host and endpoint.port):
            raise ConfigError([f'port: {config.port!r} has no host or no port; write "{url.scheme}://HOST:PORT"'])
        return Needs(endpoints=(endpoint,))
    if url.scheme in _AROUND_A_PORT:
        return Needs(devices=(str(Path(url.netloc + url.path).absolute()),))
    return Needs(devices=_SEARCHED.get(url.scheme, ()))


def describe(config: Config) -> SampleSpec:
    """Return that samples are float32 ``(channels,)``. ``ConfigError``: the framing or the URL cannot be right."""
    problems: list[str] = []
    try:
        serial.serial_for_url(config.port, do_not_open=True)
    except ValueError as error:
        problems.append(f"port: {error}")
    except OSError:
        pass  # the device is away, which is for ``open`` to say
    _framing(config, Counter(), problems)
    if problems:
        raise ConfigError(problems)
    return _spec(config)


def _spec(config: Config) -> SampleSpec:
    patience = max(PATIENCE, 20 / config.rate) if config.rate else PATIENCE
    channels = tuple(config.channels)
    return SampleSpec((len(channels),), np.dtype(np.float32), channels, config.rate, patience=patience)


def _framing(config: Config, dropped: Counter[str], problems: list[str]) -> Framing | None:
    """Open the framing; ``None`` where something was added to ``problems``."""
    table = {"kind": config.framing} if isinstance(config.framing, str) else dict(config.framing)
    kind = table.pop("kind", None)
    if not isinstance(kind, str):
        problems.append(f"framing.kind: missing{suggest('', plugins.names('framings'))}")
        return None
    try:
        module: FramingPlugin = plugins.load("framings", kind)
        options = fill(module.Config, table, "framing", Path(), problems)
        return None if options is None else module.open(options, config.channels, dropped)
    except ConfigError as error:
        problems += [f"framing: {problem}" for problem in error.problems]
    except ValueError as error:
        problems.append(below("framing", str(error), module.Config.__struct_encode_fields__))
    return None


@contextmanager
def open(config: Config, dropped: Counter[str]) -> Iterator[Iterator[Samples]]:
    """Open the port exclusively. See ``contracts.source.Source``; the causes in ``dropped`` stand above."""
    problems: list[str] = []
    framing = _framing(config, dropped, problems)
    if framing is None:
        raise ConfigError(problems)
    with _settings(config) as before:
        port = _connect(config)
    try:
        yield _from(config, port, framing, dropped)
    finally:
        if before is not None:
            with suppress(OSError, termios.error):  # the device may be gone
                termios.tcsetattr(port.fileno(), termios.TCSANOW, before)
        port.close()


@contextmanager
def _settings(config: Config) -> Iterator[list[Any] | None]:
    """Yield the settings of a device before pyserial changes them: with its own, ``cat`` would end at once.

    The device stays open meanwhile, so that a board does not restart twice.
    """
    fd = None
    before = None
    if not _is_url(config):
        with suppress(OSError, termios.error):  # ``_connect`` says why it cannot be opened
            fd = os.open(config.port, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
            before = termios.tcgetattr(fd)
    try:
        yield before
    finally:
        if fd is not None:
            os.close(fd)


def _connect(config: Config) -> Any:
    try:
        port = serial.serial_for_url(
            config.port,
            do_not_open=True,
            baudrate=config.baud,
            bytesize=config.bytesize,
            parity=_PARITIES[config.parity],
            stopbits=config.stopbits,
            rtscts=config.rtscts,
            dsrdtr=config.dsrdtr,
            xonxoff=config.xonxoff,
            timeout=LINGER if _is_url(config) else IDLE,
            exclusive=True,
        )
        if not _is_url(config):
            port.write_timeout = WRITING
        if config.dtr is not None:
            port.dtr = config.dtr
        if config.rts is not None:
            port.rts = config.rts
        port.open()
    except (OSError, ValueError, termios.error) as error:
        raise SourceError(f"{config.port}: {reason(error)}") from error
    _keep_alive(port)
    return port


def _keep_alive(port: Any) -> None:
    """Let the kernel find out that the other end of a network port is gone. pyserial does not offer its socket."""
    connection = vars(port).get("_socket")
    if isinstance(connection, socket.socket):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEP_ALIVE.items():
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def reason(error: Exception) -> str:
    """Return what a person can do something about, where we know it, instead of pyserial's words."""
    known = REASONS.get(error.errno or 0) if isinstance(error, OSError) else None
    return known or str(error)


def _is_url(config: Config) -> bool:
    return "://" in config.port


def _receiver(config: Config, port: Any) -> Callable[[], bytes]:
    """Return what waits for bytes, at most ``IDLE`` seconds, and returns all that are there."""
    receive = _port_reader(port) if _is_url(config) else _device_reader(port.fileno())

    def received() -> bytes:
        try:
            return receive()
        except (OSError, termios.error) as error:
            raise SourceError(f"{config.port}: {error}") from error

    return received


def _port_reader(port: Any) -> Callable[[], bytes]:
    return lambda: bytes(port.read(CHUNK))


def _device_reader(fd: int) -> Callable[[], bytes]:
    """Return what reads a device in two system calls. pyserial takes five, and as much time as ten rows."""

    def read() -> bytes:
        if not select([fd], [], [], IDLE)[0]:
            return b""
        try:
            data = os.read(fd, CHUNK)
        except BlockingIOError:
            return b""
        if not data:
            raise OSError("it reports bytes to read and has none; was it unplugged, or is it in use elsewhere?")
        return data

    return read


def _from(config: Config, port: Any, framing: Framing, dropped: Counter[str]) -> Iterator[Samples]:
    receive = _receiver(config, port)
    until = time.monotonic() + config.settle
    note = f"{config.port}: `settle` gives the board {config.settle:g} s to start" if config.settle > LEAST else ""
    while time.monotonic() < until:
        receive()
        yield empty_samples(_spec(config), note=note)
    if config.start:
        try:
            port.write(config.start.encode())
        except (OSError, termios.error) as error:
            raise SourceError(f"{config.port}: the start command cannot be sent: {error}") from error
    yield from _samples(config, receive, framing, dropped)


class _Explainer:
    """Says what comes instead of samples while there are none. ``note`` is empty while samples come."""

    def __init__(self, config: Config, dropped: Counter[str]) -> None:
        self.note = ""
        self._config = config
        self._dropped = dropped
        self._before = Counter(dropped)
        """What had been dropped when the last sample came."""
        self._received = b""
        self._watch = SampleWatch(config.rate, time.monotonic())
        self._look_at = 0.0

    def sampled(self) -> None:
        """Take note of samples."""
        self._watch.sample(time.monotonic())
        self._before = Counter(self._dropped)
        self._received, self.note = b"", ""

    def received(self, data: bytes) -> None:
        """Take bytes that held no sample."""
        self._received = (self._received + data)[-CHUNK:]
        now = time.monotonic()
        if now < self._look_at or not self._watch.overdue(now):
            return
        self._look_at = now + AGAIN
        self.note = updated(self.note, self._explain())

    def _explain(self) -> str:
        config = self._config
        kind = config.framing if isinstance(config.framing, str) else str(config.framing.get("kind"))
        seen = _recognition.why_no_samples(self._received, config.channels, kind, self._dropped - self._before)
        place = config.port if _is_url(config) else f"{config.port} at {config.baud} baud"
        return f"{place} {seen}" if seen else ""


def _samples(
    config: Config, receive: Callable[[], bytes], framing: Framing, dropped: Counter[str]
) -> Iterator[Samples]:
    explainer = _Explainer(config, dropped)
    continuity = Continuity(framing.modulo, dropped)
    shaper = Shaper(calibration(config), config.rate, dropped)
    spec = _spec(config)
    yielded_ns = time.monotonic_ns()
    while True:
        data = receive()
        now, wall = time.monotonic_ns(), time.time_ns()
        rows, ordinals = continuity.place(framing.feed(data), now // 1000)
        for samples in shaper.shape(rows, ordinals, now, wall):
            yielded_ns = now
            explainer.sampled()
            yield samples
        if yielded_ns != now:
            explainer.received(data)
        if now - yielded_ns > IDLE * 0.9e9:
            yielded_ns = now
            yield empty_samples(spec, continuity.next, explainer.note)
        if len(data) < CHUNK // 2:
            time.sleep(max(0.0, PACE - (time.monotonic_ns() - now) / 1e9))
