"""Writes one recording so that whatever happens, at most its last second is lost.

While a recording is written, ``NAME.running.json`` beside it describes it. Once a second, the samples are made
durable and that description is replaced. At the end, the description moves to ``recordings.json``. After a crash
it is still there, and ``recover`` does the same.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta

from limpet.device import state_files
from limpet.errors import UnreadableError
from limpet.recordings import layouts
from limpet.recordings.folder import MANIFEST, Recording, changing, read
from limpet.recordings.spans import clipped
from limpet.untrusted import open_file, read_file, reading

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from typing import BinaryIO

    from limpet.recordings.layouts import Layout

RUNNING = ".running.json"
_LARGEST = 1 << 20
_LONGEST_LINE = 1 << 19
"""Bytes: the names of all channels have room."""
_LATEST = 1e8
"""Seconds from the first sample that a row can have."""
_SUFFIXES = (layouts.Table.suffix, layouts.Wave.suffix)
_FORM = slice(12, 38)
"""Where the header of a WAV file has the format of its samples."""
_SAME_SECOND = 100
"""Recordings that may begin in the same second."""


class Running(msgspec.Struct, forbid_unknown_fields=True):
    """The content of ``NAME.running.json``: the recording so far, and how many bytes of its file that is."""

    recording: Recording
    size: Annotated[int, Meta(ge=0, le=1 << 53)]


class RecordingFile:
    """The file of a recording while it is written. ``size``: bytes so far.

    A lock on the file shows others that it is still being written.
    """

    def __init__(
        self, folder: Path, channels: Sequence[str], started: float, layout: Layout | None = None
    ) -> None:
        """Make the file. ``started``: Unix time of the first sample. ``OSError`` if it cannot be made.

        ``layout``: how samples are in it. Default: CSV.
        """
        self.layout = layout or layouts.Table()
        self._folder = folder
        self._channels = list(channels)
        descriptor, self.name = _create(folder, started, self.layout.suffix)
        self._file = descriptor
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self.size = 0
        header = self.layout.header(channels, 0)
        self._begin = len(header)
        try:
            self.write(header)
        except OSError:
            self.discard()
            raise

    @property
    def path(self) -> Path:
        """The path of the file."""
        return self._folder / self.name

    @property
    def full(self) -> bool:
        """Whether its format allows no more, so that another recording must begin."""
        return 0 < self.layout.largest <= self.size

    def write(self, data: bytes) -> None:
        """Add whole samples. ``OSError`` if they do not fit; then the file ends with the sample before."""
        done = 0
        try:
            while done < len(data):
                done += os.write(self._file, data[done:])
        except OSError:
            os.ftruncate(self._file, self.size)
            raise
        self.size += len(data)

    def sync(self, recording: Recording) -> None:
        """Make the file durable, and describe it so that ``recover`` can find it. ``OSError``."""
        if self.layout.largest:  # the header has the size
            os.pwrite(self._file, self.layout.header(self._channels, self.size - self._begin), 0)
        os.fdatasync(self._file)
        data = msgspec.json.encode(Running(recording, self.size))
        state_files.replace(_description(self.path), data)

    def finish(self, recording: Recording) -> None:
        """Add the recording to ``recordings.json``. After an ``OSError``, ``recover`` can do that later."""
        try:
            self.sync(recording)
            with changing(self._folder) as found:
                found.recordings.append(recording)
            _description(self.path).unlink()
        finally:
            os.close(self._file)

    def abandon(self) -> None:
        """Let go of the file as it is, for ``recover``."""
        os.close(self._file)

    def discard(self) -> None:
        """Delete the file."""
        os.close(self._file)
        self.path.unlink(missing_ok=True)
        _description(self.path).unlink(missing_ok=True)


def _create(folder: Path, started: float, suffix: str) -> tuple[int, str]:
    """Make a file with a name that no recording had before; return its descriptor and its name."""
    stem = datetime.fromtimestamp(started, timezone.utc).strftime("%Y-%m-%dT%H-%M-%S")
    for number in range(1, _SAME_SECOND):
        base = stem if number == 1 else f"{stem}-{number}"
        if any(os.path.lexists(folder / f"{base}{other}") for other in _SUFFIXES if other != suffix):
            continue  # one description is beside each
        name = f"{base}{suffix}"
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with contextlib.suppress(FileExistsError):
            return os.open(folder / name, flags, 0o666), name
    raise FileExistsError(f"{folder / stem} and further names exist already")


def _description(path: Path) -> Path:
    return path.with_name(f"{path.stem}{RUNNING}")


def running(folder: Path) -> Iterator[str]:
    """Yield the names of the recordings that are being written now."""
    for description in sorted(folder.glob(f"*{RUNNING}")):
        path = _recording_of(description)
        with contextlib.suppress(OSError, UnreadableError), open_file(path) as file:
            if not _lock(file.fileno()):
                yield path.name


def recover(folder: Path) -> Iterator[str]:
    """Add recordings that were interrupted to ``recordings.json``; yield a sentence about each.

    Those that are being written are left alone. Names and content of the files are foreign data.
    """
    for description in sorted(folder.glob(f"*{RUNNING}")):
        path = _recording_of(description)
        try:
            flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            with os.fdopen(os.open(path, flags), "r+b") as file:
                if state_files.is_regular(path) and _lock(file.fileno()):
                    yield _recovered(folder, path, description, file)
        except FileNotFoundError:
            yield _without_file(path, description)
        except (OSError, UnreadableError) as error:
            yield f"{path} could not be recovered: {error}"


def _without_file(path: Path, description: Path) -> str:
    if state_files.is_irregular(description):
        return f"{description} is {state_files.kind(description)}; a regular file is expected"
    description.unlink(missing_ok=True)
    return f"{path} is gone; its description was deleted."


def _recording_of(description: Path) -> Path:
    stem = description.name.removesuffix(RUNNING)
    wave = description.with_name(f"{stem}{layouts.Wave.suffix}")
    return wave if os.path.lexists(wave) else description.with_name(f"{stem}{layouts.Table.suffix}")


def _lock(descriptor: int) -> bool:
    """Lock a file. Whether no other process writes to it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _recovered(folder: Path, path: Path, description: Path, file: BinaryIO) -> str:
    try:
        with reading(str(description)):
            known = msgspec.json.decode(read_file(description, _LARGEST), type=Running)
    except UnreadableError as error:
        aside = state_files.set_aside(description)
        return f"{path} could not be recovered: {error}. Its description was renamed to {aside.name}."
    if read(folder).find(path.name) is not None:
        description.unlink()
        return f"{path} is in {MANIFEST} already; its other description was deleted."
    if state_files.shared(path):
        raise UnreadableError("the file has another name elsewhere, and would be cut there too; copy it")
    known.recording.file = path.name
    recording = _completed(known, file)
    if not recording.samples:
        path.unlink()
        description.unlink()
        return f"{path} had no samples and was deleted."
    with changing(folder) as found:
        found.recordings.append(recording)
    description.unlink()
    return (
        f"{path} was interrupted. Recovered {recording.samples:,} samples "
        f"({recording.seconds:.1f} s); it is marked as not complete."
    )


