"""Plays a sound file part by part, as if a microphone heard it now. It is never in memory as a whole."""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from limpet.contracts.data import SampleSpec, empty_samples
from limpet.errors import ConfigError
from limpet.sources import _sound
from limpet.sources._recordings import Chosen, described_in_folder
from limpet.sources._rows import Cutter

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from limpet.contracts.data import FloatArray, Samples
    from limpet.sources._resampling import Resampling
    from limpet.sources._sound import SoundStream

PART = 0.02
"""Seconds of playing time in a block."""
BLOCK = 4096
"""Frames in a block at most."""
IDLE = 0.5
LONGEST = 1e9
"""Seconds that a file can have."""

log = logging.getLogger(__name__)


class Playing(NamedTuple):
    """How to play a file. ``rate`` replaces the file's, and the samples come at ``resample``; 0: as they are.

    ``speed``: a number of times the recorded one; 0 for as fast as the model takes samples.
    """

    path: Path
    channels: Sequence[str]
    rate: float
    resample: int
    speed: float
    loop: bool


def describe(playing: Playing) -> SampleSpec:
    """Open the file and say what its samples are. ``ConfigError`` says what is wrong with it."""
    with _opened(playing) as (stream, chosen):
        return _spec(playing, stream, chosen)


def play(playing: Playing, dropped: Counter[str]) -> Iterator[Samples]:
    """Play it. A sample's stamp is the time at which it was due; flat out, the first time through ends now."""
    begin, first = float(time.monotonic_ns()), 0
    while True:
        with _opened(playing) as (stream, chosen):
            spec = _spec(playing, stream, chosen)
            pace = 1e9 / (spec.rate or 1.0) / (playing.speed or 1.0)
            if not first:
                if stream.note:
                    log.warning("%s: %s", playing.path, stream.note)
                if playing.rate and playing.rate != stream.rate:
                    what = "plays %s of %g Hz as if it had %g Hz; to change the rate of sound, set `resample`"
                    log.warning(what, playing.path, stream.rate, playing.rate)
                if not playing.speed:
                    begin -= stream.frames / (playing.rate or stream.rate) * 1e9
            cutter, count = Cutter(), 0
            for block in _blocks(playing, spec, stream, chosen):
                values = block
                ordinals = np.arange(first + count, first + count + len(values))
                times = (begin + np.arange(count, count + len(values)) * pace).astype(np.int64)
                count += len(values)
                if playing.speed:
                    yield from _until(int(times[-1]), spec, int(ordinals[0]))
                gap = (ordinals == first) & (first > 0)
                if not np.isfinite(values).all():
                    finite = np.isfinite(values).all(axis=1)
                    dropped["not_finite"] += int((~finite).sum())
                    values, times, ordinals, gap = values[finite], times[finite], ordinals[finite], gap[finite]
                wall = time.time_ns() - time.monotonic_ns()
                yield from cutter.cut(values, times, wall, ordinals, gap)
        if not (playing.loop and count):
            return
        begin, first = begin + count * pace, first + count


@contextmanager
def _opened(playing: Playing) -> Iterator[tuple[SoundStream, Chosen]]:
    try:
        described = described_in_folder(playing.path)
        there = described.channels if described else ()
        with _sound.opened(playing.path) as stream:
            yield stream, Chosen(playing.channels or there, stream.channels, there)
    except (OSError, EOFError, ValueError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or str(error)
        raise ConfigError([f"path: {playing.path}: {reason}"]) from error


def _spec(playing: Playing, stream: SoundStream, chosen: Chosen) -> SampleSpec:
    if not stream.frames:
        raise ValueError("has no samples")
    if stream.frames / (playing.rate or stream.rate) > LONGEST:
        raise ValueError(f"has {stream.frames:,} samples by its header, which cannot be")
    rate = playing.resample or playing.rate or stream.rate
    shape = (chosen.count or stream.channels,)
    return SampleSpec(shape, np.dtype(np.float32), chosen.names, rate, live=bool(playing.speed))


def _blocks(playing: Playing, spec: SampleSpec, stream: SoundStream, chosen: Chosen) -> Iterator[FloatArray]:
    """Yield the chosen channels at the wanted rate, in blocks that are not empty."""
    rate = playing.rate or stream.rate
    size = max(1, min(BLOCK, round(rate * PART * (playing.speed or 100))))
    resampling = _resampling(playing, rate, spec.shape[0])
    while len(values := stream.read(size)):
        values = chosen.of(values)
        if resampling is not None:
            values = resampling.feed(values)
        if len(values):
            yield values
    if resampling is not None and len(values := resampling.rest()):
        yield values


def _resampling(playing: Playing, rate: float, channels: int) -> Resampling | None:
    if not playing.resample or playing.resample == rate:
        return None
    try:
        from limpet.sources._resampling import Resampling
    except ModuleNotFoundError as error:
        raise ValueError(
            f"has {rate:g} samples a second, not {playing.resample}. Run: pip install 'limpet[audio]'"
        ) from error
    return Resampling(rate, playing.resample, channels)


def _until(due: int, spec: SampleSpec, index: int) -> Iterator[Samples]:
    """Wait until then, and show life meanwhile."""
    while (left := due - time.monotonic_ns()) > 0:
        time.sleep(min(left / 1e9, IDLE))
        if left > IDLE * 1e9:
            yield empty_samples(spec, index)
