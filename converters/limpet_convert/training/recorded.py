"""Recordings from disk: their samples, and what must hold for all of them together.

The folder is foreign data: sizes are bounded, and every number is looked at before it is used.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from limpet.errors import ConfigError, UnreadableError
from limpet.recordings import folder as recordings
from limpet.recordings import layouts
from limpet.recordings.occasions import occasions
from limpet.sources._recordings import load
from limpet.untrusted import open_file
from limpet_convert.errors import ConvertError
from limpet_convert.training import recorded_sound

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from limpet.contracts.data import FloatArray
    from limpet.recordings.folder import Recording

Doubles: TypeAlias = NDArray[np.float64]

LARGEST_FILE = 256 << 20
"""Bytes of one CSV file."""
LARGEST = 512 << 20
"""Bytes of all samples of tables together, as float32."""
_GZIP = b"\x1f\x8b"
RATES = 0.05
"""Share by which the rates of two recordings may differ."""


@dataclass(frozen=True)
class Labelled:
    """The samples from position ``begin`` up to ``end``, which is not among them."""

    label: str
    begin: int
    end: int


@dataclass(frozen=True)
class Recorded:
    """One recording. ``values``: float32 ``(n, channels)``. ``spans`` are its labels.

    ``breaks``: positions of samples that do not follow the sample before. ``occasion``: the position in the folder
    of the first recording of the same occasion.
    """

    file: str
    values: FloatArray
    breaks: tuple[int, ...]
    spans: tuple[Labelled, ...]
    occasion: int = 0


@dataclass(frozen=True)
class Session:
    """All recordings of a folder. ``units``: one for each channel, empty where unknown.

    ``sound``: one channel, at a rate at which it is heard. ``notes`` say what was left out, each in a sentence.
    """

    channels: tuple[str, ...]
    units: tuple[str, ...]
    rate: float | None
    recordings: tuple[Recorded, ...]
    sound: bool = False
    notes: tuple[str, ...] = field(default=())

    def chosen(self, channels: Sequence[str]) -> Session:
        """Return the same recordings with these channels, in this order. ``ConvertError`` if one is missing."""
        columns = _columns(channels, self.channels)
        if tuple(channels) == self.channels:
            return self  # a copy of long sound would be large
        return replace(
            self,
            channels=tuple(channels),
            units=tuple(self.units[column] for column in columns),
            recordings=tuple(replace(one, values=one.values[:, columns]) for one in self.recordings),
        )

    def column(self, channel: str) -> list[FloatArray]:
        """Return one channel of each recording, float32 ``(n,)``."""
        return [one.values[:, 0] for one in self.chosen([channel]).recordings]


def read(
    folder: Path, channels: Sequence[str] = (), largest: int | None = None, rate: float | None = None
) -> Session:
    """Read a folder of recordings, all channels of it or those named. ``ConvertError`` says what does not fit.

    Of more than ``largest`` bytes of samples, the first part of each span is read. ``rate``: samples a second that
    sound gets, if it has so many. Default: the lowest rate of the recordings, at most 16,000.
    """
    try:
        found = recordings.read(folder).recordings
    except UnreadableError as error:
        raise ConvertError(str(error)) from error
    if not found:
        raise ConvertError(
            f"{folder}: has no recordings ({recordings.MANIFEST} is missing or empty). Run: limpet record"
        )
    names = tuple(channels) or tuple(found[0].channels)
    columns = _columns(names, found[0].channels)
    sound = recorded_sound.is_sound(found, names)
    _refuse_different(found, rates=not sound)
    units = found[0].units or [""] * len(found[0].channels)
    session = Session(names, tuple(units[column] for column in columns), None, (), sound)
    if sound:
        session = _read_sound(folder, found, session, largest, rate)
    else:
        session = _tables(folder, found, session, largest)
    taken = zip(session.recordings, occasions(found), strict=True)
    return replace(session, recordings=tuple(replace(one, occasion=number) for one, number in taken))


def _tables(folder: Path, found: Sequence[Recording], session: Session, largest: int | None) -> Session:
    notes = _incomplete(found)
    thin = _share(found, [4 * one.samples * len(one.channels) for one in found], largest or LARGEST, notes)
    return replace(
        session,
        rate=_rate([one.rate for one in found if one.rate]),
        recordings=tuple(_read(folder, one, session.channels, thin, notes) for one in found),
        notes=tuple(notes),
    )


def _read_sound(
    folder: Path, found: Sequence[Recording], session: Session, largest: int | None, rate: float | None
) -> Session:
    notes = _incomplete(found)
    rate = min(rate or recorded_sound.RATE, recorded_sound.rate_of(found))
    if faster := sorted({one.rate for one in found if one.rate and one.rate != rate}):
        notes.append(f"Sound at {', '.join(f'{one:g}' for one in faster)} Hz is resampled to {rate:g} Hz.")
    sizes = [round(4 * one.samples * rate / (one.rate or rate)) for one in found]
    thin = _share(found, sizes, largest or recorded_sound.LARGEST, notes)
    heard = []
    for one in found:
        kept = _thinned(one, thin) if thin < 1 else ((0.0, one.samples / (one.rate or rate)),)
        wanted = recorded_sound.Wanted(one.channels.index(session.channels[0]), rate, kept)
        heard.append(_hear(folder, one, wanted, notes))
    return replace(session, rate=rate, recordings=tuple(heard), notes=tuple(notes))


def _incomplete(found: Sequence[Recording]) -> list[str]:
    files = [one.file for one in found if not one.complete]
    return [f"{', '.join(files[:5])}: not ended by the recorder; used as far as it goes."] if files else []


def _share(found: Sequence[Recording], sizes: Sequence[int], largest: int, notes: list[str]) -> float:
    """Return which share of each span is used, so that all of it has at most ``largest`` bytes."""
    thin = min(1.0, largest / max(1, sum(sizes)))
    if thin < 1:
        what = "each span" if any(one.spans for one in found) else "each recording"
        notes.append(
            f"The recordings are larger than {largest >> 20} MiB: the first {thin:.0%} of {what} is used."
        )
    return thin


def _hear(folder: Path, one: Recording, wanted: recorded_sound.Wanted, notes: list[str]) -> Recorded:
    """Read a sound file. The spans and breaks that it has in what is kept are positions there."""
    try:
        heard = recorded_sound.read(recordings.path_of(folder, one), one, wanted)
    except UnreadableError as error:
        raise ConvertError(str(error)) from error

    def place(at: int) -> int:
        """Return where a sample is in what is kept, or the next one that is kept."""
        for (begin, end), (first, _) in zip(heard.edges, heard.places, strict=True):
            if at < end:
                return first + max(0, at - begin)
        return len(heard.values)

    breaks = {place(recorded_sound.sample(gap, wanted.rate)) for gap in one.gaps} | {
        first for first, _ in heard.places
    }
    spans = tuple(
        Labelled(
            span.label,
            place(recorded_sound.sample(span.begin, wanted.rate)),
            place(recorded_sound.sample(span.end, wanted.rate)),
        )
        for span in one.spans
    )
    return _finite(one, heard.values, breaks, spans, [one.channels[wanted.column]], notes)


def _thinned(one: Recording, share: float) -> tuple[tuple[float, float], ...]:
    """Return begin and end of the first share of each span, or of the recording if it has none."""
    spans = [(span.begin, span.end) for span in one.spans] or [(0.0, one.seconds)]
    return tuple((begin, begin + share * (end - begin)) for begin, end in spans)


def _columns(wanted: Sequence[str], names: Sequence[str]) -> list[int]:
    if missing := [name for name in wanted if name not in names]:
        raise ConvertError(f"there is no channel {missing[0]!r} in the recordings; they have: {', '.join(names)}")
    return [list(names).index(name) for name in wanted]


def _refuse_different(found: Sequence[Recording], *, rates: bool) -> None:
    """Raise ``ConvertError`` where recordings have other channels; with ``rates``, also where rates differ."""
    first = found[0]
    if strange := [name for name in (*first.channels, *first.units) if not name.isprintable()]:
        raise ConvertError(
            f"{first.file}: {strange[0]!r} is no name for a channel or unit; use printable characters"
        )
    for other in found[1:]:
        if other.channels != first.channels:
            raise ConvertError(
                f"{other.file} has the channels {', '.join(other.channels)}, but {first.file} has "
                f"{', '.join(first.channels)}. Move one kind of recording into another folder."
            )
        if rates and (
            bool(other.rate) != bool(first.rate)
            or (other.rate and first.rate and abs(other.rate - first.rate) > RATES * first.rate)
        ):
            raise ConvertError(
                f"{other.file} has {_per_second(other.rate)}, but {first.file} has {_per_second(first.rate)}: "
                "a window would last differently. Record at one rate, or move one kind into another folder."
            )


def _per_second(rate: float | None) -> str:
    return f"{rate:g} samples a second" if rate else "no steady rate"


def _rate(rates: Sequence[float]) -> float | None:
    """Return the median rate to three digits, as clocks are no better. The rate of sound is exact."""
    if len(set(rates)) == 1 and layouts.fits_wave(rates[0]):
        return rates[0]
    return float(f"{float(np.median(rates)):.3g}") if rates else None


def _read(folder: Path, one: Recording, channels: Sequence[str], thin: float, notes: list[str]) -> Recorded:
    try:
        path = recordings.path_of(folder, one)
        _refuse(path)
        loaded = load(path, one.channels, None)
    except UnreadableError as error:
        raise ConvertError(str(error)) from error
    except OSError as error:
        raise ConvertError(f"{folder / one.file}: {error.strerror}") from error
    except ConfigError as error:
        raise ConvertError("; ".join(error.problems)) from error
    if loaded.values.ndim != 2 or loaded.values.shape[1] != len(one.channels):
        raise ConvertError(
            f"{path}: has not the channels that {recordings.MANIFEST} names: {', '.join(one.channels)}"
        )
    values = np.asarray(loaded.values[:, _columns(channels, one.channels)], np.float32)
    seconds = np.arange(len(values)) / (one.rate or 1.0) if loaded.seconds is None else loaded.seconds
    breaks = {*loaded.gaps, *np.searchsorted(seconds, np.array(one.gaps)).tolist()}
    breaks |= set((np.flatnonzero(np.diff(seconds) < 0) + 1).tolist())
    spans = tuple(
        Labelled(span.label, *np.searchsorted(seconds, (span.begin, span.end)).tolist()) for span in one.spans
    )
    within = None
    if thin < 1:
        parts = [(begin <= seconds) & (seconds < end) for begin, end in _thinned(one, thin)]
        within = np.logical_or.reduce(parts)
    return _finite(one, values, breaks, spans, channels, notes, within)


def _finite(  # noqa: PLR0913, PLR0917 - the parts of a recording
    one: Recording,
    values: FloatArray,
    breaks: set[int],
    spans: tuple[Labelled, ...],
    channels: Sequence[str],
    notes: list[str],
    within: NDArray[np.bool_] | None = None,
) -> Recorded:
    """Return the recording without samples that have a value that is no number, or are not ``within``."""
    finite = np.isfinite(values)
    kept: NDArray[np.bool_] = np.logical_and.reduce(finite, axis=1)
    if lost := int((~kept).sum()):
        worst = channels[int(finite.sum(axis=0).argmin())]
        if lost == len(values):
            raise ConvertError(
                f"{one.file}: no sample has a number in every channel, as {worst!r} has none. "
                "Leave it out with --channels."
            )
        notes.append(
            f"{one.file}: {lost:,} of {len(values):,} samples have a value that is not a number, mostly in "
            f"{worst!r}; left out."
        )
    if within is not None:
        kept &= within
    elif not lost:
        inside = tuple(sorted(at for at in breaks if 0 < at < len(values)))
        return Recorded(one.file, values, inside, spans)
    positions = np.concatenate([[0], np.cumsum(kept, dtype=np.int64)])
    moved = tuple(Labelled(span.label, *positions[[span.begin, span.end]].tolist()) for span in spans)
    return Recorded(one.file, values[kept], _moved(breaks, kept), moved)


def _refuse(path: Path) -> None:
    """Raise ``ConvertError`` for a file that is too large, or that is compressed and so could become too large."""
    if path.stat().st_size > LARGEST_FILE:
        raise ConvertError(f"{path}: is larger than {LARGEST_FILE >> 20} MiB. Record in shorter files.")
    with open_file(path) as file:
        packed = file.read(len(_GZIP)) == _GZIP
    if packed or path.suffix not in {layouts.Table.suffix, layouts.Wave.suffix}:
        raise ConvertError(f"{path}: is no CSV or WAV file; training reads those of limpet record")


def _moved(breaks: set[int], kept: NDArray[np.bool_]) -> tuple[int, ...]:
    """Return where the breaks are when only some samples are kept; there is one wherever samples are left out."""
    positions: NDArray[np.int64] = np.cumsum(kept, dtype=np.int64) - kept
    moved = {int(positions[at]) for at in (*breaks, *np.flatnonzero(~kept).tolist()) if at < len(positions)}
    return tuple(sorted(at for at in moved if 0 < at < int(kept.sum())))
