"""All problems of a configuration, and what it would run. Each pipeline runs once, in a child process."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from msgspec import structs

from limpet.accelerators.inventory import missing
from limpet.contracts.delegate import CPU
from limpet.delivery import reporters
from limpet.deployment.assignments import sources_alone
from limpet.deployment.local import first_that_works, look_up
from limpet.device import directories
from limpet.device.machine import Machine
from limpet.errors import ConfigError, LimpetError, ModelError
from limpet.inference import needs, planning, trial
from limpet.models import bundle as bundles

if TYPE_CHECKING:
    from collections.abc import Iterator

    from limpet.config import Config
    from limpet.contracts.assignment import Assignment, FoundModel
    from limpet.contracts.data import SampleSpec
    from limpet.inference.plan import PipelinePlan

    Found = dict[str, list[FoundModel]]


def inspect(wanted: Config) -> tuple[list[str], list[str]]:
    """Return all problems of a well-formed configuration, and a line about each pipeline that is fine."""
    problems: list[str] = []
    lines: list[str] = []
    try:
        reporters.resolve(wanted)
    except ConfigError as error:
        problems += error.problems
    specs = _sources(wanted, problems)
    with _aside(wanted) as aside:
        found = look_up(aside)
        for name, pipeline in wanted.pipelines.items():
            if pipeline.source not in specs:
                problems += planning.problems_of_options(sources_alone(wanted, ()), name, pipeline.options)
                continue
            for level in range(len(pipeline.ladder) + 1):
                try:
                    lines += _rung(aside, found, name, level, specs[pipeline.source])
                except ConfigError as error:
                    problems += error.problems
                except LimpetError as error:
                    where = f"pipelines.{name}"
                    named = str(error).startswith(f"{where}.")
                    rung = f".ladder[{level - 1}]" if level else ""
                    problems.append(str(error) if named else f"{where}{rung}: {error}")
    return problems, lines


def _sources(wanted: Config, problems: list[str]) -> dict[str, SampleSpec]:
    """Return what the samples of each source are, and add what is wrong with the others to ``problems``."""
    specs = {}
    for name in wanted.sources:
        try:
            alone = sources_alone(wanted, [name])
            needs.of_description(alone.folders, name, planning.source_plugin(alone, name))
            specs[name] = planning.plan_source(alone, name).spec
        except ConfigError as error:
            problems += error.problems
    return specs


def _rung(config: Config, found: Found, name: str, level: int, spec: SampleSpec) -> list[str]:
    """Return lines about a pipeline on one rung of its ladder. ``LimpetError`` says why it does not run.

    As the daemon does, this passes over versions that do not work, if there is a lower one that does.
    """
    made, one = first_that_works(config, name, lambda cell: _tried(cell, name, spec), found, level)
    warnings = [*made.warnings, *(f"passed over {why}" for why in one.passed_over)]
    line = _describe(made, config.pipelines[name].source, level)
    return [line, *(f"{name}: warning: {warning}" for warning in warnings)]


def _tried(assignment: Assignment, name: str, spec: SampleSpec) -> PipelinePlan:
    """Plan a pipeline, and run it once. ``LimpetError`` says why it would fail at its start."""
    try:
        made = planning.plan_pipeline(assignment, name, spec)
    except LimpetError as error:
        if refusal := _refusal(assignment, name):
            raise ModelError(f"{error}; {refusal}") from error
        raise
    lacking = _lacking(made)
    if CPU not in made.delegates and len(lacking) == len(made.delegates):
        raise ModelError(f"{'; '.join(lacking)}; with `require` the CPU does not stand in")
    if reason := trial.failure(assignment, made):
        raise ModelError(reason)
    return made


def _refusal(assignment: Assignment, name: str) -> str:
    """Return why the runtime does not load a pipeline's ``.tflite`` model; empty if it does."""
    pipeline = assignment.pipelines[name]
    cache = directories.models_cache(assignment.folders.state, assignment.cell)
    try:
        model = bundles.load(pipeline.model.path, cache).model
    except LimpetError:
        return ""  # the plan has said so
    if model.suffix != ".tflite" or pipeline.options.delegates != [CPU.name]:
        return ""
    try:
        trial.coverage(model)
    except ModelError as error:
        return str(error)
    return ""


def _lacking(made: PipelinePlan) -> list[str]:
    """Return a line for each accelerator that cannot be used here, with the reason."""
    reasons = {choice.name: missing(Machine(), choice)[0] for choice in made.accelerators}
    return [f"{name}: {reason}" for name, reason in reasons.items() if reason]


@contextmanager
def _aside(wanted: Config) -> Iterator[Config]:
    """Yield the configuration with a cache that is deleted afterwards, unless its state directory is this user's.

    What root unpacks there the service could not replace, and anybody else may not write there.
    """
    try:
        ours = wanted.device.state.stat().st_uid == os.geteuid()
    except OSError:
        ours = False
    if ours:
        yield wanted
        return
    with TemporaryDirectory(prefix="limpet-check-") as folder:
        device = structs.replace(wanted.device, state=Path(folder), models=wanted.models)
        yield structs.replace(wanted, device=device)


def _describe(made: PipelinePlan, source: str, level: int) -> str:
    manifest = made.bundle.manifest
    delegates = ", ".join(choice.name for choice in made.delegates)
    every = f", one window in {made.every}" if made.every > 1 else ""
    rung = f" (rung {level} of its ladder)" if level else ""
    notes = [f"state is {made.state}"] if made.state else []
    notes += _overlap(made)
    notes += [made.bundle.problem] if made.bundle.problem else []
    notes += [f"not here: {line}" for line in _lacking(made)]
    line = f"{made.name}: {source} -> {manifest.name} {manifest.version} on {delegates}{every}{rung}"
    return "; ".join([line, *notes])


def _overlap(made: PipelinePlan) -> list[str]:
    """Warn of windows that show the same samples several times to a model that remembers them."""
    size, hop = made.window.size, made.window.hop
    seconds, hop_seconds = made.window.seconds, made.window.hop_seconds
    overlaps = (size and hop and hop < size) or (seconds and hop_seconds and hop_seconds < seconds)
    if not (overlaps and made.state.lasting and made.state):
        return []
    return ["its windows overlap, so samples enter the state more than once"]
