"""What the process of a shadow is to run. Decides, without I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from limpet.contracts.delegate import CPU
from limpet.wire.fork_records import OpenShadow

if TYPE_CHECKING:
    from limpet.contracts.assignment import Assignment, ShadowAssignment
    from limpet.wire.records import ShadowFailed


def task_of(assignment: Assignment, name: str, shadow: ShadowAssignment) -> OpenShadow:
    """Return the task of a shadow: the pipeline as it is configured, with another model and on the CPU alone.

    The accelerator stays with the pipeline. The cell's name is one that no source can have, so what is unpacked
    for the shadow is in a separate folder.
    """
    pipeline = assignment.pipelines[name]
    options = msgspec.structs.replace(pipeline.options, delegates=[CPU.name], require=0.0, every=1, snapshots=None)
    alone = msgspec.structs.replace(
        assignment,
        cell=f"{name}~shadow",
        pipelines={name: msgspec.structs.replace(pipeline, model=shadow.model, options=options)},
        models={name: (shadow.model.path,)},
        prove=(),
        shadows={},
    )
    return OpenShadow(alone, name)


def failure(record: ShadowFailed) -> str:
    """Return in words that a shadow failed."""
    return (
        f"{record.shadow} {record.shadow_version} failed beside the model at work, which goes on: {record.reason}"
    )
