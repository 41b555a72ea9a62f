"""A file that is fetched, and an index beside it that says which bytes of it are there.

The index is written after the bytes are on the disk, into one of two places in turn. So after a crash or a power
cut nothing is believed that may be lost. All files are opened before the sandbox is entered: afterwards a deployer
can make no other file.
"""

from __future__ import annotations

import hashlib
import os
import stat
from time import monotonic
from typing import TYPE_CHECKING, Annotated, NamedTuple

import msgspec
from msgspec import Meta

from limpet.contracts.updates import LARGEST_BUNDLE
from limpet.deployer import ranges
from limpet.deployer.failures import GivenUpError
from limpet.device import kept_file, state_files
from limpet.errors import UnreadableError
from limpet.wire.stream import LENGTH

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from limpet.deployer.ranges import Ranges

LARGEST_INDEX = 1 << 18
"""Bytes of one of the two places of an index."""
MOST_RANGES = 10_000
SAVE_BYTES, SAVE_SECONDS = 4 << 20, 5.0
"""Bytes and seconds after which what came is made to last. More than that need never be fetched twice."""
_BLOCK = 1 << 18
_Byte = Annotated[int, Meta(ge=0, le=LARGEST_BUNDLE)]
_Text = Annotated[str, Meta(max_length=2048)]


class _Index(msgspec.Struct, kw_only=True, frozen=True):
    """What is known of a file. ``validator``: its version at ``origin``, the source that it came from last.

    ``wrong``: sources that have sent a whole file with another SHA-256, once or more.
    """

    sha256: str
    length: _Byte
    number: Annotated[int, Meta(ge=0, le=1 << 60)] = 0
    ranges: Annotated[tuple[tuple[_Byte, _Byte], ...], Meta(max_length=MOST_RANGES)] = ()
    origin: _Text = ""
    validator: Annotated[str, Meta(max_length=256)] = ""
    wrong: Annotated[tuple[_Text, ...], Meta(max_length=32)] = ()


class Files(NamedTuple):
    """Descriptors of a file, of its index of ranges and of its list of chunks."""

    part: int
    ranges: int
    chunks: int


def open_files(folder: Path, stem: str) -> Files:
    """Open ``STEM.part``, ``STEM.index`` and ``STEM.list``; make those that are missing. ``OSError``."""
    return Files(*(_open(folder / f"{stem}.{suffix}") for suffix in ("part", "index", "list")))


def _open(path: Path) -> int:
    if state_files.is_irregular(path) or state_files.shared(path):
        state_files.remove(path)
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(0, f"{path} is not a regular file")
    return descriptor


