"""SQLite's write-ahead log, read without SQLite: https://sqlite.org/fileformat2.html, section 4.

SQLite reads a log up to its first damaged frame, and deletes the rest without a message. Here the frames after it
are found, too.
"""

from __future__ import annotations

import os
import struct
import sys
from typing import TYPE_CHECKING, NamedTuple

from limpet.delivery.outbox.schema import PAGE
from limpet.device import state_files
from limpet.untrusted import open_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_HEADER = struct.Struct(">IIIIIIII")
_FRAME = struct.Struct(">IIIIII")
_STEP = _FRAME.size + PAGE
_LITTLE, _BIG = 0x377F0682, 0x377F0683
_MOST = 1 << 17
"""Frames that are looked at: 512 MiB. No log grows so long."""


class Frame(NamedTuple):
    """An image of a page. ``at``: where in the log; ``whole``: its checksum is right."""

    page: int
    at: int
    whole: bool


class CommittedFrames(NamedTuple):
    """The frames up to the last commit, oldest first. ``pages``: those of the database then, 0 if unknown.

    ``damaged``: SQLite would not read all of it.
    """

    frames: list[Frame]
    pages: int
    damaged: bool


def read(path: Path) -> CommittedFrames:
    """Read a log. One that is missing, or is no regular file, is empty. ``OSError`` as from reading."""
    if not state_files.is_regular(path):
        return CommittedFrames([], 0, damaged=False)
    with open_file(path) as file:
        return _read(file.fileno(), os.fstat(file.fileno()).st_size)


def _read(fd: int, length: int) -> CommittedFrames:
    head = os.pread(fd, _HEADER.size, 0)
    if length <= _HEADER.size:
        return CommittedFrames([], 0, damaged=False)
    magic, _, _, _, *salts, one, two = _HEADER.unpack(head)
    words = {_LITTLE: "<II", _BIG: ">II"}.get(magic, "<II" if sys.byteorder == "little" else ">II")
    sound = magic in {_LITTLE, _BIG} and _checksum(head[:24], (0, 0), words) == (one, two)
    if not sound:
        # The first frame is always of the present generation.
        salts = list(_FRAME.unpack(os.pread(fd, _FRAME.size, _HEADER.size).ljust(_FRAME.size, b"\0"))[2:4])
    log = _frames(_Frames(fd, length), salts, (one, two), words)
    return log if sound else log._replace(damaged=True)


class _Frames:
    """The frames of an open log."""

    def __init__(self, fd: int, length: int) -> None:
        self._fd = fd
        self._length = length

    @property
    def many(self) -> int:
        """How many there are. The last may be cut short."""
        return -(-(self._length - _HEADER.size) // _STEP)

    @property
    def begun(self) -> bool:
        """Whether the last is shorter than its header. SQLite leaves no such frame."""
        return 0 < (self._length - _HEADER.size) % _STEP < _FRAME.size

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        for at in range(_HEADER.size, _HEADER.size + min(self.many, _MOST) * _STEP, _STEP):
            data = os.pread(self._fd, _STEP, at)
            if len(data) >= _FRAME.size:
                yield at, data


def _frames(frames: _Frames, salts: list[int], before: tuple[int, int], words: str) -> CommittedFrames:
    found: list[Frame] = []
    committed = pages = 0
    damaged = frames.many > _MOST or frames.begun
    for at, data in frames:
        page, commit, *their_salts, one, two = _FRAME.unpack_from(data)
        # Frames with other salts are of an earlier generation, or damaged. Page 0 is a hole in the file.
        if their_salts == salts and page:
            whole = len(data) == _STEP and _checksum(data[:8] + data[_FRAME.size :], before, words) == (one, two)
            # SQLite reads only frames without a gap between them.
            damaged = damaged or not whole or at != _HEADER.size + len(found) * _STEP
            found.append(Frame(page, at + _FRAME.size, whole))
            if commit:
                committed, pages = len(found), commit if whole else pages
        before = (one, two)
    return CommittedFrames(found[:committed], pages, damaged)


def _checksum(data: bytes, start: tuple[int, int], words: str) -> tuple[int, int]:
    one, two = start
    for first, second in struct.iter_unpack(words, data):
        one = (one + first + two) & 0xFFFFFFFF
        two = (two + second + one) & 0xFFFFFFFF
    return one, two
