"""What Linux says in files of ``/proc``, ``/sys``, ``/dev`` and ``/etc``, below a root that tests set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

MB = 1_000_000


class SystemFiles(msgspec.Struct, frozen=True):
    """Reads files below ``root``. A path is relative to it, or one that ``paths`` returned."""

    root: Path = Path("/")

    def text(self, path: str | Path) -> str:
        """Return a file's text without surrounding blanks, empty where there is none."""
        try:
            return (self.root / path).read_bytes().rstrip(b"\0").decode("utf-8", "replace").strip()
        except OSError:
            return ""

    def number(self, path: str | Path) -> int | None:
        """Return the integer that a file holds, ``None`` where there is none."""
        try:
            return int(self.text(path))
        except ValueError:
            return None

    def megabytes(self, path: str | Path, key: str) -> float | None:
        """Return the size in a file's line such as ``MemAvailable: 123 kB``, ``None`` if it has no such line."""
        for line in self.text(path).splitlines():
            name, _, size = line.partition(":")
            if name == key:
                return int(size.split()[0]) * 1024 / MB
        return None

    def paths(self, *patterns: str) -> Iterator[Path]:
        """Yield the absolute paths of what matches the patterns, which begin at the root."""
        for pattern in patterns:
            yield from sorted(self.root.absolute().glob(pattern))
