"""A folder of recordings: one CSV file for each, and ``recordings.json``, which describes them.

The folder is foreign data: it may come from another machine. ``read`` bounds and checks everything in
``recordings.json``, and no name in it leads out of the folder. The format is in docs/reference/recordings.md.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from msgspec import Meta

from limpet.config import Identifier
from limpet.device import state_files
from limpet.errors import LimpetError, UnreadableError
from limpet.untrusted import read_file, reading

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MANIFEST = "recordings.json"
LOCK = "recordings.lock"
LARGEST = 16 << 20
"""Bytes of ``recordings.json``."""
MOST_CHANNELS = 1024
MOST_GAPS = 1000
"""Gaps in one recording. The recorder begins a new file after so many."""
MOST_SPANS = 1000
"""Spans of one recording. The recorder begins a new file after so many."""
_MOST_RECORDINGS = 100_000

Seconds = Annotated[float, Meta(ge=0, le=1e9)]
FileName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")]
"""The name of a file in the folder itself. It cannot lead out of the folder."""
_Word = Annotated[str, Meta(max_length=200)]
MOST_DROPPED = 1 << 53
_Samples = Annotated[int, Meta(ge=0, le=MOST_DROPPED)]


def label_problem(text: str) -> str:
    """Return why a text cannot be a label; empty if it can."""
    try:
        msgspec.convert(text, Identifier)
    except msgspec.ValidationError:
        rule = "use letters, digits, '.', '_' and '-', at most 64; begin with a letter or a digit"
        return f"{text!r} is no label; {rule}"
    return ""


class Span(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The samples from ``begin`` up to, but not including, ``end`` have this label.

    Both are seconds from the first sample of the recording.
    """

    label: Identifier
    begin: Seconds
    end: Seconds

    def __post_init__(self) -> None:
        if self.begin >= self.end:
            raise ValueError(f"a span must begin before it ends; this one is from {self.begin:g} to {self.end:g}")


class Recording(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One recording: its file, where it comes from, and what its samples mean.

    ``source`` is the name of the source and ``kind`` its plugin. ``channels`` are the columns of the file after
    ``time``; ``units`` has one for each, empty where it is unknown. ``rate``: samples a second, ``None`` if they
    have no steady rate. ``seconds``: from the first sample to where one after the last would be. ``started``: the
    first sample's time, in UTC. ``complete``: the recorder ended it itself; after a power cut it is false.
    ``dropped``: samples that the source dropped, by cause. ``gaps``: times of samples that do not follow the
    sample before. ``spans`` are in order and do not overlap.
    """

    file: FileName
    source: _Word
    kind: _Word
    channels: Annotated[list[_Word], Meta(min_length=1, max_length=MOST_CHANNELS)]
    units: Annotated[list[_Word], Meta(max_length=MOST_CHANNELS)] = []
    rate: Annotated[float, Meta(gt=0, le=1e9)] | None = None
    samples: _Samples
    seconds: Seconds
    started: Annotated[datetime, Meta(tz=True)]
    complete: bool = True
    dropped: Annotated[dict[_Word, _Samples], Meta(max_length=100)] = {}
    gaps: Annotated[list[Seconds], Meta(max_length=MOST_GAPS)] = []
    spans: Annotated[list[Span], Meta(max_length=MOST_SPANS)] = []

    def __post_init__(self) -> None:
        if self.file.lower() in {MANIFEST, LOCK}:
            raise ValueError(f"{self.file} is not a recording")
        if len(set(self.channels)) < len(self.channels):
            raise ValueError(f"{self.file}: two channels have the same name")
        if self.units and len(self.units) != len(self.channels):
            raise ValueError(f"{self.file}: {len(self.units)} units for {len(self.channels)} channels")
        for before, after in zip(self.spans, self.spans[1:], strict=False):
            if after.begin < before.end:
                raise ValueError(f"{self.file}: the spans at {before.begin:g} s and {after.begin:g} s overlap")


class Recordings(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The content of ``recordings.json``."""

    format: Literal[1] = 1
    recordings: Annotated[list[Recording], Meta(max_length=_MOST_RECORDINGS)] = []

    def __post_init__(self) -> None:
        names = [one.file.lower() for one in self.recordings]
        if len(set(names)) < len(names):
            raise ValueError("two recordings have the same file")

    def find(self, file: str) -> Recording | None:
        """Return the recording with this file name, ``None`` if there is none."""
        return next((one for one in self.recordings if one.file == file), None)


@contextmanager
def in_words() -> Iterator[None]:
    """Turn an ``OSError`` about a file into a ``LimpetError`` that names the file."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            raise
        raise LimpetError(f"{error.filename}: {error.strerror}") from error


def is_one(folder: Path) -> bool:
    """Whether a path is a folder of recordings."""
    return state_files.is_regular(folder / MANIFEST)


def read(folder: Path) -> Recordings:
    """Read ``recordings.json``. Without that file, there are no recordings.

    ``UnreadableError`` says what is wrong with the file. ``OSError`` if it may not be read.
    """
    path = folder / MANIFEST
    try:
        data = read_file(path, LARGEST)
    except FileNotFoundError:
        return Recordings()
    return decode(data, str(path))


def decode(data: bytes, where: str) -> Recordings:
    """Return what ``recordings.json`` says. ``UnreadableError``, whatever the bytes are."""
    with reading(where):
        return msgspec.json.decode(data, type=Recordings)


def encode(recordings: Recordings) -> bytes:
    """Return the bytes of ``recordings.json``. ``UnreadableError`` if a reader would refuse them."""
    data = msgspec.json.format(msgspec.json.encode(recordings), indent=1) + b"\n"
    if len(data) > LARGEST:
        raise UnreadableError(
            f"{MANIFEST} would have {len(data)} bytes; the limit is {LARGEST}. Use another folder."
        )
    decode(data, MANIFEST)
    return data


def path_of(folder: Path, recording: Recording) -> Path:
    """Return the path of a recording's file. ``UnreadableError`` if no regular file is there."""
    path = folder / recording.file
    if not state_files.is_regular(path):
        raise UnreadableError(f"{path} is {state_files.kind(path)}; a regular file is expected")
    return path


@contextmanager
def changing(folder: Path) -> Iterator[Recordings]:
    """Read ``recordings.json``, and replace it at the end of the ``with`` block if its content changed.

    A lock makes others wait meanwhile, so that no change of theirs is lost; hold it for a moment only. If the
    block raises, nothing is written. ``UnreadableError`` and ``OSError`` as from ``read``; ``OSError`` if it
    cannot be written, and the old file stays.
    """
    with locked(folder):
        found = read(folder)
        before = msgspec.json.encode(found)
        yield found
        if msgspec.json.encode(found) != before:
            state_files.replace(folder / MANIFEST, encode(found))


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep others from changing ``recordings.json``. The kernel gives the lock back if this process dies."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    descriptor = os.open(folder / LOCK, flags, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
