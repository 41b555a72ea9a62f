"""Recordings on disk as arrays. ``ConfigError`` has the path, the line where there are lines, and the reason.

What reads a format is imported with its first file: workers should start fast.
"""

from __future__ import annotations

import math
import zlib
from array import array
from itertools import chain
from tokenize import TokenError
from typing import IO, TYPE_CHECKING

import msgspec
import numpy as np
from numpy.typing import NDArray

from limpet.errors import ConfigError
from limpet.plugin import suggest
from limpet.types import Array

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


TIME = "time"
"""The CSV column with the seconds at which samples were taken."""

STEADY = 0.1
"""A recording has a rate if no interval is further than this share from the median one."""


class Recording(msgspec.Struct):
    """``values`` ``(n, *shape)``, n at least 1; ``seconds`` float64 ``(n,)`` from the first sample, if known."""

    values: Array
    channels: tuple[str, ...] = ()
    rate: float | None = None
    seconds: NDArray[np.float64] | None = None

    @property
    def duration(self) -> float:
        """Seconds from its first sample to where one after its last would be."""
        if self.seconds is None:
            return 0.0
        last = float(self.seconds[-1])
        return last + (last / (len(self.seconds) - 1) if last else 1 / (self.rate or 1.0))


def load(path: Path, channels: Sequence[str], rate: float | None) -> Recording:
    """Read a recording by its suffix. ``rate`` stands in for what it says of time."""
    readers = {".csv": _csv, ".csv.gz": _csv, ".npy": _npy, ".wav": _wav}
    suffix = next((suffix for suffix in readers if path.name.lower().endswith(suffix)), None)
    if suffix is None:
        raise ConfigError([f"path: {path}: expected a name that ends in {', '.join(readers)}"])
    try:
        recording = readers[suffix](path, channels)
    except (OSError, EOFError, ValueError, RuntimeError, zlib.error) as error:
        reason = (isinstance(error, OSError) and error.strerror) or str(error) or "is cut short"
        raise ConfigError([f"path: {path}: {reason}"]) from error
    if not len(recording.values):
        raise ConfigError([f"path: {path}: has no samples"])
    pace = rate or recording.rate
    if pace is not None and (rate is not None or recording.seconds is None):
        recording.rate = pace
        recording.seconds = np.arange(len(recording.values)) / pace
    return recording


def _npy(path: Path, channels: Sequence[str]) -> Recording:
    try:
        values: Array = np.lib.format.open_memmap(path, mode="r")
    except (SyntaxError, TokenError, TypeError, OverflowError) as error:
        raise ValueError(f"has a damaged header: {error}") from error
    if values.ndim == 0 or values.dtype.kind not in "biuf":
        raise ValueError(f"has shape {values.shape} and dtype {values.dtype}; expected (n, ...) real numbers")
    if not values.dtype.isnative:
        values = values.astype(values.dtype.newbyteorder("="))
    if values.ndim == 1:
        values = values[:, np.newaxis]
    _check_channels(channels, values.shape[-1])
    return Recording(values, tuple(channels))


def _wav(path: Path, channels: Sequence[str]) -> Recording:
    import wave

    try:
        with wave.open(str(path), "rb") as file:
            count = file.getnchannels()
            if file.getsampwidth() != 2:
                raise ValueError(f"has {8 * file.getsampwidth()}-bit samples; convert it to 16-bit PCM")
            rate, frames = file.getframerate(), file.getnframes()
            data = file.readframes(frames)
    except wave.Error as error:
        raise ValueError(str(error)) from error
    if rate < 1 or len(data) != 2 * count * frames:
        raise ValueError("is cut short or damaged")
    _check_channels(channels, count)
    values = np.frombuffer(data, "<i2").reshape(-1, count).astype(np.float32) / np.float32(32768)
    return Recording(values, tuple(channels), float(rate))


def _check_channels(channels: Sequence[str], count: int) -> None:
    if channels and len(channels) != count:
        raise ValueError(f"has {count} channels, but {len(channels)} are named")


def _csv(path: Path, channels: Sequence[str]) -> Recording:
    import csv

    with _text(path) as file:
        lines = csv.reader(file)
        try:
            return _table(lines, channels)
        except (csv.Error, ValueError) as error:
            raise ValueError(f"line {lines.line_num}: {error}") from error


def _text(path: Path) -> IO[str]:
    if path.suffix.lower() == ".gz":
        import gzip

        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _table(lines: Iterator[list[str]], channels: Sequence[str]) -> Recording:
    rows = (row for row in lines if row)
    first = next(rows, [])
    header = not all(_is_number(word) for word in first)
    names = [word.strip() for word in first] if header else list(channels)
    if not names:
        raise ValueError("no column names; give them in the first line or as channels")
    wanted = [name for name in channels or names if name != TIME]
    columns = [_column(names, name) for name in wanted]
    clock = _column(names, TIME) if TIME in names else None
    values, seconds = array("d"), array("d")
    for row in rows if header else chain([first], rows):
        if len(row) != len(names):
            raise ValueError(f"expected {len(names)} columns, found {len(row)}")
        values.extend(_number(row[column]) for column in columns)
        if clock is not None:
            seconds.append(_moment(row[clock], seconds))
    with np.errstate(over="ignore"):
        array_2d = np.array(values).reshape(-1, len(columns)).astype(np.float32)
    recording = Recording(array_2d, tuple(wanted))
    if seconds:
        recording.seconds = np.array(seconds) - seconds[0]
        recording.rate = _steady_rate(recording.seconds)
    return recording


def _column(names: Sequence[str], name: str) -> int:
    if names.count(name) > 1:
        raise ValueError(f"two columns are called {name!r}")
    if name not in names:
        raise ValueError(f"no column {name!r}{suggest(name, names)}")
    return names.index(name)


def _number(word: str) -> float:
    """Return a number; NaN for an empty field, which is how a missing one is written."""
    return float(word) if word.strip() else math.nan


def _is_number(word: str) -> bool:
    try:
        _number(word)
    except ValueError:
        return False
    return True


def _moment(word: str, before: Sequence[float]) -> float:
    moment = _number(word)
    if not math.isfinite(moment) or (before and moment < before[-1]):
        raise ValueError(f"time {word!r} does not follow the line before")
    return moment


def _steady_rate(seconds: NDArray[np.float64]) -> float | None:
    intervals = np.diff(seconds)
    middle = float(np.median(intervals)) if len(intervals) else 0.0
    if not middle or np.abs(intervals - middle).max() > STEADY * middle:
        return None
    return len(intervals) / float(seconds[-1])
