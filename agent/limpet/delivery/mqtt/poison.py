"""Finds the message over which a broker closes the connection. No I/O.

A broker that speaks MQTT 3.1.1 cannot say that it refuses a message: it closes the connection, and the same
message comes again on the next one. After two such ends with a message in common, messages go out one at a time,
then in ever smaller parts, until a single one is left. If that ends the connection twice more, it is refused.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from limpet.delivery.mqtt.batch import join
from limpet.delivery.mqtt.outgoing import MARK, Outgoing
from limpet.untrusted import reading

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Key: TypeAlias = bytes

BREAKS = 2
"""Connections that must end over a message until it is looked at alone, and again until it is refused."""

PARTS = 10
"""Parts that a suspected message is split into."""

MOST = 10_000
"""Keys that are remembered."""


class PoisonSearch:
    """What is known about the messages that were under way when connections ended.

    ``part`` is the largest number of items that a message may have now, ``None`` for no limit.
    """

    def __init__(self) -> None:
        self.part: int | None = None
        self._breaks = 0
        self._suspects: set[Key] = set()
        self._strikes: Counter[Key] = Counter()
        self._refused: dict[Key, float] = {}

    @property
    def active(self) -> bool:
        """Whether messages go out one at a time."""
        return self._breaks >= BREAKS

    @property
    def remembers(self) -> bool:
        """Whether any message was refused, so that each must be looked at."""
        return bool(self._refused)

    def broke(self, under_way: Sequence[Sequence[Key]]) -> Key | None:
        """Take note that the broker closed a connection; return the key that is to be refused, if one is found.

        ``under_way`` has the keys of each message that was not acknowledged.
        """
        if not under_way:
            return None
        if self.active:
            return self._narrow(under_way[0])
        keys = {key for message in under_way for key in message[:MOST]}
        common = keys & self._suspects
        self._suspects = common or keys
        self._breaks = self._breaks + 1 if common else 1
        return None

    def _narrow(self, keys: Sequence[Key]) -> Key | None:
        if len(keys) > 1:
            self._suspects = set(keys)
            self.part = max(1, len(keys) // PARTS)
            return None
        (key,) = keys
        self._suspects.add(key)
        self._strikes[key] += 1
        if self._strikes[key] < BREAKS:
            return None
        self.cleared([key])
        return key

    def refuse(self, key: Key, until: float) -> None:
        """Have a message, or the messages of a topic, not sent before a time."""
        self._refused[key] = until
        if len(self._refused) > MOST:
            del self._refused[next(iter(self._refused))]

    def cleared(self, keys: Iterable[Key]) -> bool:
        """Take note that messages arrived, or will not be sent again; return whether none is suspected now."""
        for key in keys:
            self._suspects.discard(key)
            self._strikes.pop(key, None)
        if not self._suspects:
            self._breaks = 0
            self.part = None
            self._strikes.clear()
        return not self._suspects

    def is_refused(self, key: Key, now: float) -> bool:
        """Whether a message is not to be sent."""
        return self._refused.get(key, now) > now

    def is_topic_refused(self, topic: str, size: int, now: float) -> bool:
        """Whether a message of a size is not to be sent to a topic: one that was no larger was refused."""
        if not self._refused:
            return False
        return any(self.is_refused(topic_key(topic, 1 << bits >> 1), now) for bits in range(size.bit_length() + 1))


def key_of(raw: bytes) -> Key:
    """Return what names one result or event, whether marked ``replayed`` or not."""
    return hashlib.blake2b(b"{" + raw.removeprefix(MARK) if raw.startswith(MARK) else raw, digest_size=16).digest()


def topic_key(topic: str, size: int) -> Key:
    """Return what names messages of a topic that have about a size in bytes, 0 for any."""
    return hashlib.blake2b(topic.encode(errors="replace"), digest_size=16).digest() + bytes([size.bit_length()])


def keys_of(message: Outgoing) -> list[Key]:
    """Return the keys of all items of a message."""
    return [key_of(raw) for raw in items_of(message)]


def items_of(message: Outgoing) -> list[bytes]:
    """Return the items of a message. ``UnreadableError`` if its payload is damaged."""
    if message.items == 1:
        return [message.payload]
    with reading(f"a batch for {message.topic!r}"):
        return [bytes(raw) for raw in msgspec.json.decode(message.payload, type=list[msgspec.Raw])]


def parts(topic: str, items: Sequence[bytes], most: int | None, size: int) -> list[Outgoing]:
    """Return messages of at most ``most`` items and ``size`` bytes each; a single item may be larger."""
    made: list[Outgoing] = []
    chunk: list[bytes] = []
    length = 2
    for item in items:
        if chunk and ((most and len(chunk) >= most) or length + len(item) > size):
            made.append(Outgoing(topic, join(chunk), len(chunk), ()))
            chunk, length = [], 2
        chunk.append(item)
        length += len(item) + 1
    if chunk:
        made.append(Outgoing(topic, join(chunk), len(chunk), ()))
    return made
