"""The files and folders that a sandbox leaves open, as they were when it was entered.

Landlock's rules hold for a file or a folder, not for its name. What is put in its place later stays closed, even
if it has the same name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from limpet.isolation.permissions import Permissions


class Places:
    """What is at the paths of ``allowed``. To be made right after the sandbox was entered."""

    def __init__(self, allowed: Permissions) -> None:
        self.allowed = allowed
        self._before = {path: _identity(path) for path in allowed.read | allowed.change}

    def open(self, paths: Iterable[Path]) -> bool:
        """Whether all these files can be read, and the folders that may be changed are still there.

        Paths are without symbolic links. A file that is not there counts as one that can be read.
        """
        return all(map(self._is_same, self.allowed.change)) and all(map(self._is_open, paths))

    def _is_open(self, path: Path) -> bool:
        return _identity(path) is None or any(map(self._is_same, (path, *path.parents)))

    def _is_same(self, path: Path) -> bool:
        before = self._before.get(path)
        return before is not None and _identity(path) == before


def _identity(path: Path) -> tuple[int, int] | None:
    """Return what distinguishes a file or a folder from others, ``None`` if there is nothing."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
