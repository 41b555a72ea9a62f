"""The device nodes that are there now of those that a process may use.

Landlock's rules hold for a node, not for its name. A device that is unplugged and plugged in again has another
node, even if it has the same name.
"""

from __future__ import annotations

import os
import stat
from glob import has_magic
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

DEV = Path("/dev")
_PSEUDO_TERMINALS = range(136, 144)
"""Major numbers. A pseudo-terminal's inode has the number of one that is gone; only its time differs."""


class Node(NamedTuple):
    """A device node or a folder in ``/dev``: its path without symbolic links, and its identity."""

    path: Path
    file_system: int
    inode: int
    changed_ns: int


def present(devices: Iterable[str]) -> frozenset[Node]:
    """Return the nodes and folders that are there of these paths and patterns."""
    return frozenset(node for device in devices for path in _paths(device) if (node := _node(path)) is not None)


def replaced(devices: Iterable[str], before: frozenset[Node]) -> list[Path]:
    """Return the nodes that are there now and were not among those of ``before``."""
    return sorted(node.path for node in present(devices) - before)


def exact(devices: Iterable[str]) -> list[str]:
    """Return those of these that are no patterns. A device has them while it is there, whatever its number is."""
    return [device for device in devices if not has_magic(device)]


def other_files(devices: Iterable[str]) -> list[str]:
    """Return those of these paths that are there and lead to no device."""
    return sorted(device for device in devices if Path(device).exists() and _node(device) is None)


def folders_of_patterns(devices: Iterable[str]) -> set[Path]:
    """Return the folders that have to be listed to find what patterns match."""
    return {Path(device).parent for device in devices if has_magic(device) and not os.path.lexists(device)}


def _paths(device: str) -> Iterator[str]:
    if has_magic(device) and not os.path.lexists(device):
        yield from map(str, Path("/").glob(device.lstrip("/")))
    else:
        yield device


def _node(path: str) -> Node | None:
    """Return what a path leads to. ``None`` if that is not there, or is no device."""
    try:
        real = Path(path).resolve()
        status = real.stat()
    except (OSError, RuntimeError):  # it is away, or its links lead round in a circle
        return None
    is_folder = stat.S_ISDIR(status.st_mode) and (real == DEV or DEV in real.parents)
    if not (is_folder or stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode)):
        return None
    changed = status.st_ctime_ns if os.major(status.st_rdev) in _PSEUDO_TERMINALS else 0
    return Node(real, status.st_dev, status.st_ino, changed)
