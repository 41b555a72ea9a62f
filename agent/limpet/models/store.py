"""Where models are: a path, or a name that is looked up in the store."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from limpet.errors import DeployError
from limpet.wording import suggest

if TYPE_CHECKING:
    from pathlib import Path

SUFFIXES = (".limpet", ".tflite")
_FILE = re.compile(r"(?P<name>.+)-(?P<version>\d+)\.limpet")


def find(name: str, base: Path, store: Path) -> Path:
    """Return the file of a model.

    A name with a separator or the suffix of a model file is a path that starts at ``base``. Any other is that of
    a bundle in ``store``, of which the highest version counts. ``DeployError`` says what there is instead.
    """
    if "/" in name or name.endswith(SUFFIXES):
        return _existing(base, name)
    versions = stored(store)
    if name not in versions:
        raise DeployError(f"there is no model {name!r} in {store}{suggest(name, versions)}")
    return versions[name][max(versions[name])]


def stored(store: Path) -> dict[str, dict[int, Path]]:
    """Return the bundles of a store by name and version; none where there is no such directory."""
    versions: dict[str, dict[int, Path]] = {}
    for path in sorted(store.glob("*.limpet")):
        # Opening a FIFO would block.
        if (match := _FILE.fullmatch(path.name)) and path.is_file():
            versions.setdefault(match["name"], {})[int(match["version"])] = path
    return versions


def _existing(base: Path, name: str) -> Path:
    path = base / name
    if path.suffix in SUFFIXES and path.exists() and not path.is_file():
        raise DeployError(f"{path}: is not a regular file")
    if not path.is_file():
        there = [other.name for other in path.parent.glob("*") if other.suffix in SUFFIXES]
        raise DeployError(f"there is no file {path}{suggest(path.name, there)}")
    return path
