"""Sound files to arrays: with libsndfile where the extra ``sound`` is installed, else plain WAV alone."""

from __future__ import annotations

import io
import os
import struct
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, Protocol, cast

import numpy as np

from limpet.errors import UnreadableError
from limpet.untrusted import open_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import soundfile

    from limpet.contracts.data import FloatArray

_UNKNOWN = 0x7FFFF000
"""A larger size means that it was not known when the header was written: the sound went into a pipe."""
_CHUNK = struct.Struct("<4sI")
_FORM = struct.Struct("<HHIIHH")
_EXTENSIBLE = 0xFFFE
_DECODED: dict[tuple[int, int], tuple[str, float]] = {(1, 16): ("<i2", 32768.0), (3, 32): ("<f4", 1.0)}
"""Format and bits of a sample: its dtype, and what stands for 1.0."""
_MOST_CHUNKS = 100
_PART = 1 << 16
"""Frames that are read at once."""
_WAY_OUT = (
    "only WAV with 16-bit integers or 32-bit floats is read without the extra 'sound': pip install 'limpet[sound]'"
)
SUFFIXES = (
    ".wav",
    ".wave",
    ".rf64",
    ".w64",
    ".flac",
    ".ogg",
    ".oga",
    ".opus",
    ".aif",
    ".aiff",
    ".aifc",
    ".au",
    ".caf",
)


class Sound(NamedTuple):
    """``values``: float32 ``(n, channels)`` from -1 to 1. ``note``: what is wrong with the file."""

    values: FloatArray
    rate: float
    note: str = ""


class SoundStream(Protocol):
    """An open sound file. ``frames``: how many it says that it has. ``note``: what is wrong with it."""

    rate: float
    channels: int
    frames: int
    note: str

    def read(self, count: int) -> FloatArray:
        """Return the next frames, float32 ``(n, channels)`` from -1 to 1; n is 0 at the end. ``ValueError``."""


class _Data(NamedTuple):
    """The chunk with the samples: where its size stands, that size, and how many bytes follow in the file."""

    position: int
    size: int
    there: int


def is_sound(path: Path) -> bool:
    """Whether a file is a sound file, by its suffix."""
    return path.name.lower().endswith(SUFFIXES)


def read(path: Path) -> Sound:
    """Read a whole file. ``ValueError`` says why it cannot be read."""
    with opened(path) as stream:
        parts = [stream.read(_PART)]
        while len(parts[-1]):
            parts.append(stream.read(_PART))
        return Sound(np.concatenate(parts), stream.rate, stream.note)


@contextmanager
def opened(path: Path) -> Iterator[SoundStream]:
    """Open a file, to be read part by part. ``ValueError`` says why it cannot be read."""
    try:
        file = open_file(path.resolve())
    except UnreadableError as error:  # a FIFO would wait for its writer
        raise ValueError("is not a regular file") from error
    with file:
        try:
            import soundfile
        except (ModuleNotFoundError, OSError):  # OSError: its library is missing
            yield PlainWave(file)
            return
        data = _find(file)
        file.seek(0)
        try:
            if data and data.size == 0 and data.there:
                yield from _unfinished(file, data)
                return
            # By its descriptor: for a Python file, soundfile writes code into memory. The unit forbids that.
            os.lseek(file.fileno(), 0, os.SEEK_SET)
            with soundfile.SoundFile(file.fileno(), closefd=False) as sound:
                yield _BySoundfile(sound, _note(data))
        except soundfile.SoundFileError as error:
            raise ValueError(f"is not a sound file, or is damaged: {_reason(error)}") from error


def _unfinished(file: BinaryIO, data: _Data) -> Iterator[SoundStream]:
    """Yield a file of a recorder that lost power, or of a pipe: its writer never came back to fill in the size."""
    import soundfile

    try:
        plain = PlainWave(file)
    except ValueError:
        file.seek(0)
    else:
        yield plain
        return
    try:
        sound = soundfile.SoundFile(cast("BinaryIO", _WithSize(file, data.position)))
    except MemoryError as error:
        raise ValueError("has no size in its header; write it again, for example with sox") from error
    with sound:
        yield _BySoundfile(sound, _note(data))


