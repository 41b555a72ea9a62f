"""Bundles that come in packages, such as ``limpet[starter]``: ready-made models for those who have none.

A package registers its module under the entry point group ``limpet.bundles``. The bundles are the files
``NAME-VERSION.limpet`` in the module's folder. The module itself is never imported.
"""

from __future__ import annotations

import importlib.util
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import msgspec

from limpet.errors import LimpetError
from limpet.models import bundle

if TYPE_CHECKING:
    from limpet.models.manifest import Manifest

Takes: TypeAlias = Literal["picture", "sound", "samples"]

GROUP = "limpet.bundles"
INSTALL = "pip install 'limpet[starter]'"
_PICTURE_TRANSFORMS = frozenset({"resize", "letterbox", "crop", "colour"})
_SOUND = 8000
"""Samples a second from which samples are taken for sound."""


class Starter(msgspec.Struct, frozen=True):
    """A bundle of an installed package. ``input``: what it takes, in words. ``bytes``: its size."""

    name: str
    version: int
    task: str
    input: str
    bytes: int
    licence: str
    description: str
    path: Path


def found() -> list[Starter]:
    """Return the bundles of all installed packages, by name. Files that are no bundles are left out."""
    starters = []
    for path in sorted(path for folder in _folders() for path in folder.glob("*.limpet")):
        try:
            starters.append(_starter(path))
        except LimpetError:  # `pip check` is for damaged packages.
            continue
    return sorted(starters, key=lambda one: (one.name, one.version))


def _folders() -> list[Path]:
    folders: set[Path] = set()
    for entry in metadata.entry_points(group=GROUP):
        spec = importlib.util.find_spec(entry.module.partition(".")[0])
        folders.update(Path(place) for place in ((spec and spec.submodule_search_locations) or ()))
    return sorted(folders)


def _starter(path: Path) -> Starter:
    manifest = bundle.manifest_of(path)
    return Starter(
        manifest.name,
        manifest.version,
        manifest.task or str(manifest.decoder.get("kind", "")),
        _input(manifest),
        path.stat().st_size,
        manifest.licence,
        manifest.description,
        path,
    )


def takes(manifest: Manifest) -> Takes:
    """Return what a model takes: a picture, sound or samples of a sensor."""
    shape = manifest.inputs[0].shape if manifest.inputs else []
    if len(shape) == 4 and (
        shape[3] in {1, 3} or any(one["kind"] in _PICTURE_TRANSFORMS for one in manifest.transforms)
    ):
        return "picture"
    return "sound" if manifest.rate and manifest.rate >= _SOUND else "samples"


def _input(manifest: Manifest) -> str:
    """Say what a model takes, and how much of it."""
    kind = takes(manifest)
    if kind == "picture":
        shape = manifest.inputs[0].shape
        return f"picture, {shape[2]} x {shape[1]}"
    if kind == "sound" and manifest.rate:
        return f"sound, {manifest.rate / 1000:g} kHz"
    return ", ".join(manifest.inputs[0].channels) if manifest.inputs else ""
