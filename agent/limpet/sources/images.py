"""Pictures on disk: a file, or a folder and what is put into it. JPEG, PNG, BMP, WebP, the first picture of a GIF.

A sample is a frame: upright, in RGB, 8 bits. Pictures wait for the model, so that none is dropped. What cannot be
decoded is counted as ``damaged``, with its name in the log.

A file is read once it has not changed for a moment, so no half of one is read. If it cannot be decoded, it has
some more seconds to become whole. A file that is changed or replaced later is read again. If the folder goes away
and comes back, what is in it counts as there at the start.
"""

from __future__ import annotations

import logging
import os
import stat
import time
from collections import deque
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec
import numpy as np

from limpet.contracts.data import Samples, SampleSpec, empty_samples, frame_samples
from limpet.contracts.needs import Needs
from limpet.errors import SourceError, UnreadableError
from limpet.sources import _picture
from limpet.sources._recordings import MOST_PICTURES, is_picture
from limpet.untrusted import printable

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterator

    from limpet.contracts.frame import Frame

log = logging.getLogger(__name__)

LOOK = 0.2
"""Seconds between two looks at the folder."""
WHOLE_LOOK = 5.0
"""Seconds between two looks at each of its files. Between those, only a folder that changed is read."""
FINISHED = 0.5
"""Seconds for which a file must not have changed before it is read."""
PATIENCE = 5.0
"""Seconds for which a file that cannot be decoded must not have changed before it is taken for damaged."""
MOST_LOGGED = 20
"""Damaged files that are named in the log; further ones are only counted."""


