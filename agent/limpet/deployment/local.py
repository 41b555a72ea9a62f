"""Assignments in one process: for `limpet check`, for `limpet infer` and for programs that embed a pipeline.

A daemon lets a process of its own read bundles. Here the caller reads them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from limpet.deployment.assignments import assignments
from limpet.deployment.desired import desired
from limpet.errors import DeployError
from limpet.models import store

if TYPE_CHECKING:
    from limpet.config import Config
    from limpet.contracts.assignment import Assignment, FoundModel


def look_up(config: Config) -> dict[str, list[FoundModel]]:
    """Return the files for each model that a configuration names."""
    models = [model for pipeline in config.pipelines.values() for model in pipeline.models]
    return {model: store.candidates(model, config.folders) for model in dict.fromkeys(models)}


def assignment_of(config: Config, name: str, level: int = 0) -> Assignment:
    """Return what the cell of one pipeline would run on a level of the governor.

    ``DeployError`` says why the pipeline has no model.
    """
    wanted = desired(config, look_up(config), level=level)
    for cell in assignments(wanted).values():
        if name in cell.pipelines:
            return cell
    raise DeployError(wanted.pipelines[name].problem)
