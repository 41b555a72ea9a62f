"""What the process of a shadow is to run, and what it leaves behind."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from limpet.contracts.delegate import CPU
from limpet.device import directories, state_files
from limpet.wire.fork_records import OpenShadow

if TYPE_CHECKING:
    from limpet.contracts.assignment import Assignment, Folders, ShadowAssignment
    from limpet.wire.records import ShadowFailed


def task_of(assignment: Assignment, name: str, shadow: ShadowAssignment) -> OpenShadow:
    """Return the task of a shadow: the pipeline as it is configured, with another model and on the CPU alone.

    The accelerator stays with the pipeline. The cell's name is one that no source can have, so what is unpacked
    for the shadow is in a separate folder.
    """
    pipeline = assignment.pipelines[name]
    options = msgspec.structs.replace(
        pipeline.options, delegates=[CPU.name], require=0.0, every=1, snapshots=None, keep=None
    )
    alone = msgspec.structs.replace(
        assignment,
        cell=_cell(name),
        pipelines={name: msgspec.structs.replace(pipeline, model=shadow.model, options=options)},
        models={name: (shadow.model.path,)},
        prove=(),
        shadows={},
    )
    return OpenShadow(alone, name)


def clean(folders: Folders, name: str) -> None:
    """Delete what was unpacked for the shadow of a pipeline."""
    clean_cell(folders, _cell(name))


def clean_cell(folders: Folders, cell: str) -> None:
    """Delete what was unpacked for a cell. A process that still has a file open keeps it."""
    for folder in (folders.state, folders.memory):
        if folder is not None:
            with suppress(OSError):
                state_files.remove(directories.models_cache(folder, cell))


def _cell(name: str) -> str:
    """Return a name of a cell that no source can have."""
    return f"{name}~shadow"


def failure(record: ShadowFailed) -> str:
    """Return in words that a shadow failed."""
    return (
        f"{record.shadow} {record.shadow_version} failed beside the model at work, which goes on: {record.reason}"
    )