class Config(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Pictures on disk."""

    path: Path
    """A picture, or a folder of pictures: `.jpg`, `.png`, `.bmp`, `.webp`, `.gif`. Example:
    `"/var/lib/camera"`."""
    existing: bool = True
    """Read also the pictures that are there at the start, by name. Otherwise only those that come later."""
    time: Literal["now", "file"] = "now"
    """When a picture was taken: when it is read, or when its file was written. Times never go back."""


class _Signature(NamedTuple):
    """What shows that a file was changed or replaced."""

    inode: int
    size: int
    modified_ns: int


class _File(NamedTuple):
    path: Path
    signature: _Signature
    modified_ns: int


def needs(config: Config) -> Needs:  # noqa: ARG001
    """Return nothing: it reads what is at its path."""
    return Needs()


def describe(config: Config) -> SampleSpec:
    """Return the size of a single picture; of a folder, it may change. Nothing need be there."""
    shape = (-1, -1, 3)
    try:
        if config.path.is_file():
            width, height = _picture.size(config.path.resolve())
            shape = (height, width, 3)
    except (OSError, UnreadableError):
        pass  # It may be another one by the time it is read.
    return SampleSpec(shape, np.dtype(np.uint8), live=False, queue=1, frames=True)


@contextmanager
def open(config: Config, dropped: Counter[str]) -> Iterator[Iterator[Samples]]:
    """Read them. See ``limpet.contracts.source.Source``."""
    yield _Reader(config, dropped).samples()


class _Reader:
    """Finds the pictures that are new and finished, and reads them in order."""

    def __init__(self, config: Config, dropped: Counter[str]) -> None:
        self._config = config
        self._dropped = dropped
        self._spec = describe(config)
        self._folder = _Folder(config.path)
        self._index = 0
        self._gap = False
        self._last_ns = 0
        self._note = ""
        self._logged = 0

    def samples(self) -> Iterator[Samples]:
        """Yield each picture, and signs of life while there is none."""
        if not self._config.existing:
            self._folder.skip()
        while True:
            file = self._folder.next()
            if file is None:
                yield empty_samples(self._spec, self._index, self._note)
                time.sleep(LOOK)
                continue
            frame = self._read(file)
            if frame is None:
                yield empty_samples(self._spec, self._index, self._note)
                continue
            yield self._stamped(file, frame)
            self._index, self._gap, self._note = self._index + 1, False, ""

    def _read(self, file: _File) -> Frame | None:
        """Return a picture. ``None`` if it is damaged, was taken away, or may still become whole."""
        try:
            return _picture.read(file.path)
        except FileNotFoundError:
            self._folder.forget(file)
            return None
        except (UnreadableError, OSError) as error:
            if not self._folder.postpone(file):
                self._count_damaged(file, error)
            return None

    def _count_damaged(self, file: _File, error: Exception) -> None:
        self._dropped["damaged"] += 1
        self._gap = True
        self._index += 1
        reason = (isinstance(error, OSError) and error.strerror) or str(error)
        self._note = printable(f"{file.path.name}: {reason}")
        self._logged += 1
        if self._logged <= MOST_LOGGED:
            log.warning("%s is damaged and left out: %s", self._config.path, self._note)

    def _stamped(self, file: _File, frame: Frame) -> Samples:
        """Return a block with the time of the picture: not before that of the picture before, nor after now."""
        now, wall = time.monotonic_ns(), time.time_ns()
        age = max(wall - file.modified_ns, 0) if self._config.time == "file" else 0
        taken = max(now - age, self._last_ns)
        self._last_ns = taken
        return frame_samples(frame, taken, wall - (now - taken), self._index, gap=self._gap)


class _Folder:
    """The pictures of a folder, or a single one: which are finished and were not read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read: dict[str, _Signature] = {}
        self._ready: deque[_File] = deque()
        self._pending: dict[str, tuple[_Signature, float]] = {}
        """Files that are not finished: what they looked like, and since when."""
        self._patient: dict[str, _Signature] = {}
        """Files that could not be decoded, and have some more time."""
        self._changed_ns = -1
        self._next_whole_look = 0.0
        self._overfull = False

    def skip(self) -> None:
        """Take all pictures that are there for read."""
        self._read = {file.path.name: file.signature for file in self._look()}

    def next(self) -> _File | None:
        """Return the next picture to read. ``SourceError`` if file or folder is missing."""
        if not self._ready:
            self._ready.extend(self._finished())
        return self._ready.popleft() if self._ready else None

    def forget(self, file: _File) -> None:
        """Take note that a file is gone."""
        self._read.pop(file.path.name, None)

    def postpone(self, file: _File) -> bool:
        """Have a file that cannot be decoded read again, if it was changed lately. Return ``False`` if not."""
        lately = time.time_ns() - file.modified_ns < PATIENCE * 1e9
        if file.path.name in self._patient or not lately:
            self._patient.pop(file.path.name, None)
            return False
        self._patient[file.path.name] = file.signature
        self._read.pop(file.path.name, None)
        return True

    def _finished(self) -> list[_File]:
        """Return the pictures that are new and finished: at first by name, later by their time."""
        now = time.monotonic()
        if not self._pending and not self._patient and now < self._next_whole_look and not self._folder_changed():
            return []
        self._next_whole_look = now + WHOLE_LOOK
        first = not self._read
        files = self._look()
        there = {file.path.name for file in files}
        for known in (self._read, self._pending, self._patient):
            for name in known.keys() - there:
                del known[name]
        finished = [file for file in files if self._read.get(file.path.name) != file.signature and self._is(file)]
        for file in finished:
            self._pending.pop(file.path.name, None)
            self._read[file.path.name] = file.signature
        return finished if first else sorted(finished, key=lambda file: (file.modified_ns, file.path.name))

    def _is(self, file: _File) -> bool:
        """Whether a file is finished."""
        name, now = file.path.name, time.monotonic()
        if self._patient.get(name, file.signature) != file.signature:
            del self._patient[name]
        patience = PATIENCE if name in self._patient else FINISHED
        if time.time_ns() - file.modified_ns > patience * 1e9 and name not in self._pending:
            return True
        seen, since = self._pending.get(name, (None, now))
        if seen != file.signature:
            self._pending[name] = file.signature, now
            return False
        return now - since >= patience

    def _folder_changed(self) -> bool:
        before, self._changed_ns = self._changed_ns, _changed_ns(self._path)
        return before != self._changed_ns

    def _look(self) -> list[_File]:
        """Return all pictures by name."""
        try:
            if not self._path.is_dir():
                path = self._path.resolve()
                return [_described(path, path.stat())]
            with os.scandir(self._path) as entries:
                found = [entry for entry in entries if is_picture(entry.name)]
                files = [_of_entry(entry) for entry in found]
        except OSError as error:
            raise SourceError(f"{self._path}: {error.strerror}") from error
        files.sort(key=lambda file: file.path.name if file else "")
        there = [file for file in files if file]
        if len(there) > MOST_PICTURES and not self._overfull:
            self._overfull = True
            log.warning("%s has more than %d pictures; the others are not read", self._path, MOST_PICTURES)
        return there[:MOST_PICTURES]


def _of_entry(entry: os.DirEntry[str]) -> _File | None:
    """Return a regular file of a folder. Links are not followed: they could lead out of it."""
    try:
        status = entry.stat(follow_symlinks=False)
    except OSError:  # it was taken away meanwhile
        return None
    return _described(Path(entry.path), status) if stat.S_ISREG(status.st_mode) else None


def _described(path: Path, status: os.stat_result) -> _File:
    return _File(path, _Signature(status.st_ino, status.st_size, status.st_mtime_ns), status.st_mtime_ns)


def _changed_ns(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
