"""Who runs what: one assignment for each cell, the sources and pipelines that share a worker.

Decides, without I/O.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from limpet.contracts.assignment import Assignment, PipelineAssignment

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from limpet.config import Config, PipelineConfig
    from limpet.contracts.assignment import PipelineOptions, ShadowAssignment
    from limpet.deployment.desired import Desired, DesiredPipeline
    from limpet.tables import ApiTable


def assignments(desired: Desired) -> dict[str, Assignment]:
    """Return an assignment for each cell, by its name.

    Sources that one pipeline joins are one cell, and so is a pipeline with the one that it follows. A source that
    no pipeline uses has no cell, and a pipeline without a model has no place in one.
    """
    fed = {name: sources for name in runnable(desired) if (sources := fed_by(desired, name))}
    cells: dict[str, Assignment] = {}
    for sources in connected(fed.values()):
        pipelines = {
            name: _assigned(name, desired.pipelines[name])
            for name, feeding in fed.items()
            if not sources.isdisjoint(feeding)
        }
        tables = {name: desired.sources[name] for name in sorted(sources)}
        models = {name: desired.pipelines[name].models for name in pipelines}
        prove = tuple(name for name in pipelines if desired.pipelines[name].prove)
        cell = min(sources)
        cells[cell] = Assignment(cell, desired.folders, tables, pipelines, desired.delegates, models, prove)
    return dict(sorted(cells.items()))


def with_shadows(cell: Assignment, shadows: Mapping[str, ShadowAssignment]) -> Assignment:
    """Return an assignment with the models that run beside those of its pipelines."""
    own = {name: shadow for name, shadow in shadows.items() if name in cell.pipelines}
    return msgspec.structs.replace(cell, shadows=own) if own else cell


def with_traces(cell: Assignment, api: ApiTable | None) -> Assignment:
    """Return an assignment of whose windows a share is traced, if the gateway exports traces."""
    share = api.otlp.traces if api is not None and api.otlp is not None else 0.0
    return msgspec.structs.replace(cell, traces=share) if share else cell


def to_check(config: Config, wrong: Mapping[str, PipelineConfig]) -> tuple[Assignment, dict[str, PipelineOptions]]:
    """Return the sources that are in use, as an assignment without a pipeline, and the options of all pipelines.

    That is what can be checked before models are looked for. ``wrong`` are pipelines that the configuration cannot
    have, as their tables are not right.
    """
    pipelines = {**config.pipelines, **wrong}
    used = {pipeline.source for pipeline in pipelines.values()}
    options = {name: pipeline.options for name, pipeline in pipelines.items()}
    return sources_alone(config, used), options


def sources_alone(config: Config, names: Collection[str]) -> Assignment:
    """Return these sources as an assignment without a pipeline: what is needed to find out what they give."""
    sources = {name: table for name, table in config.sources.items() if name in names}
    return Assignment("", config.folders, sources, {}, config.delegates)


def runnable(desired: Desired) -> list[str]:
    """Return the pipelines that have a model, as do all that they follow."""
    return [name for name in desired.pipelines if all(one.model for one in _line(desired, name))]


def fed_by(desired: Desired, name: str) -> frozenset[str]:
    """Return the sources that feed a pipeline, also those of the pipelines that it follows."""
    return frozenset(source for one in _line(desired, name) for source in one.sources)


def connected(groups: Iterable[frozenset[str]]) -> list[frozenset[str]]:
    """Merge groups that have a member in common."""
    merged: list[frozenset[str]] = []
    for group in groups:
        touching = [other for other in merged if not other.isdisjoint(group)]
        merged = [other for other in merged if other.isdisjoint(group)]
        merged.append(group.union(*touching))
    return merged


def _line(desired: Desired, name: str) -> Iterable[DesiredPipeline]:
    """Return a pipeline and all that it follows. In a circle, which has no first one, each comes once."""
    seen: dict[str, DesiredPipeline] = {}
    while name and name not in seen:
        seen[name] = desired.pipelines[name]
        name = seen[name].after
    return seen.values()


def _assigned(name: str, one: DesiredPipeline) -> PipelineAssignment:
    assert one.model is not None
    how = one.after, one.backed_up, one.light, one.correction
    return PipelineAssignment(name, one.sources, one.model, one.options, *how)
