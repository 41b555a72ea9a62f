"""Sound files of a folder of recordings: read part by part, one channel, at the rate that models have.

Only what is kept is in memory. The folder is foreign data: not more is read than its description says.
"""

from __future__ import annotations

import math
from contextlib import closing
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from limpet.recordings import layouts
from limpet.sources import _sound
from limpet_convert.errors import ConvertError
from limpet_convert.libraries import need

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from limpet.contracts.data import FloatArray
    from limpet.recordings.folder import Recording
    from limpet.sources._resampling import Resampling

RATE = 16_000.0
"""Samples a second at most. The source ``audio`` gives so many unless it is set otherwise."""
LARGEST = 256 << 20
"""Bytes of all samples together, as float32: 70 minutes."""
_PART = 1 << 16


class Wanted(NamedTuple):
    """``column``: the channel. ``rate``: samples a second. ``kept``: begins and ends in seconds, in order."""

    column: int
    rate: float
    kept: tuple[tuple[float, float], ...]


class Heard(NamedTuple):
    """``values``: float32 ``(n, 1)``. ``edges``: each part that is kept, from its first sample to behind its last.

    They are positions in the whole recording. ``places``: the same in ``values``.
    """

    values: FloatArray
    edges: tuple[tuple[int, int], ...]
    places: tuple[tuple[int, int], ...]


def is_sound(found: Sequence[Recording], channels: Sequence[str]) -> bool:
    """Whether these are recordings of one kind of sound. ``ConvertError`` if several channels of it are wanted.

    Other sensors are fast enough for sound files too. They are sound if they have one channel.
    """
    files = all(_sound.is_sound(Path(one.file)) and (one.rate or 0) >= layouts.WAVE_FROM for one in found)
    if not files or len(channels) == 1:
        return files
    if any(one.kind != "audio" for one in found):
        return False
    raise ConvertError(
        f"{found[0].file} has {len(channels)} channels ({', '.join(channels)}), and a model of sound takes one. "
        f"Choose it: --channels {channels[0]}"
    )


def rate_of(found: Sequence[Recording]) -> float:
    """Return the rate of the model: ``RATE``, or the lowest one of the recordings if that is lower."""
    return min(RATE, *(one.rate or RATE for one in found))


def read(path: Path, one: Recording, wanted: Wanted) -> Heard:
    """Read what is kept of a sound file. ``ConvertError`` says what is wrong with it."""
    end_of_all = sample(one.samples / (one.rate or RATE), wanted.rate)
    edges = [(sample(begin, wanted.rate), min(sample(end, wanted.rate), end_of_all)) for begin, end in wanted.kept]
    edges = [(begin, end) for begin, end in edges if begin < end]
    starts = [0, *accumulate(end - begin for begin, end in edges)]
    values = np.empty((starts[-1], 1), np.float32)
    at = 0
    with closing(_blocks(path, one, wanted)) as blocks:
        for block in blocks:
            for (begin, end), start in zip(edges, starts, strict=False):
                low, high = max(begin, at), min(end, at + len(block))
                if low < high:
                    values[start + low - begin : start + high - begin] = block[low - at : high - at]
            at += len(block)
            if at >= end_of_all:
                break
    there = [(begin, min(end, at)) for begin, end in edges if begin < at]  # the file may be shorter
    places = [(start, start + end - begin) for (begin, end), start in zip(there, starts, strict=False)]
    return Heard(values[: places[-1][1] if places else 0], tuple(there), tuple(places))


def sample(seconds: float, rate: float) -> int:
    """Return the first sample that is not before a time."""
    return math.ceil(round(seconds * rate, 3))


def _blocks(path: Path, one: Recording, wanted: Wanted) -> Generator[FloatArray]:
    """Yield the channel at the wanted rate, ``(n, 1)``."""
    try:
        with _sound.opened(path) as stream:
            _refuse_other(stream, one)
            flow = _resampling(stream.rate, wanted.rate)
            while len(values := stream.read(_PART)):
                part = np.ascontiguousarray(values[:, wanted.column : wanted.column + 1])
                yield flow.feed(part) if flow else part
            if flow:
                yield flow.rest()
    except (OSError, ValueError, RuntimeError, EOFError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or str(error)
        raise ConvertError(f"{path}: {reason}") from error


def _refuse_other(stream: _sound.SoundStream, one: Recording) -> None:
    """Raise ``ValueError`` if a file is not what its description says."""
    if stream.channels != len(one.channels):
        raise ValueError(f"has {stream.channels} channels, but recordings.json names {len(one.channels)}")
    if stream.rate != one.rate:
        raise ValueError(f"has {stream.rate:g} Hz, but recordings.json says {one.rate:g} Hz")


def _resampling(rate: float, wanted: float) -> Resampling | None:
    if rate == wanted:
        return None
    need("soxr", "audio")
    from limpet.sources._resampling import Resampling

    return Resampling(rate, wanted, 1)