class _BySoundfile:
    """A file that libsndfile reads."""

    def __init__(self, sound: soundfile.SoundFile, note: str) -> None:
        self.rate, self.channels, self.note = float(sound.samplerate), int(sound.channels), note
        self.frames = max(0, int(sound.frames))
        self._sound = sound

    def read(self, count: int) -> FloatArray:
        """Return the next frames."""
        values: FloatArray = self._sound.read(count, dtype="float32", always_2d=True)
        return values


class _WithSize(io.RawIOBase):
    """A file in which four bytes are other ones: the largest size."""

    def __init__(self, file: BinaryIO, position: int) -> None:
        self._file = file
        self._position = position

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def readinto(self, buffer: Any) -> int:
        begin = self._file.tell()
        data = bytearray(self._file.read(len(buffer)))
        for at in range(self._position, self._position + 4):
            if begin <= at < begin + len(data):
                data[at - begin] = 0xFF
        memoryview(buffer).cast("B")[: len(data)] = data
        return len(data)


def _reason(error: Exception) -> str:
    return str(getattr(error, "error_string", error))


def _note(data: _Data | None) -> str:
    if data and data.there < data.size < _UNKNOWN:
        return f"is cut short: it has {data.there:,} of {data.size:,} bytes"
    return ""


def _find(file: BinaryIO) -> _Data | None:
    """Find the chunk with the samples of a RIFF file; ``None`` in any other, and where its header is right."""
    end = file.seek(0, io.SEEK_END)
    file.seek(0)
    head = file.read(12)
    if len(head) < 12 or head[:4] != b"RIFF" or head[8:] != b"WAVE":
        return None
    declared = int.from_bytes(head[4:8], "little")
    position = 12
    while position + _CHUNK.size <= end:
        file.seek(position)
        name, size = _CHUNK.unpack(file.read(_CHUNK.size))
        if name == b"data":
            finished = declared == end - 8
            return None if size == 0 and finished else _Data(position + 4, size, end - position - _CHUNK.size)
        position += _CHUNK.size + size + size % 2
    return None


class PlainWave:
    """A file that Limpet itself reads: WAV with 16-bit integers or 32-bit floats."""

    def __init__(self, file: BinaryIO) -> None:
        """Read the header. ``ValueError`` if it is of another kind."""
        where = _chunks(file)
        if b"fmt " not in where or b"data" not in where:
            raise ValueError(f"is no WAV file, or is damaged; {_WAY_OUT}")
        begin, size = where[b"fmt "]
        file.seek(begin)
        form = file.read(min(size, 40))
        if len(form) < 16:
            raise ValueError(f"is damaged; {_WAY_OUT}")
        tag, self.channels, rate, _, _, bits = _FORM.unpack(form[: _FORM.size])
        if tag == _EXTENSIBLE and len(form) >= 26:
            tag = int.from_bytes(form[24:26], "little")
        if (tag, bits) not in _DECODED:
            raise ValueError(f"has {bits}-bit samples of format {tag}; {_WAY_OUT}")
        if not (self.channels and rate):
            raise ValueError(f"has {self.channels} channels and a rate of {rate} Hz")
        self.rate, self.note = float(rate), ""
        begin, size = where[b"data"]
        there = max(0, file.seek(0, io.SEEK_END) - begin)
        self._dtype, self._full = _DECODED[tag, bits]
        self._frame = self.channels * bits // 8
        if there < size < _UNKNOWN:
            self.note = f"is cut short: it has {there:,} of {size:,} bytes"
        self.frames = self._left = min(size or there, there) // self._frame
        self._file = file
        file.seek(begin)

    def read(self, count: int) -> FloatArray:
        """Return the next frames."""
        count = min(count, self._left)
        self._left -= count
        values = np.frombuffer(self._file.read(count * self._frame), self._dtype)
        return values.reshape(-1, self.channels).astype(np.float32) / np.float32(self._full)


def _chunks(file: BinaryIO) -> dict[bytes, tuple[int, int]]:
    """Return where the content of each chunk of a RIFF file begins, and its size; up to the samples."""
    found: dict[bytes, tuple[int, int]] = {}
    head = file.read(12)
    if head[:4] != b"RIFF" or head[8:] != b"WAVE":
        return found
    while len(data := file.read(_CHUNK.size)) == _CHUNK.size and len(found) < _MOST_CHUNKS:
        name, size = _CHUNK.unpack(data)
        found.setdefault(name, (file.tell(), size))
        if name == b"data":
            break
        file.seek(size + size % 2, io.SEEK_CUR)
    return found
