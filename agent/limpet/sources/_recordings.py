"""Recordings on disk as arrays. ``ConfigError`` has the path, the line where there are lines, and the reason.

What reads a format is imported with its first file: workers should start fast.
"""

from __future__ import annotations

import codecs
import io
import tokenize
import zlib
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from typing import IO, TYPE_CHECKING, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from limpet import text_file
from limpet.contracts.data import Array, FloatArray
from limpet.errors import ConfigError, UnreadableError
from limpet.recordings import folder
from limpet.sources import _sound
from limpet.sources.tables.form import Form

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_GZIP = b"\x1f\x8b"
_SHOWN = 80
PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif")
"""How the names of pictures end."""
MOST_PICTURES = 100_000
"""Pictures of a folder that is played."""
_WORKBOOKS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")

HALF_STEP = 5e-7
"""Half of what the last digit of a time in a recording means, in seconds."""
TIME = "time"
"""The column with the times in a recording of such a folder."""
_LIST = "Run: limpet label"
STEADY = 0.1
"""A recording has a rate if no interval is further than this share from the median one."""


class Recording(msgspec.Struct):
    """``values`` ``(n, *shape)``, n at least 1; ``seconds`` float64 ``(n,)`` from the first sample, if known.

    Of pictures, ``values`` are their paths, ``(n,)``: they are read one by one, when they are due.

    ``gaps``: samples that do not follow the one before. ``notes``: what was skipped, each in a sentence.
    ``units``: one for each channel where they are known, else none.
    """

    values: Array
    channels: tuple[str, ...] = ()
    rate: float | None = None
    seconds: NDArray[np.float64] | None = None
    gaps: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()
    units: tuple[str, ...] = ()

    @property
    def duration(self) -> float:
        """Seconds from its first sample to where one after its last would be."""
        if self.seconds is None:
            return 0.0
        last = float(self.seconds[-1])
        return last + (last / (len(self.seconds) - 1) if last else 1 / (self.rate or 1.0))


def is_picture(name: str) -> bool:
    """Whether a file of this name is taken for a picture. Hidden files are not: they are often not finished."""
    return name.lower().endswith(PICTURES) and not name.startswith(".")


def load(path: Path, channels: Sequence[str], rate: float | None, form: Form | None = None) -> Recording:
    """Read a recording by its suffix. ``rate`` replaces its times, ``form`` describes a table.

    For a file that is listed in a folder of recordings, the folder says which channels it has, and more.
    """
    described = described_in_folder(path)
    if described is not None and _sound.is_sound(path):
        return _completed(_part_of_sound(path, channels, rate, described), described, rate)
    if described is None:
        return _load(path, channels, rate, form)
    channels = list(channels) or described.channels
    form = form or Form(channels=tuple(channels))
    form = msgspec.structs.replace(form, channels=tuple(channels), time=TIME if form.time is None else form.time)
    return _completed(_load(path, channels, rate, form), described, rate)


def _part_of_sound(
    path: Path, channels: Sequence[str], rate: float | None, described: folder.Recording
) -> Recording:
    """Read a sound file of a folder of recordings, all of its channels or those named."""
    recording = _load(path, described.channels, rate, None)
    try:
        chosen = Chosen(channels or described.channels, len(described.channels), described.channels)
    except ValueError as error:
        raise ConfigError([f"path: {path}: {error}"]) from error
    recording.values, recording.channels = chosen.of(recording.values), chosen.names
    return recording


def described_in_folder(path: Path) -> folder.Recording | None:
    """Return the entry of a file in its folder of recordings, if it is in one and is listed there."""
    try:
        return folder.read(path.parent).find(path.name) if folder.is_one(path.parent) else None
    except UnreadableError as error:
        raise ConfigError([f"path: {error}"]) from error
    except OSError as error:
        raise ConfigError([f"path: {path.parent / folder.MANIFEST}: {error.strerror}"]) from error


def _completed(recording: Recording, described: folder.Recording, rate: float | None) -> Recording:
    """Add what only the folder knows: gaps, units, and the rate if the times have none."""
    if recording.seconds is not None and rate is None:
        recording.rate = recording.rate or described.rate
        at = np.searchsorted(recording.seconds, np.array(described.gaps, np.float64) - HALF_STEP)
        found = {int(one) for one in at if 0 < one < len(recording.values)}
        recording.gaps = tuple(sorted(found.union(recording.gaps)))
    if described.units:
        units = dict(zip(described.channels, described.units, strict=True))
        recording.units = tuple(units.get(name, "") for name in recording.channels)
    return recording


