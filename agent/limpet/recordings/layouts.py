"""How samples are in the file of a recording: as lines of CSV, or as sound in WAV. No I/O."""

from __future__ import annotations

import csv
import io
import struct
from typing import TYPE_CHECKING, Protocol

from limpet.errors import UnreadableError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from limpet.contracts.data import Array
    from limpet.recordings.folder import Recording

TIME = "time"
WAVE_FROM = 4000.0
"""Samples a second from which a recording is WAV: as CSV, a minute of 16,000 Hz has 20 MB."""
LARGEST_WAVE = 0xF000_0000
"""Bytes of a WAV file at most. Its own limit is 4 GiB."""
_FLOAT = 3
"""WAV's number for samples that are floats."""
_SIZE = 4
"""Bytes of a float32."""
_HEADER = struct.Struct("<4sI4s4sIHHIIHHH4sII4sI")


class Layout(Protocol):
    """``suffix`` of the file's name. ``largest``: bytes that a file can have; 0 for no limit."""

    suffix: str
    largest: int

    def header(self, channels: Sequence[str], size: int) -> bytes:
        """Return the file's first bytes, which always have the same length. ``size``: bytes of samples so far."""

    def rows(self, seconds: NDArray[np.float64], values: Array) -> bytes:
        """Return samples, values ``(n, channels)``, with their times in seconds from the first one."""

    def whole(self, data: bytes, room: int, channels: int) -> tuple[bytes, int]:
        """Return the first whole samples of ``data`` in at most ``room`` bytes, and how many these are."""


class Table:
    """CSV: a line of names, then a line for each sample, with its time."""

    suffix = ".csv"
    largest = 0

    def header(self, channels: Sequence[str], size: int) -> bytes:  # noqa: ARG002 - a table does not have it
        """Return the line of names."""
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerow([TIME, *channels])
        return text.getvalue().encode()

    def rows(self, seconds: NDArray[np.float64], values: Array) -> bytes:
        """Return a line for each sample."""
        return lines(seconds.tolist(), values.astype(str).tolist())

    def whole(self, data: bytes, room: int, channels: int) -> tuple[bytes, int]:  # noqa: ARG002 - in the lines
        """Return whole lines."""
        part = data if len(data) <= room else data[: data.rfind(b"\n", 0, max(0, room)) + 1]
        return part, part.count(b"\n")


class Wave:
    """WAV with 32-bit floats, just as the source gave them. Sample k is at k / ``rate`` seconds."""

    suffix = ".wav"
    largest = LARGEST_WAVE

    def __init__(self, rate: float) -> None:
        self.rate = rate

    def header(self, channels: Sequence[str], size: int) -> bytes:
        """Return RIFF's head, the chunk `fmt`, the chunk `fact`, and the head of the chunk `data`."""
        count, rate = len(channels), round(self.rate)
        frame = count * _SIZE
        form = (_FLOAT, count, rate, rate * frame, frame, 8 * _SIZE, 0)
        return _HEADER.pack(
            *(b"RIFF", _HEADER.size - 8 + size, b"WAVE"),
            *(b"fmt ", 18, *form),
            *(b"fact", 4, size // frame),
            *(b"data", size),
        )

    def rows(self, seconds: NDArray[np.float64], values: Array) -> bytes:  # noqa: ARG002 - known from the rate
        """Return the samples as little-endian float32."""
        return values.astype("<f4").tobytes()

    def whole(self, data: bytes, room: int, channels: int) -> tuple[bytes, int]:
        """Return whole samples."""
        count = min(len(data), max(0, room)) // (channels * _SIZE)
        return data[: count * channels * _SIZE], count


def of(recording: Recording) -> Layout:
    """Return the layout of a recording's file, by its name. It is CSV unless the name is that of a WAV file.

    ``UnreadableError`` for a WAV file without a rate.
    """
    if not recording.file.endswith(Wave.suffix):
        return Table()
    if not fits_wave(recording.rate):
        raise UnreadableError(f"{recording.file} has no rate that a WAV file can have")
    return Wave(recording.rate or 0.0)


def fits_wave(rate: float | None) -> bool:
    """Whether samples at this rate are recorded as WAV, whose rates are whole numbers."""
    return rate is not None and WAVE_FROM <= rate < 1 << 32 and rate.is_integer()


def lines(seconds: Sequence[float], words: Sequence[Sequence[str]]) -> bytes:
    """Return lines of CSV: a time and the values of each sample."""
    made = [f"{time:.6f},{','.join(values)}\n" for time, values in zip(seconds, words, strict=True)]
    return "".join(made).encode()