def _completed(known: Running, file: BinaryIO) -> Recording:
    """Return the recording with the rows after its last description. Half a row at the end is cut off."""
    before, layout = known.recording, layouts.of(known.recording)
    if isinstance(layout, layouts.Wave):
        samples, seconds = _whole_wave(before, layout, file)
    else:
        samples, seconds = _whole_table(known, file)
    spans = clipped(before.spans, seconds)
    if spans and spans[-1].end == before.seconds < seconds:  # the label at the end went on
        spans[-1] = msgspec.structs.replace(spans[-1], end=seconds)
    changes: dict[str, Any] = {"samples": samples, "seconds": seconds, "complete": False, "spans": spans}
    return msgspec.structs.replace(before, **changes, gaps=[gap for gap in before.gaps if gap <= seconds])


def _whole_wave(before: Recording, layout: layouts.Wave, file: BinaryIO) -> tuple[int, float]:
    """Cut half a sample off, and write the header again. Return how many samples there are, and their seconds."""
    expected, frame = layout.header(before.channels, 0), len(before.channels) * 4
    header = len(expected)
    if file.read(header)[_FORM] != expected[_FORM]:
        raise UnreadableError("its header does not fit its description")
    samples = max(0, os.fstat(file.fileno()).st_size - header) // frame
    file.truncate(header + samples * frame)
    file.seek(0)
    file.write(layout.header(before.channels, samples * frame))
    file.flush()
    os.fsync(file.fileno())
    return samples, round(samples / layout.rate, 6)


def _whole_table(known: Running, file: BinaryIO) -> tuple[int, float]:
    """Cut half a row off. Return how many samples there are, and their seconds."""
    before = known.recording
    offset, samples, width = known.size, before.samples, len(before.channels) + 1
    if os.fstat(file.fileno()).st_size < offset or not samples:
        file.seek(0)
        offset, samples = len(file.readline(_LONGEST_LINE)), 0
    file.seek(offset)
    last: float | None = None
    while (time := _time_of(line := file.readline(_LONGEST_LINE), width)) is not None:
        samples, offset, last = samples + 1, offset + len(line), time
    file.truncate(offset)
    os.fsync(file.fileno())
    interval = before.seconds / before.samples if before.samples else 0.0
    return samples, before.seconds if last is None else round(last + interval, 6)


def _time_of(line: bytes, width: int) -> float | None:
    """Return the time of a whole row, ``None`` for what is none."""
    cells = line.split(b",")
    if not line.endswith(b"\n") or len(cells) != width:
        return None
    try:
        time, *_ = map(float, cells)
    except ValueError:
        return None
    return time if 0 <= time <= _LATEST else None
