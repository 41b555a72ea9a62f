"""How several encoded items are kept as one value on the disk: a MessagePack array of byte strings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from limpet.errors import UnreadableError
from limpet.untrusted import reading

if TYPE_CHECKING:
    from collections.abc import Sequence

MOST_OVERHEAD = 5
"""Bytes that framing adds for the array and for each item, at most."""

_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(tuple[bytes, ...])


def join(items: Sequence[bytes]) -> bytes:
    """Return items as one value."""
    return _ENCODER.encode(items)


def split(data: bytes, count: int) -> tuple[bytes, ...]:
    """Return the items of a value. ``UnreadableError`` if they are not exactly ``count``.

    That is checked before they are decoded: a stranger's value may have more than there is memory for.
    """
    if array_length(data) != count:
        raise UnreadableError(f"there should be {count} items")
    with reading("items"):
        return _DECODER.decode(data)


def array_length(data: bytes) -> int:
    """Return how many elements a MessagePack array says that it has. ``UnreadableError`` if it is no array."""
    if data and 0x90 <= data[0] <= 0x9F:
        return data[0] & 0x0F
    size = {0xDC: 2, 0xDD: 4}.get(data[0] if data else 0)
    if size is None:
        raise UnreadableError("not an array")
    return int.from_bytes(data[1 : 1 + size], "big")
