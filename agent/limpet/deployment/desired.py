"""What should run: a value, made of the configuration and of what is known of models. Decides, without I/O."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from limpet.contracts.adaptation import Correction
from limpet.contracts.assignment import (
    DelegateTable,
    Folders,
    ModelFile,
    PipelineAssignment,
    PipelineOptions,
    SourceTable,
)
from limpet.deployment.candidates import key
from limpet.wording import joined

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from limpet.config import Config, PipelineConfig
    from limpet.contracts.assignment import FoundModel


Correct: TypeAlias = Callable[[str, ModelFile], Correction | None]
"""Takes a pipeline and the model that it is to run. Returns how it is to run that."""


def as_is(_pipeline: str, _model: ModelFile) -> None:
    """Return that nothing is changed about a pipeline."""


class Rollout(msgspec.Struct, frozen=True):
    """What is known of each pipeline from this run of the daemon.

    ``running``: what it runs. It goes on with that if no model that it should run is intact.
    ``failed``: by SHA-256, why a model did not work on this device. It is skipped if there is another one.
    ``backups``: the pipelines that run their backup model. ``correct`` returns how a pipeline is to run a model,
    see ``limpet.learning.adaptations``.
    """

    running: dict[str, PipelineAssignment] = {}
    failed: dict[str, dict[str, str]] = {}
    backups: frozenset[str] = frozenset()
    correct: Correct = as_is


class DesiredPipeline(msgspec.Struct, frozen=True, kw_only=True):
    """A pipeline as it should run. ``sources`` and ``after`` are as in ``PipelineAssignment``.

    ``model`` is ``None`` if there is none to run. ``problem`` says why not, or why it is not what the
    configuration names. ``skipped``: why higher versions are not run, one sentence each. ``models`` are all
    files that it may run, also those of its ladder and its backup. ``prove``: whether lower versions could run if
    this one does not give its golden outputs. ``backed_up``, ``light`` and ``correction`` are as in
    ``PipelineAssignment``.
    """

    sources: tuple[str, ...]
    options: PipelineOptions
    model: ModelFile | None
    problem: str = ""
    skipped: tuple[str, ...] = ()
    models: tuple[Path, ...] = ()
    after: str = ""
    prove: bool = False
    backed_up: bool = False
    light: ModelFile | None = None
    correction: Correction | None = None


class Desired(msgspec.Struct, frozen=True):
    """All that should run on this device."""

    folders: Folders
    sources: dict[str, SourceTable]
    pipelines: dict[str, DesiredPipeline]
    delegates: dict[str, DelegateTable]


NOTHING_KNOWN = Rollout()


def desired(
    config: Config,
    found: Mapping[str, Sequence[FoundModel]],
    rollout: Rollout = NOTHING_KNOWN,
    level: int = 0,
) -> Desired:
    """Return what should run on a level of the governor.

    ``found`` has the files for each model, by its key, see ``limpet.deployment.candidates``.
    """
    pipelines = {}
    for name, wanted in config.pipelines.items():
        on_level = planned(wanted, level, backup=name in rollout.backups)
        one = _pipeline(name, on_level, found.get(key(config, name, on_level), ()), rollout)
        one = _with_light(one, found)
        pipelines[name] = msgspec.structs.replace(
            one,
            models=_files(one, wanted, found),
            backed_up=name not in rollout.backups and has_backup(wanted, found),
            correction=rollout.correct(name, one.model) if one.model is not None else None,
        )
    return Desired(config.folders, config.sources, pipelines, config.delegates)


def on_rung(pipeline: PipelineConfig, level: int) -> PipelineConfig:
    """Return a pipeline as it runs on a level. A ladder that is shorter than that is at its last rung.

    The cascade belongs to the main model: one that takes its place runs alone.
    """
    if not level or not pipeline.ladder:
        return pipeline
    rung = pipeline.ladder[min(level, len(pipeline.ladder)) - 1]
    return msgspec.structs.replace(
        pipeline,
        model=rung.model or pipeline.model,
        cascade=None if rung.model else pipeline.cascade,
        delegates=rung.delegates or pipeline.delegates,
        every=rung.every or pipeline.every,
    )


def planned(pipeline: PipelineConfig, level: int, *, backup: bool) -> PipelineConfig:
    """Return a pipeline as it runs on a level. A backup model takes the place of the main one and of a rung's."""
    on_level = on_rung(pipeline, level)
    if not backup or pipeline.backup is None:
        return on_level
    return msgspec.structs.replace(on_level, model=pipeline.backup.model, cascade=None)


def has_backup(pipeline: PipelineConfig, found: Mapping[str, Sequence[FoundModel]]) -> bool:
    """Whether a pipeline has a backup model that is intact."""
    return pipeline.backup is not None and choose(found.get(pipeline.backup.model, ()), {}) is not None


def deepest(config: Config) -> int:
    """Return how many rungs the longest ladder has."""
    return max((len(pipeline.ladder) for pipeline in config.pipelines.values()), default=0)


def _pipeline(
    name: str,
    wanted: PipelineConfig,
    candidates: Sequence[FoundModel],
    rollout: Rollout,
) -> DesiredPipeline:
    failed = rollout.failed.get(name, {})
    sources = (wanted.source,)
    before = rollout.running.get(name)
    untrusted = {one.untrusted for one in candidates}
    goes_on = before is not None and before.sources == sources and before.model.sha256 not in untrusted
    if (choice := choose(candidates, failed)) and not (goes_on and choice.sha256 in failed):
        skipped = tuple(_why_not(one, failed) for one in candidates[: candidates.index(choice)])
        return DesiredPipeline(
            sources=sources,
            options=wanted.options,
            model=choice.file,
            skipped=skipped,
            prove=choice.lower,
        )
    problem = joined([_why_not(one, failed) for one in candidates]) or f"there is no model {wanted.model!r}"
    if before is not None and goes_on:
        return DesiredPipeline(sources=sources, options=before.options, model=before.model, problem=problem)
    return DesiredPipeline(sources=sources, options=wanted.options, model=None, problem=problem)


def _with_light(one: DesiredPipeline, found: Mapping[str, Sequence[FoundModel]]) -> DesiredPipeline:
    """Return a pipeline with the light model of its cascade. If that is not intact, the pipeline runs without."""
    if one.options.cascade is None or one.model is None:
        return one
    candidates = found.get(one.options.cascade.model, ())
    choice = choose(candidates, {})
    if choice is not None:
        return msgspec.structs.replace(one, light=choice.file)
    why = joined([each.problem for each in candidates]) or f"there is no model {one.options.cascade.model!r}"
    return msgspec.structs.replace(one, skipped=(*one.skipped, f"the light model of the cascade: {why}"))


def _files(
    one: DesiredPipeline, wanted: PipelineConfig, found: Mapping[str, Sequence[FoundModel]]
) -> tuple[Path, ...]:
    """Return the file that a pipeline runs, and those of its ladder and its backup."""
    rungs = [choice.path for model in wanted.models if (choice := choose(found.get(model, ()), {}))]
    own = [one.model.path] if one.model else []
    return tuple(dict.fromkeys([*own, *rungs]))


def choose(candidates: Sequence[FoundModel], failed: Mapping[str, str]) -> FoundModel | None:
    """Return the first one that is intact, ``None`` if none is. One that has failed is the last resort."""
    sound = [one for one in candidates if not one.problem]
    return next((one for one in sound if one.sha256 not in failed), next(iter(sound), None))


def _why_not(one: FoundModel, failed: Mapping[str, str]) -> str:
    return one.problem or f"{one.path.name}: {failed.get(one.sha256, 'it was not tried')}"