class Part:
    """A file with ``length`` bytes and this SHA-256, as far as it is there."""

    def __init__(self, files: Files, sha256: str, length: int) -> None:
        self.length = length
        self.sha256 = sha256
        self._files = files
        self._unsaved = 0
        self._saved_at = monotonic()
        self._index = self._read_index() or _Index(sha256=sha256, length=length)
        if os.fstat(files.part).st_size > length:
            os.ftruncate(files.part, length)

    @property
    def ranges(self) -> Ranges:
        """Which bytes are there."""
        return self._index.ranges

    @property
    def present(self) -> int:
        """How many bytes are there."""
        return ranges.total(self._index.ranges)

    @property
    def complete(self) -> bool:
        """Whether all bytes are there."""
        return self.present == self.length

    def validator_at(self, origin: str) -> str:
        """Return the version of what is there, if it came from this source last."""
        return self._index.validator if self._index.origin == origin else ""

    def came_from(self, origin: str, validator: str) -> None:
        """Take note of where the next bytes come from."""
        if (origin, validator) != (self._index.origin, self._index.validator):
            self._index = msgspec.structs.replace(self._index, origin=origin, validator=validator)

    def write(self, at: int, data: bytes) -> None:
        """Write bytes. ``GivenUpError`` if the disk takes them not."""
        if not 0 <= at <= at + len(data) <= self.length:
            raise ValueError(f"bytes {at} to {at + len(data)} of {self.length}")
        _write(self._files.part, at, data)
        self._index = msgspec.structs.replace(
            self._index, ranges=ranges.added(self._index.ranges, at, at + len(data))
        )
        self._unsaved += len(data)
        if self._unsaved >= SAVE_BYTES or monotonic() - self._saved_at >= SAVE_SECONDS:
            self.save()

    def save(self) -> None:
        """Make what is there last, whatever happens then."""
        self._index = msgspec.structs.replace(self._index, number=self._index.number + 1)
        content = kept_file.encode(self._index)
        try:
            os.fsync(self._files.part)
            _write(self._files.ranges, self._index.number % 2 * LARGEST_INDEX, LENGTH.pack(len(content)) + content)
            os.fsync(self._files.ranges)
        except OSError as error:
            raise GivenUpError(f"the download cannot be written: {error.strerror}") from error
        self._unsaved, self._saved_at = 0, monotonic()

    def read(self, begin: int, end: int) -> bytes:
        """Return the bytes from ``begin`` to ``end``, fewer at the end of the file."""
        return os.pread(self._files.part, end - begin, begin)

    def drop(self, begin: int, end: int) -> None:
        """Take note that these bytes are wrong."""
        self._index = msgspec.structs.replace(self._index, ranges=ranges.removed(self._index.ranges, begin, end))

    def forget(self) -> None:
        """Begin again: take note of it before any byte is written over."""
        self._index = msgspec.structs.replace(self._index, ranges=(), origin="", validator="")
        self.save()

    def blame(self, origin: str) -> int:
        """Take note that a source has led to a wrong file, and begin again. Return how often it has by now."""
        wrong = (*self._index.wrong, origin)[-32:]
        self._index = msgspec.structs.replace(self._index, wrong=wrong)
        self.forget()
        return wrong.count(origin)

    def blamed(self, origin: str) -> int:
        """Return how often a source has led to a wrong file."""
        return self._index.wrong.count(origin)

    def is_right(self) -> bool:
        """Whether the file on the disk has the right length and SHA-256, whatever its index says."""
        if os.fstat(self._files.part).st_size != self.length:
            return False
        digest = hashlib.sha256()
        for block in self._blocks():
            digest.update(block)
        return digest.hexdigest() == self.sha256

    def _blocks(self) -> Iterator[bytes]:
        for begin in range(0, self.length, _BLOCK):
            yield self.read(begin, min(begin + _BLOCK, self.length))

    def keep_list(self, data: bytes) -> None:
        """Keep the list of chunks. Whether it is whole is seen by its SHA-256."""
        _write(self._files.chunks, 0, data)
        os.ftruncate(self._files.chunks, len(data))

    def kept_list(self, largest: int) -> bytes:
        """Return the list of chunks that was kept, empty without one."""
        return os.pread(self._files.chunks, largest, 0)

    def delete_content(self) -> None:
        """Free the disk of a file that is needed no more."""
        for descriptor in self._files:
            os.ftruncate(descriptor, 0)

    def _read_index(self) -> _Index | None:
        found = [index for place in (0, 1) if (index := self._read_place(place))]
        if not found:
            return None
        newest = max(found, key=lambda index: index.number)
        size = os.fstat(self._files.part).st_size
        return msgspec.structs.replace(newest, ranges=ranges.removed(newest.ranges, size, LARGEST_BUNDLE))

    def _read_place(self, place: int) -> _Index | None:
        """Return what one of the two places has, if it is whole and of this file."""
        content = os.pread(self._files.ranges, LARGEST_INDEX, place * LARGEST_INDEX)
        try:
            (length,) = LENGTH.unpack(content[: LENGTH.size].ljust(LENGTH.size, b"\0"))
            index = kept_file.decode(content[LENGTH.size : LENGTH.size + length], _Index)
        except UnreadableError:
            return None
        same = (index.sha256, index.length) == (self.sha256, self.length)
        return index if same and ranges.sound(index.ranges, self.length) else None


def _write(descriptor: int, at: int, data: bytes) -> None:
    rest = memoryview(data)
    try:
        while rest:
            written = os.pwrite(descriptor, rest, at)
            at, rest = at + written, rest[written:]
    except OSError as error:
        raise GivenUpError(f"the download cannot be written: {error.strerror}") from error
