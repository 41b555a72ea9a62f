"""Captures in parts over MQTT: the topics, and how parts become a file again. No I/O.

Part 3 of 5 of a capture is on ``limpet-captures/DEVICE/PIPELINE/NUMBER/3/5``, counted from 0. Who keeps a capture
answers on ``limpet-captures/DEVICE/PIPELINE/NUMBER/kept`` with the SHA-256 of its file. All of that is foreign
data.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from typing import TYPE_CHECKING

from limpet.captures import form
from limpet.contracts.fields import NAME_PATTERN
from limpet.errors import UnreadableError

if TYPE_CHECKING:
    from limpet.contracts.captures import Capture

ROOT = "limpet-captures"
PART = 1 << 15
"""Bytes of a part."""
MOST_PARTS = -(-form.LARGEST_FILE // PART)
MOST_OPEN = 32
"""Captures that are received at once. If there are more, the oldest is given up, and sent again later."""
LARGEST_OPEN = 64 << 20
"""Bytes of all parts that wait for others."""


def topic_of(capture: Capture) -> str:
    """Return the topic of a capture, below which its parts are."""
    return f"{ROOT}/{capture.device}/{capture.pipeline}/{capture.number}"


def parts_of(data: bytes) -> list[bytes]:
    """Return the parts of a file."""
    return [data[start : start + PART] for start in range(0, len(data), PART)]


class Gathering:
    """Puts parts together."""

    def __init__(self) -> None:
        self._open: OrderedDict[str, dict[int, bytes]] = OrderedDict()
        self._bytes = 0

    def take(self, topic: str, payload: bytes) -> tuple[str, bytes] | None:
        """Take a part. Return the capture's topic and the bytes of its file once all parts are there.

        ``UnreadableError`` if it is no part of a capture.
        """
        words = topic.split("/")
        if len(words) != 6 or words[0] != ROOT or not all(re.match(NAME_PATTERN, word) for word in words[1:3]):
            raise UnreadableError(f"{topic!r} is no topic of a part")
        number, part, count = (_number(word) for word in words[3:])
        if not (number and part < count <= MOST_PARTS and 0 < len(payload) <= PART):
            raise UnreadableError(f"{topic!r} is no topic of a part, or its payload has {len(payload)} bytes")
        name = "/".join(words[:4])
        key = f"{name}/{count}"
        held = self._open.setdefault(key, {})
        self._open.move_to_end(key)
        self._bytes += len(payload) - len(held.get(part, b""))
        held[part] = payload
        if len(held) == count:
            self._forget(key)
            return name, b"".join(held[one] for one in range(count))
        while len(self._open) > 1 and (len(self._open) > MOST_OPEN or self._bytes > LARGEST_OPEN):
            self._forget(next(iter(self._open)))
        return None

    def _forget(self, key: str) -> None:
        self._bytes -= sum(map(len, self._open.pop(key).values()))


def _number(word: str) -> int:
    if not (word.isascii() and word.isdigit() and len(word) <= 10):
        raise UnreadableError(f"{word!r} is no number")
    return int(word)
