"""Where the models of a cell are unpacked: on the disk, or in memory if their bundles are encrypted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from limpet.device import directories
from limpet.errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path

    from limpet.contracts.assignment import Assignment


def folder(assignment: Assignment, pipeline: str) -> Path:
    """Return where the model of a pipeline is unpacked. ``ModelError`` if there is no place for it."""
    model, folders = assignment.pipelines[pipeline].model, assignment.folders
    if not model.key:
        return directories.models_cache(folders.state, assignment.cell)
    if folders.memory is None:
        raise ModelError(f"{model.path}: is encrypted, and there is no folder in memory to unpack it into")
    return directories.models_cache(folders.memory, assignment.cell)


def all_folders(assignment: Assignment) -> frozenset[Path]:
    """Return the folders in which the cell may unpack models, without links."""
    folders = assignment.folders
    places = [folders.state, *([folders.memory] if folders.memory else [])]
    return frozenset(directories.models_cache(place.resolve(), assignment.cell) for place in places)
