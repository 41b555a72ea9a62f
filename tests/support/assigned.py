"""Assignments for tests, made as the supervisor makes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from limpet.config import Config, Device, PipelineConfig, build
from limpet.contracts.assignment import SourceTable
from limpet.deployment.assignments import assignments
from limpet.deployment.desired import desired
from limpet.deployment.local import assignment_of
from limpet.models import store

if TYPE_CHECKING:
    from pathlib import Path

    from limpet.contracts.assignment import Assignment, DelegateTable


def single(
    folder: Path, wanted: PipelineConfig, name: str = "p", delegates: dict[str, DelegateTable] | None = None
) -> Assignment:
    """Return what the cell of one pipeline runs, the state beside its model."""
    sources = {wanted.source: SourceTable("replay", {})}
    device = Device(id="d", state=folder / "state")
    return assignment_of(Config(folder, device, sources, {name: wanted}, {}, delegates or {}), name)


def cells(tables: dict[str, Any], folder: Path) -> dict[str, Assignment]:
    """Return the assignments of a configuration whose models need not be there."""
    config = build(tables, folder)
    models = [model for pipeline in config.pipelines.values() for model in pipeline.models]
    found = {
        model: [msgspec.structs.replace(one, problem="") for one in store.candidates(model, config.folders)]
        for model in models
    }
    return assignments(desired(config, found))