def _load(path: Path, channels: Sequence[str], rate: float | None, form: Form | None) -> Recording:
    name = path.name.lower()
    if path.exists() and not path.is_file() and not path.is_dir():
        raise ConfigError([f"path: {path}: is not a regular file"])  # opening a FIFO would wait for its writer
    try:
        if name.endswith((".csv", ".csv.gz", ".tsv", ".tsv.gz", ".txt", ".txt.gz")):
            recording = _csv(path, channels, form)
        elif name.endswith(".npy"):
            recording = _npy(path, channels)
        elif _sound.is_sound(path):
            recording = _of_sound(path, channels)
        else:
            recording = _pictures(path)
    except (OSError, EOFError, ValueError, RuntimeError, zlib.error) as error:
        reason = (isinstance(error, OSError) and error.strerror) or str(error) or "is cut short"
        raise ConfigError([f"path: {path}: {reason}"]) from error
    if not len(recording.values):
        raise ConfigError([f"path: {path}: has no samples"])
    if rate is None and recording.seconds is not None and len(recording.values) > 1 and not recording.seconds[-1]:
        raise ConfigError([f"path: {path}: all its times are the same; set `rate`"])
    pace = rate or recording.rate
    if pace is not None and (rate is not None or recording.seconds is None):
        recording.rate = pace
        recording.seconds = np.arange(len(recording.values)) / pace
    return recording


def _has_pictures(path: Path) -> bool:
    """Whether a path is a folder with pictures in it."""
    return path.is_dir() and any(is_picture(entry.name) for entry in path.iterdir())


def _pictures(path: Path) -> Recording:
    """Return a picture, or those of a folder by name. ``recordings.json`` may say when each was taken."""
    single = path.name.lower().endswith(PICTURES) and path.is_file()
    if not single and not _has_pictures(path):
        raise ConfigError([f"path: {path}: {_no_recording(path)}"])
    if find_spec("PIL") is None:
        raise ConfigError([f"path: {path}: pictures need the extra 'camera': pip install 'limpet[camera]'"])
    if single:
        return Recording(np.array([path], object))
    paths = sorted(each for each in path.iterdir() if is_picture(each.name) and each.is_file())
    if len(paths) > MOST_PICTURES:
        raise ValueError(f"has {len(paths):,} pictures; the limit is {MOST_PICTURES:,}")
    taken = _times_of_pictures(path)
    if not paths or any(each.name not in taken for each in paths):
        return Recording(np.array(paths, object))
    paths.sort(key=lambda each: taken[each.name])
    seconds = np.array([taken[each.name] for each in paths]) - taken[paths[0].name]
    return Recording(np.array(paths, object), rate=_steady_rate(seconds), seconds=seconds)


def _no_recording(path: Path) -> str:
    """Say why a path is nothing that can be played."""
    if folder.is_one(path):
        return f"is a folder of recordings; name one of them. {_LIST} {path} --list"
    if path.is_dir():
        return "is a folder without pictures"
    if not path.exists() and path.suffix.lower() in {*PICTURES, ""}:
        return "No such file or directory"
    return "expected a name that ends in .csv, .csv.gz, .tsv, .txt, .npy, .wav, .flac, .mp4, .jpg, .png or another"


def _times_of_pictures(path: Path) -> dict[str, float]:
    """Return when each recording of a folder began, in seconds, by its file."""
    try:
        described = folder.read(path) if folder.is_one(path) else None
    except UnreadableError as error:
        raise ConfigError([f"path: {error}"]) from error
    return {one.file: one.started.timestamp() for one in described.recordings} if described else {}


def _npy(path: Path, channels: Sequence[str]) -> Recording:
    try:
        values: Array = np.lib.format.open_memmap(path, mode="r")
    except (SyntaxError, tokenize.TokenError, TypeError, OverflowError) as error:
        raise ValueError(f"has a damaged header: {error}") from error
    if values.ndim == 0 or values.dtype.kind not in "biuf":
        raise ValueError(f"has shape {values.shape} and dtype {values.dtype}; expected (n, ...) real numbers")
    if not values.dtype.isnative:
        values = values.astype(values.dtype.newbyteorder("="))
    if values.ndim == 1:
        values = values[:, np.newaxis]
    _check_channels(channels, values.shape[-1])
    return Recording(values, tuple(channels))


