"""Which files of shared memory are free. Two calls never share one."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from limpet.client.shared_memory import Region

SMALLEST = 1 << 20
"""Bytes of a region, so that calls of different sizes can use the same."""
MOST_FREE = 4
UNKNOWN = 404
"""The status with which the daemon refuses a region that it does not know."""


class Regions:
    """Regions that the daemon knows.

    ``usable``: the daemon has not refused one yet. ``tidied``: whether those of other programs were looked at.
    """

    def __init__(self) -> None:
        self._free: list[Region] = []
        self.usable = True
        self.tidied = False

    def take(self, size: int) -> Region | None:
        """Return a free region of at least this many bytes, if there is one."""
        for index, region in enumerate(self._free):
            if region.size >= size:
                return self._free.pop(index)
        return None

    def give_back(self, region: Region) -> Region | None:
        """Keep a region for the next call. Return one that is to be closed, if they are too many."""
        self._free.append(region)
        return self._free.pop(0) if len(self._free) > MOST_FREE else None

    def take_all(self) -> list[Region]:
        """Return all free regions, for closing."""
        found, self._free = self._free, []
        return found
