"""A recording, played as if it were live: a table, NPY, sound, video or pictures, by the file's suffix.

CSV, TSV: a row of column names, or ``channels`` in the configuration. Delimiter, decimal character and the column
with the times are detected in the file, see ``limpet.sources.tables``. Samples are float32 ``(channels,)``.
NPY: an array ``(n, *shape)`` of any real dtype; samples are ``shape`` of that dtype, and an array ``(n,)`` is one
channel. Sound: samples are float32 ``(channels,)`` from -1 to 1, see ``limpet.sources._sound_player``.

Pictures: a file or a folder of them, by name, at ``rate`` pictures a second. Samples are frames. If the folder has
a ``recordings.json`` with all of them, they are played as they were taken.

A CSV file of a folder of recordings, as `limpet record` writes it: the folder says its channels, rate, units and
gaps. Labels are no channels.

Video: samples are frames at the recorded times. As few of them as possible are in memory.

Samples with a NaN or an infinite value are dropped and counted as ``not_finite``. Pictures that cannot be decoded
count as ``damaged``, and frames of a video that cannot be decoded as ``corrupt``. ``cut_short`` counts the frames
that are missing at the end of a video.
"""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
import numpy as np
from msgspec import Meta

from limpet.contracts.data import SampleSpec, empty_samples
from limpet.contracts.fields import Positive
from limpet.contracts.needs import Needs
from limpet.errors import ConfigError, UnreadableError
from limpet.extras import install_extra
from limpet.recordings import folder
from limpet.sources import _sound_player
from limpet.sources._recordings import load
from limpet.sources._rows import Cutter
from limpet.sources._sound import is_sound
from limpet.sources.tables.form import Form
from limpet.untrusted import printable

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from limpet.contracts.data import Array, Samples, TimeArray
    from limpet.sources._recordings import Recording
    from limpet.sources._replay_video import Player

BLOCK = 256
"""Samples in a block at most."""
BLOCK_BYTES = 1 << 20
"""Bytes in a block at most, unless one sample has more."""
PACE = 0.01
"""Seconds from one block to the next, at least."""
IDLE = 0.5
MOST_LOGGED = 20
"""Damaged pictures that are named in the log; further ones are only counted."""
VIDEOS = frozenset(
    (
        *(".mp4", ".m4v", ".mov", ".3gp", ".mkv", ".webm", ".avi", ".flv", ".ogv", ".mpg", ".mpeg"),
        *(".ts", ".mts", ".m2ts", ".mjpeg", ".mjpg", ".h264", ".264", ".h265", ".hevc"),
    )
)
"""What names of videos end with."""
LONGEST = 1e9
"""Seconds that a recording may take to play."""


log = logging.getLogger(__name__)


