"""Limits what a broker may send: each packet is checked at its head, before its content is read.

paho takes packets of up to 256 MB and keeps messages of QoS 2 until the broker releases them. Its time grows with
the square of the number of user properties. A broker may be hostile, or pass on what a client sent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from limpet.errors import UnreadableError

if TYPE_CHECKING:
    from collections.abc import Generator

LARGEST = (1 << 21) + (1 << 17)
"""Bytes of a packet: the largest command with its topic and properties."""

LARGEST_PROPERTIES = 1 << 15
"""Bytes of the properties of a message."""

LARGEST_ANSWER = 1 << 15
"""Bytes of any other packet than a message: hardly more than its properties."""

_PUBLISH = 0x30
_FROM_BROKERS = frozenset({0x20, 0x30, 0x40, 0x90, 0xB0, 0xC0, 0xD0, 0xE0})
"""Types of packets that a broker sends to a client that publishes and subscribes with at most QoS 1."""


class PacketLimits:
    """Checks the bytes of one connection. ``version`` is that of MQTT, "5" or "3.1.1"."""

    def __init__(self, version: str) -> None:
        self._packets = _packets(properties=version == "5")
        self._skip = next(self._packets)

    def feed(self, data: bytes) -> None:
        """Take in received bytes. ``UnreadableError`` names the limit that they break."""
        at = 0
        while at < len(data):
            if self._skip:
                step = min(self._skip, len(data) - at)
                self._skip -= step
                at += step
            else:
                self._skip = self._packets.send(data[at])
                at += 1


def _packets(*, properties: bool) -> Generator[int, int, None]:
    """Take single bytes; each ``yield`` says how many bytes to skip before the next one."""
    skip = 0
    while True:
        kind = yield skip
        _check_type(kind)
        left, _ = yield from _number(0)
        limit = LARGEST if kind & 0xF0 == _PUBLISH else LARGEST_ANSWER
        if left > limit:
            raise UnreadableError(f"a packet of {left} bytes; {limit} is the limit")
        if properties and kind & 0xF0 == _PUBLISH and left > 2:
            skip = yield from _message(kind, left)
        else:
            skip = left


def _message(kind: int, left: int) -> Generator[int, int, int]:
    """Check the properties of a PUBLISH; return how many bytes of it are left."""
    high = yield 0
    low = yield 0
    head = 256 * high + low + (2 if kind & 0x06 else 0)
    left -= 2
    if head >= left:
        return left
    size, used = yield from _number(head)
    if size > LARGEST_PROPERTIES:
        raise UnreadableError(f"a message with {size} bytes of properties; {LARGEST_PROPERTIES} is the limit")
    return max(left - head - used, 0)


def _number(skip: int) -> Generator[int, int, tuple[int, int]]:
    """Read a variable byte integer; return it and how many bytes it has."""
    value = 0
    for place in range(4):
        byte = yield skip
        skip = 0
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return value, place + 1
    raise UnreadableError("a length of more than four bytes")


def after_properties(packet: bytes | bytearray, at: int) -> int:
    """Return where the properties end that begin at a place; the end where they are longer than the packet."""
    size = 0
    for place, byte in enumerate(packet[at : at + 4]):
        size |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return min(at + place + 1 + size, len(packet))
    return len(packet)


def _check_type(kind: int) -> None:
    if kind & 0xF0 not in _FROM_BROKERS:
        raise UnreadableError(f"a packet of type 0x{kind:02x}, which brokers do not send here")
    if kind & 0xF0 == _PUBLISH and kind & 0x06 > 0x02:
        raise UnreadableError("a message with QoS 2, but the subscription has QoS 1")
