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
from limpet.sources._recordings import load
from limpet.untrusted import open_file
from limpet_convert.errors import ConvertError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from limpet.contracts.data import FloatArray
    from limpet.recordings.folder import Recording, Span

Doubles: TypeAlias = NDArray[np.float64]

LARGEST_FILE = 256 << 20
"""Bytes of one CSV file."""
LARGEST = 512 << 20
"""Bytes of all samples together, as float32."""
_GZIP = b"\x1f\x8b"
RATES = 0.05
"""Share by which the rates of two recordings may differ."""


@dataclass(frozen=True)
class Recorded:
    """One recording. ``values``: float32 ``(n, channels)``. ``seconds``: float64 ``(n,)`` from the first sample.

    ``breaks``: positions of samples that do not follow the sample before. ``spans`` are its labels.
    """

    file: str
    values: FloatArray
    seconds: Doubles
    breaks: tuple[int, ...]
    spans: tuple[Span, ...]


@dataclass(frozen=True)
class Session:
    """All recordings of a folder. ``units``: one for each channel, empty where unknown.

    ``notes`` say what was left out, each in a sentence.
    """

    channels: tuple[str, ...]
    units: tuple[str, ...]
    rate: float | None
    recordings: tuple[Recorded, ...]
    notes: tuple[str, ...] = field(default=())

    def chosen(self, channels: Sequence[str]) -> Session:
        """Return the same recordings with these channels, in this order. ``ConvertError`` if one is missing."""
        columns = _columns(channels, self.channels)
        return replace(
            self,
            channels=tuple(channels),
            units=tuple(self.units[column] for column in columns),
            recordings=tuple(replace(one, values=one.values[:, columns]) for one in self.recordings),
        )

    def column(self, channel: str) -> list[FloatArray]:
        """Return one channel of each recording, float32 ``(n,)``."""
        return [one.values[:, 0] for one in self.chosen([channel]).recordings]


def read(folder: Path, channels: Sequence[str] = (), largest: int = LARGEST) -> Session:
    """Read a folder of recordings, all channels of it or those named. ``ConvertError`` says what does not fit.

    Of more than ``largest`` bytes of samples, the first part of each span is read.
    """
    try:
        found = recordings.read(folder).recordings
    except UnreadableError as error:
        raise ConvertError(str(error)) from error
    if not found:
        raise ConvertError(
            f"{folder}: has no recordings ({recordings.MANIFEST} is missing or empty). Run: limpet record"
        )
    _refuse_different(found)
    notes: list[str] = []
    incomplete = [one.file for one in found if not one.complete]
    if incomplete:
        notes.append(f"{', '.join(incomplete[:5])}: not ended by the recorder; used as far as it goes.")
    thin = min(1.0, largest / max(1, sum(4 * one.samples * len(one.channels) for one in found)))
    if thin < 1:
        notes.append(
            f"The recordings are larger than {largest >> 20} MiB: the first {thin:.0%} of each span is used."
        )
    names = tuple(channels) or tuple(found[0].channels)
    columns = _columns(names, found[0].channels)
    read_all = tuple(_read(folder, one, names, thin, notes) for one in found)
    units = found[0].units or [""] * len(found[0].channels)
    return Session(
        channels=names,
        units=tuple(units[column] for column in columns),
        rate=_rate([one.rate for one in found if one.rate]),
        recordings=read_all,
        notes=tuple(notes),
    )


def _columns(wanted: Sequence[str], names: Sequence[str]) -> list[int]:
    if missing := [name for name in wanted if name not in names]:
        raise ConvertError(f"there is no channel {missing[0]!r} in the recordings; they have: {', '.join(names)}")
    return [list(names).index(name) for name in wanted]


def _refuse_different(found: Sequence[Recording]) -> None:
    """Raise ``ConvertError`` where recordings have other channels, other rates, or some none."""
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
        if bool(other.rate) != bool(first.rate) or (
            other.rate and first.rate and abs(other.rate - first.rate) > RATES * first.rate
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
    finite = np.isfinite(values)
    kept: NDArray[np.bool_] = np.logical_and.reduce(finite, axis=1)
    if lost := int((~kept).sum()):
        worst = channels[int(finite.sum(axis=0).argmin())]
        if lost == len(values):
            raise ConvertError(
                f"{path}: no sample has a number in every channel, as {worst!r} has none. "
                "Leave it out with --channels."
            )
        notes.append(
            f"{one.file}: {lost:,} of {len(values):,} samples have a value that is not a number, mostly in "
            f"{worst!r}; left out."
        )
    spans = tuple(one.spans)
    if thin < 1:
        spans = tuple(_first(span, thin) for span in spans) or (recordings.Span("all", 0, thin * one.seconds),)
        kept &= np.logical_or.reduce([(span.begin <= seconds) & (seconds < span.end) for span in spans])
    return Recorded(one.file, values[kept], seconds[kept], _moved(breaks, kept), spans if one.spans else ())


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


def _first(span: Span, share: float) -> Span:
    return recordings.Span(span.label, span.begin, span.begin + share * (span.end - span.begin))
