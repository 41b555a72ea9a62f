"""Finds the poison message: the one over which a broker closes the connection. No I/O.

A broker that speaks MQTT 3.1.1 cannot say that it refuses a message. It closes the connection, and the same
message comes again on the next one. After two such ends with a message in common, messages are sent one at a time.
Then they are sent in smaller and smaller parts, until a single item is left. If that ends the connection twice
more, it is refused.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import TYPE_CHECKING, TypeAlias

from limpet.delivery.mqtt.outgoing import unmarked

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Key: TypeAlias = bytes
"""Names a result, an event, or the messages of one topic."""

BREAKS = 2
"""Connections that must end over a message until it is sent alone, and again until it is refused."""

PARTS = 10
"""Parts into which a suspected message is split."""

MOST = 10_000
"""Keys that are remembered."""


class PoisonSearch:
    """What is known about the messages that were in flight when connections ended.

    ``most_items`` is how many items a message may have now, ``None`` for no limit.
    """

    def __init__(self) -> None:
        self.most_items: int | None = None
        self._breaks = 0
        self._suspects: set[Key] = set()
        self._strikes: Counter[Key] = Counter()
        self._refused: dict[Key, float] = {}
        self._was_split = False
        self._found = False
        self._largest_passed = 0

    @property
    def active(self) -> bool:
        """Whether a message is suspected, so that messages go out one at a time."""
        return self._breaks >= BREAKS

    @property
    def has_refused(self) -> bool:
        """Whether any message was refused, so that each must be compared with those."""
        return bool(self._refused)

    def broke(self, in_flight: Sequence[Sequence[Key]]) -> Key | None:
        """Take in that the broker closed a connection; return the key of the poison message if it is found.

        ``in_flight`` has the keys of each message that was not acknowledged, in the order of sending.
        """
        if not in_flight:
            return None
        if self.active:
            return self._narrow(in_flight[0])
        self._was_split, self._found, self._largest_passed = False, False, 0
        keys = {key for message in in_flight for key in message[:MOST]}
        common = keys & self._suspects
        self._suspects = common or keys
        self._breaks = self._breaks + 1 if common else 1
        return None

    def _narrow(self, keys: Sequence[Key]) -> Key | None:
        """Take in that the connection ended over one message; return its key if that is proof enough."""
        if len(keys) > 1:
            self._was_split = True
            self._suspects = set(keys)
            self.most_items = max(1, len(keys) // PARTS)
            return None
        (key,) = keys
        self._suspects.add(key)
        self._strikes[key] += 1
        if self._strikes[key] < BREAKS:
            return None
        self._found = True
        self._clear([key])
        return key

    def passed(self, keys: Iterable[Key], size: int) -> int | None:
        """Take in that the broker took a message of ``size`` bytes.

        Return the largest size that passed if this ends the search without a poison message after a batch was
        split. Then the batch was too large, and no item in it caused the end.
        """
        if not self.active:
            return None
        self._largest_passed = max(self._largest_passed, size)
        self._clear(keys)
        if self._suspects:
            return None
        return self._largest_passed if self._was_split and not self._found else None

    def _clear(self, keys: Iterable[Key]) -> None:
        for key in keys:
            self._suspects.discard(key)
            self._strikes.pop(key, None)
        if not self._suspects:
            self._breaks = 0
            self.most_items = None
            self._strikes.clear()

    def refuse(self, key: Key, until: float) -> None:
        """Do not send a message, or the messages of a topic, before a time."""
        self._refused[key] = until
        if len(self._refused) > MOST:
            del self._refused[next(iter(self._refused))]

    def is_refused(self, key: Key, now: float) -> bool:
        """Whether a message is not to be sent."""
        return self._refused.get(key, now) > now

    def is_topic_refused(self, topic: str, size: int, now: float) -> bool:
        """Whether a message of a size is not to be sent to a topic: one that was no larger was refused."""
        if not self._refused:
            return False
        return any(self.is_refused(topic_key(topic, 1 << bits >> 1), now) for bits in range(size.bit_length() + 1))


def item_key(item: bytes) -> Key:
    """Return the key of one result or event, whether it is marked ``replayed`` or not."""
    return hashlib.blake2b(unmarked(item), digest_size=16).digest()


def topic_key(topic: str, size: int) -> Key:
    """Return the key of the messages of a topic that have about a size in bytes, 0 for any size."""
    return hashlib.blake2b(topic.encode(errors="replace"), digest_size=16).digest() + bytes([size.bit_length()])
