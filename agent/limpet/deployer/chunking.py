"""Chunks of a file over MQTT: which of them belong to it, which are missing, and when to ask. No I/O.

Times are seconds on any steady clock.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import msgspec

from limpet.contracts.chunks import MOST_RANGES, ChunkList
from limpet.deployer.ranges import covers
from limpet.errors import UnreadableError
from limpet.untrusted import reading

if TYPE_CHECKING:
    from limpet.deployer.ranges import Ranges

FIRST_PAUSE, LONGEST_PAUSE = 2.0, 60.0
"""Seconds between two questions: they double while no chunk comes that is of use."""
PATIENCE = 180.0
"""Seconds without a chunk of use after which a sender is given up."""


class Chunks:
    """The chunks of a file, by the list that the request names."""

    def __init__(self, found: ChunkList) -> None:
        self._list = found

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._list.hashes)

    def place(self, index: int) -> tuple[int, int]:
        """Return the first byte of a chunk, and the first one behind it."""
        begin = index * self._list.chunk
        return begin, min(begin + self._list.chunk, self._list.length)

    def is_right(self, index: int, data: bytes) -> bool:
        """Whether this is that chunk of the file."""
        if not 0 <= index < self.count:
            return False
        begin, end = self.place(index)
        return len(data) == end - begin and hashlib.sha256(data).hexdigest() == self._list.hashes[index]

    def missing(self, ranges: Ranges) -> list[tuple[int, int]]:
        """Return which chunks are missing, as ranges of their indices, at most ``MOST_RANGES``."""
        found: list[tuple[int, int]] = []
        for index in range(self.count):
            if covers(ranges, *self.place(index)):
                continue
            if found and found[-1][1] == index - 1:
                found[-1] = (found[-1][0], index)
            elif len(found) == MOST_RANGES:
                break
            else:
                found.append((index, index))
        return found


def read_list(data: bytes, sha256: str, length: int) -> Chunks:
    """Return the chunks of a list. ``UnreadableError`` if it is another list, or not of a file of this length."""
    if hashlib.sha256(data).hexdigest() != sha256:
        raise UnreadableError("the list of chunks is not the one of the request")
    with reading("the list of chunks"):
        found = msgspec.json.decode(data, type=ChunkList)
    if found.length != length or len(found.hashes) != -(-length // found.chunk):
        raise UnreadableError("the list of chunks is not of a file with the length of the request")
    return Chunks(found)


class Asking:
    """When to ask for what is missing. While chunks of use come, there is no need to."""

    def __init__(self, now: float) -> None:
        self._pause = FIRST_PAUSE
        self._useful = now
        self.due = now
        """When to ask next."""

    def came(self, now: float) -> None:
        """Take note of a chunk of use."""
        self._useful, self._pause = now, FIRST_PAUSE
        self.due = now + FIRST_PAUSE

    def asked(self, now: float) -> None:
        """Take note of a question."""
        self.due = now + self._pause
        self._pause = min(2 * self._pause, LONGEST_PAUSE)

    def ask_now(self, now: float) -> None:
        """Ask at once, as now it is known what to ask for."""
        self.came(now)
        self.due = now

    def is_over(self, now: float) -> bool:
        """Whether no sender seems to be there."""
        return now - self._useful >= PATIENCE
