"""What the process that reads the source says to the recorder. It may have been taken over, so all is bounded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

import msgspec
import numpy as np
from msgspec import Meta

from limpet.errors import UnreadableError
from limpet.recordings.folder import MOST_CHANNELS

if TYPE_CHECKING:
    from limpet.contracts.data import Array, TimeArray

LARGEST = 1 << 24
"""Bytes of a record."""
_Text = Annotated[str, Meta(max_length=2000)]
_Name = Annotated[str, Meta(max_length=200)]
_Count = Annotated[int, Meta(ge=0, le=1 << 53)]


class Described(msgspec.Struct, tag=True):
    """What its samples are. Comes first. See ``limpet.contracts.data.SampleSpec``. ``wave``: WAV can hold them."""

    channels: Annotated[list[_Name], Meta(min_length=1, max_length=MOST_CHANNELS)]
    rate: Annotated[float, Meta(gt=0, le=1e9)] | None
    live: bool
    units: Annotated[list[_Name], Meta(max_length=MOST_CHANNELS)] = []
    wave: bool = False


class Block(msgspec.Struct, tag=True):
    """Samples: ``values`` row by row, ``monotonic_ns`` int64. ``wall_ns``: that of the first."""

    dtype: Literal["float32", "float64"]
    values: bytes
    monotonic_ns: bytes
    wall_ns: Annotated[int, Meta(ge=-(1 << 62), le=1 << 62)]
    gap: bool


class Status(msgspec.Struct, tag=True):
    """``away``: why there are no samples, ``None`` if there are. ``dropped``: samples by cause."""

    away: _Text | None
    dropped: Annotated[dict[_Name, _Count], Meta(max_length=100)]


class Note(msgspec.Struct, tag=True):
    """A line of its log."""

    text: _Text


class Failed(msgspec.Struct, tag=True):
    """The source cannot be used, and why."""

    problems: Annotated[list[_Text], Meta(min_length=1, max_length=100)]
    configuration: bool


class Ended(msgspec.Struct, tag=True):
    """The source has ended."""


FromSource: TypeAlias = Described | Block | Status | Note | Failed | Ended


def arrays(block: Block, channels: int) -> tuple[Array, TimeArray]:
    """Return values ``(n, channels)`` and their times in ns, int64 ``(n,)``, which never go back.

    ``UnreadableError`` if they do not fit together.
    """
    dtype = np.dtype(block.dtype)
    count, rest = divmod(len(block.monotonic_ns), 8)
    if rest or not count or len(block.values) != count * channels * dtype.itemsize:
        raise UnreadableError(f"a block has {len(block.values)} bytes of values for {count} times")
    times = np.frombuffer(block.monotonic_ns, np.int64)
    return np.frombuffer(block.values, dtype).reshape(count, channels), np.maximum.accumulate(times)
