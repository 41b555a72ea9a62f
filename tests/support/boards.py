"""Boards laid out from their descriptions in ``tests/data/sysfs``; README.md there explains them."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

from limpet.device.machine import Machine, Owner, User

TREES = Path(__file__).parent.parent / "data" / "sysfs"
BOARDS = sorted(path.stem for path in TREES.glob("*.tree"))
_MODES = {stat.filemode(stat.S_IFCHR | bits): stat.S_IFCHR | bits for bits in range(0o1000)}


class Board:
    """One board below ``root``, for users with the board's own groups."""

    def __init__(self, name: str, root: Path) -> None:
        self.root = root
        self._owners: dict[Path, tuple[int, str]] = {}
        for line in (TREES / f"{name}.tree").read_text().splitlines():
            if line.startswith("/"):
                path, _, rest = line.partition("  ")
                self.lay(root / path[1:], rest)
        groups = (line.split(":") for line in (root / "etc/group").read_text().splitlines())
        self.groups = {fields[0]: int(fields[2]) for fields in groups}

    def lay(self, path: Path, rest: str) -> None:
        """Make a file, a link or a device as a line of a tree describes it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        words = rest.split()
        if words[:1] == ["->"]:
            path.symlink_to(words[1])
        elif words and words[0] in _MODES:
            path.touch()
            self._owners[path] = _MODES[words[0]], words[2]
        else:
            with path.open("a") as file:
                file.write(f"{rest}\n")

    def owner(self, path: Path) -> Owner:
        path.stat()
        mode, group = self._owners[path]
        return Owner(mode, 0, self.groups[group])

    def machine(self, *groups: str, litert: Path | None = None, **more: Any) -> Machine:
        """The board as a user in these groups sees it, with the Python modules ``modules``."""
        modules = more.pop("modules", ())
        user = User("limpet", 990, frozenset({990, *(self.groups[group] for group in groups)}))
        return Machine(
            self.root, user, self.owner, litert, has_module=lambda name: name in modules, platform="linux", **more
        )