class Config(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A recording, played as if it were live."""

    path: Path
    """A table (`.csv`, `.tsv`, `.txt`, each also `.gz`), an `.npy` file, sound, a video, a picture, or a folder of
    pictures. Example: `"run-3.csv"`."""
    channels: list[str] = []
    """Names of the columns to read. Of a sound file also numbers of channels from 1, or `["mix"]`: their mean.
    Default: the file's header. Example: `["ax", "ay"]`."""
    rate: Positive | None = None
    """Samples a second. It replaces the times in the file. Default: the file's. Example: `100`."""
    speed: Literal["recorded", "flat-out"] | Positive = "recorded"
    """`"recorded"`, a number of times that, or `"flat-out"`: as fast as the model takes samples. Example: `10`."""
    resample: Annotated[int, Meta(ge=1000, le=384_000)] | None = None
    """Samples a second that a sound file is resampled to, with a low-pass. Example: `16000`."""
    loop: bool = False
    """Begin again at the end, with a gap."""
    delimiter: Annotated[str, Meta(pattern=r"^[^\w.+\-]?$", extra={"use": 'one character, such as ";"'})] = ""
    """Character between columns. Default: from the file. Example: `";"`."""
    decimal: Literal[".", ","] | None = None
    """Decimal character. Default: from the file. Example: `","`."""
    time: str | None = None
    """Column with the times. `""`: there is none. Default: from its name. Example: `"t_ms"`."""


def needs(config: Config) -> Needs:
    """Return the recording, and the description of the folder of recordings that it is in."""
    described = folder.is_one(config.path.parent)
    return Needs(read=(config.path, config.path.with_name(folder.MANIFEST)) if described else (config.path,))


def describe(config: Config) -> SampleSpec:
    """Read the recording once. ``ConfigError`` says what is wrong with it, and in which line."""
    if _is_video(config.path):
        return _player(config).spec
    if is_sound(config.path):
        return _sound_player.describe(_playing(config))
    return _spec(config, _load(config))


@contextmanager
def open(config: Config, dropped: Counter[str]) -> Iterator[Iterator[Samples]]:
    """Play it. A sample's stamp is the time at which it was due, now. See ``limpet.contracts.source.Source``.

    Flat out, the stamps are as far apart as in the recording, and the first time through ends now.
    """
    if _is_video(config.path):
        yield _player(config).play(dropped)
        return
    if is_sound(config.path):
        yield _sound_player.play(_playing(config), dropped)
        return
    recording = _load(config)
    for note in recording.notes:
        log.warning("%s: %s", config.path, note)
    yield _play(config, recording, dropped)


def _is_video(path: Path) -> bool:
    return path.suffix.lower() in VIDEOS


def _player(config: Config) -> Player:
    """Return what plays a video. ``ConfigError``: it cannot, or keys are for tables alone."""
    if named := [key for key in ("channels", "resample", "delimiter", "decimal", "time") if getattr(config, key)]:
        raise ConfigError([f"{named[0]}: a video has none; it goes with tables"])
    try:
        from limpet.sources import _replay_video as video
    except ModuleNotFoundError as error:
        why = f"{config.path}: videos need the extra 'camera': {install_extra('camera')}"
        raise ConfigError([f"path: {why}"]) from error
    except ImportError as error:
        why = f"{config.path}: the installed PyAV cannot be used: {error.msg}"
        raise ConfigError([f"path: {why}"]) from error
    return video.Player(
        config.path, video.Schedule(_pace(config), config.speed == "flat-out", config.loop, config.rate)
    )


def _playing(config: Config) -> _sound_player.Playing:
    speed = {"recorded": 1.0, "flat-out": 0.0}[config.speed] if isinstance(config.speed, str) else config.speed
    rate, resample = config.rate or 0.0, config.resample or 0
    return _sound_player.Playing(config.path, config.channels, rate, resample, speed, config.loop)


def _load(config: Config) -> Recording:
    if config.resample:
        raise ConfigError([f"resample: only sound files are resampled, and {config.path} is none"])
    form = Form(
        channels=tuple(config.channels), delimiter=config.delimiter, decimal=config.decimal, time=config.time
    )
    recording = load(config.path, config.channels, config.rate, form)
    if recording.seconds is None and config.speed != "flat-out":
        way_out = 'give their number a second, or speed = "flat-out"'
        raise ConfigError([f"rate: missing; {config.path} does not say when its samples were taken: {way_out}"])
    if recording.duration * _pace(config) > LONGEST * 1e9:
        why = f"{config.path} would take {recording.duration * _pace(config) / 1e9:.3g} s to play"
        raise ConfigError([f"path: {why}; the limit is {LONGEST:.0e}: check its times, `rate` and `speed`"])
    return recording


def _spec(config: Config, recording: Recording) -> SampleSpec:
    values = recording.values
    live = config.speed != "flat-out"
    timed = recording.seconds is not None
    if values.dtype == object:
        size = _size(values[0]) if len(values) == 1 else (-1, -1)
        return SampleSpec((*size, 3), np.dtype(np.uint8), (), recording.rate, live, timed, queue=1, frames=True)
    shape, units = values.shape[1:], recording.units
    return SampleSpec(shape, values.dtype, recording.channels, recording.rate, live, timed, units=units)


def _size(path: Path) -> tuple[int, int]:
    """Return the height and width of a picture, -1 where it cannot be read: it is counted when it is due."""
    from limpet.sources import _picture

    try:
        width, height = _picture.size(path)
    except (OSError, UnreadableError):
        return -1, -1
    return height, width


def _play(config: Config, recording: Recording, dropped: Counter[str]) -> Iterator[Samples]:
    good = _Filter(recording, dropped)
    spec = _spec(config, recording)
    begin, first = time.monotonic_ns(), 0
    if config.speed == "flat-out":
        begin -= int(recording.duration * 1e9)
    while True:
        for part, times in _lap(config, recording, begin):
            if len(times):
                yield from good.samples(part, times, first)
            else:
                yield empty_samples(spec, first + part.start)
        if not config.loop:
            return
        begin += int(recording.duration * _pace(config))
        first += len(recording.values)


def _pace(config: Config) -> float:
    """Return how many ns a recorded second lasts."""
    return 1e9 if isinstance(config.speed, str) else 1e9 / config.speed


def _lap(config: Config, recording: Recording, begin_ns: int) -> Iterator[tuple[slice, TimeArray]]:
    """Yield which samples are due, possibly none, and when they were: once through the recording."""
    count = len(recording.values)
    pictures = recording.values.dtype == object
    block = 1 if pictures else max(1, min(BLOCK, BLOCK_BYTES // max(1, recording.values[0].nbytes)))
    due = None if recording.seconds is None else begin_ns + (recording.seconds * _pace(config)).astype(np.int64)
    if due is not None and config.speed != "flat-out":
        yield from _on_schedule(due, block)
        return
    for start in range(0, count, block):
        part = slice(start, min(start + block, count))
        yield part, np.full(part.stop - start, time.monotonic_ns()) if due is None else due[part]


def _on_schedule(due: TimeArray, block: int) -> Iterator[tuple[slice, TimeArray]]:
    position = 0
    while position < len(due):
        now = time.monotonic_ns()
        part = slice(position, min(int(np.searchsorted(due, now, "right")), position + block))
        yield part, due[part]
        position = part.stop
        if position < len(due) and due[position] > now:
            time.sleep(min(max((int(due[position]) - now) / 1e9, PACE), IDLE))


class _Filter:
    """Drops what is not finite or damaged, and cuts there, at the recording's own gaps and where a lap begins."""

    def __init__(self, recording: Recording, dropped: Counter[str]) -> None:
        self._values = recording.values
        self._gaps = recording.gaps
        self._dropped = dropped
        self._cutter = Cutter()

    def samples(self, part: slice, times: TimeArray, first: int) -> Iterator[Samples]:
        """Yield the samples of ``part`` of a lap whose first sample has the ordinal ``first``."""
        values, ordinals = self._values[part], np.arange(part.start, part.stop) + first
        gap = (ordinals == first) & (first > 0)
        if self._gaps:
            gap |= np.isin(ordinals - first, self._gaps)
        if values.dtype.kind in "fO":
            values, good, cause = self._decoded(values) if values.dtype == object else _finite(values)
            if not good.all():
                self._dropped[cause] += int((~good).sum())
                values, times, ordinals, gap = values[good], times[good], ordinals[good], gap[good]
        yield from self._cutter.cut(values, times, time.time_ns() - time.monotonic_ns(), ordinals, gap)

    def _decoded(self, paths: Array) -> tuple[Array, NDArray[np.bool_], str]:
        """Return the frames of pictures, and which of them are sound."""
        from limpet.sources import _picture

        frames = np.empty(len(paths), object)
        for place, path in enumerate(paths):
            try:
                frames[place] = _picture.read(path)
            except (OSError, UnreadableError) as error:
                self._log_damaged(path, error)
        return frames, np.array([frame is not None for frame in frames], np.bool_), "damaged"

    def _log_damaged(self, path: Path, error: Exception) -> None:
        if self._dropped["damaged"] < MOST_LOGGED:
            log.warning("%s is damaged and left out: %s", printable(str(path)), printable(str(error)))


def _finite(values: Array) -> tuple[Array, NDArray[np.bool_], str]:
    good = np.isfinite(values).reshape(len(values), -1).all(axis=1)
    return values, np.asarray(good, np.bool_), "not_finite"
