"""Assignments in one process: for `limpet check`, for `limpet infer` and for programs that embed a pipeline.

A daemon lets a separate process read each model. Here the caller reads them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from msgspec.structs import replace

from limpet.contracts.assignment import FoundModel
from limpet.deployment.assignments import assignments
from limpet.deployment.candidates import candidates_of, has_others
from limpet.deployment.desired import Rollout, desired, on_rung
from limpet.deployment.survey import Survey
from limpet.errors import DeployError, LimpetError, ModelError, UnreadableError, UntrustedError
from limpet.models import bundle, store
from limpet.models.bundle import ANY, Terms
from limpet.trust.settings import trust_of
from limpet.untrusted import reading

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from pathlib import Path

    from limpet.config import Config
    from limpet.contracts.assignment import Assignment
    from limpet.deployment.desired import Desired, DesiredPipeline

T = TypeVar("T")


def examined(path: Path, terms: Terms = ANY) -> FoundModel:
    """Read a whole model file. What is wrong with it, or with its signature, becomes its ``problem``."""
    if not store.leads_to_model(path):
        problem = (
            f"{path}: is a link to a file that is no model: its name does not end in {' or '.join(store.SUFFIXES)}"
        )
        return FoundModel(path, "", 0, problem=problem)
    try:
        with reading(str(path)):
            found = bundle.examine(path, terms)
    except LimpetError as error:
        untrusted = error.sha256 if isinstance(error, UntrustedError) else ""
        return FoundModel(path, "", 0, problem=str(error), untrusted=untrusted)
    return FoundModel(
        path,
        found.name,
        found.version,
        found.sha256,
        runtime=found.runtime,
        decoder=found.decoder,
        signed_by=found.signed_by,
        in_date=found.in_date,
    )


def look_up(config: Config, failed: Collection[str] = frozenset()) -> dict[str, list[FoundModel]]:
    """Examine the files of each model that a configuration names. ``failed``: see ``Survey``."""
    survey, terms = Survey(candidates_of(config), failed), Terms(trust=trust_of(config))
    while due := survey.due():
        for path in due:
            survey.take(examined(path, replace(terms, key=survey.key(path))))
    return survey.found


def first_that_works(
    config: Config,
    name: str,
    attempt: Callable[[Assignment], T],
    found: Mapping[str, Sequence[FoundModel]] | None = None,
    level: int = 0,
) -> tuple[T, DesiredPipeline]:
    """Return what ``attempt`` makes of the assignment of a pipeline, and the pipeline that it is for.

    As in the daemon, a version in the store that does not work gives way to the highest one that does. If none
    does, the error of the last attempt is raised. ``found``: the models, if they were looked up before.
    """
    failed: dict[str, str] = {}
    found = look_up(config) if found is None else found
    while True:
        wanted = desired(config, found, rollout=Rollout(failed={name: failed}), level=level)
        one = wanted.pipelines[name]
        try:
            return attempt(cell_of(wanted, name)), one
        except (ModelError, DeployError, UnreadableError) as error:
            on_level = on_rung(config.pipelines[name], level)
            if one.model is None or one.model.sha256 in failed or not has_others(config, name, on_level):
                raise
            failed[one.model.sha256] = str(error)
            found = look_up(config, failed)


def assignment_of(config: Config, name: str) -> Assignment:
    """Return what the cell of one pipeline runs. ``DeployError`` says why the pipeline has no model."""
    return cell_of(desired(config, look_up(config)), name)


def cell_of(wanted: Desired, name: str) -> Assignment:
    """Return the assignment that a pipeline is in. ``DeployError`` says why it has no model."""
    for cell in assignments(wanted).values():
        if name in cell.pipelines:
            return cell
    raise DeployError(wanted.pipelines[name].problem)