def _of_sound(path: Path, channels: Sequence[str]) -> Recording:
    sound = _sound.read(path)
    chosen = Chosen(channels, sound.values.shape[1])
    notes = (sound.note,) if sound.note else ()
    return Recording(chosen.of(sound.values), chosen.names, sound.rate, notes=notes)


class Chosen:
    """The channels of a sound file that ``channels`` of a configuration stands for. ``names``: none if unknown.

    Numbers from 1, or `mix` for the mean of all; else one name for each channel. ``there``: the names in the file.
    """

    def __init__(self, channels: Sequence[str], count: int, there: Sequence[str] = ()) -> None:
        """``ValueError`` if the file has other channels."""
        self.names: tuple[str, ...] = tuple(channels)
        self.mix = self.names == ("mix",) != tuple(there)
        self._columns: list[int] | None = None
        if self.mix:
            return
        if there and set(channels) <= set(there):
            self._columns = [list(there).index(name) for name in channels]
            return
        if channels and all(name.isascii() and name.isdecimal() for name in channels):
            self._columns = [int(name) - 1 for name in channels]
            if missing := [name for name in channels if not 0 < int(name) <= count]:
                raise ValueError(f"has {count} channels; there is no channel {missing[0]}")
            return
        _check_channels(channels, count)

    @property
    def count(self) -> int:
        """How many channels are chosen; 0 for all of them."""
        return 1 if self.mix else len(self._columns or ())

    def of(self, values: FloatArray) -> FloatArray:
        """Return the chosen channels of frames ``(n, channels)``."""
        if self.mix:
            mean: FloatArray = values.mean(axis=1, keepdims=True, dtype=np.float32)
            return mean
        return values if self._columns is None else values[:, self._columns]


def _check_channels(channels: Sequence[str], count: int) -> None:
    if channels and len(channels) != count:
        are = "channel" if count == 1 else "channels"
        raise ValueError(f"has {count} {are}, but {len(channels)} are named")


def _csv(path: Path, channels: Sequence[str], form: Form | None) -> Recording:
    from limpet.sources.tables import reading

    form = form or Form(channels=tuple(channels))
    with _text(path) as file:
        table = reading.read(file, form)
    columns = len(table.channels)
    with np.errstate(over="ignore"):
        values = np.array(table.values).reshape(-1, columns).astype(np.float32)
    if not len(values):
        names = ", ".join(table.channels)[:_SHOWN]
        raise ValueError(f"has no rows of numbers below its column names ({names})")
    recording = Recording(values, table.channels, gaps=tuple(table.gaps), notes=tuple(table.notes))
    if table.seconds:
        recording.seconds = np.array(table.seconds) - table.seconds[0]
        recording.rate = _steady_rate(recording.seconds)
    return recording


@contextmanager
def _text(path: Path) -> Iterator[IO[str]]:
    """Open a text in whatever encoding it is. Bytes that are no UTF-8 are taken as Latin-1: units, not numbers."""
    with ExitStack() as stack:
        file: IO[bytes] = stack.enter_context(path.open("rb"))
        start = file.read(8)
        file.seek(0)
        if start.startswith(_WORKBOOKS):
            raise ValueError("is a workbook or an archive, no text; save the sheet as CSV")
        if path.suffix.lower() == ".gz" or start.startswith(_GZIP):
            import gzip

            file = cast("IO[bytes]", stack.enter_context(gzip.GzipFile(fileobj=file)))
        start = file.read(256)
        file.seek(0)
        encoding = text_file.encoding(start)
        yield stack.enter_context(io.TextIOWrapper(file, encoding=encoding, errors=_LATIN, newline=""))


_LATIN = "limpet-latin-1"


def _latin(error: UnicodeError) -> tuple[str, int]:
    if isinstance(error, UnicodeDecodeError) and error.reason == "truncated data":
        return "", error.end  # half a character at the end of a file that is cut
    if not isinstance(error, UnicodeDecodeError) or not error.encoding.replace("_", "-").startswith("utf-8"):
        raise error
    return error.object[error.start : error.end].decode("latin-1"), error.end


codecs.register_error(_LATIN, _latin)


def _steady_rate(seconds: NDArray[np.float64]) -> float | None:
    intervals = np.diff(seconds)
    middle = float(np.median(intervals)) if len(intervals) else 0.0
    if not middle or np.abs(intervals - middle).max() > STEADY * middle:
        return None
    return len(intervals) / float(seconds[-1])
