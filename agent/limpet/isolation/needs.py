"""What a process may still open once it is in its sandbox."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Needs:
    """What a process cannot do without: paths to read and, folders, to change.

    ``devices``: what it may open in ``/dev`` as far as its user may. ``network``: its source is on the network.
    ``scratch``: folders of its own, in which it may also rename from one folder to another.
    """

    read: frozenset[Path] = frozenset()
    change: frozenset[Path] = frozenset()
    devices: frozenset[Path] = frozenset()
    network: bool = False
    scratch: frozenset[Path] = frozenset()

    def covers(self, other: Needs) -> bool:
        """Whether a process that entered its sandbox with these needs can do with it what ``other`` asks for."""
        return (
            all(self._reads(path) for path in other.read)
            and other.change <= self.change
            and other.scratch <= self.scratch
            and other.devices <= self.devices
            and self.network >= other.network
        )

    def _reads(self, path: Path) -> bool:
        return not self.read.isdisjoint({path, *path.parents})
