"""Binary frames with a CRC, a sequence number and the node's clock; docs/reference/serial-frame.md has the layout.

The only framing in which no damage goes unseen, and the cheapest: use it wherever you write the firmware.
"""

from __future__ import annotations

import binascii
import struct
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np
from cobs import cobs

from limpet.contracts.data import Rows
from limpet.sources.framings._lines import CLOCK
from limpet.sources.framings._splitter import BadFrameError, Splitter

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Sequence

    from limpet.contracts.data import Array
    from limpet.contracts.framing import Framing

HEADER = struct.Struct("<BBHI")
CRC = struct.Struct("<H")
MODULO = 1 << 16
MAX_SAMPLES = 255
DTYPES: dict[int, np.dtype[Any]] = {
    0x11: np.dtype("<i2"),
    0x12: np.dtype("<i4"),
    0x13: np.dtype("<f4"),
}
"""First byte of a frame: version 1 in the high half, the type of the values in the low one."""


class Config(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Nothing: the frame says it all."""


class _Frame(NamedTuple):
    values: Array
    sequence: int
    time_us: int


def crc(data: bytes) -> int:
    """CRC-16/IBM-3740, also known as CRC-16/CCITT-FALSE: polynomial 0x1021, start 0xFFFF, check 0x29B1."""
    return binascii.crc_hqx(data, 0xFFFF)


def encode(values: Array, sequence: int, time_us: int) -> bytes:
    """Return a frame with its delimiter.

    ``values``: int16, int32 or float32 ``(n, channels)``, n from 1 to 255. ``sequence`` and ``time_us`` are those
    of the first sample and are taken modulo 2**16 and 2**32. ``ValueError`` for what has no frame.
    """
    first = next((key for key, dtype in DTYPES.items() if dtype == values.dtype), None)
    if first is None:
        raise ValueError(f"no frame for {values.dtype}; there are int16, int32 and float32")
    samples, channels = values.shape
    if not (1 <= samples <= MAX_SAMPLES and 1 <= channels <= 255):
        raise ValueError(f"no frame for {samples} samples of {channels} channels; 1 to 255 of each")
    body = (
        HEADER.pack(first, channels, sequence % MODULO, time_us % CLOCK) + values.astype(DTYPES[first]).tobytes()
    )
    return bytes(cobs.encode(body + CRC.pack(crc(body)))) + b"\0"


def open(config: Config, channels: Sequence[str], dropped: Counter[str]) -> Framing:  # noqa: ARG001
    """Count ``partial``, ``overlong``, ``malformed``, ``crc`` and ``fields`` (channels) frames.

    ``duplicate`` counts the samples of a frame that came twice.
    """
    if len(channels) > 255:
        raise ValueError("a frame has at most 255 channels")
    return _Cobs(len(channels), dropped)


class _Cobs:
    modulo: int | None = MODULO

    def __init__(self, channels: int, dropped: Counter[str]) -> None:
        longest = HEADER.size + MAX_SAMPLES * channels * 4 + CRC.size
        self._frames = Splitter(b"\0", longest + longest // 254 + 1)
        self._channels = channels
        self._dropped = dropped
        self._opening = True
        self._broken = False
        self._clock = _Clock()
        self._last = b""

    def feed(self, data: bytes) -> Rows:
        """Return the rows of the frames that ended in ``data``."""
        frames: list[_Frame] = []
        gaps: list[bool] = []
        for raw in self._frames.feed(data):
            if raw == b"":
                continue  # two delimiters: a board may send one before each frame
            try:
                frame = self._read(raw)
            except BadFrameError as bad:
                self._dropped["partial" if self._opening and raw else str(bad)] += 1
                self._broken = True
            else:
                if raw == self._last:
                    self._dropped["duplicate"] += len(frame.values)
                    continue
                frames.append(frame)
                gaps.append(self._broken)
                self._broken = False
            self._opening = False
            self._last = raw or b""
        return self._rows(frames, gaps)

    def _read(self, raw: bytes | None) -> _Frame:
        if raw is None:
            raise BadFrameError("overlong")
        try:
            data = cobs.decode(raw)
        except cobs.DecodeError:
            raise BadFrameError("malformed") from None
        if len(data) < HEADER.size + CRC.size:
            raise BadFrameError("malformed")
        body = data[: -CRC.size]
        if crc(body) != CRC.unpack_from(data, len(body))[0]:
            raise BadFrameError("crc")
        return self._frame(body)

    def _frame(self, body: bytes) -> _Frame:
        first, channels, sequence, time_us = HEADER.unpack_from(body)
        dtype = DTYPES.get(first)
        if dtype is None:
            raise BadFrameError("malformed")
        if channels != self._channels:
            raise BadFrameError("fields")
        samples, rest = divmod(len(body) - HEADER.size, channels * dtype.itemsize)
        if rest or not 1 <= samples <= MAX_SAMPLES:
            raise BadFrameError("malformed")
        values = np.frombuffer(body, dtype, offset=HEADER.size).reshape(samples, channels)
        return _Frame(values, sequence, time_us)

    def _rows(self, frames: Sequence[_Frame], gaps: Sequence[bool]) -> Rows:
        if not frames:
            none = np.empty(0, np.int64)
            return Rows(np.empty((0, self._channels)), np.empty(0, np.bool_), none, none)
        sequence: list[int] = []
        time_us: list[int] = []
        gap: list[bool] = []
        for frame, broken in zip(frames, gaps, strict=True):
            count, step = len(frame.values), self._clock.step(frame)
            sequence += range(frame.sequence, frame.sequence + count)
            time_us += [frame.time_us + i * step for i in range(count)]
            gap += [broken, *[False] * (count - 1)]
        with np.errstate(invalid="ignore"):  # a signalling NaN
            values = np.concatenate([frame.values for frame in frames], dtype=np.float64)
        return Rows(
            values, np.array(gap), np.array(sequence, np.int64) % MODULO, np.array(time_us, np.int64) % CLOCK
        )


class _Clock:
    """The node's time between two samples, from frames that follow one another.

    A frame gives the time of its first sample only.
    """

    def __init__(self) -> None:
        self._expected = -1
        self._count = 0
        self._time = 0
        self._step = 0

    def step(self, frame: _Frame) -> int:
        """Return µs from sample to sample in ``frame``: 0 as long as it is not known."""
        elapsed = (frame.time_us - self._time) % CLOCK
        if frame.sequence == self._expected and elapsed < CLOCK // 2:
            self._step = elapsed // self._count
        self._count = len(frame.values)
        self._expected = (frame.sequence + self._count) % MODULO
        self._time = frame.time_us
        return self._step
