"""WAV files to arrays: with libsndfile where the extra ``sound`` is installed, else 16-bit PCM alone."""

from __future__ import annotations

import io
import struct
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from limpet.contracts.data import FloatArray

_UNKNOWN = 0x7FFFF000
"""A larger size means that it was not known when the header was written: the sound went into a pipe."""
_CHUNK = struct.Struct("<4sI")


class Sound(NamedTuple):
    """``values``: float32 ``(n, channels)`` from -1 to 1. ``note``: what is wrong with the file."""

    values: FloatArray
    rate: float
    note: str = ""


class _Data(NamedTuple):
    """The chunk with the samples: where its size stands, that size, and how many bytes follow in the file."""

    position: int
    size: int
    there: int


def read(path: Path) -> Sound:
    """Read a file. ``ValueError`` says why it cannot be read."""
    try:
        import soundfile
    except (ModuleNotFoundError, OSError):  # OSError: its library is missing
        return _plain(path)
    with path.open("rb") as file:
        data = _find(file)
        if data and data.size == 0 and data.there:
            # A recorder that lost power, or a pipe: its writer never came back to fill in the size.
            file.seek(0)
            whole = bytearray(file.read())
            struct.pack_into("<I", whole, data.position, 0xFFFFFFFF)
            source: str | BinaryIO = io.BytesIO(bytes(whole))
        else:
            source = str(path)
    try:
        with soundfile.SoundFile(source) as opened:
            values = opened.read(-1 if opened.seekable() else opened.frames, dtype="float32", always_2d=True)
            return Sound(values, float(opened.samplerate), _note(data))
    except soundfile.SoundFileError as error:
        raise ValueError(f"is not a sound file, or is damaged: {_reason(error)}") from error


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


def _plain(path: Path) -> Sound:
    """Read what Python itself reads: 16-bit PCM with the oldest form of header."""
    import wave

    way_out = "only plain 16-bit PCM is read without the extra 'sound': pip install 'limpet[sound]'"
    try:
        with wave.open(str(path), "rb") as file:
            count, rate, frames = file.getnchannels(), file.getframerate(), file.getnframes()
            if file.getsampwidth() != 2:
                raise ValueError(f"has {8 * file.getsampwidth()}-bit samples; {way_out}")
            data = file.readframes(frames)
    except wave.Error as error:
        raise ValueError(f"{error}; {way_out}") from error
    if rate < 1 or len(data) != 2 * count * frames:
        raise ValueError(f"is cut short or damaged; {way_out}")
    return Sound(np.frombuffer(data, "<i2").reshape(-1, count).astype(np.float32) / np.float32(32768), float(rate))
