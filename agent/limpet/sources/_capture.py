"""What the ways to a microphone have in common: what is wanted of it, and what it gives."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

    from limpet.contracts.data import FloatArray

RATES = (8000, 11025, 16000, 22050, 24000, 32000, 44100, 48000, 88200, 96000, 176400, 192000, 384000)
"""Rates in Hz that are looked for where a device lacks the one that is wanted."""


class Wanted(NamedTuple):
    """What a device is opened for. ``rate`` in Hz, ``channels``: the least number, 0 for all; ``buffer`` in s."""

    device: str
    rate: int
    channels: int
    buffer: float


class Chunk(NamedTuple):
    """Consecutive frames of a device, float32 ``(n, channels)`` from -1 to 1.

    ``last_ns``: when the last of them was taken, by the monotonic clock. ``gap``: frames before it are lost.
    """

    values: FloatArray
    last_ns: int
    gap: bool


class Capture(Protocol):
    """An open device. ``rate`` in Hz and ``channels`` are what it gives, not always what was wanted."""

    rate: int
    channels: int

    def read(self, seconds: float) -> Chunk | None:
        """Wait for frames. Maximum: ``seconds``. ``None``: there are none yet.

        ``SourceError`` if the device is gone.
        """


def rates(wanted: int) -> Iterator[int]:
    """Yield rates in the order in which they are tried: the wanted one, higher ones, then lower ones."""
    yield wanted
    yield from (rate for rate in RATES if rate > wanted)
    yield from (rate for rate in reversed(RATES) if rate < wanted)
