"""Where models are: a path, or a name that is looked up in the store. Folders are listed here, files not read."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from limpet.contracts.assignment import FoundModel
from limpet.errors import DeployError
from limpet.wording import listed, suggest

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from limpet.contracts.assignment import Folders

SUFFIXES = (".limpet", ".tflite")
_FILE = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]{0,63})-(?P<version>[0-9]+)\.limpet")
"""Other names are no bundle's. Anyone who can write into the store chooses them, so no message has them."""


def is_path(model: str) -> bool:
    """Whether a model is named by its path, and not by its name in the store."""
    return "/" in model or model.endswith(SUFFIXES)


def has_versions(model: str) -> bool:
    """Whether a model is a name in the store of which the highest version runs."""
    return not is_path(model) and "@" not in model


def name_of(model: str) -> str:
    """Return the name of the model that a configuration means, as far as it says that."""
    if not is_path(model):
        return model.partition("@")[0]
    file = model.rpartition("/")[2]
    match = _FILE.fullmatch(file)
    return match["name"] if match else file.removesuffix(".limpet").removesuffix(".tflite")


def leads_to_model(path: Path) -> bool:
    """Whether a model's path is that of a model also after symbolic links are followed.

    A person who may write where models are could put a link there that leads to a secret, for a worker to read.
    """
    try:
        return path.resolve().suffix in SUFFIXES
    except (OSError, RuntimeError):  # its links lead round in a circle
        return False


def candidates_of(models: Iterable[str], folders: Folders) -> dict[str, list[FoundModel]]:
    """Return the candidates of several models."""
    return {model: candidates(model, folders) for model in models}


def candidates(model: str, folders: Folders) -> list[FoundModel]:
    """Return the files that a configuration may mean by a model, the highest version first.

    A text with a separator or the suffix of a model file is a path that starts at ``folders.base``. Any other is
    the name of a bundle in the store: all its versions, or that one of ``NAME@VERSION``. If there is no such file,
    the only candidate says so in its ``problem``.
    """
    try:
        return _candidates(model, folders)
    except DeployError as error:
        return [FoundModel(folders.store, model, 0, problem=str(error))]


def find(model: str, folders: Folders) -> Path:
    """Return the file of the highest version. ``DeployError`` says what there is instead."""
    return _candidates(model, folders)[0].path


def _candidates(model: str, folders: Folders) -> list[FoundModel]:
    if is_path(model):
        path = _existing(folders.base, model)
        return [FoundModel(path, *_parts(path), any_name=True)]
    name, _, wanted = model.partition("@")
    versions = stored(folders.store)
    if name not in versions:
        hint = suggest(name, versions) or f" (no file there is named {name}-VERSION.limpet)"
        raise DeployError(f"there is no model {name!r} in {folders.store}{hint}")
    lowest = min(versions[name])
    found = [
        FoundModel(path, name, number, lower=not wanted and number > lowest)
        for number, path in sorted(versions[name].items(), reverse=True)
    ]
    chosen = [one for one in found if not wanted or str(one.version) == wanted]
    if not chosen:
        there = listed([str(one.version) for one in found])
        unpin = f"If it is pinned, run: limpet model use {name}@newest"
        raise DeployError(
            f"there is no version {wanted} of {name!r} in {folders.store}; there are: {there}. {unpin}"
        )
    return chosen


def _parts(path: Path) -> tuple[str, int]:
    """Return name and version as a file name says them; version 0 if it says none."""
    match = _FILE.fullmatch(path.name)
    return (match["name"], int(match["version"])) if match else (path.stem, 0)


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
